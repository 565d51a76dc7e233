/* check_cert_falls.c: routes that ask for a client certificate and protect nothing, for a request
 * without it falls through (packaging/docs/match.md) to a route of the same pool that asks for
 * none. What a request falls to is looked for as the match does it: the same host, the path, then
 * shorter prefixes; the first route that takes all of them stands in between. Regexes are followed
 * only where they are written alike, and routes with conditions of their own are left out: those
 * say themselves whom they are for. And rows of tls.client for some names, whose clients are asked
 * for nothing by another name, while routes do not tell the names apart. Called by check.c when
 * there are no errors. */
#include "load_priv.h"

/* stop is a route that a request without a certificate may fall to; those of one key in a chain.
 */
struct stop {
  struct stop *next;
  const struct conf_route *route;
};

struct falls {
  struct conf *conf;
  struct names stops; /* by listener, host, kind and text of the path */
  const struct conf_listener *listener;
  struct span host;
};

static bool given(const struct conf_route *route, enum option_id id) {
  return row_origin(&route->row, id)->node != NULL;
}

/* wants_one: of the client's certificate; asking that there be none protects nothing. */
static bool wants_one(const struct conf_route *route) {
  return route_asks_cert(route) &&
         !(given(route, OPTION_ROUTE_CERT_PRESENT) && !route->cert_present);
}

static bool wants_any(const struct conf_route *route) {
  return wants_one(route) && !route->cert_sans.count && !route->cert_fingerprints.count &&
         !route->cert_keys.count;
}

/* open_to_all: but for methods, and for clients without a certificate. */
static bool open_to_all(const struct conf_route *route) {
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++)
    if (route->values[part].count) return false;
  return !route->sources.count && !wants_one(route);
}

static struct span key_of(const struct falls *f, char kind, struct span path) {
  return arena_printf(&f->conf->arena, SPAN_FMT " " SPAN_FMT " %c" SPAN_FMT,
                      SPAN_ARG(f->listener->row.name), SPAN_ARG(f->host), kind, SPAN_ARG(path));
}

static char kind_of(const struct conf_route *route) {
  return route->path.len ? '=' : route->regex.len ? '~' : '^';
}

static void each_host(struct falls *f, struct conf_route *route,
                      void (*each)(struct falls *f, struct conf_route *route)) {
  f->host = SPAN_LIT("*");
  if (!route->hosts.count) each(f, route);
  for (uint32_t i = 0; i < route->hosts.count; i++) {
    f->host = route->hosts.items[i].text;
    each(f, route);
  }
}

static void add(struct falls *f, struct conf_route *route) {
  struct stop *stop = arena_get(&f->conf->arena, sizeof *stop);
  *stop = (struct stop){.route = route};
  struct stop *first = names_put(&f->stops, key_of(f, kind_of(route), route_path(route)), stop);
  if (!first) return;
  stop->next = first->next;
  first->next = stop;
}

/* ---- two routes ---- */

static bool listed(const struct conf_list *list, struct span text) {
  for (uint32_t i = 0; i < list->count; i++)
    if (span_eq(list->items[i].text, text)) return true;
  return false;
}

/* shared_methods counts the methods of a that b takes too; one for all of those without a list. */
static uint32_t shared_methods(const struct conf_route *a, const struct conf_route *b) {
  uint32_t count = 0;
  if (!a->methods.count) return 1;
  for (uint32_t i = 0; i < a->methods.count; i++)
    count += !b->methods.count || listed(&b->methods, a->methods.items[i].text);
  return count;
}

static bool takes_all(const struct conf_route *stop, const struct conf_route *route) {
  bool none = given(stop, OPTION_ROUTE_CERT_PRESENT); /* clients without one only */
  if (none && !wants_any(route)) return false;
  if (!stop->methods.count) return true;
  return route->methods.count && shared_methods(route, stop) == route->methods.count;
}

static bool leads_to(const struct conf_route *route, struct span pool) {
  if (!pool.len) return false;
  if (span_eq(route->pool, pool)) return true;
  rows_each(&route->splits, struct conf_split, split) if (span_eq(split->pool, pool)) return true;
  return false;
}

static bool same_pool(const struct conf_route *a, const struct conf_route *b) {
  if (leads_to(b, a->pool)) return true;
  rows_each(&a->splits, struct conf_split, split) if (leads_to(b, split->pool)) return true;
  return false;
}

static bool leaks(const struct conf_route *stop, const struct conf_route *route) {
  bool meant = given(stop, OPTION_ROUTE_CERT_PRESENT); /* it says that it is for those */
  return !meant && shared_methods(route, stop) && same_pool(route, stop);
}

/* ---- the fall ---- */

/* level looks at the routes of one path; true: the fall ends there, *hit where it should not. */
static bool level(const struct falls *f, const struct conf_route *route, struct span key,
                  const struct conf_route **hit) {
  bool ends = false;
  for (struct stop *s = names_find(&f->stops, key); s; s = s->next) {
    if (leaks(s->route, route)) *hit = s->route;
    ends = ends || takes_all(s->route, route);
  }
  return ends || *hit;
}

