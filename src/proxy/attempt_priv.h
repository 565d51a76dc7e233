/* attempt_priv.h: an attempt to have a request answered, the second one beside it, and the place
 * of a stream that waits for one; what attempt.c, attempt_take.c and attempt_outcome.c do for the
 * others. */
#ifndef WEIR_PROXY_ATTEMPT_PRIV_H
#define WEIR_PROXY_ATTEMPT_PRIV_H

#include "weir/http/h1.h"
#include "weir/http/h2_message.h"
#include "weir/mux/h2.h"
#include "weir/upstream/breaker.h"
#include "weir/upstream/upstream.h"

struct stream;

/* waiter is a stream's place in its pool's queue (queue.c). */
struct waiter {
  struct heap_node first, last; /* in pool_row */
  struct stream *stream;
  claim claim;
  uint64_t order; /* of claims that are equal: by age */
  uint64_t t_queue; /* ns of the loop's clock: when it came */
  uint64_t due_ms;  /* when it has waited too long, as its pool said when it came */
};

enum attempt_flag {
  ATTEMPT_REUSED = 1,        /* it runs on a reused connection */
  ATTEMPT_SENT = 2,          /* the request head was given to the kernel's queue */
  ATTEMPT_RESPONSE_BYTE = 4, /* at least one byte of its response came */
  ATTEMPT_COUNTED = 8,       /* endpoint_begin was called */
  ATTEMPT_UP_DIRTY = 16,     /* its connection may not be reused */
  ATTEMPT_OVERDUE = 32,      /* retry.per_try_timeout passed, but no other attempt may follow */
  ATTEMPT_TOLD = 64,         /* attempt_answered was told of its response */
  ATTEMPT_RACES = 256,       /* which had nothing under way: its end may have been on its way */
  ATTEMPT_H2 = 128,          /* its connection is a stream of an HTTP/2 connection */
  ATTEMPT_EXPECTS = 512,     /* it said Expect, by HTTP/1, and no 100 (Continue) came */
};

/* attempt is one try to have a request answered: an endpoint and a connection to it (attempt.c). A
 * stream has one, and while a hedge runs a second one (hedge.c). Times are ns of the loop's clock;
 * 0: not reached. */
struct attempt {
  struct upconn *up;         /* NULL: none yet, or ended */
  struct endpoint *endpoint; /* pinned; kept for the log when it has ended */
  uint16_t flags;            /* enum attempt_flag */
  uint8_t permits;           /* enum request_permit: those that it holds */
  struct breaker_pass pass;  /* of the pool's breaker */
  struct h2_told told;       /* by HTTP/2: the endpoint's error, when it has ended */
  uint64_t t_try, t_connect, t_connected, t_sent, t_first;
};

/* hedge is a second attempt beside a slow one (hedge.c); in the stream's arena. */
struct hedge {
  struct stream *stream;
  struct attempt try;
  struct h1_scan scan;
  struct buf head_up;
  struct h2_section section;
  struct http_response resp;
  uint32_t interims;
};

/* ---- attempt.c ---- */
void enter_pick(struct stream *s);
void enter_send(struct stream *s);
/* attempt_serve gives a queued stream what it waits for; false: there is none. */
bool attempt_serve(struct stream *s);
/* attempt_opened: the connection is there; attempt_unopened: it failed. attempt_late: it is not
 * there in time. attempt_ask_anew: it is not for this attempt (why: h2_anew), which goes on by one
 * more to its endpoint. timeouts.connect is for all of these, once the protocol is known. */
void attempt_opened(struct stream *s);
void attempt_unopened(struct stream *s, int err);
void attempt_late(struct stream *s);
void attempt_ask_anew(struct stream *s, int why);
/* attempt_late_ms is when its time to connect is over; WHEEL_NEVER: it is not limited. */
uint64_t attempt_late_ms(const struct stream *s);
/* attempt_send sends the request's head, or says why it cannot be sent. */
MUST_USE enum end attempt_send(struct stream *s, struct attempt *a);
/* attempt_unsent: the kernel has nothing yet of the request that was written to a reused
 * connection: what comes from it is no answer, and another connection may have the request. */
bool attempt_unsent(const struct stream *s);
/* attempt_drop ends the current attempt: its connection is closed or, when clean, released.
 * attempt_end does that for any attempt. */
