/* The life of an HTTP/2 connection (h2_conn.c, h2_stream.c, h2_section.c): settings, a request and
 * its response, sections and what may befall their streams meanwhile, drains, ends. */
#include "h2_kit.h"

static void hello_and_settings(void **state) {
  (void)state;
  struct h2_limits limits = kit_limits;
  limits.streams = 7;
  limits.stream_window = 1000;
  struct kit *k = kit_start(&limits);
  assert_int_equal(k->peer.theirs.max_concurrent_streams, 7);
  assert_int_equal(k->peer.theirs.initial_window_size, 1000);
  assert_int_equal(k->peer.theirs.max_header_list_size, limits.header_bytes);
  assert_int_equal(k->peer.theirs.enable_connect_protocol, 1);
  assert_int_equal(k->peer.send_window, 65535); /* four of 1000 are less */
  h2_peer_settings(&k->peer, NULL, 0);
  h2_peer_ping(&k->peer);
  kit_run(k);
  assert_int_equal(k->peer.change_count, 0);
  assert_int_equal(k->peer.pings, 1);
  kit_end(k);
}

static void request_and_response(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  struct h2_peer_stream *st = h2_peer_request(&k->peer, POST, false);
  uint32_t id = st->id;
  h2_peer_data(&k->peer, id, SPAN_LIT("hello "), false);
  kit_run(k);
  struct seen *s = kit_seen(k, id);
  assert_int_equal(s->heads, 1);
  assert_int_equal(s->end, END_OK);
  assert_true(span_eq(s->section.pseudo.value[H2_PSEUDO_METHOD], SPAN_LIT("POST")));
  assert_false(s->section.end_stream);
  assert_int_equal(s->got, 6);
  assert_int_equal(s->eofs, 0);
  h2_peer_data(&k->peer, id, SPAN_LIT("world"), true);
  kit_run(k);
  assert_int_equal(s->got, 11);
  assert_int_equal(s->eofs, 1);
  assert_true(s->st->marks & H2_REMOTE_END);
  assert_true(kit_answer(s, 200, 5, false));
  kit_write(s, 5);
  kit_run(k);
  st = h2_peer_find(&k->peer, id);
  assert_int_equal(st->status, 200);
  assert_int_equal(st->got, 5);
  assert_true(st->ended); /* with the last byte that was promised */
  assert_int_equal(st->frames, 1);
  assert_int_equal(k->open, 1);
  seen_gently(s);
  kit_run(k);
  assert_int_equal(k->pool->streams.live, 0);
  assert_int_equal(k->peer.resets, 0);
  assert_int_equal(k->idles, 1);
  kit_end(k);
}

/* A message without a body ends with its head; an unknown length by an empty frame. */
static void ends_of_messages(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t a = h2_peer_request(&k->peer, GET, true)->id;
  uint32_t b = h2_peer_request(&k->peer, GET, true)->id;
  uint32_t c = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  for (uint32_t id = a; id <= c; id += 2) assert_int_equal(kit_seen(k, id)->eofs, 1);
  assert_true(kit_answer(kit_seen(k, a), 204, UINT64_MAX, true));
  assert_true(kit_answer(kit_seen(k, b), 200, UINT64_MAX, false));
  kit_write(kit_seen(k, b), 10);
  assert_true(kit_answer(kit_seen(k, c), 200, 0, false));
  kit_run(k);
  assert_true(h2_peer_find(&k->peer, a)->ended);
  assert_int_equal(h2_peer_find(&k->peer, a)->frames, 0);
  assert_false(h2_peer_find(&k->peer, b)->ended);
  assert_false(h2_peer_find(&k->peer, c)->ended);
  seen_gently(kit_seen(k, a));
  conn_finish(kit_seen(k, b)->c);
  seen_gently(kit_seen(k, c));
  kit_run(k);
  assert_true(h2_peer_find(&k->peer, b)->ended);
  assert_int_equal(h2_peer_find(&k->peer, b)->frames, 2);
  assert_true(h2_peer_find(&k->peer, c)->ended);
  assert_int_equal(k->peer.resets, 0);
  kit_end(k);
}

/* An early answer: NO_ERROR says that the rest of the request is not wanted; what is under way
 * when it comes costs nothing but its windows, which are given back. */
