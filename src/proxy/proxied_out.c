/* proxied_out.c: the PROXY header that tells an endpoint whose request comes (pools.*.
 * proxy_protocol): the client behind trusted proxies, what it connected to, and in version 2 what
 * it negotiated. Called by attempt_take.c and mirror.c, once for each new connection. */
#include "proxy_priv.h"
#include "weir/http/proxy_header.h"
#include "weir/io/tls_client_auth.h"

enum { VERSION_TEXT_MAX = 16 };

/* local_of is what the client connected to: its own proxy's address, or ours. */
static struct addr local_of(const struct down *d) {
  struct addr to = {.len = 0};
  if (!d->proxied) return conn_local(d->conn, &to) ? to : (struct addr){.len = 0};
  peer_addr(&d->proxied->to, &to);
  return to;
}

/* fill_tls: ALPN is what is spoken on the connection that the header begins, the version has the
 * form "TLSv1.3". */
static void fill_tls(struct proxy_header *h, const struct down *d, struct buf *version) {
  struct tls_info info;
  if (!(d->flags & DOWN_TLS)) return;
  conn_tls_info(d->conn, &info);
  buf_lit(version, "TLSv");
  buf_put(version, info.version);
  if (info.alpn.len) h->alpn = SPAN_LIT("http/1.1");
  h->authority = info.sni;
  h->has_ssl = true;
  const struct tls_identity *who = conn_tls_identity(d->conn);
  unsigned shown = info.resumed ? PROXY_SSL_CERT_SESS : PROXY_SSL_CERT_CONN | PROXY_SSL_CERT_SESS;
  h->ssl = (struct proxy_ssl){.client = (uint8_t)(PROXY_SSL_TLS | (who ? shown : 0)),
                              .verify = who ? 0 : 1, /* 1: it showed no certificate */
                              .cn = who ? who->name : SPAN_EMPTY,
                              .version = buf_span(version),
                              .cipher = info.cipher};
}

bool proxied_write(const struct stream *s, const struct pool *pool, struct buf *out) {
  char room[VERSION_TEXT_MAX];
  struct buf version = buf_of(room, sizeof room);
  struct proxy_header h = {.version = pool->connections.proxied,
                           .src = s->x->ctx.client_addr,
                           .dst = local_of(s->down),
                           .unique_id = filter_trace_id(&s->x->req)};
  fill_tls(&h, s->down, &version);
  return proxy_header_write(out, &h);
}

struct buf *proxied_room(const struct pool *pool, struct conn *c, size_t room) {
  return pool->tls ? tls_clear(c, room) : conn_out(c, room);
}
