/* framing.c: message body length (RFC 9112 section 6.3), Connection, Upgrade and Expect (RFC 9110
 * sections 7.6.1, 7.8 and 10.1.1), by version-neutral field lists. Every ambiguity is refused: a
 * message that two readers could cut differently is never passed on. Called by the
 * request and response parsers. */
#include "framing_priv.h"

/* NOMINATED_MAX bounds the work of Connection: names times fields. */
enum { NOMINATED_MAX = 16, LENGTH_DIGITS_MAX = 19 };

/* option_set is what the Connection fields of a message say. */
struct option_set {
  bool close, keep_alive, upgrade;
  unsigned nominated_count;
};

static bool fail(enum end *why, enum end cause) {
  *why = cause;
  return false;
}

static bool is_repeated(const struct http_fields *fields, enum http_name id) {
  return (fields->repeated >> id) & 1;
}

/* nominate flags the rows of a name as hop-by-hop; false when it may not be nominated. */
static bool nominate(struct http_fields *fields, struct span name) {
  enum http_name id = http_name_find(name);
  if (http_name_flags(id) & HTTP_NAME_PINNED || http_name_speaks_for(name)) return false;
  for (uint32_t i = 0; i < fields->count; i++) {
    struct http_field *row = &fields->rows[i];
    if (row->id == id && (id != HTTP_NAME_OTHER || span_eq_nocase(row->name, name)))
      row->flags |= HTTP_FIELD_HOP;
  }
  return true;
}

/* read_option takes one element of a Connection list. */
static bool read_option(struct http_fields *fields, struct span option, struct option_set *set) {
  if (option.len == 0) return true; /* RFC 9110 5.6.1.2: empty elements are ignored */
  if (!http_is_token(option)) return false;
  if (span_eq_nocase(option, SPAN_LIT("close"))) {
    set->close = true;
  } else if (span_eq_nocase(option, SPAN_LIT("keep-alive"))) {
    set->keep_alive = true;
  } else if (span_eq_nocase(option, SPAN_LIT("upgrade"))) {
    set->upgrade = true;
  } else {
    return ++set->nominated_count <= NOMINATED_MAX && nominate(fields, option);
  }
  return true;
}

/* read_connection reads all Connection fields; false when one is malformed. */
static bool read_connection(struct http_fields *fields, struct option_set *set) {
  const struct http_field *row = http_fields_find(fields, HTTP_NAME_CONNECTION);
  for (; row != NULL; row = http_fields_next(fields, HTTP_NAME_CONNECTION, row)) {
    struct span rest = row->value, option;
    while (span_next_token(&rest, ',', &option))
      if (!read_option(fields, option, set)) return false;
  }
  return true;
}

void framing_nominated(const struct http_fields *head, struct http_fields *trailers) {
  const struct http_field *row = http_fields_find(head, HTTP_NAME_CONNECTION);
  for (; row != NULL; row = http_fields_next(head, HTTP_NAME_CONNECTION, row)) {
    struct span rest = row->value, option;
    while (span_next_token(&rest, ',', &option)) (void)nominate(trailers, option);
  }
}

/* announce: the Trailer field goes on where a trailer section can: behind a body that says itself
 * where it ends, and (open) behind any of HTTP/2. */
static void announce(struct http_fields *fields, enum http_body body, bool open) {
  struct http_field *row = NULL;
  if (body == HTTP_BODY_CHUNKED || (body == HTTP_BODY_LENGTH && open)) return;
  while ((row = http_fields_next(fields, HTTP_NAME_TRAILER, row))) row->flags |= HTTP_FIELD_HOP;
}

static bool keeps_alive(const struct option_set *set, unsigned minor) {
  return !set->close && (minor >= 1 || set->keep_alive);
}

/* protocol_ok: token ["/" token] (RFC 9110 section 7.8). */
static bool protocol_ok(struct span protocol) {
  size_t slash = span_find_char(protocol, '/', 0);
  if (slash == SIZE_MAX) return http_is_token(protocol);
  return http_is_token(span_sub(protocol, 0, slash)) &&
         http_is_token(span_from(protocol, slash + 1));
}

/* read_upgrade takes the first protocol of the one Upgrade field; empty when h2c is among them:
 * its preamble would be a second reading of the request. False: malformed. */
static bool read_upgrade(const struct http_fields *fields, struct span *out) {
  if (is_repeated(fields, HTTP_NAME_UPGRADE)) return false;
  struct span rest = http_fields_find(fields, HTTP_NAME_UPGRADE)->value;
  struct span protocol, first = SPAN_EMPTY;
  bool h2c = false;
  while (span_next_token(&rest, ',', &protocol)) {
    if (protocol.len == 0) continue;
    if (!protocol_ok(protocol)) return false;
    if (first.len == 0) first = protocol;
    h2c |= span_eq_nocase(protocol, SPAN_LIT("h2c"));
  }
  if (first.len == 0) return false;
  *out = h2c ? SPAN_EMPTY : first;
  return true;
}

