/* iobuf.c: borrowed I/O buffers in four size classes, LIFO so that the next user finds a warm one.
 * Each stands in pages of its own, outside the heap: what a burst took goes back page by page,
 * whatever lives on beside it. Does not zero or clear them. Called by conns, relays and transports
 * of one worker. */
#include "weir/io/iobuf.h"

#include "io/poison_priv.h"
#include "weir/base/check.h"
#include "weir/base/mem.h"
#include "weir/base/warm.h"

static const uint32_t class_bytes[IOBUF_CLASSES] = {
    [IOBUF_4K] = 4096,
    [IOBUF_18K] = 18 * 1024,
    [IOBUF_64K] = 68 * 1024,
    [IOBUF_256K] = IOBUF_MAX,
};

/* The payload stands behind the head, a few cache lines into the pages: COLOURS different ones, so
 * that the starts of many buffers do not all fall into one cache set. */
#define IOBUF_HEAD 64u
#define COLOURS 8u
#define PAGE 4096u
_Static_assert(sizeof(struct iobuf) <= IOBUF_HEAD, "the head fits its place");

/* A chunk of a class is so many buffers' pages, got from the kernel together. */
static const uint32_t chunk_slots[IOBUF_CLASSES] = {16, 8, 2, 1};

/* slot_bytes is a buffer's pages. */
static size_t slot_bytes(uint32_t klass) {
  size_t size = class_bytes[klass] + (size_t)IOBUF_HEAD * COLOURS;
  return (size + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static char *slot_of(struct iobuf *b) { return (char *)b - b->colour * IOBUF_HEAD; }

void iobufs_init(struct iobufs *pool, size_t limit) { *pool = (struct iobufs){.limit = limit}; }

static void release(struct iobufs *pool, struct iobuf *b) {
  struct iobuf_home *home = &pool->home[b->klass];
  size_t size = slot_bytes(b->klass);
  char *slot = slot_of(b);
  unpoison(b->data.ptr, b->data.cap);
  pool->bytes -= class_bytes[b->klass];
  mem_pages_drop(slot, size);
  home->cold[home->cold_count++] = slot; /* there is room for every slot */
}

/* home_grow gets the pages of one more chunk. */
static void home_grow(struct iobuf_home *home, uint32_t klass) {
  uint32_t slots = chunk_slots[klass];
  home->chunks = mem_grow(home->chunks, home->chunk_count + (size_t)1, sizeof(char *));
  home->cold = mem_grow(home->cold, (home->chunk_count + (size_t)1) * slots, sizeof(char *));
  char *chunk = mem_pages(slots * slot_bytes(klass));
  home->chunks[home->chunk_count++] = chunk;
  for (uint32_t i = slots; i-- > 0;)
    home->cold[home->cold_count++] = chunk + i * slot_bytes(klass);
}

static void home_fini(struct iobuf_home *home, uint32_t klass) {
  for (uint32_t i = 0; i < home->chunk_count; i++)
    mem_pages_free(home->chunks[i], chunk_slots[klass] * slot_bytes(klass));
  mem_free(home->chunks);
  mem_free(home->cold);
  *home = (struct iobuf_home){0};
}

static struct iobuf *pop(struct iobufs *pool, uint32_t klass) {
  struct iobuf *b = pool->free[klass];
  if (b == NULL) return NULL;
  pool->free[klass] = b->next;
  warm(b->next, sizeof(*b));
  pool->free_count[klass]--;
  if (pool->free_count[klass] < pool->low_water[klass])
    pool->low_water[klass] = pool->free_count[klass];
  return b;
}

void iobufs_fini(struct iobufs *pool) {
  for (uint32_t klass = 0; klass < IOBUF_CLASSES; klass++) {
    for (struct iobuf *b = pop(pool, klass); b; b = pop(pool, klass)) release(pool, b);
    home_fini(&pool->home[klass], klass);
  }
  check(pool->bytes_out == 0);
  check(pool->bytes == 0);
}

/* make_way drops idle buffers, largest first, until size more bytes keep the limit: what is idle
 * in one class must not refuse another. */
static bool make_way(struct iobufs *pool, size_t size) {
  if (size > pool->limit || pool->bytes_out > pool->limit - size) return false;
  for (uint32_t klass = IOBUF_CLASSES; klass-- > 0;) {
    while (pool->bytes > pool->limit - size) {
      struct iobuf *b = pop(pool, klass);
      if (b == NULL) break;
      release(pool, b);
    }
  }
  return true;
}

static struct iobuf *make(struct iobufs *pool, uint32_t klass) {
  size_t size = class_bytes[klass];
  if (!make_way(pool, size)) return NULL;
  struct iobuf_home *home = &pool->home[klass];
  if (home->cold_count == 0) home_grow(home, klass);
  uint32_t colour = home->cold_count % COLOURS;
  char *at = home->cold[--home->cold_count] + (size_t)colour * IOBUF_HEAD;
  struct iobuf *b = (struct iobuf *)(void *)at;
  b->klass = klass;
  b->colour = colour;
  b->data = buf_of((char *)b + IOBUF_HEAD, size);
  pool->bytes += size;
  return b;
}

struct iobuf *iobuf_take(struct iobufs *pool, size_t room) {
  uint32_t klass = 0;
  while (klass < IOBUF_CLASSES && class_bytes[klass] < room) klass++;
  if (klass == IOBUF_CLASSES) return NULL;
  struct iobuf *b = pop(pool, klass);
  if (b == NULL) b = make(pool, klass);
  if (b == NULL) return NULL;
  unpoison(b->data.ptr, b->data.cap);
  b->next = NULL;
  b->off = 0;
  b->data.len = 0;
  b->data.full = false;
  pool->bytes_out += class_bytes[klass];
  return b;
}

void iobuf_give(struct iobufs *pool, struct iobuf *b) {
  size_t size = class_bytes[b->klass];
  check(pool->bytes_out >= size);
  pool->bytes_out -= size;
  poison(b->data.ptr, b->data.cap);
  b->next = pool->free[b->klass];
  pool->free[b->klass] = b;
  pool->free_count[b->klass]++;
}

/* What was free all the time since the last trim was not needed: half of it goes. */
void iobufs_trim(struct iobufs *pool) {
  for (uint32_t klass = 0; klass < IOBUF_CLASSES; klass++) {
    uint32_t drop = (pool->low_water[klass] + 1) / 2;
    for (uint32_t i = 0; i < drop; i++) {
      struct iobuf *b = pop(pool, klass);
      if (b == NULL) break;
      release(pool, b);
    }
    pool->low_water[klass] = pool->free_count[klass];
  }
}
