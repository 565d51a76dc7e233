/* test_hpack_encode.c: what the encoder writes, byte for byte where the choice is ours; buffers of
 * every size and what is left of a block that did not fit; size updates; the table's turnover. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "hpack_help.h"

struct want {
  const char *name, *value;
  bool secret;
};

static void put(struct hpack_encoder *enc, struct want w, struct buf *out) {
  struct span name = span_str(w.name), value = span_str(w.value);
#define HPACK_PSEUDO(id, text, first, count, policy) \
  if (span_eq(name, SPAN_LIT(text))) { \
    hpack_encode_pseudo(enc, HPACK_PSEUDO_##id, value, w.secret, out); \
    return; \
  }
#include "weir/http/hpack_pseudo.def"
#undef HPACK_PSEUDO
  struct http_field row = {.name = name, .value = value, .secret = w.secret};
  row.id = (uint16_t)http_name_find(name);
  hpack_encode_field(enc, &row, out);
}

static bool block(struct hpack_encoder *enc, const struct want *list, size_t count,
                  struct buf *out) {
  hpack_encode_begin(enc, out);
  for (size_t i = 0; i < count; i++) put(enc, list[i], out);
  return hpack_encode_end(enc, out);
}

static void expect(struct hpack_encoder *enc, struct want w, const char *hex) {
  char room[512];
  struct buf out = buf_of(room, sizeof(room));
  char text[1024];
  size_t len = 0;
  assert_true(block(enc, &w, 1, &out));
  for (size_t i = 0; i < out.len; i++, len += 2)
    (void)snprintf(text + len, 3, "%02x", (unsigned)(unsigned char)room[i]);
  text[len] = 0;
  assert_string_equal(text, hex);
}

static void representations(void **state) {
  (void)state;
  struct hpack_encoder enc;
  hpack_encoder_init(&enc, 4096);
  const struct {
    struct want want;
    const char *hex;
  } rows[] = {
      {{":method", "GET", false}, "82"},
      {{":path", "/", false}, "84"},
      {{":path", "/", true}, "14012f"},
      {{":path", "/sample/path", false}, "04896103a6ba0ac5634cff"},
      {{":status", "200", false}, "88"},
      {{":status", "302", false}, "48826402"},
      {{":status", "302", false}, "be"},
      {{"Cache-Control", "private", false}, "5885aec3771a4b"},
      {{"cache-control", "private", false}, "be"},
      {{"accept-encoding", "gzip, deflate", false}, "90"},
      {{"Accept-Charset", "", false}, "8f"},
      {{"date", "Mon, 21 Oct 2013 20:13:21 GMT", false},
       "0f1296d07abe941054d444a8200595040b8166e082a62d1bff"},
      {{"content-length", "0", false}, "0f0d0130"},
      {{"cookie", "a=b", false}, "1f1103613d62"}, /* Huffman is no shorter */
      {{"x-api-key", "a", false}, "1087f2b0eb32dd4beb0161"},
      {{"Custom-Key", "custom-value", false}, "408825a849e95ba97d7f8925a849e95bb8e8b4bf"},
      {{"custom-key", "custom-value", false}, "be"},
      {{"custom-key", "secret", true}, "108825a849e95ba97d7f8441496153"},
      {{"custom-key", "custom-value", true}, "108825a849e95ba97d7f8925a849e95bb8e8b4bf"},
      {{"x-request-id", "1", false}, "4089f2b585ed6950958d270131"},
      {{"X-Request-Id", "2", false}, "0f2f0132"}, /* its name alone had the entry */
      {{"accept-encoding", "", false}, "5000"},
  };
  for (size_t i = 0; i < array_count(rows); i++) expect(&enc, rows[i].want, rows[i].hex);
  hpack_encoder_fini(&enc);
}

static void a_table_of_nothing(void **state) {
  (void)state;
  struct hpack_encoder enc;
  hpack_encoder_init(&enc, 0);
  expect(&enc, (struct want){":status", "302", false}, "2008826402");
  expect(&enc, (struct want){"custom-key", "custom-value", false},
         "008825a849e95ba97d7f8925a849e95bb8e8b4bf");
  assert_null(enc.table.memory);
  hpack_encoder_fini(&enc);
}

