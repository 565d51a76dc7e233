/* test_lex.c: the own reader against libconfig: every good text gives the same tree with right
 * places; what only weir refuses is refused for the reason that stands in lex.c. */
#include "config_kit.h"

/* good texts in libconfig's grammar, meaningless as configuration. */
static const char *const good[] = {"",
                                   " \t\r\n",
                                   "# only a comment",
                                   "// x",
                                   "/* a\n * b */",
                                   "a=1",
                                   "a = 1;",
                                   "a : 1,",
                                   "a=1 b=2",
                                   "a=1;b=2;",
                                   "a = -2147483648; b = 2147483647; c = +5;",
                                   "a = 9223372036854775807L;",
                                   "a = -9223372036854775808L; b = 1LL;",
                                   "a = 0x7fffffff; b = 0X1F; c = 0xFFFFFFFFFFL;",
                                   "a=0;",
                                   "a = true; b = FALSE; c = tRuE;",
                                   "a = \"\";",
                                   "a = \"x\" \"y\" /* z */ \"w\";",
                                   "a = \"\\\\ \\\" \\n \\r \\t \\f \\x41 \\XfF\";",
                                   "a = \"# no // comment /* */\";",
                                   "a = { };",
                                   "a = { b = { c = { d = 1; }; }; };",
                                   "a = [ ]; b = ( );",
                                   "a = [ 1, 2, 3 ];",
                                   "a = [ 1L, 2L ];",
                                   "a = [ \"x\", \"y\" \"z\" ];",
                                   "a = [ true, false ];",
                                   "a = ( 1, \"x\", true, { b = 1 }, [ 2 ], ( 3 ) );",
                                   "a = ( ( ( ) ) );",
                                   "a-b = 1; a_b = 2; A9 = 3;",
                                   "truex = 1; falsey = 2;",
                                   "a = 1 /**/ ;",
                                   "a = 1 # c\nb = 2 // d\nc = 3 /* e */",
                                   "a = \"\xc3\xa9\xff\";",
                                   "a = 1;\r\nb = 2;\r\n",
                                   "a = { b = 1, c = 2, };",
                                   "a=(1,(2,(3)))b=[]",
                                   "a = \"${env:X}\";",
                                   "a = \"//\";#\"",
                                   "a=\"\\\\\";"};

static void test_same_tree(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(good); i++) {
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct conf_faults *faults = conf_faults_new();
    struct source src = {.path = SPAN_LIT("t"), .text = span_str(good[i])};
    uint32_t line = 0;
    const struct node *where = NULL;
    bool parsed = parse_source(&src, &arena, faults);
    if (!parsed) print_error("refused: %s\n", good[i]);
    assert_true(parsed);
    struct node *other = read_source(&src, &arena, &line);
    if (!other) print_error("libconfig refuses: %s\n", good[i]);
    assert_non_null(other);
    bool same = tree_same(src.root, other, &where);
    if (!same) print_error("differs: %s\n", good[i]);
    assert_true(same);
    conf_faults_free(faults);
    arena_reset(&arena);
  }
}

/* The comparison sees every kind of difference. */
static void test_differs(void **state) {
  (void)state;
  static const char *const pairs[][2] = {{"a=1", "a=2"},
                                         {"a=1", "b=1"},
                                         {"a=1", "a=1L"},
                                         {"a=1", "a=\"1\""},
                                         {"a=true", "a=false"},
                                         {"a=\"x\"", "a=\"y\""},
                                         {"a=[1]", "a=(1)"},
                                         {"a=[1]", "a=[1,2]"},
                                         {"a=1", "a=1;b=1"},
                                         {"a={b=1}", "a={c=1}"},
                                         {"a={b=1};c=2", "a={b=1};c=3"},
                                         {"a={b={c=1}}", "a={b={c=2}}"},
                                         {"a=()", "a=({})"}};
  for (size_t i = 0; i < array_count(pairs); i++) {
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct conf_faults *faults = conf_faults_new();
    struct source a = {.text = span_str(pairs[i][0])}, b = {.text = span_str(pairs[i][1])};
    const struct node *where = NULL;
    assert_true(parse_source(&a, &arena, faults) && parse_source(&b, &arena, faults));
    assert_true(tree_same(a.root, a.root, &where));
    assert_false(tree_same(a.root, b.root, &where));
    assert_non_null(where);
    conf_faults_free(faults);
    arena_reset(&arena);
  }
}

