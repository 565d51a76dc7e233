/* sim_proxy_regress.c: one named test for each fix whose loss the broader simulations would not
 * notice: who is blamed for a late 100, what may be replayed, own pressure, permits between
 * workers, lingering connections, connects that fail at once, early responses. Each was seen to
 * fail without its fix. */
#include <errno.h>
#include <stdio.h>

#include "h2_peer.h"
#include "io/io_priv.h"
#include "proxy_world.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

static void wrong(const struct world *w, const struct plan *p, const char *what) {
  fail_msg("seed %llu: plan %u (%s): %s: outcome %d status %u %s end %s, seen %u/%u",
           (unsigned long long)w->seed, p->id, p->method, what, (int)p->outcome, p->got_status,
           p->details, p->ended ? end_get(p->end)->word.ptr : "(none)", p->up_heads, p->up_bodies);
}

/* STEP_WHILE steps as long as cond holds; the bound is a guard against a hang. */
#define STEP_WHILE(w, cond)                     \
  for (uint64_t step_n = 0; (cond); step_n++) { \
    world_step(w);                              \
    assert_true(step_n < 400000);               \
  }

static void must_end(const struct world *w, const struct plan *p, enum outcome outcome,
                     uint16_t status, enum end end) {
  if (p->outcome != outcome || p->got_status != status || !p->ended || p->end != end)
    wrong(w, p, end_get(end)->word.ptr);
}

static struct plan *post(struct world *w, uint8_t frame, uint32_t len) {
  struct plan *p = plan_new(w);
  p->method = "POST";
  p->frame = frame;
  p->len = len;
  return p;
}

static struct client *start(struct world *w, uint32_t worker, const struct plan *p) {
  struct client *c = client_new(w, worker);
  client_add(c, p);
  client_start(c);
  return c;
}

static struct endpoint *endpoint_at(struct world *w, uint32_t place) {
  return w->current->pools[0]->members[place].endpoint;
}

/* raw is a client that is written by hand and hangs up only when it is told to. */
struct raw {
  struct sim_peer *peer;
  struct text in;
  bool closed, reset;
};

static void raw_data(struct sim_peer *peer, struct span bytes, void *ctx) {
  struct raw *r = ctx;
  (void)peer;
  text_put(&r->in, bytes);
}

static void raw_close(struct sim_peer *peer, bool reset, void *ctx) {
  struct raw *r = ctx;
  (void)peer;
  r->closed = true;
  r->reset = reset;
}

static void raw_open(struct world *w, struct raw *r, struct span bytes) {
  struct addr at = world_addr("127.0.0.1:8000");
  *r = (struct raw){.peer = sim_peer_connect(w->sim, &at)};
  sim_peer_on_data(r->peer, raw_data, raw_close, r);
  sim_peer_write(r->peer, bytes);
}

static void raw_free(struct raw *r) {
  sim_peer_free(r->peer);
  text_fini(&r->in);
}

/* ---- Expect: 100-continue ---- */

/* slow is an origin that says 100 (Continue) only when it is told to. */
struct slow {
  struct world *w;
  struct plan *p;
  struct sim_peer *peer;
  struct text in;
};

static size_t slow_body(const struct slow *s) {
  struct span in = text_span(&s->in);
  for (size_t i = 3; i < in.len; i++)
    if (span_eq(span_sub(in, i - 3, 4), SPAN_LIT("\r\n\r\n"))) return in.len - i - 1;
  return 0;
}

static bool slow_asked(const struct slow *s) {
  size_t len = s->in.len;
  return len >= 4 && span_eq(span_from(text_span(&s->in), len - 4), SPAN_LIT("\r\n\r\n"));
}

static void slow_data(struct sim_peer *peer, struct span bytes, void *ctx) {
  struct slow *s = ctx;
  bool before = slow_body(s) >= s->p->len;
  text_put(&s->in, bytes);
  if (before || slow_body(s) < s->p->len) return;
  struct text out = {0};
  plan_response(s->w, s->p, 0, &out);
  plan_body(s->w, s->p, false, false, &out);
  sim_peer_write(peer, text_span(&out));
  text_fini(&out);
}

static void slow_close(struct sim_peer *peer, bool reset, void *ctx) {
  struct slow *s = ctx;
  (void)reset;
  sim_peer_free(peer);
  s->peer = NULL;
}

static void slow_accept(struct sim_peer *peer, void *ctx) {
  struct slow *s = ctx;
  s->peer = peer;
  sim_peer_on_data(peer, slow_data, slow_close, s);
}

/* slow_world: a client that waits for 100 has 5 s for its body, the endpoint 8 s for a byte. */
static struct world *slow_world(uint64_t seed, struct slow *s) {
  struct world_conf conf;
  world_conf_init(&conf);
  conf.pools[0].origins = 1;
  conf.pools[0].timeouts.first_byte_ms = 8000;
  conf.timeouts.body_ms = 5000;
  struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
  struct plan *p = post(w, seed & 1 ? FRAME_CHUNKED : FRAME_LENGTH, 500);
  p->expect = true;
  *s = (struct slow){.w = w, .p = p};
  origin_down(&w->origins[0], true);
  sim_peer_listen(w->sim, &w->origins[0].at, slow_accept, s);
  return w;
}

