/* apply.c: from trees to typed rows by the option table: finds the option of every key, parses its
 * value, remembers where it was set. What is unknown, of a wrong type or missing is reported here;
 * what values mean together is check.c. Called by load.c. */
#include "doubt_priv.h"
#include "load_priv.h"

void *row_member(const struct conf_row *row, const struct option *option) {
  check(row->scope == option->scope);
  return (char *)row + option->offset;
}

static struct conf_origin *origin_of(const struct conf_row *row, enum option_id id) {
  check(option_get(id)->scope == row->scope);
  return &row->origins[(uint32_t)id - scope_get(row->scope)->first];
}

const struct conf_origin *row_origin(const struct conf_row *row, enum option_id id) {
  return origin_of(row, id);
}

struct place row_place(const struct conf_row *row, enum option_id id) {
  const struct node *node = row_origin(row, id)->node;
  return node ? node->at : row->at;
}

/* ---- rows ---- */

#define DEFAULT_ITEMS_MAX 8u /* of a list */

static void list_default(struct conf *conf, const struct option *option, void *member) {
  struct conf_list *list = member;
  struct value value;
  if (!option->def) return;
  list->items = arena_get(&conf->arena, DEFAULT_ITEMS_MAX * sizeof *list->items);
  while (value_default_item(option, list->count, &conf->arena, &value)) {
    check(list->count < DEFAULT_ITEMS_MAX);
    list->items[list->count++].text = value.text;
  }
}

static void row_init(struct conf *conf, struct conf_row *row, enum scope_id scope) {
  const struct scope *s = scope_get(scope);
  row->scope = scope;
  row->origins = arena_get(&conf->arena, s->count * sizeof *row->origins);
  for (uint32_t i = 0; i < s->count; i++) {
    const struct option *option = option_get((enum option_id)(s->first + i));
    struct value value;
    if (option->flags & OPTION_LIST)
      list_default(conf, option, row_member(row, option));
    else if (option->type != TYPE_MAP && option->type != TYPE_ROWS &&
             value_default(option, &conf->arena, &value))
      value_store(option, row_member(row, option), &value);
  }
}

struct conf_row *row_new(struct conf *conf, struct conf_rows *rows, enum scope_id scope,
                         struct conf_row *parent) {
  struct conf_row *row = arena_get(&conf->arena, scope_get(scope)->size);
  row->parent = parent;
  row_init(conf, row, scope);
  if (rows->last)
    rows->last->next = row;
  else
    rows->first = row;
  rows->last = row;
  rows->count++;
  return row;
}

/* ---- values ---- */

/* element_env: the elements of a list may come from a variable each. */
static void element_env(struct conf *conf, struct conf_origin *origin, struct span name) {
  if (!name.len) return;
  origin->env = !origin->env.len ? name
                                 : arena_printf(&conf->arena, SPAN_FMT ", env " SPAN_FMT,
                                                SPAN_ARG(origin->env), SPAN_ARG(name));
}

static void apply_list(struct conf *conf, struct conf_row *row, const struct option *option,
                       const struct node *node) {
  bool scalar = node->kind != NODE_ARRAY && node->kind != NODE_LIST;
  const struct node *element = scalar ? node : node->first;
  struct conf_list list = {0};
  list.items = arena_get(&conf->arena, (scalar ? 1 : node->count + 1) * sizeof *list.items);
  bool asks = !(option->flags & OPTION_EMPTY);
  if (!element && asks && !faults_has_syntax(conf->faults)) {
    fault_add(conf->faults, FAULT_EMPTY, node->at, "%s is empty", option->path);
    if (option->example) fault_note(conf->faults, "like [ \"%s\" ]", option->example);
  }
  for (; element; element = scalar ? NULL : element->next) {
    struct value_job job = {&conf->arena, conf->faults, conf->reader, option,
                            element,      SPAN_EMPTY,   SPAN_EMPTY};
    struct value value = {0};
    if (!value_parse(&job, &value)) {
      row_lose(row, option->id);
      continue;
    }
    for (uint32_t i = 0; i < list.count; i++) {
      if (!span_eq(list.items[i].text, value.text)) continue;
      fault_add(conf->faults, FAULT_DUPLICATE_ITEM, element->at, "\"" SPAN_FMT "\" stands twice",
                SPAN_ARG(value.text));
      fault_other(conf->faults, "first", list.items[i].at);
      break;
    }
    list.items[list.count++] = (struct conf_item){value.text, element->at};
    element_env(conf, origin_of(row, option->id), job.env);
  }
  memcpy(row_member(row, option), &list, sizeof list);
}

