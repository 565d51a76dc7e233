/* gcra.c: the arithmetic of gcra.h. Threads bring times that differ a little: the arrival time of
 * a key only grows, so an old time is judged more strictly, never less; and a slot is kept for
 * GCRA_LAG_NS after all is paid for, so that an old time does not find an empty one. Called by
 * proxy/. */
#include "weir/base/gcra.h"

/* moment is a rate at a time: what the rule of the table is asked with. */
struct moment {
  const struct gcra *g;
  uint64_t now_ns;
};

struct gcra gcra_of(uint32_t limit, uint64_t period_ns, uint32_t burst) {
  check(limit > 0 && limit <= GCRA_LIMIT_MAX && burst > 0 && burst <= GCRA_LIMIT_MAX);
  check(period_ns > 0 && period_ns <= GCRA_PERIOD_MAX_NS);
  uint64_t interval = (period_ns + limit - 1) / limit;
  return (struct gcra){.interval_ns = interval, .burst_ns = interval * burst};
}

static bool paid(uint64_t word, const void *how) {
  const struct moment *m = how;
  return word == 0 || word + GCRA_LAG_NS <= m->now_ns;
}

static bool arrive(uint64_t word, const void *how, uint64_t *out) {
  const struct moment *m = how;
  uint64_t from = word > m->now_ns ? word : m->now_ns;
  if (from + m->g->interval_ns > m->now_ns + m->g->burst_ns) return false;
  *out = from + m->g->interval_ns;
  return true;
}

static uint64_t since(uint64_t later, uint64_t earlier) {
  return later > earlier ? later - earlier : 0;
}

/* answer tells what an arrival time means at a moment. */
static void answer(const struct moment *m, uint64_t word, struct gcra_answer *out) {
  uint64_t end = m->now_ns + m->g->burst_ns, from = word > m->now_ns ? word : m->now_ns;
  out->left = (uint32_t)(since(end, from) / m->g->interval_ns);
  out->wait_ns = since(from + m->g->interval_ns, end);
}

void gcra_take(struct tally *t, const struct gcra *g, uint64_t key, uint64_t now_ns,
               struct gcra_answer *out) {
  static const struct tally_rule arrivals = {.dead = paid, .next = arrive};
  const struct moment m = {.g = g, .now_ns = now_ns};
  struct tally_result r;
  tally_apply(t, &arrivals, &m, key, &r);
  answer(&m, r.word, out);
  out->granted = r.granted;
  out->shared = r.shared;
}

void gcra_peek(const struct tally *t, const struct gcra *g, uint64_t key, uint64_t now_ns,
               struct gcra_answer *out) {
  const struct moment m = {.g = g, .now_ns = now_ns};
  uint64_t word = 0, next;
  if (!tally_find(t, key, &word)) word = 0;
  answer(&m, word, out);
  out->granted = arrive(word, &m, &next);
  out->shared = false;
}
