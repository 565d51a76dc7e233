/* explain_write.c: what explain.c found, as lines for people and as JSON. Knows no rules of its
 * own. DESIGN.md section 6. */
#include "explain_priv.h"
#include "proxy/proxy_priv.h"

/* STORIES_MAX: routes whose host or path does not fit are told so many of. */
#define STORIES_MAX 20u

static const char *const fates[] = {
    [ROUTE_WON] = "won",           [ROUTE_LOST_LIMIT] = "limit",   [ROUTE_LOST_REGEX] = "regex",
    [ROUTE_LOST_SOURCE] = "source", [ROUTE_LOST_RULE] = "rule",     [ROUTE_LOST_METHOD] = "method",
    [ROUTE_LOST_CERT] = "client_cert",
    [ROUTE_LOST_BEATEN] = "beaten", [ROUTE_LOST_PATH] = "path",     [ROUTE_LOST_HOST] = "host"};

static bool is_candidate(const struct route_story *s) { return s->fate < ROUTE_LOST_PATH; }

/* ---- sentences ---- */

static void put_rule(struct text *t, const struct match_lost *lost) {
  static const char *const parts[] = {"header", "query parameter", "cookie"};
  static const char *const wants[] = {[MATCH_EXACT] = "is not",
                                      [MATCH_PREFIX] = "does not begin with",
                                      [MATCH_REGEX] = "does not match",
                                      [MATCH_PRESENT] = "is not there",
                                      [MATCH_ABSENT] = "is there"};
  const struct match_value *v = lost->value;
  text_printf(t, "%s " SPAN_FMT " %s", parts[lost->part], SPAN_ARG(v->name), wants[v->kind]);
  if (v->kind != MATCH_PRESENT && v->kind != MATCH_ABSENT)
    text_printf(t, " \"" SPAN_FMT "\"", SPAN_ARG(v->text));
}

static void put_methods(struct text *t, uint32_t methods, const struct route *extra) {
  bool some = false;
  for (unsigned m = 0; m < HTTP_METHOD_OTHER; m++) {
    if (!((methods >> m) & 1)) continue;
    struct span name = http_method_text((enum http_method)m);
    text_printf(t, "%s" SPAN_FMT, some ? ", " : "", SPAN_ARG(name));
    some = true;
  }
  for (uint32_t i = 0; extra && i < extra->extra_method_count; i++, some = true)
    text_printf(t, "%s" SPAN_FMT, some ? ", " : "", SPAN_ARG(extra->extra_methods[i]));
}

static void put_why(struct text *t, const struct explain *e, const struct route_story *s) {
  switch (s->fate) {
    case ROUTE_WON: text_lit(t, "answers"); return;
    case ROUTE_LOST_LIMIT:
      text_lit(t, "a regex took too many steps: the request is refused");
      return;
    case ROUTE_LOST_REGEX: text_lit(t, "the regex does not match the path"); return;
    case ROUTE_LOST_SOURCE:
      text_printf(t, "the client " SPAN_FMT " is in none of the sources", SPAN_ARG(e->ctx.client));
      return;
    case ROUTE_LOST_RULE: put_rule(t, &s->lost); return;
    case ROUTE_LOST_METHOD:
      text_lit(t, "the method is not one of ");
      put_methods(t, s->route->methods, s->route);
      return;
    case ROUTE_LOST_CERT:
      text_lit(t, "it asks for a client certificate (explain has none)");
      return;
    case ROUTE_LOST_BEATEN: text_lit(t, "not asked: a better one answers"); return;
    case ROUTE_LOST_PATH: text_lit(t, "the path does not fit"); return;
    case ROUTE_LOST_HOST:
      text_lit(t, "its host does not fit, or a more specific one decides");
      return;
  }
}

