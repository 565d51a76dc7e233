/* route_linear.c: the slow twin of route_table.c, written from DESIGN.md "Matching" by itself: it
 * looks at every route, sorts those whose host and path fit, best first, and asks one after the
 * other. Tests compare the two; `weir explain` tells what it saw. */
#include <stdlib.h>

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
  if (!r) r = by_number(route_cert_rank(a), route_cert_rank(b));
  if (!r)
    r = by_number(match_source_rank(&a->rules, client), match_source_rank(&b->rules, client));
  return r ? r : by_number(b->order, a->order);
}

static int by_rank(const void *a, const void *b, void *client) {
  const struct route_story *x = a, *y = b;
  return compare(x->route, y->route, (const struct addr *)client);
}

/* ---- all ---- */

/* fate_before is what is known of a route before any is asked. */
static enum route_fate fate_before(const struct route *r, const struct route_query *q,
                                   size_t host) {
  if (!host || host_rank(r, q->host) != host) return ROUTE_LOST_HOST;
  return path_may_fit(r, q->path) ? ROUTE_LOST_BEATEN : ROUTE_LOST_PATH;
}

/* tell_all fills stories with every route, candidates first, in their order; gives how many. */
static uint32_t tell_all(struct route *const *routes, uint32_t count, const struct route_query *q,
                         struct route_story *stories) {
  uint32_t told = 0, candidates = 0;
  size_t host = 0;
  for (uint32_t i = 0; i < count; i++) {
    size_t rank = host_rank(routes[i], q->host);
    if (rank > host) host = rank;
  }
  for (enum route_fate fate = ROUTE_LOST_BEATEN; fate <= ROUTE_LOST_HOST; fate++) {
    for (uint32_t i = 0; i < count; i++)
      if (fate_before(routes[i], q, host) == fate)
        stories[told++] = (struct route_story){.route = routes[i], .fate = fate};
    if (fate == ROUTE_LOST_BEATEN) candidates = told;
  }
  check(told == count);
  if (candidates)
    qsort_r(stories, candidates, sizeof *stories, by_rank, (void *)(uintptr_t)q->input.client);
  return candidates;
}

static enum route_fate ask(const struct route *r, const struct route_query *q,
                           struct route_hit *hit, struct match_lost *lost) {
  if (match_source_rank(&r->rules, q->input.client) == MATCH_SOURCE_NONE) return ROUTE_LOST_SOURCE;
  if (r->path_kind != ROUTE_PATH_REGEX) return route_ask(r, q, hit, lost);
  enum regex_result result = regex_match(r->regex, q->path, q->input.scratch);
  if (result == REGEX_YES) return route_ask(r, q, hit, lost);
  return result == REGEX_LIMIT ? ROUTE_LOST_LIMIT : ROUTE_LOST_REGEX;
}

enum route_verdict route_find_linear(struct route *const *routes, uint32_t count,
                                     const struct route_query *q, struct route_hit *hit,
                                     struct route_story *stories) {
  *hit = (struct route_hit){0};
  uint32_t candidates = tell_all(routes, count, q, stories);
  for (uint32_t i = 0; i < candidates; i++) {
    struct route_story *s = &stories[i];
    s->fate = ask(s->route, q, hit, &s->lost);
    if (s->fate != ROUTE_WON && s->fate != ROUTE_LOST_LIMIT) continue;
    hit->route = s->route;
    return s->fate == ROUTE_WON ? ROUTE_FOUND : ROUTE_LIMIT;
  }
  return route_missed(hit);
}
