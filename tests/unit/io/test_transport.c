/* test_transport.c: what a transport may rely on, with a toy one on the real ring: wire bytes are
 * plaintext XOR 0x55, one byte 0xff opens it, 0x01 ends it. */
#include "io_kit.h"

#include "io/io_priv.h"

#define HELLO ((char)0xff)
#define BYE ((char)0x01)

static int frees, wire_eofs;

static size_t toy_in(struct conn *c, struct span wire) {
  size_t at = 0;
  if (!conn_any(c, CONN_OPEN)) {
    if (wire.ptr[0] != HELLO) {
      conn_opened(c, -EPROTO);
      return wire.len;
    }
    conn_opened(c, 0);
    at = 1;
  }
  char plain[1024];
  while (at < wire.len && conn_wants(c)) {
    size_t n = 0;
    bool bye = false;
    for (; at < wire.len && n < sizeof(plain) && !bye; at++) {
      bye = wire.ptr[at] == BYE;
      if (!bye) plain[n++] = (char)(wire.ptr[at] ^ 0x55);
    }
    conn_deliver(c, span_of(plain, n));
    if (conn_any(c, CONN_CLOSING)) return wire.len;
    if (bye) {
      conn_peer_done(c);
      return wire.len;
    }
  }
  return at;
}
static void toy_eof(struct conn *c) {
  wire_eofs++;
  conn_fail(c, -ECONNABORTED);
}
static void toy_write(struct conn *c, struct span plain) {
  struct buf *b = conn_wire(c, plain.len);
  assert_non_null(b);
  for (size_t i = 0; i < plain.len; i++) buf_char(b, (char)(plain.ptr[i] ^ 0x55));
}
static void toy_finish(struct conn *c) {
  struct buf *b = conn_wire(c, 1);
  assert_non_null(b);
  buf_char(b, BYE);
}
static void toy_resume(struct conn *c) { (void)c; }
static void toy_free(struct conn *c) {
  (void)c;
  frees++;
}
static const struct transport toy = {toy_in, toy_eof,    toy_write, toy_finish,
                                     NULL,   toy_resume, toy_free,  NULL};

static struct side *toy_pair(struct net *net, int *peer) {
  struct side *s = kit_pair(net, peer);
  conn_transport(s->c, &toy);
  assert_false(s->c->flags & CONN_OPEN);
  return s;
}

static void xor_all(char *bytes, size_t len) {
  for (size_t i = 0; i < len; i++) bytes[i] ^= 0x55;
}

static void stacks(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = toy_pair(net, &peer);
  frees = wire_eofs = 0;
  s->echo = true;
  char bytes[] = "\377hello";
  xor_all(bytes + 1, 5);
  kit_send(peer, bytes, 6);
  KIT_UNTIL(net->loop, s->opened == 1);
  assert_int_equal(s->open_err, 0);
  kit_settle(net->loop);
  assert_int_equal(s->got, 0); /* open, but nobody reads yet */
  assert_int_equal(conn_held(s->c), 5);
  conn_read_start(s->c);
  KIT_UNTIL(net->loop, s->got == 5);
  assert_memory_equal(s->bytes, "hello", 5);
  char got[8];
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, 5, &eof), 5);
  xor_all(got, 5);
  assert_memory_equal(got, "hello", 5);
  assert_int_equal(s->c->bytes_in, 5);
  assert_int_equal(s->c->bytes_out, 5);
  kit_settle(net->loop);
  assert_int_equal(net->loop->iobufs.bytes_out, 0);
  const char bye = BYE;
  kit_send(peer, &bye, 1);
  KIT_UNTIL(net->loop, s->eofs == 1);
  conn_finish(s->c);
  assert_int_equal(kit_recv(net->loop, peer, got, 8, &eof), 1);
  assert_int_equal(got[0], BYE);
  assert_true(eof);
  close(peer);
  kit_settle(net->loop);
  assert_int_equal(wire_eofs, 0); /* a FIN behind the end says nothing new */
  conn_close(s->c);
  kit_settle(net->loop);
  assert_int_equal(frees, 1);
  assert_int_equal(s->eofs, 1);
  kit_net_free(net);
}

