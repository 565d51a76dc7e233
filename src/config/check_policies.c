/* check_policies.c: what the values of a policy mean together, and that routes name policies that
 * exist. Called by check.c and check_routes.c. */
#include "load_priv.h"

/* check_sets: of two values of one field in a policy only one could count. */
static void check_sets(struct conf *conf, const struct conf_policy *policy,
                       const struct conf_list *sets) {
  for (uint32_t i = 1; i < sets->count; i++) {
    struct span name, other, value;
    edit_split(sets->items[i].text, &name, &value);
    for (uint32_t k = 0; k < i; k++) {
      edit_split(sets->items[k].text, &other, &value);
      /* equal texts were reported when they were read */
      if (!span_eq_nocase(name, other) || span_eq(sets->items[i].text, sets->items[k].text))
        continue;
      fault_add(conf->faults, FAULT_DUPLICATE_ITEM, sets->items[i].at,
                "policy \"" SPAN_FMT "\" sets " SPAN_FMT " twice", SPAN_ARG(policy->row.name),
                SPAN_ARG(name));
      fault_other(conf->faults, "first", sets->items[k].at);
      break;
    }
  }
}

void check_policies(struct conf *conf) {
  rows_each(&conf->root.policies, struct conf_policy, policy) {
    check_sets(conf, policy, &policy->request.set);
    check_sets(conf, policy, &policy->response.set);
  }
}

void check_policies_used(struct conf *conf) {
  rows_each(&conf->root.policies, struct conf_policy, policy)
    if (!policy->used)
      fault_add(conf->faults, FAULT_POLICY_UNUSED, policy->row.at,
                "no route uses policy \"" SPAN_FMT "\"", SPAN_ARG(policy->row.name));
}
