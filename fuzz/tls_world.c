/* tls_world.c: see tls_world.h. Whatever comes: an owner hears of the handshake's end once, of
 * data only behind it (but for early data) and of one end; in what it gets each byte is one that
 * the library wrote, in order; what weir holds meanwhile is bounded; nothing is left in the end.
 * Of a connection that nobody damaged, all arrives. */
#include "tls_world.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "io/tls_conn_priv.h"
#include "tls_harness.h"
#include "weir/base/mem.h"
#include "weir/io/tls_client_auth.h"
#include "weir/io/tls_early.h"
#include "weir/io/tls_signer.h"

#define STEPS_MAX 2000000u
#define WORDS_MAX 200000u
/* HELD_MAX: what an owner that takes nothing may be given again in one piece, a record behind. */
#define HELD_MAX (256u * 1024u + 2u * 16384u)
/* SIGNING_IN_MAX: what a client may have sent ahead of the server's answer (stream_tls.c). */
#define SIGNING_IN_MAX 32768u

/* ---- the clock that the budget is measured by ---- */

static uint64_t clock_ns, clock_step;

uint64_t __wrap_tls_clock_ns(void);
uint64_t __wrap_tls_clock_ns(void) { return clock_ns += clock_step; }

/* ---- what is made once ---- */

static struct tls_server *servers[TW_CLIENT];
static struct tls_client *client;    /* weir's policy */
static SSL_CTX *clients[2], *origin; /* the library's: [1] has a certificate */
static uint64_t worlds;

static void ctx_show(SSL_CTX *ctx, const struct th_cert *cert) {
  BIO *pem = BIO_new_mem_buf(cert->cert, -1), *key_pem = BIO_new_mem_buf(cert->key, -1);
  X509 *leaf = PEM_read_bio_X509(pem, NULL, NULL, NULL);
  EVP_PKEY *key = PEM_read_bio_PrivateKey(key_pem, NULL, NULL, NULL);
  check(leaf && key && SSL_CTX_use_certificate(ctx, leaf) && SSL_CTX_use_PrivateKey(ctx, key));
  BIO_free(pem);
  BIO_free(key_pem);
  X509_free(leaf);
  EVP_PKEY_free(key);
}

static int on_ticket(SSL *ssl, SSL_SESSION *session) {
  struct tls_world *w = SSL_get_app_data(ssl);
  SSL_SESSION_free(w->session);
  w->session = session;
  return 1;
}

static SSL_CTX *client_ctx(const struct th_cert *shown) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(ctx, on_ticket);
  if (shown) ctx_show(ctx, shown);
  return ctx;
}

static struct tls_server *server_make(enum tw_kind kind, const struct th_cert *own,
                                      const struct th_cert *ca) {
  const struct tls_cert_conf cert = {.cert_pem = span_str(own->cert),
                                     .key_pem = span_str(own->key),
                                     .label = SPAN_LIT("own"),
                                     .is_default = true};
  const struct tls_auth_conf auth = {.required = kind == TW_ASKS,
                                     .ca_pem = span_str(ca->cert),
                                     .ca_label = SPAN_LIT("ca"),
                                     .depth = 2};
  const struct tls_server_conf conf = {.certs = &cert,
                                       .cert_count = 1,
                                       .min_version = TLS1_2_VERSION,
                                       .max_version = TLS1_3_VERSION,
                                       .policy_id = SPAN_LIT("policy"),
                                       .auths = &auth,
                                       .auth_count = kind == TW_ASKS || kind == TW_MAY_ASK,
                                       .early_data = true,
                                       .workers = 1};
  char words[256];
  struct buf why = buf_of(words, sizeof words);
  uint32_t bad = 0;
  struct tls_server *server = tls_server_new(&conf, &bad, &why);
  check(server != NULL);
  return server;
}

