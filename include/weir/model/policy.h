/* policy.h: named settings that routes apply, in the order in which a route names them. Immutable,
 * shared between generations by equal content; the routes that name one hold refs. config/ builds
 * them, filter/ and proxy/ read them through the route. */
#ifndef WEIR_MODEL_POLICY_H
#define WEIR_MODEL_POLICY_H

#include "weir/model/object.h"
#include "weir/model/template.h"

/* field_set is one field to be written. Its name is a token that weir does not write itself. */
struct field_set {
  struct span name;
  struct template value;
};

/* field_edits changes a message's fields: remove, then set (which replaces), then add. */
struct field_edits {
  const struct span *remove;
  const struct field_set *set, *add;
  uint32_t remove_count, set_count, add_count;
};

struct policy {
  struct object obj; /* name: the policy's; all else is in obj.arena */
  struct field_edits request, response;
};

/* policy_new gives an empty policy with one ref; it owns no others. */
struct policy *policy_new(struct registry *r, struct span name);

#endif
