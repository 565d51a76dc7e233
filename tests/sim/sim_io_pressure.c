/* sim_io_pressure.c: more slow readers than there are buffers for. Bodies wait for a buffer, in
 * the order in which they came, and every response is complete in the end; none ends as
 * proxy.limit.memory. Peers that leave while their bodies wait leave nothing behind. */
#include "proxy_world.h"

#define LIMIT ((size_t)2 << 20)

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

static struct world *pressed_world(uint64_t seed) {
  struct world_conf conf;
  world_conf_init(&conf);
  struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
  w->worker[0]->loop->iobufs.limit = LIMIT;
  return w;
}

static struct client *reader(struct world *w, uint32_t i) {
  struct client *c = client_new(w, 0);
  c->window = 500 + (uint32_t)world_draw(w, 10000);
  c->stuck = true;
  struct plan *p = plan_new(w);
  p->up_len = 300000 + (uint32_t)world_draw(w, 200000);
  p->up_frame = (uint8_t)(FRAME_LENGTH + i % 3);
  p->minor = i % 4 == 3 ? 0 : 1;
  p->up_close = p->up_frame == FRAME_CLOSE;
  client_add(c, p);
  return c;
}

/* read_on lets them read before the clock leaps to a timeout. */
static void read_on(struct client **c, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    c[i]->stuck = false;
    client_tick(c[i]);
  }
}

static void must_be_ok(struct world *w, uint64_t seed, const struct plan *p) {
  if (p->outcome == OUT_OK && p->end == END_OK) return;
  fail_msg("seed %llu: plan %u: outcome %d got %llu of %u end %s, most borrowed %zu",
           (unsigned long long)seed, p->id, (int)p->outcome, (unsigned long long)p->got_body,
           p->up_len, p->ended ? end_get(p->end)->word.ptr : "(none)", w->iobufs_max);
}

/* A response is stuck at many readers; then all read on, slowly. */
static void every_response_completes(void **state) {
  (void)state;
  enum { READERS = 60 };
  for (uint64_t seed = 0; world_seed(&seed, 8);) {
    struct world *w = pressed_world(seed);
    struct client *c[READERS];
    for (uint32_t i = 0; i < READERS; i++) {
      c[i] = reader(w, i);
      client_start(c[i]);
    }
    world_for(w, 1500);
    read_on(c, READERS);
    world_run(w, world_clients_done, 2000000);
    for (uint32_t i = 0; i < w->plan_count; i++) must_be_ok(w, seed, &w->plans[i]);
    assert_true(w->iobufs_max > LIMIT / 2); /* there was pressure */
    assert_int_equal(w->ends[END_LIMIT_MEMORY], 0);
    world_end(w);
  }
}

/* Small exchanges are not held up by the bodies that wait. */
static void small_ones_pass(void **state) {
  (void)state;
  enum { READERS = 50, SMALL = 30 };
  for (uint64_t seed = 0; world_seed(&seed, 8);) {
    struct world *w = pressed_world(seed);
    for (uint32_t i = 0; i < READERS; i++) client_start(reader(w, i));
    world_for(w, 1500);
    uint64_t before = sim_now_ms(w->sim);
    struct plan *small[SMALL];
    for (uint32_t i = 0; i < SMALL; i++) {
      struct client *c = client_new(w, 0);
      small[i] = plan_new(w);
      if (i % 3 == 0) {
        small[i]->method = "POST";
        small[i]->frame = FRAME_LENGTH;
        small[i]->len = 900;
      }
      client_add(c, small[i]);
      client_start(c);
    }
    world_for(w, 3000);
    assert_true(sim_now_ms(w->sim) < before + 10000); /* the readers' own time is not over */
    for (uint32_t i = 0; i < SMALL; i++) must_be_ok(w, seed, small[i]);
    assert_int_equal(w->ends[END_LIMIT_MEMORY], 0);
    world_end(w);
  }
}

/* Uploads to endpoints that read slowly wait like responses. */
static void uploads_complete(void **state) {
  (void)state;
  enum { SENDERS = 50 };
  for (uint64_t seed = 0; world_seed(&seed, 8);) {
    struct world *w = pressed_world(seed);
    for (uint32_t i = 0; i < SENDERS; i++) {
      struct client *c = client_new(w, 0);
      struct plan *p = plan_new(w);
      p->method = "POST";
      p->frame = (uint8_t)(FRAME_LENGTH + i % 2);
      p->len = 300000;
      client_add(c, p);
      client_start(c);
    }
    world_run(w, world_clients_done, 2000000);
    for (uint32_t i = 0; i < w->plan_count; i++) must_be_ok(w, seed, &w->plans[i]);
    world_end(w);
  }
}

/* While bodies wait, clients reset or close and endpoints vanish; the others complete. */
static void who_leaves_is_forgotten(void **state) {
  (void)state;
  enum { READERS = 60 };
  for (uint64_t seed = 0; world_seed(&seed, 8);) {
    struct world *w = pressed_world(seed);
    struct client *c[READERS];
    for (uint32_t i = 0; i < READERS; i++) {
      c[i] = reader(w, i);
      client_start(c[i]);
    }
    world_for(w, 1500);
    for (uint32_t i = 0; i < READERS; i++)
      if (i % 3 == 0 && c[i]->peer) client_end(c[i], world_chance(w, 50));
    if (seed % 2) origin_down(&w->origins[0], true);
    world_for(w, 500);
    read_on(c, READERS);
    world_run(w, world_clients_done, 2000000);
    for (uint32_t i = 0; seed % 2 == 0 && i < READERS; i++)
      if (i % 3) must_be_ok(w, seed, &w->plans[i]);
    assert_int_equal(w->ends[END_LIMIT_MEMORY], 0);
    world_end(w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_response_completes),
      cmocka_unit_test(small_ones_pass),
      cmocka_unit_test(uploads_complete),
      cmocka_unit_test(who_leaves_is_forgotten),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
