/* rewrite.c: the path that is sent upstream when a route replaces its prefix, or the whole path.
 * Both parts were checked as paths and the prefix ends at a segment, so that the result keeps the
 * path policy of http/path.h: no part can complete a dot segment or an escape of the other. */
#include "filter_priv.h"

static enum filter_result replace_prefix(struct filter_ctx *ctx, struct span prefix,
                                         struct span rest) {
  if (prefix.len == 1) prefix = SPAN_EMPTY; /* "/": what is left begins with one */
  size_t room = prefix.len + rest.len;
  char *bytes = room ? arena_bytes(ctx->arena, room) : NULL;
  struct buf b = buf_of(bytes, bytes ? room : 0);
  buf_put(&b, prefix);
  buf_put(&b, rest);
  if (b.full) return filter_full(ctx);
  ctx->forward_path = room ? buf_span(&b) : SPAN_LIT("/");
  return FILTER_NEXT;
}

enum filter_result rewrite_request(struct filter_ctx *ctx) {
  const struct route *route = ctx->route;
  struct span path = ctx->request->path;
  if (!route || !span_starts(path, SPAN_LIT("/"))) return FILTER_NEXT; /* "*" stays */
  if (route->rewrite.path.len) ctx->forward_path = route->rewrite.path;
  if (!route->rewrite.prefix.len || !span_starts(path, route->path)) return FILTER_NEXT;
  size_t from = route->path.len > 1 ? route->path.len : 0;
  return replace_prefix(ctx, route->rewrite.prefix, span_from(path, from));
}
