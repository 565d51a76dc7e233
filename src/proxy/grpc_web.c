/* grpc_web.c: gRPC-Web callers in front of gRPC endpoints (policies.*.grpc_web): the request
 * becomes a call, its response the body that a browser can read. Bytes pass as they come, a piece
 * at a time; nothing of a body is kept but a base64 group that is not whole. PROTOCOL-WEB. */
#include "proxy_priv.h"
#include "weir/http/trailer.h"

/* SLICE bytes become 4096 characters. */
#define SLICE 3072u

static struct web *web_of(const struct stream *s) { return &s->x->call.web; }

/* ---- the request ---- */

static struct span joined(struct stream *s, struct span a, struct span b) {
  return arena_printf(&s->arena, SPAN_FMT SPAN_FMT, SPAN_ARG(a), SPAN_ARG(b));
}

/* answer_form is the form of the response: what Accept names, else that of the request. */
static enum grpc_web answer_form(const struct http_fields *fields, enum grpc_web request) {
  const struct http_field *row = NULL;
  while ((row = http_fields_next(fields, HTTP_NAME_ACCEPT, row))) {
    enum grpc_web form = grpc_web_accepted(row->value);
    if (form != GRPC_WEB_NONE) return form;
  }
  return request;
}

/* rewrite makes the head that of a call; false: no memory. */
static bool rewrite(struct stream *s, struct http_field *type) {
  struct http_request *r = &s->x->req;
  struct span bare = grpc_web_type(GRPC_WEB_NONE);
  type->value = joined(s, bare, web_of(s)->suffix);
  http_fields_drop(&r->fields, SPAN_LIT("x-grpc-web"));
  const struct http_field *accept = http_fields_find(&r->fields, HTTP_NAME_ACCEPT);
  if (accept && grpc_web_accepted(accept->value) != GRPC_WEB_NONE)
    http_fields_drop(&r->fields, http_name_text(HTTP_NAME_ACCEPT));
  if (!http_fields_add(&r->fields, &s->arena, http_name_text(HTTP_NAME_TE), SPAN_LIT("trailers")))
    return false;
  r->fields.rows[r->fields.count - 1].flags = HTTP_FIELD_HOP; /* written by who speaks a version */
  if (web_of(s)->request == GRPC_WEB_TEXT && s->up_body.state == PUMP_READY) {
    r->body = HTTP_BODY_CHUNKED; /* its length is known when it was read */
    r->content_length = 0;
  }
  return type->value.len > 0;
}

enum end web_begin(struct stream *s) {
  struct http_field *type = http_fields_find(&s->x->req.fields, HTTP_NAME_CONTENT_TYPE);
  struct web *web = web_of(s);
  if (!s->route->settings.grpc_web || !type || s->x->req.method != HTTP_METHOD_POST) return END_OK;
  enum grpc_web form = grpc_web_of(type->value);
  if (form == GRPC_WEB_NONE) return END_OK;
  *web = (struct web){.request = (uint8_t)form,
                      .response = (uint8_t)answer_form(&s->x->req.fields, form),
                      .suffix = grpc_suffix(type->value)};
  if (!rewrite(s, type)) return END_LIMIT_STREAM_MEMORY;
  enum end end = grpc_begin(s);
  grpc_limit(s);
  return end;
}

/* ---- bodies ---- */

bool web_changes(const struct stream *s, const struct pump *p) {
  const struct web *web = web_of(s);
  return p == &s->up_body ? web->request == GRPC_WEB_TEXT : web->live;
}

static enum end decode(struct stream *s, struct span data) {
  char room[4096];
  while (data.len) { /* each turn takes some */
    size_t used = 0;
    struct buf out = buf_of(room, sizeof room);
    if (!base64_read(&web_of(s)->decoder, data, &used, &out)) return END_BAD_REQUEST_GRPC_WEB;
    data = span_from(data, used);
    if (out.len && !body_pass(s, &s->up_body, buf_span(&out))) return END_LIMIT_MEMORY;
  }
  return END_OK;
}

/* give passes bytes of the response on in its form. */
static bool give(struct stream *s, struct span data) {
  char room[4096];
  if (web_of(s)->response == GRPC_WEB_BINARY) return body_pass(s, &s->down_body, data);
  while (data.len) {
    struct buf out = buf_of(room, sizeof room);
    base64_write(span_sub(data, 0, SLICE), &out);
    data = span_from(data, SLICE);
    if (!body_pass(s, &s->down_body, buf_span(&out))) return false;
  }
  return true;
}

