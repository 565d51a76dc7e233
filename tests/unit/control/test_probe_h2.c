/* test_probe_h2.c: a check over HTTP/2: the request that goes out, read by the other side's
 * parsers; what frames of an endpoint mean, by a table, whole, byte by byte and cut at every
 * place; and that whatever it sends the check ends, within bounds, with its reason. */
#include "control/probe_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../support/probe_peer.h"
#include "weir/base/mem.h"
#include "weir/http/h2_message.h"

#define MORE PROBE_COUNT /* no result yet */
#define ROOM (2u << 20)

static const struct health_statuses expect[] = {{200, 299}, {404, 404}};
static const struct http_field own[] = {{.name = SPAN_LIT("X-Check"), .value = SPAN_LIT("weir")}};

static struct pool_health settings_of(const char *body) {
  return (struct pool_health){.on = true,
                              .h2 = true,
                              .method = SPAN_LIT("GET"),
                              .path = SPAN_LIT("/healthz?a=b"),
                              .fields = own,
                              .field_count = 1,
                              .timeout_ms = 1500,
                              .expect = expect,
                              .expect_count = array_count(expect),
                              .expect_text = SPAN_LIT("200-299, 404"),
                              .body = span_str(body)};
}

static struct pool_health grpc_of(const char *service) {
  struct pool_health h = settings_of(NULL);
  h.protocol = HEALTH_GRPC;
  h.service = span_str(service);
  return h;
}

static struct probe_talk *talk_of(const struct pool_health *h) {
  return probe_h2_new(h, SPAN_LIT("10.0.0.7:8080"), false);
}

/* ---- the request, as a server reads it ---- */

struct seen {
  struct hpack_decoder decoder;
  struct hpack_block block;
  struct arena arena;
  struct http_request request;
  struct buf body;
  char bytes[512];
  uint32_t push, window, credit;
  bool headed, ended;
};

static void take_request(struct seen *s, bool end) {
  static const struct h2_rules rules = {.uri_bytes = 1024};
  struct h2_section section = {.fields = s->block.fields, .end_stream = end};
  enum end why = END_OK;
  section.pseudo = (struct h2_pseudo){.present = s->block.present, .faults = s->block.faults};
  memcpy(section.pseudo.value, s->block.pseudo, sizeof s->block.pseudo);
  assert_true(h2_parse_request(&section, &rules, &s->arena, &s->request, &why));
  s->headed = true;
  s->ended = end;
}

static void take_item(struct seen *s, const struct h2_frame *f, enum h2_event event,
                      const struct h2_item *item) {
  static const struct hpack_limits limits = {100, 65536, 65536, 65536};
  assert_true(event != H2_EVENT_CONNECTION_ERROR && event != H2_EVENT_STREAM_ERROR);
  if (event == H2_EVENT_FRAME && f->type == H2_HEADERS)
    hpack_block_init(&s->block, &limits, &s->arena);
  if (event == H2_EVENT_SETTING && item->id == H2_SETTING_ENABLE_PUSH) s->push = item->value;
  if (event == H2_EVENT_SETTING && item->id == H2_SETTING_INITIAL_WINDOW_SIZE)
    s->window = item->value;
  if (event == H2_EVENT_WINDOW_UPDATE && f->stream == 0) s->credit = item->value;
  if (event == H2_EVENT_FRAGMENT) {
    bool last = item->end && f->flags & H2_FLAG_END_HEADERS;
    enum hpack_result r = hpack_decode(&s->decoder, &s->block, item->bytes, last);
    assert_int_equal(r, last ? HPACK_DONE : HPACK_MORE);
    if (last) take_request(s, f->flags & H2_FLAG_END_STREAM);
  }
  if (event != H2_EVENT_DATA) return;
  assert_true(s->headed && !s->ended);
  buf_put(&s->body, item->bytes);
  s->ended = item->end && f->flags & H2_FLAG_END_STREAM;
}

