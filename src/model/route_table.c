/* route_table.c: the compiled matcher. Host by hash (exact, then each longer-to-shorter wildcard
 * suffix, then any), path by hash (exact), then the host's regexes in file order, then prefixes by
 * one pass over the path's segments. Cost does not grow with the number of routes, but for regexes
 * and for routes that differ in conditions only. Does not allocate when matching. Called by
 * proxy/; its slow twin is route_linear.c. DESIGN.md "Matching" (Gateway API HTTPRoute order). */
#include "weir/model/route_table.h"

#include <stdlib.h>

#include "route_priv.h"

/* A lookup among many routes costs what it misses in the caches, so what it touches is small: a
 * slot of 8 bytes, then one line of 32 that has the key and the answer. Lines lie in one block and
 * are named by their place in it. */
#define LINE 32u

struct slot {
  uint32_t tag; /* upper half of the hash */
  uint32_t at;  /* line in route_table.lines; 0: free */
};

struct slot_set {
  struct slot *slots; /* open addressing; cap is a power of two, at most two thirds full */
  uint32_t cap;
};

/* candidates is what a path has beside a route that takes everything. */
struct candidates {
  const struct route **routes; /* best first */
  uint32_t count, cap;
  bool sources; /* some route in it has them */
  const struct line *shorter; /* prefixes: the longest one that this one begins with */
};

/* line is one exact path, prefix or host (wildcard: ".example.com"). A longer text goes on in the
 * next lines. */
struct line {
  union {
    const struct route *route; /* plain: it takes every request, no need to look further */
    struct candidates *candidates; /* of a path */
    struct host_entry *host;
  } is;
  uint32_t len : 31, plain : 1;
  char text[LINE - sizeof(void *) - sizeof(uint32_t)];
};

_Static_assert(sizeof(struct line) == LINE, "one line");

struct path_set {
  struct slot_set slots;
  size_t longest; /* bytes of the longest path in it */
};

struct host_entry {
  struct path_set exact, prefix;
  const struct route **regexes; /* file order */
  uint32_t exact_count, prefix_count, regex_count; /* routes of each kind */
};

struct route_table {
  struct line *lines; /* from a cache line's boundary on */
  uint32_t line_count, line_cap;
  struct slot_set exact, wildcard; /* of hosts */
  uint32_t wildcard_count;
  struct host_entry *any; /* NULL: no route without hosts */
};

/* FNV-1a: incremental, so that one pass over a path hashes all its prefixes. The keys that are
 * stored come from the configuration, so a peer cannot flood a table. */
#define FNV_START 0xcbf29ce484222325u
static inline uint64_t fnv_step(uint64_t h, char c) {
  return (h ^ (uint8_t)c) * 0x100000001b3u;
}
static inline uint32_t fnv_slot(uint64_t h, uint32_t cap) {
  return (uint32_t)(h ^ (h >> 29)) & (cap - 1);
}
static uint64_t fnv(struct span s) {
  uint64_t h = FNV_START;
  for (size_t i = 0; i < s.len; i++) h = fnv_step(h, s.ptr[i]);
  return h;
}

static inline struct line *line_at(const struct route_table *t, uint32_t at) {
  return &t->lines[at];
}

/* lookup finds the line of a key, or NULL. */
static inline struct line *lookup(const struct route_table *t, const struct slot_set *set,
                                  struct span key, uint64_t hash) {
  if (!set->cap) return NULL;
  for (uint32_t i = fnv_slot(hash, set->cap);; i = (i + 1) & (set->cap - 1)) {
    struct slot slot = set->slots[i];
    if (!slot.at) return NULL;
    if (slot.tag != (uint32_t)(hash >> 32)) continue;
    struct line *line = line_at(t, slot.at);
    if (span_eq(span_of(line->text, line->len), key)) return line;
  }
}

/* ---- compile ---- */

static void *table_mem(struct arena *arena, size_t size) {
  void *p = arena_zalloc(arena, size);
  check(p != NULL); /* a snapshot's arena has no limit */
  return p;
}

static void slot_set_init(struct arena *arena, struct slot_set *set, uint32_t count) {
  if (!count) return;
  set->cap = 4;
  while (set->cap < count + count / 2) set->cap *= 2;
  set->slots = table_mem(arena, set->cap * sizeof *set->slots);
}

static uint32_t lines_for(struct span key) {
  return (uint32_t)((offsetof(struct line, text) + key.len + LINE - 1) / LINE);
}

