/* metrics.c: the Prometheus text (exposition format 0.0.4) of everything in DESIGN.md section 8.
 * Rows come from proxy/stats.def, metrics.def, metrics_loop.def and base/end.def; label sets from
 * the registry. Does not: serve it (status.c) or collect facts (facts.c). */
#include "control/metrics_priv.h"

#include <stdio.h>

#include "control/health_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls_client_auth.h"
#include "weir/upstream/upstream.h"

enum unit { UNIT_COUNT, UNIT_MS, UNIT_NS, UNIT_PERMILLE };

struct metric_row {
  const char *name, *type, *help;
  enum unit unit;
  size_t offset;
};

static const struct metric_row stat_rows[] = {
#define STAT(field, name, type, help) \
  {name, type, help, UNIT_COUNT, offsetof(struct stats, field)},
#include "weir/proxy/stats.def"
#undef STAT
};

static const struct metric_row fact_rows[] = {
#define FACT(field, name, type, unit, help) \
  {name, type, help, UNIT_##unit, offsetof(struct metrics_facts, field)},
#include "control/metrics.def"
#undef FACT
};

static const struct metric_row loop_rows[] = {
#define LOOP(field, name, type, unit, help) {name, type, help, UNIT_##unit, 0},
#include "control/metrics_loop.def"
#undef LOOP
};

/* ---- reading ---- */

uint64_t stat_sum(const struct metrics_input *in, size_t offset) {
  uint64_t sum = 0;
  for (uint32_t w = 0; w < in->workers; w++) {
    const _Atomic uint64_t *at =
        (const _Atomic uint64_t *)(const void *)((const char *)in->stats[w] + offset);
    sum += atomic_load_explicit(at, memory_order_relaxed);
  }
  return sum;
}

uint64_t end_sum(const struct metrics_input *in, enum end end) {
  return stat_sum(in, offsetof(struct stats, ends) + (size_t)end * sizeof(_Atomic uint64_t));
}

static uint64_t loop_value(const struct loop_stats *s, const _Atomic uint64_t *field,
                           uint64_t now_ms) {
  return field == &s->lag_max_ns ? loop_lag_max_ns(s, now_ms) : loop_stat_get(field);
}

static void loop_values(const struct loop_stats *s, uint64_t now_ms, uint64_t *out) {
#define LOOP(field, name, type, unit, help) *out++ = loop_value(s, &s->field, now_ms);
#include "control/metrics_loop.def"
#undef LOOP
}

/* ---- writing ---- */

void metrics_label(struct text *out, const char *name, struct span value) {
  text_printf(out, "%s=\"", name);
  for (size_t from = 0; from < value.len;) {
    size_t to = from;
    while (to < value.len && value.ptr[to] != '\\' && value.ptr[to] != '"' &&
           value.ptr[to] != '\n') {
      to++;
    }
    text_put(out, span_sub(value, from, to - from));
    if (to < value.len) {
      text_put(out, value.ptr[to] == '\n'   ? SPAN_LIT("\\n")
                    : value.ptr[to] == '"' ? SPAN_LIT("\\\"")
                                           : SPAN_LIT("\\\\"));
      to++;
    }
    from = to;
  }
  text_lit(out, "\",");
}

void metrics_head(struct text *out, struct span name, const char *type, const char *help) {
  text_printf(out, "# HELP " SPAN_FMT " %s\n# TYPE " SPAN_FMT " %s\n", SPAN_ARG(name), help,
              SPAN_ARG(name), type);
}

static struct span base_name(const char *name) {
  struct span s = span_str(name);
  return span_sub(s, 0, span_find_char(s, '{', 0));
}

static void put_value(struct text *out, uint64_t value, enum unit unit) {
  unsigned long long v = value;
  switch (unit) {
    case UNIT_COUNT:
      text_printf(out, " %llu\n", v);
      return;
    case UNIT_MS:
    case UNIT_PERMILLE:
      text_printf(out, " %llu.%03llu\n", v / 1000, v % 1000);
      return;
    case UNIT_NS:
      text_printf(out, " %llu.%09llu\n", v / 1000000000, v % 1000000000);
      return;
  }
}

/* head_once writes HELP and TYPE when the row before has another name. */
static void head_once(struct text *out, const struct metric_row *rows, size_t i) {
  struct span base = base_name(rows[i].name);
  if (i == 0 || !span_eq(base, base_name(rows[i - 1].name))) {
    metrics_head(out, base, rows[i].type, rows[i].help);
  }
}

static void write_stats(struct text *out, const struct metrics_input *in) {
  for (size_t i = 0; i < array_count(stat_rows); i++) {
    head_once(out, stat_rows, i);
    text_put(out, span_str(stat_rows[i].name));
    put_value(out, stat_sum(in, stat_rows[i].offset), UNIT_COUNT);
  }
}

static void write_facts(struct text *out, const struct metrics_input *in) {
  for (size_t i = 0; i < array_count(fact_rows); i++) {
    uint64_t value;
    memcpy(&value, (const char *)&in->facts + fact_rows[i].offset, sizeof value);
    head_once(out, fact_rows, i);
    text_put(out, span_str(fact_rows[i].name));
    put_value(out, value, fact_rows[i].unit);
  }
}

static void write_loops(struct text *out, const struct metrics_input *in) {
  uint64_t *values = (uint64_t *)mem_array(in->workers * array_count(loop_rows), sizeof *values);
  for (uint32_t w = 0; w < in->workers; w++) {
    loop_values(in->loops[w], in->now_ms, values + w * array_count(loop_rows));
  }
  for (size_t i = 0; i < array_count(loop_rows); i++) {
    head_once(out, loop_rows, i);
    for (uint32_t w = 0; w < in->workers; w++) {
      text_printf(out, "%s{worker=\"%u\"}", loop_rows[i].name, w);
      put_value(out, values[w * array_count(loop_rows) + i], loop_rows[i].unit);
    }
  }
  mem_free(values);
}

static void write_ends(struct text *out, const struct metrics_input *in) {
  metrics_head(out, SPAN_LIT("weir_request_end_total"), "counter",
               "Requests by what weir did with them");
  for (enum end e = 0; e < END_COUNT; e++) {
    text_printf(out, "weir_request_end_total{end=\"" SPAN_FMT "\"} %llu\n",
                SPAN_ARG(end_get(e)->word), (unsigned long long)end_sum(in, e));
  }
}

static void write_overhead(struct text *out, const struct metrics_input *in) {
  uint64_t buckets[STATS_BUCKETS + 1];
  for (size_t i = 0; i <= STATS_BUCKETS; i++) {
    buckets[i] = stat_sum(in, offsetof(struct stats, overhead.buckets) +
                                  i * sizeof(_Atomic uint64_t));
  }
  metrics_head(out, SPAN_LIT("weir_proxy_overhead_seconds"), "histogram",
               "Time of a request that was neither the client's nor the endpoint's");
  histogram_write(out, "weir_proxy_overhead_seconds", SPAN_EMPTY, buckets,
                  STAT_SUM(in, overhead.sum_ns));
}

/* ---- listeners, pools, endpoints, certificates ---- */

struct each {
  struct text *out;
  const struct metrics_input *in;
  int column;
};

static uint64_t listener_value(const struct metrics_input *in, const struct listener_state *l,
                               int column) {
  uint64_t sum = 0;
  for (uint32_t w = 0; w < in->workers; w++) {
    const struct listener_row *row = &l->rows[w];
    const _Atomic uint64_t *wide = column == 0 ? &row->accepted : &row->refused;
    sum += column == 2 ? atomic_load_explicit(&row->conns, memory_order_relaxed)
                       : atomic_load_explicit(wide, memory_order_relaxed);
  }
  return sum;
}

static const struct metric_row listener_rows[] = {
    {"weir_listener_connections_total", "counter", "Connections accepted", UNIT_COUNT, 0},
    {"weir_listener_connections_refused_total", "counter", "Connections refused", UNIT_COUNT, 0},
    {"weir_listener_connections", "gauge", "Connections open", UNIT_COUNT, 0},
};

static void write_listener(struct object *o, void *ctx) {
  const struct each *each = (const struct each *)ctx;
  const struct listener_state *l = container_of(o, struct listener_state, obj);
  struct text *out = each->out;
  text_printf(out, "%s{", listener_rows[each->column].name);
  metrics_label(out, "listener", o->name);
  out->len--; /* the last comma */
  text_lit(out, "}");
  put_value(out, listener_value(each->in, l, each->column), UNIT_COUNT);
}

static const struct metric_row endpoint_rows[] = {
    {"weir_endpoint_up", "gauge", "1 if the endpoint is in service", UNIT_COUNT, 0},
    {"weir_endpoint_requests_inflight", "gauge", "Requests being worked on", UNIT_COUNT, 0},
    {"weir_endpoint_connections", "gauge", "Connections open", UNIT_COUNT, 0},
    {"weir_endpoint_ejections_total", "counter", "Times taken out of service", UNIT_COUNT, 0},
    {"weir_endpoint_requests_total", "counter", "Requests sent", UNIT_COUNT, 0},
    {"weir_endpoint_failures_total", "counter", "Requests that failed", UNIT_COUNT, 0},
    {"weir_endpoint_connects_total", "counter", "Connections started", UNIT_COUNT, 0},
    {"weir_endpoint_reused_total", "counter", "Requests on an idle connection", UNIT_COUNT, 0},
};

static uint64_t endpoint_sum(const struct metrics_input *in, const struct endpoint *e,
                             int column) {
  uint64_t sum = 0;
  for (uint32_t w = 0; w < in->workers; w++) {
    const struct endpoint_row *row = &e->rows[w];
    const _Atomic uint64_t *at = column == 4   ? &row->requests
                                 : column == 5 ? &row->failures
                                 : column == 6 ? &row->connects
                                               : &row->reused;
    sum += column == 1 ? atomic_load_explicit(&row->inflight, memory_order_relaxed)
                       : atomic_load_explicit(at, memory_order_relaxed);
  }
  return sum;
}

static uint64_t endpoint_value(const struct metrics_input *in, const struct endpoint *e,
                               int column) {
  switch (column) {
    case 0:
      return endpoint_in_service(e, in->now_ms);
    case 2:
      return atomic_load_explicit(&e->permits, memory_order_relaxed);
    case 3:
      return atomic_load_explicit(&e->ejections, memory_order_relaxed);
    default:
      return endpoint_sum(in, e, column);
  }
}

static void write_endpoint(struct object *o, void *ctx) {
  const struct each *each = (const struct each *)ctx;
  const struct endpoint *e = container_of(o, struct endpoint, obj);
  struct text *out = each->out;
  text_printf(out, "%s{", endpoint_rows[each->column].name);
  metrics_label(out, "pool", e->pool);
  metrics_label(out, "endpoint", e->label);
  metrics_label(out, "address", e->text);
  out->len--;
  text_lit(out, "}");
  put_value(out, endpoint_value(each->in, e, each->column), UNIT_COUNT);
}

static void write_objects(struct text *out, const struct metrics_input *in) {
  struct each each = {.out = out, .in = in};
  for (size_t i = 0; i < array_count(listener_rows); i++) {
    each.column = (int)i;
    head_once(out, listener_rows, i);
    registry_each(in->registry, OBJECT_LISTENER_STATE, write_listener, &each);
  }
  for (size_t i = 0; i < array_count(endpoint_rows); i++) {
    each.column = (int)i;
    head_once(out, endpoint_rows, i);
    registry_each(in->registry, OBJECT_ENDPOINT, write_endpoint, &each);
  }
}

static void write_certificates(struct text *out, const struct metrics_input *in) {
  metrics_head(out, SPAN_LIT("weir_tls_certificate_expiry_seconds"), "gauge",
               "When the certificate ends, since the epoch");
  for (uint32_t i = 0; in->snapshot && i < in->snapshot->listener_count; i++) {
    const struct listener *l = in->snapshot->listeners[i].listener;
    struct span label;
    int64_t not_after;
    for (uint32_t k = 0; l->tls && tls_server_cert(l->tls, k, &label, &not_after); k++) {
      text_lit(out, "weir_tls_certificate_expiry_seconds{");
      metrics_label(out, "listener", l->obj.name);
      metrics_label(out, "certificate", label);
      out->len--;
      text_printf(out, "} %lld\n", (long long)not_after);
    }
  }
}

static void write_stapling(struct text *out, const struct metrics_input *in) {
  metrics_head(out, SPAN_LIT("weir_tls_ocsp_expiry_seconds"), "gauge",
               "When the certificate's OCSP response ends, since the epoch");
  for (uint32_t i = 0; in->snapshot && i < in->snapshot->listener_count; i++) {
    const struct listener *l = in->snapshot->listeners[i].listener;
    struct span label, staple;
    int64_t not_after, next;
    for (uint32_t k = 0; l->tls && tls_server_cert(l->tls, k, &label, &not_after); k++) {
      if (!tls_server_ocsp(l->tls, k, &staple, &next)) continue;
      text_lit(out, "weir_tls_ocsp_expiry_seconds{");
      metrics_label(out, "listener", l->obj.name);
      metrics_label(out, "certificate", label);
      out->len--;
      text_printf(out, "} %lld\n", (long long)next);
    }
  }
}

static void write_crls(struct text *out, const struct metrics_input *in) {
  metrics_head(out, SPAN_LIT("weir_tls_client_crl_expiry_seconds"), "gauge",
               "When the first CRL for client certificates runs out, since the epoch");
  for (uint32_t i = 0; in->snapshot && i < in->snapshot->listener_count; i++) {
    const struct listener *l = in->snapshot->listeners[i].listener;
    struct span label;
    int64_t next;
    for (uint32_t k = 0; l->tls && tls_server_crl(l->tls, k, &label, &next); k++) {
      if (next == INT64_MAX) continue;
      text_lit(out, "weir_tls_client_crl_expiry_seconds{");
      metrics_label(out, "listener", l->obj.name);
      metrics_label(out, "crl", label);
      out->len--;
      text_printf(out, "} %lld\n", (long long)next);
    }
  }
}

static const struct metric_row pool_rows[] = {
    {"weir_pool_requests_total", "counter", "Requests that were given to the pool", UNIT_COUNT,
     offsetof(struct pool_row, requests)},
    {"weir_pool_panics_total", "counter", "Choices among all endpoints: too few were in service",
     UNIT_COUNT, offsetof(struct pool_row, panics)},
    {"weir_pool_sticky_kept_total", "counter", "Requests that went where their cookie said",
     UNIT_COUNT, offsetof(struct pool_row, sticky_kept)},
    {"weir_pool_sticky_set_total", "counter", "Responses with a new sticky cookie", UNIT_COUNT,
     offsetof(struct pool_row, sticky_set)},
    {"weir_pool_queue_seconds_total", "counter", "Time spent in the pool's queue", UNIT_NS,
     offsetof(struct pool_row, queue_ns)},
    {"weir_pool_queued_total", "counter", "Requests that were in the queue", UNIT_COUNT,
     offsetof(struct pool_row, queue_count)},
    {"weir_pool_retries_total", "counter", "Attempts made again", UNIT_COUNT,
     offsetof(struct pool_row, retries)},
    {"weir_pool_retries_refused_total", "counter", "Attempts that the budget refused", UNIT_COUNT,
     offsetof(struct pool_row, retries_refused)},
};

static uint64_t pool_value(const struct metrics_input *in, const struct pool_state *state,
                           size_t offset) {
  uint64_t sum = 0;
  for (uint32_t w = 0; w < in->workers; w++) {
    const char *row = (const char *)&state->rows[w];
    sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)(row + offset),
                                memory_order_relaxed);
  }
  return sum;
}

