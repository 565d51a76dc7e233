/* test_compile.c: conf to snapshot: what stands in the objects, which are taken again over a
 * reload and which are not, that nothing stays behind; snapshot_diff tells the same story in
 * words. */
#include <stdio.h>

#include "config_kit.h"

/* world is the hooks' side: TLS policies made and dropped, names that resolve. */
struct world {
  struct conf_hooks hooks;
  struct registry *registry;
  uint32_t tls_made, tls_live;
  bool tls_refuse;
  const char *resolved; /* address that names resolve to; NULL: they do not */
  uint32_t resolved_count;
  uint16_t weight;         /* of the first SRV record */
  struct name_query asked; /* the last */
};

static struct tls_server *make_tls(void *ctx, const struct conf_tls *tls, uint32_t *bad_cert,
                                   struct buf *why) {
  struct world *w = ctx;
  assert_true(tls->cert_count > 0);
  assert_true(tls->certs[0].cert_pem.len > 0 && tls->certs[0].key_pem.len > 0);
  assert_true(tls->alpn.len > 0); /* what it says: test_compile_listener.c */
  if (w->tls_refuse) {
    *bad_cert = tls->cert_count - 1;
    buf_lit(why, "the key does not match");
    return NULL;
  }
  w->tls_made++;
  w->tls_live++;
  return (struct tls_server *)w;
}

static void drop_tls(struct tls_server *server) { ((struct world *)server)->tls_live--; }

static void resolve(void *ctx, const struct name_query *q, struct arena *arena,
                    struct name_answers *out) {
  struct world *w = ctx;
  assert_true(q->name.len > 0);
  w->asked = *q;
  if (!w->resolved) return;
  struct name_answer *rows = arena_zalloc(arena, w->resolved_count * sizeof *rows);
  for (uint32_t i = 0; i < w->resolved_count; i++) {
    assert_true(addr_from_ip(span_str(w->resolved), q->srv ? (uint16_t)(8000 + i) : 0,
                             &rows[i].addr));
    if (i) ((uint8_t *)&rows[i].addr.in4.sin_addr)[3] = (uint8_t)i;
    rows[i].weight = q->srv ? (uint16_t)(w->weight + i) : 1;
    rows[i].priority = q->srv ? (uint8_t)i : 0;
    if (q->srv) rows[i].target = SPAN_LIT("h.example");
  }
  *out = (struct name_answers){rows, w->resolved_count};
}

static void world_init(struct world *w) {
  *w = (struct world){.resolved_count = 1};
  w->registry = registry_new(2);
  w->hooks =
      (struct conf_hooks){.tls = make_tls, .tls_unref = drop_tls, .resolve = resolve, .ctx = w};
}

static void world_fini(struct world *w) {
  assert_int_equal(object_reap(w->registry), 0);
  for (enum object_kind k = 0; k < OBJECT_KIND_COUNT; k++)
    assert_int_equal(registry_count(w->registry, k), 0);
  registry_free(w->registry);
  assert_int_equal(w->tls_live, 0);
}

static struct snapshot *compile(struct world *w, const char *text, const struct snapshot *before) {
  struct conf *conf = kit_good(text);
  struct conf_faults *faults = conf_faults_new();
  struct snapshot *s = conf_compile(conf, &w->hooks, w->registry, before, faults);
  assert_non_null(s);
  conf_faults_free(faults);
  conf_free(conf); /* a snapshot needs nothing of it */
  return s;
}

static struct listener *listener(const struct snapshot *s, const char *name) {
  struct snapshot_listener *l = snapshot_find_listener(s, span_str(name));
  assert_non_null(l);
  return l->listener;
}
static struct pool *pool(const struct snapshot *s, const char *name) {
  struct pool *p = snapshot_find_pool(s, span_str(name));
  assert_non_null(p);
  return p;
}
static struct route *route(const struct snapshot *s, const char *name) {
  struct route *r = snapshot_find_route(s, span_str(name));
  if (!r) print_error("no route %s\n", name);
  assert_non_null(r);
  return r;
}

#define CERT(x) "{ cert = \"file:tls/" x ".crt\"; key = \"file:tls/" x ".key\"; }"

