/* upstream_kit.h: a registry, a pool with members and an upstream without a loop, for the tests of
 * upstream/. */
#ifndef TESTS_UNIT_UPSTREAM_KIT_H
#define TESTS_UNIT_UPSTREAM_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "upstream/upstream_priv.h"
#include "weir/base/hash.h"

enum { KIT_WORKERS = 2 };

/* kit_member is one row of a pool. */
struct kit_member {
  uint32_t weight;
  bool backup;
  uint8_t priority;
};

struct kit {
  struct registry *registry;
  struct loop loop; /* never turned */
  struct upstream up[KIT_WORKERS];
  struct pool *pool;
};

static inline struct pool *kit_pool(struct registry *r, const char *name,
                                    const struct kit_member *members, uint32_t count) {
  struct pool *pool = pool_new(r, span_str(name));
  pool->state = pool_state_get(r, span_str(name));
  pool->members = arena_zalloc(&pool->obj.arena, (count + 1) * sizeof *pool->members);
  assert_non_null(pool->members);
  pool->member_count = count;
  for (uint32_t i = 0; i < count; i++) {
    char text[32];
    struct buf b = buf_of(text, sizeof text);
    buf_printf(&b, "10.0.%u.%u:80", i / 250, i % 250 + 1);
    struct addr a;
    assert_true(addr_parse(buf_span(&b), &a));
    pool->members[i].endpoint = endpoint_get(r, span_str(name), buf_span(&b), &a);
    pool->members[i].weight = members[i].weight;
    pool->members[i].backup = members[i].backup;
    pool->members[i].priority = members[i].priority;
  }
  pool->spread = (struct pool_spread){.bound_percent = 125, .overflow_percent = 70};
  pool_prepare(pool);
  return pool;
}

static inline void kit_init(struct kit *k, const struct kit_member *members, uint32_t count,
                            uint64_t seed) {
  memset(k, 0, sizeof *k);
  k->loop.rng = seed;
  k->registry = registry_new(KIT_WORKERS);
  k->pool = kit_pool(k->registry, "app", members, count);
  for (uint32_t w = 0; w < KIT_WORKERS; w++) upstream_init(&k->up[w], &k->loop, w, 64);
}

static inline void kit_fini(struct kit *k) {
  for (uint32_t w = 0; w < KIT_WORKERS; w++) upstream_fini(&k->up[w]);
  object_unref(k->registry, &k->pool->obj);
  registry_free(k->registry);
}

/* kit_balance changes the policy. Places stay: the members are in order already. */
static inline void kit_balance(struct kit *k, uint8_t balance) {
  k->pool->balance = balance;
  pool_prepare(k->pool);
}

static inline const struct pool_member *kit_pick_for(struct kit *k, uint32_t worker, uint64_t now,
                                                     const struct pool_tried *tried) {
  struct pool_want want = {.now_ms = now, .sticky = PLACE_NONE, .tried = tried};
  return pool_pick(&k->up[worker], k->pool, &want);
}
static inline const struct pool_member *kit_pick(struct kit *k) {
  return kit_pick_for(k, 0, 0, NULL);
}
/* kit_pick_key picks for a key, hashed as proxy/ does. */
static inline const struct pool_member *kit_pick_key(struct kit *k, uint64_t key, uint64_t now) {
  struct pool_want want = {.now_ms = now,
                           .sticky = PLACE_NONE,
                           .hashed = true,
                           .hash = hash_bytes(span_of((const char *)&key, sizeof key))};
  return pool_pick(&k->up[0], k->pool, &want);
}

static inline uint32_t kit_place(const struct kit *k, const struct pool_member *m) {
  assert_non_null(m);
  assert_true(m >= k->pool->members && m < k->pool->members + k->pool->member_count);
  return (uint32_t)(m - k->pool->members);
}

static inline void kit_eject(struct kit *k, uint32_t place, uint64_t until_ms) {
  atomic_store(&k->pool->members[place].endpoint->ejected_until_ms, until_ms);
  endpoint_changed(k->pool->members[place].endpoint);
}

/* kit_chi2 is Pearson's statistic of hits against expected shares (not normalised). */
static inline double kit_chi2(const uint32_t *hits, const double *shares, size_t count) {
  double all = 0, sum = 0, chi2 = 0;
  for (size_t i = 0; i < count; i++) {
    all += hits[i];
    sum += shares[i];
  }
  for (size_t i = 0; i < count; i++) {
    double want = all * shares[i] / sum, off = hits[i] - want;
    if (want > 0) chi2 += off * off / want;
    else assert_int_equal(hits[i], 0);
  }
  return chi2;
}
/* Quantiles of chi-square at 1 in 10,000, by degrees of freedom (1 to 9). Seeds are fixed, so a
 * test that passes passes always. */
static const double kit_chi2_most[] = {0,     15.14, 18.42, 21.11, 23.51,
                                       25.74, 27.86, 29.88, 31.83, 33.72};

static inline void kit_state(struct kit *k, uint32_t place, enum endpoint_state state) {
  atomic_store(&k->pool->members[place].endpoint->state, (uint8_t)state);
  endpoint_changed(k->pool->members[place].endpoint);
}

#endif
