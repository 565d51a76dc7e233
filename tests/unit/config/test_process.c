/* test_process.c: what the process gets, "auto", the default admin socket, keys that need a
 * restart. */
#include "config_kit.h"

#include <unistd.h>

#include "weir/config/diff.h"

static void test_fields(void **state) {
  (void)state;
  struct conf *conf = kit_good(
      "process = { workers = 3; user = \"weir\"; drain = \"5s\"; drain_settle = \"2s\"; "
      "max_connections = 99; };"
      "admin = { listen = \"unix:/x\"; status = \"127.0.0.1:9180\"; };"
      "log = { level = \"warn\"; to = \"logs/weir.log\"; access = { to = \"/var/log/a\"; format = "
      "\"text\"; sample = \"12.5%\"; }; };");
  const struct conf_process *p = conf_process(conf);
  assert_int_equal(p->workers, 3);
  assert_false(p->workers_auto);
  assert_string_equal(p->user, "weir");
  assert_int_equal(p->drain_ms, 5000);
  assert_int_equal(p->drain_settle_ms, 2000);
  assert_int_equal(p->max_connections, 99);
  assert_string_equal(p->admin_listen, "unix:/x");
  assert_false(p->admin_auto);
  assert_string_equal(p->status_listen, "127.0.0.1:9180");
  assert_string_equal(p->log_level, "warn");
  assert_string_equal(p->log_to, "/etc/weir/logs/weir.log");
  assert_string_equal(p->access_to, "/var/log/a");
  assert_string_equal(p->access_format, "text");
  assert_int_equal(p->access_sample_ppm, 125000);
  conf_free(conf);
}

static void test_defaults(void **state) {
  (void)state;
  struct conf *conf = kit_good("");
  const struct conf_process *p = conf_process(conf);
  assert_true(p->workers >= 1 && p->workers <= WORKERS_MAX);
  assert_true(p->workers_auto);
  assert_null(p->user);
  assert_int_equal(p->drain_ms, 30000);
  assert_int_equal(p->max_connections, 0);
  assert_true(p->admin_auto);
  assert_null(p->status_listen);
  assert_string_equal(p->log_to, "stderr");
  assert_string_equal(p->access_to, "stdout");
  conf_free(conf);
  conf = kit_good("admin = { listen = \"off\"; };");
  assert_null(conf_process(conf)->admin_listen);
  assert_false(conf_process(conf)->admin_auto);
  conf_free(conf);
}

static void admin_default(const char *const *env, const char *want) {
  const struct kit kit = {NULL, env};
  struct conf_reader reader = kit_reader(&kit);
  struct text out = {0};
  assert_int_equal(conf_admin_default(&reader, &out), want != NULL);
  if (want) kit_assert_text(text_span(&out), want);
  text_fini(&out);
}

static void test_admin_default(void **state) {
  (void)state;
  bool root = geteuid() == 0;
  static const char *const systemd[] = {"RUNTIME_DIRECTORY", "/run/w:/run/x", NULL};
  static const char *const user[] = {"XDG_RUNTIME_DIR", "/run/user/7", NULL};
  static const char *const odd[] = {"RUNTIME_DIRECTORY", "relative", "XDG_RUNTIME_DIR", "", NULL};
  admin_default(systemd, "unix:/run/w/admin.sock");
  admin_default(user, root ? "unix:/run/weir/admin.sock" : "unix:/run/user/7/weir/admin.sock");
  admin_default(odd, root ? "unix:/run/weir/admin.sock" : NULL);
}

/* keep has next take over from now; how many keys wait, each told with both values. */
static uint32_t keep(const struct conf *now, struct conf *next, const char *told) {
  struct conf_faults *faults = conf_faults_new();
  uint32_t count = conf_keep_restart(now, next, faults);
  struct fault_view view;
  assert_int_equal(conf_faults_errors(faults), 0);
  assert_int_equal(conf_faults_warnings(faults), count);
  if (faults_view(faults, 0, &view)) {
    assert_int_equal(view.id, FAULT_NEEDS_RESTART);
    kit_assert_text(view.message, told);
  }
  conf_faults_free(faults);
  return count;
}

