/* check_routes.c: each route's action and references, names, and whether a route could never be
 * used, for others match all its requests exactly. The match itself is model/route_table.c. Called
 * by check.c. */
#include <stdlib.h>

#include "check_limits_priv.h"
#include "doubt_priv.h"
#include "weir/http/message.h"

static bool is_set(const struct conf_route *route, enum option_id id) {
  return row_origin(&route->row, id)->node != NULL;
}

/* whole tells whether every element of a list was good; what was refused must not look like
 * "any". */
static bool whole(const struct conf_route *route, enum option_id id,
                  const struct conf_list *list) {
  const struct node *node = row_origin(&route->row, id)->node;
  if (!node) return true;
  bool many = node->kind == NODE_ARRAY || node->kind == NODE_LIST;
  return list->count == (many ? node->count : 1) && list->count > 0;
}

bool route_on(const struct conf_route *route, const struct conf_listener *listener) {
  if (listener->protocol != CONF_HTTP) return false;
  if (!route->listeners.count) return true;
  for (uint32_t i = 0; i < route->listeners.count; i++)
    if (span_eq(route->listeners.items[i].text, listener->row.name)) return true;
  return false;
}

/* ---- labels ---- */

static void put_list(struct text *out, const struct conf_list *list, const char *none) {
  if (!list->count) text_printf(out, "%s", none);
  for (uint32_t i = 0; i < list->count; i++)
    text_printf(out, "%s" SPAN_FMT, i ? "," : "", SPAN_ARG(list->items[i].text));
}

struct span route_path(const struct conf_route *route) {
  return route->path.len ? route->path : route->regex.len ? route->regex : route->prefix;
}

struct span route_label(const struct conf_route *route, struct arena *arena) {
  if (route->name.len) return route->name;
  struct text out = {0};
  if (route->listeners.count) {
    put_list(&out, &route->listeners, "");
    text_lit(&out, "@");
  }
  put_list(&out, &route->hosts, "*");
  if (route->regex.len) text_lit(&out, "~");
  text_put(&out, route_path(route));
  if (route->prefix.len) text_put(&out, route->prefix.len > 1 ? SPAN_LIT("/*") : SPAN_LIT("*"));
  if (route->methods.count) text_lit(&out, " ");
  put_list(&out, &route->methods, "");
  conditions_write(route, arena, false, &out);
  struct span label = arena_copy(arena, text_span(&out), NULL);
  text_fini(&out);
  return label;
}

/* ---- one route ---- */

static void undefined(struct conf *conf, const struct conf_route *route, const char *what,
                      struct span name, struct place at, const struct conf_rows *rows) {
  fault_add(conf->faults, FAULT_UNDEFINED, at,
            "route \"" SPAN_FMT "\" uses %s \"" SPAN_FMT "\", which is not defined",
            SPAN_ARG(route->label), what, SPAN_ARG(name));
  struct suggest s = suggest_for(name);
  rows_each(rows, struct conf_row_any, it) suggest_offer(&s, it->row.name, &it->row.at);
  suggest_note(&s, conf->faults);
}

/* maps finds pools, listeners and policies by name. */
struct maps {
  struct names pools, listeners, policies, routes, keys;
};

/* use_pool gives the pool of a name; NULL when there is none, which is a fault unless broken. */
static struct conf_pool *use_pool(struct conf *conf, const struct conf_route *route,
                                  const struct maps *maps, struct span name, struct place at) {
  struct conf_pool *pool = names_find(&maps->pools, name);
  if (pool) pool->used = true;
  else if (conf_whole(conf, OPTION_POOLS))
    undefined(conf, route, "pool", name, at, &conf->root.pools);
  return pool;
}

static void check_references(struct conf *conf, struct conf_route *route,
                             const struct maps *maps) {
  bool all_listeners = conf_whole(conf, OPTION_LISTENERS);
  bool all_policies = conf_whole(conf, OPTION_POLICIES);
  uint32_t rates = 0;
  for (uint32_t i = 0; i < route->listeners.count && all_listeners; i++) {
    const struct conf_item *item = &route->listeners.items[i];
    if (!names_find(&maps->listeners, item->text))
      undefined(conf, route, "listener", item->text, item->at, &conf->root.listeners);
  }
  for (uint32_t i = 0; i < route->policies.count; i++) {
    const struct conf_item *item = &route->policies.items[i];
    struct conf_policy *policy = names_find(&maps->policies, item->text);
    rates += policy && policy->rate.limit.len;
    if (policy)
      policy->used = true;
    else if (all_policies)
      undefined(conf, route, "policy", item->text, item->at, &conf->root.policies);
  }
  check_rates(conf, "route", route->label, row_place(&route->row, OPTION_ROUTE_POLICIES), rates);
  rows_each(&route->splits, struct conf_split, split)
    if (split->pool.len)
      (void)use_pool(conf, route, maps, split->pool, row_place(&split->row, OPTION_SPLIT_POOL));
  if (route->pool.len)
    route->pool_row =
        use_pool(conf, route, maps, route->pool, row_place(&route->row, OPTION_ROUTE_POOL));
}

