/* mem.c: the only door to malloc. Out of memory is fatal here, but for tables: limits refuse work
 * long before. Not for the data path: workers use slabs and arenas. */
#include "weir/base/mem.h"

#include <malloc.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* MEM_TRIM_KEEP bytes stay at the top of the heap. */
#define MEM_TRIM_KEEP 65536u
#define PAGE_ALIGN 64u

/* SMALL: up to so much glibc keeps freed blocks per thread, for malloc, not for calloc: what comes
 * from calloc and is freed would fill those caches for good. */
#define SMALL 1024u

void *mem_alloc(size_t size) {
  size_t bytes = size ? size : 1;
  void *ptr = bytes <= SMALL ? malloc(bytes) : calloc(1, bytes);
  check(ptr != NULL);
  if (bytes <= SMALL) memset(ptr, 0, bytes);
  return ptr;
}

void *mem_try(size_t size) { return malloc(size ? size : 1); }

void *mem_alloc_aligned(size_t align, size_t size) {
  check(align != 0 && (align & (align - 1)) == 0);
  size_t rounded;
  check(!__builtin_add_overflow(size ? size : 1, align - 1, &rounded));
  rounded &= ~(align - 1);
  void *ptr = aligned_alloc(align, rounded);
  check(ptr != NULL);
  memset(ptr, 0, rounded);
  return ptr;
}

void *mem_array(size_t count, size_t size) {
  size_t bytes;
  check(!__builtin_mul_overflow(count, size, &bytes));
  return mem_alloc(bytes);
}

void *mem_grow(void *ptr, size_t count, size_t size) {
  size_t bytes;
  check(!__builtin_mul_overflow(count, size, &bytes));
  void *grown = realloc(ptr, bytes ? bytes : 1);
  check(grown != NULL);
  return grown;
}

void mem_free(void *ptr) { free(ptr); }

void *mem_table(size_t size) {
  void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}
void mem_table_free(void *table, size_t size) { check(munmap(table, size) == 0); }

#ifdef __SANITIZE_ADDRESS__ /* the leak checker does not look for pointers in pages of our own */
void *mem_pages(size_t size) { return mem_alloc_aligned(PAGE_ALIGN, size); }
void mem_pages_free(void *pages, size_t size) {
  (void)size;
  mem_free(pages);
}
void mem_pages_drop(void *pages, size_t size) { memset(pages, 0, size); }
#else
void *mem_pages(size_t size) {
  void *pages = mem_table(size);
  check(pages != NULL);
  return pages;
}
void mem_pages_free(void *pages, size_t size) { mem_table_free(pages, size); }
void mem_pages_drop(void *pages, size_t size) { (void)madvise(pages, size, MADV_DONTNEED); }
#endif

void mem_trim(void) { malloc_trim(MEM_TRIM_KEEP); }

void mem_trim_over(size_t free_bytes) {
  if (mallinfo2().fordblks > free_bytes) mem_trim();
}

char *mem_str(struct span s) {
  size_t bytes;
  check(!__builtin_add_overflow(s.len, (size_t)1, &bytes));
  char *text = mem_alloc(bytes);
  if (s.len) memcpy(text, s.ptr, s.len);
  return text;
}

char *mem_printf(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  char *text = NULL;
  int len = vasprintf(&text, fmt, args);
  va_end(args);
  check(len >= 0 && text != NULL);
  return text;
}

void mem_wipe(void *ptr, size_t len) {
  if (len) explicit_bzero(ptr, len);
}
