/* policy.h: named settings that routes apply, in the order in which a route names them. Immutable,
 * shared between generations by equal content; the routes that name one hold refs. config/ builds
 * them, filter/ and proxy/ read them through the route. */
#ifndef WEIR_MODEL_POLICY_H
#define WEIR_MODEL_POLICY_H

#include "weir/model/action.h"
#include "weir/model/cors.h"
#include "weir/model/limits.h"
#include "weir/model/object.h"

/* field_edits changes a message's fields: remove, then set (which replaces), then add. */
struct field_edits {
  const struct span *remove;
  const struct field_set *set, *add;
  uint32_t remove_count, set_count, add_count;
};

/* policy_settings_bit says which of the settings a policy has. */
enum policy_settings_bit {
  POLICY_REQUEST = 1,
  POLICY_FIRST_BYTE = 2,
  POLICY_IDLE = 4,
  POLICY_BODY = 8,
  POLICY_SEND = 16,
  POLICY_BODY_BYTES = 32,
  POLICY_BUFFER = 64,
  POLICY_GRPC_WEB = 128,
  POLICY_EARLY = 256,
};

/* policy_early numbers the words of policies.*.early_data. */
enum policy_early { EARLY_FORWARD, EARLY_WAIT, EARLY_REFUSE };

/* policy_settings are single values, which stand in place of the listener's or the pool's. */
struct policy_settings {
  uint32_t set; /* policy_settings_bit */
  uint32_t request_ms, first_byte_ms, idle_ms, body_ms, send_ms; /* settings.h; 0: none */
  uint64_t body_bytes;   /* 0: no limit */
  uint32_t buffer_bytes; /* of a request body held before an endpoint is chosen; 0: none */
  uint32_t grpc_web;     /* bool: requests of gRPC-Web become gRPC */
  uint32_t early;        /* enum policy_early: requests that came as early data of TLS */
};

/* error_page is the body of responses with some statuses: of those that weir makes to refuse or
 * fail a request, and of the pool's if `upstream`. */
struct error_page {
  struct status_range {
    uint16_t from, to; /* inclusive */
  } const *statuses;
  uint32_t status_count;
  bool upstream;
  struct span body, content_type;
};

struct policy {
  struct object obj; /* name: the policy's; all else is in obj.arena */
  struct field_edits request, response;
  struct policy_settings settings;
  const struct cors *cors; /* NULL: nothing said */
  const struct error_page *pages;
  uint32_t page_count;
  const struct netset *clients; /* allow, deny; NULL: all may */
  struct policy_rate rate;
};

/* policy_new gives an empty policy with one ref; its fini drops that on its rate. */
struct policy *policy_new(struct registry *r, struct span name);

/* policy_settings_merge lets what `over` has stand in *into. */
void policy_settings_merge(struct policy_settings *into, const struct policy_settings *over);

/* policies_allow tells whether all policies let a client ask. */
bool policies_allow(struct policy *const *policies, uint32_t count, const struct addr *client);

/* error_page_find gives the page of a status, or NULL: of several policies that have one the last
 * counts, within a policy the smallest range, then the first. upstream: a response of the pool.
 */
const struct error_page *error_page_find(struct policy *const *policies, uint32_t count,
                                         unsigned status, bool upstream);

#endif
