/* sim_proxy_retry.c: further attempts: each fault with each kind of request under each policy.
 * What may have been acted on and is not idempotent reaches an origin once; the next attempt goes
 * to another endpoint; nothing of a response that is tried again is seen; every end has its word.
 * Budgets over hours are unit_upstream_budget's. */
#include "proxy_world.h"
#include "weir/io/loop_ops.h"
#include "weir/upstream/breaker.h"

static const struct sim_faults soft = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 150,
                                       .reorder = 300,
                                       .enobufs = 50,
                                       .cancel_race = 300};

enum { ALL = RETRY_CONNECT | RETRY_RESET | RETRY_FIRST_BYTE | RETRY_GATEWAY };

static void wrong(const struct world *w, const struct plan *p, const char *what) {
  fail_msg("seed %llu: plan %u: %s body %u bad %u x %u: %s: outcome %d status %u end %s, "
           "seen %u/%u by %x, attempts %u",
           (unsigned long long)w->seed, p->id, p->method, p->len, p->bad, p->bad_times, what,
           (int)p->outcome, p->got_status, p->ended ? end_get(p->end)->word.ptr : "(none)",
           p->up_heads, p->up_bodies, p->up_origins, p->record.attempts);
}

static struct world *retry_world(uint64_t seed, const struct world_conf *conf) {
  return world_new(seed, 1, seed % 4 ? &soft : NULL, conf);
}

static struct plan *ask(struct world *w, struct plan *p) {
  struct client *c = client_new(w, 0);
  client_add(c, p);
  client_start(c);
  world_run(w, world_clients_done, 200000);
  while (!p->ended) world_step(w);
  return p;
}

/* ---- every fault with every request ---- */

static const struct kind {
  const char *method;
  uint8_t frame;
  bool idempotent;
} kinds[] = {
    {"GET", FRAME_NONE, true},   {"POST", FRAME_NONE, false},  {"PUT", FRAME_LENGTH, true},
    {"POST", FRAME_CHUNKED, false}, {"DELETE", FRAME_NONE, true}, {"BREW", FRAME_NONE, false},
    {"PUT", FRAME_CHUNKED, true},
};

static const struct fault_row {
  enum bad bad;
  uint32_t cause;  /* that on must have */
  enum end end;    /* when nobody tries again */
  uint16_t status; /* which the client sees then */
} fault_rows[] = {
    {BAD_RESET, RETRY_RESET, END_UPSTREAM_RESET, 502},
    {BAD_FIN, RETRY_RESET, END_UPSTREAM_CLOSED, 502},
    {BAD_CUT, 0, END_UPSTREAM_TRUNCATED, 502},
    {BAD_INTERIM, 0, END_UPSTREAM_TRUNCATED, 502},
    {BAD_STALL, RETRY_FIRST_BYTE, END_FIRST_BYTE_TIMEOUT, 504},
    {BAD_503, RETRY_GATEWAY, END_OK, 503},
};

/* policies of the table; the last two forbid by number and by budget. */
static const struct policy_row {
  uint32_t on, unsafe, attempts, percent, floor;
} policies[] = {
    {RETRY_CONNECT | RETRY_RESET, 0, 4, 20, 1000}, {ALL, 0, 4, 20, 1000},
    {ALL, 1, 4, 20, 1000},                         {RETRY_GATEWAY, 0, 4, 100, 0},
    {ALL, 1, 1, 20, 1000},                         {ALL, 1, 4, 0, 0},
};

static void set_policy(struct world_conf *conf, const struct policy_row *row) {
  struct pool_retry *r = &conf->pools[0].retry;
  r->on = row->on;
  r->unsafe = row->unsafe;
  r->attempts = row->attempts;
  r->budget_percent = row->percent;
  r->budget_min = row->floor;
}

/* expected is whether a second attempt follows the first fault. A body is gone once it was sent,
 * unless it was held. */
