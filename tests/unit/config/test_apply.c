/* test_apply.c: several files: merged in byte order of their names, relative to where they
 * stand, names unique over all of them, faults at their true places. */
#include "config_kit.h"

/* load reads /etc/weir/weir.conf of a table and prints the faults. */
static struct conf *load(const struct kit_file *files, struct text *out) {
  const struct kit kit = {files, kit_envs};
  struct conf_reader reader = kit_reader(&kit);
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = conf_load(&reader, "/etc/weir/weir.conf", faults);
  assert_int_equal(conf != NULL, conf_faults_errors(faults) == 0);
  conf_faults_print(faults, out, false);
  conf_faults_free(faults);
  return conf;
}

static void refused(const struct kit_file *files, const char *want) {
  struct text out = {0};
  assert_null(load(files, &out));
  kit_assert_text(text_span(&out), want);
  text_fini(&out);
}

static void test_merged(void **state) {
  (void)state;
  static const struct kit_file files[] = {
      {"/etc/weir/weir.conf",
       "include = [ \"weir.d/*.conf\", \"/opt/x.conf\" ];" KIT_WEB
       "routes = ( { name = \"first\"; pool = \"app\"; } );",
       0},
      {"/etc/weir/weir.d/10.conf",
       KIT_APP "routes = ( { name = \"second\"; path = \"/2\"; pool = \"b\"; } );", 0},
      {"/etc/weir/weir.d/20.conf",
       "pools = { b = { endpoints = \"127.0.0.1:2\"; }; };"
       "listeners = { s = { bind = \"127.0.0.1:3\"; tls = { certificates = ( { cert = "
       "\"file:c.crt\"; key = \"file:../k.key\"; } ); }; }; };",
       0},
      {"/etc/weir/weir.d/no.txt", "%", 0},
      {"/etc/weir/weir.d/c.crt", "C", 0644},
      {"/etc/weir/weir.d/../k.key", "K", 0600},
      {"/opt/x.conf", "process = { drain = \"5s\"; };", 0},
      {NULL, NULL, 0}};
  struct text out = {0};
  struct conf *conf = load(files, &out);
  kit_assert_text(text_span(&out), "");
  assert_non_null(conf);
  const struct conf_file *list;
  assert_int_equal(conf_files(conf, &list), 6);
  assert_string_equal(list[1].path, "/etc/weir/weir.d/10.conf");
  assert_string_equal(list[2].path, "/etc/weir/weir.d/20.conf");
  assert_string_equal(list[3].path, "/opt/x.conf");
  assert_string_equal(list[4].path, "/etc/weir/weir.d/c.crt");
  assert_int_equal(conf_process(conf)->drain_ms, 5000);
  assert_int_equal(conf->root.routes.count, 2);
  kit_assert_text(((struct conf_route *)conf->root.routes.last)->name, "second");
  text_fini(&out);
  conf_free(conf);
}

static void test_duplicates(void **state) {
  (void)state;
  static const struct kit_file files[] = {
      {"/etc/weir/weir.conf",
       "include = \"d/*\";\n" KIT_WEB KIT_APP "process = { drain = \"1s\"; };\n"
       "routes = ( { name = \"a\"; pool = \"app\"; } );\n",
       0},
      {"/etc/weir/d/x", "listeners = {\n web = { bind = \"127.0.0.1:1\"; }; };\n", 0},
      {"/etc/weir/d/y", "pools = { app = { endpoints = \"127.0.0.1:1\"; }; };\n", 0},
      {"/etc/weir/d/z",
       "process = { drain = \"2s\"; };\nroutes = ( { name = \"a\"; path = \"/\"; pool = \"app\"; "
       "} );\n",
       0},
      {NULL, NULL, 0}};
  refused(files,
          "error[W0105]: listener \"web\" is defined twice\n  --> /etc/weir/d/x:2:2\n"
          "2 |  web = { bind = \"127.0.0.1:1\"; }; };\n  |  ^^^ first at weir.conf:2\n"
          "error[W0105]: pool \"app\" is defined twice\n  --> /etc/weir/d/y:1:11\n"
          "1 | pools = { app = { endpoints = \"127.0.0.1:1\"; }; };\n  |           ^^^ first at "
          "weir.conf:3\n"
          "error[W0108]: process.drain is set in two files\n  --> /etc/weir/d/z:1:13\n"
          "1 | process = { drain = \"2s\"; };\n  |             ^^^^^ first at weir.conf:4\n"
          "error[W0105]: route \"a\" is defined twice\n  --> /etc/weir/d/z:2:21\n"
          "2 | routes = ( { name = \"a\"; path = \"/\"; pool = \"app\"; } );\n"
          "  |                     ^^^ first at weir.conf:5\n"
          "4 errors");
}

