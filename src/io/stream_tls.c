/* stream_tls.c: TLS as a transport of a conn (transport.h), of either side: handshake, records in,
 * records out, close_notify. One copy in (span being received to the library's record buffer), one
 * out (record to the conn's wire buffer); an idle conn holds no record buffer and no handshake
 * state. Does not choose certificates (tls_select.c) nor judge them (tls_verify.c), owns no timer
 * (the handshake timeout is the owner's), sends nothing itself. Completions arrive as wire_in,
 * wire_eof and, through the queue of tls_worker.c, tls_stream_run. Every upcall may close the
 * conn; our part lives until the end of the turn (conn_bury), so it is enough to look at alive()
 * after each. RFC 8446, RFC 5246. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/mem.h>

#include "io/io_priv.h"
#include "io/tls_client_auth_priv.h"
#include "io/tls_client_priv.h"
#include "weir/io/tls_signer.h"

/* Record sizes. Small records first, so that the client can decrypt what the first round trips
 * bring; full ones once the connection is warm. A pause makes it cold again. */
#define RECORD_FIRST_BYTES 14000u /* about an initial window of 10 segments */
#define RECORD_MIDDLE 4096u
#define RECORD_WARM_BYTES 65536u
#define RECORD_MAX 16384u
#define RECORD_PAUSE_MS 1000u
/* SIGNING_IN_MAX is kept of a client that waits for a signature. All that it may send before the
 * server's answer is early data, of which the library skips 16 KiB where it refuses it. */
#define SIGNING_IN_MAX 32768u

static bool alive(const struct tls_conn *tls) {
  return (tls->conn->flags & (CONN_CLOSING | CONN_FAILED)) == 0;
}

/* decodes: what came is of use: to the owner, or behind a reset to a relay that outlasts it. */
static bool decodes(const struct tls_conn *tls) {
  const struct conn *c = tls->conn;
  if (tls->state != TLS_OPEN || conn_any(c, CONN_CLOSING)) return false;
  return !conn_any(c, CONN_FAILED) || (c->relay_in && relay_lasts(c->relay_in));
}

/* library_use says whose call into the library comes next, and what it may read. */
static void library_use(struct tls_conn *tls, struct span in) {
  tls->worker->current = tls;
  tls->worker->in = in;
}

/* library_done takes back what was not read. */
static struct span library_done(struct tls_conn *tls) {
  struct span rest = tls->worker->in;
  tls->worker->current = NULL;
  tls->worker->in = SPAN_EMPTY;
  return rest;
}

/* late_end is the cause of a fault of a client after the handshake. */
static enum end late_end(uint32_t code) {
  int reason = tls_reason_of(code);
  if (reason >= SSL_AD_REASON_OFFSET) return END_CLIENT_TLS_ALERT;
  return reason == SSL_R_NO_RENEGOTIATION ? END_CLIENT_TLS_RENEGOTIATION : END_CLIENT_TLS_RECORD;
}

/* blame gives the conn the cause that the library's error has. A server's conn that is not open
 * gets it where its handshake fails; one with early data is open before the end of that. */
static void blame(struct tls_conn *tls, uint32_t code) {
  bool open = conn_any(tls->conn, CONN_OPEN), shaking = SSL_in_init(tls->ssl) == 1;
  if (!tls->is_client) tls_auth_blame(tls, code);
  if (tls->end != END_OK || tls->starved) return;
  if (tls->is_client)
    tls->end = (uint16_t)(open ? tls_client_late(tls, code) : tls_client_fault(tls, code));
  else if (open)
    tls->end = (uint16_t)(shaking ? END_CLIENT_TLS_HANDSHAKE : late_end(code));
}

/* why_note keeps the library's reason; some refusals (a malformed SNI) have an alert but none. */
static void why_note(struct tls_conn *tls) {
  uint32_t code = ERR_peek_error();
  if (!tls->why && code != 0) tls->why = tls_reason_text(code);
  ERR_clear_error();
}

/* library_error is the -errno of a failed call: the peer's fault, unless the wire buffer was. */
static int library_error(struct tls_conn *tls) {
  blame(tls, ERR_peek_error());
  why_note(tls);
  return tls->starved ? -ENOBUFS : -EPROTO;
}

static SSL *server_ssl(const struct tls_conn *tls) {
  SSL *ssl = SSL_new(tls->server->ctx[tls->worker_index]);
  check(ssl != NULL);
  SSL_set_accept_state(ssl);
  return ssl;
}

