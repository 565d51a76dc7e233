/* test_forwarded.c: who the client is and what the upstream is told, by a table; lists cut at
 * their bounds; memory that runs out. */
#include "filter_kit.h"

/* row: request fields, peer, trusted proxies; then client.address and what is sent. NULL: any. */
struct row {
  const char *fields, *peer, *trusted;
  bool tls;
  const char *client, *xff, *proto, *host, *forwarded;
};

static const struct row rows[] = {
    /* nobody is trusted: whatever a client says is dropped */
    {"", "192.0.2.1", "", false, "192.0.2.1", "192.0.2.1", "http", "h.test", ""},
    {"", "192.0.2.1", "", true, "192.0.2.1", "192.0.2.1", "https", "h.test", ""},
    {"X-Forwarded-For: 6.6.6.6\r\n", "192.0.2.1", "", false, "192.0.2.1", "192.0.2.1", "http",
     "h.test", ""},
    {"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n", "192.0.2.1", "", false, "192.0.2.1",
     "192.0.2.1", "http", "h.test", ""},
    {"Forwarded: for=6.6.6.6;proto=https\r\n", "192.0.2.1", "", false, "192.0.2.1", "192.0.2.1",
     "http", "h.test", ""},
    {"", "2001:db8::5", "", false, "2001:db8::5", "2001:db8::5", "http", "h.test", ""},
    {"X-Forwarded-For: 6.6.6.6\r\n", "unix", "", false, "unix:", "", "http", "h.test", ""},
    {"X-Forwarded-For: 6.6.6.6\r\n", "none", "", false, "unix:", "", "http", "h.test", ""},
    /* a peer that is not listed, though others are */
    {"X-Forwarded-For: 6.6.6.6\r\n", "192.0.2.1", "10.0.0.0/8", false, "192.0.2.1", "192.0.2.1",
     "http", "h.test", ""},
    {"X-Forwarded-For: 6.6.6.6\r\n", "unix", "10.0.0.0/8", false, "unix:", "", "http", "h.test",
     ""},
    /* a trusted peer: the rightmost entry that is not a trusted proxy */
    {"X-Forwarded-For: 9.9.9.9\r\n", "10.0.0.1", "10.0.0.0/8", false, "9.9.9.9",
     "9.9.9.9, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: 9.9.9.9, 8.8.8.8\r\n", "10.0.0.1", "10.0.0.0/8", false, "8.8.8.8",
     "9.9.9.9, 8.8.8.8, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: 9.9.9.9, 10.1.2.3\r\n", "10.0.0.1", "10.0.0.0/8", false, "9.9.9.9",
     "9.9.9.9, 10.1.2.3, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 10.4.4.4\r\n", "10.0.0.1", "10.0.0.0/8", false,
     "9.9.9.9", "9.9.9.9, 10.4.4.4, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 7.7.7.7\r\n", "10.0.0.1", "10.0.0.0/8", false,
     "7.7.7.7", "9.9.9.9, 7.7.7.7, 10.0.0.1", "http", "h.test", ""},
    /* all are proxies: the farthest one */
    {"X-Forwarded-For: 10.9.9.9, 10.8.8.8\r\n", "10.0.0.1", "10.0.0.0/8", false, "10.9.9.9",
     "10.9.9.9, 10.8.8.8, 10.0.0.1", "http", "h.test", ""},
    /* what is no address ends the walk at the last one that was */
    {"X-Forwarded-For: 9.9.9.9, unknown\r\n", "10.0.0.1", "10.0.0.0/8", false, "10.0.0.1",
     "9.9.9.9, unknown, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: 9.9.9.9, junk, 10.2.2.2\r\n", "10.0.0.1", "10.0.0.0/8", false, "10.2.2.2",
     "9.9.9.9, junk, 10.2.2.2, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: 9.9.9.9,\r\n", "10.0.0.1", "10.0.0.0/8", false, "10.0.0.1",
     "9.9.9.9,, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For:\r\n", "10.0.0.1", "10.0.0.0/8", false, "10.0.0.1", "10.0.0.1", "http",
     "h.test", ""},
    /* ports, brackets */
    {"X-Forwarded-For: 9.9.9.9:4711\r\n", "10.0.0.1", "10.0.0.0/8", false, "9.9.9.9",
     "9.9.9.9:4711, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: [2001:db8::1]:4711\r\n", "10.0.0.1", "10.0.0.0/8", false, "2001:db8::1",
     "[2001:db8::1]:4711, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: 2001:db8::1\r\n", "10.0.0.1", "10.0.0.0/8", false, "2001:db8::1",
     "2001:db8::1, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: [2001:db8::1\r\n", "10.0.0.1", "10.0.0.0/8", false, "10.0.0.1",
     "[2001:db8::1, 10.0.0.1", "http", "h.test", ""},
    /* IPv4-mapped IPv6 counts as IPv4 */
    {"X-Forwarded-For: 9.9.9.9\r\n", "::ffff:10.0.0.1", "10.0.0.0/8", false, "9.9.9.9",
     "9.9.9.9, 10.0.0.1", "http", "h.test", ""},
    {"X-Forwarded-For: 9.9.9.9, ::ffff:10.1.1.1\r\n", "10.0.0.1", "10.0.0.0/8", false, "9.9.9.9",
     "9.9.9.9, ::ffff:10.1.1.1, 10.0.0.1", "http", "h.test", ""},
    /* several nets, v6 */
    {"X-Forwarded-For: 9.9.9.9, 2001:db8:1::2, 10.3.3.3\r\n", "2001:db8:1::1",
     "10.0.0.0/8 2001:db8:1::/48", false, "9.9.9.9",
     "9.9.9.9, 2001:db8:1::2, 10.3.3.3, 2001:db8:1::1", "http", "h.test", ""},
    /* proto and host of a trusted peer stay */
    {"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a.test\r\n",
     "10.0.0.1", "10.0.0.0/8", false, "9.9.9.9", "9.9.9.9, 10.0.0.1", "https", "a.test", ""},
    {"X-Forwarded-Proto: https\r\n", "10.0.0.1", "10.0.0.0/8", false, "10.0.0.1", "10.0.0.1",
     "https", "h.test", ""},
    /* Forwarded of a trusted peer: our element is added */
    {"Forwarded: for=9.9.9.9;proto=https\r\n", "10.0.0.1", "10.0.0.0/8", false, "9.9.9.9",
     "10.0.0.1", "http", "h.test",
     "for=9.9.9.9;proto=https|for=10.0.0.1;proto=http;host=\"h.test\""},
    {"Forwarded: proto=https; FOR=\"[2001:db8::9]:80\"\r\n", "10.0.0.1", "10.0.0.0/8", true,
     "2001:db8::9", "10.0.0.1", "https", "h.test",
     "proto=https; FOR=\"[2001:db8::9]:80\"|for=10.0.0.1;proto=https;host=\"h.test\""},
    {"Forwarded: for=9.9.9.9, for=10.6.6.6\r\n", "2001:db8::1", "10.0.0.0/8 2001:db8::1", false,
     "9.9.9.9", "2001:db8::1", "http", "h.test",
     "for=9.9.9.9, for=10.6.6.6|for=\"[2001:db8::1]\";proto=http;host=\"h.test\""},
    {"Forwarded: for=_hidden\r\n", "10.0.0.1", "10.0.0.0/8", false, "10.0.0.1", "10.0.0.1", "http",
     "h.test", "for=_hidden|for=10.0.0.1;proto=http;host=\"h.test\""},
    /* both: X-Forwarded-For decides */
    {"Forwarded: for=1.1.1.1\r\nX-Forwarded-For: 9.9.9.9\r\n", "10.0.0.1", "10.0.0.0/8", false,
     "9.9.9.9", "9.9.9.9, 10.0.0.1", "http", "h.test",
     "for=1.1.1.1|for=10.0.0.1;proto=http;host=\"h.test\""},
    /* unix peers: trusted only when the listener says so */
    {"X-Forwarded-For: 9.9.9.9\r\n", "unix", "10.0.0.0/8 unix", false, "9.9.9.9", "9.9.9.9",
     "http", "h.test", ""},
    {"X-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\n", "none", "10.0.0.0/8 unix", false,
     "9.9.9.9", "9.9.9.9", "http", "h.test", "for=9.9.9.9|for=unknown;proto=http;host=\"h.test\""},
    /* aliases with underscores never pass, not even of a trusted peer */
    {"X_Forwarded_For: 9.9.9.9\r\n", "10.0.0.1", "10.0.0.0/8", false, "10.0.0.1", "10.0.0.1",
     "http", "h.test", ""},
};

