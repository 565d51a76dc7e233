/* compile_balance.c: the part of compiling that says where requests go: how a pool spreads them
 * over its endpoints, how a route splits them over pools. Called by compile.c. */
#include "compile_priv.h"
#include "weir/base/crypto.h"
#include "weir/upstream/upstream.h"

static struct hash_key key_of(struct object *o, struct span text) {
  struct hash_key key = {.source = HASH_NONE};
  struct span own = arena_copy(&o->arena, text, NULL);
  if (text.len) check(hash_key_parse(own, &key)); /* values_text.c saw to it */
  return key;
}

/* ---- pools ---- */

/* KEY_CONTENT is signed so that a key's change is seen without keeping the key. */
#define KEY_CONTENT SPAN_LIT("weir sticky content")

uint64_t balance_content(const struct conf_pool *row) {
  uint8_t mac[CRYPTO_MAC_LEN];
  uint64_t content = 0;
  if (!row->sticky.cookie.len || !row->sticky_key_bytes.len) return 0;
  crypto_mac(text_span(&row->sticky_key_bytes), KEY_CONTENT, mac);
  memcpy(&content, mac, sizeof content);
  return content;
}

void balance_fill(struct pool *pool, const struct conf_pool *row) {
  pool->balance = row->balance;
  pool->spread = row->spread;
  pool->spread.hash = key_of(&pool->obj, row->hash);
  pool_prepare(pool);
  if (!row->sticky.cookie.len) return;
  uint8_t own[CRYPTO_MAC_LEN];
  crypto_process_key(own);
  struct span key = text_span(&row->sticky_key_bytes);
  sticky_prepare(pool, &row->sticky, key.len ? key : span_of((const char *)own, sizeof own));
  mem_wipe(own, sizeof own);
}

/* ---- splits ---- */

static struct pool *part_pool(const struct compile *c, const struct conf_split *split) {
  struct pool *pool = names_find(&c->pools, split->pool);
  check(pool != NULL); /* check_routes.c saw to it */
  return pool;
}

uint64_t split_content(const struct conf_route *row) {
  uint64_t content = row->splits.count;
  rows_each(&row->splits, struct conf_split, split) content =
      hash_mix(text_hash(content, split->pool), split->weight);
  return content;
}

bool split_same(const struct compile *c, const struct route *route,
                const struct conf_route *row) {
  uint32_t i = 0;
  if (route->split_count != row->splits.count) return false;
  rows_each(&row->splits, struct conf_split, split) {
    if (route->splits[i].pool != part_pool(c, split)) return false;
    if (route->splits[i++].weight != split->weight) return false;
  }
  return true;
}

void split_fill(struct compile *c, struct route *route, const struct conf_route *row) {
  struct object *o = &route->obj;
  route->action = ROUTE_SPLIT;
  route->splits = arena_get(&o->arena, row->splits.count * sizeof *route->splits);
  rows_each(&row->splits, struct conf_split, split) {
    struct pool *pool = part_pool(c, split);
    object_ref(c->registry, &pool->obj);
    route->splits[route->split_count++] = (struct route_split){pool, split->weight};
    route->split_weight += split->weight;
  }
  route->split_by = key_of(o, row->split_by);
  route->split_failover = row->split_failover;
}
