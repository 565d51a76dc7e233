/* conn_read.c: the receiving half of a conn. Bytes of a provided buffer go straight up; what
 * nobody takes is copied into a borrowed buffer (rx: wire bytes, plain: plaintext behind a
 * transport), so provided buffers are back in the ring when their completion returns.
 *
 * Which receive is armed: multishot into provided buffers for messages; single-shot on conns that
 * carry large bodies (CONN_SINGLE), so that the head comes and the body stays in the socket to be
 * spliced; for bulk a poll (conn_bulk.c). A conn that carries others goes to bulk and back by what
 * comes. Stopping is lazy: the armed receive goes on and its bytes are held until they pass
 * CONN_HELD_MAX, or at once when half of the iobufs are borrowed.
 *
 * After a failed send (CONN_SENT_DEAD) the socket may still hold what the peer said before it
 * died: receiving goes on, and the send's error is told where the EOF or reset would have been. */
#include <errno.h>
#include <poll.h>

#include "io/conn_read_priv.h"

/* SMALL_READS messages below FULL_BYTES in a row return a conn to multishot, FULL_READS others
 * take it away. */
#define SMALL_READS 8u
#define FULL_READS 3u
#define FULL_BYTES 4096

bool conn_wants(const struct conn *c) {
  return conn_any(c, CONN_READING) || c->held_bytes < CONN_HELD_MAX;
}

/* held_max is how much may be held for an owner that does not read. */
static uint32_t held_max(const struct conn *c) {
  return iobufs_half(&c->loop->iobufs) && !conn_any(c, CONN_SENT_DEAD) ? 1 : CONN_HELD_MAX;
}

/* drops tells whether a lingering conn reads: up to its bound, and once more when the peer ended:
 * what is left is no more than its socket holds. */
static bool drops(const struct conn *c) {
  return c->held_bytes <= CONN_LINGER_MAX || conn_any(c, CONN_PEER_DONE);
}

bool rx_wanted(const struct conn *c) {
  if (conn_any(c, CONN_WIRE_EOF | CONN_GONE)) return false;
  /* Also of one that failed: an alert is on its way. */
  if (conn_any(c, CONN_LINGER)) return drops(c);
  if (conn_any(c, CONN_FAILED)) return false;
  if (!conn_any(c, CONN_OPEN)) return c->transport != NULL && !conn_busy(c, OP_CONNECT);
  if (conn_any(c, CONN_READING)) return !conn_any(c, CONN_SPLICING);
  if (conn_any(c, CONN_WATCHED | CONN_SENT_DEAD)) return c->held_bytes < held_max(c);
  return false;
}

/* is_watched: and no body comes there: that of one that was reset goes on behind what is held. */
static bool is_watched(const struct conn *c) {
  return (c->flags & (CONN_WATCHED | CONN_BULK)) == CONN_WATCHED && !c->relay_in;
}

/* is_full: so much is held of a watched one that nothing more is read: a poll hears of a reset. */
static bool is_full(const struct conn *c) {
  return is_watched(c) && c->held_bytes >= held_max(c);
}

static uint32_t turn_of(const struct conn *c) {
  return (uint32_t)loop_stat_get(&c->loop->stats.turns);
}

/* unpark takes c out of the queue for iobufs. */
static void unpark(struct conn *c) {
  list_remove(&c->starved_link);
  c->flags &= ~(uint32_t)CONN_PARKED;
}

void rx_arm(struct conn *c) {
  if (conn_any(c, CONN_CARRIED)) return; /* its carrier's bytes come without being asked for */
  if (c->inflight & (OP_BIT(OP_RECV) | OP_BIT(OP_POLL_IN))) return;
  if (conn_any(c, CONN_STARVED | CONN_REREAD) || !rx_wanted(c)) return; /* rx_run arms after it */
  if (rx_wants_bulk(c)) {
    if (!conn_any(c, CONN_PARKED)) conn_ops(c)->poll(c->loop, c, OP_POLL_IN);
    return;
  }
  if (conn_any(c, CONN_PARKED)) unpark(c); /* it reads messages now */
  if (conn_any(c, CONN_NONBLOCK)) relay_splice_block(c);
  /* Under pressure one buffer at a time: a multishot may bring more than anybody takes. */
  bool multishot = !conn_any(c, CONN_SINGLE) && !iobufs_half(&c->loop->iobufs);
  c->armed_turn = turn_of(c);
  conn_ops(c)->recv(c->loop, c, multishot);
}