static void answered_early(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
  kit_run(k);
  struct seen *s = kit_seen(k, id);
  assert_true(kit_answer(s, 200, 3, false));
  kit_write(s, 3);
  seen_gently(s);
  kit_run(k);
  struct h2_peer_stream *st = h2_peer_find(&k->peer, id);
  assert_true(st->ended && !st->reset);
  h2_peer_data(&k->peer, id, SPAN_LIT("late"), false); /* read and dropped */
  kit_run(k);
  kit_wait(k, 2000);
  st = h2_peer_find(&k->peer, id);
  assert_true(st->reset);
  assert_int_equal(st->reset_code, H2_NO_ERROR);
  assert_int_equal(k->pool->streams.live, 0);
  h2_peer_data(&k->peer, id, SPAN_LIT("later"), false);
  kit_run(k);
  assert_int_equal(k->peer.resets, 1);
  assert_int_equal(k->ends, 0);
  assert_int_equal((uint32_t)k->h->recv_window + k->h->recv_credit, k->h->recv_size);
  kit_end(k);
}

static void owner_gives_up(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t a = h2_peer_request(&k->peer, POST, false)->id;
  uint32_t b = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  seen_close(kit_seen(k, a));
  assert_true(kit_answer(kit_seen(k, b), 200, 10, false));
  kit_write(kit_seen(k, b), 4);
  kit_run(k);
  seen_reset(kit_seen(k, b), END_UPSTREAM_RESET);
  kit_run(k);
  assert_int_equal(h2_peer_find(&k->peer, a)->reset_code, H2_INTERNAL_ERROR);
  assert_true(h2_peer_find(&k->peer, b)->reset);
  assert_int_equal(h2_peer_find(&k->peer, b)->reset_code, end_get(END_UPSTREAM_RESET)->h2_error);
  assert_int_equal(h2_peer_find(&k->peer, b)->got, 4);
  assert_int_equal(k->ends, 0);
  kit_end(k);
}

/* ---- sections ---- */

static void continuations(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  struct h2_peer_stream *st = h2_peer_open(&k->peer);
  uint32_t id = st->id;
  struct span block = h2_peer_block(&k->peer, GET "x-one: 1\nx-two: 2\n");
  h2_peer_headers(&k->peer, id, block, true, 7);
  kit_run(k);
  assert_int_equal(kit_seen(k, id)->heads, 1);
  assert_int_equal(kit_seen(k, id)->section.fields.count, 2);
  assert_int_equal(kit_seen(k, id)->eofs, 1);
  kit_end(k);
}

/* half_a_head sends the first frame of a section; *rest is what follows. */
static uint32_t half_a_head(struct kit *k, struct span *rest, bool end) {
  struct h2_peer_stream *st = h2_peer_open(&k->peer);
  struct span block = h2_peer_block(&k->peer, GET "x-secret: abcdefgh\nx-more: 12345\n");
  uint8_t flags = end ? H2_FLAG_END_STREAM : 0;
  kit_frame(k, H2_HEADERS, flags, st->id, span_sub(block, 0, 12));
  kit_run(k);
  *rest = span_from(block, 12);
  return st->id;
}

/* An owner that is gone hears nothing of its section; the tables stay in step. */
static void orphaned_section(void **state) {
  (void)state;
  for (int how = 0; how < 3; how++) {
    for (int end = 0; end < 2; end++) {
      struct kit *k = kit_start(&kit_limits);
      struct span rest;
      uint32_t id = half_a_head(k, &rest, end);
      struct seen *s = kit_seen(k, id);
      assert_int_equal(s->heads, 0);
      if (how == 0) seen_close(s);
      if (how == 1) seen_reset(s, END_CLIENT_TIMEOUT_HEADER);
      if (how == 2) {
        assert_true(kit_answer(s, 408, 3, false));
        kit_write(s, 3);
        seen_gently(s);
      }
      kit_run(k);
      kit_frame(k, H2_CONTINUATION, 0, id, span_sub(rest, 0, 5));
      kit_run(k);
      kit_frame(k, H2_CONTINUATION, H2_FLAG_END_HEADERS, id, span_from(rest, 5));
      kit_run(k);
      assert_int_equal(s->heads, 0);
      static const char again[] = GET "x-secret: abcdefgh\nx-more: 12345\n";
      uint32_t next = h2_peer_request(&k->peer, again, true)->id;
      kit_run(k);
      assert_int_equal(kit_seen(k, next)->section.fields.count, 2);
      assert_int_equal(k->ends, 0);
      kit_wait(k, 2000);
      assert_int_equal(k->pool->streams.live, 1);
      kit_end(k);
    }
  }
}

