/* sim_io_relay.c: relays under the simulation: a proxy of length-prefixed messages (head by
 * on_data, body by relay_start, both ways, connections kept) and of tunnels, between scripted
 * clients and servers, with every fault, for many seeds; at random moments the proxy gives a pair
 * up. What each side gets must be what was sent, whole when nothing broke; nothing may leak; the
 * world must come to rest by itself. WEIR_SEED runs one seed, WEIR_SEEDS so many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "weir/base/hash.h"
#include "weir/base/mem.h"
#include "weir/io/conn.h"
#include "weir/io/relay.h"
#include "weir/io/sim.h"

#define CLIENTS_MAX 6
#define STEPS_MAX 3000000u
#define TUNNELS_TO 3000u
#define HEAD 8u
/* LITTLE memory for iobufs: bodies wait for each other in every fourth world. */
#define LITTLE ((size_t)440 * 1024)

struct pair;
struct world {
  struct sim *sim;
  struct loop *loop;
  struct conn *listener;
  struct addr front, back;
  uint64_t seed;
  bool faulty; /* connections may break or be refused, pairs may be given up */
  bool tunnel;
  uint32_t pairs, ended, servers;
};

/* way is one direction of a pair. */
struct way {
  struct pair *pair;
  struct conn *src, *dst;
  struct relay relay;
  bool eof, done;
};

/* pair is the owner of two conns: client and upstream. */
struct pair {
  struct world *world;
  struct conn *client, *upstream;
  struct way up, down;
  bool open;
  bool lasts; /* one side broke, and what it said before goes on */
};

/* talker is a scripted end: sends messages, checks what comes. */
struct talker {
  struct world *world;
  struct sim_peer *peer;
  bool server;
  uint32_t to_send, sent, received; /* messages */
  uint64_t seed;                    /* of the contents */
  uint64_t left;                    /* of the body that comes */
  uint64_t at;                      /* position in it */
  char head[HEAD];
  size_t head_len;
  bool closed, reset, finished;
};

static uint64_t lasted; /* tunnels whose one side broke first, in all worlds */

/* --- the proxy --- */

static void pair_end(struct pair *p, bool hard) {
  struct conn *client = p->client, *upstream = p->upstream;
  p->world->ended++;
  if (hard)
    conn_reset(client);
  else
    conn_close_gently(client, 1000000000);
  conn_close(upstream);
  mem_free(p);
}

static struct way *way_from(struct pair *p, const struct conn *c) {
  return c == p->client ? &p->up : &p->down;
}

static void on_relay_end(struct relay *r, enum relay_end why, int err) {
  struct way *w = r->owner;
  struct pair *p = w->pair;
  struct world *world = p->world;
  if (relay_lasts(w == &p->up ? &p->down.relay : &p->up.relay)) {
    assert_int_equal(why, RELAY_DST_ERROR);
    assert_false(p->lasts);
    p->lasts = true;
    return;
  }
  if (p->lasts) {
    assert_int_equal(why, RELAY_SRC_ERROR);
    assert_true(err < 0);
    lasted++;
  }
  if (why == RELAY_DONE) {
    assert_int_equal(r->left, 0);
    conn_read_start(w->src); /* the next head */
    return;
  }
  if (why == RELAY_SRC_EOF && world->tunnel) {
    w->done = true;
    conn_finish(w->dst);
    if (p->up.done && p->down.done) pair_end(p, false);
    return;
  }
  if (!world->faulty) fail_msg("seed %lu: relay ended with %d %d", world->seed, why, err);
  pair_end(p, why == RELAY_SRC_EOF || why == RELAY_SRC_ERROR);
}

/* maybe_give_up ends a pair at a random moment. */
static bool maybe_give_up(struct pair *p) {
  if (!p->world->faulty || sim_draw(p->world->sim, 300) != 0) return false;
  pair_end(p, sim_draw(p->world->sim, 2) == 0);
  return true;
}

static uint64_t get_len(const char *head) {
  uint64_t len;
  memcpy(&len, head, HEAD);
  return len;
}

static size_t on_data(struct conn *c, struct span bytes) {
  struct pair *p = c->owner;
  struct way *w = way_from(p, c);
  if (bytes.len < HEAD) {
    conn_read_start(c); /* come again with more */
    return 0;
  }
  if (maybe_give_up(p)) return bytes.len;
  uint64_t len = get_len(bytes.ptr);
  if (!conn_write(w->dst, span_sub(bytes, 0, HEAD))) return 0;
  size_t inline_len = 0;
  if (sim_draw(p->world->sim, 2) == 0) { /* a part of the body goes with the head */
    struct span body = span_sub(bytes, HEAD, len < 4096 ? (size_t)len : 4096);
    if (conn_write(w->dst, body)) inline_len = body.len;
  }
  w->relay.owner = w;
  relay_start(&w->relay, c, w->dst, len - inline_len, on_relay_end);
  return HEAD + inline_len;
}

