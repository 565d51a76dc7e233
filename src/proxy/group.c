/* group.c: how workers of a process reach each other: a permit that is waited for, or was freed.
 * Rare by nature (only pools with max_per_endpoint reached), so messages are allocated. */
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

static void tell_others(struct worker *w, enum worker_msg_kind kind, uint32_t id) {
  struct worker_group *group = w->config.group;
  for (uint32_t i = 0; group && i < w->config.workers; i++) {
    struct worker *other = atomic_load(&group->workers[i]);
    if (!other || other == w) continue;
    struct worker_msg *msg = mem_alloc(sizeof *msg);
    msg->kind = kind;
    msg->id = id;
    worker_post(other, msg);
  }
}

void group_ask(struct worker *w, uint32_t pool_state_id) {
  tell_others(w, WORKER_PERMIT_ASK, pool_state_id);
}

void group_wake(struct worker *w) { tell_others(w, WORKER_PERMIT, 0); }
