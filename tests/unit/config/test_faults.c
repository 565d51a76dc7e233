/* test_faults.c: how faults look: the format of DESIGN.md section 7, tabs, long lines, broken
 * bytes, colours, JSON, order, suggestions. */
#include "config_kit.h"

/* one makes faults with one place in a text of its own. */
static struct text shown(const char *text, uint32_t offset, uint32_t len, uint32_t line,
                         bool color) {
  struct source src = {.path = SPAN_LIT("/etc/weir/weir.conf"), .text = span_str(text)};
  struct conf_faults *faults = conf_faults_new();
  struct text out = {0};
  fault_add(faults, FAULT_UNKNOWN_KEY, (struct place){&src, offset, len, line}, "message");
  conf_faults_print(faults, &out, color);
  conf_faults_free(faults);
  return out;
}

static void assert_shown(const char *text, uint32_t offset, uint32_t len, uint32_t line,
                         const char *want) {
  struct text out = shown(text, offset, len, line, false);
  kit_assert_text(text_span(&out), want);
  text_fini(&out);
}

/* The example of DESIGN.md, word for word. */
static void test_design_example(void **state) {
  (void)state;
  struct text text = {0};
  for (int i = 1; i < 30; i++) text_lit(&text, "\n");
  text_lit(&text, "pools = { app = { endpoints = \"127.0.0.1:1\"; }; };\n");
  for (int i = 31; i < 47; i++) text_lit(&text, "\n");
  text_lit(&text,
           "routes = (\n  { name = \"api\"; prefix = \"/api\"; pool = \"ap\"; }\n);\n" KIT_WEB);
  text_put(&text, span_of("", 1));
  struct text out = {0};
  struct conf_faults *faults = conf_faults_new();
  conf_free(kit_load(&kit_usual, text.ptr, faults));
  conf_faults_print(faults, &out, false);
  kit_assert_text(
      text_span(&out),
      "error[W0104]: route \"api\" uses pool \"ap\", which is not defined\n"
      "  --> /etc/weir/weir.conf:48:43\n"
      "48 |   { name = \"api\"; prefix = \"/api\"; pool = \"ap\"; }\n"
      "   |                                           ^^^^ did you mean \"app\" (defined at "
      "weir.conf:30)?\n"
      "1 error");
  conf_faults_free(faults);
  text_fini(&text);
  text_fini(&out);
}

static void test_excerpts(void **state) {
  (void)state;
  assert_shown(
      "abc def\n", 4, 3, 1,
      "error[W0101]: message\n  --> /etc/weir/weir.conf:1:5\n1 | abc def\n  |     ^^^\n1 error");
  /* A tab is four columns wide and one character. */
  assert_shown("x\n\ta\tbc\n", 5, 2, 2,
               "error[W0101]: message\n  --> /etc/weir/weir.conf:2:4\n2 |     a    bc\n  |        "
               "  ^^\n1 error");
  /* Letters beyond ASCII are one column; the caret is below the right one. */
  assert_shown("\xc3\xa9\xe2\x82\xac = x", 8, 1, 1,
               "error[W0101]: message\n  --> /etc/weir/weir.conf:1:6\n"
               "1 | \xc3\xa9\xe2\x82\xac = x\n  |      ^\n1 error");
  /* Nothing that a terminal would obey: escapes, C1 controls, broken UTF-8. */
  assert_shown("a\x1b[31m\xc2\x9b\xff\xc0\x80\xed\xa0\x80 b", 15, 1, 1,
               "error[W0101]: message\n  --> /etc/weir/weir.conf:1:12\n"
               "1 | a?[31m???????? b\n  |                ^\n1 error");
  /* CRLF, the end of the text, an empty text. */
  assert_shown("ab\r\ncd", 2, 1, 1,
               "error[W0101]: message\n  --> /etc/weir/weir.conf:1:3\n1 | ab\n  |   ^\n1 error");
  assert_shown("ab", 2, 1, 1,
               "error[W0101]: message\n  --> /etc/weir/weir.conf:1:3\n1 | ab\n  |   ^\n1 error");
  assert_shown("", 0, 1, 1,
               "error[W0101]: message\n  --> /etc/weir/weir.conf:1:1\n1 | \n  | ^\n1 error");
  /* A place over several lines is marked on the first. */
  assert_shown("ab\ncd", 1, 4, 1,
               "error[W0101]: message\n  --> /etc/weir/weir.conf:1:2\n1 | ab\n  |  ^\n1 error");
}

static void test_long_line(void **state) {
  (void)state;
  struct text line = {0};
  for (int i = 0; i < 5000; i++) text_lit(&line, "x");
  text_lit(&line, "HERE");
  for (int i = 0; i < 5000; i++) text_lit(&line, "y");
  text_put(&line, span_of("", 1));
  struct text out = shown(line.ptr, 5000, 4, 1, false), want = {0};
  text_lit(&want, "error[W0101]: message\n  --> /etc/weir/weir.conf:1:5001\n1 | ...");
  for (int i = 0; i < 100; i++) text_lit(&want, "x");
  text_lit(&want, "HERE");
  for (int i = 0; i < 96; i++) text_lit(&want, "y");
  text_lit(&want, "...\n  | ");
  for (int i = 0; i < 103; i++) text_lit(&want, " ");
  text_lit(&want, "^^^^\n1 error");
  text_put(&want, span_of("", 1));
  kit_assert_text(text_span(&out), want.ptr);
  text_fini(&line);
  text_fini(&out);
  text_fini(&want);
}

