/* test_pressure.c: bodies when the iobufs are short: they wait in their sockets, go on in order,
 * notice what they must, and nothing spins or is forgotten. Real ring, small pool; the test
 * borrows the pool's buffers itself, so that pressure comes and goes when it says so. */
#include "io_kit.h"
#include "weir/io/pressure.h"

#define LIMIT ((size_t)1 << 20)
#define LINKS 12
#define TOTAL ((uint64_t)600000)
#define WHOLE RELAY_SPLICE_MIN /* the least that is read in bulk */

/* link_ is a relay between two pairs. */
struct link_ {
  struct side *src, *dst;
  int a, b;
  struct relay relay;
  int ends, err;
  enum relay_end why;
  uint64_t read;
};

struct rig {
  struct net *net;
  struct loop_ops ops;
  struct link_ links[LINKS];
  struct iobuf *taken[64];
  int taken_count;
};

static void on_end(struct relay *r, enum relay_end why, int err) {
  struct link_ *l = r->owner;
  l->ends++;
  l->why = why;
  l->err = err;
}

static void shrink(int fd, int option) {
  int bytes = 8192;
  assert_int_equal(setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes)), 0);
}

static struct rig *rig_new(int links) {
  struct rig *rig = mem_alloc(sizeof(*rig));
  struct loop_config config = kit_config;
  config.iobuf_bytes_max = LIMIT;
  rig->net = kit_net_with(&config, 0);
  rig->ops = *rig->net->loop->ops;
  rig->ops.splice = NULL; /* bodies are copied, as they are under TLS */
  rig->net->loop->ops = &rig->ops;
  for (int i = 0; i < links; i++) {
    struct link_ *l = &rig->links[i];
    l->src = kit_pair(rig->net, &l->a);
    l->dst = kit_pair(rig->net, &l->b);
    kit_nonblock(l->a);
    kit_nonblock(l->b);
    shrink(l->dst->c->fd, SO_SNDBUF);
    l->relay.owner = l;
  }
  return rig;
}

static void rig_free(struct rig *rig, int links) {
  for (int i = 0; i < links; i++) {
    if (rig->links[i].a >= 0) close(rig->links[i].a);
    if (rig->links[i].b >= 0) close(rig->links[i].b);
  }
  assert_int_equal(rig->taken_count, 0);
  kit_net_free(rig->net);
  mem_free(rig);
}

static void fill(struct rig *rig) {
  struct iobufs *pool = &rig->net->loop->iobufs;
  while (!iobufs_full(pool)) {
    struct iobuf *b = iobuf_take(pool, 65536);
    assert_non_null(b);
    assert_true(rig->taken_count < 64);
    rig->taken[rig->taken_count++] = b;
  }
}

static void give(struct rig *rig, int count) {
  while (count-- > 0 && rig->taken_count > 0)
    iobuf_give(&rig->net->loop->iobufs, rig->taken[--rig->taken_count]);
}

static char bytes[65536];

static bool feed(struct link_ *l, uint64_t *written, uint64_t total) {
  size_t want = total - *written < sizeof(bytes) ? (size_t)(total - *written) : sizeof(bytes);
  ssize_t n = want ? send(l->a, bytes, want, MSG_NOSIGNAL) : 0;
  if (n > 0) *written += (uint64_t)n;
  return *written == total;
}

static void drink(struct link_ *l) {
  static char into[65536];
  ssize_t n = recv(l->b, into, sizeof(into), 0);
  if (n > 0) l->read += (uint64_t)n;
}

static bool parked(const struct link_ *l) { return (l->src->c->flags & CONN_PARKED) != 0; }

static void start(struct link_ *l, uint64_t total) {
  relay_start(&l->relay, l->src->c, l->dst->c, total, on_end);
}

/* start_parked starts a body while there is no buffer for it. */
static void start_parked(struct rig *rig, struct link_ *l, uint64_t total, size_t come) {
  start(l, total);
  kit_send(l->a, bytes, come);
  KIT_UNTIL(rig->net->loop, parked(l));
}

