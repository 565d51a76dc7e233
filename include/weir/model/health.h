/* health.h: active and passive health: the settings of a pool, and what is known about an
 * endpoint. Active: the control thread asks (control/prober.c). Passive: workers count outcomes of
 * requests (upstream/outlier.c), the control thread compares them (upstream/outlier_sweep.c). */
#ifndef WEIR_MODEL_HEALTH_H
#define WEIR_MODEL_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/span.h"

/* ---- settings ---- */

/* health_protocol: in the order of the option's words. HTTP is what the pool speaks. */
enum health_protocol { HEALTH_HTTP, HEALTH_TCP, HEALTH_GRPC, HEALTH_HTTP_1_1 };

struct http_field; /* http/message.h */
struct tls_client; /* io/tls_client.h */

/* health_statuses is a range of the statuses that pass, inclusive. */
struct health_statuses {
  uint16_t first, last;
};

/* pool_health is the active check of a pool's endpoints; what it points at is in the pool's
 * arena. */
struct pool_health {
  bool on;
  uint8_t protocol; /* enum health_protocol */
  uint8_t jitter_percent;
  bool head;            /* the method is HEAD: no body follows */
  bool h2;              /* by HTTP/2 with prior knowledge; with tls it is as they agree */
  struct tls_client *tls; /* the pool's; NULL: in the clear */
  uint16_t port;        /* 0: that of the traffic */
  uint16_t expect_count;
  const struct health_statuses *expect;
  struct span expect_text; /* "200-299, 404", for people */
  struct span preamble; /* PROXY header that goes before anything else, TLS too; empty: none */
  struct span request; /* the whole head if host is set, else what goes before the Host's value */
  struct span rest;    /* what goes after the Host's value; empty if host is set */
  /* The same for HTTP/2, and gRPC, which has method and path of its own. */
  struct span method, path, host; /* host: empty: the endpoint's address */
  const struct http_field *fields;
  uint32_t field_count;
  struct span service; /* of gRPC: empty: the whole server */
  struct span body;    /* must stand in the response's body; empty: the body is not looked at */
  uint32_t interval_ms, fast_interval_ms, timeout_ms;
  uint32_t healthy, unhealthy; /* results in a row that change the state */
  uint64_t content;            /* hash of the settings */
};

/* pool_outlier is passive ejection; 0 turns a rule off. */
struct pool_outlier {
  uint32_t consecutive_failures; /* connect errors, resets, timeouts */
  uint32_t consecutive_5xx;      /* responses 500 and above, and the failures above */
  uint32_t failure_percent;      /* of the requests in the window, both kinds */
  uint32_t deviations_permille;  /* below the pool's mean success rate, in standard deviations */
  uint32_t window_ms;
  uint32_t min_requests;  /* in the window: an endpoint with fewer is not judged */
  uint32_t min_endpoints; /* with so many requests: with fewer there is no mean */
  uint32_t eject_ms, max_eject_ms;
  uint32_t max_ejected_percent;
};

/* ---- state; see struct endpoint (state.h) ---- */

/* endpoint_state: written by the control thread (and once, for a new endpoint, by the compile
 * thread), read by all. */
enum endpoint_state {
  ENDPOINT_NEW,       /* was in no generation yet */
  ENDPOINT_UNCHECKED, /* its pool has no active check: it is in service */
  ENDPOINT_UNKNOWN,   /* new and not yet checked: gets traffic only when its pool has no other */
  ENDPOINT_UP,
  ENDPOINT_DOWN, /* gets no traffic */
};

/* eject_cause says which rule took an endpoint out last. */
enum eject_cause { EJECT_NONE, EJECT_FAILURES, EJECT_5XX, EJECT_PERCENT, EJECT_DEVIATION };

#define HEALTH_REASON_MAX 192u
#define HEALTH_BUCKETS 8u /* parts of the outlier window */

/* outcome_count is requests with an outcome, and those of them that failed or gave 500 and
 * above. */
struct outcome_count {
  uint64_t all, bad;
};

struct probe_target; /* control/prober_priv.h */

/* endpoint_health is what the control thread knows; no other thread looks. */
struct endpoint_health {
  struct probe_target *target; /* NULL: not checked */
  uint32_t run;           /* results in a row that speak against the state */
  uint32_t eject_passes;  /* passes in a row since the ejection that is on */
  uint64_t eject_seen_ms; /* ejected_until_ms when they were counted */
  uint64_t eject_told_ms; /* ejected_until_ms of the last ejection whose end was told */
  uint64_t since_wall_ms; /* of the state */
  uint64_t last_wall_ms;  /* of the last result; 0: none yet */
  uint64_t next_ms;       /* the next check is due, CLOCK_MONOTONIC; 0: one is under way */
  char reason[HEALTH_REASON_MAX];  /* of the last change of state; text */
  char failure[HEALTH_REASON_MAX]; /* of the last result that was no pass; text */
  /* The outlier window: a ring of parts. */
  struct outcome_count parts[HEALTH_BUCKETS];
  struct outcome_count seen; /* sums of the workers at the last sweep */
  uint64_t swept_ms;         /* of the last sweep; 0: none yet */
  uint64_t part_ms;          /* when the newest part began */
  uint32_t part;             /* the newest */
};

#endif
