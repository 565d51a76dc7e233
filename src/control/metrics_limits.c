/* metrics_limits.c: what the rates of policies let pass and refused, for /metrics. Rows are the
 * policies of the newest snapshot: a rate that was changed begins at 0. Called by metrics.c. */
#include "control/metrics_priv.h"

uint64_t rate_sum(const struct metrics_input *in, const struct rate_state *state, size_t offset) {
  uint64_t sum = 0;
  for (uint32_t w = 0; w < in->workers; w++) {
    const char *row = (const char *)&state->rows[w];
    sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)(row + offset),
                                memory_order_relaxed);
  }
  return sum;
}

/* sample writes one line: name{policy="...",result="..."} value; result NULL: without. */
static void sample(struct text *out, const char *name, const struct policy *policy,
                   const char *result, uint64_t value) {
  text_printf(out, "%s{", name);
  metrics_label(out, "policy", policy->obj.name);
  if (result) {
    metrics_label(out, "result", span_str(result));
  }
  out->len--; /* the last comma */
  text_printf(out, "} %llu\n", (unsigned long long)value);
}

static const struct {
  const char *result;
  size_t offset;
} results[] = {{"passed", offsetof(struct rate_row, passed)},
               {"refused", offsetof(struct rate_row, refused)},
               {"dry_run", offsetof(struct rate_row, observed)}};

void metrics_limits_write(struct text *out, const struct metrics_input *in) {
  uint32_t count = in->snapshot ? in->snapshot->policy_count : 0;
  metrics_head(out, SPAN_LIT("weir_rate_requests_total"), "counter",
               "Requests, connections and sessions of UDP that a policy's rate let pass, refused, "
               "or would have refused");
  for (uint32_t i = 0; i < count; i++) {
    const struct policy *p = in->snapshot->policies[i];
    for (size_t r = 0; p->rate.state && r < array_count(results); r++) {
      sample(out, "weir_rate_requests_total", p, results[r].result,
             rate_sum(in, p->rate.state, results[r].offset));
    }
  }
  metrics_head(out, SPAN_LIT("weir_rate_shared_total"), "counter",
               "Of those whose key found no place in the table (rate.entries) and shared a count");
  for (uint32_t i = 0; i < count; i++) {
    const struct policy *p = in->snapshot->policies[i];
    if (p->rate.state) {
      sample(out, "weir_rate_shared_total", p, NULL,
             rate_sum(in, p->rate.state, offsetof(struct rate_row, shared)));
    }
  }
}
