/* snapshot.h: the index of one generation. config/ builds it, control/ publishes it, workers use
 * it within a turn. */
#ifndef WEIR_MODEL_SNAPSHOT_H
#define WEIR_MODEL_SNAPSHOT_H

#include "weir/model/overload.h"
#include "weir/model/parts.h"
#include "weir/model/route_table.h"

/* snapshot_listener is one listener of a generation with its route table. */
struct snapshot_listener {
  struct listener *listener; /* ref */
  const struct route_table *table;
  struct route **routes; /* those that apply to it, file order */
  uint32_t route_count;
};

/* snapshot is the index of one generation: never pinned by streams; a worker uses its current one
 * within a turn, so an old one goes as soon as every worker runs the new one. */
struct snapshot {
  uint64_t generation;
  uint32_t revision; /* counts publications of the same generation (addresses resolved) */
  struct registry *registry;
  struct arena arena;
  struct snapshot_listener *listeners;
  uint32_t listener_count;
  struct route **routes; /* refs */
  uint32_t route_count;
  struct pool **pools; /* refs */
  uint32_t pool_count;
  struct policy **policies; /* refs */
  uint32_t policy_count;
  uint32_t max_connections; /* after clamping */
  uint32_t drain_ms;
  struct overload_settings overload;
};

/* snapshot_new gives an empty index; config/ fills it. snapshot_free drops its refs. */
struct snapshot *snapshot_new(struct registry *r);
void snapshot_free(struct snapshot *s);
/* snapshot_mark_published sets the `removed` flags of route and listener states: true for those
 * that only before (may be NULL) has, false for those of after. Control thread, at publication. */
void snapshot_mark_published(const struct snapshot *before, const struct snapshot *after);
struct snapshot_listener *snapshot_find_listener(const struct snapshot *s, struct span name);
struct pool *snapshot_find_pool(const struct snapshot *s, struct span name);
struct policy *snapshot_find_policy(const struct snapshot *s, struct span name);
struct route *snapshot_find_route(const struct snapshot *s, struct span name);

#endif
