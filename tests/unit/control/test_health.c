/* test_health.c: the state machine of active health with a made-up clock: states and results in
 * turn and by a slow twin, reasons, ejections that end early, the time to the next check. */
#include "control/health_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/hash.h"
#include "weir/base/mem.h"

struct world {
  struct registry *registry;
  struct endpoint *e;
  struct pool_health settings;
  struct health_now now;
};

static int setup(void **state) {
  struct world *w = (struct world *)mem_alloc(sizeof *w);
  struct addr addr;
  w->registry = registry_new(1);
  assert_true(addr_parse(SPAN_LIT("10.0.0.1:80"), &addr));
  w->e = endpoint_get(w->registry, SPAN_LIT("app"), SPAN_LIT("10.0.0.1:80"), &addr);
  w->e->health = (struct endpoint_health *)mem_alloc(sizeof *w->e->health);
  w->settings = (struct pool_health){.on = true,
                                     .interval_ms = 5000,
                                     .fast_interval_ms = 1000,
                                     .jitter_percent = 10,
                                     .healthy = 2,
                                     .unhealthy = 3};
  w->now = (struct health_now){.ms = 1000, .wall_ms = 1700000000000};
  *state = w;
  return 0;
}

static int teardown(void **state) {
  struct world *w = (struct world *)*state;
  object_unref(w->registry, &w->e->obj);
  registry_free(w->registry);
  mem_free(w);
  return 0;
}

static enum health_change take(struct world *w, enum probe_result result) {
  struct probe_outcome o;
  w->now.ms += 1000;
  w->now.wall_ms += 1000;
  probe_end(&o, result, "%s", result == PROBE_PASS ? "" : probe_label(result));
  return health_take(w->e, &w->settings, &o, w->now);
}

static uint8_t state_of(const struct world *w) { return atomic_load(&w->e->state); }

static void begin_as(struct world *w, enum endpoint_state state) {
  atomic_store(&w->e->state, (uint8_t)state);
  health_begin(w->e, w->now);
}

static void test_beginning(void **state) {
  struct world *w = (struct world *)*state;
  begin_as(w, ENDPOINT_NEW);
  assert_int_equal(state_of(w), ENDPOINT_UNKNOWN);
  assert_string_equal(w->e->health->reason, "not checked yet");
  begin_as(w, ENDPOINT_UNCHECKED); /* it served before health was set */
  assert_int_equal(state_of(w), ENDPOINT_UP);
  assert_int_equal(atomic_load(&w->e->since_ms), 0); /* so it starts no slower */
  uint64_t since = w->e->health->since_wall_ms;
  assert_int_equal(take(w, PROBE_REFUSED), HEALTH_SAME);
  health_begin(w->e, w->now); /* a reload: nothing changes */
  assert_int_equal(w->e->health->run, 1);
  assert_int_equal(w->e->health->since_wall_ms, since);
}

/* One check decides about a new endpoint. */
static void test_first_check(void **state) {
  struct world *w = (struct world *)*state;
  begin_as(w, ENDPOINT_NEW);
  assert_int_equal(take(w, PROBE_SKIPPED), HEALTH_SAME);
  assert_int_equal(state_of(w), ENDPOINT_UNKNOWN);
  assert_int_equal(take(w, PROBE_PASS), HEALTH_TO_UP);
  assert_int_equal(state_of(w), ENDPOINT_UP);
  assert_string_equal(w->e->health->reason, "passed");
  assert_int_equal(w->e->health->since_wall_ms, w->now.wall_ms);
  assert_int_equal(atomic_load(&w->e->since_ms), 0); /* there from the start: no slow start */
  atomic_store(&w->e->since_ms, 1);                  /* new in a running pool */
  begin_as(w, ENDPOINT_NEW);
  assert_int_equal(take(w, PROBE_PASS), HEALTH_TO_UP);
  assert_int_equal(atomic_load(&w->e->since_ms), w->now.ms);
  begin_as(w, ENDPOINT_NEW);
  assert_int_equal(take(w, PROBE_RESET), HEALTH_TO_DOWN);
  assert_string_equal(w->e->health->reason, "reset");
}

