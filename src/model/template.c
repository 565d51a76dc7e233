/* template.c: texts with ${variables}: cut into parts once, when a generation is compiled. What a
 * variable's value is stands in filter/expand.c. Called by config/. */
#include "weir/model/template.h"

static const struct span names[VARIABLE_COUNT] = {
#define VARIABLE(id, name, doc) [VARIABLE_##id] = {name, sizeof(name) - 1},
#include "weir/model/variable.def"
#undef VARIABLE
};

enum variable variable_find(struct span name) {
  for (unsigned v = VARIABLE_NONE + 1; v < VARIABLE_COUNT; v++)
    if (span_eq(names[v], name)) return (enum variable)v;
  return VARIABLE_NONE;
}

struct span variable_name(enum variable variable) {
  check((unsigned)variable < VARIABLE_COUNT);
  return names[variable];
}

/* variable_at reads "${name}" at the start of s; its length, or 0. */
static size_t variable_at(struct span s, enum variable *out) {
  if (!span_starts(s, SPAN_LIT("${"))) return 0;
  size_t end = span_find_char(s, '}', 2);
  if (end == SIZE_MAX) return 0;
  *out = variable_find(span_sub(s, 2, end - 2));
  return *out == VARIABLE_NONE ? 0 : end + 1;
}

bool template_next(struct span *rest, struct template_part *out) {
  *out = (struct template_part){.variable = VARIABLE_NONE};
  if (!rest->len) return false;
  size_t used = variable_at(*rest, &out->variable), at = 0;
  if (used) {
    *rest = span_from(*rest, used);
    return true;
  }
  if (span_starts(*rest, SPAN_LIT("$${"))) { /* the literal begins with the second $ */
    *rest = span_from(*rest, 1);
    at = 2;
  } else {
    at = 1;
  }
  enum variable next;
  while (at < rest->len && !span_starts(span_from(*rest, at), SPAN_LIT("$${")) &&
         !variable_at(span_from(*rest, at), &next))
    at++;
  out->text = span_sub(*rest, 0, at);
  *rest = span_from(*rest, at);
  return true;
}

uint32_t template_count(struct span text) {
  struct template_part part;
  uint32_t count = 0;
  while (template_next(&text, &part)) count++;
  return count;
}

struct template template_parse(struct span text, struct arena *arena) {
  struct span rest = text;
  uint32_t count = template_count(text);
  struct template_part *parts = arena_zalloc(arena, (count + 1) * sizeof *parts);
  check(parts != NULL);
  for (uint32_t i = 0; i < count; i++) {
    check(template_next(&rest, &parts[i]));
    parts[i].text = arena_copy(arena, parts[i].text, NULL);
  }
  return (struct template){parts, count};
}
