/* route_linear.c: the slow twin of route_table.c, written from DESIGN.md "Matching" by itself: it
 * takes the routes whose host and path fit, best first, by looking through all of them for the
 * next best each time. Tests compare the two; `weir explain` tells what it saw. */
#include "route_priv.h"

/* ---- host and path ---- */

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

static bool prefix_fits(const struct route *r, struct span path) {
  if (span_eq(r->path, SPAN_LIT("/"))) return true;
  if (!span_starts(path, r->path)) return false;
  return path.len == r->path.len || path.ptr[r->path.len] == '/';
}

/* path_may_fit: a regex is only tried when its turn comes. */
static bool path_may_fit(const struct route *r, struct span path) {
  switch ((enum route_path)r->path_kind) {
    case ROUTE_PATH_EXACT: return span_eq(r->path, path);
    case ROUTE_PATH_REGEX: return true;
    case ROUTE_PATH_PREFIX: break;
  }
  return prefix_fits(r, path);
}

/* ---- the order ---- */

static int by_number(uint64_t more, uint64_t less) { return (more < less) - (more > less); }

/* compare_paths: exact, then regexes, then prefixes by length; below 0: a comes first. */
static int compare_paths(const struct route *a, const struct route *b) {
  int kinds = (int)a->path_kind - (int)b->path_kind; /* the order of enum route_path */
  if (kinds || a->path_kind == ROUTE_PATH_EXACT) return kinds;
  if (a->path_kind == ROUTE_PATH_REGEX) return by_number(b->order, a->order);
  return by_number(a->path.len, b->path.len);
}

/* compare: of two candidates, which is asked first? */
static int compare(const struct route *a, const struct route *b, const struct addr *client) {
  int r = compare_paths(a, b);
  if (!r) r = by_number(route_has_methods(a), route_has_methods(b));
  for (unsigned part = 0; part < MATCH_PART_COUNT && !r; part++)
    r = by_number(a->rules.counts[part], b->rules.counts[part]);
  if (!r)
    r = by_number(match_source_rank(&a->rules, client), match_source_rank(&b->rules, client));
  return r ? r : by_number(b->order, a->order);
}

/* ---- all ---- */

struct search {
  struct route *const *routes;
  uint32_t count;
  const struct route_query *q;
  size_t host; /* rank of the deciding host */
  struct route_story *stories;
  uint32_t told;
};

static void tell(struct search *s, const struct route *r, enum route_fate fate,
                 struct match_lost lost) {
  if (s->stories) s->stories[s->told++] = (struct route_story){r, fate, lost};
}

static bool is_candidate(const struct search *s, const struct route *r) {
  return host_rank(r, s->q->host) == s->host && path_may_fit(r, s->q->path);
}

/* next_best is the first candidate in order behind `last` (NULL: of all), or NULL. */
static const struct route *next_best(const struct search *s, const struct route *last) {
  const struct addr *client = s->q->input.client;
  const struct route *best = NULL;
  for (uint32_t i = 0; i < s->count; i++) {
    const struct route *r = s->routes[i];
    if (last && compare(last, r, client) >= 0) continue;
    if (best && compare(r, best, client) >= 0) continue;
    if (is_candidate(s, r)) best = r;
  }
  return best;
}

static enum route_fate ask(const struct route *r, const struct route_query *q,
                           struct route_hit *hit, struct match_lost *lost) {
  if (match_source_rank(&r->rules, q->input.client) == MATCH_SOURCE_NONE) return ROUTE_LOST_SOURCE;
  if (r->path_kind != ROUTE_PATH_REGEX) return route_ask(r, q, hit, lost);
  enum regex_result result = regex_match(r->regex, q->path, q->input.scratch);
  if (result == REGEX_YES) return route_ask(r, q, hit, lost);
  return result == REGEX_LIMIT ? ROUTE_LOST_LIMIT : ROUTE_LOST_REGEX;
}

/* tell_rest tells of the routes that were never asked. */
static void tell_rest(struct search *s, const struct route *last) {
  const struct match_lost nothing = {.value = NULL};
  if (!s->stories) return;
  for (const struct route *r = last; r && (r = next_best(s, r)) != NULL;)
    tell(s, r, ROUTE_LOST_BEATEN, nothing);
  for (uint32_t i = 0; s->host && i < s->count; i++)
    if (host_rank(s->routes[i], s->q->host) == s->host && !is_candidate(s, s->routes[i]))
      tell(s, s->routes[i], ROUTE_LOST_PATH, nothing);
  for (uint32_t i = 0; i < s->count; i++)
    if (!s->host || host_rank(s->routes[i], s->q->host) != s->host)
      tell(s, s->routes[i], ROUTE_LOST_HOST, nothing);
}

enum route_verdict route_find_linear(struct route *const *routes, uint32_t count,
                                     const struct route_query *q, struct route_hit *hit,
                                     struct route_story *stories) {
  struct search s = {.routes = routes, .count = count, .q = q, .stories = stories};
  *hit = (struct route_hit){0};
  for (uint32_t i = 0; i < count; i++) {
    size_t rank = host_rank(routes[i], q->host);
    if (rank > s.host) s.host = rank;
  }
  const struct route *r = s.host ? next_best(&s, NULL) : NULL;
  enum route_fate fate = ROUTE_LOST_HOST;
  for (; r; r = next_best(&s, r)) { /* each turn goes on in the order */
    struct match_lost lost = {.value = NULL};
    fate = ask(r, q, hit, &lost);
    tell(&s, r, fate, lost);
    if (fate == ROUTE_WON || fate == ROUTE_LOST_LIMIT) break;
  }
  tell_rest(&s, r);
  if (!r) return hit->allow ? ROUTE_BAD_METHOD : ROUTE_NONE;
  hit->route = r;
  return fate == ROUTE_WON ? ROUTE_FOUND : ROUTE_LIMIT;
}
