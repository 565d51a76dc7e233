/* resolver_priv.h: names of endpoints to addresses, through c-ares on the control thread, again
 * and again by their TTL. The compile thread says which names it wants and reads what is known; it
 * waits at most about a second for new ones. A name that fails keeps its last answer and is asked
 * again with growing pauses. */
#ifndef WEIR_CONTROL_RESOLVER_PRIV_H
#define WEIR_CONTROL_RESOLVER_PRIV_H

#include "control/dns_priv.h"
#include "weir/base/arena.h"
#include "weir/base/end.h"

#define RESOLVER_WAIT_MS 1000u
#define RESOLVER_ROUNDS_MAX 64u /* names asked for at once; others wait for their turn */

struct resolver;

struct resolver_config {
  struct poller *poller;
  uint64_t seed;              /* of the jitter */
  void (*wake)(void *ctx);    /* any thread: makes the control thread call resolver_pump */
  void (*changed)(void *ctx); /* control thread: what resolver_get gives is another */
  /* say takes a sentence for the error log. Control thread. */
  void (*say)(void *ctx, enum end_level level, const char *sentence);
  void *ctx;
};

/* resolver_counts is for metrics. */
struct resolver_counts {
  uint32_t names, unresolved;
  uint64_t queries, failures;
  uint64_t results[RESOLVE_COUNT];
};

/* resolver_view is one name, for metrics and `weir status`; texts are in the arena. */
struct resolver_view {
  struct span name, servers;
  bool srv, has_answer;
  enum resolve_result failing; /* RESOLVE_OK: it does not */
  enum resolve_result half; /* one family works, the other does not; RESOLVE_OK: both do */
  bool half_v6;             /* that is IPv6 */
  uint32_t addresses, left_out, ttl_ms;
  uint64_t age_ms;     /* of the answer */
  uint64_t failing_ms; /* for so long, half or whole */
  uint64_t next_ms;    /* until it is asked again; 0: it is being asked */
};

struct resolver *resolver_new(const struct resolver_config *config);
/* resolver_free is called in the control thread, when no other uses it. */
void resolver_free(struct resolver *r);
/* resolver_pump starts what was asked for and forgets what nobody wants. Control thread. */
void resolver_pump(struct resolver *r);

/* resolver_want adds a name, if it is not known yet, and has it asked for. Any thread. */
void resolver_want(struct resolver *r, const struct name_query *q);
/* resolver_wait waits until each wanted name has had its first answer, at most wait_ms; not for
 * those whose servers were silent the last time. Not in the control thread. */
void resolver_wait(struct resolver *r, uint32_t wait_ms);
/* resolver_get copies the addresses of q into the arena; none: unresolved. Any thread. */
void resolver_get(struct resolver *r, const struct name_query *q, struct arena *arena,
                  struct name_answers *out);
/* resolver_mark and resolver_sweep: names not wanted since the mark are forgotten. Any thread. */
void resolver_mark(struct resolver *r);
void resolver_sweep(struct resolver *r);

void resolver_counts_get(struct resolver *r, struct resolver_counts *out);
/* resolver_views copies up to cap names into the arena; returns how many. */
uint32_t resolver_views(struct resolver *r, struct arena *arena, uint32_t cap,
                        struct resolver_view **out);

#endif