static void slow_end(struct slow *s) {
  world_end(s->w);
  text_fini(&s->in);
}

/* The client rightly waits: an endpoint that never says 100 is to blame. */
static void a_100_that_never_comes_is_the_endpoints_fault(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct slow s;
    struct world *w = slow_world(seed, &s);
    (void)start(w, 0, s.p);
    world_run(w, world_clients_done, 100000);
    must_end(w, s.p, OUT_ANSWER, 504, END_FIRST_BYTE_TIMEOUT);
    uint64_t ms = s.p->record.total_ns / 1000000;
    if (ms < 7900 || ms > 8500) wrong(w, s.p, "not after timeouts.first_byte");
    assert_int_equal(slow_body(&s), 0);
    slow_end(&s);
  }
}

/* sleep_over leaps over ms in which nobody says anything, and runs the timers that were due. */
static void sleep_over(struct world *w, uint64_t ms) {
  uint64_t until = sim_now_ms(w->sim) + ms;
  STEP_WHILE(w, sim_now_ms(w->sim) < until);
  STEP_WHILE(w, wheel_next_ms(&w->worker[0]->loop->wheel) <= sim_now_ms(w->sim));
}

/* One that comes after timeouts.body, but within timeouts.first_byte, is in time. */
static void a_late_100_is_in_time(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct slow s;
    struct world *w = slow_world(seed, &s);
    s.p->frame = FRAME_LENGTH;
    (void)start(w, 0, s.p);
    STEP_WHILE(w, !slow_asked(&s));
    sleep_over(w, 5000);
    if (s.p->ended) wrong(w, s.p, "the client was blamed");
    sim_peer_write(s.peer, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
    world_run(w, world_clients_done, 100000);
    must_end(w, s.p, OUT_OK, 200, END_OK);
    slow_end(&s);
  }
}

/* After the 100 it is the client's turn again. */
static void a_client_that_was_told_to_go_on_is_to_blame(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.timeouts.body_ms = 5000;
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct plan *p = post(w, seed & 1 ? FRAME_CHUNKED : FRAME_LENGTH, 500);
    p->expect = p->hold_body = true;
    (void)start(w, 0, p);
    world_run(w, world_clients_done, 100000);
    must_end(w, p, OUT_ANSWER, 408, END_CLIENT_TIMEOUT_BODY);
    world_end(w);
  }
}

/* The client's time for the body begins with the 100, not with the request. */
static void the_100_restarts_the_time_for_the_body(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct slow s;
    struct world *w = slow_world(seed, &s);
    s.p->frame = FRAME_LENGTH;
    s.p->hold_body = true;
    s.p->len = 1; /* all of it is held back */
    (void)start(w, 0, s.p);
    STEP_WHILE(w, !slow_asked(&s));
    uint64_t asked_ms = sim_now_ms(w->sim);
    sleep_over(w, 5000);
    uint64_t waited_ms = sim_now_ms(w->sim) - asked_ms;
    sim_peer_write(s.peer, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
    world_run(w, world_clients_done, 100000);
    must_end(w, s.p, OUT_ANSWER, 408, END_CLIENT_TIMEOUT_BODY);
    if (s.p->record.total_ns / 1000000 < waited_ms + 4900) wrong(w, s.p, "blamed too early");
    slow_end(&s);
  }
}

/* Early hints are no 100: the client still rightly waits. */
static void hints_do_not_tell_the_client_to_go_on(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct slow s;
    struct world *w = slow_world(seed, &s);
    (void)start(w, 0, s.p);
    STEP_WHILE(w, !slow_asked(&s));
    sim_peer_write(s.peer, SPAN_LIT("HTTP/1.1 103 Early Hints\r\n\r\n"));
    world_run(w, world_clients_done, 100000);
    must_end(w, s.p, OUT_ANSWER, 504, END_FIRST_BYTE_TIMEOUT);
    slow_end(&s);
  }
}

/* ---- the keepalive race of a request without a body that says so ---- */

static const struct replay_case {
  const char *method;
  uint32_t len;
  bool again;
} replay_cases[] = {
    {"GET", 0, true},  {"PUT", 0, true},   {"DELETE", 0, true},
    {"PUT", 1, false}, {"POST", 0, false}, {"BREW", 0, false},
};

