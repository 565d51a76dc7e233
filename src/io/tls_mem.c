/* tls_mem.c: the TLS library's allocator (OPENSSL_memory_alloc and its kin, found by weak
 * symbols): a bounded cache of free blocks by size class in each thread, counted, so that
 * handshakes need no malloc once a worker is warm. A block goes to the cache of the thread that
 * frees it, so freeing elsewhere needs no lock. Does not see the library's record buffers: those
 * it takes from malloc itself. Must not call the library. Trimmed by the worker once a second. */
#include <openssl/mem.h>
#include <pthread.h>
#include <stdatomic.h>

#include "io/poison_priv.h"
#include "io/tls_priv.h"
#include "weir/base/mem.h"

/* Classes: steps of 16 bytes up to 1 KiB, then eight per doubling up to 16 KiB; above: no
 * cache. */
#define SMALL_MAX 1024u
#define SMALL_CLASSES 64u
#define LARGE_DOUBLINGS 4u
#define CLASS_COUNT (SMALL_CLASSES + 8u * LARGE_DOUBLINGS)
#define CLASS_NONE CLASS_COUNT
#define OVERFLOW_TRIM 64u
#define BLOCK_MAGIC 0x5ea1u

/* block_head stands before each payload. Payloads are aligned to 8, as the library's own are. */
struct block_head {
  uint32_t size;  /* bytes asked for */
  uint16_t klass; /* CLASS_NONE: size bytes, never cached */
  uint16_t magic;
};

/* mem_cache is one thread's. Counters are written by it alone and read by any. A block may be
 * freed by another thread than took it, so only sums over all threads mean something. */
struct mem_cache {
  void *free[CLASS_COUNT]; /* payloads, linked through their first word */
  uint32_t count[CLASS_COUNT];
  uint32_t low[CLASS_COUNT]; /* least count since the last trim */
  _Atomic uint64_t alloc_total, free_total, alloc_bytes, free_bytes, heap_total, cache_bytes;
  struct mem_cache *next, *prev; /* in caches */
  uint32_t overflow_count;
  bool listed, closed;
};

static _Thread_local struct mem_cache cache;
static struct {
  pthread_mutex_t lock; /* taken at a thread's first allocation and its end, and by readers */
  struct mem_cache *head;
  struct tls_stats gone; /* counters of ended threads: sums of what was taken and freed */
  uint64_t gone_free_bytes, gone_free_total;
} caches = {.lock = PTHREAD_MUTEX_INITIALIZER};
static pthread_key_t cache_key;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;

static void count_add(_Atomic uint64_t *counter, uint64_t by) {
  uint64_t had = atomic_load_explicit(counter, memory_order_relaxed);
  atomic_store_explicit(counter, had + by, memory_order_relaxed);
}
static uint64_t count_get(const _Atomic uint64_t *counter) {
  return atomic_load_explicit(counter, memory_order_relaxed);
}

static uint32_t class_of(size_t size) {
  if (size <= SMALL_MAX) return size <= 16 ? 0 : (uint32_t)(size - 1) / 16;
  if (size > SMALL_MAX << LARGE_DOUBLINGS) return CLASS_NONE;
  uint32_t top = 31u - (uint32_t)__builtin_clz((uint32_t)size - 1); /* 10 to 13 */
  uint32_t eighth = ((uint32_t)size - 1 - (1u << top)) >> (top - 3);
  return SMALL_CLASSES + (top - 10) * 8 + eighth;
}

static size_t class_bytes(uint32_t klass) {
  if (klass < SMALL_CLASSES) return (klass + 1) * 16;
  uint32_t top = 10 + (klass - SMALL_CLASSES) / 8;
  return (size_t)(8 + (klass - SMALL_CLASSES) % 8 + 1) << (top - 3);
}

static struct block_head *head_of(void *payload) {
  struct block_head *head = (struct block_head *)payload - 1;
  check(head->magic == BLOCK_MAGIC);
  return head;
}

