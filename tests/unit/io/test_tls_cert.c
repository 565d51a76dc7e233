/* Certificates and keys from PEM (tls_cert.c) with the sentences for faulty ones, the name table
 * (tls_sni.c), and the self-signed certificate (tls_self_signed.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#include "io/tls_priv.h"
#include "tls_harness.h"
#include "weir/base/mem.h"

static char text[1024];

/* try_conf compiles; the sentence is in text, NUL-terminated. */
static struct tls_server *try_conf(const struct tls_cert_conf *certs, uint32_t count,
                                   uint32_t *bad) {
  struct tls_server_conf conf = {.certs = certs,
                                 .cert_count = count,
                                 .min_version = TLS1_2_VERSION,
                                 .max_version = TLS1_3_VERSION,
                                 .workers = 1};
  struct buf why = buf_of(text, sizeof(text) - 1);
  struct tls_server *server = tls_server_new(&conf, bad, &why);
  text[why.len] = '\0';
  assert_false(why.full);
  assert_int_equal(server == NULL, why.len > 0);
  return server;
}

static struct tls_cert_conf conf_of(const char *cert, const char *key, const char *label) {
  return (struct tls_cert_conf){
      .cert_pem = span_str(cert), .key_pem = span_str(key), .label = span_str(label)};
}

static void accepted(const char *cert, const char *key) {
  struct tls_cert_conf conf = conf_of(cert, key, "good.crt");
  uint32_t bad = 0;
  struct tls_server *server = try_conf(&conf, 1, &bad);
  if (!server) fail_msg("refused: %s", text);
  tls_server_unref(server);
}

/* refused checks that the sentence names the file and says the thing. */
static void refused(const char *cert, const char *key, const char *says) {
  struct tls_cert_conf conf = conf_of(cert, key, "tls/bad.crt");
  uint32_t bad = 99;
  assert_null(try_conf(&conf, 1, &bad));
  assert_int_equal(bad, 0);
  if (strncmp(text, "certificate tls/bad.crt: ", 25) != 0 || !strstr(text, says)) {
    fail_msg("\"%s\" does not say \"%s\"", text, says);
  }
}

static char *joined(const char *a, const char *b) { return mem_printf("%s%s", a, b); }

static void key_forms(void **state) {
  (void)state;
  static const enum th_key kinds[] = {TH_P256, TH_P384, TH_RSA2048};
  for (size_t i = 0; i < array_count(kinds); i++) {
    struct th_cert cert = th_cert_make(kinds[i], "DNS:a.example", 86400);
    accepted(cert.cert, cert.key); /* PKCS#8 */
    char *old = th_key_old(&cert); /* SEC1, PKCS#1 */
    accepted(cert.cert, old);
    char *params = joined(
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
        "-----END EC PARAMETERS-----\n",
        old);
    accepted(cert.cert, params);
    char *both = joined(cert.cert, cert.key); /* one file for both, given twice */
    accepted(both, both);
    char *remarks = joined("subject: CN=test\n  some text\n", cert.cert);
    accepted(remarks, cert.key);
    char *crlf = mem_alloc(2 * strlen(cert.cert) + 1);
    for (size_t from = 0, to = 0; cert.cert[from]; from++) {
      if (cert.cert[from] == '\n') crlf[to++] = '\r';
      crlf[to++] = cert.cert[from];
    }
    accepted(crlf, cert.key);
    mem_free(crlf);
    mem_free(remarks);
    mem_free(both);
    mem_free(params);
    mem_free(old);
    th_cert_free(&cert);
  }
}

static void faults(void **state) {
  (void)state;
  struct th_cert a = th_cert_make(TH_P256, "DNS:a.example", 86400);
  struct th_cert b = th_cert_make(TH_P256, "DNS:b.example", 86400);
  struct th_cert rsa = th_cert_make(TH_RSA2048, "DNS:a.example", 86400);
  struct th_cert small = th_cert_make(TH_RSA1024, "DNS:a.example", 86400);
  struct th_cert p521 = th_cert_make(TH_P521, "DNS:a.example", 86400);
  struct th_cert ed = th_cert_make(TH_ED25519, "DNS:a.example", 86400);
  char *locked = th_key_encrypted(&a);
  refused(a.cert, b.key, "belongs to another certificate");
  refused(a.cert, rsa.key, "belongs to another certificate");
  refused(small.cert, small.key, "RSA, 1024 bits");
  refused(p521.cert, p521.key, "ECDSA on another curve, 521 bits");
  refused(ed.cert, ed.key, "is not served");
  refused(a.cert, locked, "protected by a password");
  refused("", a.key, "no certificate in the file");
  refused(a.key, a.key, "no certificate in the file");
  refused(a.cert, "", "no private key");
  refused(a.cert, a.cert, "no private key");
  refused("hello", "world", "no certificate in the file");
  refused(a.cert,
          "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
          "DEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n",
          "protected by a password");
  refused(a.cert, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
          "cannot be read");
  refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", a.key,
          "is no X.509 certificate");
  refused("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", a.key, "damaged");
  char *cut = mem_str(span_of(a.cert, strlen(a.cert) / 2));
  refused(cut, a.key, "damaged");
  char *key_cut = mem_str(span_of(a.key, strlen(a.key) / 2));
  refused(a.cert, key_cut, "damaged");
  char *many = mem_str(SPAN_EMPTY);
  for (int i = 0; i < 11; i++) {
    char *more = joined(many, a.cert);
    mem_free(many);
    many = more;
  }
  refused(many, a.key, "more than 10 certificates");
  mem_free(many);
  mem_free(key_cut);
  mem_free(cut);
  mem_free(locked);
  struct th_cert *all[] = {&a, &b, &rsa, &small, &p521, &ed};
  for (size_t i = 0; i < array_count(all); i++) th_cert_free(all[i]);
}