/* line_make puts a new line with this key into set. */
static struct line *line_make(struct route_table *t, struct slot_set *set, struct span key,
                              uint64_t hash) {
  uint32_t at = t->line_count, i = fnv_slot(hash, set->cap);
  t->line_count += lines_for(key);
  check(t->line_count <= t->line_cap);
  struct line *line = line_at(t, at);
  check(key.len < INT32_MAX);
  line->len = (uint32_t)key.len & INT32_MAX;
  if (key.len) memcpy((char *)line + offsetof(struct line, text), key.ptr, key.len);
  while (set->slots[i].at) i = (i + 1) & (set->cap - 1);
  set->slots[i] = (struct slot){(uint32_t)(hash >> 32), at};
  return line;
}

/* compare_rank orders routes of one path, but for source and place in the file. */
static int compare_rank(const struct route *a, const struct route *b) {
  int r = (int)route_has_methods(b) - (int)route_has_methods(a);
  for (unsigned i = 0; i < MATCH_PART_COUNT && !r; i++)
    r = (a->rules.counts[i] < b->rules.counts[i]) - (a->rules.counts[i] > b->rules.counts[i]);
  return r ? r : (int)route_cert_rank(b) - (int)route_cert_rank(a);
}

static int compare_order(const struct route *a, const struct route *b) {
  return (a->order > b->order) - (a->order < b->order);
}

/* by_rank: of routes that only their sources tell apart, those that have some come first. */
static int by_rank(const void *a, const void *b) {
  const struct route *x = *(const struct route *const *)a, *y = *(const struct route *const *)b;
  int r = compare_rank(x, y);
  if (!r) r = (y->rules.source_count > 0) - (x->rules.source_count > 0);
  return r ? r : compare_order(x, y);
}

static int by_order(const void *a, const void *b) {
  return compare_order(*(const struct route *const *)a, *(const struct route *const *)b);
}

