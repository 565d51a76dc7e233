/* expand.c: values of ${variables} (model/variable.def) for one request, and templates filled in.
 * No value can hold CR, LF or NUL: the method is a token, host, path and query were checked by
 * http/uri.h, addresses are written here, names were checked by config/, those of certificates are
 * visible ASCII (io/tls_client_cert.c); and what fills a field
 * goes through http_fields_add, which refuses them once more. Called by filters and proxy/. */
#include "filter_priv.h"

#define EXPAND_MAX 16384u /* more than any one value; the request's head is limited too */

static bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

/* version "-" 32 hex digits "-" and more (W3C Trace Context section 3.2); not all zero. */
struct span filter_trace_id(const struct http_request *r) {
  const struct http_field *row = http_fields_find(&r->fields, HTTP_NAME_TRACEPARENT);
  if (!row || row->value.len < 55) return SPAN_EMPTY;
  struct span v = row->value, id = span_sub(v, 3, 32);
  bool zero = true;
  for (size_t i = 0; i < id.len; i++) {
    if (!is_hex(id.ptr[i])) return SPAN_EMPTY;
    zero = zero && id.ptr[i] == '0';
  }
  return v.ptr[2] == '-' && v.ptr[35] == '-' && !zero ? id : SPAN_EMPTY;
}

/* listener and route are NULL in tests only: what is expanded belongs to a route. */
static struct span value_of(struct filter_ctx *ctx, enum variable variable) {
  const struct http_request *r = ctx->request;
  switch (variable) {
    case VARIABLE_CLIENT_ADDRESS: return ctx->client;
    case VARIABLE_PEER_ADDRESS:
      return ctx->socket.len ? ctx->socket : filter_addr(ctx, &ctx->peer);
    case VARIABLE_REQUEST_METHOD: return r->method_text;
    case VARIABLE_REQUEST_SCHEME: return ctx->tls ? SPAN_LIT("https") : SPAN_LIT("http");
    case VARIABLE_REQUEST_HOST: return r->host;
    case VARIABLE_REQUEST_PATH: return r->path;
    case VARIABLE_REQUEST_QUERY: return r->query;
    case VARIABLE_ROUTE_NAME: return ctx->route->obj.name;
    case VARIABLE_LISTENER_NAME: return ctx->listener->obj.name;
    case VARIABLE_POOL_NAME: return ctx->pool ? ctx->pool->obj.name : SPAN_EMPTY;
    case VARIABLE_TLS_CLIENT_SUBJECT: return ctx->cert ? ctx->cert->subject : SPAN_EMPTY;
    case VARIABLE_TLS_CLIENT_ISSUER: return ctx->cert ? ctx->cert->issuer : SPAN_EMPTY;
    case VARIABLE_TLS_CLIENT_HASH: return ctx->cert ? ctx->cert->hash : SPAN_EMPTY;
    case VARIABLE_TRACE_ID: return filter_trace_id(r);
    case VARIABLE_NONE:
    case VARIABLE_COUNT: break;
  }
  return SPAN_EMPTY;
}

static struct span part_of(struct filter_ctx *ctx, const struct template_part *part) {
  return part->variable == VARIABLE_NONE ? part->text : value_of(ctx, part->variable);
}

bool filter_expand(struct filter_ctx *ctx, const struct template *template, struct span *out) {
  *out = SPAN_EMPTY;
  if (template->count == 0) return true;
  if (template->count == 1) { /* the most: a literal, or one variable */
    *out = part_of(ctx, &template->parts[0]);
    return true;
  }
  struct span values[TEMPLATE_PARTS_MAX];
  size_t room = 0;
  for (uint32_t i = 0; i < template->count; i++) {
    values[i] = part_of(ctx, &template->parts[i]);
    room += values[i].len;
  }
  char *bytes = room <= EXPAND_MAX ? arena_bytes(ctx->arena, room) : NULL;
  struct buf b = buf_of(bytes, bytes ? room : 0);
  for (uint32_t i = 0; i < template->count; i++) buf_put(&b, values[i]);
  if (b.full) {
    (void)filter_full(ctx);
    return false;
  }
  *out = buf_span(&b);
  return true;
}
