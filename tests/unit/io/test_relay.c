/* test_relay.c: bytes from one conn to another on the real ring: splice, copy, tunnels, ends of
 * each kind, stops midway. Content is checked byte by byte. */
#include "io_kit.h"

/* rig is two pairs on one loop: raw peer a - src, dst - raw peer b. */
struct rig {
  struct net *net;
  struct side *src, *dst;
  int a, b;
  struct relay relay;
  int ends;
  enum relay_end why;
  int err;
  uint64_t written, read, bad; /* by the raw peers; wrong bytes */
  bool read_eof;
};

static void on_end(struct relay *r, enum relay_end why, int err) {
  struct rig *rig = r->owner;
  rig->ends++;
  rig->why = why;
  rig->err = err;
}

static void rig_init(struct rig *rig, int reading) {
  *rig = (struct rig){.net = kit_net(reading)};
  rig->src = kit_pair(rig->net, &rig->a);
  rig->dst = kit_pair(rig->net, &rig->b);
  kit_nonblock(rig->a);
  kit_nonblock(rig->b);
  rig->relay.owner = rig;
}

static void rig_fini(struct rig *rig) {
  if (rig->a >= 0) close(rig->a);
  if (rig->b >= 0) close(rig->b);
  kit_net_free(rig->net);
}

static unsigned char byte_at(uint64_t at) { return (unsigned char)(at * 31 + (at >> 12)); }

static void pump_in(struct rig *rig, uint64_t total) {
  static char bytes[65536];
  if (rig->written >= total) return;
  size_t want = sizeof(bytes);
  if (total - rig->written < want) want = (size_t)(total - rig->written);
  for (size_t i = 0; i < want; i++) bytes[i] = (char)byte_at(rig->written + i);
  ssize_t n = send(rig->a, bytes, want, MSG_NOSIGNAL);
  if (n > 0) rig->written += (uint64_t)n;
}

static void pump_out(struct rig *rig) {
  static unsigned char bytes[262144];
  ssize_t n = recv(rig->b, bytes, sizeof(bytes), 0);
  if (n == 0) rig->read_eof = true;
  for (ssize_t i = 0; i < n; i++) rig->bad += bytes[i] != byte_at(rig->read + (uint64_t)i);
  if (n > 0) rig->read += (uint64_t)n;
}

/* run pumps both raw peers until the relay ended and everything arrived. */
static void run(struct rig *rig, uint64_t total) {
  for (int i = 0; i < 200000 && (rig->ends == 0 || rig->read < total); i++) {
    pump_in(rig, total);
    assert_int_equal(loop_run_turn(rig->net->loop, rig->net->loop->now_ms + 1), 0);
    pump_out(rig);
  }
  assert_int_equal(rig->ends, 1);
  assert_int_equal(rig->read, total);
  assert_int_equal(rig->bad, 0);
}

static void moves(uint64_t total, int reading, bool spliced) {
  struct rig rig;
  rig_init(&rig, reading);
  struct loop *loop = rig.net->loop;
  kit_settle(loop);
  relay_start(&rig.relay, rig.src->c, rig.dst->c, total, on_end);
  run(&rig, total);
  assert_int_equal(rig.why, RELAY_DONE);
  assert_int_equal(rig.relay.moved, total);
  assert_int_equal(rig.relay.left, 0);
  assert_int_equal(rig.src->c->bytes_in, total);
  assert_int_equal(rig.dst->c->bytes_out, total);
  if (spliced)
    assert_true(loop->stats.spliced_bytes > total - total / 8);
  else
    assert_int_equal(loop->stats.spliced_bytes, 0);
  assert_int_equal(loop->iobufs.bytes_out, 0);
  /* both are their owners' again */
  conn_read_start(rig.src->c);
  kit_send(rig.a, "after", 5);
  KIT_UNTIL(loop, rig.src->got == 5);
  assert_memory_equal(rig.src->bytes, "after", 5);
  conn_read_start(rig.dst->c);
  kit_send(rig.b, "back", 4);
  KIT_UNTIL(loop, rig.dst->got == 4);
  rig_fini(&rig);
}