/* put_path is the route's path as in the file: prefix "/x". */
static void put_path(struct text *t, const struct route *r) {
  static const char *const kinds[] = {[ROUTE_PATH_EXACT] = "path", [ROUTE_PATH_REGEX] = "regex",
                                      [ROUTE_PATH_PREFIX] = "prefix"};
  text_printf(t, "%s " SPAN_FMT, kinds[r->path_kind], SPAN_ARG(r->path));
}

static struct span forwarded(const struct explain *e) {
  return e->ctx.forward_path.len ? e->ctx.forward_path : e->request.path;
}

static bool https_redirect(const struct explain *e) {
  return e->canonical && !e->stories && e->end == END_OK;
}

/* is_http: what answers has statuses. */
static bool is_http(const struct explain *e) {
  return e->listener->listener->serves == SERVES_HTTP;
}

static unsigned status_of(const struct explain *e) {
  if (!is_http(e)) return 0;
  if (https_redirect(e)) return 308;
  if (e->end != END_OK) return end_get(e->end)->status;
  if (e->responded) return e->responded;
  if (!e->hit.route) return 0; /* TCP */
  return e->hit.route->status; /* 0 where an endpoint answers */
}

/* ---- endpoints ---- */

static const char *state_word(const struct endpoint *e) {
  switch ((enum endpoint_state)atomic_load_explicit(&e->state, memory_order_relaxed)) {
    case ENDPOINT_NEW:
    case ENDPOINT_UNCHECKED: return "unchecked";
    case ENDPOINT_UNKNOWN: return "unknown";
    case ENDPOINT_UP: return "up";
    case ENDPOINT_DOWN: break;
  }
  return "down";
}

/* stays is the endpoint that the request's sticky cookie names; NULL: none does. */
static const struct endpoint *stays(const struct explain *e, const struct pool *pool) {
  uint32_t place = pool->sticky ? sticky_find(pool->sticky, &e->request.fields) : PLACE_NONE;
  return place == PLACE_NONE ? NULL : pool->members[place].endpoint;
}

/* ---- for people ---- */

static void text_stories(const struct explain *e) {
  struct text *t = e->out;
  uint32_t told = 0, others = 0, count = e->listener->route_count;
  text_lit(t, "\nroutes, in the order in which they were asked:\n");
  for (uint32_t i = 0; i < count; i++) {
    const struct route_story *s = &e->stories[i];
    if (!is_candidate(s) && ++others > STORIES_MAX) continue;
    text_printf(t, "  %c " SPAN_FMT " (" SPAN_FMT ", ", s->fate == ROUTE_WON ? '*' : '-',
                SPAN_ARG(s->route->obj.name), SPAN_ARG(s->route->origin));
    put_path(t, s->route);
    text_lit(t, "): ");
    put_why(t, e, s);
    text_lit(t, "\n");
    told++;
  }
  if (told < count) text_printf(t, "  and %u more that do not fit\n", count - told);
  if (!count) text_lit(t, "  there are none at this listener\n");
}

static void text_members(const struct explain *e, const struct pool *pool, const char *indent) {
  struct text *t = e->out;
  for (uint32_t i = 0; i < pool->member_count; i++) {
    const struct pool_member *m = &pool->members[i];
    text_printf(t, "%s" SPAN_FMT ", weight %u", indent, SPAN_ARG(m->endpoint->label), m->weight);
    if (m->priority) text_printf(t, ", priority %u", m->priority);
    text_printf(t, "%s, %s\n", m->backup ? ", backup" : "", state_word(m->endpoint));
  }
  if (pool->unresolved)
    text_printf(t, "%sand %u names %s\n", indent, pool->unresolved,
                e->ask->unresolved ? "that are not asked for here" : "without an address now");
  if (!pool->sticky) return;
  const struct endpoint *home = stays(e, pool);
  text_printf(t, "%ssticky by cookie " SPAN_FMT ": ", indent, SPAN_ARG(pool->sticky->cookie));
  if (home) text_printf(t, "it names " SPAN_FMT "\n", SPAN_ARG(home->label));
  else text_lit(t, "the request has none\n");
}

