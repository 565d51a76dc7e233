/* test_balance.c: which members a request may go to: tried ones, ejected ones, backups, weights of
 * 0, tiers, panic, slow start, the cookie's; against a plain model on random pools; while health
 * changes in another thread. */
#include "upstream_kit.h"

#include <pthread.h>

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
    assert_int_equal(balance_hashed(i), i == BALANCE_RING || i == BALANCE_MAGLEV);
  }
}

static void an_empty_pool_has_none(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, NULL, 0, 1);
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    kit_balance(&k, b);
    assert_null(kit_pick(&k));
    assert_null(kit_pick_key(&k, 1, 0));
  }
  assert_false(pool_in_service(k.pool, 0));
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

/* model_round picks once with random ejections and tries, with and without a key. */
static void model_round(struct kit *k, uint64_t *rng) {
  uint32_t count = k->pool->member_count;
  uint64_t now = 1000;
  struct pool_tried tried = {0};
  for (uint32_t i = 0; i < count; i++) {
    kit_eject(k, i, rng_next(rng) % 3 ? 0 : 2000);
    kit_state(k, i, (enum endpoint_state)(rng_next(rng) % (ENDPOINT_DOWN + 1)));
  }
  for (uint32_t n = (uint32_t)(rng_next(rng) % 4); n > 0; n--)
    tried.place[tried.count++] = (uint32_t)(rng_next(rng) % count);
  struct pool_want want = {.now_ms = now, .sticky = PLACE_NONE, .tried = &tried};
  want.hash = rng_next(rng);
  want.hashed = rng_next(rng) & 1;
  const struct pool_member *m = pool_pick(&k->up[0], k->pool, &want);
  unsigned got = m ? model_rank(k, kit_place(k, m), &tried, now) : MODEL_NEVER;
  assert_true(!m || got < MODEL_NEVER);
  for (uint32_t i = 0; i < count; i++) assert_true(got <= model_rank(k, i, &tried, now));
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
    kit_balance(&k, (uint8_t)(rng_next(&rng) % BALANCE_COUNT));
    for (uint32_t round = 0; round < 40; round++) model_round(&k, &rng);
    kit_fini(&k);
  }
}

