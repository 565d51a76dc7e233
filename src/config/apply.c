/* apply.c: from trees to typed rows by the option table: finds the option of every key, parses its
 * value, remembers where it was set. What is unknown, of a wrong type or missing is reported here;
 * what values mean together is check.c. Called by load.c. */
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

#define DEFAULT_ITEMS_MAX 4u /* of a list */

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
  if (!element && !faults_has_syntax(conf->faults)) {
    fault_add(conf->faults, FAULT_EMPTY, node->at, "%s is empty", option->path);
    if (option->example) fault_note(conf->faults, "like [ \"%s\" ]", option->example);
  }
  for (; element; element = scalar ? NULL : element->next) {
    struct value_job job = {&conf->arena, conf->faults, conf->reader, option,
                            element,      SPAN_EMPTY,   SPAN_EMPTY};
    struct value value = {0};
    if (!value_parse(&job, &value)) continue;
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
  if (origin->node && option->type != TYPE_MAP && option->type != TYPE_ROWS) {
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
  if (!value_parse(&job, &value)) return;
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
  struct span path = node->key;
  for (const struct node *n = node->parent; n && n != top; n = n->parent)
    path = arena_printf(&a->conf->arena, SPAN_FMT "." SPAN_FMT, SPAN_ARG(n->key), SPAN_ARG(path));
  return path;
}

/* offer_keys offers what may stand beside an unknown key: same scope, same group. */
static void offer_keys(struct suggest *s, enum scope_id id, struct span local) {
  const struct scope *scope = scope_get(id);
  size_t head = span_last(local, '.') + 1; /* none: 0 */
  for (uint32_t i = 0; i < scope->count; i++) {
    struct span path = option_local(option_get((enum option_id)(scope->first + i)));
    if (!span_starts(path, span_sub(local, 0, head))) continue;
    struct span key = span_from(path, head);
    suggest_offer(s, span_sub(key, 0, span_find_char(key, '.', 0)), NULL);
  }
}

/* offer_elsewhere looks for the same key in another group of the scope: it was put too high. */
static struct span offer_elsewhere(enum scope_id id, struct span key) {
  const struct scope *scope = scope_get(id);
  for (uint32_t i = 0; i < scope->count; i++) {
    struct span path = option_local(option_get((enum option_id)(scope->first + i)));
    struct span tail = span_from(path, path.len > key.len ? path.len - key.len : 0);
    bool whole = path.len > key.len && path.ptr[path.len - key.len - 1] == '.';
    if (whole && span_eq(tail, key)) return path;
  }
  return SPAN_EMPTY;
}

static const char *scope_what(enum scope_id id) {
  switch (id) {
    case SCOPE_ROOT: return "the configuration";
    case SCOPE_LISTENER: return "a listener";
    case SCOPE_CERT: return "a certificate";
    case SCOPE_CLIENT: return "a row of client";
    case SCOPE_SNI: return "a row of sni";
    case SCOPE_POOL: return "a pool";
    case SCOPE_ENDPOINT: return "an endpoint";
    case SCOPE_POLICY: return "a policy";
    case SCOPE_ERROR: return "an error page";
    case SCOPE_ROUTE: return "a route";
    case SCOPE_SPLIT: return "a part of a split";
    case SCOPE_HEADER:
    case SCOPE_QUERY:
    case SCOPE_COOKIE: return "a condition";
    case SCOPE_COUNT: break;
  }
  return "";
}

static void unknown_key(struct apply *a, enum scope_id id, const struct node *node,
                        struct span local) {
  struct conf_faults *f = a->conf->faults;
  if (node->parent->suspect) return;
  if (option_later(id, local)) {
    fault_add(f, FAULT_LATER, node->key_at, "\"" SPAN_FMT "\" of %s is not in this version",
              SPAN_ARG(local), scope_what(id));
    return;
  }
  fault_add(f, FAULT_UNKNOWN_KEY, node->key_at, "%s has no key \"" SPAN_FMT "\"", scope_what(id),
            SPAN_ARG(local));
  struct suggest s = suggest_for(node->key);
  struct span ours = foreign_word(node->key);
  bool group = false;
  if (ours.len && span_eq(local, node->key) && option_find(id, ours, &group))
    s.best = ours;
  else
    offer_keys(&s, id, local);
  if (s.best.len) {
    suggest_note(&s, f);
    return;
  }
  struct span there = offer_elsewhere(id, node->key);
  if (there.len) fault_note(f, "did you mean \"" SPAN_FMT "\"?", SPAN_ARG(there));
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
    return;
  }
  for (const struct node *n = node->first; n; n = n->next) {
    if (n->kind != NODE_GROUP) {
      group_wanted(a, n, option->path);
      continue;
    }
    if (!name_is_good(n->key))
      fault_add(conf->faults, FAULT_BAD_NAME, n->key_at, "\"" SPAN_FMT "\" is no name",
                SPAN_ARG(n->key));
    struct conf_row *made = row_new(conf, row_member(row, option), option_child(option), row);
    made->name = n->key;
    made->at = n->key_at;
    work_add(a, made, n);
  }
}

/* endpoint_string: an endpoint may be written as its address alone. */
static void apply_element(struct apply *a, struct conf_row *row, const struct option *option,
                          const struct node *n) {
  bool string = n->kind == NODE_STRING && option->id == OPTION_POOL_ENDPOINTS;
  if (!string && n->kind != NODE_GROUP) {
    group_wanted(a, n, option->path);
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
    return;
  }
  for (const struct node *n = node->first; n; n = n->next) apply_element(a, row, option, n);
}

/* ---- one group ---- */

/* apply_key handles one key; true when its children are keys of the same scope. */
static bool apply_key(struct apply *a, struct conf_row *row, const struct node *top,
                      const struct node *node) {
  bool group = false;
  struct span local = local_path(a, top, node);
  const struct option *option = option_find(row->scope, local, &group);
  if (group && node->kind == NODE_GROUP) return true;
  if (group) {
    group_wanted(a, node, arena_str(&a->conf->arena, local));
  } else if (!option) {
    unknown_key(a, row->scope, node, local);
  } else if (option->type == TYPE_MAP || option->type == TYPE_ROWS) {
    origin_of(row, option->id)->node = node;
    if (option->type == TYPE_MAP)
      apply_map(a, row, option, node);
    else
      apply_rows(a, row, option, node);
  } else if (option->id != OPTION_INCLUDE) { /* load.c read it before */
    apply_value(a->conf, row, option, node);
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

/* apply_group walks the keys in pre-order, going down where a key is only a group of keys. */
static void apply_group(struct apply *a, struct conf_row *row, const struct node *top) {
  const struct node *node = top->first;
  while (node) {
    if (row->scope == SCOPE_LISTENER && span_eq(node->key, SPAN_LIT("tls")) && node->parent == top)
      ((struct conf_listener *)row)->has_tls = true;
    if (row->scope == SCOPE_POOL && span_eq(node->key, SPAN_LIT("health")) && node->parent == top)
      ((struct conf_pool *)row)->health.on = node->kind == NODE_GROUP;
    if (row->scope == SCOPE_POOL && span_eq(node->key, SPAN_LIT("tls")) && node->parent == top)
      ((struct conf_pool *)row)->tls.on = node->kind == NODE_GROUP;
    if (row->scope == SCOPE_ROUTE && span_eq(node->key, SPAN_LIT("client_cert")))
      cert_asked(a, node);
    if (apply_key(a, row, top, node) && node->first) {
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
