/* redirect.c: the Location of a redirect: as written, or the request's URL with some parts
 * replaced. It is an absolute URL then, so that a path that begins with "//" names no other host.
 * Host, path and query are canonical and checked (http/uri.h). RFC 9110 section 10.2.2. */
#include "proxy_priv.h"

static bool is_https(const struct stream *s, const struct route_redirect *to) {
  switch ((enum redirect_scheme)to->scheme) {
    case REDIRECT_HTTP: return false;
    case REDIRECT_HTTPS: return true;
    case REDIRECT_SAME: break;
  }
  return s->down->flags & DOWN_TLS;
}

/* port_of is the port to be written; 0: none. */
static unsigned port_of(const struct stream *s, const struct route_redirect *to, bool https) {
  bool same = !to->host.len && https == (bool)(s->down->flags & DOWN_TLS);
  unsigned port = to->port;
  if (!port && same) port = s->x->req.port;
  return port == (https ? 443 : 80) ? 0 : port;
}

static void put_path(const struct stream *s, const struct route_redirect *to, struct buf *b) {
  struct span path = s->x->req.path;
  if (to->path.len) {
    buf_put(b, to->path);
  } else if (to->prefix.len && span_starts(path, s->route->path)) {
    struct span rest = span_from(path, s->route->path.len > 1 ? s->route->path.len : 0);
    if (to->prefix.len > 1 || !rest.len) buf_put(b, to->prefix);
    buf_put(b, rest);
  } else {
    buf_put(b, span_starts(path, SPAN_LIT("/")) ? path : SPAN_LIT("/"));
  }
}

static void put_query(const struct stream *s, const struct route_redirect *to, struct buf *b) {
  if (!to->query || !s->x->req.has_query) return;
  buf_char(b, '?');
  buf_put(b, s->x->req.query);
}

static void put_url(const struct stream *s, const struct route_redirect *to, struct buf *b) {
  bool https = is_https(s, to);
  unsigned port = port_of(s, to, https);
  buf_put(b, https ? SPAN_LIT("https://") : SPAN_LIT("http://"));
  buf_put(b, to->host.len ? to->host : s->x->req.host);
  if (port) {
    buf_char(b, ':');
    buf_u64(b, port);
  }
  put_path(s, to, b);
}

enum end redirect_location(struct stream *s, struct span *out) {
  const struct route_redirect *to = &s->route->redirect;
  if (!to->to.len && !to->host.len && !s->x->req.host.len) return END_BAD_REQUEST_HOST_MISSING;
  size_t room = to->to.len + to->host.len + to->prefix.len + to->path.len + s->x->req.host.len +
                s->x->req.path.len + s->x->req.query.len + 32;
  char *bytes = arena_bytes(&s->arena, room);
  struct buf b = buf_of(bytes, bytes ? room : 0);
  if (to->to.len)
    buf_put(&b, to->to);
  else
    put_url(s, to, &b);
  put_query(s, to, &b);
  if (b.full) return END_LIMIT_STREAM_MEMORY;
  arena_shrink(&s->arena, bytes, room, b.len);
  *out = buf_span(&b);
  return END_OK;
}
