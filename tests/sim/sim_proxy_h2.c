/* sim_proxy_h2.c: HTTP/2 clients before HTTP/1 origins under faults: many streams at once, bodies
 * checked byte by byte both ways, cancels, reloads, drains, short memory. Each request ends once
 * and is logged once; nothing is left behind (world_end). */
#include "h2_client.h"
#include "weir/io/loop_ops.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};
static const struct sim_faults hard = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 200,
                                       .reorder = 300,
                                       .enobufs = 80,
                                       .reset = 4,
                                       .refuse = 100,
                                       .cancel_race = 400,
                                       .time_jump = 2};

enum { CLIENTS_MAX = 24 };

/* crowd is the HTTP/2 clients of one world. */
struct crowd {
  struct world *w;
  struct h2_client *clients[CLIENTS_MAX];
  uint32_t count;
};

static void wrong(const struct world *w, const struct plan *p, const char *what) {
  fail_msg("seed %llu: plan %u (%s frame %u len %u, %u frame %u len %u): %s: outcome %d status %u "
           "end %s, seen %u/%u, got %llu",
           (unsigned long long)w->seed, p->id, p->method, p->frame, p->len, p->status, p->up_frame,
           p->up_len, what, (int)p->outcome, p->got_status,
           p->ended ? end_get(p->end)->word.ptr : "(none)", p->up_heads, p->up_bodies,
           (unsigned long long)p->got_body);
}

static void h2_conf(struct world_conf *conf, uint64_t seed) {
  world_conf_init(conf);
  conf->protocols = LISTENER_HTTP_1_1 | LISTENER_H2C;
  if (seed % 3 == 0) conf->h2.stream_window = 20000;
  if (seed % 5 == 0) conf->h2.window = 65536;
  if (seed % 7 == 0) conf->h2.streams = 4;
  world_hold(conf, seed);
}

static struct h2_client *join(struct crowd *crowd) {
  struct world *w = crowd->w;
  struct h2_client *c = h2_client_new(w, (uint32_t)world_draw(w, w->workers));
  crowd->clients[crowd->count++] = c;
  return c;
}

static void start(struct crowd *crowd, struct h2_client *c) {
  struct h2_row rows[2];
  uint32_t count = 0;
  static const uint32_t windows[] = {0, 1, 100, 5000, 65535, 1 << 20};
  struct world *w = crowd->w;
  if (c->stingy && world_chance(w, 50))
    rows[count++] = (struct h2_row){H2_SETTING_INITIAL_WINDOW_SIZE, windows[world_draw(w, 6)]};
  if (world_chance(w, 30))
    rows[count++] = (struct h2_row){H2_SETTING_HEADER_TABLE_SIZE, (uint32_t)world_draw(w, 5000)};
  h2_client_start(c, rows, count);
}

static void step(struct crowd *crowd) {
  for (uint32_t i = 0; i < crowd->count; i++) h2_client_tick(crowd->clients[i]);
  world_step(crowd->w);
}

static bool done(const struct crowd *crowd) {
  for (uint32_t i = 0; i < crowd->count; i++)
    if (!h2_client_done(crowd->clients[i])) return false;
  return true;
}

static void stuck(struct crowd *crowd) {
  struct world *w = crowd->w;
  for (uint32_t i = 0; i < crowd->count; i++) {
    struct h2_client *c = crowd->clients[i];
    print_message("client %u: gone %d, windows %lld %lld, goaways %u\n", i, c->gone,
                  (long long)c->peer.send_window, (long long)c->peer.recv_window, c->peer.goaways);
    for (uint32_t n = 0; n < c->count; n++) {
      const struct plan *p = &w->plans[c->jobs[n].plan];
      if (c->jobs[n].over) continue;
      const struct h2_peer_stream *st = h2_peer_find(&c->peer, c->jobs[n].stream);
      print_message("plan %u %s frame %u len %u, %u frame %u len %u, stream %u: status %u, sent "
                    "%llu, got %llu, windows %lld %lld, seen %u/%u, logged %d\n",
                    p->id, p->method, p->frame, p->len, p->status, p->up_frame, p->up_len,
                    c->jobs[n].stream, st ? st->status : 0, st ? (unsigned long long)st->sent : 0,
                    (unsigned long long)p->got_body, st ? (long long)st->send_window : 0,
                    st ? (long long)st->recv_window : 0, p->up_heads, p->up_bodies, p->ended);
    }
  }
  fail_msg("seed %llu: not done after %llu steps", (unsigned long long)w->seed,
           (unsigned long long)w->steps);
}

static void run(struct crowd *crowd, uint64_t most) {
  for (uint64_t i = 0; i < most; i++) {
    if (done(crowd)) return;
    step(crowd);
  }
  stuck(crowd);
}

static void finish(struct crowd *crowd) {
  world_end(crowd->w);
  for (uint32_t i = 0; i < crowd->count; i++) h2_client_free(crowd->clients[i]);
}

