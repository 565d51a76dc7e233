/* limits.h: what policies and listeners refuse by who asks and how often, a request, a connection
 * or a session of UDP: settings of rates and networks, and the tables that outlive generations.
 * config/ fills the settings, proxy/ asks. */
#ifndef WEIR_MODEL_LIMITS_H
#define WEIR_MODEL_LIMITS_H

#include "weir/base/gcra.h"
#include "weir/base/netset.h"
#include "weir/http/message.h"
#include "weir/model/object.h"

/* rate_source is what of a request tells whom it is counted with. */
enum rate_source {
  RATE_NONE,      /* all together */
  RATE_CLIENT_IP, /* the network that client.address is in (prefix4, prefix6) */
  RATE_ROUTE,     /* the route's name; of a connection the listener's */
  RATE_HEADER,    /* the first field of a name, as it would be passed on */
  RATE_COOKIE,
};

/* rate_part is one part of a key; name is the header's or the cookie's. */
struct rate_part {
  uint8_t source; /* enum rate_source */
  struct span name;
};
#define RATE_PARTS_MAX 8u
/* RATES_MAX bounds the rates that one route's policies have. */
#define RATES_MAX 8u

/* rate_part_parse reads "client_ip", "route", "none", "header:NAME" (http_name_keyed) or
 * "cookie:NAME"; out->name borrows from text. */
MUST_USE bool rate_part_parse(struct span text, struct rate_part *out);
/* rate_parse reads "100/s", "60/m" or "1000/h": 1 to GCRA_LIMIT_MAX in a period. */
MUST_USE bool rate_parse(struct span text, uint32_t *limit, uint64_t *period_ns);

/* rate_row is what one worker counted. */
struct rate_row {
  _Alignas(64) _Atomic uint64_t passed;
  _Atomic uint64_t refused;
  _Atomic uint64_t observed; /* would have been refused, but for dry_run */
  _Atomic uint64_t shared;   /* of all three: counted with others whose set was full */
};

/* rate_state lives by the policy's name together with what its words depend on: key, rate, size.
 * Another rate under the same name begins afresh. */
struct rate_state {
  struct object obj;
  uint64_t identity;
  uint32_t entries;
  struct tally tally; /* rate_state_count */
  struct rate_row *rows;
};

/* policy_rate is the rate of a policy. Part of struct policy; all else is in its arena. */
struct policy_rate {
  struct rate_state *state; /* ref; NULL: the policy has no rate */
  struct gcra gcra;
  const struct rate_part *parts;
  uint32_t part_count, burst;
  uint8_t prefix4, prefix6; /* bits of an address that tell clients apart */
  uint16_t status;          /* of a refusal */
  bool dry_run, headers;
  struct span told; /* the policy's item in RateLimit-Policy */
};

/* rate_name is its policy's name; empty: there is none. */
static inline struct span rate_name(const struct rate_state *rate) {
  return rate ? rate->obj.name : SPAN_EMPTY;
}

/* rate_identity is what a state with this name and size would have for identity; `rate` needs
 * gcra, parts and prefixes. */
uint64_t rate_identity(const struct policy_rate *rate, uint32_t entries);
/* rate_state_get gives the live state of that name and identity with a new ref, or makes one that
 * is to have room for `entries` keys. Compile thread. */
struct rate_state *rate_state_get(struct registry *r, struct span name, uint64_t identity,
                                  uint32_t entries);
/* rate_state_count gives a state its table, if it has none yet; false: there is no memory for it.
 * Compile thread, before anybody counts. */
MUST_USE bool rate_state_count(struct rate_state *state);

/* rate_subject is what keys are made of. */
struct rate_subject {
  const struct http_request *request; /* NULL: it is a connection, or a session of UDP */
  const struct addr *client;          /* after trust */
  struct span route;                  /* without request: the listener */
};

/* rate_key hashes the key of who asks under the process's secret. What is not there (no such field
 * or cookie, an empty one, no IP address) is a value of its own: all who lack it are counted
 * together, so that leaving it out gains nothing. Connections have no fields and no cookies:
 * rates of theirs do not ask for them. */
uint64_t rate_key(const struct policy_rate *rate, const struct rate_subject *who);

/* client_key is the key under which connections of a peer are counted; false: it has no address
 * (unix sockets). */
MUST_USE bool client_key(const struct addr *peer, uint8_t prefix4, uint8_t prefix6, uint64_t *out);

#endif
