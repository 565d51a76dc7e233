/* regex.c: the only file that sees PCRE2: compiling, the trial of regex.h, matching. Bytes, no
 * UTF; one search per call. What may stand in a pattern is regex_scan.c's. Patterns come from the
 * configuration only. Called by config/ and model/. pcre2api(3), pcre2jit(3). */
#include "weir/base/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>

#include "regex_priv.h"
#include "weir/base/buf.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

#define OPTIONS \
  (PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP | \
   PCRE2_NEVER_BACKSLASH_C)
#define JIT_STACK_START (32u << 10)
#define STACK_MAX (4u << 20)     /* of machine code, and of the interpreter on the heap */
#define STACK_SPARE (256u << 10) /* of it, for what does not grow with turns */
#define COUNTED_STEPS 1000u      /* with REGEX_STEPS_BYTE for each byte: see regex_cost.counted */

struct regex {
  struct regex_share *share;
  pcre2_code *code;
  struct regex_cost cost;
  uint32_t turns_max; /* of repeated groups, that both engines have the stack for */
};

struct regex_scratch {
  pcre2_general_context *memory;
  pcre2_match_data *data;
  pcre2_match_context *context;
  pcre2_jit_stack *stack;
  uint32_t groups; /* of the last match */
  uint64_t budget; /* of the present request */
  char room[REGEX_ROOM];
};

static void *take(size_t size, void *ctx) {
  (void)ctx;
  return mem_alloc(size);
}

static void give(void *ptr, void *ctx) {
  (void)ctx;
  mem_free(ptr);
}

/* ---- what a thread needs ---- */

struct regex_scratch *regex_scratch_new(void) {
  struct regex_scratch *s = mem_alloc(sizeof *s);
  s->memory = pcre2_general_context_create(take, give, NULL);
  s->data = pcre2_match_data_create(REGEX_GROUPS_MAX, s->memory);
  s->context = pcre2_match_context_create(s->memory);
  s->stack = pcre2_jit_stack_create(JIT_STACK_START, STACK_MAX, s->memory);
  check(s->memory && s->data && s->context);
  if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
  pcre2_set_heap_limit(s->context, STACK_MAX >> 10);
  s->budget = REGEX_BUDGET;
  return s;
}

void regex_scratch_free(struct regex_scratch *s) {
  if (!s) return;
  pcre2_jit_stack_free(s->stack);
  pcre2_match_context_free(s->context);
  pcre2_match_data_free(s->data);
  pcre2_general_context_free(s->memory);
  mem_free(s);
}

char *regex_room(struct regex_scratch *s) { return s->room; }

/* ---- matching ---- */

static enum regex_result match(const pcre2_code *code, struct span subject,
                               struct regex_scratch *s, uint32_t options) {
  const char *bytes = subject.len ? subject.ptr : "";
  int rc = pcre2_match(code, (PCRE2_SPTR)(const void *)bytes, subject.len, 0, options, s->data,
                       s->context);
  s->groups = rc > 0 ? (uint32_t)rc : rc == 0 ? REGEX_GROUPS_MAX : 0;
  if (rc >= 0) return REGEX_YES;
  return rc == PCRE2_ERROR_NOMATCH ? REGEX_NO : REGEX_LIMIT;
}

/* charge takes what a match can cost off the budget; false: there is not so much left. */
static bool charge(const struct regex *re, struct span subject, struct regex_scratch *s,
                   uint64_t *steps) {
  uint64_t cost = regex_cost_of(&re->cost, subject);
  if (regex_turns(&re->cost, subject) > re->turns_max) return false;
  *steps = REGEX_STEPS + REGEX_STEPS_BYTE * cost;
  if (re->cost.counted) *steps = cost = COUNTED_STEPS + REGEX_STEPS_BYTE * (subject.len + 1);
  if (cost > s->budget) return false;
  s->budget -= cost;
  return true;
}

static enum regex_result search(const struct regex *re, struct span subject,
                                struct regex_scratch *s, uint32_t options) {
  const struct sample *prefix = &re->cost.prefix;
  uint64_t steps = 0;
  s->groups = 0;
  if (!span_starts(subject, span_of(prefix->bytes, prefix->len))) return REGEX_NO;
  if (!charge(re, subject, s, &steps)) return REGEX_LIMIT;
  pcre2_set_match_limit(s->context, (uint32_t)steps); /* at most 17 times the budget */
  return match(re->code, subject, s, options);
}

enum regex_result regex_match(const struct regex *re, struct span subject,
                              struct regex_scratch *s) {
  return search(re, subject, s, 0);
}

enum regex_result regex_match_interpreted(const struct regex *re, struct span subject,
                                          struct regex_scratch *s) {
  return search(re, subject, s, PCRE2_NO_JIT);
}

