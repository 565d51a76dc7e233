/* sim_io_echo.c: the loop and conns under the simulation: an echo server whose owner consumes in
 * pieces, stops and starts, against scripted clients, with every fault, for many seeds. What comes
 * back must be a prefix of what was sent, all of it when nothing was reset; nothing may leak; the
 * world must come to rest by itself. WEIR_SEED runs one seed, WEIR_SEEDS so many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "weir/base/hash.h"
#include "weir/base/mem.h"
#include "weir/io/conn.h"
#include "weir/io/sim.h"

#define CLIENTS_MAX 12
#define STEPS_MAX 2000000u

struct world {
  struct sim *sim;
  struct loop *loops[2];
  struct conn *listeners[2];
  struct addr at[2];
  uint64_t seed;
  bool resets; /* may break what is promised otherwise */
  uint32_t owners, ended;
};

struct owner {
  struct world *world;
  struct conn *c;
  bool eof;
};

struct client {
  struct world *world;
  struct sim_peer *peer;
  uint32_t id;
  size_t total, sent, got;
  bool closed, reset, quits;
};

static char byte_of(uint32_t id, size_t at) { return (char)(id * 77 + at * 13 + (at >> 9)); }

static void owner_free(struct owner *o) {
  o->world->ended++;
  mem_free(o);
}

static void owner_go(struct owner *o) {
  struct conn *c = o->c;
  if (o->eof && conn_held(c) == 0) {
    owner_free(o);
    conn_close_gently(c, 1000000000); /* a client may stall for long */
    return;
  }
  conn_read_start(c);
}

static size_t on_data(struct conn *c, struct span bytes) {
  struct owner *o = c->owner;
  struct sim *sim = o->world->sim;
  size_t n = bytes.len;
  if (sim_draw(sim, 4) == 0) n = sim_draw(sim, n + 1);
  if (n > 0 && !conn_write(c, span_sub(bytes, 0, n))) n = 0;
  /* whatever is left over is asked for by the timer or when the output is gone */
  conn_timer(c, c->loop->now_ms + 1 + sim_draw(sim, 50));
  uint64_t what = sim_draw(sim, 6);
  if (what == 0) conn_read_stop(c);
  if (what == 1) conn_watch(c);
  if (what == 2) conn_read_start(c);
  if (what == 3) conn_read_bulk(c, sim_draw(sim, 2) == 0);
  if (conn_pending(c) > 100000) conn_read_stop(c);
  return n;
}

static void on_eof(struct conn *c) {
  struct owner *o = c->owner;
  assert_false(o->eof);
  o->eof = true;
  conn_timer(c, c->loop->now_ms + 1);
}
static void on_error(struct conn *c, int err) {
  struct owner *o = c->owner;
  assert_true(o->world->resets);
  assert_true(err < 0);
  if (sim_draw(o->world->sim, 2) == 0)
    conn_close(c);
  else
    conn_close_gently(c, 100);
  owner_free(o);
}
static void on_drained(struct conn *c) { owner_go(c->owner); }
static void on_timer(struct conn *c) {
  struct owner *o = c->owner;
  if (o->eof || conn_pending(c) < 100000) owner_go(o);
}
static const struct conn_events events = {.on_data = on_data,
                                          .on_eof = on_eof,
                                          .on_error = on_error,
                                          .on_drained = on_drained,
                                          .on_timer = on_timer};

static void on_accept(struct conn *listener, struct conn *c) {
  struct owner *o = mem_alloc(sizeof(*o));
  o->world = listener->owner;
  o->world->owners++;
  o->c = c;
  conn_attach(c, &events, o);
  if (sim_draw(o->world->sim, 2) == 0)
    conn_read_start(c);
  else
    conn_watch(c);
  conn_timer(c, c->loop->now_ms + 100);
}

static void client_write(struct client *k) {
  char piece[3000];
  size_t n = 1 + sim_draw(k->world->sim, sizeof(piece));
  if (n > k->total - k->sent) n = k->total - k->sent;
  for (size_t i = 0; i < n; i++) piece[i] = byte_of(k->id, k->sent + i);
  sim_peer_write(k->peer, span_of(piece, n));
  k->sent += n;
  if (k->sent == k->total) sim_peer_shutdown(k->peer);
}

static void client_data(struct sim_peer *p, struct span bytes, void *ctx) {
  struct client *k = ctx;
  (void)p;
  for (size_t i = 0; i < bytes.len; i++)
    assert_int_equal(bytes.ptr[i], byte_of(k->id, k->got + i));
  k->got += bytes.len;
  assert_true(k->got <= k->sent);
  if (k->sent < k->total && sim_draw(k->world->sim, 3) == 0) client_write(k);
}
static void client_close(struct sim_peer *p, bool reset, void *ctx) {
  struct client *k = ctx;
  (void)p;
  k->closed = true;
  k->reset = reset;
}

static struct sim_faults faults_of(uint64_t seed, bool resets) {
  struct sim_faults f = {0};
  uint64_t rng = seed ^ 0x5eed;
  if (seed % 4 == 0) return f; /* a quarter without any */
  f.short_read = (uint16_t)(rng_next(&rng) % 400);
  f.short_write = (uint16_t)(rng_next(&rng) % 400);
  f.delay = (uint16_t)(rng_next(&rng) % 200);
  f.reorder = (uint16_t)(rng_next(&rng) % 1000);
  f.enobufs = (uint16_t)(rng_next(&rng) % 200);
  f.cancel_race = (uint16_t)(rng_next(&rng) % 1000);
  if (!resets) return f;
  f.reset = (uint16_t)(rng_next(&rng) % 8);
  f.time_jump = (uint16_t)(rng_next(&rng) % 3); /* ends conns that send or linger for too long */
  return f;
}

