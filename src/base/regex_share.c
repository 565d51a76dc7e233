/* regex_share.c: equal patterns are compiled once. A configuration is checked and then compiled,
 * and the next one is mostly the same: what a pattern was found to be is kept while anybody holds
 * it, and until the next regex_sweep after that. Called by the compile thread, the reaper and the
 * CLI; workers only match. */
#include <pthread.h>

#include "regex_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

/* The lock is for the table and the counts of refs; nothing is compiled under it. */
static struct {
  pthread_mutex_t lock;
  struct regex_share **buckets; /* a power of two of them */
  uint32_t bucket_count, count;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct regex_share **bucket_of(uint64_t hash) {
  return &table.buckets[(hash ^ hash >> 32) & (table.bucket_count - 1)];
}

static void grow(void) {
  uint32_t before = table.bucket_count;
  struct regex_share **old = table.buckets;
  table.bucket_count = before ? before * 2 : 64;
  table.buckets = mem_array(table.bucket_count, sizeof *table.buckets);
  for (uint32_t i = 0; i < before; i++)
    for (struct regex_share *at = old[i], *next; at; at = next) {
      struct regex_share **bucket = bucket_of(at->hash);
      next = at->next;
      at->next = *bucket;
      *bucket = at;
    }
  mem_free(old);
}

/* find_ref gives a pattern that is there, with a ref; NULL: none. */
static struct regex *find_ref(struct span pattern, uint64_t hash) {
  struct regex_share *at = table.bucket_count ? *bucket_of(hash) : NULL;
  while (at && !(at->hash == hash && span_eq(at->pattern, pattern))) at = at->next;
  if (!at) return NULL;
  at->refs++;
  return at->regex;
}

static void insert(struct regex_share *made) {
  if (table.count == table.bucket_count) grow();
  struct regex_share **bucket = bucket_of(made->hash);
  made->next = *bucket;
  *bucket = made;
  table.count++;
}

static void drop(struct regex_share *share) {
  regex_unmake(share->regex);
  mem_free(share->text);
  mem_free(share);
}

struct regex *regex_new(struct span pattern, struct regex_fault *fault) {
  uint64_t hash = hash_bytes(pattern);
  pthread_mutex_lock(&table.lock);
  struct regex *found = find_ref(pattern, hash);
  pthread_mutex_unlock(&table.lock);
  if (found) return found;
  struct regex_share *made = mem_alloc(sizeof *made);
  made->regex = regex_make(pattern, made, fault);
  if (!made->regex) {
    mem_free(made);
    return NULL;
  }
  made->text = mem_alloc(pattern.len);
  memcpy(made->text, pattern.ptr, pattern.len);
  made->pattern = span_of(made->text, pattern.len);
  made->hash = hash;
  made->refs = 1;
  pthread_mutex_lock(&table.lock);
  found = find_ref(pattern, hash); /* another thread may have been first */
  if (!found) insert(made);
  pthread_mutex_unlock(&table.lock);
  if (!found) return made->regex;
  drop(made);
  return found;
}

void regex_free(struct regex *re) {
  if (!re) return;
  struct regex_share *share = regex_share_of(re);
  pthread_mutex_lock(&table.lock);
  check(share->refs > 0);
  share->refs--;
  pthread_mutex_unlock(&table.lock);
}

void regex_sweep(void) {
  struct regex_share *idle = NULL;
  pthread_mutex_lock(&table.lock);
  for (uint32_t i = 0; i < table.bucket_count; i++)
    for (struct regex_share **at = &table.buckets[i]; *at;) {
      struct regex_share *share = *at;
      if (share->refs) {
        at = &share->next;
        continue;
      }
      *at = share->next;
      share->next = idle;
      idle = share;
      table.count--;
    }
  pthread_mutex_unlock(&table.lock);
  for (struct regex_share *next; idle; idle = next) {
    next = idle->next;
    drop(idle);
  }
}

uint32_t regex_count(void) {
  pthread_mutex_lock(&table.lock);
  uint32_t count = table.count;
  pthread_mutex_unlock(&table.lock);
  return count;
}
