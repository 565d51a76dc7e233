/* test_upmux.c: HTTP/2 connections of one worker on a simulated loop: which streams share one,
 * what its first bytes are, permits, whose limits its endpoint is told. Endpoints keep what came.
 */
#include <errno.h>

#include "upstream_kit.h"

#include "weir/base/buf.h"
#include "weir/http/h2_settings.h"
#include "weir/io/sim.h"
#include "weir/mux/h2.h"

#define HEADER SPAN_LIT("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
#define HELLO SPAN_LIT("\0\0\0\4\0\0\0\0\0") /* SETTINGS without a row */
#define TAKES_TWO SPAN_LIT("\0\0\6\4\0\0\0\0\0\0\3\0\0\0\2") /* MAX_CONCURRENT_STREAMS */
#define EXTENDS SPAN_LIT("\0\0\6\4\0\0\0\0\0\0\x8\0\0\0\1") /* ENABLE_CONNECT_PROTOCOL */

enum { PEERS = 1024, ASKING = 12 };

struct peer {
  struct sim_peer *sim; /* NULL: over */
  struct text in;
};

struct bed {
  struct sim *sim;
  struct registry *registry;
  struct loop *loop;
  struct upstream up;
  struct pool *pool;
  struct snapshot *snapshot;
  struct peer peers[PEERS];
  uint32_t peer_count, opened, failed, others; /* the last: of failed, by H2_ANEW_OTHERS */
  int err;
  bool stay;                     /* endpoints do not close behind weir */
  struct span hello;             /* what the next connection's endpoint says first */
  struct upconn *asking[ASKING]; /* by `owner`, of a storm; NULL: none, or it ended */
  _Atomic uint64_t conns, h2, idle;
};

static struct bed *bed; /* the callbacks' */

/* ---- endpoints ---- */

static void peer_data(struct sim_peer *p, struct span bytes, void *ctx) {
  (void)p;
  text_put(&((struct peer *)ctx)->in, bytes);
}

static void peer_close(struct sim_peer *p, bool reset, void *ctx) {
  if (bed->stay && !reset) return;
  ((struct peer *)ctx)->sim = NULL;
  sim_peer_free(p);
}

static void peer_accept(struct sim_peer *p, void *ctx) {
  (void)ctx;
  check(bed->peer_count < PEERS);
  struct peer *mine = &bed->peers[bed->peer_count++];
  mine->sim = p;
  sim_peer_on_data(p, peer_data, peer_close, mine);
  sim_peer_write(p, bed->hello);
}

/* frames is what stands behind the preface; all before it is `first`. */
static struct span frames(const struct peer *p, struct span first) {
  struct span in = text_span(&p->in);
  assert_true(span_starts(in, first));
  in = span_from(in, first.len);
  assert_true(span_starts(in, H2_PREFACE));
  return span_from(in, H2_PREFACE.len);
}

static uint32_t number(struct span in, size_t at, size_t len) {
  uint32_t n = 0;
  for (size_t i = 0; i < len; i++) n = n << 8 | (uint8_t)in.ptr[at + i];
  return n;
}

/* last_frame is the type of the last one that came. */
static uint8_t last_frame(const struct peer *p, struct span first) {
  uint8_t type = 0;
  for (struct span in = frames(p, first); in.len >= 9;) {
    type = (uint8_t)in.ptr[3];
    in = span_from(in, 9 + number(in, 0, 3));
  }
  return type;
}

/* told is MAX_HEADER_LIST_SIZE as it was said last, and how often it was. */
static uint32_t told(const struct peer *p, uint32_t *times) {
  struct span in = frames(p, SPAN_EMPTY);
  uint32_t value = 0;
  *times = 0;
  while (in.len >= 9) { /* each turn takes a frame */
    uint32_t len = number(in, 0, 3);
    assert_true(in.len >= 9 + len);
    for (uint32_t at = 9; in.ptr[3] == 4 && at + 6 <= 9 + len; at += 6) {
      if (number(in, at, 2) != H2_SETTING_MAX_HEADER_LIST_SIZE) continue;
      value = number(in, at + 2, 4);
      ++*times;
    }
    in = span_from(in, 9 + len);
  }
  return value;
}

