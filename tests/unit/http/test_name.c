/* test_name.c: every row of name.def is found, in any case of letters, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "weir/base/hash.h"
#include "weir/http/name.h"

/* slow_find is the plain twin of http_name_find. */
static enum http_name slow_find(struct span name) {
  for (unsigned id = 1; id < HTTP_NAME_COUNT; id++)
    if (span_eq_nocase(http_name_text((enum http_name)id), name)) return (enum http_name)id;
  return HTTP_NAME_OTHER;
}

static unsigned right_slot(struct span name) {
  unsigned first = (unsigned char)name.ptr[0] | 0x20u;
  unsigned middle = (unsigned char)name.ptr[name.len / 2] | 0x20u;
  unsigned last = (unsigned char)name.ptr[name.len - 2] | 0x20u;
  return ((unsigned)name.len * 79 + first * 139 + middle * 103 + last * 87) & 255;
}

static void finds_every_row(void **state) {
  (void)state;
  for (unsigned id = 1; id < HTTP_NAME_COUNT; id++) {
    struct span text = http_name_text((enum http_name)id);
    char name[64];
    if (http_name_find(text) != (enum http_name)id)
      fail_msg(SPAN_FMT ": write slot %u in name.def", SPAN_ARG(text), right_slot(text));
    for (unsigned mask = 0; mask < 64; mask++) {
      for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool upper = ((mask >> (i % 6)) & 1) && c >= 'a' && c <= 'z';
        name[i] = upper ? (char)(c - 0x20) : c;
      }
      assert_int_equal(http_name_find(span_of(name, text.len)), id);
    }
  }
}

/* Every byte at every place, one too few and one too many. */
static void finds_nothing_else(void **state) {
  (void)state;
  for (unsigned id = 1; id < HTTP_NAME_COUNT; id++) {
    struct span text = http_name_text((enum http_name)id);
    char name[64];
    for (size_t at = 0; at < text.len; at++) {
      memcpy(name, text.ptr, text.len);
      for (int b = 0; b < 256; b++) {
        name[at] = (char)b;
        assert_int_equal(http_name_find(span_of(name, text.len)),
                         slow_find(span_of(name, text.len)));
      }
    }
    assert_int_equal(http_name_find(span_sub(text, 0, text.len - 1)),
                     slow_find(span_sub(text, 0, text.len - 1)));
    assert_int_equal(http_name_find(span_from(text, 1)), slow_find(span_from(text, 1)));
    memcpy(name, text.ptr, text.len);
    name[text.len] = 's';
    assert_int_equal(http_name_find(span_of(name, text.len + 1)),
                     slow_find(span_of(name, text.len + 1)));
  }
  assert_int_equal(http_name_find(SPAN_EMPTY), HTTP_NAME_OTHER);
  char longest[300];
  memset(longest, 'a', sizeof(longest));
  assert_int_equal(http_name_find(span_of(longest, sizeof(longest))), HTTP_NAME_OTHER);
}

static void agrees_on_random_names(void **state) {
  (void)state;
  uint64_t rng = 3;
  for (int turn = 0; turn < 200000; turn++) {
    char name[24];
    size_t len = rng_next(&rng) % sizeof(name);
    for (size_t i = 0; i < len; i++) name[i] = "etaoinshr-dlcuTEVIAHOS"[rng_next(&rng) % 22];
    assert_int_equal(http_name_find(span_of(name, len)), slow_find(span_of(name, len)));
  }
}

static void aliases(void **state) {
  (void)state;
  assert_int_equal(http_name_alias(SPAN_LIT("X_Forwarded_For")), HTTP_NAME_X_FORWARDED_FOR);
  assert_int_equal(http_name_alias(SPAN_LIT("x-forwarded_for")), HTTP_NAME_X_FORWARDED_FOR);
  assert_int_equal(http_name_alias(SPAN_LIT("CONTENT_LENGTH")), HTTP_NAME_CONTENT_LENGTH);
  assert_int_equal(http_name_alias(SPAN_LIT("X-Forwarded-For")), HTTP_NAME_OTHER);
  assert_int_equal(http_name_alias(SPAN_LIT("X_Y")), HTTP_NAME_OTHER);
  assert_int_equal(http_name_alias(SPAN_EMPTY), HTTP_NAME_OTHER);
}

