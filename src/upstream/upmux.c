/* upmux.c: HTTP/2 connections to endpoints: few of them, each with many streams, which are upconns
 * of their own. A connection is closed when nobody has used it for the keepalive time, when its
 * endpoint has left the configuration, or when the endpoint says so. RFC 9113 section 9.1. */
#include <errno.h>

#include "upstream_priv.h"
#include "weir/base/mem.h"
#include "weir/http/h2_frame.h"
#include "weir/mux/h2.h"

/* STREAMS_MOST of one connection, whatever its endpoint allows: what is lost with it. */
#define STREAMS_MOST 100u
/* What an endpoint may send before anybody reads it: of a stream at first, at most, and all that
 * those which are read quickly may have beyond the first. No client that does not read keeps the
 * others from theirs: the connection's window is larger than those of all streams together, even
 * while iobufs are short (h2_window.c) and a quarter of it has not been given back. */
#define STREAM_WINDOW (64u << 10)
#define STREAM_WINDOW_MOST (1u << 20)
#define WINDOWS_GROWN (2u << 20)
#define WINDOW (16u << 20)
_Static_assert(STREAMS_MOST * STREAM_WINDOW + WINDOWS_GROWN < WINDOW / 4 * 3, "see there");
/* LINGER_MS is how long a connection waits for its endpoint to close it too. One that was alone
 * gave its permit back with its stream (on_idle), as whoever asks next wants it at once: it goes
 * with the next tick, behind GOAWAY. */
#define LINGER_MS 1000u
#define LINGER_ALONE_MS 1u
/* An endpoint's frames that bring nothing on (h2_limits). */
#define GLITCHES 10000u
#define RESETS 1000u

/* A connection is shunned, which is the last to be taken, and not kept, when its endpoint resets
 * streams without a word: by ENHANCE_YOUR_CALM at once, by REFUSED_STREAM below its limit or any
 * code when so many end so in a row. At most SHUNNED_MOST in SHUNNED_MS: what an endpoint does to
 * all of them does not cost it many more. */
#define REFUSED_IN_A_ROW 2u
#define RESET_IN_A_ROW 32u
#define SHUNNED_MOST 8u
#define SHUNNED_MS 1000u
/* So long those that are there have to do when another one did not come to be. */
#define ALONE_MS 1000u

struct upmux {
  struct list link; /* in endpoint_row.muxes, or of one that is alone in its alone */
  struct upstream *up;
  struct endpoint *endpoint; /* pinned */
  struct conn *conn; /* NULL: it is one of HTTP/1 now (upconn_settle), or is in `own` */
  struct conn *own;  /* one of HTTP/1 that its stream may have (upconn_inherit) */
  struct h2 *h2;
  const struct tls_client *tls; /* policy that it was opened under; NULL: plaintext */
  uint32_t requests, requests_max; /* sent on it; 0: no limit */
  uint32_t keepalive_ms, ping_ms; /* ping_ms 0: who gives up a request asks, nobody else */
  uint64_t alone_until_ms; /* another one did not come to be: it has to do until then */
  bool retired; /* takes no more streams */
  bool shunned; /* new streams go elsewhere while there is an elsewhere */
  uint8_t refused, reset; /* streams in a row: REFUSED_STREAM; any code, before a head */
  bool alone;   /* its first stream is its last (attempt_to) */
  bool brief;   /* all that its stream said is with the kernel: nothing to linger for */
  bool left;    /* it is of use to nobody else, and gave its permit back */
  bool idle;    /* nobody uses it: it counts as such */
  bool capped;  /* others may want its permit */
};

static struct upmux *mux_of(const struct h2 *h) { return h2_owner(h); }

static struct endpoint_row *row_of(const struct upmux *m) {
  return &m->endpoint->rows[m->up->worker];
}

/* ---- its life ---- */

