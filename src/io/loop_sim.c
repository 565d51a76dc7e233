/* loop_sim.c: the loop over the simulated network: every op of the ring with the same meaning,
 * ended in an order and with results that the world's dice choose. No splice: relays copy.
 * Submissions are looked at from the next turn on, as the ring does. */
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
#define BUFFERS 64u
#define PIPES_CAP_MIN 4096u
#define PIPES_CAP_MAX 300000u

static struct sim_loop *of(struct loop *loop) { return container_of(loop, struct sim_loop, loop); }

static struct sim_op *submit(struct loop *loop, struct conn *c, enum op op) {
  struct sim_loop *l = of(loop);
  struct sim_op *o = mem_alloc(sizeof(*o));
  *o = (struct sim_op){.seq = l->seq++,
                       .slot = c->head.slot,
                       .generation = c->head.generation,
                       .op = op,
                       .nowait = conn_any(c, CONN_NONBLOCK),
                       .fd = c->fd};
  if (sim_hit(l->sim, l->sim->faults.delay)) o->delay = 1 + (uint32_t)sim_draw(l->sim, 4);
  list_push_tail(&l->ops, &o->link);
  l->op_count++;
  loop_stat_add(&loop->stats.submits, 1);
  return o;
}

static struct sim_op *begin(struct loop *loop, struct conn *c, enum op op) {
  check(!conn_busy(c, op));
  c->inflight |= OP_BIT(op);
  return submit(loop, c, op);
}

static struct sim_end *end_of(struct sim *sim, int fd) {
  struct sim_fd *entry = sim_fd_get(sim, fd);
  check(entry->kind == SIM_FD_END && entry->end != NULL);
  return entry->end;
}

static int sim_socket(struct loop *loop, int family) {
  (void)family;
  return sim_fd_new(of(loop)->sim, SIM_FD_FRESH);
}

static void sim_listen(struct loop *loop, struct conn *listener, uint32_t defer_s) {
  (void)loop;
  (void)listener;
  (void)defer_s;
}

static void sim_accept(struct loop *loop, struct conn *listener) {
  begin(loop, listener, OP_ACCEPT)->multishot = true;
}

static int take_queued(struct sim *sim, struct sim_port *port) {
  struct sim_end *end = port->queue[0];
  port->queued--;
  memmove(port->queue, port->queue + 1, port->queued * sizeof(port->queue[0]));
  int fd = sim_fd_new(sim, SIM_FD_END);
  sim_fd_get(sim, fd)->end = end;
  return fd;
}

static int sim_accept_now(struct loop *loop, struct conn *listener) {
  struct sim *sim = of(loop)->sim;
  struct sim_port *port = sim_fd_get(sim, listener->fd)->port;
  return port->queued > 0 ? take_queued(sim, port) : -EAGAIN;
}

static void sim_deafen(struct loop *loop, struct conn *listener) {
  sim_fd_get(of(loop)->sim, listener->fd)->port->deaf = true;
}

static void sim_connect(struct loop *loop, struct conn *c, const struct addr *to) {
  begin(loop, c, OP_CONNECT)->to = *to;
}

static void sim_recv(struct loop *loop, struct conn *c, bool multishot) {
  begin(loop, c, OP_RECV)->multishot = multishot;
}

/* read_len is how much of len a read gives. */
static size_t read_len(struct sim *sim, size_t len) {
  return sim_hit(sim, sim->faults.short_read) ? 1 + sim_draw(sim, len) : len;
}

/* read_end is recv(2): bytes first, then the error, then the end. */
static ssize_t read_end(struct sim *sim, struct sim_end *e, char *into, size_t cap) {
  if (e->rcv.len > 0) {
    size_t n = read_len(sim, e->rcv.len < cap ? e->rcv.len : cap);
    memcpy(into, e->rcv.ptr + e->rcv.off, n);
    sim_bytes_drop(&e->rcv, n);
    e->taken += n;
    return (ssize_t)n;
  }
  if (e->err) {
    int err = e->err;
    e->err = 0;
    return err;
  }
  return e->fin || e->dead ? 0 : -EAGAIN;
}

static ssize_t sim_recv_now(struct loop *loop, struct conn *c, void *into, size_t cap) {
  struct sim *sim = of(loop)->sim;
  /* A poll may have been wrong; who asks for a byte (conn_quiet) is told the truth. */
  if (cap > 1 && sim_hit(sim, sim->faults.delay)) return -EAGAIN;
  return read_end(sim, end_of(sim, c->fd), into, cap);
}

