/* check_upstream_tls.c: what the keys of pools.*.tls and connections.protocol mean together.
 * Called by check.c. */
#include "doubt_priv.h"
#include "load_priv.h"

static bool given(const struct conf_pool *pool, enum option_id id) {
  return row_origin(&pool->row, id)->node != NULL;
}

static void check_protocol(struct conf *conf, const struct conf_pool *pool) {
  struct place at = row_place(&pool->row, OPTION_POOL_PROTOCOL);
  struct span name = pool->row.name;
  if (faults_has_syntax(conf->faults)) return; /* tls may be what is broken */
  if (pool->connections.protocol == POOL_H2 && pool_plain(pool)) {
    fault_add(conf->faults, FAULT_POOL_H2_PLAIN, at,
              "pool \"" SPAN_FMT "\" has no tls: h2 is chosen by ALPN", SPAN_ARG(name));
    fault_note(conf->faults, "use \"h2c\", for endpoints that know before; or add tls = { };");
  } else if (pool->connections.protocol == POOL_H2C && pool->tls.on) {
    fault_add(conf->faults, FAULT_POOL_H2C_TLS, at,
              "pool \"" SPAN_FMT "\" has tls: h2c is for endpoints without", SPAN_ARG(name));
    fault_note(conf->faults, "use \"h2\", or \"auto\"");
  }
}

/* check_streams warns of what is of HTTP/2 where that is not spoken. */
static void check_streams(struct conf *conf, const struct conf_pool *pool) {
  uint8_t protocol = pool->connections.protocol;
  bool h1 = protocol == POOL_HTTP_1_1 || (protocol == POOL_AUTO && !pool->tls.on);
  if (!h1 || !row_changed(&pool->row, OPTION_POOL_STREAMS)) return;
  if (faults_has_syntax(conf->faults) || faults_has(conf->faults, FAULT_UNKNOWN_KEY)) return;
  fault_add(conf->faults, FAULT_STREAMS_UNUSED, row_place(&pool->row, OPTION_POOL_STREAMS),
            "pool \"" SPAN_FMT "\": connections.streams has no effect with HTTP/1.1",
            SPAN_ARG(pool->row.name));
  fault_note(conf->faults, "connections.max_per_endpoint and max are for any protocol");
}

static void check_pair(struct conf *conf, const struct conf_pool *pool) {
  bool cert = given(pool, OPTION_POOL_TLS_CERT), key = given(pool, OPTION_POOL_TLS_KEY);
  if (cert == key || row_lost_any(&pool->row, OPTION_POOL_TLS_CERT, OPTION_POOL_TLS_KEY)) return;
  fault_add(conf->faults, FAULT_POOL_TLS_PAIR,
            row_place(&pool->row, cert ? OPTION_POOL_TLS_CERT : OPTION_POOL_TLS_KEY),
            "pool \"" SPAN_FMT "\": tls.%s without tls.%s", SPAN_ARG(pool->row.name),
            cert ? "cert" : "key", cert ? "key" : "cert");
}

/* check_none: what only a verified certificate could be held against. */
static void check_none(struct conf *conf, const struct conf_pool *pool) {
  static const enum option_id unused[] = {OPTION_POOL_TLS_CA, OPTION_POOL_TLS_NAMES};
  for (size_t i = 0; i < array_count(unused); i++) {
    if (!given(pool, unused[i])) continue;
    fault_add(conf->faults, FAULT_POOL_TLS_UNUSED, row_place(&pool->row, unused[i]),
              "pool \"" SPAN_FMT "\": tls.verify is \"none\": this would not be looked at",
              SPAN_ARG(pool->row.name));
  }
  if (pool->tls.pins.count) return;
  fault_add(conf->faults, FAULT_TLS_UNVERIFIED, row_place(&pool->row, OPTION_POOL_TLS_VERIFY),
            "pool \"" SPAN_FMT "\" takes any certificate of its endpoints",
            SPAN_ARG(pool->row.name));
  fault_note(conf->faults, "name their CA by tls.ca, or their keys by tls.pins");
}

static void check_nameless(struct conf *conf, const struct conf_pool *pool) {
  if (pool->tls.sni.len || pool->tls.names.count) return;
  if (row_lost_any(&pool->row, OPTION_POOL_TLS_SNI, OPTION_POOL_TLS_NAMES)) return;
  rows_each(&pool->endpoints, struct conf_endpoint, endpoint) {
    if (!span_starts(endpoint->address, SPAN_LIT("unix:"))) continue;
    fault_add(conf->faults, FAULT_POOL_TLS_NAMELESS,
              row_place(&endpoint->row, OPTION_ENDPOINT_ADDRESS),
              "pool \"" SPAN_FMT "\": no certificate is for " SPAN_FMT, SPAN_ARG(pool->row.name),
              SPAN_ARG(endpoint->address));
    fault_note(conf->faults, "say what it must be for: tls = { sni = \"app.internal\"; };");
  }
}

void check_upstream_tls(struct conf *conf, const struct conf_pool *pool) {
  check_protocol(conf, pool);
  check_streams(conf, pool);
  if (!pool->tls.on) return;
  check_pair(conf, pool);
  if (row_lost(&pool->row, OPTION_POOL_TLS_VERIFY)) return;
  if (pool->tls.verify == VERIFY_NONE) check_none(conf, pool);
  else check_nameless(conf, pool);
}