static const struct node *get(const struct source *src, const char *key) {
  const struct node *n = node_find(src->root, span_str(key));
  assert_non_null(n);
  return n;
}

static void assert_place(struct place at, uint32_t line, uint32_t column, const char *text) {
  assert_int_equal(at.line, line);
  assert_int_equal(place_column(&at), column);
  kit_assert_text(span_sub(at.src->text, at.offset, at.len), text);
}

static void test_places(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  struct conf_faults *faults = conf_faults_new();
  struct source src = {
      .path = SPAN_LIT("t"),
      .text = SPAN_LIT("one = 1;\n\ttwo = \"\xc3\xa9\" \"b\"; /* \n */ three = [ 5 ];\r\n"
                       "four = {\n  five = true }")};
  assert_true(parse_source(&src, &arena, faults));
  assert_place(get(&src, "one")->key_at, 1, 1, "one");
  assert_place(get(&src, "one")->at, 1, 7, "1");
  assert_place(get(&src, "two")->key_at, 2, 2, "two");
  assert_place(get(&src, "two")->at, 2, 8, "\"\xc3\xa9\" \"b\"");
  assert_place(get(&src, "three")->key_at, 3, 5, "three"); /* behind a comment of two lines */
  assert_place(get(&src, "three")->first->at, 3, 15, "5");
  assert_place(get(&src, "four")->at, 4, 8, "{");
  assert_place(get(&src, "four")->first->at, 5, 10, "true");
  conf_faults_free(faults);
  arena_reset(&arena);
}

static void test_strings(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  struct conf_faults *faults = conf_faults_new();
  struct source src = {.text = SPAN_LIT("a = \"\\\\\\\"\\n\\r\\t\\f\\x41\\Xff\" \"z\";")};
  assert_true(parse_source(&src, &arena, faults));
  kit_assert_text(get(&src, "a")->string, "\\\"\n\r\t\f\x41\xffz");
  conf_faults_free(faults);
  arena_reset(&arena);
}

/* Cut everywhere: never a crash, never a tree that libconfig would read differently. */
static void test_every_cut(void **state) {
  (void)state;
  static const char text[] =
      "listeners = { web = { bind = [ \"127.0.0.1:80\", \"[::1]:80\" ]; /* c */ n = -0x1; }; };\n"
      "routes = ( { a = \"x\\x41\\n\" \"y\"; b = 12345678901L, c = true }, # d\n { e = (1, [2]) } "
      ");";
  for (size_t len = 0; len < sizeof text; len++) {
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct conf_faults *faults = conf_faults_new();
    struct source src = {.path = SPAN_LIT("t"), .text = span_of(text, len)};
    uint32_t line = 0;
    const struct node *where = NULL;
    if (parse_source(&src, &arena, faults)) {
      struct node *other = read_source(&src, &arena, &line);
      assert_non_null(other);
      assert_true(tree_same(src.root, other, &where));
    } else {
      assert_true(conf_faults_errors(faults) > 0);
    }
    conf_faults_free(faults);
    arena_reset(&arena);
  }
}

/* NUL anywhere is a fault: libconfig would read only what stands before it. */
static void test_nul_everywhere(void **state) {
  (void)state;
  static const char text[] = "a = 1; # x\nb = \"y\"; /* z */ c = [ 1 ];\n";
  for (size_t at = 0; at < sizeof text - 1; at++) {
    char copy[sizeof text];
    memcpy(copy, text, sizeof text);
    copy[at] = '\0';
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct conf_faults *faults = conf_faults_new();
    struct source src = {.path = SPAN_LIT("t"), .text = span_of(copy, sizeof text - 1)};
    assert_false(parse_source(&src, &arena, faults));
    conf_faults_free(faults);
    arena_reset(&arena);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_tree), cmocka_unit_test(test_differs),
      cmocka_unit_test(test_places),    cmocka_unit_test(test_strings),
      cmocka_unit_test(test_every_cut), cmocka_unit_test(test_nul_everywhere),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
