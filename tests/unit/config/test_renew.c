/* test_renew.c: files that are read again while weir runs: which bytes are in use afterwards,
 * whatever the hooks say is bad; how many files are refused, and that the same is told once. What
 * certificates have to be is tried from outside (tests/e2e/test_tls_files.py). */
#include <stdio.h>

#include "config_kit.h"

/* Of these files the last letter says what fits to what, a '!' that it is no good, and a '?' that
 * it is nothing at all. */
enum file {
  CERT,
  KEY,
  OCSP,
  SECOND,
  SECOND_KEY,
  CA,
  CRL,
  CRL_TWO,
  ECH,
  POOL_CA,
  POOL_CERT,
  POOL_KEY,
  FILES
};
static struct kit_file files[FILES + 1] = {
    {"/a.crt", "A", 0644}, {"/a.key", "A", 0600}, {"/a.ocsp", "A", 0644}, {"/b.crt", "B", 0644},
    {"/b.key", "B", 0600}, {"/ca", "A", 0644},    {"/crl", "A", 0644},    {"/crl2", "A", 0644},
    {"/ech", "A", 0600},   {"/p.ca", "A", 0644},  {"/p.crt", "A", 0644},  {"/p.key", "A", 0600},
    {NULL, NULL, 0}};
static const struct kit kit = {files, NULL};
static const char *const first[FILES] = {"A", "A", "A", "B", "B", "A",
                                         "A", "A", "A", "A", "A", "A"};

static const char text[] =
    "listeners = { s = { bind = \"127.0.0.1:1\"; tls = { ech = \"file:/ech\"; certificates = (\n"
    "{ cert = \"file:/a.crt\"; key = \"file:/a.key\"; ocsp = \"file:/a.ocsp\"; },\n"
    "{ cert = \"file:/b.crt\"; key = \"file:/b.key\"; } );\n"
    "client = ( { ca = \"file:/ca\"; crl = [ \"file:/crl\", \"file:/crl2\" ]; } ); }; }; };\n"
    "pools = { app = { endpoints = \"127.0.0.1:2\"; tls = { ca = \"file:/p.ca\";\n"
    "cert = \"file:/p.crt\"; key = \"file:/p.key\"; }; }; };\n" KIT_ALL;

/* world is what the hooks were given last and said yes to. */
struct world {
  struct conf_hooks hooks;
  uint32_t tried, live;
};

static bool good(struct span s) { return span_find_char(s, '!', 0) == SIZE_MAX; }

static bool fits(struct span a, struct span b) {
  return a.len && b.len && a.ptr[a.len - 1] == b.ptr[b.len - 1];
}

static uint32_t bad_of(const struct conf_tls *tls) {
  for (uint32_t i = 0; i < tls->cert_count; i++) {
    const struct conf_cert *c = &tls->certs[i];
    if (!good(c->cert_pem) || !fits(c->cert_pem, c->key_pem)) return i;
    if (c->ocsp_der.len && !fits(c->cert_pem, c->ocsp_der)) return i | CONF_TLS_BAD_OCSP;
  }
  if (fits(tls->certs[0].cert_pem, tls->certs[1].cert_pem)) return 1; /* the same name */
  if (!good(tls->clients[0].ca_pem) || !good(tls->clients[0].crl_pem)) return CONF_BAD_CLIENT;
  return good(tls->ech_pem) ? UINT32_MAX : CONF_TLS_BAD_ECH;
}

static struct tls_server *on_tls(void *ctx, const struct conf_tls *tls, uint32_t *bad,
                                 struct buf *why) {
  struct world *w = ctx;
  w->tried++;
  uint32_t found = bad_of(tls);
  if (found == UINT32_MAX) {
    w->live++;
    return (struct tls_server *)w;
  }
  *bad = found;
  buf_lit(why, "it is no good");
  return NULL;
}
static void on_tls_unref(struct tls_server *server) { ((struct world *)server)->live--; }

static struct tls_client *on_pool(void *ctx, const struct conf_upstream_tls *tls,
                                  enum conf_tls_bad *bad, struct buf *why) {
  struct world *w = ctx;
  w->tried++;
  bool ca = good(tls->ca_pem), cert = good(tls->cert_pem) && fits(tls->cert_pem, tls->key_pem);
  if (ca && cert) {
    w->live++;
    return (struct tls_client *)w;
  }
  /* '#': the hook takes what is wrong with the CAs for the certificate's fault. */
  bool wrong = span_find_char(tls->ca_pem, '#', 0) != SIZE_MAX;
  *bad = ca || wrong ? CONF_TLS_BAD_CERT : CONF_TLS_BAD_CA;
  buf_lit(why, "it is no good");
  return NULL;
}
static void on_pool_unref(struct tls_client *client) { ((struct world *)client)->live--; }

