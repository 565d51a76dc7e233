/* regex_scan.c: reads a pattern of PCRE2 as far as the rules of regex.h need: what is not
 * supported is refused, and for every repeat without an end it is found which bytes it takes, what
 * tells its turns apart, what follows it, and a text that pumps it. It matches nothing. Called by
 * regex.c before the pattern is compiled; syntax that it lets pass is PCRE2's to judge. */
#include "regex_priv.h"

#include <stdio.h>

#include "weir/base/mem.h"

#define DEPTH_MAX 16u   /* groups in groups */
#define MUST_MAX 4u     /* sets of bytes of which each pass takes one */
#define REPEAT_FEW 10u  /* {n,m} up to this m is no repeat without an end */
#define REPEAT_MAX 999u /* n and m of {n,m} */
#define NO_END REGEX_NO_END

/* part is what is known of a piece of the pattern. */
struct part {
  struct byte_set all, first;
  struct byte_set open, tail; /* bytes of repeats in it: followed by something, at its end */
  struct byte_set must[MUST_MAX];
  uint8_t must_count;
  bool nullable;
  struct sample sample;
};

enum frame_kind { FRAME_GROUP, FRAME_LOOKAHEAD, FRAME_LOOKBEHIND };

/* frame is one open group: the branches before, this branch, its last atom. */
struct frame {
  struct part branches, seq, atom;
  struct sample pumps[PUMPS_MAX], atom_pumps[PUMPS_MAX]; /* one for each branch */
  uint8_t pump_count, atom_pump_count;
  struct byte_set firsts; /* first bytes of the branches before */
  uint8_t kind;
  bool has_branches, has_atom, repeatable, icase, ambiguous;
};

struct scan {
  struct span p;
  size_t at;
  struct regex_facts *facts;
  struct regex_fault *fault;
  uint32_t depth;
  bool prefix_open; /* nothing but literals behind ^ so far */
  struct frame frames[DEPTH_MAX];
};

bool regex_refuse(struct regex_fault *fault, size_t at, const char *why) {
  (void)snprintf(fault->why, sizeof fault->why, "%s", why);
  fault->at = at;
  return false;
}

static bool refuse(struct scan *s, const char *why) {
  return regex_refuse(s->fault, s->at < s->p.len ? s->at : s->p.len, why);
}

static struct frame *top(struct scan *s) { return &s->frames[s->depth]; }

/* peek gives the byte `ahead` of the present one, or NUL (which no pattern holds). */
static char peek(const struct scan *s, size_t ahead) {
  return s->at + ahead < s->p.len ? s->p.ptr[s->at + ahead] : '\0';
}

/* token_put notes a piece for regex_cost.c; there is at most one for each byte of the pattern. */
static struct regex_token *token_put(struct scan *s, enum regex_token_kind kind) {
  struct regex_facts *facts = s->facts;
  check(facts->token_count < array_count(facts->tokens));
  struct regex_token *token = &facts->tokens[facts->token_count++];
  *token = (struct regex_token){.kind = (uint8_t)kind, .min = 1, .max = 1};
  return token;
}

/* ---- sets of bytes ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z'; }

static void set_range(struct byte_set *s, unsigned from, unsigned to) {
  for (unsigned c = from; c <= to; c++) set_add(s, (unsigned char)c);
}

static void set_invert(struct byte_set *s) {
  for (unsigned i = 0; i < 4; i++) s->bits[i] = ~s->bits[i];
}

/* set_fold adds the other case of every letter. */
static void set_fold(struct byte_set *s) {
  for (unsigned c = 'a'; c <= 'z'; c++) {
    unsigned upper = c - 'a' + 'A';
    if (set_has(s, (unsigned char)c)) set_add(s, (unsigned char)upper);
    if (set_has(s, (unsigned char)upper)) set_add(s, (unsigned char)c);
  }
}

static void set_word(struct byte_set *s) {
  set_range(s, 'a', 'z');
  set_range(s, 'A', 'Z');
  set_range(s, '0', '9');
  set_add(s, '_');
}

