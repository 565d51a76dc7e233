/* h2.h: an HTTP/2 connection of either role (RFC 9113): streams as conns of their own (io/
 * carried.h), field sections as messages, flow control, settings, GOAWAY, budgets against floods.
 * What a request is and where it goes are its owner's. One thread. */
#ifndef WEIR_MUX_H2_H
#define WEIR_MUX_H2_H

#include "weir/base/end.h"
#include "weir/http/h2_message.h"
#include "weir/http/priority.h"
#include "weir/io/conn.h"
#include "weir/mux/h2_config.h"

struct h2;
struct h2_stream;
/* h2_pool is what the connections of one loop share: at most so many of them and their streams. */
struct h2_pool;
struct h2_pool *h2_pool_new(struct loop *loop, uint32_t conns_max, uint32_t streams_max);
void h2_pool_free(struct h2_pool *pool);
void h2_pool_trim(struct h2_pool *pool);
/* h2_pool_pace: when a client's connection ends, so many of its streams (at least 1) are told of
 * it at a time, as long as the share of a turn lasts (loop.share_ns). Until then: all. */
void h2_pool_pace(struct h2_pool *pool, uint32_t ends);

/* h2_new writes our SETTINGS and begins to read. NULL: no memory. */
MUST_USE struct h2 *h2_new(const struct h2_config *config);
/* h2_free ends it; its streams are gone. */
void h2_free(struct h2 *h);
void *h2_owner(const struct h2 *h);
struct conn *h2_conn(const struct h2 *h);
/* h2_reason is what was wrong with the frame that ended it, in words, static; may be empty. */
struct span h2_reason(const struct h2 *h);
/* h2_limit: what of limits the peer need not agree to holds from the next section on: header_bytes
 * (it is told, by SETTINGS), headers, resets, glitches. The rest stays as it was told at first. */
void h2_limit(struct h2 *h, const struct h2_limits *limits);
/* h2_streams is the number of streams open. */
uint32_t h2_streams(const struct h2 *h);
/* h2_timer sets the owner's deadline (absolute ms; WHEEL_NEVER: none). */
void h2_timer(struct h2 *h, uint64_t due_ms);
/* h2_drain takes no more streams, in two steps: GOAWAY with the highest number, a second later (or
 * after the answer to a PING) with the last that came (RFC 9113 section 6.8). on_idle follows. */
void h2_drain(struct h2 *h);
bool h2_draining(const struct h2 *h);
/* h2_left: the peer has said GOAWAY. */
bool h2_left(const struct h2 *h);
/* h2_last_call: the second step is done: no stream comes any more. */
bool h2_last_call(const struct h2 *h);
/* h2_end ends the connection: GOAWAY by end's code, streams fail, on_end. h is gone, at once or,
 * inside an event, when that returns; a client's, when the responses that are whole were read; a
 * server's, when all streams were told (h2_pool_pace). */
void h2_end(struct h2 *h, enum end end);
/* h2_end_now does not wait with the streams of a client's connection (h2_pool_pace): outside of
 * events h is gone. */
void h2_end_now(struct h2 *h, enum end end);

/* h2_unruly: the peer has used up a good part of its budgets against floods. */
bool h2_unruly(const struct h2 *h);

/* h2_room is how many streams we may open now. */
uint32_t h2_room(const struct h2 *h);
/* h2_silent: nothing has come from the peer since then. */
bool h2_silent(const struct h2 *h, uint64_t since_ms);
/* h2_ask asks a client's peer for a sign (PING), unless it answered one not long ago
 * (limits.ask_again_ms); until then it is suspected to be dead. */
void h2_ask(struct h2 *h);
bool h2_suspected(const struct h2 *h);
/* h2_wearies: more RST_STREAMs of ours may be more than the peer bears (rapid reset). */
bool h2_wearies(const struct h2 *h);
/* h2_streams_most is how many the peer allows; 0: it has not said so yet. */
uint32_t h2_streams_most(const struct h2 *h);
/* h2_give_up ends a connection that is not open yet: err is why, for its streams (-errno, or -enum
 * h2_anew). h is gone. */
