/* metrics_grpc.c: how gRPC calls ended, for /metrics: by pool and status, at most one line for
 * each code of gRPC. Statuses that never came have no line. Called by metrics.c. */
#include "control/metrics_priv.h"

static uint64_t pool_sum(const struct metrics_input *in, const struct pool_state *state,
                         uint32_t status) {
  uint64_t sum = 0;
  for (uint32_t w = 0; w < in->workers; w++) {
    sum += atomic_load_explicit(&state->rows[w].grpc[status], memory_order_relaxed);
  }
  return sum;
}

static void sample(struct text *out, struct span pool, uint32_t status, uint64_t value) {
  if (!value) {
    return;
  }
  text_lit(out, "weir_grpc_responses_total{");
  metrics_label(out, "pool", pool);
  text_printf(out, "grpc_status=\"%u\"} %llu\n", status, (unsigned long long)value);
}

void metrics_grpc_write(struct text *out, const struct metrics_input *in) {
  uint32_t count = in->snapshot ? in->snapshot->pool_count : 0;
  metrics_head(out, SPAN_LIT("weir_grpc_responses_total"), "counter",
               "gRPC calls by how they ended; without a pool: those that weir ended before one");
  for (uint32_t status = 0; status < GRPC_STATUS_COUNT; status++) {
    sample(out, SPAN_EMPTY, status,
           stat_sum(in, offsetof(struct stats, grpc) + status * sizeof(_Atomic uint64_t)));
  }
  for (uint32_t i = 0; i < count; i++) {
    const struct pool *p = in->snapshot->pools[i];
    for (uint32_t status = 0; status < GRPC_STATUS_COUNT; status++) {
      sample(out, p->obj.name, status, pool_sum(in, p->state, status));
    }
  }
}