static void replay_case(const struct replay_case *t, uint64_t seed) {
  struct world_conf conf;
  world_conf_init(&conf);
  conf.pools[0].origins = 1;
  struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
  struct client *c = client_new(w, 0);
  client_add(c, plan_new(w));
  struct plan *p = post(w, FRAME_LENGTH, t->len);
  p->method = t->method;
  p->up_cut = 0; /* the origin ends the kept connection without a byte */
  p->up_cut_fin = seed & 1;
  client_add(c, p);
  client_start(c);
  while (!world_clients_done(w)) {
    world_step(w);
    if (p->up_bodies) p->up_cut = -1;
    assert_true(w->steps < 100000);
  }
  if (t->again) must_end(w, p, OUT_OK, 200, END_OK);
  else if (p->outcome != OUT_ANSWER || p->got_status != 502) wrong(w, p, "no 502");
  if (p->up_heads != (t->again ? 2u : 1u)) wrong(w, p, "sent so often");
  if (seed % 3 == 0) {
    assert_int_equal(worker_stats(w->worker[0])->replays, t->again);
    /* What the client had to be told is the endpoint's failure. */
    assert_int_equal(atomic_load(&endpoint_at(w, 0)->rows[0].failures), !t->again);
  }
  world_end(w);
}

static void content_length_0_is_replayed(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(replay_cases); i++)
    for (uint64_t seed = 0; world_seed(&seed, 20);) replay_case(&replay_cases[i], seed);
}

/* ---- own pressure ---- */

static struct down *only_down(struct world *w) {
  struct list *first = w->worker[0]->servings.next;
  if (first == &w->worker[0]->servings) return NULL;
  struct serving *sv = container_of(first, struct serving, link);
  return list_empty(&sv->downs) ? NULL : container_of(sv->downs.next, struct down, link);
}

static struct stream *only_stream(struct world *w) {
  struct down *d = only_down(w);
  return d ? d->stream : NULL;
}

/* Moments at which a conn finds no buffer. */
static bool awaits_head(const struct stream *s) {
  return s->step == STEP_SEND && s->up_body.state != PUMP_RUN && !conn_pending(s->try.up->conn);
}
static bool uploads(const struct stream *s) {
  return s->step == STEP_SEND && s->up_body.state == PUMP_RUN && body_moved(&s->up_body) > 0;
}
static bool downloads(const struct stream *s) {
  return s->step == STEP_RELAY && s->down_body.state == PUMP_RUN;
}
static bool tunnels(const struct stream *s) { return s->step == STEP_TUNNEL; }

static const struct pressure_case {
  const char *name;
  bool (*when)(const struct stream *s);
  bool client; /* it is the client's conn, on which nothing can be sent any more */
  uint8_t frame, up_frame;
  uint16_t status; /* as logged */
  bool answered;
} pressure_cases[] = {
    {"waiting for the head", awaits_head, false, FRAME_NONE, FRAME_LENGTH, 503, true},
    {"waiting after a body", awaits_head, false, FRAME_LENGTH, FRAME_LENGTH, 503, true},
    {"towards the endpoint", uploads, false, FRAME_LENGTH, FRAME_LENGTH, 503, true},
    {"from the client", uploads, true, FRAME_LENGTH, FRAME_LENGTH, 503, false},
    {"a body by length", downloads, false, FRAME_NONE, FRAME_LENGTH, 200, false},
    {"a chunked body", downloads, false, FRAME_NONE, FRAME_CHUNKED, 200, false},
    {"a body to the client", downloads, true, FRAME_NONE, FRAME_LENGTH, 200, false},
    {"a tunnel from the endpoint", tunnels, false, FRAME_NONE, FRAME_NONE, 101, false},
    {"a tunnel from the client", tunnels, true, FRAME_NONE, FRAME_NONE, 101, false},
};

static struct world *pressure_world(uint64_t seed) {
  struct world_conf conf;
  world_conf_init(&conf);
  conf.pools[0].outlier = (struct pool_outlier){.consecutive_failures = 1,
                                                .consecutive_5xx = 1,
                                                .eject_ms = 10000,
                                                .max_ejected_percent = 100};
  return world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
}

/* endpoints_untouched: none was blamed for what this process lacked. */
static void endpoints_untouched(struct world *w) {
  for (uint32_t i = 0; i < 2; i++) {
    const struct endpoint *e = endpoint_at(w, i);
    assert_int_equal(atomic_load(&e->failures), 0);
    assert_int_equal(atomic_load(&e->failures_5xx), 0);
    assert_int_equal(atomic_load(&e->rows[0].failures), 0);
    assert_int_equal(atomic_load(&e->ejections), 0);
  }
}

static struct plan *pressure_plan(struct world *w, const struct pressure_case *t) {
  struct plan *p = post(w, t->frame, t->when == uploads ? 2u << 20 : t->frame ? 100 : 0);
  p->stall = t->when == awaits_head;
  p->up_frame = t->up_frame;
  p->up_len = t->when == downloads ? 2u << 20 : 200;
  if (t->when == uploads) w->origins[0].window = w->origins[1].window = 1000;
  if (t->when != tunnels) return p;
  p->method = "GET";
  p->upgrade = true;
  p->status = 101;
  return p;
}

