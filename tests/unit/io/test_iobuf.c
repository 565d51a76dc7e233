/* test_iobuf.c: size classes, reuse, limit and trimming of borrowed buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "weir/io/pressure.h"

static void gives_at_least_the_room(void **state) {
  (void)state;
  struct iobufs pool;
  iobufs_init(&pool, 4u << 20);
  static const size_t rooms[] = {0,     1,     4096,  4097,   18432,    18433,
                                 65536, 69632, 69633, 262144, IOBUF_MAX};
  for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
    struct iobuf *b = iobuf_take(&pool, rooms[i]);
    assert_non_null(b);
    assert_true(b->data.cap >= rooms[i]);
    assert_int_equal(b->data.len, 0);
    memset(b->data.ptr, 0x5a, b->data.cap);
    iobuf_give(&pool, b);
  }
  assert_null(iobuf_take(&pool, IOBUF_MAX + 1));
  assert_int_equal(pool.bytes_out, 0);
  iobufs_fini(&pool);
}

static void last_given_is_first_taken(void **state) {
  (void)state;
  struct iobufs pool;
  iobufs_init(&pool, 1u << 20);
  struct iobuf *a = iobuf_take(&pool, 100);
  struct iobuf *b = iobuf_take(&pool, 100);
  buf_lit(&a->data, "dirt");
  a->off = 2;
  iobuf_give(&pool, b);
  iobuf_give(&pool, a);
  size_t bytes = pool.bytes;
  assert_ptr_equal(iobuf_take(&pool, 100), a);
  assert_int_equal(a->data.len + a->off, 0);
  assert_int_equal(pool.bytes, bytes);
  iobuf_give(&pool, a);
  iobufs_fini(&pool);
}

static void keeps_its_limit(void **state) {
  (void)state;
  struct iobufs pool;
  iobufs_init(&pool, 10000);
  struct iobuf *a = iobuf_take(&pool, 1);
  struct iobuf *b = iobuf_take(&pool, 1);
  assert_non_null(a);
  assert_non_null(b);
  assert_null(iobuf_take(&pool, 1));
  assert_null(iobuf_take(&pool, 20000));
  iobuf_give(&pool, a);
  assert_ptr_equal(iobuf_take(&pool, 1), a);
  iobuf_give(&pool, a);
  iobuf_give(&pool, b);
  iobufs_fini(&pool);
}

static void trims_what_was_not_needed(void **state) {
  (void)state;
  struct iobufs pool;
  iobufs_init(&pool, 1u << 20);
  struct iobuf *held[64];
  for (int i = 0; i < 64; i++) held[i] = iobuf_take(&pool, 1);
  for (int i = 0; i < 64; i++) iobuf_give(&pool, held[i]);
  iobufs_trim(&pool); /* they were in use since the last trim */
  assert_int_equal(pool.free_count[IOBUF_4K], 64);
  struct iobuf *one = iobuf_take(&pool, 1);
  iobuf_give(&pool, one);
  for (int i = 0; i < 12; i++) {
    iobufs_trim(&pool);
    one = iobuf_take(&pool, 1);
    iobuf_give(&pool, one);
  }
  assert_true(pool.free_count[IOBUF_4K] <= 2);
  assert_int_equal(pool.bytes, pool.free_count[IOBUF_4K] * 4096u);
  iobufs_fini(&pool);
}

/* Idle buffers of one class do not keep others from theirs. */
static void idle_ones_make_way(void **state) {
  (void)state;
  struct iobufs pool;
  iobufs_init(&pool, 100u << 10);
  struct iobuf *small[25];
  for (int i = 0; i < 25; i++) assert_non_null(small[i] = iobuf_take(&pool, 1));
  assert_null(iobuf_take(&pool, 1));
  for (int i = 0; i < 25; i++) iobuf_give(&pool, small[i]);
  struct iobuf *large = iobuf_take(&pool, 65536);
  assert_non_null(large);
  assert_true(pool.bytes <= pool.limit);
  for (int i = 0; i < 8; i++) assert_non_null(small[i] = iobuf_take(&pool, 1));
  assert_null(iobuf_take(&pool, 1)); /* 68 KiB and 8 times 4 KiB are borrowed */
  for (int i = 0; i < 8; i++) iobuf_give(&pool, small[i]);
  iobuf_give(&pool, large);
  iobufs_fini(&pool);
}

static void levels(void **state) {
  (void)state;
  struct iobufs pool;
  struct iobuf *b[16];
  int count = 0;
  iobufs_init(&pool, 1u << 20);
  while (!iobufs_half(&pool)) b[count++] = iobuf_take(&pool, 65536);
  assert_int_equal(count, 8); /* 8 times 68 KiB pass 512 KiB */
  assert_false(iobufs_full(&pool));
  while (!iobufs_full(&pool)) b[count++] = iobuf_take(&pool, 65536);
  assert_int_equal(count, 12); /* 12 times 68 KiB pass 768 KiB */
  while (count > 0) iobuf_give(&pool, b[--count]);
  assert_false(iobufs_full(&pool) || iobufs_half(&pool));
  iobufs_fini(&pool);
  iobufs_init(&pool, 4096); /* nothing borrowed: nothing to wait for */
  assert_false(iobufs_full(&pool));
  iobufs_fini(&pool);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_at_least_the_room),
      cmocka_unit_test(last_given_is_first_taken),
      cmocka_unit_test(keeps_its_limit),
      cmocka_unit_test(trims_what_was_not_needed),
      cmocka_unit_test(idle_ones_make_way),
      cmocka_unit_test(levels),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
