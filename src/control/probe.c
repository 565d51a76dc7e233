/* probe.c: one check of one endpoint over a non-blocking socket: connect; for HTTP send the
 * request and read until probe_reply.c has a result; close. The connection is the check's own and
 * is not kept. Does not: know intervals or states (prober.c, health.c). */
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "control/health_priv.h"
#include "control/prober_priv.h"
#include "weir/base/mem.h"

#define READS_MAX 8u /* of one event: then others get their turn */

enum phase { CONNECTING, SENDING, READING };

struct probe {
  int fd, epoll_fd;
  void *owner;
  enum phase phase;
  uint32_t events; /* that epoll watches for */
  struct buf out;  /* the request; in reply.in until it has been sent */
  size_t sent;
  struct probe_reply reply;
};

void *probe_owner(const struct probe *probe) { return probe->owner; }

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

static bool failed(struct probe_outcome *out, int err) {
  for (size_t i = 0; i < array_count(errors); i++) {
    if (errors[i].err == err) {
      probe_end(out, errors[i].result, "%s", errors[i].why);
      return true;
    }
  }
  probe_end(out, PROBE_UNREACHABLE, "%s", strerrordesc_np(err));
  return true;
}

/* ---- sending ---- */

/* An address says which host it is; a unix socket has no name of its own. */
static struct span host_of(const struct endpoint *e) {
  return e->addr.sa.sa_family == AF_UNIX ? SPAN_LIT("localhost") : e->text;
}

static void compose(struct probe *probe, const struct endpoint *e, const struct pool_health *h) {
  probe->out = buf_of(probe->reply.in, sizeof probe->reply.in);
  buf_put(&probe->out, h->request);
  if (h->rest.len) {
    buf_put(&probe->out, host_of(e));
    buf_put(&probe->out, h->rest);
  }
  check(!probe->out.full); /* check_health.c saw to it */
}

static void watch(struct probe *probe, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = probe};
  if (probe->events == events) {
    return;
  }
  int op = probe->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  check(epoll_ctl(probe->epoll_fd, op, probe->fd, &event) == 0);
  probe->events = events;
}

static bool send_some(struct probe *probe, struct probe_outcome *out) {
  struct span left = span_from(buf_span(&probe->out), probe->sent);
  ssize_t n = send(probe->fd, left.ptr, left.len, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0) {
    return errno != EAGAIN && errno != EINTR && failed(out, errno);
  }
  probe->sent += (size_t)n;
  if (probe->sent < probe->out.len) {
    return false;
  }
  probe->phase = READING;
  probe_reply_init(&probe->reply);
  watch(probe, EPOLLIN);
  return false;
}

/* ---- reading ---- */

static bool read_some(struct probe *probe, const struct pool_health *h,
                      struct probe_outcome *out) {
  for (uint32_t i = 0; i < READS_MAX; i++) {
    struct buf room = probe_reply_room(&probe->reply);
    ssize_t n = recv(probe->fd, room.ptr, room.cap, MSG_DONTWAIT);
    if (n < 0) {
      return errno != EAGAIN && errno != EINTR && failed(out, errno);
    }
    if (n == 0) {
      probe_reply_eof(&probe->reply, h, out);
      return true;
    }
    if (probe_reply_take(&probe->reply, h, (size_t)n, out)) {
      return true;
    }
  }
  return false;
}

/* ---- the steps ---- */

static bool connected(struct probe *probe, const struct endpoint *e, const struct pool_health *h,
                      struct probe_outcome *out) {
  if (h->protocol == HEALTH_TCP) {
    probe_end(out, PROBE_PASS, "%s", "");
    return true;
  }
  compose(probe, e, h);
  probe->phase = SENDING;
  watch(probe, EPOLLOUT);
  return send_some(probe, out);
}

bool probe_ready(struct probe *probe, const struct endpoint *e, const struct pool_health *h,
                 struct probe_outcome *out) {
  int err = 0;
  socklen_t len = sizeof err;
  switch (probe->phase) {
    case CONNECTING:
      check(getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0);
      return err ? failed(out, err) : connected(probe, e, h, out);
    case SENDING:
      return send_some(probe, out);
    case READING:
      return read_some(probe, h, out);
  }
  return false;
}

void probe_timeout(const struct probe *probe, const struct pool_health *h,
                   struct probe_outcome *out) {
  if (probe->phase == CONNECTING) {
    probe_end(out, PROBE_CONNECT_TIMEOUT, "connect timed out after %u ms (health.timeout)",
              h->timeout_ms);
  } else {
    probe_end(out, PROBE_TIMEOUT, "no answer after %u ms (health.timeout)", h->timeout_ms);
  }
}

static struct addr address(const struct endpoint *e, const struct pool_health *h) {
  struct addr a = e->addr;
  if (h->port && a.sa.sa_family == AF_INET) {
    a.in4.sin_port = htons(h->port);
  } else if (h->port && a.sa.sa_family == AF_INET6) {
    a.in6.sin6_port = htons(h->port);
  }
  return a;
}

struct probe *probe_new(int epoll_fd, void *owner, const struct endpoint *e,
                        const struct pool_health *h, struct probe_outcome *out) {
  struct addr to = address(e, h);
  int fd = socket(to.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    (void)failed(out, errno);
    return NULL;
  }
  struct probe *probe = (struct probe *)mem_alloc(sizeof *probe);
  probe->fd = fd;
  probe->epoll_fd = epoll_fd;
  probe->owner = owner;
  probe_reply_init(&probe->reply);
  int err = connect(fd, &to.sa, to.len) < 0 ? errno : 0;
  bool ended = false;
  if (err == EINPROGRESS) {
    watch(probe, EPOLLOUT);
  } else {
    ended = err ? failed(out, err) : connected(probe, e, h, out);
  }
  if (ended) {
    probe_free(probe);
    return NULL;
  }
  return probe;
}

void probe_free(struct probe *probe) {
  probe_reply_fini(&probe->reply);
  close(probe->fd);
  mem_free(probe);
}