static void pressure_case(const struct pressure_case *t, uint64_t seed) {
  struct world *w = pressure_world(seed);
  struct plan *p = pressure_plan(w, t);
  struct client *c = client_new(w, 0);
  c->window = 1000;
  c->stuck = t->when == downloads;
  client_add(c, p);
  client_start(c);
  STEP_WHILE(w, !only_stream(w) || !t->when(only_stream(w)));
  struct stream *s = only_stream(w);
  conn_fail(t->client ? s->down->conn : s->try.up->conn, seed % 2 ? -ENOBUFS : -ENOMEM);
  c->stuck = false;
  world_run(w, world_clients_done, 100000);
  if (!p->ended || p->end != END_LIMIT_MEMORY || p->record.status != t->status)
    wrong(w, p, t->name);
  if ((p->outcome == OUT_ANSWER) != t->answered && !t->client) wrong(w, p, t->name);
  if (p->outcome == OUT_OK) wrong(w, p, t->name);
  endpoints_untouched(w);
  world_end(w);
}

static void own_pressure_blames_nobody(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(pressure_cases); i++)
    for (uint64_t seed = 0; world_seed(&seed, 20);) pressure_case(&pressure_cases[i], seed);
}

/* No slot for another conn, or for another connection to an endpoint: 503 at once, and served
 * again when there is one. */
static void no_slots_blame_nobody(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 40);) {
    struct world *w = pressure_world(seed);
    struct slab *slab =
        seed % 2 ? &w->worker[0]->loop->conns : &w->worker[0]->upstream.upconns;
    uint32_t limit = slab->limit;
    world_for(w, 1);
    slab->limit = slab->live + seed % 2; /* the client's own conn */
    struct plan *p = plan_new(w), *next = plan_new(w);
    (void)start(w, 0, p);
    world_run(w, world_clients_done, 100000);
    must_end(w, p, OUT_ANSWER, 503, END_LIMIT_MEMORY);
    endpoints_untouched(w);
    slab->limit = limit;
    (void)start(w, 0, next);
    world_run(w, world_clients_done, 100000);
    must_end(w, next, OUT_OK, 200, END_OK);
    world_end(w);
  }
}

/* ---- permits between workers ---- */

enum { CLIENTS = 6, REQUESTS = 20 };
/* RUN_MOST: how often one of two workers may be served in a row while the other waits: of what it
 * gives back the other gets one in four (a coin, and who comes first). TURNS_MOST is for one
 * request: about 10 were seen. */
#define RUN_MOST 60u
#define TURNS_MOST 100u

static uint64_t turns(const struct world *w) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < w->workers; i++) n += worker_loop_stats(w->worker[i])->turns;
  return n;
}

static uint64_t queued(const struct world *w) {
  return worker_stats(w->worker[0])->queued + worker_stats(w->worker[1])->queued;
}

static struct world *permit_world(uint64_t seed) {
  struct world_conf conf;
  world_conf_init(&conf);
  conf.pools[0].origins = 1;
  conf.pools[0].connections.max_per_endpoint = 1;
  conf.pools[0].connections.queue_timeout_ms = 60000;
  struct world *w = world_new(seed, 2, seed % 3 ? &soft : NULL, &conf);
  w->capped = true;
  return w;
}

/* runs counts requests of one worker in a row while the other one waits. */
struct runs {
  uint32_t seen, run, longest;
  uint8_t side;
};

static void runs_look(struct world *w, struct runs *r) {
  for (uint32_t i = 0; i < w->plan_count && r->seen < w->up_order; i++) {
    const struct plan *p = &w->plans[i];
    if (!p->up_heads || p->up_order != r->seen) continue;
    uint8_t side = (uint8_t)(i / REQUESTS % 2);
    bool other_waits = worker_stats(w->worker[!side])->queued > 0;
    r->run = side == r->side && other_waits ? r->run + 1 : other_waits;
    r->side = side;
    r->seen++;
    if (r->run > r->longest) r->longest = r->run;
  }
}

/* Both have waiters all the time: the only connection goes from one to the other and back. */
static void two_workers_share_one_permit(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct world *w = permit_world(seed);
    for (uint32_t i = 0; i < 2 * CLIENTS; i++) {
      struct client *c = client_new(w, i % 2);
      for (uint32_t n = 0; n < REQUESTS; n++) client_add(c, plan_new(w));
      client_start(c);
    }
    struct runs runs = {0};
    STEP_WHILE(w, (runs_look(w, &runs), !world_clients_done(w)));
    for (uint32_t i = 0; i < w->plan_count; i++) must_end(w, &w->plans[i], OUT_OK, 200, END_OK);
    if (runs.longest > RUN_MOST)
      fail_msg("seed %llu: %u in a row", (unsigned long long)seed, runs.longest);
    if (turns(w) > (uint64_t)TURNS_MOST * w->plan_count)
      fail_msg("seed %llu: %llu turns", (unsigned long long)seed, (unsigned long long)turns(w));
    world_end(w);
  }
}

