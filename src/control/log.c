/* log.c: the log thread. Rings in, lines out. While there is traffic it wakes every LOG_NAP_MS (or
 * when a ring is half full); without traffic it sleeps until it is woken. A write that blocks
 * holds up this thread alone. Does not: format (access.c) or rotate files (SIGUSR1 reopens
 * them). */
#include "control/log_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "control/loader_priv.h"
#include "control/poller_priv.h"
#include "control/thread_priv.h"
#include "weir/base/mem.h"

/* ---- waking ---- */

static void futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *timeout) {
  (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word) {
  (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* A full fence between publishing a record and looking whether the reader sleeps; the reader does
 * the same the other way round, so one of them sees the other. A read-modify-write of a line of
 * one's own is that fence on the machines weir runs on, and one that TSan knows. */
static void full_fence(_Atomic uint32_t *own) {
  (void)atomic_fetch_add_explicit(own, 1, memory_order_seq_cst);
}

static void wake(struct log *log) {
  if (atomic_exchange_explicit(&log->state, LOG_RUNS, memory_order_seq_cst) != LOG_RUNS) {
    futex_wake(&log->state);
  }
}

void log_wake(void *ctx) {
  struct log_worker *w = (struct log_worker *)ctx;
  full_fence(&w->fence);
  uint32_t state = atomic_load_explicit(&w->log->state, memory_order_seq_cst);
  if (state == LOG_SLEEPS || (state == LOG_NAPS && spsc_used(&w->ring) > LOG_RING_BYTES / 2)) {
    wake(w->log);
  }
}

struct spsc *log_ring(struct log *log, uint32_t worker) { return &log->workers[worker].ring; }
void *log_wake_ctx(struct log *log, uint32_t worker) { return &log->workers[worker]; }

/* ---- outputs ---- */

static int open_path(struct log *log, const char *path) {
  if (log->loader) {
    return loader_open(log->loader, LOADER_APPEND, path);
  }
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  return fd < 0 ? -errno : fd;
}

static int sink_open(struct log *log, struct log_sink *sink, const char *to) {
  sink->out = buf_of(mem_alloc(LOG_BUFFER_BYTES), LOG_BUFFER_BYTES);
  if (strcmp(to, "stderr") == 0 || strcmp(to, "stdout") == 0) {
    sink->fd = strcmp(to, "stderr") == 0 ? STDERR_FILENO : STDOUT_FILENO;
    sink->terminal = isatty(sink->fd);
    return 0;
  }
  sink->path = mem_str(span_str(to));
  sink->fd = open_path(log, to);
  return sink->fd < 0 ? sink->fd : 0;
}

static void sink_reopen(struct log *log, struct log_sink *sink) {
  if (!sink->path) {
    return;
  }
  int fd = open_path(log, sink->path);
  if (fd < 0) {
    log_line(log, END_LEVEL_ERROR, "log %s cannot be reopened: %s; the old file is still written",
             sink->path, strerrordesc_np(-fd));
    return;
  }
  if (sink->fd >= 0) {
    close(sink->fd);
  }
  sink->fd = fd;
  sink->torn = false;
}

static void sink_fini(struct log_sink *sink) {
  if (sink->path && sink->fd >= 0) {
    close(sink->fd);
  }
  mem_free(sink->path);
  mem_free(sink->out.ptr);
}

static uint32_t count_lines(struct span s) {
  uint32_t lines = 0;
  for (size_t at = 0; (at = span_find_char(s, '\n', at)) != SIZE_MAX; at++) {
    lines++;
  }
  return lines;
}

/* Somebody may have made stdout non-blocking: then this thread waits for room itself. */
static ssize_t write_some(int fd, struct span s) {
  ssize_t n = write(fd, s.ptr, s.len);
  if (n < 0 && errno == EAGAIN) {
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    (void)poll(&wait, 1, -1);
    return 0;
  }
  return n < 0 && errno == EINTR ? 0 : n;
}

/* sink_flush writes what is there. What an output refuses (disk full, reader gone) is dropped and
 * counted by lines; a line that was cut off is ended before the next one. */
static void sink_flush(struct log *log, struct log_sink *sink) {
  struct span left = buf_span(&sink->out);
  if (!left.len) {
    return;
  }
  if (sink->torn && write_some(sink->fd, SPAN_LIT("\n")) == 1) {
    sink->torn = false;
  }
  while (left.len && !sink->torn) {
    ssize_t n = write_some(sink->fd, left);
    if (n < 0) {
      break;
    }
    left = span_from(left, (size_t)n);
  }
  if (left.len) {
    atomic_fetch_add(&log->lost, count_lines(left));
    size_t sent = sink->out.len - left.len;
    sink->torn = sink->torn || (sent && sink->out.ptr[sent - 1] != '\n');
  }
  sink->out.len = 0;
  sink->out.full = false;
}

/* ---- records to lines ---- */

/* A line goes into the buffer whole or not at all; at the second try the buffer is empty. */
static void put_record(struct log *log, struct log_sink *sink, struct span record) {
  struct access_view view;
  struct record_event event;
  bool access = (uint8_t)record.ptr[0] == RECORD_ACCESS;
  if (access && !access_view_init(&view, record)) {
    return;
  }
  if (!access) {
    memcpy(&event, record.ptr, sizeof event);
  }
  for (int attempt = 0; attempt < 2; attempt++) {
    size_t before = sink->out.len;
    if (!access) {
      event_write(&sink->out, &event, span_from(record, sizeof event), !sink->terminal);
    } else if (log->access_json) {
      access_write_json(&sink->out, &view);
    } else {
      access_write_text(&sink->out, &view);
    }
    if (!sink->out.full) {
      atomic_fetch_add_explicit(&log->lines, 1, memory_order_relaxed);
      return;
    }
    sink->out.len = before;
    sink->out.full = false;
    sink_flush(log, sink);
  }
  atomic_fetch_add(&log->lost, 1);
}

static bool wanted(struct log *log, struct span record) {
  if ((uint8_t)record.ptr[0] == RECORD_ACCESS) {
    return log->access && log->access->fd >= 0;
  }
  return record.len >= sizeof(struct record_event) &&
         (uint8_t)record.ptr[1] >= atomic_load_explicit(&log->level, memory_order_relaxed) &&
         log->errors.fd >= 0;
}

/* drain_record writes the oldest record of a ring; its bytes. */
static uint32_t drain_record(struct log *log, struct spsc *ring) {
  struct span record = spsc_peek(ring);
  if (wanted(log, record)) {
    bool access = (uint8_t)record.ptr[0] == RECORD_ACCESS;
    struct log_sink *sink = access ? log->access : &log->errors;
    put_record(log, sink, record);
    if (sink->out.len > LOG_BATCH_BYTES) {
      sink_flush(log, sink);
    }
  }
  spsc_release(ring);
  return (uint32_t)record.len;
}

/* drain_own writes the control side's records, at most what a full ring holds. */
static bool drain_own(struct log *log) {
  uint32_t bytes = 0;
  while (bytes < log->ring.size && spsc_peek(&log->ring).len) {
    bytes += drain_record(log, &log->ring);
  }
  return bytes > 0;
}

static uint64_t record_done_ns(struct span record) {
  uint64_t ns;
  memcpy(&ns, record.ptr + offsetof(struct record_access, done_ns), sizeof ns);
  return ns;
}

/* oldest is the worker ring whose next record was written first; NULL: all are empty. */
static struct spsc *oldest(struct log *log) {
  struct spsc *best = NULL;
  uint64_t best_ns = UINT64_MAX;
  for (uint32_t i = 0; i < log->worker_count; i++) {
    struct span record = spsc_peek(&log->workers[i].ring);
    if (!record.len || record_done_ns(record) >= best_ns) {
      continue;
    }
    best = &log->workers[i].ring;
    best_ns = record_done_ns(record);
  }
  return best;
}

/* drain_workers merges the workers' rings by time, so that lines stand in order; at most what the
 * rings held in all. */
static bool drain_workers(struct log *log) {
  uint64_t most = 0, bytes = 0;
  for (uint32_t i = 0; i < log->worker_count; i++) {
    most += spsc_used(&log->workers[i].ring);
  }
  struct spsc *ring;
  while (bytes < most && (ring = oldest(log))) {
    bytes += drain_record(log, ring);
  }
  return bytes > 0;
}

bool log_drain_once(struct log *log) {
  if (atomic_exchange(&log->reopen, false)) {
    sink_reopen(log, &log->errors);
    sink_reopen(log, &log->access_own);
  }
  bool any = drain_own(log);
  any |= drain_workers(log);
  sink_flush(log, &log->errors);
  if (log->access) {
    sink_flush(log, log->access);
  }
  return any;
}

/* ---- the thread ---- */

static bool anything(struct log *log) {
  uint32_t used = spsc_used(&log->ring);
  for (uint32_t i = 0; i < log->worker_count; i++) {
    used += spsc_used(&log->workers[i].ring);
  }
  return used > 0 || atomic_load(&log->quit) || atomic_load(&log->reopen);
}

/* rest: after something was written a nap, so that a busy worker's wakes cost one system call in
 * LOG_NAP_MS; after an empty pass, sleep until the next record. */
static void rest(struct log *log, bool was_busy) {
  static const struct timespec nap = {.tv_nsec = LOG_NAP_MS * 1000000L};
  uint32_t state = was_busy ? LOG_NAPS : LOG_SLEEPS;
  atomic_store_explicit(&log->state, state, memory_order_seq_cst);
  full_fence(&log->fence);
  if (was_busy ? atomic_load(&log->quit) : anything(log)) {
    atomic_store(&log->state, LOG_RUNS);
    return;
  }
  futex_wait(&log->state, state, was_busy ? &nap : NULL);
  atomic_store(&log->state, LOG_RUNS);
}

static void *run(void *arg) {
  struct log *log = (struct log *)arg;
  thread_name("weir-log");
  for (;;) {
    bool quit = atomic_load(&log->quit);
    bool busy = log_drain_once(log);
    if (quit && !busy) {
      break;
    }
    if (!quit) {
      rest(log, busy);
    }
  }
  atomic_store(&log->done, true);
  futex_wake(&log->state);
  return NULL;
}

void log_start(struct log *log) {
  atomic_store(&log->started, true);
  check(thread_start(&log->thread, run, log) == 0);
}

bool log_stop(struct log *log, uint32_t wait_ms) {
  if (!atomic_load(&log->started)) {
    (void)log_drain_once(log);
    return true;
  }
  atomic_store(&log->quit, true);
  wake(log);
  uint64_t until = clock_ms() + wait_ms;
  while (!atomic_load(&log->done) && clock_ms() < until) {
    const struct timespec pause = {.tv_nsec = 1000000};
    nanosleep(&pause, NULL);
    wake(log);
  }
  if (!atomic_load(&log->done)) {
    return false;
  }
  pthread_join(log->thread, NULL);
  return true;
}

/* ---- making and freeing ---- */

enum end_level log_level_find(const char *name) {
  static const struct {
    const char *name;
    enum end_level level;
  } levels[] = {{"debug", END_LEVEL_DEBUG},
                {"info", END_LEVEL_INFO},
                {"warn", END_LEVEL_WARN},
                {"error", END_LEVEL_ERROR}};
  for (size_t i = 0; i < array_count(levels); i++) {
    if (strcmp(levels[i].name, name) == 0) {
      return levels[i].level;
    }
  }
  return END_LEVEL_INFO;
}

static int open_outputs(struct log *log, const struct log_config *config, const char **which) {
  *which = config->to;
  int err = sink_open(log, &log->errors, config->to);
  if (err < 0 || !config->access || strcmp(config->access, "off") == 0) {
    return err;
  }
  if (strcmp(config->access, config->to) == 0) {
    log->access = &log->errors;
    return 0;
  }
  *which = config->access;
  log->access = &log->access_own;
  return sink_open(log, &log->access_own, config->access);
}

struct log *log_new(const struct log_config *config, struct buf *why) {
  struct log *log = (struct log *)mem_alloc_aligned(64, sizeof *log);
  log->errors.fd = log->access_own.fd = -1;
  log->loader = config->loader;
  log->access_json = config->access_json;
  log->worker_count = config->workers;
  log->level = (uint8_t)log_level_find(config->level);
  size_t bytes = config->workers * sizeof *log->workers;
  log->workers = (struct log_worker *)mem_alloc_aligned(64, bytes);
  for (uint32_t i = 0; i < config->workers; i++) {
    spsc_init(&log->workers[i].ring, LOG_RING_BYTES);
    log->workers[i].log = log;
  }
  spsc_init(&log->ring, LOG_CONTROL_BYTES);
  pthread_mutex_init(&log->lock, NULL);
  const char *which;
  int err = open_outputs(log, config, &which);
  if (err < 0) {
    buf_printf(why, "cannot open the log %s: %s", which, strerrordesc_np(-err));
    log_free(log);
    return NULL;
  }
  return log;
}

void log_free(struct log *log) {
  for (uint32_t i = 0; i < log->worker_count; i++) {
    spsc_fini(&log->workers[i].ring);
  }
  spsc_fini(&log->ring);
  sink_fini(&log->errors);
  sink_fini(&log->access_own);
  pthread_mutex_destroy(&log->lock);
  mem_free(log->workers);
  mem_free(log);
}

/* ---- the control side ---- */

#define SENTENCE_MAX 16384u

void log_text(struct log *log, enum end_level level, struct span text) {
  if (level < atomic_load_explicit(&log->level, memory_order_relaxed)) {
    return;
  }
  text = span_sub(text, 0, SENTENCE_MAX);
  struct record_event event = {.kind = RECORD_EVENT,
                               .level = (uint8_t)level,
                               .worker = UINT16_MAX,
                               .len = (uint16_t)text.len,
                               .wall_ms = clock_wall_ms()};
  uint32_t len = (uint32_t)(sizeof event + text.len);
  pthread_mutex_lock(&log->lock);
  struct buf to = buf_of(spsc_reserve(&log->ring, len), len);
  if (to.ptr) {
    buf_put(&to, span_of((const char *)&event, sizeof event));
    buf_put(&to, text);
    spsc_commit(&log->ring, len);
  }
  pthread_mutex_unlock(&log->lock);
  wake(log);
}

void log_line(struct log *log, enum end_level level, const char *fmt, ...) {
  char line[1024];
  va_list args;
  va_start(args, fmt);
  int len = vsnprintf(line, sizeof line, fmt, args);
  va_end(args);
  check(len >= 0);
  size_t cut = (size_t)len < sizeof line ? (size_t)len : sizeof line - 1;
  log_text(log, level, span_of(line, cut));
}

void log_reopen(struct log *log) {
  atomic_store(&log->reopen, true);
  wake(log);
}

uint64_t log_lost(const struct log *log) {
  return atomic_load_explicit(&log->lost, memory_order_relaxed) +
         atomic_load_explicit(&log->ring.dropped, memory_order_relaxed);
}

uint32_t log_fill_percent(struct log *log) {
  uint32_t most = 0;
  for (uint32_t i = 0; i < log->worker_count; i++) {
    uint32_t used = spsc_used(&log->workers[i].ring);
    most = used > most ? used : most;
  }
  return (uint32_t)((uint64_t)most * 100 / LOG_RING_BYTES);
}
