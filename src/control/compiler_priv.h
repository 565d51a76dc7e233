/* compiler_priv.h: the compile thread: one reload at a time, from the file to workers that run it.
 * What happens at a publication is in publish_priv.h, what is said about it in tell.c. Nothing of
 * a failed attempt remains. */
#ifndef WEIR_CONTROL_COMPILER_PRIV_H
#define WEIR_CONTROL_COMPILER_PRIV_H

#include <pthread.h>

#include "control/publish_priv.h"
#include "weir/control/control.h"

struct resolver;

#define COMPILER_ASKERS_MAX 16u
#define COMPILER_ACK_MS 10000u   /* a reload's answer waits so long for busy workers */
#define COMPILER_WATCH_MS 2000u  /* between two looks at certificate files */
#define COMPILER_SETTLE_MS 300u  /* a changed file must stay the same for so long */
#define COMPILER_COLLECT_MS 1000u
#define COMPILER_RESOLVED_MS 20u /* answers that come within so long are published together */
#define COMPILER_RESOLVED_RETRY_MS 10000u /* until a publication of addresses is tried again */

/* compiler_asker is an admin connection that waits for an outcome. */
struct compiler_asker {
  uint32_t slot, generation;
  bool json, color;
  bool defaults; /* dump: with those that are not written in the file */
  bool plan;     /* plan, else dump */
  char *path;    /* plan: of another file; NULL: ours. The compile thread frees it */
};

/* compiler_outcome goes back to the control thread, which frees it. */
struct compiler_outcome {
  struct compiler_outcome *next;
  struct compiler_asker asker;
  bool first;  /* of the start, not of an asker */
  int code;    /* exit code of the CLI */
  struct text text;
};

/* published is what other threads may look at, under its lock. The compile thread holds the lock
 * only to exchange pointers and to free. */
struct published {
  pthread_mutex_t lock;
  struct snapshot *current; /* NULL before the first */
  uint64_t serial;          /* publications so far: tells whether current is another one */
  uint32_t live;            /* snapshots: the current one and those that workers may still use */
  uint32_t drain_ms, drain_settle_ms;
  uint64_t reloads_ok, reloads_failed, last_reload_wall_ms;
  bool last_ok;
  uint64_t secrets_published, secrets_failed;
  uint32_t secrets_refused; /* files that changed, and whose last good content is in service */
};

struct compiler_config {
  const struct control_options *options;
  struct conf_reader reader;
  struct loader *loader;
  struct workers *workers;
  struct resolver *resolver;
  struct log *log;
  struct registry *registry;
  uint32_t connections_max; /* what descriptors and loops allow */
  uint64_t descriptors;
  void (*wake)(void *ctx);  /* an outcome, or a publication, is there */
  void *ctx;
};

struct compiler {
  struct compiler_config config;
  struct published published;
  pthread_t thread;
  /* Jobs and outcomes, under jobs_lock; workers.ack_event wakes the thread. */
  pthread_mutex_t jobs_lock;
  bool job_first, job_reload, job_resolved, job_collect, job_quit;
  struct compiler_asker reloads[COMPILER_ASKERS_MAX], looks[COMPILER_ASKERS_MAX];
  uint32_t reload_count, look_count;
  struct compiler_outcome *outcomes;
  /* The thread's own. */
  struct conf *conf;
  uint64_t generation; /* of the last success */
  struct binds binds;
  struct retired *retired;
  uint32_t retired_count;
  bool collect; /* something may be to be freed */
  struct tls_slot *tls_slots;
  uint32_t tls_slot_count;
  struct upstream_tls_slot *upstream_tls;
  uint32_t upstream_tls_count;
  struct watch_file *watch;
  uint32_t watch_count;
  uint64_t watch_due_ms, collect_due_ms;
  uint64_t resolved_due_ms; /* a publication of new addresses; UINT64_MAX: none */
  bool watch_changed; /* seen, waits to settle */
  bool publish_owed;  /* files were taken, but not published: watch_changed too */
};

/* compiler_start takes conf, the first configuration, and publishes it; the outcome says
 * `first`. */
MUST_USE int compiler_start(struct compiler *c, const struct compiler_config *config,
                            struct conf *conf);
/* compiler_stop ends the thread; no worker may run any more, or all must have stopped. */
void compiler_stop(struct compiler *c);
/* compiler_fini frees all that was published. After workers_join. */
void compiler_fini(struct compiler *c);

/* compiler_reload asks for a reload; asker NULL: a signal. False: too many wait. */
bool compiler_reload(struct compiler *c, const struct compiler_asker *asker);
/* compiler_look asks for a dump or a plan: what changes nothing. False: too many wait. */
bool compiler_look(struct compiler *c, const struct compiler_asker *asker);
/* compiler_resolved asks for a publication of the same generation with new addresses. */
void compiler_resolved(struct compiler *c);
/* compiler_collect: refs were dropped elsewhere, something may be to be freed. */
void compiler_collect(struct compiler *c);
/* compiler_take gives the next outcome, or NULL; free with compiler_outcome_free. */
struct compiler_outcome *compiler_take(struct compiler *c);
void compiler_outcome_free(struct compiler_outcome *o);

/* ---- tell.c ---- */

/* attempt is one reload or plan and what is to be said about it. */
struct attempt {
  struct conf_faults *faults;
  struct publish_result result;
  uint32_t waiting;    /* keys that wait for a restart */
  uint64_t generation; /* the one that runs afterwards */
  bool plan;
};
/* tell_text and tell_json append the answer to who asked, tell_log tells the log and the
 * metrics. */
void tell_text(const struct attempt *a, bool color, struct text *out);
void tell_json(const struct attempt *a, struct text *out);
void tell_log(struct compiler *c, const struct attempt *a);
/* attempt_code is the exit code of the command. */
int attempt_code(const struct attempt *a);

#endif
