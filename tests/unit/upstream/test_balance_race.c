/* test_balance_race.c: health, ejections and slow starts change in another thread while a choice is
 * being made. Whatever it saw, the choice is a member; and as one endpoint stays in service all the
 * time, none fails. Bounded by counts on both sides. */
#include "upstream_kit.h"

#include <pthread.h>

enum { PICKS = 150000, NOW = 1000 };

struct changer {
  struct kit *k;
  _Atomic bool over;
};

/* change does what the control thread and other workers do to any but the first endpoint. */
static void change(struct endpoint *e, uint64_t draw) {
  static const uint8_t states[] = {ENDPOINT_UP, ENDPOINT_DOWN, ENDPOINT_UP, ENDPOINT_UNKNOWN};
  uint64_t was = atomic_load(&e->ejected_until_ms);
  switch (draw % 4) {
    case 0: atomic_store(&e->state, states[draw / 4 % 4]); break;
    case 1: atomic_store(&e->since_ms, draw / 4 % NOW); break;
    default: atomic_store(&e->ejected_until_ms, was ? 0 : 5000);
  }
  endpoint_changed(e);
}

static void *change_all(void *arg) {
  struct changer *c = arg;
  uint64_t rng = 3;
  uint32_t others = c->k->pool->member_count - 1;
  while (!atomic_load(&c->over)) {
    uint64_t draw = rng_next(&rng);
    change(c->k->pool->members[1 + draw % others].endpoint, draw >> 32);
  }
  return NULL;
}

static void race(struct kit *k, uint32_t picks) {
  struct changer c = {.k = k};
  struct pool_tried tried = {.place = {1}};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, change_all, &c), 0);
  for (uint32_t i = 0; i < picks; i++) {
    struct pool_want want = {.now_ms = NOW, .sticky = PLACE_NONE, .tried = &tried};
    want.hash = hash_mix(i, 1);
    want.hashed = i % 4 != 0;
    tried.count = i % 8 == 0;
    const struct pool_member *m = pool_pick(&k->up[0], k->pool, &want);
    assert_true(kit_place(k, m) < k->pool->member_count);
  }
  atomic_store(&c.over, true);
  assert_int_equal(pthread_join(thread, NULL), 0);
}

static void a_choice_survives_changes(void **state) {
  (void)state;
  static const struct {
    uint32_t count;
    uint32_t slow_start_ms;
    uint8_t panic_percent;
  } rows[] = {{2, 0, 0}, {4, 0, 0}, {3, 500, 0}, {3, 0, 50}, {20, 500, 0}};
  for (uint8_t b = 0; b < BALANCE_COUNT; b++)
    for (size_t i = 0; i < array_count(rows); i++) {
      struct kit_member members[20];
      struct kit k;
      for (uint32_t m = 0; m < 20; m++) members[m] = (struct kit_member){1 + m % 3, false, 0};
      kit_init(&k, members, rows[i].count, 1);
      k.pool->spread.slow_start_ms = rows[i].slow_start_ms;
      k.pool->spread.panic_percent = rows[i].panic_percent;
      kit_balance(&k, b);
      race(&k, PICKS / rows[i].count);
      kit_fini(&k);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_choice_survives_changes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
