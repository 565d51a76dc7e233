/* tls_select.c: what the server decides from a ClientHello: the certificate by SNI and by what the
 * client can verify, the session context (tickets resume only under the same policy and name),
 * ALPN. These are the library's callbacks; they run inside the handshake on the worker's thread.
 * RFC 8446 section 4.2.3, RFC 5246 section 7.4.1.4.1, RFC 8422, RFC 6066 section 3, RFC 7301. */
#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/sha.h>

#include "io/tls_client_auth_priv.h"

#define KEY_BIT(key) (1u << (key))

/* SUITES_CHACHA is tls_server.c's list for clients that begin with ChaCha20. */
#define SUITES_CHACHA \
  "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:" \
  "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"

/* offer_row: a value in a ClientHello list and the keys that it makes usable. */
struct offer_row {
  uint16_t value;
  uint8_t keys;
};

/* Signature algorithms. In TLS 1.2 the hash is not tied to the curve, and RSA may be PKCS#1. */
static const struct offer_row sigalgs_13[] = {
    {SSL_SIGN_ECDSA_SECP256R1_SHA256, KEY_BIT(TLS_KEY_P256)},
    {SSL_SIGN_ECDSA_SECP384R1_SHA384, KEY_BIT(TLS_KEY_P384)},
    {SSL_SIGN_RSA_PSS_RSAE_SHA256, KEY_BIT(TLS_KEY_RSA)},
    {SSL_SIGN_RSA_PSS_RSAE_SHA384, KEY_BIT(TLS_KEY_RSA)},
    {SSL_SIGN_RSA_PSS_RSAE_SHA512, KEY_BIT(TLS_KEY_RSA)},
};
static const struct offer_row sigalgs_12[] = {
    {SSL_SIGN_ECDSA_SECP256R1_SHA256, KEY_BIT(TLS_KEY_P256) | KEY_BIT(TLS_KEY_P384)},
    {SSL_SIGN_ECDSA_SECP384R1_SHA384, KEY_BIT(TLS_KEY_P256) | KEY_BIT(TLS_KEY_P384)},
    {SSL_SIGN_RSA_PSS_RSAE_SHA256, KEY_BIT(TLS_KEY_RSA)},
    {SSL_SIGN_RSA_PSS_RSAE_SHA384, KEY_BIT(TLS_KEY_RSA)},
    {SSL_SIGN_RSA_PSS_RSAE_SHA512, KEY_BIT(TLS_KEY_RSA)},
    {SSL_SIGN_RSA_PKCS1_SHA256, KEY_BIT(TLS_KEY_RSA)},
    {SSL_SIGN_RSA_PKCS1_SHA384, KEY_BIT(TLS_KEY_RSA)},
    {SSL_SIGN_RSA_PKCS1_SHA512, KEY_BIT(TLS_KEY_RSA)},
};
/* TLS 1.2 suites that tls_server.c allows. */
static const struct offer_row suites_12[] = {
    {0xc02b, KEY_BIT(TLS_KEY_P256) | KEY_BIT(TLS_KEY_P384)}, /* ECDHE_ECDSA AES_128_GCM */
    {0xc02c, KEY_BIT(TLS_KEY_P256) | KEY_BIT(TLS_KEY_P384)}, /* ECDHE_ECDSA AES_256_GCM */
    {0xcca9, KEY_BIT(TLS_KEY_P256) | KEY_BIT(TLS_KEY_P384)}, /* ECDHE_ECDSA CHACHA20 */
    {0xc02f, KEY_BIT(TLS_KEY_RSA)},                          /* ECDHE_RSA AES_128_GCM */
    {0xc030, KEY_BIT(TLS_KEY_RSA)},                          /* ECDHE_RSA AES_256_GCM */
    {0xcca8, KEY_BIT(TLS_KEY_RSA)},                          /* ECDHE_RSA CHACHA20 */
};
/* Groups: in TLS 1.2 they name the curves of certificates too (RFC 8422 section 5.1). */
static const struct offer_row groups_12[] = {
    {SSL_CURVE_SECP256R1, KEY_BIT(TLS_KEY_P256)},
    {SSL_CURVE_SECP384R1, KEY_BIT(TLS_KEY_P384)},
};

