/* Budgets, limits and faults of HTTP/2 peers (h2_guard.c, h2_read.c, h2_section.c): each exact,
 * none that can be got round. THREATS.md rows 1 to 5. */
#include "h2_kit.h"

static struct h2_limits tight(void) {
  struct h2_limits l = kit_limits;
  l.resets = 10;
  l.glitches = 20;
  l.streams = 5;
  return l;
}

/* ---- glitches ---- */

static const struct {
  uint8_t type, flags;
  uint32_t stream;
  const char *payload;
  size_t len;
} useless[] = {
    {H2_PING, 0, 0, "12345678", 8},
    {H2_PING, H2_FLAG_ACK, 0, "12345678", 8},
    {H2_SETTINGS, 0, 0, "", 0},
    {H2_SETTINGS, H2_FLAG_ACK, 0, "", 0},
    {H2_PRIORITY, 0, 3, "\0\0\0\0\1", 5},
    {H2_PRIORITY_UPDATE, 0, 0, "\0\0\0\5u=1", 7},
    {H2_WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4},
    {H2_WINDOW_UPDATE, 0, 1, "\0\0\0\1", 4},
    {H2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8},
    {0xfa, 0, 0, "?", 1},
    {H2_DATA, 0, 1, "", 0},
    {H2_DATA, H2_FLAG_PADDED, 1, "\2\0\0", 3},
};

static void glitches_are_counted_exactly(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(useless); i++) {
    struct h2_limits limits = tight();
    struct kit *k = kit_start(&limits);
    k->peer.wild = true;
    h2_peer_request(&k->peer, POST, false);
    kit_run(k);
    assert_int_equal(k->h->budget.credit, 2 * H2_GLITCH_PRICE);
    bool unpaid = useless[i].type == H2_SETTINGS && !(useless[i].flags & H2_FLAG_ACK);
    for (uint32_t n = 0; n <= limits.glitches + (unpaid ? 0 : 2); n++) {
      if (k->ends) fail_msg("row %zu: after %u", i, n);
      struct span payload = span_of(useless[i].payload, useless[i].len);
      kit_frame(k, useless[i].type, useless[i].flags, useless[i].stream, payload);
      kit_run(k);
    }
    kit_ended(k, END_CLIENT_H2_FLOOD);
    kit_end(k);
  }
}

/* An ACK is owed for each SETTINGS that we send later; those for which there were none count. */
static void acks_of_later_settings(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  struct kit *k = kit_start(&limits);
  for (uint32_t n = 0; n < 3 * limits.glitches; n++) {
    limits.header_bytes ^= 4096;
    h2_limit(k->h, &limits);
    if (n % 3 == 0) continue; /* one behind the other, before the first is acknowledged */
    h2_limit(k->h, &limits); /* the same: nothing to be told, nothing owed */
    kit_run(k);
    assert_int_equal(k->h->budget.acks, 0);
    assert_int_equal(k->h->budget.glitches, 0);
  }
  kit_run(k);
  for (uint32_t n = 0; n <= limits.glitches; n++) {
    assert_int_equal(k->ends, 0);
    kit_frame(k, H2_SETTINGS, H2_FLAG_ACK, 0, SPAN_EMPTY);
    kit_run(k);
  }
  kit_ended(k, END_CLIENT_H2_FLOOD);
  kit_end(k);
}

/* Who has used up more than a quarter of a budget is unruly, until it has come back. */
static void unruly(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  limits.glitches = limits.resets = 40;
  for (int how = 0; how < 2; how++) {
    struct kit *k = kit_start(&limits);
    for (uint32_t n = 0; n <= 10; n++) {
      assert_false(h2_unruly(k->h));
      if (how == 0) h2_peer_ping(&k->peer);
      for (int i = 0; how && i < 2; i++) /* each second one costs nothing */
        h2_peer_reset(&k->peer, h2_peer_request(&k->peer, GET, false)->id, H2_CANCEL);
      kit_run(k);
    }
    assert_true(h2_unruly(k->h));
    sim_advance(k->sim, 10000);
    h2_peer_ping(&k->peer);
    kit_run(k);
    assert_false(h2_unruly(k->h));
    kit_end(k);
  }
}

