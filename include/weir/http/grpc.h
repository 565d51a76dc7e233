/* grpc.h: what weir has to understand of gRPC over HTTP/2: which requests are calls, deadlines,
 * statuses and their messages. Messages inside bodies are nobody's here. The protocol is
 * PROTOCOL-HTTP2 of gRPC with its HTTP status mapping. Pure: no clock, no allocation. */
#ifndef WEIR_HTTP_GRPC_H
#define WEIR_HTTP_GRPC_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/end.h"
#include "weir/base/span.h"

enum grpc_status {
#define GRPC(id, number, word, bad) GRPC_##id = (number),
#include "weir/http/grpc.def"
  GRPC_STATUS_COUNT
};

/* grpc_is tells whether a Content-Type is that of a call: application/grpc, alone or followed by
 * "+" or ";". */
bool grpc_is(struct span content_type);

/* grpc_timeout_parse reads a grpc-timeout: one to eight digits and a unit (H M S m u n). *ms is
 * rounded up, at most GRPC_TIMEOUT_MAX_MS. 0 is taken, as peers send it for what is over already.
 * False: malformed, *ms is untouched. */
#define GRPC_TIMEOUT_MAX_MS (UINT64_C(1000) * 86400 * 365)
MUST_USE bool grpc_timeout_parse(struct span text, uint64_t *ms);
/* grpc_timeout_write writes at most GRPC_TIMEOUT_LEN bytes, never more time than ms, but no less
 * than a millisecond. */
#define GRPC_TIMEOUT_LEN 9u
void grpc_timeout_write(uint64_t ms, struct buf *out);

/* grpc_status_parse reads a grpc-status: a number in decimal. What is none of the codes is
 * UNKNOWN, as clients take it. */
enum grpc_status grpc_status_parse(struct span text);
/* grpc_status_word gives its word in grpc.def. */
struct span grpc_status_word(enum grpc_status status);
/* grpc_status_bad: it speaks against the endpoint (grpc.def). */
bool grpc_status_bad(enum grpc_status status);
/* grpc_status_of_http is what a client takes a response for that is not one of gRPC. */
enum grpc_status grpc_status_of_http(unsigned status);
/* grpc_status_of_end is what weir says for its own refusal or failure, `status` in HTTP. */
enum grpc_status grpc_status_of_end(enum end end, unsigned status);
/* grpc_status_of_reset is what it says of a stream that the endpoint reset, with this code. */
enum grpc_status grpc_status_of_reset(uint32_t code);

/* grpc_message_write writes a grpc-message: percent-encoded but for printable ASCII. */
void grpc_message_write(struct span text, struct buf *out);

#endif
