/* sim_proxy_reload.c: a reload disturbs nothing that did not change: generations come and go under
 * traffic and tunnels; what was removed ends as DESIGN.md says; drain lets live work finish. */
#include "proxy_world.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

static void wrong(const struct world *w, const struct plan *p, const char *what) {
  fail_msg("seed %llu: plan %u (%s%s): %s: outcome %d status %u %s end %s, seen %u/%u",
           (unsigned long long)w->seed, p->id, p->method, p->upgrade ? " upgrade" : "", what,
           (int)p->outcome, p->got_status, p->details,
           p->ended ? end_get(p->end)->word.ptr : "(none)", p->up_heads, p->up_bodies);
}

/* conf_turn is generation n: one thing after another is added, changed and removed. */
static void conf_turn(struct world_conf *conf, uint64_t n) {
  world_conf_init(conf);
  conf->routes[1] = (struct world_route){.name = "ws", .path = "/ws", .pool = "app"};
  if (n & 1) conf->pools[0].origins |= 4;
  if (n & 2) {
    conf->pools[1] = conf->pools[0];
    conf->pools[1].name = "extra";
    conf->pools[1].origins = 8;
    conf->routes[2] = (struct world_route){.name = "x", .path = "/x", .pool = "extra"};
  }
  if (n & 4) conf->listeners[1] = "other";
  if (n & 8) conf->pools[0].timeouts.first_byte_ms = 20000;
  conf->pools[0].balance = (uint8_t)(n / 4 % BALANCE_COUNT);
  if (n & 16) conf->pools[0].spread.slow_start_ms = 500;
  if (n & 32) conf->routes[3] = (struct world_route){
                  .name = "fix", .path = "/fix", .status = 200, .body = "fixed"};
}

static struct client *tunnel_new(struct world *w) {
  struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
  struct plan *p = plan_new(w);
  p->prefix = "/ws";
  p->upgrade = true;
  p->status = 101;
  p->up_frame = FRAME_NONE;
  c->keep = true;
  c->tunnel_goal = 500;
  client_add(c, p);
  client_start(c);
  return c;
}

static void storm_clients(struct world *w) {
  for (uint32_t i = 0; i < 4; i++) {
    struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
    c->keep = true;
    for (uint32_t n = 0; n < 20; n++) {
      struct plan *p = plan_random(w);
      p->minor = 1;
      if (world_chance(w, 30)) p->prefix = "/x";
      client_add(c, p);
    }
    client_start(c);
  }
}

/* count_all is how many objects live. */
static uint32_t count_all(struct registry *r) {
  uint32_t n = 0;
  for (int kind = 0; kind < OBJECT_KIND_COUNT; kind++)
    n += registry_count(r, (enum object_kind)kind);
  return n;
}

static void storm(uint64_t seed) {
  struct world_conf conf;
  conf_turn(&conf, 0);
  struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), seed % 4 ? &soft : NULL,
                              &conf);
  storm_clients(w);
  struct client *tunnels[8];
  uint32_t tunnel_count = 0;
  uint64_t generations = 0;
  while (!world_clients_done(w)) {
    if (world_chance(w, 3) && w->old_count < 8) {
      conf_turn(&conf, world_draw(w, 64));
      world_install(w, &conf);
      generations++;
      if (tunnel_count < array_count(tunnels)) tunnels[tunnel_count++] = tunnel_new(w);
      for (uint32_t i = 0; i < tunnel_count; i++)
        if (tunnels[i]->tunnel_got == tunnels[i]->tunnel_goal)
          client_tunnel(tunnels[i], tunnels[i]->tunnel_goal + 300);
    }
    world_step(w);
    assert_true(w->steps < 600000);
  }
  assert_true(generations > 5);
  for (uint32_t i = 0; i < w->plan_count; i++) {
    const struct plan *p = &w->plans[i];
    if (p->outcome != (p->upgrade ? OUT_TUNNEL : OUT_OK)) wrong(w, p, "failed");
  }
  for (struct list *l = w->clients.next; l != &w->clients; l = l->next)
    assert_false(container_of(l, struct client, link)->closed);
  /* At rest there is one generation, and only its objects and what tunnels keep are alive. */
  conf_turn(&conf, 0);
  world_install(w, &conf);
  world_for(w, 200);
  world_retire(w, false);
  assert_int_equal(w->old_count, 0);
  (void)object_reap(w->registry);
  /* 2 routes and states, pool and state, 2 endpoints, listener and state; at most one old listener
   * for each tunnel, and the endpoint that it is connected to. */
  assert_true(count_all(w->registry) <= 4 + 2 + 2 + 2 + 2 * tunnel_count);
  for (uint32_t i = 0; i < tunnel_count; i++) assert_false(tunnels[i]->tunnel_ended);
  world_end(w);
}

