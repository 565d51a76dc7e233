/* h2_message.c: field sections of HTTP/2 made messages (RFC 9113 section 8, RFC 8441 section 4).
 * This is the one validator before anything is serialised: names, values and pseudo-fields are
 * checked here whatever the decoder checked. Called by the h2 connections of proxy/. */
#include "weir/http/h2_message.h"

#include "bytes_priv.h"
#include "framing_priv.h"
#include "message_priv.h"
#include "uri_priv.h"
#include "weir/base/buf.h"
#include "weir/http/trailer.h"

#define BIT(pseudo) (1u << H2_PSEUDO_##pseudo)
#define NAME_BIT(id) ((uint64_t)1 << HTTP_NAME_##id)

/* CONNECTION_FIELDS have no meaning in HTTP/2 (section 8.2.2). */
#define CONNECTION_FIELDS \
  (NAME_BIT(CONNECTION) | NAME_BIT(PROXY_CONNECTION) | NAME_BIT(KEEP_ALIVE) | \
   NAME_BIT(TRANSFER_ENCODING) | NAME_BIT(UPGRADE))

/* wrong is what a section of either side can have wrong. */
enum wrong {
  WRONG_NAME,
  WRONG_CASE,
  WRONG_VALUE,
  WRONG_SPACE,
  WRONG_CONNECTION_FIELD,
  WRONG_TE,
  WRONG_REPEATED,
  WRONG_LATE,
  WRONG_UNKNOWN,
  WRONG_LENGTH,
  WRONG_TRAILER,
  WRONGS /* nothing */
};

/* cause of each, in a response and in a request. */
static const uint16_t causes[WRONGS][2] = {
    [WRONG_NAME] = {END_BAD_RESPONSE_FIELD_NAME, END_BAD_REQUEST_FIELD_NAME},
    [WRONG_CASE] = {END_BAD_RESPONSE_FIELD_CASE, END_BAD_REQUEST_FIELD_CASE},
    [WRONG_VALUE] = {END_BAD_RESPONSE_FIELD_VALUE, END_BAD_REQUEST_FIELD_VALUE},
    [WRONG_SPACE] = {END_BAD_RESPONSE_FIELD_SPACE, END_BAD_REQUEST_FIELD_SPACE},
    [WRONG_CONNECTION_FIELD] = {END_BAD_RESPONSE_CONNECTION_FIELD,
                                END_BAD_REQUEST_CONNECTION_FIELD},
    [WRONG_TE] = {END_BAD_RESPONSE_CONNECTION_FIELD, END_BAD_REQUEST_TE},
    [WRONG_REPEATED] = {END_BAD_RESPONSE_PSEUDO, END_BAD_REQUEST_PSEUDO_REPEATED},
    [WRONG_LATE] = {END_BAD_RESPONSE_PSEUDO, END_BAD_REQUEST_PSEUDO_LATE},
    [WRONG_UNKNOWN] = {END_BAD_RESPONSE_PSEUDO, END_BAD_REQUEST_PSEUDO_UNKNOWN},
    [WRONG_LENGTH] = {END_BAD_RESPONSE_LENGTH_MISMATCH, END_BAD_REQUEST_LENGTH_MISMATCH},
    [WRONG_TRAILER] = {END_BAD_RESPONSE_TRAILER, END_BAD_REQUEST_TRAILER},
};

static bool fail(enum end *why, enum end cause) {
  *why = cause;
  return false;
}

/* bad is fail for what both sides can have. */
static bool bad(enum end *why, bool request, enum wrong wrong) {
  return fail(why, (enum end)causes[wrong][request]);
}

/* ---- what all sections have ---- */

