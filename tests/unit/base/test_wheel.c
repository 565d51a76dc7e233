/* test_wheel.c: timers against a plain model, over all levels, jumps and lazy moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/check.h"
#include "weir/base/hash.h"
#include "weir/base/wheel.h"

enum { TIMERS = 64 };

struct probe {
  struct timer timer;
  uint64_t want_ms; /* model: WHEEL_NEVER when not armed */
  unsigned fired_count;
};

static struct wheel wheel;
static struct probe probes[TIMERS];
static uint64_t rng;

static void on_fire(struct timer *timer, uint64_t now_ms) {
  struct probe *probe = container_of(timer, struct probe, timer);
  assert_true(probe->want_ms != WHEEL_NEVER);
  assert_true(probe->want_ms <= now_ms);
  assert_false(timer_armed(timer));
  probe->want_ms = WHEEL_NEVER;
  probe->fired_count++;
  /* Callbacks may set and stop any timer, this one too. */
  struct probe *other = &probes[rng_next(&rng) % TIMERS];
  switch (rng_next(&rng) % 6) {
    case 0:
      timer_stop(&wheel, &other->timer);
      other->want_ms = WHEEL_NEVER;
      break;
    case 1:
      other->want_ms = now_ms + rng_next(&rng) % 2000;
      timer_set(&wheel, &other->timer, other->want_ms);
      break;
    default: break;
  }
}

static uint64_t random_delay(void) {
  static const uint64_t spans[] = {10, 600, 40000, 2500000, 9000000};
  return rng_next(&rng) % spans[rng_next(&rng) % array_count(spans)];
}

static void check_model(uint64_t now_ms) {
  uint32_t armed = 0;
  uint64_t first = WHEEL_NEVER;
  for (size_t i = 0; i < TIMERS; i++) {
    uint64_t want = probes[i].want_ms;
    assert_int_equal(timer_armed(&probes[i].timer), want != WHEEL_NEVER);
    if (want == WHEEL_NEVER) continue;
    armed++;
    assert_true(want + WHEEL_TICK_MS > now_ms); /* at most one tick late */
    if (want < first) first = want;
  }
  assert_int_equal(wheel.armed, armed);
  uint64_t next = wheel_next_ms(&wheel);
  if (armed == 0)
    assert_true(next == WHEEL_NEVER);
  else
    assert_true(next <= first + WHEEL_TICK_MS);
}

static void random_work(uint64_t *now_ms) {
  struct probe *probe = &probes[rng_next(&rng) % TIMERS];
  switch (rng_next(&rng) % 4) {
    case 0:
      timer_stop(&wheel, &probe->timer);
      probe->want_ms = WHEEL_NEVER;
      break;
    case 1:
      *now_ms += rng_next(&rng) % 100 == 0 ? random_delay() : rng_next(&rng) % 300;
      wheel_run(&wheel, *now_ms);
      check_model(*now_ms);
      break;
    default:
      probe->want_ms = *now_ms + random_delay();
      timer_set(&wheel, &probe->timer, probe->want_ms);
      break;
  }
}

static void setup(uint64_t now_ms, uint64_t seed) {
  rng = seed;
  wheel_init(&wheel, now_ms);
  for (size_t i = 0; i < TIMERS; i++) {
    timer_init(&probes[i].timer, on_fire);
    probes[i].want_ms = WHEEL_NEVER;
    probes[i].fired_count = 0;
  }
}

static void agrees_with_a_model(void **state) {
  (void)state;
  unsigned fired = 0;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    uint64_t now_ms = seed * 123456789;
    setup(now_ms, seed);
    for (int turn = 0; turn < 20000; turn++) random_work(&now_ms);
    for (size_t i = 0; i < TIMERS; i++) fired += probes[i].fired_count;
  }
  assert_true(fired > 10000);
}

static void sleeping_until_next_is_enough(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    uint64_t now_ms = 1000 + seed;
    setup(now_ms, seed);
    for (size_t i = 0; i < TIMERS; i++) {
      probes[i].want_ms = now_ms + random_delay();
      timer_set(&wheel, &probes[i].timer, probes[i].want_ms);
    }
    unsigned wakes = 0;
    while (wheel.armed > 0) {
      uint64_t next = wheel_next_ms(&wheel);
      assert_true(next > now_ms || next + WHEEL_TICK_MS > now_ms);
      if (next > now_ms) now_ms = next;
      wheel_run(&wheel, now_ms);
      check_model(now_ms);
      assert_true(++wakes < 3000);
    }
  }
}

static void later_is_lazy(void **state) {
  (void)state;
  setup(0, 1);
  probes[0].want_ms = 100;
  timer_set(&wheel, &probes[0].timer, 100);
  probes[0].want_ms = 100000;
  timer_set(&wheel, &probes[0].timer, 100000);
  assert_true(probes[0].timer.queued_ms == 100); /* not moved yet */
  wheel_run(&wheel, 200);
  assert_int_equal(probes[0].fired_count, 0);
  assert_true(probes[0].timer.queued_ms == 100000);
  wheel_run(&wheel, 100000);
  assert_int_equal(probes[0].fired_count, 1);
  timer_set(&wheel, &probes[0].timer, WHEEL_NEVER);
  assert_false(timer_armed(&probes[0].timer));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(agrees_with_a_model),
      cmocka_unit_test(sleeping_until_next_is_enough),
      cmocka_unit_test(later_is_lazy),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
