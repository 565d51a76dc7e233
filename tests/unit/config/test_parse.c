/* test_parse.c: brackets that are not closed: one fault for each, at the bracket that was opened,
 * and nothing that only follows from it. What else is wrong with the file is still told. */
#include "config_kit.h"

/* faults are the codes and places of all faults, in order: "W0005@2:9 W0101@7:3". */
struct unclosed {
  const char *text, *faults, *message;
};

#define POOLS "pools = { app = { endpoints = [ \"127.0.0.1:9001\" ]; }; };\n"
#define ROUTES "routes = ( { prefix = \"/\"; pool = \"app\"; } );\n"

static const struct unclosed rows[] = {
    /* The bracket that closes stands further left than the line that was opened last. */
    {"listeners = {\n  web = { bind = \"127.0.0.1:8080\";\n};\n" POOLS ROUTES, "W0005@2:9",
     "a group { } is not closed before } in line 3"},
    /* A key stands as far left as the line that opened the group around it. */
    {KIT_WEB "pools = { app = { endpoints = [ \"127.0.0.1:9001\" ]; };\n" ROUTES, "W0005@2:9",
     "a group { } is not closed before routes in line 3"},
    {KIT_WEB "log = { access = { to = \"off\"; };\n" POOLS ROUTES, "W0005@2:7", NULL},
    {"process = { workers = 1; };\nlisteners = {\n"
     "  web = { bind = \"127.0.0.1:8080\"; timeouts = { header = \"5s\";\n  };\n"
     "  more = { bind = \"127.0.0.1:8443\"; };\n};\n" POOLS ROUTES,
     "W0005@3:9", "a group { } is not closed before more in line 5"},
    /* With tabs, brackets of their own, several groups in one line. */
    {"listeners =\n{\n\tweb =\n\t{\n\t\tbind = \"127.0.0.1:8080\";\n};\n" POOLS ROUTES,
     "W0005@4:2", NULL},
    {"listeners = { web = { bind = \"127.0.0.1:8080\"; timeouts = { header = \"5s\"; };\n" POOLS
         ROUTES,
     "W0005@1:13 W0005@1:21", NULL},
    {KIT_WEB POOLS
     "routes = (\n  { prefix = \"/\"; pool = \"app\"; }\nlog = { level = \"warn\"; };\n",
     "W0005@5:1", "a list ( ) is not closed before log"},
    {KIT_WEB POOLS
     "routes = (\n  { prefix = \"/\"; pool = \"app\";\n);\nlog = { level = \"warn\"; };\n",
     "W0005@5:1", "a group { } is not closed before )"},
    /* An element begins inside of another. */
    {KIT_WEB POOLS "routes = (\n  { prefix = \"/\"; pool = \"app\";\n"
                   "  { path = \"/x\"; pool = \"app\"; }\n);\n",
     "W0005@5:3", "a group { } is not closed before {"},
    {KIT_WEB POOLS
     "routes = ( { prefix = \"/\"; pool = \"app\"; { path = \"/x\"; pool = \"app\"; } );\n",
     "W0005@3:42", "a group { } is not closed before {"},
    {KIT_WEB POOLS
     "routes = ( { prefix = \"/\"; pool = \"app\", { path = \"/x\"; pool = \"app\"; } );\n",
     "W0005@3:42", NULL},
    /* What stands behind is read as it is meant: its own faults are told. */
    {"listeners = {\n  web = { bind = \"127.0.0.1:8080\";\n};\npools = { app = { balanse = \"x\"; "
     "endpoints = [ \"127.0.0.1:9001\" ]; }; };\nroutes = ( { pool = \"app\"; } );\n",
     "W0005@2:9 W0101@4:19", NULL},
    /* The file ends. */
    {"listeners = {\n", "W0005@1:13", "a group { } is not closed before the end of the file"},
    {"listeners = {\n  web = {\n    bind = \"127.0.0.1:8080\";\n", "W0005@2:9", NULL},
    {KIT_WEB POOLS "routes = ( { prefix = \"/\"; pool = \"app\"; }\n", "W0005@3:10", NULL},
    /* All in one line tells nothing about what was meant: what follows is not judged, what stands
     * before is. */
    {"nonsense = 1; listeners = { web = { bind = \"127.0.0.1:8080\"; }; "
     "pools = { app = { endpoints = [ \"127.0.0.1:9001\" ]; }; }; routes = ( { pool = \"app\"; } "
     ");",
     "W0101@1:1 W0005@1:27", "a group { } is not closed before the end of the file"},
    {"listeners = {\nweb = { bind = \"127.0.0.1:8080\"; };\n" POOLS ROUTES, "W0005@1:13",
     "a group { } is not closed before the end of the file"},
};

