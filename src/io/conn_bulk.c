/* conn_bulk.c: bulk reads of a conn: a poll, then reads into a borrowed buffer until the socket is
 * empty, so that a conn that waits holds no buffer.
 *
 * When the part of the iobufs that is for bodies is borrowed (iobufs_full), a bulk read whose
 * bytes have come is parked: the bytes stay in the socket, the conn waits in loop->parked for its
 * turn, and only a poll for a broken connection is armed. An end behind unread bytes is told after
 * them. A conn that carries others never waits for a buffer: what it would read may be what lets
 * buffers go. Called by conn_read.c, relays and the loop. */
#include <errno.h>

#include "io/conn_read_priv.h"

/* BULK_READS bounds the reads of one wakeup. */
#define BULK_READS 4u
/* PARK_PROBE_BYTES is read where only an end is expected. */
#define PARK_PROBE_BYTES 4096u

/* queue_up puts c last among those that wait for an iobuf; its bytes have come. */
static void queue_up(struct conn *c) {
  struct loop *loop = c->loop;
  list_remove(&c->starved_link);
  c->flags &= ~(uint32_t)CONN_STARVED;
  c->flags |= CONN_PARKED;
  list_push_tail(&loop->parked, &c->starved_link);
  loop_stat_add(&loop->stats.memory_waits, 1);
  rx_hup_arm(c);
}

/* bulk_one reads once, at most cap bytes: false when the socket has no more, or nobody wants
 * it. */
static bool bulk_one(struct conn *c, size_t cap) {
  struct iobufs *pool = &c->loop->iobufs;
  struct iobuf *b = iobuf_take(pool, cap);
  if (b == NULL) {
    if (pool->bytes_out > 0)
      queue_up(c);
    else
      conn_fail(c, -ENOBUFS);
    return false;
  }
  if (c->relay_in && !c->transport && c->relay_in->left < cap) cap = (size_t)c->relay_in->left;
  ssize_t got = conn_ops(c)->recv_now(c->loop, c, b->data.ptr, cap);
  if (got <= 0) {
    iobuf_give(pool, b);
    if (got == 0)
      rx_eof(c);
    else if (got != -EAGAIN)
      rx_fail(c, (int)got);
    return false;
  }
  b->data.len = (size_t)got;
  if (conn_any(c, CONN_CARRIES)) rx_note_size(c, (int32_t)got);
  if (c->relay_in && !c->transport && relay_on_buffer(c->relay_in, b)) {
    c->bytes_in += (uint64_t)got;
  } else {
    rx_buffer(c, b);
  }
  return (size_t)got == cap;
}

static void bulk_reads(struct conn *c) {
  for (unsigned i = 0; i < BULK_READS && rx_wants_bulk(c) && rx_wanted(c); i++)
    if ((i > 0 && rx_bulk_waits(c->loop)) || !bulk_one(c, RX_BULK_BYTES)) break;
  rx_arm(c);
}

void rx_bulk_read(struct conn *c) {
  if (c->inflight & (OP_BIT(OP_RECV) | OP_BIT(OP_POLL_IN))) return;
  if (rx_bulk_waits(c->loop))
    rx_arm(c); /* who has nothing to read does not queue */
  else
    bulk_reads(c);
}

/* park makes a bulk read wait whose bytes have come; an end without bytes is told at once. */
static void park(struct conn *c) {
  if (conn_any(c, CONN_PARKED) || conn_busy(c, OP_RECV) || !rx_wanted(c)) return;
  if (conn_ops(c)->unread(c->loop, c) > 0)
    queue_up(c);
  else
    (void)bulk_one(c, PARK_PROBE_BYTES);
}

void rx_bulk_come(struct conn *c) {
  if (rx_bulk_waits(c->loop)) park(c);
  else rx_bulk_read(c);
}

bool rx_park_held(struct conn *c) {
  if (!iobufs_full(&c->loop->iobufs)) return false;
  if (!conn_any(c, CONN_PARKED)) queue_up(c);
  return true;
}

void rx_resume(struct conn *c) {
  c->flags &= ~(uint32_t)CONN_PARKED;
  if (c->relay_in && conn_held(c) > 0)
    conn_read_start(c);
  else if ((c->inflight & (OP_BIT(OP_RECV) | OP_BIT(OP_POLL_IN))) == 0)
    bulk_reads(c);
}
