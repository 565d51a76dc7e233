/* outlier.c: passive health: consecutive failures and 5xx eject an endpoint for a time that grows
 * with its ejections, never more of a pool than max_ejected. Shared counters are written on
 * failures, and on the first success after one: never per request in health. */
#include "upstream_priv.h"

/* EJECT_GROWTH_MAX: an ejection lasts at most so many times eject_ms; after as long in service it
 * starts from eject_ms again. */
#define EJECT_GROWTH_MAX 10u

bool endpoint_in_service(const struct endpoint *e, uint64_t now_ms) {
  return atomic_load_explicit(&e->ejected_until_ms, memory_order_relaxed) <= now_ms;
}

static uint32_t ejected_now(const struct pool *pool, uint64_t now_ms) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < pool->member_count; i++)
    count += !endpoint_in_service(pool->members[i].endpoint, now_ms);
  return count;
}

static bool eject(struct upstream *u, const struct pool *pool, struct endpoint *e,
                  uint64_t now_ms) {
  if (!endpoint_in_service(e, now_ms)) return false;
  uint64_t share = (uint64_t)pool->member_count * pool->outlier.max_ejected_percent / 100;
  if (ejected_now(pool, now_ms) + 1 > share) return false;
  uint64_t seen = atomic_load_explicit(&e->ejected_until_ms, memory_order_relaxed);
  uint32_t times = atomic_load_explicit(&e->eject_streak, memory_order_relaxed) + 1;
  if (now_ms > seen + (uint64_t)pool->outlier.eject_ms * times) times = 1;
  if (times > EJECT_GROWTH_MAX) times = EJECT_GROWTH_MAX;
  uint64_t until = now_ms + (uint64_t)pool->outlier.eject_ms * times;
  if (!atomic_compare_exchange_strong(&e->ejected_until_ms, &seen, until)) return false;
  atomic_fetch_add_explicit(&e->ejections, 1, memory_order_relaxed);
  atomic_store_explicit(&e->eject_streak, times, memory_order_relaxed);
  atomic_store_explicit(&e->failures, 0, memory_order_relaxed);
  atomic_store_explicit(&e->failures_5xx, 0, memory_order_relaxed);
  if (u->counters.ejections) (*u->counters.ejections)++;
  return true;
}

static void clear(_Atomic uint32_t *counter) {
  if (atomic_load_explicit(counter, memory_order_relaxed))
    atomic_store_explicit(counter, 0, memory_order_relaxed);
}

bool endpoint_outcome(struct upstream *u, const struct pool *pool, struct endpoint *e,
                      enum end end, uint16_t status, uint64_t now_ms) {
  const struct pool_outlier *o = &pool->outlier;
  if (end == END_OK && status < 500) {
    clear(&e->failures);
    clear(&e->failures_5xx);
    return false;
  }
  uint32_t failures = 0, failures_5xx;
  if (end != END_OK) failures = atomic_fetch_add(&e->failures, 1) + 1;
  else clear(&e->failures);
  failures_5xx = atomic_fetch_add(&e->failures_5xx, 1) + 1;
  bool out = (o->consecutive_failures && failures >= o->consecutive_failures) ||
             (o->consecutive_5xx && failures_5xx >= o->consecutive_5xx);
  return out && eject(u, pool, e, now_ms);
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