static void on_eof(struct conn *c) {
  struct pair *p = c->owner;
  if (p->lasts) return;
  struct way *w = way_from(p, c);
  assert_false(w->eof);
  w->eof = true;
  if (!p->world->faulty) {
    assert_int_equal(conn_held(c), 0);
    assert_true(c == p->client);
  }
  pair_end(p, false);
}
static void on_error(struct conn *c, int err) {
  struct pair *p = c->owner;
  if (!p->world->faulty) fail_msg("seed %lu: error %d", p->world->seed, err);
  pair_end(p, c == p->upstream);
}
static void on_timer(struct conn *c) { (void)c; }

static void start_tunnel(struct way *w) {
  w->relay.owner = w;
  relay_start(&w->relay, w->src, w->dst, UINT64_MAX, on_relay_end);
  if (w->pair->world->seed % 4) relay_watch(&w->relay, 2500);
}

static void on_open(struct conn *c, int err) {
  struct pair *p = c->owner;
  if (err) {
    assert_true(p->world->faulty);
    pair_end(p, true);
    return;
  }
  p->open = true;
  if (p->world->tunnel) {
    start_tunnel(&p->up);
    start_tunnel(&p->down);
    return;
  }
  conn_read_start(p->client);
  conn_read_start(p->upstream);
}
static const struct conn_events events = {.on_open = on_open,
                                          .on_data = on_data,
                                          .on_eof = on_eof,
                                          .on_error = on_error,
                                          .on_timer = on_timer};

static void on_accept(struct conn *listener, struct conn *c) {
  struct world *w = listener->owner;
  struct pair *p = mem_alloc(sizeof(*p));
  int err;
  p->world = w;
  w->pairs++;
  p->client = c;
  conn_attach(c, &events, p);
  p->upstream = conn_connect(w->loop, &w->back, &events, p, &err);
  assert_non_null(p->upstream);
  p->up = (struct way){.pair = p, .src = c, .dst = p->upstream};
  p->down = (struct way){.pair = p, .src = p->upstream, .dst = c};
  if (sim_draw(w->sim, 2) == 0) conn_watch(c);
}

static uint64_t waits; /* for memory, in all worlds */

/* --- the scripted ends --- */

static char byte_of(uint64_t seed, uint64_t message, uint64_t at) {
  return (char)(seed * 31 + message * 7 + at + (at >> 10));
}

static void say(struct talker *t) {
  uint64_t len = sim_draw(t->world->sim, 3) == 0 ? sim_draw(t->world->sim, 200000)
                                                 : sim_draw(t->world->sim, 3000);
  char *message = mem_alloc(HEAD + len);
  memcpy(message, &len, HEAD);
  for (uint64_t i = 0; i < len; i++) message[HEAD + i] = byte_of(t->seed, t->sent, i);
  sim_peer_write(t->peer, span_of(message, HEAD + len));
  mem_free(message);
  t->sent++;
}

static void talk_data(struct sim_peer *peer, struct span bytes, void *ctx) {
  struct talker *t = ctx;
  (void)peer;
  for (size_t i = 0; i < bytes.len; i++) {
    if (t->head_len < HEAD) {
      t->head[t->head_len++] = bytes.ptr[i];
      if (t->head_len < HEAD) continue;
      t->left = get_len(t->head);
      assert_true(t->left < 200000);
      t->at = 0;
    } else {
      assert_int_equal(bytes.ptr[i], byte_of(t->seed ^ 1, t->received, t->at++));
      t->left--;
    }
    if (t->left > 0) continue;
    t->received++;
    t->head_len = 0;
    if (t->server) say(t); /* an answer for each */
  }
}
static void talk_close(struct sim_peer *peer, bool reset, void *ctx) {
  struct talker *t = ctx;
  (void)peer;
  t->closed = true;
  t->reset = reset;
  if (t->server) sim_peer_shutdown(t->peer);
}

/* Servers free themselves with the world; contents are keyed by the pair's number. */
static struct talker servers[CLIENTS_MAX * 4];

static void on_server(struct sim_peer *peer, void *ctx) {
  struct world *w = ctx;
  struct talker *t = &servers[w->servers++];
  assert_true(w->servers <= array_count(servers));
  *t = (struct talker){.world = w, .peer = peer, .server = true, .seed = 3};
  sim_peer_on_data(peer, talk_data, talk_close, t);
}

static struct sim_faults faults_of(uint64_t seed, bool faulty) {
  struct sim_faults f = {0};
  uint64_t rng = seed ^ 0xfeed;
  if (seed % 5 == 0) return f;
  f.short_read = (uint16_t)(rng_next(&rng) % 400);
  f.short_write = (uint16_t)(rng_next(&rng) % 400);
  f.delay = (uint16_t)(rng_next(&rng) % 200);
  f.reorder = (uint16_t)(rng_next(&rng) % 1000);
  f.enobufs = (uint16_t)(rng_next(&rng) % 200);
  f.cancel_race = (uint16_t)(rng_next(&rng) % 1000);
  if (!faulty) return f;
  f.reset = (uint16_t)(rng_next(&rng) % 4);
  f.refuse = (uint16_t)(rng_next(&rng) % 100);
  f.time_jump = (uint16_t)(rng_next(&rng) % 3);
  return f;
}