/* Waiting is quiet: workers whose streams wait for a permit sleep. */
static void waiting_for_a_permit_takes_no_turns(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 30);) {
    struct world *w = permit_world(seed);
    struct plan *holder = plan_new(w);
    holder->stall = true;
    (void)start(w, 0, holder);
    STEP_WHILE(w, !holder->up_bodies);
    for (uint32_t i = 0; i < 4; i++) (void)start(w, i % 2, plan_new(w));
    STEP_WHILE(w, queued(w) < 4);
    uint64_t before = turns(w), since = sim_now_ms(w->sim);
    world_for(w, 20000);
    if (turns(w) - before > 200)
      fail_msg("seed %llu: %llu turns in %llu ms of waiting", (unsigned long long)seed,
               (unsigned long long)(turns(w) - before),
               (unsigned long long)(sim_now_ms(w->sim) - since));
    world_end(w);
  }
}

/* ---- lingering ---- */

enum { SHARE = 20, LINGER_MOST = SHARE / 2 + 16, STAYERS = 120, SLOTS = 64 };

/* lingering is how many conns are closed for weir and not for their peers (the listener aside). */
static uint32_t lingering(const struct worker *w) {
  uint32_t closed = w->loop->conns.live - 1 - w->downs.live - w->upstream.upconns.live;
  assert_true(w->loop->lingering <= closed); /* conns that are dead are buried with the turn */
  return closed;
}

static void stay(struct world *w, struct raw *r) {
  raw_open(w, r, SPAN_LIT("GET /fix HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n"));
  uint64_t served = worker_stats(w->worker[0])->proxied;
  for (int i = 0; i < 5000 && worker_stats(w->worker[0])->proxied == served; i++) world_step(w);
}

/* Clients that never hang up hold a bounded number of slots, new ones are served at once, and
 * every response is sent. */
static void lingering_is_bounded(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.max_connections = SHARE;
    conf.routes[1] = (struct world_route){
        .name = "fix", .path = "/fix", .status = 200, .body = "fixed"};
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct worker *worker = w->worker[0];
    uint32_t slots = worker->loop->conns.limit, most = 0;
    static struct raw stayers[STAYERS];
    world_for(w, 1);
    worker->loop->conns.limit = SLOTS;
    for (uint32_t i = 0; i < STAYERS; i++) {
      stay(w, &stayers[i]);
      world_for(w, 10); /* who is not waited for is gone after a tick */
      if (lingering(worker) > most) most = lingering(worker);
    }
    if (most > LINGER_MOST + 4)
      fail_msg("seed %llu: %u linger", (unsigned long long)seed, most);
    assert_true(most >= SHARE / 2);
    struct plan *p = plan_new(w);
    uint64_t since = sim_now_ms(w->sim);
    (void)start(w, 0, p);
    world_run(w, world_clients_done, 100000);
    must_end(w, p, OUT_OK, 200, END_OK);
    assert_true(sim_now_ms(w->sim) < since + 1000); /* nobody's linger time had to end */
    world_for(w, 5000);
    assert_int_equal(lingering(worker), 0);
    assert_int_equal(worker->loop->lingering, 0);
    for (uint32_t i = 0; i < STAYERS; i++) /* each got its response, waited for or not */
      assert_true(stayers[i].reset || stayers[i].in.len > 50);
    worker->loop->conns.limit = slots;
    for (uint32_t i = 0; i < STAYERS; i++) raw_free(&stayers[i]);
    world_end(w);
  }
}

enum { ASKED = SHARE / 2 + 30 };

/* ask_much is a client of HTTP/2 whose requests all wait for endpoints that do not answer. */
static void ask_much(struct world *w, struct raw *r) {
  struct h2_peer peer;
  h2_peer_init(&peer);
  h2_peer_hello(&peer, NULL, 0);
  for (uint32_t i = 0; i < ASKED; i++)
    (void)h2_peer_request(&peer, ":method: GET\n:scheme: http\n:authority: h.test\n:path: /r/0\n",
                          true);
  raw_open(w, r, text_span(&peer.out));
  h2_peer_fini(&peer);
}

/* Streams of HTTP/2 have conns too, and lend the closing ones no less of their time. */
static void who_is_served_is_not_who_lingers(void **state) {
  (void)state;
  struct world_conf conf;
  world_conf_init(&conf);
  conf.max_connections = SHARE;
  conf.protocols = LISTENER_HTTP_1_1 | LISTENER_H2C;
  conf.routes[1] =
      (struct world_route){.name = "fix", .path = "/fix", .status = 200, .body = "fixed"};
  struct world *w = world_new(1, 1, NULL, &conf);
  struct worker *worker = w->worker[0];
  struct raw busy, stayer;
  for (uint32_t i = 0; i < 2; i++) {
    origin_down(&w->origins[i], true);
    sim_peer_blackhole(w->sim, &w->origins[i].at);
  }
  ask_much(w, &busy);
  STEP_WHILE(w, worker->upstream.upconns.live < ASKED);
  stay(w, &stayer);
  world_for(w, 1000);
  assert_int_equal(worker->upstream.upconns.live, ASKED); /* they wait still */
  assert_int_equal(worker->loop->lingering, 1);           /* nor is a closing one's time over */
  world_for(w, 2000);
  assert_int_equal(worker->loop->lingering, 0);
  assert_true(stayer.in.len > 50 && stayer.closed);
  raw_free(&busy);
  raw_free(&stayer);
  world_end(w);
}

