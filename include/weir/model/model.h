/* model.h: what one generation says: listeners, route tables, pools; and the state that outlives
 * generations. config/ builds it, proxy/ and upstream/ read it. See object.h for lifetimes. */
#ifndef WEIR_MODEL_MODEL_H
#define WEIR_MODEL_MODEL_H

#include "weir/http/message.h"
#include "weir/model/object.h"
#include "weir/model/settings.h"

struct tls_server; /* io/tls.h; opaque here */

/* ---- state: by identity ---- */

/* endpoint_row is one worker's view of an endpoint. */
struct endpoint_row {
  _Alignas(64) struct list idle; /* conns, most recently used first */
  uint32_t idle_count;
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
  /* Shared, written on events only (never per request in health). */
  _Alignas(64) _Atomic uint32_t permits;   /* connections over all workers */
  _Atomic uint32_t waiting;                /* workers that wait for a permit */
  _Atomic uint32_t failures, failures_5xx; /* consecutive */
  _Atomic uint64_t ejected_until_ms;       /* CLOCK_MONOTONIC; 0: in service */
  _Atomic uint32_t ejections;              /* in total */
};

/* pool_row is one worker's view of a pool. */
struct pool_row {
  _Alignas(64) uint32_t queued; /* streams that wait for a connection */
  uint32_t next; /* round robin */
};
struct pool_state {
  struct object obj; /* name: pool */
  struct pool_row *rows;
  _Atomic uint32_t ejected; /* endpoints out of service now */
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

/* ---- settings: by content ---- */

struct pool_member {
  struct endpoint *endpoint; /* ref held by the pool */
  uint32_t weight;
  bool backup;
};

struct pool {
  struct object obj;
  struct pool_state *state;    /* ref */
  struct pool_member *members; /* in obj.arena */
  uint32_t member_count;
  uint32_t unresolved; /* names that have no address now */
  uint8_t balance;     /* row of upstream/balance.def */
  struct pool_timeouts timeouts;
  struct pool_connections connections;
  struct pool_outlier outlier;
  struct pool_limits limits;
};

enum route_action { ROUTE_POOL, ROUTE_REDIRECT, ROUTE_RESPOND };
enum route_path { ROUTE_PATH_EXACT, ROUTE_PATH_REGEX, ROUTE_PATH_PREFIX };

struct route {
  struct object obj;         /* name: the route's, else its match key */
  struct route_state *state; /* ref */
  uint32_t order;            /* place in the file: breaks ties */
  uint8_t action;            /* enum route_action */
  uint8_t path_kind;         /* enum route_path */
  bool strip_prefix;
  struct span path; /* exact path or prefix, no trailing slash but for "/" */
  const struct span *hosts; /* canonical; "*.x" wildcards; none: any */
  uint32_t host_count;
  uint32_t methods; /* bit per enum http_method; 0: all */
  const struct span *extra_methods; /* method names outside the enum */
  uint32_t extra_method_count;
  struct pool *pool; /* ref; ROUTE_POOL */
  uint32_t timeout_ms;
  uint16_t status;      /* redirect, respond */
  struct span to;       /* redirect: Location; "${...}" is not expanded */
  struct span body;     /* respond */
  struct span content_type;
  struct span origin;   /* "file:line", for explain and logs */
};

struct listener {
  struct object obj;
  struct listener_state *state; /* ref */
  struct span *binds;           /* as written */
  uint32_t bind_count;
  bool redirect_https;
  uint16_t redirect_port; /* 443 unless another TLS listener's */
  struct tls_server *tls; /* NULL: plaintext; one ref, dropped with tls_unref by the fini */
  void (*tls_unref)(struct tls_server *server);
  uint64_t tls_policy;    /* hash: equal policies may share hosts (421 rule) */
  struct listener_timeouts timeouts;
  struct listener_limits limits;
  struct addr_net *trusted; /* trusted_proxies */
  uint32_t trusted_count;
  bool trust_unix; /* peers on unix sockets are trusted when any proxy is */
};

/* route_table answers for one listener; compiled, immutable, in the snapshot's arena. */
struct route_table;

/* route_query is what is matched; host is canonical, path is as forwarded (no query). */
struct route_query {
  struct span host, path;
  enum http_method method;
  struct span method_text;
};

enum route_verdict { ROUTE_FOUND, ROUTE_NONE, ROUTE_BAD_METHOD };

struct route_hit {
  const struct route *route; /* ROUTE_FOUND */
  uint32_t methods;          /* ROUTE_BAD_METHOD: union of what is allowed */
  const struct route *allow; /* one of the routes that were near, for extra_methods */
};

/* route_table_new compiles routes (any order) in arena; routes outlive it. */
struct route_table *route_table_new(struct arena *arena, struct route *const *routes, uint32_t count);
/* route_find answers in time independent of the number of routes for hosts and exact paths, and of
 * the path's segments for prefixes. No allocation. DESIGN.md "Matching". */
enum route_verdict route_find(const struct route_table *table, const struct route_query *q,
                              struct route_hit *hit);
/* route_find_linear is the slow twin for tests and explain: the same answer by trying every route. */
enum route_verdict route_find_linear(struct route *const *routes, uint32_t count,
                                     const struct route_query *q, struct route_hit *hit);

/* snapshot_listener is one listener of a generation with its route table. */
struct snapshot_listener {
  struct listener *listener; /* ref */
  const struct route_table *table;
  struct route **routes; /* those that apply to it, file order */
  uint32_t route_count;
};

/* snapshot is the index of one generation: never pinned by streams; a worker uses its current one
 * within a turn, so an old one goes as soon as every worker runs the new one. */
struct snapshot {
  uint64_t generation;
  uint32_t revision; /* counts publications of the same generation (addresses resolved) */
  struct registry *registry;
  struct arena arena;
  struct snapshot_listener *listeners;
  uint32_t listener_count;
  struct route **routes; /* refs */
  uint32_t route_count;
  struct pool **pools; /* refs */
  uint32_t pool_count;
  uint32_t max_connections; /* after clamping */
  uint32_t drain_ms;
};

/* snapshot_new gives an empty index; config/ fills it. snapshot_free drops its refs. */
struct snapshot *snapshot_new(struct registry *r);
void snapshot_free(struct snapshot *s);
/* snapshot_mark_published sets the `removed` flags of route and listener states: true for those that
 * only before (may be NULL) has, false for those of after. Control thread, at publication. */
void snapshot_mark_published(const struct snapshot *before, const struct snapshot *after);
struct snapshot_listener *snapshot_find_listener(const struct snapshot *s, struct span name);
struct pool *snapshot_find_pool(const struct snapshot *s, struct span name);
struct route *snapshot_find_route(const struct snapshot *s, struct span name);

/* Constructors by identity: the live object of that identity with a new ref, or a new one. */
struct route_state *route_state_get(struct registry *r, struct span name);
struct pool_state *pool_state_get(struct registry *r, struct span name);
struct listener_state *listener_state_get(struct registry *r, struct span name);
struct endpoint *endpoint_get(struct registry *r, struct span pool, struct span text,
                              const struct addr *resolved);
/* Settings: new object with one ref, owning no others yet; their fini drops what they point at. */
struct route *route_new(struct registry *r, struct span name);
struct pool *pool_new(struct registry *r, struct span name);
struct listener *listener_new(struct registry *r, struct span name);

#endif
