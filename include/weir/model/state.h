/* state.h: what lives by identity and outlives generations: counters, health, idle connections.
 * proxy/ and upstream/ write it, control/ reads it. See object.h for lifetimes. */
#ifndef WEIR_MODEL_STATE_H
#define WEIR_MODEL_STATE_H

#include "weir/base/addr.h"
#include "weir/base/heap.h"
#include "weir/base/tally.h"
#include "weir/http/grpc.h"
#include "weir/model/balance.h"
#include "weir/model/breaker.h"
#include "weir/model/concurrency.h"
#include "weir/model/health.h"
#include "weir/model/object.h"

struct tls_peer; /* io/tls_client.h */

/* endpoint_row is one worker's view of an endpoint. */
struct endpoint_row {
  _Alignas(64) struct list idle; /* conns, most recently used first */
  struct list muxes, alone;      /* HTTP/2 connections (upstream/upmux.c): shared; private ones */
  _Atomic uint32_t idle_count;   /* written by its worker */
  uint32_t conns;                /* open or connecting, idle ones included */
  uint64_t seen;                 /* seq of the last installed snapshot that has this endpoint */
  const struct tls_client *policy; /* of its pool in that snapshot (upstream/uptls.c) */
  struct tls_peer *tls;            /* under that policy; a ref; NULL: none yet, or plain */
  /* Written by its worker, read by all (balancing), so in this one cache line: */
  _Atomic uint32_t inflight;     /* requests */
  _Atomic uint64_t ewma_ns;      /* peak_ewma: smoothed time to the first byte */
  _Atomic uint64_t ewma_ms;      /* when it was last told; 0: never */
  _Atomic uint64_t requests, failures, connects, reused;
  _Atomic uint64_t outcomes, outcomes_bad; /* attempts that ended; failed or 500 and above */
  int64_t turn;   /* round_robin: what it is owed of others' turns; its worker's alone */
  uint64_t ready; /* round_robin: saved up for its next own turn, while it starts slowly */
  uint64_t shunned_ms, wearied_ms, calm_ms; /* by its resets, ours, PINGs (upmux.c) */
  bool bare;             /* its HTTP/2 takes no extended CONNECT, as it said last */
};

/* endpoint is one upstream address of one pool. Identity: pool, address as written, resolved. */
struct endpoint {
  struct object obj;      /* name: "pool/address" */
  struct span pool, text; /* pool's name; address as written */
  struct span label;      /* resolved "ip:port" for logs and metrics */
  struct addr addr;
  struct endpoint_row *rows;
  struct pool_state *pool_state; /* ref: of the pool's queue and caps */
  struct endpoint_health *health; /* control thread alone; NULL until it is looked after */
  /* Shared, written on events only (never per request in health). */
  _Alignas(64) _Atomic uint32_t permits;   /* connections over all workers */
  _Atomic uint32_t requests;               /* in flight, where max_requests_per_endpoint is set */
  _Atomic uint8_t state;                   /* enum endpoint_state: active health */
  _Atomic uint8_t eject_cause;             /* enum eject_cause */
  _Atomic uint32_t failures, failures_5xx; /* consecutive */
  _Atomic uint64_t ejected_until_ms;       /* CLOCK_MONOTONIC; 0: in service */
  _Atomic uint32_t ejections;              /* in total */
  _Atomic uint32_t eject_streak;           /* ejections that followed closely: the time grows */
  _Atomic uint32_t streams_most; /* of an HTTP/2 connection, as it said last; 0: it never did */
  _Atomic uint64_t since_ms; /* in service, also after an ejection (endpoint_since); 0: always */
};

#define POOL_CHECKS 16u
/* budget_slot is what one worker did in about a second (upstream/budget.c). */
#define BUDGET_SLOTS 8u
struct budget_slot {
  _Atomic uint32_t at; /* which second; 0: none */
  _Atomic uint32_t requests, retries;
};

