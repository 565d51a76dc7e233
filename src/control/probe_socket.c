/* probe_socket.c: the transport of a check that is a plain stream socket, and what errnos mean.
 * Does not: wait (probe.c), keep the connection. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "control/probe_priv.h"
#include "weir/base/mem.h"

/* probe_socket is a transport; base comes first. */
struct probe_socket {
  struct probe_transport base;
  struct addr to;
  bool begun; /* connect was called */
  uint8_t preamble_len;
  char preamble[64];
};

/* ---- what an errno means ---- */

static const struct {
  int err;
  enum probe_result result;
  const char *why;
} errors[] = {
    {ECONNREFUSED, PROBE_REFUSED, "connect refused"},
    {ENOENT, PROBE_REFUSED, "there is no such socket"},
    {EAGAIN, PROBE_REFUSED, "the queue of the socket is full"},
    {ETIMEDOUT, PROBE_CONNECT_TIMEOUT, "connect timed out"},
    {ECONNRESET, PROBE_RESET, "connection reset"},
    {EPIPE, PROBE_RESET, "connection reset"},
    {EMFILE, PROBE_SKIPPED, "not checked: no descriptor was left"},
    {ENFILE, PROBE_SKIPPED, "not checked: no descriptor was left"},
    {ENOMEM, PROBE_SKIPPED, "not checked: no memory was left"},
    {ENOBUFS, PROBE_SKIPPED, "not checked: no memory was left"},
    {EADDRNOTAVAIL, PROBE_SKIPPED, "not checked: no local port was left"},
};

void probe_errno(struct probe_outcome *out, int err) {
  for (size_t i = 0; i < array_count(errors); i++) {
    if (errors[i].err == err) {
      probe_end(out, errors[i].result, "%s", errors[i].why);
      return;
    }
  }
  probe_end(out, PROBE_UNREACHABLE, "%s", strerrordesc_np(err));
}

static enum probe_io failed(struct probe_outcome *out, int err) {
  probe_errno(out, err);
  return PROBE_IO_FAILED;
}

static enum probe_io again(struct probe_transport *t, uint32_t wants) {
  t->wants = wants;
  return PROBE_IO_AGAIN;
}

/* ---- operations ---- */

/* greet sends what goes before anything else: so little fits into a new socket. */
static enum probe_io greet(struct probe_socket *s, struct probe_outcome *out) {
  if (!s->preamble_len) return PROBE_IO_OK;
  ssize_t n = send(s->base.fd, s->preamble, s->preamble_len, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n == s->preamble_len) return PROBE_IO_OK;
  return failed(out, n < 0 && errno != EAGAIN ? errno : ENOBUFS);
}

static enum probe_io socket_open(struct probe_transport *t, struct probe_outcome *out) {
  struct probe_socket *s = (struct probe_socket *)t;
  int err = 0;
  socklen_t len = sizeof err;
  if (!s->begun) {
    s->begun = true;
    err = connect(t->fd, &s->to.sa, s->to.len) < 0 ? errno : 0;
    if (err == EINPROGRESS) return again(t, EPOLLOUT);
  } else {
    check(getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0);
  }
  return err ? failed(out, err) : greet(s, out);
}

static enum probe_io socket_write(struct probe_transport *t, struct span bytes, size_t *moved,
                                  struct probe_outcome *out) {
  ssize_t n = send(t->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return again(t, EPOLLOUT);
  if (n < 0) return failed(out, errno);
  *moved = (size_t)n;
  return PROBE_IO_OK;
}

static enum probe_io socket_read(struct probe_transport *t, struct buf room, size_t *moved,
                                 struct probe_outcome *out) {
  ssize_t n = recv(t->fd, room.ptr, room.cap, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return again(t, EPOLLIN);
  if (n < 0) return failed(out, errno);
  *moved = (size_t)n;
  return n == 0 ? PROBE_IO_EOF : PROBE_IO_OK;
}

static void socket_free(struct probe_transport *t) {
  close(t->fd);
  mem_free(t);
}

static const struct probe_transport_ops socket_ops = {
    .open = socket_open, .write = socket_write, .read = socket_read, .free = socket_free};

static struct addr address(const struct endpoint *e, const struct pool_health *h) {
  struct addr a = e->addr;
  if (h->port && a.sa.sa_family == AF_INET) {
    a.in4.sin_port = htons(h->port);
  } else if (h->port && a.sa.sa_family == AF_INET6) {
    a.in6.sin6_port = htons(h->port);
  }
  return a;
}

struct probe_transport *probe_socket_new(const struct endpoint *e, const struct pool_health *h,
                                         struct probe_outcome *out) {
  struct addr to = address(e, h);
  int fd = socket(to.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    probe_errno(out, errno);
    return NULL;
  }
  struct probe_socket *s = (struct probe_socket *)mem_alloc(sizeof *s);
  s->base = (struct probe_transport){
      .ops = &socket_ops, .fd = fd, .late = PROBE_CONNECT_TIMEOUT, .doing = "connect"};
  s->to = to;
  check(h->preamble.len <= sizeof s->preamble);
  s->preamble_len = (uint8_t)h->preamble.len;
  if (h->preamble.len) memcpy(s->preamble, h->preamble.ptr, h->preamble.len);
  return &s->base;
}
