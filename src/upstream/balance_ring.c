/* balance_ring.c: consistent hashing on a ring (Karger et al. 1997): every member has points by
 * its weight, a key goes to the next point. A member that leaves gives its keys to others and
 * moves no other; a new one takes its share and moves nothing else. Points come from the resolved
 * address alone: every machine has the same ring, in whatever order the file names endpoints. */
#include <stdlib.h>

#include "upstream_priv.h"
#include "weir/base/hash.h"

#define POINTS_PER_WEIGHT 256u
/* A ring has at most so many points in all (8 bytes each), and for each member on the mean. Where
 * weights ask for more, all have half as many, or a quarter, and so on: in such steps most changes
 * of members and weights leave everybody's points alone, which a common divisor or shares of a
 * fixed sum would not. */
#define POINTS_MAX (UINT64_C(1) << 20)
#define POINTS_PER_MEMBER 1024u

struct point {
  uint32_t at;    /* upper half of its hash */
  uint32_t place; /* within the tier */
};

/* ring is the points in order, and where those begin whose first bits are i. */
struct ring {
  uint32_t count, shift;
  const struct point *points;
  const uint32_t *starts;
};

/* shift_of is how often the points are halved. */
static uint32_t shift_of(const struct pool_member *members, uint32_t count) {
  uint64_t sum = 0, most = 0;
  uint32_t shift = 0;
  for (uint32_t i = 0; i < count; i++) {
    sum += (uint64_t)members[i].weight * POINTS_PER_WEIGHT;
    most += members[i].weight ? POINTS_PER_MEMBER : 0;
  }
  if (most > POINTS_MAX) most = POINTS_MAX;
  while (sum >> shift > most) shift++;
  return shift;
}

/* points_of a member of this weight; at least one when it has any. */
static uint32_t points_of(uint32_t weight, uint32_t shift) {
  uint32_t points = (uint32_t)((uint64_t)weight * POINTS_PER_WEIGHT >> shift);
  return points || !weight ? points : 1;
}

/* sorting needs the members, so that ties do not depend on places. */
struct draft {
  uint32_t at, place;
  uint64_t member;
};

static int by_place_on_ring(const void *a, const void *b) {
  const struct draft *x = a, *y = b;
  if (x->at != y->at) return x->at < y->at ? -1 : 1;
  return (x->member > y->member) - (x->member < y->member);
}

static void *get(struct arena *arena, size_t count, size_t size) {
  void *bytes = arena_zalloc(arena, count * size);
  check(bytes != NULL);
  return bytes;
}

static struct draft *draft_new(struct arena *arena, const struct pool_member *members,
                               uint32_t count, uint32_t *points) {
  uint64_t room = 0;
  uint32_t shift = shift_of(members, count);
  for (uint32_t i = 0; i < count; i++) room += points_of(members[i].weight, shift);
  struct draft *drafts = get(arena, room, sizeof *drafts);
  uint32_t n = 0;
  for (uint32_t i = 0; i < count; i++)
    for (uint32_t k = 0; k < points_of(members[i].weight, shift); k++)
      drafts[n++] = (struct draft){(uint32_t)(hash_mix(members[i].hash, k) >> 32), i,
                                   members[i].hash};
  if (n) qsort(drafts, n, sizeof *drafts, by_place_on_ring);
  *points = n;
  return drafts;
}

/* starts_new: starts[i] is the first point whose hash has first bits of at least i. */
static const uint32_t *starts_new(struct arena *arena, const struct ring *ring) {
  uint32_t buckets = 1u << (32 - ring->shift), at = 0;
  uint32_t *starts = get(arena, buckets, sizeof *starts);
  for (uint32_t i = 0; i < buckets; i++) {
    while (at < ring->count && ring->points[at].at >> ring->shift < i) at++;
    starts[i] = at;
  }
  return starts;
}

const void *ring_prepare(struct arena *arena, const struct pool_member *members, uint32_t count) {
  struct arena scratch;
  struct ring *ring = get(arena, 1, sizeof *ring);
  arena_init(&scratch, NULL, 0);
  const struct draft *drafts = draft_new(&scratch, members, count, &ring->count);
  struct point *points = get(arena, ring->count, sizeof *points);
  for (uint32_t i = 0; i < ring->count; i++)
    points[i] = (struct point){drafts[i].at, drafts[i].place};
  arena_reset(&scratch);
  ring->points = points;
  ring->shift = 31; /* twice as many buckets as needed at most: a lookup steps about once */
  while (ring->shift > 0 && 1u << (32 - ring->shift) < ring->count) ring->shift--;
  ring->starts = starts_new(arena, ring);
  return ring;
}

static uint32_t place_of(const void *slots, uint32_t slot) {
  return ((const struct ring *)slots)->points[slot].place;
}

uint32_t balance_ring(const struct pick_from *from) {
  const struct ring *ring = from->tier->table;
  if (!from->want->hashed) return balance_least_request(from);
  uint32_t key = (uint32_t)(from->want->hash >> 32);
  uint32_t at = ring->starts[key >> ring->shift];
  while (at < ring->count && ring->points[at].at < key) at++;
  struct pick_table table = {ring, ring->count, place_of};
  return pick_walk(from, &table, at == ring->count ? 0 : at);
}
