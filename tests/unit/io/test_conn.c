/* test_conn.c: the life of a conn on the real ring: accept, connect, data, EOF, reset, finish,
 * close of each kind, timers, wake, leaks. */
#include "io_kit.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

static void accepts_and_echoes(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  s->echo = true;
  kit_send(peer, "hello", 5);
  char got[8];
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, 5, &eof), 5);
  assert_memory_equal(got, "hello", 5);
  KIT_UNTIL(net->loop, s->drained == 1);
  assert_int_equal(s->c->bytes_in, 5);
  assert_int_equal(s->c->bytes_out, 5);
  close(peer);
  KIT_UNTIL(net->loop, s->eofs == 1);
  conn_close(s->c);
  kit_settle(net->loop);
  assert_int_equal(net->loop->conns.live, 1);
  kit_net_free(net);
}

static void connects(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  struct side up = {0};
  int err = 0;
  up.c = conn_connect(net->loop, &net->at, &kit_events, &up, &err);
  assert_non_null(up.c);
  assert_true(conn_write(up.c, SPAN_LIT("early"))); /* queued until it is open */
  assert_int_equal(up.opened, 0);
  KIT_UNTIL(net->loop, up.opened == 1 && net->accepted == 1 && net->sides[0]->got == 5);
  assert_int_equal(up.open_err, 0);
  struct addr peer, local;
  assert_true(conn_peer(up.c, &peer));
  assert_true(addr_eq(&peer, &net->at));
  assert_true(conn_local(net->sides[0]->c, &local));
  assert_true(addr_eq(&local, &net->at));
  conn_close(up.c);
  KIT_UNTIL(net->loop, net->sides[0]->eofs == 1);
  kit_net_free(net);
}

static void connect_refused(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct addr at;
  close(kit_listen_fd(&at));
  struct side up = {0};
  int err = 0;
  up.c = conn_connect(loop, &at, &kit_events, &up, &err);
  assert_non_null(up.c);
  KIT_UNTIL(loop, up.opened == 1);
  assert_int_equal(up.open_err, -ECONNREFUSED);
  conn_close(up.c);
  kit_settle(loop);
  assert_int_equal(loop->conns.live, 0);
  loop_free(loop);
}

static void connect_closed_before_open(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  struct side up = {0};
  int err = 0;
  up.c = conn_connect(net->loop, &net->at, &kit_events, &up, &err);
  assert_non_null(up.c);
  conn_close(up.c);
  kit_settle(net->loop);
  assert_int_equal(up.opened, 0);
  kit_net_free(net);
}

static void reset_is_an_error(void **state) {
  (void)state;
  struct net *net = kit_net(2);
  int peer;
  struct side *s = kit_pair(net, &peer);
  kit_settle(net->loop);
  kit_rst(peer);
  KIT_UNTIL(net->loop, s->errors == 1);
  assert_int_equal(s->err, -ECONNRESET);
  assert_int_equal(s->eofs, 0);
  conn_close(s->c);
  kit_net_free(net);
}

static void finish_half_closes(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  assert_true(conn_write(s->c, SPAN_LIT("last")));
  conn_finish(s->c);
  assert_false(conn_write(s->c, SPAN_LIT("more")));
  char got[8];
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, 8, &eof), 4);
  assert_true(eof);
  kit_send(peer, "still", 5); /* reading goes on */
  KIT_UNTIL(net->loop, s->got == 5);
  close(peer);
  KIT_UNTIL(net->loop, s->eofs == 1);
  conn_close(s->c);
  kit_net_free(net);
}

static void finish_without_output(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  conn_finish(s->c);
  char got[8];
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, 8, &eof), 0);
  assert_true(eof);
  close(peer);
  kit_net_free(net);
}

static void close_sends_fin_while_reading(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  kit_settle(net->loop); /* the receive is armed */
  conn_close(s->c);
  char got[8];
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, 8, &eof), 0);
  assert_true(eof);
  close(peer);
  kit_net_free(net);
}

static void reset_sends_rst(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  kit_settle(net->loop);
  conn_reset(s->c);
  kit_settle(net->loop);
  char got[8];
  assert_int_equal(recv(peer, got, 8, MSG_DONTWAIT), -1);
  assert_int_equal(errno, ECONNRESET);
  close(peer);
  kit_net_free(net);
}