/* ---- connects that fail before they begin ---- */

static struct {
  struct loop_ops ops;
  int (*socket)(struct loop *loop, int family);
  uint32_t fails; /* so many sockets to come are refused */
  int err;
} broken;

static int broken_socket(struct loop *loop, int family) {
  if (broken.fails == 0) return broken.socket(loop, family);
  broken.fails--;
  return broken.err;
}

static void break_sockets(struct world *w, uint32_t fails, int err) {
  struct loop *loop = w->worker[0]->loop;
  broken.ops = *loop->ops;
  broken.socket = loop->ops->socket;
  broken.ops.socket = broken_socket;
  broken.fails = fails;
  broken.err = err;
  loop->ops = &broken.ops;
}

static const struct at_once_case {
  int err;
  uint32_t fails;
  uint16_t status;
  enum end end;
  uint32_t attempts;
} at_once_cases[] = {
    {-EAFNOSUPPORT, 9, 502, END_CONNECT_FAILED, 2},
    {-ENOENT, 9, 502, END_CONNECT_REFUSED, 2},
    {-EACCES, 9, 502, END_CONNECT_UNREACHABLE, 2},
    {-EMFILE, 9, 503, END_LIMIT_DESCRIPTORS, 1},
    {-ENOBUFS, 9, 503, END_LIMIT_MEMORY, 1},
    {-EAFNOSUPPORT, 1, 200, END_OK, 2},
};

static void at_once_case(const struct at_once_case *t, uint64_t seed) {
  struct world_conf conf;
  world_conf_init(&conf);
  struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
  break_sockets(w, t->fails, t->err);
  struct plan *p = post(w, (uint8_t)(seed % 3), seed % 3 ? 3000 : 0);
  if (!p->frame) p->method = "GET";
  (void)start(w, 0, p);
  world_run(w, world_clients_done, 100000);
  must_end(w, p, t->end == END_OK ? OUT_OK : OUT_ANSWER, t->status, t->end);
  assert_int_equal(p->record.attempts, t->attempts);
  assert_true(p->record.total_ns < 1000000000u); /* no timer was needed */
  bool own = t->end == END_LIMIT_MEMORY || t->end == END_LIMIT_DESCRIPTORS;
  uint32_t blamed = endpoint_at(w, 0)->failures + endpoint_at(w, 1)->failures;
  assert_int_equal(blamed, own ? 0 : t->end == END_OK ? 1 : 2);
  world_end(w);
}

static void a_connect_that_fails_at_once_is_answered(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(at_once_cases); i++)
    for (uint64_t seed = 0; world_seed(&seed, 20);) at_once_case(&at_once_cases[i], seed);
}

/* The same for a request that comes out of the queue. */
static void a_queued_connect_that_fails_at_once_is_answered(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].origins = 1;
    conf.pools[0].connections.max_per_endpoint = 1;
    conf.pools[0].connections.queue_timeout_ms = 60000;
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct plan *holder = post(w, FRAME_NONE, 0), *waits = plan_new(w);
    holder->stall = true;
    (void)start(w, 0, holder);
    STEP_WHILE(w, !holder->up_bodies);
    (void)start(w, 0, waits);
    STEP_WHILE(w, !worker_stats(w->worker[0])->queued);
    break_sockets(w, 9, -EAFNOSUPPORT);
    origin_down(&w->origins[0], true);
    world_run(w, world_clients_done, 100000);
    must_end(w, holder, OUT_ANSWER, 502, END_UPSTREAM_RESET);
    must_end(w, waits, OUT_ANSWER, 502, END_CONNECT_FAILED);
    assert_true(waits->record.total_ns < 1000000000u);
    world_end(w);
  }
}

/* ---- early responses ---- */

static bool has(struct span text, struct span part) {
  for (size_t i = 0; i + part.len <= text.len; i++)
    if (span_eq(span_sub(text, i, part.len), part)) return true;
  return false;
}

/* The endpoint refuses while the client still owes who knows how much: the response says that the
 * connection ends, comes whole though the client goes on sending, and then the connection ends. */
