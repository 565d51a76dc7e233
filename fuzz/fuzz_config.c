/* fuzz_config.c: a configuration from any bytes. What must hold: weir's reader and libconfig
 * build the same tree; faults print safely; a conf exists exactly when there is no error; its
 * dump loads to the same dump; it compiles, compiles again to the very same objects, and leaves
 * nothing behind. The bytes after a line "----" are the included file. No files, sockets or
 * clocks. */
#include <errno.h>
#include <stdint.h>

#include "config/load_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* world is what the reader shows. */
struct world {
  struct span included;
};

static int world_read(void *ctx, const char *path, struct text *out) {
  const struct world *world = ctx;
  struct span p = span_str(path);
  if (span_eq(p, SPAN_LIT("/fuzz/inc.conf"))) {
    text_put(out, world->included);
    return 0;
  }
  bool known = span_ends(p, SPAN_LIT(".crt")) || span_ends(p, SPAN_LIT(".key")) ||
               span_ends(p, SPAN_LIT(".html"));
  if (!known) return -ENOENT;
  text_put(out, p);
  return 0;
}

static int world_glob(void *ctx, const char *pattern, void (*each)(const char *path, void *arg),
                      void *arg) {
  (void)ctx;
  if (pattern[0] == '/') each("/fuzz/inc.conf", arg);
  return 0;
}

static const char *world_env(void *ctx, const char *name) {
  (void)ctx;
  struct span s = span_str(name);
  if (span_eq(s, SPAN_LIT("A"))) return "127.0.0.1:1";
  if (span_eq(s, SPAN_LIT("B"))) return "5s";
  if (span_eq(s, SPAN_LIT("N"))) return "7";
  if (span_eq(s, SPAN_LIT("W"))) return "${env:A}\"\\\n";
  if (span_eq(s, SPAN_LIT("CREDENTIALS_DIRECTORY"))) return "/cred";
  return NULL;
}

static int world_mode(void *ctx, const char *path) {
  (void)ctx;
  return strlen(path) % 2 ? 0644 : 0600;
}

/* ---- what is checked ---- */

static void check_printed(const struct conf_faults *faults) {
  struct text plain = {0}, json = {0};
  conf_faults_print(faults, &plain, false);
  conf_faults_json(faults, &json);
  for (size_t i = 0; i < plain.len; i++) {
    unsigned char c = (unsigned char)plain.ptr[i];
    check(c == '\n' || (c >= 0x20 && c != 0x7f));
  }
  check((plain.len == 0) == (fault_total(faults) == 0));
  check(json.len >= 2 && json.ptr[0] == '[' && json.ptr[json.len - 1] == ']');
  struct fault_view view;
  for (uint32_t i = 0; faults_view(faults, i, &view); i++)
    check(!view.line || (view.column >= 1 && view.excerpt.len <= 1024));
  text_fini(&plain);
  text_fini(&json);
}

/* bare drops the origins: what follows two spaces and "#". */
static void bare(struct text *out, struct span dump) {
  struct span line;
  while (span_next_token(&dump, '\n', &line)) {
    for (size_t i = line.len; i > 3; i--) /* the last one: values are quoted before it */
      if (span_starts(span_from(line, i - 3), SPAN_LIT("  #"))) {
        line.len = i - 3;
        break;
      }
    text_put(out, line);
    text_lit(out, "\n");
  }
}

static void check_dump(const struct conf_reader *reader, const struct conf *conf, bool defaults) {
  struct text one = {0}, two = {0}, bare_one = {0}, bare_two = {0};
  conf_dump(conf, &one, defaults);
  struct conf_faults *faults = conf_faults_new();
  struct conf *again = conf_load_text(reader, "/fuzz/dump.conf", text_span(&one), faults);
  check(again != NULL);
  conf_dump(again, &two, defaults);
  bare(&bare_one, text_span(&one));
  bare(&bare_two, text_span(&two));
  check(span_eq(text_span(&bare_one), text_span(&bare_two)));
  conf_free(again);
  conf_faults_free(faults);
  text_fini(&one);
  text_fini(&two);
  text_fini(&bare_one);
  text_fini(&bare_two);
}

/* The fake TLS library refuses certificates whose file is named "bad". */
static struct tls_server *fake_tls(void *ctx, const struct conf_tls *tls, uint32_t *bad_cert,
                                   struct buf *why) {
  int *live = ctx;
  for (uint32_t i = 0; i < tls->cert_count; i++)
    if (span_ends(tls->certs[i].label, SPAN_LIT("bad.crt"))) {
      *bad_cert = i;
      buf_lit(why, "bad certificate");
      return NULL;
    }
  ++*live;
  return (struct tls_server *)live;
}

