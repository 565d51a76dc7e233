/* route_priv.h: what the compiled matcher and its slow twin share: whether one route, whose host
 * and path fit, takes a request. */
#ifndef WEIR_MODEL_ROUTE_PRIV_H
#define WEIR_MODEL_ROUTE_PRIV_H

#include "weir/model/model.h"

static inline bool route_method_fits(const struct route *r, const struct route_query *q) {
  if (!r->methods && !r->extra_method_count) return true;
  if (q->method != HTTP_METHOD_OTHER) return (r->methods >> q->method) & 1;
  for (uint32_t i = 0; i < r->extra_method_count; i++)
    if (span_eq(r->extra_methods[i], q->method_text)) return true;
  return false;
}

static inline bool route_has_methods(const struct route *r) {
  return r->methods || r->extra_method_count;
}

/* route_ask asks a route's conditions but its sources, the method last: only so is it known that
 * nothing but the method was wrong (405). A near miss is noted in hit. */
static inline enum route_fate route_ask(const struct route *r, const struct route_query *q,
                                        struct route_hit *hit, struct match_lost *lost) {
  enum match_answer a = match_rules_hold(&r->rules, &q->input, lost);
  if (a == MATCH_LIMIT) return ROUTE_LOST_LIMIT;
  if (a == MATCH_NO) return ROUTE_LOST_RULE;
  if (route_method_fits(r, q)) return ROUTE_WON;
  hit->methods |= r->methods;
  hit->allow = r;
  return ROUTE_LOST_METHOD;
}

#endif