/* ssl_make: the library's state of a conn (about 4 KiB until the handshake is done). */
static void ssl_make(struct tls_conn *tls) {
  tls->ssl = tls->is_client ? tls_client_ssl(tls) : server_ssl(tls);
  SSL_set_shed_handshake_config(tls->ssl, 1);
  check(BIO_up_ref(tls->worker->bio) == 1);
  SSL_set_bio(tls->ssl, tls->worker->bio, tls->worker->bio);
}

static void handshake_ended(struct tls_conn *tls, enum tls_state state) {
  tls->state = (uint8_t)state;
  tls->clock_ns = tls->clock_ns ? tls->worker->loop->now_ns - tls->clock_ns : 0;
}

static void count(_Atomic uint64_t *row) {
  if (!row) return;
  uint64_t now = atomic_load_explicit(row, memory_order_relaxed);
  atomic_store_explicit(row, now + 1, memory_order_relaxed);
}

/* handshake_failed: the alert, if there is one, is in the wire buffer already. That memory is
 * short is not the endpoint's fault. */
static void handshake_failed(struct tls_conn *tls, enum end end, int err) {
  if (tls->end == END_OK && !(tls->is_client && err == -ENOBUFS)) tls->end = (uint16_t)end;
  if (tls->is_client) count(tls->peer->counts.failed);
  else if (err == -ECONNABORTED && !tls->why) tls->why = "CONNECTION_CLOSED";
  handshake_ended(tls, TLS_FAILED);
  conn_opened(tls->conn, err);
}

/* cut_end is the cause where nothing more comes in a handshake. */
static enum end cut_end(const struct tls_conn *tls) {
  return tls->is_client ? END_UPSTREAM_TLS_CLOSED : END_CLIENT_TLS_HANDSHAKE;
}

static enum end fault_end(const struct tls_conn *tls) {
  return tls->is_client ? END_UPSTREAM_TLS_HANDSHAKE : END_CLIENT_TLS_HANDSHAKE;
}

static void failed(struct tls_conn *tls, int err) {
  bool cut = tls->is_client && err == -ECONNABORTED && !conn_any(tls->conn, CONN_OPEN);
  tls->state = TLS_FAILED;
  if (cut && tls->end == END_OK) tls->end = END_UPSTREAM_TLS_CLOSED;
  conn_fail(tls->conn, err);
}

/* data_end handles an SSL_read without data: more bytes are needed, close_notify, or a fault. */
static void data_end(struct tls_conn *tls, int ret) {
  int error = SSL_get_error(tls->ssl, ret);
  if (error == SSL_ERROR_WANT_READ) return;
  if (error == SSL_ERROR_ZERO_RETURN) {
    tls->state = TLS_PEER_DONE;
    conn_peer_done(tls->conn);
    return;
  }
  failed(tls, library_error(tls));
}

/* data_in decrypts and delivers record by record until the owner has enough; returns the rest. */
static struct span data_in(struct tls_conn *tls, struct span wire) {
  char *scratch = tls->worker->scratch;
  while (decodes(tls)) {
    if (wire.len == 0 && !SSL_has_pending(tls->ssl)) break;
    if (!conn_wants(tls->conn)) return wire;
    library_use(tls, wire);
    int ret = SSL_read(tls->ssl, scratch, sizeof(tls->worker->scratch));
    wire = library_done(tls);
    bool secure = tls_early_read(tls, ret);
    if (ret > 0) conn_deliver(tls->conn, span_of(scratch, (size_t)ret));
    else data_end(tls, ret);
    if (secure && alive(tls)) conn_secure(tls->conn);
    if (ret <= 0) return SPAN_EMPTY;
  }
  return SPAN_EMPTY;
}

/* settle tells a FIN once the early bytes before it were read: without close_notify it is a
 * truncation (RFC 8446 section 6.1). */
static void settle(struct tls_conn *tls) {
  if (tls->fin && !tls->early && alive(tls) && tls->state == TLS_OPEN) failed(tls, -ECONNABORTED);
}

static int handshake_step(struct tls_conn *tls, struct span *wire) {
  struct tls_worker *worker = tls->worker;
  uint64_t start_ns = tls_clock_ns();
  if (!tls->ssl) ssl_make(tls);
  library_use(tls, *wire);
  int ret = SSL_do_handshake(tls->ssl);
  *wire = library_done(tls);
  worker->used_ns += tls_clock_ns() - start_ns;
  return ret;
}

