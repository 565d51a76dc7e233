/* check_tcp.c: listeners with protocol = "tcp" or "tls_passthrough" and the pools that they name:
 * which keys mean nothing there, and that such a pool serves no routes; those of UDP name a pool
 * as they do (their keys: check_udp.c). `weir dump` writes defaults too, so keys are refused only
 * where they are not the default. Called by check.c, after routes. */
#include "check_limits_priv.h"
#include "doubt_priv.h"

static bool is_set(const struct conf_row *row, enum option_id id) {
  return row_origin(row, id)->node != NULL;
}

/* http_of_listener: keys that are about requests. timeouts.header is of PROXY headers too. */
static const enum option_id http_of_listener[] = {
    OPTION_LISTENER_REDIRECT_HTTPS, OPTION_LISTENER_BODY,
    OPTION_LISTENER_TLS_EARLY,      OPTION_LISTENER_IDLE,
    OPTION_LISTENER_HALF_CLOSE,     OPTION_LISTENER_HEADER_BYTES,
    OPTION_LISTENER_HEADERS,        OPTION_LISTENER_URI_BYTES,
    OPTION_LISTENER_BODY_BYTES,     OPTION_LISTENER_REQUESTS,
    OPTION_LISTENER_H2_STREAMS,     OPTION_LISTENER_H2_STREAM_WINDOW,
    OPTION_LISTENER_H2_WINDOW,      OPTION_LISTENER_H2_RESETS,
    OPTION_LISTENER_H2_GLITCHES,    OPTION_LISTENER_H2_AGE,
    OPTION_LISTENER_SLASHES,        OPTION_LISTENER_ENCODED_SLASH,
    OPTION_LISTENER_DOT_SEGMENTS,   OPTION_LISTENER_UTF8,
};
/* http_of_pool: of requests and responses, and of connections that serve more than one. */
static const enum option_id http_of_pool[] = {
    OPTION_POOL_FIRST_BYTE,       OPTION_POOL_IDLE,         OPTION_POOL_KEEPALIVE,
    OPTION_POOL_KEEPALIVE_MAX,    OPTION_POOL_PROTOCOL,     OPTION_POOL_PING,
    OPTION_POOL_PING_TIMEOUT,     OPTION_POOL_REQUESTS,     OPTION_POOL_RETRY_UNSAFE,
    OPTION_POOL_RETRY_HEDGE,      OPTION_POOL_5XX,          OPTION_POOL_CONCURRENCY_MODE,
    OPTION_POOL_BREAKER_SLOW_RATE, OPTION_POOL_HEADER_BYTES, OPTION_POOL_HEADERS,
    OPTION_POOL_STREAMS,
};
/* text_of_pool: the same, of keys without a default. */
static const enum option_id text_of_pool[] = {OPTION_POOL_STICKY_COOKIE,
                                              OPTION_POOL_PRIORITY_HEADER};

/* instead is what to do: the key that is meant, where there is one. */
static const char *instead(enum option_id id, bool udp) {
  if (udp && id == OPTION_LISTENER_TUNNEL) return "timeouts.idle ends sessions without datagrams";
  if (udp) return "it is of connections or requests: leave it out";
  if (id == OPTION_LISTENER_HEADER || id == OPTION_LISTENER_TRUSTED)
    return "it is of PROXY headers: set proxy_protocol, or leave it out";
  if (id == OPTION_LISTENER_PROTOCOLS)
    return "it is of HTTP, and of protocol = \"tcp\" with tls (ALPN): leave it out";
  if (id == OPTION_LISTENER_HANDSHAKE) return "it is of TLS: leave it out";
  if (id == OPTION_LISTENER_IDLE) return "timeouts.tunnel ends TCP connections without traffic";
  if (id == OPTION_POOL_IDLE)
    return "timeouts.tunnel of the listener ends TCP connections without traffic";
  return "it is of HTTP: leave it out";
}

void check_unserved(struct conf *conf, const struct conf_row *row, enum option_id id,
                    enum fault_id fault) {
  const struct option *option = option_get(id);
  fault_add(conf->faults, fault, row_place(row, id),
            "%s \"" SPAN_FMT "\" serves %s: " SPAN_FMT " means nothing",
            option->scope == SCOPE_POOL ? "pool" : "listener", SPAN_ARG(row->name),
            fault == FAULT_UDP_UNUSED ? "UDP" : "TCP or UDP", SPAN_ARG(option_local(option)));
  fault_note(conf->faults, "%s", instead(id, fault == FAULT_UDP_UNUSED));
}

/* ---- pools ---- */

