/* trailer.c: trailer sections of every version: parsed as fields, and judged: what may not stand
 * there is dropped, not refused (RFC 9110 section 6.5.1). Called by proxy/, and by h2_message.c.
 * RFC 9112 section 7.1.2. */
#include "weir/http/trailer.h"

#include "framing_priv.h"
#include "h1_head_priv.h"

/* forbidden: by its name, also by what a backend makes of it that reads _ as -. */
static bool forbidden(const struct http_field *row) {
  if (row->id != HTTP_NAME_OTHER)
    return http_name_flags((enum http_name)row->id) & HTTP_NAME_NO_TRAILER;
  if (http_name_speaks_for(row->name)) return true;
  return http_name_flags(http_name_alias(row->name)) & HTTP_NAME_NO_TRAILER;
}

void http_trailers_judge(struct http_fields *trailers) {
  for (uint32_t i = 0; i < trailers->count; i++)
    if (forbidden(&trailers->rows[i])) trailers->rows[i].flags |= HTTP_FIELD_DROP;
}

bool http_trailers_fit(const struct http_fields *trailers) {
  size_t bytes = 0;
  if (trailers->count > H1_TRAILER_COUNT_MAX) return false;
  for (uint32_t i = 0; i < trailers->count; i++)
    bytes += trailers->rows[i].name.len + trailers->rows[i].value.len;
  return bytes <= H1_TRAILER_BYTES_MAX;
}

bool http_trailers_any(const struct http_fields *trailers) {
  for (uint32_t i = 0; i < trailers->count; i++)
    if (http_field_written(&trailers->rows[i])) return true;
  return false;
}

bool http_takes_trailers(const struct http_fields *request) {
  const struct http_field *row = http_fields_find(request, HTTP_NAME_TE);
  for (; row != NULL; row = http_fields_next(request, HTTP_NAME_TE, row)) {
    struct span rest = row->value, coding;
    while (row->flags == HTTP_FIELD_HOP && span_next_token(&rest, ',', &coding))
      if (span_eq_nocase(coding, SPAN_LIT("trailers"))) return true;
  }
  return false;
}

bool h1_parse_trailers(const struct h1_trailer_lines *in, struct arena *arena,
                       struct http_fields *out, enum end *why) {
  static const enum end causes[] = {[H1_REQUEST] = END_BAD_REQUEST_TRAILER,
                                    [H1_RESPONSE] = END_BAD_RESPONSE_TRAILER};
  const struct h1_limits limits = {H1_TRAILER_LINES_MAX, H1_TRAILER_COUNT_MAX, 0};
  struct h1_scan scan = {.step = H1_STEP_NAME};
  struct h1_reader r = {.scan = &scan, .limits = &limits, .arena = arena, .side = in->side};
  h1_reader_init(&r, in->lines);
  if (h1_read_fields(&r) != HTTP_DONE) {
    *why = r.why == END_LIMIT_STREAM_MEMORY ? r.why : causes[in->side];
    return false;
  }
  struct http_fields fields = h1_take_fields(&r);
  framing_nominated(in->head, &fields);
  http_trailers_judge(&fields);
  *out = fields;
  return true;
}
