/* load_priv.h: the steps of loading, in the order in which load.c calls them. */
#ifndef WEIR_CONFIG_LOAD_PRIV_H
#define WEIR_CONFIG_LOAD_PRIV_H

#include "values_priv.h"

#define CONF_SOURCES_MAX 1024u

/* conf_root_init gives the root row its defaults. */
void conf_root_init(struct conf *conf);
/* apply_sources fills conf->root and its rows from the trees; every value is checked by itself. */
void apply_sources(struct conf *conf);
/* apply_value parses node for one option of a row. */
void apply_value(struct conf *conf, struct conf_row *row, const struct option *option,
                 const struct node *node);
/* row_new appends a row with defaults. */
struct conf_row *row_new(struct conf *conf, struct conf_rows *rows, enum scope_id scope,
                         struct conf_row *parent);
/* row_origin is where an option of the row was set; node NULL: nowhere. */
const struct conf_origin *row_origin(const struct conf_row *row, enum option_id id);
/* row_place is the place of an option's value, else of the row. */
struct place row_place(const struct conf_row *row, enum option_id id);
void *row_member(const struct conf_row *row, const struct option *option);

/* check_conf looks at what values mean together. */
void check_conf(struct conf *conf);
/* protocols_default makes the default of a listener's protocols fit: without TLS none by ALPN. */
void protocols_default(struct conf_listener *listener);
/* check_protocols is its part for protocols and h2 of a listener; check_h2_used warns of settings
 * of h2 where nothing speaks it. */
void check_protocols(struct conf *conf, const struct conf_listener *listener);
void check_h2_used(struct conf *conf, const struct conf_listener *listener);
/* check_shake_used warns of timeouts.handshake without TLS. */
void check_shake_used(struct conf *conf, const struct conf_listener *listener);
/* row_changed: is a number of the row not the default? `weir dump` writes defaults too, also of
 * what is not in use. */
bool row_changed(const struct conf_row *row, enum option_id id);
/* check_health is its part for the active check of a pool. */
void check_health(struct conf *conf, const struct conf_pool *pool);
/* check_tls_estate is its part for tickets, groups and suites of a listener. */
void check_tls_estate(struct conf *conf, const struct conf_listener *listener);
/* check_early is its part for early data of a listener. */
void check_early(struct conf *conf, const struct conf_listener *listener);
/* check_keys_logged warns of log.tls_keys. */
void check_keys_logged(struct conf *conf);
/* check_client_auth is its part for tls.client of a listener, check_cert_asked for client_cert of
 * a route; route_asks_cert: it has any. */
void check_client_auth(struct conf *conf, const struct conf_listener *listener);
void check_cert_asked(struct conf *conf, const struct conf_route *route);
bool route_asks_cert(const struct conf_route *route);
/* hosts_meet: is there a host that both are, or are for ("*.domain")? */
bool hosts_meet(struct span a, struct span b);
/* check_cert_falls warns of routes of a listener that a certificate is no key to: without it, or
 * by another name, there is another way to their pool. */
void check_cert_falls(struct conf *conf, const struct conf_listener *listener);
/* check_upstream_tls is its part for TLS to the endpoints of a pool. */
void check_upstream_tls(struct conf *conf, const struct conf_pool *pool);
/* check_discover is its part for the names of a pool. */
void check_discover(struct conf *conf, struct conf_pool *pool);
/* check_overload is its part for process.overload, check_protection for a pool's breaker and
 * concurrency. */
void check_overload(struct conf *conf);
void check_protection(struct conf *conf, const struct conf_pool *pool);
/* check_tcp is its part for listeners of TCP and their pools; after check_routes. */
void check_tcp(struct conf *conf);
/* check_udp_listener is its part for a listener of UDP, check_udp_elsewhere for keys of UDP on
 * another one, check_udp_pools for pools of UDP; after those of TCP. */
