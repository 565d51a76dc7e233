/* workers.c: starts the worker threads, posts messages to them, knows what they have carried out.
 * Does not: decide what to post (publish.c, control.c). */
#include "control/workers_priv.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "control/log_priv.h"
#include "control/thread_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls.h"

#define RING_ENTRIES 512u
#define BUFFERS_FIRST 64u
#define BUFFERS_MAX 4096u
#define BUFFER_BYTES 4096u
#define IOBUF_PER_CONNECTION 16384u
#define IOBUF_LEAST (64u << 20)
/* Descriptors beside connections: listeners, ring, pipes for splicing, logs, admin and status. */
#define RESERVE_PROCESS 384u /* 128 of them for health checks (PROBES_MAX) */
#define RESERVE_WORKER 192u
#define NEED_PROCESS 32u
#define NEED_WORKER 8u

static void ring_event(int fd) {
  uint64_t one = 1;
  ssize_t n = write(fd, &one, sizeof one);
  (void)n; /* EAGAIN: the counter is full, so it is readable */
}

static void on_notify(void *ctx, struct worker *worker) {
  (void)worker;
  struct worker_thread *t = (struct worker_thread *)ctx;
  ring_event(t->set->ack_event);
  ring_event(t->set->stop_event);
}

static void on_wake_log(void *ctx) {
  struct worker_thread *t = (struct worker_thread *)ctx;
  log_wake(log_wake_ctx(t->set->config.log, t->index));
}

/* What all connections at once may need, but no more than the start's setting asks for. */
static size_t iobuf_bytes(uint32_t connections) {
  size_t bytes = (size_t)connections * IOBUF_PER_CONNECTION;
  return bytes < IOBUF_LEAST ? IOBUF_LEAST : bytes;
}

/* One for each client connection, those beyond the limit (serve.c) included, and the further ones.
 */
static uint32_t streams_max(const struct workers_config *config) {
  return config->connections_max + 64 + STREAMS_FURTHER;
}

/* below is the descriptor from which on so many are left. */
static uint32_t below(uint64_t descriptors, uint64_t left) {
  uint64_t at = descriptors > left ? descriptors - left : 1;
  return at < UINT32_MAX ? (uint32_t)at : 0;
}

static struct loop *loop_make(struct worker_thread *t) {
  const struct workers_config *config = &t->set->config;
  uint64_t seed;
  tls_random(&seed, sizeof seed);
  struct loop_config loop = {
      .conns_max = 4 * streams_max(config) + 1024, /* half of them streams of HTTP/2 */
      .ring_entries = RING_ENTRIES,
      .buffers_first = BUFFERS_FIRST,
      .buffers_max = BUFFERS_MAX,
      .buffer_bytes = BUFFER_BYTES,
      .iobuf_bytes_max = iobuf_bytes(config->max_connections),
      .seed = seed,
  };
  struct buf why = buf_of(t->why, sizeof t->why - 1);
  return loop_uring_new(&loop, &why);
}

static bool worker_make(struct worker_thread *t) {
  const struct workers_config *config = &t->set->config;
  struct loop *loop = loop_make(t);
  if (!loop) {
    return false;
  }
  struct worker_config worker = {
      .index = t->index,
      .workers = config->count,
      .group = t->set->group,
      .loop = loop,
      .log = config->log ? log_ring(config->log, t->index) : NULL,
      .access_log = config->access_log,
      .sample_ppm = config->sample_ppm,
      .streams_max = streams_max(config),
      .streams_further = STREAMS_FURTHER,
      .fds_most = below(config->descriptors, config->connections_max / 4),
      .fds_further = below(config->descriptors, config->connections_max),
      .wake_log = on_wake_log,
      .notify = on_notify,
      .ctx = t,
  };
  t->worker = worker_new(&worker);
  return true;
}

static void *run(void *arg) {
  struct worker_thread *t = (struct worker_thread *)arg;
  char name[16];
  (void)snprintf(name, sizeof name, "weir-w%u", t->index);
  thread_name(name);
  if (t->set->config.pin) {
    thread_pin(t->index);
  }
  bool made = worker_make(t);
  atomic_store(&t->state, made ? WORKER_RUNS : WORKER_FAILED);
  ring_event(t->set->stop_event);
  if (made) {
    worker_run(t->worker);
    atomic_store(&t->state, WORKER_ENDED);
    on_notify(t, t->worker);
  }
  /* Its counters are read until the very end. */
  while (sem_wait(&t->leave) < 0) {
  }
  if (made) {
    worker_free(t->worker);
  }
  return NULL;
}

/* wait_started waits for each thread's word; the first that failed, or NULL. */
static const struct worker_thread *wait_started(struct workers *w, uint32_t started) {
  const struct worker_thread *failed = NULL;
  for (uint32_t i = 0; i < started; i++) {
    while (atomic_load(&w->threads[i].state) == WORKER_STARTING) {
      uint64_t count;
      ssize_t n = read(w->stop_event, &count, sizeof count);
      (void)n;
    }
    if (!failed && atomic_load(&w->threads[i].state) == WORKER_FAILED) {
      failed = &w->threads[i];
    }
  }
  return failed;
}

static int start_threads(struct workers *w, struct buf *why) {
  for (uint32_t i = 0; i < w->config.count; i++) {
    struct worker_thread *t = &w->threads[i];
    t->set = w;
    t->index = i;
    atomic_init(&t->state, WORKER_STARTING);
    sem_init(&t->leave, 0, 0);
    int err = thread_start(&t->thread, run, t);
    if (err < 0) {
      sem_destroy(&t->leave);
      buf_printf(why, "cannot start worker %u: %s", i, strerrordesc_np(-err));
      return err;
    }
    w->count++;
  }
  return 0;
}

