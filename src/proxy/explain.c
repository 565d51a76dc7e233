/* explain.c: one request through the parser, the path policy, trust, the routes and the filters,
 * up to where a real one would take an endpoint. It finds out; explain_write.c tells. Called by
 * the CLI with a snapshot of its own and by the admin socket with the running one. */
#include <stdio.h>

#include "explain_priv.h"
#include "proxy/proxy_priv.h"
#include "weir/base/mem.h"

static bool refuse(struct explain *e, const char *why, struct span what) {
  text_printf(e->out, "%s: " SPAN_FMT, why, SPAN_ARG(what));
  return false;
}

/* ---- the question ---- */

/* take_url cuts the URL: *rest is from "/" or "?" on, the authority is kept for Host. */
static bool take_url(struct explain *e, struct span *rest) {
  struct span url = e->ask->url;
  *rest = url;
  if (span_starts(url, SPAN_LIT("/"))) return true;
  if (span_starts(url, SPAN_LIT("https://"))) e->tls = true;
  else if (!span_starts(url, SPAN_LIT("http://")))
    return refuse(e, "not an http URL or a path", url);
  struct span text = span_from(url, e->tls ? 8 : 7);
  size_t end = 0;
  while (end < text.len && text.ptr[end] != '/' && text.ptr[end] != '?') end++;
  e->authority = span_sub(text, 0, end);
  *rest = span_from(text, end);
  return e->authority.len > 0 || refuse(e, "no host in the URL", url);
}

/* url_port is the port of the authority, else that of the scheme. */
static uint16_t url_port(const struct explain *e) {
  size_t colon = e->authority.len;
  while (colon > 0 && e->authority.ptr[colon - 1] >= '0' && e->authority.ptr[colon - 1] <= '9')
    colon--;
  uint64_t port = 0;
  bool named = colon > 0 && e->authority.ptr[colon - 1] == ':' &&
               span_u64(span_from(e->authority, colon), &port) && port <= UINT16_MAX;
  return named ? (uint16_t)port : e->tls ? 443 : 80;
}

static bool binds_port(const struct listener *l, uint16_t port) {
  for (uint32_t i = 0; i < l->bind_count; i++) {
    struct addr a;
    if (addr_parse(l->binds[i], &a) && addr_port(&a) == port) return true;
  }
  return false;
}

/* fits tells how well a listener fits the URL: 0 not at all (TLS or not), 2 by its port too. */
static unsigned fits(const struct explain *e, const struct listener *l) {
  if (l->serves != SERVES_HTTP) return 0; /* TCP: only by its name */
  if (!e->authority.len) return 1;
  if ((l->tls != NULL) != e->tls) return 0;
  return binds_port(l, url_port(e)) ? 2 : 1;
}

static bool listener_named(struct explain *e) {
  e->listener = snapshot_find_listener(e->snapshot, e->ask->listener);
  if (!e->listener) return refuse(e, "there is no listener of that name", e->ask->listener);
  e->tls = e->listener->listener->tls != NULL;
  return true;
}

/* several refuses to choose: the names of those that fit as well as the best do. */
static bool several(struct explain *e, unsigned best) {
  if (best == 1 && e->authority.len)
    text_printf(e->out, "no listener is bound to port %u; name one with --listener", url_port(e));
  else
    text_lit(e->out, "several listeners fit, name one with --listener");
  const char *between = ": ";
  for (uint32_t i = 0; i < e->snapshot->listener_count; i++) {
    const struct listener *l = e->snapshot->listeners[i].listener;
    if (fits(e, l) != best) continue;
    text_printf(e->out, "%s" SPAN_FMT, between, SPAN_ARG(l->obj.name));
    between = ", ";
  }
  return false;
}

static bool listener_by_url(struct explain *e) {
  unsigned best = 0, alike = 0;
  for (uint32_t i = 0; i < e->snapshot->listener_count; i++) {
    unsigned f = fits(e, e->snapshot->listeners[i].listener);
    if (f < best || f == 0) continue;
    alike = f > best ? 1 : alike + 1;
    best = f;
    e->listener = &e->snapshot->listeners[i];
  }
  if (!best) return refuse(e, "no listener serves this scheme", e->ask->url);
  if (alike > 1) return several(e, best);
  e->tls = e->listener->listener->tls != NULL;
  return true;
}

