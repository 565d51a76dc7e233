/* proxy_priv.h: what the files of proxy/ share: the worker, a client connection, a stream. A stream
 * is one request and its response; its life is the table steps.def, its driver step.c. Completion
 * callbacks record, set the step and call the driver. */
#ifndef WEIR_PROXY_PRIV_H
#define WEIR_PROXY_PRIV_H

#include "weir/filter/filter.h"
#include "weir/http/h1.h"
#include "weir/io/relay.h"
#include "weir/io/tls.h"
#include "weir/proxy/record.h"
#include "weir/proxy/worker.h"
#include "weir/upstream/upstream.h"

/* Bounds that are not options. */
#define STREAM_ATTEMPTS_MAX 4u        /* connections tried for one request */
#define INTERIM_MAX 16u               /* 1xx responses before a final one */
#define STREAM_ARENA_LIMIT (256u << 10) /* and 4 times the head limits */
#define STREAM_BLOCK 2048u            /* bytes of an arena block */
#define OUT_HIGH 65536u               /* pending output from which a pump waits */
#define LINGER_MS 2000u
#define TRIM_MS 1000u /* between looks for memory to give back, while there is traffic */
#define NEVER_NS UINT64_MAX

/* serving is one listening descriptor: its conn, and the listener of the current snapshot. */
struct serving {
  struct list link; /* worker.servings */
  struct worker *w;
  struct conn *conn;
  int fd;
  struct listener_state *state;           /* pinned */
  const struct snapshot_listener *current; /* NULL: removed from the configuration */
  struct list downs;
  uint32_t down_count;
};

enum down_flag {
  DOWN_OVER_LIMIT = 1, /* accepted beyond max_connections: gets a 503 */
  DOWN_CLOSE = 2,      /* no further request */
  DOWN_TLS = 4,
  DOWN_EOF = 8,        /* the client sent FIN */
  DOWN_BLOCKED = 16,   /* OUT_HIGH is pending: the next request waits */
  DOWN_IN_DATA = 32,   /* inside on_data: reading goes on by its return value */
};

/* down is one client connection; small, because idle ones are many. */
struct down {
  struct slab_head head;
  struct list link; /* serving.downs */
  struct conn *conn;
  struct serving *serving;
  struct stream *stream; /* NULL: between requests */
  uint64_t tls_ns;       /* handshake time, until the first request logs it */
  uint32_t requests;
  uint16_t flags;
  uint16_t peer_port;
  uint8_t peer_family;
  uint8_t peer_ip[16];
};

enum stream_step {
#define STEP(id, enter, timer_end, doc) STEP_##id,
#include "steps.def"
#undef STEP
  STEP_COUNT
};

enum pump_state {
  PUMP_NONE,  /* no body in this direction */
  PUMP_READY, /* body to come, not started */
  PUMP_RUN,
  PUMP_DONE,
};

/* pump is one direction's body. Length-framed bytes go by relay; chunked and re-framed ones by
 * pump.c, decoded and encoded. */
struct pump {
  uint8_t state;      /* enum pump_state */
  uint8_t from;       /* enum http_body as it comes */
  uint8_t to;         /* enum http_body as it is sent */
  bool relaying;
  bool blocked;       /* the sink has OUT_HIGH pending */
  uint64_t left;      /* LENGTH: bytes still to come */
  uint64_t moved;     /* body bytes passed on */
  uint64_t limit;     /* 0: none */
  uint64_t progress_ms;
  struct h1_chunked chunked;
  struct relay relay;
};

enum stream_flag {
  STREAM_REPLAYED = 1,     /* the keepalive race was replayed once */
  STREAM_RESPONDED = 2,    /* a final response head was given to the client */
  STREAM_RESPONSE_BYTE = 4, /* at least one byte of this attempt's response came */
  STREAM_SENT = 8,         /* the request head was given to the kernel's queue of this attempt */
  STREAM_BODY_TOUCHED = 16, /* request body bytes were taken: no second attempt */
  STREAM_LOCAL = 32,       /* the response is weir's own */
  STREAM_CLOSE = 64,       /* the client connection ends with this stream */
  STREAM_HALF_CLOSED = 128, /* client sent FIN after its request */
  STREAM_REUSED = 256,     /* this attempt runs on a reused connection */
  STREAM_QUEUED = 512,
  STREAM_COUNTED = 1024,   /* endpoint_begin was called for this attempt */
  STREAM_PARSED = 2048,    /* req is valid */
  STREAM_UP_DIRTY = 4096,  /* the upstream connection may not be reused */
  STREAM_ABORT = 8192,     /* the client connection ends at once, as truncation */
  STREAM_TUNNEL = 32768,   /* counted in stats.tunnels */
  STREAM_REFILL = 16384,   /* this attempt takes no idle connection (after a replay) */
};

