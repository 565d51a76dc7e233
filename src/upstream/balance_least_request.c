/* balance_least_request.c: power of two choices (Mitzenmacher 2001) on requests in flight over
 * weight. Two different members are drawn by weight; the less loaded one wins, the first on a tie.
 */
#include "upstream_priv.h"

uint32_t balance_least_request(const struct pick_from *from) {
  const struct pool_member *members = from->pool->members;
  uint32_t two[2];
  uint32_t count = pick_two(from, two);
  if (count < 2) return count ? two[0] : PLACE_NONE;
  /* Idle members tie: the draw has their weights in it already. */
  uint64_t load_a = endpoint_load(members[two[0]].endpoint);
  uint64_t load_b = endpoint_load(members[two[1]].endpoint);
  bool b = load_b * pick_weight(from, two[0]) < load_a * pick_weight(from, two[1]);
  return two[b];
}
