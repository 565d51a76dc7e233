/* tls_tickets.c: the keys of session tickets: one table for the process, three generations. Sealed
 * with the newest, opened with any; a ticket of an older one is renewed. AES-256-CBC with
 * HMAC-SHA-256, as RFC 5077 section 4 recommends; that form, not the AEAD one, because only it can
 * ask the library for a renewal in TLS 1.2. Handshakes take no lock: the table is read under a
 * sequence number, so a rotation makes a reader at most read again. Called by the library on
 * workers, by control for the rotation. */
#include <openssl/cipher.h>
#include <openssl/digest.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <pthread.h>

#include "io/tls_priv.h"
#include "weir/base/mem.h"

#define KEY_GENERATIONS 3

/* ticket_key is as the library wants it: name in the ticket, AES key, HMAC key. */
struct ticket_key {
  uint8_t name[16], aes[32], mac[32];
};
#define KEY_WORDS (sizeof(struct ticket_key) / sizeof(uint64_t))
_Static_assert(sizeof(struct ticket_key) % sizeof(uint64_t) == 0, "keys are copied by words");

/* tickets: the slot of the newest key is (sequence / 2) % KEY_GENERATIONS; an odd sequence marks a
 * rotation in progress. 0: tls_tickets_init was not called. */
static struct {
  _Atomic uint64_t sequence;
  _Atomic uint64_t words[KEY_GENERATIONS][KEY_WORDS];
} tickets;
static pthread_mutex_t writers = PTHREAD_MUTEX_INITIALIZER;

/* slot_read copies a key if no rotation touched the table meanwhile. */
static bool slot_read(uint64_t sequence, uint64_t slot, struct ticket_key *key) {
  uint64_t words[KEY_WORDS];
  for (size_t i = 0; i < KEY_WORDS; i++) {
    words[i] = atomic_load_explicit(&tickets.words[slot][i], memory_order_acquire);
  }
  if (atomic_load_explicit(&tickets.sequence, memory_order_relaxed) != sequence) return false;
  memcpy(key, words, sizeof(*key));
  return true;
}

/* key_at copies the key that is `age` rotations old; false when there is none yet. Waits for a
 * rotation in progress: a few hundred stores, once in hours. */
static bool key_at(uint64_t age, struct ticket_key *key) {
  for (;;) {
    uint64_t sequence = atomic_load_explicit(&tickets.sequence, memory_order_acquire);
    uint64_t generation = sequence / 2;
    if (generation <= age) return false;
    if (sequence % 2 == 1) continue;
    if (slot_read(sequence, (generation - age) % KEY_GENERATIONS, key)) return true;
  }
}

/* rotate writes the next key over the oldest one; under the writers' lock. */
static void rotate(void) {
  struct ticket_key key;
  uint64_t words[KEY_WORDS];
  RAND_bytes((uint8_t *)&key, sizeof(key));
  memcpy(words, &key, sizeof(key));
  uint64_t sequence = atomic_load_explicit(&tickets.sequence, memory_order_relaxed);
  uint64_t slot = (sequence / 2 + 1) % KEY_GENERATIONS;
  atomic_store_explicit(&tickets.sequence, sequence + 1, memory_order_relaxed);
  for (size_t i = 0; i < KEY_WORDS; i++) {
    atomic_store_explicit(&tickets.words[slot][i], words[i], memory_order_release);
  }
  atomic_store_explicit(&tickets.sequence, sequence + 2, memory_order_release);
  mem_wipe(&key, sizeof(key));
  mem_wipe(words, sizeof(words));
}

void tls_tickets_init(void) {
  pthread_mutex_lock(&writers);
  if (atomic_load_explicit(&tickets.sequence, memory_order_relaxed) == 0) rotate();
  pthread_mutex_unlock(&writers);
}

void tls_tickets_rotate(void) {
  pthread_mutex_lock(&writers);
  rotate();
  pthread_mutex_unlock(&writers);
}

static bool seal_init(const struct ticket_key *key, uint8_t *iv, EVP_CIPHER_CTX *cipher,
                      HMAC_CTX *hmac) {
  RAND_bytes(iv, 16);
  return EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->aes, iv) &&
         HMAC_Init_ex(hmac, key->mac, sizeof(key->mac), EVP_sha256(), NULL);
}

static bool open_init(const struct ticket_key *key, const uint8_t *iv, EVP_CIPHER_CTX *cipher,
                      HMAC_CTX *hmac) {
  return EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->aes, iv) &&
         HMAC_Init_ex(hmac, key->mac, sizeof(key->mac), EVP_sha256(), NULL);
}

/* tls_tickets_key: -1 error, 0 unknown key (a full handshake follows), 1 fine, 2 renew. */
int tls_tickets_key(SSL *ssl, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher, HMAC_CTX *hmac,
                    int encrypt) {
  (void)ssl;
  struct ticket_key key;
  int result = encrypt ? -1 : 0;
  if (encrypt && key_at(0, &key)) {
    memcpy(name, key.name, sizeof(key.name));
    result = seal_init(&key, iv, cipher, hmac) ? 1 : -1;
  }
  for (uint64_t age = 0; !encrypt && age < KEY_GENERATIONS && result == 0; age++) {
    if (!key_at(age, &key)) break;
    if (CRYPTO_memcmp(name, key.name, sizeof(key.name)) != 0) continue;
    result = !open_init(&key, iv, cipher, hmac) ? -1 : age == 0 ? 1 : 2;
  }
  mem_wipe(&key, sizeof(key));
  return result;
}