static void glitches_are_forgiven(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  struct kit *k = kit_start(&limits);
  for (int round = 0; round < 3; round++) {
    for (uint32_t n = 0; n < limits.glitches; n++) h2_peer_ping(&k->peer);
    kit_run(k);
    assert_int_equal(k->ends, 0);
    kit_wait(k, 10001);
  }
  kit_end(k);
}

/* What brings something on pays: a request for two, DATA for two a KiB however it is cut, all of
 * it for no more than a thousand. */
static const struct {
  uint32_t frames, bytes, pays;
} brought[] = {{0, 0, 2},          {600, 1, 2 + 1},      {511, 1, 2},
               {1, 512, 2 + 1},    {10, 1024, 2 + 20},   {20, 512, 2 + 20},
               {2, 10240, 2 + 40}, {499, 1024, 2 + 998}, {600, 1024, 1000}};

static void what_pays(void **state) {
  (void)state;
  static const char bytes[10240];
  struct h2_limits limits = tight();
  for (size_t i = 0; i < array_count(brought); i++) {
    struct kit *k = kit_start(&limits);
    uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
    for (uint32_t n = 0; n < brought[i].frames; n++) {
      h2_peer_data(&k->peer, id, span_of(bytes, brought[i].bytes), false);
      if (n % 32 == 0) kit_run(k);
    }
    for (uint32_t n = 0; n < brought[i].pays + limits.glitches; n++) h2_peer_ping(&k->peer);
    kit_run(k);
    if (k->ends) fail_msg("row %zu: it ended", i);
    h2_peer_ping(&k->peer);
    kit_ended(k, END_CLIENT_H2_FLOOD);
    kit_end(k);
  }
}

/* ---- windows ---- */

/* read_by gives back what came on both levels by `step` bytes at a time; how many frames that
 * took. */
static uint32_t read_by(struct kit *k, const struct h2_peer_stream *st, uint64_t *back,
                        uint32_t step) {
  uint32_t frames = 0, id = st->id;
  for (; st->got - *back >= step; *back += step, frames += 2) {
    h2_peer_window(&k->peer, 0, step);
    h2_peer_window(&k->peer, id, step);
  }
  kit_run(k);
  return frames;
}

/* A reader opens windows for what it has read, at whatever pace: 4 KiB at a time as Go does, or
 * each small frame, or much at once. None of that counts. */
static const struct {
  uint32_t step, total;
} readers[] = {{65535, 5 << 20}, {16384, 1 << 20}, {4096, 4 << 20}, {1024, 1 << 20}};

static void readers_open_windows(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  for (size_t i = 0; i < array_count(readers); i++) {
    struct kit *k = kit_start(&limits);
    k->peer.auto_window = false;
    uint32_t id = h2_peer_request(&k->peer, GET, true)->id, frames = 0;
    kit_run(k);
    struct seen *s = kit_seen(k, id);
    assert_true(kit_answer(s, 200, UINT64_MAX, false));
    uint64_t back = 0, wrote = 0;
    for (int turn = 0; back + readers[i].step <= readers[i].total; turn++) {
      assert_true(turn < 10000);
      if (wrote < readers[i].total && wrote < back + 65536) kit_write(s, 65536), wrote += 65536;
      kit_run(k);
      frames += read_by(k, h2_peer_find(&k->peer, id), &back, readers[i].step);
      assert_int_equal(k->ends, 0);
    }
    assert_true(frames >= readers[i].total / readers[i].step * 2);
    assert_int_equal(k->h->budget.glitches, 0);
    kit_end(k);
  }
}

static void small_messages_open_windows(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  struct kit *k = kit_start(&limits);
  k->peer.auto_window = true; /* on both levels, by each frame's length */
  uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  assert_true(kit_answer(kit_seen(k, id), 200, UINT64_MAX, false));
  kit_run(k);
  for (int i = 0; i < 3000; i++) {
    kit_write(kit_seen(k, id), 1 + (size_t)i % 1000);
    kit_run(k);
  }
  assert_int_equal(k->ends, 0);
  assert_int_equal(k->h->budget.glitches, 0);
  assert_true(k->peer.data_frames >= 3000);
  kit_end(k);
}

