/* fuzz_h2_translate.c: a message of HTTP/1.1 through HTTP/2 and back: h1_parse_* -> h2_each_* ->
 * HPACK -> h2_parse_* -> h1_write_* -> h1_parse_*. Byte 0: bits 0-1 a request (0, 1), a response
 * or trailers; bit 2 it answers HEAD; bits 3-5 how the block is cut. The rest is a head, or
 * trailer lines, as HTTP/1.1 brings them. What is accepted is the same message at each station,
 * but for what each version has of its own: hop-by-hop fields, the case of names, cookie crumbs.
 * The other way round, h2 -> h1 -> h2, is fuzz_h2_message.c. */
#include "h1_invariants.h"
#include "weir/http/h2_message.h"
#include "weir/http/hpack.h"
#include "weir/http/trailer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { ROOM = 1 << 18, INPUT_MAX = 1 << 14, ROUNDS = 2 };

static const struct h1_limits wide = {
    .header_bytes = ROOM, .headers = UINT32_MAX, .uri_bytes = ROOM};
static const struct hpack_limits section_limits = {.fields = UINT32_MAX,
                                                   .list_bytes = UINT32_MAX,
                                                   .hard_list_bytes = UINT32_MAX,
                                                   .block_bytes = ROOM};

/* ---- comparing ---- */

static void check_same_name(struct span a, struct span b) {
  check(a.len == b.len);
  for (size_t i = 0; i < a.len; i++) check(ascii_lower(a.ptr[i]) == ascii_lower(b.ptr[i]));
}

static bool is_cookie(const struct http_field *row) { return row->id == HTTP_NAME_COOKIE; }

/* next_row is the next one that is written and no cookie; NULL: there is none. */
static const struct http_field *next_row(const struct http_fields *f, uint32_t *at) {
  while (*at < f->count) {
    const struct http_field *row = &f->rows[(*at)++];
    if (http_field_written(row) && !is_cookie(row)) return row;
  }
  return NULL;
}

/* cookies joins those that are written, as RFC 9113 section 8.2.3 says; empty ones say nothing. */
static struct span cookies(const struct http_fields *f, char *room) {
  struct buf b = buf_of(room, ROOM);
  for (uint32_t i = 0; i < f->count; i++) {
    if (!http_field_written(&f->rows[i]) || !is_cookie(&f->rows[i])) continue;
    if (!f->rows[i].value.len) continue;
    if (b.len) buf_lit(&b, "; ");
    buf_put(&b, f->rows[i].value);
  }
  check(!b.full);
  return buf_span(&b);
}

static void check_same_fields(const struct http_fields *a, const struct http_fields *b,
                              bool request) {
  static char one[ROOM], other[ROOM];
  uint32_t at_a = 0, at_b = 0;
  for (;;) {
    const struct http_field *x = next_row(a, &at_a), *y = next_row(b, &at_b);
    check((x == NULL) == (y == NULL));
    if (x == NULL) break;
    check_same_name(x->name, y->name);
    check(x->id == y->id && span_eq(x->value, y->value) && clean(y->value));
  }
  if (request) check(span_eq(cookies(a, one), cookies(b, other)));
}

/* ---- over HPACK ---- */

/* wire is one direction of an HTTP/2 connection, and the section that came last. */
struct wire {
  struct hpack_encoder enc;
  struct hpack_decoder dec;
  struct buf out;
  struct h2_section section;
  struct arena arena;
  size_t piece;
};

static bool put(void *ctx, const struct h2_field *field) {
  struct wire *w = ctx;
  const struct http_field row = {
      .name = field->name, .value = field->value, .id = field->id, .secret = field->secret};
  if (field->pseudo < H2_PSEUDO_COUNT)
    hpack_encode_pseudo(&w->enc, (enum hpack_pseudo)field->pseudo, field->value, false, &w->out);
  else
    hpack_encode_field(&w->enc, &row, &w->out);
  return !w->out.full;
}

/* begin readies the wire for one block. */
static void begin(struct wire *w, char *room) {
  arena_reset(&w->arena);
  w->out = buf_of(room, ROOM);
  hpack_encode_begin(&w->enc, &w->out);
}

