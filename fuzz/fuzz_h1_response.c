/* fuzz_h1_response.c: response heads (http/h1_response.c). Byte 0 picks the request method and the
 * cut; the rest is the head. Checked: as in fuzz_h1_request.c. */
#include <stdlib.h>

#include "h1_invariants.h"
#include "weir/base/mem.h"

static const struct h1_limits limits = {.header_bytes = 4096, .headers = 40, .uri_bytes = 0};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct parsed {
  enum http_result result;
  enum end why;
  struct http_response res;
  struct arena arena;
};

static char *parse(struct span input, size_t piece, enum http_method method, struct parsed *out) {
  struct h1_scan scan = {0};
  char *block = NULL;
  size_t shown = 0;
  arena_init(&out->arena, NULL, 0);
  do {
    block = show_more(block, input, piece, &shown);
    out->result = h1_parse_response(&scan, span_of(block, shown), &limits, &out->arena, method,
                                    &out->res, &out->why);
  } while (out->result == HTTP_MORE && shown < input.len);
  return block;
}

static void check_response(const struct http_response *res, struct span head) {
  check(res->head_len <= head.len && res->head_len <= limits.header_bytes);
  check(res->fields.count <= limits.headers);
  check_fields(&res->fields, head);
  check(res->status >= 100 && res->status <= 599 && res->minor <= 1);
  check(inside(res->reason, head) && clean(res->reason) && inside(res->upgrade, head));
  check(res->status >= 200 || res->body == HTTP_BODY_NONE || res->status == 101);
  check((res->status == 101) == (res->upgrade.len > 0));
  check(res->body != HTTP_BODY_LENGTH || res->has_length);
  check((res->body != HTTP_BODY_CLOSE && res->body != HTTP_BODY_TUNNEL) || !res->keepalive);
  check(res->content_length <= INT64_MAX);
}

static void check_round_trip(const struct http_response *res, enum http_method method) {
  char room[16384];
  struct buf b = buf_of(room, sizeof(room));
  if (res->status == 101) return; /* its Connection and Upgrade are written by the proxy */
  check(h1_write_status_line(&b, res->status, res->reason));
  h1_write_fields(&b, &res->fields);
  h1_write_framing(&b, res->has_length ? HTTP_BODY_LENGTH : res->body, res->content_length);
  buf_lit(&b, "\r\n");
  check(!b.full);
  struct h1_scan scan = {0};
  struct h1_limits wide = {.header_bytes = 65536, .headers = 100};
  struct http_response again;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  check(h1_parse_response(&scan, buf_span(&b), &wide, &arena, method, &again, &why) == HTTP_DONE);
  check(again.head_len == b.len && again.status == res->status);
  check(span_eq(again.reason, res->reason) && again.body == res->body);
  check(again.has_length == res->has_length);
  check(!again.has_length || again.content_length == res->content_length);
  check_same_written(&res->fields, &again.fields);
  check_same_written(&again.fields, &res->fields);
  arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  static const enum http_method methods[] = {HTTP_METHOD_GET, HTTP_METHOD_HEAD,
                                             HTTP_METHOD_CONNECT, HTTP_METHOD_OTHER};
  enum http_method method = methods[data[0] & 3];
  struct span input = span_of((const char *)data + 1, len - 1);
  struct parsed once, cut;
  char *block = parse(input, 0, method, &once);
  char *other = parse(input, (size_t)(data[0] >> 2) + 1, method, &cut);
  check(once.result == cut.result);
  if (once.result == HTTP_BAD) check(once.why == cut.why);
  if (once.result == HTTP_DONE) {
    check_response(&once.res, span_of(block, input.len));
    check(cut.res.head_len == once.res.head_len && cut.res.body == once.res.body);
    check(cut.res.fields.count == once.res.fields.count);
    check_same_written(&once.res.fields, &cut.res.fields);
    check_round_trip(&cut.res, method);
  }
  arena_reset(&once.arena);
  arena_reset(&cut.arena);
  free(block);
  free(other);
  return 0;
}