void rx_unarm(struct conn *c) {
  if (!conn_busy(c, OP_RECV) || conn_any(c, CONN_UNARMING)) return;
  c->flags |= CONN_UNARMING;
  conn_cancel(c, OP_RECV);
}

static void count_held(struct conn *c) {
  size_t n = 0;
  for (const struct iobuf *b = c->transport ? c->plain : c->rx; b; b = b->next) n += iobuf_rest(b);
  c->held_bytes = (uint32_t)n;
}

/* widen moves what b holds into a larger buffer; NULL: none left. */
static struct iobuf *widen(struct iobufs *pool, struct iobuf *b, size_t more) {
  struct iobuf *bigger = iobuf_take(pool, iobuf_rest(b) + more);
  if (bigger == NULL || b == NULL) return bigger;
  buf_put(&bigger->data, span_from(buf_span(&b->data), b->off));
  iobuf_give(pool, b);
  return bigger;
}

/* hold keeps bytes behind those that *slot has: in one piece as long as that fits the largest
 * buffer, then in a chain (a multishot receive may have run ahead by megabytes). */
static void hold(struct conn *c, struct iobuf **slot, struct span bytes) {
  while (*slot && (*slot)->next) slot = &(*slot)->next;
  struct iobuf *b = *slot;
  if (b == NULL || buf_room(&b->data) < bytes.len) {
    bool chain = iobuf_rest(b) + bytes.len > IOBUF_MAX;
    struct iobuf *bigger = widen(&c->loop->iobufs, chain ? NULL : b, bytes.len);
    if (bigger == NULL) {
      conn_fail(c, -ENOBUFS);
      return;
    }
    if (chain)
      b->next = bigger;
    else
      *slot = bigger;
    b = bigger;
  }
  buf_put(&b->data, bytes);
  check(!b->data.full);
  count_held(c);
}

static void reread(struct conn *c) {
  c->flags |= CONN_REREAD;
  conn_mark(c);
}

/* take gives plaintext to whoever reads; how much of it was consumed. */
static size_t take(struct conn *c, struct span bytes) {
  if (!conn_any(c, CONN_READING)) return 0;
  c->flags &= ~(uint32_t)CONN_AGAIN;
  size_t n = c->relay_in ? relay_on_data(c->relay_in, bytes) : c->events->on_data(c, bytes);
  check(n <= bytes.len);
  if (conn_any(c, CONN_CLOSING)) return bytes.len;
  c->bytes_in += n;
  if (conn_any(c, CONN_CARRIED)) carried_read(c, n);
  if (n == bytes.len) return n;
  if (!conn_any(c, CONN_AGAIN))
    c->flags &= ~(uint32_t)CONN_READING;
  else if (n > 0)
    reread(c);
  return n;
}

/* pass_up gives wire bytes to the transport or the owner; how much of them was consumed. */
static size_t pass_up(struct conn *c, struct span bytes) {
  if (c->transport == NULL) return take(c, bytes);
  size_t n = c->transport->wire_in(c, bytes);
  check(n <= bytes.len);
  return conn_any(c, CONN_CLOSING) ? bytes.len : n;
}

size_t conn_pass(struct conn *c, struct span wire) {
  check(c->transport != NULL);
  return wire.len ? pass_up(c, wire) : 0;
}

void conn_deliver(struct conn *c, struct span plain) {
  if (conn_any(c, CONN_CLOSING) || plain.len == 0) return;
  if (c->plain) {
    hold(c, &c->plain, plain);
    if (conn_any(c, CONN_READING)) reread(c);
    return;
  }
  size_t n = take(c, plain);
  if (n < plain.len && !conn_any(c, CONN_CLOSING)) hold(c, &c->plain, span_from(plain, n));
}

/* drain_one gives the first buffer of *slot to `up`; true: all of it was consumed. The buffer is
 * detached meanwhile: the owner may close the conn while it looks at the bytes. */
static bool drain_one(struct conn *c, struct iobuf **slot,
                      size_t (*up)(struct conn *c, struct span bytes)) {
  struct iobuf *b = *slot;
  *slot = b->next;
  b->next = NULL;
  count_held(c);
  size_t n = up(c, span_from(buf_span(&b->data), b->off));
  b->off += (uint32_t)n;
  if (iobuf_rest(b) == 0 || conn_any(c, CONN_CLOSING)) {
    iobuf_give(&c->loop->iobufs, b);
    return true;
  }
  b->next = *slot;
  *slot = b;
  count_held(c);
  return false;
}

