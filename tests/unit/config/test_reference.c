/* test_reference.c: what is generated from the tables is what is committed: conf/full.conf,
 * conf/README.md, fuzz/dict/config.dict. With WEIR_UPDATE=1 it writes them instead. Also the
 * shipped examples in conf/ load. Runs in the source tree. */
#include "config_kit.h"

#include <stdio.h>
#include <stdlib.h>

static struct text read_tree(const char *path) {
  struct text out = {0};
  int res = conf_reader_direct.read(NULL, path, &out);
  if (res < 0) print_error("%s: %s\n", path, errno_text(-res));
  assert_int_equal(res, 0);
  return out;
}

static void assert_generated(const char *path, void (*print)(struct text *out)) {
  struct text want = {0};
  print(&want);
  if (getenv("WEIR_UPDATE")) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(want.ptr, 1, want.len, file), want.len);
    assert_int_equal(fclose(file), 0);
  }
  struct text got = read_tree(path);
  bool same = span_eq(text_span(&got), text_span(&want));
  if (!same) print_error("%s is stale: run this test with WEIR_UPDATE=1\n", path);
  assert_true(same);
  text_fini(&got);
  text_fini(&want);
}

static void test_generated(void **state) {
  (void)state;
  assert_generated("conf/full.conf", conf_options);
  assert_generated("conf/README.md", conf_reference);
  assert_generated("fuzz/dict/config.dict", conf_dict);
}

/* loads a file of conf/ without any fault, or with warnings only. */
static struct conf *shipped(const struct conf_reader *reader, const char *path) {
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = conf_load(reader, path, faults);
  struct text out = {0};
  conf_faults_print(faults, &out, false);
  if (out.len) print_error("%s:\n" SPAN_FMT "\n", path, SPAN_ARG(text_span(&out)));
  assert_int_equal(out.len, 0);
  assert_non_null(conf);
  text_fini(&out);
  conf_faults_free(faults);
  return conf;
}

/* Certificates are not shipped: their bytes are made up, everything else is the real file. */
static int read_shipped(void *ctx, const char *path, struct text *out) {
  (void)ctx;
  if (!strstr(path, "/tls/") && !strstr(path, "/pages/") && !strstr(path, ".key"))
    return conf_reader_direct.read(NULL, path, out);
  if (strstr(path, "ticket"))
    text_lit(out, "a key of tickets is so many bytes long: forty-8.");
  else
    text_lit(out, "PEM, or a key of 16 bytes or more");
  return 0;
}

static void test_shipped(void **state) {
  (void)state;
  const struct conf_reader reader = {.read = read_shipped};
  static const char *const names[] = {"minimal", "full", "sidecar", "tls", "tcp"};
  for (size_t i = 0; i < array_count(names); i++) {
    char *path = mem_printf("conf/%s.conf", names[i]);
    conf_free(shipped(&reader, path));
    mem_free(path);
  }
}

/* The minimal file is the one of DESIGN.md section 7. */
static void test_minimal(void **state) {
  (void)state;
  struct text got = read_tree("conf/minimal.conf");
  kit_assert_text(
      text_span(&got),
      "listeners = { web = { bind = \"127.0.0.1:8080\"; }; };\n"
      "pools     = { app = { endpoints = [ \"127.0.0.1:9001\", \"127.0.0.1:9002\" ]; }; };\n"
      "routes    = ( { prefix = \"/\"; pool = \"app\"; } );\n");
  text_fini(&got);
}

/* Every variable that sidecar.conf names changes something. */
static void test_sidecar(void **state) {
  (void)state;
  static const char *const env[] = {"WEIR_LISTEN",
                                    "127.0.0.1:1",
                                    "WEIR_UPSTREAM",
                                    "unix:/u",
                                    "WEIR_STATUS",
                                    "127.0.0.1:2",
                                    "WEIR_TRUSTED",
                                    "192.0.2.0/24",
                                    "WEIR_TRUSTED_2",
                                    "2001:db8::/32",
                                    "WEIR_DRAIN",
                                    "1s",
                                    "WEIR_WORKERS",
                                    "2",
                                    "WEIR_LOG_LEVEL",
                                    "debug",
                                    NULL};
  const struct kit kit = {NULL, env};
  const struct conf_reader reader = {
      .read = read_shipped, .env = kit_env, .ctx = (void *)(uintptr_t)&kit};
  static const struct kit bare = {NULL, NULL};
  struct conf_reader unset = reader;
  unset.ctx = (void *)(uintptr_t)&bare;
  struct text trusted = {0};
  struct conf *conf = shipped(&unset, "conf/sidecar.conf");
  conf_dump(conf, &trusted, false);
  text_put(&trusted, span_of("", 1));
  assert_non_null(strstr(trusted.ptr, "trusted_proxies = [ \"127.0.0.0/8\", \"::1/128\" ];"));
  text_fini(&trusted);
  conf_free(conf);
  conf = shipped(&reader, "conf/sidecar.conf");
  struct text out = {0};
  conf_dump(conf, &out, false);
  text_put(&out, span_of("", 1));
  for (size_t i = 0; env[i]; i += 2) {
    char *last = mem_printf(", env %s\n", env[i]), *first = mem_printf(", env %s,", env[i]);
    assert_true(strstr(out.ptr, last) || strstr(out.ptr, first));
    assert_non_null(strstr(out.ptr, env[i + 1]));
    mem_free(first);
    mem_free(last);
  }
  text_fini(&out);
  conf_free(conf);
}

