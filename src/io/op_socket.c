/* op_socket.c: what the loop over a ring does to sockets by plain system calls: options and
 * addresses, reads and sends that do not wait, splices. None is an op of the ring, none blocks.
 * Called through loop_ops (the table stands in loop_uring.c). */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#include "io/io_priv.h"
#include "io/op_priv.h"

int ring_socket(struct loop *loop, int family) {
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

void ring_keepalive(struct loop *loop, struct conn *c) {
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

void ring_listen(struct loop *loop, struct conn *listener, uint32_t defer_s) {
  (void)loop;
  int on = 1;
  int seconds = (int)defer_s;
  set_blocking(listener->fd);
  (void)setsockopt(listener->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* inherited */
  ring_keepalive(loop, listener);                                            /* too */
  if (defer_s != LISTEN_DEFER_KEEP)
    (void)setsockopt(listener->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
}

/* Never waits longer than a tick, and that only when another took the connection that poll(2) saw:
 * workers share the socket of a unix or inherited listener, and the flags of its descriptor too,
 * so O_NONBLOCK cannot be switched on for one of them. SO_RCVTIMEO can, for all: the ring's own
 * accepts do not look at it, nor do receives of the connections that inherit it. */
int ring_accept_now(struct loop *loop, struct conn *listener) {
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
void ring_deafen(struct loop *loop, struct conn *listener) {
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

ssize_t ring_recv_now(struct loop *loop, struct conn *c, void *into, size_t cap) {
  (void)loop;
  ssize_t n = recv(c->fd, into, cap, MSG_DONTWAIT);
  return n < 0 ? -errno : n;
}

size_t ring_unread(struct loop *loop, struct conn *c) {
  (void)loop;
  int bytes = 0;
  return ioctl(c->fd, SIOCINQ, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}

ssize_t ring_send_now(struct loop *loop, struct conn *c, const void *bytes, size_t len) {
  (void)loop;
  ssize_t n = send(c->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
  return n < 0 ? -errno : n;
}

/* What TCP has acknowledged never falls. The queue of a TCP socket (SIOCOUTQ) would not do: a send
 * that waits fills it again as the peer takes from it. A unix socket has nothing else, but there
 * the peer's reading empties the queue in steps that are seen. */
uint64_t ring_taken(struct loop *loop, struct conn *c) {
  (void)loop;
  struct tcp_info info = {0};
  socklen_t len = sizeof(info);
  int queued = 0;
  if (conn_any(c, CONN_UNIX)) return ioctl(c->fd, SIOCOUTQ, &queued) == 0 ? (uint64_t)queued : 0;
  return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_bytes_acked : 0;
}

/* The queue holds what was sent and not acknowledged, too. On a unix socket it is the peer's: no
 * close takes that back. */
size_t ring_unacked(struct loop *loop, struct conn *c) {
  (void)loop;
  int queued = 0;
  if (conn_any(c, CONN_UNIX)) return 0;
  return ioctl(c->fd, SIOCOUTQ, &queued) == 0 && queued > 0 ? (size_t)queued : 0;
}

void ring_shutdown(struct loop *loop, struct conn *c, int how) {
  (void)loop;
  (void)shutdown(c->fd, how);
}

void ring_close_fd(struct loop *loop, int fd) {
  (void)loop;
  (void)close(fd);
}

void ring_reset(struct loop *loop, struct conn *c) {
  (void)loop;
  const struct linger now = {.l_onoff = 1, .l_linger = 0};
  if (!conn_any(c, CONN_UNIX)) (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

bool ring_address(const struct loop *loop, const struct conn *c, bool peer,
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

/* getpeername(2) knows connections that are established. SO_PEERNAME gives no address in part. */
bool ring_address_left(const struct loop *loop, const struct conn *c, struct addr *out) {
  (void)loop;
  static const socklen_t lens[] = {sizeof(struct sockaddr_in6), sizeof(struct sockaddr_in)};
  for (size_t i = 0; i < array_count(lens); i++) {
    struct sockaddr_storage at;
    socklen_t len = lens[i];
    if (getsockopt(c->fd, SOL_SOCKET, SO_PEERNAME, &at, &len) != 0) continue;
    addr_from_sockaddr((struct sockaddr *)(void *)&at, len, out);
    return true;
  }
  return false;
}

void ring_nonblock(struct loop *loop, struct conn *c, bool on) {
  (void)loop;
  int value = on;
  (void)ioctl(c->fd, FIONBIO, &value); /* one call, where fcntl takes two */
}

ssize_t ring_splice(struct loop *loop, int from, int to, size_t len) {
  (void)loop;
  ssize_t n = splice(from, NULL, to, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  return n < 0 ? -errno : n;
}

int ring_pipe(struct loop *loop, int fds[2]) {
  (void)loop;
  if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) return -errno;
  int cap = fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES);
  if (cap < 0) cap = fcntl(fds[1], F_GETPIPE_SZ);
  if (cap >= PIPE_BYTES_MIN) return cap;
  (void)close(fds[0]);
  (void)close(fds[1]);
  return -ENOBUFS;
}