/* logged: who was answered, or reached an origin, has exactly one line (world: not two). */
static void logged(struct world *w) {
  for (uint32_t i = 0; i < w->plan_count; i++) {
    const struct plan *p = &w->plans[i];
    bool answered = p->outcome == OUT_OK || p->outcome == OUT_ANSWER;
    if ((answered || p->up_heads) && !p->ended) wrong(w, p, "no line in the log");
    bool once = strcmp(p->method, "POST") == 0 || strcmp(p->method, "BREW") == 0;
    if (once && p->up_heads > 1) wrong(w, p, "was sent twice");
  }
}

/* ---- all goes well ---- */

static void all_is_answered(void **state) {
  (void)state;
  uint64_t oks = 0;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    struct crowd crowd = {
        .w = world_new(seed, 1 + (uint32_t)(seed % 2), seed % 4 ? &soft : NULL, &conf)};
    for (uint32_t i = 0; i < 2; i++) {
      struct h2_client *c = join(&crowd);
      c->most = 1 + (uint32_t)world_draw(crowd.w, 30);
      if (world_chance(crowd.w, 30)) c->stingy = 1 + (uint32_t)world_draw(crowd.w, 60000);
      if (c->stingy && c->stingy < 2000) c->stingy += 2000;
      for (uint32_t n = 0; n < 30; n++) {
        struct plan *p = plan_random(crowd.w);
        p->minor = 1;
        h2_client_add(c, p, -1);
      }
      start(&crowd, c);
    }
    run(&crowd, 400000);
    for (int i = 0; i < 200; i++) step(&crowd);
    for (uint32_t i = 0; i < crowd.w->plan_count; i++) {
      const struct plan *p = &crowd.w->plans[i];
      if (p->outcome != OUT_OK) wrong(crowd.w, p, "not answered");
      oks++;
    }
    logged(crowd.w);
    finish(&crowd);
  }
  assert_true(oks >= 60);
}

/* ---- anything at all ---- */

static struct plan *bad_plan(struct world *w) {
  struct plan *p = plan_random(w);
  p->minor = 1;
  if (world_chance(w, 10)) p->up_cut = (int32_t)world_draw(w, 2000);
  if (world_chance(w, 10)) p->up_leave = true;
  if (world_chance(w, 5)) p->stall = true;
  if (world_chance(w, 10)) p->early = true;
  if (world_chance(w, 5)) p->hold_body = p->frame != FRAME_NONE;
  if (world_chance(w, 5)) p->up_garbage = 1 + (uint32_t)world_draw(w, 3000);
  if (p->up_frame == FRAME_CLOSE) {
    p->up_cut = -1;
    p->up_garbage = 0;
  }
  return p;
}

/* something happens to the world while they are at it. */
static void something(struct crowd *crowd, struct world_conf *conf) {
  struct world *w = crowd->w;
  switch (world_draw(w, 6)) {
    case 0:
      conf->pools[0].timeouts.first_byte_ms = 20000 + (uint32_t)world_draw(w, 20000);
      conf->h2.streams = 4 + (uint32_t)world_draw(w, 100);
      if (w->old_count < SIM_SNAPSHOTS - 1) world_install(w, conf);
      break;
    case 1: (void)origin_close_idle(&w->origins[world_draw(w, 2)]); break;
    case 2:
      if (world_chance(w, 20)) origin_down(&w->origins[1], true);
      else if (!w->origins[1].up) origin_up(&w->origins[1]);
      break;
    case 3:
      if (world_chance(w, 10))
        h2_client_end(crowd->clients[world_draw(w, crowd->count)], world_chance(w, 50));
      break;
    default: world_for(w, world_draw(w, 300)); break;
  }
}

static void storm(uint64_t seed) {
  struct world_conf conf;
  h2_conf(&conf, seed);
  conf.pools[0].balance = (uint8_t)(seed % BALANCE_COUNT);
  if (seed % 4 == 1) conf.pools[0].connections.max_per_endpoint = 3;
  struct crowd crowd = {.w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &hard, &conf)};
  struct world *w = crowd.w;
  for (uint32_t i = 0; i < 4; i++) {
    struct h2_client *c = join(&crowd);
    c->most = 1 + (uint32_t)world_draw(w, 40);
    if (world_chance(w, 40)) c->stingy = 1 + (uint32_t)world_draw(w, 20000);
    if (world_chance(w, 30)) c->window = 1 + (uint32_t)world_draw(w, 5000);
    for (uint32_t n = 0; n < 20; n++)
      h2_client_add(c, bad_plan(w), world_chance(w, 25) ? (int32_t)world_draw(w, 400) : -1);
    start(&crowd, c);
  }
  bool whole = world_chance(w, 70); /* else it is stopped in the midst of it */
  uint64_t most = whole ? 1000000 : world_draw(w, 5000);
  for (uint64_t i = 0; i < most && !done(&crowd); i++) {
    if (world_chance(w, 1)) something(&crowd, &conf);
    step(&crowd);
  }
  if (whole && !done(&crowd)) stuck(&crowd);
  for (int i = 0; i < 100; i++) step(&crowd);
  finish(&crowd);
}

