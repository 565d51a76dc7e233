/* test_object.c: lifetimes: refs, pins, the reaper, ids, identity; threads that pin while others
 * look. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/object_priv.h"
#include "weir/model/object.h"

/* thing is an object of the test's own that counts its end. */
struct thing {
  struct object obj;
  struct object *holds; /* ref, dropped by the fini */
  int *ended;
};

static void thing_fini(struct object *o) {
  struct thing *t = (struct thing *)o;
  if (t->holds) object_unref(o->registry, t->holds);
  ++*t->ended;
}

static struct thing *thing_new(struct registry *r, const char *name, int *ended) {
  struct thing *t = object_new(r, sizeof *t, OBJECT_ROUTE, span_str(name));
  t->ended = ended;
  t->obj.fini = thing_fini;
  return t;
}

static void test_refs(void **state) {
  (void)state;
  struct registry *r = registry_new(3);
  int ended = 0;
  assert_int_equal(registry_workers(r), 3);
  struct thing *t = thing_new(r, "t", &ended);
  assert_int_equal(t->obj.workers, 3);
  assert_true(span_eq(t->obj.name, SPAN_LIT("t")));
  assert_int_equal((uintptr_t)t->obj.pin_rows % 64, 0);
  object_ref(r, &t->obj);
  object_unref(r, &t->obj);
  assert_int_equal(object_reap(r), 0);
  assert_int_equal(ended, 0);
  object_unref(r, &t->obj);
  assert_int_equal(ended, 0); /* only the reaper ends it */
  assert_int_equal(registry_count(r, OBJECT_ROUTE), 1);
  assert_int_equal(object_reap(r), 0);
  assert_int_equal(ended, 1);
  assert_int_equal(registry_count(r, OBJECT_ROUTE), 0);
  registry_free(r);
}

static void test_pins(void **state) {
  (void)state;
  struct registry *r = registry_new(2);
  int ended = 0;
  struct thing *t = thing_new(r, "t", &ended);
  object_pin(&t->obj, 0);
  object_pin(&t->obj, 1);
  object_pin(&t->obj, 1);
  object_unref(r, &t->obj);
  assert_int_equal(object_reap(r), 1);
  object_unpin(&t->obj, 0);
  object_unpin(&t->obj, 1);
  assert_int_equal(object_reap(r), 1);
  object_unpin(&t->obj, 1);
  assert_int_equal(object_reap(r), 0);
  assert_int_equal(ended, 1);
  registry_free(r);
}

/* A chain of objects goes in one reaping; one that is pinned in the middle holds what it holds. */
static void test_chain(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  int ended = 0;
  struct thing *a = thing_new(r, "a", &ended), *b = thing_new(r, "b", &ended),
               *c = thing_new(r, "c", &ended);
  a->holds = &b->obj;
  b->holds = &c->obj;
  object_pin(&b->obj, 0);
  object_unref(r, &a->obj);
  assert_int_equal(object_reap(r), 1);
  assert_int_equal(ended, 1);
  object_unpin(&b->obj, 0);
  assert_int_equal(object_reap(r), 0);
  assert_int_equal(ended, 3);
  registry_free(r);
}

