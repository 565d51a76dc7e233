/* test_prober.c: the prober on a real poller, against one silent listener of our own that stands
 * for many endpoints (names of one address): how many checks run at once, what a reload does to
 * those under way, that nothing is left, that our own lateness is nobody's fault. */
#include "control/prober_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/health_priv.h"
#include "weir/base/mem.h"
#include "weir/upstream/endpoint.h"

static const struct health_statuses expect[] = {{200, 299}};

struct world {
  struct poller poller;
  struct registry *registry;
  struct prober *prober;
  int listener; /* nobody accepts: connects succeed, answers never come */
  uint16_t port;
  uint32_t said;
  enum end_level level;
  char last[512];
};

static void on_say(void *ctx, enum end_level level, const char *sentence) {
  struct world *w = (struct world *)ctx;
  w->said++;
  w->level = level;
  (void)snprintf(w->last, sizeof w->last, "%s", sentence);
}

static int setup(void **state) {
  struct world *w = (struct world *)mem_alloc(sizeof *w);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof at;
  poller_init(&w->poller);
  w->registry = registry_new(1);
  w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(w->listener, (struct sockaddr *)&at, len), 0);
  assert_int_equal(listen(w->listener, 1024), 0);
  assert_int_equal(getsockname(w->listener, (struct sockaddr *)&at, &len), 0);
  w->port = ntohs(at.sin_port);
  const struct prober_config config = {
      .poller = &w->poller, .seed = 1, .say = on_say, .ctx = w};
  w->prober = prober_new(&config);
  *state = w;
  return 0;
}

static int teardown(void **state) {
  struct world *w = (struct world *)*state;
  prober_free(w->prober);
  assert_int_equal(object_reap(w->registry), 0);
  registry_free(w->registry);
  close(w->listener);
  mem_free(w);
  return 0;
}

/* snapshot_of has one pool "app" of count endpoints. */
static struct snapshot *snapshot_of(struct world *w, uint32_t count, struct pool_health health) {
  struct snapshot *s = snapshot_new(w->registry);
  struct pool *pool = pool_new(w->registry, SPAN_LIT("app"));
  pool->state = pool_state_get(w->registry, SPAN_LIT("app"));
  pool->members = (struct pool_member *)arena_zalloc(&pool->obj.arena,
                                                     (count + 1) * sizeof *pool->members);
  pool->member_count = count;
  for (uint32_t i = 0; i < count; i++) {
    char text[64];
    struct addr addr;
    (void)snprintf(text, sizeof text, "e%u.test:%u", i, w->port);
    assert_true(addr_from_ip(SPAN_LIT("127.0.0.1"), w->port, &addr));
    pool->members[i].endpoint = endpoint_get(w->registry, SPAN_LIT("app"), span_str(text), &addr);
    pool->members[i].weight = 1;
  }
  pool->health = health;
  s->pools = (struct pool **)arena_zalloc(&s->arena, sizeof *s->pools);
  s->pools[0] = pool;
  s->pool_count = 1;
  return s;
}

