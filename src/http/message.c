/* message.c: field lists, methods and status phrases: what parsers, filters and serialisers of
 * every HTTP version share. Knows no wire format. RFC 9110 sections 5, 9 and 15. */
#include "weir/http/message.h"

#include "message_priv.h"

struct http_field *http_fields_next(const struct http_fields *fields, enum http_name id,
                                    const struct http_field *prev) {
  check(id != HTTP_NAME_OTHER);
  if (!http_fields_has(fields, id)) return NULL;
  uint32_t at = prev ? (uint32_t)(prev - fields->rows) + 1 : 0;
  for (; at < fields->count; at++)
    if (fields->rows[at].id == id) return &fields->rows[at];
  return NULL;
}

struct http_field *http_fields_find(const struct http_fields *fields, enum http_name id) {
  return http_fields_next(fields, id, NULL);
}

struct http_field *http_fields_find_name(const struct http_fields *fields, struct span name) {
  enum http_name id = http_name_find(name);
  if (id != HTTP_NAME_OTHER) return http_fields_find(fields, id);
  for (uint32_t at = 0; at < fields->count; at++)
    if (span_eq_nocase(fields->rows[at].name, name)) return &fields->rows[at];
  return NULL;
}

/* The old rows stay in the arena until it dies. */
bool http_fields_grow(struct http_fields *fields, struct arena *arena) {
  uint32_t cap = fields->cap ? fields->cap * 2 : HTTP_FIELDS_FIRST;
  if (cap <= fields->cap) return false;
  struct http_field *rows = arena_alloc(arena, (size_t)cap * sizeof(*rows));
  if (rows == NULL) return false;
  if (fields->count) memcpy(rows, fields->rows, (size_t)fields->count * sizeof(*rows));
  fields->rows = rows;
  fields->cap = cap;
  return true;
}

bool http_fields_add(struct http_fields *fields, struct arena *arena, struct span name,
                     struct span value) {
  value = span_trim(value);
  if (!http_is_token(name) || !http_is_value(value)) return false;
  struct http_field *row = http_fields_push(fields, arena, http_name_find(name));
  if (row == NULL) return false;
  row->name = name;
  row->value = value;
  row->flags = 0;
  return true;
}

uint32_t http_fields_drop(struct http_fields *fields, struct span name) {
  uint32_t count = 0;
  for (uint32_t at = 0; at < fields->count; at++) {
    if (!span_eq_nocase(fields->rows[at].name, name)) continue;
    fields->rows[at].flags |= HTTP_FIELD_DROP;
    count++;
  }
  return count;
}

struct method_row {
  struct span text;
  bool safe, idempotent, content;
};

static const struct method_row methods[HTTP_METHOD_COUNT] = {
#define METHOD(id, string, is_safe, is_idempotent, has_content) \
  [HTTP_METHOD_##id] = {.text = {string, sizeof(string) - 1}, \
                        .safe = is_safe, \
                        .idempotent = is_idempotent, \
                        .content = has_content},
#include "weir/http/method.def"
#undef METHOD
};

enum http_method http_method_find(struct span text) {
  for (unsigned method = 0; method < HTTP_METHOD_OTHER; method++)
    if (span_eq(methods[method].text, text)) return (enum http_method)method;
  return HTTP_METHOD_OTHER;
}

struct span http_method_text(enum http_method method) {
  check((unsigned)method < HTTP_METHOD_COUNT);
  return methods[method].text;
}

bool http_method_safe(enum http_method method) {
  check((unsigned)method < HTTP_METHOD_COUNT);
  return methods[method].safe;
}

bool http_method_idempotent(enum http_method method) {
  check((unsigned)method < HTTP_METHOD_COUNT);
  return methods[method].idempotent;
}

bool http_method_content(enum http_method method) {
  check((unsigned)method < HTTP_METHOD_COUNT);
  return methods[method].content;
}

struct span http_status_reason(unsigned status) {
  switch (status) {
#define STATUS(code, text) \
  case code: \
    return SPAN_LIT(text);
#include "weir/http/status.def"
#undef STATUS
    default: return SPAN_EMPTY;
  }
}
