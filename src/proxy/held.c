/* held.c: a request body that is kept in memory before an endpoint is chosen (policies.*.buffer):
 * a slow client then holds no endpoint, and the request may be sent again. At most as much as the
 * policy says and as long as half of the worker's buffers are free; what does not fit is streamed
 * behind it. Framing is decoded here and made anew when it is sent. Small bodies that go to HTTP/2
 * are kept so without a policy, if they come at once: an endpoint may refuse a stream at any time
 * (RFC 9113 section 8.7), and says so for another one to be tried. */
#include "proxy_priv.h"

#define PIECE_MAX 65536u
#define SLICE 4096u /* what is taken at once */

/* SMALL_MOST bytes are kept without a policy, while three quarters of the buffers are free. */
#define SMALL_MOST 16384u
/* SMALL_MS is how long the rest of one is waited for. A client that sends no more now may not
 * until it has heard of the endpoint: what there is goes on then, and the rest as it comes. */
#define SMALL_MS 100u

/* is_small: all of it is on its way, and short. */
static bool is_small(const struct stream *s) {
  const struct http_request *r = &s->x->req;
  const struct pool_connections *c = &s->pool->connections;
  bool streams = c->protocol == POOL_H2C || c->protocol == POOL_H2;
  if (!streams || r->expect_continue || s->flags & STREAM_GRPC) return false;
  return r->body == HTTP_BODY_LENGTH && r->content_length <= SMALL_MOST;
}

/* fits_in: it may be no more than so much. */
static bool fits_in(const struct stream *s, uint32_t most) {
  const struct http_request *r = &s->x->req;
  if (r->body == HTTP_BODY_CHUNKED) return most > 0;
  return r->content_length && r->content_length <= most;
}

bool held_wanted(const struct stream *s) {
  if (s->up_body.state != PUMP_READY || web_changes(s, &s->up_body)) return false;
  return fits_in(s, s->route->settings.buffer_bytes) || (is_small(s) && fits_in(s, SMALL_MOST));
}

/* begin says how much is held, and for how long: a policy's holds last as long as clients do. */
static void begin(struct stream *s) {
  struct held *h = &s->x->held;
  uint32_t policy = s->route->settings.buffer_bytes;
  bool asked = fits_in(s, policy);
  h->limit = asked ? policy : SMALL_MOST;
  h->until_ms = asked ? WHEEL_NEVER : now_ms(s->w) + SMALL_MS;
}

