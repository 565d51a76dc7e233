/* test_crypto.c: the MAC against the vectors of RFC 4231; the process key stays what it was. */
#include "weir/base/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
  struct span key, data;
  const char *mac;
} vectors[] = {
    {SPAN_LIT("\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b"),
     SPAN_LIT("Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {SPAN_LIT("Jefe"), SPAN_LIT("what do ya want for nothing?"),
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {SPAN_LIT(""), SPAN_LIT(""),
     "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"},
};

static void known_answers(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(vectors); i++) {
    uint8_t mac[CRYPTO_MAC_LEN];
    char hex[2 * CRYPTO_MAC_LEN + 1];
    crypto_mac(vectors[i].key, vectors[i].data, mac);
    for (size_t k = 0; k < sizeof mac; k++) {
      hex[2 * k] = "0123456789abcdef"[mac[k] >> 4];
      hex[2 * k + 1] = "0123456789abcdef"[mac[k] & 15];
    }
    hex[2 * CRYPTO_MAC_LEN] = '\0';
    assert_string_equal(hex, vectors[i].mac);
  }
  uint8_t a[CRYPTO_MAC_LEN], b[CRYPTO_MAC_LEN];
  crypto_mac(SPAN_EMPTY, SPAN_EMPTY, a);
  crypto_mac(SPAN_LIT(""), SPAN_LIT(""), b);
  assert_memory_equal(a, b, sizeof a);
}

static void randomness_differs(void **state) {
  (void)state;
  uint8_t a[32] = {0}, b[32] = {0}, none[32] = {0};
  crypto_random(a, sizeof a);
  crypto_random(b, sizeof b);
  assert_memory_not_equal(a, b, sizeof a);
  assert_memory_not_equal(a, none, sizeof a);
}

static void one_key_per_process(void **state) {
  (void)state;
  uint8_t a[CRYPTO_MAC_LEN], b[CRYPTO_MAC_LEN], none[CRYPTO_MAC_LEN] = {0};
  crypto_process_key(a);
  crypto_process_key(b);
  assert_memory_equal(a, b, sizeof a);
  assert_memory_not_equal(a, none, sizeof a);
}

/* The examples of FIPS 180-4's companion document, and of nothing at all. */
static void sha1_known_answers(void **state) {
  (void)state;
  static const uint8_t abc[CRYPTO_SHA1_LEN] = {0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81,
                                               0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50,
                                               0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d};
  static const uint8_t none[CRYPTO_SHA1_LEN] = {0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b, 0x4b,
                                                0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60,
                                                0x18, 0x90, 0xaf, 0xd8, 0x07, 0x09};
  uint8_t out[CRYPTO_SHA1_LEN];
  crypto_sha1(SPAN_LIT("abc"), out);
  assert_memory_equal(out, abc, sizeof out);
  crypto_sha1(SPAN_EMPTY, out);
  assert_memory_equal(out, none, sizeof out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_answers),
      cmocka_unit_test(sha1_known_answers),
      cmocka_unit_test(randomness_differs),
      cmocka_unit_test(one_key_per_process),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