/* Dribbles, and more than was sent, count: what has paid for other things pays for them too. */
static const struct {
  uint32_t step, frames; /* beyond the credit and the budget: free */
} opening[] = {{1, 0}, {1023, 0}, {1024, 8}, {4096, 2}, {8193, 0}, {100000, 0}};

static void openings_beyond_count(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  for (size_t i = 0; i < array_count(opening); i++) {
    struct kit *k = kit_start(&limits);
    k->peer.auto_window = false;
    uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
    kit_run(k);
    assert_true(kit_answer(kit_seen(k, id), 200, UINT64_MAX, false));
    kit_write(kit_seen(k, id), 4096); /* one frame: it pays for two of any kind, and for 8 KiB */
    kit_run(k);
    assert_int_equal(k->peer.data_frames, 1);
    uint32_t most = opening[i].frames + 2 + 2 + limits.glitches;
    for (uint32_t n = 0; n < most; n++) h2_peer_window(&k->peer, n % 2 ? id : 0, opening[i].step);
    kit_run(k);
    if (k->ends) fail_msg("row %zu: it ended", i);
    h2_peer_window(&k->peer, 0, opening[i].step);
    kit_ended(k, END_CLIENT_H2_FLOOD);
    kit_end(k);
  }
}

/* ---- resets ---- */

static void rapid_reset(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  struct kit *k = kit_start(&limits);
  uint32_t resets = 0;
  for (; resets < 1000 && !k->ends; resets++) {
    uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
    h2_peer_reset(&k->peer, id, H2_CANCEL);
    kit_run(k);
  }
  /* n resets of n streams: one more than 10 + n / 2 */
  assert_int_equal(resets, 21);
  kit_ended(k, END_CLIENT_H2_RESETS);
  assert_int_equal(k->seen_count, 21);
  kit_end(k);
}

/* rush resets so many more new streams than are free; how often it could until the end. */
static uint32_t rush(struct kit *k, uint32_t most) {
  uint32_t n = 0;
  for (; n < most && !k->ends; n++) {
    for (int i = 0; i < 2; i++) /* each second one costs nothing */
      h2_peer_reset(&k->peer, h2_peer_request(&k->peer, GET, true)->id, H2_CANCEL);
    kit_run(k);
  }
  return n;
}

/* The budget comes back, all of it in ten seconds and no more than all. */
static void resets_come_back(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  struct kit *k = kit_start(&limits);
  static const struct {
    uint32_t wait_ms, resets;
  } rounds[] = {{0, 10}, {5000, 5}, {999, 0}, {1, 1}, {1500, 1}, {1500, 2}, {60000, 10}};
  for (size_t i = 0; i < array_count(rounds); i++) {
    sim_advance(k->sim, rounds[i].wait_ms);
    assert_int_equal(rush(k, rounds[i].resets), rounds[i].resets);
    assert_int_equal(k->ends, 0);
  }
  assert_int_equal(rush(k, 100), 1);
  kit_ended(k, END_CLIENT_H2_RESETS);
  kit_end(k);
}

/* What a server has answered in full is not ended early by who does not send the rest, as callers
 * of gRPC do. Once for each stream: the next one behind it brings nothing on. */
static void resets_of_what_is_answered(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  for (int gone = 0; gone < 2; gone++) {
    struct kit *k = kit_start(&limits);
    k->keep = true;
    uint32_t id = 0;
    for (int n = 0; n < 300; n++) {
      id = h2_peer_request(&k->peer, POST, false)->id;
      if (gone) h2_peer_data(&k->peer, id, SPAN_EMPTY, true);
      kit_run(k);
      assert_true(kit_answer(kit_seen(k, id), 200, 0, true));
      if (gone) seen_gently(kit_seen(k, id));
      kit_run(k);
      assert_int_equal(h2_stream_find(k->h, id) == NULL, gone);
      h2_peer_reset(&k->peer, id, H2_NO_ERROR);
      kit_run(k);
      seen_close(kit_seen(k, id));
      assert_int_equal(k->ends, 0);
    }
    assert_int_equal(k->h->budget.resets, 0);
    assert_int_equal(k->h->budget.glitches, 0);
    uint64_t credit = k->h->budget.credit / H2_GLITCH_PRICE;
    for (uint32_t n = 0; n < credit + limits.glitches; n++)
      h2_peer_reset(&k->peer, id, H2_NO_ERROR);
    kit_run(k);
    assert_int_equal(k->ends, 0);
    h2_peer_reset(&k->peer, id, H2_NO_ERROR);
    kit_ended(k, END_CLIENT_H2_FLOOD);
    kit_end(k);
  }
}

