/* sim_mux_ping.c: a client's connection whose peer falls silent: asked by PING, given up when it
 * goes on so, and neither before its time nor for an answer that it owed long ago. mux/h2_conn.c
 * in the simulated world, before a server made of frames. RFC 9113 section 6.7. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "io/sim_priv.h"
#include "mux/h2_priv.h"
#include "weir/base/mem.h"
#include "weir/io/sim.h"

enum { REQUESTS = 8, PING_MS = 10000, WAIT_MS = 2000, AGAIN_MS = 5000 };

/* asked is one request. */
struct asked {
  struct pair *p;
  struct conn *c; /* NULL: over */
  struct h2_stream *st;
  struct arena arena;
  struct h2_section section;
  bool answered, failed;
};

/* pair is both ends. */
struct pair {
  struct sim *sim;
  struct loop *loop;
  struct h2_pool *pool;
  struct h2 *h; /* NULL: it ended */
  struct conn *c;
  enum end end;
  uint32_t idles, pinged;
  struct asked asked[REQUESTS];
  /* the server */
  struct sim_peer *wire;
  struct h2_scanner scanner;
  uint32_t pings;
  char last_ping[8];
};

/* ---- the server ---- */

static void server_write(struct pair *p, const struct buf *b) {
  sim_peer_write(p->wire, buf_span(b));
}

static void pong(struct pair *p) {
  char room[64];
  struct buf b = buf_of(room, sizeof room);
  h2_write_ping(&b, true, span_of(p->last_ping, sizeof p->last_ping));
  server_write(p, &b);
}

/* answer ends a request by a head without a body. */
static void answer(struct pair *p, uint32_t number) {
  char room[64];
  struct buf b = buf_of(room, sizeof room);
  const struct h2_frame head = {.length = 1,
                                .stream = 2 * number + 1,
                                .type = H2_HEADERS,
                                .flags = H2_FLAG_END_STREAM | H2_FLAG_END_HEADERS};
  h2_write_head(&b, &head);
  buf_char(&b, (char)0x88); /* :status 200 */
  server_write(p, &b);
}

static void server_data(struct sim_peer *wire, struct span bytes, void *ctx) {
  struct pair *p = ctx;
  (void)wire;
  while (bytes.len) {
    struct h2_item item = {0};
    size_t used = 0;
    enum h2_event event = h2_frame_scan(&p->scanner, bytes, &used, &item);
    bytes = span_from(bytes, used);
    if (event == H2_EVENT_MORE) return;
    if (event != H2_EVENT_PING) continue;
    p->pings++;
    memcpy(p->last_ping, item.bytes.ptr, sizeof p->last_ping);
  }
}

static void server_close(struct sim_peer *wire, bool reset, void *ctx) {
  (void)wire, (void)reset, (void)ctx;
}

static void server_accept(struct sim_peer *wire, void *ctx) {
  struct pair *p = ctx;
  char room[64];
  struct buf b = buf_of(room, sizeof room);
  p->wire = wire;
  h2_frame_scan_init(&p->scanner, true, H2_FRAME_SIZE_MIN);
  sim_peer_on_data(wire, server_data, server_close, p);
  h2_write_settings(&b, NULL, 0);
  h2_write_settings_ack(&b);
  server_write(p, &b);
}

/* ---- the owner of a stream ---- */

static void let_go(struct asked *a) {
  struct conn *c = a->c;
  a->c = NULL;
  arena_reset(&a->arena);
  conn_close(c);
}
static size_t on_data(struct conn *c, struct span bytes) { return (void)c, bytes.len; }
static void on_message(struct conn *c, enum end end) {
  struct asked *a = c->owner;
  a->answered = end == END_OK;
  h2_stream_expect(a->st, HTTP_BODY_NONE, 0);
}
static void on_eof(struct conn *c) { let_go(c->owner); }
static void on_error(struct conn *c, int err) {
  struct asked *a = c->owner;
  (void)err;
  a->failed = true;
  let_go(a);
}
static void on_open(struct conn *c, int err) { (void)c, (void)err; }
static void nothing(struct conn *c) { (void)c; }

static const struct conn_events stream_events = {.on_open = on_open,
                                                 .on_data = on_data,
                                                 .on_eof = on_eof,
                                                 .on_error = on_error,
                                                 .on_drained = nothing,
                                                 .on_timer = nothing,
                                                 .on_message = on_message};

/* ---- the owner of the connection ---- */

static void h2_idle(struct h2 *h) { ((struct pair *)h2_owner(h))->idles++; }
static void h2_ended(struct h2 *h, enum end end) {
  struct pair *p = h2_owner(h);
  p->h = NULL;
  p->end = end;
  h2_free(h);
  conn_close_gently(p->c, 1000);
}
static void h2_timed(struct h2 *h) { (void)h; }
static void h2_pinged(struct h2 *h) { ((struct pair *)h2_owner(h))->pinged++; }

