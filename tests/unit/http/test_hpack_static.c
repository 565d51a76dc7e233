/* test_hpack_static.c: the tables of HPACK agree with each other, and every name is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/hpack_priv.h"

static void rows_of_known_names(void **state) {
  (void)state;
  for (unsigned i = 1; i < HPACK_KNOWN_COUNT; i++) {
    const struct hpack_name *name = &hpack_names[i];
    uint8_t known = 0;
    assert_true(name->text.len > 0);
    assert_int_equal(name->id, http_name_find(name->text));
    assert_int_equal(name->pseudo, hpack_pseudo_find(name->text, &known));
    if (known) assert_true(span_eq(hpack_names[known].text, name->text));
  }
}

/* The encoder's way of each name leads to the first row of the static table that has it. */
static void ways(void **state) {
  (void)state;
  for (unsigned i = HPACK_STATIC_COUNT; i > 0; i--) {
    const struct hpack_name *name = &hpack_names[i];
    if (name->pseudo != PSEUDO_NONE) continue;
    struct hpack_way way = name->id ? hpack_ways[name->id] : hpack_way_other(name->text);
    assert_int_equal(way.index, i);
  }
  for (unsigned id = 1; id < HTTP_NAME_COUNT; id++) {
    unsigned index = hpack_ways[id].index;
    if (index) assert_int_equal(hpack_names[index].id, id);
  }
#define HPACK_PSEUDO(id, name, first, count, policy) \
  for (unsigned i = (first), left = (count); left > 0; i++, left--) \
    assert_int_equal(hpack_names[i].pseudo, HPACK_PSEUDO_##id);
#include "weir/http/hpack_pseudo.def"
#undef HPACK_PSEUDO
}

static unsigned right_slot(struct span n) {
  const unsigned char *p = (const unsigned char *)n.ptr;
  return ((unsigned)n.len * 9 + p[n.len / 2] * 229u + p[n.len - 1] * 215u + p[n.len / 3] * 3u +
          p[n.len - 3] * 7u) &
         255;
}

static void every_other_name_is_found(void **state) {
  (void)state;
#define HPACK_KNOWN(id, index, policy)
#define HPACK_OTHER(text, index_, slot, policy_) \
  if (right_slot(SPAN_LIT(text)) != (slot)) \
    fail_msg("%s: write slot %u in hpack_policy.def", text, right_slot(SPAN_LIT(text))); \
  assert_int_equal(hpack_way_other(SPAN_LIT(text)).index, index_); \
  assert_int_equal(hpack_way_other(SPAN_LIT(text)).policy, HPACK_POLICY_##policy_); \
  assert_int_equal(http_name_find(SPAN_LIT(text)), HTTP_NAME_OTHER);
#include "../../../src/http/hpack_policy.def"
#undef HPACK_OTHER
#undef HPACK_KNOWN
  const char *const none[] = {"", "a", "ag", "agf", "x-api-kez", "if-matci"};
  for (size_t i = 0; i < array_count(none); i++)
    assert_int_equal(hpack_way_other(span_str(none[i])).index, 0);
}

/* Secrets never get an entry. */
static void secrets(void **state) {
  (void)state;
  const enum http_name names[] = {HTTP_NAME_AUTHORIZATION, HTTP_NAME_PROXY_AUTHORIZATION,
                                  HTTP_NAME_COOKIE, HTTP_NAME_SET_COOKIE};
  for (size_t i = 0; i < array_count(names); i++)
    assert_int_equal(hpack_ways[names[i]].policy, HPACK_POLICY_NEVER);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_of_known_names),
      cmocka_unit_test(ways),
      cmocka_unit_test(every_other_name_is_found),
      cmocka_unit_test(secrets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
