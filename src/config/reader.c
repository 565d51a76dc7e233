/* reader.c: conf_reader_direct: plain system calls, for the CLI and for the loader process. The
 * compile thread of a running weir uses the loader's reader instead (control/). */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_priv.h"

#define READ_STEP 65536u
#define WRITER_LOOKS 5000u /* of a millisecond, for all that a pipe's writer is waited for */

/* wait_writer waits a moment for bytes of a pipe ("weir check <(command)"); 0 or -errno. */
static int wait_writer(int fd, uint32_t *looks) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  if ((*looks)++ == WRITER_LOOKS) return -ETIME;
  return poll(&p, 1, 1) < 0 && errno != EINTR ? -errno : 0;
}

/* read_all reads to the end; 0 or -errno. A file that grows without end stops at the limit. */
static int read_all(int fd, struct text *out) {
  char *step = mem_alloc(READ_STEP);
  uint32_t looks = 0;
  int res = 0;
  while (res == 0) {
    ssize_t got = read(fd, step, READ_STEP);
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      res = errno == EAGAIN ? wait_writer(fd, &looks) : -errno;
    else if (out->len + (size_t)got > CONF_FILE_MAX)
      res = -EFBIG;
    else
      text_put(out, span_of(step, (size_t)got));
  }
  mem_wipe(step, READ_STEP); /* it may have been a key */
  mem_free(step);
  return res;
}

static int direct_read(void *ctx, const char *path, struct text *out) {
  (void)ctx;
  /* Not blocking: a pipe or device in place of a file must not hang a reload for long. */
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return -errno;
  struct stat st;
  int res = fstat(fd, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? -EISDIR : 0;
  struct text text = {0};
  if (res == 0) res = read_all(fd, &text);
  close(fd);
  if (res == 0)
    *out = text;
  else
    text_fini(&text);
  return res;
}

/* failed is what a directory of the pattern could not be read for, of this thread's search: glob's
 * callback has no argument of ours. */
static _Thread_local int failed;

/* glob_fault: a directory that does not exist holds nothing; one that cannot be read is a fault.
 */
static int glob_fault(const char *path, int err) {
  (void)path;
  if (err == ENOENT || err == ENOTDIR) return 0;
  failed = err;
  return 1;
}

static int direct_glob(void *ctx, const char *pattern, void (*each)(const char *path, void *arg),
                       void *arg) {
  (void)ctx;
  glob_t found;
  failed = EIO;
  int res = glob(pattern, GLOB_NOESCAPE, glob_fault, &found);
  if (res == GLOB_NOMATCH) return 0;
  if (res != 0) {
    globfree(&found);
    return res == GLOB_NOSPACE ? -ENOMEM : -failed;
  }
  for (size_t i = 0; i < found.gl_pathc; i++) each(found.gl_pathv[i], arg);
  globfree(&found);
  return 0;
}

static const char *direct_env(void *ctx, const char *name) {
  (void)ctx;
  return getenv(name);
}

static int direct_mode(void *ctx, const char *path) {
  (void)ctx;
  struct stat st;
  if (stat(path, &st) < 0) return -errno;
  return (int)(st.st_mode & 07777u);
}

const struct conf_reader conf_reader_direct = {
    .read = direct_read, .glob = direct_glob, .env = direct_env, .mode = direct_mode};
