/* test_stats.c: the series table against a plain list: found again, forgotten whole, holes closed;
 * the cap and its overflow rows; histogram buckets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/base/hash.h"
#include "weir/proxy/stats.h"

enum { MODEL_MAX = 4096 };

struct key {
  uint32_t kind, a, b;
  uint8_t method, status_class;
};
struct known {
  struct key key;
  uint64_t hits;
};

static struct known model[MODEL_MAX];
static uint32_t model_count;

static struct known *model_get(const struct key *k) {
  for (uint32_t i = 0; i < model_count; i++)
    if (memcmp(&model[i].key, k, sizeof *k) == 0) return &model[i];
  model[model_count] = (struct known){*k, 0};
  return &model[model_count++];
}

static void model_forget(uint32_t kind, uint32_t id) {
  uint32_t left = 0;
  for (uint32_t i = 0; i < model_count; i++)
    if (model[i].key.kind != kind || (model[i].key.a != id && model[i].key.b != id))
      model[left++] = model[i];
  model_count = left;
}

static struct stats_series *get(struct stats *s, const struct key *k) {
  return stats_series_get(s, (enum stats_kind)k->kind, k->a, k->b, k->method, k->status_class);
}

/* check_all: every known series is found in the table with its count, and nothing else is there.
 */
static void check_all(struct stats *s) {
  assert_int_equal(s->series_live, model_count);
  uint32_t live = 0;
  for (uint32_t i = 0; i < STATS_SERIES_MAX; i++) live += atomic_load(&s->series[i].kind) != 0;
  assert_int_equal(live, model_count);
  for (uint32_t i = 0; i < model_count; i++)
    assert_int_equal(atomic_load(&get(s, &model[i].key)->latency.buckets[0]), model[i].hits);
  assert_int_equal(s->series_live, model_count); /* the look-ups made none */
}

static struct key random_key(uint64_t *rng) {
  struct key k;
  memset(&k, 0, sizeof k);
  k.kind = 1 + (uint32_t)(rng_next(rng) % 2);
  k.a = 1 + (uint32_t)(rng_next(rng) % 12);
  k.b = 20 + (uint32_t)(rng_next(rng) % 20);
  if (k.kind == STATS_CLIENT) return k;
  k.method = (uint8_t)(rng_next(rng) % 4);
  k.status_class = (uint8_t)(rng_next(rng) % 6);
  return k;
}

static void agrees_with_a_list(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 30; seed++) {
    uint64_t rng = seed;
    static struct stats s;
    stats_init(&s);
    model_count = 0;
    for (int i = 0; i < 4000; i++) {
      struct key k = random_key(&rng);
      if (rng_next(&rng) % 100 == 0) {
        uint32_t id = rng_next(&rng) % 2 ? k.a : k.b;
        stats_forget(&s, (enum stats_kind)k.kind, id);
        model_forget(k.kind, id);
        continue;
      }
      if (model_count >= STATS_SERIES_MAX / 4 * 3) continue;
      stats_observe(&get(&s, &k)->latency, 1);
      model_get(&k)->hits++;
      if (i % 500 == 0) check_all(&s);
    }
    check_all(&s);
    stats_fini(&s);
  }
}

/* A forgotten series that comes again starts from nothing. */
static void forgotten_is_gone(void **state) {
  (void)state;
  static struct stats s;
  stats_init(&s);
  struct stats_series *e = stats_series_get(&s, STATS_SERVER, 1, 2, 0, 2);
  stats_observe(&e->latency, 5);
  stats_forget(&s, STATS_CLIENT, 1);
  assert_ptr_equal(stats_series_get(&s, STATS_SERVER, 1, 2, 0, 2), e);
  stats_forget(&s, STATS_SERVER, 2);
  assert_int_equal(s.series_live, 0);
  e = stats_series_get(&s, STATS_SERVER, 1, 2, 0, 2);
  assert_int_equal(atomic_load(&e->latency.buckets[0]), 0);
  assert_int_equal(atomic_load(&e->latency.sum_ns), 0);
  stats_fini(&s);
}

static void the_cap_overflows(void **state) {
  (void)state;
  static struct stats s;
  stats_init(&s);
  uint32_t cap = STATS_SERIES_MAX / 4 * 3;
  for (uint32_t i = 0; i < cap; i++)
    assert_true(stats_series_get(&s, STATS_SERVER, 1, 10 + i, 0, 2) != &s.overflow[0]);
  assert_int_equal(s.series_live, cap);
  assert_ptr_equal(stats_series_get(&s, STATS_SERVER, 1, 10 + cap, 0, 2), &s.overflow[0]);
  assert_ptr_equal(stats_series_get(&s, STATS_CLIENT, 1, 10 + cap, 0, 2), &s.overflow[1]);
  assert_true(stats_series_get(&s, STATS_SERVER, 1, 10, 0, 2) != &s.overflow[0]); /* is known */
  assert_int_equal(s.series_live, cap);
  stats_forget(&s, STATS_SERVER, 10); /* makes room for one */
  assert_true(stats_series_get(&s, STATS_SERVER, 1, 10 + cap, 0, 2) != &s.overflow[0]);
  assert_ptr_equal(stats_series_get(&s, STATS_SERVER, 1, 11 + cap, 0, 2), &s.overflow[0]);
  stats_fini(&s);
}

static void buckets(void **state) {
  (void)state;
  struct stats_histogram h;
  memset(&h, 0, sizeof h);
  uint64_t sum = 0;
  for (uint32_t i = 0; i < STATS_BUCKETS; i++) { /* bounds are inclusive, as in Prometheus */
    stats_observe(&h, stats_bounds_ns[i]);
    stats_observe(&h, stats_bounds_ns[i] + 1);
    sum += 2 * stats_bounds_ns[i] + 1;
    if (i) assert_true(stats_bounds_ns[i] > stats_bounds_ns[i - 1]);
  }
  stats_observe(&h, 0);
  for (uint32_t i = 0; i <= STATS_BUCKETS; i++)
    assert_int_equal(atomic_load(&h.buckets[i]), i < STATS_BUCKETS ? 2 : 1);
  assert_int_equal(atomic_load(&h.sum_ns), sum);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(agrees_with_a_list),
      cmocka_unit_test(forgotten_is_gone),
      cmocka_unit_test(the_cap_overflows),
      cmocka_unit_test(buckets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