void attempt_drop(struct stream *s, bool clean);
void attempt_end(struct stream *s, struct attempt *a, bool clean);
/* attempt_failed: the attempt ended with a cause before a response; another one, or an answer. */
void attempt_failed(struct stream *s, enum end end);
/* attempt_overdue: retry.per_try_timeout passed: another one, or this one goes on. */
void attempt_overdue(struct stream *s);
/* ---- attempt_take.c ---- */
/* attempt_owner is who hears of a connection: up_events, hedge_events. */
struct attempt_owner {
  const struct conn_events *events;
  void *owner;
};
/* attempt_take_any gets the permits of a request and a connection to the chosen endpoint (*which),
 * or while permits are short to any that is as good: *which is then the one that was taken, or
 * that failed. 0, or -errno (-EAGAIN: no permit): then a is as it was. attempt_take_own does that
 * for the stream's own attempt, after a while with those too that failed it. */
MUST_USE int attempt_take_any(struct stream *s, struct attempt *a,
                              const struct pool_member **which, const struct attempt_owner *o);
MUST_USE int attempt_take_own(struct stream *s, const struct pool_member **which);
/* attempt_take_anew gets an attempt another connection to its endpoint in place of the one that it
 * has: 0 (open: at once), or -errno and it holds nothing any more. */
MUST_USE int attempt_take_anew(struct stream *s, struct attempt *a, const struct attempt_owner *o,
                               bool *open);
/* attempt_use_endpoint makes a the next attempt of s, at e. */
void attempt_use_endpoint(struct stream *s, struct attempt *a, struct endpoint *e);
/* attempt_asks_tunnel: an upgrade that HTTP/2 can bring on: that of an HTTP/2 client, or a
 * WebSocket. */
bool attempt_asks_tunnel(const struct stream *s);
/* attempt_by_either: a request for an upgrade, to endpoints that may be spoken to by HTTP/1.1 too:
 * over that it can be had, where HTTP/2 takes none. */
bool attempt_by_either(const struct stream *s);
/* ---- attempt_outcome.c ---- */
/* connect_end is the cause of a connect's -errno; open_end that of a connection which did not
 * become open (-ETIMEDOUT: in time), TLS included, *why in words (may be NULL). */
enum end connect_end(int err);
enum end open_end(const struct upconn *up, int err, struct span *why);
/* attempt_cause: why its connection ended before its response was whole: by err (-errno; 0: FIN),
 * or by what TLS (*why in words; may be NULL) or HTTP/2 says of it. */
enum end attempt_cause(const struct attempt *a, int err, struct span *why);
/* attempt_end_word is what ended an attempt by HTTP/2; else `otherwise`. */
enum end attempt_end_word(const struct attempt *a, enum end otherwise);
/* attempt_told: the error that its endpoint told of by HTTP/2, where that is its end. */
struct h2_told attempt_told(const struct attempt *a, enum end end);
/* attempt_lost_all: a word for the end of a whole HTTP/2 connection. */
bool attempt_lost_all(enum end end);
/* attempt_outcome tells all who go by how attempts end. */
void attempt_outcome(struct stream *s, struct attempt *a, enum end end, uint16_t status);
/* attempt_answered is the outcome of the stream's own attempt when its final head came; it counts
 * once. */
void attempt_answered(struct stream *s);
/* attempt_judged follows it where the trailers say how a gRPC call ended, as a status of HTTP. */
void attempt_judged(struct stream *s, uint16_t status);
/* attempt_outrun: a was slower than the one beside it, or than what was left of the time: no
 * fault, but the balancing policy hears that it is no quicker than what it has taken so far. */
void attempt_outrun(struct stream *s, const struct attempt *a);
/* attempt_ejected says in the log that e was taken out of service, after the failure last. */
void attempt_ejected(struct worker *w, const struct pool *pool, const struct endpoint *e,
                     enum end last);
/* ---- shake.c ---- */
/* shake_of_h2 begins the handshake of an HTTP/2 client's WebSocket. shake_onward_h2 is asked
 * before one goes on by HTTP/2; false: the client's part of it is malformed. shake_done looks at
 * the 101, or makes what it has to have. */
void shake_of_h2(struct stream *s);
MUST_USE bool shake_onward_h2(struct stream *s);
MUST_USE enum end shake_done(struct stream *s);

#endif
