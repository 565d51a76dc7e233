/* test_outlier_sweep.c: failure rates over the window, success far below the mean, who is not
 * judged, the worst first, never more than max_ejected; a slow twin sums the window anew. */
#include "upstream_kit.h"
#include "weir/base/mem.h"
#include "weir/upstream/outlier.h"

enum { MEMBERS = 6, WINDOW_MS = 8000, PART_MS = WINDOW_MS / HEALTH_BUCKETS };

struct swept {
  struct kit k;
  uint64_t now;
  uint32_t count; /* found in the last sweep */
  struct outlier_found found[MEMBERS];
};

static void begin(struct swept *s) {
  for (uint32_t i = 0; i < MEMBERS; i++)
    outlier_begin(&s->k.pool->outlier, s->k.pool->members[i].endpoint, s->now);
}

static void swept_init(struct swept *s, uint32_t failure_percent, uint32_t deviations_permille) {
  struct kit_member members[MEMBERS];
  for (int i = 0; i < MEMBERS; i++) members[i] = (struct kit_member){1, false, 0};
  kit_init(&s->k, members, MEMBERS, 1);
  s->now = 1000000;
  s->k.pool->outlier = (struct pool_outlier){.failure_percent = failure_percent,
                                             .deviations_permille = deviations_permille,
                                             .window_ms = WINDOW_MS,
                                             .min_requests = 20,
                                             .min_endpoints = 5,
                                             .eject_ms = 30000,
                                             .max_eject_ms = 300000,
                                             .max_ejected_percent = 50};
  for (uint32_t i = 0; i < MEMBERS; i++)
    s->k.pool->members[i].endpoint->health = mem_alloc(sizeof(struct endpoint_health));
  begin(s);
}

static void on_found(void *ctx, const struct outlier_found *found) {
  struct swept *s = ctx;
  assert_true(s->count < MEMBERS);
  s->found[s->count++] = *found;
}

static uint32_t sweep(struct swept *s) {
  s->now += PART_MS;
  s->count = 0;
  outlier_sweep(s->k.pool, s->now, on_found, s);
  return s->count;
}

/* serve counts requests of a member, by both workers. */
static void serve(struct swept *s, uint32_t place, uint32_t good, uint32_t bad) {
  struct endpoint *e = s->k.pool->members[place].endpoint;
  for (uint32_t i = 0; i < good + bad; i++)
    (void)endpoint_outcome(&s->k.up[i % 2], s->k.pool, e, END_OK, i < good ? 200 : 500, s->now);
}

static bool in(const struct swept *s, uint32_t place) {
  return endpoint_in_service(s->k.pool->members[place].endpoint, s->now);
}

static void off_by_itself(void **state) {
  (void)state;
  const struct pool_outlier none = {.window_ms = 1}, one = {.failure_percent = 1},
                            two = {.deviations_permille = 1};
  assert_false(outlier_sweeps(&none));
  assert_true(outlier_sweeps(&one) && outlier_sweeps(&two));
}

static void failure_rate(void **state) {
  (void)state;
  struct swept s;
  swept_init(&s, 50, 0);
  assert_int_equal(sweep(&s), 0);
  serve(&s, 0, 11, 9);  /* 45 % */
  serve(&s, 1, 10, 10); /* 50 % */
  serve(&s, 2, 0, 19);  /* too few */
  assert_int_equal(sweep(&s), 1);
  assert_ptr_equal(s.found[0].endpoint, s.k.pool->members[1].endpoint);
  assert_int_equal(s.found[0].cause, EJECT_PERCENT);
  assert_int_equal(s.found[0].window.all, 20);
  assert_int_equal(s.found[0].window.bad, 10);
  assert_true(in(&s, 0) && !in(&s, 1) && in(&s, 2));
  serve(&s, 2, 0, 1); /* the twentieth */
  assert_int_equal(sweep(&s), 1);
  assert_false(in(&s, 2));
  kit_fini(&s.k);
}

/* What is older than the window counts no more. */
static void window_slides(void **state) {
  (void)state;
  struct swept s;
  swept_init(&s, 50, 0);
  (void)sweep(&s);
  serve(&s, 0, 0, 19);
  for (uint32_t i = 0; i < HEALTH_BUCKETS; i++) assert_int_equal(sweep(&s), 0);
  serve(&s, 0, 0, 1);
  assert_int_equal(sweep(&s), 0); /* the nineteen have just left */
  serve(&s, 0, 0, 18);
  assert_int_equal(sweep(&s), 0);
  serve(&s, 0, 0, 1);
  assert_int_equal(sweep(&s), 1);
  kit_fini(&s.k);
}

/* The past before the first sweep, or before a pause, is nobody's fault now; nor is what an
 * endpoint did while it was out. */
