/* conn_carried.c: conns without a socket (carried.h): what the loop's operations are for them.
 * Nothing is ever armed: bytes come when their carrier has some, and one send is in flight until
 * it has taken all. */
#include "weir/io/carried.h"

#include <errno.h>

#include "io/io_priv.h"
#include "weir/base/warm.h"

struct conn *conn_carry(struct loop *loop, struct carried *what, bool open) {
  struct conn *c = conn_new(loop, -1);
  if (c == NULL) return NULL;
  c->flags = CONN_CARRIED | (open ? CONN_OPEN : 0u);
  c->carried = what;
  what->conn = c;
  what->reset = false;
  return c;
}

void conn_carries(struct conn *c) { c->flags |= CONN_CARRIES; }

void conn_carries_not(struct conn *c) {
  check(c->transport != NULL && c->bytes_out == 0);
  c->flags &= ~(uint32_t)CONN_CARRIES;
  conn_give(c, &c->out);
}

/* What is behind `what` is its carrier's, of this size or so. */
#define CARRIED_WARM 320u

void conn_warm_carried(const struct conn *c) {
  if (conn_any(c, CONN_CARRIED)) warm(c->carried, CARRIED_WARM);
}

/* ---- what came ---- */

void conn_carried_data(struct conn *c, struct span bytes) {
  if (conn_any(c, CONN_CLOSING)) carried_read(c, bytes.len);
  rx_bytes(c, bytes);
}

void conn_carried_eof(struct conn *c) { rx_eof(c); }

/* What came before goes on first, as far as it is taken: a relay that began in this turn has not
 * looked at it yet. */
void conn_carried_fail(struct conn *c, int err) {
  if (conn_any(c, CONN_KICK) && c->relay_in && conn_held(c) > 0) {
    c->flags &= ~(uint32_t)CONN_KICK;
    relay_run(c->relay_in);
  }
  if (!conn_any(c, CONN_GONE)) rx_fail(c, err);
}

void conn_carried_sent(struct conn *c, size_t n) {
  c->inflight &= (uint16_t)~OP_BIT(OP_SEND);
  tx_send_done(c, (int32_t)n);
}

void conn_carried_open(struct conn *c, int err) { conn_opened(c, err); }

void carried_read(struct conn *c, size_t n) { c->carried->ops->read(c->carried, n); }

/* ---- the operations ---- */

/* A frame, and the way back: that it was sent. */
#define SEND_NS 500u

static void on_send(struct loop *loop, struct conn *c, const void *bytes, size_t len,
                    unsigned how) {
  (void)loop;
  c->inflight |= OP_BIT(OP_SEND);
  c->carried->ops->send(c->carried, span_of(bytes, len), how & SEND_CORKED);
}

static ssize_t on_send_now(struct loop *loop, struct conn *c, const void *bytes, size_t len) {
  (void)loop;
  const struct carrier_ops *ops = c->carried->ops;
  bool all = ops->send_now && ops->send_now(c->carried, span_of(bytes, len));
  return all ? (ssize_t)len : -EAGAIN;
}

static void on_shutdown(struct loop *loop, struct conn *c, int how) {
  (void)loop, (void)how;
  c->carried->ops->finish(c->carried);
}

/* on_cancel: only a send can be in flight; on_close, which follows, tells the carrier. */
static void on_cancel(struct loop *loop, struct conn *c, enum op which) {
  (void)loop;
  c->inflight &= (uint16_t)~OP_BIT(which);
}

static void on_close(struct loop *loop, struct conn *c) {
  struct carried *what = c->carried;
  conn_give(c, &c->sending);
  what->conn = NULL;
  enum carried_end how = conn_any(c, CONN_FIN_SENT) ? CARRIED_FINISHED : CARRIED_CLOSED;
  what->ops->gone(what, what->reset ? CARRIED_RESET : how);
  list_push_tail(&loop->dead, &c->dirty_link);
}

static void on_reset(struct loop *loop, struct conn *c) {
  (void)loop;
  c->carried->reset = true;
}

static uint64_t on_taken(struct loop *loop, struct conn *c) {
  (void)loop;
  return c->carried->ops->taken(c->carried);
}

/* A reset is a frame behind those that went out. */
static size_t on_unacked(struct loop *loop, struct conn *c) {
  (void)loop, (void)c;
  return 0;
}

static bool on_address(const struct loop *loop, const struct conn *c, bool peer,
                       struct addr *out) {
  return loop->ops->address(loop, c->carried->carrier, peer, out);
}

/* There is no socket to ask: what came was told. */
static ssize_t on_recv_now(struct loop *loop, struct conn *c, void *into, size_t cap) {
  (void)loop, (void)c, (void)into, (void)cap;
  return -EAGAIN;
}
static size_t on_unread(struct loop *loop, struct conn *c) {
  (void)loop, (void)c;
  return 0;
}
static void on_poll(struct loop *loop, struct conn *c, enum op which) {
  (void)loop, (void)c, (void)which;
}
static void on_nonblock(struct loop *loop, struct conn *c, bool on) {
  (void)loop, (void)c, (void)on;
}

const struct loop_ops carried_ops = {
    .name = "carried",
    .recv_now = on_recv_now,
    .unread = on_unread,
    .send = on_send,
    .send_ns = SEND_NS,
    .send_now = on_send_now,
    .taken = on_taken,
    .unacked = on_unacked,
    .poll = on_poll,
    .cancel = on_cancel,
    .shutdown = on_shutdown,
    .close = on_close,
    .reset = on_reset,
    .address = on_address,
    .nonblock = on_nonblock,
};
