/* route.c: where a request goes: checks that belong to the whole request, its canonical path, who
 * the client is, redirect_https, the route table, request filters, then the action. The snapshot
 * is used within this turn only; what the stream needs longer is pinned here. DESIGN.md
 * "Matching", "Trust". */
#include <stdio.h>

#include "proxy_priv.h"
#include "weir/io/tls_client_auth.h"

enum { PEER_TEXT_MAX = 64 };

/* misdirected: a connection that was let in for one name asks for a host of whose clients
 * something else is asked, or is asked by now and was not shown, or that no certificate of its
 * listener serves (RFC 9110 section 15.5.20). s may be of an older listener than the one that is
 * now. */
static bool misdirected(const struct stream *s) {
  const struct snapshot_listener *current = s->down->serving->current;
  if (!conn_tls_covers(s->down->conn, current->listener->tls, s->x->req.host)) return true;
  if (!(s->down->flags & DOWN_TLS)) return false; /* TLS may have come with a reload */
  if (!s->x->req.host.len) return false;
  struct tls_info info;
  conn_tls_info(s->down->conn, &info);
  if (!info.sni.len || span_eq(info.sni, s->x->req.host)) return false;
  const struct tls_server *now = s->listener->tls; /* NULL: a reload took TLS away */
  return !now || !tls_server_serves(now, s->x->req.host);
}

/* socket_text is who connected, for a connection with a PROXY header. */
static struct span socket_text(struct stream *s) {
  char *bytes = s->down->proxied ? arena_bytes(&s->arena, PEER_TEXT_MAX) : NULL;
  struct buf b = buf_of(bytes, bytes ? PEER_TEXT_MAX : 0);
  struct addr socket;
  down_socket(s->down, &socket);
  if (bytes) addr_write_ip(&socket, &b);
  return buf_span(&b);
}

static void ctx_init(struct stream *s) {
  struct filter_ctx *ctx = &s->x->ctx;
  ctx->arena = &s->arena;
  ctx->listener = s->listener;
  ctx->tls = s->down->flags & DOWN_TLS;
  ctx->scratch = s->w->regex;
  regex_refill(ctx->scratch, REGEX_BUDGET); /* for routes and rewriting together */
  ctx->request = &s->x->req;
  down_peer(s->down, &ctx->peer);
  ctx->socket = socket_text(s);
  client_cert_know(s);
}

/* allow_text lists what would have been allowed, for 405 (RFC 9110 section 15.5.6). */
static void allow_text(struct stream *s, const struct route_hit *hit) {
  char *bytes = arena_bytes(&s->arena, 256);
  struct buf b = buf_of(bytes, bytes ? 256 : 0);
  for (unsigned m = 0; m < HTTP_METHOD_OTHER; m++) {
    if (!((hit->methods >> m) & 1)) continue;
    if (b.len) buf_lit(&b, ", ");
    buf_put(&b, http_method_text((enum http_method)m));
  }
  for (uint32_t i = 0; hit->allow && i < hit->allow->extra_method_count; i++) {
    if (b.len) buf_lit(&b, ", ");
    buf_put(&b, hit->allow->extra_methods[i]);
  }
  s->x->allow = buf_span(&b);
}

static void pin_route(struct stream *s, const struct route *found) {
  uint32_t me = s->w->config.index;
  s->route =
      (struct route *)found; /* settings stay immutable; the pin rows are its mutable part */
  s->route_state = found->state;
  object_pin(&s->route->obj, me);
  object_pin(&s->route_state->obj, me);
  grpc_limit(s);
}

/* take_pool_settings is take_settings for what is said in place of the pool's. */
static void take_pool_settings(struct stream *s) {
  const struct policy_settings *p = &s->route->settings;
  if (p->set & POLICY_FIRST_BYTE) s->pool_timeouts.first_byte_ms = p->first_byte_ms;
  if (p->set & POLICY_IDLE) s->pool_timeouts.idle_ms = p->idle_ms;
}

static void use_pool(struct stream *s, struct pool *pool) {
  object_pin(&pool->obj, s->w->config.index);
  s->pool = pool;
  s->pool_timeouts = pool->timeouts;
  if (s->route) take_pool_settings(s);
}

void stream_pin_pool(struct stream *s, struct pool *pool) {
  uint32_t me = s->w->config.index;
  s->pool_state = pool->state;
  object_pin(&s->pool_state->obj, me);
  use_pool(s, pool);
  s->arena.limit += 4 * (size_t)s->pool->limits.header_bytes; /* the response's share */
  stat_add(&s->pool_state->rows[me].requests, 1);
}

void stream_renew_pool(struct stream *s, struct pool *pool) {
  struct pool *before = s->pool;
  uint32_t more = pool->limits.header_bytes, had = before->limits.header_bytes;
  affinity_renew(s, pool);
  use_pool(s, pool);
  s->x->ctx.pool = pool;
  if (more > had) s->arena.limit += 4 * (size_t)(more - had);
  object_unpin(&before->obj, s->w->config.index);
}

