/* test_h1_request.c: what a parsed request says, beyond accepted or refused (test_h1_head.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "weir/http/h1.h"

static const struct h1_limits usual = {.header_bytes = 65536, .headers = 100, .uri_bytes = 16384};
static struct arena arena;

static int setup(void **state) {
  (void)state;
  arena_init(&arena, NULL, 0);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  arena_reset(&arena);
  return 0;
}

static struct http_request parse(const char *text) {
  struct h1_scan scan = {0};
  struct http_request req;
  enum end why = END_OK;
  enum http_result result = h1_parse_request(&scan, span_str(text), &usual, &arena, &req, &why);
  if (result != HTTP_DONE)
    fail_msg("%s: %d " SPAN_FMT, text, result, SPAN_ARG(end_get(why)->word));
  return req;
}

static enum end refuse(const char *text, const struct h1_limits *limits) {
  struct h1_scan scan = {0};
  struct http_request req = {.head_len = 77};
  enum end why = END_OK;
  if (h1_parse_request(&scan, span_str(text), limits, &arena, &req, &why) != HTTP_BAD)
    fail_msg("not refused: %s", text);
  assert_int_equal(req.head_len, 77); /* untouched */
  return why;
}

static void takes_apart(void **state) {
  (void)state;
  const char *text =
      "\r\nPOST http://A.example:81/p?q HTTP/1.1\r\nHost: a.example:81\r\nContent-Length: 3\r\n"
      "Expect: 100-continue\r\nX-A:  b \r\n\r\nabc";
  struct http_request req = parse(text);
  assert_int_equal(req.method, HTTP_METHOD_POST);
  assert_int_equal(req.form, HTTP_FORM_ABSOLUTE);
  assert_int_equal(req.scheme, HTTP_SCHEME_HTTP);
  assert_true(span_eq(req.method_text, SPAN_LIT("POST")));
  assert_true(span_eq(req.target, SPAN_LIT("http://A.example:81/p?q")));
  assert_true(span_eq(req.path, SPAN_LIT("/p")) && span_eq(req.query, SPAN_LIT("q")));
  assert_true(req.has_query && span_eq(req.host, SPAN_LIT("a.example")));
  assert_int_equal(req.port, 81);
  assert_int_equal(req.minor, 1);
  assert_int_equal(req.body, HTTP_BODY_LENGTH);
  assert_int_equal(req.content_length, 3);
  assert_true(req.keepalive && req.expect_continue);
  assert_int_equal(req.upgrade.len, 0);
  assert_int_equal(req.fields.count, 4);
  assert_int_equal(req.head_len, strlen(text) - strlen("abc"));
  assert_int_equal(http_fields_find(&req.fields, HTTP_NAME_HOST)->flags, HTTP_FIELD_OWN);
  assert_int_equal(http_fields_find(&req.fields, HTTP_NAME_CONTENT_LENGTH)->flags, HTTP_FIELD_OWN);
  assert_int_equal(http_fields_find(&req.fields, HTTP_NAME_EXPECT)->flags, 0);
  assert_true(span_eq(http_fields_find_name(&req.fields, SPAN_LIT("x-a"))->value, SPAN_LIT("b")));
}

