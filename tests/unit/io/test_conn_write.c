/* test_conn_write.c: what goes: merging, one send in flight, limits, growth, drained, the corked
 * FIN, failing sends. */
#include "io_kit.h"

#include <linux/tcp.h>

#include "io/io_priv.h"

static void one_send_per_turn(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  kit_settle(net->loop);
  uint64_t submits = net->loop->stats.submits;
  for (int i = 0; i < 100; i++) assert_true(conn_write(s->c, SPAN_LIT("0123456789")));
  struct buf *out = conn_out(s->c, 5);
  assert_non_null(out);
  buf_lit(out, "after");
  conn_flush(s->c);
  assert_int_equal(conn_pending(s->c), 1005);
  KIT_UNTIL(net->loop, s->drained == 1);
  assert_int_equal(net->loop->stats.submits - submits, 1);
  assert_int_equal(conn_pending(s->c), 0);
  char got[1005];
  assert_int_equal(recv(peer, got, sizeof(got), MSG_WAITALL), 1005);
  assert_memory_equal(got + 995, "56789after", 10);
  close(peer);
  kit_net_free(net);
}

static void fill_socket(struct net *net, struct side *s) {
  static char big[200000];
  int small = 8192;
  setsockopt(s->c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  for (int i = 0; i < 100; i++) {
    if (conn_pending(s->c) == 0) assert_true(conn_write(s->c, span_of(big, sizeof(big))));
    kit_turns(net->loop, 2);
  }
  assert_true(conn_pending(s->c) > 0);
}

static void what_is_queued_meanwhile_is_merged(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  fill_socket(net, s);
  uint64_t submits = net->loop->stats.submits;
  for (int i = 0; i < 50; i++) {
    assert_true(conn_write(s->c, SPAN_LIT("merged")));
    kit_turns(net->loop, 1);
  }
  assert_int_equal(net->loop->stats.submits, submits); /* one is in flight */
  int before = s->drained;
  static char got[65536];
  size_t total = 0;
  while (s->drained == before) {
    ssize_t n = recv(peer, got, sizeof(got), MSG_DONTWAIT);
    if (n > 0) total += (size_t)n;
    kit_turns(net->loop, 1);
  }
  for (ssize_t n = 1; n > 0;) {
    n = recv(peer, got, sizeof(got), MSG_DONTWAIT);
    if (n > 0) total += (size_t)n;
  }
  assert_int_equal(total, s->c->bytes_out);
  assert_int_equal(net->loop->stats.submits - submits, 1);
  close(peer);
  kit_net_free(net);
}

static void pending_is_bounded(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  static char big[CONN_PENDING_MAX + 1];
  assert_false(conn_write(s->c, span_of(big, sizeof(big))));
  assert_int_equal(conn_pending(s->c), 0);
  assert_true(conn_write(s->c, span_of(big, CONN_PENDING_MAX)));
  assert_false(conn_write(s->c, span_of(big, 1)));
  assert_null(conn_out(s->c, 1));
  close(peer);
  kit_net_free(net);
}

static void conn_out_grows_and_keeps(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  struct buf *out = conn_out(s->c, 10);
  assert_non_null(out);
  buf_lit(out, "head");
  out = conn_out(s->c, 100000);
  assert_non_null(out);
  assert_true(buf_room(out) >= 100000);
  assert_int_equal(out->len, 4);
  buf_lit(out, "tail");
  conn_flush(s->c);
  char got[8];
  bool eof;
  assert_int_equal(kit_recv(net->loop, peer, got, 8, &eof), 8);
  assert_memory_equal(got, "headtail", 8);
  close(peer);
  kit_net_free(net);
}

static void no_buffer_is_a_refusal(void **state) {
  (void)state;
  struct loop_config config = kit_config;
  config.iobuf_bytes_max = 8192;
  struct net *net = kit_net_with(&config, 0);
  int peers[3];
  struct side *s[3];
  for (int i = 0; i < 3; i++) s[i] = kit_pair(net, &peers[i]);
  assert_true(conn_write(s[0]->c, SPAN_LIT("a")));
  assert_true(conn_write(s[1]->c, SPAN_LIT("b")));
  assert_false(conn_write(s[2]->c, SPAN_LIT("c")));
  assert_null(conn_out(s[2]->c, 1));
  KIT_UNTIL(net->loop, s[0]->drained == 1);
  assert_true(conn_write(s[2]->c, SPAN_LIT("c")));
  KIT_UNTIL(net->loop, s[2]->drained == 1);
  for (int i = 0; i < 3; i++) close(peers[i]);
  kit_net_free(net);
}

static int chain_left;
static void writes_again(struct conn *c) {
  if (chain_left-- > 0) assert_true(conn_write(c, SPAN_LIT("next")));
}

static void drained_may_write(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  struct conn_events events = kit_events;
  events.on_drained = writes_again;
  conn_attach(s->c, &events, s);
  chain_left = 10;
  assert_true(conn_write(s->c, SPAN_LIT("next")));
  KIT_UNTIL(net->loop, chain_left == -1);
  char got[44];
  assert_int_equal(recv(peer, got, 44, MSG_WAITALL), 44);
  close(peer);
  kit_net_free(net);
}

/* The FIN travels with the last bytes: the peer has seen it as soon as it has read them. */
static void fin_travels_with_the_last_bytes(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  assert_true(conn_write(s->c, SPAN_LIT("the whole response")));
  conn_finish(s->c);
  kit_settle(net->loop);
  struct tcp_info info;
  socklen_t len = sizeof(info);
  assert_int_equal(getsockopt(peer, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
  assert_int_equal(info.tcpi_data_segs_in, 1);
  assert_int_equal(info.tcpi_segs_in, 2); /* the last step of the handshake; data with FIN */
  char got[32];
  assert_int_equal(recv(peer, got, 32, MSG_DONTWAIT), 18);
  assert_int_equal(recv(peer, got, 32, MSG_DONTWAIT), 0);
  close(peer);
  kit_net_free(net);
}

static void send_to_a_dead_peer_is_an_error_once(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  fill_socket(net, s);
  kit_rst(peer);
  KIT_UNTIL(net->loop, s->errors == 1);
  assert_true(s->err == -ECONNRESET || s->err == -EPIPE);
  assert_true(conn_write(s->c, SPAN_LIT("into the void"))); /* dropped: the owner was told */
  kit_settle(net->loop);
  assert_int_equal(s->errors, 1);
  assert_int_equal(net->loop->iobufs.bytes_out, 0);
  conn_close_gently(s->c, 60000); /* nothing to wait for */
  KIT_UNTIL(net->loop, net->loop->conns.live == 1);
  kit_net_free(net);
}

static void empty_writes_do_no_harm(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  int peer;
  struct side *s = kit_pair(net, &peer);
  assert_true(conn_write(s->c, SPAN_EMPTY));
  struct buf *out = conn_out(s->c, 100);
  assert_non_null(out);
  conn_flush(s->c);
  kit_settle(net->loop);
  assert_int_equal(net->loop->iobufs.bytes_out, 0);
  assert_true(conn_write(s->c, SPAN_LIT("x")));
  KIT_UNTIL(net->loop, s->drained == 1);
  close(peer);
  kit_net_free(net);
}

/* One send is in flight all the time; what the peer takes of it is seen, and standing still
 * too. */
static void taken_is_seen_inside_a_send(struct net *net, int peer, int sndbuf, int times) {
  KIT_UNTIL(net->loop, net->accepted == 1);
  struct side *s = net->sides[0];
  static char big[250000];
  setsockopt(s->c->fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
  assert_true(conn_write(s->c, span_of(big, sizeof(big))));
  kit_settle(net->loop);
  assert_true(conn_pending(s->c) == sizeof(big));
  uint64_t before;
  int tries = 0;
  do { /* the kernel's probe of a window that is all but shut carries bytes, once it is due */
    before = conn_taken(s->c);
    kit_settle(net->loop);
  } while (conn_taken(s->c) != before && ++tries < 100);
  assert_true(conn_taken(s->c) == before);
  int seen = 0;
  for (size_t got = 0; got < sizeof(big) && s->drained == 0;) {
    ssize_t n = recv(peer, big, 8192, MSG_DONTWAIT);
    if (n > 0) got += (size_t)n;
    kit_turns(net->loop, 3);
    uint64_t now = conn_taken(s->c);
    seen += now != before && conn_pending(s->c) == sizeof(big);
    before = now;
  }
  assert_true(seen >= times);
  close(peer);
}

static int dial_small(const struct net *net) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096, segment = 1400;
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
  assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)), 0);
  assert_int_equal(connect(fd, &net->at.sa, net->at.len), 0);
  return fd;
}

