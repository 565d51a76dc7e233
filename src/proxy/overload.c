/* overload.c: a worker that has too much to do refuses work before it breaks: by the memory of its
 * buffers, by its client connections, by how late its loop runs. What comes first are requests of
 * low priority (new sessions of TCP and UDP have the default one); the more there is of a cause,
 * the more priorities. Only requests that would go to a pool are refused: what weir answers itself
 * costs little, and is what health checks ask for. All is one worker's own; nothing is shared. A
 * threshold that is not set costs nothing. */
#include "weir/model/overload.h"

#include "proxy_priv.h"

#define TICK_MS 100u               /* between two looks while there is work */
#define HOLD_MS 1000u              /* a level that rose stays at least so long */
#define STEP_MS 250u               /* and goes down by one at most so often */
#define LEVEL_MAX (POOL_PRIORITIES - 1) /* priority 0 is never refused */
#define IDLE_SHORT_MS 1000u        /* of idle connections while connections are short */
#define SWEEP_MAX 64u              /* connections that a tick looks at */
#define BODIES_FULL 750u /* permille of the buffers: no body is read from there on (pressure.h) \
                          */

static const struct {
  const char *name, *unit;
  enum end end;
} rows[OVERLOAD_CAUSES] = {
    [OVERLOAD_MEMORY] = {"memory", "% of its buffers", END_OVERLOAD_MEMORY},
    [OVERLOAD_CONNECTIONS] = {"connections", "% of its share", END_OVERLOAD_CONNECTIONS},
    [OVERLOAD_LAG] = {"lag", " ms", END_OVERLOAD_LAG},
};

/* ---- how much there is of a cause ---- */

/* figure: permille of what there is, or ms. threshold 0: the cause is off. */
struct figure {
  uint64_t value, threshold, full;
};

static uint64_t late_by(uint64_t now, uint64_t due) {
  uint64_t late = now > due ? now - due : 0;
  return late > WHEEL_TICK_MS ? late - WHEEL_TICK_MS : 0; /* the wheel's own */
}

static uint64_t lag(const struct worker *w) {
  const struct overload *o = &w->overload;
  uint64_t late = timer_armed(&o->tick) ? late_by(now_ms(w), o->due_ms) : 0;
  uint64_t waits = begin_late_ms(w);
  if (waits > late) late = waits;
  return late > o->lag_ms ? late : o->lag_ms;
}

static struct figure figure_of(const struct worker *w, enum overload_cause cause) {
  const struct overload_settings *s = &w->overload.settings;
  const struct iobufs *bufs = &w->loop->iobufs;
  struct figure f = {0};
  switch (cause) {
    case OVERLOAD_MEMORY:
      f.threshold = s->memory_percent * UINT64_C(10);
      f.value = bufs->limit ? bufs->bytes_out * UINT64_C(1000) / bufs->limit : 0;
      f.full = f.threshold < BODIES_FULL ? BODIES_FULL : 1000;
      break;
    case OVERLOAD_CONNECTIONS:
      f.threshold = s->connections_percent * UINT64_C(10);
      f.value = w->conns_share ? worker_conns(w) * UINT64_C(1000) / w->conns_share : 0;
      f.full = 1000;
      break;
    case OVERLOAD_LAG:
      f.threshold = s->lag_ms;
      f.value = lag(w);
      f.full = 2 * f.threshold;
      break;
    case OVERLOAD_CAUSES: break;
  }
  return f;
}

/* level_at: none below the threshold, one priority from there on, all but 0 at seven eighths of
 * the way to where it is full; the default priority (3) is in the middle. */
static uint8_t level_at(const struct figure *f, uint64_t value) {
  if (!f->threshold || value < f->threshold) return 0;
  uint64_t way = f->full > f->threshold ? f->full - f->threshold : 1;
  uint64_t level = 1 + (value - f->threshold) * POOL_PRIORITIES / way;
  return (uint8_t)(level > LEVEL_MAX ? LEVEL_MAX : level);
}

/* ---- levels ---- */

static void tell(struct worker *w, enum overload_cause cause, const struct figure *f) {
  _Atomic uint64_t *const stats[] = {[OVERLOAD_MEMORY] = &w->stats.overload_memory,
                                     [OVERLOAD_CONNECTIONS] = &w->stats.overload_connections,
                                     [OVERLOAD_LAG] = &w->stats.overload_lag};
  bool on = w->overload.causes[cause].level > 0;
  unsigned by = cause == OVERLOAD_LAG ? 1 : 10;
  if (on)
    stat_add(stats[cause], 1);
  else
    stat_sub(stats[cause], 1);
  worker_event(w, on ? END_LEVEL_WARN : END_LEVEL_INFO,
               "overload: worker %u: %s is at %u%s, the threshold is %u (overload.%s): %s",
               w->config.index, rows[cause].name, (unsigned)(f->value / by), rows[cause].unit,
               (unsigned)(f->threshold / by), rows[cause].name,
               on ? "requests are refused, those of the lowest priority first"
                  : "nothing is refused for it any more");
}

/* update raises the level at once and lowers it step by step, when the figure is a tenth of the
 * threshold below what keeps it up. */
static void update(struct worker *w, enum overload_cause cause) {
  struct shedding *c = &w->overload.causes[cause];
  struct figure f = figure_of(w, cause);
  uint8_t before = c->level, level = level_at(&f, f.value);
  if (level > c->level) {
    c->level = level;
    c->hold_ms = now_ms(w) + HOLD_MS;
  } else if (c->level && now_ms(w) >= c->hold_ms &&
             level_at(&f, f.value + f.threshold / 10) < c->level) {
    c->level--;
    c->hold_ms = now_ms(w) + STEP_MS;
  }
  if (!before != !c->level) tell(w, cause, &f);
}

