/* test_udp.c: datagram sockets on the real ring: whole datagrams of every length both ways, own
 * addresses, ICMP, more than there are buffers, closing at any moment. */
#include "io_kit.h"
#include "weir/io/udp.h"

#include <netinet/udp.h>

struct ear {
  struct udp *u;
  int count, errors, err;
  size_t last_len;
  struct addr from;
  struct udp_local to;
  char bytes[UDP_BYTES_MAX];
  bool echo, close;
  struct ear *other; /* passes to it */
};

static void on_datagram(struct udp *u, struct udp_datagram *d) {
  struct ear *e = u->owner;
  e->count++;
  e->from = d->from;
  e->to = d->to;
  e->last_len = d->bytes.len;
  assert_true(d->bytes.len <= sizeof e->bytes);
  memcpy(e->bytes, d->bytes.ptr, d->bytes.len);
  if (e->echo) udp_pass(u, d, d->from.len ? &d->from : NULL, &d->to);
  if (e->other) udp_pass(e->other->u, d, NULL, NULL);
  if (e->close) udp_close(u);
}
static void on_error(struct udp *u, int err) {
  struct ear *e = u->owner;
  e->errors++;
  e->err = err;
}
static const struct udp_events events = {.on_datagram = on_datagram, .on_error = on_error};

