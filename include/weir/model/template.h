/* template.h: a text with ${variables} that is filled in for each request. Compiled by config/
 * from what the file says, filled in by filter/expand.c. "$${" stands for a literal "${". */
#ifndef WEIR_MODEL_TEMPLATE_H
#define WEIR_MODEL_TEMPLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/arena.h"
#include "weir/base/span.h"

enum variable {
  VARIABLE_NONE, /* a literal part */
#define VARIABLE(id, name, doc) VARIABLE_##id,
#include "weir/model/variable.def"
#undef VARIABLE
  VARIABLE_COUNT
};

/* TEMPLATE_PARTS_MAX bounds the parts of one; config/ refuses more. */
#define TEMPLATE_PARTS_MAX 32u

/* template_part is literal text, or one variable. */
struct template_part {
  struct span text;
  enum variable variable;
};

/* template is the parts in order; immutable, in the arena of the object that has it. */
struct template {
  const struct template_part *parts;
  uint32_t count;
};

/* variable_find gives the variable of a name (without "${" and "}"), or VARIABLE_NONE. */
enum variable variable_find(struct span name);
/* variable_name is its name; empty for VARIABLE_NONE. */
struct span variable_name(enum variable variable);

/* template_next cuts the next part off *rest; false at the end. A "${" that is not closed or names
 * nothing is a literal part: config/ refuses those before. */
bool template_next(struct span *rest, struct template_part *out);
/* template_count is how many parts a text has. */
uint32_t template_count(struct span text);
/* template_parse cuts text into parts, which are copied into arena (without limit). */
struct template template_parse(struct span text, struct arena *arena);

#endif
