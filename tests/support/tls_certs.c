/* tls_certs.c: certificates and keys for TLS tests, made by the library at run time. */
#include <openssl/bio.h>
#include <openssl/curve25519.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "tls_harness.h"
#include "weir/base/mem.h"

static EVP_PKEY *key_ec(int curve) {
  EC_KEY *ec = EC_KEY_new_by_curve_name(curve);
  EVP_PKEY *key = EVP_PKEY_new();
  check(ec && EC_KEY_generate_key(ec) && EVP_PKEY_assign_EC_KEY(key, ec));
  return key;
}

static EVP_PKEY *key_rsa(int bits) {
  RSA *rsa = RSA_new();
  BIGNUM *e = BN_new();
  EVP_PKEY *key = EVP_PKEY_new();
  check(BN_set_word(e, RSA_F4) && RSA_generate_key_ex(rsa, bits, e, NULL) &&
        EVP_PKEY_assign_RSA(key, rsa));
  BN_free(e);
  return key;
}

static EVP_PKEY *key_make(enum th_key kind) {
  uint8_t public[32], private[64];
  switch (kind) {
    case TH_P256: return key_ec(NID_X9_62_prime256v1);
    case TH_P384: return key_ec(NID_secp384r1);
    case TH_P521: return key_ec(NID_secp521r1);
    case TH_RSA2048: return key_rsa(2048);
    case TH_RSA4096: return key_rsa(4096);
    case TH_RSA1024: return key_rsa(1024);
    case TH_ED25519:
      ED25519_keypair(public, private);
      return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private, 32);
  }
  return NULL;
}

static X509 *cert_new(EVP_PKEY *key, const char *cn, const char *san, long end_s) {
  X509 *cert = X509_new();
  X509_NAME *name = X509_get_subject_name(cert);
  check(X509_set_version(cert, 2) && ASN1_INTEGER_set(X509_get_serialNumber(cert), 7) &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)cn, -1, -1, 0) &&
        X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key) &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -864000) &&
        X509_gmtime_adj(X509_getm_notAfter(cert), end_s));
  if (san) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, &ctx, NID_subject_alt_name, (char *)san);
    check(ext && X509_add_ext(cert, ext, -1));
    X509_EXTENSION_free(ext);
  }
  return cert;
}

static char *bio_text(BIO *bio) {
  const uint8_t *bytes = NULL;
  size_t len = 0;
  check(BIO_mem_contents(bio, &bytes, &len));
  char *text = mem_str(span_of((const char *)bytes, len));
  BIO_free(bio);
  return text;
}

static char *key_pem(EVP_PKEY *key) {
  BIO *bio = BIO_new(BIO_s_mem());
  check(PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL));
  return bio_text(bio);
}

struct th_cert th_cert_make(enum th_key kind, const char *san, long end_s) {
  EVP_PKEY *key = key_make(kind);
  X509 *cert = cert_new(key, "test", san, end_s);
  check(X509_sign(cert, key, kind == TH_ED25519 ? NULL : EVP_sha256()) > 0);
  BIO *bio = BIO_new(BIO_s_mem());
  check(PEM_write_bio_X509(bio, cert));
  struct th_cert out = {.cert = bio_text(bio), .key = key_pem(key)};
  X509_free(cert);
  EVP_PKEY_free(key);
  return out;
}

struct th_cert th_cert_agree_only(void) {
  EVP_PKEY *key = key_make(TH_P256);
  X509 *cert = cert_new(key, "test", "DNS:a.example", 86400);
  X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, NULL, NID_key_usage, "critical,keyAgreement");
  check(ext && X509_add_ext(cert, ext, -1) && X509_sign(cert, key, EVP_sha256()) > 0);
  BIO *bio = BIO_new(BIO_s_mem());
  check(PEM_write_bio_X509(bio, cert));
  struct th_cert out = {.cert = bio_text(bio), .key = key_pem(key)};
  X509_EXTENSION_free(ext);
  X509_free(cert);
  EVP_PKEY_free(key);
  return out;
}

struct th_cert th_chain_make(const char *san, bool reversed) {
  EVP_PKEY *ca_key = key_make(TH_P256), *key = key_make(TH_P256);
  X509 *ca = cert_new(ca_key, "authority", NULL, 86400), *leaf = cert_new(key, "leaf", san, 86400);
  check(X509_sign(ca, ca_key, EVP_sha256()) > 0);
  check(X509_set_issuer_name(leaf, X509_get_subject_name(ca)));
  check(X509_sign(leaf, ca_key, EVP_sha256()) > 0);
  BIO *bio = BIO_new(BIO_s_mem());
  check(PEM_write_bio_X509(bio, leaf));
  if (reversed) check(PEM_write_bio_X509(bio, leaf)); /* the leaf did not issue itself */
  check(PEM_write_bio_X509(bio, ca));
  struct th_cert out = {.cert = bio_text(bio), .key = key_pem(key)};
  X509_free(ca);
  X509_free(leaf);
  EVP_PKEY_free(ca_key);
  EVP_PKEY_free(key);
  return out;
}

void th_cert_free(struct th_cert *cert) {
  mem_free(cert->cert);
  mem_free(cert->key);
  *cert = (struct th_cert){0};
}

static EVP_PKEY *key_read(const struct th_cert *cert) {
  BIO *bio = BIO_new_mem_buf(cert->key, -1);
  EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
  BIO_free(bio);
  check(key != NULL);
  return key;
}

char *th_key_old(const struct th_cert *cert) {
  EVP_PKEY *key = key_read(cert);
  BIO *bio = BIO_new(BIO_s_mem());
  if (EVP_PKEY_id(key) == EVP_PKEY_RSA) {
    check(PEM_write_bio_RSAPrivateKey(bio, EVP_PKEY_get0_RSA(key), NULL, NULL, 0, NULL, NULL));
  } else {
    check(PEM_write_bio_ECPrivateKey(bio, EVP_PKEY_get0_EC_KEY(key), NULL, NULL, 0, NULL, NULL));
  }
  EVP_PKEY_free(key);
  return bio_text(bio);
}

char *th_key_encrypted(const struct th_cert *cert) {
  EVP_PKEY *key = key_read(cert);
  BIO *bio = BIO_new(BIO_s_mem());
  check(PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL));
  EVP_PKEY_free(key);
  return bio_text(bio);
}