static void reload_storm(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 120);) storm(seed);
}

/* ---- tunnels of what is removed ---- */

static bool tunnels_up(struct world *w) {
  for (struct list *l = w->clients.next; l != &w->clients; l = l->next) {
    struct client *c = container_of(l, struct client, link);
    if (c->tunnel_got < c->tunnel_goal) return false;
  }
  return true;
}

static void removed_routes_end_tunnels_after_drain(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    conf_turn(&conf, 0);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &soft, &conf);
    struct client *a = tunnel_new(w), *b = tunnel_new(w);
    world_run(w, tunnels_up, 100000);
    conf.routes[1] = (struct world_route){0};
    world_install(w, &conf);
    uint64_t start = sim_now_ms(w->sim);
    world_for(w, 4900); /* a step may leap to the deadline itself */
    for (uint32_t i = 0; i < w->plan_count; i++)
      if (w->plans[i].ended && sim_now_ms(w->sim) < start + 4990)
        wrong(w, &w->plans[i], "ended before the drain time");
    world_install(w, &conf); /* a second reload starts no new drain time */
    world_for(w, 400);
    assert_true(a->tunnel_ended && b->tunnel_ended);
    for (uint32_t i = 0; i < w->plan_count; i++)
      if (w->plans[i].end != END_DRAIN_TUNNEL) wrong(w, &w->plans[i], "end");
    world_end(w);
  }
}

static void tunnels_pass_data_and_end(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 150);) {
    struct world_conf conf;
    conf_turn(&conf, 0);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % 2), seed % 4 ? &soft : NULL, &conf);
    for (uint32_t i = 0; i < 3; i++) {
      struct client *c = tunnel_new(w);
      c->keep = false;
      c->tunnel_goal = 1 + world_draw(w, 100000);
      client_tunnel(c, c->tunnel_goal);
    }
    world_run(w, world_clients_done, 400000);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      if (p->outcome != OUT_TUNNEL || !p->ended || p->end != END_OK) wrong(w, p, "tunnel");
    }
    world_for(w, 5000);
    for (uint32_t i = 0; i < w->workers; i++)
      assert_int_equal(worker_stats(w->worker[i])->tunnels, 0);
    world_end(w);
  }
}

static void idle_tunnels_time_out(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct world_conf conf;
    conf_turn(&conf, 0);
    conf.timeouts.tunnel_ms = 20000;
    struct world *w = world_new(seed, 1, &soft, &conf);
    struct client *c = tunnel_new(w);
    world_run(w, tunnels_up, 100000);
    for (uint32_t i = 0; i < 3; i++) { /* a byte now and then keeps it */
      world_for(w, 15000);
      client_tunnel(c, c->tunnel_goal + 10);
      assert_false(c->tunnel_ended);
    }
    world_for(w, 22000);
    assert_true(c->tunnel_ended);
    assert_int_equal(w->plans[0].end, END_CLIENT_TIMEOUT_TUNNEL);
    world_end(w);
  }
}

/* A 101 that was not asked for, or for another protocol, opens nothing. */
static void unasked_switches_are_refused(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    conf_turn(&conf, 0);
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *c = client_new(w, 0);
    struct plan *p = plan_new(w);
    p->status = 101;
    p->up_frame = FRAME_NONE;
    client_add(c, p);
    client_start(c);
    world_run(w, world_clients_done, 100000);
    if (p->outcome != OUT_ANSWER || p->got_status != 502) wrong(w, p, "101");
    world_end(w);
  }
}

/* ---- listeners ---- */

/* The generation without the listener comes first, the order to close it some time later: requests
 * meanwhile get an answer or a clean end, never a crash; live ones end whole. */
