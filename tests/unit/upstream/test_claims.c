/* test_claims.c: turns over routes, priorities, the table when it is full, the clock when it goes
 * round, the best of several workers; against a model of rounds. */
#include "upstream_kit.h"
#include "weir/upstream/permits.h"

static const struct kit_member one[] = {{1, false, 0}};
enum { MOST = 1000 };

static void own_route_by_age(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, one, 1, 1);
  claim last = claim_draw(k.pool->state, 7, 3, MOST);
  for (int i = 0; i < 100; i++) {
    claim peek = claim_peek(k.pool->state, 7, 3, MOST);
    claim next = claim_draw(k.pool->state, 7, 3, MOST);
    assert_true(peek == next);
    assert_true(claim_before(last, next) && !claim_before(next, last));
    last = next;
  }
  kit_fini(&k);
}

static void none_is_behind_all(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, one, 1, 1);
  claim c = claim_draw(k.pool->state, 1, 7, MOST);
  assert_true(claim_before(c, 0));
  assert_false(claim_before(0, c));
  assert_false(claim_before(0, 0));
  kit_fini(&k);
}

static void urgent_before_all_others(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, one, 1, 1);
  claim late[8];
  for (uint8_t p = 0; p < 8; p++)
    for (int i = 0; i < 5; i++) late[p] = claim_draw(k.pool->state, 1, p, MOST);
  for (uint8_t p = 1; p < 8; p++)
    assert_true(claim_before(late[p - 1], claim_draw(k.pool->state, 2, p, MOST)));
  kit_fini(&k);
}

/* A quiet route comes next, wherever the clock stands; also when it goes round. */
static void a_quiet_route_is_next(void **state) {
  (void)state;
  static const uint32_t starts[] = {0, 5000, UINT32_MAX - 50, UINT32_MAX / 2 - 50};
  for (size_t n = 0; n < array_count(starts); n++) {
    struct kit k;
    kit_init(&k, one, 1, 1);
    atomic_store(&k.pool->state->clocks[3], starts[n]);
    claim flood[200];
    for (int i = 0; i < 200; i++) flood[i] = claim_draw(k.pool->state, 1, 3, MOST);
    claim_done(k.pool->state, flood[0]);
    claim_done(k.pool->state, flood[100]);
    claim_done(k.pool->state, flood[50]); /* the clock does not go back */
    claim quiet = claim_draw(k.pool->state, 2, 3, MOST);
    assert_false(claim_before(flood[100], quiet) || claim_before(quiet, flood[100]));
    assert_true(claim_before(quiet, flood[101]));
    assert_true(claim_before(flood[101], claim_draw(k.pool->state, 2, 3, MOST)) == false);
    kit_fini(&k);
  }
}

/* Streams that came and went cannot push a route's next turn further than the queue is long. */
static void debts_are_bounded(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, one, 1, 1);
  claim last = 0;
  for (int i = 0; i < 5000; i++) last = claim_draw(k.pool->state, 1, 3, 20);
  for (int i = 0; i < 21; i++) claim_done(k.pool->state, claim_draw(k.pool->state, 2, 3, 20));
  claim next = claim_draw(k.pool->state, 2, 3, 20);
  assert_true(claim_before(last, next));
  kit_fini(&k);
}

/* More routes at once than the table has rows: some share a turn, none is left out, and rows that
 * say nothing any more are used again. */
static void a_full_table(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, one, 1, 1);
  claim worst = 0;
  for (uint32_t id = 1; id <= 3 * POOL_TURNS; id++) {
    claim c = claim_draw(k.pool->state, id, 3, MOST);
    if (!worst || claim_before(worst, c)) worst = c;
  }
  assert_true((uint32_t)worst <= 3);
  claim_done(k.pool->state, worst);
  claim_done(k.pool->state, claim_draw(k.pool->state, 1000, 3, MOST)); /* the clock's turn */
  claim after = claim_draw(k.pool->state, 2000, 3, MOST);
  assert_true((uint32_t)after <= (uint32_t)worst + 1);
  kit_fini(&k);
}

static void the_best_of_workers(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, one, 1, 1);
  struct pool_state *p = k.pool->state;
  uint32_t best = 0;
  assert_false(claim_best(p, &best));
  claim a = claim_draw(p, 1, 3, MOST), b = claim_draw(p, 1, 3, MOST);
  claim_publish(p, 0, b);
  best = 1;
  assert_true(claim_best(p, &best));
  assert_int_equal(best, 0);
  claim_publish(p, 1, a);
  best = 0;
  assert_true(claim_best(p, &best));
  assert_int_equal(best, 1);
  claim_publish(p, 0, a); /* no worse than the others: its own */
  best = 0;
  assert_true(claim_best(p, &best));
  assert_int_equal(best, 0);
  claim_publish(p, 0, 0);
  claim_publish(p, 1, 0);
  assert_false(claim_best(p, &best));
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(own_route_by_age),
      cmocka_unit_test(none_is_behind_all),
      cmocka_unit_test(urgent_before_all_others),
      cmocka_unit_test(a_quiet_route_is_next),
      cmocka_unit_test(debts_are_bounded),
      cmocka_unit_test(a_full_table),
      cmocka_unit_test(the_best_of_workers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
