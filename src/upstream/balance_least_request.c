/* balance_least_request.c: power of two choices (Mitzenmacher 2001) on requests in flight over
 * weight. Two different members are drawn by weight; the less loaded one wins, the first on a tie.
 */
#include "weir/base/hash.h"

#include "upstream_priv.h"

static uint64_t draw(const struct pick_from *from, uint64_t weight) {
  return rng_next(&from->up->rng) % weight;
}

/* other draws a member that is not a: the sum of weights without a's, stepped over where a stands.
 */
static uint32_t other(const struct pick_from *from, uint32_t a) {
  uint64_t weight_a = from->pool->members[a].weight, before_a = 0;
  for (uint32_t i = 0; i < a; i++)
    if (pick_allows(from, i)) before_a += from->pool->members[i].weight;
  uint64_t at = draw(from, from->weight - weight_a);
  return pick_by_weight(from, at < before_a ? at : at + weight_a);
}

/* lighter compares load / weight without division. Idle members tie: the draw has their weights in
 * it already. */
static bool lighter(const struct pool_member *a, const struct pool_member *b) {
  uint64_t load_a = endpoint_load(a->endpoint), load_b = endpoint_load(b->endpoint);
  return load_a * b->weight < load_b * a->weight;
}

uint32_t balance_least_request(const struct pick_from *from) {
  const struct pool_member *members = from->pool->members;
  uint32_t a = pick_by_weight(from, draw(from, from->weight));
  if (from->weight == members[a].weight) return a; /* the others weigh nothing */
  uint32_t b = other(from, a);
  return lighter(&members[b], &members[a]) ? b : a;
}
