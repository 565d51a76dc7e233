/* test_balance_hash.c: load is bounded at every step, whatever the keys, weights and ejections; a
 * key stays at its home while that has room; without a bound one key is one endpoint. */
#include "hash_kit.h"

/* flight is the requests that are on their way, each with its endpoint. */
struct flight {
  struct endpoint *at[400];
  uint32_t worker[400];
  uint32_t count;
};

static void land(struct flight *f, uint32_t i) {
  endpoint_end(f->at[i], f->worker[i]);
  f->count--;
  f->at[i] = f->at[f->count];
  f->worker[i] = f->worker[f->count];
}

/* most is ceil(c * (all + 1) * weight / sum) over members in service. */
static uint64_t most(const struct kit *k, uint32_t place, uint64_t all, uint64_t now) {
  uint64_t sum = 0, c = k->pool->spread.bound_percent;
  for (uint32_t i = 0; i < k->pool->member_count; i++) {
    const struct pool_member *m = &k->pool->members[i];
    if (endpoint_in_service(m->endpoint, now)) sum += m->weight;
  }
  uint64_t above = c * (all + 1) * k->pool->members[place].weight, below = 100 * sum;
  return (above + below - 1) / below;
}

/* One step: at times an ejection, at times requests end, then one request, mostly of hot keys. */
static void step(struct kit *k, struct flight *f, uint64_t *rng) {
  uint64_t now = 1000;
  uint32_t count = k->pool->member_count;
  if (rng_next(rng) % 50 == 0)
    kit_eject(k, 1 + (uint32_t)(rng_next(rng) % (count - 1)), rng_next(rng) % 2 ? 2000 : 0);
  while (f->count == 400 || (f->count && rng_next(rng) % 100 < 45))
    land(f, (uint32_t)(rng_next(rng) % f->count));
  uint64_t key = rng_next(rng) % 4 ? rng_next(rng) % 2 : rng_next(rng);
  const struct pool_member *m = kit_pick_key(k, key, now);
  uint32_t place = kit_place(k, m), worker = (uint32_t)(rng_next(rng) % KIT_WORKERS);
  uint64_t bound = most(k, place, f->count, now);
  f->at[f->count] = m->endpoint;
  f->worker[f->count++] = worker;
  endpoint_begin(m->endpoint, worker);
  uint64_t load = endpoint_load(m->endpoint);
  if (load > bound)
    fail_msg("load %u above %u of %u", (unsigned)load, (unsigned)bound, f->count);
}

static void load_is_bounded(void **state) {
  (void)state;
  static const uint16_t bounds[] = {101, 110, 125, 200};
  for (uint64_t seed = 1; seed <= 24; seed++) {
    uint64_t rng = seed;
    struct hosts h = hosts_range(2 + (uint32_t)(rng_next(&rng) % 12));
    struct flight f = {.count = 0};
    struct kit k;
    for (uint32_t i = 0; i < h.count; i++)
      h.weight[i] = 1 + (seed % 2 ? (uint32_t)(rng_next(&rng) % 5) : 0);
    hosts_init(&k, &h, seed % 3 ? BALANCE_RING : BALANCE_MAGLEV);
    k.pool->spread.bound_percent = bounds[seed % array_count(bounds)];
    for (int i = 0; i < 4000; i++) step(&k, &f, &rng);
    while (f.count) land(&f, 0);
    kit_fini(&k);
  }
}

/* A request alone goes home; with its home full it goes to the same second choice each time. */
static void home_while_there_is_room(void **state) {
  (void)state;
  const uint8_t hashed[] = {BALANCE_RING, BALANCE_MAGLEV};
  for (size_t b = 0; b < array_count(hashed); b++) {
    struct hosts h = hosts_range(10);
    struct kit k;
    hosts_init(&k, &h, hashed[b]);
    k.pool->spread.bound_percent = 125;
    for (uint64_t key = 0; key < 100; key++) {
      struct endpoint *home = kit_pick_key(&k, key, 0)->endpoint;
      endpoint_begin(home, 0); /* 1 of ceil(1.25 * 2 / 10): full */
      struct endpoint *second = kit_pick_key(&k, key, 0)->endpoint;
      assert_ptr_not_equal(second, home);
      assert_ptr_equal(kit_pick_key(&k, key, 0)->endpoint, second);
      endpoint_end(home, 0);
      assert_ptr_equal(kit_pick_key(&k, key, 0)->endpoint, home);
    }
    kit_fini(&k);
  }
}

static void unbounded_is_one_home(void **state) {
  (void)state;
  struct hosts h = hosts_range(10);
  struct kit k;
  hosts_init(&k, &h, BALANCE_RING);
  struct endpoint *home = kit_pick_key(&k, 7, 0)->endpoint;
  for (int i = 0; i < 500; i++) endpoint_begin(home, 0);
  assert_ptr_equal(kit_pick_key(&k, 7, 0)->endpoint, home);
  for (int i = 0; i < 500; i++) endpoint_end(home, 0);
  kit_fini(&k);
}

/* A further attempt of the same key goes on around the ring, never to one that was tried. */
static void attempts_go_on(void **state) {
  (void)state;
  struct hosts h = hosts_range(6);
  struct kit k;
  hosts_init(&k, &h, BALANCE_RING);
  for (uint64_t key = 0; key < 200; key++) {
    struct pool_tried tried = {.count = 0};
    struct pool_want want = {.sticky = PLACE_NONE, .hashed = true, .hash = hash_mix(key, 9)};
    want.tried = &tried;
    for (uint32_t i = 0; i < 4; i++) {
      uint32_t place = kit_place(&k, pool_pick(&k.up[0], k.pool, &want));
      for (uint32_t t = 0; t < tried.count; t++) assert_true(tried.place[t] != place);
      tried.place[tried.count++] = place;
    }
  }
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(load_is_bounded),
      cmocka_unit_test(home_while_there_is_room),
      cmocka_unit_test(unbounded_is_one_home),
      cmocka_unit_test(attempts_go_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
