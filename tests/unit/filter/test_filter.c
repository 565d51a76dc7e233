/* test_filter.c: the rows of filters.def run in order, and the first that answers stops the rest.
 */
#include "filter_kit.h"

static void request_rows_run(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET /api/x HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n", 0);
  kit_peer(&k, "192.0.2.7");
  struct route route = {.strip_prefix = true, .path = SPAN_LIT("/api")};
  k.ctx.route = &route;
  assert_int_equal(filter_request(&k.ctx), FILTER_NEXT);
  assert_span(kit_sent(&k, &k.request.fields, "X-Forwarded-For"), "192.0.2.7");
  assert_span(kit_sent(&k, &k.request.fields, "Via"), "1.1 weir");
  assert_span(k.ctx.forward_path, "/x");
  assert_span(k.ctx.client, "192.0.2.7");
  kit_fini(&k);
}

static void response_rows_run(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
  k.response.minor = 1;
  k.ctx.response = &k.response;
  assert_int_equal(filter_response(&k.ctx), FILTER_NEXT);
  assert_span(kit_sent(&k, &k.response.fields, "Via"), "1.1 weir");
  kit_fini(&k);
}

static void an_answer_stops_the_rest(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET /api/x HTTP/1.1\r\nHost: h\r\n\r\n", 0);
  kit_peer(&k, "192.0.2.7");
  struct route route = {.strip_prefix = true, .path = SPAN_LIT("/api")};
  struct arena none;
  arena_init(&none, NULL, 1);
  k.ctx.route = &route;
  k.ctx.arena = &none;
  k.request.fields.cap = k.request.fields.count;
  assert_int_equal(filter_request(&k.ctx), FILTER_ANSWER);
  assert_int_equal(k.ctx.end, END_LIMIT_STREAM_MEMORY);
  assert_int_equal(k.ctx.forward_path.len, 0); /* strip_prefix stands behind it */
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(request_rows_run),
      cmocka_unit_test(response_rows_run),
      cmocka_unit_test(an_answer_stops_the_rest),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
