/* conn_write.c: the sending half of a conn. The owner fills `out`; at the end of the turn it
 * becomes `sending` as it is (plain), or is encrypted into `wire`, which becomes `sending`. One
 * send is in flight per conn; what is queued meanwhile is merged into the next one. The last send
 * before our FIN is corked, so that the FIN travels in its segment instead of one of its own. */
#include <errno.h>

#include "io/io_priv.h"
#include "weir/io/carried.h"

/* WIRE_ROOM bounds what len bytes become on the wire: records of at least 1,300 bytes, each at
 * most 64 bytes longer than its text, and a close_notify (TLS_WIRE_BYTES in tls.h). */
#define WIRE_ROOM(len) ((len) + ((len) / 1300u + 3u) * 64u)

static bool is_empty(const struct iobuf *b) { return b == NULL || b->data.len == 0; }

/* room_in gives *slot with room bytes free, in a larger buffer if need be. */
static struct buf *room_in(struct conn *c, struct iobuf **slot, size_t room) {
  struct iobuf *b = *slot;
  if (__builtin_expect(b != NULL && buf_room(&b->data) >= room, 1)) return &b->data;
  struct iobufs *pool = &c->loop->iobufs;
  if (room > IOBUF_MAX) return NULL;
  struct iobuf *bigger = iobuf_take(pool, room + (b ? b->data.len : 0));
  if (bigger == NULL) return NULL;
  if (b) {
    buf_put(&bigger->data, buf_span(&b->data));
    iobuf_give(pool, b);
  }
  *slot = bigger;
  return &bigger->data;
}

size_t conn_pending(const struct conn *c) {
  size_t n = iobuf_rest(c->sending) + (c->out ? c->out->data.len : 0);
  return n + (c->wire ? c->wire->data.len : 0);
}

struct buf *conn_out(struct conn *c, size_t room) {
  if (conn_any(c, CONN_FIN | CONN_CLOSING)) return NULL;
  if (c->out == NULL && c->sending == NULL && c->wire == NULL) return room_in(c, &c->out, room);
  if (conn_pending(c) + room > CONN_PENDING_MAX) return NULL;
  return room_in(c, &c->out, room);
}

/* will_send: the send is work of this turn from now on, though it comes at its end: who brings
 * more is asked whether the share is over (loop_share_over). */
static void will_send(struct conn *c) {
  if (!conn_any(c, CONN_DIRTY | CONN_CARRIES) && !conn_busy(c, OP_SEND))
    c->loop->due_ns += conn_ops(c)->send_ns;
  conn_mark(c);
}

struct buf *conn_wire(struct conn *c, size_t room) {
  struct buf *b = room_in(c, &c->wire, room);
  if (b) will_send(c);
  return b;
}

void conn_flush(struct conn *c) { will_send(c); }
void conn_flush_later(struct conn *c) { conn_mark_later(c); }

/* encrypt passes what the owner wrote through the transport. */
static void encrypt(struct conn *c) {
  struct iobuf *b = c->out;
  c->out = NULL;
  c->bytes_out += b->data.len;
  c->transport->write(c, buf_span(&b->data));
  iobuf_give(&c->loop->iobufs, b);
}

static bool write_encrypted(struct conn *c, struct span bytes) {
  size_t before = c->out ? c->out->data.len : 0;
  if (conn_wire(c, WIRE_ROOM(before + bytes.len)) == NULL) return false;
  if (before) encrypt(c);
  c->bytes_out += bytes.len;
  c->transport->write(c, bytes);
  return true;
}

bool conn_write(struct conn *c, struct span bytes) {
  if (conn_any(c, CONN_FIN | CONN_CLOSING)) return false;
  if (conn_any(c, CONN_SENT_DEAD | CONN_FAILED)) return true; /* the owner hears of it */
  if (conn_pending(c) + bytes.len > CONN_PENDING_MAX) return false;
  if (c->transport) return write_encrypted(c, bytes);
  struct buf *b = room_in(c, &c->out, bytes.len);
  if (b == NULL) return false;
  buf_put(b, bytes);
  will_send(c);
  return true;
}

bool tx_take_buffer(struct conn *c, struct iobuf *b) {
  if (c->transport || c->out || conn_any(c, CONN_FIN | CONN_SENT_DEAD | CONN_FAILED)) return false;
  c->out = b;
  will_send(c);
  return true;
}

void conn_finish(struct conn *c) {
  if (conn_any(c, CONN_FIN)) return;
  if (c->transport && conn_any(c, CONN_OPEN) && !conn_any(c, CONN_FAILED)) {
    if (!is_empty(c->out)) encrypt(c);
    c->transport->finish(c);
  }
  c->flags |= CONN_FIN;
  conn_mark(c);
}

bool conn_finishing(const struct conn *c) { return conn_any(c, CONN_FIN) && conn_pending(c) > 0; }

bool tx_unwatched(const struct conn *c) {
  if (conn_any(c, CONN_FIN | CONN_CLOSING | CONN_GONE) || !is_empty(c->out) || !is_empty(c->wire))
    return false;
  return c->relay_out && relay_reads_on(c->relay_out) && list_empty(&c->loop->parked);
}

/* again: an attempt came back before, with a part or nothing. */
static void submit(struct conn *c, bool again) {
  struct iobuf *b = c->sending;
  bool last = is_empty(c->out) && is_empty(c->wire);
  unsigned how = last && conn_any(c, CONN_FIN) ? SEND_CORKED : 0;
  if (!again && tx_unwatched(c)) how |= SEND_QUIET;
  conn_ops(c)->send(c->loop, c, b->data.ptr + b->off, iobuf_rest(b), how);
}

