/* loop_ops.h: what an implementation of the loop does for conns, and the one upcall it makes. Seen
 * by io/ only (and by tests that look inside). */
#ifndef WEIR_IO_LOOP_OPS_H
#define WEIR_IO_LOOP_OPS_H

#include "weir/io/loop.h"

struct conn;
struct udp_ops;

/* op is what the kernel may be doing for a conn: at most one of each kind is in flight per conn
 * (cancels are counted). The triple slot, generation, op is the completion's name: a stale one
 * finds nothing. */
enum op {
  OP_ACCEPT,   /* multishot; res: new descriptor, or -errno */
  OP_CONNECT,  /* res: 0 or -errno */
  OP_RECV,     /* provided buffers, multishot or single; res: bytes, 0 EOF, -errno, -ENOBUFS */
  OP_SEND,     /* MSG_WAITALL | MSG_NOSIGNAL; res: bytes or -errno */
  OP_POLL_IN,  /* readable once; res: events or -errno */
  OP_POLL_OUT, /* writable once */
  OP_POLL_HUP, /* broken (an end by FIN may be told, or end it, too); res: events or -errno */
  OP_CANCEL,   /* the completion of a cancel itself */
  OP_CLOSE,    /* res: 0 or -errno */
  OP_WAKE,     /* the loop's mailbox was rung; belongs to no conn */
  OP_ALARM,    /* a time that turn was asked to wait for has come; belongs to no conn */
  OP_COUNT
};

/* completion is what a loop hands up. Bytes of a provided buffer are valid until conn_complete
 * returns: conns never keep a provided buffer, so that the few there are stay in the cache. */
struct completion {
  int32_t res;
  bool more;        /* a multishot op stays armed */
  const char *data; /* res bytes, when a provided buffer was filled */
};

/* send_how says what is known of a send, as flags. */
enum send_how {
  SEND_CORKED = 1, /* a shutdown follows the completion: the FIN may travel with the last bytes */
  /* nobody waits for the completion of one that goes at once, whole: it may be told at the end of
   * a wait that comes, as long as tx_unwatched(c) holds. */
  SEND_QUIET = 2,
};

/* loop_ops is what an implementation does. None blocks but turn. Submissions may be batched until
 * the next turn. Submitting an op whose bit is set in conn->inflight is our mistake (check).
 * Sockets are in blocking mode (the ring needs it so) but while `nonblock` says otherwise. */
struct loop_ops {
  const char *name; /* "io_uring", "sim" */
  const struct udp_ops *udp; /* datagrams: src/io/udp_priv.h */
  /* socket gives a stream descriptor (or -errno) with the usual options set (TCP_NODELAY;
   * close-on-exec). */
  int (*socket)(struct loop *loop, int family);
  void (*accept)(struct loop *loop, struct conn *listener);
  /* accept_now takes one connection that is queued: a descriptor, -EAGAIN or -errno. */
  int (*accept_now)(struct loop *loop, struct conn *listener);
  /* listen prepares a listening descriptor (inherited options); defer_s is for TCP_DEFER_ACCEPT.
   */
  void (*listen)(struct loop *loop, struct conn *listener, uint32_t defer_s);
  /* deafen makes a TCP listener ignore who is not in a handshake with it; unix: nothing. */
  void (*deafen)(struct loop *loop, struct conn *listener);
  void (*connect)(struct loop *loop, struct conn *c, const struct addr *to);
  void (*recv)(struct loop *loop, struct conn *c, bool multishot);
  /* recv_now reads what is there: bytes, 0 EOF, -EAGAIN, -errno. */
  ssize_t (*recv_now)(struct loop *loop, struct conn *c, void *into, size_t cap);
  /* unread is how many bytes wait in the socket; 0 also when only an end or an error does. */
  size_t (*unread)(struct loop *loop, struct conn *c);
  void (*send)(struct loop *loop, struct conn *c, const void *bytes, size_t len, unsigned how);
  uint32_t send_ns; /* what one takes, about: of the submit (owed_ns), or of what goes before it */
  /* send_now sends what the socket takes at once: bytes or -errno. NULL: nothing is. */
  ssize_t (*send_now)(struct loop *loop, struct conn *c, const void *bytes, size_t len);
  /* taken, unacked: see conn_taken, conn_unacked. */
  uint64_t (*taken)(struct loop *loop, struct conn *c);
  size_t (*unacked)(struct loop *loop, struct conn *c);
  void (*poll)(struct loop *loop, struct conn *c, enum op which);
  void (*cancel)(struct loop *loop, struct conn *c, enum op which);
  void (*shutdown)(struct loop *loop, struct conn *c, int how); /* at once, result ignored */
  void (*close)(struct loop *loop, struct conn *c);
  void (*close_fd)(struct loop *loop, int fd); /* at once: a descriptor that no conn has */
  /* reset makes the coming close send RST (SO_LINGER 0). */
  void (*reset)(struct loop *loop, struct conn *c);
  /* keepalive: see conn_keepalive; NULL: its own carrier or network sees to that. */
  void (*keepalive)(struct loop *loop, struct conn *c);
  /* address asks for the peer's or the own address; false: unnamed or gone. */
  bool (*address)(const struct loop *loop, const struct conn *c, bool peer, struct addr *out);
  /* address_left asks for the peer's after its reset, too. NULL: it cannot be asked for. */
  bool (*address_left)(const struct loop *loop, const struct conn *c, struct addr *out);
  /* buffers_grow adds provided buffers: false at the maximum. */
  bool (*buffers_grow)(struct loop *loop);
  /* nonblock switches O_NONBLOCK, which splice(2) needs: while it is on, receives and sends end
   * with -EAGAIN (or short) instead of waiting. NULL with splice. */
  void (*nonblock)(struct loop *loop, struct conn *c, bool on);
  /* splice moves up to len bytes without blocking between two descriptors, one of them a pipe's:
   * bytes, 0 EOF, -EAGAIN, -errno. NULL: bodies are copied. */
  ssize_t (*splice)(struct loop *loop, int from, int to, size_t len);
  /* pipe opens a pipe for it (fds as pipe(2)): its capacity in bytes, or -errno. */
  int (*pipe)(struct loop *loop, int fds[2]);
  /* turn submits, waits until a completion or until_ms (absolute; WHEEL_NEVER: no limit; in the
   * past: do not wait), updates now_*, and calls conn_complete for each completion. 0 or -errno.
   */
  int (*turn)(struct loop *loop, uint64_t until_ms);
  uint64_t (*clock)(const struct loop *loop); /* as now_ns, but read anew */
  void (*wake)(struct loop *loop); /* any thread; makes turn return after on_wake */
  void (*trim)(struct loop *loop); /* gives unused provided buffers back */
  void (*free)(struct loop *loop);
};

/* conn_complete is the one upcall: an op of a conn ended, or gave something and stays armed. */
void conn_complete(struct loop *loop, uint32_t slot, uint32_t generation, enum op op,
                   const struct completion *done);

/* loop_note_turn counts a turn that began at now_ms and worked for busy_ns. */
void loop_note_turn(struct loop *loop, uint64_t busy_ns);

static inline bool loop_has_later(const struct loop *loop) {
  return !list_empty(&loop->later) || !list_empty(&loop->later_next);
}
/* loop_share_open begins the turn's share: turn calls it when now_ns is new. */
void loop_share_open(struct loop *loop, uint64_t from_ns);

/* loop_init fills the common head; loop_fini ends it when nothing is in flight any more. */
void loop_init(struct loop *loop, const struct loop_ops *ops, const struct loop_config *config);
void loop_fini(struct loop *loop);

#endif
