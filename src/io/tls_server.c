/* tls_server.c: compiles the TLS policy of a listener into SSL_CTXs: versions, cipher suites,
 * groups and signature algorithms (RFC 9325), certificates, callbacks. One SSL_CTX per worker for
 * its conns, so that no reference count is shared between workers, and one per certificate that
 * holds only chain and key and is swapped in by tls_select.c. Made and freed off the data path;
 * does not touch conns. Called by config and control. */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "io/tls_client_auth_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls_early.h"

/* Forward secrecy and AEAD only, in our order but for clients that begin with ChaCha20
 * (tls_select.c). TLS 1.3 suites are the library's. */
#define SUITES \
  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:" \
  "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305"

/* Groups in our order. Libraries without ML-KEM refuse the first list. */
#define GROUPS_ML_KEM "X25519MLKEM768:X25519:P-256:P-384"
#define GROUPS "X25519:P-256:P-384"

static const uint16_t sign_algorithms[] = {
    SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA256,
    SSL_SIGN_RSA_PKCS1_SHA256,       SSL_SIGN_RSA_PSS_RSAE_SHA384,    SSL_SIGN_RSA_PKCS1_SHA384,
    SSL_SIGN_RSA_PSS_RSAE_SHA512,    SSL_SIGN_RSA_PKCS1_SHA512,
};

/* verify_algorithms are what peers may sign with in a handshake, endpoints and clients with
 * certificates: the library's own list has SHA-1 too, which RFC 9155 forbids. */
static const uint16_t verify_algorithms[] = {
    SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_RSA_PSS_RSAE_SHA256, SSL_SIGN_RSA_PKCS1_SHA256,
    SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA384, SSL_SIGN_RSA_PKCS1_SHA384,
#if defined(OPENSSL_IS_AWSLC)
    SSL_SIGN_ECDSA_SECP521R1_SHA512, /* in its list, and not in BoringSSL's */
#endif
    SSL_SIGN_RSA_PSS_RSAE_SHA512,    SSL_SIGN_RSA_PKCS1_SHA512,
};

/* CLIENT_CERTS_MAX bounds what a client shows, which is read before anybody knows whether it is to
 * be believed: this much takes less than a turn's budget for handshakes. */
#define CLIENT_CERTS_MAX 32768u

static bool ctx_groups(SSL_CTX *ctx) {
  if (SSL_CTX_set1_curves_list(ctx, GROUPS_ML_KEM)) return true;
  ERR_clear_error();
  return SSL_CTX_set1_curves_list(ctx, GROUPS) == 1;
}

static void ctx_callbacks(SSL_CTX *ctx, const struct tls_server *server) {
  SSL_CTX_set_select_certificate_cb(ctx, tls_select);
  SSL_CTX_set_tlsext_servername_callback(ctx, tls_select_name);
  SSL_CTX_set_tlsext_ticket_key_cb(ctx, server->tickets ? tls_ticket_keys_key : tls_tickets_key);
  if (server->alpn.len > 0) SSL_CTX_set_alpn_select_cb(ctx, tls_select_alpn, NULL);
}

void tls_ctx_base(SSL_CTX *ctx, uint16_t min_version, uint16_t max_version) {
  bool ok =
      SSL_CTX_set_min_proto_version(ctx, min_version) &&
      SSL_CTX_set_max_proto_version(ctx, max_version) &&
      SSL_CTX_set_strict_cipher_list(ctx, SUITES) && ctx_groups(ctx) &&
      SSL_CTX_set_signing_algorithm_prefs(ctx, sign_algorithms, array_count(sign_algorithms)) &&
      SSL_CTX_set_verify_algorithm_prefs(ctx, verify_algorithms, array_count(verify_algorithms));
  check(ok); /* constants and checked versions: a library that refuses them does not fit */
  tls_keylog_set(ctx);
  SSL_CTX_set_early_data_enabled(ctx, 0); /* RFC 8470; THREATS.md 29 */
}

SSL_CTX *tls_ctx_new(const struct tls_server *server, uint16_t min_version) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_with_buffers_method());
  check(ctx != NULL);
  uint32_t bad;
  char text[256];
  struct buf why = buf_of(text, sizeof(text));
  tls_ctx_base(ctx, min_version, server->max_version);
  check(tls_params_set(ctx, server->groups, server->ciphers, &bad, &why)); /* params_fill tried */
  SSL_CTX_set_max_cert_list(ctx, CLIENT_CERTS_MAX);
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
  if (server->tickets_off) SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets only: no shared state */
  ctx_callbacks(ctx, server);
  return ctx;
}

/* alpn_ok: a list of names of 1 to 255 bytes. */
static bool alpn_ok(struct span alpn) {
  size_t at = 0;
  while (at < alpn.len) {
    size_t len = (uint8_t)alpn.ptr[at];
    if (len == 0 || len > alpn.len - at - 1) return false;
    at += len + 1;
  }
  return true;
}