static const struct h2_events events = {
    .on_idle = h2_idle, .on_end = h2_ended, .on_timer = h2_timed, .on_pinged = h2_pinged};

/* ---- the world ---- */

static void run(struct pair *p) {
  for (int i = 0; i < 10000; i++) {
    bool moved = sim_net_step(p->sim);
    if (sim_loop_due((struct sim_loop *)p->loop)) {
      assert_int_equal(loop_run_turn(p->loop, 0), 0);
      moved = true;
    }
    if (!moved) return;
  }
  fail_msg("it never comes to rest");
}

/* pass lets time go by in small steps, as it does. */
static void pass(struct pair *p, uint64_t ms) {
  for (uint64_t gone = 0; gone < ms; gone += 10) {
    sim_advance(p->sim, 10);
    run(p);
  }
}

static struct pair *start(void) {
  struct pair *p = mem_alloc(sizeof *p);
  const struct loop_config config = {.conns_max = 64, .buffer_bytes = 4096, .buffers_first = 16,
                                     .buffers_max = 16, .seed = 1};
  struct addr at;
  int err;
  *p = (struct pair){0};
  assert_true(addr_parse(SPAN_LIT("127.0.0.1:8000"), &at));
  p->sim = sim_new(1, NULL);
  p->loop = sim_loop_new(p->sim, &config);
  p->pool = h2_pool_new(p->loop, 4, 64);
  sim_peer_listen(p->sim, &at, server_accept, p);
  p->c = conn_connect(p->loop, &at, &stream_events, NULL, &err);
  assert_non_null(p->c);
  const struct h2_config h2 = {.pool = p->pool,
                               .conn = p->c,
                               .events = &events,
                               .limits = {.stream_window = 65536,
                                          .stream_window_most = 65536,
                                          .window = 65536,
                                          .header_bytes = 16384,
                                          .headers = 100,
                                          .resets = 100,
                                          .glitches = 1000,
                                          .ping_ms = PING_MS,
                                          .ping_wait_ms = WAIT_MS,
                                          .ask_again_ms = AGAIN_MS},
                               .owner = p};
  p->h = h2_new(&h2);
  assert_non_null(p->h);
  run(p);
  return p;
}

static struct asked *ask(struct pair *p, uint32_t number) {
  struct asked *a = &p->asked[number];
  const struct http_request request = {.method_text = SPAN_LIT("GET"),
                                       .path = SPAN_LIT("/"),
                                       .host = SPAN_LIT("h"),
                                       .minor = 1};
  const struct h2_request_head head = {.request = &request};
  *a = (struct asked){.p = p, .st = h2_open(p->h, false)};
  assert_non_null(a->st);
  a->c = h2_stream_conn(a->st);
  arena_init(&a->arena, NULL, 1 << 16);
  conn_attach(a->c, &stream_events, a);
  h2_stream_section(a->st, &a->section, &a->arena);
  assert_true(h2_send_request(a->st, &head, &a->arena, true));
  conn_read_start(a->c);
  run(p);
  return a;
}

static void finish(struct pair *p) {
  for (uint32_t i = 0; i < REQUESTS; i++)
    if (p->asked[i].c) let_go(&p->asked[i]);
  if (p->h) h2_end(p->h, END_OK);
  pass(p, 3000);
  assert_int_equal(p->pool->streams.live, 0);
  h2_pool_free(p->pool);
  loop_free(p->loop);
  sim_free(p->sim);
  mem_free(p);
}

/* ---- cases ---- */

/* Silence while a request waits: asked after PING_MS, given up WAIT_MS later. */
static void silent(void **state) {
  (void)state;
  struct pair *p = start();
  const struct asked *a = ask(p, 0);
  pass(p, PING_MS + 100);
  assert_int_equal(p->pings, 1);
  pass(p, WAIT_MS - 200);
  assert_non_null(p->h);
  pass(p, 200);
  assert_null(p->h);
  assert_true(a->failed && p->end == END_UPSTREAM_PING);
  finish(p);
}

/* It answers the PING, but not yet the request: it is asked again and again, and stays. */
static void thinks(void **state) {
  (void)state;
  struct pair *p = start();
  const struct asked *a = ask(p, 0);
  for (uint32_t i = 1; i <= 5; i++) {
    pass(p, PING_MS + 100);
    assert_int_equal(p->pings, i);
    pong(p);
    run(p);
  }
  answer(p, 0);
  run(p);
  assert_true(a->answered && !a->failed && p->h);
  finish(p);
}

