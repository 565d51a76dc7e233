/* balance_round_robin.c: smooth weighted turns (the algorithm of nginx): at each choice every
 * member is owed its weight, the one that is owed most takes the turn and pays for all. Each
 * worker turns by itself: what is owed stands in its row of the endpoint, and so outlives reloads
 * and members that come and go. */
#include "upstream_priv.h"

uint32_t balance_round_robin(const struct pick_from *from) {
  const struct pool_tier *tier = from->tier;
  struct endpoint_row *best = NULL;
  uint32_t place = PLACE_NONE;
  if (from->whole) return PLACE_NONE; /* a turn may not be spent on one that is out */
  for (uint32_t i = tier->first; i < tier->first + tier->count; i++) {
    if (!pick_allows(from, i)) continue;
    struct endpoint_row *row = &from->pool->members[i].endpoint->rows[from->up->worker];
    row->turn += (int64_t)pick_weight(from, i);
    if (best && row->turn <= best->turn) continue;
    best = row;
    place = i;
  }
  check(best != NULL);
  best->turn -= (int64_t)from->weight;
  return place;
}
