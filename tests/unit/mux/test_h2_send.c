/* Windows both ways, DATA by window and frame size, priorities, back pressure (h2_read.c,
 * h2_send.c): what our own reader of frames holds against the windows that it opened. */
#include "h2_kit.h"

#include "weir/base/hash.h"

static const struct h2_row window_0 = {H2_SETTING_INITIAL_WINDOW_SIZE, 0};

/* answered opens a stream and answers it with len bytes, whose length is told. */
static uint32_t answered(struct kit *k, size_t len) {
  uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  assert_true(kit_answer(kit_seen(k, id), 200, len, false));
  kit_write(kit_seen(k, id), len);
  return id;
}

static struct h2_peer_stream *at(struct kit *k, uint32_t id) { return h2_peer_find(&k->peer, id); }

static void windows_hold_back(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  h2_peer_settings(&k->peer, &window_0, 1);
  kit_run(k);
  uint32_t id = answered(k, 100);
  kit_run(k);
  assert_int_equal(at(k, id)->status, 200);
  assert_int_equal(at(k, id)->got, 0);
  for (uint64_t n = 1; n <= 5; n++) {
    h2_peer_window(&k->peer, id, 1);
    kit_run(k);
    assert_int_equal(at(k, id)->got, n);
  }
  /* 30 more, taken back before they are used: negative */
  static const struct h2_row rows[] = {{H2_SETTING_INITIAL_WINDOW_SIZE, 30},
                                       {H2_SETTING_INITIAL_WINDOW_SIZE, 10}};
  h2_peer_settings(&k->peer, rows, 1);
  kit_run(k);
  assert_int_equal(at(k, id)->got, 35);
  h2_peer_settings(&k->peer, rows + 1, 1);
  kit_run(k);
  assert_int_equal(h2_stream_find(k->h, id)->send_window, -20);
  h2_peer_window(&k->peer, id, 20);
  kit_run(k);
  assert_int_equal(at(k, id)->got, 35);
  h2_peer_window(&k->peer, id, 1);
  kit_run(k);
  assert_int_equal(at(k, id)->got, 36);
  h2_peer_window(&k->peer, id, 1000000);
  kit_run(k);
  assert_int_equal(at(k, id)->got, 100);
  assert_true(at(k, id)->ended);
  kit_end(k);
}

/* Many rows of one frame count as the last of them. */
static void rows_of_one_frame(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  struct h2_row rows[100];
  for (uint32_t i = 0; i < 100; i++)
    rows[i] = (struct h2_row){H2_SETTING_INITIAL_WINDOW_SIZE, i % 2 ? 7 : INT32_MAX};
  h2_peer_window(&k->peer, id, 1000);
  h2_peer_settings(&k->peer, rows, 100);
  kit_run(k);
  assert_int_equal(k->ends, 0);
  assert_int_equal(h2_stream_find(k->h, id)->send_window, 1007);
  h2_peer_settings(&k->peer, rows, 1);
  kit_ended(k, END_CLIENT_H2_FLOW_CONTROL);
  kit_end(k);
}

static void windows_that_overflow(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t id = answered(k, 200000);
  uint32_t other = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  assert_int_equal(at(k, id)->got, 65535);
  h2_peer_window(&k->peer, other, INT32_MAX - 65535);
  kit_run(k);
  assert_false(at(k, other)->reset);
  h2_peer_window(&k->peer, other, 1);
  kit_run(k);
  assert_int_equal(at(k, other)->reset_code, H2_FLOW_CONTROL_ERROR);
  assert_int_equal(kit_seen(k, other)->word, END_CLIENT_H2_FLOW_CONTROL);
  h2_peer_window(&k->peer, 0, INT32_MAX);
  h2_peer_window(&k->peer, id, 200000);
  kit_run(k);
  assert_int_equal(at(k, id)->got, 200000);
  h2_peer_window(&k->peer, 0, INT32_MAX);
  kit_ended(k, END_CLIENT_H2_FLOW_CONTROL);
  kit_end(k);
}

static void frames_have_a_size(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  h2_peer_window(&k->peer, 0, 1 << 20);
  uint32_t id = answered(k, 40000);
  kit_run(k);
  assert_int_equal(at(k, id)->frames, 3);
  assert_true(at(k, id)->ended);
  kit_end(k);
}

