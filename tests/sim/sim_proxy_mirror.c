/* sim_proxy_mirror.c: copies of requests to a shadow pool: whole and right, as many as the share
 * says; nothing that happens to them, or to their pool, is felt by the original; bounded; nothing
 * is left behind (world_end). */
#include <errno.h>

#include "proxy_world.h"
#include "weir/io/transport.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

enum { SHADOW = 2 }; /* the shadow's origin */

static void wrong(const struct world *w, const struct plan *p, const char *what) {
  fail_msg("seed %llu: plan %u: %s frame %u len %u: %s: outcome %d end %s, %u copies",
           (unsigned long long)w->seed, p->id, p->method, p->frame, p->len, what, (int)p->outcome,
           p->ended ? end_get(p->end)->word.ptr : "(none)", p->copies);
}

static void mirror_conf(struct world_conf *conf, uint32_t ppm) {
  world_conf_init(conf);
  conf->pools[1] = conf->pools[0];
  conf->pools[1].name = "shadow";
  conf->pools[1].origins = 1u << SHADOW;
  conf->pools[1].outlier = (struct pool_outlier){0};
  conf->routes[0].mirror = "shadow";
  conf->routes[0].mirror_ppm = ppm;
}

static struct world *mirror_world(uint64_t seed, const struct world_conf *conf) {
  struct world *w = world_new(seed, 1 + (uint32_t)(seed % 2), seed % 4 ? &soft : NULL, conf);
  w->origins[SHADOW].shadow = true;
  return w;
}

static uint64_t sum(const struct world *w, size_t offset) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < w->workers; i++) {
    const char *stats = (const char *)worker_stats(w->worker[i]);
    n += atomic_load((const _Atomic uint64_t *)(stats + offset));
  }
  return n;
}
#define SUM(w, field) sum(w, offsetof(struct stats, field))

static uint64_t answers(const struct world *w) {
  return SUM(w, mirror_2xx) + SUM(w, mirror_3xx) + SUM(w, mirror_4xx) + SUM(w, mirror_5xx);
}

static struct plan *small(struct world *w) {
  struct plan *p = plan_random(w);
  p->len %= 60000;
  if (p->frame && !p->len) p->len = 1;
  p->expect = p->up_close = false; /* so that all plans of a connection are carried out */
  p->minor = 1;
  if (p->up_frame == FRAME_CLOSE) p->up_frame = FRAME_LENGTH;
  return p;
}

static void requests(struct world *w, uint32_t clients, uint32_t each) {
  for (uint32_t i = 0; i < clients; i++) {
    struct client *c = client_new(w, i % w->workers);
    c->pipeline = world_chance(w, 30);
    for (uint32_t n = 0; n < each; n++) client_add(c, small(w));
    client_start(c);
  }
}

static void originals_are_fine(struct world *w) {
  for (uint32_t i = 0; i < w->plan_count; i++)
    if (w->plans[i].outcome != OUT_OK) wrong(w, &w->plans[i], "the original");
}

static void copies_are_whole(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    mirror_conf(&conf, 1000000);
    world_hold(&conf, seed);
    struct world *w = mirror_world(seed, &conf);
    requests(w, 5, 5);
    world_run(w, world_clients_done, 400000);
    world_for(w, 2000);
    originals_are_fine(w);
    for (uint32_t i = 0; i < w->plan_count; i++)
      if (w->plans[i].copies != 1) wrong(w, &w->plans[i], "one copy");
    assert_int_equal(SUM(w, mirrored), 25);
    assert_int_equal(SUM(w, mirror_skipped), 0);
    assert_int_equal(answers(w) + SUM(w, mirror_failed), 25);
    if (SUM(w, mirror_failed)) wrong(w, &w->plans[0], "failed copies");
    world_end(w);
  }
}

static void a_share_is_copied(void **state) {
  (void)state;
  uint64_t copies = 0;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    mirror_conf(&conf, 250000);
    struct world *w = mirror_world(seed, &conf);
    requests(w, 4, 5);
    world_run(w, world_clients_done, 400000);
    world_for(w, 2000);
    originals_are_fine(w);
    copies += SUM(w, mirrored);
    world_end(w);
  }
  assert_true(copies > 2000 / 4 * 8 / 10 && copies < 2000 / 4 * 12 / 10);
}

/* Whatever the shadow does: the original's time and outcome are its own. */
static void the_shadow_may_do_anything(void **state) {
  (void)state;
  enum { DEAD, BLACK, STALLS, CUTS, SLOW_READER, KINDS };
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    mirror_conf(&conf, 1000000);
    struct world *w = mirror_world(seed, &conf);
    struct origin *shadow = &w->origins[SHADOW];
    unsigned kind = (unsigned)(seed % KINDS);
    if (kind == DEAD || kind == BLACK) origin_down(shadow, true);
    if (kind == BLACK) sim_peer_blackhole(w->sim, &shadow->at);
    if (kind == SLOW_READER) shadow->window = 500;
    requests(w, 5, 5);
    uint64_t from = sim_now_ms(w->sim);
    while (!world_clients_done(w)) {
      if (kind == STALLS && world_chance(w, 10)) shadow->window = 300;
      if (kind == CUTS && world_chance(w, 5)) {
        origin_down(shadow, true);
        origin_up(shadow);
      }
      world_step(w);
      if (sim_now_ms(w->sim) > from + 1500) wrong(w, &w->plans[0], "took too long");
    }
    originals_are_fine(w);
    world_for(w, seed & 1 ? 200000 : 100);
    if (seed & 1) {
      uint64_t all = answers(w) + SUM(w, mirror_failed) + SUM(w, mirror_skipped);
      assert_int_equal(all, 25); /* each is accounted for */
      for (uint32_t i = 0; i < w->workers; i++) assert_int_equal(w->worker[i]->mirrors.live, 0);
    }
    world_end(w);
  }
}

