/* sim_proxy_queue.c: caps of connections and requests, per endpoint and pool, exact over workers
 * (world_step looks at them at every step); the queue: its bound, its order over workers, its
 * fairness over routes, priorities, timeouts, and that no wakeup is lost. */
#include "proxy_world.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

/* cap_kinds: where a request may have to wait; origins 0 and 1 where the cap is the pool's. */
static const struct cap_kind {
  struct pool_connections caps;
  uint32_t origins;
} cap_kinds[] = {
    {{.max_per_endpoint = 1}, 1},
    {{.max_requests_per_endpoint = 1}, 1},
    {{.max = 1}, 3},
    {{.max_requests = 1}, 3},
    {{.max_requests_per_endpoint = 1, .max = 1}, 3},
    {{.max_requests = 1, .max_per_endpoint = 1}, 3},
    {{.max = 1}, 1},
    {{.max_per_endpoint = 2, .max_requests = 1}, 1},
};
enum { KINDS = array_count(cap_kinds) };

static void fail_plan(const struct world *w, const struct plan *p, const char *what) {
  fail_msg("seed %llu: plan %u: %s: outcome %d end %s, order %u", (unsigned long long)w->seed,
           p->id, what, (int)p->outcome, p->ended ? end_get(p->end)->word.ptr : "(none)",
           p->up_order);
}

static void all_answered(const struct world *w) {
  for (uint32_t i = 0; i < w->plan_count; i++)
    if (w->plans[i].outcome != OUT_OK) fail_plan(w, &w->plans[i], "not answered");
}

/* queue_conf: a pool in which one request is worked on at a time. */
static void queue_conf(struct world_conf *conf, uint64_t seed, uint32_t queue) {
  const struct cap_kind *kind = &cap_kinds[seed % KINDS];
  world_conf_init(conf);
  struct pool_connections *c = &conf->pools[0].connections;
  conf->pools[0].origins = kind->origins;
  c->max = kind->caps.max;
  c->max_requests = kind->caps.max_requests;
  c->max_per_endpoint = kind->caps.max_per_endpoint;
  c->max_requests_per_endpoint = kind->caps.max_requests_per_endpoint;
  c->queue = queue;
  c->queue_timeout_ms = 3000;
}

static struct world *queue_world(uint64_t seed, const struct world_conf *conf) {
  uint32_t workers = 1 + (uint32_t)(seed / KINDS % SIM_WORKERS);
  struct world *w = world_new(seed, workers, seed % 4 ? &soft : NULL, conf);
  w->capped = true;
  return w;
}

/* one sends a request of its own client. */
static struct plan *one(struct world *w, uint32_t worker, const char *prefix) {
  struct client *c = client_new(w, worker % w->workers);
  struct plan *p = plan_new(w);
  p->prefix = prefix;
  client_add(c, p);
  client_start(c);
  return p;
}

static uint32_t waiting(const struct world *w) {
  return atomic_load(&w->current->pools[0]->state->waiting);
}

/* hold sends a request that holds the one permit until let_go. */
static struct plan *hold(struct world *w) {
  struct plan *p = one(w, 0, "");
  p->stall = true;
  while (!p->up_bodies) world_step(w);
  return p;
}

/* wait_one sends a request and steps until it stands in the queue. */
static struct plan *wait_one(struct world *w, uint32_t worker, const char *prefix,
                             const char *priority) {
  uint32_t before = waiting(w);
  struct client *c = client_new(w, worker % w->workers);
  struct plan *p = plan_new(w);
  p->prefix = prefix;
  p->priority = priority;
  client_add(c, p);
  client_start(c);
  while (waiting(w) == before && !p->ended) world_step(w);
  return p;
}

/* let_go ends what holds the permit. */
static void let_go(struct world *w) {
  for (struct list *l = w->clients.next; l != &w->clients; l = l->next) {
    struct client *c = container_of(l, struct client, link);
    if (w->plans[c->plans[0]].stall) client_end(c, true);
  }
}

