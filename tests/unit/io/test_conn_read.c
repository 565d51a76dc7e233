/* test_conn_read.c: what comes: split data, held bytes, stopping and resuming, bulk, watching, EOF
 * and reset with bytes before them, the error of a send behind an early response, buffers running
 * out. */
#include "io_kit.h"

#include "io/io_priv.h"
#include "weir/io/carried.h"

static char pattern_at(size_t at) { return (char)(at * 7 + (at >> 11)); }

static void fill_pattern(char *into, size_t from, size_t len) {
  for (size_t i = 0; i < len; i++) into[i] = pattern_at(from + i);
}

static uint64_t pattern_sum(size_t len) {
  uint64_t sum = 0;
  for (size_t i = 0; i < len; i++) sum += (i + 1) * (unsigned char)pattern_at(i);
  return sum;
}

static void split_data_arrives_in_order(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  char bytes[1000];
  fill_pattern(bytes, 0, sizeof(bytes));
  for (size_t i = 0; i < sizeof(bytes); i++) {
    kit_send(peer, bytes + i, 1);
    if (i % 7 == 0) kit_turns(net->loop, 1);
  }
  KIT_UNTIL(net->loop, s->got == sizeof(bytes));
  assert_memory_equal(s->bytes, bytes, sizeof(bytes));
  close(peer);
  kit_net_free(net);
}

static void partial_consumption_holds(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  s->take_max = 3;
  kit_send(peer, "abcdefgh", 8);
  KIT_UNTIL(net->loop, s->data_calls == 1);
  kit_settle(net->loop);
  assert_int_equal(s->data_calls, 1); /* it stopped */
  assert_int_equal(conn_held(s->c), 5);
  conn_read_start(s->c);
  assert_int_equal(s->data_calls, 1); /* not from inside the call */
  KIT_UNTIL(net->loop, s->data_calls == 2);
  assert_int_equal(conn_held(s->c), 2);
  kit_send(peer, "ij", 2); /* behind what is held */
  kit_settle(net->loop);
  assert_int_equal(conn_held(s->c), 4);
  s->take_max = 0;
  conn_read_start(s->c);
  KIT_UNTIL(net->loop, s->got == 10);
  assert_memory_equal(s->bytes, "abcdefghij", 10);
  assert_int_equal(conn_held(s->c), 0);
  assert_int_equal(net->loop->iobufs.bytes_out, 0);
  close(peer);
  kit_net_free(net);
}

static void partial_consumption_with_restart_goes_on(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  s->take_max = 3;
  s->again = true;
  kit_send(peer, "abcdefgh", 8);
  KIT_UNTIL(net->loop, s->got == 8);
  assert_int_equal(s->data_calls, 3);
  close(peer);
  kit_net_free(net);
}

static size_t wants_20(struct conn *c, struct span bytes) {
  struct side *s = c->owner;
  s->data_calls++;
  s->last_len = bytes.len;
  if (bytes.len < 20) {
    conn_read_start(c);
    return 0;
  }
  memcpy(s->bytes, bytes.ptr, bytes.len);
  s->got += bytes.len;
  return bytes.len;
}

static void consuming_nothing_accumulates(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  struct conn_events events = kit_events;
  events.on_data = wants_20;
  conn_attach(s->c, &events, s);
  kit_send(peer, "0123456789", 10);
  KIT_UNTIL(net->loop, s->data_calls == 1);
  kit_settle(net->loop);
  assert_int_equal(s->data_calls, 1); /* nothing new: not asked again */
  kit_send(peer, "abcdefghij", 10);
  KIT_UNTIL(net->loop, s->got == 20);
  assert_int_equal(s->data_calls, 2);
  assert_memory_equal(s->bytes, "0123456789abcdefghij", 20);
  close(peer);
  kit_net_free(net);
}

/* A head of 200 KiB comes in one piece in the end. */
static size_t wants_200k(struct conn *c, struct span bytes) {
  struct side *s = c->owner;
  s->last_len = bytes.len;
  if (bytes.len < 200000) {
    conn_read_start(c);
    return 0;
  }
  for (size_t i = 0; i < bytes.len; i++) assert_int_equal(bytes.ptr[i], pattern_at(i));
  s->got = bytes.len;
  return bytes.len;
}