static void check_retry(struct conf *conf, const struct conf_pool *pool) {
  for (uint32_t i = 0; i < pool->retry_on.count; i++) {
    if (span_eq(pool->retry_on.items[i].text, SPAN_LIT("connect"))) continue;
    fault_add(conf->faults, FAULT_TCP_UNUSED, pool->retry_on.items[i].at,
              "pool \"" SPAN_FMT "\" serves TCP or UDP: only \"connect\" can be tried again",
              SPAN_ARG(pool->row.name));
    fault_note(conf->faults, "like on = [ \"connect\" ];");
  }
}

static void check_pool(struct conf *conf, const struct conf_pool *pool) {
  for (size_t i = 0; i < array_count(http_of_pool); i++)
    if (row_changed(&pool->row, http_of_pool[i]))
      check_unserved(conf, &pool->row, http_of_pool[i], FAULT_TCP_UNUSED);
  for (size_t i = 0; i < array_count(text_of_pool); i++)
    if (is_set(&pool->row, text_of_pool[i]))
      check_unserved(conf, &pool->row, text_of_pool[i], FAULT_TCP_UNUSED);
  check_retry(conf, pool);
  if (!pool->hash.len || span_eq(pool->hash, SPAN_LIT("client_ip"))) return;
  fault_add(conf->faults, FAULT_TCP_UNUSED, row_place(&pool->row, OPTION_POOL_HASH),
            "pool \"" SPAN_FMT "\" serves TCP or UDP: only \"client_ip\" can be hashed",
            SPAN_ARG(pool->row.name));
  fault_note(conf->faults, "like hash = \"client_ip\";");
}

/* ---- listeners ---- */

/* use is a pool's name at a listener. */
struct use {
  const struct conf_listener *listener;
  struct span pool;
  struct place at;
};

static void undefined(struct conf *conf, const struct use *use) {
  fault_add(conf->faults, FAULT_UNDEFINED, use->at,
            "listener \"" SPAN_FMT "\" uses pool \"" SPAN_FMT "\", which is not defined",
            SPAN_ARG(use->listener->row.name), SPAN_ARG(use->pool));
  struct suggest s = suggest_for(use->pool);
  rows_each(&conf->root.pools, struct conf_row_any, it)
    suggest_offer(&s, it->row.name, &it->row.at);
  suggest_note(&s, conf->faults);
}

static void tls_means_nothing(struct conf *conf, const struct conf_row *row, enum option_id id,
                              const char *what) {
  fault_add(conf->faults, FAULT_PASS_TLS, row_place(row, id),
            "%s \"" SPAN_FMT "\": TLS is passed on unopened, tls means nothing", what,
            SPAN_ARG(row->name));
  fault_note(conf->faults, "leave tls out, or end TLS here: protocol = \"tcp\"");
}

/* keep_to_hash: a session is long, and a client wants all of its sessions at one endpoint. So the
 * default bound is of requests; `weir dump` says what holds. */
static void keep_to_hash(struct conf_pool *pool) {
  if (!is_set(&pool->row, OPTION_POOL_BOUNDED_LOAD)) pool->spread.bound_percent = 0;
}

/* use_pool: a pool is some listeners', or some routes'. */
static void use_pool(struct conf *conf, const struct use *use, struct conf_pool *pool) {
  if (pool->used && !pool->tcp) {
    fault_add(conf->faults, FAULT_TCP_SHARED, use->at,
              "pool \"" SPAN_FMT "\" serves %s for listener \"" SPAN_FMT
              "\", and a route uses it too",
              SPAN_ARG(pool->row.name), use->listener->protocol == CONF_UDP ? "UDP" : "TCP",
              SPAN_ARG(use->listener->row.name));
    fault_note(conf->faults, "give the listener a pool of its own, with the same endpoints");
  } else if (!pool->tcp) {
    check_pool(conf, pool);
    keep_to_hash(pool);
  }
  if (use->listener->protocol == CONF_PASS && pool->tls.on)
    tls_means_nothing(conf, &pool->row, OPTION_POOL_TLS_VERIFY, "pool");
  pool->used = pool->tcp = true;
  if (use->listener->protocol == CONF_UDP) pool->udp = true;
  else pool->streams = true;
}

static void check_use(struct conf *conf, const struct use *use, const struct names *pools) {
  struct conf_pool *pool = use->pool.len ? names_find(pools, use->pool) : NULL;
  if (pool) use_pool(conf, use, pool);
  else if (use->pool.len && conf_whole(conf, OPTION_POOLS)) undefined(conf, use);
}

/* check_named: all that can be said of a listener whose protocol nobody knows. */
static void check_named(struct conf *conf, const struct conf_listener *listener,
                        const struct names *pools) {
  struct use use = {listener, listener->pool, row_place(&listener->row, OPTION_LISTENER_POOL)};
  if (!conf_whole(conf, OPTION_POOLS)) return;
  if (use.pool.len && !names_find(pools, use.pool)) undefined(conf, &use);
  rows_each(&listener->snis, struct conf_sni, row) {
    struct use sni = {listener, row->pool, row_place(&row->row, OPTION_SNI_POOL)};
    if (sni.pool.len && !names_find(pools, sni.pool)) undefined(conf, &sni);
  }
}

