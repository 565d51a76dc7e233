/* conn.c: the life of a conn: made, connected, dispatched to, closed, buried. Reading stands in
 * conn_read.c, writing in conn_write.c, listeners in conn_listen.c. Knows no protocol.
 *
 * Closing: conn_finalize cancels what is in flight, submits the close and sets CONN_GONE; each
 * completion that is still to come clears its bit; after the last one the conn is dead and is
 * freed at the end of the turn, so that no function further up the stack holds a freed pointer. */
#include "weir/io/conn.h"

#include <errno.h>

#include "io/io_priv.h"
#include "weir/base/warm.h"
#include "weir/io/carried.h"

_Static_assert(sizeof(struct conn) <= 256, "a conn fits four cache lines");

/* LINGER_ROUNDS: output that a lingering conn still has may rest for so many linger times. */
#define LINGER_ROUNDS 15u

uint64_t conn_taken(struct conn *c) { return conn_ops(c)->taken(c->loop, c); }
size_t conn_unacked(struct conn *c) { return conn_ops(c)->unacked(c->loop, c); }

/* linger_fire: a lingering conn whose output still moves goes on; `mark` is what was taken before.
 */
static void linger_fire(struct conn *c) {
  bool over = conn_pending(c) == 0;
  uint32_t taken = over ? 0 : (uint32_t)conn_taken(c);
  c->size_streak = taken == c->mark ? (uint8_t)(c->size_streak + 1) : 0;
  c->mark = taken;
  if (over || c->size_streak >= LINGER_ROUNDS)
    conn_finalize(c);
  else
    timer_set(&c->loop->wheel, &c->timer, c->loop->now_ms + c->linger_ms);
}

static void fire(struct timer *timer, uint64_t now_ms) {
  (void)now_ms;
  struct conn *c = container_of(timer, struct conn, timer);
  if (conn_any(c, CONN_GONE)) return;
  if (conn_any(c, CONN_LISTENER)) {
    listen_timer(c);
  } else if (conn_any(c, CONN_LINGER)) {
    linger_fire(c);
  } else if (relay_watches(c)) {
    relay_on_timer(c);
  } else {
    c->events->on_timer(c);
  }
}

struct conn *conn_new(struct loop *loop, int fd) {
  struct conn *c = slab_new(&loop->conns);
  if (c == NULL) return NULL;
  c->fd = fd;
  c->loop = loop;
  timer_init(&c->timer, fire);
  list_init(&c->dirty_link);
  list_init(&c->later_link);
  list_init(&c->starved_link);
  return c;
}

void conn_attach(struct conn *c, const struct conn_events *events, void *owner) {
  check(!conn_any(c, CONN_CLOSING));
  c->events = events;
  c->owner = owner;
}

void conn_transport(struct conn *c, const struct transport *transport) {
  check(c->transport == NULL);
  c->transport = transport;
  c->flags &= ~(uint32_t)CONN_OPEN;
  rx_arm(c);
}

struct conn *conn_connect(struct loop *loop, const struct addr *to,
                          const struct conn_events *events, void *owner, int *err) {
  int fd = loop->ops->socket(loop, to->sa.sa_family);
  if (fd < 0) {
    *err = fd;
    return NULL;
  }
  if (loop->fds_most && (uint32_t)fd >= loop->fds_most) { /* it is the lowest free one */
    loop->ops->close_fd(loop, fd);
    *err = -EMFILE;
    return NULL;
  }
  struct conn *c = conn_new(loop, fd);
  if (c == NULL) {
    loop->ops->close_fd(loop, fd);
    *err = -ENOBUFS;
    return NULL;
  }
  if (to->sa.sa_family == AF_UNIX) c->flags |= CONN_UNIX;
  conn_attach(c, events, owner);
  loop->ops->connect(loop, c, to);
  return c;
}

void conn_opened(struct conn *c, int err) {
  if (conn_any(c, CONN_OPEN | CONN_FAILED | CONN_CLOSING)) return;
  c->flags |= err ? CONN_FAILED : CONN_OPEN;
  if (err) c->send_err = err;
  c->events->on_open(c, err);
  if (conn_any(c, CONN_CLOSING)) return;
  if (c->out || c->wire) conn_mark(c);
}

void conn_secure(struct conn *c) {
  if (c->events->on_secure) c->events->on_secure(c);
}

static void connect_done(struct conn *c, int32_t res) {
  if (res < 0 || c->transport == NULL) {
    conn_opened(c, res < 0 ? res : 0);
    return;
  }
  c->transport->resume(c); /* a client's handshake starts */
  rx_arm(c);
}

void conn_mark(struct conn *c) {
  if (conn_any(c, CONN_DIRTY | CONN_GONE)) return;
  c->flags |= CONN_DIRTY;
  bool carries = conn_any(c, CONN_CARRIES);
  list_push_tail(carries ? &c->loop->carriers : &c->loop->dirty, &c->dirty_link);
}

