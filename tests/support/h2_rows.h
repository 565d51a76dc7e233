/* h2_rows.h: a field section from text, as an HPACK decoder would deliver it, without its checks.
 * Used by test_h2_message.c and fuzz_h2_message.c. */
#ifndef WEIR_TESTS_H2_ROWS_H
#define WEIR_TESTS_H2_ROWS_H

#include "weir/http/h2_message.h"

static inline void h2_rows_add(struct h2_section *s, struct arena *arena, struct span name,
                               struct span value) {
  struct http_fields *f = &s->fields;
  if (name.len > 0 && name.ptr[0] == ':') {
    enum h2_pseudo_id id = h2_pseudo_find(name);
    if (id == H2_PSEUDO_COUNT)
      s->pseudo.faults |= H2_FAULT_UNKNOWN;
    else
      h2_pseudo_put(&s->pseudo, id, value, f->count > 0);
    return;
  }
  enum http_name id = http_name_find(name);
  uint64_t bit = id == HTTP_NAME_OTHER ? 0 : (uint64_t)1 << id;
  struct http_field *rows = arena_alloc(arena, sizeof(*rows) * (f->count + 1));
  check(rows != NULL);
  if (f->count) memcpy(rows, f->rows, sizeof(*rows) * f->count);
  rows[f->count] = (struct http_field){.name = name, .value = value, .id = (uint16_t)id};
  f->rows = rows;
  f->cap = ++f->count;
  f->repeated |= f->present & bit;
  f->present |= bit;
}

/* h2_rows_read: fields end in field_end (the last one may not), names in name_end. */
static inline struct h2_section h2_rows_read(struct span text, char field_end, char name_end,
                                             struct arena *arena) {
  struct h2_section s = {.end_stream = false};
  while (text.len > 0) {
    size_t end = span_find_char(text, field_end, 0);
    if (end == SIZE_MAX) end = text.len;
    struct span field = span_sub(text, 0, end);
    text = span_from(text, end + 1);
    size_t name = span_find_char(field, name_end, 0);
    if (name == SIZE_MAX) name = field.len;
    h2_rows_add(&s, arena, span_sub(field, 0, name), span_from(field, name + 1));
  }
  return s;
}

#endif
