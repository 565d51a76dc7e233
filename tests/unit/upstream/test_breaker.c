/* test_breaker.c: what opens a breaker and what does not; the window over all workers; probes,
 * exactly so many with threads at it; what closes it and what opens it again, for how long; passes
 * of another epoch say nothing; probes that hang or are lost hold nobody up. */
#include "weir/upstream/breaker.h"

#include <pthread.h>

#include "upstream_kit.h"

static const struct kit_member one[] = {{1, false, 0}};

/* told_last is what the hook was told. */
static struct breaker_told told_last;
static uint32_t told_count;

static void on_turned(struct upstream *u, const struct pool *pool,
                      const struct breaker_told *told) {
  (void)u;
  assert_true(span_eq(pool->obj.name, SPAN_LIT("app")));
  told_last = *told;
  told_count++;
}

static void kit_breaker(struct kit *k) {
  kit_init(k, one, 1, 1);
  k->pool->breaker = (struct pool_breaker){.failure_percent = 50,
                                           .slow_ms = 100,
                                           .window_ms = 8000,
                                           .min_requests = 4,
                                           .open_ms = 1000,
                                           .max_open_ms = 3000,
                                           .probes = 3};
  told_count = 0;
  for (uint32_t w = 0; w < KIT_WORKERS; w++) k->up[w].breaker_turned = on_turned;
}

static const struct breaker_result good = {false, false}, bad = {true, false},
                                   slow = {false, true};

/* attempt is one request, admitted and ended; false: refused. */
static bool attempt(struct kit *k, uint32_t worker, uint64_t now, const struct breaker_result *r) {
  struct breaker_pass pass;
  if (!breaker_admit(&k->up[worker], k->pool, now, &pass)) return false;
  breaker_outcome(&k->up[worker], k->pool, now, &pass, r);
  return true;
}

static enum breaker_state state_of(struct kit *k) { return breaker_look(k->pool->state).state; }

static void text_is(struct kit *k, const char *want) {
  char text[128];
  struct buf b = buf_of(text, sizeof text);
  struct breaker_told told = breaker_look(k->pool->state);
  breaker_write(&told, &b);
  assert_true(span_eq(buf_span(&b), span_str(want)));
}

static void open_it(struct kit *k, uint64_t now) {
  for (int i = 0; i < 4; i++) assert_true(attempt(k, 0, now, &bad));
  assert_int_equal(state_of(k), BREAKER_OPEN);
}

static void off_by_default(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  k.pool->breaker.failure_percent = 0;
  for (int i = 0; i < 100; i++) assert_true(attempt(&k, 0, 0, &bad));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  assert_true(breaker_closed(k.pool));
  kit_fini(&k);
}

static void failures_open(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  text_is(&k, "");
  /* fewer than min_requests say nothing; half of them is enough, over all workers */
  assert_true(attempt(&k, 0, 0, &good));
  assert_true(attempt(&k, 1, 10, &good));
  assert_true(attempt(&k, 1, 20, &bad));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  assert_true(attempt(&k, 0, 30, &bad));
  assert_int_equal(state_of(&k), BREAKER_OPEN);
  assert_int_equal(told_count, 1);
  assert_int_equal(told_last.state, BREAKER_OPEN);
  assert_int_equal(told_last.before, BREAKER_CLOSED);
  assert_int_equal(told_last.lasts_ms, 1000);
  assert_int_equal(told_last.opened[BREAKER_FAILURES], 1);
  text_is(&k, "2 of 4 attempts failed (breaker.failure_rate)");
  for (uint32_t w = 0; w < KIT_WORKERS; w++) assert_false(attempt(&k, w, 1029, &good));
  assert_int_equal(k.pool->state->rows[0].breaker.refused, 1);
  assert_true(breaker_refuses(k.pool, 1029));
  assert_int_equal(breaker_wait_ms(k.pool, 530), 500);
  assert_false(breaker_refuses(k.pool, 1030));
  kit_fini(&k);
}

