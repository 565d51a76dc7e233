/* outlier_sweep.c: passive health that needs a view of the whole pool: failure rates over a
 * sliding window, and success rates far below the pool's mean. Workers count outcomes in rows of
 * their own; the control thread sums them every part of the window and ejects, the worst first.
 * Reads no clock, logs nothing. */
#include "upstream_priv.h"
#include "weir/upstream/outlier.h"

/* DEVIATION_GAP: where all are nearly alike a standard deviation is next to nothing; who is to go
 * must also be so far below the mean. */
#define DEVIATION_GAP 0.05

#define PERIOD_MAX_MS 500u /* between sweeps: a long window is looked at as often as a short one */

bool outlier_sweeps(const struct pool_outlier *o) {
  return o->failure_percent || o->deviations_permille;
}

/* ---- the window ---- */

static struct outcome_count outcomes_of(const struct endpoint *e) {
  struct outcome_count sum = {0};
  for (uint32_t w = 0; w < e->obj.workers; w++) {
    /* bad first: a request between the two reads must not make more bad ones than there are. */
    sum.bad += atomic_load_explicit(&e->rows[w].outcomes_bad, memory_order_relaxed);
    sum.all += atomic_load_explicit(&e->rows[w].outcomes, memory_order_relaxed);
  }
  return sum;
}

uint32_t outlier_period_ms(const struct pool_outlier *o) {
  uint32_t part_ms = o->window_ms / HEALTH_BUCKETS;
  return part_ms < PERIOD_MAX_MS ? part_ms : PERIOD_MAX_MS;
}

void outlier_begin(const struct pool_outlier *o, struct endpoint *e, uint64_t now_ms) {
  struct endpoint_health *h = e->health;
  if (now_ms - h->swept_ms <= 2 * (uint64_t)o->window_ms) return; /* it goes on: a reload */
  memset(h->parts, 0, sizeof h->parts);
  h->seen = outcomes_of(e);
  h->swept_ms = h->part_ms = now_ms;
}

/* advance adds what came since the last sweep to the newest part. What an endpoint did while it
 * was out (requests that were under way) is forgotten. */
static void advance(struct endpoint *e, uint64_t now_ms) {
  struct endpoint_health *h = e->health;
  struct outcome_count now = outcomes_of(e);
  h->parts[h->part].all += now.all - h->seen.all;
  h->parts[h->part].bad += now.bad - h->seen.bad;
  h->seen = now;
  h->swept_ms = now_ms;
  if (!endpoint_in_service(e, now_ms)) memset(h->parts, 0, sizeof h->parts);
}

/* rotate begins a new part, in place of the oldest, when the newest has lasted its time. */
static void rotate(const struct pool *pool, struct endpoint *e, uint64_t now_ms) {
  struct endpoint_health *h = e->health;
  uint32_t part_ms = pool->outlier.window_ms / HEALTH_BUCKETS;
  if (now_ms - h->part_ms < part_ms) return;
  h->part = (h->part + 1) % HEALTH_BUCKETS;
  h->parts[h->part] = (struct outcome_count){0};
  /* Sweeps come a little late: the parts are as long as they should be all the same. */
  h->part_ms = now_ms - h->part_ms < 2 * (uint64_t)part_ms ? h->part_ms + part_ms : now_ms;
}

static struct outcome_count window_of(const struct endpoint *e) {
  struct outcome_count sum = {0};
  for (uint32_t i = 0; i < HEALTH_BUCKETS; i++) {
    sum.all += e->health->parts[i].all;
    sum.bad += e->health->parts[i].bad;
  }
  if (sum.bad > sum.all) sum.bad = sum.all;
  return sum;
}

/* ---- judging ---- */

/* judgement is the pool as a whole. */
struct judgement {
  const struct pool *pool;
  uint64_t now_ms;
  uint32_t judged; /* endpoints with enough requests */
  double mean, variance;
};

static bool judged(const struct judgement *j, const struct endpoint *e,
                   struct outcome_count *window) {
  *window = window_of(e);
  return window->all && window->all >= j->pool->outlier.min_requests &&
         endpoint_in_service(e, j->now_ms);
}

static double success(const struct outcome_count *c) {
  return (double)(c->all - c->bad) / (double)c->all;
}

static void measure(struct judgement *j) {
  struct outcome_count c;
  double sum = 0, squares = 0;
  for (uint32_t i = 0; i < j->pool->member_count; i++) {
    if (!judged(j, j->pool->members[i].endpoint, &c)) continue;
    j->judged++;
    sum += success(&c);
    squares += success(&c) * success(&c);
  }
  if (!j->judged) return;
  j->mean = sum / j->judged;
  j->variance = squares / j->judged - j->mean * j->mean;
  if (j->variance < 0) j->variance = 0;
}

static bool fails_often(const struct judgement *j, const struct outcome_count *c) {
  uint32_t percent = j->pool->outlier.failure_percent;
  return percent && c->bad * 100 >= c->all * percent;
}

/* deviates compares squares: no root is needed. */
static bool deviates(const struct judgement *j, const struct outcome_count *c) {
  const struct pool_outlier *o = &j->pool->outlier;
  double k = o->deviations_permille / 1000.0, below = j->mean - success(c);
  if (!o->deviations_permille || j->judged < o->min_endpoints || below < DEVIATION_GAP)
    return false;
  return below * below > k * k * j->variance;
}

/* worst finds the member to eject next: the lowest success rate among those that break a rule. */
static bool worst(const struct judgement *j, struct outlier_found *out) {
  struct outcome_count c;
  out->endpoint = NULL;
  for (uint32_t i = 0; i < j->pool->member_count; i++) {
    struct endpoint *e = j->pool->members[i].endpoint;
    if (!judged(j, e, &c) || (out->endpoint && success(&c) >= success(&out->window))) continue;
    bool often = fails_often(j, &c);
    if (!often && !deviates(j, &c)) continue;
    out->endpoint = e;
    out->cause = often ? EJECT_PERCENT : EJECT_DEVIATION;
    out->window = c;
  }
  return out->endpoint != NULL;
}

/* limit_permille is the square root of the variance, by bisection, k times below the mean. */
static uint32_t limit_permille(const struct judgement *j) {
  double low = 0, high = 1, k = j->pool->outlier.deviations_permille / 1000.0;
  for (int i = 0; i < 20; i++) {
    double middle = (low + high) / 2;
    if (middle * middle > j->variance) high = middle;
    else low = middle;
  }
  double limit = j->mean - (k * low > DEVIATION_GAP ? k * low : DEVIATION_GAP);
  return limit > 0 ? (uint32_t)(limit * 1000) : 0;
}

void outlier_sweep(const struct pool *pool, uint64_t now_ms,
                   void (*found)(void *ctx, const struct outlier_found *found), void *ctx) {
  struct judgement j = {.pool = pool, .now_ms = now_ms};
  for (uint32_t i = 0; i < pool->member_count; i++)
    advance(pool->members[i].endpoint, now_ms);
  measure(&j);
  struct outlier_found out = {.mean_permille = (uint32_t)(j.mean * 1000),
                              .limit_permille = limit_permille(&j)};
  /* Each turn takes one out of service: at most max_ejected of them. */
  while (worst(&j, &out) && endpoint_eject(pool, out.endpoint, out.cause, now_ms)) {
    memset(out.endpoint->health->parts, 0, sizeof out.endpoint->health->parts);
    found(ctx, &out);
  }
  for (uint32_t i = 0; i < pool->member_count; i++)
    rotate(pool, pool->members[i].endpoint, now_ms);
}
