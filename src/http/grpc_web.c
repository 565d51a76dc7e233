/* grpc_web.c: words and frames of gRPC-Web (grpc_web.h). Called by proxy/grpc_web.c. */
#include "weir/http/grpc_web.h"

#define BARE SPAN_LIT("application/grpc")
#define BINARY SPAN_LIT("application/grpc-web")
#define TEXT SPAN_LIT("application/grpc-web-text")

enum { HEADER = 5, TRAILERS_FLAG = 0x80 };

static bool is_end(char c) { return c == ';' || c == ' ' || c == '\t'; }

/* cut takes off parameters. */
static struct span cut(struct span type) {
  size_t at = 0;
  while (at < type.len && !is_end(type.ptr[at])) at++;
  return span_sub(type, 0, at);
}

/* is tells whether a type, without parameters, is word, or word and a suffix. */
static bool is(struct span type, struct span word) {
  if (!span_eq_nocase(span_sub(type, 0, word.len), word)) return false;
  return type.len == word.len || type.ptr[word.len] == '+';
}

enum grpc_web grpc_web_of(struct span content_type) {
  struct span type = cut(content_type);
  if (is(type, TEXT)) return GRPC_WEB_TEXT;
  return is(type, BINARY) ? GRPC_WEB_BINARY : GRPC_WEB_NONE;
}

enum grpc_web grpc_web_accepted(struct span accept) {
  struct span rest = accept, one;
  while (span_next_token(&rest, ',', &one)) {
    enum grpc_web form = grpc_web_of(one);
    if (form != GRPC_WEB_NONE) return form;
  }
  return GRPC_WEB_NONE;
}

struct span grpc_web_type(enum grpc_web form) {
  switch (form) {
    case GRPC_WEB_NONE: return BARE;
    case GRPC_WEB_BINARY: return BINARY;
    case GRPC_WEB_TEXT: return TEXT;
  }
  return BARE;
}

struct span grpc_suffix(struct span content_type) {
  struct span type = cut(content_type);
  size_t at = span_find_char(type, '+', 0);
  return at == SIZE_MAX ? SPAN_EMPTY : span_from(type, at);
}

/* ---- the last frame ---- */

static size_t lines_len(const struct http_fields *rows) {
  size_t len = 0;
  for (uint32_t i = 0; i < rows->count; i++)
    if (http_field_written(&rows->rows[i]))
      len += rows->rows[i].name.len + rows->rows[i].value.len + 4;
  return len;
}

size_t grpc_web_trailers_len(const struct http_fields *rows) { return HEADER + lines_len(rows); }

void grpc_web_trailers_write(const struct http_fields *rows, struct buf *out) {
  size_t len = lines_len(rows);
  buf_char(out, (char)TRAILERS_FLAG);
  for (unsigned shift = 32; shift > 0; shift -= 8) buf_char(out, (char)(len >> (shift - 8)));
  for (uint32_t i = 0; i < rows->count; i++) {
    const struct http_field *row = &rows->rows[i];
    if (!http_field_written(row)) continue;
    for (size_t k = 0; k < row->name.len; k++) buf_char(out, ascii_lower(row->name.ptr[k]));
    buf_lit(out, ": ");
    buf_put(out, row->value);
    buf_lit(out, "\r\n");
  }
}

/* ---- messages ---- */

/* header takes a byte of a message's header: a flag, then the length. */
static void header(struct grpc_frames *f, char byte) {
  if (f->header == 0) f->size = 0;
  else f->size = f->size << 8 | (unsigned char)byte;
  if (++f->header < HEADER) return;
  f->header = 0;
  f->left = f->size;
}

void grpc_frames_take(struct grpc_frames *f, struct span bytes) {
  size_t at = 0;
  while (at < bytes.len) { /* each turn takes some */
    size_t rest = bytes.len - at;
    if (f->left == 0) {
      header(f, bytes.ptr[at++]);
    } else {
      uint32_t part = f->left < rest ? f->left : (uint32_t)rest;
      f->left -= part;
      at += part;
    }
  }
}
