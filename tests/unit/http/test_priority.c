/* test_priority.c: values of the Priority field by RFC 9218 section 4 and RFC 8941. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/http/priority.h"

/* priority_case: urgency 9 stands for "no dictionary". */
struct priority_case {
  const char *value;
  int urgency, incremental;
};

static const struct priority_case cases[] = {
    {"", 3, 0},
    {"  ", 3, 0},
    {"u=0", 0, 0},
    {"u=7, i", 7, 1},
    {"i,u=5", 5, 1},
    {" u=1 ,\ti ", 1, 1},
    {"i=?0", 3, 0},
    {"i=?1", 3, 1},
    {"u=2;x=y;z, i;q", 2, 1},
    {"u=1, u=6", 6, 0},
    {"u=-0", 0, 0},
    /* ignored: ranges, types, other members */
    {"u=8", 3, 0},
    {"u=-1", 3, 0},
    {"u=1.0", 3, 0},
    {"u=999999999999999", 3, 0},
    {"u", 3, 0},
    {"u=\"1\"", 3, 0},
    {"u=?1", 3, 0},
    {"i=1", 3, 0},
    {"i=x", 3, 0},
    {"*a.b-c_d=tok/en:x, u=4", 4, 0},
    {"a=\"q\\\"\\\\, u=1\", u=5", 5, 0},
    {"a=:YQ==:, u=5", 5, 0},
    {"a=(1 \"x\" tok;p=1 );q=2, u=5", 5, 0},
    {"a=(), i", 3, 1},
    {"u=(1)", 3, 0},
    /* no dictionaries */
    {"u=1,", 9, 0},
    {",u=1", 9, 0},
    {"u=1,,i", 9, 0},
    {"u=1 i", 9, 0},
    {"U=1", 9, 0},
    {"u=", 9, 0},
    {"u=-", 9, 0},
    {"u=1.", 9, 0},
    {"u=1.2345", 9, 0},
    {"u=1234567890123456", 9, 0},
    {"u=1234567890123.1", 9, 0},
    {"u = 1", 9, 0},
    {"i=?2", 9, 0},
    {"i=?", 9, 0},
    {"a=\"x", 9, 0},
    {"a=\"x\\", 9, 0},
    {"a=\"\\x\"", 9, 0},
    {"a=:x", 9, 0},
    {"a=:?:", 9, 0},
    {"a=(1", 9, 0},
    {"a=(1\"x\")", 9, 0},
    {"a=((1))", 9, 0},
    {"a;=1", 9, 0},
    {"a; =1", 9, 0},
    {"\tu=1", 9, 0},
    {"1=1", 9, 0},
    {"a=\x01", 9, 0},
};

static void values(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(cases); i++) {
    struct http_priority p = HTTP_PRIORITY_DEFAULT;
    bool ok = http_priority_parse(span_str(cases[i].value), &p);
    int urgency = ok ? p.urgency : 9;
    if (urgency != cases[i].urgency || p.incremental != cases[i].incremental)
      fail_msg("'%s': %d %d", cases[i].value, urgency, p.incremental);
    if (!ok) assert_int_equal(p.urgency, 3);
  }
}

/* A NUL is no end; what one value does not say stays as the one before said it. */
static void edges(void **state) {
  (void)state;
  struct http_priority p = HTTP_PRIORITY_DEFAULT;
  assert_true(http_priority_parse(SPAN_LIT("u=1, i"), &p));
  assert_true(http_priority_parse(SPAN_LIT("u=2"), &p));
  assert_true(p.urgency == 2 && p.incremental);
  assert_false(http_priority_parse(SPAN_LIT("u=1\0"), &p));
  assert_false(http_priority_parse(SPAN_LIT("\0"), &p));
  assert_false(http_priority_parse(SPAN_LIT("a\0=1"), &p));
  assert_false(http_priority_parse(SPAN_LIT("a=x\0"), &p));
  assert_int_equal(p.urgency, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values),
      cmocka_unit_test(edges),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
