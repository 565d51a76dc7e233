/* compile_health.c: the active check of a pool: what its keys mean together (check), and the
 * request ready to be sent (compile). Called by check.c and compile.c. */
#include "compile_priv.h"
#include "doubt_priv.h"
#include "weir/http/h1.h"
#include "weir/http/name.h"
#include "weir/http/proxy_header.h"

#define HEALTH_OPTIONS_FIRST OPTION_POOL_HEALTH_PROTOCOL
#define HEALTH_OPTIONS_LAST OPTION_POOL_HEALTH_UNHEALTHY
#define FIELDS_MAX 10u /* of at most 1024 bytes each: the request fits PROBE_HEAD_MAX */
#define REQUEST_MAX 14336u

/* ---- check ---- */

static bool given(const struct conf_pool *pool, enum option_id id) {
  return row_origin(&pool->row, id)->node != NULL;
}

static void unused(struct conf *conf, const struct conf_pool *pool, enum option_id id,
                   const char *why) {
  fault_add(conf->faults, FAULT_HEALTH_UNUSED, row_place(&pool->row, id),
            "pool \"" SPAN_FMT "\": " SPAN_FMT " %s", SPAN_ARG(pool->row.name),
            SPAN_ARG(option_local(option_get(id))), why);
}

#define ON(protocol) (1u << HEALTH_##protocol)
#define ON_HTTP (ON(HTTP) | ON(HTTP_1_1))

/* check_unused: which keys mean something for which protocols. */
static void check_unused(struct conf *conf, const struct conf_pool *pool) {
  static const struct {
    enum option_id id;
    unsigned on;
  } rows[] = {{OPTION_POOL_HEALTH_PATH, ON_HTTP},
              {OPTION_POOL_HEALTH_METHOD, ON_HTTP},
              {OPTION_POOL_HEALTH_HOST, ON_HTTP | ON(GRPC)},
              {OPTION_POOL_HEALTH_HEADERS, ON_HTTP | ON(GRPC)},
              {OPTION_POOL_HEALTH_EXPECT, ON_HTTP},
              {OPTION_POOL_HEALTH_BODY, ON_HTTP},
              {OPTION_POOL_HEALTH_SERVICE, ON(GRPC)}};
  static const char *const why[] = {
      [HEALTH_HTTP] = "means nothing for a check with protocol = \"http\"",
      [HEALTH_TCP] = "means nothing for a check with protocol = \"tcp\"",
      [HEALTH_GRPC] = "means nothing for a check with protocol = \"grpc\"",
      [HEALTH_HTTP_1_1] = "means nothing for a check with protocol = \"http/1.1\""};
  uint8_t protocol = pool->health.protocol;
  for (size_t i = 0; i < array_count(rows); i++)
    if (given(pool, rows[i].id) && !(rows[i].on & 1u << protocol))
      unused(conf, pool, rows[i].id, why[protocol]);
}

static void check_count(struct conf *conf, const struct conf_pool *pool) {
  if (pool->health.headers.count > FIELDS_MAX)
    fault_add(conf->faults, FAULT_OUT_OF_RANGE, row_place(&pool->row, OPTION_POOL_HEALTH_HEADERS),
              "pool \"" SPAN_FMT "\": health.headers has more than %u fields",
              SPAN_ARG(pool->row.name), FIELDS_MAX);
}

/* check_grpc: weir writes the fields of the protocol itself. */
static void check_grpc(struct conf *conf, const struct conf_pool *pool) {
  const struct conf_list *list = &pool->health.headers;
  for (uint32_t i = 0; i < list->count; i++) {
    struct span name, value;
    health_field_split(list->items[i].text, &name, &value);
    if (span_eq_nocase(name, SPAN_LIT("content-type")) ||
        span_eq_nocase(span_sub(name, 0, 5), SPAN_LIT("grpc-")))
      fault_add(conf->faults, FAULT_BAD_CHECK_FIELD, list->items[i].at,
                "pool \"" SPAN_FMT "\": weir writes " SPAN_FMT " of a gRPC check itself",
                SPAN_ARG(pool->row.name), SPAN_ARG(name));
  }
}