static void set_idle(struct upmux *m, bool idle) {
  if (m->idle == idle) return;
  m->idle = idle;
  upstream_idle(m->up, row_of(m), idle ? 1 : -1, m->capped);
}

/* is_spent: it takes no more streams, whatever becomes of those that it has. */
static bool is_spent(const struct upmux *m) {
  return m->retired || m->alone || (m->requests_max && m->requests >= m->requests_max);
}

/* is_last: to be taken, and not kept: streams of it may be lost that another one would keep. */
static bool is_last(const struct upmux *m) { return m->shunned || h2_wearies(m->h2); }

/* said_last is how many streams the endpoint takes, as it said last on whichever of its
 * connections, to whichever worker; 0: it never did. */
static uint32_t said_last(const struct upmux *m) {
  return atomic_load_explicit(&m->endpoint->streams_most, memory_order_relaxed);
}

/* streams_most of one connection: by what it said, else by what the endpoint said on another. */
static uint32_t streams_most(const struct upmux *m) {
  uint32_t most = h2_ready_for(m->h2, true) ? STREAMS_MOST : said_last(m);
  return most && most < STREAMS_MOST ? most : STREAMS_MOST;
}

static bool has_room(const struct upmux *m) {
  if (is_spent(m) || h2_suspected(m->h2)) return false;
  return h2_room(m->h2) && h2_streams(m->h2) < streams_most(m);
}

/* on_left: it is of use to nobody else, however slowly its last responses are read. */
static void on_left(struct h2 *h) {
  struct upmux *m = mux_of(h);
  if (m->left) return;
  m->left = true;
  conn_permits_give(m->up, m->endpoint);
}

/* on_idle: one that was for a stream alone goes as one of HTTP/1.1 does behind its request, also
 * while it connects. */
static void on_idle(struct h2 *h) {
  struct upmux *m = mux_of(h);
  if (!m->conn) return;
  if (m->alone) {
    on_left(h);
    h2_timer(h, m->up->loop->now_ms);
    return;
  }
  if (!(m->conn->flags & CONN_OPEN)) return; /* the time to connect runs: another one may come */
  set_idle(m, true);
  bool over = is_spent(m) || is_last(m) || h2_suspected(h) || !h2_room(h) || !m->keepalive_ms;
  uint64_t now_ms = m->up->loop->now_ms;
  h2_timer(h, over ? now_ms : now_ms + m->keepalive_ms);
}

/* on_settings remembers what the endpoint said last. */
static void on_settings(struct h2 *h) {
  struct upmux *m = mux_of(h);
  uint32_t most = h2_streams_most(h);
  if (most != said_last(m)) /* nearly always it is the same: no line of cache goes round */
    atomic_store_explicit(&m->endpoint->streams_most, most, memory_order_relaxed);
  row_of(m)->bare = !h2_extends(h);
}

/* CALM_MS: where only who gives up a request asks (suspect): so many gRPC's servers bear. */
#define CALM_MS (5u * 60u * 1000u)
#define CALM_MOST_MS (24u * 60u * 60u * 1000u)

/* on_pinged: further connections to the endpoint ask half as often (gRPC proposal A8): no sooner
 * than row.calm_ms; 0: it never complained. */
static void on_pinged(struct h2 *h) {
  struct upmux *m = mux_of(h);
  uint64_t *calm_ms = &row_of(m)->calm_ms, ms = m->ping_ms ? 2 * (uint64_t)m->ping_ms : CALM_MS;
  if (ms > CALM_MOST_MS) ms = CALM_MOST_MS;
  if (ms > *calm_ms) *calm_ms = ms;
}

/* others_do: m will not be opened, or not in time: connections that are there take its streams.
 * For a while they are not too full for that, nor shunned, and come before all others. */
