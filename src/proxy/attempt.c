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
    case EMFILE:
    case ENFILE: return END_LIMIT_DESCRIPTORS;
    case ENOMEM:
    case ENOBUFS: return END_LIMIT_MEMORY;
    default: return END_CONNECT_FAILED;
  }
}

enum end open_end(const struct upconn *up, int err, struct span *why) {
  enum end end = up ? upconn_tls_end(up, err == -ETIMEDOUT, why) : END_OK;
  return end == END_OK ? connect_end(err) : end;
}

/* ---- the endpoint and its connection ---- */

static void use_endpoint(struct stream *s, struct attempt *a, struct endpoint *e) {
  uint32_t me = s->w->config.index;
  if (a->endpoint) object_unpin(&a->endpoint->obj, me);
  *a = (struct attempt){.endpoint = e, .pass = a->pass, .t_try = now_ns(s->w)};
  object_pin(&e->obj, me);
  s->flags &= ~(uint32_t)(STREAM_REFILL | STREAM_ALONE); /* it has its connection */
  /* The budget is a share of requests, not of attempts. */
  if (s->attempts++ == 0 && s->pool->retry.attempts > 1)
    budget_request(&s->pool->state->rows[me], now_ms(s->w));
}

static void use_connection(struct stream *s, struct attempt *a, struct upconn *up, bool reused) {
  use_endpoint(s, a, up->endpoint);
  a->up = up;
  a->flags = ATTEMPT_COUNTED;
  if (up->mux) a->flags |= ATTEMPT_H2;
  if (reused) a->flags |= ATTEMPT_REUSED | (up->shared ? 0u : ATTEMPT_RACES);
  else a->t_connect = a->t_try;
  endpoint_begin(a->endpoint, s->w->config.index);
}

/* asks_tunnel: an upgrade that HTTP/2 can bring on: that of an HTTP/2 client, or a WebSocket. */
static bool asks_tunnel(const struct stream *s) {
  struct span upgrade = s->x->req.upgrade;
  return upgrade.len && (s->flags & STREAM_H2 || websocket_is(upgrade));
}

/* connect_to opens a connection; a PROXY header waits in it until it is open. */
static struct upconn *connect_to(struct stream *s, struct endpoint *e,
                                 const struct attempt_owner *o, int *err) {
  struct upconn *up = upconn_connect(&s->w->upstream, s->pool, e, o->events, o->owner, err);
  if (!up || !s->pool->connections.proxied) return up;
  struct buf *out = proxied_room(s->pool, up->conn, PROXIED_ROOM);
  if (out && proxied_write(s, s->pool, out)) return up;
  upconn_close(up, false);
  *err = -ENOBUFS;
  return NULL;
}

/* by_either: a request for an upgrade, to endpoints that may be spoken to by HTTP/1.1 too: over
 * that it can be had, where HTTP/2 takes none. */
static bool by_either(const struct stream *s) {
  return s->pool->tls && s->pool->connections.protocol == POOL_AUTO && s->x->req.upgrade.len;
}

/* by_h2: it can be brought on by HTTP/2, as far as is known. */
static bool by_h2(const struct stream *s, const struct endpoint *e) {
  return asks_tunnel(s) && !upconn_bare(&s->w->upstream, e);
}

static enum upconn_way way_to(const struct stream *s, const struct endpoint *e) {
  enum upconn_way way = upconn_way(&s->w->upstream, s->pool, e);
  return way == UPCONN_STREAM && by_either(s) && !by_h2(s, e) ? UPCONN_HTTP_1 : way;
}

/* SPARED idle connections are left to clients with one request at a time by those with many, while
 * there are such (begin.c): an endpoint that is busy with the many accepts a new one late. */
#define SPARED 2u

static uint32_t idle_count(const struct stream *s, const struct endpoint *e) {
  return atomic_load_explicit(&e->rows[s->w->upstream.worker].idle_count, memory_order_relaxed);
}

static bool spares(const struct stream *s, const struct endpoint *e) {
  bool many = s->flags & STREAM_H2 && h2_streams(s->down->h2) > 1;
  uint32_t keeps = s->pool->connections.keepalive_max;
  bool asks_anew = s->try.flags & ATTEMPT_H2; /* for one that just became idle: attempt_ask_anew */
  if (!many || asks_anew || (keeps && keeps <= SPARED)) return false;
  return s->w->begin.small && idle_count(s, e) <= SPARED;
}

