/* print_priv.h: writes settings in nested groups, opening and closing groups as paths change. */
#ifndef WEIR_CONFIG_PRINT_PRIV_H
#define WEIR_CONFIG_PRINT_PRIV_H

#include "values_priv.h"

#define PRINT_GROUPS_MAX 4u

struct printer {
  struct text *out;
  uint32_t indent;                      /* levels, open groups included */
  struct span groups[PRINT_GROUPS_MAX]; /* open groups of the row that is printed */
  bool groups_off[PRINT_GROUPS_MAX];    /* they are comments */
  uint32_t depth;
  bool off; /* lines are comments */
};

/* print_groups opens and closes groups so that the last key of a local path can be written; gives
 * that key. */
struct span print_groups(struct printer *p, struct span local);
/* print_path does that and writes the key with " = ". */
void print_path(struct printer *p, struct span local);
/* print_close closes the groups of the row. */
void print_close(struct printer *p);
/* print_line starts a line. */
void print_line(struct printer *p);

#endif