static void storms(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) storm(seed);
}

/* ---- short memory ---- */

/* Buffers for a few bodies only: what has to wait waits, or is told so; nobody is left hanging. */
static void short_memory(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.routes[0].buffer_bytes = 0;
    struct crowd crowd = {.w = world_new(seed, 1, &soft, &conf)};
    struct world *w = crowd.w;
    w->worker[0]->loop->iobufs.limit = 300000 + (size_t)world_draw(w, 1500000);
    for (uint32_t i = 0; i < 3; i++) {
      struct h2_client *c = join(&crowd);
      if (world_chance(w, 50)) c->window = 1 + (uint32_t)world_draw(w, 20000);
      for (uint32_t n = 0; n < 20; n++) {
        struct plan *p = plan_new(w);
        p->up_len = 200000;
        p->up_frame = n % 2 ? FRAME_CHUNKED : FRAME_LENGTH;
        p->method = n % 3 ? "GET" : "PUT";
        p->frame = n % 3 ? FRAME_NONE : FRAME_LENGTH;
        p->len = n % 3 ? 0 : 100000;
        h2_client_add(c, p, -1);
      }
      start(&crowd, c);
    }
    run(&crowd, 1000000);
    logged(w);
    finish(&crowd);
  }
}

/* An upload for which there is no buffer, of a call whose response the client's window holds back:
 * its trailers say what happened, but behind bytes that do not leave. Its conn has failed and will
 * tell of nothing more, so that the call is over at once, and not with timeouts.send. */
static void no_memory_behind_a_window(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world_conf conf;
    h2_conf(&conf, 1);
    conf.h2.stream_window = conf.h2.window; /* more than a buffer holds */
    conf.timeouts.header_ms = 0; /* nothing is the next thing to happen before the client begins */
    conf.routes[0].buffer_bytes = 0;
    struct crowd crowd = {.w = world_new(seed, 1, NULL, &conf)};
    struct world *w = crowd.w;
    struct iobufs *pool = &w->worker[0]->loop->iobufs;
    const struct h2_row row = {H2_SETTING_INITIAL_WINDOW_SIZE, 100};
    struct h2_client *c = join(&crowd);
    struct plan *p = plan_new(w);
    w->origins[0].window = w->origins[1].window = 2000;
    p->method = "POST";
    p->grpc = p->expect = p->early = p->hold_body = p->stall_body = true;
    p->frame = p->up_frame = FRAME_CHUNKED;
    p->len = 900000;
    p->up_len = 20000;
    h2_client_add(c, p, -1);
    h2_client_start(c, &row, 1);
    c->peer.auto_window = false;
    while (w->steps < 5000 && p->got_body < 100) step(&crowd);
    const struct h2_peer_stream *st = h2_peer_find(&c->peer, c->jobs[0].stream);
    c->jobs[0].go = true; /* whatever it was answered */
    while (w->steps < 20000 && st->sent < 150000) step(&crowd);
    assert_true(p->got_body == 100 && st->sent >= 150000);
    size_t limit = pool->limit;
    pool->limit = 1;
    uint64_t before = sim_now_ms(w->sim);
    while (!p->ended && sim_now_ms(w->sim) < before + conf.timeouts.send_ms / 2) step(&crowd);
    pool->limit = limit;
    if (!p->ended || p->end != END_LIMIT_MEMORY) wrong(w, p, "not over");
    finish(&crowd);
  }
}

/* ---- why a client is gone ---- */

/* A fault of the connection is the cause of every stream that it cuts, also while bodies flow. */
static void cut_by_a_fault(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.routes[0].buffer_bytes = 0;
    struct crowd crowd = {.w = world_new(seed, 1, seed % 2 ? &soft : NULL, &conf)};
    struct world *w = crowd.w;
    struct h2_client *c = join(&crowd);
    for (uint32_t n = 0; n < 4; n++) {
      struct plan *p = plan_new(w);
      p->method = n % 2 ? "PUT" : "GET";
      p->frame = n % 2 ? (uint8_t)(n % 4 == 1 ? FRAME_LENGTH : FRAME_CHUNKED) : FRAME_NONE;
      p->len = n % 2 ? 30000 : 0;
      p->hold_body = n % 2;
      p->stall = n % 2;
      p->stall_body = n % 2 == 0;
      p->up_len = 30000;
      h2_client_add(c, p, -1);
    }
    start(&crowd, c);
    for (int i = 0; i < 400 && w->plans[3].up_heads == 0; i++) step(&crowd);
    h2_peer_raw(&c->peer, &(struct h2_frame){.type = H2_WINDOW_UPDATE}, span_of("\0\0\0\0", 4));
    run(&crowd, 100000);
    for (int i = 0; i < 100; i++) step(&crowd);
    uint32_t cut = 0;
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      if (p->ended && p->end != END_CLIENT_H2_PROTOCOL) wrong(w, p, "another cause");
      cut += p->ended;
    }
    assert_true(cut > 0);
    finish(&crowd);
  }
}