static void gentle_close_delivers_all(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  static char big[200000];
  memset(big, 'x', sizeof(big));
  assert_true(conn_write(s->c, span_of(big, sizeof(big))));
  kit_send(peer, "unread request that follows", 27);
  conn_close_gently(s->c, 5000);
  static char got[200001];
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, sizeof(got), &eof), 200000);
  assert_true(eof);
  assert_memory_equal(got, big, sizeof(big));
  assert_int_equal(net->loop->conns.live, 2); /* waits for the peer's FIN */
  close(peer);
  KIT_UNTIL(net->loop, net->loop->conns.live == 1);
  assert_int_equal(s->data_calls, 0);
  kit_net_free(net);
}

static void gentle_close_ends_by_time(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  conn_close_gently(s->c, 30);
  KIT_UNTIL(net->loop, net->loop->conns.live == 1);
  close(peer);
  kit_net_free(net);
}

/* fill_up sends until nobody takes any more: how much went. A peer whose connection was closed
 * fails. */
static size_t fill_up(struct net *net, int peer) {
  static char junk[65536];
  size_t sent = 0;
  kit_nonblock(peer);
  for (int full = 0; full < 20;) {
    ssize_t n = send(peer, junk, sizeof(junk), MSG_NOSIGNAL);
    if (n < 0) assert_int_equal(errno, EAGAIN);
    if (n > 0) sent += (size_t)n;
    full = n > 0 ? 0 : full + 1;
    assert_true(sent < ((size_t)64 << 20));
    assert_int_equal(loop_run_turn(net->loop, net->loop->now_ms + 2), 0);
  }
  return sent;
}

static void gentle_close_stops_reading_at_its_bound(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  assert_true(conn_write(s->c, SPAN_LIT("answer")));
  conn_close_gently(s->c, 60000);
  assert_true(fill_up(net, peer) > (256u << 10)); /* it was blocked, and did not fail */
  assert_int_equal(net->loop->conns.live, 2);
  assert_int_equal(net->loop->lingering, 1);
  uint64_t turns = net->loop->stats.turns;
  uint64_t until = net->loop->now_ms + 100;
  while (net->loop->now_ms < until) assert_int_equal(loop_run_turn(net->loop, until), 0);
  assert_true(net->loop->stats.turns - turns < 20); /* no busy loop */
  char got[8];
  assert_int_equal(recv(peer, got, 8, MSG_DONTWAIT), 6);
  assert_memory_equal(got, "answer", 6);
  assert_int_equal(recv(peer, got, 8, MSG_DONTWAIT), 0); /* and a FIN, no reset */
  kit_rst(peer);
  KIT_UNTIL(net->loop, net->loop->conns.live == 1);
  assert_int_equal(net->loop->lingering, 0);
  kit_net_free(net);
}

static void gentle_close_beyond_its_bound_ends_by_time(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  conn_close_gently(s->c, 500);
  uint64_t since = net->loop->now_ms;
  assert_true(fill_up(net, peer) > (256u << 10));
  assert_int_equal(net->loop->conns.live, 2);
  KIT_UNTIL(net->loop, net->loop->conns.live == 1);
  assert_in_range(net->loop->now_ms, since + 500, since + 3000);
  assert_int_equal(send(peer, "x", 1, MSG_NOSIGNAL), -1);
  assert_true(errno == ECONNRESET || errno == EPIPE);
  close(peer);
  kit_net_free(net);
}

/* The peer's FIN stands behind bytes that nobody read: they are read then, and it is no reset that
 * ends the connection. */
static void gentle_close_beyond_its_bound_hears_the_end(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  static char junk[(256 << 10) + 30000]; /* the window stays open, else the FIN would wait */
  int large = 200000;
  setsockopt(s->c->fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof(large));
  kit_nonblock(peer);
  assert_true(conn_write(s->c, SPAN_LIT("answer")));
  conn_close_gently(s->c, 60000);
  for (size_t sent = 0; sent < sizeof(junk);) {
    ssize_t n = send(peer, junk + sent, sizeof(junk) - sent, MSG_NOSIGNAL);
    if (n < 0) assert_int_equal(errno, EAGAIN);
    if (n > 0) sent += (size_t)n;
    assert_int_equal(loop_run_turn(net->loop, net->loop->now_ms + 2), 0);
  }
  kit_settle(net->loop);
  assert_int_equal(net->loop->conns.live, 2);
  shutdown(peer, SHUT_WR);
  KIT_UNTIL(net->loop, net->loop->conns.live == 1);
  char got[8];
  assert_int_equal(recv(peer, got, 8, MSG_DONTWAIT), 6);
  assert_int_equal(recv(peer, got, 8, MSG_DONTWAIT), 0);
  close(peer);
  kit_net_free(net);
}

