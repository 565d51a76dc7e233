/* tls_ticket_keys.c: keys of session tickets that several machines share, from files (the format
 * of nginx's ssl_session_ticket_key): 16 bytes of name, then HMAC-SHA-256 and AES-256 keys of 32
 * bytes each, or AES-128 and HMAC keys of 16. The first encrypts, all decrypt; a ticket of another
 * one than the first is renewed. Immutable with its tls_server: rotating is a new server. The keys
 * of the process are tls_tickets.c. RFC 5077 section 4. Called by tls_server.c, and by the library
 * on workers. */
#include <openssl/cipher.h>
#include <openssl/digest.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>

#include "io/tls_conn_priv.h"
#include "weir/base/mem.h"

#define NAME_BYTES 16u
#define LONG_BYTES 80u
#define SHORT_BYTES 48u

struct ticket_key {
  uint8_t name[NAME_BYTES], aes[32], mac[32];
  size_t half; /* 32 or 16: bytes of aes and mac */
};

struct tls_ticket_keys {
  uint32_t count;
  struct ticket_key rows[];
};

/* key_read: the two forms have their halves in opposite order. */
static bool key_read(struct ticket_key *key, struct span bytes) {
  if (bytes.len != LONG_BYTES && bytes.len != SHORT_BYTES) return false;
  key->half = (bytes.len - NAME_BYTES) / 2;
  bool mac_first = bytes.len == LONG_BYTES;
  memcpy(key->name, bytes.ptr, NAME_BYTES);
  memcpy(mac_first ? key->mac : key->aes, span_from(bytes, NAME_BYTES).ptr, key->half);
  memcpy(mac_first ? key->aes : key->mac, span_from(bytes, NAME_BYTES + key->half).ptr, key->half);
  return true;
}

struct tls_ticket_keys *tls_ticket_keys_new(const struct span *keys, uint32_t count,
                                            struct buf *why) {
  struct tls_ticket_keys *made =
      (struct tls_ticket_keys *)mem_alloc(sizeof(*made) + count * sizeof(made->rows[0]));
  for (uint32_t i = 0; i < count; i++) {
    made->count++;
    if (key_read(&made->rows[i], keys[i])) continue;
    buf_printf(why, "ticket key %u has %zu bytes, not 48 or 80", i + 1, keys[i].len);
    tls_ticket_keys_free(made);
    return NULL;
  }
  return made;
}

void tls_ticket_keys_free(struct tls_ticket_keys *keys) {
  if (!keys) return;
  mem_wipe(keys->rows, keys->count * sizeof(keys->rows[0]));
  mem_free(keys);
}

static const EVP_CIPHER *cipher_of(const struct ticket_key *key) {
  return key->half == 32 ? EVP_aes_256_cbc() : EVP_aes_128_cbc();
}

static bool hmac_init(const struct ticket_key *key, HMAC_CTX *hmac) {
  return HMAC_Init_ex(hmac, key->mac, key->half, EVP_sha256(), NULL) == 1;
}

static int seal(const struct ticket_key *key, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher,
                HMAC_CTX *hmac) {
  memcpy(name, key->name, NAME_BYTES);
  RAND_bytes(iv, 16);
  bool ok = EVP_EncryptInit_ex(cipher, cipher_of(key), NULL, key->aes, iv) && hmac_init(key, hmac);
  return ok ? 1 : -1;
}

/* tls_ticket_keys_key: -1 error, 0 unknown key (a full handshake follows), 1 fine, 2 renew. */
int tls_ticket_keys_key(SSL *ssl, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher,
                        HMAC_CTX *hmac, int encrypt) {
  const struct tls_ticket_keys *keys = tls_of(ssl)->server->tickets;
  if (encrypt) return seal(&keys->rows[0], name, iv, cipher, hmac);
  for (uint32_t i = 0; i < keys->count; i++) {
    const struct ticket_key *key = &keys->rows[i];
    if (CRYPTO_memcmp(name, key->name, NAME_BYTES) != 0) continue;
    bool ok =
        EVP_DecryptInit_ex(cipher, cipher_of(key), NULL, key->aes, iv) && hmac_init(key, hmac);
    return !ok ? -1 : i == 0 ? 1 : 2;
  }
  return 0;
}
