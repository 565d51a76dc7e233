/* sim_io_progress.c: readers that take little at a time, for minutes. A send, a splice or a
 * finished response that still moves is never cut, however little the peer takes between two
 * looks; one that stands still is, in its time and with its word. The world's clock leaps to the
 * next timer when nothing is under way, so a reader's pause may be longer than it asked for by one
 * look. */
#include "io/sim_priv.h"
#include "proxy_world.h"

#define PAUSE_MS 4000u
#define SIP 2000u

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

static struct world *slow_world(uint64_t seed) {
  struct world_conf conf;
  world_conf_init(&conf);
  conf.pools[0].timeouts.first_byte_ms = 0; /* begins when the kernel has it */
  return world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
}

/* sipper reads SIP bytes whenever the test lets it. */
static struct client *sipper(struct world *w) {
  struct client *c = client_new(w, 0);
  c->window = SIP;
  c->stuck = true;
  return c;
}

static void sip(struct client *c, uint32_t pause_ms) {
  world_for(c->w, pause_ms);
  if (c->peer) sim_peer_window(c->peer, SIP);
}

static void sip_to_the_end(struct client *c, uint32_t most) {
  for (uint32_t i = 0; i < most && !c->closed; i++) sip(c, PAUSE_MS);
}

static void must_be_ok(const struct world *w, uint64_t seed, const struct plan *p) {
  if (p->outcome == OUT_OK && p->end == END_OK) return;
  fail_msg("seed %llu: plan %u: outcome %d got %llu of %u, end %s at %llu ms",
           (unsigned long long)seed, p->id, (int)p->outcome, (unsigned long long)p->got_body,
           p->up_len, p->ended ? end_get(p->end)->word.ptr : "(none)",
           (unsigned long long)sim_now_ms(w->sim));
}

static struct plan *big_response(struct world *w, uint64_t seed) {
  struct plan *p = plan_new(w);
  p->up_len = 150000 + (uint32_t)world_draw(w, 250000);
  p->up_frame = (uint8_t)(FRAME_LENGTH + seed % 3);
  p->minor = seed % 4 == 3 ? 0 : 1;
  p->up_close = p->up_frame == FRAME_CLOSE;
  return p;
}

static void steady_readers_get_all(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct world *w = slow_world(seed);
    struct client *c = sipper(w);
    struct plan *p = big_response(w, seed);
    client_add(c, p);
    client_start(c);
    sip_to_the_end(c, 500);
    must_be_ok(w, seed, p);
    world_end(w);
  }
}

static void readers_that_stop_are_cut(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct world *w = slow_world(seed);
    struct client *c = sipper(w);
    struct plan *p = big_response(w, seed);
    p->up_len = 1000000; /* more than a window and all buffers */
    client_add(c, p);
    client_start(c);
    for (uint32_t i = 0; i < 10 + seed % 7; i++) sip(c, PAUSE_MS);
    uint64_t last = sim_now_ms(w->sim);
    while (!p->ended && sim_now_ms(w->sim) < last + 200000) world_step(w);
    uint64_t after = sim_now_ms(w->sim) - last;
    if (p->end != END_CLIENT_TIMEOUT_SEND || after < 29900 || after > 35500)
      fail_msg("seed %llu: end %s after %llu ms", (unsigned long long)seed,
               p->ended ? end_get(p->end)->word.ptr : "(none)", (unsigned long long)after);
    world_end(w);
  }
}

/* More responses than may be pending: the next request waits for the reader, however slow. */
static void pipelines_are_not_cut(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world *w = slow_world(seed);
    struct client *c = sipper(w);
    c->pipeline = true;
    for (uint32_t i = 0; i < 50; i++) {
      struct plan *p = plan_new(w);
      p->up_len = 4000 + (uint32_t)world_draw(w, 8000);
      client_add(c, p);
    }
    client_start(c);
    sip_to_the_end(c, 800);
    for (uint32_t i = 0; i < w->plan_count; i++) must_be_ok(w, seed, &w->plans[i]);
    world_end(w);
  }
}

