/* hash.h: xxh3 for our own keys, keyed (seeded at start from the kernel) for keys that a peer
 * chooses. */
#ifndef WEIR_BASE_HASH_H
#define WEIR_BASE_HASH_H

#include <stdint.h>

#include "weir/base/span.h"

/* hash_bytes is a 64-bit hash with a fixed seed: for content identity of our own data. */
uint64_t hash_bytes(struct span s);
/* hash_mix chains two values. */
uint64_t hash_mix(uint64_t a, uint64_t b);
/* hash_keyed is for attacker-chosen keys; the key is drawn once per process by hash_seed. */
uint64_t hash_keyed(struct span s);
/* hash_seed sets the key (16 bytes of entropy; tests pass constants). */
void hash_seed(uint64_t k0, uint64_t k1);
/* rng is a small per-worker generator (splitmix64), not for secrets. */
static inline uint64_t rng_next(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

#endif
