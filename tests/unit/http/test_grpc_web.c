/* test_grpc_web.c: content types, Accept, the last frame and message boundaries (PROTOCOL-WEB).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/http/grpc_web.h"

static const struct {
  const char *type, *suffix;
  enum grpc_web form;
} types[] = {
    {"application/grpc-web", "", GRPC_WEB_BINARY},
    {"application/grpc-web+proto", "+proto", GRPC_WEB_BINARY},
    {"Application/gRPC-Web+json; charset=utf-8", "+json", GRPC_WEB_BINARY},
    {"application/grpc-web-text", "", GRPC_WEB_TEXT},
    {"application/grpc-web-text+proto;x=+y", "+proto", GRPC_WEB_TEXT},
    {"application/grpc-web-texts", "", GRPC_WEB_NONE},
    {"application/grpc-webs", "", GRPC_WEB_NONE},
    {"application/grpc", "", GRPC_WEB_NONE},
    {"application/grpc+proto", "+proto", GRPC_WEB_NONE},
    {"text/plain", "", GRPC_WEB_NONE},
    {"", "", GRPC_WEB_NONE},
};

static void test_types(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(types); i++) {
    struct span type = span_str(types[i].type);
    assert_int_equal(grpc_web_of(type), types[i].form);
    assert_true(span_eq(grpc_suffix(type), span_str(types[i].suffix)));
  }
  for (enum grpc_web form = GRPC_WEB_BINARY; form <= GRPC_WEB_TEXT; form++)
    assert_int_equal(grpc_web_of(grpc_web_type(form)), form);
}

static void test_accept(void **state) {
  (void)state;
  assert_int_equal(grpc_web_accepted(SPAN_LIT("*/*")), GRPC_WEB_NONE);
  assert_int_equal(grpc_web_accepted(SPAN_EMPTY), GRPC_WEB_NONE);
  assert_int_equal(grpc_web_accepted(SPAN_LIT("text/html, application/grpc-web-text;q=0.9")),
                   GRPC_WEB_TEXT);
  assert_int_equal(grpc_web_accepted(SPAN_LIT("application/grpc-web+proto")), GRPC_WEB_BINARY);
}

static void test_trailers(void **state) {
  (void)state;
  struct http_field rows[] = {{.name = SPAN_LIT("Grpc-Status"), .value = SPAN_LIT("0")},
                              {.name = SPAN_LIT("x-gone"), .value = SPAN_LIT("v"), .flags = 1},
                              {.name = SPAN_LIT("x-empty"), .value = SPAN_EMPTY}};
  const struct http_fields fields = {.rows = rows, .count = array_count(rows)};
  const struct span want = SPAN_LIT("\x80\0\0\0\x1bgrpc-status: 0\r\nx-empty: \r\n");
  char room[64];
  struct buf out = buf_of(room, sizeof room);
  grpc_web_trailers_write(&fields, &out);
  assert_true(span_eq(buf_span(&out), want));
  assert_int_equal(grpc_web_trailers_len(&fields), want.len);
}

/* Two messages, an empty one and one of 3 bytes, cut at every two places. */
static void test_frames(void **state) {
  (void)state;
  const struct span body = SPAN_LIT("\0\0\0\0\0\1\0\0\0\3abc\0\0\1\0\0");
  for (size_t first = 0; first <= body.len; first++) {
    for (size_t second = first; second <= body.len; second++) {
      struct grpc_frames frames = {0};
      grpc_frames_take(&frames, span_sub(body, 0, first));
      assert_int_equal(grpc_frames_between(&frames), first == 0 || first == 5 || first == 13);
      grpc_frames_take(&frames, span_sub(body, first, second - first));
      assert_int_equal(grpc_frames_between(&frames), second == 0 || second == 5 || second == 13);
      grpc_frames_take(&frames, span_from(body, second));
      assert_int_equal(frames.left, 65536);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_types), cmocka_unit_test(test_accept),
      cmocka_unit_test(test_trailers), cmocka_unit_test(test_frames)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
