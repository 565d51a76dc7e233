/* upconn.h: connections to endpoints, and streams of those that carry many: taken, opened, given
 * back. Included by upstream.h. */
#ifndef WEIR_UPSTREAM_UPCONN_H
#define WEIR_UPSTREAM_UPCONN_H

#include "weir/base/end.h"
#include "weir/io/conn.h"
#include "weir/model/model.h"

struct upstream;

/* upconn is one connection to an endpoint, or a stream of one; it pins the endpoint, and holds the
 * permit of a connection of its own. */
struct upmux;
struct upconn {
  struct slab_head head;
  struct list link; /* in endpoint_row.idle */
  struct upstream *up;
  struct conn *conn;
  struct upmux *mux; /* NULL: HTTP/1; else the connection that carries conn, and has the permit */
  const struct tls_client *tls; /* policy that it was opened under; NULL: plaintext */
  struct endpoint *endpoint;
  void *owner; /* the stream that uses it; NULL when idle */
  uint32_t requests;     /* sent on it */
  uint32_t requests_max; /* 0: no limit */
  uint64_t begun_ms;     /* a stream: opened then */
  bool shared;           /* a stream of a connection that was not idle, or not quiet */
};

/* attempt_to is who asks for a connection, or for a stream of one. */
struct attempt_to {
  const struct conn_events *events;
  void *owner;
  struct span first; /* goes before all else, TLS too, on a new connection (a PROXY header) */
  bool alone;   /* a stream: of a new connection that never has another one: nobody else loses it
                   with this one, or is told of by its header */
  bool settled; /* it has to know what the endpoint's HTTP/2 can do */
  bool once;    /* what goes cannot be sent again: not while nobody knows how many streams the
                   endpoint takes. Those beyond that ask anew (H2_ANEW_FULL) */
};

/* upconn_way is how requests reach an endpoint. */
enum upconn_way {
  UPCONN_HTTP_1, /* upconn_checkout, else upconn_connect */
  UPCONN_STREAM, /* upconn_stream */
  UPCONN_ASK,    /* upconn_checkout, else upconn_stream: what the endpoint speaks it says in its
                    handshake (ALPN). HTTP/1.1: all who wait ask anew (H2_ANEW_PROTOCOL); the
                    connection is idle then, and serves the first of them. Who was alone has it
                    already (upconn_inherit). */
};
enum upconn_way upconn_way(const struct upstream *u, const struct pool *pool,
                           const struct endpoint *e);

/* upconn_bare: HTTP/2 of e is known to take no extended CONNECT (RFC 8441), so that an upgrade
 * needs HTTP/1.1; upconn_bare_set says so, or that HTTP/1.1 was refused. */
bool upconn_bare(const struct upstream *u, const struct endpoint *e);
void upconn_bare_set(const struct upstream *u, struct endpoint *e, bool bare);
/* upconn_checkout takes the idle connection used last that the pool's policy allows, or NULL.
 * requests is 1 when it has not carried any yet. */
struct upconn *upconn_checkout(struct upstream *u, const struct pool *pool, struct endpoint *e,
                               void *owner);
/* upconn_connect opens one (a permit first). NULL and *err: -EAGAIN no permit (wait), -ENOMEM no
 * slot, -ENOBUFS no room for to->first, -errno. on_open of to->events follows. */
MUST_USE struct upconn *upconn_connect(struct upstream *u, const struct pool *pool,
                                       struct endpoint *e, const struct attempt_to *to, int *err);
/* upconn_stream takes a stream of an HTTP/2 connection to e (pools.*.connections.protocol): of one
 * that is there, else of a new one. *reused: it can be sent on already; else on_open tells, which
 * may be to ask anew (h2_asks_anew): who hears that closes it and asks for another one. NULL and
 * *err as upconn_connect, but no room for to->first is -ENOMEM. */
MUST_USE struct upconn *upconn_stream(struct upstream *u, const struct pool *pool,
                                      struct endpoint *e, const struct attempt_to *to,
                                      bool *reused, int *err);
/* upconn_others_do: c waits for a stream, and its time to connect is over: others that are there
 * have room, and take who asks anew now. */
MUST_USE bool upconn_others_do(const struct upconn *c);
/* upconn_inherit, where c is to ask anew: c was alone, and the connection that it waited for is
 * c's own, one of HTTP/1.1, open, and its events go to `on`. False: it was not; c is as it
 * was. */
MUST_USE bool upconn_inherit(struct upconn *c, const struct conn_events *on);
/* upconn_release puts a clean connection (nothing is owed) back into the pool, or closes it. */
void upconn_release(struct upconn *c, const struct pool_connections *settings);
/* upconn_tls_end is what TLS says of a connection that failed (late: that was not open in time);
 * END_OK: it is not TLS's fault. *why: in words, of the library; may be NULL. */
enum end upconn_tls_end(const struct upconn *c, bool late, struct span *why);
/* upconn_yield: a connection that this one shares takes no more streams, and ends after those that
 * it has: its permit is wanted elsewhere. */
void upconn_yield(struct upconn *c);
/* upconn_close closes it; reset sends RST. */
void upconn_close(struct upconn *c, bool reset);

#endif
