/* test_h1_write.c: what the serialisers write, and that no text can end a line for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "weir/http/h1.h"

static char room[1024];

static struct buf fresh(void) { return buf_of(room, sizeof(room)); }

#define assert_text(b, text) assert_true(!(b)->full && span_eq(buf_span(b), SPAN_LIT(text)))

static void lines(void **state) {
  (void)state;
  struct buf b = fresh();
  struct span query = SPAN_LIT("a=b"), none = SPAN_LIT("");
  assert_true(h1_write_request_line(&b, SPAN_LIT("GET"), SPAN_LIT("/x"), &query, 1));
  assert_true(h1_write_request_line(&b, SPAN_LIT("M"), SPAN_LIT("/"), &none, 0));
  assert_true(h1_write_request_line(&b, SPAN_LIT("OPTIONS"), SPAN_LIT("*"), NULL, 1));
  assert_text(&b, "GET /x?a=b HTTP/1.1\r\nM /? HTTP/1.0\r\nOPTIONS * HTTP/1.1\r\n");
  b = fresh();
  assert_true(h1_write_status_line(&b, 204, http_status_reason(204)));
  assert_true(h1_write_status_line(&b, 299, SPAN_EMPTY));
  assert_text(&b, "HTTP/1.1 204 No Content\r\nHTTP/1.1 299 \r\n");
  b = fresh();
  assert_true(h1_write_host(&b, SPAN_LIT("a"), 0) && h1_write_host(&b, SPAN_LIT("[::1]"), 81));
  h1_write_framing(&b, HTTP_BODY_LENGTH, UINT64_MAX);
  h1_write_framing(&b, HTTP_BODY_CHUNKED, 5);
  h1_write_framing(&b, HTTP_BODY_NONE, 5);
  h1_write_framing(&b, HTTP_BODY_CLOSE, 5);
  h1_write_framing(&b, HTTP_BODY_TUNNEL, 5);
  h1_write_chunk_head(&b, 0xabc0);
  assert_text(&b,
              "Host: a\r\nHost: [::1]:81\r\nContent-Length: 18446744073709551615\r\n"
              "Transfer-Encoding: chunked\r\nabc0\r\n");
  b = fresh();
  h1_write_chunk_head(&b, UINT64_MAX);
  assert_int_equal(b.len, H1_CHUNK_HEAD_MAX);
}

static void nothing_splits(void **state) {
  (void)state;
  const struct span evil[] = {SPAN_LIT("a\r"), SPAN_LIT("\n"), SPAN_LIT("a\0b"),
                              SPAN_LIT("a\r\nb: c")};
  for (size_t i = 0; i < array_count(evil); i++) {
    struct buf b = fresh();
    assert_false(h1_write_field(&b, SPAN_LIT("A"), evil[i]));
    assert_true(b.full && b.len == 0);
    b = fresh();
    assert_false(h1_write_field(&b, evil[i], SPAN_LIT("a")));
    b = fresh();
    assert_false(h1_write_request_line(&b, evil[i], SPAN_LIT("/"), NULL, 1));
    b = fresh();
    assert_false(h1_write_request_line(&b, SPAN_LIT("GET"), evil[i], NULL, 1));
    b = fresh();
    assert_false(h1_write_request_line(&b, SPAN_LIT("GET"), SPAN_LIT("/"), &evil[i], 1));
    b = fresh();
    assert_false(h1_write_status_line(&b, 200, evil[i]));
    b = fresh();
    assert_false(h1_write_host(&b, evil[i], 0));
    struct http_field row = {.name = SPAN_LIT("A"), .value = evil[i]};
    struct http_fields f = {.rows = &row, .count = 1, .cap = 1};
    b = fresh();
    h1_write_fields(&b, &f);
    assert_true(b.full && b.len == 0);
    row = (struct http_field){.name = evil[i], .value = SPAN_LIT("a")};
    b = fresh();
    h1_write_fields(&b, &f);
    assert_true(b.full && b.len == 0);
  }
  struct buf b = fresh();
  assert_false(h1_write_request_line(&b, SPAN_LIT("GET"), SPAN_LIT("/a b"), NULL, 1));
  b = fresh();
  assert_false(h1_write_request_line(&b, SPAN_LIT("GET"), SPAN_EMPTY, NULL, 1));
  b = fresh();
  assert_false(h1_write_status_line(&b, 99, SPAN_EMPTY));
}

static void flagged_rows_stay_out(void **state) {
  (void)state;
  struct http_field rows[] = {
      {.name = SPAN_LIT("A"), .value = SPAN_LIT("1")},
      {.name = SPAN_LIT("B"), .value = SPAN_LIT("2"), .flags = HTTP_FIELD_HOP},
      {.name = SPAN_LIT("C"), .value = SPAN_LIT("3"), .flags = HTTP_FIELD_OWN},
      {.name = SPAN_LIT("D"), .value = SPAN_LIT("4"), .flags = HTTP_FIELD_FORWARDING},
      {.name = SPAN_LIT("E"), .value = SPAN_LIT("5"), .flags = HTTP_FIELD_ALIAS},
      {.name = SPAN_LIT("F"), .value = SPAN_LIT("6"), .flags = HTTP_FIELD_DROP},
      {.name = SPAN_LIT("G"), .value = SPAN_LIT("")},
  };
  struct http_fields f = {.rows = rows, .count = array_count(rows), .cap = array_count(rows)};
  struct buf b = fresh();
  h1_write_fields(&b, &f);
  assert_text(&b, "A: 1\r\nG: \r\n");
}

/* Every room but enough ends in full, and nothing is written past it. */
static void small_rooms(void **state) {
  (void)state;
  struct http_field row = {.name = SPAN_LIT("Name"), .value = SPAN_LIT("value")};
  struct http_fields f = {.rows = &row, .count = 1, .cap = 1};
  struct span query = SPAN_LIT("q");
  for (size_t cap = 0; cap < 200; cap++) {
    memset(room, '#', sizeof(room));
    struct buf b = buf_of(room, cap);
    bool ok = h1_write_request_line(&b, SPAN_LIT("GET"), SPAN_LIT("/path"), &query, 1) &&
              h1_write_host(&b, SPAN_LIT("example"), 8080);
    h1_write_fields(&b, &f);
    h1_write_framing(&b, HTTP_BODY_LENGTH, 12345);
    assert_int_equal(ok && !b.full, cap >= 78);
    assert_true(b.len <= cap && room[cap] == '#');
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines),
      cmocka_unit_test(nothing_splits),
      cmocka_unit_test(flagged_rows_stay_out),
      cmocka_unit_test(small_rooms),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
