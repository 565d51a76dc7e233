/* check.c: what the values mean together: names over all files, addresses that collide, TLS rules,
 * pools without endpoints, things that nobody uses. Routes have their own file (check_routes.c).
 * Warnings of use wait until there are no errors: a pool whose name was misspelt only looks
 * unused. */
#include "check_limits_priv.h"
#include "doubt_priv.h"
#include "load_priv.h"
#include "weir/http/proxy_header.h"

/* ---- names ---- */

static void check_names(struct conf *conf, const struct conf_rows *rows, const char *what) {
  struct names names = {.arena = &conf->arena};
  rows_each(rows, struct conf_row_any, it) {
    const struct conf_row *first = names_put(&names, it->row.name, &it->row);
    if (!first) continue;
    fault_add(conf->faults, FAULT_DUPLICATE_NAME, it->row.at,
              "%s \"" SPAN_FMT "\" is defined twice", what, SPAN_ARG(it->row.name));
    fault_other(conf->faults, "first", first->at);
  }
}

/* ---- addresses ---- */

/* binding is one address that weir would listen on. */
struct binding {
  struct place at;
  const char *option; /* "admin.status"; NULL: a listener's */
  struct span listener;
};

/* canonical is the address as the kernel sees it, so that two spellings meet. */
static struct span canonical(struct span text, struct arena *arena) {
  struct addr addr;
  char written[sizeof(struct sockaddr_un) + 16];
  struct buf b = buf_of(written, sizeof written);
  if (!addr_parse(text, &addr)) return text;
  addr_write(&addr, &b);
  return arena_copy(arena, buf_span(&b), NULL);
}

static void add_binding(struct conf *conf, struct names *names, struct span text,
                        const struct binding *binding) {
  struct binding *kept = arena_get(&conf->arena, sizeof *kept);
  *kept = *binding;
  const struct binding *first = names_put(names, canonical(text, &conf->arena), kept);
  if (!first) return;
  if (first->option || binding->option)
    fault_add(conf->faults, FAULT_BIND_CONFLICT, binding->at,
              SPAN_FMT " is also the address of %s", SPAN_ARG(text),
              first->option ? first->option : binding->option);
  else
    fault_add(conf->faults, FAULT_DUPLICATE_BIND, binding->at,
              SPAN_FMT " is bound by listener \"" SPAN_FMT "\" already", SPAN_ARG(text),
              SPAN_ARG(first->listener));
  fault_other(conf->faults, "first", first->at);
}

static void check_binds(struct conf *conf) {
  struct names names = {.arena = &conf->arena};
  const struct conf_root *root = &conf->root;
  struct binding admin = {.at = row_place(&root->row, OPTION_ADMIN_LISTEN),
                          .option = "admin.listen"};
  struct binding status = {.at = row_place(&root->row, OPTION_ADMIN_STATUS),
                           .option = "admin.status"};
  if (word_find("auto off", root->admin_listen) < 0)
    add_binding(conf, &names, root->admin_listen, &admin);
  if (word_find("off", root->admin_status) < 0)
    add_binding(conf, &names, root->admin_status, &status);
  struct names datagrams = {.arena = &conf->arena}; /* ports of UDP are others than those of TCP */
  rows_each(&root->listeners, struct conf_listener, listener)
    for (uint32_t i = 0; i < listener->binds.count; i++) {
      if (row_lost(&listener->row, OPTION_LISTENER_PROTOCOL)) break; /* which ports? */
      struct binding b = {.at = listener->binds.items[i].at, .listener = listener->row.name};
      add_binding(conf, listener->protocol == CONF_UDP ? &datagrams : &names,
                  listener->binds.items[i].text, &b);
    }
}

/* ---- TLS ---- */

static bool same_names(const struct conf_list *a, const struct conf_list *b) {
  if (a->count != b->count) return false;
  for (uint32_t i = 0; i < a->count; i++)
    if (!span_eq(a->items[i].text, b->items[i].text)) return false;
  return true;
}

/* check_defaults: two defaults are fine when they differ only in the kind of key. */
static void check_defaults(struct conf *conf, const struct conf_listener *listener) {
  const struct conf_cert_row *first = NULL;
  rows_each(&listener->certs, struct conf_cert_row, cert) {
    if (!cert->is_default) continue;
    if (first && !same_names(&first->names, &cert->names)) {
      fault_add(conf->faults, FAULT_TLS_DEFAULTS, row_place(&cert->row, OPTION_CERT_DEFAULT),
                "listener \"" SPAN_FMT "\" has two default certificates",
                SPAN_ARG(listener->row.name));
      fault_other(conf->faults, "first", row_place(&first->row, OPTION_CERT_DEFAULT));
    }
    if (!first) first = cert;
  }
}