/* ---- drain ---- */

/* A drain refuses what it does not answer by GOAWAY, and answers all else. */
static void drain(void **state) {
  (void)state;
  uint64_t oks = 0, refused = 0;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    struct crowd crowd = {.w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf)};
    struct world *w = crowd.w;
    for (uint32_t i = 0; i < 2; i++) {
      struct h2_client *c = join(&crowd);
      c->most = 1 + (uint32_t)world_draw(w, 10);
      for (uint32_t n = 0; n < 20; n++) {
        struct plan *p = plan_random(w);
        p->minor = 1;
        h2_client_add(c, p, -1);
      }
      start(&crowd, c);
    }
    for (uint64_t i = world_draw(w, 600) + 50; i > 0; i--) step(&crowd);
    uint64_t deadline_ms = sim_now_ms(w->sim) + 600000;
    world_post(w, 0, &(struct worker_msg){.kind = WORKER_DRAIN, .deadline_ms = deadline_ms});
    run(&crowd, 400000);
    for (int i = 0; i < 300; i++) step(&crowd);
    for (uint32_t i = 0; i < crowd.count; i++) {
      struct h2_client *c = crowd.clients[i];
      assert_false(c->reset);
      for (uint32_t n = 0; n < c->count; n++) {
        const struct h2_job *job = &c->jobs[n];
        const struct plan *p = &w->plans[job->plan];
        bool sent = job->stream && job->stream <= c->peer.goaway_last;
        if (sent && p->outcome != OUT_OK) wrong(w, p, "the drain cut it");
        if (!sent && p->up_heads) wrong(w, p, "refused, but sent on");
        oks += sent;
        refused += !sent;
      }
    }
    logged(w);
    finish(&crowd);
  }
  if (oks < 100 || refused < 5)
    fail_msg("%u answered, %u refused", (unsigned)oks, (unsigned)refused);
}

/* A connection that begins HTTP/2 only when the others were told of the drain is told too, and is
 * answered what it asks for until then. */
static void begun_in_a_drain(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    struct crowd crowd = {.w = world_new(seed, 1, seed % 3 ? &soft : NULL, &conf)};
    struct world *w = crowd.w;
    struct h2_client *told = join(&crowd), *late = join(&crowd);
    start(&crowd, told);
    late->holds = true;
    late->most = 1;
    start(&crowd, late);
    for (uint32_t n = 0; n < 40; n++) h2_client_add(late, plan_new(w), -1);
    while (!told->peer.settings || worker_conns(w->worker[0]) < 2) step(&crowd);
    uint64_t deadline_ms = sim_now_ms(w->sim) + 600000;
    world_post(w, 0, &(struct worker_msg){.kind = WORKER_DRAIN, .deadline_ms = deadline_ms});
    while (!told->peer.goaways) step(&crowd);
    late->holds = false;
    run(&crowd, 400000);
    for (int i = 0; i < 300; i++) step(&crowd);
    assert_false(late->reset);
    assert_false(late->jobs[late->count - 1].stream); /* it was told before */
    for (uint32_t n = 0; n < late->count; n++)
      if (late->jobs[n].stream && w->plans[late->jobs[n].plan].outcome != OUT_OK)
        wrong(w, &w->plans[late->jobs[n].plan], "the drain cut it");
    finish(&crowd);
  }
}

/* ---- turns ---- */

enum { CROWD = 5, MANY = 60, FEW = 4, ALL = CROWD * MANY }; /* plans of the many come first */

struct waiting {
  uint32_t many, few;
};

/* waiting_now counts the requests that wait to begin. */
static struct waiting waiting_now(struct world *w) {
  const struct begin *b = &w->worker[0]->begin;
  struct waiting found = {0, 0};
  for (uint32_t i = 0; i < BEGIN_ROUNDS; i++) {
    for (const struct list *l = b->rounds[i].next; l != &b->rounds[i]; l = l->next) {
      const struct stream *s = container_of(l, const struct stream, link);
      const struct plan *p = plan_find(w, s->x->req.path);
      assert_non_null(p);
      if (p->id < ALL) found.many++;
      else found.few++;
    }
  }
  return found;
}

static void ask(struct h2_client *c, uint32_t count) {
  for (uint32_t n = 0; n < count; n++) h2_client_add(c, plan_new(c->w), -1);
}