/* A weight of 0 takes nothing, also when it is the only member left in service. */
static void weight_zero_rests(void **state) {
  (void)state;
  const struct kit_member members[] = {{0, false, 0}, {1, false, 0}, {0, true, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    kit_balance(&k, b);
    for (uint64_t i = 0; i < 50; i++) {
      assert_int_equal(kit_place(&k, kit_pick(&k)), 1);
      assert_int_equal(kit_place(&k, kit_pick_key(&k, i, 0)), 1);
    }
    kit_eject(&k, 1, 100);
    assert_null(kit_pick(&k));
    assert_null(kit_pick_key(&k, 7, 0));
    assert_false(pool_in_service(k.pool, 99));
    kit_eject(&k, 1, 0);
  }
  kit_fini(&k);
}

static void ejection_ends_on_time(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, true, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  kit_eject(&k, 0, 100);
  assert_int_equal(kit_place(&k, kit_pick_for(&k, 0, 99, NULL)), 1);
  assert_int_equal(kit_place(&k, kit_pick_for(&k, 0, 100, NULL)), 0);
  kit_fini(&k);
}

/* With one endpoint out, the others have exactly their weights' share: the quick way, which takes
 * all for being in service, and the exact way agree. */
static void shares_hold_while_one_is_out(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {4, false, 0}, {2, false, 0}, {3, false, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 77);
  kit_balance(&k, BALANCE_RANDOM);
  kit_eject(&k, 1, 100);
  uint32_t hits[4] = {0};
  for (int i = 0; i < 60000; i++) hits[kit_place(&k, kit_pick(&k))]++;
  const double want[] = {1, 0, 2, 3};
  assert_true(kit_chi2(hits, want, 4) < kit_chi2_most[2]);
  kit_fini(&k);
}

/* ---- tiers ---- */

/* tier_hits counts picks by priority (the last: backups), for keys and without. */
static void tier_hits(struct kit *k, bool keys, uint32_t draws, uint32_t *hits) {
  memset(hits, 0, TIERS_MAX * sizeof *hits);
  for (uint64_t i = 0; i < draws; i++) {
    const struct pool_member *m = keys ? kit_pick_key(k, i, 0) : kit_pick(k);
    hits[m->backup ? TIERS_MAX - 1 : m->priority]++;
  }
}

static const struct kit_member tiered[] = {
    {1, false, 5}, {1, true, 0}, {1, false, 0}, {1, false, 0}, {1, false, 5},
    {1, false, 0}, {1, false, 0}, {1, false, 5}, {1, false, 5},
};

/* Four of priority 0, four of 5, a backup, written in any order: members stand by tier. */
static void tiers_overflow(void **state) {
  (void)state;
  struct kit k;
  uint32_t hits[TIERS_MAX];
  kit_init(&k, tiered, array_count(tiered), 5);
  for (uint32_t i = 0; i < 9; i++) {
    const struct pool_member *m = &k.pool->members[i];
    assert_int_equal(m->priority, i < 4 || i == 8 ? 0 : 5);
    assert_int_equal(m->backup, i == 8);
  }
  assert_int_equal(k.pool->tier_count, 3);
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    bool keys = balance_hashed(b);
    kit_balance(&k, b);
    for (uint32_t out = 0; out <= 4; out++) {
      for (uint32_t i = 0; i < 4; i++) kit_eject(&k, i, i < out ? 100 : 0);
      tier_hits(&k, keys, 20000, hits);
      /* 3 of 4 in service are above 70 %: all; 2 of 4: 50/70 stay; 1 of 4: 25/70; none: none. */
      const double stay[] = {1, 1, 50.0 / 70, 25.0 / 70, 0};
      const double want[] = {stay[out], 1 - stay[out]}, most = kit_chi2_most[1];
      const uint32_t got[] = {hits[0], hits[5]};
      assert_int_equal(hits[TIERS_MAX - 1], 0);
      double chi2 = kit_chi2(got, want, 2);
      if (chi2 > most) fail_msg("policy %u, %u out: %u %u", b, out, got[0], got[1]);
    }
    for (uint32_t i = 4; i < 8; i++) kit_eject(&k, i, 100);
    tier_hits(&k, keys, 100, hits); /* nothing but the backup is left */
    assert_int_equal(hits[TIERS_MAX - 1], 100);
    for (uint32_t i = 0; i < 8; i++) kit_eject(&k, i, 0);
  }
  kit_fini(&k);
}

/* overflow = "1%": a tier keeps all of its traffic while any of it is in service. */
static void overflow_can_be_all_or_nothing(void **state) {
  (void)state;
  struct kit k;
  uint32_t hits[TIERS_MAX];
  kit_init(&k, tiered, array_count(tiered), 5);
  k.pool->spread.overflow_percent = 1;
  for (uint32_t i = 0; i < 3; i++) kit_eject(&k, i, 100);
  tier_hits(&k, false, 200, hits);
  assert_int_equal(hits[0], 200);
  kit_eject(&k, 3, 100);
  tier_hits(&k, false, 200, hits);
  assert_int_equal(hits[5], 200);
  kit_fini(&k);
}

/* Both tiers too weak: what each can take decides, and all traffic is served. */
static void weak_tiers_share(void **state) {
  (void)state;
  struct kit k;
  uint32_t hits[TIERS_MAX];
  kit_init(&k, tiered, array_count(tiered), 5);
  const uint32_t out[] = {0, 1, 2, 4, 5, 6}; /* one of four left in each */
  for (size_t i = 0; i < array_count(out); i++) kit_eject(&k, out[i], 100);
  tier_hits(&k, false, 20000, hits);
  const double want[] = {1, 1};
  const uint32_t got[] = {hits[0], hits[5]};
  assert_true(kit_chi2(got, want, 2) < kit_chi2_most[1]);
  kit_fini(&k);
}

