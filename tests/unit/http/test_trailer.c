/* test_trailer.c: trailer sections as fields: which are passed on, which are dropped, which are
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "weir/http/trailer.h"

static struct arena arena;

/* parse is what is passed on of the lines, as text, or the word of the fault. */
static struct span parse(const char *head, const char *lines, enum h1_side side) {
  static char room[2 * H1_TRAILER_LINES_MAX];
  struct http_fields of_head = {0}, rows = {0};
  struct buf b = buf_of(room, sizeof(room));
  enum end why = END_OK;
  if (*head)
    assert_true(http_fields_add(&of_head, &arena, SPAN_LIT("Connection"), span_str(head)));
  const struct h1_trailer_lines in = {.lines = span_str(lines), .side = side, .head = &of_head};
  if (!h1_parse_trailers(&in, &arena, &rows, &why)) {
    assert_int_equal(rows.count, 0);
    return end_get(why)->word;
  }
  h1_write_fields(&b, &rows);
  assert_int_equal(http_trailers_any(&rows), b.len > 0);
  return buf_span(&b);
}

static const struct {
  const char *head, *lines, *request, *response;
} cases[] = {
    {"", "X-A: b\r\n\r\n", "X-A: b\r\n", "X-A: b\r\n"},
    {"", "X-A:\r\nx-a:  c \r\n\r\n", "X-A: \r\nx-a: c\r\n", "X-A: \r\nx-a: c\r\n"},
    {"", "Grpc-Status: 0\r\nETag: x\r\n\r\n", "Grpc-Status: 0\r\nETag: x\r\n",
     "Grpc-Status: 0\r\nETag: x\r\n"},
    {"", "Content-Length: 1\r\nA: b\r\n\r\n", "A: b\r\n", "A: b\r\n"},
    {"", "Transfer-Encoding: chunked\r\nhost: x\r\nA: b\r\nTe: trailers\r\n\r\n", "A: b\r\n",
     "A: b\r\n"},
    {"", "X-Forwarded-For: 1\r\nAuthorization: x\r\nTrailer: A\r\nSet-Cookie: a\r\n\r\n", "", ""},
    {"", "Content_Length: 1\r\nx_forwarded_for: 1\r\nSet_Cookie: a\r\nA_B: c\r\n\r\n",
     "A_B: c\r\n", "A_B: c\r\n"},
    {"", "X-Forwarded-User: 1\r\nx_forwarded_email: 2\r\nX-Forwarded: 3\r\nA: b\r\n\r\n",
     "A: b\r\n", "A: b\r\n"},
    {"close, x-hop ,, Y", "X-Hop: 1\r\ny: 2\r\nZ: 3\r\n\r\n", "Z: 3\r\n", "Z: 3\r\n"},
    {"", "A: b\r\n", "client.bad_request.trailer", "upstream.bad_response.trailer"},
    {"", "A : b\r\n\r\n", "client.bad_request.trailer", "upstream.bad_response.trailer"},
    {"", "A: b\r\n c\r\n\r\n", "client.bad_request.trailer", "upstream.bad_response.trailer"},
};

static void what_is_passed_on(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(cases); i++) {
    struct span up = parse(cases[i].head, cases[i].lines, H1_REQUEST);
    if (!span_eq(up, span_str(cases[i].request))) fail_msg("request of case %zu", i);
    struct span down = parse(cases[i].head, cases[i].lines, H1_RESPONSE);
    if (!span_eq(down, span_str(cases[i].response))) fail_msg("response of case %zu", i);
    arena_reset(&arena);
  }
}

static void bounds(void **state) {
  (void)state;
  static char value[H1_TRAILER_BYTES_MAX];
  struct http_fields rows = {0};
  for (size_t i = 0; i < sizeof(value); i++) value[i] = 'v';
  assert_true(http_trailers_fit(&rows) && !http_trailers_any(&rows));
  assert_true(http_fields_add(&rows, &arena, SPAN_LIT("a"), span_of(value, sizeof(value) - 1)));
  assert_true(http_trailers_fit(&rows));
  assert_true(http_fields_add(&rows, &arena, SPAN_LIT("b"), SPAN_EMPTY));
  assert_false(http_trailers_fit(&rows));
  rows = (struct http_fields){0};
  for (unsigned i = 0; i < H1_TRAILER_COUNT_MAX; i++)
    assert_true(http_fields_add(&rows, &arena, SPAN_LIT("a"), SPAN_EMPTY));
  assert_true(http_trailers_fit(&rows));
  assert_true(http_fields_add(&rows, &arena, SPAN_LIT("a"), SPAN_EMPTY));
  assert_false(http_trailers_fit(&rows));
  arena_reset(&arena);
}

static bool takes(const char *te) {
  const struct h1_limits limits = {4096, 10, 4096};
  struct h1_scan scan = {0};
  struct http_request req;
  enum end why;
  char room[256];
  int len = snprintf(room, sizeof(room), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", te);
  assert_int_equal(h1_parse_request(&scan, span_of(room, (size_t)len), &limits, &arena, &req,
                                    &why), HTTP_DONE);
  bool does = http_takes_trailers(&req.fields);
  http_fields_drop(&req.fields, SPAN_LIT("te"));
  assert_false(http_takes_trailers(&req.fields)); /* a filter took it out */
  arena_reset(&arena);
  return does;
}

static void who_takes_them(void **state) {
  (void)state;
  assert_true(takes("TE: trailers\r\n") && takes("TE: gzip, Trailers ,\r\n"));
  assert_true(takes("TE: gzip\r\nTE: trailers\r\nConnection: TE\r\n"));
  assert_false(takes("") || takes("TE:\r\n") || takes("TE: trailers;q=0\r\n"));
  assert_false(takes("TE: xtrailers\r\n") || takes("Trailer: trailers\r\n"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_passed_on),
      cmocka_unit_test(bounds),
      cmocka_unit_test(who_takes_them),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
