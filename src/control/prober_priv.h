/* prober_priv.h: active health checks of all pools, for all workers, on the control thread's
 * poller; and the sweeps of passive health. Nothing here blocks or resolves: endpoints are
 * addresses. State is in struct endpoint and survives reloads, the prober only has its schedule.
 */
#ifndef WEIR_CONTROL_PROBER_PRIV_H
#define WEIR_CONTROL_PROBER_PRIV_H

#include "control/poller_priv.h"
#include "weir/base/end.h"
#include "weir/model/model.h"

#define PROBES_MAX 128u /* checks at once; further ones wait for their turn */
#define PROBE_SLOT_MS 4u  /* at most PROBE_SLOT_STARTS checks start in each slot of time */
#define PROBE_SLOT_STARTS 16u
#define PROBE_SPREAD_MS 2u /* between the first checks of new endpoints */
#define PROBE_LATE_MS 250u /* a timeout that we notice so late says nothing about the endpoint */

struct prober;

struct prober_config {
  struct poller *poller;
  uint64_t seed; /* of the jitter */
  /* say takes a sentence for the error log. */
  void (*say)(void *ctx, enum end_level level, const char *sentence);
  void *ctx;
};

struct prober *prober_new(const struct prober_config *config);
/* prober_stop ends what is under way and drops all refs; before the last reap. */
void prober_stop(struct prober *p);
void prober_free(struct prober *p);

/* prober_sync takes over a published snapshot; the caller keeps it alive meanwhile. Endpoints that
 * were there keep their state and, when the settings of the check are the same, their schedule.
 * True when refs were dropped: something may be to be reaped. */
bool prober_sync(struct prober *p, const struct snapshot *s);

/* prober_back tells of s's endpoints whose ejection is over, each once. Called about once a
 * second; the caller keeps s alive meanwhile. */
void prober_back(struct prober *p, const struct snapshot *s);

/* prober_counts is for metrics. */
struct prober_counts {
  uint32_t targets, under_way;
  uint64_t ejected_percent, ejected_deviation; /* by sweeps */
};
void prober_counts_get(const struct prober *p, struct prober_counts *out);

/* ---- probe.c: one check, from connect to result ---- */

struct probe;
struct probe_outcome;

/* probe_new opens a transport to e and starts; it is watched by the epoll instance with itself as
 * data. NULL: *out says how it ended at once. What it is made of: probe_priv.h. */
struct probe *probe_new(int epoll_fd, void *owner, const struct endpoint *e,
                        const struct pool_health *h, struct probe_outcome *out);
/* probe_ready goes on after an event; true: *out is the result. */
bool probe_ready(struct probe *probe, const struct endpoint *e, const struct pool_health *h,
                 struct probe_outcome *out);
/* probe_timeout tells what a check that is not done by now has waited for. */
void probe_timeout(const struct probe *probe, const struct pool_health *h,
                   struct probe_outcome *out);
void probe_free(struct probe *probe);
void *probe_owner(const struct probe *probe);

#endif