static void world_init(struct world *w, uint64_t seed) {
  *w = (struct world){.seed = seed, .resets = seed % 3 == 0};
  struct sim_faults faults = faults_of(seed, w->resets);
  w->sim = sim_new(seed, &faults);
  static const char *const where[] = {"127.0.0.1:1", "127.0.0.1:2"};
  const struct loop_config config = {.conns_max = 64, .seed = seed};
  for (int i = 0; i < 2; i++) {
    assert_true(addr_parse(span_str(where[i]), &w->at[i]));
    w->loops[i] = sim_loop_new(w->sim, &config);
    int fd = sim_listen_fd(w->sim, &w->at[i]);
    w->listeners[i] = conn_listen(w->loops[i], fd, on_accept, w);
    assert_non_null(w->listeners[i]);
  }
}

static void act(struct world *w, struct client *k) {
  uint64_t what = sim_draw(w->sim, 40);
  if (what == 0) sim_peer_window(k->peer, sim_draw(w->sim, 5000));
  if (what == 1) sim_peer_window(k->peer, SIZE_MAX);
  if (what < 20 && k->sent < k->total) client_write(k);
  if (what == 39 && k->quits) {
    w->resets = true; /* what this one sent may be answered by a reset */
    sim_peer_reset(k->peer);
    k->closed = k->reset = true;
  }
}

/* drive lets clients act at random times, then leaves the world alone until it rests. */
static void drive(struct world *w, struct client *clients, uint32_t count) {
  for (uint32_t i = 0; i < 400 * count; i++) {
    act(w, &clients[sim_draw(w->sim, count)]);
    (void)sim_run(w->sim, sim_draw(w->sim, 6));
  }
  for (uint32_t i = 0; i < count; i++) {
    sim_peer_window(clients[i].peer, SIZE_MAX);
    while (!clients[i].closed && clients[i].sent < clients[i].total) client_write(&clients[i]);
  }
  if (sim_run(w->sim, STEPS_MAX) == STEPS_MAX) fail_msg("seed %lu: no rest", w->seed);
}

static void check_client(const struct world *w, const struct client *k) {
  if (!k->closed) fail_msg("seed %lu: client %u never ended", w->seed, k->id);
  if (w->resets) return;
  assert_false(k->reset);
  assert_int_equal(k->got, k->total);
}

static void world_fini(struct world *w) {
  for (int i = 0; i < 2; i++) conn_close(w->listeners[i]);
  (void)sim_run(w->sim, STEPS_MAX);
  assert_int_equal(w->owners, w->ended);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(w->loops[i]->conns.live, 0);
    assert_int_equal(w->loops[i]->iobufs.bytes_out, 0);
  }
  assert_int_equal(sim_fds_open(w->sim), 0);
  for (int i = 0; i < 2; i++) loop_free(w->loops[i]);
  sim_free(w->sim);
}

static void one_seed(uint64_t seed) {
  struct world w;
  world_init(&w, seed);
  struct client clients[CLIENTS_MAX];
  uint32_t count = 1 + (uint32_t)sim_draw(w.sim, CLIENTS_MAX);
  for (uint32_t i = 0; i < count; i++) {
    clients[i] = (struct client){.world = &w,
                                 .id = i,
                                 .total = 1 + sim_draw(w.sim, i % 3 ? 5000 : 300000),
                                 .quits = w.resets && i % 4 == 0};
    clients[i].peer = sim_peer_connect(w.sim, &w.at[i % 2]);
    sim_peer_on_data(clients[i].peer, client_data, client_close, &clients[i]);
  }
  drive(&w, clients, count);
  for (uint32_t i = 0; i < count; i++) check_client(&w, &clients[i]);
  for (uint32_t i = 0; i < count; i++) sim_peer_free(clients[i].peer);
  (void)sim_run(w.sim, STEPS_MAX);
  world_fini(&w);
}

static void many_seeds(void **state) {
  (void)state;
  const char *one = getenv("WEIR_SEED");
  const char *many = getenv("WEIR_SEEDS");
  uint64_t from = one ? strtoull(one, NULL, 10) : 1;
  uint64_t count = one ? 1 : many ? strtoull(many, NULL, 10) : 400;
  for (uint64_t seed = from; seed < from + count; seed++) {
    if (getenv("WEIR_VERBOSE")) fprintf(stderr, "seed %lu\n", seed);
    one_seed(seed);
  }
}

/* The same seed gives the same run. */
static void is_deterministic(void **state) {
  (void)state;
  uint64_t at[2];
  for (int i = 0; i < 2; i++) {
    struct world w;
    world_init(&w, 77);
    struct client k = {.world = &w, .total = 100000};
    k.peer = sim_peer_connect(w.sim, &w.at[0]);
    sim_peer_on_data(k.peer, client_data, client_close, &k);
    drive(&w, &k, 1);
    at[i] = sim_draw(w.sim, UINT64_MAX);
    sim_peer_free(k.peer);
    (void)sim_run(w.sim, STEPS_MAX);
    world_fini(&w);
  }
  assert_int_equal(at[0], at[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(many_seeds),
      cmocka_unit_test(is_deterministic),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
