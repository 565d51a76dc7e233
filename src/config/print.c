/* print.c: the layout that `weir dump` and conf/full.conf share. Called by dump.c, reference.c. */
#include "print_priv.h"

void print_line(struct printer *p) {
  if (p->off) text_lit(p->out, "# ");
  for (uint32_t i = 0; i < p->indent; i++) text_lit(p->out, "  ");
}

static void close_one(struct printer *p) {
  bool off = p->off;
  p->indent--;
  p->off = p->groups_off[--p->depth];
  print_line(p);
  text_lit(p->out, "};\n");
  p->off = off;
}

void print_close(struct printer *p) {
  while (p->depth) close_one(p);
}

struct span print_groups(struct printer *p, struct span local) {
  struct span rest = local;
  uint32_t at = 0;
  for (size_t dot = span_find_char(rest, '.', 0); dot != SIZE_MAX;
       dot = span_find_char(rest, '.', 0)) {
    struct span group = span_sub(rest, 0, dot);
    rest = span_from(rest, dot + 1);
    if (at < p->depth && !span_eq(p->groups[at], group))
      while (p->depth > at) close_one(p);
    if (at == p->depth) {
      check(at < PRINT_GROUPS_MAX);
      print_line(p);
      text_printf(p->out, SPAN_FMT " = {\n", SPAN_ARG(group));
      p->groups_off[p->depth] = p->off;
      p->groups[p->depth++] = group;
      p->indent++;
    }
    at++;
  }
  while (p->depth > at) close_one(p);
  return rest;
}

void print_path(struct printer *p, struct span local) {
  struct span key = print_groups(p, local);
  print_line(p);
  text_printf(p->out, SPAN_FMT " = ", SPAN_ARG(key));
}
