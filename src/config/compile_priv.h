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
  struct names pools; /* of the new snapshot */
  struct names old_pools, old_routes, old_listeners;
  struct arena arena; /* dies with the run */
};

/* row_hash is the content of a row by the option table, but for rows below it. */
uint64_t row_hash(const struct conf_row *row);
/* compile_listener gives the listener with a ref, or NULL after a fault (a hook refused). */
struct listener *compile_listener(struct compile *c, const struct conf_listener *row);
/* balance_fill gives a pool that has its members its policy, tables and cookie; balance_content is
 * what row_hash does not see of them (the bytes of a key). */
void balance_fill(struct pool *pool, const struct conf_pool *row);
uint64_t balance_content(const struct conf_pool *row);
/* split_fill gives a route the parts of its split; split_same: it has the same ones. */
void split_fill(struct compile *c, struct route *route, const struct conf_route *row);
bool split_same(const struct compile *c, const struct route *route,
                const struct conf_route *row);

#endif
