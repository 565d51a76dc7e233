/* check_client_auth.c: what the keys of listeners.*.tls.client mean together, and whether the
 * client certificate that a route asks for can be there. What stands in the files is the TLS
 * seam's affair. Called by check.c and check_routes.c. */
#include "doubt_priv.h"
#include "load_priv.h"

/* ---- listeners ---- */

static void twice(struct conf *conf, const struct conf_client_auth *row,
                  const struct conf_client_auth *first, struct span name) {
  fault_add(conf->faults, FAULT_CLIENT_TWICE, row->row.at,
            "two rows of tls.client are for " SPAN_FMT, SPAN_ARG(name));
  fault_other(conf->faults, "first", first->row.at);
}

static void check_names(struct conf *conf, struct conf_client_auth *row, struct names *all) {
  for (uint32_t i = 0; i < row->names.count; i++) {
    struct span name = row->names.items[i].text;
    const struct conf_client_auth *first = names_put(all, name, row);
    if (first) twice(conf, row, first, name);
  }
}

static void check_forward(struct conf *conf, const struct conf_listener *listener,
                          const struct conf_client_auth *row) {
  if (listener->protocol != CONF_TCP || !row->forward) return;
  fault_add(conf->faults, FAULT_TCP_UNUSED, row_place(&row->row, OPTION_CLIENT_FORWARD),
            "listener \"" SPAN_FMT "\" serves TCP: forward means nothing",
            SPAN_ARG(listener->row.name));
}

void check_client_auth(struct conf *conf, const struct conf_listener *listener) {
  struct names all = {.arena = &conf->arena};
  const struct conf_client_auth *rest = NULL;
  if (faults_has_syntax(conf->faults)) return; /* names may have been left out */
  rows_each(&listener->clients, struct conf_client_auth, row) {
    bool named = row_origin(&row->row, OPTION_CLIENT_NAMES)->node != NULL;
    check_forward(conf, listener, row);
    check_names(conf, row, &all);
    if (named) continue;
    if (rest)
      twice(conf, row, rest, SPAN_LIT("all other names"));
    else
      rest = row;
  }
}

/* ---- routes ---- */

static bool given(const struct conf_route *route, enum option_id id) {
  return row_origin(&route->row, id)->node != NULL;
}

/* asks_which: it asks which certificate it is. */
static bool asks_which(const struct conf_route *route) {
  return given(route, OPTION_ROUTE_CERT_SAN) || given(route, OPTION_ROUTE_CERT_FINGERPRINT) ||
         given(route, OPTION_ROUTE_CERT_KEY);
}

bool route_asks_cert(const struct conf_route *route) {
  return asks_which(route) || given(route, OPTION_ROUTE_CERT_PRESENT);
}

static enum option_id first_given(const struct conf_route *route) {
  enum option_id id = OPTION_ROUTE_CERT_PRESENT;
  while (!given(route, id) && id < OPTION_ROUTE_CERT_KEY) id++;
  return id;
}

/* below: is name a *.domain that holds other, which may be one too? */
static bool below(struct span name, struct span other) {
  if (!span_starts(name, SPAN_LIT("*."))) return false;
  return other.len > name.len - 1 && span_ends(other, span_from(name, 1));
}

bool hosts_meet(struct span a, struct span b) {
  return span_eq(a, b) || below(a, b) || below(b, a);
}

/* meets: is there a host that both are for? */
static bool meets(const struct conf_client_auth *row, const struct conf_route *route) {
  if (!row->names.count || !route->hosts.count) return true;
  for (uint32_t i = 0; i < row->names.count; i++)
    for (uint32_t k = 0; k < route->hosts.count; k++)
      if (hosts_meet(row->names.items[i].text, route->hosts.items[k].text)) return true;
  return false;
}

/* unsure: may a listener of the route ask, or one be of the route, that could not be read? */
static bool unsure(const struct conf *conf, const struct conf_route *route) {
  uint32_t named = 0;
  if (row_lost(&route->row, OPTION_ROUTE_LISTENERS) || row_lost(&route->row, OPTION_ROUTE_HOSTS))
    return true;
  rows_each(&conf->root.listeners, struct conf_listener, listener) {
    const struct conf_row *row = &listener->row;
    for (uint32_t i = 0; i < route->listeners.count; i++)
      named += span_eq(route->listeners.items[i].text, row->name);
    if (row_lost(row, OPTION_LISTENER_PROTOCOL)) return true;
    if (!route_on(route, listener)) continue;
    if (!listener->has_tls && !listener_plain(listener)) return true;
    if (row_lost(row, OPTION_LISTENER_CLIENTS)) return true;
    rows_each(&listener->clients, struct conf_client_auth, client)
      if (row_lost(&client->row, OPTION_CLIENT_NAMES)) return true;
  }
  return named < route->listeners.count || !conf_whole(conf, OPTION_LISTENERS);
}

/* asked tells whether a listener of the route asks clients for a certificate, under a name that
 * the route is for: another one's requests are answered with 421. */
static bool asked(const struct conf *conf, const struct conf_route *route) {
  rows_each(&conf->root.listeners, struct conf_listener, listener) {
    if (!route_on(route, listener)) continue;
    rows_each(&listener->clients, struct conf_client_auth, row)
      if (meets(row, route)) return true;
  }
  return false;
}

void check_cert_asked(struct conf *conf, const struct conf_route *route) {
  bool none = given(route, OPTION_ROUTE_CERT_PRESENT) && !route->cert_present;
  struct conf_faults *f = conf->faults;
  bool broken =
      faults_has_syntax(f) ||
      row_lost_any(&route->row, OPTION_ROUTE_CERT_PRESENT, OPTION_ROUTE_CERT_KEY);
  if (!route_asks_cert(route) || broken) return;
  struct place at = row_place(&route->row, first_given(route));
  if (none && asks_which(route)) {
    fault_add(f, FAULT_CERT_UNASKED, at,
              "route \"" SPAN_FMT
              "\" asks for clients without a certificate, and for what stands "
              "in theirs",
              SPAN_ARG(route->label));
  } else if (!none && !asked(conf, route) && !unsure(conf, route)) {
    fault_add(f, FAULT_CERT_UNASKED, at,
              "route \"" SPAN_FMT
              "\" asks for a client certificate, none of its listeners does for its hosts",
              SPAN_ARG(route->label));
    fault_note(f, "tls = { client = ( { verify = \"optional\"; ca = \"file:ca.crt\"; } ); };");
  }
}
