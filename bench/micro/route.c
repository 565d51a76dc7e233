/* route.c: what finding a route costs with 10, 1,000 and 10,000 routes, each request for another
 * route by chance: exact paths, prefixes, a host of its own for each; and routes on one path that
 * differ in a header only, of which a few have sources. The cost of making the
 * request's text is measured apart and taken off. CPU time, the best of many runs, is printed: a
 * busy machine only adds. Not a test.
 *
 *   bench-micro-route              (bench/micro.sh route builds and runs it) */
#include <stdio.h>
#include <time.h>

#include "weir/base/hash.h"
#include "weir/base/mem.h"
#include "weir/model/model.h"

enum { LOOKUPS = 100000, RUNS = 25, ROUTES_MOST = 10000 };

enum shape { SHAPE_EXACT, SHAPE_PREFIX, SHAPE_DEEP, SHAPE_HOST, SHAPE_MISS, SHAPE_COUNT };
static const char *const shape_names[] = {"exact path", "prefix, 2 segments on",
                                          "prefix beside shorter ones", "host each, prefix /",
                                          "no such path"};

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* table is a compiled list of routes, as objects of their own like those of a snapshot. */
struct table {
  struct arena arena;
  struct registry *registry;
  struct route *routes[ROUTES_MOST + 2];
  uint32_t count;
  struct route_table *compiled;
};

static void add(struct table *t, enum route_path kind, struct span path, struct span host) {
  struct route *r = route_new(t->registry, SPAN_LIT("r"));
  r->order = t->count;
  r->path_kind = (uint8_t)kind;
  r->path = arena_copy(&r->obj.arena, path, NULL);
  if (host.len) {
    struct span *hosts = arena_zalloc(&r->obj.arena, sizeof *hosts);
    check(hosts != NULL);
    *hosts = arena_copy(&r->obj.arena, host, NULL);
    r->hosts = hosts;
    r->host_count = 1;
  }
  t->routes[t->count++] = r;
}

static void table_make(struct table *t, enum shape shape, uint32_t count) {
  *t = (struct table){.registry = registry_new(1)};
  arena_init(&t->arena, NULL, 0);
  for (uint32_t i = 0; i < count; i++) {
    char room[64];
    struct buf b = buf_of(room, sizeof room);
    buf_printf(&b, shape == SHAPE_HOST ? "h%05u.example.com" : "/api/service-%05u", i);
    if (shape == SHAPE_HOST) add(t, ROUTE_PATH_PREFIX, SPAN_LIT("/"), buf_span(&b));
    else if (shape == SHAPE_EXACT) add(t, ROUTE_PATH_EXACT, buf_span(&b), SPAN_EMPTY);
    else add(t, ROUTE_PATH_PREFIX, buf_span(&b), SPAN_EMPTY);
  }
  if (shape == SHAPE_DEEP) {
    add(t, ROUTE_PATH_PREFIX, SPAN_LIT("/"), SPAN_EMPTY);
    add(t, ROUTE_PATH_PREFIX, SPAN_LIT("/api"), SPAN_EMPTY);
  }
  t->compiled = route_table_new(&t->arena, t->routes, t->count);
}

static void table_free(struct table *t) {
  for (uint32_t i = 0; i < t->count; i++) object_unref(t->registry, &t->routes[i]->obj);
  object_reap(t->registry);
  registry_free(t->registry);
  arena_reset(&t->arena);
}

/* put_number writes five digits over those of a text. */
static void put_number(char *at, uint32_t n) {
  for (int i = 4; i >= 0; i--, n /= 10) at[i] = (char)('0' + n % 10);
}

/* once times LOOKUPS requests for routes by chance; find false: only the making of their text. */
static double once(const struct table *t, enum shape shape, uint32_t count, bool find) {
  static char path[] = "/api/service-00000/users/7", host[] = "h00000.example.com";
  struct route_query q = {.host = {host, sizeof host - 1}, .path = {path, sizeof path - 1}};
  uint64_t rng = 7, sum = 0;
  if (shape == SHAPE_EXACT) q.path.len = sizeof "/api/service-00000" - 1;
  if (shape == SHAPE_MISS) path[1] = 'x';
  double start = now_ns();
  for (uint32_t i = 0; i < LOOKUPS; i++) {
    uint32_t n = (uint32_t)(((rng_next(&rng) >> 32) * count) >> 32);
    struct route_hit hit = {0};
    put_number(path + 13, n);
    put_number(host + 1, n);
    enum route_verdict v = find ? route_find(t->compiled, &q, &hit) : ROUTE_NONE;
    if (find) check((v == ROUTE_FOUND) == (shape != SHAPE_MISS));
    sum += (uintptr_t)hit.route;
  }
  double took = now_ns() - start;
  path[1] = 'a';
  __asm__ volatile("" ::"r"(sum));
  return took / LOOKUPS;
}