static bool expected(const struct policy_row *policy, const struct fault_row *f,
                     const struct kind *k, bool held) {
  if (!(policy->on & f->cause) || policy->attempts == 1 || (k->frame && !held)) return false;
  if (policy->percent * 1u / 100 + policy->floor < 1) return false;
  return k->idempotent || policy->unsafe;
}

static void check_plan(struct world *w, const struct plan *p, bool again,
                       const struct fault_row *f) {
  if (again) {
    if (p->outcome != OUT_OK || p->end != END_OK) wrong(w, p, "was not tried again");
    if (p->up_heads != 2 || p->up_origins != 3) wrong(w, p, "not to the other endpoint");
    if (p->record.attempts != 2) wrong(w, p, "attempts");
    return;
  }
  if (p->up_heads != 1) wrong(w, p, "was sent twice");
  if (p->outcome != OUT_ANSWER || p->got_status != f->status) wrong(w, p, "the answer");
  /* A FIN or RST may meet the request's last bytes. */
  bool reset = f->bad == BAD_FIN && p->end == END_UPSTREAM_RESET;
  if (p->end != f->end && !reset) wrong(w, p, "the end");
}

static void each_fault_with_each_request(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 4);) {
    for (size_t n = 0; n < array_count(policies); n++) {
      for (size_t f = 0; f < array_count(fault_rows); f++) {
        for (size_t k = 0; k < array_count(kinds); k++) {
          struct world_conf conf;
          world_conf_init(&conf);
          set_policy(&conf, &policies[n]);
          bool held = seed % 2;
          conf.routes[0].buffer_bytes = held ? 1u << 20 : 0;
          struct world *w = retry_world(seed, &conf);
          struct plan *p = plan_new(w);
          p->method = kinds[k].method;
          p->frame = kinds[k].frame;
          p->len = p->frame ? 1 + (uint32_t)world_draw(w, 9000) : 0;
          p->bad = (uint8_t)fault_rows[f].bad;
          p->bad_times = 1;
          ask(w, p);
          bool again = expected(&policies[n], &fault_rows[f], &kinds[k], held);
          check_plan(w, p, again, &fault_rows[f]);
          world_end(w);
        }
      }
    }
  }
}

/* What did not reach an endpoint may be sent to another, whatever it is. */
static void refused_connections(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    world_conf_init(&conf);
    bool off = seed & 1;
    if (off) conf.pools[0].retry.on = RETRY_RESET;
    conf.pools[0].origins = 1;
    conf.pools[0].balance = BALANCE_ROUND_ROBIN;
    if (!off) conf.pools[0].origins = 7;
    struct world *w = retry_world(seed, &conf);
    origin_down(&w->origins[0], true);
    origin_down(&w->origins[1], true);
    struct plan *p = plan_new(w);
    const struct kind *k = &kinds[seed / 2 % array_count(kinds)];
    p->method = k->method;
    p->frame = k->frame;
    p->len = p->frame ? 1 + (uint32_t)world_draw(w, 9000) : 0;
    ask(w, p);
    if (off ? p->end != END_CONNECT_REFUSED : p->outcome != OUT_OK) wrong(w, p, "refused");
    if (p->up_heads != (off ? 0 : 1)) wrong(w, p, "seen");
    if (off && p->record.attempts != 1) wrong(w, p, "attempts");
    world_end(w);
  }
}

/* ---- how often, where to, when ---- */

/* As many attempts as allowed, each to another endpoint while there is one, then the cause. */
static void attempts_are_counted(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    world_conf_init(&conf);
    uint32_t attempts = 1 + (uint32_t)(seed % RETRY_ATTEMPTS_MAX);
    conf.pools[0].origins = seed & 16 ? 15 : 3;
    conf.pools[0].retry.on = ALL;
    conf.pools[0].retry.attempts = attempts;
    const struct fault_row *f = &fault_rows[seed % 2 ? 0 : 5];
    struct world *w = retry_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = (uint8_t)f->bad;
    p->bad_times = 200;
    ask(w, p);
    if (p->up_heads != attempts || p->record.attempts != attempts) wrong(w, p, "attempts");
    uint32_t origins = seed & 16 ? 4 : 2;
    uint32_t seen = (uint32_t)__builtin_popcount(p->up_origins);
    if (seen != (attempts < origins ? attempts : origins)) wrong(w, p, "another one each time");
    if (p->got_status != f->status || p->end != f->end) wrong(w, p, "the cause");
    world_end(w);
  }
}

