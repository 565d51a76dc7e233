/* Conns without a socket (carried.h): events, holding, output and its order, relays, half-close,
 * gentle close, reset, failure; before a carrier that keeps what it is given. */
#include "io_kit.h"
#include "weir/io/carried.h"

/* tray is a carrier's side of one carried conn. */
struct tray {
  struct carried what;
  struct span offered; /* by send, not taken yet */
  bool offered_fin;
  char sent[8192];
  size_t sent_len, read;
  int finished, gone;
  enum carried_end how;
};

static struct tray *tray_of(struct carried *what) { return container_of(what, struct tray, what); }

static void tray_send(struct carried *what, struct span bytes, bool fin) {
  struct tray *t = tray_of(what);
  assert_int_equal(t->offered.len, 0); /* one at a time */
  t->offered = bytes;
  t->offered_fin = fin;
}
static void tray_finish(struct carried *what) {
  assert_int_equal(tray_of(what)->offered.len, 0);
  tray_of(what)->finished++;
}
static void tray_read(struct carried *what, size_t n) { tray_of(what)->read += n; }
static void tray_gone(struct carried *what, enum carried_end how) {
  struct tray *t = tray_of(what);
  t->gone++;
  t->how = how;
  t->offered = SPAN_EMPTY;
}
static uint64_t tray_taken(struct carried *what) { return tray_of(what)->sent_len; }

static const struct carrier_ops tray_ops = {
    .send = tray_send,
    .finish = tray_finish,
    .read = tray_read,
    .gone = tray_gone,
    .taken = tray_taken,
};

/* tray_pull takes up to n bytes of what is offered. */
static void tray_pull(struct tray *t, size_t n) {
  struct span part = span_sub(t->offered, 0, n < t->offered.len ? n : t->offered.len);
  memcpy(t->sent + t->sent_len, part.ptr, part.len);
  t->sent_len += part.len;
  t->offered = SPAN_EMPTY; /* what is left comes again */
  conn_carried_sent(t->what.conn, part.len);
}

static void tray_open(struct loop *loop, struct tray *t, struct side *owner) {
  *t = (struct tray){.what = {.ops = &tray_ops}};
  struct conn *c = conn_carry(loop, &t->what, true);
  assert_non_null(c);
  conn_attach(c, &kit_events, owner);
  owner->c = c;
}

static void sent_is(const struct tray *t, const char *text) {
  assert_int_equal(t->sent_len, strlen(text));
  assert_memory_equal(t->sent, text, t->sent_len);
}

static void data_goes_up_and_is_held(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct tray t;
  struct side up = {0};
  tray_open(loop, &t, &up);
  conn_read_start(up.c);
  conn_carried_data(up.c, SPAN_LIT("hello"));
  assert_int_equal(up.got, 5);
  assert_int_equal(t.read, 5);
  up.take_max = 2;
  conn_carried_data(up.c, SPAN_LIT("abcdef"));
  assert_int_equal(up.got, 7);
  assert_int_equal(conn_held(up.c), 4);
  conn_carried_data(up.c, SPAN_LIT("gh")); /* not reading: held behind them */
  conn_carried_eof(up.c);
  assert_int_equal(up.eofs, 1);
  assert_int_equal(t.read, 7);
  up.take_max = 0;
  conn_read_start(up.c);
  kit_turns(loop, 2);
  assert_int_equal(up.got, 13);
  assert_memory_equal(up.bytes, "helloabcdefgh", 13);
  assert_int_equal(t.read, 13);
  conn_close(up.c);
  assert_int_equal(t.gone, 1);
  assert_int_equal(t.how, CARRIED_CLOSED);
  loop_free(loop);
}

static void output_goes_in_pieces(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct tray t;
  struct side up = {0};
  tray_open(loop, &t, &up);
  assert_true(conn_write(up.c, SPAN_LIT("one ")));
  assert_true(conn_write(up.c, SPAN_LIT("two ")));
  assert_int_equal(t.offered.len, 0); /* at the end of the turn */
  kit_turns(loop, 1);
  assert_int_equal(t.offered.len, 8);
  assert_true(conn_write(up.c, SPAN_LIT("three"))); /* behind a send in flight */
  conn_finish(up.c);
  tray_pull(&t, 5);
  assert_int_equal(t.offered.len, 3);
  assert_false(t.offered_fin);
  assert_int_equal(conn_pending(up.c), 8);
  tray_pull(&t, 100);
  kit_turns(loop, 1);
  assert_int_equal(t.offered.len, 5);
  assert_true(t.offered_fin);
  assert_int_equal(up.drained + t.finished, 0);
  tray_pull(&t, 100);
  assert_int_equal(t.finished, 1);
  assert_int_equal(up.drained, 1);
  sent_is(&t, "one two three");
  conn_carried_data(up.c, SPAN_LIT("still"));
  conn_close(up.c);
  assert_int_equal(t.how, CARRIED_FINISHED);
  loop_free(loop);
}