/* alpn_has tells whether a good list holds a name. */
static bool alpn_has(struct span alpn, struct span name) {
  for (size_t at = 0; at < alpn.len; at += (uint8_t)alpn.ptr[at] + 1u)
    if (span_eq(span_sub(alpn, at + 1, (uint8_t)alpn.ptr[at]), name)) return true;
  return false;
}

static bool conf_ok(const struct tls_server_conf *conf, struct buf *why) {
  check(conf->workers > 0 && alpn_ok(conf->alpn));
  bool known = (conf->min_version == TLS1_2_VERSION || conf->min_version == TLS1_3_VERSION) &&
               (conf->max_version == TLS1_2_VERSION || conf->max_version == TLS1_3_VERSION);
  if (!known || conf->min_version > conf->max_version) {
    buf_lit(why,
            "TLS versions are \"1.2\" and \"1.3\", and the lowest may not be above the highest");
    return false;
  }
  if (conf->cert_count == 0) {
    buf_lit(why, "TLS needs at least one certificate");
    return false;
  }
  return true;
}

/* params_fill: what the library makes of groups, suites and ticket keys. */
static bool params_fill(struct tls_server *server, const struct tls_server_conf *conf,
                        uint32_t *bad, struct buf *why) {
  SSL_CTX *trial = SSL_CTX_new(TLS_with_buffers_method());
  check(trial != NULL);
  tls_ctx_base(trial, conf->min_version, conf->max_version);
  bool ok = tls_params_set(trial, server->groups, server->ciphers, bad, why);
  if (ok) server->suites = tls_select_suites(trial);
  SSL_CTX_free(trial);
  if (!ok || !conf->ticket_key_count) return ok;
  server->tickets = tls_ticket_keys_new(conf->ticket_keys, conf->ticket_key_count, why);
  if (!server->tickets) *bad = TLS_BAD_TICKETS;
  return server->tickets != NULL;
}

static bool certs_parse(struct tls_server *server, const struct tls_server_conf *conf,
                        uint32_t *bad_cert, struct buf *why) {
  for (uint32_t i = 0; i < conf->cert_count; i++) {
    const struct tls_cert_conf *from = &conf->certs[i];
    struct tls_cert *cert = &server->certs[i];
    if (!tls_cert_parse(cert, from, server->pool, &server->arena, why)) {
      *bad_cert = i;
      return false;
    }
    if (!tls_ocsp_load(cert, from->ocsp_der, from->ocsp_label, &server->arena, why)) {
      *bad_cert = i | TLS_BAD_OCSP;
      return false;
    }
  }
  return tls_names_build(&server->names, server->certs, server->cert_count, &server->arena,
                         bad_cert, why);
}

/* cert_ctx_fill: what the library has against a certificate that is sound by itself (a key usage
 * without digitalSignature, RFC 5280 section 4.2.1.3) is a fault of the file. */
static bool cert_ctx_fill(struct tls_server *server, uint32_t i, uint16_t min_version,
                          struct buf *why) {
  struct tls_cert *cert = &server->certs[i];
  server->cert_ctx[i] = tls_ctx_new(server, min_version);
  check(SSL_CTX_set_app_data(server->cert_ctx[i], cert) == 1);
  const SSL_PRIVATE_KEY_METHOD *method = tls_signer_method(cert);
  if (SSL_CTX_set_chain_and_key(server->cert_ctx[i], cert->chain, cert->chain_count,
                                method ? NULL : cert->pkey, method)) {
    tls_compress_fill(&server->certs[i], server->cert_ctx[i], &server->arena);
    return true;
  }
  const char *reason = ERR_reason_error_string(ERR_peek_error());
  buf_printf(why,
             "certificate " SPAN_FMT ": it cannot be used for TLS (%s); ask for one that may sign",
             SPAN_ARG(cert->label), reason ? reason : "no reason given");
  ERR_clear_error();
  return false;
}

static bool ctx_fill(struct tls_server *server, uint16_t min_version, uint32_t *bad_cert,
                     struct buf *why) {
  for (uint32_t i = 0; i < server->workers; i++) {
    server->ctx[i] = tls_ctx_new(server, min_version);
  }
  for (uint32_t i = 0; i < server->cert_count; i++) {
    if (cert_ctx_fill(server, i, min_version, why)) continue;
    *bad_cert = i;
    return false;
  }
  return true;
}

static bool ech_fill(struct tls_server *server, const struct tls_server_conf *conf,
                     uint32_t *bad_cert, struct buf *why) {
  server->ech = conf->ech_pem.len > 0;
  if (!server->ech || tls_ech_fill(server, conf->ech_pem, conf->ech_label, why)) return true;
  *bad_cert = TLS_BAD_ECH;
  return false;
}

