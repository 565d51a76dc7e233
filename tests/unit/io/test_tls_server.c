/* Handshakes against a tls_server: versions, suites, SNI, key kinds, ALPN (tls_server.c,
 * tls_select.c), and what conn_tls_info says about them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "tls_harness.h"

static struct th_cert certs[5];
enum { ONE_EC, ONE_RSA, WILD_EC, DEFAULT_EC, ONE_P384 };

static int setup(void **state) {
  (void)state;
  certs[ONE_EC] = th_cert_make(TH_P256, "DNS:one.example,DNS:www.one.example", 86400);
  certs[ONE_RSA] = th_cert_make(TH_RSA2048, "DNS:one.example", 86400);
  certs[WILD_EC] = th_cert_make(TH_P256, "DNS:*.wild.example", 86400);
  certs[DEFAULT_EC] = th_cert_make(TH_P256, "DNS:default.example", 86400);
  certs[ONE_P384] = th_cert_make(TH_P384, "DNS:p384.example", 86400);
  return 0;
}
static int teardown(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(certs); i++) th_cert_free(&certs[i]);
  return 0;
}

/* leaf_is tells whether the client was shown this certificate. */
static bool leaf_is(SSL *client, const struct th_cert *cert) {
  X509 *got = SSL_get_peer_certificate(client);
  BIO *bio = BIO_new_mem_buf(cert->cert, -1);
  X509 *want = PEM_read_bio_X509(bio, NULL, NULL, NULL);
  bool same = got && X509_cmp(got, want) == 0;
  X509_free(got);
  X509_free(want);
  BIO_free(bio);
  return same;
}

struct world {
  struct th_loop *t;
  struct tls_server *server;
};

static struct world world_new(const struct th_served *served, uint32_t count, struct span alpn) {
  return (struct world){th_loop_new(), th_server(served, count, alpn, SPAN_LIT("policy"))};
}
static void world_free(struct world *w) {
  tls_server_unref(w->server);
  th_loop_free(w->t);
}

static struct th_pair *connect_with(struct world *w, const struct th_client_conf *conf) {
  ERR_clear_error();
  struct th_pair *p = th_pair_new(w->t, w->server, 0, th_client_new(conf));
  th_run(p);
  return p;
}

/* alert_of is the alert that weir sent last, in the clear, as in a failed TLS handshake. */
static int alert_of(const struct th_pair *p) {
  struct span out = text_span(&p->wire->out);
  if (!out.ptr || out.len < 7) return -1;
  const char *last = out.ptr + (out.len - 7);
  return last[0] == 21 && last[5] == 2 ? (uint8_t)last[6] : -1;
}

static const struct th_served both[] = {{&certs[ONE_EC], NULL, false},
                                        {&certs[ONE_RSA], NULL, false}};

