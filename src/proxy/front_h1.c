/* front_h1.c: client connections of HTTP: TLS handshake, the choice of HTTP/2 (front_h2.c), and
 * of HTTP/1 the bytes of one request after another, idle times, close. What a request means is the
 * stream's. Called by down.c (it begins) and step.c (a request is over). */
#include "proxy_priv.h"
#include "weir/http/h2_frame.h"
#include "weir/io/pressure.h"

static uint64_t after_ms(const struct worker *w, uint32_t delay_ms) {
  return delay_ms ? now_ms(w) + delay_ms : WHEEL_NEVER;
}

static const struct conn_events h1_events;

/* first_ms is how long a connection may take to begin its first request. */
static uint32_t first_ms(const struct down *d) {
  return down_patience_ms(d, d->serving->current->listener->timeouts.header_ms);
}

bool front_h1_start(struct down *d) {
  struct worker *w = d->serving->w;
  const struct listener *l = d->serving->current->listener;
  conn_attach(d->conn, &h1_events, d);
  if (!l->tls) {
    d->flags |= DOWN_PLAIN;
    conn_timer(d->conn, after_ms(w, first_ms(d)));
    conn_read_start(d->conn);
    return true;
  }
  d->flags |= DOWN_TLS;
  conn_timer(d->conn, after_ms(w, down_patience_ms(d, l->timeouts.handshake_ms)));
  return tls_accept(d->conn, l->tls, w->config.index);
}

/* ---- the next request ---- */

/* BLOCKED_LOOKS at which blocked output stood still make up timeouts.send. */
#define BLOCKED_LOOKS 8u

static uint32_t blocked_look_ms(const struct listener_timeouts *t) {
  return (t->send_ms + BLOCKED_LOOKS - 1) / BLOCKED_LOOKS;
}

void front_h1_next(struct down *d) {
  struct worker *w = d->serving->w;
  const struct snapshot_listener *current = d->serving->current;
  bool ended = d->flags & DOWN_EOF && !(d->flags & DOWN_IN_DATA) && !conn_held(d->conn);
  if (!current || d->flags & DOWN_CLOSE || ended) {
    down_close(d, true);
    return;
  }
  if (d->rest) { /* the client may have to send it before it reads */
    rest_wait(d);
    return;
  }
  const struct listener_timeouts *t = &current->listener->timeouts;
  if (conn_pending(d->conn) > (iobufs_half(&w->loop->iobufs) ? 0 : OUT_HIGH)) {
    d->flags |= DOWN_BLOCKED;
    d->still = 0;
    d->conn->mark = (uint32_t)conn_taken(d->conn);
    conn_timer(d->conn, after_ms(w, blocked_look_ms(t)));
    return;
  }
  uint32_t idle_ms = overload_idle_ms(w, t->idle_ms);
  room_idle(d);
  conn_timer(d->conn, after_ms(w, w->draining ? DRAIN_IDLE_MS : idle_ms));
  conn_read_start(d->conn);
}

/* ---- events ---- */

#define PLAIN_ON_TLS \
  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n" \
  "Proxy-Status: weir;error=http_request_error;details=\"client.tls.plain_http\"\r\n" \
  "Content-Length: 51\r\n\r\n400 Bad Request\nplain HTTP was sent to a TLS port\n\n"

static void handshake_failed(struct down *d, enum end end) {
  struct worker *w = d->serving->w;
  if (end == END_CLIENT_PLAIN_ON_TLS && !tls_answer_plain(d->conn, SPAN_LIT(PLAIN_ON_TLS)))
    stat_add(&w->stats.ends[END_LIMIT_MEMORY], 1);
  down_unshaken(d, end, end_get(end)->status);
}

static void start_h2(struct down *d) {
  if (front_h2_start(d)) return;
  access_connection(d, END_LIMIT_MEMORY, 0);
  down_close(d, false);
}

