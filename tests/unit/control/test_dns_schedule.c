/* test_dns_schedule.c: when a name is asked for again, for every kind of answer and failure, with
 * time and dice given; what of it is news; which names the search list makes. */
#include "control/dns_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct name_query usual = {
    .min_ttl_ms = 5000, .max_ttl_ms = 300000, .retry_ms = 1000, .max_retry_ms = 30000};

static uint64_t rng;

static uint64_t good(struct name_state *s, const struct name_query *q, uint32_t ttl_s) {
  const struct name_now now = {1000000, &rng};
  (void)name_good(s, q, ttl_s, RESOLVE_OK, &now);
  return s->next_ms - now.ms;
}

static void test_ttl(void **state) {
  (void)state;
  static const struct {
    uint32_t ttl_s;
    uint64_t wait_ms;
  } rows[] = {
      {0, 5000},           {1, 5000},        {5, 5000},          {6, 6000},
      {299, 299000},       {300, 300000},    {301, 300000},      {86400, 300000},
      {INT32_MAX, 300000}, {1u << 31, 5000}, {UINT32_MAX, 5000}, /* RFC 2181 section 8 */
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct name_state s = {.answered = false};
    assert_int_equal(good(&s, &usual, rows[i].ttl_s), rows[i].wait_ms);
    assert_int_equal(s.ttl_ms, rows[i].wait_ms);
    assert_true(s.good && s.answered && s.answer_ms == 1000000);
  }
}

static void test_jitter(void **state) {
  (void)state;
  struct name_query q = usual;
  uint64_t low = UINT64_MAX, high = 0;
  q.jitter_percent = 10;
  for (int i = 0; i < 4000; i++) {
    struct name_state s = {.answered = false};
    uint64_t wait = good(&s, &q, 100);
    low = wait < low ? wait : low;
    high = wait > high ? wait : high;
    assert_int_equal(s.ttl_ms, 100000);
  }
  assert_true(low >= 90000 && low < 90500);
  assert_true(high <= 110000 && high > 109500);
  q.min_ttl_ms = q.max_ttl_ms = 1; /* never at once */
  q.jitter_percent = 50;
  struct name_state s = {.answered = false};
  assert_true(good(&s, &q, 0) >= 1);
}

static uint64_t bad(struct name_state *s, enum resolve_result result, uint64_t now_ms,
                    enum name_change *change) {
  const struct name_now now = {now_ms, &rng};
  *change = name_bad(s, &usual, result, &now);
  return s->next_ms - now_ms;
}