static void trailers_are_dropped(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
  h2_peer_data(&k->peer, id, SPAN_LIT("body"), false);
  h2_peer_headers(&k->peer, id, h2_peer_block(&k->peer, "x-sum: 1\n"), true, 0);
  kit_run(k);
  assert_int_equal(kit_seen(k, id)->heads, 1);
  assert_int_equal(kit_seen(k, id)->eofs, 1);
  /* of a stream whose owner is gone */
  uint32_t gone = h2_peer_request(&k->peer, POST, false)->id;
  kit_run(k);
  assert_true(kit_answer(kit_seen(k, gone), 200, 0, true));
  seen_gently(kit_seen(k, gone));
  h2_peer_headers(&k->peer, gone, h2_peer_block(&k->peer, "x-sum: 1\n"), true, 0);
  kit_run(k);
  /* twice */
  uint32_t twice = h2_peer_request(&k->peer, POST, false)->id;
  h2_peer_headers(&k->peer, twice, h2_peer_block(&k->peer, "x-sum: 1\n"), false, 0);
  kit_run(k);
  assert_int_equal(h2_peer_find(&k->peer, twice)->reset_code, H2_PROTOCOL_ERROR);
  assert_int_equal(kit_seen(k, twice)->word, END_CLIENT_H2_PROTOCOL);
  assert_int_equal(k->ends, 0);
  kit_end(k);
}

static void heads_that_are_too_large(void **state) {
  (void)state;
  struct h2_limits limits = kit_limits;
  limits.headers = 5;
  limits.header_bytes = 1000;
  struct kit *k = kit_start(&limits);
  uint32_t many =
      h2_peer_request(&k->peer, GET "a: 1\nb: 1\nc: 1\nd: 1\ne: 1\nf: 1\ng: 1\nh: 1\n", true)->id;
  char text[1200] = GET "x-long: ";
  size_t at = strlen(text);
  memset(text + at, 'y', sizeof(text) - at - 1);
  uint32_t large = h2_peer_request(&k->peer, text, true)->id;
  uint32_t good = h2_peer_request(&k->peer, GET "a: 1\n", true)->id;
  kit_run(k);
  assert_int_equal(kit_seen(k, many)->end, END_LIMIT_HEADERS);
  assert_int_equal(kit_seen(k, large)->end, END_LIMIT_HEADER_BYTES);
  assert_int_equal(kit_seen(k, good)->end, END_OK);
  kit_end(k);
}

/* A head larger than a frame goes out in several. */
static void large_response_head(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  struct seen *s = kit_seen(k, id);
  struct http_response r = {.status = 200, .body = HTTP_BODY_NONE};
  char *value = mem_alloc(40000);
  for (int i = 0; i < 40000; i++) value[i] = (char)('0' + i % 75);
  for (int i = 0; i < 40000; i++)
    if (value[i] == ' ' || value[i] > 'z') value[i] = 'z';
  assert_true(http_fields_add(&r.fields, &s->arena, SPAN_LIT("x-large"), span_of(value, 40000)));
  struct arena none; /* the stream's own memory is not needed for it */
  arena_init(&none, NULL, 8192);
  assert_true(h2_send_response(s->st, &r, &none, true));
  arena_reset(&none);
  kit_run(k);
  mem_free(value);
  assert_true(h2_peer_find(&k->peer, id)->ended);
  assert_int_equal(k->peer.block.fields.count, 1);
  assert_int_equal(k->peer.block.fields.rows[0].value.len, 40000);
  uint32_t next = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  assert_true(kit_answer(kit_seen(k, next), 200, 0, true));
  kit_run(k);
  assert_int_equal(h2_peer_find(&k->peer, next)->status, 200);
  kit_end(k);
}