/* ---- caps ---- */

static void caps_are_exact(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 400);) {
    struct world_conf conf;
    queue_conf(&conf, seed, 1000);
    uint32_t times = 1 + (uint32_t)(seed / 5 % 3);
    struct pool_connections *c = &conf.pools[0].connections;
    c->max *= times;
    c->max_requests *= times;
    c->max_per_endpoint *= times;
    c->max_requests_per_endpoint *= times;
    c->queue_timeout_ms = 60000;
    struct world *w = queue_world(seed, &conf);
    for (uint32_t i = 0; i < 12; i++) {
      struct client *client = client_new(w, i % w->workers);
      for (uint32_t n = 0; n < 4; n++) {
        struct plan *p = plan_new(w);
        p->up_leave = world_chance(w, 10);
        client_add(client, p);
      }
      client_start(client);
    }
    world_run(w, world_clients_done, 400000);
    all_answered(w);
    world_end(w);
  }
}

/* A permit that is given back before anybody looks who waits must not be missed: nobody waits for
 * a timeout. */
static void no_wakeup_is_lost(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 400);) {
    struct world_conf conf;
    queue_conf(&conf, seed, 100);
    struct world *w = queue_world(seed, &conf);
    for (uint32_t i = 0; i < 3 * w->workers; i++) one(w, i, "");
    world_run(w, world_clients_done, 100000);
    all_answered(w);
    if (sim_now_ms(w->sim) >= 1000000 + 2500) fail_plan(w, &w->plans[0], "too late");
    world_end(w);
  }
}

/* The same with clients that leave the queue, and origins that break off. */
static void leavers_wake_the_next(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 400);) {
    struct world_conf conf;
    queue_conf(&conf, seed, 100);
    struct world *w = queue_world(seed, &conf);
    hold(w);
    struct plan *stays[6];
    for (uint32_t i = 0; i < 6; i++) {
      wait_one(w, i, "", NULL);
      struct client *gone = container_of(w->clients.prev, struct client, link);
      stays[i] = wait_one(w, i + 1, "", NULL);
      uint32_t before = waiting(w);
      if (!world_chance(w, 60)) continue;
      client_end(gone, true);
      while (waiting(w) == before) world_step(w);
    }
    uint64_t from = sim_now_ms(w->sim);
    let_go(w);
    while (!world_clients_done(w)) {
      if (world_chance(w, 2)) origin_close_idle(&w->origins[world_draw(w, 2)]);
      world_step(w);
      if (sim_now_ms(w->sim) > from + 2500) fail_plan(w, stays[0], "a wakeup was lost");
    }
    for (uint32_t i = 0; i < 6; i++)
      if (stays[i]->outcome != OUT_OK) fail_plan(w, stays[i], "stayed");
    world_end(w);
  }
}

/* ---- order ---- */

/* Over all workers the oldest comes first. */
static void the_oldest_comes_first(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    queue_conf(&conf, seed, 100);
    struct world *w = queue_world(seed, &conf);
    hold(w);
    for (uint32_t i = 0; i < 12; i++) wait_one(w, (uint32_t)world_draw(w, 3), "", NULL);
    assert_int_equal(waiting(w), 12);
    let_go(w);
    world_run(w, world_clients_done, 100000);
    for (uint32_t i = 2; i < w->plan_count; i++)
      if (w->plans[i].up_order <= w->plans[i - 1].up_order)
        fail_plan(w, &w->plans[i], "overtook an older one");
    world_end(w);
  }
}

