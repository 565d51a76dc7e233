/* snapshot.c: constructors of every kind of object, and the index of one generation. Settings drop
 * what they point at in their fini; state frees its per-worker rows. It compiles nothing (config/)
 * and matches nothing (route_table.c). Called by config/ and control/. */
#include "object_priv.h"
#include "weir/base/mem.h"
#include "weir/model/model.h"

/* ---- state ---- */

static void *rows_new(const struct object *o, size_t size) {
  return mem_alloc_aligned(64, (size_t)o->workers * size);
}

struct route_state *route_state_get(struct registry *r, struct span name) {
  return (struct route_state *)object_get(
      r, &(struct object_identity){
             .kind = OBJECT_ROUTE_STATE, .size = sizeof(struct route_state), .name = name});
}

static void pool_state_fini(struct object *o) {
  struct pool_state *state = (struct pool_state *)o;
  check(atomic_load(&state->waiting) == 0);
  mem_free(state->rows);
}

static void pool_state_init(struct object *o, const void *key) {
  (void)key;
  struct pool_state *state = (struct pool_state *)o;
  state->rows = rows_new(o, sizeof *state->rows);
  for (uint32_t i = 0; i < o->workers; i++) list_init(&state->rows[i].waiting_link);
  o->fini = pool_state_fini;
}

struct pool_state *pool_state_get(struct registry *r, struct span name) {
  return (struct pool_state *)object_get(
      r, &(struct object_identity){.kind = OBJECT_POOL_STATE,
                                   .size = sizeof(struct pool_state),
                                   .name = name,
                                   .init = pool_state_init});
}

static void listener_state_fini(struct object *o) {
  struct listener_state *state = (struct listener_state *)o;
  struct tally *clients = atomic_load(&state->clients);
  if (clients) tally_fini(clients);
  mem_free(clients);
  mem_free(state->rows);
}

static void listener_state_init(struct object *o, const void *key) {
  (void)key;
  struct listener_state *state = (struct listener_state *)o;
  state->rows = rows_new(o, sizeof *state->rows);
  o->fini = listener_state_fini;
}

struct listener_state *listener_state_get(struct registry *r, struct span name) {
  return (struct listener_state *)object_get(
      r, &(struct object_identity){.kind = OBJECT_LISTENER_STATE,
                                   .size = sizeof(struct listener_state),
                                   .name = name,
                                   .init = listener_state_init});
}

/* CLIENTS_LEAST: max_connections may grow later, the table does not. */
#define CLIENTS_LEAST 16384u

/* Twice as many as a table is made for: next to no client shares a count with another. */
bool listener_state_count(struct listener_state *state, uint32_t connections) {
  struct tally made;
  if (atomic_load(&state->clients)) return true;
  if (connections < CLIENTS_LEAST) connections = CLIENTS_LEAST;
  if (!tally_init(&made, connections > INT32_MAX / 2 ? INT32_MAX : 2 * connections)) return false;
  struct tally *clients = mem_alloc(sizeof *clients);
  *clients = made;
  atomic_store_explicit(&state->clients, clients, memory_order_release);
  return true;
}

/* endpoint_key: "pool/address" is the name in the registry; the resolved address tells apart. */
struct endpoint_key {
  struct span pool, text;
  const struct addr *resolved;
  struct pool_state **state; /* a ref; taken when the endpoint is new */
};

static bool endpoint_same(const struct object *o, const void *key) {
  const struct endpoint *e = (const struct endpoint *)o;
  const struct endpoint_key *want = key;
  return span_eq(e->pool, want->pool) && span_eq(e->text, want->text) &&
         addr_eq(&e->addr, want->resolved);
}

/* No conn may be left: whoever reaps closed them first (upstream/ keeps a pin while one is open).
 * */
static void endpoint_fini(struct object *o) {
  struct endpoint *e = (struct endpoint *)o;
  for (uint32_t i = 0; i < o->workers; i++)
    check(list_empty(&e->rows[i].idle) && !e->rows[i].tls);
  check(!e->health || !e->health->target);
  mem_free(e->health);
  mem_free(e->rows);
  object_unref(o->registry, &e->pool_state->obj);
}

