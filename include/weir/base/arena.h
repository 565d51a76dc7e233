/* arena.h: memory that dies at once. A stream's arena draws fixed blocks from a worker's block
 * pool (no malloc after warm-up); a snapshot's or a test's arena draws from the heap. Not
 * thread-safe. */
#ifndef WEIR_BASE_ARENA_H
#define WEIR_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/span.h"

/* arena_blocks caches free blocks of one size for many arenas of one thread. */
struct arena_blocks {
  struct arena_block *free;
  size_t block_size; /* bytes, header included */
  uint32_t free_count;
  uint32_t keep_max; /* free blocks kept; more go back to the heap */
  uint64_t live_bytes; /* given out now */
};

/* ARENA_PAGES in place of blocks: pages from the kernel, 64 KiB at least, that go back with
 * arena_reset. For scratch of threads that serve nobody: beside what lives long in the heap it
 * would leave holes. */
extern struct arena_blocks arena_pages;
#define ARENA_PAGES (&arena_pages)

/* arena hands out memory until arena_reset. limit caps its bytes (0: none). */
struct arena {
  struct arena_block *head;
  struct arena_blocks *blocks; /* NULL: heap blocks of 4 KiB */
  size_t used;                 /* bytes used in head */
  size_t total;                /* bytes in all blocks */
  size_t limit;
};

void arena_blocks_init(struct arena_blocks *blocks, size_t block_size, uint32_t keep_max);
/* arena_blocks_trim gives all but keep free blocks back to the heap. */
void arena_blocks_trim(struct arena_blocks *blocks, uint32_t keep);
void arena_blocks_fini(struct arena_blocks *blocks);

/* arena_init starts an empty arena: no memory until the first alloc. blocks may be NULL. */
void arena_init(struct arena *arena, struct arena_blocks *blocks, size_t limit);
/* arena_reset frees all; spans into it are dead (poisoned under ASan). */
void arena_reset(struct arena *arena);

/* arena_alloc gives size bytes aligned to 16, NOT zeroed; NULL when the limit would be passed. */
MUST_USE void *arena_alloc(struct arena *arena, size_t size);
/* arena_zalloc is arena_alloc, zeroed. */
MUST_USE void *arena_zalloc(struct arena *arena, size_t size);
/* arena_bytes is arena_alloc without alignment, for text. */
MUST_USE char *arena_bytes(struct arena *arena, size_t size);
/* arena_copy copies s; an empty span and *ok=false when the limit is hit (ok may be NULL). */
struct span arena_copy(struct arena *arena, struct span s, bool *ok);
/* arena_printf formats text; empty span when the limit is hit. */
struct span arena_printf(struct arena *arena, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* arena_warm asks for the memory of the next size bytes or so that it will hand out (warm.h). */
void arena_warm(const struct arena *arena, size_t size);
/* arena_shrink gives back the tail of the newest allocation (ptr, of `had` bytes), keeping `keep`.
 */
void arena_shrink(struct arena *arena, void *ptr, size_t had, size_t keep);

#endif
