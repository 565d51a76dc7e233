/* attempt.c: one try to have a request answered: an endpoint, a connection (attempt_take.c), the
 * head sent, its end. Whether another one follows is retry.c's; who is told how it ended,
 * attempt_outcome.c's. RFC 9112 section 9.3.1. */
#include "proxy_priv.h"

/* Room asked for a request head; the last is the most that an output buffer holds. */
static const size_t head_rooms[] = {2048, 16384, 65536, 262144};

/* ---- the endpoint ---- */

static void taken(struct stream *s) {
  stream_go(s, s->try.flags & ATTEMPT_REUSED ? STEP_SEND : STEP_CONNECT);
}

/* refused_at_once: a connect that failed before it began. */
static void refused_at_once(struct stream *s, struct endpoint *e, int err) {
  attempt_use_endpoint(s, &s->try, e);
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
  int err = queue_stands(s->pool) ? -EAGAIN : attempt_take_own(s, &m);
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
  int err = m ? attempt_take_own(s, &m) : -ENOENT;
  if (err == -EAGAIN) return false;
  queue_served(s);
  if (!err) taken(s);
  else if (!m) stream_go(s, STEP_PICK); /* says why */
  else refused_at_once(s, m->endpoint, err);
  return true;
}

/* ---- its connection ---- */

void attempt_opened(struct stream *s) {
  s->try.t_connected = now_ns(s->w);
  s->connect_ns += s->try.t_connected - s->try.t_connect;
  if (s->flags & STREAM_TCP) front_tcp_opened(s);
  else stream_go(s, STEP_SEND);
}

/* time_connecting is how long the attempt has waited for a connection that it did not get. */
static uint64_t time_connecting(const struct stream *s) {
  return s->try.t_connect && !s->try.t_connected ? now_ns(s->w) - s->try.t_connect : 0;
}

/* spend: what its connection took so far is gone from the attempt's time to connect. */
static void spend(struct stream *s) {
  struct attempt *a = &s->try;
  uint64_t to = a->t_connected ? a->t_connected : now_ns(s->w);
  if (a->t_connect) s->x->spent_ns += to - a->t_connect;
  if (!a->t_connected) s->connect_ns += time_connecting(s);
  a->t_connect = a->t_connected = 0;
}

uint64_t attempt_late_ms(const struct stream *s) {
  uint32_t most_ms = s->pool_timeouts.connect_ms;
  return most_ms ? (s->try.t_connect - s->x->spent_ns) / 1000000u + most_ms : WHEEL_NEVER;
}

/* from_pick: the same attempt begins once more by the choice of an endpoint, unless a second one
 * (hedge.c) is under way: who waits has none. */
static void from_pick(struct stream *s) {
  spend(s);
  s->attempts--;
  if (s->x->hedge) hedge_takes_over(s);
  else stream_go(s, STEP_PICK);
}

/* asked_in_vain: no permit may be left for another connection: then it waits for one, if it has
 * time for a connection left. */
static void asked_in_vain(struct stream *s, int err) {
  bool late = s->try.t_connect && now_ms(s->w) >= attempt_late_ms(s);
  if (err != -EAGAIN) attempt_failed(s, connect_end(err));
  else if (late) attempt_failed(s, END_CONNECT_TIMEOUT);
  else from_pick(s);
}

/* begin_anew: who finds out which protocol an endpoint speaks is not who takes long to connect. */
static void begin_anew(struct stream *s) {
  spend(s);
  s->x->spent_ns = 0;
  s->try.t_connect = now_ns(s->w);
}

void attempt_ask_anew(struct stream *s, int why) {
  bool open = false;
  if (why == -(int)H2_ANEW_PROTOCOL) begin_anew(s);
  int err = attempt_take_anew(s, &s->try, &(struct attempt_owner){&up_events, s}, &open);
  if (err) asked_in_vain(s, err);
  else if (open) attempt_opened(s);
  else if (now_ms(s->w) >= attempt_late_ms(s)) attempt_failed(s, END_CONNECT_TIMEOUT);
  else stream_timer(s);
}

