/* rate.c: tells the client of the rates that its request was counted in, in RateLimit and
 * RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-11). What they say is proxy/limit.c's.
 * Fields of the same name that the pool sent stay: they speak of its own limits. */
#include "filter_priv.h"

enum filter_result rate_response(struct filter_ctx *ctx) {
  struct http_fields *fields = &ctx->response->fields;
  if (!ctx->rate.len) return FILTER_NEXT;
  enum filter_result r =
      filter_add(ctx, fields, SPAN_LIT("RateLimit-Policy"), ctx->rate_policy);
  return r == FILTER_NEXT ? filter_add(ctx, fields, SPAN_LIT("RateLimit"), ctx->rate) : r;
}