/* set_type adds \d, \w, \s or \h; false: no such type. */
static bool set_type(struct byte_set *s, char c) {
  struct byte_set made = {{0}};
  switch (ascii_lower(c)) {
    case 'd': set_range(&made, '0', '9'); break;
    case 'w': set_word(&made); break;
    case 's': set_range(&made, 9, 13); set_add(&made, ' '); break;
    case 'h': set_add(&made, 9); set_add(&made, ' '); set_add(&made, 0xa0); break;
    default: return false;
  }
  if (c < 'a') set_invert(&made);
  set_or(s, &made);
  return true;
}

/* set_sample is a byte of the set that a person would take. */
static char set_sample(const struct byte_set *s) {
  static const char liked[] = "ax0/b1A-_.";
  for (size_t i = 0; i + 1 < sizeof liked; i++)
    if (set_has(s, (unsigned char)liked[i])) return liked[i];
  for (unsigned c = 0x21; c < 0x100 + 0x21; c++)
    if (set_has(s, (unsigned char)c)) return (char)c;
  return '\0';
}

/* ---- parts ---- */

static void sample_add(struct sample *to, const struct sample *more) {
  size_t room = SAMPLE_MAX - to->len, count = more->len < room ? more->len : room;
  memcpy(to->bytes + to->len, more->bytes, count);
  to->len = (uint8_t)(to->len + count);
}

static struct part part_empty(void) { return (struct part){.nullable = true}; }

static struct part part_of_set(const struct byte_set *set) {
  struct part p = {.all = *set, .first = *set, .must_count = 1, .must = {*set}};
  p.sample.bytes[0] = set_sample(set);
  p.sample.len = 1;
  return p;
}

/* part_append puts next behind p. */
static void part_append(struct part *p, const struct part *next) {
  set_or(&p->all, &next->all);
  if (p->nullable) set_or(&p->first, &next->first);
  set_or(&p->open, &p->tail);
  set_or(&p->open, &next->open);
  p->tail = next->tail;
  for (uint32_t i = 0; i < next->must_count && p->must_count < MUST_MAX; i++)
    p->must[p->must_count++] = next->must[i];
  p->nullable = p->nullable && next->nullable;
  sample_add(&p->sample, &next->sample);
}

/* part_or makes p either of the two: each pass takes a byte of one of the unions. */
static void part_or(struct part *p, const struct part *other) {
  struct byte_set made[MUST_MAX];
  uint32_t count = 0;
  for (uint32_t i = 0; i < p->must_count; i++)
    for (uint32_t k = 0; k < other->must_count && count < MUST_MAX; k++) {
      made[count] = p->must[i];
      set_or(&made[count++], &other->must[k]);
    }
  memcpy(p->must, made, count * sizeof *made);
  p->must_count = (uint8_t)count;
  set_or(&p->all, &other->all);
  set_or(&p->first, &other->first);
  set_or(&p->open, &other->open);
  set_or(&p->tail, &other->tail);
  p->nullable = p->nullable || other->nullable;
}

/* ---- frames ---- */

static void atom_flush(struct frame *f) {
  if (!f->has_atom) return;
  part_append(&f->seq, &f->atom);
  f->has_atom = false;
}

static void atom_put(struct frame *f, const struct part *atom, bool repeatable) {
  atom_flush(f);
  f->atom = *atom;
  f->has_atom = true;
  f->repeatable = repeatable;
  f->atom_pumps[0] = atom->sample;
  f->atom_pump_count = 1;
}

static bool set_take(struct scan *s, const struct byte_set *set) {
  struct part atom = part_of_set(set);
  atom_put(top(s), &atom, true);
  token_put(s, TOKEN_SET)->set = *set;
  return true;
}

static bool set_put(struct scan *s, struct byte_set *set) {
  s->prefix_open = false;
  if (top(s)->icase) set_fold(set);
  return set_take(s, set);
}