static void down_on_open(struct conn *c, int err) {
  struct down *d = c->owner;
  struct worker *w = d->serving->w;
  struct tls_info info;
  conn_tls_info(c, &info);
  if (err && info.silent) { /* whoever only knocks is told of no more than without TLS */
    down_close(d, true);
    return;
  }
  if (err) {
    handshake_failed(d, info.end == END_OK ? END_CLIENT_TLS_HANDSHAKE : info.end);
    return;
  }
  down_count_handshake(d, &info);
  if (!d->serving->current) {
    down_close(d, true);
    return;
  }
  stale_check(d); /* a reload may have come while it lasted */
  if (span_eq(info.alpn, SPAN_LIT("h2"))) {
    start_h2(d);
    return;
  }
  conn_timer(c, after_ms(w, first_ms(d)));
  conn_read_start(c);
}

size_t front_take(struct stream *s, struct span bytes) {
  if (s->step == STEP_BUFFER) return held_take(s, bytes);
  struct pump *p = &s->up_body;
  bool sending = s->step == STEP_SEND || s->step == STEP_RELAY;
  if (!sending || p->relaying || p->blocked || held_unsent(s)) return 0;
  if (p->state != PUMP_READY && p->state != PUMP_RUN) return 0;
  size_t used;
  if (!body_data(s, p, bytes, &used)) {
    stream_fail(s, s->end);
    return bytes.len;
  }
  if (p->state == PUMP_DONE) request_body_done(s);
  return used;
}

/* may_be_h2: the first bytes of a connection that may begin HTTP/2 by itself (RFC 9113 3.3). */
static bool may_be_h2(const struct down *d) {
  if (d->requests || d->stream || d->flags & DOWN_TLS || !d->serving->current) return false;
  return d->serving->current->listener->protocols & LISTENER_H2C;
}

/* down_consume gives bytes to the stream, or begins one. 0: nothing can be taken now. */
static size_t down_consume(struct down *d, struct span bytes) {
  if (d->rest) return rest_take(d, bytes);
  if (d->flags & DOWN_BLOCKED) return 0;
  if (!d->stream && !d->serving->current) { /* its listener was removed */
    down_close(d, true);
    return bytes.len;
  }
  if (!d->stream && !stream_new(d, NULL)) {
    access_connection(d, END_LIMIT_MEMORY, 0);
    down_close(d, false);
    return bytes.len;
  }
  struct stream *s = d->stream;
  return s->step == STEP_HEAD ? request_data(s, bytes) : front_take(s, bytes);
}

/* eof_settle acts on the client's FIN once all that came before it was looked at. */
static void eof_settle(struct down *d) {
  struct stream *s = d->stream;
  if (!s) {
    down_close(d, true);
    return;
  }
  bool body_owed = s->up_body.state == PUMP_READY || s->up_body.state == PUMP_RUN;
  if (s->step == STEP_HEAD) {
    stream_fail(s, END_BAD_REQUEST_TRUNCATED);
  } else if (body_owed) {
    stream_client_gone(s, END_CLIENT_CLOSED);
  } else if (s->x && s->x->half_close_ms == WHEEL_NEVER) {
    s->x->half_close_ms = now_ms(s->w) + s->timeouts.half_close_ms;
    stream_timer(s);
  }
}

/* after_data starts the body's relay once what came with the head was taken. */
static void after_data(struct down *d, bool all) {
  d->flags &= (uint16_t)~DOWN_IN_DATA;
  if (d->flags & DOWN_EOF && all && !conn_held(d->conn)) {
    eof_settle(d);
    return;
  }
  struct stream *s = d->stream;
  bool sending = s && (s->step == STEP_SEND || s->step == STEP_RELAY);
  if (!sending || s->up_body.state != PUMP_READY || held_unsent(s)) return;
  body_start(s, &s->up_body);
  stream_timer(s); /* it was set for the response: now it is the body that is waited for */
}

/* is_holding: bytes go to the request's buffer. When that is full the same bytes go on their way.
 */
static bool is_holding(const struct down *d) {
  return d->stream && d->stream->step == STEP_BUFFER;
}

static size_t first_of_h2(struct down *d, struct span bytes) {
  struct conn *c = d->conn;
  start_h2(d);
  return c->flags & CONN_CLOSING ? bytes.len : c->events->on_data(c, bytes);
}

