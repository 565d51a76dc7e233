/* test_expand.c: the value of every variable, and that none can end a line. */
#include "filter_kit.h"

#define HEAD \
  "PATCH /a%20b;c?q=1&r HTTP/1.1\r\nHost: Example.COM:8080\r\n" \
  "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"

static const struct {
  const char *text, *value;
} rows[] = {
    {"", ""},
    {"literal", "literal"},
    {"${client.address}", "2001:db8::1"},
    {"${peer.address}", "192.0.2.7"},
    {"${request.method}", "PATCH"},
    {"${request.scheme}", "https"},
    {"${request.host}", "example.com"},
    {"${request.path}", "/a%20b;c"},
    {"${request.query}", "q=1&r"},
    {"${route.name}", "the-route"},
    {"${listener.name}", "the-listener"},
    {"${pool.name}", "the-pool"},
    {"${tls.client.subject}", "CN=web"},
    {"${tls.client.issuer}", "CN=root"},
    {"${tls.client.hash.sha256}", "00FF"},
    {"${trace_id}", "0af7651916cd43dd8448eb211c80319c"},
    {"${request.scheme}://${request.host}${request.path}?${request.query}",
     "https://example.com/a%20b;c?q=1&r"},
    {"<$${request.host}>", "<${request.host}>"},
};

static const struct match_cert cert = {
    .subject = {"CN=web", 6}, .issuer = {"CN=root", 7}, .hash = {"00FF", 4}};

struct world {
  struct kit k;
  struct pool pool;
  struct route route;
};

static void world_init(struct world *w, const char *head, size_t limit) {
  kit_init(&w->k, head, limit);
  kit_peer(&w->k, "192.0.2.7");
  w->k.listener.obj.name = SPAN_LIT("the-listener");
  w->pool = (struct pool){.obj = {.name = SPAN_LIT("the-pool")}};
  w->route = (struct route){.obj = {.name = SPAN_LIT("the-route")}, .pool = &w->pool};
  w->k.ctx.route = &w->route;
  w->k.ctx.pool = &w->pool;
  w->k.ctx.tls = true;
  w->k.ctx.client = SPAN_LIT("2001:db8::1");
  w->k.ctx.cert = &cert;
}

static void values_table(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) {
    struct world w;
    world_init(&w, HEAD, 0);
    struct template t = template_parse(span_str(rows[i].text), &w.k.arena);
    struct span out;
    assert_true(filter_expand(&w.k.ctx, &t, &out));
    assert_span(out, rows[i].value);
    kit_fini(&w.k);
  }
}

/* Every variable has a row above. */
static void all_variables(void **state) {
  (void)state;
  for (unsigned v = VARIABLE_NONE + 1; v < VARIABLE_COUNT; v++) {
    char whole[64];
    struct buf b = buf_of(whole, sizeof whole);
    buf_printf(&b, "${" SPAN_FMT "}", SPAN_ARG(variable_name((enum variable)v)));
    bool found = false;
    for (size_t i = 0; i < array_count(rows); i++)
      found |= span_eq(buf_span(&b), span_str(rows[i].text));
    if (!found) fail_msg("no row for " SPAN_FMT, SPAN_ARG(buf_span(&b)));
  }
}

static void trace_ids(void **state) {
  (void)state;
  static const char *const bad[] = {
      "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",  /* 31 digits */
      "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", /* capitals */
      "00-00000000000000000000000000000000-b7ad6b7169203331-01",
      "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c",
      ""};
  for (size_t i = 0; i < array_count(bad); i++) {
    struct world w;
    char head[256];
    struct buf b = buf_of(head, sizeof head - 1);
    buf_printf(&b, "GET / HTTP/1.1\r\nHost: h\r\ntraceparent: %s\r\n\r\n", bad[i]);
    head[b.len] = 0;
    world_init(&w, head, 0);
    struct template t = template_parse(SPAN_LIT("${trace_id}"), &w.k.arena);
    struct span out;
    assert_true(filter_expand(&w.k.ctx, &t, &out));
    assert_span(out, "");
    kit_fini(&w.k);
  }
}

static void memory_used_up(void **state) {
  (void)state;
  struct world w;
  world_init(&w, HEAD, 0);
  struct template t = template_parse(SPAN_LIT("${request.path}${request.query}"), &w.k.arena);
  struct arena none;
  arena_init(&none, NULL, 1);
  w.k.ctx.arena = &none;
  struct span out;
  assert_false(filter_expand(&w.k.ctx, &t, &out));
  assert_int_equal(w.k.ctx.end, END_LIMIT_STREAM_MEMORY);
  kit_fini(&w.k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values_table),
      cmocka_unit_test(all_variables),
      cmocka_unit_test(trace_ids),
      cmocka_unit_test(memory_used_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
