/* sim_proxy_udp.c: sessions of UDP in the simulated world: what an origin answers reaches the
 * client that asked and nobody else, each datagram once, through reloads, endpoints that come and
 * go, a full table, forged sources and drains; nothing is left behind. Origins echo; a datagram
 * names its client and its number. */
#include <stdio.h>
#include <string.h>

#include "proxy_world.h"
#include "weir/io/udp.h"

enum { CLIENTS = 12, NUMBERS = 64, FORGED = 200 };

struct asker {
  struct world *w;
  uint32_t id, sent, got;
  struct addr at, to;
  bool seen[NUMBERS];
};

struct scene {
  struct world *w;
  struct asker askers[CLIENTS];
  struct addr ports[SIM_WORKERS];
  int fds[SIM_WORKERS];
  bool origin_gone[SIM_ORIGINS];
  struct listener_state *state;
};

static const struct sim_faults soft = {.delay = 150, .reorder = 300, .enobufs = 50};
static const struct sim_faults slow = {.delay = 150, .reorder = 300};
static const struct sim_faults hard = {.short_write = 50, /* sends that find no room */
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .reset = 30, /* lost */
                                       .refuse = 20};

static uint32_t word_at(struct span bytes, size_t at) {
  uint32_t v;
  memcpy(&v, bytes.ptr + at, sizeof v);
  return v;
}

static char filler(uint32_t id, uint32_t number, size_t at) {
  return (char)(id * 31 + number * 7 + at);
}

static void hear(struct sim *sim, const struct addr *from, struct span bytes, void *ctx) {
  struct asker *a = ctx;
  (void)sim;
  if (!addr_eq(from, &a->to)) world_fault(a->w, "client %u: an answer from elsewhere", a->id);
  if (!bytes.len) return;
  if (bytes.len < 8 || word_at(bytes, 0) != a->id) {
    world_fault(a->w, "client %u has another's answer", a->id);
    return;
  }
  uint32_t number = word_at(bytes, 4);
  if (number >= a->sent || a->seen[number]) {
    world_fault(a->w, "client %u: number %u again", a->id, number);
    return;
  }
  for (size_t i = 8; i < bytes.len; i++)
    if (bytes.ptr[i] != filler(a->id, number, i)) world_fault(a->w, "client %u: changed", a->id);
  a->seen[number] = true;
  a->got++;
}

static void ask(struct asker *a) {
  static char bytes[UDP_BYTES_MAX];
  struct world *w = a->w;
  uint32_t number = a->sent++;
  size_t len = world_chance(w, 10) ? sizeof bytes : 8 + world_draw(w, 1500);
  memcpy(bytes, &a->id, 4);
  memcpy(bytes + 4, &number, 4);
  for (size_t i = 8; i < len; i++) bytes[i] = filler(a->id, number, i);
  sim_udp_send(w->sim, &a->at, &a->to, span_of(bytes, len));
}

static void echo(struct sim *sim, const struct addr *from, struct span bytes, void *ctx) {
  sim_udp_send(sim, ctx, from, bytes);
}

static void listen_all(struct scene *s) {
  for (uint32_t i = 0; i < s->w->workers; i++) {
    char text[32];
    (void)snprintf(text, sizeof text, "127.0.0.1:53%02u", i);
    s->ports[i] = world_addr(text);
    s->fds[i] = sim_udp_fd(s->w->sim, &s->ports[i]);
    struct worker_msg msg = {.kind = WORKER_LISTEN, .fd = s->fds[i], .datagrams = true};
    msg.state = s->state;
    world_post(s->w, i, &msg);
  }
}

static void conf_init(struct world_conf *conf, uint64_t seed) {
  world_conf_init(conf);
  conf->udp = "app";
  conf->pools[0].origins = 15;
  conf->pools[0].balance = (uint8_t)(seed % BALANCE_COUNT);
  conf->pools[0].spread.hash.source = HASH_CLIENT;
  conf->limits.sessions = 1000;
  conf->timeouts.idle_ms = 60000;
  conf->udp_settings.balance = seed % 2 ? UDP_BY_SESSION : UDP_BY_DATAGRAM;
}

static void scene_begin(struct scene *s, uint64_t seed, const struct sim_faults *faults,
                        const struct world_conf *conf) {
  *s = (struct scene){.w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), faults, conf)};
  struct world *w = s->w;
  s->state = snapshot_find_listener(w->current, SPAN_LIT("dns"))->listener->state;
  for (uint32_t i = 0; i < SIM_ORIGINS; i++)
    sim_udp_peer(w->sim, &w->origins[i].at, echo, &w->origins[i].at);
  listen_all(s);
  for (uint32_t i = 0; i < CLIENTS; i++) {
    char text[32];
    (void)snprintf(text, sizeof text, "198.51.100.%u:%u", i / 3 + 1, 1000 + i);
    s->askers[i] = (struct asker){
        .w = w, .id = i, .at = world_addr(text), .to = s->ports[i % w->workers]};
    sim_udp_peer(w->sim, &s->askers[i].at, hear, &s->askers[i]);
  }
  world_for(w, 50); /* they listen */
}

