/* attempt.c: one try to have a request answered: an endpoint, a connection, the head sent. Whether
 * another one follows is retry.c's. RFC 9112 section 9.3.1. */
#include <errno.h>

#include "proxy_priv.h"

/* Room asked for a request head; the last is the most that an output buffer holds. */
static const size_t head_rooms[] = {2048, 16384, 65536, 262144};

enum end connect_end(int err) {
  switch (-err) {
    case ECONNREFUSED:
    case ENOENT: /* a unix socket that is not there */ return END_CONNECT_REFUSED;
    case ETIMEDOUT: return END_CONNECT_TIMEOUT;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EACCES:
    case EPERM: return END_CONNECT_UNREACHABLE;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOBUFS: return END_LIMIT_MEMORY;
    default: return END_CONNECT_FAILED;
  }
}

/* ---- the endpoint and its connection ---- */

static void use_endpoint(struct stream *s, struct endpoint *e) {
  if (s->endpoint) object_unpin(&s->endpoint->obj, s->w->config.index);
  s->endpoint = e;
  object_pin(&e->obj, s->w->config.index);
}

/* attempt_count: the budget is a share of requests, not of attempts. */
static void attempt_count(struct stream *s) {
  if (s->attempts++ == 0 && s->pool->retry.attempts > 1)
    budget_request(&s->pool->state->rows[s->w->config.index], now_ms(s->w));
}

static void use_connection(struct stream *s, struct upconn *up, struct endpoint *e, bool reused) {
  use_endpoint(s, e);
  s->up = up;
  attempt_count(s);
  s->flags &= ~(uint32_t)(STREAM_REUSED | STREAM_SENT | STREAM_UP_DIRTY);
  s->t_try = now_ns(s->w);
  if (reused) s->flags |= STREAM_REUSED;
  endpoint_begin(e, s->w->config.index);
  s->flags |= STREAM_COUNTED;
}

/* take_connection gets one to e, idle or new. 0, or -errno (-EAGAIN: no permit). */
static int take_connection(struct stream *s, struct endpoint *e) {
  struct upstream *u = &s->w->upstream;
  struct upconn *up = s->flags & STREAM_REFILL ? NULL : upconn_checkout(u, e, s);
  if (up) {
    conn_attach(up->conn, &up_events, up);
    conn_timer(up->conn, WHEEL_NEVER);
    use_connection(s, up, e, true);
    return 0;
  }
  int err = 0;
  up = upconn_connect(u, s->pool, e, &up_events, s, &err);
  if (!up && err == -EAGAIN && (s->flags & STREAM_REFILL)) {
    uint32_t idle = atomic_load_explicit(&e->rows[u->worker].idle_count, memory_order_relaxed);
    upstream_close_idle(u, e, idle ? idle - 1 : 0);
    up = upconn_connect(u, s->pool, e, &up_events, s, &err);
  }
  if (up) use_connection(s, up, e, false);
  return up ? 0 : err;
}

/* take gets the permits of a request and a connection. 0, or -errno (-EAGAIN: no permit). */
static int take(struct stream *s, struct endpoint *e) {
  struct upstream *u = &s->w->upstream;
  uint8_t held;
  if (!request_permits_take(u, s->pool, e, &held)) return -EAGAIN;
  int err = take_connection(s, e);
  if (!err) s->permits = held;
  else request_permits_give(u, s->pool_state, e, held);
  return err;
}

/* take_any tries the chosen endpoint, then every other in service while permits are short. */
static int take_any(struct stream *s, struct endpoint *chosen) {
  int err = take(s, chosen);
  for (uint32_t i = 0; err == -EAGAIN && i < s->pool->member_count; i++) {
    const struct pool_member *m = &s->pool->members[i];
    if (m->endpoint == chosen || m->backup) continue;
    if (endpoint_in_service(m->endpoint, now_ms(s->w))) err = take(s, m->endpoint);
  }
  return err;
}

static void taken(struct stream *s) {
  if (s->flags & STREAM_REUSED) {
    stream_go(s, STEP_SEND);
    return;
  }
  s->t_connect = now_ns(s->w);
  stream_go(s, STEP_CONNECT);
}

/* refused_at_once: a connect that failed before it began. */
static void refused_at_once(struct stream *s, struct endpoint *e, int err) {
  use_endpoint(s, e);
  attempt_count(s);
  s->flags &= ~(uint32_t)(STREAM_REUSED | STREAM_SENT);
  attempt_failed(s, connect_end(err));
}

