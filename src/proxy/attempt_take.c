/* attempt_take.c: the connection that an attempt runs on: an idle one, a new one, or a stream of
 * one of HTTP/2, and the permits for it; of the chosen endpoint, or of one that may stand for it.
 * Does not: choose (affinity.c, upstream/balance.c), wait (queue.c). Called by attempt.c and
 * hedge.c. */
#include "proxy_priv.h"

/* ---- by which protocol ---- */

bool attempt_asks_tunnel(const struct stream *s) {
  struct span upgrade = s->x->req.upgrade;
  return upgrade.len && (s->flags & STREAM_H2 || websocket_is(upgrade));
}

bool attempt_by_either(const struct stream *s) {
  return s->pool->tls && s->pool->connections.protocol == POOL_AUTO && s->x->req.upgrade.len;
}

/* by_h2: it can be brought on by HTTP/2, as far as is known. */
static bool by_h2(const struct stream *s, const struct endpoint *e) {
  return attempt_asks_tunnel(s) && !upconn_bare(&s->w->upstream, e);
}

static enum upconn_way way_to(const struct stream *s, const struct endpoint *e) {
  enum upconn_way way = upconn_way(&s->w->upstream, s->pool, e);
  return way == UPCONN_STREAM && attempt_by_either(s) && !by_h2(s, e) ? UPCONN_HTTP_1 : way;
}

/* ---- idle or new ---- */

/* taking is who hears of a connection, how it reaches its endpoint, and what goes before all else.
 */
struct taking {
  const struct attempt_owner *owner;
  enum upconn_way way;
  struct span first; /* a PROXY header, or empty */
};

/* is_streamed: the client's body goes as it comes. */
static bool is_streamed(const struct stream *s) {
  return s->up_body.state != PUMP_NONE && !s->x->held.whole;
}

static struct upconn *open_with(struct stream *s, struct endpoint *e, const struct taking *t,
                                bool *reused, int *err) {
  struct upstream *u = &s->w->upstream;
  const struct attempt_to to = {.events = t->owner->events,
                                .owner = t->owner->owner,
                                .first = t->first,
                                .alone = s->pool->connections.proxied || s->flags & STREAM_ALONE,
                                .settled = attempt_asks_tunnel(s),
                                .once = is_streamed(s)};
  if (t->way != UPCONN_HTTP_1) return upconn_stream(u, s->pool, e, &to, reused, err);
  return upconn_connect(u, s->pool, e, &to, err);
}

/* open_proxied begins one by a PROXY header. That waits in the connection until it is open, and
 * whom it tells of is alone there. Not inline: the array is zeroed at each entry. */
static struct upconn *__attribute__((noinline))
open_proxied(struct stream *s, struct endpoint *e, const struct taking *t, bool *reused,
             int *err) {
  char room[PROXIED_ROOM];
  struct buf header = buf_of(room, sizeof room);
  if (!proxied_write(s, s->pool, &header)) {
    *err = -ENOBUFS;
    return NULL;
  }
  const struct taking told = {.owner = t->owner, .way = t->way, .first = buf_span(&header)};
  return open_with(s, e, &told, reused, err);
}