static void read_request(struct seen *s, const struct pool_health *h) {
  struct probe_talk *talk = talk_of(h);
  struct span in = talk->ops->output(talk);
  struct h2_scanner scanner;
  *s = (struct seen){.push = 1};
  s->body = buf_of(s->bytes, sizeof s->bytes);
  hpack_decoder_init(&s->decoder, HPACK_TABLE_DEFAULT);
  arena_init(&s->arena, NULL, 0);
  h2_frame_scan_init(&scanner, true, H2_FRAME_SIZE_MIN);
  while (in.len) {
    struct h2_item item = {0};
    size_t took = 0;
    enum h2_event event = h2_frame_scan(&scanner, in, &took, &item);
    in = span_from(in, took);
    take_item(s, &scanner.frame, event, &item);
  }
  talk->ops->free(talk);
  assert_true(s->headed && s->ended && s->push == 0);
  assert_true(s->window > PROBE_BODY_MAX && s->credit + 65535 == s->window);
}

static void seen_free(struct seen *s) {
  hpack_decoder_fini(&s->decoder);
  arena_reset(&s->arena);
}

static const struct http_field *field(const struct seen *s, const char *name) {
  for (uint32_t i = 0; i < s->request.fields.count; i++)
    if (span_eq(s->request.fields.rows[i].name, span_str(name))) return &s->request.fields.rows[i];
  return NULL;
}

static void has(const struct seen *s, const char *name, const char *value) {
  const struct http_field *row = field(s, name);
  assert_non_null(row);
  assert_true(span_eq(row->value, span_str(value)));
}

static void test_request(void **state) {
  struct seen s;
  struct pool_health h = settings_of(NULL);
  (void)state;
  read_request(&s, &h);
  assert_int_equal(s.request.method, HTTP_METHOD_GET);
  assert_true(span_eq(s.request.target, SPAN_LIT("/healthz?a=b")));
  assert_true(span_eq(s.request.host, SPAN_LIT("10.0.0.7")));
  assert_int_equal(s.request.port, 8080);
  assert_int_equal(s.request.scheme, HTTP_SCHEME_HTTP);
  has(&s, "x-check", "weir");
  assert_null(field(&s, "connection"));
  seen_free(&s);
  h.head = true;
  h.method = SPAN_LIT("HEAD");
  h.host = SPAN_LIT("app.internal");
  read_request(&s, &h);
  assert_int_equal(s.request.method, HTTP_METHOD_HEAD);
  assert_true(span_eq(s.request.host, SPAN_LIT("app.internal")));
  seen_free(&s);
}

/* The longest request that the configuration allows goes in several frames. */
static void test_long_request(void **state) {
  struct seen s;
  struct pool_health h = settings_of(NULL);
  struct http_field rows[11];
  char value[1018], path[1025];
  (void)state;
  memset(value, '~', sizeof value); /* worst for Huffman: it goes as it is */
  memset(path, 'a', sizeof path - 1);
  path[0] = '/';
  path[1024] = 0;
  for (uint32_t i = 0; i < 11; i++)
    rows[i] = (struct http_field){.name = SPAN_LIT("x-long"), .value = span_of(value, 1018)};
  h.fields = rows;
  h.field_count = 11;
  h.path = span_str(path);
  read_request(&s, &h);
  assert_int_equal(s.request.fields.count, 11);
  seen_free(&s);
}

static void test_grpc_request(void **state) {
  struct seen s;
  struct pool_health h = grpc_of("shop.Cart");
  (void)state;
  read_request(&s, &h);
  assert_int_equal(s.request.method, HTTP_METHOD_POST);
  assert_true(span_eq(s.request.target, SPAN_LIT("/grpc.health.v1.Health/Check")));
  has(&s, "te", "trailers");
  has(&s, "content-type", "application/grpc");
  has(&s, "grpc-timeout", "1500m");
  assert_true(span_eq(buf_span(&s.body), SPAN_LIT("\0\0\0\0\x0b\x0a\x09shop.Cart")));
  seen_free(&s);
  h = grpc_of(NULL);
  read_request(&s, &h);
  assert_true(span_eq(buf_span(&s.body), SPAN_LIT("\0\0\0\0\0")));
  seen_free(&s);
}