static void world_init(struct world *w, uint64_t seed) {
  *w = (struct world){.seed = seed, .faulty = seed % 3 == 0, .tunnel = seed % 7 == 0};
  struct sim_faults faults = faults_of(seed, w->faulty);
  w->sim = sim_new(seed, &faults);
  assert_true(addr_parse(SPAN_LIT("127.0.0.1:1"), &w->front));
  assert_true(addr_parse(SPAN_LIT("127.0.0.1:2"), &w->back));
  const struct loop_config config = {
      .conns_max = 64, .seed = seed, .iobuf_bytes_max = seed % 4 == 1 ? LITTLE : 0};
  w->loop = sim_loop_new(w->sim, &config);
  w->listener = conn_listen(w->loop, sim_listen_fd(w->sim, &w->front), on_accept, w);
  assert_non_null(w->listener);
  sim_peer_listen(w->sim, &w->back, on_server, w);
}

/* A client that is done sends its FIN when all answers are there. */
static void act(struct world *w, struct talker *t) {
  uint64_t what = sim_draw(w->sim, 20);
  if (what == 0) sim_peer_window(t->peer, sim_draw(w->sim, 100000));
  if (what == 1) sim_peer_window(t->peer, SIZE_MAX);
  if (what < 8 && t->sent < t->to_send && !t->closed) say(t);
  if (t->received == t->to_send && !t->finished) {
    sim_peer_shutdown(t->peer);
    t->finished = true;
  }
}

static void drive(struct world *w, struct talker *clients, uint32_t count) {
  for (uint32_t i = 0; i < 200 * count; i++) {
    act(w, &clients[sim_draw(w->sim, count)]);
    (void)sim_run(w->sim, sim_draw(w->sim, 8));
  }
  for (uint32_t round = 0; round < 2; round++) {
    for (uint32_t i = 0; i < count; i++) {
      sim_peer_window(clients[i].peer, SIZE_MAX);
      while (!clients[i].closed && clients[i].sent < clients[i].to_send) say(&clients[i]);
    }
    if (sim_run(w->sim, STEPS_MAX) == STEPS_MAX) fail_msg("seed %lu: no rest", w->seed);
    for (uint32_t i = 0; i < count; i++) {
      if (!clients[i].finished) sim_peer_shutdown(clients[i].peer);
      clients[i].finished = true;
    }
  }
}

static void check_client(const struct world *w, const struct talker *t) {
  if (!t->closed) fail_msg("seed %lu: a client never ended", w->seed);
  if (w->faulty) return;
  assert_false(t->reset);
  assert_int_equal(t->received, t->to_send);
  assert_int_equal(t->head_len, 0);
}

static void world_fini(struct world *w) {
  conn_close(w->listener);
  sim_peer_unlisten(w->sim, &w->back);
  (void)sim_run(w->sim, STEPS_MAX);
  if (w->pairs != w->ended) fail_msg("seed %lu: a pair never ended", w->seed);
  assert_int_equal(w->loop->conns.live, 0);
  assert_int_equal(w->loop->iobufs.bytes_out, 0);
  assert_true(list_empty(&w->loop->parked));
  waits += w->loop->stats.memory_waits;
  assert_int_equal(sim_fds_open(w->sim), 0);
  loop_free(w->loop);
  sim_free(w->sim);
}

static void one_seed(uint64_t seed) {
  struct world w;
  world_init(&w, seed);
  struct talker clients[CLIENTS_MAX];
  uint32_t count = 1 + (uint32_t)sim_draw(w.sim, CLIENTS_MAX);
  for (uint32_t i = 0; i < count; i++) {
    clients[i] =
        (struct talker){.world = &w, .seed = 2, .to_send = 1 + (uint32_t)sim_draw(w.sim, 12)};
    clients[i].peer = sim_peer_connect(w.sim, &w.front);
    sim_peer_on_data(clients[i].peer, talk_data, talk_close, &clients[i]);
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
  uint64_t count = one ? 1 : many ? strtoull(many, NULL, 10) : 300;
  for (uint64_t seed = from; seed < from + count; seed++) {
    if (getenv("WEIR_VERBOSE")) fprintf(stderr, "seed %lu\n", seed);
    one_seed(seed);
  }
  if (one) return;
  assert_true(waits > 0);
  for (uint64_t seed = from + count; seed < TUNNELS_TO; seed++)
    if (seed % 21 == 0) one_seed(seed); /* tunnels with faults, which are few */
  assert_true(lasted > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(many_seeds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