struct tls_conn *tls_of(const SSL *ssl) {
  const struct tls_worker *worker = (const struct tls_worker *)BIO_get_data(SSL_get_rbio(ssl));
  check(worker->current != NULL);
  return worker->current;
}

/* keys_of adds up the keys of all values of a list of 16-bit numbers. */
static uint32_t keys_of(CBS list, const struct offer_row *rows, size_t row_count) {
  uint32_t keys = 0;
  uint16_t value = 0;
  while (CBS_get_u16(&list, &value)) {
    for (size_t i = 0; i < row_count; i++) {
      if (rows[i].value == value) keys |= rows[i].keys;
    }
  }
  return keys;
}

/* ext_list gives the inner list of an extension that is one 16-bit-length list. */
static bool ext_list(const SSL_CLIENT_HELLO *hello, uint16_t type, CBS *list) {
  const uint8_t *data = NULL;
  size_t len = 0;
  if (!SSL_early_callback_ctx_extension_get(hello, type, &data, &len)) return false;
  CBS ext;
  CBS_init(&ext, data, len);
  return CBS_get_u16_length_prefixed(&ext, list) == 1;
}

static bool offers_tls13(const SSL_CLIENT_HELLO *hello, uint16_t max_version) {
  const uint8_t *data = NULL;
  size_t len = 0;
  CBS ext, list;
  if (max_version < TLS1_3_VERSION ||
      !SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_supported_versions, &data, &len)) {
    return false;
  }
  CBS_init(&ext, data, len);
  if (!CBS_get_u8_length_prefixed(&ext, &list)) return false;
  static const struct offer_row versions[] = {{TLS1_3_VERSION, 1}};
  return keys_of(list, versions, array_count(versions)) != 0;
}

uint32_t tls_select_suites(const SSL_CTX *ctx) {
  const STACK_OF(SSL_CIPHER) *list = SSL_CTX_get_ciphers(ctx);
  uint32_t set = 0;
  for (size_t i = 0; i < sk_SSL_CIPHER_num(list); i++) {
    uint16_t value = SSL_CIPHER_get_protocol_id(sk_SSL_CIPHER_value(list, i));
    for (uint32_t row = 0; row < array_count(suites_12); row++)
      if (suites_12[row].value == value) set |= 1u << row;
  }
  return set;
}

bool tls_select_fits(uint32_t suites, enum tls_key key) {
  for (uint32_t row = 0; row < array_count(suites_12); row++)
    if (suites & 1u << row && suites_12[row].keys & KEY_BIT(key)) return true;
  return false;
}

/* keys_by_suites: a suite that the listener does not allow makes no key usable. */
static uint32_t keys_by_suites(const SSL_CLIENT_HELLO *hello, uint32_t allowed) {
  CBS suites;
  uint32_t keys = 0;
  CBS_init(&suites, hello->cipher_suites, hello->cipher_suites_len);
  for (uint32_t row = 0; row < array_count(suites_12); row++)
    if (allowed & 1u << row) keys |= keys_of(suites, &suites_12[row], 1);
  return keys;
}

/* keys_usable is the set of keys that this client can verify. */
static uint32_t keys_usable(const SSL_CLIENT_HELLO *hello, const struct tls_server *server) {
  CBS list;
  bool have_sigalgs = ext_list(hello, TLSEXT_TYPE_signature_algorithms, &list);
  if (offers_tls13(hello, server->max_version)) {
    return have_sigalgs ? keys_of(list, sigalgs_13, array_count(sigalgs_13)) : 0;
  }
  uint32_t keys = keys_by_suites(hello, server->suites);
  if (have_sigalgs) keys &= keys_of(list, sigalgs_12, array_count(sigalgs_12));
  if (ext_list(hello, TLSEXT_TYPE_supported_groups, &list)) {
    keys &= keys_of(list, groups_12, array_count(groups_12)) | KEY_BIT(TLS_KEY_RSA);
  }
  return keys;
}

/* choose takes the best key that the client can use; else any, so that the library says what is
 * wrong in its alert. Index + 1. */
