/* route_table.c: the compiled matcher. Host by hash (exact, then each longer-to-shorter wildcard
 * suffix, then any), path by hash (exact), prefix by one pass over the path's segments. Cost does
 * not grow with the number of routes. Does not allocate when matching and knows no conditions but
 * methods yet: they are candidates' filters in candidate_pick. Called by proxy/ and by the CLI.
 * DESIGN.md "Matching" (Gateway API HTTPRoute order). */
#include "weir/model/model.h"

#include "weir/base/hash.h"

/* paths is one exact path or prefix with the routes that want it, best first. */
struct path_entry {
  struct span path;
  uint64_t hash;
  struct route **routes;
  uint32_t count;
  struct path_entry *shorter; /* prefixes: the longest one that this one begins with */
};

struct path_set {
  struct path_entry **slots; /* open addressing; cap is a power of two, at most half full */
  uint32_t cap;
  size_t longest; /* bytes of the longest path in it */
};

struct host_entry {
  struct span host; /* wildcard: ".example.com" */
  uint64_t hash;
  struct path_set exact, prefix;
};

struct host_set {
  struct host_entry **slots;
  uint32_t cap, count;
};

struct route_table {
  struct host_set exact, wildcard;
  struct host_entry *any; /* NULL: no route without hosts */
};

/* FNV-1a: incremental, so that one pass over a path hashes all its prefixes. The keys that are
 * stored come from the configuration, so a peer cannot flood a table. */
#define FNV_START 0xcbf29ce484222325u
static inline uint64_t fnv_step(uint64_t h, char c) {
  return (h ^ (uint8_t)c) * 0x100000001b3u;
}
static inline uint32_t fnv_slot(uint64_t h, uint32_t cap) {
  return (uint32_t)(h ^ (h >> 32)) & (cap - 1);
}
static uint64_t fnv(struct span s) {
  uint64_t h = FNV_START;
  for (size_t i = 0; i < s.len; i++) h = fnv_step(h, s.ptr[i]);
  return h;
}

/* ---- compile ---- */

static uint32_t table_cap(uint32_t count) {
  uint32_t cap = 4;
  while (cap < count * 2) cap *= 2;
  return cap;
}

static void *table_mem(struct arena *arena, size_t size) {
  void *p = arena_zalloc(arena, size);
  check(p != NULL); /* a snapshot's arena has no limit */
  return p;
}

static struct path_entry *path_lookup(const struct path_set *set, struct span path,
                                      uint64_t hash) {
  if (!set->cap) return NULL;
  for (uint32_t i = fnv_slot(hash, set->cap);; i = (i + 1) & (set->cap - 1)) {
    struct path_entry *e = set->slots[i];
    if (!e) return NULL;
    if (e->hash == hash && span_eq(e->path, path)) return e;
  }
}

static void path_insert(struct path_set *set, struct path_entry *entry) {
  uint32_t i = fnv_slot(entry->hash, set->cap);
  while (set->slots[i]) i = (i + 1) & (set->cap - 1);
  set->slots[i] = entry;
  if (entry->path.len > set->longest) set->longest = entry->path.len;
}

static struct host_entry *host_lookup(const struct host_set *set, struct span host,
                                      uint64_t hash) {
  if (!set->cap) return NULL;
  for (uint32_t i = fnv_slot(hash, set->cap);; i = (i + 1) & (set->cap - 1)) {
    struct host_entry *e = set->slots[i];
    if (!e) return NULL;
    if (e->hash == hash && span_eq(e->host, host)) return e;
  }
}

/* route_before is the order of candidates for one path: has methods, then place in the file. */
static bool route_before(const struct route *a, const struct route *b) {
  bool am = a->methods || a->extra_method_count, bm = b->methods || b->extra_method_count;
  if (am != bm) return am;
  return a->order < b->order;
}

static void entry_add(struct arena *arena, struct path_entry *e, struct route *route) {
  struct route **grown = table_mem(arena, (e->count + 1) * sizeof *grown);
  uint32_t at = 0;
  while (at < e->count && !route_before(route, e->routes[at])) at++;
  for (uint32_t i = 0; i < at; i++) grown[i] = e->routes[i];
  grown[at] = route;
  for (uint32_t i = at; i < e->count; i++) grown[i + 1] = e->routes[i];
  e->routes = grown;
  e->count++;
}

static void host_add_route(struct arena *arena, struct host_entry *h, struct route *route) {
  struct path_set *set = route->path_kind == ROUTE_PATH_EXACT ? &h->exact : &h->prefix;
  uint64_t hash = fnv(route->path);
  struct path_entry *e = path_lookup(set, route->path, hash);
  if (!e) {
    e = table_mem(arena, sizeof *e);
    e->path = route->path;
    e->hash = hash;
    path_insert(set, e);
  }
  entry_add(arena, e, route);
}

/* host_build counts the paths of one host while the table is being made. */
struct host_build {
  struct host_entry *entry;
  uint32_t exact_count, prefix_count;
};

static void host_count_route(struct host_build *b, const struct route *route) {
  if (route->path_kind == ROUTE_PATH_EXACT) b->exact_count++;
  else b->prefix_count++;
}

