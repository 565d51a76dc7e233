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

/* compile_health fills pool->health. */
void compile_health(struct pool *pool, const struct conf_pool *row);
/* endpoint_announce gives a new endpoint the state that it begins with. */
void endpoint_announce(struct endpoint *e, bool checked);

#endif