/* A route with a long queue does not keep another one waiting behind all of it. */
static void routes_take_turns(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    queue_conf(&conf, seed, 100);
    conf.routes[1] = (struct world_route){.name = "b", .path = "/b", .pool = "app"};
    conf.routes[2] = (struct world_route){.name = "c", .path = "/c", .pool = "app"};
    struct world *w = queue_world(seed, &conf);
    struct plan *held = hold(w), *few[4];
    for (uint32_t i = 0; i < 20; i++) wait_one(w, (uint32_t)world_draw(w, 3), "", NULL);
    for (uint32_t i = 0; i < 4; i++)
      few[i] = wait_one(w, (uint32_t)world_draw(w, 3), i % 2 ? "/c" : "/b", NULL);
    let_go(w);
    world_run(w, world_clients_done, 100000);
    for (uint32_t i = 0; i < 4; i++) {
      /* b's first, c's first and the flood's first are of one turn, and so on. */
      uint32_t place = few[i]->up_order - held->up_order, most = 3 * (i / 2 + 1);
      if (place > most) fail_plan(w, few[i], "waited behind a flood");
    }
    for (uint32_t i = 2; i <= 20; i++)
      if (w->plans[i].up_order <= w->plans[i - 1].up_order)
        fail_plan(w, &w->plans[i], "overtook one of its own route");
    world_end(w);
  }
}

/* Priorities by header (both spellings), else by route; within one by age. */
static void the_urgent_come_first(void **state) {
  (void)state;
  static const char *const values[] = {"u=6, i", "3", "u=0", "junk", NULL, "i, u=7", "u=9"};
  static const uint8_t want[] = {6, 3, 0, 4, 4, 7, 4}; /* 4: the route's */
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    queue_conf(&conf, seed, 100);
    conf.pools[0].priority_header = "x-priority";
    conf.routes[0].priority = 4;
    conf.routes[1] = (struct world_route){
        .name = "low", .path = "/low", .pool = "app", .priority = 5};
    struct world *w = queue_world(seed, &conf);
    hold(w);
    uint8_t priority[20];
    for (uint32_t i = 1; i < 20; i++) {
      uint64_t v = world_draw(w, array_count(values));
      bool low = world_chance(w, 30);
      wait_one(w, (uint32_t)world_draw(w, 3), low ? "/low" : "", values[v]);
      priority[i] = low && want[v] == 4 ? 5 : want[v];
    }
    let_go(w);
    world_run(w, world_clients_done, 100000);
    for (uint32_t i = 2; i < 20; i++) {
      for (uint32_t k = 1; k < i; k++) {
        bool first = w->plans[i].up_order < w->plans[k].up_order;
        if (priority[i] < priority[k] && !first) fail_plan(w, &w->plans[i], "not before others");
        if (priority[i] > priority[k] && first) fail_plan(w, &w->plans[i], "before others");
      }
    }
    world_end(w);
  }
}

/* ---- the bound and the deadline ---- */

static void the_bound_is_exact(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    queue_conf(&conf, seed, 5);
    struct world *w = queue_world(seed, &conf);
    hold(w);
    for (uint32_t i = 0; i < 12; i++) one(w, i, "");
    world_for(w, 1000);
    assert_int_equal(w->ends[END_QUEUE_FULL], 7);
    assert_int_equal(waiting(w), 5);
    world_for(w, 3000);
    assert_int_equal(w->ends[END_QUEUE_TIMEOUT], 5);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      if (p->end != END_QUEUE_TIMEOUT) continue;
      assert_true(p->record.total_ns / 1000000 >= 2990 && p->record.total_ns / 1000000 < 3300);
      assert_true(p->record.queue_ns / 1000000 >= 2990 && p->record.queue_ns / 1000000 < 3300);
      assert_int_equal(p->got_status, 503);
    }
    world_end(w);
  }
}

