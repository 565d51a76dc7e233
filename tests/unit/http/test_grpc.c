/* test_grpc.c: content types, deadlines, statuses and messages by PROTOCOL-HTTP2 and by gRPC's
 * mapping of HTTP statuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/http/grpc.h"
#include "weir/http/h2_frame.h"

static void test_is(void **state) {
  (void)state;
  static const char *const calls[] = {"application/grpc", "application/grpc+proto",
                                      "application/grpc;a=b", "Application/GRPC+json",
                                      "application/grpc ; a=b"};
  static const char *const others[] = {"", "application/grp", "application/grpc-web",
                                       "application/grpc-web+proto", "application/grpcx",
                                       "text/plain", " application/grpc"};
  for (size_t i = 0; i < array_count(calls); i++) assert_true(grpc_is(span_str(calls[i])));
  for (size_t i = 0; i < array_count(others); i++) assert_false(grpc_is(span_str(others[i])));
}

#define BAD UINT64_MAX
static const struct {
  const char *text;
  uint64_t ms;
} timeouts[] = {
    {"1S", 1000}, {"1H", 3600000}, {"2M", 120000}, {"7m", 7}, {"1u", 1}, {"1n", 1}, {"0n", 0},
    {"0S", 0}, {"1000u", 1}, {"1001u", 2}, {"1000000n", 1}, {"1000001n", 2}, {"00000001S", 1000},
    {"99999999m", 99999999}, {"99999999n", 100}, {"8760H", GRPC_TIMEOUT_MAX_MS},
    {"99999999H", GRPC_TIMEOUT_MAX_MS}, {"99999999S", GRPC_TIMEOUT_MAX_MS},
    {"", BAD}, {"S", BAD}, {"1", BAD}, {"1s", BAD}, {"1h", BAD}, {"1 S", BAD}, {" 1S", BAD},
    {"1S ", BAD}, {"-1S", BAD}, {"+1S", BAD}, {"1.5S", BAD}, {"0x1S", BAD}, {"100000000m", BAD},
    {"000000001S", BAD}, {"1SS", BAD}, {"1ms", BAD}, {"infinite", BAD},
};

static void test_timeout(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(timeouts); i++) {
    uint64_t ms = BAD;
    bool good = grpc_timeout_parse(span_str(timeouts[i].text), &ms);
    if (good != (timeouts[i].ms != BAD) || ms != timeouts[i].ms)
      fail_msg("%s: %d %llu", timeouts[i].text, good, (unsigned long long)ms);
  }
}

static void written(uint64_t ms, const char *want) {
  char room[GRPC_TIMEOUT_LEN];
  struct buf out = buf_of(room, sizeof room);
  grpc_timeout_write(ms, &out);
  assert_false(out.full);
  if (!span_eq(buf_span(&out), span_str(want)))
    fail_msg("%llu: " SPAN_FMT, (unsigned long long)ms, SPAN_ARG(buf_span(&out)));
}

static void test_timeout_write(void **state) {
  (void)state;
  written(0, "1m");
  written(1, "1m");
  written(1999, "1999m");
  written(99999999, "99999999m");
  written(100000000, "100000S");
  written(100000999, "100000S");
  written(GRPC_TIMEOUT_MAX_MS, "31536000S");
  written(UINT64_MAX, "31536000S");
}

static void test_status(void **state) {
  (void)state;
  assert_int_equal(grpc_status_parse(SPAN_LIT("0")), GRPC_OK);
  assert_int_equal(grpc_status_parse(SPAN_LIT("14")), GRPC_UNAVAILABLE);
  assert_int_equal(grpc_status_parse(SPAN_LIT("16")), GRPC_UNAUTHENTICATED);
  static const char *const odd[] = {"17", "", "-1", "x", "1 4", "014", "4294967296"};
  for (size_t i = 0; i < array_count(odd); i++)
    assert_int_equal(grpc_status_parse(span_str(odd[i])), GRPC_UNKNOWN);
  assert_int_equal(GRPC_STATUS_COUNT, 17);
  assert_true(span_eq(grpc_status_word(GRPC_DATA_LOSS), SPAN_LIT("data_loss")));
  assert_true(grpc_status_bad(GRPC_UNAVAILABLE));
  assert_false(grpc_status_bad(GRPC_NOT_FOUND));
  assert_false(grpc_status_bad(GRPC_DEADLINE_EXCEEDED)); /* a caller's short deadline */
}

