/* test_hash.c: published vectors and the key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/hash.h"

/* Reference values for the key 00..0f over 00, 00 01, ...: computed with an independent Python
 * implementation that also reproduces the SipHash-2-4 vectors of the paper. */
static void siphash_vectors(void **state) {
  (void)state;
  static const uint64_t want[] = {
      0xabac0158050fc4dcu, 0xc9f49bf37d57ca93u, 0x82cb9b024dc7d44du, 0x8bf80ab8e7ddf7fbu,
      0xcf75576088d38328u, 0xdef9d52f49533b67u, 0xc50d2b50c59f22a7u, 0xd3927d989bb11140u,
      0x369095118d299a8eu, 0x25a48eb36c063de4u, 0x79de85ee92ff097fu, 0x70c118c1f94dc352u,
      0x78a384b157b4d9a2u, 0x306f760c1229ffa7u, 0x605aa111c0f95d34u, 0xd320d86d2a519956u,
      0xcc4fdd1a7d908b66u, 0x9cf2689063dbd80cu,
  };
  char bytes[64];
  for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (char)i;
  hash_seed(0x0706050403020100u, 0x0f0e0d0c0b0a0908u);
  for (size_t len = 0; len < array_count(want); len++)
    assert_true(hash_keyed(span_of(bytes, len)) == want[len]);
  hash_seed(1, 2);
  assert_true(hash_keyed(span_of(bytes, 8)) != want[8]);
}

static void own_hashes(void **state) {
  (void)state;
  /* XXH3 64 of the empty input with seed 0, as published with the algorithm. */
  assert_true(hash_bytes(SPAN_EMPTY) == 0x2d06800538d394c2u);
  assert_true(hash_bytes(SPAN_LIT("a")) != hash_bytes(SPAN_LIT("b")));
  assert_true(hash_mix(1, 2) != hash_mix(2, 1));
  assert_true(hash_mix(0, 0) != hash_mix(0, 1));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(siphash_vectors),
      cmocka_unit_test(own_hashes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
