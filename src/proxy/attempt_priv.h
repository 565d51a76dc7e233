/* attempt_priv.h: an attempt to have a request answered, the second one beside it, and the place
 * of a stream that waits for one. */
#ifndef WEIR_PROXY_ATTEMPT_PRIV_H
#define WEIR_PROXY_ATTEMPT_PRIV_H

#include "weir/http/h1.h"
#include "weir/http/h2_message.h"
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

#endif