/* text_tcp: what a listener of TCP does with a connection. */
static void text_tcp(const struct explain *e, const struct pool *pool) {
  static const char *const whats[] = {[SERVES_TCP] = "TCP: the connection goes",
                                      [SERVES_TLS] = "TLS, passed on: the connection goes",
                                      [SERVES_UDP] = "UDP: datagrams of a client go"};
  text_printf(e->out, "%s to pool " SPAN_FMT ", one of these by " SPAN_FMT ":\n",
              whats[e->listener->listener->serves], SPAN_ARG(pool->obj.name),
              SPAN_ARG(balance_text(pool->balance)));
  text_members(e, pool, "  ");
}

static void text_pool(const struct explain *e) {
  const struct pool *pool = e->hit.route->pool;
  text_printf(e->out, "goes to pool " SPAN_FMT " as " SPAN_FMT ", one of these by " SPAN_FMT ":\n",
              SPAN_ARG(pool->obj.name), SPAN_ARG(forwarded(e)),
              SPAN_ARG(balance_text(pool->balance)));
  text_members(e, pool, "  ");
}

static void text_split(const struct explain *e) {
  const struct route *r = e->hit.route;
  struct text *t = e->out;
  struct span by = hash_key_text(&r->split_by);
  text_printf(t, "goes as " SPAN_FMT " to one of these pools, by ", SPAN_ARG(forwarded(e)));
  if (e->drawn)
    text_printf(t, SPAN_FMT SPAN_FMT ": pool " SPAN_FMT ":\n", SPAN_ARG(by),
                SPAN_ARG(r->split_by.name), SPAN_ARG(e->drawn->obj.name));
  else if (by.len)
    text_printf(t, "chance: the request has no " SPAN_FMT SPAN_FMT ":\n", SPAN_ARG(by),
                SPAN_ARG(r->split_by.name));
  else text_lit(t, "chance:\n");
  for (uint32_t i = 0; i < r->split_count; i++) {
    const struct route_split *split = &r->splits[i];
    text_printf(t, "  pool " SPAN_FMT ", weight %u of %llu, one of these by " SPAN_FMT ":\n",
                SPAN_ARG(split->pool->obj.name), split->weight,
                (unsigned long long)r->split_weight, SPAN_ARG(balance_text(split->pool->balance)));
    text_members(e, split->pool, "    ");
  }
  if (r->split_failover)
    text_lit(t, "  a pool without an endpoint in service passes to the heaviest that has one\n");
}

static void text_route(const struct explain *e) {
  const struct route *r = e->hit.route;
  struct text *t = e->out;
  switch ((enum route_action)r->action) {
    case ROUTE_POOL: text_pool(e); return;
    case ROUTE_SPLIT: text_split(e); return;
    case ROUTE_REDIRECT: {
      struct span to =
          r->redirect.to.len ? r->redirect.to : SPAN_LIT("this URL with other parts");
      text_printf(t, "answered %u: redirect to " SPAN_FMT "\n", r->status, SPAN_ARG(to));
      return;
    }
    case ROUTE_RESPOND:
      text_printf(t, "answered %u: respond, %zu bytes\n", r->status, r->respond.body.len);
      return;
  }
}

/* policies_of are the route's, or those of a listener that has no routes. */
static uint32_t policies_of(const struct explain *e, struct policy *const **out) {
  const struct listener *l = e->listener->listener;
  const struct route *r = e->hit.route;
  *out = r ? r->policies : l->policies;
  return r ? r->policy_count : l->policy_count;
}

static void text_policies(const struct explain *e) {
  struct policy *const *policies;
  uint32_t count = policies_of(e, &policies);
  if (!count) return;
  text_lit(e->out, "policies");
  for (uint32_t i = 0; i < count; i++)
    text_printf(e->out, "%s " SPAN_FMT, i ? "," : "", SPAN_ARG(policies[i]->obj.name));
  text_lit(e->out, "\n");
}

