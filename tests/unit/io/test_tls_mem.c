/* The TLS library's allocator (tls_mem.c): classes, counters, the bound, blocks freed by another
 * thread, threads that end; and what an idle TLS connection costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/mem.h>
#include <pthread.h>

#include "io/tls_conn_priv.h"
#include "tls_harness.h"

void *OPENSSL_memory_alloc(size_t size);
void OPENSSL_memory_free(void *ptr);
size_t OPENSSL_memory_get_size(void *ptr);

/* The library really uses it: a handshake's worth of allocations shows in the counters. */
static void library_uses_it(void **state) {
  (void)state;
  tls_mem_use();
  struct tls_stats before, after;
  tls_stats_get(&before);
  void *ptr = OPENSSL_malloc(100);
  tls_stats_get(&after);
  assert_int_equal(after.alloc_count, before.alloc_count + 1);
  assert_int_equal(after.alloc_total, before.alloc_total + 1);
  assert_int_equal(after.alloc_bytes, before.alloc_bytes + 112 + 8);
  OPENSSL_free(ptr);
  tls_stats_get(&after);
  assert_int_equal(after.alloc_count, before.alloc_count);
  assert_int_equal(after.alloc_bytes, before.alloc_bytes);
}

/* Every size is served with room for all its bytes, at most an eighth (or 16) more, and is
 * wiped. */
static void every_size(void **state) {
  (void)state;
  for (size_t size = 0; size < 40000; size += size < 3000 ? 1 : 97) {
    struct tls_stats before, after;
    tls_stats_get(&before);
    uint8_t *ptr = OPENSSL_memory_alloc(size);
    tls_stats_get(&after);
    assert_non_null(ptr);
    assert_int_equal((uintptr_t)ptr % 8, 0);
    assert_int_equal(OPENSSL_memory_get_size(ptr), size);
    uint64_t took = after.alloc_bytes - before.alloc_bytes - 8;
    assert_true(took >= size && took <= size + (size < 1024 ? 16 : size / 8 + 1));
    memset(ptr, 0xa5, size);
    OPENSSL_memory_free(ptr);
    tls_stats_get(&after);
    assert_int_equal(after.alloc_bytes, before.alloc_bytes);
    uint8_t *again = OPENSSL_memory_alloc(size); /* the same block, without its secrets */
    if (size > 0 && size <= 16384) assert_ptr_equal(again, ptr);
    for (size_t i = 8; i < size; i++) assert_int_equal(again[i], 0);
    OPENSSL_memory_free(again);
  }
  assert_null(OPENSSL_memory_alloc(SIZE_MAX - 4));
}

static void bounded(void **state) {
  (void)state;
  enum { COUNT = 4000 };
  static void *ptr[COUNT];
  struct tls_stats stats;
  for (int i = 0; i < COUNT; i++) ptr[i] = OPENSSL_memory_alloc(1000);
  for (int i = 0; i < COUNT; i++) OPENSSL_memory_free(ptr[i]);
  tls_stats_get(&stats);
  assert_true(stats.cache_bytes <= TLS_CACHE_BYTES);
  assert_true(stats.cache_bytes > TLS_CACHE_BYTES / 2);
  /* a cache full of blocks that nobody needs makes room for others */
  for (int i = 0; i < COUNT; i++) OPENSSL_memory_free(OPENSSL_memory_alloc(3000));
  uint64_t heap = 0;
  tls_stats_get(&stats);
  heap = stats.heap_total;
  for (int i = 0; i < COUNT; i++) OPENSSL_memory_free(OPENSSL_memory_alloc(3000));
  tls_stats_get(&stats);
  assert_int_equal(stats.heap_total, heap);
  tls_mem_trim();
  tls_mem_trim();
  tls_stats_get(&stats);
  assert_true(stats.cache_bytes < 8192);
}

/* Trimming keeps what was in use since the last time. */
static void trim_follows_use(void **state) {
  (void)state;
  void *ptr[10];
  struct tls_stats stats;
  tls_mem_trim();
  tls_mem_trim();
  tls_stats_get(&stats);
  uint64_t base = stats.cache_bytes;
  for (int i = 0; i < 10; i++) ptr[i] = OPENSSL_memory_alloc(2000);
  for (int i = 0; i < 10; i++) OPENSSL_memory_free(ptr[i]);
  tls_mem_trim();
  for (int round = 0; round < 3; round++) { /* four are in use, six are not */
    for (int i = 0; i < 4; i++) ptr[i] = OPENSSL_memory_alloc(2000);
    for (int i = 0; i < 4; i++) OPENSSL_memory_free(ptr[i]);
    tls_mem_trim();
  }
  tls_stats_get(&stats);
  assert_int_equal(stats.cache_bytes, base + 4 * (2048 + 8));
}

