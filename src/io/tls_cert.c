/* tls_cert.c: one certificate chain and its key from PEM (RFC 7468): PKCS#8, SEC1 and PKCS#1 keys
 * without a password, RSA of 2048 to 8192 bits and ECDSA P-256 or P-384. Checks that the key
 * belongs to the leaf and that the chain is in order; does not verify trust or expiry. Called by
 * tls_server.c, off the data path. Every fault is a sentence that names the file. */
#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/bytestring.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "io/tls_priv.h"

/* TLS_PEM_MAX bounds a file of certificates or a key, in bytes. */
#define TLS_PEM_MAX (1u << 20)
#define TLS_CERT_NAMES_MAX 4096

/* pem_block is one decoded block; owned until pem_block_free. */
struct pem_block {
  char *type, *header;
  uint8_t *der;
  long der_len;
};

static void pem_block_free(struct pem_block *block) {
  OPENSSL_free(block->type);
  OPENSSL_free(block->header);
  OPENSSL_free(block->der);
  *block = (struct pem_block){0};
}

static void fault(struct buf *why, const struct tls_cert *cert, const char *sentence) {
  buf_printf(why, "certificate " SPAN_FMT ": %s", SPAN_ARG(cert->label), sentence);
  ERR_clear_error();
}

static BIO *pem_open(struct span pem) {
  check(pem.len <= TLS_PEM_MAX);
  return BIO_new_mem_buf(pem.len ? pem.ptr : "", (int)pem.len);
}

/* pem_next reads the next block: 1, 0 at the end of the file, -1 when a block is damaged. */
static int pem_next(BIO *bio, struct pem_block *block) {
  *block = (struct pem_block){0};
  ERR_clear_error();
  if (PEM_read_bio(bio, &block->type, &block->header, &block->der, &block->der_len)) return 1;
  bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  return end ? 0 : -1;
}

static bool type_is(const struct pem_block *block, const char *type) {
  return span_eq(span_str(block->type), span_str(type));
}

/* chain_add keeps one certificate; false with a sentence. */
static bool chain_add(struct tls_cert *cert, const struct pem_block *block,
                      CRYPTO_BUFFER_POOL *pool, struct buf *why) {
  if (!type_is(block, "CERTIFICATE")) return true;
  if (cert->chain_count == TLS_CHAIN_MAX) {
    fault(why, cert,
          "the chain has more than 10 certificates; leave out what clients do not need");
    return false;
  }
  CRYPTO_BUFFER *der = CRYPTO_BUFFER_new(block->der, (size_t)block->der_len, pool);
  check(der != NULL);
  cert->chain[cert->chain_count++] = der;
  return true;
}

static bool chain_parse(struct tls_cert *cert, struct span pem, CRYPTO_BUFFER_POOL *pool,
                        struct buf *why) {
  BIO *bio = pem_open(pem);
  struct pem_block block;
  bool ok = true;
  int more = pem_next(bio, &block);
  while (more > 0 && ok) {
    ok = chain_add(cert, &block, pool, why);
    pem_block_free(&block);
    if (ok) more = pem_next(bio, &block);
  }
  BIO_free(bio);
  if (ok && more < 0) {
    fault(why, cert, "a PEM block of the certificate file is damaged (not base64, or cut off)");
    return false;
  }
  if (ok && cert->chain_count == 0) {
    fault(why, cert,
          "no certificate in the file; it must hold BEGIN CERTIFICATE blocks in PEM, "
          "the server's own first");
    return false;
  }
  return ok;
}

/* key_decode reads the three unencrypted forms; NULL for what is none of them or has bytes
 * left. */
static EVP_PKEY *key_decode(const struct pem_block *block) {
  CBS der;
  CBS_init(&der, block->der, (size_t)block->der_len);
  EVP_PKEY *key = NULL;
  if (type_is(block, "PRIVATE KEY")) {
    key = EVP_parse_private_key(&der);
  } else if (type_is(block, "RSA PRIVATE KEY")) {
    RSA *rsa = RSA_parse_private_key(&der);
    key = EVP_PKEY_new();
    if (!rsa || !EVP_PKEY_assign_RSA(key, rsa)) {
      EVP_PKEY_free(key);
      key = NULL;
    }
  } else if (type_is(block, "EC PRIVATE KEY")) {
    EC_KEY *ec = EC_KEY_parse_private_key(&der, NULL);
    key = EVP_PKEY_new();
    if (!ec || !EVP_PKEY_assign_EC_KEY(key, ec)) {
      EVP_PKEY_free(key);
      key = NULL;
    }
  }
  if (key && CBS_len(&der) != 0) {
    EVP_PKEY_free(key);
    key = NULL;
  }
  return key;
}

