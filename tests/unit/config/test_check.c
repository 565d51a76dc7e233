/* test_check.c: more than 250 broken files (broken_cases.def): each has exactly one fault, with
 * the code and the place that the table says, and nothing follows from it (no cascade). */
#include "config_kit.h"

#define TOP(x) x "\n" KIT_WEB KIT_APP KIT_ALL
#define LISTENER(x) \
  "listeners = { web = { bind = \"127.0.0.1:8080\";\n  " x "\n }; };\n" KIT_APP KIT_ALL
#define LISTENER2(x) "listeners = { web = {\n  " x "\n }; };\n" KIT_APP KIT_ALL
#define POOL(x) KIT_WEB "pools = { app = { endpoints = \"127.0.0.1:1\";\n  " x "\n }; };\n" KIT_ALL
#define POOL2(x) KIT_WEB "pools = { app = {\n  " x "\n }; };\n" KIT_ALL
#define ROUTE(x) KIT_WEB KIT_APP "routes = ( { " x " } );\n"
#define ROUTE2(x) KIT_WEB KIT_APP "routes = ( " x " );\n"
#define POLICY(x) \
  KIT_WEB KIT_APP "policies = { p = {\n  " x \
                  "\n }; };\nroutes = ( { pool = \"app\"; policies = \"p\"; } );\n"
#define TLS(x) \
  "listeners = { web = { bind = \"127.0.0.1:8443\"; tls = { certificates = (\n  " x \
  "\n ); }; }; };\n" KIT_APP KIT_ALL
#define HEX64 "0000000000000000000000000000000000000000000000000000000000000000"
#define SECURE(x) \
  "listeners = { web = { bind = \"127.0.0.1:8443\";\n  " x \
  "\n  tls = { certificates = ( { cert = " \
  "\"file:tls/a.crt\"; key = \"file:tls/a.key\"; } ); }; }; };\n" KIT_APP KIT_ALL
#define LONG_NAME \
  "a1234567890123456789012345678901234567890123456789012345678901234567890123456789"

struct broken {
  const char *code, *text;
  int source_line;
};

static const struct broken cases[] = {
#define BROKEN(code, text) {code, text, __LINE__},
#include "broken_cases.def"
};

/* unmark takes the mark out of text and tells the line and column (in characters) where it stood.
 * */
static char *unmark(const char *text, uint32_t *line, uint32_t *column) {
  static const char mark[] = "«";
  const char *at = strstr(text, mark);
  assert_non_null(at);
  *line = *column = 1;
  for (const char *c = text; c < at; c++) {
    if (*c == '\n') {
      ++*line;
      *column = 1;
    } else if (((unsigned char)*c & 0xc0) != 0x80) {
      ++*column;
    }
  }
  return mem_printf("%.*s%s", (int)(at - text), text, at + sizeof mark - 1);
}

/* matches tells whether the faults are the one that is expected. */
static bool matches(const struct conf_faults *faults, const char *code, uint32_t line,
                    uint32_t column) {
  bool warning = code[2] == '4';
  uint32_t alike = 0, found = 0;
  struct fault_view view;
  for (uint32_t i = 0; faults_view(faults, i, &view); i++) {
    const struct fault_row *row = fault_get(view.id);
    if ((row->level == FAULT_LEVEL_WARNING) != warning) continue;
    alike++;
    if (strcmp(row->code, code) == 0 && view.line == line && view.column == column) found++;
  }
  return alike == 1 && found == 1 && (!warning || conf_faults_errors(faults) == 0);
}

static void test_cases(void **state) {
  (void)state;
  uint32_t wrong = 0;
  for (size_t i = 0; i < array_count(cases); i++) {
    uint32_t line, column;
    char *text = unmark(cases[i].text, &line, &column);
    struct conf_faults *faults = conf_faults_new();
    struct conf *conf = kit_load(&kit_usual, text, faults);
    bool good = matches(faults, cases[i].code, line, column);
    good = good && (conf != NULL) == (cases[i].code[2] == '4');
    if (!good) {
      struct text out = {0};
      wrong++;
      conf_faults_print(faults, &out, false);
      print_error("broken_cases.def:%d: want %s at %u:%u of\n%s\ngot\n" SPAN_FMT "\n\n",
                  cases[i].source_line, cases[i].code, line, column, text,
                  SPAN_ARG(text_span(&out)));
      text_fini(&out);
    }
    conf_free(conf);
    conf_faults_free(faults);
    mem_free(text);
  }
  assert_int_equal(wrong, 0);
  assert_true(array_count(cases) >= 120);
}

