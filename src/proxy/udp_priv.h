/* udp_priv.h: sessions of UDP: a client's address and port, the own ones that it sent to, and the
 * sockets to endpoints that its datagrams go by. Ports and whom they let in are front_udp.c, the
 * life of a session udp_session.c, the table that finds it udp_table.c. */
#ifndef WEIR_PROXY_UDP_PRIV_H
#define WEIR_PROXY_UDP_PRIV_H

#include "proxy/proxy_priv.h"
#include "weir/io/udp.h"

/* udp_key is the 4-tuple, without gaps: it is hashed and compared as bytes. Where a PROXY header
 * told of the client, it has what the client sent to (asked) and the proxy's address beside. */
struct udp_key {
  uint64_t port; /* the number of the udp_port */
  uint8_t client_ip[16], local_ip[16], proxy_ip[16], asked_ip[16];
  uint32_t interface; /* of link-local addresses; else 0 */
  uint16_t client_port, proxy_port, asked_port;
  uint8_t client_family, local_family; /* local: 0 where the port has but one address */
  uint8_t proxy_family, asked_family;  /* 0: the client sends itself */
  uint8_t zero[2];
};
_Static_assert(sizeof(struct udp_key) == 88, "no gaps");

/* udp_told is what the PROXY header of a datagram says; zero: there is none, or it is the proxy's
 * own. And what the gate found, if the datagram was to begin a session, or rates alone. */
struct udp_told {
  struct addr client, to;
  struct span id;     /* inside of the datagram */
  struct span reason; /* what is wrong with the header */
  struct guest guest;
};

/* udp_header is a session's PROXY header to endpoints, and the id in it, or in the client's. */
struct udp_header {
  struct slab_head head;
  uint8_t len, id_len; /* len 0: none was sent */
  char bytes[UDP_FRONT_MAX], id[PROXY_UNIQUE_ID_MAX];
};

/* udp_leg is one socket of a session; where each datagram is balanced there may be several. */
struct udp_leg {
  struct slab_head head;
  struct list link; /* session.legs */
  struct udp_session *session;
  struct udp *udp;
  struct endpoint *endpoint; /* pinned */
  bool answered;             /* told to passive health */
};

struct udp_session {
  struct slab_head head;
  struct udp_session *chain; /* in the table */
  struct list link;          /* port.fresh or port.steady */
  struct list legs;
  struct udp_leg *chosen; /* for the datagram that it began with */
  struct udp_port *port;
  struct udp_key key;
  struct timer timer;
  _Atomic uint64_t *counted; /* in the listener's table of clients; NULL: it is not */
  struct rate_state *watched; /* would have refused it, but for dry_run; pinned; NULL: none */
  struct endpoint *endpoint; /* of the first leg; pinned, for the log */
  uint64_t begun_ns, in, out, bytes_in, bytes_out;
  struct udp_header *header; /* NULL: no PROXY header was sent, and none with an id came */
  enum end trouble; /* of a leg that was given up, or a datagram that was dropped */
  uint64_t heard_ms; /* when the client's last datagram came; of a steady one */
  bool tells;        /* its pool's endpoints have PROXY headers */
  bool steady;       /* a datagram came after an answer: a source that is forged once has none */
};

/* udp_port is the datagram side of a serving. */
struct udp_port {
  struct serving *serving;
  struct udp *udp;
  uint64_t number;
  struct addr own;
  /* Sessions: the oldest first; those whose clients have been silent for longest first. */
  struct list fresh, steady;
  uint32_t session_count;
  bool leaving; /* no new sessions; it goes with the last one, at the latest when timer rings */
  bool retired; /* hears no more: what came before is handed on, then it closes */
  uint8_t looks, quiet_looks; /* for that; the last ones, that found nothing */
  struct timer timer;
  /* Of the listener, also when that has left: */
  uint32_t idle_ms;
  struct listener_udp settings;
  uint8_t proxied; /* enum listener_proxied */
};

/* udp_table finds sessions by key. Its buckets are made once, as many as there can be sessions. */
struct udp_table {
  struct udp_session **buckets;
  uint32_t mask, count;
};
void udp_table_init(struct udp_table *t, uint32_t sessions_max);
void udp_table_fini(struct udp_table *t);
struct udp_session *udp_table_find(const struct udp_table *t, const struct udp_key *key);
void udp_table_add(struct udp_table *t, struct udp_session *s); /* by s->key, which is not there */
void udp_table_remove(struct udp_table *t, struct udp_session *s);

/* udp_front is what a worker has for UDP, from its first listener on. */
struct udp_front {
  struct udp_table table;
  struct slab sessions, legs, headers;
  uint64_t ports; /* made so far */
};

/* ---- udp_session.c ---- */
/* udp_session_begin begins one for a client that was let in, on a port with a current listener,
 * and takes guest->counted; NULL and *why: it could not be, and there is nothing to end. */
struct udp_session *udp_session_begin(struct udp_port *p, const struct udp_key *key,
                                      const struct guest *guest, enum end *why);
/* udp_session_watch: rate (NULL: none) would have refused s or one of its questions (dry_run). */
void udp_session_watch(struct udp_session *s, struct rate_state *rate);
/* udp_session_up passes a datagram of the client on; the session may end. */
void udp_session_up(struct udp_session *s, struct udp_datagram *d, const struct udp_told *told);
/* udp_session_stays is false when its endpoint left, and there is another one. */
bool udp_session_stays(const struct udp_session *s);
/* udp_session_end ends it; its port may go with it. */
void udp_session_end(struct udp_session *s, enum end end);

/* ---- proxied_udp.c ---- */
/* udp_hear takes the PROXY header off d, if it has one; l is the listener now, NULL: it is gone.
 * END_OK, or why the datagram is to be dropped. */
enum end udp_hear(const struct udp_port *p, const struct listener *l, struct udp_datagram *d,
                  struct udp_told *told);
/* udp_tell puts the header for endpoints of pool (NULL: it is gone) before d; false: they do not
 * fit into a datagram. */
MUST_USE bool udp_tell(struct udp_session *s, const struct pool *pool, struct udp_datagram *d,
                       const struct udp_told *told);
/* udp_id is the id that was sent, or came; empty: neither. */
struct span udp_id(const struct udp_session *s);

/* ---- front_udp.c ---- */
void udp_port_session_gone(struct udp_port *p);
/* udp_make_room ends the session that has the least to lose, but for `whose`, for one of p's: of
 * what all sessions of the worker share; false: none may be ended. */
bool udp_make_room(struct udp_port *p, const struct udp_session *whose);
/* udp_client is whose session it is, udp_peer who sends the datagrams: a proxy in front. */
void udp_client(const struct udp_session *s, struct addr *out);
void udp_peer(const struct udp_session *s, struct addr *out);
static inline struct worker *udp_worker(const struct udp_port *p) { return p->serving->w; }

/* ---- access.c ---- */
void access_session(const struct udp_session *s, enum end end);

#endif
