/* h2_message_each.c: messages as the fields of an HTTP/2 section (RFC 9113 section 8.3, RFC 8441
 * section 5): what was understood, not what came. The twin of h1_write.c: the same rows are
 * written, and none whose bytes could end a line in another version. Called by proxy/. */
#include "bytes_priv.h"
#include "weir/base/buf.h"
#include "weir/http/h2_message.h"
#include "weir/http/trailer.h"

enum { AUTHORITY_MAX = 300, NUMBER_MAX = 20 };

/* sink is where fields go. */
struct sink {
  h2_put *put;
  void *ctx;
  struct arena *scratch;
  uint8_t secret; /* pseudo-fields that no hop may index: bits of enum h2_pseudo_id */
};

static bool is_target(struct span s) {
  return s.len > 0 && bytes_target_end(s.ptr, 0, s.len) == s.len;
}

static bool put_pseudo(const struct sink *to, enum h2_pseudo_id id, struct span value) {
  struct h2_field field = {
      .name = h2_pseudo_text(id), .value = value, .id = HTTP_NAME_OTHER, .pseudo = (uint8_t)id,
      .secret = (to->secret >> id & 1) != 0};
  return is_target(value) && to->put(to->ctx, &field);
}

static bool put_known(const struct sink *to, enum http_name id, struct span value, bool secret) {
  struct h2_field field = {.name = http_name_text(id),
                           .value = value,
                           .id = (uint16_t)id,
                           .pseudo = H2_PSEUDO_COUNT,
                           .secret = secret};
  return to->put(to->ctx, &field);
}

static bool put_length(const struct sink *to, uint64_t length) {
  char room[NUMBER_MAX];
  struct buf digits = buf_of(room, sizeof(room));
  buf_u64(&digits, length);
  return put_known(to, HTTP_NAME_CONTENT_LENGTH, buf_span(&digits), false);
}

/* lower_name is a name in lower case, copied only when it must; empty: the arena is used up. */
static struct span lower_name(struct arena *arena, struct span name) {
  size_t at = 0;
  while (at < name.len && name.ptr[at] == ascii_lower(name.ptr[at])) at++;
  if (at == name.len) return name;
  char *copy = arena_bytes(arena, name.len);
  if (copy == NULL) return SPAN_EMPTY;
  for (size_t i = 0; i < name.len; i++) copy[i] = ascii_lower(name.ptr[i]);
  return span_of(copy, name.len);
}

/* put_row: rows were checked when they were made; their values are once more. */
static bool put_row(const struct sink *to, const struct http_field *row) {
  if (!http_is_value(row->value)) return false;
  if (row->id != HTTP_NAME_OTHER)
    return put_known(to, (enum http_name)row->id, row->value, row->secret);
  struct h2_field field = {.name = lower_name(to->scratch, row->name),
                           .value = row->value,
                           .id = HTTP_NAME_OTHER,
                           .pseudo = H2_PSEUDO_COUNT,
                           .secret = row->secret};
  return http_is_token(field.name) && to->put(to->ctx, &field);
}

static bool put_rows(const struct sink *to, const struct http_fields *fields) {
  for (uint32_t i = 0; i < fields->count; i++)
    if (http_field_written(&fields->rows[i]) && !put_row(to, &fields->rows[i])) return false;
  return true;
}

static bool put_authority(const struct sink *to, const struct h2_request_head *head) {
  char room[AUTHORITY_MAX];
  bool own = head->host.len > 0;
  struct span host = own ? head->host : head->request->host;
  uint16_t port = own ? head->port : head->request->port;
  if (port == 0) return put_pseudo(to, H2_PSEUDO_AUTHORITY, host);
  struct buf text = buf_of(room, sizeof(room));
  buf_put(&text, host);
  buf_char(&text, ':');
  buf_u64(&text, port);
  return !text.full && put_pseudo(to, H2_PSEUDO_AUTHORITY, buf_span(&text));
}

/* is_target_still: the target as it came is path, "?" and query as they are now. */
static bool is_target_still(const struct http_request *r, struct span path) {
  struct span target = r->target;
  return path.ptr == target.ptr && path.len + 1 + r->query.len == target.len &&
         target.ptr[path.len] == '?' && span_ends(target, r->query);
}

/* put_path joins path and query; what came is used again where nothing changed. */
static bool put_path(const struct sink *to, const struct h2_request_head *head) {
  const struct http_request *r = head->request;
  struct span path = head->path.len > 0 ? head->path : r->path;
  if (!r->has_query) return put_pseudo(to, H2_PSEUDO_PATH, path);
  if (is_target_still(r, path)) return put_pseudo(to, H2_PSEUDO_PATH, r->target);
  size_t len = path.len + 1 + r->query.len;
  char *bytes = arena_bytes(to->scratch, len);
  if (bytes == NULL) return false;
  struct buf text = buf_of(bytes, len);
  buf_put(&text, path);
  buf_char(&text, '?');
  buf_put(&text, r->query);
  check(!text.full);
  return put_pseudo(to, H2_PSEUDO_PATH, buf_span(&text));
}

static bool put_method(const struct sink *to, const struct http_request *r) {
  struct span connect = http_method_text(HTTP_METHOD_CONNECT);
  return put_pseudo(to, H2_PSEUDO_METHOD, r->upgrade.len > 0 ? connect : r->method_text);
}

bool h2_each_request(const struct h2_request_head *head, struct arena *scratch, h2_put *put,
                     void *ctx) {
  const struct http_request *r = head->request;
  const struct sink to = {.put = put, .ctx = ctx, .scratch = scratch, .secret = r->secret};
  bool https = head->scheme == HTTP_SCHEME_HTTPS;
  if (!put_method(&to, r)) return false;
  if (!put_pseudo(&to, H2_PSEUDO_SCHEME, https ? SPAN_LIT("https") : SPAN_LIT("http")))
    return false;
  if (!put_authority(&to, head) || !put_path(&to, head)) return false;
  if (r->upgrade.len > 0 && !put_pseudo(&to, H2_PSEUDO_PROTOCOL, r->upgrade)) return false;
  if (!put_rows(&to, &r->fields)) return false;
  bool te = http_takes_trailers(&r->fields);
  if (te && !put_known(&to, HTTP_NAME_TE, SPAN_LIT("trailers"), false)) return false;
  return r->body != HTTP_BODY_LENGTH || r->upgrade.len > 0 || put_length(&to, r->content_length);
}

bool h2_each_response(const struct http_response *response, struct arena *scratch, h2_put *put,
                      void *ctx) {
  const struct sink to = {
      .put = put, .ctx = ctx, .scratch = scratch, .secret = response->secret};
  char room[NUMBER_MAX];
  struct buf status = buf_of(room, sizeof(room));
  buf_u64(&status, response->status == 101 ? 200 : response->status);
  if (!put_pseudo(&to, H2_PSEUDO_STATUS, buf_span(&status))) return false;
  if (!put_rows(&to, &response->fields)) return false;
  return !response->has_length || put_length(&to, response->content_length);
}

bool h2_each_trailer(const struct http_fields *fields, struct arena *scratch, h2_put *put,
                     void *ctx) {
  const struct sink to = {.put = put, .ctx = ctx, .scratch = scratch};
  return put_rows(&to, fields);
}
