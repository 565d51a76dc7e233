/* op_buffers.c: the provided buffers of a ring. Their number starts small, so that the bytes that
 * come land in the cache; it doubles when a receive found none, and falls again when a quarter
 * would do. One thread; the kernel takes buffers only inside io_uring_enter. */
#include <errno.h>
#include <sys/mman.h>

#include "io/op_priv.h"
#include "io/poison_priv.h"
#include "weir/base/mem.h"

#define BUFFER_GROUP 0
/* Starts of buffers that lie a page apart all fall into one set of the first cache. */
#define COLOUR_BYTES 64u
#define PAGE_BYTES 4096u

static bool power_of_two(uint32_t n) { return n != 0 && (n & (n - 1)) == 0; }

static void add(struct ring_buffers *b, uint16_t id) {
  io_uring_buf_ring_add(b->shared, buffers_at(b, id), b->bytes, id, io_uring_buf_ring_mask(b->max),
                        (int)b->added);
  b->added++;
}

void buffers_commit(struct ring_buffers *b) {
  b->used = 0;
  if (b->added == 0) return;
  io_uring_buf_ring_advance(b->shared, (int)b->added);
  b->added = 0;
}

static void add_up_to(struct ring_buffers *b, uint32_t total) {
  for (uint32_t id = b->total; id < total; id++) add(b, (uint16_t)id);
  b->total = b->target = total;
  buffers_commit(b);
}

int buffers_init(struct ring_buffers *b, struct io_uring *ring, uint32_t first, uint32_t max,
                 uint32_t bytes) {
  check(power_of_two(max) && max <= 32768 && first > 0 && first <= max);
  *b = (struct ring_buffers){
      .ring = ring, .bytes = bytes, .stride = bytes + COLOUR_BYTES, .first = first, .max = max};
  int rc;
  b->shared = io_uring_setup_buf_ring(ring, max, BUFFER_GROUP, 0, &rc);
  if (b->shared == NULL) return rc;
  void *base = mmap(NULL, (size_t)max * b->stride, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    rc = -errno;
    (void)io_uring_free_buf_ring(ring, b->shared, max, BUFFER_GROUP);
    return rc;
  }
  b->base = base;
  b->retired = mem_array(max, sizeof(*b->retired));
  add_up_to(b, first);
  return 0;
}

void buffers_fini(struct ring_buffers *b) {
  (void)io_uring_free_buf_ring(b->ring, b->shared, b->max, BUFFER_GROUP);
  (void)munmap(b->base, (size_t)b->max * b->stride);
  mem_free(b->retired);
}

/* retire keeps a buffer out of the ring; the memory goes when the last one above target is out. */
static void retire(struct ring_buffers *b, uint16_t id) {
  b->retired[b->retired_count++] = id;
  if (b->retired_count < b->total - b->target) return;
  b->total = b->target;
  b->retired_count = 0;
  size_t from = ((size_t)b->total * b->stride + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
  size_t end = (size_t)b->max * b->stride;
  if (from < end) (void)madvise(b->base + from, end - from, MADV_DONTNEED);
}

void buffers_put(struct ring_buffers *b, uint16_t id) {
  check(id < b->total);
  if (++b->used > b->used_max) b->used_max = b->used;
  if (__builtin_expect(id >= b->target, 0))
    retire(b, id);
  else
    add(b, id);
}

/* unretire stops a shrinking that has not ended; true if that gave buffers back. */
static bool unretire(struct ring_buffers *b) {
  uint32_t count = b->retired_count;
  for (uint32_t i = 0; i < count; i++) add(b, b->retired[i]);
  b->retired_count = 0;
  b->target = b->total;
  return count > 0;
}

bool buffers_grow(struct ring_buffers *b) {
  b->used_max = b->total;
  if (b->target < b->total && unretire(b)) return true;
  if (b->total == b->max) return false;
  uint32_t total = b->total * 2;
  add_up_to(b, total < b->max ? total : b->max);
  return true;
}

/* restart gives all memory back and begins with `first` buffers again: every buffer is in the
 * ring, and armed receives name the group, not the ring. On failure nothing has changed but the
 * size. */
static void restart(struct ring_buffers *b) {
  buffers_commit(b);
  int rc;
  if (io_uring_free_buf_ring(b->ring, b->shared, b->max, BUFFER_GROUP) < 0) return;
  b->shared = io_uring_setup_buf_ring(b->ring, b->max, BUFFER_GROUP, 0, &rc);
  check(b->shared != NULL); /* it was there a moment ago, and takes no more memory */
  (void)madvise(b->base, (size_t)b->max * b->stride, MADV_DONTNEED);
  b->retired_count = b->total = b->target = 0;
  add_up_to(b, b->first);
}

void buffers_trim(struct ring_buffers *b) {
  uint32_t used = b->used_max;
  b->used_max = 0;
  if (used == 0 && b->total > b->first && io_uring_cq_ready(b->ring) == 0) {
    restart(b);
    return;
  }
  if (b->target < b->total || b->total <= b->first || used * 4 > b->total) return;
  b->target = b->total / 2 < b->first ? b->first : b->total / 2;
}
