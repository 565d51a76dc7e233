/* upstream_priv.h: what the files of upstream/ share: the set that a policy chooses from, and the
 * ways to draw from it. */
#ifndef WEIR_UPSTREAM_PRIV_H
#define WEIR_UPSTREAM_PRIV_H

#include "weir/upstream/upstream.h"

/* pick_need is how fit a member must be. */
enum pick_need {
  PICK_IN_SERVICE,
  PICK_UNKNOWN, /* new: no check has ended yet */
  PICK_EJECTED, /* or ejected; not down */
  PICK_ANY,     /* also down: in a panic */
};

/* pick_from is the set: those members of a tier for which pick_allows holds.
 *
 * With `whole` nothing was looked at: all of a tier is taken to be in service, which is how it is
 * almost always, and the choice costs the same for any number of members. A policy then answers
 * PLACE_NONE when it meets a member that is not, or cannot work so; it is asked again with a set
 * that was looked at. */
struct pick_from {
  struct upstream *up;
  const struct pool *pool;
  const struct pool_want *want;
  const struct pool_tier *tier;
  bool whole;
  bool untried; /* only those not tried */
  enum pick_need need;
  uint32_t count;  /* above 0; at least 2 unless whole */
  uint64_t weight; /* the sum of pick_weight */
};

static inline bool pick_fit(const struct endpoint *e, enum pick_need need, uint64_t now_ms) {
  if (need == PICK_IN_SERVICE) return endpoint_in_service(e, now_ms);
  uint8_t state = atomic_load_explicit(&e->state, memory_order_relaxed);
  if (need == PICK_UNKNOWN) return state == ENDPOINT_UNKNOWN;
  return need == PICK_ANY || state != ENDPOINT_DOWN;
}

static inline bool pick_allows(const struct pick_from *from, uint32_t place) {
  const struct pool_member *m = &from->pool->members[place];
  const struct pool_tried *tried = from->want->tried;
  if (!m->weight) return false;
  for (uint32_t i = 0; from->untried && tried && i < tried->count; i++)
    if (tried->place[i] == place) return false;
  return pick_fit(m->endpoint, from->need, from->want->now_ms);
}
/* pick_weight is what a member weighs in this set, slow start included. */
uint64_t pick_weight(const struct pick_from *from, uint32_t place);
/* pick_below draws from [0, n). */
uint64_t pick_below(const struct pick_from *from, uint64_t n);
/* pick_by_weight is the place where a running sum of weights passes at (at < weight). */
uint32_t pick_by_weight(const struct pick_from *from, uint64_t at);
/* pick_two draws two different members by weight (power of two choices, Mitzenmacher 2001); how
 * many there are: 1 when the others weigh nothing, 0 when a whole set is none. */
uint32_t pick_two(const struct pick_from *from, uint32_t out[2]);
/* pick_walk goes through a table from slot `at` on, to the first member that may take the request:
 * allowed, within its bound of load, and past its slow start or among the first to come back. */
struct pick_table {
  const void *slots;
  uint32_t count;
  uint32_t (*place)(const void *slots, uint32_t slot); /* within the tier */
};
uint32_t pick_walk(const struct pick_from *from, const struct pick_table *table, uint32_t at);

#define BALANCE(id, text, pick, prepare, observe, worth, hashed, doc) \
  uint32_t pick(const struct pick_from *from);
#include "weir/upstream/balance.def"
#undef BALANCE
void peak_ewma_observe(struct upstream *u, struct endpoint *e, const struct pool_sample *sample);
bool peak_ewma_worth(const struct pool *pool, const struct endpoint *chosen,
                     const struct endpoint *e, uint64_t now_ms);
/* pool_load is requests in flight at all endpoints, over all workers (relaxed). */
uint64_t pool_load(const struct pool *pool);
/* Tables: in arena, for members [tier->first, tier->first + tier->count). */
const void *turns_prepare(struct arena *arena, const struct pool_member *members, uint32_t count);
const void *ring_prepare(struct arena *arena, const struct pool_member *members, uint32_t count);
const void *maglev_prepare(struct arena *arena, const struct pool_member *members,
                           uint32_t count);

#endif
