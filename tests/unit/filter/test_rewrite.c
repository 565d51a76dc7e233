/* test_rewrite.c: the path that is sent when a route replaces its prefix or all of it, by a table.
 */
#include "filter_kit.h"
#include "weir/base/regex.h"

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
                          .rewrite = {.prefix = span_str(rows[i].prefix),
                                      .path = span_str(rows[i].path)}};
    k.ctx.route = &route;
    assert_int_equal(rewrite_request(&k.ctx), FILTER_NEXT);
    assert_span(k.ctx.forward_path, rows[i].sent);
    assert_span(k.request.path, rows[i].asked);
    kit_fini(&k);
  }
}

static const struct {
  const char *regex, *to, *asked, *sent; /* sent "": the path as it is */
  enum end end;
} matches[] = {
    {"^/item/([0-9]+)$", "/items/${1}/view", "/item/42", "/items/42/view", END_OK},
    {"^/item/([0-9]+)$", "/items/${1}/view", "/item/x", "", END_OK},
    {"^/(a)(b)?$", "/${2}${1}", "/a", "/a", END_OK}, /* a group that took no part is empty */
    {"^/(.*)/(.*)$", "/${2}/${1}", "/x/y/z", "/z/x/y", END_OK},
    {"^/.*", "/new${0}", "/x", "/new/x", END_OK},
    {"/b/", "/found", "/a/b/c", "/found", END_OK}, /* found anywhere: the whole path goes */
    {"^/(.*)", "/$${1}/${1}", "/x", "/${1}/x", END_OK},
    {"^/(.*)", "/%4${1}", "/1", "/A", END_OK}, /* made canonical */
    {"^/(.*)", "/%2${1}", "/F", "", END_BAD_REQUEST_PATH_ENCODED_SLASH},
    {"^/(.*)", "/a/${1}/../b", "/x", "", END_BAD_REQUEST_PATH_DOTS},
    {"^/(.)(.*)", "/a/${1}${1}/${2}", "/.x", "", END_BAD_REQUEST_PATH_DOTS},
    {"^/(.*)", "/%${1}", "/zz", "", END_BAD_REQUEST_PATH_ESCAPE},
    {"^/a(.*)", "/${1}/b", "/a", "/b", END_OK}, /* the listener's paths.slashes: merge */
    {"^/(.*)", "/x", "*", "", END_OK},
};

static void match_table(void **state) {
  (void)state;
  struct regex_scratch *scratch = regex_scratch_new();
  for (size_t i = 0; i < array_count(matches); i++) {
    struct kit k;
    struct regex_fault fault;
    kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
    k.request.path = span_str(matches[i].asked);
    struct route route = {.rewrite = {.regex = regex_new(span_str(matches[i].regex), &fault),
                                      .to = span_str(matches[i].to)}};
    assert_non_null(route.rewrite.regex);
    k.ctx.route = &route;
    k.ctx.scratch = scratch;
    assert_int_equal(rewrite_request(&k.ctx), matches[i].end ? FILTER_ANSWER : FILTER_NEXT);
    if (matches[i].end) assert_int_equal(k.ctx.end, matches[i].end);
    assert_span(k.ctx.forward_path, matches[i].sent);
    regex_free(route.rewrite.regex);
    kit_fini(&k);
  }
  regex_scratch_free(scratch);
}

static void too_many_steps(void **state) {
  (void)state;
  struct kit k;
  struct regex_fault fault;
  struct text path = {0};
  text_lit(&path, "/users");
  for (int i = 0; i < 2000; i++) text_lit(&path, "/posts");
  text_lit(&path, "/edit!");
  kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
  k.request.path = text_span(&path);
  struct regex *re = regex_new(SPAN_LIT("^/users/.*/posts/.*/edit$"), &fault);
  struct route route = {.rewrite = {.regex = re, .to = SPAN_LIT("/x")}};
  k.ctx.route = &route;
  k.ctx.scratch = regex_scratch_new();
  assert_non_null(route.rewrite.regex);
  assert_int_equal(rewrite_request(&k.ctx), FILTER_ANSWER);
  assert_int_equal(k.ctx.end, END_LIMIT_REGEX);
  regex_free(route.rewrite.regex);
  regex_scratch_free(k.ctx.scratch);
  text_fini(&path);
  kit_fini(&k);
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
      cmocka_unit_test(match_table),
      cmocka_unit_test(too_many_steps),
      cmocka_unit_test(before_routing_nothing),
      cmocka_unit_test(memory_used_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