static struct tls_client *client_make(const struct th_cert *ca) {
  const struct tls_client_conf conf = {.verify = true,
                                       .ca_pem = span_str(ca->cert),
                                       .ca_label = SPAN_LIT("ca"),
                                       .min_version = TLS1_2_VERSION,
                                       .workers = 1};
  char words[256];
  struct buf why = buf_of(words, sizeof words);
  enum tls_client_bad bad;
  struct tls_client *made = tls_client_new(&conf, &bad, &why);
  check(made != NULL);
  return made;
}

static void make_once(void) {
  if (origin) return;
  struct th_cert own = th_cert_make(TH_P256, "DNS:a.example,IP:127.0.0.1", 8640000);
  struct th_cert slow = th_cert_make(TH_P384, "DNS:a.example", 8640000);
  tls_signers_open();
  for (int kind = 0; kind < TW_CLIENT; kind++)
    servers[kind] = server_make((enum tw_kind)kind, kind == TW_SIGNERS ? &slow : &own, &own);
  client = client_make(&own);
  clients[0] = client_ctx(NULL);
  clients[1] = client_ctx(&own);
  origin = SSL_CTX_new(TLS_method());
  ctx_show(origin, &own);
  th_cert_free(&own);
  th_cert_free(&slow);
}

void tw_spend(struct tls_world *w, uint32_t turns) { w->spent = turns; }

static int turn(void *ctx) {
  struct tls_world *w = ctx;
  if (w->spent && w->loop->tls) {
    w->loop->tls->used_ns = TLS_BUDGET_NS;
    w->spent--;
  }
  return loop_run_turn(w->loop, 0);
}

void tw_sign(void) {
  tls_signers_close(); /* tls_signer_run ends when there is no more */
  tls_signer_run();
  tls_signers_open();
}

/* ---- weir's owner ---- */

/* tame: nothing was damaged, as far as the library can tell. In its fuzzer mode it cannot. */
static bool tame(const struct tw_line *l) {
#ifdef BORINGSSL_UNSAFE_FUZZER_MODE
  return !l->wild;
#else
  return l->ssl != NULL;
#endif
}

static void check_prefix(const struct tw_line *l, const struct text *got, const struct text *of) {
  if (!tame(l)) return;
  check(got->len <= of->len);
  check(span_eq(text_span(got), span_sub(text_span(of), 0, got->len)));
}

static void on_open(struct conn *c, int err) {
  struct tw_line *l = c->owner;
  l->opened++;
  l->err = err;
  l->early = conn_early(c);
  check(l->opened == 1 && err <= 0 && !l->eof && !l->error && !l->got.len);
  check(!err || c->flags & CONN_CLOSING || !conn_early(c));
  if (err == 0) {
    conn_read_start(c);
    return;
  }
  check(conn_tls_end(c) != END_OK || err == -ENOBUFS || l->w->conf.kind == TW_CLIENT);
  bool connected = l->w->conf.kind != TW_CLIENT || conn_tls_end(c) != END_OK;
  l->c = NULL;
  if (connected)
    conn_close_gently(c, 1000);
  else
    conn_close(c);
}

static size_t on_data(struct conn *c, struct span bytes) {
  struct tw_line *l = c->owner;
  size_t n = bytes.len < l->take_max ? bytes.len : l->take_max;
  check(l->opened == 1 && !l->err && bytes.len > 0);
  check(l->early || !SSL_in_init(c->tls->ssl));
  check(conn_early_bytes(c) <= TLS_EARLY_MAX);
  text_put(&l->got, span_sub(bytes, 0, n));
  check_prefix(l, &l->got, &l->said);
  return n;
}

static void on_eof(struct conn *c) {
  struct tw_line *l = c->owner;
  l->eof++;
  check(l->opened == 1 && !l->err && !l->error && l->eof == 1);
  check(l->bye || !tame(l)); /* a FIN alone is a truncation */
}

static void on_error(struct conn *c, int err) {
  struct tw_line *l = c->owner;
  check(l->opened == 1 && !l->err && err < 0 && !l->error);
  l->error = err;
  (void)c;
}

