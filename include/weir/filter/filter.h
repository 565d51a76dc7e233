/* filter.h: what is changed in a message on its way: rows of filters.def, run in that order for
 * each request head and final response head. A filter edits the message in its arena and starts no
 * I/O; one that must wait returns FILTER_WAIT and is resumed (none does yet). */
#ifndef WEIR_FILTER_FILTER_H
#define WEIR_FILTER_FILTER_H

#include "weir/base/end.h"
#include "weir/http/message.h"
#include "weir/model/model.h"

enum filter_result {
  FILTER_NEXT,
  FILTER_ANSWER, /* stop: the stream ends with ctx->end */
  FILTER_WAIT,
};

/* filter_ctx is what a filter may know and change. */
struct filter_ctx {
  struct arena *arena; /* the stream's */
  const struct listener *listener;
  const struct route *route; /* NULL before routing */
  struct addr peer;          /* of the connection; family AF_UNIX: a unix socket */
  bool tls;
  struct http_request *request;
  struct http_response *response; /* response filters */
  struct span set_cookie; /* in, response filters: of the pool's sticky cookie; empty: none */
  struct span client; /* out (forwarded): client.address after trust, text in the arena */
  struct span forward_path; /* out (strip_prefix): the path to send; empty: request->path */
  enum end end;             /* FILTER_ANSWER */
};

/* filter_request runs the request column, filter_response the response column. */
enum filter_result filter_request(struct filter_ctx *ctx);
enum filter_result filter_response(struct filter_ctx *ctx);

#endif
