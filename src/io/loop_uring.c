/* loop_uring.c: the loop over an io_uring: one ring per worker (single issuer, deferred task
 * work), one submit-and-wait per turn, multishot accept and receive, one ring of provided buffers.
 * Does not know what conns do with what it hands up. Called through loop_ops by loop.c and the
 * conn files. Sockets are in blocking mode: on O_NONBLOCK ones the ring gives -EAGAIN instead of
 * waiting. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "io/io_priv.h"
#include "weir/base/warm.h"
#include "io/op_priv.h"
#include "io/poison_priv.h"
#include "weir/base/mem.h"

#define ENTRIES_DEFAULT 256u
#define BUFFERS_FIRST_DEFAULT 64u
#define BUFFERS_MAX_DEFAULT 1024u
#define BUFFER_BYTES_DEFAULT 4096u
#define SLOT_BITS 24u
/* A multishot receive ends after so many bytes and is armed again if wanted (Linux 6.17; before it
 * has no bound and runs ahead of a body by what the provided buffers hold). */
#define RECV_CAP 16384u

struct uring {
  struct loop loop;
  struct io_uring ring;
  struct ring_buffers buffers;
  struct ring_udp *udp;
  int wake_fd;
  atomic_bool woken;   /* a wake is under way: others need not ring again */
  uint64_t wake_count; /* what the read of wake_fd brought */
  uint32_t recv_cap;   /* RECV_CAP, or 0 where the kernel has no such thing */
  int64_t wall_offset_ms;
  uint64_t wall_read_ms; /* when it was measured */
  uint32_t alarms;       /* completions of this turn that were alarms */
  struct ring_quiet quiet;
  uint64_t alarm_ms; /* when the timeout that is in flight ends; WHEEL_NEVER: none is */
  struct __kernel_timespec alarm_at;
  struct addr *connect_to; /* by entry of the ring: the kernel copies it when it takes the entry */
};

static struct uring *of(struct loop *loop) { return container_of(loop, struct uring, loop); }

static uint64_t name_of(const struct conn *c, enum op op) { return ring_name(&c->head, op); }

static struct io_uring_sqe *raw_sqe(struct uring *u) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
  if (__builtin_expect(sqe == NULL, 0)) {
    (void)io_uring_submit(&u->ring);
    sqe = io_uring_get_sqe(&u->ring);
    check(sqe != NULL);
  }
  return sqe;
}

static struct io_uring_sqe *next_sqe(struct uring *u) {
  loop_stat_add(&u->loop.stats.submits, 1);
  return raw_sqe(u);
}

struct io_uring_sqe *ring_sqe(struct loop *loop) { return next_sqe(of(loop)); }

/* The receive that was cancelled holds its socket until its completion is made: work of the task,
 * which a submit alone would put off to the next wait (IORING_SETUP_DEFER_TASKRUN). */
void ring_submit(struct loop *loop) {
  (void)io_uring_submit_and_get_events(&of(loop)->ring);
}
struct io_uring *ring_of(struct loop *loop) { return &of(loop)->ring; }
struct ring_udp **ring_udp_of(struct loop *loop) { return &of(loop)->udp; }

/* begin gives an entry for an op of c, which is in flight from now on. The caller prepares it and
 * then names it (preparing clears the name). */
static struct io_uring_sqe *begin(struct loop *loop, struct conn *c, enum op op) {
  check(!conn_busy(c, op));
  c->inflight |= OP_BIT(op);
  return next_sqe(of(loop));
}

static void ring_accept(struct loop *loop, struct conn *listener) {
  struct io_uring_sqe *sqe = begin(loop, listener, OP_ACCEPT);
  io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
  sqe->user_data = name_of(listener, OP_ACCEPT);
}

/* What these take of the submit, about (loopback, measured under attacks; FLOOR.md). */
#define CONNECT_NS 20000u
#define CLOSE_NS 8000u
#define SEND_NS 5000u
#define RECV_NS 5000u /* where a buffer full of bytes is waiting */