void check_udp_listener(struct conf *conf, const struct conf_listener *listener);
void check_udp_elsewhere(struct conf *conf, const struct conf_listener *listener);
void check_udp_pools(struct conf *conf);
/* check_loops warns of listeners of TCP and UDP, and of routes, that lead back to themselves. */
void check_loops(struct conf *conf);
/* check_unserved: an option of a listener or pool is set that means nothing to what it serves (by
 * FAULT_UDP_UNUSED or FAULT_TCP_UNUSED). */
void check_unserved(struct conf *conf, const struct conf_row *row, enum option_id id,
                    enum fault_id fault);
/* check_routes is its part for routes: actions, references, identical match keys. */
void check_routes(struct conf *conf);
/* check_balance is check_conf's part for a pool's balancing, check_split for a route's split,
 * check_cookies for sticky cookies that meet at one host. */
void check_cookies(struct conf *conf);
void check_balance(struct conf *conf, const struct conf_pool *pool);
void check_split(struct conf *conf, const struct conf_route *route);
/* check_actions is its part for what a route does; the two tell what it does beside a pool. */
void check_actions(struct conf *conf, const struct conf_route *route);
bool route_redirects(const struct conf_route *route);
bool route_responds(const struct conf_route *route);
/* route_path is the route's path, regex or prefix, the one that it has. */
struct span route_path(const struct conf_route *route);
/* check_conditions looks at a route's headers, query and cookies (check_match.c). */
void check_conditions(struct conf *conf, const struct conf_route *route);
/* check_reachable warns of a path that the listener's policy changes or refuses. */
void check_reachable(struct conf *conf, const struct conf_listener *listener,
                     const struct conf_route *route);
/* conditions_whole: was every condition good? */
bool conditions_whole(const struct conf_route *route);
/* conditions_write appends a route's conditions, alike for all that ask the same: " h:x-env=prod
 * q:v? s:10.0.0.0/8", sorted. key: with lengths, so that no other conditions are written alike. */
void conditions_write(const struct conf_route *route, struct arena *arena, bool key,
                      struct text *out);
/* value_kind is what a condition asks for; its text in *text. */
enum match_kind value_kind(const struct conf_value *value, struct span *text);
/* route_label is the route's name, else its match key: "web@example.com/api/... GET,PUT". */
struct span route_label(const struct conf_route *route, struct arena *arena);
/* route_on tells whether a route is for a listener. */
bool route_on(const struct conf_route *route, const struct conf_listener *listener);

/* secret_read gives the bytes that "file:", "env:" or "cred:" names: 0 and *out (heap), or -errno
 * with *what naming the thing that failed (in arena). */
MUST_USE int secret_read(const struct conf_reader *reader, struct span secret, struct arena *arena,
                         struct text *out, struct span *what);
/* ticket_key_check: is it one? at and what are for the fault. ticket_keys_check reports those of
 * one list that are the same. */
bool ticket_key_check(struct conf_faults *faults, struct place at, struct span what,
                      struct span bytes);
void ticket_keys_check(struct conf_faults *faults, const struct conf_item *items, uint32_t count,
                       const struct span *bytes);
/* secrets_load reads certificates and keys into the rows. */
void secrets_load(struct conf *conf);
void secrets_free(struct conf *conf);
/* files_load reads the files that are bodies of responses. */
void files_load(struct conf *conf);
/* process_fill makes conf->process from the root row. */
void process_fill(struct conf *conf);
/* setting_runs is what an option of the root (no list, no rows) runs with: what the file says, but
 * for what waits for a restart. */
struct value setting_runs(const struct conf *conf, const struct option *option);
bool setting_same(const struct value *a, const struct value *b);
/* setting_write prints it as the file has it, or "unset". */
void setting_write(const struct option *option, const struct value *value, struct text *out);

/* names maps texts to pointers; in the arena. */
struct names {
  struct names_slot *slots;
  uint32_t count, cap;
  struct arena *arena;
};
/* names_put adds key unless it is there; gives the value that was there before, or NULL. */
void *names_put(struct names *names, struct span key, void *value);
void *names_find(const struct names *names, struct span key);

#endif
