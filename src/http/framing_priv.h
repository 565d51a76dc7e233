/* framing_priv.h: where a message ends and what its connection does next. Stays inside http/. */
#ifndef WEIR_HTTP_FRAMING_PRIV_H
#define WEIR_HTTP_FRAMING_PRIV_H

#include "weir/base/end.h"
#include "weir/http/message.h"

/* framing_of_request sets body, content_length, keepalive, upgrade and expect_continue, and flags
 * rows that Connection nominates. False: *why. */
MUST_USE bool framing_of_request(struct http_request *req, enum end *why);
/* framing_of_response sets body, content_length, has_length, keepalive and upgrade likewise. */
MUST_USE bool framing_of_response(struct http_response *res, enum http_method request_method,
                                  enum end *why);
/* framing_of_h2_request is framing_of_request for a request without connection-specific fields
 * whose end is marked by END_STREAM: here at once, or later. req->upgrade is set already. */
MUST_USE bool framing_of_h2_request(struct http_request *req, bool end_stream, enum end *why);
/* framing_of_h2_response likewise; does not set upgrade. */
MUST_USE bool framing_of_h2_response(struct http_response *res, enum http_method request_method,
                                     bool end_stream, enum end *why);
/* framing_nominated flags rows of a trailer section that the Connection of its head, which was
 * found in order, names. */
void framing_nominated(const struct http_fields *head, struct http_fields *trailers);

#endif