static bool has_break(struct span s) {
  for (size_t i = 0; i < s.len; i++)
    if (s.ptr[i] == '\r' || s.ptr[i] == '\n') return true;
  return false;
}

/* protocol_of is what an extended CONNECT of HTTP/2 asks for; empty: it is no field for that. */
static struct span protocol_of(const struct explain *e, struct span field) {
  static const struct span name = {":protocol:", 10};
  bool extended = span_eq(e->ask->method, SPAN_LIT("CONNECT")) && span_starts(field, name);
  return extended ? span_trim(span_from(field, name.len)) : SPAN_EMPTY;
}

/* method_of: an extended CONNECT is the GET that HTTP/1.1 brings in its place. */
static struct span method_of(const struct explain *e) {
  for (uint32_t i = 0; i < e->ask->field_count; i++)
    if (protocol_of(e, e->ask->fields[i]).len) return SPAN_LIT("GET");
  return e->ask->method;
}

static void put_upgrade(struct explain *e, struct span protocol) {
  text_printf(&e->head, "Connection: upgrade\r\nUpgrade: " SPAN_FMT "\r\n", SPAN_ARG(protocol));
}

/* head_make writes the request as a client would send it. */
static bool head_make(struct explain *e, struct span rest) {
  bool host = false;
  text_printf(&e->head, SPAN_FMT " %s" SPAN_FMT " HTTP/1.1\r\n", SPAN_ARG(method_of(e)),
              span_starts(rest, SPAN_LIT("/")) ? "" : "/", SPAN_ARG(rest));
  for (uint32_t i = 0; i < e->ask->field_count; i++) {
    struct span field = e->ask->fields[i], protocol = protocol_of(e, field);
    if (has_break(field) || span_find_char(field, ':', 0) == SIZE_MAX)
      return refuse(e, "not a field \"Name: value\"", field);
    if (protocol.len) {
      put_upgrade(e, protocol);
      continue;
    }
    host |= span_eq_nocase(span_sub(field, 0, 5), SPAN_LIT("Host:"));
    text_printf(&e->head, SPAN_FMT "\r\n", SPAN_ARG(field));
  }
  struct span name = e->authority.len ? e->authority : SPAN_LIT("localhost");
  if (!host) text_printf(&e->head, "Host: " SPAN_FMT "\r\n", SPAN_ARG(name));
  text_lit(&e->head, "\r\n");
  return true;
}

static bool question(struct explain *e) {
  struct span rest, from = e->ask->from.len ? e->ask->from : SPAN_LIT("127.0.0.1");
  if (!http_is_token(e->ask->method)) return refuse(e, "not a method", e->ask->method);
  if (!addr_from_ip(from, 1, &e->ctx.peer)) return refuse(e, "not an IP address", from);
  if (has_break(e->ask->url)) return refuse(e, "a URL has no line breaks", SPAN_LIT("URL"));
  if (!take_url(e, &rest)) return false;
  if (!(e->ask->listener.len ? listener_named(e) : listener_by_url(e))) return false;
  return head_make(e, rest);
}

/* ---- the request ---- */

static void parse(struct explain *e) {
  const struct listener_limits *l = &e->listener->listener->limits;
  const struct h1_limits limits = {l->header_bytes, l->headers, l->uri_bytes};
  struct h1_scan scan = {.step = 0};
  enum http_result r =
      h1_parse_request(&scan, text_span(&e->head), &limits, &e->arena, &e->request, &e->end);
  e->parsed = r == HTTP_DONE;
  if (r == HTTP_MORE) e->end = END_BAD_REQUEST_LINE;
  if (e->parsed) e->end = END_OK;
}

/* same_answer: does the compiled table, which requests are matched by, say the same? Both begin
 * with the same budget. */
static bool same_answer(const struct explain *e, const struct route_query *q, uint64_t budget) {
  struct route_hit hit;
  regex_refill(e->scratch, budget);
  enum route_verdict v = route_find(e->listener->table, q, &hit);
  return v == e->verdict && hit.route == e->hit.route;
}

