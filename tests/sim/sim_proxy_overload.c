/* sim_proxy_overload.c: circuit breakers, concurrency limits and shedding in the simulated world:
 * endpoints that fail, stall and break off, clients that leave, several workers, reloads between.
 * What is refused was never sent; passes and places are all given back; while half-open no more
 * requests than the probes reach an endpoint; priority 0 is never shed. */
#include "proxy_world.h"
#include "weir/upstream/breaker.h"
#include "weir/upstream/gradient.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

static struct pool *pool_of(const struct world *w) { return w->current->pools[0]; }

static void wrong(const struct world *w, const struct plan *p, const char *what) {
  fail_msg("seed %llu: plan %u: %s: outcome %d status %u end %s heads %u",
           (unsigned long long)w->seed, p->id, what, (int)p->outcome, p->got_status,
           p->ended ? end_get(p->end)->word.ptr : "(none)", p->up_heads);
}

/* refused_rightly: an answer of 503 with its cause, and no endpoint saw it. */
static void refused_rightly(const struct world *w, const struct plan *p) {
  bool seen = p->outcome == OUT_ANSWER || p->outcome == OUT_LOST || p->outcome == OUT_CUT;
  if (!seen || p->up_heads) wrong(w, p, "refused");
  if (p->outcome == OUT_ANSWER && p->got_status != 503) wrong(w, p, "status");
}

static void clients(struct world *w, uint32_t count, uint32_t requests) {
  for (uint32_t i = 0; i < count; i++) {
    struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
    for (uint32_t n = 0; n < requests; n++) client_add(c, plan_random(w));
    client_start(c);
  }
}

/* trouble makes plans fail in all the ways in which endpoints do, and clients leave. */
static void trouble(struct world *w, uint32_t percent) {
  for (uint32_t i = 0; i < w->plan_count; i++) {
    struct plan *p = &w->plans[i];
    if (!world_chance(w, percent)) continue;
    bool framed = p->up_frame != FRAME_CLOSE; /* else an end is an end */
    switch (world_draw(w, 6)) {
      case 0: p->status = p->up_frame ? 503 : p->status; break;
      case 1: p->stall = true; break;
      case 2: p->up_cut = framed ? (int32_t)world_draw(w, 40) : -1; break;
      case 3: p->up_cut = framed ? 60 + (int32_t)world_draw(w, 200) : -1; break;
      case 4: p->cut = (int32_t)world_draw(w, 200); break;
      default: p->stall_body = true; break;
    }
  }
}

/* ---- breakers ---- */

static struct plan *begin(struct world *w, struct plan *p) {
  struct client *c = client_new(w, 0);
  client_add(c, p);
  client_start(c);
  return p;
}

static void breaker_conf(struct world_conf *conf, uint64_t seed) {
  world_conf_init(conf);
  conf->pools[0].timeouts = (struct pool_timeouts){500, 800, 900};
  conf->pools[0].breaker = (struct pool_breaker){.failure_percent = seed % 3 ? 40 : 0,
                                                 .slow_percent = seed % 3 != 1 ? 50 : 0,
                                                 .slow_ms = 300,
                                                 .window_ms = 4000,
                                                 .min_requests = 3 + (uint32_t)(seed % 5),
                                                 .open_ms = 200 + (uint32_t)(seed % 7) * 100,
                                                 .max_open_ms = 1000,
                                                 .probes = 1 + (uint32_t)(seed % 4)};
  world_hold(conf, seed);
}

/* sent counts requests that were given to endpoints, all attempts. */
static uint64_t sent(const struct world *w) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < pool_of(w)->member_count; i++)
    for (uint32_t k = 0; k < w->workers; k++)
      sum += atomic_load(&pool_of(w)->members[i].endpoint->rows[k].requests);
  return sum;
}

struct breaker_watch {
  enum breaker_state state;
  uint64_t since_ms, opens;
};

