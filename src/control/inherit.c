/* inherit.c: listening sockets passed by a service manager. Does not: listen on one that does not;
 * close any: they are the manager's, and a reload may come back to one. Called by control.c and
 * binds.c. */
#include "control/inherit_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/loader_priv.h"
#include "weir/base/mem.h"

#define FIRST 3 /* SD_LISTEN_FDS_START */

static uint32_t count;
static char *names; /* "a:b:c" */

void inherit_take(void) {
  uint64_t pid = 0, fds = 0;
  const char *text = getenv("LISTEN_FDNAMES");
  bool ours = span_u64(span_str(getenv("LISTEN_PID")), &pid) && pid == (uint64_t)getpid() &&
              span_u64(span_str(getenv("LISTEN_FDS")), &fds);
  if (ours) {
    count = fds > INHERIT_MAX ? INHERIT_MAX : (uint32_t)fds;
    names = mem_str(span_str(text ? text : ""));
  }
  for (uint32_t i = 0; i < count; i++) {
    (void)fcntl(FIRST + (int)i, F_SETFD, FD_CLOEXEC);
  }
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDS");
  unsetenv("LISTEN_FDNAMES");
}

/* next_name is the name of the next descriptor: "unknown" when there are fewer names (as
 * sd_listen_fds_with_names(3) has it). */
static struct span next_name(struct span *rest) {
  struct span token;
  return span_next_token(rest, ':', &token) && token.len ? token : SPAN_LIT("unknown");
}

static int is_missing(struct span name, struct buf *why) {
  buf_printf(why, "cannot listen on fd:" SPAN_FMT ": ", SPAN_ARG(name));
  if (!count) {
    buf_lit(why,
            "no descriptor was passed to this process (LISTEN_FDS); with systemd that takes "
            "a .socket unit");
    return -ENOENT;
  }
  buf_lit(why,
          "no descriptor of that name was passed (FileDescriptorName= of the .socket unit); "
          "there is ");
  struct span rest = span_str(names);
  for (uint32_t i = 0; i < count; i++) {
    struct span passed = next_name(&rest);
    buf_printf(why, "%sfd:" SPAN_FMT, i ? ", " : "", SPAN_ARG(passed));
  }
  return -ENOENT;
}

static bool listens(int fd) {
  int type = 0, accepts = 0;
  socklen_t len = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 && accepts;
}

int inherit_get(struct span name, struct buf *why) {
  struct span rest = span_str(names);
  int found = -1;
  for (uint32_t i = 0; i < count; i++) {
    if (!span_eq(next_name(&rest), name)) {
      continue;
    }
    if (found >= 0) {
      buf_printf(why,
                 "cannot listen on fd:" SPAN_FMT
                 ": several descriptors have that name; give each "
                 "its own (FileDescriptorName=, one .socket unit each)",
                 SPAN_ARG(name));
      return -EEXIST;
    }
    found = FIRST + (int)i;
  }
  if (found < 0) {
    return is_missing(name, why);
  }
  if (!listens(found)) {
    buf_printf(why,
               "cannot listen on fd:" SPAN_FMT
               ": what was passed is no listening stream socket "
               "(ListenStream=, Accept=no)",
               SPAN_ARG(name));
    return -ENOTSOCK;
  }
  listen_options(found);
  return found;
}
