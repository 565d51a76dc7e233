/* compile.c: conf to snapshot: pools with their endpoints, policies, routes, listeners with their
 * route tables. An object of the generation before is taken again when its content is the same, so
 * that nothing that did not change is touched. Names and certificates come through conf_hooks.
 * Runs in the compile thread and in the CLI. */
#include "compile_priv.h"

#define CONNECTIONS_AUTO 100000u

/* ---- content ---- */

uint64_t text_hash(uint64_t hash, struct span s) { return hash_mix(hash, hash_bytes(s)); }

uint64_t row_hash(const struct conf_row *row) {
  const struct scope *scope = scope_get(row->scope);
  uint64_t hash = hash_bytes(row->name);
  for (uint32_t i = 0; i < scope->count; i++) {
    const struct option *option = option_get((enum option_id)(scope->first + i));
    const void *member = row_member(row, option);
    if (option->type == TYPE_MAP || option->type == TYPE_ROWS) continue;
    hash = hash_mix(hash, i);
    if (option->flags & OPTION_LIST) {
      const struct conf_list *list = member;
      for (uint32_t k = 0; k < list->count; k++) hash = text_hash(hash, list->items[k].text);
    } else {
      struct value value = value_load(option, member);
      hash = text_hash(hash_mix(hash, value.number), value.text);
    }
  }
  return hash;
}

static struct span own(struct object *o, struct span s) { return arena_copy(&o->arena, s, NULL); }

/* ---- pools ---- */

void member_add(struct compile *c, struct members *m, const struct conf_pool *pool,
                const struct pool_member *like, struct span text, const struct addr *addr) {
  struct endpoint *endpoint = endpoint_get(c->registry, pool->row.name, text, addr);
  for (uint32_t i = 0; i < m->count; i++)
    if (m->rows[i].endpoint == endpoint) { /* a resolver may name an address twice */
      object_unref(c->registry, &endpoint->obj);
      return;
    }
  if (m->count == m->cap) {
    m->cap = m->cap ? m->cap * 2 : 8;
    m->rows = mem_grow(m->rows, m->cap, sizeof *m->rows);
  }
  endpoint_announce(endpoint, pool->health.on);
  m->rows[m->count] = *like;
  m->rows[m->count++].endpoint = endpoint;
  m->hash = hash_mix(m->hash, endpoint->obj.id);
  uint64_t rank = (uint64_t)like->priority << 1 | (uint64_t)like->backup;
  m->hash = hash_mix(m->hash, (uint64_t)like->weight << 8 | rank);
}

/* tlvs_of is the set of proxy_tlv_bit: they are the words, in their order. */
static uint8_t tlvs_of(const struct conf_pool *row) {
  const char *words = option_get(OPTION_POOL_PROXY_TLVS)->words;
  unsigned set = 0;
  for (uint32_t i = 0; i < row->proxy_tlvs.count; i++) {
    int word = word_find(words, row->proxy_tlvs.items[i].text);
    check(word >= 0);
    set |= 1u << word;
  }
  return (uint8_t)set;
}

static void pool_fill(struct compile *c, struct pool *pool, const struct conf_pool *row,
                      const struct members *m) {
  pool->state = pool_state_get(c->registry, row->row.name);
  pool->members = arena_get(&pool->obj.arena, (m->count + 1) * sizeof *pool->members);
  if (m->count) memcpy(pool->members, m->rows, m->count * sizeof *pool->members);
  pool->member_count = m->count;
  pool->unresolved = m->unresolved;
  pool->discover = discover_content(row);
  pool->tcp = row->tcp;
  pool->streams = row->streams;
  pool->udp = row->udp;
  pool->timeouts = row->timeouts;
  pool->connections = row->connections;
  pool->connections.tlvs = tlvs_of(row);
  compile_retry(&pool->retry, row);
  pool->priority_header = own(&pool->obj, row->priority_header);
  pool->outlier = row->outlier;
  compile_health(pool, row);
  pool->breaker = row->breaker;
  pool->concurrency = row->concurrency;
  pool->limits = row->limits;
  balance_fill(pool, row);
}