/* ---- answers ---- */

/* frame: S settings, A their ACK, P ping, H section, D data, R reset, G goaway, W credit,
 * X bytes as they are (their NUL too where n says how many). */
struct frame {
  char kind;
  const char *text;
  uint32_t n, code;
  bool end;
};
#define S {'S', NULL, 0, 0, false}
#define H(text) {'H', text, 0, 0, false}
#define HE(text) {'H', text, 0, 0, true}
#define D(text) {'D', text, sizeof(text) - 1, 0, false}
#define DE(text) {'D', text, sizeof(text) - 1, 0, true}
#define X(text) {'X', text, sizeof(text) - 1, 0, false}
#define GRPC "200;content-type=application/grpc"
#define SERVING "\0\0\0\0\x02\x08\x01"

static void put_frame(struct buf *b, const struct frame *f) {
  static const struct h2_row row = {H2_SETTING_MAX_CONCURRENT_STREAMS, 100};
  switch (f->kind) {
    case 'S': h2_write_settings(b, &row, 1); break;
    case 'A': h2_write_settings_ack(b); break;
    case 'P': h2_write_ping(b, false, SPAN_LIT("12345678")); break;
    case 'H': peer_section(b, span_str(f->text), f->end); break;
    case 'D': peer_data(b, span_of(f->text, f->n), f->end); break;
    case 'R': h2_write_rst_stream(b, f->n ? f->n : 1, (enum h2_error)f->code); break;
    case 'G': h2_write_goaway(b, f->n, (enum h2_error)f->code, SPAN_LIT("x")); break;
    case 'W': h2_write_window_update(b, 0, f->n); break;
    default: buf_put(b, span_of(f->text, f->n));
  }
  assert_false(b->full);
}

