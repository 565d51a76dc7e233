/* upstream.h: pools at work: which endpoint, which connection, and what an outcome means for the
 * endpoint. One struct upstream per worker. Idle connections stay with the worker that opened
 * them, each with a receive armed, so that a FIN or RST removes it before use (DESIGN.md promise
 * 5). Decides nothing about requests: retries and replays are proxy/'s. */
#ifndef WEIR_UPSTREAM_UPSTREAM_H
#define WEIR_UPSTREAM_UPSTREAM_H

#include "weir/base/end.h"
#include "weir/io/conn.h"
#include "weir/model/model.h"
#include "weir/upstream/permits.h"

/* upstream_counters are the worker's rows of stats.def that this layer writes. */
struct upstream_counters {
  _Atomic uint64_t *conns, *idle, *connects, *reused, *ejections;
};

/* upstream is one worker's pools. */
struct upstream {
  struct loop *loop;
  uint32_t worker;
  uint64_t rng;
  uint64_t seq; /* of the installed snapshot: endpoints not seen in it are not kept idle */
  struct slab upconns;
  struct upstream_counters counters;
  /* permit_freed: a permit of a pool was given back while streams of some worker wait. */
  void (*permit_freed)(struct upstream *u, struct pool_state *state);
};

/* upconn is one connection to an endpoint; it pins the endpoint and holds a permit. */
struct upconn {
  struct slab_head head;
  struct list link; /* in endpoint_row.idle */
  struct upstream *up;
  struct conn *conn;
  struct endpoint *endpoint;
  void *owner; /* the stream that uses it; NULL when idle */
  uint32_t requests;     /* sent on it */
  uint32_t requests_max; /* 0: no limit */
};

void upstream_init(struct upstream *u, struct loop *loop, uint32_t worker, uint32_t conns_max);
/* upstream_fini: all upconns must be closed. */
void upstream_fini(struct upstream *u);

/* upstream_install marks the endpoints of next as seen under seq and closes idle connections of
 * those of before that are not in it. */
void upstream_install(struct upstream *u, uint64_t seq, const struct snapshot *before,
                      const struct snapshot *next);
/* upstream_close_idle closes idle connections of e beyond keep; how many were closed. */
uint32_t upstream_close_idle(struct upstream *u, struct endpoint *e, uint32_t keep);

/* budget_request counts a request of this worker (its first attempt only). budget_take counts one
 * more attempt, or refuses it: the budget of the pool is spent. */
void budget_request(struct pool_row *row, uint64_t now_ms);
MUST_USE bool budget_take(struct pool_state *state, uint32_t worker, const struct pool_retry *r,
                          uint64_t now_ms);

/* pool_tried remembers the endpoints that a request has been sent to (by place in the pool). */
struct pool_tried {
  uint32_t place[RETRY_ATTEMPTS_MAX];
  uint32_t count;
};

/* pool_pick chooses a member by the pool's policy: one in service that was not tried; on a further
 * try else one out of service, else one that was tried; backups only when no other is left. NULL
 * when no member is in service. */
const struct pool_member *pool_pick(struct upstream *u, const struct pool *pool, uint64_t now_ms,
                                    const struct pool_tried *tried);

/* balance policies are rows of balance.def; the index is struct pool.balance. */
enum balance {
#define BALANCE(id, text, fn, doc) BALANCE_##id,
#include "weir/upstream/balance.def"
#undef BALANCE
  BALANCE_COUNT
};
/* balance_find gives the row of a name; false when there is none. balance_text the name of a row.
 */
bool balance_find(struct span name, uint8_t *out);
struct span balance_text(uint8_t row);

/* upconn_checkout takes the most recently used idle connection, or NULL. */
struct upconn *upconn_checkout(struct upstream *u, struct endpoint *e, void *owner);
/* upconn_connect opens one (a permit first). NULL and *err: -EAGAIN no permit (wait), -ENOMEM no
 * slot, -errno. on_open of events follows. */
MUST_USE struct upconn *upconn_connect(struct upstream *u, const struct pool *pool,
                                       struct endpoint *e, const struct conn_events *events,
                                       void *owner, int *err);
/* upconn_release puts a clean connection (no byte owed either way) back into the pool, or closes
 * it when the limits say so. */
void upconn_release(struct upconn *c, const struct pool_connections *settings);
/* upconn_close closes it; reset sends RST. */
void upconn_close(struct upconn *c, bool reset);

/* endpoint_load is requests in flight over all workers (relaxed). */
uint32_t endpoint_load(const struct endpoint *e);
/* endpoint_begin and endpoint_end count one request in flight. */
void endpoint_begin(struct endpoint *e, uint32_t worker);
void endpoint_end(struct endpoint *e, uint32_t worker);
/* endpoint_outcome reports how an attempt ended: end of the attempt (END_OK: a response came), and
 * its status (0: none). True when this ejected the endpoint. */
bool endpoint_outcome(struct upstream *u, const struct pool *pool, struct endpoint *e,
                      enum end end, uint16_t status, uint64_t now_ms);
/* endpoint_in_service is false while ejected. */
bool endpoint_in_service(const struct endpoint *e, uint64_t now_ms);

#endif