/* Who reads slowly and sends much is sent all that is queued. */
static void gentle_close_beyond_its_bound_sends_all(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  static char big[250000], got[sizeof(big) + 1];
  int small = 4096;
  setsockopt(s->c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  assert_true(conn_write(s->c, span_of(big, sizeof(big))));
  conn_close_gently(s->c, 60000);
  assert_true(fill_up(net, peer) > (256u << 10));
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, sizeof(got), &eof), sizeof(big));
  assert_true(eof);
  close(peer);
  kit_net_free(net);
}

static void gentle_close_after_peer_fin_needs_no_wait(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  shutdown(peer, SHUT_WR);
  KIT_UNTIL(net->loop, s->eofs == 1);
  assert_true(conn_write(s->c, SPAN_LIT("answer")));
  conn_close_gently(s->c, 60000);
  char got[16];
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, 16, &eof), 6);
  assert_true(eof);
  KIT_UNTIL(net->loop, net->loop->conns.live == 1);
  close(peer);
  kit_net_free(net);
}

static void close_drops_output_in_flight(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  static char big[250000];
  int small = 4096;
  setsockopt(s->c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  for (int i = 0; i < 40; i++) { /* until the socket takes no more */
    if (conn_pending(s->c) == 0) assert_true(conn_write(s->c, span_of(big, sizeof(big))));
    kit_turns(net->loop, 2);
  }
  assert_true(conn_pending(s->c) > 0);
  conn_close(s->c);
  KIT_UNTIL(net->loop, net->loop->conns.live == 1);
  assert_int_equal(net->loop->iobufs.bytes_out, 0);
  close(peer);
  kit_net_free(net);
}

static void timer_fires_once(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  uint64_t start = net->loop->now_ms;
  conn_timer(s->c, start + 40);
  KIT_UNTIL(net->loop, s->timers == 1);
  assert_true(net->loop->now_ms >= start + 40);
  conn_timer(s->c, net->loop->now_ms + 10);
  conn_timer(s->c, WHEEL_NEVER);
  for (int i = 0; i < 5; i++) kit_turn(net->loop);
  assert_int_equal(s->timers, 1);
  close(peer);
  kit_net_free(net);
}

static int wakes;
static void on_wake(struct loop *loop) {
  (void)loop;
  wakes++;
}
static void *wake_thread(void *arg) {
  for (int i = 0; i < 1000; i++) loop_wake(arg);
  return NULL;
}

static void wakes_from_another_thread(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  loop->on_wake = on_wake;
  wakes = 0;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, wake_thread, loop), 0);
  assert_int_equal(loop_run_turn(loop, WHEEL_NEVER), 0); /* returns only by the wake */
  KIT_UNTIL(loop, wakes > 0);
  pthread_join(thread, NULL);
  int before = wakes;
  loop_wake(loop);
  KIT_UNTIL(loop, wakes > before || before >= 1000);
  loop_free(loop);
}

static void listener_pauses(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  conn_listen_pause(net->listener);
  kit_settle(net->loop);
  int peer = kit_dial(&net->at);
  kit_settle(net->loop);
  assert_int_equal(net->accepted, 0);
  conn_listen_resume(net->listener);
  KIT_UNTIL(net->loop, net->accepted == 1);
  close(peer);
  kit_net_free(net);
}

static void listener_drains_before_close(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  conn_listen_pause(net->listener);
  kit_settle(net->loop);
  int peers[5];
  for (int i = 0; i < 5; i++) peers[i] = kit_dial(&net->at);
  assert_int_equal(conn_listen_drain(net->listener), 5);
  conn_close(net->listener);
  kit_settle(net->loop);
  for (int i = 0; i < 5; i++) {
    kit_send(peers[i], "x", 1); /* not reset */
    KIT_UNTIL(net->loop, net->sides[i]->got == 1);
    close(peers[i]);
  }
  kit_net_free(net);
}

/* dial_now begins a TCP connection without waiting for it. */
static int dial_now(const struct addr *at) {
  int fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  assert_true(fd >= 0);
  assert_int_equal(connect(fd, &at->sa, at->len), -1);
  assert_int_equal(errno, EINPROGRESS);
  return fd;
}

static void stopped_accept(struct conn *listener, struct conn *c) {
  struct net *net = listener->owner;
  if (c) kit_on_accept(listener, c);
  else net->listener = NULL;
}

