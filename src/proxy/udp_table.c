/* udp_table.c: finds a session by its 4-tuple. Chains in buckets that are made once, as pages that
 * are taken as they are used; keys are hashed under a secret, as clients choose them (forged ones
 * too). One worker's: the kernel gives all of a 4-tuple to one socket of the port. Knows no
 * sockets and no clock. */
#include "proxy/udp_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

#define BUCKETS_MAX (1u << 20)

static size_t bytes_of(const struct udp_table *t) {
  return ((size_t)t->mask + 1) * sizeof(struct udp_session *);
}

void udp_table_init(struct udp_table *t, uint32_t sessions_max) {
  uint32_t buckets = 64;
  while (buckets < sessions_max && buckets < BUCKETS_MAX) buckets *= 2;
  *t = (struct udp_table){.mask = buckets - 1};
  t->buckets = mem_pages(bytes_of(t));
}

void udp_table_fini(struct udp_table *t) {
  check(t->count == 0);
  mem_pages_free(t->buckets, bytes_of(t));
}

static struct udp_session **bucket_of(const struct udp_table *t, const struct udp_key *key) {
  return &t->buckets[hash_keyed(span_of((const char *)key, sizeof *key)) & t->mask];
}

struct udp_session *udp_table_find(const struct udp_table *t, const struct udp_key *key) {
  struct udp_session *s = *bucket_of(t, key);
  while (s && memcmp(&s->key, key, sizeof *key) != 0) s = s->chain;
  return s;
}

void udp_table_add(struct udp_table *t, struct udp_session *s) {
  struct udp_session **at = bucket_of(t, &s->key);
  dcheck(udp_table_find(t, &s->key) == NULL);
  s->chain = *at;
  *at = s;
  t->count++;
}

void udp_table_remove(struct udp_table *t, struct udp_session *s) {
  struct udp_session **at = bucket_of(t, &s->key);
  while (*at != s) {
    check(*at != NULL); /* it was added */
    at = &(*at)->chain;
  }
  *at = s->chain;
  s->chain = NULL;
  t->count--;
}