/* take_settings puts what the route's policies say in place of the listener's. */
static void take_settings(struct stream *s) {
  const struct policy_settings *p = &s->route->settings;
  if (!p->set) return;
  if (p->set & POLICY_BODY) s->timeouts.body_ms = p->body_ms;
  if (p->set & POLICY_SEND) s->timeouts.send_ms = p->send_ms;
  if (p->set & POLICY_BODY_BYTES) s->up_body.limit = p->body_bytes;
}

static bool too_large(const struct stream *s) {
  uint64_t most = s->up_body.limit;
  return most && s->x->req.body == HTTP_BODY_LENGTH && s->x->req.content_length > most;
}

static enum route_verdict find(struct stream *s, struct route_hit *hit) {
  const struct http_request *r = &s->x->req;
  struct route_query q = {.host = r->host,
                          .path = r->path,
                          .method = r->method,
                          .method_text = r->method_text,
                          .input = {.fields = &r->fields,
                                    .upgrade = r->upgrade,
                                    .query = r->query,
                                    .client = &s->x->ctx.client_addr,
                                    .cert = s->x->ctx.cert,
                                    .scratch = s->w->regex}};
  const struct snapshot_listener *l = s->down->serving->current;
  if (!l) return ROUTE_NONE;
  /* A preflight asks for the sake of another method: the route of that one answers it. */
  struct span asked;
  if (filter_preflight(&s->x->req, &asked)) {
    struct route_query other = q;
    other.method = http_method_find(asked);
    other.method_text = asked;
    enum route_verdict v = route_find(l->table, &other, hit);
    if (v == ROUTE_LIMIT || (v == ROUTE_FOUND && hit->route->cors)) return v;
  }
  return route_find(l->table, &q, hit);
}

/* refused tells causes that are known before routing. */
static enum end refused(const struct stream *s) {
  if (s->down->flags & DOWN_OVER_LIMIT) return END_LIMIT_CONNECTIONS;
  if (!s->down->serving->current) return END_DRAIN; /* it waited while its listener was removed */
  return misdirected(s) ? END_CLIENT_MISDIRECTED : END_OK;
}

/* canonical makes the path the one that is matched, logged and forwarded; false: s has ended. */
static bool canonical(struct stream *s) {
  enum end why;
  struct span *path = &s->x->req.path;
  if (span_eq(*path, SPAN_LIT("*"))) return true;
  if (path_canonical(*path, &s->listener->paths, &s->arena, path, &why)) return true;
  stream_fail(s, why);
  return false;
}

static bool to_pool(const struct route *r) {
  return r->action == ROUTE_POOL || r->action == ROUTE_SPLIT;
}

void route_act(struct stream *s) {
  bool large = too_large(s); /* as it came: gRPC-Web makes another body of it */
  enum end end = web_begin(s);
  if (end == END_OK) end = early_gate(s);
  if (end == END_OK) end = limit_request(s);
  if (end == END_OK && large) end = END_LIMIT_BODY;
  if (end == END_OK && grpc_overdue(s)) end = END_CLIENT_DEADLINE;
  if (end != END_OK) {
    stream_fail(s, end);
    return;
  }
  struct pool *pool = to_pool(s->route) ? affinity_pool(s, s->route) : NULL;
  s->x->ctx.pool = pool;
  if (pool) affinity_init(s, pool);
  switch (filter_request(&s->x->ctx)) {
    case FILTER_NEXT: break;
    case FILTER_RESPOND: answer_status(s, s->x->ctx.status); return;
    case FILTER_ANSWER:
    case FILTER_WAIT: stream_fail(s, s->x->ctx.end); return;
  }
  trailers_routed(s);
  body_request_look(s);
  if (pool) {
    stream_pin_pool(s, pool);
    if (!admit_early(s)) return;
    if (s->route->mirror.pool) mirror_begin(s);
    stream_go(s, held_wanted(s) ? STEP_BUFFER : STEP_PICK);
    return;
  }
  answer_route(s);
}

void enter_route(struct stream *s) {
  ctx_init(s);
  enum end end = refused(s), bad = grpc_begin(s);
  if (end == END_OK) end = bad;
  if (end != END_OK) {
    stream_fail(s, end);
    return;
  }
  if (!canonical(s)) return;
  if (s->listener->redirect_https) {
    answer_https(s);
    stream_go(s, STEP_FINISH);
    return;
  }
  filter_trust(&s->x->ctx);
  struct route_hit hit;
  switch (find(s, &hit)) {
    case ROUTE_FOUND:
      pin_route(s, hit.route);
      s->x->ctx.route = hit.route;
      take_settings(s);
      if (to_pool(hit.route) && !overload_admit(s, hit.route->priority)) return;
      if (early_waits(s)) stream_go(s, STEP_EARLY);
      else route_act(s);
      return;
    case ROUTE_BAD_METHOD:
      allow_text(s, &hit);
      stream_fail(s, END_METHOD_NOT_ALLOWED);
      return;
    case ROUTE_BAD_CERT: stream_fail(s, END_DENIED_CERTIFICATE); return;
    case ROUTE_LIMIT: stream_fail(s, END_LIMIT_REGEX); return;
    case ROUTE_NONE: stream_fail(s, END_NO_ROUTE); return;
  }
}
