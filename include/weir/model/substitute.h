/* substitute.h: a text with ${0} to ${9}, the groups of a regular expression that matched ("${0}"
 * is the whole match); "$${" stands for a literal "${". Checked and compiled by config/, filled in
 * by filter/rewrite.c. */
#ifndef WEIR_MODEL_SUBSTITUTE_H
#define WEIR_MODEL_SUBSTITUTE_H

#include "weir/base/arena.h"
#include "weir/base/span.h"

#define SUBSTITUTE_TEXT (-1) /* group of a literal part */

/* substitute_part is literal text, or one group. */
struct substitute_part {
  struct span text;
  int group; /* 0 to 9, or SUBSTITUTE_TEXT */
};

/* substitute_group reads the inside of "${...}" as a group; SUBSTITUTE_TEXT when it is none. */
int substitute_group(struct span inside);
/* substitute_next cuts the next part off *rest; false at the end. A "${" that names no group is a
 * literal part: config/ refuses those before. */
bool substitute_next(struct span *rest, struct substitute_part *out);

#endif
