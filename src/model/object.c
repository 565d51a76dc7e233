/* object.c: the registry of live objects and their lifetimes. Ids are dense and reused; state is
 * found by identity through one hash table; what has no refs waits in the dead list until no
 * worker pins it. It does not know what an object holds: its fini does. Called by config/ and
 * control/ (never by a worker, who only pins). Rules: object.h. */
#include "weir/model/object.h"

#include <pthread.h>

#include "object_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

/* registry_slot is one id. */
struct registry_slot {
  struct object *object; /* NULL: free */
  uint64_t hash;         /* of kind and name */
  uint32_t next;         /* chain of the hash table, or of free ids; id + 1, 0: end */
};

struct registry {
  pthread_mutex_t lock;
  uint32_t workers;
  struct registry_slot *slots;
  uint32_t slot_count, slot_cap;
  uint32_t free_head; /* id + 1; 0: none */
  uint32_t *heads;    /* hash table; id + 1 */
  uint32_t head_count; /* power of two */
  uint32_t counts[OBJECT_KIND_COUNT];
  uint32_t live;
  struct list dead;
};

#define HEADS_START 64u

struct registry *registry_new(uint32_t workers) {
  check(workers >= 1 && workers <= WORKERS_MAX);
  struct registry *r = mem_alloc(sizeof *r);
  check(pthread_mutex_init(&r->lock, NULL) == 0);
  r->workers = workers;
  r->head_count = HEADS_START;
  r->heads = mem_array(r->head_count, sizeof *r->heads);
  r->slot_count = r->slot_cap = 1; /* id 0 is nobody's: labels without an object carry it */
  r->slots = mem_array(1, sizeof *r->slots);
  list_init(&r->dead);
  return r;
}

void registry_free(struct registry *r) {
  object_reap(r);
  check(r->live == 0);
  check(pthread_mutex_destroy(&r->lock) == 0);
  mem_free(r->slots);
  mem_free(r->heads);
  mem_free(r);
}

uint32_t registry_workers(const struct registry *r) { return r->workers; }

static void lock(struct registry *r) { check(pthread_mutex_lock(&r->lock) == 0); }
static void unlock(struct registry *r) { check(pthread_mutex_unlock(&r->lock) == 0); }

/* ---- ids and the hash table; the lock is held ---- */

static uint64_t identity_hash(enum object_kind kind, struct span name) {
  return hash_mix(hash_bytes(name), (uint64_t)kind);
}

static uint32_t *head_of(struct registry *r, uint64_t hash) {
  return &r->heads[hash & (r->head_count - 1)];
}

static void heads_grow(struct registry *r) {
  mem_free(r->heads);
  r->head_count *= 2;
  r->heads = mem_array(r->head_count, sizeof *r->heads);
  for (uint32_t id = 0; id < r->slot_count; id++) {
    struct registry_slot *slot = &r->slots[id];
    if (!slot->object) continue;
    uint32_t *head = head_of(r, slot->hash);
    slot->next = *head;
    *head = id + 1;
  }
}

static uint32_t id_take(struct registry *r) {
  if (r->free_head) {
    uint32_t id = r->free_head - 1;
    r->free_head = r->slots[id].next;
    return id;
  }
  if (r->slot_count == r->slot_cap) {
    check(r->slot_cap < UINT32_MAX / 4);
    r->slot_cap = r->slot_cap ? r->slot_cap * 2 : 64;
    r->slots = mem_grow(r->slots, r->slot_cap, sizeof *r->slots);
  }
  return r->slot_count++;
}

static void registry_link(struct registry *r, struct object *o) {
  if (r->live >= r->head_count) heads_grow(r);
  o->id = id_take(r);
  uint64_t hash = identity_hash((enum object_kind)o->kind, o->name);
  uint32_t *head = head_of(r, hash);
  r->slots[o->id] = (struct registry_slot){.object = o, .hash = hash, .next = *head};
  *head = o->id + 1;
  r->counts[o->kind]++;
  r->live++;
}

static void registry_unlink(struct registry *r, struct object *o) {
  struct registry_slot *slot = &r->slots[o->id];
  check(slot->object == o);
  uint32_t *at = head_of(r, slot->hash);
  while (*at != o->id + 1) {
    check(*at != 0);
    at = &r->slots[*at - 1].next;
  }
  *at = slot->next;
  *slot = (struct registry_slot){.next = r->free_head};
  r->free_head = o->id + 1;
  r->counts[o->kind]--;
  r->live--;
}

