/* control.c: the control thread: starts everything in the order that privileges and threads ask
 * for, turns the poller, ends everything in the reverse order. Nothing here blocks once the
 * workers run. DESIGN.md section 4, "Threads and processes". Called by main/. */
#include <malloc.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/control_priv.h"
#include "control/inherit_priv.h"
#include "control/prober_priv.h"
#include "control/resolver_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"
#include "weir/control/admin.h"
#include "weir/io/tls.h"
#include "weir/io/tls_client.h"

#define TICKETS_ROTATE_MS (12u * 3600u * 1000u)
#define MEMORY_TRIM_MS 10000u
#define MEMORY_FREE_BYTES (96u << 10)
#define LOG_STOP_MS 1000u

/* Before the log runs, and when it cannot: one sentence on stderr. */
static int say(int code, const char *sentence) {
  (void)fprintf(stderr, "weir: %s\n", sentence);
  return code;
}

/* ---- callbacks of the parts ---- */

static void ring_inbox(void *ctx) {
  struct control *c = (struct control *)ctx;
  uint64_t one = 1;
  ssize_t n = write(c->inbox.fd, &one, sizeof one);
  (void)n;
}

static void on_resolved(void *ctx) { compiler_resolved(&((struct control *)ctx)->compiler); }

/* The configuration is read through the loader; env first asks whoever started us. */
static const char *on_env(void *ctx, const char *name) {
  struct control *c = (struct control *)ctx;
  const char *value = c->options->env ? c->options->env(c->options->ctx, name) : NULL;
  return value ? value : c->plain.env(c->plain.ctx, name);
}

static int on_read(void *ctx, const char *path, struct text *out) {
  const struct conf_reader *plain = &((struct control *)ctx)->plain;
  return plain->read(plain->ctx, path, out);
}

static int on_glob(void *ctx, const char *pattern, void (*each)(const char *path, void *arg),
                   void *arg) {
  const struct conf_reader *plain = &((struct control *)ctx)->plain;
  return plain->glob(plain->ctx, pattern, each, arg);
}

static int on_mode(void *ctx, const char *path) {
  const struct conf_reader *plain = &((struct control *)ctx)->plain;
  return plain->mode(plain->ctx, path);
}

static void on_first(struct control *c, const struct compiler_outcome *o) {
  if (c->phase != PHASE_STARTING) {
    return; /* told to end meanwhile */
  }
  if (o->code) {
    (void)fprintf(stderr, "weir: " SPAN_FMT "\n", SPAN_ARG(text_span(&o->text)));
    c->exit_code = o->code;
    control_end(c);
    return;
  }
  pthread_mutex_lock(&c->compiler.published.lock);
  uint32_t connections = c->compiler.published.current->max_connections;
  pthread_mutex_unlock(&c->compiler.published.lock);
  c->phase = PHASE_RUNNING;
  notify_manager("READY=1\nSTATUS=generation 1 runs");
  log_line(c->log, END_LEVEL_INFO,
           "weir " WEIR_VERSION " runs: generation 1, %u workers, at most %u connections",
           c->workers.count, connections);
  if (c->options->ready) {
    c->options->ready(c->options->ctx);
  }
}

/* look_after hands a new snapshot to the prober. The compile thread holds the lock only for
 * moments. */
static void look_after(struct control *c) {
  struct published *published = &c->compiler.published;
  bool dropped = false;
  pthread_mutex_lock(&published->lock);
  if (published->current && published->serial != c->probed_serial) {
    c->probed_serial = published->serial;
    dropped = prober_sync(c->prober, published->current);
  }
  pthread_mutex_unlock(&published->lock);
  if (dropped) {
    compiler_collect(&c->compiler);
  }
}

static void say_part(void *ctx, enum end_level level, const char *sentence) {
  log_text(((struct control *)ctx)->log, level, span_str(sentence));
}

static void on_inbox(struct poll_watch *watch, short revents) {
  (void)revents;
  struct control *c = container_of(watch, struct control, inbox);
  uint64_t count;
  ssize_t n = read(watch->fd, &count, sizeof count);
  (void)n;
  resolver_pump(c->resolver);
  look_after(c);
  for (struct compiler_outcome *o; (o = compiler_take(&c->compiler)) != NULL;) {
    if (o->first) {
      on_first(c, o);
    } else {
      admin_outcome(c, o);
    }
    compiler_outcome_free(o);
  }
}

static void on_stop_event(struct poll_watch *watch, short revents) {
  (void)revents;
  struct control *c = container_of(watch, struct control, stops);
  uint64_t count;
  ssize_t n = read(watch->fd, &count, sizeof count);
  (void)n;
  if (workers_stopped(&c->workers)) {
    c->phase = PHASE_ENDED;
  }
}

/* on_memory gives back what traffic has left free in the heap, also while other traffic goes on,
 * and TLS policies that nothing uses any more. */