static void path_set_init(struct arena *arena, struct path_set *set, uint32_t count) {
  if (!count) return;
  set->cap = table_cap(count);
  set->slots = table_mem(arena, set->cap * sizeof(struct path_entry *));
}

/* prefix_link points every prefix at the longest shorter one, by its own segment boundaries. */
static void prefix_link(struct path_set *set) {
  for (uint32_t i = 0; i < set->cap; i++) {
    struct path_entry *e = set->slots[i];
    if (!e) continue;
    uint64_t h = FNV_START;
    for (size_t at = 0; at < e->path.len; at++) {
      if (at > 0 && e->path.ptr[at] == '/') {
        struct path_entry *s = path_lookup(set, span_sub(e->path, 0, at), h);
        if (s) e->shorter = s;
      }
      h = fnv_step(h, e->path.ptr[at]);
      if (at == 0 && e->path.len > 1) {
        struct path_entry *root = path_lookup(set, SPAN_LIT("/"), h);
        if (root) e->shorter = root;
      }
    }
  }
}

struct builder {
  struct arena *arena;
  struct route_table *table;
  struct host_build *builds;
  uint32_t build_count;
};

static struct host_build *build_of(struct builder *b, struct host_entry *entry) {
  /* The entry's index was stored in its exact.longest while building. */
  return &b->builds[entry->exact.longest];
}

static struct host_entry *host_get(struct builder *b, struct span host, bool wildcard) {
  if (!host.len) return b->table->any;
  struct host_set *set = wildcard ? &b->table->wildcard : &b->table->exact;
  return host_lookup(set, host, fnv(host));
}

static void host_make(struct builder *b, struct span host, bool wildcard) {
  if (host_get(b, host, wildcard)) return;
  struct host_entry *e = table_mem(b->arena, sizeof *e);
  e->host = host;
  e->hash = fnv(host);
  e->exact.longest = b->build_count;
  b->builds[b->build_count++].entry = e;
  if (!host.len) {
    b->table->any = e;
    return;
  }
  struct host_set *set = wildcard ? &b->table->wildcard : &b->table->exact;
  uint32_t i = fnv_slot(e->hash, set->cap);
  while (set->slots[i]) i = (i + 1) & (set->cap - 1);
  set->slots[i] = e;
  set->count++;
}

static uint32_t route_host_count(const struct route *r) {
  return r->host_count ? r->host_count : 1;
}

static struct span route_host(const struct route *r, uint32_t i, bool *wildcard) {
  *wildcard = false;
  if (!r->host_count) return SPAN_EMPTY;
  *wildcard = span_starts(r->hosts[i], SPAN_LIT("*."));
  return *wildcard ? span_from(r->hosts[i], 1) : r->hosts[i];
}

static void builder_hosts(struct builder *b, struct route *const *routes, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    for (uint32_t h = 0; h < route_host_count(routes[i]); h++) {
      bool wild;
      struct span host = route_host(routes[i], h, &wild);
      host_make(b, host, wild);
      host_count_route(build_of(b, host_get(b, host, wild)), routes[i]);
    }
  }
}

static void builder_paths(struct builder *b, struct route *const *routes, uint32_t count) {
  for (uint32_t i = 0; i < b->build_count; i++) {
    b->builds[i].entry->exact.longest = 0; /* was the index of its build */
    path_set_init(b->arena, &b->builds[i].entry->exact, b->builds[i].exact_count);
    path_set_init(b->arena, &b->builds[i].entry->prefix, b->builds[i].prefix_count);
  }
  for (uint32_t i = 0; i < count; i++) {
    for (uint32_t h = 0; h < route_host_count(routes[i]); h++) {
      bool wild;
      struct span host = route_host(routes[i], h, &wild);
      host_add_route(b->arena, host_get(b, host, wild), routes[i]);
    }
  }
  for (uint32_t i = 0; i < b->build_count; i++) prefix_link(&b->builds[i].entry->prefix);
}

struct route_table *route_table_new(struct arena *arena, struct route *const *routes,
                                    uint32_t count) {
  struct builder b = {.arena = arena, .table = table_mem(arena, sizeof(struct route_table))};
  uint32_t hosts = 1;
  for (uint32_t i = 0; i < count; i++) hosts += route_host_count(routes[i]);
  b.builds = table_mem(arena, hosts * sizeof *b.builds);
  struct host_set *sets[2] = {&b.table->exact, &b.table->wildcard};
  for (size_t i = 0; i < 2; i++) {
    sets[i]->cap = table_cap(hosts);
    sets[i]->slots = table_mem(arena, sets[i]->cap * sizeof(struct host_entry *));
  }
  builder_hosts(&b, routes, count);
  builder_paths(&b, routes, count);
  return b.table;
}

/* ---- match ---- */

static bool method_allowed(const struct route *r, const struct route_query *q) {
  if (!r->methods && !r->extra_method_count) return true;
  if (q->method != HTTP_METHOD_OTHER) return (r->methods >> q->method) & 1;
  for (uint32_t i = 0; i < r->extra_method_count; i++)
    if (span_eq(r->extra_methods[i], q->method_text)) return true;
  return false;
}

