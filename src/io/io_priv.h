/* io_priv.h: what the files of io/ share: the halves of a conn (conn.c its life, conn_read.c and
 * conn_bulk.c what comes, conn_write.c what goes) and the relay's ears. Not for other layers. */
#ifndef WEIR_IO_IO_PRIV_H
#define WEIR_IO_IO_PRIV_H

#include "weir/base/check.h"
#include "weir/io/conn.h"
#include "weir/io/loop_ops.h"
#include "weir/io/pressure.h"
#include "weir/io/relay.h"

/* RX_BULK_BYTES is what one bulk read takes at most. */
#define RX_BULK_BYTES 65536u
/* CONN_PENDING_MAX bounds what an owner may queue. */
#define CONN_PENDING_MAX (256u * 1024u)
/* CONN_LINGER_MAX bounds what a gently closed conn reads and drops of a peer that goes on. */
#define CONN_LINGER_MAX (256u * 1024u)

#define OP_BIT(op) ((uint16_t)(1u << (op)))

static inline bool conn_any(const struct conn *c, uint32_t flags) {
  return (c->flags & flags) != 0;
}
static inline bool conn_busy(const struct conn *c, enum op op) {
  return (c->inflight & OP_BIT(op)) != 0;
}
static inline size_t iobuf_rest(const struct iobuf *b) { return b ? b->data.len - b->off : 0; }

/* carried_ops stand in for the loop's where a conn is a stream of another one. */
extern const struct loop_ops carried_ops;
static inline const struct loop_ops *conn_ops(const struct conn *c) {
  return conn_any(c, CONN_CARRIED) ? &carried_ops : c->loop->ops;
}

/* conn.c */
struct conn *conn_new(struct loop *loop, int fd);
/* conn_mark queues c for the end of this turn; conn_mark_later for its place in the share of one
 * that comes (loop.later), which then does not wait: relay_in runs, and on_flush. */
void conn_mark(struct conn *c);
void conn_mark_later(struct conn *c);
/* conn_warm asks for the memory that a completion of a conn will need, by steps (conn_events.warm
 * has those from 2 on). */
void conn_warm(const struct loop *loop, uint32_t slot, uint32_t generation, enum op op,
               unsigned step);
/* conn_run does what a queued conn waits for. */
void conn_run(struct conn *c);
/* conn_finalize cancels and closes; the owner is gone already. */
void conn_finalize(struct conn *c);
/* conn_bury frees a conn of loop->dead. */
void conn_bury(struct conn *c);
/* conn_abandon closes a live conn without the loop's help, when the loop itself ends. */
void conn_abandon(struct conn *c);
/* conn_cancel cancels op if it is in flight. */
void conn_cancel(struct conn *c, enum op op);
void conn_give(struct conn *c, struct iobuf **slot);
/* conn_unacked, a system call: bytes that the kernel has and the peer's does not: a reset would
 * take them back. */
size_t conn_unacked(struct conn *c);

/* conn_carried.c: the owner took n bytes; c is closed. */
void carried_read(struct conn *c, size_t n);
void carried_free(struct conn *c);

/* conn_listen.c */
void listen_accepted(struct conn *listener, const struct completion *done);
void listen_timer(struct conn *listener);

/* conn_read.c, conn_bulk.c */
/* rx_arm arms a receive or poll if one is wanted and none is armed. */
void rx_arm(struct conn *c);
void rx_recv_done(struct conn *c, const struct completion *done);
void rx_poll_done(struct conn *c);
/* rx_hup_arm polls for a broken connection, where nothing else would tell of it. */
void rx_hup_arm(struct conn *c);
void rx_hup_done(struct conn *c, int32_t events);
/* rx_park_held makes a conn wait whose bytes found no iobuf to be passed on in; they are (or
 * become) held. False: it would not help. */
MUST_USE bool rx_park_held(struct conn *c);
/* rx_resume goes on with a parked conn, which has its turn. */
void rx_resume(struct conn *c);
/* rx_run gives held bytes to an owner that reads (end of turn). */
void rx_run(struct conn *c);
/* rx_bulk_read reads what is there into borrowed buffers; bounded. */
void rx_bulk_read(struct conn *c);
/* rx_unarm cancels the receive in flight. */
void rx_unarm(struct conn *c);
void rx_eof(struct conn *c);
/* rx_coded: c holds wire bytes of before its end that its transport has yet to decode. */
bool rx_coded(const struct conn *c);
/* rx_bytes passes bytes up, and holds what is not taken. */
void rx_bytes(struct conn *c, struct span bytes);
void rx_fail(struct conn *c, int err);

/* conn_write.c */
void tx_run(struct conn *c);
void tx_send_done(struct conn *c, int32_t res);
void tx_poll_done(struct conn *c);
void tx_fail(struct conn *c, int err);
/* tx_unwatched: nothing that c, its relay or who waits for a buffer will do next waits for the end
 * of the send in flight. */
bool tx_unwatched(const struct conn *c);
/* tx_last_words sends of what is queued as much as goes at once: c is about to be reset. */
void tx_last_words(struct conn *c);
/* tx_take_buffer queues a full buffer whole, without a copy: false when it does not fit in. */
bool tx_take_buffer(struct conn *c, struct iobuf *b);

/* relay.c */
size_t relay_on_data(struct relay *r, struct span bytes);
bool relay_on_buffer(struct relay *r, struct iobuf *b);
void relay_on_eof(struct relay *r);
void relay_on_error(struct relay *r, const struct conn *whose, int err);
void relay_on_drained(struct relay *r);
/* relay_on_broken: a poll told that c is broken. relay_watches: the timer of c is a relay's, and
 * relay_on_timer takes it. */
void relay_on_broken(struct conn *c);
bool relay_watches(const struct conn *c);
void relay_on_timer(struct conn *c);
/* relay_run goes on after the end of a turn, a poll, or the end of src's receive. */
void relay_run(struct relay *r);
/* relay_end tells the owner; r is its own again. */
void relay_end(struct relay *r, enum relay_end why, int err);
/* relay_reads_on: r copies as it comes and waits for src alone. */
bool relay_reads_on(const struct relay *r);
/* relay_wait_src and relay_wait_dst note whom it waits for. */
void relay_wait_src(struct relay *r);
void relay_wait_dst(struct relay *r);
void relay_note_moved(struct relay *r, size_t n);
/* relay_go_copy leaves splicing for the copy path. */
void relay_go_copy(struct relay *r, bool bulk);

/* relay_splice.c */
void relay_splice_start(struct relay *r);
void relay_splice_run(struct relay *r);
void relay_splice_leave(struct relay *r);
/* relay_splice_block switches O_NONBLOCK off unless a relay needs it. */
void relay_splice_block(struct conn *c);

/* pipe_pool.c. PIPE_BYTES is what is asked for; a pipe of less than PIPE_BYTES_MIN is no use. */
#define PIPE_BYTES (256 * 1024)
#define PIPE_BYTES_MIN (64 * 1024)
void pipe_pool_init(struct loop *loop);
void pipe_pool_fini(struct loop *loop);
void pipe_pool_trim(struct loop *loop);
/* pipe_take gives an empty pipe of cap bytes; false: none to be had, copy. */
bool pipe_take(struct loop *loop, struct relay *r);
/* pipe_give takes it back; a pipe with bytes in it is closed. */
void pipe_give(struct loop *loop, struct relay *r);

#endif
