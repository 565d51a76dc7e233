/* via.c: this hop in Via, both ways (RFC 9110 section 7.6.3). A Via that came is passed on before
 * ours, as its own row. The pseudonym hides the host's name. */
#include "filter_priv.h"

enum filter_result via_request(struct filter_ctx *ctx) {
  struct span hop = ctx->request->minor ? SPAN_LIT("1.1 weir") : SPAN_LIT("1.0 weir");
  return filter_add(ctx, &ctx->request->fields, SPAN_LIT("Via"), hop);
}

enum filter_result via_response(struct filter_ctx *ctx) {
  struct span hop = ctx->response->minor ? SPAN_LIT("1.1 weir") : SPAN_LIT("1.0 weir");
  return filter_add(ctx, &ctx->response->fields, SPAN_LIT("Via"), hop);
}
