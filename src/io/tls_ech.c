/* tls_ech.c: Encrypted Client Hello on the server's side: keys from PEM, new keys. The library
 * opens the inner ClientHello before tls_select.c sees any, so that certificates, ALPN and all
 * else go by it; where it cannot, they go by the outer one, and the client is told today's keys.
 * Called by tls_server.c, off the data path, and by the command line. */
#include "weir/io/tls_ech.h"

#include <openssl/base64.h>
#include <openssl/bio.h>
#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hpke.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "io/tls_client_auth_priv.h"

#define ECH_EXTENSION 0xfe0du
#define ECH_PEM_MAX (1u << 20)
#define X25519_BYTES 32u

/* reading is a file of keys being read. */
struct reading {
  const struct tls_server *server; /* whose certificates clients are sent back to */
  struct span label;
  struct buf *why;
  SSL_ECH_KEYS *keys;
  EVP_HPKE_KEY *key; /* the last that stood there; NULL: none yet */
  uint32_t lists;
};

static bool fault(struct reading *r, const char *sentence) {
  buf_printf(r->why, "ECH keys " SPAN_FMT ": %s", SPAN_ARG(r->label), sentence);
  ERR_clear_error();
  return false;
}

static bool key_read(struct reading *r, const uint8_t *der, size_t len) {
  CBS cbs;
  uint8_t raw[X25519_BYTES];
  size_t raw_len = sizeof raw;
  CBS_init(&cbs, der, len);
  EVP_PKEY *pkey = EVP_parse_private_key(&cbs);
  bool ok = pkey && CBS_len(&cbs) == 0 && EVP_PKEY_id(pkey) == EVP_PKEY_X25519 &&
            EVP_PKEY_get_raw_private_key(pkey, raw, &raw_len);
  EVP_PKEY_free(pkey);
  EVP_HPKE_KEY_free(r->key);
  r->key = EVP_HPKE_KEY_new();
  check(r->key != NULL);
  ok = ok && EVP_HPKE_KEY_init(r->key, EVP_hpke_x25519_hkdf_sha256(), raw, raw_len);
  OPENSSL_cleanse(raw, sizeof raw);
  return ok || fault(r, "a private key is not X25519 in PKCS#8");
}

/* public_name of an ECHConfig: what stands in the outer ClientHello. */
static bool public_name(CBS contents, struct span *name) {
  CBS skipped, text;
  uint8_t byte;
  uint16_t kem;
  bool ok = CBS_get_u8(&contents, &byte) && CBS_get_u16(&contents, &kem) &&
            CBS_get_u16_length_prefixed(&contents, &skipped) &&
            CBS_get_u16_length_prefixed(&contents, &skipped) && CBS_get_u8(&contents, &byte) &&
            CBS_get_u8_length_prefixed(&contents, &text);
  if (ok) *name = span_of((const char *)CBS_data(&text), CBS_len(&text));
  return ok;
}

static bool unserved(const struct reading *r, const char *what, struct span name) {
  buf_printf(r->why,
             "ECH keys " SPAN_FMT ": no %s the public name \"" SPAN_FMT
             "\"; clients with old keys could not be told the new ones",
             SPAN_ARG(r->label), what, SPAN_ARG(name));
  return false;
}

/* served: clients whose keys are out of date can be told so only under a certificate for the
 * public name (section 6.1.6), and where that name is not refused for want of a row. */
static bool served(struct reading *r, CBS contents) {
  struct span name;
  char canon[TLS_NAME_MAX];
  size_t len = 0;
  if (!public_name(contents, &name)) return fault(r, "an ECHCONFIG is damaged");
  if (!tls_server_serves(r->server, name))
    return unserved(r, "certificate of the listener serves", name);
  bool named = tls_name_canon(name, false, canon, &len);
  if (!named || !tls_auth_refuses(r->server, span_of(canon, len))) return true;
  return unserved(r, "row of tls.client is for", name);
}

static bool list_read(struct reading *r, const uint8_t *der, size_t len) {
  CBS cbs, list, contents;
  CBS_init(&cbs, der, len);
  if (!r->key) return fault(r, "an ECHCONFIG stands before its PRIVATE KEY");
  if (!CBS_get_u16_length_prefixed(&cbs, &list) || CBS_len(&cbs) || !CBS_len(&list))
    return fault(r, "an ECHCONFIG is damaged");
  bool newest = r->lists++ == 0;
  while (CBS_len(&list)) {
    CBS whole = list;
    uint16_t version;
    if (!CBS_get_u16(&list, &version) || !CBS_get_u16_length_prefixed(&list, &contents))
      return fault(r, "an ECHCONFIG is damaged");
    size_t bytes = CBS_len(&whole) - CBS_len(&list);
    if (!SSL_ECH_KEYS_add(r->keys, newest, CBS_data(&whole), bytes, r->key))
      return fault(r, "an ECHCONFIG is not for the key before it, or of a kind that is not known");
    if (!served(r, contents)) return false;
  }
  return true;
}

