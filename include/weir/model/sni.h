/* sni.h: where a listener that passes TLS on sends a connection, by what its ClientHello says
 * (RFC 6066 section 3, RFC 7301). config/ fills the rows, proxy/ asks. */
#ifndef WEIR_MODEL_SNI_H
#define WEIR_MODEL_SNI_H

#include "weir/http/client_hello.h"

struct listener;
struct pool;

/* listener_serves: in the order of the words of listeners.*.protocol. */
enum listener_serves {
  SERVES_HTTP,
  SERVES_TCP,
  SERVES_TLS, /* passed on unopened */
  SERVES_UDP,
};

/* listener_sni is one name of a row of sni. */
struct listener_sni {
  struct span name;        /* canonical; ".x" for "*.x"; empty: any, and none at all */
  const struct span *alpn; /* one of them has to be offered; none: whatever is */
  uint32_t alpn_count;
  struct pool *pool; /* ref held by the listener */
};

enum sni_verdict { SNI_ROUTED, SNI_NO_NAME, SNI_NO_PROTOCOL };
/* sni_find decides: of the names that fit the most specific one counts (exact, else the longest
 * wildcard, else rows without names), of its rows the first whose protocols fit; then the
 * listener's pool, for hellos that no name fits. *pool is set when it is SNI_ROUTED. */
enum sni_verdict sni_find(const struct listener *l, const struct client_hello *hello,
                          struct pool **pool);

#endif