static bool literal_put(struct scan *s, char c) {
  struct sample *prefix = &s->facts->prefix;
  struct byte_set set = {{0}};
  set_add(&set, (unsigned char)c);
  set_add(&s->facts->literals, (unsigned char)c);
  if (!s->prefix_open || prefix->len == SAMPLE_MAX) return set_put(s, &set);
  prefix->bytes[prefix->len++] = c;
  return set_take(s, &set);
}

static bool assertion_put(struct scan *s, size_t len) {
  s->prefix_open = s->at == 0 && peek(s, 0) == '^';
  struct part atom = part_empty();
  atom_put(top(s), &atom, false);
  s->at += len;
  return true;
}

/* branch_end closes a branch at "|" or ")". */
static void branch_end(struct frame *f) {
  atom_flush(f);
  bool alike = set_meets(&f->seq.first, &f->firsts) || f->seq.nullable ||
               (f->has_branches && f->branches.nullable);
  f->ambiguous = f->ambiguous || (f->has_branches && alike);
  set_or(&f->firsts, &f->seq.first);
  if (f->pump_count < PUMPS_MAX) f->pumps[f->pump_count++] = f->seq.sample;
  if (f->has_branches) {
    part_or(&f->branches, &f->seq);
  } else {
    f->branches = f->seq;
    f->has_branches = true;
  }
  f->seq = part_empty();
}

static bool group_open(struct scan *s, enum frame_kind kind, size_t len) {
  if (s->depth + 1 == DEPTH_MAX) return refuse(s, "groups are nested too deep");
  atom_flush(top(s));
  bool icase = top(s)->icase;
  s->depth++;
  *top(s) = (struct frame){.kind = (uint8_t)kind, .icase = icase, .seq = part_empty()};
  token_put(s, TOKEN_OPEN)->look = kind != FRAME_GROUP;
  s->prefix_open = false;
  s->at += len;
  return true;
}

static bool group_close(struct scan *s) {
  if (s->depth == 0) return refuse(s, "a ) closes nothing");
  struct frame *f = top(s);
  branch_end(f);
  struct part made = f->branches;
  bool consumes = f->kind == FRAME_GROUP;
  struct regex_token *token = token_put(s, TOKEN_CLOSE);
  token->look = !consumes;
  token->ambiguous = f->ambiguous;
  token->set = made.first;
  if (!consumes) {
    struct byte_set loops = made.open;
    set_or(&loops, &made.tail);
    made = part_empty();
    made.open = loops;
  }
  s->depth--;
  atom_put(top(s), &made, consumes);
  memcpy(top(s)->atom_pumps, f->pumps, sizeof f->pumps);
  top(s)->atom_pump_count = f->pump_count;
  s->at++;
  return true;
}

/* group_name skips "name>" of a named group. */
static bool group_name(struct scan *s, size_t len) {
  size_t end = span_find_char(s->p, '>', s->at + len);
  if (end == SIZE_MAX) return refuse(s, "a group's name has no end");
  return group_open(s, FRAME_GROUP, end + 1 - s->at);
}

/* group_options reads (?i) (?-i) (?i:...) at "(?". */
static bool group_options(struct scan *s) {
  bool off = peek(s, 2) == '-';
  size_t len = off ? 4 : 3;
  if (peek(s, len - 1) != 'i') return refuse(s, "of (?...) only groups, lookarounds and (?i)");
  if (peek(s, len) == ':') {
    if (!group_open(s, FRAME_GROUP, len + 1)) return false;
    top(s)->icase = !off;
    return true;
  }
  if (peek(s, len) != ')') return refuse(s, "of (?...) only groups, lookarounds and (?i)");
  atom_flush(top(s));
  top(s)->icase = !off;
  s->prefix_open = false;
  s->at += len + 1;
  return true;
}

static bool group_read(struct scan *s) {
  if (peek(s, 1) == '*') return refuse(s, "verbs (*...) are not supported");
  if (peek(s, 1) != '?') return group_open(s, FRAME_GROUP, 1);
  switch (peek(s, 2)) {
    case ':':
    case '>': return group_open(s, FRAME_GROUP, 3);
    case '=':
    case '!': return group_open(s, FRAME_LOOKAHEAD, 3);
    case 'P': return peek(s, 3) == '<' ? group_name(s, 4) : refuse(s, "no backreferences");
    case '<':
      if (peek(s, 3) == '=' || peek(s, 3) == '!') return group_open(s, FRAME_LOOKBEHIND, 4);
      return group_name(s, 3);
    default: return group_options(s);
  }
}

