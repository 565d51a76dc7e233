/* Groups and suites as the configuration has them (tls_params.c): what is negotiated, what the
 * library says that it lacks, and ML-KEM first wherever it is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "io/tls_priv.h"
#include "tls_harness.h"

#define ML_KEM "X25519MLKEM768"
#define ML_KEM_ID 0x11ec
#define X25519_ID 29
#define P256_ID 23
#define P384_ID 24

static struct th_cert ec, rsa;

static int setup(void **state) {
  (void)state;
  ec = th_cert_make(TH_P256, "DNS:a.example", 86400);
  rsa = th_cert_make(TH_RSA2048, "DNS:a.example", 86400);
  return 0;
}
static int teardown(void **state) {
  (void)state;
  th_cert_free(&ec);
  th_cert_free(&rsa);
  return 0;
}

static bool library_has(const char *group) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  bool has = SSL_CTX_set1_curves_list(ctx, group) == 1;
  ERR_clear_error();
  SSL_CTX_free(ctx);
  return has;
}

static struct tls_server *server_of(const char *groups, const char *ciphers, uint32_t *bad,
                                    struct buf *why) {
  const struct tls_cert_conf certs[] = {
      {.cert_pem = span_str(ec.cert), .key_pem = span_str(ec.key), .label = SPAN_LIT("ec")},
      {.cert_pem = span_str(rsa.cert), .key_pem = span_str(rsa.key), .label = SPAN_LIT("rsa")}};
  struct tls_server_conf conf = {.certs = certs,
                                 .cert_count = 2,
                                 .min_version = TLS1_2_VERSION,
                                 .max_version = TLS1_3_VERSION,
                                 .policy_id = SPAN_LIT("p"),
                                 .workers = 1};
  if (groups) conf.groups = span_str(groups);
  if (ciphers) conf.ciphers = span_str(ciphers);
  return tls_server_new(&conf, bad, why);
}

/* met is the group, or the suite's number, that a client with these and the server agree upon; 0:
 * none. */
static uint16_t met(struct tls_server *server, const struct th_client_conf *conf, bool suite) {
  struct th_loop *t = th_loop_new();
  SSL *client = th_client_new(conf);
  struct th_pair *p = th_pair_new(t, server, 0, client);
  ERR_clear_error();
  th_run(p);
  uint16_t found = 0;
  if (p->open_err == 0)
    found = suite ? SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(client))
                  : SSL_get_curve_id(client);
  th_pair_free(p);
  th_loop_free(t);
  return found;
}

static void groups_by_order(void **state) {
  (void)state;
  static const struct {
    const char *ours, *theirs;
    uint16_t found;
  } rows[] = {{NULL, "P-256:X25519", X25519_ID},
              {"P-384:X25519", "X25519:P-384", P384_ID},
              {"P-256", "X25519:P-256", P256_ID},
              {"P-384", "X25519:P-256", 0},
              {ML_KEM ":X25519", "X25519:" ML_KEM, ML_KEM_ID},
              {NULL, "X25519:" ML_KEM, ML_KEM_ID},
              {"X25519:" ML_KEM, "X25519:" ML_KEM, X25519_ID}};
  for (size_t i = 0; i < array_count(rows); i++) {
    if (strstr(rows[i].theirs, ML_KEM) && !library_has(ML_KEM)) continue;
    char text[256];
    struct buf why = buf_of(text, sizeof(text));
    uint32_t bad = 0;
    struct tls_server *server = server_of(rows[i].ours, NULL, &bad, &why);
    assert_non_null(server);
    struct th_client_conf conf = {.sni = "a.example", .groups = rows[i].theirs};
    assert_int_equal(met(server, &conf, false), rows[i].found);
    tls_server_unref(server);
  }
}

/* One that the library has not is named, and is the key's fault, not a certificate's. */
static void lacking(void **state) {
  (void)state;
  static const char *const lists[] = {"X25519:nonesuch:P-256", "X25519:" ML_KEM};
  static const char *const names[] = {"nonesuch", ML_KEM};
  for (size_t i = 0; i < array_count(lists); i++) {
    if (library_has(names[i])) continue;
    char text[256];
    struct buf why = buf_of(text, sizeof(text));
    uint32_t bad = 0;
    assert_null(server_of(lists[i], NULL, &bad, &why));
    assert_int_equal(bad, TLS_BAD_GROUPS);
    assert_true(span_ends(buf_span(&why), span_str(names[i])));
  }
  char text[256];
  struct buf why = buf_of(text, sizeof(text));
  uint32_t bad = 0;
  assert_null(server_of(NULL, "ECDHE-RSA-AES128-GCM-SHA256:nonesuch", &bad, &why));
  assert_int_equal(bad, TLS_BAD_CIPHERS);
  assert_int_equal(ERR_peek_error(), 0);
}

/* A certificate whose key no suite of the list allows is not shown. */
static void suites(void **state) {
  (void)state;
  static const struct {
    const char *ours, *theirs;
    uint16_t found;
  } rows[] = {
      {"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256",
       "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384",
       0xc030},
      {"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256",
       "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", 0xc02f},
      {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", 0}};
  for (size_t i = 0; i < array_count(rows); i++) {
    char text[256];
    struct buf why = buf_of(text, sizeof(text));
    uint32_t bad = 0;
    struct tls_server *server = server_of(NULL, rows[i].ours, &bad, &why);
    assert_non_null(server);
    struct th_client_conf conf = {
        .max = TLS1_2_VERSION, .sni = "a.example", .ciphers = rows[i].theirs};
    assert_int_equal(met(server, &conf, true), rows[i].found);
    tls_server_unref(server);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(groups_by_order), cmocka_unit_test(lacking),
                                     cmocka_unit_test(suites)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
