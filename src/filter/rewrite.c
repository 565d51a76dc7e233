/* rewrite.c: the path that is sent upstream when a route replaces its prefix, or the whole path.
 * A prefix and a path were checked when they were read and the prefix ends at a segment, so that
 * the result keeps the path policy of http/path.h: no part can complete a dot segment or an escape
 * of the other. What groups of a regular expression are put together to is checked anew. */
#include "filter_priv.h"
#include "weir/base/regex.h"
#include "weir/http/path.h"
#include "weir/model/substitute.h"

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

/* substitute writes `to` with the groups of the last match in path; false: no memory. */
static bool substitute(const struct filter_ctx *ctx, struct span to, struct span path,
                       struct span *out) {
  size_t room = 0;
  struct substitute_part part;
  for (struct span rest = to; substitute_next(&rest, &part);)
    room += part.text.len + regex_group(ctx->scratch, path, (unsigned)part.group).len;
  char *bytes = arena_bytes(ctx->arena, room);
  struct buf b = buf_of(bytes, bytes ? room : 0);
  for (struct span rest = to; substitute_next(&rest, &part);) {
    bool text = part.group == SUBSTITUTE_TEXT;
    buf_put(&b, text ? part.text : regex_group(ctx->scratch, path, (unsigned)part.group));
  }
  *out = buf_span(&b);
  return !b.full;
}

/* replace_match: a path that the regex is not found in stays. A result that breaks the listener's
 * path policy, or holds a dot segment, is refused: it would be another path to the backend. */
static enum filter_result replace_match(struct filter_ctx *ctx, struct span path) {
  const struct route_rewrite *rewrite = &ctx->route->rewrite;
  switch (regex_match(rewrite->regex, path, ctx->scratch)) {
    case REGEX_NO: return FILTER_NEXT;
    case REGEX_LIMIT: ctx->end = END_LIMIT_REGEX; return FILTER_ANSWER;
    case REGEX_YES: break;
  }
  struct span made;
  if (!substitute(ctx, rewrite->to, path, &made)) return filter_full(ctx);
  struct path_policy policy = ctx->listener->paths;
  policy.dot_segments = PATH_DOTS_REFUSE;
  return path_canonical(made, &policy, ctx->arena, &ctx->forward_path, &ctx->end)
             ? FILTER_NEXT
             : FILTER_ANSWER;
}

enum filter_result rewrite_request(struct filter_ctx *ctx) {
  const struct route *route = ctx->route;
  struct span path = ctx->request->path;
  if (!route || !span_starts(path, SPAN_LIT("/"))) return FILTER_NEXT; /* "*" stays */
  if (route->rewrite.regex) return replace_match(ctx, path);
  if (route->rewrite.path.len) ctx->forward_path = route->rewrite.path;
  if (!route->rewrite.prefix.len || !span_starts(path, route->path)) return FILTER_NEXT;
  size_t from = route->path.len > 1 ? route->path.len : 0;
  return replace_prefix(ctx, route->rewrite.prefix, span_from(path, from));
}