struct stream {
  struct slab_head head;
  struct worker *w;
  struct down *down;
  struct upconn *up;
  struct arena arena;
  uint8_t step; /* enum stream_step */
  uint8_t attempts, interims;
  bool driving; /* inside the driver */
  uint32_t flags;
  enum end end;
  uint16_t status; /* sent to the client; 0: none yet */
  struct list queue_link; /* worker.waiting */
  struct list tunnel_link; /* worker.tunnels */
  struct timer timer;
  /* request */
  struct h1_scan scan;
  struct buf head_in; /* head bytes so far, in the arena */
  struct http_request req;
  struct filter_ctx ctx;
  /* response */
  struct buf head_up;
  struct http_response resp;
  /* what it uses; pinned */
  struct listener *listener;
  struct route *route;
  struct route_state *route_state;
  struct pool *pool;
  struct endpoint *endpoint; /* of the current attempt, kept for the log (pinned) */
  struct pool_tried tried;
  uint32_t pool_id; /* of the pool_state, for series */
  struct pump up_body, down_body; /* request body, response body */
  struct listener_timeouts timeouts;
  struct pool_timeouts pool_timeouts;
  uint64_t deadline_ms; /* the route's timeout; WHEEL_NEVER: none */
  uint64_t half_close_ms; /* when the grace after the client's FIN ends; WHEEL_NEVER */
  /* times, ns of the loop's clock; 0: not reached */
  struct span allow; /* the Allow field of a 405 */
  uint64_t wall_ms, t_start, t_head, t_queue, t_connect, t_connected, t_sent, t_first, t_done;
  uint64_t queue_ns, connect_ns;
};

struct worker {
  struct worker_config config;
  struct loop *loop;
  struct stats stats;
  struct upstream upstream;
  struct slab downs, streams;
  struct arena_blocks blocks;
  struct list servings;
  struct list tunnels;
  struct list waiting; /* streams in queues of pools, oldest first */
  const struct snapshot *snapshot;
  uint64_t conns_share; /* client connections that this worker may hold */
  uint64_t drain_deadline_ms;
  bool draining, stopped, access_log, paused, wake_pending;
  uint32_t sample_ppm;
  uint64_t rng;
  uint64_t date_sec;
  char date[32];
  struct timer drain_timer, trim_timer;
  uint64_t trim_seen;  /* stats.proxied at the last tick */
  uint32_t trim_quiet; /* ticks without a finished request */
  _Atomic(struct worker_msg *) inbox;
  _Atomic uint64_t seq;
  _Atomic bool has_stopped;
  _Atomic uint32_t down_count, stream_count;
};

