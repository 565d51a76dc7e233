/* route_table.c: the compiled matcher. Host by hash (exact, then each longer-to-shorter wildcard
 * suffix, then any), path by hash (exact), then the host's regexes in file order, then prefixes by
 * one pass over the path's segments. Cost does not grow with the number of routes, but for regexes
 * and for routes that differ in conditions only. Does not allocate when matching. Called by
 * proxy/; its slow twin is route_linear.c. DESIGN.md "Matching" (Gateway API HTTPRoute order). */
#include "weir/model/route_table.h"

#include <stdlib.h>

#include "route_priv.h"

/* path_entry is one exact path or prefix with the routes that want it, best first. Its path stands
 * behind it, so that a lookup touches one place. */
struct path_entry {
  struct span path;
  const struct route *plain; /* the first route, when it takes every request: no need to look */
  struct path_entry *shorter; /* prefixes: the longest one that this one begins with */
  const struct route **routes;
  uint32_t count, cap;
  bool sources; /* some route in it has them */
};

struct path_slot {
  uint64_t hash;
  struct path_entry *entry; /* NULL: free */
};

struct path_set {
  struct path_slot *slots; /* open addressing; cap is a power of two, at most half full */
  uint32_t cap;
  size_t longest; /* bytes of the longest path in it */
};