/* takes_all: no condition at all; sources are the entry's affair. */
static bool takes_all(const struct route *r) {
  bool asks = route_has_methods(r) || r->rules.cert;
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

static struct host_entry *host_new(struct builder *b) {
  struct host_entry *e = table_mem(b->arena, sizeof *e);
  b->hosts[b->host_count++] = e;
  return e;
}

static struct host_entry *host_get(struct builder *b, const struct route *r, uint32_t i) {
  bool wildcard;
  struct route_table *t = b->table;
  struct span host = route_host(r, i, &wildcard);
  if (!host.len) return t->any ? t->any : (t->any = host_new(b));
  struct slot_set *set = wildcard ? &t->wildcard : &t->exact;
  uint64_t hash = fnv(host);
  struct line *line = lookup(t, set, host, hash);
  if (line) return line->is.host;
  line = line_make(t, set, host, hash);
  line->is.host = host_new(b);
  if (wildcard) t->wildcard_count++;
  return line->is.host;
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

static void host_init(struct builder *b, struct host_entry *host) {
  slot_set_init(b->arena, &host->exact.slots, host->exact_count);
  slot_set_init(b->arena, &host->prefix.slots, host->prefix_count);
  if (host->regex_count)
    host->regexes = table_mem(b->arena, host->regex_count * sizeof *host->regexes);
  host->regex_count = 0;
}

static void candidate_add(struct arena *arena, struct candidates *c, const struct route *route) {
  if (c->count == c->cap) {
    const struct route **before = c->routes;
    c->cap = c->cap ? c->cap * 2 : 1;
    c->routes = table_mem(arena, c->cap * sizeof *c->routes);
    if (before) memcpy(c->routes, before, c->count * sizeof *c->routes);
  }
  c->routes[c->count++] = route;
  if (route->rules.source_count) c->sources = true;
}

static void add_route(struct builder *b, struct host_entry *host, struct route *route) {
  if (route->path_kind == ROUTE_PATH_REGEX) {
    host->regexes[host->regex_count++] = route;
    return;
  }
  struct path_set *set = route->path_kind == ROUTE_PATH_EXACT ? &host->exact : &host->prefix;
  uint64_t hash = fnv(route->path);
  struct line *line = lookup(b->table, &set->slots, route->path, hash);
  if (!line) {
    line = line_make(b->table, &set->slots, route->path, hash);
    line->is.candidates = table_mem(b->arena, sizeof *line->is.candidates);
    if (route->path.len > set->longest) set->longest = route->path.len;
  }
  candidate_add(b->arena, line->is.candidates, route);
}

/* shorter_prefix is the longest prefix of the set that line's path goes on from, by segments. */
static const struct line *shorter_prefix(const struct route_table *t, const struct path_set *set,
                                         const struct line *line) {
  struct span path = span_of(line->text, line->len), root = SPAN_LIT("/");
  const struct line *best = path.len > 1 ? lookup(t, &set->slots, root, fnv(root)) : NULL;
  uint64_t h = FNV_START;
  for (size_t at = 0; at < path.len; at++) {
    const struct line *s = NULL;
    if (at && path.ptr[at] == '/') s = lookup(t, &set->slots, span_sub(path, 0, at), h);
    if (s) best = s;
    h = fnv_step(h, path.ptr[at]);
  }
  return best;
}

/* path_set_finish orders candidates and puts a plain route in their place. */
static void path_set_finish(const struct route_table *t, struct path_set *set, bool prefixes) {
  for (uint32_t i = 0; i < set->slots.cap; i++) {
    if (!set->slots.slots[i].at) continue;
    struct line *line = line_at(t, set->slots.slots[i].at);
    struct candidates *c = line->is.candidates;
    qsort(c->routes, c->count, sizeof(struct route *), by_rank);
    if (prefixes) c->shorter = shorter_prefix(t, set, line);
    if (c->sources || !takes_all(c->routes[0])) continue;
    line->is.route = c->routes[0];
    line->plain = true;
  }
}

static void host_finish(const struct route_table *t, struct host_entry *host) {
  path_set_finish(t, &host->exact, false);
  path_set_finish(t, &host->prefix, true);
  if (host->regex_count)
    qsort(host->regexes, host->regex_count, sizeof(struct route *), by_order);
}

/* hosts_finish puts the route that answers everything at a host, if there is one, in its line. */
static void hosts_finish(const struct route_table *t, const struct slot_set *set) {
  struct span root = SPAN_LIT("/");
  for (uint32_t i = 0; i < set->cap; i++) {
    if (!set->slots[i].at) continue;
    struct line *line = line_at(t, set->slots[i].at);
    const struct host_entry *host = line->is.host;
    if (host->exact_count || host->regex_count || host->prefix_count != 1) continue;
    const struct line *all = lookup(t, &host->prefix.slots, root, fnv(root));
    if (!all || !all->plain) continue;
    line->is.route = all->is.route;
    line->plain = true;
  }
}

/* lines_init makes room for a line for every pair of host and path: as many as there can be. */
static void lines_init(struct builder *b) {
  uint32_t lines = 1; /* line 0 is nobody's */
  for (uint32_t i = 0; i < b->count; i++)
    for (uint32_t h = 0; h < route_host_count(b->routes[i]); h++) {
      bool wildcard;
      uint32_t more = lines_for(route_host(b->routes[i], h, &wildcard));
      more += lines_for(b->routes[i]->path);
      check(lines <= UINT32_MAX - more);
      lines += more;
    }
  char *bytes = table_mem(b->arena, ((size_t)lines + 2) * LINE);
  size_t off = (64 - (uintptr_t)bytes % 64) % 64;
  b->table->lines = (struct line *)(void *)(bytes + off);
  b->table->line_cap = lines;
  b->table->line_count = 1;
}

struct route_table *route_table_new(struct arena *arena, struct route *const *routes,
                                    uint32_t count) {
  struct builder b = {.arena = arena, .routes = routes, .count = count};
  struct route_table *t = b.table = table_mem(arena, sizeof(struct route_table));
  uint32_t hosts = 1;
  for (uint32_t i = 0; i < count; i++) hosts += route_host_count(routes[i]);
  b.hosts = table_mem(arena, hosts * sizeof(struct host_entry *));
  slot_set_init(arena, &t->exact, hosts);
  slot_set_init(arena, &t->wildcard, hosts);
  lines_init(&b);
  each_host(&b, count_route);
  for (uint32_t i = 0; i < b.host_count; i++) host_init(&b, b.hosts[i]);
  each_host(&b, add_route);
  for (uint32_t i = 0; i < b.host_count; i++) host_finish(t, b.hosts[i]);
  hosts_finish(t, &t->exact);
  hosts_finish(t, &t->wildcard);
  return t;
}

/* ---- match ---- */

/* group is the routes [from, to) of a path that only their sources tell apart, in file order;
 * sourced is where those without any begin. */
struct group {
  uint32_t from, sourced, to;
};

static struct group group_at(const struct candidates *e, uint32_t from) {
  struct group g = {from, from, from + 1};
  while (g.to < e->count && compare_rank(e->routes[from], e->routes[g.to]) == 0) g.to++;
  while (g.sourced < g.to && e->routes[g.sourced]->rules.source_count) g.sourced++;
  return g;
}

/* pick is a question and where its answer goes. */
struct pick {
  const struct route_query *q;
  struct route_hit *hit;
  enum route_verdict verdict;
};

/* settles notes how a route that decides did so: it won, or all ends with its limit. */
static bool settles(const struct route *r, struct pick *p) {
  enum route_fate fate = route_ask(r, p->q, p->hit, NULL);
  if (fate != ROUTE_WON && fate != ROUTE_LOST_LIMIT) return false;
  p->hit->route = r;
  p->verdict = fate == ROUTE_WON ? ROUTE_FOUND : ROUTE_LIMIT;
  return true;
}

static bool settles_any(const struct candidates *e, uint32_t from, uint32_t to, struct pick *p) {
  for (uint32_t i = from; i < to; i++)
    if (settles(e->routes[i], p)) return true;
  return false;
}

/* settles_sourced asks the routes of a group that have sources, longest network first, then in
 * file order: one pass for each length of a network that holds the client, of which an address
 * has 129 at most. The first pass only finds the longest. */
static bool settles_sourced(const struct candidates *e, const struct group *g, struct pick *p) {
  uint32_t rank = MATCH_SOURCE_NONE;
  do {
    uint32_t next = 0;
    for (uint32_t i = g->from; i < g->sourced; i++) {
      uint32_t r = match_source_rank(&e->routes[i]->rules, p->q->input.client);
      if (r == MATCH_SOURCE_NONE) continue;
      if (r == rank && settles(e->routes[i], p)) return true;
      if (r < rank && r > next) next = r;
    }
    rank = next;
  } while (rank);
  return false;
}

static bool pick_by_source(const struct candidates *e, struct pick *p) {
  for (uint32_t from = 0; from < e->count;) {
    struct group g = group_at(e, from);
    if (settles_sourced(e, &g, p) || settles_any(e, g.sourced, g.to, p)) return true;
    from = g.to;
  }
  return false;
}

/* line_pick takes the first route of a path whose conditions hold; false: none. */
static inline bool line_pick(const struct line *line, struct pick *p) {
  if (line->plain) {
    p->hit->route = line->is.route;
    p->verdict = ROUTE_FOUND;
    return true;
  }
  const struct candidates *c = line->is.candidates;
  return c->sources ? pick_by_source(c, p) : settles_any(c, 0, c->count, p);
}

static bool regex_pick(const struct host_entry *host, struct pick *p) {
  for (uint32_t i = 0; i < host->regex_count; i++) {
    const struct route *r = host->regexes[i];
    if (match_source_rank(&r->rules, p->q->input.client) == MATCH_SOURCE_NONE) continue;
    enum regex_result result = regex_match(r->regex, p->q->path, p->q->input.scratch);
    if (result == REGEX_NO) continue;
    if (result == REGEX_YES) {
      if (settles(r, p)) return true;
      continue;
    }
    p->hit->route = r;
    p->verdict = ROUTE_LIMIT;
    return true;
  }
  return false;
}

/* prefix_longest hashes the path once and looks up at each segment boundary. */
static const struct line *prefix_longest(const struct route_table *t, const struct path_set *set,
                                         struct span path) {
  if (!set->slots.cap) return NULL;
  const struct line *best = NULL;
  size_t end = path.len < set->longest ? path.len : set->longest;
  uint64_t h = FNV_START;
  for (size_t at = 0; at <= end; at++) {
    if (at > 1 && (at == path.len || path.ptr[at] == '/')) {
      const struct line *line = lookup(t, &set->slots, span_sub(path, 0, at), h);
      if (line) best = line;
    }
    if (at < end) h = fnv_step(h, path.ptr[at]);
  }
  struct span root = SPAN_LIT("/");
  return best ? best : lookup(t, &set->slots, root, fnv(root));
}

/* host_find gives the line of the most specific host, or NULL: the routes for any host decide. */
static const struct line *host_find(const struct route_table *t, struct span host) {
  if (!host.len) return NULL;
  const struct line *line = lookup(t, &t->exact, host, fnv(host));
  if (line || !t->wildcard_count) return line;
  for (size_t dot = span_find_char(host, '.', 1); dot != SIZE_MAX;
       dot = span_find_char(host, '.', dot + 1)) {
    struct span suffix = span_from(host, dot);
    line = lookup(t, &t->wildcard, suffix, fnv(suffix));
    if (line) return line;
  }
  return NULL;
}

static enum route_verdict find_path(const struct route_table *t, const struct host_entry *host,
                                    const struct route_query *q, struct route_hit *hit) {
  struct pick p = {.q = q, .hit = hit, .verdict = ROUTE_NONE};
  if (host->exact_count) {
    const struct line *line = lookup(t, &host->exact.slots, q->path, fnv(q->path));
    if (line && line_pick(line, &p)) return p.verdict;
  }
  if (host->regex_count && regex_pick(host, &p)) return p.verdict;
  const struct line *line = prefix_longest(t, &host->prefix, q->path);
  for (; line; line = line->is.candidates->shorter) /* a plain one always picks */
    if (line_pick(line, &p)) return p.verdict;
  return route_missed(hit);
}

enum route_verdict route_find(const struct route_table *table, const struct route_query *q,
                              struct route_hit *hit) {
  *hit = (struct route_hit){0};
  const struct line *line = host_find(table, q->host);
  if (line && line->plain) {
    hit->route = line->is.route;
    return ROUTE_FOUND;
  }
  const struct host_entry *host = line ? line->is.host : table->any;
  return host ? find_path(table, host, q, hit) : ROUTE_NONE;
}
