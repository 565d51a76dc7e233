/* crypto.c: HMAC-SHA256 and randomness of the TLS library, for keys and ids that are made off the
 * data path (sticky cookies). Nothing here knows what it signs. RFC 2104. */
#include "weir/base/crypto.h"

#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <pthread.h>

void crypto_mac(struct span key, struct span data, uint8_t out[CRYPTO_MAC_LEN]) {
  unsigned len = 0;
  const uint8_t *bytes = (const uint8_t *)(data.len ? data.ptr : "");
  const void *key_bytes = key.len ? key.ptr : "";
  check(HMAC(EVP_sha256(), key_bytes, key.len, bytes, data.len, out, &len) != NULL);
  check(len == CRYPTO_MAC_LEN);
}

void crypto_sha1(struct span data, uint8_t out[CRYPTO_SHA1_LEN]) {
  const uint8_t *bytes = (const uint8_t *)(data.len ? data.ptr : "");
  check(SHA1(bytes, data.len, out) != NULL);
}

void crypto_random(void *out, size_t len) { check(RAND_bytes(out, len) == 1); }

static pthread_once_t drawn = PTHREAD_ONCE_INIT;
static uint8_t process_key[CRYPTO_MAC_LEN];

static void draw(void) { crypto_random(process_key, sizeof process_key); }

void crypto_process_key(uint8_t out[CRYPTO_MAC_LEN]) {
  check(pthread_once(&drawn, draw) == 0);
  memcpy(out, process_key, sizeof process_key);
}
