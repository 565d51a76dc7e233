/* sim_proxy_limits.c: every timeout with its word and its time, by the world's clock; slow
 * readers and bounded buffers; limits of connections and bodies. */
#include "proxy_world.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

/* ---- timeouts ---- */

struct timeout_case {
  const char *name;
  void (*set)(struct world *w, struct client *c, struct plan *p, uint64_t kind);
  enum end end;
  enum outcome outcome;
  uint16_t status;
  uint32_t least_ms, most_ms; /* from the request's start */
};

static void post(struct plan *p, uint64_t kind, uint32_t len) {
  p->method = "POST";
  p->frame = kind & 1 ? FRAME_CHUNKED : FRAME_LENGTH;
  p->len = len;
}

static void set_header(struct world *w, struct client *c, struct plan *p, uint64_t kind) {
  (void)w;
  (void)c;
  p->cut = 1 + (int32_t)(kind * 7 % 60);
  p->cut_wait = true;
}
static void set_body(struct world *w, struct client *c, struct plan *p, uint64_t kind) {
  (void)w;
  (void)c;
  post(p, kind, 500);
  p->hold_body = true;
}
static void set_first_byte(struct world *w, struct client *c, struct plan *p, uint64_t kind) {
  (void)w;
  (void)c;
  p->stall = true;
  if (kind & 2) post(p, kind, 500);
}
static void set_idle(struct world *w, struct client *c, struct plan *p, uint64_t kind) {
  (void)w;
  (void)c;
  p->up_frame = kind & 1 ? FRAME_CHUNKED : FRAME_LENGTH;
  p->up_len = kind & 2 ? 100 : 100000;
  p->stall_body = true;
}
static void set_connect(struct world *w, struct client *c, struct plan *p, uint64_t kind) {
  (void)c;
  for (uint32_t i = 0; i < 2; i++) {
    origin_down(&w->origins[i], true);
    sim_peer_blackhole(w->sim, &w->origins[i].at);
  }
  if (kind & 1) post(p, kind >> 1, 500);
}
static void set_send(struct world *w, struct client *c, struct plan *p, uint64_t kind) {
  (void)w;
  p->up_frame = kind & 1 ? FRAME_CHUNKED : FRAME_LENGTH;
  p->up_len = 2u << 20;
  c->window = 1000;
  c->stuck = true;
}
static void set_upload(struct world *w, struct client *c, struct plan *p, uint64_t kind) {
  (void)c;
  w->origins[0].window = w->origins[1].window = 1000;
  post(p, kind, 2u << 20);
}
static void set_half_close(struct world *w, struct client *c, struct plan *p, uint64_t kind) {
  (void)w;
  (void)kind;
  p->stall = true;
  c->half_close = true;
}

static const struct timeout_case timeout_cases[] = {
    {"header", set_header, END_CLIENT_TIMEOUT_HEADER, OUT_ANSWER, 408, 9900, 10200},
    {"body", set_body, END_CLIENT_TIMEOUT_BODY, OUT_ANSWER, 408, 29900, 30300},
    {"first byte", set_first_byte, END_FIRST_BYTE_TIMEOUT, OUT_ANSWER, 504, 29900, 30300},
    {"idle", set_idle, END_UPSTREAM_IDLE_TIMEOUT, OUT_CUT, 200, 59900, 60500},
    {"connect", set_connect, END_CONNECT_TIMEOUT, OUT_ANSWER, 504, 1900, 8500},
    {"send", set_send, END_CLIENT_TIMEOUT_SEND, OUT_CUT, 200, 29900, 31000},
    {"upload", set_upload, END_UPSTREAM_TIMEOUT_SEND, OUT_ANSWER, 504, 59900, 61000},
    {"half close", set_half_close, END_CLIENT_CLOSED, OUT_LOST, 499, 19900, 20500},
};

/* A head that was cut before its path was whole names no plan; its record is the only one without.
 */
static void timeout_check(struct world *w, const struct timeout_case *t, const struct plan *p,
                          uint64_t seed) {
  bool headless = t->end == END_CLIENT_TIMEOUT_HEADER;
  uint64_t ms = p->record.total_ns / 1000000;
  bool nameless = headless && w->other_ends[t->end] == 1;
  bool right = nameless || (p->ended && p->end == t->end && p->record.status == t->status &&
                            ms >= t->least_ms && ms <= t->most_ms);
  if (right && p->outcome == t->outcome) return;
  fail_msg("%s, seed %llu: outcome %d, status %u, end %s after %llu ms", t->name,
           (unsigned long long)seed, (int)p->outcome, p->got_status,
           p->ended ? end_get(p->end)->word.ptr : "(none)", (unsigned long long)ms);
}

