/* wheel.h: a coarse timer wheel, one per worker. Resolution WHEEL_TICK_MS; three levels of 64
 * slots reach 64^3 ticks, longer delays wait in the last slot and are put back. Time is an
 * argument. Moving a deadline later costs nothing: the timer fires, sees that it is early and goes
 * back. */
#ifndef WEIR_BASE_WHEEL_H
#define WEIR_BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/list.h"

#define WHEEL_TICK_MS 8u
#define WHEEL_SLOTS 64u
#define WHEEL_LEVELS 3u
#define WHEEL_NEVER UINT64_MAX

/* timer lives in its owner. */
struct timer {
  struct list link;
  uint64_t due_ms;   /* when to fire; WHEEL_NEVER: not armed */
  uint64_t queued_ms; /* where it is linked; <= due_ms */
  void (*fire)(struct timer *timer, uint64_t now_ms);
};

struct wheel {
  struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
  uint64_t tick; /* last tick that was run */
  uint64_t soonest; /* no timer is due at a tick before it; <= tick: not known */
  uint32_t armed;
};

void wheel_init(struct wheel *wheel, uint64_t now_ms);
/* timer_init sets the callback; the timer is not armed. */
void timer_init(struct timer *timer, void (*fire)(struct timer *timer, uint64_t now_ms));
/* timer_set arms or moves the timer to due_ms (absolute). Fires at most one tick late. */
void timer_set(struct wheel *wheel, struct timer *timer, uint64_t due_ms);
/* timer_stop disarms; O(1), safe when not armed. */
void timer_stop(struct wheel *wheel, struct timer *timer);
static inline bool timer_armed(const struct timer *t) { return t->due_ms != WHEEL_NEVER; }
/* wheel_run fires what is due at now_ms. Callbacks may set and stop any timer. */
void wheel_run(struct wheel *wheel, uint64_t now_ms);
/* wheel_next_ms is a lower bound for the next due time (absolute), WHEEL_NEVER when none armed. It
 * is kept, not searched, until the clock has passed it: early when a timer was stopped. */
uint64_t wheel_next_ms(struct wheel *wheel);

#endif