/* pool_row is one worker's view of a pool. */
struct pool_row {
  _Alignas(64) uint32_t queued; /* streams of this worker that wait */
  uint32_t next[TIERS_MAX];     /* round robin, by tier */
  uint32_t members;             /* when it was last in a snapshot, of this seq: */
  uint64_t seen;
  const struct pool *settings;  /* and its settings there: to compare with, they may be gone */
  struct list waiting_link;     /* in worker.waiting while some do */
  struct heap first, last;      /* those streams, by claim: the best first, the worst first */
  uint64_t queue_epoch, queue_serving; /* epoch, and endpoints in service, as last looked at */
  /* Written by this worker, read by all: */
  _Atomic uint32_t inflight; /* requests */
  _Atomic uint64_t requests; /* that were given to it */
  _Atomic uint64_t panics;   /* of them: balanced over all, for too few were in service */
  _Atomic uint64_t sticky_kept, sticky_set; /* went where their cookie said; got a new cookie */
  _Atomic uint64_t claim;    /* the best of its streams; 0: none waits */
  _Atomic uint64_t queue_ns, queue_count; /* time spent in the queue; streams that were in it */
  _Atomic uint64_t retries, retries_refused; /* made; not made because the budget was spent */
  _Atomic uint64_t grpc[GRPC_STATUS_COUNT];  /* gRPC calls that ended so */
  struct budget_slot budget[BUDGET_SLOTS];
  struct pool_shares shares;
  struct breaker_row breaker;
  struct gradient_row gradient;
};

#define POOL_PRIORITIES 8u /* 0 is the most urgent, as in RFC 9218 */
#define POOL_TURNS 64u     /* routes with streams in one pool's queue, told apart */

/* pool_state: its queue and caps are shared by all workers (upstream/permits.c, claims.c). */
struct pool_state {
  struct object obj; /* name: pool */
  struct pool_row *rows;
  _Atomic bool ejecting; /* one thread at a time counts and ejects: max_ejected is exact */
  _Atomic uint64_t epoch; /* grows when an endpoint's state or ejection was changed */
  /* Control thread alone: checks by result (control/probe.def), changes to down and to up. */
  uint64_t checks[POOL_CHECKS], changes[2];
  _Alignas(64) _Atomic uint32_t waiting;    /* streams in its queue */
  _Atomic uint32_t conns;                   /* to its endpoints, those being opened included */
  _Atomic uint32_t requests;                /* in flight, where max_requests is set */
  _Atomic uint32_t clocks[POOL_PRIORITIES]; /* the last turn that was served */
  _Atomic uint64_t turns[POOL_TURNS];       /* a route and the last turn that it drew */
  struct breaker breaker;
  struct gradient gradient;
};

/* endpoint_changed follows every change of state or ejected_until_ms: workers look anew. */
static inline void endpoint_changed(struct endpoint *e) {
  atomic_fetch_add_explicit(&e->pool_state->epoch, 1, memory_order_release);
}

/* route_state lives by the route's name, else its match key. */
struct route_state {
  struct object obj;
  _Atomic bool removed; /* not in the newest snapshot: its tunnels end after drain */
};

struct listener_row {
  _Alignas(64) _Atomic uint64_t accepted;
  _Atomic uint64_t refused;
  _Atomic uint32_t conns;
};
/* listener_state lives by the listener's name. */
struct listener_state {
  struct object obj;
  struct listener_row *rows;
  _Atomic bool removed;
  _Atomic uint32_t sessions; /* of UDP, over all workers */
  struct tally *_Atomic clients; /* open connections per client; NULL: never counted */
};

/* Constructors by identity: the live object of that identity with a new ref, or a new one. */
struct route_state *route_state_get(struct registry *r, struct span name);
struct pool_state *pool_state_get(struct registry *r, struct span name);
struct listener_state *listener_state_get(struct registry *r, struct span name);
/* listener_state_count gives a state its table of connections per client, if it has none yet, with
 * room for as many as there may be connections. False: no memory for it. Compile thread. */
MUST_USE bool listener_state_count(struct listener_state *state, uint32_t connections);
struct endpoint *endpoint_get(struct registry *r, struct span pool, struct span text,
                              const struct addr *resolved);

#endif
