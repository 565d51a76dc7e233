/* iobuf.h: borrowed I/O buffers of a worker, by size class, LIFO. An idle connection owns none.
 * Grown on need up to a byte limit (pressure.h: who stops where); iobufs_trim gives idle ones
 * back.
 * One thread. */
#ifndef WEIR_IO_IOBUF_H
#define WEIR_IO_IOBUF_H

#include <stddef.h>
#include <stdint.h>

#include "weir/base/buf.h"

/* Size classes in bytes of payload; the 18 KiB one holds one TLS record with its overhead. */
#define IOBUF_CLASSES 4
#define IOBUF_4K 0
#define IOBUF_18K 1
#define IOBUF_64K 2              /* 64 KiB and the overhead of TLS records */
#define IOBUF_256K 3             /* 256 KiB and the same */
#define IOBUF_MAX (272u * 1024u) /* payload of the largest class */

struct iobuf {
  struct iobuf *next;
  uint32_t klass;
  uint32_t off;    /* first byte not yet sent or consumed */
  uint32_t colour; /* cache lines from the start of its pages */
  struct buf data; /* ptr, len, cap */
};

/* iobuf_home is where the buffers of a class live: chunks of pages, and those of their slots that
 * hold no memory now. */
struct iobuf_home {
  char **chunks, **cold;
  uint32_t chunk_count, cold_count;
};

struct iobufs {
  struct iobuf *free[IOBUF_CLASSES];
  uint32_t free_count[IOBUF_CLASSES];
  uint32_t low_water[IOBUF_CLASSES]; /* least free_count since the last trim */
  size_t bytes, limit;               /* all buffers, free ones included */
  size_t bytes_out;                  /* borrowed now */
  struct iobuf_home home[IOBUF_CLASSES];
};

void iobufs_init(struct iobufs *pool, size_t limit);
void iobufs_fini(struct iobufs *pool);
/* iobuf_take gives an empty buffer of at least room bytes (at most IOBUF_MAX), or NULL at the
 * limit; idle buffers of other classes make way for it. */
MUST_USE struct iobuf *iobuf_take(struct iobufs *pool, size_t room);
void iobuf_give(struct iobufs *pool, struct iobuf *buf);
void iobufs_trim(struct iobufs *pool);

#endif
