/* test_heap.c: the heap against a plain array: the least first, whatever is taken out between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/base/check.h"
#include "weir/base/hash.h"
#include "weir/base/heap.h"

enum { NODES = 500 };

struct thing {
  struct heap_node node;
  uint32_t key;
  bool in;
};

static bool before(const struct heap_node *a, const struct heap_node *b) {
  return container_of(a, struct thing, node)->key < container_of(b, struct thing, node)->key;
}

static uint32_t least(const struct thing *things) {
  uint32_t key = UINT32_MAX;
  for (uint32_t i = 0; i < NODES; i++)
    if (things[i].in && things[i].key < key) key = things[i].key;
  return key;
}

static void put(struct heap *heap, struct thing *t, uint32_t key) {
  t->key = key;
  t->in = true;
  heap_insert(heap, &t->node, before);
}

static void take(struct heap *heap, struct thing *t) {
  assert_true(t->in);
  heap_remove(heap, &t->node, before);
  t->in = false;
}

static void empties_in_order(void **state) {
  (void)state;
  static struct thing things[NODES];
  for (uint64_t seed = 1; seed <= 20; seed++) {
    uint64_t rng = seed;
    struct heap heap = {0};
    for (uint32_t i = 0; i < NODES; i++)
      put(&heap, &things[i], (uint32_t)(rng_next(&rng) % (seed * 40)));
    uint32_t last = 0;
    for (uint32_t i = 0; i < NODES; i++) {
      struct thing *t = container_of(heap.root, struct thing, node);
      assert_true(t->key >= last);
      last = t->key;
      take(&heap, t);
    }
    assert_null(heap.root);
  }
}

static void any_may_leave(void **state) {
  (void)state;
  static struct thing things[NODES];
  for (uint64_t seed = 1; seed <= 10; seed++) {
    memset(things, 0, sizeof things);
    uint64_t rng = seed;
    struct heap heap = {0};
    for (uint32_t turn = 0; turn < 5000; turn++) {
      struct thing *t = &things[rng_next(&rng) % NODES];
      if (t->in) take(&heap, t);
      else put(&heap, t, (uint32_t)(rng_next(&rng) % 100000));
      uint32_t want = least(things);
      if (want == UINT32_MAX) assert_null(heap.root);
      else assert_int_equal(container_of(heap.root, struct thing, node)->key, want);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(empties_in_order),
      cmocka_unit_test(any_may_leave),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
