/* rows_policy_priv.h: policies as options.def fills them. */
#ifndef WEIR_CONFIG_ROWS_POLICY_PRIV_H
#define WEIR_CONFIG_ROWS_POLICY_PRIV_H

#include "row_priv.h"

/* conf_edits changes the fields of a message; set and add hold "Name: value". */
struct conf_edits {
  struct conf_list set, add, remove;
};

/* conf_error is a body for error responses. */
struct conf_error {
  struct conf_row row;
  struct conf_list status;
  struct span body, file, type;
  struct span file_bytes; /* of file */
  bool upstream;
};

/* conf_cors: see struct cors. */
struct conf_cors {
  struct conf_list origins, methods, headers, expose;
  bool credentials;
  uint32_t max_age_ms;
};

/* conf_rate: see struct policy_rate. */
struct conf_rate {
  struct conf_list key;
  struct span limit; /* "100/s"; empty: there is no rate */
  uint32_t burst;    /* 0: auto */
  uint32_t entries;
  uint8_t prefix4, prefix6;
  uint16_t status;
  bool dry_run, headers;
};

struct conf_policy {
  struct conf_row row;
  struct conf_list allow, deny;
  struct conf_rate rate;
  struct conf_edits request, response;
  struct conf_cors cors;
  struct conf_rows errors;
  struct policy_settings settings; /* `set` is not filled in */
  bool used;
  bool judged; /* as one of connections (check_listener_policies.c) */
};

#endif
