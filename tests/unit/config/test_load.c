/* test_load.c: good files: what they come to be, scalars for lists, includes, ${env:}, secrets,
 * files, reading them again. */
#include "config_kit.h"

static const struct conf_listener *listener(const struct conf *conf, const char *name) {
  rows_each(&conf->root.listeners, struct conf_listener, l)
    if (span_eq(l->row.name, span_str(name))) return l;
  fail_msg("no listener %s", name);
  return NULL;
}

static const struct conf_pool *pool(const struct conf *conf, const char *name) {
  rows_each(&conf->root.pools, struct conf_pool, p)
    if (span_eq(p->row.name, span_str(name))) return p;
  fail_msg("no pool %s", name);
  return NULL;
}

static void test_minimal(void **state) {
  (void)state;
  struct conf *conf = kit_good(KIT_WEB KIT_APP KIT_ALL);
  const struct conf_listener *web = listener(conf, "web");
  assert_int_equal(web->binds.count, 1);
  kit_assert_text(web->binds.items[0].text, "127.0.0.1:8080");
  assert_int_equal(web->timeouts.handshake_ms, 10000);
  assert_int_equal(web->timeouts.header_ms, 10000);
  assert_int_equal(web->timeouts.body_ms, 30000);
  assert_int_equal(web->timeouts.send_ms, 30000);
  assert_int_equal(web->timeouts.idle_ms, 60000);
  assert_int_equal(web->timeouts.tunnel_ms, 3600000);
  assert_int_equal(web->timeouts.half_close_ms, 1000);
  assert_int_equal(web->limits.header_bytes, 65536);
  assert_int_equal(web->limits.headers, 100);
  assert_int_equal(web->limits.uri_bytes, 16384);
  assert_int_equal(web->limits.body_bytes, 0);
  const struct conf_pool *app = pool(conf, "app");
  assert_int_equal(app->endpoints.count, 1);
  assert_int_equal(app->balance, 0);
  assert_int_equal(app->timeouts.connect_ms, 5000);
  assert_int_equal(app->timeouts.first_byte_ms, 60000);
  assert_int_equal(app->connections.keepalive_max, 1024);
  assert_int_equal(app->connections.queue, 1000);
  assert_int_equal(app->outlier.consecutive_failures, 5);
  assert_int_equal(app->outlier.consecutive_5xx, 0);
  assert_int_equal(app->outlier.max_ejected_percent, 50);
  const struct conf_route *route = (struct conf_route *)conf->root.routes.first;
  kit_assert_text(route->prefix, "/");
  kit_assert_text(route->label, "*/*");
  conf_free(conf);
}

/* Good snippets: each loads without fault. */
static void test_good(void **state) {
  (void)state;
  static const char *const texts[] = {
      "",
      "version = 1;",
      KIT_WEB,
      KIT_WEB KIT_APP KIT_ALL,
      "listeners = { web = { bind = [ \"0.0.0.0:80\", \"[::]:80\" ]; }; };",
      "listeners = { web = { bind = ( \"0.0.0.0:80\", \"unix:/run/w\" ); }; };",
      KIT_WEB
      "pools = { app = { endpoints = ( \"a.b:80\", { address = \"[::1]:1\"; weight = 3; backup = "
      "true; } ); }; };" KIT_ALL,
      KIT_WEB KIT_APP
      "routes = ( { name = \"a.b-c_D9\"; prefix = \"/a/\"; strip_prefix = true; pool = \"app\"; } "
      ");",
      KIT_WEB KIT_APP
      "routes = ( { path = \"/a\"; pool = \"app\"; }, { prefix = \"/a\"; pool = \"app\"; } );",
      KIT_WEB KIT_APP
      "routes = ( { path = \"/a\"; pool = \"app\"; }, { path = \"/a/\"; pool = \"app\"; } );",
      KIT_WEB KIT_APP
      "routes = ( { methods = \"GET\"; pool = \"app\"; }, { methods = \"PURGE\"; pool = \"app\"; "
      "}, { pool = \"app\"; } );",
      KIT_WEB KIT_APP
      "routes = ( { hosts = \"a.b\"; pool = \"app\"; }, { hosts = \"*.b\"; pool = \"app\"; }, { "
      "pool = \"app\"; } );",
      KIT_WEB KIT_APP
      "routes = ( { hosts = [ \"EXAMPLE.com.\", \"[::1]\", \"10.0.0.1\" ]; pool = \"app\"; } );",
      KIT_WEB KIT_APP "routes = ( { redirect = { to = \"https://a.b/c?d\"; status = 301; }; } );",
      KIT_WEB KIT_APP "routes = ( { respond = { }; path = \"/x\"; pool = \"app\"; } );",
      KIT_WEB KIT_APP "routes = ( { respond = { status = 204; }; } );",
      KIT_WEB KIT_APP
      "routes = ( { respond = { status = 599; body = \"a\\nb\\xff\"; content_type = \"a/b\"; }; } "
      ");",
      "process = { workers = 4; user = \"weir\"; drain = \"1m30s\"; max_connections = 10; };",
      "admin = { listen = \"unix:/run/x.sock\"; status = \"[::1]:9180\"; };",
      "admin = { listen = \"off\"; status = \"off\"; };",
      "log = { level = \"debug\"; to = \"weir.log\"; access = { to = \"off\"; sample = \"0.5%\"; "
      "}; };",
      "listeners = { web = { bind = \"127.0.0.1:1\"; tls = { certificates = ( { cert = "
      "\"file:tls/a.crt\"; key = \"cred:web.key\"; }, { cert = \"file:tls/b.crt\"; key = "
      "\"env:KEY\"; default = true; } ); }; }; };",
      "listeners = { a = { bind = \"127.0.0.1:1\"; redirect_https = true; }; };",
      "pools = { };\nroutes = [ ];"};
  for (size_t i = 0; i < array_count(texts); i++) conf_free(kit_good(texts[i]));
}

