/* proxy_header.h: the PROXY protocol, versions 1 and 2 ("The PROXY protocol", the specification
 * that HAProxy publishes): the header that a proxy puts before a connection's own bytes to tell
 * whose connection it is. Bytes in, a struct out, and back. Whom to believe is the listener's. */
#ifndef WEIR_HTTP_PROXY_HEADER_H
#define WEIR_HTTP_PROXY_HEADER_H

#include "weir/base/addr.h"
#include "weir/base/end.h"
#include "weir/http/message.h"

#define PROXY_V1_MAX 107u  /* bytes of a version 1 header, CR LF included (section 2.1) */
#define PROXY_V2_HEAD 16u  /* bytes before the addresses of version 2 */
#define PROXY_UNIQUE_ID_MAX 128u /* bytes of that element */
#define PROXY_V2_MAX 4096u /* bytes of a version 2 header that is accepted or written */

enum proxy_fault {
  PROXY_FAULT_NONE,
#define FAULT(id, end, text) PROXY_FAULT_##id,
#include "weir/http/proxy_fault.def"
#undef FAULT
  PROXY_FAULT_COUNT
};
/* proxy_fault_end is the cause that the connection ends with; proxy_fault_text is for people. */
enum end proxy_fault_end(enum proxy_fault fault);
struct span proxy_fault_text(enum proxy_fault fault);

/* proxy_ssl_bit: proxy_ssl.client. */
enum proxy_ssl_bit {
  PROXY_SSL_TLS = 1,       /* the client came by TLS */
  PROXY_SSL_CERT_CONN = 2, /* it showed a certificate on this connection */
  PROXY_SSL_CERT_SESS = 4, /* ... in this TLS session */
};

/* proxy_ssl is what the sender says of the client's TLS. */
struct proxy_ssl {
  uint32_t verify;     /* 0: the client's certificate was verified; means nothing without one */
  uint8_t client;      /* set of proxy_ssl_bit */
  struct span version; /* "TLSv1.3" */
  struct span cn;      /* common name of the client's certificate */
  struct span cipher;  /* "TLS_AES_128_GCM_SHA256" */
  struct span sig_alg; /* of the sender's certificate: "SHA256" */
  struct span key_alg; /* "RSA2048" */
};

/* proxy_header is one header. Spans point into the bytes that were read, or are the writer's; an
 * empty one was not sent. No byte of a span was looked at. */
struct proxy_header {
  uint8_t version;      /* 1 or 2 */
  bool local;           /* the connection's own addresses count: LOCAL, UNKNOWN or unspecified */
  bool datagram;        /* version 2: what is proxied are datagrams */
  bool checksum;        /* version 2: a CRC32C stands in it (and is right) */
  bool has_ssl;         /* ssl is set */
  struct addr src, dst; /* of the client, and what it connected to; len 0 when local */
  struct span alpn, authority, unique_id, netns;
  struct proxy_ssl ssl;
};

/* proxy_header_parse reads the header that in, all bytes of a connection so far, begins with.
 * DONE: *out and *len, its bytes. MORE: in may be the beginning of one (also when it is empty).
 * BAD: *why; SIGNATURE as soon as there is no header. What is bad is so however it is cut. What
 * LOCAL and unspecified families bring beside the length means nothing (section 2.2), but for a
 * checksum, which has to be right there too. */
enum http_result proxy_header_parse(struct span in, struct proxy_header *out, size_t *len,
                                    enum proxy_fault *why);

/* proxy_header_begun: in begins with the whole signature of a version ("PROXY ", or the twelve
 * bytes of version 2), so what misses is missing of a header. */
bool proxy_header_begun(struct span in);

/* proxy_datagram_parse reads the version 2 header that a datagram begins with, which stands whole
 * in it: DONE or BAD, as above; SIGNATURE: it has none. */
enum http_result proxy_datagram_parse(struct span datagram, struct proxy_header *out, size_t *len,
                                      enum proxy_fault *why);

/* proxy_tlv_bit: elements that a header may do without, in the order of the words of
 * pools.*.proxy_tlvs. */
enum proxy_tlv_bit {
  PROXY_TLV_ALPN = 1,
  PROXY_TLV_AUTHORITY = 2,
  PROXY_TLV_UNIQUE_ID = 4,
  PROXY_TLV_SSL = 8,
  PROXY_TLV_CRC32C = 16,
  PROXY_TLV_ALL = 31
};
/* proxy_header_keep takes from h those that are not in tlvs, a set of proxy_tlv_bit. */
void proxy_header_keep(struct proxy_header *h, unsigned tlvs);

/* proxy_header_write appends h by its version. Version 1 has room for addresses alone. Addresses
 * that do not go together are written as UNKNOWN (unspecified, in version 2); IPv4-mapped ones as
 * IPv4 when both are. False, and nothing is appended: out is too small, an element is too long,
 * or the whole is longer than PROXY_V2_MAX. */
MUST_USE bool proxy_header_write(struct buf *out, const struct proxy_header *h);

#endif
