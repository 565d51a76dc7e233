/* tls_harness.c: the loop over memory, its owner, and the clients. Certificates: tls_certs.c. */
#include "tls_harness.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>

#include "io/io_priv.h"
#include "weir/base/mem.h"

static struct th_loop *of(struct loop *loop) { return (struct th_loop *)loop; }
static struct th_wire *wire_of(struct loop *loop, const struct conn *c) {
  return &of(loop)->wires[c->fd];
}

static int on_socket(struct loop *loop, int family) {
  (void)loop, (void)family;
  return -EMFILE;
}
static void on_nothing(struct loop *loop, struct conn *c) { (void)loop, (void)c; }
static int on_accept_now(struct loop *loop, struct conn *c) {
  (void)loop, (void)c;
  return -EAGAIN;
}
static void on_listen(struct loop *loop, struct conn *c, uint32_t defer) {
  (void)loop, (void)c, (void)defer;
}
static void on_connect(struct loop *loop, struct conn *c, const struct addr *to) {
  (void)loop, (void)c, (void)to;
}
static void on_recv(struct loop *loop, struct conn *c, bool multishot) {
  (void)multishot;
  check(!conn_busy(c, OP_RECV));
  c->inflight |= OP_BIT(OP_RECV);
  wire_of(loop, c)->recv_armed = true;
}
static ssize_t on_recv_now(struct loop *loop, struct conn *c, void *into, size_t cap) {
  struct th_wire *w = wire_of(loop, c);
  size_t left = w->in.len - w->in_off;
  if (left == 0) return w->in_fin ? 0 : -EAGAIN;
  if (left > cap) left = cap;
  memcpy(into, w->in.ptr + w->in_off, left);
  w->in_off += left;
  return (ssize_t)left;
}
static void on_send(struct loop *loop, struct conn *c, const void *bytes, size_t len,
                    unsigned how) {
  (void)how;
  struct th_wire *w = wire_of(loop, c);
  check(!conn_busy(c, OP_SEND));
  c->inflight |= OP_BIT(OP_SEND);
  w->sending = bytes;
  w->sending_len = len;
}
static void on_poll(struct loop *loop, struct conn *c, enum op which) {
  c->inflight |= OP_BIT(which);
  if (which == OP_POLL_IN) wire_of(loop, c)->poll_armed = true; /* no socket here breaks */
}
static void on_cancel(struct loop *loop, struct conn *c, enum op which) {
  c->cancels++;
  wire_of(loop, c)->cancel |= (uint8_t)(1u << which);
}
static void on_shutdown(struct loop *loop, struct conn *c, int how) {
  (void)how;
  wire_of(loop, c)->out_fin = true;
}
static void on_close(struct loop *loop, struct conn *c) {
  c->inflight |= OP_BIT(OP_CLOSE);
  wire_of(loop, c)->closed = true;
}
static void on_close_fd(struct loop *loop, int fd) { of(loop)->wires[fd].closed = true; }
static bool on_address(const struct loop *loop, const struct conn *c, bool peer,
                       struct addr *out) {
  (void)loop, (void)c, (void)peer, (void)out;
  return false;
}
static size_t on_unacked(struct loop *loop, struct conn *c) {
  (void)loop, (void)c;
  return 0;
}
static uint64_t on_taken(struct loop *loop, struct conn *c) { return wire_of(loop, c)->out.len; }
static bool on_grow(struct loop *loop) {
  (void)loop;
  return false;
}

static void complete(struct th_wire *w, enum op op, int32_t res, bool more, const char *data) {
  struct conn *c = w->conn;
  struct completion done = {.res = res, .more = more, .data = data};
  conn_complete(c->loop, c->head.slot, c->head.generation, op, &done);
}

static void wire_cancel(struct th_wire *w) {
  for (int op = 0; op < OP_COUNT; op++) {
    if (!(w->cancel & (1u << op))) continue;
    w->cancel &= (uint8_t) ~(1u << op);
    bool live = (w->conn->inflight & OP_BIT(op)) != 0;
    if (op == OP_RECV) w->recv_armed = false;
    if (op == OP_POLL_IN) w->poll_armed = false;
    if (op == OP_SEND) w->sending = NULL;
    if (live) complete(w, (enum op)op, -ECANCELED, false, NULL);
    complete(w, OP_CANCEL, live ? 0 : -ENOENT, false, NULL);
  }
}

static void wire_send(struct th_loop *t, struct th_wire *w) {
  if (!w->sending) return;
  size_t n = w->sending_len < t->send_max ? w->sending_len : t->send_max;
  text_put(&w->out, span_of((const char *)w->sending, n));
  w->sending = NULL;
  complete(w, OP_SEND, (int32_t)n, false, NULL);
}

