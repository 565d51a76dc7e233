/* proxied_out.c: the PROXY header that tells an endpoint whose request comes (pools.*.
 * proxy_protocol): the client behind trusted proxies, what it connected to, and in version 2 what
 * it negotiated, or asked for, and an id. Called by attempt_take.c and mirror.c, once for each new
 * connection. */
#include "proxy_priv.h"
#include "weir/base/crypto.h"
#include "weir/io/tls_client_auth.h"

enum { VERSION_TEXT_MAX = 16, NAME_MAX_LEN = 255 };

/* local_of is what the client connected to: its own proxy's address, or ours. */
static struct addr local_of(const struct down *d) {
  struct addr to = {.len = 0};
  if (!d->proxied) return conn_local(d->conn, &to) ? to : (struct addr){.len = 0};
  peer_addr(&d->proxied->to, &to);
  return to;
}

void proxied_draw_id(char *to) {
  static const char hex[] = "0123456789abcdef";
  uint8_t random[PROXIED_ID_BYTES];
  crypto_random(random, sizeof random);
  for (size_t i = 0; i < sizeof random; i++) {
    to[2 * i] = hex[random[i] >> 4];
    to[2 * i + 1] = hex[random[i] & 15];
  }
}

/* made_id: empty: there is no room. */
static struct span made_id(struct stream *s) {
  char *to = arena_bytes(&s->arena, 2 * PROXIED_ID_BYTES);
  if (!to) return SPAN_EMPTY;
  proxied_draw_id(to);
  return span_of(to, 2 * PROXIED_ID_BYTES);
}

/* settle_id: all connections of a request have the same one, and the log. A chain of proxies keeps
 * that of the first. */
static struct span settle_id(struct stream *s) {
  struct span *id = &s->x->unique_id;
  if (!id->len) *id = proxied_id_of(s->down);
  if (!id->len && !(s->flags & STREAM_TCP)) *id = filter_trace_id(&s->x->req);
  if (!id->len) *id = made_id(s);
  return *id;
}

/* whole: a name that does not fit is left out; half of it would be another one. */
static struct span whole(struct span name) { return name.len <= NAME_MAX_LEN ? name : SPAN_EMPTY; }

/* fill_hello: TLS that is passed on: what was asked for, and no word of what comes of it. */
static void fill_hello(struct proxy_header *h, const struct stream *s) {
  h->authority = s->x->req.host;
  h->alpn = s->x->alpn;
}

/* fill_tls: ALPN is the client's, as others send it (packaging/docs/proxy_protocol.md), the
 * version has the form "TLSv1.3". */
static void fill_tls(struct proxy_header *h, const struct down *d, struct buf *version) {
  struct tls_info info;
  if (!(d->flags & DOWN_TLS)) return;
  conn_tls_info(d->conn, &info);
  buf_lit(version, "TLSv");
  buf_put(version, info.version);
  h->alpn = info.alpn;
  h->authority = info.sni;
  h->has_ssl = true;
  const struct tls_identity *who = conn_tls_identity(d->conn);
  unsigned shown = info.resumed ? PROXY_SSL_CERT_SESS : PROXY_SSL_CERT_CONN | PROXY_SSL_CERT_SESS;
  h->ssl = (struct proxy_ssl){.client = (uint8_t)(PROXY_SSL_TLS | (who ? shown : 0)),
                              .verify = who ? 0 : 1, /* 1: it showed no certificate */
                              .cn = who ? whole(who->name) : SPAN_EMPTY,
                              .version = buf_span(version),
                              .cipher = info.cipher};
}

/* fill_elements is what version 2 alone has room for, as far as tlvs has it. An id is drawn only
 * for those who are told. False: no memory for it. */
static bool fill_elements(struct proxy_header *h, struct stream *s, unsigned tlvs,
                          struct buf *version) {
  bool id = tlvs & PROXY_TLV_UNIQUE_ID;
  h->checksum = true;
  if (id) h->unique_id = settle_id(s);
  if (s->flags & STREAM_TCP) fill_hello(h, s);
  fill_tls(h, s->down, version);
  proxy_header_keep(h, tlvs);
  return !id || h->unique_id.len > 0;
}

bool proxied_write(struct stream *s, const struct pool *pool, struct buf *out) {
  char room[VERSION_TEXT_MAX];
  struct buf version = buf_of(room, sizeof room);
  struct proxy_header h = {.version = pool->connections.proxied,
                           .src = s->x->ctx.client_addr,
                           .dst = local_of(s->down)};
  unsigned tlvs = pool->connections.tlvs;
  if (h.version == 2 && !fill_elements(&h, s, tlvs, &version)) return false;
  return proxy_header_write(out, &h);
}