static void a_listener_goes(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    conf_turn(&conf, 0);
    struct world *w = world_new(seed, 1, &soft, &conf);
    struct listener_state *removed = w->current->listeners[0].listener->state;
    object_ref(w->registry, &removed->obj);
    int fd = -1;
    for (uint32_t i = 0; i < 4; i++) {
      struct client *c = client_new(w, 0);
      for (uint32_t n = 0; n < 12; n++) client_add(c, plan_random(w));
      client_start(c);
    }
    struct client *tunnel = tunnel_new(w);
    for (uint64_t n = world_draw(w, 600); n > 0; n--) world_step(w);
    struct list *serving = w->worker[0]->servings.next;
    fd = container_of(serving, struct serving, link)->fd;
    conf.listeners[0] = "other";
    world_install(w, &conf);
    for (uint64_t n = world_draw(w, 200); n > 0; n--) world_step(w);
    world_post(w, 0, &(struct worker_msg){.kind = WORKER_UNLISTEN, .fd = fd, .state = removed});
    world_for(w, 40000);
    for (struct list *l = w->clients.next; l != &w->clients; l = l->next) {
      const struct client *c = container_of(l, struct client, link);
      if (!c->closed)
        fail_msg("seed %llu: a client of plan %u is still there, %u sent, %u done",
                 (unsigned long long)seed, c->plans[0], c->sent, c->got);
    }
    assert_true(tunnel->closed);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      if (p->outcome == OUT_CUT) wrong(w, p, "a live one was cut");
      if (p->up_bodies && p->outcome == OUT_LOST) wrong(w, p, "its response was lost");
    }
    object_unref(w->registry, &removed->obj);
    world_end(w);
  }
}

/* ---- pools ---- */

/* Streams that wait for a permit of a pool that a reload removes are served all the same. */
static void queued_on_a_removed_pool(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    conf_turn(&conf, 2);
    conf.pools[1].connections.max_per_endpoint = 1;
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &soft, &conf);
    for (uint32_t i = 0; i < 9; i++) {
      struct client *c = client_new(w, i % w->workers);
      struct plan *p = plan_new(w);
      p->prefix = "/x";
      client_add(c, p);
      client_start(c);
    }
    while (!worker_stats(w->worker[0])->queued && !world_clients_done(w)) world_step(w);
    conf_turn(&conf, 0);
    world_install(w, &conf);
    world_run(w, world_clients_done, 100000);
    for (uint32_t i = 0; i < w->plan_count; i++)
      if (w->plans[i].outcome != OUT_OK) wrong(w, &w->plans[i], "queued");
    assert_true(sim_now_ms(w->sim) < 1000000 + 4000);
    world_end(w);
  }
}

/* Idle connections of an endpoint that is removed go at once; those of the others stay. */
static void removed_endpoints_keep_nothing(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    conf_turn(&conf, 1);
    conf.pools[0].balance = BALANCE_ROUND_ROBIN;
    struct world *w = world_new(seed, 1, NULL, &conf);
    for (uint32_t i = 0; i < 9; i++) {
      struct client *c = client_new(w, 0);
      c->keep = true;
      client_add(c, plan_new(w));
      client_start(c);
    }
    world_run(w, world_clients_done, 100000);
    world_for(w, 50);
    uint32_t kept = w->origins[0].conn_count + w->origins[1].conn_count;
    assert_true(kept > 0 && w->origins[2].conn_count > 0);
    conf.pools[0].origins = 3;
    world_install(w, &conf);
    world_for(w, 50);
    assert_int_equal(w->origins[2].conn_count, 0);
    assert_int_equal(w->origins[0].conn_count + w->origins[1].conn_count, kept);
    world_end(w);
  }
}

/* ---- drain ---- */

static void post_drain(struct world *w, uint64_t deadline_ms) {
  for (uint32_t i = 0; i < w->workers; i++)
    world_post(w, i, &(struct worker_msg){.kind = WORKER_DRAIN, .deadline_ms = deadline_ms});
}

static bool all_stopped(struct world *w) {
  for (uint32_t i = 0; i < w->workers; i++)
    if (!worker_stopped(w->worker[i])) return false;
  return true;
}