/* The same endpoint is asked again after a random while that grows; another one at once. */
static void backoff_has_its_bounds(void **state) {
  (void)state;
  uint64_t sum = 0, least = UINT64_MAX, most = 0;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    world_conf_init(&conf);
    bool one = seed & 1;
    conf.pools[0].origins = one ? 1 : 15;
    conf.pools[0].retry.on = ALL;
    conf.pools[0].retry.backoff_base_ms = 1000;
    conf.pools[0].retry.backoff_max_ms = 3000;
    struct world *w = retry_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_503;
    p->bad_times = 3;
    ask(w, p);
    uint64_t ms = p->record.total_ns / 1000000;
    if (p->outcome != OUT_OK) wrong(w, p, "backoff");
    if (one ? ms > 1000 + 2000 + 3000 + 50 : ms > 50) wrong(w, p, "took too long");
    if (one) {
      sum += ms;
      least = ms < least ? ms : least;
      most = ms > most ? ms : most;
    }
    world_end(w);
  }
  assert_true(sum / 100 > 2400 && sum / 100 < 3600);
  assert_true(least < 1700 && most > 4300); /* full jitter */
}

/* The limit of one attempt is there so that another one follows: what cannot be followed has the
 * pool's own time. */
static void per_try_timeout(void **state) {
  (void)state;
  enum { BETTER, GONE, BODY, UNSAFE, SPENT, KINDS };
  for (uint64_t seed = 0; world_seed(&seed, 250);) {
    struct world_conf conf;
    world_conf_init(&conf);
    uint64_t kind = seed % KINDS;
    conf.pools[0].retry.on = ALL;
    conf.pools[0].retry.attempts = 3;
    conf.pools[0].retry.per_try_ms = 500;
    conf.pools[0].timeouts.first_byte_ms = 2000;
    if (kind == SPENT) conf.pools[0].retry.budget_percent = conf.pools[0].retry.budget_min = 0;
    struct world *w = retry_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_STALL;
    p->bad_times = kind == BETTER ? 2 : 9;
    if (kind == UNSAFE) p->method = "POST";
    if (kind == BODY) {
      p->method = "PUT";
      p->frame = FRAME_LENGTH;
      p->len = 100;
    }
    ask(w, p);
    uint64_t ms = p->record.total_ns / 1000000, least = kind == GONE ? 3000 : 2000;
    if (kind == BETTER) {
      if (p->outcome != OUT_OK || ms < 990 || ms > 1000 + 300) wrong(w, p, "the third one");
    } else {
      if (p->end != END_FIRST_BYTE_TIMEOUT || p->got_status != 504) wrong(w, p, "the last one");
      if (p->up_heads != (kind == GONE ? 3 : 1)) wrong(w, p, "how often");
      if (ms < least - 10 || ms > least + 300) wrong(w, p, "when");
    }
    assert_int_equal(worker_stats(w->worker[0])->retries_refused, kind == SPENT ? 2 : 0);
    world_end(w);
  }
}

/* A backup is asked when the others have been, not before. */
static void the_tier_comes_first(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].origins = 7;
    conf.pools[0].backups = 4;
    conf.pools[0].retry.on = ALL;
    struct world *w = retry_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = seed & 1 ? BAD_503 : BAD_RESET;
    p->bad_times = 1 + (seed >> 1) % 2;
    ask(w, p);
    if (p->outcome != OUT_OK) wrong(w, p, "not answered");
    if (p->up_origins != (p->bad_times == 1 ? 3u : 7u)) wrong(w, p, "where to");
    world_end(w);
  }
}

