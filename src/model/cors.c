/* cors.c: is an origin one of those that a policy names? Bytes are compared as browsers write
 * them; what stands for "*." is host name bytes only, so that no path, port or userinfo hides in
 * it. Called by filter/cors.c. */
#include "weir/model/cors.h"

/* is_names: labels of a host name, each with something in it. */
static bool is_names(struct span s) {
  bool label = false;
  for (size_t i = 0; i < s.len; i++) {
    char c = s.ptr[i];
    bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (!good && (c != '.' || !label)) return false;
    label = good;
  }
  return label;
}

static bool matches(const struct cors_origin *o, struct span origin) {
  if (!o->tail.len) return span_eq(o->head, origin);
  if (!span_starts(origin, o->head) || !span_ends(origin, o->tail)) return false;
  if (origin.len <= o->head.len + o->tail.len) return false;
  return is_names(span_sub(origin, o->head.len, origin.len - o->head.len - o->tail.len));
}

bool cors_allows(const struct cors *cors, struct span origin) {
  if (!origin.len || span_eq(origin, SPAN_LIT("null"))) return false;
  for (uint32_t i = 0; i < cors->origin_count; i++)
    if (matches(&cors->origins[i], origin)) return true;
  return cors->any;
}
