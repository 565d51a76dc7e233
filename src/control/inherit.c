/* inherit.c: descriptors passed by a service manager. Does not: check that they listen; accept on
 * one that does not fails and is counted. Called by control.c and binds.c. */
#include "control/inherit_priv.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

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

int inherit_find(struct span name) {
  struct span rest = span_str(names), token;
  for (uint32_t i = 0; i < count && span_next_token(&rest, ':', &token); i++) {
    if (span_eq(token, name)) {
      return FIRST + (int)i;
    }
  }
  return -1;
}
