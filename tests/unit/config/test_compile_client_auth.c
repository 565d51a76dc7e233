/* test_compile_client_auth.c: tls.client from text to the hook, a refusal at its row, what makes a
 * listener another one, and client_cert of routes. */
#include <stdio.h>

#include "config_kit.h"

#define CERTS "certificates = ( { cert = \"file:tls/a.crt\"; key = \"file:tls/a.key\"; } ); "
#define HEX64 "0102030405060708091011121314151617181920212223242526272829303132"

struct seen {
  uint32_t count, refuse; /* rows of the last policy; UINT32_MAX: none is refused */
  bool required[4];
  uint8_t forward[4];
  uint32_t depth[4], names[4];
  size_t ca_len[4], crl_len[4];
  char labels[128];
};

static struct tls_server *make_tls(void *ctx, const struct conf_tls *tls, uint32_t *bad_cert,
                                   struct buf *why) {
  struct seen *seen = ctx;
  seen->count = tls->client_count;
  for (uint32_t i = 0; i < tls->client_count; i++) {
    const struct conf_client_policy *p = &tls->clients[i];
    seen->required[i] = p->required;
    seen->forward[i] = p->forward;
    seen->depth[i] = p->depth;
    seen->names[i] = p->name_count;
    seen->ca_len[i] = p->ca_pem.len;
    seen->crl_len[i] = p->crl_pem.len;
    snprintf(seen->labels, sizeof seen->labels, SPAN_FMT, SPAN_ARG(p->ca_label));
  }
  if (seen->refuse == UINT32_MAX) return ctx;
  *bad_cert = CONF_BAD_CLIENT + seen->refuse;
  buf_lit(why, "no good");
  return NULL;
}

static void drop_tls(struct tls_server *server) { (void)server; }

/* compiled is a snapshot; NULL: refused, at *line. */
static struct snapshot *compiled(struct registry *r, struct seen *seen, const char *clients,
                                 const char *route, uint32_t *line) {
  const struct conf_hooks hooks = {.tls = make_tls, .tls_unref = drop_tls, .ctx = seen};
  char *text =
      mem_printf("listeners = { web = { bind = \"127.0.0.1:8443\"; tls = { " CERTS
                 "client = (\n%s\n); }; }; };\n" KIT_APP "routes = ( { pool = \"app\"; %s } );\n",
                 clients, route);
  struct snapshot *s = kit_compiled(&hooks, r, text, NULL, line);
  mem_free(text);
  return s;
}

static void drop(struct registry *r, struct snapshot *s) {
  if (s) snapshot_free(s);
  object_reap(r);
}

static void test_rows(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct seen seen = {.refuse = UINT32_MAX};
  uint32_t line = 0;
  struct snapshot *s = compiled(r, &seen,
                                "{ names = [ \"a.b\", \"*.c\" ]; ca = \"file:tls/a.crt\"; },\n"
                                "{ ca = [ \"file:tls/a.crt\", \"file:tls/b.crt\" ]; "
                                "crl = \"file:tls/a.crt\"; verify = \"optional\"; depth = 3; "
                                "forward = \"chain\"; }",
                                "", &line);
  assert_int_equal(seen.count, 2);
  assert_true(seen.required[0] && !seen.required[1]);
  assert_int_equal(seen.depth[0], 1);
  assert_int_equal(seen.depth[1], 3);
  assert_int_equal(seen.forward[0], 0);
  assert_int_equal(seen.forward[1], 2);
  assert_int_equal(seen.names[0], 2);
  assert_int_equal(seen.names[1], 0);
  assert_true(seen.ca_len[1] > seen.ca_len[0] + 1);
  assert_int_equal(seen.crl_len[0], 0);
  assert_int_equal(seen.crl_len[1], seen.ca_len[0]);
  assert_non_null(strstr(seen.labels, "tls/a.crt, file:"));
  drop(r, s);
  registry_free(r);
}

static void test_a_refusal_is_told_at_its_row(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct seen seen = {.refuse = 1};
  uint32_t line = 0;
  assert_null(compiled(
      r, &seen, "{ names = \"a.b\"; ca = \"file:tls/a.crt\"; },\n{ ca = \"file:tls/a.crt\"; }", "",
      &line));
  assert_int_equal(line, 3);
  drop(r, NULL);
  registry_free(r);
}

/* content is that of the one listener with these rows. */
static uint64_t content(const char *clients) {
  struct registry *r = registry_new(1);
  struct seen seen = {.refuse = UINT32_MAX};
  uint32_t line = 0;
  struct snapshot *s = compiled(r, &seen, clients, "", &line);
  uint64_t hash = s->listeners[0].listener->obj.content;
  drop(r, s);
  registry_free(r);
  return hash;
}

static void test_content(void **state) {
  (void)state;
  static const char *const rows[] = {
      "{ ca = \"file:tls/a.crt\"; }",
      "{ ca = \"file:tls/a.key\"; }",
      "{ ca = \"file:tls/a.crt\"; verify = \"optional\"; }",
      "{ ca = \"file:tls/a.crt\"; depth = 2; }",
      "{ ca = \"file:tls/a.crt\"; forward = \"cert\"; }",
      "{ ca = \"file:tls/a.crt\"; crl = \"file:tls/a.crt\"; }",
      "{ ca = \"file:tls/a.crt\"; names = \"a.b\"; }",
      "{ ca = \"file:tls/a.crt\"; names = \"a.c\"; }",
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    assert_true(content(rows[i]) == content(rows[i]));
    for (size_t k = 0; k < i; k++) assert_true(content(rows[i]) != content(rows[k]));
  }
}

static void test_route(void **state) {
  (void)state;
  struct registry *r = registry_new(1);
  struct seen seen = {.refuse = UINT32_MAX};
  uint32_t line = 0;
  struct snapshot *s =
      compiled(r, &seen, "{ ca = \"file:tls/a.crt\"; }",
               "client_cert = { present = true; san = [ \"dns:A.b\", \"ip:0::1\" ]; "
               "fingerprint = \"sha256:" HEX64 "\"; spki = \"sha256:" HEX64 "\"; };",
               &line);
  const struct match_cert_rule *rule = s->routes[0]->rules.cert;
  assert_non_null(rule);
  assert_false(rule->absent);
  assert_int_equal(rule->san_count, 2);
  assert_true(span_eq(rule->sans[0], SPAN_LIT("dns:a.b")));
  assert_true(span_eq(rule->sans[1], SPAN_LIT("ip:::1")));
  assert_int_equal(rule->fingerprint_count, 1);
  assert_int_equal(rule->fingerprints[0][0], 1);
  assert_int_equal(rule->keys[0][31], 0x32);
  drop(r, s);
  s = compiled(r, &seen, "{ ca = \"file:tls/a.crt\"; }", "client_cert = { present = false; };",
               &line);
  assert_true(s->routes[0]->rules.cert->absent);
  drop(r, s);
  s = compiled(r, &seen, "{ ca = \"file:tls/a.crt\"; }", "", &line);
  assert_null(s->routes[0]->rules.cert);
  drop(r, s);
  registry_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows),
                                     cmocka_unit_test(test_a_refusal_is_told_at_its_row),
                                     cmocka_unit_test(test_content), cmocka_unit_test(test_route)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