uint64_t regex_budget(const struct regex_scratch *s) { return s->budget; }
void regex_refill(struct regex_scratch *s, uint64_t steps) { s->budget = steps; }

struct span regex_group(const struct regex_scratch *s, struct span subject, unsigned group) {
  const PCRE2_SIZE *at = pcre2_get_ovector_pointer(s->data);
  if (group >= s->groups || at[2 * group] == PCRE2_UNSET) return SPAN_EMPTY;
  return span_sub(subject, at[2 * group], at[2 * group + 1] - at[2 * group]);
}

/* ---- the trial ---- */

/* trial pumps every repeat of a pattern, compiled without the short cuts that only see whether a
 * byte is there. The interpreter runs it, so that every machine says the same. */
struct trial {
  pcre2_code *code;
  struct regex_scratch *scratch;
  const struct regex_facts *facts;
  char tail; /* a byte that nothing takes, if there is one */
  bool brief; /* the bound is good: no letters and pairs */
  uint64_t rng;
};

static bool survives(struct trial *t, struct span subject) {
  return match(t->code, subject, t->scratch, PCRE2_NO_JIT) != REGEX_LIMIT;
}

/* pump tries before, then pump over and over, with and without the byte that nothing takes. */
static bool pump(struct trial *t, const struct sample *before, struct span turn) {
  char bytes[REGEX_PROBE_LEN];
  struct buf b = buf_of(bytes, sizeof bytes - 1);
  buf_put(&b, span_of(before->bytes, before->len));
  for (size_t i = 0; turn.len && buf_room(&b) && !b.full; i++)
    buf_char(&b, turn.ptr[i % turn.len]);
  if (!survives(t, buf_span(&b))) return false;
  bytes[b.len] = t->tail;
  return survives(t, span_of(bytes, b.len + 1));
}

/* letters collects bytes that the loop takes: of the pattern's own, and of its pumps. */
static struct span letters(const struct regex_facts *facts, const struct regex_loop *loop,
                           char *room, size_t cap) {
  struct byte_set seen = facts->literals;
  for (uint32_t i = 0; i < loop->pump_count; i++)
    for (uint32_t k = 0; k < loop->pumps[i].len; k++)
      set_add(&seen, (unsigned char)loop->pumps[i].bytes[k]);
  size_t len = 0;
  for (unsigned c = 0; c < 256 && len < cap; c++)
    if (set_has(&seen, (unsigned char)c) && set_has(&loop->all, (unsigned char)c))
      room[len++] = (char)c;
  return span_of(room, len);
}

/* pairs pumps every two pumps as one turn: abc and ab make abcab, which is ab and cab as well. */
static bool pairs_survive(struct trial *t, const struct regex_loop *loop) {
  for (uint32_t i = 0; i < loop->pump_count; i++)
    for (uint32_t k = 0; k < loop->pump_count; k++) {
      char room[2 * SAMPLE_MAX];
      struct buf b = buf_of(room, sizeof room);
      buf_put(&b, span_of(loop->pumps[i].bytes, loop->pumps[i].len));
      buf_put(&b, span_of(loop->pumps[k].bytes, loop->pumps[k].len));
      if (i != k && !pump(t, &loop->before, buf_span(&b))) return false;
    }
  return true;
}

#define LETTERS_MAX 12u
#define MIXES 4u /* random texts for each loop */

static bool loop_survives(struct trial *t, const struct regex_loop *loop) {
  char room[LETTERS_MAX], mixed[SAMPLE_MAX];
  struct span own = letters(t->facts, loop, room, sizeof room);
  for (uint32_t i = 0; i < loop->pump_count; i++)
    if (!pump(t, &loop->before, span_of(loop->pumps[i].bytes, loop->pumps[i].len))) return false;
  if (t->brief) return true;
  for (size_t i = 0; i < own.len; i++)
    if (!pump(t, &loop->before, span_sub(own, i, 1))) return false;
  for (uint32_t i = 0; i < MIXES && own.len; i++) {
    for (size_t k = 0; k < sizeof mixed; k++) mixed[k] = own.ptr[rng_next(&t->rng) % own.len];
    if (!pump(t, &loop->before, span_of(mixed, sizeof mixed))) return false;
  }
  return pairs_survive(t, loop) && (own.len == 0 || pump(t, &loop->before, own));
}

/* tail_byte is a byte that the pattern cannot take, else one that it does not name. */
static char tail_byte(const struct regex_facts *facts) {
  static const char some[] = "!\x01~ #\x7f";
  for (size_t i = 0; i + 1 < sizeof some; i++)
    if (!set_has(&facts->all, (unsigned char)some[i])) return some[i];
  for (size_t i = 0; i + 1 < sizeof some; i++)
    if (!set_has(&facts->literals, (unsigned char)some[i])) return some[i];
  return '\x01';
}

