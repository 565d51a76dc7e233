/* diff.c: what changed between two generations, for `weir plan`, `weir reload` and the log: one
 * line for each setting of the process, with both values, and for each object, with endpoints,
 * binds and certificates by name. Objects that are shared, or equal in content, did not change.
 * Called by control/. */
#include "weir/config/diff.h"
#include "load_priv.h"

struct diff {
  struct text *out;
  bool json;
  uint32_t count;
  struct arena arena;
};

static const char *const change_words[] = {['+'] = "added", ['-'] = "removed", ['~'] = "changed"};

static void line(struct diff *d, char change, const char *kind, struct span name,
                 struct span detail) {
  if (d->json) {
    text_printf(d->out, "%s{\"change\":\"%s\",\"kind\":\"%s\",\"name\":\"", d->count ? "," : "",
                change_words[(unsigned char)change], kind);
    text_json(d->out, name);
    text_lit(d->out, "\",\"detail\":\"");
    text_json(d->out, detail);
    text_lit(d->out, "\"}");
  } else {
    text_printf(d->out, "%c %s " SPAN_FMT "%s" SPAN_FMT "\n", change, kind, SPAN_ARG(name),
                detail.len ? ": " : "", SPAN_ARG(detail));
  }
  d->count++;
}

/* detail collects parts, separated by commas. */
static void part(struct text *detail, const char *what, struct span name, const char *after) {
  if (detail->len) text_lit(detail, ", ");
  text_printf(detail, "%s%s" SPAN_FMT "%s%s", what, name.len ? " " : "", SPAN_ARG(name),
              after[0] ? " " : "", after);
}

static void changed(struct diff *d, const char *kind, struct span name, struct text *detail) {
  if (!detail->len) text_lit(detail, "settings");
  line(d, '~', kind, name, text_span(detail));
}

/* ---- settings of the process ---- */

static bool is_setting(const struct option *option) {
  return option->type != TYPE_MAP && option->type != TYPE_ROWS && !(option->flags & OPTION_LIST);
}

static void diff_settings(struct diff *d, const struct conf *before, const struct conf *after) {
  const struct scope *scope = scope_get(SCOPE_ROOT);
  for (uint32_t i = 0; i < scope->count; i++) {
    const struct option *option = option_get((enum option_id)(scope->first + i));
    if (!is_setting(option)) continue;
    struct value a = setting_runs(before, option), b = setting_runs(after, option);
    if (setting_same(&a, &b)) continue;
    struct text detail = {0};
    setting_write(option, &a, &detail);
    text_lit(&detail, " -> ");
    setting_write(option, &b, &detail);
    line(d, '~', "setting", span_str(option->path), text_span(&detail));
    text_fini(&detail);
  }
}

/* ---- pools ---- */

static const struct pool_member *member_find(const struct pool *pool, const struct endpoint *e) {
  for (uint32_t i = 0; i < pool->member_count; i++)
    if (pool->members[i].endpoint == e) return &pool->members[i];
  return NULL;
}

/* endpoint_name is as written, with the address when it is a name. */
static struct span endpoint_name(struct diff *d, const struct endpoint *e) {
  if (span_eq(e->text, e->label)) return e->text;
  return arena_printf(&d->arena, SPAN_FMT " (" SPAN_FMT ")", SPAN_ARG(e->text),
                      SPAN_ARG(e->label));
}

static void pool_members(struct diff *d, const struct pool *a, const struct pool *b,
                         struct text *detail) {
  for (uint32_t i = 0; i < b->member_count; i++) {
    const struct pool_member *now = &b->members[i], *was = member_find(a, now->endpoint);
    struct span name = endpoint_name(d, now->endpoint);
    if (!was)
      part(detail, "endpoint", name, "added");
    else if (was->weight != now->weight || was->backup != now->backup ||
             was->priority != now->priority)
      part(detail, "endpoint", name, "changed");
  }
  for (uint32_t i = 0; i < a->member_count; i++)
    if (!member_find(b, a->members[i].endpoint))
      part(detail, "endpoint", endpoint_name(d, a->members[i].endpoint), "removed");
}

