/* probe_tls.c: the transport of a check that is TLS, on another transport: by the policy of the
 * pool, with the verification that requests have (io/tls_client.h). Each check shakes hands anew.
 * Does not: wait (probe.c), choose protocols. */
#include <sys/epoll.h>

#include "control/probe_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls_client.h"

#define WIRE_MAX 16384u
#define ROUNDS_MAX 16u /* of bytes that bring nothing on: then other checks get their turn */

/* probe_tls is a transport; base comes first. */
struct probe_tls {
  struct probe_transport base;
  struct probe_transport *below;
  struct tls_line *line;
  bool connected;
  char wire[WIRE_MAX];
};

static struct probe_tls *of(struct probe_transport *t) { return (struct probe_tls *)t; }

static enum probe_io failed(struct probe_tls *p, struct probe_outcome *out) {
  struct span why;
  enum end end = tls_line_end(p->line, &why);
  probe_end(out, PROBE_TLS, SPAN_FMT "%s" SPAN_FMT "%s", SPAN_ARG(end_get(end)->word),
            why.len ? " (" : "", SPAN_ARG(why), why.len ? ")" : "");
  return PROBE_IO_FAILED;
}

/* cut: the transport below ended inside the handshake; what is weir's own trouble stays so. */
static enum probe_io cut(struct probe_outcome *out, enum probe_io io) {
  bool reset = io == PROBE_IO_FAILED;
  if (reset && out->result != PROBE_RESET) return io;
  enum end end = reset ? END_UPSTREAM_TLS_RESET : END_UPSTREAM_TLS_CLOSED;
  probe_end(out, PROBE_TLS, SPAN_FMT, SPAN_ARG(end_get(end)->word));
  return PROBE_IO_FAILED;
}

/* again wants what the transport below does, as its descriptor is ours. */
static enum probe_io again(struct probe_tls *p, uint32_t besides) {
  p->base.wants = p->below->wants | besides;
  return PROBE_IO_AGAIN;
}

/* flush sends what is to be sent. */
static enum probe_io flush(struct probe_tls *p, struct probe_outcome *out) {
  for (struct span left; (left = tls_line_out(p->line)).len;) { /* each turn takes some */
    size_t moved = 0;
    enum probe_io io = p->below->ops->write(p->below, left, &moved, out);
    if (io != PROBE_IO_OK) return io;
    tls_line_sent(p->line, moved);
  }
  return PROBE_IO_OK;
}

/* fill reads once from below. */
static enum probe_io fill(struct probe_tls *p, struct probe_outcome *out) {
  size_t moved = 0;
  enum probe_io io =
      p->below->ops->read(p->below, buf_of(p->wire, sizeof p->wire), &moved, out);
  if (io == PROBE_IO_OK) tls_line_in(p->line, span_of(p->wire, moved));
  return io;
}

static enum probe_io shake(struct probe_tls *p, struct probe_outcome *out) {
  for (uint32_t i = 0; i < ROUNDS_MAX; i++) { /* each turn takes bytes that came */
    enum tls_line_step is = tls_line_shake(p->line);
    enum probe_io io = flush(p, out); /* of a failure, its alert */
    if (is == TLS_LINE_FAILED) return failed(p, out);
    if (is == TLS_LINE_END) return cut(out, PROBE_IO_EOF);
    if (io == PROBE_IO_FAILED) return cut(out, io);
    uint32_t besides = io == PROBE_IO_AGAIN ? EPOLLOUT : 0;
    if (is == TLS_LINE_OK) return PROBE_IO_OK; /* what is left goes with the first write */
    io = fill(p, out);
    if (io == PROBE_IO_AGAIN) return again(p, besides);
    if (io != PROBE_IO_OK) return cut(out, io);
  }
  return again(p, EPOLLIN | EPOLLOUT);
}

static enum probe_io tls_open(struct probe_transport *t, struct probe_outcome *out) {
  struct probe_tls *p = of(t);
  if (!p->connected) {
    enum probe_io io = p->below->ops->open(p->below, out);
    if (io == PROBE_IO_AGAIN) return again(p, 0);
    if (io != PROBE_IO_OK) return io;
    p->connected = true;
    t->late = PROBE_TLS;
    t->doing = "upstream.tls.timeout: TLS handshake";
  }
  enum probe_io io = shake(p, out);
  if (io == PROBE_IO_OK) t->h2 = tls_line_h2(p->line);
  return io;
}

/* tls_write: what the socket does not take now goes before what comes next. */
static enum probe_io tls_write(struct probe_transport *t, struct span bytes, size_t *moved,
                               struct probe_outcome *out) {
  struct probe_tls *p = of(t);
  enum probe_io io = flush(p, out);
  if (io == PROBE_IO_AGAIN) return again(p, 0);
  if (io != PROBE_IO_OK) return io;
  if (tls_line_write(p->line, bytes) != TLS_LINE_OK) return failed(p, out);
  *moved = bytes.len;
  return flush(p, out) == PROBE_IO_FAILED ? PROBE_IO_FAILED : PROBE_IO_OK;
}

/* tls_read: whether the end came with close_notify is all the same: no end passes a check. */
static enum probe_io tls_read(struct probe_transport *t, struct buf room, size_t *moved,
                              struct probe_outcome *out) {
  struct probe_tls *p = of(t);
  enum probe_io sent = flush(p, out);
  if (sent == PROBE_IO_FAILED) return sent;
  for (uint32_t i = 0; i < ROUNDS_MAX; i++) { /* each turn takes bytes that came */
    switch (tls_line_read(p->line, room, moved)) {
      case TLS_LINE_OK: return PROBE_IO_OK;
      case TLS_LINE_END: return PROBE_IO_EOF;
      case TLS_LINE_FAILED: return failed(p, out);
      case TLS_LINE_MORE: break;
    }
    enum probe_io io = fill(p, out);
    if (io == PROBE_IO_AGAIN) return again(p, sent == PROBE_IO_AGAIN ? EPOLLOUT : 0);
    if (io != PROBE_IO_OK) return io;
  }
  return again(p, EPOLLIN | EPOLLOUT);
}

static void tls_free(struct probe_transport *t) {
  struct probe_tls *p = of(t);
  struct probe_outcome ignored;
  tls_line_bye(p->line);
  if (p->connected) (void)flush(p, &ignored);
  tls_line_free(p->line);
  p->below->ops->free(p->below);
  mem_free(p);
}

static const struct probe_transport_ops tls_ops = {
    .open = tls_open, .write = tls_write, .read = tls_read, .free = tls_free};

static enum tls_offer offer_of(const struct pool_health *h) {
  switch ((enum health_protocol)h->protocol) {
    case HEALTH_HTTP_1_1: return TLS_OFFER_HTTP_1_1;
    case HEALTH_GRPC: return TLS_OFFER_H2;
    case HEALTH_HTTP:
    case HEALTH_TCP: break;
  }
  return TLS_OFFER_POLICY;
}

struct probe_transport *probe_tls_new(struct probe_transport *below, const struct endpoint *e,
                                      const struct pool_health *h) {
  struct probe_tls *p = (struct probe_tls *)mem_alloc(sizeof *p);
  struct span host = SPAN_EMPTY;
  uint16_t port = 0;
  if (addr_split(e->text, &host, &port) != ADDR_NAME) host = SPAN_EMPTY;
  p->base = (struct probe_transport){.ops = &tls_ops,
                                     .fd = below->fd,
                                     .secure = true,
                                     .late = below->late,
                                     .doing = below->doing};
  p->below = below;
  p->line = tls_line_new(h->tls, host, &e->addr, offer_of(h));
  return &p->base;
}
