/* health.c: the state of one endpoint under active checks: how many results in a row change it,
 * what a pass means for a passive ejection, when the next check is due. Does not: check (probe.c),
 * log or schedule (prober.c). */
#include "control/health_priv.h"

#include <stdarg.h>
#include <stdio.h>

#include "weir/base/hash.h"

enum probe_kind probe_kind(enum probe_result result) {
  static const uint8_t kinds[PROBE_COUNT] = {
#define PROBE(id, label, kind) PROBE_KIND_##kind,
#include "control/probe.def"
#undef PROBE
  };
  check(result < PROBE_COUNT);
  return (enum probe_kind)kinds[result];
}

const char *probe_label(enum probe_result result) {
  static const char *const labels[PROBE_COUNT] = {
#define PROBE(id, label, kind) label,
#include "control/probe.def"
#undef PROBE
  };
  check(result < PROBE_COUNT);
  return labels[result];
}

void probe_end(struct probe_outcome *o, enum probe_result result, const char *fmt, ...) {
  va_list args;
  o->result = result;
  va_start(args, fmt);
  (void)vsnprintf(o->why, sizeof o->why, fmt, args);
  va_end(args);
}

/* ---- states ---- */

static enum endpoint_state state_of(const struct endpoint *e) {
  return (enum endpoint_state)atomic_load_explicit(&e->state, memory_order_relaxed);
}

static void enter(struct endpoint *e, enum endpoint_state state, uint64_t wall_ms) {
  atomic_store_explicit(&e->state, (uint8_t)state, memory_order_relaxed);
  endpoint_changed(e);
  e->health->since_wall_ms = wall_ms;
  e->health->run = 0;
}

static void reason(struct endpoint_health *h, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void reason(struct endpoint_health *h, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(h->reason, sizeof h->reason, fmt, args);
  va_end(args);
}

void health_begin(struct endpoint *e, struct health_now now) {
  enum endpoint_state state = state_of(e);
  if (state == ENDPOINT_UP || state == ENDPOINT_DOWN) return;
  if (state == ENDPOINT_UNKNOWN && e->health->since_wall_ms) return;
  bool served = state == ENDPOINT_UNCHECKED;
  enter(e, served ? ENDPOINT_UP : ENDPOINT_UNKNOWN, now.wall_ms);
  reason(e->health, served ? "was in service before it was checked" : "not checked yet");
}

/* ---- results ---- */

/* times gives "3 checks in a row". */
static void told(struct endpoint_health *h, const char *what, uint32_t times) {
  if (times == 1) reason(h, "%s", what);
  else reason(h, "%s, %u checks in a row", what, times);
}

static enum health_change take_failure(struct endpoint *e, const struct pool_health *settings,
                                       const struct probe_outcome *o, struct health_now now) {
  struct endpoint_health *h = e->health;
  enum endpoint_state state = state_of(e);
  h->eject_passes = 0;
  memcpy(h->failure, o->why, sizeof h->failure);
  if (state == ENDPOINT_DOWN) {
    h->run = 0;
    return HEALTH_SAME;
  }
  h->run++;
  if (state == ENDPOINT_UP && h->run < settings->unhealthy) return HEALTH_SAME;
  told(h, o->why, h->run);
  enter(e, ENDPOINT_DOWN, now.wall_ms);
  return HEALTH_TO_DOWN;
}

/* uneject ends the ejection that lasts until *until; false when another one began meanwhile. What
 * follows from it is told with the check that passed. */
static bool uneject(struct endpoint *e, uint64_t until, uint64_t now_ms) {
  bool ended = atomic_compare_exchange_strong(&e->ejected_until_ms, &until, now_ms);
  if (ended) e->health->eject_told_ms = now_ms;
  endpoint_changed(e);
  return ended;
}

/* pass_ejected: checks see whether an endpoint takes connections and answers at all: so they end
 * an ejection for connections that failed, as many passes as `healthy` asks for. They do not see
 * what requests get: one for 5xx, failure rate or deviation runs its time. */
static enum health_change pass_ejected(struct endpoint *e, const struct pool_health *settings,
                                       struct health_now now) {
  struct endpoint_health *h = e->health;
  uint64_t until = atomic_load_explicit(&e->ejected_until_ms, memory_order_relaxed);
  if (until <= now.ms) return HEALTH_SAME;
  if (until != h->eject_seen_ms) { /* a new one: this check may have begun before it */
    h->eject_seen_ms = until;
    h->eject_passes = 0;
    return HEALTH_SAME;
  }
  uint8_t cause = atomic_load_explicit(&e->eject_cause, memory_order_relaxed);
  if (cause != EJECT_FAILURES || ++h->eject_passes < settings->healthy) return HEALTH_SAME;
  return uneject(e, until, now.ms) ? HEALTH_BACK : HEALTH_SAME;
}

/* start_slowly: a slow start begins when it comes back, or was new in a running pool (workers
 * wrote when); what was there from the start has its whole weight at once. */
static void start_slowly(struct endpoint *e, enum endpoint_state was, uint64_t now_ms) {
  if (was != ENDPOINT_DOWN && !atomic_load_explicit(&e->since_ms, memory_order_relaxed)) return;
  atomic_store_explicit(&e->since_ms, now_ms, memory_order_relaxed);
}

static enum health_change take_pass(struct endpoint *e, const struct pool_health *settings,
                                    struct health_now now) {
  struct endpoint_health *h = e->health;
  enum endpoint_state state = state_of(e);
  if (state == ENDPOINT_UP) {
    h->run = 0;
    return pass_ejected(e, settings, now);
  }
  h->run++;
  if (state == ENDPOINT_DOWN && h->run < settings->healthy) return HEALTH_SAME;
  told(h, "passed", h->run);
  /* It was down: what it did before says nothing about it any more. */
  uint64_t until = atomic_load_explicit(&e->ejected_until_ms, memory_order_relaxed);
  if (until > now.ms) (void)uneject(e, until, now.ms);
  atomic_store_explicit(&e->failures, 0, memory_order_relaxed);
  atomic_store_explicit(&e->failures_5xx, 0, memory_order_relaxed);
  start_slowly(e, state, now.ms);
  enter(e, ENDPOINT_UP, now.wall_ms);
  return HEALTH_TO_UP;
}

enum health_change health_take(struct endpoint *e, const struct pool_health *settings,
                               const struct probe_outcome *o, struct health_now now) {
  e->health->last_wall_ms = now.wall_ms;
  switch (probe_kind(o->result)) {
    case PROBE_KIND_PASSED:
      return take_pass(e, settings, now);
    case PROBE_KIND_FAILED:
      return take_failure(e, settings, o, now);
    case PROBE_KIND_SKIPPED:
      memcpy(e->health->failure, o->why, sizeof e->health->failure);
  }
  return HEALTH_SAME;
}

/* ---- time ---- */

uint32_t health_wait_ms(const struct endpoint *e, const struct pool_health *h, uint64_t *rng) {
  bool calm = state_of(e) == ENDPOINT_UP && e->health->run == 0;
  uint64_t wait = calm ? h->interval_ms : h->fast_interval_ms;
  uint64_t span = wait * h->jitter_percent / 100;
  return (uint32_t)(wait - span + rng_next(rng) % (2 * span + 1));
}
