/* pairs.h: the name-value pairs that stand inside a field or a query: cookies (RFC 6265 section
 * 4.2.1) and form parameters. Values are as they came: nothing is decoded and no quotes are taken
 * off, so that two spellings are two values. */
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
/* http_query_find gives the first parameter of that name ("a" and "a=" have an empty value);
 * false when there is none. */
bool http_query_find(struct span query, struct span name, struct span *value);

#endif