/* These structs are nothing but 32-bit members: they have no padding to compare. */
#define SAME(a, b) (memcmp(&(a), &(b), sizeof(a)) == 0)
_Static_assert(sizeof(struct pool_connections) == 13 * sizeof(uint32_t), "compared by bytes");
_Static_assert(sizeof(struct pool_retry) == (9 + 7) * sizeof(uint32_t), "compared by bytes");
_Static_assert(sizeof(struct path_policy) == 4, "compared by bytes");
_Static_assert(sizeof(struct listener_h2) == 6 * sizeof(uint32_t), "compared by bytes");
_Static_assert(sizeof(struct listener_timeouts) == 7 * sizeof(uint32_t), "compared by bytes");

static bool spread_same(const struct pool_spread *a, const struct pool_spread *b) {
  return a->hash.source == b->hash.source && span_eq(a->hash.name, b->hash.name) &&
         a->bound_percent == b->bound_percent && a->panic_percent == b->panic_percent &&
         a->overflow_percent == b->overflow_percent && a->slow_start_ms == b->slow_start_ms;
}

/* sticky_same compares what a client would be given: name, key and attributes are all in it. */
static bool sticky_same(const struct pool *a, const struct pool *b) {
  if (!a->sticky || !b->sticky) return a->sticky == b->sticky;
  if (!a->sticky->count || !b->sticky->count) return true;
  const struct pool_member *same = member_find(b, a->members[0].endpoint);
  if (!same) return span_eq(a->sticky->cookie, b->sticky->cookie);
  size_t place = (size_t)(same - b->members);
  return span_eq(a->sticky->plain[0], b->sticky->plain[place]) &&
         span_eq(a->sticky->secured[0], b->sticky->secured[place]);
}

static bool pool_settings_same(const struct pool *a, const struct pool *b) {
  return a->tcp == b->tcp && a->streams == b->streams && a->udp == b->udp &&
         a->balance == b->balance && spread_same(&a->spread, &b->spread) &&
         sticky_same(a, b) &&
         SAME(a->timeouts, b->timeouts) && SAME(a->connections, b->connections) &&
         SAME(a->outlier, b->outlier) && SAME(a->breaker, b->breaker) &&
         SAME(a->concurrency, b->concurrency) && a->health.content == b->health.content &&
         a->discover == b->discover && SAME(a->limits, b->limits) && SAME(a->retry, b->retry) &&
         span_eq(a->priority_header, b->priority_header);
}

static void diff_pool(struct diff *d, const struct pool *a, const struct pool *b) {
  struct text detail = {0};
  if (!pool_settings_same(a, b)) part(&detail, "settings", SPAN_EMPTY, "");
  if (!a->tls != !b->tls) part(&detail, b->tls ? "TLS added" : "TLS removed", SPAN_EMPTY, "");
  else if (a->tls != b->tls) part(&detail, "TLS", SPAN_EMPTY, "");
  pool_members(d, a, b, &detail);
  if (!detail.len && a->unresolved != b->unresolved) part(&detail, "names", SPAN_EMPTY, "");
  if (!detail.len) part(&detail, "order of endpoints", SPAN_EMPTY, "");
  changed(d, "pool", b->obj.name, &detail);
  text_fini(&detail);
}

static void added_pool(struct diff *d, const struct pool *b) {
  struct text detail = {0};
  for (uint32_t i = 0; i < b->member_count; i++)
    part(&detail, "endpoint", endpoint_name(d, b->members[i].endpoint), "");
  line(d, '+', "pool", b->obj.name, text_span(&detail));
  text_fini(&detail);
}

/* ---- listeners ---- */

static bool has_bind(const struct listener *l, struct span bind) {
  for (uint32_t i = 0; i < l->bind_count; i++)
    if (span_eq(l->binds[i], bind)) return true;
  return false;
}

static bool limits_same(const struct listener_limits *a, const struct listener_limits *b) {
  return a->header_bytes == b->header_bytes && a->headers == b->headers &&
         a->uri_bytes == b->uri_bytes && a->body_bytes == b->body_bytes &&
         a->requests == b->requests && a->sessions == b->sessions;
}

static bool trusted_same(const struct listener *a, const struct listener *b) {
  return a->trusted_count == b->trusted_count &&
         (a->trusted_count == 0 ||
          memcmp(a->trusted, b->trusted, a->trusted_count * sizeof *a->trusted) == 0);
}

static bool sni_rows_same(const struct listener_sni *a, const struct listener_sni *b) {
  bool same = span_eq(a->name, b->name) && a->alpn_count == b->alpn_count;
  for (uint32_t i = 0; same && i < a->alpn_count; i++) same = span_eq(a->alpn[i], b->alpn[i]);
  return same && span_eq(a->pool->obj.name, b->pool->obj.name);
}

