/* test_end.c: the words of end.def are unique, found again, and in the form that users grep for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/end.h"

static void end_words(void **state) {
  (void)state;
  for (unsigned e = 0; e < END_COUNT; e++) {
    const struct end_row *row = end_get((enum end)e);
    enum end found = END_COUNT;
    assert_true(end_find(row->word, &found));
    assert_int_equal(found, e);
    assert_true(row->detail.len > 0);
    assert_true(e == END_OK || span_find_char(row->word, '.', 0) != SIZE_MAX);
    assert_true(row->status == 0 || (row->status >= 400 && row->status <= 599));
  }
  enum end untouched = END_DRAIN;
  assert_false(end_find(SPAN_LIT("no.such"), &untouched));
  assert_int_equal(untouched, END_DRAIN);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(end_words),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
