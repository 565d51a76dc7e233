/* tls_client_cert.c: the certificate that a client showed: who it says that the client is, and
 * whether it is good: issued, by way of what the client sent, by one that is trusted, for this
 * time and for clients, by few enough in between, and revoked by no CRL (RFC 5280). Whatever
 * cannot be read or decided is refused. A session lasts no longer than what it was granted for.
 * Inside the handshake, on the worker's thread; called by the library. What names mean is the
 * routes' affair. */
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <openssl/x509v3.h>

#include "io/tls_chain_priv.h"
#include "io/tls_client_auth_priv.h"
#include "weir/base/addr.h"

/* ---- who ---- */

#define IDENTITY_BYTES 4096u
#define NAME_TEXT_MAX 512u

/* draft is an identity in the making: texts in room, by offset until they are where they stay. */
struct draft {
  char room[IDENTITY_BYTES];
  struct buf text;
  struct {
    size_t from, len;
  } sans[TLS_SANS_MAX], subject, issuer, name, hash;
  uint32_t san_count;
};

static void put_name(struct buf *out, const X509_NAME *name) {
  const uint8_t *bytes = NULL;
  size_t len = 0;
  BIO *bio = BIO_new(BIO_s_mem());
  check(bio != NULL);
  if (X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0 &&
      BIO_mem_contents(bio, &bytes, &len))
    buf_put(out, span_sub(span_of((const char *)bytes, len), 0, NAME_TEXT_MAX));
  BIO_free(bio);
}

/* put_common_name: cut off it would be another name. X.520 allows 64 characters. */
static void put_common_name(struct buf *out, X509_NAME *name) {
  int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  uint8_t *utf8 = NULL;
  if (at < 0) return;
  int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
  if (len > 0 && (size_t)len <= TLS_COMMON_NAME_MAX)
    buf_put(out, span_of((const char *)utf8, (size_t)len));
  OPENSSL_free(utf8);
}

/* put_plain: what has other bytes than visible ASCII is no name that a route could mean. */
static bool put_plain(struct buf *out, const char *kind, const ASN1_STRING *value, bool lower) {
  const char *bytes = (const char *)ASN1_STRING_get0_data(value);
  int len = ASN1_STRING_length(value);
  buf_put(out, span_str(kind));
  for (int i = 0; i < len; i++) {
    if (bytes[i] <= ' ' || bytes[i] > '~') return false;
    buf_char(out, lower ? ascii_lower(bytes[i]) : bytes[i]);
  }
  return len > 0 && !out->full;
}

static bool put_ip(struct buf *out, const ASN1_OCTET_STRING *value) {
  struct addr addr = {.len = 0};
  const uint8_t *ip = ASN1_STRING_get0_data(value);
  int len = ASN1_STRING_length(value);
  if (len == 4) {
    addr.in4.sin_family = AF_INET;
    addr.len = sizeof addr.in4;
    memcpy(&addr.in4.sin_addr, ip, 4);
  } else if (len == 16) {
    addr.in6.sin6_family = AF_INET6;
    addr.len = sizeof addr.in6;
    memcpy(&addr.in6.sin6_addr, ip, 16);
  } else {
    return false;
  }
  buf_lit(out, "ip:");
  addr_write_ip(&addr, out);
  return !out->full;
}

static bool put_san(struct buf *out, const GENERAL_NAME *one) {
  switch (one->type) {
    case GEN_DNS: return put_plain(out, "dns:", one->d.dNSName, true);
    case GEN_URI: return put_plain(out, "uri:", one->d.uniformResourceIdentifier, false);
    case GEN_EMAIL: return put_plain(out, "email:", one->d.rfc822Name, false);
    case GEN_IPADD: return put_ip(out, one->d.iPAddress);
    default: return false;
  }
}

/* sans_fill: what does not fit is left away, whole. */
static void sans_fill(struct draft *d, X509 *leaf) {
  GENERAL_NAMES *all = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
  for (size_t i = 0; i < sk_GENERAL_NAME_num(all) && d->san_count < TLS_SANS_MAX; i++) {
    size_t from = d->text.len;
    if (put_san(&d->text, sk_GENERAL_NAME_value(all, i))) {
      d->sans[d->san_count].from = from;
      d->sans[d->san_count++].len = d->text.len - from;
    } else {
      d->text.len = from;
      d->text.full = false;
    }
  }
  GENERAL_NAMES_free(all);
}

static void put_hash(struct buf *out, const uint8_t *digest) {
  static const char hex[] = "0123456789ABCDEF";
  for (size_t i = 0; i < TLS_DIGEST_BYTES; i++) {
    buf_char(out, hex[digest[i] >> 4]);
    buf_char(out, hex[digest[i] & 15]);
  }
}