/* Who refuses connections is not asked again when all that is left is known to be down. */
static void none_is_left_but_the_dead(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].origins = 7;
    struct world *w = retry_world(seed, &conf);
    const struct pool *pool = w->current->pools[0];
    for (uint32_t m = 0; m < pool->member_count; m++)
      atomic_store(&pool->members[m].endpoint->state, m ? ENDPOINT_DOWN : ENDPOINT_UP);
    for (uint32_t i = 0; i < 3; i++) origin_down(&w->origins[i], true);
    struct plan *p = ask(w, plan_new(w));
    if (p->end != END_CONNECT_REFUSED || p->record.attempts != 1) wrong(w, p, "asked again");
    world_end(w);
  }
}

/* The other endpoint is full: the one that failed is asked again, but not at once; it holds up
 * nobody. With more room at the other one it is that. */
static void no_room_elsewhere(void **state) {
  (void)state;
  uint64_t sum = 0;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    world_conf_init(&conf);
    bool room = seed & 1, requests = seed & 2;
    uint32_t most = room ? 2 : 1;
    if (requests) conf.pools[0].connections.max_requests_per_endpoint = most;
    else conf.pools[0].connections.max_per_endpoint = most;
    conf.pools[0].retry.on = ALL;
    conf.pools[0].retry.backoff_base_ms = conf.pools[0].retry.backoff_max_ms = 2000;
    struct world *w = retry_world(seed, &conf);
    struct client *c = client_new(w, 0);
    struct plan *holder = plan_new(w), *p = plan_new(w);
    holder->stall = true;
    client_add(c, holder);
    client_start(c);
    while (!holder->up_bodies) world_step(w);
    p->bad = BAD_503;
    p->bad_times = 1;
    struct client *other = client_new(w, 0);
    client_add(other, p);
    client_start(other);
    while (!p->ended || p->outcome == OUT_NONE) world_step(w);
    uint64_t ms = p->record.total_ns / 1000000;
    if (p->outcome != OUT_OK || p->up_heads != 2) wrong(w, p, "not answered");
    if (room && p->up_origins != 3) wrong(w, p, "there was room");
    if (room ? ms > 60 : p->up_origins == 3 || ms > 2100) wrong(w, p, "when");
    if (!room) sum += ms;
    client_end(c, true);
    world_run(w, world_clients_done, 200000);
    world_end(w);
  }
  assert_true(sum / 50 > 500);
}

/* The only one left is full, for longer than any backoff: it is waited for. Who took no connection
 * is not asked again, in however long a queue; when nobody else is left, that is the cause. */
static void the_dead_are_not_asked_while_others_are_full(void **state) {
  (void)state;
  enum { HOLD_MS = 3000 };
  for (uint64_t seed = 0; world_seed(&seed, 120);) {
    struct world_conf conf;
    world_conf_init(&conf);
    bool gone = seed & 2;
    if (seed & 1) conf.pools[0].connections.max_requests_per_endpoint = 1;
    else conf.pools[0].connections.max_per_endpoint = 1;
    conf.pools[0].balance = BALANCE_ROUND_ROBIN;
    struct world *w = retry_world(seed, &conf);
    const struct pool *pool = w->current->pools[0];
    uint32_t dead = seed & 8 ? 1 : 0;
    origin_down(&w->origins[dead], true);
    struct plan *holder = plan_new(w), *p = plan_new(w);
    holder->stall = true;
    if (seed & 16) p->method = "POST";
    struct client *c = client_new(w, 0), *other = client_new(w, 0);
    client_add(c, holder);
    client_start(c);
    while (!holder->up_bodies) world_step(w);
    client_add(other, p);
    client_start(other);
    world_for(w, HOLD_MS);
    if (p->ended) wrong(w, p, "did not wait");
    if (gone) atomic_store(&pool->members[1 - dead].endpoint->state, ENDPOINT_DOWN);
    origin_release(&w->origins[1 - dead]);
    world_run(w, world_clients_done, 200000);
    while (!p->ended) world_step(w);
    if (gone && p->end != END_CONNECT_REFUSED) wrong(w, p, "the cause");
    if (!gone && (p->outcome != OUT_OK || p->up_heads != 1)) wrong(w, p, "not answered");
    if (p->record.attempts > (gone ? 1 : 2)) wrong(w, p, "the dead one was asked again");
    world_end(w);
  }
}