/* idle_one is a connection that is idle, made the stream's; NULL: none. */
static struct upconn *idle_one(struct stream *s, struct endpoint *e,
                               const struct attempt_owner *o) {
  struct upconn *up = upconn_checkout(&s->w->upstream, s->pool, e, o->owner);
  if (!up) return NULL;
  conn_attach(up->conn, o->events, up);
  conn_timer(up->conn, WHEEL_NEVER);
  return up;
}

/* connection gets one to e, idle (*reused) or new; NULL and *err (-EAGAIN: no permit). */
static struct upconn *connection(struct stream *s, struct endpoint *e,
                                 const struct attempt_owner *o, bool *reused, int *err) {
  struct upstream *u = &s->w->upstream;
  const struct attempt_to to = {.events = o->events,
                                .owner = o->owner,
                                .alone = s->flags & STREAM_ALONE,
                                .settled = asks_tunnel(s)};
  const struct worker_config *c = &s->w->config;
  u->loop->fds_most = s->flags & STREAM_FURTHER ? c->fds_further : c->fds_most;
  enum upconn_way way = way_to(s, e);
  if (way == UPCONN_STREAM) return upconn_stream(u, s->pool, e, &to, reused, err);
  /* One that is idle was another client's, or of before a reload. */
  bool fresh = s->flags & (STREAM_REFILL | STREAM_TCP) || s->pool->connections.proxied;
  bool spared = !fresh && way != UPCONN_ASK && spares(s, e);
  struct upconn *up = fresh || spared ? NULL : idle_one(s, e, o);
  *reused = up != NULL;
  if (up) return up;
  if (way == UPCONN_ASK) return upconn_stream(u, s->pool, e, &to, reused, err);
  up = connect_to(s, e, o, err);
  if (up || !(spared || (fresh && *err == -EAGAIN))) return up;
  if (spared) { /* no permit: one that is idle has it, or gave it back as it was of no use */
    up = idle_one(s, e, o);
    *reused = up != NULL;
    return up || *err != -EAGAIN ? up : connect_to(s, e, o, err);
  }
  uint32_t idle = idle_count(s, e);
  upstream_close_idle(u, e, idle ? idle - 1 : 0);
  return connect_to(s, e, o, err);
}

int attempt_take(struct stream *s, struct attempt *a, struct endpoint *e,
                 const struct attempt_owner *o) {
  struct upstream *u = &s->w->upstream;
  uint8_t held;
  bool reused;
  int err = 0;
  if (!request_permits_take(u, s->pool, e, &held)) return -EAGAIN;
  struct upconn *up = connection(s, e, o, &reused, &err);
  if (!up) {
    request_permits_give(u, s->pool_state, e, held);
    return err;
  }
  use_connection(s, a, up, reused);
  a->permits = held;
  return 0;
}

/* attempt_ask_anew: the endpoint speaks HTTP/1.1: the stream of HTTP/2 that was to be is given up
 * for a connection of that. One that is open has been waited for: it is no reused one. */
int attempt_ask_anew(struct stream *s, struct attempt *a, const struct attempt_owner *o,
                     bool *open) {
  int err = 0;
  upconn_close(a->up, false);
  a->up = connection(s, a->endpoint, o, open, &err);
  a->flags &= (uint16_t)~(ATTEMPT_H2 | ATTEMPT_REUSED | ATTEMPT_RACES);
  if (!a->up) {
    endpoint_end(a->endpoint, s->w->config.index);
    a->flags &= (uint16_t)~ATTEMPT_COUNTED;
    request_permits_give(&s->w->upstream, s->pool_state, a->endpoint, a->permits);
    a->permits = 0;
    return err;
  }
  if (a->up->mux) a->flags |= ATTEMPT_H2;
  if (a->up->requests > 1) a->flags |= ATTEMPT_REUSED | ATTEMPT_RACES;
  return 0;
}

/* take_other tries those that may stand for the chosen one (*which), which has no permit left:
 * others of its tier in service that were tried before, or not, unless to wait is better. */