enum end web_pass(struct stream *s, struct pump *p, struct span data) {
  if (p == &s->up_body) return decode(s, data);
  grpc_frames_take(&web_of(s)->frames, data);
  return give(s, data) ? END_OK : END_LIMIT_MEMORY;
}

bool web_unfinished(const struct stream *s, const struct pump *p) {
  return p == &s->up_body && !base64_whole(&web_of(s)->decoder);
}

/* ---- the response ---- */

/* frame_of is the last frame of a body; empty: no memory. */
static struct span frame_of(struct stream *s, const struct http_fields *rows) {
  size_t len = grpc_web_trailers_len(rows);
  char *bytes = arena_bytes(&s->arena, len);
  struct buf out = buf_of(bytes, bytes ? len : 0);
  if (bytes) grpc_web_trailers_write(rows, &out);
  return buf_span(&out);
}

/* in_form is a body that is whole, as it goes out; empty: no memory. */
static struct span in_form(struct stream *s, struct span body) {
  if (web_of(s)->response == GRPC_WEB_BINARY) return body;
  size_t len = base64_len(body.len);
  char *bytes = arena_bytes(&s->arena, len);
  struct buf out = buf_of(bytes, bytes ? len : 0);
  if (bytes) base64_write(body, &out);
  return buf_span(&out);
}

bool web_end(struct stream *s, struct conn *sink, const struct http_fields *rows) {
  struct span frame = http_trailers_any(rows) ? frame_of(s, rows) : SPAN_EMPTY;
  if (http_trailers_any(rows) && (!frame.len || !give(s, frame))) return false;
  return s->down_body.to != HTTP_BODY_CHUNKED || conn_write(sink, H1_LAST_CHUNK);
}

/* move_status takes what belongs into the last frame out of a head that is all of a response. */
static bool move_status(struct stream *s, struct http_fields *head, struct http_fields *rows) {
  struct span prefix = SPAN_LIT("grpc-");
  for (uint32_t i = 0; i < head->count; i++) {
    struct http_field *row = &head->rows[i];
    if (row->flags || !span_eq_nocase(span_sub(row->name, 0, prefix.len), prefix)) continue;
    if (!http_fields_add(rows, &s->arena, row->name, row->value)) return false;
    row->flags = HTTP_FIELD_DROP;
  }
  return true;
}

/* only_frame makes the body of a response that has none. */
static bool only_frame(struct stream *s, struct http_response *r) {
  struct http_fields rows = {0};
  if (!move_status(s, &r->fields, &rows)) return false;
  struct span frame = frame_of(s, &rows);
  web_of(s)->frame = in_form(s, frame);
  r->body = HTTP_BODY_LENGTH;
  r->content_length = web_of(s)->frame.len;
  r->has_length = true;
  return web_of(s)->frame.len > 0;
}

bool web_response(struct stream *s) {
  struct http_response *r = &s->x->resp;
  struct web *web = web_of(s);
  struct http_field *type = http_fields_find(&r->fields, HTTP_NAME_CONTENT_TYPE);
  if (web->response == GRPC_WEB_NONE || r->status != 200 || !type || !grpc_is(type->value))
    return true;
  web->live = true;
  struct span form = grpc_web_type((enum grpc_web)web->response);
  type->value = joined(s, form, grpc_suffix(type->value));
  http_fields_drop(&r->fields, http_name_text(HTTP_NAME_TRAILER));
  r->has_length = false;
  bool bodiless = r->body == HTTP_BODY_LENGTH && !r->content_length;
  return type->value.len && (!bodiless || only_frame(s, r));
}

bool web_refusal(struct stream *s, const struct http_fields *rows, struct span *type,
                 struct span *body) {
  struct web *web = web_of(s);
  struct span form = grpc_web_type((enum grpc_web)web->response);
  *type = joined(s, form, web->suffix);
  *body = in_form(s, frame_of(s, rows));
  return type->len && body->len;
}

/* Behind half a message a frame of ours would be read as the rest of it. */
bool web_may_cut(const struct stream *s) {
  return grpc_frames_between(&web_of(s)->frames) && s->down_body.to != HTTP_BODY_LENGTH;
}
