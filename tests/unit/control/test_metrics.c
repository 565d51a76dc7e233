/* Tests of control/metrics.c and series.c: the text is parsed here by the rules of the exposition
 * format, and its figures are compared with what was counted. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control/metrics_priv.h"
#include "weir/base/mem.h"

#define WORKERS 2u
#define ROWS_MAX 4000u

/* ---- a small strict parser ---- */

struct row {
  struct span name, labels; /* labels: inside of the braces */
  double value;
};

struct page {
  struct text text;
  struct row rows[ROWS_MAX];
  uint32_t count;
  struct span types[400]; /* "name type" */
  uint32_t type_count;
};

static bool name_ok(struct span s) {
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    if (!(isalpha(c) || c == '_' || c == ':' || (i && isdigit(c)))) {
      return false;
    }
  }
  return s.len > 0;
}

/* labels_end checks name="value",... and gives the index of the closing brace. */
static size_t labels_end(struct span line, size_t at) {
  for (;;) {
    size_t eq = span_find_char(line, '=', at);
    assert_true(eq != SIZE_MAX && name_ok(span_sub(line, at, eq - at)));
    assert_int_equal(line.ptr[eq + 1], '"');
    at = eq + 2;
    while (line.ptr[at] != '"') {
      assert_true(at + 1 < line.len);
      if (line.ptr[at] == '\\') {
        at++;
        assert_true(strchr("\\\"n", line.ptr[at]) != NULL);
      }
      at++;
    }
    at++;
    if (line.ptr[at] == '}') {
      return at;
    }
    assert_int_equal(line.ptr[at], ',');
    at++;
  }
}

static void parse_sample(struct page *p, struct span line) {
  struct row *r = &p->rows[p->count++];
  assert_true(p->count < ROWS_MAX);
  size_t at = 0;
  while (at < line.len && line.ptr[at] != ' ' && line.ptr[at] != '{') {
    at++;
  }
  r->name = span_sub(line, 0, at);
  assert_true(name_ok(r->name));
  r->labels = SPAN_EMPTY;
  if (line.ptr[at] == '{') {
    size_t end = labels_end(line, at + 1);
    r->labels = span_sub(line, at + 1, end - at - 1);
    at = end + 1;
  }
  assert_int_equal(line.ptr[at], ' ');
  char number[64], *rest;
  struct span v = span_from(line, at + 1);
  assert_true(v.len > 0 && v.len < sizeof number);
  memcpy(number, v.ptr, v.len);
  number[v.len] = 0;
  r->value = strtod(number, &rest);
  assert_int_equal(*rest, 0);
}

/* typed: is there a TYPE for this sample's metric, with or without a histogram's suffix? */
static bool typed(const struct page *p, struct span name) {
  static const char *const tails[] = {"", "_bucket", "_sum", "_count"};
  for (uint32_t i = 0; i < p->type_count; i++) {
    size_t space = span_find_char(p->types[i], ' ', 0);
    struct span base = span_sub(p->types[i], 0, space);
    bool histogram = span_ends(p->types[i], SPAN_LIT(" histogram"));
    for (size_t k = 0; k < array_count(tails); k++) {
      if (name.len == base.len + strlen(tails[k]) && span_starts(name, base) &&
          span_ends(name, span_str(tails[k])) && histogram == (k > 0)) {
        return true;
      }
    }
  }
  return false;
}

static void parse_line(struct page *p, struct span line) {
  if (span_starts(line, SPAN_LIT("# TYPE "))) {
    struct span type = span_from(line, 7);
    for (uint32_t i = 0; i < p->type_count; i++) {
      assert_false(span_eq(p->types[i], type)); /* once each */
    }
    p->types[p->type_count++] = type;
  } else if (!span_starts(line, SPAN_LIT("# HELP "))) {
    parse_sample(p, line);
    assert_true(typed(p, p->rows[p->count - 1].name));
  }
}

static void parse(struct page *p) {
  struct span rest = text_span(&p->text);
  while (rest.len) {
    size_t end = span_find_char(rest, '\n', 0);
    assert_true(end != SIZE_MAX); /* each line ends */
    parse_line(p, span_sub(rest, 0, end));
    rest = span_from(rest, end + 1);
  }
  for (uint32_t i = 0; i < p->count; i++) {
    for (uint32_t k = i + 1; k < p->count; k++) {
      assert_false(span_eq(p->rows[i].name, p->rows[k].name) &&
                   span_eq(p->rows[i].labels, p->rows[k].labels));
    }
  }
}