/* check_silent: with TLS the client is the first to speak. */
static void check_silent(struct conf *conf, const struct conf_listener *listener) {
  bool plain = listener->protocol == CONF_TCP && listener_plain(listener);
  if (!plain || listener->proxy_protocol != PROXIED_SOME) return;
  fault_add(conf->faults, FAULT_PROXY_SILENT,
            row_place(&listener->row, OPTION_LISTENER_PROXY_PROTOCOL),
            "listener \"" SPAN_FMT
            "\": whoever waits for the server's first word, and sends no PROXY header, waits for "
            "timeouts.header too",
            SPAN_ARG(listener->row.name));
  fault_note(conf->faults, "required, it costs no time: proxy_protocol = true; (or a listener "
                           "without it for those who send none)");
}

/* check_others: keys that mean something together with others. Those of trusted_proxies are not
 * counted by connections_per_client. */
static void check_others(struct conf *conf, const struct conf_listener *listener) {
  const struct conf_row *row = &listener->row;
  bool proxied = row_changed(row, OPTION_LISTENER_PROXY_PROTOCOL) ||
                 row_lost(row, OPTION_LISTENER_PROXY_PROTOCOL);
  bool counted = listener->client_max || row_lost(row, OPTION_LISTENER_PER_CLIENT);
  if (!proxied && row_changed(row, OPTION_LISTENER_HEADER))
    check_unserved(conf, row, OPTION_LISTENER_HEADER, FAULT_TCP_UNUSED);
  if (!proxied && !counted && is_set(row, OPTION_LISTENER_TRUSTED))
    check_unserved(conf, row, OPTION_LISTENER_TRUSTED, FAULT_TCP_UNUSED);
  bool shakes = !listener_plain(listener) || listener->protocol == CONF_PASS;
  if (!shakes && row_changed(row, OPTION_LISTENER_HANDSHAKE))
    check_unserved(conf, row, OPTION_LISTENER_HANDSHAKE, FAULT_TCP_UNUSED);
}

static void check_keys(struct conf *conf, const struct conf_listener *listener) {
  const struct conf_row *row = &listener->row;
  bool alpn = listener->protocol == CONF_TCP && !listener_plain(listener);
  if (!alpn && is_set(row, OPTION_LISTENER_PROTOCOLS))
    check_unserved(conf, row, OPTION_LISTENER_PROTOCOLS, FAULT_TCP_UNUSED);
  for (size_t i = 0; i < array_count(http_of_listener); i++)
    if (row_changed(row, http_of_listener[i]))
      check_unserved(conf, row, http_of_listener[i], FAULT_TCP_UNUSED);
  check_others(conf, listener);
  if (listener->protocol == CONF_PASS && listener->has_tls)
    tls_means_nothing(conf, row, OPTION_LISTENER_CERTS, "listener");
}

/* given_wrong is what a listener has too much of, or lacks, to say where connections go. */
static const char *given_wrong(const struct conf_listener *listener, bool pool, bool sni) {
  switch (listener->protocol) {
    case CONF_HTTP:
      if (pool && sni) return "serves HTTP: it has no pool and no sni, its routes have pools";
      if (pool) return "serves HTTP: it has no pool, its routes have";
      return sni ? "serves HTTP: it has no sni" : NULL;
    case CONF_TCP:
      if (!pool && sni) return "serves TCP: it needs a pool, and has no sni";
      if (!pool) return "serves TCP: it needs a pool";
      return sni ? "serves TCP: it has no sni" : NULL;
    case CONF_UDP:
      if (!pool && sni) return "serves UDP: it needs a pool, and has no sni";
      if (!pool) return "serves UDP: it needs a pool";
      return sni ? "serves UDP: it has no sni" : NULL;
    case CONF_PASS:
      return pool || listener->snis.count ? NULL : "passes TLS on: it needs sni or a pool";
  }
  return NULL;
}