static void on_memory(struct poll_timer *timer) {
  struct control *c = container_of(timer, struct control, memory);
  tls_clients_reap();
  tls_servers_reap();
  mem_trim_over(MEMORY_FREE_BYTES);
  poller_set(&c->poller, timer, clock_ms() + MEMORY_TRIM_MS);
}

static void on_tickets(struct poll_timer *timer) {
  struct control *c = container_of(timer, struct control, tickets);
  tls_tickets_rotate();
  poller_set(&c->poller, timer, clock_ms() + TICKETS_ROTATE_MS);
}

/* tell_warnings says what loading found: in the log; where it never came to one, on stderr. */
static void tell_warnings(struct control *c, bool logs) {
  struct span text = text_span(&c->warnings);
  if (text.len && logs) {
    log_text(c->log, END_LEVEL_WARN, text);
  } else if (text.len) {
    (void)fprintf(stderr, SPAN_FMT "\n", SPAN_ARG(text));
  }
  text_fini(&c->warnings);
}

/* ---- starting: step by step, each says why it cannot ---- */

static struct conf *load(struct control *c) {
  const struct control_options *o = c->options;
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = o->path ? conf_load(&c->reader, o->path, faults)
                              : conf_load_text(&c->reader, o->name, o->text, faults);
  struct text text = {.ptr = NULL};
  conf_faults_print(faults, &text, isatty(STDERR_FILENO));
  conf_faults_free(faults);
  if (conf && text.len && !isatty(STDERR_FILENO)) {
    c->warnings = text; /* a program reads: as lines of the log */
    return conf;
  }
  if (text.len || !conf) {
    (void)fprintf(stderr, SPAN_FMT "%s\n", SPAN_ARG(text_span(&text)),
                  conf ? "" : "; weir was not started.");
  }
  text_fini(&text);
  return conf;
}

static int open_log(struct control *c, const struct conf_process *p) {
  char why[512] = "";
  struct buf b = buf_of(why, sizeof why - 1);
  const struct log_config config = {.workers = p->workers,
                                    .to = p->log_to,
                                    .level = p->log_level,
                                    .access = p->access_to,
                                    .access_json = strcmp(p->access_format, "json") == 0,
                                    .loader = &c->loader};
  c->log = log_new(&config, &b);
  return c->log ? 0 : say(WEIR_CANNOT_START, why);
}

static int open_keys(struct control *c, const struct conf_process *p) {
  char why[512] = "";
  struct buf b = buf_of(why, sizeof why - 1);
  return key_log_open(p->tls_keys, c->options->log_tls_keys, c->log, &b)
             ? 0
             : say(WEIR_CANNOT_START, why);
}

/* listen_control binds the admin socket or the status port; the descriptor or -errno. */
static int listen_control(struct control *c, struct span text, uint32_t flags,
                          const struct privilege *who, struct loader_stat *file,
                          struct buf *why) {
  const struct loader_bind_conf conf = {
      .text = text, .flags = flags, .count = 1, .uid = who->uid, .gid = who->gid};
  int fds[LOADER_FDS_MAX];
  uint32_t count;
  int err = loader_listen(&c->loader, &conf, fds, &count, file, why);
  return err < 0 ? err : fds[0];
}

static int open_admin(struct control *c, const struct conf_process *p,
                      const struct privilege *who) {
  char why[512] = "";
  struct buf b = buf_of(why, sizeof why - 1);
  struct span text = span_str(p->admin_listen);
  if (!p->admin_listen) {
    return 0;
  }
  int fd = listen_control(c, text, LOADER_PRIVATE, who, &c->admin_file, &b);
  if (fd < 0 && p->admin_auto) {
    log_line(c->log, END_LEVEL_WARN, "%s: going on without an admin socket (admin.listen)", why);
    return 0;
  }
  if (fd < 0) {
    return say(WEIR_CANNOT_START, why);
  }
  c->admin_path = mem_str(span_from(text, sizeof "unix:" - 1));
  admin_start(c, fd);
  return 0;
}

static int open_status(struct control *c, const struct conf_process *p,
                       const struct privilege *who) {
  char why[512] = "";
  struct buf b = buf_of(why, sizeof why - 1);
  struct loader_stat file;
  if (!p->status_listen) {
    return 0;
  }
  int fd = listen_control(c, span_str(p->status_listen), LOADER_PROBE, who, &file, &b);
  if (fd < 0) {
    (void)say(WEIR_CANNOT_START, why);
    return say(WEIR_CANNOT_START, "the status port (admin.status) cannot be served");
  }
  status_start(c, fd);
  return 0;
}

/* tell_root: whoever breaks into a worker has what it has. Once, and no warning: in a container it
 * may be meant so. A weir without a file can name no user. */