/* is_coding_name: the transfer codings of the registry that weir does not implement. */
static bool is_coding_name(struct span coding) {
  static const struct span names[] = {
      {"gzip", 4}, {"x-gzip", 6}, {"deflate", 7}, {"compress", 8}, {"x-compress", 10}};
  for (size_t i = 0; i < array_count(names); i++)
    if (span_eq_nocase(coding, names[i])) return true;
  return false;
}

static bool is_chunked(struct span coding) { return span_eq_nocase(coding, SPAN_LIT("chunked")); }

/* is_coded_chunked: well-formed codings that we do not implement, then chunked: worth a 501. */
static bool is_coded_chunked(struct span value) {
  struct span coding = SPAN_EMPTY;
  unsigned before_count = 0;
  while (span_next_token(&value, ',', &coding) && is_coding_name(coding)) before_count++;
  return before_count > 0 && value.len == 0 && is_chunked(coding);
}

/* read_length takes a Content-Length value: 1 to 19 digits, at most INT64_MAX. */
static bool read_length(struct span value, uint64_t *out) {
  uint64_t length = 0;
  if (value.len > LENGTH_DIGITS_MAX || !span_u64(value, &length) || length > INT64_MAX)
    return false;
  *out = length;
  return true;
}

/* request_body is RFC 9112 section 6.3 for requests: rules 3 to 5 refuse, then 4, 6 and 7. */
static bool request_body(struct http_request *req, enum end *why) {
  const struct http_fields *fields = &req->fields;
  const struct http_field *te = http_fields_find(fields, HTTP_NAME_TRANSFER_ENCODING);
  const struct http_field *length = http_fields_find(fields, HTTP_NAME_CONTENT_LENGTH);
  req->body = HTTP_BODY_NONE;
  if (te != NULL) {
    if (req->minor == 0) return fail(why, END_BAD_REQUEST_TE_IN_1_0);
    if (length != NULL) return fail(why, END_BAD_REQUEST_TE_AND_CL);
    if (is_repeated(fields, HTTP_NAME_TRANSFER_ENCODING))
      return fail(why, END_BAD_REQUEST_TRANSFER_ENCODING);
    if (!is_chunked(te->value))
      return fail(why, is_coded_chunked(te->value) ? END_BAD_REQUEST_CODING
                                                   : END_BAD_REQUEST_TRANSFER_ENCODING);
    req->body = HTTP_BODY_CHUNKED;
    return true;
  }
  if (length == NULL) return true;
  if (is_repeated(fields, HTTP_NAME_CONTENT_LENGTH))
    return fail(why, END_BAD_REQUEST_CONTENT_LENGTH_REPEATED);
  if (!read_length(length->value, &req->content_length))
    return fail(why, END_BAD_REQUEST_CONTENT_LENGTH);
  req->body = HTTP_BODY_LENGTH;
  return true;
}

static bool has_content(const struct http_request *req) {
  return req->body == HTTP_BODY_CHUNKED || req->content_length > 0;
}

/* request_upgrade: only a 1.1 request without content whose Connection says so may upgrade. */
static bool request_upgrade(struct http_request *req, const struct option_set *set,
                            enum end *why) {
  if (!http_fields_has(&req->fields, HTTP_NAME_UPGRADE)) return true;
  if (!set->upgrade || req->minor == 0) return true; /* RFC 9110 7.8: ignored in 1.0 */
  if (!read_upgrade(&req->fields, &req->upgrade)) return fail(why, END_BAD_REQUEST_UPGRADE);
  if (req->upgrade.len > 0 && has_content(req)) return fail(why, END_BAD_REQUEST_UPGRADE);
  return true;
}

/* request_expect: 100-continue or nothing; it is dropped where nobody may wait for it (1.0, or no
 * content to come). */
static bool request_expect(struct http_request *req, enum end *why) {
  struct http_field *expect = http_fields_find(&req->fields, HTTP_NAME_EXPECT);
  if (expect == NULL) return true;
  if (is_repeated(&req->fields, HTTP_NAME_EXPECT) ||
      !span_eq_nocase(expect->value, SPAN_LIT("100-continue")))
    return fail(why, END_BAD_REQUEST_EXPECT);
  req->expect_continue = req->minor >= 1 && has_content(req);
  if (!req->expect_continue) expect->flags |= HTTP_FIELD_HOP;
  return true;
}

bool framing_of_request(struct http_request *req, enum end *why) {
  struct option_set set = {0};
  if (!request_body(req, why)) return false;
  if (req->method == HTTP_METHOD_TRACE) /* it would reflect what weir adds (RFC 9110 9.3.8) */
    return fail(why, END_BAD_REQUEST_METHOD_NOT_SERVED);
  if (!read_connection(&req->fields, &set)) return fail(why, END_BAD_REQUEST_CONNECTION);
  req->keepalive = keeps_alive(&set, req->minor);
  announce(&req->fields, req->body, http_request_open(req));
  return request_upgrade(req, &set, why) && request_expect(req, why);
}