/* passed_parts are those of listeners that serve no HTTP. */
static void passed_parts(const struct listener *a, const struct listener *b,
                         struct text *detail) {
  struct span was = a->pool ? a->pool->obj.name : SPAN_EMPTY;
  struct span now = b->pool ? b->pool->obj.name : SPAN_EMPTY;
  if (!span_eq(was, now)) part(detail, now.len ? "pool" : "pool removed", now, "");
  bool same = a->sni_count == b->sni_count;
  for (uint32_t i = 0; same && i < a->sni_count; i++) same = sni_rows_same(&a->sni[i], &b->sni[i]);
  if (!same) part(detail, "sni", SPAN_EMPTY, "");
}

static bool policies_same(const struct listener *a, const struct listener *b) {
  bool same = a->policy_count == b->policy_count;
  for (uint32_t i = 0; same && i < a->policy_count; i++)
    same = span_eq(a->policies[i]->obj.name, b->policies[i]->obj.name);
  return same;
}

static void diff_listener(struct diff *d, const struct listener *a, const struct listener *b) {
  struct text detail = {0};
  for (uint32_t i = 0; i < b->bind_count; i++)
    if (!has_bind(a, b->binds[i])) part(&detail, "bind", b->binds[i], "added");
  for (uint32_t i = 0; i < a->bind_count; i++)
    if (!has_bind(b, a->binds[i])) part(&detail, "bind", a->binds[i], "removed");
  if (a->serves != b->serves) part(&detail, "protocol", SPAN_EMPTY, "");
  else passed_parts(a, b, &detail);
  if (!a->tls != !b->tls) part(&detail, b->tls ? "TLS added" : "TLS removed", SPAN_EMPTY, "");
  if (a->redirect_https != b->redirect_https || a->redirect_port != b->redirect_port)
    part(&detail, "redirect_https", SPAN_EMPTY, "");
  if (!SAME(a->timeouts, b->timeouts)) part(&detail, "timeouts", SPAN_EMPTY, "");
  if (!limits_same(&a->limits, &b->limits)) part(&detail, "limits", SPAN_EMPTY, "");
  bool alike = !a->tls == !b->tls && a->serves == b->serves;
  if (alike && (a->protocols != b->protocols || !span_eq(a->alpn, b->alpn)))
    part(&detail, "protocols", SPAN_EMPTY, "");
  if (!SAME(a->h2, b->h2)) part(&detail, "h2", SPAN_EMPTY, "");
  if (!SAME(a->udp, b->udp)) part(&detail, "udp", SPAN_EMPTY, "");
  if (!SAME(a->paths, b->paths)) part(&detail, "paths", SPAN_EMPTY, "");
  if (a->proxied != b->proxied) part(&detail, "proxy_protocol", SPAN_EMPTY, "");
  if (!trusted_same(a, b)) part(&detail, "trusted_proxies", SPAN_EMPTY, "");
  if (!netset_same(a->peers, b->peers)) part(&detail, "allow and deny", SPAN_EMPTY, "");
  if (a->client_max != b->client_max || a->client_prefix4 != b->client_prefix4 ||
      a->client_prefix6 != b->client_prefix6)
    part(&detail, "connections per client", SPAN_EMPTY, "");
  if (!policies_same(a, b)) part(&detail, "policies", SPAN_EMPTY, "");
  /* The library's object tells nothing: with all else equal it must be the certificates. */
  if (a->tls && b->tls && a->tls_policy != b->tls_policy)
    part(&detail, "TLS policy", SPAN_EMPTY, "");
  if (a->tls && b->tls && a->tls_clients != b->tls_clients)
    part(&detail, "client certificates", SPAN_EMPTY, "");
  if (!detail.len && a->tls && b->tls) part(&detail, "certificates", SPAN_EMPTY, "");
  changed(d, "listener", b->obj.name, &detail);
  text_fini(&detail);
}

static void added_listener(struct diff *d, const struct listener *b) {
  struct text detail = {0};
  for (uint32_t i = 0; i < b->bind_count; i++) part(&detail, "bind", b->binds[i], "");
  line(d, '+', "listener", b->obj.name, text_span(&detail));
  text_fini(&detail);
}

/* ---- all ---- */