static void splices_64_mib(void **state) {
  (void)state;
  moves((uint64_t)64 << 20, 0, true);
}
static void splices_after_an_armed_multishot(void **state) {
  (void)state;
  moves((uint64_t)8 << 20, 2, true);
}
static void copies_small_bodies(void **state) {
  (void)state;
  moves(20000, 2, false);
}
static void moves_one_byte(void **state) {
  (void)state;
  moves(1, 2, false);
}

static void copies_large_bodies_without_pipes(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  struct loop *loop = rig.net->loop;
  struct loop_ops no_splice = *loop->ops;
  no_splice.splice = NULL;
  loop->ops = &no_splice;
  uint64_t total = (uint64_t)16 << 20;
  relay_start(&rig.relay, rig.src->c, rig.dst->c, total, on_end);
  run(&rig, total);
  assert_int_equal(rig.why, RELAY_DONE);
  assert_int_equal(loop->stats.copied_bytes, total);
  assert_int_equal(loop->iobufs.bytes_out, 0);
  rig_fini(&rig);
}

static void bytes_behind_the_body_stay(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  struct loop *loop = rig.net->loop;
  static char body[5000 + 9];
  for (size_t i = 0; i < 5000; i++) body[i] = (char)byte_at(i);
  memcpy(body + 5000, "next head", 9);
  kit_send(rig.a, body, sizeof(body));
  KIT_UNTIL(loop, conn_held(rig.src->c) == sizeof(body));
  relay_start(&rig.relay, rig.src->c, rig.dst->c, 5000, on_end);
  rig.written = 5000;
  run(&rig, 5000);
  assert_int_equal(conn_held(rig.src->c), 9);
  conn_read_start(rig.src->c);
  KIT_UNTIL(loop, rig.src->got == 9);
  assert_memory_equal(rig.src->bytes, "next head", 9);
  rig_fini(&rig);
}

static void zero_length_ends(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  assert_true(conn_write(rig.dst->c, SPAN_LIT("head")));
  relay_start(&rig.relay, rig.src->c, rig.dst->c, 0, on_end);
  assert_int_equal(rig.ends, 0);
  KIT_UNTIL(rig.net->loop, rig.ends == 1);
  assert_int_equal(rig.why, RELAY_DONE);
  assert_int_equal(conn_pending(rig.dst->c), 0);
  rig_fini(&rig);
}

static void tunnel_ends_at_eof(uint64_t total, bool expect_splice) {
  struct rig rig;
  rig_init(&rig, 2);
  struct loop *loop = rig.net->loop;
  relay_start(&rig.relay, rig.src->c, rig.dst->c, UINT64_MAX, on_end);
  while (rig.read < total) {
    pump_in(&rig, total);
    kit_turn(loop);
    pump_out(&rig);
  }
  shutdown(rig.a, SHUT_WR);
  run(&rig, total);
  assert_int_equal(rig.why, RELAY_SRC_EOF);
  assert_int_equal(rig.relay.moved, total);
  assert_int_equal(rig.relay.left, UINT64_MAX);
  assert_true((loop->stats.spliced_bytes > 0) == expect_splice);
  assert_int_equal(rig.src->eofs, 0); /* the relay's end told it */
  rig_fini(&rig);
}
static void quiet_tunnel(void **state) {
  (void)state;
  tunnel_ends_at_eof(3000, false);
}
static void bulk_tunnel(void **state) {
  (void)state;
  tunnel_ends_at_eof((uint64_t)16 << 20, true);
}

static void tunnel_falls_back_when_quiet(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  struct loop *loop = rig.net->loop;
  relay_start(&rig.relay, rig.src->c, rig.dst->c, UINT64_MAX, on_end);
  while (rig.read < (4u << 20)) {
    pump_in(&rig, 4u << 20);
    kit_turn(loop);
    pump_out(&rig);
  }
  uint64_t spliced = loop->stats.spliced_bytes;
  assert_true(spliced > 0);
  for (uint64_t i = 1; i <= 40; i++) {
    pump_in(&rig, (4u << 20) + i * 100);
    while (rig.read < (4u << 20) + i * 100) {
      kit_turn(loop);
      pump_out(&rig);
    }
  }
  assert_int_equal(rig.bad, 0);
  assert_true(loop->stats.spliced_bytes - spliced < 2000); /* then by copy */
  relay_stop(&rig.relay);
  rig_fini(&rig);
}

