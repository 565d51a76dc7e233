/* op_priv.h: what the files that see liburing share: setting a ring up (op_setup.c), its provided
 * buffers (op_buffers.c), datagrams (op_udp.c). */
#ifndef WEIR_IO_OP_PRIV_H
#define WEIR_IO_OP_PRIV_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/udp_priv.h"
#include "weir/base/buf.h"

/* ring_open sets up a ring of `entries` submissions for the calling thread: 0, or -errno with the
 * cause and its remedy in why. */
MUST_USE int ring_open(struct io_uring *ring, uint32_t entries, struct buf *why);

/* ring_buffers are the provided buffers of a ring: ids 0 to total-1 are in use, in one mapping. */
struct ring_buffers {
  struct io_uring *ring;
  struct io_uring_buf_ring *shared; /* with the kernel */
  char *base;
  uint32_t bytes, stride; /* of one buffer; the stride colours the cache */
  uint32_t first, max;
  uint32_t total, target; /* target < total: those above it retire as they come back */
  uint32_t retired_count;
  uint16_t *retired;
  uint32_t added;          /* returned since the last commit */
  uint32_t used, used_max; /* in this turn; most in one turn since the last trim */
};

/* buffers_init maps and registers: 0 or -errno. */
MUST_USE int buffers_init(struct ring_buffers *b, struct io_uring *ring, uint32_t first,
                          uint32_t max, uint32_t bytes);
void buffers_fini(struct ring_buffers *b);
static inline char *buffers_at(const struct ring_buffers *b, uint16_t id) {
  return b->base + (size_t)id * b->stride;
}
/* buffers_put returns one; the kernel sees it after buffers_commit. */
void buffers_put(struct ring_buffers *b, uint16_t id);
void buffers_commit(struct ring_buffers *b);
/* buffers_grow doubles their number: false at the maximum. */
bool buffers_grow(struct ring_buffers *b);
/* buffers_trim halves it when a quarter would have been enough since the last call, and starts
 * anew when none was used. Call between turns or from a timer: no buffer may be out. */
void buffers_trim(struct ring_buffers *b);

/* ---- datagrams ---- */

/* Names of their completions, apart from enum op. */
enum ring_udp_op { RING_UDP_RECV = 0x80, RING_UDP_SEND, RING_UDP_CANCEL, RING_UDP_CLOSE };
#define RING_UDP_OPS 0x80u

struct ring_udp; /* op_udp.c; NULL before the first socket */
extern const struct udp_ops ring_udp_ops;
void ring_udp_handle(struct loop *loop, const struct io_uring_cqe *cqe);
void ring_udp_trim(struct loop *loop);
void ring_udp_free(struct loop *loop);

/* loop_uring.c */
struct io_uring_sqe *ring_sqe(struct loop *loop);
void ring_submit(struct loop *loop);
struct io_uring *ring_of(struct loop *loop);
struct ring_udp **ring_udp_of(struct loop *loop);

#endif
