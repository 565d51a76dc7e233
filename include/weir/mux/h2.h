/* h2.h: an HTTP/2 connection of either role (RFC 9113): streams as conns of their own (io/
 * carried.h), field sections as messages, flow control, settings, GOAWAY, budgets against floods.
 * What a request is and where it goes are its owner's. One thread. */
#ifndef WEIR_MUX_H2_H
#define WEIR_MUX_H2_H

#include "weir/base/end.h"
#include "weir/http/h2_message.h"
#include "weir/http/priority.h"
#include "weir/io/conn.h"

struct h2;
struct h2_stream;
/* h2_pool is what the connections of one loop share: at most so many of them and their streams. */
struct h2_pool;
struct h2_pool *h2_pool_new(struct loop *loop, uint32_t conns_max, uint32_t streams_max);
void h2_pool_free(struct h2_pool *pool);
void h2_pool_trim(struct h2_pool *pool);

/* h2_limits are what a peer may do. */
struct h2_limits {
  uint32_t streams;       /* of the peer's that are open at once */
  uint32_t stream_window; /* bytes of a body that may come unread, at first */
  uint32_t stream_window_most; /* the same, of one that is read quickly */
  uint32_t windows_grown; /* what all such windows may have beyond stream_window, together */
  uint32_t window;        /* bytes that may come unread of all streams together */
  uint32_t header_bytes;  /* of a field section as its receiver counts them (RFC 9113 6.5.2) */
  uint32_t headers;       /* fields of one */
  uint32_t resets;        /* streams ended early, beyond half of those that were opened */
  uint32_t glitches;      /* frames in 10 s that bring nothing on, beyond two for each that does */
  uint32_t age_ms;        /* h2_drain after so long; 0: never */
  uint32_t ping_ms;       /* a peer that is silent for so long while streams are open is asked */
  uint32_t ping_wait_ms;  /* and may take so long to say anything; both of a client. 0: never */
};

/* h2_events is what an owner hears. Each may close streams' conns, and h2_end; only on_end may
 * call h2_free. */
struct h2_events {
  /* on_stream: the peer opened st. The owner attaches h2_conn_of(st), and gives the place for the
   * head (h2_stream_section). False: refused (REFUSED_STREAM); it is gone. NULL: no peer may. */
  bool (*on_stream)(struct h2_stream *st);
  /* A field section that is whole is told by the stream's conn_events.on_message: it stands in
   * the place that was given for it. end != END_OK: it could not be read (too large, no memory);
   * the connection goes on. */
  /* on_trailers: a section after the head, or DATA, begins: its place (NULL: it is read and
   * dropped). NULL: all are. */
  struct h2_section *(*on_trailers)(struct h2_stream *st, struct arena **arena);
  /* on_idle: the last stream is gone, or the last call was given and there is none: the owner may
   * set the timer, no more. */
  void (*on_idle)(struct h2 *h);
  /* on_end: the connection ended and all its streams were told: OK by agreement. GOAWAY is
   * written: close the conn gently and call h2_free. */
  void (*on_end)(struct h2 *h, enum end end);
  /* on_open: a client's conn is open: does the peer speak HTTP/2? False: the owner has taken the
   * conn (h2_leave_conn); all streams hear of -EPROTOTYPE, on_end follows. NULL: it does. */
  bool (*on_open)(struct h2 *h);
  /* on_left: it ended, but for streams whose response is whole: on_end follows when these were
   * read. NULL: of no interest. */
  void (*on_left)(struct h2 *h);
  /* on_timer: the conn's deadline (h2_timer) passed. */
  void (*on_timer)(struct h2 *h);
  /* on_turn: the conn was flushed (conn_flush): all that came in this turn has been read. NULL: of
   * no interest. */
  void (*on_turn)(struct h2 *h);
};

/* h2_config begins a connection. */
struct h2_config {
  struct h2_pool *pool;
  struct conn *conn; /* the h2 attaches itself to it; a client's need not be open yet */
  const struct h2_events *events;
  struct h2_limits limits;
  void *owner;
  bool server; /* the peer is a client */
};

/* h2_new writes our SETTINGS and begins to read. NULL: no memory. */
MUST_USE struct h2 *h2_new(const struct h2_config *config);
/* h2_free ends it; its streams are gone. */
void h2_free(struct h2 *h);
void *h2_owner(const struct h2 *h);
struct conn *h2_conn(const struct h2 *h);
/* h2_reason is what was wrong with the frame that ended it, in words, static; may be empty. */
struct span h2_reason(const struct h2 *h);
/* h2_streams is the number of streams open. */
uint32_t h2_streams(const struct h2 *h);
/* h2_timer sets the owner's deadline (absolute ms; WHEEL_NEVER: none). */
void h2_timer(struct h2 *h, uint64_t due_ms);
/* h2_drain takes no more streams, in two steps: GOAWAY with the highest number, a second later (or
 * after the answer to a PING) with the last that came (RFC 9113 section 6.8). on_idle follows. */
void h2_drain(struct h2 *h);
bool h2_draining(const struct h2 *h);
/* h2_last_call: the second step is done: no stream comes any more. */
bool h2_last_call(const struct h2 *h);
/* h2_end ends the connection: GOAWAY by end's code, streams fail, on_end. h is gone, at once or,
 * inside an event, when that returns; a client's, when the responses that are whole were read. */
void h2_end(struct h2 *h, enum end end);

/* h2_room is how many streams we may open now. */
uint32_t h2_room(const struct h2 *h);
/* h2_silent: nothing has come from the peer since then. */
bool h2_silent(const struct h2 *h, uint64_t since_ms);
/* h2_streams_most is how many the peer allows; 0: it has not said so yet. */
uint32_t h2_streams_most(const struct h2 *h);
/* h2_give_up ends a connection that is not open yet: -errno is why, for its streams. h is gone. */
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
/* h2_stream_end_word: why the stream's conn failed, OK: an error of the connection (errno). */
enum end h2_stream_end_word(const struct h2_stream *st);
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
