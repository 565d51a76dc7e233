/* worker.h: one thread, one loop, its connections and streams. The control thread talks to it by
 * messages; nothing else is shared but what model/object.h and stats.h say. */
#ifndef WEIR_PROXY_WORKER_H
#define WEIR_PROXY_WORKER_H

#include "weir/base/spsc.h"
#include "weir/io/loop.h"
#include "weir/model/model.h"
#include "weir/proxy/stats.h"

struct worker;

/* worker_group lets workers of one process wake each other; made once, freed after all workers. */
struct worker_group;
struct worker_group *worker_group_new(void);
void worker_group_free(struct worker_group *group);

struct worker_config {
  uint32_t index;
  uint32_t workers;           /* in the process: shares of limits */
  struct worker_group *group; /* NULL: alone */
  struct loop *loop;      /* the worker owns it from now on */
  struct spsc *log;       /* this worker's ring to the log thread, or NULL: no access log */
  bool access_log;        /* access records are wanted (events always are, when log is set) */
  uint32_t sample_ppm;    /* of access records with end=ok; others are always written */
  /* Requests in flight, all in all, and those beyond the first of each client connection (HTTP/2
   * has many on one): a bound of memory, about 5 KiB each while they wait. further 0: no bound of
   * their own. */
  uint32_t streams_max, streams_further;
  /* Numbers of descriptors from which on none is used for endpoints, and none for the further
   * streams of a client or for sessions of UDP: the rest is left for accepting (loop.fds_most). 0:
   * any is. */
  uint32_t fds_most, fds_further;
  void (*wake_log)(void *ctx);     /* cheap; called when a record was written and the log sleeps */
  void (*notify)(void *ctx, struct worker *w); /* an ack changed, or it stopped; any cheap wake */
  void *ctx;
};

enum worker_msg_kind {
  WORKER_INSTALL,  /* snapshot: use it from now on; ack = seq */
  WORKER_LISTEN,   /* fd, state: serve this listening descriptor under the listener of that name */
  WORKER_RENAME,   /* fd, of UDP: with the snapshot that is installed next it is state's, another
                      listener's, with all sessions there are */
  WORKER_UNLISTEN, /* fd: accept until EAGAIN, then close; idle conns of it are closed, busy ones
                      drain */
  WORKER_DRAIN,    /* deadline_ms: idle keepalives close, "Connection: close", at the deadline all
                      ends */
  WORKER_STOP,     /* everything closes, worker_run returns */
  WORKER_FORGET,   /* id: series that name it are dropped */
  WORKER_LOG,      /* access_log, sample_ppm */
};

/* worker_msg is allocated by the sender (mem_alloc) and freed by the worker. */
struct worker_msg {
  struct worker_msg *next;
  enum worker_msg_kind kind;
  uint64_t seq;
  struct snapshot *snapshot;
  struct listener_state *state; /* LISTEN, RENAME, UNLISTEN */
  int fd;
  bool datagrams; /* LISTEN: of UDP */
  bool shared; /* LISTEN: others go on with this socket when weir has ended */
  uint64_t deadline_ms; /* CLOCK_MONOTONIC */
  uint32_t id, sample_ppm;
  bool access_log;
};

/* worker_new is called in the thread that will run it (a ring belongs to its thread). */
struct worker *worker_new(const struct worker_config *config);
/* worker_run turns the loop until WORKER_STOP, or until a drain has ended every connection. */
void worker_run(struct worker *w);
/* worker_turn is one turn, for the simulation and tests; false once stopped. */
bool worker_turn(struct worker *w);
void worker_free(struct worker *w);

/* worker_post hands msg over; any thread. */
void worker_post(struct worker *w, struct worker_msg *msg);
/* worker_seq is the seq of the last message that was carried out (acquire). */
uint64_t worker_seq(const struct worker *w);
bool worker_stopped(const struct worker *w);

const struct stats *worker_stats(const struct worker *w);
const struct loop_stats *worker_loop_stats(const struct worker *w);
/* worker_conns is downstream conns open, worker_streams those with a request in flight; relaxed.
 */
uint32_t worker_conns(const struct worker *w);
uint32_t worker_streams(const struct worker *w);

#endif
