/* sim_proxy_hedge.c: second attempts beside slow ones: only of what may reach two endpoints, once,
 * after the delay, to another endpoint, within attempts and budget. The first final response is
 * taken whole; whichever fails leaves the other to go on; who is cancelled is not blamed. */
#include "proxy_world.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

enum { AFTER_MS = 100 };

static void wrong(const struct world *w, const struct plan *p, const char *what) {
  fail_msg("seed %llu: plan %u: %s bad %u then %u: %s: outcome %d status %u end %s, seen %u by "
           "%x, attempts %u, %llu ms",
           (unsigned long long)w->seed, p->id, p->method, p->bad, p->then, what, (int)p->outcome,
           p->got_status, p->ended ? end_get(p->end)->word.ptr : "(none)", p->up_heads,
           p->up_origins, p->record.attempts,
           (unsigned long long)(p->record.total_ns / 1000000));
}

static void hedge_conf(struct world_conf *conf) {
  world_conf_init(conf);
  conf->pools[0].retry.hedge_ms = AFTER_MS;
  conf->pools[0].retry.on |= RETRY_GATEWAY;
}

static struct world *hedge_world(uint64_t seed, const struct world_conf *conf) {
  return world_new(seed, 1, seed % 4 ? &soft : NULL, conf);
}

static struct plan *ask(struct world *w, struct plan *p) {
  struct client *c = client_new(w, 0);
  client_add(c, p);
  client_start(c);
  world_run(w, world_clients_done, 200000);
  while (!p->ended) world_step(w);
  return p;
}

static uint64_t ms_of(const struct plan *p) { return p->record.total_ns / 1000000; }

static uint64_t failures(const struct world *w) {
  uint64_t sum = 0;
  const struct pool *pool = w->current->pools[0];
  for (uint32_t m = 0; m < pool->member_count; m++)
    sum += atomic_load(&pool->members[m].endpoint->rows[0].failures);
  return sum;
}

/* ---- which requests ---- */

static void a_slow_one_gets_a_second(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    hedge_conf(&conf);
    struct world *w = hedge_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_STALL;
    p->bad_times = 1;
    p->up_len = (uint32_t)world_draw(w, seed & 1 ? 300 : 90000);
    p->up_frame = (uint8_t)(FRAME_LENGTH + seed % 3);
    p->up_close = p->up_frame == FRAME_CLOSE;
    p->interims = seed & 8 ? 2 : 0;
    if (seed & 4) ask(w, plan_new(w)); /* so that there is a kept connection */
    ask(w, p);
    if (p->outcome != OUT_OK || p->end != END_OK) wrong(w, p, "not answered");
    if (p->up_heads != 2 || p->up_origins != 3) wrong(w, p, "two endpoints");
    if (p->record.attempts != 2) wrong(w, p, "attempts");
    if (ms_of(p) < AFTER_MS - 10 || ms_of(p) > AFTER_MS + 300) wrong(w, p, "when");
    if (failures(w)) wrong(w, p, "the cancelled one was blamed");
    assert_int_equal(worker_stats(w->worker[0])->hedges, 1);
    assert_int_equal(worker_stats(w->worker[0])->hedges_won, 1);
    assert_int_equal(worker_stats(w->worker[0])->retries, 1); /* from the same budget */
    world_end(w);
  }
}

static void not_every_request(void **state) {
  (void)state;
  static const struct {
    const char *method;
    uint32_t len, origins, attempts, percent;
    bool hedged;
  } rows[] = {{"GET", 0, 3, 2, 100, true},    {"DELETE", 0, 3, 2, 100, true},
              {"POST", 0, 3, 2, 100, false},  {"PUT", 100, 3, 2, 100, false},
              {"GET", 0, 1, 2, 100, false}, /* nobody else to ask */
              {"GET", 0, 3, 1, 100, false}, {"GET", 0, 3, 2, 0, false}};
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    for (size_t i = 0; i < array_count(rows); i++) {
      struct world_conf conf;
      hedge_conf(&conf);
      conf.pools[0].timeouts.first_byte_ms = 1000;
      conf.pools[0].origins = rows[i].origins;
      conf.pools[0].retry.attempts = rows[i].attempts;
      conf.pools[0].retry.budget_percent = rows[i].percent;
      conf.pools[0].retry.budget_min = 0;
      struct world *w = hedge_world(seed, &conf);
      struct plan *p = plan_new(w);
      p->method = rows[i].method;
      p->len = rows[i].len;
      p->frame = p->len ? FRAME_LENGTH : FRAME_NONE;
      p->bad = BAD_STALL;
      p->bad_times = 1;
      ask(w, p);
      if (p->up_heads != (rows[i].hedged ? 2 : 1)) wrong(w, p, "hedged or not");
      if (rows[i].hedged ? p->outcome != OUT_OK : p->end != END_FIRST_BYTE_TIMEOUT)
        wrong(w, p, "the end");
      world_end(w);
    }
  }
}