static size_t footprint(const struct block_head *head) {
  return sizeof(*head) + (head->klass == CLASS_NONE ? head->size : class_bytes(head->klass));
}

/* block_drop gives up to n free blocks of a class back to the heap. */
static void block_drop(uint32_t klass, uint32_t n) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < n && cache.free[klass]; i++) {
    void *payload = cache.free[klass];
    unpoison(payload, class_bytes(klass));
    memcpy(&cache.free[klass], payload, sizeof(void *));
    cache.count[klass]--;
    bytes += class_bytes(klass) + sizeof(struct block_head);
    mem_free(head_of(payload));
  }
  atomic_store_explicit(&cache.cache_bytes, count_get(&cache.cache_bytes) - bytes,
                        memory_order_relaxed);
}

/* cache_end runs at the end of a thread: nothing is kept any more; what the thread still frees
 * after this goes straight to the heap. */
static void cache_end(void *arg) {
  (void)arg;
  for (uint32_t klass = 0; klass < CLASS_COUNT; klass++) block_drop(klass, UINT32_MAX);
  pthread_mutex_lock(&caches.lock);
  cache.closed = true;
  cache.listed = false;
  if (cache.prev) cache.prev->next = cache.next;
  if (cache.next) cache.next->prev = cache.prev;
  if (caches.head == &cache) caches.head = cache.next;
  caches.gone.alloc_total += count_get(&cache.alloc_total);
  caches.gone.alloc_bytes += count_get(&cache.alloc_bytes);
  caches.gone.heap_total += count_get(&cache.heap_total);
  caches.gone_free_total += count_get(&cache.free_total);
  caches.gone_free_bytes += count_get(&cache.free_bytes);
  pthread_mutex_unlock(&caches.lock);
}

static void cache_once_init(void) { check(pthread_key_create(&cache_key, cache_end) == 0); }

static void cache_list(void) {
  if (cache.closed) return;
  pthread_once(&cache_once, cache_once_init);
  check(pthread_setspecific(cache_key, &cache) == 0);
  pthread_mutex_lock(&caches.lock);
  cache.next = caches.head;
  if (cache.next) cache.next->prev = &cache;
  caches.head = &cache;
  cache.listed = true;
  pthread_mutex_unlock(&caches.lock);
}

/* gone_add counts for a thread whose cache has ended (the library's own thread-locals go last). */
static void gone_add(uint64_t *bytes, uint64_t *total, size_t by) {
  pthread_mutex_lock(&caches.lock);
  *bytes += by;
  *total += 1;
  pthread_mutex_unlock(&caches.lock);
}

static void *block_new(uint32_t klass, size_t size) {
  size_t payload_bytes = klass == CLASS_NONE ? size : class_bytes(klass);
  struct block_head *head = (struct block_head *)mem_alloc(sizeof(*head) + payload_bytes);
  *head = (struct block_head){.klass = (uint16_t)klass, .magic = BLOCK_MAGIC};
  count_add(&cache.heap_total, 1);
  return head + 1;
}

static void *block_pop(uint32_t klass) {
  void *payload = cache.free[klass];
  unpoison(payload, class_bytes(klass));
  memcpy(&cache.free[klass], payload, sizeof(void *));
  if (--cache.count[klass] < cache.low[klass]) cache.low[klass] = cache.count[klass];
  atomic_store_explicit(
      &cache.cache_bytes,
      count_get(&cache.cache_bytes) - class_bytes(klass) - sizeof(struct block_head),
      memory_order_relaxed);
  return payload;
}

/* overflows tells whether a block does not fit into the cache any more. What nobody needs may be
 * in the way then: every OVERFLOW_TRIM times it is thrown out. */
