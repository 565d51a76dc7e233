/* gradient.c: adaptive concurrency: how many requests of a pool may wait for a response head at a
 * time. In the manner of Netflix's concurrency limits (Gradient2) and Envoy's adaptive
 * concurrency, by own reasoning:
 *   - Latency is from the end of the request to the first byte of the response, and what is
 * limited waits for just that: slow readers and long bodies are neither measured nor limited.
 * Windows compare geometric means: one request that hangs does not speak for a hundred.
 *   - The gradient is tolerance * baseline / latency, at most 1. The limit follows
 *     limit * gradient + sqrt(limit), smoothed: it grows while latency is near the baseline, and
 *     falls while requests queue up behind it.
 *   - Only a limit that is made use of (half of it) changes: with little traffic nothing is known.
 *   - The baseline goes down with any lower latency. That it went up shows only when the queue is
 *     gone: so from time to time, and early when the limit keeps falling, the limit goes down to
 *     what cannot queue for a moment, and the latency then is the baseline. In mode observe
 * nothing may be refused: there it is the lowest of the period. Workers count in rows of their
 * own; whoever finds a window over takes all in. Logs nothing. */
#include "weir/upstream/gradient.h"

#include "upstream_priv.h"
#include "weir/base/hash.h"

#define SAMPLES_MIN 10u     /* in a window: with fewer it goes on */
#define MEASURE_SAMPLES 50u /* for a baseline */
#define MEASURE_LEAST 5u    /* fewer, after MEASURE_WINDOWS, are no baseline */
#define MEASURE_WINDOWS 10u
#define SMOOTHING 0.2
#define GRADIENT_MIN 0.5
#define FALLS_MAX 5u  /* windows that lower the limit in a row: is the baseline still right? */
#define NEARLY 4600u  /* 5 % as log2 */
#define EARLY_PART 6u /* of the period between two measurements */

/* ---- numbers ---- */

uint32_t gradient_log(uint64_t us) {
  uint64_t n = us + 1;
  uint32_t whole = 63 - (uint32_t)__builtin_clzll(n);
  uint64_t x = whole > 16 ? n >> (whole - 16) : n << (16 - whole); /* 1 to 2, 16 bits fraction */
  uint64_t f = x & 0xffff;
  /* log2(1 + f) is f + 0.3446 f (1 - f) within 0.008 */
  return (whole << 16) + (uint32_t)(f + (f * (65536 - f) >> 16) * 22584 / 65536);
}

/* power is 2 to the (n / 65536). */
static double power(int64_t n) {
  int64_t whole = n >> 16;
  double f = (double)(n & 0xffff) / 65536, part = 1 + f * (0.6565 + 0.3435 * f);
  if (whole > 40) whole = 40;
  if (whole < -40) whole = -40;
  return whole >= 0 ? part * (double)(UINT64_C(1) << whole)
                    : part / (double)(UINT64_C(1) << -whole);
}