static bool key_take(struct tls_cert *cert, const struct pem_block *block, struct buf *why) {
  bool encrypted =
      type_is(block, "ENCRYPTED PRIVATE KEY") || strstr(block->header, "ENCRYPTED") != NULL;
  if (encrypted) {
    fault(why, cert,
          "its key is protected by a password; store the key without one (openssl pkey "
          "-in KEY -out NEW) in a file that only weir may read");
    return false;
  }
  cert->pkey = key_decode(block);
  if (cert->pkey) return true;
  fault(why, cert,
        "its key cannot be read; PKCS#8, SEC1 and PKCS#1 keys in PEM are known, of type "
        "RSA or ECDSA");
  return false;
}

static bool key_parse(struct tls_cert *cert, struct span pem, struct buf *why) {
  BIO *bio = pem_open(pem);
  struct pem_block block;
  bool ok = true;
  int more = pem_next(bio, &block);
  while (more > 0 && ok && !cert->pkey) {
    size_t type_len = strlen(block.type);
    if (span_ends(span_of(block.type, type_len), SPAN_LIT("PRIVATE KEY"))) {
      ok = key_take(cert, &block, why);
    }
    pem_block_free(&block);
    if (ok && !cert->pkey) more = pem_next(bio, &block);
  }
  BIO_free(bio);
  if (!ok || cert->pkey) return ok;
  fault(why, cert,
        more < 0 ? "a PEM block of the key file is damaged (not base64, or cut off)"
                 : "no private key in the key file; it must hold a PRIVATE KEY block "
                   "in PEM");
  return false;
}

/* key_kind tells what we serve; false with a sentence. */
static bool key_kind(struct tls_cert *cert, struct buf *why) {
  int id = EVP_PKEY_id(cert->pkey), bits = EVP_PKEY_bits(cert->pkey);
  if (id == EVP_PKEY_RSA && bits >= 2048 && bits <= 8192) {
    cert->key = TLS_KEY_RSA;
    return true;
  }
  int curve = 0;
  if (id == EVP_PKEY_EC) {
    curve = EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(cert->pkey)));
  }
  if (curve == NID_X9_62_prime256v1 || curve == NID_secp384r1) {
    cert->key = curve == NID_secp384r1 ? TLS_KEY_P384 : TLS_KEY_P256;
    return true;
  }
  buf_printf(why,
             "certificate " SPAN_FMT
             ": its key (%s, %d bits) is not served; use ECDSA P-256 or "
             "P-384, or RSA of 2048 to 8192 bits",
             SPAN_ARG(cert->label),
             id == EVP_PKEY_RSA  ? "RSA"
             : id == EVP_PKEY_EC ? "ECDSA on another curve"
                                 : "another type",
             bits);
  return false;
}

/* leaf_check: parses, belongs to the key; notes the expiry. */
static bool leaf_check(struct tls_cert *cert, X509 *leaf, struct buf *why) {
  EVP_PKEY *public = X509_get_pubkey(leaf);
  bool match = public && EVP_PKEY_cmp(public, cert->pkey) == 1;
  EVP_PKEY_free(public);
  if (!match) {
    fault(why, cert,
          "its key belongs to another certificate (the public keys differ); give the "
          "key that it was issued for, and put the server's own certificate first");
    return false;
  }
  ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
  int days = 0, seconds = 0;
  bool dated = ASN1_TIME_diff(&days, &seconds, epoch, X509_get0_notAfter(leaf)) == 1;
  ASN1_TIME_free(epoch);
  if (!dated) {
    fault(why, cert, "its expiry cannot be read");
    return false;
  }
  cert->not_after = (int64_t)days * 86400 + seconds;
  return true;
}

/* order_check: each certificate was issued by the next one (RFC 5246 section 7.4.2). */
static bool order_check(const struct tls_cert *cert, X509 *const *chain, struct buf *why) {
  for (uint32_t i = 0; i + 1 < cert->chain_count; i++) {
    if (X509_NAME_cmp(X509_get_issuer_name(chain[i]), X509_get_subject_name(chain[i + 1])) == 0) {
      continue;
    }
    buf_printf(why,
               "certificate " SPAN_FMT
               ": the chain is out of order: certificate %u is not the "
               "issuer of certificate %u; put the server's own first, then its issuer, and so on",
               SPAN_ARG(cert->label), i + 2, i + 1);
    return false;
  }
  return true;
}

/* name_add appends the canonical form to list, which has room. */
static bool name_add(struct span *list, uint32_t *count, struct arena *arena, struct span raw) {
  char canon[TLS_NAME_MAX];
  size_t len = 0;
  if (!tls_name_canon(raw, true, canon, &len)) return false;
  list[(*count)++] = arena_copy(arena, span_of(canon, len), NULL);
  return true;
}

