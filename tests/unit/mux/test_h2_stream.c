/* Streams of ours (h2_stream.c): a client's connection before a scripted server: opened early,
 * answered with trailers, refused, given up. */
#include "h2_kit.h"

/* call is one request of ours. */
struct call {
  struct client *t;
  struct h2_stream *st;
  struct conn *c; /* NULL: closed */
  struct arena arena;
  struct h2_section section;
  int opened, open_err, heads, eofs, errors;
  bool refused;
  uint32_t room; /* when it failed */
  size_t got;
};

struct client {
  struct kit k; /* sim, loop, pool alone */
  struct sim_peer *server;
  struct conn *conn;
  struct h2 *h;
  int ends, idles;
  struct call calls[4];
  struct text in;
};

static void call_close(struct call *call) {
  struct conn *c = call->c;
  call->c = NULL;
  arena_reset(&call->arena);
  if (c) conn_close(c);
}

static void call_open(struct conn *c, int err) {
  struct call *call = c->owner;
  call->opened++;
  call->open_err = err;
  if (!err) return;
  call->room = h2_room(call->t->h);
  call_close(call);
}
static size_t call_data(struct conn *c, struct span bytes) {
  ((struct call *)c->owner)->got += bytes.len;
  return bytes.len;
}
static void call_eof(struct conn *c) { ((struct call *)c->owner)->eofs++; }
static void call_error(struct conn *c, int err) {
  struct call *call = c->owner;
  (void)err;
  call->errors++;
  call->refused = h2_stream_refused(call->st);
  call_close(call);
}
static void call_nothing(struct conn *c) { (void)c; }
static void call_message(struct conn *c, enum end end) {
  struct call *call = c->owner;
  assert_int_equal(end, END_OK);
  call->heads++;
  h2_stream_expect(call->st, HTTP_BODY_CLOSE, 0);
}
static const struct conn_events call_events = {.on_open = call_open,
                                               .on_data = call_data,
                                               .on_eof = call_eof,
                                               .on_error = call_error,
                                               .on_drained = call_nothing,
                                               .on_timer = call_nothing,
                                               .on_message = call_message};

static void client_idle(struct h2 *h) { ((struct client *)h2_owner(h))->idles++; }
static void client_timer(struct h2 *h) { (void)h; }
static void client_end(struct h2 *h, enum end end) {
  struct client *t = h2_owner(h);
  (void)end;
  t->ends++;
  t->h = NULL;
  h2_free(h);
  conn_close(t->conn);
}
static const struct h2_events client_events = {
    .on_idle = client_idle, .on_end = client_end, .on_timer = client_timer};

static void server_data(struct sim_peer *p, struct span bytes, void *ctx) {
  (void)p;
  text_put(&((struct client *)ctx)->in, bytes);
}
static void server_close(struct sim_peer *p, bool reset, void *ctx) {
  (void)p, (void)reset, (void)ctx;
}
static void server_accept(struct sim_peer *p, void *ctx) {
  ((struct client *)ctx)->server = p;
  sim_peer_on_data(p, server_data, server_close, ctx);
  sim_peer_write(p, span_of("\0\0\0\4\0\0\0\0\0", 9));
}

static const struct conn_events no_events;

static struct client *client_new(bool listens) {
  struct client *t = mem_alloc(sizeof(*t));
  const struct loop_config config = {.conns_max = 64, .buffer_bytes = 4096, .buffers_first = 8,
                                     .buffers_max = 8, .seed = 1};
  struct addr at;
  int err = 0;
  assert_true(addr_parse(SPAN_LIT("10.0.0.1:80"), &at));
  t->k.sim = sim_new(1, NULL);
  t->k.loop = sim_loop_new(t->k.sim, &config);
  t->k.pool = h2_pool_new(t->k.loop, 4, 16);
  h2_peer_init(&t->k.peer);
  if (listens) sim_peer_listen(t->k.sim, &at, server_accept, t);
  t->conn = conn_connect(t->k.loop, &at, &no_events, NULL, &err);
  assert_non_null(t->conn);
  const struct h2_config h2 = {.pool = t->k.pool, .conn = t->conn, .events = &client_events,
                               .limits = kit_limits, .owner = t};
  t->h = h2_new(&h2);
  assert_non_null(t->h);
  return t;
}

static struct call *client_call(struct client *t, int i) {
  struct call *call = &t->calls[i];
  *call = (struct call){.t = t, .st = h2_open(t->h, false)};
  assert_non_null(call->st);
  call->c = h2_stream_conn(call->st);
  arena_init(&call->arena, NULL, 0);
  conn_attach(call->c, &call_events, call);
  return call;
}

static void call_send(struct call *call) {
  const struct http_request r = {.method = HTTP_METHOD_GET, .method_text = SPAN_LIT("GET"),
                                 .path = SPAN_LIT("/"), .host = SPAN_LIT("h.test"), .minor = 1};
  const struct h2_request_head head = {.request = &r};
  assert_true(h2_send_request(call->st, &head, &call->arena, true));
  h2_stream_section(call->st, &call->section, &call->arena);
  conn_read_start(call->c);
}

/* server_frame sends a frame of a few bytes. */
static void server_frame(struct client *t, enum h2_type type, uint8_t flags, uint32_t id,
                         struct span payload) {
  h2_peer_raw(&t->k.peer, &(struct h2_frame){.type = (uint8_t)type, .flags = flags, .stream = id},
              payload);
  sim_peer_write(t->server, text_span(&t->k.peer.out));
  t->k.peer.out.len = 0;
}

