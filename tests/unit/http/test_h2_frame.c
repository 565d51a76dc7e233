/* test_h2_frame.c: what the frame scanner makes of bytes, by tables of good and hostile frames
 * (RFC 9113 sections 3.4, 4 and 6), each cut in every way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "h2_trace.h"

#define PREFACE "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a "
#define SETTINGS "000000 04 00 00000000 "
#define SETTLED PREFACE SETTINGS
#define OPENED "SETTINGS/0 . "

/* frame_case: hex (blanks ignored) and what is made of it. */
struct frame_case {
  bool server;
  const char *hex, *trace;
};

static const struct frame_case cases[] = {
#include "h2_frame_cases.def"
};

static struct span unhex(const char *hex, char *room, size_t cap) {
  struct buf b = buf_of(room, cap);
  for (; *hex; hex++) {
    if (*hex == ' ') continue;
    int high = ascii_hex(hex[0]), low = ascii_hex(hex[1]);
    assert_true(high >= 0 && low >= 0);
    buf_char(&b, (char)(high << 4 | low));
    hex++;
  }
  assert_false(b.full);
  return buf_span(&b);
}

static void tables_hold(void **state) {
  (void)state;
  char room[1024];
  for (size_t i = 0; i < array_count(cases); i++) {
    struct span in = unhex(cases[i].hex, room, sizeof(room));
    for (size_t piece = 1; piece <= in.len + 20; piece++) {
      uint64_t seed = piece;
      struct h2_trace t = h2_trace_read(cases[i].server, in, piece > in.len ? 0 : piece, &seed);
      if (!span_eq(text_span(&t.text), span_str(cases[i].trace)))
        fail_msg("%s (pieces of %zu):\n  " SPAN_FMT "\n  %s", cases[i].hex, piece,
                 SPAN_ARG(text_span(&t.text)), cases[i].trace);
      text_fini(&t.text);
    }
  }
}

/* Every fault of the table was seen above. */
static void each_fault_has_a_case(void **state) {
  (void)state;
  static const char *const reasons[] = {
#define FAULT(id, event, error, text) #error ": " text,
#include "../../../src/http/h2_frame_fault.def"
#undef FAULT
  };
  for (size_t i = 0; i < array_count(reasons); i++) {
    bool seen = reasons[i][0] == 'F' && strstr(reasons[i], "MAX_FRAME_SIZE"); /* long_frames() */
    for (size_t c = 0; c < array_count(cases); c++)
      seen |= strstr(cases[c].trace, reasons[i]) != NULL;
    if (!seen) fail_msg("no case: %s", reasons[i]);
  }
}

/* scan_all feeds bytes to a scanner until it wants more; the last event but MORE. */
static enum h2_event scan_all(struct h2_scanner *s, struct span in, struct h2_item *item) {
  enum h2_event last = H2_EVENT_MORE;
  for (;;) {
    struct h2_item next;
    size_t consumed;
    enum h2_event event = h2_frame_scan(s, in, &consumed, &next);
    if (event == H2_EVENT_MORE) return last;
    in = span_from(in, consumed);
    last = event;
    *item = next;
    if (event == H2_EVENT_CONNECTION_ERROR) return last;
  }
}

/* The bound is inclusive, and holds for types that are not known too. */
static void long_frames(void **state) {
  (void)state;
  static const char heads[][9] = {
      "\x00\x40\x00\x00\x00\x00\x00\x00\x01", "\x00\x40\x01\x00\x00\x00\x00\x00\x01",
      "\x00\x40\x00\x77\x00\x00\x00\x00\x01", "\x00\x40\x01\x77\x00\x00\x00\x00\x01"};
  for (size_t i = 0; i < 4; i++) {
    struct h2_scanner s;
    struct h2_item item;
    h2_frame_scan_init(&s, false, H2_FRAME_SIZE_MIN);
    scan_all(&s, SPAN_LIT("\0\0\0\4\0\0\0\0\0"), &item);
    enum h2_event event = scan_all(&s, span_of(heads[i], 9), &item);
    assert_int_equal(event, i % 2 ? H2_EVENT_CONNECTION_ERROR : H2_EVENT_FRAME);
    if (i % 2) assert_int_equal(item.error, H2_FRAME_SIZE_ERROR);
    if (i % 2 == 0) continue;
    h2_frame_scan_init(&s, false, H2_FRAME_SIZE_MIN + 1); /* raised */
    scan_all(&s, SPAN_LIT("\0\0\0\4\0\0\0\0\0"), &item);
    assert_int_equal(scan_all(&s, span_of(heads[i], 9), &item), H2_EVENT_FRAME);
  }
}