/* ---- who asks ---- */

static void let_go(struct upconn *c, bool reset) {
  struct upconn **mine = c->owner;
  if (mine) *mine = NULL;
  upconn_close(c, reset);
}

static void on_open(struct conn *c, int err) {
  if (!err) {
    bed->opened++;
    return;
  }
  bed->failed++;
  bed->others += err == -(int)H2_ANEW_OTHERS;
  bed->err = err;
  let_go(c->owner, false);
}
static size_t on_data(struct conn *c, struct span bytes) {
  (void)c;
  return bytes.len;
}
static void on_eof(struct conn *c) { (void)c; }
static void on_error(struct conn *c, int err) {
  (void)err;
  let_go(c->owner, false);
}
static const struct conn_events events = {.on_open = on_open,
                                          .on_data = on_data,
                                          .on_eof = on_eof,
                                          .on_error = on_error,
                                          .on_drained = on_eof,
                                          .on_timer = on_eof};

static struct endpoint *ep(const struct bed *b) { return b->pool->members[0].endpoint; }

static struct upconn *ask(struct bed *b, const struct pool *pool, const struct attempt_to *to) {
  bool reused;
  b->err = 0;
  return upconn_stream(&b->up, pool, ep(b), to, &reused, &b->err);
}

static struct upconn *stream_of(struct bed *b, const struct pool *pool, struct span first,
                                bool alone) {
  return ask(b, pool, &(struct attempt_to){.events = &events, .first = first, .alone = alone});
}

/* ---- the world ---- */

static struct pool *pool_like(struct bed *b, uint32_t header_bytes) {
  static const struct kit_member one[] = {{1, false, 0}};
  struct pool *pool = kit_pool(b->registry, "app", one, 1);
  pool->connections =
      (struct pool_connections){.keepalive_ms = 1000, .protocol = POOL_H2C, .max_per_endpoint = 3};
  pool->timeouts.connect_ms = 5000;
  pool->limits = (struct pool_limits){.header_bytes = header_bytes, .headers = 100};
  return pool;
}

static struct snapshot *snapshot_of(struct bed *b, struct pool *pool) {
  struct snapshot *s = snapshot_new(b->registry);
  s->pools = arena_zalloc(&s->arena, sizeof *s->pools);
  assert_non_null(s->pools);
  s->pools[s->pool_count++] = pool;
  object_ref(b->registry, &pool->obj);
  return s;
}

static void bed_init_with(struct bed *b, uint64_t seed, const struct sim_faults *faults) {
  memset(b, 0, sizeof *b);
  bed = b;
  b->hello = HELLO;
  b->sim = sim_new(seed, faults);
  b->registry = registry_new(2);
  struct loop_config config = {.conns_max = 256, .buffer_bytes = 4096, .seed = 1};
  b->loop = sim_loop_new(b->sim, &config);
  b->pool = pool_like(b, 4096);
  upstream_init(&b->up, b->loop, 0, 32);
  b->up.h2 = h2_pool_new(b->loop, 32, 64);
  b->up.counters = (struct upstream_counters){.conns = &b->conns, .h2 = &b->h2, .idle = &b->idle};
  b->snapshot = snapshot_of(b, b->pool);
  upstream_install(&b->up, 1, NULL, b->snapshot);
  sim_peer_listen(b->sim, &ep(b)->addr, peer_accept, NULL);
}

static void bed_init(struct bed *b) { bed_init_with(b, 7, NULL); }

/* settle runs for a while, in which no connection comes to the end of its time. */
static void settle(struct bed *b) {
  uint64_t until = sim_now_ms(b->sim) + 100;
  for (int n = 0; n < 1000 && sim_now_ms(b->sim) < until; n++)
    if (!sim_step(b->sim)) return;
}

/* soon steps until done, and never so far that a timeout of seconds could pass. */
static bool soon(struct bed *b, bool (*done)(const struct bed *b)) {
  uint64_t until = sim_now_ms(b->sim) + 100;
  for (int n = 0; n < 1000 && !done(b) && sim_now_ms(b->sim) < until; n++)
    if (!sim_step(b->sim)) break;
  return done(b) && sim_now_ms(b->sim) < until;
}

