/* metrics_protect.c: the metrics of what protects pools: circuit breakers, concurrency limits.
 * Only pools that have one are there, from the start, with 0. Called by metrics.c. */
#include "control/metrics_priv.h"
#include "weir/upstream/breaker.h"
#include "weir/upstream/gradient.h"

/* sample begins a line: name{pool="...",label="value"}; label NULL: none. */
static void sample(struct text *out, const char *name, const struct pool *p, const char *label,
                   struct span value) {
  text_printf(out, "%s{", name);
  metrics_label(out, "pool", p->obj.name);
  if (label) metrics_label(out, label, value);
  out->len--; /* the last comma */
  text_lit(out, "} ");
}

static void put(struct text *out, uint64_t n) {
  text_printf(out, "%llu\n", (unsigned long long)n);
}

static void put_us(struct text *out, uint64_t us) {
  text_printf(out, "%llu.%06llu\n", (unsigned long long)(us / 1000000),
              (unsigned long long)(us % 1000000));
}

uint64_t protect_refused(const struct pool_state *state, bool by_breaker) {
  uint64_t sum = 0;
  for (uint32_t w = 0; w < state->obj.workers; w++) {
    const struct pool_row *row = &state->rows[w];
    sum += atomic_load_explicit(by_breaker ? &row->breaker.refused : &row->gradient.refused,
                                memory_order_relaxed);
  }
  return sum;
}

uint64_t protect_since_wall_ms(const struct metrics_input *in, const struct breaker_told *told) {
  uint64_t ago = in->now_ms > told->since_ms ? in->now_ms - told->since_ms : 0;
  return told->since_ms ? in->wall_ms - ago : 0;
}

/* ---- breakers ---- */

static void breaker_states(struct text *out, const struct metrics_input *in,
                           const struct pool *p) {
  static const enum breaker_state states[] = {BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN};
  struct breaker_told told = breaker_look(p->state);
  (void)in;
  for (size_t i = 0; i < array_count(states); i++) {
    sample(out, "weir_breaker_state", p, "state", breaker_word(states[i]));
    put(out, told.state == states[i]);
  }
}

static void breaker_since(struct text *out, const struct metrics_input *in, const struct pool *p) {
  struct breaker_told told = breaker_look(p->state);
  uint64_t ms = protect_since_wall_ms(in, &told);
  sample(out, "weir_breaker_since_timestamp_seconds", p, NULL, SPAN_EMPTY);
  put_us(out, ms * 1000);
}

static void breaker_opened(struct text *out, const struct metrics_input *in,
                           const struct pool *p) {
  struct breaker_told told = breaker_look(p->state);
  (void)in;
  sample(out, "weir_breaker_opened_total", p, "reason", SPAN_LIT("failure_rate"));
  put(out, told.opened[BREAKER_FAILURES]);
  sample(out, "weir_breaker_opened_total", p, "reason", SPAN_LIT("slow_rate"));
  put(out, told.opened[BREAKER_SLOW]);
}

static void breaker_refused(struct text *out, const struct metrics_input *in,
                            const struct pool *p) {
  (void)in;
  sample(out, "weir_breaker_refused_total", p, NULL, SPAN_EMPTY);
  put(out, protect_refused(p->state, true));
}

/* ---- concurrency ---- */

static void limit(struct text *out, const struct metrics_input *in, const struct pool *p) {
  (void)in;
  sample(out, "weir_concurrency_limit", p, NULL, SPAN_EMPTY);
  put(out, gradient_limit(p));
}

static void waiting(struct text *out, const struct metrics_input *in, const struct pool *p) {
  (void)in;
  sample(out, "weir_concurrency_waiting", p, NULL, SPAN_EMPTY);
  put(out, gradient_waiting(p->state));
}

static void over_limit(struct text *out, const struct metrics_input *in, const struct pool *p) {
  bool enforce = p->concurrency.mode == CONCURRENCY_ENFORCE;
  (void)in;
  sample(out, "weir_concurrency_refused_total", p, "mode",
         enforce ? SPAN_LIT("enforce") : SPAN_LIT("observe"));
  put(out, protect_refused(p->state, false));
}

static void baseline(struct text *out, const struct metrics_input *in, const struct pool *p) {
  (void)in;
  sample(out, "weir_concurrency_baseline_seconds", p, NULL, SPAN_EMPTY);
  put_us(out, atomic_load_explicit(&p->state->gradient.base_us, memory_order_relaxed));
}

static void latency(struct text *out, const struct metrics_input *in, const struct pool *p) {
  (void)in;
  sample(out, "weir_concurrency_latency_seconds", p, NULL, SPAN_EMPTY);
  put_us(out, atomic_load_explicit(&p->state->gradient.latency_us, memory_order_relaxed));
}

/* ---- all ---- */

static const struct {
  const char *name, *type, *help;
  bool breaker; /* else of concurrency */
  void (*write)(struct text *out, const struct metrics_input *in, const struct pool *p);
} rows[] = {
    {"weir_breaker_state", "gauge", "1 at the state of the pool's circuit breaker", true,
     breaker_states},
    {"weir_breaker_since_timestamp_seconds", "gauge", "When that state began; 0: at the start",
     true, breaker_since},
    {"weir_breaker_opened_total", "counter", "Times that the circuit breaker opened", true,
     breaker_opened},
    {"weir_breaker_refused_total", "counter", "Requests that an open circuit breaker refused",
     true, breaker_refused},
    {"weir_concurrency_limit", "gauge", "Requests that may wait for a response head", false,
     limit},
    {"weir_concurrency_waiting", "gauge", "Requests that wait for a response head", false,
     waiting},
    {"weir_concurrency_refused_total", "counter",
     "Requests above the limit: refused (enforce), or let through (observe)", false, over_limit},
    {"weir_concurrency_baseline_seconds", "gauge", "Latency of a response head without a queue",
     false, baseline},
    {"weir_concurrency_latency_seconds", "gauge",
     "Latency of a response head in the last window (geometric mean)", false, latency},
};

void protect_write(struct text *out, const struct metrics_input *in) {
  for (size_t r = 0; r < array_count(rows); r++) {
    metrics_head(out, span_str(rows[r].name), rows[r].type, rows[r].help);
    for (uint32_t i = 0; in->snapshot && i < in->snapshot->pool_count; i++) {
      const struct pool *p = in->snapshot->pools[i];
      bool on = rows[r].breaker ? breaker_on(&p->breaker) : p->concurrency.mode != CONCURRENCY_OFF;
      if (on) rows[r].write(out, in, p);
    }
  }
}
