/* balance.c: what one choice of an endpoint costs, by policy, size of the pool and what the pool
 * has to be careful about: an endpoint that is out, priorities, panic, slow start (idle, and while
 * one endpoint ramps), more workers whose load is summed. One thread; each choice is followed by
 * the counting that a request does (begin, end). The best of several runs is printed: a busy
 * machine only adds. Not a test.
 *
 *   bench-micro-balance            all policies */
#include <stdio.h>
#include <time.h>

#include "upstream/upstream_priv.h"
#include "weir/base/hash.h"

enum { RUNS = 7, SIZES = 5 };
#define RUN_NS 10e6 /* a run takes about so long */

static const uint32_t sizes[SIZES] = {4, 16, 100, 1000, 10000};

enum trouble { QUIET, ONE_OUT, TENTH_OUT, PRIORITIES, PANIC, SLOW_START, RAMPING };
static const char *const troubles[] = {
    "quiet", "one out", "a tenth out", "two priorities", "panic = 50%", "slow_start", "one ramps"};

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct pool *pool_make(struct registry *r, uint32_t count) {
  struct pool *pool = pool_new(r, SPAN_LIT("app"));
  pool->state = pool_state_get(r, SPAN_LIT("app"));
  pool->members = arena_zalloc(&pool->obj.arena, count * sizeof *pool->members);
  pool->member_count = count;
  pool->spread = (struct pool_spread){.bound_percent = 125, .overflow_percent = 70};
  for (uint32_t i = 0; i < count; i++) {
    char text[32];
    struct buf b = buf_of(text, sizeof text);
    struct addr a;
    buf_printf(&b, "10.0.%u.%u:80", i / 250, i % 250 + 1);
    check(addr_parse(buf_span(&b), &a));
    pool->members[i].endpoint = endpoint_get(r, SPAN_LIT("app"), buf_span(&b), &a);
    pool->members[i].weight = 1;
  }
  return pool;
}

/* set_up makes the pool careful. */
static void set_up(struct pool *pool, enum trouble trouble) {
  uint32_t count = pool->member_count;
  switch (trouble) {
    case QUIET: break;
    case ONE_OUT: atomic_store(&pool->members[0].endpoint->ejected_until_ms, 2000); break;
    case TENTH_OUT:
      for (uint32_t i = 0; i < count; i += 10)
        atomic_store(&pool->members[i].endpoint->ejected_until_ms, 2000);
      break;
    case PRIORITIES:
      for (uint32_t i = 0; i < count; i++) pool->members[i].priority = i % 2;
      break;
    case PANIC: pool->spread.panic_percent = 50; break;
    case RAMPING: atomic_store(&pool->members[0].endpoint->since_ms, 900);
      pool->spread.slow_start_ms = 500;
      break;
    case SLOW_START: pool->spread.slow_start_ms = 500; break;
  }
  pool_prepare(pool);
}

/* once times some choices, in ns each. */
static double once(struct upstream *up, struct pool *pool, uint32_t picks) {
  struct pool_want want = {.now_ms = 1000, .sticky = PLACE_NONE, .hashed = true};
  double start = now_ns();
  for (uint32_t i = 0; i < picks; i++) {
    want.hash = hash_mix(i, 1);
    struct endpoint *e = pool_pick(up, pool, &want)->endpoint;
    endpoint_begin(e, 0);
    endpoint_end(e, 0);
  }
  return (now_ns() - start) / picks;
}

static double measure(struct upstream *up, struct pool *pool) {
  double best = once(up, pool, 1000);
  uint32_t picks = 1000 + (uint32_t)(RUN_NS / best);
  for (int i = 0; i < RUNS; i++) {
    double t = once(up, pool, picks);
    if (t < best) best = t;
  }
  return best;
}

/* column measures all policies with pools of one size. */
static void column(enum trouble trouble, uint32_t workers, uint32_t count, double *out) {
  struct registry *r = registry_new(workers);
  struct loop loop = {.rng = 7};
  struct upstream up;
  upstream_init(&up, &loop, 0, 64);
  struct pool *pool = pool_make(r, count);
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    pool->balance = b;
    set_up(pool, trouble);
    out[b] = measure(&up, pool);
  }
  object_unref(r, &pool->obj);
  upstream_fini(&up);
  registry_free(r);
}

static void table(enum trouble trouble, uint32_t workers) {
  double ns[SIZES][BALANCE_COUNT];
  printf("%s, %u worker%s\n", troubles[trouble], workers, workers == 1 ? "" : "s");
  for (size_t i = 0; i < SIZES; i++) column(trouble, workers, sizes[i], ns[i]);
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    printf("  %-22.*s", SPAN_ARG(balance_text(b)));
    for (size_t i = 0; i < SIZES; i++) printf(" %8.1f", ns[i][b]);
    printf("\n");
  }
  (void)fflush(stdout);
}

int main(void) {
  printf("ns per choice; endpoints:       4       16      100     1000    10000\n");
  for (size_t t = 0; t < array_count(troubles); t++) table((enum trouble)t, 1);
  table(QUIET, 8);
  return 0;
}