static void check_row(const struct row *row) {
  struct kit k;
  char head[2048];
  struct buf b = buf_of(head, sizeof head - 1);
  buf_printf(&b, "GET /p HTTP/1.1\r\nHost: h.test\r\n%s\r\n", row->fields);
  head[b.len] = 0;
  kit_init(&k, head, 0);
  kit_peer(&k, row->peer);
  kit_trust(&k, row->trusted);
  k.ctx.tls = row->tls;
  assert_int_equal(forwarded_request(&k.ctx), FILTER_NEXT);
  const struct http_fields *f = &k.request.fields;
  assert_span(k.ctx.client, row->client);
  assert_span(kit_sent(&k, f, "X-Forwarded-For"), row->xff);
  assert_span(kit_sent(&k, f, "X-Forwarded-Proto"), row->proto);
  assert_span(kit_sent(&k, f, "X-Forwarded-Host"), row->host);
  assert_span(kit_sent(&k, f, "Forwarded"), row->forwarded);
  assert_span(kit_sent(&k, f, "X_Forwarded_For"), "");
  kit_fini(&k);
}

static void trust_table(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) check_row(&rows[i]);
}

/* Every field that speaks for a proxy is dropped from a client that is not one. */
static void all_are_dropped(void **state) {
  (void)state;
  static const char *const names[] = {"X-Forwarded-Port",
                                      "X-Forwarded-Prefix",
                                      "X-Forwarded-Server",
                                      "X-Forwarded-Ssl",
                                      "X-Real-IP",
                                      "X-Forwarded-Client-Cert",
                                      "X-Forwarded-User",
                                      "x-forwarded-tls-client-cert",
                                      "X_Forwarded_Scheme",
                                      "X-Forwarded",
                                      "X-Forwarded-And-This-Name-Has-More-Than-32-Bytes"};
  for (size_t i = 0; i < array_count(names); i++) {
    struct kit k;
    char head[256];
    struct buf b = buf_of(head, sizeof head - 1);
    buf_printf(&b, "GET / HTTP/1.1\r\nHost: h\r\n%s: forged\r\n\r\n", names[i]);
    head[b.len] = 0;
    kit_init(&k, head, 0);
    kit_peer(&k, "192.0.2.1");
    kit_trust(&k, "10.0.0.0/8");
    assert_int_equal(forwarded_request(&k.ctx), FILTER_NEXT);
    assert_span(kit_sent(&k, &k.request.fields, names[i]), "");
    kit_fini(&k);
    kit_init(&k, head, 0);
    kit_peer(&k, "10.2.3.4");
    kit_trust(&k, "10.0.0.0/8");
    assert_int_equal(forwarded_request(&k.ctx), FILTER_NEXT);
    assert_span(kit_sent(&k, &k.request.fields, names[i]), "forged");
    kit_fini(&k);
  }
}