/* The window of the connection is used up by one that nobody reads: an end needs none. */
static void ends_need_no_window(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t full = answered(k, 100000);
  kit_run(k);
  assert_int_equal(at(k, full)->got, 65535);
  uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  assert_true(kit_answer(kit_seen(k, id), 200, UINT64_MAX, false));
  kit_run(k);
  conn_finish(kit_seen(k, id)->c);
  kit_run(k);
  assert_true(at(k, id)->ended);
  kit_end(k);
}

/* ---- priorities ---- */

static void urgency_first(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t id[4];
  h2_peer_settings(&k->peer, &window_0, 1);
  kit_run(k);
  static const uint8_t urgency[] = {5, 1, 3, 0};
  for (int i = 0; i < 4; i++) id[i] = answered(k, 10000);
  kit_run(k);
  for (int i = 0; i < 4; i++)
    h2_stream_priority(kit_seen(k, id[i])->st, (struct http_priority){urgency[i], false});
  static const struct h2_row all = {H2_SETTING_INITIAL_WINDOW_SIZE, 10000};
  h2_peer_settings(&k->peer, &all, 1);
  kit_run(k);
  assert_true(at(k, id[3])->order < at(k, id[1])->order);
  assert_true(at(k, id[1])->order < at(k, id[2])->order);
  assert_true(at(k, id[2])->order < at(k, id[0])->order);
  kit_end(k);
}

/* share_of gives three streams a window in pieces; where each stands when the first is whole. */
static void in_turn_or_not(void **state) {
  (void)state;
  for (int incremental = 0; incremental < 2; incremental++) {
    struct kit *k = kit_start(&kit_limits);
    uint32_t id[3];
    h2_peer_settings(&k->peer, &window_0, 1);
    kit_run(k);
    for (int i = 0; i < 3; i++) id[i] = answered(k, 60000);
    kit_run(k);
    struct http_priority p = {3, incremental != 0};
    for (int i = 0; i < 3; i++) h2_stream_priority(kit_seen(k, id[i])->st, p);
    static const struct h2_row all = {H2_SETTING_INITIAL_WINDOW_SIZE, 60000};
    h2_peer_settings(&k->peer, &all, 1);
    kit_run(k); /* 65535 of the connection: four frames */
    uint64_t got[3];
    for (int i = 0; i < 3; i++) got[i] = at(k, id[i])->got;
    assert_int_equal(got[0] + got[1] + got[2], 65535);
    if (incremental) {
      for (int i = 0; i < 3; i++) assert_true(got[i] >= 16384);
    } else {
      assert_int_equal(got[0], 60000);
      assert_int_equal(got[1], 5535);
    }
    h2_peer_window(&k->peer, 0, 1000000);
    kit_run(k);
    for (int i = 0; i < 3; i++) assert_true(at(k, id[i])->ended);
    kit_end(k);
  }
}

static void priority_update(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t a = h2_peer_request(&k->peer, GET, true)->id;
  kit_frame(k, H2_PRIORITY_UPDATE, 0, 0, span_of("\0\0\0\1u=6, i", 10));
  kit_frame(k, H2_PRIORITY_UPDATE, 0, 0, span_of("\0\0\0\1\xff", 5));  /* no dictionary */
  kit_frame(k, H2_PRIORITY_UPDATE, 0, 0, span_of("\0\0\1\1u=1", 7)); /* idle */
  kit_run(k);
  assert_int_equal(h2_stream_find(k->h, a)->urgency, 6);
  assert_true(h2_stream_find(k->h, a)->incremental);
  assert_int_equal(k->ends, 0);
  kit_end(k);
}

/* ---- what comes ---- */

static char zeros[70000];

static void uploads_flow(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
  kit_run(k);
  for (size_t sent = 0; sent < 5000000;) {
    size_t n = h2_peer_may(&k->peer, at(k, id));
    assert_true(n > 0);
    h2_peer_data(&k->peer, id, span_of(zeros, n), false);
    kit_run(k);
    kit_whole(k);
    sent += n;
    assert_int_equal(kit_seen(k, id)->got, sent);
  }
  assert_int_equal(h2_stream_find(k->h, id)->recv_size, k->limits.window); /* it grew */
  kit_end(k);
}