/* What looks like a case of W0413, W0443, W0444 or W0449 and is none. */
static void test_quiet(void **state) {
  (void)state;
  static const char *const good[] = {
#define O "{ prefix = \"/o\"; pool = \"app\"; client_cert = "
#define NO "{ prefix = \"/o\"; respond = { status = 403; }; }, "
#define REST "{ pool = \"app\"; }"
      MTLS(ANYONE, O "{ san = \"dns:a.b\"; }; }, " NO REST),
      MTLS(EVERYONE, O "{ present = true; }; }, " REST),
      MTLS(ANYONE, O "{ present = false; }; }, " REST),
      MTLS(ANYONE,
           O "{ present = true; }; }, { pool = \"app\"; client_cert = { present = false; }; "
             "}"),
      MTLS(EVERYONE, O "{ san = \"dns:a.b\"; }; }, { pool = \"app\"; client_cert = { present = "
                       "true; }; }"),
      MTLS(ANYONE, O "{ present = true; }; }, { prefix = \"/o\"; client_cert = { present = false; "
                     "}; respond = { status = 403; }; }, " REST),
      MTLS(ANYONE, O "{ present = true; }; }, { prefix = \"/oo\"; pool = \"app\"; }, "
                     "{ path = \"/\"; pool = \"app\"; }"),
      MTLS(ANYONE,
           "{ path = \"/o/x\"; pool = \"app\"; client_cert = { present = true; }; }, " NO REST),
      MTLS(ANYONE, O "{ present = true; }; }, { prefix = \"/o\"; pool = \"b\"; }, " REST),
      MTLS(ANYONE, O "{ present = true; }; }, { prefix = \"/o\"; sources = \"10.0.0.0/8\"; pool = "
                     "\"app\"; }"),
      MTLS(ANYONE, O "{ present = true; }; hosts = \"a.b\"; }, " REST),
      MTLS(ANYONE, O "{ present = true; }; methods = \"GET\"; }, { methods = \"PUT\"; pool = "
                     "\"app\"; }"),
      MTLS(ANYONE, O "{ present = true; }; methods = \"GET\"; }, { prefix = \"/o\"; methods = [ "
                     "\"GET\", \"PUT\" ]; respond = { status = 403; }; }, " REST),
      MTLS("{ names = \"*.x.y\"; ca = \"file:tls/a.crt\"; }",
           "{ hosts = [ \"c.d\", \"a.x.y\" ]; pool = \"app\"; client_cert = { present = true; }; "
           "}, " REST),
      LOOP("\"127.0.0.1:53\"", "udp", "\"127.0.0.2:53\""),
      LOOP("\"127.0.0.1:53\"", "udp", "\"127.0.0.1:54\""),
      LOOP("\"0.0.0.0:53\"", "udp", "\"[::1]:53\""),
      LOOP("\"0.0.0.0:53\"", "udp", "\"10.0.0.1:53\""),
      TWO("127.0.0.1:7", "127.0.0.1:8", "\"127.0.0.1:8\"", "\"127.0.0.1:9\""),
      NAMED(OF("\"a.b\"") ", " ANYONE, TO("")),
      NAMED(OF("\"a.b\"") ", " EVERYONE, TO("")),
      NAMED(MAYBE("\"a.b\""), TO("")),
      NAMED(OF("\"a.b\""), TO("hosts = \"a.b\";") ", { pool = \"b\"; }"),
      NAMED(OF("\"a.b\""), TO("hosts = \"*.b\";") ", { pool = \"b\"; }"),
      NAMED(OF("\"*.a.b\""), TO("hosts = [ \"c.a.b\", \"d.a.b\" ];") ", { pool = \"b\"; }"),
      NAMED(OF("[ \"a.b\", \"b.b\" ]"), TO("hosts = \"a.b\";") ", { pool = \"b\"; }"),
      NAMED(OF("\"a.b\""), TO("client_cert = { present = true; };")),
      NAMED(OF("\"a.b\""), TO("client_cert = { present = false; };")),
      NAMED(OF("\"a.b\""), TO("sources = \"10.0.0.0/8\";")),
      NAMED(OF("\"a.b\""), TO("hosts = \"a.b\";") ", { respond = { status = 404; }; }"),
      NAMED(OF("\"a.b\""), TO("hosts = \"c.d\";") ", { respond = { status = 404; }; }"),
      TICKETS("ciphers = [ \"ECDHE-RSA-AES128-GCM-SHA256\" ]; max_version = \"1.2\";"),
      TICKETS("min_version = \"1.3\"; groups = [ \"X25519\" ];"),
      POLICY("request_headers = { set = [ \"X-A: 5 $ $price $$host $hosts $Host $\", "
             "\"X-B: $${host} ${env:WEIR_T_NONE:-$host}\" ]; };"),
      KIT_WEB KIT_APP
      "routes = ( { prefix = \"/\"; pool = \"app\"; rewrite = { regex = "
      "\"^/(a)\"; to = \"/$host/${1}\"; }; } );",
      RING("\"127.0.0.1:80\"", "\"127.0.0.1:81\"", "pool = \"a\";"),
      RING("\"127.0.0.1:80\"", "\"127.0.0.1:80\"", "pool = \"a\"; listeners = \"o\";"),
      RING("\"127.0.0.1:80\"", "\"127.0.0.1:80\"", "pool = \"a\"; host = \"endpoint\";"),
      RING("\"127.0.0.1:80\"", "\"127.0.0.1:80\"",
           "pool = \"a\"; prefix = \"/x\"; strip_prefix = true;"),
      RING("\"127.0.0.1:80\"", "\"127.0.0.1:80\"", "pool = \"a\"; sources = \"10.0.0.0/8\";"),
      "listeners = { u = { bind = \"127.0.0.1:53\"; protocol = \"udp\"; pool = \"u\"; }; t = { "
      "bind "
      "= \"127.0.0.1:53\"; protocol = \"tcp\"; pool = \"t\"; }; };\npools = { u = { endpoints = "
      "\"127.0.0.1:54\"; }; t = { endpoints = \"127.0.0.1:55\"; }; };",
  };
  for (size_t i = 0; i < array_count(good); i++) {
    struct conf_faults *faults = conf_faults_new();
    struct conf *conf = kit_load(&kit_usual, good[i], faults);
    struct text out = {0};
    struct fault_view view;
    conf_faults_print(faults, &out, false);
    if (faults_view(faults, 0, &view))
      print_error("%s\n" SPAN_FMT, good[i], SPAN_ARG(text_span(&out)));
    assert_false(faults_view(faults, 0, &view));
    text_fini(&out);
    conf_free(conf);
    conf_faults_free(faults);
  }
}

