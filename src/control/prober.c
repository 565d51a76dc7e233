/* prober.c: the schedule of active checks: which endpoints, when, how many at once, and what is
 * said about the results. One for all workers, in the control thread. Does not: speak to
 * endpoints (probe.c) or judge (health.c). Called by control.c; state is read by facts.c and
 * view.c, in the same thread. */
#include "control/prober_priv.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "control/health_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"
#include "weir/base/wheel.h"
#include "weir/upstream/outlier.h"
#include "weir/upstream/upstream.h"

/* probe_target is an endpoint that is checked. */
struct probe_target {
  struct list link;  /* in prober.targets */
  struct list ready; /* in prober.ready: is due, waits for its turn */
  struct prober *prober;
  struct endpoint *endpoint; /* alive as long as pool is */
  struct pool *pool;         /* one of prober.pools */
  struct timer timer;        /* next check; while one is under way: its timeout */
  struct probe *probe;
  uint64_t started_ms, deadline_ms;
  uint64_t sync; /* the last one that named it */
};

/* probed_pool is a pool that is looked after; ref. */
struct probed_pool {
  struct pool *pool;
  uint64_t sweep_ms; /* next; UINT64_MAX: none */
};

struct prober {
  struct prober_config config;
  struct wheel wheel;
  struct poll_timer timer, sweep;
  struct poll_watch watch; /* epoll: the poller has room for few descriptors */
  struct list targets, ready;
  struct probed_pool *pools;
  uint32_t pool_count;
  struct prober_counts counts;
  uint64_t rng, syncs, slot;
  uint32_t slot_starts; /* in slot */
};

static struct health_now now_of(const struct prober *p) {
  return (struct health_now){.ms = p->config.poller->now_ms, .wall_ms = clock_wall_ms()};
}

/* ---- what is said ---- */

/* serving counts the endpoints in service; *fallback: those that get traffic when there is none.
 */
static uint32_t serving(const struct pool *pool, uint64_t now_ms, uint32_t *fallback) {
  uint32_t count = 0;
  *fallback = 0;
  for (uint32_t i = 0; i < pool->member_count; i++) {
    const struct endpoint *e = pool->members[i].endpoint;
    count += endpoint_in_service(e, now_ms);
    *fallback += atomic_load_explicit(&e->state, memory_order_relaxed) == ENDPOINT_UNKNOWN;
  }
  return count;
}

/* what_clients_get is what follows from a pool without an endpoint, by what it serves. */
static const char *what_clients_get(const struct pool *pool) {
  if (pool->streams && pool->udp) return "clients are reset, datagrams dropped";
  if (pool->streams) return "clients are reset";
  return pool->udp ? "datagrams are dropped" : "requests get 503";
}

static void say(struct prober *p, enum end_level level, const struct pool *pool,
                const struct endpoint *e, const char *what) {
  char line[512 + HEALTH_REASON_MAX];
  uint32_t fallback, left = serving(pool, p->config.poller->now_ms, &fallback);
  bool none = !left && !fallback;
  (void)snprintf(line, sizeof line,
                 "pool " SPAN_FMT ": endpoint " SPAN_FMT ": %s, %u of %u in service%s%s%s",
                 SPAN_ARG(pool->obj.name), SPAN_ARG(e->label), what, left, pool->member_count,
                 none ? ": " : "", none ? what_clients_get(pool) : "",
                 none ? " (upstream.none_healthy)" : "");
  p->config.say(p->config.ctx, none ? END_LEVEL_ERROR : level, line);
}

static void say_change(struct prober *p, const struct probe_target *t,
                       enum health_change change) {
  char what[128 + HEALTH_REASON_MAX];
  const char *reason = t->endpoint->health->reason;
  switch (change) {
    case HEALTH_SAME:
      return;
    case HEALTH_TO_UP:
      (void)snprintf(what, sizeof what, "%s; marked up", reason);
      break;
    case HEALTH_TO_DOWN:
      (void)snprintf(what, sizeof what, "%s; marked down", reason);
      break;
    case HEALTH_BACK:
      (void)snprintf(what, sizeof what, "passed, %u checks in a row; its ejection ends early",
                     t->pool->health.healthy);
      break;
  }
  say(p, change == HEALTH_TO_UP ? END_LEVEL_INFO : END_LEVEL_WARN, t->pool, t->endpoint, what);
}

/* what_ends is what an endpoint was judged by. */
static const char *what_ends(const struct pool *pool) {
  return pool->tcp ? "sessions" : "requests";
}