static uint32_t choose(const struct tls_choice *choice, uint32_t keys) {
  uint32_t any = 0;
  for (uint32_t key = 0; key < TLS_KEY_COUNT; key++) {
    uint32_t cert = choice->cert[key];
    if (cert && (keys & KEY_BIT(key))) return cert;
    if (cert && !any) any = cert;
  }
  return any;
}

enum sni { SNI_NONE, SNI_NAME, SNI_BAD };

/* sni_read gives the canonical host name; SNI_BAD for one that is no host name. An address has no
 * place there (RFC 6066 section 3): who sends one names nobody. */
static enum sni sni_read(const SSL_CLIENT_HELLO *hello, char *canon, size_t *len) {
  const uint8_t *data = NULL;
  size_t data_len = 0;
  if (!SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_server_name, &data, &data_len)) {
    return SNI_NONE;
  }
  CBS ext, list, host;
  uint8_t type = 0;
  CBS_init(&ext, data, data_len);
  bool ok = CBS_get_u16_length_prefixed(&ext, &list) && CBS_get_u8(&list, &type) &&
            CBS_get_u16_length_prefixed(&list, &host) && CBS_len(&ext) == 0;
  if (!ok || type != TLSEXT_NAMETYPE_host_name) return SNI_BAD;
  struct span name = span_of((const char *)CBS_data(&host), CBS_len(&host));
  struct addr ip;
  if (addr_from_ip(name, 0, &ip)) return SNI_NONE;
  return tls_name_canon(name, false, canon, len) ? SNI_NAME : SNI_BAD;
}

/* sni_keep: the library keeps what the client sent; a copy is needed only where that is not the
 * canonical form. */
static void sni_keep(struct tls_conn *tls, const SSL_CLIENT_HELLO *hello, struct span canon) {
  const uint8_t *data = NULL;
  size_t len = 0;
  (void)SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_server_name, &data, &len);
  struct span raw = span_from(span_of((const char *)data, len), 5);
  if (span_eq(raw, canon) || tls->sni) return;
  tls->sni = OPENSSL_strndup(canon.ptr, canon.len);
}

/* session_bind: a ticket is worth something only under the same policy and the same name
 * (THREATS.md 16); the certificate does not matter, so that it may be renewed. */
static bool session_bind(SSL *ssl, const struct tls_conn *tls, struct span name) {
  const struct tls_server *server = tls->server;
  SHA256_CTX sha;
  uint8_t id[SHA256_DIGEST_LENGTH];
  SHA256_Init(&sha);
  SHA256_Update(&sha, server->policy_digest, sizeof(server->policy_digest));
  tls_auth_bind(tls, &sha);
  if (name.len) SHA256_Update(&sha, name.ptr, name.len);
  SHA256_Final(id, &sha);
  return SSL_set_session_id_context(ssl, id, sizeof(id)) == 1;
}

/* alpn_lacks: a client without ALPN speaks HTTP/1.1 (RFC 9113 section 3.2), which may not be
 * served; what is no HTTP has no such rule. */
static bool alpn_lacks(const struct tls_server *server, const SSL_CLIENT_HELLO *hello) {
  const uint8_t *data = NULL;
  size_t len = 0;
  return server->alpn_needed &&
         !SSL_early_callback_ctx_extension_get(
             hello, TLSEXT_TYPE_application_layer_protocol_negotiation, &data, &len);
}

/* staple: the response is set anew for each client that asks, as one that ended since the server
 * was made must not go out. */
static bool staple(struct tls_conn *tls, const SSL_CLIENT_HELLO *hello,
                   const struct tls_ocsp *ocsp) {
  const uint8_t *data = NULL;
  size_t len = 0;
  if (!ocsp->der.len || !SSL_early_callback_ctx_extension_get(
                            hello, TLSEXT_TYPE_status_request, &data, &len))
    return true;
  tls->stapled = tls_ocsp_valid(ocsp, tls_wall_s());
  tls->staple_stale = !tls->stapled;
  return !tls->stapled ||
         SSL_set_ocsp_response(hello->ssl, (const uint8_t *)ocsp->der.ptr, ocsp->der.len) == 1;
}