static void test_nested(void **state) {
  (void)state;
  static const struct kit_file files[] = {
      {"/etc/weir/weir.conf", "include = \"a.conf\";" KIT_WEB KIT_APP KIT_ALL, 0},
      {"/etc/weir/a.conf", "\ninclude = \"b.conf\";", 0},
      {NULL, NULL, 0}};
  refused(files,
          "error[W0118]: an included file includes no others\n  --> /etc/weir/a.conf:2:1\n"
          "2 | include = \"b.conf\";\n  | ^^^^^^^ move it to /etc/weir/weir.conf\n1 error");
}

static void test_unreadable(void **state) {
  (void)state;
  static const struct kit_file none[] = {{NULL, NULL, 0}};
  refused(none,
          "error[W0303]: /etc/weir/weir.conf: No such file or directory\n"
          "  --> /etc/weir/weir.conf\n1 error");
  static const struct kit_file files[] = {{"/etc/weir/weir.conf", "include = \"*.d\";", 0},
                                          {"/etc/weir/a.d", NULL, 0},
                                          {NULL, NULL, 0}};
  struct text out = {0};
  assert_null(load(files, &out));
  assert_true(
      span_starts(text_span(&out), SPAN_LIT("error[W0303]: /etc/weir/a.d: Permission denied\n"
                                            "  --> /etc/weir/weir.conf:1:11\n")));
  text_fini(&out);
}

/* A file that two patterns match is read once; the main file does not include itself. */
static void test_once(void **state) {
  (void)state;
  static const struct kit_file files[] = {
      {"/etc/weir/weir.conf", "include = [ \"*.conf\", \"a*\" ];" KIT_WEB KIT_ALL, 0},
      {"/etc/weir/a.conf", KIT_APP, 0},
      {NULL, NULL, 0}};
  struct text out = {0};
  struct conf *conf = load(files, &out);
  kit_assert_text(text_span(&out), "");
  const struct conf_file *list;
  assert_int_equal(conf_files(conf, &list), 2);
  text_fini(&out);
  conf_free(conf);
}

/* Faults of the main file and of included ones come together, by file. */
static void test_faults_everywhere(void **state) {
  (void)state;
  static const struct kit_file files[] = {
      {"/etc/weir/weir.conf",
       "include = \"b\";\nprocess = { drain = 3; };\n" KIT_WEB KIT_APP KIT_ALL, 0},
      {"/etc/weir/b", "x = 1;\ny = %;\n", 0},
      {NULL, NULL, 0}};
  struct text out = {0};
  assert_null(load(files, &out));
  assert_true(span_ends(text_span(&out), SPAN_LIT("3 errors")));
  text_put(&out, span_of("", 1));
  assert_non_null(strstr(out.ptr, "--> /etc/weir/weir.conf:2:21\n"));
  assert_non_null(strstr(out.ptr, "--> /etc/weir/b:1:1\n"));
  assert_non_null(strstr(out.ptr, "--> /etc/weir/b:2:5\n"));
  text_fini(&out);
}

/* glob_many finds more files than are allowed. */
static int glob_many(void *ctx, const char *pattern, void (*each)(const char *path, void *arg),
                     void *arg) {
  (void)ctx;
  (void)pattern;
  for (unsigned i = 0; i < CONF_SOURCES_MAX + 5; i++) {
    char *path = mem_printf("/many/%u", i);
    each(path, arg);
    mem_free(path);
  }
  return 0;
}
static int read_any(void *ctx, const char *path, struct text *out) {
  (void)ctx;
  if (strcmp(path, "/w.conf") == 0) text_lit(out, "include = \"many/*\";");
  return 0;
}

static void test_too_many(void **state) {
  (void)state;
  const struct conf_reader reader = {.read = read_any, .glob = glob_many};
  struct conf_faults *faults = conf_faults_new();
  assert_null(conf_load(&reader, "/w.conf", faults));
  struct fault_view view;
  assert_true(faults_view(faults, 0, &view));
  assert_int_equal(view.id, FAULT_INCLUDE_MANY);
  assert_int_equal(conf_faults_errors(faults), 1);
  conf_faults_free(faults);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_merged),   cmocka_unit_test(test_duplicates),
      cmocka_unit_test(test_nested),   cmocka_unit_test(test_unreadable),
      cmocka_unit_test(test_once),     cmocka_unit_test(test_faults_everywhere),
      cmocka_unit_test(test_too_many),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