static void say_ejected(void *ctx, const struct outlier_found *f) {
  struct prober *p = ((struct prober *const *)ctx)[0];
  const struct pool *pool = ((const struct pool *const *)ctx)[1];
  uint64_t until = atomic_load_explicit(&f->endpoint->ejected_until_ms, memory_order_relaxed);
  unsigned long long ms = until - p->config.poller->now_ms;
  unsigned long long bad = f->window.bad, all = f->window.all;
  char what[256];
  if (f->cause == EJECT_PERCENT) {
    p->counts.ejected_percent++;
    (void)snprintf(what, sizeof what,
                   "%llu of %llu %s failed in %u ms (outlier.failure_rate); taken out for "
                   "%llu ms",
                   bad, all, what_ends(pool), pool->outlier.window_ms, ms);
  } else {
    p->counts.ejected_deviation++;
    (void)snprintf(what, sizeof what,
                   "%llu of %llu %s failed in %u ms, success below %u.%u %% while the "
                   "pool's mean is %u.%u %% (outlier.deviations); taken out for %llu ms",
                   bad, all, what_ends(pool), pool->outlier.window_ms, f->limit_permille / 10,
                   f->limit_permille % 10, f->mean_permille / 10, f->mean_permille % 10, ms);
  }
  say(p, END_LEVEL_WARN, pool, f->endpoint, what);
}

/* ---- checks ---- */

static void rearm(struct prober *p) {
  uint64_t due = wheel_next_ms(&p->wheel);
  if (!list_empty(&p->ready) && p->counts.under_way < PROBES_MAX) {
    uint64_t slot_ms = (p->slot + 1) * PROBE_SLOT_MS;
    due = slot_ms < due ? slot_ms : due;
  }
  if (due != WHEEL_NEVER) {
    poller_set(p->config.poller, &p->timer, due);
  } else {
    poller_stop(&p->timer);
  }
}

static void plan(struct probe_target *t, uint64_t due_ms) {
  t->endpoint->health->next_ms = due_ms;
  timer_set(&t->prober->wheel, &t->timer, due_ms);
}

static void drop_probe(struct probe_target *t) {
  if (t->probe) {
    probe_free(t->probe);
    t->probe = NULL;
    t->prober->counts.under_way--;
  }
}

/* finish takes a result and plans the next check. */
static void finish(struct probe_target *t, const struct probe_outcome *o) {
  struct prober *p = t->prober;
  struct pool_state *state = t->pool->state;
  struct health_now now = now_of(p);
  drop_probe(t);
  state->checks[o->result]++;
  enum health_change change = health_take(t->endpoint, &t->pool->health, o, now);
  if (change == HEALTH_TO_DOWN || change == HEALTH_TO_UP) {
    state->changes[change == HEALTH_TO_UP]++;
  }
  say_change(p, t, change);
  uint64_t due = t->started_ms + health_wait_ms(t->endpoint, &t->pool->health, &p->rng);
  plan(t, due > now.ms ? due : now.ms + 1);
}

static void begin(struct probe_target *t) {
  struct prober *p = t->prober;
  const struct pool_health *h = &t->pool->health;
  struct probe_outcome o;
  t->started_ms = p->config.poller->now_ms;
  t->deadline_ms = t->started_ms + h->timeout_ms;
  t->probe = probe_new(p->watch.fd, t, t->endpoint, h, &o);
  if (!t->probe) {
    finish(t, &o);
    return;
  }
  p->counts.under_way++;
  t->endpoint->health->next_ms = 0;
  timer_set(&p->wheel, &t->timer, t->deadline_ms);
}

static bool room(struct prober *p) {
  uint64_t slot = p->config.poller->now_ms / PROBE_SLOT_MS;
  if (slot != p->slot) {
    p->slot = slot;
    p->slot_starts = 0;
  }
  return p->slot_starts < PROBE_SLOT_STARTS && p->counts.under_way < PROBES_MAX;
}

/* pump starts what is due, as far as there is room: so the control thread's other work goes on in
 * between, and what has piled up does not come out as a burst. */
static void pump(struct prober *p) {
  while (!list_empty(&p->ready) && room(p)) {
    p->slot_starts++;
    begin(container_of(list_pop_head(&p->ready), struct probe_target, ready));
  }
  rearm(p);
}

static void on_target(struct timer *timer, uint64_t now_ms) {
  struct probe_target *t = container_of(timer, struct probe_target, timer);
  struct probe_outcome o;
  if (!t->probe) {
    list_remove(&t->ready);
    list_push_tail(&t->prober->ready, &t->ready);
    return;
  }
  if (now_ms - t->deadline_ms > PROBE_LATE_MS) {
    probe_end(&o, PROBE_SKIPPED, "not checked: weir itself was %llu ms late",
              (unsigned long long)(now_ms - t->deadline_ms));
  } else {
    probe_timeout(t->probe, &t->pool->health, &o);
  }
  finish(t, &o);
}

