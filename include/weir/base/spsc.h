/* spsc.h: a byte ring between one writer thread and one reader thread; records whole or not at
 * all, never waits. All its memory is touched at the start: a ring is used all around anyway, and
 * growth later would look like a leak. */
#ifndef WEIR_BASE_SPSC_H
#define WEIR_BASE_SPSC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "weir/base/span.h"

struct spsc {
  char *bytes;
  uint32_t size; /* power of two */
  _Alignas(64) _Atomic uint64_t head; /* writer */
  uint64_t tail_seen;
  _Alignas(64) _Atomic uint64_t tail; /* reader */
  _Alignas(64) _Atomic uint64_t dropped;
};

void spsc_init(struct spsc *r, uint32_t size);
void spsc_fini(struct spsc *r);
/* spsc_reserve gives len contiguous bytes to fill, or NULL (counted in dropped); spsc_commit
 * publishes the first `used` of them. */
void *spsc_reserve(struct spsc *r, uint32_t len);
void spsc_commit(struct spsc *r, uint32_t used);
/* spsc_peek gives the oldest record, or an empty span; spsc_release drops it. Reader only. */
struct span spsc_peek(struct spsc *r);
void spsc_release(struct spsc *r);
/* spsc_used is bytes waiting, for either side. */
uint32_t spsc_used(struct spsc *r);

#endif