static void unread_is_not_given_back(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  k->sloth = true;
  uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
  kit_run(k);
  size_t n;
  while ((n = h2_peer_may(&k->peer, at(k, id))) > 0) {
    h2_peer_data(&k->peer, id, span_of(zeros, n), false);
    kit_run(k);
    kit_whole(k);
  }
  assert_int_equal(at(k, id)->sent, k->limits.stream_window);
  struct seen *s = kit_seen(k, id);
  s->sloth = false;
  conn_read_start(s->c);
  kit_run(k);
  assert_int_equal(s->got, k->limits.stream_window);
  assert_true(h2_peer_may(&k->peer, at(k, id)) > 0);
  kit_whole(k);
  /* more than the window: of the stream, then of the connection */
  s->sloth = true;
  while ((n = h2_peer_may(&k->peer, at(k, id))) > 0) {
    h2_peer_data(&k->peer, id, span_of(zeros, n), false);
    kit_run(k);
  }
  h2_peer_data(&k->peer, id, span_of(zeros, 1), false);
  kit_run(k);
  assert_int_equal(at(k, id)->reset_code, H2_FLOW_CONTROL_ERROR);
  assert_int_equal(k->ends, 0);
  kit_whole(k);
  kit_end(k);
}

static void window_of_the_connection(void **state) {
  (void)state;
  struct h2_limits limits = kit_limits;
  limits.window = 1000; /* may not be less than the protocol's 65,535 */
  struct kit *k = kit_start(&limits);
  kit_press(k); /* else it is given back as bytes come */
  k->sloth = true;
  assert_int_equal(k->peer.send_window, 65535);
  uint32_t a = h2_peer_request(&k->peer, POST, false)->id;
  uint32_t b = h2_peer_request(&k->peer, POST, false)->id;
  h2_peer_data(&k->peer, a, span_of(zeros, 16384), false);
  h2_peer_data(&k->peer, a, span_of(zeros, 16384), false);
  h2_peer_data(&k->peer, b, span_of(zeros, 16384), false);
  h2_peer_data(&k->peer, b, span_of(zeros, 16383), false);
  kit_run(k);
  kit_whole(k);
  assert_int_equal(k->h->recv_window, 0);
  h2_peer_data(&k->peer, b, span_of(zeros, 1), false);
  kit_ended(k, END_CLIENT_H2_FLOW_CONTROL);
  kit_end(k);
}

static void padding_is_given_back(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
  for (int i = 0; i < 2000; i++) {
    h2_peer_padded(&k->peer, id, span_of(zeros, 3), 255, false);
    kit_run(k);
    kit_whole(k);
    assert_true(at(k, id)->send_window > 0);
  }
  assert_int_equal(kit_seen(k, id)->got, 6000);
  kit_end(k);
}

/* A stream ends inside a frame: what of it follows is given back as well. */
static void closed_inside_a_frame(void **state) {
  (void)state;
  for (int how = 0; how < 3; how++) {
    struct kit *k = kit_start(&kit_limits);
    k->sloth = how == 1;
    uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
    h2_peer_data(&k->peer, id, span_of(zeros, 10000), false);
    kit_run(k); /* the frame's head goes with a part of it */
    struct text rest = {0};
    h2_peer_data(&k->peer, id, span_of(zeros, 10000), how == 2);
    text_put(&rest, span_from(text_span(&k->peer.out), 4000));
    k->peer.out.len = 4000;
    kit_run(k);
    kit_whole(k);
    seen_close(kit_seen(k, id));
    kit_run(k);
    text_put(&k->peer.out, text_span(&rest));
    kit_run(k);
    text_fini(&rest);
    kit_whole(k);
    assert_int_equal(k->h->recv_window + (int64_t)k->h->recv_credit, k->h->recv_size);
    assert_int_equal(k->ends, 0);
    kit_end(k);
  }
}

/* ---- random operations ---- */

static void some_operation(struct kit *k, uint64_t *rng) {
  uint32_t count = k->peer.next_id / 2;
  uint32_t id = count ? (uint32_t)(rng_next(rng) % count) * 2 + 1 : 0;
  struct h2_peer_stream *st = at(k, id);
  struct seen *s = id ? k->seen[id / 2] : NULL;
  size_t may = st ? h2_peer_may(&k->peer, st) : 0;
  size_t n = may ? 1 + rng_next(rng) % may : 0;
  switch (rng_next(rng) % 12) {
    case 0:
    case 1: h2_peer_request(&k->peer, POST, false); break;
    case 2:
    case 3:
    case 4:
      if (n) h2_peer_data(&k->peer, id, span_of(zeros, n), rng_next(rng) % 8 == 0);
      break;
    case 5:
      if (n > 300) h2_peer_padded(&k->peer, id, span_of(zeros, n % 5), (uint8_t)n, n % 9 == 0);
      break;
    case 6:
      if (st && !st->cancelled && rng_next(rng) % 4 == 0) h2_peer_reset(&k->peer, id, H2_CANCEL);
      break;
    case 7:
      if (s && s->c && rng_next(rng) % 3 == 0) seen_close(s);
      break;
    case 8:
      if (s && s->c && rng_next(rng) % 3 == 0) {
        assert_true(kit_answer(s, 200, 0, true));
        seen_gently(s);
      }
      break;
    case 9:
      if (s && s->c) {
        s->sloth = !s->sloth;
        if (!s->sloth) conn_read_start(s->c);
      }
      break;
    case 10:
      if (s && s->c && rng_next(rng) % 4 == 0) h2_stream_fail(s->st, END_CLIENT_H2_PROTOCOL);
      break;
    default: kit_wait(k, rng_next(rng) % 400); break;
  }
}

