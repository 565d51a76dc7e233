/* body.c: one direction's body. Bytes framed by length (or by close, towards a client that cannot
 * take chunks) go by relay; chunked ones are decoded and framed anew, never passed on as they
 * came. Backpressure: reading stops while the sink has OUT_HIGH pending. Knows both directions,
 * but only through body_source and body_sink. RFC 9112 sections 6 and 7. */
#include <errno.h>

#include "proxy_priv.h"

static bool is_request(const struct stream *s, const struct pump *p) { return p == &s->up_body; }

static struct conn *up_conn(const struct stream *s) { return s->try.up ? s->try.up->conn : NULL; }

static struct conn *body_source(const struct stream *s, const struct pump *p) {
  return is_request(s, p) ? s->conn : up_conn(s);
}

static struct conn *body_sink(const struct stream *s, const struct pump *p) {
  return is_request(s, p) ? up_conn(s) : s->conn;
}

static void pump_init(struct pump *p, enum http_body from, enum http_body to, uint64_t length) {
  *p = (struct pump){.from = (uint8_t)from, .to = (uint8_t)to, .left = length};
  bool body = from == HTTP_BODY_CHUNKED || from == HTTP_BODY_CLOSE ||
              (from == HTTP_BODY_LENGTH && length > 0);
  p->state = body ? PUMP_READY : PUMP_NONE;
  p->relay.pipe_rd = p->relay.pipe_wr = -1;
}

/* follow: HTTP/2 says where a body ends; from there to there its trailers may follow any. */
static bool request_follow(const struct stream *s) {
  return s->x->req.body == HTTP_BODY_LENGTH && http_request_open(&s->x->req);
}

void body_request_init(struct stream *s) {
  const struct http_request *r = &s->x->req;
  /* HTTP/2 brings the bytes as they are, and their end. */
  bool bare = r->h2 && (r->body == HTTP_BODY_CHUNKED || request_follow(s));
  pump_init(&s->up_body, bare ? HTTP_BODY_CLOSE : r->body, r->body, r->content_length);
  s->up_body.limit = s->listener->limits.body_bytes;
  h1_chunked_init(&s->x->up_chunked, H1_REQUEST);
}

/* ended: the client has said so, and nothing of the body waits. */
static bool ended(const struct stream *s) {
  return s->conn->flags & CONN_EOF && !conn_held(s->conn) && !(s->flags & STREAM_IN_DATA);
}

/* is_none: the client stated a length of 0 and ended the stream behind its head, without trailers.
 */
static bool is_none(const struct stream *s) {
  bool follow = request_follow(s) && !s->x->req.content_length;
  return follow && ended(s) && !trailers_any(s, &s->up_body);
}

void body_request_look(struct stream *s) {
  if (s->up_body.state == PUMP_READY && is_none(s)) s->up_body.state = PUMP_NONE;
}

/* length_of_0 settles whether there is anything to be waited for behind the head: what is none can
 * be sent again. */
static void length_of_0(struct stream *s, bool h2) {
  struct pump *p = &s->up_body;
  if (p->state != PUMP_NONE && p->state != PUMP_READY) return;
  p->state = h2 && !is_none(s) ? PUMP_READY : PUMP_NONE;
  if (p->state == PUMP_NONE && s->x->mirror) mirror_send(s);
}

/* body_request_to: HTTP/2 needs no framing of its own for a body whose length nobody knows. For
 * HTTP/1.1 a length that was stated is the end, whatever follows it. */
void body_request_to(struct stream *s, bool h2) {
  struct http_request *r = &s->x->req;
  struct pump *p = &s->up_body;
  p->to = (uint8_t)(h2 && r->body == HTTP_BODY_CHUNKED ? HTTP_BODY_CLOSE : r->body);
  if (!request_follow(s)) return;
  if (!r->content_length) length_of_0(s, h2);
  else if (p->state == PUMP_READY) p->from = h2 ? HTTP_BODY_CLOSE : HTTP_BODY_LENGTH;
}

/* drop_announced: no trailers go on. */
static void drop_announced(struct http_fields *fields) {
  if (http_fields_has(fields, HTTP_NAME_TRAILER))
    http_fields_drop(fields, http_name_text(HTTP_NAME_TRAILER));
}