static void texts_fill(struct draft *d, X509 *leaf, const uint8_t *fingerprint) {
  put_hash(&d->text, fingerprint);
  d->hash.len = d->text.len;
  d->subject.from = d->text.len;
  put_name(&d->text, X509_get_subject_name(leaf));
  d->subject.len = d->text.len - d->subject.from;
  d->issuer.from = d->text.len;
  put_name(&d->text, X509_get_issuer_name(leaf));
  d->issuer.len = d->text.len - d->issuer.from;
  d->name.from = d->text.len;
  put_common_name(&d->text, X509_get_subject_name(leaf));
  d->name.len = d->text.len - d->name.from;
}

/* judged is an identity and the last verdict on it under another policy than the one that let it
 * in: many requests may ask for that (tls_client_cert_good). */
struct judged {
  struct tls_identity who;
  uint8_t policy[SHA256_DIGEST_LENGTH];
  bool known, good;
};

/* identity_make puts it into one block, a struct judged; NULL: no memory. Of a certificate that is
 * not good no route ever sees the names, and there may be thousands. */
static struct tls_identity *identity_make(X509 *leaf, const CRYPTO_BUFFER *der, bool good) {
  struct draft d = {.san_count = 0};
  struct tls_identity who = {.san_count = 0};
  d.text = buf_of(d.room, sizeof d.room);
  SHA256(CRYPTO_BUFFER_data(der), CRYPTO_BUFFER_len(der), who.fingerprint);
  if (!tls_key_digest(leaf, who.key)) return NULL;
  texts_fill(&d, leaf, who.fingerprint);
  if (good) sans_fill(&d, leaf);
  size_t spans = d.san_count * sizeof(struct span);
  struct judged *block = (struct judged *)OPENSSL_malloc(sizeof *block + spans + d.text.len);
  if (!block) return NULL;
  struct tls_identity *made = &block->who;
  struct span *sans = (struct span *)(void *)(block + 1);
  block->known = false;
  char *bytes = (char *)(sans + d.san_count);
  memcpy(bytes, d.room, d.text.len);
  struct span text = span_of(bytes, d.text.len);
  for (uint32_t i = 0; i < d.san_count; i++)
    sans[i] = span_sub(text, d.sans[i].from, d.sans[i].len);
  *made = who;
  made->hash = span_sub(text, d.hash.from, d.hash.len);
  made->subject = span_sub(text, d.subject.from, d.subject.len);
  made->issuer = span_sub(text, d.issuer.from, d.issuer.len);
  made->name = span_sub(text, d.name.from, d.name.len);
  made->sans = sans;
  made->san_count = d.san_count;
  return made;
}

/* ---- good or not ---- */

/* verdicts: the library's X509_V_ERR_ by cause and alert (RFC 8446 section 6.2). That a CRL is not
 * there is not the client's fault, and has no alert of its own. */
static const struct {
  int error;
  enum end end;
  int alert;
} verdicts[] = {
    {X509_V_ERR_CERT_HAS_EXPIRED, END_CLIENT_TLS_CERT_EXPIRED, SSL_AD_CERTIFICATE_EXPIRED},
    {X509_V_ERR_CERT_NOT_YET_VALID, END_CLIENT_TLS_CERT_NOT_YET_VALID, SSL_AD_CERTIFICATE_EXPIRED},
    {X509_V_ERR_CERT_REVOKED, END_CLIENT_TLS_CERT_REVOKED, SSL_AD_CERTIFICATE_REVOKED},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, END_CLIENT_TLS_CERT_UNKNOWN_CA, SSL_AD_UNKNOWN_CA},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, END_CLIENT_TLS_CERT_UNKNOWN_CA,
     SSL_AD_UNKNOWN_CA},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, END_CLIENT_TLS_CERT_UNKNOWN_CA,
     SSL_AD_UNKNOWN_CA},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, END_CLIENT_TLS_CERT_UNKNOWN_CA, SSL_AD_UNKNOWN_CA},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, END_CLIENT_TLS_CERT_UNKNOWN_CA, SSL_AD_UNKNOWN_CA},
    {X509_V_ERR_CERT_UNTRUSTED, END_CLIENT_TLS_CERT_UNKNOWN_CA, SSL_AD_UNKNOWN_CA},
    {X509_V_ERR_CERT_CHAIN_TOO_LONG, END_CLIENT_TLS_CERT_DEPTH, SSL_AD_UNKNOWN_CA},
    {X509_V_ERR_INVALID_PURPOSE, END_CLIENT_TLS_CERT_PURPOSE, SSL_AD_UNSUPPORTED_CERTIFICATE},
    {X509_V_ERR_UNABLE_TO_GET_CRL, END_CLIENT_TLS_CRL_MISSING, SSL_AD_CERTIFICATE_UNKNOWN},
    {X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER, END_CLIENT_TLS_CRL_MISSING, SSL_AD_CERTIFICATE_UNKNOWN},
    {X509_V_ERR_CRL_HAS_EXPIRED, END_CLIENT_TLS_CRL_BAD, SSL_AD_CERTIFICATE_UNKNOWN},
    {X509_V_ERR_CRL_NOT_YET_VALID, END_CLIENT_TLS_CRL_BAD, SSL_AD_CERTIFICATE_UNKNOWN},
    {X509_V_ERR_CRL_SIGNATURE_FAILURE, END_CLIENT_TLS_CRL_BAD, SSL_AD_CERTIFICATE_UNKNOWN},
    {X509_V_ERR_DIFFERENT_CRL_SCOPE, END_CLIENT_TLS_CRL_BAD, SSL_AD_CERTIFICATE_UNKNOWN},
    {X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION, END_CLIENT_TLS_CRL_BAD,
     SSL_AD_CERTIFICATE_UNKNOWN},
    {X509_V_ERR_KEYUSAGE_NO_CRL_SIGN, END_CLIENT_TLS_CRL_BAD, SSL_AD_CERTIFICATE_UNKNOWN},
    {X509_V_ERR_CRL_PATH_VALIDATION_ERROR, END_CLIENT_TLS_CRL_BAD, SSL_AD_CERTIFICATE_UNKNOWN},
};