static bool others_do(const struct upmux *m) {
  struct endpoint_row *row = row_of(m);
  bool any = false;
  for (struct list *l = row->muxes.next; l != &row->muxes && !m->alone; l = l->next) {
    struct upmux *other = container_of(l, struct upmux, link);
    bool same = other != m && other->tls == m->tls && other->conn;
    if (!same || !(other->conn->flags & CONN_OPEN)) continue;
    other->alone_until_ms = m->up->loop->now_ms + ALONE_MS;
    any |= has_room(other);
  }
  return any;
}

/* unopened is what those are told who wait for m, which will not be opened for err. */
static int unopened(const struct upmux *m, int err) {
  return others_do(m) ? -(int)H2_ANEW_OTHERS : err;
}

static void on_timer(struct h2 *h) {
  struct upmux *m = mux_of(h);
  if (!(m->conn->flags & CONN_OPEN)) {
    h2_give_up(h, unopened(m, -ETIMEDOUT));
  } else if (!h2_streams(h)) {
    m->brief = m->alone && !conn_pending(m->conn);
    h2_end(h, END_OK);
  }
}

/* let_go gives back what a connection holds. */
static void let_go(struct upmux *m) {
  struct upstream *u = m->up;
  set_idle(m, false);
  row_of(m)->conns--;
  upstream_count(u->counters.conns, -1);
  if (m->conn->flags & CONN_OPEN)
    conn_close_gently(m->conn, m->brief ? LINGER_ALONE_MS : LINGER_MS);
  else uptls_close(m->conn);
  if (!m->left) conn_permits_give(u, m->endpoint);
  object_unpin(&m->endpoint->obj, u->worker);
}

static void on_end(struct h2 *h, enum end end) {
  struct upmux *m = mux_of(h);
  (void)end; /* its streams have said so */
  upstream_count(m->up->counters.h2, -1);
  list_remove(&m->link);
  h2_free(h);
  if (m->own) m->conn = m->own; /* its stream did not wait for it */
  if (m->conn) let_go(m);
  mem_free(m);
}

/* on_open: where the endpoint chose another protocol than HTTP/2 the connection becomes one of
 * HTTP/1, with what this one held; a stream that is alone has it. */
static int on_open(struct h2 *h, int err) {
  struct upmux *m = mux_of(h);
  if (err) return unopened(m, err);
  if (!m->tls || conn_tls_h2(m->conn)) return 0;
  const struct upsettle what = {.conn = m->conn,
                                .tls = m->tls,
                                .requests_max = m->requests_max,
                                .keepalive_ms = m->keepalive_ms};
  h2_leave_conn(h);
  list_remove(&m->link);
  if (m->alone) m->own = m->conn;
  else if (!upconn_settle(m->up, m->endpoint, &what)) let_go(m);
  m->conn = NULL;
  return -(int)H2_ANEW_PROTOCOL;
}

static const struct h2_events events = {
    .on_idle = on_idle,
    .on_open = on_open,
    .on_end = on_end,
    .on_left = on_left,
    .on_pinged = on_pinged,
    .on_settings = on_settings,
    .on_timer = on_timer,
};

/* ---- making one ---- */

static const struct conn_events no_events;

static bool begin(struct upmux *m, const struct pool *pool) {
  uint32_t ping_ms = pool->connections.ping_ms, calm_ms = (uint32_t)row_of(m)->calm_ms;
  m->ping_ms = ping_ms && ping_ms < calm_ms ? calm_ms : ping_ms;
  const struct h2_config config = {.pool = m->up->h2,
                                   .conn = m->conn,
                                   .events = &events,
                                   .limits = {.stream_window = STREAM_WINDOW,
                                              .stream_window_most = STREAM_WINDOW_MOST,
                                              .windows_grown = WINDOWS_GROWN,
                                              .window = WINDOW,
                                              .header_bytes = pool->limits.header_bytes,
                                              .headers = pool->limits.headers,
                                              .resets = RESETS,
                                              .glitches = GLITCHES,
                                              .ping_ms = m->ping_ms,
                                              .ping_wait_ms = pool->connections.ping_timeout_ms,
                                              .ask_again_ms = calm_ms},
                                   .owner = m};
  m->h2 = h2_new(&config);
  if (m->h2) h2_timer(m->h2, m->up->loop->now_ms + pool->timeouts.connect_ms);
  return m->h2 != NULL;
}

