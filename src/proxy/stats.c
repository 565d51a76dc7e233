/* stats.c: counters and series of one worker. See stats.h for who writes and reads. */
#include "weir/proxy/stats.h"

#include <sys/mman.h>

#include "weir/base/hash.h"
#include "weir/base/mem.h"

/* BOUND(ns, text): the buckets of DESIGN.md section 8. */
#define BOUNDS(BOUND)                                                                       \
  BOUND(500000u, "0.0005") BOUND(1000000u, "0.001") BOUND(2500000u, "0.0025")               \
  BOUND(5000000u, "0.005") BOUND(10000000u, "0.01") BOUND(25000000u, "0.025")               \
  BOUND(50000000u, "0.05") BOUND(100000000u, "0.1") BOUND(250000000u, "0.25")               \
  BOUND(500000000u, "0.5") BOUND(1000000000u, "1") BOUND(2500000000u, "2.5")                \
  BOUND(5000000000u, "5") BOUND(10000000000u, "10")

#define NS(ns, text) ns,
#define TEXT(ns, text) text,
const uint64_t stats_bounds_ns[STATS_BUCKETS] = {BOUNDS(NS)};
const char *const stats_bounds_text[STATS_BUCKETS] = {BOUNDS(TEXT)};

void stats_observe(struct stats_histogram *h, uint64_t ns) {
  uint32_t i = 0;
  while (i < STATS_BUCKETS && ns > stats_bounds_ns[i]) i++;
  stat_add(&h->buckets[i], 1);
  stat_add(&h->sum_ns, ns);
}

void stats_init(struct stats *s) {
  memset(s, 0, sizeof *s);
  size_t bytes = STATS_SERIES_MAX * sizeof(struct stats_series);
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(p != MAP_FAILED);
  s->series = p;
  atomic_store(&s->overflow[0].kind, STATS_SERVER);
  atomic_store(&s->overflow[1].kind, STATS_CLIENT);
}

void stats_fini(struct stats *s) {
  munmap(s->series, STATS_SERIES_MAX * sizeof(struct stats_series));
}

static uint32_t series_slot(uint64_t kind, uint32_t a, uint32_t b, uint8_t method, uint8_t class) {
  uint64_t key = ((uint64_t)a << 32) | b;
  uint64_t rest = (kind << 16) | ((uint64_t)method << 8) | class;
  return (uint32_t)hash_mix(key, rest) & (STATS_SERIES_MAX - 1);
}

static bool series_is(const struct stats_series *e, enum stats_kind kind, uint32_t a, uint32_t b,
                      uint16_t labels) {
  uint16_t have = (uint16_t)((e->method << 8) | e->status_class);
  return atomic_load_explicit(&e->kind, memory_order_relaxed) == kind && e->a == a && e->b == b &&
         have == labels;
}

struct stats_series *stats_series_get(struct stats *s, enum stats_kind kind, uint32_t a,
                                      uint32_t b, uint8_t method, uint8_t status_class) {
  uint16_t labels = (uint16_t)((method << 8) | status_class);
  uint32_t i = series_slot(kind, a, b, method, status_class);
  for (uint32_t n = 0; n < STATS_SERIES_MAX; n++, i = (i + 1) & (STATS_SERIES_MAX - 1)) {
    struct stats_series *e = &s->series[i];
    if (series_is(e, kind, a, b, labels)) return e;
    if (atomic_load_explicit(&e->kind, memory_order_relaxed)) continue;
    if (s->series_live >= STATS_SERIES_MAX / 4 * 3) break;
    e->a = a;
    e->b = b;
    e->method = method;
    e->status_class = status_class;
    s->series_live++;
    atomic_store_explicit(&e->kind, kind, memory_order_release);
    return e;
  }
  return &s->overflow[kind == STATS_CLIENT];
}

/* series_move puts the run behind a hole back where lookups find it (linear probing). */
static void series_close_hole(struct stats *s, uint32_t hole) {
  uint32_t i = hole;
  for (uint32_t n = 0; n < STATS_SERIES_MAX; n++) {
    i = (i + 1) & (STATS_SERIES_MAX - 1);
    struct stats_series *e = &s->series[i];
    uint32_t kind = atomic_load_explicit(&e->kind, memory_order_relaxed);
    if (!kind) return;
    uint32_t home = series_slot(kind, e->a, e->b, e->method, e->status_class);
    if (((i - home) & (STATS_SERIES_MAX - 1)) < ((i - hole) & (STATS_SERIES_MAX - 1))) continue;
    struct stats_series *to = &s->series[hole];
    memcpy((char *)to + sizeof to->kind, (char *)e + sizeof e->kind, sizeof *e - sizeof e->kind);
    atomic_store_explicit(&to->kind, kind, memory_order_release);
    atomic_store_explicit(&e->kind, 0, memory_order_release);
    memset((char *)e + sizeof e->kind, 0, sizeof *e - sizeof e->kind);
    hole = i;
  }
}

void stats_forget(struct stats *s, enum stats_kind kind, uint32_t id) {
  for (uint32_t i = 0; i < STATS_SERIES_MAX; i++) {
    struct stats_series *e = &s->series[i];
    if (atomic_load_explicit(&e->kind, memory_order_relaxed) != kind) continue;
    if (e->a != id && e->b != id) continue;
    atomic_store_explicit(&e->kind, 0, memory_order_release);
    memset((char *)e + sizeof e->kind, 0, sizeof *e - sizeof e->kind);
    s->series_live--;
    series_close_hole(s, i);
    i--; /* the slot may have been filled again */
  }
}