static int take_other(struct stream *s, struct attempt *a, const struct pool_member **which,
                      const struct attempt_owner *o, bool tried) {
  const struct pool_member *chosen = *which;
  int err = -EAGAIN;
  for (uint32_t i = 0; err == -EAGAIN && i < s->pool->member_count; i++) {
    const struct pool_member *m = &s->pool->members[i];
    if (m == chosen || m->backup != chosen->backup || m->priority != chosen->priority) continue;
    if (!m->weight || retry_tried(s, i) != tried || retry_refused(s, i)) continue;
    if (!endpoint_in_service(m->endpoint, now_ms(s->w))) continue;
    if (!pool_worth(s->pool, chosen, m, now_ms(s->w))) continue;
    err = attempt_take(s, a, m->endpoint, o);
    if (err != -EAGAIN) *which = m;
  }
  return err;
}

int attempt_take_any(struct stream *s, struct attempt *a, const struct pool_member **which,
                     const struct attempt_owner *o) {
  int err = attempt_take(s, a, (*which)->endpoint, o);
  return err == -EAGAIN ? take_other(s, a, which, o, false) : err;
}

/* take_any: one that failed this request, and has room perhaps because it fails, comes after those
 * that are full; but not for ever: who is picky at the head of the queue holds up all others. One
 * that took no connection does not come at all. */
static int take_any(struct stream *s, const struct pool_member **which) {
  struct attempt_owner o = {&up_events, s};
  int err = attempt_take_any(s, &s->try, which, &o);
  bool picky = s->x->any_ms > now_ms(s->w);
  if (err == -EAGAIN && s->x->tried.count && !picky)
    err = take_other(s, &s->try, which, &o, true);
  return err;
}

void attempt_opened(struct stream *s) {
  s->try.t_connected = now_ns(s->w);
  s->connect_ns += s->try.t_connected - s->try.t_connect;
  if (s->flags & STREAM_TCP) front_tcp_opened(s);
  else stream_go(s, STEP_SEND);
}

/* attempt_other_protocol: no permit may be left for another connection: then it waits for one. */
void attempt_other_protocol(struct stream *s) {
  bool open = false;
  int err = attempt_ask_anew(s, &s->try, &(struct attempt_owner){&up_events, s}, &open);
  if (!err && open) {
    attempt_opened(s);
  } else if (!err) {
    s->connect_ns += now_ns(s->w) - s->try.t_connect;
    s->try.t_connect = now_ns(s->w);
    stream_timer(s);
  } else if (err == -EAGAIN) {
    s->attempts--;
    stream_go(s, STEP_PICK);
  } else {
    attempt_failed(s, connect_end(err));
  }
}

/* upgrade_by_h1: the HTTP/2 connection that it has cannot bring it on. */
static void upgrade_by_h1(struct stream *s) {
  struct attempt *a = &s->try;
  bool open = false;
  if (asks_tunnel(s)) upconn_bare_set(&s->w->upstream, a->endpoint, true);
  int err = attempt_ask_anew(s, a, &(struct attempt_owner){&up_events, s}, &open);
  a->t_connect = err || open ? 0 : now_ns(s->w);
  a->t_connected = 0;
  if (!err) {
    stream_go(s, open ? STEP_SEND : STEP_CONNECT);
  } else if (err == -EAGAIN) {
    s->attempts--;
    stream_go(s, STEP_PICK);
  } else {
    attempt_failed(s, connect_end(err));
  }
}

/* attempt_unopened: one that offered HTTP/1.1 alone for an upgrade's sake, and was refused that,
 * is no failure of the endpoint's. What is no tunnel goes on without: an Upgrade may be ignored
 * (RFC 9110 section 7.8). */
void attempt_unopened(struct stream *s, int err) {
  struct attempt *a = &s->try;
  enum end end = open_end(a->up, err, &s->x->tls_why);
  if (end != END_UPSTREAM_TLS_ALPN || !by_either(s) || a->flags & ATTEMPT_H2) {
    attempt_failed(s, end);
    return;
  }
  upconn_bare_set(&s->w->upstream, a->endpoint, false);
  attempt_drop(s, false);
  if (asks_tunnel(s)) {
    stream_fail(s, END_UPSTREAM_NO_UPGRADE);
    return;
  }
  s->x->req.upgrade = SPAN_EMPTY;
  s->attempts--;
  stream_go(s, STEP_PICK);
}