static void fake_tls_unref(struct tls_server *server) { --*(int *)server; }

/* and CAs that are. */
static struct tls_client *fake_client(void *ctx, const struct conf_upstream_tls *tls,
                                      enum conf_tls_bad *bad, struct buf *why) {
  int *live = ctx;
  check(!tls->verify || tls->ca_label.len);
  if (span_ends(tls->ca_label, SPAN_LIT("bad.crt"))) {
    *bad = CONF_TLS_BAD_CA;
    buf_lit(why, "bad certificate");
    return NULL;
  }
  ++*live;
  return (struct tls_client *)live;
}

static void fake_client_unref(struct tls_client *client) { --*(int *)client; }

static void fake_resolve(void *ctx, const struct name_query *q, struct arena *arena,
                         struct name_answers *out) {
  (void)ctx;
  check(q->name.len > 0 && q->min_ttl_ms <= q->max_ttl_ms && q->retry_ms <= q->max_retry_ms);
  uint32_t count = (uint32_t)(q->name.len % 3);
  struct name_answer *rows = arena_zalloc(arena, 2 * sizeof *rows);
  for (uint32_t i = 0; i < count; i++) {
    check(addr_from_ip(i ? SPAN_LIT("::1") : SPAN_LIT("192.0.2.1"), q->srv ? 80 : 0,
                       &rows[i].addr));
    rows[i].weight = (uint16_t)(i + 1);
    rows[i].priority = (uint8_t)i;
    rows[i].target = q->srv ? SPAN_LIT("h.test") : SPAN_EMPTY;
  }
  *out = (struct name_answers){rows, count};
}

static void check_again(const struct snapshot *a, const struct snapshot *b) {
  struct text out = {0};
  check(a->pool_count == b->pool_count && a->route_count == b->route_count);
  for (uint32_t i = 0; i < a->pool_count; i++) check(a->pools[i] == b->pools[i]);
  for (uint32_t i = 0; i < a->route_count; i++) check(a->routes[i] == b->routes[i]);
  for (uint32_t i = 0; i < a->listener_count; i++)
    check(a->listeners[i].listener == b->listeners[i].listener);
  check(snapshot_diff(a, b, &out, false) == 0 && out.len == 0);
  check(snapshot_diff(NULL, a, &out, true) == a->pool_count + a->route_count + a->listener_count);
  snapshot_mark_published(a, b);
  text_fini(&out);
}

static void check_compile(const struct conf *conf, struct conf_faults *faults) {
  int live = 0;
  struct conf_hooks hooks = {.tls = fake_tls,
                             .tls_unref = fake_tls_unref,
                             .upstream_tls = fake_client,
                             .upstream_tls_unref = fake_client_unref,
                             .resolve = fake_resolve,
                             .connections_max = 448,
                             .ctx = &live};
  struct registry *registry = registry_new(2);
  struct snapshot *one = conf_compile(conf, &hooks, registry, NULL, faults);
  struct snapshot *two = one ? conf_compile(conf, &hooks, registry, one, faults) : NULL;
  check((one == NULL) == faults_has(faults, FAULT_TLS_REFUSED));
  if (one) check_again(one, two);
  snapshot_free(one);
  snapshot_free(two);
  check(object_reap(registry) == 0);
  registry_free(registry);
  check(live == 0);
}

static void split(struct span all, struct span *main, struct span *included) {
  static const struct span mark = SPAN_LIT("\n----\n");
  *main = all;
  *included = SPAN_EMPTY;
  for (size_t i = 0; i < all.len; i++)
    if (span_starts(span_from(all, i), mark)) {
      *main = span_sub(all, 0, i);
      *included = span_from(all, i + mark.len);
      return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct world world;
  struct span main;
  split(span_of((const char *)data, len), &main, &world.included);
  struct conf_reader reader = {
      .read = world_read, .glob = world_glob, .env = world_env, .mode = world_mode, .ctx = &world};
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = conf_load_text(&reader, "/fuzz/main.conf", main, faults);
  check(!faults_has(faults, FAULT_DISAGREE));
  check((conf != NULL) == (conf_faults_errors(faults) == 0));
  if (conf) {
    check_dump(&reader, conf, true);
    check_dump(&reader, conf, false);
    check_compile(conf, faults);
  }
  check_printed(faults);
  conf_free(conf);
  conf_faults_free(faults);
  return 0;
}
