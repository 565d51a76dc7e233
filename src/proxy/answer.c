/* answer.c: responses that weir makes itself: causes of end.def, redirects, fixed responses. Each
 * carries Proxy-Status where weir refused or failed (RFC 9209), and says no more than the cause.
 */
#include "proxy_priv.h"

/* proxy_errors: RFC 9209 section 2.3 error types; other causes carry details only. */
static const struct {
  enum end end;
  const char *type;
} proxy_errors[] = {
    {END_NO_ROUTE, "destination_not_found"},
    {END_NONE_HEALTHY, "destination_unavailable"},
    {END_RESOLVE_FAILED, "dns_error"},
    {END_CONNECT_REFUSED, "connection_refused"},
    {END_CONNECT_TIMEOUT, "connection_timeout"},
    {END_CONNECT_UNREACHABLE, "destination_ip_unroutable"},
    {END_CONNECT_FAILED, "connection_terminated"},
    {END_UPSTREAM_TLS_HANDSHAKE, "tls_protocol_error"},
    {END_UPSTREAM_TLS_PLAINTEXT, "tls_protocol_error"},
    {END_UPSTREAM_TLS_COMMON, "tls_protocol_error"},
    {END_UPSTREAM_TLS_UNKNOWN_NAME, "tls_alert_received"},
    {END_UPSTREAM_TLS_ALERT, "tls_alert_received"},
    {END_UPSTREAM_TLS_TIMEOUT, "connection_timeout"},
    {END_UPSTREAM_TLS_CLOSED, "connection_terminated"},
    {END_UPSTREAM_TLS_RESET, "connection_terminated"},
    {END_UPSTREAM_TLS_RECORD, "tls_protocol_error"},
    {END_UPSTREAM_TLS_RENEGOTIATION, "tls_protocol_error"},
    {END_UPSTREAM_TLS_UNTRUSTED, "tls_certificate_error"},
    {END_UPSTREAM_TLS_SELF_SIGNED, "tls_certificate_error"},
    {END_UPSTREAM_TLS_PURPOSE, "tls_certificate_error"},
    {END_UPSTREAM_TLS_EXPIRED, "tls_certificate_error"},
    {END_UPSTREAM_TLS_NOT_YET_VALID, "tls_certificate_error"},
    {END_UPSTREAM_TLS_NAME, "tls_certificate_error"},
    {END_UPSTREAM_TLS_PIN, "tls_certificate_error"},
    {END_UPSTREAM_TLS_VERSION, "tls_protocol_error"},
    {END_UPSTREAM_TLS_ALPN, "tls_protocol_error"},
    {END_UPSTREAM_TLS_CLIENT_CERT, "tls_alert_received"},
    {END_FIRST_BYTE_TIMEOUT, "connection_read_timeout"},
    {END_TRY_TIMEOUT, "http_response_timeout"},
    {END_UPSTREAM_IDLE_TIMEOUT, "connection_read_timeout"},
    {END_UPSTREAM_TIMEOUT_SEND, "connection_write_timeout"},
    {END_ROUTE_TIMEOUT, "http_response_timeout"},
    {END_CLIENT_DEADLINE, "http_response_timeout"},
    {END_UPSTREAM_RESET, "connection_terminated"},
    {END_UPSTREAM_H2_RST, "connection_terminated"},
    {END_UPSTREAM_H2_GOAWAY, "connection_terminated"},
    {END_UPSTREAM_PING, "connection_read_timeout"},
    {END_UPSTREAM_NO_UPGRADE, "http_upgrade_failed"},
    {END_UPSTREAM_CLOSED, "connection_terminated"},
    {END_UPSTREAM_TRUNCATED, "http_response_incomplete"},
    {END_QUEUE_FULL, "connection_limit_reached"},
    {END_QUEUE_DISPLACED, "connection_limit_reached"},
    {END_QUEUE_TIMEOUT, "connection_limit_reached"},
    {END_BREAKER_OPEN, "destination_unavailable"},
    {END_CONCURRENCY, "connection_limit_reached"},
    {END_LIMIT_CONNECTIONS, "connection_limit_reached"},
    {END_BAD_RESPONSE_HEADER_BYTES, "http_response_header_section_size"},
    {END_BAD_RESPONSE_UPGRADE, "http_upgrade_failed"},
    {END_BAD_RESPONSE_WEBSOCKET, "http_upgrade_failed"},
    {END_UPGRADE_DECLINED, "http_upgrade_failed"},
    {END_INTERNAL, "proxy_internal_error"},
    {END_LIMIT_MEMORY, "proxy_internal_error"},
    {END_LIMIT_DESCRIPTORS, "proxy_internal_error"},
};

