/* test_dns_hosts.c: the hosts file as a table: which lines count, for which family, and that the
 * file is read once for each state of it. */
#include "control/dns_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/weir-hosts-XXXXXX";
static int file = -1;

static int setup(void **state) {
  (void)state;
  file = mkstemp(path);
  return file < 0;
}

static int teardown(void **state) {
  (void)state;
  close(file);
  return unlink(path);
}

static void write_file(const char *text) {
  assert_int_equal(ftruncate(file, 0), 0);
  assert_int_equal(pwrite(file, text, strlen(text), 0), (int)strlen(text));
}

/* expect compares what a name stands for with addresses that are separated by a space. */
static void expect(const struct hosts *h, const char *name, int family, const char *wanted) {
  struct addr rows[4];
  char text[256];
  struct buf b = buf_of(text, sizeof text);
  uint32_t count = hosts_find(h, span_str(name), family, rows, array_count(rows));
  for (uint32_t i = 0; i < count; i++) {
    buf_put(&b, i ? SPAN_LIT(" ") : SPAN_EMPTY);
    addr_write(&rows[i], &b);
  }
  assert_memory_equal(text, wanted, b.len);
  assert_int_equal(b.len, strlen(wanted));
}

static void test_lines(void **state) {
  (void)state;
  struct hosts h = {.stamp = 0};
  write_file(
      "# 192.0.2.1 comment\n"
      "192.0.2.2 one.test  One two.test# 3.test\n"
      "\t 2001:db8::2\tONE.test \r\n"
      "\n"
      "192.0.2.3 one.test\n"
      "::ffff:192.0.2.4 mapped.test\n"
      "fe80::1%lo scope.test\n"
      "192.0.2.500 bad.test\n"
      "word.test 192.0.2.1\n"
      "192.0.2.5\n"
      "192.0.2.6 last.test");
  assert_true(hosts_look(&h, path));
  expect(&h, "one.test", AF_INET, "192.0.2.2:0 192.0.2.3:0");
  expect(&h, "oNe.TEST", AF_INET6, "[2001:db8::2]:0");
  expect(&h, "one", AF_INET, "192.0.2.2:0");
  expect(&h, "two.test", AF_INET, "192.0.2.2:0");
  expect(&h, "mapped.test", AF_INET, "192.0.2.4:0");
  expect(&h, "last.test", AF_INET, "192.0.2.6:0");
  static const char *const none[] = {"comment",   "3.test",    "scope.test", "bad.test",
                                     "word.test", "192.0.2.1", "",           "one.tes"};
  for (size_t i = 0; i < array_count(none); i++) {
    expect(&h, none[i], AF_INET, "");
    expect(&h, none[i], AF_INET6, "");
  }
  expect(&h, "mapped.test", AF_INET6, "");
  hosts_fini(&h);
}

static void test_read_once(void **state) {
  (void)state;
  struct hosts h = {.stamp = 0};
  write_file("192.0.2.1 a.test\n");
  assert_true(hosts_look(&h, path));
  for (int i = 0; i < 3; i++) {
    assert_false(hosts_look(&h, path));
  }
  write_file("192.0.2.1 a.test\n192.0.2.2 a.test\n");
  assert_true(hosts_look(&h, path));
  expect(&h, "a.test", AF_INET, "192.0.2.1:0 192.0.2.2:0");
  assert_true(hosts_look(&h, "/nonexistent/hosts")); /* it went away: no names */
  assert_false(hosts_look(&h, "/nonexistent/hosts"));
  expect(&h, "a.test", AF_INET, "");
  assert_true(hosts_look(&h, "/tmp")); /* no file */
  expect(&h, "a.test", AF_INET, "");
  hosts_fini(&h);
}

static void test_many(void **state) {
  (void)state;
  struct hosts h = {.stamp = 0};
  struct addr rows[4];
  FILE *f = fopen(path, "w");
  for (int i = 0; i < 100000; i++) {
    (void)fprintf(f, "10.%d.%d.%d n%d.test same.test\n", i >> 16, i >> 8 & 255, i & 255, i);
  }
  assert_int_equal(fclose(f), 0);
  assert_true(hosts_look(&h, path));
  for (int i = 0; i < 100000; i += 7) {
    char name[32], wanted[32];
    (void)snprintf(name, sizeof name, "n%d.test", i);
    (void)snprintf(wanted, sizeof wanted, "10.%d.%d.%d:0", i >> 16, i >> 8 & 255, i & 255);
    expect(&h, name, AF_INET, wanted);
  }
  assert_int_equal(hosts_find(&h, SPAN_LIT("same.test"), AF_INET, rows, 4), 4); /* of the room */
  expect(&h, "same.test", AF_INET, "10.0.0.0:0 10.0.0.1:0 10.0.0.2:0 10.0.0.3:0");
  hosts_fini(&h);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lines), cmocka_unit_test(test_read_once), cmocka_unit_test(test_many)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