/* ask_routes asks for a method: the request's, or the one that a preflight asks for. */
static void ask_routes(struct explain *e, struct span method) {
  const struct snapshot_listener *l = e->listener;
  struct route_query q = {.host = e->request.host,
                          .path = e->request.path,
                          .method = http_method_find(method),
                          .method_text = method,
                          .input = {.fields = &e->request.fields,
                                    .upgrade = e->request.upgrade,
                                    .query = e->request.query,
                                    .client = &e->ctx.client_addr,
                                    .scratch = e->scratch}};
  uint64_t budget = regex_budget(e->scratch);
  e->verdict = route_find_linear(l->routes, l->route_count, &q, &e->hit, e->stories);
  if (!same_answer(e, &q, budget)) e->differs = true;
}

/* match does as proxy/route.c: a preflight goes to the route of the method that it asks for. */
static void match(struct explain *e) {
  struct span asked;
  e->stories = mem_array(e->listener->route_count + 1, sizeof *e->stories);
  bool settled = filter_preflight(&e->request, &asked);
  if (settled) {
    ask_routes(e, asked);
    settled = e->verdict == ROUTE_LIMIT || (e->verdict == ROUTE_FOUND && e->hit.route->cors);
  }
  if (!settled) ask_routes(e, e->request.method_text);
  static const enum end ends[] = {[ROUTE_FOUND] = END_OK,
                                  [ROUTE_NONE] = END_NO_ROUTE,
                                  [ROUTE_BAD_METHOD] = END_METHOD_NOT_ALLOWED,
                                  [ROUTE_BAD_CERT] = END_DENIED_CERTIFICATE,
                                  [ROUTE_LIMIT] = END_LIMIT_REGEX};
  e->end = ends[e->verdict];
}

/* too_large: the length that the request names is more than the route lets through. */
static bool too_large(const struct explain *e) {
  const struct policy_settings *p = &e->hit.route->settings;
  uint64_t most = p->set & POLICY_BODY_BYTES ? p->body_bytes
                                             : e->listener->listener->limits.body_bytes;
  return most && e->request.body == HTTP_BODY_LENGTH && e->request.content_length > most;
}

static void filter(struct explain *e) {
  const struct route *r = e->hit.route;
  e->ctx.route = r;
  if (!policies_allow(r->policies, r->policy_count, &e->ctx.client_addr)) {
    e->end = END_DENIED_CLIENT;
    return;
  }
  if (too_large(e)) {
    e->end = END_LIMIT_BODY;
    return;
  }
  if (r->action == ROUTE_SPLIT) e->drawn = affinity_by_key(r, &e->request, e->ctx.client);
  e->ctx.pool = r->action == ROUTE_SPLIT ? e->drawn : r->pool;
  enum filter_result result = filter_request(&e->ctx);
  if (result == FILTER_ANSWER) e->end = e->ctx.end;
  if (result == FILTER_RESPOND) e->responded = e->ctx.status;
}

/* may_connect is what proxy/gate.c asks that does not depend on who else is connected, and how
 * often: END_OK, or why not. */
static enum end may_connect(const struct explain *e) {
  const struct listener *l = e->listener->listener;
  if (l->peers && !netset_allows(l->peers, &e->ctx.peer)) return END_DENIED_PEER;
  bool allowed = policies_allow(l->policies, l->policy_count, &e->ctx.peer);
  return allowed ? END_OK : END_DENIED_CLIENT;
}

/* connect_to is where a listener of TCP, or one that passes TLS on, sends a connection: of TLS one
 * that asks for the URL's host, and offers no protocol. */
static void connect_to(struct explain *e) {
  const struct listener *l = e->listener->listener;
  struct span host = e->authority;
  while (host.len && host.ptr[host.len - 1] >= '0' && host.ptr[host.len - 1] <= '9') host.len--;
  bool port = host.len < e->authority.len && host.len && host.ptr[host.len - 1] == ':';
  struct client_hello hello = {.host = port ? span_sub(host, 0, host.len - 1) : e->authority};
  enum sni_verdict v = l->serves == SERVES_TLS ? sni_find(l, &hello, &e->passed) : SNI_ROUTED;
  if (l->serves == SERVES_TCP || l->serves == SERVES_UDP) e->passed = l->pool;
  if (v == SNI_NO_NAME) e->end = END_CLIENT_TLS_NAME;
  if (v == SNI_NO_PROTOCOL) e->end = END_CLIENT_TLS_ALPN;
}