static void test_objects(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  struct snapshot *s = compile(
      &w,
      "process = { drain = \"3s\"; max_connections = 50; };\n"
      "listeners = { web = { bind = [ \"127.0.0.1:80\", \"unix:/w\" ]; redirect_https = true; };\n"
      "  s = { bind = \"127.0.0.1:8443\"; tls = { certificates = ( " CERT("a") " ); };\n"
      "    limits = { body_bytes = \"1MiB\"; }; trusted_proxies = \"10.0.0.0/8\"; }; };\n"
      "pools = { p = { balance = \"round_robin\"; endpoints = ( { address = \"127.0.0.1:1\"; "
      "weight = 3; }, { address = \"[::1]:2\"; backup = true; } ); timeouts = { connect = "
      "\"2s\"; }; }; };\n"
      "routes = ( { name = \"x\"; hosts = [ \"A.b\", \"*.c\" ]; prefix = \"/api/\"; methods = "
      "[ \"GET\", \"PURGE\" ]; strip_prefix = true; pool = \"p\"; timeout = \"5s\"; listeners "
      "= \"s\"; },\n"
      "  { path = \"/old\"; redirect = { to = \"/new\"; }; },\n"
      "  { path = \"/t\"; respond = { status = 418; body = \"tea\"; }; } );\n",
      NULL);
  assert_int_equal(s->drain_ms, 3000);
  assert_int_equal(s->max_connections, 50);
  assert_int_equal(s->listener_count, 2);
  const struct listener *web = listener(s, "web"), *tls = listener(s, "s");
  assert_int_equal(web->bind_count, 2);
  kit_assert_text(web->binds[1], "unix:/w");
  assert_true(web->redirect_https && !web->tls && !web->trust_unix);
  assert_int_equal(web->redirect_port, 8443);
  assert_ptr_equal(tls->tls, &w);
  assert_true(tls->tls_policy != 0 && tls->trust_unix);
  assert_int_equal(tls->trusted_count, 1);
  assert_int_equal(tls->trusted[0].bits, 8);
  assert_int_equal(tls->limits.body_bytes, 1 << 20);
  const struct pool *p = pool(s, "p");
  assert_int_equal(p->balance, 1);
  assert_int_equal(p->member_count, 2);
  assert_int_equal(p->members[0].weight, 3);
  assert_true(p->members[1].backup);
  kit_assert_text(p->members[1].endpoint->label, "[::1]:2");
  assert_int_equal(p->timeouts.connect_ms, 2000);
  const struct route *x = route(s, "x");
  assert_int_equal(x->host_count, 2);
  kit_assert_text(x->hosts[0], "a.b");
  kit_assert_text(x->hosts[1], "*.c");
  kit_assert_text(x->path, "/api");
  assert_int_equal(x->path_kind, ROUTE_PATH_PREFIX);
  assert_int_equal(x->methods, 1u << HTTP_METHOD_GET);
  assert_int_equal(x->extra_method_count, 1);
  kit_assert_text(x->extra_methods[0], "PURGE");
  assert_true(x->strip_prefix && x->pool == p && x->timeout_ms == 5000);
  kit_assert_text(x->origin, "/etc/weir/weir.conf:6");
  const struct route *old = route(s, "*/old"), *tea = route(s, "*/t");
  assert_int_equal(old->action, ROUTE_REDIRECT);
  assert_int_equal(old->status, 308);
  assert_int_equal(tea->action, ROUTE_RESPOND);
  assert_int_equal(tea->status, 418);
  kit_assert_text(tea->respond.content_type, "text/plain; charset=utf-8");
  assert_int_equal(snapshot_find_listener(s, SPAN_LIT("web"))->route_count, 2);
  assert_int_equal(snapshot_find_listener(s, SPAN_LIT("s"))->route_count, 3);
  struct route_hit hit;
  struct route_query q = {.host = SPAN_LIT("x.c"),
                          .path = SPAN_LIT("/api/1"),
                          .method = HTTP_METHOD_GET,
                          .method_text = SPAN_LIT("GET")};
  assert_int_equal(route_find(snapshot_find_listener(s, SPAN_LIT("s"))->table, &q, &hit),
                   ROUTE_FOUND);
  assert_ptr_equal(hit.route, x);
  snapshot_free(s);
  world_fini(&w);
}

static const char base[] =
    "listeners = { web = { bind = \"127.0.0.1:80\"; }; s = { bind = \"127.0.0.1:443\"; tls = { "
    "certificates = ( " CERT("a") " ); }; }; };\n"
    "pools = { p = { endpoints = [ \"127.0.0.1:1\", \"127.0.0.1:2\" ]; }; q = { endpoints = "
    "\"127.0.0.1:3\"; }; };\n"
    "routes = ( { name = \"a\"; prefix = \"/a\"; pool = \"p\"; }, { name = \"b\"; prefix = "
    "\"/b\"; pool = \"q\"; } );\n";

/* change: base with one text replaced by another; which objects are new, and what the diff says.
 * */
struct change {
  const char *from, *to;
  const char *changed; /* letters of what must be another object: w s p q a b */
  const char *diff;
};

static const struct change changes[] = {
    {"", "", "", ""},
    {"\"/a\"", "\"/aa\"", "a", "~ route a: settings\n"},
    {"pool = \"p\"", "pool = \"q\"", "a", "~ route a: settings\n"},
    {"\"127.0.0.1:2\"", "\"127.0.0.1:5\"", "pa",
     "~ pool p: endpoint 127.0.0.1:5 added, endpoint 127.0.0.1:2 removed\n"},
    {"[ \"127.0.0.1:1\", ", "( { address = \"127.0.0.1:1\"; weight = 2; }, ", "pa", NULL},
    {"endpoints = \"127.0.0.1:3\";",
     "endpoints = \"127.0.0.1:3\"; timeouts = { connect = \"1s\"; };", "qb",
     "~ pool q: settings\n"},
    {"endpoints = \"127.0.0.1:3\";", "endpoints = \"127.0.0.1:3\"; slow_start = \"1s\";", "qb",
     "~ pool q: settings\n"},
    {"endpoints = \"127.0.0.1:3\";",
     "endpoints = \"127.0.0.1:3\"; balance = \"ring\"; hash = \"path\";", "qb",
     "~ pool q: settings\n"},
    {"endpoints = \"127.0.0.1:3\";",
     "endpoints = \"127.0.0.1:3\"; sticky = { cookie = \"c\"; key = \"file:sticky.key\"; };",
     "qb", "~ pool q: settings\n"},
    {"endpoints = \"127.0.0.1:3\";",
     "endpoints = ({ address = \"127.0.0.1:3\"; priority = 2; });", "qb",
     "~ pool q: endpoint 127.0.0.1:3 changed\n"},
    {"pool = \"q\"", "split = ( { pool = \"q\"; } )", "b", "~ route b: settings\n"},
    {"endpoints = \"127.0.0.1:3\";",
     "endpoints = \"127.0.0.1:3\"; health = { protocol = \"tcp\"; };", "qb",
     "~ pool q: settings\n"},
    {"\"127.0.0.1:80\"", "[ \"127.0.0.1:80\", \"127.0.0.1:81\" ]", "w",
     "~ listener web: bind 127.0.0.1:81 added\n"},
    {"\"127.0.0.1:80\";",
     "\"127.0.0.1:80\"; timeouts = { idle = \"1s\"; }; limits = { headers = 1; };", "w",
     "~ listener web: timeouts, limits\n"},
    {"\"127.0.0.1:80\";", "\"127.0.0.1:80\"; paths = { utf8 = \"any\"; };", "w",
     "~ listener web: paths\n"},
    {"\"127.0.0.1:80\";", "\"127.0.0.1:80\"; protocols = \"h2c\"; h2 = { age = \"1h\"; };",
     "w", "~ listener web: protocols, h2\n"},
    {"tls = {", "protocols = [ \"http/1.1\", \"h2\" ]; tls = {", "s",
     "~ listener s: protocols\n"},
    {"tls = {", "h2 = { resets = 101; }; tls = {", "s", "~ listener s: h2\n"},
    {CERT("a"), CERT("b"), "s", "~ listener s: certificates\n"},
    {"tls = {", "tls = { min_version = \"1.3\";", "s", "~ listener s: TLS policy\n"},
    {"tls = { certificates = ( " CERT("a") " ); };", "", "s", "~ listener s: TLS removed\n"},
    /* A line more before everything: routes know their lines, but that is no change to anybody. */
    {"listeners =", "\nlisteners =", "ab", ""},
    {"{ name = \"a\"; prefix = \"/a\"; pool = \"p\"; }, ", "", "b", "- route a\n"},
    {"routes = ( ", "routes = ( { path = \"/n\"; respond = { status = 404; }; }, ", "ab",
     "+ route */n\n"},
    {"q = {", "r = { endpoints = \"127.0.0.1:9\"; }; q = {", "",
     "+ pool r: endpoint 127.0.0.1:9\n"},
    {"}; s = {", "}; t = { bind = \"127.0.0.1:5\"; }; s = {", "",
     "+ listener t: bind 127.0.0.1:5\n"},
};