static uint32_t begun(const struct crowd *crowd) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < ALL; i++) n += crowd->w->plans[i].up_heads > 0;
  return n;
}

/* step_beside is a step while somebody else asks for one thing at a time: turns are small. */
static void step_beside(struct crowd *crowd) {
  crowd->w->worker[0]->begin.alone_ms = sim_now_ms(crowd->w->sim);
  step(crowd);
}

/* overtaken is how many of the many began while the few waited; 0: nobody had to wait. */
static uint32_t overtaken(struct crowd *crowd) {
  uint32_t began = 0;
  struct waiting before = {0, 0};
  for (int i = 0; i < 400000 && !done(crowd); i++) {
    step_beside(crowd);
    struct waiting now = waiting_now(crowd->w);
    if (before.few && now.many < before.many) began += before.many - now.many;
    before = now;
  }
  return began;
}

/* Who asks for four things at a time does not wait for all that others ask for: connections take
 * turns. */
static void in_turn(void **state) {
  (void)state;
  uint32_t waited = 0;
  for (uint64_t seed = 0; world_seed(&seed, 40);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.h2.streams = 100;
    struct crowd crowd = {.w = world_new(seed, 1, NULL, &conf)};
    for (uint32_t i = 0; i < CROWD; i++) ask(join(&crowd), MANY);
    struct h2_client *few = join(&crowd);
    for (uint32_t i = 0; i < crowd.count; i++) start(&crowd, crowd.clients[i]);
    while (waiting_now(crowd.w).many < CROWD * FEW * 2 && begun(&crowd) < ALL)
      step_beside(&crowd);
    ask(few, FEW);
    uint32_t began = overtaken(&crowd);
    waited += began > 0;
    if (began > CROWD * FEW) /* each connection once in a round */
      fail_msg("seed %llu: %u began before four", (unsigned long long)seed, began);
    for (uint32_t i = 0; i < crowd.w->plan_count; i++)
      if (crowd.w->plans[i].outcome != OUT_OK) wrong(crowd.w, &crowd.w->plans[i], "not answered");
    finish(&crowd);
  }
  assert_true(waited > 0);
}

static void be_unruly(struct h2_client *c) {
  for (int i = 0; i < 300; i++) h2_peer_ping(&c->peer);
}

/* Who is unruly has one request begun in a millisecond, 8 after a pause, and all in the end. */
static void unruly(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.h2.streams = 100;
    struct crowd crowd = {.w = world_new(seed, 1, NULL, &conf)};
    struct h2_client *c = join(&crowd);
    start(&crowd, c);
    be_unruly(c);
    ask(c, MANY);
    uint64_t since_ms = sim_now_ms(crowd.w->sim);
    for (int i = 0; i < 400000 && !done(&crowd); i++) {
      step(&crowd);
      uint64_t ms = sim_now_ms(crowd.w->sim) - since_ms;
      if (begun(&crowd) > ms + 8)
        fail_msg("seed %llu: %u began in %u ms", (unsigned long long)seed, begun(&crowd),
                 (unsigned)ms);
    }
    assert_int_equal(begun(&crowd), MANY);
    finish(&crowd);
  }
}

/* ---- more of the unruly than may wait ---- */

enum { UNRULY_MOST = 1024, UNRULY_AT_ONCE = 8, WAIT_MOST_MS = 1200 };

static bool all_asked(const struct crowd *crowd) {
  for (uint32_t i = 0; i < crowd->count; i++)
    for (uint32_t n = 0; n < crowd->clients[i]->count; n++)
      if (!crowd->clients[i]->jobs[n].stream) return false;
  return true;
}

/* queue is what is seen of the unruly that wait. */
struct queue {
  uint32_t most, floods;
  uint64_t asked_ms, last_ms; /* all were asked for; somebody waited last */
};

static void queue_look(struct queue *q, const struct crowd *crowd) {
  const struct world *w = crowd->w;
  const struct begin *b = &w->worker[0]->begin;
  uint32_t count = 0, floods = w->ends[END_CLIENT_H2_FLOOD];
  for (const struct list *l = b->unruly.next; l != &b->unruly; l = l->next) count++;
  assert_int_equal(b->unruly_count, count);
  if (floods > q->floods) assert_in_range(count, UNRULY_MOST - UNRULY_AT_ONCE, UNRULY_MOST);
  if (count > q->most) q->most = count;
  q->floods = floods;
  if (count) q->last_ms = sim_now_ms(w->sim);
  if (!q->asked_ms && all_asked(crowd)) q->asked_ms = sim_now_ms(w->sim);
}

/* outcomes: each was answered, or reset as part of a flood and never sent on. */
static void outcomes(struct world *w, uint32_t floods) {
  uint32_t reset = 0;
  for (uint32_t i = 0; i < w->plan_count; i++) {
    const struct plan *p = &w->plans[i];
    bool flood = p->ended && p->end == END_CLIENT_H2_FLOOD;
    if (flood ? p->up_heads || p->outcome != OUT_LOST : p->outcome != OUT_OK)
      wrong(w, p, "neither answered nor a flood");
    reset += flood;
  }
  assert_int_equal(reset, floods);
}

