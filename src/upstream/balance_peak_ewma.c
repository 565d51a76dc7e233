/* balance_peak_ewma.c: power of two choices on cost = latency * (requests in flight + 1) over
 * weight. Latency (request sent to first byte) is smoothed so that it rises at once and falls
 * slowly, as Finagle's Peak EWMA does, and is forgotten: an endpoint that was slow is tried again.
 *
 * Each worker keeps its own in its row and writes nobody else's. A reader takes the mean over the
 * workers, each counting by how recent its word is: with one half-life of silence a row counts
 * half, and its latency is taken as half. A worker that has not sent anything yet thus knows what
 * the others know. One slow answer raises the mean by its worker's share.
 *
 * A failure, and a response of 500 and above, counts as a slow answer, at least twice as slow as
 * was usual: else an endpoint that fails fast would look best. But it does not rise at once: it is
 * smoothed both ways, so that what counts is the part that fails, not that one did. An endpoint of
 * which nothing is known gets one request at a time until it has answered. */
#include "upstream_priv.h"

#define HALF_LIFE_MS 5000u
#define ONE (UINT64_C(1) << 24) /* fixed point */
#define FORGOTTEN (ONE / 1024)  /* ten half-lives */
#define FAILURE_NS UINT64_C(100000000)   /* a failure is at least so slow */
#define LATENCY_MAX_NS UINT64_C(60000000000)
#define UNKNOWN_NS UINT64_C(10000000000) /* while the first answer is awaited */
#define WORTH 4u                         /* peaks of endpoints that are alike differ less */

/* kept is 2^-(age / half-life) in parts of ONE; in between by a cubic that has its slope at 0
 * (many small steps are as good as a large one) and is 1/2 at 1. */
static uint64_t kept(uint64_t age_ms) {
  uint64_t halvings = age_ms / HALF_LIFE_MS, x = age_ms % HALF_LIFE_MS * ONE / HALF_LIFE_MS;
  uint64_t slope = 11629077; /* ln 2 */
  if (halvings >= 24) return 0;
  slope -= x * (4029887 - x * 789418 / ONE) / ONE;
  return (ONE - x * slope / ONE) >> halvings;
}

static uint64_t age(uint64_t now_ms, uint64_t then_ms) {
  return now_ms > then_ms ? now_ms - then_ms : 0;
}

static uint64_t at_most(uint64_t ns) { return ns < LATENCY_MAX_NS ? ns : LATENCY_MAX_NS; }

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

void peak_ewma_observe(struct upstream *u, struct endpoint *e, const struct pool_sample *sample) {
  struct endpoint_row *row = &e->rows[u->worker];
  uint64_t was = atomic_load_explicit(&row->ewma_ns, memory_order_relaxed);
  uint64_t told = atomic_load_explicit(&row->ewma_ms, memory_order_relaxed);
  uint64_t now = at_most(sample->latency_ns), peak = larger(was, now);
  if (sample->cut && now <= was) return;
  uint64_t part = told ? kept(age(sample->now_ms, told)) : 0;
  if (sample->failed) now = at_most(larger(now, larger(2 * was, FAILURE_NS)));
  else if (now >= was) part = 0;
  now = (peak * part + now * (ONE - part)) / ONE;
  atomic_store_explicit(&row->ewma_ns, now, memory_order_relaxed);
  uint64_t stamp = sample->now_ms ? sample->now_ms : 1; /* 0 is never */
  atomic_store_explicit(&row->ewma_ms, stamp, memory_order_relaxed);
}

/* latency over all workers; false: nothing is known. */
static bool latency_of(const struct endpoint *e, uint64_t now_ms, uint64_t *latency_ns) {
  uint64_t sum = 0, weight = 0;
  for (uint32_t i = 0; i < e->obj.workers; i++) {
    const struct endpoint_row *row = &e->rows[i];
    uint64_t told = atomic_load_explicit(&row->ewma_ms, memory_order_relaxed);
    if (!told) continue;
    uint64_t part = kept(age(now_ms, told));
    uint64_t latency = atomic_load_explicit(&row->ewma_ns, memory_order_relaxed);
    sum += latency * part / ONE * part / ONE;
    weight += part;
  }
  if (weight < FORGOTTEN) return false;
  *latency_ns = (sum << 20) / (weight >> 4); /* sum * ONE / weight; sum is below 2^43 */
  return true;
}

/* cost of one more request at e. */
static uint64_t cost(const struct endpoint *e, uint64_t now_ms) {
  uint64_t load = endpoint_load(e) + UINT64_C(1), latency;
  if (latency_of(e, now_ms, &latency)) return latency * load;
  return load > 1 ? UNKNOWN_NS * load : 0;
}

uint32_t balance_peak_ewma(const struct pick_from *from) {
  const struct pool_member *members = from->pool->members;
  uint64_t now = from->want->now_ms;
  uint32_t two[2];
  uint32_t count = pick_two(from, two);
  if (count < 2) return count ? two[0] : PLACE_NONE;
  unsigned __int128 a = cost(members[two[0]].endpoint, now);
  unsigned __int128 b = cost(members[two[1]].endpoint, now);
  return two[b * pick_weight(from, two[0]) < a * pick_weight(from, two[1])];
}

/* A choice among the quick ones must not be undone because they are busy: one that is WORTH times
 * slower than the chosen one and the queue before it would answer later than that does. The queue
 * goes by as quickly as the pool's requests in flight are answered. */
bool peak_ewma_worth(const struct pool *pool, const struct endpoint *chosen,
                     const struct endpoint *e, uint64_t now_ms) {
  uint64_t quick, slow, load = pool_load(pool);
  if (!latency_of(chosen, now_ms, &quick) || !latency_of(e, now_ms, &slow) || !load) return true;
  uint64_t waiting = atomic_load_explicit(&pool->state->waiting, memory_order_relaxed);
  return slow / WORTH <= quick + quick / load * waiting;
}
