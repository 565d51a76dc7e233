/* Tests of control/server.c and poller.c: bounds, pipelined lines, slow peers, parked
 * connections. */
#include "control/server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "weir/base/mem.h"

struct world {
  struct poller poller;
  struct server server;
  struct sockaddr_in at;
  uint32_t parked_slot, parked_generation;
};

/* The protocol of the test: a line in, the same line out; "park" waits; "big" is a large
 * answer. */
static void on_input(struct server_conn *c) {
  struct world *w = (struct world *)c->server->config.ctx;
  struct span in = span_of(c->in, c->in_len);
  size_t end = span_find_char(in, '\n', 0);
  if (end == SIZE_MAX) {
    return;
  }
  struct span line = span_sub(in, 0, end + 1);
  if (span_eq(line, SPAN_LIT("park\n"))) {
    c->parked = true;
    w->parked_slot = c->slot;
    w->parked_generation = c->generation;
  } else if (span_eq(line, SPAN_LIT("big\n"))) {
    for (int i = 0; i < 1 << 20; i++) {
      text_lit(&c->out, "0123456789abcdef");
    }
  } else {
    text_put(&c->out, line);
    c->close_after = span_eq(line, SPAN_LIT("bye\n"));
  }
  server_consume(c, end + 1);
}

static void start(struct world *w, uint32_t conns_max, uint32_t idle_ms) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  socklen_t len = sizeof w->at;
  poller_init(&w->poller);
  w->at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  assert_int_equal(bind(fd, (struct sockaddr *)&w->at, len), 0);
  assert_int_equal(listen(fd, 16), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&w->at, &len), 0);
  const struct server_config config = {.poller = &w->poller,
                                       .fd = fd,
                                       .conns_max = conns_max,
                                       .idle_ms = idle_ms,
                                       .on_input = on_input,
                                       .ctx = w};
  server_start(&w->server, &config);
}

static int dial(struct world *w) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&w->at, sizeof w->at), 0);
  return fd;
}

static void turns(struct world *w, int count) {
  for (int i = 0; i < count; i++) {
    poller_turn(&w->poller, clock_ms() + 5);
  }
}

