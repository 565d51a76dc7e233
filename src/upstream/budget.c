/* budget.c: the retry budget of a pool: a share of the requests of the last seconds and a floor,
 * over all workers. Each worker counts its own requests and retries by the second; who wants to
 * retry sums what all have. No line is shared per request. The sum is as old as a cache miss: at
 * most one retry too many per other worker. */
#include "upstream_priv.h"

#define SLOT_SHIFT 10u /* a slot is 1.024 s */

static uint32_t slot_number(uint64_t now_ms) { return (uint32_t)(now_ms >> SLOT_SHIFT) + 1; }

/* slot_now is this worker's present slot, emptied when it was another second's. Readers see `at`
 * as 0 while that goes on: who sees a count sees also what `at` was set to before it. */
static struct budget_slot *slot_now(struct pool_row *row, uint64_t now_ms) {
  uint32_t number = slot_number(now_ms);
  struct budget_slot *slot = &row->budget[number % BUDGET_SLOTS];
  if (atomic_load_explicit(&slot->at, memory_order_relaxed) == number) return slot;
  atomic_store_explicit(&slot->at, 0, memory_order_relaxed);
  atomic_store_explicit(&slot->requests, 0, memory_order_release);
  atomic_store_explicit(&slot->retries, 0, memory_order_release);
  atomic_store_explicit(&slot->at, number, memory_order_release);
  return slot;
}

static void count_one(_Atomic uint32_t *counter) {
  uint32_t now = atomic_load_explicit(counter, memory_order_relaxed);
  atomic_store_explicit(counter, now + 1, memory_order_release);
}

void budget_request(struct pool_row *row, uint64_t now_ms) {
  count_one(&slot_now(row, now_ms)->requests);
}

struct sums {
  uint64_t requests, retries;
};

static void slot_sum(const struct budget_slot *slot, uint32_t number, struct sums *sums) {
  uint32_t at = atomic_load_explicit(&slot->at, memory_order_acquire);
  if (!at || (int32_t)(number - at) >= (int32_t)BUDGET_SLOTS) return; /* it may also be ahead */
  uint32_t requests = atomic_load_explicit(&slot->requests, memory_order_acquire);
  uint32_t retries = atomic_load_explicit(&slot->retries, memory_order_acquire);
  if (atomic_load_explicit(&slot->at, memory_order_relaxed) != at) return;
  sums->requests += requests;
  sums->retries += retries;
}

bool budget_take(struct pool_state *state, uint32_t worker, const struct pool_retry *r,
                 uint64_t now_ms) {
  struct sums sums = {0};
  uint32_t number = slot_number(now_ms);
  for (uint32_t w = 0; w < state->obj.workers; w++)
    for (uint32_t i = 0; i < BUDGET_SLOTS; i++)
      slot_sum(&state->rows[w].budget[i], number, &sums);
  uint64_t floor = ((uint64_t)r->budget_min * BUDGET_SLOTS << SLOT_SHIFT) / 1000;
  if (sums.retries + 1 > sums.requests * r->budget_percent / 100 + floor) return false;
  count_one(&slot_now(&state->rows[worker], now_ms)->retries);
  return true;
}

void budget_give(struct pool_row *row, uint64_t now_ms) {
  _Atomic uint32_t *retries = &slot_now(row, now_ms)->retries;
  uint32_t now = atomic_load_explicit(retries, memory_order_relaxed);
  check(now > 0);
  atomic_store_explicit(retries, now - 1, memory_order_release);
}