static void keeps_alive(void **state) {
  (void)state;
  assert_true(parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n").keepalive);
  assert_false(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").keepalive);
  assert_false(
      parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n")
          .keepalive);
  assert_false(parse("GET / HTTP/1.0\r\n\r\n").keepalive);
  assert_true(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keepalive);
  assert_false(parse("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n").keepalive);
  assert_false(parse("GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n").keepalive);
}

static void upgrades(void **state) {
  (void)state;
  struct http_request req = parse(
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket, "
      "x\r\n\r\n");
  assert_true(span_eq(req.upgrade, SPAN_LIT("WebSocket")));
  assert_true(req.keepalive);
  assert_int_equal(http_fields_find(&req.fields, HTTP_NAME_UPGRADE)->flags, HTTP_FIELD_HOP);
  req = parse("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
  assert_int_equal(req.upgrade.len, 0);
  req = parse(
      "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: a/1\r\n"
      "Content-Length: 0\r\n\r\n");
  assert_true(span_eq(req.upgrade, SPAN_LIT("a/1")));
  req = parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x, h2C\r\n\r\n");
  assert_int_equal(req.upgrade.len, 0);
}

static void expects(void **state) {
  (void)state;
  struct http_request req =
      parse("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  assert_false(req.expect_continue);
  assert_int_equal(http_fields_find(&req.fields, HTTP_NAME_EXPECT)->flags, HTTP_FIELD_HOP);
  req = parse("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n");
  assert_false(req.expect_continue);
  req = parse(
      "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n"
      "Transfer-Encoding: chunked\r\n\r\n");
  assert_true(req.expect_continue);
}

static void trusted_forwarding_can_be_read(void **state) {
  (void)state;
  struct http_request req =
      parse("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX_Forwarded_For: 2\r\n\r\n");
  struct http_field *row = http_fields_find(&req.fields, HTTP_NAME_X_FORWARDED_FOR);
  assert_int_equal(row->flags, HTTP_FIELD_FORWARDING);
  assert_true(span_eq(row->value, SPAN_LIT("1.1.1.1")));
  assert_null(http_fields_next(&req.fields, HTTP_NAME_X_FORWARDED_FOR, row));
  assert_int_equal(req.fields.rows[2].flags, HTTP_FIELD_ALIAS);
}

static void limits_are_inclusive(void **state) {
  (void)state;
  const char *text = "GET /abc HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nbody";
  struct h1_limits exact = {.header_bytes = 36, .headers = 2, .uri_bytes = 4};
  struct h1_scan scan = {0};
  struct http_request req;
  enum end why = END_OK;
  assert_int_equal(h1_parse_request(&scan, span_str(text), &exact, &arena, &req, &why), HTTP_DONE);
  assert_int_equal(req.head_len, 36);
  struct h1_limits less = exact;
  less.header_bytes--;
  assert_int_equal(refuse(text, &less), END_LIMIT_HEADER_BYTES);
  less = exact;
  less.headers--;
  assert_int_equal(refuse(text, &less), END_LIMIT_HEADERS);
  less = exact;
  less.uri_bytes--;
  assert_int_equal(refuse(text, &less), END_LIMIT_URI);
}

/* Faults are told before the head is complete. */
static void refuses_early(void **state) {
  (void)state;
  assert_int_equal(refuse("\x16\x03\x01", &usual), END_BAD_REQUEST_LINE);
  assert_int_equal(refuse("PRI * HTTP/2.0", &usual), END_BAD_REQUEST_H2_PREFACE);
  assert_int_equal(refuse("GET / HTTP/2.0", &usual), END_BAD_REQUEST_VERSION);
  assert_int_equal(refuse("GET /\xe9 HTTP/1.1\r\n", &usual), END_BAD_REQUEST_PATH);
  assert_int_equal(refuse("GET / HTTP/1.1\r\nHost: a\r\nX : y", &usual),
                   END_BAD_REQUEST_FIELD_NAME);
  assert_int_equal(refuse("GET / HTTP/1.1\r\nX: \x01", &usual), END_BAD_REQUEST_FIELD_VALUE);
  assert_int_equal(refuse("CONNECT a:1 HTTP/1.1\r\n", &usual), END_BAD_REQUEST_METHOD_NOT_SERVED);
}

static void arena_limit_is_a_cause(void **state) {
  (void)state;
  struct arena small;
  struct h1_scan scan = {0};
  struct http_request req;
  enum end why = END_OK;
  arena_init(&small, NULL, 64);
  assert_int_equal(h1_parse_request(&scan, SPAN_LIT("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), &usual,
                                    &small, &req, &why),
                   HTTP_BAD);
  assert_int_equal(why, END_LIMIT_STREAM_MEMORY);
  arena_reset(&small);
}

/* A large head that comes byte by byte, moving now and then, is read as if it had come at once. */
static void grows_byte_by_byte(void **state) {
  (void)state;
  struct text head = {0};
  text_lit(&head, "GET /");
  for (int i = 0; i < 12000; i++) text_lit(&head, "u");
  text_lit(&head, " HTTP/1.1\r\nHost: a\r\n");
  for (int i = 0; i < 90; i++) text_printf(&head, "X-Field-%d: %0500d\r\n", i, i);
  text_lit(&head, "\r\n");
  assert_true(head.len < usual.header_bytes);
  struct h1_scan scan = {0};
  struct http_request req;
  enum end why = END_OK;
  enum http_result result = HTTP_MORE;
  char *block = NULL;
  for (size_t len = 1; len <= head.len; len++) {
    assert_int_equal(result, HTTP_MORE);
    if (len % 997 == 1) {
      char *moved = malloc(head.len);
      assert_non_null(moved);
      memcpy(moved, head.ptr, head.len);
      free(block);
      block = moved;
    }
    result = h1_parse_request(&scan, span_of(block, len), &usual, &arena, &req, &why);
  }
  assert_int_equal(result, HTTP_DONE);
  assert_int_equal(req.head_len, head.len);
  assert_int_equal(req.fields.count, 91);
  for (uint32_t i = 1; i < 91; i++) {
    const struct http_field *row = &req.fields.rows[i];
    assert_true(row->name.ptr > block && row->value.ptr + row->value.len < block + head.len);
    assert_int_equal(row->value.len, 500);
  }
  free(block);
  text_fini(&head);
}

/* seen_of is what is known of a head of which only `len` bytes came. */
static struct http_request seen_of(const char *text, size_t len, bool *version) {
  struct h1_scan scan = {0};
  struct http_request req;
  enum end why;
  char *exact = malloc(len + 1); /* the sanitizer's: nothing behind it is looked at */
  memcpy(exact, text, len);
  struct span input = span_of(exact, len);
  assert_true(h1_parse_request(&scan, input, &usual, &arena, &req, &why) != HTTP_DONE);
  *version = h1_request_seen(&scan, input, &arena, &req);
  static char kept[4][64];
  struct span *parts[] = {&req.method_text, &req.path, &req.query, &req.host};
  for (size_t i = 0; i < 4; i++) {
    if (parts[i]->len) memcpy(kept[i], parts[i]->ptr, parts[i]->len);
    *parts[i] = span_of(kept[i], parts[i]->len);
  }
  free(exact);
  return req;
}

/* What was read is told wherever the head ends: each part once it is whole, a target as it comes.
 */
static void seen_so_far(void **state) {
  (void)state;
  const char *text = "GET /a?b HTTP/1.1\r\nHost: X.y\r\nBad Field: z\r\n\r\n";
  for (size_t len = 0; len <= strlen(text); len++) {
    bool version;
    struct http_request req = seen_of(text, len, &version);
    assert_true(span_eq(req.method_text, span_str(len > 3 ? "GET" : "")));
    assert_true(version == (len >= 19));
    if (len >= 9)
      assert_true(span_eq(req.path, SPAN_LIT("/a")) && span_eq(req.query, SPAN_LIT("b")));
    else
      assert_true(req.path.len == (len > 4 ? len - 4 : 0) && !req.query.len);
    assert_true(span_eq(req.host, span_str(len >= 30 ? "x.y" : "")));
  }
}

/* A target that is none is told as it came. */
static void seen_of_bad_targets(void **state) {
  (void)state;
  static const char *const rows[][2] = {
      {"GET x HTTP/1.1\r\n", "x"},           {"GET /a\x01 HTTP/1.1\r\n", "/a"},
      {"CONNECT a:1 HTTP/1.1\r\n", "a:1"},   {"GET ftp://u@h/ HTTP/1.1\r\n", "ftp://u@h/"},
      {"GET http://h HTTP/1.1\r\nX y", "/"}, {"G(T / HTTP/1.1\r\n", ""},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    bool version;
    struct http_request req = seen_of(rows[i][0], strlen(rows[i][0]), &version);
    if (!span_eq(req.path, span_str(rows[i][1])))
      fail_msg("%s: " SPAN_FMT, rows[i][0], SPAN_ARG(req.path));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(takes_apart, setup, teardown),
      cmocka_unit_test_setup_teardown(keeps_alive, setup, teardown),
      cmocka_unit_test_setup_teardown(upgrades, setup, teardown),
      cmocka_unit_test_setup_teardown(expects, setup, teardown),
      cmocka_unit_test_setup_teardown(trusted_forwarding_can_be_read, setup, teardown),
      cmocka_unit_test_setup_teardown(limits_are_inclusive, setup, teardown),
      cmocka_unit_test_setup_teardown(refuses_early, setup, teardown),
      cmocka_unit_test_setup_teardown(arena_limit_is_a_cause, setup, teardown),
      cmocka_unit_test_setup_teardown(grows_byte_by_byte, setup, teardown),
      cmocka_unit_test_setup_teardown(seen_so_far, setup, teardown),
      cmocka_unit_test_setup_teardown(seen_of_bad_targets, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
