/* probe_grpc.c: the call grpc.health.v1.Health/Check: its request, and what its answer means (the
 * gRPC health checking protocol; gRPC over HTTP/2). Protobuf is read and written by hand: both
 * messages have one field. Does not: know frames (probe_h2.c). */
#include <string.h>

#include "control/probe_priv.h"
#include "weir/http/grpc.h"

#define PREFIX 5u        /* a flag (compressed), four bytes of length */
#define TAG_SERVICE 0x0a /* HealthCheckRequest: field 1, bytes */
#define SHOWN_MAX 60u    /* bytes of grpc-message in a sentence */

/* ---- the request ---- */

void probe_grpc_request(struct buf *b, const struct pool_health *h) {
  size_t len = h->service.len;
  size_t message = len == 0 ? 0 : len + (len < 128 ? 2u : 3u);
  check(len <= PROBE_SERVICE_MAX);
  buf_put(b, span_of("\0\0\0", 3));
  buf_char(b, (char)(message >> 8));
  buf_char(b, (char)(message & 0xff));
  if (len == 0) return; /* a field that is empty is not written */
  buf_char(b, TAG_SERVICE);
  if (len >= 128) buf_char(b, (char)((len & 0x7f) | 0x80));
  buf_char(b, (char)(len < 128 ? len : len >> 7));
  buf_put(b, h->service);
}

/* ---- protobuf ---- */

/* take_varint takes a number off *s: ten bytes at most. */
static bool take_varint(struct span *s, uint64_t *out) {
  uint64_t value = 0;
  for (unsigned i = 0; i < 10 && i < s->len; i++) {
    unsigned char byte = (unsigned char)s->ptr[i];
    if (i == 9 && byte > 1) return false;
    value |= (uint64_t)(byte & 0x7f) << (7 * i);
    if (byte & 0x80) continue;
    *s = span_from(*s, i + 1);
    *out = value;
    return true;
  }
  return false;
}

static bool skip(struct span *s, uint64_t len) {
  if (len > s->len) return false;
  *s = span_from(*s, (size_t)len);
  return true;
}

/* skip_value skips what a tag of this wire type stands before; groups are of the past. */
static bool skip_value(struct span *s, unsigned wire) {
  uint64_t n = 0;
  switch (wire) {
    case 0: return take_varint(s, &n);
    case 1: return skip(s, 8);
    case 2: return take_varint(s, &n) && skip(s, n);
    case 5: return skip(s, 4);
    default: return false;
  }
}

/* read_status reads HealthCheckResponse: field 1 is the status, the last one counts; those that
 * we do not know are skipped. */
static bool read_status(struct span s, uint64_t *status) {
  *status = 0;
  while (s.len) { /* each turn takes a field */
    uint64_t tag;
    if (!take_varint(&s, &tag) || tag >> 3 == 0 || tag > UINT32_MAX) return false;
    bool known = tag == (1u << 3); /* number 1, varint */
    if (known ? !take_varint(&s, status) : !skip_value(&s, tag & 7)) return false;
  }
  return true;
}

/* ---- the answer ---- */

static bool bad(struct probe_outcome *out, const char *why) {
  probe_end(out, PROBE_BAD_RESPONSE, "the answer is not good gRPC: %s", why);
  return true;
}

/* find: names of HTTP/2 are in lower case; *value is the first of that name. */
static bool find(const struct http_fields *fields, struct span name, struct span *value) {
  for (uint32_t i = 0; fields && i < fields->count; i++) {
    if (!span_eq(fields->rows[i].name, name)) continue;
    *value = fields->rows[i].value;
    return true;
  }
  return false;
}

bool probe_grpc_head(const struct http_response *r, struct probe_outcome *out) {
  struct span type;
  if (r->status != 200) {
    probe_end(out, PROBE_STATUS, "status %u: gRPC answers 200, and says more in grpc-status",
              (unsigned)r->status);
    return true;
  }
  if (!find(&r->fields, SPAN_LIT("content-type"), &type))
    return bad(out, "it has no content-type");
  return grpc_is(type) ? false : bad(out, "its content-type is not application/grpc");
}