static bool on_pem(struct span pem, struct span label, bool crl, struct buf *why) {
  assert_true(crl == span_ends(label, SPAN_LIT("crl")) || span_ends(label, SPAN_LIT("crl2")));
  if (span_find_char(pem, '?', 0) == SIZE_MAX) return true;
  buf_lit(why, "there is nothing in it");
  return false;
}

static void in_use(struct conf *conf, const char *out[FILES], char bytes[FILES][8]) {
  const struct conf_listener *l = (struct conf_listener *)conf->root.listeners.first;
  const struct conf_cert_row *a = (struct conf_cert_row *)l->certs.first;
  const struct conf_cert_row *b = (struct conf_cert_row *)a->row.next;
  const struct conf_client_auth *c = (struct conf_client_auth *)l->clients.first;
  const struct conf_pool_tls *p = &((struct conf_pool *)conf->root.pools.first)->tls;
  const struct text *all[FILES] = {&a->cert_pem, &a->key_pem, &a->ocsp_der,   &b->cert_pem,
                                   &b->key_pem,  c->ca_pem,   &c->crl_pem[0], &c->crl_pem[1],
                                   &l->ech_pem,  &p->ca_pem,  &p->cert_pem,   &p->key_pem};
  for (int i = 0; i < FILES; i++) {
    snprintf(bytes[i], sizeof bytes[i], SPAN_FMT, SPAN_ARG(text_span(all[i])));
    out[i] = bytes[i];
  }
}

/* change is the new content of a file (NULL: it cannot be read), and whether it is taken. */
struct change {
  enum file file;
  const char *text;
  bool taken;
};
struct row {
  struct change changes[8];
  uint32_t count, told;
};
#define ROW(told, ...) \
  { {__VA_ARGS__}, sizeof((struct change[]){__VA_ARGS__}) / sizeof(struct change), told }

static const struct row rows[] = {
    ROW(0, {CERT, "A", true}), /* as it is */
    ROW(0, {CERT, "xA", true}, {KEY, "yA", true}),
    ROW(0, {CERT, "C", true}, {KEY, "C", true}, {OCSP, "C", true}),
    /* a certificate and what belongs to it */
    ROW(1, {CERT, "C", false}),
    ROW(1, {CERT, "C", false}, {KEY, "C", false}), /* the response is about the old one */
    ROW(1, {CERT, "!", false}, {KEY, "C", false}, {OCSP, "2A", true}),
    ROW(1, {OCSP, "X", false}, {CERT, "2A", true}),
    ROW(1, {CERT, "C", false}, {KEY, NULL, false}, {OCSP, "2A", true}),
    ROW(1, {CERT, NULL, false}, {KEY, "2A", false}),
    /* others of the same listener */
    ROW(1, {SECOND, "!", false}, {CERT, "2A", true}, {CRL, "2", true}, {ECH, "2", true}),
    ROW(1, {SECOND, "2B", true}, {ECH, "!", false}, {CRL, "2", true}),
    ROW(1, {CRL, "!", false}, {CA, "2", true}, {SECOND, "2B", true}),
    ROW(1, {CA, "!", false}, {CRL, "2", true}),
    ROW(2, {CA, "!", false}, {CRL, "!", false}, {ECH, "2", true}),
    ROW(1, {CA, NULL, false}, {CRL, "2", true}),
    /* of one list */
    ROW(1, {CRL, NULL, false}, {CRL_TWO, "2", true}),
    ROW(1, {CRL, "?", false}, {CRL_TWO, "2", true}, {CA, "2", true}),
    ROW(2, {CRL, "?", false}, {CA, "?", false}, {CRL_TWO, "2", true}),
    ROW(1, {CRL, "!", false}, {CRL_TWO, "2", false}, {CA, "2", true}), /* refused together */
    ROW(4, {CERT, "!", false}, {SECOND, "!", false}, {CA, "!", false}, {ECH, "!", false},
        {CRL, "2", true}, {POOL_CA, "2", true}),
    /* blamed is the one that was there before: one is told, whatever was tried */
    ROW(1, {CERT, "B", false}, {KEY, "B", false}, {OCSP, "B", false}, {CRL, "2", true}),
    /* so that what is innocent may be stepped back first: it is taken in the end, and not named */
    ROW(1, {CERT, "B", false}, {KEY, "B", false}, {OCSP, "B", false}, {ECH, "2", true}),
    ROW(1, {CERT, "B", false}, {KEY, "B", false}, {OCSP, "B", false}, {SECOND, "2B", true},
        {SECOND_KEY, "2B", true}),
    /* a pool */
    ROW(1, {POOL_CA, "!", false}, {POOL_CERT, "C", true}, {POOL_KEY, "C", true}),
    ROW(1, {POOL_CA, "2", true}, {POOL_CERT, "C", false}),
    ROW(2, {POOL_CA, "!", false}, {POOL_CERT, "C", false}, {CRL, "2", true}),
    ROW(1, {POOL_KEY, NULL, false}, {POOL_CERT, "C", false}, {POOL_CA, "2", true}),
};

