/* test_h2_message.c: HTTP/2 field sections made messages and back: what is refused by RFC 9113
 * section 8, what the shared model says of what is not, and that h1 writes the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "h2_rows.h"
#include "weir/base/buf.h"
#include "weir/http/h1.h"

static const struct h2_rules rules = {.uri_bytes = 16, .extended_connect = true};
static const struct h2_asked get = {.method = HTTP_METHOD_GET, .upgrade = {NULL, 0}};
static struct arena arena;

static int setup(void **state) {
  (void)state;
  arena_init(&arena, NULL, 0);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  arena_reset(&arena);
  return 0;
}

static struct h2_section section(struct span text, bool end_stream) {
  struct h2_section s = h2_rows_read(text, '|', '=', &arena);
  s.end_stream = end_stream;
  return s;
}

static struct http_request parse(const char *text, bool end_stream) {
  struct h2_section s = section(span_str(text), end_stream);
  struct http_request req;
  enum end why = END_OK;
  if (!h2_parse_request(&s, &rules, &arena, &req, &why))
    fail_msg("%s: " SPAN_FMT, text, SPAN_ARG(end_get(why)->word));
  return req;
}

static struct http_response answer(const char *text, const struct h2_asked *asked,
                                   bool end_stream) {
  struct h2_section s = section(span_str(text), end_stream);
  struct http_response res;
  enum end why = END_OK;
  if (!h2_parse_response(&s, asked, &res, &why))
    fail_msg("%s: " SPAN_FMT, text, SPAN_ARG(end_get(why)->word));
  return res;
}

/* message_case is a row of h2_message_cases.def. */
struct message_case {
  struct span text;
  bool end_stream;
  enum end why;
};

static const struct message_case requests[] = {
#define REQUEST(text, end, why) {{text, sizeof(text) - 1}, end, END_##why},
#include "h2_message_cases.def"
#undef REQUEST
};
static const struct message_case responses[] = {
#define RESPONSE(text, end, why) {{text, sizeof(text) - 1}, end, END_##why},
#include "h2_message_cases.def"
#undef RESPONSE
};

static void check_case(const struct message_case *c, enum end why, bool untouched) {
  if (why != c->why)
    fail_msg("%s: " SPAN_FMT ", not " SPAN_FMT, c->text.ptr, SPAN_ARG(end_get(why)->word),
             SPAN_ARG(end_get(c->why)->word));
  assert_true(untouched == (why != END_OK));
}

static void malformed_requests(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(requests); i++) {
    struct h2_section s = section(requests[i].text, requests[i].end_stream);
    struct http_request req = {.head_len = 77};
    enum end why = END_OK;
    bool ok = h2_parse_request(&s, &rules, &arena, &req, &why);
    assert_true(ok == (why == END_OK));
    check_case(&requests[i], why, req.head_len == 77);
  }
}

static void malformed_responses(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(responses); i++) {
    struct h2_section s = section(responses[i].text, responses[i].end_stream);
    struct http_response res = {.head_len = 77};
    enum end why = END_OK;
    bool ok = h2_parse_response(&s, &get, &res, &why);
    assert_true(ok == (why == END_OK));
    check_case(&responses[i], why, res.head_len == 77);
  }
}

/* What a decoder found is believed. */
static void decoder_faults(void **state) {
  (void)state;
  static const struct {
    uint8_t fault;
    enum end request, response;
  } rows[] = {{H2_FAULT_REPEATED, END_BAD_REQUEST_PSEUDO_REPEATED, END_BAD_RESPONSE_PSEUDO},
              {H2_FAULT_LATE, END_BAD_REQUEST_PSEUDO_LATE, END_BAD_RESPONSE_PSEUDO},
              {H2_FAULT_UNKNOWN, END_BAD_REQUEST_PSEUDO_UNKNOWN, END_BAD_RESPONSE_PSEUDO},
              {H2_FAULT_NAME, END_BAD_REQUEST_FIELD_NAME, END_BAD_RESPONSE_FIELD_NAME},
              {H2_FAULT_VALUE, END_BAD_REQUEST_FIELD_VALUE, END_BAD_RESPONSE_FIELD_VALUE}};
  for (size_t i = 0; i < array_count(rows); i++) {
    struct h2_section s = section(SPAN_LIT(":method=GET|:scheme=http|:path=/|:authority=a"), true);
    struct http_request req;
    struct http_response res;
    enum end why = END_OK;
    s.pseudo.faults = rows[i].fault;
    assert_false(h2_parse_request(&s, &rules, &arena, &req, &why));
    assert_int_equal(why, rows[i].request);
    s = section(SPAN_LIT(":status=200"), true);
    s.pseudo.faults = rows[i].fault;
    assert_false(h2_parse_response(&s, &get, &res, &why));
    assert_int_equal(why, rows[i].response);
  }
}

