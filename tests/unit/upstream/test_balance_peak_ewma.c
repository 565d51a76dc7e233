/* test_balance_peak_ewma.c: the faster endpoint, the less loaded one, by weight; rises at once,
 * falls slowly, is forgotten; failures are no speed; workers tell each other. */
#include "upstream_kit.h"

#define MS UINT64_C(1000000)

static const struct kit_member two[] = {{1, false, 0}, {1, false, 0}};

static void tell(struct kit *k, uint32_t worker, uint32_t place, uint64_t ns, uint64_t now,
                 bool failed) {
  struct pool_sample sample = {.now_ms = now, .latency_ns = ns, .failed = failed};
  pool_observe(&k->up[worker], k->pool, k->pool->members[place].endpoint, &sample);
}

static uint64_t smoothed(struct kit *k, uint32_t worker, uint32_t place) {
  return atomic_load(&k->pool->members[place].endpoint->rows[worker].ewma_ns);
}

static void kit_two(struct kit *k) {
  kit_init(k, two, array_count(two), 11);
  kit_balance(k, BALANCE_PEAK_EWMA);
}

/* always tells where 50 choices went, which must all go one way. */
static uint32_t always(struct kit *k, uint32_t worker, uint64_t now) {
  uint32_t first = kit_place(k, kit_pick_for(k, worker, now, NULL));
  for (int i = 0; i < 50; i++)
    assert_int_equal(kit_place(k, kit_pick_for(k, worker, now, NULL)), first);
  return first;
}

static void load(struct kit *k, uint32_t place, int by) {
  struct endpoint *e = k->pool->members[place].endpoint;
  for (; by > 0; by--) endpoint_begin(e, 0);
  for (; by < 0; by++) endpoint_end(e, 0);
}

static void cost_is_latency_times_load(void **state) {
  (void)state;
  struct kit k;
  kit_two(&k);
  tell(&k, 0, 0, 10 * MS, 1000, false);
  tell(&k, 0, 1, 41 * MS, 1000, false);
  assert_int_equal(always(&k, 0, 1000), 0);
  load(&k, 0, 3); /* 10 * 4 against 41 * 1 */
  assert_int_equal(always(&k, 0, 1000), 0);
  load(&k, 0, 1); /* 50 against 41 */
  assert_int_equal(always(&k, 0, 1000), 1);
  load(&k, 0, -4);
  kit_fini(&k);
}

static void weights_divide_the_cost(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {4, false, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 11);
  kit_balance(&k, BALANCE_PEAK_EWMA);
  tell(&k, 0, 0, 10 * MS, 1000, false);
  tell(&k, 0, 1, 39 * MS, 1000, false);
  assert_int_equal(always(&k, 0, 1000), 1);
  tell(&k, 0, 1, 41 * MS, 1000, false);
  assert_int_equal(always(&k, 0, 1000), 0);
  kit_fini(&k);
}

static void rises_at_once_and_falls_slowly(void **state) {
  (void)state;
  struct kit k;
  kit_two(&k);
  tell(&k, 0, 0, 10 * MS, 1000, false);
  tell(&k, 0, 0, 200 * MS, 1001, false);
  assert_int_equal(smoothed(&k, 0, 0), 200 * MS);
  tell(&k, 0, 0, 10 * MS, 1001, false); /* in the same ms: no time has passed */
  assert_int_equal(smoothed(&k, 0, 0), 200 * MS);
  tell(&k, 0, 0, 10 * MS, 6001, false); /* one half-life: half way down */
  assert_in_range(smoothed(&k, 0, 0), 104 * MS, 106 * MS);
  for (uint64_t now = 6101; now <= 36101; now += 100) tell(&k, 0, 0, 10 * MS, now, false);
  assert_in_range(smoothed(&k, 0, 0), 10 * MS, 13 * MS);
  kit_fini(&k);
}

/* One that was slow is tried again when its word is old, and gets one request at a time until it
 * has answered. */
static void slowness_is_forgotten(void **state) {
  (void)state;
  struct kit k;
  kit_two(&k);
  tell(&k, 0, 0, 5000 * MS, 1000, false);
  for (uint64_t now = 1000; now < 61000; now += 1000) tell(&k, 0, 1, 10 * MS, now, false);
  assert_int_equal(always(&k, 0, 20000), 1);
  assert_int_equal(always(&k, 0, 60000), 0);
  load(&k, 0, 1);
  assert_int_equal(always(&k, 0, 60000), 1);
  load(&k, 0, -1);
  kit_fini(&k);
}

static void the_unknown_get_one_at_a_time(void **state) {
  (void)state;
  struct kit k;
  kit_two(&k);
  tell(&k, 0, 0, 10 * MS, 1000, false);
  assert_int_equal(always(&k, 0, 1000), 1);
  load(&k, 1, 1);
  assert_int_equal(always(&k, 0, 1000), 0);
  tell(&k, 0, 1, 1 * MS, 1000, false);
  assert_int_equal(always(&k, 0, 1000), 1);
  load(&k, 1, -1);
  kit_fini(&k);
}

