/* compile_upstream_tls.c: the TLS policy of a pool's endpoints, for the hook, which compiles it
 * when no other pool has the same one. Called by compile.c. */
#include "compile_priv.h"

#define ALPN_H2 "\x02h2"
#define ALPN_HTTP_1_1 "\x08http/1.1"

/* alpn_of: what is spoken by TCP is not for weir to say. */
static struct span alpn_of(const struct conf_pool *row) {
  if (row->tcp) return SPAN_EMPTY;
  switch ((enum pool_protocol)row->connections.protocol) {
    case POOL_H2: return SPAN_LIT(ALPN_H2);
    case POOL_HTTP_1_1: return SPAN_LIT(ALPN_HTTP_1_1);
    case POOL_AUTO:
    case POOL_H2C: break; /* h2c: check_upstream_tls.c refused it */
  }
  return SPAN_LIT(ALPN_H2 ALPN_HTTP_1_1);
}

static uint64_t policy_hash(const struct conf_upstream_tls *tls) {
  uint64_t hash = hash_mix(tls->verify, (uint64_t)tls->min_version << 1 | tls->h2_only);
  const struct span texts[] = {tls->ca_pem, tls->cert_pem, tls->key_pem, tls->sni, tls->alpn,
                               tls->groups};
  for (size_t i = 0; i < array_count(texts); i++) hash = text_hash(hash, texts[i]);
  hash = hash_mix(hash, tls->name_count);
  for (uint32_t i = 0; i < tls->name_count; i++) hash = text_hash(hash, tls->names[i]);
  struct span pins = span_of((const char *)tls->pins, tls->pin_count * CONF_PIN_BYTES);
  return text_hash(hash, pins);
}

static void names_of(struct conf_upstream_tls *out, const struct conf_list *list,
                     struct arena *arena) {
  struct span *names = arena_get(arena, (list->count + 1) * sizeof *names);
  for (uint32_t i = 0; i < list->count; i++) names[i] = list->items[i].text;
  out->names = names;
  out->name_count = list->count;
}

static void pins_of(struct conf_upstream_tls *out, const struct conf_list *list,
                    struct arena *arena) {
  uint8_t(*pins)[CONF_PIN_BYTES] = arena_get(arena, (list->count + 1) * sizeof *pins);
  for (uint32_t i = 0; i < list->count; i++) pin_parse(list->items[i].text, pins[i]);
  out->pins = (const uint8_t(*)[CONF_PIN_BYTES])pins;
  out->pin_count = list->count;
}

static struct conf_upstream_tls policy_of(struct compile *c, const struct conf_pool *row) {
  static const uint16_t versions[] = {0x0303, 0x0304};
  const struct conf_pool_tls *t = &row->tls;
  struct conf_upstream_tls tls = {.verify = t->verify == VERIFY_SYSTEM,
                                  .h2_only = row->connections.protocol == POOL_H2,
                                  .min_version = versions[t->min],
                                  .cert_pem = text_span(&t->cert_pem),
                                  .key_pem = text_span(&t->key_pem),
                                  .cert_label = t->cert,
                                  .sni = t->sni,
                                  .groups = names_joined(c, &t->groups),
                                  .alpn = alpn_of(row),
                                  .pool = row->row.name};
  if (tls.verify) {
    tls.ca_pem = text_span(t->ca.len ? &t->ca_pem : &c->conf->system_pem);
    tls.ca_label = t->ca.len ? t->ca : c->conf->system_store;
  }
  names_of(&tls, &t->names, &c->arena);
  pins_of(&tls, &t->pins, &c->arena);
  tls.content = policy_hash(&tls);
  return tls;
}

static struct place bad_place(const struct conf_pool *row, enum conf_tls_bad bad) {
  if (bad == CONF_TLS_BAD_POOL_GROUPS) return row_place(&row->row, OPTION_POOL_TLS_GROUPS);
  bool own = bad == CONF_TLS_BAD_CA && row->tls.ca.len;
  return row_place(&row->row, bad == CONF_TLS_BAD_CERT ? OPTION_POOL_TLS_CERT
                              : own                    ? OPTION_POOL_TLS_CA
                                                       : OPTION_POOL_TLS_VERIFY);
}

uint64_t upstream_tls_content(struct compile *c, const struct conf_pool *row) {
  return row->tls.on ? policy_of(c, row).content : 0;
}

static struct tls_client *tls_make(struct compile *c, const struct conf_pool *row,
                                   const struct conf_upstream_tls *tls, enum conf_tls_bad *bad) {
  char words[512];
  struct buf why = buf_of(words, sizeof words);
  *bad = CONF_TLS_BAD_NONE;
  check(c->hooks->upstream_tls && c->hooks->upstream_tls_unref); /* never plaintext instead */
  struct tls_client *client = c->hooks->upstream_tls(c->hooks->ctx, tls, bad, &why);
  if (!client)
    fault_add(c->faults, FAULT_TLS_REFUSED, bad_place(row, *bad),
              "pool \"" SPAN_FMT "\": " SPAN_FMT, SPAN_ARG(row->row.name),
              SPAN_ARG(buf_span(&why)));
  return client;
}

bool upstream_tls_try(struct compile *c, const struct conf_pool *row, enum conf_tls_bad *bad) {
  struct conf_upstream_tls tls = policy_of(c, row);
  struct tls_client *client = tls_make(c, row, &tls, bad);
  if (client) c->hooks->upstream_tls_unref(client);
  return client != NULL;
}

bool upstream_tls_fill(struct compile *c, struct pool *pool, const struct conf_pool *row) {
  enum conf_tls_bad bad;
  if (!row->tls.on) return true;
  struct conf_upstream_tls tls = policy_of(c, row);
  pool->tls = tls_make(c, row, &tls, &bad);
  pool->tls_unref = c->hooks->upstream_tls_unref;
  pool->health.tls = pool->tls;
  if (pool->health.on) pool->health.content = hash_mix(pool->health.content, tls.content);
  return pool->tls != NULL;
}