static void takes_apart(void **state) {
  (void)state;
  struct http_request req = parse(
      ":method=POST|:scheme=HTTPS|:path=/p?q|:authority=A.example:81|host=a.example:81|"
      "content-length=3|expect=100-continue|x-forwarded-for=1.1.1.1|x_forwarded_for=2|te=trailers|"
      "via=x|proxy-authorization=x|content_length=9|x-forwarded-user=u|x_forwarded_uri=/",
      false);
  assert_int_equal(req.method, HTTP_METHOD_POST);
  assert_int_equal(req.form, HTTP_FORM_ORIGIN);
  assert_int_equal(req.scheme, HTTP_SCHEME_HTTPS);
  assert_true(span_eq(req.method_text, SPAN_LIT("POST")));
  assert_true(span_eq(req.target, SPAN_LIT("/p?q")) && span_eq(req.path, SPAN_LIT("/p")));
  assert_true(req.has_query && span_eq(req.query, SPAN_LIT("q")));
  assert_true(span_eq(req.host, SPAN_LIT("a.example")) && req.port == 81);
  assert_true(req.minor == 1 && req.h2 && req.keepalive && req.expect_continue);
  assert_int_equal(req.body, HTTP_BODY_LENGTH);
  assert_int_equal(req.content_length, 3);
  static const uint16_t flags[] = {HTTP_FIELD_OWN,
                                   HTTP_FIELD_OWN,
                                   0,
                                   HTTP_FIELD_FORWARDING,
                                   HTTP_FIELD_ALIAS,
                                   HTTP_FIELD_HOP,
                                   0,
                                   HTTP_FIELD_HOP,
                                   HTTP_FIELD_ALIAS,
                                   HTTP_FIELD_FORWARDING,
                                   HTTP_FIELD_FORWARDING};
  assert_int_equal(req.fields.count, array_count(flags));
  for (size_t i = 0; i < array_count(flags); i++)
    assert_int_equal(req.fields.rows[i].flags, flags[i]);
}

static void bodies(void **state) {
  (void)state;
  const char *post = ":method=POST|:scheme=http|:path=/|:authority=a|";
  assert_int_equal(parse(post, true).body, HTTP_BODY_NONE);
  assert_int_equal(parse(post, false).body, HTTP_BODY_CHUNKED);
  struct http_request req =
      parse(":method=POST|:scheme=http|:path=/|:authority=a|content-length=0", true);
  assert_true(req.body == HTTP_BODY_LENGTH && req.content_length == 0);
  req = parse(":method=POST|:scheme=http|:path=/|:authority=a|expect=100-continue", true);
  assert_false(req.expect_continue); /* nothing to come, so nobody waits */
  assert_int_equal(req.fields.rows[0].flags, HTTP_FIELD_HOP);
}

static void extended_connect(void **state) {
  (void)state;
  const char *text =
      ":method=CONNECT|:protocol=websocket|:scheme=https|:path=/c|:authority=a|"
      "sec-websocket-version=13";
  struct http_request req = parse(text, false);
  assert_int_equal(req.method, HTTP_METHOD_GET);
  assert_true(span_eq(req.method_text, SPAN_LIT("GET")));
  assert_true(span_eq(req.upgrade, SPAN_LIT("websocket")));
  assert_int_equal(req.body, HTTP_BODY_NONE);
  struct h2_rules off = {.uri_bytes = 16, .extended_connect = false};
  struct h2_section s = section(span_str(text), false);
  enum end why = END_OK;
  assert_false(h2_parse_request(&s, &off, &arena, &req, &why));
  assert_int_equal(why, END_BAD_REQUEST_PSEUDO_UNKNOWN);
}

