/* tls_self_signed.c: a certificate for `weir demo` and tests: ECDSA P-256, signed by itself, with
 * the given names as subject alternative names (RFC 5280 section 4.2.1.6). No authority: browsers
 * warn. Off the data path. */
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "io/tls_priv.h"
#include "weir/base/addr.h"

static EVP_PKEY *key_make(void) {
  EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
  EVP_PKEY *key = EVP_PKEY_new();
  check(ec && key && EC_KEY_generate_key(ec) && EVP_PKEY_assign_EC_KEY(key, ec));
  return key;
}

/* san_text writes "DNS:a,IP:127.0.0.1": the library's configuration form. */
static bool san_text(const struct span *names, uint32_t name_count, struct buf *out) {
  for (uint32_t i = 0; i < name_count; i++) {
    char canon[TLS_NAME_MAX];
    size_t len = 0;
    struct addr addr;
    if (i > 0) buf_char(out, ',');
    if (addr_from_ip(names[i], 1, &addr)) {
      buf_lit(out, "IP:");
    } else if (tls_name_canon(names[i], true, canon, &len)) {
      buf_lit(out, "DNS:");
    } else {
      return false;
    }
    buf_put(out, names[i]);
  }
  buf_char(out, '\0');
  return name_count > 0 && !out->full;
}

static bool ext_add(X509 *cert, int nid, const char *value) {
  X509V3_CTX ctx;
  X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
  X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, &ctx, nid, (char *)value);
  bool ok = ext && X509_add_ext(cert, ext, -1);
  X509_EXTENSION_free(ext);
  return ok;
}

static void serial_set(X509 *cert) {
  uint8_t bytes[16];
  RAND_bytes(bytes, sizeof(bytes));
  bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 1); /* positive and not zero */
  BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
  check(number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)));
  BN_free(number);
}

static bool cert_fill(X509 *cert, EVP_PKEY *key, const char *san, uint32_t days) {
  serial_set(cert);
  X509_NAME *name = X509_get_subject_name(cert);
  bool ok =
      X509_set_version(cert, 2) && /* v3 */
      X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"weir", -1, -1, 0) &&
      X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key) &&
      X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
      X509_gmtime_adj(X509_getm_notAfter(cert), (long)days * 86400) &&
      ext_add(cert, NID_basic_constraints, "critical,CA:FALSE") &&
      ext_add(cert, NID_key_usage, "critical,digitalSignature") &&
      ext_add(cert, NID_ext_key_usage, "serverAuth") && ext_add(cert, NID_subject_alt_name, san);
  return ok && X509_sign(cert, key, EVP_sha256()) > 0;
}

/* bio_drain appends what was written to a memory BIO. */
static void bio_drain(BIO *bio, struct buf *out) {
  const uint8_t *bytes = NULL;
  size_t len = 0;
  check(BIO_mem_contents(bio, &bytes, &len));
  buf_put(out, span_of((const char *)bytes, len));
}

static void pem_write(X509 *cert, EVP_PKEY *key, struct buf *cert_pem, struct buf *key_pem) {
  BIO *bio = BIO_new(BIO_s_mem());
  check(bio && PEM_write_bio_X509(bio, cert));
  bio_drain(bio, cert_pem);
  BIO_free(bio);
  bio = BIO_new(BIO_s_mem());
  check(bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL));
  bio_drain(bio, key_pem);
  BIO_free(bio);
}

bool tls_self_signed(const struct span *names, uint32_t name_count, uint32_t days,
                     struct buf *cert_pem, struct buf *key_pem) {
  char text[4096];
  struct buf san = buf_of(text, sizeof(text));
  tls_mem_use();
  if (!san_text(names, name_count, &san)) return false;
  EVP_PKEY *key = key_make();
  X509 *cert = X509_new();
  bool ok = cert && cert_fill(cert, key, text, days);
  if (ok) pem_write(cert, key, cert_pem, key_pem);
  X509_free(cert);
  EVP_PKEY_free(key);
  ERR_clear_error();
  return ok && !cert_pem->full && !key_pem->full;
}
