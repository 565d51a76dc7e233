/* h1_response.c: response heads: the status line (RFC 9112 section 4), then fields and framing. An
 * upstream is as untrusted as a client. A 1xx is a message of its own. Called by the h1 back of
 * proxy/, with all bytes of the head so far. */
#include "bytes_priv.h"
#include "framing_priv.h"
#include "h1_head_priv.h"

enum { VERSION_LEN = 8, STATUS_END = 12 }; /* of "HTTP/1.1 200" */

/* read_status reads version and status code. "HTTP/1.1 200 CRLF" without the second space is
 * taken: RFC 9112 section 4 lets white space be parsed leniently, and nothing depends on it. */
static enum http_result read_status(struct h1_reader *r) {
  struct h1_scan *scan = r->scan;
  if (h1_match(r, 0, SPAN_LIT("HTTP/0.0")) == HTTP_DONE && r->p[5] != '1')
    return h1_fail(r, END_BAD_RESPONSE_VERSION);
  enum http_result result = h1_match(r, 0, SPAN_LIT("HTTP/0.0 000"));
  if (result == HTTP_BAD) return h1_fail(r, END_BAD_RESPONSE_STATUS_LINE);
  if (result == HTTP_MORE || r->len == STATUS_END) return h1_more(r, scan->scanned);
  const char *code = r->p + VERSION_LEN + 1;
  unsigned status =
      (unsigned)(code[0] - '0') * 100 + (unsigned)(code[1] - '0') * 10 + (unsigned)(code[2] - '0');
  if (status < 100 || status > 599) return h1_fail(r, END_BAD_RESPONSE_STATUS);
  char after = r->p[STATUS_END];
  if (after == '\n') return h1_fail(r, END_BAD_RESPONSE_LINE_END);
  if (after != ' ' && after != '\r') return h1_fail(r, END_BAD_RESPONSE_STATUS_LINE);
  scan->status = (uint16_t)status;
  scan->minor = r->p[VERSION_LEN - 1] == '0' ? 0 : 1;
  h1_advance(r, H1_STEP_SECOND, after == ' ' ? STATUS_END + 1 : STATUS_END);
  return HTTP_DONE;
}

static enum http_result read_reason(struct h1_reader *r) {
  struct h1_scan *scan = r->scan;
  size_t at = bytes_value_end(r->p, scan->scanned, r->len);
  if (at == r->len) return h1_more(r, at);
  if (r->p[at] == '\n') return h1_fail(r, END_BAD_RESPONSE_LINE_END);
  if (r->p[at] != '\r') return h1_fail(r, END_BAD_RESPONSE_STATUS_LINE);
  if (at + 1 == r->len) return h1_more(r, at);
  if (r->p[at + 1] != '\n') return h1_fail(r, END_BAD_RESPONSE_LINE_END);
  scan->second = span_of(r->p + scan->start, at - scan->start);
  h1_advance(r, H1_STEP_NAME, at + 2);
  return HTTP_DONE;
}

static enum http_result read_status_line(struct h1_reader *r) {
  enum http_result result = HTTP_DONE;
  if (r->scan->step == H1_STEP_START) result = read_status(r);
  if (result == HTTP_DONE && r->scan->step == H1_STEP_SECOND) result = read_reason(r);
  return result;
}

/* finish makes the response once its head is complete. */
static enum http_result finish(struct h1_reader *r, enum http_method request_method,
                               struct http_response *res) {
  res->status = r->scan->status;
  res->minor = r->scan->minor;
  res->reason = r->scan->second;
  res->fields = h1_take_fields(r);
  res->head_len = r->scan->start;
  return framing_of_response(res, request_method, &r->why) ? HTTP_DONE : HTTP_BAD;
}

enum http_result h1_parse_response(struct h1_scan *scan, struct span input,
                                   const struct h1_limits *limits, struct arena *arena,
                                   enum http_method request_method, struct http_response *out,
                                   enum end *why) {
  struct h1_reader r = {.scan = scan, .limits = limits, .arena = arena, .side = H1_RESPONSE};
  struct http_response res = {0};
  h1_reader_init(&r, input);
  enum http_result result = read_status_line(&r);
  if (result == HTTP_DONE) result = h1_read_fields(&r);
  if (result == HTTP_DONE) result = finish(&r, request_method, &res);
  if (result == HTTP_DONE) *out = res;
  if (result == HTTP_BAD) *why = r.why;
  return result;
}
