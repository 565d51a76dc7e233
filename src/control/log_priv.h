/* log_priv.h: the log thread: drains the workers' rings, formats, writes. It may hang on a blocked
 * output: nobody waits for it, records are dropped, counted and announced. DESIGN.md section 8. */
#ifndef WEIR_CONTROL_LOG_PRIV_H
#define WEIR_CONTROL_LOG_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "weir/base/spsc.h"
#include "weir/proxy/record.h"

struct loader;

#define LOG_RING_BYTES (512u << 10)  /* per worker */
#define LOG_CONTROL_BYTES (128u << 10)
#define LOG_BUFFER_BYTES (256u << 10) /* of an output; only what a batch fills is touched */
#define LOG_BATCH_BYTES (32u << 10)   /* written out from here on */
#define LOG_NAP_MS 10                 /* between two drains while there is traffic */
#define LOG_BLOCKED_MS 100            /* between two looks at what there is for the other output */
#define LOG_TELL_MS 10000u            /* between two lines about dropped lines */

/* log_sink is one output; used by the log thread alone once it runs. */
struct log_sink {
  char *name; /* "stdout", "stderr" or the path */
  int fd;     /* -1: off, or could not be opened */
  struct buf out;
  bool is_path; /* it can be reopened */
  bool is_own;  /* fd is ours to close */
  bool is_socket, is_pipe;
  bool terminal;
  bool torn;                /* the last write that failed ended inside a line */
  bool blocked;             /* it is full: what it did not take is in out */
  int error;                /* of the last write that failed */
  uint64_t lost, lost_told; /* lines that it refused; those that were announced */
};

struct log_config {
  uint32_t workers;
  const char *to;     /* "stderr", "stdout" or a path: errors and events */
  const char *level;  /* "debug", "info", "warn", "error" */
  const char *access; /* the same, or "off" */
  bool access_json;
  struct loader *loader; /* opens paths; NULL: opened here (tests) */
};

enum log_state { LOG_RUNS, LOG_NAPS, LOG_SLEEPS };

/* log_worker is what a worker needs to wake the thread: a cache line of its own. */
struct log_worker {
  _Alignas(64) struct spsc ring;
  struct log *log;
  _Atomic uint32_t fence;
};

struct log {
  struct log_worker *workers;
  uint32_t worker_count;
  _Atomic uint32_t fence;
  struct spsc ring;     /* events of control, compile and main thread */
  pthread_mutex_t lock; /* of the writers of ring; held for one copy */
  _Atomic uint32_t state; /* enum log_state; a futex */
  _Atomic bool quit, reopen, done, started;
  _Atomic uint64_t lost; /* lines that the outputs did not take */
  _Atomic uint64_t lines;
  _Atomic uint8_t level; /* enum end_level */
  _Atomic bool access_json;
  struct log_sink errors, access_own, *access; /* access may be &errors */
  struct loader *loader;
  pthread_t thread;
  /* What was said about dropped lines; the log thread's own. */
  uint64_t dropped_told, told_ms, tell_due_ms;
  uint32_t tell_every_ms;
};

/* log_new opens the outputs: NULL and a sentence when one cannot be. log_start starts the
 * thread. */
MUST_USE struct log *log_new(const struct log_config *config, struct buf *why);
void log_start(struct log *log);
/* log_stop lets the thread write what is there, for at most wait_ms; false: it hangs, and log may
 * not be freed (the process is about to end). */
bool log_stop(struct log *log, uint32_t wait_ms);
void log_free(struct log *log);

/* log_ring and log_wake are for struct worker_config (log, wake_log with ctx from
 * log_wake_ctx). */
struct spsc *log_ring(struct log *log, uint32_t worker);
void *log_wake_ctx(struct log *log, uint32_t worker);
void log_wake(void *ctx);

/* log_line writes a sentence to the error log. Any control-side thread; never waits for the
 * output. */
void log_line(struct log *log, enum end_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* log_text is log_line of a text that may have several lines. */
void log_text(struct log *log, enum end_level level, struct span text);
void log_reopen(struct log *log);
/* log_lost counts lines that an output did not take and control-side lines dropped at a full ring.
 * What workers drop is in their stats (log_dropped). */
uint64_t log_lost(const struct log *log);
/* log_fill_percent is how full the fullest worker's ring is. */
uint32_t log_fill_percent(struct log *log);
/* log_level_find knows "debug", "info", "warn", "error"; info for anything else. */
enum end_level log_level_find(const char *name);

/* log_drain_once is one pass over all rings with a write at its end; true when there was
 * something. For tests without the thread. */
bool log_drain_once(struct log *log);

/* ---- key_log.c ---- */

/* key_log_open opens the file of log.tls_keys (NULL: none) where the switch is given, and says so
 * in the log; false and a sentence when it cannot. */
MUST_USE bool key_log_open(const char *path, bool given, struct log *log, struct buf *why);

/* ---- log_sink.c ---- */

/* sink_open opens "stdout", "stderr" or a path; 0 or -errno. sink_reopen opens the path again. */
MUST_USE int sink_open(struct log *log, struct log_sink *sink, const char *to);
void sink_reopen(struct log *log, struct log_sink *sink);
void sink_fini(struct log_sink *sink);
/* sink_flush writes what is in out. What the output refuses (disk full, reader gone) is lost and
 * counted by lines; what it has no room for now stays (blocked). */
void sink_flush(struct log_sink *sink);

/* ---- access.c: formats; appends one line, buf.full when there is no room ---- */

/* access_view is a record with its texts found. */
struct access_view {
  const struct record_access *rec;
  struct span text[TEXT_COUNT];
};
/* access_view_init: false when lengths do not add up to len. */
MUST_USE bool access_view_init(struct access_view *v, struct span record);
void access_write_json(struct buf *out, const struct access_view *v);
void access_write_text(struct buf *out, const struct access_view *v);
/* event_write writes an event line for a terminal or as JSON. worker UINT16_MAX: control side. */
void event_write(struct buf *out, const struct record_event *e, struct span text, bool json);

#endif
