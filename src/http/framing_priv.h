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

#endif