/* A large head that fits what is left of a buffer leaves room for the heads of all its frames. */
static void head_at_the_end_of_a_buffer(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  k->peer.auto_window = true;
  char *value = mem_alloc(300000);
  int written = 0;
  memset(value, '{', 300000); /* 15 bits in Huffman's code: it stands as it is */
  for (size_t less = 0; less < 240; less++) {
    uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
    kit_run(k);
    struct seen *s = kit_seen(k, id);
    struct buf *out = conn_out(k->c, 200000);
    assert_non_null(out);
    assert_true(buf_room(out) >= 200000 && buf_room(out) < 300000);
    struct http_response r = {.status = 200, .body = HTTP_BODY_NONE};
    assert_true(http_fields_add(&r.fields, &s->arena, SPAN_LIT("x-large"),
                                span_of(value, buf_room(out) - less)));
    if (!h2_send_response(s->st, &r, &s->arena, true)) { /* it is larger than any room */
      seen_close(s);
      continue;
    }
    written++;
    assert_true(k->c->out->data.len <= k->c->out->data.cap);
    seen_gently(s);
    kit_run(k);
    assert_true(h2_peer_find(&k->peer, id)->ended);
  }
  assert_true(written > 20);
  mem_free(value);
  kit_end(k);
}

/* ---- drains and ends ---- */

static void drains_in_two_steps(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t a = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  h2_drain(k->h);
  uint32_t b = h2_peer_request(&k->peer, GET, true)->id; /* under way */
  kit_flush(k);
  kit_run(k);
  assert_int_equal(k->peer.goaways, 2); /* our peer answers PING at once */
  assert_int_equal(k->peer.goaway_last, b);
  assert_true(h2_last_call(k->h));
  uint32_t c = h2_peer_request(&k->peer, POST, false)->id;
  h2_peer_data(&k->peer, c, SPAN_LIT("ignored"), false);
  h2_peer_headers(&k->peer, c, h2_peer_block(&k->peer, "x-sum: 1\n"), true, 0);
  kit_run(k);
  assert_int_equal(k->seen_count, 2);
  assert_int_equal(k->peer.resets, 0); /* GOAWAY has said it */
  assert_int_equal(k->ends, 0);
  assert_true(kit_answer(kit_seen(k, a), 200, 0, true));
  assert_true(kit_answer(kit_seen(k, b), 200, 0, true));
  seen_gently(kit_seen(k, a));
  seen_gently(kit_seen(k, b));
  kit_run(k);
  assert_true(h2_peer_find(&k->peer, a)->ended && h2_peer_find(&k->peer, b)->ended);
  assert_int_equal(k->idles, 1);
  h2_end(k->h, END_OK);
  kit_ended(k, END_OK);
  assert_int_equal(k->peer.goaway_last, b); /* never higher than it was */
  kit_end(k);
}

/* A client that does not answer the PING is waited for a second. */
static void drains_by_the_clock(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  sim_peer_window(k->wire, 0);
  h2_drain(k->h);
  kit_run(k);
  assert_false(h2_last_call(k->h));
  kit_wait(k, 1100);
  assert_true(h2_last_call(k->h));
  assert_int_equal(k->idles, 1);
  sim_peer_window(k->wire, SIZE_MAX);
  kit_run(k);
  assert_int_equal(k->peer.goaways, 2);
  assert_int_equal(k->peer.goaway_last, 0);
  kit_end(k);
}

static void grows_old(void **state) {
  (void)state;
  struct h2_limits limits = kit_limits;
  limits.age_ms = 60000;
  struct kit *k = kit_start(&limits);
  uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  kit_wait(k, 59000);
  assert_int_equal(k->peer.goaways, 0);
  kit_wait(k, 1100);
  assert_int_equal(k->peer.goaways, 2);
  assert_int_equal(k->peer.goaway_last, id);
  assert_int_equal(k->peer.goaway_code, H2_NO_ERROR);
  assert_true(kit_answer(kit_seen(k, id), 200, 0, true));
  seen_gently(kit_seen(k, id));
  kit_run(k);
  assert_int_equal(h2_peer_find(&k->peer, id)->status, 200);
  assert_int_equal(k->idles, 1);
  kit_end(k);
}