static int raw(const char *at_text, struct addr *at) {
  assert_true(addr_parse(span_str(at_text), at));
  at->in4.sin_port = 0;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  int size = 4 << 20;
  (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  assert_int_equal(bind(fd, &at->sa, at->len), 0);
  assert_int_equal(getsockname(fd, &at->sa, &at->len), 0);
  return fd;
}

static struct ear *listening(struct loop *loop, const char *at_text, struct addr *at) {
  struct ear *e = mem_alloc(sizeof *e);
  e->u = udp_listen(loop, raw(at_text, at), &events, e);
  assert_non_null(e->u);
  return e;
}

/* come waits for a datagram at a raw socket: its length. */
static size_t come(struct loop *loop, int fd, char *into, size_t cap) {
  for (int tries = 0; tries < 5000; tries++) {
    ssize_t n = recv(fd, into, cap, MSG_DONTWAIT);
    if (n >= 0) return (size_t)n;
    assert_int_equal(loop_run_turn(loop, loop->now_ms + 2), 0);
  }
  fail_msg("no datagram came");
  return 0;
}

static const size_t lengths[] = {0, 1, 12, 1200, 1472, 4096, 9000, 65000, UDP_BYTES_MAX};

static void each_length(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct addr at, own;
  static char sent[UDP_BYTES_MAX], back[UDP_BYTES_MAX];
  struct ear *e = listening(loop, "127.0.0.1:1", &at);
  e->echo = true;
  int fd = raw("127.0.0.1:1", &own);
  for (size_t i = 0; i < array_count(lengths); i++) {
    memset(sent, (int)('a' + i), lengths[i]);
    assert_int_equal(sendto(fd, sent, lengths[i], 0, &at.sa, at.len), (ssize_t)lengths[i]);
    assert_int_equal(come(loop, fd, back, sizeof back), lengths[i]);
    assert_memory_equal(sent, back, lengths[i]);
    assert_true(addr_eq(&e->from, &own));
    assert_int_equal(e->to.family, 0);
  }
  udp_close(e->u);
  kit_settle(loop);
  assert_int_equal(loop->udps.live, 0);
  loop_free(loop);
  close(fd);
  mem_free(e);
}

/* Through a connected socket and back, more of them than there are buffers. */
static void many_pass(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct addr at, far, own;
  char piece[64];
  struct ear *front = listening(loop, "127.0.0.1:1", &at);
  int server = raw("127.0.0.1:1", &far), client = raw("127.0.0.1:1", &own);
  struct ear back = {0};
  int err = 0;
  back.u = udp_connect(loop, &far, &events, &back, &err);
  assert_non_null(back.u);
  front->other = &back;
  for (int i = 0; i < 300; i++) {
    (void)snprintf(piece, sizeof piece, "number %d", i);
    assert_true(sendto(client, piece, strlen(piece), 0, &at.sa, at.len) > 0);
  }
  for (int i = 0; i < 300; i++) { /* in order, each once */
    char got[64];
    (void)snprintf(piece, sizeof piece, "number %d", i);
    assert_int_equal(come(loop, server, got, sizeof got), strlen(piece));
    assert_memory_equal(got, piece, strlen(piece));
  }
  assert_int_equal(front->errors + back.errors, 0);
  loop_trim(loop);
  loop_trim(loop); /* no buffer is out: their pages go */
  assert_true(sendto(client, "again", 5, 0, &at.sa, at.len) == 5);
  assert_int_equal(come(loop, server, piece, sizeof piece), 5);
  udp_close(front->u);
  loop_free(loop); /* the other one is left to it */
  close(server);
  close(client);
  mem_free(front);
}

/* raw_shared: more sockets at *at, as listeners of several workers have. */
static int raw_shared(const struct addr *at) {
  int on = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
  assert_int_equal(bind(fd, &at->sa, at->len), 0);
  return fd;
}

/* One of two sockets at an address hears no more: what it has it gives, all else comes to the
 * other one. */
static void retired(void **state) {
  const char *texts[] = {"127.0.0.1:1", "0.0.0.0:1"};
  (void)state;
  for (size_t k = 0; k < array_count(texts); k++) {
    struct loop *loop = kit_loop();
    struct addr at, to;
    struct ear *old = mem_alloc(sizeof *old);
    int probe = raw(texts[k], &at), clients[32];
    close(probe);
    int fd = raw_shared(&at), next = raw_shared(&at);
    to = at;
    to.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    old->u = udp_listen(loop, fd, &events, old);
    assert_non_null(old->u);
    for (size_t i = 0; i < array_count(clients); i++) {
      struct addr own;
      clients[i] = raw("127.0.0.1:1", &own);
      assert_int_equal(sendto(clients[i], "a", 1, 0, &to.sa, to.len), 1);
    }
    assert_false(udp_empty(old->u));
    assert_true(udp_retire(old->u));
    for (size_t i = 0; i < array_count(clients); i++)
      assert_int_equal(sendto(clients[i], "b", 1, 0, &to.sa, to.len), 1);
    while (!udp_empty(old->u)) assert_int_equal(loop_run_turn(loop, loop->now_ms + 2), 0);
    assert_int_equal(loop_run_turn(loop, loop->now_ms + 2), 0);
    int got = 0, late = 0;
    for (char byte; recv(next, &byte, 1, MSG_DONTWAIT) == 1; got++) late += byte == 'b';
    assert_int_equal(late, array_count(clients));
    assert_int_equal(old->count + got, 2 * array_count(clients));
    assert_true(old->count > 0 && old->errors == 0);
    udp_close(old->u);
    for (int n = 0; loop->udps.live && n < 100; n++)
      assert_int_equal(loop_run_turn(loop, loop->now_ms + 2), 0);
    loop_free(loop);
    for (size_t i = 0; i < array_count(clients); i++) close(clients[i]);
    close(next);
    mem_free(old);
  }
}

/* Which addresses are this machine's own (192.0.2.0/24 is nobody's, RFC 5737). */
static void is_here(void **state) {
  static const struct {
    const char *text;
    bool here;
  } rows[] = {{"127.0.0.1:53", true},
              {"127.8.9.10:53", true},
              {"[::1]:53", true},
              {"192.0.2.7:53", false},
              {"[2001:db8::7]:53", false}};
  (void)state;
  struct loop *loop = kit_loop();
  for (size_t i = 0; i < array_count(rows); i++) {
    struct addr a;
    assert_true(addr_parse(span_str(rows[i].text), &a));
    assert_int_equal(udp_is_here(loop, &a), rows[i].here);
  }
  loop_free(loop);
}

/* Of a socket bound to all addresses the answer comes from the one that was asked. */
static void any_address(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct addr at, own, from = {.len = sizeof from.in4};
  struct ear *e = listening(loop, "0.0.0.0:1", &at);
  char got[16];
  e->echo = true;
  int fd = raw("127.0.0.1:1", &own);
  at.in4.sin_addr.s_addr = htonl(0x7f000009);
  assert_int_equal(sendto(fd, "ask", 3, 0, &at.sa, at.len), 3);
  KIT_UNTIL(loop, e->count == 1);
  kit_settle(loop);
  assert_int_equal(recvfrom(fd, got, sizeof got, 0, &from.sa, &from.len), 3);
  assert_true(addr_eq(&from, &at));
  assert_int_equal(e->to.family, AF_INET);
  udp_close(e->u);
  loop_free(loop);
  close(fd);
  mem_free(e);
}

static void refused(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct addr at, far, own;
  struct ear *front = listening(loop, "127.0.0.1:1", &at);
  close(raw("127.0.0.1:1", &far)); /* nobody is there */
  int client = raw("127.0.0.1:1", &own), err = 0;
  struct ear back = {0};
  back.u = udp_connect(loop, &far, &events, &back, &err);
  assert_non_null(back.u);
  front->other = &back;
  assert_int_equal(sendto(client, "x", 1, 0, &at.sa, at.len), 1);
  KIT_UNTIL(loop, back.errors == 1);
  assert_int_equal(back.err, -ECONNREFUSED);
  assert_int_equal(sendto(client, "x", 1, 0, &at.sa, at.len), 1); /* it goes on */
  KIT_UNTIL(loop, back.errors >= 2);
  front->close = true;
  assert_int_equal(sendto(client, "x", 1, 0, &at.sa, at.len), 1); /* closed by the event */
  KIT_UNTIL(loop, loop->udps.live == 1);
  udp_close(back.u);
  kit_settle(loop);
  assert_int_equal(loop->udps.live, 0);
  loop_free(loop);
  close(client);
  mem_free(front);
}

/* A train of datagrams, as QUIC sends them: it arrives as what it was, also where the way on takes
 * no trains (a socket without checksums). */
static void trains(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct addr at, far, own;
  static char train[1200 * 20 + 333], got[UDP_BYTES_MAX];
  struct ear *front = listening(loop, "127.0.0.1:1", &at), back = {0};
  int server = raw("127.0.0.1:1", &far), client = raw("127.0.0.1:1", &own), err = 0;
  int segment = 1200, off = 1;
  back.u = udp_connect(loop, &far, &events, &back, &err);
  assert_non_null(back.u);
  front->other = &back;
  udp_coalesce(front->u, true);
  assert_int_equal(setsockopt(client, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment), 0);
  for (size_t i = 0; i < sizeof train; i++) train[i] = (char)(i * 7 / 1200 + i);
  for (int round = 0; round < 4; round++) {
    front->count = 0;
    if (round == 2) (void)setsockopt(back.u->fd, SOL_SOCKET, SO_NO_CHECK, &off, sizeof off);
    assert_int_equal(sendto(client, train, sizeof train, 0, &at.sa, at.len), sizeof train);
    for (size_t i = 0; i < sizeof train; i += 1200) {
      size_t len = sizeof train - i < 1200 ? sizeof train - i : 1200;
      assert_int_equal(come(loop, server, got, sizeof got), len);
      assert_memory_equal(got, train + i, len);
    }
    assert_int_equal(front->count, 1); /* it went through as one */
  }
  assert_int_equal(back.errors, 0);
  udp_close(front->u);
  udp_close(back.u);
  kit_settle(loop);
  loop_free(loop);
  close(server);
  close(client);
  mem_free(front);
}

/* Whoever settles has the port back that was closed, and the descriptor, within the same turn. */
static void settled_at_once(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct addr far, own;
  int err = 0, fd = raw("127.0.0.1:1", &far);
  struct udp *u = udp_connect(loop, &far, &events, NULL, &err);
  assert_non_null(u);
  kit_settle(loop); /* its receive is armed */
  assert_true(udp_local_addr(u, &own));
  udp_close(u);
  udp_settle(loop);
  int again = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(again, &own.sa, own.len), 0);
  kit_settle(loop);
  loop_free(loop);
  close(again);
  close(fd);
}

static void no_descriptor(void **state) {
  (void)state;
  struct loop *loop = kit_loop();
  struct addr far;
  int err = 0, fd = raw("127.0.0.1:1", &far);
  loop->fds_most = 1;
  assert_null(udp_connect(loop, &far, &events, NULL, &err));
  assert_int_equal(err, -EMFILE);
  loop_free(loop);
  close(fd);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_length), cmocka_unit_test(many_pass), cmocka_unit_test(any_address),
      cmocka_unit_test(refused),     cmocka_unit_test(trains),    cmocka_unit_test(no_descriptor),
      cmocka_unit_test(settled_at_once), cmocka_unit_test(retired), cmocka_unit_test(is_here),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
