/* fuzz_probe_reply.c: answers to health checks (control/probe_reply.c). Byte 0 picks the settings
 * and the cut, the rest is what the endpoint sends before it closes. Checked: the result does not
 * depend on the cut; a pass has a good head (the proxy's own parser says the same), an expected
 * status and, when a text is wanted, bytes that hold it; the sentence is printable. */
#include <stdlib.h>

#include "probe_invariants.h"
#include "weir/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct health_statuses expect[] = {{200, 299}, {404, 404}};

static struct probe_outcome run(const struct pool_health *h, struct span bytes, size_t piece) {
  struct probe_reply *r = mem_alloc(sizeof *r);
  struct probe_outcome out = {.result = PROBE_COUNT};
  bool done = false;
  probe_reply_init(r);
  while (bytes.len && !done) {
    struct buf room = probe_reply_room(r);
    check(room.cap > 0);
    size_t n = piece && piece < bytes.len ? piece : bytes.len;
    n = n < room.cap ? n : room.cap;
    memcpy(room.ptr, bytes.ptr, n);
    bytes = span_from(bytes, n);
    done = probe_reply_take(r, h, n, &out);
  }
  if (!done) probe_reply_eof(r, h, &out);
  probe_reply_fini(r);
  mem_free(r);
  return out;
}

static bool head_is_good(const struct pool_health *h, struct span bytes) {
  static const struct h1_limits limits = {.header_bytes = PROBE_HEAD_MAX, .headers = 200};
  for (;;) { /* each turn takes a head off */
    struct h1_scan scan = {0};
    struct http_response res;
    struct arena arena;
    enum end why;
    arena_init(&arena, NULL, 0);
    enum http_result result =
        h1_parse_response(&scan, bytes, &limits, &arena,
                          h->head ? HTTP_METHOD_HEAD : HTTP_METHOD_GET, &res, &why);
    arena_reset(&arena);
    if (result != HTTP_DONE) return false;
    if (res.status >= 200) return (res.status < 300 || res.status == 404);
    bytes = span_from(bytes, res.head_len);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  static const struct span bodies[] = {{"", 0}, {"ok", 2}, {"aab", 3}, {"\r\n0", 3}};
  if (len == 0) return 0;
  struct pool_health h = {.on = true,
                          .head = (data[0] & 3) == 0 && data[0] & 4,
                          .expect = expect,
                          .expect_count = array_count(expect),
                          .expect_text = SPAN_LIT("200-299, 404"),
                          .body = bodies[data[0] & 3]};
  struct span bytes = span_of((const char *)data + 1, len - 1);
  struct probe_outcome once = run(&h, bytes, 0), cut = run(&h, bytes, (size_t)(data[0] >> 3) + 1);
  check_outcomes(&once, &cut);
  if (once.result == PROBE_PASS) check(head_is_good(&h, bytes));
  return 0;
}
