/* hpack_huffman.c: the static Huffman code of RFC 7541 (5.2, appendix B). The decoder looks at 11
 * bits at once, which is one symbol or two of those that headers are made of; longer codes, being
 * canonical, are found by the highest code of each length. Called by hpack_decode.c and
 * hpack_encode.c; knows neither strings' lengths on the wire nor what they mean. */
#include "hpack_priv.h"

#include <endian.h>

enum { STEP_BITS = 11 };

static const uint32_t steps[1 << STEP_BITS] = {
#include "hpack_steps.def"
};

/* long_codes: of each length its highest code, filled up with ones to 32 bits, and where the
 * symbol of that code stands in long_symbols. */
static const struct long_code {
  uint32_t highest;
  uint8_t bits, last;
} long_codes[] = {
    {0xffbfffff, 12, 1},   {0xffefffff, 13, 7},   {0xfff7ffff, 14, 9},   {0xfffdffff, 15, 12},
    {0xfffe5fff, 19, 15},  {0xfffedfff, 20, 23},  {0xffff47ff, 21, 36},  {0xffffafff, 22, 62},
    {0xffffe9ff, 23, 91},  {0xfffff5ff, 24, 103}, {0xfffff7ff, 25, 107}, {0xfffffbbf, 26, 122},
    {0xfffffe1f, 27, 141}, {0xffffffef, 28, 170}, {0xffffffff, 30, 174},
};
#define LONG_EOS 174u

static const uint8_t long_symbols[LONG_EOS] = {
    35,  62,  0,   36,  64,  91,  93,  126, 94,  125, 60,  96,  123, 92,  195, 208, 128, 130,
    131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229,
    230, 129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185,
    186, 187, 189, 190, 196, 198, 228, 232, 233, 1,   135, 137, 138, 139, 140, 141, 143, 147,
    149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197,
    231, 239, 9,   142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237, 199, 207, 234, 235,
    192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255, 203, 204, 211,
    212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254, 2,   3,
    4,   5,   6,   7,   8,   11,  12,  14,  15,  16,  17,  18,  19,  20,  21,  23,  24,  25,
    26,  27,  28,  29,  30,  31,  127, 220, 249, 10,  13,  22,
};

/* bits is the input by bits: the highest `have` of word are the next ones. Bits below may be set:
 * they are those that follow in the input. */
struct bits {
  uint64_t word;
  unsigned have;
  const char *p, *end;
  size_t len; /* of all input */
};

static inline void bits_use(struct bits *b, unsigned count) {
  b->word <<= count;
  b->have -= count;
}

static inline uint64_t load_be(const char *p) {
  uint64_t word;
  memcpy(&word, p, sizeof(word));
  return be64toh(word);
}

/* next_rest gives the last bytes, fewer than 8: by a load that ends with the input if it can be.
 */
static inline uint64_t next_rest(const struct bits *b, size_t left) {
  if (left == 0) return 0;
  if (b->len >= 8) return load_be(b->end - 8) << (64 - 8 * left);
  uint64_t word = 0;
  for (size_t i = 0; i < left; i++) word |= (uint64_t)(unsigned char)b->p[i] << (56 - 8 * i);
  return word;
}

/* bits_load fills up to 56 bits or more, or to the end of the input. */
static inline void bits_load(struct bits *b) {
  size_t left = (size_t)(b->end - b->p), take = (63 - b->have) >> 3;
  uint64_t next = left >= 8 ? load_be(b->p) : next_rest(b, left);
  if (take > left) take = left;
  b->word |= next >> b->have;
  b->p += take;
  b->have += 8 * (unsigned)take;
}

static inline uint32_t step_at(const struct bits *b) { return steps[b->word >> (64 - STEP_BITS)]; }
static inline unsigned step_bits(uint32_t step) { return step & 63; }
static inline unsigned step_first(uint32_t step) { return (step >> 24) & 15; }

/* put_step writes two bytes, of which the second may not count. */
static inline char *put_step(uint32_t step, char *out) {
  out[0] = (char)(step >> 8);
  out[1] = (char)(step >> 16);
  return out + (step >> 28);
}

/* long_symbol reads one code of 12 bits and more. DONE, MORE (bits are missing) or BAD (EOS). */
static enum hpack_result long_symbol(struct bits *b, char *out) {
  uint32_t word = (uint32_t)(b->word >> 32);
  const struct long_code *code = long_codes;
  while (word > code->highest) code++; /* the last row's is the highest word */
  if (code->bits > b->have) return HPACK_MORE;
  uint32_t at = code->last - ((code->highest - word) >> (32 - code->bits));
  if (at == LONG_EOS) return HPACK_BAD;
  *out = (char)long_symbols[at];
  bits_use(b, code->bits);
  return HPACK_DONE;
}