/* One that took no connection is not chosen again by its request, also when all were tried. */
static void what_refused_is_not_asked_again(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, true, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 5);
  struct pool_tried tried = {.place = {2, 0, 1}, .count = 3, .refused = 1 | 1 << 2};
  for (int i = 0; i < 20; i++) assert_int_equal(kit_place(&k, kit_pick_for(&k, 0, 0, &tried)), 0);
  tried.refused = 1 << 1 | 1 << 2;
  for (int i = 0; i < 20; i++) assert_int_equal(kit_place(&k, kit_pick_for(&k, 0, 0, &tried)), 2);
  tried.refused = 7;
  assert_null(kit_pick_for(&k, 0, 0, &tried));
  kit_fini(&k);
}

/* A further attempt goes to an untried endpoint of its tier, then to other tiers. */
static void retries_leave_their_tier_last(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, false, 1}, {1, true, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 5);
  struct pool_tried tried = {.place = {0}, .count = 1};
  for (int i = 0; i < 20; i++) assert_int_equal(kit_place(&k, kit_pick_for(&k, 0, 0, &tried)), 1);
  tried = (struct pool_tried){.place = {0, 1}, .count = 2};
  for (int i = 0; i < 20; i++) assert_int_equal(kit_place(&k, kit_pick_for(&k, 0, 0, &tried)), 2);
  tried = (struct pool_tried){.place = {0, 1, 2}, .count = 3};
  for (int i = 0; i < 20; i++) assert_int_equal(kit_place(&k, kit_pick_for(&k, 0, 0, &tried)), 3);
  kit_fini(&k);
}

/* ejected is what workers do to an endpoint that fails. */
static void ejected(struct kit *k, uint32_t place, uint64_t now) {
  k->pool->outlier = (struct pool_outlier){
      .eject_ms = 1000, .max_eject_ms = 1000, .max_ejected_percent = 100};
  assert_true(endpoint_eject(k->pool, k->pool->members[place].endpoint, EJECT_5XX, now));
}

/* What a worker remembers of its tiers ends with an ejection, with the ejection's own end, and
 * with the installation of other settings. */
static void tiers_are_asked_again(void **state) {
  (void)state;
  static const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, false, 1}};
  struct kit k;
  kit_init(&k, members, array_count(members), 5);
  k.pool->spread.overflow_percent = 100;
  uint32_t hits[TIERS_MAX];
  tier_hits(&k, false, 1000, hits);
  assert_int_equal(hits[0], 1000);
  ejected(&k, 0, 0);
  tier_hits(&k, false, 1000, hits);
  assert_in_range(hits[1], 400, 600);
  uint32_t late = 0;
  for (int i = 0; i < 1000; i++) late += kit_pick_for(&k, 0, 999, NULL)->priority;
  assert_in_range(late, 400, 600);
  for (int i = 0; i < 1000; i++)
    assert_int_equal(kit_pick_for(&k, 0, 1000, NULL)->priority, 0);
  ejected(&k, 0, 2000);
  assert_true(kit_pick_for(&k, 0, 2000, NULL)->priority < 2);
  k.pool->spread.overflow_percent = 1;
  k.up[0].seq++;
  for (int i = 0; i < 1000; i++)
    assert_int_equal(kit_pick_for(&k, 0, 2000, NULL)->priority, 0);
  kit_fini(&k);
}

/* looked_at_all tells whether any choice looked at all members: then they are owed turns. */
static bool looked_at_all(const struct kit *k) {
  for (uint32_t i = 0; i < k->pool->member_count; i++)
    if (k->pool->members[i].endpoint->rows[0].turn) return true;
  return false;
}

