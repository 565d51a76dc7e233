/* stream_tls.c over memory: handshakes cut at every byte, garbage, plain HTTP, close_notify and
 * FIN, backpressure, large bodies with short reads, record sizes, the handshake budget, owners
 * that close inside an event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/err.h>

#include "io/io_priv.h"
#include "io/tls_conn_priv.h"
#include "tls_harness.h"
#include "weir/base/mem.h"

static struct th_cert cert;
static struct tls_server *server;
static struct th_loop *t;

static int setup(void **state) {
  (void)state;
  cert = th_cert_make(TH_P256, "DNS:a.example", 86400);
  struct th_served served = {&cert, NULL, false};
  server = th_server(&served, 1, SPAN_LIT("\x08http/1.1"), SPAN_LIT("p"));
  return 0;
}
static int teardown(void **state) {
  (void)state;
  tls_server_unref(server);
  th_cert_free(&cert);
  return 0;
}
static int each_setup(void **state) {
  (void)state;
  t = th_loop_new();
  return 0;
}
/* Every test ends with all buffers and states given back. */
static int each_teardown(void **state) {
  (void)state;
  assert_int_equal(t->loop.iobufs.bytes_out, 0);
  if (t->loop.tls) assert_int_equal(t->loop.tls->conns.live, 0);
  th_loop_free(t);
  return 0;
}

static struct th_pair *pair(uint16_t max) {
  struct th_client_conf conf = {.max = max, .sni = "a.example"};
  return th_pair_new(t, server, 0, th_client_new(&conf));
}
static struct th_pair *opened(uint16_t max) {
  struct th_pair *p = pair(max);
  th_run(p);
  assert_int_equal(p->opened, 1);
  assert_int_equal(p->open_err, 0);
  return p;
}
static void client_writes(struct th_pair *p, struct span bytes) {
  assert_int_equal(SSL_write(p->client, bytes.ptr, (int)bytes.len), (int)bytes.len);
}
/* client_reads appends what the client can decrypt; the result of the last SSL_read's error. */
static int client_reads(struct th_pair *p, struct text *into) {
  char bytes[16384];
  int n = 0;
  while ((n = SSL_read(p->client, bytes, sizeof(bytes))) > 0) {
    text_put(into, span_of(bytes, (size_t)n));
  }
  int error = SSL_get_error(p->client, n);
  ERR_clear_error();
  return error;
}

static void exchange(void **state) {
  (void)state;
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_pair *p = opened(max);
    client_writes(p, SPAN_LIT("GET /"));
    th_run(p);
    assert_true(span_eq(text_span(&p->got), SPAN_LIT("GET /")));
    assert_true(conn_write(p->conn, SPAN_LIT("200 OK")));
    th_run(p);
    struct text back = {0};
    assert_int_equal(client_reads(p, &back), SSL_ERROR_WANT_READ);
    assert_true(span_eq(text_span(&back), SPAN_LIT("200 OK")));
    assert_true(p->drained > 0);
    text_fini(&back);
    /* close_notify of the client is an end, FIN behind it nothing more */
    SSL_shutdown(p->client);
    th_run(p);
    assert_int_equal(p->eof, 1);
    p->wire->in_fin = true;
    th_run(p);
    assert_int_equal(p->eof, 1);
    assert_int_equal(p->error, 0);
    /* and ours reaches the client */
    conn_finish(p->conn);
    th_run(p);
    struct text none = {0};
    assert_int_equal(client_reads(p, &none), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(none.len, 0);
    assert_true(p->wire->out_fin);
    th_pair_free(p);
  }
}

static void idle_holds_nothing(void **state) {
  (void)state;
  struct th_pair *p = opened(TLS1_3_VERSION);
  client_writes(p, SPAN_LIT("x"));
  th_run(p);
  assert_int_equal(t->loop.iobufs.bytes_out, 0);
  assert_int_equal(SSL_has_pending(p->conn->tls->ssl), 0);
  assert_null(p->conn->tls->early);
  th_pair_free(p);
}