/* The mapping of gRPC's "HTTP to gRPC Status Code Mapping", to the letter. */
static void test_of_http(void **state) {
  (void)state;
  static const struct {
    unsigned http;
    enum grpc_status status;
  } rows[] = {{400, GRPC_INTERNAL},          {401, GRPC_UNAUTHENTICATED},
              {403, GRPC_PERMISSION_DENIED}, {404, GRPC_UNIMPLEMENTED},
              {429, GRPC_UNAVAILABLE},       {502, GRPC_UNAVAILABLE},
              {503, GRPC_UNAVAILABLE},       {504, GRPC_UNAVAILABLE}};
  for (unsigned http = 100; http < 600; http++) {
    enum grpc_status want = GRPC_UNKNOWN;
    for (size_t i = 0; i < array_count(rows); i++)
      if (rows[i].http == http) want = rows[i].status;
    assert_int_equal(grpc_status_of_http(http), want);
  }
}

/* Each status that a row of end.def can be answered with means something. */
static void test_of_end(void **state) {
  (void)state;
  for (enum end end = 0; end < END_COUNT; end++) {
    unsigned http = end_get(end)->status;
    if (http) assert_int_not_equal(grpc_status_of_end(end, http), GRPC_UNKNOWN);
  }
  assert_int_equal(grpc_status_of_end(END_ROUTE_TIMEOUT, 504), GRPC_DEADLINE_EXCEEDED);
  assert_int_equal(grpc_status_of_end(END_CLIENT_DEADLINE, 504), GRPC_DEADLINE_EXCEEDED);
  assert_int_equal(grpc_status_of_end(END_OK, 504), GRPC_DEADLINE_EXCEEDED);
  static const enum end gone[] = {END_CONNECT_TIMEOUT,       END_UPSTREAM_TLS_TIMEOUT,
                                  END_UPSTREAM_PING,         END_FIRST_BYTE_TIMEOUT,
                                  END_UPSTREAM_IDLE_TIMEOUT, END_UPSTREAM_TIMEOUT_SEND,
                                  END_TRY_TIMEOUT};
  for (size_t i = 0; i < array_count(gone); i++)
    assert_int_equal(grpc_status_of_end(gone[i], 504), GRPC_UNAVAILABLE);
  assert_int_equal(grpc_status_of_end(END_LIMIT_RATE, 429), GRPC_RESOURCE_EXHAUSTED);
  assert_int_equal(grpc_status_of_end(END_UPSTREAM_RESET, 502), GRPC_UNAVAILABLE);
  assert_int_equal(grpc_status_of_end(END_BAD_RESPONSE_CHUNK, 502), GRPC_UNAVAILABLE);
  /* what the next attempt would bring again is not said so that callers try again */
  assert_int_equal(grpc_status_of_end(END_BAD_RESPONSE_HEADER_BYTES, 502),
                   GRPC_RESOURCE_EXHAUSTED);
  assert_int_equal(grpc_status_of_end(END_BAD_RESPONSE_HEADERS, 502), GRPC_RESOURCE_EXHAUSTED);
  assert_int_equal(grpc_status_of_end(END_OK, 308), GRPC_UNKNOWN);
}

/* PROTOCOL-HTTP2, Errors: of the codes in RFC 9113 those without a row of their own are INTERNAL,
 * and what is no code at all. */
static void test_of_reset(void **state) {
  (void)state;
  for (uint32_t code = 0; code < 32; code++) {
    enum grpc_status want = code == H2_REFUSED_STREAM        ? GRPC_UNAVAILABLE
                            : code == H2_CANCEL              ? GRPC_CANCELLED
                            : code == H2_ENHANCE_YOUR_CALM   ? GRPC_RESOURCE_EXHAUSTED
                            : code == H2_INADEQUATE_SECURITY ? GRPC_PERMISSION_DENIED
                                                             : GRPC_INTERNAL;
    assert_int_equal(grpc_status_of_reset(code), want);
  }
}

static void test_message(void **state) {
  (void)state;
  char room[64];
  struct buf out = buf_of(room, sizeof room);
  grpc_message_write(SPAN_LIT("100% \n\xc3\xa9~\x7f" "a:b"), &out);
  assert_true(span_eq(buf_span(&out), SPAN_LIT("100%25 %0A%C3%A9~%7Fa:b")));
  struct buf small = buf_of(room, 2);
  grpc_message_write(SPAN_LIT("%"), &small);
  assert_true(small.full);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_is),     cmocka_unit_test(test_timeout),
      cmocka_unit_test(test_timeout_write), cmocka_unit_test(test_status),
      cmocka_unit_test(test_of_http), cmocka_unit_test(test_of_end),
      cmocka_unit_test(test_of_reset), cmocka_unit_test(test_message),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
