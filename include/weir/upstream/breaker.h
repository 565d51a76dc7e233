/* breaker.h: a pool's circuit breaker at work: may a request go to the pool, what did the attempt
 * say, and what is to be told of the state. Settings and state: model/breaker.h. Retries are
 * proxy/'s. Any worker's thread; time is an argument. */
#ifndef WEIR_UPSTREAM_BREAKER_H
#define WEIR_UPSTREAM_BREAKER_H

#include "weir/base/buf.h"
#include "weir/upstream/upstream.h"

/* breaker_pass is what an attempt holds: PLAIN while closed, PROBE while half-open; USED when its
 * head was counted. */
enum breaker_pass_kind {
  BREAKER_PASS_NONE,
  BREAKER_PASS_PLAIN,
  BREAKER_PASS_PROBE,
  BREAKER_PASS_USED,
};
struct breaker_pass {
  uint8_t kind; /* enum breaker_pass_kind */
  uint16_t epoch;
};

/* breaker_result is how an attempt ended: failed (or 500 and above), and slow. */
struct breaker_result {
  bool bad, slow;
};

/* breaker_told is the state and what led to it: before, cause and count are of the last change. */
struct breaker_told {
  enum breaker_state state, before;
  enum breaker_cause cause;
  struct breaker_count count;
  uint32_t lasts_ms; /* open: for so long */
  uint64_t since_ms; /* CLOCK_MONOTONIC; 0: from the start */
  uint64_t opened[BREAKER_CAUSES];
};

/* breaker_admit gives *pass for one attempt; false: the breaker refuses it. What was admitted is
 * given back by breaker_outcome or breaker_forget. Calls u->breaker_turned on a change. */
MUST_USE bool breaker_admit(struct upstream *u, const struct pool *pool, uint64_t now_ms,
                            struct breaker_pass *pass);
/* breaker_outcome takes the result of an attempt. A second call for the same pass is of a response
 * that broke off: it makes one bad that was counted as good. */
void breaker_outcome(struct upstream *u, const struct pool *pool, uint64_t now_ms,
                     struct breaker_pass *pass, const struct breaker_result *result);
/* breaker_forget gives a pass back of which nothing was learned (the client left). */
void breaker_forget(struct pool_state *state, struct breaker_pass *pass);

/* breaker_refuses: would breaker_admit refuse now? Changes nothing. */
bool breaker_refuses(const struct pool *pool, uint64_t now_ms);
/* breaker_closed is false while open or half-open: no second attempt is made then. */
bool breaker_closed(const struct pool *pool);
/* breaker_wait_ms is when it is worth asking again: the rest of the time that it is open. */
uint32_t breaker_wait_ms(const struct pool *pool, uint64_t now_ms);

/* breaker_look reads the state for people. Any thread. */
struct breaker_told breaker_look(const struct pool_state *state);
/* breaker_word is "closed", "open", "half-open". */
struct span breaker_word(enum breaker_state state);
/* breaker_write appends why the state is what it is: "12 of 20 attempts failed
 * (breaker.failure_rate)"; nothing for one that was never open. */
void breaker_write(const struct breaker_told *told, struct buf *out);

#endif
