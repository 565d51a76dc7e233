/* upstream.h: pools at work: which endpoint, which connection, what an outcome means for it. One
 * struct upstream per worker. Idle connections stay with the worker that opened them, each with a
 * receive armed, so that a FIN or RST removes it before use (DESIGN.md promise 5). Decides nothing
 * about requests: retries and replays are proxy/'s. */
#ifndef WEIR_UPSTREAM_UPSTREAM_H
#define WEIR_UPSTREAM_UPSTREAM_H

#include "weir/base/end.h"
#include "weir/io/conn.h"
#include "weir/io/tls_client.h"
#include "weir/model/model.h"
#include "weir/upstream/budget.h"
#include "weir/upstream/endpoint.h"
#include "weir/upstream/permits.h"

/* upstream_counters are the worker's rows of stats.def that this layer writes. */
struct upstream_counters {
  _Atomic uint64_t *conns, *h2, *idle, *connects, *reused, *ejections;
  struct tls_counts tls;
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

#include "weir/upstream/upconn.h"

#endif
