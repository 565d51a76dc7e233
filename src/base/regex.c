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
#define JIT_STACK_MAX (1u << 20)
#define HEAP_KIB_MAX 1024u /* of the interpreter */
#define DEPTH_MAX 10000u   /* of the interpreter; the compiled code has its stack's limit */

struct regex {
  pcre2_code *code;
  bool jitted;
};

struct regex_scratch {
  pcre2_general_context *memory;
  pcre2_match_data *data;
  pcre2_match_context *context;
  pcre2_jit_stack *stack;
  uint32_t groups; /* of the last match */
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
  s->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, s->memory);
  check(s->memory && s->data && s->context);
  if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
  pcre2_set_heap_limit(s->context, HEAP_KIB_MAX);
  pcre2_set_depth_limit(s->context, DEPTH_MAX);
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

enum regex_result regex_match(const struct regex *re, struct span subject,
                              struct regex_scratch *s) {
  uint64_t steps = REGEX_STEPS + (uint64_t)REGEX_STEPS_BYTE * subject.len;
  pcre2_set_match_limit(s->context, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
  return match(re->code, subject, s, 0);
}

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

#define LETTERS_MAX 12u
#define MIXES 4u /* random texts for each loop */

static bool loop_survives(struct trial *t, const struct regex_loop *loop) {
  char room[LETTERS_MAX], mixed[SAMPLE_MAX];
  struct span own = letters(t->facts, loop, room, sizeof room);
  for (uint32_t i = 0; i < loop->pump_count; i++)
    if (!pump(t, &loop->before, span_of(loop->pumps[i].bytes, loop->pumps[i].len))) return false;
  for (size_t i = 0; i < own.len; i++)
    if (!pump(t, &loop->before, span_sub(own, i, 1))) return false;
  for (uint32_t i = 0; i < MIXES && own.len; i++) {
    for (size_t k = 0; k < sizeof mixed; k++) mixed[k] = own.ptr[rng_next(&t->rng) % own.len];
    if (!pump(t, &loop->before, span_of(mixed, sizeof mixed))) return false;
  }
  return own.len == 0 || pump(t, &loop->before, own);
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

static bool trial_survives(struct span pattern, const struct regex_facts *facts,
                           struct regex_fault *fault) {
  struct trial t = {.facts = facts, .tail = tail_byte(facts), .rng = 1};
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

struct regex *regex_new(struct span pattern, struct regex_fault *fault) {
  struct regex_facts *facts = mem_alloc(sizeof *facts);
  pcre2_code *code = NULL;
  bool good = regex_scan(pattern, facts, fault);
  if (good) code = compile(pattern, 0, fault);
  good = code && search_cheap(code, facts, fault) && trial_survives(pattern, facts, fault);
  mem_free(facts);
  if (!good) {
    pcre2_code_free(code);
    return NULL;
  }
  struct regex *re = mem_alloc(sizeof *re);
  re->code = code;
  re->jitted = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
  return re;
}

void regex_free(struct regex *re) {
  if (!re) return;
  pcre2_code_free(re->code);
  mem_free(re);
}

unsigned regex_groups(const struct regex *re) {
  uint32_t count = 0;
  pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &count);
  return count;
}

bool regex_jitted(const struct regex *re) { return re->jitted; }
