/* conn.h: a transport connection: a TCP or unix socket, with TLS stacked on it or not. Bytes come
 * up through events, go down through an output buffer that is sent at the end of the turn.
 * The owner (proxy/) never sees descriptors, provided buffers or ciphertext. Life: conn_accept'ed
 * or conn_connect'ed, then events, then conn_close: after that call the owner hears nothing more
 * and must forget the pointer; the memory goes when the kernel's last reference is gone. Events
 * run from completions, never from inside a conn_* call made by the owner. */
#ifndef WEIR_IO_CONN_H
#define WEIR_IO_CONN_H

#include "weir/base/end.h"
#include "weir/io/conn_flag.h"
#include "weir/io/loop.h"
#include "weir/io/transport.h"

struct relay;
struct tls_conn;
struct tls_info;

/* conn_events is what an owner hears. All are required for conns that can have them. */
struct conn_events {
  /* on_open: a connect finished, or a handshake did (both sides): 0, or -errno. For TLS failures
   * conn_tls_end tells the cause. After an error the owner closes. */
  void (*on_open)(struct conn *c, int err);
  /* on_data: bytes, valid during the call. Returns how many were consumed; the rest is held and
   * given again by conn_read_start. Consuming less than all stops reading. */
  size_t (*on_data)(struct conn *c, struct span bytes);
  /* on_eof: the peer finished sending (close_notify or FIN; a TLS FIN without close_notify is
   * on_error(-ECONNABORTED)). Comes at once, even when bytes are still held (conn_held), but for
   * bytes that are due in this turn: those go first. Once. */
  void (*on_eof)(struct conn *c);
  /* on_error: -ECONNRESET, -EPIPE, -ETIMEDOUT, ...; the owner closes. Once. When a send failed,
   * what the peer had sent before is received first (an upstream's early response): the error of
   * the send comes in place of the EOF or reset behind it. Held bytes can still be read: while
   * conn_held(c) > 0 the owner may conn_read_start instead of closing; nothing follows them. */
  void (*on_error)(struct conn *c, int err);
  void (*on_drained)(struct conn *c); /* all output was taken by the kernel */
  void (*on_timer)(struct conn *c);   /* the deadline of conn_timer passed */
  void (*on_flush)(struct conn *c); /* of a carrier: at the end of a turn, before it is sent */
  /* on_message, of a carried conn only: a head stands where its carrier should put it, or end. */
  void (*on_message)(struct conn *c, enum end end);
  /* on_secure, may be NULL: the handshake of a conn that opened before (conn_early) is done. */
  void (*on_secure)(struct conn *c);
  /* warm, may be NULL: asks for the memory that what came for c will take (WARM_STEPS). */
  void (*warm)(const struct conn *c, unsigned step);
  /* on_broken, may be NULL: a full one was reset: read on, it gives the rest, then the error. */
  void (*on_broken)(struct conn *c);
};

/* conn is at most 256 bytes (static assert); cold parts hang off tls. */
struct conn {
  struct slab_head head;
  int fd;
  uint32_t flags;      /* enum conn_flag */
  uint16_t inflight;   /* bit per enum op */
  uint8_t cancels;     /* cancels in flight */
  uint8_t size_streak; /* small (CONN_SINGLE) or full receives in a row */
  uint32_t mark;       /* the owner's */
  struct loop *loop;
  const struct conn_events *events;
  void *owner; /* NULL after conn_close */
  const struct transport *transport;
  union {
    struct tls_conn *tls;
    void (*on_accept)(struct conn *listener, struct conn *c); /* listener */
    struct carried *carried; /* CONN_CARRIED: what it is to its carrier */
  };
  struct relay *relay_in, *relay_out; /* relays that read from, write to this conn */
  struct iobuf *out;     /* being filled by the owner (plaintext under TLS, else wire bytes) */
  struct iobuf *wire;    /* TLS: ciphertext to send next */
  struct iobuf *sending; /* the kernel reads it: one send in flight */
  struct iobuf *rx;      /* wire bytes that came and were not consumed */
  struct iobuf *plain;   /* TLS: plaintext that was not consumed */
  uint32_t held_bytes;   /* conn_held */
  uint32_t armed_turn;   /* low bits of the loop's turn in which the receive was armed */
  uint32_t quiet_at;     /* low bits of bytes_out when conn_quiet was true (CONN_QUIET) */
  union {
    int32_t send_err;   /* -errno of the send that failed (CONN_SENT_DEAD), or why none opened */
    uint32_t linger_ms; /* CONN_LINGER */
  };
  struct timer timer;
  struct list dirty_link, later_link, starved_link; /* the last: in loop->starved or parked */
  uint64_t bytes_in, bytes_out; /* plaintext */
};

