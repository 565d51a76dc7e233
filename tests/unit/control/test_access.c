/* Tests of control/access.c: the JSON and text forms of an access record, byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/log_priv.h"

#define NEVER UINT64_MAX

struct sample {
  struct record_access rec;
  const char *text[TEXT_COUNT];
};

/* 2026-11-20T23:15:00.007Z */
static struct sample full(void) {
  struct sample s = {
      .rec = {.kind = RECORD_ACCESS,
              .minor = 1,
              .flags = RECORD_TLS | RECORD_TLS_RESUMED | RECORD_HAS_QUERY,
              .attempts = 2,
              .status = 200,
              .end = END_OK,
              .wall_ms = 1795216500007,
              .request_bytes = 5,
              .response_bytes = 1234567,
              .total_ns = 12345678,
              .tls_ns = NEVER,
              .request_ns = 1000,
              .queue_ns = NEVER,
              .connect_ns = 999999,
              .first_byte_ns = 10000000,
              .response_ns = 0},
      .text = {[TEXT_METHOD] = "GET",
               [TEXT_SCHEME] = "https",
               [TEXT_PATH] = "/a\"b",
               [TEXT_QUERY] = "q=1",
               [TEXT_HOST] = "example.com",
               [TEXT_ROUTE] = "api",
               [TEXT_LISTENER] = "web",
               [TEXT_CLIENT] = "192.0.2.7",
               [TEXT_USER_AGENT] = "x\x01\\\xff",
               [TEXT_POOL] = "app",
               [TEXT_ENDPOINT] = "10.0.0.1:80",
               [TEXT_TLS_VERSION] = "1.3",
               [TEXT_TLS_CIPHER] = "TLS_AES_128_GCM_SHA256",
               [TEXT_TLS_GROUP] = "X25519",
               [TEXT_TRACE] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}};
  assert_true(addr_parse(SPAN_LIT("10.1.2.3:4567"), &s.rec.peer));
  return s;
}

static struct span pack(struct sample *s, char *to, size_t cap) {
  struct buf b = buf_of(to, cap);
  for (int i = 0; i < TEXT_COUNT; i++) {
    s->rec.text_len[i] = (uint16_t)(s->text[i] ? strlen(s->text[i]) : 0);
  }
  buf_put(&b, span_of((const char *)&s->rec, sizeof s->rec));
  for (int i = 0; i < TEXT_COUNT; i++) {
    buf_put(&b, span_str(s->text[i]));
  }
  assert_false(b.full);
  return buf_span(&b);
}

static void expect(struct sample *s, bool json, const char *want) {
  _Alignas(16) char record[8192];
  char line[16384];
  struct access_view v;
  struct buf out = buf_of(line, sizeof line - 1);
  assert_true(access_view_init(&v, pack(s, record, sizeof record)));
  if (json) {
    access_write_json(&out, &v);
  } else {
    access_write_text(&out, &v);
  }
  line[out.len] = 0;
  assert_string_equal(line, want);
}

static void test_json(void **state) {
  (void)state;
  struct sample s = full();
  expect(&s, true,
         "{\"time\":\"2026-11-20T23:15:00.007Z\",\"http.request.method\":\"GET\","
         "\"url.scheme\":\"https\",\"url.path\":\"/a\\\"b\",\"url.query\":\"q=1\","
         "\"server.address\":\"example.com\",\"http.route\":\"api\","
         "\"http.response.status_code\":200,\"network.protocol.name\":\"http\","
         "\"network.protocol.version\":\"1.1\",\"client.address\":\"192.0.2.7\","
         "\"network.peer.address\":\"10.1.2.3\",\"user_agent.original\":\"x\\u0001\\\\\\ufffd\","
         "\"http.request.body.size\":5,\"http.response.body.size\":1234567,"
         "\"tls.protocol.version\":\"1.3\",\"tls.cipher\":\"TLS_AES_128_GCM_SHA256\","
         "\"tls.curve\":\"X25519\","
         "\"tls.resumed\":true,\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\","
         "\"span_id\":\"b7ad6b7169203331\",\"weir.listener\":\"web\",\"weir.pool\":\"app\","
         "\"weir.endpoint\":\"10.0.0.1:80\",\"weir.attempts\":2,\"weir.end\":\"ok\","
         "\"weir.duration_ms.total\":12.345,\"weir.duration_ms.request\":0.001,"
         "\"weir.duration_ms.connect\":0.999,\"weir.duration_ms.first_byte\":10.000,"
         "\"weir.duration_ms.response\":0.000}\n");
}

