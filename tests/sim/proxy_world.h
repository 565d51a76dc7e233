/* proxy_world.h: the whole proxy in the simulated world: workers on sim loops, snapshots built by
 * hand, origins that do what a plan says, clients that check what they get. A plan is one request
 * and its response, named by its number in the path ("/r/17"): the origin and the client of it
 * both read the plan, so that any byte that is lost, changed, repeated or given to the wrong one
 * is seen. Helpers of sim_proxy*.c; one seed, one world. */
#ifndef TESTS_SIM_PROXY_WORLD_H
#define TESTS_SIM_PROXY_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/proxy_priv.h"
#include "proxy_plan.h"
#include "weir/base/hash.h"
#include "weir/io/sim.h"

enum { SIM_WORKERS = 3, SIM_ORIGINS = 4, SIM_PLANS = 2048, SIM_SNAPSHOTS = 64, SIM_ROWS = 8 };

struct world;

struct origin {
  struct world *w;
  uint32_t index;
  struct addr at;
  bool up;
  struct list conns;
  uint32_t conn_count, accepted;
  uint32_t echoed; /* bytes echoed in tunnels */
  bool shadow;     /* of a mirror's pool: what comes are copies */
  size_t window;   /* bytes that a connection reads in all; 0: without bound */
};

/* client is one connection to a worker with plans to carry out in order. */
struct client {
  struct list link; /* world.clients */
  struct world *w;
  struct sim_peer *peer; /* NULL: gone */
  uint32_t worker;
  uint32_t plans[64];
  uint32_t count, sent, got; /* plans queued, written, with their outcome */
  bool pipeline;   /* writes all at once, else one after another */
  bool keep;       /* stays open when all is done */
  struct span header; /* comes before everything else, a PROXY header mostly */
  bool half_close; /* sends FIN as soon as all is written, and goes on reading */
  bool fin, closed, reset;
  uint32_t window; /* bytes read at a time; 0: without bound */
  bool stuck;      /* reads so much and no more */
  struct text in;
  size_t at;       /* bytes of `in` that are used up */
  uint8_t state;   /* enum client_state */
  struct http_response resp;
  uint64_t left;
  struct h1_chunked chunked;
  uint32_t interims;
  /* tunnels */
  uint64_t tunnel_sent, tunnel_got, tunnel_goal;
  bool tunnel_ended;
};

/* ---- what a snapshot is made of; zeroed rows are not there ---- */

struct world_pool {
  const char *name;
  uint32_t origins, backups; /* sets of origin indices */
  bool reversed;             /* the last origin is the first member */
  const char *sticky;        /* the name of its cookie; NULL: none */
  uint8_t balance;
  uint32_t unresolved;
  struct pool_timeouts timeouts;
  struct pool_connections connections;
  struct pool_outlier outlier;
  struct pool_spread spread;
  struct pool_retry retry;
  const char *priority_header;
  struct pool_breaker breaker;
  struct pool_concurrency concurrency;
};

struct world_route {
  const char *name, *path, *pool; /* pool NULL: respond */
  bool exact, strip;
  uint16_t status;
  const char *body, *to;
  uint32_t methods, timeout_ms;
  uint8_t priority;
  const char *mirror; /* a pool */
  uint32_t mirror_ppm;
  uint32_t buffer_bytes; /* policies.*.buffer */
};

struct world_conf {
  struct world_pool pools[SIM_ROWS];
  struct world_route routes[SIM_ROWS];
  const char *listeners[SIM_ROWS];
  struct listener_timeouts timeouts;
  struct listener_limits limits;
  uint32_t protocols; /* of every listener */
  struct listener_h2 h2;
  uint8_t proxied; /* enum listener_proxied of every listener; whoever connects is trusted */
  const char *udp; /* the pool of a listener of UDP; NULL: there is none */
  const char *udp_name; /* of that listener; NULL: "dns" */
  struct listener_udp udp_settings;
  uint32_t max_connections, drain_ms;
  uint32_t streams_max; /* requests of a worker at once, for world_new; 0: 1024 */
  struct overload_settings overload;
};