/* compile_pool: false after a fault; the pool is there all the same, for what follows. */
static bool compile_pool(struct compile *c, const struct conf_pool *row) {
  struct members m = {.hash = row_hash(&row->row)};
  bool good = true;
  members_find(c, &m, row);
  uint64_t content = hash_mix(hash_mix(m.hash, m.unresolved), balance_content(row));
  uint64_t serves = (uint64_t)row->tcp | (uint64_t)row->streams << 1 | (uint64_t)row->udp << 2;
  content = hash_mix(hash_mix(content, serves), upstream_tls_content(c, row));
  struct pool *pool = names_find(&c->old_pools, row->row.name);
  if (pool && pool->obj.content == content) {
    object_ref(c->registry, &pool->obj);
    for (uint32_t i = 0; i < m.count; i++) object_unref(c->registry, &m.rows[i].endpoint->obj);
  } else {
    pool = pool_new(c->registry, row->row.name);
    pool->obj.content = content;
    pool_fill(c, pool, row, &m);
    good = upstream_tls_fill(c, pool, row);
  }
  mem_free(m.rows);
  c->snapshot->pools[c->snapshot->pool_count++] = pool;
  names_put(&c->pools, pool->obj.name, pool);
  return good;
}

/* ---- routes ---- */

static void route_methods(struct route *route, const struct conf_list *list) {
  struct span *extra = arena_get(&route->obj.arena, (list->count + 1) * sizeof *extra);
  for (uint32_t i = 0; i < list->count; i++) {
    enum http_method method = http_method_find(list->items[i].text);
    if (method == HTTP_METHOD_OTHER)
      extra[route->extra_method_count++] = own(&route->obj, list->items[i].text);
    else
      route->methods |= 1u << method;
  }
  route->extra_methods = extra;
}

static void route_mirror(struct compile *c, struct route *route, const struct conf_route *row) {
  route->mirror.ppm = row->mirror_ppm;
  if (!row->mirror_pool.len) return;
  route->mirror.pool = names_find(&c->pools, row->mirror_pool);
  check(route->mirror.pool); /* check_routes.c saw to it */
  object_ref(c->registry, &route->mirror.pool->obj);
}

static void route_fill(struct compile *c, struct route *route, const struct conf_route *row,
                       struct pool *pool) {
  struct object *o = &route->obj;
  route->state = route_state_get(c->registry, row->label);
  route->path_kind = row->path.len    ? ROUTE_PATH_EXACT
                     : row->regex.len ? ROUTE_PATH_REGEX
                                      : ROUTE_PATH_PREFIX;
  route->path = own(o, route_path(row));
  compile_rules(route, row);
  route->strip_prefix = row->strip_prefix;
  struct span *hosts = arena_get(&o->arena, (row->hosts.count + 1) * sizeof *hosts);
  for (uint32_t i = 0; i < row->hosts.count; i++) hosts[i] = own(o, row->hosts.items[i].text);
  route->hosts = hosts;
  route->host_count = row->hosts.count;
  route->priority = row->priority;
  route_mirror(c, route, row);
  route_methods(route, &row->methods);
  route_policies(c, route, row);
  route_action(c, route, row, pool);
}

static struct span route_origin(struct compile *c, const struct conf_route *row) {
  return arena_printf(&c->arena, SPAN_FMT ":%u", SPAN_ARG(row->row.at.src->path),
                      row->row.at.line);
}

/* A route is the same only if its place is: order breaks ties, and messages name the line. */
static void compile_route(struct compile *c, struct conf_route *row) {
  struct snapshot *s = c->snapshot;
  uint64_t content = text_hash(row_hash(&row->row), row->file_bytes);
  content = hash_mix(hash_mix(content, rules_hash(row)), split_content(row));
  uint32_t order = s->route_count;
  struct span origin = route_origin(c, row);
  struct pool *pool = row->pool.len ? names_find(&c->pools, row->pool) : NULL;
  check(!row->pool.len || pool); /* check_routes.c saw to it */
  struct pool *mirror =
      row->mirror_pool.len ? names_find(&c->pools, row->mirror_pool) : NULL;
  struct route *route = names_find(&c->old_routes, row->label);
  if (route && route->obj.content == content && route->order == order && route->pool == pool &&
      split_same(c, route, row) && route->mirror.pool == mirror &&
      route_policies_same(c, route, row) &&
      span_eq(route->origin, origin)) {
    object_ref(c->registry, &route->obj);
  } else {
    route = route_new(c->registry, row->label);
    route->obj.content = content;
    route->order = order;
    route->origin = own(&route->obj, origin);
    route_fill(c, route, row, pool);
  }
  s->routes[s->route_count++] = route;
}

