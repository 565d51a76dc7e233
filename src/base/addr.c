/* addr.c: socket addresses and networks to and from text. Never resolves a name, opens nothing.
 * Called by config, by listeners and pools, and for trust and log decisions. */
#include "weir/base/addr.h"

#include <arpa/inet.h>

#define UNIX_PREFIX SPAN_LIT("unix:")
#define FD_PREFIX SPAN_LIT("fd:")
#define NAME_MAX_LEN 253u
#define LABEL_MAX_LEN 63u
#define MAPPED_BITS 96u /* of ::ffff:0:0/96 */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_ldh(char c) {
  return (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || is_digit(c) || c == '-' || c == '_';
}

static bool label_ok(struct span label) {
  if (label.len == 0 || label.len > LABEL_MAX_LEN) return false;
  if (label.ptr[0] == '-' || label.ptr[label.len - 1] == '-') return false;
  for (size_t i = 0; i < label.len; i++)
    if (!is_ldh(label.ptr[i])) return false;
  return true;
}

/* name_ok: labels of letters, digits, hyphens (and the underscores that real zones have); a last
 * label of digits only is a mistyped IPv4 address, not a name. */
static bool name_ok(struct span name) {
  if (span_ends(name, SPAN_LIT("."))) name.len--;
  if (name.len == 0 || name.len > NAME_MAX_LEN) return false;
  size_t from = 0;
  bool numeric = false;
  while (from <= name.len) {
    size_t dot = span_find_char(name, '.', from);
    struct span label = span_sub(name, from, (dot == SIZE_MAX ? name.len : dot) - from);
    if (!label_ok(label)) return false;
    uint64_t ignored;
    numeric = span_u64(label, &ignored);
    if (dot == SIZE_MAX) break;
    from = dot + 1;
  }
  return !numeric;
}

static bool parse_port(struct span text, uint16_t *port) {
  uint64_t value;
  if (text.len > 5 || !span_u64(text, &value) || value < 1 || value > 65535) return false;
  *port = (uint16_t)value;
  return true;
}

/* ip_bytes reads a bare IP literal; returns its family, or 0. */
static int ip_bytes(struct span ip, uint8_t out[16]) {
  char text[INET6_ADDRSTRLEN];
  if (ip.len == 0 || ip.len >= sizeof(text) || memchr(ip.ptr, 0, ip.len) != NULL) return 0;
  memcpy(text, ip.ptr, ip.len);
  text[ip.len] = 0;
  if (inet_pton(AF_INET, text, out) == 1) return AF_INET;
  if (inet_pton(AF_INET6, text, out) == 1) return AF_INET6;
  return 0;
}

static enum addr_kind split_path(struct span rest, enum addr_kind kind, struct span *host) {
  if (rest.len == 0 || memchr(rest.ptr, 0, rest.len) != NULL) return ADDR_BAD;
  if (kind == ADDR_UNIX && rest.len >= sizeof(((struct sockaddr_un *)0)->sun_path))
    return ADDR_BAD;
  *host = rest;
  return kind;
}

static enum addr_kind split_bracketed(struct span text, struct span *host, uint16_t *port) {
  uint8_t bytes[16];
  size_t close = span_find_char(text, ']', 1);
  if (close == SIZE_MAX || close + 1 >= text.len || text.ptr[close + 1] != ':') return ADDR_BAD;
  struct span ip = span_sub(text, 1, close - 1);
  if (ip_bytes(ip, bytes) != AF_INET6) return ADDR_BAD;
  if (!parse_port(span_from(text, close + 2), port)) return ADDR_BAD;
  *host = ip;
  return ADDR_IP;
}