/* Faults whose next step was missing or wrong: what the note says. */
static void test_notes(void **state) {
  (void)state;
  static const struct {
    const char *text, *note;
  } rows[] = {
      {MTLS(ANYONE, O "{ present = true; }; }, " REST), "client_cert = { present = false; }"},
      {MTLS(EVERYONE, O "{ san = \"dns:a.b\"; }; }, " REST), "client_cert = { present = true; }"},
      {TCP_KEY("timeouts = { idle = \"5s\"; };"), "timeouts.tunnel"},
      {UDP_KEY("timeouts = { tunnel = \"5s\"; };"), "timeouts.idle"},
      {TCP("protocol = \"tcp\"; pool = \"app\";", "", ""), "a pool of its own"},
      {PASS("protocol = \"tls_passthrough\"; pool = \"db\";",
            "tls = { ca = \"file:tls/a.crt\"; };"),
       "leave tls out"},
      {LISTENER(
           "tls = { ech = \"file:tls/a.key\"; max_version = \"1.2\"; certificates = ( { cert = "
           "\"file:tls/a.crt\"; key = \"file:tls/a.key\"; } ); };"),
       "leave max_version out"},
      {LISTENER("tls = { early_data = true; tickets = false; certificates = ( { cert = "
                "\"file:tls/a.crt\"; key = \"file:tls/a.key\"; } ); };"),
       "leave early_data out"},
      {NAMED(OF("\"a.b\""), TO("")), "hosts = \"a.b\""},
      {TICKETS("ciphers = [ \"ECDHE-RSA-AES128-GCM-SHA256\" ]; min_version = \"1.3\";"),
       "leave ciphers out"},
      {TICKETS("tickets = false; ticket_keys = [ \"file:t1.key\" ];"), "leave ticket_keys out"},
      {POOL("proxy_protocol = true;"), "off v1 v2"},
      {TCP("protocol = \"tcp\";", "", ""), "serves TCP: it needs a pool\n"},
      {TCP("protocol = \"udp\";", "", ""), "serves UDP: it needs a pool\n"},
      {TCP("pool = \"db\";", "", ""), "serves HTTP: it has no pool, its routes have\n"},
      {PASS("sni = ( { pool = \"db\"; } );", ""), "serves HTTP: it has no sni\n"},
      {PASS("protocol = \"tcp\"; sni = ( { pool = \"db\"; } );", ""),
       "serves TCP: it needs a pool, and has no sni\n"},
      {PASS("protocol = \"tcp\"; pool = \"db\"; sni = ( { pool = \"db\"; } );", ""),
       "serves TCP: it has no sni\n"},
      {PASS("protocol = \"tls_passthrough\";", ""), "passes TLS on: it needs sni or a pool\n"},
      {PASS("protocol = \"tls_passthrough\"; sni = ( { names = \"*\"; pool = \"db\"; } );", ""),
       "leave names out to match any"},
      {TOP("log = { tls_keys = \"/tmp/k.log\"; };"), "tls_keys = \"/tmp/k.log\""},
      {POLICY("request_headers = { set = \"X-A: ${remote_addr}\"; };"), "\"${client.address}\""},
      {POLICY("request_headers = { set = \"X-A: $host/x\"; };"), "\"${request.host}\""},
      {POLICY("request_headers = { set = \"X-A: $http_x_y\"; };"), "docs/policies.md"},
      {POLICY("request_headers = { set = \"X-A: ${some}\"; };"), "docs/policies.md"},
      {POLICY("request_headers = { set = \"X-A: ${client.adress}\"; };"), "\"client.address\""},
      {LISTENER2("bind = \"0.0.0.0:99999\";"), "1 to 65535"},
      {LISTENER2("bind = \"27001\";"), "\"0.0.0.0:27001\""},
      {LISTENER2("bind = \":27003\";"), "\"0.0.0.0:27003\""},
      {LISTENER2("bind = \"*:27005\";"), "\"[::]:27005\""},
      {LISTENER2("bind = \"*:99999\";"), "1 to 65535"},
      {LISTENER2("bind = \"*:x\";"), "\"ip:port\""},
      {TOP("admin = { status = \"9180\"; };"), "\"127.0.0.1:9180\""},
      {TLS("{ cert = \"file:tls/a.crt\"; key = \"env:NOT_SET\"; }"),
       "the environment variable NOT_SET is not set"},
      {POOL2("endpoints = \"${nope}\";"), "did you mean \"${env:nope}\"?"},
      {POOL2("endpoints = \"${a.b}\";"), "${env:NAME:-default}"},
      {ROUTE("methods = \"get\"; pool = \"app\";"), "did you mean \"GET\"?"},
      {ROUTE("methods = [ \"PUT\", \"Patch\" ]; pool = \"app\";"), "did you mean \"PATCH\"?"},
      {ROUTE("prefix = \"/api/*\"; pool = \"app\";"), "prefix = \"/api\" takes"},
      {ROUTE("path = \"/*\"; pool = \"app\";"), "prefix = \"/\" takes"},
      {POOL2("endpoints = \"[::1]:0\";"), "1 to 65535"},
      {LISTENER2("bind = \"::1:99999\";"), "[ipv6]:port"},
      {"listeners = { db = { bind = \"unix:/x\"; protocol = \"udp\"; pool = \"db\"; }; };\npools "
       "= { "
       "db = { endpoints = \"127.0.0.1:53\"; }; };",
       "like bind"},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct conf_faults *faults = conf_faults_new();
    conf_free(kit_load(&kit_usual, rows[i].text, faults));
    struct text out = {0};
    conf_faults_print(faults, &out, false);
    text_put(&out, span_of("", 1));
    if (!strstr(text_span(&out).ptr, rows[i].note))
      print_error("want %s in\n%s", rows[i].note, text_span(&out).ptr);
    assert_non_null(strstr(text_span(&out).ptr, rows[i].note));
    text_fini(&out);
    conf_faults_free(faults);
  }
}

