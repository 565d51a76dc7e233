/* transport.h: what may stand between a socket and the owner of a conn (TLS; later the PROXY
 * header), behind one vtable, and what such a layer may call. Included by conn.h; only io/
 * implements it. */
#ifndef WEIR_IO_TRANSPORT_H
#define WEIR_IO_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/base/buf.h"
#include "weir/base/span.h"

struct conn;

/* transport is what stands between wire and owner; NULL: plain. */
struct transport {
  /* wire_in takes ciphertext; returns bytes consumed (all, but for backpressure), plaintext goes
   * up by conn_deliver. */
  size_t (*wire_in)(struct conn *c, struct span wire);
  /* wire_eof: FIN came. */
  void (*wire_eof)(struct conn *c);
  /* write encrypts all of plain behind what is in the wire buffer (conn_wire). */
  void (*write)(struct conn *c, struct span plain);
  /* finish writes close_notify. */
  void (*finish)(struct conn *c);
  /* last_words: c failed, and what is in the wire buffer tells its peer why. NULL: never, of an
   * open conn. */
  bool (*last_words)(const struct conn *c);
  /* resume: the owner reads again; deliver what the library still holds. */
  void (*resume)(struct conn *c);
  void (*free)(struct conn *c);
  /* holds, may be NULL: it keeps wire bytes back that resume goes on with. */
  bool (*holds)(const struct conn *c);
};

/* While a transport is set and CONN_OPEN is not, a receive is always armed and wire_in is called
 * whatever the owner asked for. Errors of the socket in that phase go to the owner's on_open. A
 * transport is set between conn_accept's on_accept and the first turn (conn_transport), or inside
 * an on_data of an owner that has stopped reading, which then gives it the rest (conn_pass). */
void conn_transport(struct conn *c, const struct transport *transport);
/* conn_pass gives it bytes that the owner was given before and has not consumed, from inside that
 * on_data: how many it took. */
MUST_USE size_t conn_pass(struct conn *c, struct span wire);
/* conn_wants tells whether wire_in should go on: the owner reads, or little is held. A wire_in
 * that stops earlier returns how much it took; the rest is given again after resume. */
bool conn_wants(const struct conn *c);
/* conn_deliver hands plaintext up, or holds it. The owner may close c in it. */
void conn_deliver(struct conn *c, struct span plain);
/* conn_wire gives the wire buffer with room bytes free (at most 272 KiB in all); NULL: none left.
 * What is in it is sent at the end of the turn. */
MUST_USE struct buf *conn_wire(struct conn *c, size_t room);
/* conn_opened reports the end of the handshake; conn_peer_done the peer's end (close_notify);
 * conn_fail an error. Each reports once. */
void conn_opened(struct conn *c, int err);
void conn_peer_done(struct conn *c);
/* conn_secure tells the owner that the handshake of an open conn is done. */
void conn_secure(struct conn *c);
void conn_fail(struct conn *c, int err);

#endif