static void *take_many(void *arg) {
  void **ptr = arg;
  for (int i = 0; i < 1000; i++) ptr[i] = OPENSSL_memory_alloc((size_t)i * 7);
  return NULL;
}
static void *free_many(void *arg) {
  void **ptr = arg;
  for (int i = 0; i < 1000; i++) OPENSSL_memory_free(ptr[i]);
  return NULL;
}
static void *both_many(void *arg) {
  (void)arg;
  static _Thread_local void *ptr[1000];
  for (int round = 0; round < 20; round++) {
    take_many(ptr);
    free_many(ptr);
  }
  return NULL;
}

/* Taken in one thread, freed in another, both gone afterwards: the sums are right. */
static void across_threads(void **state) {
  (void)state;
  static void *ptr[1000];
  struct tls_stats before, after;
  tls_stats_get(&before);
  pthread_t thread;
  pthread_create(&thread, NULL, take_many, ptr);
  pthread_join(thread, NULL);
  tls_stats_get(&after);
  assert_int_equal(after.alloc_count, before.alloc_count + 1000);
  pthread_create(&thread, NULL, free_many, ptr);
  pthread_join(thread, NULL);
  tls_stats_get(&after);
  assert_int_equal(after.alloc_count, before.alloc_count);
  assert_int_equal(after.alloc_bytes, before.alloc_bytes);
  assert_int_equal(after.cache_bytes, before.cache_bytes);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, both_many, NULL);
  for (int i = 0; i < 50; i++) tls_stats_get(&after); /* readers beside writers */
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  tls_stats_get(&after);
  assert_int_equal(after.alloc_count, before.alloc_count);
  assert_int_equal(after.alloc_bytes, before.alloc_bytes);
}

/* What 1,000 idle connections cost on weir's side: the library's state, ours, and the conn. The
 * must of FLOOR.md is 8 KB; 4 KB here keeps us honest. */
static void idle_bytes(void **state) {
  (void)state;
  enum { COUNT = 1000 };
  static struct th_pair *p[COUNT];
  struct th_cert cert = th_cert_make(TH_P256, "DNS:a.example", 86400);
  struct th_served served = {&cert, NULL, false};
  struct tls_server *server = th_server(&served, 1, SPAN_LIT("\x08http/1.1"), SPAN_LIT("p"));
  for (uint16_t max = TLS1_2_VERSION; max <= TLS1_3_VERSION; max++) {
    struct th_loop *t = th_loop_new();
    struct th_client_conf conf = {.max = max, .sni = "a.example"};
    struct tls_stats before, after;
    tls_stats_get(&before);
    for (int i = 0; i < COUNT; i++) {
      p[i] = th_pair_new(t, server, 0, th_client_new(&conf));
      p[i]->echo = true;
      th_run(p[i]);
      SSL_write(p[i]->client, "x", 1);
      th_run(p[i]);
      SSL_free(p[i]->client); /* so that only weir's side is left */
      p[i]->client = NULL;
    }
    SSL_SESSION_free(th_ticket());
    tls_stats_get(&after);
    /* 8 more per block for the heap's own head */
    uint64_t library =
        after.alloc_bytes - before.alloc_bytes + 8 * (after.alloc_count - before.alloc_count);
    uint64_t ours = t->loop.tls->conns.object_size, conn = t->loop.conns.object_size;
    print_message(
        "idle TLS %s connection: library %lu in %lu blocks, tls_conn %lu, conn %lu: %lu\n",
        max == TLS1_3_VERSION ? "1.3" : "1.2", (unsigned long)library / COUNT,
        (unsigned long)(after.alloc_count - before.alloc_count) / COUNT, (unsigned long)ours,
        (unsigned long)conn, (unsigned long)(library / COUNT + ours + conn));
    assert_true(library / COUNT + ours + conn < 8192);
    assert_int_equal(t->loop.iobufs.bytes_out, 0);
    for (int i = 0; i < COUNT; i++) th_pair_free(p[i]);
    th_loop_free(t);
  }
  tls_server_unref(server);
  th_cert_free(&cert);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(library_uses_it), cmocka_unit_test(every_size),
      cmocka_unit_test(bounded),         cmocka_unit_test(trim_follows_use),
      cmocka_unit_test(across_threads),  cmocka_unit_test(idle_bytes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