void enter_pick(struct stream *s) {
  const struct pool_member *m = pool_pick(&s->w->upstream, s->pool, now_ms(s->w), &s->x->tried);
  if (!m) {
    stream_fail(s, s->pool->unresolved ? END_RESOLVE_FAILED : END_NONE_HEALTHY);
    return;
  }
  int err = queue_stands(s->pool) ? -EAGAIN : take_any(s, m->endpoint);
  if (!err) {
    taken(s);
  } else if (err == -EAGAIN) {
    queue_enter(s);
  } else {
    refused_at_once(s, m->endpoint, err);
  }
}

bool attempt_serve(struct stream *s) {
  const struct pool_member *m = pool_pick(&s->w->upstream, s->pool, now_ms(s->w), &s->x->tried);
  int err = m ? take_any(s, m->endpoint) : -ENOENT;
  if (err == -EAGAIN) return false;
  queue_served(s);
  if (!err) taken(s);
  else if (!m) stream_go(s, STEP_PICK); /* says why */
  else refused_at_once(s, m->endpoint, err);
  return true;
}

/* ---- sending ---- */

/* send_head serialises into the connection's output; false when no buffer is left. */
static bool send_head(struct stream *s) {
  for (size_t i = 0; i < array_count(head_rooms); i++) {
    struct buf *out = conn_out(s->up->conn, head_rooms[i]);
    if (!out) return false;
    size_t before = out->len;
    request_write_head(s, out);
    if (!out->full) return true;
    out->len = before;
    out->full = false;
  }
  return false;
}

void enter_send(struct stream *s) {
  if (!send_head(s)) {
    stream_fail(s, END_LIMIT_MEMORY);
    return;
  }
  s->flags |= STREAM_SENT;
  s->t_sent = now_ns(s->w);
  conn_flush(s->up->conn);
  conn_read_start(s->up->conn);
  if (s->up_body.state == PUMP_READY && !(s->down->flags & DOWN_IN_DATA))
    body_start(s, &s->up_body);
}

/* ---- the end of an attempt ---- */

void attempt_outcome(struct stream *s, enum end end, uint16_t status) {
  if (!s->pool || !s->endpoint) return;
  struct worker *w = s->w;
  if (end != END_OK) stat_add(&s->endpoint->rows[w->config.index].failures, 1);
  if (!endpoint_outcome(&w->upstream, s->pool, s->endpoint, end, status, now_ms(w))) return;
  worker_event(w, END_LEVEL_WARN,
               "pool " SPAN_FMT ": endpoint " SPAN_FMT
               ": taken out of service for %u ms or more "
               "after consecutive failures, the last one %.*s (outlier)",
               SPAN_ARG(s->pool->obj.name), SPAN_ARG(s->endpoint->label),
               s->pool->outlier.eject_ms, SPAN_ARG(end_get(end)->word));
}

/* give_back closes the attempt's connection or, when it is clean and nobody else lacks it, keeps
 * it. */
static void give_back(struct stream *s, struct upconn *up, bool clean) {
  /* What moved past the receive may have more behind it in the socket: never the next response. */
  bool past = s->down_body.relay.moved > 0 || s->up_body.relay.moved > 0 ||
              up->conn->flags & (CONN_BULK | CONN_SINGLE);
  if (clean && past && !conn_quiet(up->conn)) s->flags |= STREAM_UP_DIRTY;
  bool keep = clean && !(s->flags & STREAM_UP_DIRTY) && s->pool;
  if (keep && !queue_lacks(s->w, s->pool, up->endpoint))
    upconn_release(up, &s->pool->connections);
  else upconn_close(up, false);
}

void attempt_drop(struct stream *s, bool clean) {
  struct worker *w = s->w;
  if (s->flags & STREAM_COUNTED) endpoint_end(s->endpoint, w->config.index);
  s->flags &= ~(uint32_t)STREAM_COUNTED;
  struct upconn *up = s->up;
  if (!up) return;
  s->up = NULL;
  give_back(s, up, clean);
  request_permits_give(&w->upstream, s->pool_state, s->endpoint, s->permits);
  s->permits = 0;
  queue_freed(w, s->pool_state); /* an idle connection serves too */
}

void attempt_failed(struct stream *s, enum end end) {
  if (!(s->flags & STREAM_SENT)) stat_add(&s->w->stats.upstream_connect_failures, 1);
  if (s->t_connect && !s->t_connected) s->connect_ns += now_ns(s->w) - s->t_connect;
  if (retry_after_failure(s, end)) return;
  attempt_drop(s, false);
  stream_fail(s, end);
}
