/* forwarded.c: who the client is, and what the upstream is told about it. A client's own
 * X-Forwarded-* and Forwarded were marked HTTP_FIELD_FORWARDING by the parser and are not sent;
 * only a peer in trusted_proxies has them passed on, with this hop added. client.address is the
 * rightmost X-Forwarded-For entry (or Forwarded for=) that is not a trusted proxy. RFC 7239,
 * DESIGN.md "Trust". A list is read from its right end and at most TRUST_HOPS_MAX entries deep. */
#include "filter_priv.h"
#include "weir/http/h2_pseudo.h"

#define TRUST_HOPS_MAX 32u
#define IP_TEXT_MAX 64u
/* FORWARDED_MAX bounds one element that we write: two addresses, a host of 255 and the words. */
#define FORWARDED_MAX 512u

static bool net_listed(const struct listener *l, const struct addr *a) {
  for (uint32_t i = 0; i < l->trusted_count; i++)
    if (addr_net_has(&l->trusted[i], a)) return true;
  return false;
}

static bool peer_trusted(const struct filter_ctx *ctx) {
  if (!ctx->listener->trusted_count) return false;
  if (ctx->peer.len == 0 || ctx->peer.sa.sa_family == AF_UNIX) return ctx->listener->trust_unix;
  return net_listed(ctx->listener, &ctx->peer);
}

/* entry_addr reads one list entry: "ip", "ip:port", "[v6]", "[v6]:port", quoted or not. */
static bool entry_addr(struct span entry, struct addr *out) {
  if (entry.len >= 2 && entry.ptr[0] == '"' && entry.ptr[entry.len - 1] == '"')
    entry = span_sub(entry, 1, entry.len - 2);
  if (addr_from_ip(entry, 0, out)) return true;
  if (entry.len > 2 && entry.ptr[0] == '[') {
    size_t end = span_find_char(entry, ']', 1);
    return end != SIZE_MAX && addr_from_ip(span_sub(entry, 1, end - 1), 0, out);
  }
  size_t colon = span_find_char(entry, ':', 0);
  return colon != SIZE_MAX && addr_from_ip(span_sub(entry, 0, colon), 0, out);
}

/* forwarded_for cuts the node of "for=" out of one Forwarded element. */
static struct span forwarded_for(struct span element) {
  struct span pair;
  while (span_next_token(&element, ';', &pair)) {
    if (pair.len > 4 && span_eq_nocase(span_sub(pair, 0, 4), SPAN_LIT("for=")))
      return span_from(pair, 4);
  }
  return SPAN_EMPTY;
}

/* last_entry cuts the rightmost element off *list. */
static struct span last_entry(struct span *list) {
  size_t at = list->len;
  while (at > 0 && list->ptr[at - 1] != ',') at--;
  struct span entry = span_trim(span_from(*list, at));
  list->len = at ? at - 1 : 0;
  return entry;
}

/* trust walks one field's value from the right: true when it met an entry that is not a trusted
 * proxy (*client is set to the last valid address seen in any case). */
static bool trust_walk(const struct filter_ctx *ctx, struct span list, bool rfc7239,
                       struct addr *client, uint32_t *hops) {
  while (list.len && (*hops)++ < TRUST_HOPS_MAX) {
    struct span entry = last_entry(&list);
    struct addr a;
    if (!entry_addr(rfc7239 ? forwarded_for(entry) : entry, &a)) return true;
    *client = a;
    if (!net_listed(ctx->listener, &a)) return true;
  }
  return *hops >= TRUST_HOPS_MAX;
}

/* client_find walks the rows of a name from the last to the first. */
static void client_find(const struct filter_ctx *ctx, enum http_name id, struct addr *client) {
  const struct http_fields *f = &ctx->request->fields;
  uint32_t hops = 0;
  for (uint32_t i = f->count; i > 0; i--) {
    const struct http_field *row = &f->rows[i - 1];
    if (row->id != id) continue;
    if (trust_walk(ctx, row->value, id == HTTP_NAME_FORWARDED, client, &hops)) return;
  }
}

struct span filter_addr(struct filter_ctx *ctx, const struct addr *a) {
  char *bytes = arena_bytes(ctx->arena, IP_TEXT_MAX);
  if (!bytes) return SPAN_EMPTY;
  struct buf b = buf_of(bytes, IP_TEXT_MAX);
  if (a->len == 0) buf_lit(&b, "unix:");
  else addr_write_ip(a, &b);
  arena_shrink(ctx->arena, bytes, IP_TEXT_MAX, b.len);
  return buf_span(&b);
}

/* pass_on lets the fields of a trusted peer through, but for those that are weir's own here. */
static void pass_on(const struct filter_ctx *ctx, struct http_fields *fields) {
  for (uint32_t i = 0; i < fields->count; i++) {
    uint16_t id = fields->rows[i].id;
    bool cert = id == HTTP_NAME_CLIENT_CERT || id == HTTP_NAME_CLIENT_CERT_CHAIN;
    if (!cert || !ctx->cert_forward) fields->rows[i].flags &= (uint16_t)~HTTP_FIELD_FORWARDING;
  }
}

static struct span scheme_of(const struct filter_ctx *ctx) {
  return ctx->tls ? SPAN_LIT("https") : SPAN_LIT("http");
}

/* host_text is the host as the client named it, with its port. */
static struct span host_text(struct filter_ctx *ctx) {
  const struct http_request *r = ctx->request;
  if (!r->port) return r->host;
  char *bytes = arena_bytes(ctx->arena, r->host.len + 8);
  if (!bytes) return SPAN_EMPTY;
  struct buf b = buf_of(bytes, r->host.len + 8);
  buf_put(&b, r->host);
  buf_char(&b, ':');
  buf_u64(&b, r->port);
  return buf_span(&b);
}

