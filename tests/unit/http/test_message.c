/* test_message.c: field lists (sets, order, growth, limits), methods and status phrases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/http/message.h"

static void finds_rows(void **state) {
  (void)state;
  struct arena arena;
  struct http_fields f = {0};
  arena_init(&arena, NULL, 0);
  assert_null(http_fields_find(&f, HTTP_NAME_VIA));
  assert_true(http_fields_add(&f, &arena, SPAN_LIT("Via"), SPAN_LIT("1.1 a")));
  assert_true(http_fields_add(&f, &arena, SPAN_LIT("X-One"), SPAN_LIT(" 1 ")));
  assert_true(http_fields_add(&f, &arena, SPAN_LIT("VIA"), SPAN_LIT("1.1 b")));
  struct http_field *first = http_fields_find(&f, HTTP_NAME_VIA);
  assert_ptr_equal(first, &f.rows[0]);
  struct http_field *second = http_fields_next(&f, HTTP_NAME_VIA, first);
  assert_ptr_equal(second, &f.rows[2]);
  assert_null(http_fields_next(&f, HTTP_NAME_VIA, second));
  assert_true(http_fields_has(&f, HTTP_NAME_VIA));
  assert_false(http_fields_has(&f, HTTP_NAME_HOST));
  assert_true((f.repeated >> HTTP_NAME_VIA) & 1);
  assert_ptr_equal(http_fields_find_name(&f, SPAN_LIT("x-ONE")), &f.rows[1]);
  assert_true(span_eq(f.rows[1].value, SPAN_LIT("1")));
  assert_ptr_equal(http_fields_find_name(&f, SPAN_LIT("via")), &f.rows[0]);
  assert_null(http_fields_find_name(&f, SPAN_LIT("x-two")));
  assert_int_equal(http_fields_drop(&f, SPAN_LIT("via")), 2);
  assert_int_equal(f.rows[2].flags, HTTP_FIELD_DROP);
  assert_int_equal(f.rows[1].flags, 0);
  arena_reset(&arena);
}

static void refuses_what_could_split(void **state) {
  (void)state;
  struct arena arena;
  struct http_fields f = {0};
  arena_init(&arena, NULL, 0);
  assert_false(http_fields_add(&f, &arena, SPAN_LIT("A"), SPAN_LIT("b\r\nC: d")));
  assert_false(http_fields_add(&f, &arena, SPAN_LIT("A"), SPAN_LIT("b\0")));
  assert_false(http_fields_add(&f, &arena, SPAN_LIT("A:"), SPAN_LIT("b")));
  assert_false(http_fields_add(&f, &arena, SPAN_EMPTY, SPAN_LIT("b")));
  assert_int_equal(f.count, 0);
  arena_reset(&arena);
}

static void grows_to_the_arena_limit(void **state) {
  (void)state;
  struct arena arena;
  struct http_fields f = {0};
  arena_init(&arena, NULL, 16384);
  uint32_t count = 0;
  while (http_fields_add(&f, &arena, SPAN_LIT("X"), SPAN_LIT("y"))) {
    count++;
    assert_true(count < 1000);
  }
  assert_true(count >= 100);
  assert_int_equal(f.count, count);
  for (uint32_t i = 0; i < count; i++) assert_true(span_eq(f.rows[i].value, SPAN_LIT("y")));
  arena_reset(&arena);
}

static void methods(void **state) {
  (void)state;
  for (unsigned m = 0; m < HTTP_METHOD_OTHER; m++)
    assert_int_equal(http_method_find(http_method_text((enum http_method)m)), m);
  assert_int_equal(http_method_find(SPAN_LIT("get")), HTTP_METHOD_OTHER);
  assert_int_equal(http_method_find(SPAN_LIT("GETT")), HTTP_METHOD_OTHER);
  assert_int_equal(http_method_find(SPAN_EMPTY), HTTP_METHOD_OTHER);
  assert_true(http_method_idempotent(HTTP_METHOD_PUT) && !http_method_safe(HTTP_METHOD_PUT));
  assert_true(http_method_safe(HTTP_METHOD_HEAD));
  assert_false(http_method_idempotent(HTTP_METHOD_POST) ||
               http_method_idempotent(HTTP_METHOD_PATCH));
  assert_false(http_method_safe(HTTP_METHOD_OTHER) || http_method_idempotent(HTTP_METHOD_OTHER));
  for (enum http_method m = 0; m < HTTP_METHOD_COUNT; m++)
    assert_int_equal(http_method_content(m), m == HTTP_METHOD_POST || m == HTTP_METHOD_PUT ||
                                                 m == HTTP_METHOD_PATCH);
}

static void reasons(void **state) {
  (void)state;
  assert_true(span_eq(http_status_reason(200), SPAN_LIT("OK")));
  assert_true(span_eq(http_status_reason(431), SPAN_LIT("Request Header Fields Too Large")));
  assert_int_equal(http_status_reason(299).len, 0);
  assert_int_equal(http_status_reason(0).len, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(finds_rows),
      cmocka_unit_test(refuses_what_could_split),
      cmocka_unit_test(grows_to_the_arena_limit),
      cmocka_unit_test(methods),
      cmocka_unit_test(reasons),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
