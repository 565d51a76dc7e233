/* test_tls_client.c: TLS to endpoints over the simulated network, against servers of the library
 * itself: handshakes that succeed and fail, under every fault of the network and many seeds; what
 * comes too early; sessions and what ALPN chose. What certificates have to be is tried from
 * outside too (tests/e2e/test_upstream_tls.py). WEIR_SEED runs one seed, WEIR_SEEDS so many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "tls_harness.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"
#include "weir/io/sim.h"
#include "weir/io/tls_client.h"

#define STEPS_MAX 4000000u
#define CALLS_MAX 64
#define BODY_MAX 40000u
#define ALPN_BOTH SPAN_LIT("\x02h2\x08http/1.1")

enum manner { SHAKES, SPEAKS_PLAIN, HANGS_UP, RESETS, SPEAKS_FIRST, IS_SILENT };

struct world {
  struct sim *sim;
  struct loop *loop;
  struct addr at;
  uint64_t seed;
  bool resets;
  enum manner manner;
  SSL_CTX *ctx;
  const char *alpn; /* what the server chooses */
  struct tls_client *client;
  struct tls_peer *peer;
  struct server *servers;
  uint32_t served, resumed;
  _Atomic uint64_t full, again, failed;
};

/* server is the other end of one connection: echoes. */
struct server {
  struct server *next; /* in world.servers */
  struct world *world;
  struct sim_peer *peer;
  SSL *ssl;
  bool shaken;
};

/* call is one connection of weir's: sends a body and wants it back. */
struct call {
  struct world *world;
  struct conn *c;
  int opened, err;
  enum end end;
  bool h2, over;
  size_t total, sent, got;
};

static char byte_at(size_t at) { return (char)(at * 13 + (at >> 8)); }

/* ---- the server ---- */

static int choose(SSL *ssl, const uint8_t **out, uint8_t *len, const uint8_t *in, unsigned in_len,
                  void *arg) {
  const struct world *w = arg;
  (void)ssl, (void)in, (void)in_len;
  if (!w->alpn) return SSL_TLSEXT_ERR_NOACK;
  *out = (const uint8_t *)w->alpn;
  *len = (uint8_t)strlen(w->alpn);
  return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *server_ctx(struct world *w, const struct th_cert *cert) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  BIO *pem = BIO_new_mem_buf(cert->cert, -1), *key_pem = BIO_new_mem_buf(cert->key, -1);
  X509 *leaf = PEM_read_bio_X509(pem, NULL, NULL, NULL);
  EVP_PKEY *key = PEM_read_bio_PrivateKey(key_pem, NULL, NULL, NULL);
  assert_true(leaf && key && SSL_CTX_use_certificate(ctx, leaf) &&
              SSL_CTX_use_PrivateKey(ctx, key));
  SSL_CTX_set_alpn_select_cb(ctx, choose, w);
  BIO_free(pem);
  BIO_free(key_pem);
  X509_free(leaf);
  EVP_PKEY_free(key);
  return ctx;
}

static void server_flush(struct server *s) {
  const uint8_t *bytes = NULL;
  size_t len = 0;
  BIO *out = SSL_get_wbio(s->ssl);
  assert_true(BIO_mem_contents(out, &bytes, &len));
  if (len) sim_peer_write(s->peer, span_of((const char *)bytes, len));
  (void)BIO_reset(out);
}

static void server_go(struct server *s) {
  char bytes[4096];
  if (!s->shaken && SSL_do_handshake(s->ssl) == 1) {
    s->shaken = true;
    s->world->served++;
    s->world->resumed += SSL_session_reused(s->ssl) == 1;
    if (s->world->manner == SPEAKS_FIRST) (void)SSL_write(s->ssl, "HTTP/1.1 200 OK\r\n\r\n", 19);
  }
  for (int n; s->shaken && (n = SSL_read(s->ssl, bytes, sizeof bytes)) > 0;)
    assert_int_equal(SSL_write(s->ssl, bytes, n), n);
  server_flush(s);
}