void apply_value(struct conf *conf, struct conf_row *row, const struct option *option,
                 const struct node *node) {
  struct conf_origin *origin = origin_of(row, option->id);
  bool once = option->type != TYPE_MAP && option->type != TYPE_ROWS;
  if (origin->node && once && !node_guessed(origin->node) && !node_guessed(node)) {
    fault_add(conf->faults, FAULT_SET_TWICE, node->key_at, "%s is set in two files", option->path);
    fault_other(conf->faults, "first", origin->node->key_at);
    return;
  }
  origin->node = node;
  if (option->flags & OPTION_LIST) {
    apply_list(conf, row, option, node);
    return;
  }
  struct value_job job = {&conf->arena, conf->faults, conf->reader, option,
                          node,         SPAN_EMPTY,   SPAN_EMPTY};
  struct value value = {0};
  if (!value_parse(&job, &value)) {
    row_lose(row, option->id);
    return;
  }
  value_store(option, row_member(row, option), &value);
  origin->env = job.env;
}

/* ---- keys ---- */

/* work is one group that waits to be applied to its row. */
struct work {
  struct work *next;
  struct conf_row *row;
  const struct node *group;
};

struct apply {
  struct conf *conf;
  struct work *head, **tail;
};

static void work_add(struct apply *a, struct conf_row *row, const struct node *group) {
  struct work *w = arena_get(&a->conf->arena, sizeof *w);
  *w = (struct work){.row = row, .group = group};
  *a->tail = w;
  a->tail = &w->next;
}

/* local_path joins the keys from below `top` to node; in the arena. */
static struct span local_path(struct apply *a, const struct node *top, const struct node *node) {
  struct span path = node_name(node);
  for (const struct node *n = node->parent; n && n != top; n = n->parent)
    path = arena_printf(&a->conf->arena, SPAN_FMT "." SPAN_FMT, SPAN_ARG(node_name(n)),
                        SPAN_ARG(path));
  return path;
}

static void group_wanted(struct apply *a, const struct node *node, const char *what) {
  fault_add(a->conf->faults, FAULT_WRONG_TYPE, node->at, "%s takes a group { }, not %s", what,
            node_kind_text(node->kind));
}

/* ---- rows of a map or a list ---- */

static void apply_map(struct apply *a, struct conf_row *row, const struct option *option,
                      const struct node *node) {
  struct conf *conf = a->conf;
  if (node->kind != NODE_GROUP) {
    group_wanted(a, node, option->path);
    row_lose(row, option->id);
    return;
  }
  for (const struct node *n = node->first; n; n = n->next) {
    bool group = n->kind == NODE_GROUP;
    if (!group)
      group_wanted(a, n, option->path);
    else if (!name_is_good(n->key))
      fault_add(conf->faults, FAULT_BAD_NAME, n->key_at, "\"" SPAN_FMT "\" is no name",
                SPAN_ARG(n->key));
    struct conf_row *made = row_new(conf, row_member(row, option), option_child(option), row);
    made->name = n->key;
    made->at = n->key_at;
    if (group)
      work_add(a, made, n);
    else
      row_lose_all(made); /* its name is defined */
  }
}

/* endpoint_string: an endpoint may be written as its address alone. */
static void apply_element(struct apply *a, struct conf_row *row, const struct option *option,
                          const struct node *n) {
  bool string = n->kind == NODE_STRING && option->id == OPTION_POOL_ENDPOINTS;
  if (!string && n->kind != NODE_GROUP) {
    group_wanted(a, n, option->path);
    row_lose(row, option->id);
    return;
  }
  struct conf_row *made = row_new(a->conf, row_member(row, option), option_child(option), row);
  made->at = n->kind == NODE_GROUP ? n->key_at : n->at;
  if (string)
    apply_value(a->conf, made, option_get(OPTION_ENDPOINT_ADDRESS), n);
  else
    work_add(a, made, n);
}

