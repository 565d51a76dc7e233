/* tree_priv.h: texts, places in them, and the tree that parse.c makes of one. */
#ifndef WEIR_CONFIG_TREE_PRIV_H
#define WEIR_CONFIG_TREE_PRIV_H

#include "weir/base/arena.h"
#include "weir/config/config.h"

/* ---- where something stands ---- */

/* source is one text. It lives as long as its conf. */
struct source {
  struct source *next;
  struct span path; /* as opened, for messages */
  struct span text;
  struct node *root; /* parsed; a group */
  /* doubt_from: a bracket at this offset (plus 1; 0: none) is not closed, and nothing tells where
   * it should be: what keys and values mean behind it is not judged. */
  uint32_t doubt_from;
};

/* place is bytes [offset, offset+len) of a source. src NULL: nowhere (a default). */
struct place {
  const struct source *src;
  uint32_t offset, len;
  uint32_t line; /* from 1 */
};

/* place_column counts from 1, in characters (UTF-8 code points; a tab is one). */
uint32_t place_column(const struct place *at);
/* place_short writes "weir.conf:30": the file's base name and line. */
void place_short(const struct place *at, struct buf *out);

/* ---- the tree ---- */

enum node_kind { NODE_GROUP, NODE_ARRAY, NODE_LIST, NODE_STRING, NODE_INT, NODE_BOOL };

/* node is one setting, or one element of a list. Made by parse.c, checked against libconfig. */
struct node {
  struct node *parent, *next, *first, *last;
  enum node_kind kind;
  bool is_long;        /* NODE_INT with suffix L */
  bool suspect;        /* its bracket was not closed: keys in it may belong elsewhere */
  bool boolean;        /* NODE_BOOL */
  uint32_t count;      /* children */
  uint32_t indent;     /* blanks at the beginning of the line of key_at; at most INDENT_MAX */
  int64_t integer;     /* NODE_INT */
  struct span key;     /* empty in lists and arrays */
  struct span meant;   /* what apply.c takes a misspelt key for; else empty */
  struct span string;  /* NODE_STRING: escapes resolved, ${env:} not */
  struct place key_at; /* the key; in lists the element */
  struct place at;     /* the value; of groups and lists the opening bracket */
};

const char *node_kind_text(enum node_kind kind);
struct node *node_find(const struct node *group, struct span key);

#define TREE_DEPTH_MAX 32u
#define INDENT_MAX 1000u /* further right the layout tells nothing */

/* parse_source builds src->root in arena and reports every fault; true when there was none. The
 * tree is usable in any case: what was broken is left out. */
bool parse_source(struct source *src, struct arena *arena, struct conf_faults *faults);

/* read_source lets libconfig read the text (only after parse_source found no fault); NULL and
 * *line when it refuses. Places are not set. */
struct node *read_source(const struct source *src, struct arena *arena, uint32_t *line);
/* tree_same compares two trees by keys, kinds and values; *where is the first node of a that
 * differs. */
bool tree_same(const struct node *a, const struct node *b, const struct node **where);

#endif
