/* regex_priv.h: what regex_scan.c finds in a pattern, for regex.c. */
#ifndef WEIR_BASE_REGEX_PRIV_H
#define WEIR_BASE_REGEX_PRIV_H

#include <stdint.h>

#include "weir/base/regex.h"

/* byte_set is a set of bytes. */
struct byte_set {
  uint64_t bits[4];
};

static inline bool set_has(const struct byte_set *s, unsigned char c) {
  return (s->bits[c >> 6] >> (c & 63)) & 1;
}
static inline void set_add(struct byte_set *s, unsigned char c) {
  s->bits[c >> 6] |= UINT64_C(1) << (c & 63);
}
static inline bool set_empty(const struct byte_set *s) {
  return !(s->bits[0] | s->bits[1] | s->bits[2] | s->bits[3]);
}
static inline void set_or(struct byte_set *s, const struct byte_set *with) {
  for (unsigned i = 0; i < 4; i++) s->bits[i] |= with->bits[i];
}
static inline bool set_meets(const struct byte_set *a, const struct byte_set *b) {
  uint64_t both = 0;
  for (unsigned i = 0; i < 4; i++) both |= a->bits[i] & b->bits[i];
  return both != 0;
}

#define SAMPLE_MAX 48u
#define PUMPS_MAX 4u
#define LOOPS_MAX 16u

/* sample is a short text that a part of the pattern matches (cut when it would be longer). */
struct sample {
  uint8_t len;
  char bytes[SAMPLE_MAX];
};

/* regex_loop is one repeat without an end, with what leads to it and what turns it. */
struct regex_loop {
  struct byte_set all;
  struct sample before, pumps[PUMPS_MAX];
  uint8_t pump_count;
};

/* regex_facts is what the trial and the rule of anchors need. */
struct regex_facts {
  struct byte_set all, first, open; /* open: bytes of repeats that something follows */
  struct byte_set literals;         /* bytes that stand in the pattern themselves */
  bool nullable;
  struct regex_loop loops[LOOPS_MAX];
  uint32_t loop_count;
};

/* regex_scan reads a pattern by the rules of regex.h; false and *fault when one is broken. */
MUST_USE bool regex_scan(struct span pattern, struct regex_facts *facts,
                         struct regex_fault *fault);

/* regex_refuse fills *fault; false. */
bool regex_refuse(struct regex_fault *fault, size_t at, const char *why);

#endif