/* In a full queue who has the better claim takes the place of who has the worst. */
static void the_worst_loses_its_place(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    queue_conf(&conf, seed, 6);
    conf.pools[0].priority_header = "x-priority";
    conf.routes[0].priority = 3;
    conf.routes[1] = (struct world_route){
        .name = "quiet", .path = "/quiet", .pool = "app", .priority = 3};
    struct world *w = world_new(seed, 1, seed % 4 ? &soft : NULL, &conf);
    w->capped = true;
    hold(w);
    for (uint32_t i = 1; i <= 6; i++) wait_one(w, 0, "", i == 2 ? "7" : NULL);
    struct plan *late = one(w, 0, ""); /* behind all but the least urgent */
    while (!w->plans[2].ended) world_step(w);
    assert_int_equal(w->plans[2].end, END_QUEUE_DISPLACED);
    struct plan *quiet = one(w, 0, "/quiet");
    while (!late->ended) world_step(w); /* now the last of the route with the most */
    assert_int_equal(late->end, END_QUEUE_DISPLACED);
    struct plan *more = one(w, 0, "");
    while (!more->ended) world_step(w);
    assert_int_equal(more->end, END_QUEUE_FULL);
    assert_int_equal(waiting(w), 6);
    let_go(w);
    world_run(w, world_clients_done, 100000);
    assert_int_equal(late->got_status, 503);
    assert_int_equal(more->got_status, 503);
    assert_int_equal(quiet->outcome, OUT_OK);
    world_end(w);
  }
}

/* ---- room that no permit given back makes ---- */

/* served_soon steps until p is answered, long before it would have waited too long. */
static void served_soon(struct world *w, const struct plan *p, uint64_t from) {
  while (!p->ended) {
    world_step(w);
    if (sim_now_ms(w->sim) > from + 2000) fail_plan(w, p, "nobody told it that there is room");
  }
  if (p->end != END_OK) fail_plan(w, p, "waited in vain");
}

/* roomier is a generation in which all find a place: higher caps, none, or another endpoint. */
static void roomier(struct world_conf *conf, uint64_t how) {
  struct world_pool *pool = &conf->pools[0];
  struct pool_connections *c = &pool->connections;
  if (how == 2) pool->origins = 15;
  c->max *= how == 1 ? 0 : 8;
  c->max_requests *= how == 1 ? 0 : 8;
  c->max_per_endpoint *= how == 1 ? 0 : how == 2 ? 2 : 8;
  c->max_requests_per_endpoint *= how == 1 ? 0 : how == 2 ? 2 : 8;
}

/* A reload that gives room reaches those who wait, on every worker, and who comes then. */
static void a_reload_gives_room(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    queue_conf(&conf, seed, 100);
    struct world *w = queue_world(seed, &conf);
    w->capped = false;
    hold(w);
    struct plan *waits[4];
    for (uint32_t i = 0; i < 4; i++) waits[i] = wait_one(w, i, "", NULL);
    assert_int_equal(waiting(w), 4);
    roomier(&conf, seed / 3 % 3);
    world_install(w, &conf);
    uint64_t from = sim_now_ms(w->sim);
    struct plan *comes = one(w, 1, "");
    for (uint32_t i = 0; i < 4; i++) served_soon(w, waits[i], from);
    served_soon(w, comes, from);
    assert_int_equal(waiting(w), 0);
    let_go(w);
    world_end(w);
  }
}

/* ---- a reload that puts other endpoints in the places ---- */

/* moved is what a reload that lists the endpoints from the last to the first, and one less, leaves
 * of what a waiter knows of its places. */
enum moved {
  NO_ROOM,     /* only where it failed there is room: it waits on */
  ROOM,        /* there is room everywhere: it goes where its cookie says */
  HOME_GONE,   /* the same without the endpoint of its cookie */
  FAILED_GONE, /* without the one where it failed, and no room */
  MOVED_COUNT
};

struct move {
  enum moved moved;
  bool refuses;          /* where it failed takes no connection, else it answers 503 */
  uint32_t failed, home; /* origins, each in its old place */
  uint32_t gone;
};

