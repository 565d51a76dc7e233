/* response.c: what an endpoint sends: interim and final heads, checked, filtered and written to
 * the client; its end by FIN or error. An endpoint is as untrusted as a client: bytes after a
 * complete response end its connection and are never the next response. RFC 9110, RFC 9112. */
#include <errno.h>

#include "proxy_priv.h"

static const size_t head_rooms[] = {2048, 16384, 65536, 262144};

/* ---- to the client ---- */

/* keep decides whether the client's connection stays open after this response. */
static bool keep(const struct stream *s) {
  if (s->flags & STREAM_CLOSE || !s->x->req.keepalive) return false;
  return s->down_body.to != HTTP_BODY_CLOSE;
}

static void write_connection(struct stream *s, struct buf *b) {
  if (!keep(s)) {
    s->flags |= STREAM_CLOSE;
    buf_lit(b, "Connection: close\r\n");
  } else if (s->x->req.minor == 0) {
    buf_lit(b, "Connection: keep-alive\r\n");
  }
}

static void write_final(struct stream *s, struct buf *b) {
  const struct http_response *r = &s->x->resp;
  h1_write_status_line(b, r->status, r->reason);
  h1_write_fields(b, &r->fields);
  if (!http_fields_has(&r->fields, HTTP_NAME_DATE)) {
    buf_lit(b, "Date: ");
    buf_put(b, worker_date(s->w));
    buf_lit(b, "\r\n");
  }
  if (r->body == HTTP_BODY_TUNNEL) {
    buf_lit(b, "Connection: upgrade\r\nUpgrade: ");
    buf_put(b, r->upgrade);
    buf_lit(b, "\r\n\r\n");
    return;
  }
  if (r->body != HTTP_BODY_NONE) h1_write_framing(b, s->down_body.to, r->content_length);
  else if (r->has_length) h1_write_framing(b, HTTP_BODY_LENGTH, r->content_length);
  write_connection(s, b);
  buf_lit(b, "\r\n");
}

static void write_interim(struct stream *s, struct buf *b) {
  h1_write_status_line(b, s->x->resp.status, s->x->resp.reason);
  h1_write_fields(b, &s->x->resp.fields);
  buf_lit(b, "\r\n");
}

static bool give_head(struct stream *s, void (*write)(struct stream *s, struct buf *b)) {
  if (s->flags & STREAM_H2) {
    bool tunnel = s->x->resp.body == HTTP_BODY_TUNNEL;
    bool bare = s->down_body.state == PUMP_DONE && !s->x->call.web.frame.len;
    bool last = write == write_final && !tunnel && bare;
    return front_h2_head(s, &s->x->resp, last);
  }
  for (size_t i = 0; i < array_count(head_rooms); i++) {
    struct buf *out = conn_out(s->conn, head_rooms[i]);
    if (!out) return false;
    size_t before = out->len;
    write(s, out);
    if (!out->full) {
      conn_flush(s->conn);
      return true;
    }
    out->len = before;
    out->full = false;
  }
  return false;
}

/* ---- heads ---- */

static enum end interim(struct stream *s) {
  if (++s->interims > INTERIM_MAX) return END_BAD_RESPONSE_INTERIM;
  if (s->x->resp.status == 100) {
    s->flags |= STREAM_CONTINUED;
    s->try.flags &= (uint16_t)~ATTEMPT_EXPECTS;
    body_restart(&s->up_body, now_ms(s->w));
  }
  /* RFC 9110 section 15.2: not to a 1.0 client; a proxy may drop them, so to a slow one neither.
   */
  if (s->x->req.minor == 0 || conn_pending(s->conn) > OUT_HIGH) {
    if (s->x->req.expect_continue) s->flags |= STREAM_CLOSE; /* rest_may_follow: it is not told */
    return END_OK;
  }
  return give_head(s, write_interim) ? END_OK : END_LIMIT_MEMORY;
}

static bool upgrade_asked(const struct stream *s) {
  return s->x->req.upgrade.len && span_eq_nocase(s->x->req.upgrade, s->x->resp.upgrade);
}

/* final_check looks at what only the request can tell. */
static enum end final_check(struct stream *s) {
  if (s->x->resp.status == 101 && !upgrade_asked(s)) return END_BAD_RESPONSE_UPGRADE;
  if (tunnel_declined(s, s->x->resp.status)) return END_UPGRADE_DECLINED;
  enum end shaken = s->x->resp.status == 101 ? shake_done(s) : END_OK;
  if (shaken != END_OK) return shaken;
  s->x->ctx.response = &s->x->resp;
  affinity_response(s);
  return filter_response(&s->x->ctx) == FILTER_NEXT ? END_OK : s->x->ctx.end;
}

