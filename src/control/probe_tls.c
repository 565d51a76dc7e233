/* probe_tls.c: the transport of a check that is TLS over another one: the policy of its pool, as
 * the data path has it (io/tls_talk.h), with a handshake of its own for each check. Failures have
 * the data path's words. Does not: wait (probe.c), keep sessions, count handshakes. */
#include <sys/epoll.h>

#include "control/probe_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls_talk.h"

#define ROUNDS_MAX 16u /* of bytes that bring nothing on: then others get their turn */

/* probe_tls is a transport; base comes first. */
struct probe_tls {
  struct probe_transport base;
  struct probe_transport *below;
  struct tls_talk *talk;
  bool begun; /* below is open */
};

static struct probe_tls *of(struct probe_transport *t) { return (struct probe_tls *)t; }

/* ---- causes ---- */

static enum probe_io failed(struct probe_outcome *out, enum end end, struct span why) {
  const struct end_row *row = end_get(end);
  if (!why.len) why = row->detail;
  probe_end(out, PROBE_TLS, SPAN_FMT ": " SPAN_FMT, SPAN_ARG(row->word), SPAN_ARG(why));
  return PROBE_IO_FAILED;
}

/* refused: the library says no; once it was open it may have no word of ours for it. */
static enum probe_io refused(struct probe_tls *p, struct probe_outcome *out) {
  struct span why;
  enum end end = tls_talk_end(p->talk, &why);
  return failed(out, end == END_OK ? END_UPSTREAM_TLS_HANDSHAKE : end, why);
}

/* cut: the transport below ended inside the handshake. */
static enum probe_io cut(struct probe_outcome *out, enum probe_io io) {
  if (io == PROBE_IO_FAILED && out->result != PROBE_RESET) return io;
  return failed(out, END_UPSTREAM_TLS_CLOSED,
                io == PROBE_IO_FAILED ? SPAN_LIT("connection reset") : SPAN_EMPTY);
}

/* ---- bytes ---- */

static enum probe_io again(struct probe_tls *p, uint32_t wants) {
  p->base.wants = wants;
  return PROBE_IO_AGAIN;
}

/* flush sends what there is; OK: all of it. */
static enum probe_io flush(struct probe_tls *p, struct probe_outcome *out) {
  for (struct span left; (left = tls_talk_output(p->talk)).len;) { /* each turn takes some */
    size_t moved = 0;
    enum probe_io io = p->below->ops->write(p->below, left, &moved, out);
    if (io == PROBE_IO_AGAIN) return again(p, p->below->wants);
    if (io != PROBE_IO_OK) return io;
    tls_talk_sent(p->talk, moved);
  }
  return PROBE_IO_OK;
}

/* fill reads ciphertext once. */
static enum probe_io fill(struct probe_tls *p, struct probe_outcome *out) {
  size_t moved = 0;
  enum probe_io io = p->below->ops->read(p->below, tls_talk_room(p->talk), &moved, out);
  if (io == PROBE_IO_AGAIN) return again(p, p->below->wants);
  if (io == PROBE_IO_OK) tls_talk_took(p->talk, moved);
  return io;
}

/* ---- operations ---- */

/* shake goes on with the handshake as far as bytes reach. An alert of ours goes out, if it can. */
static enum probe_io shake(struct probe_tls *p, struct probe_outcome *out) {
  struct probe_outcome ignored;
  for (uint32_t i = 0; i < ROUNDS_MAX; i++) {
    enum tls_step step = tls_talk_shake(p->talk, &p->base.h2);
    if (step == TLS_STEP_FAILED || step == TLS_STEP_END) {
      (void)flush(p, &ignored);
      return refused(p, out);
    }
    enum probe_io io = flush(p, out);
    if (io == PROBE_IO_OK && step == TLS_STEP_MORE) io = fill(p, out);
    else if (io == PROBE_IO_OK) return io;
    if (io == PROBE_IO_EOF || io == PROBE_IO_FAILED) return cut(out, io);
    if (io == PROBE_IO_AGAIN) return io;
  }
  return again(p, EPOLLIN | EPOLLOUT);
}

