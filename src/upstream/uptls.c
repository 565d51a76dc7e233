/* uptls.c: TLS of connections to endpoints: the policy of a pool at an endpoint (io/tls_client.h),
 * kept in the endpoint's row with its sessions as long as the pool keeps the policy; the way that
 * requests go, by what the endpoint chose; why a connection failed. Called by pool.c and upmux.c.
 */
#include "upstream_priv.h"
#include "weir/io/tls.h"

/* LAST_LINGER_MS: the endpoint's log should say why weir refused it; and a session that ended by
 * close_notify must not look cut. */
#define LAST_LINGER_MS 1000u

/* ---- the peer ---- */

static struct tls_peer *peer_new(const struct upstream *u, const struct pool *pool,
                                 const struct endpoint *e) {
  struct span host = SPAN_EMPTY;
  uint16_t port = 0;
  if (addr_split(e->text, &host, &port) != ADDR_NAME) host = SPAN_EMPTY;
  const struct tls_peer_conf conf = {.client = pool->tls,
                                     .worker = u->worker,
                                     .host = host,
                                     .addr = &e->addr,
                                     .counts = u->counters.tls};
  return tls_peer_new(&conf);
}

/* peer_get gives a ref. A stream of an older snapshot may still have another policy: what it needs
 * is not kept. */
static struct tls_peer *peer_get(const struct upstream *u, const struct pool *pool,
                                 struct endpoint *e) {
  struct endpoint_row *row = &e->rows[u->worker];
  bool current = row->seen == u->seq && row->policy == pool->tls;
  if (!current) return peer_new(u, pool, e);
  if (!row->tls) row->tls = peer_new(u, pool, e);
  tls_peer_ref(row->tls);
  return row->tls;
}

bool uptls_stack(struct upstream *u, const struct pool *pool, struct endpoint *e,
                 struct conn *conn, bool h1_only) {
  if (!pool->tls) return true;
  struct tls_peer *peer = peer_get(u, pool, e);
  bool ok = tls_connect(conn, peer, h1_only);
  tls_peer_unref(peer);
  return ok;
}

bool uptls_first(const struct pool *pool, struct conn *conn, struct span first) {
  if (!first.len) return true;
  struct buf *out = pool->tls ? tls_clear(conn, first.len) : conn_out(conn, first.len);
  if (out) buf_put(out, first);
  return out && !out->full;
}

void uptls_drop(struct upstream *u, struct endpoint *e) {
  struct endpoint_row *row = &e->rows[u->worker];
  if (row->tls) tls_peer_unref(row->tls);
  row->tls = NULL;
  row->policy = NULL;
}

void uptls_mark(struct upstream *u, const struct pool *pool, struct endpoint *e) {
  struct endpoint_row *row = &e->rows[u->worker];
  if (row->policy == pool->tls) return;
  uptls_drop(u, e);
  row->policy = pool->tls;
  upconn_idle_other(u, e, pool->tls);
  upmux_retire_other(u, e, pool->tls);
}

void uptls_close(struct conn *conn) {
  bool last_words = conn_tls_end(conn) != END_OK || conn_finishing(conn);
  if (last_words) conn_close_gently(conn, LAST_LINGER_MS);
  else conn_close(conn);
}

/* ---- the way ---- */

static enum tls_spoken spoken(const struct upstream *u, const struct pool *pool,
                              const struct endpoint *e) {
  const struct tls_peer *peer = e->rows[u->worker].tls;
  bool known = peer && tls_peer_client(peer) == pool->tls;
  return known ? tls_peer_spoken(peer, u->loop->now_ms) : TLS_SPOKEN_UNKNOWN;
}

enum upconn_way upconn_way(const struct upstream *u, const struct pool *pool,
                           const struct endpoint *e) {
  if (pool->tcp) return UPCONN_HTTP_1;
  switch ((enum pool_protocol)pool->connections.protocol) {
    case POOL_HTTP_1_1: return UPCONN_HTTP_1;
    case POOL_H2C:
    case POOL_H2: return UPCONN_STREAM;
    case POOL_AUTO: break;
  }
  if (!pool->tls) return UPCONN_HTTP_1;
  switch (spoken(u, pool, e)) {
    case TLS_SPOKEN_HTTP_1_1: return UPCONN_HTTP_1;
    case TLS_SPOKEN_H2: return UPCONN_STREAM;
    case TLS_SPOKEN_UNKNOWN: break;
  }
  return UPCONN_ASK;
}

/* ---- why it failed ---- */

enum end upconn_tls_end(const struct upconn *c, bool late, struct span *why) {
  const struct conn *conn = c->mux ? upmux_conn(c->mux) : c->conn;
  struct tls_info info;
  if (!c->tls || !conn) return END_OK;
  if (late && conn_tls_shaking(conn)) return END_UPSTREAM_TLS_TIMEOUT;
  conn_tls_info(conn, &info);
  if (why && info.end != END_OK) *why = info.why;
  return info.end;
}
