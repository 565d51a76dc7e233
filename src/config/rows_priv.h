/* rows_priv.h: the typed configuration as options.def fills it: one struct for each scope, all in
 * the conf's arena. */
#ifndef WEIR_CONFIG_ROWS_PRIV_H
#define WEIR_CONFIG_ROWS_PRIV_H

#include "conf_priv.h"

enum option_id {
#define OPTION(id, scope, path, type, min, max, words, def, example, member, flags, doc) \
  OPTION_##id,
#include "weir/config/options.def"
  OPTION_COUNT
};

enum scope_id {
#define SCOPE(id, path, type, first, last) SCOPE_##id,
#include "weir/config/options.def"
  SCOPE_COUNT
};

/* conf_origin says where a value came from. */
struct conf_origin {
  const struct node *node; /* NULL: the default */
  struct span env;         /* a variable that was used in it */
};

/* conf_row heads every scope's struct. */
struct conf_row {
  struct conf_row *next, *parent;
  enum scope_id scope;
  struct span name;            /* of listeners, pools, policies: their key */
  struct place at;             /* the key, or the element in a list */
  struct conf_origin *origins; /* by option within the scope */
};

struct conf_rows {
  struct conf_row *first, *last;
  uint32_t count;
};
#define rows_each(rows, type, it) \
  for (type *it = (type *)(rows)->first; it; it = (type *)it->row.next)

struct conf_row_any { /* a row of any scope */
  struct conf_row row;
};

/* conf_list is the value of an option with OPTION_LIST. */
struct conf_item {
  struct span text;
  struct place at;
};
struct conf_list {
  struct conf_item *items;
  uint32_t count;
};

struct conf_cert_row {
  struct conf_row row;
  struct conf_list names;
  struct span cert, key; /* "file:/path", "env:NAME", "cred:name" */
  bool is_default;
  struct text cert_pem, key_pem; /* heap; key_pem is wiped */
};

struct conf_listener {
  struct conf_row row;
  struct conf_list binds, protocols, trusted;
  bool redirect_https, has_tls;
  uint8_t tls_min, tls_max; /* word: 0 is 1.2 */
  struct conf_rows certs;   /* none: plaintext */
  struct listener_timeouts timeouts;
  struct listener_limits limits;
};

struct conf_endpoint {
  struct conf_row row;
  struct span address;
  uint32_t weight;
  bool backup;
};

struct conf_pool {
  struct conf_row row;
  uint8_t balance;
  struct conf_rows endpoints;
  struct pool_timeouts timeouts;
  struct pool_connections connections;
  struct span priority_header;
  struct pool_retry retry;
  struct conf_list retry_on;
  struct pool_outlier outlier;
  struct pool_limits limits;
  bool used;
};

/* conf_edits changes the fields of a message; set and add hold "Name: value". */
struct conf_edits {
  struct conf_list set, add, remove;
};

struct conf_policy {
  struct conf_row row;
  struct conf_edits request, response;
  bool used;
};

struct conf_route {
  struct conf_row row;
  struct span name;
  struct conf_list listeners, hosts, methods, policies;
  struct span path, prefix; /* prefix without trailing slash but for "/" */
  bool strip_prefix;
  struct span pool, mirror_pool, redirect_to;
  uint16_t redirect_status, respond_status;
  struct span respond_body, respond_type;
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
  struct span user;
  uint32_t drain_ms, drain_settle_ms, max_connections; /* the last: 0 is auto */
  struct span admin_listen, admin_status;
  uint8_t log_level, access_format;
  struct span log_to, access_to;
  uint32_t access_sample_ppm;
  struct conf_rows listeners, pools, policies, routes;
};

/* conf owns all. */
struct conf {
  struct arena arena;
  struct source *sources; /* the main file first */
  struct conf_root root;
  struct conf_process process;
  struct conf_file *files;
  uint32_t file_count;
  const struct conf_reader *reader; /* only while loading */
  struct conf_faults *faults;       /* only while loading */
  uint32_t errors_before;           /* in faults when loading began */
};

#endif
