/* fuzz_h2_message.c: HTTP/2 messages (http/h2_message.c, h2_message_each.c). Byte 0 says what the
 * section is; the rest are fields that end in 0x1e, names in 0x1f, unchecked. What is accepted is
 * written as HTTP/1.1 and as HTTP/2 fields, and reads back as the same message: nothing that a
 * field holds becomes another field, line or message (THREATS.md row 8). */
#include "../tests/support/h2_rows.h"
#include "h1_invariants.h"
#include "weir/base/buf.h"
#include "weir/http/priority.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { ROOM = 1 << 20 };

static const struct h1_limits wide = {
    .header_bytes = ROOM, .headers = UINT32_MAX, .uri_bytes = ROOM};

static void check_rows(const struct http_fields *fields) {
  uint64_t present = 0, repeated = 0;
  for (uint32_t i = 0; i < fields->count; i++) {
    const struct http_field *row = &fields->rows[i];
    check(http_is_token(row->name) && http_is_value(row->value) && clean(row->value));
    check(span_eq(span_trim(row->value), row->value) && http_name_find(row->name) == row->id);
    for (size_t at = 0; at < row->name.len; at++)
      check(ascii_lower(row->name.ptr[at]) == row->name.ptr[at]);
    if (row->id == HTTP_NAME_OTHER) continue;
    repeated |= present & (uint64_t)1 << row->id;
    present |= (uint64_t)1 << row->id;
  }
  check(fields->present == present && fields->repeated == repeated);
  check(!http_fields_has(fields, HTTP_NAME_CONNECTION));
  check(!http_fields_has(fields, HTTP_NAME_TRANSFER_ENCODING));
}

/* ---- requests ---- */

static void check_same_request(const struct http_request *a, const struct http_request *b) {
  check(a->method == b->method && span_eq(a->method_text, b->method_text));
  check(span_eq(a->path, b->path) && span_eq(a->query, b->query));
  check(a->has_query == b->has_query && span_eq(a->host, b->host) && a->port == b->port);
  check(a->content_length == b->content_length && a->expect_continue == b->expect_continue);
  check(span_eq(a->upgrade, b->upgrade));
  check_same_written(&a->fields, &b->fields);
  check_same_written(&b->fields, &a->fields);
}

/* check_as_h1 writes the request as proxy/ does for an endpoint of HTTP/1.1. */
static void check_as_h1(const struct http_request *req, struct buf *b) {
  check(h1_write_request_line(b, req->method_text, req->path, req->has_query ? &req->query : NULL,
                              1));
  check(h1_write_host(b, req->host, req->port));
  h1_write_fields(b, &req->fields);
  h1_write_framing(b, req->body, req->content_length);
  if (req->upgrade.len) {
    buf_lit(b, "Connection: upgrade\r\nUpgrade: ");
    buf_put(b, req->upgrade);
    buf_lit(b, "\r\n");
  }
  buf_lit(b, "\r\n");
  check(!b->full);
  struct h1_scan scan = {0};
  struct http_request again;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  check(h1_parse_request(&scan, buf_span(b), &wide, &arena, &again, &why) == HTTP_DONE);
  check(again.head_len == b->len && again.body == req->body);
  check_same_request(req, &again);
  arena_reset(&arena);
}

/* gather is an h2_put that makes rows for another round. */
struct gathered {
  struct h2_section section;
  struct arena arena;
};

static bool gather(void *ctx, const struct h2_field *field) {
  struct gathered *g = ctx;
  struct span name = arena_copy(&g->arena, field->name, NULL);
  struct span value = arena_copy(&g->arena, field->value, NULL);
  check(name.len == field->name.len && value.len == field->value.len);
  h2_rows_add(&g->section, &g->arena, name, value);
  return true;
}

static void check_as_h2(const struct http_request *req, bool end_stream,
                        const struct h2_rules *rules) {
  struct gathered g = {.section = {.end_stream = end_stream}};
  struct h2_request_head head = {.request = req, .scheme = req->scheme};
  struct http_request again;
  enum end why = END_OK;
  arena_init(&g.arena, NULL, 0);
  check(h2_each_request(&head, &g.arena, gather, &g));
  check(h2_parse_request(&g.section, rules, &g.arena, &again, &why));
  check_same_request(req, &again);
  check(again.body == req->body && again.scheme == req->scheme && again.form == req->form);
  bool te = http_fields_has(&req->fields, HTTP_NAME_TE);
  check(http_fields_has(&again.fields, HTTP_NAME_TE) == te);
  arena_reset(&g.arena);
}

static void try_request(struct h2_section *s, bool extended, struct arena *arena, struct buf *b) {
  struct h2_rules rules = {.uri_bytes = 4096, .extended_connect = extended};
  struct http_request req;
  enum end why = END_OK;
  if (!h2_parse_request(s, &rules, arena, &req, &why)) {
    struct http_request seen;
    h2_request_seen(s, arena, &seen);
    check(why != END_OK && clean(seen.host));
    return;
  }
  check_rows(&req.fields);
  check(req.path.len > 0 && (req.path.ptr[0] == '/' || span_eq(req.path, SPAN_LIT("*"))));
  check(clean(req.path) && clean(req.query) && clean(req.host) && req.host.len > 0);
  check(req.target.len <= rules.uri_bytes && http_is_token(req.method_text));
  check(req.method != HTTP_METHOD_CONNECT && req.scheme != HTTP_SCHEME_NONE);
  check(extended || req.upgrade.len == 0);
  check(!s->end_stream || (req.body != HTTP_BODY_CHUNKED && req.content_length == 0));
  struct http_field *cookie = http_fields_find(&req.fields, HTTP_NAME_COOKIE);
  check(!cookie || !http_fields_next(&req.fields, HTTP_NAME_COOKIE, cookie));
  check_as_h1(&req, b);
  check_as_h2(&req, s->end_stream, &rules);
}