static char *replaced(const struct change *c) {
  const char *at = strstr(base, c->from);
  assert_non_null(at);
  return mem_printf("%.*s%s%s", (int)(at - base), base, c->to, at + strlen(c->from));
}

static void check_same(const char *changed, char letter, const void *was, const void *now) {
  bool other = strchr(changed, letter) != NULL;
  if ((was != now) != other) print_error("object %c of change %s\n", letter, changed);
  assert_int_equal(was != now, other);
}

static void check_objects(const struct change *c, const struct snapshot *a,
                          const struct snapshot *b) {
  check_same(c->changed, 'w', listener(a, "web"), listener(b, "web"));
  check_same(c->changed, 's', listener(a, "s"), listener(b, "s"));
  check_same(c->changed, 'p', pool(a, "p"), pool(b, "p"));
  check_same(c->changed, 'q', pool(a, "q"), pool(b, "q"));
  if (snapshot_find_route(b, SPAN_LIT("a")))
    check_same(c->changed, 'a', route(a, "a"), route(b, "a"));
  check_same(c->changed, 'b', route(a, "b"), route(b, "b"));
  /* State lives by identity, whatever changed. */
  assert_ptr_equal(listener(a, "s")->state, listener(b, "s")->state);
  assert_ptr_equal(pool(a, "p")->state, pool(b, "p")->state);
  assert_ptr_equal(route(a, "b")->state, route(b, "b")->state);
  assert_ptr_equal(pool(a, "p")->members[0].endpoint, pool(b, "p")->members[0].endpoint);
}

#define CHECKED(health) \
  KIT_WEB "pools = { app = { endpoints = [ \"127.0.0.1:1\", \"unix:/a\" ]; " health " }; };" \
  KIT_ALL

static void test_health(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  struct snapshot *s = compile(
      &w,
      CHECKED("health = { path = \"/up?a\"; method = \"PUT\"; headers = \"A:  b\"; expect = "
              "[ \"200\", \"300-399\" ]; body = \"x\"; interval = \"500ms\"; };"),
      NULL);
  const struct pool_health *h = &pool(s, "app")->health;
  assert_true(h->on && h->protocol == HEALTH_HTTP && !h->head);
  kit_assert_text(h->request, "PUT /up?a HTTP/1.1\r\nHost: ");
  kit_assert_text(h->rest,
                  "\r\nA: b\r\nUser-Agent: weir (health check)\r\nAccept: */*\r\n"
                  "Connection: close\r\n\r\n");
  assert_int_equal(h->expect_count, 2);
  assert_true(h->expect[0].first == 200 && h->expect[0].last == 200);
  assert_true(h->expect[1].first == 300 && h->expect[1].last == 399);
  kit_assert_text(h->expect_text, "200, 300-399");
  kit_assert_text(h->body, "x");
  assert_int_equal(h->interval_ms, 500);
  assert_int_equal(h->fast_interval_ms, 500); /* the default of 1 s would be longer */
  assert_int_equal(h->timeout_ms, 1000);
  assert_int_equal(h->jitter_percent, 10);
  assert_int_equal(h->healthy * 10 + h->unhealthy, 23);
  struct snapshot *hosted = compile(
      &w, CHECKED("health = { path = \"/\"; method = \"HEAD\"; host = \"a.b:81\"; };"), s);
  const struct pool_health *g = &pool(hosted, "app")->health;
  assert_true(g->head && !g->rest.len && g->content != h->content);
  assert_true(span_starts(g->request, SPAN_LIT("HEAD / HTTP/1.1\r\nHost: a.b:81\r\nUser-Agent")));
  snapshot_free(s);
  snapshot_free(hosted);
  world_fini(&w);
}

/* What the pool speaks, its check speaks too, unless that says otherwise; gRPC is HTTP/2. */
static void test_health_h2(void **state) {
  (void)state;
  static const struct {
    const char *health;
    bool h2, head;
    uint32_t fields;
  } rows[] = {
      {"connections = { protocol = \"h2c\"; }; health = { path = \"/a\"; };", true, true, 2},
      {"connections = { protocol = \"h2c\"; }; health = { path = \"/a\"; "
       "protocol = \"http/1.1\"; headers = \"accept: a\"; };", false, true, 2},
      {"connections = { protocol = \"h2c\"; }; health = { protocol = \"tcp\"; };", false, false,
       0},
      {"health = { path = \"/a\"; headers = [ \"a: b\", \"c: d\" ]; };", false, true, 4},
      {"health = { protocol = \"grpc\"; service = \"a.B\"; host = \"c\"; };", true, false, 1},
  };
  struct world w;
  world_init(&w);
  uint64_t content = 0;
  for (size_t i = 0; i < array_count(rows); i++) {
    char text[512];
    (void)snprintf(text, sizeof text, CHECKED("%s"), rows[i].health);
    struct snapshot *s = compile(&w, text, NULL);
    const struct pool_health *h = &pool(s, "app")->health;
    assert_int_equal(h->h2, rows[i].h2);
    assert_int_equal(h->request.len > 0, rows[i].head);
    assert_int_equal(h->field_count, rows[i].fields);
    if (rows[i].head) kit_assert_text(h->path, "/a");
    if (h->protocol == HEALTH_GRPC) kit_assert_text(h->service, "a.B");
    if (h->protocol == HEALTH_GRPC) kit_assert_text(h->host, "c");
    assert_true(h->content != content);
    content = h->content;
    snapshot_free(s);
    (void)object_reap(w.registry);
  }
  world_fini(&w);
}

