/* test_span.c: comparisons, searches and number parsing at their edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/span.h"

static void compares(void **state) {
  (void)state;
  assert_true(span_eq_nocase(SPAN_LIT("Content-LENGTH"), SPAN_LIT("content-length")));
  assert_false(span_eq_nocase(SPAN_LIT("@"), SPAN_LIT("`")));
  assert_false(span_eq_nocase(SPAN_LIT("["), SPAN_LIT("{")));
  assert_false(span_eq_nocase(SPAN_LIT("a"), SPAN_LIT("ab")));
  assert_true(span_eq_nocase(SPAN_EMPTY, SPAN_LIT("")));
  assert_true(span_cmp(SPAN_LIT("a"), SPAN_LIT("ab")) < 0);
  assert_true(span_cmp(SPAN_LIT("b"), SPAN_LIT("ab")) > 0);
  assert_true(span_cmp(SPAN_LIT("\xff"), SPAN_LIT("a")) > 0);
  assert_int_equal(span_cmp(SPAN_EMPTY, SPAN_EMPTY), 0);
  assert_true(span_eq(SPAN_EMPTY, SPAN_LIT("")));
}

static void cuts(void **state) {
  (void)state;
  struct span s = SPAN_LIT("abcdef");
  assert_true(span_eq(span_sub(s, 2, 2), SPAN_LIT("cd")));
  assert_true(span_eq(span_sub(s, 4, 9), SPAN_LIT("ef")));
  assert_int_equal(span_sub(s, 9, 1).len, 0);
  assert_true(span_eq(span_from(s, 5), SPAN_LIT("f")));
  assert_int_equal(span_from(SPAN_EMPTY, 3).len, 0);
  assert_true(span_starts(s, SPAN_LIT("abc")) && span_starts(s, SPAN_EMPTY));
  assert_false(span_starts(SPAN_LIT("ab"), SPAN_LIT("abc")));
  assert_true(span_ends(s, SPAN_LIT("ef")) && !span_ends(s, SPAN_LIT("de")));
  assert_int_equal(span_find_char(s, 'a', 1), SIZE_MAX);
  assert_int_equal(span_find_char(s, 'f', 5), 5);
  assert_int_equal(span_find_char(s, 'f', 6), SIZE_MAX);
  assert_int_equal(span_find_char(SPAN_EMPTY, 'f', 0), SIZE_MAX);
  assert_true(span_eq(span_trim(SPAN_LIT(" \t a b\t ")), SPAN_LIT("a b")));
  assert_int_equal(span_trim(SPAN_LIT(" \t ")).len, 0);
}

static void numbers(void **state) {
  (void)state;
  uint64_t v = 7;
  assert_true(span_u64(SPAN_LIT("18446744073709551615"), &v));
  assert_true(v == UINT64_MAX);
  assert_true(span_u64(SPAN_LIT("00"), &v) && v == 0);
  v = 7;
  const char *bad[] = {
      "",   "18446744073709551616", "99999999999999999999", "-1", "+1", " 1", "1 ", "0x1",
      "1.", "000000000000000000001"};
  for (size_t i = 0; i < array_count(bad); i++) {
    assert_false(span_u64(span_str(bad[i]), &v));
    assert_int_equal(v, 7);
  }
}

static void lists(void **state) {
  (void)state;
  struct span rest = SPAN_LIT("a, b ,,c"), token;
  const char *want[] = {"a", "b", "", "c"};
  for (size_t i = 0; i < array_count(want); i++) {
    assert_true(span_next_token(&rest, ',', &token));
    assert_true(span_eq(token, span_str(want[i])));
  }
  assert_false(span_next_token(&rest, ',', &token));
  rest = SPAN_EMPTY;
  assert_false(span_next_token(&rest, ',', &token));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(compares),
      cmocka_unit_test(cuts),
      cmocka_unit_test(numbers),
      cmocka_unit_test(lists),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
