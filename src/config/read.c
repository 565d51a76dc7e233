/* read.c: the only file that sees libconfig. It reads what parse.c accepted and gives the same
 * kind of tree, so that the two readers can be compared at every load; a difference refuses the
 * file. libconfig's own recursion is bounded by TREE_DEPTH_MAX, which parse.c checked. */
#include <libconfig.h>

#include "conf_priv.h"

static enum node_kind kind_from(int type) {
  switch (type) {
    case CONFIG_TYPE_GROUP: return NODE_GROUP;
    case CONFIG_TYPE_ARRAY: return NODE_ARRAY;
    case CONFIG_TYPE_LIST: return NODE_LIST;
    case CONFIG_TYPE_STRING: return NODE_STRING;
    case CONFIG_TYPE_BOOL: return NODE_BOOL;
    default: return NODE_INT; /* floats were refused by the lexer */
  }
}

static struct node *node_from(const config_setting_t *setting, struct arena *arena) {
  struct node *n = arena_get(arena, sizeof *n);
  int type = config_setting_type(setting);
  const char *name = config_setting_name(setting);
  n->kind = kind_from(type);
  if (name) n->key = arena_copy(arena, span_str(name), NULL);
  if (type == CONFIG_TYPE_STRING)
    n->string = arena_copy(arena, span_str(config_setting_get_string(setting)), NULL);
  if (type == CONFIG_TYPE_BOOL) n->boolean = config_setting_get_bool(setting) != 0;
  if (type == CONFIG_TYPE_INT) n->integer = config_setting_get_int(setting);
  if (type == CONFIG_TYPE_INT64) {
    n->integer = config_setting_get_int64(setting);
    n->is_long = true;
  }
  return n;
}

static void link_node(struct node *parent, struct node *n) {
  n->parent = parent;
  if (parent->last)
    parent->last->next = n;
  else
    parent->first = n;
  parent->last = n;
  parent->count++;
}

/* walk copies the tree without recursion: a stack of settings and the next child of each. */
static struct node *walk(const config_setting_t *root, struct arena *arena) {
  struct {
    const config_setting_t *setting;
    struct node *node;
    unsigned next;
  } stack[TREE_DEPTH_MAX + 1];
  struct node *top = node_from(root, arena);
  uint32_t depth = 1;
  stack[0].setting = root;
  stack[0].node = top;
  stack[0].next = 0;
  while (depth) {
    const config_setting_t *in = stack[depth - 1].setting;
    if (!config_setting_is_aggregate(in) ||
        stack[depth - 1].next == (unsigned)config_setting_length(in)) {
      depth--;
      continue;
    }
    const config_setting_t *child = config_setting_get_elem(in, stack[depth - 1].next++);
    struct node *n = node_from(child, arena);
    link_node(stack[depth - 1].node, n);
    check(depth < array_count(stack) || !config_setting_is_aggregate(child));
    if (!config_setting_is_aggregate(child)) continue;
    stack[depth].setting = child;
    stack[depth].node = n;
    stack[depth].next = 0;
    depth++;
  }
  return top;
}

struct node *read_source(const struct source *src, struct arena *arena, uint32_t *line) {
  /* libconfig takes a comment on the last line only with its line break. */
  struct text copy = {0};
  text_put(&copy, src->text);
  text_put(&copy, span_of("\n", 2)); /* with a NUL */
  config_t config;
  config_init(&config);
  struct node *root = NULL;
  if (config_read_string(&config, copy.ptr) == CONFIG_TRUE)
    root = walk(config_root_setting(&config), arena);
  else
    *line = (uint32_t)config_error_line(&config);
  config_destroy(&config);
  text_fini(&copy);
  return root;
}

static bool node_same(const struct node *a, const struct node *b) {
  if (a->kind != b->kind || a->count != b->count || !span_eq(a->key, b->key)) return false;
  return span_eq(a->string, b->string) && a->integer == b->integer && a->is_long == b->is_long &&
         a->boolean == b->boolean;
}

bool tree_same(const struct node *a, const struct node *b, const struct node **where) {
  const struct node *top = a;
  while (true) { /* pre-order, both in step: equal counts keep them so */
    if (!node_same(a, b)) {
      *where = a;
      return false;
    }
    if (a->first) {
      a = a->first;
      b = b->first;
      continue;
    }
    while (a != top && !a->next) {
      a = a->parent;
      b = b->parent;
    }
    if (a == top) return true;
    a = a->next;
    b = b->next;
  }
}
