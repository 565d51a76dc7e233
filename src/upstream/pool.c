/* pool.c: connections to endpoints: idle lists (most recently used first), permits, connect,
 * release. Every idle connection is watched: a FIN, a RST or a byte that nobody asked for closes
 * it before a request could meet it. Knows no HTTP. Called by proxy/. */
#include <errno.h>

#include "upstream_priv.h"
#include "weir/base/warm.h"
#include "weir/io/tls.h"

void upstream_init(struct upstream *u, struct loop *loop, uint32_t worker, uint32_t conns_max) {
  *u = (struct upstream){.loop = loop, .worker = worker, .rng = loop->rng ^ 0x5bd1e995u};
  slab_init(&u->upconns, sizeof(struct upconn), 64, conns_max);
}

void upstream_fini(struct upstream *u) { slab_fini(&u->upconns); }

static struct endpoint_row *row_of(const struct upconn *c) {
  return &c->endpoint->rows[c->up->worker];
}

/* ---- idle ---- */

static uint32_t idle_count(const struct endpoint_row *row) {
  return atomic_load_explicit(&row->idle_count, memory_order_relaxed);
}

void upstream_idle(struct upstream *u, struct endpoint_row *row, int by, bool capped) {
  uint32_t now = idle_count(row) + (uint32_t)by;
  if (capped) atomic_store(&row->idle_count, now);
  else atomic_store_explicit(&row->idle_count, now, memory_order_relaxed);
  upstream_count(u->counters.idle, by);
}

static void idle_remove(struct upconn *c) {
  list_remove(&c->link);
  upstream_idle(c->up, row_of(c), -1, false);
}

static void idle_drop(struct conn *conn) {
  struct upconn *c = conn->owner;
  idle_remove(c);
  upconn_close(c, false);
}

/* idle_on_data: bytes that nobody asked for; they are never the next response. */
static size_t idle_on_data(struct conn *conn, struct span bytes) {
  idle_drop(conn);
  return bytes.len;
}
static void idle_on_error(struct conn *conn, int err) {
  (void)err;
  idle_drop(conn);
}
static void idle_on_open(struct conn *conn, int err) {
  (void)conn;
  (void)err;
  check(false); /* an idle connection has been open for long */
}
static void idle_on_drained(struct conn *conn) { (void)conn; }

static const struct conn_events idle_events = {
    .on_open = idle_on_open,
    .on_data = idle_on_data,
    .on_eof = idle_drop,
    .on_error = idle_on_error,
    .on_drained = idle_on_drained,
    .on_timer = idle_drop, /* the keepalive time is over */
};

void upconn_idle_other(struct upstream *u, struct endpoint *e, const struct tls_client *policy) {
  struct endpoint_row *row = &e->rows[u->worker];
  for (struct list *l = row->idle.next, *next; l != &row->idle; l = next) {
    next = l->next;
    struct upconn *c = container_of(l, struct upconn, link);
    if (c->tls != policy) idle_drop(c->conn);
  }
}

uint32_t upstream_close_idle(struct upstream *u, struct endpoint *e, uint32_t keep) {
  struct endpoint_row *row = &e->rows[u->worker];
  uint32_t closed = 0;
  while (idle_count(row) > keep && !list_empty(&row->idle)) {
    struct upconn *c = container_of(row->idle.prev, struct upconn, link); /* oldest */
    idle_drop(c->conn);
    closed++;
  }
  while (idle_count(row) > keep && upmux_close_idle(row)) closed++;
  return closed;
}

/* mark_pool notes that the pool's endpoints are in the snapshot seq; one that was not in that
 * before comes into service now (slow start), unless all of the pool is new. */
static void mark_pool(struct upstream *u, const struct pool *pool, uint64_t seq, bool first) {
  struct pool_row *own = &pool->state->rows[u->worker];
  bool others = !first && own->seen == u->seq && own->members > 0;
  own->seen = seq;
  own->settings = pool;
  own->members = pool->member_count;
  for (uint32_t m = 0; m < pool->member_count; m++) {
    struct endpoint *e = pool->members[m].endpoint;
    struct endpoint_row *row = &e->rows[u->worker];
    if (others && row->seen != u->seq)
      atomic_store_explicit(&e->since_ms, u->loop->now_ms, memory_order_relaxed);
    row->seen = seq;
    uptls_mark(u, pool, e);
  }
}

void upstream_install(struct upstream *u, uint64_t seq, const struct snapshot *before,
                      const struct snapshot *next) {
  for (uint32_t p = 0; next && p < next->pool_count; p++)
    mark_pool(u, next->pools[p], seq, !before);
  u->seq = seq;
  for (uint32_t p = 0; before && p < before->pool_count; p++) {
    for (uint32_t m = 0; m < before->pools[p]->member_count; m++) {
      struct endpoint *e = before->pools[p]->members[m].endpoint;
      if (e->rows[u->worker].seen == seq) continue;
      (void)upstream_close_idle(u, e, 0);
      upmux_retire_all(u, e);
      uptls_drop(u, e);
    }
  }
}

/* ---- connections ---- */

static struct upconn *idle_newest(const struct endpoint_row *row) {
  return list_empty(&row->idle) ? NULL : container_of(row->idle.next, struct upconn, link);
}