/* Nor when all have been asked: the one that answered is. */
static void the_dead_are_not_asked_after_the_others(void **state) {
  (void)state;
  uint32_t answered = 0;
  for (uint64_t seed = 0; world_seed(&seed, 120);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].retry.on = ALL;
    struct world *w = retry_world(seed, &conf);
    origin_down(&w->origins[seed & 1], true);
    struct plan *p = plan_new(w);
    p->bad = BAD_503;
    p->bad_times = 2;
    ask(w, p);
    bool last = p->record.attempts == 2 && p->end == END_CONNECT_REFUSED; /* asked as the last */
    if (!last && (p->outcome != OUT_OK || p->up_heads != 3)) wrong(w, p, "not answered");
    answered += !last;
    world_end(w);
  }
  assert_true(answered > 30);
}

static void set_breaker(struct world_conf *conf, uint32_t failure_percent, uint32_t min_requests) {
  conf->pools[0].retry.on = ALL;
  conf->pools[0].breaker = (struct pool_breaker){.failure_percent = failure_percent,
                                                 .min_requests = min_requests,
                                                 .window_ms = 3600000,
                                                 .open_ms = 3600000,
                                                 .max_open_ms = 3600000,
                                                 .probes = 1};
}

/* A response that opens the breaker is given on: there is no other attempt in its place. */
static void what_opens_the_breaker_is_seen(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    set_breaker(&conf, 50, seed & 1 ? 2 : 1);
    struct world *w = retry_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_503;
    p->bad_times = 4;
    ask(w, p);
    if (p->end != END_OK || p->got_status != 503) wrong(w, p, "not the response");
    if (p->up_heads != conf.pools[0].breaker.min_requests) wrong(w, p, "how often");
    if (breaker_closed(w->current->pools[0])) wrong(w, p, "closed");
    world_end(w);
  }
}

/* A response worth another attempt that is not made counts once. */
static void a_response_counts_once(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    set_breaker(&conf, 60, 3);
    conf.pools[0].retry.attempts = 1;
    struct world *w = retry_world(seed, &conf);
    ask(w, plan_new(w));
    ask(w, plan_new(w));
    for (uint32_t i = 0; i < 3; i++) { /* 1 of 3 failed, 2 of 4, 3 of 5 */
      struct plan *p = plan_new(w);
      p->bad = BAD_503;
      p->bad_times = 1;
      ask(w, p);
      if (p->end != END_OK || p->got_status != 503) wrong(w, p, "not the response");
      if (breaker_closed(w->current->pools[0]) != (i < 2)) wrong(w, p, "the count");
    }
    world_end(w);
  }
}

static int no_socket(struct loop *loop, int family) {
  (void)loop;
  (void)family;
  return -EAFNOSUPPORT;
}

/* One endpoint is full, the other cannot even be tried: it is that one that failed. */
static void who_failed_at_once_is_blamed(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].retry.attempts = 1;
    conf.pools[0].connections.max_requests_per_endpoint = 1;
    conf.pools[0].balance = seed & 1 ? BALANCE_ROUND_ROBIN : BALANCE_RANDOM;
    struct world *w = retry_world(seed, &conf);
    struct plan *holder = plan_new(w), *p = plan_new(w);
    holder->stall = true;
    struct client *c = client_new(w, 0);
    client_add(c, holder);
    client_start(c);
    while (!holder->up_bodies) world_step(w);
    uint32_t full = holder->up_origins == 1 ? 0 : 1;
    struct loop *loop = w->worker[0]->loop;
    const struct loop_ops *ops = loop->ops;
    struct loop_ops broken = *ops;
    broken.socket = no_socket;
    loop->ops = &broken;
    struct client *other = client_new(w, 0);
    client_add(other, p);
    client_start(other);
    while (!p->ended) world_step(w);
    loop->ops = ops;
    const struct pool *pool = w->current->pools[0];
    for (uint32_t m = 0; m < pool->member_count; m++) {
      const struct endpoint *e = pool->members[m].endpoint;
      bool was_full = addr_eq(&e->addr, &w->origins[full].at);
      if (atomic_load(&e->rows[0].failures) != (was_full ? 0 : 1)) wrong(w, p, "who is blamed");
    }
    if (p->end != END_CONNECT_FAILED) wrong(w, p, "the end");
    origin_release(&w->origins[full]);
    world_run(w, world_clients_done, 200000);
    world_end(w);
  }
}

