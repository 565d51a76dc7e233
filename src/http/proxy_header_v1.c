/* proxy_header_v1.c: the line of version 1 ("The PROXY protocol", section 2.1), read strictly and
 * written: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`, CR LF. */
#include "proxy_header_priv.h"

/* find_line: DONE with the line up to its CR LF. */
static enum http_result find_line(struct proxy_parse *p, struct span *line) {
  for (size_t i = 0; i < p->in.len; i++) {
    char c = p->in.ptr[i];
    if (i + 2 > PROXY_V1_MAX) return proxy_bad(p, PROXY_FAULT_V1_LONG); /* no room for CR LF */
    if (c == '\r') {
      if (i + 1 == p->in.len) return HTTP_MORE;
      if (p->in.ptr[i + 1] != '\n') return proxy_bad(p, PROXY_FAULT_V1_BYTE);
      *line = span_sub(p->in, 0, i);
      p->len = i + 2;
      return HTTP_DONE;
    }
    if (c < ' ' || c > '~') return proxy_bad(p, PROXY_FAULT_V1_BYTE);
  }
  return HTTP_MORE;
}

/* cut_word takes what stands before the next space off *rest; false: nothing does. */
static bool cut_word(struct span *rest, struct span *word) {
  size_t end = span_find_char(*rest, ' ', 0);
  *word = span_sub(*rest, 0, end);
  *rest = end == SIZE_MAX ? SPAN_EMPTY : span_from(*rest, end + 1);
  return word->len > 0;
}

/* port_ok: the section allows 0, and no zero before other digits. */
static bool port_ok(struct span text, uint16_t *port) {
  uint64_t value;
  bool zeros = text.len > 1 && text.ptr[0] == '0';
  if (zeros || text.len > 5 || !span_u64(text, &value) || value > UINT16_MAX) return false;
  *port = (uint16_t)value;
  return true;
}

static bool address_ok(struct span ip, uint16_t port, sa_family_t family, struct addr *out) {
  return addr_from_ip(ip, port, out) && out->sa.sa_family == family;
}

static enum http_result read_ends(struct proxy_parse *p, struct span rest, sa_family_t family) {
  struct span word[4];
  uint16_t port[2];
  /* A space behind the last word leaves nothing, as its absence does. */
  bool spaced = span_ends(rest, SPAN_LIT(" "));
  for (size_t i = 0; i < array_count(word); i++)
    if (!cut_word(&rest, &word[i])) return proxy_bad(p, PROXY_FAULT_V1_FIELDS);
  if (rest.len > 0 || spaced) return proxy_bad(p, PROXY_FAULT_V1_FIELDS);
  if (!port_ok(word[2], &port[0]) || !port_ok(word[3], &port[1]))
    return proxy_bad(p, PROXY_FAULT_V1_PORT);
  if (!address_ok(word[0], port[0], family, &p->h.src) ||
      !address_ok(word[1], port[1], family, &p->h.dst))
    return proxy_bad(p, PROXY_FAULT_V1_ADDRESS);
  return HTTP_DONE;
}

enum http_result proxy_v1_parse(struct proxy_parse *p) {
  struct span line, family;
  enum http_result found = find_line(p, &line);
  if (found != HTTP_DONE) return found;
  line = span_from(line, PROXY_V1_SIGNATURE.len);
  p->h.version = 1;
  (void)cut_word(&line, &family); /* an empty one is none of these */
  if (span_eq(family, SPAN_LIT("TCP4"))) return read_ends(p, line, AF_INET);
  if (span_eq(family, SPAN_LIT("TCP6"))) return read_ends(p, line, AF_INET6);
  if (!span_eq(family, SPAN_LIT("UNKNOWN"))) return proxy_bad(p, PROXY_FAULT_V1_FAMILY);
  p->h.local = true; /* what stands behind it has no meaning */
  return HTTP_DONE;
}

/* put_ip: addr.h writes an IPv4-mapped address as IPv4, which TCP6 has no place for. */
static void put_ip(struct buf *out, sa_family_t family, const uint8_t *ip) {
  struct addr a = {.len = sizeof(a.in6)};
  a.sa.sa_family = family;
  if (family == AF_INET)
    memcpy(&a.in4.sin_addr, ip, PROXY_IP4_LEN);
  else
    memcpy(&a.in6.sin6_addr, ip, PROXY_IP6_LEN);
  buf_char(out, ' ');
  if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a.in6.sin6_addr)) buf_lit(out, "::ffff:");
  addr_write_ip(&a, out);
}

void proxy_v1_write(struct buf *out, const struct proxy_header *h) {
  struct proxy_ends e = proxy_ends_of(h);
  buf_put(out, PROXY_V1_SIGNATURE);
  if (e.family == AF_INET || e.family == AF_INET6) {
    buf_put(out, e.family == AF_INET ? SPAN_LIT("TCP4") : SPAN_LIT("TCP6"));
    put_ip(out, e.family, e.src);
    put_ip(out, e.family, e.dst);
    buf_char(out, ' ');
    buf_u64(out, e.src_port);
    buf_char(out, ' ');
    buf_u64(out, e.dst_port);
  } else {
    buf_lit(out, "UNKNOWN");
  }
  buf_lit(out, "\r\n");
  check(out->full || out->len <= PROXY_V1_MAX);
}
