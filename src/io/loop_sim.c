/* loop_sim.c: the loop over the simulated network: every op of the ring with the same meaning.
 * Submissions are looked at from the next turn on, as the ring does; how they end is sim_ops.c. */
#include <errno.h>

#include "io/io_priv.h"
#include "io/sim_priv.h"
#include "weir/base/mem.h"

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

static int sim_accept_now(struct loop *loop, struct conn *listener) {
  struct sim *sim = of(loop)->sim;
  struct sim_port *port = sim_fd_get(sim, listener->fd)->port;
  return port->queued > 0 ? sim_port_take(sim, port) : -EAGAIN;
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

static ssize_t sim_recv_now(struct loop *loop, struct conn *c, void *into, size_t cap) {
  struct sim *sim = of(loop)->sim;
  /* A poll may have been wrong; who asks for a byte (conn_quiet) is told the truth. */
  if (cap > 1 && sim_hit(sim, sim->faults.delay)) return -EAGAIN;
  return sim_end_read(sim, sim_end_of(sim, c->fd), into, cap);
}

static size_t sim_unread(struct loop *loop, struct conn *c) {
  return sim_end_of(of(loop)->sim, c->fd)->rcv.len;
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
  return sim_other(sim_end_of(of(loop)->sim, c->fd))->taken;
}

static size_t sim_unacked(struct loop *loop, struct conn *c) {
  const struct sim_end *e = sim_end_of(of(loop)->sim, c->fd);
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
  sim_end_finish(sim_end_of(of(loop)->sim, c->fd));
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
  check(of(loop)->sim == sim_end_of(of(loop)->sim, c->fd)->link->sim);
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
  ssize_t n = room == 0 ? -EAGAIN : sim_end_read(sim, e, bytes, len < room ? len : room);
  if (n > 0) sim_bytes_put(&pipe->bytes, span_of(bytes, (size_t)n));
  mem_free(bytes);
  return n;
}

static ssize_t splice_out(struct sim *sim, struct sim_pipe *pipe, struct sim_end *e, size_t len) {
  int err = sim_end_refuses(e);
  if (err) return err;
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
  if (target->kind == SIM_FD_PIPE) return splice_in(sim, sim_end_of(sim, from), target->pipe, len);
  return splice_out(sim, source->pipe, sim_end_of(sim, to), len);
}

static void sim_wake(struct loop *loop) { of(loop)->woken = true; }
static void sim_trim(struct loop *loop) { (void)loop; }

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
  sim_ops_end(l);
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
    if (sim_op_ready(l, o)) return true;
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
    sim_op_drop(l, o);
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