/* The handshake arrives byte by byte, and cut in two at every byte. */
static void split_at_every_byte(void **state) {
  (void)state;
  t->recv_max = t->send_max = 1;
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_pair *p = opened(max);
    client_writes(p, SPAN_LIT("hello"));
    th_run(p);
    assert_true(span_eq(text_span(&p->got), SPAN_LIT("hello")));
    th_pair_free(p);
  }
}

/* The client hello ends at every byte: a FIN there is an end of the handshake, told once. */
static void truncated_at_every_byte(void **state) {
  (void)state;
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_pair *whole = pair(max);
    th_pump(whole);
    size_t len = whole->wire->in.len;
    assert_true(len > 100);
    for (size_t cut = 0; cut < len; cut++) {
      struct th_pair *p = th_pair_new(t, server, 0, NULL);
      text_put(&p->wire->in, span_sub(text_span(&whole->wire->in), 0, cut));
      th_run(p);
      assert_int_equal(p->opened, 0);
      assert_int_equal(p->wire->out.len, 0);
      p->wire->in_fin = true;
      th_run(p);
      assert_int_equal(p->opened, 1);
      assert_int_equal(p->open_err, -ECONNABORTED);
      assert_int_equal(conn_tls_end(p->conn), END_CLIENT_TLS_HANDSHAKE);
      assert_int_equal(p->eof + p->error, 0);
      th_pair_free(p);
    }
    th_pair_free(whole);
  }
}

/* The second flight of the client ends at every byte. */
static void truncated_second_flight(void **state) {
  (void)state;
  size_t cut = 0, len = 1;
  for (; cut < len; cut++) {
    struct th_pair *p = pair(TLS1_2_VERSION);
    th_pump(p);
    th_run(p);
    /* th_run did it all: replay the bytes into a conn that has another server random: it fails or
     * waits, but never opens */
    struct th_pair *q = th_pair_new(t, server, 0, NULL);
    len = p->wire->in.len;
    text_put(&q->wire->in, span_sub(text_span(&p->wire->in), 0, cut));
    th_run(q);
    q->wire->in_fin = true;
    th_run(q);
    assert_int_equal(q->opened, 1);
    assert_true(q->open_err == -ECONNABORTED || q->open_err == -EPROTO);
    th_pair_free(q);
    th_pair_free(p);
  }
}

static void garbage(void **state) {
  (void)state;
  static const struct {
    struct span bytes;
    enum end end;
  } rows[] = {
      {SPAN_LIT("\x16\x03\x01\xff\xff"
                "aaaaaaaa"),
       END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00"), END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("\x17\x03\x03\x00\x05hello"), END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("\x15\x03\x03\x00\x02\x02\x28"), END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("\x00\x00\x00\x00\x00\x00\x00\x00"), END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"), END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("get / http/1.1\r\n"), END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("SSH-2.0-OpenSSH_9.2\r\n"), END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("ABCDEFGHIJKLMNOPQRSTUVWXYZ "), END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("GE\x16\x03\x01"), END_CLIENT_TLS_HANDSHAKE},
      {SPAN_LIT("GET / HTTP/1.1\r\n"), END_CLIENT_PLAIN_ON_TLS},
      {SPAN_LIT("PROPFIND /x HTTP/1.1\r\n"), END_CLIENT_PLAIN_ON_TLS},
      {SPAN_LIT("PRI * HTTP/2.0\r\n"), END_CLIENT_PLAIN_ON_TLS},
      {SPAN_LIT("CONNECT a:443 HTTP/1.1\r\n"), END_CLIENT_PLAIN_ON_TLS},
  };
  for (size_t max = 1; max <= 64; max += 63) {
    t->recv_max = max;
    for (size_t i = 0; i < array_count(rows); i++) {
      struct th_pair *p = th_pair_new(t, server, 0, NULL);
      text_put(&p->wire->in, rows[i].bytes);
      th_run(p);
      if (p->opened == 0) { /* not yet refused: the rest never comes */
        p->wire->in_fin = true;
        th_run(p);
      }
      assert_int_equal(p->opened, 1);
      assert_true(p->open_err < 0);
      assert_int_equal(conn_tls_end(p->conn), rows[i].end);
      assert_int_equal(p->got.len, 0);
      if (rows[i].end == END_CLIENT_PLAIN_ON_TLS) assert_int_equal(p->wire->out.len, 0);
      th_pair_free(p);
    }
  }
}