/* Whoever is let in before a listener stops is served, also who comes between the stop and the
 * end of the accept in flight; who comes later gets no answer, not a reset. */
static void listener_stops_without_losing_anyone(void **state) {
  (void)state;
  for (int paused = 0; paused < 2; paused++) {
    struct net *net = kit_net(1);
    net->listener->on_accept = stopped_accept;
    if (paused) conn_listen_pause(net->listener);
    kit_settle(net->loop);
    int peers[4];
    for (int i = 0; i < 2; i++) peers[i] = kit_dial(&net->at);
    conn_listen_stop(net->listener, false);
    for (int i = 2; i < 4; i++) peers[i] = kit_dial(&net->at);
    KIT_UNTIL(net->loop, net->listener == NULL);
    assert_int_equal(net->accepted, 4);
    for (int i = 0; i < 4; i++) {
      kit_send(peers[i], "x", 1);
      KIT_UNTIL(net->loop, net->sides[i]->got == 1);
      close(peers[i]);
    }
    kit_settle(net->loop);
    kit_net_free(net);
  }
}

static void deaf_listener_answers_no_syn(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  net->listener->on_accept = stopped_accept;
  int early = kit_dial(&net->at);
  conn_listen_stop(net->listener, true);
  int late = dial_now(&net->at);
  struct pollfd dialled = {.fd = late, .events = POLLOUT};
  while (net->listener) {
    assert_int_equal(poll(&dialled, 1, 0), 0); /* neither there nor refused */
    assert_int_equal(loop_run_turn(net->loop, net->loop->now_ms + 5), 0);
  }
  assert_int_equal(net->accepted, 1);
  kit_send(early, "x", 1);
  KIT_UNTIL(net->loop, net->sides[0]->got == 1);
  close(early);
  close(late);
  kit_settle(net->loop);
  kit_net_free(net);
}

struct rival {
  int fd;
  atomic_bool stop;
  int taken;
};

/* rivalry is what another worker does to a description that both share: it takes connections, and
 * it switches O_NONBLOCK off. */
static void *rivalry(void *arg) {
  struct rival *rival = arg;
  while (!atomic_load(&rival->stop)) {
    struct pollfd ready = {.fd = rival->fd, .events = POLLIN};
    assert_int_equal(fcntl(rival->fd, F_SETFL, fcntl(rival->fd, F_GETFL) & ~O_NONBLOCK), 0);
    if (poll(&ready, 1, 0) != 1) continue;
    int fd = accept4(rival->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) continue;
    rival->taken++;
    close(fd);
  }
  return NULL;
}

/* Duplicates of one listening descriptor, as workers have them of a unix socket: no drain waits
 * for a connection that another took, whatever the others do to the shared flags. */
static void drain_of_a_shared_listener_never_waits(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  conn_listen_pause(net->listener);
  kit_settle(net->loop);
  struct rival rival = {.fd = fcntl(net->listener->fd, F_DUPFD_CLOEXEC, 3)};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, rivalry, &rival), 0);
  enum { DIALS = 200 };
  alarm(60); /* a hang ends the test */
  int mine = 0;
  for (int i = 0; i < 20 * DIALS; i++) {
    if (i % 20 == 0) close(kit_dial(&net->at));
    mine += (int)conn_listen_drain(net->listener);
  }
  atomic_store(&rival.stop, true);
  assert_int_equal(pthread_join(thread, NULL), 0);
  mine += (int)conn_listen_drain(net->listener);
  alarm(0);
  assert_int_equal(mine + rival.taken, DIALS);
  close(rival.fd);
  kit_net_free(net);
}

static void listener_backs_off_at_the_slot_limit(void **state) {
  (void)state;
  struct loop_config config = kit_config;
  config.conns_max = 3; /* the listener and two */
  struct net *net = kit_net_with(&config, 1);
  int peers[4];
  for (int i = 0; i < 4; i++) peers[i] = kit_dial(&net->at);
  KIT_UNTIL(net->loop, net->accepted == 2 && net->loop->stats.accept_errors > 0);
  uint64_t turns = net->loop->stats.turns;
  uint64_t until = net->loop->now_ms + 200;
  while (net->loop->now_ms < until) assert_int_equal(loop_run_turn(net->loop, until), 0);
  assert_true(net->loop->stats.turns - turns < 60); /* no busy loop */
  for (int i = 0; i < 4; i++) close(peers[i]);
  KIT_UNTIL(net->loop, net->sides[0]->eofs == 1 && net->sides[1]->eofs == 1);
  conn_close(net->sides[0]->c);
  conn_close(net->sides[1]->c);
  kit_settle(net->loop); /* the slots are free */
  int late = kit_dial(&net->at);
  KIT_UNTIL(net->loop, net->accepted >= 3);
  close(late);
  kit_net_free(net);
}