/* run goes the way of proxy/route.c, in the same order. */
static void run(struct explain *e) {
  struct http_request *r = &e->request;
  e->end = may_connect(e);
  if (e->end != END_OK) return;
  if (e->listener->listener->serves != SERVES_HTTP) {
    connect_to(e);
    return;
  }
  parse(e);
  if (!e->parsed) return;
  bool star = span_eq(r->path, SPAN_LIT("*"));
  const struct path_policy *paths = &e->listener->listener->paths;
  if (!star && !path_canonical(r->path, paths, &e->arena, &r->path, &e->end)) return;
  e->canonical = true;
  if (e->listener->listener->redirect_https) return;
  e->ctx.arena = &e->arena;
  e->ctx.listener = e->listener->listener;
  e->ctx.tls = e->tls;
  e->ctx.scratch = e->scratch;
  e->ctx.request = r;
  filter_trust(&e->ctx);
  match(e);
  if (e->verdict == ROUTE_FOUND) filter(e);
}

bool explain_write(const struct snapshot *snapshot, const struct explain_ask *ask,
                   struct text *out) {
  struct explain *e = mem_alloc(sizeof *e);
  e->snapshot = snapshot;
  e->ask = ask;
  e->out = out;
  e->scratch = regex_scratch_new();
  arena_init(&e->arena, NULL, 0);
  bool good = snapshot ? question(e) : refuse(e, "nothing runs yet", ask->url);
  if (good) {
    run(e);
    if (e->differs)
      good = refuse(e, "a bug: the compiled routes and the list of them answer differently",
                    ask->url);
    else if (ask->json)
      explain_json(e);
    else
      explain_text(e);
  }
  arena_reset(&e->arena);
  regex_scratch_free(e->scratch);
  text_fini(&e->head);
  mem_free(e->stories);
  mem_free(e);
  return good;
}

/* ---- through the admin socket ---- */

static void pack(struct text *line, char letter, struct span value) {
  if (!value.len) return;
  text_printf(line, " %c=", letter);
  for (size_t i = 0; i < value.len; i++) {
    unsigned char c = (unsigned char)value.ptr[i];
    if (c <= 0x20 || c >= 0x7f || c == '%') text_printf(line, "%%%02X", c);
    else text_put(line, span_sub(value, i, 1));
  }
}

void explain_pack(const struct explain_ask *ask, struct text *line) {
  pack(line, 'm', ask->method);
  pack(line, 'u', ask->url);
  pack(line, 'f', ask->from);
  pack(line, 'l', ask->listener);
  for (uint32_t i = 0; i < ask->field_count; i++) pack(line, 'h', ask->fields[i]);
}

/* unpack decodes one value into room. */
static struct span unpack(struct span word, struct buf *room) {
  size_t from = room->len;
  for (size_t i = 0; i < word.len; i++) {
    bool escape = word.ptr[i] == '%' && word.len - i >= 3;
    if (escape) { /* explain_pack wrote it; of another's a byte comes that fits nothing */
      buf_char(room, (char)((ascii_hex(word.ptr[i + 1]) * 16 + ascii_hex(word.ptr[i + 2])) & 255));
      i += 2;
    } else {
      buf_char(room, word.ptr[i]);
    }
  }
  return span_from(buf_span(room), from);
}

bool explain_unpack(struct span words, struct explain_ask *ask, struct buf *room) {
  struct span word;
  while (span_next_token(&words, ' ', &word)) {
    if (word.len < 2 || word.ptr[1] != '=') continue;
    struct span value = unpack(span_from(word, 2), room);
    switch (word.ptr[0]) {
      case 'm': ask->method = value; break;
      case 'u': ask->url = value; break;
      case 'f': ask->from = value; break;
      case 'l': ask->listener = value; break;
      case 'h':
        if (ask->field_count == EXPLAIN_FIELDS_MAX) return false;
        ask->fields[ask->field_count++] = value;
        break;
      default: break;
    }
  }
  return !room->full;
}