/* What is answered in time has no second attempt. */
static void the_quick_have_none(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    hedge_conf(&conf);
    struct world *w = hedge_world(seed, &conf);
    for (uint32_t i = 0; i < 4; i++) {
      struct client *c = client_new(w, 0);
      for (uint32_t n = 0; n < 5; n++) client_add(c, plan_new(w));
      client_start(c);
    }
    world_run(w, world_clients_done, 200000);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      if (p->outcome != OUT_OK) wrong(w, p, "not answered");
      if (p->up_heads > 1 && ms_of(p) < AFTER_MS) wrong(w, p, "too early");
    }
    world_end(w);
  }
}

/* ---- what becomes of the two ---- */

/* then is how the second attempt ends, while the first one stalls up to its timeout. */
static void the_second_may_fail(void **state) {
  (void)state;
  static const struct {
    enum bad then;
    uint32_t failures;
  } rows[] = {{BAD_RESET, 1}, {BAD_FIN, 1}, {BAD_CUT, 1}, {BAD_INTERIM, 1}, {BAD_503, 0}};
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    hedge_conf(&conf);
    conf.pools[0].timeouts.first_byte_ms = 1000;
    struct world *w = hedge_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_STALL;
    p->bad_times = 1;
    p->then = (uint8_t)rows[seed % array_count(rows)].then;
    ask(w, p);
    /* The first one goes on alone, and has all its time. */
    if (p->end != END_FIRST_BYTE_TIMEOUT || p->got_status != 504) wrong(w, p, "the end");
    if (p->up_heads != 2 || ms_of(p) < 990 || ms_of(p) > 1300) wrong(w, p, "when");
    if (failures(w) != 1 + rows[seed % array_count(rows)].failures) wrong(w, p, "who is blamed");
    world_end(w);
  }
}

/* The first attempt ends while the second one is on its way: that one goes on. */
static void the_first_may_fail(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    hedge_conf(&conf);
    bool blind = seed & 1; /* the second one is still connecting then */
    conf.pools[0].timeouts.first_byte_ms = 400;
    conf.pools[0].balance = BALANCE_ROUND_ROBIN;
    struct world *w = hedge_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_STALL;
    p->bad_times = blind ? 1 : 2;
    struct client *c = client_new(w, 0);
    client_add(c, p);
    client_start(c);
    while (p->up_heads == 0) world_step(w);
    struct origin *second = &w->origins[p->up_origins == 1 ? 1 : 0];
    if (blind) {
      origin_down(second, true);
      sim_peer_blackhole(w->sim, &second->at);
    }
    world_run(w, world_clients_done, 100000);
    while (!p->ended) world_step(w);
    if (blind) { /* connects until timeouts.connect, and is the only one then */
      if (p->end != END_CONNECT_TIMEOUT || p->up_heads != 1) wrong(w, p, "connecting");
    } else {
      if (p->end != END_FIRST_BYTE_TIMEOUT || p->up_heads != 2) wrong(w, p, "stalling");
      if (ms_of(p) < 400 + AFTER_MS - 20) wrong(w, p, "the second has its own time");
    }
    if (failures(w) != 2) wrong(w, p, "who is blamed");
    world_end(w);
  }
}

/* Both are on their way: whichever answers first is taken, and nobody is blamed. */
static void either_may_win(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    hedge_conf(&conf);
    struct world *w = hedge_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_STALL;
    p->bad_times = 2;
    p->up_len = (uint32_t)world_draw(w, 60000);
    struct client *c = client_new(w, 0);
    client_add(c, p);
    client_add(c, plan_new(w)); /* the client's connection goes on */
    client_start(c);
    while (p->up_bodies == 0) world_step(w);
    uint32_t first = p->up_origins == 1 ? 0 : 1;
    while (p->up_bodies == 1) world_step(w);
    bool second = seed & 1;
    origin_release(&w->origins[second ? 1 - first : first]);
    if (seed & 2) origin_release(&w->origins[second ? first : 1 - first]);
    world_run(w, world_clients_done, 100000);
    if (p->outcome != OUT_OK || w->plans[1].outcome != OUT_OK) wrong(w, p, "not answered");
    uint64_t won = worker_stats(w->worker[0])->hedges_won;
    if (!(seed & 2) && won != (second ? 1 : 0)) wrong(w, p, "who won");
    if (failures(w)) wrong(w, p, "the cancelled one was blamed");
    world_end(w);
  }
}

/* Nor does a second attempt go where this request has been: what answered 503 is not a new
 * chance. */
static void not_where_it_has_been(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    hedge_conf(&conf);
    bool third = seed & 1;
    conf.pools[0].origins = third ? 7 : 3;
    conf.pools[0].timeouts.first_byte_ms = 1000;
    struct world *w = hedge_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_503;
    p->bad_times = 1;
    p->then = BAD_STALL;
    ask(w, p);
    if (third && p->outcome != OUT_OK) wrong(w, p, "not answered");
    if (!third && p->end != END_FIRST_BYTE_TIMEOUT) wrong(w, p, "the end");
    if (p->up_heads != (third ? 3 : 2) || p->up_origins != (third ? 7 : 3)) wrong(w, p, "where");
    world_end(w);
  }
}

