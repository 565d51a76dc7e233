/* test_policy.c: what several policies of a route say together: single values, error pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "weir/model/policy.h"

static void later_settings_win(void **state) {
  (void)state;
  struct policy_settings all = {0};
  struct policy_settings first = {
      .set = POLICY_IDLE | POLICY_BODY | POLICY_BODY_BYTES | POLICY_SEND,
      .idle_ms = 1,
      .body_ms = 2,
      .body_bytes = 3,
      .send_ms = 4};
  struct policy_settings second = {.set = POLICY_IDLE | POLICY_BODY_BYTES | POLICY_REQUEST,
                                   .idle_ms = 10,
                                   .body_ms = 77,
                                   .body_bytes = 0,
                                   .request_ms = 5};
  struct policy_settings third = {.set = POLICY_FIRST_BYTE, .first_byte_ms = 6, .request_ms = 77};
  policy_settings_merge(&all, &first);
  policy_settings_merge(&all, &second);
  policy_settings_merge(&all, &third);
  assert_int_equal(all.set, POLICY_IDLE | POLICY_BODY | POLICY_BODY_BYTES | POLICY_SEND |
                                POLICY_REQUEST | POLICY_FIRST_BYTE);
  assert_int_equal(all.idle_ms, 10);
  assert_int_equal(all.body_ms, 2); /* not said by the second: its value means nothing */
  assert_int_equal(all.body_bytes, 0);
  assert_int_equal(all.send_ms, 4);
  assert_int_equal(all.request_ms, 5);
  assert_int_equal(all.first_byte_ms, 6);
}

#define RANGES(...) \
  .statuses = (const struct status_range[]){__VA_ARGS__}, \
  .status_count = sizeof((struct status_range[]){__VA_ARGS__}) / sizeof(struct status_range)

static const struct error_page first_pages[] = {
    {RANGES({500, 599}), .body = {"first 5xx", 9}},
    {RANGES({503, 503}, {504, 504}), .body = {"first 503", 9}, .upstream = true},
    {RANGES({503, 503}), .body = {"never", 5}}, /* the first of equal ones counts */
};
static const struct error_page second_pages[] = {
    {RANGES({404, 404}, {400, 499}), .body = {"second 4xx", 10}},
    {RANGES({502, 502}), .body = {"second 502", 10}, .upstream = true},
    {RANGES({504, 504}, {500, 599}), .body = {"second 504", 10}, .upstream = true},
};

static const struct {
  uint32_t policies; /* how many of the two, the first always */
  unsigned status;
  bool upstream;
  const char *body; /* NULL: none */
} rows[] = {
    {1, 500, false, "first 5xx"},  {1, 503, false, "first 503"},  {1, 599, false, "first 5xx"},
    {1, 500, true, NULL},          {1, 503, true, "first 503"},   {1, 504, true, "first 503"},
    {1, 404, false, NULL},         {1, 600, false, NULL},         {0, 503, false, NULL},
    {2, 404, false, "second 4xx"}, {2, 404, true, NULL},          {2, 502, false, "second 502"},
    {2, 502, true, "second 502"},  {2, 504, false, "second 504"}, {2, 503, false, "second 504"},
    {2, 503, true, "second 504"},
};

static void pages_table(void **state) {
  (void)state;
  struct policy first = {.pages = first_pages, .page_count = array_count(first_pages)};
  struct policy second = {.pages = second_pages, .page_count = array_count(second_pages)};
  struct policy *const policies[] = {&first, &second};
  for (size_t i = 0; i < array_count(rows); i++) {
    const struct error_page *page =
        error_page_find(policies, rows[i].policies, rows[i].status, rows[i].upstream);
    struct span want = span_str(rows[i].body);
    if (!page != !rows[i].body || (page && !span_eq(page->body, want)))
      fail_msg("row %zu: %.*s", i, page ? (int)page->body.len : 4, page ? page->body.ptr : "none");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(later_settings_win),
      cmocka_unit_test(pages_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