/* ---- escapes and classes ---- */

/* escape_char reads an escape that is one byte; *len is its length. */
static bool escape_char(struct scan *s, char *out, size_t *len) {
  char c = peek(s, 1);
  const char *from = "nrtfea", *to = "\n\r\t\f\033\a";
  const char *found = c ? strchr(from, c) : NULL;
  *len = 2;
  if (found) {
    *out = to[found - from];
  } else if (c == 'x') {
    int high = ascii_hex(peek(s, 2)), low = ascii_hex(peek(s, 3));
    if (high < 0 || low < 0) return refuse(s, "\\x wants two hexadecimal digits");
    *out = (char)(high * 16 + low);
    *len = 4;
  } else if (!c || is_letter(c) || is_digit(c) || (unsigned char)c >= 0x80) {
    return refuse(s, is_digit(c) || c == 'g' || c == 'k' ? "backreferences are not supported"
                                                         : "this escape is not supported");
  } else {
    *out = c;
  }
  return true;
}

static bool escape_read(struct scan *s) {
  char c = peek(s, 1), byte = '\0';
  size_t len = 0;
  struct byte_set set = {{0}};
  if (c == 'b' || c == 'B' || c == 'A' || c == 'z') return assertion_put(s, 2);
  if (c && set_type(&set, c)) {
    s->at += 2;
    return set_put(s, &set);
  }
  if (!escape_char(s, &byte, &len)) return false;
  s->at += len;
  return literal_put(s, byte);
}

/* class_named reads [:alpha:] and its kin in a class. */
static bool class_named(struct scan *s, struct byte_set *set) {
  static const struct {
    struct span name;
    uint8_t ranges[8];
  } named[] = {
      {SPAN_LIT("[:alpha:]"), {'a', 'z', 'A', 'Z'}},
      {SPAN_LIT("[:digit:]"), {'0', '9'}},
      {SPAN_LIT("[:alnum:]"), {'a', 'z', 'A', 'Z', '0', '9'}},
      {SPAN_LIT("[:word:]"), {'a', 'z', 'A', 'Z', '0', '9', '_', '_'}},
      {SPAN_LIT("[:lower:]"), {'a', 'z'}},
      {SPAN_LIT("[:upper:]"), {'A', 'Z'}},
      {SPAN_LIT("[:xdigit:]"), {'0', '9', 'a', 'f', 'A', 'F'}},
  };
  for (size_t i = 0; i < array_count(named); i++) {
    if (!span_starts(span_from(s->p, s->at), named[i].name)) continue;
    for (size_t k = 0; k < sizeof named[i].ranges && named[i].ranges[k]; k += 2)
      set_range(set, named[i].ranges[k], named[i].ranges[k + 1]);
    s->at += named[i].name.len;
    return true;
  }
  return refuse(s, "this class [:...:] is not supported");
}

/* class_byte reads one byte of a class, escaped or not. */
static bool class_byte(struct scan *s, char *out) {
  size_t len = 1;
  *out = peek(s, 0);
  if (*out == '\\' && !escape_char(s, out, &len)) return false;
  s->at += len;
  return true;
}

