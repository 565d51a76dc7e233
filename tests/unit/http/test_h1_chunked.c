/* test_h1_chunked.c: the chunked decoder cut in every way, chunks moved past it, its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "weir/base/hash.h"
#include "weir/http/h1.h"

/* decode runs a body in pieces of at most `piece` bytes (0: random) and gathers the data. */
static enum http_result decode(struct span in, size_t piece, uint64_t seed, struct text *data,
                               size_t *used, enum end *why) {
  struct h1_chunked c;
  h1_chunked_init(&c, H1_REQUEST);
  size_t at = 0;
  *used = 0;
  while (at < in.len) {
    size_t take = piece ? piece : 1 + rng_next(&seed) % 9;
    struct span run = SPAN_EMPTY;
    size_t consumed = 0;
    enum http_result result = h1_chunked_parse(&c, span_sub(in, at, take), &consumed, &run, why);
    if (result == HTTP_BAD) return result;
    text_put(data, run);
    at += consumed;
    *used = at;
    if (result == HTTP_DONE) {
      assert_int_equal(run.len, 0);
      return result;
    }
  }
  return HTTP_MORE;
}

#define BODY \
  "5\r\nhello\r\n1;x=y\r\n \r\n0000005 ; q=\"a;b\"\r\nworld\r\nA\r\n0123456789\r\n" \
  "0;last\r\nX-A: b\r\nX-B:\r\n\r\nNEXT"
static const struct span body = {BODY, sizeof(BODY) - 1};

static void every_cut_gives_the_same(void **state) {
  (void)state;
  for (size_t piece = 0; piece <= body.len; piece++) {
    for (uint64_t seed = 0; seed < (piece ? 1 : 200); seed++) {
      struct text data = {0};
      size_t used = 0;
      enum end why = END_OK;
      assert_int_equal(decode(body, piece, seed, &data, &used, &why), HTTP_DONE);
      assert_true(span_eq(text_span(&data), SPAN_LIT("hello world0123456789")));
      assert_int_equal(used, body.len - 4);
      text_fini(&data);
    }
  }
}

/* The trailer section comes out byte for byte, however the body is cut. */
static void trailer_lines_are_told(void **state) {
  (void)state;
  for (size_t piece = 1; piece <= body.len; piece++) {
    struct h1_chunked c;
    struct text lines = {0};
    size_t at = 0, used = 0;
    enum http_result result = HTTP_MORE;
    h1_chunked_init(&c, H1_REQUEST);
    while (result == HTTP_MORE) {
      struct span in = span_sub(body, at, piece), run;
      enum end why;
      result = h1_chunked_parse(&c, in, &used, &run, &why);
      text_put(&lines, h1_chunked_lines(&c, span_sub(in, 0, used)));
      at += used;
    }
    assert_int_equal(result, HTTP_DONE);
    assert_true(span_eq(text_span(&lines), SPAN_LIT("X-A: b\r\nX-B:\r\n\r\n")));
    text_fini(&lines);
  }
}

/* Where there are none, none of the last line is told. */
static void no_trailers_no_lines(void **state) {
  (void)state;
  struct span in = SPAN_LIT("2;x\r\nok\r\n0;y\r\n\r\nX-Next: 1\r\n");
  for (size_t piece = 1; piece <= in.len; piece++) {
    struct h1_chunked c;
    size_t at = 0, used = 0;
    enum http_result result = HTTP_MORE;
    h1_chunked_init(&c, H1_RESPONSE);
    while (result == HTTP_MORE) {
      struct span now = span_sub(in, at, piece), run;
      enum end why;
      result = h1_chunked_parse(&c, now, &used, &run, &why);
      assert_int_equal(h1_chunked_lines(&c, span_sub(now, 0, used)).len, 0);
      at += used;
    }
    assert_int_equal(result, HTTP_DONE);
  }
}

/* The largest section that is taken fits what is said of it. */
static void lines_are_bounded(void **state) {
  (void)state;
  struct text in = {0}, lines = {0};
  struct h1_chunked c;
  size_t at = 0, used = 0;
  enum http_result result = HTTP_MORE;
  text_lit(&in, "0\r\n");
  for (unsigned i = 0; i < H1_TRAILER_COUNT_MAX; i++) {
    text_lit(&in, "x:");
    for (unsigned k = 0; k < H1_TRAILER_BYTES_MAX / H1_TRAILER_COUNT_MAX - 1; k++)
      text_lit(&in, "v");
    text_lit(&in, "\r\n");
  }
  text_lit(&in, "\r\n");
  h1_chunked_init(&c, H1_REQUEST);
  while (result == HTTP_MORE && at < in.len) {
    struct span now = span_sub(text_span(&in), at, 1000), run;
    enum end why;
    result = h1_chunked_parse(&c, now, &used, &run, &why);
    text_put(&lines, h1_chunked_lines(&c, span_sub(now, 0, used)));
    at += used;
  }
  assert_int_equal(result, HTTP_DONE);
  assert_int_equal(lines.len, H1_TRAILER_LINES_MAX);
  text_fini(&in);
  text_fini(&lines);
}

