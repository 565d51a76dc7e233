/* rate.c: what one request costs a rate (base/gcra.c), with one key, 1,000 and 1 million distinct
 * keys in a table of fixed size, and what the table takes. Keys come by chance; each pass is of
 * new requests to the same keys. One thread, then as many as there are processors on one table.
 * The best of several runs is printed: a busy machine only adds. Not a test.
 *
 *   bench-micro-rate               (bench/micro.sh rate builds and runs it) */
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "weir/base/gcra.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

enum { TAKES = 2000000, RUNS = 5, THREADS_MOST = 16 };
#define SECOND UINT64_C(1000000000)

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* load is one measurement: the keys are in the table all at once, for the limit is one an hour. */
struct load {
  struct tally table;
  struct gcra rate;
  uint32_t keys, threads;
  _Atomic uint64_t granted, shared;
};

static void take_all(struct load *l, uint64_t seed) {
  uint64_t rng = seed, granted = 0, shared = 0;
  for (uint32_t i = 0; i < TAKES; i++) {
    uint64_t n = ((rng_next(&rng) >> 32) * l->keys) >> 32;
    struct gcra_answer a;
    gcra_take(&l->table, &l->rate, hash_keyed(span_of((const char *)&n, sizeof n)), SECOND, &a);
    granted += a.granted;
    shared += a.shared;
  }
  atomic_fetch_add(&l->granted, granted);
  atomic_fetch_add(&l->shared, shared);
}

struct worker {
  struct load *load;
  uint64_t seed;
};

static void *work(void *arg) {
  const struct worker *w = arg;
  take_all(w->load, w->seed);
  return NULL;
}

static double once(struct load *l, uint64_t seed) {
  pthread_t threads[THREADS_MOST];
  struct worker workers[THREADS_MOST];
  double start = now_ns();
  for (uint32_t i = 0; i < l->threads; i++) {
    workers[i] = (struct worker){.load = l, .seed = seed * 97 + i};
    check(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
  }
  for (uint32_t i = 0; i < l->threads; i++) check(pthread_join(threads[i], NULL) == 0);
  return (now_ns() - start) / TAKES;
}

static void measure(uint32_t keys, uint32_t entries, uint32_t threads) {
  struct load l = {.keys = keys, .threads = threads, .rate = gcra_of(1, 3600 * SECOND, 1000000)};
  double best = 1e18;
  check(tally_init(&l.table, entries));
  for (uint64_t i = 1; i <= RUNS; i++) {
    double ns = once(&l, i);
    if (ns < best) best = ns;
  }
  double all = (double)TAKES * RUNS * threads;
  printf("%9u %9u %8u %9.1f %9.1f %8.3f\n", keys, entries, threads, best,
         (double)tally_bytes(&l.table) / 1048576, 100 * (double)l.shared / all);
  tally_fini(&l.table);
}

int main(void) {
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  uint32_t many = processors < 2 ? 2 : (uint32_t)processors;
  if (many > THREADS_MOST) many = THREADS_MOST;
  printf("     keys   entries  threads  ns/take       MiB  %% shared\n");
  measure(1, 100000, 1);
  measure(1000, 100000, 1);
  measure(100000, 100000, 1);
  measure(1000000, 1000000, 1);
  measure(1000000, 2000000, 1);
  measure(1, 100000, many);
  measure(1000000, 1000000, many);
  return 0;
}
