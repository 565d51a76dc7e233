/* upstream.h: pools at work: which endpoint, which connection, what an outcome means for it. One
 * struct upstream per worker. Idle connections stay with the worker that opened them, each with a
 * receive armed, so that a FIN or RST removes it before use (DESIGN.md promise 5). Decides nothing
 * about requests: retries and replays are proxy/'s. */
#ifndef WEIR_UPSTREAM_UPSTREAM_H
#define WEIR_UPSTREAM_UPSTREAM_H

#include "weir/base/end.h"
#include "weir/io/conn.h"
#include "weir/model/model.h"
#include "weir/upstream/budget.h"
#include "weir/upstream/endpoint.h"
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
  struct h2_pool *h2; /* of HTTP/2 connections; set by the worker */
  struct upstream_counters counters;
  /* permit_freed: a permit of a pool was given back while streams of some worker wait. */
  void (*permit_freed)(struct upstream *u, struct pool_state *state);
  /* breaker_turned: this worker changed the state of a pool's breaker; may be NULL. */
  void (*breaker_turned)(struct upstream *u, const struct pool *p, const struct breaker_told *t);
};

/* upconn is one connection to an endpoint, or a stream of one; it pins the endpoint, and holds the
 * permit of a connection of its own. */
struct upmux;
struct upconn {
  struct slab_head head;
  struct list link; /* in endpoint_row.idle */
  struct upstream *up;
  struct conn *conn;
  struct upmux *mux; /* NULL: HTTP/1; else the connection that carries conn, and has the permit */
  struct endpoint *endpoint;
  void *owner; /* the stream that uses it; NULL when idle */
  uint32_t requests;     /* sent on it */
  uint32_t requests_max; /* 0: no limit */
  uint64_t begun_ms;     /* a stream: opened then */
  bool shared;           /* a stream of a connection that was not idle, or not quiet */
};

void upstream_init(struct upstream *u, struct loop *loop, uint32_t worker, uint32_t conns_max);
/* upstream_fini: all upconns must be closed. */
void upstream_fini(struct upstream *u);

/* upstream_install marks next's endpoints as seen; idle connections of others of before close. */
void upstream_install(struct upstream *u, uint64_t seq, const struct snapshot *before,
                      const struct snapshot *next);
/* upstream_close_idle closes idle connections of e beyond keep; how many were closed. */
uint32_t upstream_close_idle(struct upstream *u, struct endpoint *e, uint32_t keep);

/* pool_tried remembers the endpoints that a request has been sent to (by place in the pool), and
 * which of them took no connection: a bit for each entry of place. */
struct pool_tried {
  uint32_t place[RETRY_ATTEMPTS_MAX];
  uint32_t count, refused;
};

#define PLACE_NONE UINT32_MAX

/* pool_want is what a request asks for when an endpoint is chosen. */
struct pool_want {
  uint64_t now_ms;
  uint64_t hash;   /* of what the pool's hash key names */
  bool hashed;     /* the request has it; else it is balanced as by least_request */
  uint32_t sticky; /* place that its cookie names, or PLACE_NONE */
  const struct pool_tried *tried; /* NULL or empty: a first attempt */
};

/* pool_pick chooses a member. First what the cookie names, if it is in service. Then by tier and
 * policy: one in service that was not tried, else a new one that no check has passed yet; on a
 * further attempt else one that is ejected, else one that was tried; backups only when no other is
 * left. Never one that active health says is down, but in a panic, nor one that refused. NULL when
 * there is none.
 * Reads the pool's settings and shared state, draws from u->rng; written are the policy's own rows
 * of this worker. */
const struct pool_member *pool_pick(struct upstream *u, const struct pool *pool,
                                    const struct pool_want *want);
/* pool_in_service: has the pool an endpoint in service that may get traffic? */
bool pool_in_service(const struct pool *pool, uint64_t now_ms);
/* pool_prepare puts the members in order and builds tiers and the policy's table in the pool's
 * arena. Once, by the compile thread, when all else is filled in. */
void pool_prepare(struct pool *pool);

/* pool_sample is how one attempt went. */
struct pool_sample {
  uint64_t now_ms;
  uint64_t latency_ns; /* request sent to first byte, or to the failure */
  bool failed, cut;    /* failed, or answered 500 and above; not waited for any longer */
};
/* pool_observe tells the policy. */
void pool_observe(struct upstream *u, const struct pool *pool, struct endpoint *e,
                  const struct pool_sample *sample);

/* balance policies are rows of balance.def; the index is struct pool.balance. */
enum balance {
#define BALANCE(id, text, pick, prepare, observe, worth, hashed, doc) BALANCE_##id,
#include "weir/upstream/balance.def"
#undef BALANCE
  BALANCE_COUNT
};
/* balance_find gives a name's row, balance_text the name; balance_hashed: it needs a key. */
bool balance_find(struct span name, uint8_t *out);
struct span balance_text(uint8_t row);
bool balance_hashed(uint8_t row);

/* sticky_prepare gives a pool its cookie: one id for each member, a MAC under key of pool and
 * address, so that nobody can make one up, and that stays the same over reloads. After
 * pool_prepare. */
void sticky_prepare(struct pool *pool, const struct sticky_settings *settings, struct span key);
/* sticky_find is the place that a request's cookies name; PLACE_NONE: none does (none there,
 * forged, or of an endpoint that is gone). */
uint32_t sticky_find(const struct pool_sticky *sticky, const struct http_fields *fields);

/* attempt_to is who asks for a stream. */
struct attempt_to {
  const struct conn_events *events;
  void *owner;
  bool settled; /* it has to know what the endpoint's HTTP/2 can do */
};

/* upconn_checkout takes the idle connection used last, or NULL. */
struct upconn *upconn_checkout(struct upstream *u, struct endpoint *e, void *owner);
/* upconn_connect opens one (a permit first). NULL and *err: -EAGAIN no permit (wait), -ENOMEM no
 * slot, -errno. on_open of events follows. */
MUST_USE struct upconn *upconn_connect(struct upstream *u, const struct pool *pool,
                                       struct endpoint *e, const struct conn_events *events,
                                       void *owner, int *err);
/* upconn_stream: a stream of an HTTP/2 connection to e that is there, or of a new one. *reused: it
 * can be sent on already. NULL and *err as upconn_connect. */
MUST_USE struct upconn *upconn_stream(struct upstream *u, const struct pool *pool,
                                      struct endpoint *e, const struct attempt_to *to,
                                      bool *reused, int *err);
/* upconn_release puts a clean connection (nothing is owed) back into the pool, or closes it. */
void upconn_release(struct upconn *c, const struct pool_connections *settings);
/* upconn_close closes it; reset sends RST. upconn_yield: what it shares takes no more streams. */
void upconn_yield(struct upconn *c);
void upconn_close(struct upconn *c, bool reset);

#endif
