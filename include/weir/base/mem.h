/* mem.h: the only door to malloc. Exhaustion is fatal (check), but in mem_table and mem_try:
 * limits, not malloc, refuse work. Off the data path only: workers use slabs and arenas. */
#ifndef WEIR_BASE_MEM_H
#define WEIR_BASE_MEM_H

#include <stddef.h>

#include "weir/base/span.h"

/* mem_alloc returns size zeroed bytes (size 0 gives a unique pointer); never NULL. */
void *mem_alloc(size_t size) __attribute__((returns_nonnull, malloc));
/* mem_try gives size bytes, not zeroed, or NULL: where the peer decides when memory is needed and
 * one connection is what a refusal costs. Freed by mem_free. */
MUST_USE void *mem_try(size_t size);
/* mem_alloc_aligned is mem_alloc at a power-of-two alignment (64 for per-worker rows). */
void *mem_alloc_aligned(size_t align, size_t size) __attribute__((returns_nonnull));
/* mem_pages gives zeroed pages from the kernel, outside the heap: for long-lived chunks, which
 * would keep the heap's free pages between them from going back. mem_pages_free wants the same
 * size. */
void *mem_pages(size_t size) __attribute__((returns_nonnull));
void mem_pages_free(void *pages, size_t size);
/* mem_table gives zeroed pages as mem_pages does, or NULL: for tables as large as the
 * configuration says, which is refused then. No leak checker looks for pointers in them. */
MUST_USE void *mem_table(size_t size);
void mem_table_free(void *table, size_t size);
/* mem_pages_drop gives the memory of whole pages within them back to the kernel: they stay ours
 * and read as zeroes (what is in them is lost). */
void mem_pages_drop(void *pages, size_t size);
/* mem_array is mem_alloc of count * size, overflow-checked. */
void *mem_array(size_t count, size_t size) __attribute__((returns_nonnull));
/* mem_grow resizes to count * size bytes, overflow-checked; new bytes are not zeroed. */
void *mem_grow(void *ptr, size_t count, size_t size) __attribute__((returns_nonnull));
/* mem_free frees what the above gave; NULL is fine. */
void mem_free(void *ptr);
/* mem_str copies s into a new NUL-terminated string; owned by the caller (mem_free). */
char *mem_str(struct span s) __attribute__((returns_nonnull));
/* mem_printf formats into a new NUL-terminated string; owned by the caller (mem_free). */
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
/* mem_trim gives free pages of the heap back to the kernel. Takes the heap's locks for up to some
 * ms: call when traffic has stopped. */
void mem_trim(void);
/* mem_trim_over is mem_trim when more than free_bytes are free in the heap: for a slow timer of a
 * thread that serves nobody. */
void mem_trim_over(size_t free_bytes);
/* mem_wipe zeroes secrets so that the compiler keeps it. */
void mem_wipe(void *ptr, size_t len);

#endif
