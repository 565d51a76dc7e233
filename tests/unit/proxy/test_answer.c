/* test_answer.c: the responses that weir makes itself, byte for byte (but for the date): refusals
 * with Proxy-Status, redirects, fixed responses, and whether the connection stays. */
#include "proxy_kit.h"

#define DATE "Date: @\r\n"
#define STATUS(word, type) "Proxy-Status: weir;error=" type ";details=\"" word "\"\r\n"
#define PLAIN "Content-Type: text/plain; charset=utf-8\r\n"
#define NEXT "GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
#define NEXT_OK                                                                          \
  "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/plain\r\nContent-Length: 4\r\nConnection: " \
  "close\r\n\r\nfine"

/* want is the whole answer, with the date as "@" and the length of what follows the head as "#".
 * Each request is followed by NEXT: kept connections answer it too, others never do. */
static const struct {
  const char *ask, *want;
  bool kept;
} rows[] = {
    {"GET /ok HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nfine", true},
    {"HEAD /ok HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/plain\r\nContent-Length: 4\r\n\r\n", true},
    {"GET /ok HTTP/1.0\r\n\r\n",
     "HTTP/1.1 200 OK\r\n" DATE
     "Content-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine",
     false},
    {"GET /ok HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     "HTTP/1.1 200 OK\r\n" DATE
     "Content-Type: text/plain\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nfine",
     true},
    {"GET /empty HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 204 No Content\r\n" DATE "\r\n", true},
    {"GET /old HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 308 Permanent Redirect\r\n" DATE
     "Location: https://example.com/new\r\nContent-Length: 0\r\n\r\n",
     true},
    {"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
     "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nfine", true},
    {"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 262145\r\n\r\n",
     "HTTP/1.1 200 OK\r\n" DATE
     "Content-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine",
     false},
    {"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
     "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nfine", true},
    {"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 404 Not Found\r\n" DATE STATUS("proxy.no_route", "destination_not_found") PLAIN
     "Content-Length: #\r\n\r\n404 Not Found\nproxy.no_route: no route matches\n",
     true},
    {"POST /nothing HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
     "HTTP/1.1 404 Not Found\r\n" DATE STATUS("proxy.no_route", "destination_not_found") PLAIN
     "Content-Length: #\r\n\r\n404 Not Found\nproxy.no_route: no route matches\n",
     true},
    {"POST /nothing HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
     "Transfer-Encoding: chunked\r\n\r\n",
     "HTTP/1.1 404 Not Found\r\n" DATE STATUS("proxy.no_route", "destination_not_found") PLAIN
     "Content-Length: #\r\nConnection: close\r\n\r\n404 Not Found\nproxy.no_route: no route "
     "matches\n",
     false},
    {"PATCH /put HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 405 Method Not Allowed\r\n" DATE "Allow: PUT, DELETE, PURGE\r\n" STATUS(
         "proxy.method_not_allowed", "http_request_denied") PLAIN
     "Content-Length: #\r\n\r\n405 Method Not Allowed\nproxy.method_not_allowed: a route matches "
     "but not with this method\n",
     true},
    {"GET /none HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 503 Service Unavailable\r\n" DATE STATUS("upstream.none_healthy",
                                                        "destination_unavailable") PLAIN
     "Content-Length: #\r\n\r\n503 Service Unavailable\nupstream.none_healthy: no endpoint of the "
     "pool takes requests\n",
     true},
    {"GET /name HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 503 Service Unavailable\r\n" DATE STATUS("upstream.resolve.failed", "dns_error")
         PLAIN
     "Content-Length: #\r\n\r\n503 Service Unavailable\nupstream.resolve.failed: no name of the "
     "pool could be resolved\n",
     true},
    {"GET /none HTTP/1.1\r\nHost: h\r\nContent-Length: 262145\r\n\r\n",
     "HTTP/1.1 503 Service Unavailable\r\n" DATE STATUS("upstream.none_healthy",
                                                        "destination_unavailable") PLAIN
     "Content-Length: #\r\nConnection: close\r\n\r\n503 Service "
     "Unavailable\nupstream.none_healthy: "
     "no endpoint of the pool takes requests\n",
     false},
    {"GET / HTTP/1.1\r\n\r\n",
     "HTTP/1.1 400 Bad Request\r\n" DATE STATUS("client.bad_request.host_missing",
                                                "http_request_error") PLAIN
     "Content-Length: #\r\nConnection: close\r\n\r\n400 Bad "
     "Request\nclient.bad_request.host_missing: "
     "HTTP/1.1 requires a Host field\n",
     false},
    {"HEAD / HTTP/1.1\r\nHost : h\r\n\r\n", /* refused, but a HEAD all the same: no body */
     "HTTP/1.1 400 Bad Request\r\n" DATE STATUS("client.bad_request.field_name",
                                                "http_request_error") PLAIN
     "Content-Length: 120\r\nConnection: close\r\n\r\n",
     false},
    {"GET / HTTP/2.0\r\n\r\n", NULL, false},
};

