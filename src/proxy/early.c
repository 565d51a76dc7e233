/* early.c: requests that came as early data of TLS (0-RTT), which anybody who saw the first flight
 * may send again (RFC 8470). Those that are safe go on at once and are marked, all others wait for
 * the end of the handshake, which no replay comes to; a route may want all to wait, or none at
 * all. Which data is early, and how often a flight may come, is io/tls_early.c. Called by route.c
 * and by the connections of both versions. */
#include "proxy_priv.h"
#include "weir/io/tls_early.h"

bool early_begun(const struct down *d) {
  return d->flags & DOWN_TLS && d->conn->bytes_in < conn_early_bytes(d->conn);
}

void early_count(struct worker *w, uint8_t result) {
  switch ((enum tls_early)result) {
    case TLS_EARLY_NONE: return;
    case TLS_EARLY_ACCEPTED: stat_add(&w->stats.early_accepted, 1); return;
    case TLS_EARLY_REPLAYED: stat_add(&w->stats.early_replayed, 1); return;
    case TLS_EARLY_REFUSED: stat_add(&w->stats.early_refused, 1); return;
  }
}

/* safe: to be acted on twice. What ends the connection waits too: without the handshake no
 * close_notify can be sent. */
static bool safe(const struct http_request *r) {
  bool method = r->method == HTTP_METHOD_GET || r->method == HTTP_METHOD_HEAD ||
                r->method == HTTP_METHOD_OPTIONS;
  return method && r->body == HTTP_BODY_NONE && !r->upgrade.len && (r->h2 || r->keepalive);
}

bool early_waits(const struct stream *s) {
  if (!(s->flags & STREAM_EARLY) || !conn_early(s->down->conn)) return false;
  switch ((enum policy_early)s->route->settings.early) {
    case EARLY_FORWARD: return !safe(&s->x->req);
    case EARLY_WAIT: return true;
    case EARLY_REFUSE: return false;
  }
  return true;
}

static bool says_early(const struct stream *s) {
  return http_fields_has(&s->x->req.fields, HTTP_NAME_EARLY_DATA);
}

/* mark tells the endpoint of it (RFC 8470 section 5.1), also when the handshake was just done and
 * nothing had to wait: a copy may have been forwarded before, here or by another instance. */
static bool mark(struct stream *s) {
  struct http_request *r = &s->x->req;
  if (s->route->settings.early != EARLY_FORWARD || !safe(r)) return true;
  (void)http_fields_drop(&r->fields, SPAN_LIT("Early-Data")); /* whatever the client wrote in it */
  return http_fields_add(&r->fields, &s->arena, SPAN_LIT("Early-Data"), SPAN_LIT("1"));
}

/* early_gate: with `refuse`, what weir itself saw come early is refused only until the handshake
 * is done; what another one in front saw, always. */
enum end early_gate(struct stream *s) {
  bool open = s->flags & STREAM_EARLY && conn_early(s->down->conn);
  bool refuse = s->route->settings.early == EARLY_REFUSE;
  if (refuse && (open || says_early(s))) {
    stat_add(&s->w->stats.early_denied, 1);
    return END_TOO_EARLY;
  }
  if (!(s->flags & STREAM_EARLY)) return END_OK;
  bool waited = s->flags & STREAM_EARLY_WAITED;
  stat_add(waited ? &s->w->stats.early_waited : &s->w->stats.early_forwarded, 1);
  return waited || mark(s) ? END_OK : END_LIMIT_STREAM_MEMORY;
}

/* enter_early waits, or goes on. */
void enter_early(struct stream *s) {
  if (!early_waits(s)) {
    route_act(s);
    return;
  }
  s->flags |= STREAM_EARLY_WAITED;
  if (!(s->flags & STREAM_H2)) conn_watch(s->conn); /* the rest of the handshake has to be read */
}

void early_secure(struct stream *s) {
  if (s->step == STEP_EARLY) stream_go(s, STEP_EARLY);
}