static void test_down_and_up(void **state) {
  struct world *w = (struct world *)*state;
  begin_as(w, ENDPOINT_UNCHECKED);
  assert_int_equal(take(w, PROBE_REFUSED), HEALTH_SAME);
  assert_int_equal(take(w, PROBE_REFUSED), HEALTH_SAME);
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME); /* a pass between them starts anew */
  assert_int_equal(take(w, PROBE_REFUSED), HEALTH_SAME);
  assert_int_equal(take(w, PROBE_SKIPPED), HEALTH_SAME); /* says nothing either way */
  assert_int_equal(take(w, PROBE_REFUSED), HEALTH_SAME);
  assert_int_equal(w->e->health->run, 2);
  assert_int_equal(take(w, PROBE_STATUS), HEALTH_TO_DOWN);
  assert_string_equal(w->e->health->reason, "status, 3 checks in a row");
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
  assert_int_equal(take(w, PROBE_BODY), HEALTH_SAME);
  assert_string_equal(w->e->health->reason, "status, 3 checks in a row");
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
  assert_int_equal(take(w, PROBE_PASS), HEALTH_TO_UP);
  assert_string_equal(w->e->health->reason, "passed, 2 checks in a row");
  assert_int_equal(atomic_load(&w->e->since_ms), w->now.ms);
}

/* ---- ejections ---- */

static void eject(struct world *w, enum eject_cause cause, uint64_t for_ms) {
  atomic_store(&w->e->ejected_until_ms, w->now.ms + for_ms);
  atomic_store(&w->e->eject_cause, (uint8_t)cause);
}

static bool ejected(const struct world *w) {
  return atomic_load(&w->e->ejected_until_ms) > w->now.ms;
}

/* The first result after an ejection may be that of a check from before it. */
static void test_ejection_for_failures_ends_early(void **state) {
  struct world *w = (struct world *)*state;
  begin_as(w, ENDPOINT_UNCHECKED);
  eject(w, EJECT_FAILURES, 60000);
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
  assert_int_equal(take(w, PROBE_REFUSED), HEALTH_SAME); /* in a row */
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
  assert_true(ejected(w));
  uint64_t epoch = atomic_load(&w->e->pool_state->epoch);
  assert_int_equal(take(w, PROBE_PASS), HEALTH_BACK);
  assert_int_equal(w->e->health->eject_told_ms, w->now.ms); /* prober_back tells it no more */
  assert_false(ejected(w));
  assert_true(atomic_load(&w->e->pool_state->epoch) > epoch); /* workers look again */
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
  eject(w, EJECT_FAILURES, 60001); /* the next one is counted anew */
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
  assert_true(ejected(w));
}

static void test_other_ejections_run_their_time(void **state) {
  struct world *w = (struct world *)*state;
  static const enum eject_cause causes[] = {EJECT_5XX, EJECT_PERCENT, EJECT_DEVIATION};
  begin_as(w, ENDPOINT_UNCHECKED);
  for (size_t i = 0; i < array_count(causes); i++) {
    eject(w, causes[i], 60000 + i);
    for (int n = 0; n < 20; n++) {
      assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
    }
    assert_true(ejected(w));
  }
}

/* Down and up again: it is another life, whatever the ejection was for. */
static void test_up_again_ends_any_ejection(void **state) {
  struct world *w = (struct world *)*state;
  begin_as(w, ENDPOINT_UNCHECKED);
  eject(w, EJECT_5XX, 600000);
  for (int i = 0; i < 3; i++) {
    (void)take(w, PROBE_REFUSED);
  }
  atomic_store(&w->e->failures, 4);
  atomic_store(&w->e->failures_5xx, 4);
  assert_int_equal(take(w, PROBE_PASS), HEALTH_SAME);
  assert_true(ejected(w));
  assert_int_equal(take(w, PROBE_PASS), HEALTH_TO_UP);
  assert_false(ejected(w));
  assert_int_equal(atomic_load(&w->e->failures) + atomic_load(&w->e->failures_5xx), 0);
}

