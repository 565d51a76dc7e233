/* test_loop.c: the ring itself: refusals in a sentence, turns and timers, put-off work, trimming,
 * ending with everything in flight. And, by the clock of the simulated loop, what all loops share:
 * the rounds of conns that used up their share. */
#include "io_kit.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "io/io_priv.h"
#include "weir/io/carried.h"
#include "weir/io/sim.h"

static void probe_is_content(void **state) {
  (void)state;
  char text[256];
  struct buf why = buf_of(text, sizeof(text));
  assert_int_equal(loop_uring_probe(&why), 0);
  assert_int_equal(why.len, 0);
}

/* refuse makes io_uring_setup fail with err in this process, as a container's profile does. */
static void refuse(int err) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0 /* the number of the call */),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog prog = {.len = array_count(filter), .filter = filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(100);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0) _exit(101);
}

/* try_refused probes in a child where the kernel answers err: 0 when the sentence has `word`. */
static int try_refused(int err, const char *word) {
  pid_t child = fork();
  if (child == 0) {
    char text[512] = {0};
    struct buf why = buf_of(text, sizeof(text) - 1);
    refuse(err);
    if (loop_uring_probe(&why) != -err) _exit(2);
    if (loop_uring_new(&kit_config, &why) != NULL) _exit(3);
    if (strstr(text, "remedy") == NULL || strstr(text, word) == NULL) _exit(4);
    _exit(0);
  }
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void refusals_name_cause_and_remedy(void **state) {
  (void)state;
  assert_int_equal(try_refused(EPERM, "seccomp"), 0);
  assert_int_equal(try_refused(ENOSYS, "CONFIG_IO_URING"), 0);
  assert_int_equal(try_refused(EINVAL, "6.1"), 0);
  assert_int_equal(try_refused(ENOMEM, "ulimit -l"), 0);
  assert_int_equal(try_refused(EMFILE, "ulimit -n"), 0);
}

static void turn_waits_until_its_time(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  kit_turns(loop, 2);
  uint64_t start = loop->now_ms;
  for (int i = 0; i < 10 && loop->now_ms < start + 30; i++)
    assert_int_equal(loop_run_turn(loop, start + 30), 0);
  assert_true(loop->now_ms >= start + 30);
  assert_true(loop->wall_ms > 1600000000000u);
  loop_free(loop);
}

static int fired;
static void on_fire(struct timer *timer, uint64_t now_ms) {
  (void)timer;
  (void)now_ms;
  fired++;
}

static void timers_end_the_wait(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct timer timer;
  timer_init(&timer, on_fire);
  timer_set(&loop->wheel, &timer, loop->now_ms + 25);
  fired = 0;
  for (int i = 0; i < 100 && fired == 0; i++)
    assert_int_equal(loop_run_turn(loop, WHEEL_NEVER), 0);
  assert_int_equal(fired, 1);
  loop_free(loop);
}

static int budget_calls;
static bool budget(struct loop *loop) {
  (void)loop;
  return ++budget_calls < 5;
}

static void put_off_work_keeps_turning(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  budget_calls = 0;
  loop->budget_run = budget;
  for (int i = 0; i < 5; i++) /* only the first may wait */
    assert_int_equal(loop_run_turn(loop, i ? WHEEL_NEVER : 0), 0);
  assert_int_equal(budget_calls, 5);
  loop->budget_run = NULL;
  loop_free(loop);
}

static void trim_gives_memory_back(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peers[200];
  for (int i = 0; i < 200; i++) {
    struct side *s = kit_pair(net, &peers[i]);
    s->echo = true;
    kit_send(peers[i], "x", 1);
  }
  kit_settle(net->loop);
  for (int i = 0; i < 200; i++) close(peers[i]);
  for (int i = 0; i < 200; i++) {
    KIT_UNTIL(net->loop, net->sides[i]->eofs + net->sides[i]->errors == 1);
    conn_close(net->sides[i]->c);
  }
  kit_settle(net->loop);
  for (int i = 0; i < 20; i++) loop_trim(net->loop);
  assert_int_equal(net->loop->conns.chunk_count, 1); /* the listener's */
  assert_int_equal(net->loop->iobufs.bytes, 0);
  kit_net_free(net);
}

/* Ends a loop with receives armed, sends and connects in flight, relays under way. */
static void free_with_everything_in_flight(void **state) {
  (void)state;
  int before = kit_fds_open();
  for (int turns = 0; turns < 6; turns++) {
    struct net *net = kit_net(1);
    int peers[4];
    struct side *s[4];
    for (int i = 0; i < 4; i++) s[i] = kit_pair(net, &peers[i]);
    static char big[250000];
    struct relay relay = {0};
    struct side up = {0};
    int err = 0;
    for (int i = 0; i < 3; i++) {
      if (conn_pending(s[0]->c) == 0) assert_true(conn_write(s[0]->c, span_of(big, sizeof(big))));
      kit_turns(net->loop, 1);
    }
    relay_start(&relay, s[1]->c, s[2]->c, UINT64_MAX, NULL);
    assert_true(conn_write(s[3]->c, SPAN_LIT("unsent")));
    assert_non_null(conn_connect(net->loop, &net->at, &kit_events, &up, &err));
    kit_send(peers[1], big, 60000);
    kit_turns(net->loop, turns);
    loop_free(net->loop);
    for (int i = 0; i < 4; i++) close(peers[i]);
    for (int i = 0; i < net->accepted; i++) mem_free(net->sides[i]);
    mem_free(net);
  }
  assert_int_equal(kit_fds_open(), before);
}

/* More submissions in a turn than the ring has entries. */
static void submission_queue_overflows_quietly(void **state) {
  (void)state;
  struct loop_config config = kit_config;
  config.ring_entries = 4;
  struct net *net = kit_net_with(&config, 1);
  int peers[100];
  for (int i = 0; i < 100; i++) kit_pair(net, &peers[i])->echo = true;
  for (int i = 0; i < 100; i++) kit_send(peers[i], "ping", 4);
  for (int i = 0; i < 100; i++) {
    KIT_UNTIL(net->loop, net->sides[i]->drained == 1);
  }
  struct side up[100] = {0};
  int err;
  for (int i = 0; i < 100; i++)
    assert_non_null(up[i].c = conn_connect(net->loop, &net->at, &kit_events, &up[i], &err));
  for (int i = 0; i < 100; i++) {
    KIT_UNTIL(net->loop, up[i].opened == 1);
    assert_int_equal(up[i].open_err, 0);
    close(peers[i]);
  }
  kit_net_free(net);
}

/* After warm-up a request costs no allocation. */
static void steady_state_allocates_nothing(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  s->echo = true;
  for (int i = 0; i < 200; i++) {
    kit_send(peer, "request", 7);
    KIT_UNTIL(net->loop, s->drained == i + 1);
  }
  size_t bytes = net->loop->iobufs.bytes;
  uint64_t submits = net->loop->stats.submits;
  uint64_t completions = net->loop->stats.completions;
  for (int i = 200; i < 400; i++) {
    kit_send(peer, "request", 7);
    KIT_UNTIL(net->loop, s->drained == i + 1);
  }
  assert_int_equal(net->loop->iobufs.bytes, bytes);
  assert_true(net->loop->stats.submits - submits <=
              202); /* one send each; a receive now and then */
  assert_true(net->loop->stats.completions - completions <= 402);
  close(peer);
  kit_net_free(net);
}

static void pipes_are_bounded_and_kept(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  int before = kit_fds_open();
  struct relay r[3] = {0};
  for (int i = 0; i < 3; i++) assert_true(pipe_take(loop, &r[i]));
  assert_true(r[0].pipe_cap >= 65536);
  assert_int_equal(kit_fds_open(), before + 6);
  int fd = r[2].pipe_rd;
  pipe_give(loop, &r[2]);
  assert_int_equal(kit_fds_open(), before + 6);
  assert_true(pipe_take(loop, &r[2]));
  assert_int_equal(r[2].pipe_rd, fd); /* the warm one */
  r[2].in_pipe = 5;
  pipe_give(loop, &r[2]); /* with bytes in it: closed */
  assert_int_equal(kit_fds_open(), before + 4);
  pipe_give(loop, &r[0]);
  pipe_give(loop, &r[1]);
  for (int i = 0; i < 8; i++) pipe_pool_trim(loop);
  assert_true(kit_fds_open() <= before + 2);
  loop_free(loop);
}

struct look {
  const struct loop_stats *stats;
  atomic_bool stop;
  uint64_t turns, lag_ns;
};

static void *look_on(void *arg) {
  struct look *look = arg;
  while (!atomic_load(&look->stop)) {
    uint64_t turns = loop_stat_get(&look->stats->turns);
    assert_true(turns >= look->turns);
    look->turns = turns;
    look->lag_ns = loop_lag_max_ns(look->stats, 0);
    look->lag_ns += loop_stat_get(&look->stats->buffers_total);
  }
  return NULL;
}

/* Another thread reads while the loop works (the thread sanitizer watches). */
static void stats_are_read_by_others(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  s->echo = true;
  struct look look = {.stats = &net->loop->stats};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, look_on, &look), 0);
  for (int i = 0; i < 200; i++) {
    kit_send(peer, "request", 7);
    KIT_UNTIL(net->loop, s->drained == i + 1);
  }
  atomic_store(&look.stop, true);
  assert_int_equal(pthread_join(thread, NULL), 0);
  close(peer);
  kit_net_free(net);
}