static bool no_conns(const struct bed *b) { return b->conns == 0; }

static uint32_t permits(const struct bed *b) { return atomic_load(&ep(b)->permits); }

static void bed_fini(struct bed *b) {
  upstream_install(&b->up, UINT64_MAX, b->snapshot, NULL);
  (void)sim_run(b->sim, 2000);
  assert_int_equal(b->conns, 0);
  assert_int_equal(b->h2, 0);
  assert_int_equal(b->idle, 0);
  assert_int_equal(permits(b), 0);
  assert_int_equal(ep(b)->rows[0].conns, 0);
  assert_int_equal(atomic_load(&ep(b)->obj.pin_rows[0].pins), 0);
  for (uint32_t i = 0; i < b->peer_count; i++) text_fini(&b->peers[i].in);
  upstream_fini(&b->up);
  h2_pool_free(b->up.h2);
  loop_free(b->loop);
  assert_int_equal(sim_fds_open(b->sim), 0);
  sim_free(b->sim);
  object_unref(b->registry, &b->pool->obj);
  snapshot_free(b->snapshot);
  registry_free(b->registry);
}

/* ---- alone ---- */

/* Each has a connection that begins with its own first bytes; others share one without. */
static void who_is_alone_shares_with_nobody(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b);
  struct upconn *c[4];
  c[0] = stream_of(&b, b.pool, HEADER, true);
  settle(&b);
  c[1] = stream_of(&b, b.pool, SPAN_LIT("PROXY UNKNOWN\r\n"), true);
  settle(&b);
  c[2] = stream_of(&b, b.pool, SPAN_EMPTY, false);
  settle(&b);
  c[3] = stream_of(&b, b.pool, SPAN_EMPTY, false);
  settle(&b);
  assert_int_equal(b.opened, 3); /* the last one was open from the start */
  assert_int_equal(b.peer_count, 3);
  assert_ptr_equal(c[2]->mux, c[3]->mux);
  assert_true(frames(&b.peers[0], HEADER).len > 0);
  assert_true(frames(&b.peers[1], SPAN_LIT("PROXY UNKNOWN\r\n")).len > 0);
  assert_true(frames(&b.peers[2], SPAN_EMPTY).len > 0);
  assert_null(stream_of(&b, b.pool, HEADER, true)); /* max_per_endpoint */
  assert_int_equal(b.err, -EAGAIN);
  upconn_close(c[0], false);
  assert_int_equal(permits(&b), 2); /* at once, not when the connection is over */
  assert_int_equal(b.idle, 0);
  struct upconn *next = stream_of(&b, b.pool, HEADER, true);
  assert_non_null(next);
  settle(&b);
  assert_int_equal(b.peer_count, 4);
  upconn_close(next, false);
  for (int i = 1; i < 4; i++) upconn_close(c[i], false);
  assert_int_equal(b.idle, 1); /* the shared one waits for the next */
  assert_int_equal(permits(&b), 1);
  bed_fini(&b);
}

/* What the endpoint can do is what it said last, on whichever connection: no older one, that is
 * still there, tells otherwise. Nor does who looks for one to share see those alone. */
static void what_it_said_last_holds(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b);
  struct upconn *c[3];
  for (int i = 0; i < 3; i++) {
    b.hello = i == 1 ? EXTENDS : HELLO;
    c[i] = stream_of(&b, b.pool, SPAN_EMPTY, true);
    settle(&b);
    assert_int_equal(upconn_bare(&b.up, ep(&b)), i != 1);
  }
  assert_true(list_empty(&ep(&b)->rows[0].muxes));
  for (int i = 0; i < 3; i++) upconn_close(c[i], false);
  bed_fini(&b);
}

/* The socket does not outlive the permit by the time of an endpoint that does not close; GOAWAY
 * goes out. */
