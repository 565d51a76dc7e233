/* test_h2_settings.c: SETTINGS values by their rules, and what the frame writers write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "weir/http/h2_settings.h"

static void defaults(void **state) {
  (void)state;
  struct h2_settings s = h2_settings_default;
  assert_int_equal(s.header_table_size, 4096);
  assert_int_equal(s.enable_push, 1);
  assert_int_equal(s.initial_window_size, 65535);
  assert_int_equal(s.max_frame_size, 16384);
  assert_true(s.max_concurrent_streams == UINT32_MAX && s.max_header_list_size == UINT32_MAX);
  assert_true(s.enable_connect_protocol == 0 && s.no_rfc7540_priorities == 0);
}

/* value_case: error 0 is taken. */
struct value_case {
  uint32_t id, value;
  bool by_server;
  enum h2_error error;
};

static const struct value_case cases[] = {
    {1, 0, false, 0},
    {1, UINT32_MAX, false, 0},
    {2, 0, true, 0},
    {2, 0, false, 0},
    {2, 1, false, 0},
    {2, 1, true, H2_PROTOCOL_ERROR},
    {2, 2, false, H2_PROTOCOL_ERROR},
    {3, 0, false, 0},
    {3, UINT32_MAX, true, 0},
    {4, 0, false, 0},
    {4, 0x7fffffff, false, 0},
    {4, 0x80000000, false, H2_FLOW_CONTROL_ERROR},
    {5, 16383, false, H2_PROTOCOL_ERROR},
    {5, 16384, false, 0},
    {5, 16777215, false, 0},
    {5, 16777216, false, H2_PROTOCOL_ERROR},
    {6, 0, false, 0},
    {7, 9, false, 0},
    {8, 1, true, 0},
    {8, 2, true, H2_PROTOCOL_ERROR},
    {9, 1, false, 0},
    {9, 2, false, H2_PROTOCOL_ERROR},
    {0, 1, false, 0},
    {10, 1, false, 0},
    {0xffff, 1, false, 0},
};

static void values(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(cases); i++) {
    const struct value_case *c = &cases[i];
    struct h2_settings s = h2_settings_default;
    struct h2_refusal why = {.error = H2_NO_ERROR, .reason = SPAN_EMPTY};
    bool taken = h2_settings_set(&s, c->by_server, c->id, c->value, &why);
    if (taken != (c->error == 0) || why.error != c->error)
      fail_msg("%u = %u: %d, %u", c->id, c->value, taken, why.error);
    assert_true(taken == (why.reason.len == 0));
    bool changed = memcmp(&s, &h2_settings_default, sizeof(s)) != 0;
    assert_true(taken || !changed);
  }
}

static void each_lands_in_its_member(void **state) {
  (void)state;
  struct h2_settings s = h2_settings_default;
  struct h2_refusal why;
  assert_true(h2_settings_set(&s, false, H2_SETTING_HEADER_TABLE_SIZE, 11, &why));
  assert_true(h2_settings_set(&s, false, H2_SETTING_ENABLE_PUSH, 0, &why));
  assert_true(h2_settings_set(&s, false, H2_SETTING_MAX_CONCURRENT_STREAMS, 13, &why));
  assert_true(h2_settings_set(&s, false, H2_SETTING_INITIAL_WINDOW_SIZE, 14, &why));
  assert_true(h2_settings_set(&s, false, H2_SETTING_MAX_FRAME_SIZE, 16385, &why));
  assert_true(h2_settings_set(&s, false, H2_SETTING_MAX_HEADER_LIST_SIZE, 16, &why));
  assert_true(h2_settings_set(&s, false, H2_SETTING_ENABLE_CONNECT_PROTOCOL, 1, &why));
  assert_true(h2_settings_set(&s, false, H2_SETTING_NO_RFC7540_PRIORITIES, 1, &why));
  assert_int_equal(s.header_table_size, 11);
  assert_int_equal(s.enable_push, 0);
  assert_int_equal(s.max_concurrent_streams, 13);
  assert_int_equal(s.initial_window_size, 14);
  assert_int_equal(s.max_frame_size, 16385);
  assert_int_equal(s.max_header_list_size, 16);
  assert_int_equal(s.enable_connect_protocol, 1);
  assert_int_equal(s.no_rfc7540_priorities, 1);
  assert_false(h2_settings_set(&s, true, H2_SETTING_ENABLE_CONNECT_PROTOCOL, 0, &why));
  assert_int_equal(why.error, H2_PROTOCOL_ERROR);
  assert_int_equal(s.enable_connect_protocol, 1);
}

/* ---- writers ---- */

enum { WRITERS = 9 };