void conn_mark_later(struct conn *c) {
  if (!conn_any(c, CONN_GONE) && !conn_later(c))
    list_push_tail(&c->loop->later_next, &c->later_link);
}

bool conn_later(const struct conn *c) { return !list_empty(&c->later_link); }

void conn_run(struct conn *c) {
  if (conn_any(c, CONN_REREAD)) rx_run(c);
  if (conn_any(c, CONN_KICK)) {
    c->flags &= ~(uint32_t)CONN_KICK;
    if (c->relay_in) relay_run(c->relay_in);
  }
  if (conn_any(c, CONN_CARRIES) && !conn_any(c, CONN_CLOSING)) c->events->on_flush(c);
  tx_run(c);
}

void conn_give(struct conn *c, struct iobuf **slot) {
  while (*slot) {
    struct iobuf *b = *slot;
    *slot = b->next;
    iobuf_give(&c->loop->iobufs, b);
  }
}

void conn_cancel(struct conn *c, enum op op) {
  if (conn_busy(c, op)) conn_ops(c)->cancel(c->loop, c, op);
}

/* drop_input forgets what came and who waits for it. */
static void drop_input(struct conn *c) {
  conn_give(c, &c->rx);
  conn_give(c, &c->plain);
  c->held_bytes = 0;
}

/* release takes the conn from its owner. */
static void release(struct conn *c) {
  check(!conn_any(c, CONN_CLOSING));
  if (c->relay_in) relay_stop(c->relay_in);
  if (c->relay_out) relay_stop(c->relay_out);
  c->flags |= CONN_CLOSING;
  c->flags &= ~(uint32_t)(CONN_READING | CONN_WATCHED | CONN_BULK | CONN_REREAD | CONN_KICK |
                          CONN_AGAIN | CONN_PAUSED | CONN_PEER_DONE);
  c->owner = NULL;
  drop_input(c);
  timer_stop(&c->loop->wheel, &c->timer);
}

/* linger notes whether a conn with a socket lingers (loop.lingering). */
static void linger(struct conn *c, bool on) {
  if (conn_any(c, CONN_LINGER) == on) return;
  c->flags ^= CONN_LINGER;
  if (conn_any(c, CONN_CARRIED)) return;
  if (on)
    c->loop->lingering++;
  else
    c->loop->lingering--;
}

static void bury_if_done(struct conn *c) {
  if (c->inflight == 0 && c->cancels == 0) list_push_tail(&c->loop->dead, &c->dirty_link);
}

void conn_finalize(struct conn *c) {
  if (conn_any(c, CONN_GONE)) return;
  static const enum op ops[] = {OP_ACCEPT,  OP_CONNECT,  OP_RECV,    OP_SEND,
                                OP_POLL_IN, OP_POLL_OUT, OP_POLL_HUP};
  conn_give(c, &c->out);
  conn_give(c, &c->wire);
  if (!conn_busy(c, OP_SEND)) conn_give(c, &c->sending);
  timer_stop(&c->loop->wheel, &c->timer);
  list_remove(&c->dirty_link);
  list_remove(&c->later_link);
  list_remove(&c->starved_link);
  c->flags &= ~(uint32_t)(CONN_DIRTY | CONN_STARVED | CONN_PARKED);
  linger(c, false);
  if (c->inflight)
    for (size_t i = 0; i < array_count(ops); i++) conn_cancel(c, ops[i]);
  c->flags |= CONN_GONE;
  conn_ops(c)->close(c->loop, c);
}

void conn_close(struct conn *c) {
  release(c);
  conn_finalize(c);
}

void conn_reset(struct conn *c) {
  tx_last_words(c);
  conn_ops(c)->reset(c->loop, c);
  conn_close(c);
}

/* has_last_words: a handshake that failed ends by an alert; of an open conn its transport knows.
 */
static bool has_last_words(const struct conn *c) {
  const struct transport *t = c->transport;
  return t && (!conn_any(c, CONN_OPEN) || (t->last_words && t->last_words(c)));
}

/* sendable tells whether output can still reach the peer: not while connecting, nor after a failed
 * send or a reset; after a fault of what the peer sent it can (the alert). */
static bool sendable(const struct conn *c) {
  if (conn_any(c, CONN_SENT_DEAD) || conn_busy(c, OP_CONNECT)) return false;
  return !conn_any(c, CONN_FAILED) || has_last_words(c);
}

void conn_close_gently(struct conn *c, uint32_t linger_ms) {
  if (!sendable(c)) {
    conn_close(c);
    return;
  }
  conn_finish(c);
  release(c);
  c->flags |= CONN_FIN;
  linger(c, true);
  bool told = !conn_any(c, CONN_CARRIED) || conn_any(c, CONN_FIN_SENT);
  if (conn_pending(c) == 0 && conn_any(c, CONN_WIRE_EOF) && told) {
    conn_finalize(c);
    return;
  }
  c->linger_ms = linger_ms;
  c->mark = c->size_streak = 0;
  timer_set(&c->loop->wheel, &c->timer, c->loop->now_ms + linger_ms);
  conn_mark(c);
}