/* drain_slot gives what *slot holds to `up` as long as it is taken. */
static void drain_slot(struct conn *c, struct iobuf **slot,
                       size_t (*up)(struct conn *c, struct span bytes)) {
  while (*slot && conn_any(c, CONN_READING) && drain_one(c, slot, up)) {
  }
}

/* run_transport: plaintext that is held goes first, then what the library has, then held wire. */
static void run_transport(struct conn *c) {
  if (c->plain) drain_slot(c, &c->plain, take);
  if (c->plain || !conn_any(c, CONN_READING)) return;
  c->transport->resume(c);
  if (c->rx && !c->plain && conn_any(c, CONN_READING)) drain_slot(c, &c->rx, pass_up);
}

static void give_held(struct conn *c) {
  c->flags &= ~(uint32_t)CONN_REREAD;
  if (!conn_any(c, CONN_READING)) return;
  if (c->transport)
    run_transport(c);
  else if (c->rx)
    drain_slot(c, &c->rx, take);
}

bool rx_coded(const struct conn *c) {
  if (!c->transport || conn_any(c, CONN_PEER_DONE)) return false;
  return c->rx != NULL || (c->transport->holds && c->transport->holds(c));
}

/* tell_end tells an end that was put off: by held ciphertext, or because a relay had it. */
static void tell_end(struct conn *c) {
  if (conn_any(c, CONN_CLOSING)) return;
  if (conn_any(c, CONN_FAILED)) {
    /* What was held may have been all (relay_on_data). */
    if (c->transport && c->relay_in && relay_lasts(c->relay_in)) relay_run(c->relay_in);
    return;
  }
  if (conn_any(c, CONN_PEER_DONE))
    conn_peer_done(c);
  else if (c->transport && conn_any(c, CONN_WIRE_EOF) && c->rx == NULL)
    c->transport->wire_eof(c);
}

void rx_run(struct conn *c) {
  give_held(c);
  tell_end(c);
  rx_arm(c);
}

/* drop counts what a lingering conn reads for nothing. Beyond its bound the socket fills up, which
 * stops the peer's writer and does not fail it before it has read our last words: a close would,
 * by a reset (RFC 9112 section 9.6). A poll hears the peer's end; else the linger time ends it. */
static void drop(struct conn *c, size_t len) {
  c->held_bytes += (uint32_t)len;
  if (drops(c)) return;
  if (conn_any(c, CONN_CARRIED)) {
    conn_finalize(c);
    return;
  }
  rx_unarm(c);
  if (!conn_busy(c, OP_POLL_HUP)) conn_ops(c)->poll(c->loop, c, OP_POLL_HUP);
}

/* settle_held acts on bytes that were held anew. */
static void settle_held(struct conn *c) {
  if (conn_any(c, CONN_READING | CONN_CLOSING)) return;
  if (c->held_bytes + (c->transport ? iobuf_rest(c->rx) : 0) < held_max(c)) return;
  bool lasts = c->relay_in && relay_watches(c); /* it says how long it waits for dst */
  if (conn_any(c, CONN_SENT_DEAD) && !lasts && !c->events->on_broken)
    rx_fail(c, c->send_err);
  else
    rx_unarm(c);
  if (is_full(c)) rx_hup_arm(c);
}

void rx_buffer(struct conn *c, struct iobuf *b) {
  c->rx = b;
  (void)drain_one(c, &c->rx, pass_up);
  settle_held(c);
}

void rx_bytes(struct conn *c, struct span bytes) {
  if (__builtin_expect(conn_any(c, CONN_CLOSING | CONN_FAILED), 0)) {
    if (conn_any(c, CONN_CLOSING)) drop(c, bytes.len);
    return;
  }
  if (__builtin_expect(c->rx != NULL, 0)) {
    hold(c, &c->rx, bytes);
    if (conn_any(c, CONN_READING) && !conn_any(c, CONN_FAILED)) rx_run(c);
    settle_held(c);
    return;
  }
  size_t n = pass_up(c, bytes);
  if (__builtin_expect(n == bytes.len, 1)) {
    if (c->plain) settle_held(c);
    return;
  }
  hold(c, &c->rx, span_from(bytes, n));
  settle_held(c);
}

