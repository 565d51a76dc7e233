/* trailer.c: trailer sections on their way: gathered while a body is decoded, judged at its end,
 * sent behind it, in a chunked body or as a section of HTTP/2. What may stand in one is http/'s;
 * a field that the route's policies take out of heads is taken out here too. RFC 9110 section
 * 6.5. */
#include "proxy_priv.h"
#include "weir/http/trailer.h"

static bool is_request(const struct stream *s, const struct pump *p) { return p == &s->up_body; }

static struct trailers *of(struct stream *s, const struct pump *p) {
  return is_request(s, p) ? &s->x->up_trailers : &s->x->down_trailers;
}

bool trailers_wanted(const struct stream *s) {
  if (s->flags & STREAM_H2) return true; /* they are a part of its messages */
  if (s->x->call.web.response) return true; /* they come in its body */
  return s->x->req.minor > 0 && http_takes_trailers(&s->x->req.fields);
}

bool trailers_gather(struct stream *s, struct pump *p, struct span consumed, enum end *why) {
  const struct h1_chunked *c = is_request(s, p) ? &s->x->up_chunked : &s->x->down_chunked;
  struct span lines = h1_chunked_lines(c, consumed);
  bool read = is_request(s, p) || trailers_wanted(s) || s->flags & STREAM_GRPC;
  if (!lines.len || !read) return true;
  if (head_append(&s->arena, &of(s, p)->lines, lines, H1_TRAILER_LINES_MAX) == lines.len)
    return true;
  *why = END_LIMIT_STREAM_MEMORY;
  return false;
}

void trailers_take(struct stream *s, struct pump *p, const struct http_fields *rows) {
  if (!is_request(s, p)) grpc_trailers(s, rows); /* weir reads them whoever else does */
  if (!is_request(s, p) && !trailers_wanted(s)) return;
  struct trailers *t = of(s, p);
  t->rows = *rows;
  filter_trailers(&s->x->ctx, &t->rows, is_request(s, p));
}

void trailers_routed(struct stream *s) {
  if (s->x->up_trailers.rows.count) filter_trailers(&s->x->ctx, &s->x->up_trailers.rows, true);
}

bool trailers_parse(struct stream *s, struct pump *p, enum end *why) {
  bool request = is_request(s, p);
  const struct h1_trailer_lines in = {
      .lines = buf_span(&of(s, p)->lines),
      .side = request ? H1_REQUEST : H1_RESPONSE,
      .head = request ? &s->x->req.fields : &s->x->resp.fields};
  struct http_fields rows;
  if (!in.lines.len) return true;
  if (!h1_parse_trailers(&in, &s->arena, &rows, why)) return false;
  trailers_take(s, p, &rows);
  return true;
}

bool trailers_any(const struct stream *s, const struct pump *p) {
  return http_trailers_any(is_request(s, p) ? &s->x->up_trailers.rows : &s->x->down_trailers.rows);
}

/* LAST_ROOM: "0 CRLF CRLF", and ": " and CRLF of each row. */
#define LAST_ROOM (H1_TRAILER_BYTES_MAX + 4u * H1_TRAILER_COUNT_MAX + 8u)

bool trailers_end(struct stream *s, struct pump *p, struct conn *sink) {
  const struct http_fields *rows = &of(s, p)->rows;
  bool any = http_trailers_any(rows);
  if (!is_request(s, p) && s->x->call.web.live) return web_end(s, sink, rows);
  if (sink->flags & CONN_CARRIED) return !any || h2_send_trailers(h2_stream_of(sink), rows);
  if (p->to != HTTP_BODY_CHUNKED) return true;
  if (!any) return conn_write(sink, H1_LAST_CHUNK);
  struct buf *out = conn_out(sink, LAST_ROOM);
  if (!out) return false;
  h1_write_last_chunk(out, rows);
  conn_flush(sink);
  return !out->full;
}
