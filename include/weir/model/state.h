/* state.h: what lives by identity and outlives generations: counters, health, idle connections.
 * proxy/ and upstream/ write it, control/ reads it. See object.h for lifetimes. */
#ifndef WEIR_MODEL_STATE_H
#define WEIR_MODEL_STATE_H

#include "weir/base/addr.h"
#include "weir/model/balance.h"
#include "weir/model/health.h"
#include "weir/model/object.h"

/* endpoint_row is one worker's view of an endpoint. */
struct endpoint_row {
  _Alignas(64) struct list idle; /* conns, most recently used first */
  uint32_t idle_count;
  uint32_t conns;                /* open or connecting, idle ones included */
  uint64_t seen;                 /* seq of the last installed snapshot that has this endpoint */
  /* Written by its worker, read by all (balancing), so in this one cache line: */
  _Atomic uint32_t inflight;     /* requests */
  _Atomic uint64_t ewma_ns;      /* peak_ewma: smoothed time to the first byte */
  _Atomic uint64_t ewma_ms;      /* when it was last told; 0: never */
  _Atomic uint64_t requests, failures, connects, reused;
  _Atomic uint64_t outcomes, outcomes_bad; /* attempts that ended; failed or 500 and above */
  int64_t turn;   /* round_robin: what it is owed of others' turns; its worker's alone */
  uint64_t ready; /* round_robin: saved up for its next own turn, while it starts slowly */
};

/* endpoint is one upstream address of one pool. Identity: pool, address as written, resolved. */
struct endpoint {
  struct object obj;      /* name: "pool/address" */
  struct span pool, text; /* pool's name; address as written */
  struct span label;      /* resolved "ip:port" for logs and metrics */
  struct addr addr;
  struct endpoint_row *rows;
  struct pool_state *pool_state; /* ref */
  struct endpoint_health *health; /* control thread alone; NULL until it is looked after */
  /* Shared, written on events only (never per request in health). */
  _Alignas(64) _Atomic uint32_t permits;   /* connections over all workers */
  _Atomic uint32_t waiting;                /* workers that wait for a permit */
  _Atomic uint8_t state;                   /* enum endpoint_state: active health */
  _Atomic uint8_t eject_cause;             /* enum eject_cause */
  _Atomic uint32_t failures, failures_5xx; /* consecutive */
  _Atomic uint64_t ejected_until_ms;       /* CLOCK_MONOTONIC; 0: in service */
  _Atomic uint32_t ejections;              /* in total */
  _Atomic uint32_t eject_streak;           /* ejections that followed closely: the time grows */
  _Atomic uint64_t since_ms; /* came into service, new or after having been out; 0: from the start.
                                The end of an ejection counts too (endpoint_since) */
};

#define POOL_CHECKS 16u

/* pool_row is one worker's view of a pool. */
struct pool_row {
  _Alignas(64) uint32_t queued; /* streams that wait for a connection */
  uint32_t next[TIERS_MAX];     /* round robin, by tier */
  uint32_t members;             /* when it was last in a snapshot, of this seq: */
  uint64_t seen;
  _Atomic uint32_t inflight;    /* requests; written by its worker, read by all */
  _Atomic uint64_t requests;    /* that were given to it */
  _Atomic uint64_t panics;      /* of them: balanced over all, for too few were in service */
  _Atomic uint64_t sticky_kept, sticky_set; /* went where their cookie said; got a new cookie */
  struct pool_shares shares;
};
struct pool_state {
  struct object obj; /* name: pool */
  struct pool_row *rows;
  _Atomic bool ejecting; /* one thread at a time counts and ejects: max_ejected is exact */
  _Atomic uint64_t epoch; /* grows when an endpoint's state or ejection was changed */
  /* Control thread alone: checks by result (control/probe.def), changes to down and to up. */
  uint64_t checks[POOL_CHECKS], changes[2];
};

/* endpoint_changed follows every change of state or ejected_until_ms: what workers remember of the
 * pool's health is no longer true. */
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
};

/* Constructors by identity: the live object of that identity with a new ref, or a new one. */
struct route_state *route_state_get(struct registry *r, struct span name);
struct pool_state *pool_state_get(struct registry *r, struct span name);
struct listener_state *listener_state_get(struct registry *r, struct span name);
struct endpoint *endpoint_get(struct registry *r, struct span pool, struct span text,
                              const struct addr *resolved);

#endif