/* One wrong byte anywhere never makes the decoder read past the end or accept more data. */
static void damaged_bodies_are_safe(void **state) {
  (void)state;
  char copy[128];
  for (size_t at = 0; at < body.len; at++) {
    for (int b = 0; b < 256; b++) {
      memcpy(copy, body.ptr, body.len);
      copy[at] = (char)b;
      struct text once = {0}, slow = {0};
      size_t used_once = 0, used_slow = 0;
      enum end why_once = END_OK, why_slow = END_OK;
      struct span in = span_of(copy, body.len);
      enum http_result result = decode(in, SIZE_MAX, 1, &once, &used_once, &why_once);
      assert_int_equal(decode(in, 1, 1, &slow, &used_slow, &why_slow), result);
      assert_int_equal(why_once, why_slow);
      if (result != HTTP_BAD) assert_int_equal(used_once, used_slow);
      if (result != HTTP_BAD) assert_true(span_eq(text_span(&once), text_span(&slow)));
      text_fini(&once);
      text_fini(&slow);
    }
  }
}

static void chunks_move_past(void **state) {
  (void)state;
  struct h1_chunked c;
  struct span run;
  size_t used;
  enum end why;
  h1_chunked_init(&c, H1_RESPONSE);
  assert_int_equal(h1_chunked_parse(&c, SPAN_LIT("10"), &used, &run, &why), HTTP_MORE);
  assert_int_equal(h1_chunked_remaining(&c), 0); /* a size half read is no data */
  assert_int_equal(h1_chunked_parse(&c, SPAN_LIT("0\r\n"), &used, &run, &why), HTTP_MORE);
  assert_int_equal(h1_chunked_remaining(&c), 256);
  h1_chunked_skip(&c, 0);
  h1_chunked_skip(&c, 200);
  assert_int_equal(h1_chunked_remaining(&c), 56);
  char data[56] = {0};
  assert_int_equal(h1_chunked_parse(&c, span_of(data, 50), &used, &run, &why), HTTP_MORE);
  assert_int_equal(run.len, 50);
  h1_chunked_skip(&c, 6);
  assert_int_equal(h1_chunked_remaining(&c), 0);
  assert_int_equal(h1_chunked_parse(&c, SPAN_LIT("\r\n0\r\n\r\n"), &used, &run, &why), HTTP_DONE);
  assert_int_equal(used, 7);
}

/* repeat sends piece over and over; how often it was taken before the fault, at most max. */
static size_t repeat(struct h1_chunked *c, struct span piece, size_t max, enum end *why) {
  for (size_t n = 0; n < max; n++) {
    struct span rest = piece;
    while (rest.len > 0) {
      struct span run;
      size_t used;
      if (h1_chunked_parse(c, rest, &used, &run, why) == HTTP_BAD) return n;
      rest = span_from(rest, used);
    }
  }
  return max;
}

static void bounds(void **state) {
  (void)state;
  struct h1_chunked c;
  enum end why = END_OK;
  struct span run;
  size_t used;
  h1_chunked_init(&c, H1_REQUEST); /* each line is within bounds, the body is not */
  struct span padded = SPAN_LIT("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n");
  size_t lines = repeat(&c, padded, 10000, &why);
  assert_int_equal(lines, H1_CHUNK_EXT_BODY_MAX / 31);
  assert_int_equal(why, END_BAD_REQUEST_CHUNK);
  h1_chunked_init(&c, H1_RESPONSE);
  assert_int_equal(h1_chunked_parse(&c, SPAN_LIT("0\r\n"), &used, &run, &why), HTTP_MORE);
  assert_int_equal(repeat(&c, SPAN_LIT("A: b\r\n"), 1000, &why), H1_TRAILER_COUNT_MAX);
  assert_int_equal(why, END_BAD_RESPONSE_TRAILER);
  h1_chunked_init(&c, H1_REQUEST);
  assert_int_equal(repeat(&c, SPAN_LIT("1\r\nx\r\n"), 100000, &why),
                   100000); /* no bound on data */
  h1_chunked_init(&c, H1_REQUEST);
  assert_int_equal(h1_chunked_parse(&c, SPAN_LIT("7fffffffffffffff\r\n"), &used, &run, &why),
                   HTTP_MORE);
  assert_true(h1_chunked_remaining(&c) == INT64_MAX);
  h1_chunked_init(&c, H1_REQUEST);
  assert_int_equal(h1_chunked_parse(&c, SPAN_LIT("8000000000000000\r\n"), &used, &run, &why),
                   HTTP_BAD);
  assert_int_equal(why, END_BAD_REQUEST_CHUNK_SIZE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_cut_gives_the_same),
      cmocka_unit_test(trailer_lines_are_told),
      cmocka_unit_test(no_trailers_no_lines),
      cmocka_unit_test(lines_are_bounded),
      cmocka_unit_test(damaged_bodies_are_safe),
      cmocka_unit_test(chunks_move_past),
      cmocka_unit_test(bounds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