static void plain_http_is_answered(void **state) {
  (void)state;
  struct th_pair *p = th_pair_new(t, server, 0, NULL);
  text_put(&p->wire->in, SPAN_LIT("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  th_run(p);
  assert_int_equal(p->info.end, END_CLIENT_PLAIN_ON_TLS);
  assert_true(tls_answer_plain(p->conn, SPAN_LIT("HTTP/1.1 400 Bad Request\r\n\r\n")));
  conn_close_gently(p->conn, 1000);
  p->conn = NULL;
  th_run(p);
  assert_true(span_eq(text_span(&p->wire->out), SPAN_LIT("HTTP/1.1 400 Bad Request\r\n\r\n")));
  assert_true(p->wire->out_fin);
  text_put(&p->wire->in, SPAN_LIT("GET /again")); /* dropped */
  p->wire->in_fin = true;
  th_run(p);
  th_turn(t);
  assert_null(p->wire->conn);
  th_pair_free(p);
}

/* The alert of a failed handshake reaches the client when the owner closes gently. */
static void alert_is_sent(void **state) {
  (void)state;
  struct th_client_conf conf = {.sni = "other.example"};
  struct th_pair *p = th_pair_new(t, server, 0, th_client_new(&conf));
  th_pump(p);
  for (int i = 0; i < 4 && p->opened == 0; i++) th_turn(t);
  assert_int_equal(p->open_err, -EPROTO);
  conn_close_gently(p->conn, 1000);
  p->conn = NULL;
  th_run(p);
  struct span out = text_span(&p->wire->out);
  assert_int_equal(out.len, 7);
  assert_int_equal(out.ptr[6], SSL_AD_UNRECOGNIZED_NAME);
  p->wire->in_fin = true;
  th_run(p);
  assert_null(p->wire->conn);
  th_pair_free(p);
}

static void fin_is_truncation(void **state) {
  (void)state;
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_pair *p = opened(max);
    client_writes(p, SPAN_LIT("partial"));
    th_pump(p);
    p->wire->in_fin = true;
    th_run(p);
    assert_true(span_eq(text_span(&p->got), SPAN_LIT("partial")));
    assert_int_equal(p->error, -ECONNABORTED);
    assert_int_equal(p->eof, 0);
    th_pair_free(p);
  }
}

/* A FIN behind bytes that the owner does not read yet is told after them. */
static void fin_behind_held(void **state) {
  (void)state;
  for (int notify = 0; notify < 2; notify++) {
    struct th_pair *p = opened(TLS1_3_VERSION);
    p->quota = 10;
    struct text body = {0};
    for (int i = 0; i < 100000; i++) text_put(&body, SPAN_LIT("0123456789"));
    client_writes(p, span_sub(text_span(&body), 0, 60000));
    if (notify) SSL_shutdown(p->client);
    th_pump(p);
    p->wire->in_fin = true;
    for (int i = 0; i < 50; i++) th_turn(t);
    assert_int_equal(p->got.len, 10);
    assert_int_equal(p->error, 0);
    assert_int_equal(p->eof, 0);
    p->quota = SIZE_MAX;
    conn_read_start(p->conn);
    th_run(p);
    assert_int_equal(p->got.len, 60000);
    assert_int_equal(p->eof, notify);
    assert_int_equal(p->error, notify ? 0 : -ECONNABORTED);
    text_fini(&body);
    th_pair_free(p);
  }
}

static void reset_in_handshake(void **state) {
  (void)state;
  struct th_pair *p = pair(TLS1_3_VERSION);
  th_pump(p);
  th_turn(t);
  p->wire->in_reset = true;
  for (int i = 0; i < 10; i++) th_turn(t);
  assert_int_equal(p->opened, 1);
  assert_int_equal(p->open_err, -ECONNRESET);
  assert_int_equal(conn_tls_end(p->conn), END_CLIENT_TLS_HANDSHAKE);
  th_pair_free(p);
}

static void damaged_record(void **state) {
  (void)state;
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_pair *p = opened(max);
    client_writes(p, SPAN_LIT("secret"));
    size_t at = p->wire->in.len;
    th_pump(p);
    p->wire->in.ptr[at + 9] ^= 1;
    th_run(p);
    assert_int_equal(p->error, -EPROTO);
    assert_int_equal(p->got.len, 0);
    struct tls_info info;
    conn_tls_info(p->conn, &info);
    assert_true(info.why.len > 0);
    assert_int_equal(info.end, END_CLIENT_TLS_RECORD);
    /* the client is told, before the FIN */
    conn_close_gently(p->conn, 1000);
    p->conn = NULL;
    th_run(p);
    char byte;
    assert_int_equal(SSL_read(p->client, &byte, 1), -1);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
    ERR_clear_error();
    assert_true(p->wire->out_fin);
    p->wire->in_fin = true; /* it was waited for */
    th_run(p);
    th_pair_free(p);
  }
}