/* name_wrong: a name is a token without upper case (section 8.2.1); *underscore: it has one. */
static enum wrong name_wrong(const struct http_field *row, bool *underscore) {
  unsigned all = BYTE_TOKEN, any = 0;
  bool upper = false;
  if (row->id != HTTP_NAME_OTHER)
    return span_eq(row->name, http_name_text((enum http_name)row->id)) ? WRONGS : WRONG_CASE;
  for (size_t i = 0; i < row->name.len; i++) {
    char c = row->name.ptr[i];
    upper |= c != ascii_lower(c);
    all &= byte_class(c);
    any |= byte_class(c);
  }
  *underscore = any & BYTE_UNDERSCORE;
  if (row->name.len == 0 || !(all & BYTE_TOKEN)) return WRONG_NAME;
  return upper ? WRONG_CASE : WRONGS;
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static enum wrong value_wrong(struct span value) {
  if (value.len == 0) return WRONGS;
  if (!http_is_value(value)) return WRONG_VALUE;
  return is_blank(value.ptr[0]) || is_blank(value.ptr[value.len - 1]) ? WRONG_SPACE : WRONGS;
}

/* te_ok: TE says nothing but trailers, in requests only. */
static bool te_ok(const struct http_fields *fields, bool request) {
  const struct http_field *row = http_fields_find(fields, HTTP_NAME_TE);
  for (; row != NULL; row = http_fields_next(fields, HTTP_NAME_TE, row))
    if (!request || !span_eq_nocase(row->value, SPAN_LIT("trailers"))) return false;
  return true;
}

static bool check_faults(const struct h2_pseudo *p, bool request, enum end *why) {
  static const struct {
    uint8_t fault, wrong;
  } rows[] = {{H2_FAULT_REPEATED, WRONG_REPEATED},
              {H2_FAULT_LATE, WRONG_LATE},
              {H2_FAULT_UNKNOWN, WRONG_UNKNOWN},
              {H2_FAULT_NAME, WRONG_NAME},
              {H2_FAULT_VALUE, WRONG_VALUE}};
  if (p->faults == 0) return true;
  for (size_t i = 0; i < array_count(rows); i++)
    if (p->faults & rows[i].fault) return bad(why, request, rows[i].wrong);
  return true;
}

/* check_rows checks the regular fields and flags them. */
static bool check_rows(struct http_fields *fields, bool request, enum end *why) {
  for (uint32_t i = 0; i < fields->count; i++) {
    struct http_field *row = &fields->rows[i];
    bool underscore = false;
    enum wrong wrong = name_wrong(row, &underscore);
    if (wrong == WRONGS) wrong = value_wrong(row->value);
    if (wrong != WRONGS) return bad(why, request, wrong);
    row->flags = http_row_flags(request, row->name, (enum http_name)row->id, underscore);
  }
  if (fields->present & CONNECTION_FIELDS) return bad(why, request, WRONG_CONNECTION_FIELD);
  return te_ok(fields, request) || bad(why, request, WRONG_TE);
}

/* check_section: rows come first, as they tell more than what the decoder noted of them. */
static bool check_section(struct h2_section *in, bool request, enum end *why) {
  return check_rows(&in->fields, request, why) && check_faults(&in->pseudo, request, why);
}

/* ---- requests ---- */

/* check_pseudo: which pseudo-fields a request has to have and may have (sections 8.3.1 and 8.5).
 */
static bool check_pseudo(const struct h2_pseudo *p, const struct h2_rules *rules, enum end *why) {
  struct span method = p->value[H2_PSEUDO_METHOD];
  unsigned need = BIT(METHOD) | BIT(SCHEME) | BIT(PATH), may = BIT(AUTHORITY);
  if (span_eq(method, http_method_text(HTTP_METHOD_CONNECT))) {
    bool extended = rules->extended_connect && h2_pseudo_has(p, H2_PSEUDO_PROTOCOL);
    may = 0;
    need = BIT(METHOD) | BIT(AUTHORITY);
    if (extended) need |= BIT(SCHEME) | BIT(PATH) | BIT(PROTOCOL);
  }
  if (p->present & ~(need | may)) return fail(why, END_BAD_REQUEST_PSEUDO_UNKNOWN);
  if (need & ~(unsigned)p->present) return fail(why, END_BAD_REQUEST_PSEUDO_MISSING);
  if (!http_is_token(method) || method.len > HTTP_METHOD_LEN_MAX)
    return fail(why, END_BAD_REQUEST_METHOD);
  return true;
}

static bool take_scheme(struct span text, struct http_request *req, enum end *why) {
  if (span_eq_nocase(text, SPAN_LIT("https")))
    req->scheme = HTTP_SCHEME_HTTPS;
  else if (span_eq_nocase(text, SPAN_LIT("http")))
    req->scheme = HTTP_SCHEME_HTTP;
  else
    return fail(why, END_BAD_REQUEST_SCHEME);
  return true;
}

/* take_path: an origin-form target or "*", by the bytes that h1 takes; no fragment. */
static bool take_path(struct span text, uint32_t uri_bytes, struct http_request *req,
                      enum end *why) {
  struct http_target target;
  bool origin = span_starts(text, SPAN_LIT("/"));
  if (text.len > uri_bytes) return fail(why, END_LIMIT_URI);
  if (!origin && !span_eq(text, SPAN_LIT("*"))) return fail(why, END_BAD_REQUEST_TARGET);
  if (bytes_target_end(text.ptr, 0, text.len) != text.len) return fail(why, END_BAD_REQUEST_PATH);
  if (!http_target_parse(text, req->method, &target, why)) return false;
  if (span_find_char(target.path, '#', 0) != SIZE_MAX) return fail(why, END_BAD_REQUEST_PATH);
  req->target = text;
  req->form = target.form;
  req->path = target.path;
  req->query = target.query;
  req->has_query = target.has_query;
  return true;
}

/* take_connect makes an extended CONNECT the GET that HTTP/1.1 would bring (RFC 8441 section 5);
 * its protocol may not be one that starts HTTP/2 anew. Plain CONNECT is not served, as in h1. */
static bool take_connect(const struct h2_pseudo *p, struct http_request *req, enum end *why) {
  struct span protocol = p->value[H2_PSEUDO_PROTOCOL];
  if (!h2_pseudo_has(p, H2_PSEUDO_PROTOCOL)) return fail(why, END_BAD_REQUEST_METHOD_NOT_SERVED);
  if (!http_is_token(protocol) || span_eq_nocase(protocol, SPAN_LIT("h2c")))
    return fail(why, END_BAD_REQUEST_UPGRADE);
  req->upgrade = protocol;
  req->method = HTTP_METHOD_GET;
  req->method_text = http_method_text(HTTP_METHOD_GET);
  return true;
}

static bool take_pseudo(const struct h2_pseudo *p, const struct h2_rules *rules,
                        struct http_request *req, enum end *why) {
  if (!check_pseudo(p, rules, why)) return false;
  req->method_text = p->value[H2_PSEUDO_METHOD];
  req->method = http_method_find(req->method_text);
  if (req->method == HTTP_METHOD_CONNECT && !take_connect(p, req, why)) return false;
  return take_scheme(p->value[H2_PSEUDO_SCHEME], req, why) &&
         take_path(p->value[H2_PSEUDO_PATH], rules->uri_bytes, req, why);
}

static bool take_host(const struct h2_pseudo *p, struct http_request *req, struct arena *arena,
                      enum end *why) {
  bool named = h2_pseudo_has(p, H2_PSEUDO_AUTHORITY);
  if (!named && !http_fields_has(&req->fields, HTTP_NAME_HOST))
    return fail(why, END_BAD_REQUEST_HOST_MISSING);
  return http_request_host(req, named ? &p->value[H2_PSEUDO_AUTHORITY] : NULL, arena, why);
}

/* join_cookies makes one row of cookie crumbs (section 8.2.3), at the place of the first. Empty
 * ones say nothing, and would leave white space at an end. */
static bool join_cookies(struct http_fields *fields, struct arena *arena, enum end *why) {
  size_t room = 0;
  if (!(fields->repeated & NAME_BIT(COOKIE))) return true;
  for (uint32_t i = 0; i < fields->count; i++)
    if (fields->rows[i].id == HTTP_NAME_COOKIE) room += fields->rows[i].value.len + 2;
  char *bytes = arena_bytes(arena, room);
  if (bytes == NULL) return fail(why, END_LIMIT_STREAM_MEMORY);
  struct buf joined = buf_of(bytes, room);
  struct http_field *first = NULL;
  bool secret = false;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < fields->count; i++) {
    struct http_field row = fields->rows[i];
    bool crumb = row.id == HTTP_NAME_COOKIE;
    if (crumb && row.value.len > 0 && joined.len > 0) buf_lit(&joined, "; ");
    if (crumb) buf_put(&joined, row.value);
    if (crumb && row.secret) secret = true;
    if (crumb && first) continue;
    if (crumb) first = &fields->rows[kept];
    fields->rows[kept++] = row;
  }
  check(first != NULL && !joined.full);
  first->value = buf_span(&joined);
  first->secret = secret;
  fields->count = kept;
  fields->repeated &= ~NAME_BIT(COOKIE);
  return true;
}

