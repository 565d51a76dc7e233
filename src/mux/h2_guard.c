/* h2_guard.c: budgets against floods (THREATS.md rows 1, 2, 3 and 5). Two of them, for all kinds:
 * streams that end early, and frames that bring nothing on. Both come back in SPAN_MS. What brings
 * something on pays for some of the latter: a peer that opens windows for what it reads is never
 * near the limit. And what is left of a peer's budget for resets of ours, as far as we know it. */
#include "mux/h2_priv.h"

#define SPAN_MS 10000u

/* ---- frames that bring nothing on ---- */

#define CREDIT_MAX (1000u * (uint64_t)H2_GLITCH_PRICE)

bool h2_glitch(struct h2 *h) {
  struct h2_budget *b = &h->budget;
  if (b->credit > CREDIT_MAX) b->credit = CREDIT_MAX;
  if (b->credit < H2_GLITCH_PRICE) return h2_glitch_unpaid(h);
  b->credit -= H2_GLITCH_PRICE;
  return true;
}

bool h2_glitch_unpaid(struct h2 *h) {
  struct h2_budget *b = &h->budget;
  uint64_t now_ms = h->pool->loop->now_ms;
  if (now_ms - b->glitch_ms >= SPAN_MS) {
    b->glitch_ms = now_ms;
    b->glitches = 0;
  }
  return ++b->glitches <= h->limits.glitches;
}

/* A reader opens windows for what it took, in pieces as large as its reads, which OPENED_LEAST is
 * below; smaller ones are for smaller frames, each of which has paid for two (h2_went). What was
 * sent and never opened for does not pile up beyond UNOPENED_MAX. */
#define OPENED_LEAST 1024u
#define UNOPENED_MAX (64u << 20)

bool h2_opened(struct h2 *h, uint32_t bytes) {
  struct h2_budget *b = &h->budget;
  if (b->unopened > UNOPENED_MAX) b->unopened = UNOPENED_MAX;
  if (bytes < OPENED_LEAST || bytes > b->unopened) return h2_glitch(h);
  b->unopened -= bytes;
  return true;
}

/* ---- streams that end early ---- */

/* resets_free come with use: for two streams one may end early. */
static uint32_t resets_free(const struct h2 *h) {
  return (h->server ? h->opened : h->next_id / 2) / 2;
}

/* used is what is used up of the budget, back what of that has come back since. */
static uint32_t used(const struct h2 *h) {
  uint32_t free = resets_free(h);
  return h->budget.resets > free ? h->budget.resets - free : 0;
}

static uint32_t back(const struct h2 *h) {
  uint64_t ms = h->pool->loop->now_ms - h->budget.reset_ms, most = used(h);
  uint64_t n = ms < SPAN_MS ? ms * h->limits.resets / SPAN_MS : most;
  return (uint32_t)(n < most ? n : most);
}

/* recover: a part of a reset goes on coming back, but for a budget that is whole. */
static void recover(struct h2 *h) {
  struct h2_budget *b = &h->budget;
  uint64_t n = back(h), limit = h->limits.resets;
  if (n == used(h)) b->reset_ms = h->pool->loop->now_ms;
  else if (n) b->reset_ms += (n * SPAN_MS + limit - 1) / limit;
  b->resets -= (uint32_t)n;
}

bool h2_count_reset(struct h2 *h) {
  recover(h);
  h->budget.resets++;
  return used(h) <= h->limits.resets;
}

bool h2_is_early(const struct h2_stream *st) {
  if (stream_any(st, H2_LOCAL_END)) return false; /* nothing was left to do of it */
  uint64_t age_ms = st->h2->pool->loop->now_ms - st->begun_ms;
  return age_ms < st->long_ms;
}

/* NEARLY of a time is when it is taken for passed: the client's clock began before ours, and what
 * it sends comes now sooner, now later. LEAST_MS: earlier than that is early, whatever a client
 * says that it waits. A stream stands for one of limits.streams until its work upstream is gone,
 * so of streams that are not early a client can burn no more in a second than limits.streams a
 * LONG_MS, or for all that it may say of deadlines a LEAST_MS: 128 a second, or 2560. What weir
 * itself ends at such a deadline, with an answer, is not early at all. */
#define NEARLY(ms) ((ms) - (ms) / 4)
#define LEAST_MS 50u

void h2_stream_waits(struct h2_stream *st, uint64_t ms) {
  uint64_t near_ms = NEARLY(ms) > LEAST_MS ? NEARLY(ms) : LEAST_MS;
  if (near_ms < st->long_ms) st->long_ms = (uint16_t)near_ms;
}

bool h2_reset_behind(struct h2 *h) {
  if (!h->budget.finished) return h2_glitch(h);
  h->budget.finished--;
  return true;
}

/* ---- streams that we end early ---- */

/* Servers end a connection that brings too many RST_STREAMs, and all of its streams with it. Their
 * defaults: nghttp2 (Node, Apache httpd) 1000 and 33 more with each second; Netty 200 in 30 s;
 * Varnish 100 in 60 s, of streams below a second; Cowboy, Bandit 500 in 10 s; Jetty 128 a second
 * (50 once), with other frames; Envoy half of 500 or more streams, of those below a second; Go and
 * Rust's h2 count what they still work on. So CANCELS_MOST at once, and one more with each
 * CANCEL_MS, are 80 in 60 s; but for CANCELS_FREE no more than CANCELS_PART of those that went
 * well. Tomcat's is below that: a fresh connection bears one or two, and two more for each five
 * that go well. */
#define CANCELS_MOST 50u
#define CANCEL_MS 2000u
#define CANCELS_FREE 100u
#define CANCELS_PART 2u

void h2_cancelled(struct h2 *h) {
  struct h2_budget *b = &h->budget;
  uint64_t now_ms = h->pool->loop->now_ms;
  b->cancels++;
  b->cancels_ms = (b->cancels_ms > now_ms ? b->cancels_ms : now_ms) + CANCEL_MS;
}

bool h2_wearies(const struct h2 *h) {
  const struct h2_budget *b = &h->budget;
  uint32_t all = h->next_id / 2, well = all > b->cancels ? all - b->cancels : 0;
  if (b->cancels > CANCELS_FREE + well / CANCELS_PART) return true;
  return b->cancels_ms > h->pool->loop->now_ms + (CANCELS_MOST - 1) * CANCEL_MS;
}

/* ---- who comes last ---- */

/* UNRULY_PART of a budget is more than what happens to ordinary clients. */
#define UNRULY_PART 4u

bool h2_unruly(const struct h2 *h) {
  bool lately = h->pool->loop->now_ms - h->budget.glitch_ms < SPAN_MS;
  if (lately && h->budget.glitches > h->limits.glitches / UNRULY_PART) return true;
  return used(h) - back(h) > h->limits.resets / UNRULY_PART;
}
