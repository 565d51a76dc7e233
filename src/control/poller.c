/* poller.c: poll(2) loop of the control thread. A handful of descriptors: no epoll needed.
 * Does not: know what they are. Called by control.c and the servers and resolver on it. */
#include "control/poller_priv.h"

#include <time.h>

#include "weir/base/check.h"

static uint64_t clock_read(clockid_t id) {
  struct timespec ts;
  check(clock_gettime(id, &ts) == 0);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t clock_ms(void) { return clock_read(CLOCK_MONOTONIC); }
uint64_t clock_wall_ms(void) { return clock_read(CLOCK_REALTIME); }

void poller_init(struct poller *p) {
  *p = (struct poller){.count = 0};
  list_init(&p->timers);
  p->now_ms = clock_ms();
}

/* Empty places are closed up only between turns, so that indices hold while callbacks run. */
static void compact(struct poller *p) {
  uint32_t to = 0;
  for (uint32_t i = 0; i < p->count; i++) {
    if (!p->watches[i]) {
      continue;
    }
    p->watches[to] = p->watches[i];
    p->watches[to]->place = to + 1;
    to++;
  }
  p->count = to;
}

bool poller_add(struct poller *p, struct poll_watch *watch) {
  check(watch->place == 0 && watch->fd >= 0);
  if (p->count == POLLER_MAX) {
    return false;
  }
  p->watches[p->count++] = watch;
  watch->place = p->count;
  return true;
}

void poller_remove(struct poller *p, struct poll_watch *watch) {
  if (watch->place) {
    check(p->watches[watch->place - 1] == watch);
    p->watches[watch->place - 1] = NULL;
    watch->place = 0;
  }
}

void poll_timer_init(struct poll_timer *timer, void (*fire)(struct poll_timer *timer)) {
  list_init(&timer->link);
  timer->due_ms = UINT64_MAX;
  timer->fire = fire;
}

void poller_set(struct poller *p, struct poll_timer *timer, uint64_t due_ms) {
  list_remove(&timer->link);
  timer->due_ms = due_ms;
  list_push_tail(&p->timers, &timer->link);
}

void poller_stop(struct poll_timer *timer) {
  list_remove(&timer->link);
  timer->due_ms = UINT64_MAX;
}

static uint64_t next_due(const struct poller *p, uint64_t until_ms) {
  uint64_t next = until_ms;
  for (const struct list *l = p->timers.next; l != &p->timers; l = l->next) {
    const struct poll_timer *t =
        (const struct poll_timer *)(const void *)((const char *)l -
                                                  offsetof(struct poll_timer, link));
    next = t->due_ms < next ? t->due_ms : next;
  }
  return next;
}

static int wait_ms(const struct poller *p, uint64_t until_ms) {
  uint64_t next = next_due(p, until_ms);
  if (next == UINT64_MAX) {
    return -1;
  }
  uint64_t now = clock_ms();
  if (next <= now) {
    return 0;
  }
  return next - now > 3600000 ? 3600000 : (int)(next - now);
}

static void run_timers(struct poller *p) {
  struct list due;
  list_init(&due);
  for (struct list *l = p->timers.next; l != &p->timers;) {
    struct poll_timer *t = container_of(l, struct poll_timer, link);
    l = l->next;
    if (t->due_ms <= p->now_ms) {
      list_remove(&t->link);
      list_push_tail(&due, &t->link);
    }
  }
  for (struct list *l; (l = list_pop_head(&due)) != NULL;) {
    struct poll_timer *t = container_of(l, struct poll_timer, link);
    t->due_ms = UINT64_MAX;
    t->fire(t);
  }
}

void poller_turn(struct poller *p, uint64_t until_ms) {
  struct pollfd fds[POLLER_MAX];
  compact(p);
  uint32_t count = p->count;
  for (uint32_t i = 0; i < count; i++) {
    fds[i] = (struct pollfd){.fd = p->watches[i]->fd, .events = p->watches[i]->events};
  }
  int ready = poll(fds, count, wait_ms(p, until_ms));
  p->now_ms = clock_ms();
  for (uint32_t i = 0; i < count && ready > 0; i++) {
    struct poll_watch *watch = p->watches[i];
    /* A watch removed and another put in its place within this turn has another descriptor. */
    if (fds[i].revents && watch && watch->fd == fds[i].fd) {
      watch->ready(watch, fds[i].revents);
    }
  }
  run_timers(p);
}