static uint32_t restart(const char *before, const char *after, const char *told) {
  struct conf *now = kit_good(before), *next = kit_good(after);
  uint32_t count = keep(now, next, told);
  conf_free(now);
  conf_free(next);
  return count;
}

static void test_restart(void **state) {
  (void)state;
  assert_int_equal(
      restart("process = { workers = 3; };", "process = { workers = 3; drain = \"1s\"; };", ""),
      0);
  assert_int_equal(
      restart("", "process = { workers = 3; };", "process.workers: \"auto\" -> 3 needs a restart"),
      1);
  assert_int_equal(
      restart("process = { workers = 3; };", "", "process.workers: 3 -> \"auto\" needs a restart"),
      1);
  assert_int_equal(restart("", "process = { user = \"weir\"; };",
                           "process.user: unset -> \"weir\" needs a restart"),
                   1);
  assert_int_equal(restart("admin = { listen = \"off\"; };",
                           "admin = { listen = \"auto\"; status = \"127.0.0.1:1\"; };",
                           "admin.listen: \"off\" -> \"auto\" needs a restart"),
                   2);
}

/* What waits for a restart goes on waiting over any number of reloads, and what is told is always
 * what runs. */
static void test_restart_is_remembered(void **state) {
  (void)state;
  struct conf *first = kit_good(
      "process = { workers = 3; user = \"a\"; };"
      "log = { access = { to = \"off\"; }; };");
  struct conf *second = kit_good("process = { workers = 4; drain = \"1s\"; };");
  struct conf *third = kit_good("process = { workers = 5; };");
  struct conf *fourth = kit_good(
      "process = { workers = 3; user = \"a\"; };"
      "log = { access = { to = \"off\"; }; };");
  assert_int_equal(keep(first, second, "process.workers: 3 -> 4 needs a restart"), 3);
  assert_int_equal(conf_process(second)->workers, 3);
  assert_false(conf_process(second)->workers_auto);
  assert_string_equal(conf_process(second)->user, "a");
  assert_string_equal(conf_process(second)->access_to, "off");
  assert_int_equal(conf_process(second)->drain_ms, 1000); /* this one is live */
  conf_free(first);
  assert_int_equal(keep(second, third, "process.workers: 3 -> 5 needs a restart"), 3);
  conf_free(second);
  assert_int_equal(keep(third, fourth, ""), 0);
  assert_string_equal(conf_process(fourth)->user, "a");
  struct text out = {0};
  conf_dump(third, &out, false);
  text_put(&out, span_of("", 1));
  assert_non_null(strstr(out.ptr, "workers = 5;  # weir.conf:2; until a restart: 3\n"));
  text_fini(&out);
  conf_free(third);
  conf_free(fourth);
}

/* Every option that needs a restart is kept: one that is not would change half way. */
static const char *const restart_texts[][2] = {
    {"process.workers", "process = { workers = 7; };"},
    {"process.signers", "process = { signers = 3; };"},
    {"log.tls_keys", "log = { tls_keys = \"/elsewhere\"; };"},
    {"process.user", "process = { user = \"nobody\"; };"},
    {"admin.listen", "admin = { listen = \"unix:/elsewhere\"; };"},
    {"admin.status", "admin = { status = \"127.0.0.1:77\"; };"},
    {"log.to", "log = { to = \"/elsewhere\"; };"},
    {"log.access.to", "log = { access = { to = \"/elsewhere\"; }; };"},
};

static void same_text(const char *a, const char *b) {
  assert_int_equal(!a, !b);
  if (a) assert_string_equal(a, b);
}

