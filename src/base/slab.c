/* slab.c: fixed-size objects in chunks, named by slot and generation. A chunk that is given back
 * remembers the highest generation it had, so that a handle never comes to life again. Under ASan
 * a free object is poisoned but for its head and list link. One thread. */
#include "weir/base/slab.h"

#include <stdbool.h>
#include <string.h>

#include "poison_priv.h"
#include "weir/base/mem.h"
#include "weir/base/warm.h"

#define SLAB_ALIGN 64u

/* free_object is what a free object holds: always addressable. */
struct free_object {
  struct slab_head head;
  uint32_t next; /* slot + 1; 0: none */
  uint32_t unused;
};

/* generations stands behind the chunk table: where each chunk's objects start. */
static uint32_t *generations(const struct slab *slab) {
  return (uint32_t *)(void *)(slab->chunks + slab->chunk_max);
}

void slab_init(struct slab *slab, size_t object_size, uint32_t chunk_objects, uint32_t limit) {
  check(object_size >= sizeof(struct free_object));
  check(chunk_objects != 0 && (chunk_objects & (chunk_objects - 1)) == 0);
  check(limit < UINT32_MAX - chunk_objects);
  *slab = (struct slab){
      .object_size = (object_size + SLAB_ALIGN - 1) & ~(size_t)(SLAB_ALIGN - 1),
      .chunk_objects = chunk_objects,
      .chunk_shift = (uint32_t)__builtin_ctz(chunk_objects),
      .chunk_max = (limit + chunk_objects - 1) / chunk_objects,
      .limit = limit,
  };
  slab->chunks = mem_array(slab->chunk_max + (size_t)1, sizeof(char *) + sizeof(uint32_t));
}

static struct free_object *object_at(const struct slab *slab, uint32_t slot) {
  char *chunk = slab->chunks[slot >> slab->chunk_shift];
  return (struct free_object *)(void *)(chunk +
                                        (slot & (slab->chunk_objects - 1)) * slab->object_size);
}

static void hide(const struct slab *slab, struct free_object *object) {
  poison((char *)(object + 1), slab->object_size - sizeof(*object));
}

static void show(const struct slab *slab, struct free_object *object) {
  unpoison((char *)(object + 1), slab->object_size - sizeof(*object));
}

static void push_free(struct slab *slab, struct free_object *object) {
  object->next = slab->free_head;
  slab->free_head = object->head.slot + 1;
  hide(slab, object);
}

/* grow adds a chunk; its lowest slot is handed out first. */
static void grow(struct slab *slab) {
  uint32_t chunk = slab->chunk_count++;
  slab->chunks[chunk] = mem_pages(slab->chunk_objects * slab->object_size);
  for (uint32_t i = slab->chunk_objects; i-- > 0;) {
    uint32_t slot = (chunk << slab->chunk_shift) + i;
    struct free_object *object = object_at(slab, slot);
    object->head = (struct slab_head){.slot = slot, .generation = generations(slab)[chunk]};
    push_free(slab, object);
  }
}

void *slab_new(struct slab *slab) {
  if (slab->live == slab->limit) return NULL;
  if (slab->free_head == 0) grow(slab);
  struct free_object *object = object_at(slab, slab->free_head - 1);
  slab->free_head = object->next;
  if (slab->free_head) warm(object_at(slab, slab->free_head - 1), sizeof(*object));
  slab->live++;
  show(slab, object);
  struct slab_head head = object->head;
  check((head.generation & 1) == 0);
  memset(object, 0, slab->object_size);
  head.generation++;
  object->head = head;
  return object;
}

void slab_free(struct slab *slab, void *object) {
  struct free_object *freed = object;
  check((freed->head.generation & 1) == 1);
  check(slab_find(slab, freed->head.slot, freed->head.generation) == object);
  freed->head.generation++;
  slab->live--;
  push_free(slab, freed);
}

void *slab_find(const struct slab *slab, uint32_t slot, uint32_t generation) {
  if (slot >> slab->chunk_shift >= slab->chunk_count) return NULL;
  struct free_object *object = object_at(slab, slot);
  if (object->head.generation != generation || (generation & 1) == 0) return NULL;
  return object;
}

void slab_warm(const struct slab *slab, uint32_t slot) {
  if (slot >> slab->chunk_shift < slab->chunk_count)
    warm(object_at(slab, slot), slab->object_size);
}

/* chunk_idle tells whether no object of a chunk lives; *generation gets the highest one seen. */
static bool chunk_idle(const struct slab *slab, uint32_t chunk, uint32_t *generation) {
  uint32_t highest = 0;
  for (uint32_t i = 0; i < slab->chunk_objects; i++) {
    const struct free_object *object = object_at(slab, (chunk << slab->chunk_shift) + i);
    if (object->head.generation & 1) return false;
    if (object->head.generation > highest) highest = object->head.generation;
  }
  *generation = highest;
  return true;
}

static void drop_last_chunk(struct slab *slab) {
  uint32_t chunk = --slab->chunk_count;
  unpoison(slab->chunks[chunk], slab->chunk_objects * slab->object_size);
  mem_pages_free(slab->chunks[chunk], slab->chunk_objects * slab->object_size);
  slab->chunks[chunk] = NULL;
}

/* forget_free takes slots from first on out of the free list. */
static void forget_free(struct slab *slab, uint32_t first) {
  uint32_t *link = &slab->free_head;
  while (*link != 0) {
    struct free_object *object = object_at(slab, *link - 1);
    if (object->head.slot >= first)
      *link = object->next;
    else
      link = &object->next;
  }
}

void slab_trim(struct slab *slab) {
  uint32_t keep = slab->chunk_count;
  uint32_t generation;
  while (keep > 0 && chunk_idle(slab, keep - 1, &generation)) {
    keep--;
    generations(slab)[keep] = generation;
  }
  if (keep == slab->chunk_count) return;
  forget_free(slab, keep << slab->chunk_shift);
  while (slab->chunk_count > keep) drop_last_chunk(slab);
}

void slab_fini(struct slab *slab) {
  check(slab->live == 0);
  while (slab->chunk_count > 0) drop_last_chunk(slab);
  mem_free(slab->chunks);
  *slab = (struct slab){0};
}