/* A connection that sent nothing that could be parsed: what is not known is left out. */
static void test_json_sparse(void **state) {
  (void)state;
  struct sample s = {.rec = {.kind = RECORD_ACCESS,
                             .status = 400,
                             .end = END_BAD_REQUEST_LINE,
                             .wall_ms = 1795216500999,
                             .total_ns = NEVER,
                             .tls_ns = NEVER,
                             .request_ns = NEVER,
                             .queue_ns = NEVER,
                             .connect_ns = NEVER,
                             .first_byte_ns = NEVER,
                             .response_ns = NEVER}};
  expect(&s, true,
         "{\"time\":\"2026-11-20T23:15:00.999Z\",\"http.response.status_code\":400,"
         "\"network.protocol.name\":\"http\",\"network.protocol.version\":\"1.0\","
         "\"http.request.body.size\":0,\"http.response.body.size\":0,"
         "\"error.type\":\"client.bad_request.request_line\",\"weir.attempts\":0,"
         "\"weir.end\":\"client.bad_request.request_line\"}\n");
}

static void test_error_type(void **state) {
  (void)state;
  struct sample s = {.rec = {.kind = RECORD_ACCESS, .status = 503, .end = END_OK}};
  _Alignas(16) char record[1024];
  char line[2048];
  struct access_view v;
  struct buf out = buf_of(line, sizeof line - 1);
  assert_true(access_view_init(&v, pack(&s, record, sizeof record)));
  access_write_json(&out, &v);
  line[out.len] = 0;
  /* The endpoint's own 503: weir did its part. */
  assert_non_null(strstr(line, "\"error.type\":\"503\""));
  assert_non_null(strstr(line, "\"weir.end\":\"ok\""));
}

static void test_bad_traceparent_is_left_out(void **state) {
  (void)state;
  static const char *const bad[] = {"", "00-zz",
                                    "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                    "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"};
  for (size_t i = 0; i < array_count(bad); i++) {
    struct sample s = {.rec = {.kind = RECORD_ACCESS}, .text = {[TEXT_TRACE] = bad[i]}};
    _Alignas(16) char record[1024];
    char line[2048];
    struct access_view v;
    struct buf out = buf_of(line, sizeof line - 1);
    assert_true(access_view_init(&v, pack(&s, record, sizeof record)));
    access_write_json(&out, &v);
    line[out.len] = 0;
    assert_null(strstr(line, "trace_id"));
  }
}

static void test_text(void **state) {
  (void)state;
  struct sample s = full();
  expect(&s, false,
         "192.0.2.7 - - [20/Nov/2026:23:15:00 +0000] \"GET /a\\x22b?q=1 HTTP/1.1\" 200 1234567 "
         "\"-\" \"x\\x01\\x5c\\xff\" host=example.com route=api endpoint=10.0.0.1:80 end=ok "
         "ms=12.345\n");
}

static void test_lengths_that_do_not_add_up(void **state) {
  (void)state;
  struct sample s = full();
  _Alignas(16) char record[8192];
  struct access_view v;
  struct span whole = pack(&s, record, sizeof record);
  for (size_t cut = 0; cut < whole.len; cut++) {
    assert_false(access_view_init(&v, span_sub(whole, 0, cut)));
  }
  s.rec.end = END_COUNT;
  assert_false(access_view_init(&v, pack(&s, record, sizeof record)));
}

static void test_event(void **state) {
  (void)state;
  const struct record_event e = {.kind = RECORD_EVENT,
                                 .level = END_LEVEL_WARN,
                                 .worker = 1,
                                 .wall_ms = 1795216500007};
  char line[512];
  struct buf out = buf_of(line, sizeof line - 1);
  event_write(&out, &e, SPAN_LIT("pool \"a\": down\n"), true);
  line[out.len] = 0;
  assert_string_equal(line, "{\"time\":\"2026-11-20T23:15:00.007Z\",\"level\":\"warn\","
                            "\"message\":\"pool \\\"a\\\": down\",\"weir.worker\":1}\n");
  out = buf_of(line, sizeof line - 1);
  event_write(&out, &e, SPAN_LIT("a\x1b[31m\nb"), false);
  line[out.len] = 0;
  assert_string_equal(line, "2026-11-20T23:15:00.007Z warn a?[31m\nb\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_json),
      cmocka_unit_test(test_json_sparse),
      cmocka_unit_test(test_error_type),
      cmocka_unit_test(test_bad_traceparent_is_left_out),
      cmocka_unit_test(test_text),
      cmocka_unit_test(test_lengths_that_do_not_add_up),
      cmocka_unit_test(test_event),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
