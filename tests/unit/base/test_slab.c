/* test_slab.c: handles, limits, reuse and trimming; a stale handle never finds anything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "weir/base/hash.h"
#include "weir/base/slab.h"

struct thing {
  struct slab_head head;
  uint64_t payload[20];
};

static void finds_only_the_living(void **state) {
  (void)state;
  struct slab slab;
  slab_init(&slab, sizeof(struct thing), 4, 6);
  assert_null(slab_find(&slab, 0, 1));
  struct thing *things[6];
  for (uint32_t i = 0; i < 6; i++) {
    things[i] = slab_new(&slab);
    assert_non_null(things[i]);
    assert_int_equal((uintptr_t)things[i] % 64, 0);
    assert_int_equal(things[i]->head.slot, i);
    for (size_t w = 0; w < 20; w++) assert_true(things[i]->payload[w] == 0);
    memset(things[i]->payload, 0xee, sizeof(things[i]->payload));
  }
  assert_null(slab_new(&slab)); /* at the limit */
  struct slab_head old = things[2]->head;
  assert_ptr_equal(slab_find(&slab, old.slot, old.generation), things[2]);
  slab_free(&slab, things[2]);
  assert_null(slab_find(&slab, old.slot, old.generation));
  assert_null(slab_find(&slab, old.slot, old.generation + 1));
  struct thing *again = slab_new(&slab);
  assert_ptr_equal(again, things[2]);
  assert_true(again->payload[0] == 0);
  assert_null(slab_find(&slab, old.slot, old.generation));
  assert_ptr_equal(slab_find(&slab, old.slot, again->head.generation), again);
  assert_null(slab_find(&slab, UINT32_MAX, 1));
  for (uint32_t i = 0; i < 6; i++) slab_free(&slab, things[i]);
  slab_fini(&slab);
}

static void trims_without_reviving(void **state) {
  (void)state;
  struct slab slab;
  slab_init(&slab, sizeof(struct thing), 4, 12);
  struct thing *things[12];
  for (uint32_t i = 0; i < 12; i++) things[i] = slab_new(&slab);
  struct slab_head last = things[11]->head, middle = things[5]->head;
  for (uint32_t i = 0; i < 12; i++)
    if (i != 1) slab_free(&slab, things[i]);
  slab_trim(&slab);
  assert_int_equal(slab.chunk_count, 1);
  assert_null(slab_find(&slab, last.slot, last.generation));
  for (uint32_t i = 0; i < 12; i++)
    if (i != 1) things[i] = slab_new(&slab);
  assert_int_equal(slab.live, 12);
  assert_null(slab_new(&slab));
  assert_null(slab_find(&slab, last.slot, last.generation));
  assert_null(slab_find(&slab, middle.slot, middle.generation));
  for (uint32_t i = 0; i < 12; i++) slab_free(&slab, things[i]);
  slab_trim(&slab);
  assert_int_equal(slab.chunk_count, 0);
  slab_fini(&slab);
}

/* A model (which slot lives, with which payload) is compared through random work. */
static void agrees_with_a_model(void **state) {
  (void)state;
  enum { LIMIT = 100 };
  struct slab slab;
  struct thing *live[LIMIT] = {0};
  struct slab_head dead[64] = {0};
  uint64_t rng = 1;
  slab_init(&slab, sizeof(struct thing), 8, LIMIT);
  for (int turn = 0; turn < 20000; turn++) {
    size_t at = rng_next(&rng) % LIMIT;
    if (live[at] == NULL) {
      live[at] = slab_new(&slab);
      assert_non_null(live[at]);
      live[at]->payload[19] = at;
    } else {
      assert_int_equal(live[at]->payload[19], at);
      struct slab_head head = live[at]->head;
      assert_ptr_equal(slab_find(&slab, head.slot, head.generation), live[at]);
      dead[rng_next(&rng) % 64] = head;
      slab_free(&slab, live[at]);
      live[at] = NULL;
    }
    for (size_t i = 0; i < 64; i++)
      if (dead[i].generation) assert_null(slab_find(&slab, dead[i].slot, dead[i].generation));
    if (turn % 500 == 499) slab_trim(&slab);
    if (turn % 3000 == 2999) {
      for (size_t i = 0; i < LIMIT; i++) {
        if (live[i]) slab_free(&slab, live[i]);
        live[i] = NULL;
      }
      slab_trim(&slab);
    }
  }
  for (size_t i = 0; i < LIMIT; i++)
    if (live[i]) slab_free(&slab, live[i]);
  slab_fini(&slab);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(finds_only_the_living),
      cmocka_unit_test(trims_without_reviving),
      cmocka_unit_test(agrees_with_a_model),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
