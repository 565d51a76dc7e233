/* test_cors.c: which origins may read, by a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "weir/model/cors.h"

static const struct cors_origin origins[] = {
    {.head = {"https://app.example", 19}},
    {.head = {"http://[::1]:8080", 17}},
    {.head = {"https://", 8}, .tail = {".wild.example", 13}},
    {.head = {"https://", 8}, .tail = {".port.example:8443", 18}},
};

static const struct {
  const char *origin;
  bool allowed;
} rows[] = {
    {"https://app.example", true},
    {"http://app.example", false},
    {"https://app.example:443", false}, /* no browser writes it so */
    {"https://app.example:8443", false},
    {"https://app.example.evil.example", false},
    {"https://evil-app.example", false},
    {"https://app.example/", false},
    {"https://App.example", false},
    {"http://[::1]:8080", true},
    {"https://a.wild.example", true},
    {"https://a.b.wild.example", true},
    {"https://a-1_x.wild.example", true},
    {"https://wild.example", false},
    {"https://.wild.example", false},
    {"https://a..wild.example", false},
    {"https://a.b..c.wild.example", false},
    {"https://evilwild.example", false},
    {"http://a.wild.example", false},
    {"https://a.wild.example:8443", false},
    {"https://evil.example/.wild.example", false},
    {"https://evil.example#.wild.example", false},
    {"https://evil.example?.wild.example", false},
    {"https://evil.example:80.wild.example", false},
    {"https://user@a.wild.example", false},
    {"https://a b.wild.example", false},
    {"https://A.wild.example", false},
    {"https://a.port.example:8443", true},
    {"https://a.port.example", false},
    {"null", false},
    {"", false},
    {"*", false},
};

static void origins_table(void **state) {
  (void)state;
  const struct cors cors = {.origins = origins, .origin_count = array_count(origins)};
  for (size_t i = 0; i < array_count(rows); i++)
    if (cors_allows(&cors, span_str(rows[i].origin)) != rows[i].allowed)
      fail_msg("%s", rows[i].origin);
}

static void any_but_null(void **state) {
  (void)state;
  const struct cors cors = {.any = true};
  assert_true(cors_allows(&cors, SPAN_LIT("https://whoever.example")));
  assert_false(cors_allows(&cors, SPAN_LIT("null")));
  assert_false(cors_allows(&cors, SPAN_EMPTY));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(origins_table),
      cmocka_unit_test(any_but_null),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