/* body_owed: an early response: the client still sends its request, or may. */
static bool body_owed(const struct stream *s) {
  return s->up_body.state == PUMP_READY || s->up_body.state == PUMP_RUN;
}

/* close_wanted: reasons on our side to end the client's connection after this response, as far as
 * they are known when it begins. */
static bool close_wanted(const struct stream *s) {
  uint32_t most = s->listener->limits.requests;
  if (body_owed(s) && !rest_may_follow(s)) return true;
  return s->w->draining || s->down->flags & DOWN_CLOSE || !s->down->serving->current ||
         (most && s->down->requests >= most);
}

/* tunnel_h2: HTTP/2 has no 101. */
static bool tunnel_h2(const struct stream *s) {
  return s->flags & STREAM_H2 && s->x->resp.status == 101;
}

/* own_body writes the body of a response to which weir gave one. */
static bool own_body(struct stream *s) {
  struct span frame = s->x->call.web.frame;
  s->down_body.moved += frame.len;
  return !frame.len || conn_write(s->conn, frame);
}

static enum end final(struct stream *s) {
  enum end end = final_check(s);
  if (end != END_OK) return end;
  if (close_wanted(s) || overload_closes(s)) s->flags |= STREAM_CLOSE;
  if (!s->x->resp.keepalive) s->try.flags |= ATTEMPT_UP_DIRTY;
  grpc_head(s);
  attempt_answered(s);
  admit_head(s);
  if (!web_response(s)) return END_LIMIT_STREAM_MEMORY;
  body_response_init(s);
  if (!give_head(s, write_final)) return END_LIMIT_MEMORY;
  s->status = tunnel_h2(s) ? 200 : s->x->resp.status;
  s->flags |= STREAM_RESPONDED;
  held_answered(s);
  return own_body(s) ? END_OK : END_LIMIT_MEMORY;
}

bool response_whole(const struct stream *s, struct span rest) {
  struct h1_chunked chunked;
  if (s->x->resp.body == HTTP_BODY_NONE) return rest.len == 0;
  if (s->x->resp.body == HTTP_BODY_LENGTH) return s->x->resp.content_length == rest.len;
  if (s->x->resp.body != HTTP_BODY_CHUNKED) return false;
  h1_chunked_init(&chunked, H1_RESPONSE);
  while (rest.len) { /* each turn takes some, or ends it */
    size_t used = 0;
    struct span data = SPAN_EMPTY;
    enum end why;
    enum http_result r = h1_chunked_parse(&chunked, rest, &used, &data, &why);
    rest = span_from(rest, used);
    if (r == HTTP_DONE) return rest.len == 0;
    if (r == HTTP_BAD || (!used && !data.len)) return false;
  }
  return false;
}

/* replace answers with the route's page for this status. The endpoint's connection is kept only
 * when all of its response is here: what is not read may not be the next one. */
static void replace(struct stream *s, const struct error_page *page, struct span rest) {
  attempt_answered(s);
  admit_head(s);
  if (!s->x->resp.keepalive) s->try.flags |= ATTEMPT_UP_DIRTY;
  if (body_owed(s)) {
    body_stop(&s->up_body);
    s->try.flags |= ATTEMPT_UP_DIRTY;
    s->flags |= STREAM_CLOSE;
  }
  attempt_drop(s, response_whole(s, rest));
  answer_page(s, page);
}

/* head_parse takes bytes of a head. *used is set; HTTP_DONE: s->x->resp is valid. */
static enum http_result head_parse(struct stream *s, struct span bytes, size_t *used,
                                   enum end *why) {
  const struct pool_limits *l = &s->pool->limits;
  struct h1_limits limits = {l->header_bytes, l->headers, 0};
  size_t before = s->x->head_up.len;
  size_t took = head_append(&s->arena, &s->x->head_up, bytes, l->header_bytes);
  *why = END_LIMIT_STREAM_MEMORY;
  if (!took) return HTTP_BAD;
  enum http_result r = h1_parse_response(&s->x->scan, buf_span(&s->x->head_up), &limits, &s->arena,
                                         s->x->req.method, &s->x->resp, why);
  *used = r == HTTP_DONE ? s->x->resp.head_len - before : took;
  return r;
}

static void head_reset(struct stream *s) {
  s->x->head_up.len = 0; /* its memory serves the next head */
  s->x->scan = (struct h1_scan){0};
}

