/* prepare.c: what a pool's settings need before a worker sees them: members by tier, running sums
 * of weights, the policy's table, all in the pool's arena. Runs in the compile thread, once per
 * pool object; the data path only reads it. */
#include <stdlib.h>

#include "upstream_priv.h"
#include "weir/base/hash.h"

typedef const void *(*prepare_fn)(struct arena *arena, const struct pool_member *members,
                                  uint32_t count);

static const prepare_fn prepares[BALANCE_COUNT] = {
#define BALANCE(id, text, pick, prepare, observe, worth, hashed, doc) prepare,
#include "weir/upstream/balance.def"
#undef BALANCE
};

/* rank puts backups behind every priority. */
static uint32_t rank(const struct pool_member *m) {
  return m->backup ? TIERS_MAX - 1 : m->priority;
}

/* sort_members by rank; the order within stays. Ranks are few: one pass over all for each. */
static void sort_members(struct pool *pool, struct arena *scratch) {
  struct pool_member *sorted = arena_alloc(scratch, (pool->member_count + 1) * sizeof *sorted);
  uint32_t n = 0;
  check(sorted != NULL);
  for (uint32_t r = 0; r < TIERS_MAX; r++)
    for (uint32_t i = 0; i < pool->member_count; i++)
      if (rank(&pool->members[i]) == r) sorted[n++] = pool->members[i];
  check(n == pool->member_count); /* priorities are 0 to 7 */
  if (n) memcpy(pool->members, sorted, n * sizeof *sorted);
}

/* member_hash is of the resolved address; a name counts too, so that two names of one address are
 * two members. */
static uint64_t member_hash(const struct endpoint *e) {
  uint64_t hash = hash_bytes(e->label);
  return span_eq(e->text, e->label) ? hash : hash_mix(hash, hash_bytes(e->text));
}

static void tier_fill(struct pool *pool, struct pool_tier *tier) {
  struct arena *arena = &pool->obj.arena;
  uint64_t *sums = arena_alloc(arena, tier->count * sizeof *sums);
  check(sums != NULL);
  tier->equal = true;
  for (uint32_t i = 0; i < tier->count; i++) {
    struct pool_member *m = &pool->members[tier->first + i];
    m->hash = member_hash(m->endpoint);
    tier->weight += m->weight;
    tier->equal = tier->equal && m->weight == 1;
    sums[i] = tier->weight;
  }
  tier->sums = sums;
  prepare_fn prepare = prepares[pool->balance];
  if (prepare) tier->table = prepare(arena, &pool->members[tier->first], tier->count);
}

void pool_prepare(struct pool *pool) {
  struct arena scratch;
  arena_init(&scratch, NULL, 0);
  sort_members(pool, &scratch);
  arena_reset(&scratch);
  pool->tier_count = 0;
  pool->tiers = arena_zalloc(&pool->obj.arena, TIERS_MAX * sizeof *pool->tiers);
  check(pool->tiers != NULL);
  for (uint32_t i = 0; i < pool->member_count; i++) {
    if (i == 0 || rank(&pool->members[i]) != rank(&pool->members[i - 1]))
      pool->tiers[pool->tier_count++].first = i;
    pool->tiers[pool->tier_count - 1].count++;
  }
  for (uint32_t t = 0; t < pool->tier_count; t++) tier_fill(pool, &pool->tiers[t]);
  uint32_t last = pool->member_count ? pool->member_count - 1 : 0;
  pool->has_backups = pool->member_count && pool->members[last].backup;
}
