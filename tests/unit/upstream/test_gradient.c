/* test_gradient.c: adaptive concurrency against a model of a pool: N servers and one queue, so
 * that latency grows with what is under way. The limit finds the capacity, follows it down and up,
 * learns a new baseline both ways, and does not move where nothing is known. Seeds are fixed. */
#include "weir/upstream/gradient.h"

#include <stdlib.h>

#include "upstream_kit.h"
#include "weir/base/mem.h"

static const struct kit_member one[] = {{1, false, 0}};

/* ---- numbers ---- */

static void logarithms(void **state) {
  (void)state;
  uint32_t last = 0;
  for (uint64_t us = 1; us < 100000000; us += us / 7 + 1) {
    uint32_t log = gradient_log(us);
    assert_true(log > last);
    last = log;
    double back = gradient_us(log);
    assert_true(back > (double)us * 0.97 - 1 && back < (double)us * 1.03 + 1);
  }
  assert_int_equal(gradient_log(0), 0);
  assert_int_equal(gradient_log(1023), 10 << 16);
  assert_int_equal(gradient_us(10 << 16), 1023);
}

/* ---- the model ---- */

enum { SERVERS_MAX = 256, UNDER_WAY_MAX = 4096 };

/* leaving is a request with a server, or that will have one: its end is known when it comes. */
struct leaving {
  uint64_t at_us, began_us;
  uint32_t worker;
};

struct model {
  struct kit k;
  uint64_t now_us, rng;
  uint32_t servers, service_us;
  uint32_t clients;    /* closed: so many ask again as soon as they are answered; 0: open */
  uint32_t per_second; /* open: arrivals */
  uint64_t next_us;    /* arrival */
  uint64_t free_us[SERVERS_MAX];
  struct leaving heap[UNDER_WAY_MAX];
  uint32_t under_way;
  /* since the last model_reset */
  uint64_t asked, refused, done, latency_us;
  uint32_t limit_min, limit_max;
};

static double uniform(struct model *m) {
  return (double)(rng_next(&m->rng) >> 11) / (double)(UINT64_C(1) << 53);
}

static void model_reset(struct model *m) {
  m->asked = m->refused = m->done = m->latency_us = 0;
  m->limit_min = UINT32_MAX;
  m->limit_max = 0;
}

static struct model *model_new(uint32_t servers, uint32_t service_us, uint32_t per_second) {
  struct model *m = mem_alloc(sizeof *m);
  kit_init(&m->k, one, 1, 7);
  m->k.pool->concurrency = (struct pool_concurrency){.mode = CONCURRENCY_ENFORCE,
                                                     .min = 5,
                                                     .initial = 20,
                                                     .max = 1000,
                                                     .tolerance_permille = 1500,
                                                     .window_ms = 100,
                                                     .baseline_ms = 30000};
  m->rng = 11;
  m->now_us = m->next_us = 1000000;
  m->servers = servers;
  m->service_us = service_us;
  m->per_second = per_second;
  model_reset(m);
  return m;
}

static void model_free(struct model *m) {
  kit_fini(&m->k);
  mem_free(m);
}

static void push(struct model *m, struct leaving l) {
  assert_true(m->under_way < UNDER_WAY_MAX);
  uint32_t i = m->under_way++;
  for (; i && m->heap[(i - 1) / 2].at_us > l.at_us; i = (i - 1) / 2)
    m->heap[i] = m->heap[(i - 1) / 2];
  m->heap[i] = l;
}

static struct leaving pop(struct model *m) {
  struct leaving top = m->heap[0], last = m->heap[--m->under_way];
  uint32_t i = 0, child;
  for (; (child = 2 * i + 1) < m->under_way; i = child) {
    if (child + 1 < m->under_way && m->heap[child + 1].at_us < m->heap[child].at_us) child++;
    if (m->heap[child].at_us >= last.at_us) break;
    m->heap[i] = m->heap[child];
  }
  m->heap[i] = last;
  return top;
}

