/* message_priv.h: what the parsers of http/ need of a field list beyond message.h. */
#ifndef WEIR_HTTP_MESSAGE_PRIV_H
#define WEIR_HTTP_MESSAGE_PRIV_H

#include "weir/http/message.h"

/* HTTP_FIELDS_FIRST rows are made room for at first: most heads have fewer. */
#define HTTP_FIELDS_FIRST 24u

/* HTTP_METHOD_LEN_MAX: the longest registered method has 17. */
#define HTTP_METHOD_LEN_MAX 32u

/* http_row_flags says why a field of this name is not passed on, if so. request: of a request;
 * underscore: the name has one. */
static inline uint16_t http_row_flags(bool request, struct span name, enum http_name id,
                                      bool underscore) {
  unsigned of_name = http_name_flags(id), flags = 0;
  if (of_name & HTTP_NAME_HOP) flags |= HTTP_FIELD_HOP;
  if (of_name & HTTP_NAME_OWN) flags |= HTTP_FIELD_OWN;
  if (!request) return (uint16_t)flags;
  if (of_name & HTTP_NAME_FORWARDING) flags |= HTTP_FIELD_FORWARDING;
  if (id != HTTP_NAME_OTHER) return (uint16_t)flags;
  if (underscore && http_name_shadows(name)) return HTTP_FIELD_ALIAS;
  return http_name_speaks_for(name) ? HTTP_FIELD_FORWARDING : 0;
}

/* http_fields_grow makes room for one more row at least; false: the arena is used up. */
MUST_USE bool http_fields_grow(struct http_fields *fields, struct arena *arena);

/* http_fields_push appends a row whose members but id the caller then sets, unchecked, in place (a
 * row built elsewhere and copied costs a store-forwarding stall per field). NULL: the arena is
 * used up. */
static inline struct http_field *http_fields_push(struct http_fields *fields, struct arena *arena,
                                                  enum http_name id) {
  if (__builtin_expect(fields->count == fields->cap, 0) && !http_fields_grow(fields, arena))
    return NULL;
  struct http_field *row = &fields->rows[fields->count++];
  uint64_t bit = ((uint64_t)1 << id) & ~(uint64_t)1; /* none for OTHER */
  fields->repeated |= fields->present & bit;
  fields->present |= bit;
  row->id = (uint16_t)id;
  row->secret = false;
  return row;
}

#endif
