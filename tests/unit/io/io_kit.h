/* io_kit.h: what the tests of io/ share: a loop on the real ring, an owner that records what it
 * hears, raw sockets as peers. Included by each test file; nothing here decides pass or fail. */
#ifndef WEIR_TEST_IO_KIT_H
#define WEIR_TEST_IO_KIT_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "weir/base/mem.h"
#include "weir/io/conn.h"
#include "weir/io/loop_ops.h"
#include "weir/io/relay.h"

#define KIT __attribute__((unused)) static

/* side is one conn's owner. */
struct side {
  struct conn *c;
  int opened, open_err, eofs, errors, err, drained, timers, data_calls;
  size_t got, kept;  /* bytes consumed; bytes of them in bytes[] */
  size_t take_max;   /* consumes at most this much per call; 0: all */
  size_t last_len;   /* offered by the last call */
  bool again;        /* calls conn_read_start inside on_data */
  bool echo;         /* writes back what it consumes */
  bool stop;         /* calls conn_read_stop inside on_data */
  uint64_t sum;      /* of all bytes consumed, by position */
  uint64_t at_error; /* got when on_error came */
  char bytes[65536];
};

KIT uint64_t kit_sum(uint64_t sum, size_t at, const char *bytes, size_t len) {
  for (size_t i = 0; i < len; i++) sum += ((uint64_t)at + i + 1) * (unsigned char)bytes[i];
  return sum;
}

KIT void kit_on_open(struct conn *c, int err) {
  struct side *s = c->owner;
  s->opened++;
  s->open_err = err;
}
KIT size_t kit_on_data(struct conn *c, struct span bytes) {
  struct side *s = c->owner;
  size_t n = s->take_max && s->take_max < bytes.len ? s->take_max : bytes.len;
  s->data_calls++;
  s->last_len = bytes.len;
  for (size_t i = 0; i < n && s->kept < sizeof(s->bytes); i++) s->bytes[s->kept++] = bytes.ptr[i];
  s->sum = kit_sum(s->sum, s->got, bytes.ptr, n);
  s->got += n;
  if (s->echo) assert_true(conn_write(c, span_of(bytes.ptr, n)));
  if (s->again) conn_read_start(c);
  if (s->stop) conn_read_stop(c);
  return n;
}
KIT void kit_on_eof(struct conn *c) { ((struct side *)c->owner)->eofs++; }
KIT void kit_on_error(struct conn *c, int err) {
  struct side *s = c->owner;
  s->errors++;
  s->err = err;
  s->at_error = s->got;
}
KIT void kit_on_drained(struct conn *c) { ((struct side *)c->owner)->drained++; }
KIT void kit_on_timer(struct conn *c) { ((struct side *)c->owner)->timers++; }

static const struct conn_events kit_events = {
    .on_open = kit_on_open,
    .on_data = kit_on_data,
    .on_eof = kit_on_eof,
    .on_error = kit_on_error,
    .on_drained = kit_on_drained,
    .on_timer = kit_on_timer,
};

static const struct loop_config kit_config = {
    .conns_max = 1024,
    .ring_entries = 256,
    .buffers_first = 64,
    .buffers_max = 1024,
    .buffer_bytes = 4096,
    .seed = 1,
};

KIT struct loop *kit_loop_with(const struct loop_config *config) {
  char text[512];
  struct buf why = buf_of(text, sizeof(text));
  struct loop *loop = loop_uring_new(config, &why);
  if (loop == NULL) fail_msg("no ring: %.*s", (int)why.len, text);
  return loop;
}
KIT struct loop *kit_loop(void) { return kit_loop_with(&kit_config); }