/* uncomment turns "# key = ..." lines of full.conf into settings; prose begins behind spaces. */
static struct text uncomment(struct span file) {
  static const struct span mark = SPAN_LIT("# ");
  struct text out = {0};
  struct span line;
  while (file.len) {
    size_t nl = span_find_char(file, '\n', 0);
    line = span_sub(file, 0, nl);
    file = nl == SIZE_MAX ? SPAN_EMPTY : span_from(file, nl + 1);
    bool setting = span_starts(line, mark) &&
                   (span_ends(line, SPAN_LIT(";")) || span_ends(line, SPAN_LIT("{")) ||
                    span_ends(line, SPAN_LIT("(")) || span_ends(line, SPAN_LIT("}")));
    text_put(&out, setting ? span_from(line, mark.len) : line);
    text_lit(&out, "\n");
  }
  text_put(&out, span_of("", 1));
  return out;
}

/* Every option stands in full.conf, those behind # too: with them taken in, the only faults are
 * that one route now has four actions, both a path and a prefix, a page two bodies, that the
 * pool's policy has no use for a hash, its check over HTTP none for a gRPC service, its discover
 * two names, its listener of HTTP a pool and sni, and policies, and conditions that ask for all at
 * once. */
static void test_full_is_full(void **state) {
  (void)state;
  struct text file = read_tree("conf/full.conf");
  struct text all = uncomment(text_span(&file));
  const struct conf_reader reader = {
      .read = read_shipped, .glob = kit_glob, .ctx = (void *)(uintptr_t)&kit_usual};
  struct conf_faults *faults = conf_faults_new();
  assert_null(conf_load_text(&reader, "/etc/weir/full.conf", span_str(all.ptr), faults));
  struct fault_view view;
  for (uint32_t i = 0; faults_view(faults, i, &view); i++)
    assert_true(view.id == FAULT_ACTION_MANY || view.id == FAULT_PATH_AND_PREFIX ||
                view.id == FAULT_BODY_AND_FILE || view.id == FAULT_HASH_UNUSED ||
                view.id == FAULT_DISCOVER_BOTH || view.id == FAULT_CONDITION ||
                view.id == FAULT_HEALTH_UNUSED || view.id == FAULT_TCP_POOL ||
                view.id == FAULT_KEYS_LOGGED || view.id == FAULT_LISTENER_POLICIES);
  assert_int_equal(conf_faults_errors(faults), 8 + MATCH_PART_COUNT);
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    struct span local = option_local(option_get(id));
    char *key = mem_printf(SPAN_FMT " = ", SPAN_ARG(span_from(local, span_last(local, '.') + 1)));
    if (!strstr(all.ptr, key)) print_error("no %s\n", option_get(id)->path);
    assert_non_null(strstr(all.ptr, key));
    mem_free(key);
  }
  conf_faults_free(faults);
  text_fini(&file);
  text_fini(&all);
}

/* stands_at: the comment with the option's sentence is followed by its key, with nothing else
 * between them and at the same indentation. */
static bool stands_at(const char *file, const struct option *option, const char *at) {
  struct span local = option_local(option);
  struct span key = span_from(local, span_last(local, '.') + 1);
  const char *line = at;
  while (line > file && line[-1] != '\n') line--;
  int indent = (int)(at - line);
  char *is_on = mem_printf("%*s" SPAN_FMT " = ", indent, "", SPAN_ARG(key));
  char *is_off = mem_printf("# %s", is_on);
  char *goes_on = mem_printf("%*s# ", indent, "");
  bool found = false;
  while (!found && strncmp(line, goes_on, strlen(goes_on)) == 0 && (line = strchr(line, '\n'))) {
    line++;
    found = strncmp(line, is_on, strlen(is_on)) == 0 || strncmp(line, is_off, strlen(is_off)) == 0;
  }
  mem_free(is_on);
  mem_free(is_off);
  mem_free(goes_on);
  return found;
}

/* comment_stands looks at every comment that begins like the option's sentence. */
static bool comment_stands(const char *file, const struct option *option) {
  char *sentence = mem_printf("# %.24s", option->doc);
  bool found = false;
  for (const char *at = strstr(file, sentence); at && !found; at = strstr(at + 1, sentence))
    found = stands_at(file, option, at);
  mem_free(sentence);
  return found;
}

static void test_comments_stand_before_their_keys(void **state) {
  (void)state;
  struct text file = read_tree("conf/full.conf");
  text_put(&file, span_of("", 1));
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    if (!comment_stands(file.ptr, option_get(id))) print_error("%s\n", option_get(id)->path);
    assert_true(comment_stands(file.ptr, option_get(id)));
  }
  text_fini(&file);
  /* As it once was: the comment of the next group within the one before. */
  assert_false(
      comment_stands("    sample = \"100%\";\n\n    # What weir accepts connections on, by "
                     "name.\n  };\n};\nlisteners = {\n",
                     option_get(OPTION_LISTENERS)));
}

/* Options and codes are all documented by name. */
static void test_documented(void **state) {
  (void)state;
  struct text doc = read_tree("conf/README.md");
  text_put(&doc, span_of("", 1));
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    char *cell = mem_printf("\n| `%s` | ", option_get(id)->path);
    assert_non_null(strstr(doc.ptr, cell));
    mem_free(cell);
  }
  for (enum fault_id id = 0; id < FAULT_COUNT; id++)
    assert_non_null(strstr(doc.ptr, fault_get(id)->code));
  text_fini(&doc);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_generated),
                                     cmocka_unit_test(test_shipped),
                                     cmocka_unit_test(test_minimal),
                                     cmocka_unit_test(test_sidecar),
                                     cmocka_unit_test(test_full_is_full),
                                     cmocka_unit_test(test_documented),
                                     cmocka_unit_test(test_comments_stand_before_their_keys)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