static void good_ones_count(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  for (int i = 0; i < 1000; i++) { /* just below half, all the time */
    assert_true(attempt(&k, 0, 0, &good));
    if (i % 2) assert_true(attempt(&k, 1, 0, &bad));
  }
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  kit_fini(&k);
}

static void the_window_slides(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  /* Three bad ones; one each window is never four in one. */
  for (uint64_t t = 0; t < 100000; t += 2700) assert_true(attempt(&k, t / 2700 % 2, t, &bad));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  for (uint64_t t = 200000; t < 208000; t += 2000) (void)attempt(&k, 0, t, &bad);
  assert_int_equal(state_of(&k), BREAKER_OPEN);
  kit_fini(&k);
}

static void slowness_opens(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  k.pool->breaker.failure_percent = 0;
  k.pool->breaker.slow_percent = 75;
  for (int i = 0; i < 10; i++) assert_true(attempt(&k, 0, 0, &bad)); /* no rule of its own */
  for (int i = 0; i < 29; i++) assert_true(attempt(&k, 0, 0, &slow));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  assert_true(attempt(&k, 0, 0, &slow));
  assert_int_equal(state_of(&k), BREAKER_OPEN);
  text_is(&k, "30 of 40 attempts were slow (breaker.slow_rate)");
  assert_int_equal(told_last.opened[BREAKER_SLOW], 1);
  kit_fini(&k);
}

static void probes_close(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  open_it(&k, 0);
  struct breaker_pass pass[3], more;
  for (uint32_t i = 0; i < 3; i++)
    assert_true(breaker_admit(&k.up[i % 2], k.pool, 1000, &pass[i]));
  assert_int_equal(state_of(&k), BREAKER_HALF_OPEN);
  text_is(&k, "probes are let through");
  assert_false(breaker_admit(&k.up[0], k.pool, 1000, &more));
  assert_true(breaker_refuses(k.pool, 1000));
  assert_false(breaker_closed(k.pool));
  for (uint32_t i = 0; i < 2; i++) breaker_outcome(&k.up[0], k.pool, 1001, &pass[i], &good);
  assert_int_equal(state_of(&k), BREAKER_HALF_OPEN);
  breaker_outcome(&k.up[1], k.pool, 1001, &pass[2], &bad); /* one of three is below half */
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  text_is(&k, "3 probes came back, 1 failed, 0 were slow");
  assert_int_equal(told_count, 3);
  /* The window is a new one. */
  for (int i = 0; i < 3; i++) assert_true(attempt(&k, 0, 1002, &bad));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  kit_fini(&k);
}

static void probes_open_again_for_longer(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  open_it(&k, 0);
  uint64_t now = 0;
  static const uint32_t lasts[] = {1000, 2000, 3000, 3000};
  for (size_t i = 0; i < array_count(lasts); i++) {
    assert_int_equal(told_last.lasts_ms, lasts[i]);
    assert_false(attempt(&k, 1, now + lasts[i] - 1, &good));
    now += lasts[i];
    assert_true(attempt(&k, 1, now, &bad));
    assert_true(attempt(&k, 1, now, &bad)); /* two of three: no more are needed */
    assert_int_equal(state_of(&k), BREAKER_OPEN);
    text_is(&k, "2 of 2 probes failed (breaker.failure_rate)");
  }
  /* After a whole window closed it begins anew. */
  now += 3000;
  for (int i = 0; i < 3; i++) assert_true(attempt(&k, 0, now, &good));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  open_it(&k, now + 8000);
  assert_int_equal(told_last.lasts_ms, 1000);
  kit_fini(&k);
}

static void opens_soon_after_closing(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  open_it(&k, 0);
  for (int i = 0; i < 3; i++) assert_true(attempt(&k, 0, 1000, &good));
  open_it(&k, 1500);
  assert_int_equal(told_last.lasts_ms, 2000);
  k.pool->breaker.max_open_ms = 1000; /* fixed */
  for (int i = 0; i < 3; i++) assert_true(attempt(&k, 0, 3500, &good));
  open_it(&k, 3600);
  assert_int_equal(told_last.lasts_ms, 1000);
  kit_fini(&k);
}

