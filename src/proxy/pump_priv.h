/* pump_priv.h: one direction's body on its way (body.c): by relay where the framing is a length,
 * decoded and framed anew where it is chunked. */
#ifndef WEIR_PROXY_PUMP_PRIV_H
#define WEIR_PROXY_PUMP_PRIV_H

#include "weir/http/h1.h"
#include "weir/io/relay.h"

struct stream;

enum pump_state {
  PUMP_NONE,  /* no body in this direction */
  PUMP_READY, /* body to come, not started */
  PUMP_RUN,
  PUMP_DONE,
};

/* pump is one direction's body. Length-framed bytes go by relay; chunked and re-framed ones by
 * body_data, decoded and encoded. */
struct pump {
  uint8_t state;      /* enum pump_state */
  uint8_t from;       /* enum http_body as it comes */
  uint8_t to;         /* enum http_body as it is sent */
  bool relaying;
  bool blocked;       /* the sink has OUT_HIGH pending */
  bool looked;        /* there was a look at the sink */
  uint64_t left;      /* LENGTH: bytes still to come; TUNNEL: moved when the other way ended */
  uint64_t moved;     /* body bytes passed on */
  uint64_t limit;     /* 0: none */
  uint64_t progress_ms;
  uint64_t taken;     /* conn_taken of the sink at the last look */
  struct relay relay;
};

void body_request_init(struct stream *s);
void body_response_init(struct stream *s);
/* body_request_look: the request is on its way; what came behind its head may say that it has no
 * body. */
void body_request_look(struct stream *s);
/* body_request_to: an attempt begins, to an endpoint that is spoken to by HTTP/2 or not. */
void body_request_to(struct stream *s, bool h2);
/* body_data takes body bytes from a message; returns how many were used. On a fault s->end is set
 * and false returned. */
MUST_USE bool body_data(struct stream *s, struct pump *p, struct span bytes, size_t *used);
/* body_frame writes a run of body bytes, framed as `to`; false: no buffer. */
MUST_USE bool body_frame(struct conn *sink, enum http_body to, struct span data);
/* body_pass writes a run of body bytes to the sink, in its framing; false: no buffer. */
MUST_USE bool body_pass(struct stream *s, struct pump *p, struct span data);
/* body_start goes on with what has not come yet: a relay, or reads through body_data. */
void body_start(struct stream *s, struct pump *p);
/* body_eof: the source ended; true when the body was complete (framed by close). */
bool body_eof(struct stream *s, struct pump *p);
/* body_stop ends a relay; what has not come stays owed (state is not changed). */
void body_stop(struct pump *p);
/* body_drained: the sink took what was pending. */
void body_drained(struct stream *s, struct pump *p);
/* body_moved is body bytes passed on so far. */
uint64_t body_moved(const struct pump *p);
/* body_due is when the pump is overdue, and who is to blame then. What waits for our own memory
 * has the longer of both times. */
enum body_blame { BODY_SOURCE, BODY_SINK, BODY_OURSELVES };
uint64_t body_due(const struct stream *s, const struct pump *p, uint32_t src_ms, uint32_t dst_ms,
                  enum body_blame *blame);
/* body_tail: nothing comes any more, and the client has not taken it all. body_unsent: it never
 * will: the rest is not counted. */
void body_tail(struct stream *s);
void body_unsent(struct stream *s);
/* body_look asks whether sinks that seem to stand still take bytes, which is progress. To be
 * called when a timer fires, at least every body_look_ms of the shortest of its timeouts. */
void body_look(struct stream *s);
uint32_t body_look_ms(const struct pump *p, uint32_t timeout_ms);
/* request_body_eof: the client ended a body that came without framing. May end s. */
void request_body_eof(struct stream *s);
/* request_body_done and response_done are told when a pump's last byte was passed on. */
void request_body_done(struct stream *s);
/* request_body_end: all of the request was written: an HTTP/2 endpoint is told so. */
void request_body_end(struct stream *s);
void response_done(struct stream *s);
/* body_restart counts now as progress: the source was only now asked to go on. */
void body_restart(struct pump *p, uint64_t now_ms);
/* held is what is kept of a request body until an endpoint has it (held.c). */
struct held {
  struct iobuf *first, *last;
  struct iobuf *next; /* the piece to be sent next; NULL: all were */
  uint64_t bytes, limit;
  uint64_t progress_ms; /* when a piece was sent last */
  uint64_t until_ms;    /* what comes later is streamed; WHEEL_NEVER: a policy waits for it */
  bool whole;           /* the body is here to its end */
};

/* held_take keeps bytes of a request body that stays unsent; how many were used. May end s. */
size_t held_take(struct stream *s, struct span bytes);
/* held_rewind begins a new attempt, held_send gives the endpoint's connection what it takes now:
 * false when no buffer is left. */
void held_rewind(struct stream *s);
MUST_USE bool held_send(struct stream *s);
/* held_unsent tells whether some of it has yet to be queued: what follows waits. */
bool held_unsent(const struct stream *s);
/* held_answered: there is a response, no attempt follows. held_drop gives the memory back. */
void held_answered(struct stream *s);
void held_drop(struct stream *s);
/* body_failed maps a relay's end to the stream's. */
void body_failed(struct stream *s, struct pump *p, enum relay_end why, int err);

#endif
