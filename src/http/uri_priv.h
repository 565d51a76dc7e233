/* uri_priv.h: the host of a request, by every HTTP version. Stays inside http/. */
#ifndef WEIR_HTTP_URI_PRIV_H
#define WEIR_HTTP_URI_PRIV_H

#include "weir/http/uri.h"

/* http_request_host sets host and port from authority (of the target, or :authority; NULL: none),
 * or else from the Host field; a Host that says otherwise is refused (RFC 9112 section 3.2, RFC
 * 9113 section 8.3.1). Neither: both stay as they are. Uses req->fields and req->scheme. False:
 * *why. */
MUST_USE bool http_request_host(struct http_request *req, const struct span *authority,
                                struct arena *arena, enum end *why);

#endif
