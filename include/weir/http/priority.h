/* priority.h: the Priority field and frame value (RFC 9218 section 4), a dictionary of structured
 * fields (RFC 8941 section 3.2) of which two members matter. */
#ifndef WEIR_HTTP_PRIORITY_H
#define WEIR_HTTP_PRIORITY_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/span.h"

/* http_priority: HTTP_PRIORITY_DEFAULT where nothing is said. */
struct http_priority {
  uint8_t urgency; /* 0 (first) to 7 */
  bool incremental;
};
#define HTTP_PRIORITY_DEFAULT ((struct http_priority){.urgency = 3, .incremental = false})

/* http_priority_parse takes the members of one value over into *out; members of other names, types
 * or ranges change nothing. False: it is no dictionary; *out untouched. */
MUST_USE bool http_priority_parse(struct span value, struct http_priority *out);

#endif
