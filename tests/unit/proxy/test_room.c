/* test_room.c: who makes room when a worker has all the connections that it may have: the right
 * one of all that there are, against a model that looks at each of them. */
#include "proxy_kit.h"

enum { SHARE = 24, PEERS = 40 };

enum { LARGE = 300000, PART = 30000 };

static char large[LARGE];
static const char asks[] = "GET /ok HTTP/1.1\r\nHost: h\r\n\r\n";

/* client is one connection and what the model knows of it. */
struct client {
  struct sim_peer *peer;
  size_t got;
  bool closed;
  bool over;      /* it came when there were too many: it has no place of the worker's share */
  bool left;      /* the model has ended it */
  bool owes;      /* else it is idle */
  bool busy;
  bool rest;      /* it owes what is left of a request */
  uint64_t since; /* when it came, when its head began, or when its last response ended */
};

struct room {
  struct kit k;
  uint32_t share;
  struct client clients[PEERS];
  uint32_t count;
};

static void on_data(struct sim_peer *p, struct span bytes, void *ctx) {
  (void)p;
  ((struct client *)ctx)->got += bytes.len;
}

static void on_close(struct sim_peer *p, bool reset, void *ctx) {
  (void)p, (void)reset;
  ((struct client *)ctx)->closed = true;
}

static void on_timer(struct timer *timer, uint64_t now) {
  (void)timer, (void)now;
}

/* wait lets ms pass, and no more: the world goes on to the next timer of the worker. */
static void wait(struct room *r, uint64_t ms) {
  struct timer timer;
  timer_init(&timer, on_timer);
  timer_set(&r->k.w->loop->wheel, &timer, sim_now_ms(r->k.sim) + ms);
  while (timer_armed(&timer)) assert_true(sim_step(r->k.sim));
}

static struct room *room_of(uint32_t share) {
  struct room *r = mem_alloc(sizeof *r);
  *r = (struct room){.share = share};
  kit_init(&r->k);
  kit_route(&r->k, "ok", "/ok")->respond.body = SPAN_LIT("fine");
  memset(large, 'x', sizeof large);
  kit_route(&r->k, "large", "/large")->respond.body = span_of(large, PART);
  kit_pool_route(&r->k, "pool", "/held");
  r->k.snapshot->routes[2]->settings.buffer_bytes = 4096; /* a body is waited for */
  r->k.listener->timeouts.body_ms = 600000;
  r->k.snapshot->max_connections = share;
  r->k.listener->timeouts.header_ms = 600000;
  r->k.listener->timeouts.idle_ms = 600000;
  kit_start(&r->k);
  return r;
}

static void room_end(struct room *r) {
  for (uint32_t i = 0; i < r->count; i++) sim_peer_free(r->clients[i].peer);
  kit_fini(&r->k);
  mem_free(r);
}

static struct client *come(struct room *r) {
  assert_true(r->count < PEERS);
  struct client *c = &r->clients[r->count++];
  *c = (struct client){.owes = true, .since = sim_now_ms(r->k.sim)};
  c->peer = sim_peer_connect(r->k.sim, &r->k.at);
  sim_peer_on_data(c->peer, on_data, on_close, c);
  return c;
}

static void say(struct room *r, struct client *c, const char *bytes) {
  sim_peer_write(c->peer, span_str(bytes));
  wait(r, 2);
}

static void ask(struct room *r, struct client *c) {
  size_t before = c->got;
  c->owes = false;
  c->since = sim_now_ms(r->k.sim);
  say(r, c, asks);
  assert_true(c->got > before);
}

/* one comes and asks; it gives who ended meanwhile: NULL: nobody did. */
static struct client *ended_for_one(struct room *r) {
  bool open[PEERS];
  for (uint32_t i = 0; i < r->count; i++) open[i] = !r->clients[i].closed;
  uint32_t before = r->count;
  struct client *ended = NULL;
  say(r, come(r), asks);
  for (uint32_t i = 0; i < before; i++) {
    if (!open[i] || !r->clients[i].closed) continue;
    assert_null(ended); /* one for one */
    ended = &r->clients[i];
  }
  return ended;
}

static uint64_t stat_of(const struct room *r, const char *what) {
  const struct stats *s = worker_stats(r->k.w);
  return atomic_load(strcmp(what, "refused") ? &s->downstream_displaced : &s->downstream_refused);
}

static void the_longest_idle_of_many(void **state) {
  (void)state;
  struct room *r = room_of(SHARE);
  for (uint32_t i = 0; i < SHARE; i++) ask(r, come(r));
  for (uint32_t i = 0; i < SHARE; i++) { /* 5 is coprime to 24: each once, in another order */
    wait(r, 7);
    ask(r, &r->clients[(i * 5 + 3) % SHARE]);
  }
  wait(r, 100);
  for (uint32_t i = 0; i < 12; i++) {
    struct client *ended = ended_for_one(r);
    assert_ptr_equal(ended, &r->clients[(i * 5 + 3) % SHARE]);
    assert_true(r->clients[r->count - 1].got > 0);
  }
  assert_int_equal(stat_of(r, "displaced"), 12);
  assert_int_equal(stat_of(r, "refused"), 0);
  room_end(r);
}