static void taken(struct stream *s) {
  stream_go(s, s->try.flags & ATTEMPT_REUSED ? STEP_SEND : STEP_CONNECT);
}

/* refused_at_once: a connect that failed before it began. */
static void refused_at_once(struct stream *s, struct endpoint *e, int err) {
  use_endpoint(s, &s->try, e);
  attempt_failed(s, connect_end(err));
}

void enter_pick(struct stream *s) {
  if (stream_lost(s) || !admit(s)) return;
  const struct pool_member *m = affinity_pick(s);
  if (!m) {
    enum end none = s->pool->unresolved ? END_RESOLVE_FAILED : END_NONE_HEALTHY;
    stream_fail(s, s->x->tried.refused ? s->x->refused_end : none);
    return;
  }
  int err = queue_stands(s->pool) ? -EAGAIN : take_any(s, &m);
  if (!err) {
    taken(s);
  } else if (err == -EAGAIN) {
    queue_enter(s);
  } else {
    refused_at_once(s, m->endpoint, err);
  }
}

bool attempt_serve(struct stream *s) {
  if (stream_lost(s)) return true;
  if (!admit_still(s)) {
    queue_leave(s);
    stream_go(s, STEP_PICK); /* says why */
    return true;
  }
  const struct pool_member *m = affinity_pick(s);
  int err = m ? take_any(s, &m) : -ENOENT;
  if (err == -EAGAIN) return false;
  queue_served(s);
  if (!err) taken(s);
  else if (!m) stream_go(s, STEP_PICK); /* says why */
  else refused_at_once(s, m->endpoint, err);
  return true;
}

/* ---- sending ---- */

/* send_head_h2 sends the head and says where the response's goes. */
static enum end send_head_h2(struct stream *s, const struct attempt *a) {
  struct h2_stream *st = h2_stream_of(a->up->conn);
  const struct held *held = &s->x->held;
  bool tunnel = asks_tunnel(s);
  bool nothing = held->whole && !held->bytes && !trailers_any(s, &s->up_body);
  bool last = s->up_body.state == PUMP_NONE || nothing;
  if (tunnel ? !h2_extends(h2_stream_h2(st)) : by_either(s)) return END_UPSTREAM_NO_UPGRADE;
  bool websocket = tunnel && websocket_is(s->x->req.upgrade);
  if (websocket && !shake_onward_h2(s)) return END_BAD_REQUEST_UPGRADE;
  /* Another Upgrade of HTTP/1.1 means nothing here: ignored (RFC 9110 section 7.8). */
  if (!tunnel) s->x->req.upgrade = SPAN_EMPTY;
  h2_stream_section(st, &s->x->up_section, &s->arena);
  return request_send_h2(s, a->endpoint, st, last && !tunnel) ? END_OK : END_LIMIT_MEMORY;
}

/* send_head serialises into the connection's output. */
static enum end send_head(struct stream *s, const struct attempt *a) {
  if (a->flags & ATTEMPT_H2) return send_head_h2(s, a);
  for (size_t i = 0; i < array_count(head_rooms); i++) {
    struct buf *out = conn_out(a->up->conn, head_rooms[i]);
    if (!out) break;
    size_t before = out->len;
    request_write_head(s, a->endpoint, out);
    if (!out->full) return END_OK;
    out->len = before;
    out->full = false;
  }
  return END_LIMIT_MEMORY;
}

enum end attempt_send(struct stream *s, struct attempt *a) {
  enum end end = grpc_send_deadline(s) ? send_head(s, a) : END_LIMIT_STREAM_MEMORY;
  if (end != END_OK) return end;
  a->flags |= ATTEMPT_SENT;
  a->t_sent = now_ns(s->w);
  conn_flush(a->up->conn);
  conn_read_start(a->up->conn);
  return END_OK;
}

void enter_send(struct stream *s) {
  body_request_to(s, s->try.flags & ATTEMPT_H2);
  enum end end = attempt_send(s, &s->try);
  if (end == END_UPSTREAM_NO_UPGRADE && by_either(s)) {
    upgrade_by_h1(s);
    return;
  }
  held_rewind(s);
  if (end == END_OK && !held_send(s)) end = END_LIMIT_MEMORY;
  if (end != END_OK) {
    stream_fail(s, end);
    return;
  }
  if (s->up_body.state == PUMP_READY && !held_unsent(s) && !(s->down->flags & DOWN_IN_DATA))
    body_start(s, &s->up_body);
}