/* One RST_STREAM is free; who says it again while the owner takes its time does not get round. */
static void resets_again_and_again(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  struct kit *k = kit_start(&limits);
  k->keep = true;
  uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
  kit_run(k);
  assert_true(kit_answer(kit_seen(k, id), 200, 0, true));
  for (uint32_t n = 0; n <= 2 + limits.glitches; n++) {
    assert_int_equal(k->ends, 0);
    h2_peer_reset(&k->peer, id, H2_CANCEL);
    kit_run(k);
  }
  assert_int_equal(k->peer.goaways, 0);
  h2_peer_reset(&k->peer, id, H2_CANCEL);
  kit_run(k);
  seen_close(kit_seen(k, id));
  kit_ended(k, END_CLIENT_H2_FLOOD);
  kit_end(k);
}

/* Who has waited for a second, or for nearly as long as it said that it would, does not make weir
 * work for nothing, whether there is an answer or not. A deadline says no more than the second. */
static void resets_of_what_is_old(void **state) {
  (void)state;
  static const struct {
    bool answered;
    uint64_t wait_ms; /* that the client has told of; 0: none */
    uint32_t age_ms;
    bool counts;
  } rows[] = {{true, 0, 0, true},
              {true, 0, 999, true},
              {true, 0, 1000, false},
              {false, 0, 999, true},
              {false, 0, 1000, false},
              {false, 0, 5000, false},
              {false, 100, 74, true},
              {false, 100, 75, false},
              {true, 100, 75, false},
              {false, 1200, 899, true},
              {false, 1200, 900, false},
              {false, 5000, 999, true},
              {false, 5000, 1000, false},
              {false, 20, 49, true},
              {false, 20, 50, false},
              {false, UINT64_MAX, 1000, false},
              {false, 1, 0, true}, /* who says that it does not wait at all gains nothing */
              {false, 1, 49, true},
              {false, 1, 50, false}};
  for (size_t i = 0; i < array_count(rows); i++) {
    struct kit *k = kit_start(&kit_limits);
    uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
    kit_run(k);
    if (rows[i].wait_ms) h2_stream_waits(kit_seen(k, id)->st, rows[i].wait_ms);
    if (rows[i].answered) assert_true(kit_answer(kit_seen(k, id), 200, UINT64_MAX, false));
    kit_wait(k, rows[i].age_ms);
    h2_peer_reset(&k->peer, id, H2_CANCEL);
    kit_run(k);
    if (k->h->budget.resets != rows[i].counts) fail_msg("row %zu", i);
    kit_end(k);
  }
}

/* hang opens a stream that nobody answers. */
static uint32_t hang(struct kit *k, uint64_t wait_ms) {
  uint32_t id = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  if (wait_ms && !k->ends) h2_stream_waits(kit_seen(k, id)->st, wait_ms);
  return id;
}

/* outage: calls_per_s calls are given up each by its deadline, for 20 s; false: it has ended. */
static bool outage(uint64_t wait_ms, bool told, uint32_t calls_per_s) {
  struct kit *k = kit_start(&kit_limits);
  uint32_t each_ms = 1000 / calls_per_s, calls = 20 * calls_per_s, ids[2048];
  uint32_t behind = (uint32_t)wait_ms / each_ms;
  k->peer.wild = true;
  check(calls <= array_count(ids));
  for (uint32_t n = 0; n < calls && !k->ends; n++) {
    if (n >= behind) h2_peer_reset(&k->peer, ids[n - behind], H2_CANCEL);
    ids[n] = hang(k, told ? wait_ms : 0);
    kit_wait(k, each_ms);
  }
  bool alive = !k->ends;
  kit_end(k);
  return alive;
}

