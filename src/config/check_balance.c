/* check_balance.c: what the keys of balancing mean together: hash and policy, the sticky cookie,
 * backups and priorities, the weights of a split. Called by check.c and check_routes.c. */
#include "doubt_priv.h"
#include "load_priv.h"
#include "weir/upstream/upstream.h"

static bool is_set(const struct conf_row *row, enum option_id id) {
  return row_origin(row, id)->node != NULL;
}

static void check_hash(struct conf *conf, const struct conf_pool *pool) {
  bool hashed = balance_hashed(pool->balance), given = is_set(&pool->row, OPTION_POOL_HASH);
  struct span policy = balance_text(pool->balance);
  bool known = !row_lost_any(&pool->row, OPTION_POOL_BALANCE, OPTION_POOL_HASH);
  if (known && hashed && !given && !faults_has_syntax(conf->faults)) {
    fault_add(conf->faults, FAULT_HASH_MISSING, row_place(&pool->row, OPTION_POOL_BALANCE),
              "pool \"" SPAN_FMT "\": balance = \"" SPAN_FMT "\" needs hash",
              SPAN_ARG(pool->row.name), SPAN_ARG(policy));
    fault_note(conf->faults, "like hash = \"client_ip\";");
  } else if (known && !hashed && given) {
    fault_add(conf->faults, FAULT_HASH_UNUSED, row_place(&pool->row, OPTION_POOL_HASH),
              "pool \"" SPAN_FMT "\": balance = \"" SPAN_FMT "\" hashes nothing",
              SPAN_ARG(pool->row.name), SPAN_ARG(policy));
    fault_note(conf->faults, "ring and maglev do");
  }
  uint32_t bound = pool->spread.bound_percent;
  if (bound == 0 || bound > 100) return;
  fault_add(conf->faults, FAULT_OUT_OF_RANGE, row_place(&pool->row, OPTION_POOL_BOUNDED_LOAD),
            "pools.*.bounded_load is out of range");
  fault_note(conf->faults, "more than 100%%, or 0%% for no bound");
}

static bool sticky_given(const struct conf_pool *pool) {
  for (enum option_id id = OPTION_POOL_STICKY_COOKIE; id <= OPTION_POOL_STICKY_SAMESITE; id++)
    if (is_set(&pool->row, id)) return true;
  return false;
}

/* check_prefix: what browsers ask of a name (RFC 6265bis section 4.1.3; any case counts). */
static void check_prefix(struct conf_faults *f, const struct conf_pool *pool) {
  const struct sticky_settings *s = &pool->sticky;
  struct span start = SPAN_LIT("__Host-"), secure = SPAN_LIT("__Secure-");
  if (row_lost(&pool->row, OPTION_POOL_STICKY_PATH)) return;
  bool host = span_eq_nocase(span_sub(s->cookie, 0, start.len), start);
  if (!host && !span_eq_nocase(span_sub(s->cookie, 0, secure.len), secure)) return;
  bool path = host && !span_eq(s->path, SPAN_LIT("/"));
  if (!path && s->secure != SECURE_OFF) return;
  fault_add(f, FAULT_STICKY_PREFIX, row_place(&pool->row, OPTION_POOL_STICKY_COOKIE),
            "pool \"" SPAN_FMT "\": browsers refuse \"" SPAN_FMT "\" %s", SPAN_ARG(pool->row.name),
            SPAN_ARG(s->cookie), path ? "with another path than \"/\"" : "without secure");
}

static void check_sticky(struct conf *conf, const struct conf_pool *pool) {
  struct conf_faults *f = conf->faults;
  struct span name = pool->row.name;
  if (!sticky_given(pool) || faults_has_syntax(f)) return;
  if (row_lost(&pool->row, OPTION_POOL_STICKY_COOKIE)) return;
  if (!is_set(&pool->row, OPTION_POOL_STICKY_COOKIE)) {
    fault_add(f, FAULT_STICKY_NO_COOKIE, pool->row.at,
              "pool \"" SPAN_FMT "\": sticky needs \"cookie\"", SPAN_ARG(name));
    return;
  }
  bool off = pool->sticky.secure == SECURE_OFF; /* written: it is no default */
  if (pool->sticky.samesite == SAMESITE_NONE && off)
    fault_add(f, FAULT_STICKY_INSECURE, row_place(&pool->row, OPTION_POOL_STICKY_SECURE),
              "pool \"" SPAN_FMT "\": samesite = \"none\" needs secure", SPAN_ARG(name));
  check_prefix(f, pool);
  if (pool->sticky.max_age_ms % 1000) {
    fault_add(f, FAULT_OUT_OF_RANGE, row_place(&pool->row, OPTION_POOL_STICKY_MAX_AGE),
              "pools.*.sticky.max_age is out of range");
    fault_note(f, "whole seconds");
  }
  if (is_set(&pool->row, OPTION_POOL_STICKY_KEY) || row_lost(&pool->row, OPTION_POOL_STICKY_KEY))
    return;
  fault_add(f, FAULT_STICKY_RANDOM, row_place(&pool->row, OPTION_POOL_STICKY_COOKIE),
            "pool \"" SPAN_FMT "\": the cookie has no key of its own", SPAN_ARG(name));
  fault_note(f, "key = \"file:sticky.key\"; keeps sessions over a restart");
}