static void size_updates(void **state) {
  (void)state;
  struct hpack_encoder enc;
  hpack_encoder_init(&enc, 65536);
  const struct want ok = {":status", "200", false};
  expect(&enc, ok, "88");
  hpack_encoder_set(&enc, 4096);
  expect(&enc, ok, "88");
  hpack_encoder_set(&enc, 100000); /* to our own bound */
  expect(&enc, ok, "3fe1ff0388");
  hpack_encoder_set(&enc, 10);
  expect(&enc, ok, "2a88");
  expect(&enc, ok, "88");
  hpack_encoder_set(&enc, 5);
  hpack_encoder_set(&enc, 20); /* the lowest, then the last */
  expect(&enc, ok, "253488");
  hpack_encoder_set(&enc, 0);
  hpack_encoder_set(&enc, 20);
  expect(&enc, ok, "203488");
  hpack_encoder_set(&enc, 40);
  hpack_encoder_set(&enc, 20); /* as it was */
  expect(&enc, ok, "88");
  hpack_encoder_fini(&enc);
}

static const struct want head[] = {
    {":status", "302", false},
    {"server", "weir", false},
    {"content-type", "text/x", false},
    {"X-One", "some value of a field", false},
    {"x-two", "", false},
    {"set-cookie", "a=b; path=/", false},
};

/* Whatever the room, a block is whole, or as if it had never been begun. */
static void every_room(void **state) {
  (void)state;
  char whole[512], room[512];
  struct hpack_encoder enc;
  hpack_encoder_init(&enc, 4096);
  struct buf out = buf_of(whole, sizeof(whole));
  assert_true(block(&enc, head, array_count(head), &out));
  hpack_encoder_fini(&enc);
  for (unsigned before = 0; before < 3; before++) {
    hpack_encoder_init(&enc, 4096);
    struct buf first = buf_of(room, sizeof(room));
    assert_true(block(&enc, head, before * 2, &first));
    hpack_encoder_set(&enc, 4000);
    uint32_t used = enc.table.used;
    size_t cap = 0;
    for (; cap < sizeof(room); cap++) {
      memset(room, 'x', sizeof(room));
      out = buf_of(room, cap);
      bool fits = block(&enc, head, array_count(head), &out);
      for (size_t i = cap; i < sizeof(room); i++) assert_int_equal(room[i], 'x');
      if (fits) break;
      assert_int_equal(out.len, 0);
      assert_int_equal(enc.table.used, used);
    }
    assert_true(cap < sizeof(room));
    assert_int_equal(room[0], 0x3f); /* the update was not forgotten */
    if (before == 0) assert_memory_equal(room + 3, whole, out.len - 3);
    hpack_encoder_fini(&enc);
  }
}

/* After blocks taken back the chains find what they found before. */
static void taken_back(void **state) {
  (void)state;
  struct hpack_encoder enc;
  hpack_encoder_init(&enc, 4096);
  char room[512];
  struct buf out = buf_of(room, sizeof(room));
  assert_true(block(&enc, head, array_count(head), &out));
  const struct want once = {"x-request-id", "1", false};
  assert_true(block(&enc, &once, 1, &out));
  for (unsigned turn = 0; turn < 300; turn++) { /* other texts, so that they hit all buckets */
    char value[32], name[32];
    (void)snprintf(name, sizeof(name), "x-%u", turn);
    (void)snprintf(value, sizeof(value), "value %u", turn);
    struct want other[] = {{"x-one", value, false},
                           {"server", value, false},
                           {name, value, false},
                           {"x-one", "too large for what is left of the room", false}};
    out = buf_of(room, 110);
    assert_false(block(&enc, other, array_count(other), &out));
    out = buf_of(room, sizeof(room));
    assert_true(block(&enc, head, array_count(head) - 1, &out));
    assert_int_equal(out.len, 5);
    out = buf_of(room, sizeof(room));
    assert_true(block(&enc, &(struct want){"x-request-id", value, false}, 1, &out));
    assert_memory_equal(room, "\x0f\x2f", 2); /* a literal with the newest entry's name */
  }
  hpack_encoder_fini(&enc);
}

