/* sim_priv.h: inside of the simulation: descriptors, operations, loops. The network they stand on
 * is sim_net_priv.h. */
#ifndef WEIR_IO_SIM_PRIV_H
#define WEIR_IO_SIM_PRIV_H

#include "io/sim_net_priv.h"
#include "io/udp_priv.h"
#include "weir/io/loop_ops.h"

enum sim_fd_kind { SIM_FD_FREE, SIM_FD_FRESH, SIM_FD_END, SIM_FD_PORT, SIM_FD_PIPE, SIM_FD_UDP };

struct sim_dport;
struct sim_dgram;

struct sim_fd {
  enum sim_fd_kind kind;
  struct sim_end *end;
  struct sim_port *port;
  struct sim_pipe *pipe;
  struct sim_dport *dport;
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
  bool ended;  /* with res, which its conn is yet to be told (sim_quiet.c) */
  int32_t res;
  uint32_t delay; /* turns to wait still */
  struct addr to;
};

struct sim_loop {
  struct loop loop;
  struct sim *sim;
  struct list ops;
  struct list quiet_queued, quiet_gone; /* sim_quiet.c: sends that are not in ops: yet to be
                                           taken; gone whole, of which nobody was told */
  bool quiet_late;                      /* these have to wait for the next turn */
  struct list udp_ops;        /* sim_udp.c */
  struct sim_dgram *udp_lent; /* the one that is being handed up */
  uint32_t udp_out;           /* those that are lent to sends */
  uint64_t seq;
  uint32_t op_count;
  bool woken;
  uint32_t asked; /* questions for the clock in this turn */
  int (*turn)(void *ctx);
  void *turn_ctx;
};

struct sim {
  uint64_t rng;
  struct sim_faults faults;
  uint64_t now_us;
  struct list links, peers, ports;
  struct list dports, dgrams; /* sim_udp.c */
  uint64_t dgram_count;
  struct sim_loop *loops[SIM_LOOPS_MAX];
  uint32_t loop_count;
  struct sim_fd *fds;
  uint32_t fds_open, pipes_open, fd_top; /* pipes are not counted among fds */
  uint16_t next_port;
};

bool sim_hit(struct sim *sim, uint16_t per_mille); /* sim.c */

/* sim_net.c */
struct sim_fd *sim_fd_get(struct sim *sim, int fd);
/* sim_end_of: fd is a connection's. */
struct sim_end *sim_end_of(struct sim *sim, int fd);
int sim_fd_new(struct sim *sim, enum sim_fd_kind kind);
void sim_fd_close(struct sim *sim, int fd);
void sim_pipe_new(struct sim *sim, int fds[2], size_t cap);

/* sim_udp.c */
extern const struct udp_ops sim_udp_ops;
void sim_udp_init(struct sim *sim);
void sim_udp_free(struct sim *sim);
void sim_udp_step(struct sim *sim, uint64_t which); /* the datagram of that number arrives */
void sim_udp_fd_close(struct sim_dport *p);
void sim_udp_turn(struct sim_loop *l);
bool sim_udp_due(struct sim_loop *l);
void sim_udp_loop_free(struct sim_loop *l);

/* sim_quiet.c */
void sim_quiet_init(struct sim_loop *l);
void sim_quiet_free(struct sim_loop *l);
/* sim_quiet_send: o may be quiet. */
void sim_quiet_send(struct sim_loop *l, struct sim_op *o);
/* sim_quiet_submit comes before a wait; false: no submission was taken. */
bool sim_quiet_submit(struct sim_loop *l);
/* sim_quiet_settle tells of those that went, behind a wait. */
void sim_quiet_settle(struct sim_loop *l);
/* sim_quiet_due: the loop is not to wait. */
bool sim_quiet_due(const struct sim_loop *l);

/* sim_ops.c */
bool sim_op_ready(const struct sim_loop *l, const struct sim_op *o);
void sim_op_drop(struct sim_loop *l, struct sim_op *o);
/* sim_ops_end ends those that are ready, or some of them. */
void sim_ops_end(struct sim_loop *l);

/* loop_sim.c: has the loop something to do now? */
bool sim_loop_due(struct sim_loop *l);

#endif
