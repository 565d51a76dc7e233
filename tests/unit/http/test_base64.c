/* test_base64.c: RFC 4648 section 10, groups behind padded ones, streams cut at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/http/base64.h"

static const struct {
  const char *bytes, *text;
} rows[] = {{"", ""},         {"f", "Zg=="},         {"fo", "Zm8="},
            {"foo", "Zm9v"},  {"foob", "Zm9vYg=="},  {"fooba", "Zm9vYmE="},
            {"foobar", "Zm9vYmFy"}, {"\xff\xfe\xfb", "//77"}, {"\xfb\xef", "++8="}};

static void test_write(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) {
    char room[16];
    struct buf out = buf_of(room, sizeof room);
    base64_write(span_str(rows[i].bytes), &out);
    assert_true(span_eq(buf_span(&out), span_str(rows[i].text)));
    assert_int_equal(out.len, base64_len(strlen(rows[i].bytes)));
  }
}

/* read_parts reads text in pieces of so many characters, with room for so many bytes at once. */
static bool read_parts(struct span text, size_t piece, size_t room, struct buf *all) {
  struct base64_in in = {0};
  char bytes[64];
  for (size_t at = 0; at < text.len;) {
    size_t used = 0;
    struct buf out = buf_of(bytes, room);
    if (!base64_read(&in, span_sub(text, at, piece), &used, &out)) return false;
    assert_true(used > 0);
    buf_put(all, buf_span(&out));
    at += used;
  }
  return base64_whole(&in);
}

static void reads(const char *text, const char *want) {
  for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
    for (size_t room = 3; room < 9; room++) {
      char bytes[64];
      struct buf all = buf_of(bytes, sizeof bytes);
      assert_true(read_parts(span_str(text), piece, room, &all));
      assert_true(span_eq(buf_span(&all), span_str(want)));
    }
  }
}

static void test_read(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) reads(rows[i].text, rows[i].bytes);
  reads("Zg==Zm8=Zm9vZg==", "ffofoof");
}

static void test_bad(void **state) {
  (void)state;
  static const char *const bad[] = {"Z", "Zg", "Zg=", "Zm9vY", "=", "Z===", "Zg=a", "Z=g=",
                                    "Zm9v\n", " Zm9v", "Zm-_", "Zh==", "Zm9=", "====", "Zg==="};
  for (size_t i = 0; i < array_count(bad); i++) {
    char bytes[64];
    for (size_t piece = 1; piece < 8; piece++) {
      struct buf all = buf_of(bytes, sizeof bytes);
      if (read_parts(span_str(bad[i]), piece, 64, &all)) fail_msg("%s", bad[i]);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_write), cmocka_unit_test(test_read),
                                     cmocka_unit_test(test_bad)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
