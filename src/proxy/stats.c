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
  s->index = mem_array(STATS_INDEX, sizeof *s->index);
  size_t bytes = STATS_SERIES_MAX * sizeof(struct stats_series);
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(p != MAP_FAILED);
  s->series = p;
  atomic_store(&s->overflow[0].kind, STATS_SERVER);
  atomic_store(&s->overflow[1].kind, STATS_CLIENT);
}

void stats_fini(struct stats *s) {
  mem_free(s->index);
  munmap(s->series, STATS_SERIES_MAX * sizeof(struct stats_series));
}

/* series_home is where a lookup begins in the index. */
static uint32_t series_home(uint64_t kind, uint32_t a, uint32_t b, uint16_t labels) {
  uint64_t key = ((uint64_t)a << 32) | b;
  return (uint32_t)hash_mix(key, (kind << 16) | labels) & (STATS_INDEX - 1);
}

static uint16_t labels_of(uint8_t method, uint8_t status_class) {
  return (uint16_t)((method << 8) | status_class);
}

static bool series_is(const struct stats_series *e, enum stats_kind kind, uint32_t a, uint32_t b,
                      uint16_t labels) {
  return atomic_load_explicit(&e->kind, memory_order_relaxed) == kind && e->a == a && e->b == b &&
         labels_of(e->method, e->status_class) == labels;
}

/* series_take uses the lowest free row, so that pages are touched only for rows that live. */
static uint16_t series_take(struct stats *s) {
  uint16_t i = 0;
  while (atomic_load_explicit(&s->series[i].kind, memory_order_relaxed)) i++;
  s->series_live++;
  return i;
}

struct stats_series *stats_series_get(struct stats *s, enum stats_kind kind, uint32_t a,
                                      uint32_t b, uint8_t method, uint8_t status_class) {
  uint16_t labels = labels_of(method, status_class);
  uint32_t i = series_home(kind, a, b, labels);
  for (; s->index[i]; i = (i + 1) & (STATS_INDEX - 1)) {
    struct stats_series *e = &s->series[s->index[i] - 1];
    if (series_is(e, kind, a, b, labels)) return e;
  }
  if (s->series_live >= STATS_SERIES_MAX / 4 * 3) return &s->overflow[kind == STATS_CLIENT];
  uint16_t row = series_take(s);
  struct stats_series *e = &s->series[row];
  s->index[i] = (uint16_t)(row + 1);
  e->a = a;
  e->b = b;
  e->method = method;
  e->status_class = status_class;
  atomic_store_explicit(&e->kind, kind, memory_order_release);
  return e;
}

/* reindex builds the index anew from the rows that live. */
static void reindex(struct stats *s) {
  memset(s->index, 0, STATS_INDEX * sizeof *s->index);
  for (uint16_t row = 0; row < STATS_SERIES_MAX; row++) {
    const struct stats_series *e = &s->series[row];
    uint32_t kind = atomic_load_explicit(&e->kind, memory_order_relaxed);
    if (!kind) continue;
    uint32_t i = series_home(kind, e->a, e->b, labels_of(e->method, e->status_class));
    while (s->index[i]) i = (i + 1) & (STATS_INDEX - 1);
    s->index[i] = (uint16_t)(row + 1);
  }
}

void stats_forget(struct stats *s, enum stats_kind kind, uint32_t id) {
  uint32_t before = s->series_live;
  for (uint32_t row = 0; row < STATS_SERIES_MAX; row++) {
    struct stats_series *e = &s->series[row];
    if (atomic_load_explicit(&e->kind, memory_order_relaxed) != kind) continue;
    if (e->a != id && e->b != id) continue;
    atomic_store_explicit(&e->kind, 0, memory_order_release);
    memset((char *)e + sizeof e->kind, 0, sizeof *e - sizeof e->kind);
    s->series_live--;
  }
  if (s->series_live != before) reindex(s);
}
