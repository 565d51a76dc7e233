/* grpc_priv.h: gRPC calls among the requests (grpc.c): what they ask for, how they end. */
#ifndef WEIR_PROXY_GRPC_PRIV_H
#define WEIR_PROXY_GRPC_PRIV_H

#include "weir/base/end.h"
#include "weir/http/base64.h"
#include "weir/http/grpc.h"
#include "weir/http/grpc_web.h"
#include "weir/http/message.h"

struct conn;
struct pump;
struct stream;

/* web is a call of gRPC-Web (grpc_web.c); zeroes: it is none. */
struct web {
  uint8_t request, response; /* enum grpc_web */
  bool live;                 /* the response is one of gRPC, and goes out as gRPC-Web */
  struct span suffix;        /* of the request's Content-Type */
  struct span frame;         /* all of the response's body, where the endpoint sent none */
  struct base64_in decoder;  /* of the request's body */
  struct grpc_frames frames; /* of the response's */
};

/* call is what is known of a gRPC call, beside STREAM_GRPC. */
struct call {
  uint64_t deadline_ms; /* that the caller gave; WHEEL_NEVER: none (then no STREAM_DEADLINE) */
  uint8_t status;       /* enum grpc_status; GRPC_STATUS_COUNT: not known yet */
  struct web web;
};

/* grpc_begin looks whether the request is a call. Another end than OK: it is refused. */
MUST_USE enum end grpc_begin(struct stream *s);
/* grpc_asks is true of calls, and of heads that were refused but look like one. */
bool grpc_asks(struct stream *s);
/* grpc_overdue: the caller does not wait any more. */
bool grpc_overdue(const struct stream *s);
/* grpc_limit sets the stream's deadline: the route's timeout from now on, at most the caller's. */
void grpc_limit(struct stream *s);
/* grpc_send_deadline puts the time that is left in the request; false: no memory. */
MUST_USE bool grpc_send_deadline(struct stream *s);

/* grpc_of is the status that a response's head tells; GRPC_STATUS_COUNT: its trailers will. */
enum grpc_status grpc_of(const struct http_response *r);
/* grpc_retry: the response's status is named in retry.on. */
bool grpc_retry(const struct stream *s);
/* grpc_counts_as is the HTTP status as which the response counts for its endpoint; 0: not known
 * before its trailers. */
uint16_t grpc_counts_as(const struct stream *s);
/* grpc_head, grpc_trailers and grpc_over are told of the final head, the trailers, and a body that
 * ended. */
void grpc_head(struct stream *s);
void grpc_trailers(struct stream *s, const struct http_fields *rows);
void grpc_over(struct stream *s);

/* grpc_refusal makes the fields of weir's own answer, which says status in HTTP; refused: because
 * of s->end. False: no memory. */
MUST_USE bool grpc_refusal(struct stream *s, unsigned status, bool refused,
                           struct http_fields *fields);
/* grpc_cut ends a response that has begun by trailers that say s->end; false: it cannot be. */
MUST_USE bool grpc_cut(struct stream *s);
/* grpc_final is the status that the caller saw, or will have made up. */
enum grpc_status grpc_final(const struct stream *s);

/* ---- grpc_web.c ---- */
/* web_begin makes a request of gRPC-Web a call, where the route's policies have it. Another end
 * than OK: it is refused. */
MUST_USE enum end web_begin(struct stream *s);
/* web_changes: bytes of that body pass through web_pass, which gives the cause when it fails.
 * web_unfinished: it ends in the middle of a group. */
bool web_changes(const struct stream *s, const struct pump *p);
MUST_USE enum end web_pass(struct stream *s, struct pump *p, struct span data);
bool web_unfinished(const struct stream *s, const struct pump *p);
/* web_response makes a final head one of gRPC-Web; web_end ends its body with the trailers; false:
 * no memory. */
MUST_USE bool web_response(struct stream *s);
MUST_USE bool web_end(struct stream *s, struct conn *sink, const struct http_fields *rows);
/* web_refusal makes type and body of weir's own answer of its rows; false: no memory. */
MUST_USE bool web_refusal(struct stream *s, const struct http_fields *rows, struct span *type,
                          struct span *body);
/* web_may_cut: a frame of weir's can end the response now. */
bool web_may_cut(const struct stream *s);

#endif