void h2_give_up(struct h2 *h, int err);
/* h2_leave_conn, inside on_open: nothing was sent on the conn, and it is the owner's again. */
void h2_leave_conn(struct h2 *h);
/* h2_ready_for: a stream opened now can be sent on at once. settled: the peer's SETTINGS came. */
bool h2_ready_for(const struct h2 *h, bool settled);
/* h2_extends: the peer has said that it takes extended CONNECT (RFC 8441). */
bool h2_extends(const struct h2 *h);
/* h2_open opens one of ours; its conn is open when ready, or on_open tells. NULL: no room. */
MUST_USE struct h2_stream *h2_open(struct h2 *h, bool settled);

/* ---- streams ---- */

struct conn *h2_stream_conn(const struct h2_stream *st);
struct h2 *h2_stream_h2(const struct h2_stream *st);
/* h2_stream_of is the stream of a carried conn that h2 made. */
struct h2_stream *h2_stream_of(const struct conn *c);
/* h2_stream_section is where the next field section goes; names and values lie in the arena. */
void h2_stream_section(struct h2_stream *st, struct h2_section *section, struct arena *arena);
/* h2_stream_expect: the peer's (final) head has come; its DATA is held against what that said. */
void h2_stream_expect(struct h2_stream *st, enum http_body body, uint64_t content_length);
void h2_stream_priority(struct h2_stream *st, struct http_priority priority);
/* h2_stream_waits: the peer has said that it waits so long for all of the response, and no longer:
 * when it resets the stream about then, it does not end it early. */
void h2_stream_waits(struct h2_stream *st, uint64_t ms);
/* h2_stream_end_word: why the stream's conn failed, OK: an error of the connection (errno). */
enum end h2_stream_end_word(const struct h2_stream *st);
/* h2_stream_lost: it was reset, or its connection ended; its conn may still be to hear of that. */
bool h2_stream_lost(const struct h2_stream *st);
/* h2_stream_leaves: what its conn still has, `rest` bytes, goes with the next flush, besides what
 * this was said of before; or nobody will ever get it. */
bool h2_stream_leaves(struct h2_stream *st, size_t rest);
/* h2_told is the error by which the peer ended a stream (H2_RST_STREAM) or its connection
 * (H2_GOAWAY); frame 0: it told of none. The code need not be a registered one. */
struct h2_told {
  uint8_t frame;
  uint32_t code;
};
struct h2_told h2_stream_told(const struct h2_stream *st);
/* h2_stream_headed: its final head has come (h2_stream_expect). */
bool h2_stream_headed(const struct h2_stream *st);
/* h2_stream_refused: the peer has said that it did not act on it (REFUSED_STREAM, GOAWAY). */
bool h2_stream_refused(const struct h2_stream *st);
/* h2_stream_together: the peer ended the connection while this stream shared it with others. */
bool h2_stream_together(const struct h2_stream *st);
/* h2_stream_accused: GOAWAY told of an error, and the peer acted on no stream behind this one. */
bool h2_stream_accused(const struct h2_stream *st);
/* h2_stream_blame: when the conn is closed or reset before its end, RST_STREAM says end's code. */
void h2_stream_blame(struct h2_stream *st, enum end end);
/* h2_stream_fail ends it for a fault in the peer's message: RST_STREAM by end's code, on_error. */
void h2_stream_fail(struct h2_stream *st, enum end end);

/* h2_send_request and h2_send_response write a head; end: no body follows. Where there is no room
 * it waits: a response is copied, of a request only *head, and what that points to has to stay
 * until the conn is closed. False: no memory. Bodies are written to the stream's conn, conn_finish
 * ends. */
MUST_USE bool h2_send_request(struct h2_stream *st, const struct h2_request_head *head,
                              struct arena *scratch, bool end);
MUST_USE bool h2_send_response(struct h2_stream *st, const struct http_response *response,
                               struct arena *scratch, bool end);
/* h2_send_trailers keeps a copy of the rows that have no flag: conn_finish or a gentle close then
 * ends the output by them, in place of an empty frame. False: no memory. */
MUST_USE bool h2_send_trailers(struct h2_stream *st, const struct http_fields *trailers);

#endif
