/* fuzz_regex.c: patterns of regular expressions (base/regex.c, base/regex_scan.c) and a subject.
 * The pattern ends at the first line break. Checked: a refusal has words and a place inside the
 * pattern; a pattern that is accepted answers any short subject within the limits of the engines,
 * its groups lie inside the subject, and machine code and interpreter say the same at the same
 * charge. The same for the subject repeated up to LONG_MAX bytes, where the budget may say
 * REGEX_LIMIT: an input that takes long there (-report_slow_units=1) is a bound that is wrong. */
#include "base/regex_priv.h"
#include "weir/base/mem.h"

#define SUBJECT_MAX 64u
#define LONG_MAX 16384u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_groups(const struct regex_scratch *s, struct span subject) {
  for (unsigned i = 0; i < REGEX_GROUPS_MAX; i++) {
    struct span g = regex_group(s, subject, i);
    check(g.len <= subject.len);
    check(!g.len || (g.ptr >= subject.ptr && g.ptr + g.len <= subject.ptr + subject.len));
  }
}

static enum regex_result ask(const struct regex *re, struct span subject, struct regex_scratch *s,
                             uint64_t budget) {
  regex_refill(s, budget);
  enum regex_result slow = regex_match_interpreted(re, subject, s);
  uint64_t left = regex_budget(s);
  regex_refill(s, budget);
  enum regex_result got = regex_match(re, subject, s);
  check(got == slow && regex_budget(s) == left);
  if (got == REGEX_YES) check_groups(s, subject);
  return got;
}

static void ask_long(const struct regex *re, struct span turn, struct regex_scratch *s) {
  static char bytes[LONG_MAX];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = turn.ptr[i % turn.len];
  (void)ask(re, span_of(bytes, sizeof bytes), s, REGEX_BUDGET);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  static struct regex_scratch *scratch;
  if (!scratch) scratch = regex_scratch_new();
  struct span all = span_of((const char *)data, len);
  size_t end = span_find_char(all, '\n', 0);
  struct span pattern = span_sub(all, 0, end);
  struct span subject =
      end == SIZE_MAX ? SPAN_EMPTY : span_sub(all, end + 1, SUBJECT_MAX);
  struct regex_fault fault = {.at = SIZE_MAX};
  struct regex *re = regex_new(pattern, &fault);
  if (!re) {
    check(fault.why[0] && fault.at <= pattern.len);
    return 0;
  }
  check(ask(re, subject, scratch, UINT32_MAX / REGEX_STEPS_BYTE / 2) != REGEX_LIMIT);
  if (subject.len) ask_long(re, subject, scratch);
  regex_free(re);
  return 0;
}
