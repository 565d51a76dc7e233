/* balance_random.c: one draw by weight; looks at no load. */
#include "upstream_priv.h"

uint32_t balance_random(const struct pick_from *from) {
  return pick_by_weight(from, PLACE_NONE);
}