static void write_pool(struct text *out, const struct metric_row *row, const struct pool *p,
                       uint64_t value) {
  text_printf(out, "%s{", row->name);
  metrics_label(out, "pool", p->obj.name);
  out->len--;
  text_lit(out, "}");
  put_value(out, value, row->unit);
}

/* pool_gauges: what is now; the values stand in write_gauges. */
static const struct metric_row pool_gauges[] = {
    {"weir_pool_unresolved_names", "gauge", "Endpoints of the pool whose name has no address",
     UNIT_COUNT, 0},
    {"weir_pool_queue", "gauge", "Requests that wait in the pool's queue", UNIT_COUNT, 0},
    {"weir_pool_endpoints", "gauge", "Endpoints of the pool", UNIT_COUNT, 0},
};

static void write_gauges(struct text *out, const struct snapshot *snap, uint32_t count) {
  for (size_t r = 0; r < array_count(pool_gauges); r++) {
    head_once(out, pool_gauges, r);
    for (uint32_t i = 0; i < count; i++) {
      const struct pool *p = snap->pools[i];
      uint32_t waiting = atomic_load_explicit(&p->state->waiting, memory_order_relaxed);
      const uint64_t values[] = {p->unresolved, waiting, p->member_count};
      write_pool(out, &pool_gauges[r], p, values[r]);
    }
  }
}