/* ---- cookies of several pools ---- */

/* jars is who gives which cookie: by name, path and host. */
struct jars {
  struct conf *conf;
  struct names pools, given, warned;
};

static void put_cookie(struct jars *jars, struct conf_pool *pool, struct span host) {
  struct arena *arena = &jars->conf->arena;
  const struct sticky_settings *s = &pool->sticky;
  struct span key = arena_printf(arena, SPAN_FMT "%c" SPAN_FMT "%c" SPAN_FMT,
                                 SPAN_ARG(s->cookie), 0, SPAN_ARG(s->path), 0, SPAN_ARG(host));
  const struct conf_pool *first = names_put(&jars->given, key, pool);
  if (!first || first == pool || names_put(&jars->warned, pool->row.name, pool)) return;
  fault_add(jars->conf->faults, FAULT_STICKY_SHARED,
            row_place(&pool->row, OPTION_POOL_STICKY_COOKIE),
            "pools \"" SPAN_FMT "\" and \"" SPAN_FMT "\" give the same cookie \"" SPAN_FMT "\"",
            SPAN_ARG(first->row.name), SPAN_ARG(pool->row.name), SPAN_ARG(s->cookie));
  fault_other(jars->conf->faults, "first", row_place(&first->row, OPTION_POOL_STICKY_COOKIE));
}

static void put_pool(struct jars *jars, const struct conf_route *route, struct span name) {
  struct conf_pool *pool = names_find(&jars->pools, name);
  if (!pool || !pool->sticky.cookie.len) return;
  if (!route->hosts.count) put_cookie(jars, pool, SPAN_EMPTY);
  for (uint32_t i = 0; i < route->hosts.count; i++)
    put_cookie(jars, pool, route->hosts.items[i].text);
}

void check_cookies(struct conf *conf) {
  struct arena *arena = &conf->arena;
  struct jars jars = {conf, {.arena = arena}, {.arena = arena}, {.arena = arena}};
  rows_each(&conf->root.pools, struct conf_pool, pool)
    (void)names_put(&jars.pools, pool->row.name, pool);
  rows_each(&conf->root.routes, struct conf_route, route) {
    put_pool(&jars, route, route->pool);
    rows_each(&route->splits, struct conf_split, split) put_pool(&jars, route, split->pool);
  }
}

void check_balance(struct conf *conf, const struct conf_pool *pool) {
  check_hash(conf, pool);
  check_sticky(conf, pool);
  rows_each(&pool->endpoints, struct conf_endpoint, endpoint) {
    if (!endpoint->backup || !endpoint->priority) continue;
    fault_add(conf->faults, FAULT_BACKUP_PRIORITY,
              row_place(&endpoint->row, OPTION_ENDPOINT_PRIORITY),
              "pool \"" SPAN_FMT "\": a backup comes after all priorities",
              SPAN_ARG(pool->row.name));
  }
}

void check_split(struct conf *conf, const struct conf_route *route) {
  struct conf_faults *f = conf->faults;
  if (!is_set(&route->row, OPTION_ROUTE_SPLIT)) {
    if (row_lost(&route->row, OPTION_ROUTE_SPLIT)) return;
    enum option_id id = route->split_by.len ? OPTION_ROUTE_SPLIT_BY : OPTION_ROUTE_SPLIT_FAILOVER;
    if ((route->split_by.len || route->split_failover) && !faults_has_syntax(f))
      fault_add(f, FAULT_SPLIT_UNUSED, row_place(&route->row, id),
                "route \"" SPAN_FMT "\" has no split", SPAN_ARG(route->label));
    return;
  }
  struct names names = {.arena = &conf->arena};
  uint64_t weight = 0;
  rows_each(&route->splits, struct conf_split, split) {
    weight += split->weight;
    if (!split->pool.len) continue; /* missing, or refused before */
    const struct conf_split *first = names_put(&names, split->pool, split);
    if (!first) continue;
    fault_add(f, FAULT_DUPLICATE_ITEM, row_place(&split->row, OPTION_SPLIT_POOL),
              "route \"" SPAN_FMT "\" has pool \"" SPAN_FMT "\" twice in its split",
              SPAN_ARG(route->label), SPAN_ARG(split->pool));
    fault_other(f, "first", row_place(&first->row, OPTION_SPLIT_POOL));
  }
  if (!weight && !faults_has_syntax(f) && !row_lost(&route->row, OPTION_ROUTE_SPLIT))
    fault_add(f, FAULT_SPLIT_WEIGHT, row_place(&route->row, OPTION_ROUTE_SPLIT),
              "no part of the split of route \"" SPAN_FMT "\" has a weight",
              SPAN_ARG(route->label));
}