static struct tls_server *server_alloc(const struct tls_server_conf *conf) {
  struct tls_server *server = (struct tls_server *)mem_alloc(sizeof(*server));
  atomic_store_explicit(&server->refs, 1, memory_order_relaxed);
  arena_init(&server->arena, NULL, 0);
  server->workers = conf->workers;
  server->cert_count = conf->cert_count;
  server->max_version = conf->max_version;
  server->early_data = conf->early_data;
  if (conf->early_data) tls_early_init();
  server->certs = (struct tls_cert *)mem_array(conf->cert_count, sizeof(server->certs[0]));
  server->ctx = (SSL_CTX **)mem_array(conf->workers, sizeof(server->ctx[0]));
  server->cert_ctx = (SSL_CTX **)mem_array(conf->cert_count, sizeof(server->cert_ctx[0]));
  server->alpn = arena_copy(&server->arena, conf->alpn, NULL);
  bool without = conf->alpn_optional || alpn_has(conf->alpn, SPAN_LIT("http/1.1"));
  server->alpn_needed = conf->alpn.len && !without;
  if (conf->groups.len) server->groups = mem_str(conf->groups);
  if (conf->ciphers.len) server->ciphers = mem_str(conf->ciphers);
  server->tickets_off = conf->tickets_off;
  server->pool = CRYPTO_BUFFER_POOL_new();
  check(server->pool != NULL);
  SHA256((const uint8_t *)conf->policy_id.ptr, conf->policy_id.len, server->policy_digest);
  return server;
}

static void server_free(struct tls_server *server) {
  for (uint32_t i = 0; i < server->workers; i++) SSL_CTX_free(server->ctx[i]);
  for (uint32_t i = 0; i < server->cert_count; i++) {
    SSL_CTX_free(server->cert_ctx[i]);
    tls_cert_fini(&server->certs[i]);
  }
  tls_auths_free(server->auths);
  CRYPTO_BUFFER_POOL_free(server->pool);
  tls_ticket_keys_free(server->tickets);
  mem_free(server->groups);
  mem_free(server->ciphers);
  mem_free(server->certs);
  mem_free(server->ctx);
  mem_free(server->cert_ctx);
  arena_reset(&server->arena);
  mem_free(server);
}

static bool auths_fill(struct tls_server *server, const struct tls_server_conf *conf,
                       uint32_t *bad_cert, struct buf *why) {
  uint32_t bad = 0;
  if (!conf->auth_count) return true;
  server->auths = tls_auths_new(server, conf, &bad, why);
  if (!server->auths) *bad_cert = TLS_BAD_AUTH + bad;
  return server->auths != NULL;
}

struct tls_server *tls_server_new(const struct tls_server_conf *conf, uint32_t *bad_cert,
                                  struct buf *why) {
  tls_mem_use();
  tls_tickets_init();
  *bad_cert = UINT32_MAX;
  if (!conf_ok(conf, why)) return NULL;
  struct tls_server *server = server_alloc(conf);
  bool ok = params_fill(server, conf, bad_cert, why) && certs_parse(server, conf, bad_cert, why) &&
            ctx_fill(server, conf->min_version, bad_cert, why) &&
            auths_fill(server, conf, bad_cert, why) &&
            ech_fill(server, conf, bad_cert, why); /* it looks at certificates and rows */
  if (ok) return server;
  server_free(server);
  return NULL;
}

void tls_server_ref(struct tls_server *server) {
  check(atomic_fetch_add_explicit(&server->refs, 1, memory_order_relaxed) > 0);
}

void tls_server_unref(struct tls_server *server) {
  uint32_t had = atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel);
  check(had > 0);
  if (had == 1) server_free(server);
}

/* dead: as in tls_client.c, a worker frees nothing that large. */
static _Atomic(struct tls_server *) dead;

void tls_server_leave(struct tls_server *server) {
  uint32_t had = atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel);
  check(had > 0);
  if (had > 1) return;
  server->next_dead = atomic_load_explicit(&dead, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(&dead, &server->next_dead, server,
                                                memory_order_release, memory_order_relaxed)) {
  }
}

void tls_servers_reap(void) {
  struct tls_server *server = atomic_exchange_explicit(&dead, NULL, memory_order_acquire);
  while (server) { /* as many as were let go since */
    struct tls_server *next = server->next_dead;
    server_free(server);
    server = next;
  }
}

bool tls_server_cert(const struct tls_server *server, uint32_t i, struct span *label,
                     int64_t *not_after) {
  if (i >= server->cert_count) return false;
  *label = server->certs[i].label;
  *not_after = server->certs[i].not_after;
  return true;
}

bool tls_server_serves(const struct tls_server *server, struct span host) {
  char canon[TLS_NAME_MAX];
  size_t len = 0;
  if (host.len > 0 && !tls_name_canon(host, false, canon, &len)) return false;
  return tls_names_find(&server->names, span_of(canon, len)) != NULL;
}

const char *tls_library(void) {
#if defined(OPENSSL_IS_AWSLC)
  return AWSLC_VERSION_NAME " " AWSLC_VERSION_NUMBER_STRING;
#else
#define TLS_TEXT(x) #x
#define TLS_NUMBER(x) TLS_TEXT(x)
  return "BoringSSL (API " TLS_NUMBER(BORINGSSL_API_VERSION) ")";
#endif
}

void tls_random(void *out, size_t len) { RAND_bytes((uint8_t *)out, len); }
