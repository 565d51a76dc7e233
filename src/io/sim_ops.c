/* sim_ops.c: how the ops of a simulated loop end: in an order and with results that the world's
 * dice choose. What an op that can end now brings is what the kernel would say of the network as
 * it is. Called by loop_sim.c, once a turn. */
#include <errno.h>
#include <poll.h>

#include "io/io_priv.h"
#include "io/sim_priv.h"
#include "weir/base/mem.h"

#define BUFFER_BYTES 4096u
/* A multishot op gives so many results in one turn at most, and a receive ends after so many
 * bytes, as on Linux (MULTISHOT_MAX_RETRY; RECV_CAP of loop_uring.c). */
#define MULTISHOTS 32u
#define RECV_CAP 16384u

static bool still_there(const struct sim *sim, int fd) {
  return sim->fds[fd - SIM_FD_FIRST].kind != SIM_FD_FREE;
}

static bool connect_ready(const struct sim_loop *l, const struct sim_op *o) {
  const struct sim_port *port = sim_port_find(l->sim, &o->to);
  return port == NULL || !port->blackhole;
}

bool sim_op_ready(const struct sim_loop *l, const struct sim_op *o) {
  if (o->ended || o->cancelled || o->op == OP_CANCEL || o->op == OP_CLOSE) return true;
  if (!still_there(l->sim, o->fd)) return false; /* closed over it; its cancel is under way */
  const struct sim_fd *entry = sim_fd_get(l->sim, o->fd);
  if (o->nowait && (o->op == OP_RECV || o->op == OP_SEND)) return true;
  switch (o->op) {
    case OP_ACCEPT: return entry->port->queued > 0;
    case OP_CONNECT: return connect_ready(l, o);
    case OP_RECV:
    case OP_POLL_IN: return sim_end_readable(entry->end);
    case OP_SEND:
      return o->len == 0 || entry->end->dead || entry->end->fin_sent || entry->end->err ||
             sim_end_room(entry->end) > 0;
    case OP_POLL_OUT: return entry->end->dead || entry->end->err || sim_end_writable(entry->end);
    case OP_POLL_HUP: return entry->end->dead || (entry->end->fin && entry->end->fin_sent);
    case OP_CANCEL:
    case OP_CLOSE:
    case OP_WAKE:
    case OP_ALARM:
    case OP_COUNT: return true;
  }
  return false;
}

void sim_op_drop(struct sim_loop *l, struct sim_op *o) {
  list_remove(&o->link);
  mem_free(o);
  l->op_count--;
}

/* finish ends o (or gives one result of a multishot) and tells the conn. */
static void finish(struct sim_loop *l, struct sim_op *o, const struct completion *done) {
  uint32_t slot = o->slot;
  uint32_t generation = o->generation;
  enum op op = o->op;
  if (!done->more) sim_op_drop(l, o);
  loop_stat_add(&l->loop.stats.completions, 1);
  conn_complete(&l->loop, slot, generation, op, done);
}

static void finish_res(struct sim_loop *l, struct sim_op *o, int32_t res) {
  finish(l, o, &(struct completion){.res = res});
}

/* end_recv gives one result of a receive; true: it stays armed and may give another. */
static bool end_recv(struct sim_loop *l, struct sim_op *o) {
  struct sim *sim = l->sim;
  struct sim_end *e = sim_end_of(sim, o->fd);
  bool trouble = sim_hit(sim, sim->faults.enobufs);
  if (trouble && e->rcv.len > 0 && sim_draw(sim, 2) == 0) {
    finish_res(l, o, -ENOBUFS);
    return false;
  }
  char *bytes = mem_alloc(BUFFER_BYTES); /* short-lived: whoever keeps the span is found out */
  ssize_t n = sim_end_read(sim, e, bytes, BUFFER_BYTES);
  check(n != -EAGAIN || o->nowait);
  if (n > 0) o->done += (size_t)n;
  struct completion done = {
      .res = (int32_t)n, .more = o->multishot && n > 0 && !trouble && o->done < RECV_CAP};
  bool more = done.more;
  if (n > 0) done.data = bytes;
  finish(l, o, &done);
  mem_free(bytes);
  return more;
}

/* end_send moves what there is room for; MSG_WAITALL waits for the rest but when it is short. */
static void end_send(struct sim_loop *l, struct sim_op *o) {
  struct sim_end *e = sim_end_of(l->sim, o->fd);
  int err = sim_end_refuses(e);
  if (err) {
    finish_res(l, o, o->done > 0 ? (int32_t)o->done : err);
    return;
  }
  size_t room = sim_end_room(e);
  size_t n = o->len - o->done < room ? o->len - o->done : room;
  bool cut = n > 0 && sim_hit(l->sim, l->sim->faults.short_write);
  if (cut) n = 1 + sim_draw(l->sim, n);
  sim_end_send(e, span_of(o->bytes + o->done, n));
  o->done += n;
  if (o->done == 0 && o->nowait)
    finish_res(l, o, -EAGAIN);
  else if (o->done == o->len || cut || o->nowait)
    finish_res(l, o, (int32_t)o->done);
}

