/* test_balance_round_robin.c: each member has exactly its weight's share of every full round,
 * turns are those of the plain algorithm, equal members alternate, workers count for themselves,
 * turns of who is out are shared. */
#include "upstream_kit.h"

#define MEMBERS 6

static uint32_t random_pool(struct kit_member *members, uint64_t *rng, uint32_t heaviest) {
  uint32_t count = 2 + (uint32_t)(rng_next(rng) % (MEMBERS - 1));
  for (uint32_t i = 0; i < count; i++)
    members[i] = (struct kit_member){1 + (uint32_t)(rng_next(rng) % heaviest), false, 0};
  return count;
}

static void every_round_is_exact(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 200; seed++) {
    uint64_t rng = seed;
    struct kit_member members[MEMBERS];
    uint32_t count = random_pool(members, &rng, 20), sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += members[i].weight;
    struct kit k;
    kit_init(&k, members, count, seed);
    kit_balance(&k, BALANCE_ROUND_ROBIN);
    for (uint32_t round = 0; round < 3; round++) {
      uint32_t hits[MEMBERS] = {0};
      for (uint32_t i = 0; i < sum; i++) hits[kit_place(&k, kit_pick(&k))]++;
      for (uint32_t i = 0; i < count; i++) assert_int_equal(hits[i], members[i].weight);
    }
    kit_fini(&k);
  }
}

/* twin is the algorithm as nginx describes it. */
static uint32_t twin(int64_t *owed, const struct kit_member *members, uint32_t count) {
  int64_t sum = 0;
  uint32_t best = 0;
  for (uint32_t i = 0; i < count; i++) {
    owed[i] += members[i].weight;
    sum += members[i].weight;
    if (owed[i] > owed[best]) best = i;
  }
  owed[best] -= sum;
  return best;
}

/* The round that was worked out, and the walk as it comes (a further attempt is never of the
 * round; what it tried before is nobody here), both play as the twin does. */
static void turns_are_those_of_the_twin(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 200; seed++) {
    uint64_t rng = seed;
    struct kit_member members[MEMBERS];
    int64_t owed[MEMBERS] = {0};
    uint32_t count = random_pool(members, &rng, 9);
    struct kit k;
    kit_init(&k, members, count, seed);
    const struct pool_tried other = {.place = {99}, .count = seed % 2};
    kit_balance(&k, BALANCE_ROUND_ROBIN);
    for (uint32_t i = 0; i < 200; i++)
      assert_int_equal(kit_place(&k, kit_pick_for(&k, 0, 0, &other)), twin(owed, members, count));
    kit_fini(&k);
  }
}

static void known_sequence(void **state) {
  (void)state;
  const struct kit_member members[] = {{5, false, 0}, {1, false, 0}, {1, false, 0}};
  const uint32_t want[] = {0, 0, 1, 0, 2, 0, 0};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  kit_balance(&k, BALANCE_ROUND_ROBIN);
  for (uint32_t i = 0; i < 21; i++) assert_int_equal(kit_place(&k, kit_pick(&k)), want[i % 7]);
  kit_fini(&k);
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

/* Turns of who is out go to the others by weight, and evenly: over any stretch of turns each has
 * its share within two. */
static void turns_of_the_absent_are_shared(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {3, false, 0}, {2, false, 0}, {1, false, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  kit_balance(&k, BALANCE_ROUND_ROBIN);
  kit_eject(&k, 1, 100);
  uint32_t hits[4] = {0};
  for (uint32_t i = 1; i <= 400; i++) {
    hits[kit_place(&k, kit_pick(&k))]++;
    const double want[] = {i / 4.0, 0, i / 2.0, i / 4.0};
    for (int m = 0; m < 4; m++)
      if (hits[m] > want[m] + 2 || hits[m] + 2 < want[m])
        fail_msg("turn %u: member %d had %u, not %g", i, m, hits[m], want[m]);
  }
  kit_fini(&k);
}

/* heavy makes a pool of unlike weights, 500 to 1000. */
static uint32_t heavy(struct kit *k, struct kit_member *members, uint32_t count) {
  uint64_t rng = 3;
  uint32_t sum = 0;
  for (uint32_t i = 0; i < count; i++) {
    members[i] = (struct kit_member){500 + (uint32_t)(rng_next(&rng) % 501), false, 0};
    sum += members[i].weight;
  }
  kit_init(k, members, count, 1);
  kit_balance(k, BALANCE_ROUND_ROBIN);
  return sum;
}

static void assert_shares(struct kit *k, const struct kit_member *members, uint32_t count,
                          uint32_t sum) {
  enum { TURNS = 3000 };
  uint32_t hits[600] = {0};
  for (uint32_t i = 0; i < TURNS; i++) hits[kit_place(k, kit_pick(k))]++;
  for (uint32_t i = 0; i < count; i++) {
    double want = (double)TURNS * members[i].weight / sum;
    assert_true(hits[i] <= want + 2 && hits[i] + 2 >= want);
  }
}

/* Rounds that would cost too much to play are spread evenly, those too long to keep are walked. */
static void long_rounds(void **state) {
  (void)state;
  static struct kit_member members[600];
  struct kit k;
  uint32_t sum = heavy(&k, members, 300);
  assert_non_null(k.pool->tiers[0].table);
  assert_shares(&k, members, 300, sum);
  kit_fini(&k);
  sum = heavy(&k, members, 600);
  assert_null(k.pool->tiers[0].table);
  assert_shares(&k, members, 600, sum);
  kit_fini(&k);
}

/* Many equal members have a round too: in order. */
static void a_large_pool_has_a_round(void **state) {
  (void)state;
  enum { COUNT = 5000 };
  static struct kit_member members[COUNT];
  struct kit k;
  for (uint32_t i = 0; i < COUNT; i++) members[i] = (struct kit_member){7, false, 0};
  kit_init(&k, members, COUNT, 1);
  kit_balance(&k, BALANCE_ROUND_ROBIN);
  assert_non_null(k.pool->tiers[0].table);
  for (uint32_t i = 0; i < 2 * COUNT; i++)
    assert_int_equal(kit_place(&k, kit_pick(&k)), i % COUNT);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_round_is_exact),
      cmocka_unit_test(turns_are_those_of_the_twin),
      cmocka_unit_test(known_sequence),
      cmocka_unit_test(equal_members_alternate),
      cmocka_unit_test(turns_of_the_absent_are_shared),
      cmocka_unit_test(long_rounds),
      cmocka_unit_test(a_large_pool_has_a_round),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
