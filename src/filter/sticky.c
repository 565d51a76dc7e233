/* sticky.c: the cookie that names the endpoint, on its way to the client. Which cookie, and
 * whether one is due at all, proxy/ has decided. RFC 6265 section 4.1. */
#include "filter_priv.h"

enum filter_result sticky_response(struct filter_ctx *ctx) {
  if (!ctx->set_cookie.len) return FILTER_NEXT;
  return filter_add(ctx, &ctx->response->fields, SPAN_LIT("Set-Cookie"), ctx->set_cookie);
}
