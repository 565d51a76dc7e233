/* outlier.c: passive health: consecutive failures and 5xx eject an endpoint for a time that grows
 * with its ejections and shrinks again in service, never more of a pool than max_ejected. Shared
 * counters are written on failures, and on the first success after one: never per request in
 * health. What needs a view of the whole pool is outlier_sweep.c. */
#include "upstream_priv.h"

bool endpoint_in_service(const struct endpoint *e, uint64_t now_ms) {
  uint8_t state = atomic_load_explicit(&e->state, memory_order_relaxed);
  if (state == ENDPOINT_DOWN || state == ENDPOINT_UNKNOWN) return false;
  return atomic_load_explicit(&e->ejected_until_ms, memory_order_relaxed) <= now_ms;
}

static uint32_t out_now(const struct pool *pool, uint64_t now_ms) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < pool->member_count; i++)
    count += !endpoint_in_service(pool->members[i].endpoint, now_ms);
  return count;
}

/* streak_next is how many times eject_ms the next ejection lasts, bounds left out: one more than
 * the last one, less one for each eject_ms in service since. */
static uint32_t streak_next(const struct pool_outlier *o, const struct endpoint *e,
                            uint64_t now_ms) {
  uint32_t times = atomic_load_explicit(&e->eject_streak, memory_order_relaxed);
  uint64_t back_ms = atomic_load_explicit(&e->ejected_until_ms, memory_order_relaxed);
  uint64_t healed = (now_ms - back_ms) / o->eject_ms;
  return (healed >= times ? 0 : times - (uint32_t)healed) + 1;
}

static void eject_now(const struct pool *pool, struct endpoint *e, enum eject_cause cause,
                      uint64_t now_ms) {
  const struct pool_outlier *o = &pool->outlier;
  uint64_t most_ms = o->max_eject_ms > o->eject_ms ? o->max_eject_ms : o->eject_ms;
  uint32_t times = streak_next(o, e, now_ms), times_max = (uint32_t)(most_ms / o->eject_ms) + 1;
  if (times > times_max) times = times_max;
  uint64_t ms = (uint64_t)o->eject_ms * times;
  atomic_store_explicit(&e->ejected_until_ms, now_ms + (ms > most_ms ? most_ms : ms),
                        memory_order_relaxed);
  endpoint_changed(e);
  atomic_store_explicit(&e->eject_streak, times, memory_order_relaxed);
  atomic_store_explicit(&e->eject_cause, (uint8_t)cause, memory_order_relaxed);
  atomic_store_explicit(&e->failures, 0, memory_order_relaxed);
  atomic_store_explicit(&e->failures_5xx, 0, memory_order_relaxed);
  atomic_fetch_add_explicit(&e->ejections, 1, memory_order_relaxed);
}

/* Counting and ejecting is done by one thread at a time, so that the share is exact. Who finds
 * another one at it goes on: the endpoint's counters stay, its next failure tries again. */
bool endpoint_eject(const struct pool *pool, struct endpoint *e, enum eject_cause cause,
                    uint64_t now_ms) {
  uint64_t share = (uint64_t)pool->member_count * pool->outlier.max_ejected_percent / 100;
  if (!endpoint_in_service(e, now_ms) || out_now(pool, now_ms) + 1 > share) return false;
  if (atomic_exchange_explicit(&pool->state->ejecting, true, memory_order_acquire)) return false;
  bool may = endpoint_in_service(e, now_ms) && out_now(pool, now_ms) + 1 <= share;
  if (may) eject_now(pool, e, cause, now_ms);
  atomic_store_explicit(&pool->state->ejecting, false, memory_order_release);
  return may;
}

static void clear(_Atomic uint32_t *counter) {
  if (atomic_load_explicit(counter, memory_order_relaxed))
    atomic_store_explicit(counter, 0, memory_order_relaxed);
}

static void row_add(_Atomic uint64_t *counter, uint64_t n) {
  uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
  atomic_store_explicit(counter, now + n, memory_order_relaxed);
}

bool endpoint_outcome(struct upstream *u, const struct pool *pool, struct endpoint *e,
                      enum end end, uint16_t status, uint64_t now_ms) {
  const struct pool_outlier *o = &pool->outlier;
  bool bad = end != END_OK || status >= 500;
  row_add(&e->rows[u->worker].outcomes, 1);
  if (!bad) {
    clear(&e->failures);
    clear(&e->failures_5xx);
    return false;
  }
  row_add(&e->rows[u->worker].outcomes_bad, 1);
  uint32_t failures = 0, failures_5xx;
  if (end != END_OK) failures = atomic_fetch_add(&e->failures, 1) + 1;
  else clear(&e->failures);
  failures_5xx = atomic_fetch_add(&e->failures_5xx, 1) + 1;
  enum eject_cause cause = EJECT_NONE;
  if (o->consecutive_5xx && failures_5xx >= o->consecutive_5xx) cause = EJECT_5XX;
  if (o->consecutive_failures && failures >= o->consecutive_failures) cause = EJECT_FAILURES;
  if (cause == EJECT_NONE || !endpoint_eject(pool, e, cause, now_ms)) return false;
  if (u->counters.ejections) row_add(u->counters.ejections, 1);
  return true;
}

uint32_t endpoint_load(const struct endpoint *e) {
  uint32_t load = 0;
  for (uint32_t i = 0; i < e->obj.workers; i++)
    load += atomic_load_explicit(&e->rows[i].inflight, memory_order_relaxed);
  return load;
}

/* in_flight counts at the endpoint and at its pool. */
static void in_flight(struct endpoint *e, uint32_t worker, uint32_t by) {
  _Atomic uint32_t *one = &e->rows[worker].inflight;
  _Atomic uint32_t *all = &e->pool_state->rows[worker].inflight;
  uint32_t n = atomic_load_explicit(one, memory_order_relaxed);
  uint32_t m = atomic_load_explicit(all, memory_order_relaxed);
  dcheck(by == 1 || (n > 0 && m > 0));
  atomic_store_explicit(one, n + by, memory_order_relaxed);
  atomic_store_explicit(all, m + by, memory_order_relaxed);
}

void endpoint_begin(struct endpoint *e, uint32_t worker) {
  struct endpoint_row *row = &e->rows[worker];
  in_flight(e, worker, 1);
  uint64_t r = atomic_load_explicit(&row->requests, memory_order_relaxed);
  atomic_store_explicit(&row->requests, r + 1, memory_order_relaxed);
}

void endpoint_end(struct endpoint *e, uint32_t worker) { in_flight(e, worker, UINT32_MAX); }