static double get(const struct page *p, const char *name, const char *labels) {
  for (uint32_t i = 0; i < p->count; i++) {
    if (span_eq(p->rows[i].name, span_str(name)) && span_eq(p->rows[i].labels, span_str(labels))) {
      return p->rows[i].value;
    }
  }
  print_error("no sample %s{%s}\n", name, labels);
  fail();
  return 0;
}

/* ---- a process made up ---- */

struct world {
  struct registry *registry;
  struct stats *stats[WORKERS];
  struct loop_stats loops[WORKERS];
  const struct stats *stat_rows[WORKERS];
  const struct loop_stats *loop_rows[WORKERS];
  struct listener_state *listener;
  struct route_state *route;
  struct endpoint *endpoint;
  struct metrics_input in;
  struct page page;
};

static int setup(void **state) {
  struct world *w = (struct world *)mem_alloc(sizeof *w);
  struct addr addr;
  w->registry = registry_new(WORKERS);
  w->listener = listener_state_get(w->registry, SPAN_LIT("web"));
  w->route = route_state_get(w->registry, SPAN_LIT("a \"b\" \\ c"));
  if (!addr_parse(SPAN_LIT("10.0.0.1:80"), &addr)) {
    return -1;
  }
  w->endpoint = endpoint_get(w->registry, SPAN_LIT("app"), SPAN_LIT("db.example:80"), &addr);
  for (uint32_t i = 0; i < WORKERS; i++) {
    w->stats[i] = (struct stats *)mem_alloc_aligned(64, sizeof(struct stats));
    stats_init(w->stats[i]);
    w->stat_rows[i] = w->stats[i];
    w->loop_rows[i] = &w->loops[i];
  }
  w->in = (struct metrics_input){.registry = w->registry,
                                 .stats = w->stat_rows,
                                 .loops = w->loop_rows,
                                 .workers = WORKERS,
                                 .now_ms = 1000};
  *state = w;
  return 0;
}

static int teardown(void **state) {
  struct world *w = (struct world *)*state;
  text_fini(&w->page.text);
  object_unref(w->registry, &w->listener->obj);
  object_unref(w->registry, &w->route->obj);
  object_unref(w->registry, &w->endpoint->obj);
  (void)object_reap(w->registry);
  registry_free(w->registry);
  for (uint32_t i = 0; i < WORKERS; i++) {
    stats_fini(w->stats[i]);
    mem_free(w->stats[i]);
  }
  mem_free(w);
  return 0;
}

static void scrape(struct world *w) {
  metrics_write(&w->page.text, &w->in);
  parse(&w->page);
}

static void test_empty_page_parses(void **state) {
  struct world *w = (struct world *)*state;
  scrape(w);
  assert_true(get(&w->page, "weir_requests_total", "") == 0);
  assert_true(get(&w->page, "weir_request_end_total", "end=\"upstream.reset\"") == 0);
}

static void test_every_table_row_is_there(void **state) {
  struct world *w = (struct world *)*state;
  uint32_t found = 0, wanted = 0;
  scrape(w);
  static const char *const names[] = {
#define STAT(field, name, type, help) name,
#include "weir/proxy/stats.def"
#undef STAT
#define FACT(field, name, type, unit, help) name,
#include "control/metrics.def"
#undef FACT
  };
  for (size_t i = 0; i < array_count(names); i++, wanted++) {
    for (uint32_t k = 0; k < w->page.count; k++) {
      struct span base = span_sub(span_str(names[i]), 0,
                                  span_find_char(span_str(names[i]), '{', 0));
      if (span_eq(w->page.rows[k].name, base)) {
        found++;
        break;
      }
    }
  }
  assert_int_equal(found, wanted);
  for (enum end e = 0; e < END_COUNT; e++) {
    char label[128];
    (void)snprintf(label, sizeof label, "end=\"" SPAN_FMT "\"", SPAN_ARG(end_get(e)->word));
    assert_true(get(&w->page, "weir_request_end_total", label) == 0);
  }
}

static void test_counters_sum_over_workers(void **state) {
  struct world *w = (struct world *)*state;
  stat_add(&w->stats[0]->proxied, 3);
  stat_add(&w->stats[1]->proxied, 4);
  stat_add(&w->stats[1]->ends[END_UPSTREAM_RESET], 2);
  stat_add(&w->stats[0]->tls_handshakes_13_full, 9);
  w->loops[1].busy_ns = 1500000000;
  w->in.now_ms = 1000000;
  w->loops[0].lag_max_ns = 2000000;
  w->loops[0].lag_before_ns = 7000000;
  w->loops[0].lag_since_ms = 999000;
  w->loops[1].lag_max_ns = 9000000;
  w->loops[1].lag_since_ms = 1000; /* it has slept for long */
  w->in.facts.generation = 7;
  w->in.facts.last_reload_ms = 1795216500007;
  scrape(w);
  assert_true(get(&w->page, "weir_requests_total", "") == 7);
  assert_true(get(&w->page, "weir_request_end_total", "end=\"upstream.reset\"") == 2);
  assert_true(get(&w->page, "weir_tls_handshakes_total",
                  "version=\"1.3\",resumed=\"false\"") == 9);
  assert_true(get(&w->page, "weir_loop_busy_seconds_total", "worker=\"1\"") == 1.5);
  assert_true(get(&w->page, "weir_loop_lag_max_seconds", "worker=\"0\"") == 0.007);
  assert_true(get(&w->page, "weir_loop_lag_max_seconds", "worker=\"1\"") == 0);
  assert_true(get(&w->page, "weir_config_generation", "") == 7);
  assert_true(get(&w->page, "weir_config_last_reload_timestamp_seconds", "") == 1795216500.007);
}

