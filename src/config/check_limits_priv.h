/* check_limits_priv.h: check_conf's part for policies, networks, connections per client and rates
 * (check_policies.c, check_limits.c, check_listener_policies.c). */
#ifndef WEIR_CONFIG_CHECK_LIMITS_PRIV_H
#define WEIR_CONFIG_CHECK_LIMITS_PRIV_H

#include "load_priv.h"

/* check_listener_limits and check_policy_limits are about networks and rates. */
void check_listener_limits(struct conf *conf, const struct conf_listener *listener);
void check_policy_limits(struct conf *conf, const struct conf_policy *policy);
/* check_rates: the policies of what `who` says ("route", "listener") and name have so many. */
void check_rates(struct conf *conf, const char *who, struct span name, struct place at,
                 uint32_t rates);
/* listener_nameless: peers have no address, only unix sockets are bound and nobody tells. */
bool listener_nameless(const struct conf_listener *listener);
/* check_policies looks at each by itself; check_policies_used warns of those that no route and no
 * listener names. */
void check_policies(struct conf *conf);
void check_policies_used(struct conf *conf);
/* check_listener_policies looks at those that a listener names; policies has all by name. */
void check_listener_policies(struct conf *conf, const struct conf_listener *listener,
                             const struct names *policies);

#endif