static void ring_connect(struct loop *loop, struct conn *c, const struct addr *to) {
  struct uring *u = of(loop);
  loop->owed_ns += CONNECT_NS;
  struct io_uring_sqe *sqe = begin(loop, c, OP_CONNECT);
  struct addr *kept = &u->connect_to[sqe - u->ring.sq.sqes];
  *kept = *to;
  io_uring_prep_connect(sqe, c->fd, &kept->sa, kept->len);
  sqe->user_data = name_of(c, OP_CONNECT);
}

static void ring_recv(struct loop *loop, struct conn *c, bool multishot) {
  struct uring *u = of(loop);
  loop->owed_ns += RECV_NS;
  struct io_uring_sqe *sqe = begin(loop, c, OP_RECV);
  if (multishot) {
    io_uring_prep_recv_multishot(sqe, c->fd, NULL, 0, 0);
    sqe->optlen = u->recv_cap;
  } else {
    io_uring_prep_recv(sqe, c->fd, NULL, u->buffers.bytes, 0);
  }
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = 0;
  sqe->user_data = name_of(c, OP_RECV);
}

static void ring_send(struct loop *loop, struct conn *c, const void *bytes, size_t len,
                      unsigned how) {
  struct uring *u = of(loop);
  bool quiet = how & SEND_QUIET && quiet_now(&u->quiet);
  int flags = MSG_WAITALL | MSG_NOSIGNAL | (quiet ? MSG_DONTWAIT : 0);
  loop->owed_ns += SEND_NS;
  struct io_uring_sqe *sqe = begin(loop, c, OP_SEND);
  io_uring_prep_send(sqe, c->fd, bytes, len, flags | (how & SEND_CORKED ? MSG_MORE : 0));
  sqe->user_data = name_of(c, OP_SEND);
  if (quiet) quiet_put(&u->quiet, sqe);
}

/* A poll of the ring always asks for POLLRDHUP too: one for what is broken has to go on behind a
 * FIN, which it tells at once. Later wakeups that are not for it (data, room) do not reach it. */
static void ring_poll(struct loop *loop, struct conn *c, enum op which) {
  static const unsigned events[OP_COUNT] = {[OP_POLL_IN] = POLLIN | POLLRDHUP,
                                            [OP_POLL_OUT] = POLLOUT,
                                            [OP_POLL_HUP] = POLLERR | POLLHUP};
  struct io_uring_sqe *sqe = begin(loop, c, which);
  if (which == OP_POLL_HUP) io_uring_prep_poll_multishot(sqe, c->fd, events[which]);
  else io_uring_prep_poll_add(sqe, c->fd, events[which]);
  sqe->user_data = name_of(c, which);
}

static void ring_cancel(struct loop *loop, struct conn *c, enum op which) {
  check(c->cancels < UINT8_MAX);
  c->cancels++;
  struct io_uring_sqe *sqe = next_sqe(of(loop));
  io_uring_prep_cancel64(sqe, name_of(c, which), 0);
  sqe->user_data = name_of(c, OP_CANCEL);
}

static void ring_close(struct loop *loop, struct conn *c) {
  loop->owed_ns += CLOSE_NS;
  struct io_uring_sqe *sqe = begin(loop, c, OP_CLOSE);
  io_uring_prep_close(sqe, c->fd);
  sqe->user_data = name_of(c, OP_CLOSE);
  c->fd = -1;
}

static bool ring_buffers_grow(struct loop *loop) {
  struct uring *u = of(loop);
  bool grown = buffers_grow(&u->buffers);
  loop_stat_set(&loop->stats.buffers_total, u->buffers.total);
  return grown;
}

/* arm_wake reads the mailbox's counter; one read is always in flight. */
static void arm_wake(struct uring *u) {
  struct io_uring_sqe *sqe = next_sqe(u);
  io_uring_prep_read(sqe, u->wake_fd, &u->wake_count, sizeof(u->wake_count), 0);
  sqe->user_data = OP_WAKE;
}

