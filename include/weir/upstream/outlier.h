/* outlier.h: passive health that compares the endpoints of a pool: the control thread sweeps it
 * (outlier_sweep.c). What one endpoint's outcomes say is upstream.h's. */
#ifndef WEIR_UPSTREAM_OUTLIER_H
#define WEIR_UPSTREAM_OUTLIER_H

#include "weir/model/model.h"

/* outlier_found is an endpoint that outlier_sweep took out, and the figures it was judged by. */
struct outlier_found {
  struct endpoint *endpoint;
  enum eject_cause cause;
  struct outcome_count window;
  uint32_t mean_permille, limit_permille; /* EJECT_DEVIATION: of success */
};
/* outlier_sweeps: do the settings ask for sweeps? */
bool outlier_sweeps(const struct pool_outlier *outlier);
/* outlier_begin starts the window of an endpoint, unless it is swept already. outlier_period_ms is
 * the time between sweeps. */
void outlier_begin(const struct pool_outlier *outlier, struct endpoint *e, uint64_t now_ms);
uint32_t outlier_period_ms(const struct pool_outlier *outlier);
/* outlier_sweep takes in what workers counted and ejects by failure rate and deviation, the worst
 * first. Control thread; members have their health, and were begun. */
void outlier_sweep(const struct pool *pool, uint64_t now_ms,
                   void (*found)(void *ctx, const struct outlier_found *found), void *ctx);

#endif
