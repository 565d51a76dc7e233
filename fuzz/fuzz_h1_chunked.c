/* fuzz_h1_chunked.c: the chunked decoder (http/h1_chunked.c), and what drops the end of a body
 * with it (proxy/rest.c). Byte 0 picks the side and the cut; the rest is the body on the wire.
 * Checked: data points into the input, cutting and skipping change nothing, what was decoded reads
 * back from a body coded anew, a plain second decoder that works on the whole body agrees on what
 * is accepted, and whoever drops from anywhere on stops at the same byte for the same cause. */
#include <stdlib.h>

#include "proxy/proxy_priv.h"
#include "weir/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct decoded {
  enum http_result result;
  enum end why;
  size_t used;
  struct text data;
};

static struct decoded decode(struct span in, size_t piece, enum h1_side side, bool skip) {
  struct decoded out = {.result = HTTP_MORE};
  struct h1_chunked c;
  h1_chunked_init(&c, side);
  while (out.used < in.len && out.result == HTTP_MORE) {
    struct span view = span_sub(in, out.used, piece);
    uint64_t left = h1_chunked_remaining(&c);
    if (skip && left > 0) { /* as a relay does that moves data past the parser */
      struct span past = span_sub(view, 0, left > view.len ? view.len : (size_t)left);
      text_put(&out.data, past);
      h1_chunked_skip(&c, past.len);
      out.used += past.len;
      continue;
    }
    struct span run = SPAN_EMPTY;
    size_t consumed = SIZE_MAX;
    out.result = h1_chunked_parse(&c, view, &consumed, &run, &out.why);
    if (out.result == HTTP_BAD) break;
    check(consumed <= view.len && (consumed > 0 || out.result == HTTP_DONE));
    check(run.len == 0 || (run.ptr >= view.ptr && run.ptr + run.len <= view.ptr + view.len));
    check(out.result == HTTP_MORE || run.len == 0);
    text_put(&out.data, run);
    out.used += consumed;
  }
  return out;
}

/* take_line cuts a line that ends in CRLF off *rest; false when there is none. */
static bool take_line(struct span *rest, struct span *line) {
  size_t end = span_find_char(*rest, '\n', 0);
  if (end == SIZE_MAX || end == 0 || rest->ptr[end - 1] != '\r') return false;
  *line = span_sub(*rest, 0, end - 1);
  *rest = span_from(*rest, end + 1);
  return http_is_value(*line);
}

/* take_chunk cuts a chunk's data off *rest by the grammar of RFC 9112 7.1, without bounds on
 * extensions; false: not accepted. */
static bool take_chunk(struct span *rest, struct span *data) {
  struct span line;
  uint64_t size = 0;
  size_t digits = 0;
  if (!take_line(rest, &line)) return false;
  while (digits < line.len) {
    char c = ascii_lower(line.ptr[digits]);
    if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) break;
    if (++digits > 16) return false;
    size = size * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  struct span ext = span_trim(span_from(line, digits));
  bool tail = digits < line.len;
  if (digits == 0 || size > INT64_MAX || (tail && !span_starts(ext, SPAN_LIT(";")))) return false;
  if (size > 0 && (rest->len < size || rest->len - size < 2)) return false;
  *data = span_sub(*rest, 0, (size_t)size);
  if (size == 0) return true;
  *rest = span_from(*rest, (size_t)size);
  if (!span_starts(*rest, SPAN_LIT("\r\n"))) return false;
  *rest = span_from(*rest, 2);
  return true;
}

/* plain_accepts decodes a whole body the slow way; *out gets the data. */
static bool plain_accepts(struct span in, struct text *out) {
  struct span data, line;
  do {
    if (!take_chunk(&in, &data)) return false;
    text_put(out, data);
  } while (data.len > 0);
  for (;;) {
    if (!take_line(&in, &line)) return false;
    if (line.len == 0) return in.len == 0;
    size_t colon = span_find_char(line, ':', 0);
    if (colon == SIZE_MAX || !http_is_token(span_sub(line, 0, colon))) return false;
  }
}

