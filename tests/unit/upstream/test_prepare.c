/* test_prepare.c: members by tier, order within kept; sums; endpoints that come
 * into service are noted by an installation, those of the start and of new pools are not. */
#include "upstream_kit.h"

static void members_stand_by_tier(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, true, 0}, {2, false, 7}, {3, false, 0}, {4, true, 0},
                                       {5, false, 0}, {0, false, 7}};
  const uint32_t want[] = {3, 5, 2, 0, 1, 4};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  const struct pool *p = k.pool;
  for (uint32_t i = 0; i < 6; i++) assert_int_equal(p->members[i].weight, want[i]);
  assert_int_equal(p->tier_count, 3);
  assert_true(p->has_backups);
  const uint64_t sums[] = {3, 8, 2, 2, 1, 5}, weights[] = {8, 2, 5};
  for (uint32_t t = 0, i = 0; t < 3; t++) {
    const struct pool_tier *tier = &p->tiers[t];
    assert_int_equal(tier->first, i);
    assert_int_equal(tier->weight, weights[t]);
    assert_false(tier->equal);
    for (uint32_t m = 0; m < tier->count; m++, i++) assert_int_equal(tier->sums[m], sums[i]);
  }
  kit_fini(&k);
}

static void what_is_equal(void **state) {
  (void)state;
  static const struct {
    struct kit_member members[3];
    bool equal, backups;
    uint32_t primaries;
  } rows[] = {
      {{{1, false, 0}, {1, false, 0}, {1, false, 0}}, true, false, 1},
      {{{1, false, 3}, {2, false, 3}, {1, true, 0}}, false, true, 1},
      {{{1, false, 0}, {1, false, 1}, {1, false, 0}}, true, false, 2},
      {{{1, true, 0}, {1, true, 0}, {1, true, 0}}, true, true, 0},
      {{{0, false, 0}, {0, false, 0}, {1, true, 0}}, false, true, 1},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct kit k;
    kit_init(&k, rows[i].members, 3, 1);
    assert_int_equal(pool_primaries(k.pool), rows[i].primaries);
    assert_int_equal(k.pool->tiers[0].equal, rows[i].equal);
    assert_int_equal(k.pool->has_backups, rows[i].backups);
    kit_fini(&k);
  }
}

/* ---- coming into service ---- */

static struct snapshot *snapshot_of(struct kit *k, struct pool *pool) {
  struct snapshot *s = snapshot_new(k->registry);
  s->pools = arena_zalloc(&s->arena, sizeof *s->pools);
  assert_non_null(s->pools);
  s->pools[s->pool_count++] = pool;
  return s;
}

static void install(struct kit *k, uint64_t seq, uint64_t now, const struct snapshot *before,
                    const struct snapshot *next) {
  k->loop.now_ms = now;
  for (uint32_t w = 0; w < KIT_WORKERS; w++) {
    k->up[w].loop = &k->loop;
    upstream_install(&k->up[w], seq, before, next);
  }
}

static uint64_t since(const struct snapshot *s, uint32_t place) {
  return endpoint_since(s->pools[0]->members[place].endpoint);
}

static void who_comes_is_noted(void **state) {
  (void)state;
  static const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, false, 0}};
  struct kit k;
  kit_init(&k, members, 2, 1);
  object_ref(k.registry, &k.pool->obj);
  struct snapshot *first = snapshot_of(&k, k.pool);
  struct snapshot *second = snapshot_of(&k, kit_pool(k.registry, "app", members, 3));
  struct snapshot *third = snapshot_of(&k, kit_pool(k.registry, "app", members, 1));
  struct snapshot *fourth = snapshot_of(&k, kit_pool(k.registry, "app", members, 3));
  struct snapshot *other = snapshot_of(&k, kit_pool(k.registry, "new", members, 2));
  install(&k, 1, 1000, NULL, first); /* those of the start were always there */
  assert_int_equal(since(first, 0) + since(first, 1), 0);
  install(&k, 2, 2000, first, second);
  assert_int_equal(since(second, 0) + since(second, 1), 0);
  assert_int_equal(since(second, 2), 2000);
  install(&k, 3, 3000, second, third);
  install(&k, 4, 4000, third, fourth); /* back after having been taken out */
  assert_int_equal(since(fourth, 0), 0);
  assert_int_equal(since(fourth, 1), 4000);
  assert_int_equal(since(fourth, 2), 4000);
  install(&k, 5, 5000, fourth, other); /* a pool that is all new */
  assert_int_equal(since(other, 0) + since(other, 1), 0);
  install(&k, 6, 6000, other, fourth); /* as a whole, back after having been left out */
  assert_int_equal(since(fourth, 0), 0);
  assert_int_equal(since(fourth, 1), 4000);
  atomic_store(&other->pools[0]->members[0].endpoint->ejected_until_ms, 9000);
  assert_int_equal(since(other, 0), 9000);
  snapshot_free(first);
  snapshot_free(second);
  snapshot_free(third);
  snapshot_free(fourth);
  snapshot_free(other);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(members_stand_by_tier),
      cmocka_unit_test(what_is_equal),
      cmocka_unit_test(who_comes_is_noted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
