/* trailer.h: trailer sections as fields (RFC 9110 section 6.5), and which of them a proxy passes
 * on. Those that frame, route, authenticate or speak for the proxy have no meaning there (section
 * 6.5.1) and a reader that merges them into the head would be deceived: they are flagged
 * HTTP_FIELD_DROP. */
#ifndef WEIR_HTTP_TRAILER_H
#define WEIR_HTTP_TRAILER_H

#include "weir/http/h1.h"

/* h1_parse_trailers makes rows of the trailer lines of a chunked body that the decoder gathered
 * (h1_chunked_lines), with the empty line; they live in the memory of lines and in arena. head:
 * the message's fields, whose Connection may nominate some. False: *why, *out untouched. */
struct h1_trailer_lines {
  struct span lines;
  enum h1_side side;
  const struct http_fields *head;
};
MUST_USE bool h1_parse_trailers(const struct h1_trailer_lines *in, struct arena *arena,
                                struct http_fields *out, enum end *why);

/* http_trailers_judge flags rows that are not passed on, beyond what they are flagged already. */
void http_trailers_judge(struct http_fields *trailers);
/* http_trailers_fit: they are within H1_TRAILER_BYTES_MAX and H1_TRAILER_COUNT_MAX. */
bool http_trailers_fit(const struct http_fields *trailers);
/* http_trailers_any: a serialiser has rows to write. */
bool http_trailers_any(const struct http_fields *trailers);
/* http_takes_trailers: a request's TE says that its sender, and all behind it, take trailers (RFC
 * 9110 section 10.1.4), and no filter took that out. */
bool http_takes_trailers(const struct http_fields *request);

#endif
