/* facts.c: fills struct metrics_facts from all over the process, for one scrape.
 * Does not: write text (metrics.c, view.c). Called by admin.c and status.c. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "control/control_priv.h"
#include "control/prober_priv.h"
#include "control/resolver_priv.h"
#include "weir/io/tls.h"
#include "weir/io/tls_signer.h"

/* /proc is memory of the kernel: reading it waits for no disk. */
static uint64_t resident_bytes(void) {
  FILE *f = fopen("/proc/self/statm", "re");
  unsigned long long total = 0, resident = 0;
  if (f) {
    if (fscanf(f, "%llu %llu", &total, &resident) != 2) {
      resident = 0;
    }
    fclose(f);
  }
  return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* open_fds is what the kernel counts (Linux 6.2 and later), 0: it does not. */
static uint64_t open_fds(void) {
  struct stat dir;
  return stat("/proc/self/fd", &dir) == 0 && dir.st_size > 0 ? (uint64_t)dir.st_size : 0;
}

static uint64_t cpu_ms(void) {
  struct rusage u;
  if (getrusage(RUSAGE_SELF, &u) < 0) {
    return 0;
  }
  return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 +
         (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

static uint64_t permille(uint64_t part, uint64_t whole) {
  uint64_t p = whole ? part * 1000 / whole : 0;
  return p > 1000 ? 1000 : p;
}

/* busy_permille is the busiest worker's share of the time since the last look, kept for a second
 * so that two scrapers do not disturb each other. */
static uint64_t busy_permille(struct control *c, const struct control_look *look) {
  struct timespec ts;
  check(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
  uint64_t now = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
  uint64_t passed = now - c->busy_seen_at_ns;
  if (passed < 1000000000) {
    return c->busy_permille;
  }
  uint64_t most = 0;
  for (uint32_t i = 0; i < c->workers.count; i++) {
    uint64_t busy = loop_stat_get(&look->loops[i]->busy_ns);
    uint64_t since = busy > c->busy_seen_ns[i] ? busy - c->busy_seen_ns[i] : 0;
    c->busy_seen_ns[i] = busy;
    most = since > most ? since : most;
  }
  c->busy_seen_at_ns = now;
  c->busy_permille = permille(most, passed);
  return c->busy_permille;
}

static void facts_config(struct control *c, struct metrics_facts *f) {
  const struct published *p = &c->compiler.published;
  f->generation = p->current ? p->current->generation : 0;
  f->revision = p->current ? p->current->revision : 0;
  f->max_connections = p->current ? p->current->max_connections : 0;
  f->last_reload_ok = p->last_ok;
  f->last_reload_ms = p->last_reload_wall_ms;
  f->reloads_ok = p->reloads_ok;
  f->reloads_failed = p->reloads_failed;
  f->secrets_published = p->secrets_published;
  f->secrets_failed = p->secrets_failed;
  f->secrets_refused = p->secrets_refused;
  f->snapshots_live = p->live;
}

static void facts_process(struct control *c, struct metrics_facts *f) {
  f->workers = c->workers.count;
  f->loader_up = !loader_ended(&c->loader);
  f->draining = c->phase == PHASE_SETTLING || c->phase == PHASE_DRAINING;
  f->log_lines = atomic_load_explicit(&c->log->lines, memory_order_relaxed);
  f->log_lost = log_lost(c->log);
  f->resident_bytes = resident_bytes();
  f->cpu_ms = cpu_ms();
  f->start_ms = c->start_wall_ms;
  f->descriptors_max = c->descriptors;
}

static void facts_parts(struct control *c, struct control_look *look) {
  struct metrics_facts *f = &look->in.facts;
  struct resolver_counts names;
  struct prober_counts health;
  struct tls_stats tls;
  resolver_counts_get(c->resolver, &names);
  prober_counts_get(c->prober, &health);
  tls_stats_get(&tls);
  struct tls_signer_stats signer;
  tls_signer_stats_get(&signer);
  f->health_targets = health.targets;
  f->health_under_way = health.under_way;
  f->ejected_percent = health.ejected_percent;
  f->ejected_deviation = health.ejected_deviation;
  f->names = names.names;
  f->names_unresolved = names.unresolved;
  f->queries = names.queries;
  f->query_failures = names.failures;
  memcpy(look->in.resolutions, names.results, sizeof names.results);
  struct resolver_view *views;
  look->in.name_count = resolver_views(c->resolver, &look->arena, METRICS_NAMES_MAX, &views);
  look->in.names = views;
  f->signer_waiting = signer.waiting;
  f->signer_signed = signer.signed_total;
  f->signer_dropped = signer.dropped_total;
  f->tls_bytes = tls.alloc_bytes;
  f->tls_allocations = tls.alloc_count;
  f->tls_cache_bytes = tls.cache_bytes;
}

/* streams_permille is of the worker that has the most; the first of each connection, which always
 * has a place, counts too. */
static uint64_t streams_permille(const struct control *c, const struct control_look *look) {
  uint64_t most = 0;
  for (uint32_t i = 0; i < c->workers.count; i++) {
    uint64_t open = atomic_load_explicit(&look->stats[i]->h2_streams, memory_order_relaxed);
    most = open > most ? open : most;
  }
  return permille(most, STREAMS_FURTHER);
}

static void facts_saturation(struct control *c, struct control_look *look) {
  struct metrics_facts *f = &look->in.facts;
  uint64_t down = STAT_SUM(&look->in, downstream_conns);
  uint64_t up = STAT_SUM(&look->in, upstream_conns);
  f->saturation_connections = permille(down, f->max_connections);
  uint64_t sockets = down + up + STAT_SUM(&look->in, udp_sessions);
  f->open_fds = open_fds();
  f->saturation_descriptors = permille(f->open_fds ? f->open_fds : sockets, c->descriptors);
  f->saturation_log = (uint64_t)log_fill_percent(c->log) * 10;
  f->saturation_streams = streams_permille(c, look);
  f->saturation_loop = busy_permille(c, look);
}

void control_look(struct control *c, struct control_look *look) {
  for (uint32_t i = 0; i < c->workers.count; i++) {
    look->stats[i] = worker_stats(c->workers.threads[i].worker);
    look->loops[i] = worker_loop_stats(c->workers.threads[i].worker);
  }
  arena_init(&look->arena, ARENA_PAGES, 0);
  pthread_mutex_lock(&c->compiler.published.lock);
  look->in = (struct metrics_input){.registry = c->registry,
                                    .snapshot = c->compiler.published.current,
                                    .stats = look->stats,
                                    .loops = look->loops,
                                    .workers = c->workers.count,
                                    .now_ms = clock_ms(),
                                    .wall_ms = clock_wall_ms()};
  facts_config(c, &look->in.facts);
  facts_process(c, &look->in.facts);
  facts_parts(c, look);
  facts_saturation(c, look);
}

void control_look_done(struct control *c, struct control_look *look) {
  pthread_mutex_unlock(&c->compiler.published.lock);
  arena_reset(&look->arena);
}
