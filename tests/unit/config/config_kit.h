/* config_kit.h: what the tests of config/ share: a reader of files that exist only in a table,
 * loading a text, and looking at faults. No test touches a real file but test_reader.c and
 * test_conf.c. */
#ifndef WEIR_TESTS_CONFIG_KIT_H
#define WEIR_TESTS_CONFIG_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <errno.h>
#include <fnmatch.h>

#include "config/load_priv.h"

/* kit_file is one file of the table; text NULL: it is there but cannot be read. */
struct kit_file {
  const char *path, *text;
  int mode;
};

struct kit {
  const struct kit_file *files; /* ends with path NULL */
  const char *const *env;       /* name, value, name, value, NULL */
};

static inline const struct kit_file *kit_find(const struct kit *kit, const char *path) {
  for (const struct kit_file *f = kit->files; f && f->path; f++)
    if (strcmp(f->path, path) == 0) return f;
  return NULL;
}

static inline int kit_read(void *ctx, const char *path, struct text *out) {
  const struct kit_file *f = kit_find(ctx, path);
  if (!f) return -ENOENT;
  if (!f->text) return -EACCES;
  text_put(out, span_str(f->text));
  return 0;
}

static inline int kit_glob(void *ctx, const char *pattern,
                           void (*each)(const char *path, void *arg), void *arg) {
  const struct kit *kit = ctx;
  if (strstr(pattern, "forbidden")) return -EACCES;
  for (const struct kit_file *f = kit->files; f && f->path; f++)
    if (fnmatch(pattern, f->path, FNM_PATHNAME) == 0) each(f->path, arg);
  return 0;
}

static inline const char *kit_env(void *ctx, const char *name) {
  const struct kit *kit = ctx;
  for (const char *const *e = kit->env; e && *e; e += 2)
    if (strcmp(e[0], name) == 0) return e[1];
  return NULL;
}

static inline int kit_mode(void *ctx, const char *path) {
  const struct kit_file *f = kit_find(ctx, path);
  return f ? f->mode : -ENOENT;
}

static inline struct conf_reader kit_reader(const struct kit *kit) {
  return (struct conf_reader){.read = kit_read,
                              .glob = kit_glob,
                              .env = kit_env,
                              .mode = kit_mode,
                              .ctx = (void *)(uintptr_t)kit};
}

#define KIT_TICKET "0123456789abcdef0123456789abcdef0123456789abcde"
/* The files and variables that most tests see. */
static const struct kit_file kit_files[] = {{"/etc/weir/tls/a.crt", "CERT A", 0644},
                                            {"/etc/weir/tls/a.key", "KEY A", 0600},
                                            {"/etc/weir/tls/open.key", "KEY OPEN", 0644},
                                            {"/etc/weir/tls/b.crt", "CERT B", 0644},
                                            {"/etc/weir/tls/b.key", "KEY B", 0600},
                                            {"/etc/weir/tls/denied.key", NULL, 0600},
                                            {"/etc/weir/tls/empty.key", "", 0600},
                                            {"/etc/weir/t1.key", KIT_TICKET "1", 0600},
                                            {"/etc/weir/t2.key", "x" KIT_TICKET, 0600},
                                            {"/etc/weir/t3.key", KIT_TICKET "3", 0600},
                                            {"/etc/weir/sticky.key", "STICKY KEY 12345\n", 0600},
                                            {"/run/cred/web.key", "KEY CRED", 0600},
                                            {"/etc/weir/pages/a.html", "<a>", 0644},
                                            {"/etc/weir/pages/denied.html", NULL, 0644},
                                            {NULL, NULL, 0}};
static const char *const kit_envs[] = {"ADDR",
                                       "127.0.0.1:7",
                                       "TIME",
                                       "7s",
                                       "NUMBER",
                                       "7",
                                       "WRONG",
                                       "x y",
                                       "YES",
                                       "true",
                                       "EMPTY",
                                       "",
                                       "VAR",
                                       "${route.name}",
                                       "KEY",
                                       "KEY ENV",
                                       "CREDENTIALS_DIRECTORY",
                                       "/run/cred",
                                       NULL};
static const struct kit kit_usual = {kit_files, kit_envs};

static inline struct conf *kit_load(const struct kit *kit, const char *text,
                                    struct conf_faults *faults) {
  struct conf_reader reader = kit_reader(kit);
  return conf_load_text(&reader, "/etc/weir/weir.conf", span_str(text), faults);
}

#define KIT_WEB "listeners = { web = { bind = \"127.0.0.1:8080\"; }; };\n"
#define KIT_APP "pools = { app = { endpoints = \"127.0.0.1:9001\"; }; };\n"
#define KIT_ALL "routes = ( { pool = \"app\"; } );\n"

/* kit_good loads a text that must have no error; the faults (warnings) are dropped. A text without
 * listeners gets KIT_WEB before it: there must be one. */
static inline struct conf *kit_good(const char *text) {
  struct conf_faults *faults = conf_faults_new();
  char *whole = mem_printf("%s%s", strstr(text, "listeners") ? "" : KIT_WEB, text);
  struct conf *conf = kit_load(&kit_usual, whole, faults);
  if (!conf) {
    struct text out = {0};
    conf_faults_print(faults, &out, false);
    print_error("%s\n" SPAN_FMT "\n", whole, SPAN_ARG(text_span(&out)));
    text_fini(&out);
  }
  mem_free(whole);
  conf_faults_free(faults);
  assert_non_null(conf);
  return conf;
}

/* kit_compiled is the snapshot of a text that loads; NULL: a TLS hook refused it, at *line. */
static inline struct snapshot *kit_compiled(const struct conf_hooks *hooks, struct registry *r,
                                            const char *text, const struct snapshot *before,
                                            uint32_t *line) {
  struct conf *conf = kit_good(text);
  struct conf_faults *faults = conf_faults_new();
  struct snapshot *s = conf_compile(conf, hooks, r, before, faults);
  struct fault_view view;
  assert_int_equal(faults_view(faults, 0, &view), s == NULL);
  if (!s) assert_int_equal(view.id, FAULT_TLS_REFUSED);
  if (!s) *line = view.line;
  conf_faults_free(faults);
  conf_free(conf);
  return s;
}

/* kit_printed gives what a person would see; the caller frees with text_fini. */
static inline struct text kit_printed(const char *text) {
  struct conf_faults *faults = conf_faults_new();
  struct text out = {0};
  conf_free(kit_load(&kit_usual, text, faults));
  conf_faults_print(faults, &out, false);
  conf_faults_free(faults);
  return out;
}

static inline void kit_assert_text(struct span got, const char *want) {
  if (!span_eq(got, span_str(want)))
    print_error("got:\n" SPAN_FMT "\nwant:\n%s\n", SPAN_ARG(got), want);
  assert_true(span_eq(got, span_str(want)));
}

#endif