static void lag_is_that_of_the_last_intervals(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  const struct loop_stats *s = &loop->stats;
  uint64_t t0 = loop->now_ms = 10 * LOOP_LAG_INTERVAL_MS;
  loop_note_turn(loop, 500);
  loop_note_turn(loop, 900);
  loop_note_turn(loop, 100);
  assert_int_equal(loop_lag_max_ns(s, t0), 900);
  assert_int_equal(loop_lag_max_ns(s, t0), 900); /* reading changes nothing */
  loop->now_ms = t0 + LOOP_LAG_INTERVAL_MS;
  loop_note_turn(loop, 200);
  assert_int_equal(loop_lag_max_ns(s, loop->now_ms), 900); /* the interval before counts too */
  loop->now_ms += LOOP_LAG_INTERVAL_MS;
  loop_note_turn(loop, 100);
  assert_int_equal(loop_lag_max_ns(s, loop->now_ms), 200);
  assert_int_equal(loop_lag_max_ns(s, loop->now_ms + LOOP_LAG_INTERVAL_MS), 100); /* it sleeps */
  assert_int_equal(loop_lag_max_ns(s, loop->now_ms + 2 * LOOP_LAG_INTERVAL_MS), 0);
  loop->now_ms += 5 * LOOP_LAG_INTERVAL_MS;
  loop_note_turn(loop, 50);
  assert_int_equal(loop_lag_max_ns(s, loop->now_ms), 50);
  loop_free(loop);
}

