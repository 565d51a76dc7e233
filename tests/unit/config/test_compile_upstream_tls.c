/* test_compile_upstream_tls.c: the TLS policy of a pool from text to the hook: what is offered and
 * trusted, that equal policies are equal whatever the pool, that a refusal refuses all, and that
 * checks get what requests get. */
#include "config_kit.h"

#define POOL_OF(name, keys) name " = { endpoints = \"127.0.0.1:1\"; " keys " };\n"
#define CA "ca = \"file:tls/a.crt\"; "

struct seen {
  struct conf_upstream_tls last; /* its spans are gone */
  char alpn[32], sni[32], name[32];
  uint64_t contents[8];
  uint32_t count;
  int live;
  enum conf_tls_bad refuse;
};

static void keep(char *to, size_t cap, struct span s) {
  struct buf b = buf_of(to, cap - 1);
  buf_put(&b, s);
  to[b.len] = 0;
}

static struct tls_client *make_tls(void *ctx, const struct conf_upstream_tls *tls,
                                   enum conf_tls_bad *bad, struct buf *why) {
  struct seen *seen = ctx;
  seen->last = *tls;
  keep(seen->alpn, sizeof seen->alpn, tls->alpn);
  keep(seen->sni, sizeof seen->sni, tls->sni);
  keep(seen->name, sizeof seen->name, tls->name_count ? tls->names[0] : SPAN_EMPTY);
  seen->contents[seen->count++ % array_count(seen->contents)] = tls->content;
  assert_true(!tls->verify || (tls->ca_pem.len > 0 && tls->ca_label.len > 0));
  *bad = seen->refuse;
  if (seen->refuse) buf_lit(why, "no good");
  if (seen->refuse) return NULL;
  seen->live++;
  return (struct tls_client *)seen;
}

static void drop_tls(struct tls_client *client) { ((struct seen *)client)->live--; }

/* compiled is a snapshot of pools; NULL: refused, at *line. */
static struct snapshot *compiled(struct registry *r, struct seen *seen, const char *pools,
                                 const struct snapshot *before, uint32_t *line) {
  const struct conf_hooks hooks = {
      .upstream_tls = make_tls, .upstream_tls_unref = drop_tls, .ctx = seen};
  char *text = mem_printf(KIT_WEB "pools = {\n%s};\n" KIT_ALL, pools);
  struct snapshot *s = kit_compiled(&hooks, r, text, before, line);
  mem_free(text);
  return s;
}

static void test_policies(void **state) {
  (void)state;
  static const struct {
    const char *pool, *alpn, *sni, *name;
    bool verify, h2_only;
    uint16_t min;
    uint32_t pins;
  } rows[] = {
      {POOL_OF("app", "tls = { " CA "};"), "\x02h2\x08http/1.1", "", "", true, false, 0x0303, 0},
      {POOL_OF("app", "tls = { " CA "sni = \"A.b\"; names = [ \"C.d\", \"10.0.0.1\" ]; };"),
       "\x02h2\x08http/1.1", "a.b", "c.d", true, false, 0x0303, 0},
      {POOL_OF("app", "tls = { " CA "min_version = \"1.3\"; }; connections = { protocol = "
                      "\"h2\"; };"),
       "\x02h2", "", "", true, true, 0x0304, 0},
      {POOL_OF("app", "tls = { verify = \"none\"; pins = \"sha256:"
                      "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeFF\"; }; "
                      "connections = { protocol = \"http/1.1\"; };"),
       "\x08http/1.1", "", "", false, false, 0x0303, 1},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct seen seen = {.count = 0};
    struct registry *r = registry_new(1);
    struct snapshot *s = compiled(r, &seen, rows[i].pool, NULL, NULL);
    const struct pool *pool = snapshot_find_pool(s, SPAN_LIT("app"));
    assert_ptr_equal(pool->tls, &seen);
    assert_ptr_equal(pool->health.tls, &seen);
    assert_string_equal(seen.alpn, rows[i].alpn);
    assert_string_equal(seen.sni, rows[i].sni);
    assert_string_equal(seen.name, rows[i].name);
    assert_int_equal(seen.last.verify, rows[i].verify);
    assert_int_equal(seen.last.h2_only, rows[i].h2_only);
    assert_int_equal(seen.last.min_version, rows[i].min);
    assert_int_equal(seen.last.pin_count, rows[i].pins);
    snapshot_free(s);
    object_reap(r);
    registry_free(r);
    assert_int_equal(seen.live, 0);
  }
}

static void test_equal_policies(void **state) {
  (void)state;
  struct seen seen = {.count = 0};
  struct registry *r = registry_new(1);
  struct snapshot *s = compiled(r, &seen,
                                POOL_OF("app", "tls = { " CA "};")
                                POOL_OF("b", "tls = { " CA "}; balance = \"random\";")
                                POOL_OF("c", "tls = { ca = \"file:tls/b.crt\"; };")
                                POOL_OF("d", "tls = { " CA "sni = \"a.b\"; };")
                                POOL_OF("e", ""),
                                NULL, NULL);
  assert_int_equal(seen.count, 4);
  assert_true(seen.contents[0] == seen.contents[1]);
  assert_true(seen.contents[0] != seen.contents[2] && seen.contents[0] != seen.contents[3]);
  assert_null(snapshot_find_pool(s, SPAN_LIT("e"))->tls);
  /* An unchanged pool is taken again, and asks for nothing. */
  struct snapshot *next =
      compiled(r, &seen, POOL_OF("app", "tls = { " CA "};") POOL_OF("e", "tls = { " CA "};"), s,
               NULL);
  assert_int_equal(seen.count, 5);
  assert_ptr_equal(snapshot_find_pool(next, SPAN_LIT("app")),
                   snapshot_find_pool(s, SPAN_LIT("app")));
  snapshot_free(s);
  snapshot_free(next);
  object_reap(r);
  registry_free(r);
  assert_int_equal(seen.live, 0);
}

/* Neither plaintext in its place nor a part of the rest: nothing is published (THREATS row 17). */
static void test_refused(void **state) {
  (void)state;
  static const char pools[] =
      "app = { endpoints = \"127.0.0.1:1\"; tls = {\n ca = \"file:tls/a.crt\";\n "
      "cert = \"file:tls/a.crt\"; key = \"file:tls/a.key\"; }; };\n";
  static const struct {
    enum conf_tls_bad bad;
    uint32_t line;
  } rows[] = {{CONF_TLS_BAD_CA, 4}, {CONF_TLS_BAD_CERT, 5}};
  for (size_t i = 0; i < array_count(rows); i++) {
    struct seen seen = {.refuse = rows[i].bad};
    struct registry *r = registry_new(1);
    uint32_t line = 0;
    assert_null(compiled(r, &seen, pools, NULL, &line));
    assert_int_equal(line, rows[i].line);
    object_reap(r);
    registry_free(r);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_policies),
      cmocka_unit_test(test_equal_policies),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