static void tell_root(const struct control *c) {
  if (geteuid() == 0 && c->options->path) {
    log_line(c->log, END_LEVEL_INFO,
             "weir serves as root; with process.user it becomes a user of its own and still binds "
             "ports below 1024 and reads root's keys, by its loader process");
  }
}

/* Everything that needs privileges, and the last moment they are there. */
static int start_privileged(struct control *c, const struct conf_process *p) {
  char why[512] = "";
  struct buf b = buf_of(why, sizeof why - 1);
  struct privilege who;
  if (privilege_find(p->user, &who, &b) < 0 || loop_uring_probe(&b) < 0) {
    return say(WEIR_CANNOT_START, why);
  }
  c->connections_max = connections_max(p->max_connections, p->workers, &c->descriptors);
  if (c->descriptors < descriptors_needed(p->workers)) {
    buf_printf(&b,
               "%llu descriptors are allowed (RLIMIT_NOFILE), %u workers need at least %u: "
               "raise the limit (LimitNOFILE= of the unit, ulimit -n)",
               (unsigned long long)c->descriptors, p->workers, descriptors_needed(p->workers));
    return say(WEIR_CANNOT_START, why);
  }
  int code = open_log(c, p);
  code = code ? code : open_keys(c, p);
  code = code ? code : open_admin(c, p, &who);
  code = code ? code : open_status(c, p, &who);
  if (code) {
    return code;
  }
  if (privilege_drop(&who, &b) < 0) {
    return say(WEIR_CANNOT_START, why);
  }
  tell_root(c);
  return 0;
}

static void start_random(void) {
  uint64_t seed[2];
  tls_random(seed, sizeof seed);
  hash_seed(seed[0], seed[1]);
  tls_tickets_init();
}

static int start_workers(struct control *c, const struct conf_process *p) {
  char why[512] = "";
  struct buf b = buf_of(why, sizeof why - 1);
  uint32_t wanted = p->max_connections;
  bool clamp = wanted == 0 || wanted > c->connections_max;
  const struct workers_config config = {
      .count = p->workers,
      .pin = p->workers_auto,
      .max_connections = clamp ? c->connections_max : wanted,
      .connections_max = c->connections_max,
      .descriptors = c->descriptors,
      .log = c->log,
      .access_log = strcmp(p->access_to, "off") != 0,
      .sample_ppm = p->access_sample_ppm,
  };
  if (signers_start(&c->signers, p->signers) < 0) {
    return say(WEIR_CANNOT_START, "cannot start the threads of process.signers");
  }
  if (workers_start(&c->workers, &config, &b) < 0) {
    return say(WEIR_CANNOT_START, why);
  }
  c->stops = (struct poll_watch){
      .fd = c->workers.stop_event, .events = POLLIN, .ready = on_stop_event};
  check(poller_add(&c->poller, &c->stops));
  return 0;
}

static int start_compiler(struct control *c, struct conf *conf) {
  const struct compiler_config config = {.options = c->options,
                                         .reader = c->reader,
                                         .loader = &c->loader,
                                         .workers = &c->workers,
                                         .resolver = c->resolver,
                                         .log = c->log,
                                         .registry = c->registry,
                                         .connections_max = c->connections_max,
                                         .descriptors = c->descriptors,
                                         .wake = ring_inbox,
                                         .ctx = c};
  int err = compiler_start(&c->compiler, &config, conf);
  return err < 0 ? say(WEIR_CANNOT_START, "cannot start the compile thread") : 0;
}

static void start_parts(struct control *c, const struct conf_process *p) {
  start_random();
  signals_open(c);
  c->inbox = (struct poll_watch){
      .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = POLLIN, .ready = on_inbox};
  check(c->inbox.fd >= 0 && poller_add(&c->poller, &c->inbox));
  struct resolver_config resolver = {.poller = &c->poller,
                                     .wake = ring_inbox,
                                     .changed = on_resolved,
                                     .say = say_part,
                                     .ctx = c};
  tls_random(&resolver.seed, sizeof resolver.seed);
  c->resolver = resolver_new(&resolver);
  struct prober_config prober = {.poller = &c->poller, .say = say_part, .ctx = c};
  tls_random(&prober.seed, sizeof prober.seed);
  c->prober = prober_new(&prober);
  c->registry = registry_new(p->workers);
  poll_timer_init(&c->settle, NULL);
  poll_timer_init(&c->tickets, on_tickets);
  poller_set(&c->poller, &c->tickets, clock_ms() + TICKETS_ROTATE_MS);
  poll_timer_init(&c->memory, on_memory);
  poller_set(&c->poller, &c->memory, clock_ms() + MEMORY_TRIM_MS);
  loader_watch(c);
  log_start(c->log);
  tell_warnings(c, true);
}

/* ---- ending ---- */