enum heads { HEADS_MORE, HEADS_FINAL, HEADS_AGAIN, HEADS_BAD };

/* complete takes a head that came whole: an interim one is passed on and the next awaited. */
static enum heads complete(struct stream *s, enum end *end) {
  if (s->x->resp.status < 200 && s->x->resp.status != 101) {
    *end = interim(s);
    if (*end != END_OK) return HEADS_BAD;
    head_reset(s);
    return HEADS_MORE;
  }
  return retry_wanted(s) ? HEADS_AGAIN : HEADS_FINAL;
}

/* heads reads interim heads and the final one: to be given on, or worth another attempt. *end is
 * the cause when it is bad. */
static enum heads heads(struct stream *s, struct span bytes, size_t *used, enum end *end) {
  enum heads is = HEADS_MORE;
  while (is == HEADS_MORE && *used < bytes.len) {
    size_t took = 0;
    enum http_result r = head_parse(s, span_from(bytes, *used), &took, end);
    if (r == HTTP_BAD) return HEADS_BAD;
    *used += took;
    if (r == HTTP_DONE) is = complete(s, end);
  }
  return is;
}

/* ---- data ---- */

/* response_body passes body bytes on; what is too many ends the endpoint's connection. How many
 * were used: all of them when the stream ended. */
static size_t response_body(struct stream *s, struct span bytes) {
  size_t used = 0;
  if (s->down_body.state != PUMP_DONE && !body_data(s, &s->down_body, bytes, &used)) {
    stream_fail(s, s->end);
    return bytes.len;
  }
  if (s->down_body.state != PUMP_DONE) return used;
  if (used < bytes.len) s->try.flags |= ATTEMPT_UP_DIRTY;
  response_done(s);
  return bytes.len;
}

/* after_head starts what follows the final head with the bytes that came with it. */
static size_t after_head(struct stream *s, struct span rest) {
  if (s->x->resp.body == HTTP_BODY_TUNNEL) {
    if (rest.len && !conn_write(s->conn, rest)) stream_fail(s, END_LIMIT_MEMORY);
    else tunnel_start(s);
    return rest.len;
  }
  s->step = STEP_RELAY;
  if (s->down_body.state == PUMP_DONE) return response_body(s, rest);
  struct worker *w = s->w;
  uint32_t slot = s->head.slot, generation = s->head.generation;
  size_t used = response_body(s, rest);
  if (slab_find(&w->streams, slot, generation) != s || s->step != STEP_RELAY) return used;
  body_start(s, &s->down_body);
  stream_go(s, STEP_RELAY);
  return used;
}

size_t response_final(struct stream *s, struct span rest) {
  const struct error_page *page = answer_page_of(s, s->x->resp.status, true);
  if (page) {
    replace(s, page, rest);
    return rest.len;
  }
  enum end end = final(s);
  if (end == END_OK) return after_head(s, rest);
  stream_fail(s, end);
  return rest.len;
}

static void bad_head(struct stream *s, enum end end) {
  if (hedged(s)) attempt_failed(s, end);
  else stream_fail(s, end);
}

/* response_head takes bytes while the final head is awaited; how many were used: all of them when
 * the stream or its attempt ended. */
static size_t response_head(struct stream *s, struct span bytes) {
  size_t used = 0;
  enum end end = END_OK;
  switch (heads(s, bytes, &used, &end)) {
    case HEADS_MORE: break;
    case HEADS_FINAL: hedge_cancel(s); return used + response_final(s, span_from(bytes, used));
    case HEADS_AGAIN: retry_after_status(s, span_from(bytes, used)); break;
    case HEADS_BAD: bad_head(s, end); break;
  }
  return bytes.len;
}

size_t response_data(struct stream *s, struct span bytes) {
  if (s->step == STEP_RELAY) return response_body(s, bytes);
  if (s->step != STEP_SEND) return 0;
  if (!(s->try.flags & ATTEMPT_RESPONSE_BYTE) && attempt_unsent(s)) {
    attempt_failed(s, END_UPSTREAM_CLOSED);
    return bytes.len;
  }
  if (!(s->try.flags & ATTEMPT_RESPONSE_BYTE)) s->try.t_first = now_ns(s->w);
  s->try.flags |= ATTEMPT_RESPONSE_BYTE;
  return response_head(s, bytes);
}