bool h2_parse_request(struct h2_section *in, const struct h2_rules *rules, struct arena *arena,
                      struct http_request *out, enum end *why) {
  struct http_request req = {
      .minor = 1, .h2 = true, .ended = in->end_stream, .secret = in->pseudo.secret};
  if (!check_section(in, true, why)) return false;
  if (!take_pseudo(&in->pseudo, rules, &req, why)) return false;
  if (!join_cookies(&in->fields, arena, why)) return false;
  req.fields = in->fields;
  if (!take_host(&in->pseudo, &req, arena, why)) return false;
  if (!framing_of_h2_request(&req, in->end_stream, why)) return false;
  *out = req;
  return true;
}

void h2_request_seen(const struct h2_section *in, struct arena *arena, struct http_request *out) {
  const struct h2_pseudo *p = &in->pseudo;
  struct http_request req = {.minor = 1, .h2 = true, .fields = in->fields};
  enum end why;
  req.method_text = p->value[H2_PSEUDO_METHOD];
  if (!take_path(p->value[H2_PSEUDO_PATH], UINT32_MAX, &req, &why))
    req.path = p->value[H2_PSEUDO_PATH];
  if (!take_host(p, &req, arena, &why)) req.host = SPAN_EMPTY;
  *out = req;
}

/* ---- responses ---- */

