/* fuzz_client_hello.c: ClientHellos (http/client_hello*.c). Byte 0 tells what the rest is: bytes
 * of a connection, a message's body, or extensions behind what else is right. Checked: how bytes
 * are cut changes nothing, nor do shorter records; a host is canonical; all that was taken lies in
 * what was given. */
#include "../tests/support/hello_trace.h"
#include "weir/http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { KIND_WIRE, KIND_BODY, KIND_EXTENSIONS };

static void same(struct span in, size_t had, size_t step, const struct text *want,
                 size_t want_used) {
  struct text t = {0};
  size_t used;
  (void)hello_trace_read(in, had, step, &t, &used);
  check(span_eq(text_span(&t), text_span(want)) && used == want_used);
  text_fini(&t);
}

/* cut_wire reads in at once, and in pieces. */
static void cut_wire(struct span in, size_t piece, struct text *whole) {
  size_t used;
  enum http_result result = hello_trace_read(in, in.len, 1, whole, &used);
  check(result != HTTP_DONE || (used > 5 && used <= CLIENT_HELLO_MAX));
  check(result != HTTP_MORE || in.len < CLIENT_HELLO_MAX);
  same(in, 0, piece, whole, used);
  same(in, in.len / 2, 7, whole, used);
}

/* check_host: it is its own canonical form, without what is no name. */
static void check_host(struct span host) {
  struct arena arena;
  struct http_host again;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  check(http_host_canonical(host, &arena, &again, &why) && span_eq(again.name, host));
  check(again.port == 0 && span_find_char(host, ':', 0) == SIZE_MAX && arena.total == 0);
  arena_reset(&arena);
}

static bool inside(struct span part, struct span whole) {
  return part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

/* try_message reads a message as it is, and in records. */
static void try_message(struct span message, size_t piece) {
  static char wire[6 * CLIENT_HELLO_MAX];
  struct client_hello h;
  struct arena arena;
  struct text direct = {0}, split = {0};
  enum hello_fault why = HELLO_FAULT_NONE;
  struct buf b = buf_of(wire, sizeof(wire));
  arena_init(&arena, NULL, 0);
  if (client_hello_parse(message, &arena, &h, &why)) {
    hello_trace_of(&direct, &h);
    check(inside(h.alpn, message) && inside(h.session_id, message) && inside(h.random, message));
    if (h.host.len) check_host(h.host);
  } else {
    text_printf(&direct, "!" SPAN_FMT, SPAN_ARG(hello_fault_word(why)));
  }
  hello_records(&b, message, piece);
  cut_wire(buf_span(&b), piece + 3, &split);
  check(b.len > CLIENT_HELLO_MAX || span_eq(text_span(&direct), text_span(&split)));
  text_fini(&direct);
  text_fini(&split);
  arena_reset(&arena);
}

static void try_body(struct span body, bool extensions, size_t piece) {
  static char room[CLIENT_HELLO_MAX];
  struct buf b = buf_of(room, sizeof(room));
  buf_put(&b, SPAN_LIT("\1\0\0\0"));
  if (extensions) {
    hello_make(&b, "0303 *32:11 <1> <2 1301> <1 00>");
    buf_char(&b, (char)(body.len >> 8));
    buf_char(&b, (char)body.len);
  }
  buf_put(&b, body);
  if (b.full) return;
  room[2] = (char)((b.len - 4) >> 8);
  room[3] = (char)(b.len - 4);
  try_message(buf_span(&b), piece);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0 || len > HELLO_WIRE_MAX) return 0;
  struct span in = span_of((const char *)data + 1, len - 1);
  size_t piece = (size_t)(data[0] >> 2) + 1;
  struct text t = {0};
  switch (data[0] & 3) {
    case KIND_BODY: try_body(in, false, piece); break;
    case KIND_EXTENSIONS: try_body(in, true, piece); break;
    default: cut_wire(in, piece, &t);
  }
  text_fini(&t);
  return 0;
}