/* Requests of the unruly have no timeout while they wait: it is short, for only so many do. */
static void more_than_may_wait(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 2);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.h2.streams = 100;
    conf.streams_max = 2048;
    struct crowd crowd = {.w = world_new(seed, 1, NULL, &conf)};
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
      struct h2_client *c = join(&crowd);
      start(&crowd, c);
      be_unruly(c);
      ask(c, MANY);
    }
    struct queue q = {0};
    for (int i = 0; i < 400000 && !done(&crowd); i++) {
      step(&crowd);
      queue_look(&q, &crowd);
    }
    if (!done(&crowd)) stuck(&crowd);
    assert_int_equal(q.most, UNRULY_MOST);
    assert_true(q.floods > 0);
    assert_true(q.asked_ms > 0);
    if (q.last_ms > q.asked_ms + WAIT_MOST_MS)
      fail_msg("seed %llu: one waited for %u ms", (unsigned long long)seed,
               (unsigned)(q.last_ms - q.asked_ms));
    outcomes(crowd.w, q.floods);
    finish(&crowd);
  }
}

/* Those who leave while they wait are no longer counted, and have cost no origin anything. */
static void unruly_that_leave(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 10);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.h2.streams = 100;
    struct crowd crowd = {.w = world_new(seed, 1, NULL, &conf)};
    const struct begin *b = &crowd.w->worker[0]->begin;
    for (uint32_t i = 0; i < 2; i++) {
      struct h2_client *c = join(&crowd);
      start(&crowd, c);
      be_unruly(c);
      ask(c, MANY);
    }
    struct queue q = {0};
    while (b->unruly_count < MANY / 2) step(&crowd);
    h2_client_end(crowd.clients[0], world_chance(crowd.w, 50));
    for (int i = 0; i < 400000 && !done(&crowd); i++) {
      step(&crowd);
      queue_look(&q, &crowd);
    }
    if (!done(&crowd)) stuck(&crowd);
    assert_true(begun(&crowd) < 2 * MANY);
    assert_int_equal(b->unruly_count, 0);
    finish(&crowd);
  }
}

/* lost_now counts those of the unruly that are lost, and that a turn to begin is still coming to.
 */
static uint32_t lost_now(const struct world *w) {
  const struct begin *b = &w->worker[0]->begin;
  uint32_t lost = 0;
  for (uint32_t i = 0; i < BEGIN_ROUNDS; i++) {
    for (const struct list *l = b->rounds[i].next; l != &b->rounds[i]; l = l->next) {
      const struct stream *s = container_of(l, const struct stream, link);
      lost += h2_unruly(s->down->h2) && h2_stream_lost(h2_stream_of(s->conn));
    }
  }
  return lost;
}

/* A connection has ended, and its streams hear of it some at a time: those whose turn it is to
 * begin ended for the same cause as the others, also where no more of the unruly may wait. */
static void unruly_and_over(void **state) {
  (void)state;
  uint32_t worlds = 0;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.h2.streams = 100;
    conf.h2.glitches = 40;
    struct crowd crowd = {.w = world_new(seed, 1, NULL, &conf)};
    struct world *w = crowd.w;
    struct begin *b = &w->worker[0]->begin;
    struct h2_client *c = join(&crowd);
    start(&crowd, c);
    ask(c, MANY);
    while (!all_asked(&crowd) || (waiting_now(w).many < MANY / 2 && begun(&crowd) < MANY / 2))
      step_beside(&crowd);
    b->unruly_count += UNRULY_MOST;
    /* Heads pay for two each; unruly is who sends eleven more, with the last of what is read. */
    for (int i = 0; i < 2 * MANY + 15; i++) h2_peer_ping(&c->peer);
    h2_peer_raw(&c->peer, &(struct h2_frame){.type = H2_WINDOW_UPDATE}, span_of("\0\0\0\0", 4));
    bool over = false, met = false;
    uint32_t floods = 0; /* of those whose turn came before the end was read */
    while (!done(&crowd) || worker_streams(w->worker[0])) {
      met |= lost_now(w) > 0;
      floods = w->ends[END_CLIENT_H2_FLOOD];
      step_beside(&crowd);
      over |= w->ends[END_CLIENT_H2_PROTOCOL] > 0;
      if (over && w->ends[END_CLIENT_H2_FLOOD] > floods)
        fail_msg("seed %llu: lost for another cause", (unsigned long long)seed);
    }
    worlds += met;
    b->unruly_count -= UNRULY_MOST;
    for (int i = 0; i < 100; i++) step(&crowd);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      bool cut = p->ended && p->outcome != OUT_OK;
      bool known = p->end == END_CLIENT_H2_PROTOCOL || p->end == END_CLIENT_H2_FLOOD;
      if (cut && !known) wrong(w, p, "another cause");
    }
    finish(&crowd);
  }
  assert_true(worlds > 2);
}

