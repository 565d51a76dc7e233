/* test_regex.c: which patterns are refused and why, what the others match, and that no accepted
 * pattern goes past its limit unnoticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/regex_priv.h"
#include "weir/base/buf.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

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

/* ask gives both engines the same budget: they say the same, at the same charge. */
static enum regex_result ask(const struct regex *re, struct span subject, struct regex_scratch *s,
                             uint64_t budget) {
  regex_refill(s, budget);
  enum regex_result slow = regex_match_interpreted(re, subject, s);
  uint64_t left = regex_budget(s);
  regex_refill(s, budget);
  enum regex_result got = regex_match(re, subject, s);
  assert_int_equal(got, slow);
  assert_true(regex_budget(s) == left);
  return got;
}

static void accepted(void **state) {
  (void)state;
  struct regex_scratch *s = regex_scratch_new();
  for (size_t i = 0; i < array_count(good); i++) {
    struct regex *re = make(good[i].pattern);
    enum regex_result got = ask(re, span_str(good[i].subject), s, REGEX_BUDGET);
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

/* long_one asks about a long text: the engines say the same, and so it is not their own limits
 * (stack, heap, steps) that answer. */
static void long_one(const struct regex *re, struct regex_scratch *s, uint64_t *rng) {
  char bytes[6000];
  size_t turn = 1 + rng_next(rng) % 4;
  for (size_t k = 0; k < sizeof bytes; k++)
    bytes[k] = k < turn ? "abc/"[rng_next(rng) % 4] : bytes[k - turn];
  if (rng_next(rng) % 2) bytes[sizeof bytes - 1] = '!';
  (void)ask(re, span_of(bytes, sizeof bytes), s, REGEX_BUDGET);
}

/* A random pattern of dangerous pieces is refused, or stays below the limits of the engines on
 * short subjects of its own letters, whatever the budget: the rules leave no explosion. */
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
      if (ask(re, span_of(subject, sizeof subject), s, 10 * REGEX_BUDGET) == REGEX_LIMIT)
        fail_msg("accepted, but 72 bytes reach the limit: %s on %.72s", pattern, subject);
    }
    if (accepted_count % 16 == 0) long_one(re, s, &rng);
    regex_free(re);
  }
  assert_true(accepted_count > 3000 && refused_count > 3000);
  regex_scratch_free(s);
}

/* dear: what the counters of neither engine see: one repeat is run over again from every byte of
 * another. It is charged before anything runs, so that nothing has to be measured here. */
static const struct {
  const char *pattern, *before, *pump, *after;
  size_t len;
  enum regex_result want;
} dear[] = {
    {"^/[^?]*-[^?]*\\.html$", "/", "-", "html", 16384, REGEX_LIMIT},
    {"^/[^?]*-[^?]*\\.html$", "/", "a", "-b.html", 16384, REGEX_YES},
    {"^/[^?]*-[^?]*\\.html$", "/", "-", "html", 120, REGEX_NO},
    {"^[^=]*;[^=]*=1$", "", ";", "x=1y1", 60000, REGEX_LIMIT},
    {"^[^=]*;[^=]*=1$", "", "x", ";=1", 60000, REGEX_YES},
    {"^/.*a.*[bc]", "/", "a", "", 16384, REGEX_LIMIT},
    {"^/[^.]*/[^.]*/[^.]*\\.jpg$", "/", "a/", "jpg", 16384, REGEX_LIMIT},
    {"^/[^.]*/[^.]*/[^.]*\\.jpg$", "/a/b/", "c", ".jpg", 16384, REGEX_YES},
    {"^/users/.*/posts/.*/edit$", "/users", "/posts", "/edit!", 16384, REGEX_LIMIT},
    {"^/users/.*/posts/.*/edit$", "/items", "/posts", "/edit!", 16384, REGEX_NO}, /* its prefix */
    {"^(?:[a-z]|/)*$", "/", "a", "", 2000, REGEX_YES},
    {"^(?:[a-z]|/)*$", "/", "a", "", 16384, REGEX_LIMIT}, /* turns */
    {"^(?:/[a-z]+)+$", "", "/abcdefg", "", 16384, REGEX_YES},
    {"^(?:(a)|(b)|(c)|(d)|(e)|(f)|(g)|(h))+$", "", "abcdefgh", "", 40000, REGEX_LIMIT},
    {"^/item/([a-z]+)/([0-9]+)$", "/item/", "a", "/1", 65536, REGEX_YES},
    {"(/\\w+)-[0-9]$", "/", "/a", "!", 65536, REGEX_NO},
    {"^[a-z]*[0-9]*[a-z]*!$", "", "a", "", 65536, REGEX_LIMIT},
    {"^[a-z]*[0-9]+[A-Z]*!$", "", "a", "", 65536, REGEX_NO},
    {"^(?=.*x)(?=.*y)[a-z]*$", "", "a", "xy", 65536, REGEX_YES},
    {"^.*(?=.*x)[a-z]$", "", "a", "!", 65536, REGEX_LIMIT},
    {"^.*(?:foo|[0-9]+)?x$", "", "7", "!", 65536, REGEX_LIMIT},
    {"^(?:foo|far|food)*$", "", "foofar", "!", 65536, REGEX_LIMIT}, /* counted */
};

static void pumped(struct text *subject, size_t i) {
  subject->len = 0;
  text_put(subject, span_str(dear[i].before));
  while (subject->len < dear[i].len) text_put(subject, span_str(dear[i].pump));
  text_put(subject, span_str(dear[i].after));
}

static void dear_ones(void **state) {
  (void)state;
  struct regex_scratch *s = regex_scratch_new();
  struct text subject = {0};
  for (size_t i = 0; i < array_count(dear); i++) {
    struct regex *re = make(dear[i].pattern);
    pumped(&subject, i);
    enum regex_result got = ask(re, text_span(&subject), s, REGEX_BUDGET);
    if (got != dear[i].want) print_error("%s, row %zu: %d\n", dear[i].pattern, i, (int)got);
    assert_int_equal(got, dear[i].want);
    regex_free(re);
  }
  text_fini(&subject);
  regex_scratch_free(s);
}

/* One budget is a request's, however many patterns, routes and lines it is asked of. */
static void budget(void **state) {
  (void)state;
  struct regex_scratch *s = regex_scratch_new();
  struct regex *re = make("^[a-z]+$");
  char bytes[10000];
  memset(bytes, 'a', sizeof bytes);
  assert_int_equal(regex_budget(s), REGEX_BUDGET);
  uint32_t answers = 0;
  while (regex_match(re, span_of(bytes, sizeof bytes), s) == REGEX_YES && answers < 1000)
    answers++;
  assert_in_range(answers, 90, 100);
  assert_int_equal(regex_match(re, span_of(bytes, sizeof bytes), s), REGEX_LIMIT);
  regex_refill(s, REGEX_BUDGET);
  assert_int_equal(regex_match(re, span_of(bytes, sizeof bytes), s), REGEX_YES);
  regex_free(re);
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
      cmocka_unit_test(accepted), cmocka_unit_test(refused),   cmocka_unit_test(too_long),
      cmocka_unit_test(groups),   cmocka_unit_test(limit),     cmocka_unit_test(nothing_explodes),
      cmocka_unit_test(room),     cmocka_unit_test(dear_ones), cmocka_unit_test(budget),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
