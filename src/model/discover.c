/* discover.c: when two questions for a name are one, and the address of an answer. Called by
 * control/resolver.c and config/. */
#include "weir/model/discover.h"

#include "weir/base/hash.h"

bool name_query_same(const struct name_query *a, const struct name_query *b) {
  return span_eq_nocase(a->name, b->name) && span_eq(a->servers, b->servers) && a->srv == b->srv &&
         a->family == b->family && a->jitter_percent == b->jitter_percent &&
         a->timeout_ms == b->timeout_ms && a->attempts == b->attempts &&
         a->min_ttl_ms == b->min_ttl_ms && a->max_ttl_ms == b->max_ttl_ms &&
         a->retry_ms == b->retry_ms && a->max_retry_ms == b->max_retry_ms;
}

uint64_t name_hash(struct span name) {
  uint64_t hash = name.len;
  for (size_t i = 0; i < name.len; i++)
    hash = hash_mix(hash, (unsigned char)ascii_lower(name.ptr[i]));
  return hash;
}

uint64_t name_query_hash(const struct name_query *q) {
  uint64_t hash = hash_mix(name_hash(q->name), hash_bytes(q->servers));
  hash = hash_mix(hash, (uint64_t)q->srv << 16 | (uint64_t)q->family << 8 | q->jitter_percent);
  hash = hash_mix(hash, (uint64_t)q->timeout_ms << 32 | q->attempts);
  hash = hash_mix(hash, (uint64_t)q->min_ttl_ms << 32 | q->max_ttl_ms);
  return hash_mix(hash, (uint64_t)q->retry_ms << 32 | q->max_retry_ms);
}

struct addr name_addr(struct addr a, uint16_t port) {
  if (a.sa.sa_family == AF_INET)
    a.in4.sin_port = htons(port);
  else
    a.in6.sin6_port = htons(port);
  return a;
}