static void order_of_out_and_write_is_kept(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = toy_pair(net, &peer);
  const char hello = HELLO;
  kit_send(peer, &hello, 1);
  KIT_UNTIL(net->loop, s->opened == 1);
  struct buf *out = conn_out(s->c, 10);
  assert_non_null(out);
  buf_lit(out, "first ");
  conn_flush(s->c);
  assert_true(conn_write(s->c, SPAN_LIT("second ")));
  out = conn_out(s->c, 10);
  assert_non_null(out);
  buf_lit(out, "third");
  conn_flush(s->c);
  char got[18];
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, 18, &eof), 18);
  xor_all(got, 18);
  assert_memory_equal(got, "first second third", 18);
  close(peer);
  kit_net_free(net);
}

static void truncation_is_an_error_behind_the_bytes(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = toy_pair(net, &peer);
  const char hello = HELLO;
  kit_send(peer, &hello, 1);
  KIT_UNTIL(net->loop, s->opened == 1);
  static char bytes[60000]; /* more than is taken while nobody reads */
  memset(bytes, 'a' ^ 0x55, sizeof(bytes));
  kit_send(peer, bytes, sizeof(bytes));
  close(peer);
  conn_watch(s->c);
  kit_settle(net->loop);
  assert_int_equal(s->errors, 0); /* held: the end is not known yet */
  for (int i = 0; i < 100 && s->got < sizeof(bytes); i++) {
    conn_read_start(s->c);
    kit_turns(net->loop, 2);
  }
  assert_int_equal(s->got, sizeof(bytes));
  KIT_UNTIL(net->loop, s->errors == 1);
  assert_int_equal(s->err, -ECONNABORTED);
  assert_int_equal(s->eofs, 0);
  kit_net_free(net);
}

static void failed_handshake_is_on_open(void **state) {
  (void)state;
  for (int how = 0; how < 2; how++) {
    struct net *net = kit_net(0);
    int peer;
    struct side *s = toy_pair(net, &peer);
    kit_settle(net->loop);
    if (how == 0) {
      kit_send(peer, "x", 1);
    } else {
      kit_rst(peer);
    }
    KIT_UNTIL(net->loop, s->opened == 1);
    assert_int_equal(s->open_err, how == 0 ? -EPROTO : -ECONNRESET);
    assert_int_equal(s->errors, 0);
    conn_close_gently(s->c, 50);
    if (how == 0) close(peer);
    KIT_UNTIL(net->loop, net->loop->conns.live == 1);
    kit_net_free(net);
  }
}

/* Plaintext that nobody takes is held without a bound of one buffer, and comes back in order. */
static void delivers_megabytes_that_were_held(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = toy_pair(net, &peer);
  const char hello = HELLO;
  kit_send(peer, &hello, 1);
  KIT_UNTIL(net->loop, s->opened == 1);
  static char piece[50000];
  uint64_t sum = 0;
  for (size_t k = 0; k < 20; k++) {
    for (size_t i = 0; i < sizeof(piece); i++) piece[i] = (char)(i * 3 + k);
    sum = kit_sum(sum, k * sizeof(piece), piece, sizeof(piece));
    conn_deliver(s->c, span_of(piece, sizeof(piece)));
  }
  assert_int_equal(conn_held(s->c), 1000000);
  conn_read_start(s->c);
  KIT_UNTIL(net->loop, s->got == 1000000);
  assert_true(s->sum == sum);
  assert_int_equal(net->loop->iobufs.bytes_out, 0);
  close(peer);
  kit_net_free(net);
}

/* Relays through it copy, both ways, small and large. */
static int ends;
static void on_end(struct relay *r, enum relay_end why, int err) {
  (void)r;
  assert_int_equal(err, 0);
  assert_int_equal(why, RELAY_DONE);
  ends++;
}

static void relays(void **state) {
  (void)state;
  for (int way = 0; way < 2; way++) {
    struct net *net = kit_net(0);
    int a, b;
    struct side *plain = kit_pair(net, &a);
    struct side *coded = toy_pair(net, &b);
    const char hello = HELLO;
    kit_send(b, &hello, 1);
    KIT_UNTIL(net->loop, coded->opened == 1);
    struct relay r = {0};
    ends = 0;
    const size_t total = 3000000;
    struct side *src = way ? coded : plain, *dst = way ? plain : coded;
    int in = way ? b : a, out = way ? a : b;
    kit_nonblock(in);
    relay_start(&r, src->c, dst->c, total, on_end);
    static char bytes[30000], got[65536];
    memset(bytes, 'k', sizeof(bytes));
    size_t sent = 0, seen = 0;
    for (int i = 0; i < 100000 && seen < total; i++) {
      size_t want = total - sent < sizeof(bytes) ? total - sent : sizeof(bytes);
      ssize_t n = want ? send(in, bytes, want, MSG_NOSIGNAL) : 0;
      if (n > 0) sent += (size_t)n;
      kit_turns(net->loop, 1);
      n = recv(out, got, sizeof(got), MSG_DONTWAIT);
      for (ssize_t k = 0; k < n; k++) assert_int_equal(got[k], 'k' ^ 0x55);
      if (n > 0) seen += (size_t)n;
    }
    assert_int_equal(seen, total);
    KIT_UNTIL(net->loop, ends == 1);
    assert_int_equal(net->loop->stats.spliced_bytes, 0);
    assert_int_equal(net->loop->iobufs.bytes_out, 0);
    close(a);
    close(b);
    kit_net_free(net);
  }
}