static uint8_t first_state(const struct snapshot *s) {
  return atomic_load(&pool(s, "app")->members[0].endpoint->state);
}

/* A new endpoint of a checked pool is unknown before any worker sees it. What was there before
 * keeps its state: turning checks on takes nothing out. */
static void test_announced(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  struct snapshot *plain = compile(&w, CHECKED(""), NULL);
  assert_int_equal(first_state(plain), ENDPOINT_UNCHECKED);
  struct snapshot *checked = compile(&w, CHECKED("health = { protocol = \"tcp\"; };"), plain);
  assert_int_equal(first_state(checked), ENDPOINT_UNCHECKED);
  assert_int_equal(pool(plain, "app")->health.content, 0);
  snapshot_free(plain);
  snapshot_free(checked);
  (void)object_reap(w.registry);
  checked = compile(&w, CHECKED("health = { protocol = \"tcp\"; };"), NULL);
  assert_int_equal(first_state(checked), ENDPOINT_UNKNOWN);
  atomic_store(&pool(checked, "app")->members[0].endpoint->state, ENDPOINT_DOWN);
  struct snapshot *again = compile(
      &w, CHECKED("balance = \"round_robin\"; health = { protocol = \"tcp\"; };"), checked);
  assert_int_equal(first_state(again), ENDPOINT_DOWN);
  assert_int_equal(pool(checked, "app")->health.content, pool(again, "app")->health.content);
  snapshot_free(checked);
  snapshot_free(again);
  world_fini(&w);
}

static void test_changes(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(changes); i++) {
    struct world w;
    world_init(&w);
    char *text = replaced(&changes[i]);
    if (strstr(text, "( { address")) { /* the array became a list */
      char *bracket = strstr(text, "\"127.0.0.1:2\" ]");
      assert_non_null(bracket);
      bracket[strlen("\"127.0.0.1:2\" ")] = ')';
    }
    struct snapshot *a = compile(&w, base, NULL), *b = compile(&w, text, a);
    check_objects(&changes[i], a, b);
    struct text diff = {0};
    const char *want =
        changes[i].diff ? changes[i].diff : "~ pool p: endpoint 127.0.0.1:1 changed\n";
    uint32_t count = snapshot_diff(a, b, &diff, false);
    kit_assert_text(text_span(&diff), want);
    assert_int_equal(count, want[0] ? 1 : 0);
    text_fini(&diff);
    mem_free(text);
    snapshot_free(a);
    snapshot_free(b);
    world_fini(&w);
  }
}

/* A policy is its content: routes that name one that did not change are not touched; the order in
 * which a route names them is part of the route. */
static void test_policies(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
#define SET_A "request_headers = { set = \"X-A:  ${client.address}, $${x}\"; };"
#define POLICIES(a, names) \
  KIT_WEB KIT_APP "policies = { a = { " a \
                  " }; b = { response_headers = { remove = \"X-B\"; }; }; };\n" \
                  "routes = ( { name = \"x\"; pool = \"app\"; policies = [ " names \
                  " ]; }, " \
                  "{ name = \"y\"; path = \"/y\"; pool = \"app\"; policies = \"b\"; } );\n"
  struct snapshot *a =
      compile(&w, POLICIES("request_headers = { set = \"X-A: 1\"; };", "\"a\", \"b\""), NULL);
  const struct route *x = route(a, "x");
  assert_int_equal(a->policy_count, 2);
  assert_int_equal(x->policy_count, 2);
  assert_ptr_equal(x->policies[0], snapshot_find_policy(a, SPAN_LIT("a")));
  assert_ptr_equal(x->policies[1], route(a, "y")->policies[0]);
  kit_assert_text(x->policies[0]->request.set[0].name, "X-A");
  kit_assert_text(x->policies[1]->response.remove[0], "X-B");
  assert_null(snapshot_find_policy(a, SPAN_LIT("c")));
  struct snapshot *b = compile(&w, POLICIES(SET_A, "\"a\", \"b\""), a);
  const struct template *value = &route(b, "x")->policies[0]->request.set[0].value;
  assert_int_equal(value->count, 3);
  assert_int_equal(value->parts[0].variable, VARIABLE_CLIENT_ADDRESS);
  kit_assert_text(value->parts[2].text, "${x}");
  assert_ptr_not_equal(route(a, "x"), route(b, "x"));
  assert_ptr_equal(route(a, "y"), route(b, "y"));
  struct text diff = {0};
  assert_int_equal(snapshot_diff(a, b, &diff, false), 1);
  kit_assert_text(text_span(&diff), "~ policy a: settings\n");
  text_fini(&diff);
  struct snapshot *c = compile(&w, POLICIES(SET_A, "\"b\", \"a\""), b);
  assert_ptr_equal(route(b, "x")->policies[0], route(c, "x")->policies[1]);
  assert_int_equal(snapshot_diff(b, c, &diff, false), 1);
  kit_assert_text(text_span(&diff), "~ route x: settings\n");
  text_fini(&diff);
  struct snapshot *d = compile(&w, KIT_WEB KIT_APP KIT_ALL, c);
  assert_int_equal(snapshot_diff(c, d, &diff, false), 5);
  kit_assert_text(text_span(&diff), "+ route */*\n- policy a\n- policy b\n- route x\n- route y\n");
  text_fini(&diff);
  snapshot_free(a);
  snapshot_free(b);
  snapshot_free(c);
  snapshot_free(d);
  world_fini(&w);
}