static struct upmux *make(struct upstream *u, const struct pool *pool, struct endpoint *e,
                          const struct attempt_to *to, int *err) {
  struct conn *conn = conn_connect(u->loop, &e->addr, &no_events, NULL, err);
  if (!conn) return NULL;
  struct upmux *m = mem_alloc(sizeof *m);
  m->up = u;
  m->endpoint = e;
  m->conn = conn;
  m->tls = pool->tls;
  m->requests_max = pool->connections.requests;
  m->keepalive_ms = pool->connections.keepalive_ms;
  m->capped = pool_capped(&pool->connections);
  m->alone = to->alone;
  bool ready = uptls_stack(u, pool, e, conn, false) && uptls_first(pool, conn, to->first);
  if (!ready || !begin(m, pool)) {
    conn_close(conn);
    mem_free(m);
    *err = -ENOMEM;
    return NULL;
  }
  list_push_head(m->alone ? &row_of(m)->alone : &row_of(m)->muxes, &m->link);
  object_pin(&e->obj, u->worker);
  row_of(m)->conns++;
  upstream_count(&row_of(m)->connects, 1);
  upstream_count(u->counters.connects, 1);
  upstream_count(u->counters.conns, 1);
  upstream_count(u->counters.h2, 1);
  return m;
}

static struct upmux *connect_one(struct upstream *u, const struct pool *pool, struct endpoint *e,
                                 const struct attempt_to *to, int *err) {
  *err = -EAGAIN;
  if (!conn_permits_take(u, pool, e)) return NULL;
  struct upmux *m = make(u, pool, e, to, err);
  if (!m) conn_permits_give(u, e);
  return m;
}

/* ---- streams ---- */

/* waits_for_limit: an endpoint that never said how many streams it takes at once takes one. */
static bool waits_for_limit(const struct upmux *m, const struct attempt_to *to) {
  return to->once && !said_last(m) && h2_streams(m->h2) > 0;
}

bool upconn_bare(const struct upstream *u, const struct endpoint *e) {
  return e->rows[u->worker].bare;
}

void upconn_bare_set(const struct upstream *u, struct endpoint *e, bool bare) {
  e->rows[u->worker].bare = bare;
}

/* has_to_do: see others_do. */
static bool has_to_do(const struct upmux *m) { return m->up->loop->now_ms < m->alone_until_ms; }

/* rank: connections of a lower one come first, whatever streams they have. */
static int rank(const struct upmux *m) { return (has_to_do(m) ? 0 : 2) + is_last(m); }

/* emptiest is the connection with room that has the fewest streams of those that come first; NULL:
 * none has room. */
static struct upmux *emptiest(const struct endpoint_row *row, const struct tls_client *policy) {
  struct upmux *best = NULL;
  for (const struct list *l = row->muxes.next; l != &row->muxes; l = l->next) {
    struct upmux *m = container_of(l, struct upmux, link);
    if (m->tls != policy || !has_room(m)) continue;
    int before = best ? rank(m) - rank(best) : -1;
    if (before < 0 || (!before && h2_streams(m->h2) < h2_streams(best->h2))) best = m;
  }
  return best;
}

/* may_leave: not too many of late, which *at_ms remembers. */
static bool may_leave(const struct upmux *m, uint64_t *at_ms) {
  uint64_t now_ms = m->up->loop->now_ms, from_ms = *at_ms; /* each puts it off */
  if (from_ms < now_ms) from_ms = now_ms;
  bool may = from_ms < now_ms + SHUNNED_MS;
  if (may) *at_ms = from_ms + SHUNNED_MS / SHUNNED_MOST;
  return may;
}