/* Ids are dense: what ended gives its id to the next. */
static void test_ids(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  int ended = 0;
  struct thing *things[300];
  for (uint32_t i = 0; i < 300; i++) {
    things[i] = thing_new(r, "same", &ended);
    assert_int_equal(things[i]->obj.id, i + 1); /* 0 is nobody */
  }
  object_unref(r, &things[7]->obj);
  object_unref(r, &things[200]->obj);
  object_reap(r);
  things[7] = thing_new(r, "x", &ended);
  things[200] = thing_new(r, "y", &ended);
  assert_true(things[7]->obj.id + things[200]->obj.id == 209);
  assert_int_equal(registry_count(r, OBJECT_ROUTE), 300);
  for (uint32_t i = 0; i < 300; i++) object_unref(r, &things[i]->obj);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

struct key {
  uint32_t number;
};
struct keyed {
  struct object obj;
  uint32_t number;
};
static bool keyed_same(const struct object *o, const void *key) {
  return ((const struct keyed *)o)->number == ((const struct key *)key)->number;
}
static void keyed_init(struct object *o, const void *key) {
  ((struct keyed *)o)->number = ((const struct key *)key)->number;
}
static struct object *keyed_get(struct registry *r, enum object_kind kind, const char *name,
                                uint32_t number) {
  struct key key = {number};
  return object_get(r, &(struct object_identity){.kind = kind,
                                                 .size = sizeof(struct keyed),
                                                 .name = span_str(name),
                                                 .same = keyed_same,
                                                 .init = keyed_init,
                                                 .key = &key});
}

static void test_identity(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct object *a = keyed_get(r, OBJECT_POOL_STATE, "a", 1);
  assert_ptr_equal(keyed_get(r, OBJECT_POOL_STATE, "a", 1), a);
  assert_int_equal(a->refs, 2);
  struct object *other_key = keyed_get(r, OBJECT_POOL_STATE, "a", 2);
  struct object *other_kind = keyed_get(r, OBJECT_ROUTE_STATE, "a", 1);
  struct object *other_name = keyed_get(r, OBJECT_POOL_STATE, "b", 1);
  assert_true(a != other_key && a != other_kind && a != other_name);
  object_unref(r, a);
  object_unref(r, a);
  object_unref(r, other_key);
  object_unref(r, other_kind);
  object_unref(r, other_name);
  object_reap(r);
  registry_free(r);
}

/* Dead but pinned, and asked for again: it is the same one, and alive. */
static void test_resurrection(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct object *a = keyed_get(r, OBJECT_ENDPOINT, "a", 1);
  object_pin(a, 0);
  object_unref(r, a);
  assert_int_equal(object_reap(r), 1);
  assert_ptr_equal(keyed_get(r, OBJECT_ENDPOINT, "a", 1), a);
  assert_int_equal(object_reap(r), 0);
  object_unpin(a, 0);
  assert_int_equal(object_reap(r), 0);
  assert_int_equal(registry_count(r, OBJECT_ENDPOINT), 1);
  object_unref(r, a);
  assert_int_equal(object_reap(r), 0);
  assert_int_equal(registry_count(r, OBJECT_ENDPOINT), 0);
  registry_free(r);
}

static void count_one(struct object *o, void *ctx) {
  assert_int_equal(o->kind, OBJECT_POOL_STATE);
  ++*(uint32_t *)ctx;
}

/* Thousands by identity: found again through a table that grew. */
static void test_many(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  enum { MANY = 5000 };
  struct object **all = malloc(MANY * sizeof *all);
  assert_non_null(all);
  char name[16];
  for (uint32_t i = 0; i < MANY; i++) {
    snprintf(name, sizeof name, "n%u", i);
    all[i] = keyed_get(r, OBJECT_POOL_STATE, name, i);
  }
  for (uint32_t i = 0; i < MANY; i++) {
    snprintf(name, sizeof name, "n%u", i);
    assert_ptr_equal(keyed_get(r, OBJECT_POOL_STATE, name, i), all[i]);
    object_unref(r, all[i]);
  }
  uint32_t seen = 0;
  registry_each(r, OBJECT_POOL_STATE, count_one, &seen);
  assert_int_equal(seen, MANY);
  for (uint32_t i = 0; i < MANY; i++) object_unref(r, all[i]);
  assert_int_equal(object_reap(r), 0);
  free(all);
  registry_free(r);
}

/* churn: one thread makes and drops, another reaps and counts, two pin what is kept for them. */
struct churn {
  struct registry *registry;
  struct object *kept;
  uint32_t worker;
};
enum { CHURN_ROUNDS = 3000 };

static void *churn_pin(void *arg) {
  struct churn *c = arg;
  for (int i = 0; i < CHURN_ROUNDS; i++) {
    object_pin(c->kept, c->worker);
    object_unpin(c->kept, c->worker);
  }
  return NULL;
}
static void *churn_make(void *arg) {
  struct churn *c = arg;
  for (uint32_t i = 0; i < CHURN_ROUNDS; i++)
    object_unref(c->registry, keyed_get(c->registry, OBJECT_POOL_STATE, "x", i % 7));
  return NULL;
}
static void *churn_reap(void *arg) {
  struct churn *c = arg;
  for (int i = 0; i < CHURN_ROUNDS; i++) {
    object_reap(c->registry);
    if (registry_count(c->registry, OBJECT_ENDPOINT) != 1) return arg; /* kept was lost */
  }
  return NULL;
}

static void test_threads(void **state) {
  (void)state;
  struct registry *r = registry_new(2);
  struct churn one = {r, keyed_get(r, OBJECT_ENDPOINT, "kept", 0), 0}, two = {r, one.kept, 1};
  pthread_t threads[4];
  assert_int_equal(pthread_create(&threads[0], NULL, churn_pin, &one), 0);
  assert_int_equal(pthread_create(&threads[1], NULL, churn_pin, &two), 0);
  assert_int_equal(pthread_create(&threads[2], NULL, churn_make, &one), 0);
  assert_int_equal(pthread_create(&threads[3], NULL, churn_reap, &one), 0);
  for (size_t i = 0; i < 4; i++) {
    void *result = NULL;
    assert_int_equal(pthread_join(threads[i], &result), 0);
    assert_null(result);
  }
  object_unref(r, one.kept);
  assert_int_equal(object_reap(r), 0);
  registry_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_refs),     cmocka_unit_test(test_pins),
      cmocka_unit_test(test_chain),    cmocka_unit_test(test_ids),
      cmocka_unit_test(test_identity), cmocka_unit_test(test_resurrection),
      cmocka_unit_test(test_many),     cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