static struct pool_health silent(uint32_t timeout_ms, uint64_t content) {
  return (struct pool_health){.on = true,
                              .request = SPAN_LIT("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
                              .expect = expect,
                              .expect_count = 1,
                              .expect_text = SPAN_LIT("200-299"),
                              .interval_ms = 1000,
                              .fast_interval_ms = 1000,
                              .timeout_ms = timeout_ms,
                              .healthy = 1,
                              .unhealthy = 1,
                              .content = content};
}

static struct prober_counts counts(const struct world *w) {
  struct prober_counts c;
  prober_counts_get(w->prober, &c);
  return c;
}

static void turns(struct world *w, uint32_t ms) {
  for (uint64_t until = clock_ms() + ms; clock_ms() < until;) {
    poller_turn(&w->poller, until);
  }
}

static const struct endpoint *member(const struct snapshot *s, uint32_t i) {
  return s->pools[0]->members[i].endpoint;
}

static uint64_t checks(const struct snapshot *s, enum probe_result result) {
  return s->pools[0]->state->checks[result];
}

static void test_at_most_so_many_at_once(void **state) {
  struct world *w = (struct world *)*state;
  struct snapshot *s = snapshot_of(w, 400, silent(3600000, 1));
  assert_false(prober_sync(w->prober, s));
  assert_int_equal(counts(w).targets, 400);
  for (int i = 0; i < 300 && counts(w).under_way < PROBES_MAX; i++) {
    turns(w, 10);
    assert_true(counts(w).under_way <= PROBES_MAX);
  }
  turns(w, 50);
  assert_int_equal(counts(w).under_way, PROBES_MAX);
  snapshot_free(s);
}

/* Another snapshot with the same check leaves those under way alone; another check ends them; and
 * one without the pool drops all. */
static void test_reloads(void **state) {
  struct world *w = (struct world *)*state;
  struct snapshot *a = snapshot_of(w, 3, silent(3600000, 1));
  (void)prober_sync(w->prober, a);
  for (int i = 0; i < 100 && counts(w).under_way < 3; i++) {
    turns(w, 10);
  }
  assert_int_equal(counts(w).under_way, 3);
  struct snapshot *b = snapshot_of(w, 3, silent(3600000, 1));
  b->pools[0]->members[1].weight = 7;
  assert_true(prober_sync(w->prober, b)); /* the old pool's ref was dropped */
  snapshot_free(a);
  assert_int_equal(object_reap(w->registry), 0);
  assert_int_equal(counts(w).under_way, 3);
  struct snapshot *c = snapshot_of(w, 3, silent(20, 2));
  (void)prober_sync(w->prober, c);
  assert_int_equal(counts(w).under_way, 0);
  snapshot_free(b);
  for (int i = 0; i < 100 && checks(c, PROBE_TIMEOUT) < 3; i++) {
    turns(w, 20);
  }
  assert_int_equal(atomic_load(&member(c, 0)->state), ENDPOINT_DOWN);
  assert_string_equal(member(c, 0)->health->reason, "no answer after 20 ms (health.timeout)");
  assert_int_equal(w->said, 3);
  assert_non_null(strstr(w->last, "marked down, 0 of 3 in service: requests get 503"));
  struct snapshot *none = snapshot_new(w->registry);
  assert_true(prober_sync(w->prober, none));
  assert_int_equal(counts(w).targets, 0);
  assert_int_equal(atomic_load(&member(c, 0)->state), ENDPOINT_NEW);
  snapshot_free(c);
  snapshot_free(none);
  assert_int_equal(object_reap(w->registry), 0);
  assert_int_equal(registry_count(w->registry, OBJECT_ENDPOINT), 0);
}

/* Over HTTP/2: one that never speaks times out; a reload ends what is under way, with a goodbye
 * that nobody reads. */
static void test_h2(void **state) {
  struct world *w = (struct world *)*state;
  struct pool_health h = silent(3600000, 1);
  h.h2 = true;
  h.method = SPAN_LIT("GET");
  h.path = SPAN_LIT("/");
  struct snapshot *a = snapshot_of(w, 2, h);
  (void)prober_sync(w->prober, a);
  for (int i = 0; i < 100 && counts(w).under_way < 2; i++) {
    turns(w, 10);
  }
  assert_int_equal(counts(w).under_way, 2);
  h.protocol = HEALTH_GRPC;
  h.timeout_ms = 20;
  h.content = 2;
  struct snapshot *b = snapshot_of(w, 2, h);
  (void)prober_sync(w->prober, b);
  assert_int_equal(counts(w).under_way, 0);
  snapshot_free(a);
  for (int i = 0; i < 100 && checks(b, PROBE_TIMEOUT) < 2; i++) {
    turns(w, 20);
  }
  assert_string_equal(member(b, 0)->health->reason, "no answer after 20 ms (health.timeout)");
  snapshot_free(b);
}

/* Who leaves ends his check; who stays keeps state and schedule; who comes is new. */
static void test_members_change(void **state) {
  struct world *w = (struct world *)*state;
  struct snapshot *a = snapshot_of(w, 1, silent(20, 1));
  (void)prober_sync(w->prober, a);
  for (int i = 0; i < 100 && !checks(a, PROBE_TIMEOUT); i++) {
    turns(w, 20);
  }
  uint64_t next = member(a, 0)->health->next_ms;
  struct snapshot *b = snapshot_of(w, 2, silent(20, 1));
  (void)prober_sync(w->prober, b);
  assert_ptr_equal(member(a, 0), member(b, 0));
  assert_int_equal(member(b, 0)->health->next_ms, next);
  assert_int_equal(atomic_load(&member(b, 0)->state), ENDPOINT_DOWN);
  assert_int_equal(atomic_load(&member(b, 1)->state), ENDPOINT_UNKNOWN);
  snapshot_free(a);
  snapshot_free(b);
}

/* A timeout that is noticed late, because this thread was busy, says nothing. */
static void test_our_own_lateness(void **state) {
  struct world *w = (struct world *)*state;
  struct snapshot *s = snapshot_of(w, 1, silent(50, 1));
  (void)prober_sync(w->prober, s);
  for (int i = 0; i < 100 && !counts(w).under_way; i++) {
    turns(w, 2);
  }
  assert_int_equal(counts(w).under_way, 1);
  const struct timespec busy = {.tv_nsec = (50 + PROBE_LATE_MS + 100) * 1000000L};
  nanosleep(&busy, NULL);
  turns(w, 1);
  assert_int_equal(checks(s, PROBE_SKIPPED), 1);
  assert_int_equal(checks(s, PROBE_TIMEOUT), 0);
  assert_int_equal(atomic_load(&member(s, 0)->state), ENDPOINT_UNKNOWN);
  assert_int_equal(w->said, 0);
  snapshot_free(s);
}

/* First checks of many new endpoints: one each PROBE_SPREAD_MS, round and round the interval. */
static void test_first_checks_are_spread(void **state) {
  struct world *w = (struct world *)*state;
  enum { COUNT = 1000, BINS = 10 };
  uint32_t bins[BINS] = {0};
  struct snapshot *s = snapshot_of(w, COUNT, silent(3600000, 1));
  (void)prober_sync(w->prober, s);
  uint64_t now = w->poller.now_ms;
  for (uint32_t i = 0; i < COUNT; i++) {
    uint64_t due = member(s, i)->health->next_ms - now;
    assert_true(due < 1000);
    bins[due * BINS / 1000]++;
  }
  for (int i = 0; i < BINS; i++) {
    assert_in_range(bins[i], COUNT / BINS - 2, COUNT / BINS + 2);
  }
  snapshot_free(s);
}

static void assert_told(const struct world *w, const struct endpoint *e, const char *what) {
  char line[256];
  (void)snprintf(line, sizeof line, "pool app: endpoint " SPAN_FMT ": %s", SPAN_ARG(e->label),
                 what);
  assert_string_equal(w->last, line);
}

/* The end of an ejection is told once, by whichever rule it began; also of an endpoint that has no
 * checks, and of one that checks found down meanwhile. */
static void test_the_end_of_an_ejection(void **state) {
  struct world *w = (struct world *)*state;
  struct snapshot *s = snapshot_of(w, 2, (struct pool_health){.on = false});
  struct pool *pool = s->pools[0];
  struct endpoint *e = pool->members[1].endpoint;
  pool->outlier = (struct pool_outlier){.eject_ms = 100, .max_ejected_percent = 100};
  w->poller.now_ms = 1000;
  prober_back(w->prober, s);
  assert_true(endpoint_eject(pool, e, EJECT_FAILURES, 1000));
  prober_back(w->prober, s);
  w->poller.now_ms = 1099;
  prober_back(w->prober, s);
  assert_int_equal(w->said, 0);
  for (w->poller.now_ms = 1100; w->poller.now_ms < 3000; w->poller.now_ms += 1000) {
    prober_back(w->prober, s);
    assert_int_equal(w->said, 1);
    assert_int_equal(w->level, END_LEVEL_WARN);
    assert_told(w, e, "its ejection is over, 2 of 2 in service");
  }
  assert_true(endpoint_eject(pool, e, EJECT_5XX, 3000));
  atomic_store(&e->state, ENDPOINT_DOWN);
  w->poller.now_ms = 9000;
  prober_back(w->prober, s);
  assert_int_equal(w->said, 2);
  assert_told(w, e, "its ejection is over, but checks keep it out, 1 of 2 in service");
  atomic_store(&e->state, ENDPOINT_UNCHECKED);
  snapshot_free(s);
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_WORLD(test_at_most_so_many_at_once),
      WITH_WORLD(test_reloads),
      WITH_WORLD(test_h2),
      WITH_WORLD(test_members_change),
      WITH_WORLD(test_our_own_lateness),
      WITH_WORLD(test_first_checks_are_spread),
      WITH_WORLD(test_the_end_of_an_ejection),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
