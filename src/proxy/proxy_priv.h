/* proxy_priv.h: what the files of proxy/ share. The objects stand in the four headers below; here
 * is what the steps of a stream (steps.def) call of each other. */
#ifndef WEIR_PROXY_PRIV_H
#define WEIR_PROXY_PRIV_H

#include "proxy/down_priv.h"
#include "proxy/pump_priv.h"
#include "proxy/stream_priv.h"
#include "proxy/worker_priv.h"
#include "weir/filter/filter.h"
#include "weir/http/h1.h"
#include "weir/io/relay.h"
#include "weir/io/tls.h"
#include "weir/proxy/record.h"
#include "weir/proxy/worker.h"
#include "weir/upstream/upstream.h"

/* ---- request.c ---- */
size_t request_data(struct stream *s, struct span bytes);
void request_write_head(struct stream *s, const struct endpoint *e, struct buf *b);
/* request_write_copy writes the head for a mirror at e, which gets the body by its length. */
void request_write_copy(struct stream *s, const struct endpoint *e, uint64_t body_len,
                        struct buf *b);
/* head_append copies head bytes into the arena, at most limit + 1 in all; bytes taken, 0: no room.
 */
size_t head_append(struct arena *arena, struct buf *in, struct span bytes, uint32_t limit);
/* ---- route.c ---- */
void enter_route(struct stream *s);
/* ---- attempt.c ---- */
void enter_pick(struct stream *s);
void enter_send(struct stream *s);
/* attempt_drop ends the current attempt: its connection is closed or, when clean, released. */
void attempt_drop(struct stream *s, bool clean);
/* attempt_failed: the attempt ended with a cause before a response; another one, or an answer. */
void attempt_failed(struct stream *s, enum end end);
void attempt_outcome(struct stream *s, const struct attempt *a, enum end end, uint16_t status);
/* attempt_take gets the permits of a request and a connection to e, whose events go to o. 0, or
 * -errno (-EAGAIN: no permit): then a is as it was. attempt_send sends the request's head; false:
 * no buffer is left. attempt_end is what attempt_drop does, for any attempt. */
struct attempt_owner {
  const struct conn_events *events;
  void *owner;
};
MUST_USE int attempt_take(struct stream *s, struct attempt *a, struct endpoint *e,
                          const struct attempt_owner *o);
MUST_USE bool attempt_send(struct stream *s, struct attempt *a);
void attempt_end(struct stream *s, struct attempt *a, bool clean);
/* attempt_serve gives a queued stream what it waits for; false: there is none. */
bool attempt_serve(struct stream *s);
/* connect_end is the cause of a connect's -errno. */
enum end connect_end(int err);
/* ---- retry.c ---- */
/* retry_after_failure: the attempt failed with end; true: another one goes on (s may be gone). */
bool retry_after_failure(struct stream *s, enum end end);
/* retry_wanted: the response that came, of which nothing was given on, is worth another attempt,
 * and that may be made: retry_after_status makes it; more is how much came behind its head. */
bool retry_wanted(struct stream *s);
void retry_after_status(struct stream *s, size_t more);
/* retry_left: the pool allows another attempt; retry_budget takes it from the budget. */
bool retry_left(const struct stream *s);
MUST_USE bool retry_budget(struct stream *s);
/* retry_remember keeps the next attempt away from e. retry_note writes down, for the log, where an
 * attempt went and how it ended: by a status, a cause, or (END_OK, 0) cancelled. */
void retry_remember(struct stream *s, const struct endpoint *e);
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
/* permit_freed is upstream's hook. */
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
/* ---- answer.c ---- */
void answer_end(struct stream *s);  /* the response of END rows */
void answer_route(struct stream *s); /* redirect, respond */
void answer_https(struct stream *s); /* redirect_https */
/* ---- response.c ---- */
size_t response_data(struct stream *s, struct span bytes);
void response_eof(struct stream *s, int err);
/* response_adopted goes on with a final head that hedge.c read; rest came behind it. How much of
 * that was used. */
size_t response_adopted(struct stream *s, struct span rest);
extern const struct conn_events up_events;
/* ---- tunnel.c ---- */
void tunnel_ended(struct stream *s, struct pump *p, enum relay_end why, int err);
void tunnel_start(struct stream *s);
void tunnel_check_routes(struct worker *w);
void tunnel_drain_all(struct worker *w, uint64_t deadline_ms);
/* ---- access.c ---- */
void access_write(struct stream *s);
/* access_keep moves what the log will say out of the messages of s and gives them back. */
void access_keep(struct stream *s);
/* access_connection logs a connection that had no request: a failed handshake, silence. */
void access_connection(struct down *d, enum end end, uint16_t status);

#endif