static void test_failures(void **state) {
  (void)state;
  static const uint64_t pauses[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
  struct name_state s = {.answered = false};
  enum name_change change;
  for (size_t i = 0; i < array_count(pauses); i++) {
    assert_int_equal(bad(&s, RESOLVE_TIMEOUT, 100 + i, &change), pauses[i]);
    assert_int_equal(change, i == 0 ? NAME_FAILS : NAME_SAME); /* once per change, not per try */
  }
  assert_true(s.answered && !s.good);
  assert_int_equal(s.failing_ms, 100);
  for (int i = 0; i < 100; i++) {
    assert_int_equal(bad(&s, RESOLVE_TIMEOUT, 500, &change), 30000);
  }
  assert_int_equal(bad(&s, RESOLVE_NXDOMAIN, 600, &change), 30000);
  assert_int_equal(change, NAME_FAILS); /* another reason is news */
  assert_int_equal(s.failing_ms, 100);  /* but it fails for as long as before */
}

static void test_recovery(void **state) {
  (void)state;
  struct name_state s = {.answered = false};
  const struct name_now now = {5000, &rng};
  enum name_change change;
  assert_int_equal(name_good(&s, &usual, 10, RESOLVE_OK, &now), NAME_SAME); /* a start: no news */
  (void)bad(&s, RESOLVE_SERVFAIL, 6000, &change);
  (void)bad(&s, RESOLVE_SERVFAIL, 7000, &change);
  assert_int_equal(s.answer_ms, 5000); /* the last good answer's age is told */
  assert_int_equal(name_good(&s, &usual, 10, RESOLVE_OK, &now), NAME_RECOVERS);
  assert_int_equal(name_good(&s, &usual, 10, RESOLVE_OK, &now), NAME_SAME);
  assert_int_equal(bad(&s, RESOLVE_SERVFAIL, 8000, &change), 1000); /* pauses begin anew */
}

/* One family answers, the other fails: asked for again as after a failure, if the TTL is longer.
 */
static void test_partial(void **state) {
  (void)state;
  static const uint64_t pauses[] = {1000, 2000, 4000, 8000, 16000, 20000, 20000};
  struct name_state s = {.answered = false};
  const struct name_now now = {5000, &rng}, later = {6000, &rng};
  for (size_t i = 0; i < array_count(pauses); i++) {
    assert_int_equal(name_good(&s, &usual, 20, RESOLVE_SERVFAIL, &now),
                     i == 0 ? NAME_HALF : NAME_SAME);
    assert_int_equal(s.next_ms - now.ms, pauses[i]);
    assert_int_equal(s.ttl_ms, 20000);
  }
  assert_int_equal(s.half_ms, 5000);
  assert_int_equal(name_good(&s, &usual, 20, RESOLVE_TIMEOUT, &later), NAME_HALF);
  assert_int_equal(s.half_ms, 5000); /* another reason, but for as long as before */
  assert_int_equal(name_good(&s, &usual, 20, RESOLVE_OK, &now), NAME_WHOLE);
  assert_int_equal(s.next_ms - now.ms, 20000);
  assert_int_equal(name_good(&s, &usual, 20, RESOLVE_OK, &now), NAME_SAME);
}

/* Between half an answer and none: what is told is what is so now. */
static void test_partial_and_failing(void **state) {
  (void)state;
  struct name_state s = {.answered = false};
  const struct name_now now = {5000, &rng};
  enum name_change change;
  (void)name_good(&s, &usual, 20, RESOLVE_SERVFAIL, &now);
  (void)bad(&s, RESOLVE_SERVFAIL, 6000, &change);
  assert_int_equal(change, NAME_FAILS);
  assert_int_equal(s.half, RESOLVE_OK);
  assert_int_equal(name_good(&s, &usual, 20, RESOLVE_SERVFAIL, &now), NAME_HALF);
  (void)bad(&s, RESOLVE_SERVFAIL, 6000, &change);
  assert_int_equal(name_good(&s, &usual, 20, RESOLVE_OK, &now), NAME_RECOVERS);
}

/* ---- the search list ---- */

static void expect_names(const struct dns_search *search, const char *name,
                         const char *const *wanted) {
  char out[DNS_NAME_SIZE];
  uint32_t i = 0;
  for (; wanted[i]; i++) {
    assert_true(dns_search_name(search, span_str(name), i, out));
    assert_string_equal(out, wanted[i]);
  }
  assert_false(dns_search_name(search, span_str(name), i, out));
}

static void test_search(void **state) {
  (void)state;
  char *domains[] = {(char[]){"a.test"}, (char[]){"b.test"}};
  const struct dns_search none = {.ndots = 1}, two = {domains, 2, 2};
  expect_names(&none, "db", (const char *const[]){"db", NULL});
  expect_names(&none, "db.x.test.", (const char *const[]){"db.x.test", NULL});
  expect_names(&two, "db", (const char *const[]){"db.a.test", "db.b.test", "db", NULL});
  expect_names(&two, "db.x", (const char *const[]){"db.x.a.test", "db.x.b.test", "db.x", NULL});
  expect_names(&two, "db.x.y",
               (const char *const[]){"db.x.y", "db.x.y.a.test", "db.x.y.b.test", NULL});
  expect_names(&two, "db.", (const char *const[]){"db", NULL});
}

static void test_search_too_long(void **state) {
  (void)state;
  char *domains[] = {(char[]){"a.test"}};
  const struct dns_search one = {domains, 1, 0};
  char name[251], out[DNS_NAME_SIZE];
  for (size_t i = 0; i < sizeof name - 1; i++) {
    name[i] = i % 50 == 49 ? '.' : 'x';
  }
  name[sizeof name - 1] = 0;
  name[249] = 'x';
  assert_true(dns_search_name(&one, span_str(name), 0, out));
  assert_string_equal(out, name);
  assert_true(dns_search_name(&one, span_str(name), 1, out));
  assert_string_equal(out, ""); /* refused when it is asked for */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ttl),
      cmocka_unit_test(test_jitter),
      cmocka_unit_test(test_failures),
      cmocka_unit_test(test_recovery),
      cmocka_unit_test(test_partial), cmocka_unit_test(test_partial_and_failing),
      cmocka_unit_test(test_search),
      cmocka_unit_test(test_search_too_long),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