/* Every fault that a text alone can have stands in the table; the others are tested by name. */
static void test_codes_covered(void **state) {
  (void)state;
  static const char *const elsewhere[] = {
      "W0011", /* test_depth */
      "W0014", /* fuzz_config: no text is known that the two readers see differently */
      "W0019", /* test_many */
      "W0108", "W0118", "W0307", /* test_apply.c */
      "W0306", "W0404", "W0480", "W0482", "W0483", "W0484", "W0485", "W0486",
      "W0350", "W0406", "W0408", "W0411", "W0412", /* test_compile.c, test_process.c, e2e */
      "W0126"};                                    /* test_no_listener */
  for (enum fault_id id = 0; id < FAULT_COUNT; id++) {
    const char *code = fault_get(id)->code;
    bool found = false;
    for (size_t i = 0; i < array_count(cases); i++) found |= strcmp(cases[i].code, code) == 0;
    for (size_t i = 0; i < array_count(elsewhere); i++) found |= strcmp(elsewhere[i], code) == 0;
    if (!found) print_error("no case for %s\n", code);
    assert_true(found);
  }
}

static void repeat(struct text *out, const char *s, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) text_put(out, span_str(s));
}

/* depth_faults loads a key with so many nested lists and gives the code of its first fault. */
static const char *depth_fault(uint32_t depth, uint32_t *column) {
  struct text text = {0};
  text_lit(&text, "x = ");
  repeat(&text, "(", depth);
  repeat(&text, ")", depth);
  text_lit(&text, ";\n\0");
  struct conf_faults *faults = conf_faults_new();
  struct fault_view view;
  assert_null(kit_load(&kit_usual, text.ptr, faults));
  const char *code = NULL;
  for (uint32_t i = 0; faults_view(faults, i, &view); i++) {
    if (view.id == FAULT_NO_LISTENERS || (code && view.id == FAULT_UNKNOWN_KEY)) continue;
    if (code && strcmp(code, "W0011") == 0) continue;
    code = fault_get(view.id)->code;
    *column = view.column;
  }
  conf_faults_free(faults);
  text_fini(&text);
  return code;
}