/* ---- who waits for a share ---- */

enum { LATE_MS = 50, HEAVY = 10 };

static bool greeted(const struct crowd *crowd) {
  for (uint32_t i = 0; i < crowd->count; i++)
    if (crowd->clients[i]->peer.settings < 2) return false; /* ours, and that they have theirs */
  return true;
}

/* brings writes a lot that is work, and asks for nothing. */
static void brings(struct h2_client *c) {
  for (int i = 0; i < 6000; i++) h2_peer_ping(&c->peer);
}

struct turns {
  uint32_t small, large;
};

/* step_late is a step while somebody asks for one thing at a time, with its time; a turn in it is
 * small unless some have waited too long for their share. */
static void step_late(struct crowd *crowd, struct turns *seen) {
  struct worker *w = crowd->w->worker[0];
  sim_advance(crowd->w->sim, world_draw(crowd->w, 15));
  uint64_t turns = loop_stat_get(&w->loop->stats.turns), late_ms = loop_later_ms(w->loop);
  w->begin.alone_ms = w->loop->now_ms;
  step(crowd);
  if (loop_stat_get(&w->loop->stats.turns) == turns) return;
  if (w->begin.small != (late_ms < LATE_MS))
    fail_msg("seed %llu: after %u ms a turn is %s", (unsigned long long)crowd->w->seed,
             (unsigned)late_ms, w->begin.small ? "small" : "large");
  uint64_t share_ns = w->loop->share_ns;
  assert_true(w->begin.small ? share_ns < 100000 : share_ns > 1000000);
  if (w->begin.small) seen->small++;
  else seen->large++;
}

/* Turns are small for those who ask for one thing at a time; but when of those that bring much
 * some have waited for long, turns are large until all of them went on. */
static void large_again(void **state) {
  (void)state;
  uint32_t large = 0;
  for (uint64_t seed = 0; world_seed(&seed, 20);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.h2.glitches = 100000;
    struct crowd crowd = {.w = world_new(seed, 1, NULL, &conf)};
    for (uint32_t i = 0; i < HEAVY; i++) start(&crowd, join(&crowd));
    while (!greeted(&crowd)) step(&crowd);
    for (uint32_t i = 0; i < HEAVY; i++) brings(crowd.clients[i]);
    struct turns seen = {0, 0};
    for (int i = 0; i < 300; i++) step_late(&crowd, &seen);
    assert_true(seen.small > 0);
    large += seen.large;
    assert_false(loop_has_later(crowd.w->worker[0]->loop));
    finish(&crowd);
  }
  assert_true(large > 0);
}

/* ---- bodies byte by byte ---- */

/* SENDS_MOST: so many are bounded by small turns; each is a part of the share. */
enum { BYTES = 4, SENDS_MOST = 24 };

/* sends counts the sockets, but those of clients, that the kernel has to send for. */
static uint32_t sends(const struct worker *w) {
  const struct slab *conns = &w->loop->conns;
  uint32_t n = 0;
  for (uint32_t i = 0; i < conns->chunk_count * conns->chunk_objects; i++) {
    const struct slab_head *head =
        (const void *)(conns->chunks[i / conns->chunk_objects] +
                       i % conns->chunk_objects * conns->object_size);
    const struct conn *c = (const void *)head;
    bool socket = head->generation & 1 && !(c->flags & (CONN_CARRIED | CONN_CARRIES));
    n += socket && c->inflight & 1u << OP_SEND;
  }
  return n;
}

/* most_sends is of one small turn, while all that is there to be read goes on. Each second turn is
 * in the moment of the one before it, which saw somebody who asks for one thing at a time; none is
 * small when some have waited for long. */
static uint32_t most_sends(struct crowd *crowd, uint32_t to) {
  struct worker *w = crowd->w->worker[0];
  uint32_t most = 0;
  for (uint32_t i = 0; i < MANY; i++) crowd->w->plans[i].len = to;
  for (uint32_t i = 0; i < 100 || loop_has_later(w->loop); i++) {
    bool small = w->loop->share_ns < 100000;
    w->begin.alone_ms = sim_now_ms(crowd->w->sim);
    if (i % 2) step(crowd);
    else assert_true(worker_turn(w));
    uint32_t n = small ? sends(w) : 0;
    most = n > most ? n : most;
  }
  return most;
}

/* A byte for each of many bodies is a send for each, and as many turns as that takes: who asks
 * for one thing at a time waits for none of the others. */
