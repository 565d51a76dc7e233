/* doubt.c: what faults leave in doubt: values that were refused, keys that are not known and what
 * may have been meant by them. So that no fault hides another one, and none is told that only
 * follows from another: a rule is not judged where, and only where, it asks for what is in doubt.
 * Broken syntax (W00xx) leaves all that is missing in doubt: who checks that asks for it himself.
 * Called by apply.c and check*.c. */
#include "doubt_priv.h"

#include "load_priv.h"

/* ---- values ---- */

static struct conf_origin *origin_at(struct conf_row *row, uint32_t i) { return &row->origins[i]; }

void row_lose(struct conf_row *row, enum option_id id) {
  const struct scope *scope = scope_get(row->scope);
  check(option_get(id)->scope == row->scope);
  origin_at(row, (uint32_t)id - scope->first)->lost = true;
}

void row_lose_path(struct conf_row *row, struct span path) {
  const struct scope *scope = scope_get(row->scope);
  for (uint32_t i = 0; i < scope->count; i++) {
    struct span local = option_local(option_get((enum option_id)(scope->first + i)));
    bool in = local.len > path.len && local.ptr[path.len] == '.';
    if (span_starts(local, path) && (in || local.len == path.len)) origin_at(row, i)->lost = true;
  }
}

void row_lose_all(struct conf_row *row) {
  for (uint32_t i = 0; i < scope_get(row->scope)->count; i++) origin_at(row, i)->lost = true;
  row->strays = true;
}

bool row_lost(const struct conf_row *row, enum option_id id) {
  return row_origin(row, id)->lost;
}

bool row_lost_any(const struct conf_row *row, enum option_id first, enum option_id last) {
  for (enum option_id id = first; id <= last; id++)
    if (row_lost(row, id)) return true;
  return false;
}

bool listener_plain(const struct conf_listener *listener) {
  const struct conf_row *row = &listener->row;
  return !listener->has_tls && !row->stray_group && !row_lost(row, OPTION_LISTENER_CERTS);
}

bool pool_plain(const struct conf_pool *pool) {
  const struct conf_row *row = &pool->row;
  return !pool->tls.on && !row->stray_group && !row_lost(row, OPTION_POOL_TLS_VERIFY);
}

bool conf_whole(const struct conf *conf, enum option_id map) {
  static const enum fault_id hiding[] = {FAULT_FILE_READ, FAULT_INCLUDE_READ, FAULT_INCLUDE_MANY,
                                         FAULT_INCLUDE_NONE, FAULT_INCLUDE_NESTED};
  const struct conf_row *root = &conf->root.row;
  for (size_t i = 0; i < array_count(hiding); i++)
    if (faults_has(conf->faults, hiding[i])) return false;
  return !row_lost(root, map) && !row_lost(root, OPTION_INCLUDE) &&
         !faults_has_syntax(conf->faults);
}

/* ---- keys ---- */

struct span node_name(const struct node *node) {
  return node->meant.len ? node->meant : node->key;
}

bool node_guessed(const struct node *node) {
  for (; node; node = node->parent)
    if (node->meant.len) return true;
  return false;
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

const char *scope_what(enum scope_id id) {
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

/* beside is the path of a key in the group of local. */
static struct span beside(struct arena *arena, struct span local, struct span key) {
  struct span head = span_sub(local, 0, span_last(local, '.') + 1); /* none: 0 */
  return arena_printf(arena, SPAN_FMT SPAN_FMT, SPAN_ARG(head), SPAN_ARG(key));
}

/* stray: nobody knows what a key was meant for. */
static struct span stray(struct conf_row *row, const struct node *node) {
  row->strays = true;
  row->stray_group = row->stray_group || node->kind == NODE_GROUP;
  return SPAN_EMPTY;
}

struct span unknown_key(struct conf *conf, struct conf_row *row, const struct node *node,
                        struct span local) {
  struct conf_faults *f = conf->faults;
  enum scope_id id = row->scope;
  if (node->parent->suspect) return stray(row, node);
  if (option_later(id, local)) {
    fault_add(f, FAULT_LATER, node->key_at, "\"" SPAN_FMT "\" of %s is not in this version",
              SPAN_ARG(local), scope_what(id));
    row_lose_all(row);
    return SPAN_EMPTY;
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
    return beside(&conf->arena, local, s.best);
  }
  struct span there = offer_elsewhere(id, node->key);
  if (there.len) fault_note(f, "did you mean \"" SPAN_FMT "\"?", SPAN_ARG(there));
  return there.len ? there : stray(row, node);
}
