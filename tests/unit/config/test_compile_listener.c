/* test_compile_listener.c: protocols and h2 of a listener from text to model/: bits, what ALPN
 * says and in which order, that a TLS policy is another one when that changes; how `weir dump` has
 * it. */
#include "config_kit.h"

#include <stdio.h>

#define TLS \
  "tls = { certificates = ( { cert = \"file:tls/a.crt\"; key = \"file:tls/a.key\"; } ); };"

/* seen is what the hook was told. */
struct seen {
  char offered[4200];
  bool optional;
  uint64_t content;
};

static struct tls_server *make_tls(void *ctx, const struct conf_tls *tls, uint32_t *bad_cert,
                                   struct buf *why) {
  struct seen *seen = ctx;
  (void)bad_cert;
  (void)why;
  snprintf(seen->offered, sizeof seen->offered, SPAN_FMT, SPAN_ARG(tls->alpn));
  seen->optional = tls->alpn_optional;
  seen->content = tls->content;
  return ctx;
}

static void drop_tls(struct tls_server *server) { (void)server; }

/* made is a snapshot with one listener, web. */
struct made {
  struct registry *registry;
  struct snapshot *snapshot;
  const struct listener *web;
  struct text dump;
  struct seen seen;
};

static void make_of(struct made *m, const char *text) {
  *m = (struct made){.registry = registry_new(1)};
  const struct conf_hooks hooks = {.tls = make_tls, .tls_unref = drop_tls, .ctx = &m->seen};
  struct conf *conf = kit_good(text);
  struct conf_faults *faults = conf_faults_new();
  m->snapshot = conf_compile(conf, &hooks, m->registry, NULL, faults);
  assert_non_null(m->snapshot);
  m->web = snapshot_find_listener(m->snapshot, SPAN_LIT("web"))->listener;
  conf_dump(conf, &m->dump, true);
  text_put(&m->dump, span_of("", 1));
  conf_faults_free(faults);
  conf_free(conf);
}

static void make(struct made *m, const char *keys) {
  char *text = mem_printf("listeners = { web = { bind = \"127.0.0.1:8080\"; %s }; };\n%s%s", keys,
                          KIT_APP, KIT_ALL);
  make_of(m, text);
  mem_free(text);
}

/* make_tcp: the listener web serves TCP. */
static void make_tcp(struct made *m, const char *keys) {
  char *text = mem_printf(
      "listeners = { web = { bind = \"127.0.0.1:8080\"; protocol = \"tcp\"; "
      "pool = \"app\"; %s }; };\n%s",
      keys, KIT_APP);
  make_of(m, text);
  mem_free(text);
}

static void made_free(struct made *m) {
  snapshot_free(m->snapshot);
  object_reap(m->registry);
  registry_free(m->registry);
  text_fini(&m->dump);
}

static void test_protocols(void **state) {
  (void)state;
  static const struct {
    const char *keys;
    uint32_t protocols;
    const char *alpn, *dump;
  } rows[] = {
      {"", LISTENER_HTTP_1_1, "", "[ \"http/1.1\" ];  # default"},
      {"protocols = \"http/1.1\";", LISTENER_HTTP_1_1, "", "[ \"http/1.1\" ];  # weir.conf:1"},
      {"protocols = \"h2c\";", LISTENER_H2C, "", "[ \"h2c\" ];  # weir.conf:1"},
      {"protocols = [ \"h2c\", \"http/1.1\" ];", LISTENER_H2C | LISTENER_HTTP_1_1, "",
       "[ \"h2c\", \"http/1.1\" ];  # weir.conf:1"},
      {TLS, LISTENER_H2 | LISTENER_HTTP_1_1, "\x02h2\x08http/1.1",
       "[ \"h2\", \"http/1.1\" ];  # default"},
      {TLS "protocols = [ \"http/1.1\", \"h2\" ];", LISTENER_H2 | LISTENER_HTTP_1_1,
       "\x08http/1.1\x02h2", "[ \"http/1.1\", \"h2\" ];  # weir.conf:1"},
      {TLS "protocols = \"http/1.1\";", LISTENER_HTTP_1_1, "\x08http/1.1",
       "[ \"http/1.1\" ];  # weir.conf:1"},
      {"protocols = \"h2\";" TLS, LISTENER_H2, "\x02h2", "[ \"h2\" ];  # weir.conf:1"},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct made m;
    make(&m, rows[i].keys);
    assert_int_equal(m.web->protocols, rows[i].protocols);
    kit_assert_text(m.web->alpn, rows[i].alpn);
    assert_string_equal(m.seen.offered, rows[i].alpn);
    char *line = mem_printf("\n    protocols = %s\n", rows[i].dump);
    if (!strstr(m.dump.ptr, line)) print_error("no %s in\n%s\n", line, m.dump.ptr);
    assert_non_null(strstr(m.dump.ptr, line));
    mem_free(line);
    made_free(&m);
  }
}