static void accumulates_beyond_the_held_bound(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  struct conn_events events = kit_events;
  events.on_data = wants_200k;
  conn_attach(s->c, &events, s);
  static char bytes[200000];
  fill_pattern(bytes, 0, sizeof(bytes));
  for (size_t at = 0; at < sizeof(bytes); at += 10000) {
    kit_send(peer, bytes + at, 10000);
    kit_turns(net->loop, 2);
  }
  KIT_UNTIL(net->loop, s->got == sizeof(bytes));
  assert_int_equal(net->loop->iobufs.bytes_out, 0);
  close(peer);
  kit_net_free(net);
}

static void stopped_reading_pushes_back_and_resumes(void **state) {
  (void)state;
  for (int mode = 1; mode <= 2; mode++) { /* stopped while reading; watched */
    struct net *net = kit_net(mode);
    int peer;
    struct side *s = kit_pair(net, &peer);
    kit_nonblock(peer);
    kit_settle(net->loop);
    if (mode == 1) conn_read_stop(s->c);
    static char bytes[4096];
    size_t sent = 0;
    for (int stuck = 0; stuck < 20;) {
      fill_pattern(bytes, sent, sizeof(bytes));
      ssize_t n = send(peer, bytes, sizeof(bytes), MSG_NOSIGNAL);
      if (n > 0) sent += (size_t)n;
      stuck = n > 0 ? 0 : stuck + 1;
      kit_turns(net->loop, 2);
    }
    assert_int_equal(s->data_calls, 0);
    assert_true(conn_held(s->c) >= (mode == 2 ? CONN_HELD_MAX : 1));
    assert_true(conn_held(s->c) < CONN_HELD_MAX * 5);
    uint64_t completions = net->loop->stats.completions;
    kit_turns(net->loop, 20);
    assert_int_equal(net->loop->stats.completions, completions); /* at rest */
    conn_read_start(s->c);
    KIT_UNTIL(net->loop, s->got == sent);
    assert_true(s->sum == pattern_sum(sent));
    assert_int_equal(net->loop->iobufs.bytes_out, 0);
    close(peer);
    kit_net_free(net);
  }
}

static void bulk_reads_all_in_order(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  kit_nonblock(peer);
  kit_settle(net->loop); /* a multishot is armed: it is cancelled */
  conn_read_bulk(s->c, true);
  size_t total = 8u << 20, sent = 0;
  static char bytes[65536];
  while (s->got < total) {
    if (sent < total) {
      fill_pattern(bytes, sent, sizeof(bytes));
      ssize_t n = send(peer, bytes, sizeof(bytes), MSG_NOSIGNAL);
      if (n > 0) sent += (size_t)n;
    }
    kit_turns(net->loop, 1);
    if (sent > total) total = sent;
  }
  assert_int_equal(s->got, sent);
  assert_true(s->sum == pattern_sum(sent));
  kit_settle(net->loop);
  assert_int_equal(net->loop->iobufs.bytes_out, 0); /* waiting costs no buffer */
  assert_true(conn_busy(s->c, OP_POLL_IN));
  conn_read_bulk(s->c, false);
  size_t before = s->got;
  kit_send(peer, "small", 5);
  KIT_UNTIL(net->loop, s->got == before + 5);
  kit_settle(net->loop);
  assert_true(conn_busy(s->c, OP_RECV));
  close(peer);
  KIT_UNTIL(net->loop, s->eofs == 1);
  kit_net_free(net);
}

static void bulk_holds_what_is_left(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  conn_read_bulk(s->c, true);
  s->take_max = 1000;
  static char bytes[50000];
  fill_pattern(bytes, 0, sizeof(bytes));
  kit_send(peer, bytes, sizeof(bytes));
  size_t want = 0;
  while (s->got < sizeof(bytes)) {
    conn_read_start(s->c);
    want += 1000;
    KIT_UNTIL(net->loop, s->got == want);
  }
  assert_true(s->sum == pattern_sum(sizeof(bytes)));
  close(peer);
  kit_net_free(net);
}

