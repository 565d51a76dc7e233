/* tls_chain.c: certificates that a peer showed, and whether one that is trusted has issued them
 * (RFC 5280): the same for endpoints (tls_verify.c) and for clients (tls_client_cert.c). What is
 * in the store is trusted as it is, an intermediate one too, but for a key that is too short.
 * Inside the handshake, on the worker's thread. Asks nobody: what is revoked stands in the
 * store's CRLs. */
#include <openssl/bytestring.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/obj.h>
#include <openssl/pool.h>

#include "io/tls_chain_priv.h"

/* NAMES_MAX bytes are for subjects and issuers of all certificates: of thousands of pieces they
 * take milliseconds to read, before anybody knows whether they are to be believed. */
#define NAMES_MAX 8192u

/* names_take gives how much is left of `left` after the names of a certificate; false: it cannot
 * be read, or has more. RFC 5280 section 4.1. */
static bool names_take(const CRYPTO_BUFFER *der, size_t *left) {
  const CBS_ASN1_TAG version = CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED | 0;
  CBS in, cert, body, issuer, subject;
  CRYPTO_BUFFER_init_CBS(der, &in);
  bool read = CBS_get_asn1(&in, &cert, CBS_ASN1_SEQUENCE) &&
              CBS_get_asn1(&cert, &body, CBS_ASN1_SEQUENCE) &&
              CBS_get_optional_asn1(&body, NULL, NULL, version) &&
              CBS_get_asn1(&body, NULL, CBS_ASN1_INTEGER) &&
              CBS_get_asn1(&body, NULL, CBS_ASN1_SEQUENCE) && /* the signature's algorithm */
              CBS_get_asn1(&body, &issuer, CBS_ASN1_SEQUENCE) &&
              CBS_get_asn1(&body, NULL, CBS_ASN1_SEQUENCE) && /* the validity */
              CBS_get_asn1(&body, &subject, CBS_ASN1_SEQUENCE);
  if (!read || CBS_len(&issuer) > *left || CBS_len(&subject) > *left - CBS_len(&issuer))
    return false;
  *left -= CBS_len(&issuer) + CBS_len(&subject);
  return true;
}

bool tls_shown_read(struct tls_shown *shown, const STACK_OF(CRYPTO_BUFFER) * chain) {
  size_t count = chain ? sk_CRYPTO_BUFFER_num(chain) : 0, left = NAMES_MAX;
  shown->others = sk_X509_new_null();
  check(shown->others != NULL);
  if (count == 0 || count > TLS_CHAIN_MAX) return false;
  for (size_t i = 0; i < count; i++) {
    CRYPTO_BUFFER *der = sk_CRYPTO_BUFFER_value(chain, i);
    X509 *one = names_take(der, &left) ? X509_parse_from_buffer(der) : NULL;
    if (!one) return false;
    if (i == 0)
      shown->leaf = one;
    else
      check(sk_X509_push(shown->others, one) > 0);
  }
  return true;
}

void tls_shown_free(struct tls_shown *shown) {
  X509_free(shown->leaf);
  sk_X509_pop_free(shown->others, X509_free);
}

struct tls_verdict tls_verdict_unreadable(enum end end) {
  return (struct tls_verdict){
      end, "the certificates cannot be read, are more than 10, or have more than 8 KiB of names",
      SSL_AD_BAD_CERTIFICATE};
}

enum ssl_verify_result_t tls_verdict_give(struct tls_conn *tls, const struct tls_verdict *v,
                                          uint8_t *alert) {
  ERR_clear_error();
  if (v->end == END_OK) return ssl_verify_ok;
  tls->end = (uint16_t)v->end;
  tls->why = v->why;
  *alert = (uint8_t)v->alert;
  return ssl_verify_invalid;
}

bool tls_key_digest(X509 *cert, uint8_t out[SHA256_DIGEST_LENGTH]) {
  uint8_t *der = NULL;
  int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
  if (len <= 0) return false;
  SHA256(der, (size_t)len, out);
  OPENSSL_free(der);
  return true;
}

/* on_fault lets the certificate that ends the chain go without a CRL of its issuer, or with one
 * that is for other certificates (leaves only, say): that it is trusted is the configuration's
 * word, not its issuer's. One that a CRL revokes is refused all the same. */
static int on_fault(int ok, X509_STORE_CTX *ctx) {
  int error = X509_STORE_CTX_get_error(ctx), depth = X509_STORE_CTX_get_error_depth(ctx);
  bool no_crl = error == X509_V_ERR_UNABLE_TO_GET_CRL ||
                error == X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER ||
                error == X509_V_ERR_DIFFERENT_CRL_SCOPE;
  size_t count = sk_X509_num(X509_STORE_CTX_get0_chain(ctx));
  if (!ok && no_crl && depth > 0 && (size_t)depth + 1 == count) return 1;
  return ok;
}

