/* check_discover.c: what the keys of pools.*.discover mean together, and that a pool has any
 * endpoints at all. Called by check.c. */
#include "doubt_priv.h"
#include "load_priv.h"

static bool given(const struct conf_pool *pool, enum option_id id) {
  return row_origin(&pool->row, id)->node != NULL;
}

/* may_have_names: if not all that was meant is known, it may. */
static bool may_have_names(const struct conf_pool *pool) {
  if (row_lost_any(&pool->row, OPTION_POOL_ENDPOINTS, OPTION_POOL_SRV)) return true;
  if (given(pool, OPTION_POOL_DNS) || given(pool, OPTION_POOL_SRV)) return true;
  rows_each(&pool->endpoints, struct conf_endpoint, endpoint) {
    struct span host;
    uint16_t port = 0;
    if (row_lost(&endpoint->row, OPTION_ENDPOINT_ADDRESS)) return true;
    if (addr_split(endpoint->address, &host, &port) == ADDR_NAME) return true;
  }
  return false;
}

static void check_order(struct conf *conf, const struct conf_pool *pool, enum option_id low,
                        enum option_id high) {
  enum option_id at = given(pool, low) ? low : high;
  if (row_lost(&pool->row, low) || row_lost(&pool->row, high)) return;
  fault_add(conf->faults, FAULT_DISCOVER_ORDER, row_place(&pool->row, at),
            "pool \"" SPAN_FMT "\": " SPAN_FMT " is above " SPAN_FMT, SPAN_ARG(pool->row.name),
            SPAN_ARG(option_local(option_get(low))), SPAN_ARG(option_local(option_get(high))));
}

static void check_unused(struct conf *conf, const struct conf_pool *pool) {
  for (enum option_id id = OPTION_POOL_FAMILY; id <= OPTION_POOL_DNS_JITTER; id++) {
    if (!given(pool, id)) continue;
    fault_add(conf->faults, FAULT_DISCOVER_UNUSED, row_place(&pool->row, id),
              "pool \"" SPAN_FMT "\" has no name to ask for", SPAN_ARG(pool->row.name));
    fault_note(conf->faults, "dns, srv, or a name in endpoints");
    return;
  }
}

/* A pool needs something that can be an endpoint. */
static void check_any(struct conf *conf, const struct conf_pool *pool) {
  if (given(pool, OPTION_POOL_ENDPOINTS) || given(pool, OPTION_POOL_DNS) ||
      given(pool, OPTION_POOL_SRV) || faults_has_syntax(conf->faults))
    return;
  if (row_lost_any(&pool->row, OPTION_POOL_ENDPOINTS, OPTION_POOL_SRV)) return;
  fault_add(conf->faults, FAULT_MISSING, pool->row.at, "a pool needs \"endpoints\"");
  fault_note(conf->faults,
             "like endpoints = [ \"127.0.0.1:9001\" ]; or discover = { dns = "
             "\"app.internal:8080\"; };");
}

static void check_twice(struct conf *conf, const struct conf_pool *pool) {
  rows_each(&pool->endpoints, struct conf_endpoint, endpoint) {
    if (!pool->discover.dns.len || !span_eq_nocase(endpoint->address, pool->discover.dns))
      continue;
    fault_add(conf->faults, FAULT_DUPLICATE_ITEM, row_place(&pool->row, OPTION_POOL_DNS),
              "pool \"" SPAN_FMT "\" has the name " SPAN_FMT " twice", SPAN_ARG(pool->row.name),
              SPAN_ARG(endpoint->address));
    fault_other(conf->faults, "first", row_place(&endpoint->row, OPTION_ENDPOINT_ADDRESS));
  }
}

static void join_servers(struct conf *conf, struct conf_pool *pool) {
  const struct conf_list *list = &pool->discover.servers;
  struct text joined = {0};
  for (uint32_t i = 0; i < list->count; i++)
    text_printf(&joined, "%s" SPAN_FMT, i ? "," : "", SPAN_ARG(list->items[i].text));
  pool->discover.servers_text = arena_copy(&conf->arena, text_span(&joined), NULL);
  text_fini(&joined);
  if (list->count <= NAME_SERVERS_MAX) return;
  fault_add(conf->faults, FAULT_OUT_OF_RANGE, list->items[NAME_SERVERS_MAX].at,
            "pools.*.discover.servers is out of range");
  fault_note(conf->faults, "at most %u", NAME_SERVERS_MAX);
}

void check_discover(struct conf *conf, struct conf_pool *pool) {
  const struct conf_discover *d = &pool->discover;
  check_any(conf, pool);
  check_twice(conf, pool);
  join_servers(conf, pool);
  if (given(pool, OPTION_POOL_DNS) && given(pool, OPTION_POOL_SRV))
    fault_add(conf->faults, FAULT_DISCOVER_BOTH, row_place(&pool->row, OPTION_POOL_SRV),
              "pool \"" SPAN_FMT "\" has discover.dns and discover.srv", SPAN_ARG(pool->row.name));
  if (!may_have_names(pool)) check_unused(conf, pool);
  if (d->min_ttl_ms > d->max_ttl_ms)
    check_order(conf, pool, OPTION_POOL_MIN_TTL, OPTION_POOL_MAX_TTL);
  if (d->retry_ms > d->max_retry_ms)
    check_order(conf, pool, OPTION_POOL_DNS_RETRY, OPTION_POOL_DNS_MAX_RETRY);
}