static void check_http(struct conf *conf, const struct conf_pool *pool) {
  const struct conf_health *h = &pool->health;
  if (!given(pool, OPTION_POOL_HEALTH_PATH) && !row_lost(&pool->row, OPTION_POOL_HEALTH_PATH)) {
    struct place at = pool->row.at;
    for (uint32_t id = HEALTH_OPTIONS_FIRST; id <= HEALTH_OPTIONS_LAST; id++)
      if (given(pool, (enum option_id)id)) at = row_place(&pool->row, (enum option_id)id);
    fault_add(conf->faults, FAULT_HEALTH_NO_PATH, at, "pool \"" SPAN_FMT "\": health has no path",
              SPAN_ARG(pool->row.name));
    fault_note(conf->faults, "like path = \"/healthz\"; or protocol = \"tcp\";");
  }
  if (h->body.len && span_eq(h->method, SPAN_LIT("HEAD")))
    unused(conf, pool, OPTION_POOL_HEALTH_BODY, "is never there: the answer to HEAD has no body");
}

static bool all_unix(const struct conf_pool *pool) {
  rows_each(&pool->endpoints, struct conf_endpoint, e)
    if (!span_starts(e->address, SPAN_LIT("unix:"))) return false;
  return pool->endpoints.count > 0;
}

void check_health(struct conf *conf, const struct conf_pool *pool) {
  const struct conf_health *h = &pool->health;
  bool known = !row_lost(&pool->row, OPTION_POOL_HEALTH_PROTOCOL);
  if (!h->on || faults_has_syntax(conf->faults)) return;
  check_count(conf, pool);
  if (known) check_unused(conf, pool);
  if (known && h->protocol == HEALTH_GRPC) check_grpc(conf, pool);
  else if (known && h->protocol != HEALTH_TCP) check_http(conf, pool);
  if (h->port && all_unix(pool))
    unused(conf, pool, OPTION_POOL_HEALTH_PORT, "means nothing: the endpoints are unix sockets");
  if (row_lost_any(&pool->row, OPTION_POOL_HEALTH_INTERVAL, OPTION_POOL_HEALTH_FAST_INTERVAL))
    return;
  if (given(pool, OPTION_POOL_HEALTH_FAST_INTERVAL) && h->fast_interval_ms > h->interval_ms)
    fault_add(conf->faults, FAULT_HEALTH_INTERVALS,
              row_place(&pool->row, OPTION_POOL_HEALTH_FAST_INTERVAL),
              "pool \"" SPAN_FMT "\": health.fast_interval is longer than health.interval",
              SPAN_ARG(pool->row.name));
}

/* ---- compile ---- */

static struct span own(struct pool *pool, struct span s) {
  return arena_copy(&pool->obj.arena, s, NULL);
}

/* add writes one field, if it is not there yet. */
static void add(struct http_field *rows, uint32_t *count, struct span name, struct span value,
                bool once) {
  for (uint32_t i = 0; once && i < *count; i++)
    if (span_eq_nocase(rows[i].name, name)) return;
  rows[(*count)++] =
      (struct http_field){.name = name, .value = value, .id = (uint16_t)http_name_find(name)};
}

/* fill_fields: those of the configuration and those that every request has. */
static void fill_fields(struct pool *pool, const struct conf_health *row) {
  uint32_t count = 0;
  struct http_field *rows =
      arena_get(&pool->obj.arena, (row->headers.count + 2) * sizeof *rows);
  for (uint32_t i = 0; i < row->headers.count; i++) {
    struct span name, value;
    health_field_split(own(pool, row->headers.items[i].text), &name, &value);
    add(rows, &count, name, value, false);
  }
  add(rows, &count, SPAN_LIT("User-Agent"), SPAN_LIT("weir (health check)"), true);
  if (row->protocol != HEALTH_GRPC) add(rows, &count, SPAN_LIT("Accept"), SPAN_LIT("*/*"), true);
  pool->health.fields = rows;
  pool->health.field_count = count;
}

static void put_fields(struct buf *b, const struct pool_health *h) {
  for (uint32_t i = 0; i < h->field_count; i++)
    check(h1_write_field(b, h->fields[i].name, h->fields[i].value));
  buf_lit(b, "Connection: close\r\n\r\n");
}

/* proxied: what listens at another port is not what gets the requests. */
static bool proxied(const struct conf_health *row, const struct pool_connections *c) {
  return c->proxied && !row->port;
}

/* fill_preamble: the check is weir's own. */
static void fill_preamble(struct pool *pool) {
  const struct proxy_header header = {.version = pool->connections.proxied, .local = true};
  char bytes[64];
  struct buf b = buf_of(bytes, sizeof bytes);
  check(proxy_header_write(&b, &header));
  pool->health.preamble = own(pool, buf_span(&b));
}