enum addr_kind addr_split(struct span text, struct span *host, uint16_t *port) {
  uint8_t bytes[16];
  if (span_starts(text, UNIX_PREFIX))
    return split_path(span_from(text, UNIX_PREFIX.len), ADDR_UNIX, host);
  if (span_starts(text, FD_PREFIX))
    return split_path(span_from(text, FD_PREFIX.len), ADDR_FD, host);
  if (span_starts(text, SPAN_LIT("["))) return split_bracketed(text, host, port);
  size_t colon = span_find_char(text, ':', 0);
  if (colon == SIZE_MAX) return ADDR_BAD;
  struct span name = span_sub(text, 0, colon);
  bool ip = ip_bytes(name, bytes) == AF_INET;
  if (!ip && !name_ok(name)) return ADDR_BAD;
  if (!parse_port(span_from(text, colon + 1), port)) return ADDR_BAD;
  *host = name;
  return ip ? ADDR_IP : ADDR_NAME;
}

bool addr_from_ip(struct span ip, uint16_t port, struct addr *out) {
  uint8_t bytes[16];
  int family = ip_bytes(ip, bytes);
  if (family == 0) return false;
  struct addr made = {0};
  if (family == AF_INET) {
    made.len = sizeof(made.in4);
    made.in4.sin_family = AF_INET;
    made.in4.sin_port = htons(port);
    memcpy(&made.in4.sin_addr, bytes, 4);
  } else {
    made.len = sizeof(made.in6);
    made.in6.sin6_family = AF_INET6;
    made.in6.sin6_port = htons(port);
    memcpy(&made.in6.sin6_addr, bytes, 16);
  }
  *out = made;
  return true;
}

static void from_path(struct span path, struct addr *out) {
  *out = (struct addr){0};
  out->un.sun_family = AF_UNIX;
  memcpy(out->un.sun_path, path.ptr, path.len); /* addr_split left room for the NUL */
  out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
}

bool addr_parse(struct span text, struct addr *out) {
  struct span host;
  uint16_t port = 0;
  enum addr_kind kind = addr_split(text, &host, &port);
  if (kind == ADDR_IP) return addr_from_ip(host, port, out);
  if (kind != ADDR_UNIX) return false;
  from_path(host, out);
  return true;
}

void addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct addr *out) {
  *out = (struct addr){0};
  size_t room = sizeof(*out) - offsetof(struct addr, sa);
  check(len <= room);
  memcpy(&out->sa, sa, len);
  out->len = len;
}

/* ip_of gives family and address bytes, IPv4-mapped IPv6 as IPv4; 0 for anything else. */
static int ip_of(const struct addr *a, const uint8_t **bytes) {
  if (a->len < sizeof(a->sa.sa_family)) return 0;
  if (a->sa.sa_family == AF_INET) {
    *bytes = (const uint8_t *)&a->in4.sin_addr;
    return AF_INET;
  }
  if (a->sa.sa_family != AF_INET6) return 0;
  *bytes = a->in6.sin6_addr.s6_addr;
  if (!IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) return AF_INET6;
  *bytes += 12;
  return AF_INET;
}

static bool is_unix(const struct addr *a) {
  return a->len >= sizeof(a->sa.sa_family) && a->sa.sa_family == AF_UNIX;
}

/* path_of is the path of a unix socket; empty for an unnamed one. */
static struct span path_of(const struct addr *a) {
  size_t head = offsetof(struct sockaddr_un, sun_path);
  size_t room = a->len > head ? a->len - head : 0;
  return span_of(a->un.sun_path, strnlen(a->un.sun_path, room));
}

/* write_v4 is inet_ntop without its printf: once per request. */
static void write_v4(const uint8_t *bytes, struct buf *out) {
  for (unsigned i = 0; i < 4; i++) {
    if (i) buf_char(out, '.');
    buf_u64(out, bytes[i]);
  }
}

void addr_write_ip(const struct addr *a, struct buf *out) {
  const uint8_t *bytes = NULL;
  int family = ip_of(a, &bytes);
  if (family == 0) {
    if (is_unix(a)) buf_lit(out, "unix:");
    return;
  }
  if (family == AF_INET) {
    write_v4(bytes, out);
    return;
  }
  char text[INET6_ADDRSTRLEN];
  check(inet_ntop(family, bytes, text, sizeof(text)) != NULL);
  buf_put(out, span_str(text));
}

