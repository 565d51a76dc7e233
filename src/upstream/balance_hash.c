/* balance_hash.c: what ring and maglev have in common: from the slot of a key onwards through the
 * table to the first member that may take the request. Load is bounded as in "Consistent Hashing
 * with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam 2016): no member takes a request that
 * would bring it above c times its share of the pool's requests in flight, rounded up. The bound
 * holds exactly for one worker; each further worker may be as late as a cache miss. */
#include "upstream_priv.h"
#include "weir/base/hash.h"

/* WALK_MAX slots are looked at before the members are gone through one by one. */
#define WALK_MAX 1024u
#define WALK_WHOLE 32u /* of a set that nobody has looked at */

uint64_t pool_load(const struct pool *pool) {
  uint64_t load = 0;
  for (uint32_t i = 0; i < pool->state->obj.workers; i++)
    load += atomic_load_explicit(&pool->state->rows[i].inflight, memory_order_relaxed);
  return load;
}

/* weight_of all members that the set allows. */
static uint64_t weight_of(const struct pick_from *from) {
  const struct pool_tier *tier = from->tier;
  uint64_t sum = 0;
  if (from->whole) return tier->weight << WEIGHT_BITS; /* at least: the bound is not too wide */
  for (uint32_t i = tier->first; i < tier->first + tier->count; i++)
    if (pick_allows(from, i)) sum += pick_weight(from, i);
  return sum;
}

/* bounded: may this member take one more? load + 1 <= ceil(c * (all + 1) * weight / sum). */
static bool bounded(const struct pick_from *from, uint32_t place, uint64_t sum) {
  const struct pool *pool = from->pool;
  uint64_t load = endpoint_load(pool->members[place].endpoint);
  if (!pool->spread.bound_percent || !load) return true;
  unsigned __int128 most = (pool_load(pool) + 1) * pick_weight(from, place);
  return (unsigned __int128)load * sum * 100 < most * pool->spread.bound_percent;
}

/* admitted: while a member starts slowly, a growing part of its keys comes back to it, always the
 * same ones first. */
static bool admitted(const struct pick_from *from, uint32_t place) {
  const struct pool_member *m = &from->pool->members[place];
  if (!from->pool->spread.slow_start_ms) return true;
  uint64_t full = (uint64_t)m->weight << WEIGHT_BITS, now = pick_weight(from, place);
  if (now == full) return true;
  return (hash_mix(from->want->hash, m->hash) & 0xffff) * full < now * 0x10000;
}

/* one_by_one goes through the members, from one that the key chooses: first with the bound, then
 * without. */
static uint32_t one_by_one(const struct pick_from *from, uint64_t sum) {
  const struct pool_tier *tier = from->tier;
  uint32_t start = (uint32_t)(from->want->hash % tier->count), any = PLACE_NONE;
  for (uint32_t i = 0; i < tier->count; i++) {
    uint32_t place = tier->first + (start + i) % tier->count;
    if (!pick_allows(from, place)) continue;
    if (bounded(from, place, sum)) return place;
    if (any == PLACE_NONE) any = place;
  }
  return any;
}

/* The bound of a whole set is at most as wide as the true one: who is within it would be taken by
 * a look at all too, who is not has to be looked at. */
uint32_t pick_walk(const struct pick_from *from, const struct pick_table *table, uint32_t at) {
  uint32_t most = from->whole ? WALK_WHOLE : WALK_MAX;
  uint64_t sum = weight_of(from);
  if (!sum) return PLACE_NONE;
  for (uint32_t i = 0; i < most; i++) {
    uint32_t place = from->tier->first + table->place(table->slots, at);
    bool may = pick_allows(from, place) && admitted(from, place);
    if (may && bounded(from, place, sum)) return place;
    if (may && from->whole) return PLACE_NONE;
    at = at + 1 == table->count ? 0 : at + 1;
  }
  return from->whole ? PLACE_NONE : one_by_one(from, sum);
}
