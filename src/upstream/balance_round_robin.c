/* balance_round_robin.c: smooth weighted turns (the algorithm of nginx): at each choice every
 * member is owed its weight, the one that is owed most takes the turn and pays for all. One round
 * of it is worked out by the compile thread; who has a turn and is out of service gives it to the
 * others, who share such turns by the same rule. Each worker turns by itself: where it stands in
 * the round is in its row of the pool, what is owed in its rows of the endpoints, and so outlives
 * reloads and members that come and go. */
#include "upstream_priv.h"

/* turns is one round: places within the tier. */
struct turns {
  uint32_t count;
  const uint32_t *places;
};

/* ROUND_WORK bounds what a round may cost to work out, turns times members. A round that is longer
 * (hundreds of members of odd weights) is walked as it comes. */
#define ROUND_WORK (UINT64_C(1) << 24)

static uint64_t gcd(uint64_t a, uint64_t b) {
  while (b) {
    uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

/* round_fill plays one round. owed is zeroed, one for each member. */
static void round_fill(uint32_t *places, uint32_t turns, const struct pool_member *members,
                       int64_t *owed, uint32_t count) {
  int64_t sum = 0;
  for (uint32_t i = 0; i < count; i++) sum += members[i].weight;
  for (uint32_t turn = 0; turn < turns; turn++) {
    uint32_t best = 0;
    for (uint32_t i = 0; i < count; i++) {
      owed[i] += members[i].weight;
      if (owed[i] > owed[best]) best = i;
    }
    owed[best] -= sum;
    places[turn] = best;
  }
}

const void *turns_prepare(struct arena *arena, const struct pool_member *members,
                          uint32_t count) {
  uint64_t sum = 0, common = 0;
  for (uint32_t i = 0; i < count; i++) {
    sum += members[i].weight;
    common = gcd(common, members[i].weight);
  }
  if (!sum || sum / common * count > ROUND_WORK) return NULL;
  struct arena scratch;
  arena_init(&scratch, NULL, 0);
  struct turns *turns = arena_alloc(arena, sizeof *turns);
  uint32_t *places = arena_alloc(arena, sum / common * sizeof *places);
  int64_t *owed = arena_zalloc(&scratch, count * sizeof *owed);
  check(turns && places && owed);
  *turns = (struct turns){(uint32_t)(sum / common), places};
  round_fill(places, turns->count, members, owed, count);
  arena_reset(&scratch);
  return turns;
}

/* take_turn is the next turn of the round, if its member is in service. */
static uint32_t take_turn(const struct pick_from *from) {
  const struct turns *turns = from->tier->table;
  uint32_t *next = &from->pool->state->rows[from->up->worker].next;
  if (!turns) return PLACE_NONE;
  if (*next >= turns->count) *next = 0; /* the round is over, or a reload made it shorter */
  uint32_t place = from->tier->first + turns->places[(*next)++];
  return pick_allows(from, place) ? place : PLACE_NONE;
}

uint32_t balance_round_robin(const struct pick_from *from) {
  const struct pool_tier *tier = from->tier;
  struct endpoint_row *best = NULL;
  uint32_t place = PLACE_NONE;
  int64_t sum = 0;
  if (from->whole) return take_turn(from);
  for (uint32_t i = tier->first; i < tier->first + tier->count; i++) {
    if (!pick_allows(from, i)) continue;
    struct endpoint_row *row = &from->pool->members[i].endpoint->rows[from->up->worker];
    int64_t weight = (int64_t)pick_weight(from, i);
    row->turn += weight;
    sum += weight;
    if (best && row->turn <= best->turn) continue;
    best = row;
    place = i;
  }
  if (best) best->turn -= sum;
  return place;
}