static void on_secure(struct conn *c) {
  struct tw_line *l = c->owner;
  l->secured++;
  check(l->early && !conn_early(c) && l->secured == 1);
}

static void on_drained(struct conn *c) { (void)c; }
static void on_timer(struct conn *c) { (void)c; }

static const struct conn_events events = {.on_open = on_open,
                                          .on_data = on_data,
                                          .on_eof = on_eof,
                                          .on_error = on_error,
                                          .on_drained = on_drained,
                                          .on_timer = on_timer,
                                          .on_secure = on_secure};

static void on_accept(struct conn *listener, struct conn *c) {
  struct tls_world *w = listener->owner;
  if (w->line.c || w->line.closed || w->line.opened) { /* a second one of a line: it was reset */
    conn_close(c);
    return;
  }
  w->line.c = c;
  conn_attach(c, &events, &w->line);
  check(tls_accept(c, servers[w->conf.kind], 0));
}

/* ---- the library's end ---- */

static void out_collect(struct tw_line *l) {
  const uint8_t *bytes = NULL;
  size_t len = 0;
  check(BIO_mem_contents(SSL_get_wbio(l->ssl), &bytes, &len));
  text_put(&l->out, span_of((const char *)bytes, len));
  (void)BIO_reset(SSL_get_wbio(l->ssl));
}

/* early_refused: what was said so far was dropped unread, and would be said again. */
static bool early_refused(struct tw_line *l, int ret) {
  if (SSL_get_error(l->ssl, ret) != SSL_ERROR_EARLY_DATA_REJECTED) return false;
  SSL_reset_early_data_reject(l->ssl);
  l->said.len = 0;
  return true;
}

void tw_go(struct tw_line *l) {
  char bytes[16384];
  if (!l->ssl) return;
  for (uint32_t i = 0; i < WORDS_MAX; i++) {
    int n = SSL_in_init(l->ssl) ? SSL_do_handshake(l->ssl) : 1;
    if (n == 1) n = SSL_read(l->ssl, bytes, sizeof bytes);
    if (n > 0)
      text_put(&l->heard, span_of(bytes, (size_t)n));
    else if (!early_refused(l, n))
      break;
  }
  ERR_clear_error();
  check_prefix(l, &l->heard, &l->told);
  out_collect(l);
}

void tw_send(struct tw_line *l, size_t n) {
  size_t left = l->out.len - l->sent;
  if (n > left) n = left;
  if (n && l->wire) sim_peer_write(l->wire, span_sub(text_span(&l->out), l->sent, n));
  l->sent += n;
}

static void on_wire_data(struct sim_peer *p, struct span bytes, void *ctx) {
  struct tw_line *l = ctx;
  (void)p;
  if (!l->ssl) return;
  check(BIO_write(SSL_get_rbio(l->ssl), bytes.ptr, (int)bytes.len) == (int)bytes.len);
  tw_go(l);
}

/* A FIN is half a close: the library may still write. */
static void on_wire_close(struct sim_peer *p, bool reset, void *ctx) {
  struct tw_line *l = ctx;
  if (!reset) return;
  l->wire = NULL;
  sim_peer_free(p);
}

static void on_called(struct sim_peer *p, void *ctx) {
  struct tw_line *l = &((struct tls_world *)ctx)->line;
  if (l->wire) {
    sim_peer_free(p);
    return;
  }
  l->wire = p;
  sim_peer_on_data(p, on_wire_data, on_wire_close, l);
}

void tw_say(struct tw_line *l, size_t n) {
  char bytes[4096];
  if (!l->ssl || n == 0) return;
  if (n > sizeof bytes) n = sizeof bytes;
  for (size_t i = 0; i < n; i++) bytes[i] = (char)((l->said.len + i) * 7 + (l->said.len >> 8));
  int said = SSL_write(l->ssl, bytes, (int)n);
  if (said > 0)
    text_put(&l->said, span_of(bytes, (size_t)said));
  else
    (void)early_refused(l, said);
  ERR_clear_error();
  out_collect(l);
}

