/* grpc.c: gRPC calls: deadlines of callers, weir's own answers as statuses, statuses of endpoints
 * for health, retries, log. A call is told by its Content-Type alone; its messages are a body like
 * any other. What the words mean is http/grpc.h's. PROTOCOL-HTTP2. */
#include "proxy_priv.h"
#include "weir/http/h2_frame.h"

static const struct span status_name = {"grpc-status", 11};
static const struct span message_name = {"grpc-message", 12};
static const struct span timeout_name = {"grpc-timeout", 12};

static bool is_call(const struct stream *s) { return s->flags & STREAM_GRPC && s->x; }

static bool says_grpc(const struct http_fields *fields) {
  const struct http_field *row = http_fields_find(fields, HTTP_NAME_CONTENT_TYPE);
  return row && grpc_is(row->value);
}

/* ---- the request ---- */

static enum end take_deadline(struct stream *s) {
  struct http_fields *fields = &s->x->req.fields;
  uint64_t ms = 0;
  uint32_t count = 0;
  for (uint32_t i = 0; i < fields->count; i++) {
    if (!span_eq_nocase(fields->rows[i].name, timeout_name)) continue;
    if (count++ || !grpc_timeout_parse(fields->rows[i].value, &ms))
      return END_BAD_REQUEST_GRPC_TIMEOUT;
  }
  if (!count) return END_OK;
  s->flags |= STREAM_DEADLINE;
  s->deadline_ms = s->x->call.deadline_ms = now_ms(s->w) + ms;
  if (s->flags & STREAM_H2) h2_stream_waits(h2_stream_of(s->conn), ms);
  return END_OK;
}

enum end grpc_begin(struct stream *s) {
  if (s->x->req.upgrade.len || !says_grpc(&s->x->req.fields)) return END_OK;
  s->flags |= STREAM_GRPC;
  return take_deadline(s);
}

/* looks_like_call: by a head as far as it was read. Who asks for a tunnel by CONNECT has one, by a
 * status of 200. */
static bool looks_like_call(const struct h2_section *head) {
  struct span connect = http_method_text(HTTP_METHOD_CONNECT);
  if (span_eq(head->pseudo.value[H2_PSEUDO_METHOD], connect)) return false;
  return says_grpc(&head->fields);
}

bool grpc_asks(struct stream *s) {
  if (s->flags & STREAM_PARSED || !(s->flags & STREAM_H2)) return is_call(s);
  if (looks_like_call(&s->x->section)) s->flags |= STREAM_GRPC;
  return is_call(s);
}

bool grpc_overdue(const struct stream *s) { return s->x->call.deadline_ms <= now_ms(s->w); }

void grpc_limit(struct stream *s) {
  uint64_t call_ms = s->x->call.deadline_ms;
  uint64_t route_ms = s->route->timeout_ms ? now_ms(s->w) + s->route->timeout_ms : WHEEL_NEVER;
  s->deadline_ms = call_ms < route_ms ? call_ms : route_ms;
}

bool grpc_send_deadline(struct stream *s) {
  if (!(s->flags & STREAM_DEADLINE)) return true;
  struct http_field *row = http_fields_find_name(&s->x->req.fields, timeout_name);
  if (!row || row->flags) return true; /* a policy took it out */
  char *bytes = arena_bytes(&s->arena, GRPC_TIMEOUT_LEN);
  if (!bytes) return false;
  struct buf text = buf_of(bytes, GRPC_TIMEOUT_LEN);
  uint64_t now = now_ms(s->w);
  grpc_timeout_write(s->deadline_ms > now ? s->deadline_ms - now : 0, &text);
  row->value = buf_span(&text);
  return true;
}

/* ---- the response ---- */

/* bodiless: its head is all of it (Trailers-Only). */
static bool bodiless(const struct http_response *r) {
  if (r->h2) return r->ended;
  return r->body == HTTP_BODY_NONE || (r->body == HTTP_BODY_LENGTH && !r->content_length);
}

enum grpc_status grpc_of(const struct http_response *r) {
  if (r->status != 200 || !says_grpc(&r->fields)) return grpc_status_of_http(r->status);
  if (!bodiless(r)) return GRPC_STATUS_COUNT;
  const struct http_field *row = http_fields_find_name(&r->fields, status_name);
  return row ? grpc_status_parse(row->value) : GRPC_UNKNOWN;
}

bool grpc_retry(const struct stream *s) {
  static const struct {
    uint32_t cause;
    enum grpc_status status;
  } rows[] = {{RETRY_CANCELLED, GRPC_CANCELLED},
              {RETRY_DEADLINE_EXCEEDED, GRPC_DEADLINE_EXCEEDED},
              {RETRY_INTERNAL, GRPC_INTERNAL},
              {RETRY_RESOURCE_EXHAUSTED, GRPC_RESOURCE_EXHAUSTED},
              {RETRY_UNAVAILABLE, GRPC_UNAVAILABLE}};
  if (!is_call(s) || s->x->resp.status != 200) return false;
  enum grpc_status status = grpc_of(&s->x->resp);
  for (size_t i = 0; i < array_count(rows); i++)
    if (rows[i].status == status) return s->pool->retry.on & rows[i].cause;
  return false;
}