static void timeouts(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(timeout_cases); i++) {
    for (uint64_t seed = 0; seed < 40; seed++) {
      const struct timeout_case *t = &timeout_cases[i];
      struct world_conf conf;
      world_conf_init(&conf);
      conf.timeouts.half_close_ms = 20000;
      struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
      struct client *c = client_new(w, 0);
      struct plan *p = plan_new(w);
      t->set(w, c, p, seed);
      client_add(c, p);
      client_start(c);
      uint64_t start = sim_now_ms(w->sim);
      while (!p->ended && !w->other_ends[t->end] && sim_now_ms(w->sim) < start + 200000)
        world_step(w);
      c->stuck = false;
      world_run(w, world_clients_done, 100000);
      timeout_check(w, t, p, seed);
      world_end(w);
    }
  }
}

static void route_timeout(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 60; seed++) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.routes[0].timeout_ms = 1000;
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *c = client_new(w, 0);
    struct plan *p = plan_new(w);
    struct plan *body = plan_new(w);
    if (seed & 1) set_connect(w, c, p, 0);
    else p->stall = true;
    body->stall_body = true; /* the head came: a body has all the time of its own timeouts */
    client_add(c, seed & 2 ? p : body);
    client_start(c);
    world_for(w, 3000);
    if (seed & 2) {
      assert_int_equal(p->end, END_ROUTE_TIMEOUT);
      assert_int_equal(p->got_status, 504);
      assert_true(p->record.total_ns / 1000000 >= 990 && p->record.total_ns / 1000000 < 1200);
    } else if (!(seed & 1)) {
      assert_false(body->ended);
    }
    world_end(w);
  }
}

/* A client that only sends its FIN still gets what it asked for. */
static void half_closed_clients_are_served(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 150; seed++) {
    struct world_conf conf;
    world_conf_init(&conf);
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *c = client_new(w, 0);
    c->half_close = c->pipeline = true;
    for (uint32_t n = 1 + (uint32_t)world_draw(w, 4); n > 0; n--) {
      struct plan *p = plan_new(w);
      if (world_chance(w, 50)) post(p, n, (uint32_t)world_draw(w, 40000));
      p->up_len = (uint32_t)world_draw(w, 100000);
      client_add(c, p);
    }
    client_start(c);
    world_run(w, world_clients_done, 200000);
    for (uint32_t i = 0; i < w->plan_count; i++)
      if (w->plans[i].outcome != OUT_OK)
        fail_msg("seed %llu: plan %u: outcome %d end %s", (unsigned long long)seed, i,
                 (int)w->plans[i].outcome, end_get(w->plans[i].end)->word.ptr);
    world_end(w);
  }
}

static void silent_connections_end(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 60; seed++) {
    struct world_conf conf;
    world_conf_init(&conf);
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *fresh = client_new(w, 0), *kept = client_new(w, 0);
    fresh->keep = kept->keep = true;
    struct plan *p = plan_new(w);
    client_add(kept, p);
    client_start(fresh);
    client_start(kept);
    world_for(w, 9000);
    assert_false(fresh->closed);
    world_for(w, 1500);
    assert_true(fresh->closed && !fresh->reset);
    assert_int_equal(w->other_ends[END_CLIENT_TIMEOUT_HEADER], 1);
    assert_int_equal(p->outcome, OUT_OK);
    assert_false(kept->closed);
    world_for(w, 52000);
    assert_true(kept->closed);
    world_end(w);
  }
}

/* ---- slow readers ---- */

static void slow_readers(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    enum { CLIENTS = 6 };
    for (uint32_t i = 0; i < CLIENTS; i++) {
      struct client *c = client_new(w, 0);
      c->window = 500 + (uint32_t)world_draw(w, 10000);
      struct plan *p = plan_new(w);
      p->up_len = 1500000;
      p->up_frame = (uint8_t)(FRAME_LENGTH + i % 3);
      p->minor = i % 4 == 3 ? 0 : 1;
      p->up_close = p->up_frame == FRAME_CLOSE;
      client_add(c, p);
      client_start(c);
    }
    world_run(w, world_clients_done, 400000);
    for (uint32_t i = 0; i < w->plan_count; i++)
      if (w->plans[i].outcome != OUT_OK)
        fail_msg("seed %llu: plan %u: outcome %d got %llu end %s", (unsigned long long)seed, i,
                 (int)w->plans[i].outcome, (unsigned long long)w->plans[i].got_body,
                 end_get(w->plans[i].end)->word.ptr);
    assert_true(w->iobufs_max <= (size_t)CLIENTS * 600 * 1024);
    world_end(w);
  }
}