static void test_depth(void **state) {
  (void)state;
  uint32_t column = 0;
  assert_string_equal(depth_fault(TREE_DEPTH_MAX, &column), "W0101");
  assert_string_equal(depth_fault(TREE_DEPTH_MAX + 1, &column), "W0011");
  assert_int_equal(column, 5 + TREE_DEPTH_MAX);
  assert_string_equal(depth_fault(100000, &column), "W0011"); /* no recursion anywhere */
}

static void test_many(void **state) {
  (void)state;
  struct text text = {0}, out = {0};
  for (unsigned i = 0; i < 1000; i++) text_printf(&text, "unknown%u = %%;\n", i);
  text_put(&text, span_of("", 1));
  struct conf_faults *faults = conf_faults_new();
  assert_null(kit_load(&kit_usual, text.ptr, faults));
  assert_int_equal(conf_faults_errors(faults), 1000);
  conf_faults_print(faults, &out, false);
  assert_true(span_ends(text_span(&out), SPAN_LIT("800 more are not shown [W0019]\n1000 errors")));
  conf_faults_free(faults);
  text_fini(&text);
  text_fini(&out);
}

static void test_no_listener(void **state) {
  (void)state;
  static const char *const texts[] = {"", "version = 1;", "listeners = { };", KIT_APP KIT_ALL};
  for (size_t i = 0; i < array_count(texts); i++) {
    struct conf_faults *faults = conf_faults_new();
    assert_null(kit_load(&kit_usual, texts[i], faults));
    assert_int_equal(conf_faults_errors(faults), 1);
    assert_true(faults_has(faults, FAULT_NO_LISTENERS));
    conf_faults_free(faults);
  }
}

/* Cookies of one name that no client meets at one place, and prefixed ones as they should be. */
static void test_cookies_apart(void **state) {
  (void)state;
#define STICKY(x) "endpoints = \"127.0.0.1:1\"; sticky = { key = \"file:sticky.key\"; " x " };"
#define STICKY2(a, b, routes) \
  KIT_WEB "pools = { a = { " STICKY(a) " }; b = { " STICKY(b) " }; }; routes = (" routes ");"
  static const char *const texts[] = {
      STICKY2("cookie = \"c\";", "cookie = \"c\";",
              "{ hosts = \"a.example\"; pool = \"a\"; }, "
              "{ hosts = \"b.example\"; pool = \"b\"; }"),
      STICKY2("cookie = \"c\"; path = \"/a\";", "cookie = \"c\"; path = \"/b\";",
              "{ prefix = \"/a\"; pool = \"a\"; }, { prefix = \"/b\"; pool = \"b\"; }"),
      STICKY2("cookie = \"c\";", "cookie = \"C\";",
              "{ split = ( { pool = \"a\"; }, { pool = \"b\"; } ); }"),
      STICKY2("cookie = \"__Host-c\";", "cookie = \"__Secure-c\"; path = \"/x\"; secure = \"on\";",
              "{ split = ( { pool = \"a\"; }, { pool = \"b\"; } ); }, "
              "{ prefix = \"/a\"; pool = \"a\"; }"),
  };
  for (size_t i = 0; i < array_count(texts); i++) {
    struct conf_faults *faults = conf_faults_new();
    struct conf *conf = kit_load(&kit_usual, texts[i], faults);
    if (!conf || faults_has(faults, FAULT_STICKY_SHARED)) fail_msg("%s", texts[i]);
    conf_free(conf);
    conf_faults_free(faults);
  }
}