/* class_item reads a type, a named class, a byte or a range. */
static bool class_item(struct scan *s, struct byte_set *set) {
  char c = peek(s, 0), next = peek(s, 1), from, to;
  if (c == '\\' && next && set_type(set, next)) {
    s->at += 2;
    return true;
  }
  if (c == '[' && next == ':') return class_named(s, set);
  if (c == '[' && (next == '.' || next == '=')) return refuse(s, "write \\[ in a class");
  if (!class_byte(s, &from)) return false;
  if (peek(s, 0) != '-' || peek(s, 1) == ']' || !peek(s, 1)) {
    set_add(set, (unsigned char)from);
    return true;
  }
  s->at++;
  struct byte_set type = {{0}};
  if (peek(s, 0) == '[' || (peek(s, 0) == '\\' && peek(s, 1) && set_type(&type, peek(s, 1))))
    return refuse(s, "a range ends in a single character");
  if (!class_byte(s, &to)) return false;
  if ((unsigned char)to < (unsigned char)from) return refuse(s, "a range runs backwards");
  set_range(set, (unsigned char)from, (unsigned char)to);
  return true;
}

static bool class_read(struct scan *s) {
  struct byte_set set = {{0}};
  bool invert = peek(s, 1) == '^', first = true;
  s->at += invert ? 2 : 1;
  for (; first || peek(s, 0) != ']'; first = false) { /* each turn reads a byte or refuses */
    if (s->at >= s->p.len) return refuse(s, "a class [ has no end");
    if (!class_item(s, &set)) return false;
  }
  s->at++;
  if (top(s)->icase) set_fold(&set);
  if (invert) set_invert(&set);
  if (set_empty(&set)) return refuse(s, "a class that takes nothing");
  s->prefix_open = false;
  return set_take(s, &set);
}

/* ---- repeats ---- */

static bool number_read(struct scan *s, uint32_t *out) {
  uint32_t n = 0;
  if (!is_digit(peek(s, 0))) return refuse(s, "a { that is no repeat is written \\{");
  for (; is_digit(peek(s, 0)); s->at++) {
    n = n * 10 + (uint32_t)(peek(s, 0) - '0');
    if (n > REPEAT_MAX) return refuse(s, "a repeat is at most 999");
  }
  *out = n;
  return true;
}

/* repeat_count reads * + ? {n} {n,} {n,m}. */
static bool repeat_count(struct scan *s, uint32_t *min, uint32_t *max) {
  char c = peek(s, 0);
  s->at++;
  *min = c == '+' ? 1 : 0;
  *max = c == '?' ? 1 : NO_END;
  if (c != '{') return true;
  if (!number_read(s, min)) return false;
  *max = *min;
  if (peek(s, 0) == ',') {
    s->at++;
    *max = NO_END;
    if (peek(s, 0) != '}' && !number_read(s, max)) return false;
  }
  if (peek(s, 0) != '}') return refuse(s, "a { that is no repeat is written \\{");
  s->at++;
  return true;
}

static bool in_lookbehind(const struct scan *s) {
  for (uint32_t i = 0; i <= s->depth; i++)
    if (s->frames[i].kind == FRAME_LOOKBEHIND) return true;
  return false;
}

static void loop_note(struct scan *s, const struct frame *f) {
  struct regex_facts *facts = s->facts;
  if (facts->loop_count == LOOPS_MAX) return;
  struct regex_loop *loop = &facts->loops[facts->loop_count++];
  loop->all = f->atom.all;
  for (uint32_t i = 0; i <= s->depth; i++) sample_add(&loop->before, &s->frames[i].seq.sample);
  memcpy(loop->pumps, f->atom_pumps, sizeof loop->pumps);
  loop->pump_count = f->atom_pump_count;
}

/* turn_note: the atom that is repeated may be a group, each turn of which takes a byte of one set:
 * the smallest tells most about how many turns there can be. */
static void turn_note(struct regex_facts *facts, const struct part *body) {
  struct byte_set least = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
  if (facts->tokens[facts->token_count - 1].kind != TOKEN_CLOSE) return;
  for (uint32_t i = 0; i < body->must_count; i++)
    if (set_size(&body->must[i]) < set_size(&least)) least = body->must[i];
  set_or(&facts->turn, &least);
}

/* told_apart: does every turn of this body take a byte that no repeat in it takes? */
static bool told_apart(const struct part *body) {
  struct byte_set loops = body->open;
  set_or(&loops, &body->tail);
  if (set_empty(&loops)) return true;
  for (uint32_t i = 0; i < body->must_count; i++)
    if (!set_meets(&body->must[i], &loops)) return true;
  return false;
}

