/* h1_head.c: the field section of a head, and how far it has been read (RFC 9112 section 5). One
 * pass over the bytes; a call that stops for want of bytes remembers where, so that the next goes
 * on from there. Knows neither framing nor start lines. Called by h1_request.c and h1_response.c.
 */
#include "h1_head_priv.h"

#include "bytes_priv.h"
#include "message_priv.h"

/* faults of a head that both sides have, with their words. */
enum fault {
  FAULT_NAME,
  FAULT_VALUE,
  FAULT_FOLD,
  FAULT_LINE_END,
  FAULT_BYTES,
  FAULT_COUNT,
  FAULTS
};

static const enum end causes[2][FAULTS] = {
    [H1_REQUEST] = {END_BAD_REQUEST_FIELD_NAME, END_BAD_REQUEST_FIELD_VALUE,
                    END_BAD_REQUEST_OBS_FOLD, END_BAD_REQUEST_LINE_END, END_LIMIT_HEADER_BYTES,
                    END_LIMIT_HEADERS},
    [H1_RESPONSE] = {END_BAD_RESPONSE_FIELD_NAME, END_BAD_RESPONSE_FIELD_VALUE,
                     END_BAD_RESPONSE_OBS_FOLD, END_BAD_RESPONSE_LINE_END,
                     END_BAD_RESPONSE_HEADER_BYTES, END_BAD_RESPONSE_HEADERS},
};

static enum http_result bad(struct h1_reader *r, enum fault fault) {
  return h1_fail(r, causes[r->side][fault]);
}

/* moved gives a span at its place in input that was copied elsewhere. Only addresses are used: the
 * old memory may be gone. */
static struct span moved(struct span s, uintptr_t from, const char *to) {
  if (s.ptr == NULL) return s;
  return span_of(to + ((uintptr_t)s.ptr - from), s.len);
}

static void rebase(struct h1_scan *scan, const char *to) {
  uintptr_t from = (uintptr_t)scan->base;
  scan->first = moved(scan->first, from, to);
  scan->second = moved(scan->second, from, to);
  for (uint32_t i = 0; i < scan->fields.count; i++) {
    struct http_field *row = &scan->fields.rows[i];
    row->name = moved(row->name, from, to);
    row->value = moved(row->value, from, to);
  }
}

void h1_reader_init(struct h1_reader *r, struct span input) {
  check(r->limits->header_bytes <= (uint32_t)1 << 30); /* offsets are 32-bit */
  check(r->scan->scanned <= input.len);                /* input never shrinks */
  if (r->scan->base != NULL && r->scan->base != input.ptr) rebase(r->scan, input.ptr);
  r->scan->base = input.ptr;
  r->p = input.ptr;
  r->capped = input.len >= r->limits->header_bytes;
  r->len = r->capped ? r->limits->header_bytes : input.len;
}

enum http_result h1_more(struct h1_reader *r, size_t scanned) {
  if (r->capped) return bad(r, FAULT_BYTES);
  r->scan->scanned = (uint32_t)scanned;
  return HTTP_MORE;
}

enum http_result h1_match(const struct h1_reader *r, size_t start, struct span pattern) {
  size_t have = r->len - start < pattern.len ? r->len - start : pattern.len;
  for (size_t i = 0; i < have; i++) {
    char c = r->p[start + i];
    bool fits = pattern.ptr[i] == '0' ? c >= '0' && c <= '9' : c == pattern.ptr[i];
    if (!fits) return HTTP_BAD;
  }
  return have == pattern.len ? HTTP_DONE : HTTP_MORE;
}

/* read_line_end reads the CRLF at `at` and starts the next line. */
static enum http_result read_line_end(struct h1_reader *r, size_t at, enum h1_step next) {
  if (at + 1 == r->len) return h1_more(r, at);
  if (r->p[at + 1] != '\n') return bad(r, FAULT_LINE_END);
  h1_advance(r, next, at + 2);
  return HTTP_DONE;
}

/* bad_name tells what is wrong at `at`, where neither a name nor a colon goes on. */
static enum http_result bad_name(struct h1_reader *r, size_t at) {
  char c = r->p[at];
  if (c == '\n') return bad(r, FAULT_LINE_END);
  bool folded = at == r->scan->start && (c == ' ' || c == '\t') && r->scan->fields.count > 0;
  return bad(r, folded ? FAULT_FOLD : FAULT_NAME);
}

/* read_name reads a field name and its colon, or the empty line that ends the head. */
static enum http_result read_name(struct h1_reader *r) {
  struct h1_scan *scan = r->scan;
  size_t at = scan->scanned;
  unsigned seen = scan->name_class;
  while (at < r->len && (byte_class(r->p[at]) & BYTE_TOKEN)) seen |= byte_class(r->p[at++]);
  scan->name_class = (uint8_t)seen;
  if (at == r->len) return h1_more(r, at);
  if (r->p[at] == ':' && at > scan->start) {
    if (scan->fields.count >= r->limits->headers) return bad(r, FAULT_COUNT);
    scan->name_len = (uint32_t)(at - scan->start);
    scan->scanned = (uint32_t)(at + 1);
    scan->step = H1_STEP_VALUE;
    return HTTP_DONE;
  }
  if (r->p[at] == '\r' && at == scan->start) return read_line_end(r, at, H1_STEP_END);
  return bad_name(r, at);
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* add_row takes the value that ends before `end` and the name before it. */
static bool add_row(struct h1_reader *r, size_t end) {
  struct h1_scan *scan = r->scan;
  size_t from = (size_t)scan->start + scan->name_len + 1;
  while (from < end && is_blank(r->p[from])) from++;
  while (end > from && is_blank(r->p[end - 1])) end--;
  struct span name = span_of(r->p + scan->start, scan->name_len);
  enum http_name id = http_name_find(name);
  struct http_field *row = http_fields_push(&scan->fields, r->arena, id);
  if (row == NULL) return false;
  row->name.ptr = name.ptr;
  row->name.len = name.len;
  row->value.ptr = r->p + from;
  row->value.len = end - from;
  bool underscore = scan->name_class & BYTE_UNDERSCORE;
  row->flags = http_row_flags(r->side == H1_REQUEST, name, id, underscore);
  return true;
}

/* read_value reads a field value to the end of its line. */
static enum http_result read_value(struct h1_reader *r) {
  size_t at = bytes_value_end(r->p, r->scan->scanned, r->len);
  if (at == r->len) return h1_more(r, at);
  if (r->p[at] == '\n') return bad(r, FAULT_LINE_END);
  if (r->p[at] != '\r') return bad(r, FAULT_VALUE);
  if (at + 1 == r->len) return h1_more(r, at);
  if (r->p[at + 1] != '\n') return bad(r, FAULT_LINE_END);
  if (!add_row(r, at)) return h1_fail(r, END_LIMIT_STREAM_MEMORY);
  r->scan->name_class = 0;
  h1_advance(r, H1_STEP_NAME, at + 2);
  return HTTP_DONE;
}

enum http_result h1_read_fields(struct h1_reader *r) {
  while (r->scan->step != H1_STEP_END) { /* each turn reads at least a byte or returns */
    enum http_result result = r->scan->step == H1_STEP_NAME ? read_name(r) : read_value(r);
    if (result != HTTP_DONE) return result;
  }
  return HTTP_DONE;
}

struct http_fields h1_take_fields(struct h1_reader *r) {
  struct http_fields fields = r->scan->fields;
  size_t row = sizeof(struct http_field);
  if (fields.cap > 0) arena_shrink(r->arena, fields.rows, fields.cap * row, fields.count * row);
  fields.cap = fields.count;
  return fields;
}
