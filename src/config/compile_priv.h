/* compile_priv.h: one run of conf_compile. */
#ifndef WEIR_CONFIG_COMPILE_PRIV_H
#define WEIR_CONFIG_COMPILE_PRIV_H

#include "load_priv.h"
#include "weir/base/hash.h"

struct compile {
  const struct conf *conf;
  const struct conf_hooks *hooks;
  struct registry *registry;
  struct conf_faults *faults;
  struct snapshot *snapshot;
  struct names pools, policies; /* of the new snapshot */
  struct names old_pools, old_policies, old_routes, old_listeners;
  struct arena arena; /* dies with the run */
};

/* row_hash is the content of a row by the option table, but for rows below it. */
uint64_t row_hash(const struct conf_row *row);
/* text_hash mixes a text into a content. */
uint64_t text_hash(uint64_t hash, struct span s);
/* compile_policy adds a policy to the snapshot. */
void compile_policy(struct compile *c, const struct conf_policy *row);
/* route_action fills in what a new route does; pool NULL: it has none. */
void route_action(struct compile *c, struct route *route, const struct conf_route *row,
                  struct pool *pool);
/* netset_of makes a netset of the networks of two lists; NULL: both are empty. */
const struct netset *netset_of(struct arena *arena, const struct conf_list *allow,
                               const struct conf_list *deny);
/* compile_rate gives a new policy its rate, if it has one. */
void compile_rate(struct compile *c, struct policy *policy, const struct conf_rate *row);
/* compile_tables gives rates and listeners of the snapshot, which is otherwise whole, the tables
 * that they count in; false after a fault. */
bool compile_tables(struct compile *c);
/* cors_of is a policy's cors; NULL: it has none. */
const struct cors *cors_of(struct arena *arena, const struct conf_cors *row);
/* field_sets makes fields of "Name: value" texts. */
struct field_set *field_sets(struct arena *arena, const struct conf_list *list);
/* route_policies gives a new route the policies that its row names, each with a ref;
 * route_policies_same tells whether an old one has the same objects. listener_policies and
 * listener_policies_same do that of a listener. */
void route_policies(struct compile *c, struct route *route, const struct conf_route *row);
bool route_policies_same(const struct compile *c, const struct route *route,
                         const struct conf_route *row);
void listener_policies(struct compile *c, struct listener *listener,
                       const struct conf_listener *row);
bool listener_policies_same(const struct compile *c, const struct listener *listener,
                            const struct conf_listener *row);
/* rules_hash is the content of a route's conditions. */
uint64_t rules_hash(const struct conf_route *row);
/* regex_get compiles a pattern that was checked. */
struct regex *regex_get(struct span pattern);
/* compile_rules fills the conditions of a new route, and its regex. */
void compile_rules(struct route *route, const struct conf_route *row);
/* names_joined puts the texts of a list in a row, with ':' between, in the run's arena. */
struct span names_joined(struct compile *c, const struct conf_list *list);
/* tls_estate_fill adds groups, suites, tickets and the policy's text to a listener's TLS, and all
 * of it to its content (compile_tls_estate.c). */
void tls_estate_fill(struct compile *c, const struct conf_listener *row, struct conf_tls *tls);
/* sni_fill gives a listener that passes TLS on its rows; sni_same: it has the same pools;
 * sni_content: what row_hash does not see. */
void sni_fill(struct compile *c, struct listener *listener, const struct conf_listener *row);
uint64_t sni_content(const struct conf_listener *row);
bool sni_same(const struct compile *c, const struct listener *listener,
              const struct conf_listener *row);
/* clients_of gives the rows of tls.client for the hook, in arena; clients_hash is their content;
 * client_place is where row `index` stands. */
struct conf_client_policy *clients_of(struct arena *arena, const struct conf_listener *row);
uint64_t clients_hash(const struct conf_client_policy *clients, uint32_t count);
struct place client_place(const struct conf_listener *row, uint32_t index);
/* client_pem_good tells whether bytes, of the file `name` of a row's CAs or CRLs (id), are what
 * they must be; else a fault says what they are not. clients_pem_good is about a listener's. */
MUST_USE bool client_pem_good(struct compile *c, const struct conf_row *row, enum option_id id,
                              struct span name, const struct text *bytes);
MUST_USE bool clients_pem_good(struct compile *c, const struct conf_listener *row);
/* cert_rule gives a new route what it asks of client certificates; cert_rule_hash is what row_hash
 * does not see of it. */
void cert_rule(struct route *route, const struct conf_route *row);
uint64_t cert_rule_hash(const struct conf_route *row);
/* listener_tls_try makes the policy of a listener and drops it; false: the hook refused it, and
 * *bad says what. */
MUST_USE bool listener_tls_try(struct compile *c, const struct conf_listener *row, uint32_t *bad);
/* listener_stapled makes it once more: the OCSP response of certificate i is valid now. */
bool listener_stapled(struct compile *c, const struct conf_listener *row, uint32_t i);
/* compile_listener gives the listener with a ref, or NULL after a fault (a hook refused). */
struct listener *compile_listener(struct compile *c, const struct conf_listener *row);
/* balance_fill gives a pool that has its members its policy, tables and cookie; balance_content is
 * what row_hash does not see of them (the bytes of a key). */
void balance_fill(struct pool *pool, const struct conf_pool *row);
uint64_t balance_content(const struct conf_pool *row);
/* split_fill gives a route the parts of its split; split_same: it has the same ones;
 * split_content: their names and weights, which row_hash does not see. */
void split_fill(struct compile *c, struct route *route, const struct conf_route *row);
uint64_t split_content(const struct conf_route *row);
bool split_same(const struct compile *c, const struct route *route,
                const struct conf_route *row);

/* members is what a pool's endpoints are now, each with a ref. */
struct members {
  struct pool_member *rows;
  uint32_t count, cap, unresolved;
  uint64_t hash;
};
/* member_add adds an endpoint that is not there yet; like says all but which. */
void member_add(struct compile *c, struct members *m, const struct conf_pool *pool,
                const struct pool_member *like, struct span text, const struct addr *addr);
/* members_find adds what stands in endpoints and what discover finds (compile_discover.c). */
void members_find(struct compile *c, struct members *m, const struct conf_pool *pool);
/* discover_content is a hash of how a pool's names are asked for. */
uint64_t discover_content(const struct conf_pool *pool);

/* upstream_tls_content is a hash of a pool's TLS policy, 0: none; upstream_tls_fill gives a new
 * pool its own; false after a fault (the hook refused): the pool must not be used. */
uint64_t upstream_tls_content(struct compile *c, const struct conf_pool *row);
MUST_USE bool upstream_tls_fill(struct compile *c, struct pool *pool, const struct conf_pool *row);
/* upstream_tls_try is listener_tls_try for a pool with TLS. */
MUST_USE bool upstream_tls_try(struct compile *c, const struct conf_pool *row,
                               enum conf_tls_bad *bad);

/* compile_health fills pool->health. */
void compile_health(struct pool *pool, const struct conf_pool *row);
/* endpoint_announce gives a new endpoint the state that it begins with. */
void endpoint_announce(struct endpoint *e, bool checked);

/* compile_retry fills a pool's retry settings. */
void compile_retry(struct pool_retry *out, const struct conf_pool *row);

#endif