static void byte_by_byte(void **state) {
  (void)state;
  uint32_t met = 0;
  for (uint64_t seed = 0; world_seed(&seed, 10);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.h2.streams = 100;
    conf.routes[0].buffer_bytes = 0;
    struct crowd crowd = {.w = world_new(seed, 1, NULL, &conf)};
    struct h2_client *c = join(&crowd);
    for (uint32_t i = 0; i < MANY; i++) {
      struct plan *p = plan_new(crowd.w);
      p->method = "POST";
      p->frame = FRAME_CHUNKED;
      p->len = 0;
      p->hold_body = true;
      h2_client_add(c, p, -1);
    }
    start(&crowd, c);
    while (begun(&crowd) < MANY) step(&crowd);
    for (uint32_t byte = 1; byte <= BYTES; byte++) {
      uint32_t most = most_sends(&crowd, byte);
      met += most > 0;
      if (most > SENDS_MOST)
        fail_msg("seed %llu: %u sends in a turn", (unsigned long long)seed, most);
    }
    for (uint32_t i = 0; i < MANY; i++) crowd.w->plans[i].hold_body = false;
    run(&crowd, 400000);
    for (uint32_t i = 0; i < MANY; i++)
      if (crowd.w->plans[i].outcome != OUT_OK) wrong(crowd.w, &crowd.w->plans[i], "not answered");
    finish(&crowd);
  }
  assert_true(met > BYTES);
}

/* ---- stopped at once ---- */

/* about_to_read counts the streams of clients that go on with what they hold in the next turn. */
static uint32_t about_to_read(const struct worker *w) {
  const struct slab *conns = &w->loop->conns;
  uint32_t n = 0;
  for (uint32_t i = 0; i < conns->chunk_count * conns->chunk_objects; i++) {
    const struct slab_head *head =
        (const void *)(conns->chunks[i / conns->chunk_objects] +
                       i % conns->chunk_objects * conns->object_size);
    const struct conn *c = (const void *)head;
    uint32_t both = CONN_CARRIED | CONN_REREAD;
    if (head->generation & 1 && (c->flags & both) == both) n++;
  }
  return n;
}

/* turn_of_its_own is a turn for which the network has nothing new. */
static void turn_of_its_own(struct worker *w) {
  w->begin.alone_ms = w->loop->now_ms;
  assert_true(worker_turn(w));
}

/* ask_in_turn asks for what nobody answers, and brings bodies that are refused as soon as they are
 * read: they are too large, which no length says. */
static void ask_in_turn(struct h2_client *c) {
  for (int i = 0; i < MANY; i++) {
    struct plan *p = plan_new(c->w);
    if (i % 2) {
      p->method = "PUT";
      p->frame = FRAME_CHUNKED;
      p->len = 1500;
    } else {
      p->stall = true;
    }
    h2_client_add(c, p, -1);
  }
}

/* A worker is told to stop when requests have begun at the end of a turn whose bodies are here:
 * they would be read in the next one, and refused. It ends, and at once; nobody is there to be
 * told, or its end would wait for what is told for ever. (stream_fail sees to that, and rx_fail.)
 */
static void stopped_as_requests_begin(void **state) {
  (void)state;
  uint32_t met = 0;
  for (uint64_t seed = 0; world_seed(&seed, 40);) {
    struct world_conf conf;
    h2_conf(&conf, seed);
    conf.h2.streams = 100;
    conf.limits.body_bytes = 1000;
    conf.routes[0].buffer_bytes = 65536;
    struct crowd crowd = {.w = world_new(seed, 1, NULL, &conf)};
    struct worker *worker = crowd.w->worker[0];
    struct h2_client *c = join(&crowd);
    start(&crowd, c);
    ask_in_turn(c);
    for (int i = 0; i < 2000 && !about_to_read(worker); i++) {
      if (waiting_now(crowd.w).many && world_chance(crowd.w, 70)) turn_of_its_own(worker);
      else step_beside(&crowd);
    }
    met += about_to_read(worker) > 0;
    world_post(crowd.w, 0, &(struct worker_msg){.kind = WORKER_STOP});
    assert_false(worker_turn(worker));
    assert_int_equal(worker_streams(worker), 0);
    assert_int_equal(worker_conns(worker), 0);
    finish(&crowd);
  }
  assert_true(met > 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_is_answered),
      cmocka_unit_test(storms),
      cmocka_unit_test(short_memory),
      cmocka_unit_test(no_memory_behind_a_window),
      cmocka_unit_test(cut_by_a_fault),
      cmocka_unit_test(drain),
      cmocka_unit_test(begun_in_a_drain),
      cmocka_unit_test(in_turn),
      cmocka_unit_test(unruly),
      cmocka_unit_test(more_than_may_wait),
      cmocka_unit_test(unruly_that_leave),
      cmocka_unit_test(unruly_and_over),
      cmocka_unit_test(large_again),
      cmocka_unit_test(byte_by_byte),
      cmocka_unit_test(stopped_as_requests_begin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
