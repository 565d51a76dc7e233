/* client_hello_scan.c: where in a connection's first bytes the ClientHello lies: one handshake
 * message in one or more records (RFC 8446 section 5.1). Each byte is looked at once, however the
 * bytes come; a message in several records is put together when the last one is there. Called by
 * listeners that pass TLS on. */
#include "client_hello_priv.h"
#include "weir/base/buf.h"

enum { RECORD_HEAD = 5, RECORD_HANDSHAKE = 22, FRAGMENT_MAX = 16384, SSLV2_BIT = 0x80 };

/* peek is one call. */
struct peek {
  struct hello_scan *s;
  struct span in; /* at most CLIENT_HELLO_MAX bytes */
  enum hello_fault why;
};

static enum http_result bad(struct peek *p, enum hello_fault why) {
  p->why = why;
  return HTTP_BAD;
}

static uint8_t byte_at(struct span in, size_t at) { return (uint8_t)in.ptr[at]; }

/* not_tls: SSL 2 has two bytes of length, the first bit of which is set, and then the type. */
static enum http_result not_tls(struct peek *p, struct span head) {
  if (!(byte_at(head, 0) & SSLV2_BIT)) return bad(p, HELLO_FAULT_NOT_TLS);
  if (head.len < 3) return HTTP_MORE;
  bool sslv2 = byte_at(head, 2) == HELLO_TYPE;
  return bad(p, sslv2 ? HELLO_FAULT_SSLV2 : HELLO_FAULT_NOT_TLS);
}

/* open_record reads the head of the next record: each byte of it as soon as it is there. */
static enum http_result open_record(struct peek *p) {
  struct hello_scan *s = p->s;
  struct span head = span_sub(p->in, s->at, RECORD_HEAD);
  if (head.len < 1) return HTTP_MORE;
  if (byte_at(head, 0) != RECORD_HANDSHAKE)
    return s->records ? bad(p, HELLO_FAULT_RECORD_TYPE) : not_tls(p, head);
  if (head.len < 2) return HTTP_MORE;
  if (byte_at(head, 1) != HELLO_MAJOR) return bad(p, HELLO_FAULT_RECORD_VERSION);
  if (head.len < RECORD_HEAD) return HTTP_MORE;
  uint16_t len = hello_be16(head.ptr + 3);
  if (len == 0 || len > FRAGMENT_MAX) return bad(p, HELLO_FAULT_RECORD_LENGTH);
  s->at += RECORD_HEAD;
  s->left = len;
  s->records++;
  return HTTP_DONE;
}

/* take_fragment counts what is there of the message, at most to the end of its head or of itself;
 * MORE: nothing is. */
static enum http_result take_fragment(struct peek *p) {
  struct hello_scan *s = p->s;
  bool in_head = s->have < CLIENT_HELLO_HEAD;
  size_t most = in_head ? CLIENT_HELLO_HEAD - s->have : s->want - s->have;
  struct span bytes = span_sub(p->in, s->at, most < s->left ? most : s->left);
  if (bytes.len == 0) return HTTP_MORE;
  if (in_head) memcpy(s->head + s->have, bytes.ptr, bytes.len);
  s->at += (uint32_t)bytes.len;
  s->left -= (uint32_t)bytes.len;
  s->have += (uint32_t)bytes.len;
  if (s->head[0] != HELLO_TYPE) return bad(p, HELLO_FAULT_MESSAGE);
  if (s->have < CLIENT_HELLO_HEAD || s->want) return HTTP_DONE;
  s->want = (uint32_t)(uint8_t)s->head[1] << 16 | hello_be16(s->head + 2);
  s->want += CLIENT_HELLO_HEAD;
  return s->want > CLIENT_HELLO_MAX ? bad(p, HELLO_FAULT_LONG) : HTTP_DONE;
}

/* find reads on until the message is whole. Each round takes a byte or ends it. */
static enum http_result find(struct peek *p) {
  struct hello_scan *s = p->s;
  enum http_result result = HTTP_DONE;
  while (result == HTTP_DONE && (s->want == 0 || s->have < s->want))
    result = s->left == 0 ? open_record(p) : take_fragment(p);
  if (result == HTTP_MORE && p->in.len == CLIENT_HELLO_MAX) return bad(p, HELLO_FAULT_LONG);
  if (result == HTTP_DONE && s->left > 0) return bad(p, HELLO_FAULT_BEHIND);
  return result;
}

/* join gives the message in one piece; empty: the arena is full. */
static struct span join(const struct peek *p, struct arena *arena) {
  const struct hello_scan *s = p->s;
  if (s->records == 1) return span_sub(p->in, RECORD_HEAD, s->want);
  char *room = arena_bytes(arena, s->want);
  if (!room) return SPAN_EMPTY;
  struct buf out = buf_of(room, s->want);
  for (size_t at = 0; at < s->at;) { /* every record was seen by open_record */
    size_t len = hello_be16(p->in.ptr + at + 3);
    buf_put(&out, span_sub(p->in, at + RECORD_HEAD, len));
    at += RECORD_HEAD + len;
  }
  check(!out.full && out.len == s->want);
  return buf_span(&out);
}

enum http_result client_hello_peek(struct hello_scan *scan, struct span in, struct arena *arena,
                                   struct client_hello *out, enum hello_fault *why) {
  struct peek p = {.s = scan, .in = span_sub(in, 0, CLIENT_HELLO_MAX)};
  check(scan->at <= in.len);
  enum http_result result = find(&p);
  if (result == HTTP_BAD) *why = p.why;
  if (result != HTTP_DONE) return result;
  struct span message = join(&p, arena);
  if (message.len == 0) {
    *why = HELLO_FAULT_MEMORY;
    return HTTP_BAD;
  }
  return client_hello_parse(message, arena, out, why) ? HTTP_DONE : HTTP_BAD;
}