/* Whatever is closed when, no byte of a window is lost or made. */
static void windows_are_conserved(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 60; seed++) {
    uint64_t rng = seed;
    struct h2_limits limits = kit_limits;
    limits.resets = limits.glitches = UINT32_MAX / 2;
    limits.streams = 20;
    limits.stream_window = seed % 2 ? 20000 : 65536;
    limits.window = seed % 3 ? 100000 : 1 << 20;
    struct kit *k = kit_start(&limits);
    sim_peer_window(k->wire, SIZE_MAX);
    for (int i = 0; i < 400; i++) {
      some_operation(k, &rng);
      if (seed % 4 == 0 && i % 50 == 0) kit_press(k);
      if (seed % 4 == 0 && i % 70 == 0) kit_relax(k);
      if (rng_next(&rng) % 2) {
        kit_run(k);
        assert_int_equal(k->ends, 0);
        kit_whole(k);
      }
    }
    kit_run(k);
    kit_relax(k);
    for (uint32_t i = 0; i < KIT_SEEN; i++)
      if (k->seen[i]) seen_close(k->seen[i]);
    kit_run(k);
    kit_wait(k, 5000);
    kit_whole(k);
    assert_int_equal(k->pool->streams.live, 0);
    assert_int_equal(k->peer.send_window, k->h->recv_window);
    kit_end(k);
  }
}

/* ---- a peer that does not read ---- */

static void output_is_bounded(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t id = answered(k, 5);
  kit_run(k);
  sim_peer_window(k->wire, 0);
  for (int i = 0; i < 30000; i++) h2_peer_ping(&k->peer);
  uint32_t last = h2_peer_request(&k->peer, GET, true)->id;
  k->h->limits.glitches = UINT32_MAX;
  kit_run(k);
  assert_true(h2_any(k->h, H2_STUFFED));
  assert_true(conn_pending(k->c) > H2_IN_AGAIN && conn_pending(k->c) < H2_IN_MOST + 1000);
  assert_null(k->seen[last / 2]);
  assert_int_equal(at(k, id)->got, 5);
  sim_peer_window(k->wire, SIZE_MAX);
  kit_run(k);
  assert_int_equal(k->peer.pings, 30000);
  assert_int_equal(k->seen[last / 2]->heads, 1);
  kit_end(k);
}

/* Input goes on though a large body keeps the output from ever being empty. */
static size_t left_to_write;
static void on_head_large(struct seen *s) {
  assert_true(kit_answer(s, 200, UINT64_MAX, false));
  kit_write(s, 100000);
}

static void stuffed_beside_a_large_body(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  static const struct h2_row huge = {H2_SETTING_INITIAL_WINDOW_SIZE, INT32_MAX};
  h2_peer_settings(&k->peer, &huge, 1);
  h2_peer_window(&k->peer, 0, INT32_MAX - 65535);
  k->on_head = on_head_large;
  uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  k->on_head = NULL;
  sim_peer_window(k->wire, 0);
  k->h->limits.glitches = UINT32_MAX;
  for (int i = 0; i < 40000; i++) h2_peer_ping(&k->peer);
  uint32_t next = h2_peer_request(&k->peer, GET, true)->id;
  struct seen *s = kit_seen(k, id);
  left_to_write = 8000000;
  kit_run(k);
  assert_true(h2_any(k->h, H2_STUFFED));
  while (left_to_write && !k->seen[next / 2]) { /* never less to send than can be taken */
    while (conn_pending(s->c) < 100000) {
      kit_write(s, 50000);
      left_to_write -= 50000;
    }
    sim_peer_window(k->wire, 20000);
    kit_run(k);
  }
  assert_non_null(k->seen[next / 2]);
  sim_peer_window(k->wire, SIZE_MAX);
  kit_run(k);
  kit_end(k);
}

