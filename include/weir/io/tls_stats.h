/* tls_stats.h: the memory of the TLS library. Part of tls.h. */
#ifndef WEIR_IO_TLS_STATS_H
#define WEIR_IO_TLS_STATS_H

#include <stdint.h>

/* tls_stats are the library's allocations in this process (OPENSSL_memory_alloc). */
struct tls_stats {
  uint64_t alloc_bytes, alloc_count; /* live now */
  uint64_t alloc_total;              /* since start */
  uint64_t heap_total;               /* of those, the ones that no thread's cache could serve */
  uint64_t cache_bytes;              /* free, kept by threads: at most TLS_CACHE_BYTES each */
};
#define TLS_CACHE_BYTES (1u << 20)
void tls_stats_get(struct tls_stats *out); /* any thread */
/* tls_mem_trim gives the calling thread's cached blocks that were not needed since the last call
 * back to the heap. loop_trim does it for workers with TLS. */
void tls_mem_trim(void);

#endif