static void outages_end_nobody(void **state) {
  (void)state;
  assert_true(outage(1200, true, 60));
  assert_true(outage(1200, false, 60));
  assert_true(outage(100, true, 60));
  assert_true(outage(50, true, 100));
  assert_false(outage(20, true, 100)); /* as of an attacker */
  assert_true(outage(100, false, 20)); /* what comes back is enough for that */
  assert_false(outage(100, false, 60));
}

static const struct {
  uint8_t type, flags;
  const char *payload;
  size_t len;
  uint32_t code;
} provoking[] = {
    {H2_WINDOW_UPDATE, 0, "\0\0\0\0", 4, H2_PROTOCOL_ERROR},
    {H2_WINDOW_UPDATE, 0, "\x7f\xff\xff\xff", 4, H2_FLOW_CONTROL_ERROR},
    {H2_PRIORITY, 0, "\0\0\0", 3, H2_FRAME_SIZE_ERROR},
    {H2_HEADERS, H2_FLAG_END_HEADERS, "", 0, H2_PROTOCOL_ERROR},
    {H2_DATA, 0, "too much", 8, H2_PROTOCOL_ERROR},
};

static void expect_two(struct seen *s) { h2_stream_expect(s->st, HTTP_BODY_LENGTH, 2); }

static void resets_of_ours_count(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(provoking); i++) {
    struct h2_limits limits = tight();
    struct kit *k = kit_start(&limits);
    k->on_head = expect_two;
    uint32_t resets = 0;
    for (; resets < 1000 && !k->ends; resets++) {
      uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
      kit_frame(k, provoking[i].type, provoking[i].flags, id,
                span_of(provoking[i].payload, provoking[i].len));
      kit_run(k);
      assert_int_equal(h2_peer_find(&k->peer, id)->reset_code, provoking[i].code);
      assert_int_equal(kit_seen(k, id)->errors, 1);
    }
    assert_int_equal(resets, 21);
    kit_ended(k, END_CLIENT_H2_RESETS);
    kit_end(k);
  }
}

/* ---- streams ---- */

static void too_many_streams(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  struct kit *k = kit_start(&limits);
  uint32_t id[7];
  for (int i = 0; i < 7; i++) id[i] = h2_peer_request(&k->peer, GET "x-n: 1\n", i % 2 == 0)->id;
  kit_run(k);
  assert_int_equal(k->open, 5);
  for (int i = 5; i < 7; i++)
    assert_int_equal(h2_peer_find(&k->peer, id[i])->reset_code, H2_REFUSED_STREAM);
  /* what follows of them is dropped in silence */
  h2_peer_data(&k->peer, id[5], SPAN_LIT("body"), false);
  h2_peer_headers(&k->peer, id[5], h2_peer_block(&k->peer, "x-sum: 1\n"), true, 0);
  h2_peer_reset(&k->peer, id[6], H2_CANCEL);
  h2_peer_window(&k->peer, id[6], 100);
  kit_run(k);
  assert_int_equal(k->peer.resets, 2);
  /* one that is answered and lingers is not gone yet: it counts */
  assert_true(kit_answer(kit_seen(k, id[1]), 200, 0, true));
  seen_gently(kit_seen(k, id[1]));
  assert_int_equal(h2_streams(k->h), 5);
  seen_close(kit_seen(k, id[0]));
  uint32_t next = h2_peer_request(&k->peer, GET "x-n: 1\n", true)->id;
  kit_run(k);
  assert_int_equal(kit_seen(k, next)->section.fields.count, 1);
  k->refuse = true;
  seen_close(kit_seen(k, id[2]));
  uint32_t refused = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  assert_int_equal(h2_peer_find(&k->peer, refused)->reset_code, H2_REFUSED_STREAM);
  assert_int_equal(k->ends, 0);
  kit_end(k);
}

static void no_slot_is_left(void **state) {
  (void)state;
  struct kit *k = kit_new_with(&kit_limits, 3);
  h2_peer_hello(&k->peer, NULL, 0);
  for (int i = 0; i < 5; i++) h2_peer_request(&k->peer, GET, true);
  kit_run(k);
  assert_int_equal(k->open, 3);
  assert_int_equal(k->peer.resets, 2);
  assert_int_equal(k->ends, 0);
  kit_end(k);
}

