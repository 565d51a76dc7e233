/* regex_priv.h: what regex_scan.c finds in a pattern, for regex.c and regex_cost.c. */
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

static inline unsigned set_size(const struct byte_set *s) {
  unsigned size = 0;
  for (unsigned i = 0; i < 4; i++) size += (unsigned)__builtin_popcountll(s->bits[i]);
  return size;
}

#define SAMPLE_MAX 48u
#define PUMPS_MAX 8u
#define REGEX_NO_END UINT32_MAX
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

/* regex_token is a piece of the pattern for regex_cost.c: a set of bytes, or a part of a group.
 * min and max are those of its repeat, which stands at the end of a group. */
enum regex_token_kind { TOKEN_SET, TOKEN_OPEN, TOKEN_BAR, TOKEN_CLOSE };
struct regex_token {
  struct byte_set set; /* CLOSE: with which the group can begin */
  uint32_t min, max;   /* REGEX_NO_END: more than a few */
  uint8_t kind;
  bool look;      /* OPEN, CLOSE: a lookahead or lookbehind */
  bool ambiguous; /* CLOSE: the first byte does not tell its branches apart */
};

/* regex_cost bounds what a match can cost, whatever runs it: at most (bytes of the subject) times
 * a factor for each link, steps. A link is a repeat that can be entered again from each byte of
 * another one; it needs a byte of its gate for that. */
#define REGEX_LINKS_MAX 8u
struct regex_link {
  struct byte_set gate;
  uint32_t most; /* at most so many times, REGEX_NO_END: as there are bytes of the gate */
};
struct regex_cost {
  struct regex_link links[REGEX_LINKS_MAX];
  uint32_t link_count;
  uint32_t weight; /* steps for a byte */
  struct byte_set
      turn;        /* each turn of a repeated group takes one of these; empty: there is none */
  uint32_t frames; /* of the interpreter, at most, for a turn */
  bool counted;    /* its repeats may be ambiguous: only counting bounds them */
  struct sample prefix; /* every match begins with it: a literal behind ^ */
};

/* regex_facts is what the trial, the rule of anchors and the cost need. */
struct regex_facts {
  struct byte_set all, first, open; /* open: bytes of repeats that something follows */
  struct byte_set literals;         /* bytes that stand in the pattern themselves */
  struct regex_loop loops[LOOPS_MAX];
  uint32_t loop_count;
  struct regex_token tokens[REGEX_PATTERN_MAX + 2]; /* the whole pattern is a group too */
  uint32_t token_count;
  struct byte_set turn; /* see regex_cost */
  struct sample prefix;
};

/* regex_scan reads a pattern by the rules of regex.h; false and *fault when one is broken. */
MUST_USE bool regex_scan(struct span pattern, struct regex_facts *facts,
                         struct regex_fault *fault);

/* regex_cost_find fills *cost from what was scanned; false and *fault when it has no bound worth
 * the name. */
MUST_USE bool regex_cost_find(const struct regex_facts *facts, struct regex_cost *cost,
                              struct regex_fault *fault);
/* regex_cost_of is the bound for a subject, in steps. */
uint64_t regex_cost_of(const struct regex_cost *cost, struct span subject);
/* regex_turns is how many turns repeated groups can take in a subject. */
uint32_t regex_turns(const struct regex_cost *cost, struct span subject);

/* regex_share is one pattern in the table of regex_share.c. */
struct regex_share {
  struct regex_share *next;
  struct regex *regex;
  struct span pattern;
  char *text; /* of pattern, owned */
  uint64_t hash;
  uint32_t refs;
};
/* regex_make compiles one for a share, regex_unmake frees it. */
struct regex *regex_make(struct span pattern, struct regex_share *share,
                         struct regex_fault *fault);
void regex_unmake(struct regex *re);
struct regex_share *regex_share_of(const struct regex *re);

/* regex_match_interpreted is the slow twin of regex_match, for tests. */
MUST_USE enum regex_result regex_match_interpreted(const struct regex *re, struct span subject,
                                                   struct regex_scratch *s);

/* regex_refuse fills *fault; false. */
bool regex_refuse(struct regex_fault *fault, size_t at, const char *why);

#endif