/* A pool in health is not walked, whatever it would have to be careful about. */
static void a_pool_in_health_is_not_walked(void **state) {
  (void)state;
  static const struct kit_member flat[] = {{3, false, 0}, {1, false, 0}, {1, false, 0}};
  static const struct kit_member tiers[] = {
      {3, false, 0}, {1, false, 0}, {1, false, 0}, {1, false, 1}};
  static const struct {
    const struct kit_member *members;
    uint32_t slow_start_ms;
    uint8_t panic_percent;
  } rows[] = {{flat, 0, 0}, {tiers, 0, 0}, {flat, 500, 0}, {flat, 0, 50}, {tiers, 500, 50}};
  for (size_t i = 0; i < array_count(rows); i++) {
    struct kit k;
    kit_init(&k, rows[i].members, rows[i].members == flat ? 3 : 4, 5);
    k.pool->spread.overflow_percent = 30;
    k.pool->spread.slow_start_ms = rows[i].slow_start_ms;
    k.pool->spread.panic_percent = rows[i].panic_percent;
    kit_balance(&k, BALANCE_ROUND_ROBIN);
    atomic_store(&k.pool->members[0].endpoint->since_ms, 1000); /* began, and is long over */
    for (int n = 0; n < 100; n++) assert_non_null(kit_pick_for(&k, 0, 2000, NULL));
    assert_false(looked_at_all(&k));
    kit_eject(&k, 1, 3000);
    bool walked = false; /* the test can see it */
    for (int n = 0; n < 100; n++) {
      assert_non_null(kit_pick_for(&k, 0, 2000, NULL));
      walked |= looked_at_all(&k);
    }
    assert_true(walked);
    kit_fini(&k);
  }
}

/* Each tier has turns of its own: its members alternate, whatever the others do between. */
static void tiers_turn_by_themselves(void **state) {
  (void)state;
  static const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, false, 0},
                                              {1, false, 0}, {1, false, 0}, {1, false, 1},
                                              {1, false, 1}, {1, false, 1}};
  struct kit k;
  uint32_t hits[8] = {0};
  kit_init(&k, members, array_count(members), 5);
  kit_balance(&k, BALANCE_ROUND_ROBIN);
  kit_eject(&k, 0, 100);
  kit_eject(&k, 1, 100); /* 60 of 70 %: the next tier helps with a seventh */
  for (int i = 0; i < 7000; i++) hits[kit_place(&k, kit_pick(&k))]++;
  assert_in_range(hits[5] + hits[6] + hits[7], 900, 1100);
  for (int i = 6; i < 8; i++) assert_in_range(hits[i] + 1, hits[5], hits[5] + 2);
  kit_fini(&k);
}

/* ---- panic ---- */

static uint64_t panics(const struct kit *k) {
  return atomic_load(&k->pool->state->rows[0].panics);
}

static void panic_uses_all(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, false, 0}, {2, false, 0}};
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    struct kit k;
    kit_init(&k, members, array_count(members), 5);
    k.pool->spread.panic_percent = 50;
    kit_balance(&k, b);
    kit_eject(&k, 0, 100);
    kit_eject(&k, 1, 100); /* 3 of 5 in service */
    uint32_t hits[4] = {0};
    for (uint64_t i = 0; i < 1000; i++)
      hits[kit_place(&k, balance_hashed(b) ? kit_pick_key(&k, i, 0) : kit_pick(&k))]++;
    assert_int_equal(hits[0] + hits[1], 0);
    assert_int_equal(panics(&k), 0);
    kit_eject(&k, 2, 100); /* 2 of 5 */
    memset(hits, 0, sizeof hits);
    for (uint64_t i = 0; i < 5000; i++)
      hits[kit_place(&k, balance_hashed(b) ? kit_pick_key(&k, i, 0) : kit_pick(&k))]++;
    for (int i = 0; i < 4; i++) assert_true(hits[i] > 500);
    assert_int_equal(panics(&k), 5000);
    kit_eject(&k, 3, 100); /* none */
    assert_non_null(kit_pick(&k));
    kit_fini(&k);
  }
}

