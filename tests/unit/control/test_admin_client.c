/* Tests of control/admin_client.c: what is told when the admin socket or the status port does not
 * answer as it should. The other end is a socket of the test; nothing is sent anywhere else. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "weir/base/mem.h"
#include "weir/control/admin.h"

struct world {
  char dir[64], path[80], address[96];
};

static void world_init(struct world *w) {
  (void)snprintf(w->dir, sizeof w->dir, "/tmp/weir-unit-XXXXXX");
  assert_non_null(mkdtemp(w->dir));
  (void)snprintf(w->path, sizeof w->path, "%s/admin.sock", w->dir);
  (void)snprintf(w->address, sizeof w->address, "unix:%s", w->path);
}

static void world_fini(struct world *w) {
  (void)unlink(w->path);
  assert_int_equal(rmdir(w->dir), 0);
}

static int world_listen(struct world *w) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  (void)snprintf(at.sun_path, sizeof at.sun_path, "%s", w->path);
  assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
  assert_int_equal(listen(fd, 4), 0);
  return fd;
}

static bool has(struct text *out, const char *words) {
  text_put(out, span_of("", 1));
  out->len--;
  return strstr(out->ptr, words) != NULL;
}

/* told: nobody answers, the sentence names the socket and has these words. */
static void told(const struct world *w, uint32_t timeout_ms, const char *words) {
  struct text out = {.ptr = NULL};
  int code = -1;
  assert_false(admin_call(w->address, "status", timeout_ms, &out, &code));
  assert_int_equal(code, -1);
  if (!has(&out, w->path) || !has(&out, words)) {
    fail_msg("%s does not tell: %s", out.ptr, words);
  }
  assert_null(strchr(out.ptr, '\n'));
  text_fini(&out);
}

static void test_missing(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  told(&w, 1000, "weir does not run, or uses another socket");
  world_fini(&w);
}

static void test_dead(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  close(world_listen(&w));
  told(&w, 1000, "does not run any more");
  world_fini(&w);
}

static void test_no_socket(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  FILE *file = fopen(w.path, "w");
  assert_non_null(file);
  fclose(file);
  told(&w, 1000, "that is no socket");
  world_fini(&w);
}

static void test_path_too_long(void **state) {
  (void)state;
  char address[200] = "unix:/";
  memset(address + 6, 'x', sizeof address - 7);
  address[sizeof address - 1] = 0;
  struct text out = {.ptr = NULL};
  int code;
  assert_false(admin_call(address, "status", 1000, &out, &code));
  assert_true(has(&out, "at most 107 bytes"));
  text_fini(&out);
}

/* A weir that was stopped takes the connection (the kernel does) and never answers. */
static void test_hangs(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  int fd = world_listen(&w);
  told(&w, 20, "weir hangs or is stopped");
  close(fd);
  world_fini(&w);
}

/* serve answers one connection with these bytes, in a process of its own. */
static pid_t serve(int fd, const char *bytes) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    char line[256];
    int conn = accept(fd, NULL, NULL);
    ssize_t n = bytes[0] ? read(conn, line, sizeof line) : 0;
    n = write(conn, bytes, strlen(bytes)) + n;
    _exit(n < 0);
  }
  return pid;
}

static void test_ends_without_an_answer(void **state) {
  (void)state;
  static const char *const bytes[] = {"", "7", "x\nfoo\n", "256\nfoo\n", "-1\n"};
  for (size_t i = 0; i < array_count(bytes); i++) {
    struct world w;
    world_init(&w);
    int fd = world_listen(&w);
    pid_t pid = serve(fd, bytes[i]);
    told(&w, 30000, "weir ended meanwhile");
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(fd);
    world_fini(&w);
  }
}

static void test_answer(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  int fd = world_listen(&w), code = -1;
  pid_t pid = serve(fd, "78\nfirst\nsecond\n");
  struct text out = {.ptr = NULL};
  assert_true(admin_call(w.address, "reload", 30000, &out, &code));
  assert_int_equal(code, 78);
  assert_true(span_eq(text_span(&out), SPAN_LIT("first\nsecond\n")));
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  text_fini(&out);
  close(fd);
  world_fini(&w);
}

static void health(const struct world *w, uint32_t timeout_ms, const char *words) {
  struct text out = {.ptr = NULL};
  assert_false(health_probe(w->address, timeout_ms, &out));
  assert_true(has(&out, w->path));
  assert_true(has(&out, words));
  text_fini(&out);
}

static void test_health(void **state) {
  (void)state;
  struct world w;
  world_init(&w);
  health(&w, 1000, "is weir running, with admin.status at this address?");
  int fd = world_listen(&w);
  health(&w, 20, "no answer from");
  close(fd);
  (void)unlink(w.path);
  fd = world_listen(&w);
  pid_t pid = serve(fd, "HTTP/1.1 503 Service Unavailable\r\n\r\n");
  health(&w, 30000, "starts or drains");
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  pid = serve(fd, "HTTP/1.1 200 OK\r\n\r\n");
  struct text out = {.ptr = NULL};
  assert_true(health_probe(w.address, 30000, &out));
  assert_int_equal(out.len, 0);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  close(fd);
  world_fini(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_missing),   cmocka_unit_test(test_dead),
      cmocka_unit_test(test_no_socket), cmocka_unit_test(test_path_too_long),
      cmocka_unit_test(test_hangs),     cmocka_unit_test(test_ends_without_an_answer),
      cmocka_unit_test(test_answer),    cmocka_unit_test(test_health),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
