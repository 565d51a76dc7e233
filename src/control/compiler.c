/* compiler.c: the compile thread and its jobs: first publication, reload, plan, publication after
 * a name was resolved, dump, certificates. One at a time; a reload asked for during a reload runs
 * after it, and all that were asked meanwhile are answered by that one. What is said about a
 * reload is tell.c. Called by control.c. */
#include "control/compiler_priv.h"

#include <malloc.h>
#include <poll.h>
#include <unistd.h>

#include "control/log_priv.h"
#include "control/poller_priv.h"
#include "control/privilege_priv.h"
#include "control/resolver_priv.h"
#include "control/thread_priv.h"
#include "weir/io/tls.h"
#include "weir/base/mem.h"
#include "weir/config/diff.h"

/* ---- jobs in, outcomes out ---- */

static void ring(struct compiler *c) {
  uint64_t one = 1;
  ssize_t n = write(c->config.workers->ack_event, &one, sizeof one);
  (void)n;
}

static bool ask(struct compiler *c, struct compiler_asker *list, uint32_t *count,
                const struct compiler_asker *asker) {
  pthread_mutex_lock(&c->jobs_lock);
  bool room = !asker || *count < COMPILER_ASKERS_MAX;
  if (room && asker) {
    list[(*count)++] = *asker;
  }
  pthread_mutex_unlock(&c->jobs_lock);
  return room;
}

static void set_job(struct compiler *c, bool *job) {
  pthread_mutex_lock(&c->jobs_lock);
  *job = true;
  pthread_mutex_unlock(&c->jobs_lock);
  ring(c);
}

bool compiler_reload(struct compiler *c, const struct compiler_asker *asker) {
  bool ok = ask(c, c->reloads, &c->reload_count, asker);
  if (ok) {
    set_job(c, &c->job_reload);
  }
  return ok;
}

bool compiler_look(struct compiler *c, const struct compiler_asker *asker) {
  bool ok = ask(c, c->looks, &c->look_count, asker);
  ring(c);
  return ok;
}

void compiler_resolved(struct compiler *c) { set_job(c, &c->job_resolved); }
void compiler_collect(struct compiler *c) { set_job(c, &c->job_collect); }

struct compiler_outcome *compiler_take(struct compiler *c) {
  pthread_mutex_lock(&c->jobs_lock);
  struct compiler_outcome *o = c->outcomes;
  if (o) {
    c->outcomes = o->next;
  }
  pthread_mutex_unlock(&c->jobs_lock);
  return o;
}

void compiler_outcome_free(struct compiler_outcome *o) {
  text_fini(&o->text);
  mem_free(o);
}

/* answer hands text over to the control thread; asker NULL: the first publication. */
static void answer(struct compiler *c, const struct compiler_asker *asker, int code,
                   struct text *text) {
  struct compiler_outcome *o = (struct compiler_outcome *)mem_alloc(sizeof *o);
  *o = (struct compiler_outcome){.first = !asker, .code = code, .text = *text};
  if (asker) {
    o->asker = *asker;
  }
  *text = (struct text){.ptr = NULL};
  pthread_mutex_lock(&c->jobs_lock);
  struct compiler_outcome **last = &c->outcomes;
  while (*last) {
    last = &(*last)->next;
  }
  *last = o;
  pthread_mutex_unlock(&c->jobs_lock);
  c->config.wake(c->config.ctx);
}

/* ---- names ---- */

static void want(const struct name_query *q, void *ctx) {
  resolver_want(((struct compiler *)ctx)->config.resolver, q);
}

/* keep_names forgets all names but those of conf. */
static void keep_names(struct compiler *c, const struct conf *conf) {
  resolver_mark(c->config.resolver);
  conf_names(conf, want, c);
  resolver_sweep(c->config.resolver);
}

static void resolve_names(struct compiler *c, const struct conf *conf) {
  conf_names(conf, want, c);
  resolver_wait(c->config.resolver, RESOLVER_WAIT_MS);
}

/* ---- a reload ---- */

static struct conf *load(struct compiler *c, struct conf_faults *faults) {
  const struct control_options *o = c->config.options;
  return o->path ? conf_load(&c->config.reader, o->path, faults)
                 : conf_load_text(&c->config.reader, o->name, o->text, faults);
}

