/* proxy_header_v2.c: the binary header of version 2 ("The PROXY protocol", section 2.2) but for
 * its elements (proxy_header_tlv.c), read strictly and written. */
#include "proxy_header_priv.h"
#include "weir/base/crc32c.h"

enum { VERSION_2 = 2, COMMAND_LOCAL = 0, COMMAND_PROXY = 1, UNIX_PATH_LEN = 108 };

/* Where things stand; PROXY_V2_HEAD bytes in all. */
enum { AT_VERSION = 12, AT_FAMILY = 13, AT_LENGTH = 14 };

/* family_row: byte 14 of a header, and what it means. */
struct family_row {
  uint8_t byte;
  uint8_t address_len; /* of each of the two, without port */
  uint8_t port_len;
  bool datagram;
  sa_family_t family;
};

static const struct family_row families[] = {
    {0x00, 0, 0, false, AF_UNSPEC},           {0x11, PROXY_IP4_LEN, 2, false, AF_INET},
    {0x12, PROXY_IP4_LEN, 2, true, AF_INET},  {0x21, PROXY_IP6_LEN, 2, false, AF_INET6},
    {0x22, PROXY_IP6_LEN, 2, true, AF_INET6}, {0x31, UNIX_PATH_LEN, 0, false, AF_UNIX},
    {0x32, UNIX_PATH_LEN, 0, true, AF_UNIX},
};

static const struct family_row *family_find(uint8_t byte) {
  for (size_t i = 0; i < array_count(families); i++)
    if (families[i].byte == byte) return &families[i];
  return NULL;
}

static size_t ends_len(const struct family_row *row) {
  return 2u * ((size_t)row->address_len + row->port_len);
}

/* unix_path: the name of an abstract socket begins with a zero, a path ends before one. */
static struct addr unix_path(const char *at) {
  struct addr a = {.len = sizeof(a.un)};
  size_t len = UNIX_PATH_LEN;
  a.un.sun_family = AF_UNIX;
  _Static_assert(sizeof(a.un.sun_path) == UNIX_PATH_LEN, "as the header has it");
  memcpy(a.un.sun_path, at, UNIX_PATH_LEN);
  while (len > 0 && at[len - 1] == 0) len--;
  if (len < UNIX_PATH_LEN) a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
  return a;
}

static struct addr address(const struct family_row *row, const char *ip, uint16_t port) {
  if (row->family == AF_UNIX) return unix_path(ip);
  struct addr a = {.len = sizeof(a.in6)};
  if (row->family == AF_INET) {
    a.len = sizeof(a.in4);
    a.in4.sin_family = AF_INET;
    a.in4.sin_port = htons(port);
    memcpy(&a.in4.sin_addr, ip, PROXY_IP4_LEN);
  } else {
    a.in6.sin6_family = AF_INET6;
    a.in6.sin6_port = htons(port);
    memcpy(&a.in6.sin6_addr, ip, PROXY_IP6_LEN);
  }
  return a;
}

static void read_ends(struct proxy_parse *p, const struct family_row *row) {
  const char *at = p->in.ptr + PROXY_V2_HEAD;
  const char *ports = at + 2u * row->address_len;
  uint16_t src = row->port_len ? proxy_be16(ports) : 0;
  uint16_t dst = row->port_len ? proxy_be16(ports + 2) : 0;
  p->h.src = address(row, at, src);
  p->h.dst = address(row, at + row->address_len, dst);
  p->h.datagram = row->datagram;
}

/* checksum_of is that of a header whose checksum at `at` counts as zero. */
static uint32_t checksum_of(struct span header, size_t at) {
  uint32_t crc = crc32c(0, span_sub(header, 0, at));
  crc = crc32c(crc, SPAN_LIT("\0\0\0\0"));
  return crc32c(crc, span_from(header, at + 4));
}

static uint8_t byte_at(struct span in, size_t at) { return (uint8_t)in.ptr[at]; }

/* skim gives where the checksum of a header stands whose elements mean nothing (LOCAL, or no
 * family); 0: nowhere, or what it brings does not read as elements, which is no fault there. */
static size_t skim(const struct proxy_parse *p) {
  struct proxy_parse own = {.in = p->in};
  const struct family_row *row = family_find(byte_at(p->in, AT_FAMILY));
  size_t checksum;
  if (!row || p->in.len < PROXY_V2_HEAD + ends_len(row)) return 0;
  return proxy_tlvs_parse(&own, PROXY_V2_HEAD + ends_len(row), &checksum) ? checksum : 0;
}

