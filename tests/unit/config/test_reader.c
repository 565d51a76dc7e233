/* test_reader.c: conf_reader_direct on real files in a directory of its own. */
#include "config_kit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/weir-test-reader-XXXXXX";

static char *make(const char *name, const char *text, mode_t mode) {
  char *path = mem_printf("%s/%s", dir, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
  assert_int_equal(chmod(path, mode), 0);
  return path;
}

static int setup(void **state) {
  (void)state;
  return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  return rmdir(dir);
}

static void test_read(void **state) {
  (void)state;
  const struct conf_reader *r = &conf_reader_direct;
  struct text out = {0};
  char *path = make("a", "hello", 0600);
  assert_int_equal(r->read(r->ctx, path, &out), 0);
  kit_assert_text(text_span(&out), "hello");
  assert_int_equal(r->mode(r->ctx, path), 0600);
  text_fini(&out);
  assert_int_equal(truncate(path, (off_t)CONF_FILE_MAX + 1), 0);
  assert_int_equal(r->read(r->ctx, path, &out), -EFBIG);
  assert_int_equal(truncate(path, (off_t)CONF_FILE_MAX), 0);
  assert_int_equal(r->read(r->ctx, path, &out), 0);
  assert_int_equal(out.len, CONF_FILE_MAX);
  text_fini(&out);
  unlink(path);
  assert_int_equal(r->read(r->ctx, path, &out), -ENOENT);
  assert_int_equal(r->mode(r->ctx, path), -ENOENT);
  assert_int_equal(r->read(r->ctx, dir, &out), -EISDIR);
  /* A pipe without writer must not hang a reload. */
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(r->read(r->ctx, path, &out), 0);
  assert_int_equal(out.len, 0);
  text_fini(&out);
  unlink(path);
  mem_free(path);
}

static void *write_late(void *arg) {
  int fd = *(int *)arg;
  for (int i = 0; i < 2; i++) {
    usleep(50000);
    assert_int_equal(write(fd, "late", 4), 4);
  }
  close(fd);
  return NULL;
}

/* A pipe whose writer is slower: "weir check <(command)". */
static void test_pipe(void **state) {
  (void)state;
  const struct conf_reader *r = &conf_reader_direct;
  struct text out = {0};
  char *path = mem_printf("%s/p", dir);
  pthread_t thread;
  assert_int_equal(mkfifo(path, 0600), 0);
  int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* so that the writer has one */
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  assert_true(reader >= 0 && fd >= 0);
  assert_int_equal(pthread_create(&thread, NULL, write_late, &fd), 0);
  assert_int_equal(r->read(r->ctx, path, &out), 0);
  kit_assert_text(text_span(&out), "latelate");
  assert_int_equal(pthread_join(thread, NULL), 0);
  close(reader);
  text_fini(&out);
  unlink(path);
  mem_free(path);
}

static void note(const char *path, void *arg) { text_printf(arg, "%s ", path + sizeof dir); }

static void test_glob(void **state) {
  (void)state;
  const struct conf_reader *r = &conf_reader_direct;
  char *b = make("b.conf", "", 0600), *a = make("a.conf", "", 0600), *c = make("C.conf", "", 0600);
  struct text out = {0};
  char *pattern = mem_printf("%s/*.conf", dir);
  assert_int_equal(r->glob(r->ctx, pattern, note, &out), 0);
  kit_assert_text(text_span(&out), "C.conf a.conf b.conf "); /* byte order */
  text_fini(&out);
  mem_free(pattern);
  pattern = mem_printf("%s/*.none", dir);
  assert_int_equal(r->glob(r->ctx, pattern, note, &out), 0);
  assert_int_equal(out.len, 0);
  mem_free(pattern);
  pattern = mem_printf("%s/none/*.conf", dir); /* no directory, and one that is a file */
  assert_int_equal(r->glob(r->ctx, pattern, note, &out), 0);
  mem_free(pattern);
  pattern = mem_printf("%s/*/x/*.conf", dir);
  assert_int_equal(r->glob(r->ctx, pattern, note, &out), 0);
  assert_int_equal(out.len, 0);
  mem_free(pattern);
  pattern = mem_printf("%s/loop/*.conf", dir); /* one that cannot be read, for root too */
  char *loop = mem_printf("%s/loop", dir);
  assert_int_equal(symlink("loop", loop), 0);
  assert_int_equal(r->glob(r->ctx, pattern, note, &out), -ELOOP);
  unlink(loop);
  mem_free(loop);
  mem_free(pattern);
  char *all[] = {a, b, c};
  for (size_t i = 0; i < array_count(all); i++) {
    unlink(all[i]);
    mem_free(all[i]);
  }
}

static void test_env(void **state) {
  (void)state;
  const struct conf_reader *r = &conf_reader_direct;
  assert_int_equal(setenv("WEIR_TEST_READER", "x", 1), 0);
  assert_string_equal(r->env(r->ctx, "WEIR_TEST_READER"), "x");
  assert_int_equal(unsetenv("WEIR_TEST_READER"), 0);
  assert_null(r->env(r->ctx, "WEIR_TEST_READER"));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_pipe),
                                     cmocka_unit_test(test_glob), cmocka_unit_test(test_env)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
