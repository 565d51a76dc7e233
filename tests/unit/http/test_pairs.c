/* test_pairs.c: cookies over several fields and odd spellings; query parameters. */
#include "weir/http/pairs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* joined gives all values of a name, each in brackets. */
static const char *joined(const char *const *rows, const char *name) {
  static char text[256];
  struct buf {
    size_t len;
  } out = {0};
  struct arena arena;
  struct http_fields fields = {0};
  arena_init(&arena, NULL, 0);
  for (; *rows; rows += 2)
    assert_true(http_fields_add(&fields, &arena, span_str(rows[0]), span_str(rows[1])));
  struct http_cookies at = {0};
  struct span value;
  while (http_cookie_next(&at, &fields, span_str(name), &value)) {
    assert_true(out.len + value.len + 3 < sizeof text);
    text[out.len++] = '[';
    if (value.len) memcpy(text + out.len, value.ptr, value.len);
    out.len += value.len;
    text[out.len++] = ']';
  }
  text[out.len] = '\0';
  arena_reset(&arena);
  return text;
}

static void cookies(void **state) {
  (void)state;
  static const char *const one[] = {"Cookie", "a=1; b=2; a=3", NULL};
  static const char *const two[] = {"Host", "x",   "cookie", "a=1",   "X",
                                    "a=9",  "COOKIE", "b;a=2", NULL};
  static const char *const odd[] = {"Cookie", ";; a ;a=;aa=4;a==5;a=\"q\" ; A=6;=7;a=b=c", NULL};
  static const char *const spaced[] = {"Cookie", "a =1;\ta\t= 2 3 ", NULL};
  static const char *const none[] = {"X-Cookie", "a=1", NULL};
  assert_string_equal(joined(one, "a"), "[1][3]");
  assert_string_equal(joined(one, "b"), "[2]");
  assert_string_equal(joined(one, "c"), "");
  assert_string_equal(joined(two, "a"), "[1][2]");
  assert_string_equal(joined(two, "b"), "");
  assert_string_equal(joined(odd, "a"), "[][=5][\"q\"][b=c]");
  assert_string_equal(joined(spaced, "a"), "[1][2 3]");
  assert_string_equal(joined(odd, "aa"), "[4]");
  assert_string_equal(joined(none, "a"), "");
}

static void parameters(void **state) {
  (void)state;
  static const struct {
    const char *query, *name, *value; /* value NULL: not there */
  } rows[] = {
      {"a=1&b=2", "a", "1"}, {"a=1&b=2", "b", "2"},   {"a=1&b=2", "c", NULL},
      {"", "a", NULL},       {"a", "a", ""},          {"a=", "a", ""},
      {"aa=1", "a", NULL},   {"A=1", "a", NULL},      {"a=1&a=2", "a", "1"},
      {"&&a=x%26&", "a", "x%26"}, {"b=a=1", "a", NULL}, {"a=b=c", "a", "b=c"},
      {"us%65r=%41", "user", "%41"}, {"a+b=1", "a b", "1"}, {"a%2=1", "a%2", "1"},
      {"us%65", "user", NULL}, {"%61", "a", ""}, {"=1&a=2", "a", "2"},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct span value = SPAN_LIT("untouched");
    struct span rest = span_str(rows[i].query);
    bool found = http_query_next(&rest, span_str(rows[i].name), &value);
    assert_int_equal(found, rows[i].value != NULL);
    if (!span_eq(value, span_str(found ? rows[i].value : "untouched")))
      fail_msg("row %zu: " SPAN_FMT, i, SPAN_ARG(value));
  }
}

/* A field that is not passed on is not there. */
static void what_is_not_passed_on(void **state) {
  (void)state;
  struct arena arena;
  struct http_fields fields = {0};
  struct http_cookies at = {0};
  struct span value;
  arena_init(&arena, NULL, 0);
  assert_true(http_fields_add(&fields, &arena, SPAN_LIT("Cookie"), SPAN_LIT("a=1")));
  assert_true(http_fields_add(&fields, &arena, SPAN_LIT("Cookie"), SPAN_LIT("a=2")));
  fields.rows[0].flags = HTTP_FIELD_HOP;
  assert_true(http_cookie_next(&at, &fields, SPAN_LIT("a"), &value));
  assert_true(span_eq(value, SPAN_LIT("2")));
  assert_false(http_cookie_next(&at, &fields, SPAN_LIT("a"), &value));
  arena_reset(&arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cookies),
      cmocka_unit_test(parameters),
      cmocka_unit_test(what_is_not_passed_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
