/* Tests of control/log.c: order, drops that are counted, a blocked output, a full disk,
 * reopening. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/log_priv.h"
#include "weir/base/mem.h"

static char dir[] = "/tmp/weir-log-XXXXXX";
static char *errors, *access_path;

static int group_setup(void **state) {
  (void)state;
  if (!mkdtemp(dir)) {
    return -1;
  }
  errors = mem_printf("%s/error", dir);
  access_path = mem_printf("%s/access", dir);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  mem_free(errors);
  mem_free(access_path);
  return rmdir(dir);
}

static struct log *make(const char *to, const char *access, uint32_t workers) {
  char why[256];
  struct buf b = buf_of(why, sizeof why);
  const struct log_config config = {
      .workers = workers, .to = to, .level = "info", .access = access, .access_json = true};
  struct log *log = log_new(&config, &b);
  assert_non_null(log);
  return log;
}

static struct text slurp(const char *path) {
  struct text out = {.ptr = NULL};
  char bytes[4096];
  int fd = open(path, O_RDONLY);
  ssize_t n;
  while (fd >= 0 && (n = read(fd, bytes, sizeof bytes)) > 0) {
    text_put(&out, span_of(bytes, (size_t)n));
  }
  if (fd >= 0) {
    close(fd);
  }
  text_put(&out, span_of("", 1));
  return out;
}

static unsigned lines_of(const char *path) {
  struct text t = slurp(path);
  unsigned lines = 0;
  for (size_t i = 0; i < t.len; i++) {
    lines += t.ptr[i] == '\n';
  }
  text_fini(&t);
  return lines;
}

/* record puts an access record as a worker does; false when it was dropped. */
static bool record(struct log *log, uint32_t worker, uint64_t number) {
  char path[32];
  struct record_access r = {.kind = RECORD_ACCESS, .status = 200, .end = END_OK};
  struct buf p = buf_of(path, sizeof path);
  buf_lit(&p, "/");
  buf_u64(&p, number);
  r.text_len[TEXT_PATH] = (uint16_t)p.len;
  uint32_t len = (uint32_t)(sizeof r + p.len);
  void *to = spsc_reserve(log_ring(log, worker), len);
  if (!to) {
    return false;
  }
  struct buf b = buf_of(to, len);
  buf_put(&b, span_of((const char *)&r, sizeof r));
  buf_put(&b, buf_span(&p));
  spsc_commit(log_ring(log, worker), len);
  log_wake(log_wake_ctx(log, worker));
  return true;
}

static void pause_ms(long ms) {
  const struct timespec ts = {.tv_nsec = ms * 1000000};
  nanosleep(&ts, NULL);
}

static void test_levels(void **state) {
  (void)state;
  struct log *log = make(errors, "off", 1);
  log_line(log, END_LEVEL_DEBUG, "debug %d", 1);
  log_line(log, END_LEVEL_INFO, "info %d", 2);
  log_line(log, END_LEVEL_ERROR, "error %d", 3);
  assert_true(log_stop(log, 1000));
  log_free(log);
  struct text t = slurp(errors);
  assert_null(strstr(t.ptr, "debug 1"));
  assert_non_null(strstr(t.ptr, "\"level\":\"info\",\"message\":\"info 2\""));
  assert_non_null(strstr(t.ptr, "\"level\":\"error\",\"message\":\"error 3\""));
  text_fini(&t);
  unlink(errors);
}

static void test_thread_writes_all_in_order(void **state) {
  (void)state;
  struct log *log = make(errors, access_path, 2);
  log_start(log);
  for (uint64_t i = 0; i < 20000;) {
    if (record(log, (uint32_t)(i % 2), i)) {
      i++;
    } else {
      pause_ms(1); /* a worker would drop; here each must arrive */
    }
    if (i % 5000 == 0) {
      pause_ms(60); /* let it fall asleep, so that waking is tried too */
    }
  }
  assert_true(log_stop(log, 10000));
  assert_int_equal(log_lost(log), 0);
  log_free(log);
  assert_int_equal(lines_of(access_path), 20000);
  unlink(access_path);
  unlink(errors);
}

