/* tls_client_auth.c: what clients are asked for (mutual TLS), by server name: policies compiled
 * with their server, the choice of one from the ClientHello, and what a session and a request are
 * bound to. Two policies are one when all that they ask is equal, whatever their row, their names
 * or their listener's generation. Does not judge certificates (tls_client_cert.c). Compiled off
 * the data path; the rest runs on the worker's thread. THREATS.md 16. */
#include <openssl/err.h>
#include <openssl/pool.h>
#include <stdlib.h>

#include "io/io_priv.h"
#include "io/tls_chain_priv.h"
#include "io/tls_client_auth_priv.h"
#include "weir/base/mem.h"

/* RULES is another number when certificates are refused that were good before: with keys of
 * tickets that stand in a file, sessions outlive a version of weir. */
#define RULES 2u

/* CA_NAMES_MAX bytes of names go with a request for a certificate: the list has 65535 at most. */
#define CA_NAMES_MAX 60000u

/* ---- names ---- */

static int name_cmp(const struct auth_name *a, bool wildcard, struct span name) {
  if (a->wildcard != wildcard) return a->wildcard ? 1 : -1;
  return span_cmp(a->name, name);
}

static int by_name(const void *left, const void *right) {
  const struct auth_name *b = (const struct auth_name *)right;
  return name_cmp((const struct auth_name *)left, b->wildcard, b->name);
}

static const struct auth_name *name_find(const struct tls_auths *auths, bool wildcard,
                                         struct span name) {
  uint32_t low = 0, high = auths->name_count;
  while (low < high) {
    uint32_t mid = low + (high - low) / 2;
    int order = name_cmp(&auths->names[mid], wildcard, name);
    if (order == 0) return &auths->names[mid];
    if (order < 0)
      low = mid + 1;
    else
      high = mid;
  }
  return NULL;
}

/* row_of is the row of a canonical name, + 1; 0: none fits. */
static uint32_t row_of(const struct tls_auths *auths, struct span name) {
  const struct auth_name *hit = name.len ? name_find(auths, false, name) : NULL;
  for (size_t dot = span_find_char(name, '.', 0); !hit && dot < name.len;
       dot = span_find_char(name, '.', dot + 1))
    hit = name_find(auths, true, span_from(name, dot + 1));
  return hit ? hit->row + 1 : auths->fallback;
}

/* ---- compile ---- */

static bool bad_name(struct buf *why, struct span name, const char *sentence) {
  buf_printf(why, "client: " SPAN_FMT " %s", SPAN_ARG(name), sentence);
  return false;
}

static bool name_add(struct tls_auths *auths, struct arena *arena, uint32_t row, struct span name,
                     struct buf *why) {
  char canon[TLS_NAME_MAX];
  size_t len = 0;
  if (!tls_name_canon(name, true, canon, &len)) return bad_name(why, name, "is no server name");
  struct span kept = arena_copy(arena, span_of(canon, len), NULL);
  bool wildcard = span_starts(kept, SPAN_LIT("*."));
  auths->names[auths->name_count++] =
      (struct auth_name){wildcard ? span_from(kept, 2) : kept, wildcard, row};
  return true;
}

static bool row_names(struct tls_auths *auths, struct arena *arena, uint32_t row,
                      const struct tls_auth_conf *conf, struct buf *why) {
  for (uint32_t i = 0; i < conf->name_count; i++)
    if (!name_add(auths, arena, row, conf->names[i], why)) return false;
  if (conf->name_count) return true;
  if (auths->fallback) return bad_name(why, SPAN_LIT("all other names"), "have two rows");
  auths->fallback = row + 1;
  return true;
}

static bool names_sort(struct tls_auths *auths, uint32_t *bad, struct buf *why) {
  qsort(auths->names, auths->name_count, sizeof auths->names[0], by_name);
  for (uint32_t i = 1; i < auths->name_count; i++) {
    const struct auth_name *b = &auths->names[i];
    if (by_name(b - 1, b) != 0) continue;
    *bad = b->row;
    return bad_name(why, b->name, "stands in two rows");
  }
  return true;
}

static void digest_fill(struct tls_auth *auth, const struct tls_auth_conf *conf) {
  SHA256_CTX sha;
  uint8_t parts[2][SHA256_DIGEST_LENGTH];
  const uint32_t numbers[] = {RULES, auth->required, auth->crls, auth->forward, auth->depth};
  SHA256((const uint8_t *)conf->ca_pem.ptr, conf->ca_pem.len, parts[0]);
  SHA256((const uint8_t *)conf->crl_pem.ptr, conf->crl_pem.len, parts[1]);
  SHA256_Init(&sha);
  SHA256_Update(&sha, numbers, sizeof numbers);
  SHA256_Update(&sha, parts, sizeof parts);
  SHA256_Final(auth->digest, &sha);
}

