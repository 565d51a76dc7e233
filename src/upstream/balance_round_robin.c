/* balance_round_robin.c: in turn, weighted: a counter per worker and pool walks through the sum of
 * weights with a stride that is coprime to it, so that a heavy member's turns are spread out. */
#include "upstream_priv.h"

static uint64_t gcd(uint64_t a, uint64_t b) {
  while (b) {
    uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

/* stride is coprime to weight, near its golden section; 1 when all weights are 1 (plain turns). */
static uint64_t stride(const struct pick_from *from) {
  if (from->weight == from->count) return 1;
  uint64_t s = from->weight * 618 / 1000 + 1;
  while (gcd(s, from->weight) != 1) s++;
  return s;
}

uint32_t balance_round_robin(const struct pick_from *from) {
  struct pool_row *row = &from->pool->state->rows[from->up->worker];
  uint64_t turn = row->next++;
  return pick_by_weight(from, turn * stride(from) % from->weight);
}
