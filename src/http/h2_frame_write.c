/* h2_frame_write.c: HTTP/2 frames into a bounded buffer (RFC 9113 section 6): each whole or not at
 * all. Writes what it is told: whether a stream or window allows it is the connection's. */
#include "weir/http/h2_settings.h"

enum { ROW_LEN = 6, PING_LEN = 8, GOAWAY_LEN = 8 };

/* small is room for a frame of a few fixed bytes. */
struct small {
  char bytes[H2_HEAD_LEN + 8];
  size_t len;
};

static void put_be(struct small *s, uint32_t value, unsigned len) {
  for (unsigned i = len; i > 0; i--) s->bytes[s->len++] = (char)(value >> 8 * (i - 1) & 255);
}

static struct small head_of(const struct h2_frame *f) {
  struct small s = {.len = 0};
  check(f->length <= H2_FRAME_SIZE_MAX && f->stream <= H2_STREAM_MAX);
  put_be(&s, f->length, 3);
  put_be(&s, f->type, 1);
  put_be(&s, f->flags, 1);
  put_be(&s, f->stream, 4);
  return s;
}

static void put_small(struct buf *b, const struct small *s) {
  buf_put(b, span_of(s->bytes, s->len));
}

/* undo takes back what was written since `from` when the rest did not fit. */
static void undo(struct buf *b, size_t from) {
  if (b->full) b->len = from;
}

void h2_write_head(struct buf *b, const struct h2_frame *frame) {
  struct small s = head_of(frame);
  put_small(b, &s);
}

void h2_fill_head(struct buf *b, size_t at, const struct h2_frame *frame) {
  struct small s = head_of(frame);
  check(at <= b->len && b->len - at >= s.len);
  memcpy(b->ptr + at, s.bytes, s.len);
}

void h2_write_settings(struct buf *b, const struct h2_row *rows, size_t count) {
  size_t from = b->len;
  check(count <= H2_FRAME_SIZE_MIN / ROW_LEN);
  h2_write_head(b, &(struct h2_frame){.type = H2_SETTINGS, .length = (uint32_t)count * ROW_LEN});
  for (size_t i = 0; i < count; i++) {
    struct small s = {.len = 0};
    put_be(&s, rows[i].id, 2);
    put_be(&s, rows[i].value, 4);
    put_small(b, &s);
  }
  undo(b, from);
}

void h2_write_settings_ack(struct buf *b) {
  h2_write_head(b, &(struct h2_frame){.type = H2_SETTINGS, .flags = H2_FLAG_ACK});
}

void h2_write_ping(struct buf *b, bool ack, struct span opaque) {
  size_t from = b->len;
  check(opaque.len == PING_LEN);
  h2_write_head(
      b, &(struct h2_frame){.type = H2_PING, .flags = ack ? H2_FLAG_ACK : 0, .length = PING_LEN});
  buf_put(b, opaque);
  undo(b, from);
}

/* write_word writes a frame whose payload is one number. */
static void write_word(struct buf *b, enum h2_type type, uint32_t stream, uint32_t word) {
  struct small s =
      head_of(&(struct h2_frame){.type = (uint8_t)type, .stream = stream, .length = 4});
  put_be(&s, word, 4);
  put_small(b, &s);
}

void h2_write_window_update(struct buf *b, uint32_t stream, uint32_t increment) {
  check(increment > 0 && increment <= INT32_MAX);
  write_word(b, H2_WINDOW_UPDATE, stream, increment);
}

void h2_write_rst_stream(struct buf *b, uint32_t stream, enum h2_error error) {
  check(stream > 0);
  write_word(b, H2_RST_STREAM, stream, error);
}

void h2_write_goaway(struct buf *b, uint32_t last, enum h2_error error, struct span debug) {
  size_t from = b->len;
  debug = span_sub(debug, 0, H2_FRAME_SIZE_MIN - GOAWAY_LEN);
  struct small s =
      head_of(&(struct h2_frame){.type = H2_GOAWAY, .length = GOAWAY_LEN + (uint32_t)debug.len});
  check(last <= H2_STREAM_MAX);
  put_be(&s, last, 4);
  put_be(&s, error, 4);
  put_small(b, &s);
  buf_put(b, debug);
  undo(b, from);
}

void h2_write_block(struct buf *b, uint32_t stream, bool end_stream, struct span block,
                    uint32_t max_frame) {
  size_t from = b->len;
  struct h2_frame f = {.type = H2_HEADERS, .stream = stream};
  check(stream > 0 && max_frame >= H2_FRAME_SIZE_MIN);
  if (end_stream) f.flags = H2_FLAG_END_STREAM;
  do { /* each turn but the last writes max_frame bytes */
    struct span part = span_sub(block, 0, max_frame);
    block = span_from(block, part.len);
    f.length = (uint32_t)part.len;
    if (block.len == 0) f.flags |= H2_FLAG_END_HEADERS;
    h2_write_head(b, &f);
    buf_put(b, part);
    f.type = H2_CONTINUATION;
    f.flags = 0;
  } while (block.len > 0 && !b->full);
  undo(b, from);
}

void h2_write_data_head(struct buf *b, uint32_t stream, bool end_stream, uint32_t len) {
  check(stream > 0);
  h2_write_head(b, &(struct h2_frame){.type = H2_DATA,
                                      .stream = stream,
                                      .flags = end_stream ? H2_FLAG_END_STREAM : 0,
                                      .length = len});
}
