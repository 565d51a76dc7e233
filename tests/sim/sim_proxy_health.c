/* sim_proxy_health.c: endpoints turn up, down, unknown and ejected between any two events, by a
 * made-up prober and by the real sweeps. An endpoint that is down gets no request, a new one none
 * while another serves; as long as one serves every request is answered, else the cause is right;
 * no more are ejected than may be. */
#include "proxy_world.h"
#include "weir/base/mem.h"
#include "weir/upstream/outlier.h"
#include "weir/upstream/upstream.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

enum { MEMBERS = 3 };

/* watch is what the made-up prober knows of each endpoint. */
struct watch {
  struct world *w;
  bool spare; /* the first endpoint is always up */
  uint64_t requests[MEMBERS]; /* when it was last allowed to get some */
  bool all_out; /* since the last clear: no endpoint got traffic at some moment */
};

static struct endpoint *member(const struct world *w, uint32_t i) {
  return w->current->pools[0]->members[i].endpoint;
}

static enum endpoint_state state_of(const struct world *w, uint32_t i) {
  return (enum endpoint_state)atomic_load(&member(w, i)->state);
}

static uint64_t requests_of(const struct world *w, uint32_t i) {
  uint64_t sum = 0;
  for (uint32_t k = 0; k < w->workers; k++) sum += atomic_load(&member(w, i)->rows[k].requests);
  return sum;
}

/* check_watch: who must not get requests has got none since. */
static void check_watch(struct watch *t) {
  uint64_t now = sim_now_ms(t->w->sim);
  uint32_t serving = 0, fallback = 0;
  for (uint32_t i = 0; i < MEMBERS; i++) {
    serving += endpoint_in_service(member(t->w, i), now);
    fallback += state_of(t->w, i) == ENDPOINT_UNKNOWN;
  }
  for (uint32_t i = 0; i < MEMBERS; i++) {
    enum endpoint_state s = state_of(t->w, i);
    bool closed = s == ENDPOINT_DOWN || (s == ENDPOINT_UNKNOWN && serving);
    if (closed && requests_of(t->w, i) != t->requests[i])
      fail_msg("seed %llu: endpoint %u got a request in state %d",
               (unsigned long long)t->w->seed, i, (int)s);
    t->requests[i] = requests_of(t->w, i);
  }
  if (!serving && !fallback) t->all_out = true;
}

static void turn_one(struct watch *t) {
  static const enum endpoint_state states[] = {ENDPOINT_UP, ENDPOINT_DOWN, ENDPOINT_UNKNOWN};
  uint32_t first = t->spare ? 1 : 0;
  uint32_t i = first + (uint32_t)world_draw(t->w, MEMBERS - first);
  atomic_store(&member(t->w, i)->state, (uint8_t)states[world_draw(t->w, 3)]);
}

static void clients(struct world *w, uint32_t count, uint32_t requests) {
  for (uint32_t i = 0; i < count; i++) {
    struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
    c->pipeline = false;
    for (uint32_t n = 0; n < requests; n++) {
      struct plan *p = plan_new(w);
      p->up_len = (uint32_t)world_draw(w, 2000);
      client_add(c, p);
    }
    client_start(c);
  }
}

static void states_turn(void **state) {
  (void)state;
  uint64_t oks = 0, refused = 0;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].origins = (1u << MEMBERS) - 1;
    conf.pools[0].balance = (uint8_t)(seed % BALANCE_COUNT);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &soft, &conf);
    struct watch t = {.w = w, .spare = seed % 2};
    clients(w, 4, 10);
    while (!world_clients_done(w)) {
      if (world_chance(w, 5)) turn_one(&t);
      world_step(w);
      check_watch(&t);
      assert_true(w->steps < 400000);
    }
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      oks += p->outcome == OUT_OK;
      if (p->outcome == OUT_OK) continue;
      refused++;
      if (!t.all_out || p->outcome != OUT_ANSWER || p->got_status != 503 ||
          p->end != END_NONE_HEALTHY)
        fail_msg("seed %llu: plan %u: outcome %d status %u", (unsigned long long)w->seed, p->id,
                 (int)p->outcome, p->got_status);
    }
    world_end(w);
  }
  assert_true(oks > 5000 && refused > 100);
}

/* ---- the real sweeps, in the middle of everything ---- */

static void on_found(void *ctx, const struct outlier_found *found) {
  uint32_t *count = ctx;
  assert_true(found->window.bad * 2 >= found->window.all);
  ++*count;
}

static void sweep(struct world *w, uint32_t *found) {
  struct pool *pool = w->current->pools[0];
  uint64_t now = sim_now_ms(w->sim);
  for (uint32_t i = 0; i < pool->member_count; i++) {
    struct endpoint *e = pool->members[i].endpoint;
    if (!e->health) e->health = mem_alloc(sizeof *e->health);
    outlier_begin(&pool->outlier, e, now);
  }
  outlier_sweep(pool, now, on_found, found);
}

/* One of three answers 500 to all, from some moment on: it is taken out, by its share alone, and
 * stays so; never two are out; nobody gets anything but an answer. */
static void sweeps_eject(void **state) {
  (void)state;
  uint32_t found = 0;
  for (uint64_t seed = 0; world_seed(&seed, 150);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].origins = (1u << MEMBERS) - 1;
    conf.pools[0].balance = BALANCE_ROUND_ROBIN;
    conf.pools[0].outlier = (struct pool_outlier){.failure_percent = 50,
                                                  .window_ms = 8000,
                                                  .min_requests = 8,
                                                  .eject_ms = 600000,
                                                  .max_ejected_percent = 40};
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % 2), &soft, &conf);
    uint32_t now_found = 0;
    sweep(w, &now_found);
    clients(w, 4, 20);
    for (uint32_t i = 0; i < w->plan_count; i++)
      if (world_chance(w, 60)) w->plans[i].status = 500;
    while (!world_clients_done(w)) {
      if (world_chance(w, 10)) sweep(w, &now_found);
      world_step(w);
      uint32_t out = 0;
      for (uint32_t i = 0; i < MEMBERS; i++)
        out += !endpoint_in_service(member(w, i), sim_now_ms(w->sim));
      assert_int_equal(out, now_found);
      assert_true(out <= 1 && w->steps < 400000);
    }
    for (uint32_t i = 0; i < w->plan_count; i++) assert_int_equal(w->plans[i].outcome, OUT_OK);
    found += now_found;
    world_end(w);
  }
  assert_true(found > 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(states_turn),
      cmocka_unit_test(sweeps_eject),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
