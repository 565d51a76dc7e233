/* Tests of the loader process: its protocol against garbage, and each request through the
 * client. */
#include "control/loader_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "weir/base/addr.h"
#include "weir/base/mem.h"

static struct loader loader;
static int wait_errno; /* 0: waitpid is asked; else it fails with that, once */

pid_t __wrap_waitpid(pid_t pid, int *status, int options);  // NOLINT
pid_t __real_waitpid(pid_t pid, int *status, int options);  // NOLINT

pid_t __wrap_waitpid(pid_t pid, int *status, int options) {  // NOLINT
  if (!wait_errno) return __real_waitpid(pid, status, options);
  errno = wait_errno;
  wait_errno = 0;
  return -1;
}
static char dir[] = "/tmp/weir-loader-XXXXXX";

static char *in_dir(const char *name) { return mem_printf("%s/%s", dir, name); }

static void file_write(const char *path, const char *text) {
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  assert_int_equal(fputs(text, f) >= 0, 1);
  fclose(f);
}

static int group_setup(void **state) {
  (void)state;
  return mkdtemp(dir) ? loader_start(&loader) : -1;
}

static int group_teardown(void **state) {
  (void)state;
  loader_stop(&loader);
  return rmdir(dir);
}

/* ---- what may be asked ---- */

static struct loader_request good(const char *text) {
  struct loader_request r = {.magic = LOADER_MAGIC, .op = LOADER_STAT, .count = 1};
  r.len = (uint32_t)strlen(text);
  memcpy(r.text, text, r.len);
  return r;
}

static void test_check_request(void **state) {
  (void)state;
  struct loader_request r = good("/x"), bad;
  size_t size = LOADER_REQUEST_HEAD + 2;
  assert_true(loader_check_request(&r, size));
  for (size_t cut = 0; cut < size; cut++) {
    assert_false(loader_check_request(&r, cut));
  }
  assert_false(loader_check_request(&r, size + 1));
  bad = r, bad.magic ^= 1;
  assert_false(loader_check_request(&bad, size));
  bad = r, bad.op = LOADER_OP_COUNT;
  assert_false(loader_check_request(&bad, size));
  bad = r, bad.flags = LOADER_FLAGS + 1;
  assert_false(loader_check_request(&bad, size));
  bad = r, bad.count = LOADER_FDS_MAX + 1;
  assert_false(loader_check_request(&bad, size));
  bad = r, bad.len = 0;
  assert_false(loader_check_request(&bad, LOADER_REQUEST_HEAD));
  bad = r, bad.len = LOADER_TEXT_MAX;
  assert_false(loader_check_request(&bad, sizeof bad));
  bad = r, bad.text[0] = 0;
  assert_false(loader_check_request(&bad, size));
}