static void eof_before_the_length(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  relay_start(&rig.relay, rig.src->c, rig.dst->c, (uint64_t)1 << 20, on_end);
  while (rig.written < 300000) {
    pump_in(&rig, 300000);
    kit_turn(rig.net->loop);
    pump_out(&rig);
  }
  close(rig.a);
  rig.a = -1;
  run(&rig, 300000);
  assert_int_equal(rig.why, RELAY_SRC_EOF);
  assert_int_equal(rig.relay.left, ((uint64_t)1 << 20) - 300000);
  rig_fini(&rig);
}

static void src_reset(void **state) {
  (void)state;
  for (int large = 0; large < 2; large++) {
    struct rig rig;
    rig_init(&rig, 2);
    relay_start(&rig.relay, rig.src->c, rig.dst->c, large ? 1u << 20 : 20000, on_end);
    kit_turns(rig.net->loop, 4);
    kit_rst(rig.a);
    rig.a = -1;
    KIT_UNTIL(rig.net->loop, rig.ends == 1);
    assert_int_equal(rig.why, RELAY_SRC_ERROR);
    assert_int_equal(rig.err, -ECONNRESET);
    assert_int_equal(rig.src->errors, 0);
    rig_fini(&rig);
  }
}

/* What is watched, and was polled for a relay before, is broken behind bytes that nobody has read
 * yet: they come first. */
static void src_reset_behind_bytes(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  struct loop *loop = rig.net->loop;
  relay_start(&rig.relay, rig.src->c, rig.dst->c, UINT64_MAX, on_end);
  relay_watch(&rig.relay, 2500);
  for (int i = 0; i < 200; i++) {
    pump_in(&rig, (uint64_t)64 << 20);
    kit_turns(loop, 1);
  }
  relay_stop(&rig.relay);
  conn_watch(rig.src->c);
  kit_rst(rig.a);
  rig.a = -1;
  kit_settle(loop);
  assert_int_equal(rig.src->errors, 0);
  conn_read_start(rig.src->c);
  KIT_UNTIL(loop, rig.src->errors == 1);
  assert_int_equal(rig.src->err, -ECONNRESET);
  assert_true(rig.src->at_error > 0);
  rig_fini(&rig);
}

static void dst_reset(int kind) {
  struct rig rig;
  rig_init(&rig, 2);
  struct loop *loop = rig.net->loop;
  uint64_t len = kind == 0 ? (uint64_t)64 << 20 : UINT64_MAX;
  relay_start(&rig.relay, rig.src->c, rig.dst->c, len, on_end);
  for (int i = 0; i < 50; i++) {
    pump_in(&rig, (uint64_t)64 << 20);
    kit_turns(loop, 1);
    if (kind < 2) pump_out(&rig);
  }
  kit_rst(rig.b);
  rig.b = -1;
  for (int i = 0; i < 5000 && rig.ends == 0; i++) {
    pump_in(&rig, (uint64_t)64 << 20);
    assert_int_equal(loop_run_turn(loop, loop->now_ms + 1), 0);
  }
  assert_int_equal(rig.ends, 1);
  assert_int_equal(rig.why, RELAY_DST_ERROR);
  assert_int_equal(rig.dst->errors, 0);
  conn_close(rig.dst->c);
  conn_close(rig.src->c);
  kit_settle(loop);
  assert_int_equal(loop->iobufs.bytes_out, 0);
  rig_fini(&rig);
}
static void dst_reset_while_splicing(void **state) {
  (void)state;
  dst_reset(0);
}
static void dst_reset_in_a_tunnel(void **state) {
  (void)state;
  dst_reset(1);
}
static void dst_reset_while_it_blocks(void **state) {
  (void)state;
  dst_reset(2);
}

/* Two relays on the same two conns, each with spliced bytes for a side that is reset then: nobody
 * will read what either left, and both are told. */