static void chains(void **state) {
  (void)state;
  struct th_cert chain = th_chain_make("DNS:a.example", false);
  accepted(chain.cert, chain.key);
  th_cert_free(&chain);
  chain = th_chain_make("DNS:a.example", true);
  refused(chain.cert, chain.key, "certificate 2 is not the issuer of certificate 1");
  th_cert_free(&chain);
}

static void may_not_sign(void **state) {
  (void)state;
  struct th_cert cert = th_cert_agree_only();
  refused(cert.cert, cert.key, "cannot be used for TLS");
  th_cert_free(&cert);
}

/* Every prefix of a file, and every flipped byte, is served or refused with a sentence. */
static void cut_anywhere(void **state) {
  (void)state;
  struct th_cert cert = th_cert_make(TH_P256, "DNS:a.example", 86400);
  size_t cert_len = strlen(cert.cert), key_len = strlen(cert.key);
  for (size_t i = 0; i < cert_len + key_len; i++) {
    struct tls_cert_conf conf = conf_of(cert.cert, cert.key, "cut");
    if (i < cert_len) {
      conf.cert_pem.len = i;
    } else {
      conf.key_pem.len = i - cert_len;
    }
    uint32_t bad = 0;
    struct tls_server *server = try_conf(&conf, 1, &bad);
    if (server) tls_server_unref(server);
  }
  for (size_t i = 0; i < cert_len; i++) {
    char had = cert.cert[i];
    cert.cert[i] = (char)(had ^ 4);
    struct tls_cert_conf conf = conf_of(cert.cert, cert.key, "flipped");
    uint32_t bad = 0;
    struct tls_server *server = try_conf(&conf, 1, &bad);
    if (server) tls_server_unref(server);
    cert.cert[i] = had;
  }
  th_cert_free(&cert);
}

static void expiry_is_noted(void **state) {
  (void)state;
  static const long ends[] = {-86400, 3600, 86400L * 365 * 20};
  for (size_t i = 0; i < array_count(ends); i++) {
    struct th_cert cert = th_cert_make(TH_P256, "DNS:a.example", ends[i]);
    int64_t now = time(NULL);
    struct tls_cert_conf conf = conf_of(cert.cert, cert.key, "x");
    uint32_t bad = 0;
    struct tls_server *server = try_conf(&conf, 1, &bad);
    assert_non_null(server);
    struct span label;
    int64_t not_after = 0;
    assert_true(tls_server_cert(server, 0, &label, &not_after));
    assert_true(llabs(not_after - now - ends[i]) < 60);
    tls_server_unref(server);
    th_cert_free(&cert);
  }
}