struct world_retired {
  struct snapshot *snapshot;
  uint64_t seq;
};

struct world {
  struct sim *sim;
  uint64_t seed;
  struct registry *registry;
  struct worker_group *group;
  uint32_t workers;
  struct worker *worker[SIM_WORKERS];
  bool stopped[SIM_WORKERS];
  struct spsc logs[SIM_WORKERS];
  uint64_t seq;
  struct world_conf conf; /* of current */
  struct snapshot *current;
  struct world_retired old[SIM_SNAPSHOTS];
  uint32_t old_count;
  struct origin origins[SIM_ORIGINS];
  struct list clients;
  struct plan plans[SIM_PLANS];
  uint32_t plan_count, up_order;
  uint32_t ends[END_COUNT]; /* by access records */
  uint32_t other_ends[END_COUNT]; /* of those that name no plan */
  uint32_t errors; /* events that are errors */
  uint64_t steps;
  bool capped;       /* caps are the same in all generations: permits never pass them */
  size_t iobufs_max; /* most bytes borrowed by one loop at any step */
  char why[256]; /* first fault that a peer saw */
};

/* ---- proxy_world.c ---- */
/* world_seed gives the next seed of count, from 0 on entry: 1, 2, ...; WEIR_SIM_SEED says where to
 * begin, WEIR_SIM_COUNT how many (to replay one, or to look further). False: no more. */
bool world_seed(uint64_t *seed, uint64_t count);
struct world *world_new(uint64_t seed, uint32_t workers, const struct sim_faults *faults,
                        const struct world_conf *conf);
/* world_step runs one event and looks at what must always hold. */
void world_step(struct world *w);
/* world_run steps until done(w), or fails after max steps. */
void world_run(struct world *w, bool (*done)(struct world *w), uint64_t max);
/* world_for runs for a time of the world's clock. */
void world_for(struct world *w, uint64_t ms);
/* world_end stops the workers, frees all and checks that nothing is left. */
void world_end(struct world *w);
void world_post(struct world *w, uint32_t worker, const struct worker_msg *msg);
struct addr world_addr(const char *text);
/* world_fault notes a fault that a peer saw; the step fails with it. */
void world_fault(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t world_draw(struct world *w, uint64_t below);
bool world_chance(struct world *w, uint32_t percent);
bool world_clients_done(struct world *w);

/* ---- proxy_conf.c ---- */
/* world_conf_init: one listener "web", pool "app" on origins 0 and 1, route "/" to it; finite
 * timeouts as in a real configuration. */
void world_conf_init(struct world_conf *conf);
/* world_hold lets some worlds keep request bodies before they choose an endpoint: none, less than
 * most bodies, more than all. */
void world_hold(struct world_conf *conf, uint64_t seed);
/* world_install makes conf the current generation; old ones go when no worker runs them. */
void world_install(struct world *w, const struct world_conf *conf);
void world_retire(struct world *w, bool all);

/* ---- proxy_origin.c ---- */
void origin_up(struct origin *o);
/* origin_down stops listening and, when hard, resets what is open. */
void origin_down(struct origin *o, bool hard);
/* origin_close_idle ends connections that serve nothing just now, as a server's keepalive does. */
uint32_t origin_close_idle(struct origin *o);
/* origin_release answers what the origin has let stall. */
void origin_release(struct origin *o);

/* ---- proxy_client.c ---- */
struct client *client_new(struct world *w, uint32_t worker);
void client_add(struct client *c, const struct plan *p);
/* client_start connects and writes what may be written. */
void client_start(struct client *c);
/* client_tick lets a slow reader read on, so much per step. */
void client_tick(struct client *c);
void client_write(struct client *c, struct span raw);
void client_end(struct client *c, bool reset);
/* client_tunnel sends through its tunnel up to goal bytes in all, which come back as an echo. */
void client_tunnel(struct client *c, uint64_t goal);
bool client_done(const struct client *c);
void client_free(struct client *c);

#endif