static void endpoint_init(struct object *o, const void *key) {
  const struct endpoint_key *want = key;
  struct endpoint *e = (struct endpoint *)o;
  char label[sizeof(struct sockaddr_un) + 8];
  struct buf written = buf_of(label, sizeof label);
  e->pool = span_sub(o->name, 0, want->pool.len); /* the name is "pool/text" */
  e->text = span_from(o->name, want->pool.len + 1);
  e->addr = *want->resolved;
  addr_write(&e->addr, &written);
  bool alike = span_eq(buf_span(&written), e->text);
  e->label = alike ? e->text : arena_copy(&o->arena, buf_span(&written), NULL);
  e->rows = rows_new(o, sizeof *e->rows);
  for (uint32_t i = 0; i < o->workers; i++) {
    list_init(&e->rows[i].idle);
    list_init(&e->rows[i].muxes);
    list_init(&e->rows[i].alone);
  }
  e->pool_state = *want->state;
  *want->state = NULL;
  o->fini = endpoint_fini;
}

struct endpoint *endpoint_get(struct registry *r, struct span pool, struct span text,
                              const struct addr *resolved) {
  struct pool_state *state = pool_state_get(r, pool);
  struct endpoint_key key = {.pool = pool, .text = text, .resolved = resolved, .state = &state};
  char *name = mem_printf(SPAN_FMT "/" SPAN_FMT, SPAN_ARG(pool), SPAN_ARG(text));
  struct object *o = object_get(r, &(struct object_identity){.kind = OBJECT_ENDPOINT,
                                                             .size = sizeof(struct endpoint),
                                                             .name = span_str(name),
                                                             .same = endpoint_same,
                                                             .init = endpoint_init,
                                                             .key = &key});
  mem_free(name);
  if (state) object_unref(r, &state->obj);
  return (struct endpoint *)o;
}

/* ---- settings ---- */

static void unref_any(struct object *holder, struct object *held) {
  if (held) object_unref(holder->registry, held);
}

static void route_fini(struct object *o) {
  struct route *route = (struct route *)o;
  regex_free(route->regex);
  regex_free(route->rewrite.regex);
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++)
    for (uint32_t i = 0; i < route->rules.counts[part]; i++)
      regex_free(route->rules.values[part][i].regex);
  unref_any(o, (struct object *)route->state);
  unref_any(o, (struct object *)route->pool);
  for (uint32_t i = 0; i < route->split_count; i++)
    unref_any(o, (struct object *)route->splits[i].pool);
  for (uint32_t i = 0; i < route->policy_count; i++) unref_any(o, &route->policies[i]->obj);
  unref_any(o, (struct object *)route->mirror.pool);
}

struct route *route_new(struct registry *r, struct span name) {
  struct route *route = object_new(r, sizeof *route, OBJECT_ROUTE, name);
  route->obj.fini = route_fini;
  return route;
}

static void pool_fini(struct object *o) {
  struct pool *pool = (struct pool *)o;
  unref_any(o, (struct object *)pool->state);
  for (uint32_t i = 0; i < pool->member_count; i++)
    unref_any(o, (struct object *)pool->members[i].endpoint);
  if (pool->tls && pool->tls_unref) pool->tls_unref(pool->tls);
}

struct pool *pool_new(struct registry *r, struct span name) {
  struct pool *pool = object_new(r, sizeof *pool, OBJECT_POOL, name);
  pool->obj.fini = pool_fini;
  return pool;
}

static void policy_fini(struct object *o) {
  unref_any(o, (struct object *)((struct policy *)o)->rate.state);
}

struct policy *policy_new(struct registry *r, struct span name) {
  struct policy *policy = object_new(r, sizeof *policy, OBJECT_POLICY, name);
  policy->obj.fini = policy_fini;
  return policy;
}

static void listener_fini(struct object *o) {
  struct listener *listener = (struct listener *)o;
  unref_any(o, (struct object *)listener->state);
  unref_any(o, (struct object *)listener->pool);
  for (uint32_t i = 0; i < listener->sni_count; i++)
    unref_any(o, (struct object *)listener->sni[i].pool);
  for (uint32_t i = 0; i < listener->policy_count; i++)
    unref_any(o, &listener->policies[i]->obj);
  if (listener->tls && listener->tls_unref) listener->tls_unref(listener->tls);
}

