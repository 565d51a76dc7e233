/* test_outlier.c: consecutive failures and 5xx eject, success clears, never more than max_ejected,
 * also with several threads at it, longer each time up to a bound and shorter again after good
 * times, off when the settings say so. */
#include <pthread.h>

#include "upstream_kit.h"

static const struct kit_member four[] = {
    {1, false, 0}, {1, false, 0}, {1, false, 0}, {1, false, 0}};

static void kit_four(struct kit *k, uint32_t failures, uint32_t fives, uint32_t percent) {
  kit_init(k, four, array_count(four), 1);
  k->pool->outlier = (struct pool_outlier){.consecutive_failures = failures,
                                           .consecutive_5xx = fives,
                                           .eject_ms = 1000,
                                           .max_eject_ms = 10000,
                                           .max_ejected_percent = percent};
}

static bool tell(struct kit *k, uint32_t place, enum end end, uint16_t status, uint64_t now) {
  return endpoint_outcome(&k->up[0], k->pool, k->pool->members[place].endpoint, end, status, now);
}

static void failures_in_a_row(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 3, 0, 50);
  _Atomic uint64_t ejections = 0;
  k.up[0].counters.ejections = &ejections;
  const struct endpoint *e = k.pool->members[0].endpoint;
  for (int i = 0; i < 10; i++) { /* a success between them clears */
    assert_false(tell(&k, 0, END_CONNECT_REFUSED, 0, 10));
    assert_false(tell(&k, 0, END_UPSTREAM_RESET, 0, 10));
    assert_false(tell(&k, 0, END_OK, 404, 10));
  }
  assert_false(tell(&k, 0, END_CONNECT_REFUSED, 0, 10));
  assert_false(tell(&k, 0, END_CONNECT_REFUSED, 0, 10));
  assert_true(endpoint_in_service(e, 10));
  assert_true(tell(&k, 0, END_CONNECT_REFUSED, 0, 10));
  assert_false(endpoint_in_service(e, 10));
  assert_false(endpoint_in_service(e, 1009));
  assert_true(endpoint_in_service(e, 1010));
  assert_int_equal(ejections, 1);
  kit_fini(&k);
}

static void fives_in_a_row(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 100, 4, 50);
  for (int i = 0; i < 3; i++) assert_false(tell(&k, 1, END_OK, 503, 0));
  assert_false(tell(&k, 1, END_OK, 200, 0));
  for (int i = 0; i < 3; i++) assert_false(tell(&k, 1, END_OK, (uint16_t)(500 + i), 0));
  assert_true(tell(&k, 1, END_FIRST_BYTE_TIMEOUT, 0, 0)); /* failures count as 5xx too */
  kit_fini(&k);
}

/* A 5xx is an answer: it ends a run of failures (resets, refused connects). */
static void an_answer_ends_failures(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 2, 0, 50);
  for (int i = 0; i < 10; i++) {
    assert_false(tell(&k, 0, END_UPSTREAM_RESET, 0, 0));
    assert_false(tell(&k, 0, END_OK, 500, 0));
  }
  kit_fini(&k);
}

static void never_too_many(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 1, 0, 50);
  assert_true(tell(&k, 0, END_UPSTREAM_RESET, 0, 5));
  assert_true(tell(&k, 1, END_UPSTREAM_RESET, 0, 5));
  assert_false(tell(&k, 2, END_UPSTREAM_RESET, 0, 5));
  assert_false(tell(&k, 3, END_UPSTREAM_RESET, 0, 5));
  assert_true(endpoint_in_service(k.pool->members[2].endpoint, 5));
  assert_true(tell(&k, 2, END_UPSTREAM_RESET, 0, 1005)); /* the first two are back */
  kit_fini(&k);
  kit_four(&k, 1, 0, 24); /* less than one of four: nobody may go */
  for (uint32_t i = 0; i < 4; i++) assert_false(tell(&k, i, END_UPSTREAM_RESET, 0, 5));
  kit_fini(&k);
}