/* closer ends another stream of the same connection while it hears of its own error. */
static void closer(struct seen *s) {
  struct kit *k = s->k;
  for (uint32_t i = 0; i < KIT_SEEN; i++)
    if (k->seen[i] && k->seen[i] != s && k->seen[i]->c && i % 3 == s->id / 2 % 3)
      seen_close(k->seen[i]);
}

static void end_in_every_state(void **state) {
  (void)state;
  static const enum end ends[] = {END_OK, END_DRAIN, END_CLIENT_H2_FLOOD};
  for (int how = 0; how < 9; how++) {
    struct kit *k = kit_start(&kit_limits);
    if (how % 2) k->on_error = closer;
    struct span rest;
    for (int i = 0; i < 9; i++) { /* heads only, bodies, answered, half a body, lingering */
      uint32_t id = h2_peer_request(&k->peer, POST, i == 0)->id;
      if (i % 2) h2_peer_data(&k->peer, id, SPAN_LIT("some"), i % 4 == 1);
      kit_run(k);
      struct seen *s = kit_seen(k, id);
      if (i >= 4) assert_true(kit_answer(s, 200, 1000, false));
      if (i >= 5) kit_write(s, 400);
      if (i == 8) seen_gently(s);
    }
    if (how >= 3) kit_run(k);
    if (how >= 6) (void)half_a_head(k, &rest, false);
    enum end end = ends[how % 3];
    h2_end(k->h, end);
    kit_ended(k, end);
    assert_int_equal(k->open, 0);
    for (uint32_t i = 0; i < 8; i++) {
      assert_true(k->seen[i]->errors <= 1);
      if (k->seen[i]->errors) assert_int_equal(k->seen[i]->word, end);
    }
    kit_end(k);
  }
}

static void client_hangs_up(void **state) {
  (void)state;
  for (int how = 0; how < 4; how++) {
    struct kit *k = kit_start(&kit_limits);
    uint32_t id = how < 2 ? h2_peer_request(&k->peer, POST, false)->id : 0;
    kit_run(k);
    if (how % 2) sim_peer_reset(k->wire);
    else sim_peer_shutdown(k->wire);
    kit_run(k);
    assert_int_equal(k->ends, 1);
    enum end end = how >= 2 ? END_OK : how % 2 ? END_CLIENT_RESET : END_CLIENT_CLOSED;
    assert_int_equal(k->end, end);
    if (id) assert_int_equal(kit_seen(k, id)->word, end);
    kit_end(k);
  }
}

/* What the owner does from inside an event may end the connection. */
static void end_it(struct seen *s) { h2_end(s->k->h, END_DRAIN); }

static void ended_from_inside(void **state) {
  (void)state;
  for (int how = 0; how < 2; how++) {
    struct kit *k = kit_start(&kit_limits);
    if (how == 0) k->on_head = end_it;
    else k->on_error = end_it;
    uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
    uint32_t other = h2_peer_request(&k->peer, GET, true)->id;
    h2_peer_reset(&k->peer, id, H2_CANCEL);
    h2_peer_ping(&k->peer);
    kit_ended(k, END_DRAIN);
    if (k->seen[other / 2]) assert_int_equal(k->seen[other / 2]->word, END_DRAIN);
    kit_end(k);
  }
}

/* ---- the pace ---- */

/* most_in_a_turn is how many heads of `streams` a turn took at most. */
static uint32_t most_in_a_turn(struct kit *k, uint32_t streams) {
  uint32_t turns = 0, most = 0;
  while (k->seen_count < streams) {
    uint32_t before = k->seen_count;
    kit_flush(k);
    (void)sim_net_step(k->sim);
    assert_int_equal(loop_run_turn(k->loop, 0), 0);
    uint32_t came = k->seen_count - before;
    if (came > most) most = came;
    check(++turns < 10000);
  }
  return most;
}

/* A turn whose share is over takes few heads; the rest comes with nothing else to wake it. */
static void paced(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  k->loop->share_ns = 0;
  for (int i = 0; i < 60; i++) {
    struct h2_peer_stream *st = h2_peer_open(&k->peer);
    h2_peer_headers(&k->peer, st->id, h2_peer_block(&k->peer, GET), true, 0);
  }
  assert_in_range(most_in_a_turn(k, 60), 1, 10); /* before a turn waits, and after it */
  kit_run(k);
  kit_whole(k);
  for (uint32_t id = 1; id < 120; id += 2) assert_true(kit_answer(kit_seen(k, id), 204, 0, true));
  kit_end(k);
}

