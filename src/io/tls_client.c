/* tls_client.c: the TLS policy of a pool, compiled, with one SSL_CTX per worker; and the peer,
 * which is that policy at one endpoint for one worker. What a certificate has to be is
 * tls_verify.c, whom to trust tls_roots.c; sessions are tls_session.c, records stream_tls.c.
 * Policies are made by control/, peers by upstream/. RFC 8446, RFC 7301. */
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pool.h>

#include "io/tls_chain_priv.h"
#include "io/tls_client_priv.h"
#include "weir/base/mem.h"

/* ---- the policy ---- */

/* on_cert_asked: the server wants a certificate; what there is stands in the SSL_CTX. */
static int on_cert_asked(SSL *ssl, void *arg) {
  (void)arg;
  tls_client_of(ssl)->cert_asked = true;
  return 1;
}

/* ctx_make: that nothing is negotiated anew is the library's default (THREATS.md 30). */
static SSL_CTX *ctx_make(uint16_t min_version) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_with_buffers_method());
  check(ctx != NULL);
  tls_ctx_base(ctx, min_version, TLS1_3_VERSION);
  SSL_CTX_set_custom_verify(ctx, SSL_VERIFY_PEER, tls_verify);
  SSL_CTX_set_reverify_on_resume(ctx, 1); /* it may have expired since */
  SSL_CTX_set_cert_cb(ctx, on_cert_asked, NULL);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(ctx, tls_session_keep);
  return ctx;
}

/* cert_show: what weir shows; false with a sentence. */
static bool cert_show(const struct tls_client *client, SSL_CTX *ctx, struct buf *why) {
  const struct tls_cert *cert = &client->cert;
  if (!client->has_cert ||
      SSL_CTX_set_chain_and_key(ctx, cert->chain, cert->chain_count, cert->pkey, NULL))
    return true;
  const char *reason = ERR_reason_error_string(ERR_peek_error());
  buf_printf(why, "certificate " SPAN_FMT ": it cannot be used for TLS (%s)",
             SPAN_ARG(cert->label), reason ? reason : "unknown");
  ERR_clear_error();
  return false;
}

static bool roots_fill(struct tls_client *client, const struct tls_client_conf *conf,
                       struct buf *why) {
  const struct tls_bundle bundle = {.pem = conf->ca_pem, .label = conf->ca_label};
  if (conf->verify) client->roots = tls_roots_get(&bundle, conf->workers, why);
  return client->roots || !conf->verify;
}

static bool cert_fill(struct tls_client *client, const struct tls_client_conf *conf,
                      struct buf *why) {
  const struct tls_cert_conf cert = {
      .cert_pem = conf->cert_pem, .key_pem = conf->key_pem, .label = conf->cert_label};
  client->has_cert = conf->cert_pem.len > 0;
  return !client->has_cert ||
         tls_cert_parse(&client->cert, &cert, client->pool, &client->arena, why);
}

static bool ctx_fill(struct tls_client *client, const struct tls_client_conf *conf,
                     enum tls_client_bad *bad, struct buf *why) {
  char *groups = conf->groups.len ? mem_str(conf->groups) : NULL;
  uint32_t which;
  for (uint32_t w = 0; w < client->workers && *bad == TLS_BAD_NONE; w++) {
    client->ctx[w] = ctx_make(conf->min_version);
    if (!tls_params_set(client->ctx[w], groups, NULL, &which, why)) *bad = TLS_BAD_POOL_GROUPS;
    else if (!cert_show(client, client->ctx[w], why)) *bad = TLS_BAD_CERT;
  }
  mem_free(groups);
  return *bad == TLS_BAD_NONE;
}

static void names_fill(struct tls_client *client, const struct tls_client_conf *conf) {
  if (conf->sni.len) client->sni = mem_str(conf->sni);
  client->names = (char **)mem_array(conf->name_count, sizeof *client->names);
  for (uint32_t i = 0; i < conf->name_count; i++) client->names[i] = mem_str(conf->names[i]);
  client->name_count = conf->name_count;
  client->pins = mem_array(conf->pin_count, sizeof *client->pins);
  for (uint32_t i = 0; i < conf->pin_count; i++)
    memcpy(client->pins[i], conf->pins[i], sizeof *client->pins);
  client->pin_count = conf->pin_count;
}

static void client_free(struct tls_client *client) {
  for (uint32_t w = 0; w < client->workers; w++) SSL_CTX_free(client->ctx[w]);
  if (client->roots) tls_roots_put(client->roots);
  tls_cert_fini(&client->cert);
  CRYPTO_BUFFER_POOL_free(client->pool);
  for (uint32_t i = 0; i < client->name_count; i++) mem_free(client->names[i]);
  mem_free(client->names);
  mem_free(client->pins);
  mem_free(client->sni);
  mem_free(client->ctx);
  arena_reset(&client->arena);
  mem_free(client);
}