/* A list deeper than the walk goes gives the last address that was looked at, and ends. */
static void long_lists_end(void **state) {
  (void)state;
  static char head[8192];
  struct buf b = buf_of(head, sizeof head - 1);
  buf_lit(&b, "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9");
  for (int i = 0; i < 300; i++) buf_printf(&b, ", 10.0.0.%d", i % 250);
  buf_lit(&b, "\r\n\r\n");
  assert_false(b.full);
  head[b.len] = 0;
  struct kit k;
  kit_init(&k, head, 0);
  kit_peer(&k, "10.0.0.1");
  kit_trust(&k, "10.0.0.0/8");
  assert_int_equal(forwarded_request(&k.ctx), FILTER_NEXT);
  assert_true(span_starts(k.ctx.client, SPAN_LIT("10.0.0.")));
  kit_fini(&k);
}

static void port_of_host_is_told(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET / HTTP/1.1\r\nHost: h.test:8443\r\n\r\n", 0);
  kit_peer(&k, "192.0.2.1");
  assert_int_equal(forwarded_request(&k.ctx), FILTER_NEXT);
  assert_span(kit_sent(&k, &k.request.fields, "X-Forwarded-Host"), "h.test:8443");
  kit_fini(&k);
}

static void no_host_no_field(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET / HTTP/1.0\r\n\r\n", 0);
  kit_peer(&k, "192.0.2.1");
  assert_int_equal(forwarded_request(&k.ctx), FILTER_NEXT);
  assert_false(http_fields_has(&k.request.fields, HTTP_NAME_X_FORWARDED_HOST));
  kit_fini(&k);
}

/* With too little memory it ends the stream by its cause, at whatever place it runs out. */
static void memory_runs_out(void **state) {
  (void)state;
  const char *head = "GET / HTTP/1.1\r\nHost: h\r\nForwarded: for=9.9.9.9\r\n"
                     "X-Forwarded-For: 9.9.9.9\r\n\r\n";
  for (size_t keep = 0; keep < 64; keep++) {
    struct kit k;
    kit_init(&k, head, 0);
    kit_peer(&k, "10.0.0.1");
    kit_trust(&k, "10.0.0.0/8");
    k.arena.limit = k.arena.total; /* no further block: only what is left in this one */
    size_t left = 4096;
    while (left > keep * 16 && arena_bytes(&k.arena, 16)) left -= 16;
    while (keep == 0 && arena_bytes(&k.arena, 1)) continue;
    enum filter_result r = forwarded_request(&k.ctx);
    if (r == FILTER_ANSWER) assert_int_equal(k.ctx.end, END_LIMIT_STREAM_MEMORY);
    if (keep == 0) assert_int_equal(r, FILTER_ANSWER);
    kit_fini(&k);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(trust_table),
      cmocka_unit_test(all_are_dropped),
      cmocka_unit_test(long_lists_end),
      cmocka_unit_test(port_of_host_is_told),
      cmocka_unit_test(no_host_no_field),
      cmocka_unit_test(memory_runs_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
