/* test_tls_early.c: a ticket is good for early data once in a window, also between threads; where
 * there is no room to remember one it is good for none (tls_early.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "weir/base/hash.h"
#include "weir/io/tls_early.h"

static struct span number(char room[16], unsigned n) {
  return span_of(room, (size_t)snprintf(room, 16, "%u", n));
}

static void once_in_a_window(void **state) {
  (void)state;
  const uint64_t now = 1000;
  struct span ticket = SPAN_LIT("a ticket");
  assert_int_equal(tls_early_once(ticket, now), TLS_EARLY_ACCEPTED);
  assert_int_equal(tls_early_once(ticket, now), TLS_EARLY_REPLAYED);
  assert_int_equal(tls_early_once(SPAN_LIT("another"), now), TLS_EARLY_ACCEPTED);
  assert_int_equal(tls_early_once(ticket, now + TLS_EARLY_WINDOW_MS - 1), TLS_EARLY_REPLAYED);
  assert_int_equal(tls_early_once(ticket, now + TLS_EARLY_WINDOW_MS), TLS_EARLY_ACCEPTED);
}

#define THREADS 4u
#define TICKETS 2000u

static _Atomic unsigned accepted[TICKETS];

static void *use_all(void *unused) {
  char room[16];
  for (unsigned i = 0; i < TICKETS; i++)
    if (tls_early_once(number(room, i), 10000000) == TLS_EARLY_ACCEPTED) accepted[i]++;
  return unused;
}

static void once_over_threads(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  for (unsigned i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, use_all, NULL), 0);
  for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (unsigned i = 0; i < TICKETS; i++) assert_int_equal(accepted[i], 1);
}

/* Ten times what the table holds: most are refused, and none that was accepted is so again. */
static void full_is_refused(void **state) {
  (void)state;
  const uint64_t now = 20000000;
  const unsigned all = 10u << 18;
  unsigned good = 0, refused = 0, again = 0;
  char room[16];
  for (unsigned i = 0; i < all; i++) {
    enum tls_early first = tls_early_once(number(room, i), now);
    good += first == TLS_EARLY_ACCEPTED;
    refused += first == TLS_EARLY_REFUSED;
  }
  assert_int_equal(good + refused, all);
  assert_true(good >= 1u << 18 && refused > good);
  for (unsigned i = 0; i < all; i++)
    again += tls_early_once(number(room, i), now + 1000) == TLS_EARLY_ACCEPTED;
  assert_int_equal(again, 0);
}

int main(void) {
  hash_seed(1, 2);
  tls_early_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(once_in_a_window),
      cmocka_unit_test(once_over_threads),
      cmocka_unit_test(full_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
