/* spsc.c: the byte ring between a worker and the log thread. A record is an 8-byte header (its
 * length) and its bytes, padded to 8; one that would cross the end of the ring is preceded by a
 * skip mark, so every record is contiguous. Positions only grow (64 bit), the ring index is
 * position modulo size. Does not: wait, wake anybody, or know what a record holds. Called by
 * proxy/ (writer) and control/ (reader). */
#include "weir/base/spsc.h"

#include "weir/base/mem.h"

#define HEADER 8u /* records stand at multiples of 8: structs are read where they lie */
#define SKIP UINT32_MAX
#define PAGE 4096u

static uint32_t record_size(uint32_t len) { return (HEADER + len + 7u) & ~7u; }

static char *at(const struct spsc *r, uint64_t position) {
  return r->bytes + (position & (r->size - 1));
}

static uint32_t header_read(const struct spsc *r, uint64_t position) {
  uint32_t len;
  memcpy(&len, at(r, position), sizeof len);
  return len;
}

static void header_write(struct spsc *r, uint64_t position, uint32_t len) {
  memcpy(at(r, position), &len, sizeof len);
}

void spsc_init(struct spsc *r, uint32_t size) {
  check(size >= 64 && (size & (size - 1)) == 0);
  r->bytes = (char *)mem_alloc(size);
  for (uint32_t i = 0; i < size; i += PAGE) ((volatile char *)r->bytes)[i] = 0;
  r->size = size;
  r->tail_seen = 0;
  atomic_init(&r->head, 0);
  atomic_init(&r->tail, 0);
  atomic_init(&r->dropped, 0);
}

void spsc_fini(struct spsc *r) {
  mem_free(r->bytes);
  r->bytes = NULL;
}

/* room tells whether need bytes are free behind head; looks at the reader's position only when the
 * remembered one does not do. */
static bool room(struct spsc *r, uint64_t head, uint32_t need) {
  if (r->size - (head - r->tail_seen) >= need) {
    return true;
  }
  r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
  return r->size - (head - r->tail_seen) >= need;
}

static void *drop(struct spsc *r) {
  uint64_t dropped = atomic_load_explicit(&r->dropped, memory_order_relaxed);
  atomic_store_explicit(&r->dropped, dropped + 1, memory_order_relaxed);
  return NULL;
}

void *spsc_reserve(struct spsc *r, uint32_t len) {
  check(len > 0);
  if (len > r->size / 2 - HEADER) {
    return drop(r);
  }
  uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
  uint32_t need = record_size(len);
  uint32_t to_end = r->size - (uint32_t)(head & (r->size - 1));
  uint32_t skip = need > to_end ? to_end : 0;
  if (!room(r, head, need + skip)) {
    return drop(r);
  }
  if (skip) {
    header_write(r, head, SKIP);
    head += skip;
    atomic_store_explicit(&r->head, head, memory_order_release);
  }
  return at(r, head) + HEADER;
}

void spsc_commit(struct spsc *r, uint32_t used) {
  check(used > 0 && used <= r->size / 2 - HEADER);
  uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
  header_write(r, head, used);
  atomic_store_explicit(&r->head, head + record_size(used), memory_order_release);
}

struct span spsc_peek(struct spsc *r) {
  uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
  uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
  if (tail == head) {
    return SPAN_EMPTY;
  }
  uint32_t len = header_read(r, tail);
  if (len == SKIP) {
    tail += r->size - (tail & (r->size - 1));
    atomic_store_explicit(&r->tail, tail, memory_order_release);
    if (tail == head) {
      return SPAN_EMPTY;
    }
    len = header_read(r, tail);
  }
  check(record_size(len) <= head - tail);
  return span_of(at(r, tail) + HEADER, len);
}

void spsc_release(struct spsc *r) {
  uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
  check(tail != atomic_load_explicit(&r->head, memory_order_relaxed));
  uint32_t len = header_read(r, tail);
  check(len != SKIP);
  atomic_store_explicit(&r->tail, tail + record_size(len), memory_order_release);
}

uint32_t spsc_used(struct spsc *r) {
  uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
  uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
  return (uint32_t)(head - tail);
}