uint16_t grpc_counts_as(const struct stream *s) {
  const struct http_response *r = &s->x->resp;
  if (!is_call(s) || r->status != 200) return r->status;
  enum grpc_status status = grpc_of(r);
  if (status == GRPC_STATUS_COUNT) return 0;
  return grpc_status_bad(status) ? 503 : 200;
}

/* unbound: trailers follow a body whose length an endpoint of HTTP/2 told, too; who passes that on
 * would be done before them. What it said is held against DATA in mux/. */
static void unbound(struct http_response *r) {
  if (!r->h2 || r->body != HTTP_BODY_LENGTH) return;
  r->body = HTTP_BODY_CHUNKED;
  r->has_length = false;
}

void grpc_head(struct stream *s) {
  if (!is_call(s)) return;
  s->x->call.status = (uint8_t)grpc_of(&s->x->resp);
  if (s->x->call.status == GRPC_STATUS_COUNT) unbound(&s->x->resp);
}

static void known(struct stream *s, enum grpc_status status) {
  s->x->call.status = (uint8_t)status;
  attempt_judged(s, grpc_status_bad(status) ? 503 : 200);
}

static bool undecided(const struct stream *s) {
  return is_call(s) && s->flags & STREAM_RESPONDED && s->x->call.status == GRPC_STATUS_COUNT;
}

void grpc_trailers(struct stream *s, const struct http_fields *rows) {
  if (!undecided(s)) return;
  const struct http_field *row = http_fields_find_name(rows, status_name);
  known(s, row ? grpc_status_parse(row->value) : GRPC_UNKNOWN);
}

void grpc_over(struct stream *s) {
  if (undecided(s)) known(s, GRPC_UNKNOWN);
}

/* ---- weir's own ---- */

/* MESSAGE_MAX: each byte of a word or a sentence of end.def becomes three at most. */
#define MESSAGE_MAX 1024u

/* put_status adds the two fields that say what weir did. */
static bool put_status(struct stream *s, enum grpc_status status, struct span text,
                       struct http_fields *fields) {
  char *bytes = arena_bytes(&s->arena, MESSAGE_MAX);
  if (!bytes) return false;
  struct buf message = buf_of(bytes, MESSAGE_MAX);
  grpc_message_write(text, &message);
  struct span number = arena_printf(&s->arena, "%u", (unsigned)status);
  s->x->call.status = (uint8_t)status;
  return number.len && http_fields_add(fields, &s->arena, status_name, number) &&
         http_fields_add(fields, &s->arena, message_name, buf_span(&message));
}

static struct span sentence(struct stream *s) {
  const struct end_row *row = end_get(s->end);
  return arena_printf(&s->arena, SPAN_FMT ": " SPAN_FMT, SPAN_ARG(row->word),
                      SPAN_ARG(row->detail));
}

/* of_reset: who cancels a call whose deadline has passed does so for that. */
static enum grpc_status of_reset(const struct stream *s, uint32_t code) {
  enum grpc_status status = grpc_status_of_reset(code);
  bool overdue = s->flags & STREAM_DEADLINE && s->deadline_ms <= now_ms(s->w);
  return status == GRPC_CANCELLED && overdue ? GRPC_DEADLINE_EXCEEDED : status;
}

/* failed is the status for s->end, which stands for `status` in HTTP. */
static enum grpc_status failed(const struct stream *s, unsigned status) {
  struct h2_told told = attempt_told(&s->try, s->end);
  if (told.frame == H2_RST_STREAM) return of_reset(s, told.code);
  return grpc_status_of_end(s->end, status);
}

bool grpc_refusal(struct stream *s, unsigned status, bool refused, struct http_fields *fields) {
  struct span text = refused ? sentence(s) : http_status_reason(status);
  enum grpc_status code = refused ? failed(s, status) : grpc_status_of_end(END_OK, status);
  return put_status(s, code, text, fields);
}

/* may_cut: an HTTP/2 client that reads sees trailers for what they are. Behind a length there is
 * no place for them. */
static bool may_cut(const struct stream *s) {
  if (!undecided(s) || s->end == END_CLIENT_TIMEOUT_SEND) return false;
  if (s->x->call.web.live) return web_may_cut(s) && s->down_body.state != PUMP_DONE;
  if (!(s->flags & STREAM_H2)) return false;
  return s->down_body.to == HTTP_BODY_CLOSE && s->down_body.state != PUMP_DONE;
}

bool grpc_cut(struct stream *s) {
  struct http_fields rows = {0};
  if (!may_cut(s)) return false;
  enum grpc_status status = failed(s, end_get(s->end)->status);
  if (!put_status(s, status, sentence(s), &rows)) return false;
  if (s->x->call.web.live) return web_end(s, s->conn, &rows);
  return h2_send_trailers(h2_stream_of(s->conn), &rows);
}

enum grpc_status grpc_final(const struct stream *s) {
  if (s->x->call.status < GRPC_STATUS_COUNT) return (enum grpc_status)s->x->call.status;
  return s->end == END_OK ? GRPC_UNKNOWN : failed(s, end_get(s->end)->status);
}