static size_t sim_unread(struct loop *loop, struct conn *c) {
  return end_of(of(loop)->sim, c->fd)->rcv.len;
}

/* What a send counts for: as with a ring. */
#define SEND_NS 5000u

static void sim_send(struct loop *loop, struct conn *c, const void *bytes, size_t len,
                     unsigned how) {
  loop->owed_ns += SEND_NS;
  struct sim_op *o = begin(loop, c, OP_SEND);
  o->bytes = bytes;
  o->len = len;
  if (how & SEND_QUIET) sim_quiet_send(of(loop), o);
}

static uint64_t sim_taken(struct loop *loop, struct conn *c) {
  return sim_other(end_of(of(loop)->sim, c->fd))->taken;
}

static size_t sim_unacked(struct loop *loop, struct conn *c) {
  const struct sim_end *e = end_of(of(loop)->sim, c->fd);
  return e->dead ? 0 : sim_other(e)->net.len;
}

static void sim_poll(struct loop *loop, struct conn *c, enum op which) {
  (void)begin(loop, c, which);
}

static void sim_cancel(struct loop *loop, struct conn *c, enum op which) {
  c->cancels++;
  submit(loop, c, OP_CANCEL)->target = which;
}

static void sim_shutdown(struct loop *loop, struct conn *c, int how) {
  (void)how;
  sim_end_finish(end_of(of(loop)->sim, c->fd));
}

static void sim_close(struct loop *loop, struct conn *c) {
  (void)begin(loop, c, OP_CLOSE);
  c->fd = -1;
}

static void sim_close_fd(struct loop *loop, int fd) { sim_fd_close(of(loop)->sim, fd); }

static void sim_reset(struct loop *loop, struct conn *c) {
  sim_fd_get(of(loop)->sim, c->fd)->linger0 = true;
}

static bool sim_address(const struct loop *loop, const struct conn *c, bool peer,
                        struct addr *out) {
  const struct sim_loop *l = (const struct sim_loop *)(const void *)loop;
  const struct sim_fd *entry = sim_fd_get(l->sim, c->fd);
  *out = (struct addr){0};
  if (entry->kind == SIM_FD_PORT && !peer) *out = entry->port->at;
  if (entry->kind == SIM_FD_END) *out = peer ? sim_other(entry->end)->self : entry->end->self;
  return out->len != 0 && out->sa.sa_family != AF_UNIX;
}

static bool sim_buffers_grow(struct loop *loop) {
  (void)loop;
  return false;
}

static void sim_nonblock(struct loop *loop, struct conn *c, bool on) {
  (void)on; /* the conn's flag is looked at when an op is submitted, as the ring does */
  check(of(loop)->sim == end_of(of(loop)->sim, c->fd)->link->sim);
}

static int sim_pipe(struct loop *loop, int fds[2]) {
  struct sim *sim = of(loop)->sim;
  if (sim_hit(sim, sim->faults.enobufs)) return -EMFILE;
  size_t cap = PIPES_CAP_MIN + sim_draw(sim, PIPES_CAP_MAX - PIPES_CAP_MIN);
  sim_pipe_new(sim, fds, cap);
  return (int)cap;
}

/* splice_in moves bytes from a connection into a pipe, splice_out the other way. */
static ssize_t splice_in(struct sim *sim, struct sim_end *e, struct sim_pipe *pipe, size_t len) {
  size_t room = pipe->cap - pipe->bytes.len;
  char *bytes = mem_alloc(len);
  ssize_t n = room == 0 ? -EAGAIN : read_end(sim, e, bytes, len < room ? len : room);
  if (n > 0) sim_bytes_put(&pipe->bytes, span_of(bytes, (size_t)n));
  mem_free(bytes);
  return n;
}

static ssize_t splice_out(struct sim *sim, struct sim_pipe *pipe, struct sim_end *e, size_t len) {
  if (e->err || e->dead || e->fin_sent) {
    int err = e->err ? e->err : -EPIPE;
    e->err = 0;
    return err;
  }
  size_t n = sim_end_room(e);
  if (n == 0) return -EAGAIN;
  if (n > len) n = len;
  check(n <= pipe->bytes.len);
  if (sim_hit(sim, sim->faults.short_write)) n = 1 + sim_draw(sim, n);
  sim_end_send(e, span_sub(sim_bytes_span(&pipe->bytes), 0, n));
  sim_bytes_drop(&pipe->bytes, n);
  return (ssize_t)n;
}

