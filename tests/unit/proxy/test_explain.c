/* test_explain.c: a question packed for the admin socket and unpacked again. What is told is
 * tested from outside (tests/e2e/test_explain.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/proxy/explain.h"

static void round_trip(void **state) {
  (void)state;
  struct explain_ask ask = {.method = SPAN_LIT("GET"),
                            .url = SPAN_LIT("http://a.example/x y?%41=\xc3\xa9"),
                            .from = SPAN_LIT("2001:db8::1"),
                            .fields = {SPAN_LIT("X-A: b=c; json %20"), SPAN_LIT("X-Empty:")},
                            .field_count = 2};
  struct text line = {0};
  char bytes[256];
  struct buf room = buf_of(bytes, sizeof bytes);
  struct explain_ask got = {.json = true};
  explain_pack(&ask, &line);
  for (size_t i = 0; i < line.len; i++) assert_in_range(line.ptr[i], 0x20, 0x7e);
  assert_true(explain_unpack(text_span(&line), &got, &room));
  assert_true(span_eq(got.method, ask.method) && span_eq(got.url, ask.url));
  assert_true(span_eq(got.from, ask.from) && got.listener.len == 0 && got.json);
  assert_int_equal(got.field_count, 2);
  for (uint32_t i = 0; i < 2; i++) assert_true(span_eq(got.fields[i], ask.fields[i]));
  text_fini(&line);
}

static void odd_lines(void **state) {
  (void)state;
  char bytes[16];
  struct buf room = buf_of(bytes, sizeof bytes);
  struct explain_ask got = {.json = false};
  assert_true(explain_unpack(SPAN_LIT("json x y= = z=1 m u= h=%4 h=%zz h=%"), &got, &room));
  assert_int_equal(got.field_count, 3);
  assert_int_equal(got.method.len, 0);
  room = buf_of(bytes, 4);
  assert_false(explain_unpack(SPAN_LIT("m=GETGETGET"), &got, &room)); /* no room */
  struct text line = {0};
  for (uint32_t i = 0; i <= EXPLAIN_FIELDS_MAX; i++) text_lit(&line, " h=");
  room = buf_of(bytes, sizeof bytes);
  got.field_count = 0;
  assert_false(explain_unpack(text_span(&line), &got, &room)); /* too many */
  text_fini(&line);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(round_trip),
      cmocka_unit_test(odd_lines),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