void response_eof(struct stream *s, int err) {
  if (s->step == STEP_RELAY && !err && body_eof(s, &s->down_body)) {
    s->try.flags |= ATTEMPT_UP_DIRTY;
    response_done(s);
    return;
  }
  bool begun = s->step == STEP_RELAY || s->try.flags & ATTEMPT_RESPONSE_BYTE;
  enum end end = attempt_cause(&s->try, err, &s->x->tls_why);
  if (begun && !hedged(s)) stream_fail(s, end);
  else attempt_failed(s, end);
}

/* ---- events of the endpoint's connection ---- */

static struct stream *stream_of(struct conn *c) { return ((struct upconn *)c->owner)->owner; }

static void up_on_open(struct conn *c, int err) {
  struct stream *s = stream_of(c);
  if (h2_asks_anew(err)) attempt_ask_anew(s, err);
  else if (err) attempt_unopened(s, err);
  else attempt_opened(s);
}

static size_t up_on_data(struct conn *c, struct span bytes) {
  struct stream *s = stream_of(c);
  struct worker *w = s->w;
  uint32_t slot = s->head.slot, generation = s->head.generation;
  size_t used = response_data(s, bytes);
  if (slab_find(&w->streams, slot, generation) != s) return used;
  if (!s->try.up || s->try.up->conn != c) return used;
  /* An end that came while bytes were held was said before them. */
  if (c->flags & CONN_EOF && used == bytes.len && !conn_held(c)) response_eof(s, 0);
  return used;
}

static void up_warm(const struct conn *c, unsigned step) {
  const struct stream *s = ((const struct upconn *)c->owner)->owner;
  if (s) stream_warm(s, step, WARM_RESPONSE);
}

bool response_read_h2(const struct stream *s, struct h2_section *section,
                      struct http_response *out, enum end *why) {
  const struct h2_asked asked = {s->x->req.method, s->x->req.upgrade};
  *out = (struct http_response){0};
  return h2_parse_response(section, &asked, out, why);
}

/* trailers_h2: a section behind the final head. */
static void trailers_h2(struct stream *s, enum end end) {
  struct h2_section *section = &s->x->up_section;
  if (end == END_OK && h2_parse_trailers(section, false, &end))
    trailers_take(s, &s->down_body, &section->fields);
  else stream_fail(s, end);
}

/* final_h2 gives a final head on: what follows it is held against what it says. */
static void final_h2(struct stream *s, struct h2_stream *st) {
  h2_stream_expect(st, s->x->resp.body, s->x->resp.content_length);
  /* Of trailers: a tunnel has none, and no place for them. */
  if (s->x->resp.body != HTTP_BODY_TUNNEL) h2_stream_section(st, &s->x->up_section, &s->arena);
  hedge_cancel(s);
  (void)response_final(s, SPAN_EMPTY);
}

/* up_on_message: a section came by HTTP/2. */
static void up_on_message(struct conn *c, enum end end) {
  struct stream *s = stream_of(c);
  struct h2_stream *st = h2_stream_of(c);
  if (s->step == STEP_RELAY) {
    trailers_h2(s, end);
    return;
  }
  if (s->step != STEP_SEND) return;
  if (!(s->try.flags & ATTEMPT_RESPONSE_BYTE)) s->try.t_first = now_ns(s->w);
  s->try.flags |= ATTEMPT_RESPONSE_BYTE;
  enum heads is = HEADS_BAD;
  if (end == END_OK && response_read_h2(s, &s->x->up_section, &s->x->resp, &end))
    is = complete(s, &end);
  switch (is) {
    case HEADS_MORE: h2_stream_section(st, &s->x->up_section, &s->arena); break;
    case HEADS_FINAL: final_h2(s, st); break;
    case HEADS_AGAIN: retry_after_status(s, SPAN_EMPTY); break;
    case HEADS_BAD: bad_head(s, end); break;
  }
}

static void up_on_eof(struct conn *c) {
  struct stream *s = stream_of(c);
  if (conn_held(c)) return; /* up_on_data comes back to it */
  response_eof(s, 0);
}

static void up_on_error(struct conn *c, int err) { response_eof(stream_of(c), err); }

static void up_on_drained(struct conn *c) {
  struct stream *s = stream_of(c);
  if (held_unsent(s)) held_drained(s);
  else body_drained(s, &s->up_body);
}

static void up_on_timer(struct conn *c) { (void)c; } /* the stream's timer speaks for it */

const struct conn_events up_events = {
    .on_open = up_on_open,
    .on_data = up_on_data,
    .on_eof = up_on_eof,
    .on_error = up_on_error,
    .on_drained = up_on_drained,
    .on_timer = up_on_timer,
    .on_message = up_on_message,
    .warm = up_warm,
};