static void longer_each_time(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 1, 0, 50);
  uint64_t now = 0;
  for (uint64_t n = 1; n <= 15; n++) {
    assert_true(tell(&k, 0, END_UPSTREAM_RESET, 0, now));
    assert_false(tell(&k, 0, END_UPSTREAM_RESET, 0, now + 1)); /* is out already */
    uint64_t until = atomic_load(&k.pool->members[0].endpoint->ejected_until_ms);
    assert_int_equal(until - now, 1000 * (n < 10 ? n : 10));
    now = until;
  }
  assert_int_equal(atomic_load(&k.pool->members[0].endpoint->ejections), 15);
  kit_fini(&k);
}

/* Each eject_ms in service takes one step off; after enough of them it starts from the first. */
static void shorter_after_good_times(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 1, 0, 50);
  static const struct {
    uint64_t in_service, lasts;
  } steps[] = {{0, 1000},    {0, 2000},    {0, 3000}, {999, 4000}, {1000, 4000},
               {2500, 3000}, {1000, 3000}, {9000, 1000}, {0, 2000}};
  struct endpoint *e = k.pool->members[0].endpoint;
  uint64_t now = 0;
  for (size_t i = 0; i < array_count(steps); i++) {
    now += steps[i].in_service;
    assert_true(tell(&k, 0, END_UPSTREAM_RESET, 0, now));
    assert_int_equal(atomic_load(&e->ejected_until_ms) - now, steps[i].lasts);
    assert_int_equal(atomic_load(&e->eject_cause), EJECT_FAILURES);
    now = atomic_load(&e->ejected_until_ms);
  }
  k.pool->outlier.max_eject_ms = 1500; /* not a multiple */
  assert_true(tell(&k, 0, END_UPSTREAM_RESET, 0, now));
  assert_int_equal(atomic_load(&e->ejected_until_ms) - now, 1500);
  kit_fini(&k);
}

/* Those that active health took out count, and are not ejected on top. */
static void down_counts(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 1, 0, 50);
  kit_state(&k, 3, ENDPOINT_DOWN);
  assert_false(tell(&k, 3, END_UPSTREAM_RESET, 0, 5));
  assert_true(tell(&k, 0, END_UPSTREAM_RESET, 0, 5));
  assert_false(tell(&k, 1, END_UPSTREAM_RESET, 0, 5));
  kit_state(&k, 3, ENDPOINT_UP);
  assert_true(tell(&k, 1, END_UPSTREAM_RESET, 0, 5));
  kit_fini(&k);
}

static void outcomes_are_counted_per_worker(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 0, 0, 50);
  struct endpoint *e = k.pool->members[0].endpoint;
  for (int i = 0; i < 7; i++) (void)endpoint_outcome(&k.up[0], k.pool, e, END_OK, 200, 5);
  (void)endpoint_outcome(&k.up[1], k.pool, e, END_OK, 500, 5);
  (void)endpoint_outcome(&k.up[1], k.pool, e, END_UPSTREAM_RESET, 0, 5);
  (void)endpoint_outcome(&k.up[1], k.pool, e, END_OK, 404, 5);
  assert_int_equal(atomic_load(&e->rows[0].outcomes), 7);
  assert_int_equal(atomic_load(&e->rows[0].outcomes_bad), 0);
  assert_int_equal(atomic_load(&e->rows[1].outcomes), 3);
  assert_int_equal(atomic_load(&e->rows[1].outcomes_bad), 2);
  kit_fini(&k);
}

/* ---- max_ejected is exact, whatever number of threads eject at once ---- */

enum { CROWD = 4, CROWD_ROUNDS = 20000 };

struct crowd {
  struct kit kit;
  pthread_barrier_t start, end;
  _Atomic uint32_t ejected;
};

struct crowd_member {
  struct crowd *crowd;
  uint32_t place;
};