/* Retry-After is not waited for: another endpoint is asked at once, and this one not again. */
static void retry_after_is_heeded(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 60);) {
    struct world_conf conf;
    world_conf_init(&conf);
    bool one = seed & 1;
    conf.pools[0].origins = one ? 1 : 3;
    conf.pools[0].retry.on = ALL;
    struct world *w = retry_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = BAD_503_LATER;
    p->bad_times = 1;
    ask(w, p);
    if (one && (p->got_status != 503 || p->up_heads != 1)) wrong(w, p, "asked again");
    if (!one && (p->outcome != OUT_OK || p->up_heads != 2)) wrong(w, p, "not another one");
    world_end(w);
  }
}

/* What met the end of a kept connection is replayed on a fresh one; attempts after that take kept
 * ones again. */
static void only_the_replay_is_on_a_fresh_connection(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 40);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].retry.on = ALL;
    conf.pools[0].balance = BALANCE_ROUND_ROBIN;
    struct world *w = world_new(seed, 1, NULL, &conf);
    for (uint32_t i = 0; i < 6; i++) { /* up to three connections each */
      struct client *c = client_new(w, 0);
      client_add(c, plan_new(w));
      client_start(c);
    }
    world_run(w, world_clients_done, 200000);
    uint32_t before = w->origins[0].accepted + w->origins[1].accepted;
    assert_true(w->origins[0].accepted >= 2 && w->origins[1].accepted >= 2);
    struct plan *p = plan_new(w);
    p->bad = seed & 1 ? BAD_FIN : BAD_RESET;
    p->bad_times = 1;
    p->then = BAD_503;
    ask(w, p);
    if (p->outcome != OUT_OK || p->up_heads != 3) wrong(w, p, "not answered");
    assert_int_equal(worker_stats(w->worker[0])->replays, 1);
    uint32_t after = w->origins[0].accepted + w->origins[1].accepted;
    if (after != before + 1) wrong(w, p, "not a kept one");
    world_end(w);
  }
}

/* The route's timeout spans all attempts and the time between them. */
static void the_deadline_spans_all(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 200);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.routes[0].timeout_ms = 800;
    conf.pools[0].origins = 1;
    conf.pools[0].retry.on = ALL;
    conf.pools[0].retry.per_try_ms = 300;
    conf.pools[0].retry.backoff_base_ms = 400;
    conf.pools[0].retry.backoff_max_ms = 400;
    struct world *w = retry_world(seed, &conf);
    struct plan *p = plan_new(w);
    p->bad = seed & 1 ? BAD_STALL : BAD_503;
    p->bad_times = 9;
    ask(w, p);
    uint64_t ms = p->record.total_ns / 1000000;
    if (ms > 850) wrong(w, p, "too late");
    bool stalled = p->end == END_ROUTE_TIMEOUT;
    if (seed & 1 ? !stalled : p->end != END_OK || p->got_status != 503) wrong(w, p, "the cause");
    world_end(w);
  }
}

