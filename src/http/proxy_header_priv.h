/* proxy_header_priv.h: what the files of the PROXY header share: proxy_header.c (what it is, and
 * addresses), proxy_header_v1.c, proxy_header_v2.c, proxy_header_tlv.c. Stays inside http/. */
#ifndef WEIR_HTTP_PROXY_HEADER_PRIV_H
#define WEIR_HTTP_PROXY_HEADER_PRIV_H

#include "weir/http/proxy_header.h"

enum { PROXY_IP4_LEN = 4, PROXY_IP6_LEN = 16 };

/* proxy_parse is one call of proxy_header_parse. */
struct proxy_parse {
  struct span in;
  struct proxy_header h;
  size_t len;
  enum proxy_fault why;
};

static inline enum http_result proxy_bad(struct proxy_parse *p, enum proxy_fault why) {
  p->why = why;
  return HTTP_BAD;
}

static inline uint16_t proxy_be16(const char *at) {
  const unsigned char *u = (const unsigned char *)at;
  return (uint16_t)(u[0] << 8 | u[1]);
}
static inline uint32_t proxy_be32(const char *at) {
  return (uint32_t)proxy_be16(at) << 16 | proxy_be16(at + 2);
}
static inline void proxy_put16(struct buf *out, uint16_t value) {
  buf_char(out, (char)(value >> 8));
  buf_char(out, (char)value);
}
static inline void proxy_put32(struct buf *out, uint32_t value) {
  proxy_put16(out, (uint16_t)(value >> 16));
  proxy_put16(out, (uint16_t)value);
}

/* proxy_ends are the addresses of a header as both versions write them. */
struct proxy_ends {
  sa_family_t family; /* AF_UNSPEC: they do not go together */
  uint8_t src[PROXY_IP6_LEN], dst[PROXY_IP6_LEN];
  uint16_t src_port, dst_port;
};
struct proxy_ends proxy_ends_of(const struct proxy_header *h);

/* proxy_v1_parse and proxy_v2_parse go on behind "PROXY " and the signature. */
enum http_result proxy_v1_parse(struct proxy_parse *p);
enum http_result proxy_v2_parse(struct proxy_parse *p);
#define PROXY_V1_SIGNATURE SPAN_LIT("PROXY ")
#define PROXY_V2_SIGNATURE SPAN_LIT("\r\n\r\n\0\r\nQUIT\n")
/* proxy_v1_write and proxy_v2_write leave out full when it did not fit. */
void proxy_v1_write(struct buf *out, const struct proxy_header *h);
void proxy_v2_write(struct buf *out, const struct proxy_header *h);

/* proxy_tlvs_parse reads the elements of a whole header; *checksum is where the checksum stands,
 * 0: nowhere. False: p->why. */
MUST_USE bool proxy_tlvs_parse(struct proxy_parse *p, size_t from, size_t *checksum);
/* proxy_tlvs_write appends them; *checksum is where a zero stands for it, 0: nowhere. */
void proxy_tlvs_write(struct buf *out, const struct proxy_header *h, size_t *checksum);

#endif