static struct tls_client *client_alloc(const struct tls_client_conf *conf) {
  struct tls_client *client = (struct tls_client *)mem_alloc(sizeof *client);
  client->refs = 1;
  client->workers = conf->workers;
  client->verify = conf->verify;
  client->h2_only = conf->h2_only;
  client->pool = CRYPTO_BUFFER_POOL_new();
  client->ctx = (SSL_CTX **)mem_array(conf->workers, sizeof *client->ctx);
  arena_init(&client->arena, NULL, 0);
  client->alpn = arena_copy(&client->arena, conf->alpn, NULL);
  return client;
}

struct tls_client *tls_client_new(const struct tls_client_conf *conf, enum tls_client_bad *bad,
                                  struct buf *why) {
  tls_mem_use();
  check(conf->workers > 0);
  struct tls_client *client = client_alloc(conf);
  names_fill(client, conf);
  *bad = TLS_BAD_NONE;
  if (!roots_fill(client, conf, why)) *bad = TLS_BAD_CA;
  else if (!cert_fill(client, conf, why)) *bad = TLS_BAD_CERT;
  if (*bad == TLS_BAD_NONE && ctx_fill(client, conf, bad, why)) return client;
  client_free(client);
  return NULL;
}

void tls_client_ref(struct tls_client *client) {
  check(atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed) > 0);
}

void tls_client_unref(struct tls_client *client) {
  uint32_t had = atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel);
  check(had > 0);
  if (had == 1) client_free(client);
}

/* dead: what is large (contexts, trusted bundles) is not freed by the worker that let go of it
 * last. */
static _Atomic(struct tls_client *) dead;

static void client_leave(struct tls_client *client) {
  uint32_t had = atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel);
  check(had > 0);
  if (had > 1) return;
  client->next_dead = atomic_load_explicit(&dead, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(&dead, &client->next_dead, client,
                                                memory_order_release, memory_order_relaxed)) {
  }
}

void tls_clients_reap(void) {
  struct tls_client *client = atomic_exchange_explicit(&dead, NULL, memory_order_acquire);
  while (client) { /* as many as were let go since */
    struct tls_client *next = client->next_dead;
    client_free(client);
    client = next;
  }
}

/* ---- a peer ---- */

static void peer_address(struct tls_peer *peer, const struct addr *addr) {
  if (addr->sa.sa_family == AF_INET) {
    memcpy(peer->ip, &addr->in4.sin_addr, peer->ip_len = 4);
  } else if (addr->sa.sa_family == AF_INET6) {
    memcpy(peer->ip, &addr->in6.sin6_addr, peer->ip_len = 16);
  }
}

struct tls_peer *tls_peer_new(const struct tls_peer_conf *conf) {
  struct tls_peer *peer = (struct tls_peer *)mem_alloc(sizeof *peer);
  char canon[TLS_NAME_MAX];
  size_t len = 0;
  peer->refs = 1;
  peer->worker = conf->worker;
  peer->client = conf->client;
  peer->counts = conf->counts;
  tls_client_ref(peer->client);
  if (conf->host.len && tls_name_canon(conf->host, false, canon, &len))
    peer->host = mem_str(span_of(canon, len));
  peer->sni = peer->client->sni ? peer->client->sni : peer->host;
  peer_address(peer, conf->addr);
  return peer;
}

void tls_peer_ref(struct tls_peer *peer) { peer->refs++; }

void tls_peer_unref(struct tls_peer *peer) {
  check(peer->refs > 0);
  if (--peer->refs) return;
  tls_sessions_drop(peer);
  client_leave(peer->client);
  mem_free(peer->host);
  mem_free(peer);
}

const struct tls_client *tls_peer_client(const struct tls_peer *peer) { return peer->client; }

enum tls_spoken tls_peer_spoken(const struct tls_peer *peer, uint64_t now_ms) {
  bool old = peer->spoken == TLS_SPOKEN_HTTP_1_1 && now_ms - peer->spoken_ms >= TLS_SPOKEN_MS;
  return old ? TLS_SPOKEN_UNKNOWN : (enum tls_spoken)peer->spoken;
}

/* ---- one handshake ---- */

#define ALPN_HTTP_1_1 SPAN_LIT("\x08http/1.1")
#define ALPN_H2 SPAN_LIT("\x02h2")

static struct span offered(const struct tls_conn *tls) {
  struct span alpn = tls->peer->client->alpn;
  if (!alpn.len) return alpn;
  if (tls->h2_only) return ALPN_H2;
  return tls->h1_only ? ALPN_HTTP_1_1 : alpn;
}

SSL *tls_client_ssl(struct tls_conn *tls) {
  struct tls_peer *peer = tls->peer;
  struct span alpn = offered(tls);
  SSL *ssl = SSL_new(peer->client->ctx[peer->worker]);
  check(ssl != NULL && SSL_set_app_data(ssl, tls) == 1);
  SSL_set_connect_state(ssl);
  if (peer->sni) check(SSL_set_tlsext_host_name(ssl, peer->sni) == 1);
  check(SSL_set_alpn_protos(ssl, (const uint8_t *)alpn.ptr, (unsigned)alpn.len) == 0);
  tls_session_use(peer, ssl);
  return ssl;
}

