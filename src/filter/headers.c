/* headers.c: fields that the route's policies remove, set and add, in the order of the policies;
 * within one: remove, set, add. Runs after every other filter, so that a later word of weir's does
 * not undo it, and what a client sent under the same name, also with _ for -, is gone before
 * (THREATS.md row 19). Which names may stand in a policy is config/values_edit.c's. */
#include "filter_priv.h"

static char dashed(char c) { return c == '_' ? '-' : ascii_lower(c); }

/* same_name compares names as a backend does that reads _ as - (CGI and its kin). */
static bool same_name(struct span a, struct span b) {
  if (a.len != b.len) return false;
  for (size_t i = 0; i < a.len; i++)
    if (dashed(a.ptr[i]) != dashed(b.ptr[i])) return false;
  return true;
}

static void drop(struct http_fields *fields, struct span name) {
  for (uint32_t i = 0; i < fields->count; i++)
    if (same_name(fields->rows[i].name, name)) fields->rows[i].flags |= HTTP_FIELD_DROP;
}

static enum filter_result put(struct filter_ctx *ctx, struct http_fields *fields,
                              const struct field_set *field) {
  struct span value;
  if (!filter_expand(ctx, &field->value, &value)) return FILTER_ANSWER;
  value = span_trim(value);
  return value.len ? filter_add(ctx, fields, field->name, value) : FILTER_NEXT;
}

static enum filter_result edit(struct filter_ctx *ctx, struct http_fields *fields,
                               const struct field_edits *edits) {
  enum filter_result r = FILTER_NEXT;
  for (uint32_t i = 0; i < edits->remove_count; i++) drop(fields, edits->remove[i]);
  for (uint32_t i = 0; i < edits->set_count; i++) drop(fields, edits->set[i].name);
  for (uint32_t i = 0; i < edits->set_count && r == FILTER_NEXT; i++)
    r = put(ctx, fields, &edits->set[i]);
  for (uint32_t i = 0; i < edits->add_count && r == FILTER_NEXT; i++)
    r = put(ctx, fields, &edits->add[i]);
  return r;
}

void filter_trailers(const struct filter_ctx *ctx, struct http_fields *trailers, bool request) {
  const struct route *route = ctx->route;
  for (uint32_t i = 0; route && i < route->policy_count; i++) {
    const struct policy *policy = route->policies[i];
    const struct field_edits *edits = request ? &policy->request : &policy->response;
    for (uint32_t k = 0; k < edits->remove_count; k++) drop(trailers, edits->remove[k]);
    for (uint32_t k = 0; k < edits->set_count; k++) drop(trailers, edits->set[k].name);
  }
}

enum filter_result headers_request(struct filter_ctx *ctx) {
  const struct route *route = ctx->route;
  for (uint32_t i = 0; route && i < route->policy_count; i++) {
    enum filter_result r = edit(ctx, &ctx->request->fields, &route->policies[i]->request);
    if (r != FILTER_NEXT) return r;
  }
  return FILTER_NEXT;
}

enum filter_result headers_response(struct filter_ctx *ctx) {
  const struct route *route = ctx->route;
  for (uint32_t i = 0; route && i < route->policy_count; i++) {
    enum filter_result r = edit(ctx, &ctx->response->fields, &route->policies[i]->response);
    if (r != FILTER_NEXT) return r;
  }
  return FILTER_NEXT;
}