/* check_mirror: copies are made of what is forwarded. */
static void check_mirror(struct conf *conf, struct conf_route *route, const struct maps *maps) {
  struct conf_faults *f = conf->faults;
  bool broken = faults_has_syntax(f);
  bool pool = is_set(route, OPTION_ROUTE_MIRROR_POOL);
  broken = broken || row_lost(&route->row, OPTION_ROUTE_MIRROR_POOL);
  if (is_set(route, OPTION_ROUTE_MIRROR_PERCENT) && !pool && !broken)
    fault_add(f, FAULT_MISSING, row_place(&route->row, OPTION_ROUTE_MIRROR_PERCENT),
              "mirror needs \"pool\"");
  if (!route->mirror_pool.len) return;
  struct place at = row_place(&route->row, OPTION_ROUTE_MIRROR_POOL);
  struct conf_pool *found = names_find(&maps->pools, route->mirror_pool);
  if (found) found->used = true;
  else if (conf_whole(conf, OPTION_POOLS))
    undefined(conf, route, "pool", route->mirror_pool, at, &conf->root.pools);
  if ((route_redirects(route) || route_responds(route)) && !route->pool.len)
    fault_add(f, FAULT_MIRROR, at,
              "route \"" SPAN_FMT "\" answers by itself: there is nothing to mirror",
              SPAN_ARG(route->label));
}

/* action_lost: a key of an action is misspelt, or an unknown group may be one. */
static bool action_lost(const struct conf_route *route) {
  const struct conf_row *row = &route->row;
  return row->stray_group || row_lost(row, OPTION_ROUTE_POOL) ||
         row_lost(row, OPTION_ROUTE_SPLIT) ||
         row_lost_any(row, OPTION_ROUTE_REDIRECT_TO, OPTION_ROUTE_RESPOND_HEADERS);
}

/* check_action: exactly one; then what its keys mean together. */
static void check_action(struct conf *conf, const struct conf_route *route) {
  struct conf_faults *f = conf->faults;
  bool pool = is_set(route, OPTION_ROUTE_POOL), split = is_set(route, OPTION_ROUTE_SPLIT);
  unsigned actions = (pool ? 1u : 0) + (split ? 1u : 0) + (route_redirects(route) ? 1u : 0) +
                     (route_responds(route) ? 1u : 0);
  if (actions > 1) {
    fault_add(f, FAULT_ACTION_MANY, route->row.at,
              "route \"" SPAN_FMT "\" has %u actions: it needs one of pool, split, redirect, "
              "respond",
              SPAN_ARG(route->label), actions);
  } else if (actions == 0 && !faults_has_syntax(f) && !action_lost(route)) {
    fault_add(f, FAULT_ACTION_NONE, route->row.at,
              "route \"" SPAN_FMT "\" has no action: it needs one of pool, split, redirect, "
              "respond",
              SPAN_ARG(route->label));
  }
  if (actions == 1) check_actions(conf, route);
}

static unsigned path_keys(const struct conf_route *route) {
  return (is_set(route, OPTION_ROUTE_PATH) ? 1u : 0) +
         (is_set(route, OPTION_ROUTE_PREFIX) ? 1u : 0) +
         (is_set(route, OPTION_ROUTE_REGEX) ? 1u : 0);
}

static void check_details(struct conf *conf, const struct conf_route *route) {
  struct conf_faults *f = conf->faults;
  if (path_keys(route) > 1) {
    enum option_id second = is_set(route, OPTION_ROUTE_PREFIX) ? OPTION_ROUTE_PREFIX
                                                               : OPTION_ROUTE_REGEX;
    enum option_id first = is_set(route, OPTION_ROUTE_PATH) ? OPTION_ROUTE_PATH
                                                            : OPTION_ROUTE_REGEX;
    fault_add(f, FAULT_PATH_AND_PREFIX, row_place(&route->row, second),
              "route \"" SPAN_FMT "\" has more than one of path, prefix and regex",
              SPAN_ARG(route->label));
    fault_other(f, arena_str(&conf->arena, option_local(option_get(first))),
                row_place(&route->row, first));
  }
  bool forwards = is_set(route, OPTION_ROUTE_POOL) || is_set(route, OPTION_ROUTE_SPLIT) ||
                  action_lost(route);
  if (row_lost(&route->row, OPTION_ROUTE_PREFIX)) return;
  if (route->strip_prefix && (route->prefix.len < 2 || !forwards) &&
      (route->prefix.len || !is_set(route, OPTION_ROUTE_PREFIX)))
    fault_add(f, FAULT_STRIP_PREFIX, row_place(&route->row, OPTION_ROUTE_STRIP_PREFIX),
              "strip_prefix needs a prefix longer than \"/\" and a pool");
}

static void check_name(struct conf *conf, struct conf_route *route, struct maps *maps) {
  if (!route->name.len) return;
  const struct conf_route *first = names_put(&maps->routes, route->name, route);
  if (!first) return;
  fault_add(conf->faults, FAULT_DUPLICATE_NAME, row_place(&route->row, OPTION_ROUTE_NAME),
            "route \"" SPAN_FMT "\" is defined twice", SPAN_ARG(route->name));
  fault_other(conf->faults, "first", row_place(&first->row, OPTION_ROUTE_NAME));
}

