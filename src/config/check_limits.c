/* check_limits.c: what networks, connections per client and rates mean together. Called by
 * check.c, check_policies.c, check_listener_policies.c and check_routes.c. */
#include "check_limits_priv.h"
#include "doubt_priv.h"

static bool is_set(const struct conf_row *row, enum option_id id) {
  return row_origin(row, id)->node != NULL;
}

bool row_changed(const struct conf_row *row, enum option_id id) {
  const struct option *option = option_get(id);
  struct value set = value_load(option, row_member(row, option)), plain = {0};
  struct arena scratch;
  arena_init(&scratch, NULL, 0);
  bool changed = value_default(option, &scratch, &plain) && plain.number != set.number;
  arena_reset(&scratch);
  return changed;
}

static void unused(struct conf *conf, const struct conf_row *row, enum option_id id,
                   const char *why) {
  fault_add(conf->faults, FAULT_LIMIT_UNUSED, row_place(row, id),
            "\"" SPAN_FMT "\": " SPAN_FMT " %s", SPAN_ARG(row->name),
            SPAN_ARG(option_local(option_get(id))), why);
}

/* ---- networks ---- */

/* net_text is a network as it counts, so that "10.0.0.1" and "10.0.0.1/32" meet. */
static struct span net_text(struct span text, struct arena *arena) {
  struct addr_net net;
  if (!addr_net_parse(text, &net)) return text;
  return arena_copy(arena, span_of((const char *)&net, sizeof net), NULL);
}

static void check_nets(struct conf *conf, const struct conf_row *row,
                       const struct conf_list *allow, const struct conf_list *deny) {
  struct names names = {.arena = &conf->arena};
  for (uint32_t i = 0; i < allow->count; i++)
    names_put(&names, net_text(allow->items[i].text, &conf->arena), &allow->items[i]);
  for (uint32_t i = 0; i < deny->count; i++) {
    const struct conf_item *first =
        names_find(&names, net_text(deny->items[i].text, &conf->arena));
    if (!first) continue;
    fault_add(conf->faults, FAULT_NET_BOTH, deny->items[i].at,
              "\"" SPAN_FMT "\": " SPAN_FMT " is allowed and denied", SPAN_ARG(row->name),
              SPAN_ARG(deny->items[i].text));
    fault_other(conf->faults, "allowed", first->at);
  }
}

/* ---- listeners ---- */

static bool only_unix(const struct conf_listener *listener) {
  for (uint32_t i = 0; i < listener->binds.count; i++)
    if (!span_starts(listener->binds.items[i].text, SPAN_LIT("unix:"))) return false;
  return listener->binds.count > 0;
}

bool listener_nameless(const struct conf_listener *listener) {
  const struct conf_row *row = &listener->row;
  return only_unix(listener) && !listener->proxy_protocol &&
         !row_lost(row, OPTION_LISTENER_BIND) && !row_lost(row, OPTION_LISTENER_PROXY_PROTOCOL);
}

static void check_proxied(struct conf *conf, const struct conf_listener *listener) {
  if (!listener->proxy_protocol || listener->trusted.count || faults_has_syntax(conf->faults))
    return;
  if (row_lost(&listener->row, OPTION_LISTENER_TRUSTED)) return;
  fault_add(conf->faults, FAULT_PROXY_NO_TRUST,
            row_place(&listener->row, OPTION_LISTENER_PROXY_PROTOCOL),
            "listener \"" SPAN_FMT "\" has proxy_protocol but no trusted_proxies",
            SPAN_ARG(listener->row.name));
  fault_note(conf->faults, "those that send it, like trusted_proxies = [ \"10.0.0.0/8\" ];");
}