static void who_was_alone_is_gone_soon(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b);
  b.stay = true;
  for (uint32_t i = 0; i < 10; i++) {
    struct upconn *c = stream_of(&b, b.pool, HEADER, true);
    settle(&b);
    assert_int_equal(b.loop->conns.live, 2);
    upconn_close(c, false);
    settle(&b);
    assert_int_equal(b.loop->conns.live, 0);
    assert_int_equal(last_frame(&b.peers[i], HEADER), H2_GOAWAY);
    sim_peer_free(b.peers[i].sim);
  }
  bed_fini(&b);
}

/* Whoever waited has left: one that is alone does not go on connecting. */
static void left_while_it_connects(void **state) {
  (void)state;
  for (int alone = 0; alone < 2; alone++) {
    struct bed b;
    bed_init(&b);
    sim_peer_unlisten(b.sim, &ep(&b)->addr);
    sim_peer_blackhole(b.sim, &ep(&b)->addr);
    struct upconn *c = stream_of(&b, b.pool, alone ? HEADER : SPAN_EMPTY, alone != 0);
    assert_non_null(c);
    assert_int_equal(permits(&b), 1);
    upconn_close(c, false);
    assert_int_equal(permits(&b), alone ? 0 : 1);
    assert_int_equal(soon(&b, no_conns), alone != 0);
    bed_fini(&b);
  }
}

static void refused_or_late(void **state) {
  (void)state;
  for (int late = 0; late < 2; late++) {
    struct bed b;
    bed_init(&b);
    sim_peer_unlisten(b.sim, &ep(&b)->addr);
    if (late) sim_peer_blackhole(b.sim, &ep(&b)->addr);
    for (uint32_t n = 1; n <= 3; n++) {
      assert_non_null(stream_of(&b, b.pool, HEADER, true));
      for (int i = 0; i < 1000 && b.failed < n; i++) (void)sim_step(b.sim);
      assert_int_equal(b.failed, n);
      assert_int_equal(b.err, late ? -ETIMEDOUT : -ECONNREFUSED);
      assert_int_equal(permits(&b), 0);
    }
    bed_fini(&b);
  }
}

/* No slot for the stream: the connection that was begun for it is nobody's, and is gone. */
static void no_slot_for_the_stream(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b);
  struct upconn *all[32];
  for (int i = 0; i < 32; i++) {
    all[i] = slab_new(&b.up.upconns);
    assert_non_null(all[i]);
  }
  assert_null(stream_of(&b, b.pool, HEADER, true));
  assert_int_equal(b.err, -ENOMEM);
  assert_int_equal(permits(&b), 0);
  assert_int_equal(b.conns, 0);
  for (int i = 0; i < 32; i++) slab_free(&b.up.upconns, all[i]);
  bed_fini(&b);
}

/* ---- anything at all ---- */

static const struct sim_faults hard = {.short_read = 200,
                                       .short_write = 200,
                                       .delay = 200,
                                       .reorder = 300,
                                       .enobufs = 80,
                                       .reset = 8,
                                       .refuse = 150,
                                       .cancel_race = 400,
                                       .time_jump = 3};

/* something: who asks comes or leaves, or an endpoint's end of a connection goes. */
static void something(struct bed *b) {
  struct upconn **mine = &b->asking[sim_draw(b->sim, ASKING)];
  struct peer *peer = b->peer_count ? &b->peers[sim_draw(b->sim, b->peer_count)] : NULL;
  bool alone = sim_draw(b->sim, 3) > 0;
  const struct attempt_to to = {.events = &events,
                                .owner = mine,
                                .first = alone ? HEADER : SPAN_EMPTY,
                                .alone = alone,
                                .settled = sim_draw(b->sim, 2) == 0,
                                .once = sim_draw(b->sim, 2) == 0};
  if (peer && peer->sim && sim_draw(b->sim, 20) == 0) sim_peer_shutdown(peer->sim);
  else if (*mine) let_go(*mine, sim_draw(b->sim, 2) == 0);
  else if (b->peer_count < PEERS - ASKING) *mine = ask(b, b->pool, &to);
}