/* serve gives a request the server that is free first. */
static uint64_t serve(struct model *m) {
  uint32_t first = 0;
  for (uint32_t i = 1; i < m->servers; i++)
    if (m->free_us[i] < m->free_us[first]) first = i;
  uint64_t start = m->free_us[first] > m->now_us ? m->free_us[first] : m->now_us;
  uint64_t takes = (uint64_t)((0.5 + uniform(m)) * m->service_us);
  return m->free_us[first] = start + takes;
}

static bool ask(struct model *m) {
  uint32_t worker = (uint32_t)(rng_next(&m->rng) % KIT_WORKERS);
  uint32_t limit = gradient_limit(m->k.pool);
  if (limit < m->limit_min) m->limit_min = limit;
  if (limit > m->limit_max) m->limit_max = limit;
  m->asked++;
  if (!gradient_admit(&m->k.up[worker], m->k.pool, m->now_us / 1000)) {
    m->refused++;
    return false;
  }
  push(m, (struct leaving){serve(m), m->now_us, worker});
  return true;
}

static void leave(struct model *m) {
  struct leaving l = pop(m);
  struct upstream *u = &m->k.up[l.worker];
  m->now_us = l.at_us;
  m->done++;
  m->latency_us += l.at_us - l.began_us;
  gradient_sample(u, m->k.pool, m->now_us / 1000, (l.at_us - l.began_us) * 1000);
  gradient_leave(u, m->k.pool->state);
}

/* A closed client that is refused asks again a little later. */
static void model_run(struct model *m, uint64_t ms) {
  uint64_t end = m->now_us + ms * 1000;
  while (m->now_us < end) {
    bool arrives = !m->under_way || m->next_us <= m->heap[0].at_us;
    if (arrives) {
      if (m->next_us > m->now_us) m->now_us = m->next_us;
      if (m->clients) {
        while (m->under_way < m->clients && ask(m)) continue;
        m->next_us = m->now_us + 500;
      } else {
        (void)ask(m);
        m->next_us = m->now_us + (uint64_t)(2 * uniform(m) * 1000000 / m->per_second);
      }
    } else {
      leave(m);
    }
  }
}

static double goodput(const struct model *m, uint64_t ms) {
  return (double)m->done * 1000 / (double)ms;
}
static double mean_us(const struct model *m) { return (double)m->latency_us / (double)m->done; }
static uint32_t limit(const struct model *m) { return gradient_limit(m->k.pool); }

static uint32_t baseline_us(const struct model *m) {
  return atomic_load(&m->k.pool->state->gradient.base_us);
}

static void tell(const struct model *m, const char *what, uint64_t ms) {
  if (!getenv("WEIR_TELL")) return;
  print_message("%-22s limit %u (%u to %u) baseline %u us, %.0f/s, mean %.0f us, refused %.4f%%\n",
                what, limit(m), m->limit_min, m->limit_max, baseline_us(m), goodput(m, ms),
                mean_us(m), 100.0 * (double)m->refused / (double)m->asked);
}

static void model_go(struct model *m, const char *what, uint64_t ms) {
  model_reset(m);
  model_run(m, ms);
  tell(m, what, ms);
}

/* 40 servers of 10 ms: 4000/s. */
enum { SERVERS = 40, SERVICE_US = 10000, CAPACITY = 4000 };

/* ---- tests ---- */

static void finds_the_capacity(void **state) {
  (void)state;
  static const uint32_t initials[] = {5, 20, 200, 1000};
  for (size_t i = 0; i < array_count(initials); i++) {
    struct model *m = model_new(SERVERS, SERVICE_US, 2 * CAPACITY);
    m->k.pool->concurrency.initial = initials[i];
    model_go(m, "warm up", 40000);
    model_go(m, "twice the capacity", 60000);
    assert_true(goodput(m, 60000) > 0.95 * CAPACITY);
    assert_true(mean_us(m) < 2.5 * SERVICE_US);
    assert_true(limit(m) >= SERVERS && limit(m) <= 3 * SERVERS);
    assert_true(m->refused * 100 > m->asked * 45);
    model_free(m);
  }
}

