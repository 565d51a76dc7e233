/* dump.c: the effective configuration as one file that loads to the same, each value with its
 * origin as a comment. Files of secrets are named, secrets never printed; included files are
 * merged. Called by `weir dump` and by tests. */
#include "load_priv.h"
#include "print_priv.h"

/* frame is a row that is being printed, or the list of rows below one of its options. */
struct frame {
  const struct conf_row *row;   /* NULL: a list of rows */
  uint32_t next;                /* row: its next option */
  const struct conf_row *child; /* list: the next row */
  bool map;
  struct printer saved; /* the printer around it */
};

#define FRAMES_MAX 6u /* root, listeners, listener, certificates, certificate */

struct dump {
  const struct conf *conf;
  struct printer p;
  bool with_defaults;
  struct frame frames[FRAMES_MAX];
  uint32_t depth;
};

static bool waits(const struct conf *conf, const struct option *option) {
  if (!(option->flags & OPTION_RESTART)) return false;
  struct value set = value_load(option, row_member(&conf->root.row, option));
  struct value runs = setting_runs(conf, option);
  return !setting_same(&set, &runs);
}

/* waits_comment says what runs, where the file's value waits for a restart. */
static void waits_comment(struct dump *d, const struct option *option) {
  if (!waits(d->conf, option)) return;
  struct value runs = setting_runs(d->conf, option);
  text_lit(d->p.out, "; until a restart: ");
  setting_write(option, &runs, d->p.out);
}

static void origin_comment(struct dump *d, const struct conf_origin *origin) {
  struct text *out = d->p.out;
  if (!origin->node) {
    text_lit(out, "  # default");
    return;
  }
  char where[512];
  struct buf b = buf_of(where, sizeof where);
  place_short(&origin->node->key_at, &b);
  text_lit(out, "  # ");
  for (size_t i = 0; i < b.len; i++) { /* a file's name may hold a line break */
    char c = (unsigned char)where[i] < 0x20 ? '?' : where[i];
    text_put(out, span_of(&c, 1));
  }
  if (origin->env.len) text_printf(out, ", env " SPAN_FMT, SPAN_ARG(origin->env));
}

static void write_list(struct dump *d, const struct option *option, const struct conf_list *list) {
  text_lit(d->p.out, "[ ");
  for (uint32_t i = 0; i < list->count; i++) {
    struct value value = {.text = list->items[i].text};
    if (i) text_lit(d->p.out, ", ");
    value_write(option, &value, d->p.out);
  }
  text_lit(d->p.out, " ];");
}

/* group_set: is anything set in the group that this option stands in? */
static bool group_set(const struct conf_row *row, const struct option *option) {
  const struct scope *scope = scope_get(row->scope);
  struct span local = option_local(option);
  struct span group = span_sub(local, 0, span_find_char(local, '.', 0) + 1);
  for (uint32_t i = 0; i < scope->count; i++) {
    const struct option *other = option_get((enum option_id)(scope->first + i));
    if (row->origins[i].node && span_starts(option_local(other), group)) return true;
  }
  return false;
}

/* shown tells whether an option is printed at all. */
static bool shown(const struct dump *d, const struct conf_row *row, const struct option *option) {
  if (option->id == OPTION_INCLUDE) return false;
  if (row_origin(row, option->id)->node) return true;
  if (!d->with_defaults && !waits(d->conf, option)) return false;
  if ((option->flags & OPTION_GROUPED) && !group_set(row, option)) return false;
  const void *member = row_member(row, option);
  if (option->flags & OPTION_LIST) return ((const struct conf_list *)member)->count > 0;
  if (value_is_text(option)) return value_load(option, member).text.len > 0;
  return option->def != NULL; /* unset is not the same as 0 */
}

static void dump_option(struct dump *d, const struct conf_row *row, const struct option *option) {
  if (!shown(d, row, option)) return;
  const void *member = row_member(row, option);
  print_path(&d->p, option_local(option));
  if (option->flags & OPTION_LIST) {
    write_list(d, option, member);
  } else {
    struct value value = value_load(option, member);
    value_write(option, &value, d->p.out);
    text_lit(d->p.out, ";");
  }
  origin_comment(d, row_origin(row, option->id));
  waits_comment(d, option);
  text_lit(d->p.out, "\n");
}

static struct frame *push(struct dump *d) {
  check(d->depth < FRAMES_MAX);
  struct frame *f = &d->frames[d->depth++];
  *f = (struct frame){.saved = d->p};
  d->p.depth = 0;
  return f;
}

/* dump_rows starts the rows below an option. */
static void dump_rows(struct dump *d, const struct conf_row *row, const struct option *option) {
  const struct conf_rows *rows = row_member(row, option);
  if (!rows->first && !row_origin(row, option->id)->node) return;
  print_path(&d->p, option_local(option));
  text_put(d->p.out, option->type == TYPE_MAP ? SPAN_LIT("{\n") : SPAN_LIT("(\n"));
  struct frame *f = push(d);
  f->child = rows->first;
  f->map = option->type == TYPE_MAP;
  d->p.indent++;
}

static void step_row(struct dump *d, struct frame *f) {
  const struct scope *scope = scope_get(f->row->scope);
  if (f->next < scope->count) {
    const struct option *option = option_get((enum option_id)(scope->first + f->next++));
    if (option->type == TYPE_MAP || option->type == TYPE_ROWS)
      dump_rows(d, f->row, option);
    else
      dump_option(d, f->row, option);
    return;
  }
  print_close(&d->p);
  d->p = f->saved;
  d->depth--;
  if (!d->depth) return; /* the root has no brackets */
  const struct frame *list = &d->frames[d->depth - 1];
  print_line(&d->p);
  text_put(d->p.out, list->map     ? SPAN_LIT("};\n")
                     : list->child ? SPAN_LIT("},\n")
                                   : SPAN_LIT("}\n"));
}

static void step_rows(struct dump *d, struct frame *f) {
  const struct conf_row *row = f->child;
  if (!row) {
    bool map = f->map;
    d->p = f->saved;
    d->depth--;
    print_line(&d->p);
    text_put(d->p.out, map ? SPAN_LIT("};\n") : SPAN_LIT(");\n"));
    return;
  }
  f->child = row->next;
  print_line(&d->p);
  if (f->map) text_printf(d->p.out, SPAN_FMT " = ", SPAN_ARG(row->name));
  text_lit(d->p.out, "{\n");
  struct frame *made = push(d);
  made->row = row;
  d->p.indent++;
}

void conf_dump(const struct conf *conf, struct text *out, bool with_defaults) {
  struct dump d = {.conf = conf, .p = {.out = out}, .with_defaults = with_defaults};
  push(&d)->row = &conf->root.row;
  /* Each step prints one option, bracket or row: it ends with the rows. */
  while (d.depth) {
    struct frame *f = &d.frames[d.depth - 1];
    if (f->row)
      step_row(&d, f);
    else
      step_rows(&d, f);
  }
}