static void write_one(struct buf *b, int which) {
  static const struct h2_row rows[] = {{H2_SETTING_ENABLE_PUSH, 0},
                                       {H2_SETTING_MAX_CONCURRENT_STREAMS, 0x01020304}};
  switch (which) {
    case 0: h2_write_settings(b, rows, 2); break;
    case 1: h2_write_settings_ack(b); break;
    case 2: h2_write_ping(b, true, SPAN_LIT("12345678")); break;
    case 3: h2_write_window_update(b, 7, INT32_MAX); break;
    case 4: h2_write_rst_stream(b, 7, H2_CANCEL); break;
    case 5: h2_write_goaway(b, 9, H2_ENHANCE_YOUR_CALM, SPAN_LIT("calm")); break;
    case 6: h2_write_block(b, 5, true, SPAN_LIT("ab"), 16384); break;
    case 7: h2_write_data_head(b, H2_STREAM_MAX, true, 0x010203); break;
    default: h2_write_settings(b, NULL, 0); break;
  }
}

static const struct span written[WRITERS] = {
    {"\0\0\x0c\x04\0\0\0\0\0\0\x02\0\0\0\0\0\x03\x01\x02\x03\x04", 21},
    {"\0\0\0\x04\x01\0\0\0\0", 9},
    {"\0\0\x08\x06\x01\0\0\0\0\x31\x32\x33\x34\x35\x36\x37\x38", 17},
    {"\0\0\x04\x08\0\0\0\0\x07\x7f\xff\xff\xff", 13},
    {"\0\0\x04\x03\0\0\0\0\x07\0\0\0\x08", 13},
    {"\0\0\x0c\x07\0\0\0\0\0\0\0\0\x09\0\0\0\x0b\x63\x61\x6c\x6d", 21},
    {"\0\0\x02\x01\x05\0\0\0\x05\x61\x62", 11},
    {"\x01\x02\x03\0\x01\x7f\xff\xff\xff", 9},
    {"\0\0\0\x04\0\0\0\0\0", 9},
};

/* Each writes its frame, or nothing when a byte of room is missing. */
static void whole_or_nothing(void **state) {
  (void)state;
  char room[64];
  for (int which = 0; which < WRITERS; which++) {
    for (size_t cap = 0; cap <= written[which].len; cap++) {
      struct buf b = buf_of(room, cap + 3);
      buf_lit(&b, "pre");
      write_one(&b, which);
      bool fits = cap == written[which].len;
      assert_true(b.full == !fits);
      assert_int_equal(b.len, 3 + (fits ? written[which].len : 0));
      if (fits) assert_memory_equal(room + 3, written[which].ptr, written[which].len);
    }
  }
}

static void blocks_are_split(void **state) {
  (void)state;
  static char block[40000], room[40100];
  for (size_t i = 0; i < sizeof(block); i++) block[i] = (char)(i * 7);
  static const size_t lens[] = {0, 1, 16384, 16385, 32768, 32769, 40000};
  for (size_t i = 0; i < array_count(lens); i++) {
    struct buf b = buf_of(room, sizeof(room));
    h2_write_block(&b, 3, false, span_of(block, lens[i]), 16384);
    assert_false(b.full);
    struct h2_scanner s;
    h2_frame_scan_init(&s, false, 16384);
    s.settled = true;
    struct span in = buf_span(&b);
    size_t at = 0, frames = 0;
    while (in.len > 0) {
      struct h2_item item;
      size_t consumed;
      enum h2_event event = h2_frame_scan(&s, in, &consumed, &item);
      in = span_from(in, consumed);
      if (event == H2_EVENT_FRAME) {
        assert_int_equal(s.frame.type, frames++ ? H2_CONTINUATION : H2_HEADERS);
        continue;
      }
      assert_int_equal(event, H2_EVENT_FRAGMENT);
      assert_true(item.bytes.len <= 16384);
      assert_memory_equal(item.bytes.ptr, block + at, item.bytes.len);
      at += item.bytes.len;
    }
    assert_int_equal(at, lens[i]);
    assert_int_equal(s.block, 0);
    assert_int_equal(frames, lens[i] ? (lens[i] + 16383) / 16384 : 1);
  }
  struct buf tight = buf_of(room, 40000 + 26);
  h2_write_block(&tight, 3, false, span_of(block, 40000), 16384);
  assert_true(tight.full && tight.len == 0);
}

static void heads_are_filled_in(void **state) {
  (void)state;
  char room[32];
  struct buf b = buf_of(room, sizeof(room));
  buf_lit(&b, "x.........ab");
  h2_fill_head(&b, 1,
               &(struct h2_frame){.type = H2_HEADERS, .flags = 4, .stream = 5, .length = 2});
  assert_true(span_eq(buf_span(&b), SPAN_LIT("x\0\0\2\1\4\0\0\0\5ab")));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults),
      cmocka_unit_test(values),
      cmocka_unit_test(each_lands_in_its_member),
      cmocka_unit_test(whole_or_nothing),
      cmocka_unit_test(blocks_are_split),
      cmocka_unit_test(heads_are_filled_in),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