void rx_note_size(struct conn *c, int32_t size) {
  uint32_t large = conn_any(c, CONN_CARRIES) ? CONN_BULK : CONN_SINGLE;
  bool is_large = conn_any(c, large);
  if (conn_any(c, CONN_CLOSING)) return;
  if ((size >= FULL_BYTES) == is_large) {
    c->size_streak = 0;
    return;
  }
  if (++c->size_streak < (is_large ? SMALL_READS : FULL_READS)) return;
  c->size_streak = 0;
  c->flags ^= large;
  if (!is_large) rx_unarm(c);
}

void rx_eof(struct conn *c) {
  if (conn_any(c, CONN_SENT_DEAD)) {
    rx_fail(c, c->send_err);
    return;
  }
  c->flags |= CONN_WIRE_EOF;
  if (conn_any(c, CONN_LINGER)) {
    /* A carried one that has not told its end is cut by that: finished() comes in this turn. */
    bool told = !conn_any(c, CONN_CARRIED) || conn_any(c, CONN_FIN_SENT);
    if (conn_pending(c) == 0 && told) conn_finalize(c);
    return;
  }
  if (conn_any(c, CONN_REREAD)) give_held(c);
  if (c->transport == NULL) c->flags |= CONN_PEER_DONE;
  tell_end(c);
}

void rx_fail(struct conn *c, int err) {
  c->flags |= CONN_WIRE_EOF;
  if (conn_any(c, CONN_CLOSING)) {
    conn_finalize(c);
    return;
  }
  if (conn_any(c, CONN_REREAD)) give_held(c);
  if (conn_any(c, CONN_CLOSING)) conn_finalize(c); /* by what was held: nobody is there to hear */
  else conn_fail(c, conn_any(c, CONN_SENT_DEAD) ? c->send_err : err);
}

/* socket_quiet asks for a byte. One that carries others goes on when there is one: it is kept, and
 * where a receive is armed, whose bytes may come before, it is not asked for. */
static bool socket_quiet(struct conn *c) {
  char byte;
  bool carries = conn_any(c, CONN_CARRIES);
  if (carries && conn_busy(c, OP_RECV)) return false;
  ssize_t got = conn_ops(c)->recv_now(c->loop, c, &byte, 1);
  if (carries && got == 1) {
    hold(c, &c->rx, span_of(&byte, 1));
    reread(c);
  }
  return got == -EAGAIN;
}

/* starve parks the receive, or finds it more buffers. On a conn that was taken for a new message
 * what waits there is not its answer, and must not be read as one later. */
static void starve(struct conn *c) {
  struct loop *loop = c->loop;
  loop_stat_add(&loop->stats.enobufs, 1);
  if (conn_unsent(c) && conn_pending(c) > 0 && !socket_quiet(c)) {
    conn_fail(c, -ECONNRESET);
    return;
  }
  /* One conn in bulk is no reason to have more buffers for all. */
  bool bulky = conn_any(c, CONN_SINGLE) || c->size_streak > 0;
  if (!rx_wanted(c) || (!bulky && loop->ops->buffers_grow(loop))) return;
  loop_stat_add(&loop->stats.parked, 1);
  c->flags |= CONN_STARVED;
  list_push_tail(&loop->starved, &c->starved_link);
}

static void recv_trouble(struct conn *c, int err) {
  if (err == -ENOBUFS)
    starve(c);
  else if (err == -EAGAIN && rx_wanted(c) && !conn_busy(c, OP_POLL_IN))
    conn_ops(c)->poll(c->loop, c, OP_POLL_IN); /* O_NONBLOCK is on: the ring does not wait */
  else if (err != -ECANCELED && err != -EINTR && err != -EAGAIN)
    rx_fail(c, err);
}

void rx_recv_done(struct conn *c, const struct completion *done) {
  if (!done->more) c->flags &= ~(uint32_t)CONN_UNARMING;
  if (done->res > 0) {
    rx_note_size(c, done->res);
    rx_bytes(c, span_of(done->data, (size_t)done->res));
  } else if (done->res == 0) {
    rx_eof(c);
  } else {
    recv_trouble(c, done->res);
  }
  if (done->more) return;
  if (conn_any(c, CONN_SPLICING) && c->relay_in) relay_run(c->relay_in);
  rx_arm(c);
}

void rx_hup_arm(struct conn *c) {
  if (!conn_busy(c, OP_POLL_HUP) && !conn_any(c, CONN_FAILED | CONN_GONE))
    conn_ops(c)->poll(c->loop, c, OP_POLL_HUP);
}

void rx_poll_done(struct conn *c) {
  if (conn_any(c, CONN_SPLICING) && c->relay_in)
    relay_run(c->relay_in);
  else if (rx_wants_bulk(c))
    rx_bulk_come(c);
  rx_arm(c);
}

