/* rest.c: what is left of a request's body when its response has ended (HTTP/1.1): a little of it,
 * for a short while, is read and dropped, and the connection serves the next request. What is too
 * much, late or malformed ends it as if it lingered (down_close), and has a line: its stream is
 * over, logged and gone by then, the rest is its connection's. The framing is read on from where
 * body.c stopped, so no byte of a body is taken for a request (THREATS.md rows 9 to 11). Called by
 * response.c and body.c (a response begins, and ends), by answer.c for weir's own, and by
 * front_h1.c. RFC 9112 section 9.3. */
#include <errno.h>

#include "proxy_priv.h"

/* left_of is how many bytes of its body the client has yet to send: of a chunked one at least so
 * many. UINT64_MAX: nobody knows. */
static uint64_t left_of(const struct stream *s) {
  const struct pump *p = &s->up_body;
  if (p->from == HTTP_BODY_CHUNKED) return h1_chunked_remaining(&s->x->up_chunked);
  if (p->from != HTTP_BODY_LENGTH) return UINT64_MAX;
  /* What stands in a pipe came from the client, though it never went on. */
  return p->relaying ? p->relay.left - p->relay.in_pipe : p->left;
}

/* seems_large: who sends chunks that are not wanted is told to stop where that may spare much. */
static bool seems_large(const struct stream *s) {
  if (s->up_body.from != HTTP_BODY_CHUNKED) return false;
  return s->x->resp.status == 413 || body_moved(&s->up_body) > REST_MAX;
}

/* may_stay: its version keeps connections, and the client will send its body. */
static bool may_stay(const struct stream *s) {
  const struct http_request *r = &s->x->req;
  return r->minor && (!r->expect_continue || s->flags & STREAM_CONTINUED);
}

bool rest_may_follow_own(const struct stream *s) {
  bool untouched = s->up_body.state == PUMP_READY && !s->attempts;
  return may_stay(s) && untouched && left_of(s) <= REST_MAX;
}

bool rest_may_follow(const struct stream *s) {
  if (!may_stay(s)) return false;
  return s->x->resp.status < 300 || (left_of(s) <= REST_MAX && !seems_large(s));
}

bool rest_begin(struct stream *s) {
  uint64_t left = left_of(s);
  bool chunked = s->up_body.from == HTTP_BODY_CHUNKED;
  if (s->flags & (STREAM_CLOSE | STREAM_H2)) return false;
  if (left == 0 && !chunked) return true;
  struct rest *r = slab_new(&s->w->rests);
  check(r != NULL); /* there are as many as connections */
  r->chunked = chunked;
  r->left = chunked && left <= REST_MAX ? REST_MAX : left;
  r->chunks = s->x->up_chunked;
  s->down->rest = r;
  return true;
}

void rest_free(struct down *d) {
  if (!down_has_rest(d)) return;
  slab_free(&d->serving->w->rests, d->rest);
  d->rest = NULL;
}

void rest_end(struct down *d, enum end end) {
  access_connection(d, end, 0);
  down_close(d, true);
}

void rest_wait(struct down *d) {
  struct worker *w = d->serving->w;
  if (d->rest->left > REST_MAX) {
    rest_end(d, END_LIMIT_REST);
    return;
  }
  room_owes(d);
  conn_timer(d->conn, now_ms(w) + (w->draining ? DRAIN_IDLE_MS : LINGER_MS));
  conn_read_start(d->conn);
}

/* drop_chunked reads as much as the rest has in bytes. Trailers are dropped, too. */
static enum http_result drop_chunked(struct rest *r, struct span bytes, size_t *used,
                                     enum end *why) {
  enum http_result is = HTTP_MORE;
  while (is == HTTP_MORE && *used < bytes.len) { /* each turn takes some */
    size_t took = 0;
    struct span data;
    is = h1_chunked_parse(&r->chunks, span_from(bytes, *used), &took, &data, why);
    if (is != HTTP_BAD) *used += took;
  }
  return is;
}

enum http_result rest_read(struct rest *r, struct span bytes, size_t *used, enum end *why) {
  struct span take = span_sub(bytes, 0, r->left < bytes.len ? (size_t)r->left : bytes.len);
  *used = r->chunked ? 0 : take.len;
  enum http_result is = *used == r->left ? HTTP_DONE : HTTP_MORE;
  if (r->chunked) is = drop_chunked(r, take, used, why);
  r->left -= *used;
  if (is != HTTP_MORE || r->left) return is;
  *why = END_LIMIT_REST;
  return HTTP_BAD;
}

size_t rest_take(struct down *d, struct span bytes) {
  size_t used;
  enum end why = END_INTERNAL;
  enum http_result is = rest_read(d->rest, bytes, &used, &why);
  if (is == HTTP_MORE) return used;
  if (is == HTTP_BAD) {
    rest_end(d, why);
    return bytes.len;
  }
  rest_free(d);
  room_leave(d);
  front_h1_next(d);
  return used;
}

enum end rest_lost(int err) {
  if (own_trouble(err)) return END_LIMIT_MEMORY;
  return err == -ECONNABORTED ? END_OK : END_CLIENT_RESET;
}