/* repeat_endless: the repeat itself stands at `at`. */
static bool repeat_endless(struct scan *s, struct frame *f, size_t at) {
  if (in_lookbehind(s))
    return regex_refuse(s->fault, at, "a lookbehind has no repeat without an end");
  if (!told_apart(&f->atom))
    return regex_refuse(s->fault, at,
                        "a repeat in a repeat can explode: nothing tells its turns apart");
  loop_note(s, f);
  turn_note(s->facts, &f->atom);
  set_or(&f->atom.open, &f->atom.tail);
  f->atom.tail = f->atom.all;
  return true;
}

static bool repeat_read(struct scan *s) {
  struct frame *f = top(s);
  uint32_t min = 0, max = 0;
  size_t at = s->at;
  if (!f->has_atom || !f->repeatable) return refuse(s, "there is nothing to repeat");
  if (!repeat_count(s, &min, &max)) return false;
  if (max < min) return refuse(s, "a repeat runs backwards");
  if (peek(s, 0) == '?' || peek(s, 0) == '+') s->at++; /* lazy, possessive: the same bytes */
  f->repeatable = false;
  struct regex_token *token = &s->facts->tokens[s->facts->token_count - 1];
  token->min = min;
  token->max = max > REPEAT_FEW ? NO_END : max;
  if (s->prefix_open) s->facts->prefix.len--; /* nothing but a literal stands before it */
  s->prefix_open = false;
  if (max == 0) f->atom = part_empty();
  if (max > REPEAT_FEW && !repeat_endless(s, f, at)) return false;
  struct sample once = f->atom.sample;
  for (uint32_t i = 1; i < min && f->atom.sample.len < SAMPLE_MAX; i++)
    sample_add(&f->atom.sample, &once);
  if (min == 0) {
    f->atom.nullable = true;
    f->atom.must_count = 0;
  }
  return true;
}

/* ---- all ---- */

static void bar_read(struct scan *s) {
  branch_end(top(s));
  token_put(s, TOKEN_BAR);
  if (s->depth == 0) s->facts->prefix.len = 0;
  s->prefix_open = false;
  s->at++;
}

static bool step(struct scan *s) {
  char c = peek(s, 0);
  struct byte_set any = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
  switch (c) {
    case '\0': return refuse(s, "a pattern holds no NUL");
    case '\\': return escape_read(s);
    case '[': return class_read(s);
    case '(': return group_read(s);
    case ')': return group_close(s);
    case '^':
    case '$': return assertion_put(s, 1);
    case '*':
    case '+':
    case '?':
    case '{': return repeat_read(s);
    case '|': bar_read(s); return true;
    case '.': s->at++; return set_put(s, &any);
    default: s->at++; return literal_put(s, c);
  }
}

bool regex_scan(struct span pattern, struct regex_facts *facts, struct regex_fault *fault) {
  if (!pattern.len) return regex_refuse(fault, 0, "it is empty");
  if (pattern.len > REGEX_PATTERN_MAX)
    return regex_refuse(fault, 0, "it has more than 1024 bytes");
  struct scan *s = mem_alloc(sizeof *s);
  *facts = (struct regex_facts){.loop_count = 0};
  facts->tokens[facts->token_count++] = (struct regex_token){.kind = TOKEN_OPEN};
  s->p = pattern;
  s->facts = facts;
  s->fault = fault;
  s->frames[0].seq = part_empty();
  bool good = true;
  while (good && s->at < pattern.len) good = step(s); /* each step reads a byte or refuses */
  if (good && s->depth > 0) good = refuse(s, "a ( is not closed");
  if (good) {
    branch_end(&s->frames[0]);
    const struct part *whole = &s->frames[0].branches;
    facts->all = whole->all;
    facts->first = whole->first;
    facts->open = whole->open;
    struct regex_token *token = token_put(s, TOKEN_CLOSE);
    token->ambiguous = s->frames[0].ambiguous;
  }
  mem_free(s);
  return good;
}
