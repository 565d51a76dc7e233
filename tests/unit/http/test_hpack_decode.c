/* test_hpack_decode.c: RFC 7541 appendix C byte for byte and cut everywhere, what is refused, the
 * limits, size updates, fragments, a heap that is empty. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hpack_help.h"
#include "weir/base/mem.h"

/* The linker sends every mem_try here. */
void *__real_mem_try(size_t size);  // NOLINT
void *__wrap_mem_try(size_t size);  // NOLINT
static unsigned memory_left = UINT32_MAX;
static unsigned memory_asked;
void *__wrap_mem_try(size_t size) {  // NOLINT
  memory_asked++;
  if (memory_left == 0) return NULL;
  memory_left--;
  return __real_mem_try(size);
}

static struct span unhex(const char *hex, char *room) {
  size_t len = 0;
  for (; *hex; hex++) {
    if (*hex == ' ') continue;
    room[len++] = (char)(ascii_hex(hex[0]) << 4 | ascii_hex(hex[1]));
    hex++;
  }
  return span_of(room, len);
}

/* one is a connection with one block at a time. */
struct one {
  struct hpack_decoder dec;
  struct hpack_block block;
  struct arena arena;
  struct hpack_limits limits;
  char room[4096];
};

static void one_init(struct one *o, uint32_t setting) {
  hpack_decoder_init(&o->dec, setting);
  arena_init(&o->arena, NULL, 0);
  o->limits = hpack_wide;
}

static void one_fini(struct one *o) {
  hpack_decoder_fini(&o->dec);
  arena_reset(&o->arena);
}

static enum hpack_result decode(struct one *o, struct span in, size_t piece) {
  arena_reset(&o->arena);
  hpack_block_init(&o->block, &o->limits, &o->arena);
  enum hpack_result result = hpack_decode_cut(&o->dec, &o->block, in, piece);
  hpack_check_rows(&o->block);
  return result;
}

static enum hpack_result decode_hex(struct one *o, const char *hex) {
  return decode(o, unhex(hex, o->room), SIZE_MAX);
}

/* result_of decodes one block on a connection of its own. */
static enum hpack_result result_of(const char *hex) {
  struct one o;
  one_init(&o, 4096);
  enum hpack_result result = decode_hex(&o, hex);
  for (size_t piece = 1; piece < 8; piece++) {
    struct one cut;
    one_init(&cut, 4096);
    assert_int_equal(decode(&cut, unhex(hex, cut.room), piece), result);
    one_fini(&cut);
  }
  one_fini(&o);
  return result;
}

struct example {
  const char *hex, *fields;
  uint32_t used;
};

/* run decodes the blocks of one connection in order, in pieces of every length. */
static void run(const struct example *examples, size_t count, uint32_t setting) {
  for (size_t piece = 1; piece < 256; piece++) {
    struct one o;
    one_init(&o, setting);
    for (size_t i = 0; i < count; i++) {
      assert_int_equal(decode(&o, unhex(examples[i].hex, o.room), piece), HPACK_DONE);
      struct text text = {0};
      hpack_list_text(&o.block, &text);
      assert_true(span_eq(text_span(&text), span_str(examples[i].fields)));
      assert_int_equal(o.dec.table.used, examples[i].used);
      assert_null(o.dec.carry);
      assert_null(o.dec.scratch);
      text_fini(&text);
    }
    one_fini(&o);
  }
}

