/* strip_prefix.c: the path sent upstream without the route's prefix; what is left begins with "/".
 * The path was checked and matched as bytes, and the prefix ends at a segment, so that the rest is
 * what the matched path says: no decoding stands between match and forward. */
#include "filter_priv.h"

enum filter_result strip_prefix_request(struct filter_ctx *ctx) {
  const struct route *route = ctx->route;
  if (!route || !route->strip_prefix || route->path.len <= 1) return FILTER_NEXT;
  struct span path = ctx->request->path;
  if (!span_starts(path, route->path)) return FILTER_NEXT;
  struct span rest = span_from(path, route->path.len);
  ctx->forward_path = rest.len ? rest : SPAN_LIT("/");
  return FILTER_NEXT;
}
