/* fuzz_proxy_header.c: PROXY headers (http/proxy_header*.c). Checked: how the bytes are cut
 * changes nothing, what was understood reads back the same when it is written, and what is written
 * is written the same again. A version 2 header that has the wrong checksum is tried once more
 * with the right one, or else nothing behind it would be reached. */
#include "../tests/support/proxy_trace.h"
#include "weir/base/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* without_len cuts the length off a trace: it counts elements that are not written again. */
static struct span without_len(const struct text *t) {
  struct span s = text_span(t);
  while (s.len > 0 && s.ptr[s.len - 1] != '(') s.len--;
  return s;
}

/* check_written writes h, which reads as `text`. */
static void check_written(const struct proxy_header *h, const struct text *text) {
  char room[2][PROXY_V2_MAX + 64];
  struct proxy_header again;
  struct text t = {0};
  struct buf once = buf_of(room[0], sizeof(room[0])), twice = buf_of(room[1], sizeof(room[1]));
  check(proxy_header_write(&once, h)); /* what was accepted is never too long */
  check(proxy_trace_read(buf_span(&once), once.len, &again, &t) == HTTP_DONE);
  /* Mapped addresses of both sides become IPv4, which traces the same; so does any spelling. */
  check(span_eq(without_len(text), without_len(&t)) || (h->local && again.local));
  check(proxy_header_write(&twice, &again) && span_eq(buf_span(&once), buf_span(&twice)));
  text_fini(&t);
}

/* check_datagram: the same header as of a connection, or a reason. */
static void check_datagram(struct span in, enum http_result result, size_t used) {
  struct proxy_header h;
  enum proxy_fault why = PROXY_FAULT_NONE;
  size_t len = 0;
  enum http_result got = proxy_datagram_parse(in, &h, &len, &why);
  check(got == HTTP_DONE || (got == HTTP_BAD && why != PROXY_FAULT_NONE));
  check(got == HTTP_BAD || (result == HTTP_DONE && h.version == 2 && len == used));
  check(got == HTTP_DONE || result != HTTP_DONE || why == PROXY_FAULT_SIGNATURE);
}

static enum proxy_fault try_one(struct span in) {
  struct proxy_header h, cut_h;
  struct text whole = {0};
  enum proxy_fault why = PROXY_FAULT_NONE;
  size_t used = 0;
  enum http_result result = proxy_trace_read(in, in.len, &h, &whole);
  const size_t starts[] = {0, 1, 13, in.len / 2};
  for (size_t i = 0; i < array_count(starts); i++) {
    struct text cut = {0};
    check(proxy_trace_read(in, starts[i] < in.len ? starts[i] : in.len, &cut_h, &cut) == result);
    check(span_eq(text_span(&whole), text_span(&cut)));
    text_fini(&cut);
  }
  if (result == HTTP_DONE) check_written(&h, &whole);
  if (result == HTTP_DONE) (void)proxy_header_parse(in, &h, &used, &why);
  check_datagram(in, result, used);
  if (result == HTTP_BAD) check(proxy_header_parse(in, &h, &used, &why) == HTTP_BAD);
  text_fini(&whole);
  return why;
}

/* mend puts the right checksum into the first element that has the form of one. */
static bool mend(char *header, size_t len) {
  for (size_t at = PROXY_V2_HEAD; at + 7 <= len; at++) {
    if (memcmp(header + at, "\3\0\4", 3) != 0) continue;
    memset(header + at + 3, 0, 4);
    uint32_t crc = crc32c(0, span_of(header, len));
    for (unsigned i = 0; i < 4; i++) header[at + 3 + i] = (char)(crc >> (24 - 8 * i));
    return true;
  }
  return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  static char room[PROXY_V2_MAX];
  if (len > 2 * PROXY_V2_MAX) return 0;
  enum proxy_fault why = try_one(span_of((const char *)data, len));
  if (why != PROXY_FAULT_CHECKSUM) return 0;
  size_t whole = PROXY_V2_HEAD + (size_t)(data[14] << 8 | data[15]);
  check(whole <= len && whole <= sizeof(room));
  memcpy(room, data, whole);
  if (mend(room, whole)) (void)try_one(span_of(room, whole));
  return 0;
}