/* ---- the index ---- */

static uint32_t connections(const struct compile *c) {
  uint32_t wanted = c->conf->root.max_connections, most = c->hooks->connections_max;
  if (!most) return wanted ? wanted : CONNECTIONS_AUTO;
  return wanted && wanted < most ? wanted : most;
}

static void before_maps(struct compile *c, const struct snapshot *before) {
  if (!before) return;
  for (uint32_t i = 0; i < before->pool_count; i++)
    names_put(&c->old_pools, before->pools[i]->obj.name, before->pools[i]);
  for (uint32_t i = 0; i < before->policy_count; i++)
    names_put(&c->old_policies, before->policies[i]->obj.name, before->policies[i]);
  for (uint32_t i = 0; i < before->route_count; i++)
    names_put(&c->old_routes, before->routes[i]->obj.name, before->routes[i]);
  for (uint32_t i = 0; i < before->listener_count; i++)
    names_put(&c->old_listeners, before->listeners[i].listener->obj.name,
              before->listeners[i].listener);
}

static void compile_table(struct compile *c, const struct conf_listener *row,
                          struct snapshot_listener *out) {
  struct snapshot *s = c->snapshot;
  out->routes = arena_get(&s->arena, (s->route_count + 1) * sizeof *out->routes);
  uint32_t i = 0;
  rows_each(&c->conf->root.routes, struct conf_route, route) {
    if (route_on(route, row)) out->routes[out->route_count++] = s->routes[i];
    i++;
  }
  out->table = route_table_new(&s->arena, out->routes, out->route_count);
}

static bool compile_all(struct compile *c) {
  const struct conf_root *root = &c->conf->root;
  struct snapshot *s = c->snapshot;
  s->pools = arena_get(&s->arena, (root->pools.count + 1) * sizeof *s->pools);
  s->policies = arena_get(&s->arena, (root->policies.count + 1) * sizeof *s->policies);
  s->routes = arena_get(&s->arena, (root->routes.count + 1) * sizeof *s->routes);
  s->listeners = arena_get(&s->arena, (root->listeners.count + 1) * sizeof *s->listeners);
  s->drain_ms = root->drain_ms;
  s->overload = root->overload;
  s->max_connections = connections(c);
  bool good = true;
  rows_each(&root->pools, struct conf_pool, pool) good = compile_pool(c, pool) && good;
  rows_each(&root->policies, struct conf_policy, policy) compile_policy(c, policy);
  rows_each(&root->routes, struct conf_route, route) compile_route(c, route);
  rows_each(&root->listeners, struct conf_listener, row) {
    struct listener *listener = compile_listener(c, row); /* each, so that all faults are found */
    good = good && listener;
    if (!listener) continue;
    struct snapshot_listener *out = &s->listeners[s->listener_count++];
    out->listener = listener;
    compile_table(c, row, out);
  }
  return good;
}

struct snapshot *conf_compile(const struct conf *conf, const struct conf_hooks *hooks,
                              struct registry *registry, const struct snapshot *before,
                              struct conf_faults *faults) {
  struct compile c = {.conf = conf, .hooks = hooks, .registry = registry, .faults = faults};
  arena_init(&c.arena, ARENA_PAGES, 0);
  c.pools.arena = c.policies.arena = &c.arena;
  c.old_pools.arena = c.old_policies.arena = c.old_routes.arena = c.old_listeners.arena = &c.arena;
  c.snapshot = snapshot_new(registry);
  before_maps(&c, before);
  bool good = compile_all(&c) && compile_tables(&c);
  arena_reset(&c.arena);
  regex_sweep();
  if (good) return c.snapshot;
  snapshot_free(c.snapshot);
  return NULL;
}