static void ends(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct tray t[4];
  struct side up[4] = {0};
  for (int i = 0; i < 4; i++) tray_open(loop, &t[i], &up[i]);
  uint32_t before = loop->conns.live;
  for (int i = 0; i < 4; i++) assert_true(conn_write(up[i].c, SPAN_LIT("last words")));
  conn_reset(up[0].c);
  assert_int_equal(t[0].how, CARRIED_RESET);
  conn_carried_fail(up[1].c, -ECONNRESET);
  assert_int_equal(up[1].errors, 1);
  conn_close(up[1].c);
  assert_int_equal(t[1].how, CARRIED_CLOSED);
  conn_carried_eof(up[2].c); /* gently, the other side has ended: gone once all is sent */
  conn_close_gently(up[2].c, 1000);
  conn_close_gently(up[3].c, 1000);
  kit_turns(loop, 1);
  for (int i = 2; i < 4; i++) tray_pull(&t[i], 100);
  assert_int_equal(t[2].finished + t[3].finished, 2);
  assert_int_equal(t[2].gone, 1);
  assert_int_equal(t[2].how, CARRIED_FINISHED);
  assert_int_equal(t[3].gone, 0);
  conn_carried_data(t[3].what.conn, SPAN_LIT("too late")); /* dropped, and not owed */
  assert_int_equal(t[3].read, 8);
  conn_carried_eof(t[3].what.conn);
  assert_int_equal(t[3].gone, 1);
  kit_turns(loop, 1);
  assert_int_equal(loop->conns.live, before - 4);
  loop_free(loop);
}

/* Closed gently with nothing to send, and the other side ends in this turn: our end is owed. */
static void ends_when_the_other_side_does(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct tray t;
  struct side up = {0};
  tray_open(loop, &t, &up);
  conn_close_gently(up.c, 1000);
  conn_carried_eof(up.c);
  assert_int_equal(t.gone, 0);
  kit_turns(loop, 1);
  assert_int_equal(t.finished, 1);
  assert_int_equal(t.gone, 1);
  assert_int_equal(t.how, CARRIED_FINISHED);
  loop_free(loop);
}

static void closed_with_a_send_in_flight(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct tray t;
  struct side up = {0};
  tray_open(loop, &t, &up);
  assert_true(conn_write(up.c, SPAN_LIT("never")));
  kit_turns(loop, 1);
  assert_int_equal(t.offered.len, 5);
  conn_close(up.c);
  assert_int_equal(t.gone, 1);
  kit_turns(loop, 1);
  assert_int_equal(loop->conns.live, 0);
  assert_int_equal(loop->iobufs.bytes_out, 0);
  loop_free(loop);
}

/* ---- an end that meets what was held ---- */

static size_t answer_and_go(struct conn *c, struct span bytes) {
  assert_true(conn_write(c, SPAN_LIT("an answer")));
  conn_close_gently(c, 1000);
  return bytes.len;
}

/* Its owner reads on, but has not been given yet what was held, when the stream fails: it hears
 * that first, and may be done with it then. Nobody is there for its answer, or hears of an error:
 * it is gone at once. Who ends a connection waits until all its streams are. */
static void fails_when_what_was_held_ends_it(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct tray t;
  struct side up = {0};
  struct conn_events going = kit_events;
  going.on_data = answer_and_go;
  tray_open(loop, &t, &up);
  conn_attach(up.c, &going, &up);
  conn_carried_data(up.c, SPAN_LIT("a body"));
  conn_read_start(up.c);
  assert_int_equal(conn_held(up.c), 6);
  conn_carried_fail(up.c, -ECONNRESET);
  assert_int_equal(up.errors, 0);
  assert_int_equal(t.gone, 1);
  kit_turns(loop, 1);
  assert_int_equal(loop->conns.live, 0);
  assert_int_equal(loop->iobufs.bytes_out, 0);
  loop_free(loop);
}

static int relay_ended;
static void on_end(struct relay *r, enum relay_end why, int err) {
  (void)r;
  assert_int_equal(why, RELAY_DONE);
  assert_int_equal(err, 0);
  relay_ended++;
}

static void on_eof_end(struct relay *r, enum relay_end why, int err) {
  (void)r;
  assert_int_equal(why, RELAY_SRC_EOF);
  assert_int_equal(err, 0);
  relay_ended++;
}

