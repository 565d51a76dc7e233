/* What clients are asked for by server name, which hosts a connection covers, when it is stale
 * (tls_client_auth.c), and who a client is taken for (tls_client_cert.c). Chains, CRLs and
 * sessions: tests/e2e/test_mtls*.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls_harness.h"
#include "weir/io/tls_client_auth.h"

static struct th_cert own, one, two;

static int setup(void **state) {
  (void)state;
  own = th_cert_make(TH_P256, "DNS:*.example,DNS:example", 86400);
  one =
      th_cert_make(TH_P256, "DNS:One.test,URI:spiffe://a/b,IP:10.0.0.1,IP:::1,email:a@b.c", 86400);
  two = th_cert_make(TH_P256, "DNS:two.test", 86400);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  th_cert_free(&own);
  th_cert_free(&one);
  th_cert_free(&two);
  return 0;
}

/* rule is a row of client policies: names separated by spaces. */
struct rule {
  const char *names;
  bool required;
  const struct th_cert *ca;
  uint32_t depth;
};

static struct tls_server *made_as(bool closed, const struct rule *rules, uint32_t count,
                                  uint32_t *bad) {
  struct span names[8][8];
  struct tls_auth_conf auths[8] = {0};
  for (uint32_t i = 0; i < count; i++) {
    struct span rest = span_str(rules[i].names), word;
    while (span_next_token(&rest, ' ', &word)) names[i][auths[i].name_count++] = word;
    auths[i].names = names[i];
    auths[i].required = rules[i].required;
    auths[i].ca_pem = span_str(rules[i].ca->cert);
    auths[i].ca_label = SPAN_LIT("ca");
    auths[i].depth = rules[i].depth;
  }
  const struct tls_cert_conf cert = {.cert_pem = span_str(own.cert),
                                     .key_pem = span_str(own.key),
                                     .label = SPAN_LIT("own"),
                                     .is_default = true};
  const struct tls_server_conf conf = {.certs = &cert,
                                       .cert_count = 1,
                                       .min_version = TLS1_2_VERSION,
                                       .max_version = TLS1_3_VERSION,
                                       .policy_id = SPAN_LIT("policy"),
                                       .auths = auths,
                                       .auth_count = count,
                                       .auth_closed = closed,
                                       .workers = 2};
  char text[256];
  struct buf why = buf_of(text, sizeof text);
  return tls_server_new(&conf, bad, &why);
}

/* made is NULL where the rows are refused: *bad says which. */
static struct tls_server *made(const struct rule *rules, uint32_t count, uint32_t *bad) {
  return made_as(false, rules, count, bad);
}

static SSL *client_new(const char *sni, const struct th_cert *cert) {
  const struct th_client_conf conf = {.sni = sni, .max = TLS1_2_VERSION};
  SSL *ssl = th_client_new(&conf);
  if (!cert) return ssl;
  BIO *cert_bio = BIO_new_mem_buf(cert->cert, -1), *key_bio = BIO_new_mem_buf(cert->key, -1);
  X509 *x509 = PEM_read_bio_X509(cert_bio, NULL, NULL, NULL);
  EVP_PKEY *key = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);
  assert_true(SSL_use_certificate(ssl, x509) == 1 && SSL_use_PrivateKey(ssl, key) == 1);
  X509_free(x509);
  EVP_PKEY_free(key);
  BIO_free(cert_bio);
  BIO_free(key_bio);
  return ssl;
}

/* shaken is a pair after its handshake, as this client. */
static struct th_pair *shaken(struct th_loop *t, struct tls_server *server, const char *sni,
                              const struct th_cert *cert) {
  ERR_clear_error();
  struct th_pair *p = th_pair_new(t, server, 1, client_new(sni, cert));
  th_run(p);
  assert_int_equal(p->opened, 1);
  return p;
}

