/* hpack_huffman.c: the static Huffman code of RFC 7541 (5.2, appendix B). The decoder looks at 11
 * bits at once, which is one symbol or two of those that headers are made of; longer codes, being
 * canonical, are found by the highest code of each length. Called by hpack_decode.c and
 * hpack_encode.c; knows neither strings' lengths on the wire nor what they mean. */
#include "hpack_priv.h"

enum { STEP_BITS = 11, STEPS_PER_LOAD = 5, LONG_FIRST = 12 };
_Static_assert(STEP_BITS * STEPS_PER_LOAD <= 56, "a load lasts for so many steps");

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
    35,  62,  0,   36,  64,  91,  93,  126, 94,  125, 60,  96,  123, 92,  195, 208, 128, 130, 131,
    162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230, 129,
    132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189,
    190, 196, 198, 228, 232, 233, 1,   135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152,
    155, 157, 158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239, 9,   142, 144,
    145, 148, 159, 171, 206, 215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205,
    210, 213, 218, 219, 238, 240, 242, 243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244,
    245, 246, 247, 248, 250, 251, 252, 253, 254, 2,   3,   4,   5,   6,   7,   8,   11,  12,  14,
    15,  16,  17,  18,  19,  20,  21,  23,  24,  25,  26,  27,  28,  29,  30,  31,  127, 220, 249,
    10,  13,  22,
};

/* bits is the input by bits: the highest `have` of word are the next ones. Bits below may be set:
 * they are those that follow in the input. */
struct bits {
  uint64_t word;
  unsigned have;
  const char *p, *end;
};

static inline void bits_use(struct bits *b, unsigned count) {
  b->word <<= count;
  b->have -= count;
}

/* bits_load fills up to 56 bits or more; at least 8 bytes of input are left. */
static inline void bits_load(struct bits *b) {
  uint64_t next;
  memcpy(&next, b->p, sizeof(next));
  b->word |= __builtin_bswap64(next) >> b->have;
  b->p += (63 - b->have) >> 3;
  b->have |= 56;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bits_load swaps");

static inline void bits_load_rest(struct bits *b) {
  for (; b->have <= 56 && b->p < b->end; b->have += 8)
    b->word |= (uint64_t)(unsigned char)*b->p++ << (56 - b->have);
}

static inline unsigned step_bits(uint32_t step) { return (step >> 16) & 15; }
static inline unsigned step_first(uint32_t step) { return (step >> 20) & 15; }

/* put_step writes two bytes, of which the second may not count. */
static inline char *put_step(uint32_t step, char *out) {
  out[0] = (char)step;
  out[1] = (char)(step >> 8);
  return out + (step >> 24);
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

/* decode_rest reads the last bits, one symbol at a time where two do not fit. NULL: EOS. */
static char *decode_rest(struct bits *b, char *out, bool *odd) {
  for (;;) { /* each turn uses bits or leaves */
    bits_load_rest(b);
    uint32_t step = steps[b->word >> (64 - STEP_BITS)];
    if (step == 0) {
      enum hpack_result result = long_symbol(b, out);
      if (result == HPACK_BAD) return NULL;
      if (result == HPACK_MORE) return out;
      *odd = true;
      out++;
    } else if (step_bits(step) <= b->have) {
      out = put_step(step, out);
      bits_use(b, step_bits(step));
    } else if (step_first(step) <= b->have) {
      *out++ = (char)step;
      bits_use(b, step_first(step));
    } else {
      return out;
    }
  }
}

/* padded: what is left is a beginning of EOS, shorter than a byte. */
static bool padded(const struct bits *b) {
  return b->have < 8 && b->word >> 56 >> (8 - b->have) == (1u << b->have) - 1;
}

size_t hpack_huffman_decode(struct span in, char *const to, bool *odd) {
  struct bits b = {.p = in.ptr, .end = in.ptr + in.len};
  char *out = to;
  while (b.end - b.p >= 8) { /* each turn uses bits */
    bits_load(&b);
    uint32_t step = steps[b.word >> (64 - STEP_BITS)];
    if (step == 0) {
      if (long_symbol(&b, out) != HPACK_DONE) return SIZE_MAX;
      *odd = true;
      out++;
      continue;
    }
    for (unsigned left = STEPS_PER_LOAD; left > 0 && step != 0; left--) {
      out = put_step(step, out);
      bits_use(&b, step_bits(step));
      step = steps[b.word >> (64 - STEP_BITS)];
    }
  }
  out = decode_rest(&b, out, odd);
  return out != NULL && padded(&b) ? (size_t)(out - to) : SIZE_MAX;
}

static const struct code {
  uint32_t code;
  uint32_t bits;
} codes[257] = {
#define HPACK_CODE(symbol, code, bits) [symbol] = {code, bits},
#include "hpack_huffman.def"
#undef HPACK_CODE
};

size_t hpack_huffman_encode(struct span in, char *out, size_t limit) {
  uint64_t word = 0;
  unsigned have = 0; /* below 32 between symbols; none has more than 30 bits */
  size_t len = 0;
  for (size_t i = 0; i < in.len; i++) {
    struct code c = codes[(unsigned char)in.ptr[i]];
    word = word << c.bits | c.code;
    have += c.bits;
    if (have < 32) continue;
    if (limit - len < 4) return SIZE_MAX;
    have -= 32;
    uint32_t full = __builtin_bswap32((uint32_t)(word >> have));
    memcpy(out + len, &full, sizeof(full));
    len += 4;
  }
  size_t rest = (have + 7) / 8;
  if (limit - len <= rest) return SIZE_MAX;
  word = (have ? word << (64 - have) : 0) | UINT64_MAX >> have; /* padding of ones */
  for (; rest > 0; rest--, word <<= 8) out[len++] = (char)(word >> 56);
  return len;
}