static void an_early_response_says_close(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct plan *p = post(w, FRAME_CHUNKED, 90000);
    p->early = true;
    p->status = 413;
    p->up_len = seed & 2 ? 60000 : 100;
    struct text out = {0};
    plan_request(w, p, &out);
    size_t head = out.len;
    plan_body(w, p, true, true, &out);
    struct raw r;
    raw_open(w, &r, span_sub(text_span(&out), 0, head + 1000));
    STEP_WHILE(w, !r.in.len);
    sim_peer_write(r.peer, span_from(text_span(&out), head + 1000));
    STEP_WHILE(w, !r.closed);
    assert_false(r.reset);
    assert_true(has(text_span(&r.in), SPAN_LIT("\r\nConnection: close\r\n")));
    assert_true(r.in.len > p->up_len);
    struct span body = span_from(text_span(&r.in), r.in.len - p->up_len);
    assert_true(has(span_sub(text_span(&r.in), 0, r.in.len - p->up_len), SPAN_LIT("\r\n\r\n")));
    for (size_t i = 0; i < body.len; i++) assert_true(body.ptr[i] == plan_byte(p, false, i));
    assert_int_equal(p->end, END_OK);
    assert_int_equal(p->up_heads, 1);
    raw_free(&r);
    text_fini(&out);
    world_end(w);
  }
}

/* Where little is left it is read and dropped, and what stands behind it is the next request. */
static void an_early_response_keeps_its_connection(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    world_conf_init(&conf);
    struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
    struct plan *p = post(w, seed & 1 ? FRAME_CHUNKED : FRAME_LENGTH, 90000);
    struct plan *next = plan_new(w);
    p->early = next->close = true;
    p->up_len = seed & 2 ? 60000 : 100;
    if (seed & 8) p->status = 403;
    struct text out = {0};
    plan_request(w, p, &out);
    size_t first = out.len + (seed & 4 ? 1000 : 0);
    plan_body(w, p, true, false, &out);
    plan_request(w, next, &out);
    struct raw r;
    raw_open(w, &r, span_sub(text_span(&out), 0, first));
    STEP_WHILE(w, !r.in.len);
    sim_peer_write(r.peer, span_from(text_span(&out), first));
    STEP_WHILE(w, !r.closed);
    assert_false(r.reset);
    assert_int_equal(p->end, END_OK);
    assert_int_equal(next->end, END_OK);
    assert_int_equal(p->up_heads, 1);
    assert_int_equal(next->up_heads, 1);
    raw_free(&r);
    text_fini(&out);
    world_end(w);
  }
}

enum { UPLOAD = 1 << 20, LINGER_FOR_MS = 2000 };

enum rest_last { STAYS, ENDS, RESETS };

static const struct rest_case {
  const char *rest;
  enum rest_last last;
  enum end end; /* OK: none is told */
} rest_cases[] = {
    {"", STAYS, END_CLIENT_TIMEOUT_REST},
    {"5\r\nab", STAYS, END_CLIENT_TIMEOUT_REST},
    {"5\r\nhello\r\n-", STAYS, END_BAD_REQUEST_CHUNK_SIZE},
    {"5\r\nhello\nGET / HTTP/1.1\r\n", STAYS, END_BAD_REQUEST_CHUNK},
    {"0\r\nGET / HTTP/1.1\r\n", STAYS, END_BAD_REQUEST_TRAILER},
    {"", ENDS, END_OK},
    {"5\r\nab", ENDS, END_OK},
    {"5\r\nab", RESETS, END_CLIENT_RESET},
};

static void rest_case(const struct rest_case *t, uint64_t seed) {
  struct world_conf conf;
  world_conf_init(&conf);
  struct world *w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf);
  struct plan *p = post(w, FRAME_CHUNKED, 90000);
  p->early = true;
  p->up_len = seed & 2 ? 60000 : 100;
  p->status = seed & 4 ? 403 : 200;
  struct text out = {0};
  plan_request(w, p, &out);
  struct raw r;
  raw_open(w, &r, text_span(&out));
  STEP_WHILE(w, !p->ended);
  uint64_t since = sim_now_ms(w->sim);
  sim_peer_write(r.peer, span_str(t->rest));
  if (t->last == ENDS) sim_peer_shutdown(r.peer);
  if (t->last == RESETS) sim_peer_reset(r.peer);
  STEP_WHILE(w, w->worker[0]->down_count);
  uint64_t took = sim_now_ms(w->sim) - since;
  bool late = t->end == END_CLIENT_TIMEOUT_REST;
  assert_in_range(took, late ? LINGER_FOR_MS - 500 : 0, late ? LINGER_FOR_MS + 500 : 500);
  world_for(w, 10);
  for (uint32_t i = 1; i < END_COUNT; i++)
    if (w->other_ends[i] != (i == t->end)) fail_msg("%u times %u", w->other_ends[i], i);
  assert_int_equal(p->end, END_OK);
  assert_int_equal(p->up_heads, 1);
  raw_free(&r);
  text_fini(&out);
  world_end(w);
}

/* What ends a connection while it has the rest of a request is told once, with one word. */
static void the_rest_of_a_request_has_one_end(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rest_cases); i++)
    for (uint64_t seed = 0; world_seed(&seed, 40);) rest_case(&rest_cases[i], seed);
}

/* upload sends all of a request that is too large. */
static void upload(struct world *w, struct raw *r) {
  static char body[UPLOAD];
  raw_open(w, r, SPAN_LIT("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n"));
  sim_peer_write(r->peer, span_of(body, sizeof body));
}

