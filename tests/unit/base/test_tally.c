/* test_tally.c: one slot per key whatever happens, dead slots alone change hands, full sets share
 * their spare word, counts are exact with many threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/resource.h>

#include "weir/base/hash.h"
#include "weir/base/mem.h"
#include "weir/base/tally.h"

/* Words here count upwards; a word below *how is dead. */
static bool is_dead(uint64_t word, const void *how) { return word < *(const uint64_t *)how; }
static bool add_one(uint64_t word, const void *how, uint64_t *out) {
  const uint64_t *floor = how;
  *out = (word < *floor ? *floor : word) + 1;
  return true;
}
static const struct tally_rule rule = {.dead = is_dead, .next = add_one};

static struct tally_result apply(struct tally *t, uint64_t key, uint64_t floor) {
  struct tally_result r;
  tally_apply(t, &rule, &floor, key, &r);
  assert_true(r.granted);
  return r;
}

static void keeps_one_slot_per_key(void **state) {
  (void)state;
  struct tally t;
  assert_true(tally_init(&t, 1));
  assert_int_equal(t.set_count, 1);
  assert_int_equal(tally_bytes(&t), 128);
  _Atomic uint64_t *at[TALLY_WAYS];
  for (uint64_t key = 0; key < TALLY_WAYS; key++) { /* key 0 is one like any other */
    struct tally_result r = apply(&t, 3 * key, 1);
    assert_false(r.shared);
    at[key] = r.at;
    for (uint64_t i = 0; i < key; i++) assert_ptr_not_equal(at[i], r.at);
  }
  for (uint64_t key = 0; key < TALLY_WAYS; key++) {
    struct tally_result r = apply(&t, 3 * key, 1);
    assert_ptr_equal(r.at, at[key]);
    assert_int_equal(r.word, 3);
  }
  tally_fini(&t);
}

static void full_sets_share_their_spare(void **state) {
  (void)state;
  struct tally t;
  uint64_t word;
  assert_true(tally_init(&t, TALLY_KEYS_PER_SET));
  for (uint64_t key = 1; key <= TALLY_WAYS; key++) apply(&t, key, 1);
  struct tally_result a = apply(&t, 100, 1), b = apply(&t, 200, 1);
  assert_true(a.shared && b.shared);
  assert_ptr_equal(a.at, b.at);
  assert_int_equal(b.word, 3);
  assert_false(tally_find(&t, 100, &word));
  assert_true(tally_find(&t, 7, &word));
  assert_int_equal(word, 2);
  /* Slots below 10 are dead now: the newcomer gets the first, all others keep theirs. */
  struct tally_result c = apply(&t, 100, 10);
  assert_false(c.shared);
  assert_int_equal(c.word, 11);
  assert_false(tally_find(&t, 1, &word));
  for (uint64_t key = 2; key <= TALLY_WAYS; key++) assert_true(tally_find(&t, key, &word));
  tally_fini(&t);
}

static void sizes(void **state) {
  (void)state;
  static const uint32_t keys[] = {1, 4, 5, 1000, 100000};
  for (size_t i = 0; i < array_count(keys); i++) {
    struct tally t;
    assert_true(tally_init(&t, keys[i]));
    assert_int_equal(t.set_count, (keys[i] + 3) / 4);
    for (uint64_t k = 0; k < 1000; k++) apply(&t, UINT64_MAX - k * 0x123456789abcdefu, 1);
    tally_fini(&t);
  }
}

/* At the number of keys that a table was made for, few share. */
static void fills_evenly(void **state) {
  (void)state;
  enum { KEYS = 50000 };
  struct tally t;
  uint32_t shared = 0;
  assert_true(tally_init(&t, KEYS));
  for (uint64_t i = 0; i < KEYS; i++)
    shared += apply(&t, hash_keyed(span_of((const char *)&i, sizeof i)), 1).shared;
  assert_true(shared < KEYS * 3 / 100);
  tally_fini(&t);
}

/* ---- counts ---- */

static void counts_to_the_limit(void **state) {
  (void)state;
  struct tally t;
  _Atomic uint64_t *at[3], *extra;
  bool shared;
  assert_true(tally_init(&t, 4));
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 3; i++) assert_true(tally_join(&t, 5, 3, &at[i], &shared));
    assert_false(tally_join(&t, 5, 3, &extra, &shared));
    assert_true(tally_join(&t, 6, 3, &extra, &shared));
    tally_leave(extra);
    tally_leave(at[0]);
    assert_true(tally_join(&t, 5, 3, &at[0], &shared));
    for (int i = 0; i < 3; i++) tally_leave(at[i]);
  }
  tally_fini(&t);
}