/* ---- time ---- */

static void bounds(struct world *w, uint32_t *least, uint32_t *most) {
  uint64_t rng = 1;
  *least = UINT32_MAX;
  *most = 0;
  for (int i = 0; i < 20000; i++) {
    uint32_t ms = health_wait_ms(w->e, &w->settings, &rng);
    *least = ms < *least ? ms : *least;
    *most = ms > *most ? ms : *most;
  }
}

static void test_intervals(void **state) {
  struct world *w = (struct world *)*state;
  uint32_t least, most;
  begin_as(w, ENDPOINT_UNCHECKED);
  bounds(w, &least, &most); /* up and calm */
  assert_in_range(least, 4500, 4510);
  assert_in_range(most, 5490, 5500);
  (void)take(w, PROBE_REFUSED);
  bounds(w, &least, &most); /* one failed: a change may be under way */
  assert_in_range(least, 900, 905);
  assert_in_range(most, 1095, 1100);
  (void)take(w, PROBE_REFUSED);
  (void)take(w, PROBE_REFUSED);
  bounds(w, &least, &most); /* down */
  assert_in_range(most, 1095, 1100);
  w->settings.jitter_percent = 0;
  bounds(w, &least, &most);
  assert_int_equal(least, 1000);
  assert_int_equal(most, 1000);
}

/* ---- a slow twin: the state is found anew from the whole history ---- */

static enum endpoint_state twin(const uint8_t *pass, int count, const struct pool_health *h) {
  enum endpoint_state s = ENDPOINT_UNKNOWN;
  int from = 0; /* results since the last change */
  for (int i = 0; i < count; i++) {
    uint32_t alike = 0;
    for (int k = i; k >= from && pass[k] == pass[i]; k--) {
      alike++;
    }
    enum endpoint_state now = s;
    if (s == ENDPOINT_UNKNOWN) now = pass[i] ? ENDPOINT_UP : ENDPOINT_DOWN;
    if (s == ENDPOINT_UP && !pass[i] && alike >= h->unhealthy) now = ENDPOINT_DOWN;
    if (s == ENDPOINT_DOWN && pass[i] && alike >= h->healthy) now = ENDPOINT_UP;
    from = now != s ? i + 1 : from;
    s = now;
  }
  return s;
}

static void test_agrees_with_a_slow_twin(void **state) {
  struct world *w = (struct world *)*state;
  uint64_t rng = 3;
  for (int round = 0; round < 200; round++) {
    uint8_t pass[60];
    w->settings.healthy = 1 + (uint32_t)(rng_next(&rng) % 4);
    w->settings.unhealthy = 1 + (uint32_t)(rng_next(&rng) % 4);
    uint64_t often = 1 + rng_next(&rng) % 9;
    w->e->health->since_wall_ms = 0;
    begin_as(w, ENDPOINT_NEW);
    for (int i = 0; i < 60; i++) {
      pass[i] = rng_next(&rng) % 10 < often;
      enum endpoint_state before = twin(pass, i, &w->settings);
      enum endpoint_state after = twin(pass, i + 1, &w->settings);
      enum health_change change = take(w, pass[i] ? PROBE_PASS : PROBE_TIMEOUT);
      assert_int_equal(state_of(w), after);
      assert_int_equal(change, before == after           ? HEALTH_SAME
                               : after == ENDPOINT_UP ? HEALTH_TO_UP
                                                      : HEALTH_TO_DOWN);
    }
  }
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_WORLD(test_beginning),
      WITH_WORLD(test_first_check),
      WITH_WORLD(test_down_and_up),
      WITH_WORLD(test_ejection_for_failures_ends_early),
      WITH_WORLD(test_other_ejections_run_their_time),
      WITH_WORLD(test_up_again_ends_any_ejection),
      WITH_WORLD(test_intervals),
      WITH_WORLD(test_agrees_with_a_slow_twin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