static void bulk_sees_eof_and_reset(void **state) {
  (void)state;
  for (int reset = 0; reset < 2; reset++) {
    struct net *net = kit_net(1);
    int peer;
    struct side *s = kit_pair(net, &peer);
    conn_read_bulk(s->c, true);
    kit_settle(net->loop);
    if (reset)
      kit_rst(peer);
    else
      close(peer);
    KIT_UNTIL(net->loop, s->eofs + s->errors == 1);
    assert_int_equal(s->errors, reset);
    kit_settle(net->loop);
    assert_int_equal(s->eofs + s->errors, 1);
    kit_net_free(net);
  }
}

static void eof_comes_before_held_bytes(void **state) {
  (void)state;
  struct net *net = kit_net(2);
  int peer;
  struct side *s = kit_pair(net, &peer);
  kit_send(peer, "pipelined", 9);
  close(peer);
  KIT_UNTIL(net->loop, s->eofs == 1);
  assert_int_equal(s->got, 0);
  assert_int_equal(conn_held(s->c), 9);
  conn_read_start(s->c);
  KIT_UNTIL(net->loop, s->got == 9);
  kit_settle(net->loop);
  assert_int_equal(s->eofs, 1); /* once */
  kit_net_free(net);
}

static void data_comes_before_the_reset(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  kit_send(peer, "last words", 10);
  kit_rst(peer);
  conn_read_start(s->c);
  KIT_UNTIL(net->loop, s->errors == 1);
  assert_int_equal(s->at_error, 10);
  assert_int_equal(s->err, -ECONNRESET);
  kit_net_free(net);
}

static void watching_holds_and_tells_the_end(void **state) {
  (void)state;
  struct net *net = kit_net(2);
  int peer;
  struct side *s = kit_pair(net, &peer);
  kit_send(peer, "abc", 3);
  KIT_UNTIL(net->loop, conn_held(s->c) == 3);
  assert_int_equal(s->data_calls, 0);
  kit_rst(peer);
  KIT_UNTIL(net->loop, s->errors == 1);
  kit_net_free(net);
}

/* An upstream answers early and closes without reading the request: our sends fail, but the answer
 * must be seen first. */
static void send_error_waits_for_the_response(int reading) {
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  assert_true(conn_write(s->c, SPAN_LIT("request body, part 1")));
  kit_settle(net->loop); /* unread at the peer: its close will reset */
  kit_send(peer, "413 too large", 13);
  close(peer);
  if (reading) conn_read_start(s->c);
  static char body[100000];
  for (int i = 0; i < 5 && !s->errors; i++) {
    (void)!conn_write(s->c, span_of(body, sizeof(body)));
    kit_turns(net->loop, 3);
  }
  KIT_UNTIL(net->loop, s->errors == 1);
  assert_true(s->err == -ECONNRESET || s->err == -EPIPE);
  if (reading) {
    assert_int_equal(s->at_error, 13);
  } else {
    assert_int_equal(conn_held(s->c), 13); /* and can still be read */
    conn_read_start(s->c);
    KIT_UNTIL(net->loop, s->got == 13);
  }
  assert_memory_equal(s->bytes, "413 too large", 13);
  kit_settle(net->loop);
  assert_int_equal(s->errors, 1);
  assert_int_equal(s->eofs, 0);
  conn_close(s->c);
  kit_settle(net->loop);
  assert_int_equal(net->loop->iobufs.bytes_out, 0);
  kit_net_free(net);
}
static void send_error_waits_when_reading(void **state) {
  (void)state;
  send_error_waits_for_the_response(1);
}
static void send_error_waits_when_not_reading(void **state) {
  (void)state;
  send_error_waits_for_the_response(0);
}

