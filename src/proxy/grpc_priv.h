/* grpc_priv.h: gRPC calls among the requests (grpc.c): what they ask for, how they end. */
#ifndef WEIR_PROXY_GRPC_PRIV_H
#define WEIR_PROXY_GRPC_PRIV_H

#include "weir/base/end.h"
#include "weir/http/grpc.h"
#include "weir/http/message.h"

struct stream;

/* call is what is known of a gRPC call, beside STREAM_GRPC. */
struct call {
  uint64_t deadline_ms; /* that the caller gave; WHEEL_NEVER: none (then no STREAM_DEADLINE) */
  uint8_t status;       /* enum grpc_status; GRPC_STATUS_COUNT: not known yet */
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

/* grpc_refusal makes the fields of weir's own answer, which says status in HTTP; false: no memory.
 */
MUST_USE bool grpc_refusal(struct stream *s, unsigned status, bool refused,
                           struct http_fields *fields);
/* grpc_cut ends a response that has begun by trailers that say s->end; false: it cannot be. */
MUST_USE bool grpc_cut(struct stream *s);
/* grpc_final is the status that the caller saw, or will have made up. */
enum grpc_status grpc_final(const struct stream *s);

#endif