/* tickets_flush: the library keeps session tickets back until the first write (an empty one will
 * do), so that a client that sends nothing cannot block it; our output is bounded anyway. Without
 * it a client waits for a delayed acknowledgement before its request leaves (Nagle's rule). */
static void tickets_flush(struct tls_conn *tls) {
  library_use(tls, SPAN_EMPTY);
  bool ok = SSL_write(tls->ssl, "", 0) >= 0;
  (void)library_done(tls);
  if (!ok) ERR_clear_error(); /* no buffer: the first write of data meets it again */
}

/* nothing_early: what an endpoint says before it was asked is no answer (THREATS.md 14); session
 * tickets are. False: the handshake failed by it. */
static bool nothing_early(struct tls_conn *tls, struct span wire) {
  struct conn *c = tls->conn;
  conn_read_stop(c);
  struct span rest = data_in(tls, wire);
  if (!alive(tls) || tls->state == TLS_FAILED) return false;
  if (rest.len == 0 && conn_held(c) == 0) return true;
  tls->why = "data before the request";
  handshake_failed(tls, END_UPSTREAM_TLS_HANDSHAKE, -EPROTO);
  return false;
}

/* client_opened: the handshake with an endpoint is done; returns the rest of wire. */
static struct span client_opened(struct tls_conn *tls, struct span wire) {
  bool h2 = false;
  enum end end = tls_client_chosen(tls, &h2);
  if (end != END_OK) {
    handshake_failed(tls, end, -EPROTO);
    return SPAN_EMPTY;
  }
  handshake_ended(tls, TLS_OPEN);
  bool first = h2 || !tls->peer->client->alpn.len; /* it may be the one to speak first */
  if (!first && !nothing_early(tls, wire)) return SPAN_EMPTY;
  count(SSL_session_reused(tls->ssl) ? tls->peer->counts.resumed : tls->peer->counts.full);
  conn_opened(tls->conn, 0);
  return first ? data_in(tls, wire) : SPAN_EMPTY;
}

/* handshake_go runs the handshake as far as wire reaches and goes on with data; returns the
 * rest. */
static struct span handshake_go(struct tls_conn *tls, struct span wire) {
  int ret = handshake_step(tls, &wire);
  if (ret == 1 && tls->is_client) return client_opened(tls, wire);
  if (ret == 1) {
    handshake_ended(tls, TLS_OPEN);
    if (SSL_session_reused(tls->ssl)) tls_client_cert_recall(tls);
    (void)tls_early_begun(tls);
    tickets_flush(tls);
    conn_opened(tls->conn, 0);
    return data_in(tls, wire);
  }
  int error = SSL_get_error(tls->ssl, ret);
  if (error == SSL_ERROR_WANT_READ) return SPAN_EMPTY;
  if (error == SSL_ERROR_WANT_PRIVATE_KEY_OPERATION) return wire;
  if (error == SSL_ERROR_ZERO_RETURN) /* close_notify */
    handshake_failed(tls, cut_end(tls), -ECONNABORTED);
  else
    handshake_failed(tls, fault_end(tls), library_error(tls));
  return SPAN_EMPTY;
}

/* early_put keeps ciphertext for later: all of it, in a larger buffer where it must. */
static bool early_put(struct tls_conn *tls, struct span wire) {
  struct iobufs *pool = &tls->worker->loop->iobufs;
  struct iobuf *had = tls->early;
  if (had && buf_room(&had->data) >= wire.len) {
    buf_put(&had->data, wire);
    return true;
  }
  struct span kept = had ? span_from(buf_span(&had->data), had->off) : SPAN_EMPTY;
  struct iobuf *grown = iobuf_take(pool, kept.len + wire.len);
  if (!grown) return false;
  buf_put(&grown->data, kept);
  buf_put(&grown->data, wire);
  if (had) iobuf_give(pool, had);
  tls->early = grown;
  return true;
}

/* early_run gives early bytes to run and keeps what it leaves. */
static void early_run(struct tls_conn *tls, struct span (*run)(struct tls_conn *, struct span)) {
  struct iobufs *pool = &tls->worker->loop->iobufs;
  struct iobuf *early = tls->early;
  tls->early = NULL;
  struct span wire = span_from(buf_span(&early->data), early->off);
  struct span rest = run(tls, wire);
  if (rest.len > 0 && (alive(tls) || decodes(tls))) {
    early->off = (uint32_t)(early->data.len - rest.len);
    tls->early = early;
  } else {
    iobuf_give(pool, early);
  }
  settle(tls);
}

