/* tls_chain_priv.h: certificates that a peer showed and those that are trusted, for both
 * directions. Only src/io/tls_*.c includes it. */
#ifndef WEIR_IO_TLS_CHAIN_PRIV_H
#define WEIR_IO_TLS_CHAIN_PRIV_H

#include <openssl/sha.h>
#include <openssl/x509.h>

#include "io/tls_conn_priv.h"

/* tls_shown is what a peer showed. */
struct tls_shown {
  X509 *leaf;
  STACK_OF(X509) * others;
};
/* tls_shown_read: false for none, more than TLS_CHAIN_MAX, one that cannot be read, or names that
 * are too long; needs tls_shown_free either way. */
MUST_USE bool tls_shown_read(struct tls_shown *shown, const STACK_OF(CRYPTO_BUFFER) * chain);
void tls_shown_free(struct tls_shown *shown);

/* tls_key_digest is the SHA-256 of a certificate's public key (SPKI). */
MUST_USE bool tls_key_digest(X509 *cert, uint8_t out[SHA256_DIGEST_LENGTH]);

/* tls_chain_rule is what is asked of a chain beside signatures and times. */
struct tls_chain_rule {
  const char *purpose;  /* the library's word: "ssl_server", "ssl_client" */
  bool crls;            /* all but the trusted one that ends it need a CRL of their issuer */
  uint32_t between_max; /* certificates between the leaf and the trusted one */
};
/* What a chain fails by beside the library's X509_V_ERR_: keys of RSA and signatures are to have
 * 112 bits of security. */
#define TLS_CHAIN_WEAK_KEY 10001
#define TLS_CHAIN_WEAK_SIGNATURE 10002
/* tls_chain_check gives X509_V_OK or the X509_V_ERR_ or TLS_CHAIN_ that the chain fails by; *ends
 * (may be NULL) is when its first certificate expires, in seconds since the epoch. */
MUST_USE int tls_chain_check(X509_STORE *store, const struct tls_shown *shown,
                             const struct tls_chain_rule *rule, int64_t *ends);
/* tls_chain_words says what an error of it is; static text. */
const char *tls_chain_words(int error);

/* tls_verdict is what was found of a peer's certificates: END_OK, or why they are refused, in
 * words and by which alert. */
struct tls_verdict {
  enum end end;
  const char *why;
  int alert;
};
#define TLS_VERDICT_GOOD ((struct tls_verdict){.end = END_OK})
/* tls_verdict_unreadable is that of a tls_shown_read that failed. */
struct tls_verdict tls_verdict_unreadable(enum end end);
/* tls_verdict_give notes it in tls and says it to the library. */
enum ssl_verify_result_t tls_verdict_give(struct tls_conn *tls, const struct tls_verdict *v,
                                          uint8_t *alert);

/* tls_bundle is certificates that are trusted, and CRLs (empty: none), in PEM. */
struct tls_bundle {
  struct span pem, label, crl_pem, crl_label;
};
/* tls_roots_get gives a ref on the certificates and CRLs of a bundle, shared by all that have the
 * same; NULL with a sentence. tls_roots_put gives it back; tls_roots_store is one worker's. */
struct tls_roots *tls_roots_get(const struct tls_bundle *bundle, uint32_t workers,
                                struct buf *why);
void tls_roots_put(struct tls_roots *r);
X509_STORE *tls_roots_store(const struct tls_roots *r, uint32_t worker);
/* tls_crls is about all CRLs of a bundle: when there is one of each issuer, and when the first
 * issuer has none any more, in seconds since the epoch; how many there are, and how many are of
 * certificates in the bundle. */
struct tls_crls {
  int64_t begins, ends;
  uint32_t count, own;
};
void tls_roots_crls(const struct tls_roots *r, struct tls_crls *out);
/* tls_roots_crl_ends is when the last CRL of an issuer runs out (nextUpdate), of the issuer that
 * comes first, in seconds since the epoch; INT64_MAX: there are none. */
int64_t tls_roots_crl_ends(const struct tls_roots *r);

#endif
