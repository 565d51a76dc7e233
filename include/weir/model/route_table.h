/* route_table.h: which route answers a request at one listener. DESIGN.md, "Matching". */
#ifndef WEIR_MODEL_ROUTE_TABLE_H
#define WEIR_MODEL_ROUTE_TABLE_H

#include "weir/model/parts.h"

/* route_table answers for one listener; compiled, immutable, in the snapshot's arena. */
struct route_table;

/* route_query is what is matched; host is canonical, path is canonical (http/path.h), no query. */
struct route_query {
  struct span host, path;
  enum http_method method;
  struct span method_text;
  struct match_input input; /* for the conditions; scratch also for regexes of paths */
};

enum route_verdict {
  ROUTE_FOUND,
  ROUTE_NONE,
  ROUTE_BAD_METHOD, /* only the method was wrong */
  ROUTE_LIMIT,      /* a regex met its limit: the request is refused */
  ROUTE_BAD_CERT,   /* only the client's certificate was wrong, or that it has none */
};

struct route_hit {
  const struct route *route; /* ROUTE_FOUND; ROUTE_LIMIT: the one whose regex it was */
  uint32_t methods;          /* ROUTE_BAD_METHOD: union of what is allowed */
  const struct route *allow; /* one of the routes that were near, for extra_methods */
  bool cert;                 /* a route asks for another client certificate */
};

/* route_table_new compiles routes (any order) in arena; routes outlive it. */
struct route_table *route_table_new(struct arena *arena, struct route *const *routes,
                                    uint32_t count);
/* route_find answers in time independent of the number of routes for hosts and exact paths, and of
 * the path's segments for prefixes; regexes of a host are tried one by one, and so are routes that
 * differ only in conditions. No allocation. DESIGN.md "Matching". */
MUST_USE enum route_verdict route_find(const struct route_table *table,
                                       const struct route_query *q, struct route_hit *hit);

/* ---- the slow twin: route_linear.c ---- */

/* route_fate is what became of a route: the first reason why it did not answer. */
enum route_fate {
  ROUTE_WON,
  ROUTE_LOST_LIMIT,  /* its regex met the limit: all ends here */
  ROUTE_LOST_REGEX,  /* of its path */
  ROUTE_LOST_SOURCE,
  ROUTE_LOST_RULE,   /* header, query or cookie: value says which */
  ROUTE_LOST_METHOD,
  ROUTE_LOST_CERT,   /* of the client */
  ROUTE_LOST_BEATEN, /* not asked: a better one had won */
  ROUTE_LOST_PATH,
  ROUTE_LOST_HOST,   /* another host's routes decide, or its own does not fit */
};

/* route_story is one route's fate. */
struct route_story {
  const struct route *route;
  enum route_fate fate;
  struct match_lost lost; /* ROUTE_LOST_RULE, and LIMIT in a rule (value NULL: the path's regex) */
};

/* route_find_linear is route_find for tests and explain: the same answer by trying every route.
 * stories (room for count) gets each route's fate: those that were asked in their order, then the
 * beaten, then those whose path and host do not fit. */
MUST_USE enum route_verdict route_find_linear(struct route *const *routes, uint32_t count,
                                              const struct route_query *q, struct route_hit *hit,
                                              struct route_story *stories);

#endif
