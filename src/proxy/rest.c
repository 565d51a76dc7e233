/* rest.c: what is left of a request's body when its response has ended (HTTP/1.1): a little of it,
 * for a short while, is read and dropped, and the connection serves the next request. What is more
 * ends it as if it lingered (down_close). Its stream is over, logged and gone by then: the rest is
 * its connection's. The framing is read on from where body.c stopped, so no byte of a body is
 * taken for a request (THREATS.md row 11). Called by response.c and body.c (a response begins, and
 * ends) and by front_h1.c. RFC 9112 section 9.3. */
#include "proxy_priv.h"

/* left_of is how many bytes of its body the client has yet to send; UINT64_MAX: nobody knows. */
static uint64_t left_of(const struct pump *p) {
  if (p->from != HTTP_BODY_LENGTH) return UINT64_MAX;
  /* What stands in a pipe came from the client, though it never went on. */
  return p->relaying ? p->relay.left - p->relay.in_pipe : p->left;
}

bool rest_may_follow(const struct stream *s) {
  const struct http_request *r = &s->x->req;
  bool untold = r->expect_continue && !(s->flags & STREAM_CONTINUED);
  if (r->minor == 0 || untold) return false;
  return s->x->resp.status < 300 || left_of(&s->up_body) <= REST_MAX;
}

bool rest_begin(struct stream *s) {
  uint64_t left = left_of(&s->up_body);
  bool chunked = s->up_body.from == HTTP_BODY_CHUNKED;
  if (s->flags & (STREAM_CLOSE | STREAM_H2) || (!chunked && left > REST_MAX)) return false;
  if (left == 0) return true;
  struct rest *r = slab_new(&s->w->rests);
  check(r != NULL); /* there are as many as connections */
  r->chunked = chunked;
  r->left = chunked ? REST_MAX : (uint32_t)left;
  r->chunks = s->x->up_chunked;
  s->down->rest = r;
  return true;
}

void rest_free(struct down *d) {
  if (d->rest) slab_free(&d->serving->w->rests, d->rest);
  d->rest = NULL;
}

/* drop_chunked reads as much as the rest has in bytes. Trailers are dropped, too. */
static enum http_result drop_chunked(struct rest *r, struct span bytes, size_t *used) {
  enum http_result is = HTTP_MORE;
  while (is == HTTP_MORE && *used < bytes.len) { /* each turn takes some */
    size_t took = 0;
    struct span data;
    enum end why;
    is = h1_chunked_parse(&r->chunks, span_from(bytes, *used), &took, &data, &why);
    if (is != HTTP_BAD) *used += took;
  }
  return is;
}

size_t rest_take(struct down *d, struct span bytes) {
  struct rest *r = d->rest;
  struct span take = span_sub(bytes, 0, r->left < bytes.len ? r->left : bytes.len);
  size_t used = r->chunked ? 0 : take.len;
  enum http_result is = used == r->left ? HTTP_DONE : HTTP_MORE;
  if (r->chunked) is = drop_chunked(r, take, &used);
  r->left -= (uint32_t)used;
  if (is == HTTP_DONE) {
    rest_free(d);
    front_h1_next(d);
    return used;
  }
  if (is == HTTP_MORE && r->left) return used;
  down_close(d, true);
  return bytes.len;
}