static void test_color(void **state) {
  (void)state;
  struct text out = shown("abc", 0, 3, 1, true);
  kit_assert_text(text_span(&out),
                  "\033[1;31merror[W0101]\033[0m: \033[1mmessage\033[0m\n"
                  "\033[36m  -->\033[0m /etc/weir/weir.conf:1:1\n"
                  "\033[36m1 |\033[0m abc\n\033[36m  |\033[0m \033[1;31m^^^\033[0m\n1 error");
  text_fini(&out);
}

static void test_json(void **state) {
  (void)state;
  struct conf_faults *faults = conf_faults_new();
  struct text out = {0};
  conf_faults_json(faults, &out);
  kit_assert_text(text_span(&out), "[]");
  text_fini(&out);
  conf_free(kit_load(&kit_usual,
                     KIT_WEB KIT_APP
                     "routes = ( { pool = \"a\\\"p\"; }, { pool = \"ap\"; path = \"/\" } );",
                     faults));
  conf_faults_json(faults, &out);
  kit_assert_text(text_span(&out),
                  "[{\"level\":\"error\",\"code\":\"W0115\",\"message\":\"routes.*.pool cannot be "
                  "\\\"a\\\"p\\\"\","
                  "\"file\":\"/etc/weir/weir.conf\",\"line\":3,\"column\":21,\"length\":6,"
                  "\"source\":\"routes = ( { pool = \\\"a\\\\\\\"p\\\"; }, { pool = \\\"ap\\\"; "
                  "path = \\\"/\\\" } );\","
                  "\"note\":\"letters, digits, _ . and -, at most 64, first no sign\"},"
                  "{\"level\":\"error\",\"code\":\"W0104\","
                  "\"message\":\"route \\\"*/\\\" uses pool \\\"ap\\\", which is not defined\","
                  "\"file\":\"/etc/weir/weir.conf\",\"line\":3,\"column\":41,\"length\":4,"
                  "\"source\":\"routes = ( { pool = \\\"a\\\\\\\"p\\\"; }, { pool = \\\"ap\\\"; "
                  "path = \\\"/\\\" } );\","
                  "\"note\":\"did you mean \\\"app\\\" (defined at weir.conf:2)?\","
                  "\"other\":{\"file\":\"/etc/weir/weir.conf\",\"line\":2,\"column\":11}}]");
  text_fini(&out);
  conf_faults_free(faults);
}

static void test_edit_distance(void **state) {
  (void)state;
  static const struct {
    const char *a, *b;
    uint32_t distance;
  } rows[] = {{"", "", 0},
              {"a", "", 1},
              {"", "ab", 2},
              {"app", "app", 0},
              {"ap", "app", 1},
              {"paths", "path", 1},
              {"bnid", "bind", 1},
              {"BIND", "bind", 0},
              {"kitten", "sitting", 3},
              {"prefx", "prefix", 1},
              {"abc", "cab", 2}};
  for (size_t i = 0; i < array_count(rows); i++) {
    assert_int_equal(edit_distance(span_str(rows[i].a), span_str(rows[i].b)), rows[i].distance);
    assert_int_equal(edit_distance(span_str(rows[i].b), span_str(rows[i].a)), rows[i].distance);
  }
  char longer[66];
  memset(longer, 'x', sizeof longer);
  assert_int_equal(edit_distance(span_of(longer, 65), span_of(longer, 65)), UINT32_MAX);
  assert_int_equal(edit_distance(span_of(longer, 64), span_of(longer, 64)), 0);
}

/* A key that exists in another group of the same thing is found there. */
static void test_misplaced(void **state) {
  (void)state;
  struct text out = kit_printed(
      "listeners = { web = { bind = \"127.0.0.1:1\"; header = \"1s\"; }; };" KIT_APP KIT_ALL);
  kit_assert_text(
      text_span(&out),
      "error[W0101]: a listener has no key \"header\"\n"
      "  --> /etc/weir/weir.conf:1:45\n"
      "1 | listeners = { web = { bind = \"127.0.0.1:1\"; header = \"1s\"; }; };pools = { app = { "
      "endpoints = \"127.0.0.1:9001\"; }; };\n"
      "  |                                             ^^^^^^ did you mean \"timeouts.header\"?\n"
      "1 error");
  text_fini(&out);
}

/* The first word of a longer key is nearer to it than any spelling. */
static void test_first_word(void **state) {
  (void)state;
  const struct span longer = SPAN_LIT("hedge_after"), other = SPAN_LIT("edge");
  struct suggest s = suggest_for(SPAN_LIT("hedge"));
  suggest_offer(&s, longer, NULL);
  suggest_offer(&s, other, NULL);
  assert_true(span_eq(s.best, longer));
  s = suggest_for(SPAN_LIT("hedge"));
  suggest_offer(&s, SPAN_LIT("hedgehog"), NULL);
  assert_int_equal(s.best.len, 0);
}