static void on_timer(struct poll_timer *timer) {
  struct prober *p = container_of(timer, struct prober, timer);
  wheel_run(&p->wheel, p->config.poller->now_ms);
  pump(p);
}

static void on_ready(struct poll_watch *watch, short revents) {
  struct prober *p = container_of(watch, struct prober, watch);
  struct epoll_event events[PROBES_MAX];
  (void)revents;
  /* All at once: what has been answered is not called late by the timers, which come after. */
  int count = epoll_wait(watch->fd, events, PROBES_MAX, 0);
  for (int i = 0; i < count; i++) {
    struct probe *probe = (struct probe *)events[i].data.ptr;
    struct probe_target *t = (struct probe_target *)probe_owner(probe);
    struct probe_outcome o;
    if (probe_ready(probe, t->endpoint, &t->pool->health, &o)) {
      finish(t, &o);
    }
  }
  pump(p);
}

/* ---- sweeps ---- */

static void plan_sweep(struct prober *p) {
  uint64_t due = UINT64_MAX;
  for (uint32_t i = 0; i < p->pool_count; i++) {
    due = p->pools[i].sweep_ms < due ? p->pools[i].sweep_ms : due;
  }
  if (due == UINT64_MAX) {
    poller_stop(&p->sweep);
  } else {
    poller_set(p->config.poller, &p->sweep, due);
  }
}

static void on_sweep(struct poll_timer *timer) {
  struct prober *p = container_of(timer, struct prober, sweep);
  uint64_t now_ms = p->config.poller->now_ms;
  for (uint32_t i = 0; i < p->pool_count; i++) {
    struct probed_pool *row = &p->pools[i];
    if (row->sweep_ms <= now_ms) {
      void *ctx[] = {p, row->pool};
      outlier_sweep(row->pool, now_ms, say_ejected, ctx);
      row->sweep_ms = now_ms + outlier_period_ms(&row->pool->outlier);
    }
  }
  plan_sweep(p);
}

/* ---- what is over ---- */

static struct endpoint_health *health_of(struct endpoint *e) {
  if (!e->health) {
    e->health = (struct endpoint_health *)mem_alloc(sizeof *e->health);
    e->health->next_ms = UINT64_MAX;
  }
  return e->health;
}

/* tell_back: whoever took it out, an ejection ends by its time alone: nobody is called then. */
static void tell_back(struct prober *p, const struct pool *pool, struct endpoint *e) {
  uint64_t until = atomic_load_explicit(&e->ejected_until_ms, memory_order_relaxed);
  uint64_t now_ms = p->config.poller->now_ms;
  if (!until || until > now_ms || health_of(e)->eject_told_ms == until) {
    return;
  }
  e->health->eject_told_ms = until;
  bool back = endpoint_in_service(e, now_ms);
  say(p, END_LEVEL_WARN, pool, e,
      back ? "its ejection is over" : "its ejection is over, but checks keep it out");
}

void prober_back(struct prober *p, const struct snapshot *s) {
  for (uint32_t i = 0; i < s->pool_count; i++) {
    const struct pool *pool = s->pools[i];
    for (uint32_t k = 0; k < pool->member_count; k++) {
      tell_back(p, pool, pool->members[k].endpoint);
    }
  }
}

/* ---- a new snapshot ---- */

static void target_new(struct prober *p, struct endpoint *e) {
  struct probe_target *t = (struct probe_target *)mem_alloc(sizeof *t);
  t->prober = p;
  t->endpoint = e;
  list_init(&t->ready);
  list_push_tail(&p->targets, &t->link);
  timer_init(&t->timer, on_target);
  e->health->target = t;
  p->counts.targets++;
}

static void target_free(struct probe_target *t) {
  drop_probe(t);
  timer_stop(&t->prober->wheel, &t->timer);
  list_remove(&t->ready);
  list_remove(&t->link);
  t->endpoint->health->target = NULL;
  t->prober->counts.targets--;
  /* Should it come back while a connection still keeps it, it is new. */
  atomic_store_explicit(&t->endpoint->state, ENDPOINT_NEW, memory_order_relaxed);
  endpoint_changed(t->endpoint);
  t->endpoint->health->since_wall_ms = 0;
  mem_free(t);
}

/* target_keep gives an endpoint the pool's newest settings. First checks are spread, so that many
 * new endpoints do not all get theirs at once; so are those whose settings changed. */
static void target_keep(struct prober *p, struct pool *pool, struct endpoint *e,
                        uint64_t *spread_ms) {
  struct health_now now = now_of(p);
  bool fresh = !e->health->target;
  if (fresh) {
    target_new(p, e);
  }
  struct probe_target *t = e->health->target;
  bool same = !fresh && t->pool->health.content == pool->health.content;
  t->pool = pool;
  t->sync = p->syncs;
  health_begin(e, now);
  if (same) {
    return;
  }
  drop_probe(t);
  list_remove(&t->ready);
  uint64_t within = fresh ? pool->health.fast_interval_ms : pool->health.interval_ms;
  plan(t, now.ms + *spread_ms % within);
  *spread_ms += PROBE_SPREAD_MS;
}