static struct move move_of(uint64_t seed) {
  struct move m = {.moved = (enum moved)(seed % MOVED_COUNT), .refuses = seed / MOVED_COUNT % 2};
  uint32_t other;
  m.failed = (uint32_t)(seed / 8 % SIM_ORIGINS);
  m.home = (m.failed + 1 + (uint32_t)(seed / 32 % (SIM_ORIGINS - 1))) % SIM_ORIGINS;
  for (other = 0; other == m.failed || other == m.home;) other++;
  m.gone = m.moved == HOME_GONE ? m.home : m.moved == FAILED_GONE ? m.failed : other;
  return m;
}

static void move_conf(struct world_conf *conf) {
  world_conf_init(conf);
  struct world_pool *pool = &conf->pools[0];
  pool->origins = (1u << SIM_ORIGINS) - 1;
  pool->sticky = "home";
  pool->connections.max_per_endpoint = 1;
  pool->connections.queue_timeout_ms = 60000;
  pool->retry.on |= RETRY_GATEWAY;
  pool->retry.backoff_max_ms = 20000; /* until then a waiter is picky */
}

/* hold_but has requests that hold every endpoint but one. */
static void hold_but(struct world *w, struct endpoint *e) {
  uint8_t before = atomic_load(&e->state);
  atomic_store(&e->state, ENDPOINT_DOWN);
  endpoint_changed(e);
  for (uint32_t i = 1; i < SIM_ORIGINS; i++) hold(w);
  atomic_store(&e->state, before);
  endpoint_changed(e);
}

/* fail_and_wait sends a request that fails where there is room, and waits for the others. */
static struct plan *fail_and_wait(struct world *w, const struct move *m) {
  const struct pool *pool = w->current->pools[0];
  char cookie[64];
  struct buf b = buf_of(cookie, sizeof cookie - 1);
  struct span set = pool->sticky->plain[m->home];
  buf_put(&b, span_sub(set, 0, (size_t)((char *)memchr(set.ptr, ';', set.len) - set.ptr)));
  cookie[b.len] = 0;
  hold_but(w, pool->members[m->failed].endpoint);
  if (m->refuses) origin_down(&w->origins[m->failed], true);
  struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
  struct plan *p = plan_new(w);
  if (m->moved == ROOM || m->moved == HOME_GONE) p->cookie = cookie;
  if (!m->refuses) p->bad = BAD_503;
  p->bad_times = 1;
  client_add(c, p);
  client_start(c);
  while (!waiting(w) && !p->ended) world_step(w);
  p->cookie = NULL; /* it is written */
  return p;
}

/* the_waiter is the only one of all workers. */
static const struct stream *the_waiter(const struct world *w) {
  const struct pool_row *rows = w->current->pools[0]->state->rows;
  uint32_t i = 0;
  while (i < w->workers && !rows[i].first.root) i++;
  assert_true(i < w->workers);
  return container_of(rows[i].first.root, struct waiter, first)->stream;
}

/* look sees whether all that a waiter knows is told in the places of the newest pool. */
static void look(const struct world *w, const struct move *m, const struct plan *p) {
  const struct stream *s = the_waiter(w);
  const struct pool *pool = w->current->pools[0];
  const struct pool_tried *tried = &s->x->tried;
  if (s->pool != pool || s->x->ctx.pool != pool) fail_plan(w, p, "has the old pool");
  if (tried->count != (m->moved == FAILED_GONE ? 0 : 1)) fail_plan(w, p, "where it was");
  if (!tried->count) return;
  if (tried->place[0] >= pool->member_count) fail_plan(w, p, "a place that is not there");
  const struct endpoint *failed = pool->members[tried->place[0]].endpoint;
  if (!addr_eq(&failed->addr, &w->origins[m->failed].at)) fail_plan(w, p, "another's place");
  if (tried->refused != (m->refuses ? 1 : 0)) fail_plan(w, p, "how it failed");
}

