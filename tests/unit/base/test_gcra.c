/* test_gcra.c: rates against a slow twin (a bucket of tokens for each key, with random keys and
 * times), in every window of time, with full tables, and with threads on one key. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "weir/base/gcra.h"
#include "weir/base/hash.h"

#define SECOND UINT64_C(1000000000)

static uint64_t key_of(uint64_t n) { return hash_keyed(span_of((const char *)&n, sizeof n)); }

static void intervals(void **state) {
  (void)state;
  struct gcra g = gcra_of(100, SECOND, 200);
  assert_int_equal(g.interval_ns, 10000000);
  assert_int_equal(g.burst_ns, 2 * SECOND);
  assert_int_equal(gcra_of(3, SECOND, 1).interval_ns, 333333334); /* never above the limit */
  assert_int_equal(gcra_of(GCRA_LIMIT_MAX, SECOND, 1).interval_ns, 1000);
  assert_true(gcra_of(1, GCRA_PERIOD_MAX_NS, GCRA_LIMIT_MAX).burst_ns < UINT64_C(1) << 62);
}

static void burst_then_rate(void **state) {
  (void)state;
  struct tally t;
  struct gcra g = gcra_of(10, SECOND, 5);
  struct gcra_answer a;
  uint64_t now = 7 * SECOND;
  assert_true(tally_init(&t, 4));
  for (uint32_t i = 0; i < 5; i++) {
    gcra_peek(&t, &g, 1, now, &a);
    assert_true(a.granted && a.left == 5 - i);
    gcra_take(&t, &g, 1, now, &a);
    assert_true(a.granted && !a.shared && a.left == 4 - i);
  }
  gcra_take(&t, &g, 1, now, &a);
  assert_true(!a.granted && a.left == 0);
  assert_int_equal(a.wait_ns, SECOND / 10);
  gcra_take(&t, &g, 1, now + SECOND / 10 - 1, &a);
  assert_false(a.granted);
  assert_int_equal(a.wait_ns, 1);
  gcra_take(&t, &g, 1, now + SECOND / 10, &a);
  assert_true(a.granted);
  gcra_take(&t, &g, 2, now, &a); /* another key knows nothing of it */
  assert_true(a.granted && a.left == 4);
  gcra_take(&t, &g, 1, now + 100 * SECOND, &a);
  assert_true(a.granted && a.left == 4);
  tally_fini(&t);
}

/* ---- the slow twin ---- */

enum { KEYS = 300, EVENTS = 60000 };

struct bucket {
  uint64_t level_ns, seen_ns;
};

static bool bucket_take(struct bucket *b, const struct gcra *g, uint64_t now) {
  uint64_t level = b->seen_ns ? b->level_ns + (now - b->seen_ns) : g->burst_ns;
  b->level_ns = level < g->burst_ns ? level : g->burst_ns;
  b->seen_ns = now;
  if (b->level_ns < g->interval_ns) return false;
  b->level_ns -= g->interval_ns;
  return true;
}

static void same_as_buckets(const struct gcra *g, uint64_t seed) {
  static struct bucket buckets[KEYS];
  struct tally t;
  uint64_t now = SECOND, rng = seed, granted = 0;
  memset(buckets, 0, sizeof buckets);
  assert_true(tally_init(&t, 64 * KEYS)); /* so large that no set is ever full */
  for (uint32_t i = 0; i < EVENTS; i++) {
    uint64_t n = rng_next(&rng) % KEYS;
    if (rng_next(&rng) % 4 == 0) n %= 4; /* some come much more often */
    now += rng_next(&rng) % (g->interval_ns / 16 + 2);
    if (rng_next(&rng) % 5000 == 0) now += g->burst_ns;
    struct gcra_answer a;
    gcra_take(&t, g, key_of(n), now, &a);
    assert_false(a.shared);
    assert_int_equal(a.granted, bucket_take(&buckets[n], g, now));
    granted += a.granted;
    if (a.granted) assert_int_equal(a.left, buckets[n].level_ns / g->interval_ns);
    else assert_int_equal(a.wait_ns, g->interval_ns - buckets[n].level_ns);
  }
  assert_true(granted > EVENTS / 100 && granted < EVENTS);
  tally_fini(&t);
}

static void is_a_token_bucket(void **state) {
  (void)state;
  static const struct {
    uint32_t limit, burst;
    uint64_t period;
  } rates[] = {{1, 1, SECOND},       {100, 200, SECOND}, {3, 7, SECOND}, {60, 10, 60 * SECOND},
               {1000000, 1, SECOND}, {7, 3, 3600 * SECOND}};
  for (size_t i = 0; i < array_count(rates); i++) {
    struct gcra g = gcra_of(rates[i].limit, rates[i].period, rates[i].burst);
    same_as_buckets(&g, 1000 + i);
  }
}