/* ---- conns that used up their share ---- */

enum { LATERS = 4 };

/* later is one of them, with no socket: it counts its places. */
struct later {
  struct conn *c;
  int flushes;
  bool again; /* it uses its share up each time */
};

/* laters is a loop with a share that is over at once: one of them goes on in each turn. */
struct laters {
  struct sim *sim;
  struct loop *loop;
  struct later all[LATERS];
};

static void on_later(struct conn *c) {
  struct later *l = c->owner;
  l->flushes++;
  if (l->again && !conn_later(c)) conn_flush_later(c);
}

static const struct conn_events later_events = {.on_flush = on_later};

static struct laters *laters_new(void) {
  struct laters *t = mem_alloc(sizeof(*t));
  t->sim = sim_new(1, NULL);
  t->loop = sim_loop_new(t->sim, &(struct loop_config){.conns_max = LATERS});
  t->loop->share_ns = 0;
  for (int i = 0; i < LATERS; i++) {
    t->all[i].c = conn_new(t->loop, -1);
    conn_attach(t->all[i].c, &later_events, &t->all[i]);
    conn_carries(t->all[i].c);
  }
  return t;
}

static void laters_free(struct laters *t) {
  loop_free(t->loop);
  sim_free(t->sim);
  mem_free(t);
}