static void test_restart_options_are_kept(void **state) {
  (void)state;
  uint32_t count = 0;
  for (enum option_id id = 0; id < OPTION_COUNT; id++)
    count += option_get(id)->flags & OPTION_RESTART ? 1 : 0;
  assert_int_equal(count, array_count(restart_texts));
  for (size_t i = 0; i < array_count(restart_texts); i++) {
    struct conf *now = kit_good("process = { workers = 2; };"),
                *next = kit_good(restart_texts[i][1]);
    struct conf_faults *faults = conf_faults_new();
    assert_true(conf_keep_restart(now, next, faults) >= 1);
    struct text out = {0};
    conf_faults_print(faults, &out, false);
    text_put(&out, span_of("", 1));
    assert_non_null(strstr(out.ptr, restart_texts[i][0]));
    text_fini(&out);
    const struct conf_process *a = conf_process(now), *b = conf_process(next);
    assert_int_equal(a->workers, b->workers);
    assert_int_equal(a->signers, b->signers);
    same_text(a->user, b->user);
    same_text(a->admin_listen, b->admin_listen);
    assert_int_equal(a->admin_auto, b->admin_auto);
    same_text(a->status_listen, b->status_listen);
    same_text(a->log_to, b->log_to);
    same_text(a->access_to, b->access_to);
    same_text(a->tls_keys, b->tls_keys);
    conf_faults_free(faults);
    conf_free(now);
    conf_free(next);
  }
}

/* ---- a machine that it would not start on ---- */

static bool knows_a(const char *user) { return strcmp(user, "a") == 0; }

static int mode_of(void *ctx, const char *path) {
  (void)ctx;
  return strcmp(path, "/there") == 0 ? 0755 : strcmp(path, "/shut") == 0 ? -EACCES : -ENOENT;
}

static void test_machine(void **state) {
  (void)state;
  static const struct {
    const char *text, *want; /* want NULL: nothing is said */
  } rows[] = {
      {"process = { user = \"a\"; }; log = { to = \"/there/x\"; access = { to = \"/x\"; }; };",
       NULL},
      {"log = { to = \"stdout\"; access = { to = \"/shut/x\"; }; };", NULL},
      {"process = { user = \"b\"; };",
       "warning[W0411]: process.user: there is no user \"b\" on this machine: weir does not "
       "start\n"
       "  --> /etc/weir/weir.conf:2:20"},
      {"log = { access = { to = \"/none/there/x\"; }; };",
       "warning[W0412]: log.access.to: the directory /none/there does not exist: weir does not "
       "start\n"},
      {"log = { to = \"/none/x\"; };", "warning[W0412]: log.to: the directory /none does not"},
  };
  const struct conf_reader reader = {.mode = mode_of};
  for (size_t i = 0; i < array_count(rows); i++) {
    struct conf *conf = kit_good(rows[i].text), *now = kit_good("process = { user = \"b\"; };");
    struct conf_faults *faults = conf_faults_new();
    struct text out = {0};
    conf_check_machine(conf, &reader, knows_a, faults);
    assert_int_equal(conf_faults_errors(faults), 0);
    assert_int_equal(conf_faults_warnings(faults), rows[i].want ? 1 : 0);
    conf_faults_print(faults, &out, false);
    text_put(&out, span_of("", 1));
    if (rows[i].want && !strstr(out.ptr, rows[i].want)) fail_msg("%s", out.ptr);
    text_fini(&out);
    conf_faults_free(faults);
    faults = conf_faults_new(); /* nobody asks for the user that it runs as */
    (void)conf_keep_restart(now, conf, faults);
    uint32_t before = conf_faults_warnings(faults);
    conf_check_machine(conf, &reader, knows_a, faults);
    bool log = rows[i].want && strstr(rows[i].want, "W0412");
    assert_int_equal(conf_faults_warnings(faults) - before, log ? 1 : 0);
    conf_faults_free(faults);
    conf_free(conf);
    conf_free(now);
  }
}

/* ---- more connections than there can be ---- */

