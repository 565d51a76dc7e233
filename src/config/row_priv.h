/* row_priv.h: what every row of the typed configuration has: options and scopes by number, where
 * its values came from, lists. The rows themselves are rows_priv.h. */
#ifndef WEIR_CONFIG_ROW_PRIV_H
#define WEIR_CONFIG_ROW_PRIV_H

#include "conf_priv.h"

enum option_id {
#define OPTION(id, scope, path, type, min, max, words, def, example, member, flags, doc) \
  OPTION_##id,
#include "weir/config/options.def"
  OPTION_COUNT
};

enum scope_id {
#define SCOPE(id, path, type, first, last) SCOPE_##id,
#include "weir/config/options.def"
  SCOPE_COUNT
};

/* conf_origin says where a value came from. */
struct conf_origin {
  const struct node *node; /* NULL: the default */
  struct span env;         /* a variable that was used in it */
  bool lost; /* what was meant is not known: it was refused, or its key is misspelt (doubt.c) */
};

/* conf_row heads every scope's struct. */
struct conf_row {
  struct conf_row *next, *parent;
  enum scope_id scope;
  struct span name;            /* of listeners, pools, policies: their key */
  struct place at;             /* the key, or the element in a list */
  struct conf_origin *origins; /* by option within the scope */
  bool strays, stray_group;    /* keys, or a group, whose meaning nobody knows */
};

struct conf_rows {
  struct conf_row *first, *last;
  uint32_t count;
};
#define rows_each(rows, type, it) \
  for (type *it = (type *)(rows)->first; it; it = (type *)it->row.next)

/* conf_row_any is a row of any scope. */
struct conf_row_any {
  struct conf_row row;
};

struct value; /* options_priv.h */

/* conf_list is the value of an option with OPTION_LIST. */
struct conf_item {
  struct span text;
  struct place at;
};
struct conf_list {
  struct conf_item *items;
  uint32_t count;
};

#endif
