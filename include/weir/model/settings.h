/* settings.h: plain settings as the option table fills them, times in ms, sizes in bytes. Shared
 * by config/ (which writes them) and the data path (which reads them). 0 in a time means "none".
 */
#ifndef WEIR_MODEL_SETTINGS_H
#define WEIR_MODEL_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/addr.h"

struct listener_timeouts {
  uint32_t handshake_ms;  /* TLS handshake, from accept */
  uint32_t header_ms;     /* first byte (or accept) to the end of the head */
  uint32_t body_ms;       /* request body progress */
  uint32_t send_ms;       /* response progress towards the client */
  uint32_t idle_ms;       /* keepalive between requests; a session of UDP without a datagram */
  uint32_t tunnel_ms;     /* tunnel without a byte either way */
  uint32_t half_close_ms; /* a client that sent FIN may still get its response for so long */
};

struct listener_limits {
  uint32_t header_bytes; /* request head */
  uint32_t headers;      /* fields */
  uint32_t uri_bytes;
  uint64_t body_bytes;   /* 0: none */
  uint32_t requests;     /* per connection; 0: none */
  uint32_t sessions;     /* of UDP, over all workers */
};

/* listener_protocol are the bits of listener.protocols, in the order of the option's words. */
enum listener_protocol {
  LISTENER_H2 = 1, /* HTTP/2 by ALPN; only with TLS */
  LISTENER_HTTP_1_1 = 2,
  LISTENER_H2C = 4, /* HTTP/2 by prior knowledge (RFC 9113 section 3.3); only without TLS */
};

/* listener_h2 bounds one HTTP/2 connection of a client. */
struct listener_h2 {
  uint32_t streams;       /* open at once: SETTINGS_MAX_CONCURRENT_STREAMS */
  uint32_t stream_window; /* receive window of a stream: SETTINGS_INITIAL_WINDOW_SIZE */
  uint32_t window;        /* receive window of the connection; not below stream_window */
  uint32_t resets;        /* streams that may end early, beyond half of those opened */
  uint32_t glitches;      /* frames in 10 s that bring nothing on, beyond two for each that does */
  uint32_t age_ms;        /* GOAWAY after so long; 0: never */
};

/* udp_balance: in the order of the option's words. */
enum udp_balance { UDP_BY_SESSION, UDP_BY_DATAGRAM };

/* listener_udp is what sessions of UDP are. */
struct listener_udp {
  uint32_t responses; /* to each datagram of the client; 0: nobody knows */
  uint32_t balance;   /* enum udp_balance */
};

struct pool_timeouts {
  uint32_t connect_ms;
  uint32_t first_byte_ms; /* from the end of the request to the first response byte */
  uint32_t idle_ms;       /* body progress, both ways */
};

/* pool_connections: caps hold over all workers; 0: none. */
struct pool_connections {
  uint32_t max_per_endpoint, max; /* connections to one endpoint, to all of the pool */
  uint32_t max_requests_per_endpoint, max_requests; /* in flight */
  uint32_t keepalive_ms;     /* idle time in the pool */
  uint32_t keepalive_max;    /* idle connections per endpoint and worker */
  uint32_t queue;            /* requests that may wait, over all workers */
  uint32_t queue_timeout_ms;
  uint32_t requests;         /* per connection; 0: none */
  uint32_t streams;          /* at once on an HTTP/2 connection before there is another one */
  uint32_t ping_ms;          /* of silence on an HTTP/2 connection; 0: never */
  uint32_t ping_timeout_ms;
  uint8_t protocol;          /* enum pool_protocol */
  uint8_t proxied;           /* version of the PROXY header that goes first; 0: none does */
  uint8_t tlvs;              /* set of proxy_tlv_bit: what that header tells */
  uint8_t zero[1];           /* compared by bytes */
};

/* pool_protocol: in the order of the option's words. */
enum pool_protocol { POOL_AUTO, POOL_HTTP_1_1, POOL_H2C, POOL_H2 };

/* pool_capped: a request may have to wait. */
static inline bool pool_capped(const struct pool_connections *c) {
  return (c->max_per_endpoint | c->max | c->max_requests_per_endpoint | c->max_requests) != 0;
}

/* pool_limits bound what an upstream may send. */
struct pool_limits {
  uint32_t header_bytes;
  uint32_t headers;
};

/* balance policies are rows of upstream/balance.def; the row's index stands in settings. */

#endif