/* An end without close_notify is no fault of the client's, who is told nothing. */
static void cut_is_no_fault(void **state) {
  (void)state;
  struct th_pair *p = opened(TLS1_3_VERSION);
  size_t before = p->wire->out.len;
  p->wire->in_fin = true;
  th_run(p);
  assert_int_equal(p->error, -ECONNABORTED);
  assert_int_equal(conn_tls_end(p->conn), END_OK);
  conn_close_gently(p->conn, 1000);
  p->conn = NULL;
  th_run(p);
  assert_int_equal(p->wire->out.len, before);
  th_pair_free(p);
}

static struct text body_make(size_t len) {
  struct text body = {0};
  for (uint32_t i = 0; body.len < len; i++) text_printf(&body, "%u,", i * 2654435761u);
  body.len = len;
  return body;
}

/* A body of some megabytes each way, with short reads and sends and an owner that takes little. */
static void big_bodies(void **state) {
  (void)state;
  static const struct {
    size_t recv_max, send_max, consume_max;
  } rows[] = {{SIZE_MAX, SIZE_MAX, SIZE_MAX}, {1000, 3000, SIZE_MAX}, {4096, 100000, 5000}};
  for (size_t i = 0; i < array_count(rows); i++) {
    struct th_pair *p = opened(i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION);
    t->recv_max = rows[i].recv_max;
    t->send_max = rows[i].send_max;
    p->consume_max = rows[i].consume_max;
    struct text body = body_make(2000000), back = {0};
    client_writes(p, text_span(&body));
    th_run(p);
    assert_true(span_eq(text_span(&p->got), text_span(&body)));
    for (size_t sent = 0; sent < body.len;) {
      struct span part = span_sub(text_span(&body), sent, 100000);
      if (conn_write(p->conn, part)) sent += part.len;
      th_run(p);
      (void)client_reads(p, &back);
    }
    assert_true(span_eq(text_span(&back), text_span(&body)));
    text_fini(&body);
    text_fini(&back);
    th_pair_free(p);
    t->recv_max = t->send_max = SIZE_MAX;
  }
}

/* An owner that does not read stops the flow: what is held stays bounded. */
static void backpressure(void **state) {
  (void)state;
  for (int bulk = 0; bulk < 2; bulk++) {
    struct th_pair *p = opened(TLS1_3_VERSION);
    if (bulk) conn_read_bulk(p->conn, true);
    p->quota = 1;
    struct text body = body_make(1000000);
    client_writes(p, text_span(&body));
    th_pump(p);
    for (int i = 0; i < 1000; i++) th_turn(t);
    assert_int_equal(p->got.len, 1);
    assert_true(conn_held(p->conn) <= 2 * 16384);
    assert_true(t->loop.iobufs.bytes_out <= 200000);
    size_t taken = p->wire->in_off;
    assert_true(taken < 200000);
    p->quota = SIZE_MAX;
    conn_read_start(p->conn);
    th_run(p);
    assert_true(span_eq(text_span(&p->got), text_span(&body)));
    text_fini(&body);
    th_pair_free(p);
  }
}

/* record_lens lists the lengths of the records on the wire from `from` on. */
static size_t record_lens(struct span wire, size_t *lens, size_t max) {
  size_t count = 0;
  while (wire.len >= 5 && count < max) {
    size_t len = ((size_t)(uint8_t)wire.ptr[3] << 8 | (uint8_t)wire.ptr[4]) + 5;
    lens[count++] = len;
    wire = span_from(wire, len);
  }
  assert_int_equal(wire.len, 0);
  return count;
}