static void rows_by_name(void **state) {
  (void)state;
  static const struct rule rules[] = {{"a.example *.b.example", true, &one, 0},
                                      {"*.c.b.example", false, &one, 0},
                                      {"x.c.b.example", true, &one, 0}};
  static const struct {
    const char *sni;
    bool refused;
  } rows[] = {{"a.example", true},     {"A.Example", true},
              {"b.example", false},    {"x.b.example", true},
              {"y.x.b.example", true}, {"y.c.b.example", false},
              {"x.c.b.example", true}, {"z.x.c.b.example", false},
              {"xa.example", false},   {"c.b.example", true},
              {NULL, false},           {"other", false}};
  uint32_t bad;
  struct th_loop *t = th_loop_new();
  struct tls_server *server = made(rules, 3, &bad);
  assert_non_null(server);
  for (size_t i = 0; i < array_count(rows); i++) {
    struct th_pair *p = shaken(t, server, rows[i].sni, NULL);
    assert_int_equal(p->open_err != 0, rows[i].refused);
    assert_int_equal(p->info.end, rows[i].refused ? END_CLIENT_TLS_CERT_REQUIRED : END_OK);
    th_pair_free(p);
  }
  tls_server_unref(server);
  th_loop_free(t);
}

/* Closed: no row, no handshake, whatever certificate would answer; no rows at all ask nothing. */
static void closed(void **state) {
  (void)state;
  static const struct rule named[] = {{"a.example *.b.example", true, &one, 0},
                                      {"c.example", false, &one, 0}};
  static const struct rule whole[] = {{"a.example", true, &one, 0}, {"", false, &one, 0}};
  static const struct {
    const char *sni;
    enum end named, whole;
  } rows[] = {{"a.example", END_CLIENT_TLS_CERT_REQUIRED, END_CLIENT_TLS_CERT_REQUIRED},
              {"A.eXample.", END_CLIENT_TLS_CERT_REQUIRED, END_CLIENT_TLS_CERT_REQUIRED},
              {"x.b.example", END_CLIENT_TLS_CERT_REQUIRED, END_OK},
              {"c.example", END_OK, END_OK},
              {"b.example", END_CLIENT_TLS_NAME, END_OK},
              {"xa.example", END_CLIENT_TLS_NAME, END_OK},
              {"other", END_CLIENT_TLS_NAME, END_OK},
              {"a..example", END_CLIENT_TLS_NAME, END_CLIENT_TLS_NAME},
              {NULL, END_CLIENT_TLS_NAME, END_OK}};
  uint32_t bad;
  struct th_loop *t = th_loop_new();
  struct tls_server *servers[] = {made_as(true, named, 2, &bad), made_as(true, whole, 2, &bad),
                                  made_as(true, NULL, 0, &bad)};
  for (size_t i = 0; i < array_count(rows); i++) {
    bool no_name = rows[i].sni && strstr(rows[i].sni, "..");
    const enum end wants[] = {rows[i].named, rows[i].whole,
                              no_name ? END_CLIENT_TLS_NAME : END_OK};
    for (size_t s = 0; s < array_count(servers); s++) {
      struct th_pair *p = shaken(t, servers[s], rows[i].sni, NULL);
      assert_int_equal(p->info.end, wants[s]);
      assert_int_equal(p->open_err != 0, wants[s] != END_OK);
      th_pair_free(p);
    }
  }
  for (size_t s = 0; s < array_count(servers); s++) tls_server_unref(servers[s]);
  th_loop_free(t);
}

/* What a reload to a closed server makes of connections that nothing was asked of. */
static void closed_and_stale(void **state) {
  (void)state;
  static const struct rule named[] = {{"a.example", false, &one, 0}};
  uint32_t bad;
  struct th_loop *t = th_loop_new();
  struct tls_server *none = made(NULL, 0, &bad), *open = made(named, 1, &bad),
                    *shut = made_as(true, named, 1, &bad);
  struct th_pair *before = shaken(t, none, "b.example", NULL);
  struct th_pair *nameless = shaken(t, open, NULL, NULL);
  struct th_pair *fits = shaken(t, open, "a.example", NULL);
  assert_true(conn_tls_stale(before->conn, shut) && conn_tls_stale(nameless->conn, shut));
  assert_false(conn_tls_stale(before->conn, open) || conn_tls_stale(nameless->conn, open));
  assert_false(conn_tls_covers(before->conn, shut, SPAN_LIT("b.example")));
  assert_false(conn_tls_covers(nameless->conn, shut, SPAN_EMPTY));
  assert_true(conn_tls_covers(nameless->conn, open, SPAN_EMPTY));
  assert_false(conn_tls_stale(fits->conn, shut));
  assert_true(conn_tls_covers(fits->conn, shut, SPAN_LIT("a.example")));
  th_pair_free(before);
  th_pair_free(nameless);
  th_pair_free(fits);
  struct tls_server *servers[] = {none, open, shut};
  for (size_t i = 0; i < array_count(servers); i++) tls_server_unref(servers[i]);
  th_loop_free(t);
}