static void taken_by_tcp(void **state) {
  (void)state;
  struct net *net = kit_net(0);
  taken_is_seen_inside_a_send(net, dial_small(net), 4096, 10);
  kit_net_free(net);
}

/* A unix socket tells of whole buffers only. */
static void taken_by_a_unix_socket(void **state) {
  (void)state;
  char dir[] = "/tmp/weir-test-XXXXXX", text[64];
  assert_non_null(mkdtemp(dir));
  (void)snprintf(text, sizeof(text), "unix:%s/s", dir);
  struct net *net = mem_alloc(sizeof(*net));
  net->loop = kit_loop();
  assert_true(addr_parse(span_str(text), &net->at));
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, &net->at.sa, net->at.len), 0);
  assert_int_equal(listen(fd, 16), 0);
  net->listener = conn_listen(net->loop, fd, kit_on_accept, net);
  taken_is_seen_inside_a_send(net, kit_dial(&net->at), 65536, 1);
  kit_net_free(net);
  unlink(text + 5);
  rmdir(dir);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_send_per_turn),
      cmocka_unit_test(what_is_queued_meanwhile_is_merged),
      cmocka_unit_test(pending_is_bounded),
      cmocka_unit_test(conn_out_grows_and_keeps),
      cmocka_unit_test(no_buffer_is_a_refusal),
      cmocka_unit_test(drained_may_write),
      cmocka_unit_test(fin_travels_with_the_last_bytes),
      cmocka_unit_test(send_to_a_dead_peer_is_an_error_once),
      cmocka_unit_test(empty_writes_do_no_harm),
      cmocka_unit_test(taken_by_tcp),
      cmocka_unit_test(taken_by_a_unix_socket),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