/* take_status: three digits (RFC 9110 section 15); 101 is not of HTTP/2 (section 8.6). */
static bool take_status(const struct h2_section *in, struct http_response *res, enum end *why) {
  struct span text = in->pseudo.value[H2_PSEUDO_STATUS];
  uint64_t status = 0;
  if (in->pseudo.present != BIT(STATUS)) return fail(why, END_BAD_RESPONSE_PSEUDO);
  if (text.len != 3 || !span_u64(text, &status)) return fail(why, END_BAD_RESPONSE_STATUS_LINE);
  bool interim = status < 200;
  if (status < 100 || status > 599 || status == 101 || (interim && in->end_stream))
    return fail(why, END_BAD_RESPONSE_STATUS);
  res->status = (uint16_t)status;
  return true;
}

bool h2_parse_response(struct h2_section *in, const struct h2_asked *asked,
                       struct http_response *out, enum end *why) {
  struct http_response res = {
      .minor = 1, .h2 = true, .ended = in->end_stream, .secret = in->pseudo.secret};
  bool tunnel = asked->upgrade.len > 0;
  enum http_method method = tunnel ? HTTP_METHOD_CONNECT : asked->method;
  if (!check_section(in, false, why)) return false;
  if (!take_status(in, &res, why)) return false;
  res.fields = in->fields;
  if (!framing_of_h2_response(&res, method, in->end_stream, why)) return false;
  if (tunnel && res.body == HTTP_BODY_TUNNEL) {
    res.status = 101;
    res.upgrade = asked->upgrade;
  }
  res.reason = http_status_reason(res.status);
  *out = res;
  return true;
}

/* ---- bodies ---- */

bool h2_parse_trailers(struct h2_section *in, bool request, enum end *why) {
  struct http_fields *fields = &in->fields;
  if (!in->end_stream || in->pseudo.present) return bad(why, request, WRONG_TRAILER);
  if (!check_section(in, request, why)) return false;
  if (!http_trailers_fit(fields)) return bad(why, request, WRONG_TRAILER);
  http_trailers_judge(fields);
  return true;
}

void h2_length_init(struct h2_length *length, bool request, enum http_body body,
                    uint64_t content_length) {
  bool known = body == HTTP_BODY_NONE || body == HTTP_BODY_LENGTH;
  *length = (struct h2_length){
      .known = known, .request = request, .left = body == HTTP_BODY_LENGTH ? content_length : 0};
}

bool h2_length_take(struct h2_length *length, uint64_t count, enum end *why) {
  if (!length->known) return true;
  if (count > length->left) return bad(why, length->request, WRONG_LENGTH);
  length->left -= count;
  return true;
}

bool h2_length_end(const struct h2_length *length, enum end *why) {
  if (!length->known || length->left == 0) return true;
  return bad(why, length->request, WRONG_LENGTH);
}