/* names_given takes the configuration's list, where a bad name is a fault. */
static bool names_given(struct tls_cert *cert, const struct tls_cert_conf *conf,
                        struct arena *arena, struct buf *why) {
  cert->names_given = true;
  cert->names = (struct span *)arena_zalloc(arena, conf->name_count * sizeof(struct span));
  check(cert->names != NULL);
  for (uint32_t i = 0; i < conf->name_count; i++) {
    if (name_add(cert->names, &cert->name_count, arena, conf->names[i])) continue;
    buf_printf(why,
               "certificate " SPAN_FMT ": \"" SPAN_FMT
               "\" is no host name; give names like "
               "example.com or *.example.com",
               SPAN_ARG(cert->label), SPAN_ARG(conf->names[i]));
    return false;
  }
  return true;
}

static void address_add(struct tls_cert *cert, struct arena *arena, const ASN1_STRING *ip) {
  char text[INET6_ADDRSTRLEN];
  int len = ASN1_STRING_length(ip);
  int family = len == 4 ? AF_INET : AF_INET6;
  if (len != 4 && len != 16) return;
  if (!inet_ntop(family, ASN1_STRING_get0_data(ip), text, sizeof(text))) return;
  cert->own[cert->own_count++] = arena_copy(arena, span_str(text), NULL);
}

/* names_own takes the names of the certificate, DNS names first; what is no host name cannot be
 * asked for and is left out. Unless names are given it serves the DNS names; one without any
 * serves as the default or for clients without SNI. */
static void names_own(struct tls_cert *cert, X509 *leaf, struct arena *arena) {
  GENERAL_NAMES *alt = (GENERAL_NAMES *)X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
  ERR_clear_error();
  if (!alt) return;
  size_t count = sk_GENERAL_NAME_num(alt);
  if (count > TLS_CERT_NAMES_MAX) count = TLS_CERT_NAMES_MAX;
  cert->own = (struct span *)arena_zalloc(arena, (count + 1) * sizeof(struct span));
  check(cert->own != NULL);
  for (size_t i = 0; i < count; i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(alt, i);
    if (name->type != GEN_DNS) continue;
    const char *bytes = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
    struct span raw = span_of(bytes, (size_t)ASN1_STRING_length(name->d.dNSName));
    (void)name_add(cert->own, &cert->own_count, arena, raw);
  }
  if (!cert->names_given) {
    cert->names = cert->own;
    cert->name_count = cert->own_count;
  }
  for (size_t i = 0; i < count; i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(alt, i);
    if (name->type == GEN_IPADD) address_add(cert, arena, name->d.iPAddress);
  }
  GENERAL_NAMES_free(alt);
}

static bool chain_decode(const struct tls_cert *cert, X509 **chain, struct buf *why) {
  for (uint32_t i = 0; i < cert->chain_count; i++) {
    chain[i] = X509_parse_from_buffer(cert->chain[i]);
    if (chain[i]) continue;
    buf_printf(why, "certificate " SPAN_FMT ": certificate %u of the file is no X.509 certificate",
               SPAN_ARG(cert->label), i + 1);
    ERR_clear_error();
    return false;
  }
  return true;
}

bool tls_cert_parse(struct tls_cert *cert, const struct tls_cert_conf *conf,
                    CRYPTO_BUFFER_POOL *pool, struct arena *arena, struct buf *why) {
  cert->label = arena_copy(arena, conf->label, NULL);
  cert->is_default = conf->is_default;
  if (conf->cert_pem.len > TLS_PEM_MAX || conf->key_pem.len > TLS_PEM_MAX) {
    fault(why, cert, "the certificate or key file is larger than 1 MiB");
    return false;
  }
  if (!chain_parse(cert, conf->cert_pem, pool, why)) return false;
  if (!key_parse(cert, conf->key_pem, why) || !key_kind(cert, why)) return false;
  X509 *chain[TLS_CHAIN_MAX] = {NULL};
  bool ok = chain_decode(cert, chain, why) && leaf_check(cert, chain[0], why) &&
            order_check(cert, chain, why);
  if (ok && conf->name_count > 0) ok = names_given(cert, conf, arena, why);
  if (ok) names_own(cert, chain[0], arena);
  for (uint32_t i = 0; i < cert->chain_count; i++) X509_free(chain[i]);
  ERR_clear_error();
  return ok;
}

void tls_cert_fini(struct tls_cert *cert) {
  for (uint32_t i = 0; i < cert->chain_count; i++) CRYPTO_BUFFER_free(cert->chain[i]);
  EVP_PKEY_free(cert->pkey);
  cert->chain_count = 0;
  cert->pkey = NULL;
}