/* watch: states follow each other as they should, and half-open not before its time. */
static void watch(struct world *w, struct breaker_watch *t) {
  struct breaker_told told = breaker_look(pool_of(w)->state);
  if (told.state != t->state) {
    bool right = told.state == BREAKER_OPEN        ? true
                 : told.state == BREAKER_HALF_OPEN ? t->state == BREAKER_OPEN
                                                   : t->state == BREAKER_HALF_OPEN;
    if (!right)
      fail_msg("seed %llu: %d after %d", (unsigned long long)w->seed, (int)told.state,
               (int)t->state);
    if (told.state == BREAKER_HALF_OPEN &&
        told.since_ms < t->since_ms + pool_of(w)->breaker.open_ms)
      fail_msg("seed %llu: half-open too soon", (unsigned long long)w->seed);
    t->opens += told.state == BREAKER_OPEN;
    t->state = told.state;
  }
  t->since_ms = told.since_ms;
}

static void breakers(void **state) {
  (void)state;
  uint64_t refused = 0, opens = 0, oks = 0, closes = 0;
  for (uint64_t seed = 0; world_seed(&seed, 250);) {
    struct world_conf conf;
    breaker_conf(&conf, seed);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &soft, &conf);
    struct breaker_watch t = {.state = BREAKER_CLOSED};
    clients(w, 6, 14);
    trouble(w, 40);
    uint32_t reloads = 0;
    while (!world_clients_done(w)) {
      if (world_chance(w, 1) && reloads < 20) {
        world_install(w, &conf);
        reloads++;
      }
      world_step(w);
      watch(w, &t);
      assert_true(w->steps < 600000);
    }
    world_for(w, 3000); /* what was refused or left is over; nothing is under way */
    uint64_t before = sent(w);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      oks += p->outcome == OUT_OK;
      if (!p->ended || p->end != END_BREAKER_OPEN) continue;
      refused++;
      if (!p->record.attempts) refused_rightly(w, p);
    }
    /* Every pass was given back: after good answers, one probe each, it is closed again. */
    while (!breaker_closed(pool_of(w)) && closes < 1000000) {
      struct client *c = client_new(w, 0);
      struct plan *p = plan_new(w);
      client_add(c, p);
      client_start(c);
      world_run(w, world_clients_done, 100000);
      if (p->outcome != OUT_OK) world_for(w, 1000);
      closes++;
      if (sent(w) > before + 2 * pool_of(w)->breaker.probes)
        fail_msg("seed %llu: it does not close", (unsigned long long)seed);
    }
    opens += t.opens;
    world_end(w);
  }
  assert_true(refused > 300 && opens > 100 && oks > 3000 && closes > 50);
}

static bool pass_take(struct world *w, struct breaker_pass *pass) {
  return breaker_admit(&w->worker[0]->upstream, pool_of(w), sim_now_ms(w->sim), pass);
}

/* What stood in the queue while the breaker opened is a probe when it is half-open by then. */
static void who_waited_is_a_probe_too(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 40);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].breaker = (struct pool_breaker){.failure_percent = 1,
                                                  .min_requests = 1,
                                                  .window_ms = 60000,
                                                  .open_ms = 1000,
                                                  .max_open_ms = 1000,
                                                  .probes = 2};
    conf.pools[0].connections.max_requests = 1;
    struct world *w = world_new(seed, 1, seed % 4 ? &soft : NULL, &conf);
    struct plan *first = plan_new(w), *p = plan_new(w);
    first->stall = p->stall = true;
    begin(w, first);
    while (!first->up_bodies) world_step(w);
    begin(w, p);
    while (!worker_stats(w->worker[0])->queued) world_step(w);
    struct breaker_pass bad = {0}, probe = {0}, third = {0};
    assert_true(pass_take(w, &bad));
    breaker_outcome(&w->worker[0]->upstream, pool_of(w), sim_now_ms(w->sim), &bad,
                    &(struct breaker_result){.bad = true});
    sim_advance(w->sim, 1001);
    assert_true(pass_take(w, &probe)); /* half-open */
    for (uint32_t i = 0; i < 2; i++) origin_release(&w->origins[i]);
    while (!p->up_bodies) world_step(w);
    if (pass_take(w, &third)) wrong(w, p, "is none of the probes");
    breaker_forget(pool_of(w)->state, &probe);
    for (uint32_t i = 0; i < 2; i++) origin_release(&w->origins[i]);
    world_run(w, world_clients_done, 200000);
    if (first->outcome != OUT_OK || p->outcome != OUT_OK) wrong(w, p, "not answered");
    world_end(w);
  }
}

