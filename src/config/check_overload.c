/* check_overload.c: what the keys of circuit breaking, adaptive concurrency and overload mean
 * together. A rate or mode that is written, even as "0%" or "off", may stand with all others: it
 * is how a rule is switched off for a while. Called by check.c. */
#include "doubt_priv.h"
#include "load_priv.h"

#define LAG_LEAST_MS 20u /* below that the loop's timers are not exact enough */

static bool is_set(const struct conf_row *row, enum option_id id) {
  return row_origin(row, id)->node != NULL;
}

/* check_unused reports the first of a run of options that is set. */
static void check_unused(struct conf *conf, const struct conf_pool *pool, enum option_id first,
                         enum option_id last, const char *lacks) {
  for (enum option_id id = first; id <= last; id++) {
    if (!is_set(&pool->row, id)) continue;
    struct span key = option_local(option_get(id));
    fault_add(conf->faults,
              first < OPTION_POOL_CONCURRENCY_MODE ? FAULT_BREAKER_UNUSED : FAULT_OVERLOAD_UNUSED,
              row_place(&pool->row, id),
              "pool \"" SPAN_FMT "\": " SPAN_FMT " means nothing without %s",
              SPAN_ARG(pool->row.name), SPAN_ARG(key), lacks);
    return;
  }
}

static void check_breaker(struct conf *conf, const struct conf_pool *pool) {
  const struct pool_breaker *b = &pool->breaker;
  const struct conf_row *row = &pool->row;
  bool lost_slow = row_lost(row, OPTION_POOL_BREAKER_SLOW_RATE);
  bool slow = is_set(row, OPTION_POOL_BREAKER_SLOW_RATE) || lost_slow;
  bool failures = is_set(row, OPTION_POOL_BREAKER_FAILURES) ||
                  row_lost(row, OPTION_POOL_BREAKER_FAILURES);
  if (!failures && !slow)
    check_unused(conf, pool, OPTION_POOL_BREAKER_SLOW, OPTION_POOL_BREAKER_PROBES,
                 "failure_rate or slow_rate");
  else if (!slow)
    check_unused(conf, pool, OPTION_POOL_BREAKER_SLOW, OPTION_POOL_BREAKER_SLOW, "slow_rate");
  if (!is_set(row, OPTION_POOL_BREAKER_MAX_OPEN) || b->max_open_ms >= b->open_ms) return;
  if (row_lost_any(row, OPTION_POOL_BREAKER_OPEN, OPTION_POOL_BREAKER_MAX_OPEN)) return;
  fault_add(conf->faults, FAULT_BREAKER_OPEN, row_place(&pool->row, OPTION_POOL_BREAKER_MAX_OPEN),
            "pool \"" SPAN_FMT "\": breaker.max_open is shorter than breaker.open",
            SPAN_ARG(pool->row.name));
}

/* Values that are only defaults give way: limits of their own (min = 100) need no others. */
static void check_concurrency(struct conf *conf, const struct conf_pool *pool) {
  const struct pool_concurrency *c = &pool->concurrency;
  const struct conf_row *row = &pool->row;
  if (!is_set(row, OPTION_POOL_CONCURRENCY_MODE) && !row_lost(row, OPTION_POOL_CONCURRENCY_MODE))
    check_unused(conf, pool, OPTION_POOL_CONCURRENCY_MIN, OPTION_POOL_CONCURRENCY_BASELINE,
                 "mode");
  if (row_lost_any(row, OPTION_POOL_CONCURRENCY_MIN, OPTION_POOL_CONCURRENCY_MAX)) return;
  enum option_id at = OPTION_POOL_CONCURRENCY_INITIAL;
  bool initial = is_set(row, at);
  if (c->min > c->max)
    at = is_set(row, OPTION_POOL_CONCURRENCY_MAX) ? OPTION_POOL_CONCURRENCY_MAX
                                                  : OPTION_POOL_CONCURRENCY_MIN;
  else if (!initial || (c->initial >= c->min && c->initial <= c->max))
    return;
  fault_add(conf->faults, FAULT_CONCURRENCY_ORDER, row_place(row, at),
            "pool \"" SPAN_FMT "\": concurrency.min %u, initial %u and max %u are not in order",
            SPAN_ARG(row->name), c->min, c->initial, c->max);
}

void check_protection(struct conf *conf, const struct conf_pool *pool) {
  if (faults_has_syntax(conf->faults)) return;
  check_breaker(conf, pool);
  check_concurrency(conf, pool);
}

void check_overload(struct conf *conf) {
  const struct conf_row *row = &conf->root.row;
  uint32_t lag_ms = conf->root.overload.lag_ms;
  if (lag_ms && lag_ms < LAG_LEAST_MS) {
    fault_add(conf->faults, FAULT_OUT_OF_RANGE, row_place(row, OPTION_OVERLOAD_LAG),
              "process.overload.lag is out of range");
    fault_note(conf->faults, "20ms or more, or 0s for never");
  }
  if (conf->root.overload.retry_after_ms % 1000) {
    fault_add(conf->faults, FAULT_OUT_OF_RANGE, row_place(row, OPTION_OVERLOAD_RETRY_AFTER),
              "process.overload.retry_after is out of range");
    fault_note(conf->faults, "whole seconds");
  }
  bool any = false;
  for (enum option_id id = OPTION_OVERLOAD_MEMORY; id <= OPTION_OVERLOAD_LAG; id++)
    any = any || is_set(row, id) || row_lost(row, id);
  if (any || !is_set(row, OPTION_OVERLOAD_RETRY_AFTER) || faults_has_syntax(conf->faults)) return;
  fault_add(conf->faults, FAULT_OVERLOAD_UNUSED, row_place(row, OPTION_OVERLOAD_RETRY_AFTER),
            "process.overload.retry_after means nothing without memory, connections or lag");
}
