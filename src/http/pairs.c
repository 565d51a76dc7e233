/* pairs.c: cookies and query parameters by name. Reads what is there, checks nothing: a pair
 * without "=" is a name with an empty value. Called by model/ and proxy/. RFC 6265 section 5.4. */
#include "weir/http/pairs.h"

/* pair_named tells whether the pair has the name, and gives its value. */
static bool pair_named(struct span pair, struct span name, struct span *value) {
  if (!span_starts(pair, name)) return false;
  if (pair.len > name.len && pair.ptr[name.len] != '=') return false;
  *value = span_from(pair, name.len + 1);
  return true;
}

bool http_cookie_next(struct http_cookies *at, const struct http_fields *fields, struct span name,
                      struct span *value) {
  if (!http_fields_has(fields, HTTP_NAME_COOKIE)) return false;
  for (;;) { /* each turn uses up a pair or a row */
    struct span pair;
    while (span_next_token(&at->rest, ';', &pair))
      if (pair_named(pair, name, value)) return true;
    at->row = http_fields_next(fields, HTTP_NAME_COOKIE, at->row);
    if (!at->row) return false;
    at->rest = at->row->value;
  }
}

bool http_query_find(struct span query, struct span name, struct span *value) {
  struct span pair;
  while (span_next_token(&query, '&', &pair))
    if (pair_named(pair, name, value)) return true;
  return false;
}