static void cookies_are_joined(void **state) {
  (void)state;
  struct http_request req = parse(
      ":method=GET|:scheme=http|:path=/|:authority=a|x=1|cookie=a=b|y=2|cookie=|cookie=c=d; "
      "e|z=3",
      true);
  static const char *const rows[] = {"x", "1", "cookie", "a=b; c=d; e", "y", "2", "z", "3"};
  assert_int_equal(req.fields.count, 4);
  for (size_t i = 0; i < 4; i++) {
    assert_true(span_eq(req.fields.rows[i].name, span_str(rows[2 * i])));
    assert_true(span_eq(req.fields.rows[i].value, span_str(rows[2 * i + 1])));
  }
  assert_true(http_fields_has(&req.fields, HTTP_NAME_COOKIE));
  assert_true(req.fields.repeated == 0);
  req = parse(":method=GET|:scheme=http|:path=/|:authority=a|cookie=|cookie=a|cookie=", true);
  assert_true(span_eq(req.fields.rows[0].value, SPAN_LIT("a")));
  req = parse(":method=GET|:scheme=http|:path=/|:authority=a|cookie=|cookie=", true);
  assert_true(req.fields.count == 1 && req.fields.rows[0].value.len == 0);
  struct h2_section s =
      section(SPAN_LIT(":method=GET|:scheme=http|:path=/|:authority=a|cookie=a|cookie=b"), true);
  struct arena none;
  enum end why = END_OK;
  arena_init(&none, NULL, 1);
  assert_false(h2_parse_request(&s, &rules, &none, &req, &why));
  assert_int_equal(why, END_LIMIT_STREAM_MEMORY);
}

static void response_bodies(void **state) {
  (void)state;
  const struct h2_asked head = {.method = HTTP_METHOD_HEAD, .upgrade = SPAN_EMPTY};
  struct http_response res = answer(":status=200|content-length=3", &get, false);
  assert_true(res.body == HTTP_BODY_LENGTH && res.has_length && res.content_length == 3);
  assert_true(res.keepalive && res.minor == 1 && res.h2);
  assert_true(span_eq(res.reason, SPAN_LIT("OK")));
  assert_int_equal(answer(":status=200", &get, false).body, HTTP_BODY_CHUNKED);
  res = answer(":status=200", &get, true);
  assert_true(res.body == HTTP_BODY_LENGTH && !res.has_length && res.content_length == 0);
  res = answer(":status=200|content-length=3", &head, true);
  assert_true(res.body == HTTP_BODY_NONE && res.has_length && res.content_length == 3);
  res = answer(":status=304|content-length=3", &get, true);
  assert_true(res.body == HTTP_BODY_NONE && res.has_length);
  res = answer(":status=204|content-length=3", &get, false);
  assert_true(res.body == HTTP_BODY_NONE && !res.has_length && res.keepalive);
  assert_int_equal(answer(":status=100", &get, false).body, HTTP_BODY_NONE);
}

static void tunnels(void **state) {
  (void)state;
  const struct h2_asked ws = {.method = HTTP_METHOD_GET, .upgrade = SPAN_LIT("websocket")};
  struct http_response res = answer(":status=200|content-length=3", &ws, false);
  assert_true(res.status == 101 && res.body == HTTP_BODY_TUNNEL && !res.has_length);
  assert_true(span_eq(res.upgrade, SPAN_LIT("websocket")));
  assert_true(span_eq(res.reason, SPAN_LIT("Switching Protocols")));
  res = answer(":status=403|content-length=3", &ws, false);
  assert_true(res.status == 403 && res.body == HTTP_BODY_LENGTH && res.upgrade.len == 0);
  res = answer(":status=103", &ws, false);
  assert_true(res.status == 103 && res.body == HTTP_BODY_NONE);
}