static size_t down_on_data(struct conn *c, struct span bytes) {
  struct down *d = c->owner;
  struct worker *w = d->serving->w;
  uint32_t slot = d->head.slot, generation = d->head.generation;
  size_t used = 0;
  if (may_be_h2(d)) {
    enum http_result preface = h2_preface_match(bytes);
    if (preface == HTTP_MORE) {
      conn_read_start(c); /* the same bytes again, with those behind them */
      return 0;
    }
    if (preface == HTTP_DONE) return first_of_h2(d, bytes);
  }
  d->flags |= DOWN_IN_DATA;
  while (used < bytes.len) {
    bool holding = is_holding(d);
    size_t took = down_consume(d, span_from(bytes, used));
    used += took;
    if (slab_find(&w->downs, slot, generation) != d) return bytes.len;
    if (!took && !(holding && d->stream && !is_holding(d))) break;
  }
  after_data(d, used == bytes.len);
  return used;
}

static void down_on_eof(struct conn *c) {
  struct down *d = c->owner;
  struct stream *s = d->stream;
  d->flags |= DOWN_EOF;
  if (!conn_held(c)) {
    eof_settle(d);
  } else if (s && s->x) {
    s->x->half_close_ms = now_ms(s->w) + s->timeouts.half_close_ms;
    stream_timer(s);
  }
}

/* idle_lost: a reset between requests is not told of, inside one it is, and so is a fault of TLS.
 */
static void idle_lost(struct down *d, int err) {
  enum end end = down_lost(d, d->rest ? rest_lost(err) : END_OK);
  if (end != END_OK) access_connection(d, end, 0);
  down_close(d, false);
}

static void down_on_error(struct conn *c, int err) {
  struct down *d = c->owner;
  /* -ECONNABORTED: a FIN without close_notify; between requests many clients end like that. */
  if (d->stream && err == -ECONNABORTED && d->stream->step == STEP_HEAD)
    stream_client_gone(d->stream, END_CLIENT_CLOSED);
  else if (d->stream && own_trouble(err)) stream_fail(d->stream, END_LIMIT_MEMORY);
  else if (d->stream) stream_client_gone(d->stream, down_lost(d, END_CLIENT_RESET));
  else idle_lost(d, err);
}

static void down_on_drained(struct conn *c) {
  struct down *d = c->owner;
  if (d->stream) {
    body_drained(d->stream, &d->stream->down_body);
  } else if (d->flags & DOWN_BLOCKED) {
    d->flags &= (uint16_t)~DOWN_BLOCKED;
    front_h1_next(d);
  }
}

/* blocked_timer: earlier responses, logged long ago, wait for their reader. What moves is never
 * cut; what stands still has a line of its own. */
static void blocked_timer(struct down *d) {
  const struct snapshot_listener *current = d->serving->current;
  uint32_t taken = (uint32_t)conn_taken(d->conn);
  d->still = taken == d->conn->mark ? (uint8_t)(d->still + 1) : 0;
  d->conn->mark = taken;
  if (!current) { /* its listener was removed */
    down_close(d, true);
  } else if (d->still < BLOCKED_LOOKS) {
    conn_timer(d->conn, after_ms(d->serving->w, blocked_look_ms(&current->listener->timeouts)));
  } else {
    access_connection(d, END_CLIENT_TIMEOUT_SEND, 0);
    down_close(d, false);
  }
}

/* down_on_timer: no request is in flight: a silent new connection, a handshake, or an idle one, or
 * the rest of a body did not come.
 * Output that an idle one still has goes out behind our back, as long as it moves. */
static void down_on_timer(struct conn *c) {
  struct down *d = c->owner;
  if (d->stream) return;
  if (d->flags & DOWN_TLS && !(c->flags & CONN_OPEN)) {
    handshake_failed(d, down_late(d));
    return;
  }
  if (d->flags & DOWN_BLOCKED) {
    blocked_timer(d);
    return;
  }
  if (d->rest) {
    rest_end(d, END_CLIENT_TIMEOUT_REST);
    return;
  }
  if (!d->requests) access_connection(d, END_CLIENT_TIMEOUT_HEADER, 0);
  down_close(d, conn_pending(c) > 0);
}

static void down_on_secure(struct conn *c) {
  struct down *d = c->owner;
  if (d->stream) early_secure(d->stream);
}

static const struct conn_events h1_events = {
    .on_open = down_on_open,
    .on_data = down_on_data,
    .on_eof = down_on_eof,
    .on_error = down_on_error,
    .on_drained = down_on_drained,
    .on_timer = down_on_timer,
    .on_secure = down_on_secure,
};
