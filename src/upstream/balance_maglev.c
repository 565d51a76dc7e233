/* balance_maglev.c: consistent hashing by the table of Maglev (Eisenbud et al. 2016, section 3.4):
 * members take turns in claiming their next free slot of a prime number of slots, each in an order
 * of its own; those that weigh less skip turns. Shares are even within a percent up to a few
 * hundred members; when one leaves, its keys are spread and a few others move. The orders come
 * from resolved addresses alone: every machine has the same table. */
#include <stdlib.h>

#include "upstream_priv.h"
#include "weir/base/hash.h"

#define SLOTS 65537u
#define FREE UINT16_MAX

/* claimer is one member while the table is filled. */
struct claimer {
  uint64_t hash, due;
  uint32_t at, skip; /* its order: at, at + skip, ... modulo SLOTS */
  uint32_t weight;
  uint16_t place;
};

static int by_hash(const void *a, const void *b) {
  const struct claimer *x = a, *y = b;
  return (x->hash > y->hash) - (x->hash < y->hash);
}

/* claimers_new lists those with a weight, in an order that is not the file's. More than fit into
 * 16 bits could not each have a slot anyway. */
static struct claimer *claimers_new(struct arena *arena, const struct pool_member *members,
                                    uint32_t count, uint32_t *out) {
  struct claimer *all = arena_zalloc(arena, (count + 1) * sizeof *all);
  uint32_t n = 0;
  check(all != NULL);
  for (uint32_t i = 0; i < count && i < FREE; i++) {
    const struct pool_member *m = &members[i];
    if (!m->weight) continue;
    all[n++] = (struct claimer){.hash = m->hash,
                                .at = (uint32_t)(hash_mix(m->hash, 1) % SLOTS),
                                .skip = (uint32_t)(hash_mix(m->hash, 2) % (SLOTS - 1)) + 1,
                                .weight = m->weight,
                                .place = (uint16_t)i};
  }
  if (n) qsort(all, n, sizeof *all, by_hash);
  *out = n;
  return all;
}

/* claim takes the member's next free slot; there is one, so that this ends within SLOTS steps. */
static void claim(uint16_t *slots, struct claimer *c) {
  while (slots[c->at] != FREE) c->at = (c->at + c->skip) % SLOTS;
  slots[c->at] = c->place;
}

static void fill(uint16_t *slots, struct claimer *all, uint32_t count) {
  uint64_t heaviest = 0;
  for (uint32_t i = 0; i < count; i++)
    if (all[i].weight > heaviest) heaviest = all[i].weight;
  uint32_t taken = 0;
  for (uint64_t round = 1; taken < SLOTS; round++) { /* the heaviest claims in every round */
    for (uint32_t i = 0; i < count && taken < SLOTS; i++) {
      if (round * all[i].weight < all[i].due) continue;
      all[i].due += heaviest;
      claim(slots, &all[i]);
      taken++;
    }
  }
}

const void *maglev_prepare(struct arena *arena, const struct pool_member *members,
                           uint32_t count) {
  struct arena scratch;
  uint32_t n = 0;
  arena_init(&scratch, NULL, 0);
  struct claimer *all = claimers_new(&scratch, members, count, &n);
  uint16_t *slots = n ? arena_alloc(arena, SLOTS * sizeof *slots) : NULL;
  for (uint32_t i = 0; slots && i < SLOTS; i++) slots[i] = FREE;
  if (slots) fill(slots, all, n);
  arena_reset(&scratch);
  return slots;
}

static uint32_t place_of(const void *slots, uint32_t slot) {
  return ((const uint16_t *)slots)[slot];
}

uint32_t balance_maglev(const struct pick_from *from) {
  if (!from->want->hashed) return balance_least_request(from);
  struct pick_table table = {from->tier->table, SLOTS, place_of};
  return pick_walk(from, &table, (uint32_t)(from->want->hash % SLOTS));
}
