/* parts.h: what a generation is made of: pools, routes, listeners. Immutable, shared between
 * generations by equal content. config/ builds them, proxy/ and upstream/ read them. */
#ifndef WEIR_MODEL_PARTS_H
#define WEIR_MODEL_PARTS_H

#include "weir/http/message.h"
#include "weir/http/path.h"
#include "weir/model/action.h"
#include "weir/model/balance.h"
#include "weir/model/match.h"
#include "weir/model/policy.h"
#include "weir/model/retry.h"
#include "weir/model/settings.h"
#include "weir/model/sni.h"
#include "weir/model/state.h"

struct tls_server; /* io/tls.h; opaque here */
struct tls_client; /* io/tls_client.h; opaque here */

struct pool_member {
  struct endpoint *endpoint; /* ref held by the pool */
  uint32_t weight;
  bool backup;
  uint8_t priority; /* 0 comes first */
  uint64_t hash;    /* of its resolved address: where it stands in hash tables */
};

struct pool {
  struct object obj;
  struct pool_state *state;    /* ref */
  struct pool_member *members; /* in obj.arena; by tier, then in the order of the file */
  uint32_t member_count;
  uint32_t unresolved; /* names that have no address now */
  uint64_t discover;   /* hash of how its names are asked for */
  uint8_t balance;     /* row of upstream/balance.def */
  bool has_backups;    /* the last tier is theirs */
  uint32_t tier_count; /* by priority; this and the one above are pool_prepare's (upstream/) */
  struct pool_tier *tiers;
  struct pool_spread spread;
  struct pool_sticky *sticky; /* NULL: no cookie */
  struct pool_timeouts timeouts;
  struct pool_connections connections;
  struct pool_retry retry;
  struct span priority_header; /* names a request's priority in the queue; empty: the route's */
  struct pool_outlier outlier;
  struct pool_health health;
  struct pool_breaker breaker;
  struct pool_concurrency concurrency;
  struct pool_limits limits;
  bool tcp, streams, udp; /* of TCP or UDP: a connection serves one session; of TCP; of UDP */
  struct tls_client *tls; /* NULL: plaintext; one ref, dropped with tls_unref by the fini */
  void (*tls_unref)(struct tls_client *client);
};

/* route_mirror: copies of a share of the requests go to another pool. */
struct route_mirror {
  struct pool *pool; /* ref; NULL: none */
  uint32_t ppm;
};

enum route_action { ROUTE_POOL, ROUTE_REDIRECT, ROUTE_RESPOND, ROUTE_SPLIT };
enum route_path { ROUTE_PATH_EXACT, ROUTE_PATH_REGEX, ROUTE_PATH_PREFIX };

/* route_split is one part of a split. */
struct route_split {
  struct pool *pool; /* ref held by the route */
  uint32_t weight;
};

struct route {
  struct object obj;         /* name: the route's, else its match key */
  struct route_state *state; /* ref */
  uint32_t order;            /* place in the file: breaks ties */
  uint8_t action;            /* enum route_action */
  uint8_t path_kind;         /* enum route_path */
  bool strip_prefix;
  struct span path; /* exact path or prefix, no trailing slash but for "/"; or the regex's text */
  struct regex *regex; /* ROUTE_PATH_REGEX; freed by the fini, as are those of rules */
  struct match_rules rules;
  const struct span *hosts; /* canonical; "*.x" wildcards; none: any */
  uint32_t host_count;
  uint32_t methods; /* bit per enum http_method; 0: all */
  const struct span *extra_methods; /* method names outside the enum */
  uint32_t extra_method_count;
  struct policy *const *policies; /* refs; in the order in which they apply */
  uint32_t policy_count;
  struct policy_settings settings; /* of all of them */
  bool limited;                    /* one of them has networks or a rate */
  const struct cors *cors;         /* of the last that has one; NULL: none */
  struct pool *pool; /* ref; ROUTE_POOL */
  struct route_split *splits; /* ROUTE_SPLIT; in the order of the file */
  uint32_t split_count;
  uint64_t split_weight;    /* the sum; above 0 */
  struct hash_key split_by; /* HASH_NONE: each request by itself */
  bool split_failover;      /* a pool without an endpoint in service passes to the others */
  struct route_mirror mirror;
  uint32_t timeout_ms;
  uint8_t priority;         /* 0 comes first, 7 last (POOL_PRIORITIES) */
  struct route_rewrite rewrite;
  struct route_host host;
  uint16_t status;      /* redirect, respond */
  struct route_redirect redirect;
  struct route_respond respond;
  struct span origin;   /* "file:line", for explain and logs */
};

/* listener_proxied: does a PROXY header come first? As the words of proxy_protocol. */
enum listener_proxied { PROXIED_NO, PROXIED_ALL, PROXIED_SOME };

struct listener {
  struct object obj;
  struct listener_state *state; /* ref */
  struct span *binds;           /* as written */
  uint32_t bind_count;
  bool redirect_https;
  uint16_t redirect_port; /* 443 unless another TLS listener's */
  uint8_t serves;         /* enum listener_serves */
  struct pool *pool;      /* ref; where connections go, of TLS those that no row fits; or NULL */
  struct listener_sni *sni; /* SERVES_TLS; in the order of the file */
  uint32_t sni_count;
  struct tls_server *tls; /* NULL: plaintext; one ref, dropped with tls_unref by the fini */
  void (*tls_unref)(struct tls_server *server);
  uint64_t tls_policy;    /* hash of the text that sessions are bound to: versions, groups, suites;
                           * tls_clients: of what clients are asked for */
  uint64_t tls_clients;
  struct listener_timeouts timeouts;
  struct listener_limits limits;
  uint32_t protocols; /* bits of enum listener_protocol; 0 with TCP, else not */
  struct span alpn;   /* those by ALPN, in wire form, best first; empty: none */
  struct listener_h2 h2;
  struct listener_udp udp;
  struct path_policy paths;
  struct addr_net *trusted; /* trusted_proxies */
  uint32_t trusted_count;
  bool trust_unix; /* peers on unix sockets are trusted when any proxy is */
  uint8_t proxied; /* enum listener_proxied */
  const struct netset *peers; /* allow, deny: of connections; NULL: all may */
  struct policy *const *policies; /* refs; what they say of new connections; none of HTTP */
  uint32_t policy_count;
  uint32_t client_max; /* connections per client (state.clients); 0: no limit */
  uint8_t client_prefix4, client_prefix6; /* bits of an address that tell clients apart */
};

/* Settings: new object with one ref, owning no others yet; their fini drops what they point at. */
struct route *route_new(struct registry *r, struct span name);
struct pool *pool_new(struct registry *r, struct span name);
struct listener *listener_new(struct registry *r, struct span name);

#endif