static void *crowd_run(void *arg) {
  const struct crowd_member *m = arg;
  struct crowd *c = m->crowd;
  struct endpoint *e = c->kit.pool->members[m->place].endpoint;
  for (uint64_t round = 0; round < CROWD_ROUNDS; round++) {
    pthread_barrier_wait(&c->start);
    for (int i = 0; i < 3; i++)
      if (endpoint_eject(c->kit.pool, e, EJECT_FAILURES, round * 100000)) c->ejected++;
    pthread_barrier_wait(&c->end);
  }
  return NULL;
}

static void never_too_many_at_once(void **state) {
  (void)state;
  struct crowd c = {.ejected = 0};
  struct crowd_member members[CROWD];
  pthread_t threads[CROWD];
  kit_four(&c.kit, 1, 0, 50);
  assert_int_equal(pthread_barrier_init(&c.start, NULL, CROWD + 1), 0);
  assert_int_equal(pthread_barrier_init(&c.end, NULL, CROWD + 1), 0);
  for (uint32_t i = 0; i < CROWD; i++) {
    members[i] = (struct crowd_member){&c, i};
    assert_int_equal(pthread_create(&threads[i], NULL, crowd_run, &members[i]), 0);
  }
  for (uint64_t round = 0; round < CROWD_ROUNDS; round++) {
    c.ejected = 0;
    pthread_barrier_wait(&c.start);
    pthread_barrier_wait(&c.end);
    uint32_t out = 0;
    for (uint32_t i = 0; i < CROWD; i++)
      out += !endpoint_in_service(c.kit.pool->members[i].endpoint, round * 100000);
    assert_int_equal(out, c.ejected);
    assert_in_range(out, 1, 2);
  }
  for (uint32_t i = 0; i < CROWD; i++) pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&c.start);
  pthread_barrier_destroy(&c.end);
  kit_fini(&c.kit);
}

static void zero_turns_it_off(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 0, 0, 100);
  for (int i = 0; i < 1000; i++) {
    assert_false(tell(&k, 0, END_UPSTREAM_RESET, 0, 5));
    assert_false(tell(&k, 0, END_OK, 500, 5));
  }
  kit_fini(&k);
}

/* Success writes no shared counter while there is nothing to clear. */
static void health_writes_nothing(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 3, 3, 50);
  struct endpoint *e = k.pool->members[0].endpoint;
  atomic_store(&e->failures, 2);
  atomic_store(&e->failures_5xx, 2);
  assert_false(tell(&k, 0, END_OK, 200, 0));
  assert_int_equal(atomic_load(&e->failures), 0);
  assert_int_equal(atomic_load(&e->failures_5xx), 0);
  kit_fini(&k);
}

static void load_is_the_sum(void **state) {
  (void)state;
  struct kit k;
  kit_four(&k, 1, 1, 50);
  struct endpoint *e = k.pool->members[0].endpoint;
  endpoint_begin(e, 0);
  endpoint_begin(e, 1);
  endpoint_begin(e, 1);
  assert_int_equal(endpoint_load(e), 3);
  assert_int_equal(atomic_load(&e->rows[1].requests), 2);
  endpoint_end(e, 1);
  endpoint_end(e, 0);
  endpoint_end(e, 1);
  assert_int_equal(endpoint_load(e), 0);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(failures_in_a_row),
      cmocka_unit_test(fives_in_a_row),
      cmocka_unit_test(an_answer_ends_failures),
      cmocka_unit_test(never_too_many),
      cmocka_unit_test(longer_each_time),
      cmocka_unit_test(shorter_after_good_times),
      cmocka_unit_test(down_counts),
      cmocka_unit_test(outcomes_are_counted_per_worker),
      cmocka_unit_test(never_too_many_at_once),
      cmocka_unit_test(zero_turns_it_off),
      cmocka_unit_test(health_writes_nothing),
      cmocka_unit_test(load_is_the_sum),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
