/* test_hpack_huffman.c: the Huffman code's tables, made anew from the appendix; every symbol and
 * pair; a plain decoder, bit by bit, beside the fast one on random bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "http/hpack_priv.h"
#include "weir/base/hash.h"

static const struct code {
  uint32_t code, bits;
} codes[257] = {
#define HPACK_CODE(symbol, code, bits) [symbol] = {code, bits},
#include "../../../src/http/hpack_huffman.def"
#undef HPACK_CODE
};
static const uint32_t steps[] = {
#include "../../../src/http/hpack_steps.def"
};

/* The code is complete and canonical, so that one wrong row of the table shows. */
static void canonical(void **state) {
  (void)state;
  uint32_t next = 0, bits = 0;
  for (unsigned len = 1; len <= 30; len++) {
    for (unsigned s = 0; s < 257; s++) {
      if (codes[s].bits != len) continue;
      next <<= bits ? len - bits : 0;
      bits = len;
      assert_int_equal(codes[s].code, next);
      next++;
    }
  }
  assert_int_equal(next, 1u << 30);
}

/* symbol_at is the symbol whose code is at the top of `bits` bits of word, or 257. */
static unsigned symbol_at(uint32_t word, unsigned bits) {
  for (unsigned s = 0; s < 257; s++)
    if (codes[s].bits <= bits && word >> (bits - codes[s].bits) == codes[s].code) return s;
  return 257;
}

static void steps_follow_from_codes(void **state) {
  (void)state;
  assert_int_equal(array_count(steps), 1 << 11);
  for (uint32_t word = 0; word < 1 << 11; word++) {
    unsigned one = symbol_at(word, 11);
    uint32_t want = 0;
    if (one < 257) {
      unsigned left = 11 - codes[one].bits;
      unsigned two = symbol_at(word & ((1u << left) - 1), left);
      want = codes[one].bits | one << 8 | codes[one].bits << 24 | 1u << 28;
      if (two < 257)
        want = (codes[one].bits + codes[two].bits) | one << 8 | two << 16 | codes[one].bits << 24 |
               2u << 28;
    }
    assert_int_equal(steps[word], want);
  }
}

/* What decoding does not call odd may stand in a field value. */
static void plain_symbols_are_values(void **state) {
  (void)state;
  for (unsigned s = 0; s < 256; s++) {
    char c = (char)s;
    if (codes[s].bits <= 11) assert_true(http_is_value(span_of(&c, 1)));
  }
}

static size_t plain_decode(struct span in, char *out) {
  size_t len = 0, at = 0, bits = in.len * 8;
  while (at < bits) {
    uint32_t word = 0;
    unsigned have = 0, symbol = 257;
    while (symbol == 257 && at + have < bits && have < 30) {
      size_t bit = at + have++;
      word = word << 1 | ((unsigned)(unsigned char)in.ptr[bit / 8] >> (7 - bit % 8) & 1u);
      for (unsigned s = 0; s < 257; s++)
        if (codes[s].bits == have && codes[s].code == word) symbol = s;
    }
    if (symbol == 257) return have < 8 && word == (1u << have) - 1 ? len : SIZE_MAX;
    if (symbol == 256) return SIZE_MAX;
    out[len++] = (char)symbol;
    at += have;
  }
  return len;
}

/* fast_decode gives the decoder just the memory that it may read and write (for ASan). */
static size_t fast_decode(struct span in, char *out, bool *odd) {
  size_t room = hpack_huffman_room(in.len);
  char *exact = malloc(room), *bytes = malloc(in.len ? in.len : 1);
  if (in.len) memcpy(bytes, in.ptr, in.len);
  *odd = false;
  size_t len = hpack_huffman_decode(span_of(bytes, in.len), exact, odd);
  if (len != SIZE_MAX) assert_true(len <= room);
  if (len != SIZE_MAX && len > 0) memcpy(out, exact, len);
  free(exact);
  free(bytes);
  return len;
}

static void check_same(struct span in) {
  char a[1024], b[1024];
  bool odd;
  size_t len = fast_decode(in, a, &odd);
  assert_int_equal(len, plain_decode(in, b));
  if (len == SIZE_MAX) return;
  assert_memory_equal(a, b, len);
  if (!odd) assert_true(http_is_value(span_of(a, len)));
}

static void agrees_with_plain(void **state) {
  (void)state;
  uint64_t rng = 1;
  char in[64];
  for (unsigned turn = 0; turn < 30000; turn++) {
    size_t len = rng_next(&rng) % (turn % 10 ? 12 : 64);
    for (size_t i = 0; i < len; i++) in[i] = (char)rng_next(&rng);
    if (len > 4 && turn % 3 == 0) memset(in + rng_next(&rng) % (len - 3), 0xff, 3);
    if (len > 0 && turn % 2) in[len - 1] = (char)(in[len - 1] | 7);
    check_same(span_of(in, len));
  }
}

static void check_round_trip(struct span text) {
  char coded[2048], out[1024];
  bool odd;
  size_t bits = 0;
  for (size_t i = 0; i < text.len; i++) bits += codes[(unsigned char)text.ptr[i]].bits;
  size_t want = (bits + 7) / 8;
  memset(coded, 'x', sizeof(coded));
  assert_int_equal(hpack_huffman_encode(text, coded, want + 1), want);
  assert_int_equal(fast_decode(span_of(coded, want), out, &odd), text.len);
  assert_memory_equal(out, text.ptr, text.len);
  for (size_t limit = want; limit + 9 > want; limit--) { /* never a byte beyond the slack */
    memset(coded, 'x', sizeof(coded));
    assert_true(hpack_huffman_encode(text, coded, limit) == SIZE_MAX);
    assert_int_equal(coded[limit + HPACK_HUFFMAN_SLACK], 'x');
    if (limit == 0) break;
  }
}

static void round_trips(void **state) {
  (void)state;
  char text[200];
  for (unsigned a = 0; a < 256; a++) {
    for (unsigned b = 0; b < 256; b++) {
      text[0] = (char)a;
      text[1] = (char)b;
      check_round_trip(span_of(text, 2));
    }
  }
  uint64_t rng = 2;
  for (unsigned turn = 0; turn < 20000; turn++) {
    size_t len = rng_next(&rng) % sizeof(text);
    for (size_t i = 0; i < len; i++)
      text[i] = turn % 2 ? (char)rng_next(&rng) : (char)(0x20 + rng_next(&rng) % 95);
    check_round_trip(span_of(text, len));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(canonical),
      cmocka_unit_test(steps_follow_from_codes),
      cmocka_unit_test(plain_symbols_are_values),
      cmocka_unit_test(agrees_with_plain),
      cmocka_unit_test(round_trips),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