static void apply_rows(struct apply *a, struct conf_row *row, const struct option *option,
                       const struct node *node) {
  if (node->kind == NODE_STRING && option->id == OPTION_POOL_ENDPOINTS) {
    apply_element(a, row, option, node);
    return;
  }
  if (node->kind != NODE_LIST && node->kind != NODE_ARRAY) {
    fault_add(a->conf->faults, FAULT_WRONG_TYPE, node->at, "%s takes a list ( ) of groups, not %s",
              option->path, node_kind_text(node->kind));
    if (node->kind == NODE_GROUP) fault_note(a->conf->faults, "write ( { ... }, { ... } )");
    row_lose(row, option->id);
    return;
  }
  for (const struct node *n = node->first; n; n = n->next) apply_element(a, row, option, n);
}

/* ---- one group ---- */

static void apply_option(struct apply *a, struct conf_row *row, const struct option *option,
                         const struct node *node) {
  if (option->type == TYPE_MAP || option->type == TYPE_ROWS) {
    origin_of(row, option->id)->node = node;
    if (option->type == TYPE_MAP)
      apply_map(a, row, option, node);
    else
      apply_rows(a, row, option, node);
  } else if (option->id != OPTION_INCLUDE) { /* load.c read it before */
    apply_value(a->conf, row, option, node);
  }
}

/* ---- what a misspelt key was meant for ---- */

/* holds_known: is the group empty, or is a key of it known in the group of a path? */
static bool holds_known(struct apply *a, const struct conf_row *row, const struct node *group,
                        struct span path) {
  for (const struct node *n = group->first; n; n = n->next) {
    bool inner = false;
    struct span local = arena_printf(&a->conf->arena, SPAN_FMT "." SPAN_FMT, SPAN_ARG(path),
                                     SPAN_ARG(n->key));
    if (option_find(row->scope, local, &inner) || inner) return true;
  }
  return !group->first;
}

/* takes: is the node of the kind that rows of an option are written as? */
static bool takes(const struct option *option, const struct node *node) {
  if (option->type == TYPE_MAP) return node->kind == NODE_GROUP;
  bool list = node->kind == NODE_LIST || node->kind == NODE_ARRAY;
  return list || (option->id == OPTION_POOL_ENDPOINTS && node->kind == NODE_STRING);
}

/* guess goes on as if a misspelt group, map or list were the one that was meant, so that what
 * stands in it is looked at too, and nothing is missed that is there. What a single value would be
 * is left in doubt. True when its children are keys of the same scope. */
static bool guess(struct apply *a, struct conf_row *row, const struct node *top,
                  struct node *node, struct span meant) {
  bool group = false;
  const struct option *option = option_find(row->scope, meant, &group);
  struct span key = span_from(meant, span_last(meant, '.') + 1);
  bool map = option && option->type == TYPE_MAP, rows = option && option->type == TYPE_ROWS;
  if (!map && !group && node_find(node->parent, key)) return false; /* that one is meant */
  node->meant = key;
  if (span_eq(local_path(a, top, node), meant)) {
    if (group && node->kind == NODE_GROUP && holds_known(a, row, node, meant)) return true;
    if ((map || rows) && takes(option, node)) {
      apply_option(a, row, option, node);
      return false;
    }
  }
  node->meant = SPAN_EMPTY;
  if (!node_find(node->parent, key)) row_lose_path(row, meant);
  return false;
}

/* apply_key handles one key; true when its children are keys of the same scope. */
static bool apply_key(struct apply *a, struct conf_row *row, const struct node *top,
                      struct node *node) {
  bool group = false;
  struct span local = local_path(a, top, node);
  const struct option *option = option_find(row->scope, local, &group);
  if (group && node->kind == NODE_GROUP) return true;
  if (group) {
    group_wanted(a, node, arena_str(&a->conf->arena, local));
    row_lose_path(row, local);
  } else if (option) {
    apply_option(a, row, option, node);
  } else {
    struct span meant = unknown_key(a->conf, row, node, local);
    if (meant.len) return guess(a, row, top, node, meant);
  }
  return false;
}

