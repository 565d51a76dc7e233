/* tls_verify.c: what an endpoint's certificate has to be: issued, by way of what the endpoint
 * sent, by one that is trusted, for this time and for servers (RFC 5280); for a name or address
 * that is wanted, by subject alternative names alone (RFC 9525); with a public key that is pinned,
 * where some are. Whatever cannot be read or decided is refused. Inside the handshake, on the
 * worker's thread; called by the library. Does not ask anybody about revocation. */
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <openssl/x509v3.h>

#include "io/tls_chain_priv.h"
#include "io/tls_client_priv.h"

static const struct tls_verdict misnamed = {END_UPSTREAM_TLS_NAME,
                                        "the certificate has none of the names that are wanted",
                                        SSL_AD_BAD_CERTIFICATE};
static const struct tls_verdict unpinned = {END_UPSTREAM_TLS_PIN,
                                        "the certificate's public key is none of the pins",
                                        SSL_AD_BAD_CERTIFICATE};

/* chain_ends: what of a chain has a word of its own. */
static const struct {
  int error;
  enum end end;
} chain_ends[] = {
    {X509_V_ERR_CERT_HAS_EXPIRED, END_UPSTREAM_TLS_EXPIRED},
    {X509_V_ERR_CERT_NOT_YET_VALID, END_UPSTREAM_TLS_NOT_YET_VALID},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, END_UPSTREAM_TLS_SELF_SIGNED},
    {X509_V_ERR_INVALID_PURPOSE, END_UPSTREAM_TLS_PURPOSE},
};

static struct tls_verdict chain_verdict(int error) {
  enum end end = END_UPSTREAM_TLS_UNTRUSTED;
  bool weak = error == TLS_CHAIN_WEAK_KEY || error == TLS_CHAIN_WEAK_SIGNATURE;
  for (size_t i = 0; i < array_count(chain_ends); i++)
    if (chain_ends[i].error == error) end = chain_ends[i].end;
  int alert = weak ? SSL_AD_BAD_CERTIFICATE : SSL_alert_from_verify_result(error);
  return (struct tls_verdict){end, tls_chain_words(error), alert};
}

static struct tls_verdict chain_check(X509_STORE *store, const struct tls_shown *shown) {
  const struct tls_chain_rule rule = {.purpose = "ssl_server", .between_max = UINT32_MAX};
  int error = tls_chain_check(store, shown, &rule, NULL);
  return error == X509_V_OK ? TLS_VERDICT_GOOD : chain_verdict(error);
}

static bool has_ip(X509 *leaf, const uint8_t *ip, size_t len) {
  return X509_check_ip(leaf, ip, len, 0) == 1;
}

static bool has_name(X509 *leaf, const char *name) {
  struct addr addr;
  if (addr_from_ip(span_str(name), 0, &addr)) {
    bool v4 = addr.sa.sa_family == AF_INET;
    return has_ip(leaf, v4 ? (const uint8_t *)&addr.in4.sin_addr : addr.in6.sin6_addr.s6_addr,
                  v4 ? 4 : 16);
  }
  return X509_check_host(leaf, name, strlen(name), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
}

static struct tls_verdict name_check(const struct tls_peer *peer, X509 *leaf) {
  const struct tls_client *client = peer->client;
  for (uint32_t i = 0; i < client->name_count; i++)
    if (has_name(leaf, client->names[i])) return TLS_VERDICT_GOOD;
  if (client->name_count) return misnamed;
  if (peer->sni) return has_name(leaf, peer->sni) ? TLS_VERDICT_GOOD : misnamed;
  return peer->ip_len && has_ip(leaf, peer->ip, peer->ip_len) ? TLS_VERDICT_GOOD : misnamed;
}

static struct tls_verdict pin_check(const struct tls_client *client, X509 *leaf) {
  uint8_t digest[SHA256_DIGEST_LENGTH];
  if (!tls_key_digest(leaf, digest)) return unpinned;
  for (uint32_t i = 0; i < client->pin_count; i++)
    if (CRYPTO_memcmp(digest, client->pins[i], sizeof digest) == 0) return TLS_VERDICT_GOOD;
  return unpinned;
}

static struct tls_verdict judge(const struct tls_peer *peer, const struct tls_shown *shown) {
  const struct tls_client *client = peer->client;
  struct tls_verdict v = TLS_VERDICT_GOOD;
  if (client->verify) v = chain_check(tls_roots_store(client->roots, peer->worker), shown);
  if (client->verify && v.end == END_OK) v = name_check(peer, shown->leaf);
  if (client->pin_count && v.end == END_OK) v = pin_check(client, shown->leaf);
  return v;
}

enum ssl_verify_result_t tls_verify(SSL *ssl, uint8_t *alert) {
  struct tls_conn *tls = tls_client_of(ssl);
  struct tls_shown shown = {0};
  bool asked = tls->peer->client->verify || tls->peer->client->pin_count;
  if (!asked) return ssl_verify_ok;
  struct tls_verdict v = tls_verdict_unreadable(END_UPSTREAM_TLS_UNTRUSTED);
  if (tls_shown_read(&shown, SSL_get0_peer_certificates(ssl))) v = judge(tls->peer, &shown);
  tls_shown_free(&shown);
  return tls_verdict_give(tls, &v, alert);
}
