/* front_pass.c: clients of a listener with protocol = "tls_passthrough": the ClientHello is read
 * but not answered (http/client_hello.h), says where the connection goes (model/sni.h), and is the
 * first that goes there: from then on it is a session of TCP. Who goes nowhere gets the alert that
 * a TLS server would send. Opens nothing, and has no TLS library. Called by front_tcp.c. */
#include "proxy_priv.h"
#include "weir/http/client_hello.h"

/* HELLO_ARENA is room for a hello that comes in several records. */
#define HELLO_ARENA (64u << 10)

/* Alerts of RFC 8446 section 6; none: it is not TLS. */
enum alert {
  ALERT_NONE = 0,
  ALERT_DECODE_ERROR = 50,
  ALERT_PROTOCOL_VERSION = 70,
  ALERT_UNRECOGNIZED_NAME = 112,
  ALERT_NO_APPLICATION_PROTOCOL = 120,
};

/* refuse sends a fatal alert, in a record that all versions understand. */
static void refuse(struct down *d, enum alert alert, enum end end,
                   const struct access_words *words) {
  const char record[] = {21, 3, 1, 0, 2, 2, (char)alert};
  access_refused(d, end, words);
  if (alert != ALERT_NONE && !conn_write(d->conn, span_of(record, sizeof record)))
    stat_add(&d->serving->w->stats.ends[END_LIMIT_MEMORY], 1);
  down_close(d, true);
}

static void refuse_hello(struct down *d, enum hello_fault why) {
  const struct access_words words = {.reason = hello_fault_text(why)};
  if (why == HELLO_FAULT_MEMORY) {
    refuse(d, ALERT_NONE, END_LIMIT_MEMORY, &words);
    return;
  }
  bool old = why == HELLO_FAULT_SSLV2 || why == HELLO_FAULT_VERSION ||
             why == HELLO_FAULT_RECORD_VERSION;
  enum alert alert = old ? ALERT_PROTOCOL_VERSION : ALERT_DECODE_ERROR;
  refuse(d, why == HELLO_FAULT_NOT_TLS ? ALERT_NONE : alert, END_CLIENT_TLS_HELLO, &words);
}

/* only_protocol is what will be spoken, which of several the endpoint chooses; an encrypted hello
 * has a list of its own. */
static struct span only_protocol(const struct client_hello *hello) {
  struct span rest = hello->alpn, protocol;
  if (hello->ech || !client_hello_alpn(&rest, &protocol)) return SPAN_EMPTY;
  return rest.len ? SPAN_EMPTY : protocol;
}

static void route(struct down *d, const struct client_hello *hello) {
  struct access_words words = {.host = hello->host};
  if (hello->host_bad) words.reason = SPAN_LIT("the name is no valid host name, or an address");
  struct pool *pool = NULL;
  switch (sni_find(d->serving->current->listener, hello, &pool)) {
    case SNI_ROUTED: front_tcp_session(d, pool, hello->host, only_protocol(hello)); return;
    case SNI_NO_NAME: refuse(d, ALERT_UNRECOGNIZED_NAME, END_CLIENT_TLS_NAME, &words); return;
    case SNI_NO_PROTOCOL:
      refuse(d, ALERT_NO_APPLICATION_PROTOCOL, END_CLIENT_TLS_ALPN, &words);
      return;
  }
}

/* on_data takes nothing: the same bytes come again with those behind them, and when the hello is
 * whole they wait for the relay. */
static size_t on_data(struct conn *c, struct span bytes) {
  struct down *d = c->owner;
  const struct snapshot_listener *current = d->serving->current;
  struct hello_scan scan = {0};
  struct client_hello hello;
  enum hello_fault why;
  struct arena arena;
  if (!current || current->listener->serves != SERVES_TLS) { /* of before a reload */
    down_close(d, true);
    return bytes.len;
  }
  arena_init(&arena, &d->serving->w->blocks, HELLO_ARENA);
  switch (client_hello_peek(&scan, bytes, &arena, &hello, &why)) {
    case HTTP_MORE: conn_read_start(c); break;
    case HTTP_DONE: route(d, &hello); break;
    case HTTP_BAD: refuse_hello(d, why); break;
  }
  arena_reset(&arena);
  return c->flags & CONN_CLOSING ? bytes.len : 0;
}

/* tell_cut: who looks whether the port is open sends nothing, and is told nothing. */
static void tell_cut(struct down *d) {
  const struct access_words words = {.reason = SPAN_LIT("the connection ended inside the hello")};
  if (conn_held(d->conn)) access_refused(d, END_CLIENT_TLS_HELLO, &words);
}

static void on_eof(struct conn *c) {
  tell_cut(c->owner);
  down_close(c->owner, true);
}

static void on_error(struct conn *c, int err) {
  if (!own_trouble(err)) tell_cut(c->owner);
  first_on_error(c, err);
}

static void on_timer(struct conn *c) {
  struct down *d = c->owner;
  access_connection(d, END_CLIENT_TLS_TIMEOUT, 0);
  down_close(d, false);
}

static const struct conn_events hello_events = {
    .on_open = first_on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_error = on_error,
    .on_drained = first_on_drained,
    .on_timer = on_timer,
};

void front_pass_start(struct down *d) {
  const struct listener *l = d->serving->current->listener;
  conn_attach(d->conn, &hello_events, d);
  uint32_t patience_ms = down_patience_ms(d, l->timeouts.handshake_ms);
  conn_timer(d->conn, now_ms(d->serving->w) + patience_ms);
  conn_read_start(d->conn);
}