/* A served socket of our own in a child: garbage gets -EPROTO and the next good request works. */
static void test_garbage_is_refused(void **state) {
  (void)state;
  int pair[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  pid_t pid = fork();
  if (pid == 0) {
    close(pair[0]);
    loader_serve(pair[1]);
    _exit(0);
  }
  close(pair[1]);
  uint64_t rng = 11;
  struct loader_reply reply;
  for (int i = 0; i < 500; i++) {
    unsigned char bytes[512];
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    size_t len = 1 + (size_t)(rng >> 33) % sizeof bytes;
    for (size_t k = 0; k < len; k++) {
      rng = rng * 6364136223846793005u + 1442695040888963407u;
      bytes[k] = (unsigned char)(rng >> 56);
    }
    assert_int_equal(send(pair[0], bytes, len, 0), (ssize_t)len);
    assert_int_equal(recv(pair[0], &reply, sizeof reply, 0), (ssize_t)LOADER_REPLY_HEAD);
    assert_int_equal(reply.status, -EPROTO);
  }
  struct loader_request r = good(dir);
  size_t size = LOADER_REQUEST_HEAD + r.len;
  assert_int_equal(send(pair[0], &r, size, 0), (ssize_t)size);
  assert_int_equal(recv(pair[0], &reply, sizeof reply, 0), (ssize_t)LOADER_REPLY_HEAD);
  assert_int_equal(reply.status, 0);
  close(pair[0]); /* end of file ends it */
  int how;
  assert_int_equal(waitpid(pid, &how, 0), pid);
  assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

/* ---- files ---- */

static void test_read(void **state) {
  (void)state;
  char *path = in_dir("a.conf");
  struct text out = {.ptr = NULL};
  file_write(path, "hello");
  assert_int_equal(loader_read(&loader, path, &out), 0);
  assert_true(span_eq(text_span(&out), SPAN_LIT("hello")));
  text_fini(&out);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(loader_read(&loader, path, &out), -ENOENT);
  assert_null(out.ptr);
  assert_int_equal(loader_read(&loader, dir, &out), -EISDIR);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(loader_read(&loader, path, &out), -EINVAL); /* no waiting for a writer */
  unlink(path);
  mem_free(path);
}

static void test_read_large(void **state) {
  (void)state;
  char *path = in_dir("large");
  int fd = open(path, O_CREAT | O_WRONLY, 0600);
  struct text out = {.ptr = NULL};
  assert_int_equal(ftruncate(fd, 3 << 20), 0);
  assert_int_equal(loader_read(&loader, path, &out), 0);
  assert_int_equal(out.len, 3 << 20);
  text_fini(&out);
  assert_int_equal(ftruncate(fd, (off_t)CONF_FILE_MAX + 1), 0);
  assert_int_equal(loader_read(&loader, path, &out), -EFBIG);
  close(fd);
  unlink(path);
  mem_free(path);
}

static void add(const char *path, void *arg) {
  struct text *seen = (struct text *)arg;
  text_printf(seen, "%s\n", strrchr(path, '/') + 1);
  /* Files are read from inside the callback. */
  struct text out = {.ptr = NULL};
  assert_int_equal(loader_read(&loader, path, &out), 0);
  text_fini(&out);
}

static void test_glob_in_byte_order(void **state) {
  (void)state;
  static const char *const names[] = {"b.conf", "a.conf", "B.conf", "_.conf", "c.other"};
  struct text seen = {.ptr = NULL};
  for (size_t i = 0; i < array_count(names); i++) {
    char *path = in_dir(names[i]);
    file_write(path, "x");
    mem_free(path);
  }
  char *pattern = in_dir("*.conf"), *none = in_dir("*.none");
  assert_int_equal(loader_glob(&loader, pattern, add, &seen), 0);
  assert_true(span_eq(text_span(&seen), SPAN_LIT("B.conf\n_.conf\na.conf\nb.conf\n")));
  size_t before = seen.len;
  assert_int_equal(loader_glob(&loader, none, add, &seen), 0);
  assert_int_equal(seen.len, before);
  char *loop = in_dir("loop"), *in_loop = in_dir("loop/*.conf"), *nowhere = in_dir("no/*.conf");
  assert_int_equal(symlink("loop", loop), 0);
  assert_int_equal(loader_glob(&loader, in_loop, add, &seen), -ELOOP);
  assert_int_equal(loader_glob(&loader, nowhere, add, &seen), 0);
  assert_int_equal(seen.len, before);
  unlink(loop);
  mem_free(loop);
  mem_free(in_loop);
  mem_free(nowhere);
  for (size_t i = 0; i < array_count(names); i++) {
    char *path = in_dir(names[i]);
    unlink(path);
    mem_free(path);
  }
  text_fini(&seen);
  mem_free(pattern);
  mem_free(none);
}

static void test_stat_and_append(void **state) {
  (void)state;
  char *path = in_dir("log");
  struct loader_stat before, after;
  int fd = loader_open(&loader, LOADER_APPEND, path);
  assert_true(fd >= 0);
  assert_int_equal(loader_stat(&loader, path, &before), 0);
  assert_int_equal(before.mode, 0640);
  assert_int_equal(write(fd, "one", 3), 3);
  assert_int_equal(loader_stat(&loader, path, &after), 0);
  assert_int_equal(after.size, 3);
  assert_int_equal(after.ino, before.ino);
  loader_unlink(&loader, path, &after); /* not a socket: it stays */
  assert_int_equal(loader_stat(&loader, path, &after), 0);
  close(fd);
  unlink(path);
  assert_int_equal(loader_stat(&loader, path, &after), -ENOENT);
  mem_free(path);
}

/* ---- sockets ---- */

static int bind_text(const char *text, uint32_t flags, uint32_t count, int *fds, uint32_t *got,
                     char why[512]) {
  const struct loader_bind_conf conf = {
      .text = span_str(text), .flags = flags, .count = count, .uid = geteuid(), .gid = getegid()};
  struct loader_stat stat;
  struct buf b = buf_of(why, 511);
  memset(why, 0, 512);
  return loader_listen(&loader, &conf, fds, got, &stat, &b);
}

static uint16_t port_of(int fd) {
  struct sockaddr_in in;
  socklen_t len = sizeof in;
  assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
  return ntohs(in.sin_port);
}

/* free_port writes an address that was bound here and let go. */
static void free_port(char *text, size_t cap) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
  (void)snprintf(text, cap, "127.0.0.1:%u", port_of(fd));
  close(fd);
}

static void test_bind_tcp(void **state) {
  (void)state;
  int taken[LOADER_FDS_MAX], fds[LOADER_FDS_MAX];
  uint32_t got;
  char why[512], text[64];
  free_port(text, sizeof text);
  uint32_t flags = LOADER_REUSEPORT | LOADER_PROBE | LOADER_DEFER;
  assert_int_equal(bind_text(text, flags, 3, taken, &got, why), 0);
  assert_int_equal(got, 3);
  assert_int_equal(port_of(taken[0]), port_of(taken[2]));
  /* With the probe a second instance of the same user is refused, without it would share. */
  assert_int_equal(bind_text(text, flags, 1, fds, &got, why), -EADDRINUSE);
  assert_non_null(strstr(why, text));
  assert_non_null(strstr(why, "another process"));
  assert_int_equal(bind_text(text, LOADER_REUSEPORT, 1, fds, &got, why), 0);
  close(fds[0]);
  for (int i = 0; i < 3; i++) {
    close(taken[i]);
  }
  assert_int_equal(bind_text("192.0.2.1:80", flags, 1, fds, &got, why), -EADDRNOTAVAIL);
  assert_int_equal(bind_text("not-an-address", flags, 1, fds, &got, why), -EINVAL);
}

/* UDP is apart from TCP; what a datagram was sent to is known also of one that came before anybody
 * asked for it. */
static void test_bind_udp(void **state) {
  (void)state;
  int taken[LOADER_FDS_MAX], fds[LOADER_FDS_MAX];
  uint32_t got;
  char why[512], text[64], control[64] = {0}, byte;
  free_port(text, sizeof text);
  memcpy(text, "0.0.0.0:", 8);
  memmove(text + 8, strrchr(text, ':') + 1, strlen(strrchr(text, ':')));
  uint32_t flags = LOADER_REUSEPORT | LOADER_PROBE | LOADER_DATAGRAM;
  assert_int_equal(bind_text(text, flags, 1, taken, &got, why), 0);
  assert_int_equal(bind_text(text, flags, 1, fds, &got, why), -EADDRINUSE);
  assert_non_null(strstr(why, "UDP port"));
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port_of(taken[0]))};
  to.sin_addr.s_addr = htonl(0x7f000009);
  int client = socket(AF_INET, SOCK_DGRAM, 0);
  assert_int_equal(sendto(client, "x", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
  struct iovec io = {&byte, 1};
  struct msghdr m = {
      .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  assert_int_equal(recvmsg(taken[0], &m, 0), 1);
  const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  assert_non_null(c);
  assert_int_equal(c->cmsg_type, IP_PKTINFO);
  const struct in_pktinfo *info = (const struct in_pktinfo *)(const void *)CMSG_DATA(c);
  assert_int_equal(info->ipi_spec_dst.s_addr, to.sin_addr.s_addr);
  close(client);
  close(taken[0]);
}

static int tcp_option(int fd, int option) {
  int value = 0;
  socklen_t len = sizeof value;
  assert_int_equal(getsockopt(fd, IPPROTO_TCP, option, &value, &len), 0);
  return value;
}

/* What a client's socket must have it inherits: nothing is set at accept. */
static void test_accepted_sockets_inherit(void **state) {
  (void)state;
  int fds[LOADER_FDS_MAX];
  uint32_t got;
  char why[512], text[64];
  struct sockaddr_in at;
  socklen_t len = sizeof at;
  free_port(text, sizeof text);
  assert_int_equal(bind_text(text, LOADER_REUSEPORT | LOADER_PROBE, 1, fds, &got, why), 0);
  assert_int_equal(getsockname(fds[0], (struct sockaddr *)&at, &len), 0);
  int client = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(connect(client, (struct sockaddr *)&at, len), 0);
  int accepted = accept(fds[0], NULL, NULL);
  assert_true(accepted >= 0);
  assert_int_equal(tcp_option(accepted, TCP_NODELAY), 1);
  assert_int_equal(tcp_option(accepted, TCP_NOTSENT_LOWAT), 131072);
  close(accepted);
  close(client);
  close(fds[0]);
}

static void test_bind_unix(void **state) {
  (void)state;
  int fds[LOADER_FDS_MAX], again[LOADER_FDS_MAX];
  uint32_t got;
  char why[512];
  char *path = in_dir("sub/sock"), *text = mem_printf("unix:%s", path);
  /* It makes the directory. */
  assert_int_equal(bind_text(text, LOADER_PRIVATE, 1, fds, &got, why), 0);
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  assert_int_equal(bind_text(text, LOADER_PRIVATE, 1, again, &got, why), -EADDRINUSE);
  close(fds[0]); /* stale now: the file is there, nobody listens */
  assert_int_equal(bind_text(text, LOADER_PRIVATE, 1, fds, &got, why), 0);
  close(fds[0]);
  unlink(path);
  file_write(path, "not a socket");
  assert_int_equal(bind_text(text, LOADER_PRIVATE, 1, fds, &got, why), -EADDRINUSE);
  assert_int_equal(unlink(path), 0); /* it was not removed */
  *strrchr(path, '/') = 0;
  assert_int_equal(rmdir(path), 0);
  mem_free(path);
  mem_free(text);
}

static void test_gone_loader_is_an_error(void **state) {
  (void)state;
  struct loader dead;
  struct text out = {.ptr = NULL};
  assert_int_equal(loader_start(&dead), 0);
  assert_int_equal(kill(dead.pid, SIGKILL), 0);
  assert_int_equal(loader_read(&dead, "/etc/hostname", &out), -EPIPE);
  loader_stop(&dead);
}

/* reap_soon asks for as long as the answer is "not yet"; 5 s at most. */
static bool reap_soon(struct loader *dead, int *status) {
  for (int i = 0; i < 5000; i++) {
    if (loader_reap(dead, status)) return true;
    usleep(1000);
  }
  return false;
}

static void test_reap(void **state) {
  (void)state;
  struct loader dead;
  int status = 0;
  assert_int_equal(loader_start(&dead), 0);
  assert_false(loader_ended(&dead));
  pid_t pid = dead.pid;
  assert_false(loader_reap(&dead, &status)); /* it lives */
  assert_int_equal(dead.pid, pid);
  assert_true(loader_ended(&dead));
  assert_int_equal(kill(pid, SIGKILL), 0);
  assert_true(reap_soon(&dead, &status));
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  assert_int_equal(dead.pid, 0);
  status = 0;
  assert_true(loader_reap(&dead, &status)); /* nobody is waited for again */
  assert_int_equal(status, LOADER_HOW_UNKNOWN);
  loader_stop(&dead);
}

/* A signal is no end: its process is waited for still. */
static void test_reap_is_interrupted(void **state) {
  (void)state;
  struct loader dead;
  int status = 0;
  assert_int_equal(loader_start(&dead), 0);
  assert_int_equal(kill(dead.pid, SIGTERM), 0); /* blocked there: it lives */
  wait_errno = EINTR;
  assert_false(loader_reap(&dead, &status));
  assert_int_equal(wait_errno, 0);
  assert_int_equal(kill(dead.pid, SIGKILL), 0);
  assert_true(reap_soon(&dead, &status));
  assert_true(WIFSIGNALED(status));
  loader_stop(&dead);
}

/* Where children are not waited for (SIGCHLD was ignored when weir was started) it has ended all
 * the same, nobody knows how, and it is asked once. */
static void test_reap_of_nobody(void **state) {
  (void)state;
  struct loader dead;
  int status = 0;
  assert_int_equal(loader_start(&dead), 0);
  assert_int_equal(kill(dead.pid, SIGKILL), 0);
  assert_int_equal(waitpid(dead.pid, NULL, 0), dead.pid);
  assert_true(loader_reap(&dead, &status)); /* ECHILD */
  assert_int_equal(status, LOADER_HOW_UNKNOWN);
  assert_int_equal(dead.pid, 0);
  loader_stop(&dead);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_check_request),      cmocka_unit_test(test_garbage_is_refused),
      cmocka_unit_test(test_read),               cmocka_unit_test(test_read_large),
      cmocka_unit_test(test_glob_in_byte_order), cmocka_unit_test(test_stat_and_append),
      cmocka_unit_test(test_bind_tcp),           cmocka_unit_test(test_bind_udp),
      cmocka_unit_test(test_bind_unix),
      cmocka_unit_test(test_accepted_sockets_inherit),
      cmocka_unit_test(test_gone_loader_is_an_error),
      cmocka_unit_test(test_reap),
      cmocka_unit_test(test_reap_is_interrupted),
      cmocka_unit_test(test_reap_of_nobody),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
