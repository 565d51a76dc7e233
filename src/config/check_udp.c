/* check_udp.c: listeners with protocol = "udp" and their pools: which keys mean nothing there,
 * what can be bound, and keys of UDP on other listeners. Called by check_tcp.c, which sees to the
 * pool itself. Numbers are refused only where they are not the default (`weir dump` writes
 * those). */
#include "load_priv.h"

/* on_listener: of connections, TLS and requests. */
static const enum option_id on_listener[] = {
    OPTION_LISTENER_REDIRECT_HTTPS, OPTION_LISTENER_HANDSHAKE,
    OPTION_LISTENER_HEADER,         OPTION_LISTENER_BODY,
    OPTION_LISTENER_SEND,           OPTION_LISTENER_TUNNEL,
    OPTION_LISTENER_HALF_CLOSE,     OPTION_LISTENER_HEADER_BYTES,
    OPTION_LISTENER_HEADERS,        OPTION_LISTENER_URI_BYTES,
    OPTION_LISTENER_BODY_BYTES,     OPTION_LISTENER_REQUESTS,
    OPTION_LISTENER_H2_STREAMS,     OPTION_LISTENER_H2_STREAM_WINDOW,
    OPTION_LISTENER_H2_WINDOW,      OPTION_LISTENER_H2_RESETS,
    OPTION_LISTENER_H2_GLITCHES,    OPTION_LISTENER_H2_AGE,
    OPTION_LISTENER_SLASHES,        OPTION_LISTENER_ENCODED_SLASH,
    OPTION_LISTENER_DOT_SEGMENTS,   OPTION_LISTENER_UTF8,
};
/* of_udp: what only listeners of UDP have. */
static const enum option_id of_udp[] = {OPTION_LISTENER_SESSIONS, OPTION_LISTENER_UDP_BALANCE,
                                        OPTION_LISTENER_UDP_RESPONSES};
/* on_pool: of connections; a pool that serves TCP too may have them. */
static const enum option_id on_pool[] = {
    OPTION_POOL_CONNECT,           OPTION_POOL_MAX_PER_ENDPOINT,
    OPTION_POOL_MAX,               OPTION_POOL_MAX_REQUESTS_PER_ENDPOINT,
    OPTION_POOL_MAX_REQUESTS,      OPTION_POOL_QUEUE,
    OPTION_POOL_QUEUE_TIMEOUT,     OPTION_POOL_RETRY_ATTEMPTS,
    OPTION_POOL_RETRY_PER_TRY,     OPTION_POOL_RETRY_BACKOFF_BASE,
    OPTION_POOL_RETRY_BACKOFF_MAX, OPTION_POOL_RETRY_BUDGET,
    OPTION_POOL_RETRY_BUDGET_MIN,  OPTION_POOL_BREAKER_FAILURES,
};

/* ---- listeners ---- */

static void check_binds(struct conf *conf, const struct conf_listener *listener) {
  for (uint32_t i = 0; i < listener->binds.count; i++) {
    struct addr addr;
    const struct conf_item *bind = &listener->binds.items[i];
    if (addr_parse(bind->text, &addr) && addr.sa.sa_family != AF_UNIX) continue;
    fault_add(conf->faults, FAULT_UDP_ADDRESS, bind->at,
              "listener \"" SPAN_FMT "\" serves UDP: it binds ip:port, not " SPAN_FMT,
              SPAN_ARG(listener->row.name), SPAN_ARG(bind->text));
    fault_note(conf->faults, "like bind = \"0.0.0.0:53\";");
  }
}

void check_udp_listener(struct conf *conf, const struct conf_listener *listener) {
  const struct conf_row *row = &listener->row;
  for (size_t i = 0; i < array_count(on_listener); i++)
    if (row_changed(row, on_listener[i]))
      check_unserved(conf, row, on_listener[i], FAULT_UDP_UNUSED);
  if (row_origin(row, OPTION_LISTENER_PROTOCOLS)->node)
    check_unserved(conf, row, OPTION_LISTENER_PROTOCOLS, FAULT_UDP_UNUSED);
  /* They say who may send PROXY headers, and whose sessions connections_per_client counts not. */
  bool asked = listener->client_max || row_changed(row, OPTION_LISTENER_PROXY_PROTOCOL);
  if (!asked && row_origin(row, OPTION_LISTENER_TRUSTED)->node)
    check_unserved(conf, row, OPTION_LISTENER_TRUSTED, FAULT_UDP_UNUSED);
  check_binds(conf, listener);
  if (listener->has_tls) {
    fault_add(conf->faults, FAULT_UDP_TLS, row_place(row, OPTION_LISTENER_CERTS),
              "listener \"" SPAN_FMT "\": weir ends no DTLS and no QUIC: tls means nothing",
              SPAN_ARG(row->name));
    fault_note(conf->faults, "leave tls out: the datagrams go on as they are, to endpoints that "
                             "have the certificate");
  }
}

void check_udp_elsewhere(struct conf *conf, const struct conf_listener *listener) {
  for (size_t i = 0; i < array_count(of_udp); i++) {
    if (!row_changed(&listener->row, of_udp[i])) continue;
    fault_add(conf->faults, FAULT_UDP_UNUSED, row_place(&listener->row, of_udp[i]),
              "listener \"" SPAN_FMT "\" has protocol = \"%s\": " SPAN_FMT " means nothing",
              SPAN_ARG(listener->row.name),
              listener->protocol == CONF_HTTP ? "http" : "tcp",
              SPAN_ARG(option_local(option_get(of_udp[i]))));
    fault_note(conf->faults, "it is for protocol = \"udp\"");
  }
}

/* ---- pools ---- */

static void check_endpoints(struct conf *conf, const struct conf_pool *pool) {
  rows_each(&pool->endpoints, struct conf_endpoint, e) {
    if (!span_starts(e->address, SPAN_LIT("unix:"))) continue;
    fault_add(conf->faults, FAULT_UDP_ADDRESS, row_place(&e->row, OPTION_ENDPOINT_ADDRESS),
              "pool \"" SPAN_FMT "\" serves UDP: " SPAN_FMT " takes no datagrams",
              SPAN_ARG(pool->row.name), SPAN_ARG(e->address));
    fault_note(conf->faults, "like \"10.0.0.7:53\"");
  }
}

static void check_pool(struct conf *conf, const struct conf_pool *pool) {
  const struct conf_row *row = &pool->row;
  for (size_t i = 0; i < array_count(on_pool); i++)
    if (!pool->streams && row_changed(row, on_pool[i]))
      check_unserved(conf, row, on_pool[i], FAULT_UDP_UNUSED);
  check_endpoints(conf, pool);
  if (pool->tls.on) {
    fault_add(conf->faults, FAULT_UDP_TLS, row_place(row, OPTION_POOL_TLS_VERIFY),
              "pool \"" SPAN_FMT "\" serves UDP: weir begins no DTLS, no QUIC: tls means nothing",
              SPAN_ARG(row->name));
    fault_note(conf->faults, "leave tls out, or give TCP a pool of its own");
  }
  if (pool->connections.proxied != 1) return;
  fault_add(conf->faults, FAULT_UDP_PROXY, row_place(row, OPTION_POOL_PROXY_PROTOCOL),
            "pool \"" SPAN_FMT "\" serves UDP: version 1 of the PROXY protocol has no datagrams",
            SPAN_ARG(row->name));
  fault_note(conf->faults, "proxy_protocol = \"v2\", or give TCP a pool of its own");
}

void check_udp_pools(struct conf *conf) {
  rows_each(&conf->root.pools, struct conf_pool, pool)
    if (pool->udp) check_pool(conf, pool);
}
