/* test_buf.c: bounded appends (whole or not at all), numbers, JSON text, growing text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/buf.h"

static void appends_whole_or_not(void **state) {
  (void)state;
  char room[8];
  struct buf b = buf_of(room, sizeof(room));
  buf_lit(&b, "12345");
  buf_lit(&b, "6789");
  assert_true(b.full);
  assert_int_equal(b.len, 5);
  buf_char(&b, 'x'); /* stays full although it would fit */
  assert_int_equal(b.len, 5);
  b = buf_of(room, 2);
  buf_i64(&b, -12);
  assert_true(b.full);
  assert_int_equal(b.len, 0);
  b = buf_of(NULL, 0);
  buf_put(&b, SPAN_EMPTY);
  assert_false(b.full);
  buf_printf(&b, "x");
  assert_true(b.full);
}

static void writes_numbers(void **state) {
  (void)state;
  char room[128];
  struct buf b = buf_of(room, sizeof(room));
  buf_u64(&b, 0);
  buf_char(&b, ' ');
  buf_u64(&b, UINT64_MAX);
  buf_char(&b, ' ');
  buf_i64(&b, INT64_MIN);
  buf_char(&b, ' ');
  buf_i64(&b, 5);
  buf_char(&b, ' ');
  buf_hex(&b, 0);
  buf_char(&b, ' ');
  buf_hex(&b, 0xdeadbeef12345678u);
  buf_printf(&b, " %d%s", 7, "x");
  assert_true(span_eq(buf_span(&b), SPAN_LIT("0 18446744073709551615 -9223372036854775808 5 0 "
                                             "deadbeef12345678 7x")));
}

static void check_json(struct span in, struct span want) {
  char room[256];
  struct buf b = buf_of(room, sizeof(room));
  buf_json(&b, in);
  assert_false(b.full);
  assert_true(b.len <= 6 * in.len);
  assert_true(span_eq(buf_span(&b), want));
  struct text t = {0};
  text_json(&t, in);
  assert_true(span_eq(text_span(&t), want));
  text_fini(&t);
}

static void escapes_json(void **state) {
  (void)state;
  check_json(SPAN_LIT("plain"), SPAN_LIT("plain"));
  check_json(SPAN_LIT("a\"b\\c\n\r\t\x01\x7f"), SPAN_LIT("a\\\"b\\\\c\\n\\r\\t\\u0001\\u007f"));
  check_json(SPAN_LIT("\0"), SPAN_LIT("\\u0000"));
  check_json(SPAN_LIT("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
             SPAN_LIT("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
  check_json(SPAN_LIT("\xc3"), SPAN_LIT("\\ufffd"));                       /* cut short */
  check_json(SPAN_LIT("\xc0\xaf"), SPAN_LIT("\\ufffd\\ufffd"));            /* overlong */
  check_json(SPAN_LIT("\xed\xa0\x80"), SPAN_LIT("\\ufffd\\ufffd\\ufffd")); /* surrogate */
  check_json(SPAN_LIT("\xf4\x90\x80\x80"), SPAN_LIT("\\ufffd\\ufffd\\ufffd\\ufffd"));
  check_json(SPAN_LIT("\xe0\x9f\xbf"), SPAN_LIT("\\ufffd\\ufffd\\ufffd"));
  check_json(SPAN_LIT("\xf0\x8f\xbf\xbf"), SPAN_LIT("\\ufffd\\ufffd\\ufffd\\ufffd"));
  check_json(SPAN_LIT("x\xffy"), SPAN_LIT("x\\ufffdy"));
}

static void text_grows(void **state) {
  (void)state;
  struct text t = {0};
  for (int i = 0; i < 1000; i++) text_printf(&t, "%03d", i);
  text_lit(&t, "end");
  assert_int_equal(t.len, 3003);
  assert_true(span_ends(text_span(&t), SPAN_LIT("998999end")));
  text_fini(&t);
  assert_null(t.ptr);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(appends_whole_or_not),
      cmocka_unit_test(writes_numbers),
      cmocka_unit_test(escapes_json),
      cmocka_unit_test(text_grows),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