static void speaks_for_the_proxy(void **state) {
  (void)state;
  static const char *const yes[] = {
      "X-Forwarded-For",    "x-forwarded-user", "X-FORWARDED-TLS-CLIENT-CERT",
      "X_Forwarded_Scheme", "x_forwarded-uri",  "X-Forwarded",
      "X-ForwardedBy",      "x-forwarded_"};
  static const char *const no[] = {"",
                                   "x",
                                   "X-Forwarde",
                                   "Forwarded",
                                   "X-Forward",
                                   "XX-Forwarded",
                                   "Y-Forwarded-User",
                                   "X-Forwarder",
                                   "X.Forwarded-User",
                                   "X-Original-Forwarded-For"};
  for (size_t i = 0; i < array_count(yes); i++)
    assert_true(http_name_speaks_for(span_str(yes[i])));
  for (size_t i = 0; i < array_count(no); i++) assert_false(http_name_speaks_for(span_str(no[i])));
}

/* What the hop-by-hop and smuggling defences stand on. */
static void flags(void **state) {
  (void)state;
  assert_int_equal(http_name_flags(HTTP_NAME_OTHER), 0);
  const enum http_name pinned[] = {HTTP_NAME_HOST,
                                   HTTP_NAME_CONTENT_LENGTH,
                                   HTTP_NAME_TRANSFER_ENCODING,
                                   HTTP_NAME_COOKIE,
                                   HTTP_NAME_AUTHORIZATION,
                                   HTTP_NAME_X_FORWARDED_FOR,
                                   HTTP_NAME_FORWARDED,
                                   HTTP_NAME_X_FORWARDED_PROTO,
                                   HTTP_NAME_X_FORWARDED_HOST,
                                   HTTP_NAME_CACHE_CONTROL,
                                   HTTP_NAME_VIA,
                                   HTTP_NAME_EXPECT};
  for (size_t i = 0; i < array_count(pinned); i++)
    assert_true(http_name_flags(pinned[i]) & HTTP_NAME_PINNED);
  const enum http_name hop[] = {
      HTTP_NAME_CONNECTION,       HTTP_NAME_KEEP_ALIVE,       HTTP_NAME_TE,
      HTTP_NAME_UPGRADE,          HTTP_NAME_HTTP2_SETTINGS,   HTTP_NAME_PROXY_CONNECTION,
      HTTP_NAME_TRANSFER_ENCODING};
  for (size_t i = 0; i < array_count(hop); i++)
    assert_true(http_name_flags(hop[i]) & HTTP_NAME_HOP);
  assert_true(http_name_flags(HTTP_NAME_HOST) & HTTP_NAME_OWN);
  /* It is no hop's own (RFC 9110 sections 6.6.2 and 7.6.1), but weir's to pass on or not. */
  assert_int_equal(http_name_flags(HTTP_NAME_TRAILER), HTTP_NAME_FIXED | HTTP_NAME_NO_TRAILER);
  for (unsigned id = 1; id < HTTP_NAME_COUNT; id++) /* whoever speaks for us cannot be stripped */
    if (http_name_flags((enum http_name)id) & HTTP_NAME_FORWARDING)
      assert_true(http_name_flags((enum http_name)id) & HTTP_NAME_PINNED);
}

static void grammars(void **state) {
  (void)state;
  assert_true(http_is_token(SPAN_LIT("a-B!9")));
  assert_false(http_is_token(SPAN_EMPTY));
  assert_false(http_is_token(SPAN_LIT("a b")));
  assert_false(http_is_token(SPAN_LIT("a:")));
  assert_true(http_is_value(SPAN_EMPTY));
  assert_true(http_is_value(SPAN_LIT("a\tb \xff")));
  assert_false(http_is_value(SPAN_LIT("a\r")));
  assert_false(http_is_value(SPAN_LIT("a\0b")));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(finds_every_row),
      cmocka_unit_test(finds_nothing_else),
      cmocka_unit_test(agrees_on_random_names),
      cmocka_unit_test(aliases),
      cmocka_unit_test(speaks_for_the_proxy),
      cmocka_unit_test(flags),
      cmocka_unit_test(grammars),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