/* ---- the end of an attempt ---- */

/* observe tells the balancing policy how long the endpoint took. */
static void observe(struct stream *s, const struct attempt *a, bool failed) {
  uint64_t from = a->flags & ATTEMPT_SENT ? a->t_sent : a->t_connect;
  uint64_t to = a->t_first && !failed ? a->t_first : now_ns(s->w);
  struct pool_sample sample = {.now_ms = now_ms(s->w),
                               .latency_ns = from && to > from ? to - from : 0,
                               .failed = failed};
  pool_observe(&s->w->upstream, s->pool, a->endpoint, &sample);
}

void attempt_outrun(struct stream *s, const struct attempt *a) {
  if (!(a->flags & ATTEMPT_SENT)) return;
  struct pool_sample sample = {
      .now_ms = now_ms(s->w), .latency_ns = now_ns(s->w) - a->t_sent, .cut = true};
  pool_observe(&s->w->upstream, s->pool, a->endpoint, &sample);
}

void attempt_ejected(struct worker *w, const struct pool *pool, const struct endpoint *e,
                     enum end last) {
  bool answered = last == END_OK; /* outlier.consecutive_5xx */
  worker_event(w, END_LEVEL_WARN,
               "pool " SPAN_FMT ": endpoint " SPAN_FMT
               ": taken out of service for %u ms or more after consecutive %s" SPAN_FMT
               " (outlier)",
               SPAN_ARG(pool->obj.name), SPAN_ARG(e->label), pool->outlier.eject_ms,
               answered ? "responses of 500 and above" : "failures, the last one ",
               SPAN_ARG(answered ? SPAN_EMPTY : end_get(last)->word));
}

/* quick tells those to whom a head says all: balancing, breaker, concurrency limit. */
static void quick(struct stream *s, struct attempt *a, enum end end, uint16_t status) {
  observe(s, a, end != END_OK || status >= 500);
  admit_outcome(s, a, end, status);
}

/* judge tells passive health, where one good answer clears the bad ones before it. */
static void judge(struct stream *s, const struct attempt *a, enum end end, uint16_t status) {
  struct worker *w = s->w;
  if (endpoint_outcome(&w->upstream, s->pool, a->endpoint, end, status, now_ms(w)))
    attempt_ejected(w, s->pool, a->endpoint, end);
}

/* no_evidence: an HTTP/2 connection with several requests on it went, for what one of them said
 * perhaps. Who sends such requests must not take endpoints away from all others. */
static bool no_evidence(const struct attempt *a, enum end end) {
  if (end == END_UPSTREAM_H2_GOAWAY) return true;
  if (!a->up || !(a->flags & ATTEMPT_H2)) return false;
  if (!attempt_lost_all(end) && end != END_UPSTREAM_TRUNCATED) return false;
  return h2_stream_together(h2_stream_of(a->up->conn));
}

void attempt_outcome(struct stream *s, struct attempt *a, enum end end, uint16_t status) {
  if (!s->pool || !a->endpoint) return;
  if (end != END_OK) stat_add(&a->endpoint->rows[s->w->config.index].failures, 1);
  quick(s, a, end, status);
  if (!no_evidence(a, end)) judge(s, a, end, status);
}

void attempt_answered(struct stream *s) {
  if (s->try.flags & ATTEMPT_TOLD) return;
  s->try.flags |= ATTEMPT_TOLD;
  uint16_t status = grpc_counts_as(s);
  if (status) attempt_outcome(s, &s->try, END_OK, status);
  else if (s->pool && s->try.endpoint) quick(s, &s->try, END_OK, 200); /* attempt_judged follows */
}

void attempt_judged(struct stream *s, uint16_t status) {
  if (!s->pool || !s->try.endpoint) return;
  if (status >= 500) quick(s, &s->try, END_OK, status);
  judge(s, &s->try, END_OK, status);
}

/* is_clean: nothing is owed on the connection either way, so that another request may use it. */
static bool is_clean(const struct stream *s, const struct attempt *a) {
  return !(a->flags & ATTEMPT_UP_DIRTY) && !held_unsent(s) && s->pool;
}

