/* test_template.c: how texts are cut into literals and variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "weir/base/buf.h"
#include "weir/model/template.h"

/* Parts are shown as 'literal' or <variable>. */
static const struct {
  const char *text, *parts;
} rows[] = {
    {"", ""},
    {"x", "'x'"},
    {"${request.host}", "<request.host>"},
    {"https://${request.host}${request.path}", "'https://'<request.host><request.path>"},
    {"a ${trace_id} b", "'a '<trace_id>' b'"},
    {"$${request.host}", "'${request.host}'"},
    {"x$${request.host}y", "'x''${request.host}y'"},
    {"$$${request.host}", "'$''${request.host}'"},
    {"$$${a}$${b}", "'$''${a}''${b}'"},
    {"${unknown}", "'${unknown}'"}, /* config/ refuses it before */
    {"${request.host", "'${request.host'"},
    {"$", "'$'"},
    {"${", "'${'"},
    {"${}", "'${}'"},
    {"$${", "'${'"},
    {"${env:A}", "'${env:A}'"},
    {"${REQUEST.HOST}", "'${REQUEST.HOST}'"},
};

static void parts_table(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) {
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct text shown = {0};
    struct template t = template_parse(span_str(rows[i].text), &arena);
    assert_int_equal(t.count, template_count(span_str(rows[i].text)));
    for (uint32_t k = 0; k < t.count; k++) {
      const struct template_part *part = &t.parts[k];
      if (part->variable == VARIABLE_NONE)
        text_printf(&shown, "'" SPAN_FMT "'", SPAN_ARG(part->text));
      else
        text_printf(&shown, "<" SPAN_FMT ">", SPAN_ARG(variable_name(part->variable)));
    }
    if (!span_eq(text_span(&shown), span_str(rows[i].parts)))
      fail_msg("%s: " SPAN_FMT, rows[i].text, SPAN_ARG(text_span(&shown)));
    text_fini(&shown);
    arena_reset(&arena);
  }
}

static void names_find_themselves(void **state) {
  (void)state;
  for (unsigned v = VARIABLE_NONE + 1; v < VARIABLE_COUNT; v++)
    assert_int_equal(variable_find(variable_name((enum variable)v)), v);
  assert_int_equal(variable_find(SPAN_EMPTY), VARIABLE_NONE);
  assert_int_equal(variable_name(VARIABLE_NONE).len, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parts_table),
      cmocka_unit_test(names_find_themselves),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
