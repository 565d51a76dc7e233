/* reference.c: the option and fault tables for people and tools: conf/full.conf, conf/README.md,
 * the fuzz dictionary. Tests compare the files with what is printed here, so they cannot go
 * stale. */
#include "print_priv.h"

#define WIDTH 99u

/* ---- conf/full.conf ---- */

/* ref_frame is a scope that is being printed. */
struct ref_frame {
  enum scope_id scope;
  uint32_t next;
  bool map;
  struct printer saved;
};

#define REF_FRAMES_MAX 3u /* root, listener, certificate */

struct ref {
  struct printer p;
  struct ref_frame frames[REF_FRAMES_MAX];
  uint32_t depth;
};

/* comment writes a sentence, broken at WIDTH. */
static void comment(struct printer *p, struct span sentence) {
  size_t column = 0;
  struct span word;
  while (span_next_token(&sentence, ' ', &word)) {
    if (column && column + 1 + word.len > WIDTH) {
      text_lit(p->out, "\n");
      column = 0;
    }
    if (column) {
      text_lit(p->out, " ");
      column++;
    } else {
      struct printer plain = *p;
      plain.off = false;
      print_line(&plain);
      text_lit(p->out, "# ");
      column = p->indent * 2 + 2;
    }
    text_put(p->out, word);
    column += word.len;
  }
  text_lit(p->out, "\n");
}

/* put_default writes the default as the file has it; false: there is none. */
static bool put_default(const struct option *option, struct text *out) {
  struct arena arena;
  struct value value;
  arena_init(&arena, NULL, 0);
  bool found = value_default(option, &arena, &value);
  if (found) value_write(option, &value, out);
  for (uint32_t i = 0; value_default_item(option, i, &arena, &value); i++) {
    if (i) text_lit(out, ", ");
    value_write(option, &value, out);
    found = true;
  }
  arena_reset(&arena);
  return found;
}

static void put_facts(const struct option *option, struct text *out) {
  struct text range = {0};
  option_write_range(option, &range);
  text_printf(out, "%s%s", option->flags & OPTION_LIST ? "list of " : "", type_name(option->type));
  if (range.len) text_printf(out, ": " SPAN_FMT, SPAN_ARG(text_span(&range)));
  text_fini(&range);
}

static void ref_option(struct ref *r, const struct option *option) {
  struct text facts = {0};
  struct printer *p = &r->p;
  p->off = option->flags & OPTION_OFF;
  print_groups(p, option_local(option));
  if (!span_ends(text_span(p->out), SPAN_LIT("{\n"))) text_lit(p->out, "\n");
  text_printf(&facts, "%s [", option->doc);
  put_facts(option, &facts);
  if (option->flags & OPTION_REQUIRED) text_lit(&facts, "; required");
  if (option->flags & OPTION_RESTART) text_lit(&facts, "; restart");
  text_lit(&facts, "]");
  comment(p, text_span(&facts));
  text_fini(&facts);
  print_path(p, option_local(option));
  bool list = option->flags & OPTION_LIST;
  if (list) text_lit(p->out, "[ ");
  if (option->example && option->type == TYPE_BOOL)
    text_put(p->out, span_str(option->example));
  else if (option->example)
    option_quote(option, span_str(option->example), p->out);
  else
    check(put_default(option, p->out)); /* the row needs a default or an example */
  text_put(p->out, list ? SPAN_LIT(" ];\n") : SPAN_LIT(";\n"));
}

static void ref_push(struct ref *r, enum scope_id scope, bool map) {
  check(r->depth < REF_FRAMES_MAX);
  r->frames[r->depth++] = (struct ref_frame){.scope = scope, .map = map, .saved = r->p};
  r->p.depth = 0;
}

/* sample_name is what the one element of a map is called; other samples refer to it. */
static const char *sample_name(const struct option *option) {
  if (option->id == OPTION_LISTENERS) return "web";
  return option->id == OPTION_POOLS ? "app" : "main";
}

static void ref_rows(struct ref *r, const struct option *option) {
  struct printer *p = &r->p;
  bool map = option->type == TYPE_MAP;
  p->off = option->flags & OPTION_OFF;
  print_groups(p, option_local(option));
  text_lit(p->out, "\n");
  comment(p, span_str(option->doc));
  print_path(p, option_local(option));
  text_put(p->out, map ? SPAN_LIT("{\n") : SPAN_LIT("(\n"));
  ref_push(r, option_child(option), map);
  p->indent++;
  print_line(p);
  if (map) text_printf(p->out, "%s = ", sample_name(option));
  text_lit(p->out, "{\n");
  p->indent++;
}

