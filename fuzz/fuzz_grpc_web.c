/* fuzz_grpc_web.c: bodies of gRPC-Web (http/grpc_web.c, http/base64.c). The first byte says how
 * pieces are cut. Checked: base64 that is written reads as it was, however it is cut and whatever
 * padded groups stand in it; any text gives the same however it is cut; message boundaries do not
 * depend on pieces; the last frame is one message. */
#include "weir/http/base64.h"
#include "weir/http/grpc_web.h"

#define MOST 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* read_all reads text in pieces; false: bad, or cut off. */
static bool read_all(struct span text, size_t piece, size_t room, struct buf *all) {
  struct base64_in in = {0};
  char bytes[64];
  for (size_t at = 0; at < text.len;) {
    size_t used = 0;
    struct buf out = buf_of(bytes, room);
    if (!base64_read(&in, span_sub(text, at, piece), &used, &out)) return false;
    check(used > 0 && !out.full);
    buf_put(all, buf_span(&out));
    at += used;
  }
  return base64_whole(&in);
}

static void one_text(struct span text, size_t piece, size_t room) {
  static char a[MOST], b[MOST];
  struct buf whole = buf_of(a, sizeof a), cut = buf_of(b, sizeof b);
  bool good = read_all(text, text.len + 1, 64, &whole);
  check(read_all(text, piece, room, &cut) == good && !whole.full && !cut.full);
  if (good) check(span_eq(buf_span(&whole), buf_span(&cut)));
}

static void round_trip(struct span bytes, size_t piece, size_t room) {
  static char a[2 * MOST], b[MOST];
  struct buf text = buf_of(a, sizeof a), back = buf_of(b, sizeof b);
  size_t half = bytes.len / 2; /* two bodies, one behind the other */
  base64_write(span_sub(bytes, 0, half), &text);
  base64_write(span_from(bytes, half), &text);
  check(!text.full && text.len == base64_len(half) + base64_len(bytes.len - half));
  check(read_all(buf_span(&text), piece, room, &back));
  check(span_eq(buf_span(&back), bytes));
}

static void frames(struct span body, size_t piece) {
  struct grpc_frames whole = {0}, cut = {0};
  grpc_frames_take(&whole, body);
  for (size_t at = 0; at < body.len; at += piece)
    grpc_frames_take(&cut, span_sub(body, at, piece));
  check(whole.left == cut.left && whole.header == cut.header);
}

static void last_frame(struct span text) {
  static char room[2 * MOST];
  size_t half = text.len / 2;
  struct http_field row = {.name = span_sub(text, 0, half), .value = span_from(text, half)};
  const struct http_fields rows = {.rows = &row, .count = 1};
  struct buf out = buf_of(room, sizeof room);
  struct grpc_frames at = {0};
  grpc_web_trailers_write(&rows, &out);
  check(!out.full && out.len == grpc_web_trailers_len(&rows) && out.ptr[0] == (char)0x80);
  grpc_frames_take(&at, span_sub(buf_span(&out), 0, out.len - 1));
  check(!grpc_frames_between(&at));
  grpc_frames_take(&at, span_from(buf_span(&out), out.len - 1));
  check(grpc_frames_between(&at));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  struct span text = span_sub(span_of((const char *)data + 1, len - 1), 0, MOST - 3);
  size_t piece = 1 + (data[0] & 15u), room = 3 + (size_t)(data[0] >> 4);
  one_text(text, piece, room);
  round_trip(text, piece, room);
  frames(text, piece);
  last_frame(text);
  enum grpc_web form = grpc_web_of(text);
  check(form == GRPC_WEB_NONE || grpc_suffix(text).len + grpc_web_type(form).len <= text.len);
  return 0;
}