static void failing_fast_is_no_speed(void **state) {
  (void)state;
  struct kit k;
  kit_two(&k);
  tell(&k, 0, 0, 10 * MS, 1000, false);
  tell(&k, 0, 1, 0, 1000, true);
  assert_int_equal(smoothed(&k, 0, 1), 100 * MS); /* nothing else is known of it */
  assert_int_equal(always(&k, 0, 1000), 0);
  for (int i = 0; i < 20; i++) tell(&k, 0, 1, 0, 1000, true);
  assert_int_equal(smoothed(&k, 0, 1), 100 * MS); /* time counts, not how often */
  tell(&k, 0, 1, 0, 6000, true); /* a half-life: half way to twice what it was */
  assert_in_range(smoothed(&k, 0, 1), 149 * MS, 151 * MS);
  for (uint64_t now = 6000; now < 200000; now += 10) tell(&k, 0, 1, 0, now, true);
  assert_in_range(smoothed(&k, 0, 1), 59999 * MS, 60000 * MS); /* up to a minute */
  tell(&k, 0, 0, 5000 * MS, 2000, true); /* one that failed slowly was slow */
  assert_in_range(smoothed(&k, 0, 0), 5000 * MS, 6000 * MS);
  kit_fini(&k);
}

/* steady is what an endpoint of 10 ms and 250 answers a second counts after two minutes, when one
 * in so many fails at once. */
static uint64_t steady(uint32_t one_in) {
  struct kit k;
  kit_two(&k);
  for (uint32_t i = 0; i < 30000; i++)
    tell(&k, 0, 0, i % one_in ? 10 * MS : 1 * MS, 1000 + 4 * i, i % one_in == one_in - 1);
  uint64_t got = smoothed(&k, 0, 0);
  kit_fini(&k);
  return got;
}

static void failures_count_by_their_rate(void **state) {
  (void)state;
  assert_in_range(steady(1000), 9 * MS, 11 * MS);
  assert_in_range(steady(100), 10 * MS, 12 * MS);
  assert_in_range(steady(10), 16 * MS, 24 * MS);
  assert_true(steady(2) > 50 * MS);
}

/* Worker 1 has sent nothing and knows what worker 0 knows; where both know, the newer word counts
 * for more. */
static void workers_share_what_they_know(void **state) {
  (void)state;
  struct kit k;
  kit_two(&k);
  tell(&k, 0, 0, 50 * MS, 1000, false);
  tell(&k, 0, 1, 10 * MS, 1000, false);
  assert_int_equal(always(&k, 1, 1000), 1);
  assert_int_equal(smoothed(&k, 1, 0), 0);
  tell(&k, 1, 0, 50 * MS, 1000, false);
  tell(&k, 1, 1, 80 * MS, 1000, false); /* mean 45: still less than 50 */
  assert_int_equal(always(&k, 0, 1000), 1);
  tell(&k, 1, 0, 50 * MS, 11000, false); /* 0's word is two half-lives old */
  tell(&k, 1, 1, 80 * MS, 11000, false);
  assert_int_equal(always(&k, 0, 11000), 0);
  kit_fini(&k);
}

/* What nobody waited for until its end was at least so slow. */
static void what_was_cut_is_no_quicker(void **state) {
  (void)state;
  struct kit k;
  kit_two(&k);
  struct pool_sample cut = {.now_ms = 1000, .latency_ns = 200 * MS, .cut = true};
  struct endpoint *e = k.pool->members[0].endpoint;
  tell(&k, 0, 0, 10 * MS, 1000, false);
  pool_observe(&k.up[0], k.pool, e, &cut);
  assert_int_equal(smoothed(&k, 0, 0), 200 * MS);
  cut.latency_ns = 50 * MS;
  cut.now_ms = 60000;
  pool_observe(&k.up[0], k.pool, e, &cut);
  assert_int_equal(smoothed(&k, 0, 0), 200 * MS);
  assert_int_equal(atomic_load(&e->rows[0].ewma_ms), 1000);
  kit_fini(&k);
}

static bool worth(struct kit *k, uint32_t chosen, uint32_t other) {
  const struct pool_member *m = k->pool->members;
  return pool_worth(k->pool, &m[chosen], &m[other], 1000);
}

/* While the chosen one is full: one that is far slower may stand for it only when the queue is so
 * long that it would answer first. */
static void the_slow_do_not_stand_for_the_quick(void **state) {
  (void)state;
  struct kit k;
  kit_two(&k);
  assert_true(worth(&k, 0, 1)); /* nothing is known */
  tell(&k, 0, 0, 10 * MS, 1000, false);
  assert_true(worth(&k, 0, 1));
  load(&k, 0, 8);
  tell(&k, 0, 1, 39 * MS, 1000, false);
  assert_true(worth(&k, 0, 1)); /* that may be chance */
  tell(&k, 0, 1, 200 * MS, 1000, false);
  assert_false(worth(&k, 0, 1));
  assert_true(worth(&k, 1, 0));
  atomic_store(&k.pool->state->waiting, 31); /* 10 + 31 * 10 / 8 ms, four times */
  assert_false(worth(&k, 0, 1));
  atomic_store(&k.pool->state->waiting, 33);
  assert_true(worth(&k, 0, 1));
  kit_balance(&k, BALANCE_LEAST_REQUEST);
  atomic_store(&k.pool->state->waiting, 0);
  assert_true(worth(&k, 0, 1)); /* it knows nothing of time */
  load(&k, 0, -8);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cost_is_latency_times_load),
      cmocka_unit_test(weights_divide_the_cost),
      cmocka_unit_test(rises_at_once_and_falls_slowly),
      cmocka_unit_test(slowness_is_forgotten),
      cmocka_unit_test(the_unknown_get_one_at_a_time),
      cmocka_unit_test(failing_fast_is_no_speed),
      cmocka_unit_test(failures_count_by_their_rate),
      cmocka_unit_test(what_was_cut_is_no_quicker),
      cmocka_unit_test(the_slow_do_not_stand_for_the_quick),
      cmocka_unit_test(workers_share_what_they_know),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
