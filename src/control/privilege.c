/* privilege.c: setgroups, setgid, setuid, no_new_privs; and the word to the service manager
 * (sd_notify protocol, written here). Called by control.c. */
#include "control/privilege_priv.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "weir/base/check.h"

#define LOOKUP_BYTES 16384

bool privilege_any(void) {
  struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{0}};
  bool none = syscall(SYS_capget, &head, data) == 0 && !data[0].permitted && !data[1].permitted;
  return geteuid() == 0 || !none;
}

int privilege_find(const char *user, struct privilege *out, struct buf *why) {
  *out = (struct privilege){.user = user, .uid = geteuid(), .gid = getegid()};
  if (!user) {
    return 0;
  }
  struct passwd row, *found = NULL;
  char bytes[LOOKUP_BYTES];
  int err = getpwnam_r(user, &row, bytes, sizeof bytes, &found);
  if (err || !found) {
    buf_printf(why, "process.user: there is no user \"%s\" on this machine", user);
    return err ? -err : -ENOENT;
  }
  if (geteuid() == row.pw_uid) {
    out->user = NULL; /* that is who we are */
    return 0;
  }
  if (geteuid() != 0) {
    buf_printf(why, "process.user: only root can become \"%s\"; leave it out to run as uid %u",
               user, geteuid());
    return -EPERM;
  }
  out->uid = row.pw_uid;
  out->gid = row.pw_gid;
  return 0;
}

bool privilege_known(const char *user) {
  struct passwd row, *found = NULL;
  char bytes[LOOKUP_BYTES];
  return getpwnam_r(user, &row, bytes, sizeof bytes, &found) || found;
}

static int become(const struct privilege *p) {
  if (initgroups(p->user, p->gid) < 0 || setgid(p->gid) < 0 || setuid(p->uid) < 0) {
    return -errno;
  }
  return setuid(0) == 0 ? -EPERM : 0; /* there must be no way back */
}

int privilege_drop(const struct privilege *p, struct buf *why) {
  int err = p->user ? become(p) : 0;
  if (err < 0) {
    buf_printf(why, "cannot become user \"%s\": %s", p->user, strerrordesc_np(-err));
    return err;
  }
  (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return 0;
}

/* ---- the service manager ---- */

#define NOTIFY_MAX 512

static struct {
  int fd;
  struct sockaddr_un addr;
  socklen_t len; /* 0: nobody wants to know */
} manager;

void notify_open(void) {
  const char *path = getenv("NOTIFY_SOCKET");
  size_t len = path ? strlen(path) : 0;
  manager.len = 0;
  if (len == 0 || len >= sizeof manager.addr.sun_path || (path[0] != '/' && path[0] != '@')) {
    return;
  }
  manager.addr.sun_family = AF_UNIX;
  memcpy(manager.addr.sun_path, path, len);
  if (path[0] == '@') {
    manager.addr.sun_path[0] = 0; /* abstract */
  }
  manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (manager.fd >= 0) {
    manager.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  }
}

void notify_manager(const char *fmt, ...) {
  char message[NOTIFY_MAX];
  va_list args;
  va_start(args, fmt);
  int len = vsnprintf(message, sizeof message, fmt, args);
  va_end(args);
  check(len >= 0 && (size_t)len < sizeof message);
  if (manager.len) {
    (void)sendto(manager.fd, message, (size_t)len, MSG_NOSIGNAL,
                 (const struct sockaddr *)&manager.addr, manager.len);
  }
}