/* ---- identical keys ---- */

static int by_text(const void *a, const void *b) {
  const struct conf_item *x = a, *y = b;
  return span_cmp(x->text, y->text);
}

/* match_tail is what two routes have in common when they match alike, but for listener and host.
 * */
static struct span match_tail(const struct conf_route *route, struct arena *arena) {
  struct text out = {0};
  char kind = route->path.len ? '=' : route->regex.len ? '~' : '^';
  struct span path = route_path(route); /* there may be spaces in a regex */
  text_printf(&out, "%c%zu " SPAN_FMT, kind, path.len, SPAN_ARG(path));
  struct conf_item *sorted = arena_get(arena, (route->methods.count + 1) * sizeof *sorted);
  for (uint32_t i = 0; i < route->methods.count; i++) sorted[i] = route->methods.items[i];
  if (route->methods.count) qsort(sorted, route->methods.count, sizeof *sorted, by_text);
  for (uint32_t i = 0; i < route->methods.count; i++)
    text_printf(&out, " " SPAN_FMT, SPAN_ARG(sorted[i].text));
  conditions_write(route, arena, true, &out);
  struct span tail = arena_copy(arena, text_span(&out), NULL);
  text_fini(&out);
  return tail;
}

/* taken is what was found of a route's hosts on its listeners: the first other route that has one
 * of them, whether a further one does, and whether one is left for this route alone. */
struct taken {
  const struct conf_route *first;
  bool others, some_free;
};

static void add_key(struct maps *maps, struct conf_route *route, struct span key,
                    struct taken *taken) {
  const struct conf_route *first = names_put(&maps->keys, key, route);
  if (!first || first == route)
    taken->some_free = true;
  else if (!taken->first)
    taken->first = first;
  else if (taken->first != first)
    taken->others = true;
}

static void add_hosts(struct maps *maps, struct conf_route *route, struct span listener,
                      struct span tail, struct taken *taken) {
  for (uint32_t i = 0; i == 0 || i < route->hosts.count; i++) {
    struct span host = route->hosts.count ? route->hosts.items[i].text : SPAN_LIT("*");
    struct span key = arena_printf(maps->keys.arena, SPAN_FMT " " SPAN_FMT " " SPAN_FMT,
                                   SPAN_ARG(listener), SPAN_ARG(host), SPAN_ARG(tail));
    add_key(maps, route, key, taken);
  }
}

/* check_unique: where a part of a route's hosts or listeners is taken the place in the file
 * decides: one rule for some listeners before one for all is no mistake. */
static void check_unique(struct conf *conf, struct conf_route *route, struct maps *maps) {
  bool broken = path_keys(route) > 1 || !route_path(route).len || !conditions_whole(route) ||
                route->row.strays ||
                row_lost_any(&route->row, OPTION_ROUTE_LISTENERS, OPTION_ROUTE_CERT_KEY);
  if (broken || !whole(route, OPTION_ROUTE_SOURCES, &route->sources) ||
      !whole(route, OPTION_ROUTE_HOSTS, &route->hosts) ||
      !whole(route, OPTION_ROUTE_METHODS, &route->methods) ||
      !whole(route, OPTION_ROUTE_LISTENERS, &route->listeners))
    return; /* a fault stands there already */
  struct span tail = match_tail(route, &conf->arena);
  struct taken taken = {.first = NULL};
  rows_each(&conf->root.listeners, struct conf_listener, listener) {
    if (!route_on(route, listener)) continue;
    add_hosts(maps, route, listener->row.name, tail, &taken);
  }
  const struct conf_route *first = taken.first;
  if (!first || taken.some_free) return;
  fault_add(conf->faults, FAULT_DUPLICATE_ROUTE, route->row.at,
            "route \"" SPAN_FMT "\" matches the same requests as route \"" SPAN_FMT "\"%s",
            SPAN_ARG(route->label), SPAN_ARG(first->label),
            taken.others ? " and others before it" : "");
  fault_other(conf->faults, "first", first->row.at);
}

void check_routes(struct conf *conf) {
  struct arena *arena = &conf->arena;
  struct names names = {.arena = arena};
  struct maps maps = {names, names, names, names, names};
  rows_each(&conf->root.pools, struct conf_pool, pool)
    names_put(&maps.pools, pool->row.name, pool);
  rows_each(&conf->root.listeners, struct conf_listener, listener)
    names_put(&maps.listeners, listener->row.name, listener);
  rows_each(&conf->root.policies, struct conf_policy, policy)
      names_put(&maps.policies, policy->row.name, policy);
  rows_each(&conf->root.routes, struct conf_route, route) {
    if (path_keys(route) == 0) route->prefix = SPAN_LIT("/");
    route->label = route_label(route, arena);
    check_name(conf, route, &maps);
    check_action(conf, route);
    check_details(conf, route);
    check_split(conf, route);
    check_conditions(conf, route);
    check_cert_asked(conf, route);
    check_references(conf, route, &maps);
    check_mirror(conf, route, &maps);
    check_unique(conf, route, &maps);
  }
}
