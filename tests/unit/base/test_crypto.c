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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_answers),
      cmocka_unit_test(randomness_differs),
      cmocka_unit_test(one_key_per_process),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
