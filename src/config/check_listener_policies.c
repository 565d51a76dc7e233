/* check_listener_policies.c: the policies that listeners of TCP and UDP name: that there are such,
 * and that all they say means something to a connection, which has an address and nothing else. A
 * key that does not would be silently without effect. Each policy is judged once, whoever names it
 * first. Called by check_tcp.c. */
#include "check_limits_priv.h"
#include "doubt_priv.h"

/* of_connections: what a policy can say of them. */
static const enum option_id of_connections[] = {
    OPTION_POLICY_ALLOW,        OPTION_POLICY_DENY,         OPTION_POLICY_RATE_KEY,
    OPTION_POLICY_RATE_LIMIT,   OPTION_POLICY_RATE_BURST,   OPTION_POLICY_RATE_PREFIX4,
    OPTION_POLICY_RATE_PREFIX6, OPTION_POLICY_RATE_ENTRIES, OPTION_POLICY_RATE_DRY_RUN,
};

/* naming is a policy's name at a listener. */
struct naming {
  const struct conf_listener *listener;
  const struct conf_item *item;
};

static bool is_of_connections(enum option_id id) {
  for (size_t i = 0; i < array_count(of_connections); i++)
    if (of_connections[i] == id) return true;
  return false;
}

static const char *served(const struct conf_listener *listener) {
  return listener->protocol == CONF_UDP ? "UDP" : "TCP";
}

static void undefined(struct conf *conf, const struct naming *n) {
  fault_add(conf->faults, FAULT_UNDEFINED, n->item->at,
            "listener \"" SPAN_FMT "\" uses policy \"" SPAN_FMT "\", which is not defined",
            SPAN_ARG(n->listener->row.name), SPAN_ARG(n->item->text));
  struct suggest s = suggest_for(n->item->text);
  rows_each(&conf->root.policies, struct conf_row_any, it)
    suggest_offer(&s, it->row.name, &it->row.at);
  suggest_note(&s, conf->faults);
}

/* ---- what a policy says ---- */

/* says: the key stands there with what is not its default (`weir dump` writes defaults too). */
static bool says(const struct conf_row *row, const struct option *option, enum option_id id) {
  if (!row_origin(row, id)->node || row_lost(row, id)) return false;
  bool many = option->flags & OPTION_LIST || option->type == TYPE_ROWS;
  return many || !option->def || row_changed(row, id);
}

static void check_keys(struct conf *conf, const struct conf_policy *policy,
                       const struct naming *n) {
  const struct scope *scope = scope_get(SCOPE_POLICY);
  for (uint32_t i = 0; i < scope->count; i++) {
    enum option_id id = (enum option_id)(scope->first + i);
    const struct option *option = option_get(id);
    if (is_of_connections(id) || !says(&policy->row, option, id)) continue;
    fault_add(conf->faults, FAULT_POLICY_OF_REQUESTS, row_place(&policy->row, id),
              "policy \"" SPAN_FMT "\" of listener \"" SPAN_FMT "\" (%s): " SPAN_FMT
              " means nothing",
              SPAN_ARG(policy->row.name), SPAN_ARG(n->listener->row.name), served(n->listener),
              SPAN_ARG(option_local(option)));
    fault_note(conf->faults, "it is of requests: leave it out, or give the listener a policy of "
                             "its own, with allow, deny or rate");
    fault_other(conf->faults, "named", n->item->at);
  }
}

static void check_parts(struct conf *conf, const struct conf_policy *policy,
                        const struct naming *n) {
  const struct conf_list *key = &policy->rate.key;
  for (uint32_t i = 0; i < key->count; i++) {
    struct rate_part part;
    if (!rate_part_parse(key->items[i].text, &part)) continue;
    if (part.source != RATE_HEADER && part.source != RATE_COOKIE) continue;
    fault_add(conf->faults, FAULT_POLICY_OF_REQUESTS, key->items[i].at,
              "policy \"" SPAN_FMT "\" of listener \"" SPAN_FMT "\" (%s): there is no " SPAN_FMT,
              SPAN_ARG(policy->row.name), SPAN_ARG(n->listener->row.name), served(n->listener),
              SPAN_ARG(key->items[i].text));
    fault_note(conf->faults, "count by \"client_ip\", \"route\" (the listener) or \"none\"");
    fault_other(conf->faults, "named", n->item->at);
  }
}

/* by_address: who has none passes no allow, and is counted with all others who have none. */
static bool by_address(const struct conf_policy *policy) {
  if (policy->allow.count || policy->deny.count) return true;
  for (uint32_t i = 0; policy->rate.limit.len && i < policy->rate.key.count; i++)
    if (span_eq(policy->rate.key.items[i].text, SPAN_LIT("client_ip"))) return true;
  return false;
}

static void check_policy(struct conf *conf, struct conf_policy *policy, const struct naming *n) {
  policy->used = true;
  if (listener_nameless(n->listener) && by_address(policy))
    fault_add(conf->faults, FAULT_LIMIT_UNUSED, n->item->at,
              "\"" SPAN_FMT "\": policy \"" SPAN_FMT
              "\" goes by addresses, and peers on unix sockets have none",
              SPAN_ARG(n->listener->row.name), SPAN_ARG(n->item->text));
  if (policy->judged) return;
  policy->judged = true;
  check_keys(conf, policy, n);
  check_parts(conf, policy, n);
}

/* ---- all of a listener ---- */

/* is_http: it has no use for them; what its routes name is theirs. */
static bool is_http(struct conf *conf, const struct conf_listener *listener) {
  if (listener->protocol != CONF_HTTP) return false;
  fault_add(conf->faults, FAULT_LISTENER_POLICIES,
            row_place(&listener->row, OPTION_LISTENER_POLICIES),
            "listener \"" SPAN_FMT "\" serves HTTP: policies means nothing",
            SPAN_ARG(listener->row.name));
  fault_note(conf->faults, "its routes name them, like policies = [ \"main\" ]; in routes");
  return true;
}

void check_listener_policies(struct conf *conf, const struct conf_listener *listener,
                             const struct names *policies) {
  const struct conf_list *list = &listener->policies;
  bool known = !row_lost(&listener->row, OPTION_LISTENER_PROTOCOL);
  uint32_t rates = 0;
  if (!list->count || (known && is_http(conf, listener))) return;
  for (uint32_t i = 0; i < list->count; i++) {
    struct naming n = {listener, &list->items[i]};
    struct conf_policy *policy = names_find(policies, n.item->text);
    if (policy && known) check_policy(conf, policy, &n);
    else if (!policy && conf_whole(conf, OPTION_POLICIES)) undefined(conf, &n);
    rates += policy && policy->rate.limit.len;
  }
  check_rates(conf, "listener", listener->row.name,
              row_place(&listener->row, OPTION_LISTENER_POLICIES), rates);
}
