/* sim_proxy_basic.c: keepalive, pipelining, all framings both ways, interim responses, under every
 * kind of delay, cut and reordering that loses nothing: each client gets exactly its responses. */
#include "proxy_world.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

static void everything_ok(struct world *w) {
  for (uint32_t i = 0; i < w->plan_count; i++) {
    const struct plan *p = &w->plans[i];
    if (p->outcome != OUT_OK || !p->ended || p->end != END_OK)
      fail_msg("seed %llu: plan %u: outcome %d, status %u %s, end %s", (unsigned long long)w->seed,
               i, (int)p->outcome, p->got_status, p->details,
               p->ended ? end_get(p->end)->word.ptr : "(no record)");
    assert_int_equal(p->up_heads, 1);
    assert_int_equal(p->record.status, p->status);
  }
}

static void mix(uint64_t seed, const struct sim_faults *faults, bool pipeline) {
  struct world_conf conf;
  world_conf_init(&conf);
  conf.pools[0].balance = (uint8_t)(seed % BALANCE_COUNT);
  world_hold(&conf, seed);
  struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), faults, &conf);
  uint32_t clients = 1 + (uint32_t)world_draw(w, 5);
  for (uint32_t i = 0; i < clients; i++) {
    struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
    c->pipeline = pipeline;
    for (uint32_t n = 1 + (uint32_t)world_draw(w, 8); n > 0; n--) {
      struct plan *p = plan_random(w);
      /* What makes weir close the connection would lose the pipelined ones behind it. */
      if (pipeline) p->expect = false;
      if (p->minor == 0) p->minor = 1;
      client_add(c, p);
    }
    client_start(c);
  }
  world_run(w, world_clients_done, 400000);
  everything_ok(w);
  world_end(w);
}

static void keepalive(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) mix(seed, seed % 4 ? &soft : NULL, false);
}

static void pipelining(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) mix(seed, seed % 4 ? &soft : NULL, true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keepalive),
      cmocka_unit_test(pipelining),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