/* response_framing: how a response's body goes to this client. */
static enum http_body response_framing(const struct stream *s) {
  enum http_body from = s->x->resp.body;
  bool known = from != HTTP_BODY_CHUNKED && from != HTTP_BODY_CLOSE;
  if (known && (!s->x->call.web.live || s->x->call.web.frame.len)) return from;
  if (s->flags & STREAM_H2) return HTTP_BODY_CLOSE;
  return s->x->req.minor ? HTTP_BODY_CHUNKED : HTTP_BODY_CLOSE;
}

void body_response_init(struct stream *s) {
  enum http_body said = s->x->resp.body;
  bool follow = s->flags & STREAM_H2 && http_response_open(&s->x->resp);
  bool bare = s->x->resp.h2 && (said == HTTP_BODY_CHUNKED || (said == HTTP_BODY_LENGTH && follow));
  enum http_body from = bare ? HTTP_BODY_CLOSE : said;
  pump_init(&s->down_body, from, response_framing(s), s->x->resp.content_length);
  h1_chunked_init(&s->x->down_chunked, H1_RESPONSE);
  bool placed = s->flags & STREAM_H2 || s->down_body.to != HTTP_BODY_LENGTH;
  if (!trailers_wanted(s) || !placed) drop_announced(&s->x->resp.fields);
  bool own = s->x->call.web.frame.len; /* nothing comes from the endpoint */
  if (own || s->down_body.state == PUMP_NONE) s->down_body.state = PUMP_DONE;
}

uint64_t body_moved(const struct pump *p) {
  return p->moved + (p->relaying ? p->relay.moved : 0);
}

/* ---- bytes out ---- */

/* RUN_MAX bounds what one call passes on: with OUT_HIGH pending before it stays far below what a
 * conn takes (256 KiB). */
#define RUN_MAX (2u * OUT_HIGH)

bool body_frame(struct conn *sink, enum http_body to, struct span data) {
  if (to != HTTP_BODY_CHUNKED) return conn_write(sink, data);
  struct buf *out = conn_out(sink, data.len + H1_CHUNK_HEAD_MAX + 2);
  if (!out) return false;
  h1_write_chunk_head(out, data.len);
  buf_put(out, data);
  buf_put(out, H1_CRLF);
  conn_flush(sink);
  return !out->full;
}

/* copied: the body goes to a mirror too, so it has to be looked at. */
static bool copied(const struct stream *s, const struct pump *p) {
  return is_request(s, p) && s->x->mirror;
}

/* pass writes a run on, and into the request's copy if one is taken. */
bool body_pass(struct stream *s, struct pump *p, struct span data) {
  if (copied(s, p)) mirror_body(s, data);
  p->moved += data.len;
  return body_frame(body_sink(s, p), (enum http_body)p->to, data);
}

/* pass is body_pass for bytes as they came; END_OK, or why they do not go on. */
static enum end pass(struct stream *s, struct pump *p, struct span data) {
  if (web_changes(s, p)) return web_pass(s, p, data);
  return body_pass(s, p, data) ? END_OK : END_LIMIT_MEMORY;
}

static bool put_end(struct stream *s, struct pump *p) {
  p->state = PUMP_DONE;
  return trailers_end(s, p, body_sink(s, p));
}

/* reframed: a length that is known does not go on as one. */
static bool reframed(const struct pump *p) {
  return p->from == HTTP_BODY_LENGTH && p->to != HTTP_BODY_LENGTH;
}

static bool fail(struct stream *s, enum end end) {
  s->end = end;
  return false;
}

/* finish ends a body whose last byte came. */
static bool finish(struct stream *s, struct pump *p) {
  if (web_unfinished(s, p)) return fail(s, END_BAD_REQUEST_GRPC_WEB);
  return put_end(s, p) || fail(s, END_LIMIT_MEMORY);
}

/* over tells whether a request body passed its limit. */
static bool over(const struct pump *p, size_t more) {
  return p->limit && p->moved + more > p->limit;
}

/* PULL_MAX: what is left of a body of up to so many bytes is read at once behind what came, where
 * it is there already; more is left to a relay. */
#define PULL_MAX 49152u

