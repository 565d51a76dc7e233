/* substitute.c: cuts a text with ${0} to ${9} into its parts. Texts are short and there is one for
 * a route, so that they are cut for each request again and nothing is kept. */
#include "weir/model/substitute.h"

int substitute_group(struct span inside) {
  if (inside.len != 1 || inside.ptr[0] < '0' || inside.ptr[0] > '9') return SUBSTITUTE_TEXT;
  return inside.ptr[0] - '0';
}

/* group_at reads "${N}" at the start of s. */
static int group_at(struct span s) {
  if (s.len < 4 || !span_starts(s, SPAN_LIT("${")) || s.ptr[3] != '}') return SUBSTITUTE_TEXT;
  return substitute_group(span_sub(s, 2, 1));
}

bool substitute_next(struct span *rest, struct substitute_part *out) {
  *out = (struct substitute_part){.group = group_at(*rest)};
  if (!rest->len) return false;
  if (out->group != SUBSTITUTE_TEXT) {
    *rest = span_from(*rest, 4);
    return true;
  }
  size_t at = 1;
  if (span_starts(*rest, SPAN_LIT("$${"))) { /* the literal begins with the second $ */
    *rest = span_from(*rest, 1);
    at = 2;
  }
  while (at < rest->len && !span_starts(span_from(*rest, at), SPAN_LIT("$${")) &&
         group_at(span_from(*rest, at)) == SUBSTITUTE_TEXT)
    at++;
  out->text = span_sub(*rest, 0, at);
  *rest = span_from(*rest, at);
  return true;
}
