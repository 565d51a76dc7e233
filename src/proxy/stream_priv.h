/* stream_priv.h: a stream is one request and its response. Its life is the table steps.def, its
 * driver step.c: completion callbacks record, set the step and call the driver. */
#ifndef WEIR_PROXY_STREAM_PRIV_H
#define WEIR_PROXY_STREAM_PRIV_H

#include <errno.h>

#include "proxy/attempt_priv.h"
#include "proxy/exchange_priv.h"
#include "proxy/pump_priv.h"
#include "weir/filter/filter.h"
#include "weir/upstream/upstream.h"

struct down;
struct worker;

enum stream_step {
#define STEP(id, enter, timer_end, doc) STEP_##id,
#include "steps.def"
#undef STEP
  STEP_COUNT
};

enum stream_flag {
  STREAM_REPLAYED = 1,     /* the keepalive race was replayed once */
  STREAM_HEDGED = 4,       /* a second attempt was begun, or may not be */
  STREAM_RESPONDED = 2,    /* a final response head was given to the client */
  STREAM_BODY_TOUCHED = 16, /* request body bytes were taken: no second attempt */
  STREAM_LOCAL = 32,       /* the response is weir's own */
  STREAM_CLOSE = 64,       /* the client connection ends with this stream */
  STREAM_HALF_CLOSED = 128, /* client sent FIN after its request */
  STREAM_QUEUED = 512,
  STREAM_WAITED = 8,       /* was queued before */
  STREAM_PARSED = 2048,    /* req is valid */
  STREAM_ABORT = 8192,     /* the client connection ends at once, as truncation */
  STREAM_TUNNEL = 32768,   /* counted in stats.tunnels */
  STREAM_CONTINUED = 65536, /* 100 (Continue) came */
  STREAM_HEAD_DUE = 131072, /* counted as waiting for a response head (concurrency) */
  STREAM_TCP = 4096,       /* a session of a TCP listener (front_tcp.c): no messages */
  STREAM_REFILL = 16384,   /* the next attempt, a replay, takes no idle connection */
  STREAM_H2 = 262144,      /* the client speaks HTTP/2 */
  STREAM_IN_DATA = 524288, /* of HTTP/2: bytes that came are being taken: nobody holds them */
  STREAM_GRPC = 256,       /* a gRPC call (grpc.c) */
  STREAM_SUSPECT = 1048576, /* it lost a connection that it may have ended for others (retry.c) */
  STREAM_ALONE = 2097152,   /* its next attempt shares no connection */
  STREAM_FURTHER = 4194304, /* counted in worker.streams_further */
  STREAM_EARLY = 8388608,   /* it came as early data of TLS, in part at least (early.c) */
  STREAM_EARLY_WAITED = 16777216, /* it waited for the end of the handshake */
  STREAM_UNRULY = 33554432, /* counted in begin.unruly_count */
  STREAM_DEADLINE = 1024,  /* its caller gave one: deadline_ms spans all of it */
};

struct stream {
  struct slab_head head;
  struct worker *w;
  struct down *down;
  struct conn *conn; /* to the client: down's, or (STREAM_H2) one that it carries */
  struct exchange *x; /* NULL: a tunnel, then kept */
  struct kept *kept;
  struct attempt try; /* the present or last one */
  struct arena arena;
  uint8_t step; /* enum stream_step */
  uint8_t attempts, interims;
  bool driving; /* inside the driver */
  bool moved;   /* stream_go was called since the driver entered the step */
  uint16_t status; /* sent to the client; 0: none yet */
  uint32_t flags;
  enum end end;
  struct list link; /* worker.begin, worker.displaced, worker.tunnels */
  struct timer timer;
  /* what it uses; pinned */
  struct listener *listener;
  struct route *route; /* NULL with TCP, as is its state: the listener names the pool */
  struct route_state *route_state;
  struct pool *pool;
  struct pool_state *pool_state; /* pinned to the end: its id labels series */
  struct pump up_body, down_body; /* request body, response body */
  struct listener_timeouts timeouts;
  struct pool_timeouts pool_timeouts;
  uint64_t deadline_ms; /* the route's timeout, or a call's; WHEEL_NEVER: none */
  /* times, ns of the loop's clock; 0: not reached */
  uint64_t t_start, t_head;
  uint64_t queue_ns, connect_ns, earlier_ns; /* the last: sent attempts before, and between them */
};

_Static_assert(sizeof(struct stream) <= 640, "ten lines of cache: tunnels are many");

/* hedged: a second attempt runs beside the stream's own. */
static inline bool hedged(const struct stream *s) { return s->x && s->x->hedge; }

/* stream_new: carried is the stream's conn with HTTP/2, else NULL. NULL: no slot is left. */
struct stream *stream_new(struct down *d, struct conn *carried);
/* stream_go sets the step and runs entered steps until one waits. */
void stream_go(struct stream *s, enum stream_step step);
/* stream_fail ends the stream with a cause: an answer when one can still be given. */
void stream_fail(struct stream *s, enum end end);
/* stream_timer arms the stream's timer for its step. */
void stream_timer(struct stream *s);
/* stream_pin_pool gives it its pool and that one's settings. */
void stream_pin_pool(struct stream *s, struct pool *pool);
/* stream_renew_pool gives it newer settings of the pool that it has, between attempts. */
void stream_renew_pool(struct stream *s, struct pool *pool);
/* stream_unpin_settings lets go of route, pool and listener: a tunnel reads none of them. */
void stream_unpin_settings(struct stream *s);
/* enter_tail lets all go but what the client is still to get. */
void enter_tail(struct stream *s);
/* stream_finish logs, counts and frees; s is gone. */
void stream_finish(struct stream *s);
/* stream_client_gone: the client closed or reset. */
void stream_client_gone(struct stream *s, enum end end);
/* stream_lost ends one whose client is to hear that its connection is over; false: it is there. */
bool stream_lost(struct stream *s);

/* stream_warm asks for the memory of a stream that is looked at soon, in steps from 0 to
 * WARM_STEPS - 1, with something else done between them (stream_warm.c). */
enum warm_for { WARM_REQUEST, WARM_RESPONSE };
void stream_warm(const struct stream *s, unsigned step, enum warm_for what);

/* own_end: a cause that is no fault of an endpoint. */
static inline bool own_end(enum end end) {
  return end == END_LIMIT_MEMORY || end == END_LIMIT_STREAM_MEMORY ||
         end == END_LIMIT_DESCRIPTORS;
}

/* own_trouble: an error of a conn that speaks of this process, not of a peer. */
static inline bool own_trouble(int err) { return err == -ENOBUFS || err == -ENOMEM; }

#endif
