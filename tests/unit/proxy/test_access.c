/* test_access.c: what the log thread is given: one record per request with its texts, cut where
 * they are long; sampling; a full ring counts; series, ends and gauges. */
#include "proxy_kit.h"

static void kit_ready(struct kit *k) {
  kit_init(k);
  kit_route(k, "ok", "/ok")->respond.body = SPAN_LIT("fine");
  kit_start(k);
}

static void a_record_says_it_all(void **state) {
  (void)state;
  struct kit k = {0};
  kit_ready(&k);
  (void)kit_ask(&k,
                SPAN_LIT("GET /ok/x?a=b HTTP/1.1\r\nHost: Example.COM:81\r\nUser-Agent: t/1\r\n"
                         "X-Forwarded-For: 6.6.6.6\r\ntraceparent: 00-ab-cd-01\r\n\r\n"),
                true);
  struct record_access r;
  struct span t[TEXT_COUNT];
  static char hold[32768];
  assert_true(kit_record(&k, &r, t, hold));
  assert_int_equal(r.kind, RECORD_ACCESS);
  assert_int_equal(r.status, 200);
  assert_int_equal(r.end, END_OK);
  assert_int_equal(r.minor, 1);
  assert_int_equal(r.attempts, 0);
  assert_int_equal(r.response_bytes, 4);
  assert_int_equal(r.request_bytes, 0);
  assert_int_equal(r.flags & (RECORD_HAS_QUERY | RECORD_TLS | RECORD_REUSED), RECORD_HAS_QUERY);
  assert_true(r.total_ns != UINT64_MAX && r.request_ns != UINT64_MAX);
  assert_true(r.queue_ns == UINT64_MAX && r.connect_ns == UINT64_MAX && r.tls_ns == UINT64_MAX);
  assert_true(r.first_byte_ns == UINT64_MAX);
  static const char *const want[TEXT_COUNT] = {
      [TEXT_METHOD] = "GET",      [TEXT_SCHEME] = "http",      [TEXT_PATH] = "/ok/x",
      [TEXT_QUERY] = "a=b",       [TEXT_HOST] = "example.com", [TEXT_ROUTE] = "ok",
      [TEXT_LISTENER] = "web",    [TEXT_CLIENT] = "192.0.2.1", [TEXT_USER_AGENT] = "t/1",
      [TEXT_TRACE] = "00-ab-cd-01"};
  for (size_t i = 0; i < TEXT_COUNT; i++)
    if (!span_eq(t[i], span_str(want[i])))
      fail_msg("text %zu: \"%.*s\", not \"%s\"", i, SPAN_ARG(t[i]), want[i] ? want[i] : "");
  assert_false(kit_record(&k, &r, t, hold));
  kit_fini(&k);
}

