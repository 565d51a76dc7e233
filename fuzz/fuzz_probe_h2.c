/* fuzz_probe_h2.c: answers to health checks over HTTP/2 and of gRPC (control/probe_h2.c,
 * probe_grpc.c). Byte 0 picks settings and cut, the rest is what the endpoint sends before it
 * closes. Checked: the result does not depend on the cut; what goes out meanwhile is good frames,
 * as a server reads them, and bounded; what passes holds the bytes without which it may not; the
 * sentence is printable. */
#include <stdlib.h>

#include "../tests/support/probe_peer.h"
#include "control/probe_priv.h"
#include "probe_invariants.h"
#include "weir/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct health_statuses expect[] = {{200, 299}, {404, 404}};

/* server reads what goes out. */
struct server {
  struct h2_scanner scanner;
  uint64_t bytes;
};

static void read_output(struct server *s, struct probe_talk *talk) {
  struct span out = talk->ops->output(talk);
  size_t all = out.len;
  s->bytes += out.len;
  for (;;) { /* each turn takes bytes, or is the one of a frame that does not */
    struct h2_item item = {0};
    size_t took = 0;
    enum h2_event event = h2_frame_scan(&s->scanner, out, &took, &item);
    check(event != H2_EVENT_CONNECTION_ERROR && event != H2_EVENT_STREAM_ERROR);
    out = span_from(out, took);
    if (event == H2_EVENT_MORE) break;
  }
  talk->ops->sent(talk, all);
  check(talk->ops->output(talk).len == 0 && s->bytes < 8192);
}

static struct probe_outcome run(const struct pool_health *h, struct span bytes, size_t piece) {
  struct probe_talk *talk = probe_h2_new(h, SPAN_LIT("127.0.0.1:80"), false);
  struct probe_outcome out = {.result = PROBE_COUNT};
  struct server server = {.bytes = 0};
  bool done = false;
  h2_frame_scan_init(&server.scanner, true, H2_FRAME_SIZE_MIN);
  while (bytes.len && !done) {
    read_output(&server, talk);
    struct buf room = talk->ops->room(talk);
    check(room.cap > 0);
    size_t n = piece && piece < bytes.len ? piece : bytes.len;
    n = n < room.cap ? n : room.cap;
    memcpy(room.ptr, bytes.ptr, n);
    bytes = span_from(bytes, n);
    done = talk->ops->take(talk, h, n, &out);
  }
  if (!done) talk->ops->eof(talk, h, &out);
  talk->ops->bye(talk);
  read_output(&server, talk);
  talk->ops->free(talk);
  return out;
}

/* check_pass: a text that crosses frames need not stand in one piece: its last byte does. */
static void check_pass(const struct pool_health *h, struct span bytes) {
  check(bytes.len > H2_HEAD_LEN);
  if (h->protocol == HEALTH_GRPC) check(memmem(bytes.ptr, bytes.len, "\x08", 1));
  else if (h->body.len)
    check(span_find_char(bytes, h->body.ptr[h->body.len - 1], 0) != SIZE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  bool grpc = data[0] & 1;
  struct pool_health h = {.on = true,
                          .h2 = true,
                          .protocol = grpc ? HEALTH_GRPC : HEALTH_HTTP,
                          .head = data[0] & 4 && !(data[0] & 2),
                          .method = data[0] & 4 ? SPAN_LIT("HEAD") : SPAN_LIT("GET"),
                          .path = SPAN_LIT("/healthz"),
                          .service = data[0] & 2 ? SPAN_LIT("a.B") : SPAN_EMPTY,
                          .timeout_ms = 1000,
                          .expect = expect,
                          .expect_count = array_count(expect),
                          .expect_text = SPAN_LIT("200-299, 404"),
                          .body = data[0] & 2 && !grpc ? SPAN_LIT("ok") : SPAN_EMPTY};
  struct span bytes = span_of((const char *)data + 1, len - 1);
  struct probe_outcome once = run(&h, bytes, 0), cut = run(&h, bytes, (size_t)(data[0] >> 3) + 1);
  check_outcomes(&once, &cut);
  if (once.result == PROBE_PASS) check_pass(&h, bytes);
  return 0;
}