/* wire_recv gives one chunk from a copy that is freed at once: late readers show under ASan. */
static void wire_recv(struct th_loop *t, struct th_wire *w) {
  size_t left = w->in.len - w->in_off;
  if (w->poll_armed && (left > 0 || w->in_fin)) {
    w->poll_armed = false;
    complete(w, OP_POLL_IN, POLLIN, false, NULL);
    return;
  }
  if (!w->recv_armed) return;
  if (left == 0 && (w->in_fin || w->in_reset)) {
    w->recv_armed = false;
    complete(w, OP_RECV, w->in_reset ? -ECONNRESET : 0, false, NULL);
    return;
  }
  if (left == 0) return;
  size_t max = t->recv_max < 4096 ? t->recv_max : 4096;
  size_t n = left < max ? left : max;
  char *copy = mem_alloc(n);
  memcpy(copy, w->in.ptr + w->in_off, n);
  w->in_off += n;
  complete(w, OP_RECV, (int32_t)n, true, copy);
  mem_free(copy);
}

static int on_turn(struct loop *loop, uint64_t until_ms) {
  (void)until_ms;
  struct th_loop *t = of(loop);
  loop->now_ns = loop->now_ms * 1000000u;
  for (uint32_t i = 0; i < t->wire_count; i++) {
    struct th_wire *w = &t->wires[i];
    if (!w->conn) continue;
    wire_send(t, w);
    wire_recv(t, w);
    wire_cancel(w);
    if (!w->closed || w->cancel || w->sending) continue;
    complete(w, OP_CLOSE, 0, false, NULL);
    w->conn = NULL;
  }
  loop_stat_add(&loop->stats.completions, 1);
  return 0;
}
static void on_wake(struct loop *loop) { (void)loop; }

static const struct loop_ops ops = {
    .name = "memory",
    .socket = on_socket,
    .accept = on_nothing,
    .accept_now = on_accept_now,
    .listen = on_listen,
    .deafen = on_nothing,
    .connect = on_connect,
    .recv = on_recv,
    .recv_now = on_recv_now,
    .send = on_send,
    .poll = on_poll,
    .cancel = on_cancel,
    .shutdown = on_shutdown,
    .close = on_close,
    .close_fd = on_close_fd,
    .reset = on_nothing,
    .address = on_address,
    .taken = on_taken,
    .unacked = on_unacked,
    .buffers_grow = on_grow,
    .turn = on_turn,
    .wake = on_wake,
    .trim = on_wake,
};

struct th_loop *th_loop_new(void) {
  struct th_loop *t = mem_alloc(sizeof(*t));
  struct loop_config config = {.conns_max = TH_WIRES, .seed = 1};
  t->loop.now_ms = 1000000;
  t->recv_max = t->send_max = SIZE_MAX;
  loop_init(&t->loop, &ops, &config);
  return t;
}

void th_loop_free(struct th_loop *t) {
  loop_fini(&t->loop);
  tls_servers_reap();
  for (uint32_t i = 0; i < t->wire_count; i++) {
    text_fini(&t->wires[i].in);
    text_fini(&t->wires[i].out);
  }
  mem_free(t);
}

void th_turn(struct th_loop *t) { check(loop_run_turn(&t->loop, 0) == 0); }

static void pair_close(struct th_pair *p) {
  struct conn *c = p->conn;
  p->conn = NULL;
  conn_close(c);
}

static void on_open(struct conn *c, int err) {
  struct th_pair *p = c->owner;
  p->opened++;
  p->open_err = err;
  conn_tls_info(c, &p->info);
  check(p->info.sni.len < sizeof(p->sni));
  if (p->info.sni.len) memcpy(p->sni, p->info.sni.ptr, p->info.sni.len);
  p->sni[p->info.sni.len] = '\0';
  if (p->close_on_open) {
    pair_close(p);
  } else if (err == 0 && p->read_on_open) {
    conn_read_start(c);
  }
}

static size_t on_data(struct conn *c, struct span bytes) {
  struct th_pair *p = c->owner;
  size_t n = bytes.len < p->consume_max ? bytes.len : p->consume_max;
  if (p->quota != SIZE_MAX && p->got.len + n > p->quota) n = p->quota - p->got.len;
  text_put(&p->got, span_sub(bytes, 0, n));
  if (p->echo && n) check(conn_write(c, span_sub(bytes, 0, n)));
  if (p->close_on_data) {
    pair_close(p);
    return bytes.len;
  }
  if (n < bytes.len && p->got.len < p->quota) conn_read_start(c);
  return n;
}

static void on_eof(struct conn *c) { ((struct th_pair *)c->owner)->eof++; }
static void on_error(struct conn *c, int err) { ((struct th_pair *)c->owner)->error = err; }
static void on_drained(struct conn *c) { ((struct th_pair *)c->owner)->drained++; }
static void on_timer(struct conn *c) { (void)c; }

static const struct conn_events events = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = on_drained,
    .on_timer = on_timer,
};

struct th_pair *th_pair_new(struct th_loop *t, struct tls_server *server, uint32_t worker,
                            SSL *client) {
  struct th_pair *p = mem_alloc(sizeof(*p));
  uint32_t at = 0;
  while (at < t->wire_count && t->wires[at].conn) at++;
  check(at < TH_WIRES);
  if (at == t->wire_count) t->wire_count++;
  struct th_wire *w = &t->wires[at];
  text_fini(&w->in);
  text_fini(&w->out);
  *w = (struct th_wire){.conn = conn_new(&t->loop, (int)at)};
  check(w->conn);
  *p = (struct th_pair){.t = t,
                        .wire = w,
                        .conn = w->conn,
                        .client = client,
                        .consume_max = SIZE_MAX,
                        .quota = SIZE_MAX,
                        .read_on_open = true};
  p->conn->flags |= CONN_OPEN;
  conn_attach(p->conn, &events, p);
  check(tls_accept(p->conn, server, worker));
  return p;
}

