/* test_sni.c: which row of sni a ClientHello goes by: names by how specific they are, protocols in
 * the order of the rows, the listener's pool for the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "weir/model/parts.h"

static struct pool pools[6]; /* told apart by their place */

static const struct span h2 = SPAN_LIT("h2"), web[] = {SPAN_LIT("h2"), SPAN_LIT("http/1.1")};

static const struct listener_sni rows[] = {
    {.name = SPAN_LIT(".example"), .pool = &pools[1]},
    {.name = SPAN_LIT("a.example"), .alpn = &h2, .alpn_count = 1, .pool = &pools[2]},
    {.name = SPAN_LIT("a.example"), .alpn = web, .alpn_count = 2, .pool = &pools[3]},
    {.name = SPAN_LIT(".b.example"), .pool = &pools[4]},
    {.alpn = &h2, .alpn_count = 1, .pool = &pools[5]},
};

/* ask gives the place of the pool, or minus the verdict. */
static int ask(struct pool *otherwise, const char *host, const char *alpn) {
  const struct listener l = {
      .sni = (struct listener_sni *)rows, .sni_count = array_count(rows), .pool = otherwise};
  struct client_hello hello = {.host = span_str(host), .alpn = span_str(alpn)};
  struct pool *pool = NULL;
  enum sni_verdict v = sni_find(&l, &hello, &pool);
  return v == SNI_ROUTED ? (int)(pool - pools) : -(int)v;
}

static void test_names(void **state) {
  (void)state;
  assert_int_equal(ask(NULL, "x.example", ""), 1);
  assert_int_equal(ask(NULL, "x.y.example", ""), 1);
  assert_int_equal(ask(NULL, "b.example", ""), 1);
  assert_int_equal(ask(NULL, "x.b.example", ""), 4);
  assert_int_equal(ask(NULL, "xb.example", ""), 1);
}

static void test_protocols(void **state) {
  (void)state;
  assert_int_equal(ask(NULL, "a.example", "\x02h2\x08http/1.1"), 2);
  assert_int_equal(ask(NULL, "a.example", "\x08http/1.1"), 3);
  assert_int_equal(ask(&pools[0], "a.example", "\x04imap"), -SNI_NO_PROTOCOL);
  assert_int_equal(ask(&pools[0], "a.example", ""), -SNI_NO_PROTOCOL);
}

static void test_the_rest(void **state) {
  (void)state;
  assert_int_equal(ask(NULL, "a.test", "\x02h2"), 5);
  assert_int_equal(ask(NULL, "", "\x02h2"), 5);
  assert_int_equal(ask(NULL, "a.test", ""), -SNI_NO_PROTOCOL);
  assert_int_equal(ask(&pools[0], "a.test", ""), 0);
  assert_int_equal(ask(&pools[0], "example", ""), 0);
  const struct listener bare = {.sni_count = 0};
  const struct client_hello hello = {.host = SPAN_LIT("a.test")};
  struct pool *pool = NULL;
  assert_int_equal(sni_find(&bare, &hello, &pool), SNI_NO_NAME);
  assert_null(pool);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_names),
                                     cmocka_unit_test(test_protocols),
                                     cmocka_unit_test(test_the_rest)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