static void apply_settings(struct compiler *c, const struct conf *conf) {
  const struct conf_process *p = conf_process(conf);
  pthread_mutex_lock(&c->published.lock);
  c->published.drain_ms = p->drain_ms;
  c->published.drain_settle_ms = p->drain_settle_ms;
  pthread_mutex_unlock(&c->published.lock);
  atomic_store(&c->config.log->level, (uint8_t)log_level_find(p->log_level));
  atomic_store(&c->config.log->access_json, strcmp(p->access_format, "json") == 0);
  const struct worker_msg msg = {.kind = WORKER_LOG,
                                 .sample_ppm = p->access_sample_ppm,
                                 .access_log = strcmp(p->access_to, "off") != 0};
  (void)workers_post_all(c->config.workers, &msg);
}

static void check_connections(struct compiler *c, const struct conf *conf,
                              struct conf_faults *faults) {
  const struct conf_descriptors d = {c->config.descriptors,
                                     descriptors_needed(c->config.workers->count)};
  conf_check_connections(conf, c->config.connections_max, d, faults);
}

static void take_over(struct compiler *c, struct conf *conf) {
  conf_free(c->conf);
  c->conf = conf;
  keep_names(c, conf);
  apply_settings(c, conf);
  secrets_watch(c);
}

/* load_next is a configuration that may follow the one that runs; NULL: it may not. */
static struct conf *load_next(struct compiler *c, struct conf *conf, struct attempt *a) {
  if (!conf) {
    a->result.code = WEIR_BAD_CONFIG;
    return NULL;
  }
  a->waiting = conf_keep_restart(c->conf, conf, a->faults);
  check_connections(c, conf, a->faults);
  conf_check_machine(conf, &c->config.reader, privilege_known, a->faults);
  resolve_names(c, conf);
  return conf;
}

static void reload(struct compiler *c, struct attempt *a) {
  struct conf *conf = load_next(c, load(c, a->faults), a);
  if (!conf) {
    return;
  }
  publish(c, conf, c->generation + 1, 0, a->faults, &a->result);
  if (a->result.code) {
    keep_names(c, c->conf);
    conf_free(conf);
    return;
  }
  c->generation++;
  a->generation = c->generation;
  take_over(c, conf);
}

/* blame says of an attempt that failed without the loader process that this is why: what files
 * that could not be read seem to lack is no fault of theirs. */
static void blame(const struct compiler *c, struct attempt *a) {
  if (!a->result.code || !loader_ended(c->config.loader)) {
    return;
  }
  publish_result_fini(&a->result);
  conf_faults_free(a->faults);
  a->faults = conf_faults_new();
  a->waiting = 0;
  a->result = (struct publish_result){.code = WEIR_FAILED, .why = LOADER_ENDED};
}

/* ---- jobs with an answer ---- */

