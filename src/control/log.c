/* log.c: the log thread. Rings in, lines out. While there is traffic it wakes every LOG_NAP_MS (or
 * when a ring is half full); without traffic it sleeps until it is woken. While an output takes
 * nothing, what is for it waits in the rings, then is dropped there; the other output goes on, and
 * says so. Does not: format (access.c), write (log_sink.c) or rotate files (SIGUSR1 reopens
 * them). */
#include "control/log_priv.h"

#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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

/* ---- records to lines ---- */

/* A line goes into the buffer whole or not at all; at the second try the buffer is empty, but for
 * what a full output left in it: then the line is lost. */
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
    } else if (atomic_load_explicit(&log->access_json, memory_order_relaxed)) {
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
    sink_flush(sink);
  }
  sink->lost++;
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
      sink_flush(sink);
    }
  }
  spsc_release(ring);
  return (uint32_t)record.len;
}

/* sink_stuck: it takes nothing more, so records for it stay where they are. */
static bool sink_stuck(const struct log_sink *sink) {
  return sink && sink->blocked && sink->out.len > LOG_BATCH_BYTES;
}

/* drain_own writes the control side's records, at most what a full ring holds. */
static bool drain_own(struct log *log) {
  uint32_t bytes = 0;
  while (bytes < log->ring.size && !sink_stuck(&log->errors) && spsc_peek(&log->ring).len) {
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
  while (bytes < most && !sink_stuck(log->access) && !sink_stuck(&log->errors) &&
         (ring = oldest(log))) {
    bytes += drain_record(log, ring);
  }
  return bytes > 0;
}

/* ---- what was dropped ---- */

static uint64_t dropped(const struct log *log) {
  uint64_t sum = atomic_load_explicit(&log->ring.dropped, memory_order_relaxed);
  for (uint32_t i = 0; i < log->worker_count; i++) {
    sum += atomic_load_explicit(&log->workers[i].ring.dropped, memory_order_relaxed);
  }
  return sum;
}

static void announce(struct log *log, enum end_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void announce(struct log *log, enum end_level level, const char *fmt, ...) {
  char text[512];
  va_list args;
  va_start(args, fmt);
  int len = vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  check(len > 0 && (size_t)len < sizeof text);
  const struct record_event event = {.kind = RECORD_EVENT,
                                     .level = (uint8_t)level,
                                     .worker = UINT16_MAX,
                                     .len = (uint16_t)len,
                                     .wall_ms = clock_wall_ms()};
  char record[sizeof event + sizeof text];
  struct buf b = buf_of(record, sizeof record);
  buf_put(&b, span_of((const char *)&event, sizeof event));
  buf_put(&b, span_of(text, (size_t)len));
  if (wanted(log, buf_span(&b))) {
    put_record(log, &log->errors, buf_span(&b));
  }
}

static void tell_refused(struct log *log, struct log_sink *sink) {
  if (sink->lost == sink->lost_told) {
    return;
  }
  announce(log, END_LEVEL_ERROR,
           "log: %llu lines lost (%llu in all): %.200s does not take them: %s; make room there, "
           "or name "
           "another output (log.to, log.access.to)",
           (unsigned long long)(sink->lost - sink->lost_told), (unsigned long long)sink->lost,
           sink->name, sink->error ? strerrordesc_np(sink->error) : "a line is too long");
  sink->lost_told = sink->lost;
}

/* tell_dropped says how many lines were dropped since it last said so, at most once in
 * tell_every_ms; the monotonic time when it has more to say, UINT64_MAX: nothing. */
static uint64_t tell_dropped(struct log *log) {
  uint64_t now = clock_ms(), total = dropped(log);
  bool refused =
      log->errors.lost > log->errors.lost_told || log->access_own.lost > log->access_own.lost_told;
  if (total == log->dropped_told && !refused) {
    return UINT64_MAX;
  }
  if (log->told_ms && now < log->told_ms + log->tell_every_ms) {
    return log->told_ms + log->tell_every_ms;
  }
  log->told_ms = now;
  if (total > log->dropped_told) {
    const struct log_sink *slow = log->access ? log->access : &log->errors;
    announce(
        log, END_LEVEL_WARN,
        "log: %llu lines dropped (%llu in all): %.200s takes them too slowly; let its reader keep "
        "up, write to a file (log.access.to), or log a share of the good requests "
        "(log.access.sample)",
        (unsigned long long)(total - log->dropped_told), (unsigned long long)total, slow->name);
    log->dropped_told = total;
  }
  tell_refused(log, &log->errors);
  tell_refused(log, &log->access_own);
  return UINT64_MAX;
}

bool log_drain_once(struct log *log) {
  if (atomic_exchange(&log->reopen, false)) {
    sink_reopen(log, &log->errors);
    sink_reopen(log, &log->access_own);
  }
  bool any = drain_own(log);
  any |= drain_workers(log);
  if (log->access) {
    sink_flush(log->access);
  }
  log->tell_due_ms = tell_dropped(log);
  sink_flush(&log->errors);
  uint64_t lost = log->errors.lost + log->access_own.lost;
  atomic_store_explicit(&log->lost, lost, memory_order_relaxed);
  return any;
}

/* ---- the thread ---- */

static bool has_records(struct log *log) {
  uint32_t used = spsc_used(&log->ring);
  for (uint32_t i = 0; i < log->worker_count; i++) {
    used += spsc_used(&log->workers[i].ring);
  }
  return used > 0;
}

static bool anything(struct log *log) {
  return has_records(log) || atomic_load(&log->quit) || atomic_load(&log->reopen);
}

/* sleep_time is how long the thread may sleep without being woken; NULL: for ever. */
static const struct timespec *sleep_time(const struct log *log, struct timespec *time) {
  if (log->tell_due_ms == UINT64_MAX) {
    return NULL;
  }
  uint64_t now = clock_ms(), left = log->tell_due_ms > now ? log->tell_due_ms - now : 1;
  *time =
      (struct timespec){.tv_sec = (time_t)(left / 1000), .tv_nsec = (long)(left % 1000) * 1000000};
  return time;
}

/* wait_for_room: an output is full. Whoever writes records need not wake this thread: it looks
 * again soon in any case. */
static void wait_for_room(struct log *log) {
  struct pollfd fds[2];
  nfds_t count = 0;
  if (log->errors.blocked) {
    fds[count++] = (struct pollfd){.fd = log->errors.fd, .events = POLLOUT};
  }
  if (log->access && log->access != &log->errors && log->access->blocked) {
    fds[count++] = (struct pollfd){.fd = log->access->fd, .events = POLLOUT};
  }
  (void)poll(fds, count, LOG_BLOCKED_MS);
}

/* rest: after something was written a nap, so that a busy worker's wakes cost one system call in
 * LOG_NAP_MS; after an empty pass, sleep until the next record. */
static void rest(struct log *log, bool was_busy) {
  static const struct timespec nap = {.tv_nsec = LOG_NAP_MS * 1000000L};
  struct timespec time;
  uint32_t state = was_busy ? LOG_NAPS : LOG_SLEEPS;
  atomic_store_explicit(&log->state, state, memory_order_seq_cst);
  full_fence(&log->fence);
  if (was_busy ? atomic_load(&log->quit) : anything(log)) {
    atomic_store(&log->state, LOG_RUNS);
    return;
  }
  futex_wait(&log->state, state, was_busy ? &nap : sleep_time(log, &time));
  atomic_store(&log->state, LOG_RUNS);
}

static void *run(void *arg) {
  struct log *log = (struct log *)arg;
  thread_name("weir-log");
  for (;;) {
    bool quit = atomic_load(&log->quit);
    bool busy = log_drain_once(log);
    if (log->errors.blocked || log->access_own.blocked) {
      wait_for_room(log);
    } else if (quit && !busy && !has_records(log)) {
      break; /* busy: the last pass may have made room for more */
    } else if (!quit) {
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
  log->tell_every_ms = LOG_TELL_MS;
  log->tell_due_ms = UINT64_MAX;
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
  text = span_sub(text, 0, span_ends(text, SPAN_LIT("\n")) ? text.len - 1 : text.len);
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
