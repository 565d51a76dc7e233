/* test_path.c: the path policy of path.h: the table, what holds of every result, and that no
 * accepted path climbs or hides a boundary after a backend has decoded it once more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "weir/base/hash.h"
#include "weir/http/path.h"

enum outcome { SAME_PATH, MADE_PATH, REFUSED_PATH };

static const struct {
  enum outcome outcome;
  const char *path, *policy, *want;
} rows[] = {
#define SAME(path, policy) {SAME_PATH, path, policy, path},
#include "path_cases.def"
#undef SAME
#define MADE(path, policy, result) {MADE_PATH, path, policy, result},
#include "path_cases.def"
#undef MADE
#define REFUSED(path, policy, why) {REFUSED_PATH, path, policy, why},
#include "path_cases.def"
#undef REFUSED
};

static struct path_policy policy_of(const char *letters) {
  struct path_policy p = {0};
  if (strchr(letters, 'k')) p.slashes = PATH_SLASHES_KEEP;
  if (strchr(letters, 'r')) p.slashes = PATH_SLASHES_REFUSE;
  if (strchr(letters, 'e')) p.encoded_slash = PATH_ENCODED_KEEP;
  if (strchr(letters, 'd')) p.dot_segments = PATH_DOTS_REFUSE;
  if (strchr(letters, 'u')) p.utf8 = PATH_UTF8_ANY;
  return p;
}

/* word_is: is `why` client.bad_request.path with this ending? */
static bool word_is(enum end why, const char *ending) {
  struct span word = end_get(why)->word, stem = SPAN_LIT("client.bad_request.path");
  return span_starts(word, stem) && span_eq(span_from(word, stem.len), span_str(ending));
}

static void try_row(size_t i) {
  struct path_policy policy = policy_of(rows[i].policy);
  struct span path = span_str(rows[i].path), out = SPAN_EMPTY, again = SPAN_EMPTY;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  bool ok = path_canonical(path, &policy, &arena, &out, &why);
  if (rows[i].outcome == REFUSED_PATH) {
    if (ok) fail_msg("%s [%s]: accepted as %.*s", rows[i].path, rows[i].policy, SPAN_ARG(out));
    if (!word_is(why, rows[i].want))
      fail_msg("%s [%s]: %.*s, not path%s", rows[i].path, rows[i].policy,
               SPAN_ARG(end_get(why)->word), rows[i].want);
    assert_null(out.ptr); /* untouched */
    arena_reset(&arena);
    return;
  }
  if (!ok)
    fail_msg("%s [%s]: %.*s", rows[i].path, rows[i].policy, SPAN_ARG(end_get(why)->word));
  if (!span_eq(out, span_str(rows[i].want)))
    fail_msg("%s [%s]: %.*s, not %s", rows[i].path, rows[i].policy, SPAN_ARG(out), rows[i].want);
  assert_true(path_canonical(out, &policy, &arena, &again, &why));
  assert_true(span_eq(again, out));
  arena_reset(&arena);
}

static void table(void **state) {
  (void)state;
  assert_true(array_count(rows) >= 120);
  for (size_t i = 0; i < array_count(rows); i++) try_row(i);
}

/* A plain path is borrowed, not copied: not even an arena block is taken. */
static void plain_is_borrowed(void **state) {
  (void)state;
  static const char *const plain[] = {"/", "/a/b/c.html", "/.well-known/x", "/a;x=1/..b/...",
                                      "/[a]{b}|^`\"<c>"};
  const struct path_policy policy = {0};
  for (size_t i = 0; i < array_count(plain); i++) {
    struct arena arena;
    struct span path = span_str(plain[i]), out = SPAN_EMPTY;
    enum end why;
    arena_init(&arena, NULL, 1);
    assert_true(path_canonical(path, &policy, &arena, &out, &why));
    assert_ptr_equal(out.ptr, path.ptr);
    assert_int_equal(out.len, path.len);
    assert_int_equal(arena.total, 0);
  }
}