static void wait_put(struct tls_conn *tls) {
  if (list_empty(&tls->wait)) list_push_tail(&tls->worker->waiting, &tls->wait);
  tls->worker->loop->budget_left = true;
}

/* What a PROXY header begins with: of version 1 a space follows, of version 2 its rest. */
static const char proxy_v1[5] = "PROXY", proxy_v2[12] = "\r\n\r\n\0\r\nQUIT\n";

/* sniff_byte narrows what the bytes so far may be by the next one; 0: nothing that is known. */
static uint8_t sniff_byte(const struct tls_conn *tls, char c) {
  uint8_t at = tls->sniff_len, may = tls->sniff_as;
  if (c < 'A' || c > 'Z' || at >= TLS_SNIFF_MAX) may &= TLS_SNIFF_PROXY_V2;
  if (at >= sizeof proxy_v1 || c != proxy_v1[at]) may &= (uint8_t)~TLS_SNIFF_PROXY_V1;
  if (at >= sizeof proxy_v2 || c != proxy_v2[at]) may &= (uint8_t)~TLS_SNIFF_PROXY_V2;
  return may;
}

static bool sniffed(struct tls_conn *tls, enum end end, const char *why) {
  tls->why = why;
  handshake_failed(tls, end, -EPROTO);
  return true;
}

static bool sniffed_proxy(struct tls_conn *tls) {
  return sniffed(tls, END_CLIENT_TLS_HANDSHAKE,
                 "a PROXY header came where TLS has to begin (proxy_protocol)");
}

/* sniff looks for what is sent to TLS ports by mistake: plain HTTP, capital letters and a space,
 * and PROXY headers. No TLS record starts like one. True: the bytes were dealt with. */
static bool sniff(struct tls_conn *tls, struct span wire) {
  for (size_t i = 0; i < wire.len && tls->sniffing; i++) {
    char c = wire.ptr[i];
    uint8_t may = sniff_byte(tls, c);
    bool word = tls->sniff_len > 0 && tls->sniff_as & TLS_SNIFF_METHOD && c == ' ';
    bool v1 = tls->sniff_len == sizeof proxy_v1 && tls->sniff_as & TLS_SNIFF_PROXY_V1;
    if (word && v1) return sniffed_proxy(tls);
    if (word) return sniffed(tls, END_CLIENT_PLAIN_ON_TLS, NULL);
    if (!may && tls->sniff_len > 0) /* as the library says it */
      return sniffed(tls, END_CLIENT_TLS_HANDSHAKE, "WRONG_VERSION_NUMBER");
    tls->sniffing = may != 0;
    tls->sniff_as = may;
    if (may) tls->sniff_len++;
    if (tls->sniff_len == sizeof proxy_v2 && may & TLS_SNIFF_PROXY_V2) return sniffed_proxy(tls);
  }
  return tls->sniffing;
}

static size_t early_len(const struct tls_conn *tls) {
  return tls->early ? tls->early->data.len - tls->early->off : 0;
}

/* early_keep keeps what cannot be looked at now. Who waits for the budget has its turn soon; a
 * signature may take long, and there may be many that wait for one. */
static void early_keep(struct tls_conn *tls, struct span wire) {
  if (tls_signer_waits(tls) && early_len(tls) + wire.len > SIGNING_IN_MAX) {
    tls->why = "more than 32 KiB before the server's answer";
    handshake_failed(tls, fault_end(tls), -EPROTO);
  } else if (wire.len && !early_put(tls, wire)) {
    handshake_failed(tls, fault_end(tls), -ENOBUFS);
  }
}

/* handshake_in: what comes during the handshake is all taken; beyond the budget it waits. */
static struct span handshake_in(struct tls_conn *tls, struct span wire) {
  struct tls_worker *worker = tls->worker;
  if (tls->clock_ns == 0) tls->clock_ns = worker->loop->now_ns;
  if (tls->sniffing && sniff(tls, wire)) return SPAN_EMPTY;
  bool signing = tls_signer_waits(tls);
  if (!signing && list_empty(&worker->waiting) && worker->used_ns < TLS_BUDGET_NS) {
    struct span rest = handshake_go(tls, wire);
    if (!alive(tls) || !tls_signer_waits(tls)) return rest;
    early_keep(tls, rest);
    return SPAN_EMPTY;
  }
  early_keep(tls, wire);
  if (!signing && tls->state == TLS_HANDSHAKE) wait_put(tls);
  return SPAN_EMPTY;
}