static uint32_t refused_by(const struct row *row) {
  uint32_t refused = 0;
  for (uint32_t i = 0; i < row->count; i++) refused += !row->changes[i].taken;
  return refused;
}

static void check_in_use(struct conf *conf, const char *const want[FILES], size_t row) {
  const char *now[FILES];
  char bytes[FILES][8];
  in_use(conf, now, bytes);
  for (int i = 0; i < FILES; i++)
    if (strcmp(now[i], want[i]) != 0)
      fail_msg("row %zu: %s has %s, not %s", row, files[i].path, now[i], want[i]);
}

static void world_hooks(struct world *w) {
  w->hooks = (struct conf_hooks){.tls = on_tls,
                                 .tls_unref = on_tls_unref,
                                 .tls_pem = on_pem,
                                 .upstream_tls = on_pool,
                                 .upstream_tls_unref = on_pool_unref,
                                 .ctx = w};
}

/* begun is the configuration of the files as they were first; ended lets go of it. */
static struct conf *begun(struct world *w, struct conf_faults **faults) {
  *w = (struct world){0};
  world_hooks(w);
  *faults = conf_faults_new();
  for (int i = 0; i < FILES; i++) files[i].text = first[i];
  struct conf *conf = kit_load(&kit, text, *faults);
  assert_non_null(conf);
  return conf;
}

static void ended(struct conf *conf, struct conf_faults *faults) {
  conf_faults_free(faults);
  conf_free(conf);
}

static void count_name(struct span name, void *ctx) {
  assert_true(span_starts(name, SPAN_LIT("file:/")));
  ++*(uint32_t *)ctx;
}

/* mended is how many files are told to be good again. */
static uint32_t mended(struct conf *conf) {
  uint32_t count = 0;
  conf_mended(conf, count_name, &count);
  return count;
}

static void one_row(size_t at) {
  const struct row *row = &rows[at];
  struct world w = {0};
  world_hooks(&w);
  struct conf_faults *faults = conf_faults_new();
  struct conf_reader reader = kit_reader(&kit);
  struct conf_renewed out;
  const char *want[FILES];
  for (int i = 0; i < FILES; i++) want[i] = files[i].text = first[i];
  struct conf *conf = kit_load(&kit, text, faults);
  assert_non_null(conf);
  uint32_t before = conf_faults_errors(faults);
  for (uint32_t i = 0; i < row->count; i++) {
    const struct change *c = &row->changes[i];
    files[c->file].text = c->text;
    if (c->taken) want[c->file] = c->text;
  }
  for (int again = 0; again < 2; again++) {
    conf_renew(conf, &reader, &w.hooks, faults, &out);
    check_in_use(conf, want, at);
    if (out.refused != refused_by(row)) fail_msg("row %zu: %u refused", at, out.refused);
    if ((out.told > 0) != (row->told > 0 && !again)) fail_msg("row %zu: %u told", at, out.told);
    if (conf_faults_errors(faults) - before != row->told)
      fail_msg("row %zu: %u faults", at, conf_faults_errors(faults) - before);
    assert_int_equal(w.live, 0);
    assert_int_equal(mended(conf), 0);
  }
  for (int i = 0; i < FILES; i++) files[i].text = first[i];
  for (int again = 0; again < 2; again++) { /* told once */
    conf_renew(conf, &reader, &w.hooks, faults, &out);
    check_in_use(conf, first, at);
    assert_true(out.refused == 0 && out.told == 0);
    assert_int_equal(mended(conf), again ? 0 : refused_by(row));
  }
  ended(conf, faults);
}

static void what_is_good_is_taken(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(rows); i++) one_row(i);
}

/* A bad file that was refused before costs no try when another changes, and what was refused for
 * another's sake is taken when that one is gone. */
static void what_is_known_is_tried_last(void **state) {
  (void)state;
  struct world w;
  struct conf_faults *faults;
  struct conf_reader reader = kit_reader(&kit);
  struct conf_renewed out;
  struct conf *conf = begun(&w, &faults);
  files[CERT].text = files[KEY].text = files[OCSP].text = "B"; /* the name of the second one */
  files[CA].text = "!";
  conf_renew(conf, &reader, &w.hooks, faults, &out);
  assert_int_equal(out.refused, 4);
  w.tried = 0;
  conf_renew(conf, &reader, &w.hooks, faults, &out);
  assert_int_equal(w.tried, 0); /* nothing is new */
  assert_true(out.refused == 4 && !out.changed && !out.told);
  files[SECOND].text = files[SECOND_KEY].text = "C"; /* so that the first may have that name */
  conf_renew(conf, &reader, &w.hooks, faults, &out);
  assert_true(out.changed && out.refused == 1 && !out.told);
  assert_int_equal(w.tried, 3); /* it alone, then with each of the two */
  for (int i = 0; i < FILES; i++) files[i].text = first[i];
  ended(conf, faults);
}