#define ROUTE_LABELS "listener=\"web\",route=\"a \\\"b\\\" \\\\ c\",method=\"GET\",status=\"2xx\""

static void test_histogram(void **state) {
  struct world *w = (struct world *)*state;
  uint32_t a = w->listener->obj.id, b = w->route->obj.id;
  static const uint64_t ns[] = {1, 500000, 500001, 20000000000};
  for (uint32_t i = 0; i < array_count(ns); i++) {
    struct stats_series *s =
        stats_series_get(w->stats[i % WORKERS], STATS_SERVER, a, b, HTTP_METHOD_GET, 2);
    stats_observe(&s->latency, ns[i]);
  }
  scrape(w);
  const struct page *p = &w->page;
  const char *name = "http_server_request_duration_seconds_bucket";
  assert_true(get(p, name, ROUTE_LABELS ",le=\"0.0005\"") == 2);
  assert_true(get(p, name, ROUTE_LABELS ",le=\"0.001\"") == 3);
  assert_true(get(p, name, ROUTE_LABELS ",le=\"10\"") == 3);
  assert_true(get(p, name, ROUTE_LABELS ",le=\"+Inf\"") == 4);
  assert_true(get(p, "http_server_request_duration_seconds_count", ROUTE_LABELS) == 4);
  double sum = get(p, "http_server_request_duration_seconds_sum", ROUTE_LABELS);
  assert_true(sum > 20.001000001 && sum < 20.001000003);
}

static void test_client_series_and_endpoint(void **state) {
  struct world *w = (struct world *)*state;
  struct stats_series *s =
      stats_series_get(w->stats[0], STATS_CLIENT, 0, w->endpoint->obj.id, 0, 0);
  stats_observe(&s->latency, 1000000);
  atomic_store(&w->endpoint->rows[1].inflight, 5);
  atomic_store(&w->endpoint->ejected_until_ms, 1001);
  scrape(w);
  assert_true(get(&w->page, "http_client_request_duration_seconds_count",
                  "pool=\"app\",endpoint=\"10.0.0.1:80\"") == 1);
  const char *labels = "pool=\"app\",endpoint=\"10.0.0.1:80\",address=\"db.example:80\"";
  assert_true(get(&w->page, "weir_endpoint_up", labels) == 0);
  assert_true(get(&w->page, "weir_endpoint_requests_inflight", labels) == 5);
}

static void test_gone_object_and_overflow(void **state) {
  struct world *w = (struct world *)*state;
  struct stats_series *s =
      stats_series_get(w->stats[0], STATS_SERVER, w->listener->obj.id, 0, HTTP_METHOD_OTHER, 0);
  stats_observe(&s->latency, 1);
  stats_observe(&w->stats[1]->overflow[0].latency, 1);
  scrape(w);
  assert_true(get(&w->page, "http_server_request_duration_seconds_count",
                  "listener=\"web\",route=\"\",method=\"_OTHER\",status=\"none\"") == 1);
  assert_true(get(&w->page, "http_server_request_duration_seconds_count",
                  "listener=\"_other\",route=\"_other\",method=\"_OTHER\",status=\"none\"") == 1);
}

static void test_label_escapes(void **state) {
  (void)state;
  struct text t = {.ptr = NULL};
  metrics_label(&t, "x", SPAN_LIT("a\\b\"c\nd"));
  assert_true(span_eq(text_span(&t), SPAN_LIT("x=\"a\\\\b\\\"c\\nd\",")));
  text_fini(&t);
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_WORLD(test_empty_page_parses),
      WITH_WORLD(test_every_table_row_is_there),
      WITH_WORLD(test_counters_sum_over_workers),
      WITH_WORLD(test_histogram),
      WITH_WORLD(test_client_series_and_endpoint),
      WITH_WORLD(test_gone_object_and_overflow),
      cmocka_unit_test(test_label_escapes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