static void another_epoch_says_nothing(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  struct breaker_pass old[10];
  for (int i = 0; i < 10; i++) assert_true(breaker_admit(&k.up[0], k.pool, 0, &old[i]));
  open_it(&k, 0);
  struct breaker_pass probe;
  assert_true(breaker_admit(&k.up[0], k.pool, 1000, &probe));
  for (int i = 0; i < 5; i++) breaker_outcome(&k.up[0], k.pool, 1000, &old[i], &bad);
  assert_int_equal(state_of(&k), BREAKER_HALF_OPEN);
  breaker_outcome(&k.up[0], k.pool, 1000, &probe, &good);
  for (int i = 0; i < 2; i++) assert_true(attempt(&k, 0, 1000, &good));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  for (int i = 5; i < 10; i++) breaker_outcome(&k.up[0], k.pool, 1000, &old[i], &bad);
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  kit_fini(&k);
}

static void a_response_that_breaks_off(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  struct breaker_pass pass[4];
  for (int i = 0; i < 4; i++) {
    assert_true(breaker_admit(&k.up[0], k.pool, 0, &pass[i]));
    breaker_outcome(&k.up[0], k.pool, 0, &pass[i], &good);
  }
  breaker_outcome(&k.up[0], k.pool, 5, &pass[0], &bad);
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  breaker_outcome(&k.up[0], k.pool, 5, &pass[1], &bad);
  assert_int_equal(state_of(&k), BREAKER_OPEN);
  text_is(&k, "2 of 4 attempts failed (breaker.failure_rate)");
  kit_fini(&k);
}

static void lost_probes_go_to_others(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  open_it(&k, 0);
  struct breaker_pass pass;
  for (int i = 0; i < 20; i++) { /* clients that leave */
    assert_true(breaker_admit(&k.up[0], k.pool, 1000, &pass));
    assert_int_equal(pass.kind, BREAKER_PASS_PROBE);
    breaker_forget(k.pool->state, &pass);
    breaker_forget(k.pool->state, &pass); /* once is once */
  }
  for (int i = 0; i < 3; i++) assert_true(attempt(&k, 0, 1000, &good));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  kit_fini(&k);
}

static void probes_that_hang(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  open_it(&k, 0);
  struct breaker_pass hung[3];
  for (int i = 0; i < 3; i++) assert_true(breaker_admit(&k.up[0], k.pool, 1000, &hung[i]));
  assert_false(attempt(&k, 0, 1999, &good));
  uint32_t told = told_count;
  assert_true(attempt(&k, 0, 2000, &good)); /* others get their chance; that is no news */
  assert_int_equal(state_of(&k), BREAKER_HALF_OPEN);
  assert_int_equal(told_count, told);
  for (int i = 0; i < 3; i++) breaker_outcome(&k.up[0], k.pool, 2500, &hung[i], &bad);
  /* One answer came in all that time, and it was good. */
  assert_true(attempt(&k, 0, 3000, &good));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  kit_fini(&k);
}

static void one_bad_answer_and_no_other(void **state) {
  (void)state;
  struct kit k;
  kit_breaker(&k);
  open_it(&k, 0);
  assert_true(attempt(&k, 0, 1000, &bad));
  assert_int_equal(state_of(&k), BREAKER_HALF_OPEN);
  assert_false(attempt(&k, 0, 2000, &good));
  assert_int_equal(state_of(&k), BREAKER_OPEN);
  kit_fini(&k);
}

/* ---- threads ---- */

struct racer {
  struct kit *k;
  uint32_t worker, rounds, admitted;
  pthread_barrier_t *barrier;
};

