/* request.c: a request head from the client's bytes, and what is sent upstream of it. Head bytes
 * are copied once into the stream's arena, so that no receive buffer is held for a request.
 * Framing rules are http/'s. RFC 9112. */
#include "proxy_priv.h"
#include "weir/http/trailer.h"

/* HEAD_FIRST is room for a head that did not come whole. */
#define HEAD_FIRST 1024u

/* head_room makes room for more bytes behind what came, within the limit and one more byte, so
 * that the parser can see that the limit was passed. */
static bool head_room(struct arena *arena, struct buf *in, size_t more, uint32_t limit) {
  if (buf_room(in) >= more) return true;
  size_t want = in->len + more;
  if (in->len && want < 2 * in->cap) want = 2 * in->cap;
  if (want > (size_t)limit + 1) want = (size_t)limit + 1;
  if (want < in->len + more) return false;
  char *bytes = arena_bytes(arena, want);
  if (!bytes) return false;
  struct buf grown = buf_of(bytes, want);
  buf_put(&grown, buf_span(in));
  *in = grown;
  return true;
}

size_t head_append(struct arena *arena, struct buf *in, struct span bytes, uint32_t limit) {
  size_t most = (size_t)limit + 1 - in->len;
  struct span take = span_sub(bytes, 0, most);
  if (!head_room(arena, in, take.len, limit)) return 0;
  buf_put(in, take);
  return take.len;
}

static void head_done(struct stream *s) {
  s->flags |= STREAM_PARSED;
  s->t_head = now_ns(s->w);
  if (s->down->flags & DOWN_OWING) room_leave(s->down); /* it came in parts */
  s->x->scan = (struct h1_scan){0}; /* the response's from here on */
  body_request_init(s);
}

size_t request_data(struct stream *s, struct span bytes) {
  const struct listener_limits *l = &s->listener->limits;
  struct h1_limits limits = {l->header_bytes, l->headers, l->uri_bytes};
  size_t before = s->x->head_in.len;
  size_t took = head_append(&s->arena, &s->x->head_in, bytes, l->header_bytes);
  enum end why = END_LIMIT_STREAM_MEMORY;
  enum http_result r = HTTP_BAD;
  struct exchange *x = s->x;
  if (took)
    r = h1_parse_request(&x->scan, buf_span(&x->head_in), &limits, &s->arena, &x->req, &why);
  if (r == HTTP_MORE) {
    if (!timer_armed(&s->timer)) stream_timer(s);
    room_owes(s->down);
    return took;
  }
  if (r == HTTP_BAD) {
    stream_fail(s, why);
    return bytes.len;
  }
  if (!(s->down->flags & DOWN_TLS) && !(s->listener->protocols & LISTENER_HTTP_1_1)) {
    stream_fail(s, END_BAD_REQUEST_VERSION);
    return bytes.len;
  }
  size_t used = s->x->req.head_len - before;
  head_done(s);
  stream_go(s, STEP_ROUTE);
  return used;
}

static struct span own_host(const struct endpoint *e) {
  return e->addr.sa.sa_family == AF_UNIX ? SPAN_LIT("localhost") : e->text;
}

/* write_host: HTTP/1.0 may have come without one. */
static void write_host(const struct stream *s, const struct endpoint *e, struct buf *b) {
  const struct route_host *to = &s->route->host;
  const struct http_request *r = &s->x->req;
  if (to->name.len)
    h1_write_host(b, to->name, to->port);
  else if (r->host.len && !to->endpoint)
    h1_write_host(b, r->host, r->port);
  else
    h1_write_field(b, SPAN_LIT("Host"), own_host(e));
}

static void write_line_and_host(struct stream *s, const struct endpoint *e, struct buf *b) {
  struct http_request *r = &s->x->req;
  struct span path = s->x->ctx.forward_path.len ? s->x->ctx.forward_path : r->path;
  h1_write_request_line(b, r->method_text, path, r->has_query ? &r->query : NULL, 1);
  write_host(s, e, b);
}