static const char *error_type(enum end end) {
  for (size_t i = 0; i < array_count(proxy_errors); i++)
    if (proxy_errors[i].end == end) return proxy_errors[i].type;
  struct span word = end_get(end)->word;
  if (span_starts(word, SPAN_LIT("client."))) return "http_request_error";
  if (span_starts(word, SPAN_LIT("upstream.bad_response."))) return "http_protocol_error";
  if (span_starts(word, SPAN_LIT("upstream.h2."))) return "http_protocol_error";
  return "http_request_denied";
}

/* answer is one response: what differs between the kinds. */
struct answer {
  unsigned status;
  struct span type, body, location, allow;
  const struct route_respond *respond; /* whose fields it has; NULL: none */
  const struct http_fields *kept;      /* of a response whose body is replaced; NULL: none */
  uint64_t retry_after; /* seconds; 0: nothing is said */
  bool bare;               /* a gRPC call's: the head is all of it */
  struct http_fields call; /* what it says then */
  bool refused; /* s->end is to be named in Proxy-Status */
};

static struct span proxy_status(struct stream *s) {
  return arena_printf(&s->arena, "weir;error=%s;details=\"" SPAN_FMT "\"", error_type(s->end),
                      SPAN_ARG(end_get(s->end)->word));
}

/* add adds a field that has a value; false: no memory is left. */
static bool add(struct stream *s, struct http_fields *fields, struct span name,
                struct span value) {
  return !value.len || http_fields_add(fields, &s->arena, name, value);
}

/* bare_fields is what the answer has to say by itself. */
static bool bare_fields(struct stream *s, const struct answer *a, struct http_fields *fields) {
  *fields = (struct http_fields){0};
  struct span refused = a->refused ? proxy_status(s) : SPAN_EMPTY;
  uint64_t seconds = a->retry_after ? a->retry_after : a->refused ? s->x->retry_after_s : 0;
  struct span wait = seconds ? arena_printf(&s->arena, "%llu", (unsigned long long)seconds)
                             : SPAN_EMPTY;
  if (!add(s, fields, SPAN_LIT("Location"), a->location)) return false;
  /* An empty Allow says that there is no method at all (RFC 9110 section 10.2.1). */
  if (a->allow.ptr && !http_fields_add(fields, &s->arena, SPAN_LIT("Allow"), a->allow))
    return false;
  for (uint32_t i = 0; i < a->call.count; i++) {
    if (!add(s, fields, a->call.rows[i].name, a->call.rows[i].value)) return false;
  }
  return add(s, fields, SPAN_LIT("Proxy-Status"), refused) &&
         add(s, fields, SPAN_LIT("Retry-After"), wait) &&
         add(s, fields, SPAN_LIT("Content-Type"), a->body.len || a->bare ? a->type : SPAN_EMPTY);
}

/* respond_fields sets the fields of a fixed response. */
static bool respond_fields(struct stream *s, const struct route_respond *from,
                           struct http_fields *fields) {
  for (uint32_t i = 0; from && i < from->field_count; i++) {
    struct span value;
    if (!filter_expand(&s->x->ctx, &from->fields[i].value, &value)) return false;
    http_fields_drop(fields, from->fields[i].name);
    if (!add(s, fields, from->fields[i].name, value)) return false;
  }
  return true;
}

static bool add_kept(struct stream *s, struct http_fields *fields, const struct http_field *row) {
  if (!http_fields_add(fields, &s->arena, row->name, row->value)) return false;
  fields->rows[fields->count - 1].secret = row->secret;
  return true;
}

/* kept_fields adds what a pool's response says about the error itself. */
static bool kept_fields(struct stream *s, const struct http_fields *from,
                        struct http_fields *fields) {
  static const enum http_name names[] = {HTTP_NAME_RETRY_AFTER, HTTP_NAME_WWW_AUTHENTICATE,
                                         HTTP_NAME_ALLOW};
  for (size_t i = 0; from && i < array_count(names); i++) {
    const struct http_field *row = NULL;
    while ((row = http_fields_next(from, names[i], row)))
      if (!row->flags && row->value.len && !add_kept(s, fields, row)) return false;
  }
  return true;
}

/* answer_fields makes the fields, as the route's policies have them. When the stream's memory is
 * used up the answer goes out without what does not fit. */
static void answer_fields(struct stream *s, const struct answer *a, struct http_response *r) {
  bool whole = bare_fields(s, a, &r->fields) && respond_fields(s, a->respond, &r->fields) &&
               kept_fields(s, a->kept, &r->fields);
  uint32_t bare = r->fields.count;
  s->x->ctx.response = r;
  if (whole && filter_local(&s->x->ctx) != FILTER_NEXT) {
    r->fields.count = bare;
    for (uint32_t i = 0; i < bare; i++) r->fields.rows[i].flags = 0;
  }
  s->x->ctx.response = NULL;
}

