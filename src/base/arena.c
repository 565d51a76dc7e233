/* arena.c: blocks of memory that are filled from the front and given back together. Freed blocks
 * go to the thread's cache (arena_blocks) or the heap; under ASan everything not handed out is
 * poisoned. No destructors, no freeing of one object. Called by streams, snapshots and tests. */
#include "weir/base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#include "poison_priv.h"
#include "weir/base/mem.h"
#include "weir/base/warm.h"

#define ARENA_ALIGN 16u
#define HEAP_BLOCK_SIZE 4096u

/* arena_block heads each block; its bytes follow. Always addressable. */
struct arena_block {
  struct arena_block *next;
  size_t size; /* bytes, this head included */
};
_Static_assert(sizeof(struct arena_block) == ARENA_ALIGN, "payload is aligned");

struct arena_blocks arena_pages = {.block_size = (size_t)64 << 10};

static char *payload(struct arena_block *block) { return (char *)(block + 1); }

void arena_blocks_init(struct arena_blocks *blocks, size_t block_size, uint32_t keep_max) {
  check(block_size > sizeof(struct arena_block));
  *blocks = (struct arena_blocks){.block_size = block_size, .keep_max = keep_max};
}

static void block_to_pages(struct arena_block *block) {
  unpoison(payload(block), block->size - sizeof(*block));
  mem_pages_free(block, block->size);
}

static void block_to_heap(struct arena_block *block) {
  unpoison(payload(block), block->size - sizeof(*block));
  mem_free(block);
}

void arena_blocks_trim(struct arena_blocks *blocks, uint32_t keep) {
  while (blocks->free_count > keep) {
    struct arena_block *block = blocks->free;
    blocks->free = block->next;
    blocks->free_count--;
    block_to_heap(block);
  }
}

void arena_blocks_fini(struct arena_blocks *blocks) {
  check(blocks->live_bytes == 0);
  arena_blocks_trim(blocks, 0);
}

static struct arena_block *block_from_heap(size_t size) {
  struct arena_block *block = mem_grow(NULL, 1, size);
  block->size = size;
  poison(payload(block), size - sizeof(*block));
  return block;
}

static struct arena_block *block_from_pages(size_t size) {
  struct arena_block *block = mem_pages(size);
  block->size = size;
  poison(payload(block), size - sizeof(*block));
  return block;
}

static struct arena_block *block_take(struct arena_blocks *blocks, size_t size) {
  if (blocks == NULL) return block_from_heap(size);
  if (blocks == ARENA_PAGES) return block_from_pages(size);
  blocks->live_bytes += size;
  struct arena_block *block = blocks->free;
  if (block == NULL || size != blocks->block_size) return block_from_heap(size);
  blocks->free = block->next;
  warm(blocks->free, sizeof(*block));
  blocks->free_count--;
  return block;
}

static void block_give(struct arena_blocks *blocks, struct arena_block *block) {
  if (blocks == NULL || blocks == ARENA_PAGES) {
    (blocks ? block_to_pages : block_to_heap)(block);
    return;
  }
  blocks->live_bytes -= block->size;
  if (block->size != blocks->block_size || blocks->free_count >= blocks->keep_max) {
    block_to_heap(block);
    return;
  }
  poison(payload(block), block->size - sizeof(*block));
  block->next = blocks->free;
  blocks->free = block;
  blocks->free_count++;
}

void arena_init(struct arena *arena, struct arena_blocks *blocks, size_t limit) {
  *arena = (struct arena){.blocks = blocks, .limit = limit};
}

void arena_reset(struct arena *arena) {
  struct arena_block *block = arena->head;
  while (block != NULL) {
    struct arena_block *next = block->next;
    block_give(arena->blocks, block);
    block = next;
  }
  arena_init(arena, arena->blocks, arena->limit);
}

void arena_warm(const struct arena *arena, size_t size) {
  if (arena->head == NULL) return;
  warm(arena->head, sizeof(*arena->head));
  warm((const char *)arena->head + arena->used, size);
}

/* add_block links a block with room for size bytes and returns it, or NULL at the limit. One that
 * is made to measure goes behind the head, so that the head's room is not lost. */
static struct arena_block *add_block(struct arena *arena, size_t size) {
  size_t usual = arena->blocks ? arena->blocks->block_size : HEAP_BLOCK_SIZE;
  size_t need, total;
  if (__builtin_add_overflow(size, sizeof(struct arena_block), &need)) return NULL;
  bool measured = need > usual;
  if (!measured) need = usual;
  if (__builtin_add_overflow(arena->total, need, &total)) return NULL;
  if (arena->limit != 0 && total > arena->limit) return NULL;
  struct arena_block *block = block_take(arena->blocks, need);
  arena->total = total;
  if (measured && arena->head != NULL) {
    block->next = arena->head->next;
    arena->head->next = block;
    return block;
  }
  block->next = arena->head;
  arena->head = block;
  arena->used = sizeof(*block);
  return block;
}

static char *alloc_at(struct arena *arena, size_t size, size_t align) {
  struct arena_block *head = arena->head;
  if (head != NULL) {
    size_t at = (arena->used + align - 1) & ~(align - 1);
    if (at <= head->size && size <= head->size - at) {
      arena->used = at + size;
      unpoison((char *)head + at, size);
      return (char *)head + at;
    }
  }
  struct arena_block *block = add_block(arena, size);
  if (block == NULL) return NULL;
  if (block == arena->head) arena->used += size;
  unpoison(payload(block), size);
  return payload(block);
}

void *arena_alloc(struct arena *arena, size_t size) { return alloc_at(arena, size, ARENA_ALIGN); }

void *arena_zalloc(struct arena *arena, size_t size) {
  void *ptr = arena_alloc(arena, size);
  if (ptr != NULL && size != 0) memset(ptr, 0, size);
  return ptr;
}

char *arena_bytes(struct arena *arena, size_t size) { return alloc_at(arena, size, 1); }

struct span arena_copy(struct arena *arena, struct span s, bool *ok) {
  char *copy = s.len ? arena_bytes(arena, s.len) : NULL;
  bool copied = copy != NULL || s.len == 0;
  if (ok != NULL) *ok = copied;
  if (copy == NULL) return SPAN_EMPTY;
  memcpy(copy, s.ptr, s.len);
  return span_of(copy, s.len);
}

struct span arena_printf(struct arena *arena, const char *fmt, ...) {
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  int len = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  check(len >= 0);
  size_t room = (size_t)len + 1;
  char *text = arena_bytes(arena, room);
  if (text != NULL) check(vsnprintf(text, room, fmt, again) == len);
  va_end(again);
  if (text == NULL) return SPAN_EMPTY;
  arena_shrink(arena, text, room, (size_t)len);
  return span_of(text, (size_t)len);
}

void arena_shrink(struct arena *arena, void *ptr, size_t had, size_t keep) {
  check(keep <= had);
  struct arena_block *head = arena->head;
  if (head == NULL || (char *)ptr + had != (char *)head + arena->used) return;
  arena->used -= had - keep;
  poison((char *)ptr + keep, had - keep);
}
