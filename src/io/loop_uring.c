/* loop_uring.c: the loop over an io_uring: one ring per worker (single issuer, deferred task
 * work), one submit-and-wait per turn, multishot accept and receive, one ring of provided buffers.
 * Does not know what conns do with what it hands up. Called through loop_ops by loop.c and the
 * conn files. Sockets are in blocking mode: on O_NONBLOCK ones the ring gives -EAGAIN instead of
 * waiting. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/time.h>
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
/* Addresses of connects stay here until the kernel has copied them: at the next submit. */
#define CONNECTS_MAX 64u
#define SLOT_BITS 24u
/* A multishot receive ends after so many bytes and is armed again if wanted (Linux 6.17; before it
 * has no bound and runs ahead of a body by what the provided buffers hold). */
#define RECV_CAP 16384u

/* In a turn with no more to handle than that a send whose completion nobody waits for (SEND_QUIET)
 * posts none: it would end the wait that comes at once, a whole turn for nothing. It never waits
 * itself: either all is taken when the kernel has its entry, or it completes as others do. */
#define QUIET_MAX 2u

struct quiet_send {
  uint64_t name; /* 0: it was told */
  int32_t bytes;
};

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
  bool light;            /* the turn had little to handle, and handles no more */
  uint8_t quiets;
  struct quiet_send quiet[QUIET_MAX];
  uint64_t alarm_ms;     /* when the timeout that is in flight ends; WHEEL_NEVER: none is */
  struct __kernel_timespec alarm_at;
  uint32_t connects;
  struct addr connect_to[CONNECTS_MAX];
};

static struct uring *of(struct loop *loop) { return container_of(loop, struct uring, loop); }

static uint32_t slot_of(uint64_t name) { return (uint32_t)(name >> 40); }
static uint32_t generation_of(uint64_t name) { return (uint32_t)(name >> 8); }

static uint64_t name_of(const struct conn *c, enum op op) {
  return ((uint64_t)c->head.slot << 40) | ((uint64_t)c->head.generation << 8) | (uint64_t)op;
}

