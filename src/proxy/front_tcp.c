/* front_tcp.c: clients of a listener with protocol = "tcp": a connection is one session, its
 * stream takes an endpoint at once (a server may speak first) and is a tunnel from there on
 * (tunnel.c). What the client sends before that is held. Looks at no byte. Called by down.c (the
 * client is there) and by attempt.c (the endpoint is). */
#include "proxy_priv.h"
#include "weir/io/tls_client_auth.h"

enum { CLIENT_TEXT_MAX = 64 };

static const struct conn_events tcp_events;

/* refuse ends a connection that gets no session: by a reset, so that it passes for no empty one.
 */
static void refuse(struct down *d, enum end end) {
  access_connection(d, end, 0);
  down_abort(d);
}

/* know_client tells the stream whose it is, by a PROXY header too: for logs, hashing and the
 * header that endpoints get. */
static void know_client(struct stream *s) {
  struct filter_ctx *ctx = &s->x->ctx;
  down_peer(s->down, &ctx->client_addr);
  if (ctx->client_addr.sa.sa_family == AF_UNIX) return;
  char *bytes = arena_bytes(&s->arena, CLIENT_TEXT_MAX);
  struct buf b = buf_of(bytes, bytes ? CLIENT_TEXT_MAX : 0);
  if (bytes) addr_write_ip(&ctx->client_addr, &b);
  ctx->client = buf_span(&b);
}

static void begin(struct stream *s, struct pool *pool, struct span host, struct span alpn) {
  struct worker *w = s->w;
  s->flags |= STREAM_TCP | STREAM_PARSED | STREAM_CLOSE;
  stat_add(&w->stats.tcp_sessions, 1);
  stat_add(&w->stats.tcp_sessions_total, 1);
  know_client(s);
  s->x->limited.rate = down_rate(s->down); /* of dry_run: it is a session all the same */
  s->x->req.host = arena_copy(&s->arena, host, NULL);
  s->x->alpn = arena_copy(&s->arena, alpn, NULL);
  conn_watch(s->conn); /* it may reset while an endpoint is waited for */
  if (!overload_admit(s, TCP_PRIORITY)) return;
  affinity_init(s, pool);
  stream_pin_pool(s, pool);
  if (admit_early(s)) stream_go(s, STEP_PICK);
}

void front_tcp_session(struct down *d, struct pool *pool, struct span host, struct span alpn) {
  struct stream *s = d->flags & DOWN_OVER_LIMIT ? NULL : stream_new(d, NULL);
  conn_attach(d->conn, &tcp_events, d);
  if (s) begin(s, pool, host, alpn);
  else refuse(d, d->flags & DOWN_OVER_LIMIT ? END_LIMIT_CONNECTIONS : END_LIMIT_MEMORY);
}

/* ready: nothing stands between the client and its session. name: what it asked for by SNI. */
static void ready(struct down *d, struct span name) {
  const struct snapshot_listener *current = d->serving->current;
  bool serves = current && current->listener->serves == SERVES_TCP;
  if (serves) front_tcp_session(d, current->listener->pool, name, SPAN_EMPTY);
  else down_close(d, true); /* its listener was removed, or serves something else now */
}

bool front_tcp_start(struct down *d) {
  struct worker *w = d->serving->w;
  const struct listener *l = d->serving->current->listener;
  if (l->serves == SERVES_TLS) {
    front_pass_start(d);
    return true;
  }
  conn_attach(d->conn, &tcp_events, d);
  if (!l->tls) {
    d->flags |= DOWN_PLAIN;
    ready(d, SPAN_EMPTY);
    return true;
  }
  d->flags |= DOWN_TLS;
  conn_timer(d->conn, now_ms(w) + down_patience_ms(d, l->timeouts.handshake_ms));
  return tls_accept(d->conn, l->tls, w->config.index);
}

/* That a connection was taken is all that is known of an endpoint here: its outcome. */
void front_tcp_opened(struct stream *s) {
  attempt_outcome(s, &s->try, END_OK, 200);
  admit_head(s);
  tunnel_start(s);
}

/* ---- events, until the relays have them ---- */

/* let_in: a reload may have come while the handshake lasted; what was shown is put to what is
 * asked now, as with a request. */
static bool let_in(const struct down *d, struct span name) {
  const struct snapshot_listener *current = d->serving->current;
  return !current || conn_tls_covers(d->conn, current->listener->tls, name);
}

static void on_open(struct conn *c, int err) {
  struct down *d = c->owner;
  struct tls_info info;
  conn_tls_info(c, &info);
  if (err && info.silent) {
    down_close(d, true);
    return;
  }
  if (err) {
    down_unshaken(d, info.end == END_OK ? END_CLIENT_TLS_HANDSHAKE : info.end, 0);
    return;
  }
  down_count_handshake(d, &info);
  if (!let_in(d, info.sni)) {
    refuse(d, END_CLIENT_MISDIRECTED);
    return;
  }
  stale_check(d);
  conn_timer(c, WHEEL_NEVER);
  ready(d, info.sni);
}

/* on_data: what came behind a PROXY header waits for the relay. */
static size_t on_data(struct conn *c, struct span bytes) {
  (void)c, (void)bytes;
  return 0;
}

/* on_eof: half of the connection; the relay passes it on. In a handshake it is an error. */
static void on_eof(struct conn *c) { conn_watch(c); }

void front_tcp_gone(struct stream *s, int err) {
  enum end end = err == -ECONNABORTED ? END_CLIENT_CLOSED : down_lost(s->down, END_CLIENT_RESET);
  stream_client_gone(s, end);
}

/* lost: what the client sent before it broke goes to the endpoint that is being connected to, and
 * its end behind that (tunnel.c). In the pool's queue nobody waits who has left. */
static void lost(struct stream *s, int err) {
  bool waits = s->x && s->step != STEP_QUEUE && conn_held(s->conn);
  if (waits) s->x->left_err = err;
  else front_tcp_gone(s, err);
}

static void on_broken(struct conn *c) {
  struct down *d = c->owner;
  if (d->stream) lost(d->stream, -ECONNRESET);
}

static void on_error(struct conn *c, int err) {
  struct down *d = c->owner;
  if (d->stream && own_trouble(err)) stream_fail(d->stream, END_LIMIT_MEMORY);
  else if (d->stream) lost(d->stream, err);
  else down_close(d, false);
}

static void on_drained(struct conn *c) { (void)c; }

static void on_timer(struct conn *c) {
  struct down *d = c->owner;
  if (!d->stream) down_unshaken(d, down_late(d), 0);
}

static const struct conn_events tcp_events = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = on_drained,
    .on_timer = on_timer,
    .on_broken = on_broken,
};