/* ref_end closes a row and the list around it. */
static void ref_end(struct ref *r) {
  const struct ref_frame *f = &r->frames[--r->depth];
  print_close(&r->p);
  r->p = f->saved;
  if (!r->depth) return;
  r->p.indent++;
  print_line(&r->p);
  text_put(r->p.out, f->map ? SPAN_LIT("};\n") : SPAN_LIT("}\n"));
  r->p.indent--;
  print_line(&r->p);
  text_put(r->p.out, f->map ? SPAN_LIT("};\n") : SPAN_LIT(");\n"));
}

void conf_options(struct text *out) {
  struct ref r = {.p = {.out = out}};
  text_lit(out,
           "# Every option of weir with its default, or an example. Generated from the option "
           "table\n# (include/weir/config/options.def): do not edit. What is behind # is unset "
           "or needs files.\n");
  ref_push(&r, SCOPE_ROOT, false);
  while (r.depth) { /* one option each turn */
    struct ref_frame *f = &r.frames[r.depth - 1];
    const struct scope *scope = scope_get(f->scope);
    if (f->next == scope->count) {
      ref_end(&r);
      continue;
    }
    const struct option *option = option_get((enum option_id)(scope->first + f->next++));
    if (option->type == TYPE_MAP || option->type == TYPE_ROWS)
      ref_rows(&r, option);
    else
      ref_option(&r, option);
  }
}

/* ---- conf/README.md ---- */

static void cell(struct text *out, struct span s) {
  for (size_t i = 0; i < s.len; i++) {
    if (s.ptr[i] == '|') text_lit(out, "\\");
    text_put(out, span_sub(s, i, 1));
  }
}

static void reference_option(const struct option *option, struct text *out) {
  struct text facts = {0}, def = {0};
  put_facts(option, &facts);
  if (!put_default(option, &def))
    text_put(&def, option->flags & OPTION_REQUIRED ? SPAN_LIT("required") : SPAN_LIT("unset"));
  text_printf(out, "| `%s` | ", option->path);
  cell(out, text_span(&facts));
  text_lit(out, " | ");
  cell(out, text_span(&def));
  text_lit(out, " | ");
  cell(out, span_str(option->doc));
  if (option->flags & OPTION_RESTART) text_lit(out, " Needs a restart.");
  text_lit(out, " |\n");
  text_fini(&facts);
  text_fini(&def);
}

static void reference_later(struct text *out) {
  const char *path;
  if (later_get(0)) text_lit(out, "\nPlanned, refused as W0102 in this version:");
  for (uint32_t i = 0; (path = later_get(i)) != NULL; i++)
    text_printf(out, "%s `%s`", i ? "," : "", path);
  if (later_get(0)) text_lit(out, ".\n");
}

void conf_reference(struct text *out) {
  text_lit(out,
           "# Options\n\nGenerated from include/weir/config/options.def and faults.def; "
           "`*` is a name or an element.\nEvery option with its default stands in full.conf.\n"
           "\n| option | value | default | meaning |\n|---|---|---|---|\n");
  for (enum option_id id = 0; id < OPTION_COUNT; id++) reference_option(option_get(id), out);
  reference_later(out);
  text_lit(out, "\n# Fault codes\n\n| code | level | meaning |\n|---|---|---|\n");
  for (enum fault_id id = 0; id < FAULT_COUNT; id++) {
    const struct fault_row *row = fault_get(id);
    text_printf(out, "| %s | %s | ", row->code,
                row->level == FAULT_LEVEL_ERROR ? "error" : "warning");
    cell(out, span_str(row->doc));
    text_lit(out, " |\n");
  }
}

/* ---- fuzz/dict/config.dict ---- */

static void dict_word(struct text *out, struct span word) {
  text_lit(out, "\"");
  for (size_t i = 0; i < word.len; i++) {
    char c = word.ptr[i];
    if (c == '"' || c == '\\') text_lit(out, "\\");
    text_put(out, span_of(&c, 1));
  }
  text_lit(out, "\"\n");
}

void conf_dict(struct text *out) {
  static const char *const signs[] = {" = ",      ";",        "{",      "}",     "[ ",     " ]",
                                      "( ",       " )",       ", ",     "/* ",   " */",    "# ",
                                      "@include", "${env:",   ":-",     "true",  "\\x41",  "0x7fL",
                                      "\"10s\"",  "\"1KiB\"", "\"5%\"", "file:", "unix:/", "*."};
  text_lit(out, "# Generated from the option table by tests/unit/config/test_reference.c.\n");
  for (uint32_t i = 0; i < array_count(signs); i++) dict_word(out, span_str(signs[i]));
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    const struct option *option = option_get(id);
    struct span local = option_local(option), key;
    while (span_next_token(&local, '.', &key)) dict_word(out, key);
    struct span words = span_str(option->words), word;
    while (option->words && span_next_token(&words, ' ', &word))
      if (word.len) dict_word(out, word);
    if (option->example) dict_word(out, span_str(option->example));
  }
}