void th_pair_free(struct th_pair *p) {
  if (p->conn) pair_close(p);
  th_turn(p->t);
  th_turn(p->t);
  SSL_free(p->client);
  text_fini(&p->got);
  mem_free(p);
}

bool th_pump(struct th_pair *p) {
  if (!p->client) return false;
  bool moved = p->fed < p->wire->out.len;
  struct span more = span_from(text_span(&p->wire->out), p->fed);
  if (more.len)
    check(BIO_write(SSL_get_rbio(p->client), more.ptr, (int)more.len) == (int)more.len);
  p->fed = p->wire->out.len;
  if (SSL_in_init(p->client)) SSL_do_handshake(p->client);
  ERR_clear_error();
  const uint8_t *bytes = NULL;
  size_t len = 0;
  check(BIO_mem_contents(SSL_get_wbio(p->client), &bytes, &len));
  text_put(&p->wire->in, span_of((const char *)bytes, len));
  BIO_reset(SSL_get_wbio(p->client));
  return moved || len > 0;
}

static bool quiet(const struct th_pair *p) {
  const struct th_wire *w = p->wire;
  return !w->conn || (!w->sending && list_empty(&p->t->loop.dirty) && !p->t->loop.budget_left &&
                      (w->in_off == w->in.len || !(w->recv_armed || w->poll_armed)));
}

void th_run(struct th_pair *p) {
  for (int idle = 0; idle < 3;) {
    bool moved = th_pump(p);
    th_turn(p->t);
    idle = moved || !quiet(p) ? 0 : idle + 1;
  }
}

static SSL_SESSION *ticket;
static int on_ticket(SSL *ssl, SSL_SESSION *session) {
  (void)ssl;
  SSL_SESSION_free(ticket);
  ticket = session;
  return 1;
}
SSL_SESSION *th_ticket(void) {
  SSL_SESSION *newest = ticket;
  ticket = NULL;
  return newest;
}

SSL *th_client_new(const struct th_client_conf *conf) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  check(SSL_CTX_set_min_proto_version(ctx, conf->min ? conf->min : TLS1_VERSION));
  if (conf->max) check(SSL_CTX_set_max_proto_version(ctx, conf->max));
  if (conf->ciphers) check(SSL_CTX_set_cipher_list(ctx, conf->ciphers));
  if (conf->groups) check(SSL_CTX_set1_curves_list(ctx, conf->groups));
  if (conf->sigalgs) check(SSL_CTX_set1_sigalgs_list(ctx, conf->sigalgs));
  if (conf->alpn.len) {
    check(SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)conf->alpn.ptr,
                                  (unsigned)conf->alpn.len) == 0);
  }
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(ctx, on_ticket);
  SSL *ssl = SSL_new(ctx);
  SSL_CTX_free(ctx);
  SSL_set_connect_state(ssl);
  if (conf->sni) check(SSL_set_tlsext_host_name(ssl, conf->sni));
  if (conf->resume) check(SSL_set_session(ssl, conf->resume));
  BIO *rbio = BIO_new(BIO_s_mem()), *wbio = BIO_new(BIO_s_mem());
  BIO_set_mem_eof_return(rbio, -1);
  SSL_set_bio(ssl, rbio, wbio);
  return ssl;
}

struct tls_server *th_server(const struct th_served *served, uint32_t count, struct span alpn,
                             struct span policy) {
  return th_server_of(served, count, (struct tls_server_conf){.alpn = alpn, .policy_id = policy});
}

struct tls_server *th_server_of(const struct th_served *served, uint32_t count,
                                struct tls_server_conf conf) {
  struct tls_cert_conf certs[16] = {0};
  struct span names[16];
  char labels[16][16];
  check(count <= 16);
  for (uint32_t i = 0; i < count; i++) {
    snprintf(labels[i], sizeof(labels[i]), "cert%u", i);
    names[i] = span_str(served[i].name);
    certs[i] = (struct tls_cert_conf){.names = &names[i],
                                      .name_count = served[i].name ? 1 : 0,
                                      .cert_pem = span_str(served[i].cert->cert),
                                      .key_pem = span_str(served[i].cert->key),
                                      .label = span_str(labels[i]),
                                      .is_default = served[i].is_default};
  }
  conf.certs = certs;
  conf.cert_count = count;
  conf.min_version = TLS1_2_VERSION;
  conf.max_version = TLS1_3_VERSION;
  conf.workers = 2;
  char text[512];
  struct buf why = buf_of(text, sizeof(text));
  uint32_t bad = 0;
  struct tls_server *server = tls_server_new(&conf, &bad, &why);
  if (!server) fprintf(stderr, "certificate %u: %.*s\n", bad, (int)why.len, why.ptr);
  check(server != NULL);
  return server;
}
