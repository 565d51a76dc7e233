/* test_balance.c: which members a request may go to: tried ones, ejected ones, backups, weights of
 * 0; against a plain model on random pools. */
#include "upstream_kit.h"

static void names(void **state) {
  (void)state;
  uint8_t row = 99;
  assert_true(balance_find(SPAN_LIT("least_request"), &row));
  assert_int_equal(row, BALANCE_LEAST_REQUEST);
  assert_true(balance_find(SPAN_LIT("round_robin"), &row));
  assert_int_equal(row, BALANCE_ROUND_ROBIN);
  assert_false(balance_find(SPAN_LIT("Round_Robin"), &row));
  assert_false(balance_find(SPAN_EMPTY, &row));
  assert_int_equal(row, BALANCE_ROUND_ROBIN);
  for (uint8_t i = 0; i < BALANCE_COUNT; i++) {
    assert_true(balance_find(balance_text(i), &row));
    assert_int_equal(row, i);
  }
}

static void an_empty_pool_has_none(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, NULL, 0, 1);
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    k.pool->balance = b;
    assert_null(pool_pick(&k.up[0], k.pool, 0, NULL));
  }
  kit_fini(&k);
}

#define MODEL_NEVER 99u

/* model_rank is how good a member is by the rules of pool_pick; lower is better. */
static unsigned model_rank(const struct kit *k, uint32_t place, const struct pool_tried *tried,
                           uint64_t now) {
  const struct pool_member *m = &k->pool->members[place];
  bool was = false;
  for (uint32_t i = 0; i < tried->count; i++) was |= tried->place[i] == place;
  bool out = atomic_load(&m->endpoint->ejected_until_ms) > now;
  uint8_t health = atomic_load(&m->endpoint->state);
  if (health == ENDPOINT_DOWN || (was && !tried->count)) return MODEL_NEVER;
  if (health == ENDPOINT_UNKNOWN) return (was ? 8u : 2u) + (m->backup ? 1u : 0);
  if (out && (was || !tried->count)) return MODEL_NEVER;
  return (was ? 6u : 0) + (out ? 4u : 0) + (m->backup ? 1u : 0);
}

static void agrees_with_a_model(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 300; seed++) {
    uint64_t rng = seed;
    struct kit_member members[8] = {0};
    uint32_t count = 1 + (uint32_t)(rng_next(&rng) % 8);
    for (uint32_t i = 0; i < count; i++) {
      members[i].weight = 1 + (uint32_t)(rng_next(&rng) % 5);
      members[i].backup = rng_next(&rng) % 3 == 0;
    }
    struct kit k;
    kit_init(&k, members, count, seed);
    for (uint32_t round = 0; round < 40; round++) {
      uint64_t now = 1000;
      for (uint32_t i = 0; i < count; i++) {
        kit_eject(&k, i, rng_next(&rng) % 3 ? 0 : 2000);
        kit_state(&k, i, (enum endpoint_state)(rng_next(&rng) % (ENDPOINT_DOWN + 1)));
      }
      struct pool_tried tried = {0};
      for (uint32_t n = (uint32_t)(rng_next(&rng) % 4); n > 0; n--)
        tried.place[tried.count++] = (uint32_t)(rng_next(&rng) % count);
      k.pool->balance = (uint8_t)(rng_next(&rng) % BALANCE_COUNT);
      const struct pool_member *m = pool_pick(&k.up[0], k.pool, now, &tried);
      unsigned got = m ? model_rank(&k, kit_place(&k, m), &tried, now) : MODEL_NEVER;
      assert_true(!m || got < MODEL_NEVER);
      for (uint32_t i = 0; i < count; i++)
        assert_true(got <= model_rank(&k, i, &tried, now));
    }
    kit_fini(&k);
  }
}

/* A weight of 0 takes nothing, also when it is the only member left in service. */
static void weight_zero_rests(void **state) {
  (void)state;
  const struct kit_member members[] = {{0, false}, {1, false}, {0, true}};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    k.pool->balance = b;
    for (int i = 0; i < 50; i++)
      assert_int_equal(kit_place(&k, pool_pick(&k.up[0], k.pool, 0, NULL)), 1);
    kit_eject(&k, 1, 100);
    assert_null(pool_pick(&k.up[0], k.pool, 0, NULL));
    kit_eject(&k, 1, 0);
  }
  kit_fini(&k);
}

static void ejection_ends_on_time(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false}, {1, true}};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  kit_eject(&k, 0, 100);
  assert_int_equal(kit_place(&k, pool_pick(&k.up[0], k.pool, 99, NULL)), 1);
  assert_int_equal(kit_place(&k, pool_pick(&k.up[0], k.pool, 100, NULL)), 0);
  kit_fini(&k);
}

/* A new endpoint waits for its first check, unless there is no other; one that is down gets
 * nothing, not even the last try of a request. */
static void active_health(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false}, {1, false}, {1, true}};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  struct pool_tried tried = {.place = {1}, .count = 1};
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    k.pool->balance = b;
    kit_state(&k, 0, ENDPOINT_UNKNOWN);
    kit_state(&k, 1, ENDPOINT_UP);
    kit_state(&k, 2, ENDPOINT_UP);
    for (int i = 0; i < 50; i++)
      assert_int_equal(kit_place(&k, pool_pick(&k.up[0], k.pool, 0, NULL)), 1);
    kit_state(&k, 1, ENDPOINT_DOWN);
    assert_int_equal(kit_place(&k, pool_pick(&k.up[0], k.pool, 0, NULL)), 2); /* a backup is up */
    kit_state(&k, 2, ENDPOINT_DOWN);
    assert_int_equal(kit_place(&k, pool_pick(&k.up[0], k.pool, 0, NULL)), 0);
    kit_state(&k, 0, ENDPOINT_DOWN);
    assert_null(pool_pick(&k.up[0], k.pool, 0, NULL));
    assert_null(pool_pick(&k.up[0], k.pool, 0, &tried));
  }
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names),
      cmocka_unit_test(an_empty_pool_has_none),
      cmocka_unit_test(agrees_with_a_model),
      cmocka_unit_test(weight_zero_rests),
      cmocka_unit_test(ejection_ends_on_time),
      cmocka_unit_test(active_health),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