/* SUM of a counter over all workers. */
#define SUM(s, field) \
  ({ \
    uint64_t sum_ = 0; \
    for (uint32_t i_ = 0; i_ < (s)->w->workers; i_++) \
      sum_ += loop_stat_get(&(s)->w->worker[i_]->stats.field); \
    sum_; \
  })

static void all_ask(struct scene *s, uint32_t times) {
  for (uint32_t n = 0; n < times; n++) {
    struct asker *a = &s->askers[world_draw(s->w, CLIENTS)];
    if (a->sent < NUMBERS) ask(a);
    for (uint64_t k = world_draw(s->w, 30); k > 0; k--) world_step(s->w);
  }
}

static void scene_end(struct scene *s) {
  struct world *w = s->w;
  check(SUM(s, udp_sessions) == atomic_load(&s->state->sessions));
  world_end(w);
}

/* Descriptors run out at times (enobufs): somebody makes room, and his answers are lost. */
static void all_answered(struct scene *s, uint64_t seed) {
  uint64_t lost = SUM(s, udp_refused) + SUM(s, udp_unsent) + SUM(s, udp_evicted);
  for (uint32_t i = 0; i < CLIENTS && !lost; i++)
    if (s->askers[i].got != s->askers[i].sent)
      fail_msg("seed %llu: client %u: %u of %u", (unsigned long long)seed, i, s->askers[i].got,
               s->askers[i].sent);
}

/* Nothing is lost by the network: every datagram is answered, once, and sessions end by idling. */
static void answers(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 150);) {
    struct scene s;
    struct world_conf conf;
    conf_init(&conf, seed);
    scene_begin(&s, seed, seed % 4 ? &soft : NULL, &conf);
    all_ask(&s, 200);
    world_for(s.w, 3000);
    all_answered(&s, seed);
    world_for(s.w, 62000);
    assert_int_equal(SUM(&s, udp_sessions), 0);
    assert_int_equal(atomic_load(&s.state->sessions), 0);
    scene_end(&s);
  }
}

/* change makes another generation: other origins, times, ways to balance. */
static void change(struct scene *s, struct world_conf *conf) {
  struct world *w = s->w;
  conf->pools[0].origins = 1 + (uint32_t)world_draw(w, 15);
  conf->timeouts.idle_ms = 100 + (uint32_t)world_draw(w, 5000);
  conf->udp_settings = (struct listener_udp){.responses = (uint32_t)world_draw(w, 3),
                                             .balance = (uint32_t)world_draw(w, 2)};
  conf->limits.sessions = 1 + (uint32_t)world_draw(w, 20);
  world_install(w, conf);
}

static void flip_origin(struct scene *s) {
  uint32_t i = (uint32_t)world_draw(s->w, SIM_ORIGINS);
  struct addr *at = &s->w->origins[i].at;
  if (s->origin_gone[i]) sim_udp_peer(s->w->sim, at, echo, at);
  else sim_udp_leave(s->w->sim, at);
  s->origin_gone[i] = !s->origin_gone[i];
}

static void forge(struct scene *s, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    char text[32];
    (void)snprintf(text, sizeof text, "203.0.113.%u:%u", (unsigned)world_draw(s->w, 250) + 1,
                   (unsigned)world_draw(s->w, 60000));
    struct addr from;
    if (!addr_parse(span_str(text), &from)) from = world_addr("203.0.113.1:1");
    uint32_t k = (uint32_t)world_draw(s->w, s->w->workers);
    if (world_chance(s->w, 10)) from = s->ports[k]; /* from the port to itself */
    sim_udp_send(s->w->sim, &from, &s->ports[k], SPAN_LIT("forged"));
  }
}

/* Everything at once: nothing goes to the wrong one or passes its bounds, nothing is left. */
static void storms(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct scene s;
    struct world_conf conf;
    conf_init(&conf, seed);
    conf.pools[0].outlier = (struct pool_outlier){.consecutive_failures = 2,
                                                  .eject_ms = 500,
                                                  .max_eject_ms = 1000,
                                                  .max_ejected_percent = 100};
    scene_begin(&s, seed, &hard, &conf);
    uint32_t most = conf.limits.sessions;
    for (uint32_t n = 0; n < 40; n++) {
      all_ask(&s, 10);
      if (world_chance(s.w, 20)) flip_origin(&s);
      if (world_chance(s.w, 20)) forge(&s, (uint32_t)world_draw(s.w, FORGED));
      if (world_chance(s.w, 15)) change(&s, &conf);
      if (world_chance(s.w, 20)) world_for(s.w, world_draw(s.w, 2000));
      if (conf.limits.sessions > most) most = conf.limits.sessions;
      check(atomic_load(&s.state->sessions) <= most);
      check(SUM(&s, udp_sessions) == atomic_load(&s.state->sessions));
    }
    scene_end(&s);
  }
}