/* When not even a small frame has room, it is not lost in silence: the connection ends. */
static void no_room_for_a_small_frame(void **state) {
  (void)state;
  struct h2_limits limits = kit_limits;
  limits.streams = 300;
  struct kit *k = kit_start(&limits);
  uint32_t id[250];
  for (int i = 0; i < 250; i++) id[i] = h2_peer_request(&k->peer, POST, false)->id;
  kit_run(k);
  sim_peer_window(k->wire, 0);
  /* heads stop before they take the room of the rest */
  char *value = mem_alloc(3000);
  int sent = 0;
  for (; sent < 249; sent++) {
    struct seen *s = kit_seen(k, id[sent]);
    struct http_response r = {.status = 200, .body = HTTP_BODY_CLOSE};
    for (int i = 0; i < 3000; i++) value[i] = (char)('0' + (i * 7 + sent) % 70);
    for (int i = 0; i < 3000; i++)
      if (value[i] == ' ' || value[i] > 'z') value[i] = 'q';
    assert_true(http_fields_add(&r.fields, &s->arena, SPAN_LIT("x"), span_of(value, 3000)));
    assert_true(h2_send_response(s->st, &r, &s->arena, false));
    if (stream_any(s->st, H2_HEAD_WAITS)) break;
  }
  assert_true(sent > 40 && sent < 249);
  for (int i = 0; i < 250; i++) seen_close(kit_seen(k, id[i]));
  kit_run(k);
  assert_int_equal(k->ends, 0);
  sim_peer_window(k->wire, SIZE_MAX);
  kit_run(k);
  for (int i = 0; i < 250; i++) assert_true(at(k, id[i])->reset);
  /* no memory at all */
  uint32_t last = h2_peer_request(&k->peer, POST, false)->id;
  kit_run(k);
  struct iobuf *all[4096];
  uint32_t count = 0;
  while (count < 4096 && (all[count] = iobuf_take(&k->loop->iobufs, IOBUF_MAX))) count++;
  struct iobuf *small;
  while (count < 4096 && (small = iobuf_take(&k->loop->iobufs, 1000))) all[count++] = small;
  assert_true(count > 10 && count < 4096);
  seen_close(kit_seen(k, last));
  kit_run(k);
  assert_int_equal(k->ends, 1);
  assert_int_equal(k->end, END_LIMIT_MEMORY);
  for (uint32_t i = 0; i < count; i++) iobuf_give(&k->loop->iobufs, all[i]);
  mem_free(value);
  kit_end(k);
}

/* Memory that is short when a body should go on is there later: nobody else wakes it. */
static void memory_comes_back(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  h2_peer_settings(&k->peer, &window_0, 1);
  kit_run(k);
  uint32_t id = answered(k, 100);
  kit_run(k);
  struct iobuf *all[4096];
  uint32_t count = 0;
  while (count < 4096 && (all[count] = iobuf_take(&k->loop->iobufs, IOBUF_MAX))) count++;
  struct iobuf *small;
  while (count < 4096 && (small = iobuf_take(&k->loop->iobufs, 100))) all[count++] = small;
  h2_peer_window(&k->peer, id, 100);
  kit_run(k);
  assert_int_equal(at(k, id)->got, 0);
  for (uint32_t i = 0; i < count; i++) iobuf_give(&k->loop->iobufs, all[i]);
  kit_wait(k, 100);
  assert_int_equal(at(k, id)->got, 100);
  assert_true(at(k, id)->ended);
  kit_end(k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(windows_hold_back),
      cmocka_unit_test(rows_of_one_frame),
      cmocka_unit_test(windows_that_overflow),
      cmocka_unit_test(frames_have_a_size),
      cmocka_unit_test(ends_need_no_window),
      cmocka_unit_test(urgency_first),
      cmocka_unit_test(in_turn_or_not),
      cmocka_unit_test(priority_update),
      cmocka_unit_test(uploads_flow),
      cmocka_unit_test(unread_is_not_given_back),
      cmocka_unit_test(window_of_the_connection),
      cmocka_unit_test(padding_is_given_back),
      cmocka_unit_test(closed_inside_a_frame),
      cmocka_unit_test(windows_are_conserved),
      cmocka_unit_test(output_is_bounded),
      cmocka_unit_test(stuffed_beside_a_large_body),
      cmocka_unit_test(no_room_for_a_small_frame),
      cmocka_unit_test(memory_comes_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