/* A pool without CAs of its own has the system's, which are another unit than its certificate. */
static struct kit_file pool_files[] = {{"/etc/ssl/certs/ca-certificates.crt", "A", 0644},
                                       {"/p.crt", "A", 0644},
                                       {"/p.key", "A", 0600},
                                       {NULL, NULL, 0}};
static const struct kit pool_kit = {pool_files, NULL};

static void pool_files_are(const char *store, const char *cert) {
  pool_files[0].text = store;
  pool_files[1].text = pool_files[2].text = cert;
}

static void assert_pool_uses(const struct conf *conf, const char *store, const char *cert) {
  const struct conf_pool *pool = (const struct conf_pool *)conf->root.pools.first;
  kit_assert_text(text_span(&conf->system_pem), store);
  kit_assert_text(text_span(&pool->tls.cert_pem), cert);
  kit_assert_text(text_span(&pool->tls.key_pem), cert);
}

/* What a pool stepped back on a guess is taken when its policy stands; so is what was refused for
 * the store's sake, when that changes. */
static void a_pool_takes_what_was_innocent(void **state) {
  (void)state;
  struct world w = {0};
  world_hooks(&w);
  struct conf_faults *faults = conf_faults_new();
  struct conf_reader reader = kit_reader(&pool_kit);
  struct conf_renewed out;
  pool_files_are("A", "A");
  struct conf *conf = kit_load(&pool_kit,
                               KIT_WEB
                               "pools = { app = { endpoints = \"127.0.0.1:2\"; tls = { "
                               "cert = \"file:/p.crt\"; key = \"file:/p.key\"; }; }; };\n" KIT_ALL,
                               faults);
  assert_non_null(conf);
  pool_files_are("!#", "C");
  conf_renew(conf, &reader, &w.hooks, faults, &out);
  assert_pool_uses(conf, "A", "C");
  assert_true(out.changed && out.refused == 1 && out.told == 1);
  pool_files_are("!#", "!");
  conf_renew(conf, &reader, &w.hooks, faults, &out);
  assert_pool_uses(conf, "A", "C");
  assert_int_equal(out.refused, 3);
  w.tried = 0;
  pool_files_are("2", "!");
  conf_renew(conf, &reader, &w.hooks, faults, &out);
  assert_pool_uses(conf, "2", "C");
  assert_int_equal(w.tried, 2); /* the store alone, then with what was refused before */
  assert_int_equal(out.refused, 2);
  assert_int_equal(w.live, 0);
  ended(conf, faults);
}

/* Where the hook blames what is in service already, the fault names what is new, too. */
static void what_is_new_is_named(void **state) {
  (void)state;
  struct world w;
  struct conf_faults *faults;
  struct conf_reader reader = kit_reader(&kit);
  struct conf_renewed out;
  struct text told = {0};
  struct conf *conf = begun(&w, &faults);
  files[CERT].text = files[KEY].text = files[OCSP].text = "B"; /* the name of the second one */
  files[SECOND].text = files[SECOND_KEY].text = "2B";
  conf_renew(conf, &reader, &w.hooks, faults, &out);
  conf_faults_print(faults, &told, false);
  text_put(&told, span_of("", 1));
  if (!strstr(told.ptr, "/b.crt") || strstr(told.ptr, "1 error") == NULL ||
      !strstr(told.ptr,
              "that is in service already; what is new does not go with it: file:/a.crt"))
    fail_msg("%s", told.ptr);
  for (int i = 0; i < FILES; i++) files[i].text = first[i];
  text_fini(&told);
  ended(conf, faults);
}

/* With nothing new no policy is made. */
static void nothing_new(void **state) {
  (void)state;
  struct world w;
  struct conf_faults *faults;
  struct conf_reader reader = kit_reader(&kit);
  struct conf_renewed out;
  struct conf *conf = begun(&w, &faults);
  conf_renew(conf, &reader, &w.hooks, faults, &out);
  assert_true(!out.changed && w.tried == 0);
  files[CRL].text = "2";
  conf_renew(conf, &reader, &w.hooks, faults, &out);
  assert_true(out.changed && w.tried == 1); /* the listener's, not the pool's */
  ended(conf, faults);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_good_is_taken),
      cmocka_unit_test(what_is_known_is_tried_last),
      cmocka_unit_test(a_pool_takes_what_was_innocent),
      cmocka_unit_test(what_is_new_is_named),
      cmocka_unit_test(nothing_new),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