static void names_of_conf(void **state) {
  (void)state;
  struct th_cert a = th_cert_make(TH_P256, "DNS:a.example,DNS:both.example", 86400);
  struct th_cert b = th_cert_make(TH_P256, "DNS:b.example,DNS:both.example", 86400);
  struct th_cert bare = th_cert_make(TH_P256, NULL, 86400);
  struct span given[] = {SPAN_LIT("Given.Example"), SPAN_LIT("both.example")};
  struct span twice[] = {SPAN_LIT("twice.example"), SPAN_LIT("TWICE.example.")};
  struct span wrong[] = {SPAN_LIT("a.example"), SPAN_LIT("no name")};
  struct tls_cert_conf conf[2] = {conf_of(a.cert, a.key, "a.crt"),
                                  conf_of(b.cert, b.key, "b.crt")};
  uint32_t bad = 0;
  struct tls_server *server = try_conf(conf, 2, &bad); /* names of certificates may overlap */
  assert_non_null(server);
  assert_true(tls_server_serves(server, SPAN_LIT("both.example")));
  tls_server_unref(server);
  conf[1].names = given;
  conf[1].name_count = 2;
  server = try_conf(conf, 2, &bad); /* a given name wins over one of a certificate */
  assert_non_null(server);
  const struct tls_choice *choice = tls_names_find(&server->names, SPAN_LIT("both.example"));
  assert_int_equal(choice->cert[TLS_KEY_P256], 2);
  assert_false(tls_server_serves(server, SPAN_LIT("b.example"))); /* not given */
  assert_true(tls_server_serves(server, SPAN_LIT("given.example")));
  tls_server_unref(server);
  conf[0].names = given;
  conf[0].name_count = 2;
  assert_null(try_conf(conf, 2, &bad)); /* two claim it */
  assert_int_equal(bad, 1);
  assert_string_equal(text,
                      "certificate b.crt: given.example is already served by a.crt with the "
                      "same kind of key; remove one of the two");
  conf[1].names = twice; /* the same name twice in one list is harmless */
  server = try_conf(conf, 2, &bad);
  assert_non_null(server);
  tls_server_unref(server);
  conf[1].names = wrong;
  assert_null(try_conf(conf, 2, &bad));
  assert_non_null(strstr(text, "certificate b.crt: \"no name\" is no host name"));
  conf[0] = conf_of(a.cert, a.key, "a.crt");
  conf[1] = conf_of(b.cert, b.key, "b.crt");
  conf[0].is_default = conf[1].is_default = true;
  assert_null(try_conf(conf, 2, &bad));
  assert_int_equal(bad, 1);
  assert_non_null(strstr(text, "a.crt is the default"));
  conf[0] = conf_of(bare.cert, bare.key, "bare.crt"); /* serves clients without SNI */
  server = try_conf(conf, 1, &bad);
  assert_non_null(server);
  assert_false(tls_server_serves(server, SPAN_LIT("a.example")));
  assert_true(tls_server_serves(server, SPAN_EMPTY));
  tls_server_unref(server);
  assert_null(try_conf(conf, 0, &bad));
  assert_int_equal(bad, UINT32_MAX);
  th_cert_free(&a);
  th_cert_free(&b);
  th_cert_free(&bare);
}

static void canonical_names(void **state) {
  (void)state;
  static const struct {
    const char *in, *out; /* NULL: no name */
    bool pattern;
  } rows[] = {
      {"example.com", "example.com", false},
      {"EXAMPLE.Com.", "example.com", false},
      {"a", "a", false},
      {"a_b-c.9", "a_b-c.9", false},
      {"*.x.y", "*.x.y", true},
      {"*.x.y", NULL, false},
      {"*", NULL, true},
      {"*.", NULL, true},
      {"*.*.x", NULL, true},
      {"a.*.x", NULL, true},
      {"a*.x", NULL, true},
      {"", NULL, false},
      {".", NULL, false},
      {"a..b", NULL, false},
      {".a", NULL, false},
      {"a..", NULL, false},
      {"a b", NULL, false},
      {"a/b", NULL, false},
      {"a:443", NULL, false},
      {"\xc3\xa4.de", NULL, false},
      {"127.0.0.1", "127.0.0.1", false},
      {"[::1]", NULL, false},
  };
  char out[TLS_NAME_MAX];
  for (size_t i = 0; i < array_count(rows); i++) {
    size_t len = 77;
    bool ok = tls_name_canon(span_str(rows[i].in), rows[i].pattern, out, &len);
    assert_int_equal(ok, rows[i].out != NULL);
    if (ok) assert_true(span_eq(span_of(out, len), span_str(rows[i].out)));
    if (!ok) assert_int_equal(len, 77);
  }
  char longest[256];
  size_t len = 0;
  memset(longest, 'a', sizeof(longest));
  for (size_t dot = 63; dot < 255; dot += 64) longest[dot] = '.';
  assert_true(tls_name_canon(span_of(longest, 253), false, out, &len));
  assert_false(tls_name_canon(span_of(longest, 254), false, out, &len));
  assert_true(tls_name_canon(span_of(longest, 63), false, out, &len));
  memset(longest, 'a', 64);
  assert_false(tls_name_canon(span_of(longest, 64), false, out, &len));
  assert_false(tls_name_canon(span_of("a\0b", 3), false, out, &len));
}