/* client_start begins a handshake when the socket is connected, or puts it behind those that wait.
 */
static void client_start(struct tls_conn *tls) {
  struct tls_worker *worker = tls->worker;
  if (tls->clock_ns || conn_busy(tls->conn, OP_CONNECT)) return;
  tls->clock_ns = worker->loop->now_ns;
  if (list_empty(&worker->waiting) && worker->used_ns < TLS_BUDGET_NS)
    (void)handshake_go(tls, SPAN_EMPTY);
  else
    wait_put(tls);
}

static size_t on_wire_in(struct conn *c, struct span wire) {
  struct tls_conn *tls = c->tls;
  struct span rest = SPAN_EMPTY;
  if (tls->state == TLS_HANDSHAKE) {
    rest = handshake_in(tls, wire);
  } else if (tls->state == TLS_OPEN) {
    rest = tls->early ? wire : data_in(tls, wire); /* not before what came earlier */
  }
  return wire.len - rest.len;
}

/* on_wire_eof may be called again: an end is told once. */
static void on_wire_eof(struct conn *c) {
  struct tls_conn *tls = c->tls;
  if (tls->early) {
    tls->fin = true;
  } else if (tls->state == TLS_HANDSHAKE) {
    handshake_failed(tls, cut_end(tls), -ECONNABORTED);
  } else if (tls->state == TLS_OPEN) {
    failed(tls, -ECONNABORTED);
  }
}

static void on_resume(struct conn *c) {
  struct tls_conn *tls = c->tls;
  if (tls->state == TLS_OPEN && tls->early) early_run(tls, data_in);
  else if (tls->state == TLS_HANDSHAKE && tls->is_client) client_start(tls);
}

/* shake_on goes on with a handshake that has had to wait. */
static void shake_on(struct tls_conn *tls) {
  if (tls_signer_waits(tls)) return;
  if (tls->early) early_run(tls, handshake_go);
  else if (tls->job) (void)handshake_go(tls, SPAN_EMPTY);
  else if (!tls->ssl && tls->is_client) (void)handshake_go(tls, SPAN_EMPTY);
  if (tls->fin && alive(tls) && tls->state == TLS_HANDSHAKE)
    handshake_failed(tls, cut_end(tls), -ECONNABORTED);
}

void tls_stream_signed(struct tls_conn *tls) {
  if (alive(tls) && tls->state == TLS_HANDSHAKE) wait_put(tls);
}

void tls_stream_run(struct tls_conn *tls) {
  if (!alive(tls)) return;
  if (tls->broken) {
    failed(tls, -ENOBUFS);
  } else if (tls->state == TLS_HANDSHAKE) {
    shake_on(tls);
  }
}

/* record_len: endpoints are near, and get full ones at once. */
static size_t record_len(struct tls_conn *tls, size_t left) {
  if (tls->is_client) return left < RECORD_MAX ? left : RECORD_MAX;
  uint32_t now_ms = (uint32_t)tls->worker->loop->now_ms;
  if (now_ms - tls->written_ms >= RECORD_PAUSE_MS) tls->burst = 0;
  tls->written_ms = now_ms;
  uint32_t len = tls->burst < RECORD_FIRST_BYTES  ? TLS_RECORD_MIN
                 : tls->burst < RECORD_WARM_BYTES ? RECORD_MIDDLE
                                                  : RECORD_MAX;
  if (left < len) len = (uint32_t)left;
  if (tls->burst < RECORD_WARM_BYTES) tls->burst += len;
  return len;
}

static bool writable(const struct tls_conn *tls) {
  return (tls->state == TLS_OPEN || tls->state == TLS_PEER_DONE) && !tls->broken;
}

/* on_write: a failure is told later, for the owner is on the stack. */
static void on_write(struct conn *c, struct span plain) {
  struct tls_conn *tls = c->tls;
  check(tls->state != TLS_HANDSHAKE);
  struct buf *wire = conn_wire(c, TLS_WIRE_BYTES(plain.len));
  bool ok = wire != NULL;
  while (ok && plain.len > 0 && writable(tls)) {
    library_use(tls, SPAN_EMPTY);
    int ret = SSL_write(tls->ssl, plain.ptr, (int)record_len(tls, plain.len));
    (void)library_done(tls);
    ok = ret > 0;
    if (ok) plain = span_from(plain, (size_t)ret);
  }
  if (ok) return;
  why_note(tls);
  tls->broken = true;
  wait_put(tls);
}