static void nothing_spins(struct rig *rig) {
  struct loop *loop = rig->net->loop;
  kit_settle(loop);
  uint64_t completions = loop->stats.completions, submits = loop->stats.submits;
  kit_turns(loop, 50);
  assert_int_equal(loop->stats.completions, completions);
  assert_int_equal(loop->stats.submits, submits);
}

/* All pass through a pool that has buffers for a few. */
static void all_complete(void **state) {
  (void)state;
  struct rig *rig = rig_new(LINKS);
  struct loop *loop = rig->net->loop;
  uint64_t written[LINKS] = {0};
  fill(rig);
  give(rig, 3);
  for (int i = 0; i < LINKS; i++) start(&rig->links[i], TOTAL);
  for (int i = 0; i < 2000; i++) { /* nobody reads: all stand still */
    for (int k = 0; k < LINKS; k++) (void)feed(&rig->links[k], &written[k], TOTAL);
    kit_turns(loop, 1);
  }
  assert_true(loop->stats.memory_waits > 0);
  assert_false(list_empty(&loop->parked));
  nothing_spins(rig);
  int done = 0;
  for (int i = 0; i < 200000 && done < LINKS; i++) {
    done = 0;
    for (int k = 0; k < LINKS; k++) {
      (void)feed(&rig->links[k], &written[k], TOTAL);
      drink(&rig->links[k]);
      done += rig->links[k].ends == 1 && rig->links[k].read == TOTAL;
    }
    assert_int_equal(loop_run_turn(loop, loop->now_ms + 1), 0);
  }
  assert_int_equal(done, LINKS);
  for (int k = 0; k < LINKS; k++) assert_int_equal(rig->links[k].why, RELAY_DONE);
  assert_true(list_empty(&loop->parked));
  give(rig, 64);
  assert_int_equal(loop->iobufs.bytes_out, 0);
  rig_free(rig, LINKS);
}

static void in_order_of_arrival(void **state) {
  (void)state;
  struct rig *rig = rig_new(4);
  struct loop *loop = rig->net->loop;
  fill(rig);
  static const int order[] = {2, 0, 3, 1};
  for (int i = 0; i < 4; i++) start_parked(rig, &rig->links[order[i]], TOTAL, 1000);
  nothing_spins(rig);
  for (int i = 0; i < 4; i++) {
    assert_ptr_equal(loop->parked.next, &rig->links[order[i]].src->c->starved_link);
    give(rig, 1);
    KIT_UNTIL(loop, rig->links[order[i]].relay.moved == 1000);
    fill(rig);
    for (int k = i + 1; k < 4; k++) assert_true(parked(&rig->links[order[k]]));
  }
  give(rig, 64);
  kit_settle(loop);
  rig_free(rig, 4);
}

/* A body that comes while others wait queues behind them, also when a buffer is free just then. */
static void nobody_overtakes(void **state) {
  (void)state;
  struct rig *rig = rig_new(2);
  struct loop *loop = rig->net->loop;
  fill(rig);
  start_parked(rig, &rig->links[0], TOTAL, 1000);
  start(&rig->links[1], TOTAL);
  kit_settle(loop);
  kit_send(rig->links[1].a, bytes, 1000);
  usleep(1000);
  give(rig, 64);
  KIT_UNTIL(loop, rig->links[1].relay.moved == 1000);
  assert_int_equal(rig->links[0].relay.moved, 1000);
  assert_true(rig->links[0].relay.progress_ms <= rig->links[1].relay.progress_ms);
  kit_settle(loop);
  rig_free(rig, 2);
}

