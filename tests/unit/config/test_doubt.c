/* test_doubt.c: many faults of one file at once (many_cases.def): each is told once, at its place,
 * with its suggestion, whatever else is wrong; and none is told that only follows from another. */
#include "config_kit.h"

enum part {
  ROOT,
  WEB,
  SAFE,
  SAFE_TLS,
  CERT,
  RAW,
  RAW_PROTOCOL,
  DATA,
  POOL,
  ENDPOINTS,
  POOL_TLS,
  POLICY,
  ROUTE,
  REDIRECT,
  RESPOND,
  PARTS
};

/* frame is the good file: what stands before each part, and in it, unless a piece has that key. */
static const struct {
  const char *before, *key, *good;
} frame[PARTS] = {
    [WEB] = {"\nlisteners = { web = { bind = \"127.0.0.1:8080\";\n  ", NULL, NULL},
    [SAFE] = {"\n};\nsafe = { bind = \"127.0.0.1:8443\";\n  ", NULL, NULL},
    [SAFE_TLS] = {"\n  tls = {\n    ", NULL, NULL},
    [CERT] = {"\n    certificates = ( {\n      ", "cert",
              "cert = \"file:tls/a.crt\"; key = \"file:tls/a.key\";"},
    [RAW] = {"\n } ); }; };\nraw = { bind = \"127.0.0.1:7000\";\n  ", "pool", "pool = \"raw\";"},
    [RAW_PROTOCOL] = {"\n  ", "protocol", "protocol = \"tcp\";"},
    [DATA] = {"\n};\ndata = { bind = \"127.0.0.1:7001\"; protocol = \"udp\"; pool = \"udp\";\n  ",
              NULL, NULL},
    [POOL] = {"\n}; };\npools = { raw = { endpoints = \"127.0.0.1:9002\"; };\n"
              "udp = { endpoints = \"127.0.0.1:9003\"; };\napp = {\n  ",
              NULL, NULL},
    [ENDPOINTS] = {"\n  ", "endpoints", "endpoints = \"127.0.0.1:9001\";"},
    [POOL_TLS] = {"\n};\nsec = { endpoints = \"a.b:443\"; tls = {\n  ", NULL, NULL},
    [POLICY] = {"\n}; }; };\npolicies = { own = { deny = \"10.0.0.0/8\"; }; p = {\n  ", NULL,
                NULL},
    [ROUTE] = {"\n}; };\n"
               "routes = ( { pool = \"sec\"; prefix = \"/sec\"; policies = \"p\"; }, {\n  ",
               "pool", "pool = \"app\";"},
    [REDIRECT] = {"\n}, { prefix = \"/old\";\n  ", "redirect", "redirect = { to = \"/\"; };"},
    [RESPOND] = {"\n}, { prefix = \"/no\";\n  ", "respond", "respond = { status = 404; };"},
};
#define FRAME_END "\n} );\n"

struct piece {
  enum part part;
  const char *key, *text;
  int source_line;
};

static const struct piece pieces[] = {
#define FAULTY(part, key, text) {part, key, text, __LINE__},
#define TOGETHER(text)
#include "many_cases.def"
#undef FAULTY
#undef TOGETHER
};
#define PIECES array_count(pieces)

static const struct {
  const char *text;
  int source_line;
} wholes[] = {
#define FAULTY(part, key, text)
#define TOGETHER(text) {text, __LINE__},
#include "many_cases.def"
#undef FAULTY
#undef TOGETHER
};

static const char *const envs[] = {"SSL_CERT_FILE", "/etc/weir/tls/a.crt", NULL};
static const struct kit kit = {kit_files, envs};

/* ---- what is wanted ---- */

#define WANTED_MAX 32u

struct wanted {
  struct span code, words;
  uint32_t line, column, found;
};

/* unmark takes the marks out of text and gives what they say. */
static uint32_t unmark(struct span text, struct text *out, struct wanted *wanted) {
  static const struct span open = SPAN_LIT("«"), end = SPAN_LIT("»");
  uint32_t count = 0, line = 1, column = 1;
  while (text.len) {
    if (span_starts(text, open)) {
      size_t close = open.len;
      while (!span_starts(span_from(text, close), end)) close++;
      struct span mark = span_sub(text, open.len, close - open.len);
      assert_true(count < WANTED_MAX);
      wanted[count++] = (struct wanted){.code = span_sub(mark, 0, 5),
                                        .words = span_trim(span_from(mark, 5)),
                                        .line = line,
                                        .column = column};
      text = span_from(text, close + end.len);
      continue;
    }
    text_put(out, span_sub(text, 0, 1));
    column = text.ptr[0] == '\n' ? 1 : column + 1;
    line += text.ptr[0] == '\n';
    text = span_from(text, 1);
  }
  return count;
}