/* Permits are never more than connections may be, and none is left (bed_fini). */
static void storms(void **state) {
  (void)state;
  uint32_t opened = 0, failed = 0;
  for (uint64_t seed = 1; seed <= 100; seed++) {
    struct bed b;
    bed_init_with(&b, seed, &hard);
    for (int i = 0; i < 300; i++) {
      something(&b);
      assert_in_range(permits(&b), 0, 3);
      for (uint64_t n = sim_draw(b.sim, 12); n > 0; n--) (void)sim_step(b.sim);
    }
    for (int i = 0; i < ASKING; i++)
      if (b.asking[i]) let_go(b.asking[i], false);
    opened += b.opened;
    failed += b.failed;
    bed_fini(&b);
  }
  assert_true(opened > 1000 && failed > 100);
}

/* ---- limits ---- */

/* A request that began before a reload has its settings still, and takes them to nobody else. */
static void limits_are_those_of_now(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b);
  uint32_t times;
  struct upconn *first = stream_of(&b, b.pool, SPAN_EMPTY, false);
  settle(&b);
  assert_int_equal(told(&b.peers[0], &times), 4096);
  struct pool *next_pool = pool_like(&b, 8192);
  struct snapshot *next = snapshot_of(&b, next_pool);
  upstream_install(&b.up, 2, b.snapshot, next);
  struct upconn *before = stream_of(&b, b.pool, SPAN_EMPTY, false);
  settle(&b);
  assert_int_equal(told(&b.peers[0], &times), 4096);
  struct upconn *now = stream_of(&b, next_pool, SPAN_EMPTY, false);
  settle(&b);
  assert_int_equal(told(&b.peers[0], &times), 8192);
  assert_int_equal(times, 2);
  struct upconn *late = stream_of(&b, b.pool, SPAN_EMPTY, false);
  settle(&b);
  assert_int_equal(told(&b.peers[0], &times), 8192);
  assert_int_equal(times, 2);
  assert_int_equal(b.peer_count, 1);
  upstream_install(&b.up, 3, next, b.snapshot); /* the old ones are those of now again */
  upconn_close(late, false);
  late = stream_of(&b, b.pool, SPAN_EMPTY, false);
  settle(&b);
  assert_int_equal(told(&b.peers[0], &times), 4096);
  struct upconn *all[] = {first, before, now, late};
  for (size_t i = 0; i < array_count(all); i++) upconn_close(all[i], false);
  object_unref(b.registry, &next_pool->obj);
  snapshot_free(next);
  bed_fini(&b);
}

/* ---- how many share one ---- */

/* Before the endpoint says how many it takes, one goes that cannot be sent again; of those who
 * wait as many as it allows are told to go on, the others to ask anew. */
static void who_goes_once_waits_for_the_limit(void **state) {
  (void)state;
  const struct attempt_to once = {.events = &events, .once = true};
  struct bed b;
  bed_init(&b);
  b.hello = SPAN_EMPTY;
  struct upconn *c[4];
  for (int i = 0; i < 4; i++) c[i] = ask(&b, b.pool, &once);
  struct upconn *any = stream_of(&b, b.pool, SPAN_EMPTY, false);
  settle(&b);
  assert_int_equal(b.opened, 2); /* the first one, and what may be sent again */
  upconn_close(any, false);
  sim_peer_write(b.peers[0].sim, TAKES_TWO);
  settle(&b);
  assert_int_equal(b.opened, 3);
  assert_int_equal(b.failed, 2);
  assert_int_equal(b.err, -(int)H2_ANEW_FULL);
  b.hello = TAKES_TWO;
  c[2] = ask(&b, b.pool, &once);
  c[3] = ask(&b, b.pool, &once); /* what is known of the endpoint holds for this one too */
  assert_ptr_equal(c[2]->mux, c[3]->mux);
  settle(&b);
  assert_int_equal(b.peer_count, 2);
  assert_int_equal(b.opened, 5);
  for (int i = 0; i < 4; i++) upconn_close(c[i], false);
  bed_fini(&b);
}

