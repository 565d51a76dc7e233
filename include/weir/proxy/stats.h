/* stats.h: counters of one worker. Written by its thread alone (relaxed stores), read by the
 * control thread at a scrape. No cache line is written by two workers. A series is created on its
 * first request from a preallocated table with a hard cap; what does not fit counts in the
 * overflow row. */
#ifndef WEIR_PROXY_STATS_H
#define WEIR_PROXY_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "weir/base/end.h"
#include "weir/http/grpc.h"
#include "weir/http/message.h"

/* Upper bounds of DESIGN.md section 8 in ns; the last bucket is +Inf. */
#define STATS_BUCKETS 14u
extern const uint64_t stats_bounds_ns[STATS_BUCKETS];
extern const char *const stats_bounds_text[STATS_BUCKETS]; /* "0.0005" ... */

/* stats_histogram: buckets are not cumulative. */
struct stats_histogram {
  _Atomic uint64_t buckets[STATS_BUCKETS + 1];
  _Atomic uint64_t sum_ns;
};
void stats_observe(struct stats_histogram *h, uint64_t ns);

enum stats_kind { STATS_SERVER = 1, STATS_CLIENT = 2 };

/* stats_series: server (listener, route, method, status class) or client (pool, endpoint). The ids
 * are object ids of model/object.h; 0 where there is none (no route). */
struct stats_series {
  _Atomic uint32_t kind; /* enum stats_kind, stored last (release); 0: free */
  uint32_t a, b;         /* listener_state id, route_state id; or pool_state id, endpoint id */
  uint8_t method;        /* enum http_method */
  uint8_t status_class;  /* 1 to 5; 0: none was sent */
  struct stats_histogram latency;
};
#define STATS_SERIES_MAX 4096u
#define STATS_INDEX 8192u

#define STAT(id, name, kind, help) _Atomic uint64_t id;
struct stats {
#include "weir/proxy/stats.def"
  _Atomic uint64_t ends[END_COUNT];
  _Atomic uint64_t grpc[GRPC_STATUS_COUNT]; /* calls that reached no pool, by how they ended */
  struct stats_histogram
      overhead; /* weir's own share of a request: total less upstream and client waits */
  struct stats_series *series; /* STATS_SERIES_MAX rows, low ones first */
  uint16_t *index;             /* STATS_INDEX slots, open addressing: row + 1, 0: free */
  uint32_t series_live;
  struct stats_series overflow[2];
};
#undef STAT

static inline void stat_add(_Atomic uint64_t *counter, uint64_t n) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                        memory_order_relaxed);
}
static inline void stat_sub(_Atomic uint64_t *counter, uint64_t n) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) - n,
                        memory_order_relaxed);
}

void stats_init(struct stats *s);
void stats_fini(struct stats *s);
/* stats_series_get finds or creates; never NULL (the overflow row at the cap). Worker only. */
struct stats_series *stats_series_get(struct stats *s, enum stats_kind kind, uint32_t a,
                                      uint32_t b, uint8_t method, uint8_t status_class);
/* stats_forget drops the series that name object `id` (its object is gone). Worker only. */
void stats_forget(struct stats *s, enum stats_kind kind, uint32_t id);

#endif