/* Too long, too many, never whole: left away and counted. */
static void bounds(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    mirror_conf(&conf, 1000000);
    conf.pools[1].timeouts.connect_ms = 60000;
    struct world *w = mirror_world(seed, &conf);
    struct plan *p = NULL;
    if (seed % 3 == 0) {
      origin_down(&w->origins[SHADOW], true);
      sim_peer_blackhole(w->sim, &w->origins[SHADOW].at);
      for (uint32_t i = 0; i < 200; i++) {
        struct client *c = client_new(w, 0);
        p = plan_new(w);
        client_add(c, p);
        client_start(c);
      }
    } else {
      struct client *c = client_new(w, 0);
      p = plan_new(w);
      p->method = "POST";
      p->frame = seed & 1 ? FRAME_LENGTH : FRAME_CHUNKED;
      p->len = seed % 3 == 1 ? 65537 + (uint32_t)world_draw(w, 200000) : 5000;
      p->hold_body = seed % 3 == 2;
      client_add(c, p);
      client_start(c);
    }
    world_run(w, world_clients_done, 400000);
    world_for(w, 1000);
    if (seed % 3 == 0) {
      originals_are_fine(w);
      assert_int_equal(w->worker[0]->mirrors.live, 128);
      assert_int_equal(SUM(w, mirror_skipped), 72);
    } else {
      if (p->copies) wrong(w, p, "was copied");
      assert_int_equal(SUM(w, mirror_skipped), 1);
    }
    world_end(w);
  }
}

/* A copy that waits for its answer outlives its request, and its route. */
static void copies_outlive_their_route(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    mirror_conf(&conf, 1000000);
    struct world *w = mirror_world(seed, &conf);
    w->origins[SHADOW].window = 1;
    requests(w, 3, 2);
    world_run(w, world_clients_done, 400000);
    conf.routes[0].mirror = NULL;
    conf.pools[1] = (struct world_pool){0};
    world_install(w, &conf);
    world_for(w, 1000);
    requests(w, 2, 2);
    world_run(w, world_clients_done, 400000);
    originals_are_fine(w);
    world_for(w, seed & 1 ? 100000 : 10);
    world_end(w);
  }
}

/* to_shadow finds the connection that the one copy is on. */
static struct conn *to_shadow(const struct world *w) {
  const struct slab *slab = &w->worker[0]->loop->conns;
  for (uint32_t i = 0; i < slab->chunk_count << slab->chunk_shift; i++) {
    char *chunk = slab->chunks[i >> slab->chunk_shift];
    struct conn *c =
        (struct conn *)(void *)(chunk + (i & (slab->chunk_objects - 1)) * slab->object_size);
    struct addr peer;
    if (!(c->head.generation & 1) || !c->owner || !conn_peer(c, &peer)) continue;
    if (addr_eq(&peer, &w->origins[SHADOW].at)) return c;
  }
  fail_msg("seed %llu: no connection to the shadow", (unsigned long long)w->seed);
  return NULL;
}

/* What this process lacks while a copy waits is not the endpoint's fault; a reset is. */
static void own_pressure_blames_nobody(void **state) {
  (void)state;
  static const int errors[] = {-ENOBUFS, -ENOMEM, -ECONNRESET};
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct world_conf conf;
    mirror_conf(&conf, 1000000);
    conf.pools[1].outlier = (struct pool_outlier){
        .consecutive_failures = 1, .eject_ms = 10000, .max_ejected_percent = 100};
    struct world *w = world_new(seed, 1, seed % 4 ? &soft : NULL, &conf);
    w->origins[SHADOW].shadow = true;
    w->origins[SHADOW].window = 1;
    requests(w, 1, 1);
    world_run(w, world_clients_done, 400000);
    world_for(w, 100);
    int err = errors[seed % array_count(errors)];
    conn_fail(to_shadow(w), err);
    originals_are_fine(w);
    assert_int_equal(SUM(w, mirror_failed), 1);
    const struct endpoint *e = w->current->pools[1]->members[0].endpoint;
    assert_int_equal(atomic_load(&e->ejections), err == -ECONNRESET);
    world_end(w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(copies_are_whole),
      cmocka_unit_test(a_share_is_copied),
      cmocka_unit_test(the_shadow_may_do_anything),
      cmocka_unit_test(bounds),
      cmocka_unit_test(copies_outlive_their_route),
      cmocka_unit_test(own_pressure_blames_nobody),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