/* ---- worker.c ---- */
struct span worker_date(struct worker *w); /* IMF-fixdate, remade once a second */
void worker_event(struct worker *w, enum end_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* ---- serve.c: accept and client connections ---- */
void serve_start(struct worker *w, int fd, struct listener_state *state);
void serve_stop(struct worker *w, struct listener_state *state, int fd);
void serve_install(struct worker *w);
void serve_resume(struct worker *w);
void down_close(struct down *d, bool gently);
/* down_abort ends it as truncation: what was sent must not look complete. */
void down_abort(struct down *d);
/* down_next gets ready for the next request, or closes. */
void down_next(struct down *d);
void down_drain(struct worker *w);
void down_peer(const struct down *d, struct addr *out);
extern const struct conn_events down_events;
/* ---- step.c ---- */
struct stream *stream_new(struct down *d);
/* stream_go sets the step and runs entered steps until one waits. */
void stream_go(struct stream *s, enum stream_step step);
/* stream_fail ends the stream with a cause: an answer when one can still be given. */
void stream_fail(struct stream *s, enum end end);
/* stream_timer arms the stream's timer for its step. */
void stream_timer(struct stream *s);
/* stream_pin and stream_unpin_settings keep and let go what the stream reads. */
void stream_unpin_settings(struct stream *s);
/* stream_finish logs, counts and frees; s is gone. */
void stream_finish(struct stream *s);
/* stream_client_gone: the client closed or reset. */
void stream_client_gone(struct stream *s, enum end end);
/* ---- request.c ---- */
size_t request_data(struct stream *s, struct span bytes);
void request_write_head(struct stream *s, struct buf *b);
/* head_append copies head bytes into the arena, at most limit + 1 in all; bytes taken, 0: no room. */
size_t head_append(struct arena *arena, struct buf *in, struct span bytes, uint32_t limit);
/* ---- route.c ---- */
void enter_route(struct stream *s);
/* ---- attempt.c ---- */
void enter_pick(struct stream *s);
void enter_send(struct stream *s);
/* attempt_drop ends the current attempt: its connection is closed or, when clean, released. */
void attempt_drop(struct stream *s, bool clean);
/* attempt_failed: the attempt ended with a cause before a response; another one, or an answer. */
void attempt_failed(struct stream *s, enum end end);
void attempt_outcome(struct stream *s, enum end end, uint16_t status);
/* attempt_queue waits for a permit, or ends the stream when the queue is full. */
void attempt_queue(struct stream *s);
/* connect_end is the cause of a connect's -errno. */
enum end connect_end(int err);
/* attempt_unqueue takes a stream out of its pool's queue. */
void attempt_unqueue(struct stream *s);
/* pool_wake_all gives queued streams a chance (end of a turn, after something was freed). */
void pool_wake_all(struct worker *w);
/* pool_yield closes an idle connection per endpoint of a pool that another worker waits for. */
void pool_yield(struct worker *w, uint32_t pool_state_id);
/* permit_freed is upstream's hook. */
void permit_freed(struct upstream *u, struct endpoint *e);
/* ---- group.c: other workers ---- */
void group_join(struct worker *w);
void group_leave(struct worker *w);
/* group_ask tells the others that a pool's permits are waited for; group_wake that one was freed. */
void group_ask(struct worker *w, uint32_t pool_state_id);
void group_wake(struct worker *w);
/* ---- answer.c ---- */
void answer_end(struct stream *s);  /* the response of END rows */
void answer_route(struct stream *s); /* redirect, respond */
void answer_https(struct stream *s); /* redirect_https */
/* ---- response.c ---- */
size_t response_data(struct stream *s, struct span bytes);
void response_eof(struct stream *s, int err);
extern const struct conn_events up_events;
/* ---- body.c ---- */
void body_request_init(struct stream *s);
void body_response_init(struct stream *s);
/* body_data takes body bytes from a message; returns how many were used. On a fault s->end is set
 * and false returned. */
MUST_USE bool body_data(struct stream *s, struct pump *p, struct span bytes, size_t *used);
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
/* body_due is when the pump is overdue, and whether its source (else its sink) is to blame. */
uint64_t body_due(const struct pump *p, uint32_t src_ms, uint32_t dst_ms, bool *source);
/* body_done_request and body_done_response are told when a pump's last byte was passed on. */
void request_body_done(struct stream *s);
void response_done(struct stream *s);
/* relay_failed maps a relay's end to the stream's. */
void body_failed(struct stream *s, struct pump *p, enum relay_end why, int err);
/* ---- tunnel.c ---- */
void tunnel_ended(struct stream *s, struct pump *p, enum relay_end why, int err);
void tunnel_start(struct stream *s);
void tunnel_check_routes(struct worker *w);
void tunnel_drain_all(struct worker *w, uint64_t deadline_ms);
/* ---- access.c ---- */
void access_write(struct stream *s);
/* access_connection logs a connection that had no request: a failed handshake, silence. */
void access_connection(struct down *d, enum end end, uint16_t status);

static inline uint64_t now_ms(const struct worker *w) { return w->loop->now_ms; }
static inline uint64_t now_ns(const struct worker *w) { return w->loop->now_ns; }

#endif
