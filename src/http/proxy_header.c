/* proxy_header.c: PROXY headers of both versions: which one it is, faults, and what addresses are
 * written. Copies nothing, keeps nothing between calls: a header is short, and its bytes are held
 * by the connection until it is whole. Called by the listeners and connections of proxy/. */
#include "proxy_header_priv.h"

/* fault_row is a row of proxy_fault.def. */
struct fault_row {
  enum end end;
  struct span text;
};

static const struct fault_row faults[PROXY_FAULT_COUNT] = {
#define FAULT(id, cause, words) \
  [PROXY_FAULT_##id] = {.end = (cause), .text = {words, sizeof(words) - 1}},
#include "weir/http/proxy_fault.def"
#undef FAULT
};

enum end proxy_fault_end(enum proxy_fault fault) {
  check(fault > PROXY_FAULT_NONE && fault < PROXY_FAULT_COUNT);
  return faults[fault].end;
}

struct span proxy_fault_text(enum proxy_fault fault) {
  check(fault > PROXY_FAULT_NONE && fault < PROXY_FAULT_COUNT);
  return faults[fault].text;
}

/* begins: MORE while in is shorter and agrees. */
static enum http_result begins(struct span in, struct span signature) {
  struct span came = span_sub(in, 0, signature.len);
  if (!span_starts(signature, came)) return HTTP_BAD;
  return came.len == signature.len ? HTTP_DONE : HTTP_MORE;
}

bool proxy_header_begun(struct span in) {
  return span_starts(in, PROXY_V1_SIGNATURE) || span_starts(in, PROXY_V2_SIGNATURE);
}

static enum http_result parse(struct proxy_parse *p) {
  enum http_result v1 = begins(p->in, PROXY_V1_SIGNATURE);
  enum http_result v2 = begins(p->in, PROXY_V2_SIGNATURE);
  if (v1 == HTTP_DONE) return proxy_v1_parse(p);
  if (v2 == HTTP_DONE) return proxy_v2_parse(p);
  if (v1 == HTTP_MORE || v2 == HTTP_MORE) return HTTP_MORE;
  return proxy_bad(p, PROXY_FAULT_SIGNATURE);
}

enum http_result proxy_header_parse(struct span in, struct proxy_header *out, size_t *len,
                                    enum proxy_fault *why) {
  struct proxy_parse p = {.in = in};
  enum http_result result = parse(&p);
  if (result == HTTP_BAD) {
    check(p.why != PROXY_FAULT_NONE);
    *why = p.why;
  } else if (result == HTTP_DONE) {
    check(p.len > 0 && p.len <= in.len);
    *out = p.h;
    *len = p.len;
  }
  return result;
}

enum http_result proxy_datagram_parse(struct span datagram, struct proxy_header *out, size_t *len,
                                      enum proxy_fault *why) {
  *why = PROXY_FAULT_SIGNATURE;
  if (!span_starts(datagram, PROXY_V2_SIGNATURE)) return HTTP_BAD;
  enum http_result result = proxy_header_parse(datagram, out, len, why);
  if (result != HTTP_MORE) return result;
  *why = PROXY_FAULT_CUT;
  return HTTP_BAD;
}

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool is_mapped(const uint8_t ip[PROXY_IP6_LEN]) {
  return memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

/* ip6_of is an address as 16 bytes, an IPv4 one mapped; false: it is no IP address. */
static bool ip6_of(const struct addr *a, uint8_t ip[PROXY_IP6_LEN]) {
  if (a->len == 0) return false;
  if (a->sa.sa_family == AF_INET) {
    memcpy(ip, mapped_prefix, sizeof(mapped_prefix));
    memcpy(ip + sizeof(mapped_prefix), &a->in4.sin_addr, PROXY_IP4_LEN);
    return true;
  }
  if (a->sa.sa_family != AF_INET6) return false;
  memcpy(ip, &a->in6.sin6_addr, PROXY_IP6_LEN);
  return true;
}

static bool is_unix(const struct addr *a) {
  return a->len >= sizeof(a->sa.sa_family) && a->sa.sa_family == AF_UNIX;
}

struct proxy_ends proxy_ends_of(const struct proxy_header *h) {
  struct proxy_ends e = {.family = AF_UNSPEC};
  if (h->local) return e;
  if (is_unix(&h->src) && is_unix(&h->dst)) e.family = AF_UNIX;
  if (!ip6_of(&h->src, e.src) || !ip6_of(&h->dst, e.dst)) return e;
  e.src_port = addr_port(&h->src);
  e.dst_port = addr_port(&h->dst);
  e.family = AF_INET6;
  if (!is_mapped(e.src) || !is_mapped(e.dst)) return e;
  e.family = AF_INET;
  memmove(e.src, e.src + sizeof(mapped_prefix), PROXY_IP4_LEN);
  memmove(e.dst, e.dst + sizeof(mapped_prefix), PROXY_IP4_LEN);
  return e;
}

bool proxy_header_write(struct buf *out, const struct proxy_header *h) {
  struct buf made = buf_of(out->ptr ? out->ptr + out->len : NULL, buf_room(out));
  if (made.cap > PROXY_V2_MAX) made.cap = PROXY_V2_MAX;
  check(h->version == 1 || h->version == 2);
  if (h->version == 1)
    proxy_v1_write(&made, h);
  else
    proxy_v2_write(&made, h);
  if (out->full || made.full) return false;
  out->len += made.len;
  return true;
}
