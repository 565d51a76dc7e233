/* op_priv.h: what the files of the loop over a ring (loop_uring.c) share: setting a ring up
 * (op_setup.c), its provided buffers (op_buffers.c), quiet sends (op_quiet.c), datagrams
 * (op_udp.c), plain system calls (op_socket.c). */
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

/* ---- names of completions: slot, generation, op ---- */

static inline uint64_t ring_name(const struct slab_head *of, unsigned op) {
  return ((uint64_t)of->slot << 40) | ((uint64_t)of->generation << 8) | op;
}
static inline uint32_t ring_slot(uint64_t name) { return (uint32_t)(name >> 40); }
static inline uint32_t ring_generation(uint64_t name) { return (uint32_t)(name >> 8); }

/* ---- quiet sends ---- */

/* In a turn with no more to handle than that a send whose completion nobody waits for (SEND_QUIET)
 * posts none: it would end the wait that comes at once, a whole turn for nothing. */
#define QUIET_MAX 2u

struct quiet_send {
  uint64_t name; /* 0: it was told */
  int32_t bytes;
};

/* ring_quiet are those that were given to the ring and not settled. */
struct ring_quiet {
  bool light; /* the turn had little to handle, and handles no more */
  uint8_t count;
  struct quiet_send sends[QUIET_MAX];
};

/* quiet_now: a send that comes now may be quiet. */
static inline bool quiet_now(const struct ring_quiet *q) {
  return q->light && q->count < QUIET_MAX;
}
/* quiet_put makes sqe quiet, a send that is prepared, with MSG_DONTWAIT, and named. */
void quiet_put(struct ring_quiet *q, struct io_uring_sqe *sqe);
/* quiet_may_wait: still nobody waits for a send that will not tell. */
bool quiet_may_wait(const struct ring_quiet *q, const struct loop *loop);
/* quiet_settle tells of them, after a wait and before what has come is handled. */
void quiet_settle(struct ring_quiet *q, struct loop *loop);

/* ---- datagrams ---- */

/* Names of their completions, apart from enum op. */
enum ring_udp_op { RING_UDP_RECV = 0x80, RING_UDP_SEND, RING_UDP_CANCEL, RING_UDP_CLOSE };
#define RING_UDP_OPS 0x80u

struct ring_udp; /* op_udp.c; NULL before the first socket */
extern const struct udp_ops ring_udp_ops;
void ring_udp_handle(struct loop *loop, const struct io_uring_cqe *cqe);
void ring_udp_trim(struct loop *loop);
void ring_udp_free(struct loop *loop);

/* ---- op_socket.c: loop_ops has what each does ---- */
int ring_socket(struct loop *loop, int family);
void ring_listen(struct loop *loop, struct conn *listener, uint32_t defer_s);
int ring_accept_now(struct loop *loop, struct conn *listener);
void ring_deafen(struct loop *loop, struct conn *listener);
ssize_t ring_recv_now(struct loop *loop, struct conn *c, void *into, size_t cap);
size_t ring_unread(struct loop *loop, struct conn *c);
ssize_t ring_send_now(struct loop *loop, struct conn *c, const void *bytes, size_t len);
uint64_t ring_taken(struct loop *loop, struct conn *c);
size_t ring_unacked(struct loop *loop, struct conn *c);
void ring_shutdown(struct loop *loop, struct conn *c, int how);
void ring_close_fd(struct loop *loop, int fd);
void ring_reset(struct loop *loop, struct conn *c);
void ring_keepalive(struct loop *loop, struct conn *c);
bool ring_address(const struct loop *loop, const struct conn *c, bool peer, struct addr *out);
bool ring_address_left(const struct loop *loop, const struct conn *c, struct addr *out);
void ring_nonblock(struct loop *loop, struct conn *c, bool on);
ssize_t ring_splice(struct loop *loop, int from, int to, size_t len);
int ring_pipe(struct loop *loop, int fds[2]);

/* ---- loop_uring.c ---- */
struct io_uring_sqe *ring_sqe(struct loop *loop);
void ring_submit(struct loop *loop);
struct io_uring *ring_of(struct loop *loop);
struct ring_udp **ring_udp_of(struct loop *loop);

#endif
