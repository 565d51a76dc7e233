/* balance.h: settings that say which endpoint of a pool, and which pool of a split, a request goes
 * to. config/ fills them, upstream/ and proxy/ read them. What a policy does is upstream/. */
#ifndef WEIR_MODEL_BALANCE_H
#define WEIR_MODEL_BALANCE_H

#include "weir/http/message.h"

/* hash_source is what of a request is hashed. */
enum hash_source {
  HASH_NONE,
  HASH_CLIENT, /* client.address, as the log has it */
  HASH_HEADER,
  HASH_COOKIE,
  HASH_PATH,
  HASH_QUERY, /* one parameter */
};

/* hash_key names it; name is the header's, cookie's or parameter's. */
struct hash_key {
  uint8_t source; /* enum hash_source */
  struct span name;
};

/* hash_key_parse reads "client_ip", "path", "header:NAME", "cookie:NAME" or "query:NAME";
 * out->name borrows from text. */
MUST_USE bool hash_key_parse(struct span text, struct hash_key *out);
/* hash_key_text is what stands before the name, "header:"; empty for HASH_NONE. */
struct span hash_key_text(const struct hash_key *key);
/* hash_key_find hashes what the key names in a request; client is client.address. False, *out
 * untouched, when the request has none (an empty value is none). The same on every machine. */
MUST_USE bool hash_key_find(const struct hash_key *key, const struct http_request *request,
                            struct span client, uint64_t *out);

/* pool_spread is how a pool spreads its requests, beside the policy. */
struct pool_spread {
  struct hash_key hash; /* ring, maglev */
  uint16_t bound_percent;    /* of the mean load that one endpoint may have; 0: no bound */
  uint8_t panic_percent;     /* share in service below which all are used; 0: never */
  uint8_t overflow_percent;  /* share of a tier in service below which the next one helps */
  uint32_t slow_start_ms;    /* 0: none */
};

/* pool_tier is members [first, first + count) of a pool: endpoints of one priority, or the backups
 * (the last tier then). */
struct pool_tier {
  uint32_t first, count;
  uint64_t weight;      /* their sum */
  const uint64_t *sums; /* running sums of weights, one per member */
  bool equal;           /* all weights are 1 */
  const void *table;    /* the policy's own; NULL: it has none */
};

/* TIERS_MAX bounds the tiers of a pool: priorities 0 to 7, and the backups. */
#define TIERS_MAX 9u

/* pool_shares is how one worker parts a pool's traffic among its tiers, remembered until health
 * changes (pool_state.epoch), an ejection ends (until_ms), or the pool does. */
struct pool_shares {
  const struct pool *pool;
  uint64_t seq, epoch, from_ms, until_ms;
  uint32_t share[TIERS_MAX]; /* in parts of 1 << 20 */
  uint32_t total;
  bool panic; /* nobody asks who is in service */
};

enum cookie_samesite { SAMESITE_LAX, SAMESITE_STRICT, SAMESITE_NONE, SAMESITE_OFF };
enum cookie_secure { SECURE_AUTO, SECURE_ON, SECURE_OFF };

/* sticky_settings is the cookie that names an endpoint. */
struct sticky_settings {
  struct span cookie, path; /* cookie empty: none */
  uint64_t max_age_ms;      /* 0: until the browser closes */
  uint8_t secure;           /* enum cookie_secure */
  uint8_t samesite;         /* enum cookie_samesite */
  bool httponly;
};

/* sticky_slot is one endpoint's: what the cookie says, and the whole Set-Cookie value. */
struct sticky_slot {
  uint64_t id[2]; /* the first 128 bits of a MAC */
  uint32_t place;
};
struct pool_sticky {
  struct span cookie;
  uint32_t count;               /* of members */
  struct sticky_slot *slots;    /* by id, one per member */
  struct span *plain, *secured; /* Set-Cookie values by place: of plain and of TLS connections */
};

#endif