static void test_sleeping_thread_wakes(void **state) {
  (void)state;
  struct log *log = make(errors, access_path, 1);
  log_start(log);
  for (int round = 0; round < 20; round++) {
    while (atomic_load(&log->state) != LOG_SLEEPS) {
      pause_ms(1);
    }
    assert_true(record(log, 0, (uint64_t)round));
    while (lines_of(access_path) != (unsigned)round + 1) {
      pause_ms(1); /* hangs for ever if the wake was lost */
    }
  }
  assert_true(log_stop(log, 5000));
  log_free(log);
  unlink(access_path);
  unlink(errors);
}

static void test_blocked_output_blocks_nobody(void **state) {
  (void)state;
  int pipe_fds[2];
  assert_int_equal(pipe(pipe_fds), 0);
  char *path = mem_printf("/dev/fd/%d", pipe_fds[1]);
  struct log *log = make(errors, path, 1);
  log_start(log);
  uint64_t put = 0, dropped = 0;
  /* Nobody reads the pipe: after its buffer and ours, records drop, and the writer never waits. */
  for (uint64_t i = 0; i < 100000; i++) {
    *(record(log, 0, i) ? &put : &dropped) += 1;
  }
  assert_true(dropped > 0);
  assert_int_equal(atomic_load(&log_ring(log, 0)->dropped), dropped);
  log_line(log, END_LEVEL_ERROR, "the control side does not wait either");
  assert_false(log_stop(log, 50)); /* it hangs, and says so */
  /* Now somebody reads: it catches up and ends. */
  char bytes[65536];
  uint64_t lines = 0;
  close(pipe_fds[1]);
  while (lines < put) {
    ssize_t n = read(pipe_fds[0], bytes, sizeof bytes);
    for (ssize_t i = 0; i < n; i++) {
      lines += bytes[i] == '\n';
    }
  }
  assert_int_equal(lines, put);
  assert_true(log_stop(log, 5000));
  log_free(log);
  close(pipe_fds[0]);
  mem_free(path);
  unlink(errors);
}

static unsigned count_of(const char *path, const char *words) {
  struct text t = slurp(path);
  unsigned count = 0;
  for (const char *at = t.ptr; (at = strstr(at, words)) != NULL; at++) {
    count++;
  }
  text_fini(&t);
  return count;
}

/* While an output takes nothing, the other one says how many lines were dropped, once in a while,
 * and what can be done; and it goes on with what there is to say. */
static void test_drops_are_announced(void **state) {
  (void)state;
  int pipe_fds[2];
  assert_int_equal(pipe(pipe_fds), 0);
  char *path = mem_printf("/dev/fd/%d", pipe_fds[1]);
  struct log *log = make(errors, path, 2);
  log_start(log);
  uint64_t dropped = 0;
  for (uint64_t i = 0; dropped < 1000; i++) {
    dropped += record(log, (uint32_t)(i % 2), i) ? 0 : 1;
  }
  while (count_of(errors, " lines dropped (") == 0) {
    pause_ms(1);
  }
  for (uint64_t i = 0; i < 1000; i++) {
    dropped += record(log, 1, i) ? 0 : 1;
  }
  log_line(log, END_LEVEL_INFO, "the other output goes on");
  while (count_of(errors, "the other output goes on") == 0) {
    pause_ms(1);
  }
  assert_int_equal(count_of(errors, " lines dropped ("), 1); /* not again within LOG_TELL_MS */
  assert_int_equal(count_of(errors, path), 1);
  assert_int_equal(count_of(errors, "log.access.sample"), 1);
  assert_int_equal(count_of(errors, "\"level\":\"warn\""), 1);
  char bytes[65536];
  close(pipe_fds[1]);
  assert_int_equal(fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK), 0);
  assert_false(log_stop(log, 0));
  while (!atomic_load(&log->done)) {
    if (read(pipe_fds[0], bytes, sizeof bytes) < 0) {
      pause_ms(1);
    }
  }
  assert_true(log_stop(log, 5000));
  log_free(log);
  close(pipe_fds[0]);
  mem_free(path);
  unlink(errors);
}