static void no_memory(void **state) {
  (void)state;
  struct arena arena;
  const struct path_policy policy = {0};
  struct span out = SPAN_EMPTY;
  enum end why = END_OK;
  arena_init(&arena, NULL, 1);
  assert_false(path_canonical(SPAN_LIT("/%61"), &policy, &arena, &out, &why));
  assert_int_equal(why, END_LIMIT_STREAM_MEMORY);
  assert_false(path_canonical(SPAN_EMPTY, &policy, &arena, &out, &why));
  assert_int_equal(why, END_BAD_REQUEST_PATH);
  assert_false(path_canonical(SPAN_LIT("a"), &policy, &arena, &out, &why));
  assert_false(path_canonical(SPAN_LIT("*"), &policy, &arena, &out, &why));
}

/* ---- any path ---- */

/* decode_all undoes every escape and takes "\" for "/": the most that a backend could do. */
static size_t decode_all(struct span path, char *out) {
  size_t len = 0;
  for (size_t i = 0; i < path.len; i++) {
    char c = path.ptr[i];
    if (c == '%') {
      char digits[3] = {path.ptr[i + 1], path.ptr[i + 2], 0};
      c = (char)strtoul(digits, NULL, 16);
      i += 2;
    }
    out[len++] = c == '\\' ? '/' : c;
  }
  out[len] = 0;
  return len;
}

static bool climbs(const char *plain, size_t len) {
  for (size_t at = 0; at < len; at++) {
    if (plain[at] != '/') continue;
    size_t dots = strspn(plain + at + 1, ".");
    char after = plain[at + 1 + dots];
    bool whole = after == 0 || after == '/' || after == ';';
    if (whole && (dots == 1 || dots == 2)) return true;
  }
  return false;
}

/* holds: what is true of every result, whatever came. */
static void holds(struct span path, struct span out, const struct path_policy *policy) {
  char plain[256];
  size_t len = decode_all(out, plain);
  if (climbs(plain, len)) fail_msg("%.*s: %.*s climbs", SPAN_ARG(path), SPAN_ARG(out));
  assert_true(out.len <= path.len && out.ptr[0] == '/');
  bool doubled = false, encoded = false, lower = false, needless = false;
  for (size_t i = 0; i < out.len; i++) {
    struct span three = span_sub(out, i, 3);
    doubled |= span_starts(three, SPAN_LIT("//"));
    if (out.ptr[i] != '%') continue;
    char c = (char)strtoul((char[]){three.ptr[1], three.ptr[2], 0}, NULL, 16);
    encoded |= c == '/' || c == '\\';
    lower |= (three.ptr[1] >= 'a') || (three.ptr[2] >= 'a');
    needless |= (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') ||
                (c && strchr("-._~", c) != NULL);
    assert_true((unsigned char)c >= 0x20 && c != 0x7f);
  }
  assert_false(doubled && policy->slashes != PATH_SLASHES_KEEP);
  assert_false(encoded && policy->encoded_slash == PATH_ENCODED_REFUSE);
  assert_false(lower || needless);
}

static void any_path(void **state) {
  (void)state;
  static const char *const pieces[] = {"/",   ".",   "..",  "%2e", "%2E", "%2f",    "%5c", ";",
                                       "a",   "%61", "%25", "//",  "%3B", "%c3%a9", "%ff", "%00",
                                       "%3f", "\\",  "/",   "/",   "a"};
  static const char *const policies[] = {"", "k", "r", "e", "d", "u", "ke", "keu", "red"};
  uint64_t rng = 11;
  unsigned accepted = 0;
  for (int turn = 0; turn < 400000; turn++) {
    char path[128] = "/";
    for (size_t n = rng_next(&rng) % 9; n > 0; n--)
      strcat(path, pieces[rng_next(&rng) % array_count(pieces)]);
    struct path_policy policy = policy_of(policies[rng_next(&rng) % array_count(policies)]);
    struct arena arena;
    struct span out, again;
    enum end why = END_OK;
    arena_init(&arena, NULL, 0);
    if (path_canonical(span_str(path), &policy, &arena, &out, &why)) {
      accepted++;
      holds(span_str(path), out, &policy);
      if (!path_canonical(out, &policy, &arena, &again, &why) || !span_eq(out, again))
        fail_msg("%s: %.*s is not canonical", path, SPAN_ARG(out));
    }
    arena_reset(&arena);
  }
  assert_true(accepted > 50000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(table),
      cmocka_unit_test(plain_is_borrowed),
      cmocka_unit_test(no_memory),
      cmocka_unit_test(any_path),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