static void client_free(struct client *t) {
  for (int i = 0; i < 4; i++) call_close(&t->calls[i]);
  if (t->h) h2_end(t->h, END_OK);
  kit_run(&t->k);
  assert_int_equal(t->k.pool->streams.live, 0);
  assert_int_equal(t->k.loop->conns.live, 0);
  h2_pool_free(t->k.pool);
  loop_free(t->k.loop);
  sim_free(t->k.sim);
  h2_peer_fini(&t->k.peer);
  text_fini(&t->in);
  mem_free(t);
}

static void answered_with_trailers(void **state) {
  (void)state;
  struct client *t = client_new(true);
  struct call *call = client_call(t, 0);
  call_send(call);
  kit_run(&t->k);
  assert_int_equal(call->opened, 1);
  server_frame(t, H2_HEADERS, H2_FLAG_END_HEADERS, 1, SPAN_LIT("\x88"));
  server_frame(t, H2_DATA, 0, 1, SPAN_LIT("hello"));
  server_frame(t, H2_HEADERS, H2_FLAG_END_HEADERS | H2_FLAG_END_STREAM, 1,
               span_of("\0\1x\1y", 5));
  kit_run(&t->k);
  assert_int_equal(call->heads, 1);
  assert_int_equal(call->got, 5);
  assert_int_equal(call->eofs, 1);
  assert_int_equal(call->errors, 0);
  assert_int_equal(t->ends, 0);
  client_free(t);
}

/* Those above the number of a GOAWAY were not acted on; the others go on. */
static void refused_by_goaway(void **state) {
  (void)state;
  struct client *t = client_new(true);
  for (int i = 0; i < 3; i++) call_send(client_call(t, i));
  (void)client_call(t, 3); /* its head has not been sent */
  kit_run(&t->k);
  server_frame(t, H2_GOAWAY, 0, 0, span_of("\0\0\0\1\0\0\0\0", 8));
  kit_run(&t->k);
  assert_int_equal(t->calls[0].errors, 0);
  for (int i = 1; i < 4; i++) assert_true(t->calls[i].errors == 1 && t->calls[i].refused);
  assert_int_equal(h2_room(t->h), 0);
  server_frame(t, H2_HEADERS, H2_FLAG_END_HEADERS | H2_FLAG_END_STREAM, 1, SPAN_LIT("\x88"));
  kit_run(&t->k);
  assert_int_equal(t->calls[0].heads, 1);
  client_free(t);
}

/* Nobody answers there: its streams hear of it, and nobody opens another on it meanwhile. */
static void given_up(void **state) {
  (void)state;
  struct client *t = client_new(false);
  for (int i = 0; i < 3; i++) (void)client_call(t, i);
  call_send(&t->calls[0]);
  kit_run(&t->k);
  assert_int_equal(t->ends, 1);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(t->calls[i].opened, 1);
    assert_true(t->calls[i].open_err < 0);
    assert_int_equal(t->calls[i].room, 0);
  }
  client_free(t);
}

/* cancelled opens streams, each of which is given up when the server has it. */
static void cancelled(struct client *t, uint32_t count) {
  for (uint32_t n = 0; n < count; n++) {
    call_send(client_call(t, 0));
    kit_run(&t->k);
    call_close(&t->calls[0]);
    kit_run(&t->k);
  }
}

static void answered(struct client *t, uint32_t count) {
  for (uint32_t n = 0; n < count; n++) {
    uint32_t id = t->h->next_id;
    call_send(client_call(t, 0));
    kit_run(&t->k);
    server_frame(t, H2_HEADERS, H2_FLAG_END_HEADERS | H2_FLAG_END_STREAM, id, SPAN_LIT("\x88"));
    kit_run(&t->k);
    call_close(&t->calls[0]);
  }
}

/* later: the loop learns what time it is by what comes. */
static void later(struct client *t, uint64_t ms) {
  sim_advance(t->k.sim, ms);
  answered(t, 1);
}

/* Fifty at once, then one in two seconds. What was never sent does not count. */
static void wearies_by_the_clock(void **state) {
  (void)state;
  struct client *t = client_new(true);
  kit_run(&t->k);
  answered(t, 200);
  for (int n = 0; n < 10; n++) {
    (void)client_call(t, 0);
    call_close(&t->calls[0]);
  }
  assert_int_equal(t->h->budget.cancels, 0);
  cancelled(t, 49);
  assert_false(h2_wearies(t->h));
  cancelled(t, 1);
  assert_true(h2_wearies(t->h));
  later(t, 1000);
  assert_true(h2_wearies(t->h));
  later(t, 1000);
  assert_false(h2_wearies(t->h));
  cancelled(t, 1);
  assert_true(h2_wearies(t->h));
  later(t, 1000000);
  cancelled(t, 49);
  assert_false(h2_wearies(t->h));
  client_free(t);
}

/* However slowly they come, most of a connection's streams they may not be. */
static void wearies_by_their_part(void **state) {
  (void)state;
  for (uint32_t well = 1; well < 5; well++) {
    struct client *t = client_new(true);
    kit_run(&t->k);
    for (int n = 0; n < 300; n++) {
      answered(t, well - 1);
      cancelled(t, 1);
      later(t, 2000);
      assert_int_equal(h2_wearies(t->h), well == 1 && n >= 200);
    }
    client_free(t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(answered_with_trailers),
      cmocka_unit_test(refused_by_goaway),
      cmocka_unit_test(given_up),
      cmocka_unit_test(wearies_by_the_clock),
      cmocka_unit_test(wearies_by_their_part),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