static struct object *registry_find(struct registry *r, enum object_kind kind, struct span name,
                                    bool (*same)(const struct object *o, const void *key),
                                    const void *key) {
  uint64_t hash = identity_hash(kind, name);
  for (uint32_t at = *head_of(r, hash); at; at = r->slots[at - 1].next) {
    const struct registry_slot *slot = &r->slots[at - 1];
    struct object *o = slot->object;
    if (slot->hash != hash || o->kind != (uint32_t)kind || !span_eq(o->name, name)) continue;
    if (!same || same(o, key)) return o;
  }
  return NULL;
}

/* ---- objects ---- */

static struct object *object_make(struct registry *r, size_t size, enum object_kind kind,
                                  struct span name) {
  check(size >= sizeof(struct object) && kind < OBJECT_KIND_COUNT);
  /* The name stands behind the object: most objects then need no arena block at all. */
  struct object *o = mem_alloc_aligned(64, size + name.len);
  o->kind = kind;
  o->workers = r->workers;
  o->registry = r;
  o->refs = 1;
  arena_init(&o->arena, NULL, 0);
  if (name.len) memcpy((char *)o + size, name.ptr, name.len);
  o->name = span_of((char *)o + size, name.len);
  o->pin_rows = mem_alloc_aligned(64, r->workers * sizeof *o->pin_rows);
  list_init(&o->dead_link);
  return o;
}

static void object_destroy(struct object *o) {
  arena_reset(&o->arena);
  mem_free(o->pin_rows);
  mem_free(o);
}

void *object_new(struct registry *r, size_t size, enum object_kind kind, struct span name) {
  struct object *o = object_make(r, size, kind, name);
  lock(r);
  registry_link(r, o);
  unlock(r);
  return o;
}

/* ref_locked brings a dead object that is still pinned back to life: identity must not fork. */
static void ref_locked(struct object *o) {
  check(o->refs < UINT32_MAX);
  if (o->refs++ == 0) list_remove(&o->dead_link);
}

struct object *object_get(struct registry *r, const struct object_identity *want) {
  lock(r);
  struct object *o = registry_find(r, want->kind, want->name, want->same, want->key);
  if (o) {
    ref_locked(o);
  } else {
    o = object_make(r, want->size, want->kind, want->name);
    if (want->init) want->init(o, want->key);
    registry_link(r, o);
  }
  unlock(r);
  return o;
}

void object_ref(struct registry *r, struct object *o) {
  check(o->registry == r);
  lock(r);
  check(o->refs > 0);
  ref_locked(o);
  unlock(r);
}

void object_unref(struct registry *r, struct object *o) {
  check(o->registry == r);
  lock(r);
  check(o->refs > 0);
  if (--o->refs == 0) list_push_tail(&r->dead, &o->dead_link);
  unlock(r);
}

static bool object_pinned(const struct object *o) {
  for (uint32_t i = 0; i < o->workers; i++)
    if (atomic_load_explicit(&o->pin_rows[i].pins, memory_order_acquire)) return true;
  return false;
}

/* dead_take unlinks one dead object that nobody pins, or NULL. */
static struct object *dead_take(struct registry *r) {
  struct object *found = NULL;
  lock(r);
  for (struct list *at = r->dead.next; at != &r->dead && !found; at = at->next) {
    struct object *o = container_of(at, struct object, dead_link);
    if (!object_pinned(o)) found = o;
  }
  if (found) {
    list_remove(&found->dead_link);
    registry_unlink(r, found);
  }
  unlock(r);
  return found;
}

uint32_t object_reap(struct registry *r) {
  /* Each turn frees one; a fini may add more to the list, so it ends when none is free to go. */
  for (struct object *o = dead_take(r); o; o = dead_take(r)) {
    if (o->fini) o->fini(o);
    object_destroy(o);
  }
  uint32_t waiting = 0;
  lock(r);
  for (struct list *at = r->dead.next; at != &r->dead; at = at->next) waiting++;
  unlock(r);
  return waiting;
}

void registry_each(struct registry *r, enum object_kind kind,
                   void (*fn)(struct object *o, void *ctx), void *ctx) {
  lock(r);
  for (uint32_t id = 0; id < r->slot_count; id++) {
    struct object *o = r->slots[id].object;
    if (o && o->kind == (uint32_t)kind) fn(o, ctx);
  }
  unlock(r);
}

uint32_t registry_count(struct registry *r, enum object_kind kind) {
  check(kind < OBJECT_KIND_COUNT);
  lock(r);
  uint32_t count = r->counts[kind];
  unlock(r);
  return count;
}