/* A split that changes is a changed route for plan and log, though its row has no other value. */
static void test_split_changes(void **state) {
  (void)state;
#define SPLIT(parts) \
  KIT_WEB \
  "pools = { a = { endpoints = [ \"127.0.0.1:1\" ]; };" \
  "          b = { endpoints = [ \"127.0.0.1:2\" ]; }; };\n" \
  "routes = ( { name = \"r\"; split = ( " parts " ); } );\n"
  static const char *const texts[] = {
      SPLIT("{ pool = \"a\"; weight = 95; }, { pool = \"b\"; weight = 5; }"),
      SPLIT("{ pool = \"a\"; weight = 50; }, { pool = \"b\"; weight = 50; }"),
      SPLIT("{ pool = \"b\"; weight = 50; }, { pool = \"a\"; weight = 50; }"),
      SPLIT("{ pool = \"b\"; weight = 50; }, { pool = \"a\"; weight = 0; }")};
  struct world w;
  world_init(&w);
  struct snapshot *before = NULL;
  for (size_t i = 0; i < array_count(texts); i++) {
    struct snapshot *s = compile(&w, texts[i], before);
    struct text diff = {0};
    if (before) {
      assert_int_equal(snapshot_diff(before, s, &diff, false), 1);
      kit_assert_text(text_span(&diff), "~ route r: settings\n");
      snapshot_free(before);
    }
    text_fini(&diff);
    before = s;
  }
  snapshot_free(before);
  world_fini(&w);
#undef SPLIT
}

/* Single values of policies: those that are not said stay the listener's; unset is not 0. */
static void test_policy_settings(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
#define SETTINGS(a, b) \
  KIT_WEB KIT_APP "policies = { a = { " a " }; b = { " b \
                  " }; };\nroutes = ( " \
                  "{ pool = \"app\"; policies = [ \"a\", \"b\" ]; }, " \
                  "{ path = \"/t\"; pool = \"app\"; timeout = \"7s\"; policies = \"a\"; } );\n"
  struct snapshot *a = compile(&w,
                               SETTINGS("timeouts = { request = \"1s\"; idle = \"2s\"; };",
                                        "timeouts = { idle = \"3s\"; }; limits = { body_bytes = "
                                        "\"0\"; };"),
                               NULL);
  const struct route *all = route(a, "*/*"), *t = route(a, "*/t");
  assert_int_equal(all->settings.set, POLICY_REQUEST | POLICY_IDLE | POLICY_BODY_BYTES);
  assert_int_equal(all->timeout_ms, 1000);
  assert_int_equal(all->settings.idle_ms, 3000);
  assert_int_equal(t->timeout_ms, 7000);
  assert_int_equal(t->settings.idle_ms, 2000);
  struct snapshot *b = compile(&w,
                               SETTINGS("timeouts = { request = \"1s\"; idle = \"2s\"; };",
                                        "timeouts = { idle = \"3s\"; };"),
                               a);
  assert_ptr_equal(t, route(b, "*/t"));
  assert_int_equal(route(b, "*/*")->settings.set, POLICY_REQUEST | POLICY_IDLE);
  snapshot_free(a);
  snapshot_free(b);
  world_fini(&w);
}

/* Pages in files count by what is in them: a reload sees a changed file. */
static void test_policy_files(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  static const char text[] = KIT_WEB KIT_APP
      "policies = { p = { errors = ( { status = [ \"404\", \"5xx\" ]; file = \"a\"; upstream = "
      "true; } ); }; };\n"
      "routes = ( { pool = \"app\"; policies = \"p\"; }, { path = \"/r\"; respond = { file = "
      "\"a\"; }; } );\n";
  struct snapshot *s[3] = {0};
  static const char *const contents[] = {"one", "one", "two"};
  for (size_t i = 0; i < array_count(s); i++) {
    const struct kit_file files[] = {{"/etc/weir/a", contents[i], 0644}, {NULL, NULL, 0}};
    const struct kit kit = {files, NULL};
    struct conf_faults *faults = conf_faults_new();
    struct conf *conf = kit_load(&kit, text, faults);
    assert_non_null(conf);
    s[i] = conf_compile(conf, &w.hooks, w.registry, i ? s[i - 1] : NULL, faults);
    conf_free(conf);
    conf_faults_free(faults);
    const struct policy *p = snapshot_find_policy(s[i], SPAN_LIT("p"));
    assert_int_equal(p->page_count, 1);
    assert_true(p->pages[0].upstream);
    assert_int_equal(p->pages[0].statuses[0].from, 404);
    assert_int_equal(p->pages[0].statuses[1].to, 599);
    kit_assert_text(p->pages[0].body, contents[i]);
    kit_assert_text(route(s[i], "*/r")->respond.body, contents[i]);
  }
  assert_ptr_equal(route(s[0], "*/*"), route(s[1], "*/*"));
  assert_ptr_equal(route(s[0], "*/r"), route(s[1], "*/r"));
  assert_ptr_not_equal(route(s[1], "*/*"), route(s[2], "*/*"));
  struct text diff = {0};
  assert_int_equal(snapshot_diff(s[1], s[2], &diff, false), 2);
  kit_assert_text(text_span(&diff), "~ policy p: settings\n~ route */r: settings\n");
  text_fini(&diff);
  for (size_t i = 0; i < array_count(s); i++) snapshot_free(s[i]);
  world_fini(&w);
}

/* ---- balancing ---- */

