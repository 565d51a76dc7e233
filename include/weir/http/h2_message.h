/* h2_message.h: between decoded HTTP/2 field sections and the shared message model, both ways
 * (RFC 9113 section 8, RFC 8441). What is malformed by section 8 is refused with one exact cause.
 * No frames, no HPACK: the caller decodes into a struct h2_section, and encodes what is put.
 *
 * A message that came by HTTP/2 looks as if HTTP/1.1 had brought it, but for `h2`: body is CHUNKED
 * where no length is known, and an extended CONNECT (RFC 8441) is a GET that asks for an upgrade,
 * answered by 101. Going out by HTTP/2 these are turned back. */
#ifndef WEIR_HTTP_H2_MESSAGE_H
#define WEIR_HTTP_H2_MESSAGE_H

#include "weir/base/arena.h"
#include "weir/base/end.h"
#include "weir/http/h2_pseudo.h"
#include "weir/http/message.h"

/* h2_section is one decoded field section. Each row has name, value and id, and `present` and
 * `repeated` say what stands there; flags are set by the functions below. Names and values need
 * not have been checked by the decoder. */
struct h2_section {
  struct h2_pseudo pseudo;
  struct http_fields fields;
  bool end_stream; /* no DATA follows */
};

/* h2_rules are what a listener allows. */
struct h2_rules {
  uint32_t uri_bytes;    /* of :path, at most */
  bool extended_connect; /* SETTINGS_ENABLE_CONNECT_PROTOCOL was sent */
};

/* h2_parse_request makes a request of its field section, whose rows it flags, and joins cookie
 * crumbs. False: *why, *out untouched. */
MUST_USE bool h2_parse_request(struct h2_section *in, const struct h2_rules *rules,
                               struct arena *arena, struct http_request *out, enum end *why);

/* h2_request_seen is what stands in a section that was refused, or is not whole, for people:
 * method, path and fields as they came. */
void h2_request_seen(const struct h2_section *in, struct arena *arena, struct http_request *out);

/* h2_asked is what a response answers. */
struct h2_asked {
  enum http_method method;
  struct span upgrade; /* protocol of an extended CONNECT, else empty */
};

/* h2_parse_response makes a response likewise; a 1xx is a message of its own. END_STREAM without
 * Content-Length is a body of LENGTH 0 without has_length. */
MUST_USE bool h2_parse_response(struct h2_section *in, const struct h2_asked *asked,
                                struct http_response *out, enum end *why);

/* h2_parse_trailers checks a trailer section, within the bounds of those of HTTP/1 (h1.h), and
 * drops (HTTP_FIELD_DROP) the rows that mean nothing there. request: of a request. */
MUST_USE bool h2_parse_trailers(struct h2_section *in, bool request, enum end *why);

/* h2_length holds DATA against what the head said of the body (section 8.1.1). */
struct h2_length {
  uint64_t left;
  bool known, request;
};

/* h2_length_init: body is HTTP_BODY_NONE also for responses that may not have one. */
void h2_length_init(struct h2_length *length, bool request, enum http_body body,
                    uint64_t content_length);
/* h2_length_take counts bytes of DATA without padding; false: more than there may be, *why. */
MUST_USE bool h2_length_take(struct h2_length *length, uint64_t count, enum end *why);
/* h2_length_end is END_STREAM; false: less than was said, *why. */
MUST_USE bool h2_length_end(const struct h2_length *length, enum end *why);

/* h2_field is one field to be encoded: the name is lower case. */
struct h2_field {
  struct span name, value;
  uint16_t id;    /* enum http_name; OTHER of pseudo-fields */
  uint8_t pseudo; /* enum h2_pseudo_id; H2_PSEUDO_COUNT of regular fields */
  bool secret;    /* as in struct http_field */
};

/* h2_put takes one field, whose spans live until it returns; false: no room, nothing more is put.
 */
typedef bool h2_put(void *ctx, const struct h2_field *field);

/* h2_request_head is a request on its way to an endpoint. */
struct h2_request_head {
  const struct http_request *request;
  struct span path;        /* empty: the request's */
  struct span host;        /* empty: the request's, and its port; there must be one */
  uint16_t port;           /* of host; 0: none, or it stands in host already */
  enum http_scheme scheme; /* that the client used; NONE: http */
};

/* h2_each_request puts the fields of a request in the order in which they are to be sent: pseudo-
 * fields, the rows that have no flag, `te: trailers` if the client said so, content-length. False:
 * put said so, scratch is used up, or a byte stands where it may not. */
MUST_USE bool h2_each_request(const struct h2_request_head *head, struct arena *scratch,
                              h2_put *put, void *ctx);
/* h2_each_response puts those of a response, final or interim; content-length where has_length. */
MUST_USE bool h2_each_response(const struct http_response *response, struct arena *scratch,
                               h2_put *put, void *ctx);
/* h2_each_trailer puts the rows of a trailer section that have no flag. */
MUST_USE bool h2_each_trailer(const struct http_fields *fields, struct arena *scratch, h2_put *put,
                              void *ctx);

#endif
