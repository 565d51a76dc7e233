/* key_log.c: opens the file of log.tls_keys, with the rights that weir was started with, and only
 * when the command line has the switch too: so it is not left on by accident. What is written
 * there is io/tls_keylog.c's. Called by control.c before privileges are dropped. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/log_priv.h"
#include "weir/io/tls.h"

#define NOT_OURS "it is no regular file of the user who starts weir, or has a second name"

/* is_ours: nobody else has put it there, by a link that is as good as the file either. */
static bool is_ours(const struct stat *st) {
  return S_ISREG(st->st_mode) && st->st_uid == geteuid() && st->st_nlink == 1;
}

/* private makes it a file for its owner alone; a descriptor or -errno. */
static int open_private(const char *path) {
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  struct stat st;
  if (fd < 0) {
    return -errno;
  }
  if (fstat(fd, &st) == 0 && is_ours(&st) && fchmod(fd, 0600) == 0) {
    return fd;
  }
  int err = is_ours(&st) ? errno : EINVAL;
  close(fd);
  return -err;
}

bool key_log_open(const char *path, bool given, struct log *log, struct buf *why) {
  if (!path || !given) {
    if (path) {
      log_line(log, END_LEVEL_WARN,
               "log.tls_keys is set but not in force: weir was started without --log-tls-keys");
    } else if (given) {
      log_line(log, END_LEVEL_WARN, "--log-tls-keys means nothing: log.tls_keys is not set");
    }
    return true;
  }
  int fd = open_private(path);
  if (fd < 0) {
    buf_printf(why, "log.tls_keys: %s: %s", path,
               fd == -EINVAL ? NOT_OURS : strerrordesc_np(-fd));
    return false;
  }
  tls_keylog_use(fd);
  log_line(log, END_LEVEL_WARN,
           "secrets of all TLS connections are written to %s (log.tls_keys, --log-tls-keys): "
           "whoever has it can read them; for debugging only",
           path);
  return true;
}
