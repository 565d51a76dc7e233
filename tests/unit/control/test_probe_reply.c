/* test_probe_reply.c: what an answer to a health check means, by a table; each answer whole, byte
 * by byte and cut at every place gives the same; bounds of head and body. */
#include "control/health_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/mem.h"

#define OK "HTTP/1.1 200 OK\r\n"
#define MORE PROBE_COUNT /* no result yet */

static const struct {
  const char *answer, *body; /* body: health.body; NULL: none */
  enum probe_result result;  /* when all of the answer came */
  enum probe_result at_eof;  /* if that was MORE */
  const char *why;           /* begins so; NULL: not looked at */
} cases[] = {
    {OK "\r\n", NULL, PROBE_PASS, 0, ""},
    {OK "Content-Length: 2\r\n\r\n", NULL, PROBE_PASS, 0, ""}, /* the body is not waited for */
    {"HTTP/1.0 204 No Content\r\n\r\n", NULL, PROBE_PASS, 0, ""},
    {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", NULL, PROBE_PASS, 0, ""},
    {"HTTP/1.1 503 Busy\r\n\r\n", NULL, PROBE_STATUS, 0,
     "status 503 is not in 200-299, 404 (health.expect)"},
    {"HTTP/1.1 405 No\r\n\r\n", "ok", PROBE_STATUS, 0, "status 405"},
    {"HTTP/1.1 101 Switching Protocols\r\n\r\n", NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {"HTTP/1.1 100 Continue\r\n\r\n" OK "\r\n", NULL, PROBE_PASS, 0, ""},
    {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 500 No\r\n\r\n",
     NULL, PROBE_STATUS, 0, "status 500"},
    {"", NULL, MORE, PROBE_CLOSED, "closed without an answer"},
    {"HTTP/1.1 200 OK\r\nA: b\r\n", NULL, MORE, PROBE_CLOSED, "closed within the head"},
    {"SSH-2.0-OpenSSH_9.2\r\n", NULL, PROBE_BAD_RESPONSE, 0, "the answer is not good HTTP"},
    {"220 mail.example ESMTP\r\n", NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {"\x15\x03\x01\x00\x02\x02\x16", NULL, PROBE_BAD_RESPONSE, 0, NULL}, /* TLS alert */
    {"HTTP/2 200\r\n\r\n", NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {"HTTP/1.1 200 OK\nContent-Length: 0\n\n", NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {OK "Content-Length: 5, 6\r\n\r\n", NULL, PROBE_BAD_RESPONSE, 0, NULL},
    {OK "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", NULL, PROBE_BAD_RESPONSE, 0,
     NULL},
    /* bodies: by length, chunked, until the end */
    {OK "Content-Length: 8\r\n\r\nall good", "good", PROBE_PASS, 0, ""},
    {OK "Content-Length: 8\r\n\r\nall good", "bad", PROBE_BODY, 0,
     "the body does not contain \"bad\" (health.body)"},
    {OK "Content-Length: 3\r\n\r\nall good", "good", PROBE_BODY, 0, NULL}, /* what is after */
    {OK "Content-Length: 0\r\n\r\n", "good", PROBE_BODY, 0, NULL},
    {"HTTP/1.1 204 None\r\n\r\n", "good", PROBE_BODY, 0, NULL},
    {OK "Content-Length: 20\r\n\r\nall goo", "good", MORE, PROBE_CLOSED, "closed within the body"},
    {OK "Transfer-Encoding: chunked\r\n\r\n3\r\ngo\r\r\n3\r\nodx\r\n0\r\n\r\n", "go\rod",
     PROBE_PASS, 0, ""},
    {OK "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\ngo\r\n2\r\nod\r\n0\r\nA: b\r\n\r\n", "good",
     PROBE_PASS, 0, ""},
    {OK "Transfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n2\r\nof\r\n0\r\n\r\n", "good", PROBE_BODY, 0,
     NULL},
    {OK "Transfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n2\r\no", "good", MORE, PROBE_CLOSED, NULL},
    {OK "Transfer-Encoding: chunked\r\n\r\ngood\r\n", "good", PROBE_BAD_RESPONSE, 0, NULL},
    {OK "\r\nall good", "good", PROBE_PASS, 0, ""},
    {OK "\r\nall goo", "good", MORE, PROBE_BODY, NULL},
    {OK "\r\n", "g", MORE, PROBE_BODY, NULL},
    {OK "\r\naaaaaab", "aab", PROBE_PASS, 0, ""},
    {OK "Content-Length: 4\r\n\r\na\"\xff\x01", "\"\xff\x02", PROBE_BODY, 0,
     "the body does not contain \"\"..\" (health.body)"},
};

static const struct health_statuses expect[] = {{200, 299}, {404, 404}};

static struct pool_health settings_of(const char *body) {
  return (struct pool_health){.on = true,
                              .expect = expect,
                              .expect_count = array_count(expect),
                              .expect_text = SPAN_LIT("200-299, 404"),
                              .body = span_str(body)};
}

/* feed gives bytes piece by piece: [0..cut), then step at a time. */
static enum probe_result feed(struct probe_reply *r, const struct pool_health *h,
                              struct span bytes, size_t cut, size_t step,
                              struct probe_outcome *out) {
  size_t from = 0;
  while (from < bytes.len) {
    size_t want = from == 0 && cut ? cut : step;
    struct buf room = probe_reply_room(r);
    assert_true(room.cap > 0);
    want = want < room.cap ? want : room.cap;
    struct span piece = span_sub(bytes, from, want);
    memcpy(room.ptr, piece.ptr, piece.len);
    from += piece.len;
    if (probe_reply_take(r, h, piece.len, out)) {
      return out->result;
    }
  }
  return MORE;
}

static void one(size_t i, size_t cut, size_t step) {
  struct pool_health h = settings_of(cases[i].body);
  struct span bytes = span_str(cases[i].answer);
  struct probe_reply *r = (struct probe_reply *)mem_alloc(sizeof *r);
  struct probe_outcome out = {.why = "untouched"};
  probe_reply_init(r);
  enum probe_result got = feed(r, &h, bytes, cut, step, &out);
  if (got != cases[i].result) {
    print_error("case %zu, cut %zu, step %zu: %u %s\n", i, cut, step, got, out.why);
  }
  assert_int_equal(got, cases[i].result);
  if (got == MORE) {
    probe_reply_eof(r, &h, &out);
    assert_int_equal(out.result, cases[i].at_eof);
  }
  if (cases[i].why && (!cases[i].why[0] ? out.why[0] : strncmp(out.why, cases[i].why,
                                                               strlen(cases[i].why)))) {
    print_error("case %zu: \"%s\"\n", i, out.why);
    fail();
  }
  probe_reply_fini(r);
  mem_free(r);
}

static void test_cases(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(cases); i++) {
    size_t len = strlen(cases[i].answer);
    one(i, 0, len + 1);
    one(i, 0, 1);
    for (size_t cut = 1; cut < len; cut++) {
      one(i, cut, len);
    }
  }
}

/* ---- bounds ---- */

static struct probe_outcome answer(const struct pool_health *h, const struct text *bytes) {
  struct probe_reply *r = (struct probe_reply *)mem_alloc(sizeof *r);
  struct probe_outcome out = {.result = PROBE_COUNT};
  probe_reply_init(r);
  if (feed(r, h, text_span(bytes), 0, 4000, &out) == MORE) {
    out.result = PROBE_COUNT;
  }
  probe_reply_fini(r);
  mem_free(r);
  return out;
}

static void fill(struct text *t, size_t len) {
  for (size_t i = 0; i < len; i++) {
    text_lit(t, "x");
  }
}

static void test_long_head(void **state) {
  (void)state;
  struct pool_health h = settings_of(NULL);
  struct text t = {.ptr = NULL};
  text_lit(&t, OK "A: ");
  fill(&t, PROBE_HEAD_MAX);
  text_lit(&t, "\r\n\r\n");
  assert_int_equal(answer(&h, &t).result, PROBE_BAD_RESPONSE);
  text_fini(&t);
}

static void test_many_interim_heads(void **state) {
  (void)state;
  struct pool_health h = settings_of(NULL);
  struct text t = {.ptr = NULL};
  for (int i = 0; i < 5000; i++) {
    text_lit(&t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n");
  }
  assert_int_equal(answer(&h, &t).result, PROBE_COUNT); /* until the timeout; in bounded memory */
  text_lit(&t, OK "\r\n");
  assert_int_equal(answer(&h, &t).result, PROBE_PASS);
  text_fini(&t);
}

/* A needle is found wherever it lies, up to the bound; what is far behind it is not waited for. */
static void test_needle_anywhere(void **state) {
  (void)state;
  struct pool_health h = settings_of("the needle in it");
  for (size_t at = 0; at < 70000; at += at < 2000 ? 1 : 977) {
    struct text t = {.ptr = NULL};
    text_lit(&t, OK "\r\n");
    fill(&t, at);
    text_lit(&t, "the needle in it");
    bool near = at + h.body.len <= PROBE_BODY_MAX;
    struct probe_outcome out = answer(&h, &t);
    if (near) {
      assert_int_equal(out.result, PROBE_PASS);
    } else if (at > PROBE_BODY_MAX + 4000) {
      assert_int_equal(out.result, PROBE_BODY);
      assert_non_null(strstr(out.why, "in its first 64 KiB"));
    }
    text_fini(&t);
  }
}

static void test_longest_needle(void **state) {
  (void)state;
  char needle[PROBE_NEEDLE_MAX + 1];
  memset(needle, 'a', PROBE_NEEDLE_MAX);
  needle[PROBE_NEEDLE_MAX - 1] = 'b';
  needle[PROBE_NEEDLE_MAX] = 0;
  struct pool_health h = settings_of(needle);
  struct text t = {.ptr = NULL};
  text_lit(&t, OK "\r\n");
  for (int i = 0; i < 1000; i++) {
    text_lit(&t, "a");
  }
  assert_int_equal(answer(&h, &t).result, PROBE_COUNT);
  text_lit(&t, "b");
  assert_int_equal(answer(&h, &t).result, PROBE_PASS);
  text_fini(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cases),           cmocka_unit_test(test_long_head),
      cmocka_unit_test(test_many_interim_heads), cmocka_unit_test(test_needle_anywhere),
      cmocka_unit_test(test_longest_needle),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
