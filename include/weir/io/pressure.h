/* pressure.h: who stops taking iobufs at which level. Under pressure three kinds of users stop at
 * three levels, so that those who wait always wait for somebody who does not: bytes that nobody
 * reads yet are held up to half of the limit, bodies are read up to three quarters (iobufs_full),
 * heads, records and small messages have all. One thread. */
#ifndef WEIR_IO_PRESSURE_H
#define WEIR_IO_PRESSURE_H

#include "weir/io/iobuf.h"

/* IOBUF_RESERVE_MIN is kept free of bodies at least: one more bulk read finds its buffer. */
#define IOBUF_RESERVE_MIN (72u * 1024u)

/* iobufs_half tells whether half of the limit is borrowed: what can wait in its socket does. */
static inline bool iobufs_half(const struct iobufs *pool) {
  return pool->bytes_out > pool->limit / 2;
}
/* iobufs_full tells whether the part for bodies is borrowed: bulk reads wait until some comes
 * back. Never while nothing is borrowed, for then nothing can. */
static inline bool iobufs_full(const struct iobufs *pool) {
  size_t quarter = pool->limit / 4;
  size_t reserve = quarter > IOBUF_RESERVE_MIN ? quarter : IOBUF_RESERVE_MIN;
  return pool->bytes_out != 0 && pool->bytes_out + reserve > pool->limit;
}

#endif