struct host_entry {
  struct span host; /* wildcard: ".example.com" */
  uint64_t hash;
  struct path_set exact, prefix;
  const struct route **regexes; /* file order */
  uint32_t exact_count, prefix_count, regex_count; /* routes of each kind */
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

static inline struct path_entry *path_lookup(const struct path_set *set, struct span path,
                                             uint64_t hash) {
  if (!set->cap) return NULL;
  for (uint32_t i = fnv_slot(hash, set->cap);; i = (i + 1) & (set->cap - 1)) {
    const struct path_slot *slot = &set->slots[i];
    if (!slot->entry) return NULL;
    if (slot->hash == hash && span_eq(slot->entry->path, path)) return slot->entry;
  }
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

/* compare_rank orders routes of one path, but for source and place in the file. */
static int compare_rank(const struct route *a, const struct route *b) {
  int r = (int)route_has_methods(b) - (int)route_has_methods(a);
  for (unsigned i = 0; i < MATCH_PART_COUNT && !r; i++)
    r = (a->rules.counts[i] < b->rules.counts[i]) - (a->rules.counts[i] > b->rules.counts[i]);
  return r;
}

static int compare_order(const struct route *a, const struct route *b) {
  return (a->order > b->order) - (a->order < b->order);
}

static int by_rank(const void *a, const void *b) {
  const struct route *x = *(const struct route *const *)a, *y = *(const struct route *const *)b;
  int r = compare_rank(x, y);
  return r ? r : compare_order(x, y);
}

static int by_order(const void *a, const void *b) {
  return compare_order(*(const struct route *const *)a, *(const struct route *const *)b);
}

/* takes_all: no condition at all; sources are the entry's affair. */
static bool takes_all(const struct route *r) {
  bool asks = route_has_methods(r);
  for (unsigned i = 0; i < MATCH_PART_COUNT; i++) asks = asks || r->rules.counts[i] > 0;
  return !asks;
}

struct builder {
  struct arena *arena;
  struct route_table *table;
  struct route *const *routes;
  uint32_t count;
  struct host_entry **hosts;
  uint32_t host_count;
};

/* route_host is host i of route_host_count, empty for any. */
static struct span route_host(const struct route *r, uint32_t i, bool *wildcard) {
  *wildcard = false;
  if (!r->host_count) return SPAN_EMPTY;
  *wildcard = span_starts(r->hosts[i], SPAN_LIT("*."));
  return *wildcard ? span_from(r->hosts[i], 1) : r->hosts[i];
}

static uint32_t route_host_count(const struct route *r) {
  return r->host_count ? r->host_count : 1;
}

static struct host_entry *host_get(struct builder *b, const struct route *r, uint32_t i) {
  bool wildcard;
  struct span host = route_host(r, i, &wildcard);
  struct host_set *set = wildcard ? &b->table->wildcard : &b->table->exact;
  uint64_t hash = fnv(host);
  struct host_entry *e = host.len ? host_lookup(set, host, hash) : b->table->any;
  if (e) return e;
  e = table_mem(b->arena, sizeof *e);
  e->host = host;
  e->hash = hash;
  b->hosts[b->host_count++] = e;
  if (!host.len) return b->table->any = e;
  uint32_t at = fnv_slot(hash, set->cap);
  while (set->slots[at]) at = (at + 1) & (set->cap - 1);
  set->slots[at] = e;
  set->count++;
  return e;
}

/* each_host calls fn for every pair of a route and one of its hosts. */
static void each_host(struct builder *b, void (*fn)(struct builder *b, struct host_entry *host,
                                                    struct route *route)) {
  for (uint32_t i = 0; i < b->count; i++)
    for (uint32_t h = 0; h < route_host_count(b->routes[i]); h++)
      fn(b, host_get(b, b->routes[i], h), b->routes[i]);
}

static void count_route(struct builder *b, struct host_entry *host, struct route *route) {
  (void)b;
  uint32_t *counts[] = {[ROUTE_PATH_EXACT] = &host->exact_count,
                        [ROUTE_PATH_REGEX] = &host->regex_count,
                        [ROUTE_PATH_PREFIX] = &host->prefix_count};
  ++*counts[route->path_kind];
}

static void path_set_init(struct arena *arena, struct path_set *set, uint32_t count) {
  if (!count) return;
  set->cap = table_cap(count);
  set->slots = table_mem(arena, set->cap * sizeof *set->slots);
}

static void host_init(struct builder *b, struct host_entry *host) {
  path_set_init(b->arena, &host->exact, host->exact_count);
  path_set_init(b->arena, &host->prefix, host->prefix_count);
  if (host->regex_count)
    host->regexes = table_mem(b->arena, host->regex_count * sizeof *host->regexes);
  host->regex_count = 0;
}

static struct path_entry *entry_make(struct arena *arena, struct path_set *set, struct span path,
                                     uint64_t hash) {
  struct path_entry *e = table_mem(arena, sizeof *e + path.len);
  if (path.len) memcpy(e + 1, path.ptr, path.len);
  e->path = span_of((const char *)(e + 1), path.len);
  uint32_t i = fnv_slot(hash, set->cap);
  while (set->slots[i].entry) i = (i + 1) & (set->cap - 1);
  set->slots[i] = (struct path_slot){hash, e};
  if (path.len > set->longest) set->longest = path.len;
  return e;
}

static void entry_add(struct arena *arena, struct path_entry *e, const struct route *route) {
  if (e->count == e->cap) {
    const struct route **before = e->routes;
    e->cap = e->cap ? e->cap * 2 : 1;
    e->routes = table_mem(arena, e->cap * sizeof *e->routes);
    if (before) memcpy(e->routes, before, e->count * sizeof *e->routes);
  }
  e->routes[e->count++] = route;
  if (route->rules.source_count) e->sources = true;
}

static void add_route(struct builder *b, struct host_entry *host, struct route *route) {
  if (route->path_kind == ROUTE_PATH_REGEX) {
    host->regexes[host->regex_count++] = route;
    return;
  }
  struct path_set *set = route->path_kind == ROUTE_PATH_EXACT ? &host->exact : &host->prefix;
  uint64_t hash = fnv(route->path);
  struct path_entry *e = path_lookup(set, route->path, hash);
  if (!e) e = entry_make(b->arena, set, route->path, hash);
  entry_add(b->arena, e, route);
}

static void path_set_finish(struct path_set *set) {
  for (uint32_t i = 0; i < set->cap; i++) {
    struct path_entry *e = set->slots[i].entry;
    if (!e) continue;
    qsort(e->routes, e->count, sizeof(struct route *), by_rank);
    e->plain = !e->sources && takes_all(e->routes[0]) ? e->routes[0] : NULL;
  }
}

/* shorter_prefix is the longest prefix of the set that e's path goes on from, by segments. */
static struct path_entry *shorter_prefix(const struct path_set *set, const struct path_entry *e) {
  struct path_entry *best = NULL;
  uint64_t h = FNV_START;
  if (e->path.len > 1) best = path_lookup(set, SPAN_LIT("/"), fnv(SPAN_LIT("/")));
  for (size_t at = 0; at < e->path.len; at++) {
    struct path_entry *s =
        at && e->path.ptr[at] == '/' ? path_lookup(set, span_sub(e->path, 0, at), h) : NULL;
    if (s) best = s;
    h = fnv_step(h, e->path.ptr[at]);
  }
  return best;
}

static void host_finish(struct host_entry *host) {
  path_set_finish(&host->exact);
  path_set_finish(&host->prefix);
  if (host->regex_count)
    qsort(host->regexes, host->regex_count, sizeof(struct route *), by_order);
  for (uint32_t i = 0; i < host->prefix.cap; i++) {
    struct path_entry *e = host->prefix.slots[i].entry;
    if (e) e->shorter = shorter_prefix(&host->prefix, e);
  }
}

struct route_table *route_table_new(struct arena *arena, struct route *const *routes,
                                    uint32_t count) {
  struct builder b = {.arena = arena, .routes = routes, .count = count};
  b.table = table_mem(arena, sizeof(struct route_table));
  uint32_t hosts = 1;
  for (uint32_t i = 0; i < count; i++) hosts += route_host_count(routes[i]);
  b.hosts = table_mem(arena, hosts * sizeof(struct host_entry *));
  struct host_set *sets[2] = {&b.table->exact, &b.table->wildcard};
  for (size_t i = 0; i < 2; i++) {
    sets[i]->cap = table_cap(hosts);
    sets[i]->slots = table_mem(arena, sets[i]->cap * sizeof(struct host_entry *));
  }
  each_host(&b, count_route);
  for (uint32_t i = 0; i < b.host_count; i++) host_init(&b, b.hosts[i]);
  each_host(&b, add_route);
  for (uint32_t i = 0; i < b.host_count; i++) host_finish(b.hosts[i]);
  return b.table;
}

/* ---- match ---- */

/* next_by_source picks, of the routes [from, to) that only their sources tell apart, the next one
 * after `last` by longest network, then place in the file; NULL: there is none. */
static const struct route *next_by_source(const struct path_entry *e, uint32_t from, uint32_t to,
                                          const struct route *last, const struct addr *client) {
  uint32_t last_rank = last ? match_source_rank(&last->rules, client) : 0, best_rank = 0;
  const struct route *best = NULL;
  for (uint32_t i = from; i < to; i++) {
    const struct route *r = e->routes[i];
    uint32_t rank = match_source_rank(&r->rules, client);
    if (rank == MATCH_SOURCE_NONE) continue;
    if (last && (rank > last_rank || (rank == last_rank && r->order <= last->order))) continue;
    if (best && rank <= best_rank) continue; /* the list is in file order */
    best = r;
    best_rank = rank;
  }
  return best;
}

/* group_end is where the routes end that only their sources tell apart from the one at `from`. */
static uint32_t group_end(const struct path_entry *e, uint32_t from) {
  uint32_t to = from + 1;
  while (to < e->count && compare_rank(e->routes[from], e->routes[to]) == 0) to++;
  return to;
}

/* settles notes how a route that decides did so: it won, or all ends with its limit. */
static bool settles(const struct route *r, const struct route_query *q, struct route_hit *hit,
                    enum route_verdict *verdict) {
  enum route_fate fate = route_ask(r, q, hit, NULL);
  if (fate != ROUTE_WON && fate != ROUTE_LOST_LIMIT) return false;
  hit->route = r;
  *verdict = fate == ROUTE_WON ? ROUTE_FOUND : ROUTE_LIMIT;
  return true;
}

static bool pick_by_source(const struct path_entry *e, const struct route_query *q,
                           struct route_hit *hit, enum route_verdict *verdict) {
  for (uint32_t from = 0, to = 0; from < e->count; from = to) {
    const struct route *r = NULL;
    to = group_end(e, from);
    while ((r = next_by_source(e, from, to, r, q->input.client)) != NULL)
      if (settles(r, q, hit, verdict)) return true;
  }
  return false;
}

/* entry_pick takes the first route of e whose conditions hold; false: none. */
static inline bool entry_pick(const struct path_entry *e, const struct route_query *q,
                              struct route_hit *hit, enum route_verdict *verdict) {
  if (e->plain) {
    hit->route = e->plain;
    *verdict = ROUTE_FOUND;
    return true;
  }
  if (e->sources) return pick_by_source(e, q, hit, verdict);
  for (uint32_t i = 0; i < e->count; i++)
    if (settles(e->routes[i], q, hit, verdict)) return true;
  return false;
}

static bool regex_pick(const struct host_entry *host, const struct route_query *q,
                       struct route_hit *hit, enum route_verdict *verdict) {
  for (uint32_t i = 0; i < host->regex_count; i++) {
    const struct route *r = host->regexes[i];
    if (match_source_rank(&r->rules, q->input.client) == MATCH_SOURCE_NONE) continue;
    enum regex_result result = regex_match(r->regex, q->path, q->input.scratch);
    if (result == REGEX_NO) continue;
    if (result == REGEX_YES) {
      if (settles(r, q, hit, verdict)) return true;
      continue;
    }
    hit->route = r;
    *verdict = ROUTE_LIMIT;
    return true;
  }
  return false;
}

/* prefix_longest hashes the path once and looks up at each segment boundary. */
static const struct path_entry *prefix_longest(const struct path_set *set, struct span path) {
  if (!set->cap) return NULL;
  const struct path_entry *best = NULL;
  size_t end = path.len < set->longest ? path.len : set->longest;
  uint64_t h = FNV_START;
  for (size_t at = 0; at <= end; at++) {
    if (at > 1 && (at == path.len || path.ptr[at] == '/')) {
      const struct path_entry *e = path_lookup(set, span_sub(path, 0, at), h);
      if (e) best = e;
    }
    if (at < end) h = fnv_step(h, path.ptr[at]);
  }
  return best ? best : path_lookup(set, SPAN_LIT("/"), fnv(SPAN_LIT("/")));
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
  enum route_verdict verdict = ROUTE_NONE;
  const struct host_entry *host = host_find(table, q->host);
  if (!host) return ROUTE_NONE;
  if (host->exact.cap) {
    const struct path_entry *e = path_lookup(&host->exact, q->path, fnv(q->path));
    if (e && entry_pick(e, q, hit, &verdict)) return verdict;
  }
  if (host->regex_count && regex_pick(host, q, hit, &verdict)) return verdict;
  const struct path_entry *p = prefix_longest(&host->prefix, q->path);
  for (; p; p = p->shorter)
    if (entry_pick(p, q, hit, &verdict)) return verdict;
  return hit->allow ? ROUTE_BAD_METHOD : ROUTE_NONE;
}
