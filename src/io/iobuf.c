/* iobuf.c: borrowed I/O buffers in four size classes, LIFO so that the next user finds a warm one.
 * Does not zero or clear them. Called by conns, relays and transports of one worker. */
#include "weir/io/iobuf.h"

#include "io/poison_priv.h"
#include "weir/base/check.h"
#include "weir/base/mem.h"

static const uint32_t class_bytes[IOBUF_CLASSES] = {
    [IOBUF_4K] = 4096,
    [IOBUF_18K] = 18 * 1024,
    [IOBUF_64K] = 68 * 1024,
    [IOBUF_256K] = IOBUF_MAX,
};

/* The payload stands behind the head in the same block: 64 bytes off, so that the starts of many
 * buffers do not all fall into one cache set. */
#define IOBUF_HEAD 64u
_Static_assert(sizeof(struct iobuf) <= IOBUF_HEAD, "the head fits its place");

void iobufs_init(struct iobufs *pool, size_t limit) { *pool = (struct iobufs){.limit = limit}; }

static void release(struct iobufs *pool, struct iobuf *b) {
  unpoison(b->data.ptr, b->data.cap);
  pool->bytes -= class_bytes[b->klass];
  mem_free(b);
}

static struct iobuf *pop(struct iobufs *pool, uint32_t klass) {
  struct iobuf *b = pool->free[klass];
  if (b == NULL) return NULL;
  pool->free[klass] = b->next;
  pool->free_count[klass]--;
  if (pool->free_count[klass] < pool->low_water[klass])
    pool->low_water[klass] = pool->free_count[klass];
  return b;
}

void iobufs_fini(struct iobufs *pool) {
  for (uint32_t klass = 0; klass < IOBUF_CLASSES; klass++)
    for (struct iobuf *b = pop(pool, klass); b; b = pop(pool, klass)) release(pool, b);
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
  struct iobuf *b = mem_alloc_aligned(IOBUF_HEAD, IOBUF_HEAD + size);
  b->klass = klass;
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