/* ---- the route's timeout ---- */

static uint64_t failures(const struct world *w) {
  uint64_t sum = 0;
  for (uint32_t m = 0; m < pool_of(w)->member_count; m++)
    sum += atomic_load(&pool_of(w)->members[m].endpoint->rows[0].failures);
  return sum;
}

enum { ROUTE_MS = 500, BEFORE_MS = 300 };

/* The time that was spent in the queue or on an earlier attempt is not held against the endpoint
 * that had the rest of it; all of the time is. */
static void the_time_before_is_nobodys_fault(void **state) {
  (void)state;
  enum { IN_QUEUE, EARLIER, ALL_ITS_OWN, KINDS };
  for (uint64_t seed = 0; world_seed(&seed, 150);) {
    struct world_conf conf;
    world_conf_init(&conf);
    uint64_t kind = seed % KINDS;
    conf.routes[0].timeout_ms = ROUTE_MS;
    conf.pools[0].breaker = (struct pool_breaker){.failure_percent = 1,
                                                  .min_requests = kind == EARLIER ? 3 : 2,
                                                  .window_ms = 60000,
                                                  .open_ms = 1000,
                                                  .max_open_ms = 1000,
                                                  .probes = 1};
    if (kind == IN_QUEUE) conf.pools[0].connections.max_requests = 1;
    if (kind == EARLIER) conf.pools[0].timeouts.first_byte_ms = BEFORE_MS;
    conf.pools[0].retry.on = RETRY_FIRST_BYTE;
    struct world *w = world_new(seed, 1, seed % 4 ? &soft : NULL, &conf);
    struct plan *first = plan_new(w), *p = plan_new(w);
    first->stall = kind == IN_QUEUE;
    p->stall = true;
    begin(w, first);
    while (!first->up_bodies) world_step(w);
    begin(w, p);
    if (kind == IN_QUEUE) {
      while (!worker_stats(w->worker[0])->queued) world_step(w);
      sim_advance(w->sim, BEFORE_MS);
      for (uint32_t i = 0; i < 2; i++) origin_release(&w->origins[i]);
    }
    world_run(w, world_clients_done, 200000);
    while (!p->ended) world_step(w);
    if (first->outcome != OUT_OK) wrong(w, first, "not answered");
    if (p->end != END_ROUTE_TIMEOUT) wrong(w, p, "the end");
    if (failures(w) != (kind == IN_QUEUE ? 0 : 1)) wrong(w, p, "who is blamed");
    if (breaker_closed(pool_of(w)) != (kind != ALL_ITS_OWN)) wrong(w, p, "the breaker");
    world_end(w);
  }
}

/* A time that was cut off is at least so long: below the baseline that says nothing. */
static void a_time_cut_off_is_no_low_one(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    bool longer = seed & 1;
    conf.routes[0].timeout_ms = ROUTE_MS;
    conf.pools[0].concurrency = (struct pool_concurrency){.mode = CONCURRENCY_OBSERVE,
                                                          .min = 1,
                                                          .initial = 10,
                                                          .max = 10,
                                                          .tolerance_permille = 1500,
                                                          .window_ms = 100,
                                                          .baseline_ms = 60000};
    struct world *w = world_new(seed, 1, seed % 4 ? &soft : NULL, &conf);
    atomic_store(&pool_of(w)->state->gradient.base_us, longer ? 100000 : 2 * ROUTE_MS * 1000);
    struct plan *p = plan_new(w);
    p->stall = true;
    begin(w, p);
    while (!p->ended) world_step(w);
    if (p->end != END_ROUTE_TIMEOUT || failures(w) != 1) wrong(w, p, "the end");
    uint64_t heads = atomic_load(&pool_of(w)->state->rows[0].gradient.heads) & 0xffffff;
    if (heads != (longer ? 1 : 0)) wrong(w, p, "what it says");
    world_end(w);
  }
}

