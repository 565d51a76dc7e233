/* test_regex.c: which patterns are refused and why, what the others match, and that no accepted
 * pattern goes past its limit unnoticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "weir/base/buf.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"
#include "weir/base/regex.h"

static const struct {
  const char *pattern, *subject;
  bool matches;
} good[] = {
#define GOOD(pattern, subject, matches) {pattern, subject, matches},
#include "regex_cases.def"
#undef GOOD
};

static const struct {
  const char *pattern, *why;
} bad[] = {
#define BAD(pattern, why) {pattern, why},
#include "regex_cases.def"
#undef BAD
};

static struct regex *make(const char *pattern) {
  struct regex_fault fault = {.at = 0};
  struct regex *re = regex_new(span_str(pattern), &fault);
  if (!re) fail_msg("%s was refused at %zu: %s", pattern, fault.at, fault.why);
  return re;
}

static void accepted(void **state) {
  (void)state;
  struct regex_scratch *s = regex_scratch_new();
  for (size_t i = 0; i < array_count(good); i++) {
    struct regex *re = make(good[i].pattern);
    enum regex_result got = regex_match(re, span_str(good[i].subject), s);
    if (got != (good[i].matches ? REGEX_YES : REGEX_NO))
      fail_msg("%s on %s: %d", good[i].pattern, good[i].subject, (int)got);
    regex_free(re);
  }
  regex_scratch_free(s);
}

static void refused(void **state) {
  (void)state;
  uint32_t wrong = 0;
  for (size_t i = 0; i < array_count(bad); i++) {
    struct regex_fault fault = {.at = 0};
    struct regex *re = regex_new(span_str(bad[i].pattern), &fault);
    if (!re && strstr(fault.why, bad[i].why) && fault.at <= strlen(bad[i].pattern)) continue;
    print_error("%s: %s, not %s\n", bad[i].pattern, re ? "accepted" : fault.why, bad[i].why);
    regex_free(re);
    wrong++;
  }
  assert_int_equal(wrong, 0);
}

static void too_long(void **state) {
  (void)state;
  char pattern[REGEX_PATTERN_MAX + 2];
  struct regex_fault fault = {.at = 0};
  memset(pattern, 'a', sizeof pattern);
  assert_null(regex_new(span_of(pattern, REGEX_PATTERN_MAX + 1), &fault));
  assert_non_null(strstr(fault.why, "1024"));
  struct regex *re = regex_new(span_of(pattern, REGEX_PATTERN_MAX), &fault);
  assert_non_null(re);
  regex_free(re);
  assert_null(regex_new(span_of("a\0b", 3), &fault)); /* a NUL would end nothing, but hide much */
  assert_int_equal(fault.at, 1);
}

static void groups(void **state) {
  (void)state;
  struct regex_scratch *s = regex_scratch_new();
  struct regex *re = make("^/(\\w+)(/x)?/(?:y)(z)$");
  struct span subject = SPAN_LIT("/one/yz");
  assert_int_equal(regex_match(re, subject, s), REGEX_YES);
  assert_true(span_eq(regex_group(s, subject, 0), subject));
  assert_true(span_eq(regex_group(s, subject, 1), SPAN_LIT("one")));
  assert_int_equal(regex_group(s, subject, 2).len, 0);
  assert_true(span_eq(regex_group(s, subject, 3), SPAN_LIT("z")));
  assert_int_equal(regex_group(s, subject, 4).len, 0);
  assert_int_equal(regex_match(re, SPAN_LIT("/one/y"), s), REGEX_NO);
  assert_int_equal(regex_group(s, subject, 0).len, 0);
  regex_free(re);
  regex_scratch_free(s);
}

/* What the rules let pass and the square of a long subject still makes dear ends with LIMIT, which
 * is neither yes nor no. A short one is answered. */
static void limit(void **state) {
  (void)state;
  struct regex_scratch *s = regex_scratch_new();
  struct regex *re = make("^/users/.*/posts/.*/edit$");
  struct text subject = {0};
  text_lit(&subject, "/users");
  for (int i = 0; i < 2000; i++) text_lit(&subject, "/posts");
  text_lit(&subject, "/edit!");
  assert_int_equal(regex_match(re, text_span(&subject), s), REGEX_LIMIT);
  assert_int_equal(regex_group(s, text_span(&subject), 0).len, 0);
  assert_int_equal(regex_match(re, SPAN_LIT("/users/1/posts/2/edit"), s), REGEX_YES);
  text_fini(&subject);
  regex_free(re);
  re = make("^(/[a-z]+)+$"); /* linear: any length is answered, or the stack says no */
  for (int i = 0; i < 200; i++) text_lit(&subject, "/abcdefg");
  assert_int_equal(regex_match(re, text_span(&subject), s), REGEX_YES);
  text_fini(&subject);
  regex_free(re);
  regex_scratch_free(s);
}

/* A random pattern of dangerous pieces is refused, or stays below the limit on short subjects of
 * its own letters: the rules leave no explosion. */
static void nothing_explodes(void **state) {
  (void)state;
  static const char *const pieces[] = {"a",  "b",   "ab", "(",   ")",  "|",    "*",     "+",
                                       "?",  ".",   "^",  "$",   "(?:", "[ab]", "[^a]", "{2,}",
                                       "(a", "b)*", "c",  "a+)", "/",   "[a-c]*"};
  struct regex_scratch *s = regex_scratch_new();
  uint64_t rng = 5;
  uint32_t accepted_count = 0, refused_count = 0;
  for (int turn = 0; turn < 60000; turn++) {
    char pattern[96] = "^";
    for (uint64_t n = 1 + rng_next(&rng) % 9; n > 0; n--)
      strcat(pattern, pieces[rng_next(&rng) % array_count(pieces)]);
    struct regex_fault fault = {.at = 0};
    struct regex *re = regex_new(span_str(pattern), &fault);
    if (!re) {
      refused_count++;
      continue;
    }
    accepted_count++;
    for (int i = 0; i < 6; i++) {
      char subject[72];
      size_t turn_len = 1 + rng_next(&rng) % 4;
      for (size_t k = 0; k < sizeof subject; k++)
        subject[k] = k < turn_len ? "abc/"[rng_next(&rng) % 4] : subject[k - turn_len];
      subject[sizeof subject - 1] = '!';
      if (regex_match(re, span_of(subject, sizeof subject), s) == REGEX_LIMIT)
        fail_msg("accepted, but 72 bytes reach the limit: %s on %.72s", pattern, subject);
    }
    regex_free(re);
  }
  assert_true(accepted_count > 3000 && refused_count > 3000);
  regex_scratch_free(s);
}

static void room(void **state) {
  (void)state;
  struct regex_scratch *s = regex_scratch_new();
  memset(regex_room(s), 'x', REGEX_ROOM);
  struct regex *re = make("^x*$");
  assert_int_equal(regex_match(re, span_of(regex_room(s), REGEX_ROOM), s), REGEX_YES);
  assert_int_equal(regex_match(re, SPAN_EMPTY, s), REGEX_YES);
  regex_free(re);
  regex_free(NULL);
  regex_scratch_free(s);
  regex_scratch_free(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(accepted), cmocka_unit_test(refused), cmocka_unit_test(too_long),
      cmocka_unit_test(groups),   cmocka_unit_test(limit),   cmocka_unit_test(nothing_explodes),
      cmocka_unit_test(room),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