static enum probe_io tls_open(struct probe_transport *t, struct probe_outcome *out) {
  struct probe_tls *p = of(t);
  if (!p->begun) {
    enum probe_io io = p->below->ops->open(p->below, out);
    if (io == PROBE_IO_AGAIN) return again(p, p->below->wants);
    if (io != PROBE_IO_OK) return io;
    p->begun = true;
    t->late = PROBE_TLS;
    t->doing = "upstream.tls.timeout: the TLS handshake";
  }
  return shake(p, out);
}

/* tls_write: what was taken may still have to be sent: read sees to it. */
static enum probe_io tls_write(struct probe_transport *t, struct span bytes, size_t *moved,
                               struct probe_outcome *out) {
  struct probe_tls *p = of(t);
  enum probe_io io = flush(p, out);
  if (io != PROBE_IO_OK) return io;
  if (tls_talk_write(p->talk, bytes, moved) != TLS_STEP_DONE) return refused(p, out);
  io = flush(p, out);
  return io == PROBE_IO_AGAIN ? PROBE_IO_OK : io;
}

/* tls_read: that the end came without close_notify is all the same here: no end passes a check. */
static enum probe_io tls_read(struct probe_transport *t, struct buf room, size_t *moved,
                              struct probe_outcome *out) {
  struct probe_tls *p = of(t);
  for (uint32_t i = 0; i < ROUNDS_MAX; i++) {
    enum probe_io io = flush(p, out);
    uint32_t unsent = io == PROBE_IO_AGAIN ? t->wants : 0;
    if (io == PROBE_IO_FAILED) return io;
    switch (tls_talk_read(p->talk, room, moved)) {
      case TLS_STEP_DONE: return PROBE_IO_OK;
      case TLS_STEP_END: return PROBE_IO_EOF;
      case TLS_STEP_FAILED: return refused(p, out);
      case TLS_STEP_MORE: break;
    }
    io = fill(p, out);
    if (io == PROBE_IO_AGAIN) t->wants |= unsent;
    if (io != PROBE_IO_OK) return io;
  }
  return again(p, EPOLLIN | EPOLLOUT);
}

static void tls_free(struct probe_transport *t) {
  struct probe_tls *p = of(t);
  struct probe_outcome ignored;
  tls_talk_bye(p->talk);
  if (p->begun) (void)flush(p, &ignored);
  tls_talk_free(p->talk);
  p->below->ops->free(p->below);
  mem_free(p);
}

static const struct probe_transport_ops tls_ops = {
    .open = tls_open, .write = tls_write, .read = tls_read, .free = tls_free};

/* offer: what a check speaks; a connection alone is held to what the pool speaks. */
static enum tls_offer offer_of(const struct pool_health *h) {
  switch ((enum health_protocol)h->protocol) {
    case HEALTH_GRPC: return TLS_OFFER_H2;
    case HEALTH_HTTP_1_1: return TLS_OFFER_HTTP_1_1;
    case HEALTH_HTTP:
    case HEALTH_TCP: break;
  }
  return TLS_OFFER_POLICY;
}

struct probe_transport *probe_tls_new(struct probe_transport *below, const struct endpoint *e,
                                      const struct pool_health *h) {
  const struct tls_peer_conf conf = {
      .client = h->tls, .worker = TLS_CHECKS, .host = endpoint_host(e), .addr = &e->addr};
  struct tls_peer *peer = tls_peer_new(&conf);
  struct probe_tls *p = (struct probe_tls *)mem_alloc(sizeof *p);
  p->base = (struct probe_transport){.ops = &tls_ops,
                                     .fd = below->fd,
                                     .secure = true,
                                     .late = below->late,
                                     .doing = below->doing};
  p->below = below;
  p->talk = tls_talk_new(peer, offer_of(h));
  tls_peer_unref(peer);
  return &p->base;
}
