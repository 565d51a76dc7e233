/* test_route_table.c: the compiled matcher and its slow twin against committed tables of cases,
 * and against each other on random tables and queries. */
#include "match_kit.h"

#include <stdio.h>

#include "weir/base/hash.h"

enum { ROUTES_MAX = 64, HOSTS_MAX = 4 };

/* bench is a list of routes that needs no registry: the matchers read settings only. */
struct bench {
  struct arena arena;
  struct route routes[ROUTES_MAX];
  struct route *list[ROUTES_MAX];
  uint32_t count;
};

static void bench_init(struct bench *b) {
  memset(b, 0, sizeof *b);
  arena_init(&b->arena, NULL, 0);
}

/* bench_end frees what does not lie in the arena. */
static void bench_end(struct bench *b) {
  for (uint32_t i = 0; i < b->count; i++) {
    regex_free(b->routes[i].regex);
    kit_rules_free(&b->routes[i].rules);
  }
  arena_reset(&b->arena);
}

static void add_host(struct bench *b, struct route *r, struct span host) {
  if (!r->hosts) r->hosts = arena_zalloc(&b->arena, HOSTS_MAX * sizeof(struct span));
  assert_non_null(r->hosts);
  assert_true(r->host_count < HOSTS_MAX);
  ((struct span *)(uintptr_t)r->hosts)[r->host_count++] = host;
}

static void add_method(struct bench *b, struct route *r, struct span text) {
  enum http_method m = http_method_find(text);
  if (m != HTTP_METHOD_OTHER) {
    r->methods |= 1u << m;
    return;
  }
  struct span *extra = arena_zalloc(&b->arena, sizeof *extra);
  assert_non_null(extra);
  *extra = text;
  r->extra_methods = extra;
  r->extra_method_count = 1;
}

static struct route *add_route(struct bench *b, struct span hosts, enum route_path kind,
                               struct span path, struct span methods) {
  assert_true(b->count < ROUTES_MAX);
  struct route *r = &b->routes[b->count];
  r->order = b->count;
  r->path_kind = (uint8_t)kind;
  r->path = path;
  struct regex_fault fault;
  if (kind == ROUTE_PATH_REGEX) r->regex = regex_new(path, &fault);
  if (kind == ROUTE_PATH_REGEX) assert_non_null(r->regex);
  struct span word;
  while (span_next_token(&hosts, ' ', &word))
    if (word.len) add_host(b, r, word);
  while (span_next_token(&methods, ' ', &word))
    if (word.len) add_method(b, r, word);
  b->list[b->count++] = r;
  return r;
}

static struct route_query query_of(struct span host, struct span path, struct span method) {
  return (struct route_query){
      .host = host, .path = path, .method = http_method_find(method), .method_text = method};
}

/* check_stories: every route has one fate, and the fates agree with the verdict. */
static void check_stories(const struct bench *b, const struct route_story *stories,
                          enum route_verdict v, const struct route_hit *hit) {
  uint64_t seen = 0;
  uint32_t won = 0, limited = 0, methods = 0, certs = 0;
  for (uint32_t i = 0; i < b->count; i++) {
    assert_non_null(stories[i].route);
    assert_false(seen >> stories[i].route->order & 1);
    seen |= UINT64_C(1) << stories[i].route->order;
    won += stories[i].fate == ROUTE_WON;
    limited += stories[i].fate == ROUTE_LOST_LIMIT;
    methods += stories[i].fate == ROUTE_LOST_METHOD;
    certs += stories[i].fate == ROUTE_LOST_CERT;
    if (stories[i].fate == ROUTE_WON) assert_ptr_equal(stories[i].route, hit->route);
    if (stories[i].fate == ROUTE_LOST_RULE) assert_non_null(stories[i].lost.value);
  }
  assert_int_equal(won, v == ROUTE_FOUND);
  assert_int_equal(limited, v == ROUTE_LIMIT);
  if (v == ROUTE_BAD_METHOD) assert_true(methods > 0);
  if (v == ROUTE_NONE) assert_int_equal(methods + certs, 0);
  if (v == ROUTE_BAD_CERT) assert_true(certs > 0);
  if (v == ROUTE_BAD_METHOD) assert_int_equal(certs, 0);
}

