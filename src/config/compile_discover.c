/* compile_discover.c: from endpoints as written and names to the members of a pool: what is asked
 * for, and what the answers make. Names come through conf_hooks. Called by compile.c; conf_names
 * by control/. */
#include "compile_priv.h"

static struct name_query query_of(const struct conf_pool *pool, struct span name, bool srv) {
  const struct conf_discover *d = &pool->discover;
  return (struct name_query){.name = name,
                             .servers = d->servers_text,
                             .srv = srv,
                             .family = d->family,
                             .jitter_percent = d->jitter_percent,
                             .timeout_ms = d->timeout_ms,
                             .attempts = d->attempts,
                             .min_ttl_ms = d->min_ttl_ms,
                             .max_ttl_ms = d->max_ttl_ms,
                             .retry_ms = d->retry_ms,
                             .max_retry_ms = d->max_retry_ms};
}

uint64_t discover_content(const struct conf_pool *pool) {
  const struct name_query q = query_of(pool, SPAN_EMPTY, false);
  uint64_t content = text_hash(name_query_hash(&q), pool->discover.dns);
  return text_hash(content, pool->discover.srv);
}

/* ---- members ---- */

static struct name_answers ask(struct compile *c, struct members *m, const struct name_query *q) {
  struct name_answers answers = {.count = 0};
  if (c->hooks->resolve) c->hooks->resolve(c->hooks->ctx, q, &c->arena, &answers);
  m->unresolved += answers.count == 0;
  return answers;
}

/* find_address adds what "host:port", "ip:port" or "unix:/path" stands for. */
static void find_address(struct compile *c, struct members *m, const struct conf_pool *pool,
                         struct span address, const struct pool_member *like) {
  struct addr addr;
  struct span host;
  uint16_t port = 0;
  if (addr_parse(address, &addr)) {
    member_add(c, m, pool, like, address, &addr);
    return;
  }
  check(addr_split(address, &host, &port) == ADDR_NAME);
  const struct name_query q = query_of(pool, host, false);
  struct name_answers answers = ask(c, m, &q);
  for (uint32_t i = 0; i < answers.count; i++) {
    addr = name_addr(answers.rows[i].addr, port);
    member_add(c, m, pool, like, address, &addr);
  }
}

/* find_srv: the address as written is that of the record, so that logs and a Host of the
 * endpoint's name the host and not the service. */
static void find_srv(struct compile *c, struct members *m, const struct conf_pool *pool) {
  const struct name_query q = query_of(pool, pool->discover.srv, true);
  struct name_answers answers = ask(c, m, &q);
  for (uint32_t i = 0; i < answers.count; i++) {
    const struct name_answer *a = &answers.rows[i];
    const struct pool_member like = {.weight = a->weight, .priority = a->priority};
    struct span text =
        arena_printf(&c->arena, SPAN_FMT ":%u", SPAN_ARG(a->target), addr_port(&a->addr));
    member_add(c, m, pool, &like, text, &a->addr);
  }
}

void members_find(struct compile *c, struct members *m, const struct conf_pool *pool) {
  static const struct pool_member plain = {.weight = 1};
  rows_each(&pool->endpoints, struct conf_endpoint, endpoint) {
    const struct pool_member like = {
        .weight = endpoint->weight, .backup = endpoint->backup, .priority = endpoint->priority};
    find_address(c, m, pool, endpoint->address, &like);
  }
  if (pool->discover.dns.len) find_address(c, m, pool, pool->discover.dns, &plain);
  if (pool->discover.srv.len) find_srv(c, m, pool);
}

/* ---- which names there are ---- */

static void tell_name(const struct conf_pool *pool, struct span address,
                      void (*fn)(const struct name_query *q, void *ctx), void *ctx) {
  struct span host;
  uint16_t port = 0;
  if (!address.len || addr_split(address, &host, &port) != ADDR_NAME) return;
  const struct name_query q = query_of(pool, host, false);
  fn(&q, ctx);
}

void conf_names(const struct conf *conf, void (*fn)(const struct name_query *q, void *ctx),
                void *ctx) {
  rows_each(&conf->root.pools, struct conf_pool, pool) {
    rows_each(&pool->endpoints, struct conf_endpoint, endpoint)
        tell_name(pool, endpoint->address, fn, ctx);
    tell_name(pool, pool->discover.dns, fn, ctx);
    if (!pool->discover.srv.len) continue;
    const struct name_query q = query_of(pool, pool->discover.srv, true);
    fn(&q, ctx);
  }
}
