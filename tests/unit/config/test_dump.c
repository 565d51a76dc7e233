/* test_dump.c: the effective configuration: its form, its origins, and that it loads to the same.
 * */
#include "config_kit.h"

/* bare drops the comments at the ends of lines. */
static struct text bare(struct span dump) {
  struct text out = {0};
  struct span line;
  while (span_next_token(&dump, '\n', &line)) {
    const char *at = line.len ? memmem(line.ptr, line.len, "  # ", 4) : NULL;
    text_put(&out, at ? span_of(line.ptr, (size_t)(at - line.ptr)) : line);
    text_lit(&out, "\n");
  }
  return out;
}

static void round_trip(const char *text, bool defaults) {
  struct text one = {0}, two = {0};
  struct conf *conf = kit_good(text);
  conf_dump(conf, &one, defaults);
  text_put(&one, span_of("", 1));
  one.len--;
  struct conf *again = kit_good(one.ptr);
  conf_dump(again, &two, defaults);
  struct text bare_one = bare(text_span(&one)), bare_two = bare(text_span(&two));
  text_put(&bare_one, span_of("", 1));
  bare_one.len--;
  kit_assert_text(text_span(&bare_two), bare_one.ptr);
  text_fini(&bare_one);
  text_fini(&bare_two);
  text_fini(&one);
  text_fini(&two);
  conf_free(conf);
  conf_free(again);
}

static const char everything[] =
    "version = 1;\n"
    "process = { workers = 2; user = \"w\\\"\\\\\"; drain = \"90s\"; max_connections = 7; };\n"
    "admin = { listen = \"unix:/a\"; status = \"127.0.0.1:1\"; };\n"
    "log = { access = { sample = \"0.25%\"; to = \"x/y.log\"; }; };\n"
    "listeners = { web = { bind = [ \"127.0.0.1:80\", \"[::1]:80\" ]; redirect_https = true; };\n"
    "  s = { bind = \"unix:/s\"; tls = { max_version = \"1.2\"; certificates = (\n"
    "    { names = [ \"A.b\", \"*.c\" ]; cert = \"file:tls/a.crt\"; key = \"file:tls/a.key\"; "
    "default = true; },\n"
    "    { cert = \"file:tls/b.crt\"; key = \"env:KEY\"; } ); client = (\n"
    "    { names = \"A.b\"; ca = [ \"file:tls/a.crt\", \"env:KEY\" ]; crl = \"file:tls/b.crt\"; "
    "forward = \"chain\"; },\n"
    "    { ca = \"file:tls/a.crt\"; verify = \"optional\"; depth = 0; } ); };\n"
    "    limits = { body_bytes = \"16MiB\"; }; trusted_proxies = \"10.0.0.0/8\"; }; };\n"
    "pools = { p = { endpoints = ( \"a.b:1\", { address = \"[::1]:2\"; weight = 0; backup = true; "
    "} );\n"
    "  balance = \"round_robin\"; outlier = { max_ejected = \"10%\"; deviations = \"1.9\"; };\n"
    "  health = { path = \"/h?a=${env:TIME}\"; host = \"a.b:81\"; expect = [ \"200\", "
    "\"300-399\" ];\n"
    "    headers = [ \"A: b\", \"C: \\\"d\\\"\" ]; body = \"a\\x01${env:TIME}\"; }; };\n"
    "  d = { discover = { dns = \"A.b:3\"; servers = [ \"127.0.0.1\", \"[::1]:54\" ]; retry = "
    "\"2s\"; }; };\n"
    "  e = { discover = { srv = \"_h._tcp.x\"; }; tls = { verify = \"none\"; }; };\n"
    "  q = { endpoints = ( { address = \"[::1]:3\"; priority = 7; } ); balance = \"ring\"; "
    "hash = \"query:a\";\n"
    "    connections = { protocol = \"h2\"; }; tls = { ca = \"file:tls/a.crt\"; sni = \"A.b\"; "
    "names = [ \"C.d\", \"10.0.0.1\", \"0::1\" ]; min_version = \"1.3\";\n"
    "    cert = \"file:tls/b.crt\"; key = \"file:tls/b.key\"; };\n"
    "    sticky = { cookie = \"w\"; key = \"file:sticky.key\"; max_age = \"1d\"; }; }; };\n"
    "policies = { m = { request_headers = { set = [ \"X-A: <${client.address}> $${b}\", "
    "\"X-B: ${env:YES}${env:VAR}\" ]; remove = \"X-C\"; }; response_headers = { add = "
    "\"X-D: a\\\"b\"; }; }; n = { cors = { origins = [ \"https://A.b\", \"http://*.c:81\" ]; "
    "methods = \"PUT\"; headers = [ \"X-A\" ]; credentials = true; }; errors = ( { status = [ "
    "\"404\", \"5xx\" ]; body = \"\"; }, { "
    "status = \"503\"; file = \"pages/a.html\"; upstream = true; } ); timeouts = { request = "
    "\"0s\"; }; "
    "limits = { body_bytes = \"1MiB\"; }; buffer = \"5KiB\"; allow = \"10.0.0.0/8\"; deny = [ "
    "\"10.1.0.0/16\", \"::1\" ]; rate = { limit = \"60/m\"; key = [ \"route\", \"header:X-A\" ]; "
    "}; }; };\n"
    "routes = ( { hosts = \"A.B\"; prefix = \"/x/\"; strip_prefix = true; pool = \"p\"; timeout = "
    "\"5s\"; mirror = { pool = \"p\"; }; policies = [ \"m\", \"n\" ]; },\n"
    "  { name = \"r\"; path = \"/r\"; methods = [ \"GET\", \"PURGE\" ]; listeners = \"s\"; "
    "redirect = { to = \"/q\"; status = 307; }; },\n"
    "  { path = \"/t\"; respond = { status = 418; body = \"a\\n\\x01\\\"$${env:X}\\xff\"; }; },\n"
    "  { path = \"/s\"; split = ( { pool = \"p\"; weight = 3; }, { pool = \"q\"; } ); "
    "split_by = \"cookie:c\"; },\n"
    "  { path = \"/e\"; respond = { body = \"\"; }; },\n"
    "  { path = \"/f\"; respond = { file = \"pages/a.html\"; headers = \"X-A: ${trace_id}\"; }; "
    "},\n"
    "  { prefix = \"/g\"; redirect = { host = \"A.b\"; port = 81; prefix = \"/h/\"; query = "
    "\"drop\"; }; "
    "},\n"
    "  { prefix = \"/i\"; rewrite = { prefix = \"/j\"; }; host = \"A.b:81\"; pool = \"p\"; },\n"
    "  { path = \"/m\"; rewrite = { regex = \"^/(m)$\"; to = \"/${1}/$${1}\"; };\n"
    "    pool = \"p\"; },\n"
    "  { path = \"/k\"; rewrite = { path = \"/l\"; }; host = \"endpoint\"; pool = \"p\"; } );\n";

