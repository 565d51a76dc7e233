/* sim_proxy_faults.c: either side breaks off at every byte, servers close kept connections under a
 * request, answer early, come and go. Truncation never looks complete, nothing is sent twice that
 * may not be, and a bodyless GET is answered as long as one endpoint lives. */
#include "proxy_world.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

static void wrong(const struct world *w, const struct plan *p, const char *what) {
  fail_msg(
      "seed %llu: plan %u (%s cut %d, up_cut %d): %s: outcome %d status %u %s end %s, seen %u/%u",
      (unsigned long long)w->seed, p->id, p->method, p->cut, p->up_cut, what, (int)p->outcome,
      p->got_status, p->details, p->ended ? end_get(p->end)->word.ptr : "(none)", p->up_heads,
      p->up_bodies);
}

static struct client *one_client(struct world *w) {
  struct client *c = client_new(w, (uint32_t)world_draw(w, w->workers));
  c->pipeline = false;
  return c;
}

/* follower is a plain request behind another on the same connection: it must be untouched by it,
 * or never have been sent. */
static struct plan *follower(struct world *w, struct client *c) {
  struct plan *p = plan_new(w);
  client_add(c, p);
  return p;
}

static bool one_of(enum end end, const enum end *list) {
  for (; *list != END_OK; list++)
    if (*list == end) return true;
  return false;
}

/* ---- the origin breaks off at every byte of the response ---- */

static struct plan *cut_plan(struct world *w, uint64_t seed, int32_t at) {
  struct plan *p = plan_new(w);
  p->up_frame = seed & 1 ? FRAME_CHUNKED : FRAME_LENGTH;
  p->up_len = 60;
  p->interims = seed & 2 ? 1 : 0;
  p->up_cut = at;
  p->up_cut_fin = seed & 4;
  return p;
}

static void up_cut_check(struct world *w, const struct plan *p, const struct plan *next) {
  static const enum end allowed[] = {END_UPSTREAM_RESET, END_UPSTREAM_TRUNCATED,
                                     END_UPSTREAM_CLOSED, END_OK};
  if (p->outcome == OUT_OK) return; /* the cut lay behind the end */
  if (!p->ended || !one_of(p->end, allowed)) wrong(w, p, "end");
  if (p->outcome == OUT_ANSWER && p->got_status != 502) wrong(w, p, "status");
  if (p->outcome != OUT_ANSWER && p->outcome != OUT_CUT && p->outcome != OUT_LOST)
    wrong(w, p, "outcome");
  if (p->outcome == OUT_LOST && p->record.status == 0) wrong(w, p, "no answer");
  bool expect_next = p->outcome == OUT_ANSWER;
  if (expect_next != (next->outcome == OUT_OK)) wrong(w, next, "the next request");
}

static void upstream_cut_at_every_byte(void **state) {
  (void)state;
  uint32_t oks = 0, answers = 0, cuts = 0;
  for (int32_t at = 0; at < 260; at++) {
    for (uint64_t kind = 0; kind < 8; kind++) {
      struct world_conf conf;
      world_conf_init(&conf);
      uint64_t seed = kind + 8 * (uint64_t)at;
      struct world *w = world_new(seed, 1, at % 3 ? &soft : NULL, &conf);
      struct client *c = one_client(w);
      struct plan *p = cut_plan(w, kind, at);
      client_add(c, p);
      struct plan *next = follower(w, c);
      client_start(c);
      world_run(w, world_clients_done, 100000);
      up_cut_check(w, p, next);
      oks += p->outcome == OUT_OK;
      answers += p->outcome == OUT_ANSWER;
      cuts += p->outcome == OUT_CUT;
      world_end(w);
    }
  }
  assert_true(oks > 50 && answers > 200 && cuts > 100);
}

/* ---- the client breaks off at every byte of the request ---- */

static void client_cut_check(struct world *w, const struct plan *p) {
  static const enum end allowed[] = {END_CLIENT_RESET,          END_CLIENT_CLOSED,
                                     END_BAD_REQUEST_TRUNCATED, END_UPSTREAM_RESET,
                                     END_UPSTREAM_CLOSED,       END_OK};
  if (p->up_bodies && p->outcome != OUT_OK && p->frame != FRAME_NONE) wrong(w, p, "was completed");
  if (p->ended && p->end != END_OK && !one_of(p->end, allowed)) wrong(w, p, "end");
  if (p->outcome == OUT_OK && p->cut_fin) return;
  if (p->outcome == OUT_ANSWER && p->got_status != 400) wrong(w, p, "status");
}

