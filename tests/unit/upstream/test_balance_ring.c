/* test_balance_ring.c: the ring against a search through all points; the same on every machine and
 * for every order of the file; what moves when a host leaves; shares by weight. */
#include "hash_kit.h"

static void order_does_not_matter(void **state) {
  (void)state;
  check_order(BALANCE_RING);
}

/* A host that leaves gives its keys to others and moves no other: exactly. */
static void removal_moves_its_own_keys_only(void **state) {
  (void)state;
  check_removal(BALANCE_RING, 3, 0);
  check_removal(BALANCE_RING, 10, 0);
  check_removal(BALANCE_RING, 50, 0);
}

static void ejection_moves_its_own_keys_only(void **state) {
  (void)state;
  check_ejection(BALANCE_RING);
}

/* A weight that grows only takes keys, from anybody. */
static void weight_only_takes(void **state) {
  (void)state;
  static uint32_t before[KEYS], after[KEYS];
  struct hosts h = hosts_range(10);
  homes(&h, BALANCE_RING, before);
  h.weight[4] = 3;
  homes(&h, BALANCE_RING, after);
  uint32_t had = 0, has = 0;
  for (uint32_t key = 0; key < KEYS; key++) {
    assert_true(before[key] == after[key] || after[key] == 5);
    had += before[key] == 5;
    has += after[key] == 5;
  }
  assert_in_range(has, had * 2, had * 3);
}

/* These numbers are the contract between machines and versions: a change moves every key of
 * every user. */
static void known_homes(void **state) {
  (void)state;
  static const uint32_t want[] = {1, 4, 5, 4, 2, 5, 5, 2, 5, 3, 3, 5, 3, 5, 3, 2,
                                  3, 1, 2, 2, 4, 1, 5, 5, 5, 4, 1, 3, 5, 3, 4, 2};
  struct hosts h = hosts_range(5);
  struct kit k;
  hosts_init(&k, &h, BALANCE_RING);
  for (uint64_t key = 0; key < array_count(want); key++) {
    uint32_t got = number_of(kit_pick_key(&k, key, 0));
    if (got != want[key]) fail_msg("key %d: %u, not %u", (int)key, got, want[key]);
  }
  kit_fini(&k);
}

/* twin looks at every point of every member. */
static uint32_t twin(const struct kit *k, uint64_t hash) {
  uint32_t at = (uint32_t)(hash >> 32), best = UINT32_MAX, lowest = UINT32_MAX;
  uint32_t place = 0, first = 0;
  for (uint32_t i = 0; i < k->pool->member_count; i++) {
    const struct pool_member *m = &k->pool->members[i];
    for (uint32_t p = 0; p < 256 * m->weight; p++) {
      uint32_t point = (uint32_t)(hash_mix(m->hash, p) >> 32);
      if (point >= at && point < best) {
        best = point;
        place = i;
      }
      if (point < lowest) {
        lowest = point;
        first = i;
      }
    }
  }
  return best == UINT32_MAX ? first : place;
}

static void agrees_with_a_search(void **state) {
  (void)state;
  for (uint32_t n = 1; n <= 40; n += 3) {
    struct hosts h = hosts_range(n);
    struct kit k;
    for (uint32_t i = 0; i < n; i++) h.weight[i] = (i + n) % 4;
    h.weight[0] = 2;
    hosts_init(&k, &h, BALANCE_RING);
    for (uint64_t key = 0; key < 300; key++) {
      struct pool_want want = {.sticky = PLACE_NONE, .hashed = true, .hash = hash_mix(key, n)};
      if (key == 0) want.hash = 0;
      if (key == 1) want.hash = UINT64_MAX;
      const struct pool_member *m = pool_pick(&k.up[0], k.pool, &want);
      assert_int_equal(kit_place(&k, m), twin(&k, want.hash));
    }
    kit_fini(&k);
  }
}