static ssize_t sim_splice(struct loop *loop, int from, int to, size_t len) {
  struct sim *sim = of(loop)->sim;
  if (sim_hit(sim, sim->faults.delay)) return -EAGAIN;
  struct sim_fd *source = sim_fd_get(sim, from);
  struct sim_fd *target = sim_fd_get(sim, to);
  if (target->kind == SIM_FD_PIPE) return splice_in(sim, end_of(sim, from), target->pipe, len);
  return splice_out(sim, source->pipe, end_of(sim, to), len);
}

static void sim_wake(struct loop *loop) { of(loop)->woken = true; }
static void sim_trim(struct loop *loop) { (void)loop; }

/* --- ending ops --- */

static bool still_there(const struct sim *sim, int fd) {
  return sim->fds[fd - SIM_FD_FIRST].kind != SIM_FD_FREE;
}

static bool connect_ready(const struct sim_loop *l, const struct sim_op *o) {
  const struct sim_port *port = sim_port_find(l->sim, &o->to);
  return port == NULL || !port->blackhole;
}

static bool ready(const struct sim_loop *l, const struct sim_op *o) {
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

static void drop_op(struct sim_loop *l, struct sim_op *o) {
  list_remove(&o->link);
  mem_free(o);
  l->op_count--;
}

/* finish ends o (or gives one result of a multishot) and tells the conn. */
static void finish(struct sim_loop *l, struct sim_op *o, const struct completion *done) {
  uint32_t slot = o->slot;
  uint32_t generation = o->generation;
  enum op op = o->op;
  if (!done->more) drop_op(l, o);
  loop_stat_add(&l->loop.stats.completions, 1);
  conn_complete(&l->loop, slot, generation, op, done);
}

static void finish_res(struct sim_loop *l, struct sim_op *o, int32_t res) {
  finish(l, o, &(struct completion){.res = res});
}

/* end_recv gives one result of a receive; true: it stays armed and may give another. */
static bool end_recv(struct sim_loop *l, struct sim_op *o) {
  struct sim *sim = l->sim;
  struct sim_end *e = end_of(sim, o->fd);
  bool trouble = sim_hit(sim, sim->faults.enobufs);
  if (trouble && e->rcv.len > 0 && sim_draw(sim, 2) == 0) {
    finish_res(l, o, -ENOBUFS);
    return false;
  }
  char *bytes = mem_alloc(BUFFER_BYTES); /* short-lived: whoever keeps the span is found out */
  ssize_t n = read_end(sim, e, bytes, BUFFER_BYTES);
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
  struct sim_end *e = end_of(l->sim, o->fd);
  if (e->err || e->dead || e->fin_sent) {
    int err = e->err ? e->err : -EPIPE;
    e->err = 0;
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
  int fd = take_queued(sim, sim_fd_get(sim, o->fd)->port);
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
  bool late = target && !target->cancelled && ready(l, target) &&
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
    if (!ops[i] || !ready(l, ops[i]) || !end_op(l, ops[i]))
      ops[i] = NULL;
    else
      left++;
  }
  return left;
}

/* An op leaves only by its own ending, so what was collected at the start of a turn stays valid.
 * Results of multishot ops come between those of others. */
static void end_ready(struct sim_loop *l) {
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

static void set_clock(struct sim_loop *l) {
  l->loop.now_ns = l->sim->now_us * 1000;
  l->loop.now_ms = l->sim->now_us / 1000;
  l->loop.wall_ms = l->loop.now_ms + 1700000000000u;
  l->asked = 0;
}

/* Work takes no time here: each question is worth a little, so that shares end. */
#define ASKED_NS 2000u

static uint64_t sim_clock(const struct loop *loop) {
  struct sim_loop *l = container_of(loop, struct sim_loop, loop);
  return loop->now_ns + (uint64_t)++l->asked * ASKED_NS;
}

static int sim_turn(struct loop *loop, uint64_t until_ms) {
  (void)until_ms;
  struct sim_loop *l = of(loop);
  bool taken = sim_quiet_submit(l);
  if (taken) sim_quiet_settle(l); /* at the time of the last turn */
  set_clock(l);
  loop->owed_ns = 0;
  loop_share_open(loop, loop->now_ns);
  if (!taken) return 0;
  if (l->woken) {
    l->woken = false;
    if (loop->on_wake) loop->on_wake(loop);
  }
  end_ready(l);
  sim_udp_turn(l);
  return 0;
}

bool sim_loop_due(struct sim_loop *l) {
  struct loop *loop = &l->loop;
  if (l->woken || loop->budget_left || sim_udp_due(l) || sim_quiet_due(l)) return true;
  if (!list_empty(&loop->dirty) || !list_empty(&loop->carriers) || loop_has_later(loop) ||
      !list_empty(&loop->starved))
    return true;
  if (!list_empty(&loop->parked) && !iobufs_full(&loop->iobufs)) return true;
  if (wheel_next_ms(&loop->wheel) <= sim_now_ms(l->sim)) return true;
  for (const struct list *i = l->ops.next; i != &l->ops; i = i->next) {
    const struct sim_op *o =
        (const struct sim_op *)(const void *)((const char *)i - offsetof(struct sim_op, link));
    if (ready(l, o)) return true;
  }
  return false;
}

static void sim_loop_free(struct loop *loop) {
  struct sim_loop *l = of(loop);
  struct sim *sim = l->sim;
  loop_fini(loop);
  sim_udp_loop_free(l);
  sim_quiet_free(l);
  while (!list_empty(&l->ops)) {
    struct sim_op *o = container_of(l->ops.next, struct sim_op, link);
    if (o->op == OP_CLOSE) sim_fd_close(sim, o->fd);
    drop_op(l, o);
  }
  for (uint32_t i = 0; i < sim->loop_count; i++)
    if (sim->loops[i] == l) sim->loops[i] = sim->loops[--sim->loop_count];
  mem_free(l);
}

/* Two tables that differ in splicing. */
#define SIM_OPS                                                                                  \
  .name = "sim",                                                                                \
  .udp = &sim_udp_ops,                                                                          \
  .socket = sim_socket,                                                                         \
  .listen = sim_listen,                                                                         \
  .accept = sim_accept,                                                                         \
  .accept_now = sim_accept_now,                                                                 \
  .deafen = sim_deafen,                                                                         \
  .connect = sim_connect,                                                                       \
  .recv = sim_recv,                                                                             \
  .recv_now = sim_recv_now,                                                                     \
  .unread = sim_unread,                                                                         \
  .send = sim_send,                                                                             \
  .send_ns = SEND_NS,                                                                           \
  .taken = sim_taken,                                                                           \
  .unacked = sim_unacked,                                                                       \
  .poll = sim_poll,                                                                             \
  .cancel = sim_cancel,                                                                         \
  .shutdown = sim_shutdown,                                                                     \
  .close = sim_close,                                                                           \
  .close_fd = sim_close_fd,                                                                     \
  .reset = sim_reset,                                                                           \
  .address = sim_address,                                                                       \
  .buffers_grow = sim_buffers_grow,                                                             \
  .turn = sim_turn,                                                                             \
  .clock = sim_clock,                                                                           \
  .wake = sim_wake,                                                                             \
  .trim = sim_trim,                                                                             \
  .free = sim_loop_free,                                                                        \

static const struct loop_ops copying_ops = {SIM_OPS};
static const struct loop_ops splicing_ops = {
    SIM_OPS.splice = sim_splice,
    .pipe = sim_pipe,
    .nonblock = sim_nonblock,
};

struct loop *sim_loop_new(struct sim *sim, const struct loop_config *config) {
  check(sim->loop_count < SIM_LOOPS_MAX);
  struct sim_loop *l = mem_alloc(sizeof(*l));
  l->sim = sim;
  list_init(&l->ops);
  list_init(&l->udp_ops);
  sim_quiet_init(l);
  set_clock(l);
  loop_init(&l->loop, sim_draw(sim, 2) ? &splicing_ops : &copying_ops, config);
  loop_stat_set(&l->loop.stats.buffers_total, BUFFERS);
  sim->loops[sim->loop_count++] = l;
  return &l->loop;
}

void sim_loop_drive(struct loop *loop, int (*turn)(void *ctx), void *ctx) {
  of(loop)->turn = turn;
  of(loop)->turn_ctx = ctx;
}
