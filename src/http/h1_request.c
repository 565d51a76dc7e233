/* h1_request.c: request heads: the request line (RFC 9112 section 3), then fields, Host and
 * framing. Refuses what cannot become a request as soon as that is certain (TLS or HTTP/2 on this
 * port, say). Called by the h1 front of proxy/, with all bytes of the head so far. */
#include "bytes_priv.h"
#include "framing_priv.h"
#include "h1_head_priv.h"
#include "message_priv.h"
#include "uri_priv.h"

enum {
  EMPTY_LINES_MAX = 2, /* RFC 9112 section 2.2 asks for at least one */
  VERSION_LEN = 8,     /* "HTTP/1.1" */
};

static bool is_line_end(char c) { return c == '\r' || c == '\n'; }

/* bad_line_end: a bare LF is a fault of its own wherever it stands. */
static enum http_result bad_line_end(struct h1_reader *r, char c) {
  return h1_fail(r, c == '\n' ? END_BAD_REQUEST_LINE_END : END_BAD_REQUEST_LINE);
}

static enum http_result skip_empty_lines(struct h1_reader *r) {
  size_t at = r->scan->start;
  for (;;) {
    if (at == r->len) return h1_more(r, at);
    if (!is_line_end(r->p[at])) break;
    if (r->p[at] == '\n') return bad_line_end(r, '\n');
    if (r->scan->empty_lines == EMPTY_LINES_MAX) return bad_line_end(r, '\r');
    if (at + 1 == r->len) return h1_more(r, at);
    if (r->p[at + 1] != '\n') return h1_fail(r, END_BAD_REQUEST_LINE_END);
    r->scan->empty_lines++;
    at += 2;
    r->scan->start = (uint32_t)at;
  }
  h1_advance(r, H1_STEP_FIRST, at);
  return HTTP_DONE;
}

/* bad_method: printable delimiters make a bad method; anything else is no request line at all. */
static enum http_result bad_method(struct h1_reader *r, size_t at) {
  char c = r->p[at];
  if (is_line_end(c)) return bad_line_end(r, c);
  bool printable = byte_class(c) & BYTE_TARGET;
  return h1_fail(r, printable ? END_BAD_REQUEST_METHOD : END_BAD_REQUEST_LINE);
}

static enum http_result read_method(struct h1_reader *r) {
  struct h1_scan *scan = r->scan;
  size_t at = bytes_end_of(BYTE_TOKEN, r->p, scan->scanned, r->len);
  if (at - scan->start > HTTP_METHOD_LEN_MAX) return h1_fail(r, END_BAD_REQUEST_METHOD);
  if (at == r->len) return h1_more(r, at);
  if (r->p[at] != ' ' || at == scan->start) return bad_method(r, at);
  scan->first = span_of(r->p + scan->start, at - scan->start);
  h1_advance(r, H1_STEP_SECOND, at + 1);
  return HTTP_DONE;
}

/* bad_target: what stands at `at` ends the target but is not a space. */
static enum http_result bad_target(struct h1_reader *r, size_t at) {
  char c = r->p[at];
  if (is_line_end(c)) return bad_line_end(r, c);
  if (at == r->scan->start) return h1_fail(r, END_BAD_REQUEST_LINE);
  bool path = r->p[r->scan->start] == '/';
  return h1_fail(r, path ? END_BAD_REQUEST_PATH : END_BAD_REQUEST_TARGET);
}

static enum http_result read_target(struct h1_reader *r) {
  struct h1_scan *scan = r->scan;
  size_t at = bytes_target_end(r->p, scan->scanned, r->len);
  if (at - scan->start > r->limits->uri_bytes) return h1_fail(r, END_LIMIT_URI);
  if (at == r->len) return h1_more(r, at);
  if (r->p[at] != ' ' || at == scan->start) return bad_target(r, at);
  scan->second = span_of(r->p + scan->start, at - scan->start);
  h1_advance(r, H1_STEP_VERSION, at + 1);
  return HTTP_DONE;
}

/* bad_version tells the HTTP/2 preface from other major versions. */
static enum http_result bad_version(struct h1_reader *r, char major) {
  bool preface = major == '2' && span_eq(r->scan->first, SPAN_LIT("PRI")) &&
                 span_eq(r->scan->second, SPAN_LIT("*"));
  return h1_fail(r, preface ? END_BAD_REQUEST_H2_PREFACE : END_BAD_REQUEST_VERSION);
}

/* read_version reads "HTTP/1.x CRLF". A higher minor version is 1.1 to us (RFC 9110 2.5). */
static enum http_result read_version(struct h1_reader *r) {
  size_t start = r->scan->start, end = start + VERSION_LEN;
  enum http_result result = h1_match(r, start, SPAN_LIT("HTTP/0.0"));
  if (result == HTTP_BAD) return h1_fail(r, END_BAD_REQUEST_LINE);
  if (result == HTTP_MORE) return h1_more(r, start);
  if (r->p[start + 5] != '1') return bad_version(r, r->p[start + 5]);
  if (end == r->len) return h1_more(r, start);
  if (r->p[end] != '\r') return bad_line_end(r, r->p[end]);
  if (end + 1 == r->len) return h1_more(r, start);
  if (r->p[end + 1] != '\n') return h1_fail(r, END_BAD_REQUEST_LINE_END);
  r->scan->minor = r->p[start + 7] == '0' ? 0 : 1;
  h1_advance(r, H1_STEP_NAME, end + 2);
  return HTTP_DONE;
}