/* A message cannot drive a terminal either: values of the file stand in it. */
static void test_message_is_clean(void **state) {
  (void)state;
  struct text out = kit_printed("log = { level = \"a\x1b[2J\xc2\x9b\xff\t\xc3\xa9\"; };");
  assert_true(span_starts(text_span(&out), SPAN_LIT("error[W0205]: log.level does not know "
                                                    "\"a?[2J???    \xc3\xa9\"\n")));
  text_fini(&out);
}

/* A secret that stands in the file itself is not repeated anywhere. */
static void test_secret_not_shown(void **state) {
  (void)state;
  struct conf_faults *faults = conf_faults_new();
  struct text out = {0};
  conf_free(
      kit_load(&kit_usual,
               "listeners = { web = { bind = \"127.0.0.1:1\"; tls = { certificates = ( { cert = "
               "\"SECRET1\"; key = \"SECRET2\"; } ); }; }; };" KIT_APP KIT_ALL,
               faults));
  assert_int_equal(conf_faults_errors(faults), 2);
  conf_faults_print(faults, &out, false);
  conf_faults_json(faults, &out);
  text_put(&out, span_of("", 1));
  assert_null(strstr(out.ptr, "SECRET"));
  text_fini(&out);
  conf_faults_free(faults);
}

/* However a secret is written, no line shows it; what is no secret stays legible. (Words behind a
 * quote that is missing are keys to any reader, and named as such.) */
static void test_secret_forms(void **state) {
  (void)state;
  static const char *const rows[] = {
      "key = \"SECRET\"; zz = 1;", "key : \"SECRET\"; zz = 1;",
      "key = [ \"SECRET\" ]; zz = 1;", "key = ( \"a\", \"SECRET\" ); zz = 1;",
      "key = \"SEC\" \"SECRET\"; zz = 1;", "key = \"x\"\n\"SECRET\"; zz = 1;",
      "key /* x */ = \"SECRET\"; zz = 2;", "key = /* \" */ \"SECRET\"; zz = 2;",
      "key = # y\n \"SECRET\"; zz = 2;", "kye = \"SECRET\";", "keys = \"SECRET\";",
      "secret_key = \"SECRET\";", "ech = \"SECRET\";",
      "key = \"SECRET", "key = \"SECRET\\\"SECRET\"; zz = 1;"};
  for (size_t i = 0; i < array_count(rows); i++) {
    struct conf_faults *faults = conf_faults_new();
    struct text out = {0}, file = {0};
    text_printf(&file,
                "listeners = { web = { bind = \"127.0.0.1:1\"; }; };\npools = { app = { sticky = "
                "{ cookie = \"c\"; %s }; endpoints = \"127.0.0.1:2\"; }; };\n" KIT_ALL,
                rows[i]);
    text_put(&file, span_of("", 1));
    conf_free(kit_load(&kit_usual, file.ptr, faults));
    assert_true(conf_faults_errors(faults) > 0);
    conf_faults_print(faults, &out, false);
    conf_faults_json(faults, &out);
    text_put(&out, span_of("", 1));
    if (strstr(out.ptr, "SECRET")) fail_msg("row %zu shows it:\n%s", i, out.ptr);
    text_fini(&out);
    text_fini(&file);
    conf_faults_free(faults);
  }
}

static void test_no_secret_stays(void **state) {
  (void)state;
  struct text out = kit_printed(
      "policies = { p = { rate = { key = \"ip\"; limit = \"100r/s\"; }; }; };");
  text_put(&out, span_of("", 1));
  assert_non_null(strstr(out.ptr, "key = \"ip\""));
  text_fini(&out);
}

/* Codes are unique, sorted within the table, and of the level that their number says. */
static void test_codes(void **state) {
  (void)state;
  for (enum fault_id id = 0; id < FAULT_COUNT; id++) {
    const struct fault_row *row = fault_get(id);
    assert_int_equal(strlen(row->code), 5);
    assert_int_equal(row->code[2] == '4', row->level == FAULT_LEVEL_WARNING);
    assert_true(row->doc[strlen(row->doc) - 1] == '.');
    if (id > 0) assert_true(strcmp(fault_get(id - 1)->code, row->code) < 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_design_example), cmocka_unit_test(test_excerpts),
      cmocka_unit_test(test_long_line),      cmocka_unit_test(test_color),
      cmocka_unit_test(test_json),           cmocka_unit_test(test_edit_distance),
      cmocka_unit_test(test_misplaced),
      cmocka_unit_test(test_first_word),
      cmocka_unit_test(test_secret_not_shown),
      cmocka_unit_test(test_secret_forms),     cmocka_unit_test(test_no_secret_stays),
      cmocka_unit_test(test_codes),          cmocka_unit_test(test_message_is_clean),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
