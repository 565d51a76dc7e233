/* probe_reply.c: reads the response to a check with the proxy's own strict parser (RFC 9112) and
 * has it judged (probe_judge.c): status, then the body if one is looked for. Bounded: head, 1xx
 * heads and body. Does not: touch a socket (probe.c). */
#include "control/health_priv.h"

static const struct h1_limits limits = {
    .header_bytes = PROBE_HEAD_MAX, .headers = PROBE_FIELDS_MAX, .uri_bytes = 1};

#define FIELD_MEMORY (128u << 10)

static void next_head(struct probe_reply *r) {
  arena_reset(&r->arena);
  arena_init(&r->arena, NULL, FIELD_MEMORY);
  r->scan = (struct h1_scan){0};
}

void probe_reply_init(struct probe_reply *r) {
  r->in_len = 0;
  r->look = (struct probe_look){0};
  r->in_body = false;
  arena_init(&r->arena, NULL, FIELD_MEMORY);
  r->scan = (struct h1_scan){0};
}

void probe_reply_fini(struct probe_reply *r) { arena_reset(&r->arena); }

struct buf probe_reply_room(struct probe_reply *r) {
  return buf_of(r->in + r->in_len, sizeof r->in - r->in_len);
}

static bool bad(struct probe_outcome *out, enum end why) {
  probe_end(out, PROBE_BAD_RESPONSE, "the answer is not good HTTP (" SPAN_FMT ")",
            SPAN_ARG(end_get(why)->word));
  return true;
}

/* ---- body ---- */

/* run cuts the next data bytes off *bytes: MORE with *data (may be empty, when *bytes is), DONE at
 * the end of the body. */
static enum http_result run(struct probe_reply *r, struct span *bytes, struct span *data,
                            enum end *why) {
  size_t used = bytes->len;
  *data = *bytes;
  switch (r->response.body) {
    case HTTP_BODY_CHUNKED: {
      enum http_result result = h1_chunked_parse(&r->chunked, *bytes, &used, data, why);
      *bytes = span_from(*bytes, used);
      return result;
    }
    case HTTP_BODY_LENGTH:
      *data = span_sub(*bytes, 0, r->left);
      r->left -= data->len;
      break;
    case HTTP_BODY_CLOSE:
      break;
    case HTTP_BODY_NONE:
    case HTTP_BODY_TUNNEL:
      return HTTP_DONE;
  }
  *bytes = span_from(*bytes, data->len);
  return !data->len && r->response.body == HTTP_BODY_LENGTH && !r->left ? HTTP_DONE : HTTP_MORE;
}

static bool take_body(struct probe_reply *r, const struct pool_health *h, struct span bytes,
                      struct probe_outcome *out) {
  for (;;) { /* each turn takes bytes or ends */
    struct span data;
    enum end why;
    size_t before = bytes.len;
    enum http_result result = run(r, &bytes, &data, &why);
    if (result == HTTP_BAD) return bad(out, why);
    if (result == HTTP_DONE) probe_lacks(h, out);
    if (result == HTTP_DONE || probe_look_at(&r->look, h, data, out)) return true;
    if (before == bytes.len) return false;
  }
}

/* ---- head ---- */

/* head_done judges a final head; true: that was all. */
static bool head_done(struct probe_reply *r, const struct pool_health *h,
                      struct probe_outcome *out) {
  if (probe_status(h, r->response.status, out)) return true;
  r->left = r->response.content_length;
  h1_chunked_init(&r->chunked, H1_RESPONSE);
  r->in_body = true;
  return false;
}

static bool take_head(struct probe_reply *r, const struct pool_health *h,
                      struct probe_outcome *out) {
  enum http_method method = h->head ? HTTP_METHOD_HEAD : HTTP_METHOD_GET;
  enum end why;
  while (!r->in_body) { /* each turn takes a head off */
    enum http_result result = h1_parse_response(&r->scan, span_of(r->in, r->in_len), &limits,
                                                &r->arena, method, &r->response, &why);
    if (result == HTTP_BAD) return bad(out, why);
    if (result == HTTP_MORE && r->in_len == sizeof r->in) {
      probe_end(out, PROBE_BAD_RESPONSE, "the head of the answer is longer than 16 KiB");
      return true;
    }
    if (result == HTTP_MORE) return false;
    bool interim = r->response.status < 200 && r->response.status != 101;
    if (!interim && head_done(r, h, out)) return true;
    r->in_len -= r->response.head_len;
    memmove(r->in, r->in + r->response.head_len, r->in_len);
    if (interim) next_head(r);
  }
  return false;
}

bool probe_reply_take(struct probe_reply *r, const struct pool_health *h, size_t len,
                      struct probe_outcome *out) {
  check(len <= sizeof r->in - r->in_len);
  r->in_len += (uint32_t)len;
  if (!r->in_body && take_head(r, h, out)) return true;
  if (!r->in_body) return false;
  struct span bytes = span_of(r->in, r->in_len);
  r->in_len = 0;
  return take_body(r, h, bytes, out);
}

void probe_reply_eof(struct probe_reply *r, const struct pool_health *h,
                     struct probe_outcome *out) {
  if (r->in_body && r->response.body == HTTP_BODY_CLOSE) probe_lacks(h, out);
  else if (r->in_body) probe_end(out, PROBE_CLOSED, "closed within the body of its answer");
  else if (r->in_len) probe_end(out, PROBE_CLOSED, "closed within the head of its answer");
  else probe_end(out, PROBE_CLOSED, "closed without an answer");
}