/* systemd's Type=notify-reload wants the time with it. */
static void notify_reloading(void) {
  notify_manager("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_ms() * 1000);
}

static void notify_reloaded(const struct attempt *a) {
  notify_manager("READY=1\nSTATUS=%sgeneration %llu %s",
                 a->result.code ? "the last reload was refused, " : "",
                 (unsigned long long)a->generation, a->result.code ? "keeps running" : "runs");
}

static void answer_attempt(struct compiler *c, const struct compiler_asker *asker,
                           const struct attempt *a) {
  struct text text = {.ptr = NULL};
  if (asker->json) {
    tell_json(a, &text);
  } else {
    tell_text(a, asker->color, &text);
  }
  answer(c, asker, attempt_code(a), &text);
}

static void attempt_fini(struct attempt *a) {
  publish_result_fini(&a->result);
  conf_faults_free(a->faults);
  malloc_trim(0); /* nothing grows with reloads; workers do not allocate here */
}

static void run_reload(struct compiler *c, const struct compiler_asker *askers, uint32_t count) {
  struct attempt a = {.faults = conf_faults_new(), .generation = c->generation};
  notify_reloading();
  reload(c, &a);
  blame(c, &a);
  notify_reloaded(&a);
  tell_log(c, &a);
  for (uint32_t i = 0; i < count; i++) {
    answer_attempt(c, &askers[i], &a);
  }
  attempt_fini(&a);
}

/* plan is a reload that stops before the first thing that others would notice. */
static void plan(struct compiler *c, const char *path, struct attempt *a) {
  struct conf *named = path ? conf_load(&c->config.reader, path, a->faults) : load(c, a->faults);
  struct conf *conf = load_next(c, named, a);
  if (!conf) {
    return;
  }
  publish_plan(c, conf, a->faults, &a->result);
  keep_names(c, c->conf);
  conf_free(conf);
}

static void run_plan(struct compiler *c, const struct compiler_asker *asker) {
  struct attempt a = {.faults = conf_faults_new(), .generation = c->generation, .plan = true};
  plan(c, asker->path, &a);
  blame(c, &a);
  answer_attempt(c, asker, &a);
  attempt_fini(&a);
}

/* ---- the other jobs ---- */

/* warn says as loading did what only starting finds, like dates in certificates: to a person with
 * all colours, else in the log. */
static void warn(struct compiler *c, const struct conf_faults *faults) {
  struct text text = {.ptr = NULL};
  bool person = isatty(STDERR_FILENO);
  conf_faults_print(faults, &text, person);
  if (text.len && person) (void)fprintf(stderr, SPAN_FMT "\n", SPAN_ARG(text_span(&text)));
  if (text.len && !person) log_text(c->config.log, END_LEVEL_WARN, text_span(&text));
  text_fini(&text);
}

static void run_first(struct compiler *c) {
  struct attempt a = {.faults = conf_faults_new(), .generation = 0};
  check_connections(c, c->conf, a.faults);
  resolve_names(c, c->conf);
  publish(c, c->conf, 1, 0, a.faults, &a.result);
  struct text text = {.ptr = NULL};
  if (a.result.code) {
    if (conf_faults_errors(a.faults)) {
      conf_faults_print(a.faults, &text, false);
    }
    text_put(&text, span_str(a.result.why));
  } else {
    warn(c, a.faults);
    c->generation = 1;
    pthread_mutex_lock(&c->published.lock);
    c->published.last_ok = true;
    c->published.last_reload_wall_ms = clock_wall_ms();
    pthread_mutex_unlock(&c->published.lock);
    apply_settings(c, c->conf);
    secrets_watch(c);
  }
  answer(c, NULL, a.result.code, &text);
  attempt_fini(&a);
}

/* tell_resolved: a change of addresses is no reload, and does not look like one. */
static void tell_resolved(struct compiler *c, const struct conf_faults *faults,
                          const struct publish_result *result) {
  struct text text = {.ptr = NULL};
  if (result->code) {
    text_lit(&text, "names resolved anew, but not taken over: ");
    if (conf_faults_errors(faults)) {
      conf_faults_print(faults, &text, false);
    }
    text_printf(&text, "%s; tried again in %u ms", result->why, COMPILER_RESOLVED_RETRY_MS);
  } else {
    text_lit(&text, "names resolved anew: ");
    text_put(&text, text_span(&result->diff));
  }
  log_text(c->config.log, result->code ? END_LEVEL_ERROR : END_LEVEL_INFO, text_span(&text));
  text_fini(&text);
}

static bool drains(struct compiler *c) {
  bool open = workers_open(c->config.workers);
  if (open) {
    workers_release(c->config.workers);
  }
  return !open;
}

static void run_resolved(struct compiler *c) {
  if (!c->published.current || drains(c)) {
    return;
  }
  struct conf_faults *faults = conf_faults_new();
  struct publish_result result = {.code = 0};
  publish_resolved(c, faults, &result);
  if (result.code || result.changes) {
    tell_resolved(c, faults, &result);
  }
  if (result.code) { /* nobody tells of these addresses again */
    c->resolved_due_ms = clock_ms() + COMPILER_RESOLVED_RETRY_MS;
  }
  publish_result_fini(&result);
  conf_faults_free(faults);
  malloc_trim(0); /* nothing grows with changes */
}

static void run_dump(struct compiler *c, const struct compiler_asker *asker) {
  struct text text = {.ptr = NULL};
  conf_dump(c->conf, &text, asker->defaults);
  answer(c, asker, WEIR_OK, &text);
}

static void run_looks(struct compiler *c, const struct compiler_asker *askers, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (askers[i].plan) {
      run_plan(c, &askers[i]);
    } else {
      run_dump(c, &askers[i]);
    }
  }
}

static void forget_looks(const struct compiler_asker *askers, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    mem_free(askers[i].path);
  }
}

/* ---- the thread ---- */

struct jobs {
  bool first, reload, resolved, collect, quit;
  struct compiler_asker reloads[COMPILER_ASKERS_MAX], looks[COMPILER_ASKERS_MAX];
  uint32_t reload_count, look_count;
};

static bool take_jobs(struct compiler *c, struct jobs *jobs) {
  pthread_mutex_lock(&c->jobs_lock);
  *jobs = (struct jobs){.first = c->job_first,
                        .reload = c->job_reload,
                        .resolved = c->job_resolved,
                        .collect = c->job_collect,
                        .quit = c->job_quit,
                        .reload_count = c->reload_count,
                        .look_count = c->look_count};
  memcpy(jobs->reloads, c->reloads, sizeof c->reloads);
  memcpy(jobs->looks, c->looks, sizeof c->looks);
  c->job_first = c->job_reload = c->job_resolved = c->job_collect = false;
  c->reload_count = c->look_count = 0;
  pthread_mutex_unlock(&c->jobs_lock);
  return jobs->first || jobs->reload || jobs->resolved || jobs->collect || jobs->quit ||
         jobs->look_count;
}

