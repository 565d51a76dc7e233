/* resilience_priv.h: what the steps of a stream call when an endpoint is busy, slow or failing:
 * retries, hedges, queues and the other workers; and mirrors. */
#ifndef WEIR_PROXY_RESILIENCE_PRIV_H
#define WEIR_PROXY_RESILIENCE_PRIV_H

#include "proxy/attempt_priv.h"
#include "weir/base/end.h"

struct worker;

/* ---- retry.c ---- */
/* retry_after_failure: the attempt failed with end; true: another one goes on (s may be gone). */
bool retry_after_failure(struct stream *s, enum end end);
/* retry_could_follow: but for the budget, another attempt may be made if this one takes too long.
 * retry_overdue makes it (s may be gone); false: the budget is spent, this one goes on. */
bool retry_could_follow(const struct stream *s);
bool retry_overdue(struct stream *s);
/* retry_wanted: the response that came, of which nothing was given on, is worth another attempt,
 * and that may be made: retry_after_status makes it; rest is what came behind its head. */
bool retry_wanted(struct stream *s);
void retry_after_status(struct stream *s, struct span rest);
/* retry_left: the pool allows another attempt; retry_budget takes it from the budget; then it is
 * made, which retry_count counts, or retry_unused gives it back at once. */
bool retry_left(const struct stream *s);
MUST_USE bool retry_budget(struct stream *s);
void retry_count(struct stream *s);
void retry_unused(struct stream *s);
/* retry_tried: the request was sent to that place of its pool; retry_refused: that took no
 * connection. retry_remember keeps the next attempt away from where a went, and all of them if
 * that, having failed by end (END_OK: it did not), took no connection. retry_note writes down,
 * for the log, where an attempt went and how it ended: by a status, a cause, or (END_OK, 0)
 * cancelled. */
bool retry_tried(const struct stream *s, uint32_t place);
bool retry_refused(const struct stream *s, uint32_t place);
void retry_remember(struct stream *s, const struct attempt *a, enum end end);
void retry_note(struct stream *s, const struct attempt *a, enum end end, uint32_t status);
/* ---- hedge.c ---- */
/* hedge_due is when a second attempt is to begin, or the one that runs is overdue. hedge_timer
 * does what is due then; false: nothing was. */
uint64_t hedge_due(const struct stream *s);
bool hedge_timer(struct stream *s, uint64_t now);
/* hedge_cancel ends a second attempt that is not wanted any more, if there is one. */
void hedge_cancel(struct stream *s);
/* hedge_takes_over: the stream's own attempt has ended; the second one is in its place now. */
void hedge_takes_over(struct stream *s);
/* ---- mirror.c ---- */
/* mirror_begin takes a copy of a request if its route wants one; mirror_body adds to it,
 * mirror_send sends it off, mirror_drop forgets it: the request ended before it was whole. */
void mirror_begin(struct stream *s);
void mirror_body(struct stream *s, struct span data);
void mirror_send(struct stream *s);
void mirror_drop(struct stream *s);
void mirror_init(struct worker *w);
void mirror_fini(struct worker *w);
void mirror_end_all(struct worker *w);
/* ---- queue.c ---- */
/* queue_enter waits for a permit, or ends the stream when the queue is full. */
void queue_enter(struct stream *s);
/* queue_any: it has waited long enough for an endpoint that it was not sent to yet. */
void queue_any(struct stream *s);
/* queue_leave takes a stream out of its pool's queue, if it is in it; queue_served one that got
 * what it waited for. */
void queue_leave(struct stream *s);
void queue_served(struct stream *s);
/* queue_stands: others wait, on any worker: who comes now waits behind them. */
bool queue_stands(const struct pool *pool);
/* queue_lacks: the next to be served is another worker's, and lacks a connection to e. */
bool queue_lacks(const struct worker *w, const struct pool *pool, const struct endpoint *e);
/* queue_freed: something was given back: who is next may try. */
void queue_freed(struct worker *w, struct pool_state *state);
/* queue_run serves streams that wait (once a turn, after something was freed). */
void queue_run(struct worker *w);
/* queue_yield closes idle connections whose permits other workers wait for. */
void queue_yield(struct worker *w);
/* ---- queue_watch.c ---- */
/* queue_pool is the newest of the stream's pool, if that is not what it has; else NULL. */
struct pool *queue_pool(const struct stream *s);
/* queue_news: endpoints of the pool (row: its own) came or went since the last call. */
bool queue_news(const struct worker *w, struct pool_row *row, const struct pool *pool);
/* queue_watch looks at endpoints from now on, for as long as streams wait. */
void queue_watch(struct worker *w);
void queue_watch_init(struct worker *w);
/* permit_freed is upstream's hook (queue.c). */
void permit_freed(struct upstream *u, struct pool_state *state);
/* ---- group.c: other workers ---- */
enum signal {
  SIGNAL_PERMIT = 1, /* a permit that your best stream waits for may be free */
  SIGNAL_YIELD = 2,  /* others wait for permits that your idle connections hold */
};
void group_join(struct worker *w);
void group_leave(struct worker *w);
void group_signal(struct worker *w, uint32_t to, uint32_t signal);
/* group_listen looks at this worker's own. */
void group_listen(struct worker *w);
#endif