/* is_cut: the endpoint must not take what it has of a session for all of it. */
static bool is_cut(const struct stream *s) {
  return s->flags & STREAM_TCP && s->step == STEP_TUNNEL && s->end != END_OK;
}

void attempt_end(struct stream *s, struct attempt *a, bool clean) {
  struct worker *w = s->w;
  if (a->flags & ATTEMPT_COUNTED) endpoint_end(a->endpoint, w->config.index);
  a->flags &= (uint16_t)~ATTEMPT_COUNTED;
  struct upconn *up = a->up;
  if (!up) return;
  if (a->flags & ATTEMPT_H2) a->told = h2_stream_told(h2_stream_of(up->conn));
  bool lacks = s->pool && queue_lacks(w, s->pool, a->endpoint);
  bool keep = clean && is_clean(s, a) && !lacks;
  if (lacks) upconn_yield(up);
  a->up = NULL;
  if (keep) upconn_release(up, &s->pool->connections);
  else upconn_close(up, is_cut(s));
  request_permits_give(&w->upstream, s->pool_state, a->endpoint, a->permits);
  a->permits = 0;
  queue_freed(w, s->pool_state); /* an idle connection serves too */
}

bool attempt_lost_all(enum end end) {
  return end == END_UPSTREAM_RESET || end == END_UPSTREAM_CLOSED;
}

bool attempt_unsent(const struct stream *s) {
  const struct attempt *a = &s->try;
  if (a->up && a->flags & ATTEMPT_H2) return h2_stream_refused(h2_stream_of(a->up->conn));
  return a->up && a->flags & ATTEMPT_REUSED && conn_unsent(a->up->conn);
}

/* A FIN without close_notify (-ECONNABORTED) is no end that TLS vouches for, but an end. */
enum end attempt_cause(const struct attempt *a, int err, struct span *why) {
  enum end tls = err && a->up ? upconn_tls_end(a->up, false, why) : END_OK;
  if (own_trouble(err)) return END_LIMIT_MEMORY;
  if (tls != END_OK) return tls;
  bool reset = err && err != -ECONNABORTED;
  enum end end = attempt_end_word(a, reset ? END_UPSTREAM_RESET : END_UPSTREAM_CLOSED);
  bool begun = a->flags & ATTEMPT_RESPONSE_BYTE;
  return end == END_UPSTREAM_CLOSED && begun ? END_UPSTREAM_TRUNCATED : end;
}

void attempt_drop(struct stream *s, bool clean) { attempt_end(s, &s->try, clean); }

enum end attempt_end_word(const struct attempt *a, enum end otherwise) {
  bool h2 = a->up && a->flags & ATTEMPT_H2;
  enum end end = h2 ? h2_stream_end_word(h2_stream_of(a->up->conn)) : END_OK;
  return end == END_OK ? otherwise : end;
}

struct h2_told attempt_told(const struct attempt *a, enum end end) {
  if (end != END_UPSTREAM_H2_RST && end != END_UPSTREAM_H2_GOAWAY) return (struct h2_told){0};
  bool live = a->up && a->flags & ATTEMPT_H2;
  return live ? h2_stream_told(h2_stream_of(a->up->conn)) : a->told;
}

/* time_connecting is how long the attempt has waited for a connection that it did not get. */
static uint64_t time_connecting(const struct stream *s) {
  return s->try.t_connect && !s->try.t_connected ? now_ns(s->w) - s->try.t_connect : 0;
}

void attempt_failed(struct stream *s, enum end end) {
  if (!(s->try.flags & ATTEMPT_SENT)) stat_add(&s->w->stats.upstream_connect_failures, 1);
  s->connect_ns += time_connecting(s);
  if (retry_after_failure(s, end)) return;
  attempt_drop(s, false);
  stream_fail(s, end);
}

void attempt_overdue(struct stream *s) {
  uint64_t connecting_ns = time_connecting(s);
  bool unsent = !(s->try.flags & ATTEMPT_SENT);
  struct worker *w = s->w;
  s->connect_ns += connecting_ns;
  if (retry_overdue(s)) {
    if (unsent) stat_add(&w->stats.upstream_connect_failures, 1);
    return;
  }
  s->connect_ns -= connecting_ns;
  s->try.flags |= ATTEMPT_OVERDUE;
  stream_timer(s);
}