/* A value that is too long for the scanner is read as empty, and what follows stays in step. */
static void long_priority_update(void **state) {
  (void)state;
  for (size_t len = H2_PRIORITY_VALUE_MAX - 1; len < H2_PRIORITY_VALUE_MAX + 3; len++) {
    char room[256];
    struct buf b = buf_of(room, sizeof(room));
    buf_put(&b, H2_PREFACE);
    buf_put(&b, SPAN_LIT("\0\0\0\4\0\0\0\0\0"));
    buf_put(&b, SPAN_LIT("\0\0"));
    buf_char(&b, (char)(len + 4));
    buf_put(&b, SPAN_LIT("\x10\0\0\0\0\0\0\0\0\7"));
    for (size_t i = 0; i < len; i++) buf_char(&b, 'a');
    size_t before = b.len;
    buf_put(&b, SPAN_LIT("\0\0\4\x08\0\0\0\0\3\0\0\0\5"));
    struct h2_scanner s;
    struct h2_item item;
    h2_frame_scan_init(&s, true, H2_FRAME_SIZE_MIN);
    assert_int_equal(scan_all(&s, span_sub(buf_span(&b), 0, before), &item),
                     H2_EVENT_PRIORITY_UPDATE);
    assert_int_equal(item.id, 7);
    assert_int_equal(item.bytes.len, len <= H2_PRIORITY_VALUE_MAX ? len : 0);
    assert_int_equal(scan_all(&s, span_from(buf_span(&b), before), &item), H2_EVENT_WINDOW_UPDATE);
    assert_int_equal(item.value, 5);
  }
}

static void preface_is_told(void **state) {
  (void)state;
  struct span preface = H2_PREFACE;
  for (size_t len = 0; len < preface.len; len++)
    assert_int_equal(h2_preface_match(span_sub(preface, 0, len)), HTTP_MORE);
  assert_int_equal(h2_preface_match(preface), HTTP_DONE);
  assert_int_equal(h2_preface_match(SPAN_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore")), HTTP_DONE);
  assert_int_equal(h2_preface_match(SPAN_LIT("PRI * HTTP/1.1")), HTTP_BAD);
  assert_int_equal(h2_preface_match(SPAN_LIT("GET")), HTTP_BAD);
}

static void windows(void **state) {
  (void)state;
  int32_t w = 65535;
  assert_true(h2_window_add(&w, INT32_MAX - 65535));
  assert_int_equal(w, INT32_MAX);
  assert_false(h2_window_add(&w, 1));
  assert_false(h2_window_add(&w, UINT32_MAX));
  assert_int_equal(w, INT32_MAX);
  assert_false(h2_window_shift(&w, 65535, 65536));
  assert_true(h2_window_shift(&w, 65536, 65535) && w == INT32_MAX - 1);
  w = 10;
  assert_true(h2_window_take(&w, 0) && h2_window_take(&w, 10) && w == 0);
  assert_false(h2_window_take(&w, 1));
  assert_true(h2_window_shift(&w, 65535, 5) && w == 5 - 65535);
  assert_true(h2_window_take(&w, 0)); /* DATA without bytes needs no window */
  assert_false(h2_window_take(&w, 1));
  assert_false(h2_window_take(&w, UINT32_MAX));
  assert_true(h2_window_add(&w, 65535) && w == 5);
  w = INT32_MIN + 1;
  assert_false(h2_window_shift(&w, 2, 0));
  assert_true(h2_window_shift(&w, 1, 0) && w == INT32_MIN);
}

static void names(void **state) {
  (void)state;
  assert_true(span_eq(h2_error_name(0xb), SPAN_LIT("ENHANCE_YOUR_CALM")));
  assert_int_equal(h2_error_name(0xe).len, 0);
  assert_int_equal(h2_error_name(UINT32_MAX).len, 0);
  assert_true(span_eq(h2_type_name(0x10), SPAN_LIT("PRIORITY_UPDATE")));
  assert_int_equal(h2_type_name(0xa).len, 0);
  assert_int_equal(h2_type_name(0x11).len, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tables_hold),     cmocka_unit_test(each_fault_has_a_case),
      cmocka_unit_test(long_frames),     cmocka_unit_test(long_priority_update),
      cmocka_unit_test(preface_is_told), cmocka_unit_test(windows),
      cmocka_unit_test(names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