static size_t fields_room(const struct http_fields *fields) {
  size_t room = 0;
  for (uint32_t i = 0; i < fields->count; i++)
    room += fields->rows[i].name.len + fields->rows[i].value.len + 4;
  return room;
}

/* asks_head: the client reads no body, also when the rest of its head is malformed or missing. */
static bool asks_head(const struct stream *s) {
  if (s->flags & STREAM_PARSED) return s->x->req.method == HTTP_METHOD_HEAD;
  return span_starts(buf_span(&s->x->head_in), SPAN_LIT("HEAD "));
}

/* may_ask_head: so little of the method is here that it may be HEAD: an empty body fits all. */
static bool may_ask_head(const struct stream *s) {
  struct span head = buf_span(&s->x->head_in), word = SPAN_LIT("HEAD ");
  return !(s->flags & STREAM_PARSED) && head.len < word.len && span_starts(word, head);
}

static void write_answer(struct stream *s, const struct answer *a,
                         const struct http_fields *fields, struct buf *b) {
  h1_write_status_line(b, a->status, http_status_reason(a->status));
  buf_lit(b, "Date: ");
  buf_put(b, worker_date(s->w));
  buf_lit(b, "\r\n");
  h1_write_fields(b, fields);
  if (a->status != 204 && a->status != 304)
    h1_write_framing(b, HTTP_BODY_LENGTH, a->body.len);
  if (s->flags & STREAM_CLOSE) buf_lit(b, "Connection: close\r\n");
  else if (s->x->req.minor == 0) buf_lit(b, "Connection: keep-alive\r\n");
  buf_lit(b, "\r\n");
  if (!asks_head(s) && a->status != 204 && a->status != 304) buf_put(b, a->body);
}

/* body_owed: the client still sends a body that nobody wants. */
static bool body_owed(const struct stream *s) {
  return s->up_body.state == PUMP_READY || s->up_body.state == PUMP_RUN;
}

/* body_unread: nor will anybody read it. */
static bool body_unread(const struct stream *s) {
  return body_owed(s) && !rest_may_follow_own(s);
}

/* answer_h2 is write_answer for a client of HTTP/2. */
static void answer_h2(struct stream *s, const struct answer *a, struct http_response *r) {
  bool bodiless = a->status == 204 || a->status == 304;
  bool sent = !bodiless && !asks_head(s) && a->body.len;
  r->has_length = !bodiless && !a->bare;
  r->content_length = a->body.len;
  r->body = sent ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
  if (!front_h2_head(s, r, !sent) || (sent && !conn_write(s->conn, a->body))) {
    s->flags |= STREAM_CLOSE | STREAM_ABORT;
    return;
  }
  s->status = (uint16_t)a->status;
  s->down_body.moved = sent ? a->body.len : 0;
}

/* for_call makes what is no success one of gRPC: all of it stands in the head (Trailers-Only). */
static struct answer for_call(struct stream *s, const struct answer *a) {
  struct answer call = *a;
  struct http_fields rows = {0};
  if (a->status < 300 || !grpc_asks(s)) return call;
  if (!grpc_refusal(s, a->status, a->refused, &rows)) return call;
  if (s->x->call.web.response) {
    if (!web_refusal(s, &rows, &call.type, &call.body)) return call;
  } else {
    call.type = SPAN_LIT("application/grpc");
    call.body = SPAN_EMPTY;
    call.call = rows;
    call.bare = true;
  }
  call.status = 200;
  return call;
}

static void answer_send(struct stream *s, const struct answer *made) {
  const struct answer call = for_call(s, made), *a = &call;
  const struct down *d = s->down;
  bool over = d->flags & DOWN_CLOSE || s->w->draining || !d->serving->current;
  uint32_t most = s->listener->limits.requests;
  if (over || body_unread(s) || !s->x->req.keepalive || (most && d->requests >= most))
    s->flags |= STREAM_CLOSE;
  if (overload_closes(s)) s->flags |= STREAM_CLOSE;
  struct http_response r = {.status = (uint16_t)a->status};
  answer_fields(s, a, &r);
  s->flags |= STREAM_RESPONDED | STREAM_LOCAL;
  if (s->flags & STREAM_H2) {
    answer_h2(s, a, &r);
    return;
  }
  size_t room = a->body.len + fields_room(&r.fields) + 512;
  struct buf *out = room <= 262144 ? conn_out(d->conn, room) : NULL;
  if (!out) {
    s->flags |= STREAM_CLOSE | STREAM_ABORT;
    return;
  }
  size_t before = out->len;
  write_answer(s, a, &r.fields, out);
  if (out->full) {
    out->len = before;
    out->full = false;
    s->flags |= STREAM_CLOSE | STREAM_ABORT;
    return;
  }
  s->status = (uint16_t)a->status;
  s->down_body.moved = asks_head(s) ? 0 : a->body.len;
  conn_flush(d->conn);
  if (body_owed(s) && !rest_begin(s)) s->flags |= STREAM_CLOSE;
}