/* All faults of a file at once, each at its place. */
static void test_all_at_once(void **state) {
  (void)state;
  struct text out = kit_printed(
      "listeners = { web = { bnd = \"127.0.0.1:80\"; timeouts = { header = 5s; }; }; };\n"
      "pools = { app = { endpoints = [ \"x\" ] balance = \"rr\"; }; };\n"
      "routes = ( { pool = \"ap\"; prefix = \"api\" } );\n");
  kit_assert_text(
      text_span(&out),
      "error[W0101]: a listener has no key \"bnd\"\n"
      "  --> /etc/weir/weir.conf:1:23\n"
      "1 | listeners = { web = { bnd = \"127.0.0.1:80\"; timeouts = { header = 5s; }; }; };\n"
      "  |                       ^^^ did you mean \"bind\"?\n"
      "error[W0008]: 5s is no whole number\n"
      "  --> /etc/weir/weir.conf:1:67\n"
      "1 | listeners = { web = { bnd = \"127.0.0.1:80\"; timeouts = { header = 5s; }; }; };\n"
      "  |                                                                   ^^ write \"5s\"\n"
      "error[W0206]: pools.*.endpoints.*.address cannot be \"x\"\n"
      "  --> /etc/weir/weir.conf:2:33\n"
      "2 | pools = { app = { endpoints = [ \"x\" ] balance = \"rr\"; }; };\n"
      "  |                                 ^^^ known: \"host:port\" \"[ipv6]:port\" "
      "\"unix:/path\"\n"
      "error[W0205]: pools.*.balance does not know \"rr\"\n"
      "  --> /etc/weir/weir.conf:2:49\n"
      "2 | pools = { app = { endpoints = [ \"x\" ] balance = \"rr\"; }; };\n"
      "  |                                                 ^^^^ known: least_request round_robin "
        "random peak_ewma ring maglev\n"
      "error[W0208]: routes.*.prefix cannot be \"api\"\n"
      "  --> /etc/weir/weir.conf:3:36\n"
      "3 | routes = ( { pool = \"ap\"; prefix = \"api\" } );\n"
      "  |                                    ^^^^^ it begins with /\n"
      "5 errors");
  text_fini(&out);
}

/* Where two words are as near as each other, none of them is "meant". */
static void test_words_alike(void **state) {
  (void)state;
  struct text out = kit_printed(
      "listeners = { web = { bind = \"127.0.0.1:80\"; }; };\n"
      "pools = { a = { endpoints = \"127.0.0.1:1\";\n"
      "tls = { ca = \"file:tls/a.crt\"; min_version = \"1.4\"; }; }; };\n"
      "routes = ( { pool = \"a\"; prefix = \"/\"; } );\n");
  kit_assert_text(
      text_span(&out),
      "error[W0205]: pools.*.tls.min_version does not know \"1.4\"\n"
      "  --> /etc/weir/weir.conf:3:46\n"
      "3 | tls = { ca = \"file:tls/a.crt\"; min_version = \"1.4\"; }; }; };\n"
      "  |                                              ^^^^^ known: 1.2 1.3\n"
      "1 error");
  text_fini(&out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cases),       cmocka_unit_test(test_quiet),
      cmocka_unit_test(test_notes),
      cmocka_unit_test(test_codes_covered),
      cmocka_unit_test(test_depth),       cmocka_unit_test(test_many),
      cmocka_unit_test(test_no_listener), cmocka_unit_test(test_all_at_once),
      cmocka_unit_test(test_words_alike),
      cmocka_unit_test(test_cookies_apart),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