/* open_one begins a connection, or gets a stream: with the header that the pool wants. */
static struct upconn *open_one(struct stream *s, struct endpoint *e, const struct taking *t,
                               bool *reused, int *err) {
  return s->pool->connections.proxied ? open_proxied(s, e, t, reused, err)
                                      : open_with(s, e, t, reused, err);
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
  bool asks_anew = s->try.flags & ATTEMPT_H2; /* for one that became idle: attempt_take_anew */
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

/* fresh_one is a new one; where no permit is left, in place of one that is idle. */
static struct upconn *fresh_one(struct stream *s, struct endpoint *e, const struct taking *t,
                                bool *reused, int *err) {
  struct upconn *up = open_one(s, e, t, reused, err);
  if (up || *err != -EAGAIN) return up;
  uint32_t idle = idle_count(s, e);
  upstream_close_idle(&s->w->upstream, e, idle ? idle - 1 : 0);
  return open_one(s, e, t, reused, err);
}

/* connection gets one to e, idle (*reused) or new; NULL and *err (-EAGAIN: no permit). */
static struct upconn *connection(struct stream *s, struct endpoint *e,
                                 const struct attempt_owner *o, bool *reused, int *err) {
  const struct worker_config *c = &s->w->config;
  s->w->upstream.loop->fds_most = s->flags & STREAM_FURTHER ? c->fds_further : c->fds_most;
  const struct taking t = {.owner = o, .way = way_to(s, e)};
  /* One that is idle was another client's, or of before a reload. */
  bool proxied = s->pool->connections.proxied;
  bool fresh = s->flags & (STREAM_REFILL | STREAM_TCP) || proxied;
  *reused = false;
  if (proxied || (fresh && t.way == UPCONN_HTTP_1)) return fresh_one(s, e, &t, reused, err);
  if (t.way == UPCONN_STREAM) return open_one(s, e, &t, reused, err);
  bool spared = !fresh && t.way != UPCONN_ASK && spares(s, e);
  struct upconn *up = fresh || spared ? NULL : idle_one(s, e, o);
  if (!up) up = open_one(s, e, &t, reused, err);
  else *reused = true;
  if (up || !spared) return up;
  /* No permit: one that is idle has it, or gave it back as it was of no use. */
  up = idle_one(s, e, o);
  *reused = up != NULL;
  return up || *err != -EAGAIN ? up : open_one(s, e, &t, reused, err);
}

/* ---- taking it ---- */

void attempt_use_endpoint(struct stream *s, struct attempt *a, struct endpoint *e) {
  uint32_t me = s->w->config.index;
  if (a == &s->try && a->endpoint != e) s->x->spent_ns = 0; /* of another one's time */
  if (a->endpoint) object_unpin(&a->endpoint->obj, me);
  *a = (struct attempt){.endpoint = e, .pass = a->pass, .t_try = now_ns(s->w)};
  object_pin(&e->obj, me);
  s->flags &= ~(uint32_t)(STREAM_REFILL | STREAM_ALONE); /* it has its connection */
  /* The budget is a share of requests, not of attempts. */
  if (s->attempts++ == 0 && s->pool->retry.attempts > 1)
    budget_request(&s->pool->state->rows[me], now_ms(s->w));
}

static void use_connection(struct stream *s, struct attempt *a, struct upconn *up, bool reused) {
  attempt_use_endpoint(s, a, up->endpoint);
  a->up = up;
  a->flags = ATTEMPT_COUNTED;
  if (up->mux) a->flags |= ATTEMPT_H2;
  if (reused) a->flags |= ATTEMPT_REUSED | (up->shared ? 0u : ATTEMPT_RACES);
  else a->t_connect = a->t_try;
  endpoint_begin(a->endpoint, s->w->config.index);
}

/* take gets the permits of a request and a connection to e, whose events go to o. 0, or -errno
 * (-EAGAIN: no permit): then a is as it was. */
static int take(struct stream *s, struct attempt *a, struct endpoint *e,
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

/* attempt_take_anew: the stream of HTTP/2 that was to be is given up for another connection, its
 * own where it was alone. One that is open has been waited for: it is no reused one. */
int attempt_take_anew(struct stream *s, struct attempt *a, const struct attempt_owner *o,
                      bool *open) {
  int err = 0;
  *open = upconn_inherit(a->up, o->events);
  if (!*open) {
    upconn_close(a->up, false);
    a->up = connection(s, a->endpoint, o, open, &err);
  }
  a->flags &= (uint16_t)~(ATTEMPT_H2 | ATTEMPT_REUSED | ATTEMPT_RACES);
  if (!a->up) {
    endpoint_end(a->endpoint, s->w->config.index);
    a->flags &= (uint16_t)~ATTEMPT_COUNTED;
    request_permits_give(&s->w->upstream, s->pool_state, a->endpoint, a->permits);
    a->permits = 0;
    return err;
  }
  if (a->up->mux) a->flags |= ATTEMPT_H2;
  else if (a->up->requests > 1) a->flags |= ATTEMPT_REUSED | ATTEMPT_RACES;
  return 0;
}

/* ---- any endpoint ---- */

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
    err = take(s, a, m->endpoint, o);
    if (err != -EAGAIN) *which = m;
  }
  return err;
}

int attempt_take_any(struct stream *s, struct attempt *a, const struct pool_member **which,
                     const struct attempt_owner *o) {
  int err = take(s, a, (*which)->endpoint, o);
  return err == -EAGAIN ? take_other(s, a, which, o, false) : err;
}

/* One that failed this request, and has room perhaps because it fails, comes after those
 * that are full; but not for ever: who is picky at the head of the queue holds up all others. One
 * that took no connection does not come at all. */
int attempt_take_own(struct stream *s, const struct pool_member **which) {
  struct attempt_owner o = {&up_events, s};
  int err = attempt_take_any(s, &s->try, which, &o);
  bool picky = s->x->any_ms > now_ms(s->w);
  if (err == -EAGAIN && s->x->tried.count && !picky)
    err = take_other(s, &s->try, which, &o, true);
  return err;
}
