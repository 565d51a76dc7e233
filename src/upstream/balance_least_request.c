/* balance_least_request.c: power of two choices (Mitzenmacher 2001) on requests in flight over
 * weight. Two members are drawn by weight; the less loaded one wins, the first on a tie. */
#include "weir/base/hash.h"

#include "upstream_priv.h"

static uint64_t draw(const struct pick_from *from) {
  return rng_next(&from->up->rng) % from->weight;
}

/* lighter compares load / weight without division. Idle members tie: the draw has their weights in
 * it already. */
static bool lighter(const struct pool_member *a, const struct pool_member *b) {
  uint64_t load_a = endpoint_load(a->endpoint), load_b = endpoint_load(b->endpoint);
  return load_a * b->weight < load_b * a->weight;
}

uint32_t balance_least_request(const struct pick_from *from) {
  uint32_t a = pick_by_weight(from, draw(from));
  uint32_t b = pick_by_weight(from, draw(from));
  const struct pool_member *members = from->pool->members;
  return a != b && lighter(&members[b], &members[a]) ? b : a;
}
