/* alarm.c: what runs out, said in the error log: a look at the workers' counters once a second,
 * one line at most in ALARM_EVERY_MS. Each request and connection that suffers is counted and
 * logged by its worker; here stand the cause and the remedy. The same look finds ejections that
 * are over. Called by control.c. */
#include <sys/resource.h>

#include "control/control_priv.h"
#include "control/prober_priv.h"

#define ALARM_LOOK_MS 1000u
#define ALARM_EVERY_MS 10000u

static unsigned long long descriptor_limit(void) {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? 0 : (unsigned long long)limit.rlim_cur;
}

static void count(const struct control *c, uint64_t *accepts, uint64_t *connects) {
  *accepts = *connects = 0;
  for (uint32_t i = 0; i < c->workers.count; i++) {
    const struct worker *w = c->workers.threads[i].worker;
    *accepts += loop_stat_get(&worker_loop_stats(w)->accept_no_fds);
    *connects +=
        atomic_load_explicit(&worker_stats(w)->ends[END_LIMIT_DESCRIPTORS], memory_order_relaxed);
  }
}

static void look(struct control *c, uint64_t now_ms) {
  struct alarm_state *a = &c->alarm;
  uint64_t accepts, connects;
  count(c, &accepts, &connects);
  bool more = accepts != a->accepts_told || connects != a->connects_told;
  if (!more || (a->told_ms && now_ms < a->told_ms + ALARM_EVERY_MS)) {
    return;
  }
  log_line(c->log, END_LEVEL_ERROR,
           "no descriptor is left, %llu are allowed (RLIMIT_NOFILE): %llu times none was there to "
           "accept a client, %llu requests got no connection to an endpoint "
           "(proxy.limit.descriptors); raise the limit (LimitNOFILE= of the unit, ulimit -n) and "
           "restart, or lower process.max_connections",
           descriptor_limit(), (unsigned long long)(accepts - a->accepts_told),
           (unsigned long long)(connects - a->connects_told));
  a->accepts_told = accepts;
  a->connects_told = connects;
  a->told_ms = now_ms;
}

/* look_full is about clients for whom there was no room (room.c). */
static void look_full(struct control *c, uint64_t now_ms) {
  struct alarm_state *a = &c->alarm;
  struct published *published = &c->compiler.published;
  unsigned workers = c->workers.count ? c->workers.count : 1, most = 0;
  uint64_t refused = 0;
  for (uint32_t i = 0; i < c->workers.count; i++) {
    const struct stats *stats = worker_stats(c->workers.threads[i].worker);
    refused += atomic_load_explicit(&stats->downstream_refused, memory_order_relaxed);
  }
  if (refused == a->refused_told || (a->full_ms && now_ms < a->full_ms + ALARM_EVERY_MS)) return;
  pthread_mutex_lock(&published->lock);
  if (published->current) most = published->current->max_connections;
  pthread_mutex_unlock(&published->lock);
  log_line(c->log, END_LEVEL_ERROR,
           "process.max_connections = %u is reached, %u for each of %u worker%s, and none of a "
           "full worker's clients was idle: %llu times one was refused "
           "(proxy.limit.connections); raise it, shorten the timeouts of what is not idle, or "
           "shed load before by process.overload.connections",
           most, (most + workers - 1) / workers, workers, workers == 1 ? "" : "s",
           (unsigned long long)(refused - a->refused_told));
  a->refused_told = refused;
  a->full_ms = now_ms;
}

static void look_back(struct control *c) {
  struct published *published = &c->compiler.published;
  pthread_mutex_lock(&published->lock);
  if (published->current) {
    prober_back(c->prober, published->current);
  }
  pthread_mutex_unlock(&published->lock);
}

static void on_alarm(struct poll_timer *timer) {
  struct control *c = container_of(timer, struct control, alarm.timer);
  look(c, c->poller.now_ms);
  look_full(c, c->poller.now_ms);
  look_back(c);
  poller_set(&c->poller, timer, c->poller.now_ms + ALARM_LOOK_MS);
}

void alarm_start(struct control *c) {
  poll_timer_init(&c->alarm.timer, on_alarm);
  poller_set(&c->poller, &c->alarm.timer, clock_ms() + ALARM_LOOK_MS);
}
