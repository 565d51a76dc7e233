/* test_snapshot.c: constructors by identity and the index of a generation: what it holds, what
 * goes when it goes, which states are marked as removed at a publication. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "weir/model/model.h"

static struct addr ip(const char *text) {
  struct addr a;
  assert_true(addr_parse(span_str(text), &a));
  return a;
}

static void test_endpoint(void **state) {
  (void)state;
  struct registry *r = registry_new(2);
  struct addr one = ip("127.0.0.1:80"), two = ip("127.0.0.2:80"), unix_addr = ip("unix:/run/x");
  struct endpoint *a = endpoint_get(r, SPAN_LIT("p"), SPAN_LIT("a:80"), &one);
  assert_ptr_equal(endpoint_get(r, SPAN_LIT("p"), SPAN_LIT("a:80"), &one), a);
  /* Each of the three parts of its identity tells endpoints apart. */
  struct endpoint *b = endpoint_get(r, SPAN_LIT("p"), SPAN_LIT("a:80"), &two);
  struct endpoint *c = endpoint_get(r, SPAN_LIT("q"), SPAN_LIT("a:80"), &one);
  struct endpoint *d = endpoint_get(r, SPAN_LIT("p"), SPAN_LIT("b:80"), &one);
  struct endpoint *u = endpoint_get(r, SPAN_LIT("p"), SPAN_LIT("unix:/run/x"), &unix_addr);
  /* "p" + "q/x" is not "p/q" + "x", though the registry's names are alike. */
  struct endpoint *e = endpoint_get(r, SPAN_LIT("p/q"), SPAN_LIT("x"), &one);
  struct endpoint *f = endpoint_get(r, SPAN_LIT("p"), SPAN_LIT("q/x"), &one);
  assert_true(a != b && a != c && a != d && b != c && e != f);
  assert_true(span_eq(a->obj.name, SPAN_LIT("p/a:80")));
  assert_true(span_eq(a->label, SPAN_LIT("127.0.0.1:80")));
  assert_true(span_eq(u->label, SPAN_LIT("unix:/run/x")));
  assert_true(list_empty(&a->rows[0].idle) && list_empty(&a->rows[1].idle));
  assert_int_equal((uintptr_t)&a->rows[1] % 64, 0);
  struct endpoint *all[] = {a, a, b, c, d, u, e, f};
  for (size_t i = 0; i < array_count(all); i++) object_unref(r, &all[i]->obj);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

/* make is a generation with one listener, pool and route; names given. */
static struct snapshot *make(struct registry *r, const char *listener, const char *route) {
  struct snapshot *s = snapshot_new(r);
  struct addr addr = ip("127.0.0.1:1");
  struct pool *pool = pool_new(r, SPAN_LIT("p"));
  pool->state = pool_state_get(r, SPAN_LIT("p"));
  pool->members = arena_zalloc(&pool->obj.arena, sizeof *pool->members);
  assert_non_null(pool->members);
  pool->members[0].endpoint = endpoint_get(r, SPAN_LIT("p"), SPAN_LIT("127.0.0.1:1"), &addr);
  pool->member_count = 1;
  struct route *rt = route_new(r, span_str(route));
  rt->state = route_state_get(r, span_str(route));
  rt->pool = pool;
  object_ref(r, &pool->obj);
  struct listener *l = listener_new(r, span_str(listener));
  l->state = listener_state_get(r, span_str(listener));
  s->pools = arena_zalloc(&s->arena, sizeof *s->pools);
  s->routes = arena_zalloc(&s->arena, sizeof *s->routes);
  s->listeners = arena_zalloc(&s->arena, sizeof *s->listeners);
  assert_true(s->pools && s->routes && s->listeners);
  s->pools[s->pool_count++] = pool;
  s->routes[s->route_count++] = rt;
  s->listeners[s->listener_count++].listener = l;
  return s;
}

static uint32_t alive(struct registry *r) {
  uint32_t count = 0;
  for (enum object_kind k = 0; k < OBJECT_KIND_COUNT; k++) count += registry_count(r, k);
  return count;
}

static void test_index(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct snapshot *s = make(r, "web", "api");
  assert_ptr_equal(snapshot_find_listener(s, SPAN_LIT("web")), &s->listeners[0]);
  assert_ptr_equal(snapshot_find_pool(s, SPAN_LIT("p")), s->pools[0]);
  assert_ptr_equal(snapshot_find_route(s, SPAN_LIT("api")), s->routes[0]);
  assert_null(snapshot_find_listener(s, SPAN_LIT("we")));
  assert_null(snapshot_find_pool(s, SPAN_LIT("")));
  assert_null(snapshot_find_route(s, SPAN_LIT("apix")));
  assert_int_equal(alive(r), 7); /* three settings, their states, an endpoint */
  snapshot_free(s);
  assert_int_equal(object_reap(r), 0);
  assert_int_equal(alive(r), 0);
  snapshot_free(NULL);
  registry_free(r);
}

/* A tunnel pins a pool; its route and listener go, the pool with its endpoint stays until
 * unpinned. */
static void test_pinned_pool(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct snapshot *s = make(r, "web", "api");
  struct pool *pool = s->pools[0];
  object_pin(&pool->obj, 0);
  snapshot_free(s);
  assert_int_equal(object_reap(r), 1);
  assert_int_equal(registry_count(r, OBJECT_ROUTE), 0);
  assert_int_equal(registry_count(r, OBJECT_LISTENER), 0);
  assert_int_equal(registry_count(r, OBJECT_ENDPOINT), 1);
  assert_true(span_eq(pool->obj.name, SPAN_LIT("p")));
  object_unpin(&pool->obj, 0);
  assert_int_equal(object_reap(r), 0);
  assert_int_equal(alive(r), 0);
  registry_free(r);
}

static int tls_drops;
static void drop_tls(struct tls_server *server) {
  assert_ptr_equal(server, (struct tls_server *)&tls_drops);
  tls_drops++;
}

static void test_tls_dropped(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct snapshot *s = make(r, "web", "api");
  s->listeners[0].listener->tls = (struct tls_server *)&tls_drops;
  s->listeners[0].listener->tls_unref = drop_tls;
  snapshot_free(s);
  assert_int_equal(tls_drops, 0);
  object_reap(r);
  assert_int_equal(tls_drops, 1);
  registry_free(r);
}

static void test_marks(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct snapshot *a = make(r, "web", "one"), *b = make(r, "web", "two");
  struct route_state *one = a->routes[0]->state, *two = b->routes[0]->state;
  struct listener_state *web = a->listeners[0].listener->state;
  assert_ptr_equal(web, b->listeners[0].listener->state);
  snapshot_mark_published(NULL, a);
  assert_false(one->removed || web->removed);
  snapshot_mark_published(a, b);
  assert_true(one->removed);
  assert_false(two->removed || web->removed);
  snapshot_mark_published(b, a); /* it comes back */
  assert_false(one->removed || web->removed);
  assert_true(two->removed);
  struct snapshot *empty = snapshot_new(r);
  snapshot_mark_published(a, empty);
  assert_true(one->removed && web->removed);
  snapshot_free(a);
  snapshot_free(b);
  snapshot_free(empty);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_endpoint),    cmocka_unit_test(test_index),
      cmocka_unit_test(test_pinned_pool), cmocka_unit_test(test_tls_dropped),
      cmocka_unit_test(test_marks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