static void text_action(const struct explain *e) {
  struct text *t = e->out;
  text_lit(t, "\n");
  text_policies(e);
  if (e->end != END_OK) {
    const struct end_row *row = end_get(e->end);
    if (status_of(e)) text_printf(t, "answered %u: ", status_of(e));
    else text_lit(t, "closed: ");
    text_printf(t, SPAN_FMT " (" SPAN_FMT ")\n", SPAN_ARG(row->word), SPAN_ARG(row->detail));
  } else if (e->passed) {
    text_tcp(e, e->passed);
  } else if (https_redirect(e)) {
    text_lit(t, "answered 308: redirect_https, before any route is asked\n");
  } else if (e->responded) {
    text_printf(t, "answered %u: a preflight (cors)\n", e->responded);
  } else {
    text_route(e);
  }
  if (e->end == END_METHOD_NOT_ALLOWED) {
    text_lit(t, "Allow: ");
    put_methods(t, e->hit.methods, e->hit.allow);
    text_lit(t, "\n");
  }
}

void explain_text(const struct explain *e) {
  struct text *t = e->out;
  const struct http_request *r = &e->request;
  text_printf(t, SPAN_FMT " " SPAN_FMT "\n", SPAN_ARG(e->ask->method), SPAN_ARG(e->ask->url));
  text_printf(t, "listener " SPAN_FMT "\n", SPAN_ARG(e->listener->listener->obj.name));
  if (e->canonical)
    text_printf(t, "host " SPAN_FMT "\npath " SPAN_FMT "\n", SPAN_ARG(r->host), SPAN_ARG(r->path));
  if (e->stories) text_printf(t, "client " SPAN_FMT "\n", SPAN_ARG(e->ctx.client));
  if (e->stories) text_stories(e);
  text_action(e);
}

/* ---- JSON ---- */

static void json_text(struct text *t, const char *before, struct span value) {
  text_printf(t, "%s\"", before);
  text_json(t, value);
  text_lit(t, "\"");
}

static void json_stories(const struct explain *e) {
  struct text *t = e->out, why = {0};
  uint32_t others = 0, left = 0;
  text_lit(t, ",\"routes\":[");
  for (uint32_t i = 0; i < e->listener->route_count; i++) {
    const struct route_story *s = &e->stories[i];
    if (!is_candidate(s) && ++others > STORIES_MAX) {
      left++;
      continue;
    }
    why.len = 0;
    put_why(&why, e, s);
    json_text(t, i ? ",{\"route\":" : "{\"route\":", s->route->obj.name);
    json_text(t, ",\"origin\":", s->route->origin);
    json_text(t, ",\"fate\":", span_str(fates[s->fate]));
    json_text(t, ",\"why\":", text_span(&why));
    text_lit(t, "}");
  }
  text_printf(t, "],\"routes_left_out\":%u", left);
  text_fini(&why);
}

/* json_pool writes a pool but for its closing brace. */
static void json_pool(const struct explain *e, const struct pool *pool) {
  struct text *t = e->out;
  json_text(t, "{\"name\":", pool->obj.name);
  json_text(t, ",\"balance\":", balance_text(pool->balance));
  text_printf(t, ",\"unresolved\":%u,\"endpoints\":[", pool->unresolved);
  for (uint32_t i = 0; i < pool->member_count; i++) {
    const struct pool_member *m = &pool->members[i];
    json_text(t, i ? ",{\"address\":" : "{\"address\":", m->endpoint->label);
    text_printf(t, ",\"weight\":%u,\"priority\":%u,\"backup\":%s,\"state\":\"%s\"}", m->weight,
                m->priority, m->backup ? "true" : "false", state_word(m->endpoint));
  }
  text_lit(t, "]");
  if (!pool->sticky) return;
  const struct endpoint *home = stays(e, pool);
  json_text(t, ",\"sticky\":{\"cookie\":", pool->sticky->cookie);
  if (home) json_text(t, ",\"endpoint\":", home->label);
  text_lit(t, "}");
}

