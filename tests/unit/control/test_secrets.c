/* Tests of control/secrets.c: what was taken from changed files, but could not be published, is
 * published by a later look, without another change. Which bytes are taken is test_renew.c's, what
 * clients are shown tests/e2e/test_tls_files.py's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/compiler_priv.h"
#include "control/log_priv.h"
#include "weir/base/mem.h"

/* world is a compile thread's, on this thread, with a worker; its one secret is a cookie's key. */
struct world {
  char dir[32];
  char *key, *socket, *errors;
  struct loader loader;
  struct log *log;
  struct registry *registry;
  struct workers workers;
  struct compiler c;
  uint64_t now_ms;
};

static void file_write(const char *path, const char *text) {
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  assert_true(fputs(text, f) >= 0);
  assert_int_equal(fclose(f), 0);
}

static struct conf *load(struct world *w) {
  struct conf_faults *faults = conf_faults_new();
  char *text = mem_printf("listeners = { web = { bind = \"unix:%s\"; }; };\n"
                          "pools = { app = { endpoints = \"127.0.0.1:1\";\n"
                          "  sticky = { cookie = \"c\"; key = \"file:%s\"; }; }; };\n"
                          "routes = ( { pool = \"app\"; } );\n",
                          w->socket, w->key);
  struct conf *conf = conf_load_text(&w->c.config.reader, "test", span_str(text), faults);
  assert_non_null(conf);
  mem_free(text);
  conf_faults_free(faults);
  return conf;
}

static void on_wake(void *ctx) { (void)ctx; }

static void open_parts(struct world *w) {
  char why[256] = "";
  struct buf b = buf_of(why, sizeof why - 1);
  const struct log_config log = {.workers = 1, .to = w->errors, .level = "info", .access = "off"};
  const struct workers_config workers = {
      .count = 1, .max_connections = 16, .connections_max = 16, .descriptors = 1024};
  assert_int_equal(loader_start(&w->loader), 0);
  w->log = log_new(&log, &b);
  assert_non_null(w->log);
  w->registry = registry_new(1);
  if (workers_start(&w->workers, &workers, &b) < 0) fail_msg("%s", why);
}

/* first makes a snapshot the current one, without its listening socket: the next publication has
 * to open that. */
static void first(struct world *w) {
  struct conf_faults *faults = conf_faults_new();
  const struct conf_hooks hooks = publish_hooks(&w->c, false);
  w->c.conf = load(w);
  w->c.published.current = conf_compile(w->c.conf, &hooks, w->registry, NULL, faults);
  assert_non_null(w->c.published.current);
  w->c.published.current->generation = w->c.generation = 1;
  w->c.published.live = 1;
  conf_faults_free(faults);
}

static struct world *world_new(void) {
  struct world *w = mem_alloc(sizeof *w);
  (void)snprintf(w->dir, sizeof w->dir, "/tmp/weir-secrets-XXXXXX");
  assert_non_null(mkdtemp(w->dir));
  w->key = mem_printf("%s/key", w->dir);
  w->socket = mem_printf("%s/socket", w->dir);
  w->errors = mem_printf("%s/errors", w->dir);
  file_write(w->key, "the first key of them all");
  open_parts(w);
  w->c.config = (struct compiler_config){.reader = loader_reader(&w->loader),
                                         .loader = &w->loader,
                                         .workers = &w->workers,
                                         .log = w->log,
                                         .registry = w->registry,
                                         .connections_max = 16,
                                         .wake = on_wake};
  pthread_mutex_init(&w->c.published.lock, NULL);
  pthread_mutex_init(&w->c.jobs_lock, NULL);
  first(w);
  secrets_watch(&w->c);
  return w;
}

static void stop_workers(struct world *w) {
  workers_close(&w->workers, &(struct worker_msg){.kind = WORKER_STOP});
  while (!workers_stopped(&w->workers)) {
    uint64_t count;
    assert_int_equal(read(w->workers.stop_event, &count, sizeof count), sizeof count);
  }
  workers_join(&w->workers);
}

