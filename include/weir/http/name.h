/* name.h: field names that weir knows, as numbers, from name.def (RFC 9110 section 5.1). A name
 * that is not in the table is HTTP_NAME_OTHER and passes through untouched, but for those that
 * http_name_speaks_for. */
#ifndef WEIR_HTTP_NAME_H
#define WEIR_HTTP_NAME_H

#include <stdint.h>

#include "weir/base/span.h"

/* http_name_flag says what the proxy may do with a field of this name. */
enum http_name_flag {
  HTTP_NAME_HOP = 1,        /* meant for the next hop only: never forwarded (RFC 9110 7.6.1) */
  HTTP_NAME_PINNED = 2,     /* Connection may not nominate it */
  HTTP_NAME_FORWARDING = 4, /* speaks for the proxy: a client's own is dropped unless trusted */
  HTTP_NAME_NO_TRAILER = 8, /* has no meaning in a trailer section (RFC 9110 6.5.1) */
  HTTP_NAME_OWN = 16,       /* weir writes it itself from what it understood (Host, framing) */
  HTTP_NAME_FIXED = 32,     /* says what only weir knows: no policy edits it */
};

/* http_name numbers fit a 64-bit set: http_fields.present has one bit for each. */
enum http_name {
  HTTP_NAME_OTHER,
#define NAME(id, text, slot, flags) HTTP_NAME_##id,
#include "weir/http/name.def"
#undef NAME
  HTTP_NAME_COUNT
};
_Static_assert(HTTP_NAME_COUNT <= 64, "http_fields.present is a 64-bit set");

/* http_name_find gives the number of a name, any case; HTTP_NAME_OTHER when it is not known. O(1):
 * one multiplicative hash of length and three letters, one compare. */
enum http_name http_name_find(struct span name);
/* http_name_text is the lower-case name; empty for HTTP_NAME_OTHER. */
struct span http_name_text(enum http_name id);
/* http_name_flags is the set of http_name_flag of a name; 0 for HTTP_NAME_OTHER. */
unsigned http_name_flags(enum http_name id);
/* http_name_alias finds the name that a CGI-like backend would take this one for: `_` read as `-`.
 * HTTP_NAME_OTHER when name has no `_` or means nothing to weir. */
enum http_name http_name_alias(struct span name);
/* http_name_shadows: a backend that reads `_` as `-` would take this name for one that weir
 * controls. */
bool http_name_shadows(struct span name);
/* http_name_speaks_for: any name that begins with X-Forwarded, any case, `_` read as `-`: whatever
 * backends make of it, it speaks for the proxy. One look at the first letter for most names. */
bool http_name_speaks_for(struct span name);
/* http_name_keyed: may something be counted or chosen by a field of this name? Not by what no
 * backend sees, nor by what weir writes itself: Host has many spellings. */
bool http_name_keyed(struct span name);

/* http_is_token: one or more tchar (RFC 9110 5.6.2). */
bool http_is_token(struct span s);
/* http_is_value: bytes that may stand in a field value: HTAB, SP, VCHAR, obs-text (RFC 9110 5.5).
 */
bool http_is_value(struct span s);

#endif