/* ---- responses ---- */

static void check_same_response(const struct http_response *a, const struct http_response *b) {
  check(a->status == b->status && span_eq(a->upgrade, b->upgrade));
  check_same_written(&a->fields, &b->fields);
  check_same_written(&b->fields, &a->fields);
}

static void response_as_h1(const struct http_response *res, enum http_method method,
                           struct buf *b) {
  check(h1_write_status_line(b, res->status, res->reason));
  h1_write_fields(b, &res->fields);
  if (res->body == HTTP_BODY_TUNNEL) {
    buf_lit(b, "Connection: upgrade\r\nUpgrade: ");
    buf_put(b, res->upgrade);
    buf_lit(b, "\r\n");
  }
  if (res->body != HTTP_BODY_NONE)
    h1_write_framing(b, res->body, res->content_length);
  else if (res->has_length)
    h1_write_framing(b, HTTP_BODY_LENGTH, res->content_length);
  buf_lit(b, "\r\n");
  check(!b->full);
  struct h1_scan scan = {0};
  struct http_response again;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  check(h1_parse_response(&scan, buf_span(b), &wide, &arena, method, &again, &why) == HTTP_DONE);
  check(again.head_len == b->len && again.body == res->body);
  check(again.content_length == res->content_length);
  check_same_response(res, &again);
  arena_reset(&arena);
}

static void response_as_h2(const struct http_response *res, const struct h2_asked *asked,
                           bool end_stream) {
  struct gathered g = {.section = {.end_stream = end_stream}};
  struct http_response again;
  enum end why = END_OK;
  arena_init(&g.arena, NULL, 0);
  check(h2_each_response(res, &g.arena, gather, &g));
  check(h2_parse_response(&g.section, asked, &again, &why));
  check_same_response(res, &again);
  check(again.body == res->body && again.has_length == res->has_length);
  check(again.content_length == res->content_length);
  arena_reset(&g.arena);
}

static void try_response(struct h2_section *s, const struct h2_asked *asked, struct buf *b) {
  struct http_response res;
  enum end why = END_OK;
  if (!h2_parse_response(s, asked, &res, &why)) {
    check(why != END_OK);
    return;
  }
  check_rows(&res.fields);
  check(res.status >= 100 && res.status <= 599 && res.body != HTTP_BODY_CLOSE);
  check((res.status == 101) == (res.body == HTTP_BODY_TUNNEL));
  check(res.status != 101 || asked->upgrade.len > 0);
  response_as_h1(&res, asked->method, b);
  response_as_h2(&res, asked, s->end_stream);
}

static void try_trailers(struct h2_section *s, bool request) {
  struct gathered g = {.section = {.end_stream = true}};
  enum end why = END_OK;
  if (!h2_parse_trailers(s, request, &why)) {
    check(why != END_OK);
    return;
  }
  check_rows(&s->fields);
  arena_init(&g.arena, NULL, 0);
  check(h2_each_trailer(&s->fields, &g.arena, gather, &g));
  for (uint32_t i = 0; i < g.section.fields.count; i++)
    check(!(http_name_flags((enum http_name)g.section.fields.rows[i].id) & HTTP_NAME_NO_TRAILER));
  check(h2_parse_trailers(&g.section, request, &why));
  check_same_written(&s->fields, &g.section.fields);
  check_same_written(&g.section.fields, &s->fields);
  arena_reset(&g.arena);
}

static void try_priority(struct span value) {
  struct http_priority p = HTTP_PRIORITY_DEFAULT;
  bool ok = http_priority_parse(value, &p);
  check(p.urgency <= 7 && (ok || (p.urgency == 3 && !p.incremental)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  static char room[ROOM];
  if (len == 0 || len > ROOM / 8) return 0;
  struct arena arena;
  struct buf b = buf_of(room, sizeof(room));
  struct span text = span_of((const char *)data + 1, len - 1);
  unsigned how = data[0];
  arena_init(&arena, NULL, 0);
  struct h2_section s = h2_rows_read(text, 0x1e, 0x1f, &arena);
  s.end_stream = how & 4;
  bool head = how & 8, tunnel = how & 16;
  struct h2_asked asked = {.method = head && !tunnel ? HTTP_METHOD_HEAD : HTTP_METHOD_GET,
                           .upgrade = tunnel ? SPAN_LIT("websocket") : SPAN_EMPTY};
  if ((how & 3) < 2)
    try_request(&s, how & 1, &arena, &b);
  else if ((how & 3) == 2)
    try_response(&s, &asked, &b);
  else
    try_trailers(&s, head);
  try_priority(text);
  arena_reset(&arena);
  return 0;
}
