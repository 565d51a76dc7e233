/* tls_signer.c and what stream_tls.c does meanwhile, without a thread: signatures are made when
 * the test says so. What a client sends while it waits for one is kept, up to a bound. Threads:
 * tests/e2e/test_tls_signer.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/err.h>

#include "io/tls_conn_priv.h"
#include "tls_harness.h"
#include "weir/base/mem.h"
#include "weir/io/tls_signer.h"

static struct th_cert quick, slow;
static struct tls_server *here, *there; /* there: other sessions, and it signs at once */
static struct th_loop *t;

static struct tls_server *server_make(const struct th_cert *cert, struct span policy) {
  const struct tls_cert_conf one = {.cert_pem = span_str(cert->cert),
                                    .key_pem = span_str(cert->key),
                                    .label = SPAN_LIT("one"),
                                    .is_default = true};
  const struct tls_server_conf conf = {.certs = &one,
                                       .cert_count = 1,
                                       .min_version = TLS1_2_VERSION,
                                       .max_version = TLS1_3_VERSION,
                                       .policy_id = policy,
                                       .early_data = true,
                                       .workers = 1};
  char text[256];
  struct buf why = buf_of(text, sizeof text);
  uint32_t bad = 0;
  struct tls_server *server = tls_server_new(&conf, &bad, &why);
  assert_non_null(server);
  return server;
}

static int setup(void **state) {
  (void)state;
  quick = th_cert_make(TH_P256, "DNS:a.example", 86400);
  slow = th_cert_make(TH_P384, "DNS:a.example", 86400);
  tls_signers_open();
  here = server_make(&slow, SPAN_LIT("here"));
  there = server_make(&quick, SPAN_LIT("there"));
  t = th_loop_new();
  return 0;
}

static int teardown(void **state) {
  (void)state;
  th_loop_free(t);
  tls_server_unref(here);
  tls_server_unref(there);
  th_cert_free(&quick);
  th_cert_free(&slow);
  return 0;
}

/* sign does all that waits: tls_signer_run ends when nothing is left. */
static void sign(void) {
  tls_signers_close();
  tls_signer_run();
  tls_signers_open();
}

static struct th_pair *waiting(uint16_t max, SSL_SESSION *resume) {
  struct th_client_conf conf = {.max = max, .sni = "a.example", .resume = resume};
  struct th_pair *p = th_pair_new(t, here, 0, th_client_new(&conf));
  SSL_set_early_data_enabled(p->client, resume != NULL);
  th_run(p);
  assert_int_equal(p->opened, 0);
  assert_true(conn_tls_signing(p->conn));
  return p;
}

static void a_handshake_waits_for_its_signature(void **state) {
  (void)state;
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_pair *p = waiting(max, NULL);
    sign();
    th_run(p);
    assert_true(p->opened == 1 && p->open_err == 0);
    th_pair_free(p);
  }
}

/* Nothing but early data may be sent before the server's answer, and no more of that than the
 * library would skip. */
static void who_sends_on_is_cut(void **state) {
  (void)state;
  static const char zeros[4096];
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_pair *p = waiting(max, NULL);
    size_t most = 0, sent = 0;
    while (p->opened == 0 && sent < 1u << 20) {
      text_put(&p->wire->in, span_of(zeros, sizeof zeros));
      sent += sizeof zeros;
      th_turn(t);
      if (t->loop.iobufs.bytes_out > most) most = t->loop.iobufs.bytes_out;
    }
    assert_int_equal(p->opened, 1);
    assert_int_equal(p->open_err, -EPROTO);
    assert_int_equal(conn_tls_end(p->conn), END_CLIENT_TLS_HANDSHAKE);
    struct tls_info info;
    conn_tls_info(p->conn, &info);
    assert_true(span_starts(info.why, SPAN_LIT("more than 32 KiB")));
    assert_true(sent > 32768 && sent <= 32768 + 2 * sizeof zeros);
    assert_true(most <= 4 * 32768); /* while it moves into a larger one */
    struct tls_signer_stats before, after;
    tls_signer_stats_get(&before);
    th_pair_free(p);
    sign();
    tls_signer_stats_get(&after);
    assert_int_equal(after.dropped_total, before.dropped_total + 1);
    th_turn(t);
    assert_int_equal(t->loop.iobufs.bytes_out, 0);
  }
}

static SSL_SESSION *session_from(struct tls_server *server) {
  struct th_client_conf conf = {.max = TLS1_3_VERSION, .sni = "a.example"};
  struct th_pair *p = th_pair_new(t, server, 0, th_client_new(&conf));
  th_run(p);
  assert_true(p->opened == 1 && p->open_err == 0);
  char byte;
  (void)SSL_read(p->client, &byte, 1);
  ERR_clear_error();
  th_pair_free(p);
  SSL_SESSION *session = th_ticket();
  assert_true(session && SSL_SESSION_early_data_capable(session));
  return session;
}

/* As much as a ticket of ours lets a client send early, in vain: it is kept, dropped unread behind
 * the signature, and what the client says then arrives. */
static void early_data_is_kept_meanwhile(void **state) {
  (void)state;
  SSL_SESSION *session = session_from(there);
  struct th_pair *p = waiting(TLS1_3_VERSION, session);
  static const char early[14336];
  assert_true(SSL_in_early_data(p->client));
  int n = SSL_write(p->client, early, sizeof early);
  assert_int_equal(n, sizeof early);
  th_run(p);
  assert_int_equal(p->opened, 0);
  assert_true(t->loop.iobufs.bytes_out >= sizeof early);
  sign();
  th_run(p);
  assert_int_equal(SSL_get_error(p->client, SSL_do_handshake(p->client)),
                   SSL_ERROR_EARLY_DATA_REJECTED);
  SSL_reset_early_data_reject(p->client);
  th_run(p);
  assert_true(p->opened == 1 && p->open_err == 0);
  assert_int_equal(SSL_write(p->client, "again", 5), 5);
  th_run(p);
  assert_true(span_eq(text_span(&p->got), SPAN_LIT("again")));
  th_pair_free(p);
  SSL_SESSION_free(session);
}

static void who_leaves_is_not_signed_for(void **state) {
  (void)state;
  struct tls_signer_stats before, after;
  struct th_pair *p = waiting(TLS1_3_VERSION, NULL);
  tls_signer_stats_get(&before);
  th_pair_free(p);
  sign();
  th_turn(t);
  tls_signer_stats_get(&after);
  assert_int_equal(after.dropped_total, before.dropped_total + 1);
  assert_int_equal(after.signed_total, before.signed_total);
  assert_int_equal(after.waiting, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_handshake_waits_for_its_signature),
      cmocka_unit_test(who_sends_on_is_cut),
      cmocka_unit_test(early_data_is_kept_meanwhile),
      cmocka_unit_test(who_leaves_is_not_signed_for),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
