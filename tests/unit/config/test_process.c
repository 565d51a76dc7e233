/* test_process.c: what the process gets, "auto", the default admin socket, keys that need a
 * restart. */
#include "config_kit.h"

#include <unistd.h>

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

/* restart gives how many keys need one, and that each note names the old value. */
static uint32_t restart(const char *before, const char *after, const char *note) {
  struct conf *now = kit_good(before), *next = kit_good(after);
  struct conf_faults *faults = conf_faults_new();
  conf_check_restart(now, next, faults);
  uint32_t count = conf_faults_warnings(faults);
  struct fault_view view;
  assert_int_equal(conf_faults_errors(faults), 0);
  if (faults_view(faults, 0, &view)) {
    assert_int_equal(view.id, FAULT_NEEDS_RESTART);
    kit_assert_text(view.note, note);
  }
  conf_faults_free(faults);
  conf_free(now);
  conf_free(next);
  return count;
}

static void test_restart(void **state) {
  (void)state;
  assert_int_equal(
      restart("process = { workers = 3; };", "process = { workers = 3; drain = \"1s\"; };", ""),
      0);
  assert_int_equal(restart("", "process = { workers = 3; };", "weir runs with \"auto\""), 1);
  assert_int_equal(restart("process = { workers = 3; };", "", "weir runs with 3"), 1);
  assert_int_equal(restart("", "process = { user = \"weir\"; };", "weir runs with unset"), 1);
  assert_int_equal(restart("admin = { listen = \"off\"; };",
                           "admin = { listen = \"auto\"; status = \"127.0.0.1:1\"; };",
                           "weir runs with \"off\""),
                   2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fields), cmocka_unit_test(test_defaults),
      cmocka_unit_test(test_admin_default), cmocka_unit_test(test_restart)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