/* say_continue: nobody else will ask for the body. */
static bool say_continue(struct stream *s) {
  if (!s->x->req.expect_continue) return true;
  s->x->req.expect_continue = false;
  http_fields_drop(&s->x->req.fields, SPAN_LIT("Expect"));
  struct http_response interim = {.status = 100, .minor = 1};
  if (s->flags & STREAM_H2) return front_h2_head(s, &interim, false);
  return conn_write(s->conn, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
}

void enter_buffer(struct stream *s) {
  begin(s);
  s->up_body.progress_ms = now_ms(s->w);
  stat_add(&s->w->stats.buffered, 1);
  if (!say_continue(s)) {
    stream_fail(s, END_LIMIT_MEMORY);
    return;
  }
  conn_read_start(s->conn);
  if (s->conn->flags & CONN_EOF && !conn_held(s->conn)) held_eof(s);
}

/* give_length: it is known now, whatever framing the body came in. */
static void give_length(struct stream *s) {
  struct http_request *r = &s->x->req;
  r->body = HTTP_BODY_LENGTH;
  r->content_length = s->x->held.bytes;
  http_fields_drop(&r->fields, http_name_text(HTTP_NAME_TRAILER));
}

/* leave goes on with what is held; the route's timeout is not for the client's part of it where a
 * policy has that waited for. */
static void leave(struct stream *s) {
  if (s->x->held.whole) {
    s->up_body.state = PUMP_DONE;
    if (!trailers_any(s, &s->up_body)) give_length(s);
    conn_watch(s->conn);
    if (s->x->mirror) mirror_send(s);
  }
  if (held_patient(s)) grpc_limit(s);
  stream_go(s, STEP_PICK);
}

bool held_patient(const struct stream *s) { return s->x->held.until_ms == WHEEL_NEVER; }

/* ---- in ---- */

/* fits makes room for so many bytes in one piece; false: no more is to be held. */
static bool fits(struct stream *s, size_t count) {
  struct held *h = &s->x->held;
  struct iobufs *pool = &s->w->loop->iobufs;
  if (h->limit - h->bytes < count) return false;
  if (h->last && buf_room(&h->last->data) >= count) return true;
  if (pool->bytes_out > pool->limit / (s->route->settings.buffer_bytes ? 2 : 4)) return false;
  size_t size = h->bytes < PIECE_MAX ? (size_t)h->bytes : PIECE_MAX;
  struct iobuf *piece = iobuf_take(pool, size > count ? size : count);
  if (!piece) return false;
  if (h->last) h->last->next = piece;
  else h->first = piece;
  h->last = piece;
  return true;
}

static void keep(struct stream *s, struct span data) {
  struct buf *b = &s->x->held.last->data;
  buf_put(b, data);
  check(!b->full); /* fits() saw to it */
  s->x->held.bytes += data.len;
  s->up_body.moved += data.len;
  if (s->x->mirror) mirror_body(s, data);
  stat_add(&s->w->stats.buffered_bytes, data.len);
}

static size_t take_length(struct stream *s, struct span bytes) {
  struct pump *p = &s->up_body;
  size_t used = 0;
  while (used < bytes.len && p->left) {
    struct span data = span_sub(bytes, used, p->left < SLICE ? (size_t)p->left : SLICE);
    if (!fits(s, data.len)) break;
    keep(s, data);
    p->left -= data.len;
    used += data.len;
  }
  s->x->held.whole = p->left == 0;
  return used;
}

/* take_chunked keeps the data of chunks. What finds no room is decoded again when it is streamed.
 */
static size_t take_chunked(struct stream *s, struct span bytes, enum end *why) {
  struct pump *p = &s->up_body;
  size_t used = 0;
  while (used < bytes.len && !s->x->held.whole) {
    size_t took = 0;
    struct span data = SPAN_EMPTY;
    struct h1_chunked before = s->x->up_chunked;
    enum end fault = END_INTERNAL;
    enum http_result r =
        h1_chunked_parse(&s->x->up_chunked, span_sub(bytes, used, SLICE), &took, &data, &fault);
    if (r == HTTP_BAD || (p->limit && p->moved + data.len > p->limit)) {
      *why = r == HTTP_BAD ? fault : END_LIMIT_BODY;
      break;
    }
    if (data.len && !fits(s, data.len)) {
      s->x->up_chunked = before;
      break;
    }
    if (!trailers_gather(s, p, span_sub(bytes, used, took), why)) break;
    if (data.len) keep(s, data);
    used += took;
    s->x->held.whole = r == HTTP_DONE;
    if (r == HTTP_DONE && !trailers_parse(s, p, why)) break;
  }
  return used;
}

/* take_bare keeps bytes that come without framing. */
static size_t take_bare(struct stream *s, struct span bytes, enum end *why) {
  struct pump *p = &s->up_body;
  size_t used = 0;
  while (used < bytes.len) {
    struct span data = span_sub(bytes, used, SLICE);
    if (p->limit && p->moved + data.len > p->limit) *why = END_LIMIT_BODY;
    if (*why != END_OK || !fits(s, data.len)) break;
    keep(s, data);
    p->left -= p->left < data.len ? p->left : data.len; /* 0: nobody said how many */
    used += data.len;
  }
  return used;
}

void held_eof(struct stream *s) {
  if (s->up_body.from != HTTP_BODY_CLOSE) return;
  s->x->held.whole = true;
  leave(s);
}

size_t held_take(struct stream *s, struct span bytes) {
  struct pump *p = &s->up_body;
  enum end why = END_OK;
  p->progress_ms = now_ms(s->w);
  size_t used = p->from == HTTP_BODY_CHUNKED ? take_chunked(s, bytes, &why)
                : p->from == HTTP_BODY_CLOSE ? take_bare(s, bytes, &why)
                                             : take_length(s, bytes);
  if (why != END_OK) {
    stream_fail(s, why);
    return bytes.len;
  }
  if (s->x->held.whole || used < bytes.len) leave(s);
  return used;
}

/* ---- out ---- */

void held_rewind(struct stream *s) {
  s->x->held.next = s->x->held.first;
  s->x->held.progress_ms = now_ms(s->w);
}

bool held_unsent(const struct stream *s) { return s->x && s->x->held.next != NULL; }

bool held_send(struct stream *s) {
  struct held *h = &s->x->held;
  enum http_body to = (enum http_body)s->up_body.to;
  while (h->next && conn_pending(s->try.up->conn) <= OUT_HIGH) {
    struct span data = buf_span(&h->next->data);
    if (data.len && !body_frame(s->try.up->conn, to, data)) return false;
    h->next = h->next->next;
    h->progress_ms = now_ms(s->w);
  }
  if (h->next) {
    conn_flush(s->try.up->conn);
    return true;
  }
  s->try.t_sent = now_ns(s->w);
  if (!h->whole) return true;
  if (!trailers_end(s, &s->up_body, s->try.up->conn)) return false;
  request_body_end(s);
  return true;
}

void held_drained(struct stream *s) {
  if (!held_unsent(s)) return;
  if (!held_send(s)) {
    stream_fail(s, END_LIMIT_MEMORY);
    return;
  }
  if (!held_unsent(s) && s->up_body.state == PUMP_READY) body_start(s, &s->up_body);
  stream_timer(s);
}

void held_answered(struct stream *s) {
  if (!held_unsent(s)) held_drop(s);
}

void held_drop(struct stream *s) {
  if (!s->x || !s->x->held.limit) return;
  struct held *h = &s->x->held;
  stat_sub(&s->w->stats.buffered_bytes, h->bytes);
  while (h->first) {
    struct iobuf *b = h->first;
    h->first = b->next;
    iobuf_give(&s->w->loop->iobufs, b);
  }
  *h = (struct held){0};
}