static uint32_t objects_left(struct registry *r) {
  uint32_t left = object_reap(r);
  for (int kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
    left += registry_count(r, (enum object_kind)kind);
  }
  return left;
}

static void close_watch(struct control *c, struct poll_watch *watch) {
  poller_remove(&c->poller, watch);
  close(watch->fd);
}

static void stop_compiler(struct control *c) {
  prober_stop(c->prober);
  compiler_stop(&c->compiler);
  workers_join(&c->workers);
  compiler_fini(&c->compiler);
  tls_clients_reap();
  tls_servers_reap();
}

static void stop_parts(struct control *c) {
  signers_stop(&c->signers);
  resolver_free(c->resolver);
  prober_free(c->prober);
  if (objects_left(c->registry) == 0) {
    registry_free(c->registry);
  } else if (!c->at_once) {
    /* A worker that was stopped may leave messages, and what they name, undone. */
    log_line(c->log, END_LEVEL_WARN, "objects were left over at the end: please report this");
  }
  loader_watch_stop(c);
  close_watch(c, &c->signals);
  close_watch(c, &c->inbox);
}

static void stop_privileged(struct control *c) {
  if (c->admin_on) {
    server_stop(&c->admin);
    loader_unlink(&c->loader, c->admin_path, &c->admin_file);
  }
  if (c->status_on) {
    server_stop(&c->status);
  }
  mem_free(c->admin_path);
  /* A log that hangs on its output is left behind: the process ends anyway. */
  if (c->log && log_stop(c->log, LOG_STOP_MS)) {
    log_free(c->log);
  }
}

/* ---- running ---- */

/* overdue ends what does not end: stop the workers, then leave them. */
static void overdue(struct control *c) {
  if (clock_ms() < c->end_by_ms) {
    return;
  }
  if (!c->at_once) {
    log_line(c->log, END_LEVEL_WARN, "the drain is over, connections are left: closing them");
    control_end(c);
    return;
  }
  (void)say(WEIR_FAILED, "a worker does not stop; leaving it");
  loader_stop(&c->loader);
  _exit(c->exit_code ? c->exit_code : WEIR_FAILED);
}

static void turn(struct control *c) {
  while (c->phase != PHASE_ENDED) {
    poller_turn(&c->poller, c->end_by_ms);
    overdue(c);
  }
}

static int run_threads(struct control *c, struct conf *conf) {
  start_parts(c, conf_process(conf));
  int code = start_workers(c, conf_process(conf));
  if (code) {
    conf_free(conf);
    stop_parts(c);
    return code;
  }
  code = start_compiler(c, conf);
  check(code == 0);
  alarm_start(c);
  turn(c);
  poller_remove(&c->poller, &c->stops);
  log_line(c->log, END_LEVEL_INFO, "weir ends");
  stop_compiler(c);
  stop_parts(c);
  workers_fini(&c->workers);
  return c->exit_code;
}

static int run(struct control *c) {
  struct conf *conf = load(c);
  if (!conf) {
    return WEIR_BAD_CONFIG;
  }
  int code = start_privileged(c, conf_process(conf));
  if (code) {
    conf_free(conf);
  } else {
    code = run_threads(c, conf);
  }
  tell_warnings(c, false);
  stop_privileged(c);
  return code;
}

/* file_of is where the configuration lies, for whoever asks from another directory. */
static char *file_of(const struct control_options *o) {
  struct text path = {.ptr = NULL};
  char *file = o->path && admin_file(o->path, &path) ? mem_str(text_span(&path)) : NULL;
  text_fini(&path);
  return file ? file : o->path ? mem_str(span_str(o->path)) : NULL;
}

/* One arena: workers do not allocate on the data path, and memory goes back to the system. */
static void tame_malloc(void) {
  (void)mallopt(M_ARENA_MAX, 1);
  (void)mallopt(M_MMAP_THRESHOLD, 128 << 10);
  (void)mallopt(M_TRIM_THRESHOLD, 256 << 10);
}

int control_run(const struct control_options *options) {
  struct control *c = (struct control *)mem_alloc(sizeof *c);
  c->options = options;
  c->start_wall_ms = clock_wall_ms();
  c->end_by_ms = UINT64_MAX;
  poller_init(&c->poller);
  tame_malloc();
  inherit_take();
  c->file = file_of(options);
  notify_open();
  c->loader_privileged = privilege_any();
  signals_block();
  umask(0027);
  int err = loader_start(&c->loader);
  if (err < 0) {
    mem_free(c->file);
    mem_free(c);
    return say(WEIR_CANNOT_START, "cannot start the loader process");
  }
  c->plain = loader_reader(&c->loader);
  c->reader = (struct conf_reader){
      .read = on_read, .glob = on_glob, .env = on_env, .mode = on_mode, .ctx = c};
  int code = run(c);
  loader_stop(&c->loader);
  mem_free(c->file);
  mem_free(c);
  return code;
}