static void client_cuts_at_every_byte(void **state) {
  (void)state;
  for (int32_t at = 0; at < 300; at++) {
    for (uint64_t kind = 0; kind < 6; kind++) {
      struct world_conf conf;
      world_conf_init(&conf);
      world_hold(&conf, kind + (uint64_t)at);
      struct world *w = world_new(kind + 8 * (uint64_t)at, 1, at % 3 ? &soft : NULL, &conf);
      struct client *c = one_client(w);
      struct plan *p = plan_new(w);
      p->frame = (uint8_t)(kind % 3);
      p->method = p->frame ? "POST" : "GET";
      p->len = p->frame ? 80 : 0;
      p->cut = at;
      p->cut_fin = kind >= 3;
      client_add(c, p);
      client_start(c);
      world_run(w, world_clients_done, 100000);
      world_for(w, 100);
      client_cut_check(w, p);
      world_end(w);
    }
  }
}

/* ---- the keepalive race ---- */

/* Servers end kept connections whenever they like: every GET is answered, and what may not be sent
 * twice is not. */
static void keepalive_race(void **state) {
  (void)state;
  uint64_t replays = 0, posts_failed = 0;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    world_conf_init(&conf);
    world_hold(&conf, seed);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &soft, &conf);
    for (uint32_t i = 0; i < 4; i++) {
      struct client *c = one_client(w);
      for (uint32_t n = 0; n < 10; n++) {
        struct plan *p = plan_new(w);
        if (world_chance(w, 25)) p->method = "POST";
        p->up_leave = world_chance(w, 20);
        client_add(c, p);
      }
      client_start(c);
    }
    while (!world_clients_done(w)) {
      if (world_chance(w, 5)) origin_close_idle(&w->origins[world_draw(w, 2)]);
      world_step(w);
      assert_true(w->steps < 200000);
    }
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      bool get = strcmp(p->method, "GET") == 0;
      if (get && p->outcome != OUT_OK) wrong(w, p, "a GET failed");
      if (!get && p->outcome != OUT_OK && p->outcome != OUT_ANSWER) wrong(w, p, "a POST");
      if (!get && p->up_heads > 1) wrong(w, p, "a POST was sent twice");
      posts_failed += p->outcome == OUT_ANSWER;
    }
    for (uint32_t i = 0; i < w->workers; i++) replays += worker_stats(w->worker[i])->replays;
    world_end(w);
  }
  assert_true(replays > 50);
  assert_true(posts_failed > 5);
}

/* ---- servers come and go ---- */

static void origin_flaps(void **state) {
  (void)state;
  uint64_t retries = 0, oks = 0, cut = 0;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    world_conf_init(&conf);
    world_hold(&conf, seed);
    conf.pools[0].outlier = (struct pool_outlier){.consecutive_failures = 3,
                                                  .eject_ms = 200,
                                                  .max_eject_ms = 2000,
                                                  .max_ejected_percent = 50};
    conf.pools[0].balance = (uint8_t)(seed % BALANCE_COUNT);
    conf.pools[0].spread.panic_percent = seed % 3 ? 0 : 50;
    conf.pools[0].spread.slow_start_ms = seed % 4 ? 0 : 300;
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % 2), &soft, &conf);
    for (uint32_t i = 0; i < 4; i++) {
      struct client *c = one_client(w);
      for (uint32_t n = 0; n < 12; n++) {
        struct plan *p = plan_new(w);
        p->up_len = (uint32_t)world_draw(w, 3000);
        p->up_frame = world_chance(w, 50) ? FRAME_LENGTH : FRAME_CHUNKED;
        client_add(c, p);
      }
      client_start(c);
    }
    struct origin *o = &w->origins[1];
    while (!world_clients_done(w)) {
      if (world_chance(w, 3)) {
        if (o->up) origin_down(o, true);
        else origin_up(o);
      }
      world_step(w);
      assert_true(w->steps < 400000);
    }
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      bool begun = p->ended && p->record.first_byte_ns != UINT64_MAX;
      if (p->outcome == OUT_NONE) continue; /* behind one that was cut */
      if (p->outcome != OUT_OK && !begun) wrong(w, p, "failed before a byte of the response");
      oks += p->outcome == OUT_OK;
      cut += p->outcome != OUT_OK;
    }
    for (uint32_t i = 0; i < w->workers; i++) retries += worker_stats(w->worker[i])->retries;
    world_end(w);
  }
  assert_true(retries > 100 && oks > 2000 && cut > 0);
}