static void test_round_trip(void **state) {
  (void)state;
  static const char *const texts[] = {"", KIT_WEB KIT_APP KIT_ALL, everything,
                                      KIT_WEB "pools = { }; routes = ( );",
                                      "process = { user = \"${env:TIME}\"; };"};
  for (size_t i = 0; i < array_count(texts); i++) {
    round_trip(texts[i], true);
    round_trip(texts[i], false);
  }
}

/* What is set, and where, without defaults. */
static void test_form(void **state) {
  (void)state;
  struct conf *conf = kit_good(
      "process = {\n drain = \"${env:TIME}\"; };\n" KIT_WEB
      "pools = { app = { endpoints = [ \"127.0.0.1:1\", \"127.0.0.1:2\" ]; }; };\n" KIT_ALL);
  struct text out = {0};
  conf_dump(conf, &out, false);
  kit_assert_text(text_span(&out),
                  "process = {\n"
                  "  drain = \"7s\";  # weir.conf:2, env TIME\n"
                  "};\n"
                  "listeners = {\n"
                  "  web = {\n"
                  "    bind = [ \"127.0.0.1:8080\" ];  # weir.conf:3\n"
                  "  };\n"
                  "};\n"
                  "pools = {\n"
                  "  app = {\n"
                  "    endpoints = (\n"
                  "      {\n"
                  "        address = \"127.0.0.1:1\";  # weir.conf:4\n"
                  "      },\n"
                  "      {\n"
                  "        address = \"127.0.0.1:2\";  # weir.conf:4\n"
                  "      }\n"
                  "    );\n"
                  "  };\n"
                  "};\n"
                  "routes = (\n"
                  "  {\n"
                  "    pool = \"app\";  # weir.conf:5\n"
                  "  }\n"
                  ");\n");
  text_fini(&out);
  conf_free(conf);
}

/* Every option with a default stands in the full dump; secrets never do. */
static void test_defaults_and_secrets(void **state) {
  (void)state;
  struct conf *conf = kit_good(everything);
  struct text out = {0};
  conf_dump(conf, &out, true);
  text_put(&out, span_of("", 1));
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    const struct option *o = option_get(id);
    if (!o->def) continue;
    struct span local = option_local(o);
    char *key = mem_printf(SPAN_FMT " = ", SPAN_ARG(span_from(local, span_last(local, '.') + 1)));
    assert_non_null(strstr(out.ptr, key));
    mem_free(key);
  }
  assert_null(strstr(out.ptr, "KEY A"));
  assert_null(strstr(out.ptr, "KEY ENV"));
  assert_null(strstr(out.ptr, "CERT"));
  assert_null(strstr(out.ptr, "STICKY KEY"));
  assert_non_null(strstr(out.ptr, "key = \"file:/etc/weir/tls/a.key\";"));
  text_fini(&out);
  conf_free(conf);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),
                                     cmocka_unit_test(test_form),
                                     cmocka_unit_test(test_defaults_and_secrets)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