static void check_tls(struct conf *conf, const struct conf_listener *listener) {
  struct span name = listener->row.name;
  const struct conf_row *row = &listener->row;
  bool lost_max = row_lost(row, OPTION_LISTENER_TLS_MAX);
  bool lost = lost_max || row_lost(row, OPTION_LISTENER_TLS_MIN);
  if (!listener->has_tls) return;
  if (!listener->certs.count && !faults_has_syntax(conf->faults) &&
      !row_lost(row, OPTION_LISTENER_CERTS)) {
    fault_add(conf->faults, FAULT_TLS_NO_CERT, listener->row.at,
              "listener \"" SPAN_FMT "\" has tls but no certificate", SPAN_ARG(name));
    fault_note(conf->faults, "tls = { certificates = ( { cert = ...; key = ...; } ); };");
  }
  if (!lost && listener->tls_min > listener->tls_max)
    fault_add(conf->faults, FAULT_TLS_VERSIONS, row_place(row, OPTION_LISTENER_TLS_MIN),
              "listener \"" SPAN_FMT "\": min_version is above max_version", SPAN_ARG(name));
  check_early(conf, listener);
  if (!lost_max && listener->tls_ech.len && listener->tls_max == 0) {
    fault_add(conf->faults, FAULT_TLS_ECH, row_place(row, OPTION_LISTENER_TLS_ECH),
              "listener \"" SPAN_FMT "\": there is no ECH with max_version = \"1.2\"",
              SPAN_ARG(name));
    fault_note(conf->faults, "leave max_version out, or ech");
  }
  if (listener->redirect_https) {
    fault_add(conf->faults, FAULT_REDIRECT_ON_TLS, row_place(row, OPTION_LISTENER_REDIRECT_HTTPS),
              "listener \"" SPAN_FMT "\" has TLS: it would redirect to itself", SPAN_ARG(name));
    fault_note(conf->faults, "it belongs on the listener for port 80");
  }
  check_defaults(conf, listener);
  check_tls_estate(conf, listener);
  check_client_auth(conf, listener);
}

/* ---- listeners and pools ---- */

static void check_listener(struct conf *conf, const struct conf_listener *listener) {
  check_tls(conf, listener);
  check_listener_limits(conf, listener);
  check_protocols(conf, listener);
  if (row_lost(&listener->row, OPTION_LISTENER_URI_BYTES) ||
      row_lost(&listener->row, OPTION_LISTENER_HEADER_BYTES))
    return;
  if (listener->limits.uri_bytes <= listener->limits.header_bytes) return;
  fault_add(conf->faults, FAULT_LIMIT_ORDER, row_place(&listener->row, OPTION_LISTENER_URI_BYTES),
            "listener \"" SPAN_FMT "\": limits.uri_bytes is above limits.header_bytes",
            SPAN_ARG(listener->row.name));
}

static void check_listener_use(struct conf *conf, const struct conf_listener *listener,
                               bool any_tls) {
  bool routed = false;
  if (listener->protocol != CONF_HTTP) return;
  rows_each(&conf->root.routes, struct conf_route, route) {
    if (!route_on(route, listener)) continue;
    routed = true;
    check_reachable(conf, listener, route);
  }
  if (!routed && !listener->redirect_https)
    fault_add(conf->faults, FAULT_UNROUTED, listener->row.at,
              "listener \"" SPAN_FMT "\" has no route: it answers 404 to everything",
              SPAN_ARG(listener->row.name));
  check_h2_used(conf, listener);
  check_shake_used(conf, listener);
  check_cert_falls(conf, listener);
  if (listener->redirect_https && !any_tls)
    fault_add(conf->faults, FAULT_REDIRECT_NO_TLS,
              row_place(&listener->row, OPTION_LISTENER_REDIRECT_HTTPS),
              "no listener has TLS: \"" SPAN_FMT "\" redirects to port 443",
              SPAN_ARG(listener->row.name));
}

static void check_backoff(struct conf *conf, const struct conf_pool *pool) {
  if (row_lost_any(&pool->row, OPTION_POOL_RETRY_BACKOFF_BASE, OPTION_POOL_RETRY_BACKOFF_MAX))
    return;
  if (pool->retry.backoff_base_ms <= pool->retry.backoff_max_ms) return;
  fault_add(conf->faults, FAULT_BACKOFF_ORDER,
            row_place(&pool->row, OPTION_POOL_RETRY_BACKOFF_BASE),
            "pool \"" SPAN_FMT "\": retry.backoff.base is above retry.backoff.max",
            SPAN_ARG(pool->row.name));
}

