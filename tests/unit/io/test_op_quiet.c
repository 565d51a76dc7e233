/* test_op_quiet.c: sends of the ring that post no completion, where telling of them has to be put
 * off: the kernel did not take their entries, or what it has to say of them waits where it cannot
 * be seen. Calls of liburing that submit go through here and can refuse, as those of a kernel that
 * is short of memory do. What such sends do otherwise is in test_relay.c. */
#include "io_kit.h"

#include "io/io_priv.h"

struct io_uring;

#define FAR_MS 30000u
/* A ring of SMALL_RING submissions has room for SMALL_CQ completions; OTHERS are more. */
#define SMALL_RING 4u
#define SMALL_CQ 32u
#define OTHERS 40

/* ---- submissions that are refused ---- */

static int refusals, refusal; /* so many are left; -errno of each */

int __real_io_uring_submit(struct io_uring *ring); // NOLINT
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr); // NOLINT
int __real_io_uring_submit_and_get_events(struct io_uring *ring); // NOLINT
int __wrap_io_uring_submit(struct io_uring *ring); // NOLINT
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr); // NOLINT
int __wrap_io_uring_submit_and_get_events(struct io_uring *ring); // NOLINT

static bool refused(void) { return refusals > 0 && refusals-- > 0; }

int __wrap_io_uring_submit(struct io_uring *ring) { // NOLINT
  return refused() ? refusal : __real_io_uring_submit(ring);
}
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr) { // NOLINT
  return refused() ? refusal : __real_io_uring_submit_and_wait(ring, wait_nr);
}
int __wrap_io_uring_submit_and_get_events(struct io_uring *ring) { // NOLINT
  return refused() ? refusal : __real_io_uring_submit_and_get_events(ring);
}

static void refuse(int count, int err) {
  refusals = count;
  refusal = err;
}

/* ---- tunnels ---- */

/* tunnel is raw peer a - src, dst - raw peer b, and at rest: it waits for src alone. */
struct tunnel {
  struct side *src, *dst;
  int a, b;
  struct relay relay;
  uint64_t said, heard; /* bytes given to dst, read by b */
  int ends;
};

static void on_end(struct relay *r, enum relay_end why, int err) {
  struct tunnel *t = r->owner;
  (void)why;
  (void)err;
  t->ends++;
}

static char byte_at(uint64_t at) { return (char)(at * 31 + (at >> 12)); }

/* say gives bytes to dst, as the relay does with what came. */
static void say(struct tunnel *t, size_t len) {
  static char bytes[65536];
  assert_true(len <= sizeof(bytes));
  for (size_t i = 0; i < len; i++) bytes[i] = byte_at(t->said + i);
  assert_true(conn_write(t->dst->c, span_of(bytes, len)));
  t->said += len;
}

/* hear reads what there is. */
static void hear(struct tunnel *t) {
  static char bytes[65536];
  ssize_t n = recv(t->b, bytes, sizeof(bytes), MSG_DONTWAIT);
  for (ssize_t i = 0; i < n; i++)
    if (bytes[i] != byte_at(t->heard + (uint64_t)i)) fail_msg("wrong byte at %lu", t->heard);
  if (n > 0) t->heard += (uint64_t)n;
}

static void tunnel_open(struct net *net, struct tunnel *t) {
  *t = (struct tunnel){.relay = {.owner = t}};
  t->src = kit_pair(net, &t->a);
  t->dst = kit_pair(net, &t->b);
  relay_start(&t->relay, t->src->c, t->dst->c, UINT64_MAX, on_end);
}

static void tunnel_close(struct tunnel *t) {
  close(t->a);
  close(t->b);
}

/* world is a loop at rest with some tunnels and OTHERS other connections. */
struct world {
  struct net *net;
  struct loop *loop;
  struct tunnel t[3];
  struct side *others[OTHERS];
  int peers[OTHERS];
};

static void world_init(struct world *w, int others) {
  struct loop_config config = kit_config;
  config.ring_entries = SMALL_RING;
  *w = (struct world){.net = kit_net_with(&config, 2)};
  w->loop = w->net->loop;
  for (int i = 0; i < 3; i++) tunnel_open(w->net, &w->t[i]);
  for (int i = 0; i < others; i++) w->others[i] = kit_pair(w->net, &w->peers[i]);
  kit_settle(w->loop);
}