static pcre2_code *compile(struct span pattern, uint32_t options, struct regex_fault *fault) {
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_general_context *memory = pcre2_general_context_create(take, give, NULL);
  pcre2_compile_context *context = pcre2_compile_context_create(memory);
  check(memory && context);
  pcre2_code *code = pcre2_compile((PCRE2_SPTR)(const void *)pattern.ptr, pattern.len,
                                   OPTIONS | options, &error, &at, context);
  pcre2_compile_context_free(context);
  pcre2_general_context_free(memory);
  if (code) return code;
  PCRE2_UCHAR words[sizeof fault->why];
  if (pcre2_get_error_message(error, words, sizeof words) < 0) words[0] = '\0';
  (void)regex_refuse(fault, at, (const char *)words);
  return NULL;
}

/* A pattern whose turns are not ambiguous, and of which but two repeats multiply, is bounded by
 * its cost: it is tried for that mistake only. */
static bool trial_survives(struct span pattern, const struct regex_facts *facts,
                           const struct regex_cost *cost, struct regex_fault *fault) {
  struct trial t = {.facts = facts, .tail = tail_byte(facts), .rng = 1};
  t.brief = !cost->counted && cost->link_count <= 1;
  t.code = compile(pattern, PCRE2_NO_START_OPTIMIZE, fault);
  if (!t.code) return false;
  t.scratch = regex_scratch_new();
  pcre2_set_match_limit(t.scratch->context, REGEX_STEPS + REGEX_STEPS_BYTE * REGEX_PROBE_LEN);
  bool good = true;
  for (uint32_t i = 0; i < facts->loop_count && good; i++)
    good = loop_survives(&t, &facts->loops[i]);
  regex_scratch_free(t.scratch);
  pcre2_code_free(t.code);
  return good || regex_refuse(fault, 0, "it can explode: a made text took too many steps");
}

/* ---- birth ---- */

/* search_cheap: an anchored pattern is tried once. Any other is tried from every byte that it can
 * begin with, which must not be one that a repeat may run over before it fails. */
static bool search_cheap(const pcre2_code *code, const struct regex_facts *facts,
                         struct regex_fault *fault) {
  uint32_t options = 0;
  check(pcre2_pattern_info(code, PCRE2_INFO_ALLOPTIONS, &options) == 0);
  if (options & PCRE2_ANCHORED || !set_meets(&facts->first, &facts->open)) return true;
  return regex_refuse(fault, 0, "it would be tried from every place: begin it with ^ (or ^.*)");
}

/* turns_max: what both stacks have room for. */
static uint32_t turns_max(const pcre2_code *code, const struct regex_cost *cost) {
  size_t frame = 0;
  check(pcre2_pattern_info(code, PCRE2_INFO_FRAMESIZE, &frame) == 0 && frame > 0);
  return (uint32_t)((STACK_MAX - STACK_SPARE) / (frame * cost->frames));
}

/* judge is all rules but those of the scan. */
static bool judge(struct span pattern, const struct regex_facts *facts, struct regex *re,
                  struct regex_fault *fault) {
  if (!regex_cost_find(facts, &re->cost, fault)) return false;
  re->code = compile(pattern, re->cost.counted ? PCRE2_NO_AUTO_POSSESS : 0, fault);
  return re->code && search_cheap(re->code, facts, fault) &&
         trial_survives(pattern, facts, &re->cost, fault);
}

/* The interpreter counts what ambiguous turns cost; machine code would not. */
struct regex *regex_make(struct span pattern, struct regex_share *share,
                         struct regex_fault *fault) {
  struct regex_facts *facts = mem_alloc(sizeof *facts);
  struct regex *re = mem_alloc(sizeof *re);
  bool good = regex_scan(pattern, facts, fault) && judge(pattern, facts, re, fault);
  mem_free(facts);
  if (!good) {
    regex_unmake(re);
    return NULL;
  }
  re->share = share;
  re->turns_max = turns_max(re->code, &re->cost);
  /* Where memory may not be made executable (MemoryDenyWriteExecute=) it stays as it is. */
  if (!re->cost.counted) (void)pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);
  return re;
}

struct regex_share *regex_share_of(const struct regex *re) {
  return re->share;
}

void regex_unmake(struct regex *re) {
  pcre2_code_free(re->code);
  mem_free(re);
}

unsigned regex_groups(const struct regex *re) {
  uint32_t count = 0;
  pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &count);
  return count;
}