/* From one carried conn to another, more than splice begins at: always by copy. */
static void relays(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct tray from, to;
  struct side a = {0}, b = {0};
  tray_open(loop, &from, &a);
  tray_open(loop, &to, &b);
  struct relay r = {0};
  enum { PIECE = 1000, PIECES = 100 };
  relay_start(&r, a.c, b.c, PIECE * PIECES, on_end);
  char piece[PIECE];
  memset(piece, 'p', sizeof(piece));
  for (int i = 0; i < PIECES; i++) {
    conn_carried_data(a.c, span_of(piece, sizeof(piece)));
    kit_turns(loop, 1);
    to.sent_len = 0;
    if (to.offered.len) tray_pull(&to, 700);
  }
  for (int i = 0; i < 200 && !relay_ended; i++) {
    kit_turns(loop, 1);
    to.sent_len = 0;
    if (to.offered.len) tray_pull(&to, 8000);
  }
  assert_int_equal(relay_ended, 1);
  assert_int_equal(from.read, PIECE * PIECES);
  conn_close(a.c);
  conn_close(b.c);
  loop_free(loop);
}

/* All has come, and its end, before anything is read: more than a relay passes on at once. */
static void relays_what_was_held_with_its_end(void **state) {
  (void)state;
  for (int known = 0; known < 2; known++) {
    struct loop *loop = kit_loop();
    struct tray from, to;
    struct side a = {0}, b = {0};
    tray_open(loop, &from, &a);
    tray_open(loop, &to, &b);
    struct relay r = {0};
    enum { PIECE = 15000, SIZE = 20 * PIECE };
    static const char piece[PIECE];
    for (int i = 0; i < SIZE / PIECE; i++) conn_carried_data(a.c, span_of(piece, PIECE));
    conn_carried_eof(a.c);
    assert_int_equal(a.errors, 0);
    relay_ended = 0;
    relay_start(&r, a.c, b.c, known ? SIZE : UINT64_MAX, known ? on_end : on_eof_end);
    size_t sent = 0;
    for (int i = 0; i < 400 && !relay_ended; i++) {
      kit_turns(loop, 1);
      to.sent_len = 0;
      if (to.offered.len) tray_pull(&to, 7000);
      sent += to.sent_len;
    }
    assert_int_equal(relay_ended, 1);
    assert_int_equal(sent, SIZE);
    conn_close(a.c);
    conn_close(b.c);
    loop_free(loop);
  }
}

/* ---- the carrier runs last in a turn ---- */

static char order[16];
static void on_flush(struct conn *c) {
  (void)c;
  strcat(order, "f");
}
static void noting_send(struct carried *what, struct span bytes, bool fin) {
  tray_send(what, bytes, fin);
  strcat(order, "s");
  conn_flush(what->carrier);
}

static void carrier_is_flushed_last(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer = kit_dial(&net->at);
  KIT_UNTIL(net->loop, net->accepted == 1);
  struct conn *real = net->sides[0]->c;
  struct conn_events events = kit_events;
  events.on_flush = on_flush;
  conn_attach(real, &events, net->sides[0]);
  conn_carries(real);
  struct carrier_ops ops = tray_ops;
  ops.send = noting_send;
  struct tray t[2];
  struct side up[2] = {0};
  for (int i = 0; i < 2; i++) {
    tray_open(net->loop, &t[i], &up[i]);
    t[i].what.ops = &ops;
    t[i].what.carrier = real;
  }
  conn_flush(real); /* before them */
  for (int i = 0; i < 2; i++) assert_true(conn_write(up[i].c, SPAN_LIT("x")));
  struct addr of_real, of_carried;
  assert_true(conn_peer(real, &of_real));
  assert_true(conn_peer(up[0].c, &of_carried));
  assert_int_equal(addr_port(&of_real), addr_port(&of_carried));
  kit_turns(net->loop, 1);
  assert_string_equal(order, "ssf");
  for (int i = 0; i < 2; i++) conn_close(up[i].c);
  close(peer);
  kit_settle(net->loop);
  kit_net_free(net);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(data_goes_up_and_is_held), cmocka_unit_test(output_goes_in_pieces),
      cmocka_unit_test(ends),                     cmocka_unit_test(closed_with_a_send_in_flight),
      cmocka_unit_test(ends_when_the_other_side_does),
      cmocka_unit_test(relays),                   cmocka_unit_test(carrier_is_flushed_last),
      cmocka_unit_test(relays_what_was_held_with_its_end),
      cmocka_unit_test(fails_when_what_was_held_ends_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