static void faults_text(const struct conf_faults *faults, struct text *out) {
  struct fault_view view;
  for (uint32_t i = 0; faults_view(faults, i, &view); i++)
    text_printf(out, "%s%s@%u:%u", i ? " " : "", fault_get(view.id)->code, view.line, view.column);
}

static const char *message_of(const struct conf_faults *faults, struct text *out) {
  struct fault_view view;
  for (uint32_t i = 0; faults_view(faults, i, &view); i++)
    if (view.id == FAULT_NESTING) {
      text_put(out, view.message);
      break;
    }
  text_put(out, span_of("", 1));
  return out->ptr;
}

static void check_row(const struct unclosed *row) {
  struct conf_faults *faults = conf_faults_new();
  struct text got = {0}, message = {0};
  assert_null(kit_load(&kit_usual, row->text, faults));
  faults_text(faults, &got);
  if (!span_eq(text_span(&got), span_str(row->faults)) ||
      (row->message && strcmp(message_of(faults, &message), row->message) != 0)) {
    struct text out = {0};
    conf_faults_print(faults, &out, false);
    print_error("%s\ngot %s\n" SPAN_FMT "\nwant %s %s\n", row->text, got.ptr,
                SPAN_ARG(text_span(&out)), row->faults, row->message ? row->message : "");
    fail();
  }
  text_fini(&got);
  text_fini(&message);
  conf_faults_free(faults);
}

static void test_unclosed(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) check_row(&rows[i]);
}

/* Where the layout is the only hint, it misleads nobody whose brackets are right. */
static void test_layout_does_not_matter(void **state) {
  (void)state;
  static const char *const texts[] = {
      "listeners = {\nweb = {\nbind = \"127.0.0.1:8080\";\n};\n};\n" POOLS ROUTES,
      "        listeners = {\n    web = {\nbind = \"127.0.0.1:8080\";\n}; };\n" POOLS ROUTES,
      "listeners = { web = {\n  bind = \"127.0.0.1:8080\"; timeouts = {\nheader = \"5s\";\n} } "
      "};\n"
      "pools = {\n  app = {\nendpoints = (\n{ address = \"127.0.0.1:9001\"; },\n\n"
      "   { address = \"127.0.0.1:9002\"; }\n)}};\nroutes = (\n{\npool = \"app\";\n}\n);\n"};
  for (size_t i = 0; i < array_count(texts); i++) conf_free(kit_good(texts[i]));
}

/* Any one closing bracket of a file that is laid out as people do may be lost, alone or with what
 * stands behind it on the line: one fault, and no other. */
static const char laid_out[] =
    "process = {\n  workers = 2;\n  drain = \"5s\";\n};\n"
    "listeners = {\n"
    "  web = {\n    bind = \"127.0.0.1:8080\";\n    timeouts = {\n      header = \"5s\";\n    };\n"
    "    limits = { headers = 50; };\n  };\n"
    "  more = { bind = \"127.0.0.1:8081\"; };\n"
    "};\n"
    "pools = {\n  app = {\n    endpoints = (\n      { address = \"127.0.0.1:9001\"; },\n"
    "      { address = \"127.0.0.1:9002\"; weight = 2; }\n    );\n  };\n"
    "  files = { endpoints = [ \"unix:/run/f\" ]; };\n"
    "};\n"
    "routes = (\n  { prefix = \"/\"; pool = \"app\"; },\n"
    "  { prefix = \"/f\"; pool = \"files\"; methods = [ \"GET\", \"HEAD\" ]; listeners = "
    "\"more\"; }\n"
    ");\n";

static void check_lost(size_t at, size_t len) {
  char *text = mem_str(span_str(laid_out));
  memset(text + at, ' ', len);
  struct conf_faults *faults = conf_faults_new();
  struct text got = {0};
  assert_null(kit_load(&kit_usual, text, faults));
  faults_text(faults, &got);
  text_put(&got, span_of("", 1));
  if (conf_faults_errors(faults) != 1 || !faults_has(faults, FAULT_NESTING)) {
    print_error("%s\n%s\n", text, got.ptr);
    fail();
  }
  text_fini(&got);
  conf_faults_free(faults);
  mem_free(text);
}

static void test_any_bracket_lost(void **state) {
  (void)state;
  conf_free(kit_good(laid_out));
  for (size_t i = 0; laid_out[i]; i++) {
    if (!strchr("})]", laid_out[i])) continue;
    check_lost(i, 1);
    size_t more = strspn(laid_out + i + 1, ";,");
    if (more) check_lost(i, 1 + more);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_unclosed),
                                     cmocka_unit_test(test_layout_does_not_matter),
                                     cmocka_unit_test(test_any_bracket_lost)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