static void past_is_past(void **state) {
  (void)state;
  struct swept s;
  swept_init(&s, 50, 0);
  s.now += 10 * WINDOW_MS;
  serve(&s, 0, 0, 1000);
  begin(&s);
  assert_int_equal(sweep(&s), 0);
  assert_int_equal(sweep(&s), 0);
  s.now += 10 * WINDOW_MS; /* the rule was off for a while */
  serve(&s, 0, 0, 1000);
  begin(&s);
  assert_int_equal(sweep(&s), 0);
  serve(&s, 0, 0, 19);
  assert_int_equal(sweep(&s), 0);
  begin(&s); /* a reload: the window goes on */
  serve(&s, 0, 0, 1);
  assert_int_equal(sweep(&s), 1);
  s.now = atomic_load(&s.k.pool->members[0].endpoint->ejected_until_ms);
  assert_int_equal(sweep(&s), 0);
  serve(&s, 0, 0, 100);
  assert_int_equal(sweep(&s), 1);
  for (int i = 0; i < 29; i++) {
    serve(&s, 0, 0, 100);
    assert_int_equal(sweep(&s), 0);
  }
  s.now = atomic_load(&s.k.pool->members[0].endpoint->ejected_until_ms);
  assert_int_equal(sweep(&s), 0);
  assert_true(in(&s, 0));
  kit_fini(&s.k);
}

static void worst_first(void **state) {
  (void)state;
  struct swept s;
  swept_init(&s, 10, 0);
  (void)sweep(&s);
  static const uint32_t bad[MEMBERS] = {30, 60, 20, 90, 50, 0};
  for (uint32_t i = 0; i < MEMBERS; i++) serve(&s, i, 100 - bad[i], bad[i]);
  assert_int_equal(sweep(&s), 3); /* max_ejected: half of six */
  static const uint32_t order[] = {3, 1, 4};
  for (uint32_t i = 0; i < 3; i++)
    assert_ptr_equal(s.found[i].endpoint, s.k.pool->members[order[i]].endpoint);
  kit_fini(&s.k);
}

static void deviation(void **state) {
  (void)state;
  struct swept s;
  swept_init(&s, 0, 1900);
  (void)sweep(&s);
  for (uint32_t i = 0; i < MEMBERS; i++) serve(&s, i, i == 4 ? 70 : 99, i == 4 ? 30 : 1);
  assert_int_equal(sweep(&s), 1);
  assert_ptr_equal(s.found[0].endpoint, s.k.pool->members[4].endpoint);
  assert_int_equal(s.found[0].cause, EJECT_DEVIATION);
  /* mean (5 * 0.99 + 0.7) / 6 = 0.9417; deviation 0.29 * sqrt(5) / 6 = 0.1081 */
  assert_in_range(s.found[0].mean_permille, 941, 942);
  assert_in_range(s.found[0].limit_permille, 735, 737);
  kit_fini(&s.k);
}

/* Small differences are no reason, however even the others are; nor is a pool that fails as a
 * whole; nor too few endpoints with requests. */
static void no_deviation(void **state) {
  (void)state;
  struct swept s;
  swept_init(&s, 0, 1900);
  (void)sweep(&s);
  for (uint32_t i = 0; i < MEMBERS; i++) serve(&s, i, i == 4 ? 96 : 100, i == 4 ? 4 : 0);
  assert_int_equal(sweep(&s), 0); /* below mean - 1.9 deviations, but by 4 points */
  for (uint32_t i = 0; i < MEMBERS; i++) serve(&s, i, 0, 1000);
  assert_int_equal(sweep(&s), 0);
  kit_fini(&s.k);
  swept_init(&s, 0, 1000);
  (void)sweep(&s);
  for (uint32_t i = 0; i < 4; i++) serve(&s, i, i == 3 ? 0 : 100, i == 3 ? 100 : 0);
  assert_int_equal(sweep(&s), 0); /* four of five */
  serve(&s, 4, 100, 0);
  assert_int_equal(sweep(&s), 1);
  kit_fini(&s.k);
}

/* slow_window is the window by its definition: the sums of the last HEALTH_BUCKETS parts. */
static void agrees_with_a_slow_twin(void **state) {
  (void)state;
  uint64_t rng = 7;
  for (int round = 0; round < 50; round++) {
    struct swept s;
    uint32_t parts[64][2] = {{0}}, sweeps = 0;
    swept_init(&s, 60, 0);
    s.k.pool->outlier.min_requests = 30;
    (void)sweep(&s);
    for (; sweeps < 64 && in(&s, 0); sweeps++) {
      parts[sweeps][0] = (uint32_t)(rng_next(&rng) % 8);
      parts[sweeps][1] = (uint32_t)(rng_next(&rng) % 8);
      serve(&s, 0, parts[sweeps][0], parts[sweeps][1]);
      uint32_t good = 0, bad = 0;
      for (uint32_t i = sweeps + 1 > HEALTH_BUCKETS ? sweeps + 1 - HEALTH_BUCKETS : 0;
           i <= sweeps; i++) {
        good += parts[i][0];
        bad += parts[i][1];
      }
      bool out = good + bad >= 30 && bad * 100 >= (good + bad) * 60;
      assert_int_equal(sweep(&s), out);
    }
    kit_fini(&s.k);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(off_by_itself), cmocka_unit_test(failure_rate),
      cmocka_unit_test(window_slides), cmocka_unit_test(past_is_past),
      cmocka_unit_test(worst_first),   cmocka_unit_test(deviation),
      cmocka_unit_test(no_deviation),  cmocka_unit_test(agrees_with_a_slow_twin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