struct listener *listener_new(struct registry *r, struct span name) {
  struct listener *listener = object_new(r, sizeof *listener, OBJECT_LISTENER, name);
  listener->obj.fini = listener_fini;
  return listener;
}

/* ---- the index ---- */

struct snapshot *snapshot_new(struct registry *r) {
  struct snapshot *s = mem_alloc(sizeof *s);
  s->registry = r;
  arena_init(&s->arena, NULL, 0);
  return s;
}

void snapshot_free(struct snapshot *s) {
  if (!s) return;
  for (uint32_t i = 0; i < s->listener_count; i++)
    object_unref(s->registry, &s->listeners[i].listener->obj);
  for (uint32_t i = 0; i < s->route_count; i++) object_unref(s->registry, &s->routes[i]->obj);
  for (uint32_t i = 0; i < s->pool_count; i++) object_unref(s->registry, &s->pools[i]->obj);
  for (uint32_t i = 0; i < s->policy_count; i++) object_unref(s->registry, &s->policies[i]->obj);
  arena_reset(&s->arena);
  mem_free(s);
}

/* states_each calls fn with every state object of a generation whose removal matters. */
static void states_each(const struct snapshot *s,
                        void (*fn)(struct object *o, _Atomic bool *removed, void *ctx),
                        void *ctx) {
  for (uint32_t i = 0; i < s->listener_count; i++) {
    struct listener_state *state = s->listeners[i].listener->state;
    fn(&state->obj, &state->removed, ctx);
  }
  for (uint32_t i = 0; i < s->route_count; i++) {
    struct route_state *state = s->routes[i]->state;
    fn(&state->obj, &state->removed, ctx);
  }
}

/* id_set is a set of object ids, which are dense. */
struct id_set {
  uint8_t *bits;
  uint32_t count;
};

static void note_max(struct object *o, _Atomic bool *removed, void *ctx) {
  (void)removed;
  struct id_set *set = ctx;
  if (o->id >= set->count) set->count = o->id + 1;
}

static void keep_state(struct object *o, _Atomic bool *removed, void *ctx) {
  struct id_set *set = ctx;
  set->bits[o->id / 8] |= (uint8_t)(1u << (o->id % 8));
  atomic_store_explicit(removed, false, memory_order_relaxed);
}

static void remove_state(struct object *o, _Atomic bool *removed, void *ctx) {
  const struct id_set *set = ctx;
  bool kept = set->bits[o->id / 8] & (1u << (o->id % 8));
  if (!kept) atomic_store_explicit(removed, true, memory_order_relaxed);
}

/* A state that both have is never seen as removed, not even for a moment. */
void snapshot_mark_published(const struct snapshot *before, const struct snapshot *after) {
  struct id_set kept = {0};
  states_each(after, note_max, &kept);
  if (before) states_each(before, note_max, &kept);
  kept.bits = mem_alloc(kept.count / 8 + 1);
  states_each(after, keep_state, &kept);
  if (before) states_each(before, remove_state, &kept);
  mem_free(kept.bits);
}

struct snapshot_listener *snapshot_find_listener(const struct snapshot *s, struct span name) {
  for (uint32_t i = 0; i < s->listener_count; i++)
    if (span_eq(s->listeners[i].listener->obj.name, name)) return &s->listeners[i];
  return NULL;
}

struct pool *snapshot_find_pool(const struct snapshot *s, struct span name) {
  for (uint32_t i = 0; i < s->pool_count; i++)
    if (span_eq(s->pools[i]->obj.name, name)) return s->pools[i];
  return NULL;
}

struct policy *snapshot_find_policy(const struct snapshot *s, struct span name) {
  for (uint32_t i = 0; i < s->policy_count; i++)
    if (span_eq(s->policies[i]->obj.name, name)) return s->policies[i];
  return NULL;
}

struct route *snapshot_find_route(const struct snapshot *s, struct span name) {
  for (uint32_t i = 0; i < s->route_count; i++)
    if (span_eq(s->routes[i]->obj.name, name)) return s->routes[i];
  return NULL;
}
