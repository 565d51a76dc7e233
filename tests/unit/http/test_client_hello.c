/* test_client_hello.c: what is made of ClientHellos, good and hostile, made up and of real
 * clients, by tables; each cut at every byte, and put into records of every kind of length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "hello_trace.h"

#define RANDOM " *32:11 "
#define BODY "0303" RANDOM "<1> <2 1301> <1 00>"
#define WIRE(body) "16 0301 <2 01 <3 " body "> >"
#define HELLO(extensions) WIRE(BODY "<2 " extensions ">")
#define HOST(name) "0000 <2 <2 00 <2 " name ">>>"
#define ALPN(list) "0010 <2 <2 " list ">>"
#define VERSIONS(list) "002b <2 <1 " list ">>"

/* hello_case: bytes in the language of hello_trace.h, and what is made of them. */
struct hello_case {
  const char *bytes, *trace;
};

static const struct hello_case cases[] = {
#define CASE(bytes, trace) {bytes, trace},
#include "client_hello_captured.def"
#include "client_hello_cases.def"
#undef CASE
};

static char room[2][HELLO_WIRE_MAX];

static struct span made(const char *bytes) {
  struct buf b = buf_of(room[0], sizeof(room[0]));
  hello_make(&b, bytes);
  return buf_span(&b);
}

/* expect reads in from its first `had` bytes on; how many it took. */
static size_t expect(const char *what, struct span in, size_t had, size_t step,
                     const char *trace) {
  struct text t = {0};
  size_t used;
  (void)hello_trace_read(in, had, step, &t, &used);
  if (!span_eq(text_span(&t), span_str(trace)))
    fail_msg("%s (%zu, then %zu at a time):\n  " SPAN_FMT "\n  %s", what, had, step,
             SPAN_ARG(text_span(&t)), trace);
  text_fini(&t);
  return used;
}

static void tables_hold(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(cases); i++) {
    struct span in = made(cases[i].bytes);
    size_t used = expect(cases[i].bytes, in, in.len, 1, cases[i].trace);
    for (size_t had = 0; had <= in.len; had++)
      assert_int_equal(expect(cases[i].bytes, in, had, 1, cases[i].trace), used);
    (void)expect(cases[i].bytes, in, 0, 3, cases[i].trace);
  }
}

/* The same message in shorter records says the same, or is refused for the same reason. */
static void records_change_nothing(void **state) {
  (void)state;
  static const size_t lengths[] = {1, 2, 3, 4, 5, 6, 7, 31, 64, 255, 256};
  size_t seen = 0;
  for (size_t i = 0; i < array_count(cases); i++) {
    struct span in = made(cases[i].bytes);
    size_t len = in.len > 9 ? (size_t)((uint8_t)in.ptr[3] << 8 | (uint8_t)in.ptr[4]) : 0;
    bool whole = len + 5 == in.len && in.ptr[0] == 0x16 && in.ptr[1] == 3 &&
                 ((uint8_t)in.ptr[7] << 8 | (uint8_t)in.ptr[8]) + 4 == (int)len;
    if (!whole) continue;
    seen++;
    for (size_t n = 0; n < array_count(lengths); n++) {
      struct buf cut = buf_of(room[1], sizeof(room[1]));
      hello_records(&cut, span_from(in, 5), lengths[n]);
      struct span wire = buf_span(&cut);
      size_t used = expect(cases[i].bytes, wire, wire.len, 1, cases[i].trace);
      assert_int_equal(expect(cases[i].bytes, wire, 0, 1, cases[i].trace), used);
      if (cases[i].trace[0] != '!') assert_int_equal(used, wire.len);
    }
  }
  assert_true(seen > 60);
}

/* Every fault of the table was seen above, or has a test of its own below. */
static void each_fault_has_a_case(void **state) {
  (void)state;
  for (unsigned f = HELLO_FAULT_NONE + 1; f < HELLO_FAULT_COUNT; f++) {
    struct span word = hello_fault_word((enum hello_fault)f);
    bool seen = f == HELLO_FAULT_EXTENSION_COUNT || f == HELLO_FAULT_MEMORY;
    for (size_t c = 0; c < array_count(cases); c++)
      seen |= cases[c].trace[0] == '!' && span_eq(span_str(cases[c].trace + 1), word);
    if (!seen) fail_msg("no case: " SPAN_FMT, SPAN_ARG(word));
  }
}

