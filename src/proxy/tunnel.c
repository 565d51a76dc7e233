/* tunnel.c: after a 101 that was asked for, and sessions of TCP (front_tcp.c): two relays, one
 * each way, until both ends are done. A tunnel keeps its endpoint, timeouts and names, and no
 * settings: reloads pass it by. When its route or listener is removed it ends after the drain
 * time. RFC 9110 section 7.8, RFC 6455. */
#include "proxy_priv.h"

static void on_end(struct relay *r, enum relay_end why, int err) {
  struct pump *p = container_of(r, struct pump, relay);
  p->moved += r->moved;
  p->relaying = false;
  tunnel_ended(r->owner, p, why, err);
}

/* count_of: long sessions are seen while they last. */
static _Atomic uint64_t *count_of(const struct stream *s, bool up) {
  struct worker *w = s->w;
  if (s->flags & STREAM_TCP) return up ? &w->stats.tcp_bytes_in : &w->stats.tcp_bytes_out;
  return up ? &w->stats.bytes_down_in : &w->stats.bytes_down_out;
}

static void start(struct stream *s, struct pump *p, struct conn *from, struct conn *to) {
  *p = (struct pump){
      .state = PUMP_RUN, .relaying = true, .from = HTTP_BODY_TUNNEL, .left = UINT64_MAX};
  p->relay.owner = s;
  p->relay.pipe_rd = p->relay.pipe_wr = -1;
  relay_start(&p->relay, from, to, UINT64_MAX, on_end);
  relay_watch(&p->relay, s->timeouts.send_ms);
  p->relay.count = count_of(s, p == &s->up_body);
}

/* unwanted: its route or listener is gone from the configuration, or its client would be asked for
 * another certificate. */
static bool unwanted(const struct stream *s) {
  bool routed = s->route_state && atomic_load(&s->route_state->removed);
  return routed || !s->down->serving->current || s->down->flags & DOWN_STALE;
}

/* end_at is when one that is unwanted from the beginning ends. */
static uint64_t end_at(const struct stream *s) {
  const struct serving *sv = s->down->serving;
  if (s->flags & STREAM_TCP && !sv->current && sv->end_ms) return sv->end_ms;
  return now_ms(s->w) + s->w->snapshot->drain_ms;
}

bool tunnel_declined(const struct stream *s, unsigned status) {
  return s->flags & STREAM_H2 && s->x->req.upgrade.len && status >= 200 && status < 300;
}

void tunnel_start(struct stream *s) {
  struct worker *w = s->w;
  int left_err = s->x->left_err;
  access_keep(s);
  stream_unpin_settings(s);
  s->deadline_ms = WHEEL_NEVER;
  s->try.flags |= ATTEMPT_UP_DIRTY;
  s->flags |= STREAM_CLOSE;
  list_push_tail(&w->tunnels, &s->link);
  if (!(s->flags & STREAM_TCP)) {
    s->flags |= STREAM_TUNNEL;
    stat_add(&w->stats.tunnels, 1);
  }
  conn_keepalive(s->try.up->conn);
  start(s, &s->up_body, s->conn, s->try.up->conn);
  start(s, &s->down_body, s->try.up->conn, s->conn);
  if (left_err) relay_src_broken(&s->up_body.relay, left_err);
  /* The reload that removed its route may have come while the request was on its way. */
  if (w->draining) s->deadline_ms = w->drain_deadline_ms;
  else if (unwanted(s)) s->deadline_ms = end_at(s);
  stream_go(s, STEP_TUNNEL);
}

/* client_end: TLS may know; an HTTP/2 connection says why it took its tunnels along. */
static enum end client_end(const struct stream *s) {
  if (!(s->flags & STREAM_H2)) return down_lost(s->down, END_CLIENT_RESET);
  enum end end = front_h2_word(s, END_CLIENT_RESET);
  return end == END_DRAIN ? END_DRAIN_TUNNEL : end;
}

/* ---- ends ---- */

static void quiet_open(struct conn *c, int err) { (void)c, (void)err; }
static size_t quiet_data(struct conn *c, struct span bytes) {
  (void)c, (void)bytes;
  return 0;
}
static void quiet(struct conn *c) { (void)c; }

/* quiet_events are of conns whose session is over as soon as the one relay is that still runs. */
static const struct conn_events quiet_events = {
    .on_open = quiet_open,
    .on_data = quiet_data,
    .on_eof = quiet,
    .on_error = quiet_open,
    .on_drained = quiet,
    .on_timer = quiet,
};

static void hush(struct conn *c) { conn_attach(c, &quiet_events, c->owner); }

/* half_over: one way has come to its end, which is passed on. */
static void half_over(struct stream *s, bool up) {
  struct pump *other = up ? &s->down_body : &s->up_body;
  conn_finish(up ? s->try.up->conn : s->conn);
  if (other->state == PUMP_DONE) stream_go(s, STEP_FINISH);
  else other->left = body_moved(other);
}

/* parted: a client of TLS just closes when the endpoint has ended its half, as many do, and
 * nothing of it came since. Who cuts what it still said, and its close_notify, looks the same. */
static bool parted(const struct pump *p, bool up, enum relay_end why, int err) {
  bool closed = why == RELAY_SRC_ERROR && err == -ECONNABORTED;
  return up && closed && p->left == body_moved(p);
}

void tunnel_ended(struct stream *s, struct pump *p, enum relay_end why, int err) {
  p->state = PUMP_DONE;
  bool up = p == &s->up_body;
  if (why == RELAY_SRC_EOF || parted(p, up, why, err)) {
    half_over(s, up);
    return;
  }
  if (relay_lasts(up ? &s->down_body.relay : &s->up_body.relay)) {
    hush(s->conn); /* what came before it goes on; its end is the session's */
    hush(s->try.up->conn);
    return;
  }
  bool client = up == (why == RELAY_SRC_ERROR);
  bool closed = s->flags & STREAM_TCP && err == -ECONNABORTED; /* without close_notify */
  if (own_trouble(err)) stream_fail(s, END_LIMIT_MEMORY);
  else if (client && closed) stream_client_gone(s, END_CLIENT_CLOSED);
  else if (client) stream_client_gone(s, client_end(s));
  else stream_fail(s, attempt_cause(&s->try, err, &s->kept->tls_why));
}

static void end_after(struct stream *s, uint64_t deadline_ms) {
  if (s->deadline_ms <= deadline_ms) return;
  s->deadline_ms = deadline_ms;
  stream_timer(s);
}

void tunnel_check_routes(struct worker *w) {
  uint64_t deadline = now_ms(w) + w->snapshot->drain_ms;
  for (struct list *l = w->tunnels.next; l != &w->tunnels; l = l->next) {
    struct stream *s = container_of(l, struct stream, link);
    if (unwanted(s)) end_after(s, deadline);
  }
}

void tunnel_drain_all(struct worker *w, uint64_t deadline_ms) {
  for (struct list *l = w->tunnels.next; l != &w->tunnels; l = l->next)
    end_after(container_of(l, struct stream, link), deadline_ms);
}