static int64_t earlier(int64_t a, const ASN1_TIME *b) {
  int64_t time;
  return b && ASN1_TIME_to_posix(b, &time) && time < a ? time : a;
}

/* chain_ends is when the first certificate of the chain expires. */
static int64_t chain_ends(const STACK_OF(X509) * chain) {
  int64_t ends = INT64_MAX;
  for (size_t i = 0; i < sk_X509_num(chain); i++)
    ends = earlier(ends, X509_get0_notAfter(sk_X509_value(chain, i)));
  return ends;
}

/* between is how many stand between the leaf and the one that is trusted. */
static uint32_t between(const STACK_OF(X509) * chain) {
  size_t count = sk_X509_num(chain);
  return count > 2 ? (uint32_t)count - 2 : 0;
}

/* ---- what is too weak ---- */

/* RSA_BITS_MIN and DIGEST_MIN (SHA-224) are 112 bits of security, the least that NIST SP 800-57
 * part 1 still allows; the library has no floor of its own. */
#define RSA_BITS_MIN 2048
#define DIGEST_MIN 28u

/* weak_key: in curves that the library knows, a key is long enough. */
static int weak_key(X509 *cert) {
  EVP_PKEY *key = X509_get_pubkey(cert);
  if (!key) return X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY;
  int kind = EVP_PKEY_id(key), bits = EVP_PKEY_bits(key);
  EVP_PKEY_free(key);
  bool curve = kind != EVP_PKEY_RSA && kind != EVP_PKEY_RSA_PSS && kind != EVP_PKEY_DSA;
  return curve || bits >= RSA_BITS_MIN ? X509_V_OK : TLS_CHAIN_WEAK_KEY;
}

/* pss_digest: RSASSA-PSS names its digest among its parameters, and SHA-1 by none (RFC 4055
 * section 3.1). */
static int pss_digest(const X509 *cert) {
  const X509_ALGOR *algorithm = X509_get0_tbs_sigalg(cert);
  const void *value = NULL;
  int kind = V_ASN1_UNDEF, nid = NID_sha1;
  X509_ALGOR_get0(NULL, &kind, &value, algorithm);
  if (kind != V_ASN1_SEQUENCE) return NID_undef;
  const ASN1_STRING *text = (const ASN1_STRING *)value;
  const uint8_t *at = ASN1_STRING_get0_data(text);
  RSA_PSS_PARAMS *pss = d2i_RSA_PSS_PARAMS(NULL, &at, ASN1_STRING_length(text));
  if (!pss) return NID_undef;
  if (pss->hashAlgorithm) nid = OBJ_obj2nid(pss->hashAlgorithm->algorithm);
  RSA_PSS_PARAMS_free(pss);
  return nid;
}

/* weak_signature: one by EdDSA has no digest that could be chosen; of any other the digest has to
 * be known. */
static int weak_signature(const X509 *cert) {
  int nid = X509_get_signature_nid(cert), digest = NID_undef, key = NID_undef;
  if (!OBJ_find_sigid_algs(nid, &digest, &key)) return TLS_CHAIN_WEAK_SIGNATURE;
  if (nid == NID_rsassaPss) digest = pss_digest(cert);
  else if (digest == NID_undef) return X509_V_OK;
  const EVP_MD *md = EVP_get_digestbynid(digest);
  return md && EVP_MD_size(md) >= DIGEST_MIN ? X509_V_OK : TLS_CHAIN_WEAK_SIGNATURE;
}

/* weakness looks at every key of a chain, and at every signature but that of the last certificate,
 * which is trusted whoever has signed it. */
static int weakness(const STACK_OF(X509) * chain) {
  size_t count = sk_X509_num(chain);
  int error = X509_V_OK;
  for (size_t i = 0; i < count && error == X509_V_OK; i++) {
    X509 *cert = sk_X509_value(chain, i);
    error = weak_key(cert);
    if (error == X509_V_OK && i + 1 < count) error = weak_signature(cert);
  }
  return error;
}

const char *tls_chain_words(int error) {
  if (error == TLS_CHAIN_WEAK_KEY)
    return "an RSA key of fewer than 2048 bits, of the certificate or of one that it was issued "
           "by: have it made anew with a longer one";
  if (error == TLS_CHAIN_WEAK_SIGNATURE)
    return "a signature with SHA-1 or MD5, on the certificate or on one that it was issued by: "
           "have it issued anew with SHA-256";
  return X509_verify_cert_error_string(error);
}

/* ---- several CRLs of one issuer ---- */

