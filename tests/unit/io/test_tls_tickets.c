/* Session tickets (tls_tickets.c): across workers, reloads and certificates; bound to policy and
 * name; rotation and renewal; readers beside a writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <pthread.h>

#include "io/tls_priv.h"
#include "tls_harness.h"

#define HANDSHAKES 10000

static struct th_cert ec, other_ec, rsa;
static struct th_loop *loops[2];

static int setup(void **state) {
  (void)state;
  ec = th_cert_make(TH_P256, "DNS:a.example,DNS:b.example", 86400);
  other_ec = th_cert_make(TH_P256, "DNS:a.example,DNS:b.example", 86400);
  rsa = th_cert_make(TH_RSA2048, "DNS:a.example,DNS:b.example", 86400);
  for (int i = 0; i < 2; i++) loops[i] = th_loop_new();
  return 0;
}
static int teardown(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) th_loop_free(loops[i]);
  SSL_SESSION_free(th_ticket());
  th_cert_free(&ec);
  th_cert_free(&other_ec);
  th_cert_free(&rsa);
  return 0;
}

static struct tls_server *server_of(const struct th_cert *cert, const char *policy) {
  struct th_served served = {cert, NULL, true};
  return th_server(&served, 1, SPAN_LIT("\x08http/1.1"), span_str(policy));
}

static char chosen[16]; /* the protocol of the last visit */

/* visit connects once, offering session, and exchanges a byte so that tickets arrive; whether it
 * was resumed. The newest ticket is in th_ticket. */
static bool visit(struct tls_server *server, uint32_t worker, const struct th_client_conf *conf) {
  struct th_pair *p = th_pair_new(loops[worker], server, worker, th_client_new(conf));
  p->echo = true;
  th_run(p);
  assert_int_equal(p->opened, 1);
  assert_int_equal(p->open_err, 0);
  assert_int_equal(SSL_write(p->client, "x", 1), 1);
  th_run(p);
  char byte = 0;
  assert_int_equal(SSL_read(p->client, &byte, 1), 1);
  bool resumed = p->info.resumed, exchanged = p->info.group.len > 0;
  assert_int_equal(exchanged, !resumed || span_eq(p->info.version, SPAN_LIT("1.3")));
  snprintf(chosen, sizeof(chosen), SPAN_FMT, SPAN_ARG(p->info.alpn));
  assert_int_equal(resumed, SSL_session_reused(p->client));
  th_pair_free(p);
  return resumed;
}

static SSL_SESSION *first_ticket(struct tls_server *server, struct th_client_conf *conf) {
  SSL_SESSION_free(th_ticket());
  conf->resume = NULL;
  assert_false(visit(server, 0, conf));
  SSL_SESSION *session = th_ticket();
  assert_non_null(session);
  return session;
}

/* 10,000 handshakes, alternating workers, with a reload half way through (the same policy, another
 * tls_server, another certificate): every one resumes. */
static void all_resume(void **state) {
  (void)state;
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct tls_server *server = server_of(&ec, "web");
    struct th_client_conf conf = {.max = max, .sni = "a.example"};
    SSL_SESSION *session = first_ticket(server, &conf);
    int resumed = 0;
    for (int i = 0; i < HANDSHAKES / 2; i++) {
      if (i == HANDSHAKES / 4) {
        tls_server_unref(server);
        server = server_of(&other_ec, "web");
      }
      conf.resume = session;
      resumed += visit(server, (uint32_t)i % 2, &conf);
      SSL_SESSION *newer = th_ticket();
      if (newer) {
        SSL_SESSION_free(session);
        session = newer;
      }
    }
    assert_int_equal(resumed, HANDSHAKES / 2);
    SSL_SESSION_free(session);
    tls_server_unref(server);
  }
}

/* A ticket does not carry the protocol: it is chosen anew (RFC 7301 section 3.1), also by a
 * listener that serves others than before. */
static void protocol_chosen_anew(void **state) {
  (void)state;
  struct th_served served = {&ec, NULL, true};
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct tls_server *server =
        th_server(&served, 1, SPAN_LIT("\x02h2\x08http/1.1"), SPAN_LIT("web"));
    struct th_client_conf conf = {
        .alpn = SPAN_LIT("\x08http/1.1"), .max = max, .sni = "a.example"};
    SSL_SESSION *session = first_ticket(server, &conf);
    assert_string_equal(chosen, "http/1.1");
    conf.resume = session;
    conf.alpn = SPAN_LIT("\x02h2");
    assert_true(visit(server, 0, &conf));
    assert_string_equal(chosen, "h2");
    conf.alpn = SPAN_LIT("\x02h2\x08http/1.1");
    tls_server_unref(server);
    server = server_of(&ec, "web");
    assert_true(visit(server, 0, &conf));
    assert_string_equal(chosen, "http/1.1");
    SSL_SESSION_free(th_ticket());
    SSL_SESSION_free(session);
    tls_server_unref(server);
  }
}

static void bound_to_policy_and_name(void **state) {
  (void)state;
  static const struct {
    const char *policy, *sni, *policy2, *sni2;
    bool resumes;
  } rows[] = {
      {"web", "a.example", "web", "a.example", true},
      {"web", "a.example", "web", "A.Example.", true}, /* the same name */
      {"web", "a.example", "web", "b.example", false},
      {"web", "a.example", "web", NULL, false},
      {"web", NULL, "web", NULL, true},
      {"web", NULL, "web", "a.example", false},
      {"web", "a.example", "admin", "a.example", false},
      {"web", "a.example", "", "a.example", false},
      {"", "a.example", "", "a.example", true},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
      struct tls_server *one = server_of(&ec, rows[i].policy);
      struct tls_server *two = server_of(&ec, rows[i].policy2);
      struct th_client_conf conf = {.max = max, .sni = rows[i].sni};
      conf.resume = first_ticket(one, &conf);
      SSL_SESSION *session = conf.resume;
      conf.sni = rows[i].sni2;
      assert_int_equal(visit(two, 1, &conf), rows[i].resumes);
      SSL_SESSION_free(session);
      tls_server_unref(one);
      tls_server_unref(two);
    }
  }
}

