/* action.h: what a route does beside naming a pool: how a request is changed on its way there, and
 * the answers that weir makes itself. Part of struct route; texts are in its arena. */
#ifndef WEIR_MODEL_ACTION_H
#define WEIR_MODEL_ACTION_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/model/template.h"

/* field_set is one field to be written. Its name is a token that weir does not write itself. */
struct field_set {
  struct span name;
  struct template value;
};

/* route_rewrite is the path that is sent upstream; nothing set: as it came. */
struct route_rewrite {
  struct span prefix;  /* in place of the route's prefix; no trailing slash but for "/" */
  struct span path;    /* in place of the whole path */
  struct regex *regex; /* searched in the path; NULL: none. The route's fini frees it */
  struct span to;      /* in place of the whole path when regex is found (substitute.h) */
};

/* route_host is the Host that is sent upstream; name empty and not endpoint: as it came. */
struct route_host {
  struct span name; /* canonical */
  uint16_t port;    /* 0: none is written */
  bool endpoint;    /* the endpoint's address as written */
};

enum redirect_scheme { REDIRECT_SAME, REDIRECT_HTTP, REDIRECT_HTTPS };

/* route_redirect makes a Location: `to` as written, or the request's URL with other parts. */
struct route_redirect {
  struct span to;
  struct span host; /* canonical; empty: the request's, with its port */
  struct span path; /* in place of the path */
  struct span prefix; /* in place of the route's prefix */
  uint16_t port;    /* 0: the request's, or the scheme's own when scheme or host changes */
  uint8_t scheme;   /* enum redirect_scheme */
  bool query;       /* the request's query is kept */
};

/* route_respond is a fixed response. */
struct route_respond {
  struct span body, content_type;
  const struct field_set *fields; /* each replaces what is there */
  uint32_t field_count;
};

#endif
