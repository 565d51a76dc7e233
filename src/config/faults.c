/* faults.c: collects what is wrong with a configuration and prints all of it: the line, carets,
 * the suggestion, the other place. Texts are copied, so faults outlive the conf. It judges
 * nothing. Called by every file of config/, printed by the CLI, the log and the admin socket. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf_priv.h"
#include "excerpt_priv.h"

/* Faults beyond this are counted, not kept: one broken bracket must not fill memory. */
#define FAULTS_KEPT_MAX 200u

struct fault {
  enum fault_id id;
  uint32_t seq; /* order of report */
  uint32_t line, column, length;
  const struct source *src; /* to group by file; never read through */
  struct span path, message, note;
  struct excerpt excerpt;
  struct span other_path;
  uint32_t other_line, other_column;
};

struct conf_faults {
  struct arena arena;
  struct fault *rows;
  uint32_t count, cap;
  uint32_t errors, warnings; /* all, kept or not */
  struct fault *newest;      /* NULL: it was not kept */
  uint32_t by_id[FAULT_COUNT];
};

static const struct fault_row fault_rows[FAULT_COUNT] = {
#define FAULT(id, code, level, doc) [FAULT_##id] = {code, FAULT_LEVEL_##level, doc},
#include "weir/config/faults.def"
#undef FAULT
};

const struct fault_row *fault_get(enum fault_id id) {
  check(id < FAULT_COUNT);
  return &fault_rows[id];
}

struct conf_faults *conf_faults_new(void) {
  struct conf_faults *f = mem_alloc(sizeof *f);
  arena_init(&f->arena, ARENA_PAGES, 0);
  return f;
}

void conf_faults_free(struct conf_faults *f) {
  if (!f) return;
  arena_reset(&f->arena);
  mem_free(f->rows);
  mem_free(f);
}

uint32_t conf_faults_errors(const struct conf_faults *f) { return f->errors; }
uint32_t conf_faults_warnings(const struct conf_faults *f) { return f->warnings; }
uint32_t fault_total(const struct conf_faults *f) { return f->errors + f->warnings; }
bool faults_has(const struct conf_faults *f, enum fault_id id) { return f->by_id[id] > 0; }

static bool is_syntax(enum fault_id id) { return id <= FAULT_TOO_MANY; }

bool faults_has_syntax(const struct conf_faults *f) {
  for (uint32_t id = 0; is_syntax(id); id++)
    if (f->by_id[id]) return true;
  return false;
}

void faults_mark(const struct conf_faults *f, struct faults_mark *mark) {
  *mark = (struct faults_mark){.count = f->count, .errors = f->errors, .warnings = f->warnings};
  memcpy(mark->by_id, f->by_id, sizeof mark->by_id);
}

void faults_rewind(struct conf_faults *f, const struct faults_mark *mark) {
  check(mark->count <= f->count);
  f->count = mark->count;
  f->errors = mark->errors;
  f->warnings = mark->warnings;
  f->newest = NULL;
  memcpy(f->by_id, mark->by_id, sizeof f->by_id);
}

/* ---- adding ---- */

/* A message holds a few names of the file; what is longer is cut. */
#define MESSAGE_MAX 1024u

