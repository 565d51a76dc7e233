/* cors.c: the CORS protocol (Fetch standard, sections 3.2 and 4.8) for routes whose policies have
 * cors: preflight requests are answered here and never go upstream; responses get their fields
 * from weir alone, whatever the pool sent. Vary names Origin always, also when there was none. */
#include "filter_priv.h"

static const struct span owned[] = {
    {"Access-Control-Allow-Origin", 27},  {"Access-Control-Allow-Credentials", 32},
    {"Access-Control-Allow-Methods", 28}, {"Access-Control-Allow-Headers", 28},
    {"Access-Control-Max-Age", 22},       {"Access-Control-Expose-Headers", 29},
};

static const struct cors *cors_at(const struct filter_ctx *ctx) {
  return ctx->route ? ctx->route->cors : NULL;
}

/* origin_of is the one Origin field; more than one is none. */
static struct span origin_of(const struct http_request *r) {
  const struct http_field *row = http_fields_find(&r->fields, HTTP_NAME_ORIGIN);
  if (!row || (r->fields.repeated >> HTTP_NAME_ORIGIN) & 1) return SPAN_EMPTY;
  return row->value;
}

bool filter_preflight(const struct http_request *r, struct span *method) {
  if (r->method != HTTP_METHOD_OPTIONS || !http_fields_has(&r->fields, HTTP_NAME_ORIGIN))
    return false;
  const struct http_field *row =
      http_fields_find_name(&r->fields, SPAN_LIT("Access-Control-Request-Method"));
  if (!row || !http_is_token(row->value)) return false;
  *method = row->value;
  return true;
}

enum filter_result cors_request(struct filter_ctx *ctx) {
  const struct cors *cors = cors_at(ctx);
  struct span method;
  if (!cors || !filter_preflight(ctx->request, &method)) return FILTER_NEXT;
  ctx->preflight = true;
  ctx->status = 204;
  ctx->end = END_CORS_ORIGIN;
  return cors_allows(cors, origin_of(ctx->request)) ? FILTER_RESPOND : FILTER_ANSWER;
}

/* varies tells whether a response says already that it depends on Origin. */
static bool varies(const struct http_fields *fields) {
  const struct http_field *row = NULL;
  while ((row = http_fields_next(fields, HTTP_NAME_VARY, row))) {
    struct span rest = row->value, word;
    while (span_next_token(&rest, ',', &word))
      if (span_eq(word, SPAN_LIT("*")) || span_eq_nocase(word, SPAN_LIT("Origin"))) return true;
  }
  return false;
}

static bool put(struct filter_ctx *ctx, const char *name, struct span value) {
  if (!value.len) return true;
  return filter_add(ctx, &ctx->response->fields, span_str(name), value) == FILTER_NEXT;
}

static bool put_all(struct filter_ctx *ctx, const struct cors *cors, struct span origin) {
  struct span who = cors->any && !cors->credentials ? SPAN_LIT("*") : origin;
  if (!put(ctx, "Access-Control-Allow-Origin", who)) return false;
  if (cors->credentials && !put(ctx, "Access-Control-Allow-Credentials", SPAN_LIT("true")))
    return false;
  if (!ctx->preflight) return put(ctx, "Access-Control-Expose-Headers", cors->expose);
  return put(ctx, "Access-Control-Allow-Methods", cors->methods) &&
         put(ctx, "Access-Control-Allow-Headers", cors->headers) &&
         put(ctx, "Access-Control-Max-Age", cors->max_age);
}

enum filter_result cors_response(struct filter_ctx *ctx) {
  const struct cors *cors = cors_at(ctx);
  if (!cors) return FILTER_NEXT;
  struct http_fields *fields = &ctx->response->fields;
  struct span origin = origin_of(ctx->request);
  for (size_t i = 0; i < array_count(owned); i++) http_fields_drop(fields, owned[i]);
  if (!varies(fields) && !put(ctx, "Vary", SPAN_LIT("Origin"))) return FILTER_ANSWER;
  if (!cors_allows(cors, origin)) return FILTER_NEXT;
  return put_all(ctx, cors, origin) ? FILTER_NEXT : FILTER_ANSWER;
}