/* look_after lets the pool's endpoints have their health, checks and sweeps. */
static void look_after(struct prober *p, struct probed_pool *row, uint64_t *spread_ms) {
  struct pool *pool = row->pool;
  bool sweeps = outlier_sweeps(&pool->outlier);
  uint64_t now_ms = p->config.poller->now_ms;
  for (uint32_t i = 0; i < pool->member_count; i++) {
    struct endpoint *e = pool->members[i].endpoint;
    (void)health_of(e);
    if (pool->health.on) {
      target_keep(p, pool, e, spread_ms);
    }
    if (sweeps) {
      outlier_begin(&pool->outlier, e, now_ms);
    }
  }
  row->sweep_ms = sweeps ? now_ms + outlier_period_ms(&pool->outlier) : UINT64_MAX;
}

static bool wanted(const struct pool *pool) {
  return pool->health.on || outlier_sweeps(&pool->outlier);
}

static void take_pools(struct prober *p, const struct snapshot *s) {
  p->pools = (struct probed_pool *)mem_array(s->pool_count + 1, sizeof *p->pools);
  p->pool_count = 0;
  for (uint32_t i = 0; i < s->pool_count; i++) {
    if (wanted(s->pools[i])) {
      object_ref(s->registry, &s->pools[i]->obj);
      p->pools[p->pool_count++].pool = s->pools[i];
    }
  }
}

static bool drop_pools(struct probed_pool *pools, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    object_unref(pools[i].pool->obj.registry, &pools[i].pool->obj);
  }
  mem_free(pools);
  return count > 0;
}

static void drop_targets(struct prober *p, uint64_t sync) {
  for (struct list *l = p->targets.next, *next; l != &p->targets; l = next) {
    struct probe_target *t = container_of(l, struct probe_target, link);
    next = l->next;
    if (t->sync != sync) {
      target_free(t);
    }
  }
}

/* uncheck: endpoints whose pool has no check (any more) are in service. */
static void uncheck(const struct snapshot *s) {
  for (uint32_t i = 0; i < s->pool_count; i++) {
    const struct pool *pool = s->pools[i];
    for (uint32_t k = 0; !pool->health.on && k < pool->member_count; k++) {
      struct endpoint *e = pool->members[k].endpoint;
      if (atomic_load_explicit(&e->state, memory_order_relaxed) == ENDPOINT_UNCHECKED) continue;
      atomic_store_explicit(&e->state, ENDPOINT_UNCHECKED, memory_order_relaxed);
      endpoint_changed(e);
    }
  }
}

bool prober_sync(struct prober *p, const struct snapshot *s) {
  struct probed_pool *before = p->pools;
  uint32_t before_count = p->pool_count;
  uint64_t spread_ms = 0;
  p->config.poller->now_ms = clock_ms();
  p->syncs++;
  take_pools(p, s);
  for (uint32_t i = 0; i < p->pool_count; i++) {
    look_after(p, &p->pools[i], &spread_ms);
  }
  drop_targets(p, p->syncs);
  uncheck(s);
  bool dropped = drop_pools(before, before_count);
  rearm(p);
  plan_sweep(p);
  return dropped;
}

/* ---- life ---- */

struct prober *prober_new(const struct prober_config *config) {
  struct prober *p = (struct prober *)mem_alloc(sizeof *p);
  p->config = *config;
  p->rng = config->seed;
  wheel_init(&p->wheel, config->poller->now_ms);
  list_init(&p->targets);
  list_init(&p->ready);
  poll_timer_init(&p->timer, on_timer);
  poll_timer_init(&p->sweep, on_sweep);
  p->watch = (struct poll_watch){
      .fd = epoll_create1(EPOLL_CLOEXEC), .events = POLLIN, .ready = on_ready};
  check(p->watch.fd >= 0 && poller_add(config->poller, &p->watch));
  return p;
}

void prober_stop(struct prober *p) {
  drop_targets(p, UINT64_MAX);
  (void)drop_pools(p->pools, p->pool_count);
  p->pools = NULL;
  p->pool_count = 0;
  poller_stop(&p->timer);
  poller_stop(&p->sweep);
}

void prober_free(struct prober *p) {
  prober_stop(p);
  poller_remove(p->config.poller, &p->watch);
  close(p->watch.fd);
  mem_free(p);
}

void prober_counts_get(const struct prober *p, struct prober_counts *out) { *out = p->counts; }
