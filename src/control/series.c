/* series.c: the duration histograms by label set: gathered from the workers' tables, summed,
 * named, written. Does not: lock (the caller holds what keeps objects alive). Called by metrics.c
 * and view.c. */
#include <stdio.h>
#include <stdlib.h>

#include "control/metrics_priv.h"
#include "weir/base/mem.h"

/* ---- gathering ---- */

static void add(struct series *to, const struct stats_histogram *from) {
  for (uint32_t i = 0; i <= STATS_BUCKETS; i++) {
    uint64_t n = atomic_load_explicit(&from->buckets[i], memory_order_relaxed);
    to->buckets[i] += n;
    to->count += n;
  }
  to->sum_ns += atomic_load_explicit(&from->sum_ns, memory_order_relaxed);
}

static void take(struct series_list *list, const struct stats_series *from, bool overflow) {
  uint32_t kind = atomic_load_explicit(&from->kind, memory_order_acquire);
  if (!kind) {
    return;
  }
  if (list->count == list->cap) {
    list->cap = list->cap ? 2 * list->cap : 64;
    list->rows = (struct series *)mem_grow(list->rows, list->cap, sizeof *list->rows);
  }
  struct series *row = &list->rows[list->count];
  *row = (struct series){.kind = kind,
                         .a = from->a,
                         .b = from->b,
                         .method = from->method,
                         .status_class = from->status_class,
                         .overflow = overflow};
  add(row, &from->latency);
  list->count += overflow && !row->count ? 0 : 1;
}

static uint64_t label_key(const struct series *s) {
  return (uint64_t)s->kind << 24 | (uint64_t)s->overflow << 16 | (uint64_t)s->method << 8 |
         s->status_class;
}

static int compare(const void *a, const void *b) {
  const struct series *x = (const struct series *)a, *y = (const struct series *)b;
  if (x->kind != y->kind) {
    return x->kind < y->kind ? -1 : 1;
  }
  if (x->a != y->a) {
    return x->a < y->a ? -1 : 1;
  }
  if (x->b != y->b) {
    return x->b < y->b ? -1 : 1;
  }
  return label_key(x) < label_key(y) ? -1 : label_key(x) > label_key(y);
}

static void merge(struct series_list *list) {
  uint32_t to = 0;
  for (uint32_t i = 1; i < list->count; i++) {
    const struct series *from = &list->rows[i];
    if (compare(&list->rows[to], from) != 0) {
      list->rows[++to] = *from;
      continue;
    }
    for (uint32_t k = 0; k <= STATS_BUCKETS; k++) {
      list->rows[to].buckets[k] += from->buckets[k];
    }
    list->rows[to].sum_ns += from->sum_ns;
    list->rows[to].count += from->count;
  }
  list->count = list->count ? to + 1 : 0;
}

struct series_list series_gather(const struct metrics_input *in) {
  struct series_list list = {.count = 0};
  for (uint32_t w = 0; w < in->workers; w++) {
    for (uint32_t i = 0; i < STATS_SERIES_MAX; i++) {
      take(&list, &in->stats[w]->series[i], false);
    }
    take(&list, &in->stats[w]->overflow[0], true);
    take(&list, &in->stats[w]->overflow[1], true);
  }
  if (list.count) {
    qsort(list.rows, list.count, sizeof *list.rows, compare);
  }
  merge(&list);
  return list;
}

void series_free(struct series_list *list) { mem_free(list->rows); }

/* ---- names ---- */

static void add_name(struct object *o, void *ctx) {
  struct object_names *names = (struct object_names *)ctx;
  if (names->count == names->cap) {
    names->cap = names->cap ? 2 * names->cap : 64;
    names->rows = (struct object_name *)mem_grow(names->rows, names->cap, sizeof *names->rows);
  }
  names->rows[names->count++] = (struct object_name){o->id, o};
}

static int compare_names(const void *a, const void *b) {
  uint32_t x = ((const struct object_name *)a)->id, y = ((const struct object_name *)b)->id;
  return x < y ? -1 : x > y;
}

struct object_names object_names_gather(struct registry *r) {
  static const enum object_kind kinds[] = {OBJECT_ROUTE_STATE, OBJECT_LISTENER_STATE,
                                           OBJECT_POOL_STATE, OBJECT_ENDPOINT};
  struct object_names names = {.count = 0};
  for (size_t i = 0; i < array_count(kinds); i++) {
    registry_each(r, kinds[i], add_name, &names);
  }
  if (names.count) {
    qsort(names.rows, names.count, sizeof *names.rows, compare_names);
  }
  return names;
}