static void bad_rows(void **state) {
  (void)state;
  const struct th_cert nothing = {.cert = (char *)(uintptr_t) "nothing"};
  const struct {
    struct rule rules[2];
    uint32_t bad;
  } rows[] = {{{{"a.example", true, &one, 0}, {"b.example", true, &nothing, 0}}, 1},
              {{{"a.example", true, &one, 0}, {"A.example.", true, &two, 0}}, UINT32_MAX},
              {{{"", true, &one, 0}, {"", true, &two, 0}}, 1},
              {{{"a.example", true, &one, 0}, {"*.", true, &two, 0}}, 1}};
  for (size_t i = 0; i < array_count(rows); i++) {
    uint32_t bad = 0;
    assert_null(made(rows[i].rules, 2, &bad));
    assert_true(bad >= TLS_BAD_AUTH && bad <= TLS_BAD_AUTH + 1);
    if (rows[i].bad != UINT32_MAX) assert_int_equal(bad, TLS_BAD_AUTH + rows[i].bad);
  }
}

/* Equal rows are one policy, wherever they stand. */
static void covers_and_stale(void **state) {
  (void)state;
  static const struct rule before[] = {
      {"a.example", false, &one, 0}, {"b.example", false, &two, 0}, {"c.example", false, &one, 0}};
  static const struct rule same[] = {{"c.example a.example", false, &one, 0},
                                     {"b.example d.example", false, &two, 0}};
  static const struct rule deeper[] = {{"a.example", false, &one, 1}};
  static const struct rule theirs[] = {{"a.example", false, &two, 0}};
  static const struct rule required[] = {{"a.example", true, &one, 0}};
  static const struct rule all[] = {{"", false, &one, 0}};
  uint32_t bad;
  struct th_loop *t = th_loop_new();
  struct tls_server *server = made(before, 3, &bad), *alike = made(same, 2, &bad),
                    *other = made(deeper, 1, &bad), *whole = made(all, 1, &bad),
                    *foreign = made(theirs, 1, &bad), *needs = made(required, 1, &bad),
                    *none = made(NULL, 0, &bad);
  struct th_pair *p = shaken(t, server, "a.example", &one);
  struct th_pair *open = shaken(t, none, "a.example", NULL);
  struct th_pair *bare = shaken(t, server, "a.example", NULL);
  assert_true(conn_tls_covers(p->conn, server, SPAN_LIT("a.example")));
  assert_true(conn_tls_covers(p->conn, server, SPAN_LIT("c.example")));
  assert_true(conn_tls_covers(p->conn, alike, SPAN_LIT("c.example")));
  assert_false(conn_tls_covers(p->conn, server, SPAN_LIT("b.example")));
  assert_false(conn_tls_covers(p->conn, server, SPAN_LIT("d.example")));
  assert_false(conn_tls_covers(p->conn, server, SPAN_LIT("[::1]")));
  assert_false(conn_tls_covers(p->conn, server, SPAN_EMPTY));
  assert_false(conn_tls_stale(p->conn, server) || conn_tls_stale(p->conn, alike));
  assert_false(conn_tls_stale(p->conn, whole));
  assert_true(conn_tls_stale(p->conn, other) && conn_tls_stale(p->conn, none));
  assert_true(conn_tls_stale(p->conn, NULL));
  /* What is stale serves what it did while what was shown is enough, and nothing else. */
  assert_true(conn_tls_covers(p->conn, other, SPAN_LIT("a.example")));
  assert_false(conn_tls_covers(p->conn, other, SPAN_LIT("b.example")));
  assert_false(conn_tls_covers(p->conn, foreign, SPAN_LIT("a.example")));
  assert_true(conn_tls_covers(p->conn, other, SPAN_LIT("a.example")));
  assert_false(conn_tls_covers(p->conn, foreign, SPAN_LIT("a.example")));
  /* Where nothing is asked any more nobody is who he showed to be; who showed nothing goes on. */
  assert_false(conn_tls_covers(p->conn, none, SPAN_LIT("a.example")));
  assert_false(conn_tls_covers(p->conn, NULL, SPAN_LIT("a.example")));
  assert_true(conn_tls_covers(bare->conn, none, SPAN_LIT("a.example")));
  assert_true(conn_tls_covers(bare->conn, foreign, SPAN_LIT("a.example")));
  assert_false(conn_tls_covers(bare->conn, needs, SPAN_LIT("a.example")));
  assert_false(conn_tls_covers(open->conn, needs, SPAN_LIT("a.example")));
  /* A reload that begins to ask is seen by connections of which nothing was asked. */
  assert_true(conn_tls_covers(open->conn, none, SPAN_LIT("x")));
  assert_false(conn_tls_stale(open->conn, none));
  assert_true(conn_tls_stale(open->conn, server));
  assert_false(conn_tls_covers(p->conn, NULL, SPAN_LIT("b.example")));
  th_pair_free(p);
  th_pair_free(bare);
  th_pair_free(open);
  open = shaken(t, none, "d.example", NULL); /* nothing new is asked of its own name */
  assert_false(conn_tls_stale(open->conn, server));
  assert_true(conn_tls_covers(open->conn, server, SPAN_LIT("d.example")));
  assert_false(conn_tls_covers(open->conn, server, SPAN_LIT("a.example")));
  th_pair_free(open);
  struct tls_server *servers[] = {server, alike, other, whole, foreign, needs, none};
  for (size_t i = 0; i < array_count(servers); i++) tls_server_unref(servers[i]);
  th_loop_free(t);
}

