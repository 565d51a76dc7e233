/* gcra.h: rates by the generic cell rate algorithm (ITU-T I.371, virtual scheduling): a key's word
 * in a tally is its theoretical arrival time, when all that it was given is paid for. In any span
 * of time t it is given at most t / interval + burst, with any number of threads, as long as it is
 * in the table; it leaves the table only when nothing is owed. Time is an argument. */
#ifndef WEIR_BASE_GCRA_H
#define WEIR_BASE_GCRA_H

#include "weir/base/tally.h"

#define GCRA_LIMIT_MAX 1000000u /* events in a period, and burst */
#define GCRA_PERIOD_MAX_NS UINT64_C(3600000000000)
/* GCRA_LAG_NS: by how much the times that threads bring may differ for all this to be exact. */
#define GCRA_LAG_NS UINT64_C(50000000)

/* gcra is a rate: one event each interval, burst_ns / interval_ns at once after a rest. */
struct gcra {
  uint64_t interval_ns;
  uint64_t burst_ns;
};

/* gcra_of is `limit` events in period_ns, `burst` (1 or more) at once; both at most
 * GCRA_LIMIT_MAX. The interval is rounded up to whole ns: the rate is never above what was asked
 * for, and less than 0.1 % below. */
struct gcra gcra_of(uint32_t limit, uint64_t period_ns, uint32_t burst);

/* gcra_answer is what one event got. */
struct gcra_answer {
  bool granted;
  bool shared;      /* counted with others whose set was full */
  uint32_t left;    /* that would be granted now */
  uint64_t wait_ns; /* refused: until one would be granted */
};

/* gcra_take counts an event of a key at now_ns (above 0, any clock that goes on, below 2^62);
 * refused events cost nothing. */
void gcra_take(struct tally *t, const struct gcra *g, uint64_t key, uint64_t now_ns,
               struct gcra_answer *out);
/* gcra_peek tells what gcra_take would say of a key that has a slot, or of a new one. */
void gcra_peek(const struct tally *t, const struct gcra *g, uint64_t key, uint64_t now_ns,
               struct gcra_answer *out);

#endif
