/* uri.h: request targets and authorities (RFC 9112 section 3.2, RFC 3986).
 *
 * The path is cut out as it came; its canonical form, which is matched and forwarded, is made by
 * path.h before routing. The query is opaque: bytes 0x21 to 0x7e but "#".
 * One canonical host: lower case, no trailing dot, no userinfo, no escapes; letters, digits, "-"
 * and "_" in labels of 1 to 63, at most 253 in all; "[IPv6]" in its RFC 5952 form. */
#ifndef WEIR_HTTP_URI_H
#define WEIR_HTTP_URI_H

#include "weir/base/arena.h"
#include "weir/base/end.h"
#include "weir/http/message.h"

/* http_target is a request target taken apart; spans point into it or at static text. */
struct http_target {
  enum http_form form;
  enum http_scheme scheme;
  struct span authority; /* of absolute and authority form, not checked */
  struct span path;      /* checked; "/" when an absolute form has none, "*" for OPTIONS then */
  struct span query;
  bool has_query;
};

/* http_target_parse tells the form and checks the query. Authority form is for CONNECT only,
 * asterisk for OPTIONS only; absolute form is http or https. False: *why, *out untouched. */
MUST_USE bool http_target_parse(struct span target, enum http_method method,
                                struct http_target *out, enum end *why);
/* http_query_check tells whether a query (without "?") keeps it. */
bool http_query_check(struct span query);

/* http_host is an authority without userinfo: canonical name, port (0: none was written). */
struct http_host {
  struct span name;
  uint16_t port;
};

/* http_host_canonical checks and canonicalises "host", "host:port" or "host:". Borrows text when
 * it is canonical already, else the name is in the arena. False: *why is BAD_REQUEST_HOST
 * (malformed or empty) or LIMIT_STREAM_MEMORY; *out untouched. */
MUST_USE bool http_host_canonical(struct span text, struct arena *arena, struct http_host *out,
                                  enum end *why);

#endif