/* candidate_pick takes the first route of e whose conditions hold. */
static bool candidate_pick(const struct path_entry *e, const struct route_query *q,
                           struct route_hit *hit) {
  for (uint32_t i = 0; i < e->count; i++) {
    const struct route *r = e->routes[i];
    if (method_allowed(r, q)) {
      hit->route = r;
      return true;
    }
    hit->methods |= r->methods;
    hit->allow = r;
  }
  return false;
}

/* prefix_longest hashes the path once and looks up at each segment boundary. */
static const struct path_entry *prefix_longest(const struct path_set *set, struct span path) {
  if (!set->cap) return NULL;
  const struct path_entry *best = path_lookup(set, SPAN_LIT("/"), fnv(SPAN_LIT("/")));
  if (span_eq(path, SPAN_LIT("*"))) return best;
  uint64_t h = FNV_START;
  size_t end = path.len < set->longest ? path.len : set->longest;
  for (size_t at = 0; at <= end; at++) {
    if (at > 1 && (at == path.len || path.ptr[at] == '/')) {
      const struct path_entry *e = path_lookup(set, span_sub(path, 0, at), h);
      if (e) best = e;
    }
    if (at < end) h = fnv_step(h, path.ptr[at]);
  }
  return best;
}

static const struct host_entry *host_find(const struct route_table *t, struct span host) {
  if (!host.len) return t->any;
  const struct host_entry *e = t->exact.count ? host_lookup(&t->exact, host, fnv(host)) : NULL;
  if (e) return e;
  for (size_t dot = span_find_char(host, '.', 1); t->wildcard.count && dot != SIZE_MAX;
       dot = span_find_char(host, '.', dot + 1)) {
    struct span suffix = span_from(host, dot);
    e = host_lookup(&t->wildcard, suffix, fnv(suffix));
    if (e) return e;
  }
  return t->any;
}

enum route_verdict route_find(const struct route_table *table, const struct route_query *q,
                              struct route_hit *hit) {
  *hit = (struct route_hit){0};
  const struct host_entry *host = host_find(table, q->host);
  if (!host) return ROUTE_NONE;
  if (host->exact.cap) {
    const struct path_entry *e = path_lookup(&host->exact, q->path, fnv(q->path));
    if (e && candidate_pick(e, q, hit)) return ROUTE_FOUND;
  }
  const struct path_entry *p = prefix_longest(&host->prefix, q->path);
  for (; p; p = p->shorter)
    if (candidate_pick(p, q, hit)) return ROUTE_FOUND;
  return hit->allow ? ROUTE_BAD_METHOD : ROUTE_NONE;
}

/* ---- the slow twin ---- */

static bool host_matches(struct span pattern, struct span host) {
  if (!span_starts(pattern, SPAN_LIT("*."))) return span_eq(pattern, host);
  struct span suffix = span_from(pattern, 1);
  return host.len > suffix.len && span_ends(host, suffix);
}

/* host_rank: 0 no match, 1 any, 2 + length of a wildcard, larger for exact. */
static size_t host_rank(const struct route *r, struct span host) {
  if (!r->host_count) return 1;
  size_t best = 0;
  for (uint32_t i = 0; i < r->host_count; i++) {
    if (!host.len || !host_matches(r->hosts[i], host)) continue;
    bool wild = span_starts(r->hosts[i], SPAN_LIT("*."));
    size_t rank = 2 + r->hosts[i].len + (wild ? 0 : 1024);
    if (rank > best) best = rank;
  }
  return best;
}

/* path_rank: 0 no match, 1 + length of a prefix, larger for exact. */
static size_t path_rank(const struct route *r, struct span path) {
  if (r->path_kind == ROUTE_PATH_EXACT) return span_eq(r->path, path) ? SIZE_MAX : 0;
  if (span_eq(r->path, SPAN_LIT("/"))) return 1;
  if (!span_starts(path, r->path)) return 0;
  return path.len == r->path.len || path.ptr[r->path.len] == '/' ? 1 + r->path.len : 0;
}

enum route_verdict route_find_linear(struct route *const *routes, uint32_t count,
                                     const struct route_query *q, struct route_hit *hit) {
  *hit = (struct route_hit){0};
  size_t host = 0, best = 0;
  for (uint32_t i = 0; i < count; i++) {
    size_t rank = host_rank(routes[i], q->host);
    if (rank > host) host = rank;
  }
  for (uint32_t i = 0; host && i < count; i++) {
    const struct route *r = routes[i];
    size_t rank = path_rank(r, q->path);
    if (host_rank(r, q->host) != host || !rank) continue;
    if (!method_allowed(r, q)) {
      hit->methods |= r->methods;
      hit->allow = r;
      continue;
    }
    if (!hit->route || rank > best || (rank == best && route_before(r, hit->route))) {
      hit->route = r;
      best = rank;
    }
  }
  if (hit->route) return ROUTE_FOUND;
  return hit->allow ? ROUTE_BAD_METHOD : ROUTE_NONE;
}