static bool is_on(const struct worker *w) {
  const struct overload_settings *s = &w->overload.settings;
  return s->memory_percent || s->connections_percent || s->lag_ms;
}

/* level_with is a cause's where `sessions` of UDP count as connections, too. */
static uint8_t level_with(const struct worker *w, enum overload_cause cause, uint64_t sessions) {
  uint8_t level = w->overload.causes[cause].level;
  if (!sessions || cause != OVERLOAD_CONNECTIONS || !w->conns_share) return level;
  struct figure f = figure_of(w, cause);
  uint8_t with = level_at(&f, f.value + sessions * 1000 / w->conns_share);
  return with > level ? with : level;
}

static enum end refused_for(struct worker *w, uint8_t priority, uint64_t sessions) {
  if (!is_on(w)) return END_OK;
  for (enum overload_cause cause = 0; cause < OVERLOAD_CAUSES; cause++) {
    update(w, cause);
    if (priority + level_with(w, cause, sessions) >= (int)POOL_PRIORITIES) return rows[cause].end;
  }
  return END_OK;
}

bool overload_admit(struct stream *s, uint8_t priority) {
  enum end end = refused_for(s->w, priority, 0);
  if (end == END_OK) return true;
  s->x->retry_after_s = (s->w->overload.settings.retry_after_ms + 999) / 1000;
  stream_fail(s, end);
  return false;
}

enum end overload_session(struct worker *w, uint8_t priority, uint64_t sessions) {
  overload_wake(w);
  return refused_for(w, priority, sessions);
}

/* ---- connections ---- */

static bool conns_short(const struct worker *w) {
  return w->overload.causes[OVERLOAD_CONNECTIONS].level > 0;
}

/* is_kept: the connection of s has not been told of its end yet. */
static bool is_kept(const struct stream *s) {
  if (s->down->h2) return !h2_draining(s->down->h2);
  return !(s->flags & STREAM_CLOSE) && s->x->req.keepalive;
}

bool overload_closes(struct stream *s) {
  if (!conns_short(s->w) || !is_kept(s)) return false;
  stat_add(&s->w->stats.overload_closes, 1);
  if (s->down->h2) h2_drain(s->down->h2);
  return true;
}

uint32_t overload_idle_ms(const struct worker *w, uint32_t idle_ms) {
  return conns_short(w) && (!idle_ms || idle_ms > IDLE_SHORT_MS) ? IDLE_SHORT_MS : idle_ms;
}

/* What is left is given out so that it lasts for about a second. */
void overload_accepted(struct worker *w) {
  struct overload *o = &w->overload;
  overload_wake(w);
  if (!o->settings.connections_percent) return;
  update(w, OVERLOAD_CONNECTIONS);
  if (!conns_short(w)) return;
  uint64_t open = worker_conns(w), left = w->conns_share > open ? w->conns_share - open : 0;
  if (++o->accepts <= left * TICK_MS / 1000 || w->paused & PAUSE_SLOW) return;
  stat_add(&w->stats.overload_pauses, 1);
  serve_pause(w, PAUSE_SLOW, true);
}

/* ---- the tick ---- */

static void arm(struct worker *w) {
  struct overload *o = &w->overload;
  o->due_ms = now_ms(w) + TICK_MS;
  timer_set(&w->loop->wheel, &o->tick, o->due_ms);
}

/* busy: something happens, or happened in this tick. */
static bool busy(struct worker *w) {
  struct overload *o = &w->overload;
  uint64_t finished = atomic_load_explicit(&w->stats.proxied, memory_order_relaxed) +
                      atomic_load_explicit(&w->stats.udp_in, memory_order_relaxed);
  bool some = finished != o->finished || worker_streams(w) || o->lag_ms || w->paused & PAUSE_SLOW;
  for (enum overload_cause cause = 0; cause < OVERLOAD_CAUSES; cause++)
    some = some || o->causes[cause].level;
  o->finished = finished;
  return some;
}

static void on_tick(struct timer *timer, uint64_t now) {
  struct worker *w = container_of(timer, struct worker, overload.tick);
  struct overload *o = &w->overload;
  uint64_t late = late_by(now, o->due_ms);
  o->lag_ms = late > o->lag_ms / 2 ? late : o->lag_ms / 2;
  o->accepts = 0;
  serve_pause(w, PAUSE_SLOW, false);
  for (enum overload_cause cause = 0; cause < OVERLOAD_CAUSES; cause++) update(w, cause);
  if (conns_short(w)) serve_hurry_idle(w, SWEEP_MAX, now + IDLE_SHORT_MS);
  if (busy(w)) arm(w);
}

void overload_wake(struct worker *w) {
  if (is_on(w) && !timer_armed(&w->overload.tick) && !w->stopped) arm(w);
}

void overload_init(struct worker *w) { timer_init(&w->overload.tick, on_tick); }

void overload_install(struct worker *w, const struct overload_settings *settings) {
  w->overload.settings = *settings;
  overload_wake(w); /* what was refused under other thresholds is looked at anew */
  if (is_on(w)) return;
  for (enum overload_cause cause = 0; cause < OVERLOAD_CAUSES; cause++) {
    struct figure f = {0};
    if (!w->overload.causes[cause].level) continue;
    w->overload.causes[cause] = (struct shedding){0};
    tell(w, cause, &f);
  }
  overload_stop(w);
}

void overload_stop(struct worker *w) {
  timer_stop(&w->loop->wheel, &w->overload.tick);
  serve_pause(w, PAUSE_SLOW, false);
}
