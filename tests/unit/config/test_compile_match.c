/* test_compile_match.c: conditions of a route from text to model/match.h; which changes make
 * another route; labels of routes that have conditions. */
#include "config_kit.h"

struct world {
  struct registry *registry;
};

static struct snapshot *compile(struct world *w, const char *routes,
                                const struct snapshot *before) {
  char *text = mem_printf("%s%sroutes = ( %s );\n", KIT_WEB, KIT_APP, routes);
  struct conf *conf = kit_good(text);
  struct conf_faults *faults = conf_faults_new();
  const struct conf_hooks hooks = {.resolve = NULL};
  struct snapshot *s = conf_compile(conf, &hooks, w->registry, before, faults);
  assert_non_null(s);
  conf_faults_free(faults);
  conf_free(conf);
  mem_free(text);
  return s;
}

static void world_fini(struct world *w) {
  assert_int_equal(object_reap(w->registry), 0);
  registry_free(w->registry);
}

static const char full[] =
    "{ regex = \"^/a[0-9]$\"; pool = \"app\"; sources = [ \"10.0.0.0/8\", \"::1\" ];\n"
    "  headers = ( { name = \"X-Env\"; exact = \"prod\"; },\n"
    "    { name = \"Cookie\"; present = false; } );\n"
    "  query = ( { name = \"v\"; prefix = \"2\"; } );\n"
    "  cookies = ( { name = \"s\"; regex = \"^[a-f]+$\"; },\n"
    "    { name = \"t\"; present = true; } ); }";

static void test_conditions(void **state) {
  (void)state;
  struct world w = {registry_new(1)};
  struct snapshot *s = compile(&w, full, NULL);
  const struct route *r = s->routes[0];
  assert_int_equal(r->path_kind, ROUTE_PATH_REGEX);
  kit_assert_text(r->path, "^/a[0-9]$");
  assert_non_null(r->regex);
  kit_assert_text(r->obj.name,
                  "*~^/a[0-9]$ c:s~^[a-f]+$ c:t? h:cookie! h:x-env=prod q:v^2 s:10.0.0.0/8 s:::1");
  const struct match_value *h = r->rules.values[MATCH_HEADER];
  assert_int_equal(r->rules.counts[MATCH_HEADER], 2);
  kit_assert_text(h[0].name, "X-Env");
  kit_assert_text(h[0].text, "prod");
  assert_true(h[0].kind == MATCH_EXACT && h[0].id == HTTP_NAME_OTHER && !h[0].regex);
  assert_true(h[1].kind == MATCH_ABSENT && h[1].id == HTTP_NAME_COOKIE);
  assert_int_equal(r->rules.counts[MATCH_QUERY], 1);
  assert_int_equal(r->rules.values[MATCH_QUERY][0].kind, MATCH_PREFIX);
  assert_int_equal(r->rules.counts[MATCH_COOKIE], 2);
  assert_int_equal(r->rules.values[MATCH_COOKIE][0].kind, MATCH_REGEX);
  assert_non_null(r->rules.values[MATCH_COOKIE][0].regex);
  assert_int_equal(r->rules.values[MATCH_COOKIE][1].kind, MATCH_PRESENT);
  assert_int_equal(r->rules.source_count, 2);
  assert_int_equal(r->rules.sources[1].bits, 128);
  snapshot_free(s);
  world_fini(&w);
}

/* Each change of one condition makes another route; none makes none. */
static void test_changes(void **state) {
  (void)state;
  static const char *const parts[][2] = {{"", ""},
                                         {"prod", "prox"},
                                         {"X-Env", "X-Enw"},
                                         {"exact", "prefix"},
                                         {"present = false", "present = true"},
                                         {"\"v\"", "\"w\""},
                                         {"[a-f]+", "[a-g]+"},
                                         {"10.0.0.0/8", "10.0.0.0/9"},
                                         {"^/a", "^/b"},
                                         {"{ name = \"v\"; prefix = \"2\"; }",
                                          "{ name = \"v\"; prefix = \"2\"; }, { name = \"x\"; "
                                          "present = true; }"}};
  for (size_t i = 0; i < array_count(parts); i++) {
    struct world w = {registry_new(1)};
    char *named = mem_printf("{ name = \"n\"; %s", full + 1);
    char *at = strstr(named, parts[i][0]);
    assert_non_null(at);
    char *other = mem_printf("%.*s%s%s", (int)(at - named), named, parts[i][1],
                             at + strlen(parts[i][0]));
    struct snapshot *a = compile(&w, named, NULL), *b = compile(&w, other, a);
    bool same = a->routes[0] == b->routes[0];
    if (same != (i == 0)) fail_msg("%s", parts[i][1]);
    assert_ptr_equal(a->routes[0]->state, b->routes[0]->state); /* its name is its identity */
    snapshot_free(a);
    snapshot_free(b);
    mem_free(named);
    mem_free(other);
    world_fini(&w);
  }
}

