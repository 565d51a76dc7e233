/* rows_pool_priv.h: the typed configuration of pools and their endpoints. */
#ifndef WEIR_CONFIG_ROWS_POOL_PRIV_H
#define WEIR_CONFIG_ROWS_POOL_PRIV_H

#include "row_priv.h"

struct conf_endpoint {
  struct conf_row row;
  struct span address;
  uint32_t weight;
  bool backup;
  uint8_t priority;
};

/* conf_health is the active check; on when its group is written. */
struct conf_health {
  bool on;
  uint8_t protocol; /* enum health_protocol, the order of the words */
  struct span path, method, host, body, service;
  struct conf_list headers, expect;
  uint16_t port;
  uint8_t jitter_percent;
  uint32_t interval_ms, fast_interval_ms, timeout_ms, healthy, unhealthy;
};

/* conf_discover is how names of a pool are asked for, and those that are all of its endpoints. */
struct conf_discover {
  struct span dns, srv; /* "name:port", a name; at most one */
  struct conf_list servers;
  struct span servers_text; /* joined by commas (check_discover.c) */
  uint8_t family, jitter_percent;
  uint32_t attempts, timeout_ms, min_ttl_ms, max_ttl_ms, retry_ms, max_retry_ms;
};

/* conf_pool_tls is TLS to the endpoints; on when its group is written. */
struct conf_pool_tls {
  bool on;
  uint8_t verify; /* enum conf_verify, the order of the words */
  uint8_t min;    /* word: 0 is 1.2 */
  struct span ca, sni, cert, key; /* ca, cert, key: as written */
  struct conf_list names, pins, groups;
  struct text ca_pem, cert_pem, key_pem; /* heap; wiped */
};
enum conf_verify { VERIFY_SYSTEM, VERIFY_NONE };

struct conf_pool {
  struct conf_row row;
  struct conf_pool_tls tls;
  struct conf_discover discover;
  uint8_t balance;
  struct span hash, sticky_key; /* as written */
  struct pool_spread spread;    /* but for its hash */
  struct sticky_settings sticky;
  struct text sticky_key_bytes; /* heap; wiped */
  struct conf_rows endpoints;
  struct pool_timeouts timeouts;
  struct pool_connections connections;
  struct span priority_header;
  struct pool_retry retry;
  struct conf_list retry_on, proxy_tlvs;
  struct pool_outlier outlier;
  struct conf_health health;
  struct pool_breaker breaker;
  struct pool_concurrency concurrency;
  struct pool_limits limits;
  bool used;
  bool tcp; /* by a listener of TCP or UDP (check_tcp.c) */
  bool streams, udp; /* of these: by one of TCP; of UDP */
};

#endif