/* gone_done takes a completion of a closed conn: nobody hears it. */
static void gone_done(struct conn *c, enum op op, const struct completion *done) {
  if (op == OP_SEND) conn_give(c, &c->sending);
  if (op == OP_ACCEPT && done->res >= 0) c->loop->ops->close_fd(c->loop, done->res);
  bury_if_done(c);
}

void conn_warm(const struct loop *loop, uint32_t slot, uint32_t generation, enum op op,
               unsigned step) {
  if (step == 0) {
    slab_warm(&loop->conns, slot);
    return;
  }
  const struct conn *c = slab_find(&loop->conns, slot, generation);
  if (c == NULL || c->owner == NULL) return;
  if (step == 1) {
    warm(c->owner, WARM_LINE);
    warm(c->sending, WARM_LINE);
    return;
  }
  if (op == OP_SEND && step > 2) return; /* its owner hears that it was sent, no more */
  if (c->events && c->events->warm) /* a listener has none */
    c->events->warm(c, step - 2);
}

void conn_complete(struct loop *loop, uint32_t slot, uint32_t generation, enum op op,
                   const struct completion *done) {
  struct conn *c = slab_find(&loop->conns, slot, generation);
  if (c == NULL) return;
  if (op == OP_CANCEL)
    c->cancels--;
  else if (!done->more)
    c->inflight &= (uint16_t)~OP_BIT(op);
  if (__builtin_expect(conn_any(c, CONN_GONE), 0)) {
    gone_done(c, op, done);
    return;
  }
  switch (op) {
    case OP_RECV: rx_recv_done(c, done); return;
    case OP_SEND: tx_send_done(c, done->res); return;
    case OP_ACCEPT: listen_accepted(c, done); return;
    case OP_CONNECT: connect_done(c, done->res); return;
    case OP_POLL_IN: rx_poll_done(c); return;
    case OP_POLL_OUT: tx_poll_done(c); return;
    case OP_POLL_HUP: rx_hup_done(c, done->res); return;
    case OP_CANCEL:
    case OP_CLOSE:
    case OP_WAKE:
    case OP_ALARM:
    case OP_COUNT: return;
  }
}

void conn_bury(struct conn *c) {
  if (c->transport) c->transport->free(c);
  slab_free(&c->loop->conns, c);
}

void conn_abandon(struct conn *c) {
  if (!conn_any(c, CONN_CLOSING)) release(c);
  linger(c, false);
  timer_stop(&c->loop->wheel, &c->timer);
  conn_give(c, &c->out);
  conn_give(c, &c->wire);
  conn_give(c, &c->sending);
  if (c->fd >= 0) c->loop->ops->close_fd(c->loop, c->fd);
  conn_bury(c);
}

void conn_fail(struct conn *c, int err) {
  if (conn_any(c, CONN_FAILED | CONN_CLOSING)) return;
  if (!conn_any(c, CONN_OPEN)) {
    conn_opened(c, err);
    return;
  }
  c->flags |= CONN_FAILED;
  struct relay *in = c->relay_in;
  struct relay *out = c->relay_out;
  if (in == NULL && out == NULL) {
    c->events->on_error(c, err);
    return;
  }
  if (in) relay_on_error(in, c, err);
  if (!conn_any(c, CONN_CLOSING) && c->relay_out == out && out) relay_on_error(out, c, err);
}

void conn_peer_done(struct conn *c) {
  if (conn_any(c, CONN_EOF | CONN_FAILED | CONN_CLOSING)) return;
  c->flags |= CONN_PEER_DONE;
  if (c->relay_in) {
    relay_on_eof(c->relay_in);
    return;
  }
  c->flags |= CONN_EOF;
  c->events->on_eof(c);
}

void conn_timer(struct conn *c, uint64_t due_ms) { timer_set(&c->loop->wheel, &c->timer, due_ms); }

void conn_keepalive(struct conn *c) {
  if (conn_ops(c)->keepalive && !conn_any(c, CONN_UNIX)) conn_ops(c)->keepalive(c->loop, c);
}

bool conn_peer(const struct conn *c, struct addr *out) {
  return conn_ops(c)->address(c->loop, c, true, out);
}

bool conn_peer_left(struct conn *c, struct addr *out) {
  const struct loop_ops *ops = conn_ops(c);
  if (!ops->address_left || conn_any(c, CONN_UNIX) || ops->unread(c->loop, c) == 0) return false;
  return ops->address_left(c->loop, c, out);
}

bool conn_local(const struct conn *c, struct addr *out) {
  return conn_ops(c)->address(c->loop, c, false, out);
}