/* What never became a request has a record too: its cause, and no texts of a request. */
static void faults_are_recorded(void **state) {
  (void)state;
  static const struct {
    const char *ask;
    enum end end;
    uint16_t status;
  } rows[] = {
      {"GET /ok HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", END_BAD_REQUEST_HOST_REPEATED, 400},
      {"GET /ok HTTP/1.1\r\nHo", END_BAD_REQUEST_TRUNCATED, 400},
      {"GET /other HTTP/1.1\r\nHost: a\r\n\r\n", END_NO_ROUTE, 404},
      {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", END_BAD_REQUEST_METHOD_NOT_SERVED, 501},
      {"GET /ok HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", END_BAD_REQUEST_EXPECT, 417},
  };
  struct kit k = {0};
  kit_ready(&k);
  for (size_t i = 0; i < array_count(rows); i++) {
    (void)kit_ask(&k, span_str(rows[i].ask), true);
    struct record_access r;
    struct span t[TEXT_COUNT];
    static char hold[32768];
    assert_true(kit_record(&k, &r, t, hold));
    if (r.end != rows[i].end || r.status != rows[i].status)
      fail_msg("%s: %s %u", rows[i].ask, end_get((enum end)r.end)->word.ptr, r.status);
    assert_true(span_eq(t[TEXT_LISTENER], SPAN_LIT("web")));
    assert_int_equal(t[TEXT_ROUTE].len, 0);
    assert_int_equal(atomic_load(&worker_stats(k.w)->ends[rows[i].end]), 1);
  }
  kit_fini(&k);
}

static void long_texts_are_cut(void **state) {
  (void)state;
  struct kit k = {0};
  kit_ready(&k);
  struct text ask = {0};
  text_lit(&ask, "GET /ok/");
  for (int i = 0; i < 3000; i++) text_lit(&ask, "p");
  text_lit(&ask, " HTTP/1.1\r\nHost: h\r\nUser-Agent: ");
  for (int i = 0; i < 4000; i++) text_lit(&ask, "u");
  text_lit(&ask, "\r\n\r\n");
  (void)kit_ask(&k, text_span(&ask), true);
  text_fini(&ask);
  struct record_access r;
  struct span t[TEXT_COUNT];
  static char hold[32768];
  assert_true(kit_record(&k, &r, t, hold));
  assert_int_equal(r.status, 200);
  assert_int_equal(t[TEXT_PATH].len, RECORD_TEXT_MAX);
  assert_int_equal(t[TEXT_USER_AGENT].len, RECORD_TEXT_MAX);
  assert_int_equal(t[TEXT_PATH].ptr[RECORD_TEXT_MAX - 1], 'p');
  assert_int_equal(t[TEXT_HOST].len, 1);
  kit_fini(&k);
}

static uint32_t records(struct kit *k) {
  struct record_access r;
  struct span t[TEXT_COUNT];
  static char hold[32768];
  uint32_t n = 0;
  while (kit_record(k, &r, t, hold)) n++;
  return n;
}

/* A thousandth is taken: of 400 answers hardly any; what is not ok always is. */
static void sampling_spares_faults(void **state) {
  (void)state;
  struct kit k = {.sample_ppm = 1000};
  kit_ready(&k);
  struct text ask = {0};
  for (int i = 0; i < 200; i++) text_lit(&ask, "GET /ok HTTP/1.1\r\nHost: h\r\n\r\n");
  text_lit(&ask, "GET /missing HTTP/1.1\r\nHost: h\r\n\r\n");
  for (int i = 0; i < 200; i++) text_lit(&ask, "GET /ok HTTP/1.1\r\nHost: h\r\n\r\n");
  (void)kit_ask(&k, text_span(&ask), true);
  text_fini(&ask);
  assert_int_equal(atomic_load(&worker_stats(k.w)->proxied), 401);
  uint32_t n = records(&k);
  assert_true(n >= 1 && n < 8);
  kit_fini(&k);
}

static void no_log_no_record(void **state) {
  (void)state;
  struct kit k = {.no_access = true};
  kit_ready(&k);
  (void)kit_ask(&k, SPAN_LIT("GET /missing HTTP/1.1\r\nHost: h\r\n\r\n"), true);
  assert_int_equal(records(&k), 0);
  kit_post(&k,
           &(struct worker_msg){.kind = WORKER_LOG, .access_log = true, .sample_ppm = 1000000});
  (void)kit_ask(&k, SPAN_LIT("GET /ok HTTP/1.1\r\nHost: h\r\n\r\n"), true);
  assert_int_equal(records(&k), 1);
  kit_fini(&k);
}

static void a_full_ring_counts(void **state) {
  (void)state;
  struct kit k = {.log_bytes = 2048};
  kit_ready(&k);
  struct text ask = {0};
  for (int i = 0; i < 50; i++) text_lit(&ask, "GET /ok HTTP/1.1\r\nHost: h\r\n\r\n");
  (void)kit_ask(&k, text_span(&ask), true);
  text_fini(&ask);
  uint64_t dropped = atomic_load(&worker_stats(k.w)->log_dropped);
  assert_int_equal(dropped + records(&k), 50);
  assert_true(dropped > 30 && dropped < 50);
  kit_fini(&k);
}

static void series_and_gauges(void **state) {
  (void)state;
  struct kit k = {0};
  kit_ready(&k);
  for (int i = 0; i < 3; i++)
    (void)kit_ask(&k, SPAN_LIT("GET /ok HTTP/1.1\r\nHost: h\r\n\r\n"), true);
  (void)kit_ask(&k, SPAN_LIT("HEAD /missing HTTP/1.1\r\nHost: h\r\n\r\n"), true);
  struct stats *s = &k.w->stats;
  uint32_t web = k.listener->state->obj.id, ok = k.snapshot->routes[0]->state->obj.id;
  assert_int_equal(s->series_live, 2);
  struct stats_series *a = stats_series_get(s, STATS_SERVER, web, ok, HTTP_METHOD_GET, 2);
  struct stats_series *b = stats_series_get(s, STATS_SERVER, web, 0, HTTP_METHOD_HEAD, 4);
  assert_int_equal(s->series_live, 2);
  uint64_t count = 0;
  for (uint32_t i = 0; i <= STATS_BUCKETS; i++) count += atomic_load(&a->latency.buckets[i]);
  assert_int_equal(count, 3);
  for (uint32_t i = 0; i <= STATS_BUCKETS; i++) count += atomic_load(&b->latency.buckets[i]);
  assert_int_equal(count, 4);
  assert_int_equal(atomic_load(&s->downstream_accepted), 4);
  assert_int_equal(atomic_load(&s->downstream_conns), 0);
  assert_int_equal(atomic_load(&s->downstream_idle), 0);
  assert_int_equal(atomic_load(&s->requests_inflight), 0);
  assert_int_equal(worker_conns(k.w) + worker_streams(k.w), 0);
  assert_int_equal(atomic_load(&k.listener->state->rows[0].accepted), 4);
  assert_int_equal(atomic_load(&k.listener->state->rows[0].conns), 0);
  kit_post(&k, &(struct worker_msg){.kind = WORKER_FORGET, .id = ok});
  (void)sim_run(k.sim, 10);
  assert_int_equal(s->series_live, 1);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_record_says_it_all),
      cmocka_unit_test(faults_are_recorded),
      cmocka_unit_test(long_texts_are_cut),
      cmocka_unit_test(sampling_spares_faults),
      cmocka_unit_test(no_log_no_record),
      cmocka_unit_test(a_full_ring_counts),
      cmocka_unit_test(series_and_gauges),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
