/* test_permits.c: caps and claims with real threads: never more than a cap allows, whoever takes
 * and gives; and a permit that is given back reaches who waits, on whichever worker (a lost wakeup
 * hangs this test). The rules that workers follow here are those of proxy/queue.c. */
#include "weir/upstream/permits.h"

#include <pthread.h>
#include <sched.h>

#include "upstream_kit.h"

enum { CROWD = 4, ENDPOINTS = 2, ROUNDS = 20000, QUEUE = 64 };

struct bed {
  struct registry *registry;
  struct pool *pool;
  struct upstream up[CROWD];
  _Atomic bool signals[CROWD];
  _Atomic uint32_t requests, conns, requests_of[ENDPOINTS], conns_of[ENDPOINTS];
  _Atomic uint32_t waits; /* how often somebody had to */
};

struct hand {
  struct bed *bed;
  uint32_t me;
  uint64_t rng;
};

static const struct kit_member two[] = {{1, false, 0}, {1, false, 0}};

static struct bed *bed_of(struct upstream *u) {
  return container_of(u - u->worker, struct bed, up[0]);
}

/* next_is told: something was given back, or who was the best is it no more. */
static void next_is(struct upstream *u, struct pool_state *state) {
  uint32_t best = u->worker;
  if (claim_best(state, &best)) atomic_store(&bed_of(u)->signals[best], true);
}

static void bed_init(struct bed *b, const struct pool_connections *caps) {
  memset(b, 0, sizeof *b);
  b->registry = registry_new(CROWD);
  b->pool = kit_pool(b->registry, "app", two, ENDPOINTS);
  b->pool->connections = *caps;
  for (uint32_t i = 0; i < CROWD; i++)
    b->up[i] = (struct upstream){.worker = i, .permit_freed = next_is};
}

static void bed_fini(struct bed *b) {
  const struct pool_state *state = b->pool->state;
  assert_int_equal(atomic_load(&state->requests), 0);
  assert_int_equal(atomic_load(&state->conns), 0);
  assert_int_equal(atomic_load(&state->waiting), 0);
  for (uint32_t i = 0; i < ENDPOINTS; i++) {
    assert_int_equal(atomic_load(&b->pool->members[i].endpoint->requests), 0);
    assert_int_equal(atomic_load(&b->pool->members[i].endpoint->permits), 0);
  }
  object_unref(b->registry, &b->pool->obj);
  registry_free(b->registry);
}

static void in(_Atomic uint32_t *count, uint32_t most) {
  check(atomic_fetch_add(count, 1) < most);
}

/* work holds what was taken for a moment. */
static void work(struct hand *h, uint32_t place, uint8_t held) {
  struct bed *b = h->bed;
  const struct pool_connections *c = &b->pool->connections;
  struct endpoint *e = b->pool->members[place].endpoint;
  in(&b->requests, c->max_requests);
  in(&b->requests_of[place], c->max_requests_per_endpoint);
  in(&b->conns, c->max);
  in(&b->conns_of[place], c->max_per_endpoint);
  if (rng_next(&h->rng) % 4 == 0) sched_yield();
  atomic_fetch_sub(&b->requests, 1);
  atomic_fetch_sub(&b->requests_of[place], 1);
  atomic_fetch_sub(&b->conns, 1);
  atomic_fetch_sub(&b->conns_of[place], 1);
  conn_permits_give(&b->up[h->me], e);
  request_permits_give(&b->up[h->me], b->pool->state, e, held);
}

/* take gets all permits at one of the endpoints, or none. */
static bool take(struct hand *h, uint32_t *place, uint8_t *held) {
  struct bed *b = h->bed;
  struct upstream *u = &b->up[h->me];
  uint32_t first = (uint32_t)(rng_next(&h->rng) % ENDPOINTS);
  for (uint32_t i = 0; i < ENDPOINTS; i++) {
    *place = (first + i) % ENDPOINTS;
    struct endpoint *e = b->pool->members[*place].endpoint;
    if (!request_permits_take(u, b->pool, e, held)) continue;
    if (conn_permits_take(u, b->pool, e)) return true;
    request_permits_give(u, b->pool->state, e, *held);
  }
  return false;
}

/* wait_for stands in the queue until it is served. */
static void wait_for(struct hand *h, uint32_t *place, uint8_t *held) {
  struct bed *b = h->bed;
  struct pool_state *state = b->pool->state;
  atomic_fetch_add(&b->waits, 1);
  atomic_fetch_add(&state->waiting, 1);
  claim c = claim_draw(state, 1 + h->me % 3, (uint8_t)(rng_next(&h->rng) % 8), QUEUE);
  claim_publish(state, h->me, c);
  for (;;) { /* ends: see above */
    uint32_t best = h->me;
    check(claim_best(state, &best));
    if (best == h->me && take(h, place, held)) break;
    if (best != h->me) atomic_store(&b->signals[best], true);
    while (!atomic_exchange(&b->signals[h->me], false)) sched_yield();
  }
  claim_publish(state, h->me, 0);
  claim_done(state, c);
  atomic_fetch_sub(&state->waiting, 1);
  next_is(&b->up[h->me], state);
}

static void *run(void *arg) {
  struct hand *h = arg;
  for (uint32_t i = 0; i < ROUNDS; i++) {
    uint32_t place;
    uint8_t held;
    bool stands = atomic_load(&h->bed->pool->state->waiting) > 0;
    if (stands || !take(h, &place, &held)) wait_for(h, &place, &held);
    work(h, place, held);
  }
  return NULL;
}

static void many_hands(void **state) {
  (void)state;
  static const struct pool_connections caps[] = {
      {.max_requests = 1, .max_requests_per_endpoint = 1, .max = 9, .max_per_endpoint = 9},
      {.max_requests = 9, .max_requests_per_endpoint = 1, .max = 9, .max_per_endpoint = 9},
      {.max_requests = 9, .max_requests_per_endpoint = 9, .max = 2, .max_per_endpoint = 2},
      {.max_requests = 3, .max_requests_per_endpoint = 2, .max = 3, .max_per_endpoint = 1}};
  for (size_t n = 0; n < array_count(caps); n++) {
    static struct bed bed;
    struct hand hands[CROWD];
    pthread_t threads[CROWD];
    bed_init(&bed, &caps[n]);
    for (uint32_t i = 0; i < CROWD; i++) {
      hands[i] = (struct hand){&bed, i, 1 + i * 977};
      assert_int_equal(pthread_create(&threads[i], NULL, run, &hands[i]), 0);
    }
    for (uint32_t i = 0; i < CROWD; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(atomic_load(&bed.waits) > 0);
    bed_fini(&bed);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(many_hands)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