/* idle_warm asks for the memory of those that are taken next; the first one is near already. */
static void idle_warm(const struct endpoint_row *row) {
  const struct upconn *next = idle_newest(row);
  if (!next) return;
  warm(next->conn, sizeof(*next->conn));
  warm(next->link.next, sizeof(*next)); /* its own head starts right before */
}

struct upconn *upconn_checkout(struct upstream *u, const struct pool *pool, struct endpoint *e,
                               void *owner) {
  struct endpoint_row *row = &e->rows[u->worker];
  struct upconn *c = idle_newest(row);
  while (c && (c->tls != pool->tls || !conn_quiet(c->conn))) { /* at most idle_count */
    idle_drop(c->conn);
    c = idle_newest(row);
  }
  if (!c) return NULL;
  idle_remove(c);
  idle_warm(row);
  c->owner = owner;
  if (c->requests++ == 0) return c; /* upconn_settle made it */
  upstream_count(&row->reused, 1);
  upstream_count(u->counters.reused, 1);
  return c;
}

/* dial begins a connection, with TLS on it where the pool has that, and its first bytes. */
static struct conn *dial(struct upstream *u, const struct pool *pool, struct endpoint *e,
                         const struct attempt_to *to, int *err) {
  struct conn *conn = conn_connect(u->loop, &e->addr, to->events, NULL, err);
  if (!conn) return NULL;
  bool stacked = uptls_stack(u, pool, e, conn, true);
  if (stacked && uptls_first(pool, conn, to->first)) return conn;
  conn_close(conn);
  *err = stacked ? -ENOBUFS : -ENOMEM;
  return NULL;
}

static struct upconn *upconn_open(struct upstream *u, const struct pool *pool, struct endpoint *e,
                                  const struct attempt_to *to, int *err) {
  struct upconn *c = slab_new(&u->upconns);
  if (!c) {
    *err = -ENOMEM;
    return NULL;
  }
  c->conn = dial(u, pool, e, to, err);
  if (!c->conn) {
    slab_free(&u->upconns, c);
    return NULL;
  }
  c->conn->owner = c;
  c->tls = pool->tls;
  return c;
}

struct upconn *upconn_connect(struct upstream *u, const struct pool *pool, struct endpoint *e,
                              const struct attempt_to *to, int *err) {
  if (!conn_permits_take(u, pool, e)) {
    *err = -EAGAIN;
    return NULL;
  }
  struct upconn *c = upconn_open(u, pool, e, to, err);
  if (!c) {
    conn_permits_give(u, e);
    return NULL;
  }
  list_init(&c->link);
  c->up = u;
  c->endpoint = e;
  c->owner = to->owner;
  c->requests = 1;
  c->requests_max = pool->connections.requests;
  object_pin(&e->obj, u->worker);
  row_of(c)->conns++;
  upstream_count(&row_of(c)->connects, 1);
  upstream_count(u->counters.connects, 1);
  upstream_count(u->counters.conns, 1);
  return c;
}

void upconn_close(struct upconn *c, bool reset) {
  if (c->mux) {
    upmux_stream_close(c, reset);
    return;
  }
  struct upstream *u = c->up;
  struct endpoint *e = c->endpoint;
  row_of(c)->conns--;
  upstream_count(u->counters.conns, -1);
  if (reset && conn_tls_end(c->conn) == END_OK) conn_reset(c->conn);
  else uptls_close(c->conn);
  slab_free(&u->upconns, c);
  conn_permits_give(u, e);
  object_unpin(&e->obj, u->worker);
}

/* keep_idle: is this connection worth keeping, by the limits? */
static bool keep_idle(const struct upconn *c, const struct pool_connections *s) {
  const struct endpoint_row *row = row_of(c);
  if (c->conn->flags & (CONN_EOF | CONN_FAILED) || conn_held(c->conn)) return false;
  if (conn_pending(c->conn)) return false; /* the last request is not all with the kernel yet */
  if (row->seen != c->up->seq || !s->keepalive_ms || s->proxied) return false;
  if (c->requests_max && c->requests >= c->requests_max) return false;
  return !s->keepalive_max || idle_count(row) < s->keepalive_max;
}

/* idle_put lets c wait for the next request. */
static void idle_put(struct upconn *c, bool capped, uint32_t keepalive_ms) {
  c->owner = NULL;
  conn_attach(c->conn, &idle_events, c);
  list_push_head(&row_of(c)->idle, &c->link);
  upstream_idle(c->up, row_of(c), 1, capped);
  conn_read_bulk(c->conn, false);
  conn_watch(c->conn);
  conn_read_start(c->conn);
  conn_timer(c->conn, c->up->loop->now_ms + keepalive_ms);
}

void upconn_release(struct upconn *c, const struct pool_connections *settings) {
  if (c->mux || !keep_idle(c, settings)) upconn_close(c, false);
  else idle_put(c, pool_capped(settings), settings->keepalive_ms);
}

/* Whoever waited for it takes it in this turn, or it goes with its keepalive time. */
bool upconn_settle(struct upstream *u, struct endpoint *e, const struct upsettle *what) {
  struct upconn *c = slab_new(&u->upconns);
  if (!c) return false;
  list_init(&c->link);
  c->up = u;
  c->conn = what->conn;
  c->endpoint = e;
  c->tls = what->tls;
  c->requests = 0;
  c->requests_max = what->requests_max;
  idle_put(c, true, what->keepalive_ms);
  return true;
}
