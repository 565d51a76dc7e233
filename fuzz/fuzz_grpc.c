/* fuzz_grpc.c: what of gRPC comes from peers (http/grpc.c). The first byte picks which. Checked:
 * deadlines are within their bounds, and written again never grow; a message that was encoded is
 * field text and decodes to what it was. */
#include "weir/http/grpc.h"
#include "weir/http/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void one_timeout(struct span text) {
  uint64_t ms = UINT64_MAX, again = 0;
  char room[GRPC_TIMEOUT_LEN];
  struct buf out = buf_of(room, sizeof room);
  if (!grpc_timeout_parse(text, &ms)) {
    check(ms == UINT64_MAX);
    return;
  }
  check(ms <= GRPC_TIMEOUT_MAX_MS && text.len <= GRPC_TIMEOUT_LEN);
  grpc_timeout_write(ms, &out);
  check(!out.full && grpc_timeout_parse(buf_span(&out), &again));
  check(ms == 0 ? again == 1 : again <= ms && ms - again < 1000);
}

static void one_message(struct span text) {
  static char room[3 * 4096];
  struct buf out = buf_of(room, sizeof room);
  text = span_sub(text, 0, 4096);
  grpc_message_write(text, &out);
  check(!out.full && http_is_value(buf_span(&out)));
  size_t at = 0;
  for (size_t i = 0; i < text.len; i++) {
    int c = out.ptr[at++];
    if (c == '%') {
      c = ascii_hex(ascii_lower(out.ptr[at])) * 16 + ascii_hex(ascii_lower(out.ptr[at + 1]));
      at += 2;
    }
    check((unsigned char)c == (unsigned char)text.ptr[i]);
  }
  check(at == out.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  struct span text = span_of((const char *)data + 1, len - 1);
  switch (data[0] & 3) {
    case 0: one_timeout(text); break;
    case 1: one_message(text); break;
    case 2: check(grpc_status_parse(text) < GRPC_STATUS_COUNT); break;
    default: (void)grpc_is(text); break;
  }
  return 0;
}
