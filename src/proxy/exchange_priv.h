/* exchange_priv.h: what a request says and is answered with, which stands apart from its stream
 * (struct exchange), and what the log needs of it when a tunnel has given that back (struct kept).
 */
#ifndef WEIR_PROXY_EXCHANGE_PRIV_H
#define WEIR_PROXY_EXCHANGE_PRIV_H

#include "proxy/attempt_priv.h"
#include "proxy/grpc_priv.h"
#include "proxy/pump_priv.h"
#include "proxy/trailer_priv.h"
#include "weir/filter/filter.h"
#include "weir/http/h2_message.h"
#include "weir/http/websocket.h"

struct mirror;

/* limited tells which rate refused a request (or a connection), or would have but for dry_run. */
struct limited {
  struct rate_state *rate; /* has its policy's name; NULL: none did */
  uint64_t wait_ns; /* until it would grant one */
  uint16_t status;  /* of the refusal; 0: it only watches (dry_run) */
};

/* shake says whose key the handshake of a WebSocket goes by (shake.c). */
enum shake {
  WS_NONE,    /* none, or the client's and the endpoint's own */
  WS_OURS,    /* weir's, for the endpoint of an HTTP/2 client */
  WS_CLIENTS, /* an HTTP/1.1 client's, taken out of its fields: HTTP/2 has none */
};

/* exchange is a stream's request and response while they are read, routed and sent: from the
 * worker's slab, given back when a tunnel begins. */
struct exchange {
  struct slab_head head;
  struct h1_scan scan;
  struct buf head_in; /* request head bytes so far, in the stream's arena */
  struct h2_section section, up_section; /* HTTP/2: what the client sent last, and the endpoint */
  struct http_request req;
  struct filter_ctx ctx;
  struct span alpn;      /* the one protocol that a passed on ClientHello offers; empty: not one */
  int left_err; /* of TCP: -errno of a client that broke, and left bytes for an endpoint; 0: not */
  struct span unique_id; /* what the PROXY header to an endpoint calls it; empty: none was sent */
  struct buf head_up; /* response head bytes so far */
  struct http_response resp;
  struct h1_chunked up_chunked, down_chunked; /* of the bodies */
  struct trailers up_trailers, down_trailers;
  struct held held;              /* the request's body */
  enum shake ws;
  char ws_key[WEBSOCKET_KEY_LEN];
  struct pool_tried tried;
  enum end refused_end; /* how the last of those that took no connection did not */
  struct pool_want want; /* of the endpoint: made by affinity.c, before the filters */
  uint32_t picked;       /* place of the endpoint that was chosen last */
  struct span tls_why;   /* what TLS to the endpoint failed by, in words of the library */
  struct span tries;     /* where attempts went that others followed, and how they ended */
  struct span allow; /* the Allow field of a 405 */
  struct waiter wait;
  uint64_t spent_ns;      /* of timeouts.connect, by the attempt before try.t_connect */
  uint64_t again_ms;      /* when the next attempt begins (STEP_BACKOFF) */
  uint64_t any_ms;        /* until then it only goes where it was not sent yet; 0: anywhere */
  uint64_t half_close_ms; /* when the grace after the client's FIN ends; WHEEL_NEVER */
  struct mirror *mirror; /* a copy of the request that is not whole yet */
  struct hedge *hedge;   /* the second attempt, while it runs */
  struct hedge *hedge_room; /* where it stands, in the stream's arena; NULL: none was tried */
  uint64_t hedge_ms;        /* not before then is one tried again */
  struct limited limited;
  struct call call;       /* STREAM_GRPC */
  uint32_t retry_after_s; /* the Retry-After field of a refusal; 0: none */
};

/* kept is what the log says of a request whose messages are gone (a tunnel's): four lines of
 * cache, longer texts stand in the arena. */
#define KEPT_TEXTS 11
#define KEPT_NEAR 192
struct kept {
  struct slab_head head;
  uint8_t method, minor; /* enum http_method */
  bool has_query;
  uint16_t len[KEPT_TEXTS];
  struct span tls_why; /* what TLS to the endpoint failed by: static text of the library */
  const char *texts; /* one behind another: near, or in the arena; NULL: no room was left */
  char near[KEPT_NEAR];
};
_Static_assert(sizeof(struct kept) <= 256, "four lines of cache");

#endif