void object_names_free(struct object_names *names) { mem_free(names->rows); }

const struct object *object_names_find(const struct object_names *names, uint32_t id) {
  const struct object_name key = {.id = id};
  if (!names->count) {
    return NULL;
  }
  const struct object_name *found = (const struct object_name *)bsearch(
      &key, names->rows, names->count, sizeof key, compare_names);
  return found ? found->object : NULL;
}

/* ---- writing ---- */

static void put_seconds(struct text *out, uint64_t ns) {
  text_printf(out, "%llu.%09llu", (unsigned long long)(ns / 1000000000),
              (unsigned long long)(ns % 1000000000));
}

void histogram_write(struct text *out, const char *name, struct span labels,
                     const uint64_t *buckets, uint64_t sum_ns) {
  uint64_t total = 0;
  struct span bare = labels.len ? span_sub(labels, 0, labels.len - 1) : labels;
  const char *open = bare.len ? "{" : "", *close = bare.len ? "}" : "";
  for (uint32_t i = 0; i <= STATS_BUCKETS; i++) {
    total += buckets[i];
    text_printf(out, "%s_bucket{" SPAN_FMT "le=\"%s\"} %llu\n", name, SPAN_ARG(labels),
                i < STATS_BUCKETS ? stats_bounds_text[i] : "+Inf", (unsigned long long)total);
  }
  text_printf(out, "%s_sum%s" SPAN_FMT "%s ", name, open, SPAN_ARG(bare), close);
  put_seconds(out, sum_ns);
  text_printf(out, "\n%s_count%s" SPAN_FMT "%s %llu\n", name, open, SPAN_ARG(bare), close,
              (unsigned long long)total);
}

static struct span name_or(const struct object *o, bool overflow) {
  return overflow ? SPAN_LIT("_other") : o ? o->name : SPAN_EMPTY;
}

static void server_labels(struct text *out, const struct series *s,
                          const struct object_names *names) {
  struct span method = http_method_text((enum http_method)s->method);
  char status[8];
  (void)snprintf(status, sizeof status, "%uxx", s->status_class);
  metrics_label(out, "listener", name_or(object_names_find(names, s->a), s->overflow));
  metrics_label(out, "route", name_or(object_names_find(names, s->b), s->overflow));
  metrics_label(out, "method", method.len && !s->overflow ? method : SPAN_LIT("_OTHER"));
  metrics_label(out, "status", s->status_class ? span_str(status) : SPAN_LIT("none"));
}

static void client_labels(struct text *out, const struct series *s,
                          const struct object_names *names) {
  const struct object *o = object_names_find(names, s->b);
  bool is_endpoint = o && o->kind == OBJECT_ENDPOINT;
  const struct endpoint *e =
      is_endpoint ? (const struct endpoint *)(const void *)o : NULL;
  metrics_label(out, "pool", e && !s->overflow ? e->pool : name_or(NULL, s->overflow));
  metrics_label(out, "endpoint", e && !s->overflow ? e->label : name_or(NULL, s->overflow));
}

/* gone: its object has ended, the workers are about to forget it; id 0 is nobody's. */
static bool gone(const struct series *s, const struct object_names *names) {
  bool a = s->a && !object_names_find(names, s->a), b = s->b && !object_names_find(names, s->b);
  return !s->overflow && (a || b);
}

void series_write(struct text *out, const struct series_list *list,
                  const struct object_names *names) {
  static const char *const metric[] = {[STATS_SERVER] = "http_server_request_duration_seconds",
                                       [STATS_CLIENT] = "http_client_request_duration_seconds"};
  static const char *const help[] = {
      [STATS_SERVER] = "Requests of clients, from the first byte to the end",
      [STATS_CLIENT] = "Requests to endpoints, from the request sent to the end of the response"};
  for (uint32_t kind = STATS_SERVER; kind <= STATS_CLIENT; kind++) {
    metrics_head(out, span_str(metric[kind]), "histogram", help[kind]);
    for (uint32_t i = 0; i < list->count; i++) {
      const struct series *s = &list->rows[i];
      if (s->kind != kind || gone(s, names)) {
        continue;
      }
      struct text labels = {.ptr = NULL};
      if (kind == STATS_SERVER) {
        server_labels(&labels, s, names);
      } else {
        client_labels(&labels, s, names);
      }
      histogram_write(out, metric[kind], text_span(&labels), s->buckets, s->sum_ns);
      text_fini(&labels);
    }
  }
}