static void check_coded_anew(struct span data, enum h1_side side) {
  struct text coded = {0};
  for (size_t at = 0; at < data.len; at += 7) {
    char room[H1_CHUNK_HEAD_MAX];
    struct buf head = buf_of(room, sizeof(room));
    struct span run = span_sub(data, at, 7);
    h1_write_chunk_head(&head, run.len);
    check(!head.full);
    text_put(&coded, buf_span(&head));
    text_put(&coded, run);
    text_put(&coded, H1_CRLF);
  }
  text_put(&coded, H1_LAST_CHUNK);
  struct decoded again = decode(text_span(&coded), SIZE_MAX, side, false);
  check(again.result == HTTP_DONE && again.used == coded.len);
  check(span_eq(text_span(&again.data), data));
  text_fini(&again.data);
  text_fini(&coded);
}

/* decode_until leaves c where a decoder stands that was given the bytes of in before `end`; false:
 * they have a fault, or the end of the body. */
static bool decode_until(struct h1_chunked *c, struct span in, size_t end, size_t piece) {
  size_t used = 0;
  h1_chunked_init(c, H1_REQUEST);
  while (used < end) {
    struct span run, view = span_sub(in, used, piece < end - used ? piece : end - used);
    size_t took = 0;
    enum end why;
    if (h1_chunked_parse(c, view, &took, &run, &why) != HTTP_MORE) return false;
    used += took;
  }
  return true;
}

/* drop_from reads what is left of in as a rest, at most `most` bytes of it. */
static struct decoded drop_from(struct h1_chunked c, struct span in, size_t at, size_t piece,
                                size_t most) {
  struct decoded out = {.result = HTTP_MORE, .used = at};
  struct rest r = {.left = most, .chunked = true, .chunks = c};
  while (out.used < in.len && out.result == HTTP_MORE) {
    size_t took = SIZE_MAX;
    struct span view = span_sub(in, out.used, piece);
    out.result = rest_read(&r, view, &took, &out.why);
    check(took <= view.len && r.left == most - (out.used + took - at));
    check(took == view.len || out.result != HTTP_MORE);
    out.used += took;
  }
  return out;
}

/* check_rest: a body whose first bytes were decoded and whose others are dropped ends where it
 * does for who reads it all, wherever the response came between; no byte beyond a bound is taken.
 */
static void check_rest(struct span in, const struct decoded *whole, size_t piece) {
  size_t most = whole->used / 2 + 1;
  for (size_t at = 0; at < in.len && at < 256; at += 1 + at / 16) {
    struct h1_chunked c;
    if (!decode_until(&c, in, at, piece)) return;
    struct decoded dropped = drop_from(c, in, at, piece, REST_MAX);
    check(dropped.result == whole->result);
    check(whole->result == HTTP_BAD ? dropped.why == whole->why : dropped.used == whole->used);
    struct decoded bounded = drop_from(c, in, at, piece, most);
    check(bounded.used - at <= most);
    bool fits = dropped.result == HTTP_DONE && dropped.used - at <= most;
    if (fits) check(bounded.result == HTTP_DONE && bounded.used == dropped.used);
    else check(bounded.result != HTTP_DONE);
    if (bounded.used - at == most && !fits) check(bounded.result == HTTP_BAD);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0 || len > REST_MAX) return 0;
  struct span in = span_of((const char *)data + 1, len - 1);
  enum h1_side side = data[0] & 1 ? H1_RESPONSE : H1_REQUEST;
  struct decoded once = decode(in, SIZE_MAX, side, false);
  struct decoded cut = decode(in, (size_t)(data[0] >> 1) + 1, side, true);
  check(once.result == cut.result);
  check(once.result == HTTP_BAD ? once.why == cut.why : once.used == cut.used);
  if (side == H1_REQUEST) check_rest(in, &once, (size_t)(data[0] >> 1) + 1);
  if (once.result == HTTP_DONE) {
    check(span_eq(text_span(&once.data), text_span(&cut.data)));
    check_coded_anew(text_span(&once.data), side);
    struct text plain = {0};
    check(plain_accepts(span_sub(in, 0, once.used), &plain));
    check(span_eq(text_span(&plain), text_span(&once.data)));
    text_fini(&plain);
  } else if (once.result == HTTP_BAD && in.len < H1_CHUNK_EXT_LINE_MAX) {
    struct text plain = {0}; /* too short to break a bound: the plain one must refuse it too */
    check(!plain_accepts(in, &plain));
    text_fini(&plain);
  }
  text_fini(&once.data);
  text_fini(&cut.data);
  return 0;
}
