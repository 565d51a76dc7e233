/* options_priv.h: the option table as data, and the types of its values. */
#ifndef WEIR_CONFIG_OPTIONS_PRIV_H
#define WEIR_CONFIG_OPTIONS_PRIV_H

#include "rows_priv.h"

enum option_flag {
  OPTION_REQUIRED = 1,
  OPTION_LIST = 2,
  OPTION_RESTART = 4,
  OPTION_OFF = 8,
  OPTION_GROUPED = 16,
  OPTION_EMPTY = 32
};

/* Rows of option_types in values.c. */
enum option_type {
  TYPE_COUNT,
  TYPE_COUNT_AUTO,
  TYPE_DURATION,
  TYPE_SIZE,
  TYPE_SIZE_OFF, /* or a word, which is 0 */
  TYPE_PERCENT,
  TYPE_PPM,
  TYPE_FACTOR, /* "1.9", in thousandths */
  TYPE_BOOL,
  TYPE_BOOL_WORD, /* or a word in quotes; false and true are words 0 and 1 */
  TYPE_ENUM,
  TYPE_BALANCE,
  TYPE_REDIRECT_STATUS,
  TYPE_TEXT,
  TYPE_NAME,
  TYPE_GLOB,
  TYPE_OUTPUT,
  TYPE_ADMIN,
  TYPE_STATUS,
  TYPE_BIND,
  TYPE_UPSTREAM,
  TYPE_PROTOCOL,
  TYPE_NET,
  TYPE_HOST,
  TYPE_PATH,
  TYPE_REGEX,
  TYPE_MATCH_NAME,
  TYPE_PLAIN,
  TYPE_VALUE,
  TYPE_METHOD,
  TYPE_URL,
  TYPE_FIELD,
  TYPE_RETRY_ON,
  TYPE_WORD, /* of a list: one of the option's words */
  TYPE_BODY,
  TYPE_FILE,
  TYPE_ORIGIN,
  TYPE_FIELD_NAME,
  TYPE_STATUSES,
  TYPE_AUTHORITY,
  TYPE_NAME_PORT,  /* "users.internal:8080" */
  TYPE_SRV_NAME,   /* "_http._tcp.users.internal" */
  TYPE_DNS_SERVER, /* "127.0.0.1:53" */
  TYPE_HEALTH_PATH,
  TYPE_HEALTH_HOST,
  TYPE_HEALTH_FIELD,
  TYPE_HEALTH_BODY,
  TYPE_HEALTH_SERVICE,
  TYPE_HEALTH_STATUSES, /* "200" or "200-299" */
  TYPE_RATE, /* "100/s" */
  TYPE_RATE_KEY,
  TYPE_SECRET,
  TYPE_TLS_NAME, /* "app.internal", in lists also "10.0.0.1" */
  TYPE_TLS_PIN,  /* "sha256:..." */
  TYPE_TLS_GROUP,  /* "X25519" */
  TYPE_TLS_CIPHER, /* "ECDHE-RSA-AES128-GCM-SHA256" */
  TYPE_CERT_SAN, /* "dns:app.internal" */
  TYPE_POOL_REF,
  TYPE_LISTENER_REF,
  TYPE_HASH_KEY,
  TYPE_COOKIE_NAME,
  TYPE_COOKIE_PATH,
  TYPE_POLICY_REF,
  TYPE_REWRITE_TO,
  TYPE_EDIT,
  TYPE_EDIT_NAME,
  TYPE_MAP,  /* group of groups, by name */
  TYPE_ROWS, /* list of groups (endpoints: or strings) */
  TYPE_COUNT_OF
};

struct option {
  enum option_id id;
  enum scope_id scope;
  const char *path;
  enum option_type type;
  int64_t min, max;
  const char *words, *def, *example;
  uint16_t offset, size; /* of the member */
  uint32_t flags;
  const char *doc;
};

struct scope {
  const char *path; /* "listeners.*" */
  size_t size;
  uint32_t first, count; /* its options */
};

const struct option *option_get(enum option_id id);
const struct scope *scope_get(enum scope_id id);
/* option_local is the path within the scope: "timeouts.header". */
struct span option_local(const struct option *option);
/* option_child is the scope of a MAP's or ROWS' elements. */
enum scope_id option_child(const struct option *option);
/* option_find gives the option of a local path, or NULL; *group tells whether the path is a group
 * that holds options. */
const struct option *option_find(enum scope_id scope, struct span local, bool *group);
/* option_key_type is the type of the options whose paths end in key; TYPE_COUNT_OF: there is none,
 * or they differ. */
enum option_type option_key_type(struct span key);
/* option_later tells whether a full path is planned. */
bool option_later(enum scope_id scope, struct span local);
/* later_get gives planned path i, or NULL at the end. */
const char *later_get(uint32_t i);

#endif