static void ring_wake(struct loop *loop) {
  struct uring *u = of(loop);
  if (atomic_exchange_explicit(&u->woken, true, memory_order_acq_rel)) return;
  uint64_t one = 1;
  while (write(u->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

static void woke(struct uring *u) {
  atomic_store_explicit(&u->woken, false, memory_order_release);
  if (u->loop.on_wake) u->loop.on_wake(&u->loop);
  arm_wake(u);
}

static uint64_t clock_ns(clockid_t clock) {
  struct timespec ts;
  (void)clock_gettime(clock, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The wall clock is measured against the other one about once a second. */
static void read_clocks(struct uring *u) {
  struct loop *loop = &u->loop;
  loop->now_ns = clock_ns(CLOCK_MONOTONIC);
  loop->now_ms = loop->now_ns / 1000000u;
  if (loop->now_ms - u->wall_read_ms >= 1000 || u->wall_read_ms == 0) {
    u->wall_read_ms = loop->now_ms;
    u->wall_offset_ms = (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000u) - (int64_t)loop->now_ms;
  }
  loop->wall_ms = loop->now_ms + (uint64_t)u->wall_offset_ms;
}

/* set_alarm makes the ring end a wait at until_ms by a timeout of its own, which stays in flight
 * over many turns: a timeout of the wait itself would program the clock's hardware at each one. An
 * earlier alarm may ring for nothing; a later one is moved. */
static void set_alarm(struct uring *u, uint64_t until_ms) {
  if (until_ms >= u->alarm_ms) return;
  bool move = u->alarm_ms != WHEEL_NEVER;
  u->alarm_ms = until_ms;
  u->alarm_at.tv_sec = (int64_t)(until_ms / 1000u);
  u->alarm_at.tv_nsec = (long long)(until_ms % 1000u) * 1000000;
  struct io_uring_sqe *sqe = raw_sqe(u);
  if (move)
    io_uring_prep_timeout_update(sqe, &u->alarm_at, OP_ALARM, IORING_TIMEOUT_ABS);
  else
    io_uring_prep_timeout(sqe, &u->alarm_at, 0, IORING_TIMEOUT_ABS);
  sqe->user_data = move ? OP_COUNT : OP_ALARM;
  if (move) sqe->flags |= IOSQE_CQE_SKIP_SUCCESS; /* no turn for it */
}

static int submit_and_wait(struct uring *u, uint64_t until_ms, uint64_t now_ns) {
  bool past = until_ms != WHEEL_NEVER && until_ms * 1000000u <= now_ns;
  if (past || !quiet_may_wait(&u->quiet, &u->loop))
    return io_uring_submit_and_get_events(&u->ring);
  set_alarm(u, until_ms);
  return io_uring_submit_and_wait(&u->ring, 1);
}

/* alarm_rang: the timeout's own end, or that of an update. One that lost against the timeout it
 * was to move (-ENOENT) has no effect: the timeout's end is on its way or was there. */
static void alarm_rang(struct uring *u, enum op op, int32_t res) {
  if (op == OP_ALARM || res < 0) u->alarm_ms = WHEEL_NEVER;
  u->alarms++; /* handle_all counts completions, but this is nothing that was asked for */
}

static void handle(struct uring *u, const struct io_uring_cqe *cqe) {
  uint64_t name = cqe->user_data;
  enum op op = (enum op)(name & 0xff);
  if (__builtin_expect(op == OP_WAKE, 0)) {
    woke(u);
    return;
  }
  if (__builtin_expect(op >= OP_ALARM, 0)) {
    if (op >= RING_UDP_OPS) ring_udp_handle(&u->loop, cqe);
    else alarm_rang(u, op, cqe->res);
    return;
  }
  struct completion done = {.res = cqe->res, .more = (cqe->flags & IORING_CQE_F_MORE) != 0};
  bool provided = (cqe->flags & IORING_CQE_F_BUFFER) != 0;
  uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
  if (provided) done.data = buffers_at(&u->buffers, id);
  if (__builtin_expect(op == OP_RECV && cqe->res == -EINVAL && u->recv_cap != 0, 0)) {
    u->recv_cap = 0;
    done.res = -EINTR; /* again, without the cap */
  }
  conn_complete(&u->loop, ring_slot(name), ring_generation(name), op, &done);
  if (provided) buffers_put(&u->buffers, id);
}

/* What a completion will touch is asked for in steps (conn_warm), WARM_APART completions apart,
 * the last one that far before it is handled. */
#define STEPS (2u + WARM_STEPS)
#define WARM_APART 3u
#define WARM_AHEAD (STEPS * WARM_APART)
/* With fewer conns all of it is in the core's cache (some 4 KiB each with what hangs on them). */
#define WARM_CONNS 256u

/* warm_at: entry at of count from first on takes its first step, earlier ones their next. */
static void warm_at(const struct uring *u, unsigned first, unsigned count, unsigned at) {
  const struct io_uring_cq *cq = &u->ring.cq;
  for (unsigned step = 0; step < STEPS; step++, at -= WARM_APART) {
    if (at >= count) continue; /* behind the last, or (wrapped) before the first one */
    uint64_t name = cq->cqes[(first + at) & cq->ring_mask].user_data;
    enum op op = (enum op)(name & 0xff);
    if (op >= OP_WAKE) continue;
    conn_warm(&u->loop, ring_slot(name), ring_generation(name), op, step);
  }
}

/* handle_all handles what had come when it was called. An entry is copied before it is handled:
 * a submit from inside may let the kernel write new ones. */
static void handle_all(struct uring *u) {
  struct io_uring_cq *cq = &u->ring.cq;
  unsigned count = io_uring_cq_ready(&u->ring), first = *cq->khead;
  bool many = count > WARM_AHEAD && u->loop.conns.live >= WARM_CONNS;
  for (unsigned i = 0; many && i < WARM_AHEAD; i++) warm_at(u, first, count, i);
  for (unsigned i = 0; i < count; i++) {
    if (many) warm_at(u, first, count, i + WARM_AHEAD);
    struct io_uring_cqe cqe = cq->cqes[(first + i) & cq->ring_mask];
    io_uring_cq_advance(&u->ring, 1);
    handle(u, &cqe);
  }
  loop_stat_add(&u->loop.stats.completions, count - u->alarms);
  u->alarms = 0;
  u->quiet.light = count <= QUIET_MAX;
}

static int ring_turn(struct loop *loop, uint64_t until_ms) {
  struct uring *u = of(loop);
  uint64_t before_ns = clock_ns(CLOCK_MONOTONIC);
  loop_note_turn(loop, before_ns - loop->now_ns);
  int rc = submit_and_wait(u, until_ms, before_ns);
  loop->owed_ns = 0;
  u->quiet.light = false;
  if (u->quiet.count) quiet_settle(&u->quiet, loop);
  read_clocks(u);
  loop_share_open(loop, loop->now_ns);
  handle_all(u);
  buffers_commit(&u->buffers);
  loop_stat_set(&loop->stats.buffers_total, u->buffers.total);
  switch (rc) {
    case -ETIME:
    case -EINTR:
    case -EAGAIN:
    case -EBUSY: return 0;
    default: return rc < 0 ? rc : 0;
  }
}

static uint64_t ring_clock(const struct loop *loop) {
  (void)loop;
  return clock_ns(CLOCK_MONOTONIC);
}

static void ring_trim(struct loop *loop) {
  buffers_trim(&of(loop)->buffers);
  ring_udp_trim(loop);
}

/* drop_completions closes what was accepted and not handed over yet. */
static void drop_completions(struct uring *u) {
  struct io_uring_cqe *cqe;
  while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
    if ((cqe->user_data & 0xff) == OP_ACCEPT && cqe->res >= 0) (void)close(cqe->res);
    io_uring_cqe_seen(&u->ring, cqe);
  }
}

static void ring_free(struct loop *loop) {
  struct uring *u = of(loop);
  (void)io_uring_submit_and_get_events(&u->ring); /* closes that wait there */
  drop_completions(u);
  loop_fini(loop);
  ring_udp_free(loop);
  buffers_fini(&u->buffers);
  io_uring_queue_exit(&u->ring);
  (void)close(u->wake_fd);
  mem_free(u->connect_to);
  mem_free(u);
}

static const struct loop_ops ring_ops = {
    .name = "io_uring",
    .udp = &ring_udp_ops,
    .socket = ring_socket,
    .listen = ring_listen,
    .accept = ring_accept,
    .accept_now = ring_accept_now,
    .deafen = ring_deafen,
    .connect = ring_connect,
    .recv = ring_recv,
    .recv_now = ring_recv_now,
    .unread = ring_unread,
    .send = ring_send,
    .send_ns = SEND_NS,
    .send_now = ring_send_now,
    .taken = ring_taken,
    .unacked = ring_unacked,
    .poll = ring_poll,
    .cancel = ring_cancel,
    .shutdown = ring_shutdown,
    .close = ring_close,
    .close_fd = ring_close_fd,
    .reset = ring_reset,
    .keepalive = ring_keepalive,
    .address = ring_address,
    .address_left = ring_address_left,
    .buffers_grow = ring_buffers_grow,
    .nonblock = ring_nonblock,
    .splice = ring_splice,
    .pipe = ring_pipe,
    .turn = ring_turn,
    .clock = ring_clock,
    .wake = ring_wake,
    .trim = ring_trim,
    .free = ring_free,
};

/* open_all takes what the kernel gives: 0, or -errno with nothing left open. */
static int open_all(struct uring *u, const struct loop_config *config, struct buf *why) {
  uint32_t entries = config->ring_entries ? config->ring_entries : ENTRIES_DEFAULT;
  int rc = ring_open(&u->ring, entries, why);
  if (rc < 0) return rc;
  rc = buffers_init(&u->buffers, &u->ring,
                    config->buffers_first ? config->buffers_first : BUFFERS_FIRST_DEFAULT,
                    config->buffers_max ? config->buffers_max : BUFFERS_MAX_DEFAULT,
                    config->buffer_bytes ? config->buffer_bytes : BUFFER_BYTES_DEFAULT);
  if (rc < 0) {
    buf_printf(why, "io_uring_register (buffer ring): errno %d; remedy: Linux 6.1 or newer", -rc);
    io_uring_queue_exit(&u->ring);
    return rc;
  }
  u->wake_fd = eventfd(0, EFD_CLOEXEC);
  if (u->wake_fd >= 0) return 0;
  rc = -errno;
  buf_printf(why, "eventfd: errno %d; remedy: raise the open files limit (ulimit -n)", -rc);
  buffers_fini(&u->buffers);
  io_uring_queue_exit(&u->ring);
  return rc;
}

struct loop *loop_uring_new(const struct loop_config *config, struct buf *why) {
  check(config->conns_max < (1u << SLOT_BITS));
  struct uring *u = mem_alloc(sizeof(*u));
  if (open_all(u, config, why) < 0) {
    mem_free(u);
    return NULL;
  }
  const struct sigaction ignore = {.sa_handler = SIG_IGN};
  (void)sigaction(SIGPIPE, &ignore, NULL); /* splice(2) has no MSG_NOSIGNAL */
  read_clocks(u);
  u->connect_to = mem_alloc(u->ring.sq.ring_entries * sizeof(*u->connect_to));
  u->recv_cap = RECV_CAP;
  u->alarm_ms = WHEEL_NEVER;
  loop_init(&u->loop, &ring_ops, config);
  loop_stat_set(&u->loop.stats.buffers_total, u->buffers.total);
  arm_wake(u);
  return &u->loop;
}
