/* filter.c: runs the rows of filters.def. Called by proxy/ once per head. */
#include "filter_priv.h"

typedef enum filter_result (*filter_fn)(struct filter_ctx *ctx);

static const struct {
  filter_fn on_request, on_response, on_local;
} rows[] = {
#define FILTER(name, on_request, on_response, on_local, doc) {on_request, on_response, on_local},
#include "weir/filter/filters.def"
#undef FILTER
};

enum filter_result filter_request(struct filter_ctx *ctx) {
  for (size_t i = 0; i < array_count(rows); i++) {
    if (!rows[i].on_request) continue;
    enum filter_result r = rows[i].on_request(ctx);
    if (r != FILTER_NEXT) return r;
  }
  return FILTER_NEXT;
}

enum filter_result filter_response(struct filter_ctx *ctx) {
  for (size_t i = 0; i < array_count(rows); i++) {
    if (!rows[i].on_response) continue;
    enum filter_result r = rows[i].on_response(ctx);
    if (r != FILTER_NEXT) return r;
  }
  return FILTER_NEXT;
}

enum filter_result filter_local(struct filter_ctx *ctx) {
  for (size_t i = 0; i < array_count(rows); i++) {
    if (!rows[i].on_local) continue;
    enum filter_result r = rows[i].on_local(ctx);
    if (r != FILTER_NEXT) return r;
  }
  return FILTER_NEXT;
}

enum filter_result filter_full(struct filter_ctx *ctx) {
  ctx->end = END_LIMIT_STREAM_MEMORY;
  return FILTER_ANSWER;
}

enum filter_result filter_add(struct filter_ctx *ctx, struct http_fields *fields, struct span name,
                              struct span value) {
  return http_fields_add(fields, ctx->arena, name, value) ? FILTER_NEXT : filter_full(ctx);
}
