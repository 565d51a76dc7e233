/* test_balance_maglev.c: the table against the paper's algorithm in its plainest form; the same on
 * every machine and for every order of the file; what moves when a host leaves; even shares. */
#include <stdlib.h>

#include "hash_kit.h"

#define SLOTS 65537u

static void order_does_not_matter(void **state) {
  (void)state;
  check_order(BALANCE_MAGLEV);
}

/* Besides its own keys a few others move: with 65537 slots under one in a hundred. */
static void removal_moves_few_others(void **state) {
  (void)state;
  check_removal(BALANCE_MAGLEV, 3, KEYS / 100);
  check_removal(BALANCE_MAGLEV, 10, KEYS / 100);
  check_removal(BALANCE_MAGLEV, 50, KEYS / 100);
}

/* While a host is ejected the table stays: only its own keys move. */
static void ejection_moves_its_own_keys_only(void **state) {
  (void)state;
  check_ejection(BALANCE_MAGLEV);
}

/* See test_balance_ring.c. */
static void known_homes(void **state) {
  (void)state;
  static const uint32_t want[] = {4, 1, 5, 2, 2, 2, 4, 5, 3, 2, 1, 3, 1, 3, 3, 1,
                                  3, 5, 2, 1, 5, 2, 4, 3, 3, 4, 5, 5, 4, 3, 1, 1};
  struct hosts h = hosts_range(5);
  struct kit k;
  hosts_init(&k, &h, BALANCE_MAGLEV);
  for (uint64_t key = 0; key < array_count(want); key++) {
    uint32_t got = number_of(kit_pick_key(&k, key, 0));
    if (got != want[key]) fail_msg("key %d: %u, not %u", (int)key, got, want[key]);
  }
  kit_fini(&k);
}

/* preference is the slot that a member would like k-th. */
static uint32_t preference(const struct pool_member *m, uint64_t k) {
  uint64_t offset = hash_mix(m->hash, 1) % SLOTS, skip = hash_mix(m->hash, 2) % (SLOTS - 1) + 1;
  return (uint32_t)((offset + k * skip) % SLOTS);
}

/* twin fills a table as figure 5 of the paper does; turns are skipped by weight. */
static void twin(const struct pool_member **sorted, uint32_t count, uint32_t *table) {
  uint64_t next[HOSTS_MAX] = {0}, due[HOSTS_MAX] = {0}, heaviest = 0;
  for (uint32_t i = 0; i < count; i++)
    if (sorted[i]->weight > heaviest) heaviest = sorted[i]->weight;
  for (uint32_t s = 0; s < SLOTS; s++) table[s] = UINT32_MAX;
  uint32_t n = 0;
  for (uint64_t round = 1; n < SLOTS; round++)
    for (uint32_t i = 0; i < count && n < SLOTS; i++) {
      if (!sorted[i]->weight || round * sorted[i]->weight < due[i]) continue;
      due[i] += heaviest;
      uint32_t slot = preference(sorted[i], next[i]);
      while (table[slot] != UINT32_MAX) slot = preference(sorted[i], ++next[i]);
      table[slot] = i;
      next[i]++;
      n++;
    }
}

static int by_hash(const void *a, const void *b) {
  const struct pool_member *const *x = a, *const *y = b;
  return ((*x)->hash > (*y)->hash) - ((*x)->hash < (*y)->hash);
}

static void agrees_with_the_paper(void **state) {
  (void)state;
  static uint32_t table[SLOTS];
  for (uint32_t n = 1; n <= 31; n += 6) {
    struct hosts h = hosts_range(n);
    struct kit k;
    const struct pool_member *sorted[HOSTS_MAX];
    for (uint32_t i = 0; i < n; i++) h.weight[i] = (i * 7 + n) % 5;
    h.weight[0] = 2;
    hosts_init(&k, &h, BALANCE_MAGLEV);
    for (uint32_t i = 0; i < n; i++) sorted[i] = &k.pool->members[i];
    qsort(sorted, n, sizeof *sorted, by_hash);
    twin(sorted, n, table);
    for (uint64_t slot = 0; slot < SLOTS; slot++) {
      struct pool_want want = {.sticky = PLACE_NONE, .hashed = true, .hash = slot};
      assert_ptr_equal(pool_pick(&k.up[0], k.pool, &want), sorted[table[slot]]);
    }
    kit_fini(&k);
  }
}

/* Slots are shared within one in a hundred. */
static void slots_follow_weights(void **state) {
  (void)state;
  struct hosts h = hosts_range(20);
  struct kit k;
  uint32_t hits[20] = {0}, sum = 0;
  for (uint32_t i = 0; i < 20; i++) sum += h.weight[i] = 1 + i % 4;
  hosts_init(&k, &h, BALANCE_MAGLEV);
  for (uint64_t slot = 0; slot < SLOTS; slot++) {
    struct pool_want want = {.sticky = PLACE_NONE, .hashed = true, .hash = slot};
    hits[kit_place(&k, pool_pick(&k.up[0], k.pool, &want))]++;
  }
  for (uint32_t i = 0; i < 20; i++) {
    double share = (double)SLOTS * h.weight[i] / sum;
    assert_true(hits[i] > share * 0.99 && hits[i] < share * 1.01);
  }
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(order_does_not_matter),
      cmocka_unit_test(removal_moves_few_others),
      cmocka_unit_test(ejection_moves_its_own_keys_only),
      cmocka_unit_test(known_homes),
      cmocka_unit_test(agrees_with_the_paper),
      cmocka_unit_test(slots_follow_weights),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