static void world_fini(struct world *w) {
  for (int i = 0; i < 3; i++) tunnel_close(&w->t[i]);
  for (int i = 0; i < OTHERS && w->others[i]; i++) close(w->peers[i]);
  kit_net_free(w->net);
}

static size_t pending(const struct tunnel *t) { return conn_pending(t->dst->c); }

static uint64_t completions(const struct world *w) {
  return loop_stat_get(&w->loop->stats.completions);
}

/* far_turn ends by a completion: a wait that only the clock would end is a stall. */
static void far_turn(struct loop *loop) {
  uint64_t until = loop->now_ms + FAR_MS;
  assert_int_equal(loop_run_turn(loop, until), 0);
  assert_true(loop->now_ms < until);
}

/* crowd makes each of the others send a byte: more completions than there is room for. */
static void crowd(struct world *w) {
  for (int i = 0; i < OTHERS; i++) assert_true(conn_write(w->others[i]->c, SPAN_LIT("x")));
}

/* ---- entries that were not taken ---- */

static void untaken(int err) {
  struct world w;
  world_init(&w, 0);
  struct tunnel *t = &w.t[0];
  say(t, 100);
  refuse(3, err);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(loop_run_turn(w.loop, w.loop->now_ms + FAR_MS), 0);
    assert_int_equal(pending(t), 100 + i * 50); /* its bytes are still needed */
    hear(t);
    assert_int_equal(t->heard, 0);
    say(t, 50);
  }
  kit_turns(w.loop, 3);
  assert_int_equal(refusals, 0);
  kit_settle(w.loop);
  hear(t);
  assert_int_equal(t->heard, 250);
  assert_int_equal(pending(t), 0);
  world_fini(&w);
}

/* A send is not told of before the kernel has it. */
static void an_untaken_send_is_not_sent(void **state) {
  (void)state;
  untaken(-EAGAIN);
  untaken(-EBUSY);
}

/* One that is taken after all is told of by the end of the wait that follows, not before. */
static void a_send_that_is_taken_late_stays_quiet(void **state) {
  (void)state;
  struct world w;
  world_init(&w, 0);
  struct tunnel *t = &w.t[0];
  uint64_t before = completions(&w);
  say(t, 100);
  refuse(1, -EAGAIN);
  assert_int_equal(loop_run_turn(w.loop, 0), 0);
  kit_send(w.t[1].a, "x", 1);
  far_turn(w.loop);
  assert_int_equal(completions(&w) - before, 1); /* that of the other tunnel's byte */
  assert_int_equal(pending(t), 0);
  hear(t);
  assert_int_equal(t->heard, 100);
  world_fini(&w);
}

/* There is room for QUIET_MAX (2) that wait: a third one completes as others do. */
static void untaken_sends_leave_no_room_for_more(void **state) {
  (void)state;
  struct world w;
  world_init(&w, 0);
  uint64_t before = completions(&w);
  refuse(3, -EAGAIN);
  for (int i = 0; i < 3; i++) {
    say(&w.t[i], 100);
    assert_int_equal(loop_run_turn(w.loop, 0), 0);
    for (int k = 0; k <= i; k++) assert_int_equal(pending(&w.t[k]), 100);
  }
  far_turn(w.loop);
  assert_int_equal(completions(&w) - before, 1);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(pending(&w.t[i]), 0);
    hear(&w.t[i]);
    assert_int_equal(w.t[i].heard, 100);
  }
  world_fini(&w);
}

/* An owner that waits for a send which was not taken: the turn that gives it to the kernel waits
 * for nothing else. */
static void an_untaken_send_that_its_owner_waits_for(void **state) {
  (void)state;
  struct world w;
  world_init(&w, 0);
  struct tunnel *t = &w.t[0];
  say(t, 100);
  refuse(1, -EBUSY);
  assert_int_equal(loop_run_turn(w.loop, 0), 0);
  relay_stop(&t->relay);
  int before = t->dst->drained;
  for (int i = 0; i < 3 && t->dst->drained == before; i++) far_turn(w.loop);
  assert_int_equal(t->dst->drained, before + 1);
  hear(t);
  assert_int_equal(t->heard, 100);
  world_fini(&w);
}

/* ---- completions that cannot be seen ---- */

/* A send of which a part went, behind more completions than there is room for: its own waits in
 * the kernel, and nothing is told of it before that is there. */
