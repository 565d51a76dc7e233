/* retry.h: when a pool's requests are tried again, and how often (the rows of retry.def, statuses,
 * the budget); settings, immutable. upstream/budget.c and proxy/retry.c follow them. */
#ifndef WEIR_MODEL_RETRY_H
#define WEIR_MODEL_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#define RETRY_ATTEMPTS_MAX 8u /* per request, the first included */

enum retry_row {
#define RETRY(id, word, doc) RETRY_ROW_##id,
#include "weir/model/retry.def"
#undef RETRY
  RETRY_ROW_COUNT
};

/* retry_cause is one bit for each row. */
enum retry_cause {
#define RETRY(id, word, doc) RETRY_##id = 1u << RETRY_ROW_##id,
#include "weir/model/retry.def"
#undef RETRY
};

#define RETRY_STATUS_FIRST 400u /* statuses that may be named: from here on */
#define RETRY_STATUS_COUNT 200u

/* pool_retry: 32-bit members only (config/diff.c compares bytes). */
struct pool_retry {
  uint32_t attempts; /* in all; 1: never again */
  uint32_t on;       /* set of retry_cause */
  uint32_t statuses[(RETRY_STATUS_COUNT + 31) / 32]; /* a bit for each that is named */
  uint32_t unsafe;   /* also what may have been acted on and is not idempotent */
  uint32_t per_try_ms; /* from an attempt's begin to its response head; 0: none */
  uint32_t backoff_base_ms, backoff_max_ms; /* before an endpoint that was asked already */
  uint32_t budget_percent; /* of the requests of the last seconds */
  uint32_t budget_min;     /* that may always be made, per second */
  uint32_t hedge_ms;       /* a second attempt when no response came for so long; 0: none */
};

/* retry_on_status tells whether a status is worth another attempt. */
static inline bool retry_on_status(const struct pool_retry *r, uint32_t status) {
  if (status < RETRY_STATUS_FIRST || status >= RETRY_STATUS_FIRST + RETRY_STATUS_COUNT)
    return false;
  if (status >= 500 && r->on & RETRY_5XX) return true;
  if (status >= 502 && status <= 504 && r->on & RETRY_GATEWAY) return true;
  uint32_t bit = status - RETRY_STATUS_FIRST;
  return (r->statuses[bit / 32] >> (bit % 32)) & 1;
}

#endif
