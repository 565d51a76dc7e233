/* compile_health.c: the active check of a pool: what its keys mean together (check), and the
 * request ready to be sent (compile). Called by check.c and compile.c. */
#include "compile_priv.h"
#include "weir/http/h1.h"
#include "weir/http/proxy_header.h"

#define HEALTH_OPTIONS_FIRST OPTION_POOL_HEALTH_PROTOCOL
#define HEALTH_OPTIONS_LAST OPTION_POOL_HEALTH_UNHEALTHY
#define FIELDS_MAX 10u /* of at most 1024 bytes each: the request fits PROBE_HEAD_MAX */
#define REQUEST_MAX 14400u

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

static void check_tcp(struct conf *conf, const struct conf_pool *pool) {
  static const enum option_id http_only[] = {
      OPTION_POOL_HEALTH_PATH,    OPTION_POOL_HEALTH_METHOD, OPTION_POOL_HEALTH_HOST,
      OPTION_POOL_HEALTH_HEADERS, OPTION_POOL_HEALTH_EXPECT, OPTION_POOL_HEALTH_BODY};
  for (size_t i = 0; i < array_count(http_only); i++)
    if (given(pool, http_only[i]))
      unused(conf, pool, http_only[i], "means nothing for a check with protocol = \"tcp\"");
}

static void check_http(struct conf *conf, const struct conf_pool *pool) {
  const struct conf_health *h = &pool->health;
  if (!given(pool, OPTION_POOL_HEALTH_PATH) && !faults_has(conf->faults, FAULT_BAD_WORD)) {
    struct place at = pool->row.at;
    for (uint32_t id = HEALTH_OPTIONS_FIRST; id <= HEALTH_OPTIONS_LAST; id++)
      if (given(pool, (enum option_id)id)) at = row_place(&pool->row, (enum option_id)id);
    fault_add(conf->faults, FAULT_HEALTH_NO_PATH, at, "pool \"" SPAN_FMT "\": health has no path",
              SPAN_ARG(pool->row.name));
    fault_note(conf->faults, "like path = \"/healthz\"; or protocol = \"tcp\";");
  }
  if (h->body.len && span_eq(h->method, SPAN_LIT("HEAD")))
    unused(conf, pool, OPTION_POOL_HEALTH_BODY, "is never there: the answer to HEAD has no body");
  if (h->headers.count > FIELDS_MAX)
    fault_add(conf->faults, FAULT_OUT_OF_RANGE, row_place(&pool->row, OPTION_POOL_HEALTH_HEADERS),
              "pool \"" SPAN_FMT "\": health.headers has more than %u fields",
              SPAN_ARG(pool->row.name), FIELDS_MAX);
}

static bool all_unix(const struct conf_pool *pool) {
  rows_each(&pool->endpoints, struct conf_endpoint, e)
    if (!span_starts(e->address, SPAN_LIT("unix:"))) return false;
  return pool->endpoints.count > 0;
}

void check_health(struct conf *conf, const struct conf_pool *pool) {
  const struct conf_health *h = &pool->health;
  if (!h->on || faults_has_syntax(conf->faults)) return;
  if (h->protocol == HEALTH_TCP) check_tcp(conf, pool);
  else check_http(conf, pool);
  if (h->port && all_unix(pool))
    unused(conf, pool, OPTION_POOL_HEALTH_PORT, "means nothing: the endpoints are unix sockets");
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

static void put_fields(struct buf *b, const struct conf_health *row) {
  bool agent = false, accept = false;
  for (uint32_t i = 0; i < row->headers.count; i++) {
    struct span name, value;
    health_field_split(row->headers.items[i].text, &name, &value);
    agent = agent || span_eq_nocase(name, SPAN_LIT("user-agent"));
    accept = accept || span_eq_nocase(name, SPAN_LIT("accept"));
    check(h1_write_field(b, name, value));
  }
  if (!agent) buf_lit(b, "User-Agent: weir (health check)\r\n");
  if (!accept) buf_lit(b, "Accept: */*\r\n");
  buf_lit(b, "Connection: close\r\n\r\n");
}

/* proxied: what listens at another port is not what gets the requests. */
static bool proxied(const struct conf_health *row, const struct pool_connections *c) {
  return c->proxied && !row->port;
}

/* A host that is set is the same for all endpoints; else two pieces leave room for it. */
static void fill_request(struct pool *pool, const struct conf_health *row) {
  char bytes[REQUEST_MAX];
  struct buf b = buf_of(bytes, sizeof bytes);
  const struct proxy_header own_header = {.version = pool->connections.proxied, .local = true};
  if (proxied(row, &pool->connections)) check(proxy_header_write(&b, &own_header));
  check(h1_write_request_line(&b, row->method, row->path, NULL, 1));
  buf_lit(&b, "Host: ");
  size_t cut = b.len;
  buf_put(&b, row->host);
  buf_lit(&b, "\r\n");
  put_fields(&b, row);
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

/* content hashes what a check depends on, so that other changes of a pool leave its schedule. */
static uint64_t content(const struct conf_pool *row) {
  uint64_t hash = row->health.on;
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
  if (h->protocol == HEALTH_HTTP) fill_request(pool, h);
}

/* Runs before a worker can see it. What was in a generation before keeps its state. */
void endpoint_announce(struct endpoint *e, bool checked) {
  uint8_t fresh = ENDPOINT_NEW;
  uint8_t state = checked ? ENDPOINT_UNKNOWN : ENDPOINT_UNCHECKED;
  if (atomic_compare_exchange_strong(&e->state, &fresh, state)) endpoint_changed(e);
}