static void run_jobs(struct compiler *c, const struct jobs *jobs) {
  c->collect = c->collect || jobs->collect;
  if (jobs->resolved) { /* also sooner than a retry */
    uint64_t due_ms = clock_ms() + COMPILER_RESOLVED_MS;
    c->resolved_due_ms = c->resolved_due_ms < due_ms ? c->resolved_due_ms : due_ms;
  }
  if (jobs->first) {
    run_first(c);
  }
  if (!c->published.current) {
    forget_looks(jobs->looks, jobs->look_count);
    return; /* it could not start; the process is about to end */
  }
  if (jobs->reload) {
    run_reload(c, jobs->reloads, jobs->reload_count);
  }
  run_looks(c, jobs->looks, jobs->look_count);
  forget_looks(jobs->looks, jobs->look_count);
}

/* run_ticks does what is due by time; returns when the next thing is. */
static uint64_t run_ticks(struct compiler *c) {
  uint64_t now = clock_ms();
  if (c->watch_due_ms <= now) {
    secrets_look(c, now);
  }
  if (c->resolved_due_ms <= now) {
    c->resolved_due_ms = UINT64_MAX;
    run_resolved(c);
  }
  if (c->collect && c->collect_due_ms <= now) {
    c->collect_due_ms = publish_collect(c) ? UINT64_MAX : now + COMPILER_COLLECT_MS;
  }
  if (c->collect && c->collect_due_ms == UINT64_MAX) {
    c->collect_due_ms = now + COMPILER_COLLECT_MS;
  }
  if (!c->collect) {
    c->collect_due_ms = UINT64_MAX; /* something else collected in between */
  }
  uint64_t due = c->collect_due_ms < c->resolved_due_ms ? c->collect_due_ms : c->resolved_due_ms;
  return c->watch_due_ms < due ? c->watch_due_ms : due;
}

static void wait_for_work(struct compiler *c, uint64_t due_ms) {
  uint64_t now = clock_ms();
  int timeout = due_ms == UINT64_MAX ? -1 : due_ms <= now ? 0 : (int)(due_ms - now);
  struct pollfd event = {.fd = c->config.workers->ack_event, .events = POLLIN};
  (void)poll(&event, 1, timeout);
  uint64_t count;
  ssize_t n = read(event.fd, &count, sizeof count);
  (void)n;
}

static void *run(void *arg) {
  struct compiler *c = (struct compiler *)arg;
  struct jobs jobs;
  thread_name("weir-compile");
  /* Waiting for acknowledgements eats wakes: jobs are looked for right before the thread
   * sleeps. */
  for (;;) {
    uint64_t due_ms = run_ticks(c);
    if (!take_jobs(c, &jobs)) {
      wait_for_work(c, due_ms);
      continue;
    }
    if (jobs.quit) {
      forget_looks(jobs.looks, jobs.look_count);
      return NULL;
    }
    run_jobs(c, &jobs);
    tls_mem_trim(); /* what contexts of certificates were made in */
  }
}

int compiler_start(struct compiler *c, const struct compiler_config *config, struct conf *conf) {
  *c = (struct compiler){.config = *config,
                         .conf = conf,
                         .job_first = true,
                         .watch_due_ms = UINT64_MAX,
                         .resolved_due_ms = UINT64_MAX,
                         .collect_due_ms = UINT64_MAX};
  pthread_mutex_init(&c->published.lock, NULL);
  pthread_mutex_init(&c->jobs_lock, NULL);
  c->published.drain_ms = conf_process(conf)->drain_ms;
  c->published.drain_settle_ms = conf_process(conf)->drain_settle_ms;
  return thread_start(&c->thread, run, c);
}

void compiler_stop(struct compiler *c) {
  set_job(c, &c->job_quit);
  pthread_join(c->thread, NULL);
}

void compiler_fini(struct compiler *c) {
  for (uint32_t i = 0; i < c->retired_count; i++) {
    snapshot_free(c->retired[i].snapshot);
  }
  if (c->published.current) {
    snapshot_free(c->published.current);
  }
  mem_free(c->retired);
  forget_looks(c->looks, c->look_count);
  binds_fini(c);
  secrets_fini(c);
  (void)object_reap(c->config.registry);
  conf_free(c->conf);
  for (struct compiler_outcome *o; (o = compiler_take(c)) != NULL;) {
    compiler_outcome_free(o);
  }
  pthread_mutex_destroy(&c->published.lock);
  pthread_mutex_destroy(&c->jobs_lock);
}