/* ---- concurrency ---- */

static void limits(void **state) {
  (void)state;
  uint64_t refused = 0, oks = 0;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    world_conf_init(&conf);
    uint32_t most = 1 + (uint32_t)(seed % 4);
    conf.pools[0].timeouts = (struct pool_timeouts){500, 800, 900};
    conf.pools[0].concurrency = (struct pool_concurrency){.mode = CONCURRENCY_ENFORCE,
                                                          .min = most,
                                                          .initial = most,
                                                          .max = most,
                                                          .tolerance_permille = 1500,
                                                          .window_ms = 10 + (uint32_t)(seed % 90),
                                                          .baseline_ms = 500};
    if (seed % 2) conf.pools[0].connections.max_per_endpoint = 1;
    world_hold(&conf, seed);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &soft, &conf);
    clients(w, 8, 8);
    trouble(w, 25);
    uint32_t reloads = 0;
    while (!world_clients_done(w)) {
      if (world_chance(w, 1) && reloads < 20) {
        world_install(w, &conf);
        reloads++;
      }
      world_step(w);
      if (gradient_waiting(pool_of(w)->state) > most + w->workers - 1)
        fail_msg("seed %llu: %u wait", (unsigned long long)seed,
                 gradient_waiting(pool_of(w)->state));
      assert_true(w->steps < 600000);
    }
    world_for(w, 3000);
    assert_int_equal(gradient_waiting(pool_of(w)->state), 0);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      oks += p->outcome == OUT_OK;
      if (!p->ended || p->end != END_CONCURRENCY) continue;
      refused++;
      refused_rightly(w, p);
    }
    world_end(w);
  }
  assert_true(refused > 300 && oks > 2000);
}

/* ---- shedding ---- */

/* Thresholds so low that all three causes come and go; half of the requests are of priority 0. */
static void shedding(void **state) {
  (void)state;
  uint64_t shed[3] = {0}, oks = 0;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.max_connections = 12;
    conf.overload = (struct overload_settings){
        .memory_percent = 1, .connections_percent = 30, .lag_ms = 20, .retry_after_ms = 1000};
    conf.routes[1] = (struct world_route){
        .name = "last", .path = "/last", .pool = "app", .priority = 1 + (uint8_t)(seed % 7)};
    world_hold(&conf, seed);
    struct sim_faults faults = soft;
    faults.time_jump = seed % 4 ? 0 : 10;
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % 2), &faults, &conf);
    for (uint32_t i = 0; i < w->workers; i++) w->worker[i]->loop->iobufs.limit = 4u << 20;
    for (uint32_t i = 0; i < 10; i++) {
      struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
      for (uint32_t n = 0; n < 6; n++) {
        struct plan *p = plan_random(w);
        if (world_chance(w, 50)) p->prefix = "/last";
        client_add(c, p);
      }
      client_start(c);
    }
    uint32_t reloads = 0;
    while (!world_clients_done(w)) {
      if (world_chance(w, 1) && reloads < 20) {
        if (world_chance(w, 30)) conf.overload.connections_percent ^= 30;
        world_install(w, &conf);
        reloads++;
      }
      world_step(w);
      assert_true(w->steps < 600000);
    }
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      oks += p->outcome == OUT_OK;
      bool was = p->ended && p->end >= END_OVERLOAD_MEMORY && p->end <= END_OVERLOAD_LAG;
      if (!was) continue;
      shed[p->end - END_OVERLOAD_MEMORY]++;
      refused_rightly(w, p);
      if (!p->prefix[0]) wrong(w, p, "priority 0 was shed");
    }
    world_end(w);
  }
  assert_true(shed[0] > 5 && shed[1] > 300 && shed[2] > 20 && oks > 1000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(breakers),
      cmocka_unit_test(who_waited_is_a_probe_too),
      cmocka_unit_test(the_time_before_is_nobodys_fault),
      cmocka_unit_test(a_time_cut_off_is_no_low_one),
      cmocka_unit_test(limits),
      cmocka_unit_test(shedding),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