/* A body that waits for its connection goes along when the attempt is made again elsewhere. */
static void retry_takes_the_body_along(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    world_conf_init(&conf);
    world_hold(&conf, seed);
    conf.pools[0].balance = BALANCE_ROUND_ROBIN;
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    origin_down(&w->origins[seed % 2], true);
    struct client *c = one_client(w);
    c->pipeline = seed % 2;
    for (uint32_t n = 0; n < 6; n++) {
      struct plan *p = plan_new(w);
      p->method = n % 2 ? "POST" : "GET";
      p->frame = n % 2 ? (uint8_t)(FRAME_LENGTH + n / 2 % 2) : FRAME_NONE;
      p->len = p->frame ? (uint32_t)world_draw(w, 9000) : 0;
      client_add(c, p);
    }
    client_start(c);
    world_run(w, world_clients_done, 100000);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      if (p->outcome != OUT_OK || p->up_heads != 1) wrong(w, p, "not retried whole");
    }
    world_end(w);
  }
}

/* ---- answers before the body ---- */

static int32_t head_len(struct world *w, const struct plan *p) {
  struct text out = {0};
  plan_request(w, p, &out);
  size_t len = out.len;
  text_fini(&out);
  return (int32_t)len;
}

/* Of weir's own answer to a request whose body nobody reads: what follows on the connection must
 * never be taken for a request: it belongs to the body, or cannot be read. */
static void unread_body_is_no_request(void **state) {
  (void)state;
  static const char smuggled[] = "GET /smuggled HTTP/1.1\r\nHost: h.test\r\n\r\n";
  for (uint64_t seed = 0; world_seed(&seed, 400);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.routes[1] = (struct world_route){
        .name = "fix", .path = "/fix", .status = 200, .body = "fixed"};
    conf.routes[0].path = "/app";
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    static const char *const prefixes[] = {"/none", "/fix", "/app"};
    if (seed % 3 == 2) {
      origin_down(&w->origins[0], true);
      origin_down(&w->origins[1], true);
    }
    struct client *c = one_client(w);
    struct plan *p = plan_new(w);
    p->method = "POST";
    p->prefix = prefixes[seed % 3];
    p->frame = seed & 8 ? FRAME_CHUNKED : FRAME_LENGTH;
    p->len = 4000;
    p->cut = p->frame == FRAME_LENGTH ? head_len(w, p) : INT32_MAX;
    p->cut_wait = p->hold_body = true;
    c->keep = true;
    client_add(c, p);
    client_start(c);
    for (uint32_t i = 0; i < 20; i++) client_write(c, SPAN_LIT(smuggled));
    world_run(w, world_clients_done, 100000);
    world_for(w, 5000);
    if (p->outcome != OUT_ANSWER) wrong(w, p, "no answer");
    assert_true(c->closed);
    assert_int_equal(worker_stats(w->worker[0])->proxied, 1);
    bool own = seed % 3 != 2; /* else endpoints were asked before */
    enum end end = p->frame == FRAME_LENGTH ? END_CLIENT_TIMEOUT_REST : END_BAD_REQUEST_CHUNK_SIZE;
    assert_int_equal(w->other_ends[end], own);
    world_end(w);
  }
}

/* Early answers of the origin: given to the client whole; the connection ends after it and nothing
 * of the body becomes a request. */
static void early_answers(void **state) {
  (void)state;
  uint32_t oks = 0;
  for (uint64_t seed = 0; world_seed(&seed, 400);) {
    struct world_conf conf;
    world_conf_init(&conf);
    world_hold(&conf, seed);
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct client *c = one_client(w);
    struct plan *p = plan_new(w);
    p->method = "POST";
    p->frame = seed & 1 ? FRAME_CHUNKED : FRAME_LENGTH;
    p->len = (uint32_t)world_draw(w, seed & 2 ? 100 : 200000);
    p->expect = world_chance(w, 40);
    p->hold_body = p->len && !conf.routes[0].buffer_bytes && world_chance(w, 40);
    p->early = true;
    p->status = world_chance(w, 50) ? 413 : 200;
    p->up_frame = (uint8_t)(FRAME_LENGTH + world_draw(w, 2));
    p->up_len = (uint32_t)world_draw(w, seed & 4 ? 100 : 100000);
    p->up_close = world_chance(w, 30);
    client_add(c, p);
    struct plan *next = follower(w, c);
    client_start(c);
    world_run(w, world_clients_done, 200000);
    if (p->outcome != OUT_OK) wrong(w, p, "the early answer");
    if (next->outcome != OUT_OK && next->outcome != OUT_LOST && next->outcome != OUT_NONE)
      wrong(w, next, "the next request");
    oks += next->outcome == OUT_OK;
    world_end(w);
  }
  assert_true(oks > 20);
}