static void both_ends_reset_while_splicing(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  struct loop *loop = rig.net->loop;
  struct rig back = {.net = rig.net, .a = rig.b, .b = rig.a};
  back.relay.owner = &back;
  uint64_t total = (uint64_t)64 << 20;
  relay_start(&rig.relay, rig.src->c, rig.dst->c, total, on_end);
  relay_start(&back.relay, rig.dst->c, rig.src->c, total, on_end);
  for (int i = 0; i < 2000; i++) {
    pump_in(&rig, total);
    pump_in(&back, total);
    kit_turns(loop, 1);
  }
  assert_true(rig.relay.in_pipe > 0 && back.relay.in_pipe > 0);
  kit_rst(rig.a);
  kit_rst(rig.b);
  rig.a = rig.b = -1;
  KIT_UNTIL(loop, rig.ends == 1 && back.ends == 1);
  assert_int_equal(rig.dst->errors + rig.src->errors, 0);
  rig_fini(&rig);
}

static void stop_midway(void **state) {
  (void)state;
  int before = kit_fds_open();
  for (int turns = 0; turns < 12; turns++) {
    struct rig rig;
    rig_init(&rig, turns % 2 ? 2 : 0);
    relay_start(&rig.relay, rig.src->c, rig.dst->c, (uint64_t)64 << 20, on_end);
    for (int i = 0; i < turns; i++) {
      pump_in(&rig, (uint64_t)64 << 20);
      kit_turns(rig.net->loop, 1);
    }
    relay_stop(&rig.relay);
    relay_stop(&rig.relay); /* twice does no harm */
    assert_false(relay_active(&rig.relay));
    if (turns % 3 == 0) conn_close(rig.src->c);
    conn_close(rig.dst->c);
    kit_settle(rig.net->loop);
    assert_int_equal(rig.ends, 0);
    rig_fini(&rig);
  }
  assert_int_equal(kit_fds_open(), before);
}

static void close_stops_the_relay(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  relay_start(&rig.relay, rig.src->c, rig.dst->c, (uint64_t)64 << 20, on_end);
  for (int i = 0; i < 10; i++) {
    pump_in(&rig, (uint64_t)64 << 20);
    kit_turns(rig.net->loop, 1);
  }
  conn_close(rig.src->c);
  assert_false(relay_active(&rig.relay));
  conn_close(rig.dst->c);
  kit_settle(rig.net->loop);
  assert_int_equal(rig.ends, 0);
  rig_fini(&rig);
}

/* A peer that does not read stops the whole path: memory stays bounded and nothing spins. */
static void slow_reader_pushes_back(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  struct loop *loop = rig.net->loop;
  relay_start(&rig.relay, rig.src->c, rig.dst->c, (uint64_t)64 << 20, on_end);
  for (int i = 0; i < 2000; i++) {
    pump_in(&rig, (uint64_t)64 << 20);
    kit_turns(loop, 1);
  }
  assert_true(rig.written < ((uint64_t)64 << 20));
  assert_int_equal(rig.relay.waits, RELAY_WAITS_DST);
  uint64_t turns = loop->stats.turns;
  uint64_t until = loop->now_ms + 100;
  while (loop->now_ms < until) assert_int_equal(loop_run_turn(loop, until), 0);
  assert_true(loop->stats.turns - turns < 30);
  assert_true(loop->iobufs.bytes < (1u << 20));
  run(&rig, (uint64_t)64 << 20); /* and goes on when it reads */
  rig_fini(&rig);
}

