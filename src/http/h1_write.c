/* h1_write.c: HTTP/1.1 heads and chunk lines into a bounded buffer (RFC 9112). Writes only what
 * was understood: framing and Host come from the parsed message, and no byte that could end a line
 * gets out, whoever made the text. Called by proxy/ for both sides. */
#include "bytes_priv.h"
#include "weir/http/h1.h"

static bool refuse(struct buf *b) {
  b->full = true;
  return false;
}

static bool is_target(struct span s) {
  return s.len == 0 || bytes_target_end(s.ptr, 0, s.len) == s.len;
}

bool h1_write_request_line(struct buf *b, struct span method, struct span path,
                           const struct span *query, unsigned minor) {
  if (!http_is_token(method) || path.len == 0 || !is_target(path)) return refuse(b);
  if (query != NULL && !is_target(*query)) return refuse(b);
  buf_put(b, method);
  buf_char(b, ' ');
  buf_put(b, path);
  if (query != NULL) {
    buf_char(b, '?');
    buf_put(b, *query);
  }
  if (minor == 0)
    buf_lit(b, " HTTP/1.0\r\n");
  else
    buf_lit(b, " HTTP/1.1\r\n");
  return !b->full;
}

bool h1_write_status_line(struct buf *b, unsigned status, struct span reason) {
  if (status < 100 || status > 999 || !http_is_value(reason)) return refuse(b);
  buf_lit(b, "HTTP/1.1 ");
  buf_u64(b, status);
  buf_char(b, ' ');
  buf_put(b, reason);
  buf_lit(b, "\r\n");
  return !b->full;
}

static void put_row(struct buf *b, struct span name, struct span value) {
  buf_put(b, name);
  buf_lit(b, ": ");
  buf_put(b, value);
  buf_lit(b, "\r\n");
}

/* Rows were checked when they were made; that none ends its line early is seen to here once more,
 * over the bytes written. */
void h1_write_fields(struct buf *b, const struct http_fields *fields) {
  for (uint32_t i = 0; i < fields->count && !b->full; i++) {
    const struct http_field *row = &fields->rows[i];
    if (!http_field_written(row)) continue;
    size_t from = b->len;
    put_row(b, row->name, row->value);
    if (b->full) return;
    size_t end = b->len - H1_CRLF.len;
    if (row->name.len == 0 || bytes_value_end(b->ptr, from, end) != end) {
      b->len = from;
      refuse(b);
    }
  }
}

bool h1_write_field(struct buf *b, struct span name, struct span value) {
  if (!http_is_token(name) || !http_is_value(value)) return refuse(b);
  put_row(b, name, value);
  return !b->full;
}

void h1_write_framing(struct buf *b, enum http_body body, uint64_t content_length) {
  switch (body) {
    case HTTP_BODY_LENGTH:
      buf_lit(b, "Content-Length: ");
      buf_u64(b, content_length);
      buf_lit(b, "\r\n");
      break;
    case HTTP_BODY_CHUNKED: buf_lit(b, "Transfer-Encoding: chunked\r\n"); break;
    case HTTP_BODY_NONE:
    case HTTP_BODY_CLOSE:
    case HTTP_BODY_TUNNEL: break;
  }
}

bool h1_write_host(struct buf *b, struct span host, unsigned port) {
  if (!is_target(host)) return refuse(b);
  buf_lit(b, "Host: ");
  buf_put(b, host);
  if (port != 0) {
    buf_char(b, ':');
    buf_u64(b, port);
  }
  buf_lit(b, "\r\n");
  return !b->full;
}

void h1_write_last_chunk(struct buf *b, const struct http_fields *trailers) {
  buf_lit(b, "0\r\n");
  h1_write_fields(b, trailers);
  buf_lit(b, "\r\n");
}

void h1_write_chunk_head(struct buf *b, uint64_t size) {
  check(size != 0); /* it would end the body */
  buf_hex(b, size);
  buf_lit(b, "\r\n");
}