__attribute__((format(printf, 2, 0))) static struct span vformat(struct arena *arena,
                                                                 const char *fmt, va_list args) {
  char text[MESSAGE_MAX];
  int len = vsnprintf(text, sizeof text, fmt, args);
  check(len >= 0);
  size_t kept = (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;
  return arena_copy(arena, span_of(text, kept), NULL);
}

static struct fault *fault_start(struct conf_faults *f, enum fault_id id) {
  f->newest = NULL;
  f->by_id[id]++;
  if (fault_get(id)->level == FAULT_LEVEL_ERROR)
    f->errors++;
  else
    f->warnings++;
  if (f->count == FAULTS_KEPT_MAX) return NULL;
  if (f->count == f->cap) {
    f->cap = f->cap ? f->cap * 2 : 16;
    f->rows = mem_grow(f->rows, f->cap, sizeof *f->rows);
  }
  struct fault *fault = &f->rows[f->count];
  *fault = (struct fault){.id = id, .seq = f->count++};
  f->newest = fault;
  return fault;
}

/* in_doubt: the place is where nobody knows what belongs to what. */
static bool in_doubt(const struct place *at) {
  return at->src && at->src->doubt_from && at->offset >= at->src->doubt_from;
}

void fault_add(struct conf_faults *f, enum fault_id id, struct place at, const char *fmt, ...) {
  if (!is_syntax(id) && in_doubt(&at)) {
    f->newest = NULL;
    return;
  }
  struct fault *fault = fault_start(f, id);
  if (!fault) return;
  va_list args;
  va_start(args, fmt);
  fault->message = vformat(&f->arena, fmt, args);
  va_end(args);
  if (!at.src) return;
  fault->src = at.src;
  fault->path = arena_copy(&f->arena, at.src->path, NULL);
  fault->line = at.line;
  fault->column = place_column(&at);
  fault->length = at.len;
  excerpt_make(&fault->excerpt, &at, &f->arena);
}

void fault_add_file(struct conf_faults *f, enum fault_id id, struct span path, const char *fmt,
                    ...) {
  struct fault *fault = fault_start(f, id);
  if (!fault) return;
  va_list args;
  va_start(args, fmt);
  fault->message = vformat(&f->arena, fmt, args);
  va_end(args);
  fault->path = arena_copy(&f->arena, path, NULL);
}

void fault_note(struct conf_faults *f, const char *fmt, ...) {
  if (!f->newest) return;
  va_list args;
  va_start(args, fmt);
  f->newest->note = vformat(&f->arena, fmt, args);
  va_end(args);
}

void fault_redact(struct conf_faults *f) {
  if (!f->newest) return;
  struct excerpt *e = &f->newest->excerpt;
  e->line =
      span_sub(e->line, e->caret_at, e->caret_len); /* keys are ASCII: bytes are characters */
  e->caret_at = 0;
}

void fault_other(struct conf_faults *f, const char *word, struct place at) {
  if (!f->newest || !at.src) return;
  char where[512];
  struct buf b = buf_of(where, sizeof where);
  place_short(&at, &b);
  struct fault *fault = f->newest;
  fault->other_path = arena_copy(&f->arena, at.src->path, NULL);
  fault->other_line = at.line;
  fault->other_column = place_column(&at);
  struct span note = fault->note;
  bool question = span_ends(note, SPAN_LIT("?"));
  if (question) note.len--;
  if (note.len)
    fault->note = arena_printf(&f->arena, SPAN_FMT " (%s at " SPAN_FMT ")%s", SPAN_ARG(note), word,
                               SPAN_ARG(buf_span(&b)), question ? "?" : "");
  else
    fault->note = arena_printf(&f->arena, "%s at " SPAN_FMT, word, SPAN_ARG(buf_span(&b)));
}

/* ---- reading ---- */

/* by_place orders by file (in the order of their first fault) and place; ties as reported. */
static int by_place(const void *a, const void *b) {
  const struct fault *x = *(struct fault *const *)a, *y = *(struct fault *const *)b;
  if (x->src == y->src && x->line != y->line) return x->line < y->line ? -1 : 1;
  if (x->src == y->src && x->column != y->column) return x->column < y->column ? -1 : 1;
  if (x->src == y->src) return x->seq < y->seq ? -1 : 1;
  return x->path.len == 0 ? 1 : y->path.len == 0 ? -1 : span_cmp(x->path, y->path);
}

/* sorted gives pointers in print order; the caller frees. */
static struct fault **sorted(const struct conf_faults *f) {
  struct fault **rows = mem_array(f->count, sizeof(struct fault *));
  for (uint32_t i = 0; i < f->count; i++) rows[i] = &f->rows[i];
  if (f->count) qsort((void *)rows, f->count, sizeof(struct fault *), by_place);
  return rows;
}

bool faults_view(const struct conf_faults *f, uint32_t i, struct fault_view *out) {
  if (i >= f->count) return false;
  struct fault **rows = sorted(f);
  const struct fault *fault = rows[i];
  mem_free((void *)rows);
  *out = (struct fault_view){.id = fault->id,
                             .message = fault->message,
                             .path = fault->path,
                             .note = fault->note,
                             .excerpt = fault->excerpt.line,
                             .line = fault->line,
                             .column = fault->column,
                             .length = fault->length,
                             .other_path = fault->other_path,
                             .other_line = fault->other_line,
                             .other_column = fault->other_column};
  return true;
}

/* ---- printing ---- */

/* paint holds the escapes of a terminal, or nothing. */
struct paint {
  const char *error, *warning, *dim, *bold, *off;
};
static const struct paint paint_plain = {"", "", "", "", ""};
static const struct paint paint_color = {"\033[1;31m", "\033[1;33m", "\033[36m", "\033[1m",
                                         "\033[0m"};

static void repeat(struct text *out, char c, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) text_put(out, span_of(&c, 1));
}