/* Two relays on the same two conns, large both ways. */
static void duplex(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  struct loop *loop = rig.net->loop;
  struct rig back = {.net = rig.net, .a = rig.b, .b = rig.a};
  back.relay.owner = &back;
  uint64_t total = (uint64_t)16 << 20;
  relay_start(&rig.relay, rig.src->c, rig.dst->c, UINT64_MAX, on_end);
  relay_start(&back.relay, rig.dst->c, rig.src->c, UINT64_MAX, on_end);
  bool shut = false;
  for (int i = 0; i < 100000 && !(rig.ends && back.ends); i++) {
    pump_in(&rig, total);
    pump_in(&back, total);
    assert_int_equal(loop_run_turn(loop, loop->now_ms + 1), 0);
    pump_out(&rig);
    pump_out(&back);
    if (!shut && rig.read == total && back.read == total) {
      shutdown(rig.a, SHUT_WR);
      shutdown(rig.b, SHUT_WR);
      shut = true;
    }
  }
  assert_int_equal(rig.read, total);
  assert_int_equal(back.read, total);
  assert_int_equal(rig.bad + back.bad, 0);
  assert_int_equal(rig.why, RELAY_SRC_EOF);
  assert_int_equal(back.why, RELAY_SRC_EOF);
  rig_fini(&rig);
}

/* The head goes out before the body, and body bytes that came with it are not lost. */
static void queued_head_goes_first(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 0);
  struct loop *loop = rig.net->loop;
  uint64_t total = (uint64_t)1 << 20;
  char head[1000];
  for (size_t i = 0; i < sizeof(head); i++) head[i] = (char)byte_at(i);
  assert_true(conn_write(rig.dst->c, span_of(head, sizeof(head))));
  rig.written = sizeof(head);
  relay_start(&rig.relay, rig.src->c, rig.dst->c, total - sizeof(head), on_end);
  run(&rig, total);
  assert_true(loop->stats.spliced_bytes > 0);
  rig_fini(&rig);
}

static void eof_behind_the_body_reaches_the_owner(void **state) {
  (void)state;
  struct rig rig;
  rig_init(&rig, 2);
  relay_start(&rig.relay, rig.src->c, rig.dst->c, 3000, on_end);
  pump_in(&rig, 3000);
  close(rig.a);
  rig.a = -1;
  run(&rig, 3000);
  assert_int_equal(rig.why, RELAY_DONE);
  conn_watch(rig.src->c);
  KIT_UNTIL(rig.net->loop, rig.src->eofs == 1);
  rig_fini(&rig);
}

/* ---- sends whose completion nobody waits for ---- */

#define FAR_MS 30000u

/* tunnel_rig is a rig with a tunnel that has moved something and is at rest. */
static void tunnel_rig(struct rig *rig) {
  rig_init(rig, 2);
  relay_start(&rig->relay, rig->src->c, rig->dst->c, UINT64_MAX, on_end);
  pump_in(rig, 100);
  kit_settle(rig->net->loop);
  pump_out(rig);
  assert_int_equal(rig->read, 100);
}

/* far_turn ends by a completion: a wait that only the clock would end is a stall. */
static void far_turn(struct loop *loop) {
  uint64_t until = loop->now_ms + FAR_MS;
  assert_int_equal(loop_run_turn(loop, until), 0);
  assert_true(loop->now_ms < until);
}

/* A message costs one completion, its receive, and is known to be sent when the next one comes. */
static void quiet_messages_complete_once(void **state) {
  (void)state;
  struct rig rig;
  tunnel_rig(&rig);
  struct loop *loop = rig.net->loop;
  uint64_t before = loop->stats.completions;
  for (uint64_t n = 2; n < 52; n++) {
    pump_in(&rig, n * 100);
    far_turn(loop); /* n came; the one before it is sent and settled */
    assert_true(conn_pending(rig.dst->c) <= 100);
  }
  assert_int_equal(loop->stats.completions - before, 50);
  kit_settle(loop);
  assert_int_equal(conn_pending(rig.dst->c), 0);
  while (rig.read < 5100) pump_out(&rig);
  assert_int_equal(rig.bad, 0);
  rig_fini(&rig);
}

/* A socket that takes only a part, or nothing: the rest goes when there is room, and the turn
 * which tried does not wait for anything else. */
