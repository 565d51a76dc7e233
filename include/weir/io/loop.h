/* loop.h: a completion loop, one per worker: the io_uring ring (loop_uring.c), a seeded simulation
 * (loop_sim.c), later epoll. It moves bytes for conns (conn.h) and knows nothing of protocols.
 * Time below the loop is an argument: `now_ms` is read once per turn. One thread owns a loop; only
 * loop_wake may be called from others. */
#ifndef WEIR_IO_LOOP_H
#define WEIR_IO_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "weir/base/addr.h"
#include "weir/base/list.h"
#include "weir/base/slab.h"
#include "weir/base/wheel.h"
#include "weir/io/iobuf.h"

struct conn;
struct loop_ops;
struct tls_worker;

/* loop_stats are this worker's counters: written by its thread alone (loop_stat_add: no locked
 * instruction), read by any with loop_stat_get. */
struct loop_stats {
  _Atomic uint64_t turns, completions, submits;
  _Atomic uint64_t enobufs;      /* receives that found no provided buffer */
  _Atomic uint64_t parked;       /* those of them that had to wait for one */
  _Atomic uint64_t memory_waits; /* bodies that had to wait for an iobuf */
  _Atomic uint64_t accepts, accept_errors;
  _Atomic uint64_t accept_no_fds; /* of these errors: no descriptor was left */
  _Atomic uint64_t spliced_bytes, copied_bytes; /* by relays */
  _Atomic uint64_t busy_ns;                     /* time spent outside the wait */
  _Atomic uint64_t lag_max_ns;    /* longest turn since lag_since_ms; read loop_lag_max_ns */
  _Atomic uint64_t lag_before_ns; /* longest turn of the interval before it */
  _Atomic uint64_t lag_since_ms;
  _Atomic uint64_t buffers_total; /* provided buffers now */
};

static inline uint64_t loop_stat_get(const _Atomic uint64_t *stat) {
  return atomic_load_explicit(stat, memory_order_relaxed);
}
static inline void loop_stat_set(_Atomic uint64_t *stat, uint64_t value) {
  atomic_store_explicit(stat, value, memory_order_relaxed);
}
static inline void loop_stat_add(_Atomic uint64_t *stat, uint64_t more) {
  loop_stat_set(stat, loop_stat_get(stat) + more);
}
/* loop_lag_max_ns is the longest turn of the last one to two LOOP_LAG_INTERVAL_MS: the same for
 * each who asks, and 0 for a loop that has slept since. Any thread. */
#define LOOP_LAG_INTERVAL_MS 15000u
uint64_t loop_lag_max_ns(const struct loop_stats *stats, uint64_t now_ms);

/* loop is the common head; implementations embed it first. */
struct loop {
  const struct loop_ops *ops;
  uint64_t now_ms;  /* CLOCK_MONOTONIC at the start of this turn's completions */
  uint64_t now_ns;  /* the same in ns */
  uint64_t wall_ms; /* CLOCK_REALTIME, ms since the epoch */
  struct wheel wheel;
  struct slab conns; /* struct conn */
  uint32_t lingering; /* of them, those with a socket that were closed gently, and wait */
  struct slab udps;  /* struct udp */
  struct list udp_starved; /* of them, those whose receive found no buffer */
  struct iobufs iobufs;
  struct list dirty;       /* conns with work for the end of the turn (conn.dirty_link) */
  struct list carriers;    /* the same, of conns that carry others: after those */
  struct list later, later_next; /* conns that used up their share (conn.later_link): those of this
                                    round and, behind them, of the next one */
  uint64_t later_ms; /* when this round began */
  struct list starved;     /* conns parked on ENOBUFS (conn.starved_link) */
  struct list parked;      /* conns whose bodies wait for an iobuf, oldest first (starved_link) */
  struct list dead;        /* conns to free at the end of the turn (conn.dirty_link) */
  struct pipe_pool *pipes; /* pipe_pool.c */
  struct tls_worker *tls;  /* tls_conn.c; NULL before the first tls_accept */
  void (*tls_free)(struct loop *loop); /* set with tls */
  void (*tls_trim)(struct loop *loop); /* set with tls; may stay NULL */
  void (*on_wake)(struct loop *loop);
  /* budget_run goes on with work that was put off to bound a turn (TLS handshakes); true: more is
   * left. Set by who has such work; NULL: nobody. */
  bool (*budget_run)(struct loop *loop);
  bool budget_left;
  /* share_ns is how long a turn goes on with what can wait (`later`, loop_share_over), before its
   * wait and after it; set by the owner. UINT64_MAX: as long as there is some. */
  uint64_t share_ns, share_to_ns;
  uint64_t owed_ns; /* what the kernel will do at the submit of this turn takes about so long */
  uint64_t due_ns; /* what conns will add to it that have to send, at the end of the turn */
  void *owner;   /* the worker */
  uint32_t fds_most; /* conn_connect takes no descriptor from this number on, which are left for
                        accepting: -EMFILE. 0: any */
  uint64_t rng;
  struct loop_stats stats;
};

/* loop_config sizes a loop. 0 stands for the default in each but conns_max and seed. */
struct loop_config {
  uint32_t conns_max;     /* conns, listeners included; below 2^24 */
  uint32_t ring_entries;  /* submission entries, power of two: 256 (ring only) */
  uint32_t buffers_first; /* provided buffers at first: 64 (ring only) */
  uint32_t buffers_max;   /* to which they double on need, power of two: 1024 (ring only) */
  uint32_t buffer_bytes;  /* of one: 4096 (ring only) */
  size_t iobuf_bytes_max; /* output and body buffers: 8 KiB per conn, at least 64 MiB */
  uint64_t seed;          /* rng and simulation */
};

/* loop_uring_new makes a ring loop; NULL with a person's sentence in why (the call that was
 * refused and the remedy: kernel.io_uring_disabled, seccomp of a container, RLIMIT). The calling
 * thread becomes its owner (SINGLE_ISSUER). */
MUST_USE struct loop *loop_uring_new(const struct loop_config *config, struct buf *why);
/* loop_uring_probe tries a small ring and drops it: 0 or -errno, sentence in why. */
MUST_USE int loop_uring_probe(struct buf *why);

/* loop_run_turn runs one turn: sends of the dirty list, wait, completions, timers, put-off work,
 * sends again, frees dead conns. until_ms caps the wait. 0 or -errno. */
MUST_USE int loop_run_turn(struct loop *loop, uint64_t until_ms);
/* loop_share_over: what can wait for the next turn is to wait from now on; reads the clock. */
bool loop_share_over(const struct loop *loop);
/* loop_later_ms is how long the round of `later` has lasted of which some still wait. */
uint64_t loop_later_ms(const struct loop *loop);
/* loop_wake ends the wait of the owner's turn and calls on_wake there. Any thread. */
void loop_wake(struct loop *loop);
/* loop_trim gives memory of idle pools back (buffers, iobufs, slabs): call about once a second. */
void loop_trim(struct loop *loop);
/* loop_free closes what is left, without events, and frees the loop. */
void loop_free(struct loop *loop);

#endif