static void world_free(struct world *w) {
  stop_workers(w);
  compiler_fini(&w->c);
  workers_fini(&w->workers);
  registry_free(w->registry);
  loader_stop(&w->loader);
  log_free(w->log);
  (void)unlink(w->key);
  (void)unlink(w->socket);
  (void)unlink(w->errors);
  assert_int_equal(rmdir(w->dir), 0);
  mem_free(w->key);
  mem_free(w->socket);
  mem_free(w->errors);
  mem_free(w);
}

/* occupy listens where weir's listener is to. */
static int occupy(const struct world *w) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  (void)snprintf(at.sun_path, sizeof at.sun_path, "%s", w->socket);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
  assert_int_equal(listen(fd, 8), 0);
  return fd;
}

/* look is what the thread does when it is due. */
static void look(struct world *w) {
  w->now_ms += COMPILER_WATCH_MS;
  secrets_look(&w->c, w->now_ms);
}

/* told is how many lines of the log say so. */
static uint32_t told(const struct world *w, const char *what) {
  (void)log_drain_once(w->log);
  char line[4096];
  uint32_t count = 0;
  FILE *f = fopen(w->errors, "r");
  assert_non_null(f);
  while (fgets(line, sizeof line, f)) count += strstr(line, what) != NULL;
  assert_int_equal(fclose(f), 0);
  return count;
}

#define NOT_TAKEN "not taken, the old ones stay"
#define IN_SERVICE "are in service"

/* nothing_published: all is as it was before the file changed. */
static void nothing_published(const struct world *w, const struct snapshot *before) {
  assert_ptr_equal(w->c.published.current, before);
  assert_int_equal(w->c.published.secrets_published, 0);
  assert_int_equal(told(w, IN_SERVICE), 0);
}

static void a_failed_publication_is_made_up_for(void **state) {
  (void)state;
  struct world *w = world_new();
  const struct snapshot *before = w->c.published.current;
  const struct pool *pool = before->pools[0];
  look(w); /* what may have changed while it was read: nothing */
  look(w);
  nothing_published(w, before);
  assert_int_equal(w->c.published.secrets_failed, 0);

  int fd = occupy(w);
  file_write(w->key, "the second one, and a good one too");
  look(w); /* it changes */
  look(w); /* it has settled */
  nothing_published(w, before);
  assert_int_equal(w->c.published.secrets_failed, 1);
  for (int i = 0; i < 3; i++) look(w);
  nothing_published(w, before);
  assert_int_equal(w->c.published.secrets_failed, 1); /* told once */
  assert_int_equal(told(w, NOT_TAKEN), 1);

  close(fd);
  look(w);
  const struct snapshot *now = w->c.published.current;
  assert_ptr_not_equal(now, before);
  assert_int_equal(now->generation, 1);
  assert_int_equal(now->revision, 1);
  assert_ptr_not_equal(now->pools[0], pool);
  assert_int_equal(w->c.published.secrets_published, 1);
  assert_int_equal(told(w, IN_SERVICE), 1);
  for (int i = 0; i < 3; i++) look(w);
  assert_ptr_equal(w->c.published.current, now); /* nothing is owed any more */
  assert_int_equal(told(w, IN_SERVICE), 1);
  world_free(w);
}

/* While weir drains nothing can be published, and nothing is owed: there is nobody to serve it. */
static void nothing_is_owed_while_weir_drains(void **state) {
  (void)state;
  struct world *w = world_new();
  const struct snapshot *before = w->c.published.current;
  look(w);
  file_write(w->key, "the second one, and a good one too");
  workers_close(&w->workers, &(struct worker_msg){.kind = WORKER_STOP});
  look(w);
  look(w);
  nothing_published(w, before);
  assert_int_equal(told(w, NOT_TAKEN), 1);
  assert_false(w->c.publish_owed || w->c.watch_changed);
  for (int i = 0; i < 3; i++) look(w);
  nothing_published(w, before);
  assert_int_equal(told(w, NOT_TAKEN), 1);
  world_free(w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_failed_publication_is_made_up_for),
      cmocka_unit_test(nothing_is_owed_while_weir_drains),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
