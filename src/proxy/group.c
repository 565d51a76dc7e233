/* group.c: how workers of a process reach each other: one word of signals per worker, which stand
 * until it looks. Signals that stand already are not sent again; nothing is allocated. */
#include "proxy_priv.h"
#include "weir/base/mem.h"

struct worker_group {
  _Atomic(struct worker *) workers[WORKERS_MAX];
};

struct worker_group *worker_group_new(void) { return mem_alloc(sizeof(struct worker_group)); }

void worker_group_free(struct worker_group *group) { mem_free(group); }

void group_join(struct worker *w) {
  if (w->config.group) atomic_store(&w->config.group->workers[w->config.index], w);
}

void group_leave(struct worker *w) {
  if (w->config.group) atomic_store(&w->config.group->workers[w->config.index], NULL);
}

void group_signal(struct worker *w, uint32_t to, uint32_t signal) {
  struct worker_group *group = w->config.group;
  struct worker *other = group ? atomic_load(&group->workers[to]) : NULL;
  if (!other || other == w) return;
  if (!(atomic_fetch_or(&other->signals, signal) & signal)) loop_wake(other->loop);
}

void group_listen(struct worker *w) {
  if (!atomic_load_explicit(&w->signals, memory_order_relaxed)) return;
  uint32_t signals = atomic_exchange(&w->signals, 0);
  if (signals & SIGNAL_PERMIT) w->wake_pending = true;
  if (signals & SIGNAL_YIELD) queue_yield(w);
}
