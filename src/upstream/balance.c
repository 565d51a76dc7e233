/* balance.c: chooses a member: says which set (tier, in service, untried), then asks the policy's
 * row. Health and slow start are the same for all policies and live here, tiers and panic in
 * balance_tiers.c; no policy does. Called by proxy/ before checkout. */
#include "upstream_priv.h"

#include "weir/base/hash.h"

typedef uint32_t (*balance_fn)(const struct pick_from *from);
typedef void (*observe_fn)(struct upstream *u, struct endpoint *e,
                           const struct pool_sample *sample);
typedef bool (*worth_fn)(const struct pool *pool, const struct endpoint *chosen,
                         const struct endpoint *e, uint64_t now_ms);

static const struct {
  struct span name;
  balance_fn pick;
  observe_fn observe;
  worth_fn worth;
  bool hashed;
} rows[BALANCE_COUNT] = {
#define BALANCE(id, text, pick, prepare, observe, worth, hashed, doc) \
  {{(text), sizeof(text) - 1}, pick, observe, worth, hashed},
#include "weir/upstream/balance.def"
#undef BALANCE
};

bool balance_find(struct span name, uint8_t *out) {
  for (uint8_t i = 0; i < BALANCE_COUNT; i++) {
    if (!span_eq(rows[i].name, name)) continue;
    *out = i;
    return true;
  }
  return false;
}

struct span balance_text(uint8_t row) {
  check(row < BALANCE_COUNT);
  return rows[row].name;
}

bool balance_hashed(uint8_t row) {
  check(row < BALANCE_COUNT);
  return rows[row].hashed;
}

void pool_observe(struct upstream *u, const struct pool *pool, struct endpoint *e,
                  const struct pool_sample *sample) {
  if (rows[pool->balance].observe) rows[pool->balance].observe(u, e, sample);
}

bool pool_worth(const struct pool *pool, const struct pool_member *chosen,
                const struct pool_member *m, uint64_t now_ms) {
  worth_fn worth = rows[pool->balance].worth;
  return !worth || worth(pool, chosen->endpoint, m->endpoint, now_ms);
}

/* ---- weights ---- */

/* RAMP_FLOOR: a slow start begins with a tenth of the weight: less would teach nothing. */
#define RAMP_FLOOR 10u

uint64_t endpoint_since(const struct endpoint *e) {
  uint64_t since = atomic_load_explicit(&e->since_ms, memory_order_relaxed);
  uint64_t back = atomic_load_explicit(&e->ejected_until_ms, memory_order_relaxed);
  return since > back ? since : back;
}

uint64_t pick_weight(const struct pick_from *from, uint32_t place) {
  const struct pool_member *m = &from->pool->members[place];
  uint64_t ramp = from->pool->spread.slow_start_ms, now = from->want->now_ms;
  uint64_t full = (uint64_t)m->weight << WEIGHT_BITS;
  if (!ramp) return full;
  uint64_t since = endpoint_since(m->endpoint);
  if (!since || now >= since + ramp) return full;
  uint64_t part = now > since ? full * (now - since) / ramp : 0;
  uint64_t least = full / RAMP_FLOOR;
  return part > least ? part : least;
}

/* ready: does its slow start leave it this one? A draw; always past the start. */
static bool ready(const struct pick_from *from, uint32_t place) {
  uint64_t full = (uint64_t)from->pool->members[place].weight << WEIGHT_BITS;
  uint64_t now = pick_weight(from, place);
  return now == full || pick_below(from, full) < now;
}

/* ---- draws ---- */

uint64_t pick_below(const struct pick_from *from, uint64_t n) {
  return (uint64_t)(((unsigned __int128)rng_next(&from->up->rng) * n) >> 64);
}

/* by_sums finds the first running sum above at. */
static uint32_t by_sums(const struct pool_tier *tier, uint64_t at) {
  uint32_t low = 0, high = tier->count - 1;
  if (tier->equal) return tier->first + (uint32_t)at;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (at < tier->sums[middle]) high = middle;
    else low = middle + 1;
  }
  return tier->first + low;
}

/* of_whole draws from running sums, with the weight of `except` cut out of them. To draw anew when
 * one is not allowed, or not ready, gives each of the others its share by weight. */
#define DRAWS_MAX 16u
static uint32_t of_whole(const struct pick_from *from, uint32_t except) {
  const struct pool_tier *tier = from->tier;
  uint64_t weight = tier->weight, start = weight, cut = 0;
  if (except != PLACE_NONE) {
    cut = from->pool->members[except].weight;
    start = tier->sums[except - tier->first] - cut;
    weight -= cut;
  }
  uint32_t draws = tier->count < DRAWS_MAX ? tier->count : DRAWS_MAX;
  for (uint32_t i = 0; weight && i < draws; i++) {
    uint64_t at = pick_below(from, weight);
    uint32_t place = by_sums(tier, at < start ? at : at + cut);
    if (pick_allows(from, place) && ready(from, place)) return place;
  }
  return PLACE_NONE;
}

