/* carried.h: conns without a socket: each is one stream of a connection that carries many (the
 * carrier; HTTP/2, mux/). For its owner it is a conn like any other: events, output buffer,
 * relays, half-close, gentle close. What a socket would do its carrier does, by carrier_ops. */
#ifndef WEIR_IO_CARRIED_H
#define WEIR_IO_CARRIED_H

#include "weir/io/conn.h"

/* carried_end: how the owner ended a carried conn. */
enum carried_end {
  CARRIED_FINISHED, /* all output was sent, and its end */
  CARRIED_CLOSED,   /* before that */
  CARRIED_RESET,    /* conn_reset: the other side must see that it is cut */
};

struct carried;

/* carrier_ops are called from inside functions of the conn: none may call conn_carried_*, but for
 * conn_mark of its own conn; the work is done when that is flushed (conn_events.on_flush). */
struct carrier_ops {
  /* send: bytes to go out, valid until all of them are reported by conn_carried_sent, or `gone`.
   * fin: their end is the end of the output (finish follows). */
  void (*send)(struct carried *what, struct span bytes, bool fin);
  /* send_now: the last bytes before a reset, or those that are offered, go at once or, from the
   * first on that may not, never; whether all of them went. NULL: none do. */
  bool (*send_now)(struct carried *what, struct span bytes);
  /* finish: no output follows what was sent. */
  void (*finish)(struct carried *what);
  /* read: the owner consumed n bytes more, or will never read them. */
  void (*read)(struct carried *what, size_t n);
  /* gone: the conn does not exist any more. The last call. */
  void (*gone)(struct carried *what, enum carried_end how);
  /* taken: see conn_taken. */
  uint64_t (*taken)(struct carried *what);
};

/* carried is what a carried conn is to its carrier, whose memory it is. */
struct carried {
  const struct carrier_ops *ops;
  struct conn *carrier; /* the conn with the socket */
  struct conn *conn;    /* NULL: gone */
  bool reset;
};

/* conn_carry makes a conn for *what (ops and carrier are set), not reading and without events:
 * attach at once. open: it can send now; else conn_opened tells. NULL at the slab's limit. */
MUST_USE struct conn *conn_carry(struct loop *loop, struct carried *what, bool open);

/* conn_carried_data gives bytes that came: what the owner does not take is held without a limit
 * here: the carrier's flow control bounds it. conn_carried_eof is their end. conn_carried_fail
 * ends the conn by an error (-errno). conn_carried_sent: n bytes of what `send` gave went out. The
 * owner may close the conn in any of them. */
void conn_carried_data(struct conn *c, struct span bytes);
void conn_carried_eof(struct conn *c);
void conn_carried_fail(struct conn *c, int err);
void conn_carried_sent(struct conn *c, size_t n);
/* conn_carried_open: what conn_carry made not open is now (0), or cannot be (-errno). */
void conn_carried_open(struct conn *c, int err);

/* conn_flush_later is conn_flush when c has its place in the share of a turn (loop.share_ns), the
 * next one or a later one, which then does not wait; conn_later: it waits for that. */
void conn_flush_later(struct conn *c);
bool conn_later(const struct conn *c);
/* conn_warm_carried asks for what carries c, if anything does (conn_events.warm). */
void conn_warm_carried(const struct conn *c);
/* conn_carries makes c, which has a socket, one that carries others: its events have on_flush. */
void conn_carries(struct conn *c);
/* conn_carries_not takes that back before anything was sent: what was written is dropped. */
void conn_carries_not(struct conn *c);

#endif
