/* crypto.h: the little cryptography that is not TLS: a MAC, random bytes, a key of the process.
 * src/base/crypto.c is the one file of base/ that sees the TLS library. It may allocate: not for
 * the data path. */
#ifndef WEIR_BASE_CRYPTO_H
#define WEIR_BASE_CRYPTO_H

#include <stdint.h>

#include "weir/base/span.h"

#define CRYPTO_MAC_LEN 32u

/* crypto_mac is HMAC-SHA256 of data (RFC 2104, FIPS 180-4). */
void crypto_mac(struct span key, struct span data, uint8_t out[CRYPTO_MAC_LEN]);
/* crypto_sha1 is SHA-1 of data (FIPS 180-4), for protocols that ask for it: it protects nothing.
 */
#define CRYPTO_SHA1_LEN 20u
void crypto_sha1(struct span data, uint8_t out[CRYPTO_SHA1_LEN]);
/* crypto_random fills out with bytes of the library's generator. */
void crypto_random(void *out, size_t len);
/* crypto_process_key copies the key of this process: drawn at the first call, the same ever
 * after. Any thread. */
void crypto_process_key(uint8_t out[CRYPTO_MAC_LEN]);

#endif