/* over ends the block and decodes it in pieces. */
static void over(struct wire *w, bool end_stream) {
  struct hpack_block b;
  check(hpack_encode_end(&w->enc, &w->out));
  hpack_block_init(&b, &section_limits, &w->arena);
  struct span left = buf_span(&w->out);
  enum hpack_result result = HPACK_MORE;
  while (result == HPACK_MORE) {
    struct span part = span_sub(left, 0, w->piece);
    left = span_from(left, w->piece);
    result = hpack_decode(&w->dec, &b, part, left.len == 0);
    check(result != HPACK_MORE || left.len > 0);
  }
  check(result == HPACK_DONE && b.faults == 0);
  w->section = (struct h2_section){.fields = b.fields, .end_stream = end_stream};
  w->section.pseudo.present = b.present;
  memcpy(w->section.pseudo.value, b.pseudo, sizeof b.pseudo);
}

/* ---- requests ---- */

static void check_same_request(const struct http_request *a, const struct http_request *b) {
  check(a->method == b->method && span_eq(a->method_text, b->method_text));
  check(span_eq(a->path, b->path) && span_eq(a->query, b->query));
  check(a->has_query == b->has_query && a->body == b->body);
  check(a->content_length == b->content_length && b->upgrade.len == 0);
  check(a->expect_continue == b->expect_continue || a->minor == 0);
  check(a->host.len == 0 || (span_eq(a->host, b->host) && a->port == b->port));
  check(http_takes_trailers(&a->fields) == http_takes_trailers(&b->fields));
  check_same_fields(&a->fields, &b->fields, true);
}

/* write_request is what proxy/ writes for an endpoint of HTTP/1.1. */
static void write_request(const struct http_request *r, struct buf *b) {
  check(h1_write_request_line(b, r->method_text, r->path, r->has_query ? &r->query : NULL, 1));
  check(h1_write_host(b, r->host, r->port));
  h1_write_fields(b, &r->fields);
  h1_write_framing(b, r->body, r->content_length);
  if (http_takes_trailers(&r->fields)) buf_lit(b, "Connection: TE\r\nTE: trailers\r\n");
  buf_lit(b, "\r\n");
  check(!b->full);
}

static void request_back(const struct http_request *via, const struct http_request *was) {
  static char room[ROOM];
  struct buf b = buf_of(room, ROOM);
  struct h1_scan scan = {0};
  struct http_request again;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  write_request(via, &b);
  check(h1_parse_request(&scan, buf_span(&b), &wide, &arena, &again, &why) == HTTP_DONE);
  check(again.head_len == b.len);
  check_same_request(was, &again);
  arena_reset(&arena);
}

static void try_request(struct wire *w, struct span text, struct arena *arena) {
  static char room[ROOM];
  struct h1_scan scan = {0};
  struct http_request req, via;
  enum end why = END_OK;
  if (h1_parse_request(&scan, text, &wide, arena, &req, &why) != HTTP_DONE) return;
  if (span_find_char(req.path, '#', 0) != SIZE_MAX) return; /* path_canonical refuses it */
  req.upgrade = SPAN_EMPTY; /* HTTP/1.1's means nothing in HTTP/2: proxy/attempt.c */
  struct h2_request_head head = {.request = &req, .scheme = HTTP_SCHEME_HTTP};
  if (req.host.len == 0) head.host = SPAN_LIT("none");
  const struct h2_rules rules = {.uri_bytes = ROOM, .extended_connect = true};
  for (unsigned round = 0; round < ROUNDS; round++) { /* the second finds the tables filled */
    begin(w, room);
    check(h2_each_request(&head, arena, put, w));
    over(w, req.body == HTTP_BODY_NONE);
    check(h2_parse_request(&w->section, &rules, &w->arena, &via, &why));
    check_same_request(&req, &via);
    request_back(&via, &req);
  }
}

/* ---- responses ---- */

static void check_same_response(const struct http_response *a, const struct http_response *b) {
  check(a->status == b->status && a->has_length == b->has_length);
  check(!a->has_length || a->content_length == b->content_length);
  check_same_fields(&a->fields, &b->fields, false);
}

/* bodies are the same but for how an unknown length is said. */
static enum http_body body_of(const struct http_response *r) {
  return r->body == HTTP_BODY_CLOSE ? HTTP_BODY_CHUNKED : r->body;
}