static struct io_uring_sqe *raw_sqe(struct uring *u) {
  struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
  if (__builtin_expect(sqe == NULL, 0)) {
    (void)io_uring_submit(&u->ring);
    u->connects = 0;
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
  of(loop)->connects = 0;
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

static int ring_socket(struct loop *loop, int family) {
  (void)loop;
  int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int on = 1;
  if (family != AF_UNIX) (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return fd;
}

static void set_blocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags >= 0) (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

/* A peer that is gone without a FIN (its power, a firewall that forgot) is found out after
 * KEEPALIVE_IDLE_S of silence and KEEPALIVE_COUNT questions: two minutes. */
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_COUNT 6

static void ring_keepalive(struct loop *loop, struct conn *c) {
  (void)loop;
  static const struct {
    int level, option, value;
  } all[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
             {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
             {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
             {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT}};
  for (size_t i = 0; i < array_count(all); i++)
    (void)setsockopt(c->fd, all[i].level, all[i].option, &all[i].value, sizeof(all[i].value));
}

static void ring_listen(struct loop *loop, struct conn *listener, uint32_t defer_s) {
  (void)loop;
  int on = 1;
  int seconds = (int)defer_s;
  set_blocking(listener->fd);
  (void)setsockopt(listener->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* inherited */
  ring_keepalive(loop, listener);                                            /* too */
  if (defer_s != LISTEN_DEFER_KEEP)
    (void)setsockopt(listener->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
}

static void ring_accept(struct loop *loop, struct conn *listener) {
  struct io_uring_sqe *sqe = begin(loop, listener, OP_ACCEPT);
  io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
  sqe->user_data = name_of(listener, OP_ACCEPT);
}

/* Never waits longer than a tick, and that only when another took the connection that poll(2) saw:
 * workers share the socket of a unix or inherited listener, and the flags of its descriptor too,
 * so O_NONBLOCK cannot be switched on for one of them. SO_RCVTIMEO can, for all: the ring's own
 * accepts do not look at it, nor do receives of the connections that inherit it. */
static int ring_accept_now(struct loop *loop, struct conn *listener) {
  (void)loop;
  static const struct timeval tick = {.tv_usec = 1};
  struct pollfd ready = {.fd = listener->fd, .events = POLLIN};
  if (poll(&ready, 1, 0) != 1) return -EAGAIN;
  if (setsockopt(listener->fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick)) != 0) return -errno;
  int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

/* deaf_filter drops segments with SYN and without ACK. It sees the TCP header (RFC 9293 section
 * 3.1: flags in byte 13) of what comes to the listening socket, the ACKs of its handshakes too. */
static void ring_deafen(struct loop *loop, struct conn *listener) {
  (void)loop;
  enum { FLAGS_AT = 13, SYN = 0x02, ACK = 0x10 };
  struct sock_filter deaf_filter[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS_AT),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SYN | ACK),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYN, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
  };
  const struct sock_fprog program = {.len = array_count(deaf_filter), .filter = deaf_filter};
  if (!conn_any(listener, CONN_UNIX))
    (void)setsockopt(listener->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

/* What these take of the submit, about (loopback, measured under attacks; FLOOR.md). */
#define CONNECT_NS 20000u
#define CLOSE_NS 8000u
#define SEND_NS 5000u
#define RECV_NS 5000u /* where a buffer full of bytes is waiting */

static void ring_connect(struct loop *loop, struct conn *c, const struct addr *to) {
  struct uring *u = of(loop);
  if (u->connects == CONNECTS_MAX) {
    (void)io_uring_submit(&u->ring);
    u->connects = 0;
  }
  loop->owed_ns += CONNECT_NS;
  struct io_uring_sqe *sqe = begin(loop, c, OP_CONNECT);
  struct addr *kept = &u->connect_to[u->connects++];
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

static ssize_t ring_recv_now(struct loop *loop, struct conn *c, void *into, size_t cap) {
  (void)loop;
  ssize_t n = recv(c->fd, into, cap, MSG_DONTWAIT);
  return n < 0 ? -errno : n;
}

static size_t ring_unread(struct loop *loop, struct conn *c) {
  (void)loop;
  int bytes = 0;
  return ioctl(c->fd, SIOCINQ, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}

/* ring_send. MSG_DONTWAIT makes the ring complete what does not go at once instead of waiting for
 * room; MSG_WAITALL makes a part of it a failure, which is not left out. */
static void ring_send(struct loop *loop, struct conn *c, const void *bytes, size_t len,
                      unsigned how) {
  struct uring *u = of(loop);
  bool quiet = how & SEND_QUIET && u->light && u->quiets < QUIET_MAX;
  int flags = MSG_WAITALL | MSG_NOSIGNAL | (quiet ? MSG_DONTWAIT : 0);
  loop->owed_ns += SEND_NS;
  struct io_uring_sqe *sqe = begin(loop, c, OP_SEND);
  io_uring_prep_send(sqe, c->fd, bytes, len, flags | (how & SEND_CORKED ? MSG_MORE : 0));
  sqe->user_data = name_of(c, OP_SEND);
  if (!quiet) return;
  sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
  u->quiet[u->quiets++] = (struct quiet_send){sqe->user_data, (int32_t)len};
}

static ssize_t ring_send_now(struct loop *loop, struct conn *c, const void *bytes, size_t len) {
  (void)loop;
  ssize_t n = send(c->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
  return n < 0 ? -errno : n;
}

/* What TCP has acknowledged never falls. The queue of a TCP socket (SIOCOUTQ) would not do: a send
 * that waits fills it again as the peer takes from it. A unix socket has nothing else, but there
 * the peer's reading empties the queue in steps that are seen. */
static uint64_t ring_taken(struct loop *loop, struct conn *c) {
  (void)loop;
  struct tcp_info info = {0};
  socklen_t len = sizeof(info);
  int queued = 0;
  if (conn_any(c, CONN_UNIX)) return ioctl(c->fd, SIOCOUTQ, &queued) == 0 ? (uint64_t)queued : 0;
  return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_bytes_acked : 0;
}

/* The queue holds what was sent and not acknowledged, too. On a unix socket it is the peer's: no
 * close takes that back. */
static size_t ring_unacked(struct loop *loop, struct conn *c) {
  (void)loop;
  int queued = 0;
  if (conn_any(c, CONN_UNIX)) return 0;
  return ioctl(c->fd, SIOCOUTQ, &queued) == 0 && queued > 0 ? (size_t)queued : 0;
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

static void ring_shutdown(struct loop *loop, struct conn *c, int how) {
  (void)loop;
  (void)shutdown(c->fd, how);
}

static void ring_close(struct loop *loop, struct conn *c) {
  loop->owed_ns += CLOSE_NS;
  struct io_uring_sqe *sqe = begin(loop, c, OP_CLOSE);
  io_uring_prep_close(sqe, c->fd);
  sqe->user_data = name_of(c, OP_CLOSE);
  c->fd = -1;
}

static void ring_close_fd(struct loop *loop, int fd) {
  (void)loop;
  (void)close(fd);
}

static void ring_reset(struct loop *loop, struct conn *c) {
  (void)loop;
  const struct linger now = {.l_onoff = 1, .l_linger = 0};
  if (!conn_any(c, CONN_UNIX)) (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static bool ring_address(const struct loop *loop, const struct conn *c, bool peer,
                         struct addr *out) {
  (void)loop;
  struct sockaddr_storage at;
  socklen_t len = sizeof(at);
  struct sockaddr *sa = (struct sockaddr *)(void *)&at;
  *out = (struct addr){0};
  if ((peer ? getpeername(c->fd, sa, &len) : getsockname(c->fd, sa, &len)) != 0) return false;
  addr_from_sockaddr(sa, len, out);
  return sa->sa_family != AF_UNIX || len > offsetof(struct sockaddr_un, sun_path);
}

static bool ring_buffers_grow(struct loop *loop) {
  struct uring *u = of(loop);
  bool grown = buffers_grow(&u->buffers);
  loop_stat_set(&loop->stats.buffers_total, u->buffers.total);
  return grown;
}

static void ring_nonblock(struct loop *loop, struct conn *c, bool on) {
  (void)loop;
  int value = on;
  (void)ioctl(c->fd, FIONBIO, &value); /* one call, where fcntl takes two */
}

static ssize_t ring_splice(struct loop *loop, int from, int to, size_t len) {
  (void)loop;
  ssize_t n = splice(from, NULL, to, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  return n < 0 ? -errno : n;
}

static int ring_pipe(struct loop *loop, int fds[2]) {
  (void)loop;
  if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) return -errno;
  int cap = fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES);
  if (cap < 0) cap = fcntl(fds[1], F_GETPIPE_SZ);
  if (cap >= PIPE_BYTES_MIN) return cap;
  (void)close(fds[0]);
  (void)close(fds[1]);
  return -ENOBUFS;
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

/* quiet_may_wait: still nobody waits for a send that will not tell. */
static bool quiet_may_wait(const struct uring *u) {
  for (unsigned i = 0; i < u->quiets; i++) {
    uint64_t name = u->quiet[i].name;
    const struct conn *c = slab_find(&u->loop.conns, slot_of(name), generation_of(name));
    if (c == NULL || !tx_unwatched(c)) return false;
  }
  return true;
}

/* quiet_told forgets those that complete by themselves: they failed, or went in part. */
static void quiet_told(struct uring *u) {
  const struct io_uring_cq *cq = &u->ring.cq;
  unsigned count = io_uring_cq_ready(&u->ring), first = *cq->khead;
  for (unsigned i = 0; i < count; i++) {
    uint64_t name = cq->cqes[(first + i) & cq->ring_mask].user_data;
    for (unsigned k = 0; k < u->quiets; k++)
      if (u->quiet[k].name == name) u->quiet[k].name = 0;
  }
}

/* quiet_settle tells of the others when the kernel has taken all entries, and no completion waits
 * where it cannot be seen. They went before all that has come: at the time of the last turn. */
static void quiet_settle(struct uring *u) {
  quiet_told(u);
  if (io_uring_sq_ready(&u->ring) || io_uring_cq_has_overflow(&u->ring)) return;
  for (unsigned i = 0; i < u->quiets; i++) {
    uint64_t name = u->quiet[i].name;
    struct completion done = {.res = u->quiet[i].bytes};
    if (name) conn_complete(&u->loop, slot_of(name), generation_of(name), OP_SEND, &done);
  }
  u->quiets = 0;
}

static int submit_and_wait(struct uring *u, uint64_t until_ms, uint64_t now_ns) {
  bool past = until_ms != WHEEL_NEVER && until_ms * 1000000u <= now_ns;
  if (past || !quiet_may_wait(u))
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
  conn_complete(&u->loop, slot_of(name), generation_of(name), op, &done);
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
    conn_warm(&u->loop, slot_of(name), generation_of(name), op, step);
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
  u->light = count <= QUIET_MAX;
}

static int ring_turn(struct loop *loop, uint64_t until_ms) {
  struct uring *u = of(loop);
  uint64_t before_ns = clock_ns(CLOCK_MONOTONIC);
  loop_note_turn(loop, before_ns - loop->now_ns);
  int rc = submit_and_wait(u, until_ms, before_ns);
  u->connects = 0;
  loop->owed_ns = 0;
  u->light = false;
  if (u->quiets) quiet_settle(u);
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
  u->recv_cap = RECV_CAP;
  u->alarm_ms = WHEEL_NEVER;
  loop_init(&u->loop, &ring_ops, config);
  loop_stat_set(&u->loop.stats.buffers_total, u->buffers.total);
  arm_wake(u);
  return &u->loop;
}