/* same_answer runs both matchers and compares all that they promise to agree on. */
static enum route_verdict same_answer(const struct bench *b, const struct route_table *t,
                                      const struct route_query *q, struct route_hit *hit) {
  struct route_hit slow;
  struct route_story stories[ROUTES_MAX] = {0};
  uint64_t budget = q->input.scratch ? regex_budget(q->input.scratch) : 0;
  enum route_verdict v = route_find(t, q, hit);
  if (q->input.scratch) regex_refill(q->input.scratch, budget);
  enum route_verdict w = route_find_linear(b->list, b->count, q, &slow, stories);
  if (v != w || hit->route != slow.route)
    fail_msg("host %.*s path %.*s method %.*s: compiled %d %d, linear %d %d", SPAN_ARG(q->host),
             SPAN_ARG(q->path), SPAN_ARG(q->method_text), (int)v,
             hit->route ? (int)hit->route->order : -1, (int)w,
             slow.route ? (int)slow.route->order : -1);
  if (v == ROUTE_BAD_METHOD) assert_int_equal(hit->methods, slow.methods);
  if (v == ROUTE_BAD_METHOD) assert_non_null(hit->allow);
  check_stories(b, stories, v, hit);
  return v;
}

/* ---- the table ---- */

static const struct {
  const char *table, *name, *hosts;
  enum route_path kind;
  const char *path, *methods;
} route_rows[] = {
#define ROUTE(table, name, hosts, kind, path, methods) \
  {#table, name, hosts, ROUTE_PATH_##kind, path, methods},
#include "route_cases.def"
#undef ROUTE
};

static const struct {
  const char *table, *host, *path, *method, *want;
} case_rows[] = {
#define CASE(table, host, path, method, want) {#table, host, path, method, want},
#include "route_cases.def"
#undef CASE
};

static void bench_from_rows(struct bench *b, const char *table) {
  bench_init(b);
  for (size_t i = 0; i < array_count(route_rows); i++) {
    if (strcmp(route_rows[i].table, table) != 0) continue;
    struct route *r = add_route(b, span_str(route_rows[i].hosts), route_rows[i].kind,
                                span_str(route_rows[i].path), span_str(route_rows[i].methods));
    r->obj.name = span_str(route_rows[i].name);
  }
}

static struct span verdict_name(enum route_verdict v, const struct route_hit *hit) {
  if (v == ROUTE_FOUND) return hit->route->obj.name;
  return v == ROUTE_BAD_METHOD ? SPAN_LIT("BAD_METHOD") : SPAN_LIT("NONE");
}

static void table_of_cases(void **state) {
  (void)state;
  assert_true(array_count(case_rows) >= 300);
  static struct bench b;
  const char *current = "";
  struct route_table *t = NULL;
  for (size_t i = 0; i < array_count(case_rows); i++) {
    if (strcmp(current, case_rows[i].table) != 0) {
      if (t) bench_end(&b);
      current = case_rows[i].table;
      bench_from_rows(&b, current);
      t = route_table_new(&b.arena, b.list, b.count);
    }
    struct route_query q = query_of(span_str(case_rows[i].host), span_str(case_rows[i].path),
                                    span_str(case_rows[i].method));
    struct route_hit hit;
    struct span got = verdict_name(same_answer(&b, t, &q, &hit), &hit);
    if (!span_eq(got, span_str(case_rows[i].want)))
      fail_msg("%s: host \"%s\" path \"%s\" %s: %.*s, not %s", current, case_rows[i].host,
               case_rows[i].path, case_rows[i].method, SPAN_ARG(got), case_rows[i].want);
  }
  bench_end(&b);
}

/* ---- the table of conditions ---- */

static const struct {
  const char *table, *name, *hosts;
  enum route_path kind;
  const char *path, *methods, *rules;
} rule_rows[] = {
#define ROUTE(table, name, hosts, kind, path, methods, rules) \
  {#table, name, hosts, ROUTE_PATH_##kind, path, methods, rules},
#include "match_cases.def"
#undef ROUTE
};

static const struct {
  const char *table, *request, *fields, *client, *want;
} rule_cases[] = {
#define CASE(table, request, fields, client, want) {#table, request, fields, client, want},
#include "match_cases.def"
#undef CASE
};

static void bench_from_rules(struct bench *b, const char *table) {
  bench_init(b);
  for (size_t i = 0; i < array_count(rule_rows); i++) {
    if (strcmp(rule_rows[i].table, table) != 0) continue;
    struct route *r = add_route(b, span_str(rule_rows[i].hosts), rule_rows[i].kind,
                                span_str(rule_rows[i].path), span_str(rule_rows[i].methods));
    r->obj.name = span_str(rule_rows[i].name);
    kit_rules(&b->arena, &r->rules, rule_rows[i].rules);
  }
}

static void table_of_rules(void **state) {
  (void)state;
  static struct bench b;
  struct regex_scratch *scratch = regex_scratch_new();
  for (size_t i = 0; i < array_count(rule_cases); i++) {
    bench_from_rules(&b, rule_cases[i].table);
    assert_true(b.count > 0);
    struct route_table *t = route_table_new(&b.arena, b.list, b.count);
    struct kit_request r;
    struct route_hit hit;
    kit_query(&b.arena, &r, rule_cases[i].request, rule_cases[i].fields, rule_cases[i].client,
              scratch);
    struct span got = verdict_name(same_answer(&b, t, &r.q, &hit), &hit);
    if (!span_eq(got, span_str(rule_cases[i].want)))
      fail_msg("%s: %s [%s] from %s: %.*s, not %s", rule_cases[i].table, rule_cases[i].request,
               rule_cases[i].fields, rule_cases[i].client, SPAN_ARG(got), rule_cases[i].want);
    bench_end(&b);
  }
  regex_scratch_free(scratch);
}

/* ---- random tables ---- */

static uint64_t rng;
static uint32_t draw(uint32_t n) { return (uint32_t)(rng_next(&rng) % n); }

static const char *const labels[] = {"a", "b", "ab", "example", "x-1"};
static const char *const segments[] = {"a", "b", "ab", "api", "v1", "", "%2f", "a.b"};
static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PURGE", "LOCK"};

/* random_text joins up to max words; small alphabets make neighbours and shared prefixes likely.
 */
static struct span random_text(struct arena *arena, const char *const *words, uint32_t word_count,
                               char join, uint32_t max) {
  struct span out = SPAN_EMPTY;
  uint32_t n = 1 + draw(max);
  for (uint32_t i = 0; i < n; i++) {
    const char *word = words[draw(word_count)];
    out = i ? arena_printf(arena, SPAN_FMT "%c%s", SPAN_ARG(out), join, word)
            : arena_printf(arena, "%s", word);
  }
  return out;
}

static struct span random_host(struct arena *arena) {
  return random_text(arena, labels, array_count(labels), '.', 4);
}

static struct span random_path(struct arena *arena) {
  if (!draw(6)) return SPAN_LIT("/");
  struct span text = random_text(arena, segments, array_count(segments), '/', 5);
  return arena_printf(arena, "/" SPAN_FMT, SPAN_ARG(text));
}

/* route_path: a prefix has no trailing slash. */
static struct span random_route_path(struct arena *arena, enum route_path kind) {
  struct span path = random_path(arena);
  while (kind == ROUTE_PATH_PREFIX && path.len > 1 && path.ptr[path.len - 1] == '/') path.len--;
  return path;
}

static void random_route(struct bench *b) {
  enum route_path kind = draw(3) ? ROUTE_PATH_PREFIX : ROUTE_PATH_EXACT;
  struct route *r = add_route(b, SPAN_EMPTY, kind, random_route_path(&b->arena, kind), SPAN_EMPTY);
  for (uint32_t n = draw(HOSTS_MAX); n > 0; n--) {
    struct span host = random_host(&b->arena);
    add_host(b, r, draw(3) ? host : arena_printf(&b->arena, "*." SPAN_FMT, SPAN_ARG(host)));
  }
  for (uint32_t n = draw(3); n > 0; n--)
    add_method(b, r, span_str(methods[draw(array_count(methods))]));
}

/* near_path asks about a path of the table, cut or lengthened. */
static struct span near_path(struct bench *b) {
  if (!b->count || !draw(3)) return draw(20) ? random_path(&b->arena) : SPAN_LIT("*");
  struct span path = b->list[draw(b->count)]->path;
  switch (draw(4)) {
    case 0: return path;
    case 1: return arena_printf(&b->arena, SPAN_FMT "/%s", SPAN_ARG(path),
                                segments[draw(array_count(segments))]);
    case 2: return arena_printf(&b->arena, SPAN_FMT "x", SPAN_ARG(path));
    default: return path.len > 1 ? span_sub(path, 0, path.len - 1) : path;
  }
}

static struct span near_host(struct bench *b) {
  if (!draw(8)) return SPAN_EMPTY;
  const struct route *r = b->count ? b->list[draw(b->count)] : NULL;
  if (!r || !r->host_count || !draw(3)) return random_host(&b->arena);
  struct span host = r->hosts[draw(r->host_count)];
  if (!span_starts(host, SPAN_LIT("*."))) return host;
  host = span_from(host, draw(2) ? 2 : 1);
  if (host.ptr[0] != '.') return host;
  return arena_printf(&b->arena, "%s" SPAN_FMT, labels[draw(array_count(labels))], SPAN_ARG(host));
}

/* seen counts verdicts, so that the test cannot pass by asking only what nobody serves. */
static void random_tables(void **state) {
  (void)state;
  uint32_t seen[3] = {0};
  static struct bench b;
  for (uint64_t seed = 1; seed <= 400; seed++) {
    rng = seed;
    bench_init(&b);
    for (uint32_t n = draw(ROUTES_MAX); n > 0; n--) random_route(&b);
    struct route_table *t = route_table_new(&b.arena, b.list, b.count);
    for (uint32_t i = 0; i < 200; i++) {
      struct route_query q = query_of(near_host(&b), near_path(&b),
                                      span_str(methods[draw(array_count(methods))]));
      struct route_hit hit;
      seen[same_answer(&b, t, &q, &hit)]++;
    }
    bench_end(&b);
  }
  for (size_t i = 0; i < array_count(seen); i++) assert_true(seen[i] > 500);
}

/* A random route with conditions of every kind; few names and values, so that many fit. */
static void random_rules(struct bench *b, struct route *r) {
  static const char *const rules[] = {
      "h:X-A=1",  "h:x-a^1", "h:X-A~^1+$",       "h:!X-A",      "h:X-B?",        "h:X-B=2",
      "q:a=1",    "q:a?",    "q:!a",             "q:b~2$",      "q:b^_",         "c:s=1",
      "c:s?",     "c:!t",    "c:t~^[0-9]",       "s:10.0.0.0/8", "s:10.0.0.0/16", "s:10.1.0.0/16",
      "s:::/0",   "s:0.0.0.0/0", "h:X-A~^.*1.*2.*$"};
  for (uint32_t n = draw(4); n > 0; n--)
    kit_rules(&b->arena, &r->rules, rules[draw(array_count(rules))]);
}

static const struct span uri_sans[] = {{"uri:a/*", 7}}, dns_sans[] = {{"dns:a.b", 7}};
static const uint8_t digest_one[MATCH_DIGEST_BYTES] = {1}, digest_two[MATCH_DIGEST_BYTES] = {2};
static const uint8_t digests[1][MATCH_DIGEST_BYTES] = {{1}};
static const struct match_cert_rule cert_rules[] = {{.absent = true},
                                                    {.absent = false},
                                                    {.sans = uri_sans, .san_count = 1},
                                                    {.sans = dns_sans, .san_count = 1},
                                                    {.keys = digests, .key_count = 1}};
static const struct span shown_sans[] = {{"uri:a/b", 7}, {"dns:a.b", 7}};
static const struct match_cert cert_shown[] = {
    {.fingerprint = digest_one, .key = digest_one, .sans = shown_sans, .san_count = 1},
    {.fingerprint = digest_two, .key = digest_two, .sans = shown_sans, .san_count = 2}};

static void random_route_with_rules(struct bench *b) {
  static const char *const regexes[] = {"^/a", "b$", "^/[a-z]+$", "^/api/.*/.*x$", "v1"};
  if (draw(4)) {
    random_route(b);
    if (draw(4)) b->list[b->count - 1]->host_count = 0; /* else most requests find no host */
  } else {
    struct span text = span_str(regexes[draw(array_count(regexes))]);
    struct route *r = add_route(b, SPAN_EMPTY, ROUTE_PATH_REGEX, text, SPAN_EMPTY);
    if (!draw(3)) add_method(b, r, span_str(methods[draw(array_count(methods))]));
    if (!draw(4)) add_host(b, r, random_host(&b->arena));
  }
  random_rules(b, b->list[b->count - 1]);
  if (!draw(3)) b->list[b->count - 1]->rules.cert = &cert_rules[draw(array_count(cert_rules))];
}

static const struct match_cert *random_cert(void) {
  return draw(2) ? NULL : &cert_shown[draw(array_count(cert_shown))];
}

/* random_line is "GET host/path?query"; now and then a path or value that meets a limit. */
static const char *random_line(struct bench *b) {
  static const char *const queries[] = {"", "?a=1", "?a", "?b=+2", "?a=%31&b=x2", "?b=2&c"};
  struct span host = near_host(b), path = near_path(b);
  if (!path.len || path.ptr[0] != '/') path = SPAN_LIT("/a");
  struct span text = arena_printf(&b->arena, "%s " SPAN_FMT SPAN_FMT "%s",
                                  methods[draw(array_count(methods))], SPAN_ARG(host),
                                  SPAN_ARG(path), queries[draw(array_count(queries))]);
  if (draw(40)) return mem_str(text);
  char *line = mem_alloc(2400), *end = line;
  end += sprintf(end, "GET ab/api");
  for (int i = 0; i < 1000; i++) end += sprintf(end, "/x");
  (void)sprintf(end, "/y");
  return line;
}

/* 100,000 random requests at random tables: the twins agree in verdict, route and methods. */
static void random_tables_with_rules(void **state) {
  (void)state;
  static const char *const fields[] = {
      "",       "X-A: 1",  "X-A: 12\nX-B: 2", "X-B: 2\nX-A: 2\nX-A: 1", "-X-A: 1\nCookie: s=1",
      "X-B: x", "Cookie: s=1; t=7\nX-A: 11", "Cookie: t=x"};
  static const char *const clients[] = {"", "10.0.0.1", "10.1.0.1", "10.9.9.9", "11.0.0.1", "::1"};
  struct regex_scratch *scratch = regex_scratch_new();
  char *long_field = mem_alloc(3100); /* meets the limit of one of the rules */
  strcpy(long_field, "X-A: ");
  for (size_t i = 5; i < 3000; i++) long_field[i] = '1';
  uint32_t seen[5] = {0}, total = 0;
  static struct bench b;
  for (uint64_t seed = 1; seed <= 1000; seed++) {
    rng = seed;
    bench_init(&b);
    for (uint32_t n = draw(ROUTES_MAX); n > 0; n--) random_route_with_rules(&b);
    struct route_table *t = route_table_new(&b.arena, b.list, b.count);
    for (uint32_t i = 0; i < 120; i++, total++) {
      struct kit_request r;
      struct route_hit hit;
      const char *line = random_line(&b);
      kit_query(&b.arena, &r, line, draw(60) ? fields[draw(array_count(fields))] : long_field,
                clients[draw(array_count(clients))], scratch);
      r.q.input.cert = random_cert();
      seen[same_answer(&b, t, &r.q, &hit)]++;
      mem_free((void *)(uintptr_t)line);
    }
    bench_end(&b);
  }
  mem_free(long_field);
  regex_scratch_free(scratch);
  assert_true(total >= 100000);
  print_message("%u requests: %u found, %u none, %u bad method, %u limit, %u bad certificate\n",
                total, seen[0], seen[1], seen[2], seen[3], seen[4]);
  for (size_t i = 0; i < array_count(seen); i++) assert_true(seen[i] > 300);
}

/* One route with sources among many that differ in a header: each is asked about once or twice. A
 * matcher that takes the square of their number does not come back from this. */
static void many_with_one_source(void **state) {
  (void)state;
  enum { MANY = 200000 };
  struct arena arena;
  arena_init(&arena, ARENA_PAGES, 0);
  struct route *routes = mem_array(MANY, sizeof *routes), **list = mem_array(MANY, sizeof *list);
  for (uint32_t i = 0; i < MANY; i++) {
    struct route *r = list[i] = &routes[i];
    struct match_value *v = arena_zalloc(&arena, sizeof *v);
    *v = (struct match_value){.name = SPAN_LIT("X-Tenant"), .kind = MATCH_EXACT};
    v->text = arena_printf(&arena, "t%u", i);
    r->order = i;
    r->path_kind = ROUTE_PATH_PREFIX;
    r->path = SPAN_LIT("/");
    r->rules.values[MATCH_HEADER] = v;
    r->rules.counts[MATCH_HEADER] = 1;
  }
  kit_rules(&arena, &routes[7].rules, "s:10.0.0.0/8");
  struct route_table *t = route_table_new(&arena, list, MANY);
  struct kit_request r;
  struct route_hit hit;
  kit_query(&arena, &r, "GET a/x", "X-Tenant: none", "10.1.2.3", NULL);
  assert_int_equal(route_find(t, &r.q, &hit), ROUTE_NONE);
  kit_query(&arena, &r, "GET a/x", "X-Tenant: t199999", "10.1.2.3", NULL);
  assert_int_equal(route_find(t, &r.q, &hit), ROUTE_FOUND);
  assert_int_equal(hit.route->order, MANY - 1);
  arena_reset(&arena);
  mem_free(routes);
  mem_free(list);
}

/* order_is_the_file: the answer does not depend on the order in which routes are handed over. */
static void order_is_the_file(void **state) {
  (void)state;
  static struct bench b;
  for (uint64_t seed = 1; seed <= 100; seed++) {
    rng = seed;
    bench_init(&b);
    for (uint32_t n = 2 + draw(30); n > 0; n--) random_route(&b);
    struct route_table *straight = route_table_new(&b.arena, b.list, b.count);
    struct route *mixed[ROUTES_MAX];
    for (uint32_t i = 0; i < b.count; i++) mixed[i] = b.list[i];
    for (uint32_t i = b.count - 1; i > 0; i--) {
      uint32_t j = draw(i + 1);
      struct route *swap = mixed[i];
      mixed[i] = mixed[j];
      mixed[j] = swap;
    }
    struct route_table *other = route_table_new(&b.arena, mixed, b.count);
    for (uint32_t i = 0; i < 100; i++) {
      struct route_query q = query_of(near_host(&b), near_path(&b), SPAN_LIT("GET"));
      struct route_hit one, two;
      enum route_verdict v = route_find(straight, &q, &one);
      assert_int_equal(v, route_find(other, &q, &two));
      assert_ptr_equal(one.route, two.route);
    }
    bench_end(&b);
  }
}

/* allow_is_the_union: a 405 names every method that a near route would have served. */
static void allow_is_the_union(void **state) {
  (void)state;
  static struct bench b;
  bench_init(&b);
  add_route(&b, SPAN_EMPTY, ROUTE_PATH_PREFIX, SPAN_LIT("/a"), SPAN_LIT("PUT"));
  add_route(&b, SPAN_EMPTY, ROUTE_PATH_PREFIX, SPAN_LIT("/a/b"), SPAN_LIT("POST"));
  add_route(&b, SPAN_EMPTY, ROUTE_PATH_EXACT, SPAN_LIT("/a/b"), SPAN_LIT("DELETE PURGE"));
  struct route_table *t = route_table_new(&b.arena, b.list, b.count);
  struct route_query q = query_of(SPAN_EMPTY, SPAN_LIT("/a/b"), SPAN_LIT("GET"));
  struct route_hit hit;
  assert_int_equal(same_answer(&b, t, &q, &hit), ROUTE_BAD_METHOD);
  assert_int_equal(hit.methods, 1u << HTTP_METHOD_PUT | 1u << HTTP_METHOD_POST |
                                    1u << HTTP_METHOD_DELETE);
  q = query_of(SPAN_EMPTY, SPAN_LIT("/a/b"), SPAN_LIT("PURGE"));
  assert_int_equal(same_answer(&b, t, &q, &hit), ROUTE_FOUND);
  assert_int_equal(hit.route->order, 2);
  bench_end(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(table_of_cases),
      cmocka_unit_test(table_of_rules),
      cmocka_unit_test(random_tables),
      cmocka_unit_test(random_tables_with_rules),
      cmocka_unit_test(many_with_one_source),
      cmocka_unit_test(order_is_the_file),
      cmocka_unit_test(allow_is_the_union),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