static const char balanced[] = KIT_WEB
    "pools = {\n"
    "  p = { endpoints = ( { address = \"127.0.0.1:1\"; backup = true; }, { address = "
    "\"127.0.0.1:2\"; priority = 2; }, \"127.0.0.1:3\" );\n"
    "    balance = \"maglev\"; hash = \"header:X-User\"; bounded_load = \"150%\"; slow_start = "
    "\"3s\"; panic = \"40%\"; overflow = \"60%\";\n"
    "    sticky = { cookie = \"c\"; key = \"file:sticky.key\"; path = \"/x\"; max_age = \"1m\"; "
    "secure = \"on\"; samesite = \"strict\"; httponly = false; }; };\n"
    "  q = { endpoints = \"127.0.0.1:4\"; };\n"
    "};\n"
    "routes = ( { name = \"r\"; host = \"endpoint\"; "
    "split = ( { pool = \"p\"; weight = 3; }, { pool = \"q\"; } ); "
    "split_by = \"cookie:id\"; split_failover = true; } );\n";

static void test_balance(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  struct snapshot *s = compile(&w, balanced, NULL);
  const struct pool *p = pool(s, "p"), *q = pool(s, "q");
  assert_int_equal(p->spread.hash.source, HASH_HEADER);
  kit_assert_text(p->spread.hash.name, "X-User");
  assert_int_equal(p->spread.bound_percent, 150);
  assert_int_equal(p->spread.slow_start_ms, 3000);
  assert_int_equal(p->spread.panic_percent, 40);
  assert_int_equal(p->spread.overflow_percent, 60);
  assert_int_equal(p->tier_count, 3);
  assert_non_null(p->tiers[0].table);
  kit_assert_text(p->members[0].endpoint->label, "127.0.0.1:3");
  assert_int_equal(p->members[1].priority, 2);
  assert_true(p->members[2].backup && p->has_backups);
  struct span field = p->sticky->plain[0];
  kit_assert_text(span_sub(field, 0, 2), "c=");
  kit_assert_text(span_from(field, 34), "; Path=/x; Max-Age=60; SameSite=Strict; Secure");
  assert_true(!q->sticky && q->spread.hash.source == HASH_NONE);
  assert_int_equal(q->spread.bound_percent, 125);
  assert_int_equal(q->spread.overflow_percent, 70);
  const struct route *r = route(s, "r");
  assert_int_equal(r->action, ROUTE_SPLIT);
  assert_int_equal(r->split_count, 2);
  assert_true(r->host.endpoint); /* rewriting is for splits too */
  assert_ptr_equal(r->splits[0].pool, p);
  assert_ptr_equal(r->splits[1].pool, q);
  assert_int_equal(r->splits[0].weight, 3);
  assert_int_equal(r->split_weight, 4);
  assert_int_equal(r->split_by.source, HASH_COOKIE);
  assert_true(r->split_failover);
  struct snapshot *again = compile(&w, balanced, s);
  assert_ptr_equal(pool(again, "p"), p);
  assert_ptr_equal(route(again, "r"), r);
  snapshot_free(s);
  snapshot_free(again);
  world_fini(&w);
}

/* New bytes in the file of a cookie's key are another pool; a key that is too short changes
 * nothing. Without a key the process has one. */
static void test_sticky_key(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  struct conf *conf = kit_good(balanced);
  struct conf_faults *faults = conf_faults_new();
  struct snapshot *a = conf_compile(conf, &w.hooks, w.registry, NULL, faults);
  struct kit_file files[] = {{"/etc/weir/sticky.key", "ANOTHER KEY 12345", 0600}, {NULL, NULL, 0}};
  const struct kit kit = {files, NULL};
  struct conf_reader reader = kit_reader(&kit);
  struct conf_renewed out;
  conf_renew(conf, &reader, NULL, faults, &out);
  assert_true(out.changed);
  struct snapshot *b = conf_compile(conf, &w.hooks, w.registry, a, faults);
  assert_ptr_not_equal(pool(a, "p"), pool(b, "p"));
  assert_ptr_equal(pool(a, "q"), pool(b, "q"));
  assert_false(span_eq(pool(a, "p")->sticky->plain[0], pool(b, "p")->sticky->plain[0]));
  files[0].text = "short";
  conf_renew(conf, &reader, NULL, faults, &out);
  assert_true(!out.changed && out.told == 1);
  struct snapshot *c = conf_compile(conf, &w.hooks, w.registry, b, faults);
  assert_ptr_equal(pool(b, "p"), pool(c, "p"));
  struct text diff = {0};
  (void)snapshot_diff(a, b, &diff, false);
  kit_assert_text(text_span(&diff), "~ pool p: settings\n");
  text_fini(&diff);
  snapshot_free(a);
  snapshot_free(b);
  snapshot_free(c);
  conf_faults_free(faults);
  conf_free(conf);
  world_fini(&w);
}

static void test_process_key(void **state) {
  (void)state;
  static const char text[] = KIT_WEB
      "pools = { p = { endpoints = \"127.0.0.1:1\"; sticky = { cookie = \"c\"; }; }; };\n" 
      "routes = ( { pool = \"p\"; } );";
  struct world w;
  world_init(&w);
  struct snapshot *a = compile(&w, text, NULL), *b = compile(&w, text, NULL);
  assert_ptr_not_equal(pool(a, "p"), pool(b, "p"));
  assert_true(span_eq(pool(a, "p")->sticky->plain[0], pool(b, "p")->sticky->plain[0]));
  snapshot_free(a);
  snapshot_free(b);
  world_fini(&w);
}

/* An unchanged TLS listener does not even ask for its policy again. */
static void test_tls_kept(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  struct snapshot *a = compile(&w, base, NULL);
  assert_int_equal(w.tls_made, 1);
  struct snapshot *b = compile(&w, base, a);
  assert_int_equal(w.tls_made, 1);
  snapshot_free(a);
  object_reap(w.registry);
  assert_int_equal(w.tls_live, 1);
  snapshot_free(b);
  object_reap(w.registry);
  assert_int_equal(w.tls_live, 0);
  world_fini(&w);
}