/* is_enough: another connection is opened before this one gets one more stream. */
static bool is_enough(const struct upmux *m, const struct pool *pool) {
  uint32_t most = pool->connections.streams;
  if (has_to_do(m)) return false;
  if (m->shunned || (most && h2_streams(m->h2) >= most)) return true;
  return h2_wearies(m->h2) && may_leave(m, &row_of(m)->wearied_ms);
}

bool upmux_has_room(const struct endpoint *e, uint32_t worker, const struct tls_client *policy) {
  return emptiest(&e->rows[worker], policy) != NULL;
}

const struct conn *upmux_conn(const struct upmux *m) { return m->conn; }

/* is_current: else pool is what a request that began before a reload has of it. */
static bool is_current(const struct upstream *u, const struct pool *pool) {
  const struct pool_row *row = &pool->state->rows[u->worker];
  return row->seen == u->seq && row->settings == pool;
}

/* limits_as_now: of a pool that a reload has changed, from the next response on. */
static void limits_as_now(struct upmux *m, const struct pool *pool) {
  if (!is_current(m->up, pool)) return;
  const struct h2_limits limits = {.header_bytes = pool->limits.header_bytes,
                                   .headers = pool->limits.headers,
                                   .resets = RESETS,
                                   .glitches = GLITCHES};
  h2_limit(m->h2, &limits);
}

/* mux_for is the connection for one more stream: one that is there, or a new one. */
static struct upmux *mux_for(struct upstream *u, const struct pool *pool, struct endpoint *e,
                             const struct attempt_to *to, bool *fresh, int *err) {
  struct upmux *there = to->alone ? NULL : emptiest(&e->rows[u->worker], pool->tls);
  *fresh = false;
  if (there && !is_enough(there, pool)) return there;
  struct upmux *m = connect_one(u, pool, e, to, err);
  *fresh = m != NULL;
  return m ? m : there;
}

struct upconn *upconn_stream(struct upstream *u, const struct pool *pool, struct endpoint *e,
                             const struct attempt_to *to, bool *reused, int *err) {
  bool fresh;
  struct upmux *m = mux_for(u, pool, e, to, &fresh, err);
  *reused = false;
  if (!m) return NULL;
  bool idle = !fresh && !h2_streams(m->h2) && m->conn->flags & CONN_OPEN;
  bool settled = to->settled || waits_for_limit(m, to);
  *reused = !fresh && h2_ready_for(m->h2, settled);
  struct upconn *c = slab_new(&u->upconns);
  struct h2_stream *st = c ? h2_open(m->h2, settled) : NULL;
  *err = -ENOMEM;
  if (!st) {
    if (c) slab_free(&u->upconns, c);
    if (m->alone) h2_give_up(m->h2, -ENOMEM); /* nobody may use it */
    return NULL;
  }
  limits_as_now(m, pool);
  list_init(&c->link);
  c->up = u;
  c->mux = m;
  c->tls = m->tls;
  c->shared = !idle || !conn_quiet(m->conn);
  c->conn = h2_stream_conn(st);
  c->endpoint = e;
  c->owner = to->owner;
  c->requests = ++m->requests;
  c->begun_ms = u->loop->now_ms;
  set_idle(m, false);
  conn_attach(c->conn, to->events, c);
  object_pin(&e->obj, u->worker);
  if (*reused) upstream_count(&row_of(m)->reused, 1);
  if (*reused) upstream_count(u->counters.reused, 1);
  return c;
}

bool upconn_others_do(const struct upconn *c) { return c->mux && others_do(c->mux); }

bool upconn_inherit(struct upconn *c, const struct conn_events *on) {
  struct upmux *m = c->mux;
  if (!m || !m->own) return false;
  struct conn *carried = c->conn;
  c->conn = m->own;
  m->own = NULL;
  c->mux = NULL;
  c->shared = false;
  c->requests_max = m->requests_max;
  conn_attach(c->conn, on, c);
  conn_timer(c->conn, WHEEL_NEVER);
  object_unpin(&c->endpoint->obj, c->up->worker); /* c has its own pin */
  conn_close(carried);
  return true;
}