static double measure(enum shape shape, uint32_t count) {
  static struct table t;
  double best = 1e18, idle = 1e18;
  table_make(&t, shape, count);
  for (int i = 0; i < RUNS; i++) {
    double with = once(&t, shape, count, true), without = once(&t, shape, count, false);
    if (with < best) best = with;
    if (without < idle) idle = without;
  }
  table_free(&t);
  return best - idle;
}

/* ---- routes that differ in conditions only: they are asked one after the other ---- */

static void add_tenant(struct table *t, bool sources) {
  add(t, ROUTE_PATH_PREFIX, SPAN_LIT("/"), SPAN_EMPTY);
  struct route *r = t->routes[t->count - 1];
  struct match_value *v = arena_zalloc(&r->obj.arena, sizeof *v);
  struct addr_net *net = arena_zalloc(&r->obj.arena, sizeof *net);
  check(v && net && addr_net_parse(SPAN_LIT("10.0.0.0/8"), net));
  *v = (struct match_value){.name = SPAN_LIT("X-Tenant"), .kind = MATCH_EXACT};
  v->text = arena_printf(&r->obj.arena, "t%u", r->order);
  r->rules.values[MATCH_HEADER] = v;
  r->rules.counts[MATCH_HEADER] = 1;
  r->rules.sources = net;
  r->rules.source_count = sources ? 1 : 0;
}

/* measure_tenants: a request that none of count routes takes; one or all of them have sources. */
static double measure_tenants(uint32_t count, uint32_t with_sources) {
  static struct table t;
  struct http_field row = {.name = SPAN_LIT("X-Tenant"), .value = SPAN_LIT("none")};
  struct http_fields fields = {.rows = &row, .count = 1};
  struct addr client;
  check(addr_from_ip(SPAN_LIT("10.1.2.3"), 1, &client));
  struct route_query q = {.path = SPAN_LIT("/x"), .input = {.fields = &fields, .client = &client}};
  double best = 1e18;
  t = (struct table){.registry = registry_new(1)};
  arena_init(&t.arena, NULL, 0);
  for (uint32_t i = 0; i < count; i++) add_tenant(&t, i < with_sources);
  t.compiled = route_table_new(&t.arena, t.routes, t.count);
  for (int i = 0; i < RUNS; i++) {
    struct route_hit hit;
    double start = now_ns();
    check(route_find(t.compiled, &q, &hit) == ROUTE_NONE);
    if (now_ns() - start < best) best = now_ns() - start;
  }
  table_free(&t);
  return best;
}

static void print_tenants(const uint32_t *sizes, size_t count) {
  static const char *const names[] = {"headers, no sources", "headers, one with sources",
                                      "headers, all with sources"};
  for (uint32_t shape = 0; shape < array_count(names); shape++) {
    double ns[3];
    printf("%-28s", names[shape]);
    for (size_t i = 0; i < count && i < array_count(ns); i++)
      printf(" %7.0f", ns[i] = measure_tenants(sizes[i], shape == 2 ? sizes[i] : shape));
    printf("   %11.2f\n", ns[2] / ns[0]);
  }
}

int main(void) {
  static const uint32_t sizes[] = {10, 1000, 10000};
  printf("ns to find a route    routes:     10   1,000  10,000   10,000 / 10\n");
  for (enum shape s = 0; s < SHAPE_COUNT; s++) {
    double ns[array_count(sizes)];
    printf("%-28s", shape_names[s]);
    for (size_t i = 0; i < array_count(sizes); i++) printf(" %7.1f", ns[i] = measure(s, sizes[i]));
    printf("   %11.2f\n", ns[2] / ns[0]);
  }
  print_tenants(sizes, array_count(sizes));
  return 0;
}