/* add_host adds a field with the host in it: where that may not be indexed, nor may the field. */
static enum filter_result add_host(struct filter_ctx *ctx, struct span name, struct span value) {
  struct http_request *r = ctx->request;
  enum filter_result result = filter_add(ctx, &r->fields, name, value);
  if (result == FILTER_NEXT)
    r->fields.rows[r->fields.count - 1].secret = r->secret >> H2_PSEUDO_AUTHORITY & 1;
  return result;
}

/* forwarded_append adds our element to a Forwarded that a trusted proxy sent (RFC 7239 section 4).
 */
static enum filter_result forwarded_append(struct filter_ctx *ctx, struct span peer) {
  char *bytes = arena_bytes(ctx->arena, FORWARDED_MAX);
  struct buf b = buf_of(bytes, bytes ? FORWARDED_MAX : 0);
  bool v6 = span_find_char(peer, ':', 0) != SIZE_MAX && ctx->peer.sa.sa_family == AF_INET6;
  bool unix_peer = ctx->peer.len == 0 || ctx->peer.sa.sa_family == AF_UNIX;
  buf_lit(&b, "for=");
  if (unix_peer) buf_lit(&b, "unknown");
  else if (v6) buf_lit(&b, "\"[");
  if (!unix_peer) buf_put(&b, peer);
  if (!unix_peer && v6) buf_lit(&b, "]\"");
  buf_lit(&b, ";proto=");
  buf_put(&b, scheme_of(ctx));
  if (ctx->request->host.len) {
    buf_lit(&b, ";host=\"");
    buf_put(&b, host_text(ctx));
    buf_char(&b, '"');
  }
  if (b.full) {
    ctx->end = END_LIMIT_STREAM_MEMORY;
    return FILTER_ANSWER;
  }
  return add_host(ctx, SPAN_LIT("Forwarded"), buf_span(&b));
}

/* chain_append writes one X-Forwarded-For of all that a trusted peer sent and the peer itself, and
 * drops the rows it took in: backends often read one row only. */
static enum filter_result chain_append(struct filter_ctx *ctx, struct span peer) {
  struct http_fields *f = &ctx->request->fields;
  size_t room = peer.len;
  struct http_field *row = NULL;
  bool secret = false;
  while ((row = http_fields_next(f, HTTP_NAME_X_FORWARDED_FOR, row))) {
    room += row->value.len + 2;
    if (row->secret) secret = true;
  }
  char *bytes = arena_bytes(ctx->arena, room);
  struct buf b = buf_of(bytes, bytes ? room : 0);
  while ((row = http_fields_next(f, HTTP_NAME_X_FORWARDED_FOR, row))) {
    buf_put(&b, row->value);
    if (row->value.len) buf_lit(&b, ", ");
    row->flags |= HTTP_FIELD_DROP;
  }
  buf_put(&b, peer);
  if (b.full) return filter_full(ctx);
  enum filter_result r = filter_add(ctx, f, SPAN_LIT("X-Forwarded-For"), buf_span(&b));
  if (r == FILTER_NEXT) f->rows[f->count - 1].secret = secret;
  return r;
}

void filter_trust(struct filter_ctx *ctx) {
  struct http_fields *f = &ctx->request->fields;
  if (ctx->trust_known) return;
  ctx->trust_known = true;
  ctx->trusted = peer_trusted(ctx);
  ctx->client_addr = ctx->peer;
  if (ctx->trusted) {
    bool xff = http_fields_has(f, HTTP_NAME_X_FORWARDED_FOR);
    enum http_name id = xff ? HTTP_NAME_X_FORWARDED_FOR : HTTP_NAME_FORWARDED;
    client_find(ctx, id, &ctx->client_addr);
    pass_on(ctx, f);
  }
  ctx->client = filter_addr(ctx, &ctx->client_addr);
}

enum filter_result forwarded_request(struct filter_ctx *ctx) {
  struct http_fields *f = &ctx->request->fields;
  filter_trust(ctx);
  bool trusted = ctx->trusted;
  bool direct = addr_eq(&ctx->client_addr, &ctx->peer);
  struct span peer = direct ? ctx->client : filter_addr(ctx, &ctx->peer);
  enum filter_result r = FILTER_NEXT;
  if (trusted && http_fields_has(f, HTTP_NAME_FORWARDED)) r = forwarded_append(ctx, peer);
  bool chain = trusted && http_fields_has(f, HTTP_NAME_X_FORWARDED_FOR);
  if (r == FILTER_NEXT && ctx->peer.len && ctx->peer.sa.sa_family != AF_UNIX)
    r = chain ? chain_append(ctx, peer)
              : filter_add(ctx, f, SPAN_LIT("X-Forwarded-For"), peer);
  /* A trusted proxy may have set these already. */
  bool proto = trusted && http_fields_has(f, HTTP_NAME_X_FORWARDED_PROTO);
  bool hosted = trusted && http_fields_has(f, HTTP_NAME_X_FORWARDED_HOST);
  struct span host = hosted ? SPAN_EMPTY : host_text(ctx);
  if (r == FILTER_NEXT && !proto)
    r = filter_add(ctx, f, SPAN_LIT("X-Forwarded-Proto"), scheme_of(ctx));
  if (r == FILTER_NEXT && host.len) r = add_host(ctx, SPAN_LIT("X-Forwarded-Host"), host);
  return r;
}