void attempt_late(struct stream *s) {
  if (upconn_others_do(s->try.up)) attempt_ask_anew(s, -(int)H2_ANEW_OTHERS);
  else attempt_failed(s, open_end(s->try.up, -ETIMEDOUT, NULL));
}

/* upgrade_by_h1: the HTTP/2 connection that it has cannot bring it on. */
static void upgrade_by_h1(struct stream *s) {
  struct attempt *a = &s->try;
  bool open = false;
  if (attempt_asks_tunnel(s)) upconn_bare_set(&s->w->upstream, a->endpoint, true);
  int err = attempt_take_anew(s, a, &(struct attempt_owner){&up_events, s}, &open);
  spend(s);
  if (!err && !open) a->t_connect = now_ns(s->w);
  if (err) asked_in_vain(s, err);
  else stream_go(s, open ? STEP_SEND : STEP_CONNECT);
}

/* attempt_unopened: one that offered HTTP/1.1 alone for an upgrade's sake, and was refused that,
 * is no failure of the endpoint's. What is no tunnel goes on without: an Upgrade may be ignored
 * (RFC 9110 section 7.8). */
void attempt_unopened(struct stream *s, int err) {
  struct attempt *a = &s->try;
  enum end end = open_end(a->up, err, &s->x->tls_why);
  if (end != END_UPSTREAM_TLS_ALPN || !attempt_by_either(s) || a->flags & ATTEMPT_H2) {
    attempt_failed(s, end);
    return;
  }
  upconn_bare_set(&s->w->upstream, a->endpoint, false);
  attempt_drop(s, false);
  if (attempt_asks_tunnel(s)) {
    stream_fail(s, END_UPSTREAM_NO_UPGRADE);
    return;
  }
  s->x->req.upgrade = SPAN_EMPTY;
  from_pick(s);
}

/* ---- sending ---- */

/* send_head_h2 sends the head and says where the response's goes. */
static enum end send_head_h2(struct stream *s, const struct attempt *a) {
  struct h2_stream *st = h2_stream_of(a->up->conn);
  const struct held *held = &s->x->held;
  bool tunnel = attempt_asks_tunnel(s);
  bool nothing = held->whole && !held->bytes && !trailers_any(s, &s->up_body);
  bool last = s->up_body.state == PUMP_NONE || nothing;
  if (tunnel ? !h2_extends(h2_stream_h2(st)) : attempt_by_either(s))
    return END_UPSTREAM_NO_UPGRADE;
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
  if (s->x->req.expect_continue && !(a->flags & ATTEMPT_H2)) a->flags |= ATTEMPT_EXPECTS;
  a->t_sent = now_ns(s->w);
  conn_flush(a->up->conn);
  conn_read_start(a->up->conn);
  return END_OK;
}

void enter_send(struct stream *s) {
  body_request_to(s, s->try.flags & ATTEMPT_H2);
  enum end end = attempt_send(s, &s->try);
  if (end == END_UPSTREAM_NO_UPGRADE && attempt_by_either(s)) {
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

/* is_clean: nothing is owed on the connection either way, so that another request may use it. An
 * endpoint that answered an expectation without 100 (Continue) may have taken the body for a body,
 * or for its next request (RFC 9110 section 10.1.1, THREATS.md row 11): nobody can tell. */
static bool is_clean(const struct stream *s, const struct attempt *a) {
  return !(a->flags & (ATTEMPT_UP_DIRTY | ATTEMPT_EXPECTS)) && !held_unsent(s) && s->pool;
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

void attempt_drop(struct stream *s, bool clean) { attempt_end(s, &s->try, clean); }

bool attempt_unsent(const struct stream *s) {
  const struct attempt *a = &s->try;
  if (a->up && a->flags & ATTEMPT_H2) return h2_stream_refused(h2_stream_of(a->up->conn));
  return a->up && a->flags & ATTEMPT_REUSED && conn_unsent(a->up->conn);
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
