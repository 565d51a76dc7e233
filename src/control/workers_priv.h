/* workers_priv.h: the worker threads as control sees them: start, messages, acknowledgements,
 * end. */
#ifndef WEIR_CONTROL_WORKERS_PRIV_H
#define WEIR_CONTROL_WORKERS_PRIV_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "weir/proxy/worker.h"

struct log;

enum worker_state { WORKER_STARTING, WORKER_RUNS, WORKER_FAILED, WORKER_ENDED };

struct worker_thread {
  pthread_t thread;
  struct workers *set;
  struct worker *worker; /* after WORKER_RUNS */
  uint32_t index;
  _Atomic uint32_t state; /* enum worker_state */
  sem_t leave;            /* posted when its memory may go */
  char why[512];          /* WORKER_FAILED: a sentence */
};

/* STREAMS_FURTHER of a worker's clients may be open beyond the first of each connection. It is
 * memory that bounds them (some 80 MiB), not descriptors: HTTP/2 needs none for a stream, and who
 * does need one for an endpoint is held by worker_config.fds_further. */
#define STREAMS_FURTHER 16384u

struct workers_config {
  uint32_t count;
  bool pin; /* one per CPU */
  uint32_t max_connections; /* wanted now */
  uint32_t connections_max; /* to be had at all */
  uint64_t descriptors;     /* allowed */
  struct log *log; /* NULL: none */
  bool access_log;
  uint32_t sample_ppm;
};

struct workers {
  struct worker_thread *threads; /* config.count of them */
  uint32_t count;                /* that were started */
  struct workers_config config;
  struct worker_group *group;
  /* Order of sequence numbers, and batches that belong together; recursive. Control and compile
   * thread post, neither holds it longer than that takes. */
  pthread_mutex_t lock;
  uint64_t seq;
  bool closed; /* they were told to drain or stop */
  int ack_event;  /* eventfd of the compile thread: a worker carried something out */
  int stop_event; /* eventfd of the control thread: the same, it looks for workers that stopped */
};

/* workers_start starts the threads and waits until each has its loop. 0, or -errno and a sentence;
 * then nothing runs any more. */
MUST_USE int workers_start(struct workers *w, const struct workers_config *config,
                           struct buf *why);
/* workers_join ends threads whose workers have stopped. All must have. */
void workers_join(struct workers *w);
/* workers_fini closes what workers_start opened. */
void workers_fini(struct workers *w);

/* workers_open begins a batch, unless the workers were told to drain or stop: then false, and
 * nothing more may be published. workers_release ends it. */
MUST_USE bool workers_open(struct workers *w);
void workers_release(struct workers *w);
/* workers_close is that word: msg (DRAIN, STOP) goes to all, no batch comes after it. */
void workers_close(struct workers *w, const struct worker_msg *msg);
/* workers_post sends a copy of msg to worker i. */
void workers_post(struct workers *w, uint32_t i, const struct worker_msg *msg);
/* workers_post_all sends a copy to each under one sequence number: when workers_acked(number),
 * each has carried it out, and all that was posted to it before. */
uint64_t workers_post_all(struct workers *w, const struct worker_msg *msg);
/* workers_acked tells whether every worker has carried out `seq` (or has stopped). */
bool workers_acked(const struct workers *w, uint64_t seq);
bool workers_stopped(const struct workers *w);
uint32_t workers_conns(const struct workers *w);
/* workers_udp_sessions is how many sessions of UDP listeners are open. */
uint32_t workers_udp_sessions(const struct workers *w);
uint32_t workers_streams(const struct workers *w);

/* connections_max raises RLIMIT_NOFILE to its hard limit and returns how many connections that
 * allows, with two descriptors each and a reserve; not much more than `wanted`. */
uint32_t connections_max(uint32_t wanted, uint32_t workers, uint64_t *descriptors);
/* descriptors_needed is how many it takes to start and to serve at all. */
uint32_t descriptors_needed(uint32_t workers);

#endif