static void record_sizes(void **state) {
  (void)state;
  struct th_pair *p = opened(TLS1_3_VERSION);
  struct text body = body_make(200000);
  assert_true(conn_write(p->conn, SPAN_LIT("x"))); /* the tickets go with the first write */
  th_run(p);
  t->loop.now_ms += 1000;
  size_t lens[256], from = p->wire->out.len;
  assert_true(conn_write(p->conn, text_span(&body)));
  th_run(p);
  size_t count = record_lens(span_from(text_span(&p->wire->out), from), lens, 256);
  size_t sum = 0;
  for (size_t i = 0; i < count; i++) {
    size_t want = sum < 14000 ? 1300 : sum < 65536 ? 4096 : 16384;
    if (i + 1 < count) assert_int_equal(lens[i], want + 22);
    sum += lens[i] - 22;
  }
  assert_int_equal(sum, 200000);
  assert_true(p->wire->out.len - from <= TLS_WIRE_BYTES((size_t)200000));
  from = p->wire->out.len; /* warm: full records; many writes of a turn make one */
  for (int i = 0; i < 3; i++) {
    struct buf *out = conn_out(p->conn, 100);
    assert_non_null(out);
    buf_put(out, SPAN_LIT("0123456789"));
    conn_flush(p->conn);
  }
  th_run(p);
  assert_int_equal(record_lens(span_from(text_span(&p->wire->out), from), lens, 256), 1);
  t->loop.now_ms += 1000; /* cold again */
  from = p->wire->out.len;
  assert_true(conn_write(p->conn, span_sub(text_span(&body), 0, 20000)));
  th_run(p);
  record_lens(span_from(text_span(&p->wire->out), from), lens, 256);
  assert_int_equal(lens[0], 1300 + 22);
  text_fini(&body);
  th_pair_free(p);
}

/* The most that may be pending in one write fits the bound of TLS_WIRE_BYTES. */
static void largest_write(void **state) {
  (void)state;
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_pair *p = opened(max);
    struct text body = body_make(256 * 1024), back = {0};
    assert_true(conn_write(p->conn, text_span(&body)));
    conn_finish(p->conn);
    th_run(p);
    assert_int_equal(p->error, 0);
    assert_int_equal(client_reads(p, &back), SSL_ERROR_ZERO_RETURN);
    assert_true(span_eq(text_span(&back), text_span(&body)));
    text_fini(&body);
    text_fini(&back);
    th_pair_free(p);
  }
}

/* Without buffers a write fails: told as an error in a later turn, never from inside the write. */
static void write_without_buffers(void **state) {
  (void)state;
  struct th_pair *p = opened(TLS1_3_VERSION);
  struct buf *out = conn_out(p->conn, 3000);
  assert_non_null(out);
  struct text body = body_make(3000);
  buf_put(out, text_span(&body));
  conn_flush(p->conn);
  size_t limit = t->loop.iobufs.limit;
  iobufs_trim(&t->loop.iobufs);
  iobufs_trim(&t->loop.iobufs);
  t->loop.iobufs.limit = t->loop.iobufs.bytes;
  struct iobuf *taken[64];
  size_t n = 0;
  while (n < 64 && (taken[n] = iobuf_take(&t->loop.iobufs, 1)) != NULL) n++;
  assert_int_equal(p->error, 0);
  for (int i = 0; i < 5; i++) th_turn(t);
  assert_int_equal(p->error, -ENOBUFS);
  while (n > 0) iobuf_give(&t->loop.iobufs, taken[--n]);
  t->loop.iobufs.limit = limit;
  text_fini(&body);
  th_pair_free(p);
}