static struct span end_body(struct stream *s, unsigned status) {
  const struct end_row *row = end_get(s->end);
  return arena_printf(&s->arena, "%u " SPAN_FMT "\n" SPAN_FMT ": " SPAN_FMT "\n", status,
                      SPAN_ARG(http_status_reason(status)), SPAN_ARG(row->word),
                      SPAN_ARG(row->detail));
}

/* end_status is the row's, but where a policy says another. */
static unsigned end_status(const struct stream *s) {
  return s->end == END_LIMIT_RATE ? s->x->limited.status : end_get(s->end)->status;
}

/* reusable: refusals after which the client's connection is still in step with ours. */
static bool reusable(enum end end) {
  struct span word = end_get(end)->word;
  if (end == END_NO_ROUTE || end == END_METHOD_NOT_ALLOWED || end == END_CLIENT_MISDIRECTED ||
      end == END_CORS_ORIGIN || end == END_DENIED_CLIENT || end == END_DENIED_CERTIFICATE ||
      end == END_TOO_EARLY || end == END_LIMIT_RATE || end == END_OVERLOAD_MEMORY ||
      end == END_OVERLOAD_LAG)
    return true;
  return span_starts(word, SPAN_LIT("upstream."));
}

const struct error_page *answer_page_of(const struct stream *s, unsigned status, bool upstream) {
  if (!s->route || status < 400) return NULL;
  return error_page_find(s->route->policies, s->route->policy_count, status, upstream);
}

void answer_page(struct stream *s, const struct error_page *page) {
  struct answer a = {.status = s->x->resp.status, .type = page->content_type, .body = page->body};
  a.kept = &s->x->resp.fields;
  answer_send(s, &a);
  stream_go(s, STEP_FINISH);
}

void answer_end(struct stream *s) {
  struct answer a = {.status = end_status(s), .type = SPAN_LIT("text/plain; charset=utf-8")};
  a.refused = true;
  a.retry_after = limit_retry_after(s);
  const struct error_page *page = answer_page_of(s, a.status, false);
  a.body = page ? page->body : end_body(s, a.status);
  if (page) a.type = page->content_type;
  if (may_ask_head(s)) a.body = SPAN_EMPTY;
  if (s->end == END_METHOD_NOT_ALLOWED) a.allow = s->x->allow;
  if (s->flags & STREAM_PARSED && reusable(s->end) && !body_unread(s))
    s->flags &= ~(uint32_t)STREAM_CLOSE;
  answer_send(s, &a);
}

void answer_route(struct stream *s) {
  const struct route *r = s->route;
  struct answer a = {.status = r->status};
  if (r->action == ROUTE_REDIRECT) {
    enum end end = redirect_location(s, &a.location);
    if (end != END_OK) {
      stream_fail(s, end);
      return;
    }
  } else {
    a.type = r->respond.content_type;
    a.body = r->respond.body;
    a.respond = &r->respond;
  }
  if (tunnel_declined(s, a.status)) {
    stream_fail(s, END_UPGRADE_DECLINED);
    return;
  }
  answer_send(s, &a);
  stream_go(s, STEP_FINISH);
}

void answer_status(struct stream *s, unsigned status) {
  struct answer a = {.status = status};
  answer_send(s, &a);
  stream_go(s, STEP_FINISH);
}

void answer_https(struct stream *s) {
  const struct http_request *r = &s->x->req;
  if (!r->host.len) {
    stream_fail(s, END_BAD_REQUEST_HOST_MISSING);
    return;
  }
  unsigned port = s->listener->redirect_port;
  struct span path = span_eq(r->path, SPAN_LIT("*")) ? SPAN_LIT("/") : r->path;
  struct span tail = r->has_query ? SPAN_LIT("?") : SPAN_EMPTY;
  char port_text[8] = "";
  struct buf b = buf_of(port_text, sizeof port_text);
  if (port && port != 443) {
    buf_char(&b, ':');
    buf_u64(&b, port);
  }
  struct answer a = {.status = 308};
  a.location = arena_printf(&s->arena, "https://" SPAN_FMT SPAN_FMT SPAN_FMT SPAN_FMT SPAN_FMT,
                            SPAN_ARG(r->host), SPAN_ARG(buf_span(&b)), SPAN_ARG(path),
                            SPAN_ARG(tail), SPAN_ARG(r->query));
  answer_send(s, &a);
}
