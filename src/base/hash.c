/* hash.c: XXH3 for our own keys and SipHash-1-3 for keys that a peer chooses (Aumasson and
 * Bernstein, 2012). Neither is for signatures or secrets. */
#include "weir/base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Drawn once by hash_seed before other threads start; the constants serve tests. */
static uint64_t key0 = 0x0706050403020100u, key1 = 0x0f0e0d0c0b0a0908u;

uint64_t hash_bytes(struct span s) { return XXH3_64bits(s.len ? s.ptr : "", s.len); }

uint64_t hash_mix(uint64_t a, uint64_t b) {
  uint64_t state = a ^ (b * 0x9e3779b97f4a7c15u);
  return rng_next(&state) + b;
}

void hash_seed(uint64_t k0, uint64_t k1) {
  key0 = k0;
  key1 = k1;
}

static uint64_t rotate(uint64_t v, unsigned bits) { return (v << bits) | (v >> (64 - bits)); }

static void sip_round(uint64_t v[4]) {
  v[0] += v[1];
  v[1] = rotate(v[1], 13) ^ v[0];
  v[0] = rotate(v[0], 32);
  v[2] += v[3];
  v[3] = rotate(v[3], 16) ^ v[2];
  v[0] += v[3];
  v[3] = rotate(v[3], 21) ^ v[0];
  v[2] += v[1];
  v[1] = rotate(v[1], 17) ^ v[2];
  v[2] = rotate(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word) {
  v[3] ^= word;
  sip_round(v);
  v[0] ^= word;
}

/* load_le reads up to 8 bytes, low byte first. */
static uint64_t load_le(const char *ptr, size_t len) {
  uint64_t word = 0;
  for (size_t i = 0; i < len; i++) word |= (uint64_t)(unsigned char)ptr[i] << (8 * i);
  return word;
}

uint64_t hash_keyed(struct span s) {
  uint64_t v[4] = {key0 ^ 0x736f6d6570736575u, key1 ^ 0x646f72616e646f6du,
                   key0 ^ 0x6c7967656e657261u, key1 ^ 0x7465646279746573u};
  size_t whole = s.len & ~(size_t)7;
  for (size_t at = 0; at < whole; at += 8) sip_word(v, load_le(s.ptr + at, 8));
  uint64_t last = (uint64_t)s.len << 56;
  if (s.len > whole) last |= load_le(s.ptr + whole, s.len - whole);
  sip_word(v, last);
  v[2] ^= 0xff;
  for (int i = 0; i < 3; i++) sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}