/* Two routes that ask for other requests are no W0106: one value that looks like two conditions,
 * what is a name in one and a value in the other; nor are two that ask for the same in part only,
 * on some host. */
static void test_alike_in_words_only(void **state) {
  (void)state;
  static const char *const pairs[][2] = {
      {"headers = ( { name = \"a\"; exact = \"x h:b=y\"; } );",
       "headers = ( { name = \"a\"; exact = \"x\"; }, { name = \"b\"; exact = \"y\"; } );"},
      {"query = ( { name = \"a\"; exact = \"b=c\"; } );",
       "query = ( { name = \"a=b\"; exact = \"c\"; } );"},
      {"headers = ( { name = \"a\"; prefix = \"=x\"; } );",
       "headers = ( { name = \"a^\"; exact = \"x\"; } );"},
      {"regex = \"^/a GET\";", "regex = \"^/a\"; methods = \"GET\";"},
      {"hosts = \"a.b\";", "hosts = [ \"a.b\", \"c.d\" ];"},
      {"hosts = [ \"a.b\", \"c.d\" ];", "hosts = [ \"c.d\", \"e.f\" ];"},
  };
  for (size_t i = 0; i < array_count(pairs); i++) {
    struct world w = {registry_new(1)};
    char *both =
        mem_printf("{ name = \"1\"; pool = \"app\"; %s }, { name = \"2\"; pool = \"app\"; %s }",
                   pairs[i][0], pairs[i][1]);
    struct snapshot *s = compile(&w, both, NULL);
    assert_int_equal(s->route_count, 2);
    snapshot_free(s);
    mem_free(both);
    world_fini(&w);
  }
}

/* A pattern is compiled once, for the check and for the routes of every generation that have it,
 * also of one that moved to another line; when nobody has it any more, it goes. */
static void test_patterns_are_shared(void **state) {
  (void)state;
  struct world w = {registry_new(1)};
  regex_sweep();
  assert_int_equal(regex_count(), 0);
  struct snapshot *a = compile(&w, full, NULL);
  assert_int_equal(regex_count(), 2);
  char *moved = mem_printf("{ path = \"/new\"; pool = \"app\"; }, %s", full);
  struct snapshot *b = compile(&w, moved, a);
  assert_ptr_not_equal(b->routes[1], a->routes[0]);
  assert_ptr_equal(b->routes[1]->regex, a->routes[0]->regex);
  assert_ptr_equal(b->routes[1]->rules.values[MATCH_COOKIE][0].regex,
                   a->routes[0]->rules.values[MATCH_COOKIE][0].regex);
  assert_int_equal(regex_count(), 2);
  snapshot_free(a);
  assert_int_equal(object_reap(w.registry), 0);
  struct snapshot *c = compile(&w, "{ pool = \"app\"; }", b);
  assert_int_equal(regex_count(), 2); /* b has them */
  snapshot_free(b);
  snapshot_free(c);
  mem_free(moved);
  world_fini(&w);
  regex_sweep();
  assert_int_equal(regex_count(), 0);
}

/* What conf_dump prints has the conditions and loads to the same. */
static void test_dump(void **state) {
  (void)state;
  char *text = mem_printf("%s%sroutes = ( %s );\n", KIT_WEB, KIT_APP, full);
  for (int defaults = 0; defaults < 2; defaults++) {
    struct conf *conf = kit_good(text);
    struct text first = {0}, second = {0};
    conf_dump(conf, &first, defaults);
    conf_free(conf);
    text_put(&first, span_of("", 1));
    assert_non_null(strstr(first.ptr, "present = false;"));
    assert_non_null(strstr(first.ptr, "regex = \"^[a-f]+$\";"));
    assert_non_null(strstr(first.ptr, "sources = [ \"10.0.0.0/8\", \"::1\" ];"));
    conf = kit_good(first.ptr);
    const struct conf_route *route = (struct conf_route *)conf->root.routes.first;
    assert_int_equal(route->values[MATCH_COOKIE].count, 2);
    conf_dump(conf, &second, defaults);
    conf_free(conf);
    assert_true(second.len > 100);
    text_fini(&first);
    text_fini(&second);
  }
  mem_free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_conditions),
      cmocka_unit_test(test_changes),
      cmocka_unit_test(test_alike_in_words_only),
      cmocka_unit_test(test_patterns_are_shared),
      cmocka_unit_test(test_dump),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