static bool has_san(const struct tls_identity *who, const char *text) {
  for (uint32_t i = 0; i < who->san_count; i++)
    if (span_eq(who->sans[i], span_str(text))) return true;
  return false;
}

static void identity(void **state) {
  (void)state;
  static const struct rule rules[] = {{"", false, &one, 0}};
  uint32_t bad;
  struct span der;
  struct th_loop *t = th_loop_new();
  struct tls_server *server = made(rules, 1, &bad);
  struct th_pair *p = shaken(t, server, "a.example", &one);
  const struct tls_identity *who = conn_tls_identity(p->conn);
  assert_non_null(who);
  assert_int_equal(who->san_count, 5);
  assert_true(has_san(who, "dns:one.test") && has_san(who, "uri:spiffe://a/b"));
  assert_true(has_san(who, "ip:10.0.0.1") && has_san(who, "ip:::1") &&
              has_san(who, "email:a@b.c"));
  assert_int_equal(who->hash.len, 64);
  assert_true(conn_tls_shown(p->conn, 0, &der) && !conn_tls_shown(p->conn, 1, &der));
  assert_true(der.len > 100);
  th_pair_free(p);
  p = shaken(t, server, "a.example", NULL);
  assert_null(conn_tls_identity(p->conn));
  assert_false(conn_tls_shown(p->conn, 0, &der));
  th_pair_free(p);
  p = shaken(t, server, "a.example", &two); /* nobody has issued it: told of, not believed */
  assert_int_equal(p->info.end, END_CLIENT_TLS_CERT_UNKNOWN_CA);
  assert_int_equal(p->info.hash.len, 64);
  th_pair_free(p);
  tls_server_unref(server);
  th_loop_free(t);
}

/* What a certificate has more than that is left away, in whole names. */
static void many_names(void **state) {
  (void)state;
  char *san = malloc(300 * 300), *end = san;
  for (int round = 0; round < 2; round++, end = san) {
    for (int i = 0; i < 100; i++)
      end += sprintf(end, "%sDNS:%0*d.test", i ? "," : "", round ? 60 : 3, i);
    struct th_cert cert = th_cert_make(TH_P256, san, 86400);
    const struct rule rules[] = {{"", true, &cert, 0}};
    uint32_t bad;
    struct th_loop *t = th_loop_new();
    struct tls_server *server = made(rules, 1, &bad);
    struct th_pair *p = shaken(t, server, "a.example", &cert);
    const struct tls_identity *who = conn_tls_identity(p->conn);
    assert_non_null(who);
    if (!round)
      assert_int_equal(who->san_count, TLS_SANS_MAX);
    else
      assert_true(who->san_count > 40 && who->san_count < TLS_SANS_MAX);
    for (uint32_t i = 0; i < who->san_count; i++)
      assert_true(span_ends(who->sans[i], SPAN_LIT(".test")));
    th_pair_free(p);
    tls_server_unref(server);
    th_loop_free(t);
    th_cert_free(&cert);
  }
  free(san);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_by_name),     cmocka_unit_test(bad_rows),
      cmocka_unit_test(closed),           cmocka_unit_test(closed_and_stale),
      cmocka_unit_test(covers_and_stale), cmocka_unit_test(identity),
      cmocka_unit_test(many_names)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