/* So many resets are remembered one by one, and older ones as all up to the highest of them; a
 * later stream that is over in peace is not among them. */
static void forgotten_streams(void **state) {
  (void)state;
  struct h2_limits limits = kit_limits;
  struct kit *k = kit_start(&limits);
  uint32_t first = 0;
  for (uint32_t i = 0; i <= H2_FORGOTTEN; i++) {
    uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
    if (i == 0) first = id;
    kit_run(k);
    seen_close(kit_seen(k, id));
    kit_run(k);
    h2_peer_data(&k->peer, id, SPAN_LIT("late"), false);
    kit_run(k);
  }
  assert_int_equal(k->peer.resets, H2_FORGOTTEN + 1);
  h2_peer_data(&k->peer, first, SPAN_LIT("very late"), false);
  kit_run(k);
  assert_int_equal(k->peer.resets, H2_FORGOTTEN + 1);
  assert_int_equal(k->ends, 0);
  uint32_t done = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  assert_true(kit_answer(kit_seen(k, done), 200, 0, true));
  seen_gently(kit_seen(k, done));
  kit_run(k);
  h2_peer_data(&k->peer, done, SPAN_LIT("more"), false);
  kit_run(k);
  assert_int_equal(h2_peer_find(&k->peer, done)->reset_code, H2_STREAM_CLOSED);
  uint32_t again = h2_peer_request(&k->peer, GET, true)->id;
  kit_run(k);
  assert_true(kit_answer(kit_seen(k, again), 200, 0, true));
  seen_gently(kit_seen(k, again));
  kit_run(k);
  h2_peer_headers(&k->peer, again, h2_peer_block(&k->peer, "x-sum: 1\n"), true, 0);
  kit_ended(k, END_CLIENT_H2_STREAM_CLOSED);
  kit_end(k);
}

/* ---- sections ---- */

static void continuation_flood(void **state) {
  (void)state;
  for (int empty = 0; empty < 2; empty++) {
    struct h2_limits limits = kit_limits;
    limits.glitches = empty ? 20 : 1000;
    struct kit *k = kit_start(&limits);
    struct h2_peer_stream *st = h2_peer_open(&k->peer);
    kit_frame(k, H2_HEADERS, 0, st->id, SPAN_EMPTY);
    uint32_t frames = 0;
    for (; frames < 1000 && !k->ends; frames++) {
      kit_frame(k, H2_CONTINUATION, 0, st->id, empty ? SPAN_EMPTY : SPAN_LIT("\x82"));
      kit_run(k);
    }
    /* four are free, two are paid for by the stream; in any case 64 */
    assert_int_equal(frames, empty ? 4 + 2 + 20 + 1 : 65);
    kit_ended(k, END_CLIENT_H2_FLOOD);
    kit_end(k);
  }
}

/* Heads behind one that was not accepted are no way round the budget. */
static void heads_again_and_again(void **state) {
  (void)state;
  struct h2_limits limits = tight();
  struct kit *k = kit_start(&limits);
  k->headless = true;
  uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
  uint32_t heads = 0;
  for (; heads < 1000 && !k->ends; heads++) {
    h2_peer_headers(&k->peer, id, h2_peer_block(&k->peer, "x-a: 1\n"), false, 0);
    kit_run(k);
  }
  assert_int_equal(heads, 2 + limits.glitches + 1);
  kit_ended(k, END_CLIENT_H2_FLOOD);
  kit_end(k);
}

/* A client that says GOAWAY again and again is as idle as before. */
static void goaway_is_told_once(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  for (int i = 0; i < 5; i++) {
    kit_frame(k, H2_GOAWAY, 0, 0, span_of("\0\0\0\0\0\0\0\0", 8));
    kit_run(k);
  }
  assert_int_equal(k->idles, 1);
  kit_end(k);
}

