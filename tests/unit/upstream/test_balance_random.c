/* test_balance_random.c: shares by weight (chi-square, fixed seeds), for equal and for mixed
 * weights, in whole sets and in those that were looked at; load is not looked at. */
#include "upstream_kit.h"

#define MEMBERS 10

static void shares(bool looked_at, uint64_t seed) {
  struct kit_member members[MEMBERS] = {{0, false, 0}};
  double want[MEMBERS];
  uint64_t rng = seed;
  uint32_t count = 2 + (uint32_t)(rng_next(&rng) % (MEMBERS - 1)), hits[MEMBERS] = {0};
  uint32_t heaviest = seed % 3 ? 9 : 1, living = 0;
  for (uint32_t i = 0; i < count; i++) {
    members[i].weight = 1 + (uint32_t)(rng_next(&rng) % heaviest);
    if (i && rng_next(&rng) % 5 == 0) members[i].weight = 0;
    want[i] = members[i].weight;
    living += members[i].weight > 0;
  }
  struct kit k;
  kit_init(&k, members, count, seed);
  k.pool->spread.slow_start_ms = looked_at ? 1 : 0;
  kit_balance(&k, BALANCE_RANDOM);
  for (int i = 0; i < 5; i++) endpoint_begin(k.pool->members[0].endpoint, 0);
  for (int i = 0; i < 20000; i++) hits[kit_place(&k, kit_pick(&k))]++;
  for (int i = 0; i < 5; i++) endpoint_end(k.pool->members[0].endpoint, 0);
  double chi2 = kit_chi2(hits, want, count);
  if (chi2 > kit_chi2_most[living - 1]) fail_msg("seed %d: %g", (int)seed, chi2);
  kit_fini(&k);
}

static void shares_follow_weights(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 60; seed++) {
    shares(false, seed);
    shares(true, seed);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(shares_follow_weights)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