static void refuses_nothing_below_it(void **state) {
  (void)state;
  struct model *m = model_new(SERVERS, SERVICE_US, CAPACITY * 7 / 10);
  model_go(m, "warm up", 20000);
  model_go(m, "70 % of the capacity", 120000);
  assert_true(m->refused * 200 < m->asked);
  assert_true(mean_us(m) < 1.2 * SERVICE_US);
  model_free(m);
}

static void half_the_capacity_and_back(void **state) {
  (void)state;
  struct model *m = model_new(SERVERS, SERVICE_US, CAPACITY * 8 / 10);
  model_go(m, "warm up", 30000);
  m->servers = SERVERS / 2;
  model_go(m, "half of it is gone", 5000);
  model_go(m, "half, later", 20000);
  assert_true(goodput(m, 20000) > 0.9 * CAPACITY / 2);
  assert_true(mean_us(m) < 4 * SERVICE_US);
  m->servers = SERVERS;
  model_go(m, "it is back", 5000);
  model_go(m, "back, later", 20000);
  assert_true(goodput(m, 20000) > 0.78 * CAPACITY);
  assert_true(m->refused * 100 < m->asked);
  model_free(m);
}

static void another_service_time(void **state) {
  (void)state;
  struct model *m = model_new(SERVERS, SERVICE_US, 2 * CAPACITY);
  model_go(m, "warm up", 40000);
  m->service_us = 3 * SERVICE_US;
  model_go(m, "three times slower", 10000);
  assert_true(baseline_us(m) > 2 * SERVICE_US);
  model_go(m, "slower, later", 20000);
  assert_true(goodput(m, 20000) > 0.9 * CAPACITY / 3);
  m->service_us = SERVICE_US / 2;
  model_go(m, "fast", 10000);
  assert_true(baseline_us(m) < SERVICE_US);
  model_go(m, "fast, later", 20000);
  assert_true(goodput(m, 20000) > 0.9 * CAPACITY * 2);
  assert_true(mean_us(m) < 1.5 * SERVICE_US);
  model_free(m);
}

/* Windows much shorter than what a head takes: a measurement lasts long enough all the same. */
static void short_windows(void **state) {
  (void)state;
  struct model *m = model_new(4, 20000, 2000);
  m->k.pool->concurrency.window_ms = 10;
  m->k.pool->concurrency.baseline_ms = 200;
  m->k.pool->concurrency.min = 4;
  model_go(m, "10 ms windows", 5000);
  m->service_us = 400000;
  model_go(m, "20 times slower", 30000);
  assert_true(baseline_us(m) > 300000);
  m->service_us = 20000;
  model_go(m, "and back", 5000);
  assert_true(baseline_us(m) < 40000);
  assert_true(goodput(m, 5000) > 150);
  model_free(m);
}

static void one_request_per_second(void **state) {
  (void)state;
  struct model *m = model_new(1, SERVICE_US, 1);
  model_go(m, "1/s", 900000);
  assert_int_equal(m->refused, 0);
  assert_int_equal(m->limit_min, 20);
  assert_int_equal(m->limit_max, 20);
  /* Slow ones change nothing: it is not their number. */
  m->service_us = 400000;
  model_go(m, "1/s, slow", 900000);
  assert_int_equal(m->refused, 0);
  assert_int_equal(m->limit_min, 20);
  model_free(m);
}

static void bounds(void **state) {
  (void)state;
  struct model *m = model_new(SERVERS, SERVICE_US, 2 * CAPACITY);
  m->k.pool->concurrency.max = 30;
  model_go(m, "at most 30", 20000);
  assert_int_equal(limit(m), 30);
  assert_true(m->limit_max <= 30);
  m->k.pool->concurrency.max = 1000;
  m->k.pool->concurrency.min = m->k.pool->concurrency.initial = 150;
  model_go(m, "at least 150", 20000);
  assert_true(m->limit_min >= 150);
  model_free(m);
}

static void observing(void **state) {
  (void)state;
  struct model *m = model_new(SERVERS, SERVICE_US, CAPACITY / 4);
  m->k.pool->concurrency.mode = CONCURRENCY_OBSERVE;
  model_go(m, "observe, quiet", 20000);
  assert_int_equal(m->k.pool->state->rows[0].gradient.refused, 0);
  m->clients = 200;
  model_go(m, "observe, 200 clients", 5000);
  assert_int_equal(m->refused, 0); /* all are let through */
  assert_true(limit(m) >= SERVERS && limit(m) < 2 * SERVERS);
  assert_true(m->k.pool->state->rows[0].gradient.refused > 1000);
  model_free(m);
}