static bool end_accept(struct sim_loop *l, struct sim_op *o) {
  struct sim *sim = l->sim;
  if (sim_hit(sim, sim->faults.enobufs)) {
    finish_res(l, o, -ENFILE);
    return false;
  }
  int fd = sim_port_take(sim, sim_fd_get(sim, o->fd)->port);
  bool more = !sim_hit(sim, sim->faults.enobufs);
  finish(l, o, &(struct completion){.res = fd, .more = more});
  return more;
}

static int connect_end(struct sim *sim, struct sim_op *o) {
  struct sim_port *port = sim_port_find(sim, &o->to);
  if (port == NULL || sim_hit(sim, sim->faults.refuse)) return -ECONNREFUSED;
  if (port->weirs && port->queued == array_count(port->queue)) return -ECONNREFUSED;
  struct sim_fd *entry = sim_fd_get(sim, o->fd);
  struct sim_link *link = sim_link_new(sim, &o->to);
  entry->kind = SIM_FD_END;
  entry->end = &link->ends[0];
  if (port->weirs)
    port->queue[port->queued++] = &link->ends[1];
  else
    port->on_accept(sim_peer_new(sim, &link->ends[1]), port->ctx);
  return 0;
}

/* find_target finds the op that a cancel names. */
static struct sim_op *find_target(struct sim_loop *l, const struct sim_op *cancel) {
  for (struct list *i = l->ops.next; i != &l->ops; i = i->next) {
    struct sim_op *o = container_of(i, struct sim_op, link);
    if (o->slot == cancel->slot && o->generation == cancel->generation &&
        o->op == cancel->target && o->seq < cancel->seq && !o->ended)
      return o;
  }
  return NULL;
}

static void end_cancel(struct sim_loop *l, struct sim_op *o) {
  struct sim_op *target = find_target(l, o);
  bool late = target && !target->cancelled && sim_op_ready(l, target) &&
              sim_hit(l->sim, l->sim->faults.cancel_race);
  /* A receive that is late ends after this turn's results; one on a closed descriptor must end. */
  if (target && !late) target->cancelled = true;
  if (late) target->multishot = false;
  finish_res(l, o, target == NULL ? -ENOENT : late ? -EALREADY : 0);
}

/* closable: the close comes after the ops that were submitted before it, as on the ring. */
static void end_close(struct sim_loop *l, struct sim_op *o) {
  for (struct list *i = l->ops.next; i != &l->ops; i = i->next) {
    struct sim_op *before = container_of(i, struct sim_op, link);
    if (before->fd == o->fd && before != o) before->cancelled = true;
  }
  sim_fd_close(l->sim, o->fd);
  finish_res(l, o, 0);
}

/* end_op ends one op; true: it may give another result in this turn. */
static bool end_op(struct sim_loop *l, struct sim_op *o) {
  if (o->ended) {
    finish_res(l, o, o->res);
    return false;
  }
  if (o->cancelled && o->op != OP_CLOSE && o->op != OP_CANCEL) {
    finish_res(l, o, o->op == OP_SEND && o->done > 0 ? (int32_t)o->done : -ECANCELED);
    return false;
  }
  switch (o->op) {
    case OP_ACCEPT: return end_accept(l, o);
    case OP_RECV: return end_recv(l, o);
    case OP_CONNECT: finish_res(l, o, connect_end(l->sim, o)); return false;
    case OP_SEND: end_send(l, o); return false;
    case OP_POLL_IN:
    case OP_POLL_OUT: finish_res(l, o, 1); return false;
    case OP_POLL_HUP:
      finish_res(l, o, sim_fd_get(l->sim, o->fd)->end->dead ? POLLERR | POLLHUP : POLLRDHUP);
      return false;
    case OP_CANCEL: end_cancel(l, o); return false;
    case OP_CLOSE: end_close(l, o); return false;
    case OP_WAKE:
    case OP_ALARM:
    case OP_COUNT: break;
  }
  check(false);
  return false;
}

static void shuffle(struct sim *sim, struct sim_op **ops, uint32_t count) {
  for (uint32_t i = count; i > 1; i--) {
    uint32_t j = (uint32_t)sim_draw(sim, i);
    struct sim_op *swap = ops[i - 1];
    ops[i - 1] = ops[j];
    ops[j] = swap;
  }
}

/* end_some lets each op give one result; how many may give another in this turn. Ops that are done
 * with it are forgotten (NULL). */
static uint32_t end_some(struct sim_loop *l, struct sim_op **ops, uint32_t count) {
  uint32_t left = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (!ops[i] || !sim_op_ready(l, ops[i]) || !end_op(l, ops[i]))
      ops[i] = NULL;
    else
      left++;
  }
  return left;
}

/* An op leaves only by its own ending, so what was collected at the start of a turn stays valid.
 * Results of multishot ops come between those of others. */
void sim_ops_end(struct sim_loop *l) {
  struct sim_op **ops = mem_array(l->op_count + (size_t)1, sizeof(struct sim_op *));
  uint32_t count = 0;
  for (struct list *i = l->ops.next; i != &l->ops; i = i->next)
    ops[count++] = container_of(i, struct sim_op, link);
  if (sim_hit(l->sim, l->sim->faults.reorder)) shuffle(l->sim, ops, count);
  for (uint32_t i = 0; i < count; i++)
    if (ops[i]->delay > 0) {
      ops[i]->delay--;
      ops[i] = NULL;
    }
  for (unsigned n = 0; n < MULTISHOTS && end_some(l, ops, count) > 0; n++) {
  }
  mem_free(ops);
}