static void *race(void *ctx) {
  struct racer *r = ctx;
  for (uint32_t i = 0; i < r->rounds; i++) {
    struct breaker_pass pass;
    pthread_barrier_wait(r->barrier);
    for (int n = 0; n < 8; n++)
      if (breaker_admit(&r->k->up[r->worker], r->k->pool, 1000000 + i * 1000, &pass))
        r->admitted++;
    pthread_barrier_wait(r->barrier);
  }
  return NULL;
}

/* Exactly `probes` of all workers' requests pass each time: nothing comes back. */
static void exactly_so_many(void **state) {
  (void)state;
  struct kit k;
  pthread_barrier_t barrier;
  pthread_t threads[KIT_WORKERS];
  struct racer racers[KIT_WORKERS];
  kit_breaker(&k);
  for (uint32_t w = 0; w < KIT_WORKERS; w++) k.up[w].breaker_turned = NULL;
  k.pool->breaker.open_ms = k.pool->breaker.max_open_ms = 1000;
  open_it(&k, 0);
  pthread_barrier_init(&barrier, NULL, KIT_WORKERS);
  for (uint32_t w = 0; w < KIT_WORKERS; w++) {
    racers[w] = (struct racer){&k, w, 2000, 0, &barrier};
    assert_int_equal(pthread_create(&threads[w], NULL, race, &racers[w]), 0);
  }
  uint32_t admitted = 0;
  for (uint32_t w = 0; w < KIT_WORKERS; w++) {
    pthread_join(threads[w], NULL);
    admitted += racers[w].admitted;
  }
  pthread_barrier_destroy(&barrier);
  assert_int_equal(state_of(&k), BREAKER_HALF_OPEN);
  assert_int_equal(admitted, 3 * 2000);
  kit_fini(&k);
}

static void *hammer(void *ctx) {
  struct racer *r = ctx;
  uint64_t now = 1000;
  for (uint32_t i = 0; i < r->rounds; i++, now += 7) {
    struct breaker_pass pass;
    if (!breaker_admit(&r->k->up[r->worker], r->k->pool, now, &pass)) continue;
    if (i % 5 == 0)
      breaker_forget(r->k->pool->state, &pass);
    else
      breaker_outcome(&r->k->up[r->worker], r->k->pool, now, &pass, i % 3 ? &bad : &good);
  }
  return NULL;
}

/* Whatever happens at the same time, what was issued is accounted for at the end. */
static void all_comes_back(void **state) {
  (void)state;
  struct kit k;
  pthread_t threads[KIT_WORKERS];
  struct racer racers[KIT_WORKERS];
  kit_breaker(&k);
  for (uint32_t w = 0; w < KIT_WORKERS; w++) k.up[w].breaker_turned = NULL;
  for (uint32_t w = 0; w < KIT_WORKERS; w++) {
    racers[w] = (struct racer){&k, w, 100000, 0, NULL};
    assert_int_equal(pthread_create(&threads[w], NULL, hammer, &racers[w]), 0);
  }
  for (uint32_t w = 0; w < KIT_WORKERS; w++) pthread_join(threads[w], NULL);
  assert_true(breaker_look(k.pool->state).opened[BREAKER_FAILURES] > 10);
  uint64_t now = 10000000;
  for (int i = 0; i < 3; i++) assert_true(attempt(&k, 0, now, &good));
  assert_int_equal(state_of(&k), BREAKER_CLOSED);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(off_by_default),
      cmocka_unit_test(failures_open),
      cmocka_unit_test(good_ones_count),
      cmocka_unit_test(the_window_slides),
      cmocka_unit_test(slowness_opens),
      cmocka_unit_test(probes_close),
      cmocka_unit_test(probes_open_again_for_longer),
      cmocka_unit_test(opens_soon_after_closing),
      cmocka_unit_test(another_epoch_says_nothing),
      cmocka_unit_test(a_response_that_breaks_off),
      cmocka_unit_test(lost_probes_go_to_others),
      cmocka_unit_test(probes_that_hang),
      cmocka_unit_test(one_bad_answer_and_no_other),
      cmocka_unit_test(exactly_so_many),
      cmocka_unit_test(all_comes_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