static void unix_sockets_work(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  char path[] = "/tmp/weir-io-XXXXXX";
  assert_non_null(mkdtemp(path));
  char text[64];
  snprintf(text, sizeof(text), "unix:%s/s", path);
  struct net net = {.loop = loop, .wanted_reading = 1};
  assert_true(addr_parse(span_str(text), &net.at));
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  assert_int_equal(bind(fd, &net.at.sa, net.at.len), 0);
  assert_int_equal(listen(fd, 8), 0);
  net.listener = conn_listen(loop, fd, kit_on_accept, &net);
  struct side up = {0};
  int err = 0;
  up.c = conn_connect(loop, &net.at, &kit_events, &up, &err);
  assert_non_null(up.c);
  assert_true(conn_write(up.c, SPAN_LIT("over unix")));
  KIT_UNTIL(loop, net.accepted == 1 && net.sides[0]->got == 9);
  assert_true(net.sides[0]->c->flags & CONN_UNIX);
  struct addr peer;
  assert_false(conn_peer(net.sides[0]->c, &peer));
  conn_close(up.c);
  KIT_UNTIL(loop, net.sides[0]->eofs == 1);
  mem_free(net.sides[0]);
  loop_free(loop);
  unlink(text + 5);
  rmdir(path);
}

static void no_descriptor_leaks(void **state) {
  (void)state;
  int before = kit_fds_open();
  struct net *net = kit_net(1);
  for (int i = 0; i < 100; i++) {
    int peer;
    struct side *s = kit_pair(net, &peer);
    if (i % 3 == 0) {
      conn_close(s->c);
    } else if (i % 3 == 1) {
      close(peer);
      KIT_UNTIL(net->loop, s->eofs == 1);
      conn_close_gently(s->c, 1000);
      continue;
    } else {
      conn_reset(s->c);
    }
    close(peer);
  }
  kit_net_free(net); /* also closes what is still open */
  assert_int_equal(kit_fds_open(), before);
}

static void idle_conn_owns_no_buffer(void **state) {
  (void)state;
  struct net *net = kit_net(1);
  int peer;
  struct side *s = kit_pair(net, &peer);
  s->echo = true;
  kit_send(peer, "x", 1);
  KIT_UNTIL(net->loop, s->drained == 1);
  assert_int_equal(net->loop->iobufs.bytes_out, 0);
  close(peer);
  kit_net_free(net);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(accepts_and_echoes),
      cmocka_unit_test(connects),
      cmocka_unit_test(connect_refused),
      cmocka_unit_test(connect_closed_before_open),
      cmocka_unit_test(reset_is_an_error),
      cmocka_unit_test(finish_half_closes),
      cmocka_unit_test(finish_without_output),
      cmocka_unit_test(close_sends_fin_while_reading),
      cmocka_unit_test(reset_sends_rst),
      cmocka_unit_test(gentle_close_delivers_all),
      cmocka_unit_test(gentle_close_ends_by_time),
      cmocka_unit_test(gentle_close_stops_reading_at_its_bound),
      cmocka_unit_test(gentle_close_beyond_its_bound_ends_by_time),
      cmocka_unit_test(gentle_close_beyond_its_bound_hears_the_end),
      cmocka_unit_test(gentle_close_beyond_its_bound_sends_all),
      cmocka_unit_test(gentle_close_after_peer_fin_needs_no_wait),
      cmocka_unit_test(close_drops_output_in_flight),
      cmocka_unit_test(timer_fires_once),
      cmocka_unit_test(wakes_from_another_thread),
      cmocka_unit_test(listener_pauses),
      cmocka_unit_test(listener_drains_before_close),
      cmocka_unit_test(listener_stops_without_losing_anyone),
      cmocka_unit_test(deaf_listener_answers_no_syn),
      cmocka_unit_test(drain_of_a_shared_listener_never_waits),
      cmocka_unit_test(listener_backs_off_at_the_slot_limit),
      cmocka_unit_test(unix_sockets_work),
      cmocka_unit_test(no_descriptor_leaks),
      cmocka_unit_test(idle_conn_owns_no_buffer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