static void on_finish(struct conn *c) {
  struct tls_conn *tls = c->tls;
  if (!writable(tls)) return;
  library_use(tls, SPAN_EMPTY);
  (void)SSL_shutdown(tls->ssl);
  (void)library_done(tls);
  ERR_clear_error();
}

/* on_last_words: a fault has its alert, which is in the wire buffer, but for one that was the
 * peer's own. */
static bool on_last_words(const struct conn *c) {
  return c->tls->state == TLS_FAILED && c->tls->end != END_OK;
}

static void on_free(struct conn *c) {
  struct tls_conn *tls = c->tls;
  struct tls_worker *worker = tls->worker;
  check(worker->current == NULL);
  c->tls = NULL;
  list_remove(&tls->wait);
  tls_signer_drop(tls);
  SSL_free(tls->ssl);
  OPENSSL_free(tls->sni);
  OPENSSL_free(tls->identity);
  if (tls->early) iobuf_give(&worker->loop->iobufs, tls->early);
  if (tls->is_client) tls_peer_unref(tls->peer);
  else tls_server_leave(tls->server);
  slab_free(&worker->conns, tls);
}

static bool on_holds(const struct conn *c) {
  return c->tls->state == TLS_OPEN && c->tls->early != NULL;
}

static const struct transport tls_transport = {
    .wire_in = on_wire_in,
    .wire_eof = on_wire_eof,
    .write = on_write,
    .finish = on_finish,
    .last_words = on_last_words,
    .resume = on_resume,
    .free = on_free,
    .holds = on_holds,
};

void tls_prepare(struct loop *loop) { (void)tls_worker_get(loop); }

static struct tls_conn *tls_conn_new(struct conn *c) {
  check(c->transport == NULL);
  struct tls_worker *mine = tls_worker_get(c->loop);
  struct tls_conn *tls = (struct tls_conn *)slab_new(&mine->conns);
  if (!tls) return NULL;
  tls->conn = c;
  tls->worker = mine;
  list_init(&tls->wait);
  return tls;
}

bool tls_accept(struct conn *c, struct tls_server *server, uint32_t worker) {
  check(worker < server->workers && worker <= UINT8_MAX);
  struct tls_conn *tls = tls_conn_new(c);
  if (!tls) return false;
  tls->worker_index = (uint8_t)worker;
  tls->server = server;
  tls->sniffing = true;
  tls->sniff_as = TLS_SNIFF_ALL;
  tls_server_ref(server);
  c->tls = tls;
  conn_transport(c, &tls_transport);
  return true;
}

bool tls_connect(struct conn *c, struct tls_peer *peer, bool h1_only) {
  struct tls_conn *tls = tls_conn_new(c);
  if (!tls) return false;
  tls->is_client = true;
  tls->h1_only = h1_only;
  tls->peer = peer;
  tls_peer_ref(peer);
  c->tls = tls;
  conn_transport(c, &tls_transport);
  return true;
}

/* What the handshake writes follows in the same buffer. */
struct buf *tls_clear(struct conn *c, size_t room) {
  check(c->transport == &tls_transport && c->tls->is_client && !c->tls->clock_ns);
  return conn_wire(c, room);
}

bool tls_answer_plain(struct conn *c, struct span bytes) {
  check(conn_tls_end(c) == END_CLIENT_PLAIN_ON_TLS);
  struct buf *wire = conn_wire(c, bytes.len);
  if (wire) buf_put(wire, bytes);
  return wire != NULL;
}

/* conn_tls_end: a socket that failed inside the handshake never reached us; an endpoint's that
 * failed before it has no cause here. */
enum end conn_tls_end(const struct conn *c) {
  const struct tls_conn *tls = c->transport == &tls_transport ? c->tls : NULL;
  if (!tls) return END_OK;
  bool cut = tls->state == TLS_HANDSHAKE && (c->flags & CONN_FAILED);
  if (cut && tls->is_client) return tls->clock_ns ? END_UPSTREAM_TLS_RESET : END_OK;
  return cut ? cut_end(tls) : (enum end)tls->end;
}

const struct tls_conn *tls_conn_of(const struct conn *c) {
  return c->transport == &tls_transport ? c->tls : NULL;
}
