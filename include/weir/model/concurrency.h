/* concurrency.h: adaptive concurrency of a pool: settings, and the state that all workers share.
 * How many requests may wait for a response head at a time follows from how long heads take: see
 * upstream/gradient.c. */
#ifndef WEIR_MODEL_CONCURRENCY_H
#define WEIR_MODEL_CONCURRENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* concurrency_mode: the order of the words of concurrency.mode. */
enum concurrency_mode { CONCURRENCY_OFF, CONCURRENCY_OBSERVE, CONCURRENCY_ENFORCE };

/* pool_concurrency: settings. All members have 32 bits (config/diff.c). */
struct pool_concurrency {
  uint32_t mode; /* enum concurrency_mode */
  uint32_t min, initial, max;
  uint32_t tolerance_permille; /* of the baseline: latency up to there is no reason to reduce */
  uint32_t window_ms;          /* between two looks at the latency */
  uint32_t baseline_ms;        /* between two measurements of the baseline */
};

/* gradient_row is one worker's: it writes, all read. Counters never go back. */
struct gradient_row {
  _Alignas(64) _Atomic uint32_t waiting; /* requests that wait for a response head */
  _Atomic uint64_t heads; /* that came: count and sum of latencies in one (gradient.c), so that the
                             two are always of the same heads */
  _Atomic uint64_t arrivals, seen;       /* requests that asked; sum of what waited then */
  _Atomic uint64_t refused;              /* that were too many; observe: would have been */
};

/* gradient_totals are the rows of all workers added up; gradient_sums what came between two looks.
 */
struct gradient_totals {
  uint64_t heads, arrivals, seen;
};
struct gradient_sums {
  uint64_t samples, log_sum; /* log_sum: as the latencies of gradient_model */
  uint64_t arrivals, seen;
};

/* gradient_phase: to measure the baseline the limit goes down; first what is under way drains. */
enum gradient_phase { GRADIENT_RUN, GRADIENT_DRAIN, GRADIENT_MEASURE };

/* gradient_model is the controller. Latencies are log2 of us with 16 bits of fraction; 0: not
 * known. */
struct gradient_model {
  double limit;
  uint32_t cap; /* in place of limit while it measures */
  uint32_t base_log, low_log, last_log; /* baseline; lowest of the period; of the last window */
  uint8_t phase;  /* enum gradient_phase */
  bool settled;   /* the last measurement confirmed the one before */
  uint32_t falls; /* windows in a row that lowered the limit */
  uint64_t phase_ms;  /* the phase ends */
  uint64_t period_ms; /* the baseline is due */
  uint64_t early_ms;  /* it may be measured before that from here on */
  struct gradient_sums measured;
};

struct gradient {
  _Alignas(64) _Atomic uint32_t limit; /* in force; 0: not begun */
  _Atomic uint64_t due_ms;             /* of the next look */
  _Atomic bool looking;                /* one worker at a time: the rest is its own */
  struct gradient_model model;
  struct gradient_totals totals; /* at the last look */
  _Atomic uint32_t base_us, latency_us; /* for people; and the baseline for what was cut off */
};

#endif