/* SILENCE_MS: a stream that is given up after so long, and nothing came on its connection for as
 * long, may have met a dead one: it is asked, and until it says a word others go elsewhere. */
#define SILENCE_MS 500u

static void suspect(struct upconn *c) {
  struct upmux *m = c->mux;
  uint64_t since_ms = c->up->loop->now_ms - SILENCE_MS;
  bool open = m->conn && m->conn->flags & CONN_OPEN;
  if (open && c->begun_ms <= since_ms && h2_silent(m->h2, since_ms)) h2_ask(m->h2);
}

/* ---- what its endpoint resets ---- */

/* is_too_many: there were, or may have been, more than the endpoint had said that it takes. */
static bool is_too_many(const struct h2 *h) {
  return !h2_ready_for(h, true) || h2_streams(h) >= h2_streams_most(h);
}

/* judge is told of each stream before it ends. */
static void judge(const struct upconn *c) {
  struct upmux *m = c->mux;
  const struct h2_stream *st = h2_stream_of(c->conn);
  struct h2_told told = h2_stream_told(st);
  if (h2_stream_headed(st)) m->refused = m->reset = 0;
  if (h2_stream_headed(st) || told.frame != H2_RST_STREAM || m->shunned) return;
  bool refused = told.code == H2_REFUSED_STREAM;
  if (refused && is_too_many(m->h2)) return;
  if (refused) m->refused++;
  m->reset++;
  if (told.code == H2_ENHANCE_YOUR_CALM || m->refused >= REFUSED_IN_A_ROW ||
      m->reset >= RESET_IN_A_ROW)
    m->shunned = may_leave(m, &row_of(m)->shunned_ms);
  if (m->reset >= RESET_IN_A_ROW) m->refused = m->reset = 0;
}

void upmux_stream_close(struct upconn *c, bool reset) {
  struct upstream *u = c->up;
  struct endpoint *e = c->endpoint;
  suspect(c);
  judge(c);
  if (reset) conn_reset(c->conn);
  else conn_close(c->conn);
  slab_free(&u->upconns, c);
  object_unpin(&e->obj, u->worker);
}

static struct upmux *an_idle(const struct endpoint_row *row) {
  for (const struct list *l = row->muxes.next; l != &row->muxes; l = l->next) {
    struct upmux *m = container_of(l, struct upmux, link);
    if (m->idle) return m;
  }
  return NULL;
}

bool upmux_close_idle(struct endpoint_row *row) {
  struct upmux *m = an_idle(row);
  if (m) h2_end(m->h2, END_OK);
  return m != NULL;
}

void upconn_yield(struct upconn *c) {
  if (c->mux) c->mux->retired = true;
}

static void retire(struct upmux *m) {
  m->retired = true;
  if (!h2_streams(m->h2)) h2_end(m->h2, END_OK);
}

/* retire_in: `all`, or those of another policy. */
static void retire_in(struct list *muxes, bool all, const struct tls_client *policy) {
  for (struct list *l = muxes->next, *next; l != muxes; l = next) {
    next = l->next;
    struct upmux *m = container_of(l, struct upmux, link);
    if (all || m->tls != policy) retire(m);
  }
}

void upmux_retire_other(struct upstream *u, struct endpoint *e, const struct tls_client *policy) {
  retire_in(&e->rows[u->worker].muxes, false, policy);
  retire_in(&e->rows[u->worker].alone, false, policy);
}

void upmux_retire_all(struct upstream *u, struct endpoint *e) {
  retire_in(&e->rows[u->worker].muxes, true, NULL);
  retire_in(&e->rows[u->worker].alone, true, NULL);
}