/* Observing, nothing can be measured: what latency rises to is no baseline before its time. */
static void observing_keeps_its_baseline(void **state) {
  (void)state;
  struct gradient_model model = {0};
  struct pool_concurrency s = {.mode = CONCURRENCY_OBSERVE,
                               .min = 1,
                               .initial = 20,
                               .max = 100,
                               .tolerance_permille = 1500,
                               .window_ms = 100,
                               .baseline_ms = 30000};
  static const uint32_t us[] = {10000, 8000, 7000, 9000, 40000};
  struct gradient_window w = {.now_ms = 100};
  for (uint32_t i = 0; i < 200; i++, w.now_ms += 100) {
    uint32_t log = gradient_log(us[i < 4 ? i : 4]);
    w.sums = (struct gradient_sums){20, 20 * (uint64_t)log, 20, 20 * 40};
    (void)gradient_step(&model, &s, &w);
  }
  assert_true(gradient_us(model.base_log) < 10100);
  assert_true(model.limit > 15 && model.limit < 25); /* 40 * 1.5 * 9 / 40 and its root */
  for (uint32_t i = 0; i < 800; i++, w.now_ms += 100) (void)gradient_step(&model, &s, &w);
  assert_true(gradient_us(model.base_log) > 39000);
}

/* The mode changes in the middle of a measurement, when no head came. */
static void the_mode_changes(void **state) {
  (void)state;
  struct model *m = model_new(SERVERS, SERVICE_US, 2 * CAPACITY);
  struct gradient *g = &m->k.pool->state->gradient;
  for (uint32_t i = 0; i < 100000 && g->model.phase != GRADIENT_DRAIN; i++) model_run(m, 1);
  assert_int_equal(g->model.phase, GRADIENT_DRAIN);
  m->k.pool->concurrency.mode = CONCURRENCY_OBSERVE;
  assert_true(gradient_admit(&m->k.up[0], m->k.pool, m->now_us / 1000 + 60000));
  gradient_leave(&m->k.up[0], m->k.pool->state);
  assert_int_equal(g->model.phase, GRADIENT_RUN);
  model_free(m);
}

/* What hangs is no reason to take less of the rest, a few in a hundred. */
static void a_few_that_hang(void **state) {
  (void)state;
  struct gradient_model model = {0};
  struct pool_concurrency s = {.mode = CONCURRENCY_ENFORCE,
                               .min = 1,
                               .initial = 100,
                               .max = 100,
                               .tolerance_permille = 1500,
                               .window_ms = 100,
                               .baseline_ms = 30000};
  struct gradient_window w = {.now_ms = 100};
  for (int i = 0; i < 50; i++, w.now_ms += 100) {
    bool hang = i >= 5;
    w.sums = (struct gradient_sums){.samples = 100, .arrivals = 100, .seen = 9000};
    w.sums.log_sum = (hang ? 97u : 100u) * (uint64_t)gradient_log(10000) +
                     (hang ? 3u : 0u) * (uint64_t)gradient_log(30000000);
    if (model.phase != GRADIENT_RUN) w.sums.seen = 900;
    uint32_t now = gradient_step(&model, &s, &w);
    if (model.phase == GRADIENT_RUN) assert_int_equal(now, 100);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(logarithms),
      cmocka_unit_test(finds_the_capacity),
      cmocka_unit_test(refuses_nothing_below_it),
      cmocka_unit_test(half_the_capacity_and_back),
      cmocka_unit_test(another_service_time),
      cmocka_unit_test(short_windows),
      cmocka_unit_test(one_request_per_second),
      cmocka_unit_test(bounds),
      cmocka_unit_test(observing),
      cmocka_unit_test(observing_keeps_its_baseline),
      cmocka_unit_test(the_mode_changes),
      cmocka_unit_test(a_few_that_hang),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
