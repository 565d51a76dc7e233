/* uri.c: request targets taken apart, and hosts made canonical. The path is cut out as it came:
 * its canonical form is path.c's, by the listener's policy. Called by the request parsers; config
 * checks its hosts with the same functions. RFC 3986, RFC 9112 section 3.2. */
#include "weir/http/uri.h"

#include "bytes_priv.h"
#include "uri_priv.h"
#include "weir/base/addr.h"
#include "weir/base/buf.h"
#include "weir/http/h2_pseudo.h"

enum { HOST_LEN_MAX = 253, LABEL_LEN_MAX = 63 };

static bool fail(enum end *why, enum end cause) {
  *why = cause;
  return false;
}

bool http_query_check(struct span query) {
  if (query.len == 0) return true;
  return bytes_target_end(query.ptr, 0, query.len) == query.len &&
         span_find_char(query, '#', 0) == SIZE_MAX;
}

/* parse_path_query reads what follows the authority. An absent path is "/". */
static bool parse_path_query(struct span text, struct http_target *out, enum end *why) {
  size_t end = span_find_char(text, '?', 0);
  if (end == SIZE_MAX) end = text.len;
  out->path = end > 0 ? span_sub(text, 0, end) : SPAN_LIT("/");
  if (end == text.len) return true;
  out->has_query = true;
  out->query = span_from(text, end + 1);
  return http_query_check(out->query) || fail(why, END_BAD_REQUEST_TARGET);
}

static bool starts_nocase(struct span s, struct span prefix) {
  return span_eq_nocase(span_sub(s, 0, prefix.len), prefix);
}

/* parse_absolute reads "http://authority/path?query". OPTIONS without path and query means "*"
 * (RFC 9112 3.2.4). */
static bool parse_absolute(struct span target, enum http_method method, struct http_target *out,
                           enum end *why) {
  out->form = HTTP_FORM_ABSOLUTE;
  struct span rest;
  if (starts_nocase(target, SPAN_LIT("http://"))) {
    out->scheme = HTTP_SCHEME_HTTP;
    rest = span_from(target, 7);
  } else if (starts_nocase(target, SPAN_LIT("https://"))) {
    out->scheme = HTTP_SCHEME_HTTPS;
    rest = span_from(target, 8);
  } else {
    return fail(why, END_BAD_REQUEST_TARGET);
  }
  size_t end = 0;
  while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?') end++;
  out->authority = span_sub(rest, 0, end);
  if (out->authority.len == 0) return fail(why, END_BAD_REQUEST_HOST);
  if (end == rest.len && method == HTTP_METHOD_OPTIONS) {
    out->path = SPAN_LIT("*");
    return true;
  }
  return parse_path_query(span_from(rest, end), out, why);
}

bool http_target_parse(struct span target, enum http_method method, struct http_target *out,
                       enum end *why) {
  struct http_target made = {.form = HTTP_FORM_ORIGIN};
  if (method == HTTP_METHOD_CONNECT) {
    made.form = HTTP_FORM_AUTHORITY;
    made.authority = made.path = target;
    if (target.len == 0) return fail(why, END_BAD_REQUEST_TARGET);
  } else if (target.len > 0 && target.ptr[0] == '/') {
    if (!parse_path_query(target, &made, why)) return false;
  } else if (span_eq(target, SPAN_LIT("*"))) {
    if (method != HTTP_METHOD_OPTIONS) return fail(why, END_BAD_REQUEST_TARGET);
    made.form = HTTP_FORM_ASTERISK;
    made.path = target;
  } else if (!parse_absolute(target, method, &made, why)) {
    return false;
  }
  *out = made;
  return true;
}