/* fill_request writes the head for HTTP/1.1. A host that is set is the same for all endpoints;
 * else two pieces leave room for it. */
static void fill_request(struct pool *pool, const struct conf_health *row) {
  char bytes[REQUEST_MAX];
  struct buf b = buf_of(bytes, sizeof bytes);
  check(h1_write_request_line(&b, row->method, row->path, NULL, 1));
  buf_lit(&b, "Host: ");
  size_t cut = b.len;
  buf_put(&b, row->host);
  buf_lit(&b, "\r\n");
  put_fields(&b, &pool->health);
  check(!b.full);
  if (row->host.len) cut = b.len;
  pool->health.request = own(pool, span_sub(buf_span(&b), 0, cut));
  pool->health.rest = own(pool, span_from(buf_span(&b), cut));
}

static void fill_expect(struct pool *pool, const struct conf_list *list) {
  struct health_statuses *rows =
      arena_get(&pool->obj.arena, (list->count + 1) * sizeof *rows);
  struct text shown = {.ptr = NULL};
  for (uint32_t i = 0; i < list->count; i++) {
    check(health_statuses_parse(list->items[i].text, &rows[i]));
    text_printf(&shown, "%s" SPAN_FMT, i ? ", " : "", SPAN_ARG(list->items[i].text));
  }
  pool->health.expect = rows;
  pool->health.expect_count = (uint16_t)list->count;
  pool->health.expect_text = own(pool, span_sub(text_span(&shown), 0, 120));
  text_fini(&shown);
}

/* by_h2: with prior knowledge; gRPC is never anything else. */
static bool by_h2(const struct conf_pool *row) {
  uint8_t protocol = row->health.protocol;
  if (protocol == HEALTH_HTTP)
    return row->connections.protocol == POOL_H2C || row->connections.protocol == POOL_H2;
  return protocol == HEALTH_GRPC;
}

/* content hashes what a check depends on, so that other changes of a pool leave its schedule. */
static uint64_t content(const struct conf_pool *row) {
  uint64_t hash = hash_mix(row->health.on, by_h2(row));
  if (proxied(&row->health, &row->connections)) hash = hash_mix(hash, row->connections.proxied);
  for (uint32_t id = HEALTH_OPTIONS_FIRST; id <= HEALTH_OPTIONS_LAST; id++) {
    const struct option *option = option_get((enum option_id)id);
    const void *member = row_member(&row->row, option);
    hash = hash_mix(hash, id);
    if (option->flags & OPTION_LIST) {
      const struct conf_list *list = member;
      for (uint32_t i = 0; i < list->count; i++)
        hash = hash_mix(hash, hash_bytes(list->items[i].text));
    } else {
      struct value value = value_load(option, member);
      hash = hash_mix(hash_mix(hash, value.number), hash_bytes(value.text));
    }
  }
  return hash;
}

void compile_health(struct pool *pool, const struct conf_pool *row) {
  const struct conf_health *h = &row->health;
  if (!h->on) return;
  pool->health = (struct pool_health){
      .on = true,
      .protocol = h->protocol,
      .jitter_percent = h->jitter_percent,
      .head = span_eq(h->method, SPAN_LIT("HEAD")),
      .h2 = by_h2(row),
      .method = own(pool, h->method),
      .path = own(pool, h->path),
      .host = own(pool, h->host),
      .service = own(pool, h->service),
      .port = h->port,
      .body = own(pool, h->body),
      .interval_ms = h->interval_ms,
      .fast_interval_ms =
          h->fast_interval_ms < h->interval_ms ? h->fast_interval_ms : h->interval_ms,
      .timeout_ms = h->timeout_ms,
      .healthy = h->healthy,
      .unhealthy = h->unhealthy,
      .content = content(row)};
  fill_expect(pool, &h->expect);
  bool talks = h->protocol != HEALTH_TCP || row->tls.on;
  if (talks && proxied(h, &pool->connections)) fill_preamble(pool);
  if (h->protocol == HEALTH_TCP) return;
  fill_fields(pool, h);
  if (h->protocol != HEALTH_GRPC) fill_request(pool, h);
}

/* Runs before a worker can see it. What was in a generation before keeps its state. */
void endpoint_announce(struct endpoint *e, bool checked) {
  uint8_t fresh = ENDPOINT_NEW;
  uint8_t state = checked ? ENDPOINT_UNKNOWN : ENDPOINT_UNCHECKED;
  if (atomic_compare_exchange_strong(&e->state, &fresh, state)) endpoint_changed(e);
}