/* What was dropped after a line was written is told when its time has come, without new records.
 */
static void test_the_rest_is_told_later(void **state) {
  (void)state;
  struct log *log = make(errors, access_path, 1);
  log->tell_every_ms = 300;
  for (uint64_t i = 0; record(log, 0, i); i++) {
  }
  log_start(log);
  while (count_of(errors, "log: 1 lines dropped (1 in all)") == 0) {
    pause_ms(1);
  }
  for (int i = 0; i < 3; i++) { /* a record that does not fit at any time */
    (void)spsc_reserve(log_ring(log, 0), LOG_RING_BYTES);
  }
  assert_true(record(log, 0, 1));
  while (count_of(errors, "log: 3 lines dropped (4 in all)") == 0) {
    pause_ms(1);
  }
  while (atomic_load(&log->state) != LOG_SLEEPS) {
    pause_ms(1);
  }
  assert_int_equal(count_of(errors, "dropped"), 2);
  assert_true(log_stop(log, 5000));
  log_free(log);
  unlink(access_path);
  unlink(errors);
}

static void test_full_disk_is_counted(void **state) {
  (void)state;
  struct log *log = make(errors, "/dev/full", 1);
  for (uint64_t i = 0; i < 10; i++) {
    assert_true(record(log, 0, i));
  }
  assert_true(log_drain_once(log));
  assert_int_equal(log_lost(log), 10);
  assert_int_equal(count_of(errors,
                            "log: 10 lines lost (10 in all): /dev/full does not take them: "
                            "No space left on device"),
                   1);
  assert_true(record(log, 0, 10));
  (void)log_drain_once(log);
  assert_int_equal(count_of(errors, "lines lost"), 1);
  log->told_ms = 1; /* long ago */
  (void)log_drain_once(log);
  assert_int_equal(count_of(errors, "log: 1 lines lost (11 in all)"), 1);
  assert_true(log_stop(log, 1000));
  log_free(log);
  unlink(errors);
}

static void test_reopen(void **state) {
  (void)state;
  struct log *log = make(errors, access_path, 1);
  char *moved = mem_printf("%s.1", access_path);
  assert_true(record(log, 0, 1));
  (void)log_drain_once(log);
  assert_int_equal(rename(access_path, moved), 0);
  assert_true(record(log, 0, 2));
  (void)log_drain_once(log); /* still the old file */
  log_reopen(log);
  assert_true(record(log, 0, 3));
  (void)log_drain_once(log);
  assert_int_equal(lines_of(moved), 2);
  assert_int_equal(lines_of(access_path), 1);
  assert_true(log_stop(log, 1000));
  log_free(log);
  unlink(moved);
  unlink(access_path);
  unlink(errors);
  mem_free(moved);
}

static void test_cannot_open(void **state) {
  (void)state;
  char why[256] = "";
  struct buf b = buf_of(why, sizeof why - 1);
  const struct log_config config = {
      .workers = 1, .to = "/nonexistent/dir/log", .level = "info", .access = "off"};
  assert_null(log_new(&config, &b));
  assert_non_null(strstr(why, "/nonexistent/dir/log"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_levels),
      cmocka_unit_test(test_thread_writes_all_in_order),
      cmocka_unit_test(test_sleeping_thread_wakes),
      cmocka_unit_test(test_blocked_output_blocks_nobody),
      cmocka_unit_test(test_drops_are_announced),
      cmocka_unit_test(test_the_rest_is_told_later),
      cmocka_unit_test(test_full_disk_is_counted),
      cmocka_unit_test(test_reopen),
      cmocka_unit_test(test_cannot_open),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