static void stop_and_join(struct workers *w) {
  for (uint32_t i = 0; i < w->count; i++) {
    if (w->threads[i].worker) {
      const struct worker_msg stop = {.kind = WORKER_STOP};
      workers_post(w, i, &stop);
    }
  }
  workers_join(w);
  workers_fini(w);
}

int workers_start(struct workers *w, const struct workers_config *config, struct buf *why) {
  check(config->count > 0 && config->count <= WORKERS_MAX);
  *w = (struct workers){.config = *config};
  w->threads = (struct worker_thread *)mem_array(config->count, sizeof *w->threads);
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&w->lock, &attr);
  pthread_mutexattr_destroy(&attr);
  w->ack_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  w->stop_event = eventfd(0, EFD_CLOEXEC);
  check(w->ack_event >= 0 && w->stop_event >= 0);
  w->group = worker_group_new();
  int err = start_threads(w, why);
  const struct worker_thread *failed = wait_started(w, w->count);
  if (err == 0 && failed) {
    buf_put(why, span_str(failed->why));
    err = -EPERM;
  }
  if (err < 0) {
    stop_and_join(w);
  }
  return err;
}

void workers_join(struct workers *w) {
  for (uint32_t i = 0; i < w->count; i++) {
    sem_post(&w->threads[i].leave);
  }
  for (uint32_t i = 0; i < w->count; i++) {
    pthread_join(w->threads[i].thread, NULL);
    sem_destroy(&w->threads[i].leave);
  }
  w->count = 0;
}

void workers_fini(struct workers *w) {
  close(w->ack_event);
  close(w->stop_event);
  worker_group_free(w->group);
  mem_free(w->threads);
  w->threads = NULL;
  pthread_mutex_destroy(&w->lock);
}

static void post_copy(struct workers *w, uint32_t i, const struct worker_msg *msg, uint64_t seq) {
  struct worker_msg *copy = (struct worker_msg *)mem_alloc(sizeof *copy);
  *copy = *msg;
  copy->seq = seq;
  worker_post(w->threads[i].worker, copy);
}

bool workers_open(struct workers *w) {
  pthread_mutex_lock(&w->lock);
  if (w->closed) {
    pthread_mutex_unlock(&w->lock);
    return false;
  }
  return true;
}

void workers_release(struct workers *w) { pthread_mutex_unlock(&w->lock); }

void workers_close(struct workers *w, const struct worker_msg *msg) {
  pthread_mutex_lock(&w->lock);
  w->closed = true;
  (void)workers_post_all(w, msg);
  pthread_mutex_unlock(&w->lock);
}

void workers_post(struct workers *w, uint32_t i, const struct worker_msg *msg) {
  pthread_mutex_lock(&w->lock);
  post_copy(w, i, msg, ++w->seq);
  pthread_mutex_unlock(&w->lock);
}

uint64_t workers_post_all(struct workers *w, const struct worker_msg *msg) {
  pthread_mutex_lock(&w->lock);
  uint64_t seq = ++w->seq;
  for (uint32_t i = 0; i < w->count; i++) {
    post_copy(w, i, msg, seq);
  }
  pthread_mutex_unlock(&w->lock);
  return seq;
}

bool workers_acked(const struct workers *w, uint64_t seq) {
  for (uint32_t i = 0; i < w->count; i++) {
    const struct worker_thread *t = &w->threads[i];
    if (worker_seq(t->worker) < seq && atomic_load(&t->state) != WORKER_ENDED) {
      return false;
    }
  }
  return true;
}

bool workers_stopped(const struct workers *w) {
  for (uint32_t i = 0; i < w->count; i++) {
    if (atomic_load(&w->threads[i].state) != WORKER_ENDED) {
      return false;
    }
  }
  return true;
}

uint32_t workers_conns(const struct workers *w) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < w->count; i++) {
    n += worker_conns(w->threads[i].worker);
  }
  return n;
}

uint32_t workers_udp_sessions(const struct workers *w) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < w->count; i++) {
    const struct stats *stats = worker_stats(w->threads[i].worker);
    n += atomic_load_explicit(&stats->udp_sessions, memory_order_relaxed);
  }
  return (uint32_t)n;
}

uint32_t workers_streams(const struct workers *w) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < w->count; i++) {
    n += worker_streams(w->threads[i].worker);
  }
  return n;
}

uint32_t descriptors_needed(uint32_t workers) { return NEED_PROCESS + workers * NEED_WORKER; }

/* Loops are made for this many, so that a reload may raise max_connections; a slab's table costs
 * nothing until it is used. */
#define CONNECTIONS_ROOM (1u << 20)

static uint64_t descriptors_raise(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
    return 1024;
  }
  if (limit.rlim_cur < limit.rlim_max) {
    struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
      return limit.rlim_max;
    }
  }
  return limit.rlim_cur;
}

uint32_t connections_max(uint32_t wanted, uint32_t workers, uint64_t *descriptors) {
  *descriptors = descriptors_raise();
  uint64_t reserve = RESERVE_PROCESS + (uint64_t)workers * RESERVE_WORKER;
  uint64_t room = *descriptors > reserve + 32 ? (*descriptors - reserve) / 2 : 16;
  uint64_t enough = wanted > CONNECTIONS_ROOM ? wanted : CONNECTIONS_ROOM;
  return (uint32_t)(room < enough ? room : enough);
}