static void ring(struct timer *timer, uint64_t now_ms) { (void)timer, (void)now_ms; }

/* settle lets happen what does not wait for time: the clock goes no further than this timer. */
static void settle(struct world *w) {
  struct wheel *wheel = &w->worker[0]->loop->wheel;
  struct timer bell;
  timer_init(&bell, ring);
  timer_set(wheel, &bell, sim_now_ms(w->sim) + 100);
  world_for(w, 100);
  timer_stop(wheel, &bell);
}

/* Who is refused and sends on is not reset while there is a response to read: its bytes wait until
 * it leaves, or the time is over. */
static void who_sends_on_is_not_reset(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.limits.body_bytes = 10000;
    struct world *w = world_new(seed, 1, seed % 4 ? &soft : NULL, &conf);
    struct loop *loop = w->worker[0]->loop;
    struct raw r;
    upload(w, &r);
    STEP_WHILE(w, !r.closed);
    uint64_t since = sim_now_ms(w->sim);
    if (r.reset) fail_msg("seed %llu: reset", (unsigned long long)seed);
    assert_true(has(text_span(&r.in), SPAN_LIT("HTTP/1.1 413 ")));
    settle(w);
    assert_int_equal(loop->lingering, 1);
    bool stays = seed % 3 == 0;
    if (seed % 3 == 1) sim_peer_reset(r.peer);
    if (seed % 3 == 2) sim_peer_shutdown(r.peer);
    STEP_WHILE(w, loop->lingering > 0);
    uint64_t took = sim_now_ms(w->sim) - since;
    assert_in_range(took, stays ? LINGER_FOR_MS - 500 : 0, stays ? LINGER_FOR_MS + 500 : 500);
    world_for(w, 10);
    assert_int_equal(lingering(w->worker[0]), 0);
    raw_free(&r);
    world_end(w);
  }
}

/* first_stream is the stream of a worker's first connection. */
static struct stream *first_stream(struct world *w, uint32_t worker) {
  struct list *servings = &w->worker[worker]->servings;
  struct serving *sv = container_of(servings->next, struct serving, link);
  assert_false(list_empty(servings) || list_empty(&sv->downs));
  return container_of(sv->downs.next, struct down, link)->stream;
}

/* The end of a drain tells each connection once. One that does not leave, which none should, keeps
 * the worker from nothing: the others end, the log has a word, the worker stops. */
static void an_end_does_not_wait_for_who_stays(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 6);) {
    struct world_conf conf;
    world_conf_init(&conf);
    struct world *w = world_new(seed, 1, seed % 2 ? &soft : NULL, &conf);
    struct plan *p[3];
    for (uint32_t i = 0; i < 3; i++) {
      p[i] = plan_new(w);
      p[i]->stall = true;
      (void)start(w, 0, p[i]);
    }
    STEP_WHILE(w, !p[0]->up_heads || !p[1]->up_heads || !p[2]->up_heads);
    struct stream *s = first_stream(w, 0);
    s->driving = true; /* as if it stood in the midst of a step for ever */
    uint64_t deadline_ms = sim_now_ms(w->sim) + 100;
    world_post(w, 0, &(struct worker_msg){.kind = WORKER_DRAIN, .deadline_ms = deadline_ms});
    STEP_WHILE(w, !worker_stopped(w->worker[0]));
    assert_int_equal(p[0]->ended + p[1]->ended + p[2]->ended, 2);
    assert_int_equal(w->ends[END_DRAIN], 2);
    assert_int_equal(w->errors, 1);
    s->driving = false;
    stream_go(s, STEP_FINISH);
    world_end(w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_100_that_never_comes_is_the_endpoints_fault),
      cmocka_unit_test(a_late_100_is_in_time),
      cmocka_unit_test(a_client_that_was_told_to_go_on_is_to_blame),
      cmocka_unit_test(the_100_restarts_the_time_for_the_body),
      cmocka_unit_test(hints_do_not_tell_the_client_to_go_on),
      cmocka_unit_test(content_length_0_is_replayed),
      cmocka_unit_test(own_pressure_blames_nobody),
      cmocka_unit_test(no_slots_blame_nobody),
      cmocka_unit_test(two_workers_share_one_permit),
      cmocka_unit_test(waiting_for_a_permit_takes_no_turns),
      cmocka_unit_test(lingering_is_bounded),
      cmocka_unit_test(who_is_served_is_not_who_lingers),
      cmocka_unit_test(a_connect_that_fails_at_once_is_answered),
      cmocka_unit_test(a_queued_connect_that_fails_at_once_is_answered),
      cmocka_unit_test(an_early_response_says_close),
      cmocka_unit_test(an_early_response_keeps_its_connection),
      cmocka_unit_test(the_rest_of_a_request_has_one_end),
      cmocka_unit_test(who_sends_on_is_not_reset),
      cmocka_unit_test(an_end_does_not_wait_for_who_stays),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