static void sections_are_bounded(void **state) {
  (void)state;
  struct h2_limits limits = kit_limits;
  limits.header_bytes = 2000;
  struct kit *k = kit_start(&limits);
  struct h2_peer_stream *st = h2_peer_open(&k->peer);
  char block[5000]; /* an entry of the table, again and again: small on the wire */
  struct buf b = buf_of(block, sizeof(block));
  buf_lit(&b, "\x82\x86\x84\x41\x01h\x40\x01x");
  buf_char(&b, 100);
  for (int i = 0; i < 100; i++) buf_char(&b, 'v');
  while (b.len < 1000) buf_char(&b, (char)0xbe);
  kit_frame(k, H2_HEADERS, H2_FLAG_END_HEADERS | H2_FLAG_END_STREAM, st->id, buf_span(&b));
  kit_ended(k, END_CLIENT_H2_FLOOD); /* HPACK bomb: more than eight times what it may be */
  kit_end(k);
}

/* ---- faults of the connection ---- */

static const struct {
  uint8_t type, flags;
  uint32_t stream;
  const char *payload;
  size_t len;
  enum end end;
} fatal[] = {
    {H2_DATA, 0, 5, "x", 1, END_CLIENT_H2_PROTOCOL},                     /* idle */
    {H2_RST_STREAM, 0, 5, "\0\0\0\0", 4, END_CLIENT_H2_PROTOCOL},
    {H2_WINDOW_UPDATE, 0, 5, "\0\0\0\1", 4, END_CLIENT_H2_PROTOCOL},
    {H2_WINDOW_UPDATE, 0, 5, "\0\0\0\0", 4, END_CLIENT_H2_PROTOCOL},
    {H2_PRIORITY, 0, 5, "\0\0\0", 3, END_CLIENT_H2_FRAME_SIZE},
    {H2_HEADERS, H2_FLAG_END_HEADERS, 2, "\x82", 1, END_CLIENT_H2_PROTOCOL}, /* ours */
    {H2_HEADERS, H2_FLAG_END_HEADERS, 5, "\xff\xff\xff\xff\xff", 5, END_CLIENT_H2_COMPRESSION},
    {H2_CONTINUATION, H2_FLAG_END_HEADERS, 1, "", 0, END_CLIENT_H2_PROTOCOL},
    {H2_PUSH_PROMISE, H2_FLAG_END_HEADERS, 1, "\0\0\0\2", 4, END_CLIENT_H2_PROTOCOL},
    {H2_PING, 0, 0, "1", 1, END_CLIENT_H2_FRAME_SIZE},
    {H2_SETTINGS, 0, 0, "\0\4\xff\xff\xff\xff", 6, END_CLIENT_H2_FLOW_CONTROL},
    {H2_SETTINGS, 0, 0, "\0\2\0\0\0\7", 6, END_CLIENT_H2_PROTOCOL},
    {H2_DATA, 0, 0, "x", 1, END_CLIENT_H2_PROTOCOL},
};

static void faults_end_it(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(fatal); i++) {
    struct kit *k = kit_start(&kit_limits);
    k->peer.wild = true;
    uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
    kit_run(k);
    kit_frame(k, fatal[i].type, fatal[i].flags, fatal[i].stream,
              span_of(fatal[i].payload, fatal[i].len));
    kit_run(k);
    if (k->end != fatal[i].end)
      fail_msg("row %zu: it ended %d times, by %s", i, k->ends, end_get(k->end)->word.ptr);
    kit_ended(k, fatal[i].end);
    assert_int_equal(kit_seen(k, id)->word, fatal[i].end);
    kit_end(k);
  }
}

/* Numbers that were left out are nobody's any more, those that were used are closed. */
static void numbers_left_out(void **state) {
  (void)state;
  static const struct {
    uint32_t second;
    enum end end;
  } rows[] = {{3, END_CLIENT_H2_PROTOCOL}, {5, END_CLIENT_H2_PROTOCOL},
              {1, END_CLIENT_H2_STREAM_CLOSED}, {7, END_CLIENT_H2_STREAM_CLOSED}};
  for (size_t i = 0; i < array_count(rows); i++) {
    struct kit *k = kit_start(&kit_limits);
    k->peer.wild = true;
    for (uint32_t id = 1; id <= 7; id += 6) {
      k->peer.next_id = id;
      h2_peer_request(&k->peer, GET, true);
      kit_run(k);
      assert_true(kit_answer(kit_seen(k, id), 200, 0, true));
      seen_gently(kit_seen(k, id));
      kit_run(k);
    }
    h2_peer_headers(&k->peer, rows[i].second, h2_peer_block(&k->peer, GET), true, 0);
    kit_ended(k, rows[i].end);
    kit_end(k);
  }
}