static void say(int fd, const char *text) {
  assert_int_equal(send(fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

static void expect(struct world *w, int fd, const char *want) {
  char got[256];
  size_t len = 0;
  for (int i = 0; i < 200 && len < strlen(want); i++) {
    turns(w, 1);
    ssize_t n = recv(fd, got + len, sizeof got - 1 - len, MSG_DONTWAIT);
    len += n > 0 ? (size_t)n : 0;
  }
  got[len] = 0;
  assert_string_equal(got, want);
}

static void expect_closed(struct world *w, int fd) {
  char byte;
  ssize_t n = -1;
  for (int i = 0; i < 400 && n != 0; i++) {
    turns(w, 1);
    n = recv(fd, &byte, 1, MSG_DONTWAIT);
    if (n < 0 && errno == ECONNRESET) {
      n = 0;
    }
  }
  assert_int_equal(n, 0);
}

/* expect_late waits for an answer as long as it takes. */
static void expect_late(struct world *w, int fd, const char *want) {
  char byte;
  while (recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0) {
    turns(w, 1);
  }
  expect(w, fd, want);
}

static void test_pipelined_lines_and_split_lines(void **state) {
  (void)state;
  struct world w;
  start(&w, 4, 60000);
  int fd = dial(&w);
  say(fd, "one\ntwo\nthr");
  expect(&w, fd, "one\ntwo\n");
  say(fd, "ee\nbye\nnever\n");
  expect(&w, fd, "three\nbye\n");
  expect_closed(&w, fd);
  assert_int_equal(w.server.open, 0);
  close(fd);
  server_stop(&w.server);
}

/* Peers that are silent do not lock others out: the one that has been so for longest goes. Those
 * that wait for an answer stay, and then the next ones wait in the kernel's queue. */
static void test_connections_are_bounded(void **state) {
  (void)state;
  struct world w;
  start(&w, 2, 60000);
  int a = dial(&w), b = dial(&w);
  turns(&w, 2);
  int c = dial(&w);
  say(c, "hello\n");
  expect(&w, c, "hello\n");
  expect_closed(&w, a);
  assert_int_equal(w.server.open, 2);
  say(b, "park\n");
  say(c, "park\n");
  turns(&w, 10);
  int d = dial(&w);
  say(d, "late\n");
  turns(&w, 10);
  assert_int_equal(w.server.open, 2);
  close(a);
  close(d);
  close(b);
  close(c);
  server_stop(&w.server);
}

static void test_input_is_bounded(void **state) {
  (void)state;
  struct world w;
  start(&w, 2, 60000);
  int fd = dial(&w);
  char bytes[SERVER_IN_MAX + 1000];
  memset(bytes, 'x', sizeof bytes);
  assert_int_equal(send(fd, bytes, sizeof bytes, 0), (ssize_t)sizeof bytes);
  expect_closed(&w, fd);
  close(fd);
  server_stop(&w.server);
}

static void test_idle_peer_is_closed(void **state) {
  (void)state;
  struct world w;
  start(&w, 2, 20);
  int fd = dial(&w);
  say(fd, "half a li");
  expect_closed(&w, fd);
  close(fd);
  server_stop(&w.server);
}

static void test_slow_reader_gets_all(void **state) {
  (void)state;
  struct world w;
  start(&w, 2, 60000);
  int fd = dial(&w);
  say(fd, "big\nafter\n");
  size_t left = (size_t)16 << 20;
  char bytes[65536];
  turns(&w, 3);
  assert_true(server_busy(&w.server));
  while (left) {
    turns(&w, 1);
    ssize_t n = recv(fd, bytes, left < sizeof bytes ? left : sizeof bytes, MSG_DONTWAIT);
    left -= n > 0 ? (size_t)n : 0;
  }
  expect(&w, fd, "after\n");
  close(fd);
  server_stop(&w.server);
}

static void test_parked(void **state) {
  (void)state;
  struct world w;
  start(&w, 2, 20);
  int fd = dial(&w);
  say(fd, "park\n");
  turns(&w, 20); /* longer than idle_ms: it waits for us, not for the peer */
  struct server_conn *c = server_find(&w.server, w.parked_slot, w.parked_generation);
  assert_non_null(c);
  text_lit(&c->out, "done\n");
  c->close_after = true;
  server_resume(c);
  expect(&w, fd, "done\n");
  expect_closed(&w, fd);
  assert_null(server_find(&w.server, w.parked_slot, w.parked_generation));
  close(fd);
  server_stop(&w.server);
}

static void test_parked_peer_that_leaves(void **state) {
  (void)state;
  struct world w;
  start(&w, 2, 20);
  int fd = dial(&w);
  say(fd, "park\n");
  turns(&w, 5);
  const struct linger reset = {.l_onoff = 1};
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
  close(fd);
  turns(&w, 5);
  assert_null(server_find(&w.server, w.parked_slot, w.parked_generation));
  assert_int_equal(w.server.open, 0);
  server_stop(&w.server);
}

/* descriptors_end leaves room for none; gives the limit that was there. */
static struct rlimit descriptors_end(void) {
  struct rlimit before, none;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  int next = fcntl(0, F_DUPFD, 3);
  assert_true(next > 0);
  close(next);
  none = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  assert_int_equal(fcntl(0, F_DUPFD, 3), -1);
  return before;
}

/* Without any descriptor one connection after the other is served; who waits costs no turns. */
static void test_no_descriptor_left(void **state) {
  (void)state;
  struct world w;
  start(&w, 4, 60000);
  int a = dial(&w), b = dial(&w), c = dial(&w);
  struct rlimit before = descriptors_end();
  say(a, "one\n");
  expect(&w, a, "one\n");
  assert_int_equal(w.server.open, 1);
  assert_int_equal(w.server.spare, -1);
  turns(&w, 3);
  assert_int_equal(w.server.listen.events, 0); /* else poll would return at once, for ever */
  say(a, "bye\n");
  expect(&w, a, "bye\n");
  assert_int_equal(w.server.open, 0);
  say(b, "two\n");
  expect(&w, b, "two\n"); /* b is silent from here on: it gives way after a while */
  say(c, "bye\n");
  expect_late(&w, c, "bye\n");
  expect_closed(&w, b);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  int d = dial(&w);
  say(d, "bye\n");
  expect(&w, d, "bye\n");
  assert_true(w.server.spare >= 0);
  close(a);
  close(b);
  close(c);
  close(d);
  server_stop(&w.server);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pipelined_lines_and_split_lines),
      cmocka_unit_test(test_connections_are_bounded),
      cmocka_unit_test(test_input_is_bounded),
      cmocka_unit_test(test_idle_peer_is_closed),
      cmocka_unit_test(test_slow_reader_gets_all),
      cmocka_unit_test(test_parked),
      cmocka_unit_test(test_parked_peer_that_leaves),
      cmocka_unit_test(test_no_descriptor_left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
