/* privilege.c: setgroups, setgid, setuid, no_new_privs; and the word to the service manager
 * (sd_notify protocol, written here). Called by control.c. */
#include "control/privilege_priv.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LOOKUP_BYTES 16384

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

void notify_manager(const char *message) {
  const char *path = getenv("NOTIFY_SOCKET");
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  size_t len = path ? strlen(path) : 0;
  if (len == 0 || len >= sizeof addr.sun_path || (path[0] != '/' && path[0] != '@')) {
    return;
  }
  memcpy(addr.sun_path, path, len);
  if (path[0] == '@') {
    addr.sun_path[0] = 0; /* abstract */
  }
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    return;
  }
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  (void)sendto(fd, message, strlen(message), MSG_NOSIGNAL, (const struct sockaddr *)&addr, size);
  close(fd);
}