/* Over TCP any names are chosen from, in their order, and none without the key. */
static void test_tcp(void **state) {
  (void)state;
  static const struct {
    const char *keys, *alpn, *dump;
  } rows[] = {
      {"", "", NULL},
      {TLS, "", NULL},
      {TLS "protocols = \"postgresql\";", "\x0apostgresql", "[ \"postgresql\" ]"},
      {TLS "protocols = [ \"imap\", \"h2\", \"a b\\xff\" ];",
       "\x04imap\x02h2\x04"
       "a b\xff",
       "[ \"imap\", \"h2\", \"a b\xff\" ]"},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct made m;
    make_tcp(&m, rows[i].keys);
    assert_int_equal(m.web->protocols, 0);
    kit_assert_text(m.web->alpn, rows[i].alpn);
    assert_string_equal(m.seen.offered, rows[i].alpn);
    assert_int_equal(m.seen.optional, *rows[i].keys != 0);
    const char *line = strstr(m.dump.ptr, "\n    protocols = ");
    assert_int_equal(line != NULL, rows[i].dump != NULL);
    if (line) assert_memory_equal(line + 17, rows[i].dump, strlen(rows[i].dump));
    made_free(&m);
  }
  struct made http;
  make(&http, TLS);
  assert_false(http.seen.optional);
  made_free(&http);
}

/* As many names as there may be, each as long as one may be. */
static void test_tcp_longest(void **state) {
  (void)state;
  struct text keys = {0};
  struct made m;
  text_printf(&keys, TLS "protocols = [ ");
  for (int i = 0; i < 16; i++) text_printf(&keys, "%s\"%x%0254d\"", i ? ", " : "", i, 0);
  text_printf(&keys, " ];%c", 0);
  make_tcp(&m, keys.ptr);
  assert_int_equal(m.web->alpn.len, 16 * 256);
  for (size_t i = 0; i < 16; i++) {
    assert_int_equal((uint8_t)m.web->alpn.ptr[256 * i], 255);
    assert_int_equal(m.web->alpn.ptr[256 * i + 1], "0123456789abcdef"[i]);
  }
  made_free(&m);
  text_fini(&keys);
}

/* A policy is kept by its content (control/secrets.c): what is offered is a part of it. */
static void test_content(void **state) {
  (void)state;
  struct made one, other, sizes;
  make(&one, TLS "protocols = \"http/1.1\";");
  make(&other, TLS "protocols = \"h2\";");
  make(&sizes, TLS "protocols = \"h2\"; h2 = { streams = 1; };");
  assert_true(one.seen.content != other.seen.content);
  assert_true(other.seen.content == sizes.seen.content); /* no certificate is read again for it */
  assert_true(other.web->obj.content != sizes.web->obj.content);
  made_free(&one);
  made_free(&other);
  made_free(&sizes);
}

static void test_h2(void **state) {
  (void)state;
  struct made m;
  make(&m, TLS);
  const struct listener_h2 *h2 = &m.web->h2;
  assert_int_equal(h2->streams, 128);
  assert_int_equal(h2->stream_window, 64 << 10);
  assert_int_equal(h2->window, 1 << 20);
  assert_int_equal(h2->resets, 100);
  assert_int_equal(h2->glitches, 1000);
  assert_int_equal(h2->age_ms, 0);
  made_free(&m);
  make(&m, TLS
       "h2 = { streams = 4096; stream_window = \"16MiB\"; window = \"16MiB\"; "
       "resets = 1; glitches = 2; age = \"90s\"; };");
  h2 = &m.web->h2;
  assert_int_equal(h2->streams, 4096);
  assert_int_equal(h2->stream_window, 16 << 20);
  assert_int_equal(h2->window, 16 << 20);
  assert_int_equal(h2->resets, 1);
  assert_int_equal(h2->glitches, 2);
  assert_int_equal(h2->age_ms, 90000);
  made_free(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_protocols), cmocka_unit_test(test_tcp),
                                     cmocka_unit_test(test_tcp_longest),
                                     cmocka_unit_test(test_content), cmocka_unit_test(test_h2)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