KIT void kit_turn(struct loop *loop) {
  assert_int_equal(loop_run_turn(loop, loop->now_ms + 20), 0);
}
/* KIT_UNTIL turns until cond holds; a cond that never does is a failure, not a hang. */
#define KIT_UNTIL(loop, cond) \
  do { \
    int kit_left = 3000; \
    while (!(cond) && kit_left-- > 0) kit_turn(loop); \
    if (!(cond)) fail_msg("%s:%d: never came: %s", __FILE__, __LINE__, #cond); \
  } while (0)
KIT void kit_turns(struct loop *loop, int count) {
  for (int i = 0; i < count; i++) assert_int_equal(loop_run_turn(loop, 0), 0);
}
/* kit_idle turns without waiting until nothing happens any more. */
KIT void kit_settle(struct loop *loop) {
  for (int quiet = 0; quiet < 4;) {
    uint64_t before = loop->stats.completions;
    assert_int_equal(loop_run_turn(loop, loop->now_ms + 2), 0);
    quiet = loop->stats.completions == before ? quiet + 1 : 0;
  }
}

KIT int kit_listen_fd(struct addr *at) {
  assert_true(addr_parse(SPAN_LIT("127.0.0.1:1"), at));
  at->in4.sin_port = 0;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(bind(fd, &at->sa, at->len), 0);
  assert_int_equal(listen(fd, 512), 0);
  assert_int_equal(getsockname(fd, &at->sa, &at->len), 0);
  return fd;
}
KIT int kit_dial(const struct addr *at) {
  int fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(connect(fd, &at->sa, at->len), 0);
  return fd;
}
KIT void kit_nonblock(int fd) { assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0); }
KIT void kit_send(int fd, const char *bytes, size_t len) {
  assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}
KIT void kit_rst(int fd) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
  close(fd);
}

/* net is a loop with one listener; accepted conns get the next side. */
struct net {
  struct loop *loop;
  struct conn *listener;
  struct addr at;
  struct side *sides[256];
  int accepted, wanted_reading; /* how accepted conns start: 0 nothing, 1 reading, 2 watched */
};

KIT struct side *kit_side(void) { return mem_alloc(sizeof(struct side)); }

KIT void kit_on_accept(struct conn *listener, struct conn *c) {
  struct net *net = listener->owner;
  assert_true(net->accepted < 256);
  struct side *s = kit_side();
  s->c = c;
  net->sides[net->accepted++] = s;
  conn_attach(c, &kit_events, s);
  if (net->wanted_reading == 1) conn_read_start(c);
  if (net->wanted_reading == 2) conn_watch(c);
}

KIT struct net *kit_net_with(const struct loop_config *config, int reading) {
  struct net *net = mem_alloc(sizeof(*net));
  net->loop = kit_loop_with(config);
  net->wanted_reading = reading;
  int fd = kit_listen_fd(&net->at);
  net->listener = conn_listen(net->loop, fd, kit_on_accept, net);
  assert_non_null(net->listener);
  return net;
}
KIT struct net *kit_net(int reading) { return kit_net_with(&kit_config, reading); }

/* kit_pair gives a raw peer and the side that weir accepted. */
KIT struct side *kit_pair(struct net *net, int *peer) {
  int before = net->accepted;
  *peer = kit_dial(&net->at);
  KIT_UNTIL(net->loop, net->accepted == before + 1);
  return net->sides[before];
}

KIT void kit_net_free(struct net *net) {
  kit_settle(net->loop);
  loop_free(net->loop);
  for (int i = 0; i < net->accepted; i++) mem_free(net->sides[i]);
  mem_free(net);
}

KIT int kit_fds_open(void) {
  int count = 0;
  for (int fd = 0; fd < 4096; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

/* kit_recv_all turns the loop while a raw peer reads until EOF or want bytes. */
KIT size_t kit_recv(struct loop *loop, int fd, char *into, size_t want, bool *eof) {
  size_t got = 0;
  *eof = false;
  for (int tries = 0; got < want && tries < 100000; tries++) {
    ssize_t n = recv(fd, into + got, want - got, MSG_DONTWAIT);
    if (n > 0) {
      got += (size_t)n;
      continue;
    }
    if (n == 0 || errno != EAGAIN) {
      *eof = true;
      break;
    }
    assert_int_equal(loop_run_turn(loop, loop->now_ms + 2), 0);
  }
  return got;
}

#endif