enum end tls_client_chosen(struct tls_conn *tls, bool *h2) {
  struct tls_peer *peer = tls->peer;
  const uint8_t *name = NULL;
  unsigned len = 0;
  SSL_get0_alpn_selected(tls->ssl, &name, &len);
  *h2 = span_eq(span_of((const char *)name, len), SPAN_LIT("h2"));
  /* It has ALPN, and does not choose what alone was offered: it does not speak it. */
  if (tls->h1_only && !len && peer->spoken == TLS_SPOKEN_H2) return END_UPSTREAM_TLS_ALPN;
  bool needed = tls->h2_only || (!tls->h1_only && peer->client->h2_only);
  if (needed && !*h2) return END_UPSTREAM_TLS_ALPN;
  if (!tls->h1_only && tls->worker) {
    peer->spoken = *h2 ? TLS_SPOKEN_H2 : TLS_SPOKEN_HTTP_1_1;
    peer->spoken_ms = tls->worker->loop->now_ms;
  }
  return END_OK;
}

/* faults: the library's reasons that have a word of their own; alerts of the endpoint stand behind
 * SSL_AD_REASON_OFFSET. handshake_failure is what says that nothing is in common (RFC 8446 section
 * 6.2). */
static const struct {
  int reason;
  enum end end;
} faults[] = {
    {SSL_R_WRONG_VERSION_NUMBER, END_UPSTREAM_TLS_PLAINTEXT}, /* of a record: it is none */
    {SSL_R_UNSUPPORTED_PROTOCOL, END_UPSTREAM_TLS_VERSION},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, END_UPSTREAM_TLS_VERSION},
    {SSL_R_INVALID_ALPN_PROTOCOL, END_UPSTREAM_TLS_ALPN},
    {SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, END_UPSTREAM_TLS_ALPN},
    {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, END_UPSTREAM_TLS_COMMON},
    {SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY, END_UPSTREAM_TLS_COMMON},
    {SSL_R_UNKNOWN_CIPHER_RETURNED, END_UPSTREAM_TLS_COMMON},
    {SSL_R_WRONG_CIPHER_RETURNED, END_UPSTREAM_TLS_COMMON},
    {SSL_R_WRONG_CURVE, END_UPSTREAM_TLS_COMMON},
    {SSL_R_WRONG_SIGNATURE_TYPE, END_UPSTREAM_TLS_COMMON},
    {SSL_R_NO_COMMON_SIGNATURE_ALGORITHMS, END_UPSTREAM_TLS_COMMON},
    {SSL_R_TLSV1_ALERT_UNRECOGNIZED_NAME, END_UPSTREAM_TLS_UNKNOWN_NAME},
    {SSL_R_SSLV3_ALERT_NO_CERTIFICATE, END_UPSTREAM_TLS_CLIENT_CERT},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, END_UPSTREAM_TLS_CLIENT_CERT},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, END_UPSTREAM_TLS_CLIENT_CERT},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, END_UPSTREAM_TLS_CLIENT_CERT},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, END_UPSTREAM_TLS_CLIENT_CERT},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, END_UPSTREAM_TLS_CLIENT_CERT},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, END_UPSTREAM_TLS_CLIENT_CERT},
    {SSL_R_TLSV1_ALERT_ACCESS_DENIED, END_UPSTREAM_TLS_CLIENT_CERT},
    {SSL_R_TLSV1_ALERT_CERTIFICATE_REQUIRED, END_UPSTREAM_TLS_CLIENT_CERT},
};

/* late_failure: handshake_failure of a server that has asked for a certificate, with which all
 * else was agreed upon: in TLS 1.2 it says so when it misses one. */
static enum end late_failure(const struct tls_conn *tls) {
  return tls->peer->client->has_cert ? END_UPSTREAM_TLS_ALERT : END_UPSTREAM_TLS_CLIENT_CERT;
}

enum end tls_client_late(const struct tls_conn *tls, uint32_t code) {
  int reason = tls_reason_of(code);
  bool refused = tls_client_fault(tls, code) == END_UPSTREAM_TLS_CLIENT_CERT;
  if (refused) return END_UPSTREAM_TLS_CLIENT_CERT;
  if (reason >= SSL_AD_REASON_OFFSET) return END_UPSTREAM_TLS_ALERT;
  return reason == SSL_R_NO_RENEGOTIATION ? END_UPSTREAM_TLS_RENEGOTIATION
                                          : END_UPSTREAM_TLS_RECORD;
}

enum end tls_client_fault(const struct tls_conn *tls, uint32_t code) {
  int reason = tls_reason_of(code);
  if (tls->cert_asked && reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE) return late_failure(tls);
  for (size_t i = 0; i < array_count(faults); i++)
    if (faults[i].reason == reason) return faults[i].end;
  return reason >= SSL_AD_REASON_OFFSET ? END_UPSTREAM_TLS_ALERT : END_UPSTREAM_TLS_HANDSHAKE;
}