static void trailers(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool end_stream;
    enum end why;
  } rows[] = {{"grpc-status=0", true, END_OK},
              {"", true, END_OK},
              {"grpc-status=0", false, END_BAD_REQUEST_TRAILER},
              {":path=/", true, END_BAD_REQUEST_TRAILER},
              {":x=/", true, END_BAD_REQUEST_PSEUDO_UNKNOWN},
              {"a=b|:x=/", true, END_BAD_REQUEST_PSEUDO_UNKNOWN},
              {"A=b", true, END_BAD_REQUEST_FIELD_CASE},
              {"a=b\r\n", true, END_BAD_REQUEST_FIELD_VALUE},
              {"transfer-encoding=chunked", true, END_BAD_REQUEST_CONNECTION_FIELD}};
  for (size_t i = 0; i < array_count(rows); i++) {
    struct h2_section s = section(span_str(rows[i].text), rows[i].end_stream);
    enum end why = END_OK;
    assert_true(h2_parse_trailers(&s, true, &why) == (rows[i].why == END_OK));
    assert_int_equal(why, rows[i].why);
  }
  struct h2_section s = section(SPAN_LIT("content-length=4|host=x|grpc-status=0"), true);
  enum end why = END_OK;
  assert_true(h2_parse_trailers(&s, false, &why));
  assert_true(s.fields.rows[0].flags & HTTP_FIELD_DROP &&
              s.fields.rows[1].flags & HTTP_FIELD_DROP);
  assert_int_equal(s.fields.rows[2].flags, 0);
  s.end_stream = false;
  assert_false(h2_parse_trailers(&s, false, &why));
  assert_int_equal(why, END_BAD_RESPONSE_TRAILER);
}

static void lengths(void **state) {
  (void)state;
  struct h2_length l;
  enum end why = END_OK;
  h2_length_init(&l, true, HTTP_BODY_LENGTH, 5);
  assert_true(h2_length_take(&l, 3, &why) && h2_length_take(&l, 0, &why));
  assert_false(h2_length_end(&l, &why));
  assert_int_equal(why, END_BAD_REQUEST_LENGTH_MISMATCH);
  assert_true(h2_length_take(&l, 2, &why) && h2_length_end(&l, &why));
  assert_false(h2_length_take(&l, 1, &why));
  h2_length_init(&l, false, HTTP_BODY_LENGTH, 5);
  assert_false(h2_length_take(&l, 6, &why));
  assert_int_equal(why, END_BAD_RESPONSE_LENGTH_MISMATCH);
  h2_length_init(&l, false, HTTP_BODY_NONE, 7); /* HEAD: the length is of another response */
  assert_true(h2_length_take(&l, 0, &why) && h2_length_end(&l, &why));
  assert_false(h2_length_take(&l, 1, &why));
  h2_length_init(&l, false, HTTP_BODY_CHUNKED, 0);
  assert_true(h2_length_take(&l, UINT64_MAX, &why) && h2_length_take(&l, 1, &why));
  assert_true(h2_length_end(&l, &why));
  h2_length_init(&l, true, HTTP_BODY_TUNNEL, 0);
  assert_true(h2_length_take(&l, 1, &why));
}

/* ---- back ---- */

static char room[1024];

/* gather is an h2_put that writes "name=value|", "name!value|" of what is never indexed. */
static bool gather(void *ctx, const struct h2_field *field) {
  struct buf *b = ctx;
  enum http_name id = http_name_find(field->name);
  assert_int_equal(field->id, id);
  if (field->pseudo == H2_PSEUDO_COUNT)
    assert_true(field->name.ptr[0] != ':');
  else
    assert_true(span_eq(field->name, h2_pseudo_text((enum h2_pseudo_id)field->pseudo)));
  buf_put(b, field->name);
  buf_char(b, field->secret ? '!' : '=');
  buf_put(b, field->value);
  buf_char(b, '|');
  return !b->full;
}

static void assert_request(const struct h2_request_head *head, const char *want) {
  struct buf b = buf_of(room, sizeof(room));
  assert_true(h2_each_request(head, &arena, gather, &b));
  if (!span_eq(buf_span(&b), span_str(want)))
    fail_msg("\n" SPAN_FMT "\n%s", SPAN_ARG(buf_span(&b)), want);
}

static struct http_request h1(const char *text) {
  static const struct h1_limits usual = {.header_bytes = 65536, .headers = 99, .uri_bytes = 999};
  struct h1_scan scan = {0};
  struct http_request req;
  enum end why = END_OK;
  assert_int_equal(h1_parse_request(&scan, span_str(text), &usual, &arena, &req, &why), HTTP_DONE);
  return req;
}