/* fill puts the length of the body in the place of "#". */
static void fill(struct text *out, const char *want) {
  const char *body = strstr(want, "\r\n\r\n");
  const char *mark = strchr(want, '#');
  assert_non_null(body);
  if (!mark || mark > body) {
    text_put(out, span_str(want));
    return;
  }
  text_put(out, span_of(want, (size_t)(mark - want)));
  text_printf(out, "%zu", strlen(body + 4));
  text_put(out, span_str(mark + 1));
}

/* same compares; "@" stands for a date of 29 bytes. */
static bool same(struct span got, struct span want) {
  size_t at = 0;
  for (size_t i = 0; i < want.len; i++) {
    if (want.ptr[i] == '@') {
      at += 29;
      continue;
    }
    if (at >= got.len || got.ptr[at++] != want.ptr[i]) return false;
  }
  return at == got.len;
}

static void kit_routes(struct kit *k) {
  kit_route(k, "ok", "/ok")->respond.body = SPAN_LIT("fine");
  kit_route(k, "empty", "/empty")->status = 204;
  struct route *old = kit_route(k, "old", "/old");
  old->action = ROUTE_REDIRECT;
  old->status = 308;
  old->redirect.to = SPAN_LIT("https://example.com/new");
  struct route *put = kit_route(k, "put", "/put");
  static const struct span purge[] = {SPAN_LIT("PURGE")};
  put->methods = 1u << HTTP_METHOD_PUT | 1u << HTTP_METHOD_DELETE;
  put->extra_methods = purge;
  put->extra_method_count = 1;
  (void)kit_pool_route(k, "none", "/none");
  kit_pool_route(k, "name", "/name")->unresolved = 1;
}

static void answers_byte_for_byte(void **state) {
  (void)state;
  struct kit k = {0};
  kit_init(&k);
  kit_routes(&k);
  kit_start(&k);
  for (size_t i = 0; i < array_count(rows); i++) {
    struct text ask = {0}, want = {0};
    text_put(&ask, span_str(rows[i].ask));
    text_lit(&ask, NEXT);
    struct span got = kit_ask(&k, text_span(&ask), false);
    if (rows[i].want) fill(&want, rows[i].want);
    if (rows[i].kept) text_lit(&want, NEXT_OK);
    if (rows[i].want && !same(got, text_span(&want)))
      fail_msg("%s\n--- got\n%.*s\n--- not\n%.*s", rows[i].ask, SPAN_ARG(got),
               SPAN_ARG(text_span(&want)));
    if (!rows[i].want) assert_true(span_starts(got, SPAN_LIT("HTTP/1.1 505 ")));
    text_fini(&ask);
    text_fini(&want);
  }
  kit_fini(&k);
}

static void redirect_https(void **state) {
  (void)state;
  static const struct {
    const char *ask, *location;
    unsigned port;
  } https[] = {
      {"GET /a/b?c=d HTTP/1.1\r\nHost: Example.com:8080\r\n\r\n", "https://example.com/a/b?c=d",
       443},
      {"GET /a? HTTP/1.1\r\nHost: h\r\n\r\n", "https://h:8443/a?", 8443},
      {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "https://h/", 443},
      {"GET http://other/x HTTP/1.1\r\nHost: other\r\n\r\n", "https://other/x", 443},
      {"GET / HTTP/1.1\r\nHost: [2001:DB8::1]\r\n\r\n", "https://[2001:db8::1]/", 443},
      {"GET / HTTP/1.0\r\n\r\n", NULL, 443},
  };
  for (size_t i = 0; i < array_count(https); i++) {
    struct kit k = {0};
    kit_init(&k);
    kit_routes(&k);
    k.listener->redirect_https = true;
    k.listener->redirect_port = (uint16_t)https[i].port;
    kit_start(&k);
    struct span got = kit_ask(&k, span_str(https[i].ask), true);
    char want[128];
    struct buf b = buf_of(want, sizeof want);
    buf_printf(&b, "\r\nLocation: %s\r\n", https[i].location ? https[i].location : "");
    if (https[i].location && !memmem(got.ptr, got.len, b.ptr, b.len))
      fail_msg("%s -> %.*s", https[i].ask, SPAN_ARG(got));
    if (!https[i].location) assert_true(span_starts(got, SPAN_LIT("HTTP/1.1 400 ")));
    kit_fini(&k);
  }
}

/* Every cause that can be answered has a status with a reason and a sentence that may stand in a
 * body and in a field. */
static void every_cause_can_be_said(void **state) {
  (void)state;
  for (int e = 0; e < END_COUNT; e++) {
    const struct end_row *row = end_get((enum end)e);
    if (!row->status) continue;
    assert_true(row->status == 499 || http_status_reason(row->status).len > 0);
    assert_true(row->detail.len > 0 && row->detail.len < 200);
    assert_true(http_is_value(row->detail) && http_is_value(row->word));
    assert_true(span_find_char(row->word, '"', 0) == SIZE_MAX);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(answers_byte_for_byte),
      cmocka_unit_test(redirect_https),
      cmocka_unit_test(every_cause_can_be_said),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