static void quiet_messages_into_a_full_socket(void **state) {
  (void)state;
  struct rig rig;
  tunnel_rig(&rig);
  struct loop *loop = rig.net->loop;
  int small = 4096;
  setsockopt(rig.dst->c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  setsockopt(rig.b, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  uint64_t total = 100;
  for (int stuck = 0; stuck < 8; total += 700) {
    pump_in(&rig, total + 700);
    far_turn(loop);
    kit_turns(loop, 2);
    stuck = conn_pending(rig.dst->c) > 0 ? stuck + 1 : 0;
    assert_true(total < 1u << 24);
  }
  while (rig.read < total) {
    pump_out(&rig);
    kit_turn(loop);
  }
  assert_int_equal(rig.bad, 0);
  assert_int_equal(conn_pending(rig.dst->c), 0);
  rig_fini(&rig);
}

/* The end behind a message, in its turn or the next one, waits for no other event. */
static void an_end_behind_a_quiet_message(void **state) {
  (void)state;
  for (int apart = 0; apart < 2; apart++) {
    struct rig rig;
    tunnel_rig(&rig);
    struct loop *loop = rig.net->loop;
    pump_in(&rig, 200);
    if (apart) far_turn(loop);
    shutdown(rig.a, SHUT_WR);
    while (rig.ends == 0) far_turn(loop);
    assert_int_equal(rig.why, RELAY_SRC_EOF);
    pump_out(&rig);
    assert_int_equal(rig.read, 200);
    rig_fini(&rig);
  }
}

/* A relay that is stopped with a message under way: its owner hears when all is sent. */
static void a_quiet_message_that_its_owner_waits_for(void **state) {
  (void)state;
  struct rig rig;
  tunnel_rig(&rig);
  struct loop *loop = rig.net->loop;
  pump_in(&rig, 200);
  far_turn(loop); /* the send is given to the kernel by the turn that comes */
  relay_stop(&rig.relay);
  while (rig.dst->drained == 0) far_turn(loop);
  pump_out(&rig);
  assert_int_equal(rig.read, 200);
  rig_fini(&rig);
}

/* A send that fails is told at once. */
static void a_quiet_message_to_nobody(void **state) {
  (void)state;
  struct rig rig;
  tunnel_rig(&rig);
  struct loop *loop = rig.net->loop;
  pump_in(&rig, 200);
  far_turn(loop);
  assert_int_equal(shutdown(rig.dst->c->fd, SHUT_WR), 0); /* EPIPE from now on */
  far_turn(loop);
  assert_int_equal(conn_pending(rig.dst->c), 0);
  assert_int_equal(rig.ends, 0); /* what its peer has said is awaited */
  close(rig.b);
  rig.b = -1;
  while (rig.ends == 0) far_turn(loop);
  assert_int_equal(rig.why, RELAY_DST_ERROR);
  assert_int_equal(rig.err, -EPIPE);
  rig_fini(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splices_64_mib),
      cmocka_unit_test(splices_after_an_armed_multishot),
      cmocka_unit_test(copies_small_bodies),
      cmocka_unit_test(moves_one_byte),
      cmocka_unit_test(copies_large_bodies_without_pipes),
      cmocka_unit_test(bytes_behind_the_body_stay),
      cmocka_unit_test(zero_length_ends),
      cmocka_unit_test(quiet_tunnel),
      cmocka_unit_test(bulk_tunnel),
      cmocka_unit_test(tunnel_falls_back_when_quiet),
      cmocka_unit_test(eof_before_the_length),
      cmocka_unit_test(src_reset),
      cmocka_unit_test(src_reset_behind_bytes),
      cmocka_unit_test(dst_reset_while_splicing),
      cmocka_unit_test(dst_reset_in_a_tunnel),
      cmocka_unit_test(dst_reset_while_it_blocks),
      cmocka_unit_test(both_ends_reset_while_splicing),
      cmocka_unit_test(stop_midway),
      cmocka_unit_test(close_stops_the_relay),
      cmocka_unit_test(slow_reader_pushes_back),
      cmocka_unit_test(duplex),
      cmocka_unit_test(queued_head_goes_first),
      cmocka_unit_test(eof_behind_the_body_reaches_the_owner),
      cmocka_unit_test(quiet_messages_complete_once),
      cmocka_unit_test(quiet_messages_into_a_full_socket),
      cmocka_unit_test(an_end_behind_a_quiet_message),
      cmocka_unit_test(a_quiet_message_that_its_owner_waits_for),
      cmocka_unit_test(a_quiet_message_to_nobody),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