/* Tiers that can take the load, and backups when nothing else is left, are used before all. */
static void panic_comes_after_tiers_and_backups(void **state) {
  (void)state;
  struct kit k;
  uint32_t hits[TIERS_MAX];
  kit_init(&k, tiered, array_count(tiered), 5);
  k.pool->spread.panic_percent = 80;
  kit_balance(&k, BALANCE_RANDOM);
  for (uint32_t i = 0; i < 4; i++) kit_eject(&k, i, 100); /* half of it, but priority 5 is whole */
  tier_hits(&k, false, 500, hits);
  assert_int_equal(hits[5], 500);
  for (uint32_t i = 4; i < 8; i++) kit_eject(&k, i, 100);
  tier_hits(&k, false, 500, hits);
  assert_int_equal(hits[TIERS_MAX - 1], 500);
  assert_int_equal(panics(&k), 0);
  kit_eject(&k, 8, 100);
  tier_hits(&k, false, 4000, hits); /* now all, but for the backup */
  const double want[] = {1, 1};
  const uint32_t got[] = {hits[0], hits[5]};
  assert_int_equal(hits[TIERS_MAX - 1], 0);
  assert_true(kit_chi2(got, want, 2) < kit_chi2_most[1]);
  assert_int_equal(panics(&k), 4000);
  kit_fini(&k);
}

/* ---- slow start ---- */

/* ramp_share is the share of member 0 at a time, by picks with keys or without. */
static double ramp_share(struct kit *k, bool keys, uint64_t now) {
  uint32_t hits = 0, draws = 20000;
  for (uint64_t i = 0; i < draws; i++) {
    const struct pool_member *m = keys ? kit_pick_key(k, i, now) : kit_pick_for(k, 0, now, NULL);
    hits += kit_place(k, m) == 0;
  }
  return (double)hits / draws;
}

static void assert_near(double got, double want, double off) {
  if (got < want - off || got > want + off) fail_msg("%g is not %g", got, want);
}

/* Of four equal members one came back at 1000 and starts over 10 s: its weight is a tenth at
 * first, then the part of the time that has passed. */
static void slow_start_ramps(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, false, 0}, {1, false, 0}};
  const uint8_t by_weight[] = {BALANCE_RANDOM, BALANCE_ROUND_ROBIN};
  for (size_t b = 0; b < array_count(by_weight); b++)
    for (int ejected = 0; ejected < 2; ejected++) {
      struct kit k;
      kit_init(&k, members, array_count(members), 5);
      k.pool->spread.slow_start_ms = 10000;
      kit_balance(&k, by_weight[b]);
      if (ejected) kit_eject(&k, 0, 1000);
      else atomic_store(&k.pool->members[0].endpoint->since_ms, 1000);
      if (ejected) assert_near(ramp_share(&k, false, 999), 0, 0.0001);
      assert_near(ramp_share(&k, false, 1000), 0.1 / 3.1, 0.01);
      assert_near(ramp_share(&k, false, 1900), 0.1 / 3.1, 0.01);
      assert_near(ramp_share(&k, false, 6000), 0.5 / 3.5, 0.01);
      assert_near(ramp_share(&k, false, 10000), 0.9 / 3.9, 0.01);
      assert_near(ramp_share(&k, false, 11000), 0.25, 0.01);
      kit_fini(&k);
    }
}

/* With keys it is the part of them that comes back: the same ones first, the others stay where
 * they went meanwhile. */
static void slow_start_of_keys(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, false, 0}, {1, false, 0}};
  const uint8_t hashed[] = {BALANCE_RING, BALANCE_MAGLEV};
  for (size_t b = 0; b < array_count(hashed); b++) {
    struct kit k;
    kit_init(&k, members, array_count(members), 5);
    k.pool->spread.slow_start_ms = 10000;
    kit_balance(&k, hashed[b]);
    double all = ramp_share(&k, true, 0);
    atomic_store(&k.pool->members[0].endpoint->since_ms, 1000);
    assert_near(ramp_share(&k, true, 1000) / all, 0.1, 0.02);
    assert_near(ramp_share(&k, true, 6000) / all, 0.5, 0.02);
    assert_near(ramp_share(&k, true, 11000) / all, 1, 0.0001);
    for (uint64_t i = 0; i < 2000; i++) {
      uint32_t early = kit_place(&k, kit_pick_key(&k, i, 3000));
      uint32_t late = kit_place(&k, kit_pick_key(&k, i, 8000));
      assert_true(early == late || late == 0);
    }
    kit_fini(&k);
  }
}

