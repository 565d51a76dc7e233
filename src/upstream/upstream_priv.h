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
 * that was looked at.
 *
 * Health, ejections and slow starts are other threads' and may change between any two looks. So
 * nothing that one look over the set found may be relied on by the next: each draw looks once at
 * each member and decides from that; PLACE_NONE when it saw none. */
struct pick_from {
  struct upstream *up;
  const struct pool *pool;
  const struct pool_want *want;
  const struct pool_tier *tier;
  bool whole;
  bool untried; /* only those not tried */
  enum pick_need need;
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
/* pick_weight is what a member weighs in this set, slow start included. Sets that are looked at
 * weigh in 256ths, so that a slow start has steps. */
#define WEIGHT_BITS 8u
uint64_t pick_weight(const struct pick_from *from, uint32_t place);
/* pick_below draws from [0, n). */
uint64_t pick_below(const struct pick_from *from, uint64_t n);
/* pick_by_weight draws a member by weight, other than `except`; PLACE_NONE: there is none, or the
 * one drawn of a whole set is not in service. */
uint32_t pick_by_weight(const struct pick_from *from, uint32_t except);
/* pick_two draws two different members by weight (power of two choices, Mitzenmacher 2001); how
 * many there are: 1 when there is no other, 0 when a whole set is none. */
uint32_t pick_two(const struct pick_from *from, uint32_t out[2]);
/* pick_walk goes through a table from slot `at` on, to the first member that may take the request:
 * allowed, within its bound of load, and past its slow start or among the first to come back. */
struct pick_table {
  const void *slots;
  uint32_t count;
  uint32_t (*place)(const void *slots, uint32_t slot); /* within the tier */
};
uint32_t pick_walk(const struct pick_from *from, const struct pick_table *table, uint32_t at);

#define BALANCE(id, text, pick, prepare, observe, hashed, doc) \
  uint32_t pick(const struct pick_from *from);
#include "weir/upstream/balance.def"
#undef BALANCE
void peak_ewma_observe(struct upstream *u, struct endpoint *e, const struct pool_sample *sample);
/* Tables: in arena, for members [tier->first, tier->first + tier->count). */
const void *turns_prepare(struct arena *arena, const struct pool_member *members, uint32_t count);
const void *ring_prepare(struct arena *arena, const struct pool_member *members, uint32_t count);
const void *maglev_prepare(struct arena *arena, const struct pool_member *members,
                           uint32_t count);

#endif