static void turn_after(struct laters *t, uint64_t ms) {
  sim_advance(t->sim, ms);
  assert_int_equal(loop_run_turn(t->loop, 0), 0);
}

static int flushes(const struct laters *t) {
  int n = 0;
  for (int i = 0; i < LATERS; i++) n += t->all[i].flushes;
  return n;
}

/* Who used up its share again goes on when all others have, however often that is. */
static void who_comes_later_goes_on_in_rounds(void **state) {
  (void)state;
  struct laters *t = laters_new();
  for (int i = 0; i < LATERS; i++) {
    t->all[i].again = true;
    conn_flush_later(t->all[i].c);
  }
  for (int turn = 0; turn < 5 * LATERS; turn++) {
    turn_after(t, 1);
    assert_int_equal(flushes(t), turn + 1);
    for (int i = 0; i < LATERS; i++)
      assert_int_equal(t->all[i].flushes, turn / LATERS + (i <= turn % LATERS));
  }
  laters_free(t);
}

/* What one that waits has to send goes in the turn that it comes in; its place stays its own. */
static void output_does_not_wait_with_input(void **state) {
  (void)state;
  struct laters *t = laters_new();
  for (int i = 0; i < LATERS; i++) conn_flush_later(t->all[i].c);
  turn_after(t, 0);
  const struct later *last = &t->all[LATERS - 1];
  for (int i = 1; i < LATERS - 1; i++) {
    conn_flush(last->c);
    turn_after(t, 0);
    assert_int_equal(last->flushes, i);
    assert_int_equal(t->all[i].flushes, 1);
    assert_true(conn_later(last->c));
  }
  turn_after(t, 0);
  assert_int_equal(last->flushes, LATERS - 1);
  assert_false(conn_later(last->c));
  laters_free(t);
}

/* The age is that of the round that is on: who waits for the next one is not part of it. */
static void rounds_have_an_age(void **state) {
  (void)state;
  struct laters *t = laters_new();
  assert_int_equal(loop_later_ms(t->loop), 0);
  for (int i = 0; i < LATERS; i++) conn_flush_later(t->all[i].c);
  assert_int_equal(loop_later_ms(t->loop), 0);
  turn_after(t, 30);
  assert_int_equal(loop_later_ms(t->loop), 30);
  conn_flush_later(t->all[0].c);
  turn_after(t, 25);
  assert_int_equal(loop_later_ms(t->loop), 55); /* since it began, not since the last turn */
  conn_flush_later(t->all[1].c);
  turn_after(t, 0);
  turn_after(t, 10);
  assert_int_equal(flushes(t), LATERS);
  assert_int_equal(loop_later_ms(t->loop), 0); /* that of two others has not begun */
  assert_true(loop_has_later(t->loop));
  turn_after(t, 7);
  assert_int_equal(loop_later_ms(t->loop), 7);
  turn_after(t, 100);
  assert_int_equal(loop_later_ms(t->loop), 0);
  assert_false(loop_has_later(t->loop));
  laters_free(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(probe_is_content),
      cmocka_unit_test(refusals_name_cause_and_remedy),
      cmocka_unit_test(turn_waits_until_its_time),
      cmocka_unit_test(timers_end_the_wait),
      cmocka_unit_test(put_off_work_keeps_turning),
      cmocka_unit_test(trim_gives_memory_back),
      cmocka_unit_test(free_with_everything_in_flight),
      cmocka_unit_test(submission_queue_overflows_quietly),
      cmocka_unit_test(steady_state_allocates_nothing),
      cmocka_unit_test(pipes_are_bounded_and_kept),
      cmocka_unit_test(stats_are_read_by_others),
      cmocka_unit_test(lag_is_that_of_the_last_intervals),
      cmocka_unit_test(who_comes_later_goes_on_in_rounds),
      cmocka_unit_test(output_does_not_wait_with_input),
      cmocka_unit_test(rounds_have_an_age),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
