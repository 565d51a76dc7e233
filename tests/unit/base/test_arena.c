/* test_arena.c: block reuse, limits, alignment, shrinking; poisoning when built with ASan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/base/arena.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

static void gives_aligned_memory(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  assert_int_equal(arena.total, 0);
  for (size_t size = 0; size < 300; size++) {
    assert_non_null(arena_bytes(&arena, 3));
    char *ptr = arena_zalloc(&arena, size);
    assert_int_equal((uintptr_t)ptr % 16, 0);
    for (size_t i = 0; i < size; i++) assert_int_equal(ptr[i], 0);
    if (size) memset(ptr, 0xee, size);
  }
  arena_reset(&arena);
  assert_int_equal(arena.total, 0);
}

static void reuses_blocks(void **state) {
  (void)state;
  struct arena_blocks blocks;
  struct arena arena;
  arena_blocks_init(&blocks, 1024, 2);
  arena_init(&arena, &blocks, 0);
  for (int i = 0; i < 4; i++) assert_non_null(arena_alloc(&arena, 1000));
  assert_int_equal(blocks.live_bytes, 4 * 1024);
  assert_non_null(arena_alloc(&arena, 5000)); /* made to measure, behind the head */
  assert_int_equal(blocks.live_bytes, 4 * 1024 + 5016);
  assert_int_equal(arena.total, blocks.live_bytes);
  arena_reset(&arena);
  assert_int_equal(blocks.live_bytes, 0);
  assert_int_equal(blocks.free_count, 2);
  assert_non_null(arena_alloc(&arena, 8));
  assert_int_equal(blocks.free_count, 1);
  arena_reset(&arena);
  arena_blocks_trim(&blocks, 1);
  assert_int_equal(blocks.free_count, 1);
  arena_blocks_fini(&blocks);
  assert_int_equal(blocks.free_count, 0);
}

static void scratch_comes_in_pages(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, ARENA_PAGES, 0);
  for (int i = 0; i < 100; i++) {
    char *ptr = arena_bytes(&arena, 1000);
    memset(ptr, 0x5a, 1000);
  }
  assert_int_equal(arena.total, 2u * (64u << 10));
  char *large = arena_bytes(&arena, 200000);
  memset(large, 0x5a, 200000);
  assert_int_equal(arena.total, 2u * (64u << 10) + 200016);
  arena_reset(&arena);
  assert_int_equal(arena.total, 0);
  assert_int_equal(arena_pages.live_bytes, 0); /* threads share it: nothing is written there */
}

static void measured_block_keeps_the_head(void **state) {
  (void)state;
  struct arena_blocks blocks;
  struct arena arena;
  arena_blocks_init(&blocks, 1024, 8);
  arena_init(&arena, &blocks, 0);
  char *first = arena_bytes(&arena, 10);
  assert_non_null(arena_bytes(&arena, 4000));
  char *second = arena_bytes(&arena, 10);
  assert_ptr_equal(second, first + 10);
  arena_reset(&arena);
  char *big = arena_bytes(&arena, 4000); /* as the head it is full, and can be shrunk */
  memset(big, 1, 4000);
  arena_shrink(&arena, big, 4000, 16);
  assert_ptr_equal(arena_bytes(&arena, 1), big + 16);
  arena_reset(&arena);
  arena_blocks_fini(&blocks);
}

static void keeps_the_limit(void **state) {
  (void)state;
  struct arena_blocks blocks;
  struct arena arena;
  arena_blocks_init(&blocks, 1024, 8);
  arena_init(&arena, &blocks, 2048);
  assert_null(arena_alloc(&arena, 2033));
  assert_null(arena_alloc(&arena, SIZE_MAX));
  assert_null(arena_alloc(&arena, SIZE_MAX - 16));
  assert_non_null(arena_alloc(&arena, 1008));
  assert_non_null(arena_alloc(&arena, 1008));
  assert_null(arena_alloc(&arena, 1));
  bool ok = true;
  assert_int_equal(arena_copy(&arena, SPAN_LIT("x"), &ok).len, 0);
  assert_false(ok);
  assert_int_equal(arena_copy(&arena, SPAN_EMPTY, &ok).len, 0);
  assert_true(ok);
  assert_int_equal(arena_printf(&arena, "%d", 5).len, 0);
  arena_reset(&arena);
  assert_non_null(arena_alloc(&arena, 1008));
  arena_reset(&arena);
  arena_blocks_fini(&blocks);
}

static void copies_and_formats(void **state) {
  (void)state;
  struct arena arena;
  arena_init(&arena, NULL, 0);
  bool ok = false;
  assert_true(span_eq(arena_copy(&arena, SPAN_LIT("abc"), &ok), SPAN_LIT("abc")));
  assert_true(ok);
  struct span text = arena_printf(&arena, "%s-%d", "x", 42);
  assert_true(span_eq(text, SPAN_LIT("x-42")));
  assert_ptr_equal(arena_bytes(&arena, 1), text.ptr + 4); /* the NUL was given back */
  char *tail = arena_bytes(&arena, 100);
  arena_shrink(&arena, tail, 100, 0);
  assert_ptr_equal(arena_bytes(&arena, 1), tail);
  arena_reset(&arena);
}

static void poisons(void **state) {
  (void)state;
#ifdef __SANITIZE_ADDRESS__
  struct arena_blocks blocks;
  struct arena arena;
  arena_blocks_init(&blocks, 1024, 8);
  arena_init(&arena, &blocks, 0);
  char *ptr = arena_alloc(&arena, 64);
  assert_int_equal(__asan_address_is_poisoned(ptr + 63), 0);
  assert_int_equal(__asan_address_is_poisoned(ptr + 64), 1);
  arena_shrink(&arena, ptr, 64, 32);
  assert_int_equal(__asan_address_is_poisoned(ptr + 32), 1);
  arena_reset(&arena);
  assert_int_equal(__asan_address_is_poisoned(ptr), 1);
  arena_blocks_fini(&blocks);
#else
  skip();
#endif
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_aligned_memory),
      cmocka_unit_test(reuses_blocks),
      cmocka_unit_test(scratch_comes_in_pages),
      cmocka_unit_test(measured_block_keeps_the_head),
      cmocka_unit_test(keeps_the_limit),
      cmocka_unit_test(copies_and_formats),
      cmocka_unit_test(poisons),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
