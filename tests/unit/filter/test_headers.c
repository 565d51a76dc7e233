/* test_headers.c: fields removed, set and added by policies, by a table; order; a client's own. */
#include "filter_kit.h"

#define EDITS_MAX 4u

/* world is a route with up to two policies whose edits are texts: "Name: value" or "Name". */
struct world {
  struct kit k;
  char head[512];
  struct route route;
  struct policy policies[2];
  struct policy *list[2];
  struct field_set sets[2][2][EDITS_MAX];
  struct span removes[2][EDITS_MAX];
};

static uint32_t sets_of(struct world *w, struct field_set *sets, const char *text) {
  struct span rest = span_str(text), one;
  uint32_t count = 0;
  while (span_next_token(&rest, '|', &one)) {
    if (!one.len) continue;
    size_t colon = span_find_char(one, ':', 0);
    assert_true(count < EDITS_MAX && colon != SIZE_MAX);
    sets[count].name = span_sub(one, 0, colon);
    sets[count++].value = template_parse(span_trim(span_from(one, colon + 1)), &w->k.arena);
  }
  return count;
}

static void policy_is(struct world *w, uint32_t at, const char *remove, const char *set,
                      const char *add) {
  struct field_edits *edits = &w->policies[at].request;
  struct span rest = span_str(remove), one;
  edits->remove = w->removes[at];
  while (span_next_token(&rest, '|', &one))
    if (one.len) w->removes[at][edits->remove_count++] = one;
  edits->set = w->sets[at][0];
  edits->set_count = sets_of(w, w->sets[at][0], set);
  edits->add = w->sets[at][1];
  edits->add_count = sets_of(w, w->sets[at][1], add);
  w->policies[at].response = *edits;
  w->list[at] = &w->policies[at];
  w->route.policies = w->list;
  w->route.policy_count = at + 1;
}

static void world_init(struct world *w, const char *fields) {
  memset(w, 0, sizeof *w);
  struct buf b = buf_of(w->head, sizeof w->head - 1);
  buf_printf(&b, "GET /p HTTP/1.1\r\nHost: h\r\n%s\r\n", fields);
  kit_init(&w->k, w->head, 0);
  w->k.ctx.route = &w->route;
}

static const struct {
  const char *fields, *remove, *set, *add, *name, *sent;
} rows[] = {
    {"X-A: 1\r\nX-A: 2\r\n", "", "", "", "X-A", "1|2"},
    {"X-A: 1\r\nx-a: 2\r\n", "X-A", "", "", "X-A", ""},
    {"X-A: 1\r\nx-a: 2\r\n", "", "X-A: 3", "", "X-A", "3"},
    {"X-A: 1\r\n", "", "", "X-A: 2", "X-A", "1|2"},
    {"X-A: 1\r\n", "X-A", "X-A: 2", "X-A: 3", "X-A", "2|3"},
    {"", "", "X-A: 2", "X-A: 3|X-A: 4", "X-A", "2|3|4"},
    {"X_A: 1\r\n", "", "X-A: 2", "", "X_A", ""}, /* a CGI backend reads both alike */
    {"X_A: 1\r\n", "X-A", "", "", "X_A", ""},
    {"X-A: 1\r\n", "", "X_A: 2", "", "X-A", ""},
    {"Connection: X-A\r\nX-A: 1\r\n", "", "X-A: 2", "", "X-A", "2"}, /* row 19 */
    {"X-A: 1\r\n", "", "X-A: ${trace_id}", "", "X-A", ""}, /* empty: not sent */
    {"", "", "X-A: <${request.path}>", "", "X-A", "</p>"},
    {"X-Forwarded-Prefix: /evil\r\n", "", "X-Forwarded-Prefix: /api", "", "X-Forwarded-Prefix",
     "/api"},
    {"X-AB: 1\r\n", "X-A", "", "", "X-AB", "1"},
    {"User-Agent: x\r\n", "User-Agent", "", "", "User-Agent", ""},
};

static void edits_table(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) {
    struct world w;
    world_init(&w, rows[i].fields);
    policy_is(&w, 0, rows[i].remove, rows[i].set, rows[i].add);
    assert_int_equal(headers_request(&w.k.ctx), FILTER_NEXT);
    assert_span(kit_sent(&w.k, &w.k.request.fields, rows[i].name), rows[i].sent);
    kit_fini(&w.k);
  }
}

/* The same on a response; the policies apply in order, so the later one wins. */
static void order_of_policies(void **state) {
  (void)state;
  struct world w;
  world_init(&w, "");
  policy_is(&w, 0, "", "X-A: first|X-B: first", "X-C: first");
  policy_is(&w, 1, "X-B", "X-A: second", "X-C: second");
  w.k.ctx.response = &w.k.response;
  assert_int_equal(headers_response(&w.k.ctx), FILTER_NEXT);
  assert_span(kit_sent(&w.k, &w.k.response.fields, "X-A"), "second");
  assert_span(kit_sent(&w.k, &w.k.response.fields, "X-B"), "");
  assert_span(kit_sent(&w.k, &w.k.response.fields, "X-C"), "first|second");
  kit_fini(&w.k);
}

static void before_routing_nothing(void **state) {
  (void)state;
  struct kit k;
  kit_init(&k, "GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n", 0);
  assert_int_equal(headers_request(&k.ctx), FILTER_NEXT);
  assert_span(kit_sent(&k, &k.request.fields, "X-A"), "1");
  kit_fini(&k);
}

/* A value that could end a line never gets into a message, wherever it came from. */
static void no_line_ends(void **state) {
  (void)state;
  static const char *const evil[] = {"a\rX-B: 1", "a\nX-B: 1", "a\r\nX-B: 1"};
  for (size_t i = 0; i < array_count(evil); i++) {
    struct world w;
    world_init(&w, "");
    policy_is(&w, 0, "", "X-A: ${client.address}", "");
    w.k.ctx.client = span_str(evil[i]);
    assert_int_equal(headers_request(&w.k.ctx), FILTER_ANSWER);
    assert_span(kit_sent(&w.k, &w.k.request.fields, "X-A"), "");
    kit_fini(&w.k);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(edits_table),
      cmocka_unit_test(order_of_policies),
      cmocka_unit_test(before_routing_nothing),
      cmocka_unit_test(no_line_ends),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