bool framing_of_h2_request(struct http_request *req, bool end_stream, enum end *why) {
  if (!request_body(req, why)) return false;
  if (req->method == HTTP_METHOD_TRACE) return fail(why, END_BAD_REQUEST_METHOD_NOT_SERVED);
  if (end_stream && req->content_length > 0) return fail(why, END_BAD_REQUEST_LENGTH_MISMATCH);
  if (req->body == HTTP_BODY_NONE && !end_stream) req->body = HTTP_BODY_CHUNKED;
  if (req->upgrade.len > 0) { /* DATA is the tunnel's */
    if (req->content_length > 0) return fail(why, END_BAD_REQUEST_UPGRADE);
    req->body = HTTP_BODY_NONE;
  }
  req->keepalive = true;
  announce(&req->fields, req->body, http_request_open(req));
  return request_expect(req, why);
}

/* check_response_lengths refuses ambiguous framing fields whatever the status. */
static bool check_response_lengths(struct http_response *res, enum end *why) {
  const struct http_fields *fields = &res->fields;
  const struct http_field *te = http_fields_find(fields, HTTP_NAME_TRANSFER_ENCODING);
  const struct http_field *length = http_fields_find(fields, HTTP_NAME_CONTENT_LENGTH);
  if (te != NULL && length != NULL) return fail(why, END_BAD_RESPONSE_TE_AND_CL);
  if (te != NULL && (res->minor == 0 || is_repeated(fields, HTTP_NAME_TRANSFER_ENCODING) ||
                     !is_chunked(te->value)))
    return fail(why, END_BAD_RESPONSE_TRANSFER_ENCODING);
  if (length == NULL) return true;
  if (is_repeated(fields, HTTP_NAME_CONTENT_LENGTH) ||
      !read_length(length->value, &res->content_length))
    return fail(why, END_BAD_RESPONSE_CONTENT_LENGTH);
  res->has_length = true;
  return true;
}

/* drop_lengths: a status that has no content says nothing about its length. One that claims
 * content all the same may be followed by it, so its connection is not used again. */
static void drop_lengths(struct http_response *res) {
  if (res->content_length > 0 || http_fields_has(&res->fields, HTTP_NAME_TRANSFER_ENCODING))
    res->keepalive = false;
  res->has_length = false;
  res->content_length = 0;
}

/* response_body is RFC 9112 section 6.3 for responses, rule by rule. */
static void response_body(struct http_response *res, enum http_method request_method) {
  res->body = HTTP_BODY_NONE;
  if (res->status < 200 || res->status == 204) {
    drop_lengths(res);
  } else if (request_method == HTTP_METHOD_CONNECT && res->status < 300) {
    drop_lengths(res);
    res->body = HTTP_BODY_TUNNEL;
  } else if (request_method == HTTP_METHOD_HEAD || res->status == 304) {
    return;
  } else if (http_fields_has(&res->fields, HTTP_NAME_TRANSFER_ENCODING)) {
    res->body = HTTP_BODY_CHUNKED;
  } else if (res->has_length) {
    res->body = HTTP_BODY_LENGTH;
  } else {
    res->body = HTTP_BODY_CLOSE;
  }
  if (res->body == HTTP_BODY_CLOSE || res->body == HTTP_BODY_TUNNEL) res->keepalive = false;
}

/* response_switch: 101 names the one protocol that it switches to; nothing is HTTP after it. */
static bool response_switch(struct http_response *res, const struct option_set *set,
                            enum end *why) {
  const struct http_fields *fields = &res->fields;
  if (res->minor == 0 || !set->upgrade || !http_fields_has(fields, HTTP_NAME_UPGRADE))
    return fail(why, END_BAD_RESPONSE_UPGRADE);
  if (!read_upgrade(fields, &res->upgrade) || res->upgrade.len == 0)
    return fail(why, END_BAD_RESPONSE_UPGRADE);
  res->body = HTTP_BODY_TUNNEL;
  res->keepalive = false;
  return true;
}

bool framing_of_response(struct http_response *res, enum http_method request_method,
                         enum end *why) {
  struct option_set set = {0};
  if (!check_response_lengths(res, why)) return false;
  if (!read_connection(&res->fields, &set)) return fail(why, END_BAD_RESPONSE_CONNECTION);
  res->keepalive = keeps_alive(&set, res->minor);
  response_body(res, request_method);
  announce(&res->fields, res->body, http_response_open(res));
  return res->status != 101 || response_switch(res, &set, why);
}

bool framing_of_h2_response(struct http_response *res, enum http_method request_method,
                            bool end_stream, enum end *why) {
  if (!check_response_lengths(res, why)) return false;
  response_body(res, request_method);
  res->keepalive = true; /* it is the stream that ends */
  if (res->body == HTTP_BODY_CLOSE) res->body = end_stream ? HTTP_BODY_LENGTH : HTTP_BODY_CHUNKED;
  if (res->body == HTTP_BODY_LENGTH && end_stream && res->content_length > 0)
    return fail(why, END_BAD_RESPONSE_LENGTH_MISMATCH);
  announce(&res->fields, res->body, http_response_open(res));
  return true;
}