/* Live requests end whole, connections in the accept queue are served once, nothing is cut. */
static void drain_lets_work_finish(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    conf_turn(&conf, 0);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &soft, &conf);
    for (uint32_t i = 0; i < 5; i++) {
      struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
      for (uint32_t n = 0; n < 8; n++) client_add(c, plan_random(w));
      client_start(c);
    }
    for (uint64_t n = world_draw(w, 500); n > 0; n--) world_step(w);
    uint32_t fresh = w->plan_count;
    for (uint32_t i = 0; i < 3; i++) { /* in the accept queue when the order comes */
      struct client *c = client_new(w, i % w->workers);
      client_add(c, plan_new(w));
      client_start(c);
    }
    post_drain(w, sim_now_ms(w->sim) + 30000);
    world_run(w, all_stopped, 200000);
    assert_true(sim_now_ms(w->sim) < 1000000 + 20000);
    world_run(w, world_clients_done, 10000);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      if (p->outcome == OUT_CUT) wrong(w, p, "cut");
      if (p->up_bodies && p->outcome != OUT_OK && !p->expect) wrong(w, p, "not answered");
      if (i >= fresh && p->outcome != OUT_OK) wrong(w, p, "was in the accept queue");
    }
    world_end(w);
  }
}

static void the_drain_deadline_ends_all(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    conf_turn(&conf, 0);
    struct world *w = world_new(seed, 1, &soft, &conf);
    struct client *tunnel = tunnel_new(w);
    world_run(w, tunnels_up, 100000);
    struct client *c = client_new(w, 0);
    struct plan *p = plan_new(w);
    p->stall = true;
    client_add(c, p);
    client_start(c);
    struct client *half = client_new(w, 0);
    struct plan *q = plan_new(w);
    q->stall_body = true;
    client_add(half, q);
    client_start(half);
    world_for(w, 500);
    uint64_t start = sim_now_ms(w->sim);
    post_drain(w, start + 5000);
    world_for(w, 4900);
    assert_false(all_stopped(w) && sim_now_ms(w->sim) < start + 4990);
    world_run(w, all_stopped, 100000);
    assert_true(sim_now_ms(w->sim) < start + 6500);
    world_for(w, 500);
    assert_true(world_clients_done(w));
    assert_int_equal(w->plans[0].end, END_DRAIN_TUNNEL);
    if (!tunnel->tunnel_ended) wrong(w, &w->plans[0], "is still there");
    if (p->end != END_DRAIN || p->outcome != OUT_ANSWER || p->got_status != 503)
      wrong(w, p, "stalled");
    if (q->end != END_DRAIN || q->outcome != OUT_CUT) wrong(w, q, "in its body");
    world_end(w);
  }
}

/* ---- all at once ---- */

/* Generations, caps, tunnels, resets, leaps of the clock and a drain in one world: whatever
 * clients get, it parses and is theirs, the books of the caps balance, and nothing is left at the
 * end. */
static void everything_at_once(void **state) {
  (void)state;
  static const struct sim_faults hard = {.short_read = 200,
                                         .short_write = 200,
                                         .delay = 200,
                                         .reorder = 300,
                                         .enobufs = 80,
                                         .reset = 5,
                                         .refuse = 100,
                                         .cancel_race = 400,
                                         .time_jump = 2};
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    conf_turn(&conf, 0);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &hard, &conf);
    storm_clients(w);
    for (uint64_t n = 200 + world_draw(w, 3000); n > 0; n--) {
      if (world_chance(w, 2) && w->old_count < 8) {
        conf_turn(&conf, world_draw(w, 64));
        conf.pools[0].connections.max_per_endpoint = (uint32_t)world_draw(w, 4);
        conf.pools[0].connections.queue_timeout_ms = 500;
        conf.pools[0].outlier = (struct pool_outlier){.consecutive_failures = 2,
                                                       .consecutive_5xx = 4,
                                                       .eject_ms = 300,
                                                       .max_eject_ms = 3000,
                                                       .max_ejected_percent = 50};
        world_install(w, &conf);
        if (w->plan_count < 100) (void)tunnel_new(w);
      }
      world_step(w);
    }
    if (seed % 2) {
      post_drain(w, sim_now_ms(w->sim) + 2000);
      world_run(w, all_stopped, 200000);
    }
    world_end(w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reload_storm),
      cmocka_unit_test(removed_routes_end_tunnels_after_drain),
      cmocka_unit_test(tunnels_pass_data_and_end),
      cmocka_unit_test(idle_tunnels_time_out),
      cmocka_unit_test(unasked_switches_are_refused),
      cmocka_unit_test(a_listener_goes),
      cmocka_unit_test(queued_on_a_removed_pool),
      cmocka_unit_test(removed_endpoints_keep_nothing),
      cmocka_unit_test(drain_lets_work_finish),
      cmocka_unit_test(the_drain_deadline_ends_all),
      cmocka_unit_test(everything_at_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
