/* via.c: this hop in Via, both ways (RFC 9110 section 7.6.3). A Via that came is passed on before
 * ours, as its own row. The pseudonym hides the host's name. */
#include "filter_priv.h"

static struct span hop_of(bool h2, uint8_t minor) {
  return h2 ? SPAN_LIT("2.0 weir") : minor ? SPAN_LIT("1.1 weir") : SPAN_LIT("1.0 weir");
}

enum filter_result via_request(struct filter_ctx *ctx) {
  struct span hop = hop_of(ctx->request->h2, ctx->request->minor);
  return filter_add(ctx, &ctx->request->fields, SPAN_LIT("Via"), hop);
}

enum filter_result via_response(struct filter_ctx *ctx) {
  struct span hop = hop_of(ctx->response->h2, ctx->response->minor);
  return filter_add(ctx, &ctx->response->fields, SPAN_LIT("Via"), hop);
}