/* conn_attach gives c its owner and events. */
void conn_attach(struct conn *c, const struct conn_events *events, void *owner);
/* conn_connect starts a connection; on_open follows (also on failure). NULL when no slot or
 * descriptor is left (*err then is -errno). */
MUST_USE struct conn *conn_connect(struct loop *loop, const struct addr *to,
                                   const struct conn_events *events, void *owner, int *err);

/* conn_read_start asks for on_data: held bytes first (at the end of this turn, not from inside
 * this call). Inside on_data it says: go on after this call too; if that call consumed nothing,
 * the same bytes come again with the next ones behind them, in one piece (up to 256 KiB).
 * conn_read_stop: what comes is held; beyond CONN_HELD_MAX the receive is cancelled. */
void conn_read_start(struct conn *c);
void conn_read_stop(struct conn *c);
#define CONN_HELD_MAX 16384u
/* conn_read_bulk switches between bulk reads (bodies) and provided buffers (messages). */
void conn_read_bulk(struct conn *c, bool on);
/* conn_pull moves up to want bytes that wait in src's socket straight into dst's output, from
 * inside src's on_data that took all it was given: how many. 0 also when src is armed, holds
 * bytes, has a transport, ended or failed (told later as an end). */
MUST_USE size_t conn_pull(struct conn *src, struct conn *dst, size_t want);
/* conn_watch keeps a receive armed without reading: EOF, errors and (asked again after the EOF) a
 * reset behind it are told, bytes are held. */
void conn_watch(struct conn *c);
/* conn_quiet: nothing waits to be read, in the socket neither; to be asked before an idle conn is
 * used again (promise 5). No system call when a receive armed in an earlier turn would have told.
 * When false a byte may have been lost: close; but not of a conn that carries others. */
MUST_USE bool conn_quiet(struct conn *c);
/* conn_unsent: it was quiet, and the kernel has had no output since: no answer can come. */
bool conn_unsent(const struct conn *c);
/* conn_held is the number of (plaintext) bytes that came and were not consumed. */
static inline size_t conn_held(const struct conn *c) { return c->held_bytes; }

/* conn_out gives the output writer with at least room bytes free (at most 256 KiB), to be filled
 * now; then conn_flush. NULL: no buffer left. Bytes written in one turn go out in one send. */
MUST_USE struct buf *conn_out(struct conn *c, size_t room);
void conn_flush(struct conn *c);
/* conn_write queues bytes (copied, or encrypted straight into the wire buffer). False: no buffer;
 * nothing was queued. At most 256 KiB may be pending. */
MUST_USE bool conn_write(struct conn *c, struct span bytes);
/* conn_pending is the number of bytes queued and not yet taken by the kernel. */
size_t conn_pending(const struct conn *c);
/* conn_taken, a system call, changes when the peer took some of what was sent or is to be. */
uint64_t conn_taken(struct conn *c);
/* conn_finish sends what is queued, then close_notify and FIN; reading goes on. conn_finishing: it
 * was called, and the kernel has yet to take some of that. */
void conn_finish(struct conn *c);
bool conn_finishing(const struct conn *c);

/* conn_close ends it: cancels, drops output not yet sent, closes. conn_reset sends what the socket
 * takes at once, then RST instead of FIN (TCP). conn_close_gently sends what is queued (as long as
 * it moves) and FIN, then drops what comes for at most linger_ms so that no RST destroys the last
 * response: 256 KiB, then its full socket stops the peer. The owner is released at once. */
void conn_close(struct conn *c);
void conn_reset(struct conn *c);
void conn_close_gently(struct conn *c, uint32_t linger_ms);

/* conn_timer sets the one deadline of c (absolute ms; WHEEL_NEVER stops it). */
void conn_timer(struct conn *c, uint64_t due_ms);
/* conn_peer, conn_local ask the kernel; false for unnamed unix sockets (out: AF_UNIX, empty). */
bool conn_peer(const struct conn *c, struct addr *out);
bool conn_local(const struct conn *c, struct addr *out);

#include "weir/io/listen.h"

#endif
