/* proxy_kit.h: one worker on a simulated loop, a listener with a few routes and one raw client,
 * for the tests of proxy/ that look at exact bytes and records. The pool has no endpoint: nothing
 * is sent upstream here (tests/sim does that). */
#ifndef TESTS_UNIT_PROXY_KIT_H
#define TESTS_UNIT_PROXY_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/proxy_priv.h"
#include "weir/base/mem.h"
#include "weir/io/sim.h"

enum { KIT_ROUTES = 8 };

struct kit {
  struct sim *sim;
  struct registry *registry;
  struct worker *w;
  struct spsc log;
  struct snapshot *snapshot;
  struct listener *listener;
  struct addr at;
  struct text got; /* what the client received */
  bool closed, reset;
  bool no_access;     /* set before kit_init */
  uint32_t log_bytes; /* size of the ring; 0: 64 KiB */
  uint32_t sample_ppm;
};

static inline int kit_turn(void *ctx) {
  struct worker *w = ctx;
  if (worker_stopped(w)) return loop_run_turn(w->loop, 0);
  if (!worker_turn(w)) atomic_store(&w->has_stopped, true);
  if (w->wake_pending) loop_wake(w->loop);
  return 0;
}

static inline void kit_post(struct kit *k, const struct worker_msg *msg) {
  struct worker_msg *m = mem_alloc(sizeof *m);
  *m = *msg;
  worker_post(k->w, m);
}

/* kit_route adds one; fill in what it is. Before kit_start. */
static inline struct route *kit_route(struct kit *k, const char *name, const char *path) {
  struct route *r = route_new(k->registry, span_str(name));
  r->state = route_state_get(k->registry, span_str(name));
  r->path_kind = ROUTE_PATH_PREFIX;
  r->path = span_str(path);
  r->action = ROUTE_RESPOND;
  r->status = 200;
  r->respond.content_type = SPAN_LIT("text/plain");
  r->order = k->snapshot->route_count;
  assert_true(k->snapshot->route_count < KIT_ROUTES);
  k->snapshot->routes[k->snapshot->route_count++] = r;
  return r;
}

/* kit_pool_route sends a path to a pool of no endpoints. */
static inline struct pool *kit_pool_route(struct kit *k, const char *name, const char *path) {
  struct route *r = kit_route(k, name, path);
  r->action = ROUTE_POOL;
  r->pool = pool_new(k->registry, span_str(name));
  r->pool->state = pool_state_get(k->registry, span_str(name));
  return r->pool;
}

static inline void kit_init(struct kit *k) {
  k->sim = sim_new(3, NULL);
  k->registry = registry_new(1);
  if (!k->log_bytes) k->log_bytes = 65536;
  if (!k->sample_ppm) k->sample_ppm = 1000000;
  spsc_init(&k->log, k->log_bytes);
  struct loop_config lc = {.conns_max = 64, .buffer_bytes = 4096, .seed = 1};
  struct worker_config wc = {.workers = 1, .loop = sim_loop_new(k->sim, &lc), .log = &k->log,
                             .access_log = !k->no_access, .sample_ppm = k->sample_ppm,
                             .streams_max = 32};
  k->w = worker_new(&wc);
  sim_loop_drive(k->w->loop, kit_turn, k->w);
  struct snapshot *s = k->snapshot = snapshot_new(k->registry);
  s->max_connections = 100;
  s->routes = arena_zalloc(&s->arena, KIT_ROUTES * sizeof *s->routes);
  s->listeners = arena_zalloc(&s->arena, sizeof *s->listeners);
  assert_true(s->routes && s->listeners);
  struct listener *l = k->listener = listener_new(k->registry, SPAN_LIT("web"));
  l->state = listener_state_get(k->registry, SPAN_LIT("web"));
  l->timeouts = (struct listener_timeouts){.header_ms = 10000, .body_ms = 30000, .send_ms = 30000,
                                           .idle_ms = 60000};
  l->protocols = LISTENER_HTTP_1_1;
  l->limits = (struct listener_limits){.header_bytes = 8192, .headers = 20, .uri_bytes = 4096};
}

static inline void kit_start(struct kit *k) {
  struct snapshot *s = k->snapshot;
  s->listeners[s->listener_count++] = (struct snapshot_listener){
      k->listener, route_table_new(&s->arena, s->routes, s->route_count), s->routes,
      s->route_count};
  kit_post(k, &(struct worker_msg){.kind = WORKER_INSTALL, .snapshot = s, .seq = 1});
  assert_true(addr_parse(SPAN_LIT("127.0.0.1:8080"), &k->at));
  kit_post(k, &(struct worker_msg){.kind = WORKER_LISTEN, .state = k->listener->state,
                                   .fd = sim_listen_fd(k->sim, &k->at)});
  (void)sim_run(k->sim, 20);
}

static inline void kit_on_data(struct sim_peer *p, struct span bytes, void *ctx) {
  (void)p;
  text_put(&((struct kit *)ctx)->got, bytes);
}

static inline void kit_on_close(struct sim_peer *p, bool reset, void *ctx) {
  struct kit *k = ctx;
  (void)p;
  k->closed = true;
  k->reset = reset;
}

/* kit_ask sends raw bytes on a connection of its own and FIN; all that comes back until the end.
 */
static inline struct span kit_ask(struct kit *k, struct span raw, bool fin) {
  k->got.len = 0;
  k->closed = k->reset = false;
  struct sim_peer *p = sim_peer_connect(k->sim, &k->at);
  sim_peer_on_data(p, kit_on_data, kit_on_close, k);
  sim_peer_write(p, raw);
  if (fin) sim_peer_shutdown(p);
  for (int i = 0; i < 5000 && !k->closed; i++) (void)sim_step(k->sim);
  assert_true(k->closed);
  sim_peer_free(p);
  return text_span(&k->got);
}

/* kit_record takes the oldest access record; texts point into *hold (4 KiB). */
static inline bool kit_record(struct kit *k, struct record_access *r, struct span *texts,
                              char *hold) {
  for (;;) {
    struct span s = spsc_peek(&k->log);
    if (!s.len) return false;
    bool access = s.ptr[0] == RECORD_ACCESS;
    size_t at = sizeof *r;
    if (access) {
      assert_true(s.len >= at && s.len - at <= 32768);
      memcpy(r, s.ptr, at);
      memcpy(hold, s.ptr + at, s.len - at);
    }
    for (size_t i = 0, off = 0; access && i < TEXT_COUNT; off += r->text_len[i++])
      texts[i] = span_of(hold + off, r->text_len[i]);
    spsc_release(&k->log);
    if (access) return true;
  }
}

static inline void kit_fini(struct kit *k) {
  kit_post(k, &(struct worker_msg){.kind = WORKER_STOP});
  for (int i = 0; i < 5000 && !worker_stopped(k->w); i++) (void)sim_step(k->sim);
  assert_true(worker_stopped(k->w));
  worker_free(k->w);
  assert_int_equal(sim_fds_open(k->sim), 0);
  snapshot_free(k->snapshot);
  registry_free(k->registry);
  spsc_fini(&k->log);
  text_fini(&k->got);
  sim_free(k->sim);
}

#endif