static void ca_name_add(struct tls_auth *auth, X509 *ca, CRYPTO_BUFFER_POOL *pool) {
  uint8_t *der = NULL;
  int len = i2d_X509_NAME(X509_get_subject_name(ca), &der);
  check(len > 0);
  CRYPTO_BUFFER *name = CRYPTO_BUFFER_new(der, (size_t)len, pool);
  check(name != NULL && sk_CRYPTO_BUFFER_push(auth->ca_names, name) > 0);
  OPENSSL_free(der);
}

/* names_bound leaves the list empty, which asks for any, when it is too long for its message
 * (RFC 8446 section 4.2.4). */
static void names_bound(struct tls_auth *auth) {
  size_t bytes = 0;
  for (size_t i = 0; i < sk_CRYPTO_BUFFER_num(auth->ca_names); i++)
    bytes += CRYPTO_BUFFER_len(sk_CRYPTO_BUFFER_value(auth->ca_names, i)) + 2;
  if (bytes <= CA_NAMES_MAX) return;
  sk_CRYPTO_BUFFER_pop_free(auth->ca_names, CRYPTO_BUFFER_free);
  auth->ca_names = sk_CRYPTO_BUFFER_new_null();
  check(auth->ca_names != NULL);
}

static void ca_names_fill(struct tls_auth *auth, CRYPTO_BUFFER_POOL *pool) {
  const STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(tls_roots_store(auth->roots, 0));
  for (size_t i = 0; i < sk_X509_OBJECT_num(all); i++) {
    X509 *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i)); /* NULL: a CRL */
    if (ca) ca_name_add(auth, ca, pool);
  }
  names_bound(auth);
}

static bool row_fill(struct tls_auth *auth, const struct tls_server *server,
                     const struct tls_auth_conf *conf, struct buf *why) {
  const struct tls_bundle bundle = {conf->ca_pem, conf->ca_label, conf->crl_pem, conf->crl_label};
  auth->required = conf->required;
  auth->crls = conf->crl_pem.len > 0;
  auth->crl_shared = conf->crl_shared;
  auth->forward = conf->forward;
  auth->depth = conf->depth;
  auth->ca_names = sk_CRYPTO_BUFFER_new_null();
  check(auth->ca_names != NULL);
  auth->roots = tls_roots_get(&bundle, server->workers, why);
  if (!auth->roots) return false;
  auth->crl_ends = tls_roots_crl_ends(auth->roots);
  ca_names_fill(auth, server->pool);
  digest_fill(auth, conf);
  return true;
}

static struct tls_auths *alloc(const struct tls_server_conf *conf) {
  uint32_t names = 0;
  for (uint32_t i = 0; i < conf->auth_count; i++) names += conf->auths[i].name_count;
  struct tls_auths *auths = (struct tls_auths *)mem_alloc(sizeof *auths);
  *auths = (struct tls_auths){.row_count = conf->auth_count, .closed = conf->auth_closed};
  auths->rows = (struct tls_auth *)mem_array(conf->auth_count, sizeof auths->rows[0]);
  auths->names = (struct auth_name *)mem_array(names, sizeof auths->names[0]);
  return auths;
}

struct tls_auths *tls_auths_new(struct tls_server *server, const struct tls_server_conf *conf,
                                uint32_t *bad, struct buf *why) {
  if (conf->auth_count >= UINT16_MAX) { /* tls_conn.auth */
    *bad = 0;
    buf_lit(why, "client: at most 65534 rows");
    return NULL;
  }
  struct tls_auths *auths = alloc(conf);
  bool ok = true;
  for (uint32_t i = 0; ok && i < conf->auth_count; i++) {
    const struct tls_auth_conf *row = &conf->auths[i];
    *bad = i;
    ok = row_names(auths, &server->arena, i, row, why) &&
         row_fill(&auths->rows[i], server, row, why);
    auths->rows[i].crl_label = arena_copy(&server->arena, row->crl_label, NULL);
  }
  if (ok && names_sort(auths, bad, why)) return auths;
  tls_auths_free(auths);
  return NULL;
}

void tls_auths_free(struct tls_auths *auths) {
  if (!auths) return;
  for (uint32_t i = 0; i < auths->row_count; i++) {
    if (auths->rows[i].roots) tls_roots_put(auths->rows[i].roots);
    sk_CRYPTO_BUFFER_pop_free(auths->rows[i].ca_names, CRYPTO_BUFFER_free);
  }
  mem_free(auths->rows);
  mem_free(auths->names);
  mem_free(auths);
}

bool tls_server_crl(const struct tls_server *server, uint32_t i, struct span *label,
                    int64_t *next_update) {
  if (!server->auths || i >= server->auths->row_count) return false;
  *label = server->auths->rows[i].crl_label;
  *next_update = server->auths->rows[i].crl_ends;
  return true;
}

/* ---- the handshake ---- */

const struct tls_auth *tls_auth_of(const struct tls_conn *tls) {
  return tls->auth ? &tls->server->auths->rows[tls->auth - 1] : NULL;
}

