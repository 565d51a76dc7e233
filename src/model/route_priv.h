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

/* route_ask asks a route's conditions but its sources, the method and the client's certificate
 * last: only so is it known that nothing but the one (405) or the other (403) was wrong. A near
 * miss is noted in hit. */
static inline enum route_fate route_ask(const struct route *r, const struct route_query *q,
                                        struct route_hit *hit, struct match_lost *lost) {
  enum match_answer a = match_rules_hold(&r->rules, &q->input, lost);
  if (a == MATCH_LIMIT) return ROUTE_LOST_LIMIT;
  if (a == MATCH_NO) return ROUTE_LOST_RULE;
  if (!route_method_fits(r, q)) {
    hit->methods |= r->methods;
    hit->allow = r;
    return ROUTE_LOST_METHOD;
  }
  if (match_cert_holds(r->rules.cert, q->input.cert)) return ROUTE_WON;
  hit->cert = true;
  return ROUTE_LOST_CERT;
}

/* route_missed is the verdict when no route won. */
static inline enum route_verdict route_missed(const struct route_hit *hit) {
  if (hit->cert) return ROUTE_BAD_CERT;
  return hit->allow ? ROUTE_BAD_METHOD : ROUTE_NONE;
}

/* route_cert_rank: of two routes the one that asks for a client certificate, or for none, comes
 * first. */
static inline bool route_cert_rank(const struct route *r) { return r->rules.cert != NULL; }

#endif