static void versions_and_suites(void **state) {
  (void)state;
  static const struct {
    uint16_t min, max;
    const char *ciphers, *sigalgs, *version, *suite; /* suite NULL: refused */
  } rows[] = {
      {0, 0, NULL, NULL, "1.3", "TLS_AES_128_GCM_SHA256"},
      {0, TLS1_2_VERSION, NULL, NULL, "1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
      {0, TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", NULL, "1.2",
       "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
      {0, TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", NULL, "1.2",
       "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
      {0, TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256", NULL, "1.2",
       "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
      {0, TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256", NULL, "1.2",
       "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, /* our order */
      {0, TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA", NULL, "1.2", NULL},
      {0, TLS1_2_VERSION, "AES128-GCM-SHA256", NULL, "1.2", NULL},
      {0, TLS1_2_VERSION, "AES128-SHA", NULL, "1.2", NULL},
      {0, TLS1_1_VERSION, NULL, NULL, NULL, NULL},
      {0, TLS1_VERSION, NULL, NULL, NULL, NULL},
  };
  struct world w = world_new(both, 2, SPAN_EMPTY);
  for (size_t i = 0; i < array_count(rows); i++) {
    struct th_client_conf conf = {
        .min = rows[i].min, .max = rows[i].max, .ciphers = rows[i].ciphers, .sni = "one.example"};
    struct th_pair *p = connect_with(&w, &conf);
    assert_int_equal(p->opened, 1);
    if (rows[i].suite) {
      assert_int_equal(p->open_err, 0);
      assert_true(span_eq(p->info.version, span_str(rows[i].version)));
      assert_true(span_eq(p->info.cipher, span_str(rows[i].suite)));
      assert_int_equal(p->info.end, END_OK);
      assert_false(p->info.resumed);
    } else {
      assert_int_equal(p->open_err, -EPROTO);
      assert_int_equal(p->info.end, END_CLIENT_TLS_HANDSHAKE);
      assert_true(p->info.why.len > 0);
      assert_int_equal(alert_of(p),
                       rows[i].version ? SSL_AD_HANDSHAKE_FAILURE : SSL_AD_PROTOCOL_VERSION);
    }
    th_pair_free(p);
  }
  world_free(&w);
}

static void sni_table(void **state) {
  (void)state;
  static const struct th_served served[] = {{&certs[ONE_EC], NULL, false},
                                            {&certs[WILD_EC], NULL, false},
                                            {&certs[DEFAULT_EC], NULL, true},
                                            {&certs[ONE_P384], "exact.wild.example", false}};
  static const struct {
    const char *sni;
    int cert_default, cert_plain; /* with and without a default; -1: unrecognized_name */
    const char *canon;
  } rows[] = {
      {"one.example", ONE_EC, ONE_EC, "one.example"},
      {"ONE.Example", ONE_EC, ONE_EC, "one.example"},
      {"www.one.example", ONE_EC, ONE_EC, "www.one.example"},
      {"one.example.", ONE_EC, ONE_EC, "one.example"},
      {"a.wild.example", WILD_EC, WILD_EC, "a.wild.example"},
      {"A.WILD.example.", WILD_EC, WILD_EC, "a.wild.example"},
      {"exact.wild.example", ONE_P384, ONE_P384, "exact.wild.example"},
      {"a.b.wild.example", DEFAULT_EC, -1, "a.b.wild.example"},
      {"wild.example", DEFAULT_EC, -1, "wild.example"},
      {"other.example", DEFAULT_EC, -1, "other.example"},
      {"*.wild.example", -1, -1, ""},
      {"bad name", -1, -1, ""},
      {"..", -1, -1, ""},
      {"a..example", -1, -1, ""},
      {NULL, DEFAULT_EC, ONE_EC, ""},
  };
  for (int with_default = 0; with_default < 2; with_default++) {
    struct th_served now[4];
    memcpy(now, served, sizeof(now));
    now[2].is_default = with_default == 1;
    struct world w = world_new(now, 4, SPAN_EMPTY);
    for (size_t i = 0; i < array_count(rows); i++) {
      int want = with_default ? rows[i].cert_default : rows[i].cert_plain;
      for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
        struct th_client_conf conf = {.sni = rows[i].sni, .max = max};
        struct th_pair *p = connect_with(&w, &conf);
        assert_string_equal(p->sni, rows[i].canon);
        if (want >= 0) {
          assert_int_equal(p->open_err, 0);
          assert_true(leaf_is(p->client, &certs[want]));
        } else {
          assert_int_equal(p->open_err, -EPROTO);
          assert_int_equal(p->info.end, END_CLIENT_TLS_NAME);
          assert_int_equal(alert_of(p), SSL_AD_UNRECOGNIZED_NAME);
        }
        th_pair_free(p);
      }
      if (rows[i].sni) {
        assert_int_equal(tls_server_serves(w.server, span_str(rows[i].sni)), want >= 0);
      }
    }
    world_free(&w);
  }
}

/* With ECDSA and RSA for one name, the client's abilities choose. */
static void key_choice(void **state) {
  (void)state;
  static const struct {
    uint16_t max;
    const char *ciphers, *sigalgs, *groups;
    int cert;
  } rows[] = {
      {TLS1_3_VERSION, NULL, NULL, NULL, ONE_EC},
      {TLS1_3_VERSION, NULL, "RSA-PSS+SHA256", NULL, ONE_RSA},
      {TLS1_3_VERSION, NULL, "RSA-PSS+SHA256:ECDSA+SHA256", NULL, ONE_EC},
      {TLS1_3_VERSION, NULL, "RSA+SHA256:RSA-PSS+SHA384", NULL, ONE_RSA},
      {TLS1_2_VERSION, NULL, NULL, NULL, ONE_EC},
      {TLS1_2_VERSION, NULL, "RSA+SHA256", NULL, ONE_RSA},
      {TLS1_2_VERSION, NULL, "RSA+SHA256:ECDSA+SHA384", NULL, ONE_EC},
      {TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", NULL, NULL, ONE_RSA},
      {TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256", NULL, NULL,
       ONE_EC},
      {TLS1_2_VERSION, NULL, NULL, "X25519", ONE_RSA},
      {TLS1_2_VERSION, NULL, NULL, "X25519:P-256", ONE_EC},
  };
  for (int reversed = 0; reversed < 2; reversed++) {
    const struct th_served order[] = {both[reversed], both[1 - reversed]};
    struct world w = world_new(order, 2, SPAN_EMPTY);
    for (size_t i = 0; i < array_count(rows); i++) {
      struct th_client_conf conf = {.max = rows[i].max,
                                    .ciphers = rows[i].ciphers,
                                    .sigalgs = rows[i].sigalgs,
                                    .groups = rows[i].groups,
                                    .sni = i % 2 ? "one.example" : "ONE.example"};
      struct th_pair *p = connect_with(&w, &conf);
      assert_int_equal(p->open_err, 0);
      assert_true(leaf_is(p->client, &certs[rows[i].cert]));
      th_pair_free(p);
    }
    world_free(&w);
  }
}

/* A client that can verify none of the keys is told so by the library's own alert; in TLS 1.3 it
 * stands behind the ServerHello, so the client reads it. */
static void key_none(void **state) {
  (void)state;
  struct world w = world_new(both, 1, SPAN_EMPTY);
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_client_conf conf = {.max = max, .sigalgs = "RSA-PSS+SHA256", .sni = "one.example"};
    struct th_pair *p = connect_with(&w, &conf);
    assert_int_equal(p->open_err, -EPROTO);
    assert_int_equal(p->info.end, END_CLIENT_TLS_HANDSHAKE);
    /* BoringSSL of 2026 says that there is no cipher: none of our keys goes with one. */
    assert_true(span_eq(p->info.why, SPAN_LIT("NO_COMMON_SIGNATURE_ALGORITHMS")) ||
                span_eq(p->info.why, SPAN_LIT("NO_SHARED_CIPHER")));
    if (max == TLS1_2_VERSION) assert_int_equal(alert_of(p), SSL_AD_HANDSHAKE_FAILURE);
    th_pair_free(p);
  }
  world_free(&w);
}

/* Every list that a listener can have against every kind of offer. want NULL: refused, by the
 * alert alone; "": nothing is chosen, which is HTTP/1.1. RFC 7301 section 3.2, RFC 9113
 * section 3.2. */
struct alpn_row {
  struct span ours, offer;
  const char *want;
};

#define H2 "\x02h2"
#define HTTP_1_1 "\x08http/1.1"
#define FOO \
  "\x03" \
  "foo"
#define NEAR_FOO \
  "\x02" \
  "fo\x04" \
  "fooo\x03" \
  "FOO"
#define LONG32 "0123456789abcdef0123456789abcdef"
#define LONG255 \
  "\xff" LONG32 LONG32 LONG32 LONG32 LONG32 LONG32 LONG32 "0123456789abcdef0123456789abcde"
static const struct alpn_row alpn_rows[] = {
    {SPAN_LIT(H2 HTTP_1_1), SPAN_LIT(H2 HTTP_1_1), "h2"},
    {SPAN_LIT(H2 HTTP_1_1), SPAN_LIT(HTTP_1_1 H2), "h2"},
    {SPAN_LIT(H2 HTTP_1_1), SPAN_LIT(H2), "h2"},
    {SPAN_LIT(H2 HTTP_1_1), SPAN_LIT(HTTP_1_1), "http/1.1"},
    {SPAN_LIT(H2 HTTP_1_1), SPAN_LIT(FOO HTTP_1_1), "http/1.1"},
    {SPAN_LIT(H2 HTTP_1_1), SPAN_LIT(FOO HTTP_1_1 H2), "h2"},
    {SPAN_LIT(H2 HTTP_1_1), SPAN_LIT(FOO), NULL},
    {SPAN_LIT(H2 HTTP_1_1), SPAN_LIT("\x02h3"), NULL},
    {SPAN_LIT(H2 HTTP_1_1), SPAN_LIT("\x01h\x03h2c\x08HTTP/1.1\x08http/1.0"), NULL},
    {SPAN_LIT(H2 HTTP_1_1), {NULL, 0}, ""},
    {SPAN_LIT(HTTP_1_1 H2), SPAN_LIT(H2 HTTP_1_1), "http/1.1"},
    {SPAN_LIT(HTTP_1_1 H2), SPAN_LIT(HTTP_1_1 H2), "http/1.1"},
    {SPAN_LIT(HTTP_1_1 H2), SPAN_LIT(H2), "h2"},
    {SPAN_LIT(HTTP_1_1 H2), SPAN_LIT(HTTP_1_1), "http/1.1"},
    {SPAN_LIT(HTTP_1_1 H2), SPAN_LIT(FOO), NULL},
    {SPAN_LIT(HTTP_1_1 H2), {NULL, 0}, ""},
    {SPAN_LIT(H2), SPAN_LIT(HTTP_1_1 H2), "h2"},
    {SPAN_LIT(H2), SPAN_LIT(H2), "h2"},
    {SPAN_LIT(H2), SPAN_LIT(HTTP_1_1), NULL},
    {SPAN_LIT(H2), SPAN_LIT(FOO), NULL},
    {SPAN_LIT(H2), {NULL, 0}, NULL},
    {SPAN_LIT(HTTP_1_1), SPAN_LIT(H2 HTTP_1_1), "http/1.1"},
    {SPAN_LIT(HTTP_1_1), SPAN_LIT(HTTP_1_1), "http/1.1"},
    {SPAN_LIT(HTTP_1_1), SPAN_LIT(H2), NULL},
    {SPAN_LIT(HTTP_1_1), SPAN_LIT(FOO), NULL},
    {SPAN_LIT(HTTP_1_1), {NULL, 0}, ""},
    {{NULL, 0}, SPAN_LIT(FOO), ""}, /* no ALPN of ours: an offer is ignored */
    {{NULL, 0}, SPAN_LIT(H2), ""},
    {SPAN_LIT(FOO), {NULL, 0}, NULL},
    {{NULL, 0}, {NULL, 0}, ""},
};

/* Where ALPN is optional, as what is spoken is no HTTP: who offers nothing is let in. */
static const struct alpn_row optional_rows[] = {
    {SPAN_LIT(FOO H2), SPAN_LIT(H2 FOO), "foo"},
    {SPAN_LIT(FOO H2), SPAN_LIT(H2 HTTP_1_1), "h2"},
    {SPAN_LIT(FOO H2), SPAN_LIT(HTTP_1_1), NULL},
    {SPAN_LIT(FOO H2), SPAN_LIT(NEAR_FOO), NULL},
    {SPAN_LIT(FOO H2), {NULL, 0}, ""},
    {SPAN_LIT(FOO LONG255), SPAN_LIT(LONG255), &LONG255[1]},
    {{NULL, 0}, SPAN_LIT(FOO), ""},
    {{NULL, 0}, {NULL, 0}, ""},
};

static void check_alpn(const struct alpn_row *row, struct th_pair *p, bool v13) {
  if (row->want) {
    assert_int_equal(p->open_err, 0);
    assert_int_equal(p->info.end, END_OK);
    assert_true(span_eq(p->info.alpn, span_str(row->want)));
  } else {
    assert_int_equal(p->open_err, -EPROTO);
    assert_int_equal(p->info.end, END_CLIENT_TLS_ALPN);
    assert_int_equal(p->info.alpn.len, 0);
    assert_int_equal(alert_of(p), SSL_AD_NO_APPLICATION_PROTOCOL);
  }
  assert_true(!row->want || span_eq(p->info.version, v13 ? SPAN_LIT("1.3") : SPAN_LIT("1.2")));
}

static void alpn_all(const struct alpn_row *rows, size_t count, bool optional) {
  for (size_t i = 0; i < count; i++) {
    const struct alpn_row *row = &rows[i];
    const struct tls_server_conf server = {
        .alpn = row->ours, .alpn_optional = optional, .policy_id = SPAN_LIT("policy")};
    struct world w = {th_loop_new(), th_server_of(both, 2, server)};
    for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
      struct th_client_conf conf = {.alpn = row->offer, .max = max, .sni = "one.example"};
      struct th_pair *p = connect_with(&w, &conf);
      check_alpn(row, p, max == TLS1_3_VERSION);
      th_pair_free(p);
    }
    world_free(&w);
  }
}

static void alpn(void **state) {
  (void)state;
  alpn_all(alpn_rows, array_count(alpn_rows), false);
  alpn_all(optional_rows, array_count(optional_rows), true);
}

/* The name comes first: who asks for an unknown one learns nothing about protocols. */
static void alpn_and_name(void **state) {
  (void)state;
  struct world w = world_new(both, 2, SPAN_LIT(H2));
  struct th_client_conf conf = {.sni = "unknown.example"};
  struct th_pair *p = connect_with(&w, &conf);
  assert_int_equal(p->info.end, END_CLIENT_TLS_NAME);
  assert_int_equal(alert_of(p), SSL_AD_UNRECOGNIZED_NAME);
  th_pair_free(p);
  world_free(&w);
}

/* RFC 9113 section 9.2.2 and appendix A: over TLS 1.2 HTTP/2 gets ephemeral keys and AEAD only,
 * whatever else the client can do; the mandatory suite is there. */
static void suites_of_h2(void **state) {
  (void)state;
  struct world w = world_new(both, 2, SPAN_LIT(H2));
  SSL_CTX *all = SSL_CTX_new(TLS_method());
  assert_true(SSL_CTX_set_cipher_list(all, "ALL"));
  const STACK_OF(SSL_CIPHER) *suites = SSL_CTX_get_ciphers(all);
  uint32_t taken = 0, refused = 0;
  bool mandatory = false;
  for (size_t i = 0; i < sk_SSL_CIPHER_num(suites); i++) {
    const SSL_CIPHER *suite = sk_SSL_CIPHER_value(suites, i);
    if (SSL_CIPHER_get_auth_nid(suite) == NID_auth_psk) continue; /* this client has no such key */
    if (SSL_CIPHER_get_min_version(suite) > TLS1_2_VERSION) continue; /* AWS-LC lists them too */
    struct th_client_conf conf = {.alpn = SPAN_LIT(H2),
                                  .max = TLS1_2_VERSION,
                                  .ciphers = SSL_CIPHER_get_name(suite),
                                  .sni = "one.example"};
    struct th_pair *p = connect_with(&w, &conf);
    bool aead = SSL_CIPHER_is_aead(suite) && SSL_CIPHER_get_digest_nid(suite) == NID_undef;
    bool fit = aead && SSL_CIPHER_get_kx_nid(suite) == NID_kx_ecdhe;
    assert_int_equal(p->info.end, fit ? END_OK : END_CLIENT_TLS_HANDSHAKE);
    assert_true(span_eq(p->info.alpn, fit ? SPAN_LIT("h2") : SPAN_EMPTY));
    taken += fit;
    refused += !fit;
    mandatory = mandatory || (fit && span_eq(p->info.cipher,
                                             SPAN_LIT("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")));
    th_pair_free(p);
  }
  assert_true(mandatory && taken == 6 && refused > 4);
  SSL_CTX_free(all);
  world_free(&w);
}

static void groups(void **state) {
  (void)state;
  struct world w = world_new(both, 2, SPAN_EMPTY);
  static const char *const served[] = {"X25519", "P-256", "P-384", "P-521:P-256"};
  for (size_t i = 0; i < array_count(served); i++) {
    struct th_client_conf conf = {.groups = served[i], .sni = "one.example"};
    struct th_pair *p = connect_with(&w, &conf);
    assert_int_equal(p->open_err, 0);
    th_pair_free(p);
  }
  struct th_client_conf conf = {.groups = "P-521", .sni = "one.example"};
  struct th_pair *p = connect_with(&w, &conf);
  assert_int_equal(p->open_err, -EPROTO);
  th_pair_free(p);
#if defined(SSL_GROUP_X25519_MLKEM768)
  struct th_client_conf pq = {.groups = "X25519MLKEM768:X25519", .sni = "one.example"};
  p = connect_with(&w, &pq);
  assert_int_equal(p->open_err, 0);
  assert_int_equal(SSL_get_group_id(p->client), SSL_GROUP_X25519_MLKEM768);
  th_pair_free(p);
#endif
  world_free(&w);
}

static void version_limits(void **state) {
  (void)state;
  struct tls_cert_conf cert = {.cert_pem = span_str(certs[ONE_EC].cert),
                               .key_pem = span_str(certs[ONE_EC].key),
                               .label = SPAN_LIT("a")};
  static const struct {
    uint16_t min, max, client_max;
    const char *version; /* NULL: refused by alert; "": refused by tls_server_new */
  } rows[] = {
      {TLS1_3_VERSION, TLS1_3_VERSION, TLS1_2_VERSION, NULL},
      {TLS1_3_VERSION, TLS1_3_VERSION, TLS1_3_VERSION, "1.3"},
      {TLS1_2_VERSION, TLS1_2_VERSION, TLS1_3_VERSION, "1.2"},
      {TLS1_3_VERSION, TLS1_2_VERSION, TLS1_3_VERSION, ""},
      {TLS1_1_VERSION, TLS1_3_VERSION, TLS1_3_VERSION, ""},
      {TLS1_2_VERSION, 0x0305, TLS1_3_VERSION, ""},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct tls_server_conf conf = {.certs = &cert,
                                   .cert_count = 1,
                                   .min_version = rows[i].min,
                                   .max_version = rows[i].max,
                                   .workers = 1};
    char text[256];
    struct buf why = buf_of(text, sizeof(text));
    uint32_t bad = 0;
    struct world w = {NULL, tls_server_new(&conf, &bad, &why)};
    assert_int_equal(bad, UINT32_MAX);
    if (rows[i].version && !*rows[i].version) {
      assert_null(w.server);
      assert_true(why.len > 0);
      continue;
    }
    w.t = th_loop_new();
    struct th_client_conf client = {.max = rows[i].client_max};
    struct th_pair *p = connect_with(&w, &client);
    if (rows[i].version) {
      assert_true(span_eq(p->info.version, span_str(rows[i].version)));
    } else {
      assert_int_equal(alert_of(p), SSL_AD_PROTOCOL_VERSION);
    }
    th_pair_free(p);
    world_free(&w);
  }
}

/* A ClientHello with any byte changed is served or refused, once, with a cause; under ASan it also
 * shows that nothing is read outside of it. */
static void hello_mutations(void **state) {
  (void)state;
  struct world w = world_new(both, 2, SPAN_LIT("\x02h2\x08http/1.1"));
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_client_conf conf = {
        .max = max, .sni = "one.example", .alpn = SPAN_LIT("\x08http/1.1")};
    struct th_pair *whole = th_pair_new(w.t, w.server, 0, th_client_new(&conf));
    th_pump(whole);
    struct span hello = text_span(&whole->wire->in);
    for (size_t i = 0; i < hello.len * 3; i++) {
      static const char change[] = {0x01, (char)0x80, (char)0xff};
      struct th_pair *p = th_pair_new(w.t, w.server, 1, NULL);
      text_put(&p->wire->in, hello);
      p->wire->in.ptr[i / 3] ^= change[i % 3];
      th_run(p);
      p->wire->in_fin = true;
      th_run(p);
      assert_int_equal(p->opened, 1);
      assert_true(p->open_err == -EPROTO || p->open_err == -ECONNABORTED);
      assert_int_not_equal(p->info.end, END_OK);
      th_pair_free(p);
    }
    th_pair_free(whole);
  }
  world_free(&w);
}

static void serves_names(void **state) {
  (void)state;
  struct world w = world_new(both, 2, SPAN_EMPTY);
  struct span label;
  int64_t not_after = 0;
  assert_true(tls_server_cert(w.server, 0, &label, &not_after));
  assert_true(span_eq(label, SPAN_LIT("cert0")));
  assert_true(not_after > 1700000000);
  assert_true(tls_server_cert(w.server, 1, &label, &not_after));
  assert_false(tls_server_cert(w.server, 2, &label, &not_after));
  assert_true(tls_server_serves(w.server, SPAN_LIT("One.Example")));
  assert_true(tls_server_serves(w.server, SPAN_EMPTY));
  assert_false(tls_server_serves(w.server, SPAN_LIT("two.example")));
  world_free(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(versions_and_suites),
      cmocka_unit_test(sni_table),
      cmocka_unit_test(key_choice),
      cmocka_unit_test(key_none),
      cmocka_unit_test(alpn),
      cmocka_unit_test(alpn_and_name),
      cmocka_unit_test(suites_of_h2),
      cmocka_unit_test(groups),
      cmocka_unit_test(version_limits),
      cmocka_unit_test(hello_mutations),
      cmocka_unit_test(serves_names),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