/* What a second attempt was answered with is remembered like what the first one was. */
static void what_the_second_brought_is_remembered(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    hedge_conf(&conf);
    conf.pools[0].origins = 7;
    conf.pools[0].retry.on |= RETRY_FIRST_BYTE;
    conf.pools[0].timeouts.first_byte_ms = 1000;
    struct world *w = hedge_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_STALL;
    p->bad_times = 1;
    p->then = BAD_503;
    ask(w, p);
    if (p->outcome != OUT_OK || p->up_heads != 3) wrong(w, p, "not answered");
    if (p->up_origins != 7) wrong(w, p, "not the third one");
    world_end(w);
  }
}

/* A pool that goes by latency hears of the endpoint that is always outrun; else that one would
 * look like one that nobody has asked. */
static void the_outrun_are_known_to_be_slow(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    hedge_conf(&conf);
    conf.pools[0].balance = BALANCE_PEAK_EWMA;
    struct world *w = hedge_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_STALL;
    p->bad_times = 1;
    struct client *c = client_new(w, 0);
    client_add(c, p);
    client_start(c);
    while (!p->up_bodies) world_step(w);
    uint32_t slow = p->up_origins == 1 ? 0 : 1;
    world_run(w, world_clients_done, 100000);
    if (p->outcome != OUT_OK) wrong(w, p, "not answered");
    const struct pool *pool = w->current->pools[0];
    for (uint32_t m = 0; m < pool->member_count; m++) {
      const struct endpoint *e = pool->members[m].endpoint;
      if (!addr_eq(&e->addr, &w->origins[slow].at)) continue;
      if (atomic_load(&e->rows[0].ewma_ns) < (AFTER_MS - 10) * 1000000u) wrong(w, p, "unknown");
    }
    world_end(w);
  }
}

/* ---- all at once ---- */

static void chaos(void **state) {
  (void)state;
  static const struct sim_faults hard = {.short_read = 200, .short_write = 200, .delay = 200,
                                         .reorder = 300,    .enobufs = 80,      .reset = 8,
                                         .refuse = 100,     .cancel_race = 400, .time_jump = 2};
  uint64_t hedges = 0, won = 0, oks = 0;
  for (uint64_t seed = 0; world_seed(&seed, 400);) {
    struct world_conf conf;
    hedge_conf(&conf);
    conf.pools[0].origins = seed & 1 ? 3 : 7;
    conf.pools[0].retry.on |= RETRY_FIRST_BYTE;
    conf.pools[0].retry.hedge_ms = 1 + (uint32_t)(seed % 50);
    conf.pools[0].retry.per_try_ms = seed & 2 ? 300 : 0;
    if (seed & 4) conf.pools[0].connections.max_requests = 4;
    if (seed & 8) conf.pools[0].connections.max_per_endpoint = 2;
    conf.pools[0].connections.queue_timeout_ms = 60000;
    world_hold(&conf, seed);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &hard, &conf);
    w->capped = true;
    for (uint32_t i = 0; i < 5; i++) {
      struct client *c = client_new(w, i % w->workers);
      c->pipeline = world_chance(w, 30);
      for (uint32_t n = 0; n < 6; n++) {
        struct plan *p = plan_random(w);
        p->bad = (uint8_t)(world_chance(w, 60) ? BAD_STALL : world_draw(w, BAD_503 + 1));
        p->bad_times = (uint8_t)world_draw(w, 3);
        p->then = (uint8_t)(world_chance(w, 30) ? world_draw(w, BAD_503 + 1) : 0);
        if (world_chance(w, 5)) p->cut = (int32_t)world_draw(w, 300);
        client_add(c, p);
      }
      client_start(c);
    }
    world_run(w, world_clients_done, 2000000);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      bool once = strcmp(p->method, "POST") == 0 || strcmp(p->method, "BREW") == 0;
      if (once && p->up_heads > 1) wrong(w, p, "was sent twice");
      bool held = p->len <= conf.routes[0].buffer_bytes;
      if (p->len && !held && p->up_bodies > 1) wrong(w, p, "a body was sent twice");
      if (p->up_heads > 5) wrong(w, p, "too often");
      oks += p->outcome == OUT_OK;
    }
    for (uint32_t i = 0; i < w->workers; i++) {
      hedges += worker_stats(w->worker[i])->hedges;
      won += worker_stats(w->worker[i])->hedges_won;
    }
    world_end(w);
  }
  assert_true(hedges > 300 && won > 100 && oks > 1000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_slow_one_gets_a_second),
      cmocka_unit_test(not_every_request),
      cmocka_unit_test(the_quick_have_none),
      cmocka_unit_test(the_second_may_fail),
      cmocka_unit_test(the_first_may_fail),
      cmocka_unit_test(either_may_win),
      cmocka_unit_test(not_where_it_has_been),
      cmocka_unit_test(what_the_second_brought_is_remembered),
      cmocka_unit_test(the_outrun_are_known_to_be_slow),
      cmocka_unit_test(chaos),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
