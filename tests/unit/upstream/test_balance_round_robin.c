/* test_balance_round_robin.c: each member has exactly its weight's share of every full round,
 * turns of equal members alternate, workers count for themselves. */
#include "upstream_kit.h"

static void every_round_is_exact(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 200; seed++) {
    uint64_t rng = seed;
    struct kit_member members[6] = {0};
    uint32_t count = 2 + (uint32_t)(rng_next(&rng) % 5), sum = 0;
    for (uint32_t i = 0; i < count; i++) {
      members[i].weight = 1 + (uint32_t)(rng_next(&rng) % 20);
      sum += members[i].weight;
    }
    struct kit k;
    kit_init(&k, members, count, seed);
    kit_balance(&k, BALANCE_ROUND_ROBIN);
    for (uint32_t round = 0; round < 3; round++) {
      uint32_t hits[6] = {0};
      for (uint32_t i = 0; i < sum; i++)
        hits[kit_place(&k, kit_pick(&k))]++;
      for (uint32_t i = 0; i < count; i++) assert_int_equal(hits[i], members[i].weight);
    }
    kit_fini(&k);
  }
}

static void equal_members_alternate(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, false, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  kit_balance(&k, BALANCE_ROUND_ROBIN);
  for (uint32_t i = 0; i < 9; i++) {
    assert_int_equal(kit_place(&k, kit_pick(&k)), i % 3);
    assert_int_equal(kit_place(&k, kit_pick_for(&k, 1, 0, NULL)), i % 3);
  }
  kit_fini(&k);
}

/* A heavy member's turns are spread out: never more of them in a row than its weight needs. */
static void heavy_turns_are_spread(void **state) {
  (void)state;
  const struct kit_member members[] = {{5, false, 0}, {1, false, 0}, {1, false, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  kit_balance(&k, BALANCE_ROUND_ROBIN);
  uint32_t run = 0, longest = 0;
  for (uint32_t i = 0; i < 70; i++) {
    run = kit_place(&k, kit_pick(&k)) == 0 ? run + 1 : 0;
    if (run > longest) longest = run;
  }
  assert_true(longest <= 4);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_round_is_exact),
      cmocka_unit_test(equal_members_alternate),
      cmocka_unit_test(heavy_turns_are_spread),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