uint32_t pick_by_weight(const struct pick_from *from, uint32_t except) {
  const struct pool_tier *tier = from->tier;
  uint32_t place = PLACE_NONE;
  uint64_t sum = 0;
  if (from->whole) return of_whole(from, except);
  /* One pass: each member takes the place of what was drawn so far by its part of the sum (Chao
   * 1982), so that its weight is read once. */
  for (uint32_t i = tier->first; i < tier->first + tier->count; i++) {
    if (i == except || !pick_allows(from, i)) continue;
    uint64_t weight = pick_weight(from, i);
    sum += weight;
    if (sum == weight || pick_below(from, sum) < weight) place = i;
  }
  return place;
}

uint32_t pick_two(const struct pick_from *from, uint32_t out[2]) {
  uint32_t a = pick_by_weight(from, PLACE_NONE);
  if (a == PLACE_NONE) return 0;
  out[0] = a;
  if (from->whole && from->tier->weight == from->pool->members[a].weight) return 1;
  uint32_t b = pick_by_weight(from, a);
  if (b == PLACE_NONE) return from->whole ? 0 : 1;
  out[1] = b;
  return 2;
}

/* ---- tiers ---- */

static uint32_t pick_in(struct pick_from *from, const struct pool_tier *tier) {
  from->tier = tier;
  return rows[from->pool->balance].pick(from);
}

/* pick_tiers tries the tier `first`, then the others in order, then the backups. */
static uint32_t pick_tiers(struct pick_from *from, uint32_t first) {
  const struct pool *pool = from->pool;
  uint32_t place = PLACE_NONE;
  if (first < pool_primaries(pool)) place = pick_in(from, &pool->tiers[first]);
  for (uint32_t t = 0; place == PLACE_NONE && t < pool->tier_count; t++)
    if (t != first || first >= pool_primaries(pool)) place = pick_in(from, &pool->tiers[t]);
  return place;
}

/* The order in which sets are tried. A first try only goes to an endpoint in service (how many may
 * be out of it is max_ejected's to say), or to a new one when there is no other; a further one
 * would rather try an ejected endpoint than one that has just failed. */
static const struct {
  bool untried;
  enum pick_need need;
} sets[] = {{true, PICK_IN_SERVICE},
            {true, PICK_UNKNOWN},
            {true, PICK_EJECTED},
            {false, PICK_IN_SERVICE},
            {false, PICK_UNKNOWN}};

static uint32_t pick_exact(struct pick_from *from) {
  bool first = !from->want->tried || !from->want->tried->count;
  for (size_t i = 0; i < array_count(sets); i++) {
    if (first && (sets[i].need == PICK_EJECTED || !sets[i].untried)) continue;
    from->untried = sets[i].untried;
    from->need = i == 0 && from->panic ? PICK_ANY : sets[i].need;
    uint32_t place = pick_tiers(from, i == 0 ? from->first : 0);
    if (place != PLACE_NONE) return place;
  }
  return PLACE_NONE;
}

static uint32_t pick_whole(struct pick_from *from) {
  const struct pool_tier *tier = &from->pool->tiers[from->first];
  if (!tier->weight || (from->want->tried && from->want->tried->count)) return PLACE_NONE;
  from->whole = true;
  from->need = from->panic ? PICK_ANY : PICK_IN_SERVICE;
  uint32_t place = pick_in(from, tier);
  from->whole = false;
  return place;
}

/* pick_sticky: a session stays where it is, also with a backup or at weight 0 (being drained). */
static uint32_t pick_sticky(const struct pick_from *from) {
  const struct pool_want *want = from->want;
  uint32_t place = want->sticky;
  if (place == PLACE_NONE) return PLACE_NONE;
  check(place < from->pool->member_count);
  for (uint32_t i = 0; want->tried && i < want->tried->count; i++)
    if (want->tried->place[i] == place) return PLACE_NONE;
  const struct endpoint *e = from->pool->members[place].endpoint;
  if (pick_fit(e, PICK_IN_SERVICE, want->now_ms)) return place;
  /* After a start nobody has been checked yet: the session would move for nothing. */
  bool unknown = pick_fit(e, PICK_UNKNOWN, want->now_ms);
  return unknown && !pool_in_service(from->pool, want->now_ms) ? place : PLACE_NONE;
}

const struct pool_member *pool_pick(struct upstream *u, const struct pool *pool,
                                    const struct pool_want *want) {
  struct pick_from from = {.up = u, .pool = pool, .want = want};
  if (!pool->member_count) return NULL;
  check(pool->tier_count > 0); /* pool_prepare */
  uint32_t place = pick_sticky(&from);
  if (place != PLACE_NONE) return &pool->members[place];
  pick_tier(&from);
  place = pick_whole(&from);
  if (place == PLACE_NONE) place = pick_exact(&from);
  /* One may have come back before, another have left behind the eyes of a single look. */
  if (place == PLACE_NONE) place = pick_exact(&from);
  return place == PLACE_NONE ? NULL : &pool->members[place];
}

bool pool_in_service(const struct pool *pool, uint64_t now_ms) {
  for (uint32_t i = 0; i < pool->member_count; i++) {
    const struct pool_member *m = &pool->members[i];
    if (m->weight && endpoint_in_service(m->endpoint, now_ms)) return true;
  }
  return false;
}
