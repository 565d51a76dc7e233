/* fuzz_h1_request.c: request heads (http/h1_request.c). Byte 0 picks where the input is cut; the
 * rest is the head. Checked: spans lie inside, no control gets through, cutting changes nothing,
 * and what is serialised reads back as the same request. */
#include <stdlib.h>

#include "h1_invariants.h"
#include "weir/base/mem.h"

static const struct h1_limits limits = {.header_bytes = 4096, .headers = 40, .uri_bytes = 1024};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct parsed {
  enum http_result result;
  enum end why;
  struct http_request req;
  struct arena arena;
};

/* check_seen: what is told of it, refused or not, lies in what was shown. */
static void check_seen(const struct h1_scan *scan, struct span head) {
  struct http_request seen;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  bool version = h1_request_seen(scan, head, &arena, &seen);
  check(!seen.method_text.len || inside(seen.method_text, head));
  bool made = span_eq(seen.path, SPAN_LIT("/")) || span_eq(seen.path, SPAN_LIT("*"));
  check(!seen.path.len || made || inside(seen.path, head));
  check(!seen.query.len || inside(seen.query, head));
  check(seen.method_text.len || !(seen.path.len || version));
  for (uint32_t i = 0; i < seen.fields.count; i++)
    check(inside(seen.fields.rows[i].name, head) && clean(seen.fields.rows[i].value));
  arena_reset(&arena);
}

/* parse shows the input in pieces of `piece` bytes (0: all at once), in memory that moves. */
static char *parse(struct span input, size_t piece, struct parsed *out) {
  struct h1_scan scan = {0};
  char *block = NULL;
  size_t shown = 0;
  arena_init(&out->arena, NULL, 0);
  out->result = HTTP_MORE;
  do {
    block = show_more(block, input, piece, &shown);
    out->result =
        h1_parse_request(&scan, span_of(block, shown), &limits, &out->arena, &out->req, &out->why);
    check_seen(&scan, span_of(block, shown));
  } while (out->result == HTTP_MORE && shown < input.len);
  return block;
}

static void check_request(const struct http_request *req, struct span head) {
  struct span star = SPAN_LIT("*"), root = SPAN_LIT("/");
  check(req->head_len <= head.len && req->head_len <= limits.header_bytes);
  check(req->fields.count <= limits.headers && req->target.len <= limits.uri_bytes);
  check_fields(&req->fields, head);
  check(inside(req->method_text, head) && http_is_token(req->method_text));
  check(inside(req->target, head) && clean(req->target) && clean(req->host));
  check(inside(req->path, req->target) || span_eq(req->path, star) || span_eq(req->path, root));
  check(req->path.len > 0 && (req->path.ptr[0] == '/' || span_eq(req->path, star)));
  check(inside(req->query, req->target) && inside(req->upgrade, head));
  check(req->host.len > 0 || req->minor == 0);
  check(req->method != HTTP_METHOD_CONNECT && req->form != HTTP_FORM_AUTHORITY);
  check(req->body == HTTP_BODY_NONE || req->body == HTTP_BODY_LENGTH ||
        req->body == HTTP_BODY_CHUNKED);
  check(req->body == HTTP_BODY_LENGTH || req->content_length == 0);
  check(req->minor == 1 || req->body != HTTP_BODY_CHUNKED);
}

/* check_round_trip writes the request as the proxy would and reads that back. */
static void check_round_trip(const struct http_request *req) {
  char room[16384];
  struct buf b = buf_of(room, sizeof(room));
  bool named = req->host.len > 0;
  check(h1_write_request_line(&b, req->method_text, req->path, req->has_query ? &req->query : NULL,
                              1));
  check(h1_write_host(&b, named ? req->host : SPAN_LIT("none"), named ? req->port : 0));
  h1_write_fields(&b, &req->fields);
  h1_write_framing(&b, req->body, req->content_length);
  buf_lit(&b, "\r\n");
  check(!b.full);
  struct h1_scan scan = {0};
  struct h1_limits wide = {.header_bytes = 65536, .headers = 100, .uri_bytes = 65536};
  struct http_request again;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  check(h1_parse_request(&scan, buf_span(&b), &wide, &arena, &again, &why) == HTTP_DONE);
  check(again.head_len == b.len);
  check(again.method == req->method && span_eq(again.method_text, req->method_text));
  check(span_eq(again.path, req->path) && span_eq(again.query, req->query));
  check(again.has_query == req->has_query);
  check(!named || (span_eq(again.host, req->host) && again.port == req->port));
  check(again.body == req->body && again.content_length == req->content_length);
  check_same_written(&req->fields, &again.fields);
  check_same_written(&again.fields, &req->fields);
  arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  struct span input = span_of((const char *)data + 1, len - 1);
  struct parsed once, cut;
  char *block = parse(input, 0, &once);
  char *other = parse(input, (size_t)data[0] + 1, &cut);
  check(once.result == cut.result);
  if (once.result == HTTP_BAD) check(once.why == cut.why);
  if (once.result == HTTP_DONE) {
    check_request(&once.req, span_of(block, input.len));
    check(cut.req.head_len == once.req.head_len && span_eq(cut.req.host, once.req.host));
    check(cut.req.fields.count == once.req.fields.count && cut.req.body == once.req.body);
    check_same_written(&once.req.fields, &cut.req.fields);
    check_round_trip(&cut.req);
  }
  arena_reset(&once.arena);
  arena_reset(&cut.arena);
  free(block);
  free(other);
  return 0;
}
