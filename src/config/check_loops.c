/* check_loops.c: listeners of TCP and UDP that lead back to themselves: an endpoint of the pool is
 * the address that the listener binds, or that of another one that leads here. Each connection
 * and datagram would go round for ever. So would requests of a route that leads to its own
 * listener as they came; what comes to another listener of HTTP is not followed: the routes there
 * decide. Only addresses that stand in the file are compared: names are not, nor is which
 * addresses the machine has, but for loopback. Called by check.c when there are no errors. */
#include "load_priv.h"

/* loops is the listeners, and whom their addresses belong to. */
struct loops {
  struct conf *conf;
  struct names pools;              /* name -> struct conf_pool */
  struct names told;               /* name -> conf_pool: of its endpoints a route's was told */
  struct names streams, datagrams; /* bound address -> struct node_of */
  struct node_of *first, **tail;
  const struct conf_listener *http; /* any one of HTTP; NULL: there is none */
};

/* node_of is a listener on the way. */
struct node_of {
  struct node_of *next, *queued;
  const struct conf_listener *listener;
  uint32_t seen; /* the search that has come here */
};

static struct span written(const struct addr *addr, struct arena *arena) {
  char bytes[sizeof(struct sockaddr_un) + 16];
  struct buf b = buf_of(bytes, sizeof bytes);
  addr_write(addr, &b);
  return arena_copy(arena, buf_span(&b), NULL);
}

static bool in_net(const char *net, const struct addr *addr) {
  struct addr_net parsed;
  return addr_net_parse(span_str(net), &parsed) && addr_net_has(&parsed, addr);
}

/* any_of is the wildcard by which an address of this machine's own may be bound; false: it is not
 * known to be its own. To connect to the wildcard is to connect to loopback. */
static bool any_of(const struct addr *addr, struct addr *any) {
  bool own = in_net("127.0.0.0/8", addr) || in_net("0.0.0.0/32", addr) ||
             in_net("::1/128", addr) || in_net("::/128", addr);
  bool v6 = addr->sa.sa_family == AF_INET6;
  return own && addr_from_ip(v6 ? SPAN_LIT("::") : SPAN_LIT("0.0.0.0"), addr_port(addr), any);
}

static struct names *table(struct loops *l, const struct conf_listener *listener) {
  return listener->protocol == CONF_UDP ? &l->datagrams : &l->streams;
}

static void add(struct loops *l, const struct conf_listener *listener) {
  struct node_of *node = arena_get(&l->conf->arena, sizeof *node);
  struct addr addr;
  *node = (struct node_of){.listener = listener};
  if (listener->protocol == CONF_HTTP) l->http = listener;
  *l->tail = node;
  l->tail = &node->next;
  for (uint32_t i = 0; i < listener->binds.count; i++)
    if (addr_parse(listener->binds.items[i].text, &addr))
      (void)names_put(table(l, listener), written(&addr, &l->conf->arena), node);
}

/* whose finds the listener that what goes to an endpoint comes in at. */
static struct node_of *whose(struct loops *l, const struct conf_listener *from,
                             struct span endpoint) {
  struct addr addr, any;
  if (!addr_parse(endpoint, &addr)) return NULL;
  const struct names *names = table(l, from);
  struct node_of *hit = names_find(names, written(&addr, &l->conf->arena));
  if (!hit && any_of(&addr, &any)) hit = names_find(names, written(&any, &l->conf->arena));
  return hit;
}

/* search is one listener's: who can be come to from it. */
struct search {
  struct loops *loops;
  struct node_of *start, *at, **tail;
  const struct conf_endpoint *first; /* the first step of a way that leads back */
  uint32_t id;
};

static void step(struct search *s, const struct conf_endpoint *endpoint) {
  struct node_of *to = whose(s->loops, s->at->listener, endpoint->address);
  if (to == s->start && !s->first) s->first = endpoint;
  if (!to || to->seen == s->id) return;
  to->seen = s->id;
  to->queued = NULL;
  *s->tail = to;
  s->tail = &to->queued;
}

static void steps(struct search *s, struct span name) {
  const struct conf_pool *pool = name.len ? names_find(&s->loops->pools, name) : NULL;
  if (!pool) return;
  rows_each(&pool->endpoints, struct conf_endpoint, endpoint) step(s, endpoint);
}