static enum http_result read_request_line(struct h1_reader *r) {
  enum http_result result = HTTP_DONE;
  if (r->scan->step == H1_STEP_START) result = skip_empty_lines(r);
  if (result == HTTP_DONE && r->scan->step == H1_STEP_FIRST) result = read_method(r);
  if (result == HTTP_DONE && r->scan->step == H1_STEP_SECOND) result = read_target(r);
  if (result == HTTP_DONE && r->scan->step == H1_STEP_VERSION) result = read_version(r);
  return result;
}

/* take_line fills the request from its line. */
static enum http_result take_line(struct h1_reader *r, struct http_request *req,
                                  struct http_target *target) {
  req->method_text = r->scan->first;
  req->method = http_method_find(r->scan->first);
  req->target = r->scan->second;
  req->minor = r->scan->minor;
  if (!http_target_parse(req->target, req->method, target, &r->why)) return HTTP_BAD;
  if (req->method == HTTP_METHOD_CONNECT) return h1_fail(r, END_BAD_REQUEST_METHOD_NOT_SERVED);
  req->form = target->form;
  req->scheme = target->scheme;
  req->path = target->path;
  req->query = target->query;
  req->has_query = target->has_query;
  return HTTP_DONE;
}

/* take_host: Host is needed from 1.1 on, even beside the authority of an absolute-form target. */
static bool take_host(struct h1_reader *r, struct http_request *req, struct span authority) {
  if (!http_fields_has(&req->fields, HTTP_NAME_HOST) && req->minor >= 1) {
    r->why = END_BAD_REQUEST_HOST_MISSING;
    return false;
  }
  const struct span *named = req->form == HTTP_FORM_ABSOLUTE ? &authority : NULL;
  return http_request_host(req, named, r->arena, &r->why);
}

/* finish makes the request once its head is complete. */
static enum http_result finish(struct h1_reader *r, struct http_request *req,
                               struct span authority) {
  req->fields = h1_take_fields(r);
  req->head_len = r->scan->start;
  bool ok = take_host(r, req, authority) && framing_of_request(req, &r->why);
  return ok ? HTTP_DONE : HTTP_BAD;
}

/* begun_target is a target whose end was not read. */
static struct span begun_target(const struct h1_scan *scan, struct span input) {
  if (scan->step != H1_STEP_SECOND) return SPAN_EMPTY;
  size_t end = bytes_target_end(input.ptr, scan->start, input.len);
  return span_sub(input, scan->start, end - scan->start);
}

bool h1_request_seen(const struct h1_scan *scan, struct span input, struct arena *arena,
                     struct http_request *out) {
  struct h1_scan copy = *scan;
  struct h1_reader r = {.scan = &copy};
  struct http_request req = {.minor = 1, .path = begun_target(scan, input)};
  struct http_target target = {0};
  enum end why;
  if (scan->step >= H1_STEP_SECOND) req.method_text = scan->first;
  bool line = scan->step >= H1_STEP_VERSION;
  if (line && take_line(&r, &req, &target) != HTTP_DONE && !req.path.len) req.path = req.target;
  req.fields = scan->fields;
  const struct span *named = req.form == HTTP_FORM_ABSOLUTE ? &target.authority : NULL;
  bool host = named || http_fields_has(&req.fields, HTTP_NAME_HOST);
  if (host && !http_request_host(&req, named, arena, &why)) req.host = SPAN_EMPTY;
  *out = req;
  return scan->step >= H1_STEP_NAME;
}

enum http_result h1_parse_request(struct h1_scan *scan, struct span input,
                                  const struct h1_limits *limits, struct arena *arena,
                                  struct http_request *out, enum end *why) {
  struct h1_reader r = {.scan = scan, .limits = limits, .arena = arena, .side = H1_REQUEST};
  struct http_request req = {0};
  struct http_target target = {0};
  h1_reader_init(&r, input);
  bool line_known = scan->step >= H1_STEP_NAME; /* and checked, by an earlier call */
  enum http_result result = read_request_line(&r);
  if (result == HTTP_DONE && !line_known) result = take_line(&r, &req, &target);
  if (result == HTTP_DONE) result = h1_read_fields(&r);
  if (result == HTTP_DONE && line_known) result = take_line(&r, &req, &target);
  if (result == HTTP_DONE) result = finish(&r, &req, target.authority);
  if (result == HTTP_DONE) *out = req;
  if (result == HTTP_BAD) *why = r.why;
  return result;
}