/* check_given: what says where connections go stands where they go somewhere, and only there. */
static bool check_given(struct conf *conf, const struct conf_listener *listener) {
  bool pool = is_set(&listener->row, OPTION_LISTENER_POOL);
  bool sni = is_set(&listener->row, OPTION_LISTENER_SNI);
  enum conf_protocol protocol = listener->protocol;
  const char *wrong = given_wrong(listener, pool, sni);
  if (!wrong) return true;
  enum option_id id = sni && protocol != CONF_PASS    ? OPTION_LISTENER_SNI
                      : pool && protocol == CONF_HTTP ? OPTION_LISTENER_POOL
                                                      : OPTION_LISTENER_PROTOCOL;
  fault_add(conf->faults, FAULT_TCP_POOL, row_place(&listener->row, id),
            "listener \"" SPAN_FMT "\" %s", SPAN_ARG(listener->row.name), wrong);
  if (protocol == CONF_HTTP)
    fault_note(conf->faults, "did you mean protocol = \"%s\"?", sni ? "tls_passthrough" : "tcp");
  return false;
}

/* narrow: a row does not take every protocol, as far as is known. */
static bool narrow(const struct conf *conf, const struct conf_sni *row) {
  return is_set(&row->row, OPTION_SNI_ALPN) || row->row.strays || faults_has_syntax(conf->faults);
}

/* nameless: a row is for clients without a name, and not only for want of the ones that were
 * refused. */
static bool nameless(const struct conf *conf, const struct conf_sni *row) {
  return !is_set(&row->row, OPTION_SNI_NAMES) && !row->row.strays &&
         !faults_has_syntax(conf->faults);
}

static void put_name(struct conf *conf, struct names *all, const struct conf_sni *row,
                     struct span name) {
  const struct conf_sni *first = narrow(conf, row) ? names_find(all, name)
                                                   : names_put(all, name, (void *)row);
  if (!first) return;
  fault_add(conf->faults, FAULT_SNI_NEVER, row->row.at,
            "this row of sni never counts for " SPAN_FMT,
            SPAN_ARG(name.len ? name : SPAN_LIT("clients without a name")));
  fault_other(conf->faults, "first", first->row.at);
}

static void check_sni(struct conf *conf, const struct conf_listener *listener,
                      const struct names *pools) {
  struct names all = {.arena = &conf->arena};
  rows_each(&listener->snis, struct conf_sni, row) {
    struct use use = {listener, row->pool, row_place(&row->row, OPTION_SNI_POOL)};
    check_use(conf, &use, pools);
    if (nameless(conf, row)) put_name(conf, &all, row, SPAN_EMPTY);
    for (uint32_t i = 0; i < row->names.count; i++)
      put_name(conf, &all, row, row->names.items[i].text);
  }
}

static void check_listener(struct conf *conf, const struct conf_listener *listener,
                           const struct names *pools) {
  bool broken = faults_has_syntax(conf->faults) ||
                row_lost(&listener->row, OPTION_LISTENER_POOL) ||
                row_lost(&listener->row, OPTION_LISTENER_SNI);
  if (row_lost(&listener->row, OPTION_LISTENER_PROTOCOL)) {
    check_named(conf, listener, pools);
    return;
  }
  if (listener->protocol == CONF_UDP) check_udp_listener(conf, listener);
  else check_udp_elsewhere(conf, listener);
  if (listener->protocol == CONF_TCP || listener->protocol == CONF_PASS)
    check_keys(conf, listener);
  check_silent(conf, listener);
  if (!broken && !check_given(conf, listener)) return;
  if (listener->protocol == CONF_HTTP) return;
  struct use use = {listener, listener->pool, row_place(&listener->row, OPTION_LISTENER_POOL)};
  check_use(conf, &use, pools);
  check_sni(conf, listener, pools);
}

/* ---- routes ---- */

static void check_route(struct conf *conf, const struct conf_route *route) {
  for (uint32_t i = 0; i < route->listeners.count; i++) {
    const struct conf_item *item = &route->listeners.items[i];
    rows_each(&conf->root.listeners, struct conf_listener, listener) {
      bool named = span_eq(item->text, listener->row.name);
      if (!named || listener->protocol == CONF_HTTP) continue;
      fault_add(conf->faults, FAULT_TCP_ROUTE, item->at,
                "route \"" SPAN_FMT "\" names listener \"" SPAN_FMT "\", which serves %s",
                SPAN_ARG(route->label), SPAN_ARG(item->text),
                listener->protocol == CONF_UDP ? "UDP" : "TCP");
    }
  }
}

void check_tcp(struct conf *conf) {
  struct names pools = {.arena = &conf->arena}, policies = {.arena = &conf->arena};
  rows_each(&conf->root.pools, struct conf_pool, pool)
    (void)names_put(&pools, pool->row.name, pool);
  rows_each(&conf->root.policies, struct conf_policy, policy)
    (void)names_put(&policies, policy->row.name, policy);
  rows_each(&conf->root.listeners, struct conf_listener, listener) {
    check_listener(conf, listener, &pools);
    check_listener_policies(conf, listener, &policies);
  }
  check_udp_pools(conf);
  rows_each(&conf->root.routes, struct conf_route, route) check_route(conf, route);
}