static void tell(struct search *s) {
  const struct conf_listener *listener = s->start->listener;
  struct conf_faults *f = s->loops->conf->faults;
  fault_add(f, FAULT_LOOP, row_place(&s->first->row, OPTION_ENDPOINT_ADDRESS),
            "listener \"" SPAN_FMT "\" leads back to itself by endpoint " SPAN_FMT,
            SPAN_ARG(listener->row.name), SPAN_ARG(s->first->address));
  fault_note(f, "what comes in goes round for ever: name the server that is meant");
  fault_other(f, "bound", row_place(&listener->row, OPTION_LISTENER_BIND));
}

/* search: breadth first; each listener is come to once, so it ends. */
static void search(struct loops *l, struct node_of *start, uint32_t id) {
  struct search s = {.loops = l, .start = start, .at = start, .tail = &start->queued, .id = id};
  start->seen = id;
  start->queued = NULL;
  for (; s.at && !s.first; s.at = s.at->queued) {
    steps(&s, s.at->listener->pool);
    rows_each(&s.at->listener->snis, struct conf_sni, row) steps(&s, row->pool);
  }
  if (s.first) tell(&s);
}

/* ---- routes ---- */

/* as_it_came: a request that comes back is one that the route takes again. It comes from weir
 * itself then, so a condition on who the client is may not hold, nor one on a field that a policy
 * may change. */
static bool as_it_came(const struct conf_route *route) {
  bool changed = route->host.len || route->strip_prefix || route->rewrite_prefix.len ||
                 route->rewrite_path.len || route->rewrite_regex.len;
  bool edited = route->policies.count && route->values[MATCH_HEADER].count;
  return !changed && !edited && !route->sources.count && !route_asks_cert(route);
}

static bool takes(const struct conf_route *route, const struct conf_listener *listener) {
  for (uint32_t i = 0; i < route->listeners.count; i++)
    if (span_eq(route->listeners.items[i].text, listener->row.name)) return true;
  return !route->listeners.count;
}

static bool pool_loops(struct loops *l, const struct conf_route *route, struct span name) {
  struct conf_pool *pool = name.len ? names_find(&l->pools, name) : NULL;
  if (!pool || names_find(&l->told, name)) return false;
  rows_each(&pool->endpoints, struct conf_endpoint, endpoint) {
    const struct node_of *node = whose(l, l->http, endpoint->address);
    const struct conf_listener *to = node ? node->listener : NULL;
    if (!to || to->protocol != CONF_HTTP || to->redirect_https || !takes(route, to)) continue;
    if (pool->tls.on != (to->certs.count > 0)) continue; /* it fails, at once */
    struct conf_faults *f = l->conf->faults;
    fault_add(f, FAULT_LOOP, row_place(&endpoint->row, OPTION_ENDPOINT_ADDRESS),
              "route \"" SPAN_FMT "\" leads back to its own listener \"" SPAN_FMT
              "\" by endpoint " SPAN_FMT,
              SPAN_ARG(route->label), SPAN_ARG(to->row.name), SPAN_ARG(endpoint->address));
    fault_note(f, "what comes in goes round for ever: name the server that is meant");
    fault_other(f, "bound", row_place(&to->row, OPTION_LISTENER_BIND));
    (void)names_put(&l->told, name, pool);
    return true;
  }
  return false;
}

/* route_loops tells of one way back at most, and once of a pool. */
static void route_loops(struct loops *l, const struct conf_route *route) {
  if (!l->http || !as_it_came(route) || pool_loops(l, route, route->pool)) return;
  rows_each(&route->splits, struct conf_split,
            split) if (pool_loops(l, route, split->pool)) return;
  (void)pool_loops(l, route, route->mirror_pool);
}

void check_loops(struct conf *conf) {
  struct loops l = {.conf = conf};
  uint32_t id = 0;
  l.tail = &l.first;
  l.pools.arena = l.told.arena = l.streams.arena = l.datagrams.arena = &conf->arena;
  rows_each(&conf->root.pools, struct conf_pool, pool)(void)
      names_put(&l.pools, pool->row.name, pool);
  rows_each(&conf->root.listeners, struct conf_listener, listener) add(&l, listener);
  for (struct node_of *node = l.first; node; node = node->next)
    if (node->listener->protocol != CONF_HTTP) search(&l, node, ++id);
  rows_each(&conf->root.routes, struct conf_route, route) route_loops(&l, route);
}