static size_t closes_inside(struct conn *c, struct span bytes) {
  struct side *s = c->owner;
  s->data_calls++;
  if (s->stop)
    conn_close_gently(c, 10);
  else
    conn_close(c);
  s->kept = (size_t)(unsigned char)bytes.ptr[bytes.len - 1]; /* still valid (ASan looks) */
  return 0;
}

static void owner_may_close_inside_on_data(void **state) {
  (void)state;
  for (int i = 0; i < 8; i++) {
    struct net *net = kit_net(i & 1 ? 2 : 1); /* held first, or at once */
    int peer;
    struct side *s = kit_pair(net, &peer);
    struct conn_events events = kit_events;
    events.on_data = closes_inside;
    conn_attach(s->c, &events, s);
    s->stop = (i & 2) != 0;
    if (i & 4) conn_read_bulk(s->c, true);
    kit_send(peer, "abc", 3);
    if (i & 1) {
      KIT_UNTIL(net->loop, conn_held(s->c) == 3);
      conn_read_start(s->c);
    }
    KIT_UNTIL(net->loop, s->data_calls == 1);
    KIT_UNTIL(net->loop, net->loop->conns.live == 1);
    assert_int_equal(net->loop->iobufs.bytes_out, 0);
    assert_int_equal(s->kept, 'c');
    close(peer);
    kit_net_free(net);
  }
}

static void large_bodies_make_a_conn_single_shot_and_small_ones_back(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  static char bytes[100000];
  kit_send(peer, bytes, sizeof(bytes));
  KIT_UNTIL(net->loop, s->got == sizeof(bytes));
  assert_true(s->c->flags & CONN_SINGLE);
  for (int i = 0; i < 12; i++) {
    size_t before = s->got;
    kit_send(peer, "x", 1);
    KIT_UNTIL(net->loop, s->got == before + 1);
  }
  assert_false(s->c->flags & CONN_SINGLE);
  close(peer);
  kit_net_free(net);
}

/* 100 conns, 4 buffers: everything arrives, in a bounded number of turns, and rest is rest. */
static void enobufs_storm(void **state) {
  (void)state;
  struct loop_config config = kit_config;
  config.buffers_first = config.buffers_max = 4;
  config.buffer_bytes = 1024;
  struct net *net = kit_net_with(&config, 1);
  int peers[100];
  static char bytes[5000];
  fill_pattern(bytes, 0, sizeof(bytes));
  for (int i = 0; i < 100; i++) (void)kit_pair(net, &peers[i]);
  kit_settle(net->loop);
  for (int i = 0; i < 100; i++) kit_send(peers[i], bytes, sizeof(bytes));
  uint64_t turns = net->loop->stats.turns;
  size_t all = 0;
  for (int i = 0; i < 20000 && all < 100 * sizeof(bytes); i++) {
    kit_turn(net->loop);
    all = 0;
    for (int k = 0; k < 100; k++) all += net->sides[k]->got;
  }
  assert_int_equal(all, 100 * sizeof(bytes));
  for (int i = 0; i < 100; i++) assert_true(net->sides[i]->sum == pattern_sum(sizeof(bytes)));
  assert_true(net->loop->stats.enobufs > 0);
  assert_true(net->loop->stats.parked > 0);
  assert_true(net->loop->stats.turns - turns < 2000);
  uint64_t completions = net->loop->stats.completions;
  kit_turns(net->loop, 50);
  assert_int_equal(net->loop->stats.completions, completions); /* nothing spins */
  for (int i = 0; i < 100; i++) close(peers[i]);
  kit_net_free(net);
}

