/* test_balance_least_request.c: power of two choices: shares by weight when all are idle, the
 * lighter one preferred, the load of all workers counted. */
#include "upstream_kit.h"

static void shares_follow_weights(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {2, false, 0}, {5, false, 0}};
  enum { DRAWS = 80000 };
  struct kit k;
  kit_init(&k, members, array_count(members), 7);
  uint32_t hits[3] = {0};
  for (int i = 0; i < DRAWS; i++) hits[kit_place(&k, kit_pick(&k))]++;
  const double want[] = {1.0 / 8, 2.0 / 8, 5.0 / 8}; /* within a twentieth */
  for (size_t i = 0; i < array_count(want); i++) {
    double expect = want[i] * DRAWS, off = hits[i] - expect;
    assert_true(off < expect / 20 && off > -expect / 20);
  }
  kit_fini(&k);
}

/* settled_load sends requests that never end: loads must follow weights closely. */
static void loads_follow_weights(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {2, false, 0}, {5, false, 0}, {2, false, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 9);
  for (int i = 0; i < 1000; i++) {
    const struct pool_member *m = kit_pick_for(&k, (uint32_t)i % KIT_WORKERS, 0, NULL);
    endpoint_begin(m->endpoint, (uint32_t)i % KIT_WORKERS);
  }
  for (uint32_t i = 0; i < array_count(members); i++) {
    struct endpoint *e = k.pool->members[i].endpoint;
    uint32_t load = endpoint_load(e), want = 100 * members[i].weight;
    if (load < want - 20 || load > want + 20)
      fail_msg("member %u: load %u, not %u", i, load, want);
    for (uint32_t w = 0; w < KIT_WORKERS; w++)
      while (atomic_load(&e->rows[w].inflight)) endpoint_end(e, w);
    assert_int_equal(endpoint_load(e), 0);
  }
  kit_fini(&k);
}

/* Of two members both are drawn, so the loaded one is never taken. */
static void lighter_wins(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, false, 0}};
  enum { DRAWS = 20000 };
  struct kit k;
  kit_init(&k, members, array_count(members), 3);
  for (int i = 0; i < 5; i++)
    endpoint_begin(k.pool->members[0].endpoint, 1); /* another worker's */
  uint32_t heavy = 0;
  for (int i = 0; i < DRAWS; i++) heavy += !kit_place(&k, kit_pick(&k));
  assert_int_equal(heavy, 0);
  for (int i = 0; i < 5; i++) endpoint_end(k.pool->members[0].endpoint, 1);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shares_follow_weights),
      cmocka_unit_test(loads_follow_weights),
      cmocka_unit_test(lighter_wins),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
