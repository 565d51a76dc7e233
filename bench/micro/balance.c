/* balance.c: what one choice of an endpoint costs, by policy, size of the pool and number of
 * workers whose load is summed. One thread; each choice is followed by the counting that a request
 * does (begin, end). The best of several runs is printed: a busy machine only adds. Not a test.
 *
 *   bench-micro-balance            all policies */
#include <stdio.h>
#include <time.h>

#include "upstream/upstream_priv.h"
#include "weir/base/hash.h"

enum { PICKS = 400000, RUNS = 9 };

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

/* once times PICKS choices. */
static double once(struct upstream *up, struct pool *pool) {
  struct pool_want want = {.now_ms = 1000, .sticky = PLACE_NONE, .hashed = true};
  double start = now_ns();
  for (uint32_t i = 0; i < PICKS; i++) {
    want.hash = hash_mix(i, 1);
    struct endpoint *e = pool_pick(up, pool, &want)->endpoint;
    endpoint_begin(e, 0);
    endpoint_end(e, 0);
  }
  return (now_ns() - start) / PICKS;
}

static double measure(uint8_t balance, uint32_t count, uint32_t workers, bool one_out) {
  struct registry *r = registry_new(workers);
  struct loop loop = {.rng = 7};
  struct upstream up;
  upstream_init(&up, &loop, 0, 64);
  struct pool *pool = pool_make(r, count);
  pool->balance = balance;
  pool_prepare(pool);
  if (one_out) atomic_store(&pool->members[0].endpoint->ejected_until_ms, 2000);
  double best = 1e18;
  for (int i = 0; i < RUNS; i++) {
    double t = once(&up, pool);
    if (t < best) best = t;
  }
  object_unref(r, &pool->obj);
  upstream_fini(&up);
  registry_free(r);
  return best;
}

int main(void) {
  static const uint32_t sizes[] = {4, 16, 100};
  printf("ns per choice         endpoints 4     16    100 | 1 of 16 out | 8 workers, 16\n");
  for (uint8_t b = 0; b < BALANCE_COUNT; b++) {
    printf("%-24.*s", SPAN_ARG(balance_text(b)));
    for (size_t i = 0; i < array_count(sizes); i++)
      printf(" %6.1f", measure(b, sizes[i], 1, false));
    printf(" |      %6.1f |        %6.1f\n", measure(b, 16, 1, true), measure(b, 16, 8, false));
  }
  return 0;
}