static void json_split(const struct explain *e) {
  const struct route *r = e->hit.route;
  struct text *t = e->out;
  if (r->split_by.source != HASH_NONE) {
    json_text(t, ",\"split_by\":", hash_key_text(&r->split_by));
    t->len--; /* the quote: the name belongs in it */
    text_json(t, r->split_by.name);
    text_lit(t, "\"");
  }
  if (e->drawn) json_text(t, ",\"drawn\":", e->drawn->obj.name);
  text_printf(t, ",\"split_failover\":%s,\"split\":[", r->split_failover ? "true" : "false");
  for (uint32_t i = 0; i < r->split_count; i++) {
    text_printf(t, "%s{\"weight\":%u,\"pool\":", i ? "," : "", r->splits[i].weight);
    json_pool(e, r->splits[i].pool);
    text_lit(t, "}}");
  }
  text_lit(t, "]");
}

static void json_action(const struct explain *e) {
  const struct route *r = e->hit.route;
  struct text *t = e->out;
  switch ((enum route_action)r->action) {
    case ROUTE_POOL:
      json_text(t, ",\"action\":\"pool\",\"forwarded_path\":", forwarded(e));
      text_lit(t, ",\"pool\":");
      json_pool(e, r->pool);
      text_lit(t, "}");
      return;
    case ROUTE_SPLIT:
      json_text(t, ",\"action\":\"split\",\"forwarded_path\":", forwarded(e));
      json_split(e);
      return;
    case ROUTE_REDIRECT:
      text_lit(t, ",\"action\":\"redirect\"");
      if (r->redirect.to.len) json_text(t, ",\"location\":", r->redirect.to);
      return;
    case ROUTE_RESPOND: text_lit(t, ",\"action\":\"respond\""); return;
  }
}

static void json_policies(const struct explain *e) {
  struct policy *const *policies;
  uint32_t count = policies_of(e, &policies);
  text_lit(e->out, ",\"policies\":[");
  for (uint32_t i = 0; i < count; i++)
    json_text(e->out, i ? "," : "", policies[i]->obj.name);
  text_lit(e->out, "]");
}

static void json_tcp(const struct explain *e, const struct pool *pool) {
  text_lit(e->out, ",\"action\":\"tcp\",\"pool\":");
  json_pool(e, pool);
  text_lit(e->out, "}");
}

static void json_winner(const struct explain *e) {
  struct text *t = e->out;
  const struct route *r = e->hit.route;
  json_text(t, ",\"route\":", r->obj.name);
  json_text(t, ",\"origin\":", r->origin);
  json_action(e);
  json_policies(e);
}

void explain_json(const struct explain *e) {
  struct text *t = e->out;
  const struct http_request *r = &e->request;
  json_text(t, "{\"method\":", e->ask->method);
  json_text(t, ",\"url\":", e->ask->url);
  json_text(t, ",\"listener\":", e->listener->listener->obj.name);
  if (e->canonical) json_text(t, ",\"host\":", r->host);
  if (e->canonical) json_text(t, ",\"path\":", r->path);
  if (e->stories) json_text(t, ",\"client\":", e->ctx.client);
  json_text(t, ",\"end\":", end_get(e->end)->word);
  if (status_of(e)) text_printf(t, ",\"status\":%u", status_of(e));
  if (https_redirect(e)) text_lit(t, ",\"redirect_https\":true");
  if (e->end == END_METHOD_NOT_ALLOWED) {
    text_lit(t, ",\"allow\":\"");
    put_methods(t, e->hit.methods, e->hit.allow);
    text_lit(t, "\"");
  }
  if (e->passed) json_tcp(e, e->passed);
  if (!is_http(e)) json_policies(e);
  if (e->stories && e->verdict == ROUTE_FOUND) json_winner(e);
  if (e->stories) json_stories(e);
  text_lit(t, "}\n");
}