static uint32_t digits_of(uint32_t n) {
  uint32_t digits = 1;
  for (; n >= 10; n /= 10) digits++;
  return digits;
}

static void print_excerpt(const struct fault *fault, const struct paint *p, struct text *out) {
  uint32_t gutter = digits_of(fault->line);
  text_printf(out, "%s%u |%s ", p->dim, fault->line, p->off);
  text_put(out, fault->excerpt.line);
  text_printf(out, "\n%s", p->dim);
  repeat(out, ' ', gutter);
  text_printf(out, " |%s ", p->off);
  repeat(out, ' ', fault->excerpt.caret_at);
  text_printf(out, "%s", fault_get(fault->id)->level == FAULT_LEVEL_ERROR ? p->error : p->warning);
  repeat(out, '^', fault->excerpt.caret_len);
  if (fault->note.len) text_lit(out, " ");
  text_shown(out, fault->note);
  text_printf(out, "%s\n", p->off);
}

static void print_fault(const struct fault *fault, const struct paint *p, struct text *out) {
  const struct fault_row *row = fault_get(fault->id);
  bool error = row->level == FAULT_LEVEL_ERROR;
  text_printf(out, "%s%s[%s]%s: %s", error ? p->error : p->warning, error ? "error" : "warning",
              row->code, p->off, p->bold);
  text_shown(out, fault->message);
  text_printf(out, "%s\n", p->off);
  if (!fault->path.len) return;
  text_printf(out, "%s  -->%s ", p->dim, p->off);
  text_shown(out, fault->path);
  if (fault->line) text_printf(out, ":%u:%u", fault->line, fault->column);
  text_lit(out, "\n");
  if (fault->line) {
    print_excerpt(fault, p, out);
  } else if (fault->note.len) {
    text_lit(out, "   = ");
    text_shown(out, fault->note);
    text_lit(out, "\n");
  }
}

static void print_count(uint32_t count, const char *what, struct text *out) {
  text_printf(out, "%u %s%s", count, what, count == 1 ? "" : "s");
}

void conf_faults_print(const struct conf_faults *f, struct text *out, bool color) {
  const struct paint *p = color ? &paint_color : &paint_plain;
  struct fault **rows = sorted(f);
  for (uint32_t i = 0; i < f->count; i++) print_fault(rows[i], p, out);
  mem_free((void *)rows);
  if (fault_total(f) == 0) return;
  if (f->count < fault_total(f)) {
    const struct fault_row *row = fault_get(FAULT_TOO_MANY);
    text_printf(out, "%u more are not shown [%s]\n", fault_total(f) - f->count, row->code);
  }
  if (f->errors) print_count(f->errors, "error", out);
  if (f->errors && f->warnings) text_lit(out, ", ");
  if (f->warnings) print_count(f->warnings, "warning", out);
}

static void json_member(struct text *out, const char *key, struct span value) {
  text_printf(out, ",\"%s\":\"", key);
  text_json(out, value);
  text_lit(out, "\"");
}

static void json_fault(const struct fault *fault, struct text *out) {
  const struct fault_row *row = fault_get(fault->id);
  text_printf(out, "{\"level\":\"%s\",\"code\":\"%s\"",
              row->level == FAULT_LEVEL_ERROR ? "error" : "warning", row->code);
  json_member(out, "message", fault->message);
  if (fault->path.len) json_member(out, "file", fault->path);
  if (fault->line) {
    text_printf(out, ",\"line\":%u,\"column\":%u,\"length\":%u", fault->line, fault->column,
                fault->length);
    json_member(out, "source", fault->excerpt.line);
  }
  if (fault->note.len) json_member(out, "note", fault->note);
  if (fault->other_line) {
    text_lit(out, ",\"other\":{\"file\":\"");
    text_json(out, fault->other_path);
    text_printf(out, "\",\"line\":%u,\"column\":%u}", fault->other_line, fault->other_column);
  }
  text_lit(out, "}");
}

void conf_faults_json(const struct conf_faults *f, struct text *out) {
  struct fault **rows = sorted(f);
  text_lit(out, "[");
  for (uint32_t i = 0; i < f->count; i++) {
    if (i) text_lit(out, ",");
    json_fault(rows[i], out);
  }
  text_lit(out, "]");
  mem_free((void *)rows);
}
