/* test_step.c: the table of steps against what DESIGN.md promises of it, and a stream's timer: it
 * is armed from the first byte of a head, and a stream that ends leaves nothing behind. */
#include "proxy_kit.h"

static const struct {
  const char *name;
  bool enters; /* has a function on entry */
  enum end timer_end;
  const char *doc;
} steps[] = {
#define STEP(id, enter, timer_end, doc) {#id, #enter[0] != 'N', END_##timer_end, doc},
#include "proxy/steps.def"
#undef STEP
};

static void rows_are_sound(void **state) {
  (void)state;
  assert_int_equal(array_count(steps), STEP_COUNT);
  for (size_t i = 0; i < STEP_COUNT; i++) {
    assert_true(strlen(steps[i].doc) > 0);
    /* A step that waits can be overdue, and says whose fault that is. */
    bool waits = strncmp(steps[i].doc, "nothing", 7) != 0;
    if (waits) assert_int_not_equal(steps[i].timer_end, END_INTERNAL);
    else assert_int_equal(steps[i].timer_end, END_INTERNAL);
    if (!waits) assert_true(steps[i].enters);
    if (!steps[i].enters) assert_true(waits);
  }
}

static void kit_ready(struct kit *k) {
  kit_init(k);
  kit_route(k, "ok", "/ok")->respond.body = SPAN_LIT("fine");
  kit_start(k);
}

static void nothing_is_left(const struct kit *k) {
  assert_int_equal(k->w->streams.live, 0);
  assert_int_equal(k->w->blocks.live_bytes, 0);
  assert_int_equal(worker_streams(k->w), 0);
  assert_int_equal(atomic_load(&k->listener->obj.pin_rows[0].pins), 0);
  assert_int_equal(atomic_load(&k->snapshot->routes[0]->obj.pin_rows[0].pins), 0);
  assert_int_equal(atomic_load(&k->snapshot->routes[0]->state->obj.pin_rows[0].pins), 0);
}

static void half_a_head_has_a_deadline(void **state) {
  (void)state;
  static const char head[] = "GET /ok HTTP/1.1\r\nHost: h\r\n";
  for (size_t cut = 1; cut < sizeof head; cut++) {
    struct kit k = {0};
    kit_ready(&k);
    uint64_t start = sim_now_ms(k.sim);
    struct span got = kit_ask(&k, span_of(head, cut), false);
    assert_true(span_starts(got, SPAN_LIT("HTTP/1.1 408 ")));
    uint64_t took = sim_now_ms(k.sim) - start;
    assert_true(took >= 10000 && took < 13000);
    nothing_is_left(&k);
    kit_fini(&k);
  }
}

/* A head that trickles in gets no more time than one that stops. */
static void a_trickle_gets_no_more_time(void **state) {
  (void)state;
  struct kit k = {0};
  kit_ready(&k);
  struct sim_peer *p = sim_peer_connect(k.sim, &k.at);
  sim_peer_on_data(p, kit_on_data, kit_on_close, &k);
  sim_peer_write(p, SPAN_LIT("GET /ok HTTP/1.1\r\n"));
  uint64_t start = sim_now_ms(k.sim);
  while (!k.got.len && sim_now_ms(k.sim) < start + 60000) {
    sim_peer_write(p, SPAN_LIT("X-A: b\r\n"));
    for (int i = 0; i < 20; i++) (void)sim_step(k.sim);
    sim_advance(k.sim, 900);
  }
  uint64_t took = sim_now_ms(k.sim) - start;
  assert_true(span_starts(text_span(&k.got), SPAN_LIT("HTTP/1.1 4")));
  assert_true(took < 13000);
  sim_peer_free(p);
  kit_fini(&k);
}

static void ends_leave_nothing(void **state) {
  (void)state;
  static const char *const asks[] = {
      "GET /ok HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET /no HTTP/1.1\r\nHost: h\r\n\r\n",
      "BAD\r\n\r\n",
      "GET /ok HTTP/1.1\r\nHost: h\r\n\r\nGET /ok HTTP/1.1\r\nHost: h\r\n\r\nGET",
      "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12",
  };
  struct kit k = {0};
  kit_ready(&k);
  for (size_t i = 0; i < array_count(asks); i++) {
    (void)kit_ask(&k, span_str(asks[i]), true);
    nothing_is_left(&k);
  }
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_are_sound),
      cmocka_unit_test(half_a_head_has_a_deadline),
      cmocka_unit_test(a_trickle_gets_no_more_time),
      cmocka_unit_test(ends_leave_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