/* names_copy: the library takes what it is given, one list for each handshake. */
static STACK_OF(CRYPTO_BUFFER) * names_copy(const struct tls_auth *auth) {
  STACK_OF(CRYPTO_BUFFER) *copy = sk_CRYPTO_BUFFER_new_null();
  for (size_t i = 0; copy && i < sk_CRYPTO_BUFFER_num(auth->ca_names); i++) {
    CRYPTO_BUFFER *name = sk_CRYPTO_BUFFER_value(auth->ca_names, i);
    check(CRYPTO_BUFFER_up_ref(name) == 1 && sk_CRYPTO_BUFFER_push(copy, name) > 0);
  }
  return copy;
}

bool tls_auth_refuses(const struct tls_server *server, struct span name) {
  return server->auths && server->auths->closed && !row_of(server->auths, name);
}

bool tls_auth_ask(struct tls_conn *tls, SSL *ssl, struct span name) {
  if (!tls->server->auths) return true;
  tls->auth = (uint16_t)row_of(tls->server->auths, name);
  const struct tls_auth *auth = tls_auth_of(tls);
  if (!auth) return true;
  STACK_OF(CRYPTO_BUFFER) *names = names_copy(auth);
  if (!names) return false;
  SSL_set0_client_CAs(ssl, names);
  SSL_set_custom_verify(ssl,
                        SSL_VERIFY_PEER | (auth->required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                        tls_client_cert_verify);
  SSL_set_msg_callback(ssl, tls_client_cert_coming);
  return true;
}

/* nothing and refused stand for what no row asks: they are no row's digest. */
static const uint8_t nothing[SHA256_DIGEST_LENGTH];
static const uint8_t refused[SHA256_DIGEST_LENGTH] = {1};

static const uint8_t *digest_of(const struct tls_auth *auth) {
  return auth ? auth->digest : nothing;
}

void tls_auth_bind(const struct tls_conn *tls, SHA256_CTX *sha) {
  SHA256_Update(sha, digest_of(tls_auth_of(tls)), SHA256_DIGEST_LENGTH);
}

void tls_auth_blame(struct tls_conn *tls, uint32_t code) {
  if (tls->end == END_OK && ERR_GET_LIB(code) == ERR_LIB_SSL &&
      ERR_GET_REASON(code) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
    tls->end = END_CLIENT_TLS_CERT_REQUIRED;
}

/* ---- what a connection may be used for ---- */

static const struct tls_conn *server_side(const struct conn *c) {
  const struct tls_conn *tls = tls_conn_of(c);
  return tls && !tls->is_client ? tls : NULL;
}

/* auth_for is what server asks of a host (NULL: nothing, or it is refused); one that is no name is
 * asked what all others are. */
static const struct tls_auth *auth_for(const struct tls_server *server, struct span host) {
  char canon[TLS_NAME_MAX];
  size_t len = 0;
  if (!server || !server->auths) return NULL;
  if (!tls_name_canon(host, false, canon, &len)) len = 0;
  uint32_t row = row_of(server->auths, span_of(canon, len));
  return row ? &server->auths->rows[row - 1] : NULL;
}

static const uint8_t *asked_for(const struct tls_server *server, struct span host) {
  const struct tls_auth *auth = auth_for(server, host);
  return !auth && server && server->auths && server->auths->closed ? refused : digest_of(auth);
}

static bool same(const uint8_t *a, const uint8_t *b) {
  return memcmp(a, b, SHA256_DIGEST_LENGTH) == 0;
}

bool conn_tls_stale(const struct conn *c, const struct tls_server *now) {
  const struct tls_conn *tls = server_side(c);
  if (!tls || tls->server == now || (!tls->server->auths && !(now && now->auths))) return false;
  return !same(digest_of(tls_auth_of(tls)), asked_for(now, tls_conn_sni(tls)));
}

/* let_in_again: what is asked has changed; whoever would be let in as before may go on. Where
 * nothing is asked any more nobody can tell whether an identity is still to be believed. */
static bool let_in_again(const struct tls_conn *tls, const struct tls_server *now,
                         struct span host) {
  const struct tls_auth *auth = auth_for(now, host);
  if (!same(digest_of(auth), asked_for(now, tls_conn_sni(tls)))) return false;
  return auth ? tls_client_cert_good(tls, auth) : !tls->identity;
}

bool conn_tls_covers(const struct conn *c, const struct tls_server *now, struct span host) {
  const struct tls_conn *tls = server_side(c);
  const struct tls_auth *auth = tls ? NULL : auth_for(now, host);
  if (!tls) return auth ? !auth->required : same(asked_for(now, host), nothing);
  if (!tls->server->auths && !(now && now->auths)) return true;
  const uint8_t *asked = digest_of(tls_auth_of(tls));
  if (!same(asked, asked_for(tls->server, host))) return false;
  if (same(asked, asked_for(now, host))) return true;
  return conn_tls_stale(c, now) && let_in_again(tls, now, host);
}

enum tls_forward conn_tls_forward(const struct conn *c) {
  const struct tls_conn *tls = server_side(c);
  const struct tls_auth *auth = tls ? tls_auth_of(tls) : NULL;
  return auth ? (enum tls_forward)auth->forward : TLS_FORWARD_OFF;
}
