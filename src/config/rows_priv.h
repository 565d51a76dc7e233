/* rows_priv.h: the typed configuration as options.def fills it: one struct for each scope, all in
 * the conf's arena. */
#ifndef WEIR_CONFIG_ROWS_PRIV_H
#define WEIR_CONFIG_ROWS_PRIV_H

#include "row_priv.h"
#include "rows_policy_priv.h"
#include "rows_pool_priv.h"

struct conf_cert_row {
  struct conf_row row;
  struct conf_list names;
  struct span cert, key; /* "file:/path", "env:NAME", "cred:name" */
  bool is_default;
  struct text cert_pem, key_pem; /* heap; key_pem is wiped */
  struct span ocsp;              /* as written; empty: none */
  struct text ocsp_der;          /* heap */
};

/* conf_client_verify numbers the words of tls.client.*.verify. */
enum conf_client_verify { CLIENT_VERIFY_REQUIRED, CLIENT_VERIFY_OPTIONAL };

/* conf_client_auth is a row of tls.client. */
struct conf_client_auth {
  struct conf_row row;
  struct conf_list names, ca, crl;
  uint8_t verify, forward; /* enum conf_client_verify; word */
  uint32_t depth;
  struct text *ca_pem, *crl_pem; /* heap, one for each of ca and crl; NULL until they are read */
};

/* CONF_TICKET_KEYS_MAX are those of a listener: one that encrypts, and some that came before. */
#define CONF_TICKET_KEYS_MAX 8u
/* conf_protocol numbers the words of listeners.*.protocol. */
enum conf_protocol { CONF_HTTP, CONF_TCP, CONF_PASS, CONF_UDP };

struct conf_sni {
  struct conf_row row;
  struct conf_list names, alpn;
  struct span pool;
};

struct conf_listener {
  struct conf_row row;
  struct conf_list binds, protocols, trusted, allow, deny, policies;
  uint32_t client_max;
  uint8_t client_prefix4, client_prefix6;
  bool redirect_https, has_tls;
  uint8_t protocol;         /* enum conf_protocol */
  struct span pool;         /* as written; not of CONF_HTTP */
  struct conf_rows snis;    /* of CONF_PASS */
  uint8_t proxy_protocol;   /* enum listener_proxied */
  uint8_t tls_min, tls_max; /* word: 0 is 1.2 */
  bool tls_early;
  struct span tls_ech;      /* as certificates are named; empty: none */
  struct text ech_pem;      /* heap; wiped */
  struct conf_rows certs;   /* none: plaintext */
  struct conf_list tls_groups, tls_ciphers, ticket_keys;
  struct text ticket_bytes[CONF_TICKET_KEYS_MAX]; /* of ticket_keys; heap; wiped */
  bool tls_tickets;
  struct conf_rows clients; /* of conf_client_auth */
  struct listener_timeouts timeouts;
  struct listener_limits limits;
  struct listener_h2 h2;
  struct listener_udp udp;
  struct path_policy paths;
};

struct conf_split {
  struct conf_row row;
  struct span pool;
  uint32_t weight;
};

/* conf_query numbers the words of redirect.query. */
enum conf_query { QUERY_AUTO, QUERY_KEEP, QUERY_DROP };
/* conf_value is a condition on a header field, a query parameter or a cookie. */
struct conf_value {
  struct conf_row row;
  struct span name, exact, prefix, regex;
  bool present;
};

struct conf_route {
  struct conf_row row;
  struct span name;
  struct conf_list listeners, hosts, methods, policies;
  struct span path, prefix; /* prefix without trailing slash but for "/" */
  struct span regex;
  struct conf_rows values[MATCH_PART_COUNT]; /* of struct conf_value */
  struct conf_list sources;
  bool cert_present, falls;                  /* falls: check_cert_falls.c has told of it */
  struct conf_list cert_sans, cert_fingerprints, cert_keys;
  bool strip_prefix;
  struct span rewrite_prefix, rewrite_path, rewrite_regex, rewrite_to, host;
  struct span pool, split_by, mirror_pool; /* as written */
  struct conf_rows splits;
  bool split_failover;
  struct span redirect_to, redirect_host, redirect_path, redirect_prefix;
  uint8_t redirect_scheme, redirect_query; /* enum redirect_scheme, conf_query */
  uint16_t redirect_port, redirect_status, respond_status;
  struct span respond_body, respond_type, respond_file;
  struct conf_list respond_headers;
  struct span file_bytes; /* of respond_file */
  uint32_t timeout_ms, mirror_ppm;
  uint8_t priority;
  struct conf_pool *pool_row; /* resolved by check.c */
  struct span label;          /* name, else the match key */
};

struct conf_root {
  struct conf_row row;
  uint32_t version;
  struct conf_list include;
  uint32_t workers; /* 0: auto */
  uint32_t signers;
  struct span user;
  uint32_t drain_ms, drain_settle_ms;
  uint32_t max_connections; /* 0: auto */
  struct overload_settings overload;
  struct span admin_listen, admin_status;
  uint8_t log_level, access_format;
  struct span log_to, access_to, log_tls_keys;
  uint32_t access_sample_ppm;
  struct conf_rows listeners, pools, policies, routes;
};

/* conf owns all. */
struct conf {
  struct arena arena;
  struct source *sources; /* the main file first */
  struct conf_root root;
  struct conf_process process;
  struct value *running; /* by option of the root: what RESTART options run with; NULL: as set */
  struct conf_file *files;
  uint32_t file_count;
  struct span system_store; /* "file:/path", where a pool needs it */
  struct text system_pem;   /* heap */
  uint64_t *refused; /* by unit of renew.c: content that was not taken; NULL: never read again */
  uint8_t *parts_refused;           /* by part of renew.c: enum there; there when refused is */
  const struct conf_reader *reader; /* only while loading */
  struct conf_faults *faults;       /* only while loading */
  uint32_t errors_before;           /* in faults when loading began */
};

#endif