/* tls_origin: an empty group says TLS too, and `weir dump` has to say so: by its first key. */
static void tls_origin(struct conf_row *row, const struct node *top) {
  struct conf_origin *origin = origin_of(row, OPTION_POOL_TLS_VERIFY);
  const struct node *node = node_find(top, SPAN_LIT("tls"));
  if (((struct conf_pool *)row)->tls.on && node && !origin->node) origin->node = node;
}

/* cert_asked: an empty group asks for nothing, and looks as if it did. */
static void cert_asked(struct apply *a, const struct node *node) {
  if (node->kind != NODE_GROUP || node->first || faults_has_syntax(a->conf->faults)) return;
  fault_add(a->conf->faults, FAULT_EMPTY, node->at, "routes.*.client_cert asks for nothing");
  fault_note(a->conf->faults, "present = true; asks for any certificate that is good");
}

/* apply_presence: groups that say something by being there. */
static void apply_presence(struct apply *a, struct conf_row *row, const struct node *node) {
  struct span name = node_name(node);
  bool group = node->kind == NODE_GROUP, tls = span_eq(name, SPAN_LIT("tls"));
  if (row->scope == SCOPE_LISTENER && tls) ((struct conf_listener *)row)->has_tls = true;
  if (row->scope == SCOPE_POOL && tls) ((struct conf_pool *)row)->tls.on = group;
  if (row->scope == SCOPE_POOL && span_eq(name, SPAN_LIT("health")))
    ((struct conf_pool *)row)->health.on = group;
  if (row->scope == SCOPE_ROUTE && span_eq(name, SPAN_LIT("client_cert"))) cert_asked(a, node);
}

/* apply_group walks the keys in pre-order, going down where a key is only a group of keys. */
static void apply_group(struct apply *a, struct conf_row *row, const struct node *top) {
  struct node *node = top->first;
  while (node) {
    bool down = apply_key(a, row, top, node);
    if (node->parent == top) apply_presence(a, row, node);
    if (down && node->first) {
      node = node->first;
      continue;
    }
    while (!node->next && node->parent != top) node = node->parent;
    node = node->next;
  }
}

static void check_required(struct apply *a, const struct conf_row *row) {
  const struct scope *s = scope_get(row->scope);
  for (uint32_t i = 0; i < s->count; i++) {
    const struct option *option = option_get((enum option_id)(s->first + i));
    if (!(option->flags & OPTION_REQUIRED) || row->origins[i].node) continue;
    if (row->origins[i].lost) continue; /* told already */
    fault_add(a->conf->faults, FAULT_MISSING, row->at, "%s needs \"" SPAN_FMT "\"",
              scope_what(row->scope), SPAN_ARG(option_local(option)));
    if (option->example)
      fault_note(a->conf->faults, "like " SPAN_FMT " = \"%s\";", SPAN_ARG(option_local(option)),
                 option->example);
  }
}

void apply_sources(struct conf *conf) {
  struct apply a = {.conf = conf, .tail = &a.head};
  for (const struct source *s = conf->sources; s; s = s->next)
    apply_group(&a, &conf->root.row, s->root);
  /* Rows are one level below their parents, so this ends: certificates and endpoints add none. */
  for (struct work *w = a.head; w; w = w->next) {
    apply_group(&a, w->row, w->group);
    if (w->row->scope == SCOPE_POOL) tls_origin(w->row, w->group);
    if (w->row->scope == SCOPE_LISTENER) protocols_default((struct conf_listener *)w->row);
    if (!faults_has_syntax(conf->faults)) check_required(&a, w->row);
  }
}

/* conf_root_init is the root row with defaults. */
void conf_root_init(struct conf *conf) { row_init(conf, &conf->root.row, SCOPE_ROOT); }
