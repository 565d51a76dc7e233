/* slab.h: fixed-size objects by slot number, grown in chunks up to a limit. One thread. A handle
 * is slot and generation: a late completion that names a freed object finds nothing. */
#ifndef WEIR_BASE_SLAB_H
#define WEIR_BASE_SLAB_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/check.h"

/* slab_head is the first member of every object in a slab. */
struct slab_head {
  uint32_t slot;
  uint32_t generation; /* odd while live, even while free; wraps */
};

struct slab {
  char **chunks;
  size_t object_size;     /* bytes, multiple of 64 */
  uint32_t chunk_objects; /* power of two */
  uint32_t chunk_shift;
  uint32_t chunk_count, chunk_max;
  uint32_t live, limit;
  uint32_t free_head; /* slot + 1; 0: none */
};

/* slab_init: limit is the most objects that may live at once. The chunk table is allocated now. */
void slab_init(struct slab *slab, size_t object_size, uint32_t chunk_objects, uint32_t limit);
/* slab_fini frees the chunks; every object must be free. */
void slab_fini(struct slab *slab);
/* slab_new gives a zeroed object (but for its slab_head), or NULL at the limit. */
MUST_USE void *slab_new(struct slab *slab);
/* slab_free returns the object; its handles are dead (memory poisoned under ASan). */
void slab_free(struct slab *slab, void *object);
/* slab_trim gives chunks without live objects back to the heap, from the end. */
void slab_trim(struct slab *slab);
/* slab_find gives the live object of a handle, or NULL. */
void *slab_find(const struct slab *slab, uint32_t slot, uint32_t generation);
/* slab_at gives the object of a slot whose object is known to live. */
static inline void *slab_at(const struct slab *slab, uint32_t slot) {
  check(slot >> slab->chunk_shift < slab->chunk_count);
  char *chunk = slab->chunks[slot >> slab->chunk_shift];
  struct slab_head *head = (struct slab_head *)(void *)(
      chunk + (slot & (slab->chunk_objects - 1)) * slab->object_size);
  check((head->generation & 1) == 1);
  return head;
}
/* slab_warm asks for the memory of a slot that was handed out (warm.h), live or not. */
void slab_warm(const struct slab *slab, uint32_t slot);

#endif