static void buffers_grow_on_need_and_shrink_when_idle(void **state) {
  (void)state;
  struct loop_config config = kit_config;
  config.buffers_first = 4;
  config.buffers_max = 256;
  struct net *net = kit_net_with(&config, 1);
  int peers[200];
  for (int i = 0; i < 200; i++) (void)kit_pair(net, &peers[i]);
  for (int round = 0; round < 6; round++) {
    for (int i = 0; i < 200; i++) kit_send(peers[i], "request", 7);
    KIT_UNTIL(net->loop, net->sides[199]->got == 7u * ((unsigned)round + 1));
    kit_settle(net->loop);
  }
  uint64_t high = net->loop->stats.buffers_total;
  assert_true(high > 4);
  for (int round = 0; round < 400; round++) { /* the ring turns over; few are in use at a time */
    kit_send(peers[0], "x", 1);
    size_t want = net->sides[0]->got + 1;
    KIT_UNTIL(net->loop, net->sides[0]->got == want);
    if (round % 20 == 0) loop_trim(net->loop);
  }
  assert_true(net->loop->stats.buffers_total < high);
  kit_settle(net->loop);
  for (int i = 0; i < 3; i++) loop_trim(net->loop); /* nothing came: back to the first few */
  kit_turns(net->loop, 2);
  assert_int_equal(net->loop->stats.buffers_total, 4);
  for (int i = 0; i < 200; i++)
    kit_send(peers[i], "again", 5); /* receives are armed from before */
  for (int i = 0; i < 200; i++) {
    KIT_UNTIL(net->loop, net->sides[i]->got >= 47); /* no buffer was lost */
  }
  for (int i = 0; i < 200; i++) close(peers[i]);
  kit_net_free(net);
}

static int asked; /* reads of the socket by call */
static ssize_t (*real_recv_now)(struct loop *loop, struct conn *c, void *into, size_t cap);
static ssize_t count_recv_now(struct loop *loop, struct conn *c, void *into, size_t cap) {
  asked++;
  return real_recv_now(loop, c, into, cap);
}

/* A receive that the kernel has would have told; one that was only just asked for would not. */
static void quiet_asks_only_when_it_must(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  struct loop_ops ops = *net->loop->ops;
  real_recv_now = ops.recv_now;
  ops.recv_now = count_recv_now;
  net->loop->ops = &ops;
  asked = 0;
  int peer;
  struct side *s = kit_pair(net, &peer);
  assert_true(conn_quiet(s->c));
  assert_int_equal(asked, 1); /* none is armed */
  conn_watch(s->c);
  assert_true(conn_quiet(s->c));
  assert_int_equal(asked, 2); /* armed in this turn: the kernel does not know of it */
  kit_settle(net->loop);
  assert_true(conn_quiet(s->c));
  assert_int_equal(asked, 2);
  conn_watch(s->c); /* released: what came since the last wait was told by nobody */
  assert_true(conn_quiet(s->c));
  assert_int_equal(asked, 3);
  assert_true(conn_unsent(s->c));
  assert_true(conn_write(s->c, SPAN_LIT("request")));
  assert_true(conn_unsent(s->c)); /* it waits for the end of the turn */
  kit_turns(net->loop, 1);
  assert_false(conn_unsent(s->c));
  kit_send(peer, "x", 1);
  KIT_UNTIL(net->loop, conn_held(s->c) == 1);
  assert_false(conn_quiet(s->c));
  close(peer);
  kit_net_free(net);
}

/* What waits in the socket goes into the other conn's output as far as it was asked for; an armed
 * conn and a reset are left to the receive that tells them. */
static void pull_takes_what_waits(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int from, to;
  struct side *src = kit_pair(net, &from), *dst = kit_pair(net, &to);
  char sent[10000], got[10000];
  for (size_t i = 0; i < sizeof(sent); i++) sent[i] = (char)(i * 7);
  assert_int_equal(conn_pull(src->c, dst->c, 100), 0);
  kit_send(from, sent, sizeof(sent));
  kit_settle(net->loop);
  assert_int_equal(conn_pull(src->c, dst->c, 6000), 6000);
  assert_int_equal(conn_pull(src->c, dst->c, 6000), 4000);
  assert_int_equal(conn_pull(src->c, dst->c, 6000), 0);
  bool eof = false;
  assert_int_equal(kit_recv(net->loop, to, got, sizeof(got), &eof), sizeof(got));
  assert_memory_equal(got, sent, sizeof(sent));
  conn_watch(dst->c);
  assert_int_equal(conn_pull(dst->c, src->c, 1), 0);
  kit_rst(from);
  kit_settle(net->loop);
  assert_int_equal(conn_pull(src->c, dst->c, 6000), 0);
  conn_read_start(src->c);
  KIT_UNTIL(net->loop, src->errors == 1);
  assert_int_equal(src->err, -ECONNRESET);
  close(to);
  kit_net_free(net);
}

