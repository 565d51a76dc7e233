/* admit.c: whether a pool takes a request now, by its circuit breaker and its concurrency limit,
 * and what both learn from how attempts end. A request asks once; each attempt needs a pass of the
 * breaker. Decides nothing itself: upstream/breaker.c and gradient.c do. Called by route.c,
 * attempt.c, attempt_outcome.c, retry.c, hedge.c and step.c. */
#include "proxy_priv.h"
#include "weir/upstream/breaker.h"
#include "weir/upstream/gradient.h"

static void refuse(struct stream *s, enum end end, uint32_t wait_ms) {
  s->x->retry_after_s = wait_ms / 1000 + (wait_ms % 1000 != 0);
  if (!s->x->retry_after_s) s->x->retry_after_s = 1;
  stream_fail(s, end);
}

static void refuse_open(struct stream *s) {
  refuse(s, END_BREAKER_OPEN, breaker_wait_ms(s->pool, now_ms(s->w)));
}

bool admit_early(struct stream *s) {
  if (!breaker_refuses(s->pool, now_ms(s->w))) return true;
  struct pool_row *row = &s->pool->state->rows[s->w->config.index];
  stat_add(&row->breaker.refused, 1);
  refuse_open(s);
  return false;
}

static bool has_pass(const struct stream *s) {
  uint8_t kind = s->try.pass.kind;
  return kind == BREAKER_PASS_PLAIN || kind == BREAKER_PASS_PROBE;
}

bool admit(struct stream *s) {
  const struct pool *pool = s->pool;
  struct upstream *u = &s->w->upstream;
  if (!has_pass(s) && !breaker_admit(u, pool, now_ms(s->w), &s->try.pass)) {
    refuse_open(s);
    return false;
  }
  if (pool->concurrency.mode == CONCURRENCY_OFF || s->flags & STREAM_HEAD_DUE) return true;
  if (!gradient_admit(u, pool, now_ms(s->w))) {
    refuse(s, END_CONCURRENCY, 0);
    return false;
  }
  s->flags |= STREAM_HEAD_DUE;
  return true;
}

bool admit_still(struct stream *s) {
  struct breaker_pass *pass = &s->try.pass;
  if (pass->kind != BREAKER_PASS_PLAIN || breaker_closed(s->pool)) return true;
  breaker_forget(s->pool->state, pass);
  return false;
}

bool admit_again(const struct stream *s) { return breaker_closed(s->pool); }

bool admit_hedge(struct stream *s, struct breaker_pass *pass) {
  return breaker_closed(s->pool) &&
         breaker_admit(&s->w->upstream, s->pool, now_ms(s->w), pass);
}

void admit_cancelled(struct stream *s, struct attempt *a) {
  breaker_forget(s->pool_state, &a->pass);
}

void admit_head(struct stream *s) {
  if (s->flags & STREAM_HEAD_DUE) gradient_leave(&s->w->upstream, s->pool_state);
  s->flags &= ~(uint32_t)STREAM_HEAD_DUE;
}

/* body_owed: the client has not sent all of the request: how long the head took is its doing. */
static bool body_owed(const struct stream *s) {
  return s->up_body.state == PUMP_READY || s->up_body.state == PUMP_RUN;
}

/* latency is from the end of the request (of a connect: from its begin) to the head or to now; 0:
 * it says nothing of the endpoint. */
static uint64_t latency(const struct stream *s, const struct attempt *a, enum end end) {
  uint64_t from = a->flags & ATTEMPT_SENT ? a->t_sent : a->t_connect;
  uint64_t to = end == END_OK ? a->t_first : now_ns(s->w);
  if (body_owed(s) || held_unsent(s)) return 0;
  return from && to > from ? to - from : 0;
}

/* tells_latency: a head came, or was waited for in vain. What fails at once says nothing of how
 * many requests an endpoint can take; nor does what the route's timeout cut off before it took as
 * long as they do anyway: it would pass for a quick one. */
static bool tells_latency(const struct pool *pool, enum end end, uint16_t status, uint64_t ns) {
  if (end == END_OK) return status < 500;
  if (end != END_ROUTE_TIMEOUT) return end == END_FIRST_BYTE_TIMEOUT || end == END_TRY_TIMEOUT;
  uint32_t us = atomic_load_explicit(&pool->state->gradient.base_us, memory_order_relaxed);
  return us && ns / 1000 > us;
}

void admit_outcome(struct stream *s, struct attempt *a, enum end end, uint16_t status) {
  const struct pool *pool = s->pool;
  struct upstream *u = &s->w->upstream;
  uint64_t ns = latency(s, a, end), slow_ns = (uint64_t)pool->breaker.slow_ms * 1000000u;
  struct breaker_result result = {.bad = end != END_OK || status >= 500, .slow = ns >= slow_ns};
  if (!ns) result.slow = false;
  breaker_outcome(u, pool, now_ms(s->w), &a->pass, &result);
  bool sent = a->flags & ATTEMPT_SENT && s->flags & STREAM_HEAD_DUE;
  if (sent && ns && tells_latency(pool, end, status, ns))
    gradient_sample(u, pool, now_ms(s->w), ns);
}

void admit_leave(struct stream *s) {
  if (!s->pool_state) return;
  breaker_forget(s->pool_state, &s->try.pass);
  admit_head(s);
}

void admit_turned(struct upstream *u, const struct pool *pool, const struct breaker_told *told) {
  struct worker *w = container_of(u, struct worker, upstream);
  char text[128], lasts[48] = "";
  struct buf why = buf_of(text, sizeof text), how_long = buf_of(lasts, sizeof lasts);
  breaker_write(told, &why);
  if (told->state == BREAKER_OPEN) buf_printf(&how_long, " for %u ms", told->lasts_ms);
  worker_event(w, told->state == BREAKER_OPEN ? END_LEVEL_WARN : END_LEVEL_INFO,
               "pool " SPAN_FMT ": breaker " SPAN_FMT SPAN_FMT ": " SPAN_FMT,
               SPAN_ARG(pool->obj.name), SPAN_ARG(breaker_word(told->state)),
               SPAN_ARG(buf_span(&how_long)), SPAN_ARG(buf_span(&why)));
}