void addr_write(const struct addr *a, struct buf *out) {
  const uint8_t *bytes = NULL;
  int family = ip_of(a, &bytes);
  if (family == AF_INET6) buf_char(out, '[');
  addr_write_ip(a, out);
  if (family == AF_INET6) buf_char(out, ']');
  if (family != 0) {
    buf_char(out, ':');
    buf_u64(out, addr_port(a));
  } else if (is_unix(a)) {
    buf_put(out, path_of(a));
  }
}

uint16_t addr_port(const struct addr *a) {
  if (a->len < sizeof(a->sa.sa_family)) return 0;
  if (a->sa.sa_family == AF_INET) return ntohs(a->in4.sin_port);
  if (a->sa.sa_family == AF_INET6) return ntohs(a->in6.sin6_port);
  return 0;
}

bool addr_eq(const struct addr *a, const struct addr *b) {
  if (a->len == 0 || b->len == 0) return a->len == b->len;
  if (a->sa.sa_family != b->sa.sa_family) return false;
  if (is_unix(a)) return span_eq(path_of(a), path_of(b));
  if (a->sa.sa_family == AF_INET)
    return a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr && addr_port(a) == addr_port(b);
  if (a->sa.sa_family != AF_INET6) return false;
  return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0 && addr_port(a) == addr_port(b) &&
         a->in6.sin6_scope_id == b->in6.sin6_scope_id;
}

/* prefix_eq compares the first bits of two addresses. */
static bool prefix_eq(const uint8_t *a, const uint8_t *b, unsigned bits) {
  if (memcmp(a, b, bits / 8) != 0) return false;
  unsigned rest = bits % 8;
  return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

static bool host_bits_clear(const struct addr_net *net, unsigned width) {
  for (unsigned bit = net->bits; bit < width; bit++)
    if (net->bytes[bit / 8] & (0x80u >> (bit % 8))) return false;
  return true;
}

/* net_unmap: addresses are judged as IPv4 where they are mapped, so a network of such is one of
 * IPv4. A shorter prefix holds more than these and stays. */
static void net_unmap(struct addr_net *net) {
  struct in6_addr in;
  memcpy(&in, net->bytes, sizeof in);
  if (net->family != AF_INET6 || net->bits < MAPPED_BITS || !IN6_IS_ADDR_V4MAPPED(&in)) return;
  memmove(net->bytes, net->bytes + MAPPED_BITS / 8, 4);
  memset(net->bytes + 4, 0, sizeof net->bytes - 4);
  net->family = AF_INET;
  net->bits = (uint8_t)(net->bits - MAPPED_BITS);
}

bool addr_net_parse(struct span text, struct addr_net *out) {
  size_t slash = span_find_char(text, '/', 0);
  struct addr_net net = {0};
  int family = ip_bytes(span_sub(text, 0, slash), net.bytes);
  if (family == 0) return false;
  unsigned width = family == AF_INET ? 32 : 128;
  uint64_t bits = width;
  if (slash != SIZE_MAX) {
    struct span digits = span_from(text, slash + 1);
    if (digits.len > 3 || !span_u64(digits, &bits) || bits > width) return false;
  }
  net.family = (uint8_t)family;
  net.bits = (uint8_t)bits;
  net_unmap(&net);
  if (!host_bits_clear(&net, net.family == AF_INET ? 32 : 128)) return false;
  *out = net;
  return true;
}

bool addr_net_has(const struct addr_net *net, const struct addr *a) {
  const uint8_t *bytes = NULL;
  int family = ip_of(a, &bytes);
  return family != 0 && family == net->family && prefix_eq(net->bytes, bytes, net->bits);
}

bool addr_prefix(const struct addr *a, uint8_t bits4, uint8_t bits6, struct addr_net *out) {
  const uint8_t *bytes = NULL;
  int family = ip_of(a, &bytes);
  if (family == 0) return false;
  struct addr_net net = {.family = (uint8_t)family, .bits = family == AF_INET ? bits4 : bits6};
  check(net.bits <= (family == AF_INET ? 32 : 128));
  memcpy(net.bytes, bytes, net.bits / 8);
  if (net.bits % 8)
    net.bytes[net.bits / 8] = bytes[net.bits / 8] & (uint8_t)(0xff00u >> (net.bits % 8));
  *out = net;
  return true;
}