static void quiet_sees_what_no_receive_told(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peers[2];
  struct side *bytes = kit_pair(net, &peers[0]), *fin = kit_pair(net, &peers[1]);
  kit_send(peers[0], "x", 1);
  assert_int_equal(shutdown(peers[1], SHUT_WR), 0);
  kit_settle(net->loop);
  assert_false(conn_quiet(bytes->c));
  assert_false(conn_quiet(fin->c));
  for (int i = 0; i < 2; i++) close(peers[i]);
  kit_net_free(net);
}

static size_t keep(struct conn *c, struct span bytes) {
  struct side *s = c->owner;
  assert_memory_equal(bytes.ptr, &"frame"[s->got], bytes.len);
  s->got += bytes.len;
  return bytes.len;
}

static void no_flush(struct conn *c) { (void)c; }

/* One that carries others is not closed when it was not quiet: all bytes come, in order. */
static void a_carrier_loses_no_byte_to_quiet(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  struct conn_events events = *s->c->events;
  events.on_data = keep;
  events.on_flush = no_flush;
  conn_attach(s->c, &events, s);
  conn_carries(s->c);
  conn_read_bulk(s->c, true);
  kit_send(peer, "frame", 5);
  kit_settle(net->loop);
  assert_false(conn_quiet(s->c));
  assert_false(conn_quiet(s->c));
  conn_read_start(s->c);
  KIT_UNTIL(net->loop, s->got == 5);
  assert_true(conn_quiet(s->c));
  close(peer);
  kit_net_free(net);
}

/* No buffer for a receive on a conn that was just taken for a request: what waits there came
 * before the request, and must not be read as its answer. */
static void stale_bytes_behind_enobufs_are_an_error(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  assert_true(conn_quiet(s->c));
  assert_true(conn_write(s->c, SPAN_LIT("request")));
  kit_send(peer, "stale", 5);
  const struct completion none = {.res = -ENOBUFS};
  s->c->inflight |= OP_BIT(OP_RECV); /* as if one had been armed, and found no buffer */
  conn_complete(net->loop, s->c->head.slot, s->c->head.generation, OP_RECV, &none);
  assert_int_equal(s->errors, 1);
  assert_int_equal(s->got, 0);
  conn_close(s->c);
  close(peer);
  kit_net_free(net);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(split_data_arrives_in_order),
      cmocka_unit_test(partial_consumption_holds),
      cmocka_unit_test(partial_consumption_with_restart_goes_on),
      cmocka_unit_test(consuming_nothing_accumulates),
      cmocka_unit_test(accumulates_beyond_the_held_bound),
      cmocka_unit_test(stopped_reading_pushes_back_and_resumes),
      cmocka_unit_test(bulk_reads_all_in_order),
      cmocka_unit_test(bulk_holds_what_is_left),
      cmocka_unit_test(bulk_sees_eof_and_reset),
      cmocka_unit_test(eof_comes_before_held_bytes),
      cmocka_unit_test(data_comes_before_the_reset),
      cmocka_unit_test(watching_holds_and_tells_the_end),
      cmocka_unit_test(send_error_waits_when_reading),
      cmocka_unit_test(send_error_waits_when_not_reading),
      cmocka_unit_test(owner_may_close_inside_on_data),
      cmocka_unit_test(large_bodies_make_a_conn_single_shot_and_small_ones_back),
      cmocka_unit_test(enobufs_storm),
      cmocka_unit_test(buffers_grow_on_need_and_shrink_when_idle),
      cmocka_unit_test(quiet_asks_only_when_it_must),
      cmocka_unit_test(quiet_sees_what_no_receive_told),
      cmocka_unit_test(a_carrier_loses_no_byte_to_quiet),
      cmocka_unit_test(pull_takes_what_waits),
      cmocka_unit_test(stale_bytes_behind_enobufs_are_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