/* New bytes in a certificate file are a new policy of the same generation's text. */
static void test_secret_changes(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  struct conf *conf = kit_good(base);
  struct conf_faults *faults = conf_faults_new();
  struct snapshot *a = conf_compile(conf, &w.hooks, w.registry, NULL, faults);
  static const struct kit_file files[] = {{"/etc/weir/tls/a.crt", "RENEWED", 0644},
                                          {"/etc/weir/tls/a.key", "KEY A", 0600},
                                          {NULL, NULL, 0}};
  const struct kit kit = {files, NULL};
  struct conf_reader reader = kit_reader(&kit);
  struct conf_renewed out;
  conf_renew(conf, &reader, NULL, faults, &out);
  assert_true(out.changed);
  struct snapshot *b = conf_compile(conf, &w.hooks, w.registry, a, faults);
  assert_ptr_not_equal(listener(a, "s"), listener(b, "s"));
  assert_ptr_equal(listener(a, "web"), listener(b, "web"));
  assert_ptr_equal(route(a, "a"), route(b, "a"));
  snapshot_free(a);
  snapshot_free(b);
  conf_free(conf);
  conf_faults_free(faults);
  world_fini(&w);
}

/* A hook that refuses: a fault at the certificate, and not an object is left. */
static void test_tls_refused(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  w.tls_refuse = true;
  struct conf *conf =
      kit_good("listeners = { s = { bind = \"127.0.0.1:1\"; tls = { certificates = (\n" CERT(
          "a") ",\n  " CERT("b") " ); }; }; };\n" KIT_APP KIT_ALL);
  struct conf_faults *faults = conf_faults_new();
  assert_null(conf_compile(conf, &w.hooks, w.registry, NULL, faults));
  struct fault_view view;
  assert_true(faults_view(faults, 0, &view));
  assert_int_equal(view.id, FAULT_TLS_REFUSED);
  assert_int_equal(view.line, 3);
  assert_int_equal(view.column, 12);
  kit_assert_text(view.message, "listener \"s\": the key does not match");
  conf_faults_free(faults);
  conf_free(conf);
  world_fini(&w);
}

/* Names: not resolved is a pool with less members, never a failure; an address that comes changes
 * the pool and keeps the rest. */
static void test_names(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  static const char text[] = KIT_WEB
      "pools = { p = { endpoints = [ \"a.example:80\", \"127.0.0.1:1\" ]; }; };\n"
      "routes = ( { pool = \"p\"; } );\n";
  struct snapshot *a = compile(&w, text, NULL);
  assert_int_equal(pool(a, "p")->member_count, 1);
  assert_int_equal(pool(a, "p")->unresolved, 1);
  w.resolved = "192.0.2.9";
  w.resolved_count = 2;
  struct snapshot *b = compile(&w, text, a);
  const struct pool *p = pool(b, "p");
  assert_int_equal(p->member_count, 3);
  assert_int_equal(p->unresolved, 0);
  kit_assert_text(p->members[0].endpoint->text, "a.example:80");
  kit_assert_text(p->members[0].endpoint->label, "192.0.2.9:80");
  assert_ptr_equal(p->members[2].endpoint, pool(a, "p")->members[0].endpoint);
  assert_ptr_equal(listener(a, "web"), listener(b, "web"));
  struct text diff = {0};
  assert_int_equal(snapshot_diff(a, b, &diff, false), 1);
  kit_assert_text(text_span(&diff),
                  "~ pool p: endpoint a.example:80 (192.0.2.9:80) added, endpoint "
                  "a.example:80 (192.0.2.1:80) added\n");
  text_fini(&diff);
  struct snapshot *c = compile(&w, text, b);
  assert_ptr_equal(pool(b, "p"), pool(c, "p"));
  snapshot_free(a);
  snapshot_free(b);
  snapshot_free(c);
  world_fini(&w);
}

static void test_discover_dns(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  static const char text[] = KIT_WEB
      "pools = { p = { endpoints = ( { address = \"127.0.0.1:1\"; backup = true; } );\n"
      "  discover = { dns = \"A.example:81\"; family = \"v4\"; min_ttl = \"2s\"; "
      "max_ttl = \"3s\";\n"
      "    servers = [ \"127.0.0.1\", \"[::1]:54\" ]; timeout = \"4s\"; attempts = 5;\n"
      "    retry = \"6s\"; max_retry = \"7s\"; jitter = \"8%\"; }; }; };\n"
      "routes = ( { pool = \"p\"; } );\n";
  w.resolved = "192.0.2.9";
  w.resolved_count = 2;
  struct snapshot *a = compile(&w, text, NULL);
  const struct pool *p = pool(a, "p");
  assert_int_equal(p->member_count, 3);
  kit_assert_text(p->members[0].endpoint->text, "A.example:81");
  kit_assert_text(p->members[0].endpoint->label, "192.0.2.9:81");
  assert_true(p->members[2].backup);
  assert_int_equal(w.asked.family, NAME_V4);
  assert_int_equal(w.asked.min_ttl_ms, 2000);
  assert_int_equal(w.asked.max_ttl_ms, 3000);
  assert_int_equal(w.asked.timeout_ms, 4000);
  assert_int_equal(w.asked.attempts, 5);
  assert_int_equal(w.asked.retry_ms, 6000);
  assert_int_equal(w.asked.max_retry_ms, 7000);
  assert_int_equal(w.asked.jitter_percent, 8);
  assert_false(w.asked.srv);
  snapshot_free(a);
  world_fini(&w);
}

/* SRV: endpoints under their hosts' names; a changed weight is no other endpoint; other settings
 * of discover are settings of the pool. */
