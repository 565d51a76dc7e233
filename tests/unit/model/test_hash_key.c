/* test_hash_key.c: how keys are written, what they find in a request, and that hashes are the same
 * everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/hash.h"
#include "weir/http/h1.h"
#include "weir/model/balance.h"

static void forms(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int source; /* HASH_NONE: refused */
    const char *name;
  } rows[] = {
      {"client_ip", HASH_CLIENT, ""},  {"path", HASH_PATH, ""},
      {"header:X-User", HASH_HEADER, "X-User"}, {"cookie:id", HASH_COOKIE, "id"},
      {"query:user", HASH_QUERY, "user"},   {"query:a[]", HASH_QUERY, "a[]"},
      {"", HASH_NONE, ""},                  {"Path", HASH_NONE, ""},
      {"path:", HASH_NONE, ""},             {"path/x", HASH_NONE, ""},
      {"client_ipx", HASH_NONE, ""},   {"header:", HASH_NONE, ""},
      {"header: x", HASH_NONE, ""},         {"header:a:b", HASH_NONE, ""},
      {"cookie:a=b", HASH_NONE, ""},        {"query:", HASH_NONE, ""},
      {"query:a=b", HASH_NONE, ""},         {"query:a&b", HASH_NONE, ""},
      {"header", HASH_NONE, ""},            {"user", HASH_NONE, ""},
      {"header:Host", HASH_NONE, ""},       {"header:connection", HASH_NONE, ""},
      {"header:Upgrade", HASH_NONE, ""},    {"header:Content-Length", HASH_NONE, ""},
      {"header:X-Forwarded-For", HASH_HEADER, "X-Forwarded-For"},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct hash_key key = {.source = 99};
    bool good = hash_key_parse(span_str(rows[i].text), &key);
    if (good != (rows[i].source != HASH_NONE)) fail_msg("%s", rows[i].text);
    assert_int_equal(key.source, good ? rows[i].source : 99);
    if (good) assert_true(span_eq(key.name, span_str(rows[i].name)));
  }
}

static const char head[] =
    "GET /a/b?x=1&user=u%2f7&empty=&c%6fded=%41 HTTP/1.1\r\nHost: h\r\n"
    "X-User: seven\r\nx-user: eight\r\n"
    "Connection: X-Hop\r\nX-Hop: 1\r\nX-Two: 2\r\n"
    "Cookie: id=c1; s=2; odd =x; bare\r\nX-Empty:\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n";

static void finds(void **state) {
  (void)state;
  static const struct {
    const char *key, *value; /* NULL: the request has none */
  } rows[] = {
      {"client_ip", "192.0.2.1"}, {"path", "/a/b"},     {"header:x-uSER", "seven"},
      {"header:X-Two", "2"},           {"cookie:id", "c1"},  {"query:user", "u%2f7"},
      {"cookie:odd", "x"},             {"query:coded", "%41"}, {"header:X-Hop", NULL},
      {"cookie:bare", NULL},
      {"header:X-None", NULL},         {"cookie:ID", NULL},  {"cookie:i", NULL},
      {"query:none", NULL},            {"query:empty", NULL}, {"header:X-Empty", NULL},
      {"header:X-Forwarded-For", NULL}, /* the client's own word is not passed on either */
  };
  struct arena arena;
  struct h1_scan scan = {0};
  struct h1_limits limits = {65536, 100, 8192};
  struct http_request request;
  enum end why;
  arena_init(&arena, NULL, 0);
  assert_int_equal(h1_parse_request(&scan, span_str(head), &limits, &arena, &request, &why),
                   HTTP_DONE);
  for (size_t i = 0; i < array_count(rows); i++) {
    struct hash_key key;
    uint64_t hash = 7;
    assert_true(hash_key_parse(span_str(rows[i].key), &key));
    bool found = hash_key_find(&key, &request, SPAN_LIT("192.0.2.1"), &hash);
    if (found != (rows[i].value != NULL)) fail_msg("%s", rows[i].key);
    assert_true(hash == (found ? hash_bytes(span_str(rows[i].value)) : 7));
  }
  struct hash_key client = {.source = HASH_CLIENT}, none = {.source = HASH_NONE};
  uint64_t hash;
  assert_false(hash_key_find(&client, &request, SPAN_EMPTY, &hash)); /* a unix socket */
  assert_false(hash_key_find(&none, &request, SPAN_LIT("192.0.2.1"), &hash));
  arena_reset(&arena);
}

/* A contract between machines and versions (XXH3, seed 0): a change moves every key. */
static void the_hash_is_known(void **state) {
  (void)state;
  assert_true(hash_bytes(SPAN_LIT("192.0.2.1")) == UINT64_C(0xd5f33d205a82b1d0));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(forms),
      cmocka_unit_test(finds),
      cmocka_unit_test(the_hash_is_known),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