/* Who was counted on the spare word gets a slot later, where others' counts are not: the bound
 * that tally_join states. */
static void at_most_twice_for_who_had_no_place(void **state) {
  (void)state;
  struct tally t;
  _Atomic uint64_t *others[TALLY_WAYS], *at[6], *more;
  bool shared;
  assert_true(tally_init(&t, 1));
  for (uint64_t key = 0; key < TALLY_WAYS; key++)
    assert_true(tally_join(&t, 100 + key, 3, &others[key], &shared));
  for (int i = 0; i < 3; i++) assert_true(tally_join(&t, 5, 3, &at[i], &shared) && shared);
  assert_false(tally_join(&t, 5, 3, &more, &shared));
  tally_leave(others[0]);
  for (int i = 3; i < 6; i++) assert_true(tally_join(&t, 5, 3, &at[i], &shared) && !shared);
  assert_false(tally_join(&t, 5, 3, &more, &shared));
  for (int i = 0; i < 6; i++) tally_leave(at[i]);
  for (int i = 0; i < 3; i++) assert_true(tally_join(&t, 5, 3, &at[i], &shared) && !shared);
  assert_false(tally_join(&t, 5, 3, &more, &shared));
  tally_fini(&t);
}

enum { THREADS = 4, ROUNDS = 30000, CLIENTS = 24, MOST = 2 };

/* crowd is what the threads share: a table that is much too small, so that slots change hands all
 * the time, and the true counts beside it. */
struct crowd {
  struct tally t;
  _Atomic int32_t now[CLIENTS];
  _Atomic uint32_t granted, over;
};

struct member {
  struct crowd *crowd;
  uint64_t rng;
};

static void one_visit(struct member *m) {
  struct crowd *c = m->crowd;
  _Atomic uint64_t *at;
  bool shared;
  uint64_t client = rng_next(&m->rng) % CLIENTS;
  if (!tally_join(&c->t, client, MOST, &at, &shared)) return;
  if (!shared && atomic_fetch_add(&c->now[client], 1) >= MOST) atomic_fetch_add(&c->over, 1);
  atomic_fetch_add(&c->granted, 1);
  if (!shared) atomic_fetch_sub(&c->now[client], 1);
  tally_leave(at);
}

static void *visit(void *arg) {
  struct member *m = arg;
  for (int i = 0; i < ROUNDS; i++) one_visit(m);
  return NULL;
}

static void counts_are_exact_with_threads(void **state) {
  (void)state;
  static struct crowd c;
  pthread_t threads[THREADS];
  struct member members[THREADS];
  assert_true(tally_init(&c.t, 2 * TALLY_KEYS_PER_SET));
  for (int i = 0; i < THREADS; i++) {
    members[i] = (struct member){.crowd = &c, .rng = 77 + (uint64_t)i};
    assert_int_equal(pthread_create(&threads[i], NULL, visit, &members[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(c.over, 0);
  assert_true(c.granted > ROUNDS);
  for (uint32_t i = 0; i < c.t.set_count; i++) { /* all is given back */
    for (uint32_t k = 0; k < TALLY_WAYS; k++)
      assert_int_equal((uint32_t)c.t.sets[i].slots[k].word, 0);
    assert_int_equal((uint32_t)c.t.sets[i].spare, 0);
    assert_int_equal(c.t.sets[i].placing, 0);
  }
  tally_fini(&c.t);
}

static void without_memory_nothing_changes(void **state) {
  (void)state;
  struct tally t = {.set_count = 7};
  struct rlimit limit, none;
  assert_int_equal(getrlimit(RLIMIT_AS, &limit), 0);
  none = limit;
  none.rlim_cur = 1u << 20; /* less than there is: every mapping fails */
  assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
  bool made = tally_init(&t, 1u << 20);
  assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
  assert_false(made);
  assert_true(!t.sets && t.set_count == 7);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(at_most_twice_for_who_had_no_place),
      cmocka_unit_test(without_memory_nothing_changes),
      cmocka_unit_test(keeps_one_slot_per_key),
      cmocka_unit_test(full_sets_share_their_spare),
      cmocka_unit_test(sizes),
      cmocka_unit_test(fills_evenly),
      cmocka_unit_test(counts_to_the_limit),
      cmocka_unit_test(counts_are_exact_with_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