static bool block_read(struct reading *r, const char *type, const uint8_t *der, size_t len) {
  if (strcmp(type, "PRIVATE KEY") == 0) return key_read(r, der, len);
  if (strcmp(type, "ECHCONFIG") == 0) return list_read(r, der, len);
  return true;
}

static bool blocks_read(struct reading *r, struct span pem) {
  if (pem.len > ECH_PEM_MAX) return fault(r, "it is larger than 1 MiB");
  BIO *bio = BIO_new_mem_buf(pem.len ? pem.ptr : "", (int)pem.len);
  char *type, *header;
  uint8_t *der;
  long len;
  bool ok = true;
  while (ok && PEM_read_bio(bio, &type, &header, &der, &len)) {
    ok = block_read(r, type, der, (size_t)len);
    OPENSSL_free(type);
    OPENSSL_free(header);
    OPENSSL_free(der);
  }
  BIO_free(bio);
  bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!ok) return false;
  if (!end) return fault(r, "a PEM block is damaged (not base64, or cut off)");
  return r->lists > 0 || fault(r, "it must hold PRIVATE KEY and ECHCONFIG blocks: weir ech-keys");
}

bool tls_ech_fill(const struct tls_server *server, struct span pem, struct span label,
                  struct buf *why) {
  struct reading r = {.server = server, .label = label, .why = why, .keys = SSL_ECH_KEYS_new()};
  check(r.keys != NULL);
  bool ok = blocks_read(&r, pem);
  for (uint32_t i = 0; ok && i < server->workers; i++)
    check(SSL_CTX_set1_ech_keys(server->ctx[i], r.keys) == 1);
  EVP_HPKE_KEY_free(r.key);
  SSL_ECH_KEYS_free(r.keys);
  return ok;
}

enum tls_ech tls_ech_of(const struct tls_conn *tls) {
  if (!tls->ech_offered) return TLS_ECH_NONE;
  return SSL_ech_accepted(tls->ssl) ? TLS_ECH_ACCEPTED : TLS_ECH_REFUSED;
}

bool tls_ech_offered(const SSL_CLIENT_HELLO *hello) {
  const uint8_t *data = NULL;
  size_t len = 0;
  return SSL_early_callback_ctx_extension_get(hello, ECH_EXTENSION, &data, &len);
}

/* ---- new keys ---- */

static void pem_put(struct buf *out, const char *type, const uint8_t *der, size_t len) {
  const uint8_t *bytes = NULL;
  size_t bytes_len = 0;
  BIO *bio = BIO_new(BIO_s_mem());
  check(bio && PEM_write_bio(bio, type, "", der, (long)len) > 0 &&
        BIO_mem_contents(bio, &bytes, &bytes_len));
  buf_put(out, span_of((const char *)bytes, bytes_len));
  BIO_free(bio);
}

static void key_put(struct buf *out, const EVP_HPKE_KEY *key) {
  uint8_t raw[EVP_HPKE_MAX_PRIVATE_KEY_LENGTH], *der = NULL;
  size_t raw_len = 0, der_len = 0;
  CBB cbb;
  check(EVP_HPKE_KEY_private_key(key, raw, &raw_len, sizeof raw) == 1);
  EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, raw, raw_len);
  check(pkey && CBB_init(&cbb, 64) && EVP_marshal_private_key(&cbb, pkey) &&
        CBB_finish(&cbb, &der, &der_len));
  pem_put(out, "PRIVATE KEY", der, der_len);
  EVP_PKEY_free(pkey);
  OPENSSL_cleanse(raw, sizeof raw);
  OPENSSL_free(der); /* wiped by it */
}

/* list_of puts one config into a list, which is what files and DNS hold. */
static void list_of(const uint8_t *config, size_t len, uint8_t **list, size_t *list_len) {
  CBB cbb, inner;
  check(CBB_init(&cbb, len + 2) && CBB_add_u16_length_prefixed(&cbb, &inner) &&
        CBB_add_bytes(&inner, config, len) && CBB_finish(&cbb, list, list_len));
}

bool tls_ech_make(struct span public_name, struct buf *pem, struct buf *dns) {
  char name[TLS_NAME_MAX + 1] = "";
  uint8_t id, text[1024], *config = NULL, *list = NULL;
  size_t len = 0, config_len = 0, list_len = 0;
  tls_mem_use();
  if (!tls_name_canon(public_name, false, name, &len)) return false;
  EVP_HPKE_KEY *key = EVP_HPKE_KEY_new();
  RAND_bytes(&id, 1);
  bool ok = key && EVP_HPKE_KEY_generate(key, EVP_hpke_x25519_hkdf_sha256()) &&
            SSL_marshal_ech_config(&config, &config_len, id, key, name, 0);
  if (ok) {
    list_of(config, config_len, &list, &list_len);
    key_put(pem, key);
    pem_put(pem, "ECHCONFIG", list, list_len);
    check(list_len < sizeof text / 2);
    buf_put(dns, span_of((const char *)text, EVP_EncodeBlock(text, list, list_len)));
  }
  EVP_HPKE_KEY_free(key);
  OPENSSL_free(config);
  OPENSSL_free(list);
  ERR_clear_error();
  return ok && !pem->full && !dns->full;
}
