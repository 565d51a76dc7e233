/* conn_listen.c: listeners. A multishot accept stays armed but while paused: by the owner, or for
 * LISTEN_RETRY_MS by ourselves when descriptors, memory or slots ran out (the kernel's queue then
 * pushes back, nothing spins). Opens no descriptor: they come bound and listening. */
#include <errno.h>

#include "io/io_priv.h"

#define LISTEN_RETRY_MS 100u
#define LISTEN_DRAIN_MAX 4096u
/* LISTEN_STOP_MS: handshakes whose SYN was answered come to their end meanwhile. */
#define LISTEN_STOP_MS 50u

static void arm(struct conn *listener) {
  if (conn_busy(listener, OP_ACCEPT)) return;
  if (conn_any(listener, CONN_PAUSED | CONN_GONE | CONN_STOPPING)) return;
  if (timer_armed(&listener->timer)) return;
  listener->loop->ops->accept(listener->loop, listener);
}

struct conn *conn_listen(struct loop *loop, int fd,
                         void (*on_accept)(struct conn *listener, struct conn *c), void *owner) {
  struct conn *listener = conn_new(loop, fd);
  if (listener == NULL) return NULL;
  listener->flags = CONN_LISTENER;
  listener->on_accept = on_accept;
  listener->owner = owner;
  loop->ops->listen(loop, listener, LISTEN_DEFER_KEEP);
  struct addr own;
  if (conn_local(listener, &own) && own.sa.sa_family == AF_UNIX) listener->flags |= CONN_UNIX;
  arm(listener);
  return listener;
}

void conn_listen_defer(struct conn *listener, uint32_t seconds) {
  check(conn_any(listener, CONN_LISTENER));
  if (!conn_any(listener, CONN_UNIX))
    listener->loop->ops->listen(listener->loop, listener, seconds);
}

void conn_listen_pause(struct conn *listener) {
  if (conn_any(listener, CONN_PAUSED)) return;
  listener->flags |= CONN_PAUSED;
  conn_cancel(listener, OP_ACCEPT);
}

void conn_listen_resume(struct conn *listener) {
  listener->flags &= ~(uint32_t)CONN_PAUSED;
  arm(listener);
}

/* stop_if_done: accepts that are under way take connections as long as they are not cancelled. */
static void stop_if_done(struct conn *listener) {
  if (timer_armed(&listener->timer) || conn_busy(listener, OP_ACCEPT)) return;
  (void)conn_listen_drain(listener);
  listener->on_accept(listener, NULL);
  conn_close(listener);
}

void listen_timer(struct conn *listener) {
  if (!conn_any(listener, CONN_STOPPING)) {
    arm(listener);
    return;
  }
  conn_cancel(listener, OP_ACCEPT);
  stop_if_done(listener);
}

void conn_listen_stop(struct conn *listener, bool deaf) {
  struct loop *loop = listener->loop;
  check(conn_any(listener, CONN_LISTENER) && !conn_any(listener, CONN_STOPPING));
  if (deaf) loop->ops->deafen(loop, listener);
  timer_stop(&loop->wheel, &listener->timer);
  arm(listener);
  listener->flags |= CONN_STOPPING;
  timer_set(&loop->wheel, &listener->timer, loop->now_ms + LISTEN_STOP_MS);
}

/* back_off stops accepting for a moment. */
static void back_off(struct conn *listener) {
  struct loop *loop = listener->loop;
  loop_stat_add(&loop->stats.accept_errors, 1);
  if (timer_armed(&listener->timer)) return;
  conn_cancel(listener, OP_ACCEPT);
  timer_set(&loop->wheel, &listener->timer, loop->now_ms + LISTEN_RETRY_MS);
}

static bool hand_over(struct conn *listener, int fd) {
  struct loop *loop = listener->loop;
  struct conn *c = conn_new(loop, fd);
  if (c == NULL) {
    loop->ops->close_fd(loop, fd);
    back_off(listener);
    return false;
  }
  c->flags = CONN_OPEN | (listener->flags & CONN_UNIX);
  loop_stat_add(&loop->stats.accepts, 1);
  listener->on_accept(listener, c);
  check(c->events != NULL || conn_any(c, CONN_CLOSING));
  return true;
}

/* peers_fault: errors of one connection that was queued and is gone (accept(2), "Error handling").
 */
static bool peers_fault(int err) {
  switch (err) {
    case -ECONNABORTED:
    case -EPROTO:
    case -EINTR:
    case -EAGAIN:
    case -ENETDOWN:
    case -ENETUNREACH:
    case -EHOSTDOWN:
    case -EHOSTUNREACH:
    case -ENONET:
    case -EOPNOTSUPP: return true;
    default: return false;
  }
}

void listen_accepted(struct conn *listener, const struct completion *done) {
  if (done->res >= 0)
    (void)hand_over(listener, done->res);
  else if (done->res != -ECANCELED && !peers_fault(done->res)) {
    if (done->res == -EMFILE || done->res == -ENFILE)
      loop_stat_add(&listener->loop->stats.accept_no_fds, 1);
    back_off(listener);
  }
  if (conn_any(listener, CONN_STOPPING)) stop_if_done(listener);
  else arm(listener);
}

uint32_t conn_listen_drain(struct conn *listener) {
  struct loop *loop = listener->loop;
  uint32_t count = 0;
  while (count < LISTEN_DRAIN_MAX && !conn_any(listener, CONN_CLOSING)) {
    int fd = loop->ops->accept_now(loop, listener);
    if (fd < 0 && peers_fault(fd) && fd != -EAGAIN) continue;
    if (fd < 0 || !hand_over(listener, fd)) break;
    count++;
  }
  return count;
}