static void test_env(void **state) {
  (void)state;
  struct conf *conf = kit_good(
      "listeners = { web = { bind = [ \"${env:ADDR}\", \"${env:NONE:-127.0.0.1:8}\" ];"
      " timeouts = { header = \"${env:TIME}\"; }; limits = { headers = \"${env:NUMBER}\"; };"
      " redirect_https = \"${env:YES}\"; }; };" KIT_APP
      "routes = ( { respond = { body = \"$${env:ADDR} $5 ${env:EMPTY}$${\"; }; } );");
  const struct conf_listener *web = listener(conf, "web");
  kit_assert_text(web->binds.items[0].text, "127.0.0.1:7");
  kit_assert_text(web->binds.items[1].text, "127.0.0.1:8");
  assert_int_equal(web->timeouts.header_ms, 7000);
  assert_int_equal(web->limits.headers, 7);
  assert_true(web->redirect_https);
  kit_assert_text(((struct conf_route *)conf->root.routes.first)->respond_body,
                  "${env:ADDR} $5 ${");
  kit_assert_text(row_origin(&web->row, OPTION_LISTENER_HEADER)->env, "TIME");
  conf_free(conf);
}

/* As in a shell: ":-" is for a variable that is empty, too; without it that one is empty text. */
static void test_env_empty(void **state) {
  (void)state;
  struct conf *conf = kit_good(
      "listeners = { web = { bind = \"127.0.0.1:${env:EMPTY:-8}\";"
      " timeouts = { header = \"${env:EMPTY:-}7s\"; idle = \"${env:TIME:-9s}\"; }; }; };" KIT_APP
      "routes = ( { respond = { body = \"<${env:EMPTY}${env:EMPTY:-}${env:NONE:-}>\"; }; } );");
  const struct conf_listener *web = listener(conf, "web");
  kit_assert_text(web->binds.items[0].text, "127.0.0.1:8");
  assert_int_equal(web->timeouts.header_ms, 7000);
  assert_int_equal(web->timeouts.idle_ms, 7000); /* a variable that holds something stands */
  kit_assert_text(((struct conf_route *)conf->root.routes.first)->respond_body, "<>");
  conf_free(conf);
}

/* What a variable holds is not read again: no second expansion, no syntax. */
static void test_env_once(void **state) {
  (void)state;
  static const char *const env[] = {"A", "${env:B}\"; x = 1; #", "B", "b", NULL};
  const struct kit kit = {kit_files, env};
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = kit_load(&kit, KIT_WEB "process = { user = \"${env:A}\"; };", faults);
  assert_non_null(conf);
  assert_string_equal(conf_process(conf)->user, "${env:B}\"; x = 1; #");
  conf_free(conf);
  conf_faults_free(faults);
}

static void test_secrets(void **state) {
  (void)state;
  struct conf *conf = kit_good(
      "listeners = { web = { bind = \"127.0.0.1:1\"; tls = { certificates = ("
      "{ cert = \"file:tls/a.crt\"; key = \"file:/etc/weir/tls/a.key\"; },"
      "{ cert = \"file:${env:NONE:-tls}/b.crt\"; key = \"cred:web.key\"; },"
      "{ cert = \"file:tls/a.crt\"; key = \"env:KEY\"; } ); }; }; };" KIT_APP KIT_ALL);
  const struct conf_cert_row *cert = (struct conf_cert_row *)listener(conf, "web")->certs.first;
  kit_assert_text(text_span(&cert->cert_pem), "CERT A");
  kit_assert_text(text_span(&cert->key_pem), "KEY A");
  cert = (struct conf_cert_row *)cert->row.next;
  kit_assert_text(text_span(&cert->cert_pem), "CERT B");
  kit_assert_text(text_span(&cert->key_pem), "KEY CRED");
  cert = (struct conf_cert_row *)cert->row.next;
  kit_assert_text(text_span(&cert->key_pem), "KEY ENV");
  const struct conf_file *files;
  assert_int_equal(conf_files(conf, &files), 4);
  assert_string_equal(files[0].path, "/etc/weir/weir.conf");
  assert_false(files[0].secret);
  assert_string_equal(files[1].path, "/etc/weir/tls/a.crt");
  assert_true(files[1].secret);
  assert_string_equal(files[2].path, "/etc/weir/tls/a.key");
  assert_string_equal(files[3].path, "/etc/weir/tls/b.crt");
  conf_free(conf);
}

