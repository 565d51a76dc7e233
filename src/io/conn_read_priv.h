/* conn_read_priv.h: what the two files of a conn's receiving half share: conn_read.c and, for
 * large bodies, conn_bulk.c. */
#ifndef WEIR_IO_CONN_READ_PRIV_H
#define WEIR_IO_CONN_READ_PRIV_H

#include "io/io_priv.h"

/* rx_bulk_waits tells whether a bulk read has to queue for its buffer. */
static inline bool rx_bulk_waits(const struct loop *loop) {
  return iobufs_full(&loop->iobufs) || !list_empty(&loop->parked);
}
/* rx_wants_bulk tells whether what comes is to be read in bulk. */
static inline bool rx_wants_bulk(const struct conn *c) {
  if (conn_any(c, CONN_CARRIES) && rx_bulk_waits(c->loop)) return false;
  return (c->flags & (CONN_BULK | CONN_READING)) == (CONN_BULK | CONN_READING) && c->rx == NULL;
}

/* rx_wanted tells whether a receive should be armed now. */
bool rx_wanted(const struct conn *c);
/* rx_note_size counts small messages in a mode for large ones, and full buffers in multishot mode.
 */
void rx_note_size(struct conn *c, int32_t size);
/* rx_buffer passes up what b has; c, which holds nothing, holds what is not taken. */
void rx_buffer(struct conn *c, struct iobuf *b);
/* rx_bulk_come: what is to be read in bulk has come. */
void rx_bulk_come(struct conn *c);

#endif
