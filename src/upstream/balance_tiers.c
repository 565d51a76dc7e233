/* balance_tiers.c: which tier a request goes to: priorities that help each other, and the panic in
 * which nobody asks who is in service. Needs all members looked at, so the outcome is remembered
 * by each worker until the health of the pool changes. Called by balance.c. */
#include "upstream_priv.h"
#include "weir/base/hash.h"

/* WHOLE is all of the traffic, in the parts that tiers are given. */
#define WHOLE (1u << 20)

/* census is what one look at the members found, by configured weight. */
struct census {
  uint64_t weight, in_service, backups_in_service;
  uint64_t until_ms; /* when the next ejection ends */
};

/* count_tier sums those of a tier that are in service. */
static uint64_t count_tier(const struct pick_from *from, const struct pool_tier *tier,
                           struct census *c) {
  uint64_t sum = 0, now = from->want->now_ms;
  for (uint32_t i = tier->first; i < tier->first + tier->count; i++) {
    const struct pool_member *m = &from->pool->members[i];
    uint64_t until = atomic_load_explicit(&m->endpoint->ejected_until_ms, memory_order_relaxed);
    if (until > now && until < c->until_ms) c->until_ms = until;
    if (endpoint_in_service(m->endpoint, now)) sum += m->weight;
  }
  return sum;
}

/* shares_fill: a tier with at least overflow_percent of its weight in service takes all that the
 * tiers before it leave; one with less takes less, in proportion. A total below WHOLE: the tiers
 * are overloaded together. */
static void shares_fill(const struct pick_from *from, struct pool_shares *out, struct census *c) {
  const struct pool *pool = from->pool;
  for (uint32_t t = 0; t < pool_primaries(pool); t++) {
    const struct pool_tier *tier = &pool->tiers[t];
    uint64_t in = count_tier(from, tier, c);
    uint64_t need = tier->weight * pool->spread.overflow_percent;
    uint64_t can = need ? in * 100 * WHOLE / need : 0;
    uint32_t left = WHOLE - out->total;
    out->share[t] = can < left ? (uint32_t)can : left;
    out->total += out->share[t];
    c->weight += tier->weight;
    c->in_service += in;
  }
  if (pool->has_backups)
    c->backups_in_service = count_tier(from, &pool->tiers[pool->tier_count - 1], c);
}

/* panics: so few are in service, also in the tiers that would help, that either the checks are
 * wrong or the few would fall next: then all are used. Backups that can take over come first. */
static bool panics(const struct pool *pool, const struct pool_shares *s, const struct census *c) {
  if (!pool->spread.panic_percent || s->total == WHOLE) return false;
  if (c->in_service * 100 >= c->weight * pool->spread.panic_percent) return false;
  return c->in_service || !c->backups_in_service;
}

/* shares_of_all parts traffic by weight, whoever is in service. */
static void shares_of_all(const struct pool *pool, struct pool_shares *s, uint64_t weight) {
  s->total = 0;
  for (uint32_t t = 0; t < pool_primaries(pool); t++) {
    s->share[t] = (uint32_t)(pool->tiers[t].weight * WHOLE / weight);
    s->total += s->share[t];
  }
}

/* shares_get gives what is remembered, or looks. The epoch is read first: a change while it looks
 * makes the next choice look again. */
static const struct pool_shares *shares_get(const struct pick_from *from) {
  const struct pool *pool = from->pool;
  struct pool_shares *s = &pool->state->rows[from->up->worker].shares;
  uint64_t epoch = atomic_load_explicit(&pool->state->epoch, memory_order_acquire);
  uint64_t now = from->want->now_ms;
  if (s->pool == pool && s->seq == from->up->seq && s->epoch == epoch && now >= s->from_ms &&
      now < s->until_ms)
    return s;
  struct census c = {.until_ms = UINT64_MAX};
  *s = (struct pool_shares){.pool = pool, .seq = from->up->seq, .epoch = epoch, .from_ms = now};
  shares_fill(from, s, &c);
  s->until_ms = c.until_ms;
  s->panic = panics(pool, s, &c);
  if (s->panic) shares_of_all(pool, s, c.weight);
  return s;
}

/* TIER_SALT makes the draw of a tier independent of the place in its table. */
#define TIER_SALT 0x7469657273u

/* draw_tier draws by shares; one key stays with one tier. */
static uint32_t draw_tier(const struct pick_from *from, const struct pool_shares *s) {
  const struct pool_want *want = from->want;
  if (s->total == 0 || s->share[0] == s->total) return 0;
  uint64_t draw = want->hashed ? hash_mix(want->hash, TIER_SALT) : rng_next(&from->up->rng);
  uint64_t at = (uint64_t)(((unsigned __int128)draw * s->total) >> 64);
  uint32_t t = 0;
  while (at >= s->share[t]) at -= s->share[t++];
  return t;
}

void pick_tier(struct pick_from *from) {
  const struct pool *pool = from->pool;
  from->first = 0;
  from->panic = false;
  if (pool_primaries(pool) < 2 && !pool->spread.panic_percent) return;
  const struct pool_shares *s = shares_get(from);
  from->first = draw_tier(from, s);
  from->panic = s->panic;
  if (!s->panic) return;
  _Atomic uint64_t *count = &pool->state->rows[from->up->worker].panics;
  uint64_t so_far = atomic_load_explicit(count, memory_order_relaxed);
  atomic_store_explicit(count, so_far + 1, memory_order_relaxed);
}
