/* h2_guard.c: budgets against floods (THREATS.md rows 1, 2, 3 and 5). Two of them, for all kinds:
 * streams that end early, and frames that bring nothing on. What brings something on pays for two
 * of the latter: a peer that opens windows for what it reads is never near the limit. */
#include "mux/h2_priv.h"

#define GLITCH_SPAN_MS 10000u
#define CREDIT_MAX 1000u

void h2_progress(struct h2 *h) {
  if (h->credit < CREDIT_MAX) h->credit += 2;
}

bool h2_glitch(struct h2 *h) {
  if (!h->credit) return h2_glitch_unpaid(h);
  h->credit--;
  return true;
}

bool h2_glitch_unpaid(struct h2 *h) {
  uint64_t now_ms = h->pool->loop->now_ms;
  if (now_ms - h->glitch_ms >= GLITCH_SPAN_MS) {
    h->glitch_ms = now_ms;
    h->glitches = 0;
  }
  return ++h->glitches <= h->limits.glitches;
}

/* resets_free come with use: for two streams one may end early. */
static uint32_t resets_free(const struct h2 *h) {
  return (h->server ? h->opened : h->next_id / 2) / 2;
}

bool h2_count_reset(struct h2 *h) {
  return ++h->resets <= h->limits.resets + resets_free(h);
}

/* UNRULY_PART of a budget is more than what happens to ordinary clients. */
#define UNRULY_PART 4u

bool h2_unruly(const struct h2 *h) {
  bool lately = h->pool->loop->now_ms - h->glitch_ms < GLITCH_SPAN_MS;
  if (lately && h->glitches > h->limits.glitches / UNRULY_PART) return true;
  return h->resets > h->limits.resets / UNRULY_PART + resets_free(h);
}
