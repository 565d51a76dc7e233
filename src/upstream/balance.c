/* balance.c: chooses a member: narrows the set (tier, in service, untried), then asks the policy's
 * row. Tiers, backups, panic and slow start are the same for all policies and live here; no policy
 * does. Called by proxy/ before checkout. */
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

/* Looked-at sets weigh in 256ths, so that a slow start has steps. */
#define WEIGHT_BITS 8u
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
  if (from->whole) return m->weight;
  uint64_t full = (uint64_t)m->weight << WEIGHT_BITS;
  if (!ramp) return full;
  uint64_t since = endpoint_since(m->endpoint);
  if (!since || now >= since + ramp) return full;
  uint64_t part = now > since ? full * (now - since) / ramp : 0;
  uint64_t least = full / RAMP_FLOOR;
  return part > least ? part : least;
}

/* ---- draws ---- */

static uint64_t scale(uint64_t draw, uint64_t n) {
  return (uint64_t)(((unsigned __int128)draw * n) >> 64);
}

uint64_t pick_below(const struct pick_from *from, uint64_t n) {
  return scale(rng_next(&from->up->rng), n);
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

uint32_t pick_by_weight(const struct pick_from *from, uint64_t at) {
  const struct pool_tier *tier = from->tier;
  if (from->whole) return by_sums(tier, at);
  for (uint32_t i = tier->first; i < tier->first + tier->count; i++) {
    if (!pick_allows(from, i)) continue;
    uint64_t weight = pick_weight(from, i);
    if (at < weight) return i;
    at -= weight;
  }
  check(false);
}

/* before is the sum of weights of what stands before a place. */
static uint64_t before(const struct pick_from *from, uint32_t place) {
  const struct pool_tier *tier = from->tier;
  uint64_t sum = 0;
  if (from->whole)
    return place > tier->first ? tier->sums[place - tier->first - 1] : 0;
  for (uint32_t i = tier->first; i < place; i++)
    if (pick_allows(from, i)) sum += pick_weight(from, i);
  return sum;
}

uint32_t pick_two(const struct pick_from *from, uint32_t out[2]) {
  uint32_t a = pick_by_weight(from, pick_below(from, from->weight));
  if (from->whole && !pick_allows(from, a)) return 0;
  uint64_t weight = pick_weight(from, a);
  out[0] = a;
  if (from->weight == weight) return 1;
  uint64_t at = pick_below(from, from->weight - weight);
  uint32_t b = pick_by_weight(from, at < before(from, a) ? at : at + weight);
  if (from->whole && !pick_allows(from, b)) return 0;
  out[1] = b;
  return 2;
}

/* ---- tiers ---- */

/* narrow looks at every member of a tier; false when the set allows none. */
static bool narrow(struct pick_from *from, const struct pool_tier *tier) {
  from->tier = tier;
  from->count = 0;
  from->weight = 0;
  for (uint32_t i = tier->first; i < tier->first + tier->count; i++) {
    if (!pick_allows(from, i)) continue;
    from->count++;
    from->weight += pick_weight(from, i);
  }
  return from->count > 0;
}

static uint32_t only(const struct pick_from *from) {
  uint32_t place = from->tier->first;
  while (!pick_allows(from, place)) place++; /* narrow found one */
  return place;
}

static uint32_t pick_in(struct pick_from *from, const struct pool_tier *tier) {
  if (!narrow(from, tier)) return PLACE_NONE;
  return from->count == 1 ? only(from) : rows[from->pool->balance].pick(from);
}

static uint32_t primaries(const struct pool *pool) {
  return pool->tier_count - (pool->has_backups ? 1u : 0u);
}

/* in_service_weight is the configured weight of a tier's members that are in service. */
static uint64_t in_service_weight(const struct pick_from *from, const struct pool_tier *tier) {
  uint64_t sum = 0;
  for (uint32_t i = tier->first; i < tier->first + tier->count; i++) {
    const struct pool_member *m = &from->pool->members[i];
    if (endpoint_in_service(m->endpoint, from->want->now_ms)) sum += m->weight;
  }
  return sum;
}

/* WHOLE is all of the traffic, in the parts that tiers are given. */
#define WHOLE (1u << 20)

/* tier_shares is how traffic is parted among priorities: a tier with at least overflow_percent of
 * its weight in service takes all that the tiers before it leave; one with less takes less, in
 * proportion. */
struct tier_shares {
  uint32_t share[TIERS_MAX];
  uint32_t total; /* below WHOLE: the tiers are overloaded together */
  uint64_t weight, in_service;
};

static void shares_fill(const struct pick_from *from, struct tier_shares *out) {
  const struct pool *pool = from->pool;
  *out = (struct tier_shares){0};
  for (uint32_t t = 0; t < primaries(pool); t++) {
    const struct pool_tier *tier = &pool->tiers[t];
    uint64_t in = in_service_weight(from, tier);
    uint64_t need = tier->weight * pool->spread.overflow_percent;
    uint64_t can = need ? in * 100 * WHOLE / need : 0;
    uint32_t left = WHOLE - out->total;
    out->share[t] = can < left ? (uint32_t)can : left;
    out->total += out->share[t];
    out->weight += tier->weight;
    out->in_service += in;
  }
}

/* panics: so few are in service, also in the tiers that would help, that either the checks are
 * wrong or the few would fall next: then all are used. Backups that can take over come first. */
static bool panics(const struct pick_from *from, const struct tier_shares *s) {
  const struct pool *pool = from->pool;
  if (!pool->spread.panic_percent || s->total == WHOLE) return false;
  if (s->in_service * 100 >= s->weight * pool->spread.panic_percent) return false;
  bool saved = !s->in_service && pool->has_backups &&
               in_service_weight(from, &pool->tiers[pool->tier_count - 1]);
  return !saved;
}

/* TIER_SALT makes the draw of a tier independent of the place in its table. */
#define TIER_SALT 0x7469657273u

/* draw_tier draws by shares; one key stays with one tier. */
static uint32_t draw_tier(const struct pick_from *from, const struct tier_shares *s) {
  const struct pool_want *want = from->want;
  if (s->total == 0 || s->share[0] == s->total) return 0;
  uint64_t draw = want->hashed ? hash_mix(want->hash, TIER_SALT) : rng_next(&from->up->rng);
  uint64_t at = scale(draw, s->total);
  uint32_t t = 0;
  while (at >= s->share[t]) at -= s->share[t++];
  return t;
}

/* first_tier is where a first attempt goes; in a panic nobody asks who is in service. */
static uint32_t first_tier(struct pick_from *from) {
  const struct pool *pool = from->pool;
  struct tier_shares s;
  if (primaries(pool) < 2 && !pool->spread.panic_percent) return 0;
  shares_fill(from, &s);
  if (panics(from, &s)) {
    _Atomic uint64_t *count = &pool->state->rows[from->up->worker].panics;
    uint64_t so_far = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, so_far + 1, memory_order_relaxed);
    from->need = PICK_ANY;
    s.total = 0;
    for (uint32_t t = 0; t < primaries(pool); t++) {
      s.share[t] = (uint32_t)(pool->tiers[t].weight * WHOLE / s.weight);
      s.total += s.share[t];
    }
  }
  return draw_tier(from, &s);
}

/* pick_tiers tries the tier first, then the others in order, then the backups. */
static uint32_t pick_tiers(struct pick_from *from, uint32_t first) {
  const struct pool *pool = from->pool;
  uint32_t place = PLACE_NONE;
  if (first < primaries(pool)) place = pick_in(from, &pool->tiers[first]);
  for (uint32_t t = 0; place == PLACE_NONE && t < pool->tier_count; t++)
    if (t != first || first >= primaries(pool)) place = pick_in(from, &pool->tiers[t]);
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
    from->need = sets[i].need;
    uint32_t place = pick_tiers(from, i == 0 ? first_tier(from) : 0);
    if (place != PLACE_NONE) return place;
  }
  return PLACE_NONE;
}

static uint32_t pick_whole(struct pick_from *from) {
  const struct pool *pool = from->pool;
  if (!pool->plain || (from->want->tried && from->want->tried->count)) return PLACE_NONE;
  from->whole = true;
  from->need = PICK_IN_SERVICE;
  from->tier = &pool->tiers[0];
  from->count = from->tier->count;
  from->weight = from->tier->weight;
  uint32_t place = rows[pool->balance].pick(from);
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
  if (place == PLACE_NONE) place = pick_whole(&from);
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