/* A table of 5,000 names answers as a plain search over the list does. */
static void large_table(void **state) {
  (void)state;
  enum { CERTS = 500, EACH = 10 };
  static struct tls_cert certs[CERTS];
  static struct span names[CERTS][EACH];
  static char store[CERTS][EACH][40];
  struct arena arena;
  arena_init(&arena, NULL, 0);
  for (uint32_t c = 0; c < CERTS; c++) {
    certs[c] = (struct tls_cert){.label = SPAN_LIT("x"),
                                 .key = (enum tls_key)(c % 3),
                                 .names = names[c],
                                 .name_count = EACH,
                                 .names_given = c % 2};
    for (uint32_t n = 0; n < EACH; n++) {
      uint32_t id = (c / 2 * EACH + n) * 2654435761u % 3000;
      int len = snprintf(store[c][n], 40, "%s%u.%s", id % 5 ? "" : "*.", id, n % 2 ? "a" : "b.c");
      names[c][n] = span_of(store[c][n], (size_t)len);
    }
  }
  struct tls_names table = {0};
  uint32_t bad = 0;
  struct buf why = buf_of(text, sizeof(text));
  for (uint32_t c = 0; c < CERTS; c++) certs[c].names_given = false;
  assert_true(tls_names_build(&table, certs, CERTS, &arena, &bad, &why));
  for (uint32_t id = 0; id < 3200; id++) {
    for (uint32_t form = 0; form < 4; form++) {
      char host[64], pattern[64];
      const char *tail = form % 2 ? "a" : "b.c";
      snprintf(host, sizeof(host), "%s%u.%s", form / 2 ? "www." : "", id, tail);
      snprintf(pattern, sizeof(pattern), "*.%u.%s", id, tail);
      const struct tls_choice *got = tls_names_find(&table, span_str(host));
      struct tls_choice want = {{0}};
      bool found = false;
      for (uint32_t c = 0; c < CERTS; c++) {
        for (uint32_t n = 0; n < EACH; n++) {
          const char *search = form / 2 ? pattern : host;
          if (!span_eq(names[c][n], span_str(search))) continue;
          found = true;
          if (!want.cert[certs[c].key]) want.cert[certs[c].key] = c + 1;
        }
      }
      assert_int_equal(got != NULL, found);
      if (got) assert_memory_equal(got, &want, sizeof(want));
    }
  }
  arena_reset(&arena);
}

static void self_signed(void **state) {
  (void)state;
  struct span names[] = {SPAN_LIT("localhost"), SPAN_LIT("*.demo.test"), SPAN_LIT("127.0.0.1"),
                         SPAN_LIT("::1")};
  char cert_text[4096], key_text[1024];
  struct buf cert = buf_of(cert_text, sizeof(cert_text) - 1);
  struct buf key = buf_of(key_text, sizeof(key_text) - 1);
  assert_true(tls_self_signed(names, 4, 30, &cert, &key));
  cert_text[cert.len] = key_text[key.len] = '\0';
  struct tls_cert_conf conf = conf_of(cert_text, key_text, "demo");
  uint32_t bad = 0;
  struct tls_server *server = try_conf(&conf, 1, &bad);
  assert_non_null(server);
  assert_true(tls_server_serves(server, SPAN_LIT("localhost")));
  assert_true(tls_server_serves(server, SPAN_LIT("x.demo.test")));
  tls_server_unref(server);
  BIO *bio = BIO_new_mem_buf(cert_text, -1);
  X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
  assert_int_equal(X509_check_host(x509, "localhost", 9, 0, NULL), 1);
  assert_int_equal(X509_check_ip_asc(x509, "127.0.0.1", 0), 1);
  assert_int_equal(X509_check_ip_asc(x509, "::1", 0), 1);
  assert_int_equal(X509_check_host(x509, "other", 5, 0, NULL), 0);
  EVP_PKEY *public = X509_get_pubkey(x509);
  assert_int_equal(X509_verify(x509, public), 1);
  EVP_PKEY_free(public);
  X509_free(x509);
  BIO_free(bio);
  struct buf tiny = buf_of(cert_text, 100);
  assert_false(tls_self_signed(names, 4, 30, &tiny, &key));
  assert_false(tls_self_signed(names, 0, 30, &cert, &key));
  struct span wrong = SPAN_LIT("a b");
  assert_false(tls_self_signed(&wrong, 1, 30, &cert, &key));
}

static void library_name(void **state) {
  (void)state;
  assert_true(strlen(tls_library()) > 5);
  uint8_t a[32] = {0}, b[32] = {0};
  tls_random(a, sizeof(a));
  tls_random(b, sizeof(b));
  assert_memory_not_equal(a, b, sizeof(a));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(key_forms),     cmocka_unit_test(faults),
      cmocka_unit_test(chains),        cmocka_unit_test(may_not_sign),
      cmocka_unit_test(cut_anywhere),  cmocka_unit_test(expiry_is_noted),
      cmocka_unit_test(names_of_conf), cmocka_unit_test(canonical_names),
      cmocka_unit_test(large_table),   cmocka_unit_test(self_signed),
      cmocka_unit_test(library_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