static void stuck_pipelines_are_cut_and_told(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world *w = slow_world(seed);
    struct client *c = sipper(w);
    c->pipeline = true;
    for (uint32_t i = 0; i < 60; i++) {
      struct plan *p = plan_new(w);
      p->up_len = 8000;
      client_add(c, p);
    }
    client_start(c);
    for (uint32_t i = 0; i < 5; i++) sip(c, PAUSE_MS);
    uint64_t last = sim_now_ms(w->sim);
    while (worker_conns(w->worker[0]) && sim_now_ms(w->sim) < last + 400000) world_step(w);
    assert_int_equal(worker_conns(w->worker[0]), 0);
    assert_int_equal(w->ends[END_CLIENT_TIMEOUT_SEND], 1);
    assert_true(sim_now_ms(w->sim) - last >= 29900 && sim_now_ms(w->sim) - last < 62000);
    c->stuck = false;
    client_tick(c);
    world_run(w, world_clients_done, 200000);
    world_end(w);
  }
}

/* What a closing connection still has to send goes out as long as it moves. */
static void last_responses_are_not_cut(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct world *w = slow_world(seed);
    struct client *c = sipper(w);
    struct plan *p = big_response(w, seed);
    p->up_len = 60000 + (uint32_t)world_draw(w, 20000);
    p->close = true;
    client_add(c, p);
    client_start(c);
    sip_to_the_end(c, 200);
    must_be_ok(w, seed, p);
    world_end(w);
  }
}

/* The idle time of a connection ends it, not the output that its client has yet to read. */
static void idle_ends_no_output(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct world *w = slow_world(seed);
    struct client *c = sipper(w);
    struct plan *p = big_response(w, 1); /* chunked: the last of it waits in the output */
    c->keep = true;
    p->minor = 1;
    p->up_frame = FRAME_CHUNKED;
    p->up_close = false;
    p->up_len = 400000;
    client_add(c, p);
    client_start(c);
    for (uint32_t i = 0; i < 400 && p->got_body < p->up_len; i++) sip(c, PAUSE_MS);
    must_be_ok(w, seed, p);
    world_end(w);
  }
}

/* slow_servers lets every peer but the clients read a little. */
static void slow_servers(struct world *w, size_t bytes) {
  for (struct list *l = w->sim->peers.next; l != &w->sim->peers; l = l->next) {
    struct sim_peer *p = container_of(l, struct sim_peer, link);
    bool client = false;
    for (struct list *k = w->clients.next; k != &w->clients; k = k->next)
      client |= container_of(k, struct client, link)->peer == p;
    if (!client) sim_peer_window(p, bytes);
  }
}

static void uploads_to_steady_endpoints_go_through(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world *w = slow_world(seed);
    w->origins[0].window = w->origins[1].window = SIP;
    struct client *c = client_new(w, 0);
    struct plan *p = plan_new(w);
    p->method = "POST";
    p->frame = (uint8_t)(FRAME_LENGTH + seed % 2);
    p->len = 250000;
    client_add(c, p);
    client_start(c);
    for (uint32_t i = 0; i < 300 && p->up_bodies == 0; i++) {
      world_for(w, 2 * PAUSE_MS);
      slow_servers(w, SIP);
    }
    slow_servers(w, SIZE_MAX);
    world_run(w, world_clients_done, 200000);
    must_be_ok(w, seed, p);
    world_end(w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steady_readers_get_all),
      cmocka_unit_test(readers_that_stop_are_cut),
      cmocka_unit_test(pipelines_are_not_cut),
      cmocka_unit_test(stuck_pipelines_are_cut_and_told),
      cmocka_unit_test(last_responses_are_not_cut),
      cmocka_unit_test(idle_ends_no_output),
      cmocka_unit_test(uploads_to_steady_endpoints_go_through),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