/* Not for 100 ms after its response; and who has just come has a second. */
static void nobody_at_once(void **state) {
  (void)state;
  struct room *r = room_of(4);
  for (uint32_t i = 0; i < 2; i++) ask(r, come(r));
  for (uint32_t i = 0; i < 2; i++) say(r, come(r), "");
  assert_null(ended_for_one(r));
  assert_int_equal(stat_of(r, "refused"), 1);
  wait(r, 100);
  assert_ptr_equal(ended_for_one(r), &r->clients[0]);
  assert_ptr_equal(ended_for_one(r), &r->clients[1]);
  assert_null(ended_for_one(r));
  wait(r, 800); /* 900 ms: those who have said nothing are not ended for others yet */
  assert_false(r->clients[2].closed || r->clients[3].closed);
  room_end(r);
}

/* The silent one goes first from 3 s on, and in place of a refusal from 1 s on. */
static void the_silent_go_first(void **state) {
  (void)state;
  struct room *r = room_of(4);
  ask(r, come(r));
  ask(r, come(r));
  wait(r, 500);
  say(r, come(r), "");
  say(r, come(r), "GET /be"); /* a part of a head is no request either */
  wait(r, 2900);
  assert_ptr_equal(ended_for_one(r), &r->clients[0]);
  assert_true(r->clients[4].got > 0);
  wait(r, 100);
  assert_ptr_equal(ended_for_one(r), &r->clients[2]);
  assert_int_equal(r->clients[2].got, 0);
  assert_ptr_equal(ended_for_one(r), &r->clients[3]);
  assert_true(r->clients[3].got > 0); /* it is told: a 503 */
  assert_ptr_equal(ended_for_one(r), &r->clients[1]);
  room_end(r);
}

static void the_silent_in_place_of_a_refusal(void **state) {
  (void)state;
  struct room *r = room_of(2);
  say(r, come(r), "");
  say(r, come(r), "POST /held HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf");
  wait(r, 900);
  assert_null(ended_for_one(r));
  wait(r, 100);
  assert_ptr_equal(ended_for_one(r), &r->clients[0]);
  room_end(r);
}

static void come_silent(struct room *r, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) say(r, come(r), "");
}

static uint32_t count_closed(const struct room *r) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < r->count; i++) count += r->clients[i].closed;
  return count;
}

/* So many that nobody is accepted any more: who waits behind them is served as soon as one of them
 * may be ended, and the timer that looks for that rests when nobody waits. */
static void a_flood_of_the_silent(void **state) {
  (void)state;
  struct room *r = room_of(4);
  come_silent(r, 4 + OVER_RESERVE + 2);
  struct client *c = come(r);
  say(r, c, asks);
  wait(r, 850);
  assert_int_equal(c->got, 0);
  assert_int_equal(count_closed(r), 0); /* nobody is refused either: they wait */
  wait(r, 300);
  assert_true(c->got > 0);
  assert_int_equal(stat_of(r, "displaced"), 3);
  assert_int_equal(stat_of(r, "refused"), OVER_RESERVE);
  for (uint32_t i = 0; i < r->count; i++) assert_int_equal(r->clients[i].closed, i < 3);
  wait(r, 1200); /* where nobody waits nobody ends */
  assert_int_equal(stat_of(r, "displaced"), 3);
  for (uint32_t i = 0; i < 4; i++) {
    struct client *late = come(r);
    say(r, late, asks);
    wait(r, 150);
    assert_true(late->got > 0 && !late->closed);
  }
  room_end(r);
}

/* Those that have none of the places cost nobody one. */
static void over_ones_take_no_places(void **state) {
  (void)state;
  struct room *r = room_of(4);
  come_silent(r, 4 + 12);
  wait(r, 1100);
  assert_ptr_equal(ended_for_one(r), &r->clients[0]);
  assert_false(r->clients[r->count - 1].closed);
  assert_int_equal(stat_of(r, "displaced"), 1);
  assert_int_equal(stat_of(r, "refused"), 12);
  room_end(r);
}

/* They owe a request for longest: they go, and then one of those that have a place. */
static void over_ones_that_came_first(void **state) {
  (void)state;
  struct room *r = room_of(2);
  for (uint32_t i = 0; i < 2; i++)
    say(r, come(r), "POST /held HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1");
  come_silent(r, OVER_RESERVE);
  say(r, &r->clients[0], "2");
  wait(r, 3100);
  struct client *c = come(r);
  say(r, c, asks);
  assert_true(c->got > 0 && !c->closed && r->clients[0].closed && !r->clients[1].closed);
  assert_int_equal(stat_of(r, "displaced"), OVER_RESERVE + 1);
  assert_int_equal(stat_of(r, "refused"), OVER_RESERVE);
  room_end(r);
}