/* Pipelined responses to a slow reader pile up in one connection: bounded, in order, all there. */
static void slow_pipelines(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 150);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.routes[1] = (struct world_route){
        .name = "fix", .path = "/fix", .status = 200, .body = "a fixed answer"};
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *c = client_new(w, 0);
    c->pipeline = true;
    c->window = 200 + (uint32_t)world_draw(w, 5000);
    for (uint32_t n = 0; n < 40; n++) {
      struct plan *p = plan_new(w);
      p->up_len = (uint32_t)world_draw(w, n % 3 ? 400 : 66000);
      p->up_frame = (uint8_t)(FRAME_LENGTH + n % 2);
      if (n % 7 == 3) p->prefix = "/fix";
      client_add(c, p);
    }
    client_start(c);
    world_run(w, world_clients_done, 400000);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      if (p->outcome != (p->prefix[0] ? OUT_ANSWER : OUT_OK))
        fail_msg("seed %llu: plan %u: outcome %d", (unsigned long long)seed, i, (int)p->outcome);
    }
    assert_true(w->iobufs_max <= 1200 * 1024);
    world_end(w);
  }
}

static bool big_enough(struct world *w) {
  return w->origins[0].accepted + w->origins[1].accepted > 0 && world_clients_done(w);
}

/* The last bytes of a response on a connection that is to end reach a reader however slow it is.
 */
static void slow_reader_of_the_last_response(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    world_conf_init(&conf);
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *c = client_new(w, 0);
    c->window = 100;
    struct plan *p = plan_new(w);
    p->close = true;
    p->up_len = 60000 + (uint32_t)world_draw(w, 20000);
    p->up_frame = (uint8_t)(FRAME_LENGTH + seed % 3);
    p->up_close = p->up_frame == FRAME_CLOSE;
    client_add(c, p);
    client_start(c);
    world_run(w, big_enough, 400000);
    if (p->outcome != OUT_OK)
      fail_msg("seed %llu: outcome %d after %llu of %u bytes, %s", (unsigned long long)seed,
               (int)p->outcome, (unsigned long long)p->got_body, p->up_len,
               p->ended ? end_get(p->end)->word.ptr : "(none)");
    world_end(w);
  }
}

/* ---- limits ---- */

static void body_limit(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.limits.body_bytes = 10000;
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *c = client_new(w, 0);
    struct plan *p = plan_new(w);
    bool over = seed & 2;
    post(p, seed, over ? 10001 + (uint32_t)world_draw(w, 50000) : 10000);
    client_add(c, p);
    client_start(c);
    world_run(w, world_clients_done, 100000);
    if (over) {
      assert_int_equal(p->end, END_LIMIT_BODY);
      assert_int_equal(p->up_bodies, 0);
      assert_true(p->outcome == OUT_ANSWER ? p->got_status == 413 : p->outcome != OUT_OK);
    } else {
      assert_int_equal(p->outcome, OUT_OK);
    }
    world_end(w);
  }
}

static void connection_limit(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.max_connections = 5;
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *kept[5];
    for (uint32_t i = 0; i < 5; i++) {
      kept[i] = client_new(w, 0);
      kept[i]->keep = true;
      client_add(kept[i], plan_new(w));
      client_start(kept[i]);
    }
    world_run(w, world_clients_done, 100000);
    struct client *late[40];
    for (uint32_t i = 0; i < 40; i++) {
      late[i] = client_new(w, 0);
      client_add(late[i], plan_new(w));
      client_start(late[i]);
    }
    world_for(w, 100);
    for (uint32_t i = 0; i < 5; i++) client_end(kept[i], false);
    world_run(w, world_clients_done, 400000);
    uint32_t told = 0;
    for (uint32_t i = 5; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      told += p->outcome == OUT_ANSWER && p->got_status == 503;
      if (p->outcome == OUT_ANSWER) assert_int_equal(p->end, END_LIMIT_CONNECTIONS);
      else if (p->outcome != OUT_OK) assert_int_equal(p->outcome, OUT_LOST);
    }
    assert_true(told > 0);
    world_end(w);
  }
}

static void requests_per_connection(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 40);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.limits.requests = 3;
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *c = client_new(w, 0);
    for (uint32_t i = 0; i < 5; i++) client_add(c, plan_new(w));
    client_start(c);
    world_run(w, world_clients_done, 100000);
    for (uint32_t i = 0; i < 5; i++)
      assert_int_equal(w->plans[i].outcome, i < 3 ? OUT_OK : OUT_NONE);
    world_end(w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(timeouts),
      cmocka_unit_test(route_timeout),
      cmocka_unit_test(half_closed_clients_are_served),
      cmocka_unit_test(silent_connections_end),
      cmocka_unit_test(slow_readers),
      cmocka_unit_test(slow_pipelines),
      cmocka_unit_test(slow_reader_of_the_last_response),
      cmocka_unit_test(body_limit),
      cmocka_unit_test(connection_limit),
      cmocka_unit_test(requests_per_connection),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