/* ---- anything at all ---- */

/* hard_ends: causes that such a world explains; all others would be our own doing. */
static const enum end hard_ends[] = {
    END_CLIENT_CLOSED,         END_CLIENT_RESET,          END_CLIENT_TIMEOUT_HEADER,
    END_CLIENT_TIMEOUT_BODY,   END_CLIENT_TIMEOUT_SEND,   END_BAD_REQUEST_TRUNCATED,
    END_CONNECT_REFUSED,       END_CONNECT_TIMEOUT,       END_CONNECT_FAILED,
    END_FIRST_BYTE_TIMEOUT,    END_UPSTREAM_IDLE_TIMEOUT, END_UPSTREAM_TIMEOUT_SEND,
    END_UPSTREAM_RESET,        END_UPSTREAM_CLOSED,       END_UPSTREAM_TRUNCATED,
    END_BAD_RESPONSE_STATUS_LINE, /* garbage behind a response, met by the next request */
    END_OK};

static void hard_check(struct world *w) {
  for (int e = 0; e < END_COUNT; e++)
    if (w->ends[e] && e != END_OK && !one_of((enum end)e, hard_ends))
      fail_msg("seed %llu: end %s", (unsigned long long)w->seed, end_get((enum end)e)->word.ptr);
  for (uint32_t i = 0; i < w->plan_count; i++) {
    const struct plan *p = &w->plans[i];
    bool twice =
        p->up_heads > 1 && (strcmp(p->method, "POST") == 0 || strcmp(p->method, "BREW") == 0);
    if (twice) wrong(w, p, "was sent twice");
    if (p->outcome == OUT_OK && p->ended && p->end != END_OK && p->end != END_CLIENT_RESET)
      wrong(w, p, "complete, but not ok");
  }
}

static void hard_faults(void **state) {
  (void)state;
  static const struct sim_faults hard = {.short_read = 200,
                                         .short_write = 200,
                                         .delay = 200,
                                         .reorder = 300,
                                         .enobufs = 80,
                                         .reset = 8,
                                         .refuse = 100,
                                         .cancel_race = 400,
                                         .time_jump = 2};
  for (uint64_t seed = 0; world_seed(&seed, 500);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].balance = (uint8_t)(seed % BALANCE_COUNT);
    world_hold(&conf, seed);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &hard, &conf);
    for (uint32_t i = 0; i < 5; i++) {
      struct client *c = one_client(w);
      c->pipeline = world_chance(w, 30);
      for (uint32_t n = 0; n < 6; n++) {
        struct plan *p = plan_random(w);
        if (world_chance(w, 10)) p->up_cut = (int32_t)world_draw(w, 2000);

        if (world_chance(w, 10)) p->up_leave = true;
        if (world_chance(w, 5)) p->stall = true;
        if (world_chance(w, 5)) p->early = true;
        if (world_chance(w, 5)) p->up_garbage = 1 + (uint32_t)world_draw(w, 3000);
        if (p->up_frame == FRAME_CLOSE) { /* there a FIN or more bytes make another body */
          p->up_cut = -1;
          p->up_garbage = 0;
        }
        client_add(c, p);
      }
      client_start(c);
    }
    world_run(w, world_clients_done, 1000000);
    hard_check(w);
    world_end(w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(upstream_cut_at_every_byte),
      cmocka_unit_test(client_cuts_at_every_byte),
      cmocka_unit_test(keepalive_race),
      cmocka_unit_test(origin_flaps),
      cmocka_unit_test(retry_takes_the_body_along),
      cmocka_unit_test(unread_body_is_no_request),
      cmocka_unit_test(early_answers),
      cmocka_unit_test(hard_faults),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