/* length is that of the message, once it is there. */
static uint32_t length(const struct probe_grpc *g) {
  uint32_t n = 0;
  for (unsigned i = 1; i < PREFIX; i++) n = n << 8 | (unsigned char)g->bytes[i];
  return n;
}

bool probe_grpc_data(struct probe_grpc *g, struct span data, struct probe_outcome *out) {
  struct span piece = span_sub(data, 0, sizeof g->bytes - g->len);
  if (piece.len) memcpy(g->bytes + g->len, piece.ptr, piece.len);
  g->len += (uint32_t)piece.len;
  if (g->len && g->bytes[0]) return bad(out, "its message is compressed, nobody asked for that");
  if (g->len >= PREFIX && length(g) > PROBE_MESSAGE_MAX)
    return bad(out, "its message is longer than 1 KiB");
  bool more = g->len >= PREFIX && g->len > PREFIX + length(g);
  return more || piece.len < data.len ? bad(out, "it has more than one message") : false;
}

/* codes: the names of grpc-status as the protocol writes them. */
static const char *const codes[] = {
#define GRPC(id, number, word, bad) [number] = #id,
#include "weir/http/grpc.def"
};

/* shown copies what a stranger says, printable. */
static void shown(struct span text, char to[SHOWN_MAX + 1]) {
  size_t len = text.len < SHOWN_MAX ? text.len : SHOWN_MAX;
  for (size_t i = 0; i < len; i++) {
    char c = text.ptr[i];
    to[i] = c >= 0x20 && c < 0x7f && c != '"' ? c : '.';
  }
  to[len] = 0;
}

static const char *service_of(const struct pool_health *h, char to[SHOWN_MAX + 1]) {
  shown(h->service, to);
  return to;
}

static void refused(const struct pool_health *h, uint64_t code, struct span message,
                    struct probe_outcome *out) {
  char text[SHOWN_MAX + 1], service[SHOWN_MAX + 1];
  const char *name = code < array_count(codes) ? codes[code] : "not a code of gRPC";
  unsigned n = code > 999999 ? 999999 : (unsigned)code;
  shown(message, text);
  if (code == GRPC_UNIMPLEMENTED)
    probe_end(out, PROBE_STATUS,
              "grpc-status 12 (UNIMPLEMENTED): the server does not offer "
              "grpc.health.v1.Health");
  else if (code == GRPC_NOT_FOUND)
    probe_end(out, PROBE_STATUS,
              "grpc-status 5 (NOT_FOUND): the server does not know the "
              "service \"%s\" (health.service)",
              service_of(h, service));
  else
    probe_end(out, PROBE_STATUS, "grpc-status %u (%s)%s%s%s", n, name, text[0] ? ": \"" : "", text,
              text[0] ? "\"" : "");
}

/* serving tells what the message says. */
static void serving(const struct probe_grpc *g, const struct pool_health *h,
                    struct probe_outcome *out) {
  static const char *const names[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};
  char service[SHOWN_MAX + 1];
  uint64_t status = 0;
  if (!read_status(span_of(g->bytes + PREFIX, length(g)), &status)) {
    bad(out, "its message is no HealthCheckResponse");
    return;
  }
  if (status == 1) {
    probe_end(out, PROBE_PASS, "%s", "");
    return;
  }
  const char *name = status < array_count(names) ? names[status] : "in a state of no name";
  if (h->service.len)
    probe_end(out, PROBE_NOT_SERVING, "service \"%s\" is %s", service_of(h, service), name);
  else
    probe_end(out, PROBE_NOT_SERVING, "the server is %s", name);
}

void probe_grpc_end(const struct probe_grpc *g, const struct pool_health *h,
                    const struct http_fields *fields, struct probe_outcome *out) {
  struct span code, message = SPAN_EMPTY;
  uint64_t n = 0;
  (void)find(fields, SPAN_LIT("grpc-message"), &message);
  if (!find(fields, SPAN_LIT("grpc-status"), &code))
    bad(out, "it ended without grpc-status");
  else if (!span_u64(code, &n))
    bad(out, "its grpc-status is not a number");
  else if (n != 0)
    refused(h, n, message, out);
  else if (g->len < PREFIX || g->len < PREFIX + length(g))
    bad(out, "it ended before its message did");
  else
    serving(g, h, out);
}
