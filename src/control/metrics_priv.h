/* metrics_priv.h: what is known about a running weir, for /metrics, the status page and `weir
 * status`. Counters are read from the workers' memory without disturbing them; names from the
 * registry, under published.lock. */
#ifndef WEIR_CONTROL_METRICS_PRIV_H
#define WEIR_CONTROL_METRICS_PRIV_H

#include "control/resolver_priv.h"
#include "weir/base/buf.h"
#include "weir/io/loop.h"
#include "weir/model/model.h"
#include "weir/proxy/stats.h"

/* metrics_facts is one value per row of metrics.def. */
struct metrics_facts {
#define FACT(field, name, type, unit, help) uint64_t field;
#include "control/metrics.def"
#undef FACT
};

/* Names that have series of their own. */
#define METRICS_NAMES_MAX 500u

/* metrics_input is all that the text is made of; the caller keeps it alive and still. */
struct metrics_input {
  struct registry *registry;
  const struct snapshot *snapshot; /* NULL before the first */
  const struct stats *const *stats; /* one per worker */
  const struct loop_stats *const *loops;
  uint32_t workers;
  uint64_t now_ms, wall_ms;
  const struct resolver_view *names; /* at most METRICS_NAMES_MAX */
  uint32_t name_count;
  uint64_t resolutions[RESOLVE_COUNT];
  struct metrics_facts facts;
};

/* metrics_write appends the Prometheus text (format 0.0.4). */
void metrics_write(struct text *out, const struct metrics_input *in);

/* metrics_names appends what is known about names (metrics_names.c). */
void metrics_names(struct text *out, const struct metrics_input *in);

/* metrics_label appends name="value" with \, " and line ends escaped. */
void metrics_label(struct text *out, const char *name, struct span value);
/* metrics_head appends HELP and TYPE of a metric. */
void metrics_head(struct text *out, struct span name, const char *type, const char *help);

/* metrics_grpc_write appends how gRPC calls ended (metrics_grpc.c). */
void metrics_grpc_write(struct text *out, const struct metrics_input *in);

/* stat_sum adds up one counter over all workers. */
uint64_t stat_sum(const struct metrics_input *in, size_t offset);
#define STAT_SUM(in, field) stat_sum((in), offsetof(struct stats, field))
uint64_t end_sum(const struct metrics_input *in, enum end end);

/* ---- metrics_limits.c ---- */

/* metrics_limits_write appends what rates counted; rate_sum adds up one counter of struct rate_row
 * over all workers. */
void metrics_limits_write(struct text *out, const struct metrics_input *in);
uint64_t rate_sum(const struct metrics_input *in, const struct rate_state *state, size_t offset);

/* ---- metrics_protect.c ---- */

struct breaker_told; /* upstream/breaker.h */
/* protect_write appends the metrics of circuit breakers and concurrency limits. */
void protect_write(struct text *out, const struct metrics_input *in);
/* protect_refused is what a pool's breaker, or its limit, refused. */
uint64_t protect_refused(const struct pool_state *state, bool by_breaker);
/* protect_since_wall_ms is when a breaker's state began; 0: at the start. */
uint64_t protect_since_wall_ms(const struct metrics_input *in, const struct breaker_told *told);

/* ---- series.c ---- */

/* series is one label set, summed over workers. */
struct series {
  uint32_t kind, a, b;
  uint8_t method, status_class;
  bool overflow;
  uint64_t buckets[STATS_BUCKETS + 1], sum_ns, count;
};

struct series_list {
  struct series *rows;
  uint32_t count, cap;
};

/* series_gather sums the series of all workers, sorted by kind, a, b, method, class. */
struct series_list series_gather(const struct metrics_input *in);
void series_free(struct series_list *list);

/* object_names finds the name of an object by id. Spans live while the objects do. */
struct object_name {
  uint32_t id;
  const struct object *object;
};
struct object_names {
  struct object_name *rows;
  uint32_t count, cap;
};
struct object_names object_names_gather(struct registry *r);
void object_names_free(struct object_names *names);
/* object_names_find is NULL for an id that is not (any more) an object. */
const struct object *object_names_find(const struct object_names *names, uint32_t id);

/* series_write appends both duration histograms. */
void series_write(struct text *out, const struct series_list *list,
                  const struct object_names *names);
/* histogram_write appends the lines of one histogram; labels is what stands before `le`, with its
 * comma, or empty. */
void histogram_write(struct text *out, const char *name, struct span labels,
                     const uint64_t *buckets, uint64_t sum_ns);

#endif
