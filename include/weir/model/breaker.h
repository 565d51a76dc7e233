/* breaker.h: circuit breaking of a pool: settings, and the state that all workers share. Closed:
 * outcomes of attempts are counted over a window. Open: requests are refused at once. Half-open: a
 * few probes decide. The machine is upstream/breaker.c. */
#ifndef WEIR_MODEL_BREAKER_H
#define WEIR_MODEL_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* pool_breaker: settings; off when both rates are 0. All members have 32 bits (config/diff.c). */
struct pool_breaker {
  uint32_t failure_percent; /* of attempts in the window: failed, or answered 500 and above */
  uint32_t slow_percent;    /* whose response head took slow_ms or longer */
  uint32_t slow_ms;
  uint32_t window_ms;
  uint32_t min_requests; /* attempts in the window: fewer do not open it */
  uint32_t open_ms, max_open_ms; /* it stays open for so long, twice as long each time in a row */
  uint32_t probes; /* requests let through while half-open */
};

static inline bool breaker_on(const struct pool_breaker *settings) {
  return settings->failure_percent || settings->slow_percent;
}

struct breaker_told; /* upstream/breaker.h */

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

/* breaker_cause is what opened it, or NONE. */
enum breaker_cause { BREAKER_NONE, BREAKER_FAILURES, BREAKER_SLOW, BREAKER_CAUSES };

struct breaker_count {
  uint32_t all, bad, slow;
};

#define BREAKER_PARTS 8u /* of the window */

/* breaker_part is what one worker saw in a part of the window. */
struct breaker_part {
  _Atomic uint64_t key; /* epoch and number of the part */
  _Atomic uint32_t all, bad, slow;
};

/* breaker_row is one worker's: it writes, all read. */
struct breaker_row {
  _Alignas(64) struct breaker_part parts[BREAKER_PARTS];
  _Atomic uint64_t refused; /* requests that met it open */
};

/* breaker: read for each request, written when its state changes, and for probes. */
struct breaker {
  _Alignas(64) _Atomic uint64_t word; /* state, epoch, probes; one word, so that all is exact */
  _Atomic uint64_t until_ms;  /* open: to its end; half-open: answers are awaited for so long */
  /* Who sets `changing` writes these; readers take them one by one. */
  _Atomic bool changing;
  _Atomic uint8_t before; /* enum breaker_state that it came from */
  _Atomic uint8_t cause;  /* enum breaker_cause */
  _Atomic uint32_t streak;         /* openings in a row: the time grows */
  _Atomic uint32_t all, bad, slow; /* by which the last change was decided */
  _Atomic uint32_t lasts_ms;       /* open for so long */
  _Atomic uint64_t since_ms;       /* of the state; 0: from the start */
  _Atomic uint64_t opened[BREAKER_CAUSES]; /* times, by cause */
};

#endif
