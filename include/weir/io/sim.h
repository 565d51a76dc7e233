/* sim.h: the deterministic twin of the ring: a loop over an in-memory network with a virtual
 * clock. From one seed it draws short reads and writes, reordered completions, ENOBUFS, resets,
 * cancel races, refused connects and time jumps. Tests script peers through sim_* and step
 * workers' loops. Only tests and tools include it. One thread. */
#ifndef WEIR_IO_SIM_H
#define WEIR_IO_SIM_H

#include "weir/io/loop.h"

struct sim;      /* one world: clock, network, faults */
struct sim_peer; /* a scripted end of a connection that is not weir's */

/* sim_faults are chances in 1/1000 per event: a receive or send that does less than it could, an
 * op that completes some turns late, or is not taken by the kernel in one, a turn with its
 * completions shuffled, a receive that finds no buffer (or a multishot that ends, or an accept
 * without descriptors), a connection that breaks, a connect that is refused, a cancel that comes
 * too late, a clock that leaps up to five seconds. */
struct sim_faults {
  uint16_t short_read, short_write, delay, reorder, enobufs, reset, refuse, cancel_race, time_jump;
};

struct sim *sim_new(uint64_t seed, const struct sim_faults *faults);
/* sim_free: the loops must have been freed; peers that are left go with it. */
void sim_free(struct sim *sim);
/* sim_loop_new makes a worker's loop in this world; loop_free frees it. */
struct loop *sim_loop_new(struct sim *sim, const struct loop_config *config);
/* sim_loop_drive makes sim_step call turn(ctx), which must call loop_run_turn(loop, ...), instead
 * of loop_run_turn: for workers that do more in a turn. */
void sim_loop_drive(struct loop *loop, int (*turn)(void *ctx), void *ctx);
/* sim_listen_fd makes a listening descriptor of weir's at addr (for conn_listen). */
int sim_listen_fd(struct sim *sim, const struct addr *at);

/* sim_peer_connect is a client of weir: connects to a listener; when nobody listens it is told by
 * on_close (reset). sim_peer_listen serves an address that weir connects to: on_accept gets each
 * connection. sim_peer_blackhole never answers there. Bytes are queued without limit. */
struct sim_peer *sim_peer_connect(struct sim *sim, const struct addr *to);
void sim_peer_listen(struct sim *sim, const struct addr *at,
                     void (*on_accept)(struct sim_peer *p, void *ctx), void *ctx);
void sim_peer_blackhole(struct sim *sim, const struct addr *at);
void sim_peer_unlisten(struct sim *sim, const struct addr *at);
/* on_close comes once: the peer's FIN behind all its bytes, or a reset. It may free p; on_data may
 * not. */
void sim_peer_on_data(struct sim_peer *p,
                      void (*on_data)(struct sim_peer *p, struct span bytes, void *ctx),
                      void (*on_close)(struct sim_peer *p, bool reset, void *ctx), void *ctx);
void sim_peer_write(struct sim_peer *p, struct span bytes);
void sim_peer_shutdown(struct sim_peer *p); /* FIN after what is queued */
void sim_peer_reset(struct sim_peer *p);
/* sim_peer_window: reads at most this much until called again; SIZE_MAX (at first): all. */
void sim_peer_window(struct sim_peer *p, size_t bytes);
void sim_peer_free(struct sim_peer *p); /* closes: what comes later is answered by a reset */

/* Datagrams: sim_udp_fd makes a socket of weir's (for udp_listen), sim_udp_peer somebody else's,
 * until sim_udp_leave; sim_udp_send sends from any address, a forged one too. Datagrams arrive in
 * any order; faults.reset loses some, faults.refuse answers some with ICMP. */
int sim_udp_fd(struct sim *sim, const struct addr *at);
void sim_udp_peer(struct sim *sim, const struct addr *at,
                  void (*on_datagram)(struct sim *sim, const struct addr *from,
                                      struct span bytes, void *ctx),
                  void *ctx);
void sim_udp_leave(struct sim *sim, const struct addr *at);
void sim_udp_send(struct sim *sim, const struct addr *from, const struct addr *to,
                  struct span bytes);

/* sim_step runs one event of the world or one turn of a loop with something to do, or moves the
 * clock to the next timer; false when nothing can happen any more (deadlock is visible). sim_run
 * steps until then or max steps: how many it ran. */
bool sim_step(struct sim *sim);
uint64_t sim_run(struct sim *sim, uint64_t max_steps);
uint64_t sim_now_ms(const struct sim *sim);
/* sim_advance moves the clock; timers that become due fire in the next steps. */
void sim_advance(struct sim *sim, uint64_t ms);
/* sim_fds_open counts weir's descriptors still open: 0 after a clean end. */
uint32_t sim_fds_open(const struct sim *sim);
/* sim_draw is the world's generator, for tests that choose by the same seed: below `below`. */
uint64_t sim_draw(struct sim *sim, uint64_t below);

#endif
