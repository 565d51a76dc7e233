/* sim_quiet.c: quiet sends in the simulation (SEND_QUIET; the ring's are in op_quiet.c). Dice say
 * which sends are quiet: one that goes at once, whole, gives no completion, and its conn is told
 * when something else ends the wait; one that fails or goes in part completes as others do. They
 * are with the network when the wait begins, in the order in which they were sent. The dice of
 * faults.delay may have the kernel take no submissions for a turn, or tell of sends a turn later.
 * Called by loop_sim.c and sim.c. */
#include <errno.h>

#include "io/io_priv.h"
#include "io/sim_priv.h"
#include "weir/base/mem.h"

void sim_quiet_init(struct sim_loop *l) {
  list_init(&l->quiet_queued);
  list_init(&l->quiet_gone);
}

void sim_quiet_send(struct sim_loop *l, struct sim_op *o) {
  if (sim_draw(l->sim, 2) != 0) return;
  list_remove(&o->link);
  l->op_count--;
  list_push_tail(&l->quiet_queued, &o->link);
}

/* try_send gives what goes at once to the network: how much, or -errno. */
static int32_t try_send(struct sim *sim, const struct sim_op *o) {
  struct sim_end *e = sim_end_of(sim, o->fd);
  int err = sim_end_refuses(e);
  if (err) return err;
  size_t room = sim_end_room(e);
  size_t n = o->len < room ? o->len : room;
  if (n == 0) return -EAGAIN;
  if (sim_hit(sim, sim->faults.short_write)) n = 1 + sim_draw(sim, n);
  sim_end_send(e, span_of(o->bytes, n));
  return (int32_t)n;
}

bool sim_quiet_submit(struct sim_loop *l) {
  if (list_empty(&l->quiet_queued)) return true;
  if (sim_hit(l->sim, l->sim->faults.delay)) return false;
  for (struct list *i = list_pop_head(&l->quiet_queued); i; i = list_pop_head(&l->quiet_queued)) {
    struct sim_op *o = container_of(i, struct sim_op, link);
    o->res = try_send(l->sim, o);
    if (o->res == (int32_t)o->len) {
      list_push_tail(&l->quiet_gone, &o->link);
      continue;
    }
    o->ended = true;
    list_push_tail(&l->ops, &o->link);
    l->op_count++;
  }
  return true;
}

void sim_quiet_settle(struct sim_loop *l) {
  l->quiet_late = !list_empty(&l->quiet_gone) && sim_hit(l->sim, l->sim->faults.delay);
  if (l->quiet_late) return;
  for (struct list *i = list_pop_head(&l->quiet_gone); i; i = list_pop_head(&l->quiet_gone)) {
    struct sim_op *o = container_of(i, struct sim_op, link);
    struct completion done = {.res = o->res};
    uint32_t slot = o->slot, generation = o->generation;
    mem_free(o);
    conn_complete(&l->loop, slot, generation, OP_SEND, &done);
  }
}

bool sim_quiet_due(const struct sim_loop *l) {
  if (l->quiet_late || !list_empty(&l->quiet_queued)) return true;
  for (const struct list *i = l->quiet_gone.next; i != &l->quiet_gone; i = i->next) {
    const struct sim_op *o =
        (const struct sim_op *)(const void *)((const char *)i - offsetof(struct sim_op, link));
    const struct conn *c = slab_find(&l->loop.conns, o->slot, o->generation);
    if (!c || !tx_unwatched(c)) return true;
  }
  return false;
}

static void drop_all(struct list *all) {
  for (struct list *i = list_pop_head(all); i; i = list_pop_head(all))
    mem_free(container_of(i, struct sim_op, link));
}

void sim_quiet_free(struct sim_loop *l) {
  drop_all(&l->quiet_queued);
  drop_all(&l->quiet_gone);
}