/* A ticket outlives two rotations and is replaced by one of the newest key; the third ends it. */
static void rotation(void **state) {
  (void)state;
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct tls_server *server = server_of(&ec, "web");
    struct th_client_conf conf = {.max = max, .sni = "a.example"};
    for (int rotations = 0; rotations < 4; rotations++) {
      SSL_SESSION *session = first_ticket(server, &conf);
      for (int i = 0; i < rotations; i++) tls_tickets_rotate();
      conf.resume = session;
      assert_int_equal(visit(server, 1, &conf), rotations < 3);
      SSL_SESSION *renewed = th_ticket();
      if (rotations > 0) { /* an old key: a new ticket came, good for two rotations more */
        assert_non_null(renewed);
        tls_tickets_rotate();
        tls_tickets_rotate();
        conf.resume = renewed;
        assert_true(visit(server, 0, &conf));
      }
      SSL_SESSION_free(renewed);
      SSL_SESSION_free(session);
      SSL_SESSION_free(th_ticket());
    }
    tls_server_unref(server);
  }
}

/* A resumed handshake under another kind of certificate still resumes in TLS 1.3 (the certificate
 * is not used); TLS 1.2 suites name the key, so there it is a full handshake. */
static void other_key_kind(void **state) {
  (void)state;
  struct tls_server *one = server_of(&ec, "web"), *two = server_of(&rsa, "web");
  struct th_client_conf conf = {.max = TLS1_3_VERSION, .sni = "a.example"};
  SSL_SESSION *session = first_ticket(one, &conf);
  conf.resume = session;
  assert_true(visit(two, 0, &conf));
  SSL_SESSION_free(session);
  conf.max = TLS1_2_VERSION;
  session = first_ticket(one, &conf);
  conf.resume = session;
  assert_false(visit(two, 0, &conf));
  SSL_SESSION_free(session);
  tls_server_unref(one);
  tls_server_unref(two);
}

/* A ticket with any byte changed never resumes and never breaks the handshake. */
static void damaged_ticket(void **state) {
  (void)state;
  struct tls_server *server = server_of(&ec, "web");
  struct th_client_conf conf = {.max = TLS1_2_VERSION, .sni = "a.example"};
  SSL_SESSION *session = first_ticket(server, &conf);
  const uint8_t *ticket = NULL;
  size_t len = 0;
  SSL_SESSION_get0_ticket(session, &ticket, &len);
  assert_true(len > 100);
  uint8_t copy[1024], *bytes = NULL;
  size_t bytes_len = 0;
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  assert_int_equal(SSL_SESSION_to_bytes(session, &bytes, &bytes_len), 1);
  assert_true(len <= sizeof(copy));
  for (size_t i = 0; i < len; i++) {
    memcpy(copy, ticket, len);
    copy[i] ^= 0x40;
    SSL_SESSION *bad = SSL_SESSION_from_bytes(bytes, bytes_len, ctx);
    assert_non_null(bad);
    assert_int_equal(SSL_SESSION_set_ticket(bad, copy, i % 7 ? len : i), 1);
    conf.resume = bad;
    assert_false(visit(server, 0, &conf));
    SSL_SESSION_free(bad);
    SSL_SESSION_free(th_ticket());
  }
  OPENSSL_free(bytes);
  SSL_CTX_free(ctx);
  SSL_SESSION_free(session);
  tls_server_unref(server);
}

static _Atomic bool stop;

/* seal_and_open uses the callback as the library does, as fast as it can, until one that it sealed
 * has opened: at the latest when nothing is rotated any more. */
static void *seal_and_open(void *arg) {
  long *count = arg;
  while (!stop || count[1] == 0) {
    uint8_t name[16], iv[16], mac[2][32];
    unsigned mac_len = 0;
    for (int seal = 1; seal >= 0; seal--) {
      EVP_CIPHER_CTX cipher;
      HMAC_CTX hmac;
      EVP_CIPHER_CTX_init(&cipher);
      HMAC_CTX_init(&hmac);
      int result = tls_tickets_key(NULL, name, iv, &cipher, &hmac, seal);
      check(result > 0 || (!seal && result == 0)); /* 0: three rotations came between */
      if (result > 0) {
        HMAC_Update(&hmac, iv, sizeof(iv));
        HMAC_Final(&hmac, mac[seal], &mac_len);
      }
      EVP_CIPHER_CTX_cleanup(&cipher);
      HMAC_CTX_cleanup(&hmac);
      if (!seal && result > 0) {
        check(memcmp(mac[0], mac[1], 32) == 0); /* never a torn key */
        count[1]++;
      }
    }
    count[0]++;
  }
  return NULL;
}

static void rotate_under_load(void **state) {
  (void)state;
  static long counts[3][2];
  pthread_t threads[3];
  tls_tickets_init();
  stop = false;
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, seal_and_open, counts[i]);
  for (int i = 0; i < 20000; i++) tls_tickets_rotate();
  stop = true;
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 3; i++) assert_true(counts[i][0] > 0 && counts[i][1] > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_resume),
      cmocka_unit_test(protocol_chosen_anew),
      cmocka_unit_test(bound_to_policy_and_name),
      cmocka_unit_test(rotation),
      cmocka_unit_test(other_key_kind),
      cmocka_unit_test(damaged_ticket),
      cmocka_unit_test(rotate_under_load),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