static const struct answer {
  struct frame frames[8];
  const char *body;         /* health.body; NULL: none */
  enum probe_result result; /* when all of it came */
  enum probe_result at_eof; /* if that was MORE */
  const char *why;          /* begins so */
} answers[] = {
    {{S, HE("200")}, NULL, PROBE_PASS, 0, ""},
    {{S, H("200;content-length=5")}, NULL, PROBE_PASS, 0, ""}, /* the body is not waited for */
    {{S, {'A', 0, 0, 0, 0}, {'P', 0, 0, 0, 0}, {'W', 0, 100, 0, 0}, HE("204")}, NULL, PROBE_PASS,
     0, ""},
    {{S, HE("404;server=x")}, NULL, PROBE_PASS, 0, ""},
    {{S, HE("503")}, NULL, PROBE_STATUS, 0, "status 503 is not in 200-299, 404 (health.expect)"},
    {{S, H("103;link=</a>"), H("100"), HE("500")}, NULL, PROBE_STATUS, 0, "status 500"},
    {{S, HE("103")}, NULL, PROBE_BAD_RESPONSE, 0, "the answer is not good HTTP/2 (upstream.bad_"},
    {{S, HE("101")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, HE(";a=b")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, HE("200;Upper=b")}, NULL, PROBE_PASS, 0, ""}, /* the writer makes it lower case */
    {{S, HE("200;connection=close")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, HE("200;content-length=5")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, H("200;content-length=5, 6")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    /* bodies */
    {{S, H("200"), D("all goo"), D(""), DE("d")}, "good", PROBE_PASS, 0, ""},
    {{S, H("200"), DE("all bad")}, "good", PROBE_BODY, 0,
     "the body does not contain \"good\" (health.body)"},
    {{S, HE("200")}, "good", PROBE_BODY, 0, NULL},
    {{S, H("200"), D("all"), HE(";x=y")}, "good", PROBE_BODY, 0, NULL},
    {{S, H("200"), D("all"), H(";x=y")}, "good", PROBE_BAD_RESPONSE, 0, NULL},
    {{S, H("200;content-length=2"), D("all")}, "good", PROBE_BAD_RESPONSE, 0, NULL},
    {{S, H("200;content-length=9"), DE("all")}, "good", PROBE_BAD_RESPONSE, 0, NULL},
    {{S, H("200"), D("all")}, "good", MORE, PROBE_CLOSED, "closed within the body of its answer"},
    {{S, D("good")}, "good", PROBE_BAD_RESPONSE, 0, "the answer is not good HTTP/2 (DATA before"},
    /* ends */
    {{{0}}, NULL, MORE, PROBE_CLOSED, "closed without an answer"},
    {{S}, NULL, MORE, PROBE_CLOSED, "closed after its SETTINGS, without an answer"},
    {{S, {'R', 0, 0, H2_REFUSED_STREAM, 0}}, NULL, PROBE_RESET, 0,
     "the request was reset: REFUSED_STREAM (0x7)"},
    {{S, {'R', 0, 0, 0x1234, 0}}, NULL, PROBE_RESET, 0,
     "the request was reset: of an unknown code (0x1234)"},
    {{S, {'R', 0, 3, 0, 0}}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, {'G', 0, 1, H2_ENHANCE_YOUR_CALM, 0}}, NULL, PROBE_RESET, 0,
     "GOAWAY ENHANCE_YOUR_CALM (0xb)"},
    {{S, {'G', 0, 0, 0, 0}}, NULL, PROBE_RESET, 0,
     "the request was not looked at, GOAWAY NO_ERROR (0x0)"},
    {{S, {'G', 0, 1, 0, 0}, HE("200")}, NULL, PROBE_PASS, 0, ""},
    {{S, {'G', 0, 1, 0, 0}}, NULL, MORE, PROBE_CLOSED,
     "closed after its SETTINGS, without an answer, by GOAWAY NO_ERROR"},
    /* other protocols, bad frames */
    {{X("HTTP/1.1 400 Bad Request\r\n\r\n")}, NULL, PROBE_BAD_RESPONSE, 0,
     "the answer is HTTP/1, the check is HTTP/2"},
    {{X("SSH-2.0-OpenSSH_9.2\r\n")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{X("\x15\x03\x01\x00\x02\x02\x16")}, NULL, MORE, PROBE_CLOSED, "closed without an answer"},
    {{X("\0\0\0\1\5\0\0\0\1")}, NULL, PROBE_BAD_RESPONSE, 0, NULL}, /* no SETTINGS first */
    {{S, X("\0\0\4\3\0\0\0\0\0abcd")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, X("\0\0\5\5\4\0\0\0\1\0\0\0\2\x88")}, NULL, PROBE_BAD_RESPONSE, 0,
     "the answer is not good HTTP/2 (PUSH_PROMISE"},
    {{S, X("\0\0\1\1\5\0\0\0\3\x88")}, NULL, PROBE_BAD_RESPONSE, 0, NULL}, /* stream 3 */
    {{S, X("\0\0\1\1\5\0\0\0\2\x88")}, NULL, PROBE_BAD_RESPONSE, 0, NULL}, /* stream 2 */
    {{S, X("\0\0\1\1\5\0\0\0\1\xff")}, NULL, PROBE_BAD_RESPONSE, 0,
     "the answer is not good HTTP/2 (COMPRESSION_ERROR)"},
    {{S, X("\0\0\4\x8\0\0\0\0\1\0\0\0\0")}, NULL, PROBE_BAD_RESPONSE, 0, NULL}, /* by nothing */
    {{S, X("\0\0\1\1\1\0\0\0\1\x88")}, NULL, MORE, PROBE_CLOSED,
     "closed within the head of its answer"},
    {{S, X("\0\0\3\xfa\0\0\0\0\1abc"), HE("200")}, NULL, PROBE_PASS, 0, ""}, /* unknown type */
    {{S, X("\0\1\0\0\0\0\0\0\1")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
};

static const struct answer calls[] = {
    {{S, H(GRPC), D(SERVING), HE(";grpc-status=0")}, NULL, PROBE_PASS, 0, ""},
    {{S, H(GRPC "+proto"), D(SERVING), HE(";grpc-status=0;grpc-message=")}, NULL, PROBE_PASS, 0,
     ""},
    {{S, H(GRPC), D("\0\0\0\0\4\x10\7\x08\1"), HE(";grpc-status=0")}, NULL, PROBE_PASS, 0, ""},
    {{S, H(GRPC), D("\0\0\0\0\7\x1a\3abc\x08\1"), HE(";grpc-status=0")}, NULL, PROBE_PASS, 0, ""},
    {{S, H(GRPC), D("\0\0\0\0\2\x08\2"), HE(";grpc-status=0")}, NULL, PROBE_NOT_SERVING, 0,
     "service \"shop.Cart\" is NOT_SERVING"},
    {{S, H(GRPC), D("\0\0\0\0\2\x08\3"), HE(";grpc-status=0")}, NULL, PROBE_NOT_SERVING, 0,
     "service \"shop.Cart\" is SERVICE_UNKNOWN"},
    {{S, H(GRPC), D("\0\0\0\0\0"), HE(";grpc-status=0")}, NULL, PROBE_NOT_SERVING, 0,
     "service \"shop.Cart\" is UNKNOWN"},
    {{S, H(GRPC), D("\0\0\0\0\3\x08\xff\1"), HE(";grpc-status=0")}, NULL, PROBE_NOT_SERVING, 0,
     "service \"shop.Cart\" is in a state of no name"},
    {{S, H(GRPC), D("\0\0\0\0\4\x08\1\x08\2"), HE(";grpc-status=0")}, NULL, PROBE_NOT_SERVING, 0,
     NULL}, /* the last one counts */
    /* refusals */
    {{S, HE(GRPC ";grpc-status=5;grpc-message=unknown service")}, NULL, PROBE_STATUS, 0,
     "grpc-status 5 (NOT_FOUND): the server does not know the service \"shop.Cart\""},
    {{S, HE(GRPC ";grpc-status=12")}, NULL, PROBE_STATUS, 0,
     "grpc-status 12 (UNIMPLEMENTED): the server does not offer grpc.health.v1.Health"},
    {{S, H(GRPC), HE(";grpc-status=14;grpc-message=go \"away\"")}, NULL, PROBE_STATUS, 0,
     "grpc-status 14 (UNAVAILABLE): \"go .away.\""},
    {{S, H(GRPC), D(SERVING), HE(";grpc-status=2")}, NULL, PROBE_STATUS, 0,
     "grpc-status 2 (UNKNOWN)"},
    {{S, HE(GRPC ";grpc-status=99")}, NULL, PROBE_STATUS, 0, "grpc-status 99 (not a code"},
    {{S, HE("503")}, NULL, PROBE_STATUS, 0, "status 503: gRPC answers 200"},
    {{S, H("200;content-type=text/html")}, NULL, PROBE_BAD_RESPONSE, 0,
     "the answer is not good gRPC: its content-type is not application/grpc"},
    {{S, H(GRPC "-web")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, H("200")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, HE(GRPC)}, NULL, PROBE_BAD_RESPONSE, 0,
     "the answer is not good gRPC: it ended without grpc-status"},
    {{S, H(GRPC), DE(SERVING)}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, H(GRPC), D(SERVING), HE(";grpc-status=x")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, H(GRPC), HE(";grpc-status=0")}, NULL, PROBE_BAD_RESPONSE, 0, NULL}, /* no message */
    {{S, H(GRPC), D("\0\0\0\0\3\x08\1"), HE(";grpc-status=0")}, NULL, PROBE_BAD_RESPONSE, 0,
     "the answer is not good gRPC: it ended before its message did"},
    {{S, H(GRPC), D("\1\0\0\0\2\x08\1")}, NULL, PROBE_BAD_RESPONSE, 0, NULL}, /* compressed */
    {{S, H(GRPC), D(SERVING SERVING)}, NULL, PROBE_BAD_RESPONSE, 0,
     "the answer is not good gRPC: it has more than one message"},
    {{S, H(GRPC), D("\0\0\0\4\1")}, NULL, PROBE_BAD_RESPONSE, 0,
     "the answer is not good gRPC: its message is longer than 1 KiB"},
    {{S, H(GRPC), D("\0\0\0\0\2\x08\x80"), HE(";grpc-status=0")}, NULL, PROBE_BAD_RESPONSE, 0,
     "the answer is not good gRPC: its message is no HealthCheckResponse"},
    {{S, H(GRPC), D("\0\0\0\0\1\x0b"), HE(";grpc-status=0")}, NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {{S, H(GRPC), D("\0\0\0\0\3\x1a\5a"), HE(";grpc-status=0")}, NULL, PROBE_BAD_RESPONSE, 0,
     NULL},
    {{S, H(GRPC), D(SERVING)}, NULL, MORE, PROBE_CLOSED, "closed within the body of its answer"},
};

/* feed gives bytes: up to cut, then step at a time; what goes out is taken at once. */
static enum probe_result feed(struct probe_talk *talk, const struct pool_health *h,
                              struct span bytes, size_t cut, size_t step,
                              struct probe_outcome *out) {
  for (size_t from = 0; from < bytes.len;) {
    struct buf room = talk->ops->room(talk);
    assert_true(room.cap > 0);
    size_t want = from < cut ? cut - from : step;
    struct span piece = span_sub(bytes, from, want < room.cap ? want : room.cap);
    memcpy(room.ptr, piece.ptr, piece.len);
    from += piece.len;
    if (talk->ops->take(talk, h, piece.len, out)) return out->result;
    talk->ops->sent(talk, talk->ops->output(talk).len);
  }
  return MORE;
}

static void one(const struct answer *a, const struct pool_health *h, struct span bytes, size_t cut,
                size_t step) {
  struct probe_talk *talk = talk_of(h);
  struct probe_outcome out = {.why = "untouched"};
  enum probe_result got = feed(talk, h, bytes, cut, step, &out);
  enum probe_result want = a->result;
  if (got == MORE && want == MORE) {
    talk->ops->eof(talk, h, &out);
    got = out.result;
    want = a->at_eof;
  }
  size_t len = a->why ? strlen(a->why) : 0;
  bool same = !a->why || (len ? strncmp(out.why, a->why, len) == 0 : !out.why[0]);
  if (got != want || !same)
    fail_msg("row %zu, cut %zu, step %zu: result %u, not %u: \"%s\", not \"%s\"",
             (size_t)(a - (h->protocol == HEALTH_GRPC ? calls : answers)), cut, step, got, want,
             out.why, a->why ? a->why : "");
  talk->ops->bye(talk);
  assert_true(talk->ops->output(talk).len >= H2_HEAD_LEN);
  talk->ops->free(talk);
}

static void each(const struct answer *rows, size_t count, const struct pool_health *base) {
  char *bytes = (char *)mem_alloc(ROOM);
  for (size_t i = 0; i < count; i++) {
    struct buf b = buf_of(bytes, ROOM);
    struct pool_health h = *base;
    h.body = span_str(rows[i].body);
    for (size_t k = 0; k < 8 && rows[i].frames[k].kind; k++) put_frame(&b, &rows[i].frames[k]);
    one(&rows[i], &h, buf_span(&b), 0, b.len + 1);
    one(&rows[i], &h, buf_span(&b), 0, 1);
    for (size_t cut = 1; cut < b.len; cut++) one(&rows[i], &h, buf_span(&b), cut, b.len);
  }
  mem_free(bytes);
}

static void test_answers(void **state) {
  struct pool_health h = settings_of(NULL);
  (void)state;
  each(answers, array_count(answers), &h);
}

static void test_calls(void **state) {
  struct pool_health h = grpc_of("shop.Cart");
  (void)state;
  each(calls, array_count(calls), &h);
}

/* ---- bounds ---- */

/* flooded: an endpoint that sends SETTINGS, then this again and again. */
static struct probe_outcome flooded(const char *begin, const struct frame *again) {
  struct pool_health h = settings_of("good");
  struct probe_talk *talk = talk_of(&h);
  struct probe_outcome out = {.result = MORE};
  char bytes[32768];
  const struct frame settings = S;
  struct buf b = buf_of(bytes, sizeof bytes);
  put_frame(&b, &settings);
  if (begin) peer_section(&b, span_str(begin), false);
  enum probe_result got = feed(talk, &h, buf_span(&b), 0, 4000, &out);
  for (uint32_t i = 0; i < 100000 && got == MORE; i++) {
    b.len = 0;
    put_frame(&b, again);
    got = feed(talk, &h, buf_span(&b), 0, 4000, &out);
  }
  assert_true(got != MORE);
  talk->ops->free(talk);
  return out;
}

static void test_floods(void **state) {
  char block[1024], body[16384];
  static const struct {
    struct frame again;
    const char *begin, *why;
  } rows[] = {
      {{'P', 0, 0, 0, 0}, NULL, "more than 100 frames came that ask for an answer"},
      {S, NULL, "more than 100 frames came that ask for an answer"},
      {{'A', 0, 0, 0, 0}, NULL, "more than 2048 frames"},
      {{'W', 0, 1, 0, 0}, NULL, "more than 2048 frames"},
      {{'G', 0, 1, 0, 0}, NULL, "more than 2048 frames"},
      {D(""), "200", "more than 2048 frames"},
      {D("a"), "200", "more than 2048 frames"},
      {H("103"), NULL, "more than 2048 frames"},
      {X("\0\0\2\0\10\0\0\0\1\1\0"), "200", "more than 2048 frames"}, /* padding only */
  };
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) {
    struct probe_outcome out = flooded(rows[i].begin, &rows[i].again);
    assert_int_equal(out.result, PROBE_BAD_RESPONSE);
    if (strncmp(out.why, rows[i].why, strlen(rows[i].why)) != 0) fail_msg("%zu: %s", i, out.why);
  }
  memset(body, 'x', sizeof body);
  const struct frame large = {'D', body, sizeof body, 0, false};
  struct probe_outcome out = flooded("200", &large);
  assert_int_equal(out.result, PROBE_BODY);
  assert_non_null(strstr(out.why, "in its first 64 KiB"));
  memset(block, 'x', sizeof block);
  memcpy(block, "\0\3\xf7\xfa\0\0\0\0\1", 9); /* 1,015 bytes of an unknown type */
  const struct frame unknown = {'X', block, sizeof block, 0, false};
  out = flooded("200", &unknown);
  assert_string_equal(out.why, "more than 256 KiB came before the end of the answer");
}

/* A head that never ends, one that is too long, and one that grows when it is decoded. */
static void test_heads(void **state) {
  struct pool_health h = settings_of(NULL);
  static char bytes[65536];
  char more[] = "\0\0\0\x9\0\0\0\0\1";
  const struct frame settings = S, open = X("\0\0\1\1\0\0\0\0\1\x88");
  struct probe_outcome out = {.result = MORE};
  struct buf b = buf_of(bytes, sizeof bytes);
  (void)state;
  put_frame(&b, &settings);
  put_frame(&b, &open);
  for (int i = 0; i < 5000; i++) buf_put(&b, span_of(more, 9));
  struct probe_talk *talk = talk_of(&h);
  assert_int_equal(feed(talk, &h, buf_span(&b), 0, 1000, &out), PROBE_BAD_RESPONSE);
  assert_non_null(strstr(out.why, "more than 2048 frames"));
  talk->ops->free(talk);

  struct text long_head = {.ptr = NULL};
  text_lit(&long_head, "200");
  for (int i = 0; i < 300; i++) text_printf(&long_head, ";x-%d=%s", i, i % 2 ? "y" : "z");
  b.len = 0;
  put_frame(&b, &settings);
  peer_section(&b, text_span(&long_head), true);
  talk = talk_of(&h);
  assert_int_equal(feed(talk, &h, buf_span(&b), 0, 1000, &out), PROBE_BAD_RESPONSE);
  assert_string_equal(out.why, "the head of the answer is longer than 16 KiB, or 200 fields");
  talk->ops->free(talk);
  text_fini(&long_head);

  b.len = 0; /* an entry of 3,000 bytes, then named again and again by one byte */
  put_frame(&b, &settings);
  struct h2_frame f = {.type = H2_HEADERS, .flags = H2_FLAG_END_HEADERS, .stream = 1};
  f.length = 1 + 3 + 3 + 3000 + 5000;
  h2_write_head(&b, &f);
  buf_put(&b, SPAN_LIT("\x88\x40\x01" "a" "\x7f\xb9\x16")); /* a length of 3,000 */
  for (int i = 0; i < 3000; i++) buf_char(&b, 'v');
  for (int i = 0; i < 5000; i++) buf_char(&b, (char)0xbe);
  talk = talk_of(&h);
  assert_int_equal(feed(talk, &h, buf_span(&b), 0, 1000, &out), PROBE_BAD_RESPONSE);
  assert_string_equal(out.why, "the head of the answer is longer than 16 KiB, or 200 fields");
  talk->ops->free(talk);
}

/* A peer that keeps to no window: DATA of padding, so that nothing is looked at. */
static void test_windows(void **state) {
  char bytes[9 + 256 + 15000];
  (void)state;
  struct frame pad = {'X', bytes, 9 + 256, 0, false};
  memset(bytes, 0, sizeof bytes);
  memcpy(bytes, "\0\1\0\0\10\0\0\0\1\xff", 10);
  struct probe_outcome out = flooded("200", &pad);
  assert_int_equal(out.result, PROBE_BAD_RESPONSE);
  assert_string_equal(out.why, "the answer is not good HTTP/2 (DATA beyond the window)");
}

/* What is not sent yet waits; room for answers to frames is there for all that are answered. */
static void test_nothing_is_read_of_ours(void **state) {
  struct pool_health h = settings_of("good");
  struct probe_talk *talk = talk_of(&h);
  struct probe_outcome out;
  const struct frame settings = S, ping = {'P', 0, 0, 0, 0};
  char bytes[4096];
  size_t before = talk->ops->output(talk).len;
  (void)state;
  struct buf b = buf_of(bytes, sizeof bytes);
  put_frame(&b, &settings);
  for (int i = 0; i < 99; i++) put_frame(&b, &ping);
  struct buf room = talk->ops->room(talk);
  assert_true(room.cap >= b.len);
  memcpy(room.ptr, b.ptr, b.len);
  assert_false(talk->ops->take(talk, &h, b.len, &out));
  assert_int_equal(talk->ops->output(talk).len, before + 9 + 99 * 17);
  talk->ops->free(talk);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_request), cmocka_unit_test(test_long_request),
      cmocka_unit_test(test_grpc_request), cmocka_unit_test(test_answers),
      cmocka_unit_test(test_calls),   cmocka_unit_test(test_floods),
      cmocka_unit_test(test_heads),   cmocka_unit_test(test_windows),
      cmocka_unit_test(test_nothing_is_read_of_ours),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
