/* Tests of base/spsc.c: order, wrapping, dropping, and two threads. */
#include "weir/base/spsc.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void put(struct spsc *r, uint32_t len, unsigned char fill) {
  void *to = spsc_reserve(r, len);
  assert_non_null(to);
  assert_int_equal((uintptr_t)to % 8, 0);
  memset(to, fill, len);
  spsc_commit(r, len);
}

static void take(struct spsc *r, uint32_t len, unsigned char fill) {
  struct span s = spsc_peek(r);
  assert_int_equal(s.len, len);
  for (uint32_t i = 0; i < len; i++) {
    assert_int_equal((unsigned char)s.ptr[i], fill);
  }
  spsc_release(r);
}

static void test_empty(void **state) {
  (void)state;
  struct spsc r;
  spsc_init(&r, 64);
  assert_int_equal(spsc_peek(&r).len, 0);
  assert_int_equal(spsc_used(&r), 0);
  spsc_fini(&r);
}

static void test_every_length_wraps(void **state) {
  (void)state;
  struct spsc r;
  spsc_init(&r, 128);
  for (uint32_t round = 0; round < 50; round++) {
    for (uint32_t len = 1; len <= 56; len++) {
      put(&r, len, (unsigned char)(len + round));
      take(&r, len, (unsigned char)(len + round));
    }
  }
  assert_int_equal(spsc_used(&r), 0);
  assert_int_equal(atomic_load(&r.dropped), 0);
  spsc_fini(&r);
}

static void test_commit_less_than_reserved(void **state) {
  (void)state;
  struct spsc r;
  spsc_init(&r, 256);
  char *to = spsc_reserve(&r, 100);
  assert_non_null(to);
  memcpy(to, "abc", 3);
  spsc_commit(&r, 3);
  put(&r, 5, 'z');
  struct span s = spsc_peek(&r);
  assert_true(span_eq(s, SPAN_LIT("abc")));
  spsc_release(&r);
  take(&r, 5, 'z');
  spsc_fini(&r);
}

static void test_full_drops_and_counts(void **state) {
  (void)state;
  struct spsc r;
  spsc_init(&r, 64);
  put(&r, 20, 1);
  put(&r, 20, 2);
  assert_null(spsc_reserve(&r, 20));
  assert_null(spsc_reserve(&r, 1000)); /* can never fit */
  assert_int_equal(atomic_load(&r.dropped), 2);
  take(&r, 20, 1);
  take(&r, 20, 2);
  put(&r, 20, 3);
  take(&r, 20, 3);
  spsc_fini(&r);
}

#define RECORDS 200000u

/* The writer numbers its records and fills each with a byte of its number. */
static void *writer(void *arg) {
  struct spsc *r = (struct spsc *)arg;
  uint64_t rng = 7;
  for (uint32_t i = 0; i < RECORDS;) {
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    uint32_t len = 4 + (uint32_t)(rng >> 58);
    char *to = spsc_reserve(r, len);
    if (!to) {
      sched_yield();
      continue;
    }
    memcpy(to, &i, 4);
    memset(to + 4, (int)(i & 0xff), len - 4);
    spsc_commit(r, len);
    i++;
  }
  return NULL;
}

static void test_two_threads(void **state) {
  (void)state;
  struct spsc r;
  spsc_init(&r, 4096);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, writer, &r), 0);
  for (uint32_t i = 0; i < RECORDS;) {
    struct span s = spsc_peek(&r);
    if (!s.len) {
      sched_yield();
      continue;
    }
    uint32_t got;
    memcpy(&got, s.ptr, 4);
    assert_int_equal(got, i);
    for (size_t k = 4; k < s.len; k++) {
      assert_int_equal((unsigned char)s.ptr[k], i & 0xff);
    }
    spsc_release(&r);
    i++;
  }
  pthread_join(thread, NULL);
  assert_int_equal(spsc_peek(&r).len, 0);
  spsc_fini(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_every_length_wraps),
      cmocka_unit_test(test_commit_less_than_reserved),
      cmocka_unit_test(test_full_drops_and_counts),
      cmocka_unit_test(test_two_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