/* read_body reads what stands behind the head, which is all there. */
static enum http_result read_body(struct proxy_parse *p, const struct family_row *row) {
  size_t checksum;
  p->in = span_sub(p->in, 0, p->len);
  if (p->h.local) {
    checksum = skim(p);
  } else {
    read_ends(p, row);
    if (!proxy_tlvs_parse(p, PROXY_V2_HEAD + ends_len(row), &checksum)) return HTTP_BAD;
  }
  p->h.checksum = checksum > 0;
  if (!checksum || checksum_of(p->in, checksum) == proxy_be32(p->in.ptr + checksum))
    return HTTP_DONE;
  return proxy_bad(p, PROXY_FAULT_CHECKSUM);
}

enum http_result proxy_v2_parse(struct proxy_parse *p) {
  const struct family_row *row = &families[0];
  p->h.version = 2;
  if (p->in.len <= AT_VERSION) return HTTP_MORE;
  uint8_t version = byte_at(p->in, AT_VERSION) >> 4, command = byte_at(p->in, AT_VERSION) & 15;
  if (version != VERSION_2) return proxy_bad(p, PROXY_FAULT_VERSION);
  if (command > COMMAND_PROXY) return proxy_bad(p, PROXY_FAULT_COMMAND);
  if (p->in.len <= AT_FAMILY) return HTTP_MORE;
  if (command == COMMAND_PROXY) row = family_find(byte_at(p->in, AT_FAMILY));
  if (!row) return proxy_bad(p, PROXY_FAULT_FAMILY);
  if (p->in.len < PROXY_V2_HEAD) return HTTP_MORE;
  p->len = PROXY_V2_HEAD + (size_t)proxy_be16(p->in.ptr + AT_LENGTH);
  if (p->len > PROXY_V2_MAX) return proxy_bad(p, PROXY_FAULT_LONG);
  if (p->len < PROXY_V2_HEAD + ends_len(row)) return proxy_bad(p, PROXY_FAULT_SHORT);
  if (p->in.len < p->len) return HTTP_MORE;
  p->h.local = row->family == AF_UNSPEC;
  return read_body(p, row);
}

static uint8_t family_byte(sa_family_t family, bool datagram) {
  for (size_t i = 0; i < array_count(families); i++)
    if (families[i].family == family && families[i].datagram == datagram) return families[i].byte;
  return families[0].byte;
}

static void put_path(struct buf *out, const struct addr *a) {
  char path[UNIX_PATH_LEN] = {0};
  size_t len = a->len - offsetof(struct sockaddr_un, sun_path);
  memcpy(path, a->un.sun_path, len < sizeof(path) ? len : sizeof(path));
  buf_put(out, span_of(path, sizeof(path)));
}

static void put_ends(struct buf *out, const struct proxy_header *h, const struct proxy_ends *e) {
  if (e->family == AF_UNIX) {
    put_path(out, &h->src);
    put_path(out, &h->dst);
  } else if (e->family != AF_UNSPEC) {
    size_t len = e->family == AF_INET ? PROXY_IP4_LEN : PROXY_IP6_LEN;
    buf_put(out, span_of((const char *)e->src, len));
    buf_put(out, span_of((const char *)e->dst, len));
    proxy_put16(out, e->src_port);
    proxy_put16(out, e->dst_port);
  }
}

/* patch writes over bytes that stand in out already. */
static void patch(struct buf *out, size_t at, struct span bytes) {
  check(at <= out->len && bytes.len <= out->len - at);
  memcpy(out->ptr + at, bytes.ptr, bytes.len);
}

static void patch_checksum(struct buf *out, size_t at) {
  char room[4];
  struct buf value = buf_of(room, sizeof(room));
  proxy_put32(&value, checksum_of(buf_span(out), at));
  patch(out, at, buf_span(&value));
}

void proxy_v2_write(struct buf *out, const struct proxy_header *h) {
  struct proxy_ends e = proxy_ends_of(h);
  size_t checksum = 0;
  buf_put(out, PROXY_V2_SIGNATURE);
  buf_char(out, (char)(VERSION_2 << 4 | (h->local ? COMMAND_LOCAL : COMMAND_PROXY)));
  buf_char(out, (char)family_byte(e.family, h->datagram));
  proxy_put16(out, 0); /* the length, when it is known */
  put_ends(out, h, &e);
  if (!h->local) proxy_tlvs_write(out, h, &checksum);
  if (out->full) return;
  size_t len = out->len - PROXY_V2_HEAD;
  patch(out, AT_LENGTH, span_of((const char[]){(char)(len >> 8), (char)len}, 2));
  if (checksum) patch_checksum(out, checksum);
}