static void no_preface(void **state) {
  (void)state;
  struct kit *k = kit_new_with(&kit_limits, 10);
  text_lit(&k->peer.out, "GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
  kit_ended(k, END_CLIENT_H2_PROTOCOL);
  kit_end(k);
}

/* ---- RST_STREAM before, inside and after a section ---- */

static void resets_and_sections(void **state) {
  (void)state;
  struct kit *k = kit_start(&kit_limits);
  k->keep = true; /* the owner takes its time */
  uint32_t id = h2_peer_request(&k->peer, POST, false)->id;
  h2_peer_reset(&k->peer, id, H2_CANCEL);
  h2_peer_headers(&k->peer, id, h2_peer_block(&k->peer, "x-sum: 1\n"), true, 0);
  h2_peer_data(&k->peer, id, SPAN_LIT("x"), true);
  h2_peer_window(&k->peer, id, 5);
  h2_peer_reset(&k->peer, id, H2_CANCEL);
  kit_run(k);
  struct seen *s = kit_seen(k, id);
  assert_int_equal(s->heads, 1);
  assert_int_equal(s->errors, 1);
  assert_int_equal(s->got, 0);
  assert_true(kit_answer(s, 200, 5, false)); /* it goes nowhere */
  kit_run(k);
  assert_int_equal(h2_peer_find(&k->peer, id)->status, 0);
  seen_close(s);
  /* a head with a stream error: the owner hears of it, and no head */
  struct h2_peer_stream *st = h2_peer_open(&k->peer);
  uint32_t self = st->id;
  struct text payload = {0};
  text_put(&payload, span_of("\0\0\0\0\1", 5));
  payload.ptr[3] = (char)self;
  text_put(&payload, h2_peer_block(&k->peer, GET "x-a: 1\n"));
  kit_frame(k, H2_HEADERS, H2_FLAG_END_HEADERS | H2_FLAG_PRIORITY, self, text_span(&payload));
  text_fini(&payload);
  kit_run(k);
  assert_int_equal(h2_peer_find(&k->peer, self)->reset_code, H2_PROTOCOL_ERROR);
  assert_int_equal(kit_seen(k, self)->errors, 1);
  assert_int_equal(kit_seen(k, self)->heads, 0);
  seen_close(kit_seen(k, self));
  uint32_t next = h2_peer_request(&k->peer, GET "x-a: 1\n", true)->id;
  kit_run(k);
  assert_int_equal(kit_seen(k, next)->heads, 1);
  assert_int_equal(k->ends, 0);
  kit_end(k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(glitches_are_counted_exactly),
      cmocka_unit_test(acks_of_later_settings),
      cmocka_unit_test(unruly),
      cmocka_unit_test(glitches_are_forgiven),
      cmocka_unit_test(what_pays),
      cmocka_unit_test(readers_open_windows),
      cmocka_unit_test(small_messages_open_windows),
      cmocka_unit_test(openings_beyond_count),
      cmocka_unit_test(rapid_reset),
      cmocka_unit_test(resets_come_back),
      cmocka_unit_test(resets_of_what_is_answered),
      cmocka_unit_test(resets_again_and_again),
      cmocka_unit_test(resets_of_what_is_old),
      cmocka_unit_test(outages_end_nobody),
      cmocka_unit_test(resets_of_ours_count),
      cmocka_unit_test(too_many_streams),
      cmocka_unit_test(no_slot_is_left),
      cmocka_unit_test(forgotten_streams),
      cmocka_unit_test(continuation_flood),
      cmocka_unit_test(sections_are_bounded),
      cmocka_unit_test(heads_again_and_again),
      cmocka_unit_test(goaway_is_told_once),
      cmocka_unit_test(faults_end_it),
      cmocka_unit_test(numbers_left_out),
      cmocka_unit_test(no_preface),
      cmocka_unit_test(resets_and_sections),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
