/* test_mem.c: the heap door: zeroing, alignment, copies, overflow as a failed check. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "weir/base/mem.h"

static void gives_zeroed_memory(void **state) {
  (void)state;
  char *ptr = mem_alloc(100);
  for (size_t i = 0; i < 100; i++) assert_int_equal(ptr[i], 0);
  ptr = mem_grow(ptr, 50, 10);
  memset(ptr, 1, 500);
  mem_free(ptr);
  ptr = mem_alloc_aligned(64, 65);
  assert_int_equal((uintptr_t)ptr % 64, 0);
  assert_int_equal(ptr[64], 0);
  mem_wipe(ptr, 65);
  mem_free(ptr);
  void *none = mem_alloc(0);
  assert_non_null(none);
  mem_free(none);
  mem_free(NULL);
}

static void copies_text(void **state) {
  (void)state;
  char *copy = mem_str(SPAN_LIT("abc"));
  assert_string_equal(copy, "abc");
  mem_free(copy);
  copy = mem_str(SPAN_EMPTY);
  assert_string_equal(copy, "");
  mem_free(copy);
  copy = mem_printf("%s=%d", "x", 3);
  assert_string_equal(copy, "x=3");
  mem_free(copy);
}

static void overflow_aborts(void **state) {
  (void)state;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    close(STDERR_FILENO);
    volatile size_t many = SIZE_MAX / 2;
    mem_free(mem_array(many, 3));
    _exit(0);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_zeroed_memory),
      cmocka_unit_test(copies_text),
      cmocka_unit_test(overflow_aborts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
