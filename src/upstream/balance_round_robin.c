/* balance_round_robin.c: smooth weighted turns (the algorithm of nginx): at each choice every
 * member is owed its weight, the one that is owed most takes the turn and pays for all. One round
 * of it is worked out by the compile thread; who has a turn and is out of service gives it to the
 * others, who share such turns by the same rule. Each worker turns by itself: where it stands in
 * the round is in its row of the pool, what is owed in its rows of the endpoints, and so outlives
 * reloads and members that come and go. */
#include <stdlib.h>

#include "upstream_priv.h"

/* turns is one round: places within the tier. */
struct turns {
  uint32_t count;
  const uint32_t *places;
};

/* ROUND_WORK bounds what a round may cost to work out so, turns times members. A longer one (many
 * members) puts each at even distances instead, which hardly differs and only needs sorting.
 * TURNS_MAX bounds its memory; what is longer still (many members of odd weights) is walked as it
 * comes. */
#define ROUND_WORK (UINT64_C(1) << 24)
#define TURNS_MAX (1u << 18)

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

/* slot is one turn of a member in an even round. */
struct slot {
  double at; /* in parts of the round */
  uint32_t place;
};

static int by_time(const void *a, const void *b) {
  const struct slot *x = a, *y = b;
  if (x->at != y->at) return x->at < y->at ? -1 : 1;
  return (x->place > y->place) - (x->place < y->place);
}

/* round_sort gives a member of n turns those at 1, 3, 5, ... of 2n parts. */
static void round_sort(uint32_t *places, uint32_t turns, const struct pool_member *members,
                       uint32_t count, uint64_t common) {
  struct arena scratch;
  arena_init(&scratch, NULL, 0);
  struct slot *slots = arena_alloc(&scratch, turns * sizeof *slots);
  uint32_t n = 0;
  check(slots != NULL);
  for (uint32_t i = 0; i < count; i++) {
    uint64_t own = members[i].weight / common;
    for (uint64_t k = 0; k < own; k++)
      slots[n++] = (struct slot){(double)(2 * k + 1) / (double)(2 * own), i};
  }
  check(n == turns);
  qsort(slots, n, sizeof *slots, by_time);
  for (uint32_t i = 0; i < n; i++) places[i] = slots[i].place;
  arena_reset(&scratch);
}

const void *turns_prepare(struct arena *arena, const struct pool_member *members,
                          uint32_t count) {
  uint64_t sum = 0, common = 0;
  for (uint32_t i = 0; i < count; i++) {
    sum += members[i].weight;
    common = pick_gcd(common, members[i].weight);
  }
  if (!sum || sum / common > TURNS_MAX) return NULL;
  struct arena scratch;
  arena_init(&scratch, NULL, 0);
  struct turns *turns = arena_alloc(arena, sizeof *turns);
  uint32_t *places = arena_alloc(arena, sum / common * sizeof *places);
  int64_t *owed = arena_zalloc(&scratch, count * sizeof *owed);
  check(turns && places && owed);
  *turns = (struct turns){(uint32_t)(sum / common), places};
  if ((uint64_t)turns->count * count > ROUND_WORK)
    round_sort(places, turns->count, members, count, common);
  else
    round_fill(places, turns->count, members, owed, count);
  arena_reset(&scratch);
  return turns;
}

/* ready: a member that starts slowly saves up for its turns, and gives the others away. */
static bool ready(const struct pick_from *from, uint32_t place) {
  const struct pool_member *m = &from->pool->members[place];
  uint64_t full = (uint64_t)m->weight << WEIGHT_BITS, now = pick_weight(from, place);
  if (now == full) return true;
  struct endpoint_row *row = &m->endpoint->rows[from->up->worker];
  row->ready += now;
  if (row->ready < full) return false;
  row->ready -= full;
  return true;
}

/* take_turn is the next turn of the round, if its member is in service and ready. */
static uint32_t take_turn(const struct pick_from *from) {
  const struct turns *turns = from->tier->table;
  size_t tier = (size_t)(from->tier - from->pool->tiers);
  uint32_t *next = &from->pool->state->rows[from->up->worker].next[tier];
  if (!turns) return PLACE_NONE;
  if (*next >= turns->count) *next = 0; /* the round is over, or a reload made it shorter */
  uint32_t place = from->tier->first + turns->places[(*next)++];
  return pick_allows(from, place) && ready(from, place) ? place : PLACE_NONE;
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