/* cut is a relay from a coded conn whose peer resets it to a plain one whose peer reads late. */
struct cut {
  struct net *net;
  struct side *coded, *plain;
  struct relay relay;
  int in, out; /* the raw peers */
  uint64_t written, sum;
  int ends, err;
  enum relay_end why;
};

static void on_cut(struct relay *r, enum relay_end why, int err) {
  struct cut *cut = r->owner;
  cut->ends++;
  cut->why = why;
  cut->err = err;
}

static void cut_init(struct cut *cut) {
  const char hello = HELLO;
  *cut = (struct cut){.net = kit_net(0), .relay.owner = cut};
  cut->plain = kit_pair(cut->net, &cut->out);
  cut->coded = toy_pair(cut->net, &cut->in);
  kit_send(cut->in, &hello, 1);
  KIT_UNTIL(cut->net->loop, cut->coded->opened == 1);
  relay_start(&cut->relay, cut->coded->c, cut->plain->c, UINT64_MAX, on_cut);
  relay_watch(&cut->relay, 2500);
}

/* cut_comes: what receives of one turn bring. */
static void cut_comes(struct cut *cut, size_t len) {
  char bytes[4096];
  for (size_t left = len; left > 0;) {
    size_t n = left < sizeof(bytes) ? left : sizeof(bytes);
    for (size_t i = 0; i < n; i++) bytes[i] = (char)('a' + (cut->written + i) % 23);
    cut->sum = kit_sum(cut->sum, (size_t)cut->written, bytes, n);
    cut->written += n;
    xor_all(bytes, n);
    rx_bytes(cut->coded->c, span_of(bytes, n));
    left -= n;
  }
}

/* What came before a reset is passed on before the end, decoded yet or not. */
static void a_reset_behind_coded_bytes_takes_none_of_them(void **state) {
  static const size_t sizes[] = {1, 1000, 81920, 100000, 200000};
  (void)state;
  for (size_t k = 0; k < array_count(sizes); k++) {
    struct cut cut;
    cut_init(&cut);
    kit_settle(cut.net->loop);
    cut_comes(&cut, sizes[k]);
    assert_int_equal(cut.coded->c->rx != NULL, sizes[k] > 65536 + CONN_HELD_MAX);
    rx_fail(cut.coded->c, -ECONNRESET);
    assert_true(relay_lasts(&cut.relay));
    static char got[65536];
    uint64_t sum = 0, read = 0;
    for (int i = 0; i < 100000 && cut.ends == 0; i++) {
      assert_int_equal(loop_run_turn(cut.net->loop, cut.net->loop->now_ms + 1), 0);
      ssize_t n = recv(cut.out, got, sizeof(got), MSG_DONTWAIT);
      if (n <= 0) continue;
      sum = kit_sum(sum, (size_t)read, got, (size_t)n);
      read += (uint64_t)n;
    }
    assert_int_equal(cut.ends, 1);
    assert_int_equal(read, cut.written);
    assert_true(sum == cut.sum);
    assert_int_equal(cut.why, RELAY_SRC_ERROR);
    assert_int_equal(cut.err, -ECONNRESET);
    conn_close(cut.coded->c);
    close(cut.in);
    close(cut.out);
    kit_net_free(cut.net);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(stacks),
      cmocka_unit_test(order_of_out_and_write_is_kept),
      cmocka_unit_test(truncation_is_an_error_behind_the_bytes),
      cmocka_unit_test(failed_handshake_is_on_open),
      cmocka_unit_test(delivers_megabytes_that_were_held),
      cmocka_unit_test(relays),
      cmocka_unit_test(a_reset_behind_coded_bytes_takes_none_of_them),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