void tw_tell(struct tw_line *l, size_t n) {
  char bytes[20000];
  bool may = l->c && l->opened && !l->error && !(l->c->flags & CONN_FIN);
  if (!may || n == 0 || conn_pending(l->c) > 100000) return;
  if (n > sizeof bytes) n = sizeof bytes;
  for (size_t i = 0; i < n; i++) bytes[i] = (char)((l->told.len + i) * 11);
  if (conn_write(l->c, span_of(bytes, n))) text_put(&l->told, span_of(bytes, n));
}

/* ---- a connection ---- */

static SSL *library_end(const struct tls_world *w, bool resume, bool early) {
  bool is_client = w->conf.kind != TW_CLIENT;
  SSL *ssl = SSL_new(is_client ? clients[w->conf.shows] : origin);
  check(ssl && SSL_set_app_data(ssl, (void *)(uintptr_t)w));
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  BIO_set_mem_eof_return(SSL_get_rbio(ssl), -1);
  SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (w->conf.old) check(SSL_set_max_proto_version(ssl, TLS1_2_VERSION));
  if (is_client)
    SSL_set_connect_state(ssl);
  else
    SSL_set_accept_state(ssl);
  if (!is_client) return ssl;
  check(SSL_set_tlsext_host_name(ssl, "a.example"));
  if (resume && w->session) check(SSL_set_session(ssl, w->session));
  SSL_set_early_data_enabled(ssl, early);
  return ssl;
}

static void call(struct tls_world *w) {
  int err = 0;
  struct tw_line *l = &w->line;
  l->c = conn_connect(w->loop, &w->at, &events, l, &err);
  check(l->c && tls_connect(l->c, w->peer, false));
}

void tw_begin(struct tls_world *w, bool resume, bool early) {
  struct tw_line *l = &w->line;
  w->lines++;
  *l = (struct tw_line){.w = w, .take_max = SIZE_MAX, .wild = w->conf.raw};
  if (!w->conf.raw) l->ssl = library_end(w, resume, early);
  if (w->conf.kind == TW_CLIENT) {
    call(w);
  } else {
    l->wire = sim_peer_connect(w->sim, &w->at);
    sim_peer_on_data(l->wire, on_wire_data, on_wire_close, l);
  }
  if (w->conf.kind != TW_CLIENT) tw_go(l);
}

static void check_held(const struct tw_line *l) {
  if (!l->c) return;
  check(conn_held(l->c) <= HELD_MAX);
  const struct iobuf *early = l->c->tls->early;
  size_t most = conn_tls_signing(l->c) ? SIGNING_IN_MAX : HELD_MAX;
  if (early) check(early->data.len - early->off <= most);
}

void tw_run(struct tls_world *w) {
  check(sim_run(w->sim, STEPS_MAX) < STEPS_MAX);
  check_held(&w->line);
}

void tw_rest(struct tls_world *w) {
  struct tw_line *l = &w->line;
  for (uint32_t i = 0; i < WORDS_MAX; i++) {
    tw_run(w);
    if (l->sent == l->out.len || !l->wire) return;
    tw_send(l, SIZE_MAX);
  }
  check(false); /* they never come to rest */
}

/* whole: nobody and nothing has disturbed it. */
static bool whole(const struct tw_line *l) {
  const struct tw_conf *conf = &l->w->conf;
  bool must_show = conf->kind == TW_ASKS && !conf->shows;
  return l->ssl && !l->wild && !l->cut && !l->closed && !must_show && !conf->iobufs &&
         !conf->faults.reset && !conf->faults.refuse;
}

