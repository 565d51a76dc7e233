/* probe.c: one check of one endpoint: opens a transport, then moves the bytes of a talk over it
 * until that has a result (probe_priv.h); closes. The connection is the check's own and is not
 * kept. Does not: know protocols (probe_h1.c, probe_h2.c) and TLS (probe_tls.c), intervals or
 * states (prober.c, health.c). */
#include <sys/epoll.h>

#include "control/probe_priv.h"
#include "control/prober_priv.h"
#include "weir/base/mem.h"

#define READS_MAX 8u /* of one event: then others get their turn */

struct probe {
  int epoll_fd;
  uint32_t events; /* that epoll watches for */
  void *owner;
  struct probe_transport *transport;
  struct probe_talk *talk; /* NULL: the transport is being opened */
};

void *probe_owner(const struct probe *probe) { return probe->owner; }

static void watch(struct probe *probe, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = probe};
  if (probe->events == events) {
    return;
  }
  int op = probe->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  check(epoll_ctl(probe->epoll_fd, op, probe->transport->fd, &event) == 0);
  probe->events = events;
}

/* ---- bytes ---- */

/* push sends what the talk has to say; OK: all of it. */
static enum probe_io push(struct probe *probe, struct probe_outcome *out) {
  struct probe_transport *t = probe->transport;
  const struct probe_talk_ops *talk = probe->talk->ops;
  for (struct span left; (left = talk->output(probe->talk)).len;) { /* each turn takes some */
    size_t moved = 0;
    enum probe_io io = t->ops->write(t, left, &moved, out);
    if (io != PROBE_IO_OK) return io;
    talk->sent(probe->talk, moved);
  }
  return PROBE_IO_OK;
}

/* pull reads once; *ended: *out is the result. */
static enum probe_io pull(struct probe *probe, const struct pool_health *h, bool *ended,
                          struct probe_outcome *out) {
  struct probe_transport *t = probe->transport;
  struct buf room = probe->talk->ops->room(probe->talk);
  size_t moved = 0;
  if (!room.cap) {
    t->wants = 0;
    return PROBE_IO_AGAIN;
  }
  enum probe_io io = t->ops->read(t, room, &moved, out);
  if (io == PROBE_IO_OK) *ended = probe->talk->ops->take(probe->talk, h, moved, out);
  if (io == PROBE_IO_EOF) probe->talk->ops->eof(probe->talk, h, out);
  if (io == PROBE_IO_EOF || io == PROBE_IO_FAILED) *ended = true;
  return io;
}

/* talk_on moves bytes both ways; true: *out is the result. */
static bool talk_on(struct probe *probe, const struct pool_health *h, struct probe_outcome *out) {
  uint32_t wants = 0;
  for (uint32_t i = 0; i < READS_MAX; i++) {
    enum probe_io io = push(probe, out);
    if (io == PROBE_IO_FAILED) return true;
    wants = io == PROBE_IO_AGAIN ? probe->transport->wants : 0;
    bool ended = false;
    io = pull(probe, h, &ended, out);
    if (ended) return true;
    if (io == PROBE_IO_AGAIN) {
      watch(probe, wants | probe->transport->wants);
      return false;
    }
  }
  /* It can be written to now, so its turn comes again, whatever the transport keeps inside. */
  watch(probe, EPOLLIN | EPOLLOUT);
  return false;
}

/* ---- the steps ---- */

/* An address says which host it is; a unix socket has no name of its own. */
static struct span host_of(const struct endpoint *e) {
  return e->addr.sa.sa_family == AF_UNIX ? SPAN_LIT("localhost") : e->text;
}

/* talk_new chooses the protocol. */
static struct probe_talk *talk_new(const struct probe_transport *t, const struct endpoint *e,
                                   const struct pool_health *h) {
  bool h2 = t->secure ? t->h2 : h->h2;
  return h2 ? probe_h2_new(h, host_of(e), t->secure) : probe_h1_new(h, host_of(e));
}

bool probe_ready(struct probe *probe, const struct endpoint *e, const struct pool_health *h,
                 struct probe_outcome *out) {
  if (probe->talk) return talk_on(probe, h, out);
  switch (probe->transport->ops->open(probe->transport, out)) {
    case PROBE_IO_AGAIN: watch(probe, probe->transport->wants); return false;
    case PROBE_IO_EOF:
    case PROBE_IO_FAILED: return true;
    case PROBE_IO_OK: break;
  }
  if (h->protocol == HEALTH_TCP) {
    probe_end(out, PROBE_PASS, "%s", "");
    return true;
  }
  probe->talk = talk_new(probe->transport, e, h);
  return talk_on(probe, h, out);
}

void probe_timeout(const struct probe *probe, const struct pool_health *h,
                   struct probe_outcome *out) {
  if (probe->talk) {
    probe_end(out, PROBE_TIMEOUT, "%s after %u ms (health.timeout)", probe->talk->lacks,
              h->timeout_ms);
  } else {
    const struct probe_transport *t = probe->transport;
    probe_end(out, (enum probe_result)t->late, "%s timed out after %u ms (health.timeout)",
              t->doing, h->timeout_ms);
  }
}

struct probe *probe_new(int epoll_fd, void *owner, const struct endpoint *e,
                        const struct pool_health *h, struct probe_outcome *out) {
  struct probe_transport *transport = probe_socket_new(e, h, out);
  if (!transport) {
    return NULL;
  }
  if (h->tls) transport = probe_tls_new(transport, e, h);
  struct probe *probe = (struct probe *)mem_alloc(sizeof *probe);
  probe->epoll_fd = epoll_fd;
  probe->owner = owner;
  probe->transport = transport;
  if (probe_ready(probe, e, h, out)) {
    probe_free(probe);
    return NULL;
  }
  return probe;
}

/* leave says goodbye, as far as that goes without waiting. */
static void leave(struct probe *probe) {
  struct probe_outcome ignored;
  if (probe->talk->ops->bye) {
    probe->talk->ops->bye(probe->talk);
    (void)push(probe, &ignored);
  }
  probe->talk->ops->free(probe->talk);
}

void probe_free(struct probe *probe) {
  if (probe->talk) leave(probe);
  probe->transport->ops->free(probe->transport);
  mem_free(probe);
}
