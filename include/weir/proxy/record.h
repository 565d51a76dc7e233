/* record.h: what a worker tells the log thread: one access record per stream, or an event. Written
 * binary into the worker's spsc ring; formatted by the log thread, so that no worker formats or
 * waits. DESIGN.md section 8 names the fields. */
#ifndef WEIR_PROXY_RECORD_H
#define WEIR_PROXY_RECORD_H

#include <stddef.h>

#include "weir/base/addr.h"
#include "weir/base/end.h"

enum record_kind { RECORD_ACCESS, RECORD_EVENT };

/* Strings of an access record, packed behind the struct in this order; lengths in text_len. */
enum record_text {
  TEXT_METHOD, TEXT_SCHEME, TEXT_PATH, TEXT_QUERY, TEXT_HOST, TEXT_ROUTE, TEXT_LISTENER,
  TEXT_CLIENT, /* client.address after trust */
  TEXT_USER_AGENT, TEXT_POOL, TEXT_ENDPOINT,
  TEXT_TRIES, /* attempts that others followed: "10.0.0.1:80 upstream.reset, 10.0.0.2:80 503" */
  TEXT_UPSTREAM_TLS, /* what TLS to the endpoint failed by */
  TEXT_TLS_VERSION, TEXT_TLS_CIPHER, TEXT_TLS_GROUP, TEXT_TRACE,
  TEXT_TLS_SUBJECT, TEXT_TLS_ISSUER, TEXT_TLS_HASH, /* of the client's certificate, good or not */
  TEXT_RATE, /* the policy whose rate refused, or would have but for dry_run */
  TEXT_UNIQUE_ID, /* of a PROXY header: the one that was sent, or came */
  TEXT_UPGRADE, /* of a tunnel: what both sides speak ("websocket") */
  TEXT_REASON, /* of a fault of an HTTP/2 connection, in words */
  TEXT_COUNT
};
/* Longer strings are cut to this many bytes (and marked by "..." in the log). */
#define RECORD_TEXT_MAX 2048u

#define RECORD_NO_VERSION 3u /* the client has not said one */

enum record_flag {
  RECORD_TLS_RESUMED = 1,
  RECORD_TLS = 2,
  RECORD_HAS_QUERY = 4,
  RECORD_REUSED = 8,
  RECORD_GRPC = 16, /* grpc_status is set */
  RECORD_TCP = 32,  /* a connection of a TCP listener: no HTTP */
  RECORD_UDP = 64   /* a session of a UDP listener */
};

enum record_tls {
  RECORD_EARLY = 1, /* the request came as early data */
  RECORD_ECH = 2    /* its connection's ClientHello was encrypted */
};

/* Durations are ns; UINT64_MAX: that phase did not happen. */
struct record_access {
  uint8_t kind, minor /* of HTTP/1; 2: HTTP/2; RECORD_NO_VERSION */, flags, attempts;
  uint16_t status; /* as sent, 499 when the client left, 0: none */
  uint16_t end;    /* enum end */
  uint16_t worker;
  uint8_t grpc_status; /* enum grpc_status */
  uint8_t upstream; /* HTTP towards the endpoint: 1, or 2: HTTP/2. 0: it was not sent to one */
  uint8_t tls; /* set of record_tls */
  uint64_t done_ns; /* the loop's clock when it was written: orders the rings of all workers */
  uint64_t wall_ms; /* when the request began */
  uint64_t request_bytes, response_bytes; /* body bytes */
  uint64_t datagrams_in, datagrams_out;   /* RECORD_UDP: from the client, to it */
  uint64_t total_ns, tls_ns, request_ns, queue_ns, connect_ns, first_byte_ns, response_ns;
  struct addr peer; /* network.peer.address */
  uint16_t text_len[TEXT_COUNT];
};

/* record_event is a sentence for the error log, with its level and rate-limited at the source. */
struct record_event {
  uint8_t kind, level; /* enum end_level */
  uint16_t worker;
  uint16_t len; /* bytes of text behind */
  uint32_t unused[2];
  uint64_t done_ns; /* at the same place as record_access.done_ns */
  uint64_t wall_ms;
};

_Static_assert(offsetof(struct record_access, done_ns) == offsetof(struct record_event, done_ns),
               "the log thread reads it without knowing the kind");

#endif