uint32_t gradient_us(uint32_t log) {
  double us = log ? power(log) - 1 : 0;
  return us < (double)UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static double root(double n) {
  double low = 0, high = n > 1 ? n : 1;
  for (int i = 0; i < 40; i++) {
    double middle = (low + high) / 2;
    if (middle * middle > n)
      high = middle;
    else
      low = middle;
  }
  return low;
}

static double clamp(double n, double low, double high) {
  if (n > high) n = high; /* low wins */
  return n < low ? low : n;
}

static double tolerance(const struct pool_concurrency *s) {
  return s->tolerance_permille / 1000.0;
}

/* ---- the controller ---- */

static double load_of(const struct gradient_sums *sums) {
  return sums->arrivals ? (double)sums->seen / (double)sums->arrivals : 0;
}

static uint32_t limit_of(const struct gradient_model *m, const struct pool_concurrency *s) {
  double limit = m->phase == GRADIENT_RUN ? m->limit : m->cap;
  return (uint32_t)clamp(limit, s->min, s->max);
}

/* period starts the time to the next measurement, a tenth longer or shorter at random; short while
 * measurements still differ. */
static void period(struct gradient_model *m, const struct pool_concurrency *s,
                   const struct gradient_window *w) {
  uint64_t ms = s->baseline_ms, soon = (uint64_t)MEASURE_WINDOWS * s->window_ms;
  ms = ms * 9 / 10 + ms / 5 * (w->draw & 0xffff) / 65536;
  if (!m->settled && s->mode == CONCURRENCY_ENFORCE && soon < ms) ms = soon;
  m->period_ms = w->now_ms + ms;
  m->early_ms = w->now_ms + (soon > ms / EARLY_PART ? soon : ms / EARLY_PART);
  m->low_log = UINT32_MAX;
  m->falls = 0;
}

static void rebase(struct gradient_model *m, uint32_t log) {
  m->settled = m->base_log && log + NEARLY > m->base_log;
  m->base_log = log ? log : 1;
}

/* dip begins a measurement: a limit at which latency is no longer the limit's doing. What latency
 * the limit allows is tolerance times the baseline and a little more; half of 1 / tolerance of it
 * has no queue. */
static void dip(struct gradient_model *m, const struct pool_concurrency *s,
                const struct gradient_window *w, double load) {
  double most = load < m->limit ? load : m->limit;
  uint64_t drain = 2 * (uint64_t)gradient_us(m->last_log) / 1000;
  m->cap = (uint32_t)clamp(most / (2 * tolerance(s)), s->min, s->max);
  m->phase = GRADIENT_DRAIN;
  m->phase_ms = w->now_ms + (drain > s->window_ms ? drain : s->window_ms);
  m->measured = (struct gradient_sums){0};
}

/* measure_ms is how long a measurement lasts at most: some windows, some latencies. */
static uint64_t measure_ms(const struct gradient_model *m, const struct pool_concurrency *s) {
  uint64_t windows = (uint64_t)MEASURE_WINDOWS * s->window_ms;
  uint64_t heads = MEASURE_LEAST * (uint64_t)gradient_us(m->last_log) / 1000;
  return windows > heads ? windows : heads;
}

/* drained: when nothing came for long, what comes now meets the limit as it was. */
static void drained(struct gradient_model *m, const struct pool_concurrency *s,
                    const struct gradient_window *w) {
  uint64_t most_ms = measure_ms(m, s);
  if (w->now_ms < m->phase_ms) return;
  m->phase = w->now_ms < m->phase_ms + most_ms ? GRADIENT_MEASURE : GRADIENT_RUN;
  m->phase_ms = w->now_ms + most_ms;
}

static void measure(struct gradient_model *m, const struct pool_concurrency *s,
                    const struct gradient_window *w) {
  m->measured.samples += w->sums.samples;
  m->measured.log_sum += w->sums.log_sum;
  if (m->measured.samples < MEASURE_SAMPLES && w->now_ms < m->phase_ms) return;
  if (m->measured.samples >= MEASURE_LEAST)
    rebase(m, (uint32_t)(m->measured.log_sum / m->measured.samples));
  else
    m->settled = true; /* nothing was learned: ask again in a whole period */
  m->phase = GRADIENT_RUN;
  period(m, s, w);
}

/* follow moves the limit towards what the gradient says. */
static void follow(struct gradient_model *m, const struct pool_concurrency *s, uint32_t log,
                   double load) {
  double gradient = tolerance(s) * power((int64_t)m->base_log - log);
  double target = m->limit * clamp(gradient, GRADIENT_MIN, 1) + root(m->limit);
  /* More is under way than the limit (observe, or it fell): so much of that would be right. */
  if (load > m->limit) target = load * clamp(gradient, 0, 1) + root(m->limit);
  double next = clamp(m->limit + SMOOTHING * (target - m->limit), s->min, s->max);
  m->falls = next < m->limit ? m->falls + 1 : 0;
  m->limit = next;
}

/* rebase_quietly is a measurement without touching the limit: by the lowest latency of the period,
 * where that was surely without a queue, or where nothing better can be had. */
static void rebase_quietly(struct gradient_model *m, const struct pool_concurrency *s,
                           const struct gradient_window *w, bool sure) {
  if (sure && m->low_log != UINT32_MAX) rebase(m, m->low_log);
  period(m, s, w);
}

static void run(struct gradient_model *m, const struct pool_concurrency *s,
                const struct gradient_window *w) {
  if (!w->sums.samples) return;
  uint32_t log = (uint32_t)(w->sums.log_sum / w->sums.samples);
  double load = load_of(&w->sums);
  m->last_log = log;
  if (!m->base_log) {
    rebase(m, log);
    period(m, s, w);
  }
  if (log < m->base_log) m->base_log -= (m->base_log - log) / 8;
  if (log < m->low_log) m->low_log = log;
  bool used = 2 * load >= m->limit;
  if (used)
    follow(m, s, log, load);
  else
    m->falls = 0;
  bool due = w->now_ms >= m->period_ms;
  bool early = m->falls >= FALLS_MAX && w->now_ms >= m->early_ms;
  if (s->mode == CONCURRENCY_OBSERVE) early = false;
  if (!due && !early) return;
  if (s->mode == CONCURRENCY_OBSERVE)
    rebase_quietly(m, s, w, true);
  else if (!used)
    rebase_quietly(m, s, w, 2 * tolerance(s) * load < m->limit);
  else
    dip(m, s, w, load);
}

uint32_t gradient_step(struct gradient_model *m, const struct pool_concurrency *s,
                       const struct gradient_window *w) {
  if (m->limit < 1) m->limit = s->initial;
  m->limit = clamp(m->limit, s->min, s->max);
  if (s->mode != CONCURRENCY_ENFORCE) m->phase = GRADIENT_RUN;
  switch ((enum gradient_phase)m->phase) {
    case GRADIENT_RUN: run(m, s, w); break;
    case GRADIENT_DRAIN: drained(m, s, w); break;
    case GRADIENT_MEASURE: measure(m, s, w); break;
  }
  return limit_of(m, s);
}

/* ---- between workers ---- */

static void add(_Atomic uint64_t *counter, uint64_t by) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                        memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *counter) {
  return atomic_load_explicit(counter, memory_order_relaxed);
}

