/* down_priv.h: client connections (down.c). A down is small, because idle ones are many. What a
 * request needs hangs off its stream (stream_priv.h). */
#ifndef WEIR_PROXY_DOWN_PRIV_H
#define WEIR_PROXY_DOWN_PRIV_H

#include "proxy/proxied_priv.h"
#include "proxy/room_priv.h"
#include "weir/io/conn.h"
#include "weir/model/model.h"

struct guest;
struct h2;
struct rate_state;
struct rest;
struct serving;
struct stream;
struct timer;
struct tls_info;
struct worker;

enum down_flag {
  DOWN_OVER_LIMIT = 1, /* accepted beyond max_connections: gets a 503 */
  DOWN_CLOSE = 2,      /* no further request */
  DOWN_TLS = 4,
  DOWN_EOF = 8,        /* the client sent FIN */
  DOWN_BLOCKED = 16,   /* OUT_HIGH is pending: the next request waits */
  DOWN_IN_DATA = 32,   /* inside on_data: reading goes on by its return value */
  DOWN_BUSY = 64,      /* HTTP/2: it has streams */
  /* while a PROXY header is waited for: */
  DOWN_TRUSTED = 128, /* who connected may send one */
  DOWN_UNSURE = 256,  /* there need not be one */
  DOWN_TCP = 512,     /* its listener serves TCP (front_tcp.c) */
  DOWN_STALE = 1024,  /* its listener asks for other client certificates now (stale.c) */
  DOWN_STALE_DUE = 2048, /* the timer ends it */
  DOWN_PLAIN = 4096,     /* begun without TLS */
  /* in which line it stands (room.c); neither: it is busy */
  DOWN_OWING = 8192,  /* worker.owing */
  DOWN_IDLE = 16384,  /* worker.idle */
  DOWN_SPARED = 32768, /* it was passed over in its line, for bytes that may begin a request */
};

/* down is one client connection; small, because idle ones are many. */
struct down {
  struct slab_head head;
  struct conn *conn;
  struct serving *serving;
  struct stream *stream; /* NULL: between requests */
  struct h2 *h2;         /* NULL: HTTP/1 */
  union {
    struct rest *rest;          /* HTTP/1; NULL: nothing of the last request is left (rest.c) */
    struct rate_state *watched; /* DOWN_TCP: refused it, or would have but for dry_run; pinned */
  };
  union {
    struct room_place place; /* DOWN_OWING or DOWN_IDLE */
    uint32_t round;          /* HTTP/2 with streams: of its last further one (begin.c) */
  };
  uint16_t flags;
  uint8_t still;      /* DOWN_BLOCKED: looks in a row at which nothing had moved */
  /* Requests that the client reset: lines of them in the access log in that second, and how many
   * had none (access.c). */
  uint8_t reset_lines;
  struct list link;          /* serving.downs */
  _Atomic uint64_t *counted; /* in the listener's table of clients; NULL: it is not */
  struct proxied *proxied;   /* NULL: client is who connected */
  uint32_t tls_us;           /* handshake time, until the first request logs it; 0: none */
  uint32_t requests;
  struct peer client; /* whose connection it is, by its PROXY header too */
  uint16_t reset_second, resets_untold; /* the second: low bits */
};

_Static_assert(sizeof(struct down) <= 128, "two lines of cache: idle ones are many");

static inline bool down_has_rest(const struct down *d) {
  return !(d->flags & DOWN_TCP) && d->rest;
}

/* ---- down.c ---- */
/* down_new makes one of a connection that sv accepted from peer; NULL: no slot is left. */
struct down *down_new(struct serving *sv, struct conn *c, const struct addr *peer);
/* down_let_in keeps what the gate found of it. */
void down_let_in(struct down *d, const struct guest *guest);
/* down_rate is the rate that would have refused it, or did after its PROXY header; NULL: none. */
struct rate_state *down_rate(const struct down *d);
/* down_start gives it to those who serve it: nothing of the connection was read, or its PROXY
 * header only. False: there is no room, close it. */
MUST_USE bool down_start(struct down *d);
/* down_patience_ms is how much of `ms` (0: no bound) is left to a client that has not begun yet:
 * where its connection ends soon, what one between requests has (front_h1_next, stale.c). */
uint32_t down_patience_ms(const struct down *d, uint32_t ms);
/* down_close ends it; gently: what is queued is sent, and the client may read it to its end. */
void down_close(struct down *d, bool gently);
/* down_abort ends it as truncation: what was sent must not look complete. */
void down_abort(struct down *d);
/* first_on_* are events of those who read what comes before TLS or HTTP (proxied.c, front_pass.c):
 * the connection was open, and nobody is told when it breaks. */
void first_on_open(struct conn *c, int err);
void first_on_error(struct conn *c, int err);
void first_on_drained(struct conn *c);
/* down_peer is the connection's client, by its PROXY header too; down_socket is who connected. */
void down_peer(const struct down *d, struct addr *out);
void down_socket(const struct down *d, struct addr *out);
/* down_count_handshake: the client's TLS handshake is done. */
void down_count_handshake(struct down *d, const struct tls_info *info);
/* down_count_unshaken: it is not, and will not be. */
void down_count_unshaken(const struct down *d);
/* down_unshaken counts and ends one whose handshake failed; status is what it was told. */
void down_unshaken(struct down *d, enum end end, uint16_t status);
/* down_lost is why its connection failed after that: TLS may know; else `otherwise`. */
enum end down_lost(const struct down *d, enum end otherwise);
/* down_late is the end of a handshake whose time is over. */
enum end down_late(const struct down *d);
/* ---- stale.c ---- */
/* stale_install looks at all connections of a listener that is another one now, stale_check at one
 * whose handshake is done. */
void stale_install(struct serving *sv);
void stale_check(struct down *d);
void stale_on_timer(struct timer *timer, uint64_t now);
#endif
