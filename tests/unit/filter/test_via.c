/* test_via.c: this hop in Via, both ways, behind what came (RFC 9110 section 7.6.3). */
#include "filter_kit.h"

static void request_names_the_received_version(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
  assert_int_equal(via_request(&k.ctx), FILTER_NEXT);
  assert_span(kit_sent(&k, &k.request.fields, "Via"), "1.1 weir");
  kit_fini(&k);
  kit_init(&k, "GET / HTTP/1.0\r\n\r\n", 0);
  assert_int_equal(via_request(&k.ctx), FILTER_NEXT);
  assert_span(kit_sent(&k, &k.request.fields, "Via"), "1.0 weir");
  kit_fini(&k);
}

static void ours_stands_last(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\nVia: 1.0 fred\r\nVia: 1.1 bob\r\n\r\n", 0);
  assert_int_equal(via_request(&k.ctx), FILTER_NEXT);
  assert_span(kit_sent(&k, &k.request.fields, "Via"), "1.0 fred|1.1 bob|1.1 weir");
  kit_fini(&k);
}

static void responses_too(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
  k.ctx.response = &k.response;
  for (unsigned minor = 0; minor < 2; minor++) {
    k.response = (struct http_response){.minor = (uint8_t)minor};
    assert_int_equal(via_response(&k.ctx), FILTER_NEXT);
    assert_span(kit_sent(&k, &k.response.fields, "Via"), minor ? "1.1 weir" : "1.0 weir");
  }
  kit_fini(&k);
}

static void memory_runs_out(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0);
  struct arena none;
  arena_init(&none, NULL, 1);
  k.ctx.arena = &none;
  k.request.fields.cap = k.request.fields.count; /* the next row needs memory */
  assert_int_equal(via_request(&k.ctx), FILTER_ANSWER);
  assert_int_equal(k.ctx.end, END_LIMIT_STREAM_MEMORY);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(request_names_the_received_version),
      cmocka_unit_test(ours_stands_last),
      cmocka_unit_test(responses_too),
      cmocka_unit_test(memory_runs_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