static bool is_grease(uint16_t value) { return (value & 0x0f0f) == 0x0a0a; }

/* begins_with_chacha: so does a client without instructions for AES. */
static bool begins_with_chacha(const SSL_CLIENT_HELLO *hello) {
  CBS list;
  uint16_t suite = 0x0a0a; /* RFC 8701: reserved ones are no choice */
  CBS_init(&list, hello->cipher_suites, hello->cipher_suites_len);
  while (is_grease(suite) && CBS_get_u16(&list, &suite)) continue;
  return suite == 0x1303 || suite == 0xcca8 || suite == 0xcca9;
}

/* suites_for: what such a client of TLS 1.2 gets. That the server's order decides stays set: the
 * order of groups goes by the same option. */
static bool suites_for(const struct tls_server *server, const SSL_CLIENT_HELLO *hello) {
  if (server->ciphers || !begins_with_chacha(hello) || offers_tls13(hello, server->max_version))
    return true;
  return SSL_set_strict_cipher_list(hello->ssl, SUITES_CHACHA) == 1;
}

enum ssl_select_cert_result_t tls_select(const SSL_CLIENT_HELLO *hello) {
  struct tls_conn *tls = tls_of(hello->ssl);
  const struct tls_server *server = tls->server;
  char canon[TLS_NAME_MAX];
  size_t len = 0;
  enum sni sni = sni_read(hello, canon, &len);
  struct span name = span_of(canon, sni == SNI_NAME ? len : 0);
  tls->sni_known = sni == SNI_NAME;
  if (tls->sni_known) sni_keep(tls, hello, name);
  tls->alpn_refused = alpn_lacks(server, hello);
  tls->ech_offered = server->ech && tls_ech_offered(hello);
  const struct tls_choice *choice = sni == SNI_BAD ? NULL : tls_names_find(&server->names, name);
  if (!choice || tls_auth_refuses(server, name)) {
    tls->sni_refused = true; /* tls_select_name answers: only it can choose the alert */
    return ssl_select_cert_success;
  }
  uint32_t cert = choose(choice, keys_usable(hello, server));
  check(cert > 0);
  bool ok = SSL_set_SSL_CTX(hello->ssl, server->cert_ctx[cert - 1]) != NULL &&
            tls_auth_ask(tls, hello->ssl, name) && session_bind(hello->ssl, tls, name) &&
            staple(tls, hello, &server->certs[cert - 1].ocsp) && suites_for(server, hello);
  if (ok) tls_early_select(tls, hello); /* the other context has switched it off */
  return ok ? ssl_select_cert_success : ssl_select_cert_error;
}

int tls_select_name(SSL *ssl, int *alert, void *arg) {
  (void)arg;
  struct tls_conn *tls = tls_of(ssl);
  if (!tls->sni_refused && !tls->alpn_refused) return SSL_TLSEXT_ERR_OK;
  tls->end = tls->sni_refused ? END_CLIENT_TLS_NAME : END_CLIENT_TLS_ALPN;
  *alert = tls->sni_refused ? SSL_AD_UNRECOGNIZED_NAME : SSL_AD_NO_APPLICATION_PROTOCOL;
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* tls_select_alpn: our order decides; no common protocol is fatal (THREATS.md 29, ALPACA). */
int tls_select_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
                    unsigned in_len, void *arg) {
  (void)arg;
  struct tls_conn *tls = tls_of(ssl);
  CBS ours, mine, theirs, one;
  CBS_init(&ours, (const uint8_t *)tls->server->alpn.ptr, tls->server->alpn.len);
  while (CBS_get_u8_length_prefixed(&ours, &mine)) {
    CBS_init(&theirs, in, in_len);
    while (CBS_get_u8_length_prefixed(&theirs, &one)) {
      if (!CBS_mem_equal(&one, CBS_data(&mine), CBS_len(&mine))) continue;
      *out = CBS_data(&mine);
      *out_len = (uint8_t)CBS_len(&mine);
      return SSL_TLSEXT_ERR_OK;
    }
  }
  tls->end = END_CLIENT_TLS_ALPN;
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}
