/* proxy_conf.c: snapshots from a few rows, as config/ would build them: state by identity,
 * settings shared with the generation before when their rows are equal (by a throw of the dice:
 * both must work). Old generations go as in control/: when every worker has acknowledged the new
 * one. */
#include "proxy_world.h"
#include "weir/base/mem.h"

void world_conf_init(struct world_conf *conf) {
  *conf = (struct world_conf){.max_connections = 1000, .drain_ms = 5000};
  conf->timeouts = (struct listener_timeouts){.handshake_ms = 10000,
                                              .header_ms = 10000,
                                              .body_ms = 30000,
                                              .send_ms = 30000,
                                              .idle_ms = 60000,
                                              .tunnel_ms = 3600000,
                                              .half_close_ms = 30000};
  conf->limits = (struct listener_limits){
      .header_bytes = 65536, .headers = 100, .uri_bytes = 16384, .body_bytes = 16u << 20};
  conf->protocols = LISTENER_HTTP_1_1;
  conf->h2 = (struct listener_h2){.streams = 100,
                                  .stream_window = 65536,
                                  .window = 1u << 20,
                                  .resets = 100,
                                  .glitches = 1000};
  conf->listeners[0] = "web";
  struct world_pool *pool = &conf->pools[0];
  pool->name = "app";
  pool->origins = 3;
  pool->timeouts = (struct pool_timeouts){2000, 30000, 60000};
  pool->connections = (struct pool_connections){.keepalive_ms = 60000,
                                                .keepalive_max = 64,
                                                .queue = 1000,
                                                .queue_timeout_ms = 5000};
  pool->spread = (struct pool_spread){
      .hash = {.source = HASH_PATH}, .bound_percent = 125, .overflow_percent = 70};
  pool->retry = (struct pool_retry){.attempts = 4,
                                    .on = RETRY_CONNECT | RETRY_RESET,
                                    .backoff_base_ms = 25,
                                    .backoff_max_ms = 250,
                                    .budget_percent = 20,
                                    .budget_min = 1000};
  conf->routes[0] = (struct world_route){.name = "all", .path = "/", .pool = "app"};
}

void world_hold(struct world_conf *conf, uint64_t seed) {
  static const uint32_t sizes[] = {0, 1, 0, 60, 0, 3000, 0, 100000, 0, 1u << 20};
  conf->routes[0].buffer_bytes = sizes[seed % array_count(sizes)];
}

static struct pool *make_pool(struct world *w, const struct world_pool *row) {
  struct span name = span_str(row->name);
  struct pool *pool = pool_new(w->registry, name);
  pool->state = pool_state_get(w->registry, name);
  pool->members = arena_zalloc(&pool->obj.arena, SIM_ORIGINS * sizeof *pool->members);
  check(pool->members != NULL);
  for (uint32_t n = 0; n < SIM_ORIGINS; n++) {
    uint32_t i = row->reversed ? SIM_ORIGINS - 1 - n : n;
    if (!((row->origins >> i) & 1)) continue;
    char text[32];
    struct buf b = buf_of(text, sizeof text);
    addr_write(&w->origins[i].at, &b);
    pool->members[pool->member_count++] = (struct pool_member){
        .endpoint = endpoint_get(w->registry, name, buf_span(&b), &w->origins[i].at),
        .weight = 1,
        .backup = (row->backups >> i) & 1};
  }
  pool->unresolved = row->unresolved;
  pool->balance = row->balance;
  pool->timeouts = row->timeouts;
  pool->connections = row->connections;
  pool->outlier = row->outlier;
  pool->breaker = row->breaker;
  pool->concurrency = row->concurrency;
  pool->limits = (struct pool_limits){65536, 100};
  pool->retry = row->retry;
  pool->priority_header = arena_copy(&pool->obj.arena, span_str(row->priority_header), NULL);
  pool->spread = row->spread;
  pool_prepare(pool);
  struct sticky_settings sticky = {.cookie = span_str(row->sticky), .path = SPAN_LIT("/")};
  if (row->sticky) sticky_prepare(pool, &sticky, SPAN_LIT("a key that is 32 bytes in length"));
  return pool;
}

static struct route *make_route(struct world *w, struct snapshot *s, const struct world_route *row,
                                uint32_t order) {
  struct route *r = route_new(w->registry, span_str(row->name));
  r->state = route_state_get(w->registry, span_str(row->name));
  r->order = order;
  r->path_kind = row->exact ? ROUTE_PATH_EXACT : ROUTE_PATH_PREFIX;
  r->path = arena_copy(&r->obj.arena, span_str(row->path), NULL);
  r->strip_prefix = row->strip;
  r->methods = row->methods;
  r->timeout_ms = row->timeout_ms;
  r->priority = row->priority;
  if (row->mirror) {
    r->mirror = (struct route_mirror){snapshot_find_pool(s, span_str(row->mirror)),
                                      row->mirror_ppm};
    check(r->mirror.pool != NULL);
    object_ref(w->registry, &r->mirror.pool->obj);
  }
  r->settings = (struct policy_settings){.set = row->buffer_bytes ? POLICY_BUFFER : 0,
                                         .buffer_bytes = row->buffer_bytes};
  r->status = row->status;
  r->respond.body = arena_copy(&r->obj.arena, span_str(row->body), NULL);
  r->respond.content_type = SPAN_LIT("text/plain");
  r->redirect.to = arena_copy(&r->obj.arena, span_str(row->to), NULL);
  r->action = row->to ? ROUTE_REDIRECT : ROUTE_RESPOND;
  if (!row->pool) return r;
  r->action = ROUTE_POOL;
  r->pool = snapshot_find_pool(s, span_str(row->pool));
  check(r->pool != NULL);
  object_ref(w->registry, &r->pool->obj);
  return r;
}

