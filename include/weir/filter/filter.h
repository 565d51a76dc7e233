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
  FILTER_RESPOND, /* stop: weir answers with ctx->status and what filter_local adds */
  FILTER_WAIT,
};

/* filter_ctx is what a filter may know and change. */
struct filter_ctx {
  struct arena *arena; /* the stream's */
  const struct listener *listener;
  const struct route *route; /* NULL before routing */
  const struct pool *pool;   /* that the request goes to; NULL: to none, or not known yet */
  struct addr peer;          /* of the connection; family AF_UNIX: a unix socket */
  struct span socket;        /* who connected, if peer is from a PROXY header; empty: peer did */
  bool tls;
  const struct match_cert *cert; /* of the client, found good; NULL: none */
  bool cert_forward;             /* Client-Cert and Client-Cert-Chain are weir's own here */
  struct span cert_der;          /* what goes into the one; empty: nothing */
  const struct span *cert_chain; /* and into the other */
  uint32_t cert_chain_count;
  struct regex_scratch *scratch; /* of the thread, for regular expressions */
  struct http_request *request;
  struct http_response *response; /* response filters */
  struct span set_cookie; /* in, response filters: of the pool's sticky cookie; empty: none */
  bool trust_known, trusted; /* out (filter_trust): the peer is a trusted proxy */
  struct addr client_addr;   /* out (filter_trust): the client behind trusted proxies */
  struct span client;        /* out (filter_trust): its client.address, text in the arena */
  struct span
      forward_path; /* out (strip_prefix, rewrite): the path to send; empty: request->path */
  struct span rate, rate_policy; /* in: RateLimit, RateLimit-Policy of responses; empty: none */
  bool preflight;           /* out (cors): the request is one that weir answers */
  uint16_t status;          /* FILTER_RESPOND */
  enum end end;             /* FILTER_ANSWER */
};

/* filter_trust finds the client behind trusted proxies and lets through what a trusted peer says
 * of it (X-Forwarded-*, Forwarded). Before routing, which may ask for either; once. */
void filter_trust(struct filter_ctx *ctx);
/* filter_request runs the request column, filter_response the response column, filter_local that
 * of responses that weir makes itself. */
enum filter_result filter_request(struct filter_ctx *ctx);
enum filter_result filter_response(struct filter_ctx *ctx);
enum filter_result filter_local(struct filter_ctx *ctx);
/* filter_trailers drops trailers whose names the route's policies remove or set in heads; request:
 * of a request. */
void filter_trailers(const struct filter_ctx *ctx, struct http_fields *trailers, bool request);

/* filter_preflight tells whether a request is a CORS preflight: *method is the one that it asks
 * for. */
bool filter_preflight(const struct http_request *r, struct span *method);
/* filter_trace_id is that of the request's traceparent; empty: it has no good one. */
struct span filter_trace_id(const struct http_request *r);
/* filter_expand fills a template in, borrowing or in the stream's arena. Every byte of the result
 * may stand in a field value. False: the arena is used up, ctx->end is set. */
MUST_USE bool filter_expand(struct filter_ctx *ctx, const struct template *template,
                            struct span *out);

#endif