/* finished: all is sent and our FIN was asked for. */
static void finished(struct conn *c) {
  bool all = conn_any(c, CONN_LINGER) && conn_any(c, CONN_WIRE_EOF);
  if (all && !conn_any(c, CONN_CARRIED)) {
    conn_finalize(c); /* the close sends the FIN */
    return;
  }
  c->flags |= CONN_FIN_SENT;
  conn_ops(c)->shutdown(c->loop, c, SHUT_WR);
  if (all) {
    conn_finalize(c);
    return;
  }
  if (!conn_any(c, CONN_LINGER)) return;
  timer_stop(&c->loop->wheel, &c->timer);
  timer_set(&c->loop->wheel, &c->timer, c->loop->now_ms + c->linger_ms);
  rx_arm(c);
}

/* next moves what waits into `sending`; false when nothing does. */
static bool next(struct conn *c) {
  struct iobuf **slot = c->transport ? &c->wire : &c->out;
  struct iobuf *b = *slot;
  if (b == NULL) return false;
  *slot = NULL;
  if (b->data.len == 0) {
    iobuf_give(&c->loop->iobufs, b);
    return false;
  }
  c->sending = b;
  if (c->transport == NULL) c->bytes_out += b->data.len;
  return true;
}

void tx_run(struct conn *c) {
  if (conn_any(c, CONN_GONE) || conn_busy(c, OP_CONNECT)) return;
  if (conn_any(c, CONN_SENT_DEAD)) {
    conn_give(c, &c->out);
    conn_give(c, &c->wire);
    return;
  }
  if (c->transport && c->out && conn_any(c, CONN_OPEN)) encrypt(c);
  if (c->inflight & (OP_BIT(OP_SEND) | OP_BIT(OP_POLL_OUT))) return;
  if (c->sending)
    submit(c, true);
  else if (next(c))
    submit(c, false);
  else if (conn_any(c, CONN_FIN) && !conn_any(c, CONN_FIN_SENT))
    finished(c);
}

void tx_last_words(struct conn *c) {
  const struct loop_ops *ops = conn_ops(c);
  if (ops->send_now == NULL || !conn_any(c, CONN_OPEN)) return;
  if (conn_any(c, CONN_SENT_DEAD | CONN_FAILED)) return;
  bool busy = c->inflight & (OP_BIT(OP_SEND) | OP_BIT(OP_POLL_OUT));
  if (busy && !conn_any(c, CONN_CARRIED)) return; /* it takes no more */
  if (c->transport && c->out) encrypt(c);
  while (c->sending || next(c)) { /* each turn sends a buffer, or ends it */
    struct iobuf *b = c->sending;
    size_t rest = iobuf_rest(b);
    if (ops->send_now(c->loop, c, b->data.ptr + b->off, rest) != (ssize_t)rest) return;
    conn_give(c, &c->sending);
  }
}

/* is_read: what comes may still be read: not by a relay that splices to one that is dead, too. */
static bool is_read(const struct conn *c) {
  bool splices = conn_any(c, CONN_SPLICING) && c->relay_in;
  return !(splices && conn_any(c->relay_in->dst, CONN_SENT_DEAD));
}

void tx_fail(struct conn *c, int err) {
  conn_give(c, &c->sending);
  conn_give(c, &c->out);
  conn_give(c, &c->wire);
  if (conn_any(c, CONN_CLOSING)) {
    conn_finalize(c);
    return;
  }
  c->flags |= CONN_SENT_DEAD;
  c->send_err = err;
  bool lasts = c->relay_in && relay_watches(c);
  bool wanted = lasts || conn_any(c, CONN_READING) || c->held_bytes < CONN_HELD_MAX;
  bool more_to_read = (err == -EPIPE || err == -ECONNRESET) && !conn_any(c, CONN_WIRE_EOF) &&
                      is_read(c) && wanted;
  if (!more_to_read) {
    rx_fail(c, err);
    return;
  }
  if (lasts) relay_on_broken(c); /* no poll may tell of it any more */
  rx_arm(c);
}

/* all_sent: nothing is queued any more. */
static void all_sent(struct conn *c) {
  if (conn_any(c, CONN_FIN) && !conn_any(c, CONN_FIN_SENT)) {
    finished(c);
    if (conn_any(c, CONN_CLOSING)) return;
  }
  if (conn_any(c, CONN_CLOSING)) return;
  if (c->relay_out)
    relay_on_drained(c->relay_out);
  else if (c->events->on_drained)
    c->events->on_drained(c);
}

/* wait_to_send: O_NONBLOCK is on and the socket is full. The ring waits when it is off; while a
 * relay needs it, a poll does. */
static void wait_to_send(struct conn *c) {
  relay_splice_block(c);
  if (!conn_any(c, CONN_NONBLOCK))
    submit(c, true);
  else if (!conn_busy(c, OP_POLL_OUT))
    conn_ops(c)->poll(c->loop, c, OP_POLL_OUT);
}

void tx_send_done(struct conn *c, int32_t res) {
  struct iobuf *b = c->sending;
  if (res == -EAGAIN) {
    wait_to_send(c);
    return;
  }
  if (res < 0 && res != -EINTR) {
    tx_fail(c, res);
    return;
  }
  if (res > 0) b->off += (uint32_t)res;
  if (iobuf_rest(b) > 0) {
    submit(c, true);
    return;
  }
  c->sending = NULL;
  iobuf_give(&c->loop->iobufs, b);
  if (is_empty(c->out) && is_empty(c->wire))
    all_sent(c);
  else
    conn_mark(c);
}

void tx_poll_done(struct conn *c) {
  if (c->sending) {
    if (!conn_busy(c, OP_SEND)) submit(c, true);
    return;
  }
  if (c->relay_out)
    relay_run(c->relay_out);
  else
    tx_run(c);
}