/* Beyond the budget handshakes wait, in order; established data does not. */
static void budget(void **state) {
  (void)state;
  struct th_pair *done = opened(TLS1_3_VERSION);
  struct th_pair *p[40];
  for (size_t i = 0; i < array_count(p); i++) {
    p[i] = pair(TLS1_3_VERSION);
    th_pump(p[i]);
  }
  client_writes(done, SPAN_LIT("data"));
  th_pump(done);
  struct tls_worker *worker = t->loop.tls;
  worker->used_ns = TLS_BUDGET_NS; /* this turn's is used up */
  check(t->loop.ops->turn(&t->loop, 0) == 0);
  assert_true(span_eq(text_span(&done->got), SPAN_LIT("data")));
  for (size_t i = 0; i < array_count(p); i++) {
    assert_null(p[i]->conn->tls->ssl); /* not even begun */
    assert_non_null(p[i]->conn->tls->early);
  }
  assert_true(t->loop.budget_run(&t->loop)); /* nothing is left of it */
  assert_null(p[0]->conn->tls->ssl);
  uint64_t before = tls_clock_ns();
  t->loop.budget_left = t->loop.budget_run(&t->loop); /* the next turn's */
  uint64_t used = tls_clock_ns() - before;
  size_t begun = 0;
  while (begun < array_count(p) && p[begun]->conn->tls->ssl) begun++;
  assert_true(begun > 0);
  for (size_t i = begun; i < array_count(p); i++) assert_null(p[i]->conn->tls->ssl);
  if (begun < array_count(p)) assert_true(used >= TLS_BUDGET_NS && t->loop.budget_left);
  th_pair_free(p[array_count(p) - 1]);        /* closed while it waits */
  p[array_count(p) - 2]->wire->in_fin = true; /* gone while it waits */
  for (size_t i = 0; i + 2 < array_count(p); i++) {
    th_run(p[i]);
    assert_int_equal(p[i]->opened, 1);
    assert_int_equal(p[i]->open_err, 0);
    th_pair_free(p[i]);
  }
  struct th_pair *gone = p[array_count(p) - 2];
  assert_int_equal(gone->opened, 1);
  assert_int_equal(gone->open_err, -ECONNABORTED);
  th_pair_free(gone);
  th_pair_free(done);
}

/* A queued Finished with a large request behind it: all of it arrives, in order. */
static void budget_with_data(void **state) {
  (void)state;
  for (int quota = 0; quota < 2; quota++) {
    struct th_pair *p = pair(TLS1_3_VERSION);
    if (quota) p->quota = 7;
    th_pump(p);
    for (int i = 0; i < 3; i++) th_turn(t);
    th_pump(p); /* the client has the server's flight now */
    assert_false(SSL_in_init(p->client));
    struct text body = body_make(90000);
    client_writes(p, text_span(&body));
    th_pump(p);
    for (int i = 0; i < 100; i++) { /* several receives, all in turns without budget */
      t->loop.tls->used_ns = TLS_BUDGET_NS;
      check(t->loop.ops->turn(&t->loop, 0) == 0);
    }
    assert_int_equal(p->opened, 0);
    assert_non_null(p->conn->tls->early);
    p->wire->in_fin = true;
    for (int i = 0; i < 20; i++) th_turn(t);
    assert_int_equal(p->opened, 1);
    if (quota) {
      assert_int_equal(p->got.len, 7);
      assert_int_equal(p->error, 0);
      assert_true(p->conn->rx == NULL && rx_coded(p->conn));
      p->quota = SIZE_MAX;
      conn_read_start(p->conn);
      for (int i = 0; i < 20; i++) th_turn(t);
    }
    assert_false(rx_coded(p->conn));
    assert_true(span_eq(text_span(&p->got), text_span(&body)));
    assert_int_equal(p->error, -ECONNABORTED);
    text_fini(&body);
    th_pair_free(p);
  }
}

/* cut is a relay from p, whose client has reset its connection, to another TLS conn. */
struct cut {
  struct relay relay;
  int ends, err;
  enum relay_end why;
};
static void on_cut(struct relay *r, enum relay_end why, int err) {
  struct cut *cut = r->owner;
  cut->ends++;
  cut->why = why;
  cut->err = err;
}

/* comes: all that the client wrote comes within one turn. */
static void comes(struct th_pair *p, size_t chunk) {
  struct th_wire *w = p->wire;
  th_pump(p);
  while (w->in_off < w->in.len) {
    struct span rest = span_from(text_span(&w->in), w->in_off);
    struct span part = span_sub(rest, 0, chunk < rest.len ? chunk : rest.len);
    w->in_off += part.len;
    rx_bytes(p->conn, part);
  }
}