static void response_back(const struct http_response *via, const struct http_response *was,
                          enum http_method method) {
  static char room[ROOM];
  struct buf b = buf_of(room, ROOM);
  struct h1_scan scan = {0};
  struct http_response again;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  check(h1_write_status_line(&b, via->status, via->reason));
  h1_write_fields(&b, &via->fields);
  if (via->body != HTTP_BODY_NONE) h1_write_framing(&b, via->body, via->content_length);
  else if (via->has_length) h1_write_framing(&b, HTTP_BODY_LENGTH, via->content_length);
  buf_lit(&b, "\r\n");
  check(!b.full);
  check(h1_parse_response(&scan, buf_span(&b), &wide, &arena, method, &again, &why) == HTTP_DONE);
  check(again.head_len == b.len && body_of(&again) == body_of(was));
  check_same_response(was, &again);
  arena_reset(&arena);
}

static void try_response(struct wire *w, struct span text, enum http_method method,
                         struct arena *arena) {
  static char room[ROOM];
  struct h1_scan scan = {0};
  struct http_response res, via;
  enum end why = END_OK;
  const struct h2_asked asked = {.method = method};
  if (h1_parse_response(&scan, text, &wide, arena, method, &res, &why) != HTTP_DONE) return;
  if (res.status == 101) return; /* asked for by an upgrade only */
  for (unsigned round = 0; round < ROUNDS; round++) {
    begin(w, room);
    check(h2_each_response(&res, arena, put, w));
    over(w, res.body == HTTP_BODY_NONE && res.status >= 200);
    check(h2_parse_response(&w->section, &asked, &via, &why));
    check(via.body == body_of(&res));
    check_same_response(&res, &via);
    response_back(&via, &res, method);
  }
}

/* ---- trailers ---- */

static void trailers_back(const struct http_fields *via, const struct http_fields *was,
                          enum h1_side side) {
  static char room[ROOM];
  struct buf b = buf_of(room, ROOM);
  struct h1_chunked chunked;
  struct http_fields none = {0}, again;
  struct arena arena;
  struct span data = SPAN_EMPTY;
  size_t used = 0;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  h1_write_last_chunk(&b, via);
  check(!b.full);
  h1_chunked_init(&chunked, side);
  check(h1_chunked_parse(&chunked, buf_span(&b), &used, &data, &why) == HTTP_DONE);
  check(used == b.len);
  struct h1_trailer_lines in = {h1_chunked_lines(&chunked, buf_span(&b)), side, &none};
  if (in.lines.len) {
    check(h1_parse_trailers(&in, &arena, &again, &why));
    check_same_fields(was, &again, false);
  } else {
    check(!http_trailers_any(was));
  }
  arena_reset(&arena);
}

static void try_trailers(struct wire *w, struct span text, enum h1_side side,
                         struct arena *arena) {
  static char room[ROOM];
  struct http_fields none = {0}, trailers;
  enum end why = END_OK;
  const struct h1_trailer_lines in = {text, side, &none};
  if (text.len > H1_TRAILER_LINES_MAX) return;
  if (!h1_parse_trailers(&in, arena, &trailers, &why) || !http_trailers_any(&trailers)) return;
  for (unsigned round = 0; round < ROUNDS; round++) {
    begin(w, room);
    check(h2_each_trailer(&trailers, arena, put, w));
    over(w, true);
    check(h2_parse_trailers(&w->section, side == H1_REQUEST, &why));
    check_same_fields(&trailers, &w->section.fields, false);
    trailers_back(&w->section.fields, &trailers, side);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  static const size_t pieces[] = {SIZE_MAX, 1, 2, 3, 7, 16, 100, 1000};
  if (len == 0 || len > INPUT_MAX) return 0;
  unsigned how = data[0];
  struct span text = span_of((const char *)data + 1, len - 1);
  struct wire w = {.piece = pieces[how >> 3 & 7]};
  struct arena arena;
  arena_init(&arena, NULL, 0);
  arena_init(&w.arena, NULL, 0);
  hpack_encoder_init(&w.enc, HPACK_TABLE_DEFAULT);
  hpack_decoder_init(&w.dec, HPACK_TABLE_DEFAULT);
  if ((how & 3) < 2) try_request(&w, text, &arena);
  else if ((how & 3) == 2)
    try_response(&w, text, how & 4 ? HTTP_METHOD_HEAD : HTTP_METHOD_GET, &arena);
  else try_trailers(&w, text, how & 4 ? H1_REQUEST : H1_RESPONSE, &arena);
  hpack_encoder_fini(&w.enc);
  hpack_decoder_fini(&w.dec);
  arena_reset(&w.arena);
  arena_reset(&arena);
  return 0;
}
