/* dns_schedule_priv.h: how asking for a name can end (resolve.def), and what follows: when it is
 * asked for again, under which names, and what is news. Time is an argument. */
#ifndef WEIR_CONTROL_DNS_SCHEDULE_PRIV_H
#define WEIR_CONTROL_DNS_SCHEDULE_PRIV_H

#include "weir/model/discover.h"

#define DNS_NAME_SIZE 256u /* text of a name without trailing dot, with its NUL */

enum resolve_result {
#define RESOLVE(id, label, sentence) RESOLVE_##id,
#include "control/resolve.def"
#undef RESOLVE
  RESOLVE_COUNT
};
const char *resolve_label(enum resolve_result result);
const char *resolve_sentence(enum resolve_result result);
/* resolve_family names one for people. */
const char *resolve_family(bool v6);

/* name_state is what is known about asking for a name. */
struct name_state {
  bool answered;       /* asked at least once, to the end */
  bool good;           /* has had an answer at some time */
  uint8_t failing;     /* enum resolve_result of the last try; RESOLVE_OK: it worked */
  uint32_t failures;   /* in a row */
  uint32_t ttl_ms;     /* of the last answer, within its bounds */
  uint64_t answer_ms;  /* when it came */
  uint64_t failing_ms; /* since when it fails */
  uint64_t next_ms;    /* when it is asked again */
  uint8_t half;        /* it worked for one family; enum resolve_result of the other */
  uint64_t half_ms;    /* since when */
};
/* HALF: one family fails, or for another reason; WHOLE: none any more. */
enum name_change { NAME_SAME, NAME_FAILS, NAME_RECOVERS, NAME_HALF, NAME_WHOLE };

/* name_now is the time, and the dice of the jitter. */
struct name_now {
  uint64_t ms;
  uint64_t *rng;
};
/* name_good takes an answer. half, if not RESOLVE_OK: how one of two questions failed, which
 * brings the next try forward to what it would be after a failure. */
enum name_change name_good(struct name_state *s, const struct name_query *q, uint32_t ttl_s,
                           enum resolve_result half, const struct name_now *now);
enum name_change name_bad(struct name_state *s, const struct name_query *q,
                          enum resolve_result result, const struct name_now *now);

/* dns_search is the search list of resolv.conf(5). */
struct dns_search {
  char **domains;
  uint32_t count, ndots;
};
/* dns_search_name writes the i-th name to try for name: as it stands first when it has ndots dots,
 * else last, and alone with a trailing dot. One that is too long is the empty name. False: there
 * are no more. */
bool dns_search_name(const struct dns_search *s, struct span name, uint32_t i,
                     char out[DNS_NAME_SIZE]);

#endif
