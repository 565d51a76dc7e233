/* gradient.h: a pool's adaptive concurrency: may one more request wait for a response head, and
 * what does the time that heads take say about how many may. Settings and state:
 * model/concurrency.h. Any worker's thread; time is an argument. */
#ifndef WEIR_UPSTREAM_GRADIENT_H
#define WEIR_UPSTREAM_GRADIENT_H

#include "weir/upstream/upstream.h"

/* gradient_admit counts a request that asks. True: it may go, and waits for its head until
 * gradient_leave. Only in mode enforce it is ever false. The workers do not ask each other: at
 * most one request of each is above the limit. */
MUST_USE bool gradient_admit(struct upstream *u, const struct pool *pool, uint64_t now_ms);
/* gradient_leave: the request that was admitted waits no more. */
void gradient_leave(struct upstream *u, struct pool_state *state);
/* gradient_sample tells how long a head took, from the end of the request to its first byte; or
 * how long one that never came was waited for. */
void gradient_sample(struct upstream *u, const struct pool *pool, uint64_t now_ms,
                     uint64_t latency_ns);

/* gradient_limit is the limit in force; 0: none yet. gradient_waiting how many wait now. */
uint32_t gradient_limit(const struct pool *pool);
uint32_t gradient_waiting(const struct pool_state *state);

/* ---- the controller by itself, for tests ---- */

/* gradient_window is what was seen since the last step. */
struct gradient_window {
  struct gradient_sums sums;
  uint64_t now_ms;
  uint32_t draw; /* random bits: times between measurements differ a little */
};
/* gradient_step takes a window in (of at least one sample in phase RUN); the limit that is in
 * force from now on. */
uint32_t gradient_step(struct gradient_model *m, const struct pool_concurrency *s,
                       const struct gradient_window *w);
/* gradient_log is log2 of us + 1 with 16 bits of fraction; gradient_us goes back. */
uint32_t gradient_log(uint64_t us);
uint32_t gradient_us(uint32_t log);

#endif
