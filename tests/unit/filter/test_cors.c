/* test_cors.c: what is a preflight, what it is answered, and the fields of responses. */
#include "filter_kit.h"

static const struct cors_origin origins[] = {{.head = {"https://a.example", 17}}};

struct world {
  struct kit k;
  struct cors cors;
  struct route route;
};

static void world_init(struct world *w, const char *head, size_t limit) {
  memset(w, 0, sizeof *w);
  kit_init(&w->k, head, limit);
  w->cors = (struct cors){.origins = origins,
                          .origin_count = 1,
                          .methods = SPAN_LIT("PUT, DELETE"),
                          .headers = SPAN_LIT("X-A"),
                          .expose = SPAN_LIT("X-E"),
                          .max_age = SPAN_LIT("600")};
  w->route.cors = &w->cors;
  w->k.ctx.route = &w->route;
  w->k.ctx.response = &w->k.response;
}

#define ASK(method, fields) method " /p HTTP/1.1\r\nHost: h\r\n" fields "\r\n"
#define ORIGIN "Origin: https://a.example\r\n"
#define ACRM "Access-Control-Request-Method: PUT\r\n"

static const struct {
  const char *head;
  enum filter_result result;
} asked[] = {
    {ASK("OPTIONS", ORIGIN ACRM), FILTER_RESPOND},
    {ASK("OPTIONS", "origin: https://a.example\r\naccess-control-request-method: X\r\n"),
     FILTER_RESPOND},
    {ASK("OPTIONS", "Origin: https://b.example\r\n" ACRM), FILTER_ANSWER},
    {ASK("OPTIONS", "Origin: null\r\n" ACRM), FILTER_ANSWER},
    {ASK("OPTIONS", ORIGIN ORIGIN ACRM), FILTER_ANSWER},
    {ASK("OPTIONS", ORIGIN), FILTER_NEXT},
    {ASK("OPTIONS", ACRM), FILTER_NEXT},
    {ASK("OPTIONS", ORIGIN "Access-Control-Request-Method: \r\n"), FILTER_NEXT},
    {ASK("OPTIONS", ORIGIN "Access-Control-Request-Method: P T\r\n"), FILTER_NEXT},
    {ASK("GET", ORIGIN ACRM), FILTER_NEXT},
    {ASK("options", ORIGIN ACRM), FILTER_NEXT},
};

static void preflights(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(asked); i++) {
    struct world w;
    world_init(&w, asked[i].head, 0);
    if (cors_request(&w.k.ctx) != asked[i].result) fail_msg("%s", asked[i].head);
    if (asked[i].result == FILTER_RESPOND) assert_int_equal(w.k.ctx.status, 204);
    if (asked[i].result == FILTER_ANSWER) assert_int_equal(w.k.ctx.end, END_CORS_ORIGIN);
    w.route.cors = NULL;
    assert_int_equal(cors_request(&w.k.ctx), FILTER_NEXT);
    kit_fini(&w.k);
  }
}

static struct span sent(struct world *w, const char *name) {
  return kit_sent(&w->k, &w->k.response.fields, name);
}

static void preflight_fields(void **state) {
  (void)state;
  struct world w;
  world_init(&w, ASK("OPTIONS", ORIGIN ACRM), 0);
  w.cors.credentials = true;
  assert_int_equal(cors_request(&w.k.ctx), FILTER_RESPOND);
  assert_int_equal(cors_response(&w.k.ctx), FILTER_NEXT);
  assert_span(sent(&w, "Access-Control-Allow-Origin"), "https://a.example");
  assert_span(sent(&w, "Access-Control-Allow-Credentials"), "true");
  assert_span(sent(&w, "Access-Control-Allow-Methods"), "PUT, DELETE");
  assert_span(sent(&w, "Access-Control-Allow-Headers"), "X-A");
  assert_span(sent(&w, "Access-Control-Max-Age"), "600");
  assert_span(sent(&w, "Access-Control-Expose-Headers"), "");
  assert_span(sent(&w, "Vary"), "Origin");
  kit_fini(&w.k);
}

/* The pool's own words on the subject never come through. */
static const struct {
  const char *origin;
  bool any;
  const char *allowed, *expose, *vary;
} responses[] = {
    {ORIGIN, false, "https://a.example", "X-E", "Origin"},
    {ORIGIN, true, "*", "X-E", "Origin"},
    {"Origin: https://b.example\r\n", false, "", "", "Origin"},
    {"Origin: https://b.example\r\n", true, "*", "X-E", "Origin"},
    {"Origin: null\r\n", false, "", "", "Origin"},
    {"Origin: null\r\n", true, "", "", "Origin"},
    {"", false, "", "", "Origin"},
    {"", true, "", "", "Origin"},
};

static void response_fields(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(responses); i++) {
    struct world w;
    char head[256];
    struct buf b = buf_of(head, sizeof head - 1);
    buf_printf(&b, "GET / HTTP/1.1\r\nHost: h\r\n%s\r\n", responses[i].origin);
    head[b.len] = 0;
    world_init(&w, head, 0);
    w.cors.any = responses[i].any;
    struct http_fields *f = &w.k.response.fields;
    assert_true(http_fields_add(f, &w.k.arena, SPAN_LIT("access-control-allow-origin"),
                                SPAN_LIT("https://b.example")));
    assert_true(http_fields_add(f, &w.k.arena, SPAN_LIT("Access-Control-Allow-Credentials"),
                                SPAN_LIT("true")));
    assert_int_equal(cors_response(&w.k.ctx), FILTER_NEXT);
    assert_span(sent(&w, "Access-Control-Allow-Origin"), responses[i].allowed);
    assert_span(sent(&w, "Access-Control-Allow-Credentials"), "");
    assert_span(sent(&w, "Access-Control-Expose-Headers"), responses[i].expose);
    assert_span(sent(&w, "Vary"), responses[i].vary);
    kit_fini(&w.k);
  }
}

static void vary_once(void **state) {
  (void)state;
  static const char *const there[] = {"Origin", "Accept, origin", "*", "Accept"};
  for (size_t i = 0; i < array_count(there); i++) {
    struct world w;
    world_init(&w, ASK("GET", ORIGIN), 0);
    struct http_fields *f = &w.k.response.fields;
    assert_true(http_fields_add(f, &w.k.arena, SPAN_LIT("Vary"), span_str(there[i])));
    assert_int_equal(cors_response(&w.k.ctx), FILTER_NEXT);
    assert_span(sent(&w, "Vary"), i == 3 ? "Accept|Origin" : there[i]);
    kit_fini(&w.k);
  }
}

static void memory_used_up(void **state) {
  (void)state;
  struct world w;
  world_init(&w, ASK("GET", ORIGIN), 0);
  struct arena none;
  arena_init(&none, NULL, 1);
  w.k.ctx.arena = &none;
  assert_int_equal(cors_response(&w.k.ctx), FILTER_ANSWER);
  assert_int_equal(w.k.ctx.end, END_LIMIT_STREAM_MEMORY);
  kit_fini(&w.k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(preflights),      cmocka_unit_test(preflight_fields),
      cmocka_unit_test(response_fields), cmocka_unit_test(vary_once),
      cmocka_unit_test(memory_used_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