static void test_connections(void **state) {
  (void)state;
  const struct {
    uint32_t wanted, most;
    uint64_t descriptors;
    const char *want; /* NULL: nothing is said */
  } rows[] = {
      {99, 99, 1024, NULL},
      {0, 16, 72, NULL}, /* "auto" */
      {0, 16, 71,
       "warning[W0408]: 16 connections and weir itself may need 72 descriptors, 71 are allowed "
       "(RLIMIT_NOFILE): they run out first"},
      {10, 16, 60, NULL},
      {10, 16, 59,
       "warning[W0408]: 10 connections and weir itself may need 60 descriptors, 59 are allowed "
       "(RLIMIT_NOFILE): they run out first\n  --> /etc/weir/weir.conf:3:31"},
      {100, 99, 1024,
       "warning[W0408]: process.max_connections = 100 needs 200 descriptors beside weir's own, "
       "1024 are allowed (RLIMIT_NOFILE): at most 99 connections\n  --> /etc/weir/weir.conf:3:31"},
      {2000000, 1048576, 1073741816,
       "warning[W0408]: process.max_connections = 2000000 is more than weir was started for: at "
       "most 1048576 connections\n"},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    char *text = rows[i].wanted
                     ? mem_printf("\nprocess = { max_connections = %u; };", rows[i].wanted)
                     : mem_str(SPAN_EMPTY);
    struct conf *conf = kit_good(text);
    struct conf_faults *faults = conf_faults_new();
    struct text out = {0};
    conf_check_connections(conf, rows[i].most, (struct conf_descriptors){rows[i].descriptors, 40},
                           faults);
    assert_int_equal(conf_faults_warnings(faults), rows[i].want ? 1 : 0);
    conf_faults_print(faults, &out, false);
    text_put(&out, span_of("", 1));
    if (rows[i].want && !strstr(out.ptr, rows[i].want)) fail_msg("%s", out.ptr);
    text_fini(&out);
    conf_faults_free(faults);
    conf_free(conf);
    mem_free(text);
  }
}

/* ---- settings in a diff ---- */

static void diff(const char *before, const char *after, bool json, const char *want) {
  struct conf *now = kit_good(before), *next = kit_good(after);
  struct conf_faults *faults = conf_faults_new();
  struct snapshot none = {0};
  const struct conf_side a = {now, &none}, b = {next, &none};
  struct text out = {0};
  (void)conf_keep_restart(now, next, faults);
  uint32_t count = conf_diff(&a, &b, &out, json);
  kit_assert_text(text_span(&out), want);
  uint32_t lines = 0;
  for (size_t i = 0; i < out.len; i++) lines += out.ptr[i] == (json ? '}' : '\n') ? 1 : 0;
  assert_int_equal(count, lines);
  text_fini(&out);
  conf_faults_free(faults);
  conf_free(now);
  conf_free(next);
}

static void test_diff(void **state) {
  (void)state;
  diff("", "", false, "");
  diff("", "", true, "[]");
  diff("process = { drain = \"2s\"; };", "process = { drain = \"5s\"; };", false,
       "~ setting process.drain: \"2s\" -> \"5s\"\n");
  diff("process = { drain = \"30s\"; };", "", false, ""); /* the default, written out */
  diff("process = { workers = 2; };", "process = { workers = 3; };", false, ""); /* waits */
  diff("log = { level = \"info\"; };",
       "log = { level = \"debug\"; access = { format = \"text\"; sample = \"1%\"; }; };"
       "process = { max_connections = 9; drain_settle = \"1s\"; };",
       false,
       "~ setting process.drain_settle: \"0s\" -> \"1s\"\n"
       "~ setting process.max_connections: \"auto\" -> 9\n"
       "~ setting log.level: \"info\" -> \"debug\"\n"
       "~ setting log.access.format: \"json\" -> \"text\"\n"
       "~ setting log.access.sample: \"100%\" -> \"1%\"\n");
  diff("", "process = { drain = \"5s\"; };", true,
       "[{\"change\":\"changed\",\"kind\":\"setting\",\"name\":\"process.drain\",\"detail\":"
       "\"\\\"30s\\\" -> \\\"5s\\\"\"}]");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_fields),
                                     cmocka_unit_test(test_defaults),
                                     cmocka_unit_test(test_admin_default),
                                     cmocka_unit_test(test_restart),
                                     cmocka_unit_test(test_restart_is_remembered),
                                     cmocka_unit_test(test_restart_options_are_kept),
                                     cmocka_unit_test(test_machine),
                                     cmocka_unit_test(test_connections),
                                     cmocka_unit_test(test_diff)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