static struct tls_verdict verdict_of(int error) {
  struct tls_verdict v = {END_CLIENT_TLS_CERT_BAD, tls_chain_words(error), SSL_AD_BAD_CERTIFICATE};
  for (size_t i = 0; i < array_count(verdicts); i++) {
    if (verdicts[i].error != error) continue;
    v.end = verdicts[i].end;
    v.alert = verdicts[i].alert;
  }
  return error == X509_V_OK ? TLS_VERDICT_GOOD : v;
}

/* session_limit: all that the verdict came from is bound to the session but the time: so the
 * session ends with the first certificate of the chain and with the CRLs. */
static void session_limit(const struct tls_conn *tls, SSL *ssl, int64_t ends) {
  SSL_SESSION *session = SSL_get_session(ssl);
  int64_t now = (int64_t)(tls->worker->loop->wall_ms / 1000u);
  int64_t left = ends > now ? ends - now : 0;
  check(session != NULL);
  if (left < (int64_t)SSL_SESSION_get_timeout(session))
    (void)SSL_SESSION_set_timeout(session, (uint32_t)left);
}

/* chain_check gives an X509_V_ERR_; *ends is when the chain does. */
static int chain_check(const struct tls_conn *tls, const struct tls_auth *auth,
                       const struct tls_shown *shown, int64_t *ends) {
  const struct tls_chain_rule rule = {
      .purpose = "ssl_client", .crls = auth->crls, .between_max = auth->depth};
  return tls_chain_check(tls_roots_store(auth->roots, tls->worker_index), shown, &rule, ends);
}

static struct tls_verdict judge(const struct tls_conn *tls, SSL *ssl,
                                const struct tls_shown *shown) {
  const struct tls_auth *auth = tls_auth_of(tls);
  int64_t ends = INT64_MAX;
  struct tls_verdict v = verdict_of(chain_check(tls, auth, shown, &ends));
  if (v.end == END_OK) session_limit(tls, ssl, ends < auth->crl_ends ? ends : auth->crl_ends);
  return v;
}

/* note_shown notes who the client says to be by what it showed; false: nothing of use. */
static bool note_shown(struct tls_conn *tls, const SSL *ssl, X509 *leaf, bool good) {
  const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(ssl);
  if (!tls->identity) tls->identity = identity_make(leaf, sk_CRYPTO_BUFFER_value(chain, 0), good);
  return tls->identity != NULL;
}

/* TICKET_CERTS_MAX: a ticket holds the certificates that were shown and comes back in a
 * ClientHello, which has 16 KiB at most, key shares and the rest included: one that is longer ends
 * the client's next handshake. With ECH the hello has it twice: what is hidden, and as much again
 * for show (RFC 9849 section 6.1.2). */
#define TICKET_CERTS_MAX 12288u
#define TICKET_CERTS_MAX_ECH 5120u

static bool fits_ticket(const SSL *ssl, size_t bytes) {
  return bytes <= (tls_of(ssl)->server->ech ? TICKET_CERTS_MAX_ECH : TICKET_CERTS_MAX);
}