/* ---- every window ---- */

/* windows checks that no window over the times of grants holds more than limit and burst. */
static void windows(const struct gcra *g, const uint64_t *times, uint32_t count) {
  for (uint32_t from = 0; from < count; from++)
    for (uint32_t to = from; to < count; to++)
      assert_true((to - from + 1) * g->interval_ns <= times[to] - times[from] + g->burst_ns);
}

static void no_window_holds_more(void **state) {
  (void)state;
  enum { MOST = 1500 };
  static uint64_t times[2][MOST];
  uint32_t count[2] = {0, 0};
  struct tally t;
  struct gcra g = gcra_of(50, SECOND, 20);
  uint64_t rng = 5, now = SECOND;
  /* one set, and more keys than slots: a slot changes hands, the spare too */
  assert_true(tally_init(&t, 4));
  while (count[0] < MOST && count[1] < MOST) {
    now += rng_next(&rng) % (8 * SECOND / 1000);
    struct gcra_answer a;
    uint64_t n = rng_next(&rng) % 20;
    gcra_take(&t, &g, n < 10 ? 1 : n, now, &a); /* key 1 never rests, so it stays */
    if (a.granted && (n < 10 || a.shared)) {
      uint32_t list = n < 10 ? 0 : 1;
      assert_true(list == 1 || !a.shared);
      times[list][count[list]++] = now;
    }
  }
  for (uint32_t i = 0; i < 2; i++) windows(&g, times[i], count[i]);
  assert_true(count[0] > 100 && count[1] > 100);
  tally_fini(&t);
}

static void only_the_paid_are_evicted(void **state) {
  (void)state;
  struct tally t;
  struct gcra g = gcra_of(10, SECOND, 10);
  struct gcra_answer a;
  uint64_t now = SECOND;
  assert_true(tally_init(&t, 1));
  for (uint64_t key = 1; key <= TALLY_WAYS; key++) gcra_take(&t, &g, key, now, &a);
  gcra_take(&t, &g, 50, now + SECOND / 10 - 1, &a); /* all owe a nanosecond still */
  assert_true(a.granted && a.shared);
  gcra_take(&t, &g, 51, now + SECOND / 10 + GCRA_LAG_NS - 1, &a); /* paid, but just */
  assert_true(a.shared);
  gcra_take(&t, &g, 52, now + SECOND / 10 + GCRA_LAG_NS, &a);
  assert_true(a.granted && !a.shared);
  tally_fini(&t);
}

/* ---- threads ---- */

enum { THREADS = 4, TAKES = 100000 };

struct hammer {
  struct tally t;
  struct gcra g;
  uint32_t keys;
  _Atomic uint64_t granted[4];
};

static uint64_t clock_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void *hammer(void *arg) {
  struct hammer *h = arg;
  for (uint32_t i = 0; i < TAKES; i++) {
    struct gcra_answer a;
    gcra_take(&h->t, &h->g, key_of(i % h->keys), clock_ns(), &a);
    if (a.granted && !a.shared) atomic_fetch_add(&h->granted[i % h->keys], 1);
  }
  return NULL;
}

/* Granted at most t * limit + burst for each key; and with all threads at it, burst at least. */
static void exact_with_threads(uint32_t keys) {
  static struct hammer h;
  pthread_t threads[THREADS];
  h = (struct hammer){.g = gcra_of(20000, SECOND, 500), .keys = keys};
  assert_true(tally_init(&h.t, 4));
  uint64_t start = clock_ns();
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, hammer, &h), 0);
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  uint64_t most = (clock_ns() - start) / h.g.interval_ns + 500;
  for (uint32_t i = 0; i < keys; i++) {
    assert_true(h.granted[i] <= most);
    assert_true(h.granted[i] >= 500);
  }
  tally_fini(&h.t);
}

static void threads_on_one_key(void **state) {
  (void)state;
  exact_with_threads(1);
}

static void threads_on_neighbours(void **state) {
  (void)state;
  exact_with_threads(4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(intervals),
      cmocka_unit_test(burst_then_rate),
      cmocka_unit_test(is_a_token_bucket),
      cmocka_unit_test(no_window_holds_more),
      cmocka_unit_test(only_the_paid_are_evicted),
      cmocka_unit_test(threads_on_one_key),
      cmocka_unit_test(threads_on_neighbours),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