/* Long heads count for more: their fields are work. */
static void paced_by_bytes(void **state) {
  (void)state;
  static char head[4200];
  struct kit *k = kit_start(&kit_limits);
  int len = snprintf(head, sizeof head, "%sx-long: ", GET);
  memset(head + len, 'v', 4096);
  memcpy(head + len + 4096, "\n", 2);
  k->loop->share_ns = 0;
  for (int i = 0; i < 20; i++) {
    struct h2_peer_stream *st = h2_peer_open(&k->peer);
    h2_peer_headers(&k->peer, st->id, h2_peer_block(&k->peer, head), true, 0);
  }
  assert_int_equal(most_in_a_turn(k, 20), 1);
  kit_end(k);
}

/* What the client said before it left is heard, however long that takes. */
static void paced_to_the_end(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  k->loop->share_ns = 0;
  for (int i = 0; i < 30; i++) {
    struct h2_peer_stream *st = h2_peer_open(&k->peer);
    h2_peer_headers(&k->peer, st->id, h2_peer_block(&k->peer, GET), true, 0);
  }
  kit_flush(k);
  sim_peer_shutdown(k->wire);
  kit_run(k);
  assert_int_equal(k->seen_count, 30);
  assert_int_equal(k->ends, 1);
  kit_end(k);
}

/* others are conns that wait for their share beside the connection, one of them in each turn. */
enum { OTHERS = 20 };
struct others {
  struct conn *listener, *conns[OTHERS];
  int count;
};

static void other_came(struct conn *listener, struct conn *c) {
  struct others *o = listener->owner;
  o->conns[o->count++] = c;
  conn_attach(c, &seen_events, NULL); /* says nothing: it is not read from */
}

static void others_open(struct kit *k, struct others *o) {
  struct addr at;
  assert_true(addr_parse(SPAN_LIT("127.0.0.1:8001"), &at));
  *o = (struct others){.count = 0};
  o->listener = conn_listen(k->loop, sim_listen_fd(k->sim, &at), other_came, o);
  for (int i = 0; i < OTHERS; i++) (void)sim_peer_connect(k->sim, &at);
  kit_run(k);
  assert_int_equal(o->count, OTHERS);
}

static void others_close(struct others *o) {
  for (int i = 0; i < OTHERS; i++) conn_close(o->conns[i]);
  conn_close(o->listener);
}

/* one_turn is a turn that finds all that was sent. */
static void one_turn(struct kit *k) {
  kit_flush(k);
  while (sim_net_step(k->sim)) {
  }
  assert_int_equal(loop_run_turn(k->loop, 0), 0);
}

/* Input that waits for its place in a turn keeps no response back: heads and bodies go on. */
static void paced_input_keeps_no_output(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  struct others others;
  others_open(k, &others);
  uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  k->loop->share_ns = 0;
  for (int i = 0; i < 60; i++) (void)h2_peer_request(&k->peer, GET, true);
  for (int i = 0; i < OTHERS; i++) conn_flush_later(others.conns[i]);
  while (!conn_later(k->c) && loop_has_later(k->loop)) one_turn(k);
  assert_true(conn_later(k->c));
  uint32_t heads = k->seen_count;
  assert_in_range(heads, 2, 60);
  assert_true(kit_answer(kit_seen(k, id), 200, 5000, false));
  kit_write(kit_seen(k, id), 5000);
  const struct h2_peer_stream *st = h2_peer_find(&k->peer, id);
  for (int i = 0; i < OTHERS / 2 && !st->ended; i++) one_turn(k);
  assert_true(st->ended);
  assert_true(conn_later(k->c)); /* its input still waits */
  assert_int_equal(k->seen_count, heads);
  assert_int_equal(st->got, 5000);
  kit_run(k);
  assert_int_equal(k->seen_count, 61);
  others_close(&others);
  kit_end(k);
}

static int told(const struct kit *k) {
  int n = 0;
  for (uint32_t i = 0; i < k->seen_count; i++) n += k->seen[i]->errors;
  return n;
}