/* let: all who were held back go on; signatures are made until nobody waits for one. */
static void let(struct tls_world *w) {
  struct tw_line *l = &w->line;
  if (l->wire) sim_peer_window(l->wire, SIZE_MAX);
  l->take_max = SIZE_MAX;
  for (int i = 0; i < 3; i++) {
    tw_rest(w);
    tw_sign();
    tw_rest(w);
    if (l->c && l->opened) conn_read_start(l->c);
    tw_rest(w);
  }
}

void tw_bye(struct tw_line *l) {
  if (!l->ssl || SSL_in_init(l->ssl)) return;
  (void)SSL_shutdown(l->ssl);
  l->bye = true;
  ERR_clear_error();
  out_collect(l);
}

/* bye is the library's close_notify and FIN. */
static void bye(struct tls_world *w) {
  struct tw_line *l = &w->line;
  tw_bye(l);
  if (!l->wire) return;
  tw_send(l, SIZE_MAX);
  sim_peer_shutdown(l->wire);
}

static void check_whole(const struct tw_line *l) {
  check(l->opened == 1 && l->err == 0 && l->error == 0);
  check(l->got.len == l->said.len && l->heard.len == l->told.len);
  check(l->secured == l->early);
}

void tw_end(struct tls_world *w) {
  struct tw_line *l = &w->line;
  let(w);
  if (whole(l)) check_whole(l);
  bye(w);
  let(w);
  check(l->opened == 1 || l->closed || (l->w->conf.kind != TW_CLIENT && !l->c));
  if (l->opened && !l->err && !l->closed) check(l->eof || l->error);
  if (whole(l)) check(l->eof && !l->error);
  if (l->c) conn_close(l->c);
  l->c = NULL;
  tw_run(w);
  if (l->wire) sim_peer_free(l->wire);
  l->wire = NULL;
  tw_run(w);
  SSL_free(l->ssl);
  struct text *texts[] = {&l->out, &l->said, &l->got, &l->told, &l->heard};
  for (size_t i = 0; i < array_count(texts); i++) text_fini(texts[i]);
}

/* ---- the world ---- */

static void listener_make(struct tls_world *w) {
  w->listener = conn_listen(w->loop, sim_listen_fd(w->sim, &w->at), on_accept, w);
  check(w->listener != NULL);
}

static void endpoint_make(struct tls_world *w) {
  const struct tls_peer_conf at = {.client = client, .addr = &w->at};
  w->peer = tls_peer_new(&at);
  sim_peer_listen(w->sim, &w->at, on_called, w);
}

/* Each world begins when the tickets of the one before are forgotten (tls_early.h). */
struct tls_world *tw_new(const struct tw_conf *conf) {
  make_once();
#ifdef BORINGSSL_UNSAFE_FUZZER_MODE
  RAND_reset_for_fuzzing();
#endif
  struct tls_world *w = mem_alloc(sizeof *w);
  *w = (struct tls_world){.conf = *conf};
  clock_step = conf->clock;
  w->sim = sim_new(conf->seed, &conf->faults);
  sim_advance(w->sim, worlds++ * (TLS_EARLY_WINDOW_MS + 1) % (1u << 30));
  const struct loop_config config = {
      .conns_max = 16, .seed = conf->seed, .iobuf_bytes_max = conf->iobufs};
  w->loop = sim_loop_new(w->sim, &config);
  sim_loop_drive(w->loop, turn, w);
  check(addr_parse(SPAN_LIT("127.0.0.1:443"), &w->at));
  if (conf->kind == TW_CLIENT)
    endpoint_make(w);
  else
    listener_make(w);
  return w;
}

void tw_free(struct tls_world *w) {
  if (w->listener) conn_close(w->listener);
  tw_run(w);
  check(w->loop->conns.live == 0 && w->loop->iobufs.bytes_out == 0);
  check(sim_fds_open(w->sim) == 0);
  check(!w->loop->tls || w->loop->tls->conns.live == 0);
  tw_sign();
  loop_free(w->loop);
  sim_free(w->sim);
  if (w->peer) tls_peer_unref(w->peer);
  SSL_SESSION_free(w->session);
  mem_free(w);
}
