/* state.h: what lives by identity and outlives generations: counters, health, idle connections.
 * proxy/ and upstream/ write it, control/ reads it. See object.h for lifetimes. */
#ifndef WEIR_MODEL_STATE_H
#define WEIR_MODEL_STATE_H

#include "weir/base/addr.h"
#include "weir/base/heap.h"
#include "weir/model/object.h"

/* endpoint_row is one worker's view of an endpoint. */
struct endpoint_row {
  _Alignas(64) struct list idle; /* conns, most recently used first */
  _Atomic uint32_t idle_count;   /* written by its worker */
  uint32_t conns;                /* open or connecting, idle ones included */
  uint64_t seen;                 /* seq of the last installed snapshot that has this endpoint */
  _Atomic uint32_t inflight;     /* requests; written by its worker, read by all */
  _Atomic uint64_t requests, failures, connects, reused;
};

/* endpoint is one upstream address of one pool. Identity: pool, address as written, resolved. */
struct endpoint {
  struct object obj;      /* name: "pool/address" */
  struct span pool, text; /* pool's name; address as written */
  struct span label;      /* resolved "ip:port" for logs and metrics */
  struct addr addr;
  struct endpoint_row *rows;
  struct pool_state *pool_state; /* ref: of the pool's queue and caps */
  /* Shared, written on events only (never per request in health). */
  _Alignas(64) _Atomic uint32_t permits;   /* connections over all workers */
  _Atomic uint32_t requests;               /* in flight, where max_requests_per_endpoint is set */
  _Atomic uint32_t failures, failures_5xx; /* consecutive */
  _Atomic uint64_t ejected_until_ms;       /* CLOCK_MONOTONIC; 0: in service */
  _Atomic uint32_t ejections;              /* in total */
  _Atomic uint32_t eject_streak;           /* ejections that followed closely: the time grows */
};

/* budget_slot is what one worker did in about a second (upstream/budget.c). */
#define BUDGET_SLOTS 8u
struct budget_slot {
  _Atomic uint32_t at; /* which second; 0: none */
  _Atomic uint32_t requests, retries;
};

/* pool_row is one worker's view of a pool. */
struct pool_row {
  _Alignas(64) uint32_t next; /* round robin */
  uint32_t queued;            /* streams of this worker that wait */
  struct list waiting_link;   /* in worker.waiting while some do */
  struct heap first, last;    /* those streams, by claim: the best first, the worst first */
  /* Written by this worker, read by all: */
  _Atomic uint64_t claim;     /* the best of its streams; 0: none waits */
  _Atomic uint64_t queue_ns, queue_count; /* time spent in the queue; streams that were in it */
  _Atomic uint64_t retries, retries_refused; /* made; not made because the budget was spent */
  struct budget_slot budget[BUDGET_SLOTS];
};

#define POOL_PRIORITIES 8u /* 0 is the most urgent, as in RFC 9218 */
#define POOL_TURNS 64u     /* routes with streams in one pool's queue, told apart */

/* pool_state: its queue and caps are shared by all workers (upstream/permits.c, claims.c). */
struct pool_state {
  struct object obj; /* name: pool */
  struct pool_row *rows;
  _Atomic uint32_t waiting; /* streams in its queue */
  _Atomic uint32_t ejected; /* endpoints out of service now */
  _Alignas(64) _Atomic uint32_t conns; /* to its endpoints, those being opened included */
  _Atomic uint32_t requests;           /* in flight, where max_requests is set */
  _Atomic uint32_t clocks[POOL_PRIORITIES]; /* the last turn that was served */
  _Atomic uint64_t turns[POOL_TURNS];       /* a route and the last turn that it drew */
};

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
};

/* Constructors by identity: the live object of that identity with a new ref, or a new one. */
struct route_state *route_state_get(struct registry *r, struct span name);
struct pool_state *pool_state_get(struct registry *r, struct span name);
struct listener_state *listener_state_get(struct registry *r, struct span name);
struct endpoint *endpoint_get(struct registry *r, struct span pool, struct span text,
                              const struct addr *resolved);

#endif
