/* h1_invariants.h: what must hold of every message that the h1 parsers accept. Used by the fuzz
 * targets fuzz_h1_request.c and fuzz_h1_response.c; a broken one aborts (check). */
#ifndef WEIR_FUZZ_H1_INVARIANTS_H
#define WEIR_FUZZ_H1_INVARIANTS_H

#include <stdlib.h>

#include "weir/http/h1.h"

/* show_more is the beginning of input, longer than the *shown bytes that block has by `piece` (0:
 * by all that is left), in memory of just its size that stands elsewhere: a parser that keeps
 * pointers, or looks beyond, is seen. block is freed. */
static inline char *show_more(char *block, struct span input, size_t piece, size_t *shown) {
  *shown = piece == 0 || piece > input.len - *shown ? input.len : *shown + piece;
  char *moved = malloc(*shown + (*shown == 0));
  check(moved != NULL);
  if (*shown) memcpy(moved, input.ptr, *shown);
  free(block);
  return moved;
}

/* inside tells whether s lies within the bytes of whole (or is empty). */
static inline bool inside(struct span s, struct span whole) {
  return s.len == 0 || ((uintptr_t)s.ptr >= (uintptr_t)whole.ptr &&
                        (uintptr_t)s.ptr + s.len <= (uintptr_t)whole.ptr + whole.len);
}

/* clean: no byte that could end a line or a string. */
static inline bool clean(struct span s) {
  return span_find_char(s, '\r', 0) == SIZE_MAX && span_find_char(s, '\n', 0) == SIZE_MAX &&
         span_find_char(s, 0, 0) == SIZE_MAX;
}

static inline void check_fields(const struct http_fields *fields, struct span head) {
  uint64_t present = 0, repeated = 0;
  for (uint32_t i = 0; i < fields->count; i++) {
    const struct http_field *row = &fields->rows[i];
    check(inside(row->name, head) && inside(row->value, head));
    check(http_is_token(row->name) && clean(row->value));
    check(span_eq(span_trim(row->value), row->value));
    check(http_name_find(row->name) == row->id);
    if (row->id == HTTP_NAME_OTHER) continue;
    uint64_t bit = (uint64_t)1 << row->id;
    repeated |= present & bit;
    present |= bit;
  }
  check(fields->present == present && fields->repeated == repeated);
}

/* same_written: the rows that are written are the same in both, in order. */
static inline void check_same_written(const struct http_fields *a, const struct http_fields *b) {
  uint32_t at = 0;
  for (uint32_t i = 0; i < a->count; i++) {
    if (a->rows[i].flags != 0) continue;
    while (at < b->count && b->rows[at].flags != 0) at++;
    check(at < b->count);
    check(span_eq(a->rows[i].name, b->rows[at].name));
    check(span_eq(a->rows[i].value, b->rows[at].value));
    at++;
  }
}

#endif