static bool is_host_char(char c) {
  return (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

/* name_ok checks labels of a registered name or IPv4 address without a trailing dot; *upper tells
 * whether a letter is upper case. */
static bool name_ok(struct span name, bool *upper) {
  size_t label = 0;
  if (name.len == 0 || name.len > HOST_LEN_MAX) return false;
  for (size_t i = 0; i < name.len; i++) {
    char c = name.ptr[i];
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
      continue;
    }
    if (!is_host_char(c) || ++label > LABEL_LEN_MAX) return false;
    *upper |= c != ascii_lower(c);
  }
  return label > 0;
}

/* canonical_name makes a registered name lower case, copying only when it must. */
static bool canonical_name(struct span name, struct arena *arena, struct span *out,
                           enum end *why) {
  bool upper = false;
  if (span_ends(name, SPAN_LIT("."))) name.len--;
  if (!name_ok(name, &upper)) return fail(why, END_BAD_REQUEST_HOST);
  if (upper) {
    char *copy = arena_bytes(arena, name.len);
    if (copy == NULL) return fail(why, END_LIMIT_STREAM_MEMORY);
    for (size_t i = 0; i < name.len; i++) copy[i] = ascii_lower(name.ptr[i]);
    name.ptr = copy;
  }
  *out = name;
  return true;
}

/* canonical_ip6 writes the RFC 5952 form of the literal between brackets. */
static bool canonical_ip6(struct span ip, struct arena *arena, struct span *out, enum end *why) {
  struct addr addr;
  char room[64];
  if (span_find_char(ip, ':', 0) == SIZE_MAX || !addr_from_ip(ip, 0, &addr))
    return fail(why, END_BAD_REQUEST_HOST);
  struct buf text = buf_of(room, sizeof(room));
  buf_char(&text, '[');
  size_t before = text.len;
  addr_write_ip(&addr, &text);
  bool mapped = span_find_char(span_from(buf_span(&text), before), ':', 0) == SIZE_MAX;
  if (mapped) { /* addr writes IPv4-mapped addresses as IPv4 */
    text = buf_of(room, sizeof(room));
    buf_lit(&text, "[::ffff:");
    addr_write_ip(&addr, &text);
  }
  buf_char(&text, ']');
  check(!text.full);
  bool ok;
  struct span copy = arena_copy(arena, buf_span(&text), &ok);
  if (!ok) return fail(why, END_LIMIT_STREAM_MEMORY);
  *out = copy;
  return true;
}

/* parse_port reads what follows the host: nothing, ":" or ":port". */
static bool parse_port(struct span text, uint16_t *port) {
  uint64_t value = 0;
  *port = 0;
  if (text.len == 0) return true;
  if (text.ptr[0] != ':') return false;
  if (text.len == 1) return true;
  struct span digits = span_from(text, 1);
  if (digits.len > 5 || !span_u64(digits, &value) || value < 1 || value > 65535) return false;
  *port = (uint16_t)value;
  return true;
}

bool http_host_canonical(struct span text, struct arena *arena, struct http_host *out,
                         enum end *why) {
  bool bracketed = span_starts(text, SPAN_LIT("["));
  size_t end = span_find_char(text, bracketed ? ']' : ':', 0);
  if (end == SIZE_MAX) {
    if (bracketed) return fail(why, END_BAD_REQUEST_HOST);
    end = text.len;
  }
  struct http_host made;
  if (!parse_port(span_from(text, bracketed ? end + 1 : end), &made.port))
    return fail(why, END_BAD_REQUEST_HOST);
  bool ok = bracketed ? canonical_ip6(span_sub(text, 1, end - 1), arena, &made.name, why)
                      : canonical_name(span_sub(text, 0, end), arena, &made.name, why);
  if (ok) *out = made;
  return ok;
}

static uint16_t port_or_default(uint16_t port, enum http_scheme scheme) {
  if (port != 0) return port;
  return scheme == HTTP_SCHEME_HTTPS ? 443 : 80;
}

bool http_request_host(struct http_request *req, const struct span *authority, struct arena *arena,
                       enum end *why) {
  const struct http_field *field = http_fields_find(&req->fields, HTTP_NAME_HOST);
  struct http_host host = {0}, named = {0};
  if (req->fields.repeated >> HTTP_NAME_HOST & 1) return fail(why, END_BAD_REQUEST_HOST_REPEATED);
  if (field && !http_host_canonical(field->value, arena, &host, why)) return false;
  if (authority) {
    if (!http_host_canonical(*authority, arena, &named, why)) return false;
    bool same = span_eq(host.name, named.name) && port_or_default(host.port, req->scheme) ==
                                                      port_or_default(named.port, req->scheme);
    if (field && !same) return fail(why, END_BAD_REQUEST_HOST_MISMATCH);
    host = named;
  }
  req->host = host.name;
  req->port = host.port;
  if (field && field->secret) req->secret |= 1u << H2_PSEUDO_AUTHORITY; /* it goes on as that */
  return true;
}