/* Everything starting at once is as if nothing did. */
static void all_starting_is_even(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, false, 0}, {1, false, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 5);
  k.pool->spread.slow_start_ms = 10000;
  for (uint32_t i = 0; i < 4; i++)
    atomic_store(&k.pool->members[i].endpoint->since_ms, 1000);
  kit_balance(&k, BALANCE_RANDOM);
  assert_near(ramp_share(&k, false, 2000), 0.25, 0.01);
  kit_fini(&k);
}

/* ---- the cookie's endpoint ---- */

static const struct pool_member *pick_sticky(struct kit *k, uint32_t place, uint64_t now,
                                             const struct pool_tried *tried) {
  struct pool_want want = {.now_ms = now, .sticky = place, .tried = tried};
  return pool_pick(&k->up[0], k->pool, &want);
}

static void a_session_stays(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {0, false, 0}, {1, false, 1}, {1, true, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 5);
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    kit_balance(&k, b);
    for (uint32_t place = 0; place < 4; place++) /* also at weight 0, lower tiers, backups */
      for (int i = 0; i < 20; i++)
        assert_int_equal(kit_place(&k, pick_sticky(&k, place, 0, NULL)), place);
  }
  kit_eject(&k, 2, 100); /* not when it is out, or has failed this request */
  assert_int_equal(kit_place(&k, pick_sticky(&k, 2, 99, NULL)), 0);
  assert_int_equal(kit_place(&k, pick_sticky(&k, 2, 100, NULL)), 2);
  struct pool_tried tried = {.place = {2}, .count = 1};
  assert_int_equal(kit_place(&k, pick_sticky(&k, 2, 100, &tried)), 0);
  kit_fini(&k);
}

/* A new endpoint waits for its first check, unless there is no other; one that is down gets
 * nothing, not even the last try of a request, but in a panic. */
static void active_health(void **state) {
  (void)state;
  const struct kit_member members[] = {{1, false, 0}, {1, false, 0}, {1, true, 0}};
  struct kit k;
  kit_init(&k, members, array_count(members), 1);
  struct pool_tried tried = {.place = {1}, .count = 1};
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    kit_balance(&k, b);
    kit_state(&k, 0, ENDPOINT_UNKNOWN);
    kit_state(&k, 1, ENDPOINT_UP);
    kit_state(&k, 2, ENDPOINT_UP);
    for (int i = 0; i < 50; i++)
      assert_int_equal(kit_place(&k, kit_pick(&k)), 1);
    kit_state(&k, 1, ENDPOINT_DOWN);
    assert_int_equal(kit_place(&k, kit_pick(&k)), 2); /* a backup is up */
    kit_state(&k, 2, ENDPOINT_DOWN);
    assert_int_equal(kit_place(&k, kit_pick(&k)), 0);
    kit_state(&k, 0, ENDPOINT_DOWN);
    assert_null(kit_pick(&k));
    assert_null(kit_pick_for(&k, 0, 0, &tried));
    k.pool->spread.panic_percent = 50; /* so many cannot be down: the checks are wrong */
    assert_true(kit_place(&k, kit_pick(&k)) < 2);
    k.pool->spread.panic_percent = 0;
  }
  kit_fini(&k);
}

/* ---- changes while a choice is made ---- */

enum { RACE_PICKS = 150000, RACE_NOW = 1000 };

/* Health, ejections and slow starts change in another thread. Whatever it saw, the choice is a
 * member; and as one endpoint stays in service all the time, none fails. */
struct changer {
  struct kit *k;
  _Atomic bool over;
};

