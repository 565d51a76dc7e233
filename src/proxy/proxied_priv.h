/* proxied_priv.h: who is at the other end of a client connection, and what PROXY headers tell of
 * it (proxied.c reads them, proxied_out.c writes them). */
#ifndef WEIR_PROXY_PROXIED_PRIV_H
#define WEIR_PROXY_PROXIED_PRIV_H

#include "weir/base/addr.h"
#include "weir/base/slab.h"
#include "weir/http/proxy_header.h"

struct down;
struct pool;
struct stream;

/* peer is an IP address and port, kept small; AF_UNIX: a unix socket, whatever its name. */
struct peer {
  uint8_t family;
  uint16_t port;
  uint8_t ip[16];
};
void peer_keep(struct peer *p, const struct addr *a);
void peer_addr(const struct peer *p, struct addr *out);

/* proxied is what is kept of a connection whose PROXY header tells of another one. */
struct proxied {
  struct slab_head head;
  struct peer socket; /* who connected: the proxy in front */
  struct peer to;     /* what the client connected to */
  struct proxied_id *id; /* NULL: its header had none */
};

/* proxied_id is what a header calls its connection (UNIQUE_ID). */
struct proxied_id {
  struct slab_head head;
  uint8_t len;
  char bytes[PROXY_UNIQUE_ID_MAX];
};

/* ---- proxied.c, proxied_out.c ---- */
/* proxied_start waits for the PROXY header of a connection that peer made; then it goes on as any
 * other. */
void proxied_start(struct down *d, const struct addr *peer);
/* proxied_id_of is what the PROXY header of the connection calls it; proxied_free gives back what
 * is kept of that header. */
struct span proxied_id_of(const struct down *d);
void proxied_free(struct down *d);
/* proxied_draw_id makes an id: 2 * PROXIED_ID_BYTES hex digits, as a trace id has. */
#define PROXIED_ID_BYTES 16u
void proxied_draw_id(char *to);
/* proxied_write appends the PROXY header that tells an endpoint of pool of the client of s, and
 * gives s its id where it has none yet. False: there is no room; in out PROXIED_ROOM is enough. */
#define PROXIED_ROOM 1536u
MUST_USE bool proxied_write(struct stream *s, const struct pool *pool, struct buf *out);

#endif