/* A flood of forged sources pushes only itself out: who went on after an answer keeps its session.
 */
static void steady_stays(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct scene s;
    struct world_conf conf;
    conf_init(&conf, seed | 1);
    conf.limits.sessions = 8;
    scene_begin(&s, seed, seed % 2 ? &slow : NULL, &conf);
    struct asker *a = &s.askers[0];
    for (int i = 0; i < 2; i++) {
      ask(a);
      world_for(s.w, 1000);
    }
    if (a->got < 2) fail_msg("seed %llu: no answers", (unsigned long long)seed);
    for (int i = 0; i < 5; i++) {
      forge(&s, 50);
      world_for(s.w, 500);
      assert_true(atomic_load(&s.state->sessions) <= 8);
    }
    uint32_t evicted = (uint32_t)SUM(&s, udp_evicted);
    uint64_t begun = SUM(&s, udp_sessions_total);
    assert_true(evicted > 0);
    ask(a);
    world_for(s.w, 1000);
    assert_int_equal(a->got, 3);
    assert_int_equal(SUM(&s, udp_sessions_total), begun); /* in the session that it had */
    scene_end(&s);
  }
}

/* A listener that leaves: its sessions are answered until the drain is over, or until all are
 * idle; a second one at the same address takes the new clients meanwhile. */
static void leaves(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct scene s;
    struct world_conf conf;
    conf_init(&conf, seed);
    scene_begin(&s, seed, seed % 2 ? &soft : NULL, &conf);
    all_ask(&s, 60);
    world_for(s.w, 2000);
    bool whole = seed % 3 == 0;
    for (uint32_t i = 0; i < s.w->workers; i++) {
      struct worker_msg msg = {.kind = WORKER_UNLISTEN, .fd = s.fds[i], .state = s.state};
      struct worker_msg drain = {.kind = WORKER_DRAIN, .deadline_ms = sim_now_ms(s.w->sim) + 5000};
      world_post(s.w, i, whole ? &drain : &msg);
    }
    all_ask(&s, 60);
    forge(&s, 20);
    world_for(s.w, 1000);
    world_for(s.w, 7000);
    assert_int_equal(SUM(&s, udp_sessions), 0);
    scene_end(&s);
  }
}

/* A listener whose address another one has now closes its port as soon as it has no sessions:
 * what came to the old socket, even if weir has not seen it yet, is answered. */
static void moves(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct scene s;
    struct world_conf conf;
    conf_init(&conf, seed);
    conf.udp_settings = (struct listener_udp){.responses = 1, .balance = UDP_BY_SESSION};
    scene_begin(&s, seed, &slow, &conf);
    for (uint32_t turn = 0; turn < 3; turn++) {
      int before[SIM_WORKERS];
      all_ask(&s, 30);
      memcpy(before, s.fds, sizeof before);
      listen_all(&s);
      all_ask(&s, 30);
      for (uint32_t i = 0; i < s.w->workers; i++) {
        struct worker_msg msg = {.kind = WORKER_UNLISTEN, .fd = before[i], .state = s.state};
        world_post(s.w, i, &msg);
      }
      all_ask(&s, 30);
    }
    world_for(s.w, 3000);
    all_answered(&s, seed);
    assert_int_equal(SUM(&s, udp_refused), 0);
    scene_end(&s);
  }
}

/* A listener that has another name keeps its sockets and sessions, whose counts go along. */
static void renamed(void **state) {
  static const char *const names[] = {"names", "dns"};
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct scene s;
    struct world_conf conf;
    conf_init(&conf, seed);
    conf.pools[0].balance = BALANCE_RING;
    conf.udp_settings.balance = UDP_BY_SESSION;
    scene_begin(&s, seed, seed % 4 ? &slow : NULL, &conf);
    all_ask(&s, 100);
    for (uint32_t turn = 0; turn < 4; turn++) {
      conf.udp_name = names[turn % 2];
      struct listener_state *heir = listener_state_get(s.w->registry, span_str(conf.udp_name));
      for (uint32_t i = 0; i < s.w->workers; i++) {
        struct worker_msg msg = {.kind = WORKER_RENAME, .fd = s.fds[i], .state = heir};
        world_post(s.w, i, &msg);
      }
      world_install(s.w, &conf);
      object_unref(s.w->registry, &heir->obj);
      s.state = heir;
      all_ask(&s, 30);
      check(SUM(&s, udp_sessions) == atomic_load(&heir->sessions));
    }
    world_for(s.w, 3000);
    all_answered(&s, seed);
    assert_int_equal(SUM(&s, udp_refused) + SUM(&s, udp_evicted), 0);
    scene_end(&s);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(answers),
      cmocka_unit_test(storms),
      cmocka_unit_test(steady_stays),
      cmocka_unit_test(leaves),
      cmocka_unit_test(moves),
      cmocka_unit_test(renamed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