/* tls_client_cert_coming: in TLS 1.2 a ticket was promised before the certificates come. Told so
 * early, the library puts only a hash of them into it: a short ticket, which it takes for no
 * session of ours, as we keep certificates whole: the next handshake is a full one. */
void tls_client_cert_coming(int is_write, int version, int type, const void *bytes, size_t len,
                            SSL *ssl, void *arg) {
  (void)version, (void)arg;
  bool certs = !is_write && type == SSL3_RT_HANDSHAKE && len > 0 &&
               ((const uint8_t *)bytes)[0] == SSL3_MT_CERTIFICATE;
  if (certs && SSL_version(ssl) == TLS1_2_VERSION && !fits_ticket(ssl, len))
    SSL_set_retain_only_sha256_of_client_certs(ssl, 1);
}

/* ticket_bound: without a ticket the client's next handshake is a full one, that is all. The
 * connection itself keeps the certificates. */
static void ticket_bound(SSL *ssl) {
  const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(ssl);
  size_t bytes = 0;
  for (size_t i = 0; i < sk_CRYPTO_BUFFER_num(chain); i++)
    bytes += CRYPTO_BUFFER_len(sk_CRYPTO_BUFFER_value(chain, i));
  if (!fits_ticket(ssl, bytes)) SSL_set_options(ssl, SSL_OP_NO_TICKET);
  SSL_set_retain_only_sha256_of_client_certs(ssl, 0);
}

enum ssl_verify_result_t tls_client_cert_verify(SSL *ssl, uint8_t *alert) {
  struct tls_conn *tls = tls_of(ssl);
  struct tls_shown shown = {0};
  const struct tls_verdict unreadable = tls_verdict_unreadable(END_CLIENT_TLS_CERT_BAD);
  struct tls_verdict v = unreadable;
  if (tls_shown_read(&shown, SSL_get0_peer_certificates(ssl))) {
    v = judge(tls, ssl, &shown);
    if (!note_shown(tls, ssl, shown.leaf, v.end == END_OK)) v = unreadable;
  }
  tls_shown_free(&shown);
  ticket_bound(ssl);
  return tls_verdict_give(tls, &v, alert);
}

static bool good_now(const struct tls_conn *tls, const struct tls_auth *auth) {
  struct tls_shown shown = {0};
  const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(tls->ssl);
  if (!chain || sk_CRYPTO_BUFFER_num(chain) == 0) return !auth->required;
  bool ok = tls_shown_read(&shown, chain) && chain_check(tls, auth, &shown, NULL) == X509_V_OK;
  tls_shown_free(&shown);
  ERR_clear_error();
  return ok;
}

bool tls_client_cert_good(const struct tls_conn *tls, const struct tls_auth *auth) {
  if (!tls->identity) return good_now(tls, auth);
  struct judged *kept = container_of(tls->identity, struct judged, who);
  if (kept->known && memcmp(kept->policy, auth->digest, sizeof kept->policy) == 0)
    return kept->good;
  kept->good = good_now(tls, auth);
  memcpy(kept->policy, auth->digest, sizeof kept->policy);
  kept->known = true;
  return kept->good;
}

void tls_client_cert_recall(struct tls_conn *tls) {
  struct tls_shown shown = {0};
  const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(tls->ssl);
  if (!chain || sk_CRYPTO_BUFFER_num(chain) == 0) return;
  if (tls_shown_read(&shown, chain)) /* as it could be when the session began */
    (void)note_shown(tls, tls->ssl, shown.leaf, true);
  tls_shown_free(&shown);
  ERR_clear_error();
}

/* ---- what others see of it ---- */

static const struct tls_conn *shaken(const struct conn *c) {
  const struct tls_conn *tls = tls_conn_of(c);
  bool done = tls && !tls->is_client && tls->end == END_OK && tls->state != TLS_HANDSHAKE;
  return done && tls->identity ? tls : NULL;
}

const struct tls_identity *conn_tls_identity(const struct conn *c) {
  const struct tls_conn *tls = shaken(c);
  return tls ? tls->identity : NULL;
}

bool conn_tls_shown(const struct conn *c, uint32_t i, struct span *der) {
  const struct tls_conn *tls = shaken(c);
  const STACK_OF(CRYPTO_BUFFER) *chain = tls ? SSL_get0_peer_certificates(tls->ssl) : NULL;
  if (!chain || i >= sk_CRYPTO_BUFFER_num(chain)) return false;
  const CRYPTO_BUFFER *one = sk_CRYPTO_BUFFER_value(chain, i);
  *der = span_of((const char *)CRYPTO_BUFFER_data(one), CRYPTO_BUFFER_len(one));
  return true;
}