static void cut_begin(struct cut *cut, struct th_pair *from, struct th_pair *to) {
  *cut = (struct cut){.relay.owner = cut};
  conn_read_stop(to->conn);
  relay_start(&cut->relay, from->conn, to->conn, UINT64_MAX, on_cut);
  relay_watch(&cut->relay, 2500);
}

/* cut_runs: until it ends, every byte of body went out, and then the error. */
static void cut_runs(struct cut *cut, struct th_pair *to, struct span body) {
  struct text back = {0};
  for (int i = 0; i < 10000 && cut->ends == 0; i++) {
    th_turn(t);
    (void)th_pump(to);
    (void)client_reads(to, &back);
  }
  assert_int_equal(cut->ends, 1);
  assert_int_equal(cut->why, RELAY_SRC_ERROR);
  assert_int_equal(cut->err, -ECONNRESET);
  assert_int_equal(back.len, body.len);
  assert_true(span_eq(text_span(&back), body));
  text_fini(&back);
}

/* A reset in the batch of what came before it takes none of that, decrypted yet or not. */
static void reset_behind_ciphertext(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 5000, 100000, 200000, 1000000};
  for (size_t i = 0; i < array_count(sizes); i++) {
    struct th_pair *p = opened(i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION);
    struct th_pair *to = opened(TLS1_3_VERSION);
    struct cut cut;
    struct text body = body_make(sizes[i]);
    t->send_max = 3000;
    cut_begin(&cut, p, to);
    th_turn(t);
    for (size_t at = 0; at < body.len; at += 1000) {
      size_t left = body.len - at;
      client_writes(p, span_sub(text_span(&body), at, left < 1000 ? left : 1000));
    }
    comes(p, 4096);
    assert_int_equal(rx_coded(p->conn), sizes[i] > 65536 + CONN_HELD_MAX);
    p->wire->in_reset = true;
    cut_runs(&cut, to, text_span(&body));
    text_fini(&body);
    th_pair_free(p);
    th_pair_free(to);
    t->send_max = SIZE_MAX;
  }
}

/* What is decrypted after the reset may hold an end or a fault: nothing behind it is passed on. */
static void reset_behind_an_end(void **state) {
  (void)state;
  for (int fault = 0; fault < 2; fault++) {
    struct th_pair *p = opened(TLS1_3_VERSION), *to = opened(TLS1_3_VERSION);
    struct cut cut;
    struct text body = body_make(200000);
    t->send_max = 3000;
    cut_begin(&cut, p, to);
    th_turn(t);
    client_writes(p, text_span(&body));
    th_pump(p);
    size_t at = p->wire->in.len;
    if (fault)
      client_writes(p, SPAN_LIT("damaged"));
    else
      SSL_shutdown(p->client);
    th_pump(p);
    if (fault) p->wire->in.ptr[at + 9] ^= 1;
    text_put(&p->wire->in, SPAN_LIT("\x17\x03\x03\x00\x05hello"));
    comes(p, 4096);
    p->wire->in_reset = true;
    cut_runs(&cut, to, text_span(&body));
    assert_int_equal(conn_tls_end(p->conn), fault ? END_CLIENT_TLS_RECORD : END_OK);
    text_fini(&body);
    th_pair_free(p);
    th_pair_free(to);
    t->send_max = SIZE_MAX;
  }
}

/* A reset behind what came while the handshake had to wait. */
static void reset_behind_early(void **state) {
  (void)state;
  struct th_pair *to = opened(TLS1_3_VERSION), *p = pair(TLS1_3_VERSION);
  struct cut cut;
  struct text body = body_make(200000);
  p->quota = 0;
  th_pump(p);
  for (int i = 0; i < 3; i++) th_turn(t);
  th_pump(p);
  client_writes(p, text_span(&body));
  t->loop.tls->used_ns = TLS_BUDGET_NS;
  comes(p, 4096);
  th_turn(t);
  th_turn(t);
  assert_int_equal(p->opened, 1);
  assert_true(p->conn->rx == NULL && rx_coded(p->conn));
  t->send_max = 3000;
  cut_begin(&cut, p, to);
  p->wire->in_reset = true;
  cut_runs(&cut, to, text_span(&body));
  t->send_max = SIZE_MAX;
  text_fini(&body);
  th_pair_free(p);
  th_pair_free(to);
}