static void rfc_c2_representations(void **state) {
  (void)state;
  const struct example c21 = {"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                              "custom-key: custom-header\n", 55};
  const struct example c22 = {"040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n", 0};
  const struct example c23 = {"1008 7061 7373 776f 7264 0673 6563 7265 74",
                              "password: secret (secret)\n", 0};
  const struct example c24 = {"82", ":method: GET\n", 0};
  run(&c21, 1, 4096);
  run(&c22, 1, 4096);
  run(&c23, 1, 4096);
  run(&c24, 1, 4096);
}

#define C_FIRST ":method: GET\n:scheme: http\n:authority: www.example.com\n:path: /\n"
#define C_THIRD \
  ":method: GET\n:scheme: https\n:authority: www.example.com\n:path: /index.html\n" \
  "custom-key: custom-value\n"

static void rfc_c3_c4_requests(void **state) {
  (void)state;
  const struct example plain[] = {
      {"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", C_FIRST, 57},
      {"8286 84be 5808 6e6f 2d63 6163 6865", C_FIRST "cache-control: no-cache\n", 110},
      {"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", C_THIRD, 164},
  };
  const struct example huffman[] = {
      {"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", C_FIRST, 57},
      {"8286 84be 5886 a8eb 1064 9cbf", C_FIRST "cache-control: no-cache\n", 110},
      {"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", C_THIRD, 164},
  };
  run(plain, array_count(plain), 4096);
  run(huffman, array_count(huffman), 4096);
}

#define C_DATE "Mon, 21 Oct 2013 20:13:21 GMT\n"
#define C_OK "cache-control: private\ndate: " C_DATE "location: https://www.example.com\n"
#define C_COOKIE \
  ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n" \
  "location: https://www.example.com\ncontent-encoding: gzip\n" \
  "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"

/* With a table of 256 bytes, so that entries are evicted. */
static void rfc_c5_c6_responses(void **state) {
  (void)state;
  const struct example plain[] = {
      {"4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a"
       "3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
       ":status: 302\n" C_OK, 222},
      {"4803 3330 37c1 c0bf", ":status: 307\n" C_OK, 222},
      {"88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04"
       "677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49"
       "553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
       C_COOKIE, 215},
  };
  const struct example huffman[] = {
      {"4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e"
       "919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
       ":status: 302\n" C_OK, 222},
      {"4883 640e ffc1 c0bf", ":status: 307\n" C_OK, 222},
      {"88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7"
       "821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed"
       "4ee5 b106 3d50 07",
       C_COOKIE, 215},
  };
  run(plain, array_count(plain), 256);
  run(huffman, array_count(huffman), 256);
}

static void refuses(void **state) {
  (void)state;
  const char *const bad[] = {
      "80",                               /* index 0 */
      "be",                               /* beyond both tables */
      "ff ff ff ff ff 0f",                /* an index of 32 bits that nothing has */
      "ff ff ff ff ff 1f",                /* 33 bits */
      "ff 80 80 80 80 80 00",             /* more bytes than 32 bits can need */
      "7e 00",                            /* a name by an index that is not there */
      "00 81 ff 00",                      /* padding of 8 bits */
      "00 83 ff ff ff 00",                /* longer padding */
      "00 84 ff ff ff ff 00",             /* EOS */
      "00 88 1f ff ff ff ff ff ff ff 00", /* EOS in the middle */
      "00 81 00 00",                      /* padding of zeros */
      "00 81 1e 00",                      /* padding of ones and a zero */
      "00 01 61",                         /* cut before a value */
      "00 02 61",                         /* cut in a name */
      "40",
      "7f",
      "82 20",    /* a size update after a field */
      "3f e2 1f", /* one byte above the setting */
  };
  for (size_t i = 0; i < array_count(bad); i++) assert_int_equal(result_of(bad[i]), HPACK_BAD);
  assert_int_equal(result_of("00 7f ff ff ff ff 0e"), HPACK_FLOOD); /* 4 GiB of name */
  assert_int_equal(result_of("ff 80 80 80 80 00"), HPACK_BAD);      /* 127: legal, but no entry */
  assert_int_equal(result_of("3f e1 80 80 80 00 82"), HPACK_DONE);  /* 128 in more than it takes */
  assert_int_equal(result_of("3f e1 80 80 80 80 00 82"), HPACK_BAD); /* in too many */
  assert_int_equal(result_of(""), HPACK_DONE);
  assert_int_equal(result_of("20 3f e1 1f 20 82"), HPACK_DONE);
}

static void bad_stays_bad(void **state) {
  (void)state;
  struct one o;
  one_init(&o, 4096);
  assert_int_equal(decode_hex(&o, "80"), HPACK_BAD);
  assert_int_equal(decode_hex(&o, "82"), HPACK_BAD);
  one_fini(&o);
}

/* A fault is the stream's: the table goes on, and an entry keeps its fault. */
static void malformed(void **state) {
  (void)state;
  const struct {
    const char *hex;
    unsigned faults;
  } rows[] = {
      {"40 00 00", HPACK_FAULT_NAME},
      {"40 01 41 01 61", HPACK_FAULT_NAME},
      {"40 02 6120 01 61", HPACK_FAULT_NAME},
      {"40 02 613a 01 61", HPACK_FAULT_NAME},
      {"40 01 80 01 61", HPACK_FAULT_NAME},
      {"40 01 61 02 0a61", HPACK_FAULT_VALUE},
      {"40 01 61 03 610d62", HPACK_FAULT_VALUE},
      {"40 01 61 03 610062", HPACK_FAULT_VALUE},
      {"40 01 61 02 2061", HPACK_FAULT_VALUE},
      {"40 01 61 02 6109", HPACK_FAULT_VALUE},
      {"40 01 61 82 ffc7", HPACK_FAULT_VALUE}, /* Huffman: NUL */
      {"40 04 3a666f6f 01 61", HPACK_FAULT_PSEUDO_UNKNOWN},
      {"40 01 3a 01 61", HPACK_FAULT_PSEUDO_UNKNOWN},
      {"82 82", HPACK_FAULT_PSEUDO_REPEATED},
      {"40 01 61 01 62 82", HPACK_FAULT_PSEUDO_LATE},
      {"41 02 2061", HPACK_FAULT_VALUE}, /* :authority */
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct one o;
    one_init(&o, 4096);
    assert_int_equal(decode_hex(&o, rows[i].hex), HPACK_MALFORMED);
    assert_int_equal(o.block.faults, rows[i].faults);
    bool entry = o.dec.table.count > 0 && i < 11;
    if (entry) {
      assert_int_equal(decode_hex(&o, "be"), HPACK_MALFORMED);
      assert_int_equal(o.block.faults, rows[i].faults);
      assert_int_equal(o.block.fields.count, 0);
    }
    assert_int_equal(decode_hex(&o, "82"), HPACK_DONE);
    one_fini(&o);
  }
  assert_int_equal(result_of("40 01 61 00"), HPACK_DONE);
  assert_int_equal(result_of("40 01 61 03 61 09 62"), HPACK_DONE);
}

static void all_pseudo_fields(void **state) {
  (void)state;
  struct one o;
  one_init(&o, 4096);
  const char *hex = "42 07 434f4e4e454354 87 04 02 2f78 41 01 61 40 09 3a70726f746f636f6c 01 77";
  assert_int_equal(decode_hex(&o, hex), HPACK_DONE);
  struct text text = {0};
  hpack_list_text(&o.block, &text);
  assert_true(span_eq(text_span(&text), SPAN_LIT(":method: CONNECT\n:scheme: https\n"
                                                 ":authority: a\n:path: /x\n:protocol: w\n")));
  assert_int_equal(decode_hex(&o, "be bf"), HPACK_DONE); /* :protocol and :authority by entry */
  assert_true(span_eq(o.block.pseudo[HPACK_PSEUDO_PROTOCOL], SPAN_LIT("w")));
  assert_true(span_eq(o.block.pseudo[HPACK_PSEUDO_AUTHORITY], SPAN_LIT("a")));
  assert_int_equal(o.block.present, 1 << HPACK_PSEUDO_PROTOCOL | 1 << HPACK_PSEUDO_AUTHORITY);
  assert_int_equal(decode_hex(&o, "14 02 2f78 87"), HPACK_DONE);
  assert_int_equal(o.block.secret, 1 << HPACK_PSEUDO_PATH);
  text_fini(&text);
  one_fini(&o);
}

/* Beyond a limit rows are missing, but the next block still finds the entries. */
static void limits(void **state) {
  (void)state;
  const char *hex = "82 86 84 40 01 61 01 62 40 01 63 01 64"; /* 42+43+38+34+34 = 191 bytes */
  struct one o;
  for (uint32_t fields = 0; fields <= 6; fields++) {
    one_init(&o, 4096);
    o.limits.fields = fields;
    assert_int_equal(decode_hex(&o, hex), fields < 5 ? HPACK_TOO_LARGE : HPACK_DONE);
    o.limits.fields = 5;
    assert_int_equal(decode_hex(&o, "be bf"), HPACK_DONE);
    assert_true(span_eq(o.block.fields.rows[0].value, SPAN_LIT("d")));
    assert_true(span_eq(o.block.fields.rows[1].name, SPAN_LIT("a")));
    one_fini(&o);
  }
  for (uint32_t bytes = 0; bytes < 200; bytes++) {
    one_init(&o, 4096);
    o.limits.list_bytes = bytes;
    assert_int_equal(decode_hex(&o, hex), bytes < 191 ? HPACK_TOO_LARGE : HPACK_DONE);
    assert_int_equal(o.block.list_bytes, 191);
    assert_int_equal(o.dec.table.used, 68);
    one_fini(&o);
    one_init(&o, 4096);
    o.limits.hard_list_bytes = bytes;
    assert_int_equal(decode_hex(&o, hex), bytes < 191 ? HPACK_FLOOD : HPACK_DONE);
    one_fini(&o);
  }
  for (uint32_t bytes = 0; bytes < 16; bytes++) {
    for (size_t piece = 1; piece < 14; piece++) {
      one_init(&o, 4096);
      o.limits.block_bytes = bytes;
      assert_int_equal(decode(&o, unhex(hex, o.room), piece),
                       bytes < 13 ? HPACK_FLOOD : HPACK_DONE);
      one_fini(&o);
    }
  }
}

/* A block of a stream that is gone: nothing is stored, the table is in step. */
static void nothing_stored(void **state) {
  (void)state;
  struct one o;
  one_init(&o, 4096);
  hpack_block_init(&o.block, &o.limits, NULL);
  struct span in = unhex("82 40 8825a849e95ba97d7f 8925a849e95bb8e8b4bf be", o.room);
  assert_int_equal(hpack_decode_cut(&o.dec, &o.block, in, SIZE_MAX), HPACK_TOO_LARGE);
  assert_int_equal(o.block.present, 0);
  assert_null(o.dec.scratch);
  assert_int_equal(decode_hex(&o, "be"), HPACK_DONE);
  assert_true(span_eq(o.block.fields.rows[0].value, SPAN_LIT("custom-value")));
  one_fini(&o);
}

static void arena_is_a_limit(void **state) {
  (void)state;
  for (size_t limit = 16; limit < 12000; limit += 2000) {
    struct one o;
    one_init(&o, 4096);
    hpack_block_init(&o.block, &o.limits, &o.arena);
    o.arena.limit = limit;
    for (size_t i = 0; i < 100; i++) { /* a name of its own each, with 64 bytes */
      char in[80] = {0x40, 2, (char)('a' + i / 10), (char)('a' + i % 10), 64};
      memset(in + 5, 'x', 64);
      assert_int_equal(hpack_decode(&o.dec, &o.block, span_of(in, 69), false), HPACK_MORE);
    }
    enum hpack_result result = hpack_decode(&o.dec, &o.block, SPAN_EMPTY, true);
    assert_int_equal(result, HPACK_TOO_LARGE);
    assert_true(o.block.arena_full);
    assert_int_equal(o.dec.table.count, 4096 / 98);
    o.arena.limit = 0;
    assert_int_equal(decode_hex(&o, "be"), HPACK_DONE);
    assert_true(span_eq(o.block.fields.rows[0].name, SPAN_LIT("jj")));
    one_fini(&o);
  }
}

static void size_updates(void **state) {
  (void)state;
  struct one o;
  one_init(&o, 4096);
  assert_int_equal(decode_hex(&o, "40 01 61 01 62"), HPACK_DONE);
  hpack_decoder_set(&o.dec, 100);
  hpack_decoder_set(&o.dec, 200); /* the lowest one counts */
  assert_int_equal(o.dec.table.count, 1);
  assert_int_equal(decode_hex(&o, "3f 45 3f a9 01 be"), HPACK_DONE); /* 100, 200 */
  assert_int_equal(o.dec.table.limit, 200);
  assert_int_equal(decode_hex(&o, "20 82"), HPACK_DONE);
  assert_int_equal(o.dec.table.count, 0);
  hpack_decoder_set(&o.dec, 4096); /* raised: the peer may leave it */
  assert_int_equal(decode_hex(&o, "40 01 61 01 62"), HPACK_DONE);
  assert_int_equal(o.dec.table.count, 0);
  assert_int_equal(decode_hex(&o, "3f e1 1f 40 01 61 01 62"), HPACK_DONE);
  assert_int_equal(o.dec.table.count, 1);
  one_fini(&o);
  const char *const without[] = {"82", "", "3f 46 82", "3f a9 01 3f 45 82"};
  for (size_t i = 0; i < array_count(without); i++) {
    one_init(&o, 4096);
    hpack_decoder_set(&o.dec, 100);
    hpack_decoder_set(&o.dec, 200);
    assert_int_equal(decode_hex(&o, without[i]), HPACK_BAD);
    one_fini(&o);
  }
}

/* Entries of every size go around the ring many times; an entry that does not fit empties it. */
static void eviction(void **state) {
  (void)state;
  struct one o;
  one_init(&o, 300);
  uint64_t rng = 5;
  for (unsigned turn = 0; turn < 20000; turn++) {
    char in[400] = {0x40, 2, (char)('a' + turn % 26), (char)('a' + turn / 26 % 26)};
    uint8_t len = (uint8_t)(rng_next(&rng) % (turn % 50 == 0 ? 400 : 120));
    if (len > 126) len = 126;
    bool fits = turn % 100 != 99;
    in[4] = (char)len;
    for (unsigned i = 0; i < len; i++) in[5 + i] = (char)('a' + (turn + i) % 26);
    assert_int_equal(decode(&o, span_of(in, 5u + len), SIZE_MAX), HPACK_DONE);
    assert_true(o.dec.table.used <= 300);
    assert_int_equal(decode_hex(&o, "be"), HPACK_DONE);
    assert_memory_equal(o.block.fields.rows[0].name.ptr, in + 2, 2);
    assert_true(span_eq(o.block.fields.rows[0].value, span_of(in + 5, len)));
    if (fits) continue;
    char large[600] = {0x40, 1, 'z', 0x7f, (char)(300 - 127 + 0x80 - 128), 1};
    large[4] = (char)((300 - 127) % 128 | 0x80);
    memset(large + 6, 'y', 300);
    assert_int_equal(decode(&o, span_of(large, 306), SIZE_MAX), HPACK_DONE);
    assert_int_equal(o.dec.table.used, 0);
  }
  one_fini(&o);
}

/* An idle connection has no memory, a used one as much as its entries need. */
static void memory(void **state) {
  (void)state;
  struct one o;
  one_init(&o, 4096);
  memory_asked = 0;
  assert_int_equal(decode_hex(&o, "82 86 04 02 2f78"), HPACK_DONE);
  assert_int_equal(memory_asked, 0);
  assert_int_equal(decode_hex(&o, "40 01 61 01 62"), HPACK_DONE);
  assert_int_equal(memory_asked, 1);
  assert_int_equal(o.dec.table.capacity, 512);
  one_fini(&o);
}

static void no_memory(void **state) {
  (void)state;
  struct one o;
  one_init(&o, 4096);
  memory_left = 0;
  assert_int_equal(decode_hex(&o, "40 01 61 01 62"), HPACK_NO_MEMORY);
  assert_int_equal(decode_hex(&o, "82"), HPACK_NO_MEMORY);
  one_fini(&o);
  one_init(&o, 4096);
  assert_int_equal(decode(&o, unhex("00 01 61 01 62", o.room), 2), HPACK_NO_MEMORY);
  one_fini(&o);
  one_init(&o, 4096);
  hpack_block_init(&o.block, &o.limits, NULL);
  struct span in = unhex("00 01 61 01 62", o.room);
  assert_int_equal(hpack_decode(&o.dec, &o.block, in, true), HPACK_NO_MEMORY);
  one_fini(&o);
  memory_left = UINT32_MAX;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rfc_c2_representations),
      cmocka_unit_test(rfc_c3_c4_requests),
      cmocka_unit_test(rfc_c5_c6_responses),
      cmocka_unit_test(refuses),
      cmocka_unit_test(bad_stays_bad),
      cmocka_unit_test(malformed),
      cmocka_unit_test(all_pseudo_fields),
      cmocka_unit_test(limits),
      cmocka_unit_test(nothing_stored),
      cmocka_unit_test(arena_is_a_limit),
      cmocka_unit_test(size_updates),
      cmocka_unit_test(eviction),
      cmocka_unit_test(memory),
      cmocka_unit_test(no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