static void write_pools(struct text *out, const struct metrics_input *in) {
  uint32_t count = in->snapshot ? in->snapshot->pool_count : 0;
  write_gauges(out, in->snapshot, count);
  for (size_t r = 0; r < array_count(pool_rows); r++) {
    head_once(out, pool_rows, r);
    for (uint32_t i = 0; i < count; i++) {
      const struct pool *p = in->snapshot->pools[i];
      write_pool(out, &pool_rows[r], p, pool_value(in, p->state, pool_rows[r].offset));
    }
  }
}

/* pool_sample begins a line: name{pool="...",label="value"} */
static void pool_sample(struct text *out, const char *name, const struct pool *p,
                        const char *label, const char *value) {
  text_printf(out, "%s{", name);
  metrics_label(out, "pool", p->obj.name);
  metrics_label(out, label, span_str(value));
  out->len--;
  text_lit(out, "}");
}

/* Counters are there from the start, with 0, for pools that are checked. */
static void write_health(struct text *out, const struct metrics_input *in) {
  static const char *const to[] = {"down", "up"};
  uint32_t count = in->snapshot ? in->snapshot->pool_count : 0;
  metrics_head(out, SPAN_LIT("weir_health_checks_total"), "counter",
               "Active health checks by how they ended");
  for (uint32_t i = 0; i < count; i++) {
    const struct pool *p = in->snapshot->pools[i];
    for (uint32_t r = 0; p->health.on && r < PROBE_COUNT; r++) {
      pool_sample(out, "weir_health_checks_total", p, "result",
                  probe_label((enum probe_result)r));
      put_value(out, p->state->checks[r], UNIT_COUNT);
    }
  }
  metrics_head(out, SPAN_LIT("weir_health_changes_total"), "counter",
               "Endpoints that active health checks found up or down, when they were not");
  for (uint32_t i = 0; i < count; i++) {
    const struct pool *p = in->snapshot->pools[i];
    for (uint32_t k = 0; p->health.on && k < array_count(to); k++) {
      pool_sample(out, "weir_health_changes_total", p, "to", to[k]);
      put_value(out, p->state->changes[k], UNIT_COUNT);
    }
  }
}

static void write_build(struct text *out) {
  metrics_head(out, SPAN_LIT("weir_build_info"), "gauge", "What runs; always 1");
  text_lit(out, "weir_build_info{");
  metrics_label(out, "version", SPAN_LIT(WEIR_VERSION));
  metrics_label(out, "profile", SPAN_LIT(WEIR_PROFILE));
  metrics_label(out, "tls", span_str(tls_library()));
  out->len--;
  text_lit(out, "} 1\n");
}

void metrics_write(struct text *out, const struct metrics_input *in) {
  struct series_list series = series_gather(in);
  struct object_names names = object_names_gather(in->registry);
  write_build(out);
  series_write(out, &series, &names);
  write_overhead(out, in);
  write_ends(out, in);
  write_stats(out, in);
  write_objects(out, in);
  write_pools(out, in);
  write_health(out, in);
  metrics_grpc_write(out, in);
  metrics_limits_write(out, in);
  protect_write(out, in);
  write_certificates(out, in);
  write_stapling(out, in);
  write_crls(out, in);
  write_facts(out, in);
  metrics_names(out, in);
  write_loops(out, in);
  object_names_free(&names);
  series_free(&series);
}