static void a_part_that_cannot_be_seen(void **state) {
  (void)state;
  struct world w;
  world_init(&w, OTHERS);
  struct tunnel *t = &w.t[0];
  int small = 4096;
  setsockopt(t->dst->c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  setsockopt(t->b, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  uint64_t before = completions(&w);
  crowd(&w);
  say(t, 60000);
  far_turn(w.loop);
  assert_int_equal(completions(&w) - before, SMALL_CQ);
  assert_int_equal(pending(t), 60000);
  far_turn(w.loop);
  assert_true(pending(t) > 0 && pending(t) < 60000);
  for (int i = 0; i < 100000 && t->heard < t->said; i++) {
    hear(t);
    assert_int_equal(loop_run_turn(w.loop, 0), 0);
  }
  assert_int_equal(t->heard, t->said);
  assert_int_equal(pending(t), 0);
  world_fini(&w);
}

/* A send that went whole is told of when all completions of its turn have been seen. */
static void a_send_before_a_crowd(void **state) {
  (void)state;
  struct world w;
  world_init(&w, OTHERS);
  struct tunnel *t = &w.t[0];
  uint64_t before = completions(&w);
  say(t, 100);
  crowd(&w);
  far_turn(w.loop);
  assert_int_equal(completions(&w) - before, SMALL_CQ);
  far_turn(w.loop);
  assert_int_equal(completions(&w) - before, OTHERS);
  assert_int_equal(pending(t), 0);
  hear(t);
  assert_int_equal(t->heard, 100);
  world_fini(&w);
}

/* Of two, one fails and says so: it is not told of a second time when the other one is. */
static void a_failure_before_a_crowd(void **state) {
  (void)state;
  struct world w;
  world_init(&w, OTHERS);
  struct tunnel *good = &w.t[0], *bad = &w.t[1];
  assert_int_equal(shutdown(bad->dst->c->fd, SHUT_WR), 0); /* EPIPE from now on */
  say(bad, 100);
  say(good, 100);
  crowd(&w);
  far_turn(w.loop);
  assert_true(conn_any(bad->dst->c, CONN_SENT_DEAD));
  assert_int_equal(pending(bad), 0);
  far_turn(w.loop);
  assert_int_equal(pending(good), 0);
  hear(good);
  assert_int_equal(good->heard, 100);
  world_fini(&w);
}

/* An address that the kernel has not copied yet is not written over. */
static void an_untaken_connect_keeps_its_address(void **state) {
  (void)state;
  struct world w;
  world_init(&w, 0);
  struct addr other_at;
  int err, other = kit_listen_fd(&other_at);
  struct side first = {0}, second = {0};
  first.c = conn_connect(w.loop, &other_at, &kit_events, &first, &err);
  refuse(1, -EAGAIN);
  assert_int_equal(loop_run_turn(w.loop, 0), 0);
  second.c = conn_connect(w.loop, &w.net->at, &kit_events, &second, &err);
  KIT_UNTIL(w.loop, first.opened == 1 && second.opened == 1);
  assert_int_equal(first.open_err, 0);
  assert_int_equal(second.open_err, 0);
  struct addr peer;
  assert_true(conn_peer(first.c, &peer) && addr_eq(&peer, &other_at));
  assert_true(conn_peer(second.c, &peer) && addr_eq(&peer, &w.net->at));
  close(other);
  world_fini(&w);
}

/* ---- turns with much to handle ---- */

/* Where more than QUIET_MAX completions came, the sends that follow have theirs. */
static void a_busy_turn_has_no_quiet_sends(void **state) {
  (void)state;
  struct world w;
  world_init(&w, 0);
  uint64_t before = completions(&w);
  for (int i = 0; i < 3; i++) kit_send(w.t[i].a, "x", 1);
  far_turn(w.loop);
  assert_int_equal(completions(&w) - before, 3);
  far_turn(w.loop);
  assert_int_equal(completions(&w) - before, 6);
  for (int i = 0; i < 3; i++) assert_int_equal(pending(&w.t[i]), 0);
  world_fini(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_untaken_send_is_not_sent),
      cmocka_unit_test(a_send_that_is_taken_late_stays_quiet),
      cmocka_unit_test(untaken_sends_leave_no_room_for_more),
      cmocka_unit_test(an_untaken_send_that_its_owner_waits_for),
      cmocka_unit_test(an_untaken_connect_keeps_its_address),
      cmocka_unit_test(a_part_that_cannot_be_seen),
      cmocka_unit_test(a_send_before_a_crowd),
      cmocka_unit_test(a_failure_before_a_crowd),
      cmocka_unit_test(a_busy_turn_has_no_quiet_sends),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