static void pull(struct stream *s, struct pump *p) {
  struct conn *sink = body_sink(s, p);
  if (p->left == 0 || p->left > PULL_MAX || conn_pending(sink) > OUT_HIGH) return;
  size_t got = conn_pull(body_source(s, p), sink, (size_t)p->left);
  p->left -= got;
  p->moved += got;
}

static bool data_length(struct stream *s, struct pump *p, struct span bytes, size_t *used) {
  struct span take = span_sub(bytes, 0, p->left < bytes.len ? (size_t)p->left : bytes.len);
  take = span_sub(take, 0, RUN_MAX);
  enum end end = take.len ? pass(s, p, take) : END_OK;
  if (end != END_OK) return fail(s, end);
  p->left -= take.len;
  *used = take.len;
  if (reframed(p)) return p->left || finish(s, p);
  if (take.len && take.len == bytes.len && !copied(s, p)) pull(s, p);
  if (p->left == 0) p->state = PUMP_DONE;
  return true;
}

static bool data_close(struct stream *s, struct pump *p, struct span bytes, size_t *used) {
  struct span take = span_sub(bytes, 0, RUN_MAX);
  if (over(p, take.len)) return fail(s, END_LIMIT_BODY);
  enum end end = take.len ? pass(s, p, take) : END_OK;
  if (end != END_OK) return fail(s, end);
  *used = take.len;
  return true;
}

static bool chunked_end(struct stream *s, struct pump *p) {
  enum end why;
  if (!trailers_parse(s, p, &why)) return fail(s, why);
  return finish(s, p);
}

static bool data_chunked(struct stream *s, struct pump *p, struct span bytes, size_t *used) {
  struct conn *sink = body_sink(s, p);
  struct h1_chunked *chunked = is_request(s, p) ? &s->x->up_chunked : &s->x->down_chunked;
  while (*used < bytes.len && conn_pending(sink) <= OUT_HIGH) {
    size_t took = 0;
    struct span data = SPAN_EMPTY;
    enum end why = END_INTERNAL;
    enum http_result r =
        h1_chunked_parse(chunked, span_from(bytes, *used), &took, &data, &why);
    if (r == HTTP_BAD || !trailers_gather(s, p, span_sub(bytes, *used, took), &why))
      return fail(s, why);
    *used += took;
    if (over(p, data.len)) return fail(s, END_LIMIT_BODY);
    enum end end = data.len ? pass(s, p, data) : END_OK;
    if (end != END_OK) return fail(s, end);
    if (r == HTTP_DONE) return chunked_end(s, p);
    if (!took && !data.len) break;
  }
  return true;
}

bool body_data(struct stream *s, struct pump *p, struct span bytes, size_t *used) {
  *used = 0;
  bool ok = true;
  if (is_request(s, p) && bytes.len) s->flags |= STREAM_BODY_TOUCHED;
  p->progress_ms = now_ms(s->w);
  switch ((enum http_body)p->from) {
    case HTTP_BODY_LENGTH: ok = data_length(s, p, bytes, used); break;
    case HTTP_BODY_CHUNKED: ok = data_chunked(s, p, bytes, used); break;
    case HTTP_BODY_CLOSE: ok = data_close(s, p, bytes, used); break;
    case HTTP_BODY_NONE:
    case HTTP_BODY_TUNNEL: break;
  }
  p->blocked = p->state != PUMP_DONE && conn_pending(body_sink(s, p)) > OUT_HIGH;
  if (ok && p->blocked) conn_watch(body_source(s, p)); /* all may have been used: still no more */
  return ok;
}

/* ---- the rest ---- */

static void on_relay_end(struct relay *r, enum relay_end why, int err) {
  struct stream *s = r->owner;
  struct pump *p = container_of(r, struct pump, relay);
  p->moved += r->moved;
  p->relaying = false;
  if (s->step == STEP_TUNNEL) {
    tunnel_ended(s, p, why, err);
    return;
  }
  /* A response that came whole is whole, whatever happens to its connection before it is sent on.
   */
  bool whole = why == RELAY_SRC_ERROR && r->left == 0 && !is_request(s, p);
  if (whole) s->try.flags |= ATTEMPT_UP_DIRTY;
  if (whole || why == RELAY_DONE || (why == RELAY_SRC_EOF && p->from == HTTP_BODY_CLOSE)) {
    p->state = PUMP_DONE;
    if (why == RELAY_SRC_EOF && !put_end(s, p)) {
      stream_fail(s, END_LIMIT_MEMORY);
      return;
    }
    if (is_request(s, p)) request_body_done(s);
    else response_done(s);
    return;
  }
  body_failed(s, p, why, err);
}

