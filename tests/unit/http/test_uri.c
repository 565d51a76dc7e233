/* test_uri.c: targets taken apart, and the canonical host of uri.h, row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "weir/http/uri.h"

static void targets(void **state) {
  (void)state;
  struct http_target t;
  enum end why = END_OK;
  assert_true(http_target_parse(SPAN_LIT("/a?b?c"), HTTP_METHOD_GET, &t, &why));
  assert_int_equal(t.form, HTTP_FORM_ORIGIN);
  assert_true(span_eq(t.path, SPAN_LIT("/a")) && span_eq(t.query, SPAN_LIT("b?c")) && t.has_query);
  assert_true(http_target_parse(SPAN_LIT("/a?"), HTTP_METHOD_GET, &t, &why));
  assert_true(t.has_query && t.query.len == 0);
  assert_true(http_target_parse(SPAN_LIT("HTTPS://A:1/b"), HTTP_METHOD_GET, &t, &why));
  assert_int_equal(t.form, HTTP_FORM_ABSOLUTE);
  assert_int_equal(t.scheme, HTTP_SCHEME_HTTPS);
  assert_true(span_eq(t.authority, SPAN_LIT("A:1")) && span_eq(t.path, SPAN_LIT("/b")));
  assert_true(http_target_parse(SPAN_LIT("http://a?q"), HTTP_METHOD_OPTIONS, &t, &why));
  assert_true(span_eq(t.path, SPAN_LIT("/")) && span_eq(t.query, SPAN_LIT("q")));
  assert_true(http_target_parse(SPAN_LIT("http://a"), HTTP_METHOD_OPTIONS, &t, &why));
  assert_true(span_eq(t.path, SPAN_LIT("*")) && !t.has_query);
  assert_true(http_target_parse(SPAN_LIT("*"), HTTP_METHOD_OPTIONS, &t, &why));
  assert_int_equal(t.form, HTTP_FORM_ASTERISK);
  assert_true(http_target_parse(SPAN_LIT("a:443"), HTTP_METHOD_CONNECT, &t, &why));
  assert_int_equal(t.form, HTTP_FORM_AUTHORITY);
  t.form = HTTP_FORM_ORIGIN;
  assert_false(http_target_parse(SPAN_LIT("*"), HTTP_METHOD_GET, &t, &why));
  assert_int_equal(why, END_BAD_REQUEST_TARGET);
  assert_int_equal(t.form, HTTP_FORM_ORIGIN); /* untouched */
  assert_false(http_target_parse(SPAN_LIT("http://"), HTTP_METHOD_GET, &t, &why));
  assert_int_equal(why, END_BAD_REQUEST_HOST);
  assert_true(http_target_parse(SPAN_LIT("/..#?"), HTTP_METHOD_GET, &t, &why));
  assert_true(span_eq(t.path, SPAN_LIT("/..#"))); /* path.h looks at it */
  assert_false(http_target_parse(SPAN_EMPTY, HTTP_METHOD_GET, &t, &why));
  assert_false(http_query_check(SPAN_LIT("a#b")) || http_query_check(SPAN_LIT("a b")) ||
               http_query_check(SPAN_LIT("\x80")));
}

static void check_host(struct arena *arena, const char *text, const char *name, unsigned port) {
  struct http_host host = {0};
  enum end why = END_OK;
  bool ok = http_host_canonical(span_str(text), arena, &host, &why);
  if (name == NULL) {
    if (ok) fail_msg("accepted: %s", text);
    assert_int_equal(why, END_BAD_REQUEST_HOST);
    return;
  }
  if (!ok) fail_msg("refused: %s", text);
  assert_true(span_eq(host.name, span_str(name)));
  assert_int_equal(host.port, port);
}

static void hosts(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  check_host(&arena, "a.example", "a.example", 0);
  assert_int_equal(arena.total, 0); /* canonical already: borrowed */
  check_host(&arena, "A.Example.:8080", "a.example", 8080);
  check_host(&arena, "a-b_c.0", "a-b_c.0", 0);
  check_host(&arena, "a:", "a", 0);
  check_host(&arena, "a:1", "a", 1);
  check_host(&arena, "a:65535", "a", 65535);
  check_host(&arena, "[::1]:80", "[::1]", 80);
  check_host(&arena, "[::]", "[::]", 0);
  check_host(&arena, "[2001:0DB8::0:1]:", "[2001:db8::1]", 0);
  check_host(&arena, "[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", 0);
  check_host(&arena, "[::FFFF:102:304]", "[::ffff:1.2.3.4]", 0);
  const char *bad[] = {"",        ".",   "..",        "a..b",   ".a",     "a:b", "a:0",
                       "a:65536", "u@a", "a/b",       "a%41",   "a b",    "[]",  "[::1",
                       "[::1]a",  "::1", "[1.2.3.4]", "[a]",    "a:1:2",  ":1",  "a,b",
                       "a\x80",   "*.a", "a*",        "[::1]:", "[::1%1]"};
  for (size_t i = 0; i < array_count(bad); i++)
    check_host(&arena, bad[i], strcmp(bad[i], "[::1]:") == 0 ? "[::1]" : NULL, 0);
  arena_reset(&arena);
  struct http_host host;
  enum end why = END_OK;
  arena_init(&arena, NULL, 1);
  assert_false(http_host_canonical(SPAN_LIT("A"), &arena, &host, &why));
  assert_int_equal(why, END_LIMIT_STREAM_MEMORY);
  assert_false(http_host_canonical(SPAN_LIT("[::1]"), &arena, &host, &why));
  assert_int_equal(why, END_LIMIT_STREAM_MEMORY);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(targets),
      cmocka_unit_test(hosts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
