/* discover.h: names that stand for endpoints: what is asked of the DNS and what it said. config/
 * makes the questions of a pool's settings, control/ answers them (resolver.c). */
#ifndef WEIR_MODEL_DISCOVER_H
#define WEIR_MODEL_DISCOVER_H

#include "weir/base/addr.h"

/* Addresses of one name, and of one SRV name over all its targets, that are used; the first in
 * their order, so that the choice does not depend on the order of the answer. */
#define NAME_ANSWERS_MAX 256u
#define NAME_SERVERS_MAX 16u /* of one question */

enum name_family { NAME_ANY, NAME_V4, NAME_V6 };

/* name_query is a name and how it is asked for. Equal ones are one question. */
struct name_query {
  struct span name;    /* as written; a trailing dot: no search list */
  struct span servers; /* "ip:port,[v6]:port"; empty: those of the system */
  bool srv;            /* SRV records (RFC 2782), else addresses */
  uint8_t family;      /* enum name_family */
  uint8_t jitter_percent;
  uint32_t timeout_ms, attempts; /* of one query: of each try, and tries per server */
  uint32_t min_ttl_ms, max_ttl_ms;
  uint32_t retry_ms, max_retry_ms; /* after a failure: the first pause, and the longest */
};

/* name_query_same: names without regard to case, all else as it is. */
bool name_query_same(const struct name_query *a, const struct name_query *b);
/* name_query_hash is equal for the same queries. */
uint64_t name_query_hash(const struct name_query *q);
/* name_hash is equal for names that differ in case only. */
uint64_t name_hash(struct span name);

/* name_answer is one address that a name stands for. */
struct name_answer {
  struct addr addr;   /* port 0 unless the query was for SRV */
  struct span target; /* SRV: the host, without trailing dot */
  uint16_t weight;    /* SRV: 1 to 1000, in the proportion of the records; else 1 */
  uint8_t priority;   /* SRV: 0 to 7, the rank among those of the records; else 0 */
};

/* name_addr is an IP address with another port. */
struct addr name_addr(struct addr a, uint16_t port);

/* name_answers are in the order of priority, target and address. */
struct name_answers {
  const struct name_answer *rows;
  uint32_t count;
};

#endif