/* What is left of a request that was answered is owed, too. */
static void the_rest_of_a_request(void **state) {
  (void)state;
  struct room *r = room_of(2);
  for (uint32_t i = 0; i < 2; i++)
    say(r, come(r), "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1");
  wait(r, 900);
  assert_true(r->clients[0].got > 0 && r->clients[1].got > 0);
  assert_null(ended_for_one(r));
  wait(r, 100);
  assert_ptr_equal(ended_for_one(r), &r->clients[0]);
  say(r, &r->clients[1], "2");
  wait(r, 150);
  assert_false(r->clients[1].closed); /* it is idle from its last byte on */
  assert_ptr_equal(ended_for_one(r), &r->clients[3]);
  assert_ptr_equal(ended_for_one(r), &r->clients[1]);
  room_end(r);
}

/* A head that began late counts from its first byte on; one that is whole is a request. */
static void heads_in_parts(void **state) {
  (void)state;
  struct room *r = room_of(3);
  for (uint32_t i = 0; i < 3; i++) ask(r, come(r));
  wait(r, 5000);
  say(r, &r->clients[0], "GET /ok HTTP/1.1\r\n");
  say(r, &r->clients[1], "POST /held HTTP/1.1\r\nHost: h\r\nContent-Le");
  wait(r, 2000);
  say(r, &r->clients[0], "Host: h\r\n");
  say(r, &r->clients[1], "ngth: 9\r\n\r\nhalf");
  assert_ptr_equal(ended_for_one(r), &r->clients[2]);
  wait(r, 1100);
  assert_ptr_equal(ended_for_one(r), &r->clients[0]);
  wait(r, 20000);
  ended_for_one(r);
  assert_false(r->clients[1].closed);
  say(r, &r->clients[1], " full");
  assert_false(r->clients[1].closed);
  room_end(r);
}

/* queued is what its only client has yet to take. */
static size_t queued(const struct room *r) {
  const struct serving *sv = container_of(r->k.w->servings.next, struct serving, link);
  return conn_pending(container_of(sv->downs.next, struct down, link)->conn);
}

/* Who is idle for us may still read: what is queued goes out before the end. */
static void what_is_queued_is_sent(void **state) {
  (void)state;
  struct room *r = room_of(2);
  struct client *slow = come(r);
  size_t want = 0;
  sim_peer_window(slow->peer, 1000);
  while (want < LARGE && !(want && queued(r))) { /* the network takes so much */
    say(r, slow, "GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    want += PART;
  }
  assert_in_range(queued(r), 1, OUT_HIGH);
  ask(r, come(r));
  wait(r, 200);
  assert_true(slow->got < want);
  assert_null(ended_for_one(r)); /* its place is given to another one, but it is there still */
  assert_int_equal(stat_of(r, "displaced"), 1);
  assert_int_equal(stat_of(r, "refused"), 0);
  sim_peer_window(slow->peer, SIZE_MAX);
  wait(r, 100);
  assert_true(slow->closed && slow->got > want);
  room_end(r);
}

/* model_choice is who has to end now, by a look at all; NULL: nobody. */
static struct client *model_choice(struct room *r) {
  uint64_t now = sim_now_ms(r->k.sim);
  struct client *owing = NULL, *idle = NULL;
  for (uint32_t i = 0; i < r->count; i++) {
    struct client *c = &r->clients[i];
    if (c->closed || c->left || c->busy) continue;
    struct client **best = c->owes ? &owing : &idle;
    if (!*best || c->since < (*best)->since) *best = c;
  }
  if (owing && now - owing->since >= 3000) return owing;
  if (idle && now - idle->since >= 100) return idle;
  return owing && now - owing->since >= 1000 ? owing : NULL;
}

static uint32_t model_count(const struct room *r, bool over) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < r->count; i++) {
    const struct client *c = &r->clients[i];
    count += !c->closed && !c->left && c->over == over;
  }
  return count;
}

/* model_make ends whom it has to; false: the one that comes has no place. */
static bool model_make(struct room *r, uint32_t kinds[4]) {
  uint32_t before = model_count(r, true);
  while (model_count(r, false) >= r->share) {
    struct client *c = model_choice(r);
    kinds[!c ? 0 : c->owes ? 1 : 2]++;
    if (!c) return false;
    c->left = true;
  }
  if (before > model_count(r, true)) kinds[3]++;
  return true;
}

