/* test_group.c: workers of a process reach each other: whom a signal goes to, that it stands once,
 * and that those who left hear nothing. */
#include "proxy_kit.h"

enum { MEMBERS = 3 };

struct bed {
  struct sim *sim;
  struct worker_group *group;
  struct worker *w[MEMBERS];
};

static void bed_init(struct bed *b, bool grouped) {
  memset(b, 0, sizeof *b);
  b->sim = sim_new(1, NULL);
  if (grouped) b->group = worker_group_new();
  for (uint32_t i = 0; i < MEMBERS; i++) {
    struct loop_config lc = {.conns_max = 64, .buffer_bytes = 4096, .seed = i};
    struct worker_config wc = {.index = i, .workers = MEMBERS, .group = b->group,
                               .loop = sim_loop_new(b->sim, &lc), .streams_max = 16};
    b->w[i] = worker_new(&wc);
    sim_loop_drive(b->w[i]->loop, kit_turn, b->w[i]);
  }
}

static void bed_fini(struct bed *b) {
  for (uint32_t i = 0; i < MEMBERS; i++)
    if (b->w[i]) worker_free(b->w[i]);
  worker_group_free(b->group);
  sim_free(b->sim);
}

static uint32_t signals(const struct bed *b, uint32_t i) { return atomic_load(&b->w[i]->signals); }

static void only_who_is_meant(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, true);
  group_signal(b.w[1], 2, SIGNAL_PERMIT);
  group_signal(b.w[1], 2, SIGNAL_PERMIT); /* stands already */
  group_signal(b.w[0], 2, SIGNAL_YIELD);
  assert_int_equal(signals(&b, 0), 0);
  assert_int_equal(signals(&b, 1), 0);
  assert_int_equal(signals(&b, 2), SIGNAL_PERMIT | SIGNAL_YIELD);
  (void)sim_run(b.sim, 30);
  for (uint32_t i = 0; i < MEMBERS; i++) assert_int_equal(signals(&b, i), 0);
  bed_fini(&b);
}

static void a_signal_is_listened_to_once(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, true);
  group_signal(b.w[0], 1, SIGNAL_PERMIT);
  group_listen(b.w[1]);
  assert_true(b.w[1]->wake_pending);
  b.w[1]->wake_pending = false;
  group_listen(b.w[1]);
  assert_false(b.w[1]->wake_pending);
  group_signal(b.w[1], 1, SIGNAL_PERMIT); /* not to itself */
  assert_int_equal(signals(&b, 1), 0);
  bed_fini(&b);
}

static void who_left_hears_nothing(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, true);
  worker_free(b.w[2]);
  b.w[2] = NULL;
  group_signal(b.w[0], 2, SIGNAL_PERMIT);
  group_signal(b.w[0], 1, SIGNAL_PERMIT);
  assert_int_equal(signals(&b, 1), SIGNAL_PERMIT);
  bed_fini(&b);
}

static void alone_is_fine(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, false);
  group_signal(b.w[0], 1, SIGNAL_PERMIT);
  for (uint32_t i = 0; i < MEMBERS; i++) assert_int_equal(signals(&b, i), 0);
  bed_fini(&b);
}

/* Messages are carried out in the order in which they were posted, and acknowledged by seq. */
static void order_and_acknowledgement(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b, true);
  for (uint32_t i = 1; i <= 20; i++) {
    struct worker_msg *m = mem_alloc(sizeof *m);
    *m = (struct worker_msg){.kind = WORKER_LOG, .seq = i, .sample_ppm = i, .access_log = i & 1};
    worker_post(b.w[0], m);
  }
  assert_int_equal(worker_seq(b.w[0]), 0);
  (void)sim_run(b.sim, 30);
  assert_int_equal(worker_seq(b.w[0]), 20);
  assert_int_equal(b.w[0]->sample_ppm, 20);
  assert_false(b.w[0]->access_log);
  bed_fini(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_who_is_meant),
      cmocka_unit_test(a_signal_is_listened_to_once),
      cmocka_unit_test(who_left_hears_nothing),
      cmocka_unit_test(alone_is_fine),
      cmocka_unit_test(order_and_acknowledgement),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