/* write_fields: HTTP/1.1 has trailers behind chunks alone. Their announcement stays in the
 * request: the next attempt may be by HTTP/2. */
static void write_fields(const struct http_request *r, struct buf *b) {
  if (r->body == HTTP_BODY_CHUNKED || !http_fields_has(&r->fields, HTTP_NAME_TRAILER)) {
    h1_write_fields(b, &r->fields);
    return;
  }
  for (uint32_t i = 0; i < r->fields.count; i++) {
    const struct http_field *row = &r->fields.rows[i];
    if (row->id == HTTP_NAME_TRAILER) continue;
    if (http_field_written(row)) h1_write_field(b, row->name, row->value);
  }
}

bool request_copies(const struct http_field *row) {
  if (row->id == HTTP_NAME_EXPECT || row->id == HTTP_NAME_TRAILER) return false;
  return http_field_written(row);
}

/* write_framing: what is meant to have a content says that there is none (RFC 9110 section 8.6):
 * HTTP/2 has no need to, but servers of HTTP/1.1 answer 411 to who does not. */
static void write_framing(const struct http_request *r, enum http_body as, uint64_t len,
                          struct buf *b) {
  bool none = r->body == HTTP_BODY_NONE && http_method_content(r->method);
  if (none) h1_write_framing(b, HTTP_BODY_LENGTH, 0);
  else if (r->body != HTTP_BODY_NONE) h1_write_framing(b, as, len);
}

void request_write_copy(struct stream *s, const struct endpoint *e, uint64_t body_len,
                        struct buf *b) {
  write_line_and_host(s, e, b);
  for (uint32_t i = 0; i < s->x->req.fields.count; i++) {
    const struct http_field *row = &s->x->req.fields.rows[i];
    if (request_copies(row)) h1_write_field(b, row->name, row->value);
  }
  write_framing(&s->x->req, HTTP_BODY_LENGTH, body_len, b);
  if (http_takes_trailers(&s->x->req.fields)) buf_lit(b, "Connection: TE\r\nTE: trailers\r\n");
  buf_lit(b, "\r\n");
}

bool request_send_h2(struct stream *s, const struct endpoint *e, struct h2_stream *st, bool last) {
  const struct route_host *to = &s->route->host;
  const struct http_request *r = &s->x->req;
  struct h2_request_head head = {.request = r, .path = s->x->ctx.forward_path};
  bool secure = s->down->flags & DOWN_TLS || s->pool->tls; /* Apache httpd compares */
  head.scheme = secure ? HTTP_SCHEME_HTTPS : HTTP_SCHEME_HTTP;
  if (to->name.len) {
    head.host = to->name;
    head.port = to->port;
  } else if (to->endpoint || !r->host.len) {
    head.host = own_host(e);
  }
  return h2_send_request(st, &head, &s->arena, last);
}

static void write_upgrade(const struct stream *s, struct buf *b) {
  buf_lit(b, "Connection: upgrade\r\nUpgrade: ");
  buf_put(b, s->x->req.upgrade);
  buf_lit(b, "\r\n");
  if (s->x->ws == WS_NONE) return;
  h1_write_field(b, SPAN_LIT("Sec-WebSocket-Key"), span_of(s->x->ws_key, sizeof s->x->ws_key));
}

/* request_write_head writes the head that goes upstream: what was understood, not what came. */
void request_write_head(struct stream *s, const struct endpoint *e, struct buf *b) {
  struct http_request *r = &s->x->req;
  write_line_and_host(s, e, b);
  write_fields(r, b);
  write_framing(r, r->body, r->content_length, b);
  if (r->upgrade.len) write_upgrade(s, b);
  else if (http_takes_trailers(&r->fields)) buf_lit(b, "Connection: TE\r\nTE: trailers\r\n");
  buf_lit(b, "\r\n");
}