static void server_data(struct sim_peer *p, struct span bytes, void *ctx) {
  struct server *s = ctx;
  (void)p;
  if (s->world->manner == IS_SILENT) return;
  assert_int_equal(BIO_write(SSL_get_rbio(s->ssl), bytes.ptr, (int)bytes.len), (int)bytes.len);
  server_go(s);
}

static void server_close(struct sim_peer *p, bool reset, void *ctx) {
  struct server *s = ctx;
  (void)reset;
  s->peer = NULL;
  sim_peer_free(p);
}

static void servers_free(struct world *w) {
  for (struct server *s = w->servers, *next; s; s = next) {
    next = s->next;
    SSL_free(s->ssl);
    mem_free(s);
  }
}

static void on_accept(struct sim_peer *p, void *ctx) {
  struct world *w = ctx;
  struct server *s = mem_alloc(sizeof *s);
  s->next = w->servers;
  w->servers = s;
  s->world = w;
  s->peer = p;
  s->ssl = SSL_new(w->ctx);
  SSL_set_bio(s->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_accept_state(s->ssl);
  sim_peer_on_data(p, server_data, server_close, s);
  if (w->manner == SPEAKS_PLAIN) sim_peer_write(p, SPAN_LIT("HTTP/1.1 200 OK\r\n\r\n"));
  if (w->manner == HANGS_UP) sim_peer_shutdown(p);
  if (w->manner == RESETS) sim_peer_reset(p);
}

/* ---- weir's side ---- */

static void call_over(struct call *k) {
  struct conn *c = k->c;
  k->over = true;
  k->c = NULL;
  k->end = conn_tls_end(c);
  bool connected = c->flags & CONN_OPEN || k->end != END_OK;
  if (!connected || sim_draw(k->world->sim, 2)) conn_close(c);
  else conn_close_gently(c, 1000);
}

static void call_write(struct call *k) {
  char bytes[5000];
  size_t n = 1 + sim_draw(k->world->sim, sizeof bytes);
  if (n > k->total - k->sent) n = k->total - k->sent;
  for (size_t i = 0; i < n; i++) bytes[i] = byte_at(k->sent + i);
  if (n && conn_write(k->c, span_of(bytes, n))) k->sent += n;
}

static void on_open(struct conn *c, int err) {
  struct call *k = c->owner;
  k->opened++;
  k->err = err;
  k->h2 = conn_tls_h2(c);
  if (err) {
    call_over(k);
    return;
  }
  conn_read_start(c);
  call_write(k);
}

static size_t on_data(struct conn *c, struct span bytes) {
  struct call *k = c->owner;
  size_t n = bytes.len;
  assert_int_equal(k->opened, 1);
  if (sim_draw(k->world->sim, 4) == 0) n = sim_draw(k->world->sim, n + 1);
  for (size_t i = 0; i < n; i++) assert_int_equal(bytes.ptr[i], byte_at(k->got + i));
  k->got += n;
  assert_true(k->got <= k->sent);
  if (k->got == k->total) {
    call_over(k);
    return bytes.len;
  }
  if (n < bytes.len) conn_timer(c, c->loop->now_ms + 1);
  return n;
}

static void on_eof(struct conn *c) { call_over(c->owner); }
static void on_error(struct conn *c, int err) {
  (void)err;
  call_over(c->owner);
}
static void on_drained(struct conn *c) {
  struct call *k = c->owner;
  if (k->opened && k->sent < k->total) call_write(k);
}
static void on_timer(struct conn *c) { conn_read_start(c); }

static const struct conn_events events = {.on_open = on_open,
                                          .on_data = on_data,
                                          .on_eof = on_eof,
                                          .on_error = on_error,
                                          .on_drained = on_drained,
                                          .on_timer = on_timer};

static void call_begin(struct world *w, struct call *k, size_t total, bool h1_only) {
  int err = 0;
  *k = (struct call){.world = w, .total = total};
  k->c = conn_connect(w->loop, &w->at, &events, k, &err);
  assert_non_null(k->c);
  assert_true(tls_connect(k->c, w->peer, h1_only));
}

/* ---- the world ---- */

static struct sim_faults faults_of(uint64_t seed) {
  struct sim_faults f = {0};
  uint64_t rng = seed ^ 0x715;
  if (seed % 4 == 0) return f; /* a quarter without any */
  f.short_read = (uint16_t)(rng_next(&rng) % 400);
  f.short_write = (uint16_t)(rng_next(&rng) % 400);
  f.delay = (uint16_t)(rng_next(&rng) % 200);
  f.reorder = (uint16_t)(rng_next(&rng) % 1000);
  f.enobufs = (uint16_t)(rng_next(&rng) % 200);
  f.cancel_race = (uint16_t)(rng_next(&rng) % 1000);
  if (seed % 3 == 0) f.reset = (uint16_t)(rng_next(&rng) % 8);
  if (seed % 3 == 0) f.refuse = (uint16_t)(rng_next(&rng) % 100);
  return f;
}

static struct th_cert cert; /* made once: it costs more than the rest */

struct policy {
  const char *name; /* of the endpoint; NULL: an address */
  uint16_t min;
  bool h2_only;
};

static void world_init(struct world *w, uint64_t seed, const struct policy *policy) {
  char words[256];
  struct buf why = buf_of(words, sizeof words);
  enum tls_client_bad bad;
  struct sim_faults faults = faults_of(seed);
  *w = (struct world){.seed = seed, .resets = faults.reset || faults.refuse};
  w->sim = sim_new(seed, &faults);
  const struct loop_config config = {.conns_max = 256, .seed = seed};
  w->loop = sim_loop_new(w->sim, &config);
  assert_true(addr_parse(SPAN_LIT("127.0.0.1:443"), &w->at));
  sim_peer_listen(w->sim, &w->at, on_accept, w);
  w->ctx = server_ctx(w, &cert);
  struct tls_client_conf conf = {.verify = true,
                                 .ca_pem = span_str(cert.cert),
                                 .ca_label = SPAN_LIT("test"),
                                 .min_version = policy->min ? policy->min : TLS1_2_VERSION,
                                 .alpn = ALPN_BOTH,
                                 .h2_only = policy->h2_only,
                                 .workers = 1};
  w->client = tls_client_new(&conf, &bad, &why);
  assert_non_null(w->client);
  const struct tls_peer_conf at = {.client = w->client,
                                   .host = span_str(policy->name),
                                   .addr = &w->at,
                                   .counts = {&w->full, &w->again, &w->failed}};
  w->peer = tls_peer_new(&at);
}

static void world_fini(struct world *w) {
  if (sim_run(w->sim, STEPS_MAX) == STEPS_MAX) fail_msg("seed %lu: no rest", w->seed);
  assert_int_equal(w->loop->conns.live, 0);
  assert_int_equal(w->loop->iobufs.bytes_out, 0);
  assert_int_equal(sim_fds_open(w->sim), 0);
  loop_free(w->loop);
  sim_free(w->sim);
  servers_free(w);
  tls_peer_unref(w->peer);
  tls_client_unref(w->client); /* the last ref */
  SSL_CTX_free(w->ctx);
}

/* one is a whole world for one connection. */
static struct call one(const struct policy *policy, enum manner manner, const char *alpn,
                       uint16_t server_max) {
  struct world w;
  struct call k;
  world_init(&w, 4, policy);
  w.manner = manner;
  w.alpn = alpn;
  if (server_max) assert_true(SSL_CTX_set_max_proto_version(w.ctx, server_max));
  call_begin(&w, &k, 1000, false);
  (void)sim_run(w.sim, STEPS_MAX);
  if (!k.over) {
    assert_true(manner == IS_SILENT && conn_tls_shaking(k.c));
    call_over(&k);
  }
  assert_int_equal(atomic_load(&w.failed), k.opened == 1 && k.err && manner != RESETS);
  world_fini(&w);
  return k;
}

/* ---- tests ---- */

static const struct policy by_address = {0}, by_name = {.name = "a.example"};

static void one_seed(uint64_t seed) {
  struct world w;
  struct call calls[CALLS_MAX];
  world_init(&w, seed, &by_address);
  bool h1_only = seed % 7 == 0;
  if (seed % 5 == 0 && !h1_only) w.alpn = "h2";
  if (seed % 2) assert_true(SSL_CTX_set_max_proto_version(w.ctx, TLS1_2_VERSION));
  uint32_t count = 1 + (uint32_t)sim_draw(w.sim, CALLS_MAX);
  for (uint32_t i = 0; i < count; i++) {
    call_begin(&w, &calls[i], 1 + sim_draw(w.sim, i % 8 ? 2000 : BODY_MAX), h1_only);
    (void)sim_run(w.sim, sim_draw(w.sim, 60));
    if (sim_draw(w.sim, 10) == 0 && calls[i].c) call_over(&calls[i]); /* given up */
  }
  if (sim_run(w.sim, STEPS_MAX) == STEPS_MAX) fail_msg("seed %lu: no rest", seed);
  for (uint32_t i = 0; i < count; i++) {
    const struct call *k = &calls[i];
    if (!k->over) fail_msg("seed %lu: call %u never ended", seed, i);
    assert_true(k->opened <= 1);
    if (w.resets) continue;
    assert_int_equal(k->err, 0);
    if (k->opened && !k->err && k->got) assert_int_equal(k->end, END_OK);
  }
  if (!w.resets) assert_int_equal(atomic_load(&w.failed), 0);
  world_fini(&w);
}

static void many_seeds(void **state) {
  (void)state;
  const char *seed = getenv("WEIR_SEED"), *many = getenv("WEIR_SEEDS");
  uint64_t from = seed ? strtoull(seed, NULL, 10) : 1;
  uint64_t count = seed ? 1 : many ? strtoull(many, NULL, 10) : 60;
  for (uint64_t s = from; s < from + count; s++) {
    if (getenv("WEIR_VERBOSE")) fprintf(stderr, "seed %lu\n", s);
    one_seed(s);
  }
}

static void causes(void **state) {
  (void)state;
  static const struct policy other = {.name = "b.example"}, late = {.min = TLS1_3_VERSION},
                             h2 = {.h2_only = true};
  static const struct {
    const struct policy *policy;
    enum manner manner;
    const char *alpn;
    uint16_t server_max;
    enum end end;
  } rows[] = {
      {&by_address, SHAKES, NULL, 0, END_OK},
      {&by_name, SHAKES, NULL, 0, END_OK},
      {&by_address, SHAKES, "h2", 0, END_OK},
      {&by_address, SHAKES, NULL, TLS1_2_VERSION, END_OK},
      {&other, SHAKES, NULL, 0, END_UPSTREAM_TLS_NAME},
      {&late, SHAKES, NULL, TLS1_2_VERSION, END_UPSTREAM_TLS_VERSION},
      {&h2, SHAKES, "http/1.1", 0, END_UPSTREAM_TLS_ALPN},
      {&h2, SHAKES, NULL, 0, END_UPSTREAM_TLS_ALPN},
      {&by_address, SHAKES, "spdy/3", 0, END_UPSTREAM_TLS_ALPN}, /* was not offered */
      {&by_address, SPEAKS_PLAIN, NULL, 0, END_UPSTREAM_TLS_PLAINTEXT},
      {&by_address, HANGS_UP, NULL, 0, END_UPSTREAM_TLS_CLOSED},
      {&by_address, RESETS, NULL, 0, END_UPSTREAM_TLS_RESET},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct call k = one(rows[i].policy, rows[i].manner, rows[i].alpn, rows[i].server_max);
    if (k.end != rows[i].end) fail_msg("row %zu: %s", i, end_get(k.end)->word.ptr);
    assert_int_equal(k.err == 0, k.end == END_OK);
    assert_int_equal(k.got, k.end == END_OK ? k.total : 0);
  }
}

/* In TLS 1.2 a server may speak right behind its Finished: nobody has asked it anything (THREATS
 * row 14). Of HTTP/2 that is how it begins. */
static void what_comes_before_a_request_is_no_answer(void **state) {
  (void)state;
  struct call k = one(&by_address, SPEAKS_FIRST, "http/1.1", TLS1_2_VERSION);
  assert_int_equal(k.end, END_UPSTREAM_TLS_HANDSHAKE);
  assert_int_equal(k.got, 0);
}

static void a_silent_endpoint_is_seen_to_shake_hands(void **state) {
  (void)state;
  struct call k = one(&by_address, IS_SILENT, NULL, 0);
  assert_int_equal(k.opened, 0);
}

static void sessions_are_used(void **state) {
  (void)state;
  for (int v = 0; v < 2; v++) {
    struct world w;
    world_init(&w, 4, &by_address);
    if (v) assert_true(SSL_CTX_set_max_proto_version(w.ctx, TLS1_2_VERSION));
    for (int i = 0; i < 20; i++) {
      struct call k;
      call_begin(&w, &k, 3000, i % 2);
      (void)sim_run(w.sim, STEPS_MAX);
      assert_true(k.over && k.err == 0 && k.got == k.total);
    }
    assert_int_equal(w.served, 20);
    assert_int_equal(w.resumed, 19);
    assert_int_equal(atomic_load(&w.full), 1);
    assert_int_equal(atomic_load(&w.again), 19);
    world_fini(&w);
  }
}

static void the_choice_is_remembered(void **state) {
  (void)state;
  struct world w;
  struct call k;
  world_init(&w, 4, &by_address);
  assert_int_equal(tls_peer_spoken(w.peer, w.loop->now_ms), TLS_SPOKEN_UNKNOWN);
  call_begin(&w, &k, 10, true);
  (void)sim_run(w.sim, STEPS_MAX);
  assert_int_equal(tls_peer_spoken(w.peer, w.loop->now_ms), TLS_SPOKEN_UNKNOWN); /* not asked */
  call_begin(&w, &k, 10, false);
  (void)sim_run(w.sim, STEPS_MAX);
  assert_int_equal(tls_peer_spoken(w.peer, w.loop->now_ms), TLS_SPOKEN_HTTP_1_1);
  assert_int_equal(tls_peer_spoken(w.peer, w.loop->now_ms + TLS_SPOKEN_MS), TLS_SPOKEN_UNKNOWN);
  w.alpn = "h2";
  call_begin(&w, &k, 10, false);
  (void)sim_run(w.sim, STEPS_MAX);
  assert_true(k.h2);
  assert_int_equal(tls_peer_spoken(w.peer, w.loop->now_ms + TLS_SPOKEN_MS), TLS_SPOKEN_H2);
  world_fini(&w);
}

static int make_cert(void **state) {
  (void)state;
  cert = th_cert_make(TH_P256, "DNS:a.example,IP:127.0.0.1", 86400);
  return 0;
}

static int free_cert(void **state) {
  (void)state;
  th_cert_free(&cert);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(causes),
      cmocka_unit_test(what_comes_before_a_request_is_no_answer),
      cmocka_unit_test(a_silent_endpoint_is_seen_to_shake_hands),
      cmocka_unit_test(sessions_are_used),
      cmocka_unit_test(the_choice_is_remembered),
      cmocka_unit_test(many_seeds),
  };
  return cmocka_run_group_tests(tests, make_cert, free_cert);
}