/* act does what nobody is ended by. */
static void act(struct room *r, struct client *c, uint64_t draw) {
  bool idle = !c->busy && !c->owes, half = c->busy || c->rest;
  if (c->closed || (!idle && !half) || (half && draw)) return;
  c->since = sim_now_ms(r->k.sim);
  if (half) {
    say(r, c, "2");
    c->busy = c->rest = c->owes = false;
  } else if (draw == 0) {
    say(r, c, "GET ");
    c->owes = true;
  } else if (draw == 1) {
    say(r, c, "POST /held HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1");
    c->busy = true;
  } else if (draw == 2) {
    say(r, c, "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1");
    c->rest = c->owes = true;
  } else {
    ask(r, c);
  }
}

/* settle: rests have LINGER_MS; whether one has just ended is not the model's matter. */
static void settle(struct room *r) {
  for (uint32_t i = 0; i < r->count; i++) {
    const struct client *c = &r->clients[i];
    uint64_t age = sim_now_ms(r->k.sim) - c->since;
    if (c->rest && !c->closed && age > LINGER_MS - 20) wait(r, 50);
  }
}

/* next is the one that comes, with who has to end for it. */
static void next(struct room *r, bool silent, uint32_t kinds[4]) {
  settle(r);
  uint64_t now = sim_now_ms(r->k.sim);
  bool placed = model_make(r, kinds);
  struct client *c = come(r);
  say(r, c, silent ? "" : asks);
  uint32_t ended = 0;
  for (uint32_t i = 0; i < r->count; i++) {
    assert_true(r->clients[i].closed || !r->clients[i].left);
    ended += r->clients[i].left;
  }
  assert_int_equal(stat_of(r, "displaced"), ended);
  assert_int_equal(c->closed, !placed && !silent);
  *c = (struct client){.peer = c->peer, .got = c->got, .closed = c->closed,
                       .over = !placed, .owes = silent, .since = now};
}

static void as_the_model_has_it(void **state) {
  (void)state;
  uint32_t kinds[4] = {0};
  for (uint64_t seed = 1; seed <= 200; seed++) {
    struct room *r = room_of(6);
    uint64_t rng = seed;
    for (uint32_t i = 0; i < 6; i++) {
      struct client *c = come(r);
      say(r, c, "");
      if (i % 3) ask(r, c);
      wait(r, 3);
    }
    while (r->count < PEERS) {
      rng = rng * 6364136223846793005u + 1442695040888963407u;
      uint64_t draw = rng >> 33;
      wait(r, 5 + draw % 211);
      act(r, &r->clients[draw / 256 % r->count], draw % 6);
      wait(r, 3);
      if (draw / 8 % 4) continue;
      uint32_t floods = draw / 4096 % 8 ? 0 : 8; /* of silent ones, beyond the limit */
      if (model_count(r, true) + floods < OVER_RESERVE)
        for (; floods && r->count < PEERS; floods--) next(r, true, kinds);
      if (r->count < PEERS) next(r, false, kinds);
    }
    room_end(r);
  }
  print_message("nobody %u, an owing one %u, an idle one %u; those over the limit first %u\n",
                kinds[0], kinds[1], kinds[2], kinds[3]);
  assert_true(kinds[0] > 20 && kinds[1] > 100 && kinds[2] > 100 && kinds[3] > 20);
}

/* Whoever comes between the snapshot without its listener and the end of that one is not refused
 * for max_connections. */
static void a_removed_listener_is_not_full(void **state) {
  (void)state;
  struct room *r = room_of(4);
  struct snapshot *without = snapshot_new(r->k.registry);
  without->max_connections = 4;
  kit_post(&r->k, &(struct worker_msg){.kind = WORKER_INSTALL, .snapshot = without, .seq = 2});
  for (int i = 0; i < 50 && worker_seq(r->k.w) < 2; i++) (void)sim_step(r->k.sim);
  assert_int_equal(worker_seq(r->k.w), 2);
  struct client *c = come(r);
  say(r, c, asks);
  assert_true(c->closed && c->got == 0);
  assert_int_equal(stat_of(r, "refused"), 0);
  assert_int_equal(atomic_load(&r->k.listener->state->rows[0].refused), 1);
  snapshot_free(r->k.snapshot);
  r->k.snapshot = without;
  room_end(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_longest_idle_of_many),
      cmocka_unit_test(nobody_at_once),
      cmocka_unit_test(the_silent_go_first),
      cmocka_unit_test(the_silent_in_place_of_a_refusal),
      cmocka_unit_test(a_flood_of_the_silent),
      cmocka_unit_test(over_ones_take_no_places),
      cmocka_unit_test(over_ones_that_came_first),
      cmocka_unit_test(the_rest_of_a_request),
      cmocka_unit_test(heads_in_parts),
      cmocka_unit_test(what_is_queued_is_sent),
      cmocka_unit_test(as_the_model_has_it),
      cmocka_unit_test(a_removed_listener_is_not_full),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