static bool object_same(const struct object *a, const struct object *b) {
  return a == b || a->content == b->content;
}

/* diff_names finds the objects of one snapshot. */
struct diff_names {
  struct names listeners, pools, policies, routes;
};

static void names_of(struct diff *d, const struct snapshot *s, struct diff_names *n) {
  *n = (struct diff_names){0};
  n->listeners.arena = n->pools.arena = n->policies.arena = n->routes.arena = &d->arena;
  if (!s) return;
  for (uint32_t i = 0; i < s->listener_count; i++)
    names_put(&n->listeners, s->listeners[i].listener->obj.name, s->listeners[i].listener);
  for (uint32_t i = 0; i < s->pool_count; i++)
    names_put(&n->pools, s->pools[i]->obj.name, s->pools[i]);
  for (uint32_t i = 0; i < s->policy_count; i++)
    names_put(&n->policies, s->policies[i]->obj.name, s->policies[i]);
  for (uint32_t i = 0; i < s->route_count; i++)
    names_put(&n->routes, s->routes[i]->obj.name, s->routes[i]);
}

/* diff_plain compares an object of which nothing is told but that it changed. */
static void diff_plain(struct diff *d, const char *kind, const struct names *before,
                       const struct object *b) {
  const struct object *a = names_find(before, b->name);
  if (!a)
    line(d, '+', kind, b->name, SPAN_EMPTY);
  else if (!object_same(a, b))
    line(d, '~', kind, b->name, SPAN_LIT("settings"));
}

static void diff_after(struct diff *d, const struct snapshot *s, const struct diff_names *was) {
  for (uint32_t i = 0; i < s->listener_count; i++) {
    const struct listener *b = s->listeners[i].listener,
                          *a = names_find(&was->listeners, b->obj.name);
    if (!a)
      added_listener(d, b);
    else if (!object_same(&a->obj, &b->obj))
      diff_listener(d, a, b);
  }
  for (uint32_t i = 0; i < s->pool_count; i++) {
    const struct pool *b = s->pools[i], *a = names_find(&was->pools, b->obj.name);
    if (!a)
      added_pool(d, b);
    else if (!object_same(&a->obj, &b->obj))
      diff_pool(d, a, b);
  }
  for (uint32_t i = 0; i < s->policy_count; i++)
    diff_plain(d, "policy", &was->policies, &s->policies[i]->obj);
  for (uint32_t i = 0; i < s->route_count; i++)
    diff_plain(d, "route", &was->routes, &s->routes[i]->obj);
}

static void removed(struct diff *d, const char *kind, const struct names *now, struct span name) {
  if (!names_find(now, name)) line(d, '-', kind, name, SPAN_EMPTY);
}

static void diff_removed(struct diff *d, const struct snapshot *s, const struct diff_names *now) {
  for (uint32_t i = 0; i < s->listener_count; i++)
    removed(d, "listener", &now->listeners, s->listeners[i].listener->obj.name);
  for (uint32_t i = 0; i < s->pool_count; i++)
    removed(d, "pool", &now->pools, s->pools[i]->obj.name);
  for (uint32_t i = 0; i < s->policy_count; i++)
    removed(d, "policy", &now->policies, s->policies[i]->obj.name);
  for (uint32_t i = 0; i < s->route_count; i++)
    removed(d, "route", &now->routes, s->routes[i]->obj.name);
}

static void diff_objects(struct diff *d, const struct snapshot *before,
                         const struct snapshot *after) {
  struct diff_names was, now;
  names_of(d, before, &was);
  diff_after(d, after, &was);
  names_of(d, after, &now);
  if (before) diff_removed(d, before, &now);
}

uint32_t conf_diff(const struct conf_side *before, const struct conf_side *after, struct text *out,
                   bool json) {
  struct diff d = {.out = out, .json = json};
  arena_init(&d.arena, ARENA_PAGES, 0);
  if (json) text_lit(out, "[");
  if (before->conf && after->conf) diff_settings(&d, before->conf, after->conf);
  diff_objects(&d, before->snapshot, after->snapshot);
  if (json) text_lit(out, "]");
  arena_reset(&d.arena);
  return d.count;
}

uint32_t snapshot_diff(const struct snapshot *before, const struct snapshot *after,
                       struct text *out, bool json) {
  const struct conf_side a = {.snapshot = before}, b = {.snapshot = after};
  return conf_diff(&a, &b, out, json);
}
