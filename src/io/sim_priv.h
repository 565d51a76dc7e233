/* sim_priv.h: inside of the simulation: links (connections in memory), descriptors, loops. */
#ifndef WEIR_IO_SIM_PRIV_H
#define WEIR_IO_SIM_PRIV_H

#include "weir/base/list.h"
#include "weir/io/loop_ops.h"
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

enum sim_fd_kind { SIM_FD_FREE, SIM_FD_FRESH, SIM_FD_END, SIM_FD_PORT, SIM_FD_PIPE };

struct sim_fd {
  enum sim_fd_kind kind;
  struct sim_end *end;
  struct sim_port *port;
  struct sim_pipe *pipe;
  bool linger0;
};

#define SIM_FDS_MAX 65536u
/* SIM_FD_FIRST is above all real descriptors: a system call on one fails. */
#define SIM_FD_FIRST 1000000
#define SIM_LOOPS_MAX 16u

/* sim_op is a submission that has not ended. */
struct sim_op {
  struct list link; /* sim_loop.ops, in order of submission */
  uint64_t seq;
  uint32_t slot, generation;
  enum op op, target; /* target: of a cancel */
  int fd;
  const char *bytes;
  size_t len, done;
  bool multishot, cancelled;
  bool nowait; /* O_NONBLOCK was on */
  uint32_t delay; /* turns to wait still */
  struct addr to;
};

struct sim_loop {
  struct loop loop;
  struct sim *sim;
  struct list ops;
  uint64_t seq;
  uint32_t op_count;
  bool woken;
  int (*turn)(void *ctx);
  void *turn_ctx;
};

struct sim {
  uint64_t rng;
  struct sim_faults faults;
  uint64_t now_us;
  struct list links, peers, ports;
  struct sim_loop *loops[SIM_LOOPS_MAX];
  uint32_t loop_count;
  struct sim_fd *fds;
  uint32_t fds_open, pipes_open, fd_top; /* pipes are not counted among fds */
  uint16_t next_port;
};

bool sim_hit(struct sim *sim, uint16_t per_mille); /* sim.c */

/* sim_net.c */
void sim_bytes_put(struct sim_bytes *b, struct span s);
void sim_bytes_drop(struct sim_bytes *b, size_t len);
static inline struct span sim_bytes_span(const struct sim_bytes *b) {
  return span_of(b->ptr + b->off, b->len);
}
static inline struct sim_end *sim_other(const struct sim_end *e) {
  return &e->link->ends[e == &e->link->ends[0] ? 1 : 0];
}
struct sim_fd *sim_fd_get(struct sim *sim, int fd);
int sim_fd_new(struct sim *sim, enum sim_fd_kind kind);
void sim_fd_close(struct sim *sim, int fd);
void sim_pipe_new(struct sim *sim, int fds[2], size_t cap);
struct sim_port *sim_port_find(struct sim *sim, const struct addr *at);
/* sim_link_new joins two new ends; addresses are made up but for `to`. */
struct sim_link *sim_link_new(struct sim *sim, const struct addr *to);
void sim_link_free(struct sim_link *link);
/* sim_end_room is how much can be sent from e now. */
size_t sim_end_room(const struct sim_end *e);
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

/* loop_sim.c: has the loop something to do now? */
bool sim_loop_due(const struct sim_loop *l);

#endif