static void requests_go_out(void **state) {
  (void)state;
  struct http_request req = h1(
      "POST /a?b HTTP/1.1\r\nHost: A:81\r\nConnection: x-hop, TE\r\nX-Hop: 1\r\nTE: gzip, "
      "trailers\r\nUser-Agent: u\r\nX-Own: V\r\nX-Forwarded-For: 1\r\nContent-Length: 7\r\n\r\n");
  struct h2_request_head head = {.request = &req, .scheme = HTTP_SCHEME_HTTPS};
  assert_request(&head,
                 ":method=POST|:scheme=https|:authority=a:81|:path=/a?b|user-agent=u|x-own=V|"
                 "te=trailers|content-length=7|");
  http_fields_drop(&req.fields, SPAN_LIT("te"));
  head = (struct h2_request_head){
      .request = &req, .path = SPAN_LIT("/z"), .host = SPAN_LIT("h"), .port = 0};
  assert_request(&head,
                 ":method=POST|:scheme=http|:authority=h|:path=/z?b|user-agent=u|x-own=V|"
                 "content-length=7|");
  req = h1("OPTIONS * HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: x\r\n\r\n");
  head = (struct h2_request_head){.request = &req};
  assert_request(&head, ":method=OPTIONS|:scheme=http|:authority=a|:path=*|");
  req = h1("GET /? HTTP/1.1\r\nHost: a\r\n\r\n");
  assert_request(&head, ":method=GET|:scheme=http|:authority=a|:path=/?|");
  req = h1("GET /ab?c HTTP/1.1\r\nHost: a\r\n\r\n"); /* and then edited in place */
  req.query = SPAN_LIT("d");
  assert_request(&head, ":method=GET|:scheme=http|:authority=a|:path=/ab?d|");
  req.path.len = 2;
  req.query = SPAN_LIT("?c");
  assert_request(&head, ":method=GET|:scheme=http|:authority=a|:path=/a??c|");
  req = h1("GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n");
  assert_request(&head, ":method=GET|:scheme=http|:authority=a|:path=/b?c|");
  req = h1("GET /c HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
  assert_request(&head, ":method=CONNECT|:scheme=http|:authority=a|:path=/c|:protocol=websocket|");
}

/* Bytes that could end a line elsewhere, and names that are none, do not get out; nor do more than
 * the sink takes. */
static void nothing_bad_goes_out(void **state) {
  (void)state;
  static const struct span evil[] = {SPAN_LIT("a\r\nb"), SPAN_LIT("a\0b"), SPAN_LIT("a\n")};
  struct http_request req = h1("GET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n");
  struct h2_request_head head = {.request = &req};
  for (size_t i = 0; i < array_count(evil); i++) {
    struct buf b = buf_of(room, sizeof(room));
    head.path = evil[i];
    assert_false(h2_each_request(&head, &arena, gather, &b));
    head.path = SPAN_EMPTY;
    head.host = evil[i];
    assert_false(h2_each_request(&head, &arena, gather, &b));
    head.host = SPAN_EMPTY;
    struct span kept = req.fields.rows[1].value;
    req.fields.rows[1].value = evil[i];
    assert_false(h2_each_request(&head, &arena, gather, &b));
    req.fields.rows[1].value = kept;
    kept = req.fields.rows[1].name;
    req.fields.rows[1].name = evil[i];
    assert_false(h2_each_request(&head, &arena, gather, &b));
    req.fields.rows[1].name = kept;
  }
  req = h1("GET / HTTP/1.0\r\n\r\n"); /* the caller has to name a host */
  struct buf nameless = buf_of(room, sizeof(room));
  assert_false(h2_each_request(&head, &arena, gather, &nameless));
  head.host = SPAN_LIT("10.0.0.1:80");
  assert_request(&head, ":method=GET|:scheme=http|:authority=10.0.0.1:80|:path=/|");
  for (size_t cap = 0; cap < 46; cap++) {
    struct buf b = buf_of(room, cap);
    assert_false(h2_each_request(&head, &arena, gather, &b));
  }
}

/* What came as never indexed goes on as such (RFC 7541 section 6.2.3), in each kind of section;
 * a row of crumbs when one of them did. */
static void secrets_stay_secret(void **state) {
  (void)state;
  struct buf b = buf_of(room, sizeof(room));
  struct h2_section s = section(SPAN_LIT(":method=GET|:scheme=http|:path=/p?q|:authority=a|"
                                         "authorization=b|x-a=c|cookie=d|cookie=e|x-b=f"),
                                true);
  struct http_request req;
  struct http_response res;
  enum end why = END_OK;
  s.pseudo.secret = 1u << H2_PSEUDO_PATH | 1u << H2_PSEUDO_AUTHORITY;
  for (uint32_t i = 0; i < 4; i++) s.fields.rows[i].secret = i != 2;
  assert_true(h2_parse_request(&s, &rules, &arena, &req, &why));
  const struct h2_request_head head = {.request = &req, .scheme = HTTP_SCHEME_HTTPS};
  assert_request(&head,
                 ":method=GET|:scheme=https|:authority!a|:path!/p?q|authorization!b|x-a!c|"
                 "cookie!d; e|x-b=f|");
  s = section(SPAN_LIT(":method=GET|:scheme=http|:path=/|host=a|x-b=f"), true);
  s.fields.rows[0].secret = true; /* it becomes another field */
  assert_true(h2_parse_request(&s, &rules, &arena, &req, &why));
  assert_request(&head, ":method=GET|:scheme=https|:authority!a|:path=/|x-b=f|");
  s = section(SPAN_LIT(":status=200|set-cookie=a|x=b"), true);
  s.pseudo.secret = 1u << H2_PSEUDO_STATUS;
  s.fields.rows[0].secret = true;
  assert_true(h2_parse_response(&s, &get, &res, &why));
  assert_true(h2_each_response(&res, &arena, gather, &b));
  assert_true(span_eq(buf_span(&b), SPAN_LIT(":status!200|set-cookie!a|x=b|")));
  b.len = 0;
  s = section(SPAN_LIT("grpc-status=0|x=b"), true);
  s.fields.rows[1].secret = true;
  assert_true(h2_parse_trailers(&s, false, &why));
  assert_true(h2_each_trailer(&s.fields, &arena, gather, &b));
  assert_true(span_eq(buf_span(&b), SPAN_LIT("grpc-status=0|x!b|")));
}

static void responses_go_out(void **state) {
  (void)state;
  struct buf b = buf_of(room, sizeof(room));
  struct http_response res =
      answer(":status=200|content-length=3|server=x|proxy-authenticate=y", &get, false);
  assert_true(h2_each_response(&res, &arena, gather, &b));
  assert_true(span_eq(buf_span(&b), SPAN_LIT(":status=200|server=x|content-length=3|")));
  b.len = 0;
  res = answer(":status=200|x-a=b", &get, true);
  assert_true(h2_each_response(&res, &arena, gather, &b));
  assert_true(span_eq(buf_span(&b), SPAN_LIT(":status=200|x-a=b|")));
  b.len = 0;
  res.status = 101;
  assert_true(h2_each_response(&res, &arena, gather, &b));
  assert_true(span_eq(buf_span(&b), SPAN_LIT(":status=200|x-a=b|")));
  b.len = 0;
  struct h2_section s = section(SPAN_LIT("grpc-status=0|content-length=3"), true);
  enum end why = END_OK;
  assert_true(h2_parse_trailers(&s, false, &why));
  assert_true(h2_each_trailer(&s.fields, &arena, gather, &b));
  assert_true(span_eq(buf_span(&b), SPAN_LIT("grpc-status=0|")));
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
      TEST(malformed_requests),
      TEST(malformed_responses),
      TEST(decoder_faults),
      TEST(takes_apart),
      TEST(bodies),
      TEST(extended_connect),
      TEST(cookies_are_joined),
      TEST(response_bodies),
      TEST(tunnels),
      TEST(trailers),
      TEST(lengths),
      TEST(requests_go_out),
      TEST(secrets_stay_secret),
      TEST(responses_go_out),
      TEST(nothing_bad_goes_out),
#undef TEST
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