/* 256 points for each weight: a share is within a quarter of what it should be. */
static void shares_follow_weights(void **state) {
  (void)state;
  static uint32_t where[KEYS];
  struct hosts h = hosts_range(8);
  uint32_t hits[9] = {0}, sum = 0;
  for (uint32_t i = 0; i < 8; i++) sum += h.weight[i] = 1 + i % 4;
  homes(&h, BALANCE_RING, where);
  for (uint32_t key = 0; key < KEYS; key++) hits[where[key]]++;
  for (uint32_t i = 0; i < 8; i++) {
    double want = (double)KEYS * h.weight[i] / sum;
    assert_true(hits[i + 1] > want * 0.75 && hits[i + 1] < want * 1.25);
  }
}

/* A ring follows its members, not their weights: at most 1024 points (16 bytes each with their
 * index) for each, and 1 << 20 in all. */
static void the_ring_is_bounded(void **state) {
  (void)state;
  struct hosts h = hosts_range(40), two = hosts_range(2);
  struct kit k;
  uint32_t hits[41] = {0};
  for (uint32_t i = 0; i < 40; i++) h.weight[i] = i ? 1000 : 1;
  hosts_init(&k, &h, BALANCE_RING);
  assert_true(k.pool->obj.arena.total < 1u << 20);
  for (uint64_t key = 0; key < KEYS; key++) hits[number_of(kit_pick_key(&k, key, 0))]++;
  for (uint32_t i = 2; i <= 40; i++) assert_in_range(hits[i], KEYS / 40 / 2, KEYS / 40 * 2);
  kit_fini(&k);
  two.weight[0] = two.weight[1] = 1000;
  hosts_init(&k, &two, BALANCE_RING);
  assert_true(k.pool->obj.arena.total < 64u << 10);
  kit_fini(&k);
}

/* Heavy weights keep the promise on what moves while their mean stays in its power of two. */
static void heavy_members_leave_alike(void **state) {
  (void)state;
  static uint32_t before[KEYS], after[KEYS];
  struct hosts all = hosts_range(12);
  for (uint32_t i = 0; i < 12; i++) all.weight[i] = 700 + i * 25;
  homes(&all, BALANCE_RING, before);
  for (uint32_t gone = 0; gone < 12; gone++) {
    struct hosts less = all;
    less.weight[gone] = 0;
    homes(&less, BALANCE_RING, after);
    for (uint32_t key = 0; key < KEYS; key++)
      assert_true(before[key] == gone + 1 || before[key] == after[key]);
  }
  struct hosts lighter = all; /* a greatest common divisor would change all of it */
  lighter.number[lighter.count] = 13;
  lighter.weight[lighter.count++] = 501;
  homes(&lighter, BALANCE_RING, after);
  for (uint32_t key = 0; key < KEYS; key++)
    assert_true(after[key] == 13 || before[key] == after[key]);
}

/* Without a key the load decides. */
static void no_key_is_least_request(void **state) {
  (void)state;
  struct hosts h = hosts_range(2);
  struct kit k;
  hosts_init(&k, &h, BALANCE_RING);
  endpoint_begin(k.pool->members[0].endpoint, 0);
  for (int i = 0; i < 100; i++) assert_int_equal(kit_place(&k, kit_pick(&k)), 1);
  endpoint_end(k.pool->members[0].endpoint, 0);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(order_does_not_matter),
      cmocka_unit_test(removal_moves_its_own_keys_only),
      cmocka_unit_test(ejection_moves_its_own_keys_only),
      cmocka_unit_test(weight_only_takes),
      cmocka_unit_test(known_homes),
      cmocka_unit_test(agrees_with_a_search),
      cmocka_unit_test(shares_follow_weights),
      cmocka_unit_test(the_ring_is_bounded),
      cmocka_unit_test(heavy_members_leave_alike),
      cmocka_unit_test(no_key_is_least_request),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