void check_listener_limits(struct conf *conf, const struct conf_listener *listener) {
  static const enum option_id networks[] = {OPTION_LISTENER_ALLOW, OPTION_LISTENER_DENY};
  static const char why[] = "means nothing: peers on unix sockets have no address";
  static const enum option_id prefixes[] = {OPTION_LISTENER_CLIENT_PREFIX4,
                                            OPTION_LISTENER_CLIENT_PREFIX6};
  const struct conf_row *row = &listener->row;
  bool nameless = listener_nameless(listener);
  bool uncounted = !listener->client_max && !row_lost(row, OPTION_LISTENER_PER_CLIENT);
  check_nets(conf, row, &listener->allow, &listener->deny);
  check_proxied(conf, listener);
  for (size_t i = 0; nameless && i < array_count(networks); i++)
    if (is_set(row, networks[i])) unused(conf, row, networks[i], why);
  if (nameless && listener->client_max)
    unused(conf, row, OPTION_LISTENER_PER_CLIENT, why);
  for (size_t i = 0; uncounted && i < array_count(prefixes); i++)
    if (row_changed(row, prefixes[i]))
      unused(conf, row, prefixes[i], "means nothing without connections_per_client");
}

/* ---- rates ---- */

static bool has_part(const struct conf_list *key, struct span part) {
  for (uint32_t i = 0; i < key->count; i++)
    if (span_eq(key->items[i].text, part)) return true;
  return false;
}

static void check_key(struct conf *conf, const struct conf_policy *policy) {
  const struct conf_list *key = &policy->rate.key;
  struct place at = row_place(&policy->row, OPTION_POLICY_RATE_KEY);
  if (key->count > RATE_PARTS_MAX)
    fault_add(conf->faults, FAULT_RATE_KEY, at,
              "policy \"" SPAN_FMT "\": rate.key has more than %u parts",
              SPAN_ARG(policy->row.name), RATE_PARTS_MAX);
  else if (key->count > 1 && has_part(key, SPAN_LIT("none")))
    fault_add(conf->faults, FAULT_RATE_KEY, at,
              "policy \"" SPAN_FMT "\": rate.key has none beside other parts",
              SPAN_ARG(policy->row.name));
  if (has_part(key, SPAN_LIT("client_ip")) || row_lost(&policy->row, OPTION_POLICY_RATE_KEY))
    return;
  static const enum option_id prefixes[] = {OPTION_POLICY_RATE_PREFIX4,
                                            OPTION_POLICY_RATE_PREFIX6};
  for (size_t i = 0; i < array_count(prefixes); i++)
    if (row_changed(&policy->row, prefixes[i]))
      unused(conf, &policy->row, prefixes[i], "means nothing: client_ip is not in rate.key");
}

static void check_limit(struct conf *conf, const struct conf_policy *policy) {
  if (is_set(&policy->row, OPTION_POLICY_RATE_LIMIT) || faults_has_syntax(conf->faults)) return;
  if (row_lost(&policy->row, OPTION_POLICY_RATE_LIMIT)) return;
  for (uint32_t id = OPTION_POLICY_RATE_KEY; id <= OPTION_POLICY_RATE_HEADERS; id++) {
    if (!is_set(&policy->row, (enum option_id)id)) continue;
    fault_add(conf->faults, FAULT_RATE_NO_LIMIT, row_place(&policy->row, (enum option_id)id),
              "policy \"" SPAN_FMT "\": rate has no limit", SPAN_ARG(policy->row.name));
    fault_note(conf->faults, "like limit = \"100/s\";");
    return;
  }
}

void check_policy_limits(struct conf *conf, const struct conf_policy *policy) {
  check_nets(conf, &policy->row, &policy->allow, &policy->deny);
  check_limit(conf, policy);
  check_key(conf, policy);
}

void check_rates(struct conf *conf, const char *who, struct span name, struct place at,
                 uint32_t rates) {
  if (rates <= RATES_MAX) return;
  fault_add(conf->faults, FAULT_RATES_MANY, at,
            "%s \"" SPAN_FMT "\": its policies have %u rates, at most %u are asked", who,
            SPAN_ARG(name), rates, RATES_MAX);
}
