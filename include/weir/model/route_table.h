/* route_table.h: which route answers a request at one listener. DESIGN.md, "Matching". */
#ifndef WEIR_MODEL_ROUTE_TABLE_H
#define WEIR_MODEL_ROUTE_TABLE_H

#include "weir/model/parts.h"

/* route_table answers for one listener; compiled, immutable, in the snapshot's arena. */
struct route_table;

/* route_query is what is matched; host is canonical, path is as forwarded (no query). */
struct route_query {
  struct span host, path;
  enum http_method method;
  struct span method_text;
};

enum route_verdict { ROUTE_FOUND, ROUTE_NONE, ROUTE_BAD_METHOD };

struct route_hit {
  const struct route *route; /* ROUTE_FOUND */
  uint32_t methods;          /* ROUTE_BAD_METHOD: union of what is allowed */
  const struct route *allow; /* one of the routes that were near, for extra_methods */
};

/* route_table_new compiles routes (any order) in arena; routes outlive it. */
struct route_table *route_table_new(struct arena *arena, struct route *const *routes,
                                    uint32_t count);
/* route_find answers in time independent of the number of routes for hosts and exact paths, and of
 * the path's segments for prefixes. No allocation. DESIGN.md "Matching". */
enum route_verdict route_find(const struct route_table *table, const struct route_query *q,
                              struct route_hit *hit);
/* route_find_linear is the slow twin for tests and explain: the same answer by trying every route.
 */
enum route_verdict route_find_linear(struct route *const *routes, uint32_t count,
                                     const struct route_query *q, struct route_hit *hit);

#endif
