/* h1.h: HTTP/1.0 and HTTP/1.1 on the wire (RFC 9112): parsers, the chunked coding, serialisers.
 * Bytes in, messages out: no sockets, clocks or logs. Ambiguity is refused with one exact cause;
 * nothing is repaired but what the RFC says may be (up to two empty lines before a request). */
#ifndef WEIR_HTTP_H1_H
#define WEIR_HTTP_H1_H

#include "weir/base/arena.h"
#include "weir/base/buf.h"
#include "weir/base/end.h"
#include "weir/base/span.h"
#include "weir/http/message.h"

enum h1_side { H1_REQUEST, H1_RESPONSE };

/* h1_limits bound one head; all inclusive. */
struct h1_limits {
  uint32_t header_bytes; /* the whole head, start line and last CRLF included; at most 1 GiB */
  uint32_t headers;      /* field lines */
  uint32_t uri_bytes;    /* request target */
};

/* h1_scan is how far a head has been read; {0} starts one. A head costs O(bytes) however it is
 * cut. It lives from the first call until DONE or BAD, then {0} again for the next head. */
struct h1_scan {
  uint8_t step;        /* enum h1_step (h1_head_priv.h) */
  uint8_t empty_lines; /* skipped before the request line */
  uint8_t name_class;  /* class bits of the field name being read */
  uint8_t minor;
  uint32_t start;   /* offset of the element being read */
  uint32_t scanned; /* bytes looked at; those before are in order */
  uint32_t name_len;
  struct span first, second; /* method and target, or reason phrase */
  uint16_t status;
  const char *base; /* where the input was at the last call; it may move */
  struct http_fields fields;
};

/* h1_parse_request reads a request head. input: all bytes since the end of the last message, in
 * memory that outlives the request; on each call the same bytes and more after them (they may
 * have moved). DONE sets *out; bytes from head_len on are body or the next request. Refuses as
 * soon as the fault is certain, also in an incomplete head. The arena gives the field rows. */
MUST_USE enum http_result h1_parse_request(struct h1_scan *scan, struct span input,
                                           const struct h1_limits *limits, struct arena *arena,
                                           struct http_request *out, enum end *why);

/* h1_request_seen is what was read of a head that is not whole, or was refused, for people:
 * method, target, version (*out's minor; false: not so far), host and fields. A target that is
 * none stands in path as it came, up to the byte that may not be in one. input is that of the last
 * call. The arena gives a host in another case. */
bool h1_request_seen(const struct h1_scan *scan, struct span input, struct arena *arena,
                     struct http_request *out);

/* h1_parse_response reads a response head to a request of the given method; a 1xx is DONE with its
 * own status and the final head follows it. limits->uri_bytes is not used. */
MUST_USE enum http_result h1_parse_response(struct h1_scan *scan, struct span input,
                                            const struct h1_limits *limits, struct arena *arena,
                                            enum http_method request_method,
                                            struct http_response *out, enum end *why);

/* Bounds of the chunked coding, per chunk line, per body, and of the trailer section. */
#define H1_CHUNK_DIGITS_MAX 16u
#define H1_CHUNK_EXT_LINE_MAX 256u
#define H1_CHUNK_EXT_BODY_MAX 16384u
#define H1_TRAILER_BYTES_MAX 8192u
#define H1_TRAILER_COUNT_MAX 64u

/* H1_TRAILER_LINES_MAX: a trailer section as it stands on the wire, within those bounds. */
#define H1_TRAILER_LINES_MAX (H1_TRAILER_BYTES_MAX + 3u * H1_TRAILER_COUNT_MAX + 2u)

/* h1_chunked decodes one chunked body (RFC 9112 section 7.1). Extensions are checked and dropped;
 * trailers are checked, and theirs to keep who ask for them (h1_chunked_lines). Holds no bytes and
 * no pointers. */
struct h1_chunked {
  uint64_t left; /* data bytes of the current chunk still to come */
  uint64_t size; /* of the chunk line being read */
  uint32_t ext_bytes, ext_total;
  uint32_t trailer_bytes, trailer_count;
  uint32_t lines; /* bytes of trailer lines at the end of what the last call consumed */
  uint8_t step; /* enum chunk_step (h1_chunked.c) */
  uint8_t digits;
  uint8_t side; /* enum h1_side: which causes are given */
};

void h1_chunked_init(struct h1_chunked *chunked, enum h1_side side);
/* h1_chunked_parse reads from in, sets *consumed and at most one run of body bytes *data that
 * points into in (empty: none yet). MORE: call again with the bytes after *consumed, if any, or
 * when more came. DONE: the body ended (*data is empty); bytes after *consumed are the next
 * message's, and the decoder takes no more. BAD: *why. */
MUST_USE enum http_result h1_chunked_parse(struct h1_chunked *chunked, struct span in,
                                           size_t *consumed, struct span *data, enum end *why);
/* h1_chunked_lines is the part of the trailer section in what the last call consumed; after DONE
 * all parts together are the field lines and the empty line (h1_parse_trailers), or nothing where
 * there are no trailers. At most H1_TRAILER_LINES_MAX bytes in all. */
static inline struct span h1_chunked_lines(const struct h1_chunked *c, struct span consumed) {
  return span_from(consumed, consumed.len - c->lines);
}
/* h1_chunked_remaining is how many bytes of the current chunk are still to come: they may be
 * relayed without this parser if h1_chunked_skip is told. 0: the next bytes are not data. */
static inline uint64_t h1_chunked_remaining(const struct h1_chunked *c) { return c->left; }
/* h1_chunked_skip accounts for count data bytes moved past the parser; count <= remaining. */
void h1_chunked_skip(struct h1_chunked *chunked, uint64_t count);

/* Serialisers append to a buf and set buf.full when it does not fit (nothing partial is meant to
 * be sent then). Those that take text refuse bytes that could end a line: false and full. */

/* h1_write_request_line: query NULL for none; an empty one writes "?". */
bool h1_write_request_line(struct buf *b, struct span method, struct span path,
                           const struct span *query, unsigned minor);
/* h1_write_status_line always says HTTP/1.1 (RFC 9110 section 2.5). */
bool h1_write_status_line(struct buf *b, unsigned status, struct span reason);
/* h1_write_fields writes the rows that have no flag. The rows were checked when made. */
void h1_write_fields(struct buf *b, const struct http_fields *fields);
/* h1_write_field writes one row; name is a token, value has no control but HTAB. */
bool h1_write_field(struct buf *b, struct span name, struct span value);
/* h1_write_framing writes Content-Length (LENGTH), Transfer-Encoding (CHUNKED) or nothing. */
void h1_write_framing(struct buf *b, enum http_body body, uint64_t content_length);
/* h1_write_host writes the Host field; port 0: none. */
bool h1_write_host(struct buf *b, struct span host, unsigned port);
/* h1_write_chunk_head writes "size CRLF"; size is not 0. Its data is followed by CRLF. */
void h1_write_chunk_head(struct buf *b, uint64_t size);
/* h1_write_last_chunk ends a chunked body; trailers whose rows have no flag stand in its trailer
 * section. */
void h1_write_last_chunk(struct buf *b, const struct http_fields *trailers);
#define H1_CRLF SPAN_LIT("\r\n")
#define H1_LAST_CHUNK SPAN_LIT("0\r\n\r\n")
/* H1_CHUNK_HEAD_MAX is the most that h1_write_chunk_head writes. */
#define H1_CHUNK_HEAD_MAX 18u

#endif
