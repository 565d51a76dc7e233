/* test_strip_prefix.c: what is sent upstream without the route's prefix, by a table. */
#include "filter_kit.h"

static const struct {
  bool strip;
  const char *prefix, *path, *sent; /* sent "": the path as it is */
} rows[] = {
    {true, "/api", "/api", "/"},
    {true, "/api", "/api/", "/"},
    {true, "/api", "/api/x", "/x"},
    {true, "/api", "/api//x", "//x"},
    {true, "/api", "/api/api", "/api"},
    {true, "/api", "/api/%2e/x", "/%2e/x"},
    {true, "/a/b", "/a/b/c", "/c"},
    {true, "/", "/x", ""},
    {true, "/api", "/other", ""}, /* cannot come from the matcher; must not be cut all the same */
    {false, "/api", "/api/x", ""},
};

static void strip_table(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) {
    struct kit k;
    kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
    k.request.path = span_str(rows[i].path);
    struct route route = {.strip_prefix = rows[i].strip, .path = span_str(rows[i].prefix)};
    k.ctx.route = &route;
    assert_int_equal(strip_prefix_request(&k.ctx), FILTER_NEXT);
    assert_span(k.ctx.forward_path, rows[i].sent);
    assert_span(k.request.path, rows[i].path);
    kit_fini(&k);
  }
}

static void before_routing_nothing(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET /api HTTP/1.1\r\nHost: h\r\n\r\n", 0);
  assert_int_equal(strip_prefix_request(&k.ctx), FILTER_NEXT);
  assert_int_equal(k.ctx.forward_path.len, 0);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(strip_table),
      cmocka_unit_test(before_routing_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