/* keep gives the settings object of the generation before if it may be shared. */
static struct object *keep(struct world *w, struct object *before, bool equal) {
  if (!before || !equal || world_chance(w, 30)) return NULL;
  object_ref(w->registry, before);
  return before;
}

static void build_pools(struct world *w, struct snapshot *s, const struct world_conf *conf) {
  s->pools = arena_zalloc(&s->arena, SIM_ROWS * sizeof *s->pools);
  check(s->pools != NULL);
  for (uint32_t i = 0; i < SIM_ROWS; i++) {
    const struct world_pool *row = &conf->pools[i], *was = &w->conf.pools[i];
    if (!row->name) continue;
    struct pool *old = w->current ? snapshot_find_pool(w->current, span_str(row->name)) : NULL;
    struct object *o = keep(w, (struct object *)old, memcmp(row, was, sizeof *row) == 0);
    s->pools[s->pool_count++] = o ? (struct pool *)o : make_pool(w, row);
  }
}

static void build_routes(struct world *w, struct snapshot *s, const struct world_conf *conf) {
  s->routes = arena_zalloc(&s->arena, SIM_ROWS * sizeof *s->routes);
  check(s->routes != NULL);
  for (uint32_t i = 0; i < SIM_ROWS; i++) {
    const struct world_route *row = &conf->routes[i], *was = &w->conf.routes[i];
    if (!row->name) continue;
    struct route *old = w->current ? snapshot_find_route(w->current, span_str(row->name)) : NULL;
    bool same = memcmp(row, was, sizeof *row) == 0 && old &&
                (!row->pool || old->pool == snapshot_find_pool(s, span_str(row->pool))) &&
                (!row->mirror || old->mirror.pool == snapshot_find_pool(s, span_str(row->mirror)));
    struct object *o = keep(w, (struct object *)old, same);
    s->routes[s->route_count++] = o ? (struct route *)o : make_route(w, s, row, i);
  }
}

static void trust_peers(struct listener *l) {
  l->trusted = arena_zalloc(&l->obj.arena, sizeof *l->trusted);
  check(l->trusted && addr_net_parse(SPAN_LIT("192.0.2.1"), l->trusted));
  l->trusted_count = 1;
}

static void build_udp(struct world *w, struct snapshot *s, const struct world_conf *conf) {
  struct span name = span_str(conf->udp_name ? conf->udp_name : "dns");
  struct listener *l = listener_new(w->registry, name);
  l->state = listener_state_get(w->registry, name);
  l->serves = SERVES_UDP;
  l->timeouts = conf->timeouts;
  l->limits = conf->limits;
  l->udp = conf->udp_settings;
  l->pool = snapshot_find_pool(s, span_str(conf->udp));
  check(l->pool != NULL);
  object_ref(w->registry, &l->pool->obj);
  s->listeners[s->listener_count++] = (struct snapshot_listener){.listener = l};
}

static void build_listeners(struct world *w, struct snapshot *s, const struct world_conf *conf) {
  s->listeners = arena_zalloc(&s->arena, SIM_ROWS * sizeof *s->listeners);
  check(s->listeners != NULL);
  const struct route_table *table = route_table_new(&s->arena, s->routes, s->route_count);
  for (uint32_t i = 0; i < SIM_ROWS; i++) {
    if (!conf->listeners[i]) continue;
    struct span name = span_str(conf->listeners[i]);
    struct listener *l = listener_new(w->registry, name);
    l->state = listener_state_get(w->registry, name);
    l->timeouts = conf->timeouts;
    l->limits = conf->limits;
    l->protocols = conf->protocols;
    l->h2 = conf->h2;
    l->proxied = conf->proxied;
    if (conf->proxied) trust_peers(l);
    s->listeners[s->listener_count++] = (struct snapshot_listener){
        .listener = l, .table = table, .routes = s->routes, .route_count = s->route_count};
  }
  if (conf->udp) build_udp(w, s, conf);
}

void world_retire(struct world *w, bool all) {
  uint64_t seq = UINT64_MAX;
  for (uint32_t i = 0; i < w->workers && !all; i++)
    if (worker_seq(w->worker[i]) < seq) seq = worker_seq(w->worker[i]);
  uint32_t left = 0;
  for (uint32_t i = 0; i < w->old_count; i++) {
    if (w->old[i].seq <= seq) snapshot_free(w->old[i].snapshot);
    else w->old[left++] = w->old[i];
  }
  bool some = left != w->old_count;
  w->old_count = left;
  if (some) (void)object_reap(w->registry);
}

void world_install(struct world *w, const struct world_conf *conf) {
  struct snapshot *s = snapshot_new(w->registry);
  s->generation = w->current ? w->current->generation + 1 : 1;
  s->max_connections = conf->max_connections;
  s->drain_ms = conf->drain_ms;
  s->overload = conf->overload;
  build_pools(w, s, conf);
  build_routes(w, s, conf);
  build_listeners(w, s, conf);
  snapshot_mark_published(w->current, s);
  uint64_t seq = ++w->seq;
  for (uint32_t i = 0; i < w->workers; i++)
    world_post(w, i, &(struct worker_msg){.kind = WORKER_INSTALL, .snapshot = s, .seq = seq});
  if (w->current) {
    check(w->old_count < SIM_SNAPSHOTS);
    w->old[w->old_count++] = (struct world_retired){w->current, seq};
  }
  w->current = s;
  w->conf = *conf;
}
