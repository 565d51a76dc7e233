/* check_policies.c: what the values of a policy mean together, and that routes name policies that
 * exist. Called by check.c and check_routes.c. */
#include "check_limits_priv.h"
#include "doubt_priv.h"

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

/* check_page: a page has one body. Which of two pages counts is said by order. */
static void check_page(struct conf *conf, const struct conf_error *page) {
  bool body = row_origin(&page->row, OPTION_ERROR_BODY)->node != NULL;
  bool file = row_origin(&page->row, OPTION_ERROR_FILE)->node != NULL;
  if (row_lost_any(&page->row, OPTION_ERROR_BODY, OPTION_ERROR_FILE)) return;
  if (body && file)
    fault_add(conf->faults, FAULT_BODY_AND_FILE, row_place(&page->row, OPTION_ERROR_FILE),
              "an error page has both body and file");
  else if (!body && !file && !faults_has_syntax(conf->faults))
    fault_add(conf->faults, FAULT_BODY_AND_FILE, page->row.at,
              "an error page needs a body or a file");
}

static bool has_star(const struct conf_list *list) {
  for (uint32_t i = 0; i < list->count; i++)
    if (span_eq(list->items[i].text, SPAN_LIT("*"))) return true;
  return false;
}

static void cors_fault(struct conf *conf, const struct conf_policy *policy, enum option_id at,
                       const char *why) {
  fault_add(conf->faults, FAULT_CORS, row_place(&policy->row, at), "policy \"" SPAN_FMT "\": %s",
            SPAN_ARG(policy->row.name), why);
}

/* check_cors: "*" together with credentials would let every page act as the user. */
static void check_cors(struct conf *conf, const struct conf_policy *policy) {
  const struct conf_cors *cors = &policy->cors;
  if (row_lost(&policy->row, OPTION_POLICY_CORS_ORIGINS)) return;
  if (!row_origin(&policy->row, OPTION_POLICY_CORS_ORIGINS)->node) {
    for (unsigned id = OPTION_POLICY_CORS_METHODS; id <= OPTION_POLICY_CORS_MAX_AGE; id++) {
      if (!row_origin(&policy->row, (enum option_id)id)->node) continue;
      cors_fault(conf, policy, (enum option_id)id, "cors needs origins");
      return;
    }
    return;
  }
  if (has_star(&cors->origins) && cors->origins.count > 1)
    cors_fault(conf, policy, OPTION_POLICY_CORS_ORIGINS, "* stands for all origins, alone");
  if (!cors->credentials) return;
  static const char why[] = "with credentials all must be named, not *";
  if (has_star(&cors->origins)) cors_fault(conf, policy, OPTION_POLICY_CORS_ORIGINS, why);
  if (has_star(&cors->headers)) cors_fault(conf, policy, OPTION_POLICY_CORS_HEADERS, why);
  if (has_star(&cors->expose)) cors_fault(conf, policy, OPTION_POLICY_CORS_EXPOSE, why);
}

void check_policies(struct conf *conf) {
  rows_each(&conf->root.policies, struct conf_policy, policy) {
    check_cors(conf, policy);
    check_policy_limits(conf, policy);
    rows_each(&policy->errors, struct conf_error, page) check_page(conf, page);
    check_sets(conf, policy, &policy->request.set);
    check_sets(conf, policy, &policy->response.set);
  }
}

void check_policies_used(struct conf *conf) {
  rows_each(&conf->root.policies, struct conf_policy, policy)
    if (!policy->used)
      fault_add(conf->faults, FAULT_POLICY_UNUSED, policy->row.at,
                "no route or listener uses policy \"" SPAN_FMT "\"", SPAN_ARG(policy->row.name));
}