/* ours: issuer's key has signed it; NULL: its certificate is not known, the name has to do. */
static bool ours(X509_CRL *crl, X509 *issuer) {
  EVP_PKEY *key = issuer ? X509_get_pubkey(issuer) : NULL;
  bool signed_by = !issuer || (key && X509_CRL_verify(crl, key) == 1);
  EVP_PKEY_free(key);
  return signed_by;
}

/* scope_of is which certificates a CRL is for, as encoded; NULL: all of its issuer. */
static const ASN1_OCTET_STRING *scope_of(const X509_CRL *crl) {
  int at = X509_CRL_get_ext_by_NID(crl, NID_issuing_distribution_point, -1);
  return at < 0 ? NULL : X509_EXTENSION_get_data(X509_CRL_get_ext(crl, at));
}

/* newer: a takes the place of b. */
static bool newer(const X509_CRL *a, const X509_CRL *b) {
  const ASN1_OCTET_STRING *mine = scope_of(a), *other = scope_of(b);
  int days = 0, seconds = 0;
  if (mine && (!other || ASN1_OCTET_STRING_cmp(mine, other) != 0)) return false;
  return ASN1_TIME_diff(&days, &seconds, X509_CRL_get0_lastUpdate(b),
                        X509_CRL_get0_lastUpdate(a)) &&
         (days > 0 || seconds > 0);
}

static bool replaced(const STACK_OF(X509_CRL) * all, const X509_CRL *old, X509 *issuer) {
  if (!issuer) return false; /* nobody can say whose the newer one is */
  for (size_t i = 0; i < sk_X509_CRL_num(all); i++) {
    X509_CRL *crl = sk_X509_CRL_value(all, i);
    if (newer(crl, old) && ours(crl, issuer)) return true;
  }
  return false;
}

static bool is_revoked(X509_STORE_CTX *ctx, X509 *cert, X509 *issuer) {
  STACK_OF(X509_CRL) *all = X509_STORE_get1_crls(ctx, X509_get_issuer_name(cert));
  bool found = false;
  for (size_t i = 0; all && i < sk_X509_CRL_num(all) && !found; i++) {
    X509_CRL *crl = sk_X509_CRL_value(all, i);
    X509_REVOKED *entry = NULL;
    found = X509_CRL_get0_by_cert(crl, &entry, cert) == 1 && ours(crl, issuer) &&
            !replaced(all, crl, issuer);
  }
  sk_X509_CRL_pop_free(all, X509_CRL_free);
  return found;
}

/* any_revoked: the library asks one CRL for each certificate, and of those that are equally new
 * any one; here each of them counts. */
static bool any_revoked(X509_STORE_CTX *ctx) {
  STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
  size_t count = sk_X509_num(chain);
  for (size_t i = 0; i < count; i++) {
    X509 *cert = sk_X509_value(chain, i);
    X509 *issuer = i + 1 < count ? sk_X509_value(chain, i + 1) : NULL;
    bool own = X509_NAME_cmp(X509_get_issuer_name(cert), X509_get_subject_name(cert)) == 0;
    if (!issuer && own) issuer = cert;
    if (is_revoked(ctx, cert, issuer)) return true;
  }
  return false;
}

static int built(X509_STORE_CTX *ctx, const struct tls_chain_rule *rule, int64_t *ends) {
  STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
  if (between(chain) > rule->between_max) return X509_V_ERR_CERT_CHAIN_TOO_LONG;
  if (ends) *ends = chain_ends(chain);
  return weakness(chain);
}

static int verify(X509_STORE *store, const struct tls_shown *shown,
                  const struct tls_chain_rule *rule, unsigned long crls, int64_t *ends) {
  X509_STORE_CTX *ctx = X509_STORE_CTX_new();
  check(ctx != NULL);
  int error = X509_V_ERR_UNSPECIFIED;
  if (X509_STORE_CTX_init(ctx, store, shown->leaf, shown->others) &&
      X509_STORE_CTX_set_default(ctx, rule->purpose)) {
    X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST | crls);
    if (crls) X509_STORE_CTX_set_verify_cb(ctx, on_fault);
    if (X509_verify_cert(ctx) == 1)
      error = crls && any_revoked(ctx) ? X509_V_ERR_CERT_REVOKED : built(ctx, rule, ends);
    else if (X509_STORE_CTX_get_error(ctx) != X509_V_OK)
      error = X509_STORE_CTX_get_error(ctx);
  }
  X509_STORE_CTX_free(ctx);
  ERR_clear_error();
  return error;
}

/* tls_chain_check looks into CRLs only for a chain that is good without them: the library does so
 * before it checks signatures, and CRLs are long. */
int tls_chain_check(X509_STORE *store, const struct tls_shown *shown,
                    const struct tls_chain_rule *rule, int64_t *ends) {
  int error = verify(store, shown, rule, 0, ends);
  if (error != X509_V_OK || !rule->crls) return error;
  return verify(store, shown, rule, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL, ends);
}