/* check_tlvs: `weir dump` writes the default, which is all there are, for every pool. */
static void check_tlvs(struct conf *conf, const struct conf_pool *pool) {
  bool lost = row_lost_any(&pool->row, OPTION_POOL_PROXY_PROTOCOL, OPTION_POOL_PROXY_TLVS);
  if (lost || pool->connections.proxied == 2 || faults_has_syntax(conf->faults)) return;
  if (pool->proxy_tlvs.count == (uint32_t)__builtin_popcount(PROXY_TLV_ALL)) return;
  fault_add(conf->faults, FAULT_PROXY_TLVS, row_place(&pool->row, OPTION_POOL_PROXY_TLVS),
            "pool \"" SPAN_FMT "\": only version 2 of the PROXY protocol has elements",
            SPAN_ARG(pool->row.name));
  fault_note(conf->faults, "proxy_protocol = \"v2\", or leave proxy_tlvs out");
}

static void check_pool(struct conf *conf, const struct conf_pool *pool) {
  check_balance(conf, pool);
  check_tlvs(conf, pool);
  struct names names = {.arena = &conf->arena};
  uint32_t weight = 0;
  rows_each(&pool->endpoints, struct conf_endpoint, endpoint) {
    weight += endpoint->weight;
    if (!endpoint->address.len) {
      weight = 1; /* refused before: one fault is enough */
      continue;
    }
    const struct conf_endpoint *first = names_put(&names, endpoint->address, endpoint);
    if (!first) continue;
    fault_add(conf->faults, FAULT_DUPLICATE_ITEM,
              row_place(&endpoint->row, OPTION_ENDPOINT_ADDRESS),
              "pool \"" SPAN_FMT "\" has the endpoint " SPAN_FMT " twice",
              SPAN_ARG(pool->row.name), SPAN_ARG(endpoint->address));
    fault_other(conf->faults, "first", row_place(&first->row, OPTION_ENDPOINT_ADDRESS));
  }
  bool given = row_origin(&pool->row, OPTION_POOL_ENDPOINTS)->node != NULL;
  if (pool->discover.dns.len || pool->discover.srv.len) return; /* they may be all of them */
  if (weight || !given || faults_has_syntax(conf->faults)) return;
  if (row_lost(&pool->row, OPTION_POOL_ENDPOINTS)) return;
  fault_add(conf->faults, FAULT_NO_ENDPOINT, row_place(&pool->row, OPTION_POOL_ENDPOINTS),
            "pool \"" SPAN_FMT "\" has no endpoint with a weight", SPAN_ARG(pool->row.name));
}

static void check_use(struct conf *conf) {
  const struct conf_root *root = &conf->root;
  bool any_tls = false;
  rows_each(&root->listeners, struct conf_listener, l)
    any_tls = any_tls || (l->certs.count && l->protocol == CONF_HTTP);
  rows_each(&root->listeners, struct conf_listener, listener)
    check_listener_use(conf, listener, any_tls);
  rows_each(&root->pools, struct conf_pool, pool)
    if (!pool->used)
      fault_add(conf->faults, FAULT_POOL_UNUSED, pool->row.at,
                "no route or listener uses pool \"" SPAN_FMT "\"", SPAN_ARG(pool->row.name));
  check_cookies(conf);
  check_loops(conf);
  check_policies_used(conf);
  if (!root->listeners.count)
    fault_add_file(conf->faults, FAULT_NO_LISTENERS, conf->sources->path,
                   "there is no listener: nothing would be served");
}

void check_conf(struct conf *conf) {
  struct conf_root *root = &conf->root;
  check_names(conf, &root->listeners, "listener");
  check_names(conf, &root->pools, "pool");
  check_names(conf, &root->policies, "policy");
  check_binds(conf);
  rows_each(&root->listeners, struct conf_listener, listener) check_listener(conf, listener);
  rows_each(&root->pools, struct conf_pool, pool) {
    check_pool(conf, pool);
    check_discover(conf, pool);
    check_health(conf, pool);
    check_upstream_tls(conf, pool);
    check_protection(conf, pool);
  }
  check_overload(conf);
  check_keys_logged(conf);
  check_policies(conf);
  rows_each(&root->pools, struct conf_pool, pool) check_backoff(conf, pool);
  check_routes(conf);
  check_tcp(conf);
  if (conf_faults_errors(conf->faults) == conf->errors_before) check_use(conf);
}