/* A reset that leaves too little ends a parked body at once; what can be whole waits its turn. */
static void resets_are_noticed(void **state) {
  (void)state;
  struct rig *rig = rig_new(2);
  struct loop *loop = rig->net->loop;
  fill(rig);
  start_parked(rig, &rig->links[0], TOTAL, 1000);
  start_parked(rig, &rig->links[1], WHOLE, WHOLE);
  for (int i = 0; i < 2; i++) {
    kit_rst(rig->links[i].a);
    rig->links[i].a = -1;
  }
  KIT_UNTIL(loop, rig->links[0].ends == 1);
  assert_int_equal(rig->links[0].why, RELAY_SRC_ERROR);
  assert_int_equal(rig->links[0].err, -ECONNRESET);
  kit_settle(loop);
  assert_int_equal(rig->links[1].ends, 0);
  give(rig, 64);
  KIT_UNTIL(loop, rig->links[1].ends == 1);
  assert_int_equal(rig->links[1].why, RELAY_DONE);
  assert_int_equal(rig->links[1].relay.moved, WHOLE);
  rig_free(rig, 2);
}

static void an_end_without_bytes_is_told_at_once(void **state) {
  (void)state;
  struct rig *rig = rig_new(1);
  struct link_ *l = &rig->links[0];
  start(l, TOTAL);
  kit_settle(rig->net->loop);
  fill(rig);
  assert_int_equal(shutdown(l->a, SHUT_WR), 0);
  KIT_UNTIL(rig->net->loop, l->ends == 1);
  assert_int_equal(l->why, RELAY_SRC_EOF);
  give(rig, 64);
  rig_free(rig, 1);
}

static void parked_ones_may_be_closed(void **state) {
  (void)state;
  struct rig *rig = rig_new(3);
  struct loop *loop = rig->net->loop;
  fill(rig);
  for (int i = 0; i < 3; i++) start_parked(rig, &rig->links[i], TOTAL, 1000);
  uint32_t live = loop->conns.live;
  conn_close(rig->links[1].src->c);
  relay_stop(&rig->links[0].relay);
  conn_reset(rig->links[0].src->c);
  kit_settle(loop);
  assert_int_equal(loop->conns.live, live - 2);
  give(rig, 64);
  KIT_UNTIL(loop, rig->links[2].relay.moved == 1000);
  assert_true(list_empty(&loop->parked));
  rig_free(rig, 3);
}

/* A body of messages (a quiet tunnel) is not held up, and does not pile up. */
static void small_messages_pass(void **state) {
  (void)state;
  struct rig *rig = rig_new(1);
  struct link_ *l = &rig->links[0];
  fill(rig);
  start(l, UINT64_MAX);
  char got[8];
  bool eof;
  for (int i = 0; i < 20; i++) {
    kit_send(l->a, "ping", 4);
    assert_int_equal(kit_recv(rig->net->loop, l->b, got, 4, &eof), 4);
  }
  assert_int_equal(l->ends, 0);
  give(rig, 64);
  rig_free(rig, 1);
}

/* Who talks while nobody listens is held once, not 16 KiB of it, when half is borrowed. */
static void holds_little_under_pressure(void **state) {
  (void)state;
  struct rig *rig = rig_new(1);
  struct link_ *l = &rig->links[0];
  fill(rig);
  conn_watch(l->src->c);
  for (int i = 0; i < 10; i++) {
    (void)send(l->a, bytes, 2000, MSG_NOSIGNAL);
    kit_settle(rig->net->loop);
  }
  assert_true(conn_held(l->src->c) > 0 && conn_held(l->src->c) <= 4096);
  give(rig, 64);
  conn_read_start(l->src->c);
  KIT_UNTIL(rig->net->loop, l->src->got == 20000);
  rig_free(rig, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_complete),
      cmocka_unit_test(in_order_of_arrival),
      cmocka_unit_test(nobody_overtakes),
      cmocka_unit_test(resets_are_noticed),
      cmocka_unit_test(an_end_without_bytes_is_told_at_once),
      cmocka_unit_test(parked_ones_may_be_closed),
      cmocka_unit_test(small_messages_pass),
      cmocka_unit_test(holds_little_under_pressure),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
