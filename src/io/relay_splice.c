/* relay_splice.c: the relay mode that moves bytes by splice(2) through a pooled pipe, called from
 * the loop (IORING_OP_SPLICE goes to a kernel thread and costs more). Only between plain sockets.
 * splice looks at O_NONBLOCK of the sockets, which the ring wants off when it has to wait: it is
 * switched on here, and off again only when a receive is armed or a send would have to wait.
 *
 * Before it starts, the receive of src is cancelled and its last completion and all held bytes are
 * passed on by copy, and dst's queue is empty. */
#include <errno.h>

#include "io/io_priv.h"

/* SHARE is what one relay moves per wakeup before others have their turn. */
#define SHARE (256u * 1024u)
/* A read below SHORT means that the socket is nearly empty: poll instead of trying again. */
#define SHORT 32768u
/* QUIET wakeups in a row below SMALL bytes return a tunnel to the copy path. */
#define QUIET 8u
#define SMALL 8192u

void relay_splice_start(struct relay *r) {
  r->src->flags |= CONN_SPLICING;
  rx_unarm(r->src);
  conn_read_start(r->src); /* what is held, and what comes until the receive has ended */
  relay_splice_run(r);
}

static void nonblock(struct conn *c, bool on) {
  if (conn_any(c, CONN_NONBLOCK) == on || conn_any(c, CONN_GONE)) return;
  c->flags ^= CONN_NONBLOCK;
  conn_ops(c)->nonblock(c->loop, c, on);
}

static bool splices(const struct relay *r) { return r && r->pipe_rd >= 0; }

void relay_splice_leave(struct relay *r) {
  if (splices(r)) pipe_give(r->src->loop, r);
  r->src->flags &= ~(uint32_t)CONN_SPLICING;
}

void relay_splice_block(struct conn *c) {
  if (!splices(c->relay_in) && !splices(c->relay_out)) nonblock(c, false);
}

static void poll_for(struct conn *c, enum op op) {
  if (!conn_busy(c, op)) conn_ops(c)->poll(c->loop, c, op);
}

/* rest_src waits for src, by poll, or leaves the mode when a tunnel has become quiet. */
static void rest_src(struct relay *r, size_t moved) {
  if (r->left == UINT64_MAX) {
    r->streak = moved < SMALL ? (uint8_t)(r->streak + 1) : 0;
    if (r->streak >= QUIET) {
      relay_go_copy(r, false);
      return;
    }
  }
  relay_wait_src(r);
  poll_for(r->src, OP_POLL_IN);
}

/* fill moves bytes from src into the empty pipe; false: it waits, ended, or changed its mode. */
static bool fill(struct relay *r, size_t moved) {
  struct conn *src = r->src;
  size_t want = r->left < r->pipe_cap ? (size_t)r->left : r->pipe_cap;
  ssize_t n = src->loop->ops->splice(src->loop, src->fd, r->pipe_wr, want);
  if (n > 0) {
    r->in_pipe = (uint32_t)n;
    src->bytes_in += (uint64_t)n;
    return true;
  }
  if (n == 0)
    rx_eof(src);
  else if (n == -EAGAIN || n == -EINTR)
    rest_src(r, moved);
  else if (n == -EINVAL)
    relay_go_copy(r, true); /* this kind of socket cannot */
  else
    rx_fail(src, (int)n);
  return false;
}

/* empty moves bytes from the pipe to dst; false: it waits or failed. */
static bool empty(struct relay *r, size_t *moved) {
  struct conn *dst = r->dst;
  struct loop *loop = dst->loop;
  while (r->in_pipe > 0) {
    ssize_t n = loop->ops->splice(loop, r->pipe_rd, dst->fd, r->in_pipe);
    if (n == -EAGAIN || n == -EINTR) {
      relay_wait_dst(r);
      poll_for(dst, OP_POLL_OUT);
      return false;
    }
    if (n <= 0) {
      tx_fail(dst, n < 0 ? (int)n : -EPIPE);
      return false;
    }
    r->in_pipe -= (uint32_t)n;
    *moved += (size_t)n;
    dst->bytes_out += (uint64_t)n;
    loop_stat_add(&loop->stats.spliced_bytes, (uint64_t)n);
    relay_note_moved(r, (size_t)n);
  }
  return true;
}

static void pump(struct relay *r) {
  size_t moved = 0;
  if (!empty(r, &moved)) return;
  while (moved < SHARE) {
    if (r->left == 0) {
      relay_end(r, RELAY_DONE, 0);
      return;
    }
    if (!fill(r, moved)) return;
    size_t got = r->in_pipe;
    if (!empty(r, &moved)) return;
    if (got < SHORT && r->left > 0) {
      rest_src(r, moved);
      return;
    }
  }
  relay_wait_src(r);
  conn_mark_later(r->src);
}

void relay_splice_run(struct relay *r) {
  struct conn *src = r->src;
  struct conn *dst = r->dst;
  if (conn_busy(src, OP_RECV) || conn_any(dst, CONN_SENT_DEAD | CONN_FAILED)) return;
  if (conn_any(src, CONN_REREAD)) return; /* held bytes go first, at the end of the turn */
  if (conn_pending(dst) > 0) {
    relay_wait_dst(r);
    return;
  }
  if (conn_held(src) > 0) {
    conn_read_start(src);
    return;
  }
  nonblock(src, true);
  nonblock(dst, true);
  pump(r);
}
