/* cors.h: who may read a route's responses from another origin (the CORS protocol of the Fetch
 * standard). Part of struct policy; texts are in its arena. */
#ifndef WEIR_MODEL_CORS_H
#define WEIR_MODEL_CORS_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/span.h"

/* cors_origin is one origin as a browser writes it, or with a name before it for "*." */
struct cors_origin {
  struct span head; /* exact: all of it; wild: "https://" */
  struct span tail; /* wild: ".example.com:8443"; exact: empty */
};

struct cors {
  const struct cors_origin *origins;
  uint32_t origin_count;
  bool any;         /* "*": every origin but null; never with credentials */
  bool credentials;
  struct span methods, headers, expose; /* lists as they are sent; empty: none */
  struct span max_age;                  /* seconds */
};

/* cors_allows tells whether an Origin field's value may read. "null" never may. */
bool cors_allows(const struct cors *cors, struct span origin);

#endif