/* decode_loaded reads what is loaded as long as a step cannot go beyond it. NULL: EOS. */
static inline char *decode_loaded(struct bits *b, char *out, bool *odd) {
  while (b->have >= STEP_BITS) { /* each turn uses bits or leaves */
    uint32_t step = step_at(b);
    if (__builtin_expect(step != 0, 1)) {
      out = put_step(step, out);
      bits_use(b, step_bits(step));
      continue;
    }
    enum hpack_result result = long_symbol(b, out);
    if (result == HPACK_BAD) return NULL;
    if (result == HPACK_MORE) return out;
    *odd = true;
    out++;
  }
  return out;
}

/* decode_last reads the symbols in the last bits, of which there are fewer than a step has. */
static inline char *decode_last(struct bits *b, char *out) {
  uint32_t step = b->have < STEP_BITS ? step_at(b) : 0;
  while (step != 0 && step_first(step) <= b->have) { /* each turn uses bits */
    *out++ = (char)(step >> 8);
    bits_use(b, step_first(step));
    step = step_at(b);
  }
  return out;
}

/* padded: what is left is a beginning of EOS, shorter than a byte. */
static bool padded(const struct bits *b) {
  return b->have < 8 && b->word >> 56 >> (8 - b->have) == (1u << b->have) - 1;
}

size_t hpack_huffman_decode(struct span in, char *const to, bool *odd) {
  struct bits b = {.p = in.ptr, .end = in.ptr + in.len, .len = in.len};
  char *out = to;
  do { /* each turn loads a byte at least: no code is longer than what is loaded */
    bits_load(&b);
    out = decode_loaded(&b, out, odd);
    if (out == NULL) return SIZE_MAX;
  } while (b.p < b.end);
  out = decode_last(&b, out);
  return padded(&b) ? (size_t)(out - to) : SIZE_MAX;
}

static const struct code {
  uint32_t code;
  uint32_t bits;
} codes[257] = {
#define HPACK_CODE(symbol, code, bits) [symbol] = {code, bits},
#include "hpack_huffman.def"
#undef HPACK_CODE
};

/* writer gathers codes: the lowest `have` bits of word, fewer than 8 between codes, are not in out
 * yet. */
struct writer {
  uint64_t word;
  unsigned have;
  char *out;
};

/* put_bits appends up to 56 bits and writes 8 bytes, of which whole ones count. */
static inline void put_bits(struct writer *w, uint64_t code, unsigned bits) {
  w->word = w->word << bits | code;
  w->have += bits;
  uint64_t full = htobe64(w->word << (64 - w->have));
  memcpy(w->out, &full, sizeof(full));
  w->out += w->have / 8;
  w->have &= 7;
}

/* put_four appends four symbols, at once unless their codes are long. */
static inline void put_four(struct writer *w, const char *p) {
  struct code a = codes[(unsigned char)p[0]], b = codes[(unsigned char)p[1]];
  struct code c = codes[(unsigned char)p[2]], d = codes[(unsigned char)p[3]];
  uint64_t ab = (uint64_t)a.code << b.bits | b.code, cd = (uint64_t)c.code << d.bits | d.code;
  unsigned ab_bits = a.bits + b.bits, cd_bits = c.bits + d.bits;
  if (__builtin_expect(ab_bits + cd_bits <= 56, 1)) {
    put_bits(w, ab << cd_bits | cd, ab_bits + cd_bits);
    return;
  }
  put_bits(w, a.code, a.bits);
  put_bits(w, b.code, b.bits);
  put_bits(w, c.code, c.bits);
  put_bits(w, d.code, d.bits);
}

size_t hpack_huffman_encode(struct span in, char *out, size_t limit) {
  struct writer w = {.out = out};
  size_t at = 0;
  for (; in.len - at >= 4; at += 4) {
    if ((size_t)(w.out - out) >= limit) return SIZE_MAX;
    put_four(&w, in.ptr + at);
  }
  for (; at < in.len; at++) {
    if ((size_t)(w.out - out) >= limit) return SIZE_MAX;
    struct code c = codes[(unsigned char)in.ptr[at]];
    put_bits(&w, c.code, c.bits);
  }
  if (w.have > 0) put_bits(&w, 0xffu >> w.have, 8 - w.have); /* padding of ones */
  size_t len = (size_t)(w.out - out);
  return len < limit ? len : SIZE_MAX;
}
