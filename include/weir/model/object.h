/* object.h: lifetimes between generations. Two kinds of thing are kept apart everywhere:
 *   settings - immutable, made by the compile thread, shared between snapshots by equal content
 *              (route, pool, listener, policy). A worker that uses one longer than a turn pins it.
 *   state    - mutable, living by identity over any number of reloads (route_state, pool_state,
 *              endpoint, listener_state, rate_state): counters, idle connections,
 *              health.
 * refs are held by snapshots and by settings (control and compile threads only). pins are held by
 * workers: one counter per worker, written by that worker alone, so that no cache line is shared.
 * An object is freed by the reaper (object_reap, control thread) once refs and all pins are 0; a
 * pin may only be taken from an object that the worker's current snapshot or another pin keeps. */
#ifndef WEIR_MODEL_OBJECT_H
#define WEIR_MODEL_OBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "weir/base/arena.h"
#include "weir/base/list.h"

#define WORKERS_MAX 128u

enum object_kind {
  OBJECT_ROUTE, OBJECT_POOL, OBJECT_LISTENER, OBJECT_POLICY,
  OBJECT_ROUTE_STATE, OBJECT_POOL_STATE, OBJECT_ENDPOINT, OBJECT_LISTENER_STATE,
  OBJECT_RATE_STATE,
  OBJECT_KIND_COUNT
};

/* object_pin is one worker's row; a cache line of its own. */
struct object_pin {
  _Alignas(64) _Atomic uint32_t pins;
};

/* object heads every shared thing; embedded first. */
struct object {
  uint32_t kind; /* enum object_kind */
  uint32_t id;   /* dense from 1, unique among live objects of the process; label of series */
  uint32_t workers;
  struct registry *registry; /* that knows it; for fini */
  uint64_t content;  /* hash of settings; 0 for state */
  struct span name;  /* behind the object */
  struct arena arena; /* heap blocks; dies with the object */
  struct object_pin *pin_rows;
  uint32_t refs;               /* control and compile threads, under the registry's lock */
  struct list dead_link;       /* in the registry's dead list once refs is 0 */
  void (*fini)(struct object *o); /* drops refs it holds on others; may be NULL */
};

/* registry knows every live object; one per process (tests make their own). Locked inside. */
struct registry;
struct registry *registry_new(uint32_t workers);
/* registry_free checks that nothing is alive. */
void registry_free(struct registry *r);
uint32_t registry_workers(const struct registry *r);

/* object_new gives size zeroed bytes headed by an object with one ref. */
void *object_new(struct registry *r, size_t size, enum object_kind kind, struct span name);
void object_ref(struct registry *r, struct object *o);
/* object_unref drops a ref; at 0 the object waits for its pins. */
void object_unref(struct registry *r, struct object *o);
/* object_reap frees dead objects without pins; returns how many still wait. Call only when every
 * worker runs the newest snapshot or an object's snapshot is gone from all (see snapshot.h). */
uint32_t object_reap(struct registry *r);
/* registry_each calls fn for every live object of a kind. */
void registry_each(struct registry *r, enum object_kind kind,
                   void (*fn)(struct object *o, void *ctx), void *ctx);
/* registry_count is the number of live objects of a kind, dead ones that wait included. */
uint32_t registry_count(struct registry *r, enum object_kind kind);

/* object_pin and object_unpin are a worker's; no locked instruction. */
static inline void object_pin(struct object *o, uint32_t worker) {
  _Atomic uint32_t *p = &o->pin_rows[worker].pins;
  atomic_store_explicit(p, atomic_load_explicit(p, memory_order_relaxed) + 1,
                        memory_order_relaxed);
}
static inline void object_unpin(struct object *o, uint32_t worker) {
  _Atomic uint32_t *p = &o->pin_rows[worker].pins;
  uint32_t pins = atomic_load_explicit(p, memory_order_relaxed);
  dcheck(pins > 0);
  atomic_store_explicit(p, pins - 1, memory_order_release);
}

#endif