/* linger_hup takes the end of the peer of a lingering conn. */
static void linger_hup(struct conn *c, uint32_t events) {
  if (events & POLLERR) {
    conn_finalize(c);
    return;
  }
  c->flags |= CONN_PEER_DONE;
  rx_arm(c);
}

/* broken_full: of a watched one that is full, or has ended, no receive would tell. */
static void broken_full(struct conn *c) {
  bool unread = !conn_any(c, CONN_WIRE_EOF);
  if (unread && c->events->on_broken) c->events->on_broken(c);
  else rx_fail(c, -ECONNRESET);
}

/* rx_hup_done: a broken connection fails at once when what it left cannot be the whole; else its
 * bytes have their turn first, and an end is told behind them. */
void rx_hup_done(struct conn *c, int32_t events) {
  struct loop *loop = c->loop;
  if (events >= 0 && conn_any(c, CONN_LINGER)) {
    linger_hup(c, (uint32_t)events);
    return;
  }
  if (events < 0 || (events & POLLERR) == 0) return;
  if (is_full(c) || (is_watched(c) && !conn_busy(c, OP_RECV))) {
    broken_full(c);
    return;
  }
  if (!conn_any(c, CONN_PARKED)) {
    relay_on_broken(c);
    return;
  }
  uint64_t came = conn_held(c) + conn_ops(c)->unread(loop, c);
  if (c->relay_in && !c->transport && c->relay_in->left > came)
    rx_fail(c, -ECONNRESET);
}

void conn_read_start(struct conn *c) {
  if (conn_any(c, CONN_CLOSING)) return;
  bool before = conn_any(c, CONN_READING);
  c->flags |= CONN_READING | CONN_AGAIN;
  if (c->rx || c->plain || (c->transport && !before)) reread(c);
  rx_arm(c);
}

size_t conn_pull(struct conn *src, struct conn *dst, size_t want) {
  if (src->transport || src->rx || conn_any(src, CONN_WIRE_EOF | CONN_CLOSING)) return 0;
  if (src->inflight & (OP_BIT(OP_RECV) | OP_BIT(OP_POLL_IN))) return 0;
  struct loop *loop = src->loop;
  /* Bodies leave the last buffers to heads; and an error is for the receive that can tell it. */
  if (iobufs_full(&loop->iobufs) || conn_ops(src)->unread(loop, src) == 0) return 0;
  struct buf *out = conn_out(dst, want);
  if (out == NULL) return 0;
  ssize_t got = conn_ops(src)->recv_now(loop, src, out->ptr + out->len, want);
  if (got > 0) {
    out->len += (size_t)got;
    src->bytes_in += (uint64_t)got;
  }
  conn_flush(dst);
  return got > 0 ? (size_t)got : 0;
}

bool conn_quiet(struct conn *c) {
  if (c->rx || c->plain || conn_any(c, CONN_WIRE_EOF | CONN_EOF | CONN_FAILED)) return false;
  bool told = conn_busy(c, OP_RECV) && !conn_any(c, CONN_UNARMING) && c->armed_turn != turn_of(c);
  if (!told && !socket_quiet(c)) return false;
  c->flags |= CONN_QUIET;
  c->quiet_at = (uint32_t)c->bytes_out;
  return true;
}

bool conn_unsent(const struct conn *c) {
  return conn_any(c, CONN_QUIET) && c->quiet_at == (uint32_t)c->bytes_out;
}

void conn_read_stop(struct conn *c) {
  c->flags &= ~(uint32_t)(CONN_READING | CONN_WATCHED | CONN_AGAIN | CONN_REREAD);
}

/* What an armed receive has told is as old as the last wait: from here on it is asked anew
 * (conn_quiet), or told by a later turn. */
void conn_watch(struct conn *c) {
  if (conn_any(c, CONN_CLOSING)) return;
  c->armed_turn = turn_of(c);
  c->flags &= ~(uint32_t)(CONN_READING | CONN_AGAIN);
  c->flags |= CONN_WATCHED;
  if (conn_any(c, CONN_WIRE_EOF) || is_full(c)) rx_hup_arm(c);
  rx_arm(c);
}

void conn_read_bulk(struct conn *c, bool on) {
  if (conn_any(c, CONN_CARRIED)) return;
  if (on) {
    c->flags |= CONN_BULK;
    rx_unarm(c);
  } else {
    c->flags &= ~(uint32_t)CONN_BULK;
  }
}