/* change does what the control thread and other workers do to any but the first endpoint. */
static void change(struct endpoint *e, uint64_t draw) {
  static const uint8_t states[] = {ENDPOINT_UP, ENDPOINT_DOWN, ENDPOINT_UP, ENDPOINT_UNKNOWN};
  uint64_t was = atomic_load(&e->ejected_until_ms);
  switch (draw % 4) {
    case 0: atomic_store(&e->state, states[draw / 4 % 4]); break;
    case 1: atomic_store(&e->since_ms, draw / 4 % RACE_NOW); break;
    default: atomic_store(&e->ejected_until_ms, was ? 0 : 5000);
  }
  endpoint_changed(e);
}

static void *change_all(void *arg) {
  struct changer *c = arg;
  uint64_t rng = 3;
  uint32_t others = c->k->pool->member_count - 1;
  while (!atomic_load(&c->over)) {
    uint64_t draw = rng_next(&rng);
    change(c->k->pool->members[1 + draw % others].endpoint, draw >> 32);
  }
  return NULL;
}

static void race(struct kit *k, uint32_t picks) {
  struct changer c = {.k = k};
  struct pool_tried tried = {.place = {1}};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, change_all, &c), 0);
  for (uint32_t i = 0; i < picks; i++) {
    struct pool_want want = {.now_ms = RACE_NOW, .sticky = PLACE_NONE, .tried = &tried};
    want.hash = hash_mix(i, 1);
    want.hashed = i % 4 != 0;
    tried.count = i % 8 == 0;
    const struct pool_member *m = pool_pick(&k->up[0], k->pool, &want);
    assert_true(kit_place(k, m) < k->pool->member_count);
  }
  atomic_store(&c.over, true);
  assert_int_equal(pthread_join(thread, NULL), 0);
}

static void a_choice_survives_changes(void **state) {
  (void)state;
  static const struct {
    uint32_t count;
    uint32_t slow_start_ms;
    uint8_t panic_percent;
  } rows[] = {{2, 0, 0}, {4, 0, 0}, {3, 500, 0}, {3, 0, 50}, {20, 500, 0}};
  for (uint8_t b = 0; b < BALANCE_COUNT; b++)
    for (size_t i = 0; i < array_count(rows); i++) {
      struct kit_member members[20];
      struct kit k;
      for (uint32_t m = 0; m < 20; m++) members[m] = (struct kit_member){1 + m % 3, false, 0};
      kit_init(&k, members, rows[i].count, 1);
      k.pool->spread.slow_start_ms = rows[i].slow_start_ms;
      k.pool->spread.panic_percent = rows[i].panic_percent;
      kit_balance(&k, b);
      race(&k, RACE_PICKS / rows[i].count);
      kit_fini(&k);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names),
      cmocka_unit_test(an_empty_pool_has_none),
      cmocka_unit_test(agrees_with_a_model),
      cmocka_unit_test(weight_zero_rests),
      cmocka_unit_test(ejection_ends_on_time),
      cmocka_unit_test(shares_hold_while_one_is_out),
      cmocka_unit_test(tiers_overflow),
      cmocka_unit_test(overflow_can_be_all_or_nothing),
      cmocka_unit_test(weak_tiers_share),
      cmocka_unit_test(what_refused_is_not_asked_again),
      cmocka_unit_test(retries_leave_their_tier_last),
      cmocka_unit_test(tiers_are_asked_again),
      cmocka_unit_test(a_pool_in_health_is_not_walked),
      cmocka_unit_test(tiers_turn_by_themselves),
      cmocka_unit_test(panic_uses_all),
      cmocka_unit_test(panic_comes_after_tiers_and_backups),
      cmocka_unit_test(slow_start_ramps),
      cmocka_unit_test(slow_start_of_keys),
      cmocka_unit_test(all_starting_is_even),
      cmocka_unit_test(a_session_stays),
      cmocka_unit_test(active_health),
      cmocka_unit_test(a_choice_survives_changes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