/* A client that leaves while its request waits for the next attempt. */
static void leaving_between_attempts(void **state) {
  (void)state;
  for (uint64_t seed = 0; world_seed(&seed, 100);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].origins = 1;
    conf.pools[0].retry.on = ALL;
    conf.pools[0].retry.backoff_base_ms = conf.pools[0].retry.backoff_max_ms = 20000;
    struct world *w = retry_world(seed, &conf);
    struct client *c = client_new(w, 0);
    struct plan *p = plan_new(w);
    p->bad = BAD_503;
    p->bad_times = 9;
    client_add(c, p);
    client_start(c);
    while (p->up_bodies == 0) world_step(w);
    for (int i = 0; i < 30 && !p->ended; i++) {
      if (worker_stats(w->worker[0])->retries) break;
      world_step(w);
    }
    client_end(c, true);
    while (!p->ended) world_step(w);
    if (p->end != END_CLIENT_RESET) wrong(w, p, "left");
    if (p->up_heads > 2) wrong(w, p, "went on");
    world_end(w);
  }
}

/* ---- all at once ---- */

static void chaos(void **state) {
  (void)state;
  static const struct sim_faults hard = {.short_read = 200, .short_write = 200, .delay = 200,
                                         .reorder = 300,    .enobufs = 80,      .reset = 8,
                                         .refuse = 100,     .cancel_race = 400, .time_jump = 2};
  uint64_t retries = 0;
  for (uint64_t seed = 0; world_seed(&seed, 300);) {
    struct world_conf conf;
    world_conf_init(&conf);
    conf.pools[0].origins = 7;
    conf.pools[0].retry.on = ALL | RETRY_5XX;
    conf.pools[0].retry.per_try_ms = seed & 1 ? 700 : 0;
    world_hold(&conf, seed);
    struct world *w = world_new(seed, 1 + (uint32_t)(seed % SIM_WORKERS), &hard, &conf);
    for (uint32_t i = 0; i < 5; i++) {
      struct client *c = client_new(w, i % w->workers);
      c->pipeline = world_chance(w, 30);
      for (uint32_t n = 0; n < 6; n++) {
        struct plan *p = plan_random(w);
        p->bad = (uint8_t)world_draw(w, BAD_503 + 1);
        p->bad_times = (uint8_t)world_draw(w, 3);
        if (world_chance(w, 5)) p->early = true;
        if (p->early) p->bad = BAD_NOT;
        client_add(c, p);
      }
      client_start(c);
    }
    world_run(w, world_clients_done, 1000000);
    for (uint32_t i = 0; i < w->plan_count; i++) {
      const struct plan *p = &w->plans[i];
      bool once = strcmp(p->method, "POST") == 0 || strcmp(p->method, "BREW") == 0;
      if (once && p->up_heads > 1) wrong(w, p, "was sent twice");
      bool held = p->len <= conf.routes[0].buffer_bytes;
      if (p->len && !held && p->up_bodies > 1) wrong(w, p, "a body was sent twice");
      if (p->up_heads > 5) wrong(w, p, "too often");
    }
    for (uint32_t i = 0; i < w->workers; i++) retries += worker_stats(w->worker[i])->retries;
    world_end(w);
  }
  assert_true(retries > 500);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_fault_with_each_request),
      cmocka_unit_test(refused_connections),
      cmocka_unit_test(attempts_are_counted),
      cmocka_unit_test(backoff_has_its_bounds),
      cmocka_unit_test(per_try_timeout),
      cmocka_unit_test(the_tier_comes_first),
      cmocka_unit_test(none_is_left_but_the_dead),
      cmocka_unit_test(no_room_elsewhere),
      cmocka_unit_test(the_dead_are_not_asked_while_others_are_full),
      cmocka_unit_test(the_dead_are_not_asked_after_the_others),
      cmocka_unit_test(what_opens_the_breaker_is_seen),
      cmocka_unit_test(a_response_counts_once),
      cmocka_unit_test(who_failed_at_once_is_blamed),
      cmocka_unit_test(retry_after_is_heeded),
      cmocka_unit_test(only_the_replay_is_on_a_fresh_connection),
      cmocka_unit_test(the_deadline_spans_all),
      cmocka_unit_test(leaving_between_attempts),
      cmocka_unit_test(chaos),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