static void test_discover_srv(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  static const char text[] = KIT_WEB
      "pools = { p = { discover = { srv = \"_h._tcp.x\"; }; }; };\n"
      "routes = ( { pool = \"p\"; } );\n";
  static const char later[] = KIT_WEB
      "pools = { p = { discover = { srv = \"_h._tcp.x\"; retry = \"2s\"; }; }; };\n"
      "routes = ( { pool = \"p\"; } );\n";
  struct snapshot *none = compile(&w, text, NULL);
  assert_int_equal(pool(none, "p")->member_count, 0);
  assert_int_equal(pool(none, "p")->unresolved, 1);
  w.resolved = "192.0.2.9";
  w.resolved_count = 2;
  w.weight = 5;
  struct snapshot *a = compile(&w, text, none);
  const struct pool *p = pool(a, "p");
  assert_true(w.asked.srv);
  assert_int_equal(p->member_count, 2);
  kit_assert_text(p->members[0].endpoint->text, "h.example:8000");
  kit_assert_text(p->members[1].endpoint->label, "192.0.2.1:8001");
  assert_int_equal(p->members[1].priority, 1);
  assert_int_equal(p->members[1].weight, 6);
  w.weight = 7;
  struct snapshot *b = compile(&w, text, a);
  assert_ptr_equal(pool(b, "p")->members[0].endpoint, p->members[0].endpoint);
  struct text diff = {0};
  assert_int_equal(snapshot_diff(a, b, &diff, false), 1);
  kit_assert_text(text_span(&diff), "~ pool p: endpoint h.example:8000 (192.0.2.9:8000) changed, "
                                    "endpoint h.example:8001 (192.0.2.1:8001) changed\n");
  text_fini(&diff);
  struct snapshot *c = compile(&w, later, b);
  assert_int_equal(snapshot_diff(b, c, &diff, false), 1);
  kit_assert_text(text_span(&diff), "~ pool p: settings\n");
  text_fini(&diff);
  snapshot_free(none);
  snapshot_free(a);
  snapshot_free(b);
  snapshot_free(c);
  world_fini(&w);
}

static uint32_t connections(uint32_t wanted, uint32_t most) {
  struct world w;
  world_init(&w);
  w.hooks.connections_max = most;
  char *text =
      wanted ? mem_printf("process = { max_connections = %u; };", wanted) : mem_str(SPAN_EMPTY);
  struct conf *conf = kit_good(text);
  struct conf_faults *faults = conf_faults_new();
  struct snapshot *s = conf_compile(conf, &w.hooks, w.registry, NULL, faults);
  uint32_t got = s->max_connections;
  assert_int_equal(conf_faults_warnings(faults), 0); /* conf_check_connections is asked for it */
  snapshot_free(s);
  conf_faults_free(faults);
  conf_free(conf);
  mem_free(text);
  world_fini(&w);
  return got;
}

static void test_clamp(void **state) {
  (void)state;
  assert_int_equal(connections(0, 9936), 9936);
  assert_int_equal(connections(9935, 9936), 9935);
  assert_int_equal(connections(9937, 9936), 9936);
  assert_int_equal(connections(0, 0), 100000);
  assert_int_equal(connections(5, 0), 5);
}

static void test_redirect_port(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  struct snapshot *s = compile(
      &w, "listeners = { web = { bind = \"127.0.0.1:80\"; redirect_https = true; }; };", NULL);
  assert_int_equal(listener(s, "web")->redirect_port, 443);
  struct snapshot *b =
      compile(&w,
              "listeners = { web = { bind = \"127.0.0.1:80\"; redirect_https = true; };"
              " x = { bind = \"127.0.0.1:8443\"; tls = { certificates = ( " CERT(
                  "a") " ); }; }; };" KIT_APP KIT_ALL,
              s);
  assert_int_equal(listener(b, "web")->redirect_port, 8443);
  assert_ptr_not_equal(listener(s, "web"), listener(b, "web")); /* it redirects elsewhere now */
  struct text diff = {0};
  assert_int_equal(snapshot_diff(s, b, &diff, true), 4);
  kit_assert_text(text_span(&diff),
                  "[{\"change\":\"changed\",\"kind\":\"listener\",\"name\":\"web\",\"detail\":"
                  "\"redirect_https\"},"
                  "{\"change\":\"added\",\"kind\":\"listener\",\"name\":\"x\",\"detail\":\"bind "
                  "127.0.0.1:8443\"},"
                  "{\"change\":\"added\",\"kind\":\"pool\",\"name\":\"app\",\"detail\":\"endpoint "
                  "127.0.0.1:9001\"},"
                  "{\"change\":\"added\",\"kind\":\"route\",\"name\":\"*/*\",\"detail\":\"\"}]");
  text_fini(&diff);
  snapshot_free(s);
  snapshot_free(b);
  world_fini(&w);
}

/* 100 reloads through five shapes: at the end only the last one is alive. */
static void test_many_reloads(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  struct snapshot *now = compile(&w, base, NULL);
  uint32_t objects = 0;
  for (int round = 0; round < 20; round++)
    for (size_t i = 0; i < array_count(changes); i += 3) {
      char *text = replaced(&changes[i]);
      struct snapshot *next = compile(&w, text, now);
      snapshot_mark_published(now, next);
      snapshot_free(now);
      now = next;
      assert_int_equal(object_reap(w.registry), 0);
      mem_free(text);
    }
  struct snapshot *last = compile(&w, base, now);
  snapshot_free(now);
  assert_int_equal(object_reap(w.registry), 0);
  for (enum object_kind k = 0; k < OBJECT_KIND_COUNT; k++)
    objects += registry_count(w.registry, k);
  assert_int_equal(objects, 2 + 2 + 2 + 2 + 2 + 2 + 3); /* settings, states, endpoints */
  snapshot_free(last);
  world_fini(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_objects),         cmocka_unit_test(test_changes),
      cmocka_unit_test(test_policies),        cmocka_unit_test(test_split_changes),
      cmocka_unit_test(test_policy_settings), cmocka_unit_test(test_policy_files),
      cmocka_unit_test(test_tls_kept),        cmocka_unit_test(test_secret_changes),
      cmocka_unit_test(test_tls_refused),     cmocka_unit_test(test_names),
      cmocka_unit_test(test_discover_dns),    cmocka_unit_test(test_discover_srv),
      cmocka_unit_test(test_clamp),           cmocka_unit_test(test_redirect_port),
      cmocka_unit_test(test_many_reloads),    cmocka_unit_test(test_health),
      cmocka_unit_test(test_health_h2),
      cmocka_unit_test(test_announced),       cmocka_unit_test(test_balance),
      cmocka_unit_test(test_sticky_key),      cmocka_unit_test(test_process_key),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
