/* listen.h: listening descriptors on a loop. Part of conn.h, which includes it. */
#ifndef WEIR_IO_LISTEN_H
#define WEIR_IO_LISTEN_H

#include "weir/base/check.h"

struct addr;
struct conn;
struct loop;

/* conn_listen puts a bound and listening descriptor on the loop; on_accept gets each new conn
 * (flags CONN_OPEN, not reading, no events yet: the owner calls conn_attach at once or
 * conn_close), and NULL when the listener has stopped (conn_listen_stop). The loop owns fd from
 * now on. NULL at the slab's limit. */
MUST_USE struct conn *conn_listen(struct loop *loop, int fd,
                                  void (*on_accept)(struct conn *listener, struct conn *c),
                                  void *owner);
/* conn_peer_left, of one that conn_peer does not know: whose it was that is reset already; false
 * also when no bytes are left in it. */
bool conn_peer_left(struct conn *c, struct addr *out);
/* conn_listen_pause stops accepting (the queue stays); conn_listen_resume goes on. */
void conn_listen_pause(struct conn *listener);
void conn_listen_resume(struct conn *listener);
/* conn_listen_defer sets TCP_DEFER_ACCEPT: for protocols where the client speaks first; 0: accept
 * at once. conn_listen leaves it as it is (LISTEN_DEFER_KEEP). */
#define LISTEN_DEFER_KEEP UINT32_MAX
/* LISTEN_DEFER_SECONDS is for how long at most: a client that connects and stays silent is given
 * to accept then all the same (after 7 seconds: the system counts in SYN-ACKs). */
#define LISTEN_DEFER_SECONDS 5u
void conn_listen_defer(struct conn *listener, uint32_t seconds);
/* conn_listen_drain accepts what is queued (on_accept for each, at most 4096; how many): to be
 * called right before conn_close of a listener, which would reset them. */
uint32_t conn_listen_drain(struct conn *listener);
/* conn_listen_stop closes a listener 50 ms later, and nobody is reset by it: who has been let in,
 * or is in the middle of TCP's handshake, is still accepted, and then on_accept is called with
 * NULL: the owner must not use the listener from then on. deaf: a TCP socket answers no SYN any
 * more (its client sends it again after a second); not for a socket that others go on with. */
void conn_listen_stop(struct conn *listener, bool deaf);

#endif
