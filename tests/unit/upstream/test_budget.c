/* test_budget.c: hours of requests in three pools on four workers: never more retries than the
 * budget and the floor, in any window and in all; and as many as they allow when more are wanted.
 */
#include "upstream_kit.h"

enum { WORKERS = 4, POOLS = 3, WINDOW_S = 8 };

static const struct kit_member one[] = {{1, false, 0}};

struct bed {
  struct registry *registry;
  struct pool *pools[POOLS];
};

static void bed_init(struct bed *b) {
  static const char *const names[POOLS] = {"a", "b", "c"};
  b->registry = registry_new(WORKERS);
  for (int i = 0; i < POOLS; i++) b->pools[i] = kit_pool(b->registry, names[i], one, 1);
}

static void bed_fini(struct bed *b) {
  for (int i = 0; i < POOLS; i++) object_unref(b->registry, &b->pools[i]->obj);
  registry_free(b->registry);
}

/* hour is an hour of one pool at a rate; every `fails`th request wants one more attempt. */
struct hour {
  uint32_t rate, fails;
  uint64_t requests, retries, wanted;
};

static void second(struct pool *p, struct hour *h, uint64_t at_ms, uint64_t *rng) {
  for (uint32_t i = 0; i < h->rate; i++) {
    uint64_t now = at_ms + i * 1000u / h->rate;
    uint32_t worker = (uint32_t)(rng_next(rng) % WORKERS);
    budget_request(&p->state->rows[worker], now);
    h->requests++;
    if (rng_next(rng) % h->fails) continue;
    h->wanted++;
    h->retries += budget_take(p->state, worker, &p->retry, now);
  }
}

static void never_above_the_budget(void **state) {
  (void)state;
  static const struct pool_retry settings[] = {
      {.budget_percent = 20, .budget_min = 10}, {.budget_percent = 20, .budget_min = 0},
      {.budget_percent = 5, .budget_min = 3},   {.budget_percent = 0, .budget_min = 2}};
  for (size_t n = 0; n < array_count(settings); n++) {
    struct bed b;
    bed_init(&b);
    uint64_t rng = n + 1;
    struct hour hours[POOLS] = {{.rate = 100, .fails = 1}, {.rate = 40, .fails = 3},
                                {.rate = 7, .fails = 2}};
    const uint32_t seconds = 2 * 3600;
    for (uint32_t s = 0; s < seconds; s++)
      for (int i = 0; i < POOLS; i++) {
        b.pools[i]->retry = settings[n];
        second(b.pools[i], &hours[i], 1000000 + s * 1000u, &rng);
      }
    for (int i = 0; i < POOLS; i++) {
      const struct hour *h = &hours[i];
      const struct pool_retry *r = &settings[n];
      uint64_t floor = (uint64_t)r->budget_min * (seconds + WINDOW_S + 1);
      uint64_t most = h->requests * r->budget_percent / 100 + floor;
      assert_true(h->retries <= most);
      uint64_t least = most * 9 / 10 < h->wanted ? most * 8 / 10 : h->wanted * 9 / 10;
      if (h->retries < least) print_error("set %zu pool %d: %llu of %llu\n", n, i,
                                          (unsigned long long)h->retries,
                                          (unsigned long long)most);
      assert_true(h->retries >= least);
    }
    bed_fini(&b);
  }
}

/* Requests of long ago pay for nothing; nor do those of another pool. */
static void credit_ends(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b);
  struct pool *p = b.pools[0];
  p->retry = b.pools[1]->retry = (struct pool_retry){.budget_percent = 20};
  for (int i = 0; i < 100; i++) budget_request(&p->state->rows[i % WORKERS], 5000);
  assert_true(budget_take(p->state, 0, &p->retry, 6000));
  assert_false(budget_take(b.pools[1]->state, 0, &b.pools[1]->retry, 6000));
  for (int i = 0; i < 18; i++) assert_true(budget_take(p->state, 3, &p->retry, 9000));
  assert_true(budget_take(p->state, 1, &p->retry, 9500));
  assert_false(budget_take(p->state, 2, &p->retry, 9500));
  assert_false(budget_take(p->state, 2, &p->retry, 5000 + 20000));
  for (int i = 0; i < 5; i++) budget_request(&p->state->rows[1], 40000);
  assert_true(budget_take(p->state, 2, &p->retry, 40000));
  assert_false(budget_take(p->state, 2, &p->retry, 40000));
  bed_fini(&b);
}

/* What was taken and not used is there for the next one. */
static void what_is_not_used_goes_back(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b);
  struct pool *p = b.pools[0];
  p->retry = (struct pool_retry){.budget_percent = 20};
  for (int i = 0; i < 5; i++) budget_request(&p->state->rows[0], 5000);
  for (int i = 0; i < 10; i++) {
    assert_true(budget_take(p->state, 1, &p->retry, 6000));
    assert_false(budget_take(p->state, 2, &p->retry, 6000));
    budget_give(&p->state->rows[1], 6000);
  }
  bed_fini(&b);
}

/* A worker whose clock is a turn behind counts what others did meanwhile. */
static void clocks_differ_a_little(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b);
  struct pool *p = b.pools[0];
  p->retry = (struct pool_retry){.budget_percent = 100};
  budget_request(&p->state->rows[0], 1023);
  budget_request(&p->state->rows[1], 1024);
  assert_true(budget_take(p->state, 1, &p->retry, 1024));
  assert_true(budget_take(p->state, 0, &p->retry, 1023));
  assert_false(budget_take(p->state, 0, &p->retry, 1023));
  bed_fini(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(never_above_the_budget),
      cmocka_unit_test(credit_ends),
      cmocka_unit_test(what_is_not_used_goes_back),
      cmocka_unit_test(clocks_differ_a_little),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
