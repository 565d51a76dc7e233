/* sim_net_priv.h: the simulated network: links (connections in memory), their ends, peers, ports
 * and pipes (sim_net.c, sim_peer.c). */
#ifndef WEIR_IO_SIM_NET_PRIV_H
#define WEIR_IO_SIM_NET_PRIV_H

#include "weir/base/list.h"
#include "weir/io/sim.h"

/* sim_bytes is a queue of bytes on the heap. */
struct sim_bytes {
  char *ptr;
  size_t off, len, cap; /* len counts from off */
};

/* sim_end is one side of a link. What the other side sends is first on its way (net), then here.
 */
struct sim_end {
  struct sim_link *link;
  struct sim_peer *peer; /* NULL: weir's, or closed */
  struct addr self;
  struct sim_bytes net, rcv;
  bool net_fin, fin; /* the other's FIN is on its way; is here */
  bool net_rst;      /* a reset is on its way, ahead of all bytes */
  int err;           /* -errno to be told once by the next read or write; 0: none */
  bool dead;         /* reset: nothing moves any more */
  bool fin_sent, closed;
  uint64_t taken; /* bytes read here since it began */
};

struct sim_link {
  struct list link; /* sim->links */
  struct sim *sim;
  struct sim_end ends[2];
  size_t window; /* bytes that may be on the way and unread, each direction */
};

struct sim_peer {
  struct list link; /* sim->peers */
  struct sim *sim;
  struct sim_end *end; /* NULL: never connected */
  void (*on_data)(struct sim_peer *p, struct span bytes, void *ctx);
  void (*on_close)(struct sim_peer *p, bool reset, void *ctx);
  void *ctx;
  size_t window;
  bool told; /* on_close was called */
};

/* sim_port is an address where somebody listens. */
struct sim_port {
  struct list link; /* sim->ports */
  struct addr at;
  bool blackhole;
  bool weirs;
  bool deaf; /* weir's: takes no new connection */
  void (*on_accept)(struct sim_peer *p, void *ctx);
  void *ctx;
  struct sim_end *queue[1024]; /* weir's: connections not accepted yet */
  uint32_t queued;
};

/* sim_pipe is what two descriptors share. */
struct sim_pipe {
  struct sim_bytes bytes;
  size_t cap;
  int ends; /* open descriptors */
};

/* sim_net.c */
void sim_bytes_put(struct sim_bytes *b, struct span s);
void sim_bytes_drop(struct sim_bytes *b, size_t len);
static inline struct span sim_bytes_span(const struct sim_bytes *b) {
  return span_of(b->ptr + b->off, b->len);
}
static inline struct sim_end *sim_other(const struct sim_end *e) {
  return &e->link->ends[e == &e->link->ends[0] ? 1 : 0];
}
struct sim_port *sim_port_find(struct sim *sim, const struct addr *at);
/* sim_port_take gives the first connection that waits there a descriptor of weir's. */
int sim_port_take(struct sim *sim, struct sim_port *port);
/* sim_link_new joins two new ends; addresses are made up but for `to`. */
struct sim_link *sim_link_new(struct sim *sim, const struct addr *to);
void sim_link_free(struct sim_link *link);
/* sim_end_room is how much can be sent from e now. */
size_t sim_end_room(const struct sim_end *e);
/* sim_end_writable tells whether a poll finds room: a third of the window, as Linux has it. */
static inline bool sim_end_writable(const struct sim_end *e) {
  return sim_end_room(e) * 3 >= e->link->window;
}
/* sim_end_refuses is the -errno that a send from e meets, told once; 0: none. */
int sim_end_refuses(struct sim_end *e);
/* sim_end_read is recv(2): bytes first, then the error, then the end. */
ssize_t sim_end_read(struct sim *sim, struct sim_end *e, char *into, size_t cap);
/* sim_end_send queues bytes on their way; sim_end_finish a FIN behind them. */
void sim_end_send(struct sim_end *e, struct span bytes);
void sim_end_finish(struct sim_end *e);
/* sim_end_reset breaks e: the other side learns of it. */
void sim_end_reset(struct sim_end *e);
void sim_end_close(struct sim_end *e, bool hard);
static inline bool sim_end_readable(const struct sim_end *e) {
  return e->rcv.len > 0 || e->fin || e->err || e->dead;
}
/* sim_net_step runs one random event of the network or a peer; false: there is none. */
bool sim_net_step(struct sim *sim);
/* sim_peer.c */
bool sim_peer_due(const struct sim_peer *p);
void sim_peer_run(struct sim_peer *p);
struct sim_peer *sim_peer_new(struct sim *sim, struct sim_end *end);

#endif