/* connections.streams on each while there may be another one; then all in turn. */
static void streams_are_spread(void **state) {
  (void)state;
  struct bed b;
  bed_init(&b);
  b.pool->connections.streams = 2;
  struct upconn *c[9];
  for (uint32_t i = 0; i < array_count(c); i++) {
    c[i] = stream_of(&b, b.pool, SPAN_EMPTY, false);
    assert_non_null(c[i]);
    settle(&b);
    assert_int_equal(b.peer_count, i < 6 ? i / 2 + 1 : 3);
  }
  assert_ptr_not_equal(c[6]->mux, c[7]->mux);
  assert_ptr_not_equal(c[7]->mux, c[8]->mux);
  assert_ptr_not_equal(c[6]->mux, c[8]->mux);
  for (uint32_t i = 0; i < array_count(c); i++) upconn_close(c[i], false);
  bed_fini(&b);
}

/* far_on steps until so many have failed, if need be to the end of their time to connect. */
static void far_on(struct bed *b, uint32_t failed) {
  for (int n = 0; n < 1000 && b->failed < failed; n++) (void)sim_step(b->sim);
  assert_true(b->failed >= failed);
}

/* Whose connection does not come to be has a stream of one that is there, though it should have no
 * more: not of one that still connects. */
static void others_do(void **state) {
  (void)state;
  for (int late = 0; late < 2; late++) {
    struct bed b;
    bed_init(&b);
    b.pool->connections.streams = 1;
    struct upconn *there = stream_of(&b, b.pool, SPAN_EMPTY, false);
    settle(&b);
    sim_peer_unlisten(b.sim, &ep(&b)->addr);
    if (late) sim_peer_blackhole(b.sim, &ep(&b)->addr);
    for (uint32_t n = 0; n < 2; n++) {
      assert_ptr_not_equal(stream_of(&b, b.pool, SPAN_EMPTY, false)->mux, there->mux);
      if (late) settle(&b);
    }
    for (uint32_t n = 1; n <= 2; n++) {
      far_on(&b, n);
      struct upconn *anew = stream_of(&b, b.pool, SPAN_EMPTY, false);
      assert_ptr_equal(anew->mux, there->mux);
      upconn_close(anew, false);
    }
    assert_int_equal(b.opened, 1);
    assert_int_equal(b.others, 2);
    upconn_close(there, false);
    bed_fini(&b);
  }
}

/* What one worker was told no other one has to wait for. */
static void workers_share_what_they_know(void **state) {
  (void)state;
  const struct attempt_to once = {.events = &events, .once = true};
  struct bed b;
  bed_init(&b);
  struct upstream other;
  upstream_init(&other, b.loop, 1, 32);
  other.h2 = b.up.h2;
  upstream_install(&other, 1, NULL, b.snapshot);
  b.hello = TAKES_TWO;
  struct upconn *c[4] = {stream_of(&b, b.pool, SPAN_EMPTY, false)};
  settle(&b);
  b.hello = SPAN_EMPTY;
  for (int i = 1; i < 4; i++) {
    bool reused;
    c[i] = upconn_stream(&other, b.pool, ep(&b), &once, &reused, &b.err);
    assert_non_null(c[i]);
  }
  assert_ptr_not_equal(c[0]->mux, c[1]->mux);
  assert_ptr_equal(c[1]->mux, c[2]->mux);
  assert_ptr_not_equal(c[2]->mux, c[3]->mux);
  settle(&b);
  assert_int_equal(b.opened, 4);
  for (int i = 0; i < 4; i++) upconn_close(c[i], false);
  upstream_install(&other, UINT64_MAX, b.snapshot, NULL);
  (void)sim_run(b.sim, 2000);
  upstream_fini(&other);
  bed_fini(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(who_is_alone_shares_with_nobody),
      cmocka_unit_test(what_it_said_last_holds),
      cmocka_unit_test(who_was_alone_is_gone_soon),
      cmocka_unit_test(left_while_it_connects),
      cmocka_unit_test(refused_or_late),
      cmocka_unit_test(no_slot_for_the_stream),
      cmocka_unit_test(storms),
      cmocka_unit_test(limits_are_those_of_now),
      cmocka_unit_test(who_goes_once_waits_for_the_limit),
      cmocka_unit_test(streams_are_spread),
      cmocka_unit_test(others_do),
      cmocka_unit_test(workers_share_what_they_know),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
