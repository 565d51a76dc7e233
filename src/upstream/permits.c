/* permits.c: the caps of a pool: requests in flight and connections, per endpoint and in all,
 * exact over workers. What is given back is told to u->permit_freed when somebody waits. See
 * permits.h. */
#include "weir/upstream/permits.h"

#include "upstream_priv.h"

/* take_below counts up unless that would pass the cap. That none is free has to be as true as a
 * look at who waits is (permits.h: no wakeup is lost), so the first look is ordered too. */
static bool take_below(_Atomic uint32_t *count, uint32_t max) {
  uint32_t now = atomic_load(count);
  do {
    if (max && now >= max) return false;
  } while (!atomic_compare_exchange_weak(count, &now, now + 1));
  return true;
}

static void give(_Atomic uint32_t *count) {
  uint32_t before = atomic_fetch_sub(count, 1);
  check(before > 0);
}

static void freed(struct upstream *u, struct pool_state *state) {
  if (atomic_load(&state->waiting) && u->permit_freed) u->permit_freed(u, state);
}

bool request_permits_take(struct upstream *u, const struct pool *pool, struct endpoint *e,
                          uint8_t *held) {
  const struct pool_connections *c = &pool->connections;
  uint8_t got = 0;
  *held = 0;
  if (c->max_requests) {
    if (!take_below(&pool->state->requests, c->max_requests)) return false;
    got |= PERMIT_POOL;
  }
  if (c->max_requests_per_endpoint) {
    if (!take_below(&e->requests, c->max_requests_per_endpoint)) {
      request_permits_give(u, pool->state, e, got);
      return false;
    }
    got |= PERMIT_ENDPOINT;
  }
  *held = got;
  return true;
}

void request_permits_give(struct upstream *u, struct pool_state *state, struct endpoint *e,
                          uint8_t held) {
  if (!held) return;
  if (held & PERMIT_POOL) give(&state->requests);
  if (held & PERMIT_ENDPOINT) give(&e->requests);
  freed(u, state);
}

bool conn_permits_take(struct upstream *u, const struct pool *pool, struct endpoint *e) {
  if (!take_below(&e->pool_state->conns, pool->connections.max)) return false;
  if (take_below(&e->permits, pool->connections.max_per_endpoint)) return true;
  give(&e->pool_state->conns);
  freed(u, e->pool_state);
  return false;
}

void conn_permits_give(struct upstream *u, struct endpoint *e) {
  give(&e->permits);
  give(&e->pool_state->conns);
  freed(u, e->pool_state);
}

bool conn_permits_out(const struct pool *pool, const struct endpoint *e) {
  const struct pool_connections *c = &pool->connections;
  if (c->max_per_endpoint && atomic_load(&e->permits) >= c->max_per_endpoint) return true;
  return c->max && atomic_load(&e->pool_state->conns) >= c->max;
}

bool request_permits_out(const struct pool *pool, const struct endpoint *e) {
  const struct pool_connections *c = &pool->connections;
  if (c->max_requests && atomic_load(&pool->state->requests) >= c->max_requests) return true;
  uint32_t most = c->max_requests_per_endpoint;
  return most && atomic_load(&e->requests) >= most;
}

bool endpoint_full(const struct pool *pool, const struct endpoint *e, uint32_t worker) {
  const struct pool_connections *c = &pool->connections;
  uint32_t requests = c->max_requests_per_endpoint, conns = c->max_per_endpoint;
  if (requests && atomic_load(&e->requests) >= requests) return true;
  if (!conns || atomic_load(&e->permits) < conns) return false;
  bool muxed = pool->tls ? c->protocol != POOL_HTTP_1_1 : c->protocol == POOL_H2C;
  if (c->proxied) return true; /* nor is an idle one used */
  if (muxed && upmux_has_room(e, worker, pool->tls)) return false;
  return !atomic_load_explicit(&e->rows[worker].idle_count, memory_order_relaxed);
}
