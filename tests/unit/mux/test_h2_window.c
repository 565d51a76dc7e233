/* Receive windows (h2_window.c): what of uploads is read or held bounds the streams, each by
 * itself; while buffers are short it bounds the connection, too. */
#include "h2_kit.h"

static char zeros[70000];

static struct h2_peer_stream *at(struct kit *k, uint32_t id) { return h2_peer_find(&k->peer, id); }
static size_t may(struct kit *k, uint32_t id) { return h2_peer_may(&k->peer, at(k, id)); }
static uint32_t size_of(struct kit *k, uint32_t id) { return h2_stream_find(k->h, id)->recv_size; }

static uint32_t open_upload(struct kit *k) {
  uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
  kit_run(k);
  return id;
}

/* upload sends up to `most` bytes, as the windows let it; how many went. */
static size_t upload(struct kit *k, uint32_t id, size_t most) {
  size_t sent = 0;
  for (size_t n = may(k, id); n > 0 && sent < most; n = may(k, id)) {
    n = n < most - sent ? n : most - sent;
    h2_peer_data(&k->peer, id, span_of(zeros, n < 16384 ? n : 16384), false);
    kit_run(k);
    kit_whole(k);
    sent += n < 16384 ? n : 16384;
  }
  return sent;
}

static void reads(struct kit *k, uint32_t id, bool now) {
  struct seen *s = kit_seen(k, id);
  s->sloth = !now;
  if (now) conn_read_start(s->c);
  kit_run(k);
  kit_whole(k);
}

/* take reads so much, and then no more. */
static void take(struct kit *k, uint32_t id, size_t n) {
  kit_seen(k, id)->takes = n;
  conn_read_start(kit_seen(k, id)->c);
  kit_run(k);
  kit_whole(k);
  assert_int_equal(kit_seen(k, id)->takes, 0);
}

/* As many as there may be, all but one of them held. */
static void held_streams_hold_themselves(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  k->sloth = true;
  for (uint32_t i = 1; i < kit_limits.streams; i++) {
    uint32_t id = open_upload(k);
    assert_int_equal(upload(k, id, SIZE_MAX), kit_limits.stream_window);
  }
  k->sloth = false;
  uint32_t quick = open_upload(k);
  assert_int_equal(upload(k, quick, 5000000), 5000000);
  kit_end(k);
}

/* Streams that were quick, and have large windows, stop. */
static void quick_streams_stop(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  size_t held = 0;
  for (int i = 0; i < 10; i++) {
    uint32_t id = open_upload(k);
    upload(k, id, 4000000);
    assert_true(i > 3 || size_of(k, id) > 2 * kit_limits.stream_window);
    assert_true(i > 0 || size_of(k, id) == kit_limits.window);
    reads(k, id, false);
    held += upload(k, id, SIZE_MAX);
  }
  assert_true(held > kit_limits.window && held < 10 * kit_limits.stream_window + (2 << 20));
  uint32_t quick = open_upload(k);
  assert_int_equal(upload(k, quick, 5000000), 5000000);
  kit_end(k);
}

/* What windows have grown by is shared: who is behind gives it to those that read. */
static void growth_is_given_back(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  uint32_t ids[4];
  for (int i = 0; i < 4; i++) upload(k, ids[i] = open_upload(k), 4000000);
  uint32_t before = k->h->grown;
  assert_true(before > kit_limits.windows_grown / 2);
  for (int turn = 0; turn < 40; turn++) {
    reads(k, ids[0], false);
    upload(k, ids[0], SIZE_MAX);
    take(k, ids[0], size_of(k, ids[0]) * 5 / 8); /* of what is held */
  }
  assert_true(k->h->grown < before);
  assert_true(size_of(k, ids[0]) < kit_limits.window);
  assert_true(size_of(k, ids[0]) >= kit_limits.stream_window);
  reads(k, ids[0], true);
  assert_int_equal(upload(k, ids[0], 5000000), 5000000);
  kit_end(k);
}

/* While buffers are short a connection holds no more than its window, and goes on when they are
 * back, though nothing comes that could wake it. */
static void short_of_buffers(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  kit_press(k);
  k->sloth = true;
  size_t held = 0;
  uint32_t id = 0;
  for (uint32_t i = 1; i < kit_limits.streams; i++)
    held += upload(k, id = open_upload(k), SIZE_MAX);
  assert_int_equal(held, k->h->recv_size);
  assert_int_equal(may(k, id), 0);
  assert_int_equal(k->h->recv_window, 0);
  kit_wait(k, 1000);
  assert_int_equal(may(k, id), 0);
  reads(k, id - 2 * (kit_limits.streams - 2), true); /* the first one: what is read comes back */
  assert_true(upload(k, id, SIZE_MAX) > 0);
  kit_relax(k);
  kit_wait(k, 1000);
  kit_whole(k);
  assert_int_equal(upload(k, id - 2, SIZE_MAX), kit_limits.stream_window);
  kit_end(k);
}

/* Quick streams flow though buffers are short all the time. */
static void short_but_quick(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  kit_press(k);
  uint32_t id = open_upload(k);
  assert_int_equal(upload(k, id, 3000000), 3000000);
  kit_relax(k);
  kit_end(k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(held_streams_hold_themselves), cmocka_unit_test(quick_streams_stop),
      cmocka_unit_test(growth_is_given_back),         cmocka_unit_test(short_of_buffers),
      cmocka_unit_test(short_but_quick),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