static bool has_words(struct span note, struct span words) {
  for (size_t i = 0; i + words.len <= note.len; i++)
    if (span_eq(span_sub(note, i, words.len), words)) return true;
  return false;
}

/* told: is each fault that is wanted told once, and no other error? */
static bool told(const struct conf_faults *faults, struct wanted *wanted, uint32_t count) {
  struct fault_view view;
  uint32_t errors = 0;
  for (uint32_t i = 0; faults_view(faults, i, &view); i++) {
    const struct fault_row *row = fault_get(view.id);
    if (row->level == FAULT_LEVEL_WARNING) continue;
    errors++;
    for (uint32_t k = 0; k < count; k++)
      if (span_eq(span_str(row->code), wanted[k].code) && view.line == wanted[k].line &&
          view.column == wanted[k].column && has_words(view.note, wanted[k].words))
        wanted[k].found++;
  }
  for (uint32_t k = 0; k < count; k++)
    if (wanted[k].found != 1) return false;
  return errors == count;
}

/* good loads a text with marks; false, and words to the log: it is not told as they say. */
static bool good(struct span marked, const char *who) {
  struct wanted wanted[WANTED_MAX];
  struct text text = {0};
  uint32_t count = unmark(marked, &text, wanted);
  struct conf_faults *faults = conf_faults_new();
  text_put(&text, span_of("", 1));
  struct conf *conf = kit_load(&kit, text.ptr, faults);
  bool right = told(faults, wanted, count) && (conf == NULL) == (count > 0);
  if (!right) {
    struct text out = {0};
    conf_faults_print(faults, &out, false);
    print_error("many_cases.def %s:\n", who);
    for (uint32_t k = 0; k < count; k++)
      if (wanted[k].found != 1)
        print_error("  want " SPAN_FMT " at %u:%u (" SPAN_FMT ")\n", SPAN_ARG(wanted[k].code),
                    wanted[k].line, wanted[k].column, SPAN_ARG(wanted[k].words));
    print_error(SPAN_FMT "\n\n", SPAN_ARG(text_span(&out)));
    text_fini(&out);
  }
  conf_free(conf);
  conf_faults_free(faults);
  text_fini(&text);
  return right;
}

/* ---- pieces together ---- */

static bool apart(size_t a, size_t b) {
  return pieces[a].part != pieces[b].part || strcmp(pieces[a].key, pieces[b].key) != 0;
}

static bool composed(const size_t *chosen, size_t count) {
  struct text text = {0};
  char who[64] = "";
  for (unsigned part = 0; part < PARTS; part++) {
    bool own = frame[part].good != NULL;
    if (frame[part].before) text_put(&text, span_str(frame[part].before));
    for (size_t i = 0; i < count; i++) {
      const struct piece *piece = &pieces[chosen[i]];
      if (piece->part != part) continue;
      if (own && strcmp(piece->key, frame[part].key) == 0) own = false;
      text_printf(&text, "%s\n  ", piece->text);
    }
    if (own) text_put(&text, span_str(frame[part].good));
  }
  text_lit(&text, FRAME_END);
  struct buf b = buf_of(who, sizeof who - 1);
  for (size_t i = 0; i < count; i++) {
    buf_lit(&b, ":");
    buf_u64(&b, (uint64_t)pieces[chosen[i]].source_line);
  }
  bool right = good(text_span(&text), who);
  text_fini(&text);
  return right;
}

static void test_alone(void **state) {
  (void)state;
  uint32_t wrong = 0;
  assert_true(composed(NULL, 0));
  for (size_t i = 0; i < PIECES; i++) wrong += !composed(&i, 1);
  assert_int_equal(wrong, 0);
}

static void test_whole(void **state) {
  (void)state;
  uint32_t wrong = 0;
  for (size_t i = 0; i < array_count(wholes); i++) {
    char *who = mem_printf(":%d", wholes[i].source_line);
    wrong += !good(span_str(wholes[i].text), who);
    mem_free(who);
  }
  assert_int_equal(wrong, 0);
}

/* Each piece beside each other one; some with a third. */
static void test_together(void **state) {
  (void)state;
  uint32_t wrong = 0;
  for (size_t a = 0; a < PIECES && wrong < 5; a++)
    for (size_t b = a + 1; b < PIECES && wrong < 5; b++) {
      size_t all[] = {a, b, (a * 31 + b * 7) % PIECES};
      if (!apart(a, b)) continue;
      wrong += !composed(all, 2);
      bool three = (a + b) % 5 == 0 && apart(a, all[2]) && apart(b, all[2]);
      if (three) wrong += !composed(all, 3);
    }
  assert_int_equal(wrong, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_alone),
      cmocka_unit_test(test_whole),
      cmocka_unit_test(test_together),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
