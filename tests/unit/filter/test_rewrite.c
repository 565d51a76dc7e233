/* test_rewrite.c: the path that is sent when a route replaces its prefix or all of it, by a table.
 */
#include "filter_kit.h"

static const struct {
  const char *match, *prefix, *path; /* the route's, and what it rewrites to */
  const char *asked, *sent;          /* sent "": the path as it is */
} rows[] = {
    {"/api", "/v2", "", "/api", "/v2"},
    {"/api", "/v2", "", "/api/", "/v2/"},
    {"/api", "/v2", "", "/api/x", "/v2/x"},
    {"/api", "/v2", "", "/api//x", "/v2//x"},
    {"/api", "/v2", "", "/api/api/x", "/v2/api/x"},
    {"/api", "/", "", "/api", "/"},
    {"/api", "/", "", "/api/x", "/x"},
    {"/", "/v2", "", "/", "/v2/"},
    {"/", "/v2", "", "/x", "/v2/x"},
    {"/", "/", "", "/x", "/x"},
    {"/api", "/a/b", "", "/api/%2e/x", "/a/b/%2e/x"}, /* never comes from the parser */
    {"/api", "/v2", "", "/other", ""},                /* nor this from the matcher */
    {"/api", "", "/index.html", "/api/x", "/index.html"},
    {"/", "/v2", "", "*", ""},
    {"/", "", "/x", "*", ""},
    {"/api", "", "", "/api/x", ""},
};

static void rewrite_table(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) {
    struct kit k;
    kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
    k.request.path = span_str(rows[i].asked);
    struct route route = {.path = span_str(rows[i].match),
                          .rewrite = {span_str(rows[i].prefix), span_str(rows[i].path)}};
    k.ctx.route = &route;
    assert_int_equal(rewrite_request(&k.ctx), FILTER_NEXT);
    assert_span(k.ctx.forward_path, rows[i].sent);
    assert_span(k.request.path, rows[i].asked);
    kit_fini(&k);
  }
}

static void before_routing_nothing(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET /api HTTP/1.1\r\nHost: h\r\n\r\n", 0);
  assert_int_equal(rewrite_request(&k.ctx), FILTER_NEXT);
  assert_int_equal(k.ctx.forward_path.len, 0);
  kit_fini(&k);
}

static void memory_used_up(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET /api/x HTTP/1.1\r\nHost: h\r\n\r\n", 0);
  struct arena none;
  arena_init(&none, NULL, 1);
  k.ctx.arena = &none;
  struct route route = {.path = SPAN_LIT("/api"), .rewrite = {.prefix = SPAN_LIT("/v2")}};
  k.ctx.route = &route;
  assert_int_equal(rewrite_request(&k.ctx), FILTER_ANSWER);
  assert_int_equal(k.ctx.end, END_LIMIT_STREAM_MEMORY);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rewrite_table),
      cmocka_unit_test(before_routing_nothing),
      cmocka_unit_test(memory_used_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