/* heads: 24 bits of count, above them the sum of latencies (as logarithms with 10 bits of
 * fraction). Totals wrap; a difference of two is right up to 16 million heads. */
#define COUNT_BITS 24
#define LOG_DROP 6

static struct gradient_totals totals_of(const struct pool_state *state) {
  struct gradient_totals t = {0};
  for (uint32_t w = 0; w < state->obj.workers; w++) {
    const struct gradient_row *row = &state->rows[w].gradient;
    t.heads += get(&row->heads);
    t.arrivals += get(&row->arrivals);
    t.seen += get(&row->seen);
  }
  return t;
}

static struct gradient_sums between(const struct gradient_totals *then,
                                    const struct gradient_totals *now) {
  uint64_t heads = now->heads - then->heads;
  return (struct gradient_sums){.samples = heads & ((1u << COUNT_BITS) - 1),
                                .log_sum = heads >> COUNT_BITS << LOG_DROP,
                                .arrivals = now->arrivals - then->arrivals,
                                .seen = now->seen - then->seen};
}

/* look takes a window in, unless another worker is at it or too little is known. */
static void look(struct upstream *u, const struct pool *pool, uint64_t now_ms) {
  struct gradient *g = &pool->state->gradient;
  const struct pool_concurrency *s = &pool->concurrency;
  if (atomic_exchange_explicit(&g->looking, true, memory_order_acquire)) return;
  if (now_ms >= get(&g->due_ms)) {
    struct gradient_totals now = totals_of(pool->state);
    struct gradient_window w = {.sums = between(&g->totals, &now), .now_ms = now_ms};
    bool wait = g->model.phase == GRADIENT_RUN && w.sums.samples < SAMPLES_MIN;
    w.draw = (uint32_t)rng_next(&u->rng);
    if (!wait) {
      uint32_t limit = gradient_step(&g->model, s, &w);
      g->totals = now;
      atomic_store_explicit(&g->limit, limit, memory_order_relaxed);
      atomic_store_explicit(&g->base_us, gradient_us(g->model.base_log), memory_order_relaxed);
      atomic_store_explicit(&g->latency_us, gradient_us(g->model.last_log), memory_order_relaxed);
    }
    atomic_store_explicit(&g->due_ms, now_ms + s->window_ms, memory_order_relaxed);
  }
  atomic_store_explicit(&g->looking, false, memory_order_release);
}

static void look_if_due(struct upstream *u, const struct pool *pool, uint64_t now_ms) {
  if (now_ms >= get(&pool->state->gradient.due_ms)) look(u, pool, now_ms);
}

uint32_t gradient_limit(const struct pool *pool) {
  const struct pool_concurrency *s = &pool->concurrency;
  uint32_t limit = atomic_load_explicit(&pool->state->gradient.limit, memory_order_relaxed);
  return (uint32_t)clamp(limit ? limit : s->initial, s->min, s->max);
}

uint32_t gradient_waiting(const struct pool_state *state) {
  uint32_t sum = 0;
  for (uint32_t w = 0; w < state->obj.workers; w++)
    sum += atomic_load_explicit(&state->rows[w].gradient.waiting, memory_order_relaxed);
  return sum;
}

static void waiting(struct upstream *u, struct pool_state *state, uint32_t by) {
  _Atomic uint32_t *own = &state->rows[u->worker].gradient.waiting;
  uint32_t now = atomic_load_explicit(own, memory_order_relaxed);
  dcheck(by == 1 || now > 0);
  atomic_store_explicit(own, now + by, memory_order_relaxed);
}

bool gradient_admit(struct upstream *u, const struct pool *pool, uint64_t now_ms) {
  struct gradient_row *row = &pool->state->rows[u->worker].gradient;
  look_if_due(u, pool, now_ms);
  uint32_t others = gradient_waiting(pool->state);
  bool over = others >= gradient_limit(pool);
  add(&row->arrivals, 1);
  add(&row->seen, others);
  if (over) add(&row->refused, 1);
  if (over && pool->concurrency.mode == CONCURRENCY_ENFORCE) return false;
  waiting(u, pool->state, 1);
  return true;
}

void gradient_leave(struct upstream *u, struct pool_state *state) {
  waiting(u, state, UINT32_MAX);
}

void gradient_sample(struct upstream *u, const struct pool *pool, uint64_t now_ms,
                     uint64_t latency_ns) {
  struct gradient_row *row = &pool->state->rows[u->worker].gradient;
  add(&row->heads, (uint64_t)(gradient_log(latency_ns / 1000) >> LOG_DROP) << COUNT_BITS | 1);
  look_if_due(u, pool, now_ms);
}
