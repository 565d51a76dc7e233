/* fuzz_regex.c: patterns of regular expressions (base/regex.c, base/regex_scan.c) and a subject.
 * The pattern ends at the first line break. Checked: a refusal has words and a place inside the
 * pattern; a pattern that is accepted answers any short subject within its limit, twice alike, and
 * its groups lie inside the subject. */
#include "weir/base/regex.h"

#define SUBJECT_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_groups(const struct regex_scratch *s, struct span subject) {
  for (unsigned i = 0; i < REGEX_GROUPS_MAX; i++) {
    struct span g = regex_group(s, subject, i);
    check(g.len <= subject.len);
    check(!g.len || (g.ptr >= subject.ptr && g.ptr + g.len <= subject.ptr + subject.len));
  }
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
  enum regex_result one = regex_match(re, subject, scratch);
  check(one != REGEX_LIMIT);
  if (one == REGEX_YES) check_groups(scratch, subject);
  check(regex_match(re, subject, scratch) == one);
  regex_free(re);
  return 0;
}
