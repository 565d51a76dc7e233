/* balance_random.c: one draw by weight; looks at no load. */
#include "upstream_priv.h"

uint32_t balance_random(const struct pick_from *from) {
  uint32_t place = pick_by_weight(from, pick_below(from, from->weight));
  return from->whole && !pick_allows(from, place) ? PLACE_NONE : place;
}
