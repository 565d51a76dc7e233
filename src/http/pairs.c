/* pairs.c: cookies and query parameters by name; what a pair is says pairs.h. Reads what is there,
 * refuses nothing. Called by model/ and upstream/. */
#include "weir/http/pairs.h"

/* cut gives what stands before c and leaves what stands behind it in *rest; false: no c. */
static bool cut(struct span *rest, char c, struct span *before) {
  size_t at = span_find_char(*rest, c, 0);
  *before = span_sub(*rest, 0, at);
  *rest = at == SIZE_MAX ? SPAN_EMPTY : span_from(*rest, at + 1);
  return at != SIZE_MAX;
}

static bool cookie_in(struct span *rest, struct span name, struct span *value) {
  while (rest->len) {
    struct span pair, own;
    (void)cut(rest, ';', &pair);
    if (!cut(&pair, '=', &own) || !span_eq(span_trim(own), name)) continue;
    *value = span_trim(pair);
    return true;
  }
  return false;
}

bool http_cookie_next(struct http_cookies *at, const struct http_fields *fields, struct span name,
                      struct span *value) {
  if (!http_fields_has(fields, HTTP_NAME_COOKIE)) return false;
  while (!cookie_in(&at->rest, name, value)) { /* each turn uses up a row */
    at->row = http_fields_next(fields, HTTP_NAME_COOKIE, at->row);
    if (!at->row) return false;
    if (http_field_passed_on(at->row)) at->rest = at->row->value;
  }
  return true;
}

/* ---- forms ---- */

char http_form_byte(struct span *raw) {
  char c = raw->ptr[0];
  size_t len = 1;
  if (c == '+') c = ' ';
  if (c == '%' && raw->len >= 3) {
    int high = ascii_hex(raw->ptr[1]), low = ascii_hex(raw->ptr[2]);
    if (high >= 0 && low >= 0) {
      c = (char)(high * 16 + low);
      len = 3;
    }
  }
  *raw = span_from(*raw, len);
  return c;
}

bool http_form_starts(struct span raw, struct span text, bool whole) {
  for (size_t i = 0; i < text.len; i++)
    if (!raw.len || http_form_byte(&raw) != text.ptr[i]) return false;
  return !whole || !raw.len;
}

bool http_query_next(struct span *rest, struct span name, struct span *value) {
  while (rest->len) {
    struct span pair, own;
    (void)cut(rest, '&', &pair);
    if (!pair.len) continue;
    (void)cut(&pair, '=', &own);
    if (!http_form_starts(own, name, true)) continue;
    *value = pair;
    return true;
  }
  return false;
}
