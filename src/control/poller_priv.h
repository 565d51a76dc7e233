/* poller_priv.h: the control thread's loop: poll(2) over a bounded set of descriptors, and a few
 * timers. One thread. Nothing called from here may block. */
#ifndef WEIR_CONTROL_POLLER_PRIV_H
#define WEIR_CONTROL_POLLER_PRIV_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "weir/base/list.h"

#define POLLER_MAX 256u

/* poll_watch lives in its owner. */
struct poll_watch {
  int fd;
  short events; /* POLLIN, POLLOUT; may be changed at any time */
  uint32_t place; /* in poller.watches, + 1; 0: not watched */
  void (*ready)(struct poll_watch *watch, short revents);
};

/* poll_timer lives in its owner; {.link} must be initialised by poll_timer_init. */
struct poll_timer {
  struct list link;
  uint64_t due_ms; /* absolute, CLOCK_MONOTONIC */
  void (*fire)(struct poll_timer *timer);
};

struct poller {
  struct poll_watch *watches[POLLER_MAX];
  uint32_t count;
  struct list timers;
  uint64_t now_ms; /* CLOCK_MONOTONIC at the start of this turn */
};

void poller_init(struct poller *p);
/* poller_add watches watch->fd; false when POLLER_MAX are watched already. */
bool poller_add(struct poller *p, struct poll_watch *watch);
/* poller_remove is safe from inside callbacks and on a watch that is not watched. */
void poller_remove(struct poller *p, struct poll_watch *watch);

void poll_timer_init(struct poll_timer *timer, void (*fire)(struct poll_timer *timer));
void poller_set(struct poller *p, struct poll_timer *timer, uint64_t due_ms);
void poller_stop(struct poll_timer *timer);

/* poller_turn waits for a descriptor or timer (at most until_ms, UINT64_MAX: no limit) and runs
 * the callbacks. */
void poller_turn(struct poller *p, uint64_t until_ms);

/* clock_ms is CLOCK_MONOTONIC, wall_ms CLOCK_REALTIME, in ms. */
uint64_t clock_ms(void);
uint64_t clock_wall_ms(void);

#endif