/* A full table makes room for what is new, and finds all it has. */
static void turnover(void **state) {
  (void)state;
  struct hpack_encoder enc;
  struct hpack_decoder dec;
  struct arena arena;
  hpack_encoder_init(&enc, 4096);
  hpack_decoder_init(&dec, 4096);
  arena_init(&arena, NULL, 0);
  unsigned indexed = 0;
  for (unsigned turn = 0; turn < 70000; turn++) { /* more than 16 bits of entries */
    char value[32], room[128];
    (void)snprintf(value, sizeof(value), "value %u", turn);
    struct want list[] = {{"x-new", value, false}, {"x-new", value, false}};
    struct buf out = buf_of(room, sizeof(room));
    assert_true(block(&enc, list, 2, &out));
    indexed += (unsigned char)room[out.len - 1] == 0xbe;
    struct hpack_block b;
    hpack_block_init(&b, &hpack_wide, &arena);
    assert_int_equal(hpack_decode(&dec, &b, buf_span(&out), true), HPACK_DONE);
    for (uint32_t i = 0; i < 2; i++) assert_true(span_eq(b.fields.rows[i].value, span_str(value)));
    assert_true(enc.table.used <= dec.table.used);
    arena_reset(&arena);
  }
  assert_true(indexed > 65000);
  hpack_encoder_fini(&enc);
  hpack_decoder_fini(&dec);
}

/* One capital at any place of a name of any length; marks beside the letters stay. */
static void names_in_any_case(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  for (size_t len = 1; len < 40; len++) {
    for (size_t at = 0; at < len; at++) {
      char name[40], lower[40], room[128];
      for (size_t i = 0; i < len; i++) name[i] = lower[i] = "az`^_|~-09!*"[(i + len) % 12];
      name[at] = "AMZ"[at % 3];
      lower[at] = "amz"[at % 3];
      struct hpack_encoder enc;
      struct hpack_decoder dec;
      struct hpack_block b;
      hpack_encoder_init(&enc, 4096);
      hpack_decoder_init(&dec, 4096);
      struct buf out = buf_of(room, sizeof(room));
      const struct http_field row = {.name = span_of(name, len), .value = SPAN_LIT("x")};
      hpack_encode_begin(&enc, &out);
      hpack_encode_field(&enc, &row, &out);
      assert_true(hpack_encode_end(&enc, &out));
      hpack_block_init(&b, &hpack_wide, &arena);
      assert_int_equal(hpack_decode(&dec, &b, buf_span(&out), true), HPACK_DONE);
      assert_true(span_eq(b.fields.rows[0].name, span_of(lower, len)));
      hpack_encoder_fini(&enc);
      hpack_decoder_fini(&dec);
      arena_reset(&arena);
    }
  }
}

static void long_names_and_values(void **state) {
  (void)state;
  static char text[70000], room[200000];
  struct arena arena;
  arena_init(&arena, NULL, 0);
  for (size_t len = 1; len < sizeof(text); len = len * 3 / 2 + 1) {
    struct hpack_encoder enc;
    struct hpack_decoder dec;
    struct hpack_block b;
    hpack_encoder_init(&enc, 4096);
    hpack_decoder_init(&dec, 4096);
    memset(text, 'A', len);
    struct http_field rows[] = {{.name = span_of(text, len), .value = SPAN_LIT("x")},
                                {.name = SPAN_LIT("x"), .value = span_of(text, len)}};
    struct buf out = buf_of(room, sizeof(room));
    hpack_encode_begin(&enc, &out);
    for (size_t i = 0; i < 2; i++) hpack_encode_field(&enc, &rows[i], &out);
    assert_true(hpack_encode_end(&enc, &out));
    hpack_block_init(&b, &hpack_wide, &arena);
    assert_int_equal(hpack_decode(&dec, &b, buf_span(&out), true), HPACK_DONE);
    assert_true(span_eq_nocase(b.fields.rows[0].name, rows[0].name));
    assert_true(span_eq(b.fields.rows[1].value, rows[1].value));
    hpack_encoder_fini(&enc);
    hpack_decoder_fini(&dec);
    arena_reset(&arena);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(representations),   cmocka_unit_test(a_table_of_nothing),
      cmocka_unit_test(size_updates),      cmocka_unit_test(every_room),
      cmocka_unit_test(taken_back),        cmocka_unit_test(turnover),
      cmocka_unit_test(names_in_any_case), cmocka_unit_test(long_names_and_values),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
