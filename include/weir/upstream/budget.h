/* budget.h: the retry budget of a pool: further attempts as a share of its requests in the last
 * seconds and a floor, over all workers (Envoy's and Finagle's retry budgets). A second attempt
 * beside a slow one is taken from it as a retry is. */
#ifndef WEIR_UPSTREAM_BUDGET_H
#define WEIR_UPSTREAM_BUDGET_H

#include "weir/model/model.h"

/* budget_request counts a request of this worker (its first attempt only). budget_give takes back
 * what was taken at this very time and not used. budget_take counts one
 * more attempt, or refuses it: the budget of the pool is spent. */
void budget_request(struct pool_row *row, uint64_t now_ms);
MUST_USE bool budget_take(struct pool_state *state, uint32_t worker, const struct pool_retry *r,
                          uint64_t now_ms);
void budget_give(struct pool_row *row, uint64_t now_ms);

#endif
