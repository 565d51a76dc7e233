/* view_priv.h: the state of a running weir as a few tables of cells; written as a page, as text
 * for a terminal and as JSON. view.c fills, view_write.c writes. */
#ifndef WEIR_CONTROL_VIEW_PRIV_H
#define WEIR_CONTROL_VIEW_PRIV_H

#include "control/metrics_priv.h"
#include "weir/base/arena.h"

#define VIEW_COLUMNS_MAX 12u
#define VIEW_TABLES 9u
/* Rows shown per table; the rest is in /metrics. */
#define VIEW_ROWS_MAX 500u

struct view_column {
  const char *key;   /* JSON */
  const char *title; /* page and terminal */
  bool number;       /* JSON without quotes; right-aligned */
};

struct view_table {
  const char *key, *title;
  const struct view_column *columns;
  uint32_t column_count;
  struct span *cells; /* row by row */
  uint32_t row_count, row_cap;
  uint32_t left_out;
};

struct view {
  struct arena arena;
  struct view_table tables[VIEW_TABLES];
};

void view_init(struct view *v, const struct metrics_input *in, const char *phase);
void view_fini(struct view *v);

void view_write_text(struct text *out, const struct view *v);
void view_write_json(struct text *out, const struct view *v);
/* view_write_page: nonce is the one of the Content-Security-Policy. */
void view_write_page(struct text *out, const struct view *v, struct span nonce);

#endif
