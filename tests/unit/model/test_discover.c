/* test_discover.c: when two questions for a name are one: each setting tells them apart, the case
 * of the name does not. */
#include "weir/model/discover.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct name_query usual = {.name = SPAN_LIT("a.test"),
                                        .servers = SPAN_LIT("127.0.0.1:53"),
                                        .jitter_percent = 10,
                                        .timeout_ms = 1,
                                        .attempts = 2,
                                        .min_ttl_ms = 3,
                                        .max_ttl_ms = 4,
                                        .retry_ms = 5,
                                        .max_retry_ms = 6};

static void expect(const struct name_query *other, bool same) {
  assert_int_equal(name_query_same(&usual, other), same);
  assert_int_equal(name_query_hash(&usual) == name_query_hash(other), same);
}

static void test_same(void **state) {
  (void)state;
  struct name_query q = usual;
  expect(&q, true);
  q.name = SPAN_LIT("A.Test");
  expect(&q, true);
  assert_true(name_hash(q.name) == name_hash(usual.name));
  assert_true(name_hash(q.name) != name_hash(SPAN_LIT("b.test")));
}

#define DIFFERS(member, value) \
  do { \
    struct name_query q = usual; \
    q.member = value; \
    expect(&q, false); \
  } while (0)

static void test_different(void **state) {
  (void)state;
  DIFFERS(name, SPAN_LIT("a.test."));
  DIFFERS(servers, SPAN_LIT("127.0.0.1:54"));
  DIFFERS(servers, SPAN_EMPTY);
  DIFFERS(srv, true);
  DIFFERS(family, NAME_V6);
  DIFFERS(jitter_percent, 0);
  DIFFERS(timeout_ms, 2);
  DIFFERS(attempts, 1);
  DIFFERS(min_ttl_ms, 4);
  DIFFERS(max_ttl_ms, 3);
  DIFFERS(retry_ms, 6);
  DIFFERS(max_retry_ms, 5);
}

static void test_addr(void **state) {
  (void)state;
  struct addr a;
  assert_true(addr_from_ip(SPAN_LIT("192.0.2.1"), 0, &a));
  a = name_addr(a, 80);
  assert_int_equal(addr_port(&a), 80);
  assert_true(addr_from_ip(SPAN_LIT("2001:db8::1"), 0, &a));
  a = name_addr(a, 65535);
  assert_int_equal(addr_port(&a), 65535);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_same), cmocka_unit_test(test_different),
                                     cmocka_unit_test(test_addr)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