/* put_many makes a hello of `count` extensions, each `size` bytes long. */
static struct span put_many(unsigned count, unsigned size) {
  char text[64];
  struct buf b = buf_of(room[1], sizeof(room[1]));
  struct buf out = buf_of(room[0], sizeof(room[0]));
  struct buf language = buf_of(text, sizeof(text));
  buf_printf(&language, "<2 *%u:00>", size);
  buf_char(&language, 0);
  hello_make(&b, BODY);
  buf_char(&b, (char)(count * (size + 4) >> 8));
  buf_char(&b, (char)(count * (size + 4)));
  for (unsigned i = 0; i < count; i++) {
    buf_char(&b, 0x77);
    buf_char(&b, (char)i);
    hello_make(&b, text);
  }
  assert_false(b.full);
  buf_put(&out, SPAN_LIT("\x16\x03\x01"));
  buf_char(&out, (char)((b.len + 4) >> 8));
  buf_char(&out, (char)(b.len + 4));
  buf_put(&out, SPAN_LIT("\x01\x00"));
  buf_char(&out, (char)(b.len >> 8));
  buf_char(&out, (char)b.len);
  buf_put(&out, buf_span(&b));
  return buf_span(&out);
}

static void bounds(void **state) {
  (void)state;
  struct span in = put_many(CLIENT_HELLO_EXTENSIONS_MAX, 1);
  expect("most extensions", in, in.len, 1, "0000-0303 sid0 ciphers1 ext128");
  in = put_many(CLIENT_HELLO_EXTENSIONS_MAX + 1, 1);
  expect("too many extensions", in, in.len, 1, "!extension_count");
  const unsigned head = 5 + 4 + 41 + 2 + 4; /* what stands before the bytes of one extension */
  in = put_many(1, CLIENT_HELLO_MAX - head);
  assert_int_equal(in.len, CLIENT_HELLO_MAX);
  expect("the longest", in, in.len, 1, "0000-0303 sid0 ciphers1 ext1");
  expect("the longest", in, 0, 97, "0000-0303 sid0 ciphers1 ext1");
  in = put_many(1, CLIENT_HELLO_MAX - head + 1);
  expect("longer", in, in.len, 1, "!long");
  expect("longer", in, 0, 97, "!long");
  expect("longer", span_sub(in, 0, in.len - 2), 0, 97, "more");
  struct span message = span_from(put_many(1, CLIENT_HELLO_MAX / 2), 5);
  struct buf cut = buf_of(room[1], sizeof(room[1]));
  hello_records(&cut, message, 1); /* six bytes for each one */
  expect("short records", buf_span(&cut), 0, 97, "!long");
}

/* A hello in several records needs memory; so does a name that has to be made lower case. */
static void memory(void **state) {
  (void)state;
  static const char *const hellos[] = {"16 0301 <2 01> 16 0301 <2 00 0029" BODY ">",
                                       HELLO(HOST("'A.example'")), HELLO(HOST("'a.example'"))};
  for (size_t i = 0; i < array_count(hellos); i++) {
    struct hello_scan scan = {.at = 0};
    struct client_hello h;
    struct arena arena;
    enum hello_fault why = HELLO_FAULT_NONE;
    arena_init(&arena, NULL, 1);
    enum http_result r = client_hello_peek(&scan, made(hellos[i]), &arena, &h, &why);
    assert_int_equal(r, i == 2 ? HTTP_DONE : HTTP_BAD);
    assert_int_equal(why, i == 2 ? HELLO_FAULT_NONE : HELLO_FAULT_MEMORY);
    arena_reset(&arena);
  }
}

/* A message that comes without records (QUIC) has to be as long as it says. */
static void messages(void **state) {
  (void)state;
  struct span message = span_from(made(HELLO(HOST("'a.example'"))), 5);
  struct client_hello h;
  struct arena arena;
  enum hello_fault why = HELLO_FAULT_NONE;
  arena_init(&arena, NULL, 0);
  assert_true(client_hello_parse(message, &arena, &h, &why));
  assert_true(span_eq(h.host, SPAN_LIT("a.example")) && why == HELLO_FAULT_NONE);
  assert_true(!client_hello_offers(&h, SPAN_LIT("h2")));
  for (size_t len = 0; len < message.len; len++) {
    why = HELLO_FAULT_NONE;
    assert_false(client_hello_parse(span_sub(message, 0, len), &arena, &h, &why));
    assert_int_equal(why, len < 4 ? HELLO_FAULT_SHORT : HELLO_FAULT_MESSAGE);
  }
  message.len++; /* what stands behind it in the room */
  assert_false(client_hello_parse(message, &arena, &h, &why));
  arena_reset(&arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tables_hold), cmocka_unit_test(records_change_nothing),
      cmocka_unit_test(bounds),      cmocka_unit_test(each_fault_has_a_case),
      cmocka_unit_test(memory),      cmocka_unit_test(messages),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