void body_start(struct stream *s, struct pump *p) {
  p->state = PUMP_RUN;
  p->progress_ms = now_ms(s->w);
  struct conn *source = body_source(s, p), *sink = body_sink(s, p);
  if (is_request(s, p)) s->flags |= STREAM_BODY_TOUCHED;
  /* A length that was stated was held against the limit before. */
  bool counted = is_request(s, p) && p->limit && p->from == HTTP_BODY_CLOSE &&
                 s->x->req.body != HTTP_BODY_LENGTH;
  bool looked_at = copied(s, p) || counted || reframed(p) || web_changes(s, p);
  if (looked_at || p->from == HTTP_BODY_CHUNKED || p->to == HTTP_BODY_CHUNKED) {
    conn_read_bulk(source, true);
    if (!p->blocked) conn_read_start(source);
    if (is_request(s, p) && ended(s)) request_body_eof(s);
    return;
  }
  p->relaying = true;
  p->relay.owner = s;
  p->relay.moved = 0;
  uint64_t len = p->from == HTTP_BODY_LENGTH ? p->left : UINT64_MAX;
  relay_start(&p->relay, source, sink, len, on_relay_end);
}

void body_stop(struct pump *p) {
  if (p->relaying) {
    relay_stop(&p->relay);
    p->moved += p->relay.moved;
    p->relaying = false;
  }
}

void body_drained(struct stream *s, struct pump *p) {
  if (p->state != PUMP_RUN || !p->blocked) return;
  p->blocked = false;
  p->progress_ms = now_ms(s->w);
  conn_read_bulk(body_source(s, p), true); /* the watch armed a receive of messages */
  conn_read_start(body_source(s, p));
}

bool body_eof(struct stream *s, struct pump *p) {
  if (p->state != PUMP_RUN || p->from != HTTP_BODY_CLOSE) return false;
  return put_end(s, p);
}

void request_body_eof(struct stream *s) {
  bool runs = s->up_body.state == PUMP_RUN && s->up_body.from == HTTP_BODY_CLOSE;
  if (runs && web_unfinished(s, &s->up_body)) stream_fail(s, END_BAD_REQUEST_GRPC_WEB);
  else if (body_eof(s, &s->up_body)) request_body_done(s);
}

/* waits_for_sink: else it waits for its source, or for memory to read from it. */
static bool waits_for_sink(const struct pump *p) {
  const struct relay *r = &p->relay;
  return p->relaying ? r->waits == RELAY_WAITS_DST : p->blocked;
}

static enum body_blame blame_of(const struct stream *s, const struct pump *p) {
  const struct conn *source = body_source(s, p);
  if (source && source->flags & CONN_PARKED) return BODY_OURSELVES;
  return waits_for_sink(p) ? BODY_SINK : BODY_SOURCE;
}

static uint32_t longer(uint32_t a_ms, uint32_t b_ms) {
  return a_ms && b_ms ? (a_ms > b_ms ? a_ms : b_ms) : 0;
}

uint64_t body_due(const struct stream *s, const struct pump *p, uint32_t src_ms, uint32_t dst_ms,
                  enum body_blame *blame) {
  uint64_t since = p->relaying ? p->relay.progress_ms : p->progress_ms;
  *blame = blame_of(s, p);
  uint32_t delay = *blame == BODY_SOURCE ? src_ms
                   : *blame == BODY_SINK ? dst_ms
                                         : longer(src_ms, dst_ms);
  return delay ? since + delay : WHEEL_NEVER;
}

void body_restart(struct pump *p, uint64_t now_ms) {
  p->progress_ms = p->relay.progress_ms = now_ms;
}

void body_tail(struct stream *s) {
  struct pump *p = &s->down_body;
  p->state = PUMP_RUN;
  p->blocked = true;
  p->taken = conn_taken(s->conn);
  p->progress_ms = now_ms(s->w);
}