static uint64_t sticky_kept(const struct world *w) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < w->workers; i++)
    sum += atomic_load(&w->current->pools[0]->state->rows[i].sticky_kept);
  return sum;
}

static void went_where(const struct world *w, const struct move *m, const struct plan *p) {
  uint32_t failed = m->refuses ? 0 : 1u << m->failed;
  uint32_t second = p->up_origins & ~failed;
  if (p->outcome != OUT_OK || p->record.attempts != 2) fail_plan(w, p, "more than one more");
  if (p->up_heads != (m->refuses ? 1 : 2)) fail_plan(w, p, "sent once more");
  if (!second || second & (1u << m->failed | 1u << m->gone)) fail_plan(w, p, "to the wrong one");
  if (m->moved == ROOM && second != 1u << m->home) fail_plan(w, p, "left its home");
  assert_int_equal(sticky_kept(w), m->moved == ROOM ? 1 : 0);
}

/* What a waiter knows of endpoints (where it failed, where its cookie says) stays with them when a
 * reload puts others in their places, or leaves no such place. */
static void a_reload_moves_the_places(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 288);) {
    struct world_conf conf;
    struct move m = move_of(seed);
    move_conf(&conf);
    uint32_t workers = 1 + (uint32_t)(seed / 96 % SIM_WORKERS);
    struct world *w = world_new(seed, workers, seed % 5 ? &soft : NULL, &conf);
    struct plan *p = fail_and_wait(w, &m);
    if (p->ended) fail_plan(w, p, "did not wait");
    conf.pools[0].reversed = true;
    conf.pools[0].origins &= ~(1u << m.gone);
    bool room = m.moved == ROOM || m.moved == HOME_GONE;
    if (room) conf.pools[0].connections.max_per_endpoint = 2;
    world_install(w, &conf);
    uint64_t from = sim_now_ms(w->sim);
    if (!room) {
      world_for(w, 1000);
      if (p->ended || !waiting(w)) fail_plan(w, p, "went where it had failed");
      look(w, &m, p);
      from = sim_now_ms(w->sim);
      let_go(w);
    }
    served_soon(w, p, from);
    while (p->outcome == OUT_NONE) world_step(w);
    went_where(w, &m, p);
    if (room) let_go(w);
    world_end(w);
  }
}

/* An endpoint that comes back into service serves those who wait for others. */
static void an_endpoint_comes_back(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    queue_conf(&conf, seed & ~UINT64_C(7), 100); /* one connection to each endpoint */
    conf.pools[0].origins = 3;
    struct world *w = queue_world(seed, &conf);
    struct endpoint *out = w->current->pools[0]->members[1].endpoint;
    uint64_t until = sim_now_ms(w->sim) + 1000;
    if (seed & 1) atomic_store(&out->ejected_until_ms, until);
    else atomic_store(&out->state, ENDPOINT_DOWN);
    endpoint_changed(out);
    hold(w);
    struct plan *p = wait_one(w, (uint32_t)seed, "", NULL);
    world_for(w, 300);
    assert_false(p->ended);
    if (!(seed & 1)) {
      atomic_store(&out->state, ENDPOINT_UP);
      endpoint_changed(out);
    }
    served_soon(w, p, sim_now_ms(w->sim));
    if (seed & 1) assert_true(sim_now_ms(w->sim) >= until);
    let_go(w);
    world_end(w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(caps_are_exact),
      cmocka_unit_test(no_wakeup_is_lost),
      cmocka_unit_test(leavers_wake_the_next),
      cmocka_unit_test(the_oldest_comes_first),
      cmocka_unit_test(routes_take_turns),
      cmocka_unit_test(the_urgent_come_first),
      cmocka_unit_test(the_bound_is_exact),
      cmocka_unit_test(the_worst_loses_its_place),
      cmocka_unit_test(a_reload_gives_room),
      cmocka_unit_test(a_reload_moves_the_places),
      cmocka_unit_test(an_endpoint_comes_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