static void closed_inside_events(void **state) {
  (void)state;
  struct th_pair *p = pair(TLS1_3_VERSION);
  p->close_on_open = true;
  th_run(p);
  assert_int_equal(p->opened, 1);
  assert_null(p->conn);
  th_pair_free(p);
  p = opened(TLS1_2_VERSION);
  p->close_on_data = true;
  client_writes(p, SPAN_LIT("one"));
  client_writes(p, SPAN_LIT("two"));
  th_run(p);
  assert_true(span_eq(text_span(&p->got), SPAN_LIT("one")));
  th_pair_free(p);
  p = pair(TLS1_3_VERSION); /* Finished and data in one receive, closed in on_open */
  p->close_on_open = true;
  th_pump(p);
  th_turn(t);
  th_turn(t);
  th_pump(p);
  client_writes(p, SPAN_LIT("early bird"));
  th_run(p);
  assert_int_equal(p->opened, 1);
  assert_int_equal(p->got.len, 0);
  th_pair_free(p);
}

/* The library's allocations go back to what they were; a warm worker needs no malloc for them. */
static void counters_return(void **state) {
  (void)state;
  struct tls_stats before, warm, after;
  for (int i = 0; i < 10; i++) th_pair_free(opened(TLS1_3_VERSION));
  SSL_SESSION_free(th_ticket());
  tls_stats_get(&before);
  for (int i = 0; i < 1000; i++) {
    th_pair_free(opened(i % 2 ? TLS1_3_VERSION : TLS1_2_VERSION));
    SSL_SESSION_free(th_ticket());
    if (i == 500) tls_stats_get(&warm);
  }
  tls_stats_get(&after);
  assert_int_equal(after.alloc_bytes, before.alloc_bytes);
  assert_int_equal(after.alloc_count, before.alloc_count);
  assert_true(after.alloc_total > before.alloc_total + 1000 * 100);
  /* a size that was not seen before (signatures vary) may still come */
  assert_true(after.heap_total - warm.heap_total < 20);
  assert_true(after.cache_bytes <= TLS_CACHE_BYTES);
}

static void key_update(void **state) {
  (void)state;
  struct th_pair *p = opened(TLS1_3_VERSION);
  p->echo = true;
  for (int i = 0; i < 40; i++) {
    assert_int_equal(SSL_key_update(p->client, SSL_KEY_UPDATE_REQUESTED), 1);
    client_writes(p, SPAN_LIT("ping"));
    th_run(p);
    struct text back = {0};
    assert_int_equal(client_reads(p, &back), SSL_ERROR_WANT_READ);
    assert_true(span_eq(text_span(&back), SPAN_LIT("ping")));
    text_fini(&back);
  }
  assert_int_equal(p->error, 0);
  th_pair_free(p);
}

#define stream_test(f) cmocka_unit_test_setup_teardown(f, each_setup, each_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      stream_test(exchange),
      stream_test(idle_holds_nothing),
      stream_test(split_at_every_byte),
      stream_test(truncated_at_every_byte),
      stream_test(truncated_second_flight),
      stream_test(garbage),
      stream_test(plain_http_is_answered),
      stream_test(alert_is_sent),
      stream_test(fin_is_truncation),
      stream_test(fin_behind_held),
      stream_test(reset_in_handshake),
      stream_test(damaged_record),
      stream_test(cut_is_no_fault),
      stream_test(big_bodies),
      stream_test(backpressure),
      stream_test(record_sizes),
      stream_test(largest_write),
      stream_test(write_without_buffers),
      stream_test(budget),
      stream_test(budget_with_data),
      stream_test(reset_behind_ciphertext),
      stream_test(reset_behind_an_end),
      stream_test(reset_behind_early),
      stream_test(closed_inside_events),
      stream_test(counters_return),
      stream_test(key_update),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