/* Of an end only so many hear in a turn, each of them once; the connection ends behind them. */
static void told_in_parts(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  for (int i = 0; i < 20; i++) (void)h2_peer_request(&k->peer, POST, false);
  kit_run(k);
  h2_pool_pace(k->pool, 3);
  sim_peer_reset(k->wire);
  int most = 0, turns = 0;
  while (!k->ends) {
    int before = told(k);
    (void)sim_net_step(k->sim);
    assert_int_equal(loop_run_turn(k->loop, 0), 0);
    if (told(k) - before > most) most = told(k) - before;
    assert_int_equal(k->ends, told(k) == 20);
    check(++turns < 1000);
  }
  assert_int_equal(most, 3);
  for (uint32_t i = 0; i < k->seen_count; i++) {
    assert_int_equal(k->seen[i]->errors, 1);
    assert_int_equal(k->seen[i]->word, END_CLIENT_RESET);
  }
  kit_end(k);
}

/* An owner that cannot wait ends it at once, also when some have heard of it already. */
static void told_now(void **state) {
  (void)state;
  for (int before = 0; before < 2; before++) {
    struct kit *k = kit_start(&kit_limits);
    for (int i = 0; i < 20; i++) (void)h2_peer_request(&k->peer, POST, false);
    kit_run(k);
    h2_pool_pace(k->pool, 3);
    if (before) h2_end(k->h, END_CLIENT_H2_RESETS);
    assert_int_equal(told(k), before ? 3 : 0);
    h2_end_now(k->h, END_DRAIN);
    assert_int_equal(told(k), 20);
    assert_int_equal(k->ends, 1);
    assert_int_equal(k->end, before ? END_CLIENT_H2_RESETS : END_DRAIN);
    kit_end(k);
  }
}

static size_t take_and_go(struct conn *c, struct span bytes) {
  seen_gently(c->owner);
  return bytes.len;
}

/* Owners that have begun to read what was held for them, and are done with their streams when they
 * are given it, as the connection ends: it ends all the same. Its own owner may end it until it is
 * gone (proxy/worker.c at the end of a drain), and would do so for ever. */
static void told_what_was_held(void **state) {
  (void)state;
  struct conn_events going = seen_events;
  going.on_data = take_and_go;
  struct kit *k = kit_start(&kit_limits);
  k->sloth = true; /* until now nobody read */
  for (int i = 0; i < 4; i++) {
    uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
    h2_peer_data(&k->peer, id, SPAN_LIT("a body"), i % 2);
  }
  kit_run(k);
  for (uint32_t id = 1; id < 8; id += 2) {
    struct conn *c = kit_seen(k, id)->c;
    assert_int_equal(conn_held(c), 6);
    conn_attach(c, &going, kit_seen(k, id));
    conn_read_start(c);
  }
  h2_end_now(k->h, END_DRAIN);
  assert_int_equal(k->open, 0);
  assert_int_equal(told(k), 0);
  assert_int_equal(k->ends, 1);
  assert_int_equal(k->end, END_DRAIN);
  kit_end(k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(hello_and_settings),   cmocka_unit_test(request_and_response),
      cmocka_unit_test(ends_of_messages),     cmocka_unit_test(answered_early),
      cmocka_unit_test(owner_gives_up),       cmocka_unit_test(continuations),
      cmocka_unit_test(orphaned_section),     cmocka_unit_test(trailers_are_dropped),
      cmocka_unit_test(heads_that_are_too_large), cmocka_unit_test(large_response_head),
      cmocka_unit_test(head_at_the_end_of_a_buffer),
      cmocka_unit_test(drains_in_two_steps),  cmocka_unit_test(drains_by_the_clock),
      cmocka_unit_test(grows_old),
      cmocka_unit_test(end_in_every_state),   cmocka_unit_test(client_hangs_up),
      cmocka_unit_test(ended_from_inside), cmocka_unit_test(paced),
      cmocka_unit_test(paced_by_bytes),
      cmocka_unit_test(paced_to_the_end),
      cmocka_unit_test(paced_input_keeps_no_output),
      cmocka_unit_test(told_in_parts),        cmocka_unit_test(told_now),
      cmocka_unit_test(told_what_was_held),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