/* shorter is the next prefix of whole segments; false: there was none. */
static bool shorter(struct span *path) {
  if (path->len <= 1) return false;
  size_t slash = span_last(*path, '/');
  *path = slash == SIZE_MAX || slash == 0 ? SPAN_LIT("/") : span_sub(*path, 0, slash);
  return true;
}

static const struct conf_route *falls_to(const struct falls *f, const struct conf_route *route) {
  const struct conf_route *hit = NULL;
  struct span path = route->regex.len ? SPAN_LIT("/") : route_path(route);
  if (kind_of(route) != '^' && level(f, route, key_of(f, kind_of(route), route_path(route)), &hit))
    return hit;
  do {
    if (level(f, route, key_of(f, '^', path), &hit)) return hit;
  } while (shorter(&path));
  return NULL;
}

/* all_have_one: clients without a certificate are not let in, by any name. */
static bool all_have_one(const struct conf_listener *listener) {
  bool rest = false;
  rows_each(&listener->clients, struct conf_client_auth, row) {
    if (row->verify != CLIENT_VERIFY_REQUIRED) return false;
    rest = rest || !row->names.count;
  }
  return rest;
}

static void look(struct falls *f, struct conf_route *route) {
  if (route->falls || (wants_any(route) && all_have_one(f->listener))) return;
  const struct conf_route *hit = falls_to(f, route);
  if (!hit) return;
  route->falls = true;
  fault_add(f->conf->faults, FAULT_CERT_FALLS, route->row.at,
            "requests for route \"" SPAN_FMT
            "\" without its certificate go to the same pool by "
            "route \"" SPAN_FMT "\"",
            SPAN_ARG(route->label), SPAN_ARG(hit->label));
  fault_note(
      f->conf->faults,
      "add a route of the same path without client_cert: respond = { status = 403; }; or, if "
      "the fall is meant, tell in route \"" SPAN_FMT
      "\" whom it is for: client_cert = { present = %s; };",
      SPAN_ARG(hit->label), all_have_one(f->listener) ? "true" : "false");
  fault_other(f->conf->faults, "falls to", hit->row.at);
}

/* ---- names that are asked, and others ---- */

/* told_apart: has the name routes of its own? What has none gets those without hosts. */
static bool told_apart(struct conf *conf, const struct conf_listener *listener,
                       struct span name) {
  rows_each(&conf->root.routes, struct conf_route, route) {
    if (!route_on(route, listener)) continue;
    for (uint32_t i = 0; i < route->hosts.count; i++)
      if (hosts_meet(name, route->hosts.items[i].text)) return true;
  }
  return false;
}

/* way_of_all is the first route that leads whoever comes, by any name, to a pool. */
static const struct conf_route *way_of_all(struct conf *conf,
                                           const struct conf_listener *listener) {
  rows_each(&conf->root.routes, struct conf_route, route) {
    bool leads = route->pool.len || route->splits.count;
    bool says = given(route, OPTION_ROUTE_CERT_PRESENT); /* whom it is for */
    if (route_on(route, listener) && !route->hosts.count && leads && !says && open_to_all(route))
      return route;
  }
  return NULL;
}

static bool all_named(const struct conf_listener *listener) {
  rows_each(&listener->clients, struct conf_client_auth, row)
    if (!row->names.count) return false;
  return true;
}

/* check_others: of each row one name is told. */
static void check_others(struct conf *conf, const struct conf_listener *listener) {
  const struct conf_route *way = way_of_all(conf, listener);
  if (!way || !all_named(listener)) return;
  rows_each(&listener->clients, struct conf_client_auth, row) {
    uint32_t i = 0;
    while (i < row->names.count && told_apart(conf, listener, row->names.items[i].text)) i++;
    if (row->verify != CLIENT_VERIFY_REQUIRED || i == row->names.count) continue;
    struct conf_item *name = &row->names.items[i];
    fault_add(conf->faults, FAULT_CERT_OTHERS, name->at,
              "listener \"" SPAN_FMT "\": clients of " SPAN_FMT
              " need a certificate, those of other names and of none go to the same pool "
              "without one by route \"" SPAN_FMT "\"",
              SPAN_ARG(listener->row.name), SPAN_ARG(name->text), SPAN_ARG(way->label));
    fault_note(conf->faults,
               "add a row without names, which is for all others; or tell them apart in the "
               "route: hosts = \"" SPAN_FMT "\"; or client_cert = { present = true; };",
               SPAN_ARG(name->text));
    fault_other(conf->faults, "route", way->row.at);
  }
}

void check_cert_falls(struct conf *conf, const struct conf_listener *listener) {
  check_others(conf, listener);
  struct falls f = {.conf = conf, .listener = listener};
  bool any = false;
  f.stops.arena = &conf->arena;
  rows_each(&conf->root.routes, struct conf_route, route) any =
      any || (route_on(route, listener) && wants_one(route));
  if (!any) return;
  rows_each(&conf->root.routes, struct conf_route,
            route) if (route_on(route, listener) && open_to_all(route)) each_host(&f, route, add);
  rows_each(&conf->root.routes, struct conf_route,
            route) if (route_on(route, listener) && wants_one(route)) each_host(&f, route, look);
}