/* Who is asked out of turn (h2_ask) has the same time to answer, however long the silence was. */
static void asked_out_of_turn(void **state) {
  (void)state;
  struct pair *p = start();
  const struct asked *a = ask(p, 0);
  pass(p, PING_MS - 100);
  h2_ask(p->h);
  run(p);
  assert_int_equal(p->pings, 1);
  pass(p, WAIT_MS - 500);
  assert_non_null(p->h);
  assert_true(h2_suspected(p->h));
  pong(p);
  run(p);
  assert_false(h2_suspected(p->h));
  pass(p, PING_MS - 1000);
  assert_true(p->h && !a->failed && p->pings == 1);
  finish(p);
}

/* Who has answered not long ago is not asked again, nor suspected. */
static void asked_again(void **state) {
  (void)state;
  struct pair *p = start();
  ask(p, 0);
  pass(p, 1000);
  for (uint32_t n = 1; n < 4; n++) {
    h2_ask(p->h);
    run(p);
    assert_int_equal(p->pings, n);
    h2_ask(p->h); /* it owes the answer still */
    run(p);
    assert_true(h2_suspected(p->h) && p->pings == n);
    pong(p);
    pass(p, AGAIN_MS / 2);
    pong(p); /* the loop learns what time it is by what comes */
    run(p);
    h2_ask(p->h);
    run(p);
    assert_true(!h2_suspected(p->h) && p->pings == n);
    pass(p, AGAIN_MS);
    pong(p);
    run(p);
  }
  finish(p);
}

/* The word of gRPC, and no other one. */
static void too_many(void **state) {
  static const struct {
    enum h2_error code;
    struct span why;
    bool told;
  } rows[] = {
      {H2_ENHANCE_YOUR_CALM, SPAN_LIT("too_many_pings"), true},
      {H2_NO_ERROR, SPAN_LIT("too_many_pings"), false},
      {H2_ENHANCE_YOUR_CALM, SPAN_LIT("too_many_pings!"), false},
      {H2_ENHANCE_YOUR_CALM, SPAN_LIT("too_many_ping"), false},
      {H2_ENHANCE_YOUR_CALM, SPAN_LIT(""), false},
  };
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) {
    struct pair *p = start();
    ask(p, 0);
    char room[64];
    struct buf b = buf_of(room, sizeof room);
    h2_write_goaway(&b, 1, rows[i].code, rows[i].why);
    server_write(p, &b);
    run(p);
    assert_int_equal(p->pinged, rows[i].told);
    assert_true(p->h && !p->asked[0].failed);
    finish(p);
  }
}

/* And no more than that. */
static void asked_out_of_turn_and_dead(void **state) {
  (void)state;
  struct pair *p = start();
  const struct asked *a = ask(p, 0);
  pass(p, 1000);
  h2_ask(p->h);
  pass(p, WAIT_MS + 100);
  assert_null(p->h);
  assert_true(a->failed && p->end == END_UPSTREAM_PING);
  finish(p);
}

/* A PING was under way when the connection became idle, and its answer never comes: it is asked
 * anew, with as much time to answer as ever, before the next request is given up. */
static void owed_from_before(bool lives) {
  struct pair *p = start();
  ask(p, 0);
  pass(p, PING_MS + 100);
  assert_int_equal(p->pings, 1);
  answer(p, 0);
  run(p);
  assert_int_equal(p->idles, 1);
  pass(p, 60000);
  assert_true(p->h && p->pings == 1);
  const struct asked *a = ask(p, 1);
  for (uint32_t ms = 0; p->pings == 1 && ms <= PING_MS && p->h; ms += 10) pass(p, 10);
  assert_true(p->h && !a->failed && p->pings == 2);
  pass(p, WAIT_MS - 100);
  assert_true(p->h && !a->failed);
  if (lives) pong(p);
  pass(p, 200);
  if (lives) assert_true(p->h && !a->failed);
  else assert_true(a->failed && !p->h && p->end == END_UPSTREAM_PING);
  finish(p);
}

static void owed_and_alive(void **state) {
  (void)state;
  owed_from_before(true);
}

static void owed_and_dead(void **state) {
  (void)state;
  owed_from_before(false);
}

/* A question of ours is no word of the peer's: who is silent can be told all the same. */
static void questions_are_no_words(void **state) {
  (void)state;
  struct pair *p = start();
  ask(p, 0);
  uint64_t since_ms = sim_now_ms(p->sim);
  pass(p, PING_MS + 100);
  assert_int_equal(p->pings, 1);
  assert_true(h2_silent(p->h, since_ms));
  pong(p);
  run(p);
  assert_false(h2_silent(p->h, since_ms));
  finish(p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(silent),
      cmocka_unit_test(thinks),
      cmocka_unit_test(asked_out_of_turn),
      cmocka_unit_test(asked_out_of_turn_and_dead),
      cmocka_unit_test(asked_again),
      cmocka_unit_test(too_many),
      cmocka_unit_test(owed_and_alive),
      cmocka_unit_test(owed_and_dead),
      cmocka_unit_test(questions_are_no_words),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