void body_unsent(struct stream *s) {
  size_t rest = conn_pending(s->conn);
  s->down_body.moved -= rest < s->down_body.moved ? rest : s->down_body.moved;
}

/* LOOK_PARTS of a timeout pass between two looks, LOOK_FIRST_MS at most before the first: so much
 * later than its timeout at most a pump is found to stand still. */
#define LOOK_PARTS 8u
#define LOOK_FIRST_MS 400u

uint32_t body_look_ms(const struct pump *p, uint32_t timeout_ms) {
  uint32_t part = timeout_ms / LOOK_PARTS;
  return !p->looked && part > LOOK_FIRST_MS ? LOOK_FIRST_MS : part;
}

static void look(const struct stream *s, struct pump *p) {
  struct conn *sink = body_sink(s, p);
  p->looked = true;
  if (!sink || !waits_for_sink(p)) return;
  uint64_t taken = conn_taken(sink);
  if (taken == p->taken) return;
  p->taken = taken;
  p->progress_ms = now_ms(s->w);
  if (p->relaying) p->relay.progress_ms = p->progress_ms;
}

/* look_held: a held body that the endpoint takes slowly is on its way. */
static void look_held(struct stream *s) {
  uint64_t taken = conn_taken(s->try.up->conn);
  if (taken == s->up_body.taken) return;
  s->up_body.taken = taken;
  s->x->held.progress_ms = now_ms(s->w);
}

void body_look(struct stream *s) {
  if (s->try.up && held_unsent(s)) look_held(s);
  if (s->up_body.state == PUMP_RUN) look(s, &s->up_body);
  if (s->down_body.state == PUMP_RUN) look(s, &s->down_body);
}

/* ---- ends ---- */

void request_body_end(struct stream *s) {
  if (s->try.up && s->try.flags & ATTEMPT_H2) conn_finish(s->try.up->conn);
}

void request_body_done(struct stream *s) {
  if (is_none(s)) s->up_body.state = PUMP_NONE; /* it can be sent again */
  if (s->step != STEP_BUFFER) request_body_end(s);
  conn_read_bulk(s->conn, false);
  if (s->x->mirror) mirror_send(s);
  if (s->step == STEP_SEND) s->try.t_sent = now_ns(s->w);
  conn_watch(s->conn);
  stream_timer(s);
}

/* request_unfinished: not all of the request went on: the endpoint's connection is of no use. */
static bool request_unfinished(const struct stream *s) {
  return s->up_body.state == PUMP_RUN || s->up_body.state == PUMP_READY;
}

void response_done(struct stream *s) {
  if (request_unfinished(s)) {
    if (!rest_begin(s)) s->flags |= STREAM_CLOSE;
    body_stop(&s->up_body);
    conn_read_bulk(s->conn, false);
    s->try.flags |= ATTEMPT_UP_DIRTY;
  }
  if (s->down_body.to == HTTP_BODY_CLOSE) s->flags |= STREAM_CLOSE;
  grpc_over(s);
  attempt_drop(s, true);
  stream_go(s, STEP_FINISH);
}

void body_failed(struct stream *s, struct pump *p, enum relay_end why, int err) {
  if (own_trouble(err)) {
    stream_fail(s, END_LIMIT_MEMORY);
    return;
  }
  bool client = is_request(s, p) == (why != RELAY_DST_ERROR);
  if (client) {
    enum end end = err ? END_CLIENT_RESET : END_CLIENT_CLOSED;
    bool h2 = s->flags & STREAM_H2;
    stream_client_gone(s, h2 ? front_h2_word(s, end) : down_lost(s->down, end));
    return;
  }
  if (!is_request(s, p)) {
    stream_fail(s, attempt_cause(&s->try, err, &s->x->tls_why));
    return;
  }
  /* The endpoint stopped reading the request: it may have answered already (early response). */
  s->try.flags |= ATTEMPT_UP_DIRTY;
  s->flags |= STREAM_CLOSE;
  conn_read_stop(s->conn);
  if (s->try.up->conn->flags & CONN_FAILED && !s->down_body.relaying)
    stream_fail(s, attempt_cause(&s->try, -ECONNRESET, &s->x->tls_why));
}
