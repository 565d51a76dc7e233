/* pairs.h: the name-value pairs that stand inside a field or a query, as everything in weir reads
 * them: conditions of routes, hash keys, rates, sticky cookies.
 *
 * - Cookies are cut at ";", name before the first "=", both trimmed; a piece without "=" is none.
 *   Quotes belong to the value (RFC 6265 sections 4.2.1 and 5.4). Cookie fields that are not
 *   passed on are not there.
 * - The query is cut at "&"; a name without "=" has an empty value. Names are compared decoded
 *   (%XX, and "+" is a space, as in forms); a broken escape stands for itself.
 * - Values are given as they came. */
#ifndef WEIR_HTTP_PAIRS_H
#define WEIR_HTTP_PAIRS_H

#include "weir/http/message.h"

/* http_cookies walks the cookies of a request over all its Cookie fields; zero it first. */
struct http_cookies {
  const struct http_field *row;
  struct span rest;
};
/* http_cookie_next gives the next cookie named `name` (case counts); false at the end. */
bool http_cookie_next(struct http_cookies *at, const struct http_fields *fields, struct span name,
                      struct span *value);
/* http_query_next cuts *rest, a query, up to the next parameter of that name; false at the end. */
bool http_query_next(struct span *rest, struct span name, struct span *value);

/* http_form_byte cuts one byte off *raw, which is not empty, decoded. */
char http_form_byte(struct span *raw);
/* http_form_starts: does raw, decoded, begin with text? whole: and end with it. */
bool http_form_starts(struct span raw, struct span text, bool whole);

#endif