/* Certificates are read again; one that cannot be read stays as it was, with its key. */
static void test_reload_secrets(void **state) {
  (void)state;
  struct conf *conf = kit_good(
      "listeners = { web = { bind = \"127.0.0.1:1\"; tls = { certificates = ("
      "{ cert = \"file:tls/a.crt\"; key = \"file:tls/a.key\"; },"
      "{ cert = \"file:tls/b.crt\"; key = \"file:tls/b.key\"; } ); }; }; };" KIT_APP KIT_ALL);
  const struct conf_cert_row *cert = (struct conf_cert_row *)listener(conf, "web")->certs.first;
  struct conf_faults *faults = conf_faults_new();
  struct conf_reader reader = kit_reader(&kit_usual);
  struct conf_renewed out;
  conf_renew(conf, &reader, NULL, faults, &out);
  assert_true(!out.changed && !out.refused && !out.told);
  static const struct kit_file half[] = {{"/etc/weir/tls/a.crt", "NEW A", 0644},
                                         {"/etc/weir/tls/a.key", "NEW KEY", 0600},
                                         {"/etc/weir/tls/b.crt", "NEW B", 0644},
                                         {NULL, NULL, 0}};
  const struct kit kit_half = {half, NULL};
  reader = kit_reader(&kit_half);
  conf_renew(conf, &reader, NULL, faults, &out);
  assert_true(out.changed && out.refused == 2 && out.told == 1);
  kit_assert_text(text_span(&cert->cert_pem), "NEW A");
  const struct conf_cert_row *second = (const struct conf_cert_row *)cert->row.next;
  kit_assert_text(text_span(&second->cert_pem), "CERT B");
  struct fault_view view;
  assert_true(faults_view(faults, 0, &view));
  assert_int_equal(view.id, FAULT_SECRET_READ);
  conf_renew(conf, &reader, NULL, faults, &out); /* the same again: not told again */
  assert_true(!out.changed && out.refused == 2 && out.told == 0);
  assert_int_equal(conf_faults_errors(faults), 1);
  static const struct kit_file all[] = {{"/etc/weir/tls/a.crt", "NEW A", 0644},
                                        {"/etc/weir/tls/a.key", "NEW KEY", 0600},
                                        {"/etc/weir/tls/b.crt", "NEW B", 0644},
                                        {"/etc/weir/tls/b.key", "KEY B", 0600},
                                        {NULL, NULL, 0}};
  const struct kit kit_all = {all, NULL};
  reader = kit_reader(&kit_all);
  conf_renew(conf, &reader, NULL, faults, &out);
  assert_true(out.changed && !out.refused && !out.told);
  kit_assert_text(text_span(&cert->key_pem), "NEW KEY");
  kit_assert_text(text_span(&second->cert_pem), "NEW B");
  conf_faults_free(faults);
  conf_free(conf);
}

static void note_name(const struct name_query *q, void *ctx) {
  struct text *out = ctx;
  text_printf(out, SPAN_FMT "%s ", SPAN_ARG(q->name), q->srv ? "/srv" : "");
}

static void test_names(void **state) {
  (void)state;
  struct conf *conf = kit_good(
      KIT_WEB
      "pools = { app = { endpoints = [ \"a.example:80\", \"127.0.0.1:1\", \"unix:/x\" ]; };"
      " b = { endpoints = ( { address = \"b.example:81\"; } ); };"
      " c = { discover = { dns = \"c.example:1\"; }; };"
      " d = { discover = { srv = \"_h._tcp.d\"; }; }; };" KIT_ALL);
  struct text out = {0};
  conf_names(conf, note_name, &out);
  kit_assert_text(text_span(&out), "a.example b.example c.example _h._tcp.d/srv ");
  text_fini(&out);
  conf_free(conf);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_minimal), cmocka_unit_test(test_good),
      cmocka_unit_test(test_env), cmocka_unit_test(test_env_empty),
      cmocka_unit_test(test_env_once), cmocka_unit_test(test_secrets),
      cmocka_unit_test(test_reload_secrets), cmocka_unit_test(test_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