static bool overflows(size_t bytes) {
  if (count_get(&cache.cache_bytes) + bytes <= TLS_CACHE_BYTES) return false;
  if (cache.overflow_count++ % OVERFLOW_TRIM == 0) tls_mem_trim();
  return count_get(&cache.cache_bytes) + bytes > TLS_CACHE_BYTES;
}

/* The library's hooks. Sizes near SIZE_MAX are the caller's overflow: refused. */
__attribute__((used)) void *OPENSSL_memory_alloc(size_t size);
__attribute__((used)) void OPENSSL_memory_free(void *payload);
__attribute__((used)) size_t OPENSSL_memory_get_size(void *payload);

void *OPENSSL_memory_alloc(size_t size) {
  if (size > UINT32_MAX) return NULL;
  if (!cache.listed) cache_list();
  uint32_t klass = class_of(size);
  bool cached = klass != CLASS_NONE && cache.free[klass];
  void *payload = cached ? block_pop(klass) : block_new(klass, size);
  struct block_head *head = head_of(payload);
  head->size = (uint32_t)size;
  if (cache.closed) {
    gone_add(&caches.gone.alloc_bytes, &caches.gone.alloc_total, footprint(head));
  } else {
    count_add(&cache.alloc_bytes, footprint(head));
    count_add(&cache.alloc_total, 1);
  }
  return payload;
}

void OPENSSL_memory_free(void *payload) {
  struct block_head *head = head_of(payload);
  size_t bytes = footprint(head);
  uint32_t klass = head->klass;
  mem_wipe(payload, head->size);
  if (!cache.listed) cache_list();
  if (cache.closed) {
    gone_add(&caches.gone_free_bytes, &caches.gone_free_total, bytes);
  } else {
    count_add(&cache.free_bytes, bytes);
    count_add(&cache.free_total, 1);
  }
  if (klass == CLASS_NONE || cache.closed || overflows(bytes)) {
    head->magic = 0;
    mem_free(head);
    return;
  }
  memcpy(payload, &cache.free[klass], sizeof(void *));
  cache.free[klass] = payload;
  cache.count[klass]++;
  count_add(&cache.cache_bytes, bytes);
  poison((char *)payload + sizeof(void *), class_bytes(klass) - sizeof(void *));
}

size_t OPENSSL_memory_get_size(void *payload) { return head_of(payload)->size; }

#if defined(OPENSSL_IS_AWSLC)
__attribute__((used)) void *OPENSSL_memory_realloc(void *payload, size_t size);
void *OPENSSL_memory_realloc(void *payload, size_t size) {
  void *grown = OPENSSL_memory_alloc(size);
  if (!grown) return NULL;
  size_t had = OPENSSL_memory_get_size(payload);
  memcpy(grown, payload, had < size ? had : size);
  OPENSSL_memory_free(payload);
  return grown;
}
#endif

void tls_mem_use(void) {}

void tls_mem_trim(void) {
  for (uint32_t klass = 0; klass < CLASS_COUNT; klass++) {
    if (cache.low[klass] > 0) block_drop(klass, cache.low[klass]);
    cache.low[klass] = cache.count[klass];
  }
}

void tls_stats_get(struct tls_stats *out) {
  pthread_mutex_lock(&caches.lock);
  struct tls_stats sum = caches.gone;
  uint64_t free_bytes = caches.gone_free_bytes, free_total = caches.gone_free_total;
  for (const struct mem_cache *one = caches.head; one; one = one->next) {
    sum.alloc_total += count_get(&one->alloc_total);
    sum.alloc_bytes += count_get(&one->alloc_bytes);
    sum.heap_total += count_get(&one->heap_total);
    sum.cache_bytes += count_get(&one->cache_bytes);
    free_total += count_get(&one->free_total);
    free_bytes += count_get(&one->free_bytes);
  }
  pthread_mutex_unlock(&caches.lock);
  sum.alloc_count = sum.alloc_total - free_total;
  sum.alloc_bytes -= free_bytes;
  *out = sum;
}
