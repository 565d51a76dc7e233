/* resolver_priv.h: host names of endpoints to addresses, with c-ares on the control thread's
 * poller. The compile thread says which names it wants and reads what is known; it waits at most
 * about a second for new ones. A name that does not resolve is asked again with growing pauses.
 * Names that resolved are not asked again (re-resolution by TTL is not here yet). */
#ifndef WEIR_CONTROL_RESOLVER_PRIV_H
#define WEIR_CONTROL_RESOLVER_PRIV_H

#include "control/poller_priv.h"
#include "weir/base/addr.h"

#define RESOLVER_ADDRS_MAX 32u
#define RESOLVER_WAIT_MS 1000u
#define RESOLVER_BACKOFF_MIN_MS 1000u
#define RESOLVER_BACKOFF_MAX_MS 60000u

struct resolver;

struct resolver_config {
  struct poller *poller;
  const char *servers; /* "127.0.0.1:5353" for tests; NULL: those of the system */
  void (*wake)(void *ctx);    /* any thread: makes the control thread call resolver_pump */
  void (*changed)(void *ctx); /* control thread: a name resolved that nobody waited for */
  void *ctx;
};

/* resolver_counts is for metrics. */
struct resolver_counts {
  uint32_t names, unresolved;
  uint64_t queries, failures;
};

struct resolver *resolver_new(const struct resolver_config *config);
/* resolver_free is called in the control thread, when no other uses it. */
void resolver_free(struct resolver *r);
/* resolver_pump starts what was asked for. Control thread. */
void resolver_pump(struct resolver *r);

/* resolver_want adds a name, if it is not known yet, and has it asked for. Any thread. */
void resolver_want(struct resolver *r, struct span host);
/* resolver_hold comes before the names are wanted that resolver_wait then waits for: what is
 * answered between the two is not told as changed. */
void resolver_hold(struct resolver *r);
/* resolver_wait waits until each wanted name has had its first answer, at most wait_ms, and ends
 * the hold. Not in the control thread. */
void resolver_wait(struct resolver *r, uint32_t wait_ms);
/* resolver_get gives the addresses of host, sorted; 0: unresolved. IPv4 if there is any, else
 * IPv6: both would count one backend twice. Any thread. */
uint32_t resolver_get(struct resolver *r, struct span host, uint16_t port, struct addr *out,
                      uint32_t cap);
/* resolver_mark and resolver_sweep: names not wanted since the mark are forgotten. Any thread. */
void resolver_mark(struct resolver *r);
void resolver_sweep(struct resolver *r);
void resolver_counts_get(struct resolver *r, struct resolver_counts *out);

#endif
